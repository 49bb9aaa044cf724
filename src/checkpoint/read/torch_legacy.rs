//! What `torch.save` wrote before it wrote zip files, and still writes where it is asked to: five
//! pickles (a magic number, a version, the machine, the object, the storages' keys), then for each
//! key the number of elements and their bytes. There is no end mark: where the file must end follows
//! from the storages' types and sizes. Source: `_legacy_save` in `torch/serialization.py`.

use std::collections::HashMap;

use super::pickle::{self, Kind, Limits, PickleError, Value};

/// `MAGIC_NUMBER`, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The pickles of such a file.
#[derive(Debug)]
pub(super) struct Pickles {
    pub object: Value,
    /// The keys of the storages, in the order of their bytes.
    pub keys: Value,
    /// Where the storages begin.
    pub end: usize,
}

/// Whether these first bytes are of such a file, whatever the protocol.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    // The number takes 26 bytes in its longest form; more is not looked at.
    let start = &bytes[..bytes.len().min(64)];
    let Ok((value, _)) = pickle::read_prefix(start, &Limits::default()) else { return false };
    let Kind::BigInt(number) = value.kind() else { return false };
    number.strip_prefix(&MAGIC).is_some_and(|rest| rest.iter().all(|&byte| byte == 0))
}

/// Reads the pickles.
pub(super) fn pickles(bytes: &[u8], limits: &Limits) -> Result<Pickles, PickleError> {
    let mut at = 0;
    let mut next = || {
        let (value, used) = pickle::read_prefix(&bytes[at..], limits)?;
        at += used;
        Ok(value)
    };
    for _ in 0..3 {
        next()?;
    }
    let (object, keys) = (next()?, next()?);
    Ok(Pickles { object, keys, end: at })
}

/// One tensor's bytes: `("storage", type, key, location, elements, …)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage {
    pub elements: u64,
    /// Bytes of one.
    pub width: u64,
}

impl Storage {
    pub(super) fn bytes(self) -> u64 {
        self.elements.saturating_mul(self.width)
    }
}

/// The key and the size that a persistent id tells; the size is `None` for a type that is not known.
/// `None` for other ids than storages'.
pub(super) fn storage(id: &Value) -> Option<(String, Option<Storage>)> {
    if id.at(0)?.as_str()? != "storage" {
        return None;
    }
    let key = id.at(2)?.as_str()?.to_owned();
    let width = id.at(1).and_then(|class| width(&class.as_global()?.1));
    let elements = id.at(4).and_then(|elements| elements.as_u64());
    Some((key, elements.zip(width).map(|(elements, width)| Storage { elements, width })))
}

/// Bytes of one element of such a storage.
fn width(class: &str) -> Option<u64> {
    Some(match class {
        "ComplexDoubleStorage" => 16,
        "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => 8,
        "FloatStorage" | "IntStorage" | "QInt32Storage" => 4,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "CharStorage" | "ByteStorage" | "BoolStorage" | "QInt8Storage" | "QUInt8Storage"
        | "QUInt4x2Storage" | "QUInt2x4Storage" | "UntypedStorage" => 1,
        _ => return None,
    })
}

/// Where each storage's count of elements stands, and that count; then where the file must end.
/// `None` where the pickles do not tell.
pub(super) fn storages(pickles: &Pickles) -> Option<(Vec<(u64, u64)>, u64)> {
    let mut known: HashMap<String, Option<Storage>> = HashMap::new();
    for id in pickles.object.all_persistent() {
        // Of protocol 0 the ids are texts, from which nothing can be read again.
        if id.as_str().is_some() {
            return None;
        }
        if let Some((key, storage)) = storage(&id) {
            // What is written is the first one that was met.
            known.entry(key).or_insert(storage);
        }
    }
    let mut at = pickles.end as u64;
    let mut counts = Vec::with_capacity(pickles.keys.len());
    for key in pickles.keys.iter() {
        let storage = (*known.get(key.as_str()?)?)?;
        counts.push((at, storage.elements));
        at = at.checked_add(8)?.checked_add(storage.bytes())?;
    }
    Some((counts, at))
}
