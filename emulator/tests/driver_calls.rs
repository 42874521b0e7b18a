//! Driver functions that cudarc's safe interface does not call, or calls in one way only.

#[path = "driver/common.rs"]
mod common;

use std::ffi::c_void;

use common::{PLAIN, code, context, kernel};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg, result};

const OK: CUresult = CUresult::CUDA_SUCCESS;

#[test]
fn a_launch_with_attributes_or_packed_parameters_is_a_launch() {
    let context = context();
    let stream = context.new_stream().unwrap();
    // SAFETY: a module image with this kernel, as the assertions check.
    let function = unsafe {
        let module = result::module::load_data(PLAIN.as_ptr().cast()).unwrap();
        result::module::get_function(module, c"scale".into()).unwrap()
    };
    let values = stream.clone_htod(&[1.0_f32, 2.0]).unwrap();
    let (address, _guard) = values.device_ptr(&stream);

    let (factor, n) = (3.0_f32, 2_u32);
    let mut pointers = [
        (&raw const address).cast_mut().cast::<c_void>(),
        (&raw const factor).cast_mut().cast(),
        (&raw const n).cast_mut().cast(),
    ];
    let config = sys::CUlaunchConfig {
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 2,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream.cu_stream(),
        attrs: std::ptr::null_mut(),
        numAttrs: 0,
    };
    // SAFETY: three pointers to parameters of the kernel's types.
    let launched =
        unsafe { sys::cuLaunchKernelEx(&config, function, pointers.as_mut_ptr(), std::ptr::null_mut()) };
    assert_eq!(launched, OK);
    assert_eq!(stream.clone_dtoh(&values).unwrap(), [3.0, 6.0]);

    let mut block = Vec::new();
    block.extend(address.to_le_bytes());
    block.extend((-1.0_f32).to_le_bytes());
    block.extend(2_u32.to_le_bytes());
    let launch = |mut size: usize| {
        let mut block = block.clone();
        let mut extra = [
            std::ptr::dangling_mut::<c_void>(),
            block.as_mut_ptr().cast(),
            2 as *mut c_void,
            (&raw mut size).cast(),
            std::ptr::null_mut(),
        ];
        let (none, stream) = (std::ptr::null_mut(), stream.cu_stream());
        // SAFETY: the list names a parameter block and its size, and ends with 0.
        unsafe { sys::cuLaunchKernel(function, 1, 1, 1, 2, 1, 1, 0, stream, none, extra.as_mut_ptr()) }
    };
    assert_eq!(launch(block.len()), OK);
    assert_eq!(stream.clone_dtoh(&values).unwrap(), [-3.0, -6.0]);
    assert_eq!(launch(block.len() - 1), CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn a_load_that_fails_fills_the_error_log() {
    let _context = context();
    let mut log = [1_u8; 64];
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: a NUL-terminated text, and a buffer of the size that the options state.
    let loaded = unsafe {
        let image = c"this is no program".as_ptr().cast();
        sys::cuModuleLoadDataEx(&mut module, image, 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(loaded, CUresult::CUDA_ERROR_INVALID_PTX);
    let text = std::ffi::CStr::from_bytes_until_nul(&log).expect("an end").to_str().unwrap();
    assert!(text.starts_with("the image is neither"), "{text}");
}

#[test]
fn images_that_end_too_early_or_are_nowhere_are_refused() {
    let _context = context();
    for length in [4, 16, 20, 70, 200, PLAIN.len() / 2, PLAIN.len() - 600] {
        let mut cut = PLAIN.to_vec();
        cut[length..].fill(0);
        // SAFETY: the header declares no more bytes than there are.
        let loaded = unsafe { result::module::load_data(cut.as_ptr().cast()) };
        assert!(loaded.is_err(), "{length} bytes");
    }
    // SAFETY: the emulator reads an image through the operating system, which is what is tested.
    let nowhere = unsafe { result::module::load_data(0x10 as _) };
    assert_eq!(code(nowhere), Some(CUresult::CUDA_ERROR_INVALID_IMAGE));
}

#[test]
fn functions_are_found_by_name_in_their_youngest_version() {
    let find = |name: &std::ffi::CStr| {
        let mut address = std::ptr::null_mut();
        let mut status = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS;
        // SAFETY: a name, and places for the address and the status.
        let result = unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut address, 13000, 0, &mut status) };
        result.result().map(|()| address)
    };
    let version = find(c"cuDriverGetVersion").unwrap();
    // SAFETY: the driver gave the address of the function of this name.
    let version: extern "C" fn(*mut i32) -> u32 = unsafe { std::mem::transmute(version) };
    let mut number = 0;
    assert_eq!((version(&mut number), number), (0, 13000));
    assert_eq!(find(c"cuMemAlloc").unwrap(), find(c"cuMemAlloc_v2").unwrap());
    assert_eq!(code(find(c"cuTexRefCreate")), Some(CUresult::CUDA_ERROR_NOT_FOUND));
}

#[test]
fn addresses_tell_where_they_belong() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let values = stream.alloc_zeros::<u64>(10).unwrap();
    let (address, _guard) = values.device_ptr(&stream);
    let (mut start, mut kind) = (0_u64, 0_u32);
    let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR;
    // SAFETY: places of the sizes that the attributes have.
    unsafe {
        assert_eq!(sys::cuPointerGetAttribute((&raw mut start).cast(), attribute, address + 79), OK);
        let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
        assert_eq!(sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, address), OK);
        let beyond = sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, address + 80);
        assert_eq!(beyond, CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    assert_eq!((start, kind), (address, sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32));
}

#[test]
fn what_the_device_cannot_do_it_says() {
    let context = context();
    context.bind_to_thread().unwrap();
    let stream = context.default_stream();
    let reverse = kernel(&context, "reverse");
    let mut values = stream.alloc_zeros::<u32>(32).unwrap();
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 128 };
    let mut launch = stream.launch_builder(&reverse);
    launch.arg(&mut values);
    // SAFETY: the calls are refused.
    unsafe {
        let unsupported = Some(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        assert_eq!(code(launch.launch_cooperative(config)), unsupported);
        let managed = result::malloc_managed(16, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL);
        assert_eq!(code(managed), unsupported);
    }
}
