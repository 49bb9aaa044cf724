//! What a tag's files say of themselves, in the part of them that is not tensors.
//!
//! Source: `DeepSpeed`'s `runtime/engine.py` (`_common_checkpoint_state`, `_save_moe_checkpoint`),
//! `runtime/zero/stage_1_and_2.py` and `stage3.py` (`partition_count`).

use crate::checkpoint::read::pickle::Value;

/// What a model file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The step of training.
    pub steps: Option<u64>,
    /// Data-parallel ranks, those of sequences included.
    pub dp: Option<u32>,
    /// Model-parallel ranks.
    pub mp: Option<u32>,
    /// Parts that the optimizer is in, from one of them.
    pub partitions: Option<u32>,
    /// Whether the optimizer is in parts beside the model's files.
    pub is_partitioned: bool,
    /// Whether an optimizer is in it; `None` where it is not said.
    pub has_optimizer: Option<bool>,
    /// Experts of each layer that has any.
    pub experts: Vec<u32>,
}

impl Claims {
    /// Those of a model file; what is not there, or of another kind, is not claimed.
    pub fn of(value: &Value) -> Self {
        let is_there = |key: &str| value.get(key).map(|value| !value.is_none());
        Self {
            steps: number(value, "global_steps"),
            dp: number(value, "dp_world_size"),
            mp: number(value, "mp_world_size"),
            partitions: None,
            is_partitioned: is_there("param_shapes").unwrap_or(false),
            has_optimizer: is_there("optimizer"),
            experts: value.get("num_experts").as_ref().map(list).unwrap_or_default(),
        }
    }
}

/// `partition_count` of a part of the optimizer: one number, or one for each group of parameters.
pub fn partitions(value: &Value) -> Option<u32> {
    let count = value.get("optimizer_state_dict")?.get("partition_count")?;
    let one = count.as_u64().and_then(|count| u32::try_from(count).ok());
    one.or_else(|| list(&count).into_iter().max())
}

fn number<T: TryFrom<u64>>(value: &Value, key: &str) -> Option<T> {
    T::try_from(value.get(key)?.as_u64()?).ok()
}

fn list(value: &Value) -> Vec<u32> {
    value.iter().filter_map(|item| u32::try_from(item.as_u64()?).ok()).collect()
}
