//! What the model promises beside its numbers: a plan that is exact, results that do not depend on threads, inputs that
//! are checked, and a name for the place where a number went wrong.

use std::sync::Arc;

use emo::backend::{Backend, Len};
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::oracle::Oracle;
use half::bf16;
use trainer::model::{
    Balance, Capacity, Dense, Entry, FeedForward, Inputs, Model, ModelConfig, Moe, NormPlacement, Objective,
    Purpose, QkNorm, Segments,
};

const ROWS: usize = 3;
const LENGTH: usize = 17;
const CAPACITY: Capacity =
    Capacity { tokens: ROWS * LENGTH, longest: LENGTH, domains: 0, redundancy: false, backward: true };

fn config() -> ModelConfig {
    let dense = Dense { hidden: 40, bias: false, activation: Activation::Silu };
    let moe = Moe { selection_bias: true, ..Moe::emo(9, 4, 1, 12) };
    ModelConfig {
        vocabulary: 50,
        width: 32,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rope_theta: 10_000.0,
        norm_eps: 1e-6,
        norm: NormPlacement::Pre,
        qk_norm: QkNorm::PerHead,
        clip_qkv: None,
        tied_embeddings: false,
        max_positions: LENGTH,
        pad_id: None,
        eos_id: Some(0),
        bos_id: None,
        init_std: 0.02,
        feed_forward: vec![FeedForward::Dense(dense), FeedForward::Moe(moe.clone()), FeedForward::Moe(moe)],
    }
}

fn inputs() -> Inputs {
    let ids: Vec<u32> = (0..CAPACITY.tokens).map(|token| (token * 7 % 50) as u32).collect();
    let mut inputs = Inputs::rows(ids.clone(), ROWS, LENGTH);
    inputs.labels = ids.iter().skip(1).map(|&id| id as i32).chain([-100]).collect();
    inputs.loss_tokens = inputs.labelled() as f64;
    inputs.routing = Segments { offsets: vec![0, 5, 17, 34, 40, 51] };
    inputs.pools = Some(vec![vec![3, 8, 5, 4, 6], vec![6, 3, 4, 8, 7]]);
    inputs
}

fn objective() -> Objective {
    Objective {
        load_balance: 0.1,
        balance: Balance::MicroBatch,
        router_z: 1e-3,
        head_z: 1e-5,
        ..Objective::default()
    }
}

fn model<B: Backend>(backend: B) -> Model<B> {
    let mut model = Model::new(Arc::new(backend), config(), CAPACITY).expect("a model");
    model.initialise(1).expect("weights");
    model
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads: usize| {
        let mut model = model(Cpu::new(threads).expect("threads"));
        let losses = model.loss_and_backward(&inputs(), &objective()).expect("a step");
        (losses, model.get_gradients(0..model.layout().len()).expect("gradients"))
    };
    let one = run(1);
    assert!(one.0.total().is_finite());
    assert_eq!(run(2), one);
    assert_eq!(run(7), one);
}

#[test]
fn storing_bf16_keeps_the_loss_and_the_direction_of_the_gradient() {
    fn step<B: Backend>(backend: B) -> (f64, Vec<f64>) {
        let mut model = model(backend);
        let losses = model.loss_and_backward(&inputs(), &objective()).expect("a step");
        (losses.cross_entropy, model.get_gradients(0..model.layout().len()).expect("gradients"))
    }
    let exact = step(Oracle);
    let coarse = step(Cpu::new(2).expect("threads").storing::<bf16>());
    assert!((coarse.0 - exact.0).abs() < 1e-3 * exact.0, "loss {} and {}", coarse.0, exact.0);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(&exact.1, &coarse.1) / (dot(&exact.1, &exact.1) * dot(&coarse.1, &coarse.1)).sqrt();
    assert!(cosine > 0.999, "cosine of the gradients {cosine}");
}

#[test]
fn storing_bf16_adds_copies_of_the_parameters_and_halves_the_residual_stream() {
    let entries = |plan: Vec<Entry>| {
        let bytes = |name: &str| plan.iter().find(|entry| entry.name == name).map(|entry| entry.bytes);
        (bytes("parameters"), bytes("stored parameters"), bytes("embedded"))
    };
    let cpu = || Cpu::new(1).expect("a thread");
    let exact = entries(Model::plan(Arc::new(cpu()), config(), CAPACITY).expect("a plan"));
    let coarse = Arc::new(cpu().storing::<bf16>());
    let coarse = entries(Model::plan(coarse, config(), CAPACITY).expect("a plan"));
    let parameters = model(Oracle).layout().len();
    let rows = CAPACITY.tokens * 32;
    assert_eq!(exact, (Some(4 * parameters), None, Some(4 * rows)));
    assert_eq!(coarse, (Some(4 * parameters), Some(2 * parameters), Some(2 * rows)));
}

#[test]
fn a_model_used_before_gives_the_same_bits_as_a_fresh_one() {
    let mut used = model(Cpu::new(2).expect("threads"));
    let mut other = inputs();
    other.ids.rotate_left(4);
    other.pools = None;
    used.loss_and_backward(&other, &objective()).expect("a step");
    used.zero_gradients().expect("zero");
    let mut fresh = model(Cpu::new(2).expect("threads"));
    let step = |model: &mut Model<Cpu>| model.loss_and_backward(&inputs(), &objective()).expect("a step");
    assert_eq!(step(&mut used), step(&mut fresh));
    let gradients = |model: &Model<Cpu>| model.get_gradients(0..model.layout().len()).expect("gradients");
    assert_eq!(gradients(&used), gradients(&fresh));
}

#[test]
fn a_shorter_batch_and_evaluation_agree_with_the_full_one() {
    let mut model = model(Oracle);
    let mut all = inputs();
    all.pools = None;
    let losses = model.evaluate(&all).expect("losses");
    let sum: f64 = losses.iter().sum();
    let step = model.loss_and_backward(&all, &Objective::default()).expect("a step");
    assert!((step.cross_entropy - sum / all.loss_tokens).abs() < 1e-12);
    assert_eq!(losses.last(), Some(&0.0), "no label, no loss");
    let mut first = Inputs::rows(all.ids[..LENGTH].to_vec(), 1, LENGTH);
    first.labels = all.labels[..LENGTH].to_vec();
    let alone = model.evaluate(&first).expect("losses");
    let worst = alone.iter().zip(&losses).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-13, "rows see each other: {worst:e}");
}

#[test]
fn the_plan_is_what_gets_allocated() {
    let backend = Arc::new(Oracle);
    let plan = Model::plan(backend, config(), CAPACITY).expect("a plan");
    let bytes = |purpose: Purpose| -> usize {
        plan.iter().filter(|entry| entry.purpose == purpose).map(|entry| entry.bytes).sum()
    };
    let model = model(Oracle);
    let parameters = model.layout().len();
    assert_eq!(model.parameters().masters().len(), parameters);
    assert_eq!(model.gradients().len(), parameters);
    // Two layers have a score-correction bias of 8 values.
    assert_eq!(bytes(Purpose::Parameters), 8 * (parameters + 16));
    assert_eq!(bytes(Purpose::Gradients), 8 * parameters);
    let of = |name: &str| plan.iter().find(|entry| entry.name == name).map(|entry| entry.elements);
    assert_eq!(of("layers.1.moe.pre"), Some(CAPACITY.tokens * 4 * 24));
    assert_eq!(of("layers.0.dense.pre"), Some(CAPACITY.tokens * 80));
    assert_eq!(of("layers.2.attention.qkv"), Some(CAPACITY.tokens * 64));
    assert!(plan.iter().all(|entry| entry.bytes >= entry.elements));
}

#[test]
fn the_released_model_has_its_published_size() {
    let released = ModelConfig {
        vocabulary: 100_352,
        width: 2048,
        heads: 16,
        kv_heads: 16,
        head_dim: 128,
        qk_norm: QkNorm::None,
        feed_forward: vec![FeedForward::Moe(Moe::emo(128, 8, 1, 1024)); 16],
        ..config()
    };
    let layout = trainer::model::Layout::new(&released).expect("a layout");
    assert_eq!(layout.len(), 13_568_641_024);
    assert_eq!(layout.active(&released), 13_568_641_024 - 16 * 120 * 3 * 1024 * 2048);
    let groups = layout.decay_groups();
    assert_eq!(groups[0], (0..100_352 * 2048, false), "the embedding does not decay");
    assert_eq!(groups[1], (100_352 * 2048..13_568_641_024, true), "everything else does");
}

#[test]
fn wrong_inputs_are_named() {
    let mut model = model(Oracle);
    let changes: [(&str, fn(&mut Inputs)); 12] = [
        ("ids", |i| *i = Inputs::rows(vec![0; 52], 1, 52)),
        ("ids", |i| *i = Inputs::default()),
        ("ids", |i| i.ids[7] = 50),
        ("labels", |i| i.labels.truncate(3)),
        ("targets", |i| i.labels[0] = 77),
        ("positions", |i| i.positions[2] = 17),
        ("attention", |i| i.attention = Segments { offsets: vec![0, 20, 51] }),
        ("routing", |i| i.routing = Segments { offsets: vec![0, 5, 5, 51] }),
        ("pools", |i| i.pools = Some(vec![vec![3; 5]])),
        ("loss_tokens", |i| i.loss_tokens = 0.0),
        ("micro_batches", |i| i.micro_batches = 0),
        ("balance_counts", |i| i.balance_counts = Some(vec![vec![1.0; 9]; 2])),
    ];
    for (name, change) in changes {
        let mut inputs = inputs();
        change(&mut inputs);
        let error = model.loss_and_backward(&inputs, &objective()).expect_err(name).to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    let step = Objective { balance: Balance::Step, ..objective() };
    let accumulated = Inputs { micro_batches: 2, ..inputs() };
    let error = model.loss_and_backward(&accumulated, &step).expect_err("no counts").to_string();
    assert!(error.contains("balance_counts"), "{error}");
}

#[test]
fn the_first_number_that_is_not_finite_is_named() {
    let mut model = model(Oracle);
    model.loss_and_backward(&inputs(), &objective()).expect("a step");
    assert_eq!(model.first_non_finite().expect("a look"), None);
    let norm = model.layout().layers[1].feed_forward_norm.clone();
    model.set_parameters(norm.start, &[f64::NAN]).expect("a parameter");
    let name = model.first_non_finite().expect("a look");
    assert_eq!(name.as_deref(), Some("parameter layers.1.feed_forward_norm"));
    // Large but finite weights overflow in the first dense layer's products.
    model.set_parameters(norm.start, &[1.0]).expect("a parameter");
    let output = model.layout().layers[0].output.clone();
    model.set_parameters(output.start, &vec![1e308; output.len()]).expect("parameters");
    let _ = model.loss_and_backward(&inputs(), &objective());
    let name = model.first_non_finite().expect("a look");
    assert_eq!(name.as_deref(), Some("layer 0, output of attention"));
}

/// Backwards, the head comes first: an overflow there spreads to every tensor below it, which is not to blame.
#[test]
fn an_overflow_in_the_backward_pass_is_named_where_it_began() {
    let mut model = model(Oracle);
    let (norm, head) = (model.layout().final_norm.clone(), model.layout().head.clone());
    model.set_parameters(norm.start, &vec![1e-307; norm.len()]).expect("parameters");
    let signs: Vec<f64> = (0..head.len()).map(|i| if i % 3 == 0 { 1e308 } else { -1e308 }).collect();
    model.set_parameters(head.start, &signs).expect("parameters");
    let inputs = Inputs { loss_tokens: 1e-3, ..inputs() };
    let losses = model.loss_and_backward(&inputs, &objective()).expect("a step");
    assert!(losses.total().is_finite());
    assert!(model.get_gradients(0..1).expect("gradients")[0].is_nan(), "it reached the embedding");
    let name = model.first_non_finite().expect("a look");
    assert_eq!(name.as_deref(), Some("gradient of final_norm"));
}

#[test]
fn loss_free_balancing_moves_towards_the_mean() {
    let mut model = model(Oracle);
    let counts = vec![vec![4.0, 0.0, 8.0, 4.0, 4.0, 4.0, 4.0, 4.0]; 2];
    model.update_selection_bias(&counts, 0.5).expect("an update");
    let expected = vec![0.0, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(model.selection_bias(1).expect("a bias"), Some(expected));
    // A large bias decides who is chosen.
    let mut bias = vec![0.0; 8];
    bias[6] = 10.0;
    model.set_selection_bias(0, &bias).expect("a bias");
    let mut free = inputs();
    free.pools = None;
    let counts = model.count(&free).expect("counts");
    assert_eq!(counts[0][6] as usize, CAPACITY.tokens);
}
