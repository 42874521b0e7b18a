//! Any [`Backend`] of the library on the kernel vectors.

use super::backend::KernelBackend;
use super::compare::Tolerance;
use super::device::{Held, hold, reals, segments, unset, unset_indices};
use emo::Backend;
use emo::backend::Real;
use emo::ops::router::{KeepMask, RouterConfig};
use emo::ops::{experts, grouped_gemm, losses, permutation, pool, router, router_logits, smoothing};
use emo::reference as spec;
use emo::reference::losses::{Loss, MutualInformation};
use emo::reference::permutation::Plan;
use emo::reference::pool::EosRule;
use emo::reference::smoothing::Filter;
use emo::reference::usage::Usage;

/// A backend under its name. What is no op of the backend (bookkeeping on the host) comes from the reference.
pub struct Ops<'b, B: Backend> {
    pub backend: &'b B,
    pub name: &'static str,
    pub tolerance: Tolerance,
}

fn bytes(keep: &[bool]) -> Vec<u8> {
    keep.iter().map(|keep| u8::from(*keep)).collect()
}

fn smoothing_shape(filter: &Filter, tokens: usize, channels: usize) -> smoothing::Shape {
    smoothing::Shape {
        tokens,
        channels,
        width: filter.width,
        ahead: filter.ahead,
        depthwise: filter.taps.len() != filter.width,
        renormalise: filter.renormalise,
    }
}

impl<B: Backend> Ops<'_, B> {
    fn reals<T: Real>(&self, values: &[f64]) -> Held<'_, B, T> {
        reals(self.backend, values)
    }
    fn zeros<T: Real>(&self, len: usize) -> Held<'_, B, T> {
        reals(self.backend, &vec![0.0; len])
    }
    fn unset<T: Real>(&self, len: usize) -> Held<'_, B, T> {
        unset(self.backend, len)
    }
    fn optional(&self, values: Option<&[f64]>) -> Option<Held<'_, B, B::Real>> {
        values.map(|values| self.reals(values))
    }

    /// `2 z lse = dlse` for all tokens.
    fn z_coefficient(lse: &[f64], dlse: &[f64]) -> f64 {
        let largest = (0..lse.len()).max_by(|&a, &b| lse[a].abs().total_cmp(&lse[b].abs()));
        let z = largest.filter(|&t| lse[t] != 0.0).map_or(0.0, |t| dlse[t] / (2.0 * lse[t]));
        for (lse, dlse) in lse.iter().zip(dlse) {
            assert!((dlse - 2.0 * z * lse).abs() <= 1e-6 * dlse.abs(), "not the gradient of a z-loss");
        }
        z
    }

    fn layer_shape(layer: &spec::moe::Layer, tokens: usize) -> experts::Shape {
        experts::Shape {
            tokens,
            top_k: layer.router.top_k,
            experts: layer.router.experts,
            width: layer.mlp.width,
            hidden: layer.mlp.hidden,
            gated: layer.mlp.gated,
            activation: layer.mlp.activation,
        }
    }
}

#[rustfmt::skip]
impl<B: Backend> KernelBackend for Ops<'_, B> {
    fn name(&self) -> &'static str { self.name }
    fn tolerance(&self) -> Tolerance { self.tolerance }

    fn router_forward(&self, cfg: &RouterConfig, logits: &[f64], bias: Option<&[f64]>, selection_bias: Option<&[f64]>, keep: Option<&[bool]>) -> spec::router::Output {
        let tokens = logits.len() / cfg.experts;
        let keep = keep.map(|keep| hold(self.backend, &bytes(keep)));
        let (bias, selection_bias) = (self.optional(bias), self.optional(selection_bias));
        let mut probs = self.unset(tokens * cfg.routed());
        let mut weights = self.unset(tokens * cfg.top_k);
        let mut indices = unset_indices(self.backend, tokens * cfg.top_k);
        let mut counts = unset_indices(self.backend, cfg.experts);
        let mut lse = self.unset(tokens);
        self.backend.router_forward(router::Forward {
            config: cfg,
            tokens,
            logits: self.reals(logits).all(),
            bias: bias.as_ref().map(Held::all),
            selection_bias: selection_bias.as_ref().map(Held::all),
            keep: keep.as_ref().map_or(KeepMask::All, |keep| KeepMask::PerToken(keep.all())),
            probs: probs.all_mut(),
            weights: weights.all_mut(),
            indices: indices.all_mut(),
            counts: counts.all_mut(),
            lse: lse.all_mut(),
        }).unwrap();
        spec::router::Output {
            probs: probs.reals(),
            weights: weights.reals(),
            indices: indices.get(),
            counts: counts.get().into_iter().map(u64::from).collect(),
            lse: lse.reals(),
        }
    }
    fn router_backward(&self, cfg: &RouterConfig, logits: &[f64], bias: Option<&[f64]>, keep: Option<&[bool]>, out: &spec::router::Output, dweights: &[f64], dprobs: &[f64], dlse: &[f64]) -> spec::router::Gradients {
        let tokens = logits.len() / cfg.experts;
        let keep = keep.map(|keep| hold(self.backend, &bytes(keep)));
        let bias = self.optional(bias);
        let (mut dlogits, mut dbias) = (self.unset(logits.len()), self.zeros(cfg.experts));
        self.backend.router_backward(router::Backward {
            config: cfg,
            tokens,
            logits: self.reals(logits).all(),
            bias: bias.as_ref().map(Held::all),
            keep: keep.as_ref().map_or(KeepMask::All, |keep| KeepMask::PerToken(keep.all())),
            probs: self.reals(&out.probs).all(),
            weights: self.reals(&out.weights).all(),
            indices: hold(self.backend, &out.indices).all(),
            lse: self.reals(&out.lse).all(),
            dweights: self.reals(dweights).all(),
            dprobs: Some(self.reals(dprobs).all()),
            z_coefficient: Self::z_coefficient(&out.lse, dlse),
            dlogits: dlogits.all_mut(),
            dbias: Some(dbias.all_mut()),
        }).unwrap();
        spec::router::Gradients { dlogits: dlogits.reals(), dbias: dbias.reals() }
    }
    fn load_balance(&self, counts: &[u64], probs: &[f64], scale: f64, divisor: f64, valid: Option<&[bool]>) -> Loss {
        let (routed, tokens) = (counts.len(), probs.len() / counts.len());
        let valid_tokens = valid.map_or(tokens, |valid| valid.iter().filter(|valid| **valid).count());
        let (mut dprobs, mut loss) = (self.zeros(probs.len()), hold(self.backend, &[0.0f64]));
        let valid = valid.map(|valid| hold(self.backend, &bytes(valid)));
        let coefficient = if divisor == 0.0 || valid_tokens == 0 { 0.0 } else { scale / divisor / valid_tokens as f64 };
        self.backend.load_balance(losses::LoadBalance {
            tokens,
            routed,
            coefficient,
            counts: self.reals(&counts.iter().map(|count| *count as f64).collect::<Vec<_>>()).all(),
            valid: valid.as_ref().map(Held::all),
            probs: self.reals(probs).all(),
            dprobs: dprobs.all_mut(),
            loss: loss.all_mut(),
        }).unwrap();
        Loss { loss: loss.get()[0], grad: dprobs.reals() }
    }
    fn load_balance_pooled(&self, indices: &[u32], probs: &[f64], layers: usize, k: usize, experts: usize, valid: Option<&[bool]>) -> Loss {
        let valid = valid.map(|valid| valid.repeat(layers));
        let counts = spec::losses::count_slots(indices, k, experts, valid.as_deref());
        let rows = probs.len() / experts;
        let tokens = valid.as_ref().map_or(rows, |valid| valid.iter().filter(|valid| **valid).count());
        self.load_balance(&counts, probs, experts as f64, tokens as f64, valid.as_deref())
    }
    fn router_z(&self, lse: &[f64], divisor: f64, valid: Option<&[bool]>) -> Loss {
        spec::losses::router_z(lse, divisor, valid)
    }
    fn mutual_information(&self, probs: &[f64], routed: usize, w_cond: f64, w_marg: f64, valid: Option<&[bool]>) -> MutualInformation {
        let tokens = probs.len() / routed;
        let valid = valid.map(|valid| hold(self.backend, &bytes(valid)));
        let run = |token_weight: f64, marginal_weight: f64| {
            let (mut dprobs, mut loss) = (self.zeros(probs.len()), hold(self.backend, &[0.0f64]));
            self.backend.mutual_information(losses::MutualInformation {
                tokens,
                routed,
                token_weight,
                marginal_weight,
                valid: valid.as_ref().map(Held::all),
                probs: self.reals(probs).all(),
                dprobs: dprobs.all_mut(),
                loss: loss.all_mut(),
            }).unwrap();
            (loss.get()[0], dprobs.reals())
        };
        let (loss, grad) = run(w_cond, w_marg);
        MutualInformation { loss, conditional_entropy: run(1.0, 0.0).0, marginal_entropy: -run(0.0, 1.0).0, grad }
    }
    fn usage(&self, counts: &[u64]) -> Usage {
        spec::usage::forward(counts)
    }
    fn smoothing_forward(&self, filter: &Filter, x: &[f64], channels: usize, offsets: &[u32]) -> Vec<f64> {
        let mut y = self.unset(x.len());
        self.backend.smoothing_forward(smoothing::Forward {
            shape: smoothing_shape(filter, x.len() / channels, channels),
            segments: segments(self.backend, offsets).all(),
            x: self.reals(x).all(),
            taps: self.reals(filter.taps).all(),
            y: y.all_mut(),
        }).unwrap();
        y.reals()
    }
    fn smoothing_backward(&self, filter: &Filter, x: &[f64], dy: &[f64], channels: usize, offsets: &[u32]) -> (Vec<f64>, Vec<f64>) {
        let (mut dx, mut dtaps) = (self.unset(x.len()), self.zeros(filter.taps.len()));
        self.backend.smoothing_backward(smoothing::Backward {
            shape: smoothing_shape(filter, x.len() / channels, channels),
            segments: segments(self.backend, offsets).all(),
            x: self.reals(x).all(),
            taps: self.reals(filter.taps).all(),
            dy: self.reals(dy).all(),
            dx: dx.all_mut(),
            dtaps: Some(dtaps.all_mut()),
        }).unwrap();
        (dx.reals(), dtaps.reals())
    }
    fn segment_offsets_from_eos(&self, ids: &[u32], rows: usize, eos: u32, rule: EosRule) -> Vec<u32> {
        spec::pool::segment_offsets_from_eos(ids, rows, eos, rule)
    }
    fn pool(&self, logits: &[f64], experts: usize, routed: usize, offsets: &[u32], sizes: &[u32], forced: usize) -> Vec<bool> {
        let rows = (offsets.len() - 1) * routed;
        let (mut keep, mut scores) = (hold(self.backend, &vec![7u8; rows]), self.unset(rows));
        self.backend.pool_keep(pool::Keep {
            tokens: logits.len() / experts,
            experts,
            routed,
            forced,
            segments: segments(self.backend, offsets).all(),
            logits: self.reals(logits).all(),
            bias: None,
            temperature: 1.0,
            sizes: hold(self.backend, sizes).all(),
            keep: keep.all_mut(),
            scores: scores.all_mut(),
            entropy: None,
        }).unwrap();
        keep.get().into_iter().map(|keep| keep == 1).collect()
    }
    fn plan(&self, indices: &[u32], k: usize, experts: usize) -> Plan {
        let rows = indices.len();
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(self.backend, rows));
        let mut offsets = unset_indices(self.backend, experts + 1);
        self.backend.plan(permutation::Plan {
            shape: permutation::Shape { tokens: rows.checked_div(k).unwrap_or(0), top_k: k, experts },
            indices: hold(self.backend, indices).all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: offsets.all_mut(),
            inverse: inverse.all_mut(),
        }).unwrap();
        Plan { order: order.get(), token: token.get(), offsets: offsets.get(), inverse: inverse.get() }
    }
    fn dispatch(&self, plan: &Plan, x: &[f64], d: usize) -> Vec<f64> {
        let mut rows = self.unset(plan.token.len() * d);
        self.backend.dispatch_forward(permutation::Dispatch {
            shape: plan_shape(plan, x.len() / d),
            width: d,
            token: hold(self.backend, &plan.token).all(),
            x: self.reals(x).all(),
            rows: rows.all_mut(),
        }).unwrap();
        rows.reals()
    }
    fn dispatch_backward(&self, plan: &Plan, drows: &[f64], d: usize, tokens: usize) -> Vec<f64> {
        let mut dx = self.unset(tokens * d);
        self.backend.dispatch_backward(permutation::DispatchBackward {
            shape: plan_shape(plan, tokens),
            width: d,
            inverse: hold(self.backend, &plan.inverse).all(),
            drows: self.reals(drows).all(),
            dx: dx.all_mut(),
        }).unwrap();
        dx.reals()
    }
    fn combine(&self, plan: &Plan, rows: &[f64], weights: &[f64], d: usize, tokens: usize) -> Vec<f64> {
        let mut y = self.unset(tokens * d);
        self.backend.combine_forward(permutation::Combine {
            shape: plan_shape(plan, tokens),
            width: d,
            inverse: hold(self.backend, &plan.inverse).all(),
            weights: self.reals(weights).all(),
            rows: self.reals(rows).all(),
            y: y.all_mut(),
            accumulate: false,
        }).unwrap();
        y.reals()
    }
    fn combine_backward(&self, plan: &Plan, rows: &[f64], weights: &[f64], dy: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
        let (mut drows, mut dweights) = (self.unset(rows.len()), self.unset(weights.len()));
        self.backend.combine_backward(permutation::CombineBackward {
            shape: plan_shape(plan, dy.len() / d),
            width: d,
            inverse: hold(self.backend, &plan.inverse).all(),
            weights: self.reals(weights).all(),
            rows: self.reals(rows).all(),
            dy: self.reals(dy).all(),
            drows: drows.all_mut(),
            dweights: dweights.all_mut(),
        }).unwrap();
        (drows.reals(), dweights.reals())
    }
    fn grouped_forward(&self, x: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64> {
        let shape = grouped_shape(offsets, k, n);
        let mut y = self.unset(shape.rows * n);
        self.backend.grouped_gemm_forward(grouped_gemm::Forward {
            shape,
            offsets: hold(self.backend, offsets).all(),
            x: self.reals(x).all(),
            gather: None,
            w: self.reals(w).all(),
            y: y.all_mut(),
            workspace: self.unset(self.backend.grouped_gemm_workspace(shape)).all_mut(),
        }).unwrap();
        y.reals()
    }
    fn grouped_dgrad(&self, dy: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64> {
        let shape = grouped_shape(offsets, k, n);
        let mut dx = self.unset(shape.rows * k);
        self.backend.grouped_gemm_dgrad(grouped_gemm::Dgrad {
            shape,
            offsets: hold(self.backend, offsets).all(),
            dy: self.reals(dy).all(),
            gather: None,
            w: self.reals(w).all(),
            dx: dx.all_mut(),
            workspace: self.unset(self.backend.grouped_gemm_workspace(shape)).all_mut(),
        }).unwrap();
        dx.reals()
    }
    fn grouped_wgrad(&self, x: &[f64], dy: &[f64], offsets: &[u32], k: usize, n: usize) -> Vec<f64> {
        let shape = grouped_shape(offsets, k, n);
        let mut dw = self.zeros(shape.groups * n * k);
        self.backend.grouped_gemm_wgrad(grouped_gemm::Wgrad {
            shape,
            offsets: hold(self.backend, offsets).all(),
            x: self.reals(x).all(),
            x_gather: None,
            dy: self.reals(dy).all(),
            dy_gather: None,
            dw: dw.all_mut(),
            workspace: self.unset(self.backend.grouped_gemm_workspace(shape)).all_mut(),
        }).unwrap();
        dw.reals()
    }
    fn moe_forward(&self, layer: &spec::moe::Layer, x: &[f64]) -> spec::moe::Output {
        let (cfg, d) = (layer.router, layer.mlp.width);
        let shape = Self::layer_shape(layer, x.len() / d);
        let mut logits = self.unset(shape.tokens * cfg.experts);
        self.backend.router_logits_forward(router_logits::Forward {
            shape: router_logits::Shape { tokens: shape.tokens, width: d, experts: cfg.experts },
            x: self.reals(x).all(),
            w: self.reals(layer.w_router).all(),
            logits: logits.all_mut(),
        }).unwrap();
        let logits = logits.reals();
        let routing = self.router_forward(cfg, &logits, layer.bias, layer.selection_bias, layer.keep);
        let plan = self.plan(&routing.indices, cfg.top_k, cfg.experts);
        let (mut pre, mut rows) = (self.unset(shape.rows() * shape.pre()), self.unset(shape.rows() * d));
        self.backend.experts_forward(experts::Forward {
            shape,
            offsets: hold(self.backend, &plan.offsets).all(),
            token: hold(self.backend, &plan.token).all(),
            x: self.reals(x).all(),
            w_in: self.reals(layer.w_in).all(),
            w_out: self.reals(layer.w_out).all(),
            pre: pre.all_mut(),
            rows: rows.all_mut(),
            workspace: self.unset(self.backend.experts_workspace(shape)).all_mut(),
        }).unwrap();
        let experts = spec::experts::Output { pre: pre.reals(), rows: rows.reals() };
        let y = self.combine(&plan, &experts.rows, &routing.weights, d, shape.tokens);
        spec::moe::Output { logits, routing, plan, experts, y }
    }
    fn moe_backward(&self, layer: &spec::moe::Layer, x: &[f64], out: &spec::moe::Output, dy: &[f64], aux: &spec::moe::AuxGradients) -> spec::moe::Gradients {
        let (cfg, d) = (layer.router, layer.mlp.width);
        let shape = Self::layer_shape(layer, x.len() / d);
        let (mut dx_rows, mut dweights) = (self.unset(shape.rows() * d), self.unset(shape.rows()));
        let (mut dw_in, mut dw_out) = (self.zeros(layer.w_in.len()), self.zeros(layer.w_out.len()));
        self.backend.experts_backward(experts::Backward {
            shape,
            offsets: hold(self.backend, &out.plan.offsets).all(),
            token: hold(self.backend, &out.plan.token).all(),
            order: hold(self.backend, &out.plan.order).all(),
            x: self.reals(x).all(),
            weights: self.reals(&out.routing.weights).all(),
            w_in: self.reals(layer.w_in).all(),
            w_out: self.reals(layer.w_out).all(),
            pre: self.reals(&out.experts.pre).all(),
            dy: self.reals(dy).all(),
            row_grad: None,
            dx_rows: dx_rows.all_mut(),
            dweights: dweights.all_mut(),
            dw_in: dw_in.all_mut(),
            dw_out: dw_out.all_mut(),
            workspace: self.unset(self.backend.experts_workspace(shape)).all_mut(),
        }).unwrap();
        let mut dx = self.reals(&self.dispatch_backward(&out.plan, &dx_rows.reals(), d, shape.tokens));
        let router = self.router_backward(cfg, &out.logits, layer.bias, layer.keep, &out.routing, &dweights.reals(), aux.dprobs, aux.dlse);
        let dlogits = self.reals(&router.dlogits);
        let mut dw_router = self.zeros(layer.w_router.len());
        self.backend.router_logits_backward(router_logits::Backward {
            shape: router_logits::Shape { tokens: shape.tokens, width: d, experts: cfg.experts },
            x: self.reals(x).all(),
            w: self.reals(layer.w_router).all(),
            dlogits: dlogits.all(),
            dx: dx.all_mut(),
            dw: dw_router.all_mut(),
        }).unwrap();
        spec::moe::Gradients {
            dx: dx.reals(),
            dw_router: dw_router.reals(),
            dbias: router.dbias,
            dw_in: dw_in.reals(),
            dw_out: dw_out.reals(),
        }
    }
}

fn plan_shape(plan: &Plan, tokens: usize) -> permutation::Shape {
    let top_k = plan.order.len().checked_div(tokens).unwrap_or(0);
    permutation::Shape { tokens, top_k, experts: plan.offsets.len() - 1 }
}

fn grouped_shape(offsets: &[u32], inputs: usize, outputs: usize) -> grouped_gemm::Shape {
    let rows = offsets.last().map_or(0, |last| *last as usize);
    grouped_gemm::Shape { groups: offsets.len() - 1, rows, inputs, outputs }
}
