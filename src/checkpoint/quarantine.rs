//! Renames a broken checkpoint aside, so that a framework that takes the highest number blindly does
//! not fall into it.
//!
//! - Q1: only what is proven broken, and only while no rank lives. Nothing is removed.
//! - Q2: no framework's pattern matches the new name. Some look for `step-(\d+)` anywhere in a name,
//!   so that a prefix alone would not do: nothing but letters stands beside letters there.
//! - Q3: what the layout's pointer names stays: a framework that follows the pointer into nothing
//!   may begin anew without a word (`DeepSpeed` does), which is worse than a failure.
//! - Q4: what another job may be writing stays: that is told by the newest of all its files, also of
//!   those that were not judged, such as one that will be renamed when it is done.
//! - Q5: a pointer that a framework follows against what it is told is written anew, as the framework
//!   itself would have written it; the old one is kept beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::io::{Io, IoError};
use super::layout::Pointer;
use super::scan::Candidate;
use super::{Judged, Verdict};

/// What every such name begins with; hidden from `ls`.
pub const PREFIX: &str = ".nvlaunch-quarantine";
/// What was written less than this ago may be another job's work (Q4).
const YOUNG: Duration = Duration::from_secs(60);
/// How deep the files of a checkpoint lie: its own folder, and one for a part of it.
const LEVELS: u32 = 2;
/// How many checkpoints of one name may be put aside.
const MOST: u32 = 1000;

/// Renames it; where it is now, or why it stays, as a clause.
pub fn put_aside(
    folder: &Path,
    candidate: &Candidate,
    pointer: Option<&Pointer>,
    others_write: bool,
    io: &mut Io,
) -> Result<PathBuf, String> {
    let path = &candidate.found.path;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err("its name is no text".to_owned());
    };
    if !parent.starts_with(folder) {
        return Err("it is the folder itself".to_owned());
    }
    let names_it = |pointer: &&Pointer| {
        pointer.names.as_deref().is_some_and(|named| {
            Path::new(named).file_name() == path.file_name()
                || ends_with_number(named, candidate.found.number)
        })
    };
    if let Some(pointer) = pointer.filter(names_it) {
        return Err(format!("{} names it", pointer.file));
    }
    if candidate.judged.as_ref().is_some_and(is_doubtful) {
        return Err("fewer ranks than this job has may have saved it".to_owned());
    }
    if others_write && is_young(candidate, io).map_err(|error| format!("it {error}"))? {
        return Err("it was written a moment ago, perhaps by another job".to_owned());
    }
    for number in 1..=MOST {
        let to = parent.join(new_name(name, number));
        if std::fs::symlink_metadata(&to).is_ok() {
            continue;
        }
        return match std::fs::rename(path, &to) {
            Ok(()) => Ok(to),
            Err(error) => Err(format!("it cannot be renamed: {error}")),
        };
    }
    Err("too many of that name were put aside".to_owned())
}

/// Q1: nothing but doubts speaks against it.
fn is_doubtful(judged: &Judged) -> bool {
    let Verdict::Broken(flaws) = &judged.verdict else { return false };
    !flaws.is_empty() && flaws.iter().all(|flaw| flaw.is_doubt)
}

/// Q4; also where nothing tells its age.
fn is_young(candidate: &Candidate, io: &mut Io) -> Result<bool, IoError> {
    let judged = candidate.judged.as_ref().and_then(|judged| judged.modified);
    let modified = judged.max(candidate.found.modified);
    let modified = modified.max(newest(&candidate.found.path, LEVELS, io)?);
    let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    Ok(age.is_none_or(|age| age < YOUNG))
}

/// When the newest of what lies at a path was written, down to so many levels of folders.
fn newest(path: &Path, levels: u32, io: &mut Io) -> Result<Option<SystemTime>, IoError> {
    let stat = match io.stat(path) {
        // It is just being renamed or removed, or is a link to what is gone.
        Err(error) if error.is_flaw() => return Ok(None),
        stat => stat?,
    };
    let mut modified = stat.modified;
    if stat.is_folder && levels > 0 {
        for entry in io.list(path)? {
            modified = modified.max(newest(&path.join(entry.name), levels - 1, io)?);
        }
    }
    Ok(modified)
}

/// Q5: writes a small file anew; where a copy of the old one is, or why not, as a clause.
pub fn rewrite(file: &Path, text: &str) -> Result<Option<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("it cannot be written anew: {error}");
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("pointer");
    let free = |number: &u32| file.with_file_name(new_name(name, *number));
    let kept = (1..=MOST).map(|number| free(&number));
    let kept = kept.into_iter().find(|path| std::fs::symlink_metadata(path).is_err());
    let kept = kept.ok_or("too many of that name were put aside")?;
    let is_there = match std::fs::copy(file, &kept) {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(cannot(error)),
    };
    // Never half-written: it takes the place of the old one whole.
    let new = file.with_file_name(format!("{PREFIX}~new~{name}"));
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file)).map_err(cannot)?;
    Ok(is_there.then_some(kept))
}

/// Megatron-LM's tracker holds a number alone.
fn ends_with_number(named: &str, number: Option<u64>) -> bool {
    number.is_some() && named.trim().parse().ok() == number
}

/// `step-1200` becomes `.nvlaunch-quarantine~1~step~1200~aside` (Q2).
fn new_name(name: &str, number: u32) -> String {
    let mut text = format!("{PREFIX}~{number}~");
    let mut last = '~';
    for c in name.chars() {
        let c = if c.is_alphanumeric() { c } else { '~' };
        let is_border = last != '~' && c != '~' && last.is_numeric() != c.is_numeric();
        if is_border {
            text.push('~');
        }
        text.push(c);
        last = c;
    }
    text.push_str("~aside");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Flaw, Found, Layout};

    fn candidate(path: &Path, modified: SystemTime) -> Candidate {
        let judged = Judged {
            verdict: Verdict::Broken(Vec::new()),
            step: None,
            bytes: 0,
            files: 0,
            modified: Some(modified),
        };
        let found = Found {
            layout: Layout::Torchtitan,
            path: path.to_owned(),
            number: Some(1200),
            step: Some(1200),
            modified: Some(modified),
        };
        Candidate { found, judged: Some(judged) }
    }

    #[test]
    fn no_patterns_of_a_framework_match_the_new_name() {
        for (name, new) in [
            ("step-1200", ".nvlaunch-quarantine~1~step~1200~aside"),
            ("global_step12", ".nvlaunch-quarantine~1~global~step~12~aside"),
            ("epoch=3-step=400.ckpt", ".nvlaunch-quarantine~1~epoch~3~step~400~ckpt~aside"),
            ("iter_0000100", ".nvlaunch-quarantine~1~iter~0000100~aside"),
            ("ep1-ba20-rank0.pt", ".nvlaunch-quarantine~1~ep~1~ba~20~rank~0~pt~aside"),
        ] {
            assert_eq!(new_name(name, 1), new);
        }
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        for number in 1..=2 {
            let path = folder.path().join("step-1200");
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("x"), [number]).unwrap();
            let mut io = Io::until(None);
            let to =
                put_aside(folder.path(), &candidate(&path, old), None, false, &mut io).unwrap();
            assert!(!path.exists());
            assert_eq!(std::fs::read(to.join("x")).unwrap(), [number]);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_pointer_is_written_anew_and_the_old_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("latest_checkpointed_iteration.txt");
        assert_eq!(rewrite(&file, "10"), Ok(None), "there was none");
        std::fs::write(&file, "1x").unwrap();
        let kept = rewrite(&file, "20").unwrap().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"20");
        assert_eq!(std::fs::read(&kept).unwrap(), b"1x");
        let again = rewrite(&file, "30").unwrap().unwrap();
        assert_eq!(std::fs::read(again).unwrap(), b"20");
        assert_eq!(std::fs::read(kept).unwrap(), b"1x", "nothing is overwritten");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        let none = folder.path().join("gone").join("latest");
        assert!(rewrite(&none, "10").unwrap_err().starts_with("it cannot be written anew"));
    }

    #[test]
    fn what_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-1200");
        std::fs::create_dir(&path).unwrap();
        let (old, now) = (SystemTime::now() - Duration::from_secs(3600), SystemTime::now());
        let pointer =
            |names: &str| Pointer { file: "latest".to_owned(), names: Some(names.to_owned()) };
        let aside = |path: &Path, at, pointer: Option<&Pointer>, others| {
            let mut io = Io::until(None);
            put_aside(folder.path(), &candidate(path, at), pointer, others, &mut io).unwrap_err()
        };
        assert_eq!(aside(&path, old, Some(&pointer("step-1200")), false), "latest names it");
        assert_eq!(aside(&path, old, Some(&pointer("/x/step-1200")), false), "latest names it");
        assert_eq!(aside(&path, old, Some(&pointer(" 1200\n")), false), "latest names it");
        assert!(aside(&path, now, None, true).contains("another job"));
        assert_eq!(aside(folder.path(), old, None, false), "it is the folder itself");
        let other = pointer("step-1000");
        let mut io = Io::until(None);
        let moved = put_aside(folder.path(), &candidate(&path, now), Some(&other), false, &mut io);
        assert!(moved.is_ok(), "our own ranks are gone: {moved:?}");
    }

    #[test]
    fn what_a_smaller_job_may_have_saved_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-1200");
        std::fs::create_dir(&path).unwrap();
        let mut candidate = candidate(&path, SystemTime::now());
        let mut aside = |flaws| {
            candidate.judged.as_mut().unwrap().verdict = Verdict::Broken(flaws);
            put_aside(folder.path(), &candidate, None, false, &mut Io::until(None))
        };
        let doubt = Flaw::doubt("random_states_2.pkl", "is missing");
        assert!(aside(vec![doubt.clone()]).unwrap_err().contains("fewer ranks"));
        assert!(aside(vec![doubt, Flaw::new("a", "is empty")]).is_ok());
    }

    #[test]
    fn a_file_that_nobody_judged_tells_that_somebody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-1200");
        let inner = path.join("weights");
        std::fs::create_dir_all(&inner).unwrap();
        let half = inner.join(".tmp1234");
        std::fs::write(&half, "x").unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        let set = |path: &Path, to| std::fs::File::open(path).unwrap().set_modified(to).unwrap();
        set(&inner, old);
        set(&path, old);
        // However long this test takes.
        set(&half, SystemTime::now() + Duration::from_secs(3600));
        let aside =
            || put_aside(folder.path(), &candidate(&path, old), None, true, &mut Io::until(None));
        assert!(aside().unwrap_err().contains("another job"));
        set(&half, old);
        assert!(aside().is_ok());
    }
}
