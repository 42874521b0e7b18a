//! The CUDA backend: the ops on an NVIDIA GPU (compute capability 8.0 or later), in f32 or bf16 storage.
//!
//! [`Cuda`] is a stream, the kernels loaded for its device, and a status word. A module here has a namesake in
//! [`crate::ops`], which documents the op, and launches kernels of kernels/*.cu.
//!
//! * **Who owns what.** Buffers are the caller's: [`CudaBuffer`] from [`Backend::alloc`](crate::Backend::alloc), or
//!   cudarc slices through [`Cuda::borrow`]. Views are a device pointer, a length and a lifetime. Kernels belong to the
//!   backend value and are unloaded with it.
//! * **Order.** All ops enqueue on the one stream of the backend value; none waits. Freeing a buffer is enqueued too, so
//!   a buffer may be dropped as soon as the last op that uses it has returned. Only `upload`, `download` and
//!   [`Cuda::synchronize`] wait.
//! * **Bad indices.** Index buffers lie on the device. A kernel compares each index with its bound, leaves the first
//!   violation in the status word, and goes on without it; the next wait returns it as [`Error::Index`](crate::Error).
//! * **Safety.** Argument checks compare every length with the shape before a launch; kernels stay inside the shape.

mod activation;
mod adamw;
mod all_to_all;
mod attention;
mod backend;
mod buffer;
mod context;
mod cross_entropy;
mod embedding;
mod experts;
mod grouped_gemm;
mod launch;
mod linear;
mod losses;
mod memory;
mod module;
mod permutation;
mod pool;
mod rms_norm;
mod rope;
mod router;
mod router_logits;
mod smoothing;
mod status;
mod sum_rows;

/// The launch-parameter structs and tile constants of kernels/include.
#[allow(
    non_camel_case_types,
    non_upper_case_globals,
    missing_docs,
    dead_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod params {
    include!(concat!(env!("OUT_DIR"), "/params.rs"));
}

pub use buffer::{Borrowed, BorrowedMut, CudaBuffer, CudaView, CudaViewMut};
pub use context::{Cuda, CudaStorage};
pub use experts::GateLayout;
