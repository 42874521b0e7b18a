//! Auxiliary losses of the router and the experts, each with its gradient.
//!
//! Every function returns the loss with weight 1 and its gradient with respect to what it looked at (scores, logsumexp,
//! expert outputs); the caller multiplies both by the loss's weight. `valid[T]` leaves tokens out of every sum and every
//! mean; without it all tokens count. A loss over nothing (no token, no pair) is 0 with gradient 0.
//!
//! | loss | low when |
//! |---|---|
//! | [`load_balance`] | experts share the tokens evenly |
//! | [`router_z`] | router logits stay small |
//! | [`mutual_information`] | each token is sure of its experts, all experts are used |
//! | [`sequence_consistency`] | adjacent tokens of a document route alike |
//! | [`domain_consistency`] | documents of one domain route alike |
//! | [`redundancy`] | experts chosen together compute different things |

mod balance;
mod consistency;
mod information;
mod redundancy;

pub use balance::{count_slots, load_balance, load_balance_pooled, router_z};
pub use consistency::{domain_consistency, sequence_consistency};
pub use information::{MutualInformation, mutual_information};
pub use redundancy::redundancy;

/// A loss and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The loss, with weight 1.
    pub loss: f64,
    /// Its gradient, shaped as the tensor the loss looks at.
    pub grad: Vec<f64>,
}

/// The tokens that count, in order.
fn valid_tokens(tokens: usize, valid: Option<&[bool]>) -> Vec<usize> {
    (0..tokens).filter(|t| valid.is_none_or(|valid| valid[*t])).collect()
}

/// The mean over `members` of the rows of `probs[T, E_r]`; zeros where there are none.
fn mean_row(probs: &[f64], routed: usize, members: &[usize]) -> Vec<f64> {
    let mut mean = vec![0.0; routed];
    for t in members {
        super::add_scaled(&mut mean, 1.0 / members.len() as f64, &probs[t * routed..][..routed]);
    }
    mean
}
