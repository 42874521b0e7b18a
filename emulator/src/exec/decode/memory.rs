//! Loads, stores, atomics and asynchronous copies.

use super::arithmetic::half_of;
use super::convert::space_of;
use super::modifiers::Modifiers;
use super::{Class, Current, Unknown, class};
use crate::exec::async_copy::CopySize;
use crate::exec::code::{Access, Address, Atomic, Op, Slot};
use crate::exec::layout::Place;
use crate::fault::Space;
use crate::ptx::ast::{Operand, Type, VariableRef};

impl Current<'_, '_> {
    fn access(m: &mut Modifiers<'_>) -> Result<(Space, Type, u8), Unknown> {
        m.drop_cache_hints();
        let space = m.take_first(space_of).unwrap_or(Space::Generic);
        let count = m.take_first(|m| match m {
            "v2" => Some(2),
            "v4" => Some(4),
            _ => None,
        });
        let ty = m.ty()?;
        if ty.bytes() == 0 {
            return Err("an access to predicates".to_owned());
        }
        Ok((space, ty, count.unwrap_or(1)))
    }

    /// Registers of a load or store; they may be wider than the type (PTX ISA 9.4.1).
    fn shape(&self, parts: &[Operand], ty: Type, count: u8) -> Result<Access, Unknown> {
        if parts.len() != usize::from(count) {
            return Err(format!("{} registers for {count} elements", parts.len()));
        }
        let register = parts.iter().find_map(|part| self.any_register(part).ok()).map_or(ty, |(ty, _)| ty);
        if register == Type::Pred || register.bytes() < ty.bytes() {
            return Err(format!("a register of type {register:?} for {ty:?}"));
        }
        let long = class(register) == Class::Long;
        Ok(Access {
            bytes: ty.bytes() as u8,
            count,
            signed: ty.is_signed(),
            long,
            half: register.bytes() == 2,
        })
    }

    /// Notes the smallest access to shared memory: races are looked for in units of it.
    fn note_shared(&mut self, address: Address, bytes: u32) {
        if matches!(address.space, Space::Shared | Space::Generic) {
            self.decoder.code.granule = self.decoder.code.granule.min(bytes);
        }
    }

    fn parts(&self, index: usize) -> Result<Vec<Operand>, Unknown> {
        Ok(match self.operand(index)? {
            Operand::Vector(parts) => parts.clone(),
            single => vec![single.clone()],
        })
    }

    pub(super) fn load(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let (space, ty, count) = Self::access(m)?;
        let parts = self.parts(0)?;
        let access = self.shape(&parts, ty, count)?;
        let mut d = [None; 4];
        for (slot, part) in d.iter_mut().zip(&parts) {
            *slot = match part {
                Operand::Sink => None,
                part => Some(self.same_file(part, access)?),
            };
        }
        let from = self.address(1, space)?;
        self.note_shared(from, ty.bytes());
        Ok(Op::Load { access, d, from })
    }

    fn same_file(&self, part: &Operand, access: Access) -> Result<Slot, Unknown> {
        let (ty, slot) = self.any_register(part)?;
        match (class(ty) == Class::Long) == access.long && ty != Type::Pred {
            true => Ok(slot),
            false => Err("registers of different sizes".to_owned()),
        }
    }

    pub(super) fn store(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        let (space, ty, count) = Self::access(m)?;
        let parts = self.parts(1)?;
        let access = self.shape(&parts, ty, count)?;
        let mut a = [0; 4];
        for (slot, part) in a.iter_mut().zip(&parts) {
            *slot = match part {
                Operand::Register(_) => self.same_file(part, access)?,
                part if access.long => self.source_of(part, if ty.bytes() == 8 { ty } else { Type::B64 })?,
                part => self.source_of(part, ty)?,
            };
        }
        let to = self.address(0, space)?;
        self.note_shared(to, ty.bytes());
        Ok(Op::Store { access, a, to })
    }

    pub(super) fn atomic(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        m.drop_cache_hints();
        m.take("noftz");
        let space = m.take_first(space_of).unwrap_or(Space::Generic);
        let operation = m.need("operation", |m| {
            ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"]
                .into_iter()
                .find(|&known| known == m)
        })?;
        let ty = m.ty()?;
        let op = match (operation, ty.is_signed()) {
            ("add", _) if ty == Type::F32 => Atomic::AddF32,
            ("add", _) if ty == Type::F64 => Atomic::AddF64,
            ("add", _) if half_of(ty).is_some() => match half_of(ty) {
                Some((kind, true)) => Atomic::AddHalves(kind),
                Some((kind, false)) => Atomic::AddHalf(kind),
                None => return Err("addition".to_owned()),
            },
            (_, _) if ty.is_float() => return Err(format!("atomic `{operation}` on {ty:?}")),
            ("add", _) => Atomic::Add,
            ("min", true) => Atomic::MinS,
            ("min", false) => Atomic::MinU,
            ("max", true) => Atomic::MaxS,
            ("max", false) => Atomic::MaxU,
            ("and", _) => Atomic::And,
            ("or", _) => Atomic::Or,
            ("xor", _) => Atomic::Xor,
            ("exch", _) => Atomic::Exch,
            ("cas", _) => Atomic::Cas,
            ("inc", _) => Atomic::Inc,
            _ => Atomic::Dec,
        };
        let reduction = name == "red";
        let first = usize::from(!reduction);
        let d = match reduction || matches!(self.operand(0)?, Operand::Sink) {
            true => None,
            false => Some(self.destination(0, ty)?),
        };
        let at = self.address(first, space)?;
        let b = self.source(first + 1, ty)?;
        let c = if op == Atomic::Cas { self.source(first + 2, ty)? } else { b };
        self.note_shared(at, ty.bytes());
        Ok(Op::Atomic { op, long: ty.bytes() == 8, bytes: ty.bytes() as u8, d, at, b, c })
    }

    pub(super) fn copy_async(&mut self, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        if !m.take("async") {
            return Err("`cp` without `.async`".to_owned());
        }
        if m.take("commit_group") {
            return Ok(Op::CommitGroup);
        }
        if m.take("wait_all") {
            return Ok(Op::WaitGroup { pending: None });
        }
        if m.take("wait_group") {
            let pending = u32::try_from(self.immediate(0)?).map_err(|_| "a negative number of groups")?;
            return Ok(Op::WaitGroup { pending: Some(pending) });
        }
        // What is left of `.ca` and `.cg` is a matter of caches; `.cg` moves 16 bytes only.
        let whole_line = m.take("cg");
        m.drop_cache_hints();
        if !(m.take("shared") || m.take("shared::cta")) || !m.take("global") {
            return Err("an asynchronous copy other than from global to shared memory".to_owned());
        }
        let (to, from) = (self.address(0, Space::Shared)?, self.address(1, Space::Global)?);
        let size = match self.immediate(2)? {
            4 if !whole_line => CopySize::B4,
            8 if !whole_line => CopySize::B8,
            16 => CopySize::B16,
            other => return Err(format!("an asynchronous copy of {other} bytes")),
        };
        self.note_shared(to, size.bytes());
        let (mut source_bytes, mut ignore) = (None, None);
        if self.operand_count() > 3 {
            match self.operand(3)? {
                Operand::Negated(_) => ignore = Some(self.predicate(3)?),
                Operand::Register(register) if self.register(*register).0 == Type::Pred => {
                    ignore = Some(self.predicate(3)?);
                }
                _ => source_bytes = Some(self.source(3, Type::U32)?),
            }
        }
        Ok(Op::CopyAsync { size, to, from, source_bytes, ignore })
    }

    /// Offset in the thread's local memory of a parameter of `bytes` bytes that a caller passes.
    pub(super) fn local_offset(&self, operand: &Operand, bytes: u32) -> Result<u32, Unknown> {
        let variable = match operand {
            Operand::Variable(VariableRef::Function(index)) => *index,
            _ => return Err("an argument that is not a parameter".to_owned()),
        };
        match self.place(VariableRef::Function(variable))? {
            Place::At { space: Space::Local, offset } if self.source.variables[variable].bytes == bytes => {
                Ok(offset as u32)
            }
            _ => Err("an argument of another size than the parameter".to_owned()),
        }
    }
}
