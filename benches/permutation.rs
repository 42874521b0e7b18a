//! From choices to rows by expert and back: plan, dispatch, combine and the gradients.

mod harness;

use emo::Backend;
use emo::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan};
use harness::device::{hold, unset_indices};
use harness::plan::plan;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    for (shape, width) in shapes::moves(bench.size) {
        let slots = shape.tokens * shape.top_k;
        let case = format!("{slots} rows of {width}, {} experts", shape.experts);
        let [sort, dispatch, dispatch_backward, combine, combine_backward] = floors::moves(shape, width);

        let choices = shapes::choices(shape, shapes::Load::Balanced);
        let indices = hold(device, &choices);
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(device, slots));
        let mut offsets = unset_indices(device, shape.experts + 1);
        bench.run(device, "plan", &case, sort, || {
            device.plan(Plan {
                shape,
                indices: indices.all(),
                order: order.all_mut(),
                token: token.all_mut(),
                offsets: offsets.all_mut(),
                inverse: inverse.all_mut(),
            })
        });

        let plan = plan(device, shape, &choices);
        let x = floats(device, shape.tokens * width, 1);
        let weights = floats(device, slots, 2);
        let rows = floats(device, slots * width, 3);
        let mut moved = zeros(device, slots * width);
        let mut summed = zeros(device, shape.tokens * width);
        let mut dweights = zeros(device, slots);
        bench.run(device, "dispatch_forward", &case, dispatch, || {
            device.dispatch_forward(Dispatch {
                shape,
                width,
                token: plan.token.all(),
                x: x.all(),
                rows: moved.all_mut(),
            })
        });
        bench.run(device, "dispatch_backward", &case, dispatch_backward, || {
            device.dispatch_backward(DispatchBackward {
                shape,
                width,
                inverse: plan.inverse.all(),
                drows: rows.all(),
                dx: summed.all_mut(),
            })
        });
        bench.run(device, "combine_forward", &case, combine, || {
            device.combine_forward(Combine {
                shape,
                width,
                inverse: plan.inverse.all(),
                weights: weights.all(),
                rows: rows.all(),
                y: summed.all_mut(),
                accumulate: false,
            })
        });
        bench.run(device, "combine_backward", &case, combine_backward, || {
            device.combine_backward(CombineBackward {
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
}
