//! [`Cpu`]: the value that stands for a thread pool, an instruction set and a type of stored values, and its table of ops.

use std::marker::PhantomData;
use std::ops::Range;

use crate::backend::{Backend, Element};
use crate::{Error, Result};
use crate::{host, ops};

use super::buffer::Buffer;
use super::clock::{Clock, OpTime};
use super::isa::Isa;
use super::memory;
use super::simd::Storage;
use super::table::each_op;
use super::threads::Threads;

/// The CPU backend: f32 arithmetic, activations and matrices stored as `T` (f32, or bf16 through [`Cpu::storing`]), one
/// instruction set, a thread pool of its own.
///
/// Ops allocate nothing. With several threads, rayon's queue takes a block of memory of its own once in about sixty
/// loops that are handed to the pool.
#[derive(Debug)]
pub struct Cpu<T = f32> {
    pub(super) threads: Threads,
    pub(super) isa: Isa,
    clock: Clock,
    storage: PhantomData<T>,
}

impl Cpu {
    /// `threads` threads and the widest instruction set of this processor.
    ///
    /// # Errors
    /// [`Error::Argument`] for no threads, [`Error::Backend`] when the system refuses them.
    pub fn new(threads: usize) -> Result<Self> {
        Self::with_isa(threads, Isa::detect())
    }

    /// A thread for every core that this process may use.
    ///
    /// # Errors
    /// [`Error::Backend`] when the system refuses the threads.
    pub fn all_cores() -> Result<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// `threads` threads and a chosen instruction set.
    ///
    /// # Errors
    /// [`Error::Argument`] for no threads, [`Error::Backend`] where the processor lacks `isa`.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Self> {
        if !isa.is_available() {
            return Err(Error::Backend { backend: "cpu", message: format!("this processor has no {isa:?}") });
        }
        Ok(Self { threads: Threads::new(threads)?, isa, clock: Clock::default(), storage: PhantomData })
    }

    /// The same threads and instruction set, with activations and matrices stored as `T`.
    pub fn storing<T: Storage>(self) -> Cpu<T> {
        Cpu { threads: self.threads, isa: self.isa, clock: self.clock, storage: PhantomData }
    }
}

impl<T: Storage> Cpu<T> {
    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Starts to time every op, from nothing.
    pub fn start_clock(&self) {
        self.clock.start();
    }

    /// Stops that and returns what each op took, in the order of their first calls.
    pub fn stop_clock(&self) -> Vec<OpTime> {
        self.clock.stop()
    }
}

/// The ops of the table as methods.
macro_rules! methods {
    (ops { $($op:ident($module:ident::$args:ident) = $call:expr;)* }
     workspaces { $($size:ident($size_module:ident::Shape) = $size_call:expr;)* }) => {
        $(fn $op(&self, args: ops::$module::$args<'_, Self>) -> Result<()> {
            self.clock.time(stringify!($op), || S::$op(self, args))
        })*
        $(fn $size(&self, shape: ops::$size_module::Shape) -> usize {
            S::$size(self, shape)
        })*
    };
}

impl<S: Storage> Backend for Cpu<S> {
    type Real = f32;
    type Storage = S;
    type Buffer<T: Element> = Buffer<T>;
    type View<'a, T: Element> = &'a [T];
    type ViewMut<'a, T: Element> = &'a mut [T];

    const CACHED_ATTENTION: bool = true;

    fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    fn describe(&self) -> String {
        let isa = match self.isa {
            Isa::Portable => "portable",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512",
            Isa::Avx512Bf16 => "AVX-512 with BF16",
        };
        let plural = if self.threads.len() == 1 { "" } else { "s" };
        let stored = if S::as_f32(&[]).is_some() { "" } else { ", bf16" };
        format!("cpu ({isa}{stored}, {} thread{plural})", self.threads.len())
    }

    fn alloc<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        Buffer::zeroed(len)
    }
    fn view<'a, T: Element>(&self, buffer: &'a Buffer<T>, range: Range<usize>) -> Result<&'a [T]> {
        host::view(buffer.as_slice(), range)
    }
    fn view_mut<'a, T: Element>(
        &self,
        buffer: &'a mut Buffer<T>,
        range: Range<usize>,
    ) -> Result<&'a mut [T]> {
        host::view_mut(buffer.as_mut_slice(), range)
    }
    fn disjoint_mut<'a, T: Element, const N: usize>(
        &self,
        buffer: &'a mut Buffer<T>,
        ranges: [Range<usize>; N],
    ) -> Result<[&'a mut [T]; N]> {
        host::disjoint_mut(buffer.as_mut_slice(), ranges)
    }
    fn upload<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        memory::copy(&self.threads, "upload", source, target)
    }
    fn download<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        memory::copy(&self.threads, "download", source, target)
    }
    fn zero<T: Element>(&self, target: &mut [T]) -> Result<()> {
        memory::zero(&self.threads, target);
        Ok(())
    }
    fn copy<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        memory::copy(&self.threads, "copy", source, target)
    }
    fn add(&self, x: &[S], y: &mut [S]) -> Result<()> {
        S::add(self, x, y)
    }

    each_op!(methods);
}
