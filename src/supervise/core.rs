//! Decides what a launch does next. Pure: events and the time in, actions out.
//!
//! It never asks the machine anything and never waits; the loop around it
//! ([`super::runtime`]) does what it says and tells it what came of it.
//!
//! The invariants, checked after every action by the simulation in `tests/sim`:
//!
//! - C1: the first rank whose exit is reported as a failure is the suspect, whatever ends
//!   afterwards (S6).
//! - C2: a rank is signalled only between its start and its reaping: a recycled id is never hit.
//! - C3: an ended rank is reaped once, and only after the rest of its group was ended: KILL after
//!   a failure; TERM, the grace, KILL after a clean exit (S3).
//! - C4: KILL comes when the grace is over, and not before unless the user asked three times. The
//!   grace is the same whoever began the end.
//! - C5: every wait has an end, the one after KILL too (S5).
//! - C6: an attempt starts only when nothing of the one before is left.
//! - C7: nothing happens after [`Action::Finish`].
//! - C8: ranks that were deferred come while the attempt runs, or never: what ends the attempt
//!   cancels them first.
//! - C9: where attempts are prepared, each resumes from exactly what its own preparation found; one
//!   that is refused, or whose preparation does not answer, is never started.
//! - C10: a restart follows only a failure that was decided about ([`super::restart`]), nobody having
//!   asked for an end, and only when its wait is over.
//! - C11: an answer that nobody waits for any more changes nothing.
//! - C12: a request that comes while no rank is there ends the run at once: as the failure it was
//!   where no restart was decided yet, as a success where only the success was looked at, and as a
//!   stop otherwise. A preemption leaves a success to be looked at, until it is asked for again.
//! - C13: a preemption leaves the ranks the time to save: KILL comes before its grace is over only
//!   where a new whole checkpoint is there, or the user asked again. What the ranks left behind has
//!   an ordinary request's grace from the end of the last rank. An end that the scheduler
//!   announced shortens it, never below an ordinary request's.
//! - C14: a preemption is one whatever failed beside it: the failure is told, and the outcome is the
//!   preemption's; only what could not be started or ended is worse. The same holds for a success
//!   that is none, because the ranks may have been asked first, and have ended with 0.

mod between;
mod record;

use std::time::Duration;

use self::record::Life;
pub use self::record::{AttemptRecord, RankRecord};
use super::event::{Action, Event, Now, Policy, ResumePoint};
use super::restart::Budget;
use crate::diagnose::exit::Exit;

const SIGKILL: i32 = nix::libc::SIGKILL;
const SIGTERM: i32 = nix::libc::SIGTERM;

/// How often leftovers are counted while some are being waited for, besides when one ends.
const SURVEY_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// What this attempt resumes from is being found out.
    Preparing {
        number: u32,
        give_up_at: Now,
    },
    Running,
    /// The ranks were told to end.
    Draining {
        kill_at: Now,
    },
    /// The ranks were killed.
    Killing {
        give_up_at: Now,
    },
    /// No rank is left; what they left behind is ended.
    Sweeping {
        kill_at: Now,
        give_up_at: Option<Now>,
        look_at: Now,
        told: bool,
    },
    /// The failure is being looked into.
    Assessing {
        give_up_at: Now,
    },
    /// The success is being looked into.
    Verifying {
        give_up_at: Now,
    },
    /// A restart was decided.
    Waiting {
        until: Now,
    },
    Done,
}

impl Phase {
    /// Whether no rank can be there, and no attempt is on.
    fn is_between(self) -> bool {
        matches!(
            self,
            Self::Preparing { .. }
                | Self::Assessing { .. }
                | Self::Verifying { .. }
                | Self::Waiting { .. }
        )
    }
}

/// A request to end, and how often it was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    signal: i32,
    times: u32,
}

/// The supervisor's core.
#[derive(Debug, Clone)]
pub struct Supervisor {
    policy: Policy,
    phase: Phase,
    attempt: AttemptRecord,
    past: Vec<AttemptRecord>,
    request: Option<Request>,
    cannot_start: Option<(u32, String, bool)>,
    /// Whether the ranks of the attempt are still to come.
    deferred: bool,
    /// What earlier failures leave of the restarts.
    budget: Budget,
    /// Whether new checkpoints are watched for.
    watches: bool,
    /// The newest that appeared.
    saved: Option<ResumePoint>,
}

impl Supervisor {
    /// A supervisor that has not begun.
    pub fn new(policy: Policy) -> Self {
        let attempt = AttemptRecord::new(0, Now::ZERO, policy.ranks, None);
        Self {
            policy,
            phase: Phase::Idle,
            attempt,
            past: Vec::new(),
            request: None,
            cannot_start: None,
            deferred: false,
            budget: Budget::default(),
            watches: false,
            saved: None,
        }
    }

    /// The current attempt (the last one, after the end).
    pub fn attempt(&self) -> &AttemptRecord {
        &self.attempt
    }

    /// The attempts before it.
    pub fn past(&self) -> &[AttemptRecord] {
        &self.past
    }

    /// When [`Event::Tick`] is due; `None` while nothing is being waited for.
    pub fn next_wake(&self) -> Option<Now> {
        let alive = self.attempt.has_alive();
        let phase = match self.phase {
            Phase::Draining { kill_at: at } | Phase::Killing { give_up_at: at } => {
                alive.then_some(at)
            }
            Phase::Preparing { give_up_at: at, .. }
            | Phase::Assessing { give_up_at: at }
            | Phase::Verifying { give_up_at: at }
            | Phase::Waiting { until: at } => Some(at),
            Phase::Idle | Phase::Running | Phase::Done => None,
            Phase::Sweeping { kill_at, give_up_at, look_at, .. } => {
                Some(give_up_at.unwrap_or(kill_at).min(look_at))
            }
        };
        let groups = self.attempt.ranks.iter().filter_map(|rank| match rank.life {
            Life::Ending { look_at, .. } => Some(look_at),
            _ => None,
        });
        groups.chain(phase).min()
    }

    /// Takes one event and says what to do about it.
    #[must_use]
    pub fn step(&mut self, now: Now, event: &Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Done {
            return actions; // C7
        }
        match event {
            Event::Start => {
                if self.phase == Phase::Idle {
                    self.prepare(now, 0, &mut actions);
                }
            }
            Event::Deferred => self.deferred = self.phase == Phase::Running,
            Event::Spawned { rank, pid } => self.spawned(now, *rank, *pid),
            Event::SpawnFailed { rank, reason } => {
                self.deferred = false;
                self.cannot_start(*rank, reason, false);
                self.drain(now, SIGTERM, &mut actions);
            }
            Event::ExecFailed { rank, reason } => {
                self.cannot_start(*rank, reason, true);
            }
            Event::Exited { rank, exit } => self.exited(now, *rank, *exit, &mut actions),
            Event::Group { rank, left } => self.group(now, *rank, *left, &mut actions),
            Event::Leftovers { left } => self.leftovers(now, *left, &mut actions),
            Event::Asked { signal, .. } => self.asked(now, *signal, &mut actions),
            Event::Passed { signal } => {
                if matches!(self.phase, Phase::Running | Phase::Draining { .. }) {
                    self.tell_all(None, *signal, &mut actions);
                }
            }
            Event::Suspend => actions.push(Action::Suspend),
            Event::Resume => actions.push(Action::Resume),
            Event::ChildGone => self.look(now, true, &mut actions),
            Event::Prepared { .. }
            | Event::Refused { .. }
            | Event::Assessed { .. }
            | Event::Verified { .. } => self.answered(now, event, &mut actions),
            Event::Saved { point } => self.saved(now, point, &mut actions),
            Event::Tick => {
                self.tick(now, &mut actions);
                self.give_up_waiting(now, &mut actions);
                self.look(now, false, &mut actions);
            }
        }
        self.advance(now, &mut actions);
        actions
    }

    fn cannot_start(&mut self, rank: u32, reason: &str, exec: bool) {
        // Told while no attempt is on, it is about one that is over.
        if !self.phase.is_between() {
            self.cannot_start.get_or_insert((rank, reason.to_owned(), exec));
        }
    }

    fn spawned(&mut self, now: Now, rank: u32, pid: i32) {
        self.deferred = false;
        if self.phase != Phase::Running {
            return; // C8
        }
        if let Some(record) = self.attempt.ranks.get_mut(rank as usize)
            && record.life == Life::NotStarted
        {
            record.pid = Some(pid);
            record.started_at = Some(now);
            record.life = Life::Alive;
        }
    }

    fn exited(&mut self, now: Now, rank: u32, exit: Exit, actions: &mut Vec<Action>) {
        let Some(record) = self.attempt.ranks.get_mut(rank as usize) else { return };
        if !matches!(record.life, Life::Alive | Life::GivenUp) {
            return;
        }
        record.ended = Some((exit, now));
        if exit.is_success() && record.life == Life::Alive {
            record.life = Life::Ending { kill_at: None, give_up_at: None, look_at: now };
            actions.push(Action::SurveyGroup { rank });
        } else {
            record.life = Life::Reaped;
            actions.push(Action::EndGroup { rank, signal: SIGKILL });
            actions.push(Action::Reap { rank });
        }
        // A rank that was told to end may end as it likes: that is no failure of its own.
        if self.phase == Phase::Running && !exit.is_success() {
            self.attempt.suspect = Some(rank);
            self.drain(now, SIGTERM, actions);
        }
    }

    /// What is left of an ended rank's group was counted.
    fn group(&mut self, now: Now, rank: u32, left: u32, actions: &mut Vec<Action>) {
        let end = self.drain_end();
        let Some(record) = self.attempt.ranks.get_mut(rank as usize) else { return };
        let Life::Ending { kill_at, give_up_at, .. } = record.life else { return };
        let look_at = now + SURVEY_EVERY;
        match (kill_at, give_up_at) {
            _ if left == 0 => {
                record.life = Life::Reaped;
                actions.push(Action::Reap { rank });
            }
            (None, _) => {
                // The rest of a draining job has no longer than its ranks have.
                let kill_at = end.unwrap_or(now + self.policy.grace);
                record.life = Life::Ending { kill_at: Some(kill_at), give_up_at: None, look_at };
                actions.push(Action::EndGroup { rank, signal: SIGTERM });
            }
            (Some(at), None) if now >= at => {
                let give_up_at = Some(now + self.policy.reap_limit);
                record.life = Life::Ending { kill_at, give_up_at, look_at };
                actions.push(Action::EndGroup { rank, signal: SIGKILL });
            }
            // The kernel does not give them back; the sweep will name them.
            (_, Some(at)) if now >= at => {
                record.life = Life::Reaped;
                actions.push(Action::Reap { rank });
            }
            _ => record.life = Life::Ending { kill_at, give_up_at, look_at },
        }
    }

    /// What the attempt left behind was counted.
    fn leftovers(&mut self, now: Now, left: u32, actions: &mut Vec<Action>) {
        let Phase::Sweeping { kill_at, give_up_at, told, .. } = self.phase else { return };
        let look_at = now + SURVEY_EVERY;
        if left == 0 {
            self.end_attempt(now, 0, actions);
        } else if let Some(at) = give_up_at {
            if now >= at {
                self.end_attempt(now, left, actions);
            } else {
                // KILL again: a process may have forked between the count and the signal.
                self.phase = Phase::Sweeping { kill_at, give_up_at, look_at, told };
                actions.push(Action::EndLeftovers { signal: SIGKILL });
            }
        } else if now >= kill_at {
            let give_up_at = Some(now + self.policy.reap_limit);
            self.phase = Phase::Sweeping { kill_at, give_up_at, look_at: now, told: true };
            actions.push(Action::EndLeftovers { signal: SIGKILL });
            actions.push(Action::Survey);
        } else {
            self.phase = Phase::Sweeping { kill_at, give_up_at, look_at, told: true };
            if !told {
                actions.push(Action::EndLeftovers { signal: SIGTERM });
            }
        }
    }

    fn asked(&mut self, now: Now, signal: i32, actions: &mut Vec<Action>) {
        let first = self.request.is_none();
        let request = self.request.get_or_insert(Request { signal, times: 0 });
        request.times += 1;
        match request.times {
            1 => {}
            2 => self.hurry(now + self.policy.hurried_grace),
            _ => self.hurry(now),
        }
        match self.phase {
            Phase::Running if self.is_preemption(signal) => self.preempt(now, signal, actions),
            Phase::Idle | Phase::Running => self.drain(now, signal, actions),
            // The ranks were told to end already, because one failed; this comes as it came.
            Phase::Draining { kill_at } if first => {
                self.preempt_failed(now, kill_at, signal, actions);
                self.tell_all(None, signal, actions);
            }
            _ => self.asked_between(actions),
        }
        self.tick(now, actions);
        self.look(now, false, actions);
    }

    /// Whether this signal says that the machine is taken away.
    fn is_preemption(&self, signal: i32) -> bool {
        self.policy.preemption.as_ref().is_some_and(|policy| policy.signals.contains(&signal))
    }

    /// The machine is taken away: the ranks get the time to save (C13).
    fn preempt(&mut self, now: Now, signal: i32, actions: &mut Vec<Action>) {
        let Some(time) = self.policy.time_to_save(now) else { return };
        self.watch(actions);
        self.drain_until(now, now + time, signal, actions);
    }

    /// The same while the ranks that are left end because one failed, most often of the same cause.
    fn preempt_failed(&mut self, now: Now, kill_at: Now, signal: i32, actions: &mut Vec<Action>) {
        let can_save = self.cannot_start.is_none() && self.attempt.has_alive();
        let time = self.policy.time_to_save(now).filter(|_| self.is_preemption(signal) && can_save);
        if let Some(time) = time {
            self.watch(actions);
            self.phase = Phase::Draining { kill_at: kill_at.max(now + time) };
        }
    }

    /// Before the ranks hear of a preemption: what they save from then on counts.
    fn watch(&mut self, actions: &mut Vec<Action>) {
        if self.attempt.has_alive() {
            self.watches = true;
            actions.push(Action::WatchSaves);
        }
    }

    /// A new whole checkpoint appeared: what is left has nothing more to do.
    fn saved(&mut self, now: Now, point: &ResumePoint, actions: &mut Vec<Action>) {
        if !self.watches {
            return;
        }
        let first = self.saved.is_none();
        if self.saved.as_ref().is_none_or(|saved| saved.number <= point.number) {
            self.saved = Some(point.clone());
        }
        if first && matches!(self.phase, Phase::Draining { .. }) {
            self.hurry(now + self.policy.hurried_grace);
            if self.request.is_some_and(|request| request.signal != SIGTERM) {
                self.tell_all(Some(now), SIGTERM, actions);
            }
        }
    }

    /// No one gets longer than until `end`.
    fn hurry(&mut self, end: Now) {
        match &mut self.phase {
            Phase::Draining { kill_at } | Phase::Sweeping { kill_at, give_up_at: None, .. } => {
                *kill_at = end.min(*kill_at);
            }
            _ => {}
        }
        if let Phase::Sweeping { kill_at, look_at, .. } = &mut self.phase {
            *look_at = (*kill_at).min(*look_at);
        }
        for rank in &mut self.attempt.ranks {
            if let Life::Ending { kill_at: Some(kill_at), give_up_at: None, look_at } =
                &mut rank.life
            {
                *kill_at = end.min(*kill_at);
                *look_at = (*kill_at).min(*look_at);
            }
        }
    }

    /// Tells every living rank to end; the grace begins.
    fn drain(&mut self, now: Now, signal: i32, actions: &mut Vec<Action>) {
        self.drain_until(now, now + self.policy.grace, signal, actions);
    }

    fn drain_until(&mut self, now: Now, kill_at: Now, signal: i32, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Idle | Phase::Running) {
            self.phase = Phase::Draining { kill_at };
            // What clean ranks left behind has no longer than the ranks that still live.
            self.hurry(kill_at);
            if std::mem::take(&mut self.deferred) {
                actions.push(Action::CancelSpawns); // C8
            }
            self.tell_all(Some(now), signal, actions);
        }
    }

    /// Signals every living rank; `told_at` is set where the signal asks it to end.
    fn tell_all(&mut self, told_at: Option<Now>, signal: i32, actions: &mut Vec<Action>) {
        for (rank, record) in (0u32..).zip(&mut self.attempt.ranks) {
            if record.life == Life::Alive {
                if let Some(now) = told_at {
                    record.told.get_or_insert((signal, now));
                }
                actions.push(Action::Signal { rank, signal });
            }
        }
    }

    /// When the ranks of a draining job are killed.
    fn drain_end(&self) -> Option<Now> {
        match self.phase {
            Phase::Draining { kill_at } => Some(kill_at),
            Phase::Killing { .. } => Some(Now::ZERO),
            _ => None,
        }
    }

    fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Draining { kill_at } if now >= kill_at => {
                self.phase = Phase::Killing { give_up_at: now + self.policy.reap_limit };
                for (rank, record) in (0u32..).zip(&mut self.attempt.ranks) {
                    if record.life == Life::Alive {
                        record.killed_at = Some(now);
                        actions.push(Action::Kill { rank });
                    }
                }
            }
            Phase::Killing { give_up_at } if now >= give_up_at => {
                // The kernel will not give these back; holding the job helps nobody (S5).
                for record in &mut self.attempt.ranks {
                    if record.life == Life::Alive {
                        record.life = Life::GivenUp;
                    }
                }
            }
            _ => {}
        }
    }

    /// Counts again what is being waited for, where that is due or something ended.
    fn look(&mut self, now: Now, ended: bool, actions: &mut Vec<Action>) {
        for (rank, record) in (0u32..).zip(&mut self.attempt.ranks) {
            if let Life::Ending { look_at, .. } = &mut record.life
                && (ended || now >= *look_at)
            {
                *look_at = now + SURVEY_EVERY;
                actions.push(Action::SurveyGroup { rank });
            }
        }
        if let Phase::Sweeping { look_at, kill_at, give_up_at, .. } = &mut self.phase
            && (ended || now >= *look_at || now >= give_up_at.unwrap_or(*kill_at))
        {
            *look_at = now + SURVEY_EVERY;
            actions.push(Action::Survey);
        }
    }

    /// Goes on to the sweep once no rank of the attempt is left.
    fn advance(&mut self, now: Now, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Draining { .. }) && !self.attempt.has_alive() {
            // Nobody is there that could save: what is left has no longer than after another end.
            self.hurry(now + self.policy.grace); // C13
        }
        let left = |r: &RankRecord| matches!(r.life, Life::Alive | Life::Ending { .. });
        let kill_at = match self.phase {
            Phase::Running if self.attempt.ranks.iter().all(|r| r.life == Life::Reaped) => {
                now + self.policy.grace
            }
            Phase::Draining { .. } | Phase::Killing { .. }
                if self.attempt.ranks.iter().any(left) =>
            {
                return;
            }
            Phase::Draining { kill_at } if self.is_clean() => kill_at,
            Phase::Draining { .. } | Phase::Killing { .. } => now,
            _ => return,
        };
        self.phase =
            Phase::Sweeping { kill_at, give_up_at: None, look_at: now + SURVEY_EVERY, told: false };
        actions.push(Action::Survey);
    }

    /// Whether no rank of the attempt ended in a way that calls for KILL.
    fn is_clean(&self) -> bool {
        self.cannot_start.is_none()
            && self.attempt.ranks.iter().all(|r| r.ended.is_none_or(|(exit, _)| exit.is_success()))
    }
}
