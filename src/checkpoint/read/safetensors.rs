//! safetensors: a length, a JSON header, the tensors' bytes.
//!
//! Source: the format's own description (`safetensors/README.md`) and its reader, which refuses the
//! same: a header over 100 MB, holes, overlaps, bytes after the last tensor.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::text::{is_inside, json_error, nothing_in};
use crate::checkpoint::io::{Io, IoError};
use crate::checkpoint::thousands;

/// The format's own limit.
const HEADER_BYTES: u64 = 100_000_000;

/// The longest index that is read.
const INDEX_BYTES: usize = 64 << 20;

/// A file of weights that has all its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

/// Whether a file has all the bytes that its header tells of. The inner error is what is wrong with
/// it, as the end of a sentence about it. The tensors' values are not read.
pub fn check(path: &Path, io: &mut Io) -> Result<Result<Weights, String>, IoError> {
    let opened = io.open(path)?;
    let weights = Weights { size: opened.size, modified: opened.modified };
    // One look is enough for the headers of most files.
    let mut start = io.read_at(&opened, 0, 16 << 10)?;
    let header = match header_len(&start, opened.size) {
        Ok(len) => len,
        Err(what) => return Ok(Err(what)),
    };
    let end = 8 + header;
    if start.len() < end {
        start.extend(io.read_at(&opened, start.len() as u64, end - start.len())?);
    }
    let Some(text) = start.get(8..end) else {
        return Ok(Err("became shorter while it was read".to_owned()));
    };
    Ok(header_fits(text, opened.size).map(|()| weights))
}

/// The length of the header, which lies within a file of `size` bytes.
pub(crate) fn header_len(start: &[u8], size: u64) -> Result<usize, String> {
    if let Some(what) = nothing_in(start) {
        return Err(what.to_owned());
    }
    let Some(len) = start.first_chunk::<8>() else {
        return Err("ends before its header: it was cut off".to_owned());
    };
    let len = u64::from_le_bytes(*len);
    if len > HEADER_BYTES || start.get(8).is_some_and(|&byte| byte != b'{') {
        return Err("has no header of safetensors".to_owned());
    }
    if 8 + len > size {
        return Err("ends within its header: it was cut off".to_owned());
    }
    Ok(usize::try_from(len).expect("it is below 100 MB"))
}

/// Whether the tensors of the header fill a file of `size` bytes exactly.
pub(crate) fn header_fits(text: &[u8], size: u64) -> Result<(), String> {
    let Header(mut tensors) = serde_json::from_slice(text)
        .map_err(|error| format!("has a damaged header, which {}", json_error(&error)))?;
    if let Some(tensor) = tensors.iter().find(|tensor| tensor.is_wrong()) {
        let [from, to] = tensor.data_offsets;
        return Err(format!("has a damaged header: a tensor from {from} to {to}"));
    }
    tensors.sort_unstable_by_key(|tensor| tensor.data_offsets);
    let mut end = 0;
    for tensor in &tensors {
        if tensor.data_offsets[0] != end {
            return Err(format!(
                "has a damaged header: nothing is known of byte {end} of its data"
            ));
        }
        end = tensor.data_offsets[1];
    }
    let needed = (8 + text.len() as u64).saturating_add(end);
    if needed == size {
        return Ok(());
    }
    Err(format!("is {} bytes, its header needs {}", thousands(size), thousands(needed)))
}

struct Tensor {
    data_offsets: [u64; 2],
    bytes: Option<u64>,
}

impl Tensor {
    fn is_wrong(&self) -> bool {
        let [from, to] = self.data_offsets;
        let len = to.checked_sub(from);
        len.is_none() || self.bytes.is_some_and(|bytes| Some(bytes) != len)
    }
}

#[derive(Deserialize)]
struct Described<'a> {
    #[serde(borrow)]
    dtype: std::borrow::Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Described<'_> {
    fn tensor(&self) -> Tensor {
        let bits = match &*self.dtype {
            "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => Some(8),
            "I16" | "U16" | "F16" | "BF16" => Some(16),
            "I32" | "U32" | "F32" => Some(32),
            "I64" | "U64" | "F64" | "C64" => Some(64),
            // A type that is not known here is no damage.
            _ => None,
        };
        let bits = bits
            .and_then(|bits| self.shape.iter().try_fold(bits, |all: u64, &n| all.checked_mul(n)));
        Tensor { data_offsets: self.data_offsets, bytes: bits.map(|bits| bits / 8) }
    }
}

/// The places of all tensors; `__metadata__` is passed over.
struct Header(Vec<Tensor>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;

        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        tensors.push(map.next_value::<Described<'de>>()?.tensor());
                    }
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Tensors)
    }
}

/// The files that an index (`*.index.json`) names, each once, in order of their names. The inner
/// error is what is wrong with it, as the end of a sentence about it.
pub fn check_index(path: &Path, io: &mut Io) -> Result<Result<Vec<String>, String>, IoError> {
    let bytes = io.read(path, INDEX_BYTES)?;
    Ok(index_files(&bytes))
}

/// What [`check_index`] makes of bytes.
pub(crate) fn index_files(bytes: &[u8]) -> Result<Vec<String>, String> {
    if let Some(what) = nothing_in(bytes) {
        return Err(what.to_owned());
    }
    let index: Index = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            "names no files (`weight_map`)".to_owned()
        } else {
            json_error(&error)
        }
    })?;
    let Index { weight_map: Files(mut files) } = index;
    files.sort_unstable();
    files.dedup();
    match files.iter().find(|file| !is_inside(file)) {
        Some(file) => Err(format!("names a file outside of its folder: {}", file.escape_debug())),
        None if files.is_empty() => Err("names no files (`weight_map`)".to_owned()),
        None => Ok(files),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: Files,
}

/// The values of `weight_map`. Neighbours are most often in one file, and are kept once.
struct Files(Vec<String>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Files;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("files by the names of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
                let mut files: Vec<String> = Vec::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let file: std::borrow::Cow<'de, str> = map.next_value()?;
                    if files.last().is_none_or(|last| **last != *file) {
                        files.push(file.into_owned());
                    }
                }
                Ok(Files(files))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let len = header.len() as u64;
        [&len.to_le_bytes()[..], header.as_bytes(), &vec![7; data]].concat()
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        check(&path, &mut Io::until(None)).unwrap().map(|weights| {
            assert_eq!(weights.size, bytes.len() as u64);
        })
    }

    const TWO: &str = concat!(
        r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]},"#,
        r#""a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}  "#
    );

    #[test]
    fn every_byte_must_be_there() {
        let whole = file(TWO, 20);
        assert_eq!(checked(&whole), Ok(()));
        assert_eq!(checked(&file("{}", 0)), Ok(()));
        for len in 0..whole.len() {
            assert!(checked(&whole[..len]).is_err(), "cut to {len}");
        }
        assert!(checked(&[&whole[..], b"x"].concat()).is_err());
        let zeros = vec![0; whole.len()];
        assert_eq!(checked(&zeros).unwrap_err(), "holds nothing but zeros");
        let size = whole.len();
        assert_eq!(
            checked(&whole[..size - 1]).unwrap_err(),
            format!("is {} bytes, its header needs {size}", size - 1)
        );
    }

    #[test]
    fn damaged_headers_are_seen() {
        for (header, data) in [
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
            (r#"{"a":{"dtype":"X","shape":[1],"data_offsets":[8,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[18446744073709551615,9],"data_offsets":[0,4]}}"#, 0),
            (r#"{"a":7}"#, 0),
            ("[]", 0),
            ("{", 0),
        ] {
            assert!(checked(&file(header, data)).is_err(), "{header}");
        }
        let mut long = file("{}", 0);
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(checked(&long).unwrap_err(), "has no header of safetensors");
    }

    #[test]
    fn an_index_names_files_of_its_folder() {
        let ok = br#"{"metadata":{"total_size":8},"weight_map":{"a":"m-2","b":"m-1","c":"m-2"}}"#;
        assert_eq!(index_files(ok).unwrap(), ["m-1", "m-2"]);
        for bad in [
            &br#"{"weight_map":{"a":"../m"}}"#[..],
            br#"{"weight_map":{"a":"/m"}}"#,
            br#"{"weight_map":{"a":""}}"#,
            br#"{"weight_map":{"a":3}}"#,
            br#"{"weight_map":{}}"#,
            br#"{"weight_map":["#,
            b"{}",
            b"",
            b"\0\0",
        ] {
            assert!(index_files(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
