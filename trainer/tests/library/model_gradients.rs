//! The whole model's gradient against central differences in f64: every tensor of every composition, with every loss.

use std::sync::Arc;

use emo::ops::activation::Activation;
use emo::ops::router::{Score, SharedWeight};
use emo::oracle::Oracle;
use trainer::model::{
    Balance, Capacity, Dense, FeedForward, Inputs, Model, ModelConfig, Moe, NormPlacement, Objective, QkNorm,
    Segments, Smoothing,
};

const ROWS: usize = 2;
const LENGTH: usize = 6;

/// SplitMix64, for test values.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Uniform on `[-1, 1)`.
    fn signed(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn config(layers: Vec<FeedForward>) -> ModelConfig {
    ModelConfig {
        vocabulary: 13,
        width: 8,
        heads: 2,
        kv_heads: 2,
        head_dim: 4,
        rope_theta: 10_000.0,
        norm_eps: 1e-6,
        norm: NormPlacement::Pre,
        qk_norm: QkNorm::None,
        clip_qkv: None,
        tied_embeddings: false,
        max_positions: LENGTH,
        pad_id: None,
        eos_id: Some(0),
        bos_id: None,
        init_std: 0.02,
        feed_forward: layers,
    }
}

fn moe(change: impl Fn(&mut Moe)) -> FeedForward {
    let mut moe = Moe::emo(5, 2, 0, 6);
    change(&mut moe);
    FeedForward::Moe(moe)
}

fn dense(bias: bool) -> FeedForward {
    FeedForward::Dense(Dense { hidden: 7, bias, activation: Activation::Silu })
}

/// Two rows of two documents, two labels masked.
fn inputs(config: &ModelConfig, values: &mut Values) -> Inputs {
    let tokens = ROWS * LENGTH;
    let ids = (0..tokens).map(|_| values.below(config.vocabulary) as u32).collect();
    let mut inputs = Inputs::rows(ids, ROWS, LENGTH);
    inputs.labels = (0..tokens).map(|_| values.below(config.vocabulary) as i32).collect();
    inputs.labels[3] = -100;
    inputs.labels[tokens - 1] = -100;
    inputs.loss_tokens = inputs.labelled() as f64;
    inputs.attention = Segments { offsets: vec![0, 4, 6, 9, 12] };
    inputs.routing = Segments { offsets: vec![0, 3, 6, 8, 12] };
    inputs.domains = vec![0, 1, 0, 1];
    inputs
}

fn model(config: ModelConfig, values: &mut Values) -> Model<Oracle> {
    let capacity =
        Capacity { tokens: ROWS * LENGTH, longest: LENGTH, domains: 2, redundancy: true, backward: true };
    let mut model = Model::new(Arc::new(Oracle), config, capacity).expect("a valid configuration");
    for tensor in model.layout().tensors.clone() {
        // Norm weights around 1, all others wide enough for every part to matter.
        let centre = if tensor.name.ends_with("norm") { 1.0 } else { 0.0 };
        let weights: Vec<f64> = tensor.range.clone().map(|_| centre + 0.4 * values.signed()).collect();
        model.set_parameters(tensor.range.start, &weights).expect("parameters fit");
    }
    for (ordinal, moe) in model.config().clone().moe_layers().map(|(_, moe)| moe).enumerate() {
        let bias: Vec<f64> = (0..moe.routed()).map(|_| 0.2 * values.signed()).collect();
        model.set_selection_bias(ordinal, &bias).expect("a bias an expert");
    }
    model
}

/// Everything that is decided, not computed: experts and pools.
fn decisions(model: &Model<Oracle>) -> Vec<(Vec<u32>, Option<Vec<u8>>)> {
    (0..model.config().moe_layers().count())
        .map(|ordinal| {
            let routing = model.routing(ordinal).expect("routing").expect("a layer with experts");
            (routing.indices, routing.pools)
        })
        .collect()
}

fn check(name: &str, config: ModelConfig, objective: Objective, adjust: impl Fn(&ModelConfig, &mut Inputs)) {
    let mut values = Values(name.bytes().map(u64::from).sum());
    let mut inputs = inputs(&config, &mut values);
    adjust(&config, &mut inputs);
    let mut model = model(config, &mut values);
    model.loss_and_backward(&inputs, &objective).expect("a step");
    let decided = decisions(&model);
    let gradients = model.get_gradients(0..model.layout().len()).expect("gradients");
    for tensor in model.layout().tensors.clone() {
        let range = tensor.range.clone();
        let steepest = range
            .clone()
            .max_by(|&a, &b| gradients[a].abs().total_cmp(&gradients[b].abs()))
            .expect("entries");
        let mut entries = vec![steepest, range.start, range.end - 1];
        entries.extend((0..3).map(|_| range.start + values.below(range.len())));
        let mut compared = 0;
        for entry in entries {
            let Some(difference) = difference(&mut model, entry, &inputs, &objective, &decided) else {
                continue;
            };
            compared += 1;
            let analytic = gradients[entry];
            let error = (difference - analytic).abs();
            assert!(
                error <= 2e-8 + 2e-6 * analytic.abs(),
                "{name}: {}[{}]: {analytic:e} against {difference:e}",
                tensor.name,
                entry - range.start
            );
        }
        assert!(compared > 0, "{name}: every step flips a decision around {}", tensor.name);
        let live = gradients[range].iter().any(|gradient| *gradient != 0.0);
        assert!(live, "{name}: {} takes no gradient at all", tensor.name);
    }
}

/// `(L(x + h) - L(x - h)) / 2h` of one parameter; none where a decision changes in between.
fn difference(
    model: &mut Model<Oracle>,
    entry: usize,
    inputs: &Inputs,
    objective: &Objective,
    decided: &[(Vec<u32>, Option<Vec<u8>>)],
) -> Option<f64> {
    const STEP: f64 = 1e-5;
    let centre = model.get_parameters(entry..entry + 1).expect("a parameter")[0];
    let mut at = |value: f64| {
        model.set_parameters(entry, &[value]).expect("a parameter");
        let loss = model.loss_and_backward(inputs, objective).expect("a step").total();
        (decisions(model) == decided).then_some(loss)
    };
    let (above, below) = (at(centre + STEP), at(centre - STEP));
    model.set_parameters(entry, &[centre]).expect("a parameter");
    Some((above? - below?) / (2.0 * STEP))
}

fn plain() -> Objective {
    Objective::default()
}

fn balanced(balance: Balance) -> Objective {
    Objective { load_balance: 0.7, balance, router_z: 0.3, head_z: 0.1, ..plain() }
}

fn pools(sizes: [u32; 4]) -> impl Fn(&ModelConfig, &mut Inputs) {
    move |config, inputs| {
        let layers = config.moe_layers().count();
        inputs.pools =
            Some((0..layers).map(|l| sizes.iter().map(|s| s + (l as u32 % 2)).collect()).collect());
    }
}

#[test]
fn emo_with_pools_and_a_shared_expert() {
    let layer = moe(|moe| *moe = Moe::emo(6, 3, 1, 5));
    check("emo", config(vec![layer; 2]), balanced(Balance::MicroBatch), pools([2, 3, 5, 9]));
}

#[test]
fn balance_over_the_step_with_given_counts() {
    let layer = moe(|moe| *moe = Moe::emo(6, 3, 1, 5));
    check("step", config(vec![layer; 2]), balanced(Balance::Step), |_, inputs| {
        inputs.micro_batches = 3;
        inputs.balance_counts = Some(vec![vec![9.0, 1.0, 4.0, 30.0, 2.0], vec![3.0, 8.0, 1.0, 1.0, 5.0]]);
    });
}

#[test]
fn forced_experts() {
    let layer = moe(|moe| *moe = Moe { forced: 2, ..Moe::emo(7, 2, 0, 5) });
    check("forced", config(vec![layer; 2]), balanced(Balance::MicroBatch), pools([3, 2, 4, 2]));
}

#[test]
fn full_width_qk_norm_and_clip() {
    let base = config(vec![moe(|_| {}); 2]);
    let composed = ModelConfig { qk_norm: QkNorm::FullWidth, clip_qkv: Some(0.6), ..base };
    check("olmoe", composed, balanced(Balance::Pooled), |_, _| {});
}

#[test]
fn clip_alone_with_grouped_queries() {
    let base = config(vec![moe(|_| {}); 2]);
    check("clip", ModelConfig { heads: 4, kv_heads: 2, clip_qkv: Some(0.5), ..base }, plain(), |_, _| {});
}

#[test]
fn post_norm_with_full_width_qk_norm() {
    let base = config(vec![moe(|_| {}), dense(true)]);
    let composed = ModelConfig { norm: NormPlacement::Post, qk_norm: QkNorm::FullWidth, ..base };
    check("flex_olmo", composed, balanced(Balance::Pooled), |_, _| {});
}

#[test]
fn per_head_qk_norm_grouped_queries_and_a_dense_layer() {
    let base = config(vec![dense(true), moe(|moe| moe.normalise = Some(1.0))]);
    let composed = ModelConfig { heads: 4, kv_heads: 2, head_dim: 6, qk_norm: QkNorm::PerHead, ..base };
    check("qwen", composed, balanced(Balance::Pooled), |_, inputs| {
        inputs.valid = Some((0..ROWS * LENGTH).map(|token| u8::from(token % 4 != 1)).collect());
    });
}

#[test]
fn dense_alone_tied_embeddings() {
    let base = config(vec![dense(false), dense(false)]);
    check(
        "dense",
        ModelConfig { tied_embeddings: true, ..base },
        Objective { head_z: 0.2, ..plain() },
        |_, _| {},
    );
}

#[test]
fn plain_experts_of_every_activation() {
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared] {
        let layer = moe(|moe| *moe = Moe { activation, gated: false, ..moe.clone() });
        check("plain experts", config(vec![layer; 2]), plain(), |_, _| {});
    }
}

#[test]
fn learned_smoothing_of_every_shape() {
    let shapes = [(3, 0, false, false), (3, 0, true, true), (3, 1, false, true), (4, 2, true, false)];
    for (width, ahead, depthwise, renormalise) in shapes {
        let smoothing = Smoothing { width, ahead, learned: true, depthwise, renormalise };
        let layer = moe(|moe| moe.smoothing = Some(smoothing));
        check("smoothing", config(vec![layer; 2]), balanced(Balance::MicroBatch), pools([4, 4, 3, 5]));
    }
}

#[test]
fn fixed_smoothing_with_a_gate_bias() {
    let smoothing = Smoothing { width: 3, ahead: 0, learned: false, depthwise: false, renormalise: true };
    let layer = moe(|moe| *moe = Moe { smoothing: Some(smoothing), gate_bias: true, ..moe.clone() });
    check("fixed smoothing", config(vec![layer; 2]), balanced(Balance::MicroBatch), |_, _| {});
}

#[test]
fn sigmoid_with_a_selection_bias_and_temperature() {
    let layer = moe(|moe| {
        *moe = Moe {
            score: Score::Sigmoid,
            selection_bias: true,
            temperature: 0.7,
            normalise: Some(1.0),
            ..moe.clone()
        }
    });
    check("sigmoid", config(vec![layer; 2]), balanced(Balance::MicroBatch), |_, _| {});
}

#[test]
fn two_shared_experts_by_softmax_with_a_gate_bias() {
    let layer = moe(|moe| {
        *moe = Moe { shared_weight: SharedWeight::Softmax, gate_bias: true, ..Moe::emo(6, 4, 2, 5) }
    });
    check("shared", config(vec![layer; 2]), balanced(Balance::PerLayer), |_, inputs| {
        inputs.valid = Some(inputs.labels.iter().map(|&label| u8::from(label != -100)).collect());
    });
}

#[test]
fn always_active_experts() {
    let layer = moe(|moe| *moe = Moe { always_active: vec![4, 1], ..Moe::emo(6, 4, 0, 5) });
    check("always", config(vec![layer; 2]), balanced(Balance::PerLayer), |_, _| {});
}

#[test]
fn every_loss_at_once_with_masked_labels() {
    let objective = Objective {
        load_balance: 0.4,
        balance: Balance::MicroBatch,
        router_z: 0.2,
        head_z: 0.1,
        token_entropy: 0.5,
        marginal_entropy: 0.6,
        sequence_consistency: 0.7,
        domain_consistency: 0.8,
        redundancy: 0.9,
    };
    let layer = moe(|moe| *moe = Moe::emo(6, 4, 1, 5));
    check("every loss", config(vec![layer; 2]), objective, pools([4, 5, 4, 5]));
}

#[test]
fn each_loss_alone() {
    let alone: [fn(&mut Objective); 8] = [
        |o| o.load_balance = 1.0,
        |o| o.router_z = 1.0,
        |o| o.head_z = 1.0,
        |o| o.token_entropy = 1.0,
        |o| o.marginal_entropy = 1.0,
        |o| o.sequence_consistency = 1.0,
        |o| o.domain_consistency = 1.0,
        |o| o.redundancy = 1.0,
    ];
    for (index, switch) in alone.iter().enumerate() {
        let mut objective = plain();
        switch(&mut objective);
        let layer = moe(|moe| *moe = Moe::emo(5, 3, 0, 5));
        check(&format!("loss {index}"), config(vec![layer; 2]), objective, |_, _| {});
        // The loss must be felt: without it the objective is another.
        let mut values = Values(7);
        let config = config(vec![moe(|moe| *moe = Moe::emo(5, 3, 0, 5)); 2]);
        let inputs = inputs(&config, &mut values);
        let mut model = model(config, &mut values);
        let with = model.loss_and_backward(&inputs, &objective).expect("a step");
        assert_ne!(with.total(), with.cross_entropy, "loss {index} has no value");
    }
}

#[test]
fn the_padding_row_takes_no_gradient() {
    let mut values = Values(3);
    let config = ModelConfig { pad_id: Some(4), ..config(vec![moe(|_| {}); 2]) };
    let mut inputs = inputs(&config, &mut values);
    inputs.ids.fill(4);
    inputs.ids[5] = 7;
    let mut model = model(config, &mut values);
    model.loss_and_backward(&inputs, &plain()).expect("a step");
    let row = |id: usize| model.get_gradients(id * 8..(id + 1) * 8).expect("a row");
    assert!(row(4).iter().all(|&gradient| gradient == 0.0));
    assert!(row(7).iter().any(|&gradient| gradient != 0.0));
}

#[test]
fn micro_batches_add_up_to_the_whole_batch() {
    let mut values = Values(11);
    let config = config(vec![moe(|moe| *moe = Moe::emo(6, 3, 1, 5)); 2]);
    let inputs = inputs(&config, &mut values);
    let objective = balanced(Balance::Step);
    let mut model = model(config, &mut values);
    let counts: Vec<Vec<f64>> = model
        .count(&inputs)
        .expect("counts")
        .iter()
        .map(|layer| layer.iter().map(|&count| f64::from(count)).collect())
        .collect();
    let whole = model.loss_and_backward(&inputs, &objective).expect("a step").total();
    let expected = model.get_gradients(0..model.layout().len()).expect("gradients");

    model.zero_gradients().expect("zero");
    let mut total = 0.0;
    for row in 0..ROWS {
        let tokens = row * LENGTH..(row + 1) * LENGTH;
        let mut part = Inputs::rows(inputs.ids[tokens.clone()].to_vec(), 1, LENGTH);
        part.labels = inputs.labels[tokens].to_vec();
        part.attention = Segments { offsets: [vec![0, 4, 6], vec![0, 3, 6]][row].clone() };
        part.routing = Segments { offsets: [vec![0, 3, 6], vec![0, 2, 6]][row].clone() };
        part.loss_tokens = inputs.loss_tokens;
        part.micro_batches = ROWS;
        part.balance_counts = Some(counts.clone());
        total += model.loss_and_backward(&part, &objective).expect("a step").total();
    }
    assert!((total - whole).abs() < 1e-12, "{total} against {whole}");
    let found = model.get_gradients(0..model.layout().len()).expect("gradients");
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-13, "gradients differ by {worst:e}");
}
