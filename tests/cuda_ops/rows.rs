//! The ops that move and change rows: addresses that no 16-byte access fits, and indices that kernels refuse.

use crate::agree::{indices, values};
use crate::device::{hold, reals, unset, unset_indices};
use crate::gpu::gpu;
use crate::machines::devices;
use emo::backend::{Element, Real};
use emo::cuda::{Cuda, CudaBuffer, CudaStorage, CudaView, CudaViewMut};
use emo::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan, Shape};
use emo::ops::{adamw, all_to_all, cross_entropy, embedding, rope};
use emo::{Backend, Error};

/// A buffer whose view begins `shift` elements behind an address that is a multiple of 256 bytes.
struct Shifted<'b, S: CudaStorage, T: Element> {
    cuda: &'b Cuda<S>,
    buffer: CudaBuffer<T>,
    shift: usize,
    len: usize,
}

impl<'b, S: CudaStorage, T: Element + Real> Shifted<'b, S, T> {
    fn new(cuda: &'b Cuda<S>, shift: usize, values: &[f64]) -> Self {
        let (len, buffer) = (values.len(), cuda.alloc(shift + values.len()).unwrap());
        let mut shifted = Self { cuda, buffer, shift, len };
        let values: Vec<T> = values.iter().map(|&value| T::from_f64(value)).collect();
        cuda.upload(&values, shifted.all_mut()).unwrap();
        shifted
    }
    fn all(&self) -> CudaView<'_, T> {
        self.cuda.view(&self.buffer, self.shift..self.shift + self.len).unwrap()
    }
    fn all_mut(&mut self) -> CudaViewMut<'_, T> {
        self.cuda.view_mut(&mut self.buffer, self.shift..self.shift + self.len).unwrap()
    }
    fn get(&self) -> Vec<f64> {
        let mut values = vec![T::zeroed(); self.len];
        self.cuda.download(self.all(), &mut values).unwrap();
        values.into_iter().map(Real::to_f64).collect()
    }
}

/// What the ops write to buffers that begin `shift` elements behind a multiple of 256 bytes.
fn shifted<S: CudaStorage>(cuda: &Cuda<S>, shift: usize) -> Vec<(&'static str, Vec<f64>)> {
    macro_rules! stored {
        ($values:expr) => {
            Shifted::<S, S>::new(cuda, shift, &$values)
        };
    }
    macro_rules! single {
        ($values:expr) => {
            Shifted::<S, f32>::new(cuda, shift, &$values)
        };
    }
    let (tokens, top_k, width) = (5, 3, 24);
    let (shape, slots) = (Shape { tokens, top_k, experts: 4 }, tokens * top_k);
    let inverse: Vec<u32> = (0..slots as u32).map(|slot| slot * 7 % slots as u32).collect();
    let (inverse, token) = (hold(cuda, &inverse), hold(cuda, &indices(slots, tokens, 1)));
    let (x, rows) = (stored!(values(tokens * width, 2)), stored!(values(slots * width, 3)));
    let (weights, nan) = (single!(values(slots, 4)), |len: usize| vec![f64::NAN; len]);
    let (mut sent, mut dx) = (stored!(nan(slots * width)), stored!(nan(tokens * width)));
    let (token, inverse) = (token.all(), inverse.all());
    cuda.dispatch_forward(Dispatch { shape, width, token, x: x.all(), rows: sent.all_mut() }).unwrap();
    let drows = rows.all();
    cuda.dispatch_backward(DispatchBackward { shape, width, inverse, drows, dx: dx.all_mut() }).unwrap();
    let mut y = stored!(values(tokens * width, 5));
    cuda.combine_forward(Combine {
        shape,
        width,
        inverse,
        weights: weights.all(),
        rows: rows.all(),
        y: y.all_mut(),
        accumulate: true,
    })
    .unwrap();
    let (mut drows, mut dweights) = (stored!(nan(slots * width)), single!(nan(slots)));
    cuda.combine_backward(CombineBackward {
        shape,
        width,
        inverse,
        weights: weights.all(),
        rows: rows.all(),
        dy: x.all(),
        drows: drows.all_mut(),
        dweights: dweights.all_mut(),
    })
    .unwrap();

    let ids = hold(cuda, &indices(7, 3, 6));
    let shape = embedding::Shape { rows: 7, vocabulary: 3, width };
    let (mut embedded, mut dtable) = (stored!(nan(7 * width)), single!(values(3 * width, 7)));
    let (ids, table) = (ids.all(), stored!(values(3 * width, 8)));
    let table = table.all();
    cuda.embedding_forward(embedding::Forward { shape, ids, table, y: embedded.all_mut() }).unwrap();
    let (dy, padding) = (stored!(values(7 * width, 9)), None);
    let (dy, target) = (dy.all(), dtable.all_mut());
    cuda.embedding_backward(embedding::Backward { shape, ids, padding, dy, dtable: target }).unwrap();

    let shape = rope::Shape { rows: 4, heads: 2, head_dim: 16, stride: 40, positions: 9 };
    let (cos, sin) = rope::table(9, 16, 1e4);
    let (cos, sin) = (single!(cos), single!(sin));
    let (position, mut rotated) = (hold(cuda, &[8, 0, 3, 7]), stored!(values(4 * 40, 10)));
    cuda.rope(rope::Apply {
        shape,
        position: position.all(),
        cos: cos.all(),
        sin: sin.all(),
        inverse: false,
        x: rotated.all_mut(),
    })
    .unwrap();

    let len = 3001;
    let (mut params, grads) = (single!(values(len, 11)), single!(values(len, 12)));
    let (mut m, mut v) = (single!(vec![0.0; len]), single!(vec![0.0; len]));
    let mut copy = stored!(nan(len));
    let hyper = adamw::Hyper {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 1.0,
    };
    cuda.adamw(adamw::Step {
        hyper,
        params: params.all_mut(),
        grads: grads.all(),
        m: m.all_mut(),
        v: v.all_mut(),
        copy: Some(copy.all_mut()),
    })
    .unwrap();
    let mut squares = hold(cuda, &[f64::NAN]);
    cuda.sum_of_squares(adamw::SumOfSquares { x: grads.all(), out: squares.all_mut() }).unwrap();
    vec![
        ("dispatch", sent.get()),
        ("dispatch backward", dx.get()),
        ("combine", y.get()),
        ("combine backward", drows.get()),
        ("dweights", dweights.get()),
        ("embedding", embedded.get()),
        ("dtable", dtable.get()),
        ("rope", rotated.get()),
        ("params", params.get()),
        ("m", m.get()),
        ("v", v.get()),
        ("copy", copy.get()),
        ("squares", squares.get()),
    ]
}

/// Sums are added in another order where lanes take other elements: these alone may differ, in the last bits.
#[track_caller]
fn addresses_do_not_matter<S: CudaStorage>(cuda: &Cuda<S>) {
    for ((name, aligned), (_, odd)) in shifted(cuda, 0).into_iter().zip(shifted(cuda, 1)) {
        let tolerance = if name == "dweights" { 1e-5 } else { 0.0 };
        for (i, (aligned, odd)) in aligned.iter().zip(&odd).enumerate() {
            assert!((aligned - odd).abs() <= tolerance, "{name}[{i}]: {aligned} and {odd}");
        }
    }
}

#[test]
fn rows_at_any_address_are_the_same_rows() {
    let Some((f32, bf16)) = devices() else { return };
    addresses_do_not_matter(f32);
    addresses_do_not_matter(bf16);
}

/// Logits whose rows begin anywhere between two multiples of 16 bytes.
#[test]
fn losses_do_not_depend_on_where_a_row_begins() {
    let Some((_, cuda)) = devices() else { return };
    let (vocabulary, rows) = (37, 3);
    let run = |shift: usize| {
        let mut logits = Shifted::<_, half::bf16>::new(cuda, shift, &values(rows * vocabulary, 1));
        let [mut loss, mut lse] = [(); 2].map(|()| unset::<_, f32>(cuda, rows));
        cuda.cross_entropy(cross_entropy::ForwardBackward {
            rows,
            vocabulary,
            targets: hold(cuda, &[36, 0, cross_entropy::IGNORE]).all(),
            scale: 0.5,
            z_weight: 1e-3,
            logits: logits.all_mut(),
            backward: true,
            loss: loss.all_mut(),
            lse: lse.all_mut(),
        })
        .unwrap();
        [logits.get(), loss.reals(), lse.reals()].concat()
    };
    let first = run(0);
    for shift in 1..9 {
        for (i, (first, other)) in first.iter().zip(run(shift)).enumerate() {
            // A gradient of bf16 may fall to the neighbour.
            assert!(
                (first - other).abs() <= 1e-6 + first.abs() / 128.0,
                "[{i}] at {shift}: {first}, {other}"
            );
        }
    }
}

/// What the next wait says.
fn reported<S: CudaStorage>(cuda: &Cuda<S>, op: &'static str) -> (&'static str, usize, usize, usize) {
    match cuda.synchronize() {
        Err(Error::Index { op: found, arg, position, bound, found: value }) if found == op => {
            (arg, position, bound, value)
        }
        other => panic!("{op} gave {other:?}"),
    }
}

#[test]
fn a_plan_sorts_slots_without_an_expert_behind_all_others() {
    let Some(cuda) = gpu::<f32>() else { return };
    let cuda = &cuda;
    let shape = Shape { tokens: 5, top_k: 1, experts: 2 };
    let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(cuda, 5));
    let mut offsets = unset_indices(cuda, 3);
    cuda.plan(Plan {
        shape,
        indices: hold(cuda, &[1, 7, 0, 1, 0]).all(),
        order: order.all_mut(),
        token: token.all_mut(),
        offsets: offsets.all_mut(),
        inverse: inverse.all_mut(),
    })
    .unwrap();
    assert_eq!(reported(cuda, "plan"), ("indices", 1, 2, 7));
    assert_eq!((order.get(), offsets.get()), (vec![2, 4, 0, 3, 1], vec![0, 2, 4]));
    assert_eq!((token.get(), inverse.get()), (vec![2, 4, 0, 3, 1], vec![2, 4, 0, 3, 1]));
}

#[test]
fn wrong_indices_are_named_and_not_followed() {
    let Some(cuda) = gpu::<f32>() else { return };
    let cuda = &cuda;
    let (shape, width) = (Shape { tokens: 2, top_k: 1, experts: 1 }, 4);
    let (x, weights) = (reals(cuda, &values(8, 1)), reals(cuda, &[1.0, 2.0]));
    let (mut out, mut dweights) = (unset(cuda, 8), unset(cuda, 2));
    let (x, weights) = (x.all(), weights.all());

    let token = hold(cuda, &[0, 2]);
    cuda.dispatch_forward(Dispatch { shape, width, token: token.all(), x, rows: out.all_mut() }).unwrap();
    assert_eq!(reported(cuda, "dispatch_forward"), ("token", 1, 2, 2));
    assert_eq!(out.reals()[4..], [0.0; 4]);

    let far = hold(cuda, &[u32::MAX, 0]);
    let inverse = far.all();
    cuda.dispatch_backward(DispatchBackward { shape, width, inverse, drows: x, dx: out.all_mut() }).unwrap();
    assert_eq!(reported(cuda, "dispatch_backward"), ("inverse", 0, 2, u32::MAX as usize));
    let y = out.all_mut();
    cuda.combine_forward(Combine { shape, width, inverse, weights, rows: x, y, accumulate: false }).unwrap();
    assert_eq!(reported(cuda, "combine_forward"), ("inverse", 0, 2, u32::MAX as usize));

    for (rows, expected) in [([2, 0], ("inverse", 0, 2, 2)), ([0, 0], ("a row's slots in inverse", 1, 1, 1))]
    {
        cuda.combine_backward(CombineBackward {
            shape,
            width,
            inverse: hold(cuda, &rows).all(),
            weights,
            rows: x,
            dy: x,
            drows: out.all_mut(),
            dweights: dweights.all_mut(),
        })
        .unwrap();
        assert_eq!(reported(cuda, "combine_backward"), expected);
    }

    let mut dtable = reals(cuda, &[0.0; 12]);
    cuda.embedding_backward(embedding::Backward {
        shape: embedding::Shape { rows: 2, vocabulary: 3, width },
        ids: hold(cuda, &[1, 3]).all(),
        padding: None,
        dy: x,
        dtable: dtable.all_mut(),
    })
    .unwrap();
    assert_eq!(reported(cuda, "embedding_backward"), ("ids", 1, 3, 3));

    let table = reals(cuda, &[1.0; 4]);
    let shape = rope::Shape { rows: 2, heads: 1, head_dim: 4, stride: 4, positions: 2 };
    let (position, cos, sin) = (hold(cuda, &[0, 9]), table.all(), table.all());
    let position = position.all();
    cuda.rope(rope::Apply { shape, position, cos, sin, inverse: false, x: out.all_mut() }).unwrap();
    assert_eq!(reported(cuda, "rope"), ("position", 1, 2, 9));

    for target in [4, -1] {
        let mut logits = reals(cuda, &[0.5; 8]);
        let [mut loss, mut lse] = [(); 2].map(|()| unset(cuda, 2));
        cuda.cross_entropy(cross_entropy::ForwardBackward {
            rows: 2,
            vocabulary: 4,
            targets: hold(cuda, &[0, target]).all(),
            scale: 1.0,
            z_weight: 0.0,
            logits: logits.all_mut(),
            backward: true,
            loss: loss.all_mut(),
            lse: lse.all_mut(),
        })
        .unwrap();
        assert_eq!(reported(cuda, "cross_entropy"), ("targets", 1, 4, target as u32 as usize));
        assert_eq!((logits.reals()[4..].to_vec(), loss.reals()[1]), (vec![0.0; 4], 0.0));
    }
}

#[test]
fn wrong_counts_between_ranks_are_named() {
    let Some(cuda) = gpu::<f32>() else { return };
    let cuda = &cuda;
    let shape = all_to_all::Shape { ranks: 2, experts: 4 };
    let [mut receive, mut offsets, mut gather, mut inverse] = [(); 4].map(|()| unset_indices(cuda, 3));
    let mut plan = |counts: &[u32]| {
        cuda.receive_plan(all_to_all::ReceivePlan {
            shape,
            rank: 0,
            counts: hold(cuda, counts).all(),
            receive: receive.all_mut(),
            offsets: offsets.all_mut(),
            gather: gather.all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap();
    };
    plan(&[1, 0, 1, 1]);
    assert_eq!(cuda.synchronize(), Ok(()));
    plan(&[1, 0, 2, 1]);
    assert_eq!(reported(cuda, "receive_plan"), ("rows up to counts", 3, 4, 4));
    plan(&[u32::MAX; 4]);
    assert_eq!(reported(cuda, "receive_plan").0, "rows up to counts");

    let (mut counts, mut send) = (unset_indices(cuda, 4), unset_indices(cuda, 3));
    for (offsets, position) in [([1, 2, 2, 5, 9], 0), ([0, 5, 2, 5, 9], 1), ([0, 2, 2, 5, 10], 4)] {
        cuda.send_plan(all_to_all::SendPlan {
            shape,
            rows: 9,
            offsets: hold(cuda, &offsets).all(),
            counts: counts.all_mut(),
            send: send.all_mut(),
        })
        .unwrap();
        let (arg, found, ..) = reported(cuda, "send_plan");
        assert_eq!((arg, found), ("offsets", position), "{offsets:?}");
    }
}
