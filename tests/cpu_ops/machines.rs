//! What an op of the CPU backend must agree with, and on which machines.

use crate::agree::{Call, close, in_f32, same_bits};
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::oracle::Oracle;
use std::sync::OnceLock;

/// The thread counts whose results must be the same bits.
const THREADS: [usize; 3] = [1, 2, 7];

/// For every instruction set of this processor, a backend for each thread count.
pub fn machines() -> &'static [Vec<Cpu>] {
    static MACHINES: OnceLock<Vec<Vec<Cpu>>> = OnceLock::new();
    MACHINES.get_or_init(|| {
        let with_threads = |isa| THREADS.map(|threads| Cpu::with_isa(threads, isa).unwrap()).into();
        Isa::available().map(with_threads).collect()
    })
}

/// Every instruction set agrees with the specification, and every thread count with the others.
#[track_caller]
pub fn agree(call: &impl Call) {
    let exact = call.on(&Oracle);
    for machines in machines() {
        let found = close(call, &exact, &machines[0], in_f32);
        machines[1..].iter().for_each(|machine| same_bits(call, &found, machine));
    }
}
