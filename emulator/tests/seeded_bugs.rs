//! Each kind of bug, seeded into a kernel, is found and named; the correct kernel beside it is clean. All under every schedule.

mod common;

use common::{Arg, Bench, Numbers, all_options, from_bf16, to_bf16};
use cuda::{AsyncCopies, Fault, Options, Space};

const PTX: &str = include_str!("kernels/seeded.ptx");

/// Runs a variant of the GEMM; gives the largest error, or the fault.
fn gemm(kernel: &str, options: Options, [m, n, k]: [usize; 3]) -> Result<f64, Fault> {
    let bench = Bench::new(PTX, options);
    let mut numbers = Numbers(5);
    let a: Vec<u16> = numbers.take(m * k).into_iter().map(to_bf16).collect();
    let b: Vec<u16> = numbers.take(n * k).into_iter().map(to_bf16).collect();
    let c = bench.empty(m * n * 4);
    let args = [
        Arg::Pointer(bench.upload(&a)),
        Arg::Pointer(bench.upload(&b)),
        Arg::Pointer(c),
        Arg::I32(m as i32),
        Arg::I32(n as i32),
        Arg::I32(k as i32),
    ];
    bench.launch(kernel, [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1], [128, 1, 1], 0, &args)?;
    let found: Vec<f32> = bench.download(c, m * n);
    let mut worst = 0.0f64;
    for i in 0..m {
        for j in 0..n {
            let sum: f64 =
                (0..k).map(|p| f64::from(from_bf16(a[i * k + p])) * f64::from(from_bf16(b[j * k + p]))).sum();
            // A comparison of bits first: an element that was never written is NaN and must not pass.
            let error = (f64::from(found[i * n + j]) - sum).abs();
            worst = if error <= worst { worst } else { error };
        }
    }
    Ok(worst)
}

/// Runs a kernel on a buffer of `count` floats 1, 2, 3, ...
fn on_floats(kernel: &str, options: Options, count: usize, threads: u32) -> Result<Vec<f32>, Fault> {
    let bench = Bench::new(PTX, options);
    let values: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
    let x = bench.upload(&values);
    bench.launch(kernel, [1, 1, 1], [threads, 1, 1], 0, &[Arg::Pointer(x)])?;
    Ok(bench.download(x, count))
}

/// The fault of a variant under every schedule, each of which must find one, with its message.
fn gemm_faults(kernel: &str) -> Vec<(Options, Fault)> {
    let faults = |options: Options| {
        let fault = gemm(kernel, options.clone(), [64, 64, 64]).expect_err(kernel);
        let message = fault.to_string();
        assert!(
            message.contains(kernel) && message.contains("PTX line") && message.contains("thread ("),
            "{message}"
        );
        (options, fault)
    };
    all_options().into_iter().map(faults).collect()
}

#[test]
fn the_correct_gemm_is_clean() {
    for options in all_options() {
        for shape in [[64, 64, 64], [33, 40, 16], [1, 1, 32]] {
            let worst = gemm("gemm_correct", options.clone(), shape).expect("no fault");
            assert!(worst < 1e-5, "{worst}");
        }
    }
}

#[test]
fn a_missing_barrier_after_the_load_is_found() {
    for (_, fault) in gemm_faults("gemm_no_sync_after_load") {
        let (Fault::Race { site, .. }
        | Fault::AsyncInFlight { site, .. }
        | Fault::Uninitialised { site, .. }) = &fault
        else {
            panic!("{fault}");
        };
        assert!(site.instruction.starts_with("ldmatrix"), "{fault}");
    }
}

#[test]
fn a_missing_barrier_at_the_end_of_the_loop_is_found() {
    for (_, fault) in gemm_faults("gemm_no_trailing_sync") {
        // The copy of one warp meets the reads of another, whichever comes first.
        assert!(matches!(&fault, Fault::Race { .. } | Fault::AsyncInFlight { .. }), "{fault}");
    }
}

#[test]
fn a_wait_for_too_few_groups_is_found() {
    for (_, fault) in gemm_faults("gemm_lax_wait") {
        assert!(matches!(&fault, Fault::AsyncInFlight { .. }), "{fault}");
    }
}

#[test]
fn a_wrong_fragment_index_gives_wrong_numbers() {
    for options in all_options() {
        let worst = gemm("gemm_wrong_fragment", options, [64, 64, 64]).expect("no fault");
        assert!(worst > 0.1, "{worst}");
    }
}

#[test]
fn a_misaligned_copy_is_found() {
    for (_, fault) in gemm_faults("gemm_misaligned_copy") {
        assert!(matches!(&fault, Fault::Misaligned { space: Space::Shared, bytes: 16, .. }), "{fault}");
    }
}

#[test]
fn a_matrix_product_without_one_lane_is_found() {
    for (_, fault) in gemm_faults("gemm_missing_lane") {
        let Fault::DivergentBarrier { site, detail } = &fault else { panic!("{fault}") };
        assert!(site.instruction.contains("mma.sync") && detail.contains("0x80000000"), "{fault}");
    }
}

#[test]
fn overlapping_stages_are_found_whenever_copies_land() {
    for (_, fault) in gemm_faults("gemm_overlapping_stages") {
        assert!(matches!(&fault, Fault::Race { .. } | Fault::AsyncInFlight { .. }), "{fault}");
    }
}

#[test]
fn without_checks_overlapping_stages_show_in_the_numbers_of_early_copies_only() {
    for options in all_options() {
        let early = options.async_copies == AsyncCopies::Early;
        let options = Options { checks: false, ..options };
        let worst = gemm("gemm_overlapping_stages", options, [64, 64, 64]).expect("nothing is checked");
        if early {
            assert!(worst.is_nan() || worst > 0.1, "{worst}");
        }
    }
}

#[test]
fn an_access_behind_the_end_is_found() {
    for options in all_options() {
        let fault = gemm("gemm_no_bounds", options, [40, 64, 64]).expect_err("rows 40 to 63 do not exist");
        let Fault::OutOfBounds { space: Space::Global, detail, site, .. } = &fault else { panic!("{fault}") };
        assert!(detail.contains("behind the end") && site.instruction.contains("cp.async"), "{fault}");
    }
}

#[test]
fn a_race_through_shared_memory_is_found() {
    for options in all_options() {
        let reversed = on_floats("reverse_correct", options.clone(), 128, 128).expect("no fault");
        assert_eq!(reversed[0], 128.0);
        let fault = on_floats("reverse_no_sync", options, 128, 128).expect_err("no barrier");
        // A warp that runs ahead reads what nothing has written yet; otherwise the two race.
        assert!(
            matches!(&fault, Fault::Race { .. } | Fault::Uninitialised { space: Space::Shared, .. }),
            "{fault}"
        );
    }
}

#[test]
fn a_read_of_shared_memory_that_nothing_wrote_is_found() {
    for options in all_options() {
        let fault = on_floats("reverse_unwritten", options, 128, 128).expect_err("word 5 is not written");
        let Fault::Uninitialised { space: Space::Shared, site, bytes: 4, .. } = &fault else {
            panic!("{fault}")
        };
        assert_eq!(site.thread, [122, 0, 0]);
    }
}

#[test]
fn two_warps_may_write_the_halves_of_a_word() {
    for options in all_options() {
        let bench = Bench::new(PTX, options);
        let x = bench.upload(&(0..64).collect::<Vec<u16>>());
        bench.launch("halves", [1, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(x)]).expect("no fault");
        assert_eq!(bench.download::<u16>(x, 64), (0..64).rev().collect::<Vec<u16>>());
    }
}

#[test]
fn divergent_barriers_are_found() {
    for options in all_options() {
        let fault = on_floats("barrier_half_a_warp", options.clone(), 64, 64).expect_err("half a warp");
        assert!(matches!(&fault, Fault::DivergentBarrier { .. }), "{fault}");
        let fault = on_floats("barrier_two_places", options.clone(), 64, 64).expect_err("two places");
        assert!(matches!(&fault, Fault::DivergentBarrier { .. }), "{fault}");
        let fault = on_floats("shuffle_missing_lane", options, 32, 32).expect_err("lane 7 is missing");
        let Fault::DivergentBarrier { detail, .. } = &fault else { panic!("{fault}") };
        assert!(detail.contains("0x00000080"), "{fault}");
    }
}

#[test]
fn deadlocks_are_found() {
    for options in all_options() {
        let fault = on_floats("barrier_of_too_many", options.clone(), 64, 64).expect_err("64 of 128 threads");
        assert!(matches!(&fault, Fault::Deadlock { .. }), "{fault}");
        let fault = on_floats("producers_wrong_barrier", options, 128, 128).expect_err("nobody arrives at 2");
        let Fault::Deadlock { site, detail } = &fault else { panic!("{fault}") };
        assert!(site.instruction.starts_with("bar.sync 2") && detail.contains("warp 2"), "{fault}");
    }
}

#[test]
fn named_barriers_order_producers_and_consumers() {
    for options in all_options() {
        let found = on_floats("producers", options.clone(), 128, 128).expect("no fault");
        assert_eq!((found[64], found[127]), (128.0, 2.0));
        let fault = on_floats("producers_no_wait", options, 128, 128).expect_err("no wait");
        assert!(matches!(&fault, Fault::Race { .. } | Fault::Uninitialised { .. }), "{fault}");
    }
}

#[test]
fn bad_global_accesses_are_found() {
    let run = |shift: i32, written: usize, free: bool, kernel: &str| {
        let bench = Bench::new(PTX, Options::default());
        let (x, y) = (bench.empty(256), bench.empty(128));
        bench.device.memory().write(x, &vec![1; written]).expect("in bounds");
        if free {
            bench.device.memory().free(x).expect("allocated");
        }
        let args = [Arg::Pointer(x), Arg::Pointer(y), Arg::I32(shift)];
        bench.launch(kernel, [1, 1, 1], [32, 1, 1], 0, &args).map(|_| bench.download::<u32>(y, 32))
    };
    assert_eq!(run(32, 256, false, "copy_elements").expect("no fault"), [0x0101_0101; 32]);
    let fault = run(33, 256, false, "copy_elements").expect_err("one element too far");
    let Fault::OutOfBounds { site, .. } = &fault else { panic!("{fault}") };
    assert_eq!(site.thread, [31, 0, 0]);
    let fault = run(-1, 256, false, "copy_elements").expect_err("one element too early");
    assert!(matches!(fault, Fault::OutOfBounds { .. }), "{fault}");
    let fault = run(8, 128, false, "copy_elements").expect_err("only 32 elements are written");
    let Fault::Uninitialised { site, space: Space::Global, .. } = &fault else { panic!("{fault}") };
    assert_eq!(site.thread, [24, 0, 0]);
    let fault = run(0, 256, true, "copy_elements").expect_err("freed");
    assert!(fault.to_string().contains("freed allocation"), "{fault}");
    let fault = run(2, 256, false, "copy_bytes_as_words").expect_err("two bytes off");
    assert!(matches!(fault, Fault::Misaligned { bytes: 4, .. }), "{fault}");
}

#[test]
fn an_endless_loop_is_stopped() {
    let options = Options { warp_instruction_limit: 100_000, ..Options::default() };
    let bench = Bench::new(PTX, options);
    let x = bench.upload(&[0f32]);
    let fault = bench.launch("endless", [1, 1, 1], [1, 1, 1], 0, &[Arg::Pointer(x)]).expect_err("endless");
    assert!(matches!(fault, Fault::Livelock { instructions: 100_000, .. }), "{fault}");
}

#[test]
fn a_trap_and_an_unknown_instruction_stop_only_the_launch_that_reaches_them() {
    let bench = Bench::new(PTX, Options::default());
    let mut values = vec![1f32; 64];
    let x = bench.upload(&values);
    values[40] = -1.0;
    let y = bench.upload(&values);
    for kernel in ["trap_if", "unsupported_if"] {
        bench.launch(kernel, [1, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(x)]).expect("no negative value");
        let fault = bench.launch(kernel, [1, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(y)]).expect_err("value 40");
        assert_eq!(fault.site().map(|site| site.thread), Some([40, 0, 0]), "{fault}");
        match fault {
            Fault::Trap { .. } => assert_eq!(kernel, "trap_if"),
            Fault::Unsupported { instruction, .. } => assert!(instruction.starts_with("createpolicy")),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn lanes_that_rely_on_running_in_step_are_found_on_request() {
    for options in all_options() {
        let strict = Options { lane_races: true, ..options.clone() };
        let swapped = on_floats("neighbours_correct", strict.clone(), 64, 64).expect("no fault");
        assert_eq!(swapped[..4], [3.0, 2.0, 5.0, 4.0]);
        let fault = on_floats("neighbours_no_sync", strict.clone(), 64, 64).expect_err("no barrier");
        let Fault::Race { detail, .. } = &fault else { panic!("{fault}") };
        assert!(detail.contains("bar.warp.sync"), "{fault}");
        on_floats("neighbours_no_sync", options, 64, 64).expect("not looked for");
        gemm("gemm_correct", strict, [64, 64, 64]).expect("no fault");
    }
}
