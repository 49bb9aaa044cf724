//! `nvlaunch profile …`: which profiles there are, and what is in them; and the files that a launch
//! follows.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{profile_lint, profile_schema};
use crate::cli::ProfileCommand;
use crate::error::{BoxError, Internal};
use crate::profile::layer::Files;
use crate::profile::load::{self, Around, ChoiceError};
use crate::settings;
use crate::settings::env::Env;

/// What the files say that a launch follows. `asked` and `sysroot` are what `--profile` and
/// `--sysroot` were given; `is_matched` says whether a profile may be chosen by this host.
pub(super) fn files(
    asked: Option<&OsStr>,
    sysroot: Option<&OsString>,
    env: &Env,
    is_matched: bool,
) -> Result<Files, ChoiceError> {
    let root = settings::sysroot(sysroot, env);
    load::load(asked, Around { root: &root, cwd: Path::new(""), env, is_matched })
}

/// Does what was asked for; the exit code.
pub(super) fn profile(command: &ProfileCommand, env: &Env) -> Result<u8, BoxError> {
    match command {
        ProfileCommand::Lint(args) => Ok(profile_lint::lint(args, env)),
        ProfileCommand::Schema => profile_schema::schema(),
        ProfileCommand::List(_) | ProfileCommand::Show(_) | ProfileCommand::Init(_) => {
            Err(Internal("not built yet".to_owned()).into())
        }
    }
}
