//! Kernels compiled for the widest vectors that the processor has, whatever the crate was compiled for: those that all
//! processors of a kind have are too narrow to add up memory as fast as it can be read.
//!
//! # Safety
//! 1. A function compiled for a feature of the processor is called only after the processor was found to have it.
#![allow(unsafe_code)]

/// A loop worth compiling several times. Only what is inlined into it gains from that.
pub(crate) trait Kernel {
    type Output;

    /// Implement it with `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Runs a kernel, compiled for what this processor has.
#[cfg(all(target_arch = "x86_64", not(miri), not(debug_assertions)))]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    /// The part of x86-64-v4 that loops over numbers use.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
    fn v4<K: Kernel>(kernel: K) -> K::Output {
        kernel.run()
    }
    /// The same part of x86-64-v3.
    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    fn v3<K: Kernel>(kernel: K) -> K::Output {
        kernel.run()
    }
    macro_rules! has {
        ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
    }
    if has!("avx512f" "avx512bw" "avx512dq" "avx512vl" "avx2" "fma" "bmi1" "bmi2") {
        // SAFETY: (1) all features that `v4` is compiled for were just found.
        return unsafe { v4(kernel) };
    }
    if has!("avx2" "fma" "bmi1" "bmi2") {
        // SAFETY: (1) all features that `v3` is compiled for were just found.
        return unsafe { v3(kernel) };
    }
    kernel.run()
}

/// Runs a kernel. On other kinds of processors, those vectors that all of them have are the widest that matter; and in
/// debug builds none do, but compiling each kernel three times takes time.
#[cfg(not(all(target_arch = "x86_64", not(miri), not(debug_assertions))))]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
