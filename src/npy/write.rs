//! Header bytes from values, as NumPy 2 writes them to the byte, and a new shape in old bytes.

use super::display::tuple;
use super::dtype::{Dtype, MAX_DIMS, MAX_ITEMSIZE};
use super::element::NpyElement;
use super::header::{Header, MAGIC, Parsed, Preamble, parse_text};
use crate::error::{Error, ErrorKind, Result};

/// Where NumPy lets data begin: at a multiple of this.
pub(crate) const ARRAY_ALIGN: usize = 64;

/// Data on a page of their own. Larger pages there are, but a text as long would pass the cap of every reader.
pub(crate) const PAGE_ALIGN: usize = 4096;

/// How many digits the growing axis may come to have.
const GROWTH_AXIS_MAX_DIGITS: usize = 21;

impl Header {
    /// The header that NumPy writes for such an array, and its bytes. The data begin at a multiple of `align`, which
    /// is `ARRAY_ALIGN` as in NumPy, or `PAGE_ALIGN`.
    pub(crate) fn format(dtype: &Dtype, shape: &[usize], fortran_order: bool, align: usize) -> Result<(Self, Vec<u8>)> {
        debug_assert!([ARRAY_ALIGN, PAGE_ALIGN].contains(&align));
        if fortran_order && !dtype.shape().is_empty() && dtype.shape().len() + shape.len() > 1 {
            // The axes of an element would be the slowest in the file, and no element in one piece.
            return Err(unsupported(format!("a .npy file cannot hold elements {} in Fortran order", dtype.brief("`"))));
        }
        if dtype.itemsize() > MAX_ITEMSIZE {
            let (size, brief) = (dtype.itemsize(), dtype.brief("`"));
            let message = format!("NumPy has no elements of more than {MAX_ITEMSIZE} bytes, and {brief} has {size}");
            return Err(unsupported(message));
        }
        let shape = [shape, dtype.shape()].concat();
        if shape.len() > MAX_DIMS {
            return Err(unsupported(format!(
                "NumPy has no arrays of more than {MAX_DIMS} axes, found {}",
                shape.len()
            )));
        }
        let dtype = Dtype { shape: Vec::new(), ..dtype.clone() };
        let (version, bytes) = wrap(&text(&dtype, &shape, fortran_order), align)?;
        Ok((Self { version, dtype, fortran_order, shape, data_offset: bytes.len() as u64 }, bytes))
    }

    /// The header of a new array of `A`s. If `A` is an array itself, its axes come last in the file's shape.
    pub(crate) fn format_for<A: NpyElement>(
        shape: &[usize],
        fortran_order: bool,
        align: usize,
    ) -> Result<(Self, Vec<u8>)> {
        Self::format(&A::dtype(), shape, fortran_order, align)
    }

    /// This header as NumPy writes it: the spelling, padding and version may differ from those that were read.
    ///
    /// # Errors
    /// `Unsupported` if the text passes 4 GiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(Self::format(&self.dtype, &self.shape, self.fortran_order, ARRAY_ALIGN)?.1)
    }
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// The dict as NumPy spells it, and blanks for the growing axis to become longer.
fn text(dtype: &Dtype, shape: &[usize], fortran_order: bool) -> String {
    let descr = dtype.base_descr("'");
    let (order, growing) = if fortran_order { ("True", shape.last()) } else { ("False", shape.first()) };
    let blanks = growing.map_or(0, |n| GROWTH_AXIS_MAX_DIGITS.saturating_sub(n.to_string().len()));
    format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {}, }}{:blanks$}", tuple(shape), "")
}

/// `text` behind a preamble of the first version that can hold it, padded to a multiple of `align`.
fn wrap(text: &str, align: usize) -> Result<((u8, u8), Vec<u8>)> {
    let latin1: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    let (text, version) = match latin1 {
        Some(latin1) => (latin1, (1, 0)),
        None => (text.as_bytes().to_vec(), (3, 0)),
    };
    // NumPy gives a text that needs no padding a whole `align` of it.
    let padded = |start: usize| text.len() + 1 + align - (start + text.len() + 1) % align;
    let (version, length) = match u16::try_from(padded(10)) {
        Ok(length) if version == (1, 0) => (version, length.to_le_bytes().to_vec()),
        _ => match u32::try_from(padded(12)) {
            Ok(length) => (version.max((2, 0)), length.to_le_bytes().to_vec()),
            Err(_) => return Err(unsupported(format!("a .npy header of {} bytes is too long", text.len()))),
        },
    };
    let mut bytes = [&MAGIC[..], &[version.0, version.1], &length].concat();
    let end = bytes.len() + padded(bytes.len());
    bytes.reserve_exact(end - bytes.len());
    bytes.extend_from_slice(&text);
    bytes.resize(end - 1, b' ');
    bytes.push(b'\n');
    Ok((version, bytes))
}

/// The header that `bytes` begin with, but of `shape`: as many bytes, and all else as it was. So an array grows in
/// place.
pub(crate) fn with_shape(bytes: &[u8], shape: &[usize], cap: usize) -> Result<Vec<u8>> {
    let preamble = Preamble::parse(bytes, cap)?;
    let text = preamble.text();
    let Parsed { header, shape_at, inner_axes } = parse_text(preamble, bytes.get(text.start..).unwrap_or_default())?;

    let (old_outer, inner) = header.shape.split_at(header.shape.len() - inner_axes);
    let Some(outer) = shape.strip_suffix(inner).filter(|outer| outer.len() == old_outer.len()) else {
        let (old, new) = (tuple(&header.shape), tuple(shape));
        return Err(unsupported(format!("the shape {old} of a .npy header cannot become {new}")));
    };
    let new = tuple(outer);
    let (before, after) = (&bytes[..shape_at.start], &bytes[shape_at.end..text.end]);
    let (after, newline) = after.strip_suffix(b"\n").map_or((after, &b""[..]), |after| (after, b"\n"));
    let used = after.iter().rposition(|&b| b != b' ').map_or(0, |last| last + 1);
    let room = shape_at.len() + after.len() - used;
    let Some(blanks) = room.checked_sub(new.len()) else {
        let message = format!("the .npy header has room for a shape of {room} bytes, but {new} takes {}", new.len());
        return Err(unsupported(message + "; write the array to a new file"));
    };
    Ok([before, new.as_bytes(), &after[..used], " ".repeat(blanks).as_bytes(), newline].concat())
}

#[cfg(test)]
mod tests {
    use super::super::header::HEADER_CAP;
    use super::*;

    fn dtype(descr: &str) -> Dtype {
        descr.parse().unwrap()
    }

    #[track_caller]
    fn formats(descr: &str, shape: &[usize], fortran_order: bool, align: usize) -> (Header, Vec<u8>) {
        let (header, bytes) = Header::format(&dtype(descr), shape, fortran_order, align).unwrap();
        assert_eq!(Header::parse(&bytes, usize::MAX).unwrap(), header);
        assert_eq!(bytes.len() % align, 0);
        assert_eq!(header.data_offset(), bytes.len() as u64);
        assert_eq!(bytes.last(), Some(&b'\n'));
        (header, bytes)
    }

    #[test]
    fn bytes_are_numpys() {
        let (_, bytes) = formats("<f8", &[3, 4], false, ARRAY_ALIGN);
        let text = format!("{:117}\n", "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }");
        assert_eq!(bytes, [b"\x93NUMPY\x01\x00\x76\x00", text.as_bytes()].concat());
        assert_eq!(Header::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn the_version_is_the_first_that_can_hold_the_text() {
        let record = |name: &str, n: usize| {
            let fields: Vec<String> = (0..n).map(|i| format!("('{name}{i:04}', '<f8')")).collect();
            format!("[{}]", fields.join(", "))
        };
        for (descr, version) in [
            (record("é", 1), (1, 0)),
            (record("漢", 1), (3, 0)),
            (record("e", 2000), (1, 0)),
            (record("é", 5000), (2, 0)),
            (record("漢", 5000), (3, 0)),
        ] {
            assert_eq!(formats(&descr, &[2], false, ARRAY_ALIGN).0.version(), version);
        }
        // Around the last length that 1.0 can say.
        for len in (65_300..65_500).step_by(3) {
            let (header, bytes) = formats(&format!("[('{}', '<f8')]", "x".repeat(len)), &[2], false, ARRAY_ALIGN);
            assert_eq!(header.version(), if bytes.len() - 10 <= 65_535 { (1, 0) } else { (2, 0) });
        }
    }

    #[test]
    fn data_can_begin_on_a_page() {
        for digits in 0..64 {
            let descr = format!("[('{}', '<f8')]", "x".repeat(64 + digits));
            let (_, bytes) = formats(&descr, &[3], false, PAGE_ALIGN);
            assert_eq!(bytes.len(), 4096);
            assert!(Header::from_bytes(&bytes).is_ok());
        }
        let (header, bytes) = formats(&format!("[('{}', '<f8')]", "x".repeat(4100)), &[3], false, PAGE_ALIGN);
        assert_eq!((header.version(), bytes.len()), ((1, 0), 8192));
    }

    #[test]
    fn arrays_as_elements_are_axes_of_the_file() {
        let (header, _) = formats("('<f4', (2, 3))", &[5], false, ARRAY_ALIGN);
        assert_eq!((header.dtype().to_string().as_str(), header.shape()), ("<f4", &[5, 2, 3][..]));
        let (header, _) = Header::format_for::<[f32; 3]>(&[5], false, ARRAY_ALIGN).unwrap();
        assert_eq!(header.shape_for::<[f32; 3]>().unwrap(), [5]);
        let (header, _) = Header::format_for::<[u8; 3]>(&[5], true, ARRAY_ALIGN).unwrap();
        assert_eq!((header.dtype().to_string().as_str(), header.shape()), ("|V3", &[5][..]));
        let e = Header::format_for::<[f32; 3]>(&[5], true, ARRAY_ALIGN).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(Header::format_for::<[[f32; 3]; 2]>(&[], true, ARRAY_ALIGN).is_err());
        assert!(Header::format_for::<[f32; 3]>(&[], true, ARRAY_ALIGN).is_ok());
    }

    #[test]
    fn what_numpy_could_not_read_is_not_written() {
        let refused =
            |dtype: &Dtype, shape: &[usize]| Header::format(dtype, shape, false, ARRAY_ALIGN).unwrap_err().kind();
        assert_eq!(refused(&f64::dtype(), &[1; 65]), ErrorKind::Unsupported);
        assert_eq!(refused(&<[f64; 2]>::dtype(), &[1; 64]), ErrorKind::Unsupported);
        assert_eq!(refused(&<[u8; 1 << 31]>::dtype(), &[1]), ErrorKind::Unsupported);
        assert_eq!(refused(&<[[f64; usize::MAX >> 8]; 16]>::dtype(), &[1]), ErrorKind::Unsupported);
    }

    #[test]
    fn a_shape_grows_in_place_to_21_digits() {
        for fortran_order in [false, true] {
            let grown = |n: usize| if fortran_order { [4, n] } else { [n, 4] };
            for align in [ARRAY_ALIGN, PAGE_ALIGN] {
                let (_, mut bytes) = formats("<f8", &grown(0), fortran_order, align);
                for n in [1, 10, 9, 12_345, usize::MAX >> 1, 0] {
                    let new = with_shape(&bytes, &grown(n), HEADER_CAP).unwrap();
                    let header = Header::from_bytes(&new).unwrap();
                    assert_eq!((header.shape(), new.len()), (&grown(n)[..], bytes.len()));
                    // The very bytes that a new file of that shape would have.
                    assert_eq!(new, formats("<f8", &grown(n), fortran_order, align).1);
                    bytes = new;
                }
            }
        }
    }

    #[test]
    fn a_new_shape_leaves_the_rest_as_it_was() {
        let file = |text: &str| {
            [b"\x93NUMPY\x01\x00", &u16::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
        };
        for (old, shape, new) in [
            (
                "{'shape':(9,),'descr':'d','fortran_order':False} \n",
                &[10][..],
                "{'shape':(10,),'descr':'d','fortran_order':False}\n",
            ),
            (
                "{'shape':(10,),'descr':'d','fortran_order':False}\n",
                &[9],
                "{'shape':(9,),'descr':'d','fortran_order':False} \n",
            ),
            (
                "{'shape':( 9 , ),'descr':'d','fortran_order':False}",
                &[10],
                "{'shape':(10,),'descr':'d','fortran_order':False}  ",
            ),
            (
                "{'shape':(9L,),'descr':'d','fortran_order':False}",
                &[10],
                "{'shape':(10,),'descr':'d','fortran_order':False}",
            ),
            (
                "{'descr':('<f4',(2,)),'fortran_order':True,'shape':(9,)}\t  ",
                &[100, 2],
                "{'descr':('<f4',(2,)),'fortran_order':True,'shape':(100,)}\t",
            ),
            (
                "{'descr':'d','fortran_order':True,'shape':(9,)} # é  \n",
                &[100],
                "{'descr':'d','fortran_order':True,'shape':(100,)} # é\n",
            ),
        ] {
            let with_data = [&file(old)[..], b"data"].concat();
            assert_eq!(with_shape(&with_data, shape, HEADER_CAP).unwrap(), file(new), "{old}");
        }
        let full = file("{'shape':(9,),'descr':'d','fortran_order':False}\n");
        let e = with_shape(&full, &[10], HEADER_CAP).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("room for a shape of 4 bytes, but (10,) takes 5"), "{e}");
        for shape in [&[][..], &[9, 1]] {
            assert_eq!(with_shape(&full, shape, HEADER_CAP).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        assert_eq!(with_shape(b"\x93NUMPY", &[1], HEADER_CAP).unwrap_err().kind(), ErrorKind::InvalidHeader);
    }
}
