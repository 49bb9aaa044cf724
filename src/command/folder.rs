//! The run folder: where it is made, and whether it stays.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::diagnose::secrets::scrub;
use crate::error::Explain;
use crate::exit_code;
use crate::settings::spec::{LogDir, LogSpec, StreamMap, Streams};
use crate::supervise::event::Outcome;

/// Why there is no run folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder for all runs cannot be made.
    #[error("cannot make the log folder `{}`", path.display())]
    LogDir {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The run's own folder cannot be made in it.
    #[error("cannot make the run folder in `{}`", path.display())]
    RunDir {
        /// In which.
        path: PathBuf,
        /// Whether the user named it.
        named: bool,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Explain for FolderError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::RunDir { named: false, path, .. } => format!(
                "TMPDIR must be a folder that can be written ({} is not): set it, name a folder \
                 with --log-dir, or do without files by --log-dir /dev/null",
                path.display()
            ),
            _ => {
                "choose another folder with --log-dir, or none with --log-dir /dev/null".to_owned()
            }
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::CANNOT_CREATE
    }
}

/// The folder of one run.
#[derive(Debug)]
pub enum RunFolder {
    /// None: `--log-dir /dev/null`.
    Off,
    /// It stays.
    Kept(PathBuf),
    /// It is removed after a run that ends well, unless the ranks' output is in it.
    Temporary {
        /// The folder.
        dir: TempDir,
        /// Whether output was sent there.
        has_logs: bool,
    },
}

impl RunFolder {
    /// Makes it; `<run id>_<random>` as torchrun names it.
    pub fn make(spec: &LogSpec, run_id: &str) -> Result<Self, FolderError> {
        match &spec.dir {
            LogDir::Off => Ok(Self::Off),
            LogDir::Kept(path) => {
                std::fs::create_dir_all(path)
                    .map_err(|source| FolderError::LogDir { path: path.clone(), source })?;
                Ok(Self::Kept(own_folder(path, &file_name(run_id), true)?.keep()))
            }
            LogDir::Temporary => {
                let path = std::env::temp_dir();
                let dir = own_folder(&path, &format!("nvlaunch_{}", file_name(run_id)), false)?;
                Ok(Self::Temporary { dir, has_logs: sends_to_files(spec) })
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Off => None,
            Self::Kept(path) => Some(path),
            Self::Temporary { dir, .. } => Some(dir.path()),
        }
    }

    /// Whether it outlives a run with this end.
    pub fn stays(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Off => false,
            Self::Kept(_) => true,
            Self::Temporary { has_logs, .. } => {
                *has_logs
                    || matches!(
                        outcome,
                        Outcome::Failed { .. } | Outcome::Stuck { .. } | Outcome::Unfinished { .. }
                    )
            }
        }
    }

    /// Removes it, or lets it stay.
    pub fn close(self, outcome: &Outcome) {
        if self.stays(outcome)
            && let Self::Temporary { dir, .. } = self
        {
            let _ = dir.keep();
        }
    }
}

fn own_folder(parent: &Path, name: &str, named: bool) -> Result<TempDir, FolderError> {
    let made = tempfile::Builder::new().prefix(&format!("{name}_")).tempdir_in(parent);
    made.map_err(|source| FolderError::RunDir {
        path: parent.to_owned(),
        named,
        source: system_error(source),
    })
}

/// The system's own error, without the made-up name that `tempfile` adds to it.
pub(super) fn system_error(error: std::io::Error) -> std::io::Error {
    // The original error is not to be had, only its kind and its text.
    match error.to_string().split_once(" at path ") {
        Some((text, _)) => std::io::Error::new(error.kind(), text),
        None => error,
    }
}

/// The run id as part of a file name: it comes from the user and may contain anything, a token that
/// nobody should see included.
fn file_name(run_id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    scrub(run_id).chars().take(64).map(safe).collect()
}

fn sends_to_files(spec: &LogSpec) -> bool {
    let any = |map: &StreamMap| match map {
        StreamMap::All(streams) => *streams != Streams::default(),
        StreamMap::ByRank(ranks) => ranks.values().any(|s| *s != Streams::default()),
    };
    any(&spec.redirects)
        || any(&spec.tee)
        || !spec.stdout_filters.is_empty()
        || !spec.stderr_filters.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_never_leaves_its_folder() {
        for (id, name) in [
            ("job-1.a", "job-1.a"),
            ("../../etc", ".._.._etc"),
            ("a b\n", "a_b_"),
            ("hf_abcdefghijklmno1p2", "___"),
        ] {
            assert_eq!(file_name(id), name);
        }
        assert_eq!(file_name(&"x".repeat(500)).len(), 64);
    }
}
