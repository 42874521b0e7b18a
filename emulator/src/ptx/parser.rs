//! Tokens to a module: directives, variables and function headers. Bodies are in [`body`](super::body).

use super::ast::{Ast, Function, Initialiser, Type, Variable};
use super::body;
use super::lexer::{Spanned, Token, tokens};
use crate::fault::{Error, Space};

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Ast, Error> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    let mut ast = Ast::default();
    while parser.peek().is_some() {
        parser.module_item(&mut ast)?;
    }
    Ok(ast)
}

pub(super) struct Parser<'a> {
    pub(super) tokens: &'a [Spanned<'a>],
    pub(super) at: usize,
    /// Braces and lists around the current token.
    pub(super) depth: usize,
}

/// Deepest nesting of braces and lists.
const DEEPEST: usize = 64;

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|spanned| spanned.token)
    }

    /// Goes one brace or list deeper.
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEEPEST { self.error("nesting of at most 64 levels") } else { Ok(()) }
    }

    pub(super) fn peek_word(&self) -> Option<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub(super) fn line(&self) -> u32 {
        let at = self.at.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(at).map_or(1, |spanned| spanned.line)
    }

    pub(super) fn error<T>(&self, expected: &str) -> Result<T, Error> {
        let found = match self.peek() {
            Some(Token::Word(word)) => format!("`{word}`"),
            Some(Token::Text(text)) => format!("\"{text}\""),
            Some(Token::Punctuation(c)) => format!("`{c}`"),
            None => "the end of the text".to_owned(),
        };
        Err(Error::Syntax { line: self.line(), message: format!("expected {expected}, found {found}") })
    }

    pub(super) fn accept(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(Token::Punctuation(wanted));
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, wanted: char) -> Result<(), Error> {
        if self.accept(wanted) { Ok(()) } else { self.error(&format!("`{wanted}`")) }
    }

    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, Error> {
        match self.peek_word() {
            Some(word) => {
                self.at += 1;
                Ok(word)
            }
            None => self.error(what),
        }
    }

    pub(super) fn accept_word(&mut self, wanted: &str) -> bool {
        let found = self.peek_word() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// A whole number with an optional sign.
    pub(super) fn integer(&mut self) -> Result<i64, Error> {
        let negative = self.accept('-');
        match self.peek_word().and_then(parse_integer) {
            Some(value) => {
                self.at += 1;
                Ok(if negative { value.wrapping_neg() } else { value })
            }
            None => self.error("a whole number"),
        }
    }

    fn count(&mut self, what: &str) -> Result<u32, Error> {
        let line = self.line();
        u32::try_from(self.integer()?)
            .map_err(|_| Error::Syntax { line, message: format!("{what} outside 0..2^32") })
    }

    /// Skips to behind the next `;`.
    pub(super) fn skip_statement(&mut self) {
        while let Some(token) = self.next() {
            if token == Token::Punctuation(';') {
                break;
            }
        }
    }

    fn module_item(&mut self, ast: &mut Ast) -> Result<(), Error> {
        let line = self.line();
        match self.peek_word() {
            Some(".version" | ".address_size") => {
                self.at += 2;
            }
            Some(".target") => {
                self.at += 2;
                while self.accept(',') {
                    self.at += 1;
                }
            }
            Some(".file" | ".loc") => {
                while self.line() == line && self.at < self.tokens.len() {
                    self.at += 1;
                }
            }
            Some(".section") => {
                self.word("")?;
                self.word("the name of the section")?;
                self.expect('{')?;
                while !self.accept('}') {
                    if self.next().is_none() {
                        return self.error("`}`");
                    }
                }
            }
            Some(".pragma" | ".alias") => self.skip_statement(),
            _ => self.declaration(ast)?,
        }
        Ok(())
    }

    fn declaration(&mut self, ast: &mut Ast) -> Result<(), Error> {
        let mut external = false;
        loop {
            match self.peek_word() {
                Some(".visible" | ".weak" | ".common") => self.at += 1,
                Some(".extern") => {
                    external = true;
                    self.at += 1;
                }
                Some(".entry") => {
                    self.at += 1;
                    return self.function(ast, true);
                }
                Some(".func") => {
                    self.at += 1;
                    return self.function(ast, false);
                }
                _ => break,
            }
        }
        let Some(space) = self.peek_word().and_then(variable_space) else {
            return self.error("a directive");
        };
        self.at += 1;
        loop {
            let mut variable = self.variable(space)?;
            variable.external = external;
            match ast.variables.iter().position(|known| known.name == variable.name) {
                Some(known) if ast.variables[known].external => ast.variables[known] = variable,
                Some(_) if external => {}
                Some(_) => return self.error("a new name for a variable"),
                None => ast.variables.push(variable),
            }
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')
    }

    fn function(&mut self, ast: &mut Ast, is_entry: bool) -> Result<(), Error> {
        let mut function = Function { is_entry, ..Function::default() };
        if self.accept_word(".attribute") {
            self.skip_parentheses()?;
        }
        if self.peek() == Some(Token::Punctuation('(')) {
            self.parameters(&mut function.returns, &mut function.registers)?;
        }
        function.name = self.word("the name of the function")?.to_owned();
        if self.peek() == Some(Token::Punctuation('(')) {
            self.parameters(&mut function.params, &mut function.registers)?;
        }
        loop {
            match self.peek_word() {
                Some(".maxntid") => {
                    self.at += 1;
                    function.max_threads = Some(self.shape()?);
                }
                Some(".reqntid") => {
                    self.at += 1;
                    function.required_threads = Some(self.shape()?);
                }
                Some(
                    ".minnctapersm" | ".maxnctapersm" | ".maxnreg" | ".reqnctapercluster" | ".maxclusterrank",
                ) => {
                    self.at += 1;
                    self.shape()?;
                }
                Some(".noreturn" | ".explicitcluster" | ".blocksareclusters") => self.at += 1,
                Some(".abi_preserve" | ".abi_preserve_control") => self.at += 2,
                Some(".pragma") => self.skip_statement(),
                _ => break,
            }
        }
        if !self.accept(';') {
            self.expect('{')?;
            function.has_body = true;
            body::parse(self, ast, &mut function)?;
        }
        match ast.functions.iter().position(|known| known.name == function.name) {
            Some(known) if !ast.functions[known].has_body => ast.functions[known] = function,
            Some(_) if !function.has_body => {}
            Some(_) => {
                let message = format!("`{}` has two bodies", function.name);
                return Err(Error::Syntax { line: self.line(), message });
            }
            None => ast.functions.push(function),
        }
        Ok(())
    }

    fn shape(&mut self) -> Result<[u32; 3], Error> {
        let mut shape = [1; 3];
        for (i, extent) in shape.iter_mut().enumerate() {
            if i > 0 && !self.accept(',') {
                break;
            }
            *extent = self.count("a number of threads")?;
        }
        Ok(shape)
    }

    fn skip_parentheses(&mut self) -> Result<(), Error> {
        self.expect('(')?;
        while !self.accept(')') {
            if self.next().is_none() {
                return self.error("`)`");
            }
        }
        Ok(())
    }

    fn parameters(&mut self, params: &mut Vec<Variable>, _registers: &mut [Type]) -> Result<(), Error> {
        self.expect('(')?;
        if self.accept(')') {
            return Ok(());
        }
        loop {
            if !self.accept_word(".param") {
                return self.error("`.param`");
            }
            params.push(self.variable(Space::Param)?);
            if !self.accept(',') {
                break;
            }
        }
        self.expect(')')
    }

    /// A variable behind its space: alignment, type, name, extents, initialiser.
    pub(super) fn variable(&mut self, space: Space) -> Result<Variable, Error> {
        let mut align = None;
        let mut lanes = 1;
        let mut pointer = false;
        let element = loop {
            let word = self.word("a type")?;
            match word {
                // `.ptr .global .align 4` describes what a parameter points to, not the parameter.
                ".ptr" => pointer = true,
                ".align" => {
                    let value = self.count("an alignment")?;
                    if !pointer {
                        align = Some(value);
                    }
                }
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                ".global" | ".const" | ".shared" | ".local" if pointer => {}
                ".attribute" => self.skip_parentheses()?,
                _ => match word.strip_prefix('.').and_then(Type::parse) {
                    Some(found) => {
                        if space != Space::Param || !matches!(self.peek_word(), Some(".ptr")) {
                            break found;
                        }
                        self.pointer_attributes()?;
                        break found;
                    }
                    None => {
                        self.at -= 1;
                        return self.error("a type");
                    }
                },
            }
        };
        let width = element.bytes() * lanes;
        let name = self.word("the name of a variable")?.to_owned();
        let mut count: u32 = 1;
        let mut open = false;
        while self.accept('[') {
            if self.accept(']') {
                open = true;
                continue;
            }
            let extent = self.count("an extent")?;
            self.expect(']')?;
            count = match count.checked_mul(extent) {
                Some(count) => count,
                None => return self.error("an array of less than 2^32 elements"),
            };
        }
        let Some(declared) = count.checked_mul(width) else {
            return self.error("a variable of less than 2^32 bytes");
        };
        let mut variable = Variable {
            name,
            space,
            align: align.unwrap_or(width).max(1),
            bytes: if open { 0 } else { declared },
            external: false,
            initialiser: Vec::new(),
        };
        if !variable.align.is_power_of_two() {
            return self.error("an alignment that is a power of two");
        }
        if self.accept('=') {
            let end = self.initialiser(&mut variable, element, 0)?;
            if open {
                variable.bytes = end;
            }
            if end > variable.bytes {
                return self.error("an initialiser that fits the variable");
            }
        }
        Ok(variable)
    }

    fn pointer_attributes(&mut self) -> Result<(), Error> {
        loop {
            match self.peek_word() {
                Some(".ptr" | ".global" | ".const" | ".shared" | ".local") => self.at += 1,
                Some(".align") => {
                    self.at += 1;
                    self.count("an alignment")?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn initialiser(&mut self, variable: &mut Variable, element: Type, offset: u32) -> Result<u32, Error> {
        let width = element.bytes().max(1);
        if self.accept('{') {
            self.enter()?;
            let mut at = offset;
            while !self.accept('}') {
                at = self.initialiser(variable, element, at)?;
                if !self.accept(',') {
                    self.expect('}')?;
                    break;
                }
            }
            self.depth -= 1;
            return Ok(at);
        }
        let word = self.peek_word().unwrap_or("");
        if word.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$')) {
            let generic = self.accept_word("generic");
            if generic {
                self.expect('(')?;
            }
            let symbol = self.word("a variable")?.to_owned();
            if generic {
                self.expect(')')?;
            }
            let plus = if self.accept('+') { self.integer()? } else { 0 };
            variable.initialiser.push(Initialiser::Address { offset, symbol, plus });
            return Ok(offset + 8);
        }
        let bits = if let Some(bits) = parse_float_bits(word) {
            self.at += 1;
            if element == Type::F32 && !word.starts_with("0f") && !word.starts_with("0F") {
                u64::from((f64::from_bits(bits) as f32).to_bits())
            } else {
                bits
            }
        } else {
            self.integer()? as u64
        };
        let bytes = bits.to_le_bytes()[..width as usize].to_vec();
        match variable.initialiser.last_mut() {
            Some(Initialiser::Bytes { offset: start, bytes: known })
                if *start + known.len() as u32 == offset =>
            {
                known.extend(bytes);
            }
            _ => variable.initialiser.push(Initialiser::Bytes { offset, bytes }),
        }
        Ok(offset + width)
    }
}

/// The space of a variable's directive.
pub(super) fn variable_space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" => Space::Global,
        ".const" => Space::Const,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}

/// `12`, `0x1F`, `017`, `0b11`, with an optional `U`.
pub(super) fn parse_integer(word: &str) -> Option<i64> {
    let digits = word.strip_suffix('U').unwrap_or(word);
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = digits.strip_prefix("0b").or_else(|| digits.strip_prefix("0B")) {
        u64::from_str_radix(binary, 2).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(value as i64)
}

/// `0f…` (32 bits), `0d…` (64 bits) or a decimal fraction (64 bits).
pub(super) fn parse_float_bits(word: &str) -> Option<u64> {
    if let Some(hex) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return (hex.len() == 8).then(|| u64::from_str_radix(hex, 16).ok())?;
    }
    if let Some(hex) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok())?;
    }
    let decimal = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    decimal.then(|| word.parse::<f64>().ok().map(f64::to_bits))?
}
