//! Prints values as Python does: dtypes as NumPy's `dtype_to_descr`, tuples and strings as `repr`.

use std::fmt::{self, Write as _};

use super::dtype::{ByteOrder, Dtype, DtypeKind};
use crate::element::DatetimeUnit;

impl fmt::Display for Dtype {
    /// Prints NumPy's `descr`; a plain type without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape[..] {
            [] => f.write_str(&self.base_descr("")),
            shape => write!(f, "({}, {})", self.base_descr("'"), tuple(shape)),
        }
    }
}

impl Dtype {
    /// The descr between `quote`s, for a message: whole, or its beginning and its length.
    pub(crate) fn brief(&self, quote: &str) -> String {
        /// A record of a few fields fits, and a message with two of them stays readable.
        const MOST: usize = 120;
        let whole = self.to_string();
        let Some((cut, _)) = whole.char_indices().nth(MOST) else { return format!("{quote}{whole}{quote}") };
        let fields = match self.fields.len() {
            0 => String::new(),
            1 => "1 field, ".into(),
            n => format!("{n} fields, "),
        };
        format!("{quote}{}…{quote} ({fields}{} characters)", &whole[..cut], whole.chars().count())
    }

    /// The descr of one item, without the axes of a sub-array.
    pub(super) fn base_descr(&self, quote: &str) -> String {
        let size = self.base_itemsize;
        let order = match self.byteorder {
            ByteOrder::Little => '<',
            ByteOrder::Big => '>',
            ByteOrder::NotApplicable => '|',
        };
        let date = |letter, unit: DatetimeUnit, count| match (unit, count) {
            (DatetimeUnit::Generic, 1) => format!("{letter}8"),
            (unit, 1) => format!("{letter}8[{}]", unit.code()),
            (unit, n) => format!("{letter}8[{n}{}]", unit.code()),
        };
        let code = match self.kind {
            DtypeKind::Bool => format!("b{size}"),
            DtypeKind::Int => format!("i{size}"),
            DtypeKind::Uint => format!("u{size}"),
            DtypeKind::Float => format!("f{size}"),
            DtypeKind::Complex => format!("c{size}"),
            DtypeKind::Timedelta { unit, count } => date('m', unit, count),
            DtypeKind::Datetime { unit, count } => date('M', unit, count),
            DtypeKind::Bytes => format!("S{size}"),
            DtypeKind::Str => format!("U{}", size / 4),
            DtypeKind::Void => format!("V{size}"),
            DtypeKind::Record => return self.record_descr(),
        };
        format!("{quote}{order}{code}{quote}")
    }

    /// The descr of a record: bytes that no field covers are an unnamed `V`.
    fn record_descr(&self) -> String {
        let padding = |from: usize, to: usize| (to > from).then(|| format!("('', '|V{}')", to - from));
        let mut entries = Vec::with_capacity(self.fields.len());
        let mut end = 0;
        for field in &self.fields {
            entries.extend(padding(end, field.offset));
            end = field.offset.saturating_add(field.dtype.itemsize());
            let name = match &field.title {
                Some(title) => format!("({}, {})", repr(title), repr(&field.name)),
                None => repr(&field.name),
            };
            let base = field.dtype.base_descr("'");
            entries.push(match &field.dtype.shape[..] {
                [] => format!("({name}, {base})"),
                shape => format!("({name}, {base}, {})", tuple(shape)),
            });
        }
        entries.extend(padding(end, self.base_itemsize));
        format!("[{}]", entries.join(", "))
    }
}

/// A Python tuple of lengths.
pub(super) fn tuple(lengths: &[usize]) -> String {
    match lengths {
        [] => "()".into(),
        [one] => format!("({one},)"),
        [first, rest @ ..] => {
            let mut out = format!("({first}");
            for n in rest {
                let _ = write!(out, ", {n}");
            }
            out + ")"
        }
    }
}

/// Python's `repr` of a string.
fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => out.extend(['\\', c]),
            _ if is_printable(c) => out.push(c),
            _ => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
    out
}

/// Python's `str.isprintable` for one character. std has the same Unicode categories, but only in `escape_debug`.
fn is_printable(c: char) -> bool {
    // `escape_debug` escapes a combining character at the start of a string, so it must follow another one.
    let mut buffer = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut buffer[1..]).len();
    let escaped = std::str::from_utf8(&buffer[..len]).map_or(0, |s| s.escape_debug().count());
    escaped == 2 || matches!(c, '\'' | '"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn prints(descr: &str, printed: &str) {
        let dtype: Dtype = descr.parse().unwrap_or_else(|e| panic!("{descr}: {e}"));
        assert_eq!(dtype.to_string(), printed, "{descr}");
        let again: Dtype = printed.parse().unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again, dtype, "{printed}");
    }

    #[test]
    fn a_descr_prints_as_numpy_writes_it() {
        for same in [
            "|b1",
            "|i1",
            "|u1",
            "<i2",
            ">u4",
            "<i8",
            "<f2",
            ">f4",
            "<f8",
            "<f16",
            "<c8",
            ">c16",
            "<c32",
            "<M8",
            "<M8[us]",
            ">m8[25s]",
            "<m8[as]",
            "|S0",
            "|S5",
            "<U3",
            ">U3",
            "<U0",
            "|V7",
            "|V0",
            "<V2",
            ">V2",
            "<V1",
            "[('a', '|u1'), ('b', '<V2', (2,))]",
            "|S2147483647",
            "[]",
            "('<f4', (2,))",
            "[('a', '<f8')]",
            "[('', '|V4'), ('a', '|u1'), ('', '|V1'), ('b', '>f4', (2, 3))]",
            "[(('t', 'a'), [('x', '<i4'), ('', '|V4')], (1,))]",
            "[('', '|V4')]",
            "[('', '<f8')]",
            "[('a', []), ('b', '|V0')]",
        ] {
            prints(same, same);
        }
        prints("'<U3'", "<U3");
        prints(">b1", "|b1");
        prints("c", "|S1");
        prints("V", "|V0");
        prints("=V2", "|V2");
        prints("<M8[μs]", "<M8[us]");
        prints("timedelta64[007s]".trim(), if cfg!(target_endian = "big") { ">m8[7s]" } else { "<m8[7s]" });
        prints(
            r#"[("it's", '|u1'), ('q"', '|u1'), ('\'"', '|u1')]"#,
            r#"[("it's", '|u1'), ('q"', '|u1'), ('\'"', '|u1')]"#,
        );
        prints("[('漢é', '|u1'), ('a\u{301}', '|u1')]", "[('漢é', '|u1'), ('a\u{301}', '|u1')]");
        prints(r"[('\\\n\t\x00\x7f\xa0\u200b\U000e0001', '|u1')]", r"[('\\\n\t\x00\x7f\xa0\u200b\U000e0001', '|u1')]");
    }
}
