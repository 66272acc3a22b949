//! Arithmetic and comparison with mapped arrays: each operator is ndarray's, on the array that the mapped one derefs to.

use std::ops::{
    Add, AddAssign, BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Div, DivAssign, Mul, MulAssign,
    Neg, Not, Rem, RemAssign, Shl, ShlAssign, Shr, ShrAssign, Sub, SubAssign,
};

use ndarray::{Array, ArrayBase, ArrayRef, Data, DataMut, DataOwned, DimMax, Dimension};

use super::MmapArrayBase;
use crate::mode::Writable;

/// A number that can stand beside a mapped array in arithmetic: `&a * 2.0`, `a += 1.0`.
///
/// It is implemented for the types for which ndarray's own `ScalarOperand` is, and for half floats. (That trait cannot serve
/// here: ndarray could implement it for arrays, too.) Implement it for a number type of your own.
pub trait ScalarOperand: Clone + 'static {}

/// An operator between references to arrays of which one is mapped.
macro_rules! of_references {
    ($Trait:ident $method:ident: $([$($generics:tt)*] $left:ty, $right:ty;)*) => {$(
        /// Gives a plain owned array. Shapes are broadcast as by ndarray.
        ///
        /// # Panics
        /// If the shapes cannot be broadcast together.
        impl<'a, A, B, D, E, M, $($generics)*> $Trait<&'a $right> for &'a $left
        where
            A: Clone + $Trait<B, Output = A>,
            B: Clone,
            D: Dimension + DimMax<E>,
            E: Dimension,
        {
            type Output = Array<A, <D as DimMax<E>>::Output>;

            #[track_caller]
            fn $method(self, other: &'a $right) -> Self::Output {
                let (left, right): (&ArrayRef<A, D>, &ArrayRef<B, E>) = (self, other);
                left.$method(right)
            }
        }
    )*};
}

/// An operator that stores its result in its left side, where one side is mapped.
macro_rules! assigning {
    ($Assign:ident $assign:ident: $([$($generics:tt)*] $left:ty, $right:ty;)*) => {$(
        /// # Panics
        /// If `other` cannot be broadcast to the shape of `self`.
        impl<A, D, E, $($generics)*> $Assign<&$right> for $left
        where
            A: Clone + $Assign<A>,
            D: Dimension,
            E: Dimension,
        {
            #[track_caller]
            fn $assign(&mut self, other: &$right) {
                let (left, right): (&mut ArrayRef<A, D>, &ArrayRef<A, E>) = (self, other);
                left.$assign(right);
            }
        }
    )*};
}

/// The operators between arrays, and with a scalar on the right.
macro_rules! operator {
    ($Trait:ident $method:ident $operator:tt, $Assign:ident $assign:ident $assign_operator:tt) => {
        of_references! {
            $Trait $method:
            [N] MmapArrayBase<A, D, M>, MmapArrayBase<B, E, N>;
            [S: Data<Elem = B>] MmapArrayBase<A, D, M>, ArrayBase<S, E>;
            [] MmapArrayBase<A, D, M>, ArrayRef<B, E>;
            [S: Data<Elem = A>] ArrayBase<S, D>, MmapArrayBase<B, E, M>;
            [] ArrayRef<A, D>, MmapArrayBase<B, E, M>;
        }

        /// Gives a plain owned array, in the memory of `other` if the shapes allow it.
        ///
        /// # Panics
        /// If the shapes cannot be broadcast together.
        impl<A, B, S, D, E, M> $Trait<ArrayBase<S, E>> for &MmapArrayBase<A, D, M>
        where
            A: Clone + $Trait<B, Output = B>,
            B: Clone,
            S: DataOwned<Elem = B> + DataMut,
            D: Dimension,
            E: Dimension + DimMax<D>,
        {
            type Output = ArrayBase<S, <E as DimMax<D>>::Output>;

            #[track_caller]
            fn $method(self, other: ArrayBase<S, E>) -> Self::Output {
                (&**self).$method(other)
            }
        }

        /// Gives a plain owned array.
        impl<A, B, D, M> $Trait<B> for &MmapArrayBase<A, D, M>
        where
            A: Clone + $Trait<B, Output = A>,
            B: ScalarOperand,
            D: Dimension,
        {
            type Output = Array<A, D>;

            fn $method(self, other: B) -> Self::Output {
                self.map(|x| x.clone() $operator other.clone())
            }
        }

        /// Gives a plain owned array, in the memory of `self` if the shapes allow it.
        ///
        /// # Panics
        /// If the shapes cannot be broadcast together.
        impl<A, B, S, D, E, M> $Trait<&MmapArrayBase<B, E, M>> for ArrayBase<S, D>
        where
            A: Clone + $Trait<B, Output = A>,
            B: Clone,
            S: DataOwned<Elem = A> + DataMut,
            D: Dimension + DimMax<E>,
            E: Dimension,
        {
            type Output = ArrayBase<S, <D as DimMax<E>>::Output>;

            #[track_caller]
            fn $method(self, other: &MmapArrayBase<B, E, M>) -> Self::Output {
                self.$method(&**other)
            }
        }

        assigning! {
            $Assign $assign:
            [M: Writable, N] MmapArrayBase<A, D, M>, MmapArrayBase<A, E, N>;
            [M: Writable, S: Data<Elem = A>] MmapArrayBase<A, D, M>, ArrayBase<S, E>;
            [M: Writable] MmapArrayBase<A, D, M>, ArrayRef<A, E>;
            [M, S: DataMut<Elem = A>] ArrayBase<S, D>, MmapArrayBase<A, E, M>;
            [M] ArrayRef<A, D>, MmapArrayBase<A, E, M>;
        }

        impl<A, B, D, M> $Assign<B> for MmapArrayBase<A, D, M>
        where
            A: $Assign<B>,
            B: ScalarOperand,
            D: Dimension,
            M: Writable,
        {
            fn $assign(&mut self, other: B) {
                self.map_inplace(|x| *x $assign_operator other.clone());
            }
        }
    };
}

operator!(Add add +, AddAssign add_assign +=);
operator!(Sub sub -, SubAssign sub_assign -=);
operator!(Mul mul *, MulAssign mul_assign *=);
operator!(Div div /, DivAssign div_assign /=);
operator!(Rem rem %, RemAssign rem_assign %=);
operator!(BitAnd bitand &, BitAndAssign bitand_assign &=);
operator!(BitOr bitor |, BitOrAssign bitor_assign |=);
operator!(BitXor bitxor ^, BitXorAssign bitxor_assign ^=);
operator!(Shl shl <<, ShlAssign shl_assign <<=);
operator!(Shr shr >>, ShrAssign shr_assign >>=);

/// A type of scalars, and the operators with one of them on the left. (Such impls must be made for each type.)
macro_rules! scalar {
    ($scalar:ty: $($Trait:ident $method:ident $operator:tt)*) => {
        impl ScalarOperand for $scalar {}

        $(
            /// Gives a plain owned array.
            impl<D: Dimension, M> $Trait<&MmapArrayBase<$scalar, D, M>> for $scalar {
                type Output = Array<$scalar, D>;

                fn $method(self, other: &MmapArrayBase<$scalar, D, M>) -> Self::Output {
                    other.map(|&x| self $operator x)
                }
            }
        )*
    };
}

macro_rules! integers {
    ($($scalar:ty)*) => {$(
        scalar!($scalar: Add add + Sub sub - Mul mul * Div div / Rem rem %
            BitAnd bitand & BitOr bitor | BitXor bitxor ^ Shl shl << Shr shr >>);
    )*};
}

integers!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);
scalar!(f32: Add add + Sub sub - Mul mul * Div div / Rem rem %);
scalar!(f64: Add add + Sub sub - Mul mul * Div div / Rem rem %);
scalar!(bool: BitAnd bitand & BitOr bitor | BitXor bitxor ^);
#[cfg(feature = "num-complex")]
scalar!(num_complex::Complex<f32>: Add add + Sub sub - Mul mul * Div div /);
#[cfg(feature = "num-complex")]
scalar!(num_complex::Complex<f64>: Add add + Sub sub - Mul mul * Div div /);
#[cfg(feature = "half")]
scalar!(half::f16: Add add + Sub sub - Mul mul * Div div / Rem rem %);
#[cfg(feature = "half")]
scalar!(half::bf16: Add add + Sub sub - Mul mul * Div div / Rem rem %);

/// Gives a plain owned array.
impl<A: Clone + Neg<Output = A>, D: Dimension, M> Neg for &MmapArrayBase<A, D, M> {
    type Output = Array<A, D>;

    fn neg(self) -> Self::Output {
        self.map(|x| -x.clone())
    }
}

/// Gives a plain owned array.
impl<A: Clone + Not<Output = A>, D: Dimension, M> Not for &MmapArrayBase<A, D, M> {
    type Output = Array<A, D>;

    fn not(self) -> Self::Output {
        self.map(|x| !x.clone())
    }
}

impl<A: Eq, D: Dimension, M> Eq for MmapArrayBase<A, D, M> {}

/// `==` in all forms: of values and references, on either side.
macro_rules! equality {
    ($([$($generics:tt)*] $left:ty, $right:ty;)*) => {$(
        /// Equal if shapes and elements are; modes, paths and orders in memory do not matter.
        impl<A: PartialEq<B>, B, D: Dimension, M, $($generics)*> PartialEq<$right> for $left {
            fn eq(&self, other: &$right) -> bool {
                self.view() == other.view()
            }
        }
    )*};
}

equality! {
    [N] MmapArrayBase<A, D, M>, MmapArrayBase<B, D, N>;
    [N] MmapArrayBase<A, D, M>, &MmapArrayBase<B, D, N>;
    [N] &MmapArrayBase<A, D, M>, MmapArrayBase<B, D, N>;
    [S: Data<Elem = B>] MmapArrayBase<A, D, M>, ArrayBase<S, D>;
    [S: Data<Elem = B>] MmapArrayBase<A, D, M>, &ArrayBase<S, D>;
    [S: Data<Elem = B>] &MmapArrayBase<A, D, M>, ArrayBase<S, D>;
    [S: Data<Elem = A>] ArrayBase<S, D>, MmapArrayBase<B, D, M>;
    [S: Data<Elem = A>] ArrayBase<S, D>, &MmapArrayBase<B, D, M>;
    [S: Data<Elem = A>] &ArrayBase<S, D>, MmapArrayBase<B, D, M>;
    [] MmapArrayBase<A, D, M>, ArrayRef<B, D>;
    [] MmapArrayBase<A, D, M>, &ArrayRef<B, D>;
    [] &MmapArrayBase<A, D, M>, ArrayRef<B, D>;
    [] ArrayRef<A, D>, MmapArrayBase<B, D, M>;
    [] ArrayRef<A, D>, &MmapArrayBase<B, D, M>;
    [] &ArrayRef<A, D>, MmapArrayBase<B, D, M>;
}
