//! A whole mixture-of-experts layer, forward: logits, routing, plan, experts, combine.
//! The same calls then run on the f64 oracle, which is how every backend is tested.

use emo::backend::{Backend, Real};
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::ops::router::{KeepMask, RouterConfig};
use emo::ops::{experts, permutation, router, router_logits};
use emo::oracle::Oracle;

const TOKENS: usize = 64;
const WIDTH: usize = 32;
const SHAPE: experts::Shape = experts::Shape {
    tokens: TOKENS,
    top_k: 4,
    experts: 16,
    width: WIDTH,
    hidden: 24,
    gated: true,
    activation: Activation::Silu,
};

/// Numbers between -0.5 and 0.5 that are the same in f32 and f64.
fn numbers<T: Real>(count: usize, seed: usize) -> Vec<T> {
    (0..count).map(|i| T::from_f64((((i + 1) * (seed * 2 + 7919)) % 1024) as f64 / 1024.0 - 0.5)).collect()
}

/// The layer on any backend whose views are slices and which stores what it computes.
fn layer<B, T: Real>(backend: &B) -> emo::Result<Vec<f64>>
where
    B: for<'a> Backend<Real = T, Storage = T, View<'a, T> = &'a [T], ViewMut<'a, T> = &'a mut [T]>,
    B: for<'a> Backend<View<'a, u32> = &'a [u32], ViewMut<'a, u32> = &'a mut [u32]>,
{
    let zero = T::from_f64(0.0);
    let (rows, config) = (SHAPE.rows(), RouterConfig::softmax(SHAPE.experts, SHAPE.top_k));
    let x = numbers(TOKENS * WIDTH, 1);
    let w_router = numbers(SHAPE.experts * WIDTH, 2);
    let w_in = numbers(SHAPE.experts * SHAPE.pre() * WIDTH, 3);
    let w_out = numbers(SHAPE.experts * WIDTH * SHAPE.hidden, 4);

    let mut logits = vec![zero; TOKENS * SHAPE.experts];
    let shape = router_logits::Shape { tokens: TOKENS, width: WIDTH, experts: SHAPE.experts };
    backend.router_logits_forward(router_logits::Forward {
        shape,
        x: &x,
        w: &w_router,
        logits: &mut logits,
    })?;

    let (mut probs, mut lse) = (vec![zero; TOKENS * SHAPE.experts], vec![zero; TOKENS]);
    let (mut weights, mut indices, mut counts) = (vec![zero; rows], vec![0; rows], vec![0; SHAPE.experts]);
    backend.router_forward(router::Forward {
        config: &config,
        tokens: TOKENS,
        logits: &logits,
        bias: None,
        selection_bias: None,
        keep: KeepMask::All,
        probs: &mut probs,
        weights: &mut weights,
        indices: &mut indices,
        counts: &mut counts,
        lse: &mut lse,
    })?;

    // The plan groups the slots by expert; from here on rows are in plan order.
    let plan = permutation::Shape { tokens: TOKENS, top_k: SHAPE.top_k, experts: SHAPE.experts };
    let (mut order, mut token, mut inverse) = (vec![0; rows], vec![0; rows], vec![0; rows]);
    let mut offsets = vec![0; SHAPE.experts + 1];
    backend.plan(permutation::Plan {
        shape: plan,
        indices: &indices,
        order: &mut order,
        token: &mut token,
        offsets: &mut offsets,
        inverse: &mut inverse,
    })?;

    let (mut pre, mut out) = (vec![zero; rows * SHAPE.pre()], vec![zero; rows * WIDTH]);
    backend.experts_forward(experts::Forward {
        shape: SHAPE,
        offsets: &offsets,
        token: &token,
        x: &x,
        w_in: &w_in,
        w_out: &w_out,
        pre: &mut pre,
        rows: &mut out,
        workspace: &mut vec![zero; backend.experts_workspace(SHAPE)],
    })?;

    let mut y = vec![zero; TOKENS * WIDTH];
    backend.combine_forward(permutation::Combine {
        shape: plan,
        width: WIDTH,
        inverse: &inverse,
        weights: &weights,
        rows: &out,
        y: &mut y,
        accumulate: false,
    })?;
    println!("{}: slots per expert {counts:?}", backend.describe());
    Ok(y.iter().map(|value| value.to_f64()).collect())
}

fn main() -> emo::Result<()> {
    let (fast, exact) = (layer(&Cpu::all_cores()?)?, layer(&Oracle)?);
    let worst = fast.iter().zip(&exact).map(|(fast, exact)| (fast - exact).abs()).fold(0.0, f64::max);
    println!("largest difference to the f64 specification: {worst:.1e}");
    assert!(worst < 1e-5);
    Ok(())
}
