//! A layer's forward and backward pass and its optimiser step as one CUDA graph: what is captured without complaint neither
//! waits for the device nor asks the host anything, and replays on new inputs to the bits of the calls themselves.
//!
//! A target of its own: while a stream captures, waiting for its whole context fails, which making a stream elsewhere does.
#![cfg(feature = "cuda")]

#[allow(dead_code)]
#[path = "../common/agree.rs"]
mod agree;
#[allow(dead_code)]
#[path = "../common/device.rs"]
mod device;
#[path = "../common/gpu.rs"]
mod gpu;
mod layer;

use cudarc::driver::sys::{CUgraphInstantiate_flags as Flags, CUstreamCaptureMode as Mode};
use cudarc::driver::{CudaContext, CudaStream};
use emo::cuda::{Cuda, CudaStorage};
use layer::Layer;
use std::sync::Arc;

/// Calls of other threads stay allowed.
const MODE: Mode = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;

/// A stream as a caller makes it, where there is a device.
fn stream() -> Option<Arc<CudaStream>> {
    gpu::gpu::<f32>()?;
    Some(CudaContext::new(0).unwrap().new_stream().unwrap())
}

fn replays<S: CudaStorage>(stream: &Arc<CudaStream>) {
    let cuda = Cuda::<S>::on_stream(stream.clone()).unwrap();
    let (mut eager, mut captured) = (Layer::new(&cuda), Layer::new(&cuda));
    let mut before = captured.state();
    stream.begin_capture(MODE).unwrap();
    let recorded = captured.step();
    let graph = stream.end_capture(Flags(0));
    recorded.unwrap();
    let graph = graph.unwrap().expect("a graph of the step");
    assert_eq!(captured.state(), before, "a capture does nothing yet");
    for round in 0..3 {
        eager.set_inputs(round);
        captured.set_inputs(round);
        eager.step().unwrap();
        graph.launch().unwrap();
        let (expected, found) = (eager.state(), captured.state());
        for (((name, expected), (_, found)), (_, before)) in expected.iter().zip(&found).zip(&before) {
            assert!(expected == found, "{name} in round {round} on {}", layer::name(&cuda));
            assert!(found != before, "{name} is as it was before round {round}");
        }
        before = found;
    }
}

/// One test, because captures in one context disturb each other.
#[test]
fn a_layer_is_captured_and_replays_to_the_same_bits() {
    let Some(stream) = stream() else { return };
    replays::<f32>(&stream);
    replays::<half::bf16>(&stream);

    // That a capture was allowed proves something: a wait in one is not, and takes the capture with it.
    let cuda = Cuda::<f32>::on_stream(stream.clone()).unwrap();
    stream.begin_capture(MODE).unwrap();
    let waited = cuda.synchronize();
    let graph = stream.end_capture(Flags(0));
    assert!(waited.is_err() && graph.is_err());
    assert_eq!(cuda.synchronize(), Ok(()));
}
