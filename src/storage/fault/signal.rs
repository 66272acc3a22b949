//! The signal handler: finds the slot of a fault, and calls the previous handler for all other signals.
//!
//! # Safety
//! Those of [`fault`](super); [`on_signal`] and all that it calls do only what demand 3 allows.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::atomic_ref::AtomicRef;
use super::registry;
use crate::sys::signals::{Action, Cause, Info, MISSING_PAGE, errno, raise, set_errno};

/// Whether our handler is installed, and has not removed itself. Set under the lock of the registry.
static HANDLING: AtomicBool = AtomicBool::new(false);

/// What happened at each of the signals before.
static PREVIOUS: [AtomicRef<Action>; MISSING_PAGE.len()] = [const { AtomicRef::none() }; MISSING_PAGE.len()];

/// Whether the previous handler removed itself, and left the default action behind.
static PREVIOUS_GONE: [AtomicBool; MISSING_PAGE.len()] = [const { AtomicBool::new(false) }; MISSING_PAGE.len()];

/// Installs the handler once for the process, and again after the [default action](default_action) did not end it. A
/// handler that is installed later than ours has precedence, and has to call ours.
pub(super) fn ensure_handled() -> io::Result<()> {
    if HANDLING.load(Ordering::Acquire) {
        return Ok(());
    }
    let _one_at_a_time = registry::lock();
    if !HANDLING.load(Ordering::Acquire) {
        for (&signal, previous) in MISSING_PAGE.iter().zip(&PREVIOUS) {
            install(signal, previous)?;
        }
        HANDLING.store(true, Ordering::Release);
    }
    Ok(())
}

fn install(signal: c_int, previous: &AtomicRef<Action>) -> io::Result<()> {
    let old = Action::installed(signal).ok_or_else(io::Error::last_os_error)?;
    if previous.load().is_none() {
        // Before ours is installed, so that it finds what to call.
        previous.store(Some(Box::leak(Box::new(old))));
    } else if !old.is_default() {
        // Ours is still there, or another one that may well call it: if ours called that one in turn, neither would ever
        // return.
        return Ok(());
    }
    if install_ours(signal) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn install_ours(signal: c_int) -> bool {
    // SAFETY: (3)
    unsafe { Action::of(on_signal).install(signal) }
}

extern "C" fn on_signal(signal: c_int, info: *mut Info, context: *mut c_void) {
    let before = errno();
    // SAFETY: the system passes one for the duration of the call, since `Action::of` asks for it.
    let cause = Cause::of(unsafe { &*info });
    let handled = match cause {
        Cause::MissingPage(address) => handle(address, false),
        Cause::BrokenPage(address) => handle(address, true),
        Cause::Instruction | Cause::Message => false,
    };
    if !handled {
        chain_previous(signal, info, context, cause);
    }
    set_errno(before);
}

/// Returns whether the address is in a mapping of a guarded call, and the instruction can be executed again.
fn handle(address: usize, broken: bool) -> bool {
    for slot in registry::slots() {
        if slot.active.load(Ordering::Acquire) > 0
            && slot.is_of_this_process()
            && let Some(mapped) = slot.mapped()
            && mapped.pages.contains(address)
        {
            return slot.handle(mapped, address, broken);
        }
    }
    false
}

/// Does what would have been done without our handler.
fn chain_previous(signal: c_int, info: *mut Info, context: *mut c_void, cause: Cause) {
    let place = MISSING_PAGE.iter().position(|&s| s == signal);
    let previous = place.filter(|&place| !PREVIOUS_GONE[place].load(Ordering::Acquire));
    let action = previous.and_then(|place| PREVIOUS[place].load()).unwrap_or(&Action::DEFAULT);
    let in_place = Action::installed(signal);
    if action.is_ignored() && cause == Cause::Message {
        return;
    }
    // The system does not let a process ignore a fault.
    if action.is_ignored() || action.is_default() {
        return default_action(signal, cause);
    }
    // SAFETY: it was installed when ours replaced it, and is a handler. These are the arguments of this signal.
    unsafe { action.call(signal, info, context) };
    if let Some((place, in_place)) = place.zip(in_place) {
        keep_guarding(signal, &PREVIOUS_GONE[place], &in_place, cause);
    }
}

/// Keeps our handler in the chain. A handler that is called for a signal that it does not know may have replaced what is
/// `in_place`. Rust's own does: it installs the default action and returns, so that a fault occurs again and ends the process.
///
/// A message does not occur again. Then what was in place is installed again, our handler or one that leads to it, with the
/// default action as the previous one: the next such signal ends the process, as it would without us.
fn keep_guarding(signal: c_int, gone: &AtomicBool, in_place: &Action, cause: Cause) {
    match Action::installed(signal) {
        Some(now) if now.is_default() && cause == Cause::Message => {
            gone.store(true, Ordering::Release);
            if in_place.is_default() {
                // Another thread is here at the same time.
                install_ours(signal);
            } else {
                // SAFETY: it was in place before, and its handler was not unloaded meanwhile: it may be running.
                unsafe { in_place.install(signal) };
            }
        }
        Some(now) if now.has_handler_of(in_place) && !now.is_default() => {}
        // As after the default action: if the process goes on, the next guarded call installs ours again.
        _ => HANDLING.store(false, Ordering::Release),
    }
}

/// Ends the process, as the default action does. When our handler returns, the instruction faults again, so that a core dump
/// shows it rather than our handler.
///
/// If it succeeds instead, because the page has come back meanwhile, the process goes on, and the next guarded call installs
/// our handler again. Calls that are running are no longer guarded.
fn default_action(signal: c_int, cause: Cause) {
    // SAFETY: it is no handler.
    unsafe { Action::DEFAULT.install(signal) };
    // Afterwards, so that no thread takes our handler, which was still installed, for what will be.
    HANDLING.store(false, Ordering::Release);
    if cause == Cause::Message {
        raise(signal);
    }
}
