//! Branches, calls and the end of threads.

use super::modifiers::Modifiers;
use super::{Current, Unknown};
use crate::exec::code::{LocalCopy, Op};
use crate::exec::layout::Place;
use crate::ptx::ast::{Operand, Type};

impl Current<'_, '_> {
    pub(super) fn control(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<Op, Unknown> {
        m.take("uni");
        match name {
            "bra" => match self.operand(0)? {
                Operand::Label(label) => Ok(Op::Bra { target: self.label(*label)? }),
                _ => Err("a branch to something that is not a label".to_owned()),
            },
            "brx" => {
                m.take("idx");
                let a = self.source(0, Type::U32)?;
                let Operand::Label(list) = self.operand(1)? else {
                    return Err("`brx.idx` without a list of labels".to_owned());
                };
                let list = self.source.branch_targets.iter().find(|(label, _)| label == list);
                let targets = list.ok_or("`brx.idx` without `.branchtargets`")?.1.iter();
                let targets = targets.map(|&label| self.label(label)).collect::<Result<Box<[u32]>, _>>()?;
                Ok(Op::BraIndexed { a, targets })
            }
            "call" => self.call(),
            "ret" if self.source.is_entry => Ok(Op::Exit),
            "ret" => Ok(Op::Ret { back: self.decoder.frames[self.frame].back }),
            "exit" => Ok(Op::Exit),
            _ => Ok(Op::Trap),
        }
    }

    fn label(&self, label: usize) -> Result<u32, Unknown> {
        let at = self.source.labels.get(label).copied().flatten().ok_or("a label that stands nowhere")?;
        Ok(self.base + at as u32)
    }

    fn call(&mut self) -> Result<Op, Unknown> {
        let name = self.instruction.operands.iter().find_map(|operand| match operand {
            Operand::Symbol(name) => Some(name.clone()),
            _ => None,
        });
        let name = name.ok_or("an indirect call")?;
        if name == "__assertfail" {
            return Ok(Op::Trap);
        }
        let callee = self.decoder.ast.functions.iter().position(|f| f.name == name);
        let callee = callee.and_then(|function| self.decoder.functions.get(&function)).copied();
        let callee = callee.ok_or_else(|| format!("a call of `{name}`, which has no body"))?;
        self.decoder.calls.push((self.frame, callee));
        let function = self.decoder.functions.iter().find_map(|(&f, &frame)| (frame == callee).then_some(f));
        let function = &self.decoder.ast.functions[function.unwrap_or(self.index)];
        let layout = &self.decoder.frames[callee].layout;
        let (mut arguments, mut results) = (Vec::new(), Vec::new());
        let mut named = false;
        for operand in &self.instruction.operands {
            match operand {
                Operand::Symbol(_) => named = true,
                Operand::List(values) => {
                    let (inner, places) = if named {
                        (&function.params, &layout.params)
                    } else {
                        (&function.returns, &layout.returns)
                    };
                    if values.len() != inner.len() {
                        return Err(format!("{} values where `{name}` has {}", values.len(), inner.len()));
                    }
                    for ((value, variable), place) in values.iter().zip(inner).zip(places) {
                        let outer = self.local_offset(value, variable.bytes)?;
                        let Place::At { offset, .. } = *place else { continue };
                        let copy = |from, to| LocalCopy { from, to, bytes: variable.bytes };
                        match named {
                            true => arguments.push(copy(outer, offset as u32)),
                            false => results.push(copy(offset as u32, outer)),
                        }
                    }
                }
                _ => return Err("an argument list".to_owned()),
            }
        }
        let back = self.decoder.frames[callee].back;
        Ok(Op::Call { target: callee as u32, back, arguments: arguments.into(), results: results.into() })
    }
}
