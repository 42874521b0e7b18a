//! Dense products: forward, data gradient, weight gradient.

mod harness;

use emo::Backend;
use emo::ops::linear::{Dgrad, Forward, Wgrad};
use half::bf16;
use harness::{Bench, cpu, floats, floors, shapes, stored, zeros};

fn main() {
    let mut bench = Bench::new();
    measure(&cpu(), &mut bench);
    measure(&cpu().storing::<bf16>(), &mut bench);
    bench.finish();
}

fn measure<B: Backend>(cpu: &B, bench: &mut Bench) {
    for shape in shapes::linears(bench.size) {
        let case = format!("{}{}x{}x{}", stored::<B>(), shape.rows, shape.outputs, shape.inputs);
        let [forward, dgrad, wgrad] = floors::linear(shape, size_of::<B::Storage>());
        let x = floats(cpu, shape.rows * shape.inputs, 1);
        let w = floats(cpu, shape.outputs * shape.inputs, 2);
        let dy = floats(cpu, shape.rows * shape.outputs, 3);
        let mut y = zeros(cpu, shape.rows * shape.outputs);
        let mut dx = zeros(cpu, shape.rows * shape.inputs);
        let mut dw = zeros(cpu, shape.outputs * shape.inputs);
        let mut workspace = zeros(cpu, cpu.linear_workspace(shape));
        bench.run("linear_forward", &case, forward, || {
            cpu.linear_forward(Forward {
                shape,
                x: x.all(),
                w: w.all(),
                bias: None,
                y: y.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run("linear_dgrad", &case, dgrad, || {
            cpu.linear_dgrad(Dgrad {
                shape,
                dy: dy.all(),
                w: w.all(),
                dx: dx.all_mut(),
                accumulate: false,
                workspace: workspace.all_mut(),
            })
        });
        bench.run("linear_wgrad", &case, wgrad, || {
            cpu.linear_wgrad(Wgrad {
                shape,
                x: x.all(),
                dy: dy.all(),
                dw: dw.all_mut(),
                dbias: None,
                workspace: workspace.all_mut(),
            })
        });
    }
}
