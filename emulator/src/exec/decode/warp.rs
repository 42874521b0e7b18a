//! Operations of a whole warp or block: votes, shuffles, barriers, matrices.

use super::modifiers::Modifiers;
use super::{Current, Unknown};
use crate::exec::code::{Barrier, Mma, Op, Redux, Shuffle, Slot, Vote};
use crate::fault::Space;
use crate::ptx::ast::{Operand, Type};

impl Current<'_, '_> {
    pub(super) fn warp_wide(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        if name == "activemask" {
            m.ty()?;
            return Ok(Op::ActiveMask { d: self.destination(0, Type::B32)? });
        }
        if !m.take("sync") {
            return Err(format!("`{name}` without `.sync`"));
        }
        match name {
            "shfl" => {
                let how = m.need("mode", |m| {
                    Some(match m {
                        "up" => Shuffle::Up,
                        "down" => Shuffle::Down,
                        "bfly" => Shuffle::Butterfly,
                        "idx" => Shuffle::Index,
                        _ => return None,
                    })
                })?;
                m.ty()?;
                let (d, p) = self.destination_and_pred(0, Type::B32)?;
                let [a, b, c, members] = self.words(1)?;
                Ok(Op::Shuffle { how, d, p, a, b, c, members })
            }
            "vote" => {
                let how = m.need("mode", |m| {
                    Some(match m {
                        "all" => Vote::All,
                        "any" => Vote::Any,
                        "uni" => Vote::Uniform,
                        "ballot" => Vote::Ballot,
                        _ => return None,
                    })
                })?;
                let d = self.destination(0, m.ty()?)?;
                let (p, negated) = self.predicate(1)?;
                Ok(Op::Vote { how, d, p, negated, members: self.source(2, Type::B32)? })
            }
            "match" => {
                let all = m.take("all");
                if !all && !m.take("any") {
                    return Err("`match.sync` without a mode".to_owned());
                }
                let ty = m.ty()?;
                let (d, p) = self.destination_and_pred(0, Type::B32)?;
                let (a, members) = (self.source(1, ty)?, self.source(2, Type::B32)?);
                Ok(Op::Match { all, long: ty.bytes() == 8, d, p, a, members })
            }
            "redux" => {
                let word = m.need("operation", |m| {
                    ["add", "min", "max", "and", "or", "xor"].into_iter().find(|&known| known == m)
                })?;
                let ty = m.ty()?;
                let op = match (word, ty) {
                    (_, Type::F32) => return Err("`redux` on f32".to_owned()),
                    ("add", _) => Redux::Add,
                    ("min", Type::S32) => Redux::MinS,
                    ("min", _) => Redux::MinU,
                    ("max", Type::S32) => Redux::MaxS,
                    ("max", _) => Redux::MaxU,
                    ("and", _) => Redux::And,
                    ("or", _) => Redux::Or,
                    _ => Redux::Xor,
                };
                let (d, a) = (self.destination(0, ty)?, self.source(1, ty)?);
                Ok(Op::Redux { op, d, a, members: self.source(2, Type::B32)? })
            }
            _ => {
                let Operand::Pair(d, p) = self.operand(0)?.clone() else {
                    return Err("`elect.sync` without a predicate".to_owned());
                };
                let p = self.destination_pred(&p)?.ok_or("`elect.sync` without a predicate")?;
                let d = match *d {
                    Operand::Sink => None,
                    register => Some(self.any_register(&register)?.1),
                };
                Ok(Op::Elect { d, p, members: self.source(1, Type::B32)? })
            }
        }
    }

    /// Four sources of 32 bits from operand `first` on.
    fn words(&mut self, first: usize) -> Result<[Slot; 4], Unknown> {
        let mut slots = [0; 4];
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = self.source(first + i, Type::B32)?;
        }
        Ok(slots)
    }

    pub(super) fn barrier(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        if m.take("warp") {
            m.take("sync");
            return Ok(Op::WarpBarrier { members: self.source(0, Type::B32)? });
        }
        m.take("cta");
        // `bar.sync` means `barrier.cta.sync.aligned` (PTX ISA 9.7.13.1).
        let aligned = m.take("aligned") | (name == "bar");
        if m.take("sync") {
            let id = self.source(0, Type::U32)?;
            let threads = if self.operand_count() > 1 { Some(self.source(1, Type::U32)?) } else { None };
            return Ok(Op::Barrier { what: Barrier::Sync, id, threads, aligned });
        }
        if m.take("arrive") {
            let (id, threads) = (self.source(0, Type::U32)?, self.source(1, Type::U32)?);
            return Ok(Op::Barrier { what: Barrier::Arrive, id, threads: Some(threads), aligned });
        }
        if !m.take("red") {
            return Err(format!("`{name}` without a mode"));
        }
        let mode = m.need("operation", |m| ["popc", "and", "or"].into_iter().find(|&known| known == m))?;
        let d = self.destination(0, m.ty()?)?;
        let id = self.source(1, Type::U32)?;
        let last = self.operand_count() - 1;
        let threads = if last > 2 { Some(self.source(2, Type::U32)?) } else { None };
        let (p, negated) = self.predicate(last)?;
        let what = match mode {
            "popc" => Barrier::Popc { d, p, negated },
            "and" => Barrier::And { d, p, negated },
            _ => Barrier::Or { d, p, negated },
        };
        Ok(Op::Barrier { what, id, threads, aligned })
    }

    /// The registers of a vector operand.
    fn registers<const N: usize>(&mut self, index: usize, count: usize) -> Result<[Slot; N], Unknown> {
        let parts = match self.operand(index)?.clone() {
            Operand::Vector(parts) => parts,
            single => vec![single],
        };
        if parts.len() != count || count > N {
            return Err(format!("{} registers in operand {}, not {count}", parts.len(), index + 1));
        }
        let mut slots = [0; N];
        for (slot, part) in slots.iter_mut().zip(&parts) {
            *slot = self.source_of(part, Type::B32)?;
        }
        Ok(slots)
    }

    pub(super) fn matrix(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        m.take("sync");
        m.take("aligned");
        if !m.take("m8n8") || !m.take("b16") {
            return Err(format!("`{name}` of another shape than m8n8 of b16"));
        }
        let transposed = m.take("trans");
        if name == "movmatrix" {
            return Ok(Op::MoveMatrix { d: self.destination(0, Type::B32)?, a: self.source(1, Type::B32)? });
        }
        let count = m.need("number of matrices", |m| match m {
            "x1" => Some(1),
            "x2" => Some(2),
            "x4" => Some(4),
            _ => None,
        })?;
        if !(m.take("shared") || m.take("shared::cta")) {
            return Err(format!("`{name}` without `.shared`"));
        }
        Ok(match name {
            "ldmatrix" => {
                let (d, from) = (self.registers(0, count)?, self.address(1, Space::Shared)?);
                Op::LoadMatrix { count: count as u8, transposed, d, from }
            }
            _ => {
                let (to, a) = (self.address(0, Space::Shared)?, self.registers(1, count)?);
                Op::StoreMatrix { count: count as u8, transposed, a, to }
            }
        })
    }

    pub(super) fn mma(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        m.take("sync");
        m.take("aligned");
        let size =
            m.need("shape", |m| ["m16n8k4", "m16n8k8", "m16n8k16"].into_iter().find(|&known| known == m))?;
        if !m.take("row") || !m.take("col") {
            return Err("another layout than `.row.col`".to_owned());
        }
        let types = [m.ty()?, m.ty()?, m.ty()?, m.ty()?];
        let [d, a, b, c] = types;
        if (d, c) != (Type::F32, Type::F32) || a != b {
            return Err(format!("{types:?}"));
        }
        let (shape, a_count, b_count) = match (size, a) {
            ("m16n8k8", Type::Bf16) => (Mma::Bf16K8, 2, 1),
            ("m16n8k16", Type::Bf16) => (Mma::Bf16K16, 4, 2),
            ("m16n8k8", Type::F16) => (Mma::F16K8, 2, 1),
            ("m16n8k16", Type::F16) => (Mma::F16K16, 4, 2),
            ("m16n8k4", Type::Tf32) => (Mma::Tf32K4, 2, 1),
            ("m16n8k8", Type::Tf32) => (Mma::Tf32K8, 4, 2),
            _ => return Err(format!("`{size}` of {a:?}")),
        };
        let d = self.registers(0, 4)?;
        Ok(Op::Mma {
            shape,
            d,
            a: self.registers(1, a_count)?,
            b: self.registers(2, b_count)?,
            c: self.registers(3, 4)?,
        })
    }
}
