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

use std::time::Duration;

use super::event::{Action, Assessment, Decision, Event, Now, Outcome, Policy, ResumePoint};
use crate::diagnose::exit::Exit;

const SIGKILL: i32 = nix::libc::SIGKILL;
const SIGTERM: i32 = nix::libc::SIGTERM;

/// How often leftovers are counted while some are being waited for, besides when one ends.
const SURVEY_EVERY: Duration = Duration::from_millis(20);

/// What the core knows of one rank in the current attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RankRecord {
    /// Process id, once started.
    pub pid: Option<i32>,
    /// When its process was there.
    pub started_at: Option<Now>,
    /// How and when it ended.
    pub ended: Option<(Exit, Now)>,
    /// The first signal it was sent to end it, and when.
    pub told: Option<(i32, Now)>,
    /// When its group was killed while it lived.
    pub killed_at: Option<Now>,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    NotStarted,
    Alive,
    /// Ended, not reaped: its group is being ended.
    Ending {
        /// When the group gets KILL; `None` before anything was found in it.
        kill_at: Option<Now>,
        /// When the group is given up, after KILL.
        give_up_at: Option<Now>,
        /// When to look again.
        look_at: Now,
    },
    /// It did not end after KILL.
    GivenUp,
    Reaped,
}

/// One attempt, as the report needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number, 0 for the first.
    pub number: u32,
    /// When it was started.
    pub began: Now,
    /// The rank that failed first, if one did.
    pub suspect: Option<u32>,
    /// By local rank.
    pub ranks: Vec<RankRecord>,
    /// What it resumed from.
    pub resume: Option<ResumePoint>,
    /// What was found out about its failure, and decided.
    pub decision: Option<(Assessment, Decision)>,
    /// Why every rank's success was none.
    pub unfinished: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
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
    Done,
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
}

impl Supervisor {
    /// A supervisor that has not begun.
    pub fn new(policy: Policy) -> Self {
        let attempt = AttemptRecord::new(0, Now::ZERO, policy.ranks);
        Self {
            policy,
            phase: Phase::Idle,
            attempt,
            past: Vec::new(),
            request: None,
            cannot_start: None,
            deferred: false,
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
        let alive = self.attempt.ranks.iter().any(|rank| rank.life == Life::Alive);
        let phase = match self.phase {
            Phase::Draining { kill_at: at } | Phase::Killing { give_up_at: at } => {
                alive.then_some(at)
            }
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
                    self.launch(now, 0, &mut actions);
                }
            }
            Event::Deferred => self.deferred = self.phase == Phase::Running,
            Event::Spawned { rank, pid } => self.spawned(now, *rank, *pid),
            Event::SpawnFailed { rank, reason } => {
                self.deferred = false;
                self.cannot_start.get_or_insert((*rank, reason.clone(), false));
                self.drain(now, SIGTERM, &mut actions);
            }
            Event::ExecFailed { rank, reason } => {
                self.cannot_start.get_or_insert((*rank, reason.clone(), true));
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
            | Event::Verified { .. }
            | Event::Saved { .. } => {}
            Event::Tick => {
                self.tick(now, &mut actions);
                self.look(now, false, &mut actions);
            }
        }
        self.advance(now, &mut actions);
        actions
    }

    fn launch(&mut self, now: Now, number: u32, actions: &mut Vec<Action>) {
        self.attempt = AttemptRecord::new(number, now, self.policy.ranks);
        self.phase = Phase::Running;
        actions.push(Action::SpawnAll { attempt: number });
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
            Phase::Idle | Phase::Running => self.drain(now, signal, actions),
            // The ranks were told to end already, because one failed; this comes as it came.
            Phase::Draining { .. } if first => self.tell_all(None, signal, actions),
            _ => {}
        }
        self.tick(now, actions);
        self.look(now, false, actions);
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
        if matches!(self.phase, Phase::Idle | Phase::Running) {
            let kill_at = now + self.policy.grace;
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

    fn end_attempt(&mut self, now: Now, left: u32, actions: &mut Vec<Action>) {
        actions.push(Action::CloseAttempt);
        let given_up = |(rank, r): (u32, &RankRecord)| (r.life == Life::GivenUp).then_some(rank);
        let stuck: Vec<u32> = (0u32..).zip(&self.attempt.ranks).filter_map(given_up).collect();
        let outcome = if left > 0 || !stuck.is_empty() {
            Outcome::Stuck { ranks: stuck, leftovers: left }
        } else if let Some((rank, reason, exec)) = self.cannot_start.take() {
            Outcome::CannotStart { rank, reason, exec }
        } else if let Some(rank) = self.attempt.suspect {
            let number = self.attempt.number;
            if number < self.policy.max_restarts && self.request.is_none() {
                self.past.push(self.attempt.clone());
                self.launch(now, number + 1, actions); // C6
                return;
            }
            let exit = self.attempt.ranks[rank as usize].ended.expect("a suspect has ended (C1)").0;
            Outcome::Failed { rank, exit }
        } else {
            match self.request {
                // The job was done before anybody asked: only leftovers were waited for.
                Some(_) if self.is_complete() => Outcome::Completed,
                Some(request) => Outcome::Stopped { signal: request.signal },
                None => Outcome::Completed,
            }
        };
        self.phase = Phase::Done;
        actions.push(Action::Finish { outcome });
    }

    /// Whether every rank ended well without having been told to.
    fn is_complete(&self) -> bool {
        let well =
            |r: &RankRecord| r.told.is_none() && r.ended.is_some_and(|(exit, _)| exit.is_success());
        self.attempt.ranks.iter().all(well)
    }
}

impl AttemptRecord {
    fn new(number: u32, began: Now, ranks: u32) -> Self {
        let ranks = vec![RankRecord::default(); ranks as usize];
        Self { number, began, suspect: None, ranks, resume: None, decision: None, unfinished: None }
    }
}
