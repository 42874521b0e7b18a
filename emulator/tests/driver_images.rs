//! Fat binaries, sound and hostile.

use cuda::fatbin::{ImageError, ptx_text};

const PLAIN: &[u8] = include_bytes!("driver/none.fatbin");
const ZSTANDARD: &[u8] = include_bytes!("driver/balance.fatbin");
const LZ4: &[u8] = include_bytes!("driver/speed.fatbin");

/// A fat binary of PTX entries, each a capability and a text.
fn fat_binary(entries: &[(u32, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (capability, text) in entries {
        let mut text = text.as_bytes().to_vec();
        text.resize((text.len() + 1).next_multiple_of(8), 0);
        let mut header = vec![0; 64];
        header[..8].copy_from_slice(&[1, 0, 1, 1, 64, 0, 0, 0]);
        header[8..16].copy_from_slice(&(text.len() as u64).to_le_bytes());
        header[28..32].copy_from_slice(&capability.to_le_bytes());
        body.extend(header);
        body.extend(text);
    }
    let mut image = vec![0x50, 0xED, 0x55, 0xBA, 1, 0, 16, 0];
    image.extend((body.len() as u64).to_le_bytes());
    image.extend(body);
    image
}

#[test]
fn every_compression_of_nvcc_gives_the_same_text() {
    let text = ptx_text(PLAIN, 80).unwrap();
    assert!(text.contains(".visible .entry add("));
    assert_eq!(ptx_text(ZSTANDARD, 80).unwrap(), text);
    assert_eq!(ptx_text(LZ4, 80).unwrap(), text);
}

#[test]
fn the_highest_capability_that_the_device_has_is_taken() {
    let texts = [
        (70, ".version 8.0\n.target sm_70"),
        (90, ".version 8.0\n.target sm_90"),
        (80, ".version 8.0\n.target sm_80"),
    ];
    let image = fat_binary(&texts);
    assert_eq!(ptx_text(&image, 80).unwrap(), texts[2].1);
    assert_eq!(ptx_text(&image, 75).unwrap(), texts[0].1);
    assert_eq!(ptx_text(&image, 100).unwrap(), texts[1].1);
    let error = ptx_text(&image, 60).unwrap_err();
    assert_eq!(error, ImageError::NoPtx(60, vec![70, 90, 80]));
    assert!(error.to_string().contains("-gencode arch=compute_60"));
}

#[test]
fn architecture_specific_text_runs_on_its_own_architecture_only() {
    let image = fat_binary(&[(80, ".version 8.0\n.target sm_80"), (90, ".version 8.0\n.target sm_90a")]);
    assert!(ptx_text(&image, 90).unwrap().ends_with("sm_90a"));
    assert!(ptx_text(&image, 100).unwrap().ends_with("sm_80"));
}

#[test]
fn what_is_no_ptx_is_named() {
    assert_eq!(ptx_text(b"\x7fELF and so on", 80), Err(ImageError::MachineCode));
    assert_eq!(ptx_text(b"int main() {}", 80), Err(ImageError::NotPtx));
    assert_eq!(ptx_text(b"", 80), Err(ImageError::NotPtx));
    assert_eq!(ptx_text(b".version \xFF", 80), Err(ImageError::NotPtx));
    assert_eq!(ptx_text(b".version 8.0\0rest", 80).unwrap(), ".version 8.0");
    assert_eq!(ptx_text(&PLAIN[..10], 80), Err(ImageError::Truncated("header")));
}

#[test]
fn truncated_images_are_errors() {
    for image in [PLAIN, ZSTANDARD, LZ4] {
        for length in (4..image.len()).step_by(41).chain(image.len() - 80..image.len()) {
            assert!(ptx_text(&image[..length], 80).is_err(), "{length} bytes");
        }
    }
}

/// Numbers that look random and are the same in every run.
fn generator(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut random = generator(1);
    for image in [PLAIN, ZSTANDARD, LZ4] {
        // The headers, bit by bit; then anywhere.
        let entry = 16 + u64::from_le_bytes(image[24..32].try_into().unwrap()) as usize + 64;
        let headers = (0..80).chain(entry..entry + 80).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
        let anywhere: Vec<_> = (0..2000).map(|_| (random(image.len()), random(8))).collect();
        for (byte, bit) in headers.chain(anywhere) {
            let mut hostile = image.to_vec();
            hostile[byte] ^= 1 << bit;
            // Many flips leave a sound image, such as those in the machine code; none may panic.
            let _ = ptx_text(&hostile, 80);
        }
    }
}

#[test]
fn sizes_that_lie_are_errors() {
    for (at, value) in
        [(8, u64::MAX), (8, u64::MAX - 16), (24, u64::MAX), (24, 1 << 40), (20, 0), (20, u64::MAX)]
    {
        let mut hostile = ZSTANDARD.to_vec();
        hostile[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(ptx_text(&hostile, 80).is_err(), "{value:#x} at {at}");
    }
    for image in [ZSTANDARD, LZ4] {
        let entry = 16 + 64 + u64::from_le_bytes(image[24..32].try_into().unwrap()) as usize;
        for unpacked in [0_u64, 1 << 62, 1 << 27] {
            let mut hostile = image.to_vec();
            hostile[entry + 56..entry + 64].copy_from_slice(&unpacked.to_le_bytes());
            let result = ptx_text(&hostile, 80);
            // Zstandard needs no size to unpack, so a larger claim is harmless; a smaller one is a cut text.
            assert!(result.is_err() || result == ptx_text(image, 80), "{unpacked:#x}");
        }
    }
}
