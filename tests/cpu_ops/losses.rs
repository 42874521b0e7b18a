//! Losses on routing.

use crate::agree::{Call, Outputs, indices, values};
use crate::device::{Held, hold, reals, segments, unset, unset_indices};
use crate::machines::agree;
use crate::shapes::{self, Layer, Routed, Size, documents};
use emo::Backend;
use emo::ops::{experts, losses, permutation};

/// Everything that reads scores `[tokens, routed]`.
struct OnScores {
    offsets: Vec<u32>,
    routed: usize,
    masked: bool,
}

impl Call for OnScores {
    fn name(&self) -> String {
        format!("losses on {} scores of {:?}, masked: {}", self.routed, self.offsets, self.masked)
    }
    fn terms(&self) -> f64 {
        // The gradient of p log p is steep near 0, and counts are large.
        25.0 * self.routed as f64
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let (routed, tokens) = (self.routed, self.offsets[self.offsets.len() - 1] as usize);
        // Scores between 0 and 1, some of them 0.
        let scores: Vec<f64> = values(tokens * routed, 1).iter().map(|v| v.max(0.0)).collect();
        let probs = reals(b, &scores);
        let segments = segments(b, &self.offsets);
        let count = self.offsets.len() - 1;
        let valid: Vec<u8> = (0..tokens).map(|t| u8::from(t % 3 != 0)).collect();
        let valid = self.masked.then(|| hold(b, &valid));
        let start = values(tokens * routed, 2);
        let mut outputs = Outputs::new();
        let mut record =
            |name: (&'static str, &'static str), loss: Held<'_, B, f64>, d: Held<'_, B, B::Real>| {
                outputs.push((name.0, loss.get()));
                outputs.push((name.1, d.reals()));
            };

        let (mut loss, mut dprobs) = (hold(b, &[0.5f64]), reals(b, &start));
        b.load_balance(losses::LoadBalance {
            tokens,
            routed,
            coefficient: 0.01,
            counts: reals(b, &indices(routed, 50, 3).iter().map(|&n| f64::from(n)).collect::<Vec<_>>()).all(),
            valid: valid.as_ref().map(Held::all),
            probs: probs.all(),
            dprobs: dprobs.all_mut(),
            loss: loss.all_mut(),
        })
        .unwrap();
        record(("load balance", "d load balance"), loss, dprobs);

        let (mut loss, mut dprobs) = (hold(b, &[0.5f64]), reals(b, &start));
        b.mutual_information(losses::MutualInformation {
            tokens,
            routed,
            token_weight: 0.7,
            marginal_weight: 0.4,
            valid: valid.as_ref().map(Held::all),
            probs: probs.all(),
            dprobs: dprobs.all_mut(),
            loss: loss.all_mut(),
        })
        .unwrap();
        record(("information", "d information"), loss, dprobs);

        let (mut loss, mut dprobs) = (hold(b, &[0.5f64]), reals(b, &start));
        b.sequence_consistency(losses::SequenceConsistency {
            tokens,
            routed,
            coefficient: 0.3,
            segments: segments.all(),
            probs: probs.all(),
            dprobs: dprobs.all_mut(),
            loss: loss.all_mut(),
        })
        .unwrap();
        record(("sequence", "d sequence"), loss, dprobs);

        let domains = 3;
        let (mut loss, mut dprobs) = (hold(b, &[0.5f64]), reals(b, &start));
        b.domain_consistency(losses::DomainConsistency {
            tokens,
            routed,
            domains,
            coefficient: 0.3,
            segments: segments.all(),
            domain: hold(b, &indices(count, 2, 4)).all(),
            probs: probs.all(),
            dprobs: dprobs.all_mut(),
            loss: loss.all_mut(),
            workspace: unset(b, (count + domains) * routed).all_mut(),
        })
        .unwrap();
        record(("domain", "d domain"), loss, dprobs);
        outputs
    }
}

#[test]
fn losses_on_scores() {
    for offsets in documents() {
        for (routed, masked) in [(1, false), (7, true), (33, false), (70, true)] {
            agree(&OnScores { offsets: offsets.clone(), routed, masked });
        }
    }
    for Routed { config, offsets, .. } in shapes::routed(Size::Small) {
        agree(&OnScores { offsets, routed: config.routed(), masked: false });
    }
}

struct Redundancy {
    tokens: usize,
    top_k: usize,
    routed_k: usize,
    width: usize,
}

impl Call for Redundancy {
    fn name(&self) -> String {
        format!(
            "redundancy of {} x {} ({} routed), width {}",
            self.tokens, self.top_k, self.routed_k, self.width
        )
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { tokens, top_k, routed_k, width } = *self;
        let (slots, experts) = (tokens * top_k, 5);
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(b, slots));
        b.plan(permutation::Plan {
            shape: permutation::Shape { tokens, top_k, experts },
            indices: hold(b, &indices(slots, experts, 1)).all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: unset_indices(b, experts + 1).all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap();
        // The second row is zero: it is orthogonal to everything.
        let mut rows = values(slots * width, 2);
        rows.iter_mut().skip(width).take(width).for_each(|row| *row = 0.0);
        let (mut drows, mut loss) = (unset(b, slots * width), hold(b, &[0.25f64]));
        b.redundancy(losses::Redundancy {
            tokens,
            top_k,
            routed_k,
            width,
            coefficient: 0.5,
            inverse: inverse.all(),
            rows: reals(b, &rows).all(),
            drows: drows.all_mut(),
            loss: loss.all_mut(),
        })
        .unwrap();
        vec![("loss", loss.get()), ("drows", drows.reals())]
    }
}

#[test]
fn redundancies() {
    for (tokens, top_k, routed_k, width) in
        [(0, 3, 2, 4), (1, 2, 2, 5), (40, 4, 3, 33), (70, 8, 8, 16), (9, 2, 1, 7), (5, 2, 0, 7)]
    {
        agree(&Redundancy { tokens, top_k, routed_k, width });
    }
    for Layer { shape, .. } in shapes::layers(Size::Small) {
        let experts::Shape { tokens, top_k, width, .. } = shape;
        agree(&Redundancy { tokens, top_k, routed_k: top_k, width });
    }
}
