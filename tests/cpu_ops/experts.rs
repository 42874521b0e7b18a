//! The fused expert MLPs against the formulas in f64, written out one row at a time.

use emo::cpu::experts::{self, BackwardInputs, BackwardOutputs, Rows, Shape, Slots};
use emo::cpu::gemm::Machine;
use emo::cpu::isa::Isa;
use emo::cpu::threads::Threads;
use emo::ops::activation::Activation;

fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn act(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0).powi(2),
    }
}

/// The derivative by a central difference, good to about 1e-9.
fn act_slope(activation: Activation, x: f64) -> f64 {
    let h = 1e-6;
    (act(activation, x + h) - act(activation, x - h)) / (2.0 * h)
}

struct Case {
    shape: Shape,
    offsets: Vec<u32>,
    token: Vec<u32>,
    order: Vec<u32>,
    weights: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    row_grad: Vec<f32>,
    w_in: Vec<f32>,
    w_out: Vec<f32>,
}

/// Everything the op writes.
#[derive(Debug, PartialEq)]
struct Results<T> {
    pre: Vec<T>,
    y: Vec<T>,
    dx: Vec<T>,
    dweights: Vec<T>,
    dw_in: Vec<T>,
    dw_out: Vec<T>,
}

/// What the accumulated gradients start from.
const START: f32 = 0.5;

impl Case {
    /// `sizes` rows for each expert, dealt over tokens with two slots each; one slot more than rows stays without a row.
    fn new(sizes: &[usize], width: usize, hidden: usize, activation: Activation, gated: bool) -> Self {
        let shape = Shape { experts: sizes.len(), width, hidden, activation, gated };
        let rows: usize = sizes.iter().sum();
        let mut offsets = vec![0];
        sizes.iter().for_each(|&s| offsets.push(offsets[offsets.len() - 1] + s as u32));
        let tokens = rows / 2 + 1;
        // 7 and 2 * tokens - 1 may share a factor; then the step of 1 keeps slots distinct.
        let slots = 2 * tokens - 1;
        let step = if slots.is_multiple_of(7) { 1 } else { 7 };
        let order: Vec<u32> = (0..rows).map(|r| ((r * step) % slots) as u32).collect();
        Self {
            shape,
            offsets,
            token: order.iter().map(|s| s / 2).collect(),
            order,
            weights: values(slots, 1),
            x: values(tokens * width, 2),
            dy: values(tokens * width, 3),
            row_grad: values(rows * width, 4),
            w_in: values(sizes.len() * shape.pre_width() * width, 5),
            w_out: values(sizes.len() * width * hidden, 6),
        }
    }

    fn exact(&self, weighted: bool, with_row_grad: bool) -> Results<f64> {
        let Shape { experts, width: d, hidden: h, activation, gated } = self.shape;
        let p = self.shape.pre_width();
        let rows = self.token.len();
        let start = f64::from(START);
        let f = |v: &[f32], i: usize| f64::from(v[i]);
        let mut out = Results {
            pre: vec![0.0; rows * p],
            y: vec![0.0; rows * d],
            dx: vec![0.0; rows * d],
            dweights: vec![0.0; self.weights.len()],
            dw_in: vec![start; self.w_in.len()],
            dw_out: vec![start; self.w_out.len()],
        };
        for e in 0..experts {
            for r in self.offsets[e] as usize..self.offsets[e + 1] as usize {
                let (t, slot) = (self.token[r] as usize, self.order[r] as usize);
                let w_in = |i: usize, j: usize| f(&self.w_in, (e * p + i) * d + j);
                let w_out = |i: usize, j: usize| f(&self.w_out, (e * d + i) * h + j);
                let pre: Vec<f64> =
                    (0..p).map(|i| (0..d).map(|j| w_in(i, j) * f(&self.x, t * d + j)).sum()).collect();
                let a: Vec<f64> =
                    (0..h).map(|j| act(activation, pre[j]) * if gated { pre[h + j] } else { 1.0 }).collect();
                let y: Vec<f64> = (0..d).map(|i| (0..h).map(|j| w_out(i, j) * a[j]).sum()).collect();
                let weight = if weighted { f(&self.weights, slot) } else { 1.0 };
                // The whole gradient on y_r.
                let g: Vec<f64> = (0..d)
                    .map(|i| {
                        weight * f(&self.dy, t * d + i)
                            + if with_row_grad { f(&self.row_grad, r * d + i) } else { 0.0 }
                    })
                    .collect();
                out.dweights[slot] = (0..d).map(|i| f(&self.dy, t * d + i) * y[i]).sum();
                let da: Vec<f64> = (0..h).map(|j| (0..d).map(|i| g[i] * w_out(i, j)).sum()).collect();
                let mut dpre: Vec<f64> = (0..h)
                    .map(|j| da[j] * act_slope(activation, pre[j]) * if gated { pre[h + j] } else { 1.0 })
                    .collect();
                if gated {
                    dpre.extend((0..h).map(|j| da[j] * act(activation, pre[j])));
                }
                for j in 0..d {
                    out.dx[r * d + j] = (0..p).map(|i| dpre[i] * w_in(i, j)).sum();
                    (0..p).for_each(|i| out.dw_in[(e * p + i) * d + j] += dpre[i] * f(&self.x, t * d + j));
                    (0..h).for_each(|i| out.dw_out[(e * d + j) * h + i] += g[j] * a[i]);
                }
                out.pre[r * p..(r + 1) * p].copy_from_slice(&pre);
                out.y[r * d..(r + 1) * d].copy_from_slice(&y);
            }
        }
        out
    }

    fn run(&self, machine: Machine, weighted: bool, with_row_grad: bool) -> Results<f32> {
        let rows = self.token.len();
        let d = self.shape.width;
        let threads = machine.threads.len();
        let mut out = Results {
            pre: vec![f32::NAN; rows * self.shape.pre_width()],
            y: vec![f32::NAN; rows * d],
            dx: vec![f32::NAN; rows * d],
            dweights: vec![f32::NAN; self.weights.len()],
            dw_in: vec![START; self.w_in.len()],
            dw_out: vec![START; self.w_out.len()],
        };
        let plan = Rows { offsets: &self.offsets, token: Some(&self.token) };
        let (x, dy, w_in, w_out) = (&self.x, &self.dy, &self.w_in, &self.w_out);
        let mut workspace = vec![f32::NAN; self.shape.forward_workspace_len::<f32>(threads)];
        experts::forward(machine, self.shape, plan, x, w_in, w_out, &mut out.pre, &mut out.y, &mut workspace)
            .unwrap();
        let mut workspace = vec![f32::NAN; self.shape.backward_workspace_len::<f32>(rows, threads)];
        let slots = Slots { order: &self.order, weights: &self.weights, dweights: &mut out.dweights };
        let row_grad = with_row_grad.then_some(&*self.row_grad);
        let inputs = BackwardInputs { x, pre: &out.pre, w_in, w_out, dy, row_grad };
        let outputs = BackwardOutputs { dx: &mut out.dx, dw_in: &mut out.dw_in, dw_out: &mut out.dw_out };
        experts::backward(
            machine,
            self.shape,
            plan,
            weighted.then_some(slots),
            inputs,
            outputs,
            &mut workspace,
        )
        .unwrap();
        out
    }
}

#[track_caller]
fn close(found: &[f32], exact: &[f64], what: &str) {
    assert_eq!(found.len(), exact.len(), "{what}");
    let scale = exact.iter().fold(1.0f64, |m, e| m.max(e.abs()));
    for (i, (&f, &e)) in found.iter().zip(exact).enumerate() {
        assert!((f64::from(f) - e).abs() <= 4e-6 * scale, "{what} [{i}]: {f} instead of {e}");
    }
}

const ALL: [Activation; 5] =
    [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared];

#[test]
fn experts_agree_with_f64() {
    let threads = Threads::new(2).unwrap();
    let shapes: [(&[usize], usize, usize); 6] = [
        (&[0, 0], 3, 2),
        (&[1], 1, 1),
        (&[3, 0, 5, 1], 19, 7),
        (&[0, 150, 0], 33, 20),
        (&[40, 90], 70, 130),
        (&[4, 2], 5, 0),
    ];
    for (sizes, width, hidden) in shapes {
        for activation in ALL {
            for (gated, weighted, with_row_grad) in
                [(true, true, false), (false, true, false), (true, true, true), (false, false, true)]
            {
                let case = Case::new(sizes, width, hidden, activation, gated);
                let exact = case.exact(weighted, with_row_grad);
                for isa in Isa::available() {
                    let what = format!(
                        "{isa:?} {:?} {sizes:?} weighted {weighted} extra {with_row_grad}",
                        case.shape
                    );
                    let found = case.run(Machine { threads: &threads, isa }, weighted, with_row_grad);
                    close(&found.pre, &exact.pre, &format!("pre {what}"));
                    close(&found.y, &exact.y, &format!("y {what}"));
                    close(&found.dx, &exact.dx, &format!("dx {what}"));
                    close(&found.dw_in, &exact.dw_in, &format!("dw_in {what}"));
                    close(&found.dw_out, &exact.dw_out, &format!("dw_out {what}"));
                    if weighted {
                        close(&found.dweights, &exact.dweights, &format!("dweights {what}"));
                    }
                }
            }
        }
    }
}

#[test]
fn thread_count_does_not_change_a_bit() {
    for isa in Isa::available() {
        let case = Case::new(&[3, 0, 251, 1, 40], 65, 48, Activation::Silu, true);
        let run = |n| case.run(Machine { threads: &Threads::new(n).unwrap(), isa }, true, true);
        let one = run(1);
        assert!(one.dx.iter().all(|x| x.is_finite()));
        assert_eq!(one, run(2), "{isa:?}");
        assert_eq!(one, run(7), "{isa:?}");
    }
}

#[test]
fn a_dense_mlp_is_one_expert_without_index() {
    let case = Case::new(&[9], 12, 10, Activation::Gelu, false);
    let threads = Threads::new(2).unwrap();
    let machine = Machine { threads: &threads, isa: Isa::detect() };
    let rows = 9;
    let (x, order): (_, Vec<u32>) = (values(rows * 12, 8), (0..rows as u32).collect());
    let run = |token: Option<&[u32]>| {
        let (mut pre, mut y) = (vec![0.0; rows * 10], vec![0.0; rows * 12]);
        let mut workspace = vec![0.0; case.shape.forward_workspace_len::<f32>(2)];
        let plan = Rows { offsets: &case.offsets, token };
        experts::forward(
            machine,
            case.shape,
            plan,
            &x,
            &case.w_in,
            &case.w_out,
            &mut pre,
            &mut y,
            &mut workspace,
        )
        .map(|()| y)
    };
    assert_eq!(run(None).unwrap(), run(Some(&order)).unwrap());
    let wrong = run(Some(&[0, 1, 2, 3, 4, 5, 6, 7, 9])).unwrap_err().to_string();
    assert!(wrong.contains("`index`[8] must be below 9"), "{wrong}");
}
