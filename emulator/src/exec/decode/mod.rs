//! A parsed entry, with the functions it calls, to [`Code`].

mod arithmetic;
mod control;
mod convert;
mod memory;
mod modifiers;
mod operands;
mod warp;

use std::collections::HashMap;

use self::modifiers::Modifiers;
use super::code::{Code, Instr, Op, Origin, Slot, Special};
use super::layout::{FrameLayout, Place, place};
use crate::fault::Space;
use crate::ptx::ast::{self, Ast, Function, Instruction, Operand, Type, VariableRef};

/// Why an instruction could not be decoded: the part that is not known.
type Unknown = String;

/// Register files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Long,
    Pred,
}

/// Decodes the entry `function` of `ast`. `variables` has the addresses of the module's global and constant variables.
pub(crate) fn decode(ast: &Ast, text: &str, variables: &[Place], function: usize) -> Code {
    let mut decoder = Decoder {
        ast,
        module: variables.to_vec(),
        code: Code::default(),
        functions: HashMap::new(),
        frames: Vec::new(),
        word_constants: HashMap::new(),
        long_constants: HashMap::new(),
        pred_constants: HashMap::new(),
        specials: HashMap::new(),
        shared: 0,
        local: 0,
        calls: Vec::new(),
    };
    decoder.code.granule = 16;
    for function in decoder.lay_out(function) {
        decoder.body(function, text);
    }
    decoder.finish()
}

/// What the decoder knows of a function: where its registers and variables are.
struct Frame {
    registers: Vec<(Type, Slot)>,
    layout: FrameLayout,
    /// Slot of the return addresses; entries have none.
    back: Slot,
    first: Option<u32>,
}

struct Decoder<'a> {
    ast: &'a Ast,
    /// Places of the module's variables; shared ones are placed for each entry.
    module: Vec<Place>,
    code: Code,
    /// Index in `frames`, by index in `ast.functions`.
    functions: HashMap<usize, usize>,
    frames: Vec<Frame>,
    word_constants: HashMap<u32, Slot>,
    long_constants: HashMap<u64, Slot>,
    pred_constants: HashMap<bool, Slot>,
    specials: HashMap<Special, Slot>,
    shared: u32,
    local: u32,
    /// Caller and callee, to find recursion.
    calls: Vec<(usize, usize)>,
}

impl<'a> Decoder<'a> {
    /// Gives every function that the entry reaches its registers and memory, and places the shared variables of the module that they
    /// name: static ones first, then the dynamic part behind all of them. Returns the functions.
    fn lay_out(&mut self, entry: usize) -> Vec<usize> {
        let (mut functions, mut named) = (vec![entry], Vec::new());
        let mut at = 0;
        while let Some(&function) = functions.get(at) {
            self.enter(function);
            for operand in self.ast.functions[function].instructions.iter().flat_map(|i| &i.operands) {
                match operand {
                    Operand::Symbol(name) => {
                        let called = self.ast.functions.iter().position(|f| f.name == *name && f.has_body);
                        functions.extend(called.filter(|called| !functions.contains(called)));
                    }
                    Operand::Variable(VariableRef::Module(variable))
                    | Operand::Address { base: ast::Base::Variable(VariableRef::Module(variable)), .. } => {
                        named.push(*variable);
                    }
                    _ => {}
                }
            }
            at += 1;
        }
        named.sort_unstable();
        named.dedup();
        named.retain(|&variable| self.ast.variables[variable].space == Space::Shared);
        let (dynamic, fixed): (Vec<usize>, Vec<usize>) =
            named.into_iter().partition(|&variable| self.ast.variables[variable].bytes == 0);
        for variable in fixed {
            let offset = u64::from(place(&mut self.shared, &self.ast.variables[variable]));
            self.module[variable] = Place::At { space: Space::Shared, offset };
        }
        for &variable in &dynamic {
            let align = self.ast.variables[variable].align;
            self.shared = self.shared.checked_next_multiple_of(align).unwrap_or(u32::MAX);
        }
        for variable in dynamic {
            self.module[variable] = Place::At { space: Space::Shared, offset: u64::from(self.shared) };
        }
        functions
    }

    /// Gives a function its registers and memory.
    fn enter(&mut self, function: usize) {
        let source = &self.ast.functions[function];
        let registers = source.registers.iter().map(|&ty| (ty, self.new_slot(class(ty)))).collect();
        let layout = FrameLayout::new(source, &mut self.shared, &mut self.local);
        let back = if source.is_entry { 0 } else { self.new_slot(Class::Word) };
        self.functions.insert(function, self.frames.len());
        self.frames.push(Frame { registers, layout, back, first: None });
    }

    fn new_slot(&mut self, class: Class) -> Slot {
        let count = match class {
            Class::Word => &mut self.code.words,
            Class::Long => &mut self.code.longs,
            Class::Pred => &mut self.code.preds,
        };
        *count += 1;
        (*count - 1) as Slot
    }

    fn body(&mut self, index: usize, text: &str) {
        let source: &'a Function = &self.ast.functions[index];
        let frame = self.functions[&index];
        let base = self.code.instrs.len() as u32;
        self.frames[frame].first = Some(base);
        for instruction in &source.instructions {
            let mut current = Current { decoder: self, source, index, frame, base, instruction };
            let op = match current.decode() {
                Ok(op) => op,
                Err(detail) => Op::Unsupported { detail: detail.into() },
            };
            self.push(op, frame, instruction, text);
        }
        let end = Op::Exit;
        let last = source.instructions.last();
        let line = last.map_or(0, |i| i.line);
        let op = if source.is_entry { end } else { Op::Ret { back: self.frames[frame].back } };
        self.code.instrs.push(Instr { op, guard: None, negated: false });
        self.code.origins.push(Origin { line, text: "}".to_owned() });
    }

    fn push(&mut self, op: Op, frame: usize, instruction: &Instruction, text: &str) {
        let guard = instruction.guard.map(|guard| self.frames[frame].registers[guard.register].1);
        let negated = instruction.guard.is_some_and(|guard| guard.negated);
        self.code.instrs.push(Instr { op, guard, negated });
        let words: Vec<&str> = text[instruction.text.clone()].split_whitespace().collect();
        self.code.origins.push(Origin { line: instruction.line, text: words.join(" ") });
    }

    fn finish(mut self) -> Code {
        let firsts: Vec<u32> = self.frames.iter().map(|frame| frame.first.unwrap_or(0)).collect();
        for instr in &mut self.code.instrs {
            if let Op::Call { target, .. } = &mut instr.op {
                *target = firsts[*target as usize];
            }
        }
        self.refuse_recursion();
        self.code.word_constants =
            self.word_constants.into_iter().map(|(value, slot)| (slot, value)).collect();
        self.code.long_constants =
            self.long_constants.into_iter().map(|(value, slot)| (slot, value)).collect();
        self.code.pred_constants =
            self.pred_constants.into_iter().map(|(value, slot)| (slot, value)).collect();
        self.code.specials = self.specials.into_iter().map(|(special, slot)| (slot, special)).collect();
        self.code.shared_bytes = self.shared;
        self.code.local_bytes = self.local;
        self.code
    }

    /// Functions keep their registers in fixed slots, so none may be entered twice: calls on a cycle are refused.
    fn refuse_recursion(&mut self) {
        let reaches = |from: usize, to: usize, calls: &[(usize, usize)]| {
            let (mut seen, mut open) = (vec![from], vec![from]);
            while let Some(at) = open.pop() {
                for &(_, next) in calls.iter().filter(|call| call.0 == at) {
                    if next == to {
                        return true;
                    }
                    if !seen.contains(&next) {
                        seen.push(next);
                        open.push(next);
                    }
                }
            }
            false
        };
        let recursive: Vec<u32> = (0..self.frames.len())
            .filter(|&frame| reaches(frame, frame, &self.calls))
            .filter_map(|frame| self.frames[frame].first)
            .collect();
        for instr in &mut self.code.instrs {
            if matches!(instr.op, Op::Call { target, .. } if recursive.contains(&target)) {
                instr.op = Op::Unsupported { detail: "a recursive call".into() };
            }
        }
    }
}

fn class(ty: Type) -> Class {
    match ty {
        Type::Pred => Class::Pred,
        Type::B64 | Type::U64 | Type::S64 | Type::F64 => Class::Long,
        _ => Class::Word,
    }
}

/// The instruction being decoded.
struct Current<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    source: &'a Function,
    index: usize,
    frame: usize,
    base: u32,
    instruction: &'a Instruction,
}

impl Current<'_, '_> {
    fn decode(&mut self) -> Result<Op, Unknown> {
        let mut parts = self.instruction.opcode.split('.');
        let name = parts.next().unwrap_or("");
        let mut modifiers = Modifiers::new(parts.collect());
        let m = &mut modifiers;
        let op = match name {
            "mov" => self.mov(m)?,
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max"
            | "sqrt" | "rsqrt" | "rcp" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "mul24"
            | "mad24" | "addc" | "subc" | "madc" => self.arithmetic(name, m)?,
            "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "bfe" | "bfi"
            | "popc" | "clz" | "bfind" | "brev" | "prmt" | "sad" | "dp4a" | "dp2a" | "fns" | "bmsk"
            | "szext" => self.bits(name, m)?,
            "setp" | "set" | "selp" | "slct" | "testp" => self.compare(name, m)?,
            "cvt" => self.convert(m)?,
            "cvta" => self.address_conversion(m)?,
            "isspacep" => self.is_space(m)?,
            "ld" | "ldu" => self.load(m)?,
            "st" => self.store(m)?,
            "atom" | "red" => self.atomic(name, m)?,
            "cp" => self.copy_async(m)?,
            "ldmatrix" | "stmatrix" | "movmatrix" => self.matrix(name, m)?,
            "mma" => self.mma(m)?,
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => self.warp_wide(name, m)?,
            "bar" | "barrier" => self.barrier(name, m)?,
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" => self.control(name, m)?,
            // Hints, fences, and waits for nothing: a block sees memory in program order.
            "membar" | "fence" | "griddepcontrol" | "nanosleep" | "prefetch" | "prefetchu" | "discard"
            | "applypriority" | "pmevent" | "setmaxnreg" => return Ok(Op::Nothing),
            _ => return Err(format!("`{name}`")),
        };
        modifiers.finish()?;
        Ok(op)
    }
}
