//! Parses strings: quotes, escapes, and the encoding of the text.

use super::Parser;
use crate::error::Result;

impl Parser<'_> {
    /// A string from its opening quote on. Triple quotes are not supported, and adjacent strings are not joined.
    pub(super) fn string(&mut self, raw: bool) -> Result<String> {
        let begin = self.pos;
        let quote = self.char();
        let mut out = String::new();
        loop {
            match self.char() {
                None | Some('\n' | '\r' | '\0') => {
                    self.pos = begin;
                    return Err(self.error("expected a string, but no quote closes it on its line"));
                }
                c if c == quote => return Ok(out),
                Some('\\') => self.escape(raw, &mut out)?,
                Some(c) => out.push(c),
            }
        }
    }

    fn escape(&mut self, raw: bool, out: &mut String) -> Result<()> {
        let Some(c) = self.char() else { return Ok(()) };
        match c {
            '\n' | '\r' | '\0' => return Err(self.error("expected an escape, found the end of the line")),
            _ if raw => out.extend(['\\', c]),
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'x' => out.push(self.code_point(16, 2, 2)?),
            'u' => out.push(self.code_point(16, 4, 4)?),
            'U' => out.push(self.code_point(16, 8, 8)?),
            '0'..='7' => {
                self.pos -= 1;
                out.push(self.code_point(8, 1, 3)?);
            }
            'N' => return Err(self.error("expected a code point, not its name: `\\N{..}` is not read here")),
            // As in Python, an unknown escape stays as it is.
            _ => out.extend(['\\', c]),
        }
        Ok(())
    }

    /// One character from `least..=most` digits.
    fn code_point(&mut self, radix: u32, least: usize, most: usize) -> Result<char> {
        let begin = self.pos;
        let mut code = 0_u32;
        while self.pos - begin < most
            && let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(radix))
        {
            code = code.wrapping_mul(radix).wrapping_add(digit); // 8 hexadecimal digits fit, so nothing wraps
            self.pos += 1;
        }
        if self.pos - begin < least {
            return Err(self.expected(&format!("{least} digits of base {radix}")));
        }
        char::from_u32(code).ok_or_else(|| {
            self.pos = begin;
            self.error(format!("expected a character, but U+{code:04X} is none"))
        })
    }

    /// The next character, in the encoding of the text.
    fn char(&mut self) -> Option<char> {
        let b = self.peek()?;
        let c = if b.is_ascii() || !self.dialect.utf8 {
            char::from(b)
        } else {
            let width = match b {
                0xf0.. => 4,
                0xe0.. => 3,
                _ => 2,
            };
            std::str::from_utf8(self.text.get(self.pos..self.pos + width)?).ok()?.chars().next()?
        };
        self.pos += if self.dialect.utf8 { c.len_utf8() } else { 1 };
        Some(c)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::tests::{NEW, OLD, reads, refuses};

    #[test]
    fn strings_are_pythons() {
        reads(
            r#"["it's", 'a"b', u'x', r'\d\'', '\d', '\x3cf8', '\101\0', '\u00e9\U0001F600']"#,
            NEW,
            r#"["it's" "a\"b" "x" "\\d\\'" "\\d" "<f8" "A\0" "é😀"]"#,
        );
        reads("'漢é😀'", NEW, "\"漢é😀\"");
        reads("'é'", OLD, "\"Ã©\"");
        refuses(r"'\x4'", NEW, 4, "2 digits");
        refuses(r"'\ud800'", NEW, 3, "U+D800");
        refuses(r"'\N{DASH}'", NEW, 3, "code point");
        refuses("'a\n'", NEW, 0, "no quote closes");
        refuses("['a", NEW, 1, "no quote closes");
        refuses("['a\r']", NEW, 1, "no quote closes");
        refuses("'a\\\r'", NEW, 4, "an escape");
        refuses("r'a\\\n'", NEW, 5, "an escape");
        refuses("['a' 'b']", NEW, 5, "`,` or `]`");
        refuses("'''a'''", NEW, 2, "the end of the header");
        let e = read(b"'a\xff'", 10, NEW).unwrap_err();
        assert_eq!(e.to_string(), "at byte 12: expected UTF-8 text, as version 3.0 has it");
    }
}
