//! The CPU's dense transformer ops against the specification.

use crate::agree::{Call, Outputs, indices, values};
use crate::device::{hold, reals, unset};
use crate::machines::agree;
use crate::shapes::{self, Size};
use emo::Backend;
use emo::backend::Real;
use emo::ops::activation::{self, Activation};
use emo::ops::{adamw, cross_entropy, embedding, linear, rms_norm, rope};

struct Embedding(embedding::Shape);

impl Call for Embedding {
    fn name(&self) -> String {
        format!("embedding {:?}", self.0)
    }
    fn terms(&self) -> f64 {
        self.0.rows as f64 / self.0.vocabulary as f64
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let shape = self.0;
        let ids = indices(shape.rows, shape.vocabulary, 1);
        let mut y = unset(b, shape.rows * shape.width);
        let mut dtable = reals(b, &values(shape.vocabulary * shape.width, 2));
        b.embedding_forward(embedding::Forward {
            shape,
            ids: hold(b, &ids).all(),
            table: reals(b, &values(shape.vocabulary * shape.width, 3)).all(),
            y: y.all_mut(),
        })
        .unwrap();
        b.embedding_backward(embedding::Backward {
            shape,
            ids: hold(b, &ids).all(),
            padding: Some(1),
            dy: reals(b, &values(shape.rows * shape.width, 4)).all(),
            dtable: dtable.all_mut(),
        })
        .unwrap();
        vec![("y", y.reals()), ("dtable", dtable.reals())]
    }
}

#[test]
fn embeddings() {
    for (rows, vocabulary, width) in [(0, 3, 5), (1, 2, 1), (70, 5, 33), (130, 2, 257)] {
        agree(&Embedding(embedding::Shape { rows, vocabulary, width }));
    }
    shapes::embeddings(Size::Small).into_iter().for_each(|shape| agree(&Embedding(shape)));
}

struct Norm(rms_norm::Shape, bool);

impl Call for Norm {
    fn name(&self) -> String {
        format!("norm {:?}", self.0)
    }
    fn terms(&self) -> f64 {
        // Rows are summed into the weight's gradient.
        2.0 * (self.0.rows * self.0.groups) as f64
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self(shape, accumulate) = *self;
        let len = shape.rows * shape.stride;
        let (x, weight) = (reals(b, &values(len, 1)), reals(b, &values(shape.width, 2)));
        // What lies between strided rows must survive.
        let (mut y, mut dx) = (reals(b, &values(len, 3)), reals(b, &values(len, 4)));
        let mut rstd = unset(b, shape.rows * shape.groups);
        let mut dweight = reals(b, &values(shape.width, 5));
        b.rms_norm_forward(rms_norm::Forward {
            shape,
            eps: 1e-6,
            x: x.all(),
            weight: weight.all(),
            y: y.all_mut(),
            rstd: rstd.all_mut(),
        })
        .unwrap();
        b.rms_norm_backward(rms_norm::Backward {
            shape,
            x: x.all(),
            weight: weight.all(),
            rstd: rstd.all(),
            dy: reals(b, &values(len, 6)).all(),
            dx: dx.all_mut(),
            accumulate,
            dweight: dweight.all_mut(),
            workspace: unset(b, b.rms_norm_workspace(shape)).all_mut(),
        })
        .unwrap();
        vec![("y", y.reals()), ("rstd", rstd.reals()), ("dx", dx.reals()), ("dweight", dweight.reals())]
    }
}

#[test]
fn norms() {
    for (rows, groups, width, stride) in
        [(0, 1, 8, 8), (1, 1, 1, 1), (5, 1, 33, 33), (700, 1, 64, 64), (130, 3, 17, 60), (9, 2, 16, 32)]
    {
        agree(&Norm(rms_norm::Shape { rows, groups, width, stride }, rows % 2 == 0));
    }
    shapes::norms(Size::Small).into_iter().for_each(|shape| agree(&Norm(shape, false)));
}

struct Rope(rope::Shape);

impl Call for Rope {
    fn name(&self) -> String {
        format!("rope {:?}", self.0)
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let shape = self.0;
        let (cos, sin) = rope::table(shape.positions, shape.head_dim, 1e4);
        let run = |inverse| {
            let mut x = reals(b, &values(shape.rows * shape.stride, 1));
            b.rope(rope::Apply {
                shape,
                position: hold(b, &indices(shape.rows, shape.positions, 2)).all(),
                cos: reals(b, &cos).all(),
                sin: reals(b, &sin).all(),
                inverse,
                x: x.all_mut(),
            })
            .unwrap();
            x.reals()
        };
        vec![("rotated", run(false)), ("rotated back", run(true))]
    }
}

#[test]
fn ropes() {
    for (rows, heads, head_dim, stride) in [(0, 2, 4, 8), (1, 1, 2, 2), (67, 3, 6, 20), (40, 4, 64, 300)] {
        agree(&Rope(rope::Shape { rows, heads, head_dim, stride, positions: 50 }));
    }
    shapes::ropes(Size::Small).into_iter().for_each(|shape| agree(&Rope(shape)));
}

struct Activate(activation::Shape, Activation);

impl Call for Activate {
    fn name(&self) -> String {
        format!("activation {:?} {:?}", self.0, self.1)
    }
    fn terms(&self) -> f64 {
        8.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self(shape, activation) = *self;
        let pre: Vec<f64> = values(shape.rows * shape.pre(), 1).iter().map(|x| 8.0 * x).collect();
        let (mut out, mut dpre) = (unset(b, shape.rows * shape.width), unset(b, pre.len()));
        b.activation_forward(activation::Forward {
            shape,
            activation,
            pre: reals(b, &pre).all(),
            out: out.all_mut(),
        })
        .unwrap();
        b.activation_backward(activation::Backward {
            shape,
            activation,
            pre: reals(b, &pre).all(),
            dout: reals(b, &values(shape.rows * shape.width, 2)).all(),
            dpre: dpre.all_mut(),
        })
        .unwrap();
        let mut clamped = unset(b, pre.len());
        let mut dclamped = reals(b, &values(pre.len(), 3));
        let x = reals(b, &pre);
        b.clamp_forward(activation::Clamp { limit: 2.5, x: x.all(), y: clamped.all_mut() }).unwrap();
        b.clamp_backward(activation::ClampBackward { limit: 2.5, x: x.all(), dy: dclamped.all_mut() })
            .unwrap();
        let clamps = [("clamped", clamped.reals()), ("dclamped", dclamped.reals())];
        [("out", out.reals()), ("dpre", dpre.reals())].into_iter().chain(clamps).collect()
    }
}

#[test]
fn activations() {
    use Activation::*;
    for (rows, width, gated) in [(0, 4, true), (1, 1, false), (30, 37, true), (3, 9000, false)] {
        for activation in [Silu, Gelu, GeluTanh, Relu, ReluSquared] {
            agree(&Activate(activation::Shape { rows, width, gated }, activation));
        }
    }
    shapes::activations(Size::Small).into_iter().for_each(|shape| agree(&Activate(shape, Silu)));
}

struct CrossEntropy {
    rows: usize,
    vocabulary: usize,
    backward: bool,
    spread: f64,
}

impl Call for CrossEntropy {
    fn name(&self) -> String {
        format!("cross-entropy {}x{} spread {}", self.rows, self.vocabulary, self.spread)
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { rows, vocabulary, backward, spread } = *self;
        let targets: Vec<i32> = indices(rows, vocabulary, 1)
            .iter()
            .enumerate()
            .map(|(row, &id)| if row % 5 == 3 { cross_entropy::IGNORE } else { id as i32 })
            .collect();
        let logits: Vec<f64> =
            values(rows * vocabulary, 2).iter().map(|z| f64::from((spread * z) as f32)).collect();
        let mut logits = reals(b, &logits);
        let (mut loss, mut lse) = (unset(b, rows), unset(b, rows));
        b.cross_entropy(cross_entropy::ForwardBackward {
            rows,
            vocabulary,
            targets: hold(b, &targets).all(),
            scale: 0.25,
            z_weight: 1e-3,
            logits: logits.all_mut(),
            backward,
            loss: loss.all_mut(),
            lse: lse.all_mut(),
        })
        .unwrap();
        vec![("logits", logits.reals()), ("loss", loss.reals()), ("lse", lse.reals())]
    }
}

#[test]
fn cross_entropies() {
    let measured = shapes::cross_entropies(Size::Small);
    for (rows, vocabulary) in [(0, 3), (1, 1), (7, 31), (40, 1000)].into_iter().chain(measured) {
        for (backward, spread) in [(true, 4.0), (false, 4.0), (true, 1e4)] {
            agree(&CrossEntropy { rows, vocabulary, backward, spread });
        }
    }
}

struct Optimiser(usize);

impl Call for Optimiser {
    fn name(&self) -> String {
        format!("optimiser of {}", self.0)
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let len = self.0;
        let (grads, mut params) = (reals(b, &values(len, 1)), reals(b, &values(len, 2)));
        let (mut m, mut v) = (reals(b, &vec![0.0; len]), reals(b, &vec![0.0; len]));
        let mut copy = unset(b, len);
        for step in 1..4 {
            b.adamw(adamw::Step {
                hyper: adamw::Hyper {
                    lr: 1e-2,
                    beta1: 0.9,
                    beta2: 0.95,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    step,
                    grad_scale: 0.5,
                },
                params: params.all_mut(),
                grads: grads.all(),
                m: m.all_mut(),
                v: v.all_mut(),
                copy: Some(copy.all_mut()),
            })
            .unwrap();
        }
        let rounded: Vec<B::Storage> = params.reals().into_iter().map(Real::from_f64).collect();
        assert!(copy.get() == rounded, "copies are the rounded parameters");
        let mut squares = hold(b, &[f64::NAN]);
        b.sum_of_squares(adamw::SumOfSquares { x: grads.all(), out: squares.all_mut() }).unwrap();
        let mut sum = reals(b, &params.reals());
        b.add(reals(b, &grads.reals()).all(), sum.all_mut()).unwrap();
        let state = [("params", params.reals()), ("copy", copy.reals()), ("m", m.reals()), ("v", v.reals())];
        state.into_iter().chain([("squares", squares.get()), ("sum", sum.reals())]).collect()
    }
}

#[test]
fn optimisers() {
    for len in [0, 1, 17, 5000, 300_001].into_iter().chain(shapes::arenas(Size::Small)) {
        agree(&Optimiser(len));
    }
}

pub struct Linear(pub linear::Shape, pub bool);

impl Call for Linear {
    fn name(&self) -> String {
        format!("linear {:?}", self.0)
    }
    fn terms(&self) -> f64 {
        self.0.inputs.max(self.0.outputs).max(self.0.rows) as f64 / 4.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self(shape, accumulate) = *self;
        let linear::Shape { rows, inputs, outputs } = shape;
        let (x, w, dy) = (
            reals(b, &values(rows * inputs, 1)),
            reals(b, &values(outputs * inputs, 2)),
            reals(b, &values(rows * outputs, 3)),
        );
        let (mut y, mut dx) = (unset(b, rows * outputs), reals(b, &values(rows * inputs, 4)));
        let (mut dw, mut dbias) = (reals(b, &values(outputs * inputs, 5)), reals(b, &values(outputs, 6)));
        let mut workspace = unset(b, b.linear_workspace(shape));
        let bias = reals(b, &values(outputs, 7));
        b.linear_forward(linear::Forward {
            shape,
            x: x.all(),
            w: w.all(),
            bias: accumulate.then(|| bias.all()),
            y: y.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        b.linear_dgrad(linear::Dgrad {
            shape,
            dy: dy.all(),
            w: w.all(),
            dx: dx.all_mut(),
            accumulate,
            workspace: workspace.all_mut(),
        })
        .unwrap();
        b.linear_wgrad(linear::Wgrad {
            shape,
            x: x.all(),
            dy: dy.all(),
            dw: dw.all_mut(),
            dbias: accumulate.then(|| dbias.all_mut()),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        vec![("y", y.reals()), ("dx", dx.reals()), ("dw", dw.reals()), ("dbias", dbias.reals())]
    }
}

#[test]
fn linears() {
    for (rows, inputs, outputs) in [(0, 3, 4), (1, 1, 1), (33, 65, 31), (130, 40, 97)] {
        agree(&Linear(linear::Shape { rows, inputs, outputs }, rows % 2 == 1));
    }
    shapes::linears(Size::Small).into_iter().for_each(|shape| agree(&Linear(shape, false)));
}
