//! A CUDA device made of software.
//!
//! The crate parses the PTX that `nvcc` produced, executes it warp by warp and checks it while it runs: bounds and alignment of every
//! access, reads of memory that nothing wrote, races in shared memory, divergent barriers and deadlocks. It also answers as
//! `libcuda.so`, so programs that launch kernels through the driver API run on it unchanged.
//!
//! ```
//! use cuda::{Device, LaunchConfig, Options};
//!
//! let ptx = r#"
//! .version 8.0
//! .target sm_80
//! .address_size 64
//! .visible .entry twice(.param .u64 values) {
//!     .reg .b32 %r<4>;
//!     .reg .b64 %rd<4>;
//!     ld.param.u64 %rd1, [values];
//!     cvta.to.global.u64 %rd2, %rd1;
//!     mov.u32 %r1, %tid.x;
//!     mul.wide.u32 %rd3, %r1, 4;
//!     add.s64 %rd2, %rd2, %rd3;
//!     ld.global.u32 %r2, [%rd2];
//!     add.s32 %r3, %r2, %r2;
//!     st.global.u32 [%rd2], %r3;
//!     ret;
//! }"#;
//! let device = Device::new(Options::default());
//! let module = device.load_module(ptx)?;
//! let values = device.memory().alloc(8)?;
//! device.memory().write(values, &[1, 0, 0, 0, 21, 0, 0, 0])?;
//! let config = LaunchConfig { grid: [1, 1, 1], block: [2, 1, 1], shared_bytes: 0 };
//! device.launch(&module, "twice", &config, &values.to_le_bytes())?;
//! let mut bytes = [0; 8];
//! device.memory().read(values, &mut bytes)?;
//! assert_eq!(bytes, [2, 0, 0, 0, 42, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod device;
mod driver;
pub mod exec;
pub mod fatbin;
mod fault;
pub mod memory;
mod options;
pub mod ptx;

pub use device::{Device, LaunchConfig, Module, Stats};
pub use fault::{Error, Fault, Site, Space};
pub use memory::{Memory, MemoryError};
pub use options::{AsyncCopies, Options, Schedule};
