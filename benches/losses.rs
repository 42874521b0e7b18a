//! Losses on routing: each adds its value and its gradient in one call.

mod harness;

use emo::Backend;
use emo::ops::losses::{DomainConsistency, LoadBalance, MutualInformation, Redundancy, SequenceConsistency};
use harness::device::{hold, reals};
use harness::plan::plan;
use harness::scores::Scores;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    on_scores(device, bench);
    on_outputs(device, bench);
}

fn on_scores<B: Backend>(device: &B, bench: &mut Bench) {
    const DOMAINS: usize = 8;
    for case in shapes::routed(bench.size).iter().filter(|case| !case.pool) {
        let (tokens, routed, documents) = (case.tokens(), case.config.routed(), case.offsets.len() - 1);
        let mut scores = Scores::new(device, case);
        scores.route(device, case).unwrap_or_else(|error| panic!("{error}"));
        let (probs, segments) = (&scores.probs, &scores.segments);
        let counts: Vec<f64> = scores.counts.get().into_iter().map(f64::from).collect();
        let counts = reals(device, &counts);
        let domain: Vec<u32> = (0..documents).map(|document| (document % DOMAINS) as u32).collect();
        let domain = hold(device, &domain);
        let mut dprobs = zeros(device, tokens * routed);
        let mut workspace = zeros(device, (documents + DOMAINS) * routed);
        let mut loss = hold(device, &[0.0f64]);
        // A product or sum for the value, one for the gradient.
        bench.run(device, "load_balance", case.name, floors::score_loss(tokens, routed, 2), || {
            device.load_balance(LoadBalance {
                tokens,
                routed,
                coefficient: 1e-9,
                counts: counts.all(),
                valid: None,
                probs: probs.all(),
                dprobs: dprobs.all_mut(),
                loss: loss.all_mut(),
            })
        });
        // A sum, a logarithm and a multiply-add for the entropies, a multiply-add for the gradient.
        bench.run(device, "mutual_information", case.name, floors::score_loss(tokens, routed, 6), || {
            device.mutual_information(MutualInformation {
                tokens,
                routed,
                token_weight: 1e-3,
                marginal_weight: 1e-3,
                valid: None,
                probs: probs.all(),
                dprobs: dprobs.all_mut(),
                loss: loss.all_mut(),
            })
        });
        // A difference, its square's sum, and a difference of two of them that is scaled and added.
        bench.run(device, "sequence_consistency", case.name, floors::score_loss(tokens, routed, 6), || {
            device.sequence_consistency(SequenceConsistency {
                tokens,
                routed,
                coefficient: 1e-3,
                segments: segments.all(),
                probs: probs.all(),
                dprobs: dprobs.all_mut(),
                loss: loss.all_mut(),
            })
        });
        // A sum for the means, one for the gradient.
        bench.run(device, "domain_consistency", case.name, floors::score_loss(tokens, routed, 2), || {
            device.domain_consistency(DomainConsistency {
                tokens,
                routed,
                domains: DOMAINS,
                coefficient: 1e-3,
                segments: segments.all(),
                domain: domain.all(),
                probs: probs.all(),
                dprobs: dprobs.all_mut(),
                loss: loss.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
    }
}

fn on_outputs<B: Backend>(device: &B, bench: &mut Bench) {
    for layer in shapes::layers(bench.size).into_iter().filter(|layer| layer.load == shapes::Load::Balanced) {
        let (tokens, top_k, width) = (layer.shape.tokens, layer.shape.top_k, layer.shape.width);
        let case = format!("{tokens} tokens, {top_k} rows of {width}");
        let plan = plan(device, layer.slots(), &layer.choices());
        let rows = floats(device, layer.shape.rows() * width, 1);
        let mut drows = zeros(device, layer.shape.rows() * width);
        let mut loss = hold(device, &[0.0f64]);
        bench.run(device, "redundancy", &case, floors::redundancy(tokens, top_k, width), || {
            device.redundancy(Redundancy {
                tokens,
                top_k,
                routed_k: top_k,
                width,
                coefficient: 1e-3,
                inverse: plan.inverse.all(),
                rows: rows.all(),
                drows: drows.all_mut(),
                loss: loss.all_mut(),
            })
        });
    }
}
