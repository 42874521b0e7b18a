//! Ranks that exchange rows: the all-to-all between the parts of a mixture whose experts are spread over devices.
//!
//! [`ops::all_to_all`](crate::ops::all_to_all) says what goes where, on the device. A [`Communicator`] moves it.
//! [`InProcess`] joins threads of one process, for tests and for machines with one device; a library such as NCCL joins
//! devices behind the same trait. Such libraries take row counts on the host, so an exchange takes them there: a layer
//! without capacity limits waits once, for the counts.

mod in_process;

pub use in_process::InProcess;

use crate::backend::{Backend, Element, Indices, IndicesMut, Len};
use crate::ops::all_to_all::Shape;
use crate::{Error, Result};

const OP: &str = "exchange";

/// Rows of `width` elements to every rank, and from every rank.
///
/// To run an exchange backwards, swap what is sent with what is received.
pub struct Exchange<'a, 'r, B: Backend, T: Element> {
    /// Elements of a row.
    pub width: usize,
    /// `[ranks + 1]`, ascending from 0: rows `send_rows[r]..send_rows[r + 1]` of `send` go to rank `r`.
    pub send_rows: &'r [u32],
    /// `send_rows[ranks]` rows.
    pub send: B::View<'a, T>,
    /// `[ranks + 1]`, ascending from 0: where the rows of each rank arrive, as many as it sends to this one.
    pub receive_rows: &'r [u32],
    /// Output: `receive_rows[ranks]` rows.
    pub receive: B::ViewMut<'a, T>,
}

impl<B: Backend, T: Element> Exchange<'_, '_, B, T> {
    /// The rows fit the buffers.
    pub fn check(&self, ranks: usize) -> Result<()> {
        if self.width == 0 {
            return Err(Error::argument(OP, "width", "positive", 0));
        }
        self.fits(ranks, ("send_rows", self.send_rows), ("send", self.send.len()))?;
        self.fits(ranks, ("receive_rows", self.receive_rows), ("receive", self.receive.len()))
    }

    fn fits(
        &self,
        ranks: usize,
        (arg, rows): (&'static str, &[u32]),
        (buffer, found): (&'static str, usize),
    ) -> Result<()> {
        if rows.len() != ranks.saturating_add(1) {
            let expected = ranks.saturating_add(1);
            return Err(Error::Length { op: OP, arg, expected, found: rows.len() });
        }
        if rows[0] != 0 || rows.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(Error::argument(OP, arg, "ascending from 0", format!("{rows:?}")));
        }
        match (rows[ranks] as usize).checked_mul(self.width) {
            Some(expected) if expected == found => Ok(()),
            Some(expected) => Err(Error::Length { op: OP, arg: buffer, expected, found }),
            None => Err(Error::argument(OP, arg, "a size that fits in memory", rows[ranks])),
        }
    }
}

/// One rank's end of the connection to all ranks, itself included. Every rank makes the same calls in the same order.
pub trait Communicator<B: Backend> {
    /// Which rank this is.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Sends every rank its rows and receives every rank's rows.
    ///
    /// # Errors
    /// Where rows and buffers do not fit, another rank sends another number of bytes, or a rank is gone.
    fn exchange<T: Element>(&self, backend: &B, exchange: Exchange<'_, '_, B, T>) -> Result<()>;

    /// Tells every rank how many rows this one has for its experts: from the `counts` of
    /// [`SendPlan`](crate::ops::all_to_all::SendPlan) to those of [`ReceivePlan`](crate::ops::all_to_all::ReceivePlan).
    ///
    /// # Errors
    /// As [`Communicator::exchange`].
    fn exchange_counts<'a>(
        &self,
        backend: &B,
        shape: Shape,
        send: Indices<'a, B>,
        receive: IndicesMut<'a, B>,
    ) -> Result<()> {
        if shape.ranks != self.ranks() {
            return Err(Error::argument("exchange_counts", "ranks", self.ranks(), shape.ranks));
        }
        let small = |expert: usize| {
            u32::try_from(expert)
                .map_err(|_| Error::argument("exchange_counts", "experts", "below 2^32", shape.experts))
        };
        let own = shape.owned(self.rank()).len();
        let send_rows = (0..=shape.ranks).map(|rank| small(shape.first(rank))).collect::<Result<Vec<_>>>()?;
        let receive_rows =
            (0..=shape.ranks).map(|rank| small(rank.saturating_mul(own))).collect::<Result<Vec<_>>>()?;
        let (send_rows, receive_rows) = (&send_rows[..], &receive_rows[..]);
        self.exchange(backend, Exchange { width: 1, send_rows, send, receive_rows, receive })
    }
}
