//! `pool_*`: document pools, routing inside them, and the auxiliary losses of EMO training.

use super::{router_config, smoothing::packed_offsets};
use crate::common::backend::KernelBackend;
use crate::common::case::{Case, Outcome};
use emo::reference::pool::{EosRule, per_token};

pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [rows, length, experts] = case.shape("in_logits")?;
    case.sizes(&[("B", rows), ("S", length)])?;
    let cfg = router_config(case, experts)?;
    let (routed, tolerance) = (cfg.routed(), backend.tolerance());
    let logits = case.values("in_logits")?;
    let forced = case.optional_count(&["forced"])?.unwrap_or(0);
    if forced > routed {
        return Err(format!("{forced} forced experts of {routed}"));
    }

    let eos = case.count("eos")? as u32;
    let offsets = backend.segment_offsets_from_eos(&case.indices("in_ids")?, rows, eos, EosRule::OpensNext);
    let stated = packed_offsets(case.counts_by_row("exclusive_ends")?, rows, length)?;
    if offsets != stated {
        return Err(format!("documents at {offsets:?}, expected {stated:?}"));
    }
    let sizes = case.counts_by_row("pools")?.ok_or("parameter pools is missing")?.concat();
    if sizes.len() + 1 != offsets.len() {
        return Err(format!("{} pool sizes for {} documents", sizes.len(), offsets.len() - 1));
    }

    let keep = per_token(&backend.pool(logits, experts, routed, &offsets, &sizes, forced), routed, &offsets);
    let masked: Vec<f64> = keep.iter().map(|keep| f64::from(!keep)).collect();
    case.check_exact("out_mask", &masked)?;
    let out = backend.router_forward(&cfg, logits, None, None, Some(&keep));
    case.check(&tolerance, "out_probs", &out.probs)?;
    case.check(&tolerance, "out_weights", &out.weights)?;
    case.check_exact("out_indices", &out.indices)?;
    case.check_counts("out_counts", &out.counts)?;

    let divisor = case.number(&["div"])?;
    let (lb_weight, z_weight) = (case.number(&["lb_w"])?, case.number(&["z_w"])?);
    let scale = routed as f64 / cfg.routed_k() as f64;
    let balance = backend.load_balance(&out.counts[..routed], &out.probs, scale, divisor, None);
    let z = backend.router_z(&out.lse, divisor, None);
    case.check_scalar(&tolerance, "out_aux", lb_weight * balance.loss + z_weight * z.loss)?;

    let dprobs: Vec<f64> = balance.grad.iter().map(|g| lb_weight * g).collect();
    let dlse: Vec<f64> = z.grad.iter().map(|g| z_weight * g).collect();
    let dw = case.values("in_dw")?;
    let grad = backend.router_backward(&cfg, logits, None, Some(&keep), &out, dw, &dprobs, &dlse);
    case.check(&tolerance, "out_grad_logits", &grad.dlogits)
}
