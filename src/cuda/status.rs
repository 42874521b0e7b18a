//! What kernels found wrong with index buffers: one word on the device, read whenever the host waits anyway.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result};

use crate::{Error, Result};

use super::context::failed;
use super::params::EmoStatus;
use super::{
    all_to_all, attention, cross_entropy, embedding, experts, grouped_gemm, linear, losses, permutation,
    pool, rope, router, smoothing,
};

/// An index argument of an op, as kernels name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    /// The `EMO_SITE_*` of the op's header.
    pub site: u32,
    pub op: &'static str,
    pub arg: &'static str,
}

/// Every family's sites.
const SITES: [&[Site]; 13] = [
    all_to_all::SITES,
    attention::SITES,
    cross_entropy::SITES,
    embedding::SITES,
    experts::SITES,
    grouped_gemm::SITES,
    linear::SITES,
    losses::SITES,
    permutation::SITES,
    pool::SITES,
    rope::SITES,
    router::SITES,
    smoothing::SITES,
];

/// The status word of a [`super::Cuda`].
#[derive(Debug)]
pub(super) struct Status {
    word: CudaSlice<u32>,
    /// Where it lies. Kernels write it through this pointer; the host does so only between them, on the same stream.
    pointer: u64,
}

/// `u32`s of the status word.
const WORDS: usize = size_of::<EmoStatus>() / size_of::<u32>();

impl Status {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let word = stream.alloc_zeros(WORDS).map_err(|error| failed("the status word", error))?;
        let pointer = word.device_ptr(stream).0;
        Ok(Self { word, pointer })
    }

    /// For the `status` field of a parameter struct.
    #[allow(dead_code, reason = "for ops that read indices")]
    pub fn pointer(&self) -> *mut EmoStatus {
        self.pointer as *mut EmoStatus
    }

    /// Waits for the stream, then reports and clears what kernels have found.
    pub fn wait(&self, stream: &CudaStream) -> Result<()> {
        let mut words = [0u32; WORDS];
        let raw = stream.cu_stream();
        stream.context().bind_to_thread().map_err(|error| failed("the context", error))?;
        // SAFETY: `word` holds `WORDS` elements, and `words` lives until the stream has been waited for.
        let copied = unsafe { result::memcpy_dtoh_async(&mut words, self.pointer, raw) };
        let waited = stream.synchronize();
        copied.and(waited).map_err(|error| failed("work on the device", error))?;
        let [site, position, bound, found] = words;
        if site == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        let cleared = unsafe { result::memset_d8_async(self.pointer, 0, self.word.num_bytes(), raw) };
        cleared.map_err(|error| failed("the status word", error))?;
        let [position, bound, found] = [position, bound, found].map(|value| value as usize);
        match SITES.iter().flat_map(|sites| sites.iter()).find(|known| known.site == site) {
            Some(&Site { op, arg, .. }) => Err(Error::Index { op, arg, position, bound, found }),
            None => {
                Err(failed("an index outside its bound", format_args!("site {site}, {found} of {bound}")))
            }
        }
    }
}
