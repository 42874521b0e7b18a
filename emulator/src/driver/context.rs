//! Initialisation, the device by its number, and contexts.

use super::attributes::DRIVER_VERSION;
use super::entry::{Host, Out, exports};
use super::error::{Code, Result, describe};
use super::state::{Driver, Handle, with_context_stack};

use std::cell::Cell;
use std::ffi::c_char;

/// A context: what belongs to it dies with it, and a fault in it makes every call in it fail.
pub(crate) struct Context {
    pub(crate) flags: u32,
    pub(crate) cache_preference: u32,
    pub(crate) limits: [usize; LIMITS],
    /// The first fault of a kernel in this context.
    pub(crate) fault: Option<Code>,
    /// Whether a call has told the program of it.
    pub(crate) fault_told: Cell<bool>,
}

/// Limits of a context that can be set and read back.
const LIMITS: usize = 7;
/// Stack of a thread, `printf` buffer, heap, depth, pending launches, L2 fetch, persisting L2: as a device starts with.
const INITIAL_LIMITS: [usize; LIMITS] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

impl Driver {
    fn create_context(&mut self, flags: u32) -> Handle {
        self.contexts.insert(Context {
            flags,
            cache_preference: 0,
            limits: INITIAL_LIMITS,
            fault: None,
            fault_told: Cell::new(false),
        })
    }

    /// Ends a context and everything in it, as a device does.
    fn destroy_context(&mut self, context: Handle) -> Result<()> {
        self.contexts.remove(context).map_err(|_| Code::INVALID_CONTEXT)?;
        let device = self.device()?;
        self.captures.retain(|_, capture| capture.context != context);
        self.streams.retain(|stream| stream.context != context);
        self.thread_streams.retain(|&(owner, _), _| owner != context);
        self.events.retain(|event| event.context != context);
        self.executables.retain(|graph| graph.context != context);
        self.graphs.retain(|graph| graph.context != context);
        self.functions.retain(|function| function.module.context != context);
        let modules: Vec<_> =
            self.modules.iter().filter(|(_, m)| m.context == context).map(|(h, _)| h).collect();
        for module in modules {
            self.modules.remove(module)?.unload(&device);
        }
        self.allocations.free_all_of(context, &device);
        Ok(())
    }

    fn current(&self) -> Option<Handle> {
        with_context_stack(|stack| stack.last().copied())
    }
}

exports! {
    /// Makes the device. Everything else fails before.
    fn cuInit(flags: u32) [driver] {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        driver.initialise()
    }

    /// Version of the driver API.
    fn cuDriverGetVersion(version: Out<i32>) [] {
        version.set(DRIVER_VERSION)
    }

    /// Name of a result number.
    fn cuGetErrorName(number: u32, name: Out<*const c_char>) [] {
        let (text, _) = describe(number).ok_or(Code::INVALID_VALUE)?;
        name.set(text.as_ptr())
    }

    /// Description of a result number.
    fn cuGetErrorString(number: u32, description: Out<*const c_char>) [] {
        let (_, text) = describe(number).ok_or(Code::INVALID_VALUE)?;
        description.set(text.as_ptr())
    }

    /// Number of devices: one.
    fn cuDeviceGetCount(count: Out<i32>) [driver] {
        driver.device()?;
        count.set(1)
    }

    /// The device of an ordinal.
    fn cuDeviceGet(device: Out<i32>, ordinal: i32) [driver] {
        driver.check_device(ordinal)?;
        device.set(ordinal)
    }

    /// Retains the primary context, making it on the first call.
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) [driver] {
        driver.check_device(device)?;
        let (handle, count) = match driver.primary {
            Some((handle, count)) => (handle, count + 1),
            None => (driver.create_context(0), 1),
        };
        driver.primary = Some((handle, count));
        context.set(handle)
    }

    /// Releases the primary context; the last release destroys it.
    fn cuDevicePrimaryCtxRelease_v2(device: i32) [driver] {
        driver.check_device(device)?;
        match driver.primary.ok_or(Code::INVALID_CONTEXT)? {
            (handle, 1) => {
                driver.primary = None;
                driver.destroy_context(handle)
            }
            (handle, count) => {
                driver.primary = Some((handle, count - 1));
                Ok(())
            }
        }
    }

    /// Destroys the primary context whoever retains it, and its fault with it; the next retain makes a new one.
    fn cuDevicePrimaryCtxReset_v2(device: i32) [driver] {
        driver.check_device(device)?;
        match driver.primary.take() {
            Some((handle, _)) => driver.destroy_context(handle),
            None => Ok(()),
        }
    }

    /// Flags of the primary context, and whether it exists.
    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) [driver] {
        driver.check_device(device)?;
        let context = driver.primary.map(|(handle, _)| driver.contexts.get(handle)).transpose()?;
        flags.set(context.map_or(0, |context| context.flags))?;
        active.set(i32::from(context.is_some()))
    }

    /// Makes a context of its own and pushes it.
    fn cuCtxCreate_v4(context: Out<Handle>, parameters: Host, flags: u32, device: i32) [driver] {
        driver.check_device(device)?;
        if !parameters.0.is_null() {
            return Err(Code::NOT_SUPPORTED);
        }
        let handle = driver.create_context(flags);
        with_context_stack(|stack| stack.push(handle));
        context.set(handle)
    }

    /// Makes a context of its own and pushes it.
    fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) [driver] {
        driver.check_device(device)?;
        let handle = driver.create_context(flags);
        with_context_stack(|stack| stack.push(handle));
        context.set(handle)
    }

    /// Destroys a context with everything in it.
    fn cuCtxDestroy_v2(context: Handle) [driver] {
        driver.destroy_context(context)?;
        with_context_stack(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        Ok(())
    }

    /// The calling thread's context, or null.
    fn cuCtxGetCurrent(context: Out<Handle>) [driver] {
        driver.device()?;
        context.set(driver.current().unwrap_or(0))
    }

    /// Replaces the calling thread's context; null takes it away.
    fn cuCtxSetCurrent(context: Handle) [driver] {
        driver.device()?;
        if context != 0 {
            driver.contexts.get(context).map_err(|_| Code::INVALID_CONTEXT)?;
        }
        with_context_stack(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    }

    /// Pushes a context on the calling thread's stack.
    fn cuCtxPushCurrent_v2(context: Handle) [driver] {
        driver.contexts.get(context).map_err(|_| Code::INVALID_CONTEXT)?;
        with_context_stack(|stack| stack.push(context));
        Ok(())
    }

    /// Pops the calling thread's context.
    fn cuCtxPopCurrent_v2(context: Out<Handle>) [driver] {
        driver.device()?;
        let popped = with_context_stack(Vec::pop).ok_or(Code::INVALID_CONTEXT)?;
        context.set_if_wanted(popped)
    }

    /// The device of the current context.
    fn cuCtxGetDevice(device: Out<i32>) [driver] {
        driver.current().ok_or(Code::INVALID_CONTEXT)?;
        device.set(0)
    }

    /// Flags of the current context.
    fn cuCtxGetFlags(flags: Out<u32>) [driver] {
        let context = driver.context()?;
        flags.set(driver.contexts.get(context)?.flags)
    }

    /// Sets the flags of the current context; they choose how a wait waits, which here is not at all.
    fn cuCtxSetFlags(flags: u32) [driver] {
        let context = driver.context()?;
        driver.contexts.get_mut(context)?.flags = flags;
        Ok(())
    }

    /// Version of the API that the context was made for.
    fn cuCtxGetApiVersion(_context: Handle, version: Out<u32>) [driver] {
        driver.context()?;
        version.set(3020)
    }

    /// A limit of the current context.
    fn cuCtxGetLimit(value: Out<usize>, limit: u32) [driver] {
        let context = driver.context()?;
        let limits = driver.contexts.get(context)?.limits;
        value.set(*limits.get(limit as usize).ok_or(Code::NOT_SUPPORTED)?)
    }

    /// Sets a limit of the current context. The emulator reads none of them.
    fn cuCtxSetLimit(limit: u32, value: usize) [driver] {
        let context = driver.context()?;
        let limits = &mut driver.contexts.get_mut(context)?.limits;
        *limits.get_mut(limit as usize).ok_or(Code::NOT_SUPPORTED)? = value;
        Ok(())
    }

    /// Preferred split between first-level cache and shared memory.
    fn cuCtxGetCacheConfig(preference: Out<u32>) [driver] {
        let context = driver.context()?;
        preference.set(driver.contexts.get(context)?.cache_preference)
    }

    /// Sets the preferred split between first-level cache and shared memory.
    fn cuCtxSetCacheConfig(preference: u32) [driver] {
        let context = driver.context()?;
        driver.contexts.get_mut(context)?.cache_preference = preference;
        Ok(())
    }

    /// Waits for all work of the current context.
    fn cuCtxSynchronize() [driver] {
        let context = driver.context()?;
        driver.refuse_wait_while_capturing(context)
    }

    /// Starts a profiler, of which there is none.
    fn cuProfilerStart() [driver] {
        driver.context().map(drop)
    }

    /// Stops a profiler, of which there is none.
    fn cuProfilerStop() [driver] {
        driver.context().map(drop)
    }
}
