//! Looking into what a checkpoint's pickle holds.

use crate::checkpoint::read::pickle::Value;

/// The first of these keys whose value is a number, not below zero.
pub fn number(value: &Value, keys: &[&str]) -> Option<u64> {
    keys.iter().find_map(|key| value.get(key)?.as_u64())
}

/// Whether it is a dict of tensors and of nothing else.
pub fn is_all_tensors(value: &Value) -> bool {
    let is_tensor = |value: Value| {
        let class = value.class();
        class
            .as_ref()
            .and_then(Value::as_global)
            .is_some_and(|(module, name)| module == "torch._utils" && name.starts_with("_rebuild_"))
    };
    value.items().next().is_some() && value.items().all(|(_, value)| is_tensor(value))
}
