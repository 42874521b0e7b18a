//! Settings that contradict each other. Every message names the keys and says what would fit.

use super::Config;
use super::sections::*;
use crate::error::{Error, Result};

/// `condition`, or the message as an error.
fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::Config(message())) }
}

fn positive(key: &str, value: usize) -> Result<()> {
    ensure(value > 0, || format!("`{key}` must be positive"))
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<()> {
    ensure((low..=high).contains(&value), || {
        format!("`{key}` must lie between {low} and {high}, found {value}")
    })
}

impl Config {
    /// Whether the settings fit together.
    ///
    /// # Errors
    /// [`Error::Config`] for the first contradiction.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        if self.mixture_layers().next().is_some() {
            positive("model.expert_width", self.model.expert_width)?;
            self.router.check()?;
        }
        self.losses.check()?;
        self.data.check()?;
        self.check_vocabulary()?;
        self.train.check()?;
        self.check_sizes()?;
        self.optimiser.check()?;
        within("schedule.final_fraction", self.schedule.final_fraction, 0.0, 1.0)?;
        within("schedule.decay_fraction", self.schedule.decay_fraction, 0.0, 1.0)?;
        self.run.check()
    }

    /// No product of sizes leaves the numbers of this machine, and no list is longer than a model is deep.
    fn check_sizes(&self) -> Result<()> {
        let (model, train) = (&self.model, &self.train);
        for (key, size, most) in [
            ("model.layers", model.layers, 1 << 16),
            ("model.width", model.width, 1 << 31),
            ("model.heads", model.heads, 1 << 31),
            ("model.kv_heads", model.kv_heads, 1 << 31),
            ("model.head_dim", model.head_dim, 1 << 31),
            ("model.expert_width", model.expert_width, 1 << 31),
            ("model.dense_width", model.dense_width, 1 << 31),
            ("model.vocabulary", model.vocabulary, 1 << 31),
            ("data.sequence", self.data.sequence, 1 << 31),
            ("train.batch", train.batch, 1 << 31),
        ] {
            ensure(size <= most, || format!("`{key}` must be at most {most}, found {size}"))?;
        }
        let tokens = train.steps.checked_mul(self.tokens_per_step()).filter(|&tokens| tokens < 1 << 63);
        ensure(tokens.is_some(), || {
            format!(
                "`train.steps = {}` steps of {} tokens are more than 2^63 tokens",
                train.steps,
                self.tokens_per_step()
            )
        })
    }

    fn check_vocabulary(&self) -> Result<()> {
        let bytes = crate::data::ByteTokenizer::VOCABULARY;
        let vocabulary = self.model.vocabulary;
        match self.data.source {
            Source::Random => ensure(vocabulary > 1, || {
                "`data.source = \"random\"` needs `model.vocabulary`, the number of different tokens".into()
            })?,
            Source::Shards => {
                let eos = self.data.eos.unwrap_or(0) as usize;
                ensure(eos < vocabulary, || {
                    format!("`model.vocabulary = {vocabulary}` has no room for the end-of-document id {eos}")
                })?;
            }
            Source::Registry | Source::Folder => ensure(vocabulary == 0 || vocabulary >= bytes, || {
                format!(
                    "`model.vocabulary = {vocabulary}` is too small for bytes as tokens; leave it out or give at least {bytes}"
                )
            })?,
        }
        ensure(self.data.source != Source::Random || self.validation.rows == 0, || {
            "`data.source = \"random\"` has no documents to validate on; set `validation.rows = 0`".into()
        })
    }
}

impl Model {
    fn check(&self) -> Result<()> {
        positive("model.width", self.width)?;
        positive("model.layers", self.layers)?;
        positive("model.heads", self.heads)?;
        ensure(self.head_dim > 0 || self.width.is_multiple_of(self.heads), || {
            format!(
                "`model.heads = {}` does not divide `model.width = {}`; change one of them or give `model.head_dim`",
                self.heads, self.width
            )
        })?;
        let head_dim = if self.head_dim > 0 { self.head_dim } else { self.width / self.heads };
        ensure(head_dim.is_multiple_of(2), || {
            format!(
                "a head has {head_dim} elements; rotary embedding needs an even number (`model.head_dim`)"
            )
        })?;
        ensure(self.kv_heads == 0 || self.heads.is_multiple_of(self.kv_heads), || {
            format!("`model.kv_heads = {}` does not divide `model.heads = {}`", self.kv_heads, self.heads)
        })?;
        for (position, layer) in self.dense_layers.iter().enumerate() {
            ensure(*layer < self.layers && !self.dense_layers[..position].contains(layer), || {
                format!(
                    "`model.dense_layers` names layer {layer}; layers are 0 to {}, each at most once",
                    self.layers - 1
                )
            })?;
        }
        ensure(self.dense_layers.is_empty() || self.dense_width > 0, || {
            "`model.dense_layers` needs `model.dense_width`, the width of a dense feed-forward block".into()
        })?;
        ensure(self.dense_layers.is_empty() || self.gated, || {
            "`model.gated = false` contradicts `model.dense_layers`: a dense feed-forward block is always gated".into()
        })?;
        ensure(self.rope_theta > 1.0 && self.rope_theta.is_finite(), || {
            format!("`model.rope_theta` must be above 1, found {}", self.rope_theta)
        })?;
        within("model.norm_eps", self.norm_eps, 0.0, 1.0)?;
        within("model.init_std", self.init_std, 0.0, 10.0)
    }
}

impl Router {
    fn check(&self) -> Result<()> {
        let Self { experts, top_k, shared, .. } = *self;
        positive("router.experts", experts)?;
        ensure(top_k <= experts, || {
            format!("`router.top_k = {top_k}` is more than there are experts, `router.experts = {experts}`")
        })?;
        ensure(top_k > shared, || {
            format!(
                "`router.top_k = {top_k}` counts the shared experts too, so it must be above `router.shared = {shared}`"
            )
        })?;
        ensure(shared < experts, || {
            format!("`router.shared = {shared}` leaves no routed expert of `router.experts = {experts}`")
        })?;
        ensure(self.temperature.is_finite() && self.temperature > 0.0, || {
            format!("`router.temperature` must be positive, found {}", self.temperature)
        })?;
        within("router.loss_free_rate", self.loss_free_rate, 0.0, 1.0)?;
        let (routed, routed_k) = (experts - shared, top_k - shared);
        ensure(self.always_active.len() <= routed_k, || {
            format!("`router.always_active` names more experts than a token has routed slots, {routed_k}")
        })?;
        for (position, &expert) in self.always_active.iter().enumerate() {
            ensure((expert as usize) < routed && !self.always_active[..position].contains(&expert), || {
                format!(
                    "`router.always_active` names expert {expert}; routed experts are 0 to {}",
                    routed - 1
                )
            })?;
        }
        self.check_pool(routed, routed_k)?;
        self.check_smoothing()
    }

    fn check_pool(&self, routed: usize, routed_k: usize) -> Result<()> {
        if self.pool == Pool::None {
            for (key, used) in [
                ("forced", self.pool_forced > 0),
                ("ramp", self.pool_ramp > 0),
                ("unpooled", self.pool_unpooled > 0.0),
                ("first_layer", self.pool_first_layer > 0),
                ("draw", self.pool_draw != PoolDraw::Layer),
            ] {
                ensure(!used, || format!("`router.pool_{key}` needs a pool, but `router.pool = \"none\"`"))?;
            }
            return Ok(());
        }
        within("router.pool_until", self.pool_until, 0.0, 1.0)?;
        within("router.pool_unpooled", self.pool_unpooled, 0.0, 1.0)?;
        let smallest = match self.pool {
            Pool::Uniform | Pool::LogUniform => {
                ensure(self.pool_min <= self.pool_max, || {
                    format!(
                        "`router.pool_min = {}` is above `router.pool_max = {}`",
                        self.pool_min, self.pool_max
                    )
                })?;
                ("router.pool_min", self.pool_min)
            }
            _ => ("router.pool_max", self.pool_max),
        };
        ensure(smallest.1 >= routed_k, || {
            format!(
                "`{} = {}` is smaller than the {routed_k} routed experts that a token uses (top_k - shared)",
                smallest.0, smallest.1
            )
        })?;
        ensure(smallest.1 <= routed, || {
            format!(
                "`{} = {}` is more than the {routed} routed experts, so no pool would ever leave one out; \
                 for an ordinary mixture of experts set `router.pool = \"none\"`",
                smallest.0, smallest.1
            )
        })?;
        ensure(self.pool_forced <= smallest.1, || {
            format!("`router.pool_forced = {}` does not fit in a pool of {}", self.pool_forced, smallest.1)
        })?;
        ensure(self.always_active.is_empty(), || {
            "`router.always_active` and document pools contradict each other: an always-active expert may lie outside \
             the pool. Use `router.pool_forced`, or `router.pool = \"none\"`"
                .into()
        })
    }

    fn check_smoothing(&self) -> Result<()> {
        if self.smoothing == Smoothing::None {
            return ensure(!self.smoothing_centred, || {
                "`router.smoothing_centred` needs taps, but `router.smoothing = \"none\"`; set it to \"fixed\" or \
                 \"learned\""
                    .into()
            });
        }
        let taps = self.smoothing_width;
        ensure((1..=9).contains(&taps), || {
            format!("`router.smoothing_width` must be 1 to 9 taps, found {taps}")
        })?;
        ensure(!self.smoothing_centred || taps % 2 == 1, || {
            format!("`router.smoothing_centred` needs an odd number of taps, found {taps}")
        })?;
        ensure(!self.smoothing_centred || taps == 1 || self.allow_noncausal, || {
            "`router.smoothing_centred = true` lets the routing of a token see the next one, which leaks the target of a \
             language model. Use causal taps, or say `router.allow_noncausal = true` if you know why"
                .into()
        })
    }
}

impl Losses {
    fn check(&self) -> Result<()> {
        for (key, weight) in [
            ("load_balance", self.load_balance),
            ("router_z", self.router_z),
            ("head_z", self.head_z),
            ("token_entropy", self.token_entropy),
            ("marginal_entropy", self.marginal_entropy),
            ("sequence_consistency", self.sequence_consistency),
            ("domain_consistency", self.domain_consistency),
            ("redundancy", self.redundancy),
        ] {
            ensure(weight.is_finite() && weight >= 0.0, || {
                format!("`losses.{key}` must be zero (off) or more, found {weight}")
            })?;
        }
        Ok(())
    }
}

impl Data {
    fn check(&self) -> Result<()> {
        ensure(self.sequence >= 2, || "`data.sequence` must be at least 2 tokens".into())?;
        within("data.valid_fraction", self.valid_fraction, 0.0, 0.5)?;
        let named = !self.path.as_os_str().is_empty();
        let shards = self.source == Source::Shards;
        ensure(shards || (self.mix.is_empty() && self.valid_path.as_os_str().is_empty()), || {
            "`data.mix` and `data.valid_path` are only read with `data.source = \"shards\"`".into()
        })?;
        ensure(shards || self.eos.is_none(), || {
            "`data.eos` is only for `data.source = \"shards\"`; leave it out".into()
        })?;
        self.mix.iter().try_for_each(Mix::check)?;
        let weights = self.mix.iter().filter(|source| source.weight > 0.0).count();
        ensure(weights == 0 || weights == self.mix.len(), || {
            "either every source of `data.mix` has a `weight`, or none has".into()
        })?;
        match self.source {
            Source::Shards => ensure(named == self.mix.is_empty(), || {
                "`data.source = \"shards\"` needs either `data.path` or sources in [[data.mix]]".into()
            }),
            Source::Folder => ensure(named, || "`data.source = \"folder\"` needs `data.path`".into()),
            Source::Registry | Source::Random => ensure(!named, || {
                format!(
                    "`data.path` = {} is only read with `data.source = \"folder\"`; set that or leave the path out",
                    self.path.display()
                )
            }),
        }
    }
}

impl Mix {
    fn check(&self) -> Result<()> {
        let path = self.path.display();
        ensure(!self.path.as_os_str().is_empty(), || "each [[data.mix]] needs a `path`".into())?;
        for (key, value) in
            [("weight", self.weight), ("epochs", self.epochs), ("max_epochs", self.max_epochs)]
        {
            ensure(value.is_finite() && value >= 0.0, || {
                format!("`{key}` of the source {path} must be zero or more, found {value}")
            })?;
        }
        ensure(self.weight == 0.0 || self.epochs == 0.0, || {
            format!("the source {path} has both `weight` and `epochs`; give one of them")
        })
    }
}

impl Train {
    fn check(&self) -> Result<()> {
        ensure(self.steps > 0, || "`train.steps` must be positive".into())?;
        positive("train.batch", self.batch)?;
        ensure(self.micro_batch == 0 || self.batch.is_multiple_of(self.micro_batch), || {
            format!(
                "`train.micro_batch = {}` does not divide `train.batch = {}`",
                self.micro_batch, self.batch
            )
        })?;
        ensure(!self.init_moments || !self.init.as_os_str().is_empty(), || {
            "`train.init_moments` needs `train.init`, the checkpoint whose moments to take".into()
        })?;
        ensure(!self.init_model || !self.init.as_os_str().is_empty(), || {
            "`train.init_model` needs `train.init`, the checkpoint whose model to train".into()
        })?;
        ensure(self.clip.is_finite() && self.clip >= 0.0, || {
            format!("`train.clip` must be zero (off) or more, found {}", self.clip)
        })
    }
}

impl Optimiser {
    fn check(&self) -> Result<()> {
        ensure(self.lr.is_finite() && self.lr >= 0.0, || {
            format!("`optimiser.lr` must be zero or more, found {}", self.lr)
        })?;
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure((0.0..1.0).contains(&beta), || {
                format!("`optimiser.{key}` must lie in [0, 1), found {beta}")
            })?;
        }
        within("optimiser.eps", self.eps, 0.0, 1.0)?;
        within("optimiser.weight_decay", self.weight_decay, 0.0, f64::MAX)
    }
}

impl Run {
    fn check(&self) -> Result<()> {
        positive("run.keep", self.keep)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure(self.name.chars().all(plain) && !self.name.starts_with('.'), || {
            format!("`run.name = \"{}\"` becomes a folder: letters, digits, '-', '_' and '.' only", self.name)
        })?;
        // TOML integers are signed, so a larger seed could not be written into the checkpoint.
        ensure(i64::try_from(self.seed).is_ok(), || "`run.seed` must be below 2^63".into())
    }
}
