//! What a `descr` means, as values. (Its text is in `descr.rs`, the Rust types are in `element.rs`.)

use std::collections::HashSet;
use std::fmt;

use super::literal::invalid_header;
use crate::element::DatetimeUnit;
use crate::error::{Result, error, shorten};

/// NumPy keeps item sizes and the axes of sub-arrays in a C `int`.
pub(super) const MAX_ITEMSIZE: usize = i32::MAX as usize;

/// NumPy's `NPY_MAXDIMS`.
pub(crate) const MAX_DIMS: usize = 64;

/// The type of one element of a `.npy` file: NumPy's `dtype`.
///
/// [`Display`](fmt::Display) prints NumPy's `descr`, and [`FromStr`](std::str::FromStr) reads it.
///
/// Two dtypes are equal if they mean the same bytes, however a header spells them: on a little-endian machine `=f8` and
/// `float64` are `<f8`, one-byte types have no byte order, and padding is whatever no field covers. Titles are not
/// compared.
///
/// `<V2` is not `|V2`: the Python package ml_dtypes writes `bfloat16` as `<V2`, and what has no byte order is plain bytes.
/// ```
/// use ndarray_mmap::npy::{Dtype, DtypeKind};
///
/// let dtype: Dtype = "[('t', '<M8[us]'), ('', '|V4'), ('xyz', 'float32', (3,))]".parse()?;
/// assert_eq!(dtype.itemsize(), 24);
/// assert_eq!(dtype.fields()[1].offset(), 12);
/// assert_eq!(dtype.fields()[1].dtype().kind(), DtypeKind::Float);
/// # #[cfg(target_endian = "little")]
/// assert_eq!(dtype.to_string(), "[('t', '<M8[us]'), ('', '|V4'), ('xyz', '<f4', (3,))]");
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Dtype {
    pub(super) kind: DtypeKind,
    /// `NotApplicable` where it has no meaning, so that equal types compare equal. A `Void` may have one.
    pub(super) byteorder: ByteOrder,
    /// Bytes of one item, without the axes of a sub-array.
    pub(super) base_itemsize: usize,
    /// The fields of a record, by offset; they do not overlap.
    pub(super) fields: Vec<Field>,
    /// The axes of a sub-array; none for most types.
    pub(super) shape: Vec<usize>,
}

/// The kind of an element, without its size and byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DtypeKind {
    /// `b1`, a boolean of one byte.
    Bool,
    /// `i`, a signed integer.
    Int,
    /// `u`, an unsigned integer.
    Uint,
    /// `f`, a float. One of 16 bytes is the `long double` of x86-64, for which Rust has no type.
    Float,
    /// `c`, two floats.
    Complex,
    /// `m8[..]`, a time span counted in steps of `count` units.
    Timedelta {
        /// The unit.
        unit: DatetimeUnit,
        /// The number of units in one step, mostly 1.
        count: u32,
    },
    /// `M8[..]`, a time since 1970 counted in steps of `count` units.
    Datetime {
        /// The unit.
        unit: DatetimeUnit,
        /// The number of units in one step, mostly 1.
        count: u32,
    },
    /// `S`, a string of bytes, padded with zeros.
    Bytes,
    /// `U`, a string of 4-byte code points, padded with zeros.
    Str,
    /// `V`, bytes without a stated meaning. With a byte order (`<V2`) it is a number that NumPy itself does not have.
    Void,
    /// A record of named fields.
    Record,
}

/// The order of an item's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// `<`
    Little,
    /// `>`
    Big,
    /// `|`: single bytes, which have no order.
    NotApplicable,
}

impl ByteOrder {
    /// The byte order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };
}

/// One field of a record.
#[derive(Clone)]
pub struct Field {
    pub(super) name: String,
    pub(super) title: Option<String>,
    pub(super) offset: usize,
    pub(super) dtype: Dtype,
}

impl Dtype {
    /// A type without fields and without axes; the byte order is dropped where it has no meaning.
    pub(super) fn scalar(kind: DtypeKind, byteorder: ByteOrder, itemsize: usize) -> Self {
        let ordered = match kind {
            DtypeKind::Bool | DtypeKind::Bytes | DtypeKind::Record => false,
            DtypeKind::Str | DtypeKind::Void => true,
            _ => itemsize > 1,
        };
        let byteorder = if ordered { byteorder } else { ByteOrder::NotApplicable };
        Self { kind, byteorder, base_itemsize: itemsize, fields: Vec::new(), shape: Vec::new() }
    }

    /// A record of `fields` in `itemsize` bytes. Bytes that no field covers are padding; so is a field named `""`.
    ///
    /// # Errors
    /// `InvalidInput` if fields overlap, end past `itemsize`, or share a name.
    pub fn record(fields: impl IntoIterator<Item = Field>, itemsize: usize) -> Result<Self> {
        let mut fields: Vec<Field> = fields.into_iter().collect();
        fields.sort_by_key(|f| (f.offset, f.dtype.itemsize()));
        let mut end = 0;
        for field in &fields {
            if field.offset < end {
                let (name, offset) = (shorten(&field.name), field.offset);
                return Err(error!(
                    InvalidInput,
                    "field `{name}` at offset {offset} begins before the last one ends at {end}"
                ));
            }
            end = field.offset.saturating_add(field.dtype.itemsize());
        }
        if end > itemsize {
            return Err(error!(InvalidInput, "the fields end at byte {end} of a record of {itemsize} bytes"));
        }
        fields.retain(|f| !f.name.is_empty());
        if let Some(name) = repeated_name(&fields) {
            return Err(error!(InvalidInput, "two fields are called `{}`", shorten(name)));
        }
        Ok(Self::from_fields(fields, itemsize))
    }

    /// A record of fields that are known to be in order.
    pub(super) fn from_fields(fields: Vec<Field>, itemsize: usize) -> Self {
        Self { fields, ..Self::scalar(DtypeKind::Record, ByteOrder::NotApplicable, itemsize) }
    }

    /// `len` of these, one after the other.
    pub(super) fn array(mut self, len: usize) -> Self {
        self.shape.insert(0, len);
        self
    }

    /// The same in another byte order, if it has one.
    pub(super) fn with_byteorder(self, byteorder: ByteOrder) -> Self {
        let byteorder = if self.byteorder == ByteOrder::NotApplicable { self.byteorder } else { byteorder };
        Self { byteorder, ..self }
    }

    /// Whether this is `bfloat16`, as ml_dtypes writes it: two bytes that have an order, and no meaning to NumPy.
    pub(crate) fn is_bfloat16(&self) -> bool {
        self.kind == DtypeKind::Void && self.base_itemsize == 2 && self.byteorder != ByteOrder::NotApplicable
    }

    /// The kind of one item.
    pub fn kind(&self) -> DtypeKind {
        self.kind
    }

    /// The order of an item's bytes.
    pub fn byteorder(&self) -> ByteOrder {
        self.byteorder
    }

    /// The size of one element in bytes, with its axes and padding.
    pub fn itemsize(&self) -> usize {
        self.shape.iter().fold(self.base_itemsize, |product, &n| product.saturating_mul(n))
    }

    /// The axes inside one element: `(3,)` of `('<f4', (3,))`, none for most types.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The fields of a record, by offset; what lies between them is padding.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether elements of this type can read a file of type `found`.
    ///
    /// Equal types can. `|VN`, the type of `[u8; N]`, can also read other types of N plain bytes: `|SN`, `|u1` with a last axis
    /// of N, and `<VN`. `<V2`, the type of `half::bf16`, can also read `|V2`: so it comes out of a NumPy without ml_dtypes.
    pub fn can_read(&self, found: &Dtype) -> bool {
        self.can_read_with_axes(found, &found.shape)
    }

    /// [`can_read`](Self::can_read) with `shape` in place of the axes of `found`: a header has them among the array's.
    pub(super) fn can_read_with_axes(&self, found: &Dtype, shape: &[usize]) -> bool {
        let plain = self.kind == DtypeKind::Void && self.byteorder == ByteOrder::NotApplicable;
        if plain && found.kind == DtypeKind::Uint && found.base_itemsize == 1 {
            return shape.split_last().is_some_and(|(last, rest)| *last == self.base_itemsize && rest == self.shape);
        }
        if self.shape != shape || self.base_itemsize != found.base_itemsize {
            return false;
        }
        match (self.kind, found.kind) {
            (DtypeKind::Void, DtypeKind::Void | DtypeKind::Bytes) if plain => true,
            (DtypeKind::Void, DtypeKind::Void) => [self.byteorder, ByteOrder::NotApplicable].contains(&found.byteorder),
            (DtypeKind::Record, DtypeKind::Record) => {
                let (ours, theirs) = (&self.fields, &found.fields);
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| ours.can_read(theirs))
            }
            (a, b) => a == b && self.byteorder == found.byteorder,
        }
    }
}

/// The first name or title that an earlier field has, too.
pub(super) fn repeated_name(fields: &[Field]) -> Option<&str> {
    let mut seen = HashSet::new();
    fields.iter().flat_map(|f| [f.title.as_deref(), Some(f.name())]).flatten().find(|&name| !seen.insert(name))
}

/// Refuses items of `itemsize` with sub-array axes of `shape` if they are too large for NumPy.
pub(super) fn check_size(at: usize, itemsize: usize, shape: &[usize]) -> Result<()> {
    // An axis of length 0 makes the product 0, but must not hide an overflow of the others.
    let bytes = shape.iter().filter(|&&n| n != 0).try_fold(itemsize, |product, &n| product.checked_mul(n));
    match bytes {
        Some(bytes) if bytes <= MAX_ITEMSIZE => Ok(()),
        _ => Err(invalid_header!(at, "expected an item of at most {MAX_ITEMSIZE} bytes, as NumPy has them")),
    }
}

impl Field {
    /// A field of type `dtype`, `offset` bytes from the start of the record. The name `""` makes it padding.
    pub fn new(name: impl Into<String>, offset: usize, dtype: Dtype) -> Self {
        Self { name: name.into(), title: None, offset, dtype }
    }

    pub(super) fn can_read(&self, found: &Field) -> bool {
        self.name == found.name && self.offset == found.offset && self.dtype.can_read(&found.dtype)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// NumPy's second name for the field, if there is one.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Where the field starts, in bytes from the start of the record.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The type.
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }
}

impl PartialEq for Field {
    /// Titles are not compared: they are second names of the same bytes.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.offset == other.offset && self.dtype == other.dtype
    }
}

impl Eq for Field {}

impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dtype({self})")
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {} at byte {}", self.name.escape_debug(), self.dtype, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[track_caller]
    fn dtype(descr: &str) -> Dtype {
        descr.parse().unwrap_or_else(|e| panic!("{descr}: {e}"))
    }

    #[test]
    fn equal_means_the_same_bytes() {
        for (a, b) in [
            ("f8", "=f8"),
            ("|f8", "float64"),
            ("d", "double"),
            (if cfg!(target_endian = "big") { ">i4" } else { "<i4" }, "i4"),
            ("<u1", ">u1"),
            ("|b1", "?"),
            ("<S3", "a3"),
            ("V2", "=V2"),
            ("bfloat16", if cfg!(target_endian = "big") { ">V2" } else { "<V2" }),
            ("M8[1us]", "datetime64[us]"),
            ("m8", "m8[generic]"),
            ("[('a', '<f8')]", "[(('title', 'a'), '<f8')]"),
            ("[('a', '<f4', 3)]", "[['a', ('<f4', (3,))]]"),
            ("[('a', 'u1'), ('', '|V3'), ('', '<u2', (2,))]", "[('a', 'u1'), ('', 'V7')]"),
            ("(('<f4', 2), (3, 4))", "('<f4', [3, 4, 2])"),
            ("('<f4', ())", "<f4"),
        ] {
            assert_eq!(dtype(a), dtype(b), "{a} {b}");
        }
        for (a, b) in [
            ("<f8", ">f8"),
            ("<f8", "<f4"),
            ("<i8", "<u8"),
            ("|b1", "|u1"),
            ("<U3", ">U3"),
            ("<M8[us]", "<m8[us]"),
            ("<M8[us]", "<M8[ns]"),
            ("<M8[us]", "<M8[10us]"),
            ("|S3", "|V3"),
            ("|V2", "<V2"),
            ("<V2", ">V2"),
            ("[('a', '<f8')]", "[('b', '<f8')]"),
            ("[('a', '<f8')]", "<f8"),
            ("[('a', '<f4')]", "[('a', '<f4'), ('', '|V4')]"),
            ("[('a', '<f4'), ('', '|V4')]", "[('', '|V4'), ('a', '<f4')]"),
            ("[('a', '<f4')]", "[('a', '>f4')]"),
            ("[('a', '<f4', (2, 3))]", "[('a', '<f4', (3, 2))]"),
        ] {
            assert_ne!(dtype(a), dtype(b));
        }
    }

    #[test]
    fn records_have_fields_in_order_and_apart() {
        let f4 = || dtype("<f4");
        let made = Dtype::record([Field::new("b", 8, f4()), Field::new("", 4, f4()), Field::new("a", 0, f4())], 16);
        assert_eq!(made.unwrap(), dtype("[('a', '<f4'), ('', '|V4'), ('b', '<f4'), ('', '|V4')]"));
        for (fields, size, part) in [
            (vec![Field::new("a", 0, f4()), Field::new("b", 2, f4())], 8, "begins before"),
            (vec![Field::new("a", 0, f4()), Field::new("b", 4, f4())], 7, "end at byte 8"),
            (vec![Field::new("a", usize::MAX, f4()), Field::new("b", 4, f4())], 7, "end at byte"),
            (vec![Field::new("a", 0, f4()), Field::new("a", 4, f4())], 8, "two fields"),
        ] {
            let e = Dtype::record(fields, size).unwrap_err();
            assert!(e.to_string().contains(part), "{e}");
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn plain_bytes_read_plain_bytes_only() {
        let v4 = dtype("|V4");
        for found in ["|V4", "<V4", ">V4", "|S4", "('|u1', (4,))"] {
            assert!(v4.can_read(&dtype(found)), "{found}");
            let field = |descr| dtype(&format!("[('a', {descr})]"));
            let quoted = if found.starts_with('(') { found.into() } else { format!("'{found}'") };
            assert!(field("'|V4'").can_read(&field(&quoted)), "{found}");
        }
        for found in
            ["|V5", "|S5", "<f4", "<U1", "[('a', '|V4')]", "|u1", "('|u1', (4, 1))", "('|u1', (2, 2))", "('|i1', (4,))"]
        {
            assert!(!v4.can_read(&dtype(found)), "{found}");
        }
        assert!(!dtype("|S4").can_read(&v4));
        assert!(dtype("('|V4', (2,))").can_read(&dtype("('|u1', (2, 4))")));
    }

    #[test]
    fn bytes_with_an_order_read_bytes_of_that_order_or_of_none() {
        for (found, can) in
            [("<V2", true), ("|V2", true), (">V2", false), ("|S2", false), ("('|u1', (2,))", false), ("<f2", false)]
        {
            assert_eq!(dtype("<V2").can_read(&dtype(found)), can, "{found}");
        }
    }
}
