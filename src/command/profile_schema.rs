//! `nvlaunch profile schema`: the JSON Schema of a profile.

use super::output;
use crate::profile::schema;

/// Prints it; the exit code.
pub(super) fn schema() -> u8 {
    output::print(&schema::text())
}
