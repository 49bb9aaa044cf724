//! One log file: raw bytes in, and an honest gap where the disk would not take them.
//!
//! - D1: bytes are written as they come, each chunk with one call where the system takes it whole.
//! - D2: what cannot be written is counted and dropped; the next chunk is tried again.
//! - D3: after a gap, one line `[nvlaunch: N bytes lost here: reason]` stands in its place.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that ranks' output is appended to.
#[derive(Debug)]
pub struct LogFile<W = File> {
    target: W,
    path: PathBuf,
    /// Bytes lost since the last byte that was written, and why.
    gap: Option<(u64, String)>,
    ends_line: bool,
    lost: u64,
    first_error: Option<String>,
}

impl LogFile {
    /// Opens or makes the file; what it holds already stays.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The caller names the file in its own error.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self::new(file, path.to_owned()))
    }
}

impl<W: Write> LogFile<W> {
    fn new(target: W, path: PathBuf) -> Self {
        Self { target, path, gap: None, ends_line: true, lost: 0, first_error: None }
    }

    /// Appends a chunk. Gives the reason when this is the first failure of this file.
    pub fn append(&mut self, chunk: &[u8]) -> Option<&str> {
        let known = self.first_error.is_some();
        if let Some((bytes, reason)) = &self.gap {
            let newline = if self.ends_line { "" } else { "\n" };
            let marker = format!("{newline}[nvlaunch: {bytes} bytes lost here: {reason}]\n");
            if self.write(marker.as_bytes()).is_err() {
                self.lose(chunk.len(), None);
                return None;
            }
            self.gap = None;
        }
        if let Err((written, error)) = self.write(chunk) {
            self.lose(chunk.len() - written, Some(&error));
        }
        if known { None } else { self.first_error.as_deref() }
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The first failure's reason.
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Writes all, or says how much was written before the error.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.target.write(&bytes[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    written += n;
                    self.ends_line = bytes[written - 1] == b'\n';
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    fn lose(&mut self, bytes: usize, error: Option<&io::Error>) {
        self.lost += bytes as u64;
        let (gap, reason) = self.gap.get_or_insert_with(|| (0, String::new()));
        *gap += bytes as u64;
        if let Some(error) = error {
            *reason = plain_reason(error);
            self.first_error.get_or_insert_with(|| reason.clone());
        }
    }
}

/// The system's words without the number.
pub fn plain_reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with that much room.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= n;
            self.bytes.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(room: usize) -> LogFile<Disk> {
        LogFile::new(Disk { bytes: Vec::new(), room }, PathBuf::from("x.log"))
    }

    #[test]
    fn a_gap_is_counted_marked_and_said_once() {
        let mut log = log(8);
        assert_eq!(log.append(b"12345\n"), None);
        assert_eq!(log.append(b"678901\n"), Some("no storage space"));
        assert_eq!(log.append(b"lost\n"), None);
        assert_eq!((log.lost(), log.target.bytes.as_slice()), (10, &b"12345\n67"[..]));
        log.target.room = 1000;
        assert_eq!(log.append(b"again\n"), None);
        let expected = "12345\n67\n[nvlaunch: 10 bytes lost here: no storage space]\nagain\n";
        assert_eq!(String::from_utf8_lossy(&log.target.bytes), expected);
        log.target.bytes.clear();
        assert_eq!(log.append(b"more\n"), None);
        assert_eq!(log.target.bytes, b"more\n");
        log.target.room = 0;
        assert_eq!(log.append(b"x"), None);
        assert_eq!((log.lost(), log.first_error()), (11, Some("no storage space")));
    }

    #[test]
    fn a_marker_that_does_not_fit_is_written_anew() {
        let mut log = log(0);
        log.append(b"ab\n");
        log.target.room = 5;
        log.append(b"cd\n");
        log.target.room = 1000;
        log.append(b"ef\n");
        let expected = "[nvla\n[nvlaunch: 6 bytes lost here: no storage space]\nef\n";
        assert_eq!(String::from_utf8_lossy(&log.target.bytes), expected);
    }

    #[test]
    fn a_full_device_is_an_error_of_each_chunk_only() {
        let mut log = LogFile::open(Path::new("/dev/full")).expect("every Linux has it");
        assert_eq!(log.append(b"abc"), Some("No space left on device"));
        assert_eq!(log.append(b"abc"), None);
        assert_eq!(log.lost(), 6);
    }

    #[test]
    fn opening_keeps_what_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("stdout.log");
        for text in ["one\n", "two\n"] {
            LogFile::open(&path).expect("it can be made").append(text.as_bytes());
        }
        assert_eq!(fs_err::read(&path).expect("it is there"), b"one\ntwo\n");
    }
}
