//! Cross-entropy with z-loss: kernels/cross_entropy.cu.

use crate::Result;
use crate::ops::cross_entropy::{ForwardBackward, IGNORE};

use super::launch::{Grid, size};
use super::module::kernels;
use super::params::{EMO_CROSS_ENTROPY_THREADS, EMO_SITE_CROSS_ENTROPY_TARGETS, EmoCrossEntropy};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] =
    &[Site { site: EMO_SITE_CROSS_ENTROPY_TARGETS, op: "cross_entropy", arg: "targets" }];

/// Shared memory of a block beside its row, in bytes: the kernel's own and the system's.
const RESERVED: u32 = 2048;

pub(super) fn forward_backward<S: CudaStorage>(
    cuda: &Cuda<S>,
    args: ForwardBackward<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "cross_entropy";
    args.check()?;
    // Half of what a multiprocessor has, so that two rows share it; a pass without gradient reads once anyway.
    let row = args.vocabulary.saturating_mul(size_of::<S>()) / 16;
    let room = (cuda.function(kernels::CROSS_ENTROPY).shared / 2).saturating_sub(RESERVED) as usize / 16;
    let cached = if args.backward { row.min(room) as u32 } else { 0 };
    let params = EmoCrossEntropy {
        targets: cuda.read(args.targets)?,
        logits: cuda.write(&args.logits)?.cast(),
        loss: cuda.write(&args.loss)?,
        lse: cuda.write(&args.lse)?,
        vocabulary: size(OP, "vocabulary", args.vocabulary)?,
        ignore: IGNORE,
        scale: args.scale as f32,
        z_factor: (2.0 * args.z_weight) as f32,
        backward: u32::from(args.backward),
        cached,
        status: cuda.status.pointer(),
    };
    let line = Grid::line(size(OP, "rows", args.rows)?, EMO_CROSS_ENTROPY_THREADS);
    let grid = Grid { shared: 16 * cached, ..line };
    // SAFETY: `check` has compared every length with rows and vocabulary; a block stays inside its row, and the target is
    // compared with the vocabulary before use.
    unsafe { cuda.launch(kernels::CROSS_ENTROPY, grid, &params) }
}
