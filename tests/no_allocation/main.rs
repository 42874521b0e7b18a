//! Ops allocate nothing: every op of the CPU backend under an allocator that counts.
//!
//! With one thread that is exactly none. A call to a pool of several threads hands its loops over through rayon's queue,
//! which takes a new block of memory once in about sixty hand-overs, whatever the op; the test bounds that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use emo::cpu::Cpu;

/// Evaluates a call, and notes its name and how often it allocated.
macro_rules! count {
    ($out:ident, $name:literal, $call:expr) => {{
        let before = crate::ALLOCATIONS.load(std::sync::atomic::Ordering::Relaxed);
        let result = $call;
        let after = crate::ALLOCATIONS.load(std::sync::atomic::Ordering::Relaxed);
        result.unwrap_or_else(|error| panic!("{error}"));
        $out.push(($name, after - before));
    }};
}

mod dense;
mod sparse;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const T: usize = 150;
const K: usize = 3;
const E: usize = 9;
const D: usize = 36;
const H: usize = 20;
const R: usize = T * K;

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect()
}

/// Calls every op once on buffers that are already there, and notes how often each allocated.
fn allocations(cpu: &Cpu, out: &mut Vec<(&'static str, usize)>) {
    dense::run(cpu, out);
    sparse::run(cpu, out);
}

/// One test, because the count is the process's.
#[test]
fn ops_allocate_nothing() {
    let mut found = Vec::with_capacity(100);
    // The first round starts threads and fills what is set up once.
    for round in 0..2 {
        found.clear();
        allocations(&Cpu::new(1).unwrap(), &mut found);
        let some: Vec<_> = found.iter().filter(|(_, count)| *count > 0).collect();
        assert!(round == 0 || some.is_empty(), "one thread: {some:?}");
    }
    assert_eq!(found.len(), 43, "every op, copy, zero and add");

    let cpu = Cpu::new(2).unwrap();
    allocations(&cpu, &mut found);
    found.clear();
    const ROUNDS: usize = 40;
    (0..ROUNDS).for_each(|_| allocations(&cpu, &mut found));
    // An op is at most six parallel loops. A check that formats its message, or a vector, would count in every round.
    let total: usize = found.iter().map(|(_, count)| count).sum();
    println!("two threads: {total} allocations in {} calls", found.len());
    assert!(total * 10 < found.len(), "{total} allocations in {} calls", found.len());
    let names: Vec<_> = found[..found.len() / ROUNDS].iter().map(|(name, _)| *name).collect();
    for name in names {
        let calls = found.iter().filter(|(other, count)| *other == name && *count > 0).count();
        assert!(calls <= ROUNDS / 2, "{name} allocated in {calls} of {ROUNDS} calls");
    }
}
