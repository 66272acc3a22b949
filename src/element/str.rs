//! `Str`: NumPy's strings of code points.
#![allow(unsafe_code)] // See `element`.

use std::fmt::{self, Write as _};

use crate::error::{Error, Result, error, shorten};

/// A string of up to `N` characters of four bytes, padded with zeros: NumPy's `U`.
///
/// As in NumPy, zeros at the end are not part of the value. A file can hold numbers that are no characters (above 0x10FFFF,
/// or surrogates): [`chars`](Self::chars) and `Display` show U+FFFD for them, and the conversion to a `String` refuses them.
/// The order is that of the code points. [`BigEndian<Str<N>>`](crate::BigEndian) is `>U`.
///
/// ```
/// use ndarray_mmap::Str;
///
/// let city = Str::<8>::new("Zürich").expect("it has at most 8 characters");
/// assert_eq!(city, "Zürich");
/// assert_eq!(city.to_string(), "Zürich");
/// assert_eq!(city.chars().count(), 6);
/// assert_eq!(Str::<3>::new("Zürich"), None);
/// assert!(city < Str::try_from("Ürümqi")?);
///
/// let text = String::try_from(city)?; // an error if the file holds what is no character
/// assert_eq!(text, "Zürich");
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Str<const N: usize>([u32; N]);

impl<const N: usize> Str<N> {
    /// This string; `None` if it has more than `N` characters.
    pub fn new(text: &str) -> Option<Self> {
        let mut all = [0; N];
        let mut chars = text.chars();
        all.iter_mut().zip(&mut chars).for_each(|(unit, c)| *unit = c.into());
        chars.next().is_none().then_some(Self(all))
    }

    /// The numbers up to the last one that is not zero, whether or not they are characters.
    pub fn code_points(&self) -> &[u32] {
        let len = self.0.iter().rposition(|&unit| unit != 0).map_or(0, |last| last + 1);
        &self.0[..len]
    }

    /// The characters; U+FFFD for what is none.
    pub fn chars(&self) -> impl DoubleEndedIterator<Item = char> + '_ {
        self.code_points().iter().map(|&unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

impl<const N: usize> Default for Str<N> {
    /// The empty string.
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> TryFrom<&str> for Str<N> {
    type Error = Error;

    /// # Errors
    /// `InvalidInput` if the text has more than `N` characters.
    fn try_from(text: &str) -> Result<Self> {
        Self::new(text).ok_or_else(|| {
            error!(
                InvalidInput,
                "`{}` has {} characters, a `Str<{N}>` at most {N}",
                shorten(text),
                text.chars().count()
            )
        })
    }
}

impl<const N: usize> TryFrom<Str<N>> for String {
    type Error = Error;

    /// # Errors
    /// `InvalidInput` if one of the numbers is no character.
    fn try_from(text: Str<N>) -> Result<Self> {
        let character = |(at, &unit): (usize, &u32)| {
            char::from_u32(unit)
                .ok_or_else(|| error!(InvalidInput, "{unit:#x}, at place {at} of the string, is no character"))
        };
        text.code_points().iter().enumerate().map(character).collect()
    }
}

impl<const N: usize> PartialEq<str> for Str<N> {
    /// Zeros at the end count on neither side.
    fn eq(&self, other: &str) -> bool {
        let other = other.trim_end_matches('\0').chars().map(u32::from);
        self.code_points().iter().copied().eq(other)
    }
}

impl<const N: usize> PartialEq<&str> for Str<N> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl<const N: usize> PartialEq<Str<N>> for str {
    fn eq(&self, other: &Str<N>) -> bool {
        other == self
    }
}

impl<const N: usize> PartialEq<Str<N>> for &str {
    fn eq(&self, other: &Str<N>) -> bool {
        other == *self
    }
}

impl<const N: usize> fmt::Display for Str<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.chars().collect::<String>())
    }
}

impl<const N: usize> fmt::Debug for Str<N> {
    /// As a string; what is no character as `\u{..}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for &unit in self.code_points() {
            match char::from_u32(unit) {
                Some('\'') => f.write_char('\''),
                Some(c) => write!(f, "{}", c.escape_debug()),
                None => write!(f, "\\u{{{unit:x}}}"),
            }?;
        }
        f.write_char('"')
    }
}

// SAFETY: (1) a transparent wrapper of `[u32; N]`, which is `Zeroable`.
unsafe impl<const N: usize> bytemuck::Zeroable for Str<N> {}
// SAFETY: (1, 2) a transparent wrapper of `[u32; N]`, which is `Pod`; it is `'static` and `Copy`.
unsafe impl<const N: usize> bytemuck::Pod for Str<N> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn text_of_up_to_its_length_comes_back() {
        for text in ["", "a", "ab", "漢é", "\u{10ffff}\u{1f600}x", "a\0b"] {
            let s = Str::<3>::new(text).unwrap();
            assert_eq!(s, text);
            assert_eq!((s.to_string(), String::try_from(s).unwrap()), (text.into(), text.into()));
            assert_eq!(format!("{s:?}"), format!("{text:?}"));
            assert_eq!(Str::try_from(text).unwrap(), s);
        }
        assert_eq!(Str::<3>::new("abcd"), None);
        let e = Str::<3>::try_from("abcd").unwrap_err();
        assert_eq!(
            (e.kind(), e.to_string().as_str()),
            (ErrorKind::InvalidInput, "`abcd` has 4 characters, a `Str<3>` at most 3")
        );
        assert_eq!(format!("[{:>4}|{:<4}]", Str::<2>::new("é").unwrap(), Str::<2>::new("é").unwrap()), "[   é|é   ]");
    }

    #[test]
    fn zeros_at_the_end_are_no_part_of_it() {
        let s = Str::<4>::new("ab\0").unwrap();
        for (other, same) in [("ab", true), ("ab\0\0\0\0\0", true), ("ab\0c", false), ("a", false), ("abc", false)] {
            assert_eq!([s == other, s == *other, other == s, *other == s], [same; 4], "{other:?}");
        }
        assert_eq!((s, s.code_points().len()), (Str::new("ab").unwrap(), 2));
        assert_eq!(Str::<4>::default(), "");
    }

    #[test]
    fn what_is_no_character_is_shown_and_refused() {
        for unit in [0xd800, 0xdfff, 0x11_0000, u32::MAX] {
            let s = Str::<3>([97, unit, 0]);
            assert_eq!((s.to_string().as_str(), s.chars().next_back()), ("a\u{fffd}", Some('\u{fffd}')));
            assert_ne!(s, "a\u{fffd}");
            assert_eq!(format!("{s:?}"), format!("\"a\\u{{{unit:x}}}\""));
            let e = String::try_from(s).unwrap_err();
            assert!(e.to_string().contains("at place 1"), "{e}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_code_points() {
        let words = ["", "a", "a\0b", "ab", "b", "é", "\u{ffff}", "\u{10000}"];
        assert!(words.map(|word| Str::<3>::new(word).unwrap()).is_sorted_by(|a, b| a < b));
    }
}
