//! Cross-entropy with z-loss over one chunk of logits, forward and backward in one pass.

use super::check::{length, require};
use crate::Result;
use crate::backend::{Backend, StoredMut, ViewMut};

/// The target value of a token that has no loss.
pub const IGNORE: i32 = -100;

/// `loss_t = lse_t - z_t[target]`, `z_t^2 = lse_t^2`, and in place
/// `logits <- scale * (softmax - onehot) + 2 * z_weight * scale * lse * softmax`; rows whose target is [`IGNORE`] become 0.
///
/// A caller who loops over chunks never stores all logits. Source: emo.md 1.6.
pub struct ForwardBackward<'a, B: Backend> {
    /// Rows of this chunk.
    pub rows: usize,
    /// Columns (vocabulary).
    pub vocabulary: usize,
    /// `[rows]`: target ids below `vocabulary`, or [`IGNORE`].
    pub targets: B::View<'a, i32>,
    /// What every row's gradient is multiplied with: 1 / loss tokens of the optimiser step.
    pub scale: f64,
    /// Weight of `lse^2` (LM-head z-loss); 0 turns it off.
    pub z_weight: f64,
    /// Logits `[rows, vocabulary]`, replaced by their gradient where `backward`.
    pub logits: StoredMut<'a, B>,
    /// Whether to replace the logits by their gradient.
    pub backward: bool,
    /// Output `[rows]`: cross-entropy in nats, 0 where ignored. Without `scale`.
    pub loss: ViewMut<'a, B>,
    /// Output `[rows]`: log-sum-exp, 0 where ignored.
    pub lse: ViewMut<'a, B>,
}

impl<B: Backend> ForwardBackward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "cross_entropy";
        require(self.vocabulary > 0, OP, "vocabulary", "positive", self.vocabulary)?;
        length(OP, "targets", &self.targets, &[self.rows])?;
        length(OP, "logits", &self.logits, &[self.rows, self.vocabulary])?;
        length(OP, "loss", &self.loss, &[self.rows])?;
        length(OP, "lse", &self.lse, &[self.rows])
    }
}
