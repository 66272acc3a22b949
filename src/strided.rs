//! Views by strides of the caller's own over the elements of an array, and over its bytes as other elements: headers before
//! the data and between frames, interleaved channels, padded lines.

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{ArrayView, ArrayViewMut, Dimension, ErrorKind, StrideShape};

use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
use crate::error::{Result, error};
use crate::mode::Writable;

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// A view by your own strides: over the elements in memory order, from element `start` on. Nothing is copied.
    ///
    /// Shape and strides are ndarray's: `(n, h, w).strides((frame, w, 1))` are `n` frames that start `frame` elements apart,
    /// of `h` lines of `w` elements. Strides and `start` count elements, whatever the shape and the order of this array. The
    /// last frame need not be followed by what separates the others. Elements may be in the view more than once: a stride of
    /// 0 repeats, and `(n, k).strides((1, 1))` is a sliding window. With negative strides (`-2_isize as usize`) `start` is the
    /// lowest element and not the first, as in ndarray.
    ///
    /// Of a file that is mapped as `u8`, [`view_as`](Self::view_as) does the same for elements of another type. For distances that
    /// are no multiple of the element, see [`read_field`](Self::read_field).
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the view would reach past the last element; the
    ///   message has both numbers.
    /// - [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) if it is larger than can be addressed.
    ///
    /// # Example: frames of 2 x 3 values, each after a header of four
    /// ```
    /// use ndarray::{Ix3, ShapeBuilder, array};
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-frames-{}.u16", std::process::id()));
    /// let frame = |first: u16| [9, 9, 9, 9, first, first + 1, first + 2, first + 3, first + 4, first + 5];
    /// std::fs::write(&path, [frame(10), frame(20)].concat().iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<_>>())?;
    ///
    /// let file = MmapArray::<u16>::load(&path)?;
    /// let frames = file.strided::<Ix3>(4, (2, 2, 3).strides((10, 3, 1)))?;
    /// assert_eq!(frames, array![[[10, 11, 12], [13, 14, 15]], [[20, 21, 22], [23, 24, 25]]]);
    ///
    /// let e = file.strided::<Ix3>(4, (3, 2, 3).strides((10, 3, 1))).unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::InvalidInput);
    /// assert!(e.to_string().ends_with(
    ///     "shape [3, 2, 3] with strides [10, 3, 1] from element 4 on needs 30 elements, but the array has 20"
    /// ));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Example: lines of three bands (BIL), as one image per band
    /// ```
    /// use ndarray::{Ix3, ShapeBuilder};
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let (lines, bands, width) = (5, 3, 4);
    /// let file = MmapArrayMut::<u8>::scratch(lines * bands * width)?;
    /// let images = file.strided::<Ix3>(0, (bands, lines, width).strides((width, bands * width, 1)))?;
    /// assert_eq!(images.dim(), (3, 5, 4));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn strided<D2: Dimension>(
        &self,
        start: usize,
        shape: impl Into<StrideShape<D2>>,
    ) -> Result<ArrayView<'_, A, D2>> {
        let shape = shape.into();
        check_elements(&shape, start, self.len()).map_err(|e| self.named(e))?;
        // An array lies without gaps, so that it is a slice.
        let elements = self.as_slice_memory_order().and_then(|elements| elements.get(start..)).unwrap_or_default();
        ArrayView::from_shape(shape, elements).map_err(|e| self.named(error!(InvalidInput, "{e}")))
    }
}

impl<A, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// [`strided`](Self::strided), for writing: no element may be in the view more than once.
    ///
    /// # Errors
    /// Those of [`strided`](Self::strided); [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for strides that reach
    /// an element more than once. Strides that interleave in other ways than one axis within the next are refused, too, as
    /// ndarray cannot tell.
    ///
    /// # Example: the second of three interleaved channels
    /// ```
    /// use ndarray::{Ix1, ShapeBuilder, array};
    /// use ndarray_mmap::{ErrorKind, MmapArrayMut};
    ///
    /// let mut pixels = MmapArrayMut::<u8>::scratch((2, 3))?;
    /// pixels.strided_mut::<Ix1>(1, 2.strides(3))?.fill(7);
    /// assert_eq!(*pixels, array![[0, 7, 0], [0, 7, 0]]);
    ///
    /// let e = pixels.strided_mut::<Ix1>(0, 6.strides(0)).unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::InvalidInput);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn strided_mut<D2: Dimension>(
        &mut self,
        start: usize,
        shape: impl Into<StrideShape<D2>>,
    ) -> Result<ArrayViewMut<'_, A, D2>> {
        let shape = shape.into();
        let checked = check_elements(&shape, start, self.len()).and_then(|()| check_once(&shape));
        checked.map_err(|e| self.named(e))?;
        let elements = self.view_mut().into_slice_memory_order().and_then(|elements| elements.get_mut(start..));
        // The check above is ndarray's own.
        ArrayViewMut::from_shape(shape, elements.unwrap_or_default()).map_err(|e| error!(InvalidInput, "{e}"))
    }
}

impl<D: Dimension, M> MmapArrayBase<u8, D, M> {
    /// A view of the bytes, in memory order from byte `byte` on, as elements of another type: for a file that is mapped once,
    /// for its header and its data. Nothing is copied.
    ///
    /// Shape and strides are as in [`strided`](Self::strided), and count elements of `T`. The type of a file whose header names
    /// it is found by [`npy_dispatch!`](crate::npy_dispatch).
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the view would reach past the last byte; the message
    ///   has both numbers.
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned) if the bytes are not aligned for `T`: use
    ///   [`Unaligned<T>`](crate::Unaligned).
    /// - [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) if it is larger than can be addressed.
    ///
    /// # Example: a header of two lengths, then big-endian numbers
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::{BigEndian, MmapArray};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-view-as-{}.bin", std::process::id()));
    /// let numbers = [1_u16, 2, 3, 4, 5, 6];
    /// std::fs::write(&path, [&[2, 3, 0, 0], &numbers.map(u16::to_be_bytes).concat()[..]].concat())?;
    ///
    /// let file = MmapArray::<u8>::load(&path)?;
    /// let (rows, columns) = (file[0].into(), file[1].into());
    /// let a = file.view_as::<BigEndian<u16>, _>(4, (rows, columns))?;
    /// assert_eq!(a.mapv(BigEndian::get), array![[1, 2, 3], [4, 5, 6]]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn view_as<T: AnyBitPattern, D2: Dimension>(
        &self,
        byte: usize,
        shape: impl Into<StrideShape<D2>>,
    ) -> Result<ArrayView<'_, T, D2>> {
        let (shape, bytes) = (shape.into(), self.as_bytes());
        check_bytes::<T, D2>(&shape, byte, bytes).map_err(|e| self.named(e))?;
        let elements = bytes.get(byte..).and_then(|bytes| bytemuck::try_cast_slice(whole::<T>(bytes)).ok());
        ArrayView::from_shape(shape, elements.unwrap_or_default()).map_err(|e| self.named(error!(InvalidInput, "{e}")))
    }
}

impl<D: Dimension, M: Writable> MmapArrayBase<u8, D, M> {
    /// [`view_as`](Self::view_as), for writing: no element may be in the view more than once.
    ///
    /// # Errors
    /// Those of [`view_as`](Self::view_as) and [`strided_mut`](Self::strided_mut).
    ///
    /// ```
    /// use ndarray::Ix1;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut file = MmapArrayMut::<u8>::scratch(16)?;
    /// file.view_as_mut::<u32, Ix1>(8, 2)?.fill(u32::MAX);
    /// assert_eq!(file.iter().filter(|&&byte| byte == 255).count(), 8);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn view_as_mut<T: AnyBitPattern + NoUninit, D2: Dimension>(
        &mut self,
        byte: usize,
        shape: impl Into<StrideShape<D2>>,
    ) -> Result<ArrayViewMut<'_, T, D2>> {
        let shape = shape.into();
        let checked = check_bytes::<T, D2>(&shape, byte, self.as_bytes()).and_then(|()| check_once(&shape));
        checked.map_err(|e| self.named(e))?;
        let bytes =
            self.view_mut().into_slice_memory_order().and_then(|bytes| bytes.get_mut(byte..)).unwrap_or_default();
        let whole = whole::<T>(bytes).len();
        let elements = bytemuck::try_cast_slice_mut(&mut bytes[..whole]).unwrap_or_default();
        // The checks above are ndarray's own.
        ArrayViewMut::from_shape(shape, elements).map_err(|e| error!(InvalidInput, "{e}"))
    }
}

/// The bytes at the start that are whole elements.
fn whole<T>(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() - bytes.len() % size_of::<T>()]
}

/// A view of elements without a size has the strides of a shape, which ndarray does not return otherwise, and passes all
/// checks but that of the length. There are as many as any array can have.
const UNITS: [(); isize::MAX as usize] = [(); isize::MAX as usize];

/// Refuses a view that reaches past the last of `len` elements.
fn check_elements<D: Dimension>(shape: &StrideShape<D>, start: usize, len: usize) -> Result<()> {
    let reach = Reach::of(shape)?;
    if start > len || reach.needed > len - start {
        let needed = start.saturating_add(reach.needed);
        let shown = reach.shown();
        return Err(error!(
            InvalidInput,
            "{shown} from element {start} on needs {needed} elements, but the array has {len}"
        ));
    }
    Ok(())
}

/// Refuses a view of elements of `T` that reaches past the last byte, or is not aligned.
fn check_bytes<T, D: Dimension>(shape: &StrideShape<D>, byte: usize, bytes: &[u8]) -> Result<()> {
    let item = ElementLayout::of::<T>();
    let (reach, len, name) = (Reach::of(shape)?, bytes.len(), item.name());
    let needed = reach.needed.checked_mul(item.size()).and_then(|needed| needed.checked_add(byte));
    if needed.is_none_or(|needed| needed > len) {
        let (shown, needed) = (reach.shown(), byte as u128 + reach.needed as u128 * item.size() as u128);
        return Err(error!(
            InvalidInput,
            "{shown} of {name} from byte {byte} on needs {needed} bytes, but the array has {len}"
        ));
    }
    if reach.needed > 0 && !bytes.as_ptr().addr().wrapping_add(byte).is_multiple_of(item.align()) {
        return Err(error!(
            Misaligned,
            "byte {byte} is not aligned to the {} bytes that {name} needs: use `Unaligned<{name}>`",
            item.align()
        ));
    }
    Ok(())
}

/// How many elements of memory a view needs, from the lowest on.
struct Reach<D> {
    units: ArrayView<'static, (), D>,
    needed: usize,
}

impl<D: Dimension> Reach<D> {
    fn of(shape: &StrideShape<D>) -> Result<Self> {
        let axes = shape.raw_dim().as_array_view();
        let units = ArrayView::from_shape(shape.clone(), &UNITS).map_err(|e| match e.kind() {
            ErrorKind::IncompatibleLayout => {
                error!(InvalidInput, "shape {axes} and its strides differ in their number of axes")
            }
            _ => error!(Overflow, "shape {axes} with its strides is more than can be addressed"),
        })?;
        let strides = units.strides();
        // Of an axis of one element it would not matter, but ndarray takes the absolute value of all.
        if strides.contains(&isize::MIN) {
            return Err(error!(InvalidInput, "strides {strides:?} of shape {axes} are out of range"));
        }
        // Cannot overflow: `units` exists.
        let last: usize = axes.iter().zip(strides).map(|(&n, s)| n.saturating_sub(1) * s.unsigned_abs()).sum();
        // ndarray asks as much of the axes of an array without elements.
        let needed = if units.is_empty() { last } else { last + 1 };
        Ok(Self { units, needed })
    }

    fn shown(&self) -> String {
        format!("shape {:?} with strides {:?}", self.units.shape(), self.units.strides())
    }
}

/// Refuses a view that has an element more than once.
fn check_once<D: Dimension>(shape: &StrideShape<D>) -> Result<()> {
    match ArrayViewMut::from_shape(shape.clone(), &mut { UNITS }) {
        Ok(_) => Ok(()),
        Err(_) => Err(error!(
            InvalidInput,
            "shape {} cannot be written by its strides: some elements are, or may be, in it more than once",
            shape.raw_dim().as_array_view()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Dim, IxDyn, ShapeBuilder};
    use proptest::prelude::*;

    /// The distinct places of a view, if it fits in `len` elements from `start` on.
    fn places(axes: &[usize], strides: &[usize], start: usize, len: usize) -> Option<Vec<usize>> {
        let mut places = vec![start];
        for (&n, &stride) in axes.iter().zip(strides) {
            places = (0..n).flat_map(|i| places.iter().map(move |place| place + i * stride)).collect();
        }
        places.iter().all(|&place| place < len).then_some(places)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_view_has_the_elements_that_its_strides_say_or_is_refused(
            axes in proptest::collection::vec(1..5_usize, 0..4), strides in proptest::collection::vec(0..9_usize, 3),
            start in 0..20_usize, (rows, columns) in (1..6_usize, 1..8_usize), fortran in any::<bool>(),
        ) {
            let strides = &strides[..axes.len()];
            let len = rows * columns;
            let mut array = crate::MmapArrayMut::<u32>::scratch((rows, columns).set_f(fortran)).unwrap();
            array.as_slice_memory_order_mut().unwrap().iter_mut().zip(0..).for_each(|(x, n)| *x = n);
            let shape = || IxDyn(&axes).strides(IxDyn(strides));
            let expected = places(&axes, strides, start, len);
            {
                let view = array.strided::<IxDyn>(start, shape());
                prop_assert_eq!(view.is_ok(), expected.is_some());
                if let (Ok(view), Some(places)) = (view, &expected) {
                    prop_assert_eq!(view.shape(), &axes[..]);
                    let mut seen: Vec<_> = view.iter().map(|&x| x as usize).collect();
                    let mut places = places.clone();
                    seen.sort_unstable();
                    places.sort_unstable();
                    prop_assert_eq!(seen, places);
                }
            }
            let view = array.strided_mut::<IxDyn>(start, shape());
            let mut distinct = expected.clone().unwrap_or_default();
            distinct.sort_unstable();
            distinct.dedup();
            match view {
                Ok(mut view) => {
                    prop_assert_eq!(Some(distinct.len()), expected.map(|places| places.len()));
                    view.fill(u32::MAX);
                    let changed = array.as_slice_memory_order().unwrap().iter().filter(|&&x| x == u32::MAX).count();
                    prop_assert_eq!(changed, distinct.len());
                }
                // The others may be refused without need: see `strided_mut`.
                Err(e) => {
                    prop_assert_eq!(e.kind(), crate::ErrorKind::InvalidInput);
                    let nested = Dim(axes.clone()).strides(Dim(strides.to_vec()));
                    prop_assert!(expected.is_none() || check_once(&nested).is_err());
                }
            }
        }

        #[test]
        fn bytes_are_seen_as_the_elements_that_lie_there_or_refused(
            axes in proptest::collection::vec(0..5_usize, 0..4), strides in proptest::collection::vec(0..9_usize, 3),
            byte in 0..50_usize, len in 0..200_usize,
        ) {
            let strides = &strides[..axes.len()];
            let mut file = crate::MmapArrayMut::<u8>::scratch(len).unwrap();
            file.iter_mut().zip(0..).for_each(|(x, n)| *x = (n * 37) as u8);
            let shape = || IxDyn(&axes).strides(IxDyn(strides));
            let bytes = file.to_vec();
            let at = |place: usize| bytes.get(byte + place * 4..byte + place * 4 + 4).map(|x| x.try_into().unwrap());
            let places = places(&axes, strides, 0, usize::MAX).unwrap();
            let expected: Option<Vec<u32>> = places.iter().map(|&place| at(place).map(u32::from_ne_bytes)).collect();
            let kind = |e: crate::Error| e.kind();
            let seen = file.view_as::<u32, IxDyn>(byte, shape()).map(|view| view.iter().copied().collect::<Vec<_>>());
            let odd = file.view_as::<crate::Unaligned<u32>, _>(byte, shape());
            let odd = odd.map(|view| view.iter().map(|x| x.get()).collect::<Vec<_>>()).map_err(kind);
            match (seen.map_err(kind), odd) {
                (Ok(seen), Ok(odd)) => {
                    prop_assert!(seen.is_empty() || byte % 4 == 0);
                    let (mut seen, mut odd, mut expected) = (seen, odd, expected.unwrap());
                    [&mut seen, &mut odd, &mut expected].into_iter().for_each(|x| x.sort_unstable());
                    prop_assert_eq!((&seen, &odd), (&expected, &expected));
                }
                (Err(crate::ErrorKind::Misaligned), Ok(_)) => prop_assert!(byte % 4 != 0),
                (Err(seen), Err(odd)) => {
                    prop_assert_eq!((seen, odd), (crate::ErrorKind::InvalidInput, crate::ErrorKind::InvalidInput));
                    prop_assert!(expected.is_none() || axes.contains(&0));
                }
                (seen, odd) => prop_assert!(false, "{:?} {:?}", seen, odd),
            }
            if let Ok(mut view) = file.view_as_mut::<crate::Unaligned<u32>, IxDyn>(byte, shape()) {
                view.fill(0.into());
                let changed = file.iter().zip(&bytes).enumerate().filter(|(_, (new, old))| new != old);
                let inside = |n: usize| places.iter().any(|place| (byte + place * 4..byte + place * 4 + 4).contains(&n));
                prop_assert!(changed.map(|(n, _)| n).all(inside));
                let zero = |&place: &usize| file.as_slice().unwrap()[byte + place * 4..][..4] == [0; 4];
                prop_assert!(places.iter().all(zero));
            }
        }

        #[test]
        fn no_numbers_of_a_caller_panic(
            axes in proptest::collection::vec(numbers(), 0..4), strides in proptest::collection::vec(numbers(), 0..4),
            start in numbers(),
        ) {
            let mut array = crate::MmapArrayMut::<u16>::scratch(20).unwrap();
            // Other numbers of axes than of strides are possible only here.
            let shape = || IxDyn(&axes).strides(IxDyn(&strides));
            let read = array.strided::<IxDyn>(start, shape()).map(|view| view.dim()).map_err(|e| e.kind());
            let written = array.strided_mut::<IxDyn>(start, shape()).map(|view| view.dim()).map_err(|e| e.kind());
            prop_assert!(read == written || read.is_ok());
            let mut bytes = crate::MmapArrayMut::<u8>::scratch(20).unwrap();
            let read = bytes.view_as::<u64, IxDyn>(start, shape()).map(|view| view.dim()).map_err(|e| e.kind());
            let written = bytes.view_as_mut::<u64, IxDyn>(start, shape()).map(|view| view.dim()).map_err(|e| e.kind());
            prop_assert!(read == written || read.is_ok());
        }
    }

    fn numbers() -> impl Strategy<Value = usize> {
        let edges = vec![usize::MAX, isize::MAX as usize, isize::MIN as usize, 1 << 32, isize::MAX as usize / 2];
        prop_oneof![4 => 0..4_usize, 1 => proptest::sample::select(edges), 1 => any::<usize>()]
    }
}
