//! Consistency of routing inside a document and inside a domain. Both are our own, without a published source.

use super::{Loss, mean_row, valid_tokens};

/// Sequence consistency: `L = (1/N) Σ |p_t - p_(t-1)|²` over the `N` pairs of adjacent tokens that lie in one document and
/// are both valid.
///
/// `probs[T, E_r]`, document `offsets[n + 1]`. Gradient: `dL/dp_t = (2/N) [(p_t - p_(t-1)) + (p_t - p_(t+1))]`, each term
/// where its pair counts.
pub fn sequence_consistency(probs: &[f64], routed: usize, offsets: &[u32], valid: Option<&[bool]>) -> Loss {
    let counts = |t: usize| valid.is_none_or(|valid| valid[t]);
    let pairs: Vec<usize> = offsets
        .windows(2)
        .flat_map(|document| document[0] as usize + 1..document[1] as usize)
        .filter(|t| counts(*t) && counts(t - 1))
        .collect();
    let (mut loss, mut grad) = (0.0, vec![0.0; probs.len()]);
    for t in &pairs {
        for e in 0..routed {
            let (at, before) = (t * routed + e, (t - 1) * routed + e);
            let step = probs[at] - probs[before];
            loss += step * step / pairs.len() as f64;
            grad[at] += 2.0 * step / pairs.len() as f64;
            grad[before] -= 2.0 * step / pairs.len() as f64;
        }
    }
    Loss { loss, grad }
}

/// Domain consistency: `L = (1/N) Σ_D n_D |q_D - Q_g(D)|²`, where `q_D` is the mean score over the `n_D` valid tokens of
/// document `D`, `Q_g` the mean over all valid tokens of the batch whose document belongs to domain `g`, and `N = Σ_D n_D`.
///
/// It asks documents of one domain to use the same experts, whichever they are: none is assigned by hand. A domain with one
/// document adds 0. `probs[T, E_r]`, document `offsets[n + 1]`, `domains[n]`.
///
/// Gradient: `dL/dp_t = (2/N) (q_D - Q_g)` for a valid token `t` of `D`. That is exact: the path through `Q_g` is
/// `-(2/N) Σ_{D in g} n_D (q_D - Q_g)`, which is 0 because `Q_g` is the token-weighted mean of the `q_D`.
pub fn domain_consistency(
    probs: &[f64],
    routed: usize,
    offsets: &[u32],
    domains: &[u32],
    valid: Option<&[bool]>,
) -> Loss {
    let valid = valid_tokens(probs.len() / routed, valid);
    let members = |document: usize| -> Vec<usize> {
        let range = offsets[document] as usize..offsets[document + 1] as usize;
        valid.iter().copied().filter(|t| range.contains(t)).collect()
    };
    let total: usize = (0..domains.len()).map(|document| members(document).len()).sum();
    let (mut loss, mut grad) = (0.0, vec![0.0; probs.len()]);
    for (document, domain) in domains.iter().enumerate() {
        let own = members(document);
        let peers: Vec<usize> =
            (0..domains.len()).filter(|other| domains[*other] == *domain).flat_map(members).collect();
        let (own_mean, domain_mean) = (mean_row(probs, routed, &own), mean_row(probs, routed, &peers));
        for e in 0..routed {
            let distance = own_mean[e] - domain_mean[e];
            loss += own.len() as f64 * distance * distance / total.max(1) as f64;
            for t in &own {
                grad[t * routed + e] = 2.0 * distance / total as f64;
            }
        }
    }
    Loss { loss, grad }
}
