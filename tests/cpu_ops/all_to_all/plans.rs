//! The plans of an exchange between ranks against the specification.

use crate::agree::{Call, Outputs, widen};
use crate::device::{hold, unset_indices};
use crate::machines::agree;
use emo::Backend;
use emo::ops::all_to_all::{ReceivePlan, SendPlan, Shape};

/// Both plans of one rank.
struct Plans {
    shape: Shape,
    rank: usize,
    /// Rows that each rank has for each expert of this rank.
    counts: Vec<u32>,
    /// More room than rows.
    spare: usize,
}

impl Call for Plans {
    fn name(&self) -> String {
        format!("rank {} of {:?} with {:?}", self.rank, self.shape, self.counts)
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Self { shape, rank, ref counts, spare } = *self;
        let offsets: Vec<u32> = (0..=shape.experts as u32).map(|expert| expert * expert).collect();
        let (mut sent, mut send) = (unset_indices(b, shape.experts), unset_indices(b, shape.ranks + 1));
        b.send_plan(SendPlan {
            shape,
            rows: shape.experts * shape.experts,
            offsets: hold(b, &offsets).all(),
            counts: sent.all_mut(),
            send: send.all_mut(),
        })
        .unwrap();
        let room = counts.iter().sum::<u32>() as usize + spare;
        let [mut gather, mut inverse] = [(); 2].map(|()| unset_indices(b, room));
        let mut receive = unset_indices(b, shape.ranks + 1);
        let mut offsets = unset_indices(b, shape.owned(rank).len() + 1);
        b.receive_plan(ReceivePlan {
            shape,
            rank,
            counts: hold(b, counts).all(),
            receive: receive.all_mut(),
            offsets: offsets.all_mut(),
            gather: gather.all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap();
        let all = [
            ("counts", sent),
            ("send", send),
            ("receive", receive),
            ("offsets", offsets),
            ("gather", gather),
            ("inverse", inverse),
        ];
        all.into_iter().map(|(name, held)| (name, widen(&held.get()))).collect()
    }
}

#[test]
fn plans_agree_with_the_specification() {
    for (ranks, experts) in [(1, 1), (1, 7), (3, 7), (4, 2), (5, 20)] {
        let shape = Shape { ranks, experts };
        for rank in 0..ranks {
            let cells = ranks * shape.owned(rank).len();
            for (spare, scale) in [(0, 0), (0, 1), (3, 5)] {
                let counts = (0..cells as u32).map(|cell| scale * (cell * 7 % 5)).collect();
                agree(&Plans { shape, rank, counts, spare });
            }
        }
    }
}
