#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nvlaunch::checkpoint::fuzz::index(data));
