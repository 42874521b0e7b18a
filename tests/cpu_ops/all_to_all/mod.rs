//! Experts spread over ranks: the plans of the exchange, and a layer whose ranks are threads against the same layer on one
//! rank, bit for bit.

mod layer;
mod plans;

use emo::communicator::{Communicator, Exchange, InProcess};
use emo::cpu::Cpu;
use emo::ops::all_to_all::{ReceivePlan, SendPlan, Shape};
use emo::{Backend, Error};

#[test]
fn every_expert_has_one_rank() {
    for (ranks, experts) in [(1, 1), (3, 7), (4, 2), (7, 1000), (128, 128)] {
        let shape = Shape { ranks, experts };
        let owned: Vec<usize> = (0..ranks).flat_map(|rank| shape.owned(rank)).collect();
        assert_eq!(owned, (0..experts).collect::<Vec<_>>(), "{shape:?}");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let cpu = Cpu::new(1).unwrap();
    let shape = Shape { ranks: 2, experts: 4 };
    let [mut receive, mut offsets, mut gather, mut inverse] = [[0; 3]; 4];
    let mut receive_plan = |counts: &[u32], rank| {
        cpu.receive_plan(ReceivePlan {
            shape,
            rank,
            counts,
            receive: &mut receive,
            offsets: &mut offsets,
            gather: &mut gather,
            inverse: &mut inverse,
        })
        .map_err(|error| error.to_string())
    };
    assert_eq!(receive_plan(&[1, 0, 1, 1], 0), Ok(()));
    let full = receive_plan(&[1, 0, 2, 1], 0).unwrap_err();
    assert_eq!(full, "receive_plan: `counts` must be at most 3 rows together, found 4");
    assert!(receive_plan(&[u32::MAX; 4], 0).unwrap_err().contains("`counts`"));
    assert!(receive_plan(&[0; 3], 0).unwrap_err().contains("`counts` must hold 4"));
    assert!(receive_plan(&[0; 4], 2).unwrap_err().contains("`rank`"));

    let (mut counts, mut send) = ([0; 4], [0; 3]);
    let mut send_plan = |offsets: &[u32]| {
        cpu.send_plan(SendPlan { shape, rows: 9, offsets, counts: &mut counts, send: &mut send })
            .map_err(|error| error.to_string())
    };
    assert_eq!(send_plan(&[0, 2, 2, 5, 9]), Ok(()));
    for wrong in [[0, 2, 2, 5, 8], [1, 2, 2, 5, 9], [0, 5, 2, 5, 9]] {
        assert!(send_plan(&wrong).unwrap_err().contains("`offsets`"), "{wrong:?}");
    }
}

/// Rank 0 of two, and what it says when it exchanges rows of two elements with a rank that does the same.
fn exchange(send_rows: &[u32], receive_rows: &[u32], send: usize, receive: usize) -> Result<Vec<f32>, Error> {
    let cpu = Cpu::new(1)?;
    let mut ends = InProcess::connect(2);
    let (other, own) = (ends.pop().unwrap(), ends.pop().unwrap());
    let run = |end: &InProcess, value: f32| {
        let mut received = vec![0.0; receive];
        let (send, receive) = (&vec![value; send][..], &mut received[..]);
        let exchange = Exchange { width: 2, send_rows, send, receive_rows, receive };
        end.exchange(&cpu, exchange).map(|()| received)
    };
    std::thread::scope(|scope| {
        let run = &run;
        scope.spawn(move || run(&other, 1.0));
        run(&own, 0.0)
    })
}

#[test]
fn an_exchange_that_does_not_fit_is_an_error() {
    assert_eq!(exchange(&[0, 1, 2], &[0, 1, 2], 4, 4).unwrap(), [0.0, 0.0, 1.0, 1.0]);
    for (send_rows, receive_rows, send, receive, arg) in [
        (&[0, 1, 2][..], &[0, 1, 2][..], 3, 4, "`send`"),
        (&[0, 1, 2], &[0, 1, 2], 4, 5, "`receive`"),
        (&[0, 2], &[0, 1, 2], 4, 4, "`send_rows`"),
        (&[0, 3, 2], &[0, 1, 2], 4, 4, "`send_rows`"),
        (&[0, 1, 2], &[1, 1, 2], 4, 4, "`receive_rows`"),
        (&[0, 1, 2], &[0, 2, 3], 4, 6, "`receive_rows` must be what rank 0 sends"),
        (&[0, u32::MAX, u32::MAX], &[0, 1, 2], 4, 4, "`send`"),
    ] {
        let error = exchange(send_rows, receive_rows, send, receive).unwrap_err().to_string();
        assert!(error.contains(arg), "{error} should name {arg}");
    }
}

#[test]
fn a_rank_that_is_gone_is_an_error() {
    let cpu = Cpu::new(1).unwrap();
    let end = InProcess::connect(2).swap_remove(0);
    let shape = Shape { ranks: 2, experts: 2 };
    let error = end.exchange_counts(&cpu, shape, &[1, 1], &mut [0, 0]).unwrap_err();
    assert!(error.to_string().contains("rank 1 is gone"), "{error}");
    let error = end.exchange_counts(&cpu, Shape { ranks: 3, ..shape }, &[1, 1], &mut [0, 0]).unwrap_err();
    assert!(error.to_string().contains("`ranks`"), "{error}");
}
