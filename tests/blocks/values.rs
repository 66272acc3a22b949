//! No value depends on how it is stored: what is computed from elements of any byte order, at any alignment, is what is
//! computed from the native numbers, also where the bytes as they are stored would be NaN, infinite, or zero.

use std::fmt::Debug;

use bytemuck::{NoUninit, Pod};
use ndarray::prelude::*;
use ndarray::{IxDyn, ShapeBuilder};
use ndarray_mmap::{
    BigEndian, ByteOrdered, Datetime64, LittleEndian, MmapArrayMut, Timedelta64, Unaligned, blocks::Accumulate,
    time_units,
};
use proptest::prelude::*;

/// A number of this machine.
trait Number: Accumulate + Pod + PartialOrd + Debug {
    const SPECIAL: &'static [Self];

    /// Of these bytes.
    fn of(seed: u64) -> Self {
        bytemuck::pod_read_unaligned(&seed.to_le_bytes()[..size_of::<Self>()])
    }

    /// The number that its bytes are in the other order.
    fn swapped(self) -> Self {
        let mut bytes = bytemuck::bytes_of(&self).to_vec();
        bytes.reverse();
        bytemuck::pod_read_unaligned(&bytes)
    }

    fn is_nan(self) -> bool {
        self.partial_cmp(&self).is_none()
    }

    fn is_same(self, other: Self) -> bool {
        self == other || self.is_nan() && other.is_nan()
    }
}

macro_rules! numbers {
    (integers $($integer:ty)*; floats $($float:ty, $one:expr;)*) => {
        $(impl Number for $integer {
            const SPECIAL: &'static [Self] = &[0, 1, 2, <$integer>::MIN, <$integer>::MAX, <$integer>::MAX - 1, !0, 100];
        })*
        $(impl Number for $float {
            const SPECIAL: &'static [Self] = &{
                type F = $float;
                [$one, F::NAN, F::INFINITY, F::NEG_INFINITY, F::MIN, F::MAX, F::MIN_POSITIVE, F::EPSILON]
            };
        })*
    };
}
numbers! {
    integers i8 i16 i32 i64 isize u8 u16 u32 u64 usize;
    floats f32, 1.0; f64, 1.0;
}
#[cfg(feature = "half")]
numbers! {
    integers;
    floats half::f16, half::f16::ONE; half::bf16, half::bf16::ONE;
}

/// An element that stands for a native number.
trait Stored: Accumulate + Pod + PartialOrd + Send + Sync {
    type Native: Number;
    fn native(self) -> Self::Native;
    fn stored(native: Self::Native) -> Self;
}

impl<N: Number> Stored for N {
    type Native = N;
    fn native(self) -> N {
        self
    }
    fn stored(native: N) -> N {
        native
    }
}

impl<S: Stored> Stored for Unaligned<S> {
    type Native = S::Native;
    fn native(self) -> S::Native {
        self.get().native()
    }
    fn stored(native: S::Native) -> Self {
        Self::new(S::stored(native))
    }
}

macro_rules! in_order {
    ($($order:ident)*) => {
        $(impl<N: Number + ByteOrdered> Stored for $order<N> {
            type Native = N;
            fn native(self) -> N {
                self.get()
            }
            fn stored(native: N) -> Self {
                Self::new(native)
            }
        })*
    };
}
in_order!(BigEndian LittleEndian);

#[cfg(feature = "rend")]
macro_rules! stored {
    ($($native:ty: $($element:ident)*;)*) => {
        $($(impl Stored for $element {
            type Native = $native;
            fn native(self) -> $native {
                self.to_native()
            }
            fn stored(native: $native) -> Self {
                Self::from_native(native)
            }
        })*)*

        /// `of_rend!(function(arguments))` for every element type of `rend`.
        macro_rules! of_rend {
            ($function:ident $arguments:tt) => {
                $($($function::<$element> $arguments?;)*)*
            };
        }
    };
}

#[cfg(feature = "rend")]
mod endian {
    pub use rend::unaligned::*;
    pub use rend::*;
}
#[cfg(feature = "rend")]
use endian::*;
#[cfg(feature = "rend")]
stored! {
    i16: i16_be i16_le i16_ube i16_ule;
    i32: i32_be i32_le i32_ube i32_ule;
    i64: i64_be i64_le i64_ube i64_ule;
    u16: u16_be u16_le u16_ube u16_ule;
    u32: u32_be u32_le u32_ube u32_ule;
    u64: u64_be u64_le u64_ube u64_ule;
    f32: f32_be f32_le f32_ube f32_ule;
    f64: f64_be f64_le f64_ube f64_ule;
}

/// Those of every element type, whatever the features.
macro_rules! every_type {
    ($function:ident $arguments:tt) => {{
        every_type!(@ $function $arguments i8 i16 i32 i64 isize u8 u16 u32 u64 usize f32 f64);
        // Each kind of sum through each wrapper.
        every_type!(@ $function $arguments BigEndian<f64> LittleEndian<u64> Unaligned<i32> Unaligned<BigEndian<i16>>);
        every_type!(@ $function $arguments Unaligned<f32> BigEndian<i64>);
        #[cfg(feature = "half")]
        {
            use half::{bf16, f16};
            every_type!(@ $function $arguments f16 bf16 BigEndian<bf16> Unaligned<BigEndian<f16>>);
        }
        #[cfg(feature = "rend")]
        of_rend!($function $arguments);
    }};
    (@ $function:ident $arguments:tt $($element:ty)*) => { $($function::<$element> $arguments?;)* };
}

/// The same for one element type of each size, order and alignment: bytes are moved without regard to what they mean.
macro_rules! every_size {
    ($function:ident $arguments:tt) => {{
        every_type!(@ $function $arguments u8 i16 f32 u64 BigEndian<f64> Unaligned<BigEndian<u16>>);
        #[cfg(feature = "rend")]
        every_type!(@ $function $arguments i16_be u16_ule f32_le i32_ube u64_ule f64_be);
    }};
}

/// What an array holds, whatever its elements are.
#[derive(Clone, Debug)]
struct Plan {
    dim: Vec<usize>,
    f_order: bool,
    /// What the numbers are made of.
    seeds: Vec<u64>,
    nan: bool,
    block: usize,
    parallel: bool,
}

fn plans() -> impl Strategy<Value = Plan> {
    let dims = prop_oneof![prop::collection::vec(1..7_usize, 1..4), prop::collection::vec(0..300_usize, 1..2)];
    (dims, any::<bool>(), any::<bool>(), 0..900_usize, any::<bool>()).prop_flat_map(
        |(dim, f_order, nan, block, parallel)| {
            prop::collection::vec(any::<u64>(), dim.iter().product::<usize>()).prop_map(move |seeds| Plan {
                dim: dim.clone(),
                f_order,
                seeds,
                nan,
                block,
                parallel,
            })
        },
    )
}

impl Plan {
    /// Special numbers, those whose bytes are special in the other order, and any.
    fn numbers<N: Number>(&self) -> Vec<N> {
        let number = |&seed: &u64| {
            let special = N::SPECIAL[(seed >> 8) as usize % N::SPECIAL.len()];
            let zero = N::of(0);
            let number = match seed % 8 {
                0 => special,
                1 => special.swapped(),
                2 => N::of(seed >> 60),
                3 => N::of(seed >> 60).swapped(),
                // Floats of this sign and nothing else: -0.0.
                4 => N::of(0x80).swapped(),
                5 => N::of(0x80),
                _ => N::of(seed.rotate_left(20)),
            };
            if number.is_nan() && !self.nan { zero } else { number }
        };
        self.seeds.iter().map(number).collect()
    }

    fn array<A: Pod>(&self, values: impl IntoIterator<Item = A>) -> MmapArrayMut<A, IxDyn> {
        let mut a = MmapArrayMut::<A>::scratch(IxDyn(&self.dim).set_f(self.f_order)).unwrap();
        let to = a.as_slice_memory_order_mut().unwrap();
        to.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        a
    }

    fn pass<'a, A: Pod>(&self, a: &'a MmapArrayMut<A, IxDyn>) -> ndarray_mmap::Blocks<'a, A, IxDyn> {
        let pass = a.blocks().bytes(self.block);
        #[cfg(feature = "rayon")]
        let pass = pass.parallel(self.parallel);
        pass
    }
}

fn least_and_greatest<A: Stored>(plan: &Plan) -> Result<(), TestCaseError> {
    let name = std::any::type_name::<A>();
    let numbers = plan.numbers::<A::Native>();
    let a = plan.array(numbers.iter().map(|&x| A::stored(x)));
    let found = plan.pass(&a).min_max().map(|(least, greatest)| (least.native(), greatest.native()));
    let expected = numbers.iter().find(|x| x.is_nan()).map(|&nan| (nan, nan)).or_else(|| {
        let least = numbers.iter().copied().reduce(|a, b| if b < a { b } else { a })?;
        let greatest = numbers.iter().copied().reduce(|a, b| if b > a { b } else { a })?;
        Some((least, greatest))
    });
    let same = match (found, expected) {
        (Some(found), Some(expected)) => found.0.is_same(expected.0) && found.1.is_same(expected.1),
        (found, expected) => found.is_none() && expected.is_none(),
    };
    prop_assert!(same, "{}: {:?} for {:?} in {:?}", name, found, expected, numbers);
    Ok(())
}

fn sums_and_means<A: Stored>(plan: &Plan) -> Result<(), TestCaseError> {
    let numbers = plan.numbers::<A::Native>();
    let a = plan.array(numbers.iter().map(|&x| A::stored(x)));
    let b = plan.array(numbers.iter().copied());
    // As text every NaN is the same.
    let is_same = |what: &str, a: &dyn Debug, b: &dyn Debug| {
        let (a, b) = (format!("{a:?}"), format!("{b:?}"));
        prop_assert!(a == b, "{} of {}: {} for {} of {:?}", what, std::any::type_name::<A>(), a, b, numbers);
        Ok(())
    };
    // In parallel the last bit of a sum along an axis may differ.
    let (a, b) = (|| plan.pass(&a), || plan.pass(&b));
    is_same("sum", &Text(a().sum()), &Text(b().sum()))?;
    is_same("mean", &a().mean().map(Text), &b().mean().map(Text))?;
    is_same("var", &a().var(1), &b().var(1))?;
    is_same("std", &a().std(0), &b().std(0))?;
    let (a, b) = (|| a().rows(1), || b().rows(1));
    for axis in (0..plan.dim.len()).map(Axis).filter(|_| !plan.parallel) {
        is_same("sum_axis", &a().sum_axis(axis).mapv(Text), &b().sum_axis(axis).mapv(Text))?;
        is_same("mean_axis", &a().mean_axis(axis).map(|m| m.mapv(Text)), &b().mean_axis(axis).map(|m| m.mapv(Text)))?;
    }
    let folded = |mut all: Vec<A::Native>, block: ArrayViewD<'_, A>| {
        all.extend(block.to_slice_memory_order().unwrap().iter().map(|x| x.native()));
        all
    };
    is_same("fold", &a().fold(Vec::new(), folded), &numbers)
}

/// A sum or a mean: by what any of them can do.
#[derive(Clone)]
struct Text<T>(T);

impl<T: Copy + 'static> Debug for Text<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let any: &dyn std::any::Any = &self.0;
        let known = [
            any.downcast_ref::<f64>().map(|x| x as &dyn Debug),
            any.downcast_ref::<i128>().map(|x| x as &dyn Debug),
            any.downcast_ref::<u128>().map(|x| x as &dyn Debug),
        ];
        known.into_iter().flatten().next().expect("a known sum").fmt(f)
    }
}

fn bytes<A: NoUninit>(a: &ArrayRef<A, IxDyn>) -> Vec<u8> {
    a.iter().flat_map(|x| bytemuck::bytes_of(x).to_vec()).collect()
}

fn copies<A: Stored>(plan: &Plan) -> Result<(), TestCaseError> {
    let numbers = plan.numbers::<A::Native>();
    let a = plan.array(numbers.iter().map(|&x| A::stored(x)));
    let b = plan.array(numbers.iter().copied());
    let other = Plan { f_order: !plan.f_order, ..plan.clone() };

    let mut native = other.array::<A::Native>([]);
    plan.pass(&a).map_into(&mut native, A::native).unwrap();
    prop_assert_eq!(bytes(&native), bytes(&b));
    native.fill(A::Native::of(0));
    native.assign_tiled_with(&a, |x| x.native()).unwrap();
    prop_assert_eq!(bytes(&native), bytes(&b));

    let mut back = other.array::<A>([]);
    back.assign_tiled(&a).unwrap();
    prop_assert_eq!(bytes(&back), bytes(&a));
    back.fill(A::stored(A::Native::of(0)));
    plan.pass(&a).zip_map_into(&b, &mut back, |_, x| A::stored(x)).unwrap();
    prop_assert_eq!(bytes(&back), bytes(&a));

    for axis in 0..plan.dim.len() {
        let indices: Vec<usize> = (0..plan.dim[axis]).rev().step_by(2).collect();
        prop_assert_eq!(bytes(&a.gather(Axis(axis), &indices).unwrap()), bytes(&a.select(Axis(axis), &indices)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn min_max_is_that_of_the_native_numbers_whatever_the_byte_order(plan in plans()) {
        every_type!(least_and_greatest(&plan));
    }

    #[test]
    fn sums_and_means_are_those_of_the_native_numbers_whatever_the_byte_order(plan in plans()) {
        every_type!(sums_and_means(&plan));
    }

    #[test]
    fn copies_and_conversions_keep_every_byte_whatever_the_byte_order(plan in plans()) {
        every_size!(copies(&plan));
    }
}

/// By a bit that their bytes make NaN of, in the other order; and NaN, which they make a small number of.
#[cfg(feature = "rend")]
#[test]
fn min_max_of_foreign_floats_takes_no_number_for_nan_and_no_nan_for_a_number() {
    let min_max = |numbers: [f32; 3]| {
        let mut a = MmapArrayMut::<f32_be>::scratch(3).unwrap();
        a.assign(&arr1(&numbers.map(f32_be::from_native)).into_dyn());
        a.blocks().min_max().map(|(least, greatest)| (least.to_native(), greatest.to_native()))
    };
    let stored_as_nan = f32::from_bits(0x3f80_807f);
    assert_eq!(min_max([-5.0, stored_as_nan, 9.0]), Some((-5.0, 9.0)));
    for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7fff_ffff)] {
        let (least, greatest) = min_max([-5.0, nan, 9.0]).unwrap();
        assert!(least.is_nan() && greatest.is_nan());
    }
}

/// They are compared as arrays are: by the first number in which they differ.
#[test]
fn min_max_of_elements_of_several_numbers_finds_a_nan_in_any_of_them() {
    let min_max = |elements: [[f64; 2]; 3]| {
        let mut a = MmapArrayMut::<[f64; 2], Ix1>::scratch(3).unwrap();
        a.assign(&arr1(&elements));
        a.blocks().min_max().unwrap()
    };
    assert_eq!(min_max([[1.0, 2.0], [0.0, 9.0], [1.0, 3.0]]), ([0.0, 9.0], [1.0, 3.0]));
    let (least, greatest) = min_max([[1.0, 2.0], [0.5, f64::NAN], [1.0, 3.0]]);
    assert!(least[1].is_nan() && greatest[1].is_nan());
}

#[test]
fn min_max_of_dates_takes_nat_for_the_least_of_all() {
    let mut a = MmapArrayMut::<Datetime64<time_units::Second>, Ix1>::scratch(3).unwrap();
    a.assign(&arr1(&[5, i64::MIN, -7].map(Datetime64::new)));
    let (least, greatest) = a.blocks().min_max().unwrap();
    assert!(least.is_nat());
    assert_eq!(greatest.get(), Some(5));

    let mut a = MmapArrayMut::<Timedelta64<time_units::Day>, Ix1>::scratch(3).unwrap();
    a.assign(&arr1(&[5, i64::MAX, i64::MIN + 1].map(Timedelta64::new)));
    let (least, greatest) = a.blocks().min_max().unwrap();
    assert_eq!((least.get(), greatest.get()), (Some(i64::MIN + 1), Some(i64::MAX)));
}
