//! Who hangs when time is up: a thread beside the loop that looks at the ranks and then asks
//! nvlaunch to end.
//!
//! The loop itself is not delayed, and no process is started here. A rank is asked for its Python
//! stack only where it has a handler for the signal; it would die of it otherwise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};

use crate::env_vars;
use crate::host::process::{self, Dispositions, Process};
use crate::plan::Plan;
use crate::smoke::judge::Look;
use crate::smoke::stack;
use crate::thread;

/// How long the ranks have to write their stacks.
const ANSWER: Duration = Duration::from_millis(700);
/// Between two looks whether they have.
const STEP: Duration = Duration::from_millis(10);

/// The thread.
pub(super) struct Watch {
    over: Sender<()>,
    thread: JoinHandle<Option<Seen>>,
}

/// What it saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// When.
    pub at: Instant,
    /// By rank; `None` where the rank was gone.
    pub looks: Vec<Option<Look>>,
}

impl Watch {
    /// Looks at the ranks when it is `until`; `dir` has their files.
    pub(super) fn start(dir: &Path, plan: &Plan, until: Instant) -> io::Result<Self> {
        let (over, is_over) = mpsc::channel::<()>();
        let (dir, run, ranks) = (dir.to_owned(), plan.launch_id.clone(), plan.ranks.len());
        let smoke = std::thread::Builder::new().name("smoke".to_owned());
        let thread = thread::spawn(smoke, move || {
            let left = until.saturating_duration_since(Instant::now());
            if is_over.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
            let seen = look(&dir, &run, ranks);
            // As somebody else would ask; the loop knows that it was nvlaunch itself.
            let _ = kill_process(getpid(), Signal::TERM);
            Some(seen)
        })?;
        Ok(Self { over, thread })
    }

    /// The launch is over; what was seen, where time was up before.
    pub(super) fn end(self) -> Option<Seen> {
        drop(self.over);
        self.thread.join().ok().flatten()
    }
}

fn look(dir: &Path, run: &str, ranks: usize) -> Seen {
    let at = Instant::now();
    let mut found: Vec<Option<Process>> = vec![None; ranks];
    for pid in process::children(getpid().as_raw_nonzero().get()) {
        let of_run = process::environment_variable(pid, env_vars::RUN_ID);
        if of_run.is_none_or(|id| id != run) {
            continue;
        }
        let rank = process::environment_variable(pid, env_vars::RANK);
        let rank = rank.and_then(|rank| rank.to_str()?.parse::<usize>().ok());
        if let Some(place) = rank.and_then(|rank| found.get_mut(rank)) {
            *place = process::look(pid).filter(|process| !process.is_zombie());
        }
    }
    let file = |rank: usize| dir.join(format!("rank-{rank}.stack"));
    let asked: Vec<PathBuf> = found
        .iter()
        .enumerate()
        .filter(|(_, process)| process.as_ref().is_some_and(ask))
        .map(|(rank, _)| file(rank))
        .collect();
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let end = Instant::now() + ANSWER;
    while asked.iter().any(|path| !stack::is_whole(&text(path))) && Instant::now() < end {
        std::thread::sleep(STEP);
    }
    let looks = found.into_iter().enumerate().map(|(rank, process)| {
        let process = process?;
        Some(Look {
            state: process.state,
            waits_in: process::waits_in(process.pid),
            stack: stack::main_thread(&text(&file(rank))),
        })
    });
    Seen { at, looks: looks.collect() }
}

/// Asks a rank for its stack; whether an answer can come.
fn ask(process: &Process) -> bool {
    let signal = Signal::USR2;
    let of = Dispositions::of(&process.pid.to_string()).unwrap_or_default();
    let has_handler = of.caught & (1 << (signal.as_raw() - 1)) != 0;
    let answers = has_handler && !matches!(process.state, 'T' | 't' | 'D');
    answers && process::signal_if_same(process, signal)
}
