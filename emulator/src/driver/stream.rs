//! Streams. Work is done when it is ordered, so a stream has no queue; what it does have is a capture.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;

use super::entry::{Out, exports};
use super::error::{Code, Result};
use super::graph::Operation;
use super::state::{Driver, Handle, driver, thread_number};

/// `CU_STREAM_LEGACY`; the null handle means the same.
const LEGACY: Handle = 1;
/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: Handle = 2;
/// `CU_STREAM_NON_BLOCKING`: the stream does not wait for the legacy stream.
const NON_BLOCKING: u32 = 1;
/// Priorities from the least to the greatest.
const PRIORITIES: (i32, i32) = (0, -5);

/// How far a captured stream has come: for each stream of the capture, how many operations of it come before.
pub(crate) type Clock = BTreeMap<Handle, usize>;

/// A stream.
pub(crate) struct Stream {
    pub(crate) context: Handle,
    flags: u32,
    priority: i32,
    /// The capture that the stream takes part in, and what its next operation comes after.
    pub(crate) capture: Option<(u64, Clock)>,
}

impl Stream {
    /// Whether the legacy stream waits for it and it for the legacy stream.
    pub(crate) fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }
}

thread_local! {
    static INSIDE_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs a function that `cuLaunchHostFunc` was given; such a function may not call CUDA.
pub(crate) fn inside_host_function() -> bool {
    INSIDE_HOST_FUNCTION.with(Cell::get)
}

/// A function of the program with the argument it wants.
#[derive(Clone, Copy)]
pub(crate) struct HostCall {
    function: extern "C" fn(*mut c_void),
    argument: usize,
}

impl HostCall {
    /// Calls the function. The driver's state must not be locked.
    pub(crate) fn call(self) {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                INSIDE_HOST_FUNCTION.with(|inside| inside.set(false));
            }
        }
        INSIDE_HOST_FUNCTION.with(|inside| inside.set(true));
        let _leave = Leave;
        (self.function)(std::ptr::with_exposed_provenance_mut(self.argument));
    }
}

impl Driver {
    /// The object behind a stream handle in the current context; `None` is the legacy stream.
    pub(crate) fn stream(&mut self, handle: Handle) -> Result<Option<Handle>> {
        let context = self.context()?;
        self.stream_in(context, handle)
    }

    /// The object behind a stream handle in a context; `None` is the legacy stream.
    pub(crate) fn stream_in(&mut self, context: Handle, handle: Handle) -> Result<Option<Handle>> {
        match handle {
            0 | LEGACY => Ok(None),
            PER_THREAD => {
                let key = (context, thread_number());
                if let Some(&stream) = self.thread_streams.get(&key) {
                    return Ok(Some(stream));
                }
                let stream = self.streams.insert(Stream { context, flags: 0, priority: 0, capture: None });
                self.thread_streams.insert(key, stream);
                Ok(Some(stream))
            }
            _ if self.streams.get(handle)?.context != context => Err(Code::INVALID_CONTEXT),
            _ => Ok(Some(handle)),
        }
    }

    /// The capture that a stream takes part in; an error if that capture failed.
    pub(crate) fn capture_of(&self, stream: Option<Handle>) -> Result<Option<u64>> {
        let Some(stream) = stream else { return Ok(None) };
        let Some((id, _)) = self.streams.get(stream)?.capture else { return Ok(None) };
        match self.captures.get(&id) {
            Some(capture) if !capture.invalid => Ok(Some(id)),
            _ => Err(Code::STREAM_CAPTURE_INVALIDATED),
        }
    }

    /// Refuses to wait for a stream that captures, which also ends the capture's hopes: its work was never ordered.
    fn refuse_wait_for(&mut self, stream: Option<Handle>) -> Result<()> {
        match self.capture_of(stream)? {
            Some(id) => self.invalidate(id, Code::STREAM_CAPTURE_UNSUPPORTED),
            None => Ok(()),
        }
    }

    fn create_stream(&mut self, flags: u32, priority: i32) -> Result<Handle> {
        let context = self.context()?;
        if flags & !NON_BLOCKING != 0 {
            return Err(Code::INVALID_VALUE);
        }
        let priority = priority.clamp(PRIORITIES.1, PRIORITIES.0);
        Ok(self.streams.insert(Stream { context, flags, priority, capture: None }))
    }
}

exports! {
    /// Makes a stream.
    fn cuStreamCreate(stream: Out<Handle>, flags: u32) [driver] {
        stream.set(driver.create_stream(flags, 0)?)
    }

    /// Makes a stream of a priority, which the emulator keeps and does not heed.
    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) [driver] {
        stream.set(driver.create_stream(flags, priority)?)
    }

    /// Destroys a stream. A capture begun in it fails.
    fn cuStreamDestroy_v2(stream: Handle) [driver] {
        driver.context()?;
        let removed = driver.streams.remove(stream)?;
        if let Some((id, _)) = removed.capture
            && let Some(capture) = driver.captures.get_mut(&id)
        {
            capture.invalid = true;
        }
        Ok(())
    }

    /// Waits for the work of a stream, which is done already.
    fn cuStreamSynchronize(stream: Handle) [driver] {
        let stream = driver.stream(stream)?;
        driver.refuse_wait_for(stream)
    }

    /// Whether the work of a stream is done: always.
    fn cuStreamQuery(stream: Handle) [driver] {
        let stream = driver.stream(stream)?;
        driver.refuse_wait_for(stream)
    }

    /// The context of a stream.
    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) [driver] {
        let current = driver.context()?;
        let stream = driver.stream(stream)?;
        context.set(stream.map_or(Ok(current), |stream| driver.streams.get(stream).map(|s| s.context))?)
    }

    /// Flags that the stream was made with.
    fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) [driver] {
        let stream = driver.stream(stream)?;
        flags.set(stream.map_or(Ok(0), |stream| driver.streams.get(stream).map(|s| s.flags))?)
    }

    /// Priority that the stream was made with.
    fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) [driver] {
        let stream = driver.stream(stream)?;
        priority.set(stream.map_or(Ok(0), |stream| driver.streams.get(stream).map(|s| s.priority))?)
    }

    /// Least and greatest priority.
    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) [driver] {
        driver.context()?;
        least.set_if_wanted(PRIORITIES.0)?;
        greatest.set_if_wanted(PRIORITIES.1)
    }

    /// Makes later work of a stream wait for an event.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: u32) [driver] {
        driver.wait_event(stream, event)
    }

    /// Calls a function of the program in the order of a stream.
    fn cuLaunchHostFunc(stream: Handle, function: Option<extern "C" fn(*mut c_void)>, argument: *mut c_void) [] {
        let function = function.ok_or(Code::INVALID_VALUE)?;
        let call = HostCall { function, argument: argument.expose_provenance() };
        let captured = {
            let mut driver = driver();
            let stream = driver.stream(stream)?;
            driver.capture(stream, || Operation::Call(call))?
        };
        if !captured {
            call.call();
        }
        Ok(())
    }
}
