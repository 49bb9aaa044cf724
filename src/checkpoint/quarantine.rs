//! Renames a broken checkpoint aside, so that a framework that takes the highest number blindly does
//! not fall into it.
//!
//! - Q1: only what is proven broken, and only while no rank lives. Nothing is removed.
//! - Q2: no framework's pattern matches the new name. Some look for `step-(\d+)` anywhere in a name,
//!   so that a prefix alone would not do: nothing but letters stands beside letters there.
//! - Q3: what the layout's pointer names stays: a framework that follows the pointer into nothing
//!   may begin anew without a word (`DeepSpeed` does), which is worse than a failure.
//! - Q4: what another job may be writing stays.
//! - Q5: a pointer that a framework follows against what it is told is written anew, as the framework
//!   itself would have written it; the old one is kept beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::layout::Pointer;
use super::scan::Candidate;

/// What every such name begins with; hidden from `ls`.
pub const PREFIX: &str = ".nvlaunch-quarantine";
/// What was written less than this ago may be another job's work (Q4).
const YOUNG: Duration = Duration::from_secs(60);
/// How many checkpoints of one name may be put aside.
const MOST: u32 = 1000;

/// Renames it; where it is now, or why it stays, as a clause.
pub fn put_aside(
    folder: &Path,
    candidate: &Candidate,
    pointer: Option<&Pointer>,
    others_write: bool,
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
    let modified = candidate.judged.as_ref().and_then(|judged| judged.modified);
    let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    if others_write && age.is_none_or(|age| age < YOUNG) {
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
    use crate::checkpoint::{Found, Judged, Layout, Verdict};

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
            let to = put_aside(folder.path(), &candidate(&path, old), None, true).unwrap();
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
            put_aside(folder.path(), &candidate(path, at), pointer, others).unwrap_err()
        };
        assert_eq!(aside(&path, old, Some(&pointer("step-1200")), false), "latest names it");
        assert_eq!(aside(&path, old, Some(&pointer("/x/step-1200")), false), "latest names it");
        assert_eq!(aside(&path, old, Some(&pointer(" 1200\n")), false), "latest names it");
        assert!(aside(&path, now, None, true).contains("another job"));
        assert_eq!(aside(folder.path(), old, None, false), "it is the folder itself");
        let other = pointer("step-1000");
        let moved = put_aside(folder.path(), &candidate(&path, now), Some(&other), false);
        assert!(moved.is_ok(), "our own ranks are gone: {moved:?}");
    }
}
