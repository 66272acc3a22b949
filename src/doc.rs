//! Longer answers than the documentation of a function has room for.

/// Durability: what survives a killed process, and what a power cut.
pub mod durability {
    #![doc = include_str!("doc/DURABILITY.md")]
}

/// Platforms: what each promise means on Linux, macOS and Windows, on network file systems and tmpfs, on 32 bits.
pub mod platform {
    #![doc = include_str!("doc/PLATFORM.md")]
}

/// Architecture: the layers, what soundness rests on, the order of durable steps, how a fault travels.
pub mod architecture {
    #![doc = include_str!("doc/ARCHITECTURE.md")]
}

/// Tuning: every constant that speed depends on, its reason, and the measurement behind it.
pub mod tuning {
    #![doc = include_str!("doc/TUNING.md")]
}

#[cfg(doctest)]
#[doc = include_str!("doc/REFUSED.md")]
mod refused {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
