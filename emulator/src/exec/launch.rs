//! A grid: blocks handed out to threads in the order of their index.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::access::Globals;
use super::block::{Block, Launch};
use super::program::Program;
use crate::device::{LaunchConfig, Stats};
use crate::fault::Fault;
use crate::memory::Memory;
use crate::options::Options;

/// Most threads of a block.
const MAX_THREADS: u64 = 1024;
/// Most shared memory of a block: that of compute capability 9.0.
const MAX_SHARED: u64 = 227 * 1024;

/// Most local memory of a thread (CUDA programming guide, technical specifications).
const MAX_LOCAL: u32 = 512 * 1024;

/// Runs `entry` of `program`.
pub(crate) fn launch(
    program: &Program,
    memory: &Memory,
    options: &Options,
    entry: &str,
    config: &LaunchConfig,
    params: &[u8],
) -> Result<Stats, Fault> {
    let index = program.entries().iter().position(|known| known.name == entry);
    let index = index.ok_or_else(|| Fault::NoEntry(entry.to_owned()))?;
    check(program, index, config, params)?;
    let launch = Launch {
        kernel: entry,
        code: program.code(index),
        memory,
        globals: Globals { allocations: memory.snapshot() },
        params,
        options,
        config: *config,
    };
    let blocks: u64 = config.grid.iter().map(|&extent| u64::from(extent)).product();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let outcome = Mutex::new((Stats::default(), None::<(u64, Box<Fault>)>));
    let work = || {
        let mut block = Block::new(&launch);
        let mut total = Stats::default();
        while !stop.load(Ordering::Relaxed) {
            let linear = next.fetch_add(1, Ordering::Relaxed);
            if linear >= blocks {
                break;
            }
            match block.run(linear) {
                Ok(stats) => total = total.plus(stats),
                Err(fault) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut outcome = outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    // Blocks start in order, so the lowest that fails always runs: the fault reported is the same every time.
                    if outcome.1.as_ref().is_none_or(|(known, _)| linear < *known) {
                        outcome.1 = Some((linear, fault));
                    }
                }
            }
        }
        let mut outcome = outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        outcome.0 = outcome.0.plus(total);
    };
    let threads = (options.threads.max(1) as u64).min(blocks);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match outcome.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        (_, Some((_, fault))) => Err(*fault),
        (stats, None) => Ok(stats),
    }
}

fn check(program: &Program, index: usize, config: &LaunchConfig, params: &[u8]) -> Result<(), Fault> {
    let entry = &program.entries()[index];
    let refuse = |message: String| Err(Fault::Configuration { kernel: entry.name.clone(), message });
    let threads: u64 = config.block.iter().map(|&extent| u64::from(extent)).product();
    if config.grid.contains(&0) || threads == 0 {
        return refuse(format!("an empty grid {:?} or block {:?}", config.grid, config.block));
    }
    if config.grid[1] > 65_535 || config.grid[2] > 65_535 || config.grid[0] > i32::MAX as u32 {
        return refuse(format!("grid {:?} exceeds (2^31 - 1, 65535, 65535)", config.grid));
    }
    if threads > MAX_THREADS || config.block[2] > 64 {
        return refuse(format!("block {:?} exceeds {MAX_THREADS} threads or 64 in z", config.block));
    }
    if let Some(required) = entry.required_threads
        && required != config.block
    {
        return refuse(format!("block {:?}, but the entry requires {required:?}", config.block));
    }
    if let Some(most) = entry.max_threads {
        let most: u64 = most.iter().map(|&extent| u64::from(extent)).product();
        if threads > most {
            return refuse(format!("{threads} threads, but the entry allows {most}"));
        }
    }
    let shared = u64::from(entry.shared_bytes) + u64::from(config.shared_bytes);
    if shared > MAX_SHARED {
        return refuse(format!("{shared} bytes of shared memory of at most {MAX_SHARED}"));
    }
    if entry.local_bytes > MAX_LOCAL {
        return refuse(format!(
            "{} bytes of local memory a thread of at most {MAX_LOCAL}",
            entry.local_bytes
        ));
    }
    if (params.len() as u64) < u64::from(entry.param_bytes) {
        return refuse(format!(
            "{} bytes of parameters, but the entry has {}",
            params.len(),
            entry.param_bytes
        ));
    }
    Ok(())
}
