//! `moe_*`: the whole layer and the gradient of every parameter.

use super::router_config;
use crate::common::backend::KernelBackend;
use crate::common::case::{Case, Outcome};
use emo::ops::activation::Activation;
use emo::reference::experts::Mlp;
use emo::reference::moe::{AuxGradients, Layer};

/// Weights of load balance and of z on raw logits, from the objective a case writes out, such as
/// `objective = sum(y*dy) + 0.01*lb_loss_olmo + 0.001*z_loss(raw logits)`.
fn auxiliary_weights(case: &Case) -> Outcome<(f64, f64)> {
    let objective = case.param("aux").and_then(|aux| aux.as_str()).ok_or("parameter aux is missing")?;
    let (mut lb, mut z) = (0.0, 0.0);
    for term in objective.trim_start_matches("objective =").split('+').map(str::trim) {
        let unknown = || format!("the term {term:?} of aux is unknown");
        match term.split_once('*') {
            _ if term == "sum(y*dy)" => {}
            Some((weight, "lb_loss_olmo")) => lb = weight.parse().map_err(|_| unknown())?,
            Some((weight, "z_loss(raw logits)")) => z = weight.parse().map_err(|_| unknown())?,
            _ => return Err(unknown()),
        }
    }
    Ok((lb, z))
}

fn activation(case: &Case) -> Outcome<Activation> {
    match case.param("kind").and_then(|kind| kind.as_str()) {
        Some("silu") => Ok(Activation::Silu),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_tanh") => Ok(Activation::GeluTanh),
        Some("relu") => Ok(Activation::Relu),
        Some("relu2" | "relu_squared") => Ok(Activation::ReluSquared),
        _ => Err(format!("activation kind {} is unknown", case.params["kind"])),
    }
}

/// `[E, h, d]` gate and up weights as one `[E, 2h, d]`: each expert's gate rows, then its up rows.
fn interleaved(gate: &[f64], up: &[f64], block: usize) -> Vec<f64> {
    gate.chunks_exact(block).zip(up.chunks_exact(block)).flat_map(|(gate, up)| [gate, up].concat()).collect()
}

/// The other way round: gate or up rows of `[E, 2h, d]`.
fn half(w_in: &[f64], block: usize, second: bool) -> Vec<f64> {
    w_in.chunks_exact(block).skip(usize::from(second)).step_by(2).flatten().copied().collect()
}

pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [tokens, d] = case.shape("in_x")?;
    let [experts, h, _] = case.shape("in_w1")?;
    case.sizes(&[("T", tokens), ("d", d), ("h", h)])?;
    let cfg = router_config(case, experts)?;
    let (routed, tolerance) = (cfg.routed(), backend.tolerance());
    let gated = case.param("gated").and_then(|gated| gated.as_bool()).ok_or("parameter gated is missing")?;
    let (lb_weight, z_weight) = auxiliary_weights(case)?;

    // in_w1 is the gate (or the only) projection, in_w3 the up and in_w2 the down projection.
    let w_in = match gated {
        true => interleaved(case.values("in_w1")?, case.values("in_w3")?, h * d),
        false => case.values("in_w1")?.to_vec(),
    };
    let layer = Layer {
        router: &cfg,
        mlp: Mlp { activation: activation(case)?, gated, width: d, hidden: h },
        w_router: case.values("in_wr")?,
        bias: None,
        selection_bias: None,
        keep: None,
        w_in: &w_in,
        w_out: case.values("in_w2")?,
    };
    let (x, dy) = (case.values("in_x")?, case.values("in_dy")?);
    let out = backend.moe_forward(&layer, x);
    case.check(&tolerance, "out_logits", &out.logits)?;
    case.check(&tolerance, "out_probs", &out.routing.probs)?;
    case.check(&tolerance, "out_weights", &out.routing.weights)?;
    case.check_exact("out_indices", &out.routing.indices)?;
    case.check_counts("out_counts", &out.routing.counts)?;
    case.check(&tolerance, "out_y", &out.y)?;
    if let Some(force) = case.optional_count(&["force"])?
        && out.routing.counts.get(force) != Some(&(tokens as u64))
    {
        return Err(format!("force = {force}, but the counts are {:?}", out.routing.counts));
    }

    let scale = routed as f64 / cfg.routed_k() as f64;
    let counts = &out.routing.counts[..routed];
    let balance = backend.load_balance(counts, &out.routing.probs, scale, tokens as f64, None);
    let z = backend.router_z(&out.routing.lse, tokens as f64, None);
    case.check_scalar(&tolerance, "out_aux", lb_weight * balance.loss + z_weight * z.loss)?;

    let dprobs: Vec<f64> = balance.grad.iter().map(|g| lb_weight * g).collect();
    let dlse: Vec<f64> = z.grad.iter().map(|g| z_weight * g).collect();
    let aux = AuxGradients { dprobs: &dprobs, dlse: &dlse };
    let grad = backend.moe_backward(&layer, x, &out, dy, &aux);
    case.check(&tolerance, "out_grad_x", &grad.dx)?;
    case.check(&tolerance, "out_grad_wr", &grad.dw_router)?;
    case.check(&tolerance, "out_grad_w2", &grad.dw_out)?;
    if gated {
        case.check(&tolerance, "out_grad_w1", &half(&grad.dw_in, h * d, false))?;
        case.check(&tolerance, "out_grad_w3", &half(&grad.dw_in, h * d, true))
    } else {
        case.check(&tolerance, "out_grad_w1", &grad.dw_in)
    }
}
