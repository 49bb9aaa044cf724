//! Feeds a parser with what nobody wrote: samples of its format that are cut, joined, repeated and
//! sprinkled with other bytes.
//!
//! A run lasts a blink; `NVLAUNCH_FUZZ_SECONDS` makes each parser's run that long. The inputs are
//! the same in every run, so that what fails once fails again.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Numbers without a pattern (xorshift64*), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }
}

/// The longest input; strange things happen at ends and joints, not in the middle of megabytes.
const LONGEST: usize = 16 << 10;

/// Bytes that mean something to one parser or another.
const SPECIAL: &[u8] =
    b"\0\n\r\t \"'#;:=|()[]{}<>,.-+*/\\^~%$@!?&_0123456789abcxyzABCXYZ\x7f\xc3\xa9\xff";

/// Runs `parse` on inputs made of `samples` until the time is over, and says how many there were.
pub fn run(name: &str, samples: &[&str], parse: impl Fn(&[u8])) {
    let seconds = std::env::var("NVLAUNCH_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = seconds.map_or(Duration::from_millis(50), Duration::from_secs_f64);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    let mut executions = 0_u64;
    let mut longest = Duration::ZERO;
    while start.elapsed() < time || executions < 50 {
        let input = input(&mut numbers, samples);
        let before = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| parse(&input)));
        longest = longest.max(before.elapsed());
        assert!(outcome.is_ok(), "{name} panicked on {}", input.escape_ascii());
        executions += 1;
    }
    assert!(longest < Duration::from_secs(5), "{name} took {longest:?} for a small input");
    let text =
        format!("{name}: {executions} executions in {:?}, longest {longest:?}\n", start.elapsed());
    std::io::stdout().write_all(text.as_bytes()).expect("stdout is there");
}

fn input(numbers: &mut Numbers, samples: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=numbers.below(4) {
        let sample = samples[numbers.below(samples.len())].as_bytes();
        let from = if numbers.below(2) == 0 { 0 } else { numbers.below(sample.len()) };
        let to = from + numbers.below(sample.len() - from + 1);
        for _ in 0..=(numbers.below(8) / 7 * numbers.below(20)) {
            bytes.extend_from_slice(&sample[from..to]);
        }
    }
    for _ in 0..numbers.below(12) {
        let at = numbers.below(bytes.len() + 1);
        let byte = SPECIAL[numbers.below(SPECIAL.len())];
        match (numbers.below(3), at < bytes.len()) {
            (0, true) => bytes[at] = byte,
            (1, true) => {
                bytes.remove(at);
            }
            _ => bytes.insert(at, byte),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// As [`run`], for parsers of text, which get what the readers of files make of bytes.
pub fn run_text(name: &str, samples: &[&str], parse: impl Fn(&str)) {
    run(name, samples, |bytes| parse(&String::from_utf8_lossy(bytes)));
}
