#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| emo_fuzz::readers::fuzz("retention", bytes));
