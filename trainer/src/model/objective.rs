//! What is minimised: cross-entropy and the weighted losses on routing, with their normalisations.

use serde::{Deserialize, Serialize};

use super::config::Moe;
use super::inputs::Inputs;

/// Weights of all losses beside cross-entropy; 0 turns one off. docs/losses.md has the formulas.
///
/// Load balance, router z, sequence and domain consistency and redundancy are means over layers (`1/L`); the mutual
/// information terms are sums over layers, as in Ai2's code. Terms without the divisor `loss_tokens` are averaged over
/// the micro-batches of an optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// Load balance.
    pub load_balance: f64,
    /// Which counts and which normalisation the load balance uses.
    pub balance: Balance,
    /// Router z: `lse^2` of the kept logits.
    pub router_z: f64,
    /// Head z: `lse^2` of the vocabulary logits.
    pub head_z: f64,
    /// Mutual information: entropy of a token's scores, low.
    pub token_entropy: f64,
    /// Mutual information: entropy of the mean scores, high.
    pub marginal_entropy: f64,
    /// Adjacent tokens of a document route alike.
    pub sequence_consistency: f64,
    /// Documents of one domain route alike.
    pub domain_consistency: f64,
    /// Experts that compute alike.
    pub redundancy: f64,
}

/// Published forms of the load balance loss: counts and coefficient of the same op.
///
/// `E'` and `k'` leave out shared and always-active experts; `T` tokens of the micro-batch, `D` the loss divisor, `n`
/// valid tokens, `L` layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Counts of the whole optimiser step: `1/L E'/k' sum_i c_i mean_t p_ti / D`, the mean over the step's tokens.
    #[default]
    Step,
    /// Counts of the micro-batch: the same with the mean over the micro-batch (emo.md 3; `ai2-compat`).
    MicroBatch,
    /// `1/L_moe E'/k' sum_i (c_i / n) mean_t p_ti` over valid tokens (Hugging Face `emo`).
    PerLayer,
    /// `E sum_i f_i P_i`, tokens of all layers pooled (Hugging Face `olmoe`, `mixtral`, `qwen3_moe`, `flex_olmo`).
    Pooled,
}

impl Balance {
    /// Whether the counts leave out tokens that are not valid.
    pub fn counts_valid_only(self) -> bool {
        matches!(self, Self::PerLayer | Self::Pooled)
    }
}

/// What surrounds a layer, for the normalisations.
pub(crate) struct Setting {
    pub layers: usize,
    pub moe_layers: usize,
    pub tokens: usize,
    pub valid: usize,
    pub loss_tokens: f64,
    pub micro_batches: usize,
}

impl Setting {
    pub fn new(layers: usize, moe_layers: usize, inputs: &Inputs) -> Self {
        let tokens = inputs.tokens();
        Self {
            layers,
            moe_layers,
            tokens,
            valid: inputs
                .valid
                .as_ref()
                .map_or(tokens, |valid| valid.iter().filter(|&&keep| keep != 0).count()),
            loss_tokens: inputs.loss_tokens,
            micro_batches: inputs.micro_batches,
        }
    }
}

/// The weights of one layer's ops, normalisations included.
pub(crate) struct Coefficients {
    pub load_balance: f64,
    pub router_z: f64,
    pub token_entropy: f64,
    pub marginal_entropy: f64,
    pub sequence_consistency: f64,
    pub domain_consistency: f64,
    pub redundancy: f64,
}

impl Objective {
    pub(crate) fn coefficients(&self, moe: &Moe, setting: &Setting) -> Coefficients {
        let layers = setting.layers as f64;
        let micro_batches = setting.micro_batches as f64;
        let tokens = setting.tokens as f64;
        let valid = setting.valid.max(1) as f64;
        let experts = (moe.routed() - moe.always_active.len()) as f64;
        // A token whose every slot is always active leaves nothing to balance.
        let slots = (moe.top_k - moe.shared - moe.always_active.len()).max(1) as f64;
        let moe_layers = setting.moe_layers as f64;
        let normalisation = match self.balance {
            Balance::Step => experts / slots / (tokens * micro_batches) / setting.loss_tokens / layers,
            Balance::MicroBatch => experts / slots / tokens / setting.loss_tokens / layers,
            Balance::PerLayer => experts / slots / (valid * valid) / moe_layers,
            Balance::Pooled => experts / (moe_layers * valid).powi(2),
        };
        Coefficients {
            load_balance: self.load_balance * normalisation,
            router_z: self.router_z / setting.loss_tokens / layers,
            token_entropy: self.token_entropy / micro_batches,
            marginal_entropy: self.marginal_entropy / micro_batches,
            sequence_consistency: self.sequence_consistency / (layers * micro_batches),
            domain_consistency: self.domain_consistency / (layers * micro_batches),
            redundancy: self.redundancy / (layers * micro_batches),
        }
    }
}

/// Weighted values of one layer's losses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LayerLosses {
    /// Load balance.
    pub load_balance: f64,
    /// Router z.
    pub router_z: f64,
    /// Mutual information.
    pub mutual_information: f64,
    /// Sequence consistency.
    pub sequence_consistency: f64,
    /// Domain consistency.
    pub domain_consistency: f64,
    /// Redundancy.
    pub redundancy: f64,
}

impl LayerLosses {
    /// How many there are.
    pub(crate) const COUNT: usize = 6;

    /// The sum.
    pub fn total(&self) -> f64 {
        self.load_balance
            + self.router_z
            + self.mutual_information
            + self.sequence_consistency
            + self.domain_consistency
            + self.redundancy
    }
}

/// Values of one micro-batch, in the units of the objective: their sum over the micro-batches is the step's loss.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Losses {
    /// Sum of the cross-entropies over `loss_tokens`, in nats.
    pub cross_entropy: f64,
    /// Head z-loss, weighted.
    pub head_z: f64,
    /// For each layer with experts, in order.
    pub layers: Vec<LayerLosses>,
}

impl Losses {
    /// The whole objective.
    pub fn total(&self) -> f64 {
        self.cross_entropy + self.head_z + self.auxiliary()
    }

    /// The losses on routing.
    pub fn auxiliary(&self) -> f64 {
        self.layers.iter().map(LayerLosses::total).sum()
    }
}
