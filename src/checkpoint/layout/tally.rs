//! What the looks at a checkpoint's files add up to.

use std::path::Path;
use std::time::SystemTime;

use super::dcp::Dcp;
use crate::checkpoint::io::{Io, IoError};
use crate::checkpoint::read::torch_file::{self, TorchFile};
use crate::checkpoint::{Flaw, Judged, Verdict};

/// As many flaws as are told of one checkpoint: more tell nobody more.
const MAX_FLAWS: usize = 8;

/// Whether `torch.save` writes files of such names.
pub fn is_torch(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "pt")
}

/// Flaws, and sizes and ages, of files that were looked at.
#[derive(Debug, Default)]
pub struct Tally {
    /// What is wrong, in the order in which it was seen; at most [`MAX_FLAWS`].
    pub flaws: Vec<Flaw>,
    /// Bytes of all files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// The newest.
    pub modified: Option<SystemTime>,
}

impl Tally {
    /// Something is wrong with a file.
    pub fn flaw(&mut self, file: impl Into<String>, what: impl Into<String>) {
        if self.flaws.len() < MAX_FLAWS {
            self.flaws.push(Flaw::new(file, what));
        }
    }

    /// A file that was looked at.
    pub fn add(&mut self, size: u64, modified: Option<SystemTime>) {
        self.bytes = self.bytes.saturating_add(size);
        self.files += 1;
        self.modified = self.modified.max(modified);
    }

    /// A folder of DCP, or of `DeepSpeed`, that was judged; `below` is its name where it is not the
    /// checkpoint itself.
    pub fn folder(&mut self, below: Option<&str>, judged: Dcp) {
        self.bytes = self.bytes.saturating_add(judged.bytes);
        self.files += judged.files;
        self.modified = self.modified.max(judged.modified);
        for flaw in judged.flaws {
            let file = below.map_or(flaw.file.clone(), |below| format!("{below}/{}", flaw.file));
            self.flaw(file, flaw.what);
        }
    }

    /// Checks a file that `torch.save` wrote; `None` where it has a flaw.
    pub fn torch(
        &mut self,
        folder: &Path,
        name: &str,
        io: &mut Io,
    ) -> Result<Option<TorchFile>, IoError> {
        match torch_file::check(&folder.join(name), io) {
            Ok(Ok(file)) => {
                self.add(file.size, file.modified);
                return Ok(Some(file));
            }
            Ok(Err(what)) => self.flaw(name, what),
            Err(error) if error.is_flaw() => self.flaw(name, error.to_string()),
            Err(error) => return Err(error),
        }
        // It may be being written, and its age tells.
        match io.stat(&folder.join(name)) {
            Ok(stat) => self.add(stat.size, stat.modified),
            Err(error) if error.is_flaw() => {}
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Adds a file that nothing is known of but that it must be there, and hold something.
    pub fn plain(&mut self, folder: &Path, name: &str, io: &mut Io) -> Result<(), IoError> {
        match io.stat(&folder.join(name)) {
            Ok(stat) if stat.is_folder => self.flaw(name, IoError::NoFile.to_string()),
            Ok(stat) => {
                self.add(stat.size, stat.modified);
                if stat.size == 0 {
                    self.flaw(name, "is empty");
                }
            }
            Err(error) if error.is_flaw() => self.flaw(name, error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whole, where nothing is wrong.
    pub fn judged(self, step: Option<u64>) -> Judged {
        let Self { flaws, bytes, files, modified } = self;
        let verdict = if flaws.is_empty() { Verdict::Whole } else { Verdict::Broken(flaws) };
        Judged { verdict, step, bytes, files, modified }
    }

    /// The same without a verdict, for a folder inside a checkpoint.
    pub fn into_folder(self) -> Dcp {
        Dcp { flaws: self.flaws, bytes: self.bytes, files: self.files, modified: self.modified }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_adds_up_and_tells_the_first_flaws() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let mut tally = Tally::default();
        for (size, time) in [(1, at(2)), (2, at(3)), (4, at(1)), (8, None)] {
            tally.add(size, time);
        }
        let mut inner = Tally::default();
        inner.add(16, at(4));
        inner.flaw("b", "is gone");
        tally.folder(Some("a"), inner.into_folder());
        assert_eq!((tally.bytes, tally.files, tally.modified), (31, 5, at(4)));
        for _ in 0..MAX_FLAWS {
            tally.flaw("c", "is gone");
        }
        assert_eq!(
            (tally.flaws.len(), tally.flaws[0].to_string()),
            (MAX_FLAWS, "a/b is gone".into())
        );
        assert_eq!(Tally::default().judged(Some(1)).verdict, Verdict::Whole);
    }
}
