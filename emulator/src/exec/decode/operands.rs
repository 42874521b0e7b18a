//! Operands to slots.

use super::{Class, Current, Decoder, Unknown, class};
use crate::exec::code::{Address, Base, Slot, Special};
use crate::exec::layout::Place;
use crate::fault::Space;
use crate::ptx::ast::{self, Operand, Type, VariableRef};

impl Decoder<'_> {
    pub(super) fn word_constant(&mut self, value: u32) -> Slot {
        if let Some(&slot) = self.word_constants.get(&value) {
            return slot;
        }
        let slot = self.new_slot(Class::Word);
        self.word_constants.insert(value, slot);
        slot
    }

    pub(super) fn long_constant(&mut self, value: u64) -> Slot {
        if let Some(&slot) = self.long_constants.get(&value) {
            return slot;
        }
        let slot = self.new_slot(Class::Long);
        self.long_constants.insert(value, slot);
        slot
    }

    pub(super) fn pred_constant(&mut self, value: bool) -> Slot {
        if let Some(&slot) = self.pred_constants.get(&value) {
            return slot;
        }
        let slot = self.new_slot(Class::Pred);
        self.pred_constants.insert(value, slot);
        slot
    }

    fn special(&mut self, name: &str) -> Result<Slot, Unknown> {
        let axis = |suffix: &str| match suffix {
            "x" => Some(0),
            "y" => Some(1),
            "z" => Some(2),
            _ => None,
        };
        let special = match name.split_once('.') {
            Some(("%tid", suffix)) => axis(suffix).map(Special::Tid),
            Some(("%ntid", suffix)) => axis(suffix).map(Special::Ntid),
            Some(("%ctaid", suffix)) => axis(suffix).map(Special::Ctaid),
            Some(("%nctaid", suffix)) => axis(suffix).map(Special::Nctaid),
            // Without clusters every block is a cluster of its own (PTX ISA 10.12 to 10.17).
            Some(("%clusterid", suffix)) => axis(suffix).map(Special::Ctaid),
            Some(("%nclusterid", suffix)) => axis(suffix).map(Special::Nctaid),
            Some(("%cluster_ctaid", _)) => return Ok(self.word_constant(0)),
            Some(("%cluster_nctaid", _)) => return Ok(self.word_constant(1)),
            _ => match name {
                "%laneid" => Some(Special::LaneId),
                "%warpid" => Some(Special::WarpId),
                "%nwarpid" => Some(Special::WarpCount),
                "%lanemask_eq" => Some(Special::LaneMaskEq),
                "%lanemask_le" => Some(Special::LaneMaskLe),
                "%lanemask_lt" => Some(Special::LaneMaskLt),
                "%lanemask_ge" => Some(Special::LaneMaskGe),
                "%lanemask_gt" => Some(Special::LaneMaskGt),
                "%dynamic_smem_size" => Some(Special::DynamicShared),
                "%total_smem_size" => Some(Special::TotalShared),
                "WARP_SZ" => return Ok(self.word_constant(32)),
                "%smid" | "%gridid" | "%cluster_ctarank" => return Ok(self.word_constant(0)),
                "%nsmid" | "%cluster_nctarank" => return Ok(self.word_constant(1)),
                _ => None,
            },
        };
        let special = special.ok_or_else(|| format!("special register `{name}`"))?;
        if let Some(&slot) = self.specials.get(&special) {
            return Ok(slot);
        }
        let slot = self.new_slot(Class::Word);
        self.specials.insert(special, slot);
        Ok(slot)
    }
}

impl Current<'_, '_> {
    pub(super) fn operand(&self, index: usize) -> Result<&Operand, Unknown> {
        self.instruction.operands.get(index).ok_or_else(|| format!("operand {} is missing", index + 1))
    }

    pub(super) fn operand_count(&self) -> usize {
        self.instruction.operands.len()
    }

    pub(super) fn register(&self, register: usize) -> (Type, Slot) {
        self.decoder.frames[self.frame].registers[register]
    }

    /// The register of an operand, of any class.
    pub(super) fn any_register(&self, operand: &Operand) -> Result<(Type, Slot), Unknown> {
        match operand {
            Operand::Register(register) => Ok(self.register(*register)),
            _ => Err("an operand that is not a register".to_owned()),
        }
    }

    fn register_of(&self, operand: &Operand, wanted: Class) -> Result<Slot, Unknown> {
        let (ty, slot) = self.any_register(operand)?;
        if class(ty) == wanted { Ok(slot) } else { Err(format!("a register of type {ty:?} here")) }
    }

    /// Destination in the file of `ty`.
    pub(super) fn destination(&self, index: usize, ty: Type) -> Result<Slot, Unknown> {
        self.register_of(self.operand(index)?, class(ty))
    }

    pub(super) fn destination_pred(&self, operand: &Operand) -> Result<Option<Slot>, Unknown> {
        match operand {
            Operand::Sink => Ok(None),
            _ => self.register_of(operand, Class::Pred).map(Some),
        }
    }

    /// `d` or `d|p`.
    pub(super) fn destination_and_pred(
        &self,
        index: usize,
        ty: Type,
    ) -> Result<(Slot, Option<Slot>), Unknown> {
        match self.operand(index)? {
            Operand::Pair(d, p) => Ok((self.register_of(d, class(ty))?, self.destination_pred(p)?)),
            d => Ok((self.register_of(d, class(ty))?, None)),
        }
    }

    /// Slot of a source of type `ty`: a register, a special register, a constant or an address.
    pub(super) fn source(&mut self, index: usize, ty: Type) -> Result<Slot, Unknown> {
        let operand = self.operand(index)?.clone();
        self.source_of(&operand, ty)
    }

    pub(super) fn source_of(&mut self, operand: &Operand, ty: Type) -> Result<Slot, Unknown> {
        match operand {
            Operand::Register(_) => self.register_of(operand, class(ty)),
            Operand::Special(name) if class(ty) == Class::Word => self.decoder.special(name),
            _ => {
                let bits = self.constant(operand, ty)?;
                Ok(match class(ty) {
                    Class::Word => self.decoder.word_constant(bits as u32),
                    Class::Long => self.decoder.long_constant(bits),
                    Class::Pred => self.decoder.pred_constant(bits != 0),
                })
            }
        }
    }

    /// Bits of a constant operand in type `ty`.
    fn constant(&self, operand: &Operand, ty: Type) -> Result<u64, Unknown> {
        let bits = match operand {
            Operand::Integer(value) if ty == Type::F64 => (*value as f64).to_bits(),
            Operand::Integer(value) => *value as u64,
            Operand::Single(bits) if ty.bytes() == 8 && ty == Type::F64 => {
                f64::from(f32::from_bits(*bits)).to_bits()
            }
            Operand::Single(bits) => u64::from(*bits),
            Operand::Double(bits) if ty == Type::F32 => u64::from((f64::from_bits(*bits) as f32).to_bits()),
            Operand::Double(bits) if class(ty) == Class::Long => *bits,
            Operand::Variable(variable) => self.variable_address(*variable, 0)?,
            Operand::Address { base: ast::Base::Variable(variable), offset } => {
                self.variable_address(*variable, *offset)?
            }
            Operand::Special(name) => return Err(format!("special register `{name}` in a {ty:?} operand")),
            _ => return Err("an operand that is not a value".to_owned()),
        };
        Ok(match ty.bytes() {
            1 | 2 => bits & 0xFFFF,
            4 => bits & 0xFFFF_FFFF,
            _ => bits,
        })
    }

    /// The number of a constant operand, where only a constant is allowed.
    pub(super) fn immediate(&self, index: usize) -> Result<i64, Unknown> {
        match self.operand(index)? {
            Operand::Integer(value) => Ok(*value),
            _ => Err(format!("operand {} is not a constant", index + 1)),
        }
    }

    /// A predicate source, possibly negated.
    pub(super) fn predicate(&mut self, index: usize) -> Result<(Slot, bool), Unknown> {
        match self.operand(index)?.clone() {
            Operand::Negated(register) => match self.register(register) {
                (Type::Pred, slot) => Ok((slot, true)),
                _ => Err("a negated operand that is not a predicate".to_owned()),
            },
            operand => Ok((self.source_of(&operand, Type::Pred)?, false)),
        }
    }

    /// Where a variable lies.
    pub(super) fn place(&self, variable: VariableRef) -> Result<Place, Unknown> {
        let frame = &self.decoder.frames[self.frame].layout;
        let place = match variable {
            VariableRef::Module(index) => self.decoder.module[index],
            VariableRef::Function(index) => frame.variables[index],
            VariableRef::Parameter(index) => frame.params[index],
            VariableRef::Return(index) => frame.returns[index],
        };
        match place {
            Place::Missing => Err("a variable that is only declared".to_owned()),
            known => Ok(known),
        }
    }

    fn variable_address(&self, variable: VariableRef, offset: i64) -> Result<u64, Unknown> {
        match self.place(variable)? {
            Place::At { offset: start, .. } => Ok(start.wrapping_add_signed(offset)),
            Place::Missing => Err("a variable that is only declared".to_owned()),
        }
    }

    /// An address operand in `space`, or in the space of the variable it names where that is a parameter or generic.
    pub(super) fn address(&self, index: usize, space: Space) -> Result<Address, Unknown> {
        self.address_of(self.operand(index)?, space)
    }

    pub(super) fn address_of(&self, operand: &Operand, space: Space) -> Result<Address, Unknown> {
        let Operand::Address { base, offset } = operand else {
            return Err("an operand that is not an address".to_owned());
        };
        Ok(match *base {
            ast::Base::Absolute => Address { space, base: Base::None, offset: *offset },
            ast::Base::Register(register) => {
                let (ty, slot) = self.register(register);
                let base = match class(ty) {
                    Class::Word => Base::Word(slot),
                    Class::Long => Base::Long(slot),
                    Class::Pred => return Err("a predicate as an address".to_owned()),
                };
                // `mov` of a parameter's name gives its offset where it lies: in the entry's block, or in local memory.
                let space = match space {
                    Space::Param if !self.source.is_entry => Space::Local,
                    space => space,
                };
                Address { space, base, offset: *offset }
            }
            ast::Base::Variable(variable) => {
                let Place::At { space: home, offset: start, .. } = self.place(variable)? else {
                    return Err("a variable that is only declared".to_owned());
                };
                let fits = match space {
                    Space::Param => matches!(home, Space::Param | Space::Local),
                    Space::Generic => true,
                    Space::Global | Space::Const => matches!(home, Space::Global | Space::Const),
                    _ => home == space,
                };
                if !fits {
                    return Err(format!("a {home} variable in a {space} access"));
                }
                Address { space: home, base: Base::None, offset: (start as i64).wrapping_add(*offset) }
            }
        })
    }
}
