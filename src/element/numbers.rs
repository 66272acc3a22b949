//! The number types of files, listed once: what is implemented for each of them is a macro over this list.

/// Calls `$callback!` with one row for each native type: its kind in `.npy` files and its name. After the colon there are
/// the types of `rend` (with that feature) for the same numbers: little-endian and big-endian, then the same two at any
/// offset (`rend::unaligned`).
macro_rules! for_each_number {
    ($callback:ident) => {
        $callback! {
            Int i8: ;
            Int i16: i16_le i16_be i16_ule i16_ube;
            Int i32: i32_le i32_be i32_ule i32_ube;
            Int i64: i64_le i64_be i64_ule i64_ube;
            Int isize: ;
            Uint u8: ;
            Uint u16: u16_le u16_be u16_ule u16_ube;
            Uint u32: u32_le u32_be u32_ule u32_ube;
            Uint u64: u64_le u64_be u64_ule u64_ube;
            Uint usize: ;
            Float f32: f32_le f32_be f32_ule f32_ube;
            Float f64: f64_le f64_be f64_ule f64_ube;
        }
    };
}
pub(crate) use for_each_number;
