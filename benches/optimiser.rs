//! The optimiser's step and the sum behind the gradient norm.

mod harness;

use emo::Backend;
use emo::ops::adamw::{Hyper, Step, SumOfSquares};
use harness::device::hold;
use harness::{Bench, cpu, floats, floors, shapes, zeros};

fn main() {
    let (cpu, mut bench) = (cpu(), Bench::new());
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
        let (mut params, grads) = (floats(&cpu, len, 1), floats(&cpu, len, 2));
        let (mut m, mut v) = (zeros(&cpu, len), zeros(&cpu, len));
        let mut sum = hold(&cpu, &[0.0f64]);
        bench.run("adamw", &case, floors::adamw(len), || {
            cpu.adamw(Step {
                hyper,
                params: params.all_mut(),
                grads: grads.all(),
                m: m.all_mut(),
                v: v.all_mut(),
                copy: None,
            })
        });
        bench.run("sum_of_squares", &case, floors::sum_of_squares(len), || {
            cpu.sum_of_squares(SumOfSquares { x: grads.all(), out: sum.all_mut() })
        });
    }
    bench.finish();
}
