//! Looking into what a checkpoint's pickle holds.

use crate::checkpoint::read::pickle::Value;

/// The value of a key of text.
pub fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key)
}

/// The first of these keys that has a number that is none below zero.
pub fn number(value: &Value, keys: &[&str]) -> Option<u64> {
    keys.iter().find_map(|key| get(value, key).and_then(Value::as_u64))
}
