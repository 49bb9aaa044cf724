//! Where `latest_checkpointed_iteration.txt` decides although `--ckpt-step` is given.
//!
//! - T1: it is read whenever it is there, before `--ckpt-step` is looked at. Where no number stands in it
//!   every rank ends with exit code 0; where it says `release`, the weights in `release/` are loaded.
//! - T2: in the older form the distributed optimizer is loaded from the iteration that it names, whatever
//!   `--ckpt-step` says; without it the ranks fail.
//!
//! Source: Megatron-LM's `training/checkpointing.py` (`_load_base_checkpoint`, `read_metadata`,
//! `load_checkpoint`: "a manual read of the tracker file").

use std::path::{Path, PathBuf};

use super::{TRACKER, legacy};
use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::{Found, Layout};

/// As much of it as is read: a number, or one word.
const BYTES: usize = 4096;

/// A tracker with which Megatron-LM would not resume where it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The tracker.
    pub file: PathBuf,
    /// What is the matter with it, as the end of a sentence about it.
    pub why: String,
    /// What should stand in it.
    pub iteration: u64,
}

/// Whether the tracker contradicts the iteration that was chosen.
pub fn contradiction(chosen: &Found, io: &mut Io) -> Result<Option<Contradiction>, IoError> {
    let is_legacy = chosen.layout == Layout::MegatronLegacy;
    let (true, Some(iteration), Some(folder)) =
        (is_legacy || chosen.layout == Layout::Megatron, chosen.step, chosen.path.parent())
    else {
        return Ok(None);
    };
    let file = folder.join(TRACKER);
    let bytes = match io.read(&file, BYTES) {
        Ok(bytes) => Some(bytes),
        Err(IoError::TooLarge) => Some(Vec::new()),
        Err(error) if error.is_flaw() => None,
        Err(error) => return Err(error),
    };
    let decides = is_legacy && has_own_optimizer(&chosen.path, io)?;
    let text = bytes.map(|bytes| String::from_utf8(bytes).unwrap_or_default());
    let why = match text.as_deref().map(str::trim) {
        None if decides => "is missing, without which Megatron-LM finds no optimizer".to_owned(),
        None => return Ok(None),
        Some("release") => "names release, which Megatron-LM loads whatever it is told".to_owned(),
        Some(text) => match text.parse::<u64>() {
            Ok(named) if named == iteration || !decides => return Ok(None),
            Ok(named) => {
                format!("names {named}, from which Megatron-LM takes the optimizer all the same")
            }
            Err(_) => "is empty or torn, for which Megatron-LM ends every rank with exit code 0 \
                       whatever it is told"
                .to_owned(),
        },
    };
    Ok(Some(Contradiction { file, why, iteration }))
}

/// Whether the optimizer is in files of its own. All ranks have one or none: the iteration is whole.
fn has_own_optimizer(iteration: &Path, io: &mut Io) -> Result<bool, IoError> {
    let entries = io.list(iteration)?;
    let mut names = entries.iter().filter(|entry| entry.is_folder).filter_map(Entry::text);
    let Some(rank) = names.find(|name| legacy::is_rank(name)) else { return Ok(false) };
    super::mcore::is_there(&iteration.join(rank).join(legacy::OPTIMIZER), io)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::choose::{Choose, Look, choose};
    use crate::checkpoint::layout::Cx;
    use crate::checkpoint::layout::fixtures::{Item, torch};
    use crate::checkpoint::scan::Request;

    fn why(layout: Layout, tracker: Option<&str>, own_optimizer: bool) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iter_0000010");
        let rank = path.join("mp_rank_00");
        fs::create_dir_all(&rank).unwrap();
        if own_optimizer {
            fs::write(rank.join(legacy::OPTIMIZER), b"x").unwrap();
        }
        if let Some(text) = tracker {
            fs::write(folder.path().join(TRACKER), text).unwrap();
        }
        let found = Found { layout, path, number: Some(10), step: Some(10), modified: None };
        let told = contradiction(&found, &mut Io::until(None)).unwrap()?;
        assert_eq!((told.file, told.iteration), (folder.path().join(TRACKER), 10));
        Some(told.why.split(',').next().unwrap().to_owned())
    }

    #[test]
    fn what_the_tracker_decides_all_the_same() {
        let (core, legacy) = (Layout::Megatron, Layout::MegatronLegacy);
        let table: &[(Layout, Option<&str>, bool, Option<&str>)] = &[
            (core, None, false, None),
            (core, Some("10"), false, None),
            // --ckpt-step comes before it
            (core, Some("20\n"), false, None),
            (core, Some(""), false, Some("is empty or torn")),
            (core, Some("\0\0"), false, Some("is empty or torn")),
            (core, Some("1x"), false, Some("is empty or torn")),
            (core, Some("10\n20"), false, Some("is empty or torn")),
            (core, Some("release"), false, Some("names release")),
            (legacy, Some("20"), false, None),
            (legacy, Some(""), false, Some("is empty or torn")),
            (legacy, Some("10\n"), true, None),
            (legacy, Some("20"), true, Some("names 20")),
            (legacy, Some("5"), true, Some("names 5")),
            (legacy, None, true, Some("is missing")),
            (legacy, None, false, None),
            (Layout::Nemo, Some(""), false, None),
        ];
        for (layout, tracker, own, expected) in table {
            assert_eq!(why(*layout, *tracker, *own).as_deref(), *expected, "{layout} {tracker:?}");
        }
    }

    #[test]
    fn nothing_is_renamed_where_the_tracker_cannot_be_put_right() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model_optim_rng.pt", legacy::OPTIMIZER] {
            torch(&folder.path().join("iter_0000010/mp_rank_00").join(name), &Item::Dict(vec![]));
        }
        let broken = folder.path().join("iter_0000020");
        fs::create_dir_all(broken.join("mp_rank_00")).unwrap();
        fs::create_dir(folder.path().join(TRACKER)).unwrap();
        let path = folder.path().to_owned();
        let request = Request { folder: path, layout: None, cx: Cx::default(), all: false };
        let look = Look { request, deadline: Duration::from_secs(60) };
        let wanted = Choose { look, others_write: false, quarantine: true, by_tracker: true };
        let refused = choose(&wanted, |_| ()).unwrap_err();
        assert!(refused.contains("it cannot be written anew"), "{refused}");
        assert!(broken.exists(), "it would be told by nobody");
    }

    #[test]
    fn ranks_start_only_where_the_tracker_is_not_against_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model_optim_rng.pt", legacy::OPTIMIZER] {
            torch(&folder.path().join("iter_0000010/mp_rank_00").join(name), &Item::Dict(vec![]));
        }
        fs::create_dir_all(folder.path().join("iter_0000020/mp_rank_00")).unwrap();
        let tracker = folder.path().join(TRACKER);
        fs::write(&tracker, "20").unwrap();
        let chosen = |by_tracker, quarantine| {
            let folder = folder.path().to_owned();
            let request = Request { folder, layout: None, cx: Cx::default(), all: false };
            let look = Look { request, deadline: Duration::from_secs(60) };
            choose(&Choose { look, others_write: false, quarantine, by_tracker }, |_| ())
        };
        let is_ten = |point: Option<u64>| assert_eq!(point, Some(10));
        is_ten(chosen(false, false).unwrap().point.unwrap().step);
        let refused = chosen(true, false).unwrap_err();
        assert!(refused.contains("names 20, from which Megatron-LM takes"), "{refused}");
        assert!(refused.contains("--quarantine makes it name 10"), "{refused}");
        assert_eq!(fs::read(&tracker).unwrap(), b"20");
        let right = chosen(true, true).unwrap();
        is_ten(right.point.unwrap().step);
        let told = right.passed.last().unwrap();
        assert_eq!(told.path, tracker);
        assert_eq!(fs::read(told.renamed_to.as_ref().unwrap()).unwrap(), b"20");
        assert_eq!(fs::read(&tracker).unwrap(), b"10");
        is_ten(chosen(true, false).unwrap().point.unwrap().step);
    }
}
