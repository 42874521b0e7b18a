//! Stream capture and graphs under cudarc.

#[path = "driver/common.rs"]
mod common;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{code, context, kernel};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode, CUstreamCaptureStatus};
use cudarc::driver::{CudaContext, CudaStream, LaunchConfig, PushKernelArg, result};

const MODE: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const NO_FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);
const BLOCK: LaunchConfig = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };

/// A stream of a context whose slices carry no events: those would tie a capture to work outside of it.
fn stream() -> (Arc<CudaContext>, Arc<CudaStream>) {
    let context = context();
    // SAFETY: each test orders the work of its streams itself.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    (context, stream)
}

#[test]
fn a_graph_does_again_what_was_captured_and_capture_itself_does_nothing() {
    let (context, stream) = stream();
    let scale = kernel(&context, "scale");
    let mut values = stream.clone_htod(&[1.0_f32, 2.0, 3.0]).unwrap();
    let mut copy = stream.alloc_zeros::<f32>(3).unwrap();
    stream.begin_capture(MODE).unwrap();
    assert_eq!(stream.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    {
        // The parameter is copied at capture: it is gone when the graph is launched.
        let factor = 10.0_f32;
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut values).arg(&factor).arg(&3_u32);
        // SAFETY: three values, as the last parameter says.
        unsafe { launch.launch(BLOCK) }.unwrap();
    }
    stream.memcpy_dtod(&values, &mut copy).unwrap();
    let graph = stream.end_capture(NO_FLAGS).unwrap().expect("a graph");
    assert_eq!(stream.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    assert_eq!(stream.clone_dtoh(&values).unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), [0.0; 3]);
    graph.upload().unwrap();
    for power in [10.0_f32, 100.0, 1000.0] {
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), [power, 2.0 * power, 3.0 * power]);
    }
}

#[test]
fn copies_of_host_memory_read_it_at_launch() {
    let (_context, stream) = stream();
    let mut host = [1_u32, 2, 3, 4];
    let mut there = stream.alloc_zeros::<u32>(4).unwrap();
    stream.begin_capture(MODE).unwrap();
    stream.memcpy_htod(&host, &mut there).unwrap();
    let graph = stream.end_capture(NO_FLAGS).unwrap().expect("a graph");
    // Through a volatile write, since the compiler does not know that the graph reads the array.
    // SAFETY: the pointer is that of a live array.
    unsafe { std::ptr::write_volatile(&mut host[0], 9) };
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&there).unwrap(), [9, 2, 3, 4]);
}

#[test]
fn waiting_is_an_error_while_capturing_and_spoils_the_capture() {
    let (context, stream) = stream();
    let waits: [&dyn Fn() -> Result<(), cudarc::driver::DriverError>; 2] =
        [&|| stream.synchronize(), &|| context.synchronize()];
    for wait in waits {
        stream.begin_capture(MODE).unwrap();
        assert_eq!(code(wait()), Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
        let status = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_INVALIDATED;
        assert_eq!(stream.capture_status().unwrap(), status);
        let ended = stream.end_capture(NO_FLAGS);
        assert_eq!(code(ended), Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
        wait().unwrap();
    }
}

#[test]
fn allocating_is_an_error_while_capturing() {
    let (_context, stream) = stream();
    stream.begin_capture(MODE).unwrap();
    // SAFETY: the calls are refused.
    let at_once = unsafe { result::malloc_sync(16) };
    assert_eq!(code(at_once), Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
    assert!(stream.end_capture(NO_FLAGS).is_err());
    stream.begin_capture(MODE).unwrap();
    assert_eq!(code(stream.alloc_zeros::<u8>(16)), Some(CUresult::CUDA_ERROR_NOT_SUPPORTED));
    assert!(stream.end_capture(NO_FLAGS).is_err());
    stream.alloc_zeros::<u8>(16).unwrap();
}

#[test]
fn a_forked_stream_is_captured_with_the_first_and_has_to_come_back() {
    let (context, first) = stream();
    let second = context.new_stream().unwrap();
    let mut a = first.clone_htod(&[1_u8; 4]).unwrap();
    let mut b = first.clone_htod(&[1_u8; 4]).unwrap();
    first.begin_capture(MODE).unwrap();
    first.memset_zeros(&mut a).unwrap();
    second.join(&first).unwrap();
    second.memset_zeros(&mut b).unwrap();
    first.join(&second).unwrap();
    let graph = first.end_capture(NO_FLAGS).unwrap().expect("a graph");
    assert_eq!(first.clone_dtoh(&b).unwrap(), [1; 4]);
    graph.launch().unwrap();
    assert_eq!((first.clone_dtoh(&a).unwrap(), first.clone_dtoh(&b).unwrap()), (vec![0; 4], vec![0; 4]));

    first.begin_capture(MODE).unwrap();
    second.join(&first).unwrap();
    second.memset_zeros(&mut b).unwrap();
    assert_eq!(code(first.end_capture(NO_FLAGS)), Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
    second.synchronize().unwrap();
}

#[test]
fn a_capture_waits_for_nothing_outside_of_it() {
    let (context, inside) = stream();
    let outside = context.new_stream().unwrap();
    let before = outside.record_event(None).unwrap();
    inside.begin_capture(MODE).unwrap();
    assert_eq!(code(inside.wait(&before)), Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION));
    assert!(inside.end_capture(NO_FLAGS).is_err());
    inside.begin_capture(MODE).unwrap();
    let within = inside.record_event(None).unwrap();
    assert_eq!(code(within.synchronize()), Some(CUresult::CUDA_ERROR_CAPTURED_EVENT));
    inside.end_capture(NO_FLAGS).unwrap().expect("a graph");
}

#[test]
fn the_legacy_stream_does_not_run_beside_a_capture_that_waits_for_it() {
    let (context, _) = stream();
    let blocking = result::stream::create(result::stream::StreamKind::Default).unwrap();
    let legacy = context.default_stream();
    let mut values = legacy.alloc_zeros::<u8>(4).unwrap();
    // SAFETY: the stream is live; both captures are ended.
    unsafe {
        assert_eq!(
            code(result::stream::begin_capture(std::ptr::null_mut(), MODE)),
            Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        );
        result::stream::begin_capture(blocking, MODE).unwrap();
        let implicit = Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        assert_eq!(code(legacy.memset_zeros(&mut values)), implicit);
        assert!(result::stream::end_capture(blocking).is_err());
        legacy.memset_zeros(&mut values).unwrap();
        result::stream::destroy(blocking).unwrap();
    }
}

#[test]
fn host_functions_are_called_once_a_launch_and_may_not_call_back() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn count(step: *mut c_void) {
        CALLS.fetch_add(step.addr(), Ordering::Relaxed);
        if code(CudaContext::device_count()) == Some(CUresult::CUDA_ERROR_NOT_PERMITTED) {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (_context, stream) = stream();
    let call = || {
        // SAFETY: the argument is a number and not followed.
        unsafe { result::stream::launch_host_function(stream.cu_stream(), count, 3 as _) }
    };
    call().unwrap();
    assert_eq!(CALLS.load(Ordering::Relaxed), 3);
    stream.begin_capture(MODE).unwrap();
    call().unwrap();
    let graph = stream.end_capture(NO_FLAGS).unwrap().expect("a graph");
    assert_eq!(CALLS.load(Ordering::Relaxed), 3);
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!((CALLS.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed)), (9, 3));
}
