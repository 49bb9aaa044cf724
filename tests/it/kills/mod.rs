//! Real trainings whose ranks are killed again and again, also while they save: they end with the
//! same loss, step and weights as one that nobody disturbed, to the last bit.
//!
//! Each kill ends one attempt, and nothing else does: had the framework failed to load what nvlaunch
//! chose, there would be more attempts than kills. `NVLAUNCH_TEST_SEED` repeats a run's moments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Job, pause, wait_until};

const WATCHED: &str = include_str!("watched.py");
/// How often one training is disturbed.
const KILLS: u32 = 20;
/// For an attempt to begin, and for the job to end.
const BOUND: Duration = Duration::from_secs(300);
/// Where it saves.
const FOLDER: &str = "saved";

/// A training, of two ranks.
pub struct Training {
    /// Its example's name.
    pub example: &'static str,
    /// Arguments of the example; it is to save at least 50 times.
    pub args: &'static [&'static str],
    /// How far below the folder the checkpoints are.
    pub depth: u32,
    /// What the ranks find imported.
    pub warm: &'static str,
    /// nvlaunch's options about checkpoints, besides where they are.
    pub options: &'static [&'static str],
    /// Another Python than the project's own, and variables.
    pub env: Vec<(&'static str, PathBuf)>,
}

impl Training {
    fn job(&self) -> Job {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(self.example);
        let job = Job::new().file("watched.py", WATCHED);
        let watched = job.dir.path().join("watched");
        fs::create_dir(&watched).expect("a folder in the test's");
        let job = job.env("WATCHED", watched).env("OMP_NUM_THREADS", "1");
        let job = self.env.iter().fold(job, |job, (name, value)| job.env(name, value));
        job.args(["--nproc", "2", "--checkpoint-dir", FOLDER, "--restart-backoff", "0s"])
            .arg("--max-restarts")
            .arg(KILLS.to_string())
            .arg(format!("--warm={}", self.warm))
            .args(self.options)
            .arg("watched.py")
            .arg(example)
            .args(self.args)
    }

    /// Disturbs it; what is printed tells how.
    pub fn survives_kills(&self) -> String {
        let whole = self.job().run_within(BOUND).expect_code(0);
        let expected = done(&whole.stdout).expect("it says how it ended");

        let mut chance = Chance::new();
        let began = Instant::now();
        let running = self.job().start();
        let dir = running.dir.path().to_owned();
        let mut while_saving = 0;
        for attempt in 0..KILLS {
            let pids = [0, 1].map(|rank| started(&dir, attempt, rank).0);
            let saves = chance.below(4);
            let mut last = names(&dir.join(FOLDER), self.depth);
            for _ in 0..saves {
                wait_until("a save begins", BOUND, || {
                    let now = names(&dir.join(FOLDER), self.depth);
                    let is_new = !now.is_subset(&last);
                    last.extend(now);
                    is_new
                });
            }
            while_saving += u32::from(saves > 0);
            let moment = Instant::now() + Duration::from_millis(chance.below(40));
            while Instant::now() < moment {
                pause();
            }
            let pid = pids[usize::try_from(chance.below(2)).expect("0 or 1")];
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the rank is there");
        }
        let end = running.end_within(BOUND).expect_code(0);
        let seed = chance.seed;
        assert_eq!(done(&end.stdout), Some(expected), "seed {seed}\n{}", end.stderr);

        let attempts = fs::read_dir(end.path("watched")).expect("the folder is there").count();
        let expected = 2 * (usize::try_from(KILLS).expect("it fits") + 1);
        assert_eq!(attempts, expected, "seed {seed}: another failure than ours\n{}", end.stderr);
        let chosen: Vec<String> = (0..=KILLS)
            .map(|attempt| {
                let [(_, first), (_, other)] =
                    [0, 1].map(|rank| started(end.dir.path(), attempt, rank));
                assert_eq!(first, other, "seed {seed}: all ranks resume from the same");
                first
            })
            .collect();
        let resumed = chosen.iter().filter(|path| !path.is_empty()).count();
        let numbers: Vec<u64> = chosen.iter().map(|path| number(path)).collect();
        assert!(numbers.is_sorted(), "seed {seed}: it went backwards: {chosen:?}");
        assert!(resumed >= 10, "seed {seed}: {chosen:?}");
        format!(
            "{}: {KILLS} kills, {while_saving} of them right after a save began, {resumed} attempts \
             resumed, in {:.0} s; seed {seed}",
            self.example,
            began.elapsed().as_secs_f64()
        )
    }
}

/// The last line of a training.
fn done(stdout: &str) -> Option<String> {
    stdout.lines().find_map(|line| Some(line.split_once("done: ")?.1.to_owned()))
}

/// The process of a rank and what it resumes from, once it has begun.
fn started(dir: &Path, attempt: u32, rank: u32) -> (i32, String) {
    let path = dir.join("watched").join(format!("{attempt}.{rank}"));
    wait_until(&format!("attempt {attempt} begins"), BOUND, || path.exists());
    let text = fs::read_to_string(path).expect("it was moved there");
    let (pid, from) = text.split_once(' ').expect("two words");
    (pid.parse().expect("a process id"), from.to_owned())
}

/// What has a name so far below a folder, but what was put aside.
fn names(folder: &Path, depth: u32) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let is_hidden = |path: &Path| path.to_string_lossy().contains("/.");
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !is_hidden(path));
    if depth == 0 {
        return paths.collect();
    }
    paths.flat_map(|path| names(&path, depth - 1)).collect()
}

/// The last number in the name of a checkpoint; 0 for none.
fn number(path: &str) -> u64 {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    numbers.next_back().map_or(0, |number| number.parse().expect("digits"))
}

/// Moments by a seed.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let given = std::env::var("NVLAUNCH_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let nanos = || u64::from(now.expect("it is after 1970").subsec_nanos());
        let seed = given.unwrap_or_else(nanos);
        Self { seed, state: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }
}
