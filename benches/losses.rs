//! Losses on routing: each adds its value and its gradient in one call.

mod harness;

use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::losses::{DomainConsistency, LoadBalance, MutualInformation, Redundancy, SequenceConsistency};
use harness::device::hold;
use harness::plan::plan;
use harness::scores::Scores;
use harness::{Bench, cpu, floats, floors, shapes, zeros};

fn main() {
    let (cpu, mut bench) = (cpu(), Bench::new());
    on_scores(&cpu, &mut bench);
    on_outputs(&cpu, &mut bench);
    bench.finish();
}

fn on_scores(cpu: &Cpu, bench: &mut Bench) {
    const DOMAINS: usize = 8;
    for case in shapes::routed(bench.size).iter().filter(|case| !case.pool) {
        let (tokens, routed, documents) = (case.tokens(), case.config.routed(), case.offsets.len() - 1);
        let mut scores = Scores::new(cpu, case);
        scores.route(cpu, case).unwrap_or_else(|error| panic!("{error}"));
        let (probs, segments) = (&scores.probs, &scores.segments);
        let counts: Vec<f32> = scores.counts.get().into_iter().map(|count| count as f32).collect();
        let counts = hold(cpu, &counts);
        let domain: Vec<u32> = (0..documents).map(|document| (document % DOMAINS) as u32).collect();
        let domain = hold(cpu, &domain);
        let mut dprobs = zeros(cpu, tokens * routed);
        let mut workspace = zeros(cpu, (documents + DOMAINS) * routed);
        let mut loss = hold(cpu, &[0.0f64]);
        // A product or sum for the value, one for the gradient.
        bench.run("load_balance", case.name, floors::score_loss(tokens, routed, 2), || {
            cpu.load_balance(LoadBalance {
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
        bench.run("mutual_information", case.name, floors::score_loss(tokens, routed, 6), || {
            cpu.mutual_information(MutualInformation {
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
        bench.run("sequence_consistency", case.name, floors::score_loss(tokens, routed, 6), || {
            cpu.sequence_consistency(SequenceConsistency {
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
        bench.run("domain_consistency", case.name, floors::score_loss(tokens, routed, 2), || {
            cpu.domain_consistency(DomainConsistency {
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

fn on_outputs(cpu: &Cpu, bench: &mut Bench) {
    for layer in shapes::layers(bench.size).into_iter().filter(|layer| !layer.skewed) {
        let (tokens, top_k, width) = (layer.shape.tokens, layer.shape.top_k, layer.shape.width);
        let case = format!("{tokens} tokens, {top_k} rows of {width}");
        let plan = plan(cpu, layer.slots(), &layer.choices());
        let rows = floats(cpu, layer.shape.rows() * width, 1);
        let mut drows = zeros(cpu, layer.shape.rows() * width);
        let mut loss = hold(cpu, &[0.0f64]);
        bench.run("redundancy", &case, floors::redundancy(tokens, top_k, width), || {
            cpu.redundancy(Redundancy {
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
