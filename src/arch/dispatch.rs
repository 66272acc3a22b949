//! Loops compiled for the widest vectors that the processor has, whatever the crate was compiled for: adding up memory
//! as fast as it can be read takes more than the vectors that all processors of a kind have.
//!
//! # Safety
//! 1. A function compiled for a feature of the processor is called only where the processor was seen to have it.
#![allow(unsafe_code)]

/// A loop worth compiling several times. Everything it calls has to be inlined into it to gain from that.
pub(crate) trait Kernel {
    type Output;

    /// Implement it with `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Runs a loop, compiled for what this processor has.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn dispatch<L: Kernel>(work: L) -> L::Output {
    /// x86-64-v4, as far as loops over numbers need it.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
    fn v4<L: Kernel>(work: L) -> L::Output {
        work.run()
    }
    /// x86-64-v3, as far.
    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    fn v3<L: Kernel>(work: L) -> L::Output {
        work.run()
    }
    macro_rules! has {
        ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
    }
    if has!("avx512f" "avx512bw" "avx512dq" "avx512vl" "avx2" "fma" "bmi1" "bmi2") {
        // SAFETY: (1) all features that `v4` is compiled for were just seen.
        return unsafe { v4(work) };
    }
    if has!("avx2" "fma" "bmi1" "bmi2") {
        // SAFETY: (1) all features that `v3` is compiled for were just seen.
        return unsafe { v3(work) };
    }
    work.run()
}

/// Runs a loop. Elsewhere the vectors that all processors of a kind have are the widest that matter.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(crate) fn dispatch<L: Kernel>(work: L) -> L::Output {
    work.run()
}
