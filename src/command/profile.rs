//! `nvlaunch profile …`: which profiles there are, and what is in them.

use super::{profile_lint, profile_schema};
use crate::cli::ProfileCommand;
use crate::error::{BoxError, Internal};
use crate::settings::env::Env;

/// Does what was asked for; the exit code.
pub(super) fn profile(command: &ProfileCommand, _env: &Env) -> Result<u8, BoxError> {
    match command {
        ProfileCommand::Lint(args) => profile_lint::lint(args),
        ProfileCommand::Schema => Ok(profile_schema::schema()),
        ProfileCommand::List(_) | ProfileCommand::Show(_) | ProfileCommand::Init(_) => {
            Err(Internal("not built yet".to_owned()).into())
        }
    }
}
