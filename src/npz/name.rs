//! The names of members: how their bytes are read, and what NumPy makes of them.

use std::borrow::Cow;

use crate::error::{Result, error};

/// What NumPy adds to the name of an array.
pub(super) const SUFFIX: &str = ".npy";

/// The text of a name. Without the flag for UTF-8 it is in the encoding of the first PCs, as Python reads it.
///
/// # Errors
/// `InvalidHeader` for bytes that are no UTF-8, though the flag says so.
pub(super) fn decode(bytes: &[u8], is_utf8: bool) -> Result<Cow<'_, str>> {
    if is_utf8 || bytes.is_ascii() {
        let text = str::from_utf8(bytes);
        return text.map(Cow::Borrowed).map_err(|e| error!(InvalidHeader, "the name of a member is no UTF-8: {e}"));
    }
    let of_byte = |&byte: &u8| match byte.checked_sub(128) {
        Some(high) => CODE_PAGE_437[usize::from(high)],
        None => char::from(byte),
    };
    Ok(bytes.iter().map(of_byte).collect())
}

/// The name that NumPy gives to the array of a member.
pub(super) fn of_array(member: &str) -> &str {
    member.strip_suffix(SUFFIX).unwrap_or(member)
}

/// The characters of the bytes from 128 on.
#[rustfmt::skip]
const CODE_PAGE_437: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å',
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ',
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»',
    '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐',
    '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧',
    '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀',
    'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩',
    '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', '\u{a0}',
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_name_is_read_as_its_flag_says() {
        assert_eq!(decode(b"a/b.npy", false).unwrap(), "a/b.npy");
        assert_eq!(decode("é".as_bytes(), true).unwrap(), "é");
        assert_eq!(decode("é".as_bytes(), false).unwrap(), "├⌐");
        assert_eq!(decode(&[b'a', 0x80, 0xe1, 0xfe, 0xff], false).unwrap(), "aÇß■\u{a0}");
        assert_eq!(decode(b"\xff", true).unwrap_err().kind(), ErrorKind::InvalidHeader);
    }

    #[test]
    fn only_the_last_suffix_goes() {
        for (member, array) in [("a.npy", "a"), ("a", "a"), ("a.npy.npy", "a.npy"), (".npy", ""), ("a.NPY", "a.NPY")] {
            assert_eq!(of_array(member), array);
        }
    }
}
