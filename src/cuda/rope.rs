//! Rotary position embedding: kernels/rope.cu.

use crate::Result;
use crate::ops::rope::{Apply, Shape};

use super::launch::{Grid, size, wide};
use super::module::kernels;
use super::params::{EMO_ROPE_THREADS, EMO_SITE_ROPE_POSITION, EmoRope};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[Site { site: EMO_SITE_ROPE_POSITION, op: "rope", arg: "position" }];

pub(super) fn apply<S: CudaStorage>(cuda: &Cuda<S>, args: Apply<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "rope";
    args.check()?;
    let Shape { rows, heads, head_dim, stride, positions } = args.shape;
    let x = cuda.write(&args.x)?.cast();
    let (cos, sin) = (cuda.read(args.cos)?, cuda.read(args.sin)?);
    size(OP, "heads", heads * head_dim)?;
    let params = EmoRope {
        position: cuda.read(args.position)?,
        cos,
        sin,
        x,
        rows: size(OP, "rows", rows)?,
        heads: size(OP, "heads", heads)?,
        half: size(OP, "head_dim", head_dim / 2)?,
        stride: size(OP, "stride", stride)?,
        positions: size(OP, "positions", positions)?,
        inverse: u32::from(args.inverse),
        wide: wide(&[x, cos.cast(), sin.cast()], size_of::<S>(), &[head_dim / 2, stride]),
        status: cuda.status.pointer(),
    };
    let grid = Grid::line(params.rows.div_ceil(EMO_ROPE_THREADS / 32), EMO_ROPE_THREADS);
    // SAFETY: `check` has compared every length with the shape; a warp stays inside the heads of its row, which the
    // stride spans, and positions are compared with their number before use.
    unsafe { cuda.launch(kernels::ROPE, grid, &params) }
}
