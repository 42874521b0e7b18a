//! The optimiser's step and the sum behind the gradient norm.

mod harness;

use emo::Backend;
use emo::ops::adamw::{Hyper, Step, SumOfSquares};
use harness::device::hold;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    for len in shapes::arenas(bench.size) {
        let case = format!("{len} parameters");
        let hyper = Hyper {
            lr: 1e-5,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 10,
            grad_scale: 0.5,
        };
        let (mut params, grads) = (floats(device, len, 1), floats(device, len, 2));
        let (mut m, mut v) = (zeros(device, len), zeros(device, len));
        let mut sum = hold(device, &[0.0f64]);
        bench.run(device, "adamw", &case, floors::adamw(len), || {
            device.adamw(Step {
                hyper,
                params: params.all_mut(),
                grads: grads.all(),
                m: m.all_mut(),
                v: v.all_mut(),
                copy: None,
            })
        });
        bench.run(device, "sum_of_squares", &case, floors::sum_of_squares(len), || {
            device.sum_of_squares(SumOfSquares { x: grads.all(), out: sum.all_mut() })
        });
    }
}
