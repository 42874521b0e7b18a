//! The fused expert MLPs, forward and backward.

mod harness;

use emo::Backend;
use emo::ops::experts::{Backward, Forward};
use half::bf16;
use harness::plan::plan;
use harness::{Bench, cpu, floats, floors, shapes, stored, zeros};

fn main() {
    let mut bench = Bench::new();
    measure(&cpu(), &mut bench);
    measure(&cpu().storing::<bf16>(), &mut bench);
    bench.finish();
}

fn measure<B: Backend>(cpu: &B, bench: &mut Bench) {
    for layer in shapes::layers(bench.size) {
        let (case, shape) = (format!("{}{}", stored::<B>(), layer.name()), layer.shape);
        let [forward, backward] = floors::experts(shape, size_of::<B::Storage>());
        let plan = plan(cpu, layer.slots(), &layer.choices());
        let x = floats(cpu, shape.tokens * shape.width, 1);
        let w_in = floats(cpu, shape.experts * shape.pre() * shape.width, 2);
        let w_out = floats(cpu, shape.experts * shape.width * shape.hidden, 3);
        let weights = floats(cpu, shape.rows(), 4);
        let dy = floats(cpu, shape.tokens * shape.width, 5);
        let mut pre = zeros(cpu, shape.rows() * shape.pre());
        let mut rows = zeros(cpu, shape.rows() * shape.width);
        let mut dx_rows = zeros(cpu, shape.rows() * shape.width);
        let mut dweights = zeros(cpu, shape.rows());
        let mut dw_in = zeros(cpu, shape.experts * shape.pre() * shape.width);
        let mut dw_out = zeros(cpu, shape.experts * shape.width * shape.hidden);
        let mut workspace = zeros(cpu, cpu.experts_workspace(shape));
        bench.run("experts_forward", &case, forward, || {
            cpu.experts_forward(Forward {
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
        bench.run("experts_backward", &case, backward, || {
            cpu.experts_backward(Backward {
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
    }
}
