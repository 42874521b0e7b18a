//! What the vector tests share: loading cases, comparing arrays, the backends under test, and one runner a kind.

pub mod backend;
pub mod case;
pub mod compare;
pub mod device;
pub mod emo_backend;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod kinds;
