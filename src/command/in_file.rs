//! A file that the user named to be read whole, never longer than said.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Why it cannot be read.
#[derive(Debug)]
pub(super) enum InFileError {
    /// It cannot be opened or read.
    Read(io::Error),
    /// A folder, a pipe, a device.
    NotAFile,
    /// More bytes than the limit.
    TooLarge,
}

/// The bytes of a regular file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, InFileError> {
    // A pipe without a writer would be waited for.
    let flags = nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(InFileError::Read)?;
    if !file.metadata().map_err(InFileError::Read)?.is_file() {
        return Err(InFileError::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(InFileError::Read)?;
    if bytes.len() as u64 > limit { Err(InFileError::TooLarge) } else { Ok(bytes) }
}
