//! `nvlaunch profile init`: a profile for this machine, from what preflight sees of it.

use std::io;
use std::path::PathBuf;

use super::{out_file, output, preflight};
use crate::cli::{InitArgs, PreflightArgs};
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::profile::init::{self, Machine};
use crate::settings::env::Env;

/// Why the profile is not written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("`{}` is there already", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write the profile `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Explain for InitError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Exists { .. } => "--force replaces it".to_owned(),
            Self::Write { .. } => "--output names a file in a folder that exists".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::CANNOT_CREATE
    }
}

/// Writes it; the exit code.
pub(super) fn init(args: &InitArgs, env: &Env) -> Result<u8, BoxError> {
    if let Some(path) = &args.output {
        // A device is written to, not replaced.
        let is_file = path
            .symlink_metadata()
            .is_ok_and(|found| !found.is_dir() && path.is_file() || found.is_symlink());
        if is_file && !args.force {
            return Err(InitError::Exists { path: path.clone() }.into());
        }
        out_file::check(path).map_err(|source| InitError::Write { path: path.clone(), source })?;
    }
    let asked = PreflightArgs {
        sysroot: args.sysroot.clone(),
        python: args.python.clone(),
        ..PreflightArgs::default()
    };
    let (facts, judgement, is_counted) = preflight::of_machine(&asked, env)?;
    let text = init::render(Machine { facts: &facts, judgement: &judgement, is_counted });
    let Some(path) = &args.output else { return Ok(output::print(&text)) };
    out_file::write(path, text.as_bytes())
        .map_err(|source| InitError::Write { path: path.clone(), source })?;
    output::eprint(&format!("nvlaunch: wrote {}\n", path.display()));
    Ok(exit_code::OK)
}
