//! A layer of experts, forward and backward: on one rank, and with its tokens and experts spread over ranks.

use crate::agree::{indices, values};
use crate::device::{Held, hold, reals, unset, unset_indices};
use emo::Backend;
use emo::communicator::{Communicator, Exchange, InProcess};
use emo::cpu::Cpu;
use emo::ops::all_to_all::{self, ReceivePlan, SendPlan};
use emo::ops::grouped_gemm::{self, Dgrad, Wgrad};
use emo::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan, Shape};

/// Sizes of the layer; the tokens of each rank.
#[derive(Debug, Clone)]
struct Sizes {
    tokens: Vec<usize>,
    top_k: usize,
    experts: usize,
    width: usize,
    outputs: usize,
}

/// What a rank, or the only one, is given.
#[derive(Clone)]
struct Inputs {
    x: Vec<f64>,
    indices: Vec<u32>,
    weights: Vec<f64>,
    dy: Vec<f64>,
    /// Of the rank's own experts.
    w: Vec<f64>,
}

/// What it computes, as bits.
#[derive(Debug, PartialEq)]
struct Results {
    y: Vec<u32>,
    dx: Vec<u32>,
    dweights: Vec<u32>,
    dw: Vec<u32>,
}

type Stored<'b> = Held<'b, Cpu, f32>;

fn bits(held: &Stored<'_>) -> Vec<u32> {
    held.get().iter().map(|value| value.to_bits()).collect()
}

impl Sizes {
    fn all(&self) -> usize {
        self.tokens.iter().sum()
    }

    fn inputs(&self) -> Inputs {
        let (tokens, slots) = (self.all(), self.all() * self.top_k);
        Inputs {
            x: values(tokens * self.width, 1),
            // Some experts get nothing.
            indices: indices(slots, self.experts.div_ceil(2).max(1), 2)
                .iter()
                .map(|i| i * 2 % self.experts as u32)
                .collect(),
            weights: values(slots, 3),
            dy: values(tokens * self.outputs, 4),
            w: values(self.experts * self.outputs * self.width, 5),
        }
    }

    /// The share of `rank`.
    fn share(&self, inputs: &Inputs, rank: usize) -> Inputs {
        let first: usize = self.tokens[..rank].iter().sum();
        let tokens = first..first + self.tokens[rank];
        let part = |values: &[f64], width: usize| values[tokens.start * width..tokens.end * width].to_vec();
        let shape = all_to_all::Shape { ranks: self.tokens.len(), experts: self.experts };
        let (own, expert) = (shape.owned(rank), self.outputs * self.width);
        Inputs {
            x: part(&inputs.x, self.width),
            indices: inputs.indices[tokens.start * self.top_k..tokens.end * self.top_k].to_vec(),
            weights: part(&inputs.weights, self.top_k),
            dy: part(&inputs.dy, self.outputs),
            w: inputs.w[own.start * expert..own.end * expert].to_vec(),
        }
    }
}

/// A rank's tokens in the order of experts.
struct Local<'b> {
    b: &'b Cpu,
    shape: Shape,
    token: Held<'b, Cpu, u32>,
    offsets: Held<'b, Cpu, u32>,
    inverse: Held<'b, Cpu, u32>,
}

impl<'b> Local<'b> {
    fn plan(b: &'b Cpu, shape: Shape, chosen: &[u32]) -> Self {
        let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(b, chosen.len()));
        let mut offsets = unset_indices(b, shape.experts + 1);
        b.plan(Plan {
            shape,
            indices: hold(b, chosen).all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: offsets.all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap();
        Self { b, shape, token, offsets, inverse }
    }

    fn dispatch(&self, x: &[f64], width: usize) -> Stored<'b> {
        let mut rows = unset(self.b, self.shape.tokens * self.shape.top_k * width);
        let (token, x) = (self.token.all(), reals(self.b, x));
        self.b
            .dispatch_forward(Dispatch { shape: self.shape, width, token, x: x.all(), rows: rows.all_mut() })
            .unwrap();
        rows
    }

    fn combine(&self, rows: &Stored<'_>, weights: &Stored<'_>, width: usize) -> Stored<'b> {
        let mut y = unset(self.b, self.shape.tokens * width);
        self.b
            .combine_forward(Combine {
                shape: self.shape,
                width,
                inverse: self.inverse.all(),
                weights: weights.all(),
                rows: rows.all(),
                y: y.all_mut(),
                accumulate: false,
            })
            .unwrap();
        y
    }

    /// Gradients of the rows and of the weights.
    fn combine_backward(
        &self,
        rows: &Stored<'_>,
        weights: &Stored<'_>,
        dy: &[f64],
        width: usize,
    ) -> [Stored<'b>; 2] {
        let (mut drows, mut dweights) = (unset(self.b, rows.get().len()), unset(self.b, weights.get().len()));
        self.b
            .combine_backward(CombineBackward {
                shape: self.shape,
                width,
                inverse: self.inverse.all(),
                weights: weights.all(),
                rows: rows.all(),
                dy: reals(self.b, dy).all(),
                drows: drows.all_mut(),
                dweights: dweights.all_mut(),
            })
            .unwrap();
        [drows, dweights]
    }

    fn dispatch_backward(&self, drows: &Stored<'_>, width: usize) -> Stored<'b> {
        let mut dx = unset(self.b, self.shape.tokens * width);
        let (inverse, drows) = (self.inverse.all(), drows.all());
        self.b
            .dispatch_backward(DispatchBackward {
                shape: self.shape,
                width,
                inverse,
                drows,
                dx: dx.all_mut(),
            })
            .unwrap();
        dx
    }
}

/// The products of the experts of one rank, over rows that `gather` picks, or that lie grouped.
struct Products<'b, 'a> {
    b: &'b Cpu,
    shape: grouped_gemm::Shape,
    offsets: &'a Held<'b, Cpu, u32>,
    gather: Option<&'a Held<'b, Cpu, u32>>,
    w: &'a Stored<'b>,
}

impl<'b> Products<'b, '_> {
    fn forward(&self, x: &Stored<'_>) -> Stored<'b> {
        let mut y = unset(self.b, self.shape.rows * self.shape.outputs);
        self.b
            .grouped_gemm_forward(grouped_gemm::Forward {
                shape: self.shape,
                offsets: self.offsets.all(),
                x: x.all(),
                gather: self.gather.map(Held::all),
                w: self.w.all(),
                y: y.all_mut(),
                workspace: unset(self.b, self.b.grouped_gemm_workspace(self.shape)).all_mut(),
            })
            .unwrap();
        y
    }

    fn dgrad(&self, dy: &Stored<'_>) -> Stored<'b> {
        let mut dx = unset(self.b, self.shape.rows * self.shape.inputs);
        self.b
            .grouped_gemm_dgrad(Dgrad {
                shape: self.shape,
                offsets: self.offsets.all(),
                dy: dy.all(),
                gather: self.gather.map(Held::all),
                w: self.w.all(),
                dx: dx.all_mut(),
                workspace: unset(self.b, self.b.grouped_gemm_workspace(self.shape)).all_mut(),
            })
            .unwrap();
        dx
    }

    fn wgrad(&self, x: &Stored<'_>, dy: &Stored<'_>) -> Stored<'b> {
        let mut dw = hold(self.b, &vec![0.0f32; self.w.get().len()]);
        self.b
            .grouped_gemm_wgrad(Wgrad {
                shape: self.shape,
                offsets: self.offsets.all(),
                x: x.all(),
                x_gather: self.gather.map(Held::all),
                dy: dy.all(),
                dy_gather: self.gather.map(Held::all),
                dw: dw.all_mut(),
                workspace: unset(self.b, self.b.grouped_gemm_workspace(self.shape)).all_mut(),
            })
            .unwrap();
        dw
    }
}

fn alone(b: &Cpu, sizes: &Sizes, inputs: &Inputs) -> Results {
    let &Sizes { top_k, experts, width, outputs, .. } = sizes;
    let local = Local::plan(b, Shape { tokens: sizes.all(), top_k, experts }, &inputs.indices);
    let shape = grouped_gemm::Shape { groups: experts, rows: inputs.indices.len(), inputs: width, outputs };
    let (w, weights) = (reals(b, &inputs.w), reals(b, &inputs.weights));
    let products = Products { b, shape, offsets: &local.offsets, gather: None, w: &w };
    let x_rows = local.dispatch(&inputs.x, width);
    let y_rows = products.forward(&x_rows);
    let y = local.combine(&y_rows, &weights, outputs);
    let [drows, dweights] = local.combine_backward(&y_rows, &weights, &inputs.dy, outputs);
    let dx = local.dispatch_backward(&products.dgrad(&drows), width);
    Results {
        y: bits(&y),
        dx: bits(&dx),
        dweights: bits(&dweights),
        dw: bits(&products.wgrad(&x_rows, &drows)),
    }
}

/// Rows on their way between this rank and all.
struct Wire<'b, 'a> {
    b: &'b Cpu,
    end: &'a InProcess,
    /// Rows to each rank and from each rank, on the way to the experts.
    to: Vec<u32>,
    from: Vec<u32>,
}

impl<'b> Wire<'b, '_> {
    fn run(&self, send_rows: &[u32], send: &Stored<'_>, receive_rows: &[u32], width: usize) -> Stored<'b> {
        let mut receive = unset(self.b, receive_rows[receive_rows.len() - 1] as usize * width);
        let (send, target) = (send.all(), receive.all_mut());
        let exchange = Exchange { width, send_rows, send, receive_rows, receive: target };
        self.end.exchange(self.b, exchange).unwrap();
        receive
    }

    fn to_experts(&self, rows: &Stored<'_>, width: usize) -> Stored<'b> {
        self.run(&self.to, rows, &self.from, width)
    }

    fn to_tokens(&self, rows: &Stored<'_>, width: usize) -> Stored<'b> {
        self.run(&self.from, rows, &self.to, width)
    }
}

fn on_a_rank(b: &Cpu, sizes: &Sizes, inputs: &Inputs, end: &InProcess) -> Results {
    let &Sizes { top_k, experts, width, outputs, .. } = sizes;
    let (ranks, rank) = (Communicator::<Cpu>::ranks(end), Communicator::<Cpu>::rank(end));
    let local = Local::plan(b, Shape { tokens: sizes.tokens[rank], top_k, experts }, &inputs.indices);
    let shape = all_to_all::Shape { ranks, experts };
    let (mut counts, mut to) = (unset_indices(b, experts), unset_indices(b, ranks + 1));
    let offsets = local.offsets.all();
    let rows = inputs.indices.len();
    b.send_plan(SendPlan { shape, rows, offsets, counts: counts.all_mut(), send: to.all_mut() }).unwrap();
    let own = shape.owned(rank).len();
    let mut arriving = unset_indices(b, ranks * own);
    end.exchange_counts(b, shape, counts.all(), arriving.all_mut()).unwrap();
    let received = arriving.get().iter().sum::<u32>() as usize;
    let [mut gather, mut inverse] = [(); 2].map(|()| unset_indices(b, received));
    let (mut from, mut offsets) = (unset_indices(b, ranks + 1), unset_indices(b, own + 1));
    b.receive_plan(ReceivePlan {
        shape,
        rank,
        counts: arriving.all(),
        receive: from.all_mut(),
        offsets: offsets.all_mut(),
        gather: gather.all_mut(),
        inverse: inverse.all_mut(),
    })
    .unwrap();
    let wire = Wire { b, end, to: to.get(), from: from.get() };
    let w = reals(b, &inputs.w);
    let shape = grouped_gemm::Shape { groups: own.max(1), rows: received, inputs: width, outputs };
    let products =
        (own > 0).then_some(Products { b, shape, offsets: &offsets, gather: Some(&gather), w: &w });
    // From the order of experts to the order in which the rows came.
    let as_received = |rows: &Stored<'_>, width: usize| {
        let shape = Shape { tokens: received, top_k: 1, experts: 1 };
        let mut target = unset(b, received * width);
        b.dispatch_forward(Dispatch {
            shape,
            width,
            token: inverse.all(),
            x: rows.all(),
            rows: target.all_mut(),
        })
        .unwrap();
        target
    };
    let none = || unset(b, 0);

    let weights = reals(b, &inputs.weights);
    let x_rows = wire.to_experts(&local.dispatch(&inputs.x, width), width);
    let y_rows = products.as_ref().map_or_else(none, |products| products.forward(&x_rows));
    let y_rows = wire.to_tokens(&as_received(&y_rows, outputs), outputs);
    let y = local.combine(&y_rows, &weights, outputs);

    let [drows, dweights] = local.combine_backward(&y_rows, &weights, &inputs.dy, outputs);
    let drows = wire.to_experts(&drows, outputs);
    let dx_rows = products.as_ref().map_or_else(none, |products| products.dgrad(&drows));
    let dx_rows = wire.to_tokens(&as_received(&dx_rows, width), width);
    let dw = products.as_ref().map_or_else(none, |products| products.wgrad(&x_rows, &drows));
    let dx = local.dispatch_backward(&dx_rows, width);
    Results { y: bits(&y), dx: bits(&dx), dweights: bits(&dweights), dw: bits(&dw) }
}

fn on_ranks(sizes: &Sizes, inputs: &Inputs) -> Results {
    let ends = InProcess::connect(sizes.tokens.len());
    let parts: Vec<Results> = std::thread::scope(|scope| {
        let run = |(rank, end)| {
            let share = sizes.share(inputs, rank);
            scope.spawn(move || on_a_rank(&Cpu::new(1).unwrap(), sizes, &share, &end))
        };
        let threads: Vec<_> = ends.into_iter().enumerate().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let joined = |part: fn(&Results) -> &Vec<u32>| parts.iter().flat_map(part).copied().collect();
    Results {
        y: joined(|r| &r.y),
        dx: joined(|r| &r.dx),
        dweights: joined(|r| &r.dweights),
        dw: joined(|r| &r.dw),
    }
}

#[test]
fn ranks_compute_what_one_rank_does_bit_for_bit() {
    for (tokens, top_k, experts, width, outputs) in [
        (vec![5], 2, 4, 8, 8),
        (vec![40, 40], 2, 8, 16, 24),
        (vec![33, 0, 70], 3, 7, 33, 17),
        (vec![1, 2, 3, 4], 1, 3, 5, 7),
        (vec![150, 20, 99, 64], 4, 32, 64, 32),
    ] {
        let sizes = Sizes { tokens, top_k, experts, width, outputs };
        let inputs = sizes.inputs();
        let expected = alone(&Cpu::new(2).unwrap(), &sizes, &inputs);
        assert!(expected.y.iter().any(|&bits| bits != 0), "{sizes:?}: nothing was computed");
        assert_eq!(on_ranks(&sizes, &inputs), expected, "{sizes:?}");
    }
}
