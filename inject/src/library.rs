//! The Rust side of the library that is loaded before libc (`inject.c`).

use std::ffi::{CStr, c_char, c_int, c_void};

/// Which call must fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    /// Which call of that name, counted from 1.
    pub nth: i32,
    pub errno: i32,
    pub kind: Kind,
}

/// A system call, as its index in the library's list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call(c_int);

/// `enum kind` of the library, where each is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fail,
    After,
    Half,
    Short,
    From,
    Kill,
}

impl Kind {
    pub fn name(self) -> &'static str {
        ["fail", "after", "half", "short", "from", "kill"][self as usize]
    }
}

#[derive(Clone, Copy)]
pub struct Library {
    name: unsafe extern "C" fn(c_int) -> *const c_char,
    deny: unsafe extern "C" fn(c_int, c_int),
    pretend_syncs: unsafe extern "C" fn(c_int),
    arm: unsafe extern "C" fn(c_int, c_int, c_int, c_int),
    disarm: unsafe extern "C" fn() -> c_int,
    seen: unsafe extern "C" fn(c_int) -> c_int,
}

impl Library {
    /// `None` if this process was not started with the library.
    pub fn find() -> Option<Self> {
        // SAFETY: each name is that of a function of the library, which has this type there.
        unsafe {
            Some(Self {
                name: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> *const c_char>(symbol(
                    c"inject_name",
                )?),
                deny: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, c_int)>(symbol(c"inject_deny")?),
                pretend_syncs: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(symbol(
                    c"inject_pretend_syncs",
                )?),
                arm: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, c_int, c_int, c_int)>(symbol(
                    c"inject_arm",
                )?),
                disarm: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(symbol(c"inject_disarm")?),
                seen: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(symbol(c"inject_seen")?),
            })
        }
    }

    pub fn calls(self) -> impl Iterator<Item = Call> {
        (0..).map(Call).take_while(move |call| !self.name_pointer(*call).is_null())
    }

    pub fn call(self, name: &str) -> Call {
        self.calls().find(|&call| self.name(call) == name).unwrap_or_else(|| panic!("the library has no call {name}"))
    }

    pub fn name(self, call: Call) -> &'static str {
        let name = self.name_pointer(call);
        assert!(!name.is_null());
        // SAFETY: the library's names are constant C strings.
        unsafe { CStr::from_ptr(name) }.to_str().expect("names are ASCII")
    }

    fn name_pointer(self, call: Call) -> *const c_char {
        // SAFETY: it may be called with any number.
        unsafe { (self.name)(call.0) }
    }

    /// Makes the call fail whenever it is made while armed. An `errno` of 0 ends that.
    pub fn deny(self, call: Call, errno: i32) {
        // SAFETY: `call` is one of the library's.
        unsafe { (self.deny)(call.0, errno) }
    }

    /// Sets whether calls that wait for the disk succeed at once.
    pub fn pretend_syncs(self, pretend: bool) {
        // SAFETY: it sets a flag.
        unsafe { (self.pretend_syncs)(pretend.into()) }
    }

    /// Starts counting calls, and arms the fault if there is one.
    pub fn arm(self, fault: Option<Fault>) {
        let (call, nth, errno, kind) = fault.map_or((-1, 0, 0, 0), |f| (f.call.0, f.nth, f.errno, f.kind as c_int));
        // SAFETY: `call` is one of the library's, or negative, which means none.
        unsafe { (self.arm)(call, nth, errno, kind) }
    }

    /// Stops counting. Returns whether the fault happened.
    pub fn disarm(self) -> bool {
        // SAFETY: it may be called at any time.
        unsafe { (self.disarm)() != 0 }
    }

    /// How often a call was made since the library was armed.
    pub fn seen(self, call: Call) -> i32 {
        // SAFETY: `call` is one of the library's.
        unsafe { (self.seen)(call.0) }
    }
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: it looks up a name, and runs no code of what it finds.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
