//! `nvlaunch profile schema`: the JSON Schema of a profile.

use crate::error::{BoxError, Internal};

/// Prints the schema; the exit code.
pub(super) fn schema() -> Result<u8, BoxError> {
    Err(Internal("`profile schema` is not built yet".to_owned()).into())
}
