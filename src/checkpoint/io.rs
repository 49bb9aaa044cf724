//! Looking at files within bounds: so many operations, so many bytes, until a deadline.
//!
//! A network file system may take seconds for one answer, and nothing can interrupt that: whoever
//! may not wait hands the whole scan to a thread and leaves it behind. What is here ends the scan
//! at the first answer after the deadline.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::quarantine;

/// The most entries that are read of one folder.
pub const MAX_ENTRIES: usize = 100_000;

/// Why something could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// Time is over.
    #[error("could not be looked at in time")]
    Deadline,
    /// It has more bytes or entries than are read.
    #[error("is larger than is read here")]
    TooLarge,
    /// It is something else than was expected: a folder, a device, a fifo.
    #[error("is no file")]
    NoFile,
    /// It is a link that leads to itself.
    #[error("is a link that leads nowhere")]
    Loop,
    /// The system says so.
    #[error("cannot be read: {0}")]
    System(io::Error),
}

impl IoError {
    fn of(error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => Self::Missing,
            (_, Some(nix::libc::ELOOP)) => Self::Loop,
            // A socket, or a device that nothing drives.
            (_, Some(nix::libc::ENXIO | nix::libc::ENODEV)) => Self::NoFile,
            _ => Self::System(error),
        }
    }

    /// Whether it says something of the checkpoint, and not of our way to it.
    pub fn is_flaw(&self) -> bool {
        matches!(self, Self::Missing | Self::NoFile | Self::Loop)
    }
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Whether it is a folder; a link counts as what it leads to.
    pub is_folder: bool,
}

impl Entry {
    /// The name, where it is text.
    pub fn text(&self) -> Option<&str> {
        self.name.to_str()
    }
}

/// What one look at a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// When it was made here, where the file system keeps that.
    pub created: Option<SystemTime>,
}

impl Stat {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            is_folder: metadata.is_dir(),
            modified: metadata.modified().ok(),
            created: metadata.created().ok(),
        }
    }
}

/// The way to files.
#[derive(Debug)]
pub struct Io {
    deadline: Option<Instant>,
    operations: u64,
    bytes: u64,
}

impl Io {
    /// Until `deadline`, or without end.
    pub fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, operations: 0, bytes: 0 }
    }

    /// How often the file system was asked.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether time is over.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn operation(&mut self) -> Result<(), IoError> {
        self.operations += 1;
        if self.is_over() { Err(IoError::Deadline) } else { Ok(()) }
    }

    /// The entries of a folder but what was put aside, in no order; more than [`MAX_ENTRIES`] are an error.
    pub fn list(&mut self, folder: &Path) -> Result<Vec<Entry>, IoError> {
        self.operation()?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(IoError::of)? {
            let entry = entry.map_err(IoError::of)?;
            if entry.file_name().as_bytes().starts_with(quarantine::PREFIX.as_bytes()) {
                continue;
            }
            let kind = entry.file_type().map_err(IoError::of)?;
            let is_folder = if kind.is_symlink() {
                self.operation()?;
                fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir())
            } else {
                kind.is_dir()
            };
            entries.push(Entry { name: entry.file_name(), is_folder });
            if entries.len() > MAX_ENTRIES {
                return Err(IoError::TooLarge);
            }
            if entries.len() % 256 == 0 && self.is_over() {
                return Err(IoError::Deadline);
            }
        }
        Ok(entries)
    }

    /// Size and age; a link counts as what it leads to.
    pub fn stat(&mut self, path: &Path) -> Result<Stat, IoError> {
        self.operation()?;
        let metadata = fs::metadata(path).map_err(IoError::of)?;
        Ok(Stat::of(&metadata))
    }

    /// What a link holds, as it stands there; `None` where there is no link.
    pub fn link(&mut self, path: &Path) -> Result<Option<PathBuf>, IoError> {
        self.operation()?;
        match fs::read_link(path) {
            Ok(target) => Ok(Some(target)),
            // what is there is no link
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(IoError::of(error)),
        }
    }

    /// A file, opened so that neither a fifo nor a device holds us.
    pub fn open(&mut self, path: &Path) -> Result<Opened, IoError> {
        self.operation()?;
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags).open(path);
        let file = file.map_err(IoError::of)?;
        Opened::of(file)
    }

    /// Up to `len` bytes from `offset`; fewer where the file ends.
    pub fn read_at(
        &mut self,
        opened: &Opened,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, IoError> {
        self.operation()?;
        let room = usize::try_from(opened.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(room)];
        let mut done = 0;
        while done < bytes.len() {
            match opened.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(IoError::of(error)),
            }
        }
        bytes.truncate(done);
        self.bytes += done as u64;
        Ok(bytes)
    }

    /// A whole small file: a pointer, a marker, an index. More than `limit` bytes are an error.
    pub fn read(&mut self, path: &Path, limit: usize) -> Result<Vec<u8>, IoError> {
        let opened = self.open(path)?;
        if opened.size > limit as u64 {
            return Err(IoError::TooLarge);
        }
        self.operation()?;
        let mut bytes = Vec::new();
        let mut limited = (&opened.file).take(limit as u64 + 1);
        limited.read_to_end(&mut bytes).map_err(IoError::of)?;
        self.bytes += bytes.len() as u64;
        if bytes.len() > limit { Err(IoError::TooLarge) } else { Ok(bytes) }
    }
}

/// A file that is open.
#[derive(Debug)]
pub struct Opened {
    file: File,
    /// Bytes, when it was opened.
    pub size: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// When it was made here, where the file system keeps that.
    pub created: Option<SystemTime>,
}

impl Opened {
    /// A file that was opened elsewhere.
    pub(crate) fn of(file: File) -> Result<Self, IoError> {
        let metadata = file.metadata().map_err(IoError::of)?;
        if !metadata.is_file() {
            return Err(IoError::NoFile);
        }
        let Stat { size, modified, created, .. } = Stat::of(&metadata);
        Ok(Self { file, size, modified, created })
    }

    /// What opening it told.
    pub fn stat(&self) -> Stat {
        let Self { size, modified, created, .. } = *self;
        Stat { size, is_folder: false, modified, created }
    }
}
