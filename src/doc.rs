//! Longer answers than the documentation of a function has room for.

/// Durability: what survives a killed process, and what a power cut.
pub mod durability {
    #![doc = include_str!("doc/DURABILITY.md")]
}

/// Platforms: what each promise means on Linux, macOS and Windows, on network file systems and tmpfs, on 32 bits.
pub mod platform {
    #![doc = include_str!("doc/PLATFORM.md")]
}

#[cfg(doctest)]
#[doc = include_str!("doc/REFUSED.md")]
mod refused {}
