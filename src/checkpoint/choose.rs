//! Chooses what an attempt resumes from, and says what was passed over.
//!
//! - S1: what was written a moment ago may still be being written, by another job: it is looked at
//!   twice, and counts where both looks agree. What is newer and does not come to rest is passed
//!   over in the end. After a failure of this job nobody can write any more (the ranks are gone), and
//!   one look is enough.
//! - S2: what was chosen is judged again last of all: a framework's own thread, or a person, may
//!   have removed it meanwhile. Then the folder is looked through anew.
//! - S3: where something newer cannot be judged nothing is chosen, and the attempt does not start.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::io::Io;
use super::layout::megatron::{self, Contradiction};
use super::scan::{self, Candidate, Request, Scan};
use super::{Found, Judged, Layout, Verdict, quarantine};
use crate::supervise::event::ResumePoint;

/// What was written less than this ago may still be being written.
const FRESH: Duration = Duration::from_secs(5);
/// Between two looks at it.
const SETTLE: Duration = Duration::from_secs(1);
/// How often the folder is looked through anew before it is given up.
const ROUNDS: u32 = 5;

/// What is to be looked through, and until when.
#[derive(Debug, Clone)]
pub struct Look {
    /// The folder, an absolute path, and what is known of it.
    pub request: Request,
    /// How long it may take.
    pub deadline: Duration,
}

impl Look {
    /// Looks through it once.
    pub fn scan(&self) -> Scan {
        scan::scan(&self.request, &mut Io::until(Instant::now().checked_add(self.deadline)))
    }

    /// The newest one that is whole, or why that is not known.
    pub fn newest(&self) -> Result<Option<Point>, String> {
        let scan = self.scan();
        match undecided(&scan, &self.request.folder) {
            Some(why) => Err(why),
            None => Ok(scan.chosen().map(Point::of)),
        }
    }
}

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// How it is laid out.
    pub layout: Layout,
    /// Where it is.
    pub path: PathBuf,
    /// What orders it among others of its folder; its age in seconds where its name says nothing.
    pub number: u64,
    /// Its step, where that is known.
    pub step: Option<u64>,
    /// Files that were looked at.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest of them was written.
    pub modified: Option<SystemTime>,
}

impl Point {
    fn of(candidate: &Candidate) -> Self {
        let judged = candidate.judged.as_ref();
        let modified = judged.and_then(|judged| judged.modified).or(candidate.found.modified);
        let age = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self {
            layout: candidate.found.layout,
            path: candidate.found.path.clone(),
            number: candidate
                .found
                .number
                .or(candidate.step())
                .unwrap_or_else(|| age.map_or(0, |age| age.as_secs())),
            step: candidate.step(),
            files: judged.map_or(0, |judged| judged.files),
            bytes: judged.map_or(0, |judged| judged.bytes),
            modified,
        }
    }

    /// As the supervisor's core knows it.
    pub fn to_resume(&self) -> ResumePoint {
        let path = self.path.to_string_lossy().into_owned();
        ResumePoint { path, number: self.number, step: self.step }
    }

    /// Whether it is another one than `before`, saved later.
    pub fn is_newer_than(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| {
            let is_over = self.path == before.path && self.modified > before.modified;
            self.number > before.number || is_over
        })
    }

    /// Its name, as people call it.
    pub fn name(&self) -> String {
        name(&self.path)
    }
}

/// The last part of a path.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What the next attempt needs to know.
#[derive(Debug, Clone)]
pub struct Choose {
    /// Where.
    pub look: Look,
    /// Whether another job may be writing there: at the first attempt.
    pub others_write: bool,
    /// Whether newer ones that are broken are renamed aside.
    pub quarantine: bool,
    /// Whether ranks are told by Megatron-LM's arguments, which leave something to its tracker.
    pub by_tracker: bool,
}

/// Something newer than what was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Where it is, or was.
    pub path: PathBuf,
    /// Why it was passed over, as the end of a sentence about it.
    pub why: String,
    /// Where it was put.
    pub renamed_to: Option<PathBuf>,
    /// Why it was not put aside although that was asked for.
    pub stays: Option<String>,
}

/// What was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Where to resume; `None` is the beginning.
    pub point: Option<Point>,
    /// What is newer and was passed over, newest first.
    pub passed: Vec<Passed>,
}

/// Why nothing may be chosen, as a sentence.
fn undecided(scan: &Scan, folder: &Path) -> Option<String> {
    if let Some(why) = &scan.failed {
        return Some(format!("the checkpoint folder {} {why}", folder.display()));
    }
    Some(format!("the checkpoint {}", scan.undecided()?))
}

/// Chooses (S1 to S3). `between` waits for as long as it is told.
pub fn choose(wanted: &Choose, between: impl Fn(Duration)) -> Result<Chosen, String> {
    let folder = &wanted.look.request.folder;
    let end = Instant::now().checked_add(wanted.look.deadline);
    let mut before: Option<Vec<Seen>> = None;
    for round in 1..=ROUNDS {
        let mut io = Io::until(end);
        let scan = scan::scan(&wanted.look.request, &mut io);
        if let Some(why) = undecided(&scan, folder) {
            return Err(why);
        }
        let seen = seen(&scan);
        if wanted.others_write && seen.iter().any(Seen::is_fresh) {
            let is_chosen_same = |before: &Vec<Seen>| {
                scan.chosen.is_none_or(|_| seen.last().is_none_or(|last| before.contains(last)))
            };
            let rests = before
                .as_ref()
                .is_some_and(|before| *before == seen || round == ROUNDS && is_chosen_same(before));
            before = Some(seen);
            if !rests {
                between(SETTLE);
                continue;
            }
        }
        // S2
        let is_still_whole = scan.chosen().is_none_or(|chosen| {
            let again = scan::judge_again(&chosen.found, &wanted.look.request.cx, &mut io);
            again.verdict == Verdict::Whole
        });
        if is_still_whole {
            let tracker = match scan.chosen().filter(|_| wanted.by_tracker) {
                Some(chosen) => settle_tracker(&chosen.found, wanted, &between, &mut io)?,
                None => None,
            };
            // Only now: what was renamed before another round, or a refusal, would be told by nobody.
            let mut passed = passed_over(&scan, wanted, &mut io);
            passed.extend(tracker);
            return Ok(Chosen { point: scan.chosen().map(Point::of), passed });
        }
    }
    let folder = folder.display();
    Err(format!("the checkpoints in {folder} did not stay as they are while they were looked at"))
}

/// Where Megatron-LM's tracker would keep it from resuming from what was chosen: puts it right where
/// that is asked for; else why nothing may be started.
fn settle_tracker(
    chosen: &Found,
    wanted: &Choose,
    between: impl Fn(Duration),
    io: &mut Io,
) -> Result<Option<Passed>, String> {
    let mut told = megatron::contradiction(chosen, io);
    if wanted.others_write && matches!(told, Ok(Some(_))) {
        // It is written in place: another job may be at it.
        between(SETTLE);
        told = megatron::contradiction(chosen, io);
    }
    let told = told.map_err(|error| {
        format!("the tracker beside the checkpoint {} {error}", chosen.path.display())
    })?;
    let Some(Contradiction { file, why, iteration }) = told else { return Ok(None) };
    if !wanted.quarantine {
        return Err(format!(
            "{} {why}; --quarantine makes it name {iteration}, the newest whole checkpoint",
            file.display()
        ));
    }
    let kept = quarantine::rewrite(&file, &iteration.to_string())
        .map_err(|error| format!("{} {why}, and {error}", file.display()))?;
    let why = format!("{why}; it names {iteration} now");
    Ok(Some(Passed { path: file, why, renamed_to: kept, stays: None }))
}

/// What two looks must agree in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    /// When it was found to be written last, before it was judged.
    modified: Option<SystemTime>,
    judged: Option<Judged>,
}

impl Seen {
    fn is_fresh(&self) -> bool {
        let judged = self.judged.as_ref().and_then(|judged| judged.modified);
        let modified = judged.max(self.modified);
        // What is younger than now was written by a machine with another clock, who knows when.
        modified.is_some_and(|at| at.elapsed().map_or(true, |age| age < FRESH))
    }
}

fn seen(scan: &Scan) -> Vec<Seen> {
    let upto = scan.chosen.map_or(scan.candidates.len(), |chosen| chosen + 1);
    let seen = |candidate: &Candidate| Seen {
        path: candidate.found.path.clone(),
        modified: candidate.found.modified,
        judged: candidate.judged.clone(),
    };
    scan.candidates[..upto].iter().map(seen).collect()
}

/// What is newer than the chosen one; what is broken is renamed aside where that is asked for.
fn passed_over(scan: &Scan, wanted: &Choose, io: &mut Io) -> Vec<Passed> {
    let mut list = Vec::new();
    for candidate in scan.newer() {
        let Some(judged) = &candidate.judged else { continue };
        let path = candidate.found.path.clone();
        let mut passed = Passed { path, why: String::new(), renamed_to: None, stays: None };
        match &judged.verdict {
            Verdict::Broken(flaws) => {
                let flaws: Vec<String> = flaws.iter().take(2).map(ToString::to_string).collect();
                passed.why = format!("is not whole: {}", flaws.join("; "));
                if wanted.quarantine {
                    let folder = &wanted.look.request.folder;
                    let pointer = scan.pointer.as_ref();
                    let others_write = wanted.others_write;
                    match quarantine::put_aside(folder, candidate, pointer, others_write, io) {
                        Ok(to) => passed.renamed_to = Some(to),
                        Err(why) => passed.stays = Some(why),
                    }
                }
            }
            Verdict::Export(why) => passed.why = format!("holds weights alone: {why}"),
            Verdict::Whole | Verdict::Unknown(_) => continue,
        }
        list.push(passed);
    }
    list
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::super::layout::Cx;
    use super::*;

    /// A save of DCP without its index, so old in seconds, in a folder of its own.
    fn torn(folder: &Path, age: u64) {
        let torn = folder.join("step_20");
        fs::create_dir(&torn).unwrap();
        let shard = torn.join("__0_0.distcp");
        fs::write(&shard, "PK").unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        for path in [shard, torn] {
            fs::File::open(path).unwrap().set_modified(then).unwrap();
        }
    }

    /// What is chosen at a start, and how often it was waited for rest.
    fn chosen(folder: &Path) -> (Chosen, u32) {
        let folder = folder.to_owned();
        let request = Request { folder, layout: None, cx: Cx::default(), all: false };
        let look = Look { request, deadline: Duration::from_secs(600) };
        let waits = Cell::new(0);
        let wanted = Choose { look, others_write: true, quarantine: true, by_tracker: false };
        let chosen = choose(&wanted, |_| waits.set(waits.get() + 1)).unwrap();
        (chosen, waits.get())
    }

    #[test]
    fn a_torn_save_is_looked_at_twice_while_it_is_fresh_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        // As one from a machine whose clock is ahead: fresh however slow this test is.
        torn(folder.path(), 0);
        let ahead = SystemTime::now() + Duration::from_secs(3600);
        let shard = folder.path().join("step_20/__0_0.distcp");
        fs::File::open(shard).unwrap().set_modified(ahead).unwrap();
        let (chosen, waits) = chosen(folder.path());
        assert_eq!((chosen.point, waits), (None, 1));
        let stays = chosen.passed[0].stays.as_deref();
        assert_eq!(stays, Some("it was written a moment ago, perhaps by another job"));
    }

    #[test]
    fn a_torn_save_of_old_is_put_aside_at_once() {
        let folder = tempfile::tempdir().unwrap();
        torn(folder.path(), 9 * 86_400);
        let (chosen, waits) = chosen(folder.path());
        assert_eq!((chosen.passed.len(), waits), (1, 0));
        let passed = &chosen.passed[0];
        assert_eq!(passed.why, "is not whole: .metadata is missing: the save did not end");
        assert!(passed.renamed_to.as_ref().is_some_and(|to| to.exists()), "{passed:?}");
    }
}
