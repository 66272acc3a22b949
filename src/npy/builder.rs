//! Headers built without a file.

use super::dtype::Dtype;
use super::encoded::EncodedHeader;
use super::header::Header;
use super::write::ARRAY_ALIGN;
use crate::error::{Result, error};

/// The parts of a [`Header`] that is being built: see [`Header::builder`].
#[derive(Clone, Debug, Default)]
pub struct HeaderBuilder {
    dtype: Option<Dtype>,
    shape: Vec<usize>,
    fortran_order: bool,
}

impl Header {
    /// Builds a header without a file, for programs that write `.npy` files by other means: to a socket, an archive, or a
    /// file of another library. [`to_bytes`](Self::to_bytes) returns what to write before the elements.
    ///
    /// ```
    /// use ndarray_mmap::npy::{Header, NpyElement};
    ///
    /// let header = Header::builder().dtype(f64::dtype()).shape([3, 4]).fortran_order(true).build()?;
    /// assert_eq!((header.data_offset(), header.nbytes()), (128, Some(96)));
    /// let mut file = header.to_bytes()?;
    /// file.extend([0; 96]);
    /// assert_eq!(Header::from_bytes(&file)?, header);
    ///
    /// let of_another_format = Header::builder().dtype(">i2".parse()?).shape(vec![100]).build()?;
    /// assert_eq!(of_another_format.nbytes(), Some(200));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn builder() -> HeaderBuilder {
        HeaderBuilder::default()
    }
}

impl HeaderBuilder {
    /// The type of one element: `f64::dtype()`, or from NumPy's text for it, `"<f8".parse()?`. There is no default.
    #[must_use]
    pub fn dtype(self, dtype: Dtype) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// The lengths of the axes, in elements. Default: none, which is an array of one element.
    #[must_use]
    pub fn shape(self, shape: impl Into<Vec<usize>>) -> Self {
        Self { shape: shape.into(), ..self }
    }

    /// Whether the first axis varies fastest. Default: no.
    #[must_use]
    pub fn fortran_order(self, fortran_order: bool) -> Self {
        Self { fortran_order, ..self }
    }

    /// The header, as NumPy would write it.
    ///
    /// # Errors
    /// - `InvalidInput` without a [`dtype`](Self::dtype).
    /// - `Overflow` if the array has more bytes than can be addressed.
    /// - `Unsupported` for arrays that no header can describe: more than 64 axes, elements of more than 2 GiB, elements that
    ///   are arrays in Fortran order.
    pub fn build(self) -> Result<Header> {
        let Some(dtype) = self.dtype else {
            return Err(error!(InvalidInput, "a `.npy` header cannot be built without a `.dtype(..)`"));
        };
        let encoded = EncodedHeader::format(&dtype, &self.shape, self.fortran_order, ARRAY_ALIGN)?;
        let header = Header::from_bytes_with_limit(encoded.bytes(), usize::MAX)?;
        let nonzero = header.shape().iter().filter(|&&n| n != 0);
        let bytes = nonzero.clone().try_fold(dtype.base_itemsize, |bytes, &n| bytes.checked_mul(n));
        match bytes.map(isize::try_from) {
            Some(Ok(_)) => Ok(header),
            _ => Err(error!(Overflow, "shape {:?} of {dtype} is more than can be addressed", self.shape)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::NpyElement;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_built_is_what_is_read() {
        for descr in ["<f8", ">i2", "|S5", "('<f4', (2, 3))", "[('a', '<f8'), ('', '|V4'), ('b', '>i2', (2,))]"] {
            for shape in [vec![], vec![0], vec![7], vec![3, 4], vec![0, 9, 2]] {
                let dtype: Dtype = descr.parse().unwrap();
                let header = Header::builder().dtype(dtype.clone()).shape(shape.clone()).build().unwrap();
                let bytes = header.to_bytes().unwrap();
                assert_eq!(Header::from_bytes(&bytes).unwrap(), header);
                assert_eq!(header.data_offset(), bytes.len() as u64);
                assert_eq!(header.nbytes(), Some((shape.iter().product::<usize>() * dtype.itemsize()) as u64));
            }
        }
    }

    #[test]
    fn what_no_file_can_hold_is_refused() {
        let kind = |builder: HeaderBuilder| builder.build().unwrap_err().kind();
        let f8 = || Header::builder().dtype(f64::dtype());
        assert_eq!(kind(Header::builder().shape([3])), ErrorKind::InvalidInput);
        assert_eq!(kind(f8().shape([usize::MAX >> 3])), ErrorKind::Overflow);
        assert_eq!(kind(f8().shape([0, usize::MAX >> 3])), ErrorKind::Overflow);
        assert_eq!(kind(f8().shape([usize::MAX])), ErrorKind::Overflow);
        assert_eq!(kind(f8().shape([1; 65])), ErrorKind::Unsupported);
        let triple = Header::builder().dtype(<[f32; 3]>::dtype());
        assert_eq!(kind(triple.shape([5]).fortran_order(true)), ErrorKind::Unsupported);
    }
}
