//! A Mixture-of-Experts layer made of the public ops: everything a training step does to it.

use crate::agree::values;
use crate::device::{Held, hold, reals, unset, unset_indices};
use emo::backend::Element;
use emo::cuda::{Cuda, CudaStorage};
use emo::ops::activation::Activation;
use emo::ops::adamw::{Hyper, Step, SumOfSquares};
use emo::ops::router::{KeepMask, RouterConfig, SharedWeight};
use emo::ops::segments::Segments;
use emo::ops::{experts, losses, permutation, pool, rms_norm, router, router_logits};
use emo::{Backend, Result};

/// Tokens, width, experts, slots of a token and hidden units.
const T: usize = 150;
const D: usize = 32;
const E: usize = 9;
const K: usize = 3;
const H: usize = 24;
/// The routed experts: all but the shared one.
const ROUTED: usize = E - 1;
const SLOTS: usize = T * K;
const IN: usize = E * 2 * H * D;
/// The documents of each round: bounds that move from one to the next.
const DOCUMENTS: [[u32; 4]; 3] = [[0, 30, 150, 150], [0, 5, 61, 150], [0, 1, 140, 150]];

/// The device and the type it stores activations in.
pub fn name<S: CudaStorage>(cuda: &Cuda<S>) -> String {
    format!("{} in {}", cuda.describe(), std::any::type_name::<S>())
}

type Reals<'b, S> = Held<'b, Cuda<S>, f32>;
type Stored<'b, S> = Held<'b, Cuda<S>, S>;
type Words<'b, S> = Held<'b, Cuda<S>, u32>;

/// Every buffer of the layer.
pub struct Layer<'b, S: CudaStorage> {
    cuda: &'b Cuda<S>,
    config: RouterConfig,
    // Inputs.
    x: Stored<'b, S>,
    dy: Stored<'b, S>,
    balance: Reals<'b, S>,
    documents: Held<'b, Cuda<S>, u64>,
    offsets: Words<'b, S>,
    of_token: Words<'b, S>,
    // Parameters.
    norm: Reals<'b, S>,
    router: Reals<'b, S>,
    masters: Reals<'b, S>,
    w_in: Stored<'b, S>,
    w_out: Stored<'b, S>,
    moments: [Reals<'b, S>; 2],
    // Forward pass.
    h: Stored<'b, S>,
    rstd: Reals<'b, S>,
    logits: Reals<'b, S>,
    sizes: Words<'b, S>,
    keep: Held<'b, Cuda<S>, u8>,
    scores: Reals<'b, S>,
    entropy: Reals<'b, S>,
    probs: Reals<'b, S>,
    weights: Reals<'b, S>,
    indices: Words<'b, S>,
    counts: Words<'b, S>,
    lse: Reals<'b, S>,
    plan: [Words<'b, S>; 4],
    pre: Stored<'b, S>,
    rows: Stored<'b, S>,
    y: Stored<'b, S>,
    // Backward pass.
    loss: Held<'b, Cuda<S>, f64>,
    dprobs: Reals<'b, S>,
    drows: Stored<'b, S>,
    dx_rows: Stored<'b, S>,
    dweights: Reals<'b, S>,
    dh: Stored<'b, S>,
    dlogits: Reals<'b, S>,
    dx: Stored<'b, S>,
    dnorm: Reals<'b, S>,
    drouter: Reals<'b, S>,
    dw_in: Reals<'b, S>,
    dw_out: Reals<'b, S>,
    squares: Held<'b, Cuda<S>, f64>,
    workspace: Reals<'b, S>,
}

const NORM: rms_norm::Shape = rms_norm::Shape { rows: T, groups: 1, width: D, stride: D };
const LOGITS: router_logits::Shape = router_logits::Shape { tokens: T, width: D, experts: E };
const PLAN: permutation::Shape = permutation::Shape { tokens: T, top_k: K, experts: E };
const EXPERTS: experts::Shape = experts::Shape {
    tokens: T,
    top_k: K,
    experts: E,
    width: D,
    hidden: H,
    gated: true,
    activation: Activation::Silu,
};

impl<'b, S: CudaStorage> Layer<'b, S> {
    /// Parameters that are always the same, inputs of round 0, and nothing in the rest.
    pub fn new(cuda: &'b Cuda<S>) -> Self {
        let workspace = cuda.experts_workspace(EXPERTS).max(cuda.rms_norm_workspace(NORM));
        let masters = values(IN, 3);
        let mut layer = Self {
            cuda,
            config: RouterConfig {
                shared: 1,
                shared_weight: SharedWeight::Softmax,
                ..RouterConfig::softmax(E, K)
            },
            x: unset(cuda, T * D),
            dy: unset(cuda, T * D),
            balance: unset(cuda, ROUTED),
            documents: hold(cuda, &[0; 3]),
            offsets: unset_indices(cuda, 4),
            of_token: unset_indices(cuda, T),
            norm: reals(cuda, &values(D, 1)),
            router: reals(cuda, &values(E * D, 2)),
            masters: reals(cuda, &masters),
            w_in: reals(cuda, &masters),
            w_out: reals(cuda, &values(E * D * H, 4)),
            moments: [(); 2].map(|()| reals(cuda, &vec![0.0; IN])),
            h: unset(cuda, T * D),
            rstd: unset(cuda, T),
            logits: unset(cuda, T * E),
            sizes: unset_indices(cuda, 3),
            keep: hold(cuda, &[7; 3 * ROUTED]),
            scores: unset(cuda, 3 * ROUTED),
            entropy: unset(cuda, 3),
            probs: unset(cuda, T * ROUTED),
            weights: unset(cuda, SLOTS),
            indices: unset_indices(cuda, SLOTS),
            counts: unset_indices(cuda, E),
            lse: unset(cuda, T),
            plan: [SLOTS, SLOTS, SLOTS, E + 1].map(|len| unset_indices(cuda, len)),
            pre: unset(cuda, SLOTS * 2 * H),
            rows: unset(cuda, SLOTS * D),
            y: unset(cuda, T * D),
            loss: hold(cuda, &[f64::NAN]),
            dprobs: unset(cuda, T * ROUTED),
            drows: unset(cuda, SLOTS * D),
            dx_rows: unset(cuda, SLOTS * D),
            dweights: unset(cuda, SLOTS),
            dh: unset(cuda, T * D),
            dlogits: unset(cuda, T * E),
            dx: unset(cuda, T * D),
            dnorm: unset(cuda, D),
            drouter: unset(cuda, E * D),
            dw_in: unset(cuda, IN),
            dw_out: unset(cuda, E * D * H),
            squares: hold(cuda, &[f64::NAN]),
            workspace: unset(cuda, workspace),
        };
        layer.set_inputs(0);
        layer
    }

    /// Uploads what a round reads, documents included.
    pub fn set_inputs(&mut self, round: usize) {
        let (cuda, seed) = (self.cuda, 10 * round as u64);
        let stored = |seed| values(T * D, seed).into_iter().map(S::from_f64).collect::<Vec<S>>();
        cuda.upload(&stored(seed + 5), self.x.all_mut()).unwrap();
        cuda.upload(&stored(seed + 6), self.dy.all_mut()).unwrap();
        let balance: Vec<f32> = values(ROUTED, seed + 7).iter().map(|v| (20.0 + 9.0 * v) as f32).collect();
        cuda.upload(&balance, self.balance.all_mut()).unwrap();
        cuda.upload(&[seed, seed + 1, seed + 2], self.documents.all_mut()).unwrap();
        let offsets = DOCUMENTS[round];
        let of_token = |t: u32| (0..3).rfind(|&i| offsets[i as usize] <= t && t < offsets[i as usize + 1]);
        let of_token: Vec<u32> = (0..T as u32).filter_map(of_token).collect();
        cuda.upload(&offsets, self.offsets.all_mut()).unwrap();
        cuda.upload(&of_token, self.of_token.all_mut()).unwrap();
    }

    /// Enqueues the forward pass, the backward pass and the step of the optimiser.
    pub fn step(&mut self) -> Result<()> {
        self.forward()?;
        self.backward()?;
        self.update()
    }

    fn forward(&mut self) -> Result<()> {
        let b = self.cuda;
        b.rms_norm_forward(rms_norm::Forward {
            shape: NORM,
            eps: 1e-6,
            x: self.x.all(),
            weight: self.norm.all(),
            y: self.h.all_mut(),
            rstd: self.rstd.all_mut(),
        })?;
        b.router_logits_forward(router_logits::Forward {
            shape: LOGITS,
            x: self.h.all(),
            w: self.router.all(),
            logits: self.logits.all_mut(),
        })?;
        b.pool_sizes(pool::Sizes {
            seed: 1,
            step: 2,
            layer: 0,
            min: K as u32,
            max: ROUTED as u32,
            documents: self.documents.all(),
            sizes: self.sizes.all_mut(),
        })?;
        b.pool_keep(pool::Keep {
            tokens: T,
            experts: E,
            routed: ROUTED,
            forced: 1,
            segments: Segments { offsets: self.offsets.all(), of_token: self.of_token.all() },
            logits: self.logits.all(),
            bias: None,
            temperature: 1.0,
            sizes: self.sizes.all(),
            keep: self.keep.all_mut(),
            scores: self.scores.all_mut(),
            entropy: Some(self.entropy.all_mut()),
        })?;
        let segments = Segments { offsets: self.offsets.all(), of_token: self.of_token.all() };
        b.router_forward(router::Forward {
            config: &self.config,
            tokens: T,
            logits: self.logits.all(),
            bias: None,
            selection_bias: None,
            keep: KeepMask::PerSegment(self.keep.all(), segments),
            probs: self.probs.all_mut(),
            weights: self.weights.all_mut(),
            indices: self.indices.all_mut(),
            counts: self.counts.all_mut(),
            lse: self.lse.all_mut(),
        })?;
        let [order, token, inverse, offsets] = &mut self.plan;
        b.plan(permutation::Plan {
            shape: PLAN,
            indices: self.indices.all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: offsets.all_mut(),
            inverse: inverse.all_mut(),
        })?;
        b.experts_forward(experts::Forward {
            shape: EXPERTS,
            offsets: offsets.all(),
            token: token.all(),
            x: self.h.all(),
            w_in: self.w_in.all(),
            w_out: self.w_out.all(),
            pre: self.pre.all_mut(),
            rows: self.rows.all_mut(),
            workspace: self.workspace.all_mut(),
        })?;
        b.combine_forward(permutation::Combine {
            shape: PLAN,
            width: D,
            inverse: inverse.all(),
            weights: self.weights.all(),
            rows: self.rows.all(),
            y: self.y.all_mut(),
            accumulate: false,
        })
    }

    fn backward(&mut self) -> Result<()> {
        let b = self.cuda;
        b.zero(self.loss.all_mut())?;
        for gradient in
            [&mut self.dprobs, &mut self.dnorm, &mut self.drouter, &mut self.dw_in, &mut self.dw_out]
        {
            b.zero(gradient.all_mut())?;
        }
        b.load_balance(losses::LoadBalance {
            tokens: T,
            routed: ROUTED,
            coefficient: 0.1,
            counts: self.balance.all(),
            valid: None,
            probs: self.probs.all(),
            dprobs: self.dprobs.all_mut(),
            loss: self.loss.all_mut(),
        })?;
        let [order, token, inverse, offsets] = &self.plan;
        b.redundancy(losses::Redundancy {
            tokens: T,
            top_k: K,
            routed_k: K - 1,
            width: D,
            coefficient: 0.1,
            inverse: inverse.all(),
            rows: self.rows.all(),
            drows: self.drows.all_mut(),
            loss: self.loss.all_mut(),
        })?;
        b.experts_backward(experts::Backward {
            shape: EXPERTS,
            offsets: offsets.all(),
            token: token.all(),
            order: order.all(),
            x: self.h.all(),
            weights: self.weights.all(),
            w_in: self.w_in.all(),
            w_out: self.w_out.all(),
            pre: self.pre.all(),
            dy: self.dy.all(),
            row_grad: Some(self.drows.all()),
            dx_rows: self.dx_rows.all_mut(),
            dweights: self.dweights.all_mut(),
            dw_in: self.dw_in.all_mut(),
            dw_out: self.dw_out.all_mut(),
            workspace: self.workspace.all_mut(),
        })?;
        b.dispatch_backward(permutation::DispatchBackward {
            shape: PLAN,
            width: D,
            inverse: inverse.all(),
            drows: self.dx_rows.all(),
            dx: self.dh.all_mut(),
        })?;
        let segments = Segments { offsets: self.offsets.all(), of_token: self.of_token.all() };
        b.router_backward(router::Backward {
            config: &self.config,
            tokens: T,
            logits: self.logits.all(),
            bias: None,
            keep: KeepMask::PerSegment(self.keep.all(), segments),
            probs: self.probs.all(),
            weights: self.weights.all(),
            indices: self.indices.all(),
            lse: self.lse.all(),
            dweights: self.dweights.all(),
            dprobs: Some(self.dprobs.all()),
            z_coefficient: 1e-3,
            dlogits: self.dlogits.all_mut(),
            dbias: None,
        })?;
        b.router_logits_backward(router_logits::Backward {
            shape: LOGITS,
            x: self.h.all(),
            w: self.router.all(),
            dlogits: self.dlogits.all(),
            dx: self.dh.all_mut(),
            dw: self.drouter.all_mut(),
        })?;
        b.rms_norm_backward(rms_norm::Backward {
            shape: NORM,
            x: self.x.all(),
            weight: self.norm.all(),
            rstd: self.rstd.all(),
            dy: self.dh.all(),
            dx: self.dx.all_mut(),
            accumulate: false,
            dweight: self.dnorm.all_mut(),
            workspace: self.workspace.all_mut(),
        })
    }

    fn update(&mut self) -> Result<()> {
        let b = self.cuda;
        b.sum_of_squares(SumOfSquares { x: self.dw_in.all(), out: self.squares.all_mut() })?;
        let [m, v] = &mut self.moments;
        b.adamw(Step {
            hyper: Hyper {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step: 1,
                grad_scale: 1.0,
            },
            params: self.masters.all_mut(),
            grads: self.dw_in.all(),
            m: m.all_mut(),
            v: v.all_mut(),
            copy: Some(self.w_in.all_mut()),
        })
    }

    /// The bytes of everything that a step writes and keeps.
    pub fn state(&self) -> Vec<(&'static str, Vec<u8>)> {
        let [order, token, inverse, offsets] = &self.plan;
        vec![
            ("h", bytes(&self.h)),
            ("logits", bytes(&self.logits)),
            ("sizes", bytes(&self.sizes)),
            ("keep", bytes(&self.keep)),
            ("scores", bytes(&self.scores)),
            ("entropy", bytes(&self.entropy)),
            ("probs", bytes(&self.probs)),
            ("weights", bytes(&self.weights)),
            ("indices", bytes(&self.indices)),
            ("counts", bytes(&self.counts)),
            ("lse", bytes(&self.lse)),
            ("order", bytes(order)),
            ("token", bytes(token)),
            ("offsets", bytes(offsets)),
            ("inverse", bytes(inverse)),
            ("pre", bytes(&self.pre)),
            ("rows", bytes(&self.rows)),
            ("y", bytes(&self.y)),
            ("loss", bytes(&self.loss)),
            ("dprobs", bytes(&self.dprobs)),
            ("drows", bytes(&self.drows)),
            ("dweights", bytes(&self.dweights)),
            ("dlogits", bytes(&self.dlogits)),
            ("dx", bytes(&self.dx)),
            ("dnorm", bytes(&self.dnorm)),
            ("drouter", bytes(&self.drouter)),
            ("dw_in", bytes(&self.dw_in)),
            ("dw_out", bytes(&self.dw_out)),
            ("squares", bytes(&self.squares)),
            ("masters", bytes(&self.masters)),
            ("w_in", bytes(&self.w_in)),
            ("m", bytes(&self.moments[0])),
            ("v", bytes(&self.moments[1])),
        ]
    }
}

fn bytes<S: CudaStorage, T: Element>(held: &Held<'_, Cuda<S>, T>) -> Vec<u8> {
    bytemuck::cast_slice(&held.get()).to_vec()
}
