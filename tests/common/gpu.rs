//! The GPU under test: device 0, or a reason why there is none.

use emo::cuda::{Cuda, CudaStorage};
use std::io::Write;

/// Device 0 with a stream of its own. Without a device nothing can be tested: that is said aloud, and is a failure where
/// `EMO_REQUIRE_CUDA=1` says that there must be one.
pub fn gpu<S: CudaStorage>() -> Option<Cuda<S>> {
    match Cuda::new(0) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("EMO_REQUIRE_CUDA").is_none_or(|set| set != "1"), "{error}");
            // Not `eprintln!`, which the test harness keeps to itself.
            let _ = writeln!(std::io::stderr(), "not tested on a GPU: {error}");
            None
        }
    }
}
