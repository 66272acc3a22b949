//! The bytes of a header, and where in them the shape is, so that a new shape needs no parsing.

use std::ops::Range;

use super::display::tuple;
use super::header::{Header, Parsed};
use crate::error::{Result, error};

/// A header as it is in a file. `EncodedHeader::format` (in `write.rs`) makes new ones.
#[derive(Clone, Debug)]
pub(crate) struct EncodedHeader {
    bytes: Vec<u8>,
    /// In bytes from the start of the file.
    offset: u64,
    /// All axes of the file's array.
    shape: Vec<usize>,
    /// How many of them `shape_at` spells; the others are part of a sub-array `descr`.
    spelled_axes: usize,
    /// Invariant: the bytes that spell the shape.
    shape_at: Range<usize>,
    /// Where the text behind the shape ends: only blanks follow, and perhaps a newline.
    text_end: usize,
}

impl EncodedHeader {
    pub(super) fn new(bytes: Vec<u8>, shape: Vec<usize>, spelled_axes: usize, shape_at: Range<usize>) -> Self {
        let text_end = bytes[..blanks_end(&bytes)].iter().rposition(|&b| b != b' ').map_or(0, |last| last + 1);
        Self { bytes, offset: 0, shape, spelled_axes, shape_at, text_end }
    }

    /// Parses the header that `bytes` begin with.
    ///
    /// # Errors
    /// Those of [`Header::from_bytes_with_limit`].
    pub(crate) fn parse(mut bytes: Vec<u8>, cap: usize) -> Result<(Header, Self)> {
        let Parsed { header, shape_at, inner_axes, end } = Parsed::new(&bytes, cap)?;
        bytes.truncate(end);
        let spelled_axes = header.shape.len() - inner_axes;
        let encoded = Self::new(bytes, header.shape.clone(), spelled_axes, shape_at);
        Ok((header, encoded))
    }

    /// The same header `offset` bytes into its file.
    pub(crate) fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Where the header starts, in bytes from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The range, from the first to the last byte, in which this header differs from the bytes in the file.
    pub(crate) fn changes_to(&self, in_file: &[u8]) -> Range<usize> {
        let differ = |(new, old): (&u8, &u8)| new != old;
        let start = self.bytes.iter().zip(in_file).position(differ).unwrap_or(self.bytes.len());
        let end = self.bytes.iter().zip(in_file).rposition(differ).map_or(start, |last| last + 1);
        start..end
    }

    /// Whether the bytes in the file can be this header after its change to `new` was written in part.
    pub(crate) fn could_become(&self, in_file: &[u8], new: &Self) -> bool {
        let expected = self.bytes.iter().zip(&new.bytes);
        in_file.len() == self.bytes.len() && in_file.iter().zip(expected).all(|(b, (old, new))| b == old || b == new)
    }

    /// The header of the same array with another number of rows, in as many bytes. All but the shape and the blanks at
    /// the end stays as it was, however it is spelled.
    ///
    /// # Errors
    /// `Unsupported` if the header has no room for the number, or if `axis` is part of its `descr`.
    pub(crate) fn with_rows(&self, axis: usize, rows: usize) -> Result<Self> {
        let mut new = self.clone();
        if let Some(len) = new.shape.get_mut(axis) {
            *len = rows;
        }
        if axis >= self.spelled_axes && new.shape != self.shape {
            let (old, new) = (tuple(&self.shape), tuple(&new.shape));
            return Err(error!(Unsupported, "the shape {old} of a .npy header cannot become {new}"));
        }
        let text = tuple(&new.shape[..self.spelled_axes]);
        let blanks_end = blanks_end(&self.bytes);
        let room = self.shape_at.len() + blanks_end - self.text_end;
        if text.len() > room {
            return Err(error!(
                Unsupported,
                "the .npy header has room for a shape of {room} bytes, but {text} takes {}; write the array to a new file",
                text.len()
            ));
        }
        new.shape_at.end = self.shape_at.start + text.len();
        new.text_end = new.shape_at.end + (self.text_end - self.shape_at.end);
        new.bytes[new.shape_at.clone()].copy_from_slice(text.as_bytes());
        new.bytes[new.shape_at.end..new.text_end].copy_from_slice(&self.bytes[self.shape_at.end..self.text_end]);
        new.bytes[new.text_end..blanks_end].fill(b' ');
        Ok(new)
    }
}

/// Where the blanks end that a header has at its end.
fn blanks_end(bytes: &[u8]) -> usize {
    bytes.len() - usize::from(bytes.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use super::super::dtype::Dtype;
    use super::super::header::HEADER_CAP;
    use super::super::header::tests::file;
    use super::super::write::{ARRAY_ALIGN, PAGE_ALIGN};
    use super::*;
    use crate::error::ErrorKind;

    /// An axis that is part of `descr` cannot change, but need not for the number of rows that it has.
    #[test]
    fn rows_that_the_dtype_states_stay() {
        for (text, axis, rows) in [
            ("{'descr': ('<f4', (2,)), 'fortran_order': True, 'shape': (9,), }", 1, 2),
            ("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (), }", 0, 2),
        ] {
            let bytes = file(text);
            let (_, encoded) = EncodedHeader::parse(bytes.clone(), HEADER_CAP).unwrap();
            assert_eq!(encoded.with_rows(axis, rows).unwrap().bytes(), bytes);
            assert_eq!(encoded.with_rows(axis, rows + 1).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn a_shape_grows_in_place_to_21_digits() {
        for fortran_order in [false, true] {
            let shape = |n: usize| if fortran_order { [4, n] } else { [n, 4] };
            for align in [ARRAY_ALIGN, PAGE_ALIGN] {
                let dtype: Dtype = "<f8".parse().unwrap();
                let format = |n| EncodedHeader::format(&dtype, &shape(n), fortran_order, align).unwrap();
                let mut encoded = format(0);
                for n in [1, 10, 9, 12_345, usize::MAX >> 1, 0] {
                    encoded = encoded.with_rows(usize::from(fortran_order), n).unwrap();
                    // The very bytes that a new file of that shape would have.
                    assert_eq!(encoded.bytes(), format(n).bytes());
                    let (header, again) = EncodedHeader::parse(encoded.bytes().to_vec(), HEADER_CAP).unwrap();
                    assert_eq!(header.shape(), shape(n));
                    assert_eq!((again.shape_at, again.text_end), (encoded.shape_at.clone(), encoded.text_end));
                }
            }
        }
    }

    #[test]
    fn a_new_shape_leaves_the_rest_as_it_was() {
        let parse = |text: &str| EncodedHeader::parse([&file(text)[..], b"data"].concat(), HEADER_CAP).unwrap().1;
        for (old, rows, new) in [
            (
                "{'shape':(9,),'descr':'d','fortran_order':False} \n",
                10,
                "{'shape':(10,),'descr':'d','fortran_order':False}\n",
            ),
            (
                "{'shape':(10,),'descr':'d','fortran_order':False}\n",
                9,
                "{'shape':(9,),'descr':'d','fortran_order':False} \n",
            ),
            (
                "{'shape':( 9 , ),'descr':'d','fortran_order':False}",
                10,
                "{'shape':(10,),'descr':'d','fortran_order':False}  ",
            ),
            (
                "{'shape':(9L,),'descr':'d','fortran_order':False}",
                10,
                "{'shape':(10,),'descr':'d','fortran_order':False}",
            ),
            (
                "{'descr':('<f4',(2,)),'fortran_order':True,'shape':(9,)}\t  ",
                100,
                "{'descr':('<f4',(2,)),'fortran_order':True,'shape':(100,)}\t",
            ),
            (
                "{'descr':'d','fortran_order':True,'shape':(9,)} # é  \n",
                100,
                "{'descr':'d','fortran_order':True,'shape':(100,)} # é\n",
            ),
        ] {
            let encoded = parse(old);
            assert_eq!(encoded.bytes(), file(old));
            assert_eq!(encoded.with_rows(0, rows).unwrap().bytes(), file(new), "{old}");
        }
        let full = parse("{'shape':(9,),'descr':'d','fortran_order':False}\n");
        let e = full.with_rows(0, 10).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("room for a shape of 4 bytes, but (10,) takes 5"), "{e}");
        let sub_array = parse("{'descr':('<f4',(2,)),'fortran_order':True,'shape':(9,)}     \n");
        let e = sub_array.with_rows(1, 3).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("(9, 2) of a .npy header cannot become (9, 3)"), "{e}");
    }
}
