//! Unmodified cudarc on the emulator: device, memory, streams, events, modules and launches.

#[path = "driver/common.rs"]
mod common;

use common::{PLAIN, code, context, kernel, module};
use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags, CUfunction_attribute, CUresult};
use cudarc::driver::{CudaContext, DevicePtr, LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::Ptx;

fn config(blocks: u32, threads: u32, shared_mem_bytes: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes }
}

#[test]
fn the_device_says_what_it_is() {
    let context = context();
    assert_eq!(CudaContext::device_count().unwrap(), 1);
    assert_eq!(context.compute_capability().unwrap(), (8, 0));
    assert!(context.has_async_alloc());
    assert_eq!(context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE).unwrap(), 32);
    let shared = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    assert_eq!(context.attribute(shared).unwrap(), 163 * 1024);
    assert_eq!(code(CudaContext::new(1)), Some(CUresult::CUDA_ERROR_INVALID_DEVICE));
    let (free, total) = context.mem_get_info().unwrap();
    assert!(free <= total && context.total_mem().unwrap() == total);
}

#[test]
fn errors_have_the_names_of_cuda_h() {
    let _context = context();
    let error = CudaContext::new(7).unwrap_err();
    assert_eq!(error.error_name().unwrap().to_str(), Ok("CUDA_ERROR_INVALID_DEVICE"));
    assert!(error.error_string().unwrap().to_str().unwrap().contains("ordinal"));
}

#[test]
fn bytes_come_back_as_they_were_sent() {
    let context = context();
    for stream in [context.default_stream(), context.per_thread_stream(), context.new_stream().unwrap()] {
        let sent: Vec<u32> = (0..10_007).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
        let there = stream.clone_htod(&sent).unwrap();
        let copy = stream.clone_dtod(&there).unwrap();
        drop(there);
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), sent);
        let middle = stream.clone_dtoh(&copy.slice(1000..1003)).unwrap();
        assert_eq!(middle, sent[1000..1003]);
    }
}

#[test]
fn page_locked_memory_is_copied_both_ways() {
    let context = context();
    let stream = context.new_stream().unwrap();
    // SAFETY: every value is written before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<u16>(500) }.unwrap();
    for (i, value) in pinned.as_mut_slice().unwrap().iter_mut().enumerate() {
        *value = i as u16;
    }
    let there = stream.clone_htod(&pinned).unwrap();
    pinned.as_mut_slice().unwrap().fill(0);
    stream.memcpy_dtoh(&there, &mut pinned).unwrap();
    assert!(pinned.as_slice().unwrap().iter().enumerate().all(|(i, &value)| usize::from(value) == i));
}

#[test]
fn fills_reach_their_bytes_and_no_others() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let mut values = stream.clone_htod(&[7_u32; 100]).unwrap();
    stream.memset_zeros(&mut values.slice_mut(10..20)).unwrap();
    let back = stream.clone_dtoh(&values).unwrap();
    assert!(back.iter().enumerate().all(|(i, &v)| v == if (10..20).contains(&i) { 0 } else { 7 }));
    let (address, _guard) = values.device_ptr(&stream);
    // SAFETY: the address is that of 100 live values.
    let result =
        unsafe { cudarc::driver::sys::cuMemsetD32Async(address + 8, 0xAABB_CCDD, 3, stream.cu_stream()) };
    assert_eq!(result, CUresult::CUDA_SUCCESS);
    // SAFETY: as above.
    let result = unsafe { cudarc::driver::sys::cuMemsetD16Async(address, 0x1234, 1, stream.cu_stream()) };
    assert_eq!(result, CUresult::CUDA_SUCCESS);
    let mut back = [0_u32; 6];
    stream.memcpy_dtoh(&values.slice(..6), &mut back).unwrap();
    assert_eq!(back, [0x0000_1234, 7, 0xAABB_CCDD, 0xAABB_CCDD, 0xAABB_CCDD, 7]);
}

#[test]
fn copies_outside_an_allocation_are_refused() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let values = stream.alloc_zeros::<u8>(64).unwrap();
    let (address, _guard) = values.device_ptr(&stream);
    // SAFETY: none of the calls touches host memory beyond `host`; the driver checks the device's side.
    unsafe {
        let mut host = [0_u8; 65];
        let beyond = result::memcpy_dtoh_sync(&mut host, address);
        assert_eq!(code(beyond), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
        let before = result::memcpy_htod_sync(address - 1, &host[..1]);
        assert_eq!(code(before), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
        assert_eq!(code(result::free_sync(address + 1)), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
        assert_eq!(code(result::malloc_sync(1 << 60)), Some(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
    }
}

#[test]
fn freed_memory_is_free_again_and_not_freed_twice() {
    let context = context();
    context.bind_to_thread().unwrap();
    // SAFETY: the address is used for nothing but the checks.
    unsafe {
        let address = result::malloc_sync(1 << 20).unwrap();
        result::free_sync(address).unwrap();
        assert_eq!(code(result::free_sync(address)), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
        let mut byte = [0_u8];
        assert_eq!(
            code(result::memcpy_dtoh_sync(&mut byte, address)),
            Some(CUresult::CUDA_ERROR_INVALID_VALUE)
        );
    }
}

#[test]
fn events_measure_time_that_passed() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(timed).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let end = stream.record_event(timed).unwrap();
    assert!(start.is_complete());
    let elapsed = start.elapsed_ms(&end).unwrap();
    assert!((20.0..20_000.0).contains(&elapsed), "{elapsed} ms");
    let untimed = stream.record_event(None).unwrap();
    assert_eq!(code(start.elapsed_ms(&untimed)), Some(CUresult::CUDA_ERROR_INVALID_HANDLE));
}

#[test]
fn handles_of_destroyed_things_are_invalid() {
    let context = context();
    context.bind_to_thread().unwrap();
    let stream = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
    let event = result::event::create(CUevent_flags::CU_EVENT_DEFAULT).unwrap();
    let invalid = Some(CUresult::CUDA_ERROR_INVALID_HANDLE);
    // SAFETY: the emulator looks handles up and does not follow them, which is what is tested.
    unsafe {
        result::stream::destroy(stream).unwrap();
        result::event::destroy(event).unwrap();
        assert_eq!(code(result::stream::synchronize(stream)), invalid);
        assert_eq!(code(result::event::query(event)), invalid);
        assert_eq!(code(result::stream::synchronize(event.cast())), invalid);
        assert_eq!(code(result::module::unload(0x1234_5670 as _)), invalid);
    }
}

#[test]
fn a_context_takes_everything_in_it_along() {
    let (address, stream);
    {
        let context = context();
        context.bind_to_thread().unwrap();
        // SAFETY: the address outlives its context on purpose; it is only checked.
        address = unsafe { result::malloc_sync(100) }.unwrap();
        stream = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
    }
    let _other = context();
    let mut byte = [0_u8];
    // SAFETY: the driver checks the device's side, and looks handles up.
    unsafe {
        assert_eq!(
            code(result::memcpy_dtoh_sync(&mut byte, address)),
            Some(CUresult::CUDA_ERROR_INVALID_VALUE)
        );
        assert_eq!(code(result::stream::synchronize(stream)), Some(CUresult::CUDA_ERROR_INVALID_HANDLE));
    }
}

#[test]
fn a_kernel_adds() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let add = kernel(&context, "add");
    for n in [1_u32, 31, 256, 1000] {
        let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..n).map(|i| 0.5 - 2.0 * i as f32).collect();
        let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
        let mut sum = stream.alloc_zeros::<f32>(n as usize).unwrap();
        let mut launch = stream.launch_builder(&add);
        launch.arg(&da).arg(&db).arg(&mut sum).arg(&n);
        // SAFETY: three arrays of n floats and n, as the kernel wants them.
        unsafe { launch.launch(config(n.div_ceil(128), 128, 0)) }.unwrap();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(stream.clone_dtoh(&sum).unwrap(), expected);
    }
}

#[test]
fn parameters_of_every_size_land_at_their_offsets() {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Mixed {
        pair: [i16; 2],
        weight: f64,
    }
    // SAFETY: plain data with the layout of the kernel's struct.
    unsafe impl cudarc::driver::DeviceRepr for Mixed {}
    let context = context();
    let stream = context.default_stream();
    let mixed = kernel(&context, "mixed");
    let mut result = stream.alloc_zeros::<f64>(1).unwrap();
    let by_value = Mixed { pair: [2, -3], weight: 0.125 };
    let mut launch = stream.launch_builder(&mixed);
    launch.arg(&7_u8).arg(&by_value).arg(&-4_i16).arg(&mut result);
    // SAFETY: the parameters are those of the kernel, in its order.
    unsafe { launch.launch(config(1, 1, 0)) }.unwrap();
    assert_eq!(stream.clone_dtoh(&result).unwrap(), [7.0 + 20.0 - 300.0 + 0.125 - 4000.0]);
}

#[test]
fn module_variables_start_as_written_and_keep_what_kernels_store() {
    let context = context();
    let stream = context.default_stream();
    let module = module(&context);
    let bump = module.load_function("bump").unwrap();
    let read = || {
        let bytes = module.get_global("counters", &stream).unwrap();
        let bytes = stream.clone_dtoh(&bytes.as_view()).unwrap();
        bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(read(), [10, 20, 30, 40]);
    // SAFETY: four threads for four counters.
    unsafe { stream.launch_builder(&bump).arg(&5_i32).launch(config(1, 4, 0)) }.unwrap();
    assert_eq!(read(), [15, 25, 35, 45]);
    assert_eq!(code(module.get_global("nothing", &stream)), Some(CUresult::CUDA_ERROR_NOT_FOUND));
}

#[test]
fn dynamic_shared_memory_needs_its_opt_in_above_48_kib() {
    let context = context();
    let stream = context.default_stream();
    let reverse = kernel(&context, "reverse");
    let mut values = stream.clone_htod(&(0..96_u32).collect::<Vec<_>>()).unwrap();
    let mut run = |bytes| {
        // SAFETY: 96 threads for 96 values.
        unsafe { stream.launch_builder(&reverse).arg(&mut values).launch(config(1, 96, bytes)) }.map(drop)
    };
    run(96 * 4).unwrap();
    assert_eq!(code(run(64 << 10)), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    reverse.set_attribute(limit, 64 << 10).unwrap();
    assert_eq!(reverse.get_attribute(limit).unwrap(), 64 << 10);
    run(64 << 10).unwrap();
    assert_eq!(code(reverse.set_attribute(limit, 164 << 10)), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    // Reversed twice is as it was.
    assert_eq!(stream.clone_dtoh(&values).unwrap(), (0..96).collect::<Vec<u32>>());
}

#[test]
fn launch_bounds_and_sizes_are_checked_before_a_launch() {
    let context = context();
    let stream = context.default_stream();
    let bounded = kernel(&context, "bounded");
    let mut values = stream.alloc_zeros::<u32>(64).unwrap();
    let mut run = |blocks, threads| {
        // SAFETY: at most 64 threads get through to the 64 values.
        code(unsafe { stream.launch_builder(&bounded).arg(&mut values).launch(config(blocks, threads, 0)) })
    };
    let invalid = Some(CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(run(1, 64), None);
    assert_eq!(run(1, 65), invalid);
    assert_eq!(run(0, 64), invalid);
    assert_eq!(run(1, 0), invalid);
    let threads = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
    assert_eq!(bounded.get_attribute(threads).unwrap(), 64);
    context.synchronize().unwrap();
}

#[test]
fn occupancy_counts_threads_blocks_and_shared_memory() {
    let context = context();
    let reverse = kernel(&context, "reverse");
    assert_eq!(reverse.occupancy_max_active_blocks_per_multiprocessor(256, 0, None).unwrap(), 8);
    assert_eq!(reverse.occupancy_max_active_blocks_per_multiprocessor(32, 0, None).unwrap(), 32);
    // 40 KiB and the 1 KiB that every block costs: 4 times into 164 KiB.
    assert_eq!(reverse.occupancy_max_active_blocks_per_multiprocessor(64, 40 << 10, None).unwrap(), 4);
    extern "C" fn four_bytes_a_thread(threads: i32) -> usize {
        4 * threads as usize
    }
    let (grid, block) = reverse.occupancy_max_potential_block_size(four_bytes_a_thread, 0, 0, None).unwrap();
    assert_eq!((grid, block), (32, 1024));
}

#[test]
fn a_missing_kernel_is_not_found() {
    let context = context();
    let module = module(&context);
    assert_eq!(code(module.load_function("subtract")), Some(CUresult::CUDA_ERROR_NOT_FOUND));
}

#[test]
fn every_kind_of_image_loads() {
    let context = context();
    let stream = context.default_stream();
    let compressed: [&[u8]; 2] =
        [include_bytes!("driver/balance.fatbin"), include_bytes!("driver/speed.fatbin")];
    let text = cuda_text();
    let file = std::env::temp_dir().join(format!("emo-emulator-{}.fatbin", std::process::id()));
    std::fs::write(&file, PLAIN).unwrap();
    let images = [
        Ptx::from_binary(compressed[0].to_vec()),
        Ptx::from_binary(compressed[1].to_vec()),
        Ptx::from_src(text),
        Ptx::from_file(&file),
    ];
    for image in images {
        let scale = context.load_module(image).unwrap().load_function("scale").unwrap();
        let mut values = stream.clone_htod(&[1.0_f32, -2.0, 3.5]).unwrap();
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut values).arg(&2.0_f32).arg(&3_u32);
        // SAFETY: three values, as the last parameter says.
        unsafe { launch.launch(config(1, 32, 0)) }.unwrap();
        assert_eq!(stream.clone_dtoh(&values).unwrap(), [2.0, -4.0, 7.0]);
    }
    std::fs::remove_file(&file).unwrap();
}

/// The PTX text in the uncompressed fat binary, found by its first line.
fn cuda_text() -> String {
    let start = PLAIN.windows(8).position(|bytes| bytes == b".version").expect("PTX");
    let text = &PLAIN[start..];
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    String::from_utf8(text[..end].to_vec()).expect("text")
}

#[test]
fn threads_share_a_context() {
    let context = context();
    let add = kernel(&context, "add");
    std::thread::scope(|scope| {
        for t in 0..4_u32 {
            let (context, add) = (&context, &add);
            scope.spawn(move || {
                let stream = context.new_stream().unwrap();
                for round in 0..5_u32 {
                    let base = (t * 100 + round) as f32;
                    let a = stream.clone_htod(&[base; 70]).unwrap();
                    let mut sum = stream.alloc_zeros::<f32>(70).unwrap();
                    let mut launch = stream.launch_builder(add);
                    launch.arg(&a).arg(&a).arg(&mut sum).arg(&70_u32);
                    // SAFETY: arrays of 70 floats and their length.
                    unsafe { launch.launch(config(3, 32, 0)) }.unwrap();
                    assert_eq!(stream.clone_dtoh(&sum).unwrap(), [2.0 * base; 70]);
                }
            });
        }
    });
}
