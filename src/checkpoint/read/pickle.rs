//! A pickle as data: protocols 0 to 5, nothing is imported and nothing is called.
//!
//! Python's unpickler is a machine whose instructions call whatever a file names. This one has the
//! same stack, marks and memo, and gives an inert value where Python would call. Sources: `CPython`'s
//! `Lib/pickletools.py` and `Modules/_pickle.c`.
//!
//! - K1: what is not understood ends the reading; nothing is guessed.
//! - K2: a length in the file is compared with the bytes there are before anything is allocated.
//! - K3: every value lies once in one arena, and those that hold it know its number: a list that is
//!   doubled forty times, or holds itself, costs what its bytes cost. Nothing recurses, not even to
//!   drop.
//! - K4: values, places in containers and memo entries are counted against [`Limits::objects`].

use std::sync::Arc;

use super::pickle_machine::Machine;
pub use super::pickle_value::{Kind, Value};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the pickle.
    pub bytes: usize,
    /// Containers that are open at once.
    pub depth: usize,
    /// Values, places in containers and memo entries together; one takes up to 32 bytes of memory.
    pub objects: usize,
}

impl Default for Limits {
    /// 64 MiB, as large an index as a checkpoint of 400,000 pieces has; Python's own recursion
    /// limit keeps honest pickles far from this depth.
    fn default() -> Self {
        Self { bytes: 64 << 20, depth: 10_000, objects: 12_000_000 }
    }
}

/// Why bytes are no pickle that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// They end before it does.
    #[error("ends too early")]
    Short,
    /// They are none.
    #[error("is no pickle: byte {0} makes no sense")]
    Damaged(usize),
    /// Something follows its end.
    #[error("goes on after its end at byte {0}")]
    Trailing(usize),
    /// It needs something outside of it: an extension's code, a buffer.
    #[error("needs what is not in it (byte {0})")]
    Outside(usize),
    /// It is larger or deeper than [`Limits`] allow.
    #[error("is larger than is read here")]
    TooLarge,
}

/// The value that is pickled in these bytes, which must be nothing but the pickle.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Value, PickleError> {
    let (value, used) = read_prefix(bytes, limits)?;
    if used == bytes.len() { Ok(value) } else { Err(PickleError::Trailing(used)) }
}

/// The value of the pickle that the bytes begin with, and how many bytes that is.
pub fn read_prefix(bytes: &[u8], limits: &Limits) -> Result<(Value, usize), PickleError> {
    if bytes.len() > limits.bytes {
        return Err(PickleError::TooLarge);
    }
    let mut machine = Machine::new(bytes, *limits);
    let root = machine.run()?;
    let used = machine.at();
    Ok((Value::new(Arc::new(machine.into_arena()), root), used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::read::samples;

    fn of(bytes: &[u8]) -> Result<Value, PickleError> {
        read(bytes, &Limits::default())
    }

    #[test]
    fn every_protocol_tells_the_same() {
        for (protocol, bytes) in samples::PROTOCOLS.iter().enumerate() {
            let value = of(bytes).unwrap();
            let shared = value.get("shared").unwrap();
            assert!(shared.is(&value.get("again").unwrap()), "protocol {protocol}");
            let numbers: Vec<Option<i64>> = shared.iter().take(5).map(|v| v.as_i64()).collect();
            assert_eq!(numbers, [1, -2, 300, 70_000, 1 << 40].map(Some), "protocol {protocol}");
            let at = |place| shared.at(place).unwrap();
            assert!(matches!(at(5).kind(), Kind::BigInt(_)), "protocol {protocol}");
            assert_eq!(at(6).as_f64(), Some(3.5));
            // Protocols 0 and 1 write `True` as a number that is spelled in two digits.
            assert_eq!((at(7).as_bool(), at(8).is_none()), (Some(true), true));
            assert_eq!(at(9).as_str(), Some("é\n'"), "protocol {protocol}");
            // Before protocol 3 bytes are what a call makes of Latin-1.
            let bytes = at(10);
            if protocol >= 3 {
                assert_eq!(bytes.as_bytes(), Some(&b"\0\xff"[..]));
            } else {
                assert_eq!(bytes.args().unwrap().at(0).unwrap().as_str(), Some("\0ÿ"));
            }
            assert_eq!((at(11).len(), at(12).len(), shared.len()), (1, 0, 13));
            let (module, name) = {
                let class = value.get("c").unwrap().class().unwrap();
                let (module, name) = class.as_global().unwrap();
                (module.into_owned(), name.into_owned())
            };
            assert!(module.ends_with("builtin__") || module == "builtins", "{module}");
            assert_eq!(name, "complex");
            for len in 0..bytes_of(protocol).len() {
                assert!(
                    of(&bytes_of(protocol)[..len]).is_err(),
                    "protocol {protocol} cut to {len}"
                );
            }
            let longer = [bytes_of(protocol), b"x"].concat();
            assert_eq!(of(&longer).unwrap_err(), PickleError::Trailing(longer.len() - 1));
        }
    }

    fn bytes_of(protocol: usize) -> &'static [u8] {
        samples::PROTOCOLS[protocol]
    }

    #[test]
    fn a_call_is_only_written_down() {
        let value = of(b"cos\nsystem\n(S'rm -rf /'\ntR.").unwrap();
        let class = value.class().unwrap();
        assert_eq!(class.as_global(), Some(("os".into(), "system".into())));
        assert_eq!(value.args().unwrap().at(0).unwrap().as_str(), Some("rm -rf /"));
        // The same with the other instructions that call something.
        for bytes in [
            &b"(S'x'\nios\nsystem\n."[..],
            b"(cos\nsystem\nS'x'\no.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
            b"\x80\x02cos\nsystem\nU\x01x\x85\x81.",
            b"\x80\x04cos\nsystem\n\x8c\x01x\x85}\x92.",
            b"cos\nsystem\n)R}S'a'\nS'x'\nsb.",
        ] {
            let value = of(bytes).unwrap();
            assert!(value.class().is_some(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn bombs_cost_what_their_bytes_cost() {
        // A list that holds itself.
        let value = of(b"\x80\x04]\x94h\0a.").unwrap();
        assert!(value.at(0).unwrap().is(&value));
        assert_eq!(format!("{value:?}"), "List(1)");
        // Each list holds the one before twice: 2^40 members, if one counted them.
        let mut bytes = b"\x80\x04]\x94".to_vec();
        for at in 0..40 {
            bytes.extend([b']', 0x94, b'h', at, b'a', b'h', at, b'a']);
        }
        bytes.push(b'.');
        let value = of(&bytes).unwrap();
        assert!(value.memory() < 32 << 10, "{} bytes", value.memory());
        // A million lists in each other: nothing recurses.
        let deep =
            [&b"\x80\x04"[..], &vec![b']'; 1 << 20], &vec![b'a'; (1 << 20) - 1], b"."].concat();
        assert_eq!(of(&deep).unwrap().len(), 1);
        let marks = vec![b'('; 1 << 20];
        assert_eq!(of(&marks).unwrap_err(), PickleError::TooLarge);
    }

    #[test]
    fn lengths_are_compared_with_the_bytes_there_are() {
        for bytes in [
            &b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."[..],
            b"\x80\x04\x8e\0\0\0\0\0\0\0\x80",
            b"\x80\x04X\xff\xff\xff\xff",
            b"\x80\x04\x8b\xff\xff\xff\x7f1",
            b"B\xff\xff\xff\xffx.",
        ] {
            assert_eq!(of(bytes).unwrap_err(), PickleError::Short, "{}", bytes.escape_ascii());
        }
        // An index of the memo that no pickler has reached.
        assert!(matches!(of(b"Nr\xff\xff\xff\x7f."), Err(PickleError::Damaged(_))));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bytes in [
            &b"."[..],
            b"a.",
            b"N(.",
            b"1N",
            b"\x80\x09N.",
            b"]Na\xff.",
            b"h\0.",
            b"Ng5\n.",
            b"R.",
            b"(R.",
            b"N(a.",
            b"}Ns.",
            b"}(Nu.",
            b"NNa.",
            b"NNNs.",
            b"NN\x93.",
            b"Ix\n.",
            b"Lx\n.",
            b"Fx\n.",
            b"Sx\n.",
            b"S'x\n.",
            b"V\\u12\n.",
            b"o.",
            b"(o.",
            b"\x85.",
            b"N(\x85.",
            b"b.",
        ] {
            assert!(matches!(of(bytes), Err(PickleError::Damaged(_))), "{}", bytes.escape_ascii());
        }
        for bytes in [&b"\x82\x01."[..], b"\x97.", b"N\x98."] {
            assert!(matches!(of(bytes), Err(PickleError::Outside(_))), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { bytes: 100, depth: 3, objects: 50 };
        assert_eq!(read(&[b'N'; 101], &limits).unwrap_err(), PickleError::TooLarge);
        assert_eq!(read(b"((((N.", &limits).unwrap_err(), PickleError::TooLarge);
        let many = [&b"("[..], &b"K\x01".repeat(49), b"l."].concat();
        assert_eq!(read(&many, &limits).unwrap_err(), PickleError::TooLarge);
        let fixed = [&b"("[..], &b"N".repeat(60), b"0."].concat();
        assert_eq!(read(&fixed, &limits).unwrap_err(), PickleError::TooLarge, "the stack counts");
    }

    #[test]
    fn attributes_are_found_where_python_keeps_them() {
        // OrderedDict: set in the object. An object with a state; one with slots beside it; a
        // dict that it is made of.
        let ordered = b"\x80\x02ccollections\nOrderedDict\n)RU\x01aK\x01sU\x01aK\x02s.";
        let state = b"\x80\x02cm\nC\n)\x81}U\x01aK\x02sb.";
        let slots = b"\x80\x02cm\nC\n)\x81N}U\x01aK\x02s\x86b.";
        let made = b"\x80\x02cm\nC\n}U\x01aK\x02s\x85R.";
        for bytes in [&ordered[..], state, slots, made] {
            let value = of(bytes).unwrap();
            assert_eq!(
                value.get("a").and_then(|a| a.as_u64()),
                Some(2),
                "{}",
                bytes.escape_ascii()
            );
            assert!(value.get("b").is_none());
        }
    }
}
