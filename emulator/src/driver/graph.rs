//! Operations of streams, and graphs: operations captured instead of done, to be done later as often as one likes.
//!
//! A capture keeps its operations in the order of the program. Each depends only on earlier ones, so doing them in that
//! order respects every dependency of the graph.

use std::sync::Arc;

use super::entry::{Host, HostMut, Out, exports};
use super::error::{Code, Result};
use super::launch::Launch;
use super::state::{Driver, Handle, driver, thread_number};
use super::stream::{Clock, HostCall};

/// Work of a stream. Host memory is kept by its address, as a device keeps it: it is read or written when the work is
/// done.
#[derive(Clone)]
pub(crate) enum Operation {
    Launch(Launch),
    CopyIn { to: u64, from: usize, bytes: usize },
    CopyOut { to: usize, from: u64, bytes: usize },
    Copy { to: u64, from: u64, bytes: usize },
    Fill { to: u64, value: u32, width: usize, count: usize },
    Call(HostCall),
}

/// A capture under way.
pub(crate) struct Capture {
    pub(crate) context: Handle,
    origin: Handle,
    mode: u32,
    thread: usize,
    operations: Vec<Operation>,
    /// Something happened that a graph cannot hold; all that can be done is to end the capture.
    pub(crate) invalid: bool,
}

/// A captured graph; instantiated, the same thing under another handle.
pub(crate) struct Graph {
    pub(crate) context: Handle,
    operations: Arc<Vec<Operation>>,
}

/// `CU_STREAM_CAPTURE_MODE_GLOBAL`: no thread may make calls that a capture forbids.
const GLOBAL: u32 = 0;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: the capturing thread may not.
const THREAD_LOCAL: u32 = 1;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`: every thread may.
const RELAXED: u32 = 2;

impl Driver {
    /// Does an operation, or records it if the stream captures.
    pub(crate) fn submit(&mut self, stream: Handle, operation: Operation) -> Result<()> {
        let stream = self.stream(stream)?;
        if self.capture(stream, || operation.clone())? {
            return Ok(());
        }
        let context = self.context()?;
        self.perform(context, &operation)
    }

    /// Records an operation if the stream captures, and says whether it did.
    pub(crate) fn capture(
        &mut self,
        stream: Option<Handle>,
        operation: impl FnOnce() -> Operation,
    ) -> Result<bool> {
        let context = self.context()?;
        self.refuse_implicit(context, stream)?;
        let (Some(id), Some(handle)) = (self.capture_of(stream)?, stream) else { return Ok(false) };
        let capture = self.captures.get_mut(&id).ok_or(Code::STREAM_CAPTURE_INVALIDATED)?;
        capture.operations.push(operation());
        let done = capture.operations.len();
        if let Some((_, clock)) = &mut self.streams.get_mut(handle)?.capture {
            clock.insert(handle, done);
        }
        Ok(true)
    }

    /// Does an operation that is no host function.
    fn perform(&mut self, context: Handle, operation: &Operation) -> Result<()> {
        let device = self.device()?;
        let memory = device.memory();
        let done = match *operation {
            Operation::Launch(ref launch) => return self.run_kernel(context, launch),
            Operation::Call(_) => return Err(Code::UNKNOWN),
            Operation::CopyIn { to, from, bytes } => {
                memory.write(to, Host(std::ptr::with_exposed_provenance(from)).bytes(bytes)?)
            }
            Operation::CopyOut { to, from, bytes } => {
                HostMut(std::ptr::with_exposed_provenance_mut(to)).with(bytes, |to| memory.read(from, to))?
            }
            Operation::Copy { to, from, bytes } => memory.copy(to, from, bytes as u64),
            Operation::Fill { to, value, width, count } => {
                let pattern = &value.to_le_bytes()[..width];
                if !to.is_multiple_of(width as u64) {
                    return Err(Code::INVALID_VALUE);
                }
                memory.fill(to, pattern, count as u64)
            }
        };
        done.map_err(|error| {
            eprintln!("emulator: copy or fill refused: {error}");
            Code::INVALID_VALUE
        })
    }

    /// Marks a capture as failed and gives the code back as an error.
    pub(crate) fn invalidate(&mut self, id: u64, code: Code) -> Result<()> {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.invalid = true;
        }
        Err(code)
    }

    /// Work on the legacy stream would wait for every blocking stream, so it fails while one of them captures.
    pub(crate) fn refuse_implicit(&mut self, context: Handle, stream: Option<Handle>) -> Result<()> {
        if stream.is_some() {
            return Ok(());
        }
        let capturing = self.streams.iter().find_map(|(_, stream)| {
            let (id, _) = stream.capture.as_ref()?;
            (stream.context == context && stream.is_blocking()).then_some(*id)
        });
        capturing.map_or(Ok(()), |id| self.invalidate(id, Code::STREAM_CAPTURE_IMPLICIT))
    }

    /// Waiting for the whole context fails while anything in it captures.
    pub(crate) fn refuse_wait_while_capturing(&mut self, context: Handle) -> Result<()> {
        let capturing =
            self.captures.iter().find(|(_, capture)| capture.context == context).map(|(&id, _)| id);
        capturing.map_or(Ok(()), |id| self.invalidate(id, Code::STREAM_CAPTURE_UNSUPPORTED))
    }

    /// Calls that act at once, such as allocations, fail while a capture in its mode forbids them to this thread.
    pub(crate) fn refuse_while_capturing(&mut self) -> Result<()> {
        let thread = thread_number();
        let forbids = |capture: &Capture| {
            capture.mode == GLOBAL || capture.mode == THREAD_LOCAL && capture.thread == thread
        };
        let found = self.captures.iter().find(|(_, capture)| forbids(capture)).map(|(&id, _)| id);
        found.map_or(Ok(()), |id| self.invalidate(id, Code::STREAM_CAPTURE_UNSUPPORTED))
    }

    fn begin_capture(&mut self, stream: Handle, mode: u32) -> Result<()> {
        let context = self.context()?;
        let origin = self.stream(stream)?.ok_or(Code::STREAM_CAPTURE_UNSUPPORTED)?;
        if mode > RELAXED {
            return Err(Code::INVALID_VALUE);
        }
        if self.streams.get(origin)?.capture.is_some() {
            return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
        }
        let id = self.next_capture;
        self.next_capture += 1;
        let thread = thread_number();
        self.captures
            .insert(id, Capture { context, origin, mode, thread, operations: Vec::new(), invalid: false });
        self.streams.get_mut(origin)?.capture = Some((id, Clock::new()));
        Ok(())
    }

    fn end_capture(&mut self, stream: Handle) -> Result<Graph> {
        let stream = self.stream(stream)?.ok_or(Code::INVALID_VALUE)?;
        let Some((id, clock)) = self.streams.get(stream)?.capture.clone() else {
            return Err(Code::INVALID_VALUE);
        };
        let Some(capture) = self.captures.get(&id) else {
            self.streams.get_mut(stream)?.capture = None;
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        };
        if capture.origin != stream {
            return Err(Code::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != RELAXED && capture.thread != thread_number() {
            return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
        }
        let mut unjoined = false;
        for (handle, other) in self.streams.iter_mut() {
            if let Some((_, its)) = other.capture.take_if(|(its, _)| *its == id) {
                let last = its.get(&handle).copied().unwrap_or(0);
                unjoined |= last > clock.get(&handle).copied().unwrap_or(0);
            }
        }
        let capture = self.captures.remove(&id).ok_or(Code::STREAM_CAPTURE_INVALIDATED)?;
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        if unjoined {
            return Err(Code::STREAM_CAPTURE_UNJOINED);
        }
        Ok(Graph { context: capture.context, operations: Arc::new(capture.operations) })
    }

    fn instantiate(&mut self, graph: Handle, flags: u64) -> Result<Handle> {
        const AUTO_FREE: u64 = 1;
        const DEVICE_LAUNCH: u64 = 4;
        const NODE_PRIORITY: u64 = 8;
        self.context()?;
        let graph = self.graphs.get(graph)?;
        if flags & !(AUTO_FREE | DEVICE_LAUNCH | NODE_PRIORITY) != 0 || flags & 5 == AUTO_FREE | DEVICE_LAUNCH
        {
            return Err(Code::INVALID_VALUE);
        }
        if flags & DEVICE_LAUNCH != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let executable = Graph { context: graph.context, operations: Arc::clone(&graph.operations) };
        Ok(self.executables.insert(executable))
    }
}

exports! {
    /// Begins to record a stream's work instead of doing it.
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) [driver] {
        driver.begin_capture(stream, mode)
    }

    /// Ends a capture and gives its graph; null where it failed.
    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) [driver] {
        graph.set(0)?;
        let captured = driver.end_capture(stream)?;
        graph.set(driver.graphs.insert(captured))
    }

    /// Whether a stream captures: 0 no, 1 yes, 2 it did and the capture failed.
    fn cuStreamIsCapturing(stream: Handle, status: Out<u32>) [driver] {
        let stream = driver.stream(stream)?;
        status.set(match driver.capture_of(stream) {
            Ok(None) => 0,
            Ok(Some(_)) => 1,
            Err(_) => 2,
        })
    }

    /// Makes a graph ready to launch.
    fn cuGraphInstantiateWithFlags(executable: Out<Handle>, graph: Handle, flags: u64) [driver] {
        let handle = driver.instantiate(graph, flags)?;
        executable.set(handle)
    }

    /// Does a graph's operations in the order of a stream, or captures them once more.
    fn cuGraphLaunch(executable: Handle, stream: Handle) [] {
        let (context, operations) = {
            let driver = driver();
            let context = driver.context()?;
            (context, Arc::clone(&driver.executables.get(executable)?.operations))
        };
        for operation in operations.iter() {
            let captured = {
                let mut driver = driver();
                let stream = driver.stream(stream)?;
                driver.capture(stream, || operation.clone())?
            };
            match *operation {
                _ if captured => {}
                Operation::Call(call) => call.call(),
                _ => driver().perform(context, operation)?,
            }
        }
        Ok(())
    }

    /// Prepares a graph for its first launch: nothing to do.
    fn cuGraphUpload(executable: Handle, stream: Handle) [driver] {
        driver.stream(stream)?;
        driver.executables.get(executable).map(drop)
    }

    /// Destroys a launchable graph.
    fn cuGraphExecDestroy(executable: Handle) [driver] {
        driver.executables.remove(executable).map(drop)
    }

    /// Destroys a graph. Launchable graphs made of it stay.
    fn cuGraphDestroy(graph: Handle) [driver] {
        driver.graphs.remove(graph).map(drop)
    }
}
