//! `nvlaunch profile lint FILE…`: every problem in some files.

use crate::cli::LintArgs;
use crate::error::{BoxError, Internal};

/// Prints the problems; the exit code.
pub(super) fn lint(_args: &LintArgs) -> Result<u8, BoxError> {
    Err(Internal("`profile lint` is not built yet".to_owned()).into())
}
