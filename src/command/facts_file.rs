//! `--facts FILE` and `--facts-out FILE`: facts that travel.

use std::io;
use std::path::{Path, PathBuf};

use super::in_file::{self, InFileError};
use super::out_file;
use crate::error::Explain;
use crate::exit_code;
use crate::host::facts::HostFacts;
use crate::preflight::document::{self, FactsError};

/// The most bytes of a file of facts; those of a machine with eight GPUs are about 100 kB.
const LIMIT: u64 = 16 << 20;

/// Why facts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FactsFileError {
    /// It cannot be opened or read.
    #[error("cannot read the facts `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A folder, a pipe, a device.
    #[error("the facts `{}` are no regular file", path.display())]
    NotAFile { path: PathBuf },
    /// More than [`LIMIT`].
    #[error("the facts `{}` are larger than {} MiB", path.display(), LIMIT >> 20)]
    TooLarge { path: PathBuf },
    /// It holds something else.
    #[error("`{}` holds no facts that can be judged", path.display())]
    Facts { path: PathBuf, source: FactsError },
    /// `--facts-out` cannot be written.
    #[error("cannot write the facts `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Explain for FactsFileError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Facts { source: FactsError::Newer { writer, .. }, .. } => match writer {
                Some(version) => {
                    format!(
                        "nvlaunch {version} wrote it: judge it with that version or a newer one"
                    )
                }
                None => "judge it with a newer nvlaunch".to_owned(),
            },
            Self::Write { .. } => "--facts-out names a file in a folder that exists".to_owned(),
            _ => "facts are written by `nvlaunch preflight --facts-out FILE`".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. } => exit_code::CANNOT_CREATE,
            _ => exit_code::NO_INPUT,
        }
    }
}

/// Reads the facts of a machine from a file.
pub(super) fn read(path: &Path) -> Result<HostFacts, FactsFileError> {
    let path = path.to_owned();
    match in_file::read(&path, LIMIT) {
        Ok(bytes) => {
            document::read_facts(&bytes).map_err(|source| FactsFileError::Facts { path, source })
        }
        Err(InFileError::Read(source)) => Err(FactsFileError::Read { path, source }),
        Err(InFileError::NotAFile) => Err(FactsFileError::NotAFile { path }),
        Err(InFileError::TooLarge) => Err(FactsFileError::TooLarge { path }),
    }
}

/// Whether the facts could be written; asked before they are read.
pub(super) fn check(path: &Path) -> Result<(), FactsFileError> {
    out_file::check(path).map_err(|source| FactsFileError::Write { path: path.to_owned(), source })
}

/// Writes the facts.
pub(super) fn write(path: &Path, facts: &HostFacts) -> Result<(), FactsFileError> {
    out_file::write(path, document::render_facts(facts).as_bytes())
        .map_err(|source| FactsFileError::Write { path: path.to_owned(), source })
}
