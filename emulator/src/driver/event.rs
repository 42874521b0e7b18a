//! Events: the moment up to which a stream had come.

use std::time::Instant;

use super::entry::{Out, exports};
use super::error::{Code, Result};
use super::state::{Driver, Handle};
use super::stream::Clock;

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: u32 = 2;
/// Blocking wait, no timing, shared between processes.
const FLAGS: u32 = 1 | DISABLE_TIMING | 4;

/// An event.
pub(crate) struct Event {
    pub(crate) context: Handle,
    flags: u32,
    recorded: Recorded,
}

enum Recorded {
    Never,
    At(Instant),
    /// In a capture: a place in a graph, not a moment.
    Captured(u64, Clock),
}

impl Driver {
    /// Orders `stream` behind what `event` recorded. A stream outside the event's capture joins it.
    pub(crate) fn wait_event(&mut self, stream: Handle, event: Handle) -> Result<()> {
        let context = self.context_to_order()?;
        let stream = self.stream_in(context, stream)?;
        let capturing = self.capture_of(stream)?;
        let (id, clock) = match &self.events.get(event)?.recorded {
            // Waiting for an event that was never recorded waits for nothing.
            Recorded::Never => return Ok(()),
            Recorded::At(_) => match capturing {
                Some(id) => return self.invalidate(id, Code::STREAM_CAPTURE_ISOLATION),
                // The work before it is done, and so is that before any later work.
                None => return Ok(()),
            },
            Recorded::Captured(id, clock) => (*id, clock.clone()),
        };
        if self.captures.get(&id).is_none_or(|capture| capture.invalid) {
            // The capture is over; whoever waits outside of it has nothing to wait for.
            return capturing.map_or(Ok(()), |own| self.invalidate(own, Code::STREAM_CAPTURE_ISOLATION));
        }
        let Some(stream) = stream else { return self.invalidate(id, Code::STREAM_CAPTURE_IMPLICIT) };
        if capturing.is_some_and(|own| own != id) {
            return self.invalidate(id, Code::STREAM_CAPTURE_MERGE);
        }
        let joined = &mut self.streams.get_mut(stream)?.capture;
        let (_, own) = joined.get_or_insert_with(|| (id, Clock::new()));
        for (other, operations) in clock {
            let seen = own.entry(other).or_insert(0);
            *seen = operations.max(*seen);
        }
        Ok(())
    }

    /// Refuses calls that a capture's events do not allow.
    fn event_outside_capture(&self, event: Handle) -> Result<&Event> {
        self.context()?;
        let event = self.events.get(event)?;
        match event.recorded {
            Recorded::Captured(..) => Err(Code::CAPTURED_EVENT),
            _ => Ok(event),
        }
    }

    fn elapsed(&self, start: Handle, end: Handle) -> Result<f32> {
        let moment = |event| match self.event_outside_capture(event)? {
            Event { flags, recorded: Recorded::At(moment), .. } if flags & DISABLE_TIMING == 0 => Ok(*moment),
            _ => Err(Code::INVALID_HANDLE),
        };
        let (start, end): (Instant, Instant) = (moment(start)?, moment(end)?);
        let ahead = end.saturating_duration_since(start).as_secs_f32();
        let behind = start.saturating_duration_since(end).as_secs_f32();
        Ok((ahead - behind) * 1e3)
    }
}

exports! {
    /// Makes an event.
    fn cuEventCreate(event: Out<Handle>, flags: u32) [driver] {
        let context = driver.context()?;
        if flags & !FLAGS != 0 {
            return Err(Code::INVALID_VALUE);
        }
        event.set(driver.events.insert(Event { context, flags, recorded: Recorded::Never }))
    }

    /// Destroys an event.
    fn cuEventDestroy_v2(event: Handle) [driver] {
        driver.context()?;
        driver.events.remove(event).map(drop)
    }

    /// Records how far a stream has come.
    fn cuEventRecord(event: Handle, stream: Handle) [driver] {
        driver.record_event(event, stream)
    }

    /// Records how far a stream has come; the flags only matter to graphs built by hand.
    fn cuEventRecordWithFlags(event: Handle, stream: Handle, _flags: u32) [driver] {
        driver.record_event(event, stream)
    }

    /// Whether the recorded work is done. An event that was never recorded counts as done.
    fn cuEventQuery(event: Handle) [driver] {
        driver.event_outside_capture(event).map(drop)
    }

    /// Waits for the recorded work.
    fn cuEventSynchronize(event: Handle) [driver] {
        driver.event_outside_capture(event).map(drop)
    }

    /// Milliseconds between two recorded events: those that the emulator took, which say nothing about a GPU.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) [driver] {
        milliseconds.set(driver.elapsed(start, end)?)
    }

    /// [`cuEventElapsedTime_v2`] as older programs call it.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) [driver] {
        milliseconds.set(driver.elapsed(start, end)?)
    }
}

impl Driver {
    fn record_event(&mut self, event: Handle, stream: Handle) -> Result<()> {
        let context = self.context_to_order()?;
        let stream = self.stream_in(context, stream)?;
        if self.events.get(event)?.context != context {
            return Err(Code::INVALID_HANDLE);
        }
        self.refuse_implicit(context, stream)?;
        let recorded = match (self.capture_of(stream)?, stream) {
            (Some(id), Some(stream)) => {
                let clock = self.streams.get(stream)?.capture.as_ref().map(|(_, clock)| clock.clone());
                Recorded::Captured(id, clock.unwrap_or_default())
            }
            _ => Recorded::At(Instant::now()),
        };
        self.events.get_mut(event)?.recorded = recorded;
        Ok(())
    }
}
