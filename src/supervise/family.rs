//! What the ranks leave behind: finding it, naming it, ending it (S3, S4).
//!
//! nvlaunch is a child subreaper, so a descendant whose parent ended becomes its own child
//! (prctl(2)). A *stray* is therefore a child of nvlaunch that is neither a rank nor the keeper nor
//! was there before, and everything below one. That is exact while nvlaunch lives: no process can
//! leave the tree. Only where nvlaunch is process 1 of a container do strangers become its
//! children too; there a stray must carry the run's mark.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use serde::Serialize;

use super::mark::RunMark;
use crate::diagnose::secrets::redact;
use crate::host::process::{self, Process};

/// A process that outlived its rank and was ended, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// The local rank whose session it was in; `None` where it had left that.
    pub rank: Option<u32>,
    /// The strongest signal it was sent.
    pub signal: i32,
}

/// Which strays are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// In the group or session of the rank with this process id.
    OfSession(i32),
    /// All that may not outlive the attempt.
    All,
}

/// The strays of a run.
#[derive(Debug)]
pub struct Family {
    me: i32,
    before: Vec<Process>,
    mark: RunMark,
    keep_daemons: bool,
    keeper: Option<i32>,
    template: Option<i32>,
    /// Local rank by process id, of the attempt.
    sessions: HashMap<i32, u32>,
    ended: BTreeMap<(u64, i32), Leftover>,
    /// Whether a stray was reaped since the last count.
    changed: Cell<bool>,
}

impl Family {
    /// Looks at what is there before the first rank.
    pub fn new(mark: RunMark, keep_daemons: bool) -> Self {
        let me = nix::unistd::getpid().as_raw();
        let before = process::children(me).into_iter().filter_map(process::look).collect();
        Self {
            me,
            before,
            mark,
            keep_daemons,
            keeper: None,
            template: None,
            sessions: HashMap::new(),
            ended: BTreeMap::new(),
            changed: Cell::new(false),
        }
    }

    /// The children that are there now.
    pub fn children(&self) -> Vec<Process> {
        process::children(self.me).into_iter().filter_map(process::look).collect()
    }

    /// What nvlaunch itself has started and left behind is no stray.
    pub fn excuse(&mut self, children: impl IntoIterator<Item = Process>) {
        self.before.extend(children);
    }

    /// The keeper is no stray.
    pub fn set_keeper(&mut self, pid: Option<i32>) {
        self.keeper = pid;
    }

    /// The process that warm ranks are forked from is no stray.
    pub fn set_template(&mut self, pid: Option<i32>) {
        self.template = pid;
    }

    /// A new attempt begins; its ranks are to come.
    pub fn begin_attempt(&mut self) {
        self.sessions.clear();
    }

    /// A rank was started.
    pub fn add_rank(&mut self, rank: u32, pid: i32) {
        self.sessions.insert(pid, rank);
    }

    /// Everything that was ended, in the order it had begun.
    pub fn ended(&self) -> Vec<Leftover> {
        self.ended.values().cloned().collect()
    }

    /// Reaps strays that have ended; whether any has since the last count.
    pub fn reap(&self) -> bool {
        self.living();
        self.changed.get()
    }

    /// How many strays live.
    pub fn count(&self, which: Which) -> u32 {
        let strays = self.strays(which);
        self.changed.set(false);
        u32::try_from(strays.len()).unwrap_or(u32::MAX)
    }

    /// Signals the strays and remembers them by name.
    pub fn end(&mut self, which: Which, signal: Signal) {
        for stray in self.strays(which) {
            let command = redact(&process::command_line(&stray));
            if !process::signal_if_same(&stray, signal) {
                continue;
            }
            if matches!(stray.state, 'T' | 't') {
                // A stopped process would not see TERM before it is continued.
                process::signal_if_same(&stray, Signal::CONT);
            }
            let rank = self.sessions.get(&stray.session).copied();
            let leftover = Leftover { pid: stray.pid, command, rank, signal: signal.as_raw() };
            let key = (stray.start_ticks, stray.pid);
            self.ended.entry(key).and_modify(|e| e.signal = signal.as_raw()).or_insert(leftover);
        }
    }

    /// Sends a signal to every stray, without remembering it (stop and continue).
    pub fn signal_all(&self, signal: Signal) {
        for stray in process::with_descendants(self.living()) {
            process::signal_if_same(&stray, signal);
        }
    }

    fn strays(&self, which: Which) -> Vec<Process> {
        let mut all = process::with_descendants(self.living());
        all.retain(|p| !p.is_zombie());
        match which {
            Which::OfSession(pid) => all.retain(|p| p.session == pid || p.group == pid),
            Which::All if self.keep_daemons => {
                all.retain(|p| self.sessions.contains_key(&p.session));
            }
            Which::All => {}
        }
        all
    }

    /// Living children of nvlaunch that are strays; those that have ended are reaped.
    ///
    /// "None" is believed only when two looks in a row say so: the kernel's list may miss a child
    /// while another one ends. The first look is the cheap one, at the main thread's list: orphans
    /// go to the first living thread of their reaper (`find_new_reaper` in kernel/exit.c). The
    /// second looks at every thread's.
    fn living(&self) -> Vec<i32> {
        let found = self.take_strays(process::children_of_main_thread(self.me));
        if found.is_empty() { self.take_strays(process::children(self.me)) } else { found }
    }

    /// Those of `children` that are strays and live; reaps the strays that have ended.
    fn take_strays(&self, children: Vec<i32>) -> Vec<i32> {
        let is_known = |pid: &i32| {
            [self.keeper, self.template].contains(&Some(*pid)) || self.sessions.contains_key(pid)
        };
        let unknown = children.into_iter().filter(|pid| !is_known(pid));
        let strays = unknown.filter_map(process::look).filter(|p| self.is_ours(p));
        let (ended, living): (Vec<_>, Vec<_>) = strays.partition(Process::is_zombie);
        if ended.iter().filter(|stray| reap(stray.pid)).count() > 0 {
            self.changed.set(true);
        }
        living.iter().map(|stray| stray.pid).collect()
    }

    fn is_ours(&self, process: &Process) -> bool {
        let was_there = |b: &Process| b.pid == process.pid && b.start_ticks == process.start_ticks;
        if self.before.iter().any(was_there) {
            return false;
        }
        self.me != 1 || process.is_zombie() || self.mark.is_on(process.pid)
    }
}

/// Reaps a child that has ended; whether it had.
pub fn reap(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}
