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
/// A tenth of the preset's weight.
const LIGHT_BALANCE: &str = "losses.load_balance=0.01";
/// As in the release: a token's weights are the scores themselves.
const RAW: &str = "router.normalise=\"none\"";
/// Experts of twice the width.
const WIDE: &str = "model.expert_width=64";
/// Causal box filter over three tokens.
const SMOOTHED: [&str; 2] = ["router.smoothing=\"fixed\"", "router.smoothing_width=3"];

/// All arms, baselines first.
pub const ARMS: [Arm; 13] = [
    Arm {
        name: "dense",
        about: "the 4 active experts of width 32 as one block of 128",
        set: &[
            "model.dense_layers=[0,1,2,3]",
            "model.dense_width=128",
            "losses.load_balance=0",
            "losses.router_z=0",
        ],
        seeds: 3,
        subsets: Subsets::None,
        quick: true,
    },
    Arm {
        name: "standard",
        about: "a mixture of experts without document pools",
        set: &[NO_POOL],
        seeds: 3,
        subsets: Subsets::All,
        quick: true,
    },
    Arm {
        name: "emo",
        about: "document pools, drawn uniformly from 4 to all 63 routed experts",
        set: &[],
        seeds: 3,
        subsets: Subsets::All,
        quick: true,
    },
    Arm {
        name: "standard-8",
        about: "a mixture trained at the memory of the 12.5 % subset: 8 experts",
        set: &[NO_POOL, "router.experts=8"],
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
        set: &[NO_POOL, SMOOTHED[0], SMOOTHED[1]],
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
        name: "emo-redundancy",
        about: "experts that compute alike are penalised",
        set: &["losses.redundancy=0.01"],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
    Arm {
        name: "emo-small",
        about: "more small pools: log-uniform from 4 to all routed experts, half of them below 17",
        set: &[LOG_UNIFORM],
        seeds: 1,
        subsets: Subsets::Curve,
        quick: false,
    },
];

/// A recipe of the sweep: a change of the preset.
const fn recipe(name: &'static str, about: &'static str, set: &'static [&'static str]) -> Arm {
    Arm { name, about, set, seeds: 1, subsets: Subsets::Curve, quick: false }
}

/// The recipes of the sweep. Where one is of the pools alone, its standard mixture is the first row; where it is of more, the
/// standard mixture was given the same.
pub const SWEEP: [Arm; 14] = [
    recipe("standard", "the preset without pools", &[NO_POOL]),
    recipe("emo", "the preset: pools uniform from 4 to all 63 routed experts", &[]),
    recipe("emo-small", "log-uniform from 4: half of the pools below 17", &[LOG_UNIFORM]),
    recipe("emo-until", "the last 15 % of the steps without pools", &["router.pool_until=0.85"]),
    recipe("emo-min-10", "uniform from 10", &["router.pool_min=10"]),
    recipe("standard-balance", "a tenth of the weight on load balance", &[NO_POOL, LIGHT_BALANCE]),
    recipe("emo-balance", "the same", &[LIGHT_BALANCE]),
    recipe("standard-raw", "weights of the chosen experts not divided by their sum", &[NO_POOL, RAW]),
    recipe("standard-wide", "experts of width 64", &[NO_POOL, WIDE]),
    recipe("emo-wide", "the same", &[WIDE]),
    recipe("standard-wide-raw", "experts of width 64, weights not divided by their sum", &[NO_POOL, WIDE, RAW]),
    recipe("emo-wide-raw", "the same", &[WIDE, RAW]),
    recipe("emo-wide-raw-half", "and half of the documents without pools", &[WIDE, RAW, "router.pool_unpooled=0.5"]),
    recipe("emo-wide-raw-until", "and the last 15 % of the steps without", &[WIDE, RAW, "router.pool_until=0.85"]),
];
