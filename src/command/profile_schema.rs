//! `nvlaunch profile schema`: the JSON Schema of a profile.

use super::output;
use crate::error::BoxError;
use crate::profile::schema;

/// Prints it; the exit code.
pub(super) fn schema() -> Result<u8, BoxError> {
    Ok(output::print(&schema::text()))
}
