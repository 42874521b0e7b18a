//! Products at the edges of their tiles: every variant of every kernel, uneven and empty groups, sums cut into parts, and
//! indices that lie.

use crate::agree::{Call, Outputs, values};
use crate::dense::Linear;
use crate::device::{hold, reals, unset};
use crate::machines::{agree, devices};
use crate::permutation::Experts;
use emo::cuda::{Cuda, CudaStorage, GateLayout};
use emo::ops::activation::Activation;
use emo::ops::{experts, grouped_gemm, linear};
use emo::{Backend, Error};

/// The three grouped products, with a gather on every operand that can have one, or on none.
struct Grouped {
    sizes: Vec<usize>,
    inputs: usize,
    outputs: usize,
    gathered: bool,
}

impl Grouped {
    fn new(sizes: &[usize], inputs: usize, outputs: usize) -> Self {
        Self { sizes: sizes.to_vec(), inputs, outputs, gathered: true }
    }
}

impl Call for Grouped {
    fn name(&self) -> String {
        let Self { sizes, inputs, outputs, gathered } = self;
        format!("grouped products {inputs} to {outputs}, rows {sizes:?}, gathered: {gathered}")
    }
    fn terms(&self) -> f64 {
        let most = self.sizes.iter().copied().max().unwrap_or(0);
        self.inputs.max(self.outputs).max(most) as f64 / 4.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { ref sizes, inputs, outputs, gathered } = *self;
        let rows = sizes.iter().sum();
        let shape = grouped_gemm::Shape { groups: sizes.len(), rows, inputs, outputs };
        let ends = sizes.iter().scan(0, |end, &size| {
            *end += size as u32;
            Some(*end)
        });
        let offsets = hold(b, &std::iter::once(0).chain(ends).collect::<Vec<u32>>());
        let sources = if gathered { rows / 2 + 1 } else { rows };
        let index = hold(b, &(0..rows).map(|row| ((row * 7 + 3) % sources) as u32).collect::<Vec<u32>>());
        let (x, dy) = (reals(b, &values(sources * inputs, 1)), reals(b, &values(sources * outputs, 2)));
        let w = reals(b, &values(sizes.len() * outputs * inputs, 3));
        let (mut y, mut dx) = (unset(b, rows * outputs), unset(b, rows * inputs));
        let mut dw = reals(b, &values(sizes.len() * outputs * inputs, 4));
        let mut workspace = unset(b, b.grouped_gemm_workspace(shape));
        b.grouped_gemm_forward(grouped_gemm::Forward {
            shape,
            offsets: offsets.all(),
            x: x.all(),
            gather: gathered.then(|| index.all()),
            w: w.all(),
            y: y.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        b.grouped_gemm_dgrad(grouped_gemm::Dgrad {
            shape,
            offsets: offsets.all(),
            dy: dy.all(),
            gather: gathered.then(|| index.all()),
            w: w.all(),
            dx: dx.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        b.grouped_gemm_wgrad(grouped_gemm::Wgrad {
            shape,
            offsets: offsets.all(),
            x: x.all(),
            x_gather: gathered.then(|| index.all()),
            dy: dy.all(),
            dy_gather: gathered.then(|| index.all()),
            dw: dw.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        vec![("y", y.reals()), ("dx", dx.reals()), ("dw", dw.reals())]
    }
}

/// Widths that 16-byte copies can read, with groups of few rows (the small tile) and of many (the large one); then widths
/// that they cannot.
#[test]
fn grouped_products_at_the_edges_of_tiles() {
    for (sizes, inputs, outputs) in [
        (&[1, 0, 2][..], 8, 8),
        (&[64, 65, 0, 7], 40, 136),
        (&[0, 0, 170, 0, 1, 229], 136, 72),
        (&[200], 96, 264),
        (&[0, 300, 0], 72, 152),
        (&[128, 1], 32, 128),
        (&[3, 0, 0, 17], 33, 31),
        (&[130, 2], 65, 40),
        (&[1], 1, 1),
    ] {
        agree(&Grouped::new(sizes, inputs, outputs));
    }
    agree(&Grouped { gathered: false, ..Grouped::new(&[90, 0, 160], 64, 40) });
    agree(&Grouped { gathered: false, ..Grouped::new(&[9, 0, 6], 7, 5) });
}

/// More groups than a warp scans at once, most of them empty, and one that holds nearly all rows.
#[test]
fn many_groups() {
    let mut sizes: Vec<usize> = (0..1024).map(|group| usize::from(group % 37 == 5) * (group % 5)).collect();
    sizes[700] = 150;
    agree(&Grouped::new(&sizes, 8, 8));
    agree(&Grouped::new(&[[0; 40].as_slice(), &[5], &[0; 60]].concat(), 3, 5));
}

/// Rows enough for the weight's gradient to be summed in parts, the last one shorter; and too few.
#[test]
fn dense_layers_with_gradients_in_parts() {
    for (rows, inputs, outputs) in [(1100, 24, 16), (1600, 7, 9), (150, 72, 200), (20, 40, 8)] {
        agree(&Linear(linear::Shape { rows, inputs, outputs }, true));
    }
}

/// Large, small and scalar tiles, gated and plain, with every activation; half of the experts are empty.
#[test]
fn experts_of_every_activation_and_tile() {
    let every =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared];
    // The large tile is slow where devices are software: one activation will do.
    for (tokens, top_k, experts, width, hidden, activations) in
        [(120, 2, 3, 40, 72, &every[..1]), (30, 2, 4, 24, 40, &every), (20, 3, 5, 9, 35, &every)]
    {
        for &activation in activations {
            for gated in [true, false] {
                let shape = experts::Shape { tokens, top_k, experts, width, hidden, gated, activation };
                agree(&Experts { shape, extra: gated });
            }
        }
    }
}

/// What an expert layer writes: pre, rows, dx_rows, dweights, dw_in, dw_out.
fn expert_layer<S: CudaStorage>(cuda: &Cuda<S>, shape: experts::Shape, layout: GateLayout) -> [Vec<f64>; 6] {
    let (slots, width, hidden) = (shape.rows(), shape.width, shape.hidden);
    // Every slot of a token is a row of the expert of the same number.
    let order: Vec<u32> =
        (0..slots).map(|row| (row % shape.tokens * shape.top_k + row / shape.tokens) as u32).collect();
    let token = hold(cuda, &order.iter().map(|slot| slot / shape.top_k as u32).collect::<Vec<u32>>());
    let offsets: Vec<u32> = (0..=shape.experts).map(|expert| (expert * shape.tokens) as u32).collect();
    let (order, offsets) = (hold(cuda, &order), hold(cuda, &offsets));
    // The layer is the same in either layout.
    let mut w = values(shape.experts * shape.pre() * width, 3);
    if layout == GateLayout::Interleaved {
        w = w
            .chunks_exact(shape.pre() * width)
            .flat_map(|matrix| interleaved(matrix, 1, hidden, width))
            .collect();
    }
    let (x, w_in) = (reals(cuda, &values(shape.tokens * width, 2)), reals(cuda, &w));
    let w_out = reals(cuda, &values(shape.experts * width * hidden, 4));
    let (mut pre, mut rows) = (unset(cuda, slots * shape.pre()), unset(cuda, slots * width));
    let mut workspace = unset(cuda, cuda.experts_workspace(shape));
    let forward = experts::Forward {
        shape,
        offsets: offsets.all(),
        token: token.all(),
        x: x.all(),
        w_in: w_in.all(),
        w_out: w_out.all(),
        pre: pre.all_mut(),
        rows: rows.all_mut(),
        workspace: workspace.all_mut(),
    };
    cuda.experts_forward_in(layout, forward).unwrap();
    let (row_grad, dy) =
        (reals(cuda, &values(slots * width, 5)), reals(cuda, &values(shape.tokens * width, 9)));
    let (mut dx_rows, mut dweights) = (unset(cuda, slots * width), unset(cuda, slots));
    let weights = reals(cuda, &values(slots, 8));
    let mut dw_in = reals(cuda, &vec![0.0; w.len()]);
    let mut dw_out = reals(cuda, &vec![0.0; shape.experts * width * hidden]);
    let backward = experts::Backward {
        shape,
        offsets: offsets.all(),
        token: token.all(),
        order: order.all(),
        x: x.all(),
        weights: weights.all(),
        w_in: w_in.all(),
        w_out: w_out.all(),
        pre: pre.all(),
        dy: dy.all(),
        row_grad: Some(row_grad.all()),
        dx_rows: dx_rows.all_mut(),
        dweights: dweights.all_mut(),
        dw_in: dw_in.all_mut(),
        dw_out: dw_out.all_mut(),
        workspace: workspace.all_mut(),
    };
    cuda.experts_backward_in(layout, backward).unwrap();
    [pre.reals(), rows.reals(), dx_rows.reals(), dweights.reals(), dw_in.reals(), dw_out.reals()]
}

/// `[outer, gates | others, inner]` as `[outer, units, 2, inner]`.
fn interleaved(values: &[f64], outer: usize, units: usize, inner: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for matrix in values.chunks_exact(values.len() / outer) {
        let (gates, others) = matrix.split_at(units * inner);
        for (gate, other) in gates.chunks_exact(inner).zip(others.chunks_exact(inner)) {
            out.extend([gate, other].concat());
        }
    }
    out
}

/// Gates beside what they multiply: the same layer, and but for one sum in another order the same bits.
#[test]
fn gates_may_be_interleaved() {
    fn layouts_agree<S: CudaStorage>(cuda: &Cuda<S>, rounding: f64) {
        for (tokens, width, hidden) in [(70, 40, 72), (20, 24, 40), (9, 7, 5)] {
            let (top_k, experts) = (2, 2);
            let shape = experts::Shape {
                tokens,
                top_k,
                experts,
                width,
                hidden,
                gated: true,
                activation: Activation::Silu,
            };
            let [pre, rows, dx, dweights, dw_in, dw_out] =
                expert_layer(cuda, shape, GateLayout::Concatenated);
            let found = expert_layer(cuda, shape, GateLayout::Interleaved);
            assert_eq!(found[0], interleaved(&pre, shape.rows(), hidden, 1), "pre {shape:?}");
            assert_eq!(found[1], rows, "rows {shape:?}");
            assert_eq!(found[3], dweights, "dweights {shape:?}");
            assert_eq!(found[4], interleaved(&dw_in, experts, hidden, width), "dw_in {shape:?}");
            assert_eq!(found[5], dw_out, "dw_out {shape:?}");
            let most = dx.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
            for (at, (found, dx)) in found[2].iter().zip(&dx).enumerate() {
                assert!((found - dx).abs() <= rounding * most, "dx_rows[{at}] {found}, not {dx}: {shape:?}");
            }
        }
    }
    let Some((f32, bf16)) = devices() else { return };
    layouts_agree(f32, 2e-6);
    layouts_agree(bf16, 1.0 / 128.0);
}

/// Views that begin in the middle of a 16-byte word: the widths fit, the addresses do not.
#[test]
fn operands_at_odd_addresses() {
    fn odd<S: CudaStorage>(cuda: &Cuda<S>) {
        let (rows, inputs, outputs) = (20, 24, 16);
        let shape = grouped_gemm::Shape { groups: 1, rows, inputs, outputs };
        let (x, w) = (values(rows * inputs + 1, 1), values(outputs * inputs, 2));
        let (offsets, w) = (hold(cuda, &[0, rows as u32]), reals::<_, S>(cuda, &w));
        let run = |from: usize| {
            let source: Vec<f64> = [vec![9.0; from], x[1..].to_vec()].concat();
            let (x, mut y) = (reals::<_, S>(cuda, &source), unset::<_, S>(cuda, rows * outputs));
            cuda.grouped_gemm_forward(grouped_gemm::Forward {
                shape,
                offsets: offsets.all(),
                x: x.all().slice(from..source.len()).unwrap(),
                gather: None,
                w: w.all(),
                y: y.all_mut(),
                workspace: unset(cuda, 0).all_mut(),
            })
            .unwrap();
            y.reals()
        };
        assert_eq!(run(0), run(1));
    }
    let Some((f32, bf16)) = devices() else { return };
    odd(f32);
    odd(bf16);
}

/// A forward product whose offsets or gather lie: the next wait names the argument, and nothing outside is touched.
#[test]
fn indices_that_lie_are_reported_and_not_followed() {
    let Some((cuda, _)) = devices() else { return };
    let product = |offsets: &[u32], gather: &[u32]| {
        let shape = grouped_gemm::Shape { groups: 2, rows: 4, inputs: 8, outputs: 8 };
        let (x, w) = (reals(cuda, &[1.0; 24]), reals(cuda, &[0.5; 128]));
        let (offsets, gather) = (hold(cuda, offsets), hold(cuda, gather));
        let (mut y, mut workspace) = (reals(cuda, &[7.0; 32]), unset(cuda, 0));
        cuda.grouped_gemm_forward(grouped_gemm::Forward {
            shape,
            offsets: offsets.all(),
            x: x.all(),
            gather: Some(gather.all()),
            w: w.all(),
            y: y.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        let waited = cuda.synchronize();
        (waited, y.reals())
    };
    let index = |arg, position, bound, found| {
        Err(Error::Index { op: "grouped_gemm_forward", arg, position, bound, found })
    };
    let (waited, y) = product(&[0, 3, 4], &[0, 2, 1, 0]);
    assert_eq!((waited, y), (Ok(()), vec![4.0; 32]));
    // Row 1 picks nothing, and is zero.
    let (waited, y) = product(&[0, 3, 4], &[0, 3, 1, 0]);
    assert_eq!(waited, index("gather", 1, 3, 3));
    assert_eq!((&y[..8], &y[8..16], &y[16..]), (&[4.0; 8][..], &[0.0; 8][..], &[4.0; 16][..]));
    assert_eq!(product(&[0, 3, 9], &[0; 4]).0, index("offsets", 2, 5, 9));
    assert_eq!(product(&[0, 3, 2], &[0; 4]).0, index("offsets", 2, 0, 2));
    assert_eq!(product(&[1, 3, 4], &[0; 4]).0, index("offsets", 0, 1, 1));
}
