//! What the fuzzers run: `fuzz/` with cargo-fuzz, and the test below with damaged samples.
//!
//! Each entry takes any bytes and panics if a rule is broken.
//!
//! - Z1: nothing panics, and memory stays in proportion to the bytes.
//! - Z2: what is whole is whole no more when its last byte is gone.
//! - Z3: the same bytes give the same again.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::io::{Io, Opened};
use super::layout::dcp_bytes;
use super::read::pickle::{self, Limits, Value};
use super::read::{safetensors, text, torch_file};

/// A pickle, within usual and within small limits.
pub fn pickle(data: &[u8]) {
    let all = pickle::read_prefix(data, &Limits::default());
    if let Ok((value, used)) = &all {
        assert!(*used <= data.len());
        // Z1: the dearest instruction is one byte and makes an empty set: a node, a list, a place on
        // the stack, each in a buffer that doubles.
        let bound = 128 * data.len() + 4096;
        assert!(value.memory() <= bound, "{} bytes for {}", value.memory(), data.len());
        walk(value);
        let again = pickle::read_prefix(data, &Limits::default());
        let (again, _) = again.expect("it was read before");
        assert_eq!(format!("{value:?}"), format!("{again:?}"));
        let cut = pickle::read(&data[..used - 1], &Limits::default());
        assert!(cut.is_err(), "its last byte is its end");
    }
    let small = Limits { bytes: 1 << 20, depth: 4, objects: 40 };
    match (pickle::read_prefix(data, &small), &all) {
        (Ok((value, used)), Ok((_, all))) => {
            assert_eq!(used, *all);
            let bound = 128 * small.objects + 4 * data.len() + 4096;
            assert!(value.memory() <= bound, "{} bytes", value.memory());
        }
        (Ok(_), Err(error)) => panic!("only the larger limits refuse: {error}"),
        (Err(_), _) => {}
    }
}

/// Asks for everything that readers ask for.
fn walk(value: &Value) {
    let members = value.iter().chain(value.items().flat_map(|(key, value)| [key, value]));
    let inner = [value.class(), value.args(), value.state(), value.persistent()];
    for value in members.take(100).chain(inner.into_iter().flatten()).chain([value.clone()]) {
        let _ = (value.kind(), value.as_global(), value.get("a"), value.at(0), value.len());
        let _ = (value.as_str(), value.as_u64(), value.as_f64(), format!("{value:?}"));
    }
    assert!(value.all_persistent().count() <= value.memory());
}

thread_local! {
    /// A file that is only in memory.
    static FILE: RefCell<File> = RefCell::new(
        nix::sys::memfd::memfd_create("fuzz", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
            .expect("memory can be had")
            .into(),
    );
}

/// Runs with a file of these bytes.
fn with_file<T>(bytes: &[u8], run: impl FnOnce(&Opened, &mut Io) -> T) -> T {
    FILE.with_borrow(|file| {
        file.set_len(0).expect("it is ours");
        file.write_all_at(bytes, 0).expect("memory can be had");
        let file = file.try_clone().expect("a descriptor can be had");
        run(&Opened::of(file).expect("it is a file"), &mut Io::until(None))
    })
}

/// A file of `torch.save`, of either form.
pub fn torch(data: &[u8]) {
    let checked = with_file(data, |opened, io| {
        let checked = torch_file::check_opened(opened, io).expect("it can be read");
        // F1, with what data.pkl takes.
        assert!(io.operations() < 200 && io.bytes() < 8 * data.len() as u64 + 8192, "{io:?}");
        if let Ok(file) = &checked {
            assert_eq!(file.size, data.len() as u64);
            assert!(file.data.iter().all(|data| data.start <= data.end && data.end < file.size));
            let value = torch_file::load_opened(opened, file, io).expect("it can be read");
            assert!(value.is_some() || !file.is_legacy);
        }
        checked.is_ok()
    });
    let _ = torch_file::number_in(data);
    if checked {
        let cut = &data[..data.len() - 1];
        let cut = with_file(cut, torch_file::check_opened);
        assert!(cut.expect("it can be read").is_err(), "its last byte is gone");
    }
}

/// A header of safetensors, and the index over such files.
pub fn weights(data: &[u8]) {
    let size = data.len() as u64;
    if let Ok(len) = safetensors::header_len(data, size) {
        let header = &data[8..8 + len];
        let fits = safetensors::header_fits(header, size);
        if fits.is_ok() {
            assert!(safetensors::header_fits(header, size - 1).is_err());
            assert!(safetensors::header_fits(header, size + 1).is_err());
        }
    }
    if let Ok(files) = safetensors::index_files(data) {
        assert!(!files.is_empty() && files.is_sorted());
        assert!(files.iter().all(|file| text::is_inside(file) && !file.contains("..")));
    }
}

/// JSON and trackers.
pub fn words(data: &[u8]) {
    if let Some(line) = text::tracker_of(data) {
        assert!(!line.is_empty() && line.len() <= data.len() && line.trim() == line);
        assert!(!line.contains(char::is_control));
    }
    if let Ok(value) = text::json_of(data) {
        assert_eq!(text::json_of(data), Ok(value));
    } else {
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_err());
    }
}

/// An index of DCP.
pub fn index(data: &[u8]) {
    dcp_bytes(data);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::checkpoint::read::samples;

    /// A small generator: speed matters more here than quality.
    struct Random(u64);

    /// Instructions of pickles with what they need, so that many of them make sense together.
    const CODES: &[&[u8]] = &[
        b"(",
        b".",
        b"0",
        b"1",
        b"2",
        b"N",
        b"K\x07",
        b"M\x01\x02",
        b"J\0\0\0\x80",
        b"\x8a\x01\xff",
        b"\x8b\x02\0\0\0\x01\x02",
        b"G\x3f\xf0\0\0\0\0\0\0",
        b"I12\n",
        b"I01\n",
        b"L-5L\n",
        b"F1.5\n",
        b"S'a'\n",
        b"Va\\u00e9\n",
        b"U\x01a",
        b"\x8c\x01a",
        b"X\x01\0\0\0a",
        b"C\x01a",
        b"]",
        b"}",
        b")",
        b"\x8f",
        b"a",
        b"e",
        b"s",
        b"u",
        b"\x90",
        b"t",
        b"l",
        b"d",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x88",
        b"\x89",
        b"\x91",
        b"\x94",
        b"\x94",
        b"h\0",
        b"h\x01",
        b"h\x02",
        b"q\x03",
        b"r\x02\0\0\0",
        b"j\x01\0\0\0",
        b"p1\n",
        b"g1\n",
        b"cm\nC\n",
        b"\x93",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
        b"o",
        b"im\nC\n",
        b"Q",
        b"Pid\n",
        b"\x80\x04",
        b"\x95\x04\0\0\0\0\0\0\0",
        b"\x96\x01\0\0\0\0\0\0\0a",
    ];

    const TEXTS: &[&[u8]] = &[
        br#"{"global_step": 12, "log_history": [{"loss": NaN, "epoch": 0.5}], "a": [1, [2, "x\n"]]}"#,
        br#"{"metadata":{"total_size":8},"weight_map":{"a":"m-1","b":"m-2","c":"m-1"}}"#,
        b"global_step120\n",
        b"/data/runs/iter_300.pth",
        b"[[[[[[[[[[[[[[[[[[[[",
        br#"{"w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"__metadata__":{"a":"b"}}"#,
    ];

    const SPECIAL: &[u8] = b"\0\x01\x02\x04\x14\x18\x50\x7f\x80\xfe\xff\n.()[]{}\",:-019KJXhqaeNP";

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
        }

        fn one<'a>(&mut self, of: &[&'a [u8]]) -> &'a [u8] {
            of[self.below(of.len())]
        }

        /// Instructions in any order.
        fn codes(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            for _ in 0..self.below(60) {
                bytes.extend_from_slice(self.one(CODES));
            }
            bytes.push(b'.');
            bytes
        }

        /// Changes, removes, repeats and joins parts.
        fn damage(&mut self, bytes: &mut Vec<u8>, others: &[&[u8]]) {
            for _ in 0..=self.below(6) {
                let at = self.below(bytes.len() + 1);
                let to = at + self.below(40).min(bytes.len() - at);
                match self.below(7) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..to)),
                    2 => bytes[at..to].fill(0),
                    3 => bytes.extend_from_within(at..to),
                    4 => {
                        let other = self.one(others);
                        let from = self.below(other.len());
                        bytes.truncate(at);
                        bytes.extend_from_slice(&other[from..]);
                    }
                    _ if at < bytes.len() => bytes[at] = SPECIAL[self.below(SPECIAL.len())],
                    _ => bytes.push(SPECIAL[self.below(SPECIAL.len())]),
                }
            }
            bytes.truncate(16 << 10);
        }

        /// A zip file whose `data.pkl` is another, with its right checksum.
        fn repacked(&mut self) -> Vec<u8> {
            let mut bytes = samples::ZIP.to_vec();
            let behind = memchr::memmem::find(&bytes, b"PK\x07\x08").expect("it is there");
            let directory = memchr::memmem::find(&bytes, b"PK\x01\x02").expect("it is there");
            let len = u32::from_le_bytes(*bytes[behind + 8..].first_chunk().expect("four"));
            let start = behind - len as usize;
            for _ in 0..=self.below(3) {
                let at = start + self.below(len as usize);
                bytes[at] = SPECIAL[self.below(SPECIAL.len())];
            }
            let mut crc = flate2::Crc::new();
            crc.update(&bytes[start..behind]);
            for at in [behind + 4, directory + 16] {
                bytes[at..at + 4].copy_from_slice(&crc.sum().to_le_bytes());
            }
            bytes
        }
    }

    type Entry = (&'static str, fn(&[u8]), Vec<&'static [u8]>);

    fn entries() -> [Entry; 5] {
        let torch_samples = [samples::ZIP, samples::LEGACY[0], samples::LEGACY[1]];
        let (_, metadata) = samples::DCP[0];
        let shards = [samples::DCP[1].1, samples::DCP[2].1];
        [
            ("pickle", pickle, [&samples::PROTOCOLS[..], &[metadata]].concat()),
            ("torch", torch, [&torch_samples[..], &shards].concat()),
            ("weights", weights, [&[samples::SAFETENSORS][..], TEXTS].concat()),
            ("words", words, TEXTS.to_vec()),
            ("index", index, vec![metadata]),
        ]
    }

    #[test]
    fn the_samples_themselves() {
        for (_, entry, samples) in entries() {
            for sample in samples {
                entry(sample);
            }
        }
    }

    /// Longer than a test should take only where `NVLAUNCH_FUZZ_SECONDS` says so.
    #[test]
    fn damaged_checkpoints_for_a_while() {
        let seconds = std::env::var("NVLAUNCH_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
        let seed = if seconds.is_some() { u64::from(std::process::id()) << 20 | 1 } else { 0x5eed };
        let mut random = Random(seed);
        let entries = entries();
        let mut counts = [0_u64; 5];
        let mut longest = Duration::ZERO;
        while Instant::now() < end {
            for (count, (name, entry, samples)) in counts.iter_mut().zip(&entries) {
                for turn in 0..20 {
                    let mut input = match (*name, turn) {
                        ("pickle", 0..10) => random.codes(),
                        ("torch", 0..4) => random.repacked(),
                        _ => random.one(samples).to_vec(),
                    };
                    if turn % 5 > 0 {
                        random.damage(&mut input, samples);
                    }
                    let before = Instant::now();
                    let outcome = std::panic::catch_unwind(|| entry(&input));
                    assert!(outcome.is_ok(), "{name} panicked on {}", input.escape_ascii());
                    longest = longest.max(before.elapsed());
                    *count += 1;
                }
            }
        }
        assert!(longest < Duration::from_secs(5), "{longest:?} for a small input");
        let counts: Vec<String> = counts
            .iter()
            .zip(&entries)
            .map(|(count, entry)| format!("{count} of {}", entry.0))
            .collect();
        let text =
            format!("seed {seed:#x}: checkpoint: {}, longest {longest:?}\n", counts.join(", "));
        assert!(counts.len() == 5, "{text}");
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
