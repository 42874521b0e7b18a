//! A device with typed buffers, for tests.
#![allow(dead_code)]

use std::sync::Arc;

use cuda::{AsyncCopies, Device, Fault, LaunchConfig, Module, Options, Schedule, Stats};

/// A device, a module on it, and the parameters of the next launch.
pub struct Bench {
    pub device: Device,
    pub module: Arc<Module>,
}

/// A kernel parameter.
#[derive(Clone, Copy)]
pub enum Arg {
    Pointer(u64),
    I32(i32),
    F32(f32),
}

impl Bench {
    pub fn new(ptx: &str, options: Options) -> Self {
        let device = Device::new(options);
        let module = device.load_module(ptx).expect("the module loads");
        Self { device, module }
    }

    pub fn upload<T: Plain>(&self, values: &[T]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.bytes()).collect();
        let address = self.device.memory().alloc(bytes.len() as u64).expect("memory");
        self.device.memory().write(address, &bytes).expect("in bounds");
        address
    }

    pub fn empty(&self, bytes: usize) -> u64 {
        self.device.memory().alloc(bytes as u64).expect("memory")
    }

    pub fn download<T: Plain>(&self, address: u64, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * size_of::<T>()];
        self.device.memory().read(address, &mut bytes).expect("in bounds");
        bytes.chunks_exact(size_of::<T>()).map(T::from_bytes).collect()
    }

    /// Launches with parameters packed by their natural alignment.
    pub fn launch(
        &self,
        entry: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: &[Arg],
    ) -> Result<Stats, Fault> {
        let mut params = Vec::new();
        for arg in args {
            match *arg {
                Arg::Pointer(address) => {
                    params.resize(params.len().next_multiple_of(8), 0);
                    params.extend(address.to_le_bytes());
                }
                Arg::I32(value) => params.extend(value.to_le_bytes()),
                Arg::F32(value) => params.extend(value.to_le_bytes()),
            }
        }
        let config = LaunchConfig { grid, block, shared_bytes: shared };
        self.device.launch(&self.module, entry, &config, &params)
    }
}

/// Every schedule with both moments of asynchronous copies.
pub fn all_options() -> Vec<Options> {
    let mut all = Vec::new();
    for schedule in [Schedule::RoundRobin, Schedule::Greedy, Schedule::Random(1), Schedule::Random(2)] {
        for async_copies in [AsyncCopies::Early, AsyncCopies::Late] {
            all.push(Options { schedule, async_copies, threads: 2, ..Options::default() });
        }
    }
    all
}

/// Numbers with a byte form.
pub trait Plain: Copy {
    fn bytes(self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        impl Plain for $ty {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the size of the type"))
            }
        }
    )*};
}
plain!(u8, u16, i16, u32, i32, u64, i64, f32, f64);

/// A small generator of numbers in [-1, 1).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

pub fn to_bf16(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

pub fn from_bf16(bits: u16) -> f32 {
    half::bf16::from_bits(bits).to_f32()
}
