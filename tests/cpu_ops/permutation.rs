//! Plan, dispatch, combine, and the experts over a plan.

use crate::agree::{Call, Outputs, indices, values, widen};
use crate::device::{Held, hold, reals, unset, unset_indices};
use crate::machines::agree;
use crate::shapes::{self, Layer, Size};
use emo::Backend;
use emo::ops::activation::Activation;
use emo::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan, Shape};
use emo::ops::{experts, grouped_gemm};

/// A plan and what moves rows along it.
struct Moves {
    shape: Shape,
    width: usize,
    /// Experts from here on get nothing.
    used: usize,
}

impl Call for Moves {
    fn name(&self) -> String {
        format!("{:?}, width {}, {} experts used", self.shape, self.width, self.used)
    }
    fn terms(&self) -> f64 {
        self.shape.top_k.max(self.width) as f64 / 4.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { shape, width, used } = *self;
        let slots = shape.tokens * shape.top_k;
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(b, slots));
        let mut offsets = unset_indices(b, shape.experts + 1);
        b.plan(Plan {
            shape,
            indices: hold(b, &indices(slots, used, 1)).all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: offsets.all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap();
        let (mut rows, mut dx) = (unset(b, slots * width), unset(b, shape.tokens * width));
        b.dispatch_forward(Dispatch {
            shape,
            width,
            token: token.all(),
            x: reals(b, &values(shape.tokens * width, 2)).all(),
            rows: rows.all_mut(),
        })
        .unwrap();
        let some_rows = reals(b, &values(slots * width, 3));
        b.dispatch_backward(DispatchBackward {
            shape,
            width,
            inverse: inverse.all(),
            drows: some_rows.all(),
            dx: dx.all_mut(),
        })
        .unwrap();
        let weights = reals(b, &values(slots, 4));
        let dy = reals(b, &values(shape.tokens * width, 5));
        let combine = |accumulate| {
            let mut y = reals(b, &values(shape.tokens * width, 6));
            b.combine_forward(Combine {
                shape,
                width,
                inverse: inverse.all(),
                weights: weights.all(),
                rows: some_rows.all(),
                y: y.all_mut(),
                accumulate,
            })
            .unwrap();
            y.reals()
        };
        let (mut drows, mut dweights) = (unset(b, slots * width), unset(b, slots));
        b.combine_backward(CombineBackward {
            shape,
            width,
            inverse: inverse.all(),
            weights: weights.all(),
            rows: some_rows.all(),
            dy: dy.all(),
            drows: drows.all_mut(),
            dweights: dweights.all_mut(),
        })
        .unwrap();
        let plan = [("order", &order), ("token", &token), ("offsets", &offsets), ("inverse", &inverse)];
        let mut outputs: Outputs = plan.into_iter().map(|(name, held)| (name, widen(&held.get()))).collect();
        outputs.extend([("rows", rows.reals()), ("dx", dx.reals())]);
        outputs.extend([("y", combine(false)), ("y added", combine(true))]);
        outputs.extend([("drows", drows.reals()), ("dweights", dweights.reals())]);
        outputs
    }
}

#[test]
fn moves() {
    // From the first of thousands of tokens on, large enough for parallel sorts: in one go or, with 1152 experts, in turns.
    for (tokens, top_k, experts, width, used) in [
        (0, 2, 4, 3, 4),
        (1, 1, 1, 1, 1),
        (5, 3, 3, 8, 3),
        (67, 4, 9, 33, 5),
        (40, 2, 6, 5, 1),
        (17_000, 3, 40, 1, 37),
        (10_000, 1, 3, 1, 1),
        (9_001, 1, 1151, 1, 1151),
        (3_000, 2, 1152, 1, 1152),
        (7, 2, 2000, 3, 2000),
    ] {
        agree(&Moves { shape: Shape { tokens, top_k, experts }, width, used });
    }
    for (shape, width) in shapes::moves(Size::Small) {
        agree(&Moves { shape, width, used: shape.experts });
    }
}

/// The fused experts and the plain grouped products, through the backend.
pub struct Experts {
    pub shape: experts::Shape,
    pub extra: bool,
}

impl Call for Experts {
    fn name(&self) -> String {
        format!("experts {:?}", self.shape)
    }
    fn terms(&self) -> f64 {
        let terms = (self.shape.width * self.shape.hidden).max(self.shape.rows()) as f64 / 4.0;
        // Gated, its terms grow with the cube of a pre-activation.
        if self.shape.activation == Activation::ReluSquared { 4.0 * terms } else { terms }
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { shape, extra } = *self;
        let (slots, width) = (shape.rows(), shape.width);
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(b, slots));
        let mut offsets = unset_indices(b, shape.experts + 1);
        b.plan(Plan {
            shape: Shape { tokens: shape.tokens, top_k: shape.top_k, experts: shape.experts },
            indices: hold(b, &indices(slots, shape.experts.div_ceil(2), 1)).all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: offsets.all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap();
        let x = reals(b, &values(shape.tokens * width, 2));
        let w_in = reals(b, &values(shape.experts * shape.pre() * width, 3));
        let w_out = reals(b, &values(shape.experts * width * shape.hidden, 4));
        let (mut pre, mut rows) = (unset(b, slots * shape.pre()), unset(b, slots * width));
        let mut workspace = unset(b, b.experts_workspace(shape));
        b.experts_forward(experts::Forward {
            shape,
            offsets: offsets.all(),
            token: token.all(),
            x: x.all(),
            w_in: w_in.all(),
            w_out: w_out.all(),
            pre: pre.all_mut(),
            rows: rows.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        let row_grad = extra.then(|| reals(b, &values(slots * width, 5)));
        let (mut dx_rows, mut dweights) = (unset(b, slots * width), unset(b, slots));
        let mut dw_in = reals(b, &values(w_in.get().len(), 6));
        let mut dw_out = reals(b, &values(w_out.get().len(), 7));
        b.experts_backward(experts::Backward {
            shape,
            offsets: offsets.all(),
            token: token.all(),
            order: order.all(),
            x: x.all(),
            weights: reals(b, &values(slots, 8)).all(),
            w_in: w_in.all(),
            w_out: w_out.all(),
            pre: pre.all(),
            dy: reals(b, &values(shape.tokens * width, 9)).all(),
            row_grad: row_grad.as_ref().map(Held::all),
            dx_rows: dx_rows.all_mut(),
            dweights: dweights.all_mut(),
            dw_in: dw_in.all_mut(),
            dw_out: dw_out.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();

        let products =
            grouped_gemm::Shape { groups: shape.experts, rows: slots, inputs: width, outputs: shape.pre() };
        let mut workspace = unset(b, b.grouped_gemm_workspace(products));
        let (mut y, mut dx) = (unset(b, slots * shape.pre()), unset(b, slots * width));
        let mut dw = reals(b, &values(w_in.get().len(), 10));
        let dy = reals(b, &values(slots * shape.pre(), 11));
        b.grouped_gemm_forward(grouped_gemm::Forward {
            shape: products,
            offsets: offsets.all(),
            x: x.all(),
            gather: Some(token.all()),
            w: w_in.all(),
            y: y.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        b.grouped_gemm_dgrad(grouped_gemm::Dgrad {
            shape: products,
            offsets: offsets.all(),
            dy: dy.all(),
            gather: Some(inverse.all()),
            w: w_in.all(),
            dx: dx.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        b.grouped_gemm_wgrad(grouped_gemm::Wgrad {
            shape: products,
            offsets: offsets.all(),
            x: x.all(),
            x_gather: Some(token.all()),
            dy: dy.all(),
            dy_gather: None,
            dw: dw.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        vec![
            ("pre", pre.reals()),
            ("rows", rows.reals()),
            ("dx_rows", dx_rows.reals()),
            ("dweights", dweights.reals()),
            ("dw_in", dw_in.reals()),
            ("dw_out", dw_out.reals()),
            ("y", y.reals()),
            ("dx", dx.reals()),
            ("dw", dw.reals()),
        ]
    }
}

#[test]
fn experts_over_a_plan() {
    for (tokens, top_k, experts, width, hidden) in
        [(0, 2, 4, 3, 5), (1, 1, 1, 1, 1), (40, 3, 9, 17, 11), (90, 2, 3, 33, 40)]
    {
        for (gated, activation) in [(true, Activation::Silu), (false, Activation::GeluTanh)] {
            let shape = experts::Shape { tokens, top_k, experts, width, hidden, gated, activation };
            agree(&Experts { shape, extra: gated });
        }
    }
    for Layer { shape, .. } in shapes::layers(Size::Small) {
        agree(&Experts { shape, extra: false });
    }
}
