//! From hidden states to chosen experts: logits, smoothing, document pools, the fused router, and the gradients.

mod harness;

use emo::Backend;
use emo::ops::router::Backward;
use emo::ops::{router_logits, smoothing};
use harness::device::segments;
use harness::scores::Scores;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    logits(device, bench);
    smoothings(device, bench);
    routers(device, bench);
}

fn logits<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::router_logits(bench.size) {
        let router_logits::Shape { tokens, width, experts } = shape;
        let case = format!("{tokens}x{experts}x{width}");
        let [forward, backward] = floors::router_logits(shape);
        let (x, w) = (floats(device, tokens * width, 1), floats(device, experts * width, 2));
        let dlogits = floats(device, tokens * experts, 3);
        let mut logits = zeros(device, tokens * experts);
        let (mut dx, mut dw) = (zeros(device, tokens * width), zeros(device, experts * width));
        bench.run(device, "router_logits_forward", &case, forward, || {
            device.router_logits_forward(router_logits::Forward {
                shape,
                x: x.all(),
                w: w.all(),
                logits: logits.all_mut(),
            })
        });
        bench.run(device, "router_logits_backward", &case, backward, || {
            device.router_logits_backward(router_logits::Backward {
                shape,
                x: x.all(),
                w: w.all(),
                dlogits: dlogits.all(),
                dx: dx.all_mut(),
                dw: dw.all_mut(),
            })
        });
    }
}

fn smoothings<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::smoothings(bench.size) {
        let (offsets, elements) = (shapes::documents_of_512(bench.size), shape.tokens * shape.channels);
        let count = if shape.depthwise { shape.channels * shape.width } else { shape.width };
        let kind = if shape.depthwise { "taps a channel" } else { "taps" };
        let case = format!("{}x{}, {} {kind}", shape.tokens, shape.channels, shape.width);
        let [forward, backward] = floors::smoothing(shape);
        let segments = segments(device, &offsets);
        let (x, dy) = (floats(device, elements, 1), floats(device, elements, 2));
        // Equal taps: a sum far from 0 for the renormalisation.
        let taps = harness::device::reals(device, &vec![0.2; count]);
        let (mut y, mut dx, mut dtaps) =
            (zeros(device, elements), zeros(device, elements), zeros(device, count));
        bench.run(device, "smoothing_forward", &case, forward, || {
            device.smoothing_forward(smoothing::Forward {
                shape,
                segments: segments.all(),
                x: x.all(),
                taps: taps.all(),
                y: y.all_mut(),
            })
        });
        bench.run(device, "smoothing_backward", &case, backward, || {
            device.smoothing_backward(smoothing::Backward {
                shape,
                segments: segments.all(),
                x: x.all(),
                taps: taps.all(),
                dy: dy.all(),
                dx: dx.all_mut(),
                dtaps: Some(dtaps.all_mut()),
            })
        });
    }
}

fn routers<B: Backend>(device: &B, bench: &mut Bench) {
    for case in shapes::routed(bench.size) {
        let (tokens, config, documents) = (case.tokens(), &case.config, case.offsets.len() - 1);
        let routed = config.routed();
        let mut scores = Scores::new(device, &case);
        if case.pool {
            let mut sums = zeros(device, documents * routed);
            // The router below needs the pools also where a filter leaves this bench out.
            scores.choose(device, &case, &mut sums).unwrap_or_else(|error| panic!("{error}"));
            let floor = floors::pool(tokens, routed, documents);
            bench.run(device, "pool_keep", case.name, floor, || scores.choose(device, &case, &mut sums));
        }
        let [forward, backward] = floors::router(config, tokens, if case.pool { documents } else { 0 });
        scores.route(device, &case).unwrap_or_else(|error| panic!("{error}"));
        bench.run(device, "router_forward", case.name, forward, || scores.route(device, &case));
        let dweights = floats(device, tokens * config.top_k, 2);
        let dprobs = floats(device, tokens * routed, 3);
        let mut dlogits = zeros(device, tokens * config.experts);
        bench.run(device, "router_backward", case.name, backward, || {
            device.router_backward(Backward {
                config,
                tokens,
                logits: scores.logits.all(),
                bias: None,
                keep: scores.mask(&case),
                probs: scores.probs.all(),
                weights: scores.weights.all(),
                indices: scores.indices.all(),
                lse: scores.lse.all(),
                dweights: dweights.all(),
                dprobs: Some(dprobs.all()),
                z_coefficient: 1e-3 / tokens as f64,
                dlogits: dlogits.all_mut(),
                dbias: None,
            })
        });
    }
}
