//! `mov`, `cvt` and conversions between address spaces.

use super::modifiers::Modifiers;
use super::{Class, Current, Unknown, class};
use crate::exec::code::{Cvt, CvtRound, Number, Op, Slot};
use crate::fault::Space;
use crate::ptx::ast::{Operand, Type};

impl Current<'_, '_> {
    pub(super) fn mov(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let ty = m.ty()?;
        match (self.operand(0)?, self.operand(1)?) {
            (Operand::Vector(parts), _) => {
                let parts = parts.clone();
                self.unpack(ty, &parts)
            }
            (_, Operand::Vector(parts)) => {
                let parts = parts.clone();
                self.pack(ty, &parts)
            }
            (_, Operand::Special(name))
                if name == "%clock" || name == "%clock_hi" || name == "%globaltimer_lo" =>
            {
                Ok(Op::Clock32 { d: self.destination(0, Type::U32)? })
            }
            (_, Operand::Special(name)) if name == "%clock64" || name == "%globaltimer" => {
                Ok(Op::Clock64 { d: self.destination(0, Type::U64)? })
            }
            (_, Operand::Special(name)) if name == "%gridid" && ty.bytes() == 8 => {
                let a = self.source_of(&Operand::Integer(0), ty)?;
                Ok(Op::Mov64 { d: self.destination(0, ty)?, a })
            }
            _ => {
                let d = self.destination(0, ty)?;
                Ok(match class(ty) {
                    Class::Word => Op::Mov32 { d, a: self.source(1, ty)? },
                    Class::Long => Op::Mov64 { d, a: self.source(1, ty)? },
                    Class::Pred => {
                        let (a, negated) = self.predicate(1)?;
                        Op::MovPred { d, a, negated }
                    }
                })
            }
        }
    }

    fn pack(&mut self, ty: Type, parts: &[Operand]) -> Result<Op, Unknown> {
        let d = self.destination(0, ty)?;
        let part_type = match (ty.bytes(), parts.len()) {
            (4, 2) | (8, 4) => Type::B16,
            (8, 2) => Type::B32,
            (2, 2) | (4, 4) => Type::B8,
            _ => return Err(format!("packing of {} parts into {ty:?}", parts.len())),
        };
        let slots =
            parts.iter().map(|part| self.source_of(part, part_type)).collect::<Result<Vec<Slot>, _>>()?;
        Ok(match slots[..] {
            [a, b] if part_type == Type::B16 => Op::Pack16 { d, a, b },
            [a, b] if part_type == Type::B32 => Op::Pack32 { d, a, b },
            [a, b, c, e] if part_type == Type::B16 => Op::Pack64x16 { d, a: [a, b, c, e] },
            [a, b] => Op::Pack8 { d, a: [a, b, a, b], count: 2 },
            [a, b, c, e] => Op::Pack8 { d, a: [a, b, c, e], count: 4 },
            _ => return Err("packing".to_owned()),
        })
    }

    fn unpack(&mut self, ty: Type, parts: &[Operand]) -> Result<Op, Unknown> {
        let a = self.source(1, ty)?;
        let slots = parts
            .iter()
            .map(|part| match part {
                Operand::Sink => Ok(None),
                _ => match self.any_register(part)? {
                    (ty, slot) if class(ty) == Class::Word => Ok(Some(slot)),
                    (ty, _) => Err(format!("unpacking into a register of type {ty:?}")),
                },
            })
            .collect::<Result<Vec<Option<Slot>>, _>>()?;
        Ok(match (ty.bytes(), &slots[..]) {
            (4, &[d, e]) => Op::Unpack16 { d, e, a },
            (8, &[d, e]) => Op::Unpack32 { d, e, a },
            (8, &[d, e, f, g]) => Op::Unpack64x16 { d: [d, e, f, g], a },
            (4, &[d, e, f, g]) => Op::Unpack8 { d: [d, e, f, g], a },
            (2, &[d, e]) => Op::Unpack8 { d: [d, e, None, None], a },
            _ => return Err(format!("unpacking of {ty:?} into {} parts", slots.len())),
        })
    }

    pub(super) fn convert(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let round = m.cvt_round();
        let (flush, saturate, relu) = (m.take("ftz"), m.take("sat"), m.take("relu"));
        let saturate = saturate | m.take("satfinite");
        let (to, from) = (m.ty()?, m.ty()?);
        if let Some(half) = match to {
            Type::F16x2 => Some(Number::F16),
            Type::Bf16x2 => Some(Number::Bf16),
            _ => None,
        } {
            if from != Type::F32 || saturate {
                return Err(format!("conversion of {from:?} to {to:?}"));
            }
            let how = Cvt { to: half, from: Number::F32, round, saturate, flush, relu };
            let (d, a, b) = (self.destination(0, to)?, self.source(1, from)?, self.source(2, from)?);
            return Ok(Op::CvtPair { how, d, a, b });
        }
        let (to_number, from_number) = match (number_of(to), number_of(from)) {
            (Some(to), Some(from)) => (to, from),
            _ => return Err(format!("conversion of {from:?} to {to:?}")),
        };
        let to_integer = !to.is_float();
        let round = match (round, to_integer && from.is_float()) {
            // `cvt.rn.s32.f32` is an old spelling of `cvt.rni.s32.f32`.
            (CvtRound::Nearest, true) => CvtRound::IntNearest,
            (CvtRound::Zero | CvtRound::None, true) => CvtRound::IntZero,
            (CvtRound::Down, true) => CvtRound::IntDown,
            (CvtRound::Up, true) => CvtRound::IntUp,
            (other, _) => other,
        };
        let how = Cvt { to: to_number, from: from_number, round, saturate, flush, relu };
        // Registers may be wider than the types (PTX ISA 9.4.1): the file follows from the register.
        let (d_type, d) = self.any_register(self.operand(0)?)?;
        let (a_type, a) = match self.operand(1)? {
            Operand::Register(register) => self.register(*register),
            _ => (from, self.source(1, from)?),
        };
        let long = |ty: Type| class(ty) == Class::Long;
        if d_type == Type::Pred || a_type == Type::Pred {
            return Err("conversion of a predicate".to_owned());
        }
        Ok(Op::Cvt { how, d, a, long_d: long(d_type), long_a: long(a_type), half_d: d_type.bytes() == 2 })
    }

    pub(super) fn address_conversion(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let back = m.take("to");
        m.take("param::entry");
        let space = m.need("state space", space_of)?;
        let ty = m.ty()?;
        let (d, a) = (self.destination(0, ty)?, self.source(1, ty)?);
        if ty.bytes() != 8 {
            return Err("32-bit generic addresses".to_owned());
        }
        Ok(match (space, back) {
            (Space::Global | Space::Const, _) => Op::Mov64 { d, a },
            (space, false) => Op::ToGeneric { d, a, space },
            (space, true) => Op::FromGeneric { d, a, space },
        })
    }

    pub(super) fn is_space(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        m.take("param::entry");
        let space = m.need("state space", space_of)?;
        Ok(Op::IsSpace { p: self.destination(0, Type::Pred)?, a: self.source(1, Type::B64)?, space })
    }
}

/// State space of a modifier.
pub(super) fn space_of(modifier: &str) -> Option<Space> {
    Some(match modifier {
        "global" => Space::Global,
        "shared" | "shared::cta" => Space::Shared,
        "local" => Space::Local,
        "const" => Space::Const,
        "param" | "param::entry" | "param::func" => Space::Param,
        _ => return None,
    })
}

fn number_of(ty: Type) -> Option<Number> {
    Some(match ty {
        Type::U8 | Type::B8 => Number::U8,
        Type::S8 => Number::S8,
        Type::U16 | Type::B16 => Number::U16,
        Type::S16 => Number::S16,
        Type::U32 | Type::B32 => Number::U32,
        Type::S32 => Number::S32,
        Type::U64 | Type::B64 => Number::U64,
        Type::S64 => Number::S64,
        Type::F16 => Number::F16,
        Type::Bf16 => Number::Bf16,
        Type::Tf32 => Number::Tf32,
        Type::F32 => Number::F32,
        Type::F64 => Number::F64,
        _ => return None,
    })
}
