//! The body of a function: registers, variables, labels and instructions, in nested scopes.

use std::collections::HashMap;

use super::ast::{Ast, Base, Function, Guard, Instruction, Operand, Type, VariableRef};
use super::lexer::Token;
use super::parser::{Parser, parse_float_bits, parse_integer, variable_space};
use crate::fault::{Error, Space};

/// Most registers of a function.
const MOST: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
enum Name {
    Register(usize),
    Variable(VariableRef),
    Label(usize),
}

/// `.reg .b32 %r<12>` without the numbers.
struct Family<'a> {
    prefix: &'a str,
    first: usize,
    count: usize,
}

#[derive(Default)]
struct Scope<'a> {
    names: HashMap<&'a str, Name>,
    families: Vec<Family<'a>>,
}

struct Body<'a, 'p, 'm> {
    parser: &'p mut Parser<'a>,
    module: HashMap<&'m str, usize>,
    function: &'p mut Function,
    scopes: Vec<Scope<'a>>,
    parameters: HashMap<String, VariableRef>,
}

/// Reads a body up to its closing brace; the opening one is already read.
pub(super) fn parse(parser: &mut Parser<'_>, ast: &Ast, function: &mut Function) -> Result<(), Error> {
    let module = ast.variables.iter().enumerate().map(|(i, v)| (v.name.as_str(), i)).collect();
    let mut parameters = HashMap::new();
    for (i, v) in function.params.iter().enumerate() {
        parameters.insert(v.name.clone(), VariableRef::Parameter(i));
    }
    for (i, v) in function.returns.iter().enumerate() {
        parameters.insert(v.name.clone(), VariableRef::Return(i));
    }
    let mut body = Body { parser, module, function, scopes: Vec::new(), parameters };
    body.scope()?;
    let end = body.function.instructions.len();
    match body.function.labels.iter().any(|label| label.is_none_or(|at| at > end)) {
        true => body.parser.error("a label for every branch"),
        false => Ok(()),
    }
}

impl<'a> Body<'a, '_, '_> {
    fn scope(&mut self) -> Result<(), Error> {
        self.parser.enter()?;
        self.scopes.push(Scope::default());
        self.declare_labels();
        while !self.parser.accept('}') {
            if self.parser.peek().is_none() {
                return self.parser.error("`}`");
            }
            self.statement()?;
        }
        self.scopes.pop();
        self.parser.depth -= 1;
        Ok(())
    }

    /// Labels may be used before they stand: finds those of this scope ahead of its statements.
    fn declare_labels(&mut self) {
        let mut depth = 0;
        let tokens = self.parser.tokens;
        for at in self.parser.at..tokens.len() {
            match tokens[at].token {
                Token::Punctuation('{') => depth += 1,
                Token::Punctuation('}') if depth == 0 => break,
                Token::Punctuation('}') => depth -= 1,
                Token::Punctuation(':') if depth == 0 && at > self.parser.at => {
                    if let Token::Word(name) = tokens[at - 1].token {
                        let label = self.function.labels.len();
                        self.function.labels.push(None);
                        self.declare(name, Name::Label(label));
                    }
                }
                _ => {}
            }
        }
    }

    fn declare(&mut self, name: &'a str, meaning: Name) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(name, meaning);
        }
    }

    fn find(&self, name: &str) -> Option<Name> {
        for scope in self.scopes.iter().rev() {
            if let Some(&found) = scope.names.get(name) {
                return Some(found);
            }
            for family in &scope.families {
                let number = name.strip_prefix(family.prefix).and_then(|digits| digits.parse::<usize>().ok());
                if let Some(number) = number.filter(|&n| n < family.count) {
                    return Some(Name::Register(family.first + number));
                }
            }
        }
        if let Some(&parameter) = self.parameters.get(name) {
            return Some(Name::Variable(parameter));
        }
        self.module.get(name).map(|&i| Name::Variable(VariableRef::Module(i)))
    }

    fn statement(&mut self) -> Result<(), Error> {
        if self.parser.accept('{') {
            return self.scope();
        }
        if self.parser.accept(';') {
            return Ok(());
        }
        match self.parser.peek_word() {
            Some(".reg") => {
                self.parser.at += 1;
                self.registers()
            }
            Some(".loc" | ".file") => {
                let line = self.parser.line();
                while self.parser.line() == line && self.parser.peek().is_some() {
                    self.parser.at += 1;
                }
                Ok(())
            }
            Some(".pragma") => {
                self.parser.skip_statement();
                Ok(())
            }
            Some(word) if variable_space(word).is_some() => {
                self.parser.at += 1;
                self.variables(variable_space(word).unwrap_or(Space::Local))
            }
            Some(word) => {
                let next = self.parser.tokens.get(self.parser.at + 1).map(|spanned| spanned.token);
                if next == Some(Token::Punctuation(':')) {
                    self.parser.at += 2;
                    return self.label(word);
                }
                self.instruction()
            }
            None => self.instruction(),
        }
    }

    fn registers(&mut self) -> Result<(), Error> {
        let word = self.parser.word("a register type")?;
        let Some(ty) = word.strip_prefix('.').and_then(Type::parse) else {
            self.parser.at -= 1;
            return self.parser.error("a register type");
        };
        loop {
            let name = self.parser.word("a register")?;
            let first = self.function.registers.len();
            if self.parser.accept('<') {
                let count = self.parser.integer()?;
                self.parser.expect('>')?;
                let Some(count) =
                    usize::try_from(count).ok().filter(|&n| first + n.min(MOST) <= MOST && n <= MOST)
                else {
                    return self.parser.error("at most 2^20 registers");
                };
                self.function.registers.resize(first + count, ty);
                if let Some(scope) = self.scopes.last_mut() {
                    scope.families.push(Family { prefix: name, first, count });
                }
            } else {
                self.function.registers.push(ty);
                self.declare(name, Name::Register(first));
            }
            if !self.parser.accept(',') {
                break;
            }
        }
        self.parser.expect(';')
    }

    fn variables(&mut self, space: Space) -> Result<(), Error> {
        loop {
            let name_at = self.parser.at;
            let variable = self.parser.variable(space)?;
            let index = self.function.variables.len();
            let name =
                self.parser.tokens[name_at..self.parser.at].iter().find_map(|spanned| match spanned.token {
                    Token::Word(word) if word == variable.name => Some(word),
                    _ => None,
                });
            self.function.variables.push(variable);
            if let Some(name) = name {
                self.declare(name, Name::Variable(VariableRef::Function(index)));
            }
            if !self.parser.accept(',') {
                break;
            }
        }
        self.parser.expect(';')
    }

    fn label(&mut self, name: &str) -> Result<(), Error> {
        let Some(Name::Label(label)) = self.find(name) else {
            return self.parser.error("a label");
        };
        match self.parser.peek_word() {
            Some(".branchtargets") => {
                self.parser.at += 1;
                let mut targets = Vec::new();
                loop {
                    let target = self.parser.word("a label")?;
                    match self.find(target) {
                        Some(Name::Label(target)) => targets.push(target),
                        _ => return self.parser.error("a label of this function"),
                    }
                    if !self.parser.accept(',') {
                        break;
                    }
                }
                self.function.branch_targets.push((label, targets));
                self.parser.expect(';')?;
            }
            Some(".calltargets" | ".callprototype") => self.parser.skip_statement(),
            _ => {}
        }
        self.function.labels[label] = Some(self.function.instructions.len());
        Ok(())
    }

    fn instruction(&mut self) -> Result<(), Error> {
        let first = self.parser.at;
        let line = self.parser.line();
        let mut guard = None;
        if self.parser.accept('@') {
            let negated = self.parser.accept('!');
            let name = self.parser.word("a predicate")?;
            match self.find(name) {
                Some(Name::Register(register)) if self.function.registers[register] == Type::Pred => {
                    guard = Some(Guard { register, negated });
                }
                _ => return self.parser.error("a predicate register"),
            }
        }
        let opcode = self.parser.word("an instruction")?.to_owned();
        if opcode.starts_with('.') {
            self.parser.at -= 1;
            return self.parser.error("an instruction");
        }
        let mut operands = Vec::new();
        if !self.parser.accept(';') {
            loop {
                operands.push(self.operand()?);
                if !self.parser.accept(',') {
                    break;
                }
            }
            self.parser.expect(';')?;
        }
        let text = self.parser.tokens[first].start..self.parser.tokens[self.parser.at - 1].end;
        self.function.instructions.push(Instruction { guard, opcode, operands, line, text });
        Ok(())
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        let operand = self.simple_operand()?;
        if self.parser.accept('|') {
            let second = self.simple_operand()?;
            return Ok(Operand::Pair(Box::new(operand), Box::new(second)));
        }
        Ok(operand)
    }

    fn list(&mut self, close: char) -> Result<Vec<Operand>, Error> {
        let mut list = Vec::new();
        if self.parser.accept(close) {
            return Ok(list);
        }
        self.parser.enter()?;
        loop {
            list.push(self.operand()?);
            if !self.parser.accept(',') {
                break;
            }
        }
        self.parser.depth -= 1;
        self.parser.expect(close)?;
        Ok(list)
    }

    fn simple_operand(&mut self) -> Result<Operand, Error> {
        if self.parser.accept('{') {
            return Ok(Operand::Vector(self.list('}')?));
        }
        if self.parser.accept('(') {
            return Ok(Operand::List(self.list(')')?));
        }
        if self.parser.accept('[') {
            return self.address();
        }
        if self.parser.accept('!') {
            let name = self.parser.word("a predicate")?;
            return match self.find(name) {
                Some(Name::Register(register)) => Ok(Operand::Negated(register)),
                _ => self.parser.error("a predicate register"),
            };
        }
        if self.parser.peek() == Some(Token::Punctuation('-')) {
            let fraction =
                self.parser.tokens.get(self.parser.at + 1).and_then(|spanned| match spanned.token {
                    Token::Word(word) => parse_float_bits(word).filter(|_| word.contains('.')),
                    _ => None,
                });
            if let Some(bits) = fraction {
                self.parser.at += 2;
                return Ok(Operand::Double((-f64::from_bits(bits)).to_bits()));
            }
            return Ok(Operand::Integer(self.parser.integer()?));
        }
        let word = self.parser.word("an operand")?;
        if word == "_" {
            return Ok(Operand::Sink);
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return match (parse_float_bits(word), parse_integer(word)) {
                (Some(bits), _) if word.starts_with("0f") || word.starts_with("0F") => {
                    Ok(Operand::Single(bits as u32))
                }
                (Some(bits), _) => Ok(Operand::Double(bits)),
                (None, Some(value)) => Ok(Operand::Integer(value)),
                (None, None) => {
                    self.parser.at -= 1;
                    self.parser.error("a number")
                }
            };
        }
        Ok(match self.find(word) {
            Some(Name::Register(register)) => Operand::Register(register),
            Some(Name::Label(label)) => Operand::Label(label),
            Some(Name::Variable(variable)) => {
                if self.parser.accept('+') {
                    let offset = self.parser.integer()?;
                    Operand::Address { base: Base::Variable(variable), offset }
                } else {
                    Operand::Variable(variable)
                }
            }
            None if word.starts_with('%') || word == "WARP_SZ" => Operand::Special(word.to_owned()),
            None => Operand::Symbol(word.to_owned()),
        })
    }

    fn address(&mut self) -> Result<Operand, Error> {
        let mut offset = 0;
        let base = match self.parser.peek_word() {
            Some(word) if !word.starts_with(|c: char| c.is_ascii_digit()) => {
                self.parser.at += 1;
                match self.find(word) {
                    Some(Name::Register(register)) => Base::Register(register),
                    Some(Name::Variable(variable)) => Base::Variable(variable),
                    _ => {
                        self.parser.at -= 1;
                        return self.parser.error("a register or variable");
                    }
                }
            }
            _ => {
                offset = self.parser.integer()?;
                Base::Absolute
            }
        };
        while !self.parser.accept(']') {
            // A minus belongs to the number.
            if !self.parser.accept('+') && self.parser.peek() != Some(Token::Punctuation('-')) {
                return self.parser.error("`]`");
            }
            offset = offset.wrapping_add(self.parser.integer()?);
        }
        Ok(Operand::Address { base, offset })
    }
}
