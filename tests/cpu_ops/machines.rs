//! What an op of the CPU backend must agree with, and on which machines.

use crate::agree::{Call, close, in_bf16, in_f32, same_bits};
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::oracle::{Oracle, OracleIn};
use half::bf16;
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

/// The same that store bf16, for two thread counts.
fn coarse_machines() -> &'static [[Cpu<bf16>; 2]] {
    static MACHINES: OnceLock<Vec<[Cpu<bf16>; 2]>> = OnceLock::new();
    MACHINES.get_or_init(|| {
        let with_threads = |isa| [1, 3].map(|threads| Cpu::with_isa(threads, isa).unwrap().storing());
        Isa::available().map(with_threads).collect()
    })
}

/// Every instruction set agrees with the specification in either storage, and every thread count with the others.
#[track_caller]
pub fn agree(call: &impl Call) {
    let exact = call.on(&Oracle);
    for machines in machines() {
        let found = close(call, &exact, &machines[0], in_f32);
        machines[1..].iter().for_each(|machine| same_bits(call, &found, machine));
    }
    let exact = call.on(&OracleIn::<bf16>::default());
    for [machine, other] in coarse_machines() {
        let found = close(call, &exact, machine, in_bf16);
        same_bits(call, &found, other);
    }
}
