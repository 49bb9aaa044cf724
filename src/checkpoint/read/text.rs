//! JSON files and trackers.

use std::fmt;
use std::path::{Component, Path};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::checkpoint::io::{Io, IoError};

/// The longest JSON file that is read: a `trainer_state.json` of a long training, with its log.
const JSON_BYTES: usize = 64 << 20;

/// How many values of a JSON file are kept; an array goes on being read, not kept.
const JSON_VALUES: usize = 200_000;

/// How many members of one array are kept.
const JSON_ARRAY: usize = 4096;

/// The longest tracker that is read: a path and a line end.
const TRACKER_BYTES: usize = 8192;

/// A JSON file. The inner error is what is wrong with it, as the end of a sentence about it. Long
/// arrays are cut at 4,096 members, and of all values the first 200,000 are kept.
pub fn json(path: &Path, io: &mut Io) -> Result<Result<Value, String>, IoError> {
    let bytes = io.read(path, JSON_BYTES)?;
    Ok(json_of(&bytes))
}

/// What [`json`] makes of bytes.
pub(crate) fn json_of(bytes: &[u8]) -> Result<Value, String> {
    if let Some(what) = nothing_in(bytes) {
        return Err(what.to_owned());
    }
    let parsed = parse(bytes).or_else(|error| match without_nan(bytes) {
        Some(bytes) => parse(&bytes),
        None => Err(error),
    });
    parsed.map_err(|error| json_error(&error))
}

fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut left = JSON_VALUES;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Keep(&mut left).deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

/// Python writes `NaN` and `Infinity`, which are no JSON, as they are: a loss that overflowed is in
/// many a `trainer_state.json`. They become `null`. `None` where there are none.
pub(crate) fn without_nan(bytes: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut clean = Vec::new();
    let (mut at, mut done, mut is_text) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => is_text = !is_text,
            b'\\' if is_text => at += 1,
            b'N' | b'I' | b'-' if !is_text => {
                if let Some(word) = WORDS.iter().find(|word| bytes[at..].starts_with(word)) {
                    clean.extend_from_slice(&bytes[done..at]);
                    clean.extend_from_slice(b"null");
                    at += word.len();
                    done = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    clean.extend_from_slice(&bytes[done..]);
    (done > 0).then_some(clean)
}

/// What is wrong with JSON.
pub(crate) fn json_error(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "ends in the middle of its JSON: it was cut off".to_owned()
    } else {
        format!("is no JSON (line {}, column {})", error.line(), error.column())
    }
}

/// Whether there is nothing in a file that should hold something.
pub(crate) fn nothing_in(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        Some("is empty")
    } else if bytes.iter().all(|&byte| byte == 0) {
        Some("holds nothing but zeros")
    } else {
        None
    }
}

/// Whether a file that an index names lies below the index's folder.
pub(crate) fn is_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    let is_below = parts.all(|part| matches!(part, Component::Normal(_)));
    is_below && !file.is_empty() && !file.contains('\0')
}

/// The first line of a tracker, trimmed. `None` where it is missing, empty or no text.
pub fn tracker(path: &Path, io: &mut Io) -> Option<String> {
    let bytes = io.read(path, TRACKER_BYTES).ok()?;
    tracker_of(&bytes)
}

/// What [`tracker`] makes of bytes.
pub(crate) fn tracker_of(bytes: &[u8]) -> Option<String> {
    let line = str::from_utf8(bytes).ok()?.lines().next()?.trim();
    (!line.is_empty() && !line.contains(char::is_control)).then(|| line.to_owned())
}

/// Reads a value and keeps as much of it as is left.
struct Keep<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Keep<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while values.len() < JSON_ARRAY && *self.0 > 0 {
            *self.0 -= 1;
            match access.next_element_seed(Keep(self.0))? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while *self.0 > 0 {
            let Some(key) = access.next_key::<String>()? else {
                return Ok(Value::Object(values));
            };
            *self.0 -= 1;
            values.insert(key, access.next_value_seed(Keep(self.0))?);
        }
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_one_line_of_text() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (b"global_step7", Some("global_step7")),
            (b" 120 \nmore\n", Some("120")),
            (b"", None),
            (b"\n", None),
            (b"\0\0\0\0", None),
            (b"\xff\xfe", None),
            (b"12\0\0", None),
            (b"/a b/iter_3.pth\r\n", Some("/a b/iter_3.pth")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(tracker_of(bytes).as_deref(), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn json_says_what_is_wrong() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "is empty"),
            (b"\0\0\0", "holds nothing but zeros"),
            (b"{\"a\": [1, 2", "ends in the middle of its JSON: it was cut off"),
            (b"{\"a\": 1}x", "is no JSON (line 1, column 9)"),
            (b"\n{]", "is no JSON (line 2, column 2)"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(json_of(bytes).unwrap_err(), expected);
        }
        // No depth overflows the stack.
        assert!(json_of("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn a_loss_that_is_no_number_is_no_damage() {
        let text = br#"{"loss": NaN, "a": [Infinity, -Infinity, -1], "NaN": "a \" NaN"}"#;
        let expected = serde_json::json!({"loss": null, "a": [null, null, -1], "NaN": "a \" NaN"});
        assert_eq!(json_of(text).unwrap(), expected);
        assert!(json_of(b"{\"loss\": NaN").unwrap_err().contains("cut off"));
        assert!(json_of(b"{\"loss\": Nan}").is_err());
    }

    #[test]
    fn long_json_is_read_to_its_end_and_kept_in_part() {
        let list = vec!["[1, {}, \"x\"]"; 100_000].join(",");
        let text = format!("{{\"first\": 1, \"log\": [{list}], \"last\": {{\"step\": 7}}}}");
        let value = json_of(text.as_bytes()).unwrap();
        assert_eq!(value["log"].as_array().unwrap().len(), JSON_ARRAY);
        assert_eq!((value["first"].as_u64(), value["last"]["step"].as_u64()), (Some(1), Some(7)));
        assert!(json_of(&text.as_bytes()[..text.len() - 1]).is_err(), "its end is read");
    }
}
