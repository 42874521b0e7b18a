//! Buffers and views.

use crate::device::hold;
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::{Backend, Error};

#[test]
fn buffers_are_zeroed_and_start_on_a_cache_line() {
    let cpu = Cpu::new(2).unwrap();
    for len in [0, 1, 63, 64, 1000] {
        let buffer = cpu.alloc::<f32>(len).unwrap();
        assert_eq!(buffer.as_slice(), vec![0.0; len]);
        assert_eq!(buffer.as_slice().as_ptr() as usize % 64, 0);
    }
    assert!(matches!(cpu.alloc::<f64>(usize::MAX / 2), Err(Error::Backend { .. })));
}

#[test]
fn views_keep_inside_their_buffer_and_apart() {
    let cpu = Cpu::new(1).unwrap();
    let mut buffer = cpu.alloc::<u32>(10).unwrap();
    let [left, none, right] = cpu.disjoint_mut(&mut buffer, [6..10, 3..3, 0..6]).unwrap();
    left.fill(1);
    right.fill(2);
    assert!(none.is_empty());
    assert_eq!(cpu.view(&buffer, 5..7).unwrap(), [2, 1]);
    assert!(cpu.view(&buffer, 5..11).is_err());
    assert!(cpu.view_mut(&mut buffer, 11..11).is_err());
    assert!(cpu.disjoint_mut(&mut buffer, [0..6, 5..10]).is_err());
    assert!(cpu.disjoint_mut(&mut buffer, [0..6, 6..11]).is_err());
}

#[test]
fn copies_and_zeroes_whole_buffers() {
    let cpu = Cpu::new(7).unwrap();
    let source: Vec<u32> = (0..200_000).collect();
    let mut held = hold(&cpu, &vec![9u32; source.len()]);
    cpu.copy(&source, held.all_mut()).unwrap();
    assert_eq!(held.get(), source);
    cpu.zero(held.all_mut()).unwrap();
    assert!(held.get().iter().all(|&value| value == 0));
    assert!(matches!(cpu.copy(&source[1..], held.all_mut()), Err(Error::Length { arg: "target", .. })));
}

#[test]
fn a_backend_needs_threads_and_says_what_it_is() {
    assert!(matches!(Cpu::new(0), Err(Error::Argument { .. })));
    assert_eq!(Cpu::with_isa(1, Isa::Portable).unwrap().describe(), "cpu (portable, 1 thread)");
    assert!(Cpu::all_cores().unwrap().threads() >= 1);
}
