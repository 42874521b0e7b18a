//! Arithmetic, bit operations, comparisons and selection.

use super::{Class, Current, Unknown, class};
use crate::exec::code::{
    CarryOp, Combine, Compare, Float, Half, Int, Logic, Op, Operands, Prmt, Round, SetAs, Slot, Test, Wide,
};
use crate::exec::decode::modifiers::Modifiers;
use crate::ptx::ast::{Operand, Type};

impl Current<'_, '_> {
    pub(super) fn arithmetic(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let ty = m.ty()?;
        match ty {
            Type::F32 | Type::F64 | Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => {
                self.float(name, m, ty)
            }
            Type::Pred => Err("arithmetic on predicates".to_owned()),
            _ => self.integer(name, m, ty),
        }
    }

    fn sources(&mut self, types: [Type; 3]) -> Result<[Slot; 3], Unknown> {
        let mut slots = [0; 3];
        for (i, ty) in types.into_iter().enumerate() {
            slots[i] = match i + 1 < self.operand_count() {
                true => self.source(i + 1, ty)?,
                // An operand that the operation does not have: any slot of the right file will do.
                false => slots[0],
            };
        }
        Ok(slots)
    }

    fn float(&mut self, name: &str, m: &mut Modifiers<'_>, ty: Type) -> Result<Op, Unknown> {
        let approximate = m.take("approx") | m.take("full");
        let nan = m.take("NaN");
        m.take("noftz");
        let mode = m.float_mode()?;
        let op = match name {
            "add" => Float::Add,
            "sub" => Float::Sub,
            "mul" => Float::Mul,
            "fma" | "mad" => Float::Fma,
            "div" => Float::Div,
            "sqrt" => Float::Sqrt,
            "rsqrt" => Float::Rsqrt,
            "rcp" => Float::Rcp,
            "ex2" => Float::Ex2,
            "lg2" => Float::Lg2,
            "sin" => Float::Sin,
            "cos" => Float::Cos,
            "tanh" => Float::Tanh,
            "abs" => Float::Abs,
            "neg" => Float::Neg,
            "min" if nan => Float::MinNan,
            "max" if nan => Float::MaxNan,
            "min" => Float::Min,
            "max" => Float::Max,
            "copysign" => Float::CopySign,
            _ => return Err(format!("`{name}` on {ty:?}")),
        };
        if matches!(op, Float::Min | Float::Max | Float::MinNan | Float::MaxNan) && self.operand_count() > 3 {
            return Err("minimum or maximum of three".to_owned());
        }
        let directed = mode.round != Round::Nearest;
        let exact_only = !matches!(op, Float::Add | Float::Sub | Float::Mul | Float::Fma) || ty != Type::F32;
        if directed && exact_only && !approximate {
            return Err(format!("directed rounding of `{name}` on {ty:?}"));
        }
        let d = self.destination(0, ty)?;
        let [a, b, c] = self.sources([ty; 3])?;
        Ok(match half_of(ty) {
            Some((kind, packed)) => Op::Half { op, mode, kind, packed, d, a, b, c },
            None if ty == Type::F32 => Op::F32 { op, mode, d, a, b, c },
            None => Op::F64 { op, d, a, b, c },
        })
    }

    fn integer(&mut self, name: &str, m: &mut Modifiers<'_>, ty: Type) -> Result<Op, Unknown> {
        let signed = ty.is_signed();
        let give = m.take("cc");
        let saturate = m.take("sat");
        let (wide, high, low) = (m.take("wide"), m.take("hi"), m.take("lo"));
        if wide {
            return self.wide(name, ty);
        }
        if give || matches!(name, "addc" | "subc" | "madc") {
            return self.carry(name, ty, high, give);
        }
        let op = match (name, signed) {
            ("add", true) if saturate => Int::AddSatS,
            ("sub", true) if saturate => Int::SubSatS,
            _ if saturate => return Err("`.sat`".to_owned()),
            ("add", _) => Int::Add,
            ("sub", _) => Int::Sub,
            ("mul", true) if high => Int::MulHiS,
            ("mul", false) if high => Int::MulHiU,
            ("mul", _) if low => Int::MulLo,
            ("mad", true) if high => Int::MadHiS,
            ("mad", false) if high => Int::MadHiU,
            ("mad", _) if low => Int::MadLo,
            ("mul24", true) if low => Int::Mul24S,
            ("mul24", false) if low => Int::Mul24U,
            ("div", true) => Int::DivS,
            ("div", false) => Int::DivU,
            ("rem", true) => Int::RemS,
            ("rem", false) => Int::RemU,
            ("abs", true) => Int::Abs,
            ("neg", true) => Int::Neg,
            ("min", true) => Int::MinS,
            ("min", false) => Int::MinU,
            ("max", true) => Int::MaxS,
            ("max", false) => Int::MaxU,
            _ => return Err(format!("`{name}` on {ty:?}")),
        };
        self.int_op(op, ty)
    }

    /// `op` on three sources of one type.
    fn int_op(&mut self, op: Int, ty: Type) -> Result<Op, Unknown> {
        let d = self.destination(0, ty)?;
        let [a, b, c] = self.sources([ty; 3])?;
        Ok(match ty.bytes() {
            2 => Op::Int16 { op, d, a, b, c },
            4 => Op::Int32 { op, d, a, b, c },
            8 => Op::Int64 { op, d, a, b, c },
            _ => return Err(format!("{ty:?}")),
        })
    }

    fn wide(&mut self, name: &str, ty: Type) -> Result<Op, Unknown> {
        let (kind, result) = match ty {
            Type::U16 => (Wide::U16, Type::B32),
            Type::S16 => (Wide::S16, Type::B32),
            Type::U32 => (Wide::U32, Type::B64),
            Type::S32 => (Wide::S32, Type::B64),
            _ => return Err(format!("wide multiplication of {ty:?}")),
        };
        let (d, a, b) = (self.destination(0, result)?, self.source(1, ty)?, self.source(2, ty)?);
        match name {
            "mul" => Ok(Op::MulWide { kind, d, a, b }),
            "mad" => Ok(Op::MadWide { kind, d, a, b, c: self.source(3, result)? }),
            _ => Err(format!("`{name}.wide`")),
        }
    }

    fn carry(&mut self, name: &str, ty: Type, high: bool, give: bool) -> Result<Op, Unknown> {
        let take = name.ends_with('c') && name.len() == 4;
        let op = match (name.trim_end_matches('c'), high, ty.is_signed()) {
            ("add", ..) => CarryOp::Add,
            ("sub", ..) => CarryOp::Sub,
            ("mad", false, _) => CarryOp::MadLo,
            ("mad", true, false) => CarryOp::MadHiU,
            ("mad", true, true) => CarryOp::MadHiS,
            _ => return Err(format!("`{name}` with a carry")),
        };
        let d = self.destination(0, ty)?;
        let [a, b, c] = self.sources([ty; 3])?;
        Ok(match ty.bytes() {
            4 => Op::Carry32 { op, d, a, b, c, take, give },
            8 => Op::Carry64 { op, d, a, b, c, take, give },
            _ => return Err(format!("carry of {ty:?}")),
        })
    }

    pub(super) fn bits(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let funnel = (m.take("l"), m.take("r"), m.take("wrap"), m.take("clamp"));
        let shift_amount = m.take("shiftamt");
        let prmt_mode = m.take_first(|m| {
            Some(match m {
                "f4e" => Prmt::F4e,
                "b4e" => Prmt::B4e,
                "rc8" => Prmt::Rc8,
                "ecl" => Prmt::Ecl,
                "ecr" => Prmt::Ecr,
                "rc16" => Prmt::Rc16,
                _ => return None,
            })
        });
        let (low, high) = (m.take("lo"), m.take("hi"));
        let ty = m.ty()?;
        let (signed, long) = (ty.is_signed(), ty.bytes() == 8);
        let op = match name {
            "and" | "or" | "xor" | "not" if ty == Type::Pred => return self.predicate_logic(name),
            "and" => Int::And,
            "or" => Int::Or,
            "xor" => Int::Xor,
            "not" => Int::Not,
            "cnot" => Int::Cnot,
            "lop3" => {
                let (d, table) = (self.destination(0, ty)?, self.immediate(4)? as u8);
                let (a, b, c) = (self.source(1, ty)?, self.source(2, ty)?, self.source(3, ty)?);
                return Ok(Op::Int32 { op: Int::Lop3(table), d, a, b, c });
            }
            "shl" | "shr" => {
                let op = match (name, signed) {
                    ("shl", _) => Int::Shl,
                    (_, true) => Int::ShrS,
                    (_, false) => Int::ShrU,
                };
                let (d, a, b) = (self.destination(0, ty)?, self.source(1, ty)?, self.source(2, Type::U32)?);
                return Ok(match ty.bytes() {
                    2 => Op::Int16 { op, d, a, b, c: a },
                    4 => Op::Int32 { op, d, a, b, c: a },
                    _ => Op::Shift64 { op, d, a, b },
                });
            }
            "shf" => match funnel {
                (true, _, true, _) => Int::FunnelLeftWrap,
                (true, _, _, true) => Int::FunnelLeftClamp,
                (_, true, true, _) => Int::FunnelRightWrap,
                (_, true, _, true) => Int::FunnelRightClamp,
                _ => return Err("a funnel shift without direction or mode".to_owned()),
            },
            "bfe" => {
                let op = if signed { Int::BfeS } else { Int::BfeU };
                let (d, a) = (self.destination(0, ty)?, self.source(1, ty)?);
                let (b, c) = (self.source(2, Type::U32)?, self.source(3, Type::U32)?);
                return Ok(match long {
                    true => Op::Field64 { op, d, a, b, c, e: a },
                    false => Op::Int32 { op, d, a, b, c },
                });
            }
            "bfi" => {
                let (d, a, b) = (self.destination(0, ty)?, self.source(1, ty)?, self.source(2, ty)?);
                let (c, e) = (self.source(3, Type::U32)?, self.source(4, Type::U32)?);
                return Ok(match long {
                    true => Op::Field64 { op: Int::Bfi, d, a, b: c, c: e, e: b },
                    false => Op::Field32 { d, a, b, c, e },
                });
            }
            "popc" | "clz" | "bfind" => {
                let op = match (name, signed, shift_amount) {
                    ("popc", ..) => Int::Popc,
                    ("clz", ..) => Int::Clz,
                    (_, false, false) => Int::BfindU,
                    (_, true, false) => Int::BfindS,
                    (_, false, true) => Int::BfindShiftU,
                    (_, true, true) => Int::BfindShiftS,
                };
                let (d, a) = (self.destination(0, Type::U32)?, self.source(1, ty)?);
                return Ok(match long {
                    true => Op::Count64 { op, d, a },
                    false => Op::Int32 { op, d, a, b: a, c: a },
                });
            }
            "brev" => Int::Brev,
            "prmt" => match prmt_mode {
                Some(mode) => Int::PrmtMode(mode),
                None => Int::Prmt,
            },
            "sad" => {
                if signed {
                    Int::SadS
                } else {
                    Int::SadU
                }
            }
            "dp4a" | "dp2a" => {
                let second = m.ty()?;
                let signs = (signed, second.is_signed());
                let op = match name {
                    "dp4a" => Int::Dp4a(signs.0, signs.1),
                    _ if low => Int::Dp2aLo(signs.0, signs.1),
                    _ if high => Int::Dp2aHi(signs.0, signs.1),
                    _ => return Err("`dp2a` without `.lo` or `.hi`".to_owned()),
                };
                return self.int_op(op, Type::B32);
            }
            "fns" => Int::Fns,
            _ => return Err(format!("`{name}`")),
        };
        self.int_op(op, ty)
    }

    fn predicate_logic(&mut self, name: &str) -> Result<Op, Unknown> {
        let d = self.destination(0, Type::Pred)?;
        let (a, not_a) = self.predicate(1)?;
        if name == "not" {
            return Ok(Op::MovPred { d, a, negated: !not_a });
        }
        let (b, not_b) = self.predicate(2)?;
        let op = match name {
            "and" => Logic::And,
            "or" => Logic::Or,
            _ => Logic::Xor,
        };
        Ok(Op::Logic { op, d, a, b, not_a, not_b })
    }

    pub(super) fn compare(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        match name {
            "selp" => {
                let ty = m.ty()?;
                let (d, a, b) = (self.destination(0, ty)?, self.source(1, ty)?, self.source(2, ty)?);
                let (p, negated) = self.predicate(3)?;
                Ok(match class(ty) {
                    Class::Long => Op::Select64 { d, a, b, p, negated },
                    Class::Word => Op::Select32 { d, a, b, p, negated },
                    Class::Pred => return Err("selection of predicates".to_owned()),
                })
            }
            "slct" => {
                m.take("ftz");
                let (ty, by) = (m.ty()?, m.ty()?);
                let (d, a, b) = (self.destination(0, ty)?, self.source(1, ty)?, self.source(2, ty)?);
                let c = self.source(3, by)?;
                Ok(Op::Slct { float: by == Type::F32, long: class(ty) == Class::Long, d, a, b, c })
            }
            "testp" => {
                let test = m.need("test", |m| {
                    Some(match m {
                        "finite" => Test::Finite,
                        "infinite" => Test::Infinite,
                        "number" => Test::Number,
                        "notanumber" => Test::NotANumber,
                        "normal" => Test::Normal,
                        "subnormal" => Test::Subnormal,
                        _ => return None,
                    })
                })?;
                let ty = m.ty()?;
                let (p, a) = (self.destination(0, Type::Pred)?, self.source(1, ty)?);
                Ok(Op::TestP { test, long: ty == Type::F64, p, a })
            }
            _ => self.set(name, m),
        }
    }

    fn set(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let flush = m.take("ftz");
        let op = m.need("comparison", compare_of)?;
        let logic = m.take_first(|m| match m {
            "and" => Some(Logic::And),
            "or" => Some(Logic::Or),
            "xor" => Some(Logic::Xor),
            _ => None,
        });
        let result = if name == "set" { Some(m.ty()?) } else { None };
        let ty = m.ty()?;
        let of = operands_of(ty).ok_or_else(|| format!("comparison of {ty:?}"))?;
        let combine = match logic {
            Some(op) => {
                let (slot, negated) = self.predicate(3)?;
                Some(Combine { op, slot, negated })
            }
            None => None,
        };
        let (a, b) = (self.source(1, ty)?, self.source(2, ty)?);
        let Some(result) = result else {
            let (p, q) = match self.operand(0)? {
                Operand::Pair(p, q) => (self.destination_pred(p)?, self.destination_pred(q)?),
                p => (self.destination_pred(p)?, None),
            };
            return Ok(Op::Compare { op, of, flush, combine, p, q, a, b });
        };
        let how = match (result, half_of(ty)) {
            (Type::F16x2, Some((_, true))) => SetAs::PairOne(Half::F16),
            (Type::Bf16x2, Some((_, true))) => SetAs::PairOne(Half::Bf16),
            (_, Some((_, true))) => SetAs::PairOnes,
            (Type::U32 | Type::S32 | Type::B32, _) => SetAs::Ones,
            (Type::U16 | Type::S16 | Type::B16, _) => SetAs::Ones16,
            (Type::F32, _) => SetAs::One32,
            (Type::F16, _) => SetAs::HalfOne(Half::F16),
            (Type::Bf16, _) => SetAs::HalfOne(Half::Bf16),
            _ => return Err(format!("`set` to {result:?}")),
        };
        let d = self.destination(0, result)?;
        Ok(Op::Set { op, of, flush, combine, how, d, a, b })
    }
}

fn compare_of(modifier: &str) -> Option<Compare> {
    Some(match modifier {
        "eq" => Compare::Eq,
        "ne" => Compare::Ne,
        "lt" | "lo" => Compare::Lt,
        "le" | "ls" => Compare::Le,
        "gt" | "hi" => Compare::Gt,
        "ge" | "hs" => Compare::Ge,
        "equ" => Compare::Equ,
        "neu" => Compare::Neu,
        "ltu" => Compare::Ltu,
        "leu" => Compare::Leu,
        "gtu" => Compare::Gtu,
        "geu" => Compare::Geu,
        "num" => Compare::Num,
        "nan" => Compare::Nan,
        _ => return None,
    })
}

fn operands_of(ty: Type) -> Option<Operands> {
    Some(match ty {
        Type::U16 | Type::B16 => Operands::U16,
        Type::S16 => Operands::S16,
        Type::U32 | Type::B32 => Operands::U32,
        Type::S32 => Operands::S32,
        Type::U64 | Type::B64 => Operands::U64,
        Type::S64 => Operands::S64,
        Type::F32 => Operands::F32,
        Type::F64 => Operands::F64,
        Type::F16 => Operands::F16,
        Type::Bf16 => Operands::Bf16,
        Type::F16x2 => Operands::F16x2,
        Type::Bf16x2 => Operands::Bf16x2,
        _ => return None,
    })
}

/// Format of a 16-bit float type, and whether it is a pair.
pub(super) fn half_of(ty: Type) -> Option<(Half, bool)> {
    Some(match ty {
        Type::F16 => (Half::F16, false),
        Type::F16x2 => (Half::F16, true),
        Type::Bf16 => (Half::Bf16, false),
        Type::Bf16x2 => (Half::Bf16, true),
        _ => return None,
    })
}
