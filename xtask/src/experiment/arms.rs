//! What is trained: one model and its baselines, each a change of the preset `modularity`.

/// A way of training, compared with the others at the same data order, document masking, optimiser and active parameters.
pub struct Arm {
    /// Name of its runs' folders and in tables.
    pub name: &'static str,
    /// What sets it apart.
    pub about: &'static str,
    /// Settings over the preset.
    pub set: &'static [&'static str],
    /// Seeds of the whole experiment.
    pub seeds: u64,
    /// How much is measured on its subsets.
    pub subsets: Subsets,
    /// Whether `--quick` trains it.
    pub quick: bool,
}

/// How much is measured on subsets of an arm's experts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subsets {
    /// It has no experts.
    None,
    /// Layer-wise selection from five documents.
    Curve,
    /// Every method from 1, 5 and 100 documents, and tuning, for the first seed; the curve for the others.
    All,
}

/// No document pools: an ordinary mixture of experts.
const NO_POOL: &str = "router.pool=\"none\"";
/// Half of the pools below 17 experts.
const LOG_UNIFORM: &str = "router.pool=\"log_uniform\"";
/// The weight that suits standard mixtures, ten times the preset's.
const BALANCED: &str = "losses.load_balance=0.1";
/// The last steps without pools.
const UNTIL_85: &str = "router.pool_until=0.85";
/// Half of the documents without pools.
const HALF: &str = "router.pool_unpooled=0.5";
/// As in the release: a token's weights are the scores themselves.
const RAW: &str = "router.normalise=\"none\"";
/// Experts of twice the width.
const WIDE: &str = "model.expert_width=64";
/// No loss on experts that compute alike, as in the release.
pub const PLAIN: &str = "losses.redundancy=0";
/// The preset's loss on them.
const APART: &str = "losses.redundancy=0.01";
/// Twice the steps of the sweep: the experiment's.
pub const LONG: &str = "train.steps=3000";
/// Causal box filter over three tokens.
const SMOOTHED: [&str; 2] = ["router.smoothing=\"fixed\"", "router.smoothing_width=3"];

/// All arms, baselines first.
pub const ARMS: [Arm; 12] = [
    Arm {
        name: "dense",
        about: "the 4 active experts of width 32 as one block of 128",
        set: &[
            "model.dense_layers=[0,1,2,3]",
            "model.dense_width=128",
            "losses.load_balance=0",
            "losses.router_z=0",
            PLAIN,
        ],
        seeds: 3,
        subsets: Subsets::None,
        quick: true,
    },
    Arm {
        name: "standard",
        about: "a mixture of experts without document pools, load balance 0.1",
        set: &[NO_POOL, BALANCED],
        seeds: 3,
        subsets: Subsets::All,
        quick: true,
    },
    Arm {
        name: "emo",
        about: "document pools, drawn uniformly from 4 to all 63 routed experts, load balance 0.01",
        set: &[],
        seeds: 3,
        subsets: Subsets::All,
        quick: true,
    },
    Arm {
        name: "standard-8",
        about: "a mixture trained at the memory of the 12.5 % subset: 8 experts",
        set: &[NO_POOL, BALANCED, "router.experts=8"],
        seeds: 1,
        subsets: Subsets::None,
        quick: false,
    },
    Arm {
        name: "emo-fixed",
        about: "pools of 16 routed experts, always",
        set: &["router.pool=\"fixed\"", "router.pool_max=16"],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "emo-micro-batch",
        about: "load balanced within micro-batches of 2 rows instead of the whole step",
        set: &["train.micro_batch=2", "losses.load_balance_scope=\"micro_batch\""],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "smoothed",
        about: "no pools; router logits smoothed over the last three tokens",
        set: &[NO_POOL, BALANCED, SMOOTHED[0], SMOOTHED[1]],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "smoothed-unbalanced",
        about: "the same without load balance",
        set: &[NO_POOL, SMOOTHED[0], SMOOTHED[1], "losses.load_balance=0"],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "emo-smoothed",
        about: "pools and smoothing",
        set: &SMOOTHED,
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "emo-domains",
        about: "documents of one domain are asked to route alike",
        set: &["losses.domain_consistency=0.01"],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "emo-entropy",
        about: "a token's scores sharp, the mean scores flat",
        set: &["losses.token_entropy=0.01", "losses.marginal_entropy=0.01"],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "emo-plain",
        about: "without the loss on experts that compute alike, which all other mixtures have",
        set: &[PLAIN],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
];

/// A recipe of the sweep: a change of the preset.
const fn recipe(name: &'static str, about: &'static str, set: &'static [&'static str]) -> Arm {
    Arm { name, about, set, seeds: 1, subsets: Subsets::Curve, quick: false }
}

/// The recipes of the sweep, at the weights of load balance that suit each kind: 0.1 for standard mixtures, 0.01 for EMO. The best
/// again with twice the steps. All are [`PLAIN`] unless they say otherwise.
pub const SWEEP: [Arm; 22] = [
    recipe("standard", "no pools, load balance 0.1", &[NO_POOL, BALANCED]),
    recipe("standard-light", "no pools, load balance 0.01", &[NO_POOL]),
    recipe("emo", "pools uniform from 4 to all 63 routed experts, load balance 0.01", &[]),
    recipe("emo-lighter", "load balance 0.003", &["losses.load_balance=0.003"]),
    recipe("emo-until", "the last tenth of the steps without pools", &["router.pool_until=0.9"]),
    recipe("emo-balanced", "load balance 0.1", &[BALANCED]),
    recipe("emo-balanced-small", "and half of the pools below 17", &[BALANCED, LOG_UNIFORM]),
    recipe("emo-balanced-until", "and the last 15 % of the steps without pools", &[BALANCED, UNTIL_85]),
    recipe(
        "standard-raw",
        "weights of the chosen experts not divided by their sum",
        &[NO_POOL, BALANCED, RAW],
    ),
    recipe("standard-wide", "experts of width 64", &[NO_POOL, BALANCED, WIDE]),
    recipe("emo-wide", "the same, load balance 0.1", &[BALANCED, WIDE]),
    recipe("standard-wide-raw", "weights not divided by their sum", &[NO_POOL, BALANCED, WIDE, RAW]),
    recipe("emo-wide-raw", "the same, load balance 0.1", &[BALANCED, WIDE, RAW]),
    recipe("emo-wide-raw-half", "half of the documents without pools", &[BALANCED, WIDE, RAW, HALF]),
    recipe("emo-wide-raw-until", "the last 15 % of the steps without", &[BALANCED, WIDE, RAW, UNTIL_85]),
    recipe("standard-long", "3000 steps: no pools, load balance 0.1", &[NO_POOL, BALANCED, LONG]),
    recipe("standard-light-long", "3000 steps: no pools, load balance 0.01", &[NO_POOL, LONG]),
    recipe("emo-long", "3000 steps: pools uniform from 4 to all, load balance 0.01", &[LONG]),
    recipe("emo-until-long", "3000 steps: the last tenth without pools", &["router.pool_until=0.9", LONG]),
    recipe("emo-small-long", "3000 steps: half of the pools below 17", &[LOG_UNIFORM, LONG]),
    recipe(
        "standard-apart-long",
        "3000 steps: `standard-long` with a loss on experts that compute alike, 0.01",
        &[NO_POOL, BALANCED, APART, LONG],
    ),
    recipe("emo-apart-long", "3000 steps: `emo-long` with the same loss", &[APART, LONG]),
];
