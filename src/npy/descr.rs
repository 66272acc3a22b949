//! Parses `descr`, the text of a dtype, as NumPy's `descr_to_dtype` does. (`display.rs` prints it.)

use std::str::FromStr;

use super::dtype::{ByteOrder, Dtype, DtypeKind, Field, MAX_DIMS, MAX_ITEMSIZE, check_size, repeated_name};
use super::literal::{self, Dialect, Int, Spanned, Value, invalid_header};
use crate::element::DatetimeUnit;
use crate::error::{Error, Result, shorten};

/// The dtype that the value of a header's `descr` means.
pub(super) fn dtype_of(node: Spanned) -> Result<Dtype> {
    let at = node.span.start;
    match node.value {
        Value::Str(text) => scalar(&text, at),
        Value::List(entries) => record(entries, at),
        Value::Tuple(parts) => match <[Spanned; 2]>::try_from(parts) {
            Ok([base, shape]) => sub_array(base, shape),
            Err(parts) => Err(invalid_header!(at, "expected (type, shape), found {} parts", parts.len())),
        },
        other => Err(invalid_header!(at, "expected a type: a string, a list, or a tuple; found {}", other.name())),
    }
}

/// `<f8`, `|S5`, `M8[us]`, and the names that mean the same on every machine (NumPy's `int` and `long` do not).
fn scalar(text: &str, at: usize) -> Result<Dtype> {
    let (byteorder, rest) = match text.chars().next() {
        Some('<') => (Some(ByteOrder::Little), &text[1..]),
        Some('>') => (Some(ByteOrder::Big), &text[1..]),
        Some('=' | '|') => (None, &text[1..]),
        _ => (None, text),
    };
    let named = if rest.len() == text.len() { name(rest) } else { None };
    // Of plain bytes only a stated order counts.
    let unstated = if rest.starts_with('V') { ByteOrder::NotApplicable } else { ByteOrder::NATIVE };
    match named.or_else(|| code(rest)).or_else(|| date(rest)).or_else(|| string(rest)) {
        Some((kind, itemsize)) => Ok(Dtype::scalar(kind, byteorder.unwrap_or(unstated), itemsize)),
        None => Err(match rest {
            "O" | "O4" | "O8" | "object" | "object_" | "T" => {
                invalid_header!(at, "expected bytes, found `{text}`: Python objects cannot be in a file")
            }
            _ => {
                let text = shorten(text);
                invalid_header!(at, "expected a type as NumPy names it (`<f8`, `|S5`), found `{text}`")
            }
        }),
    }
}

/// Type codes: letters with a size or alone.
fn code(text: &str) -> Option<(DtypeKind, usize)> {
    Some(match text {
        "b1" | "?" => (DtypeKind::Bool, 1),
        "i1" | "b" => (DtypeKind::Int, 1),
        "i2" | "h" => (DtypeKind::Int, 2),
        "i4" | "i" => (DtypeKind::Int, 4),
        "i8" | "q" => (DtypeKind::Int, 8),
        "u1" | "B" => (DtypeKind::Uint, 1),
        "u2" | "H" => (DtypeKind::Uint, 2),
        "u4" | "I" => (DtypeKind::Uint, 4),
        "u8" | "Q" => (DtypeKind::Uint, 8),
        "f2" | "e" => (DtypeKind::Float, 2),
        "f4" | "f" => (DtypeKind::Float, 4),
        "f8" | "d" => (DtypeKind::Float, 8),
        "f16" => (DtypeKind::Float, 16),
        "c8" | "F" => (DtypeKind::Complex, 8),
        "c16" | "D" => (DtypeKind::Complex, 16),
        "c32" => (DtypeKind::Complex, 32),
        "c" => (DtypeKind::Bytes, 1),
        _ => return None,
    })
}

/// Type names.
fn name(text: &str) -> Option<(DtypeKind, usize)> {
    Some(match text {
        "bool" | "bool_" => (DtypeKind::Bool, 1),
        "int8" | "byte" => (DtypeKind::Int, 1),
        "int16" | "short" => (DtypeKind::Int, 2),
        "int32" => (DtypeKind::Int, 4),
        "int64" => (DtypeKind::Int, 8),
        "uint8" | "ubyte" => (DtypeKind::Uint, 1),
        "uint16" | "ushort" => (DtypeKind::Uint, 2),
        "uint32" => (DtypeKind::Uint, 4),
        "uint64" => (DtypeKind::Uint, 8),
        "float16" | "half" => (DtypeKind::Float, 2),
        "float32" | "single" => (DtypeKind::Float, 4),
        "float64" | "double" | "float" => (DtypeKind::Float, 8),
        // No name of NumPy's: the one that ml_dtypes adds.
        "bfloat16" => (DtypeKind::Void, 2),
        "complex64" | "csingle" => (DtypeKind::Complex, 8),
        "complex128" | "cdouble" | "complex" => (DtypeKind::Complex, 16),
        _ => return None,
    })
}

/// `M8`, `m8[25us]`, `datetime64[D]`.
fn date(text: &str) -> Option<(DtypeKind, usize)> {
    let (datetime, step) = None
        .or_else(|| Some((true, text.strip_prefix("M8").or_else(|| text.strip_prefix("datetime64"))?)))
        .or_else(|| Some((false, text.strip_prefix("m8").or_else(|| text.strip_prefix("timedelta64"))?)))
        .or_else(|| if text == "M" || text == "m" { Some((text == "M", "")) } else { None })?;
    let (unit, count) = if step.is_empty() {
        (DatetimeUnit::Generic, 1)
    } else {
        let step = step.strip_prefix('[')?.strip_suffix(']')?;
        let unit = step.trim_start_matches(|c: char| c.is_ascii_digit());
        let count = &step[..step.len() - unit.len()];
        (DatetimeUnit::from_code(unit)?, if count.is_empty() { 1 } else { number(count)? })
    };
    let count = u32::try_from(count).ok().filter(|&n| n != 0)?;
    Some((if datetime { DtypeKind::Datetime { unit, count } } else { DtypeKind::Timedelta { unit, count } }, 8))
}

/// `S5`, `U5`, `V5`, and `a5`, which is Python 2 for `S5`.
fn string(text: &str) -> Option<(DtypeKind, usize)> {
    let (kind, width) = match text.as_bytes().first()? {
        b'S' | b'a' => (DtypeKind::Bytes, 1),
        b'U' => (DtypeKind::Str, 4),
        b'V' => (DtypeKind::Void, 1),
        _ => return None,
    };
    let digits = &text[1..];
    let count = if digits.is_empty() { 0 } else { number(digits)? };
    Some((kind, count.checked_mul(width).filter(|&size| size <= MAX_ITEMSIZE)?))
}

/// Digits only (`parse` would accept a `+`), up to what a C `int` holds.
fn number(digits: &str) -> Option<usize> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&n| n <= MAX_ITEMSIZE)
}

/// `('<f4', (2, 3))`. A sub-array of sub-arrays has the axes of both.
fn sub_array(base: Spanned, shape: Spanned) -> Result<Dtype> {
    let at = shape.span.start;
    let mut dtype = dtype_of(base)?;
    let lengths = match &shape.value {
        Value::Tuple(axes) | Value::List(axes) => axes.iter().map(axis).collect::<Result<Vec<_>>>()?,
        Value::Int(_) => vec![axis(&shape)?],
        _ => return Err(shape.expected("the axis length of a sub-array, or a tuple of them")),
    };
    if dtype.base_itemsize == 0 && dtype.kind != DtypeKind::Record {
        return Err(invalid_header!(at, "expected a sub-array of items that have bytes"));
    }
    dtype.shape.splice(0..0, lengths);
    if dtype.shape.len() > MAX_DIMS {
        return Err(invalid_header!(at, "expected at most {MAX_DIMS} axes, found {}", dtype.shape.len()));
    }
    check_size(at, dtype.base_itemsize, &dtype.shape)?;
    Ok(dtype)
}

/// NumPy keeps the axes of a sub-array in a C `int`.
fn axis(length: &Spanned) -> Result<usize> {
    let found = match length.value {
        Value::Int(n @ Int { negative: false, magnitude }) => {
            match magnitude.and_then(|m| usize::try_from(m).ok()).filter(|&length| length <= MAX_ITEMSIZE) {
                Some(length) => return Ok(length),
                None => format!("a larger number{}", n.shown()),
            }
        }
        Value::Int(n) => format!("a negative number{}", n.shown()),
        ref other => other.name().into(),
    };
    Err(invalid_header!(length.span.start, "expected an axis length of at most {MAX_ITEMSIZE}, found {found}"))
}

/// `[('x', '<f8'), ('', '|V4'), ('y', '<f4', (3,))]`
fn record(entries: Vec<Spanned>, at: usize) -> Result<Dtype> {
    let mut fields = Vec::with_capacity(entries.len());
    let mut offset = 0_usize;
    for entry in entries {
        let at = entry.span.start;
        let (Value::Tuple(parts) | Value::List(parts)) = entry.value else {
            return Err(entry.expected("a field"));
        };
        let count = parts.len();
        let parts = &mut parts.into_iter();
        let (Some(name), Some(base), shape, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(invalid_header!(
                at,
                "expected a field, (name, type) or (name, type, shape), found {count} parts"
            ));
        };
        let (title, name) = field_name(name)?;
        let dtype = match shape {
            Some(shape) => sub_array(base, shape)?,
            None => dtype_of(base)?,
        };
        let end = offset.saturating_add(dtype.itemsize());
        check_size(at, end, &[])?;
        // NumPy treats a sub-array as void, so without a name it is padding too.
        let void = dtype.kind == DtypeKind::Void || !dtype.shape.is_empty();
        if !(void && name.is_empty() && title.is_none()) {
            fields.push(Field { name, title, offset, dtype });
        }
        offset = end;
    }
    match repeated_name(&fields) {
        Some(name) => Err(invalid_header!(at, "expected one field of a name, found two `{}`", shorten(name))),
        None => Ok(Dtype::from_fields(fields, offset)),
    }
}

/// `'name'` or `('title', 'name')`.
fn field_name(node: Spanned) -> Result<(Option<String>, String)> {
    let at = node.span.start;
    match node.value {
        Value::Str(name) => return Ok((None, name)),
        Value::Tuple(parts) => {
            if let Ok([title, name]) = <[Spanned; 2]>::try_from(parts) {
                match (title.value, name.value) {
                    (Value::Str(title), Value::Str(name)) => return Ok((Some(title), name)),
                    (Value::None, Value::Str(name)) => return Ok((None, name)),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Err(invalid_header!(at, "expected a field's name, or (title, name)"))
}

impl FromStr for Dtype {
    type Err = Error;

    /// Parses a `descr` as in a header. Around a plain type there may be quotes, or none.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with(['(', '[', '\'', '"']) {
            literal::read(text.as_bytes(), 0, Dialect { utf8: true, long_suffix: false }).and_then(dtype_of)
        } else {
            scalar(text, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(descr: &str, at: usize, part: &str) {
        let message = descr.parse::<Dtype>().expect_err(descr).to_string();
        assert!(message.starts_with(&format!("at byte {at}: ")) && message.contains(part), "{descr}: {message}");
    }

    #[test]
    fn what_numpy_does_not_know_is_refused_at_its_byte() {
        for bad in [
            "",
            "<",
            "f3",
            "<F8",
            "f12",
            "i16",
            "u",
            "bogus",
            "<float64",
            "f8 ",
            " f8",
            "S-1",
            "S+1",
            "S2147483648",
            "U536870912",
            "V99999999999999999999",
            "M4",
            "M8[0s]",
            "M8[us",
            "M8[us]x",
            "M8[u]",
            "M8[2147483648s]",
            "M8[s]]",
            "c1",
            "?1",
            "d8",
            "<i4[s]",
            "i4,f4",
            "(2,)i4",
            "long",
            "é",
            "<é",
        ] {
            if !bad.starts_with('(') {
                refuses(bad, 0, "expected a type as NumPy names it");
            }
            refuses(&format!("[('a', '{bad}')]"), 7, "expected a type as NumPy names it");
        }
        for object in ["O", "|O", "<O8", "O4", "object", "T"] {
            refuses(object, 0, "Python objects");
            refuses(&format!("[('a', [('b', '{object}', (2,))])]"), 14, "Python objects");
        }
        refuses("()", 0, "(type, shape)");
        refuses("('<f4',)", 0, "found 1 parts");
        refuses("('<f4', (2,), 3)", 0, "found 3 parts");
        refuses("('<f4', (-1,))", 9, "axis length");
        refuses("('<f4', True)", 8, "axis length");
        refuses("('<f4', (2, None))", 12, "axis length");
        refuses("('<f4', 2147483648)", 8, "axis length");
        refuses("('<f4', 99999999999999999999)", 8, "axis length");
        refuses("('<f4', (65536, 65536))", 8, "2147483647 bytes");
        refuses("('<f4', (65536, 65536, 65536, 65536, 65536, 0))", 8, "2147483647 bytes");
        refuses(&format!("('|u1', ({}))", "1, ".repeat(65)), 8, "64 axes");
        refuses(&format!("(('|u1', ({})), (1,))", "1, ".repeat(64)), 206, "64 axes");
        refuses("('S0', (5,))", 7, "have bytes");
        refuses("[('a', '|S2000000000'), ('b', '|S2000000000')]", 24, "2147483647 bytes");
        refuses("[('a', 'u1'), ('a', 'u1')]", 0, "two `a`");
        refuses("[(('b', 'a'), 'u1'), ('b', 'u1')]", 0, "two `b`");
        refuses("[(('a', 'a'), 'u1')]", 0, "two `a`");
        refuses("[('a',)]", 1, "expected a field");
        refuses("[('a', 'u1', (), 4)]", 1, "expected a field");
        refuses("['u1']", 1, "expected a field");
        refuses("[(3, 'u1')]", 2, "field's name");
        refuses("[(('a',), 'u1')]", 2, "field's name");
        refuses("[('a', 'u1'", 11, "ends here");
        refuses("[('a', 3)]", 7, "expected a type");
        refuses("{'names': ['a']}", 0, "expected a type");
    }

    #[test]
    fn messages_do_not_grow_with_the_file() {
        let message = "x".repeat(100_000).parse::<Dtype>().unwrap_err().to_string();
        assert!(message.len() < 200, "{}", message.len());
    }
}
