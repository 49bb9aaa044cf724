//! The loop around the core: one thread, one epoll, no timer that is not needed (S1).
//!
//! It turns what the kernel says into events, steps the core, writes the step down, and does the
//! actions. The answers to an action reach the core before anything else.
//!
//! The order of exits comes from epoll's ready list: the kernel appends a pidfd when its process
//! ends, so two ranks that end a fraction of a millisecond apart are seen in that order even where
//! nvlaunch itself was not running at the time (`ep_poll_callback` in fs/eventpoll.c). Before Linux
//! 5.3 there are no pidfds; then `SIGCHLD` wakes the loop and ties are broken by local rank.

mod checkpoints;
mod ended;
mod spawn;
mod suspend;
mod warm;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::process::Signal;

use self::checkpoints::Checkpoints;
pub use self::ended::{Asked, Ended, StuckRank};
use super::announce;
use super::core::Supervisor;
use super::event::{Action, Event, Now, Outcome, Policy};
use super::family::{Family, Which};
use super::init_watch::Due;
use super::keeper::Keeper;
use super::mark::{self, RunMark};
use super::meeting::Meeting;
use super::ranks::Ranks;
use super::record::{FORMAT, Header, Step};
use super::roll_call::RollCall;
use super::signals::{Incoming, Signals};
use super::warm_start::{self, WarmStart};
use crate::checkpoint::choose::Look;
use crate::diagnose::error_file::ScriptError;
use crate::diagnose::missing::Account;
use crate::diagnose::oom::OomWatch;
use crate::host::process;
use crate::logs::{AttemptOutput, Logs, RankTail};
use crate::plan::Plan;
use crate::settings::spec::LaunchSpec;

const SIGNALS: u64 = u64::MAX;
const KEEPER: u64 = u64::MAX - 1;
const GATHERING: u64 = u64::MAX - 2;
/// Those of [`warm_start`] follow.
const CHECKPOINTS: u64 = u64::MAX - 7;

/// How often a keeper that was killed is replaced.
const MAX_KEEPERS: u32 = 5;

/// How often the loop wakes while a deadline is coming: as exactly is known how long nvlaunch was
/// stopped by somebody.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the pipes of an attempt are read after its last process ended: nobody holds them any
/// more, but a slow console may still hold what is in them.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// The same where somebody may hold the pipes for ever: daemons that are kept, a rank that is stuck.
const DRAIN_LIMIT_WHERE_HELD: Duration = Duration::from_millis(200);

/// Everything a run needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// What the user wants.
    pub spec: &'a LaunchSpec,
    /// What will be done.
    pub plan: &'a Plan,
    /// What the core decides by.
    pub policy: Policy,
    /// The run's mark.
    pub mark: RunMark,
    /// Where files go, if anywhere.
    pub run_dir: Option<PathBuf>,
    /// The caller's soft limit on open files, where nvlaunch raised its own.
    pub open_files: Option<u64>,
    /// Where the ranks meet.
    pub meeting: Meeting,
    /// Where checkpoints are looked for, if anywhere.
    pub look: Option<Look>,
    /// The kernel's witness of OOM kills.
    pub oom: &'a OomWatch,
    /// Preflight once more before each attempt but the first, where it looks.
    pub recheck: Option<Recheck<'a>>,
}

/// Looks at the machine again; why an attempt may not start on it any more, a clause.
pub struct Recheck<'a>(pub Box<dyn Fn() -> Option<String> + 'a>);

impl fmt::Debug for Recheck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recheck")
    }
}

/// A clock that stands still while the job is suspended.
#[derive(Debug)]
struct Clock {
    began: Instant,
    suspended: Duration,
}

impl Clock {
    fn now(&self) -> Now {
        let passed = self.began.elapsed().saturating_sub(self.suspended);
        // Whole microseconds: that is what the record holds.
        Duration::from_micros(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
struct Runtime<'a> {
    job: Job<'a>,
    logs: &'a mut Logs,
    core: Supervisor,
    clock: Clock,
    epoll: Epoll,
    signals: Signals,
    /// Signals taken while something else was being done.
    backlog: Vec<Incoming>,
    ranks: Ranks,
    family: Family,
    keeper: Option<Keeper>,
    keepers: u32,
    warm: WarmStart,
    /// Who was missing when the attempt began to end.
    missing: Option<Account>,
    error_files: Vec<Option<PathBuf>>,
    /// What the others had said when the first rank of the attempt failed, by local rank.
    others: Vec<(u32, (RankTail, Option<ScriptError>))>,
    output: AttemptOutput,
    asked: Vec<Asked>,
    outcome: Option<Outcome>,
    stuck: Vec<StuckRank>,
    checkpoints: Checkpoints,
    /// The last attempt of which was said what follows from its failure.
    decided: Option<u32>,
    /// How much longer than asked for the last wait took: that long nvlaunch was stopped, where a
    /// `SIGCONT` says that it was.
    overslept: Duration,
}

/// Runs the job to its end.
pub fn run(job: Job<'_>, logs: &mut Logs, signals: Signals) -> io::Result<Ended> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let family = Family::new(job.mark.clone(), job.spec.keep_daemons);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(signals.fd(), EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
    epoll.add(job.meeting.bell(), EpollEvent::new(EpollFlags::EPOLLIN, GATHERING))?;
    let mut runtime = Runtime {
        core: Supervisor::new(job.policy.clone()),
        clock: Clock { began: Instant::now(), suspended: Duration::ZERO },
        epoll,
        signals,
        backlog: Vec::new(),
        // The keeper first: it must not inherit what the shims inherit.
        keeper: None,
        keepers: 0,
        warm: WarmStart::new(&job.plan.warmth, job.policy.clone()),
        family,
        ranks: Ranks::new(job.spec.signal_scope, job.mark.limit, job.open_files)?,
        missing: None,
        error_files: Vec::new(),
        others: Vec::new(),
        output: AttemptOutput::default(),
        asked: Vec::new(),
        outcome: None,
        stuck: Vec::new(),
        checkpoints: Checkpoints::new(job.look.clone()),
        decided: None,
        overslept: Duration::ZERO,
        job,
        logs,
    };
    runtime.write_header();
    runtime.start_keeper();
    if let Some(limit) = runtime.job.mark.limit {
        // So that a process between fork and exec carries the mark already. Where it cannot be set
        // the shims will say so.
        let _ = mark::put_on_self(limit);
    }
    runtime.feed(Event::Start);
    while runtime.outcome.is_none() {
        runtime.wait()?;
    }
    Ok(runtime.into_ended())
}

impl Runtime<'_> {
    fn write_header(&mut self) {
        let header = Header {
            format: FORMAT,
            nvlaunch: env!("CARGO_PKG_VERSION").to_owned(),
            run: self.job.mark.run_id.clone(),
            began: jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(),
            policy: self.job.policy.clone(),
        };
        let mut line = serde_json::to_vec(&header).expect("a header has no foreign text");
        line.push(b'\n');
        self.logs.record(line);
    }

    /// Waits for the kernel or the next deadline, and feeds what came to the core.
    fn wait(&mut self) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.take_signals();
            return Ok(());
        }
        let before = Instant::now();
        let until = |at: Now| at.saturating_sub(self.clock.now());
        let deadline = self.core.next_wake().map(|at| until(at).min(LOOK_EVERY));
        // Nothing depends on the exact time of a look: it costs one wake-up, not one each 50 ms.
        let look = self.job.meeting.next_wake().map(until);
        let warm = self.warm.next_wake().map(until);
        let checkpoints = self.checkpoints.next_wake().map(until);
        let timeout = deadline.into_iter().chain(look).chain(warm).chain(checkpoints).min();
        let mut events = [EpollEvent::empty(); 64];
        let waited = self.epoll.wait(&mut events, epoll_timeout(timeout));
        self.overslept = timeout.map_or(Duration::ZERO, |t| before.elapsed().saturating_sub(t));
        let count = match waited {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if count == 0 || self.overslept > Duration::ZERO {
            // Before any deadline is looked at: nvlaunch may have been stopped, and the SIGCONT
            // that woke it is not among the events where the time ran out meanwhile.
            self.take_signals();
        }
        for event in &events[..count] {
            if self.outcome.is_some() {
                return Ok(());
            }
            match event.data() {
                SIGNALS => self.take_signals(),
                KEEPER => self.replace_keeper(),
                CHECKPOINTS => self.checkpoint_turn(),
                GATHERING => self.job.meeting.gathering_begins(self.clock.now()),
                warm_start::CONTROL
                | warm_start::ENDED
                | warm_start::PRINTED
                | warm_start::CHANNEL => self.warm_turn(),
                rank => self.look_at(u32::try_from(rank).expect("the data of a rank is its rank")),
            }
        }
        if self.outcome.is_none()
            && self.checkpoints.next_wake().is_some_and(|at| at <= self.clock.now())
        {
            self.checkpoint_turn();
        }
        if self.core.next_wake().is_some_and(|at| at <= self.clock.now()) {
            self.feed(Event::Tick);
        }
        if self.outcome.is_none() && self.warm.next_wake().is_some_and(|at| at <= self.clock.now())
        {
            self.warm_turn();
        }
        let now = self.clock.now();
        if self.job.meeting.due(now) == Some(Due::Look) {
            let account = self.roll_call(now).look();
            self.say(account.map(|account| account.said()));
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        let mut came = std::mem::take(&mut self.backlog);
        came.extend(self.signals.take());
        let overslept = std::mem::take(&mut self.overslept);
        if came.contains(&Incoming::Continued) {
            // Somebody stopped nvlaunch alone: no deadline may have come nearer meanwhile. First of
            // all, so that the clock never goes back.
            self.clock.suspended += overslept;
        }
        for incoming in came {
            match incoming {
                Incoming::Event(event) => {
                    if let Event::Asked { signal, from } = event {
                        let name = |pid| process::look(pid).map_or(String::new(), |p| p.name);
                        let from = from.map(|pid| (pid, name(pid)));
                        self.asked.push(Asked { at: self.clock.now(), signal, from });
                        self.keep_who_is_missing(None);
                        // What nvlaunch asks of itself, as at the end of a smoke test, is no news.
                        if self.asked.last().is_none_or(|asked| !asked.is_by_nvlaunch()) {
                            let (times, now) = (self.asked.len(), self.clock.now());
                            self.say(match self.ranks.unreaped()[..] {
                                [] if times == 1 => Some(announce::asked_between(signal)),
                                _ => announce::asked(times, signal, &self.job.policy, now),
                            });
                        }
                    }
                    self.feed(event);
                }
                Incoming::Child => self.child_changed(),
                Incoming::Continued => {}
            }
            if self.outcome.is_some() {
                return;
            }
        }
    }

    fn child_changed(&mut self) {
        for rank in self.ranks.unreaped() {
            // With a pidfd the exit comes through epoll, in order.
            if self.ranks.pidfd(rank).is_none() {
                self.look_at(rank);
            }
        }
        // A forked process that ends before it is a rank is seen by nothing else.
        self.warm_turn();
        if self.outcome.is_none() && self.family.reap() && self.core.next_wake().is_some() {
            self.feed(Event::ChildGone);
        }
    }

    fn look_at(&mut self, rank: u32) {
        let Some(exit) = self.ranks.exit_of(rank) else { return };
        // A terminal or a scheduler may have sent a signal to everybody: then nvlaunch was asked to
        // end, and the rank, whose handler may end it with any code, did not fail. nvlaunch's own
        // copy has come but may not be read yet.
        self.take_signals();
        if self.outcome.is_some() {
            return;
        }
        if let Some(pidfd) = self.ranks.pidfd(rank) {
            // An ended process stays readable; it was seen.
            let _ = self.epoll.delete(pidfd);
        }
        for (rank, error) in self.ranks.exec_failures() {
            self.feed(Event::ExecFailed { rank, reason: error.to_string() });
        }
        self.job.meeting.ended(rank);
        if exit.is_success() {
            let account = self.roll_call(self.clock.now()).after_early_end(rank);
            self.say(account.map(|account| account.said()));
        } else {
            self.keep_who_is_missing(Some(rank));
            self.keep_what_others_said(rank);
        }
        self.feed(Event::Exited { rank, exit });
    }

    fn roll_call(&mut self, now: Now) -> RollCall<'_> {
        let (meeting, attempt) = (&mut self.job.meeting, self.core.attempt());
        RollCall { meeting, logs: self.logs, attempt, now }
    }

    /// The attempt begins to end, by the failure of this rank or because nvlaunch was asked.
    fn keep_who_is_missing(&mut self, failed: Option<u32>) {
        if self.missing.is_none() && self.core.attempt().suspect.is_none() {
            self.missing = self.roll_call(self.clock.now()).before_end(failed);
        }
    }

    /// Steps the core and does what it says, until it has nothing more to say.
    fn feed(&mut self, event: Event) {
        self.feed_all(VecDeque::from([event]));
    }

    fn feed_all(&mut self, mut queue: VecDeque<Event>) {
        while let Some(event) = queue.pop_front() {
            let now = self.clock.now();
            let actions = self.core.step(now, &event);
            tracing::debug!(?now, ?event, ?actions, "step");
            let t_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
            // Ticks and counts that change nothing are not worth a line.
            if !(actions.is_empty() && matches!(event, Event::Tick | Event::ChildGone)) {
                let step = Step { t_us, event, actions: actions.clone() };
                self.logs.record(step.to_line());
            }
            self.say(announce::killed(&actions));
            self.say_what_follows();
            for action in actions {
                self.act(action, &mut queue);
            }
        }
    }

    /// Once for each failure, when it was decided about.
    fn say_what_follows(&mut self) {
        let last = self.core.past().last();
        let attempt = Some(self.core.attempt()).filter(|attempt| attempt.decision.is_some());
        let Some(attempt) = attempt.or(last) else { return };
        if self.decided < Some(attempt.number) {
            let line = announce::restart(attempt);
            self.decided = Some(attempt.number);
            self.say(line);
        }
    }

    fn act(&mut self, action: Action, answers: &mut VecDeque<Event>) {
        match action {
            Action::SpawnAll { attempt } => self.spawn_all(attempt, answers),
            Action::Prepare { attempt } => self.prepare(attempt, answers),
            Action::Assess { rank } => self.assess(rank, answers),
            Action::Verify => self.verify(answers),
            Action::WatchSaves => self.watch_saves(),
            Action::CancelSpawns => self.warm.cancel_spawns(),
            Action::Signal { rank, signal } => {
                let is_notice = !self.signals.is_end(signal) && signal != nix::libc::SIGTERM;
                if !self.ranks.signal(rank, signal, is_notice) && is_notice {
                    self.say(Some(announce::kept_back(rank, signal)));
                }
            }
            Action::Kill { rank } => self.ranks.kill(rank),
            Action::SurveyGroup { rank } => {
                let which = self.ranks.pid(rank).map(Which::OfSession);
                let left = which.map_or(0, |which| self.family.count(which));
                answers.push_back(Event::Group { rank, left });
            }
            Action::EndGroup { rank, signal } => {
                let signal = kill_or_term(signal);
                if let Some(pid) = self.ranks.pid(rank) {
                    // By name first, for the report; then by group, which no fork escapes.
                    self.family.end(Which::OfSession(pid), signal);
                }
                self.ranks.signal_group(rank, signal);
            }
            Action::Reap { rank } => self.ranks.reap(rank),
            Action::Survey => {
                let left = self.family.count(Which::All);
                answers.push_back(Event::Leftovers { left });
            }
            Action::EndLeftovers { signal } => {
                self.family.end(Which::All, kill_or_term(signal));
            }
            Action::CloseAttempt => {
                let is_held = self.job.spec.keep_daemons || !self.ranks.unreaped().is_empty();
                let limit = if is_held { DRAIN_LIMIT_WHERE_HELD } else { DRAIN_LIMIT };
                self.output = self.logs.close_attempt(limit);
                self.job.meeting.end_attempt();
                self.end_watch();
            }
            Action::Suspend => {
                self.suspend();
                answers.push_back(Event::Resume);
            }
            Action::Resume => self.signal_everything(Signal::CONT),
            Action::Finish { outcome } => {
                if let Outcome::Stuck { ranks, .. } = &outcome {
                    self.stuck = ranks.iter().filter_map(|&rank| self.describe(rank)).collect();
                }
                self.outcome = Some(outcome);
            }
        }
    }

    fn say(&self, line: Option<String>) {
        if let Some(line) = line {
            self.logs.say(line.as_bytes());
        }
    }

    fn describe(&self, rank: u32) -> Option<StuckRank> {
        let pid = self.ranks.pid(rank)?;
        let process = process::look(pid)?;
        Some(StuckRank { rank, pid, state: process.state, waits_in: process::waits_in(pid) })
    }

    fn into_ended(mut self) -> Ended {
        self.end_template();
        let saved = self.last_saved();
        if let Some(keeper) = self.keeper.take() {
            if matches!(self.outcome, Some(Outcome::Stuck { .. })) {
                keeper.leave();
            } else {
                keeper.dismiss();
            }
        }
        Ended {
            outcome: self.outcome.expect("the loop ends with an outcome"),
            core: self.core,
            output: self.output,
            error_files: self.error_files,
            leftovers: self.family.ended(),
            asked: self.asked,
            stuck: self.stuck,
            missing: self.missing,
            refusals: self.job.meeting.refusals(),
            took: self.clock.now(),
            warm: self.warm.into_times(),
            saved,
        }
    }
}

/// The core only knows these two for what is left over.
fn kill_or_term(signal: i32) -> Signal {
    if signal == Signal::KILL.as_raw() { Signal::KILL } else { Signal::TERM }
}

/// Rounded up, so that the loop does not wake before the deadline and spin.
fn epoll_timeout(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    let millis = timeout.as_micros().div_ceil(1000);
    EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}
