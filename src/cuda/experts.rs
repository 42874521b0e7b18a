//! Expert MLPs: the grouped products with the activation on the way out, and kernels/experts.cu for the weights' gradients.
//!
//! Scratch, all in storage type but for the parts of the weights' gradients: forward keeps `act(pre)`, `[rows, hidden]`;
//! backward keeps `dpre`, the weighted `act(pre)`, and a row of parts for each row.

use std::ffi::c_void;

use crate::Result;
use crate::ops::activation;
use crate::ops::experts::{Backward, Forward, Shape};

use super::activation::{Rows, code, launch_rows};
use super::grouped_gemm::{DGRAD, FORWARD, Family, Output, WGRAD, all_rows, groups};
use super::launch::{Grid, size, wide};
use super::module::kernels;
use super::params::{
    EMO_EXPERTS_PART, EMO_EXPERTS_THREADS, EMO_GATE_CONCATENATED, EMO_GATE_INTERLEAVED,
    EMO_SITE_EXPERTS_BACKWARD_OFFSETS, EMO_SITE_EXPERTS_BACKWARD_ORDER, EMO_SITE_EXPERTS_BACKWARD_TOKEN,
    EMO_SITE_EXPERTS_FORWARD_OFFSETS, EMO_SITE_EXPERTS_FORWARD_TOKEN, EmoExpertsIn, EmoExpertsOutDgrad,
    EmoGroupedGemmDgrad, EmoGroupedGemmForward, EmoGroupedGemmWgrad, EmoRows,
};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_EXPERTS_FORWARD_OFFSETS, op: "experts_forward", arg: "offsets" },
    Site { site: EMO_SITE_EXPERTS_FORWARD_TOKEN, op: "experts_forward", arg: "token" },
    Site { site: EMO_SITE_EXPERTS_BACKWARD_OFFSETS, op: "experts_backward", arg: "offsets" },
    Site { site: EMO_SITE_EXPERTS_BACKWARD_TOKEN, op: "experts_backward", arg: "token" },
    Site { site: EMO_SITE_EXPERTS_BACKWARD_ORDER, op: "experts_backward", arg: "order" },
];

/// How a gated expert's `w_in`, and with it `pre`, hold the gate and the other factor of each of `hidden` units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GateLayout {
    /// All gates, then all other factors: the layout of [`crate::ops::experts`].
    #[default]
    Concatenated,
    /// The two of a unit side by side, as in checkpoints of some other libraries.
    Interleaved,
}

impl GateLayout {
    fn code(self) -> u32 {
        match self {
            Self::Concatenated => EMO_GATE_CONCATENATED,
            Self::Interleaved => EMO_GATE_INTERLEAVED,
        }
    }
}

impl<S: CudaStorage> Cuda<S> {
    /// [`crate::Backend::experts_forward`] with `w_in` and `pre` in the given layout.
    ///
    /// # Errors
    /// As that method.
    pub fn experts_forward_in(&self, layout: GateLayout, args: Forward<'_, Self>) -> Result<()> {
        forward(self, layout, args)
    }

    /// [`crate::Backend::experts_backward`] with `w_in`, `pre` and `dw_in` in the given layout.
    ///
    /// # Errors
    /// As that method.
    pub fn experts_backward_in(&self, layout: GateLayout, args: Backward<'_, Self>) -> Result<()> {
        backward(self, layout, args)
    }
}

const EXPERTS_IN: Family = Family {
    large: kernels::EXPERTS_IN_LARGE,
    small: kernels::EXPERTS_IN_SMALL,
    scalar: kernels::EXPERTS_IN_SCALAR,
};
const EXPERTS_OUT_DGRAD: Family = Family {
    large: kernels::EXPERTS_OUT_DGRAD_LARGE,
    small: kernels::EXPERTS_OUT_DGRAD_SMALL,
    scalar: kernels::EXPERTS_OUT_DGRAD_SCALAR,
};

/// Workspace elements, rounded up so that what follows keeps an alignment of 16 bytes.
fn aligned(elements: usize) -> usize {
    elements.saturating_add(3) / 4 * 4
}

/// Workspace elements that hold `rows * width` stored ones.
fn stored<S: CudaStorage>(rows: usize, width: usize) -> usize {
    aligned(rows.saturating_mul(width).saturating_mul(size_of::<S>()).div_ceil(size_of::<f32>()))
}

/// Parts of a row's weight gradient.
fn parts(hidden: usize) -> usize {
    hidden.div_ceil(EMO_EXPERTS_PART as usize)
}

/// A few elements more than the regions, so that they can begin at a multiple of 16 bytes.
pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, shape: Shape) -> usize {
    let rows = shape.rows();
    let (pre, hidden) = (stored::<S>(rows, shape.pre()), stored::<S>(rows, shape.hidden));
    let parts = rows.saturating_mul(parts(shape.hidden));
    pre.saturating_add(hidden).saturating_add(parts).saturating_add(3)
}

/// The first multiple of 16 bytes.
fn align(workspace: *mut f32) -> *mut f32 {
    workspace.map_addr(|address| address.next_multiple_of(16))
}

pub(super) fn forward<S: CudaStorage>(
    cuda: &Cuda<S>,
    layout: GateLayout,
    args: Forward<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "experts_forward";
    args.check(workspace(cuda, args.shape))?;
    let s = args.shape;
    let (x, w_in, w_out) =
        (cuda.read(args.x)?.cast(), cuda.read(args.w_in)?.cast(), cuda.read(args.w_out)?.cast());
    let (pre, rows) = (cuda.write(&args.pre)?.cast::<c_void>(), cuda.write(&args.rows)?.cast::<c_void>());
    let activated = align(cuda.write(&args.workspace)?).cast::<c_void>();
    let offsets = cuda.read(args.offsets)?;
    let groups = groups(OP, offsets, s.experts, s.rows(), EMO_SITE_EXPERTS_FORWARD_OFFSETS)?;
    let (width, hidden) = (size(OP, "width", s.width)?, size(OP, "hidden", s.hidden)?);
    let input = EmoExpertsIn {
        groups,
        x: EmoRows {
            data: x,
            gather: cuda.read(args.token)?,
            sources: size(OP, "tokens", s.tokens)?,
            site: EMO_SITE_EXPERTS_FORWARD_TOKEN,
        },
        w: w_in,
        pre,
        activated,
        width,
        hidden,
        gated: u32::from(s.gated),
        layout: layout.code(),
        activation: code(s.activation),
        status: cuda.status.pointer(),
    };
    let output = EmoGroupedGemmForward {
        groups,
        x: all_rows(activated),
        w: w_out,
        bias: std::ptr::null(),
        y: rows,
        inputs: hidden,
        outputs: width,
        status: cuda.status.pointer(),
    };
    let pointers = [x, w_in, w_out, pre.cast_const(), rows.cast_const(), activated.cast_const()];
    let vectors = wide(&pointers, size_of::<S>(), &[s.width, s.hidden]) != 0;
    let columns = size(OP, "hidden", s.pre())?;
    // SAFETY: `check` has compared every length with the shape and the workspace with what `workspace` states; rows are cut
    // to the shape's, and tokens compared with its tokens.
    unsafe {
        cuda.launch_tiles(OP, EXPERTS_IN, vectors, &groups, Output::Rows { columns }, &input)?;
        cuda.launch_tiles(OP, FORWARD, vectors, &groups, Output::Rows { columns: width }, &output)
    }
}

pub(super) fn backward<S: CudaStorage>(
    cuda: &Cuda<S>,
    layout: GateLayout,
    args: Backward<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "experts_backward";
    args.check(workspace(cuda, args.shape))?;
    let s = args.shape;
    let rows = s.rows();
    let (x, dy, pre) = (cuda.read(args.x)?.cast(), cuda.read(args.dy)?.cast(), cuda.read(args.pre)?.cast());
    let (w_in, w_out) = (cuda.read(args.w_in)?.cast(), cuda.read(args.w_out)?.cast());
    let row_grad = cuda.read_optional(args.row_grad)?.cast::<c_void>();
    let dx = cuda.write(&args.dx_rows)?.cast::<c_void>();
    let (dw_in, dw_out) = (cuda.write(&args.dw_in)?, cuda.write(&args.dw_out)?);
    let dpre = align(cuda.write(&args.workspace)?);
    let weighted = dpre.wrapping_add(stored::<S>(rows, s.pre()));
    let partials = weighted.wrapping_add(stored::<S>(rows, s.hidden));
    let (dpre, weighted) = (dpre.cast::<c_void>(), weighted.cast::<c_void>());

    let status = cuda.status.pointer();
    let offsets = cuda.read(args.offsets)?;
    let groups = groups(OP, offsets, s.experts, rows, EMO_SITE_EXPERTS_BACKWARD_OFFSETS)?;
    let (width, hidden) = (size(OP, "width", s.width)?, size(OP, "hidden", s.hidden)?);
    let pre_width = size(OP, "hidden", s.pre())?;
    let (token, sources) = (cuda.read(args.token)?, size(OP, "tokens", s.tokens)?);
    let of_tokens = |data| EmoRows { data, gather: token, sources, site: EMO_SITE_EXPERTS_BACKWARD_TOKEN };

    let pointers = [x, dy, pre, w_in, w_out, row_grad, dx.cast_const(), dw_in.cast(), dw_out.cast()];
    let vectors = wide(&pointers, size_of::<S>(), &[s.width, s.hidden]) != 0;
    let dgrad = |dy, w, dx, inputs, outputs| {
        let params =
            EmoGroupedGemmDgrad { groups, dy: all_rows(dy), w, dx, inputs, outputs, accumulate: 0, status };
        // SAFETY: see `launch` below.
        unsafe { cuda.launch_tiles(OP, DGRAD, vectors, &groups, Output::Rows { columns: inputs }, &params) }
    };
    let wgrad = |dy, x, dw, inputs, outputs| {
        let params = EmoGroupedGemmWgrad { groups, x, dy, dw, inputs, outputs, accumulate: 1, status };
        let output = Output::Weights { m: outputs, n: inputs };
        // SAFETY: see `launch` below.
        unsafe { cuda.launch_tiles(OP, WGRAD, vectors, &groups, output, &params) }
    };
    let middle = EmoExpertsOutDgrad {
        groups,
        dy: of_tokens(dy),
        w: w_out,
        pre,
        order: cuda.read(args.order)?,
        weights: cuda.read(args.weights)?,
        dpre,
        weighted,
        partials,
        dweights: cuda.write(&args.dweights)?,
        slots: groups.rows,
        order_site: EMO_SITE_EXPERTS_BACKWARD_ORDER,
        parts: size(OP, "hidden", parts(s.hidden))?,
        width,
        hidden,
        gated: u32::from(s.gated),
        layout: layout.code(),
        activation: code(s.activation),
        has_extra: u32::from(!row_grad.is_null()),
        status,
    };
    if !row_grad.is_null() {
        dgrad(row_grad, w_out, weighted, hidden, width)?;
    }
    let per_row = Grid::line(groups.rows.div_ceil(EMO_EXPERTS_THREADS), EMO_EXPERTS_THREADS);
    let output = Output::Rows { columns: hidden };
    // SAFETY: for every launch of this op: `check` has compared every length with the shape and the workspace with what
    // `workspace` states, of which the three regions are the parts; rows are cut to the shape's, and tokens and slots are
    // compared with its tokens and slots.
    unsafe {
        cuda.launch_tiles(OP, EXPERTS_OUT_DGRAD, vectors, &groups, output, &middle)?;
        cuda.launch(kernels::EXPERTS_DWEIGHTS, per_row, &middle)?;
    }
    wgrad(of_tokens(dy), all_rows(weighted), dw_out, hidden, width)?;
    if !row_grad.is_null() {
        // The extra gradient is on the rows as they are: their activation takes the weighted one's place.
        let shape = activation::Shape { rows, width: s.hidden, gated: s.gated };
        let plain = Rows {
            shape,
            activation: s.activation,
            layout: layout.code(),
            pre,
            dout: std::ptr::null(),
            out: weighted,
        };
        // SAFETY: as above.
        unsafe { launch_rows(cuda, OP, plain)? };
        wgrad(all_rows(row_grad), all_rows(weighted), dw_out, hidden, width)?;
    }
    dgrad(dpre, w_in, dx, width, pre_width)?;
    wgrad(all_rows(dpre), of_tokens(x), dw_in, width, pre_width)
}
