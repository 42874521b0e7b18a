//! Document pools: every document chooses the experts its tokens may use.
//!
//! For document `D` with pool size `m` over `E_r` routed experts:
//! ```text
//! score[i] = Σ_{t in D} softmax(z[t, :E_r])_i                z the router's logits, gate bias and temperature applied
//! keep     = the last `forced` routed experts, then the best others by score until m are kept (ties: lower index)
//! ```
//! The forced experts count inside `m` and stay in even where `m` is smaller. `m >= E_r` keeps all. The choice carries no
//! gradient. A pool computed from a whole document looks ahead of each token: that is the method, in training only.
//!
//! Source: EMO, arXiv 2605.06663, §3.2-3.3, and the training code of its release.

use super::{add_scaled, softmax};

/// Which document an end-of-sequence token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EosRule {
    /// EOS is the last token of its document.
    EndsDocument,
    /// EOS is the first token of the next document, except at the start of a row, where it opens nothing new (the routing
    /// convention of the EMO release, `ai2-compat`).
    OpensNext,
}

/// Document `offsets[n + 1]` of `rows` packed rows of equal length, from token ids `[rows * S]`. A row's start is always a
/// boundary, and no document is empty.
pub fn segment_offsets_from_eos(ids: &[u32], rows: usize, eos: u32, rule: EosRule) -> Vec<u32> {
    let mut offsets = vec![0];
    if ids.is_empty() {
        return offsets;
    }
    let length = ids.len() / rows;
    for t in 1..ids.len() {
        let boundary = match rule {
            EosRule::EndsDocument => ids[t - 1] == eos,
            EosRule::OpensNext => ids[t] == eos,
        };
        if boundary || t % length == 0 {
            offsets.push(t as u32);
        }
    }
    offsets.push(ids.len() as u32);
    offsets
}

/// Document scores `[n, E_r]` from `logits[T, E]`, of which the first `routed` columns are used.
pub fn scores(logits: &[f64], experts: usize, routed: usize, offsets: &[u32]) -> Vec<f64> {
    let mut scores = vec![0.0; (offsets.len() - 1) * routed];
    for (document, score) in offsets.windows(2).zip(scores.chunks_exact_mut(routed)) {
        for t in document[0] as usize..document[1] as usize {
            add_scaled(score, 1.0, &softmax(&logits[t * experts..][..routed]).0);
        }
    }
    scores
}

/// Entropy `[n]` in nats of each document's scores `[n, E_r]` after division by their sum: `-Σ_i p_i ln p_i` with
/// `0 ln 0 = 0`, and 0 where all scores are 0. NaN where a score is NaN.
pub fn entropies(scores: &[f64], routed: usize) -> Vec<f64> {
    let entropy = |score: &[f64]| {
        let sum: f64 = score.iter().sum();
        let term = |s: &f64| if *s == 0.0 { 0.0 } else { -(s / sum) * (s / sum).ln() };
        score.iter().map(term).sum()
    };
    scores.chunks_exact(routed).map(entropy).collect()
}

/// Keep mask `[n, E_r]` (true = in the pool) from document scores `[n, E_r]`, one pool size a document and the number of
/// forced experts.
pub fn select(scores: &[f64], routed: usize, sizes: &[u32], forced: usize) -> Vec<bool> {
    let mut keep = Vec::new();
    for (score, size) in scores.chunks_exact(routed).zip(sizes) {
        let free = routed - forced;
        let places = (*size as usize).saturating_sub(forced);
        // Expert i is in when fewer than `places` free experts are ahead of it.
        let ahead_of = |i: usize| {
            (0..free).filter(|j| score[*j] > score[i] || (score[*j] == score[i] && *j < i)).count()
        };
        keep.extend((0..routed).map(|i| i >= free || ahead_of(i) < places));
    }
    keep
}

/// Keep mask `[n, E_r]` of every document: [`scores`], then [`select`].
pub fn forward(
    logits: &[f64],
    experts: usize,
    routed: usize,
    offsets: &[u32],
    sizes: &[u32],
    forced: usize,
) -> Vec<bool> {
    select(&scores(logits, experts, routed, offsets), routed, sizes, forced)
}

/// Keep mask a token, `[T, E_r]`, from the mask a document, `[n, E_r]`.
pub fn per_token(keep: &[bool], routed: usize, offsets: &[u32]) -> Vec<bool> {
    let mut tokens = Vec::new();
    for (document, keep) in offsets.windows(2).zip(keep.chunks_exact(routed)) {
        for _ in document[0]..document[1] {
            tokens.extend_from_slice(keep);
        }
    }
    tokens
}
