//! Ranks that are threads of one process: rows travel through host memory and channels.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Communicator, Exchange, OP};
use crate::backend::{Backend, Element, Len};
use crate::{Error, Result};

/// One rank's end of a set of channels between the threads of a process. Each rank moves to a thread of its own.
///
/// Works with any backend, by way of host memory, and allocates there.
#[derive(Debug)]
pub struct InProcess {
    rank: usize,
    /// To each rank.
    to: Vec<Sender<Vec<u8>>>,
    /// From each rank.
    from: Vec<Receiver<Vec<u8>>>,
}

impl InProcess {
    /// The ends of `ranks` ranks, in order.
    pub fn connect(ranks: usize) -> Vec<Self> {
        let mut ends: Vec<Self> =
            (0..ranks).map(|rank| Self { rank, to: Vec::new(), from: Vec::new() }).collect();
        for from in 0..ranks {
            for to in 0..ranks {
                let (sender, receiver) = channel();
                ends[from].to.push(sender);
                ends[to].from.push(receiver);
            }
        }
        ends
    }

    fn gone(rank: usize) -> Error {
        Error::Backend { backend: "in-process ranks", message: format!("rank {rank} is gone") }
    }
}

impl<B: Backend> Communicator<B> for InProcess {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn exchange<T: Element>(&self, backend: &B, exchange: Exchange<'_, '_, B, T>) -> Result<()> {
        let ranks = self.to.len();
        exchange.check(ranks)?;
        let Exchange { width, send_rows, send, receive_rows, receive } = exchange;
        let mut rows = vec![T::zeroed(); send.len()];
        backend.download(send, &mut rows)?;
        for (rank, (to, range)) in self.to.iter().zip(send_rows.windows(2)).enumerate() {
            let part = &rows[range[0] as usize * width..range[1] as usize * width];
            to.send(bytemuck::cast_slice(part).to_vec()).map_err(|_| Self::gone(rank))?;
        }
        let mut rows = vec![T::zeroed(); receive.len()];
        for (rank, (from, range)) in self.from.iter().zip(receive_rows.windows(2)).enumerate() {
            let part: &mut [u8] =
                bytemuck::cast_slice_mut(&mut rows[range[0] as usize * width..range[1] as usize * width]);
            let message = from.recv().map_err(|_| Self::gone(rank))?;
            if message.len() != part.len() {
                let expected = format!("what rank {rank} sends, {} bytes", message.len());
                return Err(Error::argument(OP, "receive_rows", expected, part.len()));
            }
            part.copy_from_slice(&message);
        }
        backend.upload(&rows, receive)
    }
}
