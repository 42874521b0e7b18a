//! Dense products: forward, data gradient, weight gradient.

mod harness;

use emo::Backend;
use emo::ops::linear::{Dgrad, Forward, Wgrad};
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::linears(bench.size) {
        let case = format!("{}x{}x{}", shape.rows, shape.outputs, shape.inputs);
        let [forward, dgrad, wgrad] = floors::linear(shape);
        let x = floats(device, shape.rows * shape.inputs, 1);
        let w = floats(device, shape.outputs * shape.inputs, 2);
        let dy = floats(device, shape.rows * shape.outputs, 3);
        let mut y = zeros(device, shape.rows * shape.outputs);
        let mut dx = zeros(device, shape.rows * shape.inputs);
        let mut dw = zeros(device, shape.outputs * shape.inputs);
        let mut workspace = zeros(device, device.linear_workspace(shape));
        bench.run(device, "linear_forward", &case, forward, || {
            device.linear_forward(Forward {
                shape,
                x: x.all(),
                w: w.all(),
                bias: None,
                y: y.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run(device, "linear_dgrad", &case, dgrad, || {
            device.linear_dgrad(Dgrad {
                shape,
                dy: dy.all(),
                w: w.all(),
                dx: dx.all_mut(),
                accumulate: false,
                workspace: workspace.all_mut(),
            })
        });
        bench.run(device, "linear_wgrad", &case, wgrad, || {
            device.linear_wgrad(Wgrad {
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
