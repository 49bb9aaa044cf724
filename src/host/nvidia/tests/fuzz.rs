//! Feeds every parser with real texts that were cut, mixed and damaged, for a fixed number of
//! rounds, or for `NVLAUNCH_FUZZ_SECONDS` seconds. A failure names the seed of its round.

#![expect(clippy::print_stdout, reason = "how often a parser was run")]

use std::io::{Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::host::elf::{self, Elf, ModInfo};
use crate::host::ldso::parse_cache;
use crate::host::nvidia::{dkms, kernel, kernel_log, libraries};

/// Rounds per parser without `NVLAUNCH_FUZZ_SECONDS`.
const ROUNDS: u64 = 3_000;

/// A small generator (xorshift64*): the same seed, the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }

    /// One of the examples, damaged in up to eight places.
    fn damage(&mut self, examples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = examples[self.below(examples.len())].clone();
        for _ in 0..self.below(8) {
            let (from, to) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            match self.below(7) {
                0 => bytes.truncate(from),
                1 => drop(bytes.drain(from..to)),
                2 => bytes.extend_from_within(from..to),
                3 => {
                    let other = &examples[self.below(examples.len())];
                    let part = self.below(other.len() + 1);
                    bytes.splice(from..to, other[part..].iter().copied());
                }
                4 => {
                    let number = [0, 1, 0x7fff_ffff, u32::MAX, 0x8000_0000][self.below(5)];
                    bytes.splice(from..to.min(from + 4), number.to_le_bytes());
                }
                _ if bytes.is_empty() => bytes.push(b'\n'),
                5 => {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
                _ => {
                    let at = self.below(bytes.len());
                    bytes[at] = u8::try_from(self.next() & 0xff).expect("a byte");
                }
            }
            bytes.truncate(1 << 16);
        }
        bytes
    }
}

fn fuzz(name: &str, examples: &[Vec<u8>], parse: impl Fn(&[u8])) {
    fuzz_for(ROUNDS, name, examples, parse);
}

fn fuzz_for(limit: u64, name: &str, examples: &[Vec<u8>], parse: impl Fn(&[u8])) {
    let seconds = std::env::var("NVLAUNCH_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("NVLAUNCH_FUZZ_SECONDS is a number"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut rounds = 0;
    while end.map_or(rounds < limit, |end| Instant::now() < end) {
        rounds += 1;
        let bytes = Random(rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15)).damage(examples);
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| parse(&bytes)));
        assert!(result.is_ok(), "{name}: round {rounds}: {:?}", String::from_utf8_lossy(&bytes));
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: round {rounds} took too long");
    }
    println!("{name}: {rounds} executions");
}

fn texts(examples: &[&str]) -> Vec<Vec<u8>> {
    examples.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn files_of_the_kernel() {
    let examples = texts(&[
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.135  Fri Jan 10\nGCC version: 12\n",
        "Model: \t NVIDIA RTX A6000\nGPU UUID: GPU-????????\nDevice Minor: \t 1\n",
    ]);
    fuzz("version, information", &examples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some((version, _)) = kernel::parse_version(&text) {
            assert!(version::is_version(version.as_bytes()));
        }
        let _ = kernel::parse_information("0000:3b:00.0", &text);
    });
}

#[test]
fn the_list_of_modules() {
    let examples = texts(&[
        "updates/dkms/nvidia-uvm.ko.zst: updates/dkms/nvidia.ko.zst\nextra/nvidia.ko.xz:\n",
        "kernel/nvidia-580-open/nvidia.ko: a.ko b.ko\n/lib/modules/x/nvidia-current.ko:\n",
    ]);
    fuzz("modules.dep", &examples, |bytes| {
        let paths = disk_module::listed(bytes, "/lib/modules/x");
        assert!(paths.iter().all(|path| path.contains("nvidia")));
    });
}

#[test]
fn compressed_modules() {
    let text = "version=580.95.05\0license=NVIDIA\0vermagic=6.8.0 SMP\0".repeat(300);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let mut xz = Vec::new();
    lzma_rs::xz_compress(&mut text.as_bytes(), &mut xz).expect("in memory");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).expect("in memory");
    let zeros = include_bytes!("zeros.xz").to_vec();
    let zstd = ruzstd::encoding::compress_to_vec(text.as_bytes(), level);
    let gz = gz.finish().expect("in memory");
    fuzz_for(300, "compressed module", &[xz, zeros, zstd, gz], |bytes| {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).and_then(|()| file.rewind()).expect("writable");
        let second = Duration::from_secs(1);
        let _ = disk_module::unpack(&file, disk_module::Bounded::new(1 << 23, second, second));
    });
}

#[test]
fn the_linkers_cache() {
    let lines = [
        (X86_64, 0, "libcuda.so.1", "/usr/lib64/libcuda.so.1"),
        (3, 1 << 62, "libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.1"),
    ];
    let examples = [Format::Old, Format::Combined, Format::New].map(|f| cache_file(f, &lines));
    fuzz("ld.so.cache", &examples, |bytes| {
        let _ = parse_cache(bytes, |_| true);
    });
}

#[test]
fn elf_files_notes_and_modinfo() {
    let notes = [note("GNU", 3, b"id"), note("NVIDIA Corporation", 0, NOTE.as_bytes())].concat();
    let info = b"version=580.95.05\0license=Dual MIT/GPL\0vermagic=6.8.0 SMP\0";
    let rodata = b"NCCL_DEBUG\0NCCL version 2.27.3+cuda12.9\x00580.95.05\0";
    let examples = [
        elf_file(&[(".note.x", &notes), (".modinfo", info), (".rodata", rodata)]),
        elf_file(&[(".rodata", rodata)]),
        elf_file(&[]),
    ];
    fuzz("ELF file", &examples, |bytes| {
        if let Ok(elf) = Elf::read(bytes) {
            for (_, text) in elf.notes("NVIDIA Corporation").unwrap_or_default() {
                let _ = libraries::parse_compatibility(&text);
            }
            let _ = elf.section(".modinfo", 1 << 20).map(|section| {
                ModInfo::parse(&section.unwrap_or_default());
            });
        }
        let _ = ModInfo::parse(bytes);
        let _ = elf::names_with_prefix(bytes, b"NCCL_");
        let _ = elf::driver_version(bytes);
    });
    let notes = texts(&[NOTE, r#"{"driver":[],"CUDA version":7}"#]);
    fuzz("note of libcuda", &notes, |bytes| {
        let _ = libraries::parse_compatibility(bytes);
    });
}

#[test]
fn names_and_logs_of_dkms() {
    let examples = texts(&[
        "DKMS make.log for nvidia-580.95.05 for kernel 6.8.0-45-generic (x86_64)\nmake: x\n",
        "DKMS (dkms-3.0.11) make.log for nvidia/580.1 for kernel 6.8.0-45-generic (x86_64)\n",
    ]);
    fuzz("make.log", &examples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        assert!(dkms::kernel_of_log(&text).is_none_or(|kernel| !kernel.is_empty()));
        let _ = dkms::shortened(&text);
    });
    let names = ["nvidia", "nvidia-current", "580.95.05", "6.8.0", "x86_64", "module", "build"];
    // Every round makes folders.
    fuzz_for(50, "DKMS tree", &texts(&names), |bytes| {
        let name: String = String::from_utf8_lossy(bytes).replace(['/', '\0'], "_");
        let name = if matches!(name.as_str(), "" | "." | "..") { "x" } else { &name[..] };
        if name.len() > 200 {
            return;
        }
        let root = Root::new(&[]);
        root.file(&format!("var/lib/dkms/{name}/{name}/{name}/x86_64/module/x"), "");
        root.link(&format!("var/lib/dkms/{name}/kernel-{name}"), name);
        let _ = dkms::read(root.path(), &mut Vec::new());
    });
}

#[test]
fn the_kernels_log() {
    let examples = texts(&[
        "[1.5] NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.\n",
        "2025-10-22T08:01:02.12+00:00 h kernel: NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 94, pid=7\n",
        "Oct 22 08:01:02 gpu01 kernel: [    0.000000] Linux version 6.8.0-45-generic\n",
    ]);
    fuzz("kernel log", &examples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let events = kernel_log::events(kernel_log::since_boot(&text), "x");
        assert!(events.len() <= kernel_log::MAX_EVENTS);
        let boot = kernel_log::Boot { at: Some(0), uptime: Some(1.0) };
        let _ = text.lines().any(|line| kernel_log::is_before(line, boot));
    });
}
