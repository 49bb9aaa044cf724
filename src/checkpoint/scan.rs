//! Looks through a checkpoint folder and chooses.
//!
//! - N1: candidates are ordered by number, then age; the newest that is whole is chosen.
//! - N2: judging stops at the first whole one, unless everything is asked for.
//! - N3: where a newer candidate could not be judged ([`Verdict::Unknown`]), nothing is chosen: an
//!   older one would throw work away that may be there.

use std::path::{Path, PathBuf};

use super::io::{Entry, Io, IoError};
use super::layout::{ADAPTERS, Adapter, Cx, Pointer};
use super::{Flaw, Found, Judged, Layout, Verdict};

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The folder.
    pub folder: PathBuf,
    /// How checkpoints are laid out; `None` is found out.
    pub layout: Option<Layout>,
    /// What adapters may know.
    pub cx: Cx,
    /// Whether candidates behind the chosen one are judged too.
    pub all: bool,
}

/// One candidate, and what is true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub found: Found,
    /// `None` where it was not judged (N2).
    pub judged: Option<Judged>,
}

impl Candidate {
    /// The step, from its name or its files.
    pub fn step(&self) -> Option<u64> {
        self.found.step.or_else(|| self.judged.as_ref()?.step)
    }

    /// Whether it was proven whole.
    pub fn is_whole(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.verdict == Verdict::Whole)
    }
}

/// What a folder holds.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// How checkpoints are laid out; `None` where none is there.
    pub layout: Option<Layout>,
    /// Newest first.
    pub candidates: Vec<Candidate>,
    /// The layout's own pointer.
    pub pointer: Option<Pointer>,
    /// The place of the chosen one in `candidates`.
    pub chosen: Option<usize>,
    /// Why the folder could not be looked through, as the end of a sentence about it: `could not be
    /// looked at in time`. A folder that is missing is an empty one.
    pub failed: Option<String>,
}

impl Scan {
    /// The chosen one.
    pub fn chosen(&self) -> Option<&Candidate> {
        self.candidates.get(self.chosen?)
    }

    /// Those newer than the chosen one; all where none was.
    pub fn newer(&self) -> &[Candidate] {
        &self.candidates[..self.chosen.unwrap_or(self.candidates.len())]
    }

    /// Why nothing may be chosen: a newer one could not be judged (N3), or the folder itself.
    pub fn undecided(&self) -> Option<String> {
        let unknown =
            self.newer().iter().find_map(|candidate| match &candidate.judged.as_ref()?.verdict {
                Verdict::Unknown(why) => Some(format!("{} {why}", candidate.found.path.display())),
                _ => None,
            });
        self.failed.clone().or(unknown)
    }
}

/// Looks through a folder.
pub fn scan(request: &Request, io: &mut Io) -> Scan {
    let mut scan = Scan::default();
    match io.list(&request.folder) {
        Err(IoError::Missing) => {}
        Err(error) => scan.failed = Some(error.to_string()),
        Ok(entries) => {
            if let Err(error) = fill(request, &entries, io, &mut scan) {
                scan.failed = Some(error.to_string());
            }
        }
    }
    scan
}

fn fill(request: &Request, entries: &[Entry], io: &mut Io, scan: &mut Scan) -> Result<(), IoError> {
    let folder = &request.folder;
    let adapters = ADAPTERS.iter().filter(|a| request.layout.is_none_or(|l| l == a.layout()));
    for adapter in adapters {
        let found = adapter.find(folder, entries, &request.cx, io)?;
        if found.is_empty() {
            continue;
        }
        scan.layout = Some(adapter.layout());
        scan.pointer = adapter.pointer(folder, entries, io);
        judge_all(*adapter, found, request, io, scan);
        break;
    }
    Ok(())
}

fn judge_all(
    adapter: &dyn Adapter,
    mut found: Vec<Found>,
    request: &Request,
    io: &mut Io,
    scan: &mut Scan,
) {
    // N1
    found.sort_by(|a, b| (b.number, b.modified, &b.path).cmp(&(a.number, a.modified, &a.path)));
    let mut undecided = false;
    for (at, found) in found.into_iter().enumerate() {
        let is_asked = request.all || (scan.chosen.is_none() && !undecided);
        let judged = is_asked.then(|| judge(adapter, &found, &request.cx, io));
        let candidate = Candidate { found, judged };
        undecided |= matches!(
            candidate.judged.as_ref().map(|judged| &judged.verdict),
            Some(Verdict::Unknown(_))
        );
        if scan.chosen.is_none() && !undecided && candidate.is_whole() {
            scan.chosen = Some(at);
        }
        scan.candidates.push(candidate);
    }
}

/// Judges one candidate; what its adapter could not look at is unknown or a flaw.
pub fn judge(adapter: &dyn Adapter, found: &Found, cx: &Cx, io: &mut Io) -> Judged {
    adapter.judge(found, cx, io).unwrap_or_else(|error| {
        let verdict = if error.is_flaw() {
            Verdict::Broken(vec![Flaw::new(name_of(&found.path), error.to_string())])
        } else {
            Verdict::Unknown(error.to_string())
        };
        Judged { verdict, step: None, bytes: 0, files: 0, modified: None }
    })
}

/// Judges again what was chosen before, just before it is used.
pub fn judge_again(found: &Found, cx: &Cx, io: &mut Io) -> Judged {
    let adapter = ADAPTERS.iter().find(|adapter| adapter.layout() == found.layout);
    judge(*adapter.expect("an adapter found it"), found, cx, io)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
