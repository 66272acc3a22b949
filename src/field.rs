//! One field of all records: as a view where strides can say it, as a copy where they cannot.

use std::io;
use std::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{Array, ArrayView, ArrayViewMut, Axis, Dimension, RemoveAxis, ShapeBuilder, StrideShape};

use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
use crate::error::{Error, ErrorKind, Result, error};
use crate::layout::Order;
use crate::mode::Writable;
use crate::sys::memory::vec_with_room;

impl<A: AnyBitPattern, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// A view of one field of all records: NumPy's `a['x']`. The field is a `T` that starts `byte` bytes into each element.
    /// Nothing is copied.
    ///
    /// `A` is a record: a struct (with `std::mem::offset_of!` for `byte`), or `[u8; N]` if it is known only at run time. Its
    /// size must be a multiple of the field's, for ndarray's strides count elements; [`copy_field`](Self::copy_field) copies
    /// the others.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the field would end past the record.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the size of the record is no multiple of the field's.
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned) if the field is not aligned for `T`.
    ///
    /// The messages name the way that is left.
    ///
    /// ```
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// // Records of 12 bytes: a time of 4, then two values of 4.
    /// let record = |time: u32, x: f32, y: f32| [time.to_ne_bytes(), x.to_ne_bytes(), y.to_ne_bytes()].concat();
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-field-{}.bin", std::process::id()));
    /// std::fs::write(&path, [record(1, 0.5, 2.0), record(2, 1.5, 4.0)].concat())?;
    ///
    /// let records = MmapArray::<[u8; 12]>::load(&path)?;
    /// assert_eq!(records.field::<f32>(8)?.sum(), 6.0);
    /// assert_eq!(records.field::<[f32; 1]>(4)?[1], [1.5]);
    ///
    /// let e = records.field::<f64>(4).unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::Unsupported);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn field<T: AnyBitPattern>(&self, byte: usize) -> Result<ArrayView<'_, T, D>> {
        let shape = self.shape_of_field::<T>(byte).map_err(|e| self.named(e))?;
        let fields = bytemuck::cast_slice(&self.as_bytes()[self.bytes_of_fields::<T>(byte)]);
        ArrayView::from_shape(shape, fields).map_err(|e| self.named(error!(InvalidInput, "{e}")))
    }

    /// A copy of one field of all records, at any alignment, and whatever the sizes: see [`field`](Self::field). It has the
    /// shape and the order of the array.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the field would end past the record.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) (out of memory).
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::{ErrorKind, MmapArrayMut};
    ///
    /// let mut packets = MmapArrayMut::<[u8; 9]>::scratch(2)?;
    /// packets[1][1..].copy_from_slice(&1.5_f64.to_ne_bytes());
    /// assert_eq!(packets.field::<f64>(1).unwrap_err().kind(), ErrorKind::Unsupported);
    /// assert_eq!(packets.copy_field::<f64>(1)?, array![0.0, 1.5]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn copy_field<T: AnyBitPattern>(&self, byte: usize) -> Result<Array<T, D>> {
        let copy = || {
            let record = self.layout().item();
            check_field(byte, ElementLayout::of::<T>(), record.size(), record.name())?;
            let fields = fields_of_records(self.as_bytes(), record.size(), byte, self.len())?;
            Array::from_shape_vec(self.layout().to_shape(), fields).map_err(|e| error!(InvalidInput, "{e}"))
        };
        copy().map_err(|e| self.named(e))
    }

    /// The shape of a field, in elements of `T`.
    fn shape_of_field<T>(&self, byte: usize) -> Result<StrideShape<D>> {
        let (record, field) = (self.layout().item(), ElementLayout::of::<T>());
        let (record_name, name) = (record.name(), field.name());
        check_field(byte, field, record.size(), record_name)?;
        if !record.size().is_multiple_of(field.size()) {
            return Err(error!(
                Unsupported,
                "`{record_name}` has {} bytes, no multiple of the {} bytes of {name}, so that no strides lead from one to \
                 the next: `copy_field` copies them",
                record.size(),
                field.size()
            ));
        }
        if !self.is_empty() && !self.as_ptr().addr().wrapping_add(byte).is_multiple_of(field.align()) {
            return Err(error!(
                Misaligned,
                "the field at byte {byte} of `{record_name}` is not aligned to the {} bytes that {name} needs, as the array \
                 starts at byte {} of its file: use `Unaligned<{name}>`, or `copy_field`",
                field.align(),
                self.offset()
            ));
        }
        let ratio = record.size() / field.size();
        let mut strides = self.raw_dim();
        for (axis, stride) in self.strides().iter().enumerate() {
            strides[axis] = stride.unsigned_abs() * ratio;
        }
        Ok(self.raw_dim().strides(strides))
    }

    /// The bytes of the array from the first field on: a whole number of `T`.
    fn bytes_of_fields<T>(&self, byte: usize) -> Range<usize> {
        let len = self.layout().bytes();
        let start = byte.min(len);
        start..len - (len - start) % size_of::<T>()
    }
}

impl<A: AnyBitPattern + NoUninit, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// [`field`](Self::field), for writing.
    ///
    /// # Errors
    /// Those of [`field`](Self::field).
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut records = MmapArrayMut::<[u8; 12]>::scratch(100)?;
    /// records.field_mut::<u32>(8)?.fill(7);
    /// assert_eq!(records[99], [0, 0, 0, 0, 0, 0, 0, 0, 7u32.to_ne_bytes()[0], 7u32.to_ne_bytes()[1], 0, 7u32.to_ne_bytes()[3]]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn field_mut<T: AnyBitPattern + NoUninit>(&mut self, byte: usize) -> Result<ArrayViewMut<'_, T, D>> {
        let shape = self.shape_of_field::<T>(byte).map_err(|e| self.named(e))?;
        let place = self.bytes_of_fields::<T>(byte);
        let elements = self.view_mut().into_slice_memory_order().unwrap_or_default();
        let fields = bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<A, u8>(elements)[place]);
        ArrayViewMut::from_shape(shape, fields).map_err(|e| error!(InvalidInput, "{e}"))
    }
}

impl<D: RemoveAxis, M> MmapArrayBase<u8, D, M> {
    /// Copies one field of all records, at any alignment: the records are the bytes along the last axis, and the field is a
    /// `T` that starts at `byte` of each.
    ///
    /// For packets whose length is no multiple of their fields, and for records that are known only at run time. The result
    /// has the axes before the last, and the order of the array.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the field would end past the record.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) (out of memory).
    ///
    /// # Example: packets of 23 bytes, with a value at byte 5
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::MmapArray;
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-packets-{}.bin", std::process::id()));
    /// let packet = |x: f64| [&[0; 5][..], &x.to_ne_bytes(), &[0; 10]].concat();
    /// std::fs::write(&path, [packet(0.5), packet(1.5), packet(2.5)].concat())?;
    ///
    /// let packets = MmapArray::<u8>::options().row_shape(23).load(&path)?;
    /// assert_eq!(packets.read_field::<f64>(5)?, array![0.5, 1.5, 2.5]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_field<T: AnyBitPattern>(&self, byte: usize) -> Result<Array<T, D::Smaller>> {
        self.copy_of_field(byte).map_err(|e| self.named(e))
    }

    fn copy_of_field<T: AnyBitPattern>(&self, byte: usize) -> Result<Array<T, D::Smaller>> {
        let Some(last) = self.ndim().checked_sub(1) else {
            return Err(Error::new(ErrorKind::InvalidInput, "an array without axes has no records"));
        };
        let record = self.len_of(Axis(last));
        check_field(byte, ElementLayout::of::<T>(), record, "a record")?;
        let dim = self.raw_dim().remove_axis(Axis(last));
        let (bytes, count) = (self.as_bytes(), dim.size());
        let fields = match self.layout().order() {
            Order::C => fields_of_records(bytes, record, byte, count)?,
            // The first bytes of all records lie together, then the second ones.
            Order::F => {
                let (mut fields, mut field) = (with_room(count)?, vec![0; size_of::<T>()]);
                fields.extend((0..count).map(|n| {
                    let of_record = bytes[n..].iter().step_by(count).skip(byte);
                    field.iter_mut().zip(of_record).for_each(|(to, &from)| *to = from);
                    bytemuck::pod_read_unaligned::<T>(&field)
                }));
                fields
            }
        };
        let shape = dim.set_f(self.layout().order() == Order::F);
        Array::from_shape_vec(shape, fields).map_err(|e| error!(InvalidInput, "{e}"))
    }
}

/// One field of `count` records that follow each other. It has been checked that it lies in a record.
fn fields_of_records<T: AnyBitPattern>(bytes: &[u8], record: usize, byte: usize, count: usize) -> Result<Vec<T>> {
    let mut fields = with_room(count)?;
    let field = byte..byte + size_of::<T>();
    fields.extend(bytes.chunks_exact(record).map(|record| bytemuck::pod_read_unaligned::<T>(&record[field.clone()])));
    Ok(fields)
}

fn with_room<T>(count: usize) -> Result<Vec<T>> {
    vec_with_room(count).map_err(|_| Error::io("cannot allocate memory", io::ErrorKind::OutOfMemory.into()))
}

/// Refuses a field that ends past its record.
fn check_field(byte: usize, field: ElementLayout, record: usize, record_name: &str) -> Result<()> {
    match byte.checked_add(field.size()) {
        Some(end) if end <= record => Ok(()),
        _ => Err(error!(
            InvalidInput,
            "{record_name} has {record} bytes, and no {} of {} bytes at byte {byte}",
            field.name(),
            field.size()
        )),
    }
}
