//! A permutation plan of chosen experts.

use super::device::{Held, hold, unset_indices};
use emo::Backend;
use emo::ops::permutation::{self, Shape};

/// The outputs of the op `plan`.
pub struct Plan<'b, B: Backend> {
    pub order: Held<'b, B, u32>,
    pub token: Held<'b, B, u32>,
    pub offsets: Held<'b, B, u32>,
    pub inverse: Held<'b, B, u32>,
}

/// Plans `choices`, the expert of each slot.
pub fn plan<'b, B: Backend>(device: &'b B, shape: Shape, choices: &[u32]) -> Plan<'b, B> {
    let [mut order, mut token, mut inverse] = [(); 3].map(|()| unset_indices(device, choices.len()));
    let mut offsets = unset_indices(device, shape.experts + 1);
    device
        .plan(permutation::Plan {
            shape,
            indices: hold(device, choices).all(),
            order: order.all_mut(),
            token: token.all_mut(),
            offsets: offsets.all_mut(),
            inverse: inverse.all_mut(),
        })
        .unwrap_or_else(|error| panic!("{error}"));
    Plan { order, token, offsets, inverse }
}
