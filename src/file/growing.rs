//! A mark on a file while rows are added to it: by it, what an append that was killed left behind is told from what
//! somebody else put there.
//!
//! It is an attribute, so that no byte of the file says more than NumPy would have written.

use std::fs::File;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const NAME: &str = "user.ndarray-mmap.growing";

/// Where there are no attributes, nothing will be told apart.
pub(super) fn mark(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let _ = rustix::fs::fsetxattr(file, NAME, b"", rustix::fs::XattrFlags::empty());
    let _ = file;
}

pub(super) fn unmark(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let _ = rustix::fs::fremovexattr(file, NAME);
    let _ = file;
}

pub(super) fn is_marked(file: &File) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    return rustix::fs::fgetxattr(file, NAME, &mut [0_u8; 0]).is_ok();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = file;
        false
    }
}
