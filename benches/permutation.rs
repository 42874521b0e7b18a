//! From choices to rows by expert and back: plan, dispatch, combine and the gradients.

mod harness;

use emo::Backend;
use emo::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan};
use harness::device::{hold, unset_indices};
use harness::plan::plan;
use harness::{Bench, cpu, floats, floors, shapes, zeros};

fn main() {
    let (cpu, mut bench) = (cpu(), Bench::new());
    for (shape, width) in shapes::moves(bench.size) {
        let slots = shape.tokens * shape.top_k;
        let case = format!("{slots} rows of {width}, {} experts", shape.experts);
        let [sort, dispatch, dispatch_backward, combine, combine_backward] = floors::moves(shape, width);

        let choices = shapes::choices(shape, false);
        let indices = hold(&cpu, &choices);
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(&cpu, slots));
        let mut offsets = unset_indices(&cpu, shape.experts + 1);
        bench.run("plan", &case, sort, || {
            cpu.plan(Plan {
                shape,
                indices: indices.all(),
                order: order.all_mut(),
                token: token.all_mut(),
                offsets: offsets.all_mut(),
                inverse: inverse.all_mut(),
            })
        });

        let plan = plan(&cpu, shape, &choices);
        let x = floats(&cpu, shape.tokens * width, 1);
        let weights = floats(&cpu, slots, 2);
        let rows = floats(&cpu, slots * width, 3);
        let mut moved = zeros(&cpu, slots * width);
        let mut summed = zeros(&cpu, shape.tokens * width);
        let mut dweights = zeros(&cpu, slots);
        bench.run("dispatch_forward", &case, dispatch, || {
            cpu.dispatch_forward(Dispatch {
                shape,
                width,
                token: plan.token.all(),
                x: x.all(),
                rows: moved.all_mut(),
            })
        });
        bench.run("dispatch_backward", &case, dispatch_backward, || {
            cpu.dispatch_backward(DispatchBackward {
                shape,
                width,
                inverse: plan.inverse.all(),
                drows: rows.all(),
                dx: summed.all_mut(),
            })
        });
        bench.run("combine_forward", &case, combine, || {
            cpu.combine_forward(Combine {
                shape,
                width,
                inverse: plan.inverse.all(),
                weights: weights.all(),
                rows: rows.all(),
                y: summed.all_mut(),
                accumulate: false,
            })
        });
        bench.run("combine_backward", &case, combine_backward, || {
            cpu.combine_backward(CombineBackward {
                shape,
                width,
                inverse: plan.inverse.all(),
                weights: weights.all(),
                rows: rows.all(),
                dy: x.all(),
                drows: moved.all_mut(),
                dweights: dweights.all_mut(),
            })
        });
    }
    bench.finish();
}
