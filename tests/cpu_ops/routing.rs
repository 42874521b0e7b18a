//! Router logits, smoothing, pools and the router.

use crate::agree::{Call, Outputs, values, widen};
use crate::device::{Held, HeldSegments, hold, reals, segments, unset, unset_indices};
use crate::machines::agree;
use crate::shapes::{self, Routing, Size, documents, routings};
use emo::Backend;
use emo::ops::router::{KeepMask, Normalise, RouterConfig, Score, SharedWeight};
use emo::ops::{pool, router, router_logits, smoothing};

struct Logits(router_logits::Shape);

impl Call for Logits {
    fn name(&self) -> String {
        format!("router logits {:?}", self.0)
    }
    fn terms(&self) -> f64 {
        self.0.tokens.max(self.0.experts) as f64 / 4.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let shape = self.0;
        let router_logits::Shape { tokens, width, experts } = shape;
        let (x, w) = (reals(b, &values(tokens * width, 1)), reals(b, &values(experts * width, 2)));
        let mut logits = unset(b, tokens * experts);
        b.router_logits_forward(router_logits::Forward {
            shape,
            x: x.all(),
            w: w.all(),
            logits: logits.all_mut(),
        })
        .unwrap();
        let (mut dx, mut dw) = (reals(b, &values(tokens * width, 3)), reals(b, &values(experts * width, 4)));
        b.router_logits_backward(router_logits::Backward {
            shape,
            x: x.all(),
            w: w.all(),
            dlogits: reals(b, &values(tokens * experts, 5)).all(),
            dx: dx.all_mut(),
            dw: dw.all_mut(),
        })
        .unwrap();
        vec![("logits", logits.reals()), ("dx", dx.reals()), ("dw", dw.reals())]
    }
}

#[test]
fn logits() {
    for (tokens, width, experts) in [(0, 4, 3), (1, 1, 1), (3, 8, 4), (37, 67, 33), (300, 40, 70)] {
        agree(&Logits(router_logits::Shape { tokens, width, experts }));
    }
    shapes::router_logits(Size::Small).into_iter().for_each(|shape| agree(&Logits(shape)));
}

/// Routing decisions hang on the last digit: the logits of a token are the same bits whatever tile it lands in and
/// whichever tokens are around it. Returns them.
pub fn logits_of_tokens_alone<B: Backend>(machine: &B) -> Vec<B::Real> {
    let (tokens, width, experts) = (29, 131, 13);
    let (x, w) = (values(tokens * width, 1), values(experts * width, 2));
    let run = |x: &[f64]| {
        let shape = router_logits::Shape { tokens: x.len() / width, width, experts };
        let mut logits = unset(machine, shape.tokens * experts);
        let (x, w) = (reals(machine, x), reals(machine, &w));
        let args = router_logits::Forward { shape, x: x.all(), w: w.all(), logits: logits.all_mut() };
        machine.router_logits_forward(args).unwrap();
        logits.get()
    };
    let all = run(&x);
    for token in 0..tokens {
        let alone = run(&x[token * width..][..width]);
        assert_eq!(&all[token * experts..][..experts], &alone, "token {token}");
    }
    all
}

struct Smooth {
    offsets: Vec<u32>,
    shape: smoothing::Shape,
}

impl Call for Smooth {
    fn name(&self) -> String {
        format!("smoothing {:?} of {:?}", self.shape, self.offsets)
    }
    fn terms(&self) -> f64 {
        // Taps of this test sum to at least 0.2, so that division by their sum is well conditioned.
        (self.shape.tokens * self.shape.channels) as f64
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let shape = self.shape;
        let len = shape.tokens * shape.channels;
        let taps = if shape.depthwise { shape.channels * shape.width } else { shape.width };
        let taps: Vec<f64> = values(taps, 1).iter().map(|tap| f64::from((0.6 + 0.4 * tap) as f32)).collect();
        let (x, taps_held, segments) =
            (reals(b, &values(len, 2)), reals(b, &taps), segments(b, &self.offsets));
        let (mut y, mut dx) = (unset(b, len), unset(b, len));
        let mut dtaps = reals(b, &values(taps.len(), 3));
        b.smoothing_forward(smoothing::Forward {
            shape,
            segments: segments.all(),
            x: x.all(),
            taps: taps_held.all(),
            y: y.all_mut(),
        })
        .unwrap();
        b.smoothing_backward(smoothing::Backward {
            shape,
            segments: segments.all(),
            x: x.all(),
            taps: taps_held.all(),
            dy: reals(b, &values(len, 4)).all(),
            dx: dx.all_mut(),
            dtaps: Some(dtaps.all_mut()),
        })
        .unwrap();
        vec![("y", y.reals()), ("dx", dx.reals()), ("dtaps", dtaps.reals())]
    }
}

#[test]
fn smoothings() {
    for offsets in documents() {
        let tokens = offsets[offsets.len() - 1] as usize;
        for (channels, width, ahead) in [(1, 1, 0), (5, 3, 0), (17, 3, 1), (4, 9, 4), (3, 4, 3)] {
            for (depthwise, renormalise) in [(false, false), (false, true), (true, false), (true, true)] {
                let shape = smoothing::Shape { tokens, channels, width, ahead, depthwise, renormalise };
                agree(&Smooth { offsets: offsets.clone(), shape });
            }
        }
    }
    for shape in shapes::smoothings(Size::Small) {
        agree(&Smooth { offsets: shapes::documents_of_512(Size::Small), shape });
    }
}

/// NaN as -1, which no score and no entropy is: NaN equals nothing.
fn comparable(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|value| if value.is_nan() { -1.0 } else { value }).collect()
}

struct Pool {
    case: Routing,
    forced: usize,
}

impl Call for Pool {
    fn name(&self) -> String {
        format!("pool of {}, {} forced", self.case.name, self.forced)
    }
    fn terms(&self) -> f64 {
        self.case.tokens() as f64
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let (case, segments) = (&self.case, segments(b, &self.case.offsets));
        let count = case.offsets.len() - 1;
        let sizes: Vec<u32> = (0..count).map(|i| (i * 3 + 1) as u32 % (case.routed() as u32 + 2)).collect();
        let mut keep = hold(b, &vec![7u8; count * case.routed()]);
        let (mut scores, mut entropy) = (unset(b, count * case.routed()), unset(b, count));
        b.pool_keep(pool::Keep {
            tokens: case.tokens(),
            experts: case.experts,
            routed: case.routed(),
            forced: self.forced,
            segments: segments.all(),
            logits: reals(b, &case.logits).all(),
            bias: None,
            temperature: 1.0,
            sizes: hold(b, &sizes).all(),
            keep: keep.all_mut(),
            scores: scores.all_mut(),
            entropy: Some(entropy.all_mut()),
        })
        .unwrap();
        vec![
            ("keep", keep.get().into_iter().map(f64::from).collect()),
            ("scores", comparable(scores.reals())),
            ("entropy", comparable(entropy.reals())),
        ]
    }
}

#[test]
fn pools() {
    for forced in [0, 1] {
        routings().into_iter().for_each(|case| agree(&Pool { case, forced }));
    }
}

/// A token with a NaN spoils its own document, whose experts are then ahead of none; a token with nothing but `-inf` adds
/// nothing. Other documents do not notice.
#[test]
fn pools_of_nan_and_infinity() {
    let experts = 9;
    // One document longer than the blocks that kernels cut, and an empty one.
    let offsets = vec![0, 3, 150, 150, 152, 155];
    let plain: Vec<f64> = values(155 * experts, 78).into_iter().map(|z| 4.0 * z).collect();
    let nothing = [f64::NEG_INFINITY; 9];
    let mut mixed = nothing;
    mixed[3] = f64::NAN;
    let mut endless = nothing;
    endless[..2].fill(f64::INFINITY);
    let mut one = plain[..experts].to_vec();
    one[4] = f64::NAN;
    for (token, row) in [
        (151, nothing.to_vec()),
        (1, one),
        (149, mixed.to_vec()),
        (40, endless.to_vec()),
        (4, vec![f64::NAN; 9]),
    ] {
        let mut logits = plain.clone();
        logits[token * experts..][..experts].copy_from_slice(&row);
        let case = Routing {
            name: "NaN",
            offsets: offsets.clone(),
            experts,
            top_k: 2,
            shared: 1,
            logits,
            keep: None,
        };
        agree(&Pool { case, forced: 1 });
    }
}

struct Route<'a> {
    case: &'a Routing,
    config: RouterConfig,
    biased: bool,
    per_segment: bool,
}

/// Made anew for each call: all views of one call share a lifetime.
fn mask<'a, B: Backend>(
    by_segment: Option<(&'a Held<'_, B, u8>, &'a HeldSegments<'_, B>)>,
    by_token: Option<&'a Held<'_, B, u8>>,
) -> KeepMask<'a, B> {
    match (by_segment, by_token) {
        (Some((keep, segments)), _) => KeepMask::PerSegment(keep.all(), segments.all()),
        (None, Some(keep)) => KeepMask::PerToken(keep.all()),
        (None, None) => KeepMask::All,
    }
}

impl Call for Route<'_> {
    fn name(&self) -> String {
        format!("router {:?} on {}, biased: {}", self.config, self.case.name, self.biased)
    }
    fn terms(&self) -> f64 {
        // The temperature divides gradients; the bias sums over tokens.
        self.case.tokens() as f64 / 8.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { case, config, .. } = self;
        let (tokens, routed, top_k) = (case.tokens(), case.routed(), config.top_k);
        let logits = reals(b, &case.logits);
        let bias = self.biased.then(|| reals(b, &values(case.experts, 5)));
        let selection_bias = self.biased.then(|| reals(b, &values(routed, 6)));
        let segments = segments(b, &case.offsets);
        let count = case.offsets.len() - 1;
        let of_segment: Vec<u8> = (0..count * routed).map(|i| u8::from(i % 3 != 1)).collect();
        let of_segment = hold(b, &of_segment);
        let of_token =
            case.keep.as_ref().map(|keep| keep.iter().map(|&keep| u8::from(keep)).collect::<Vec<_>>());
        let of_token = of_token.map(|keep| hold(b, &keep));
        let by_segment = self.per_segment.then_some((&of_segment, &segments));
        let (mut probs, mut weights) = (unset(b, tokens * routed), unset(b, tokens * top_k));
        let mut indices = unset_indices(b, tokens * top_k);
        let (mut counts, mut lse) = (unset_indices(b, case.experts), unset(b, tokens));
        b.router_forward(router::Forward {
            config,
            tokens,
            logits: logits.all(),
            bias: bias.as_ref().map(Held::all),
            selection_bias: selection_bias.as_ref().map(Held::all),
            keep: mask(by_segment, of_token.as_ref()),
            probs: probs.all_mut(),
            weights: weights.all_mut(),
            indices: indices.all_mut(),
            counts: counts.all_mut(),
            lse: lse.all_mut(),
        })
        .unwrap();
        let (mut dlogits, mut dbias) = (unset(b, tokens * case.experts), reals(b, &values(case.experts, 7)));
        // Small where lse^2 is large.
        let z_coefficient = if case.logits.iter().any(|z| z.abs() > 100.0) { 1e-6 } else { 1e-2 };
        b.router_backward(router::Backward {
            config,
            tokens,
            logits: logits.all(),
            bias: bias.as_ref().map(Held::all),
            keep: mask(by_segment, of_token.as_ref()),
            probs: probs.all(),
            weights: weights.all(),
            indices: indices.all(),
            lse: lse.all(),
            dweights: reals(b, &values(tokens * top_k, 8)).all(),
            dprobs: self.biased.then(|| reals(b, &values(tokens * routed, 9))).as_ref().map(Held::all),
            z_coefficient,
            dlogits: dlogits.all_mut(),
            dbias: Some(dbias.all_mut()),
        })
        .unwrap();
        vec![
            ("probs", probs.reals()),
            ("weights", weights.reals()),
            ("indices", widen(&indices.get())),
            ("counts", widen(&counts.get())),
            ("lse", lse.reals()),
            ("dlogits", dlogits.reals()),
            ("dbias", dbias.reals()),
        ]
    }
}

/// The router compositions to test on a case.
fn configs(case: &Routing) -> Vec<RouterConfig> {
    let plain = RouterConfig { shared: case.shared, ..RouterConfig::softmax(case.experts, case.top_k) };
    let always = if plain.routed_k() > 1 { vec![case.routed() as u32 / 2] } else { vec![] };
    vec![
        plain.clone(),
        RouterConfig { normalise: Normalise::Lp(1.0), temperature: 0.7, ..plain.clone() },
        RouterConfig { score: Score::Sigmoid, normalise: Normalise::Lp(2.0), ..plain.clone() },
        RouterConfig { shared_weight: SharedWeight::Softmax, temperature: 1.5, ..plain.clone() },
        RouterConfig { always_active: always, score: Score::Sigmoid, temperature: 2.0, ..plain },
    ]
}

#[test]
fn routers() {
    for case in &routings() {
        // A selection bias would break exact ties and order what f64 alone tells apart.
        let ordinary = case.logits.iter().all(|z| z.abs() < 100.0) && !case.name.contains("equal");
        for config in configs(case) {
            for (biased, per_segment) in [(false, false), (true, false), (false, true)] {
                if biased && (!ordinary || case.name.contains("ties")) {
                    continue;
                }
                agree(&Route { case, config: config.clone(), biased, per_segment });
            }
        }
    }
}
