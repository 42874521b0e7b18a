//! What the driver holds: one device, and every object it gave a handle for.
//!
//! A handle is a number that was never given before and is looked up, not followed, so a stale or invented one is an
//! error and nothing worse.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Device;

use super::context::Context;
use super::error::{Code, Result};
use super::event::Event;
use super::graph::{Capture, Graph};
use super::memory::Allocations;
use super::module::{Function, LoadedModule};
use super::stats::Statistics;
use super::stream::Stream;

/// Number that stands for an object towards the program; as wide as a pointer.
pub(crate) type Handle = usize;

/// Objects of one kind by their handles.
pub(crate) struct Handles<T>(BTreeMap<Handle, T>);

impl<T> Handles<T> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Keeps `object` and gives its handle, distinct from every handle of every kind before.
    pub(crate) fn insert(&mut self, object: T) -> Handle {
        // Small numbers stay free: 0, 1 and 2 are the null handle and the two default streams.
        static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
        let handle = NEXT.fetch_add(0x10, Ordering::Relaxed);
        self.0.insert(handle, object);
        handle
    }

    pub(crate) fn get(&self, handle: Handle) -> Result<&T> {
        self.0.get(&handle).ok_or(Code::INVALID_HANDLE)
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Result<&mut T> {
        self.0.get_mut(&handle).ok_or(Code::INVALID_HANDLE)
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Result<T> {
        self.0.remove(&handle).ok_or(Code::INVALID_HANDLE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.0.iter().map(|(&handle, object)| (handle, object))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut T)> {
        self.0.iter_mut().map(|(&handle, object)| (handle, object))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|_, object| keep(object));
    }
}

/// The driver.
pub(crate) struct Driver {
    device: Option<Arc<Device>>,
    pub(crate) contexts: Handles<Context>,
    /// The primary context and how often it is retained.
    pub(crate) primary: Option<(Handle, usize)>,
    pub(crate) streams: Handles<Stream>,
    /// The default stream of a thread in a context, where it was used.
    pub(crate) thread_streams: BTreeMap<(Handle, usize), Handle>,
    pub(crate) events: Handles<Event>,
    pub(crate) modules: Handles<Arc<LoadedModule>>,
    pub(crate) functions: Handles<Function>,
    pub(crate) captures: BTreeMap<u64, Capture>,
    pub(crate) next_capture: u64,
    pub(crate) graphs: Handles<Graph>,
    pub(crate) executables: Handles<Graph>,
    pub(crate) allocations: Allocations,
    pub(crate) statistics: Statistics,
}

/// The driver, locked. A thread that panicked inside left handles that are still good, so its poison is ignored.
pub(crate) fn driver() -> MutexGuard<'static, Driver> {
    static DRIVER: Mutex<Driver> = Mutex::new(Driver {
        device: None,
        contexts: Handles::new(),
        primary: None,
        streams: Handles::new(),
        thread_streams: BTreeMap::new(),
        events: Handles::new(),
        modules: Handles::new(),
        functions: Handles::new(),
        captures: BTreeMap::new(),
        next_capture: 1,
        graphs: Handles::new(),
        executables: Handles::new(),
        allocations: Allocations::new(),
        statistics: Statistics::new(),
    });
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Contexts pushed by this thread, the current one last.
    static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// A number of the calling thread that no other thread has.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// The calling thread's stack of contexts.
pub(crate) fn with_context_stack<R>(use_it: impl FnOnce(&mut Vec<Handle>) -> R) -> R {
    CURRENT.with(|stack| use_it(&mut stack.borrow_mut()))
}

impl Driver {
    /// Makes the device on the first call.
    pub(crate) fn initialise(&mut self) -> Result<()> {
        if self.device.is_none() {
            let switches = super::switches::read().map_err(|message| {
                eprintln!("emulator: {message}");
                Code::INVALID_VALUE
            })?;
            if switches.statistics {
                super::stats::print_at_exit();
            }
            self.device = Some(Arc::new(Device::new(switches.options)));
        }
        Ok(())
    }

    /// The device, once `cuInit` was called.
    pub(crate) fn device(&self) -> Result<Arc<Device>> {
        self.device.clone().ok_or(Code::NOT_INITIALIZED)
    }

    /// Checks a device number: there is one device, number 0.
    pub(crate) fn check_device(&self, number: i32) -> Result<()> {
        self.device()?;
        if number == 0 { Ok(()) } else { Err(Code::INVALID_DEVICE) }
    }

    /// The calling thread's current context, if it is still usable: a context in which a kernel faulted gives that
    /// fault's code for everything, until it is destroyed.
    pub(crate) fn context(&self) -> Result<Handle> {
        let (handle, context) = self.current_context()?;
        let Some(code) = context.fault else { return Ok(handle) };
        context.fault_told.set(true);
        Err(code)
    }

    /// [`context`](Self::context) for calls that only order work behind other work. A device would still be running
    /// the kernel, so they do not tell of a fault first.
    pub(crate) fn context_to_order(&self) -> Result<Handle> {
        let (handle, context) = self.current_context()?;
        match context.fault {
            Some(code) if context.fault_told.get() => Err(code),
            _ => Ok(handle),
        }
    }

    fn current_context(&self) -> Result<(Handle, &Context)> {
        self.device()?;
        let current = with_context_stack(|stack| stack.last().copied()).ok_or(Code::INVALID_CONTEXT)?;
        let context = self.contexts.get(current).map_err(|_| Code::CONTEXT_IS_DESTROYED)?;
        Ok((current, context))
    }
}
