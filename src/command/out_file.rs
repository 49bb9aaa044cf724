//! A file that the user named for what nvlaunch writes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::folder::system_error;

/// That it cannot be written is said before the work, not after it.
pub(super) fn check(path: &Path) -> io::Result<()> {
    if is_special(path) {
        return path.metadata().map(drop);
    }
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    tempfile::NamedTempFile::new_in(folder_of(&real_file(path))).map(drop).map_err(system_error)
}

/// Replaces a file whole; what is no file is written to.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_special(path) {
        return std::fs::OpenOptions::new().append(true).open(path)?.write_all(bytes);
    }
    let path = &real_file(path);
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// A device, a pipe and an open file (`/dev/stdout`) are written to; a file is replaced whole.
fn is_special(path: &Path) -> bool {
    // `/dev/stdout` is a link, and may lead to a regular file that holds the ranks' output.
    let link = path.read_link().unwrap_or_default();
    let is_open_file = |path: &Path| path.starts_with("/proc") || path.starts_with("/dev/fd");
    is_open_file(path)
        || is_open_file(&link)
        || path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Where a file is made: a link stays, and what it leads to is replaced.
fn real_file(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
