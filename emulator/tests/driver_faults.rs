//! Faults of kernels reach a cudarc program as they would from a device.

#[path = "driver/common.rs"]
mod common;

use std::process::Command;

use common::{code, context, kernel};
use cudarc::driver::sys::CUresult;
use cudarc::driver::{LaunchConfig, PushKernelArg};

const ONE: LaunchConfig = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };

#[test]
fn a_fault_sticks_to_its_context_and_to_no_other() {
    let broken = context();
    let stream = broken.new_stream().unwrap();
    let poke = kernel(&broken, "poke");
    let mut values = stream.alloc_zeros::<f32>(4).unwrap();
    // SAFETY: the emulator checks the access, which is what is tested.
    unsafe { stream.launch_builder(&poke).arg(&mut values).arg(&4_u64).launch(ONE) }.unwrap();
    let illegal = Some(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(code(stream.synchronize()), illegal);
    assert_eq!(code(broken.synchronize()), illegal);
    assert_eq!(code(stream.alloc_zeros::<u8>(1)), illegal);
    // SAFETY: the launch is refused.
    let again = unsafe { stream.launch_builder(&poke).arg(&mut values).arg(&0_u64).launch(ONE) };
    assert_eq!(code(again), illegal);

    let sound = context();
    let stream = sound.new_stream().unwrap();
    let values = stream.clone_htod(&[3_u8]).unwrap();
    assert_eq!(stream.clone_dtoh(&values).unwrap(), [3]);
}

#[test]
fn each_kind_of_fault_has_the_code_of_a_device() {
    for (name, expected) in [
        ("misaligned", CUresult::CUDA_ERROR_MISALIGNED_ADDRESS),
        ("give_up", CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ] {
        let context = context();
        let stream = context.new_stream().unwrap();
        let kernel = kernel(&context, name);
        let mut bytes = stream.alloc_zeros::<u8>(16).unwrap();
        let mut launch = stream.launch_builder(&kernel);
        if name == "misaligned" {
            launch.arg(&mut bytes);
        }
        // SAFETY: the emulator checks the access, which is what is tested.
        unsafe { launch.launch(ONE) }.unwrap();
        assert_eq!(code(stream.synchronize()), Some(expected), "{name}");
    }
}

/// Runs one test of this file in a process of its own and gives what it printed on the standard error.
fn alone(test: &str, switches: &[(&str, &str)]) -> (bool, String) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", test, "--ignored", "--nocapture"]).envs(switches.iter().copied());
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn program_that_writes_out_of_bounds() {
    let context = context();
    let stream = context.default_stream();
    let poke = kernel(&context, "poke");
    let mut values = stream.alloc_zeros::<f32>(4).unwrap();
    // SAFETY: the emulator checks the access, which is what is tested.
    unsafe { stream.launch_builder(&poke).arg(&mut values).arg(&5_u64).launch(ONE) }.unwrap();
    assert!(stream.synchronize().is_err());
}

#[test]
fn the_developer_reads_kernel_thread_and_instruction_once() {
    let (success, printed) = alone("program_that_writes_out_of_bounds", &[]);
    assert!(success, "{printed}");
    let report: Vec<&str> = printed.lines().filter(|line| line.contains("out of bounds")).collect();
    assert_eq!(report.len(), 1, "{printed}");
    for part in ["`poke`", "block (0, 0, 0)", "thread (0, 0, 0)", "PTX line", "st.global"] {
        assert!(report[0].contains(part), "{part} in {}", report[0]);
    }
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn program_that_forgets_its_memory() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let add = kernel(&context, "add");
    let a = stream.clone_htod(&[1.0_f32; 33]).unwrap();
    let mut sum = stream.alloc_zeros::<f32>(33).unwrap();
    for _ in 0..3 {
        let mut launch = stream.launch_builder(&add);
        launch.arg(&a).arg(&a).arg(&mut sum).arg(&33_u32);
        let config = LaunchConfig { grid_dim: (2, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: arrays of 33 floats and their length.
        unsafe { launch.launch(config) }.unwrap();
    }
    drop(a);
    std::mem::forget(sum);
}

#[test]
fn statistics_count_launches_and_list_what_was_not_freed() {
    let (success, printed) = alone("program_that_forgets_its_memory", &[("EMO_EMULATOR_STATS", "1")]);
    assert!(success, "{printed}");
    let kernel = printed.lines().find(|line| line.ends_with(" add")).expect(&printed);
    assert_eq!(kernel.split_whitespace().nth(1), Some("3"), "{printed}");
    assert!(printed.contains("1 device allocations live, 132 bytes; peak 264 bytes"), "{printed}");
    let (success, quiet) = alone("program_that_forgets_its_memory", &[]);
    assert!(success && !quiet.contains("emulator:"), "{quiet}");
}

#[test]
fn every_switch_that_the_readme_lists_is_understood() {
    for (switch, value) in [
        ("EMO_EMULATOR_SCHEDULE", "greedy"),
        ("EMO_EMULATOR_SCHEDULE", "random:3"),
        ("EMO_EMULATOR_COPIES", "late"),
        ("EMO_EMULATOR_CHECKS", "off"),
        ("EMO_EMULATOR_THREADS", "1"),
    ] {
        let (success, printed) = alone("program_that_forgets_its_memory", &[(switch, value)]);
        assert!(success, "{switch}={value}: {printed}");
    }
}

#[test]
fn a_switch_that_is_not_understood_stops_the_program() {
    let (success, printed) =
        alone("program_that_forgets_its_memory", &[("EMO_EMULATOR_COPIES", "sometimes")]);
    assert!(
        !success && printed.contains("EMO_EMULATOR_COPIES is `sometimes`; expected early or late"),
        "{printed}"
    );
}
