//! Operations between the lanes of a warp (PTX ISA 9.7.9.6, 9.7.13.8 to 9.7.13.12).

use super::code::{Redux, Shuffle, Slot, Vote};
use super::lanes::{Registers, flags, lanes};

/// What a lane gets from one that does not take part (undefined in the ISA).
const POISON: u32 = u32::MAX;

impl Registers {
    /// `shfl.sync`. `c` holds the segment mask in bits 8 to 12 and the clamp in bits 0 to 4.
    pub(super) fn shuffle(
        &mut self,
        how: Shuffle,
        mask: u32,
        (d, p): (Slot, Option<Slot>),
        [a, b, c]: [Slot; 3],
    ) {
        let (a, b, c) = (*self.word(a), *self.word(b), *self.word(c));
        let mut inside = 0;
        self.set_word(d, mask, |lane| {
            let segment = c[lane] >> 8 & 0x1F;
            let clamp = c[lane] & 0x1F;
            let own = lane as u32;
            let (delta, first) = (b[lane] & 0x1F, own & segment);
            let last = first | clamp & !segment;
            let (source, valid) = match how {
                // The lowest lane stands in `last` for `up`, whose clamp is 0.
                Shuffle::Up => (own.wrapping_sub(delta), own as i32 - delta as i32 >= last as i32),
                Shuffle::Down => (own + delta, own + delta <= last),
                Shuffle::Butterfly => (own ^ delta, own ^ delta <= last),
                Shuffle::Index => (first | delta & !segment, first | delta & !segment <= last),
            };
            inside |= u32::from(valid) << lane;
            let source = if valid { source as usize & 31 } else { lane };
            if mask >> source & 1 == 1 { a[source] } else { POISON }
        });
        if let Some(p) = p {
            self.set_pred(p, mask, inside);
        }
    }

    /// `vote.sync` among the lanes of `mask`, for those whose members are in `groups`.
    pub(super) fn vote(&mut self, how: Vote, mask: u32, d: Slot, value: u32, members: Slot) {
        let members = *self.word(members);
        let yes = |lane: usize| value & members[lane] & mask;
        let all = |lane: usize| members[lane] & mask;
        match how {
            Vote::Ballot => self.set_word(d, mask, yes),
            Vote::All => self.set_pred(d, mask, flags(|lane| yes(lane) == all(lane))),
            Vote::Any => self.set_pred(d, mask, flags(|lane| yes(lane) != 0)),
            Vote::Uniform => self.set_pred(d, mask, flags(|lane| yes(lane) == 0 || yes(lane) == all(lane))),
        }
    }

    /// `match.any.sync` and `match.all.sync`.
    pub(super) fn match_values(
        &mut self,
        (all, long): (bool, bool),
        mask: u32,
        (d, p): (Slot, Option<Slot>),
        a: Slot,
        members: Slot,
    ) {
        let values: [u64; 32] =
            std::array::from_fn(|i| if long { self.long(a)[i] } else { u64::from(self.word(a)[i]) });
        let members = *self.word(members);
        let mut agree = 0;
        self.set_word(d, mask, |lane| {
            let among = members[lane] & mask;
            let same = lanes(among).filter(|&other| values[other] == values[lane]).fold(0, |m, i| m | 1 << i);
            agree |= u32::from(same == among) << lane;
            if all && same != among { 0 } else { same }
        });
        if let Some(p) = p {
            self.set_pred(p, mask, agree);
        }
    }

    /// `redux.sync`.
    pub(super) fn reduce(&mut self, op: Redux, mask: u32, d: Slot, a: Slot, members: Slot) {
        let (a, members) = (*self.word(a), *self.word(members));
        let mut known = None;
        self.set_word(d, mask, |lane| {
            let among = members[lane] & mask;
            if let Some((lanes, value)) = known
                && lanes == among
            {
                return value;
            }
            let combine = |x: u32, y: u32| match op {
                Redux::Add => x.wrapping_add(y),
                Redux::MinU => x.min(y),
                Redux::MaxU => x.max(y),
                Redux::MinS => (x as i32).min(y as i32) as u32,
                Redux::MaxS => (x as i32).max(y as i32) as u32,
                Redux::And => x & y,
                Redux::Or => x | y,
                Redux::Xor => x ^ y,
            };
            let value = lanes(among).map(|other| a[other]).reduce(combine).unwrap_or(0);
            known = Some((among, value));
            value
        });
    }

    /// `elect.sync`: the lowest of the members.
    pub(super) fn elect(&mut self, mask: u32, d: Option<Slot>, p: Slot, members: Slot) {
        let members = *self.word(members);
        let leader = |lane: usize| (members[lane] & mask).trailing_zeros();
        if let Some(d) = d {
            self.set_word(d, mask, leader);
        }
        self.set_pred(p, mask, flags(|lane| leader(lane) == lane as u32));
    }
}
