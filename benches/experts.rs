//! The fused expert MLPs, forward and backward, and the whole layer: experts, combine and their backward passes.

mod harness;

use emo::Backend;
use emo::ops::experts::{Backward, Forward};
use emo::ops::permutation::{Combine, DispatchBackward};
use harness::plan::plan;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    for layer in shapes::layers(bench.size) {
        let (case, shape) = (layer.name(), layer.shape);
        let [forward, backward] = floors::experts(shape);
        let plan = plan(device, layer.slots(), &layer.choices());
        let x = floats(device, shape.tokens * shape.width, 1);
        let w_in = floats(device, shape.experts * shape.pre() * shape.width, 2);
        let w_out = floats(device, shape.experts * shape.width * shape.hidden, 3);
        let weights = floats(device, shape.rows(), 4);
        let dy = floats(device, shape.tokens * shape.width, 5);
        let mut pre = zeros(device, shape.rows() * shape.pre());
        let mut rows = zeros(device, shape.rows() * shape.width);
        let mut dx_rows = zeros(device, shape.rows() * shape.width);
        let mut dweights = zeros(device, shape.rows());
        let mut dw_in = zeros(device, shape.experts * shape.pre() * shape.width);
        let mut dw_out = zeros(device, shape.experts * shape.width * shape.hidden);
        let mut workspace = zeros(device, device.experts_workspace(shape));
        let slots = layer.slots();
        let [_, _, sum, combine, _] = floors::moves(slots, shape.width);
        let (mut y, mut dx) =
            (zeros(device, shape.tokens * shape.width), zeros(device, shape.tokens * shape.width));
        bench.run(device, "experts_forward", &case, forward, || {
            device.experts_forward(Forward {
                shape,
                offsets: plan.offsets.all(),
                token: plan.token.all(),
                x: x.all(),
                w_in: w_in.all(),
                w_out: w_out.all(),
                pre: pre.all_mut(),
                rows: rows.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run(device, "experts_backward", &case, backward, || {
            device.experts_backward(Backward {
                shape,
                offsets: plan.offsets.all(),
                token: plan.token.all(),
                order: plan.order.all(),
                x: x.all(),
                weights: weights.all(),
                w_in: w_in.all(),
                w_out: w_out.all(),
                pre: pre.all(),
                dy: dy.all(),
                row_grad: None,
                dx_rows: dx_rows.all_mut(),
                dweights: dweights.all_mut(),
                dw_in: dw_in.all_mut(),
                dw_out: dw_out.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        let whole = forward + combine + backward + sum;
        bench.run(device, "moe_layer", &case, whole, || {
            device.experts_forward(Forward {
                shape,
                offsets: plan.offsets.all(),
                token: plan.token.all(),
                x: x.all(),
                w_in: w_in.all(),
                w_out: w_out.all(),
                pre: pre.all_mut(),
                rows: rows.all_mut(),
                workspace: workspace.all_mut(),
            })?;
            device.combine_forward(Combine {
                shape: slots,
                width: shape.width,
                inverse: plan.inverse.all(),
                weights: weights.all(),
                rows: rows.all(),
                y: y.all_mut(),
                accumulate: false,
            })?;
            device.experts_backward(Backward {
                shape,
                offsets: plan.offsets.all(),
                token: plan.token.all(),
                order: plan.order.all(),
                x: x.all(),
                weights: weights.all(),
                w_in: w_in.all(),
                w_out: w_out.all(),
                pre: pre.all(),
                dy: dy.all(),
                row_grad: None,
                dx_rows: dx_rows.all_mut(),
                dweights: dweights.all_mut(),
                dw_in: dw_in.all_mut(),
                dw_out: dw_out.all_mut(),
                workspace: workspace.all_mut(),
            })?;
            device.dispatch_backward(DispatchBackward {
                shape: slots,
                width: shape.width,
                inverse: plan.inverse.all(),
                drows: dx_rows.all(),
                dx: dx.all_mut(),
            })
        });
    }
}
