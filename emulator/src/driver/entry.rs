//! The C boundary: typed pointer arguments, and the shell around every exported function.

use std::ffi::{CStr, c_char, c_void};

use super::error::{Code, Result, SUCCESS};
use super::state::{Driver, driver};

/// A pointer through which a driver function gives a value back.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes `value`; a null pointer is an invalid value.
    pub(crate) fn set(&self, value: T) -> Result<()> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, and the driver API demands of its caller a pointer to writable memory for this type; only
        // its alignment is not relied on.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes `value` where the caller wants it: these pointers may be null.
    pub(crate) fn set_if_wanted(&self, value: T) -> Result<()> {
        if self.0.is_null() { Ok(()) } else { self.set(value) }
    }
}

/// A pointer to data of the host program, or to a NUL-terminated name.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Host(pub(crate) *const c_void);

impl Host {
    /// The `len` bytes behind the pointer.
    pub(crate) fn bytes(&self, len: usize) -> Result<&[u8]> {
        if len == 0 {
            return Ok(&[]);
        }
        if self.0.is_null() || len > isize::MAX as usize {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null and not longer than an object can be; the driver API demands of its caller that the bytes
        // it names are readable until the operation has completed.
        Ok(unsafe { std::slice::from_raw_parts(self.0.cast(), len) })
    }

    /// The name behind the pointer.
    pub(crate) fn name(&self) -> Result<&str> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, and the driver API demands of its caller a NUL-terminated string.
        unsafe { CStr::from_ptr(self.0.cast::<c_char>()) }.to_str().map_err(|_| Code::INVALID_VALUE)
    }

    /// The `index`-th of an array of values of type `T` that starts at the pointer.
    pub(crate) fn item<T: Copy>(&self, index: usize) -> Result<T> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, and the driver API demands of its caller an array with an item at every index asked for.
        Ok(unsafe { self.0.cast::<T>().add(index).read_unaligned() })
    }
}

/// A pointer to memory of the host program that a driver function fills.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct HostMut(pub(crate) *mut c_void);

impl HostMut {
    /// Lends the `len` bytes behind the pointer.
    pub(crate) fn with<R>(self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        if len == 0 {
            return Ok(fill(&mut []));
        }
        if self.0.is_null() || len > isize::MAX as usize {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null and not longer than an object can be; the driver API demands of its caller that the bytes
        // it names are writable, and not used by it, until the operation has completed.
        Ok(fill(unsafe { std::slice::from_raw_parts_mut(self.0.cast(), len) }))
    }

    /// Copies `bytes` to where the pointer points.
    pub(crate) fn put(self, bytes: &[u8]) -> Result<()> {
        self.with(bytes.len(), |to| to.copy_from_slice(bytes))
    }
}

/// Runs the body of an exported function on the driver's state. No panic crosses the boundary: it is printed and
/// becomes `CUDA_ERROR_UNKNOWN`.
pub(crate) fn run(name: &str, body: impl FnOnce(&mut Driver) -> Result<()>) -> u32 {
    run_unlocked(name, || body(&mut driver()))
}

/// [`run`] for the functions that call back into the program, which therefore take the state when they need it.
pub(crate) fn run_unlocked(name: &str, body: impl FnOnce() -> Result<()>) -> u32 {
    if super::stream::inside_host_function() {
        return Code::NOT_PERMITTED.0;
    }
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(code)) => code.0,
        Err(_) => {
            eprintln!("emulator: {name} panicked; the message is above");
            Code::UNKNOWN.0
        }
    }
}

/// Defines exported driver functions. The body of `fn name(arguments) [driver] { … }` runs with the driver's state
/// locked, that of `[]` without it. Also defines `address`, which `cuGetProcAddress` asks.
macro_rules! exports {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) [$($driver:ident)?] $body:block)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            #[allow(non_snake_case)]
            pub extern "C" fn $name($($argument: $type),*) -> u32 {
                $crate::driver::entry::exports!(@run $name [$($driver)?] $body)
            }
        )*

        /// Address of the function of this name, if this file has it.
        pub(super) fn address(name: &str) -> Option<usize> {
            match name {
                $(stringify!($name) => Some($name as *const () as usize),)*
                _ => None,
            }
        }
    };
    (@run $name:ident [$driver:ident] $body:block) => {
        $crate::driver::entry::run(stringify!($name), |$driver| $body)
    };
    (@run $name:ident [] $body:block) => {
        $crate::driver::entry::run_unlocked(stringify!($name), || $body)
    };
}

pub(crate) use exports;
