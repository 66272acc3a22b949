//! Parses the Python literals of a header: dicts, tuples, lists, strings, whole numbers, `True`, `False`, `None`.
//!
//! One pass from left to right: the work is linear in the length of any text. A test counts the steps.

mod string;

use std::fmt::Display;
use std::ops::Range;

use crate::error::{Error, Result, shorten};

/// The most brackets inside one another. A header needs four; each level is one call on the stack.
const MAX_DEPTH: usize = 32;

/// An error at a byte, counted from the start of the header, with a message as for [`format!`].
macro_rules! invalid_header {
    ($at:expr, $($message:tt)+) => {
        $crate::error::error!(InvalidHeader, "at byte {}: {}", $at, format_args!($($message)+))
    };
}
pub(super) use invalid_header;

/// A literal, and where in the file it is.
#[derive(Debug)]
pub(super) struct Spanned {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(Int),
    Str(String),
    Tuple(Vec<Spanned>),
    List(Vec<Spanned>),
    Dict(Vec<(Spanned, Spanned)>),
}

impl Spanned {
    /// An error: `what` was expected here.
    pub(super) fn expected(&self, what: &str) -> Error {
        invalid_header!(self.span.start, "expected {what}, found {}", self.value.name())
    }
}

/// A whole number of any length. One that does not fit has no `magnitude`: which error that is depends on its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Int {
    pub(super) negative: bool,
    pub(super) magnitude: Option<u64>,
}

/// How the format version changes the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// UTF-8 (3.0); otherwise Latin-1 (1.0 and 2.0).
    pub(super) utf8: bool,
    /// Whether Python 2's `3L` is a number (1.0 and 2.0, as in NumPy).
    pub(super) long_suffix: bool,
}

impl Int {
    /// The number for the end of a message; nothing if it did not fit.
    pub(super) fn shown(self) -> String {
        let sign = if self.negative { "-" } else { "" };
        self.magnitude.map(|m| format!(", {sign}{m}")).unwrap_or_default()
    }
}

impl Value {
    /// The kind of literal, for a message.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "a number",
            Value::Str(_) => "a string",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
        }
    }
}

/// Parses `text`, which is one literal and starts at byte `start` of the file.
pub(super) fn read(text: &[u8], start: usize, dialect: Dialect) -> Result<Spanned> {
    Parser::new(text, start, dialect).whole()
}

struct Parser<'a> {
    text: &'a [u8],
    pos: usize,
    start: usize,
    dialect: Dialect,
    #[cfg(test)]
    steps: std::cell::Cell<usize>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], start: usize, dialect: Dialect) -> Self {
        Self {
            text,
            pos: 0,
            start,
            dialect,
            #[cfg(test)]
            steps: std::cell::Cell::new(0),
        }
    }

    fn whole(&mut self) -> Result<Spanned> {
        if self.dialect.utf8
            && let Err(e) = std::str::from_utf8(self.text)
        {
            self.pos = e.valid_up_to();
            return Err(self.error("expected UTF-8 text, as version 3.0 has it"));
        }
        let node = self.value(0)?;
        self.skip_blank();
        match self.peek() {
            None => Ok(node),
            Some(_) => Err(self.expected("the end of the header")),
        }
    }

    /// Every step of the parser passes here, so the test counts these calls.
    fn peek(&self) -> Option<u8> {
        #[cfg(test)]
        self.steps.set(self.steps.get() + 1);
        self.text.get(self.pos).copied()
    }

    fn error(&self, message: impl Display) -> Error {
        invalid_header!(self.start + self.pos, "{message}")
    }

    fn expected(&self, what: &str) -> Error {
        match self.peek() {
            None => self.error(format!("expected {what}, but the header ends here")),
            Some(b) if b.is_ascii_graphic() => self.error(format!("expected {what}, found `{}`", char::from(b))),
            Some(b) => self.error(format!("expected {what}, found byte 0x{b:02x}")),
        }
    }

    /// The text at `begin` that is no literal, for a message: up to what would end one.
    fn unparsed_at(&self, begin: usize) -> String {
        /// More than `shorten` keeps, in any encoding.
        const MOST: usize = 200;
        let text = &self.text[begin..self.text.len().min(begin + MOST)];
        let mut open = 0_usize;
        let ends = |&b: &u8| match b {
            b'(' | b'[' | b'{' => {
                open += 1;
                false
            }
            b')' | b']' | b'}' if open > 0 => {
                open -= 1;
                false
            }
            b')' | b']' | b'}' | b'\n' | b'\0' => true,
            b',' | b':' => open == 0,
            _ => false,
        };
        let text = &text[..text.iter().position(ends).unwrap_or(text.len())];
        let text = if self.dialect.utf8 {
            String::from_utf8_lossy(text).into_owned()
        } else {
            text.iter().copied().map(char::from).collect()
        };
        shorten(text.trim_end())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    /// Skips white space, comments and escaped line ends.
    fn skip_blank(&mut self) {
        while let Some(b) = self.peek() {
            match b {
                b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' => self.pos += 1,
                b'#' => {
                    while !matches!(self.peek(), None | Some(b'\n' | b'\0')) {
                        self.pos += 1;
                    }
                }
                b'\\' if self.text.get(self.pos + 1) == Some(&b'\n') => self.pos += 2,
                _ => return,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Spanned> {
        self.skip_blank();
        let begin = self.pos;
        if depth == MAX_DEPTH && matches!(self.peek(), Some(b'{' | b'[' | b'(')) {
            return Err(self.expected(&format!("at most {MAX_DEPTH} brackets inside one another")));
        }
        let value = match self.peek() {
            Some(b'{') => Value::Dict(self.dict(depth)?),
            Some(b'[') => Value::List(self.items(b']', depth)?.0),
            Some(b'(') => match self.items(b')', depth)? {
                // `(3)` is 3 in brackets; only a comma makes a tuple of one.
                (mut items, false) if items.len() == 1 => return Ok(items.remove(0)),
                (items, _) => Value::Tuple(items),
            },
            Some(b'\'' | b'"') => Value::Str(self.string(false)?),
            Some(b'+' | b'-' | b'0'..=b'9') => Value::Int(self.int()?),
            Some(b'_' | b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            _ => return Err(self.expected("a Python literal")),
        };
        Ok(Spanned { span: self.start + begin..self.start + self.pos, value })
    }

    /// The items up to the closing bracket, and whether there was a comma.
    fn items(&mut self, close: u8, depth: usize) -> Result<(Vec<Spanned>, bool)> {
        self.pos += 1;
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            self.skip_blank();
            if self.eat(close) {
                return Ok((items, comma));
            }
            items.push(self.value(depth + 1)?);
            comma |= self.separator(close)?;
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Vec<(Spanned, Spanned)>> {
        self.pos += 1;
        let mut entries = Vec::new();
        loop {
            self.skip_blank();
            if self.eat(b'}') {
                return Ok(entries);
            }
            let key = self.value(depth + 1)?;
            self.skip_blank();
            if !self.eat(b':') {
                return Err(self.expected("`:`"));
            }
            entries.push((key, self.value(depth + 1)?));
            self.separator(b'}')?;
        }
    }

    /// Consumes a comma, and returns whether there was one; otherwise `close` must be next.
    fn separator(&mut self, close: u8) -> Result<bool> {
        self.skip_blank();
        if self.eat(b',') {
            return Ok(true);
        }
        match self.peek() {
            Some(b) if b == close => Ok(false),
            _ => Err(self.expected(&format!("`,` or `{}`", char::from(close)))),
        }
    }

    fn int(&mut self) -> Result<Int> {
        let minus = self.eat(b'-');
        if !minus {
            self.eat(b'+');
        }
        let begin = self.pos;
        let mut magnitude = Some(0_u64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            magnitude = magnitude.and_then(|m| m.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            self.pos += 1;
        }
        let digits = self.pos - begin;
        if digits == 0 {
            return Err(self.expected("a digit"));
        }
        if digits > 1 && self.text.get(begin) == Some(&b'0') && magnitude != Some(0) {
            self.pos = begin;
            return Err(self.error("expected a number without leading zeros, as Python has it"));
        }
        if self.dialect.long_suffix {
            self.eat(b'L');
        }
        match self.peek() {
            Some(b'.' | b'_' | b'a'..=b'z' | b'A'..=b'Z') => {
                let found = self.unparsed_at(begin);
                Err(self.error(format!("expected a whole number in plain decimal digits, found `{found}`")))
            }
            _ => Ok(Int { negative: minus && magnitude != Some(0), magnitude }),
        }
    }

    fn word(&mut self) -> Result<Value> {
        let begin = self.pos;
        while let Some(b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        let word = &self.text[begin..self.pos];
        let quoted = matches!(self.peek(), Some(b'\'' | b'"'));
        match word {
            b"True" => Ok(Value::Bool(true)),
            b"False" => Ok(Value::Bool(false)),
            b"None" => Ok(Value::None),
            b"u" | b"U" if quoted => Ok(Value::Str(self.string(false)?)),
            b"r" | b"R" if quoted => Ok(Value::Str(self.string(true)?)),
            _ => {
                self.pos = begin;
                let (what, found) = ("a string, a number, a bracket, True, False or None", self.unparsed_at(begin));
                Err(self.error(format!("expected a Python literal ({what}), found `{found}`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const OLD: Dialect = Dialect { utf8: false, long_suffix: true };
    pub(super) const NEW: Dialect = Dialect { utf8: true, long_suffix: false };

    fn show(value: &Value) -> String {
        let all = |nodes: &[Spanned]| nodes.iter().map(|n| show(&n.value)).collect::<Vec<_>>().join(" ");
        match value {
            Value::None => "None".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(Int { negative, magnitude }) => {
                format!("{}{}", if *negative { "-" } else { "" }, magnitude.map_or("huge".into(), |m| m.to_string()))
            }
            Value::Str(s) => format!("{s:?}"),
            Value::Tuple(nodes) => format!("({})", all(nodes)),
            Value::List(nodes) => format!("[{}]", all(nodes)),
            Value::Dict(entries) => entries
                .iter()
                .map(|(k, v)| format!("{}={}", show(&k.value), show(&v.value)))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[track_caller]
    pub(super) fn reads(text: &str, dialect: Dialect, shown: &str) {
        let node = read(text.as_bytes(), 10, dialect).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(show(&node.value), shown, "{text}");
    }

    #[track_caller]
    pub(super) fn refuses(text: &str, dialect: Dialect, at: usize, part: &str) {
        let message = read(text.as_bytes(), 0, dialect).expect_err(text).to_string();
        assert!(message.starts_with(&format!("at byte {at}: ")) && message.contains(part), "{text}: {message}");
    }

    #[test]
    fn literals_are_pythons() {
        reads(" (1, 'a', [None, True,], {}, ()) # end", NEW, "(1 \"a\" [None true]  ())");
        reads("(3)", NEW, "3");
        reads("(3,)", NEW, "(3)");
        reads("((3,))", NEW, "(3)");
        reads("{'a': 1, \"b\":-2,}", NEW, "\"a\"=1 \"b\"=-2");
        reads("[+7, -0, 00, 18446744073709551615, 18446744073709551616]", NEW, "[7 0 0 18446744073709551615 huge]");
        reads("(3L, 4L)", OLD, "(3 4)");
        reads("(1,\\\n 2)", OLD, "(1 2)");
        refuses("(3L,)", NEW, 2, "whole number");
        refuses("(03,)", NEW, 1, "leading zeros");
        refuses("(3.0,)", NEW, 2, "whole number");
        refuses("(1 2)", NEW, 3, "`,` or `)`");
        refuses("(,)", NEW, 1, "a Python literal");
        refuses("[1", NEW, 2, "ends here");
        refuses("{1, 2}", NEW, 2, "`:`");
        refuses("f(1)", NEW, 0, "a Python literal");
        refuses("1;", NEW, 1, "the end of the header");
        refuses("\u{feff}{}", NEW, 0, "0xef");
        refuses("'a\0", NEW, 0, "no quote closes");
        refuses("(1,\0)", NEW, 3, "0x00");
        refuses("1 # \0", NEW, 4, "0x00");
        refuses("'\0'", NEW, 0, "no quote closes");
        refuses("b'x'", NEW, 0, "a Python literal");
    }

    #[test]
    fn spans_are_bytes_of_the_file() {
        let text = "{'é': (3, 4) , 'b' : 'c'  }";
        for (dialect, start) in [(OLD, 10), (NEW, 12)] {
            let Value::Dict(entries) = read(text.as_bytes(), start, dialect).unwrap().value else { panic!() };
            let spelt = |node: &Spanned| &text[node.span.start - start..node.span.end - start];
            assert_eq!(spelt(&entries[0].1), "(3, 4)");
            assert_eq!((spelt(&entries[1].0), spelt(&entries[1].1)), ("'b'", "'c'"));
        }
    }

    #[test]
    fn depth_is_capped() {
        for (open, close) in [("(", ",)"), ("[", "]"), ("{1:", "}")] {
            let nest = |n| format!("{}1{}", open.repeat(n), close.repeat(n));
            assert!(read(nest(MAX_DEPTH).as_bytes(), 0, NEW).is_ok());
            refuses(&nest(MAX_DEPTH + 1), NEW, open.len() * MAX_DEPTH, "brackets");
            assert!(read(open.repeat(1_000_000).as_bytes(), 0, NEW).is_err());
        }
    }

    #[test]
    fn work_is_linear_in_the_length() {
        let pieces = [
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "'",
            "\"",
            "''",
            "'' ",
            "'a' \n",
            "'a' #\n",
            "\\",
            "\\\n",
            "\\'",
            "'\\x41'",
            ",",
            ":",
            "(),",
            "((),),",
            "[[],],",
            "{1:2},",
            "'a',",
            "'a':",
            "1,",
            "9",
            "0",
            "-",
            "3L",
            "3L,",
            " ",
            "\n",
            "#",
            "# \n",
            "u",
            "u'",
            "u'a',",
            "True,",
            "TrueFalse",
            "é",
            "'é',",
            "(1,2),",
            "\0",
            "('a','<f8'),",
        ];
        for dialect in [OLD, NEW] {
            for open in ["", "(", "[", "[(", "{'a':", "'", "((((((((", "['a'", "{'descr': [", "["] {
                for piece in pieces {
                    for close in ["", "]", ")]"] {
                        let text = format!("{open}{}{close}", piece.repeat(5_000 / piece.len()));
                        let mut reader = Parser::new(text.as_bytes(), 0, dialect);
                        let _ = reader.whole();
                        let steps = reader.steps.get();
                        assert!(
                            steps <= 8 * text.len() + 64,
                            "{steps} steps for {} bytes of {open}{piece}..{close}",
                            text.len()
                        );
                    }
                }
            }
        }
    }
}
