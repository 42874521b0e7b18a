//! `router_*`: routing, its losses and their gradients; `lb_*` and `usage`.

use super::router_config;
use crate::common::backend::KernelBackend;
use crate::common::case::{Case, Outcome};

/// The two biases a router may have.
struct Biases<'a> {
    gate: Option<&'a [f64]>,
    selection: Option<&'a [f64]>,
}

/// `in_bias` is the one that the case's note names.
fn biases(case: &Case) -> Outcome<Biases<'_>> {
    let named = |name: &str| case.has(name).then(|| case.values(name)).transpose();
    let mut biases = Biases { gate: named("in_gate_bias")?, selection: named("in_selection_bias")? };
    if case.has("in_bias") {
        let note = case.param("note").and_then(|note| note.as_str()).unwrap_or_default();
        let place = match (note.contains("selection"), note.contains("gate") || note.contains("logit")) {
            (true, false) => &mut biases.selection,
            (false, true) => &mut biases.gate,
            _ => return Err(format!("the note {note:?} does not say which bias in_bias is")),
        };
        *place = Some(case.values("in_bias")?);
    }
    Ok(biases)
}

pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [tokens, experts] = case.shape("in_logits")?;
    case.sizes(&[("T", tokens)])?;
    let cfg = router_config(case, experts)?;
    let (routed, tolerance) = (cfg.routed(), backend.tolerance());
    let logits = case.values("in_logits")?;
    let Biases { gate, selection } = biases(case)?;
    // in_mask is true where a token may not go.
    let keep: Option<Vec<bool>> = match case.has("in_mask") {
        true => Some(case.values("in_mask")?.iter().map(|forbidden| *forbidden == 0.0).collect()),
        false => None,
    };
    let keep = keep.as_deref();
    let (no_dw, no_dp, no_dlse) =
        (vec![0.0; tokens * cfg.top_k], vec![0.0; tokens * routed], vec![0.0; tokens]);

    let out = backend.router_forward(&cfg, logits, gate, selection, keep);
    case.check(&tolerance, "out_probs", &out.probs)?;
    case.check(&tolerance, "out_weights", &out.weights)?;
    let reference_probs = case.values("out_probs")?;
    let swapped = case.check_choice(&tolerance, "out_indices", &out.indices, reference_probs, routed)?;
    let mut counts = out.counts.clone();
    if swapped.contains(&true) {
        // A near tie that f32 cannot see: the losses below are compared on the case's own counts.
        counts = case.values("out_counts")?.iter().map(|c| *c as u64).collect();
    }
    case.check_counts("out_counts", &counts)?;

    if case.has("in_dw") {
        let dw = case.values("in_dw")?;
        let grad = backend.router_backward(&cfg, logits, gate, keep, &out, dw, &no_dp, &no_dlse);
        case.check_rows(&tolerance, "out_grad_w", &grad.dlogits, &swapped)?;
    }
    if case.has("out_z_loss") {
        let z = backend.router_z(&out.lse, tokens as f64, None);
        case.check_scalar(&tolerance, "out_z_loss", z.loss)?;
        let grad = backend.router_backward(&cfg, logits, gate, keep, &out, &no_dw, &no_dp, &z.grad);
        case.check(&tolerance, "out_grad_z", &grad.dlogits)?;
    }
    let through_probs = |dprobs: &[f64]| {
        backend.router_backward(&cfg, logits, gate, keep, &out, &no_dw, dprobs, &no_dlse).dlogits
    };
    if case.has("out_lb_loss") {
        let scale = routed as f64 / cfg.routed_k() as f64;
        let balance = backend.load_balance(&counts[..routed], &out.probs, scale, tokens as f64, None);
        case.check_scalar(&tolerance, "out_lb_loss", balance.loss)?;
        if case.has("out_grad_lb") {
            case.check(&tolerance, "out_grad_lb", &through_probs(&balance.grad))?;
        }
    }
    if case.has("out_mi_loss") {
        let (w_cond, w_marg) = (case.number(&["w_cond"])?, case.number(&["w_marg"])?);
        let information = backend.mutual_information(&out.probs, routed, w_cond, w_marg, None);
        case.check_scalar(&tolerance, "out_mi_loss", information.loss)?;
        case.check_scalar(&tolerance, "out_h_cond", information.conditional_entropy)?;
        case.check_scalar(&tolerance, "out_h_marg", information.marginal_entropy)?;
        case.check(&tolerance, "out_grad_mi", &through_probs(&information.grad))?;
    }
    Ok(())
}

/// `lb_hf`: load balance over all layers pooled, with and without an attention mask `[B, S]`.
pub fn run_pooled_load_balance(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [layers, tokens, experts] = case.shape("in_logits")?;
    case.sizes(&[("layers", layers), ("T", tokens)])?;
    let cfg = router_config(case, experts)?;
    let (logits, tolerance) = (case.values("in_logits")?, backend.tolerance());
    let out = backend.router_forward(&cfg, logits, None, None, None);
    let mask: Vec<bool> = case.values("in_attention_mask")?.iter().map(|m| *m != 0.0).collect();
    for (valid, loss, grad) in
        [(None, "out_loss", "out_grad"), (Some(&mask[..]), "out_loss_masked", "out_grad_masked")]
    {
        let balance =
            backend.load_balance_pooled(&out.indices, &out.probs, layers, cfg.top_k, experts, valid);
        case.check_scalar(&tolerance, loss, balance.loss)?;
        let no_dw = vec![0.0; out.weights.len()];
        let no_dlse = vec![0.0; out.lse.len()];
        let dlogits =
            backend.router_backward(&cfg, logits, None, None, &out, &no_dw, &balance.grad, &no_dlse).dlogits;
        case.check(&tolerance, grad, &dlogits)?;
    }
    Ok(())
}

/// `usage`: how evenly experts are used.
pub fn run_usage(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let counts: Vec<u64> = case.indices("in_counts")?.into_iter().map(u64::from).collect();
    let (usage, tolerance) = (backend.usage(&counts), backend.tolerance());
    case.check_scalar(&tolerance, "out_max_over_mean", usage.max_over_mean)?;
    case.check_scalar(&tolerance, "out_cv", usage.coefficient_of_variation)?;
    case.check_scalar(&tolerance, "out_norm_entropy", usage.normalised_entropy)?;
    case.check_counts("out_dead", &[usage.dead as u64])
}
