//! The element types of NumPy's descriptions, as Rust types: how each counts, and how its values are written down.
//!
//! The conformance corpus and the peer of the interoperation script speak of values in the same way: booleans and
//! integers as themselves, floats as text, complex numbers as pairs, bytes as hexadecimal text, records as objects.

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};
use ndarray_mmap::npy::{Dtype, Field, NpyElement};
use ndarray_mmap::{
    BigEndian, Bool8, ByteOrdered, Datetime64, FixedBytes, Str, Timedelta64, Unaligned, npy_record, time_units,
    time_units::TimeUnit,
};
use num_complex::Complex;
use rend::unaligned::*;
use rend::*;
use serde_json::{Value, json};

/// An element type that the corpus has values of.
pub trait Element: Pod + Send + NpyElement {
    /// Element number `k` of an array that counts.
    fn rule(k: u64) -> Self;

    /// # Panics
    /// If the value is of another type.
    fn decode(value: &Value) -> Self;

    fn encode(self) -> Value;

    /// For sums; `None` for what is no number.
    fn number(self) -> Option<Number> {
        None
    }

    /// Assigns as NumPy does: what is padding in the file stays.
    fn store(&mut self, value: Self) {
        *self = value;
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i128),
    Real(f64),
    Complex(f64, f64),
}

impl Number {
    /// The sum of all elements, without overflow.
    pub fn sum<'a, A: Element>(elements: impl IntoIterator<Item = &'a A>) -> Option<Self> {
        elements.into_iter().try_fold(A::zeroed().number()?, |sum, &element| sum.plus(element.number()?))
    }

    fn plus(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(Self::Integer(a + b)),
            (Self::Real(a), Self::Real(b)) => Some(Self::Real(a + b)),
            (Self::Complex(a, b), Self::Complex(c, d)) => Some(Self::Complex(a + c, b + d)),
            _ => None,
        }
    }

    /// `"21"`, `"21.0"`, `"21.0,24.5"`.
    pub fn parse(text: &str) -> Self {
        let real = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"));
        match text.split_once(',') {
            Some((re, im)) => Self::Complex(real(re), real(im)),
            None => text.parse().map_or_else(|_| Self::Real(real(text)), Self::Integer),
        }
    }
}

/// What to do with an element type that is known by its description only.
pub trait Visitor {
    type Out;
    fn visit<A: Element>(self) -> Self::Out;
}

macro_rules! by_description {
    ($(#[$doc:meta])* $name:ident, $all:ident: $($description:literal => $element:ty),+ $(,)?) => {
        /// Every description that has such a type.
        pub const $all: &[&str] = &[$($description),+];

        $(#[$doc])*
        pub fn $name<V: Visitor>(description: &str, visitor: V) -> Option<V::Out> {
            Some(match description {
                $($description => visitor.visit::<$element>(),)+
                _ => return None,
            })
        }
    };
}

by_description! {
    /// The type that one would take, with the alignment it has in memory.
    natural, NATURAL:
    "|b1" => Bool8, "|i1" => i8, "|u1" => u8,
    "<i2" => i16, "<u2" => u16, "<i4" => i32, "<u4" => u32, "<i8" => i64, "<u8" => u64,
    ">i2" => i16_be, ">u2" => u16_be, ">i4" => i32_be, ">u4" => u32_be, ">i8" => i64_be, ">u8" => u64_be,
    "<f2" => f16, "<f4" => f32, "<f8" => f64, ">f4" => f32_be, ">f8" => f64_be,
    "<c8" => Complex<f32>, "<c16" => Complex<f64>, ">c8" => Complex<f32_be>, ">c16" => Complex<f64_be>,
    "<M8[us]" => Datetime64<time_units::Microsecond>, "<M8[ms]" => Datetime64<time_units::Millisecond>,
    "<M8[ns]" => Datetime64<time_units::Nanosecond>, "<m8[s]" => Timedelta64<time_units::Second>,
    ">f2" => BigEndian<f16>, "<V2" => bf16, ">M8[us]" => BigEndian<Datetime64<time_units::Microsecond>>,
    "|S5" => FixedBytes<5>, "|V3" => [u8; 3], "<U5" => Str<5>,
    r#"[["a","|u1"],["b","<f8"]]"# => Record<0, f64_ule>, r#"[["a","|u1"],["b",">f8"]]"# => Record<0, Unaligned<BigEndian<f64>>>,
    r#"[["a","|u1"],["","|V7"],["b","<f8"]]"# => Record<7, f64>,
    r#"[["id","<u2"],["","|V2"],["pos","<f4",[3]],["t","<i8"]]"# => Position,
    r#"[["é","<f8"]]"# => Named<0>, r#"[["fffffffffffffffffffffffffffffff","<f8"]]"# => Named<1>,
}

by_description! {
    /// The same bytes as a type of alignment 1, for offsets that the natural one cannot have.
    unaligned, UNALIGNED:
    "<i2" => i16_ule, "<u2" => u16_ule, "<i4" => i32_ule, "<u4" => u32_ule, "<i8" => i64_ule, "<u8" => u64_ule,
    ">i2" => i16_ube, ">u2" => u16_ube, ">i4" => i32_ube, ">u4" => u32_ube, ">i8" => i64_ube, ">u8" => u64_ube,
    "<f4" => f32_ule, "<f8" => f64_ule, ">f4" => f32_ube, ">f8" => f64_ube,
    "<c8" => Complex<f32_ule>, "<c16" => Complex<f64_ule>, ">c8" => Complex<f32_ube>, ">c16" => Complex<f64_ube>,
    "<f2" => Unaligned<f16>, ">f2" => Unaligned<BigEndian<f16>>, "<V2" => Unaligned<bf16>, "<U5" => Unaligned<Str<5>>,
    "<M8[us]" => Unaligned<Datetime64<time_units::Microsecond>>,
    ">M8[us]" => Unaligned<BigEndian<Datetime64<time_units::Microsecond>>>,
    r#"[["a","|u1"],["","|V7"],["b","<f8"]]"# => Record<7, f64_ule>,
}

impl Element for Bool8 {
    fn rule(k: u64) -> Self {
        (k % 2 == 1).into()
    }

    fn decode(value: &Value) -> Self {
        value.as_bool().unwrap_or_else(|| panic!("{value} is no boolean")).into()
    }

    fn encode(self) -> Value {
        self.get().into()
    }

    fn number(self) -> Option<Number> {
        Some(Number::Integer(self.get().into()))
    }
}

macro_rules! integers {
    ($($native:ident: $($element:ty),+;)+) => {$($(
        impl Element for $element {
            fn rule(k: u64) -> Self {
                (k as $native).into()
            }

            fn decode(value: &Value) -> Self {
                let integer = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
                let native = integer.and_then(|n| $native::try_from(n).ok());
                native.unwrap_or_else(|| panic!("{value} is no {}", stringify!($native))).into()
            }

            fn encode(self) -> Value {
                $native::from(self).into()
            }

            fn number(self) -> Option<Number> {
                Some(Number::Integer($native::from(self).into()))
            }
        }
    )+)+};
}

integers! {
    i8: i8;
    u8: u8;
    i16: i16, i16_be, i16_ule, i16_ube;
    u16: u16, u16_be, u16_ule, u16_ube;
    i32: i32, i32_be, i32_ule, i32_ube;
    u32: u32, u32_be, u32_ule, u32_ube;
    i64: i64, i64_be, i64_ule, i64_ube;
    u64: u64, u64_be, u64_ule, u64_ube;
}

/// A float: an element, and what complex elements are made of.
pub trait Real: Pod + Send {
    /// Counts as far as every whole number is a value.
    fn count(k: u64) -> Self {
        Self::from_f64(k as f64)
    }
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
}

impl Real for f16 {
    fn count(k: u64) -> Self {
        Self::from_f64((k % 2048) as f64)
    }

    fn from_f64(x: f64) -> Self {
        Self::from_f64(x)
    }

    fn to_f64(self) -> f64 {
        self.into()
    }
}

macro_rules! reals {
    ($($native:ident: $($element:ty),+;)+) => {$($(
        impl Real for $element {
            fn from_f64(x: f64) -> Self {
                (x as $native).into()
            }

            fn to_f64(self) -> f64 {
                $native::from(self).into()
            }
        }
    )+)+};
}

reals! {
    f32: f32, f32_be, f32_ule, f32_ube;
    f64: f64, f64_be, f64_ule, f64_ube;
}

macro_rules! real_elements {
    ($($element:ty),+) => {$(
        impl Element for $element {
            fn rule(k: u64) -> Self {
                Self::count(k)
            }

            fn decode(value: &Value) -> Self {
                Real::from_f64(real(value))
            }

            fn encode(self) -> Value {
                text(Real::to_f64(self))
            }

            fn number(self) -> Option<Number> {
                Some(Number::Real(Real::to_f64(self)))
            }
        }
    )+};
}

real_elements!(f16, f32, f32_be, f32_ule, f32_ube, f64, f64_be, f64_ule, f64_ube);

impl<T: Element> Element for Unaligned<T> {
    fn rule(k: u64) -> Self {
        T::rule(k).into()
    }

    fn decode(value: &Value) -> Self {
        T::decode(value).into()
    }

    fn encode(self) -> Value {
        self.get().encode()
    }

    fn number(self) -> Option<Number> {
        self.get().number()
    }
}

impl<T: Element + ByteOrdered> Element for BigEndian<T> {
    fn rule(k: u64) -> Self {
        T::rule(k).into()
    }

    fn decode(value: &Value) -> Self {
        T::decode(value).into()
    }

    fn encode(self) -> Value {
        self.get().encode()
    }

    fn number(self) -> Option<Number> {
        self.get().number()
    }
}

/// As its bytes: NumPy alone does not know what they mean.
impl Element for bf16 {
    fn rule(k: u64) -> Self {
        Self::from_f64((k % 256) as f64)
    }

    fn decode(value: &Value) -> Self {
        Self::from_le_bytes(<[u8; 2]>::decode(value))
    }

    fn encode(self) -> Value {
        hex(&self.to_le_bytes()).into()
    }
}

/// As text.
impl<const N: usize> Element for Str<N> {
    fn rule(k: u64) -> Self {
        Self::new(&format!("{:.N$}", k.to_string())).expect("it was cut")
    }

    fn decode(value: &Value) -> Self {
        value.as_str().and_then(Self::new).unwrap_or_else(|| panic!("{value} is no such text"))
    }

    fn encode(self) -> Value {
        self.to_string().into()
    }
}

/// Numbers are read too, where a whole one is stored into an array of floats.
fn real(value: &Value) -> f64 {
    let real = value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok());
    real.unwrap_or_else(|| panic!("{value} is no float"))
}

/// The shortest text that reads back as the same float.
fn text(x: f64) -> Value {
    format!("{x:?}").into()
}

impl<T: Real> Element for Complex<T>
where
    Self: NpyElement,
{
    fn rule(k: u64) -> Self {
        Self { re: T::count(k), im: T::from_f64(k as f64 + 0.5) }
    }

    fn decode(value: &Value) -> Self {
        Self { re: T::from_f64(real(&value[0])), im: T::from_f64(real(&value[1])) }
    }

    fn encode(self) -> Value {
        json!([text(self.re.to_f64()), text(self.im.to_f64())])
    }

    fn number(self) -> Option<Number> {
        Some(Number::Complex(self.re.to_f64(), self.im.to_f64()))
    }
}

macro_rules! dates {
    ($($date:ident),+) => {$(
        impl<U: TimeUnit> Element for $date<U> {
            fn rule(k: u64) -> Self {
                Self::new(i64::rule(k) * 1_000_003)
            }

            fn decode(value: &Value) -> Self {
                Self::new(i64::decode(value))
            }

            fn encode(self) -> Value {
                self.get().unwrap_or(i64::MIN).into()
            }
        }
    )+};
}

dates!(Datetime64, Timedelta64);

/// Text (`S`).
impl<const N: usize> Element for FixedBytes<N>
where
    [u8; N]: Element,
{
    fn rule(k: u64) -> Self {
        <[u8; N]>::rule(k).into()
    }

    fn decode(value: &Value) -> Self {
        <[u8; N]>::decode(value).into()
    }

    fn encode(self) -> Value {
        hex(bytemuck::bytes_of(&self)).into()
    }
}

/// Opaque bytes (`V`).
impl<const N: usize> Element for [u8; N]
where
    Self: Pod,
{
    fn rule(k: u64) -> Self {
        std::array::from_fn(|j| b'A' + ((k + j as u64) % 26) as u8)
    }

    fn decode(value: &Value) -> Self {
        let hex = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
        std::array::from_fn(|j| u8::from_str_radix(&hex[2 * j..2 * j + 2], 16).expect("two hexadecimal digits"))
    }

    fn encode(self) -> Value {
        hex(&self).into()
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record with fields `a` and `b`, whose padding has a name so that it may be written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record<const PADDING: usize, B> {
    pub a: u8,
    pub padding: [u8; PADDING],
    pub b: B,
}

// SAFETY: zero is a value of both fields, and of padding.
unsafe impl<const PADDING: usize, B: Zeroable> Zeroable for Record<PADDING, B> {}
// SAFETY: `b`, of alignment 8, starts at 8 and ends the record at 16: no byte is left over, and fields are `Pod`.
unsafe impl Pod for Record<7, f64> {}
// SAFETY: of alignment 1 throughout: no byte is left over, and fields are `Pod`.
unsafe impl Pod for Record<7, f64_ule> {}
// SAFETY: as above.
unsafe impl Pod for Record<0, f64_ule> {}
// SAFETY: as above.
unsafe impl Pod for Record<0, Unaligned<BigEndian<f64>>> {}

impl<const PADDING: usize, B: NpyElement> NpyElement for Record<PADDING, B> {
    fn dtype() -> Dtype {
        let b = Field::new("b", 1 + PADDING, B::dtype());
        Dtype::record([Field::new("a", 0, u8::dtype()), b], size_of::<Self>()).expect("its fields are apart")
    }
}

impl<const PADDING: usize, B: Element> Element for Record<PADDING, B>
where
    Self: Pod,
{
    fn rule(k: u64) -> Self {
        Self { a: u8::rule(k), padding: [0; PADDING], b: B::rule(k + 100) }
    }

    fn decode(value: &Value) -> Self {
        Self { a: u8::decode(&value["a"]), padding: [0; PADDING], b: B::decode(&value["b"]) }
    }

    fn encode(self) -> Value {
        json!({ "a": self.a.encode(), "b": self.b.encode() })
    }

    fn store(&mut self, value: Self) {
        self.a = value.a;
        self.b = value.b;
    }
}

/// A record with a field that is an array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
pub struct Position {
    id: u16,
    padding: [u8; 2],
    pos: [f32; 3],
    t: i64,
}

npy_record!(Position { id: u16, padding: [u8; 2] as "", pos: [f32; 3], t: i64 });

impl Element for Position {
    fn rule(k: u64) -> Self {
        let pos = std::array::from_fn(|j| f32::rule(3 * k + 100 + j as u64));
        Self { id: u16::rule(k), padding: [0; 2], pos, t: i64::rule(k + 200) }
    }

    fn decode(value: &Value) -> Self {
        let pos = std::array::from_fn(|j| f32::decode(&value["pos"][j]));
        Self { id: u16::decode(&value["id"]), padding: [0; 2], pos, t: i64::decode(&value["t"]) }
    }

    fn encode(self) -> Value {
        json!({ "id": self.id.encode(), "pos": self.pos.map(Element::encode), "t": self.t.encode() })
    }

    fn store(&mut self, value: Self) {
        *self = Self { padding: self.padding, ..value };
    }
}

/// A record of one float, whose name is what matters.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
pub struct Named<const WHICH: usize>(f64);

impl<const WHICH: usize> Named<WHICH> {
    const NAME: &str = ["é", "fffffffffffffffffffffffffffffff"][WHICH];
}

impl<const WHICH: usize> NpyElement for Named<WHICH> {
    fn dtype() -> Dtype {
        Dtype::record([Field::new(Self::NAME, 0, f64::dtype())], 8).expect("it has one field")
    }
}

impl<const WHICH: usize> Element for Named<WHICH> {
    fn rule(k: u64) -> Self {
        Self(f64::rule(k))
    }

    fn decode(value: &Value) -> Self {
        Self(f64::decode(&value[Self::NAME]))
    }

    fn encode(self) -> Value {
        json!({ Self::NAME: self.0.encode() })
    }
}
