//! What must hold, kept apart from how the core does it.
//!
//! Here stands what concerns the ranks of an attempt; `protocol` says what has to come between two.

mod protocol;

use std::time::Duration;

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::AttemptRecord;
use nvlaunch::supervise::event::{Action, Event, Outcome, Policy, ResumePoint};

use self::protocol::{Ended, Protocol};
use crate::scenario::{KILL, TERM, USR1};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    None,
    Alive,
    Ended(Exit),
    Reaped(Exit),
}

#[derive(Debug, Clone, Default)]
struct Rank {
    life: Life,
    /// When it was first told to end.
    told: Option<Duration>,
    /// Whether it was told by TERM.
    term: bool,
    killed: bool,
    /// When its group was first told, and whether it was killed.
    group_told: Option<Duration>,
    group_killed: Option<Duration>,
    group_left: Option<u32>,
}

/// Watches events and actions of one run.
#[derive(Debug)]
pub struct Oracle {
    policy: Policy,
    protocol: Protocol,
    ranks: Vec<Rank>,
    attempts: u32,
    /// Requests to end: when, and by which signal.
    asks: Vec<(Duration, i32)>,
    /// First moment of this attempt at which its end was known to be due.
    due: Option<Duration>,
    /// Whether a preemption is that end, and which checkpoint came after it, when.
    preempts: bool,
    preempted_at: Duration,
    watched: bool,
    saved: Option<(Duration, ResumePoint)>,
    /// When the last rank of an attempt that ends was gone.
    gone: Option<Duration>,
    suspect: Option<(u32, Exit)>,
    cannot_start: bool,
    leftovers: Option<u32>,
    leftovers_told: Option<Duration>,
    leftovers_killed: bool,
    closed: bool,
    /// Ranks that were deferred are still to come.
    deferred: bool,
    /// The event is a notice: it is passed on, nobody is told to end.
    notice: bool,
    outcome: Option<Outcome>,
}

impl Oracle {
    pub fn new(policy: Policy) -> Self {
        let ranks = vec![Rank::default(); policy.ranks as usize];
        Self {
            protocol: Protocol::new(policy.clone()),
            policy,
            ranks,
            attempts: 0,
            asks: Vec::new(),
            due: None,
            preempts: false,
            preempted_at: Duration::ZERO,
            watched: false,
            saved: None,
            gone: None,
            suspect: None,
            cannot_start: false,
            leftovers: None,
            leftovers_told: None,
            leftovers_killed: false,
            closed: true,
            deferred: false,
            notice: false,
            outcome: None,
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn marks(&self) -> Vec<(&'static str, bool)> {
        let mut marks = self.protocol.marks();
        marks.push(("saved after the request", self.saved.is_some()));
        marks
    }

    pub fn sees_event(&mut self, now: Duration, event: &Event) {
        if self.outcome.is_some() {
            return;
        }
        self.notice = matches!(event, Event::Passed { .. });
        let closed = self.closed;
        match event {
            Event::Deferred => self.deferred = true,
            Event::Spawned { rank, .. } => {
                self.deferred = false;
                self.ranks[*rank as usize].life = Life::Alive;
            }
            Event::SpawnFailed { .. } => {
                self.deferred = false;
                self.cannot_start = true;
                self.due.get_or_insert(now);
            }
            Event::ExecFailed { .. } => self.cannot_start = true,
            Event::Exited { rank, exit } => {
                self.ranks[*rank as usize].life = Life::Ended(*exit);
                if !exit.is_success() && self.due.is_none() {
                    self.suspect = Some((*rank, *exit)); // C1
                    self.due = Some(now);
                }
            }
            Event::Group { rank, left } => self.ranks[*rank as usize].group_left = Some(*left),
            Event::Leftovers { left } => self.leftovers = Some(*left),
            Event::Asked { signal, .. } => {
                let of_all = self.policy.preemption.as_ref();
                let takes_away = of_all.is_some_and(|policy| policy.signals.contains(signal));
                let runs = self.ranks.iter().any(|rank| rank.life != Life::None) || self.deferred;
                let ended = |rank: &Rank| matches!(rank.life, Life::Reaped(_));
                let sweeps = self.ranks.iter().all(ended);
                let plain = runs && !sweeps && self.due.is_none();
                let begins = takes_away && !closed && self.asks.is_empty();
                if begins && (plain || self.can_still_save(now)) {
                    self.preempts = true;
                    self.preempted_at = now;
                }
                self.asks.push((now, *signal));
                if !closed {
                    self.due.get_or_insert(now);
                }
            }
            Event::Saved { point } if self.watched && !closed => {
                let newer = |saved: &(Duration, ResumePoint)| saved.1.number <= point.number;
                match &mut self.saved {
                    None => self.saved = Some((now, point.clone())),
                    Some(saved) if newer(saved) => saved.1 = point.clone(),
                    Some(_) => {}
                }
            }
            _ => {}
        }
        self.protocol.sees_event(now, event);
    }

    /// When KILL is due for what the end of this attempt concerns.
    fn end_of_grace(&self) -> Option<Duration> {
        let due = self.due?;
        let mut end = due + self.policy.grace;
        if let Some(policy) = self.policy.preemption.as_ref().filter(|_| self.preempts) {
            // What a failure before it left of its own grace is never taken away.
            let (at, least) = (self.preempted_at, if self.preempted_at > due { end } else { due });
            end = at + policy.grace.max(self.policy.hurried_grace);
            // An end that has passed is none, and no preemption has less than another request.
            let announced = policy.ends_at.filter(|ends_at| *ends_at > at);
            end = end.min(announced.map_or(end, |ends_at| ends_at.max(at + self.policy.grace)));
            end = end.max(least);
            if let Some((at, _)) = &self.saved {
                end = end.min(*at + self.policy.hurried_grace);
            }
            // Nobody is there any more that could save.
            end = self.gone.map_or(end, |gone| end.min(gone + self.policy.grace));
        }
        if let Some((second, _)) = self.asks.get(1) {
            end = end.min(*second + self.policy.hurried_grace);
        }
        Some(self.asks.get(2).map_or(end, |(third, _)| end.min(*third)))
    }

    /// Whether ranks that end because another one failed can save where the machine is taken away.
    fn can_still_save(&self, now: Duration) -> bool {
        let killed = self.ranks.iter().any(|rank| rank.killed);
        let alive = self.ranks.iter().any(|rank| rank.life == Life::Alive);
        let failed = self.suspect.is_some() && !self.cannot_start;
        failed && alive && !killed && self.end_of_grace().is_some_and(|end| now <= end)
    }

    /// Whether KILL may be sent to groups and leftovers that were told at `told`.
    fn may_kill(&self, told: Option<Duration>, now: Duration) -> bool {
        let hurried = self.asks.get(1).map(|&(second, _)| second + self.policy.hurried_grace);
        let before = |told: &Duration| self.due.is_none_or(|due| *told <= due);
        // What was told before a preemption keeps the failure's end: it saves nothing.
        let of_failure =
            self.preempts && self.due.is_some_and(|due| now >= due + self.policy.grace);
        self.asks.len() >= 3
            || of_failure
            || hurried.is_some_and(|at| now >= at)
            || told.filter(before).is_some_and(|told| now >= told + self.policy.grace)
            || self.end_of_grace().is_some_and(|end| now >= end)
    }

    pub fn sees_action(&mut self, now: Duration, action: &Action) -> Result<(), String> {
        let check = |ok: bool, rule: &str| if ok { Ok(()) } else { Err(rule.to_owned()) };
        check(self.outcome.is_none(), "C7: something after the end")?;
        self.check_time(now)?;
        self.protocol.before_action(now);
        match action {
            Action::SpawnAll { attempt } => {
                self.check_nothing_is_left(*attempt)?;
                self.protocol.sees_spawn(now)?;
                self.attempts += 1;
                let protocol = self.protocol.clone();
                *self = Self {
                    attempts: self.attempts,
                    closed: false,
                    protocol,
                    ..Self::new(self.policy.clone())
                };
            }
            Action::Prepare { attempt } => {
                self.check_nothing_is_left(*attempt)?;
                self.protocol.sees_prepare(now)?;
            }
            Action::Assess { rank } => {
                check(*rank == self.suspect.map(|(rank, _)| rank), "another failure assessed")?;
                self.protocol.sees_assess(now)?;
            }
            Action::Verify => self.protocol.sees_verify(now)?,
            Action::WatchSaves => {
                let first = self.asks.len() == 1 && !self.watched;
                check(self.preempts && first, "C13: watched without a preemption")?;
                let told = |rank: &Rank| rank.told.is_some_and(|at| at >= self.preempted_at);
                let failed_before = self.due < Some(now);
                let untold = failed_before || !self.ranks.iter().any(told);
                check(untold, "C13: watched after the ranks were told")?;
                self.watched = true;
            }
            Action::Signal { rank, signal } => self.sees_signal(now, *rank, *signal)?,
            Action::Kill { rank } => {
                let told = self.ranks[*rank as usize].told;
                check(told.is_some(), "C4: killed before it was told")?;
                check(
                    self.end_of_grace().is_some_and(|end| now >= end),
                    "C4: killed within its grace",
                )?;
                let rank = &mut self.ranks[*rank as usize];
                check(rank.life == Life::Alive, "C2: KILL to a rank that is not alive")?;
                rank.killed = true;
            }
            Action::SurveyGroup { rank } => {
                let ended = matches!(self.ranks[*rank as usize].life, Life::Ended(_));
                check(ended, "C3: a survey of a group without an unreaped leader")?;
            }
            Action::EndGroup { rank, signal } => self.sees_end_group(now, *rank, *signal)?,
            Action::Reap { rank } => {
                let rank = &mut self.ranks[*rank as usize];
                let Life::Ended(exit) = rank.life else {
                    return Err("C3: reaped twice or before its end".to_owned());
                };
                let gone = rank.group_left == Some(0);
                let killed = rank.group_killed.is_some() && !exit.is_success() || rank.killed;
                let waited = rank.group_killed.is_some_and(|at| now >= at + self.policy.reap_limit);
                check(gone || killed || waited, "C3: reaped before its group was ended")?;
                rank.life = Life::Reaped(exit);
            }
            Action::EndLeftovers { signal } => {
                let none = |rank: &Rank| !matches!(rank.life, Life::Ended(_));
                check(self.ranks.iter().all(none), "leftovers ended before their ranks")?;
                if *signal == KILL {
                    let clean = self.suspect.is_none() && !self.cannot_start && self.all_clean();
                    let may = !clean || self.may_kill(self.leftovers_told, now);
                    check(may, "C4: leftovers of a clean end killed at once")?;
                    self.leftovers_killed = true;
                } else {
                    check(*signal == TERM, "leftovers get TERM or KILL")?;
                    check(self.leftovers_told.is_none(), "leftovers told twice")?;
                    self.leftovers_told = Some(now);
                }
            }
            Action::CloseAttempt => {
                check(!self.closed, "an attempt closed twice")?;
                self.closed = true;
                let ended = self.ended()?;
                self.protocol.closed(ended, self.saved.as_ref().map(|(_, point)| point.clone()));
            }
            Action::Finish { outcome } => {
                check(self.closed, "an attempt was not closed")?;
                self.protocol.sees_finish(outcome)?;
                self.outcome = Some(outcome.clone());
            }
            Action::CancelSpawns => {
                check(self.deferred, "C8: nothing is deferred that could be cancelled")?;
                check(self.due.is_some(), "C8: cancelled without a cause")?;
                self.deferred = false;
            }
            Action::Survey => check(!self.deferred, "C8: over while ranks are still to come")?,
            Action::Suspend | Action::Resume => {}
        }
        Ok(())
    }

    fn sees_signal(&mut self, now: Duration, rank: u32, signal: i32) -> Result<(), String> {
        let check = |ok: bool, rule: &str| if ok { Ok(()) } else { Err(rule.to_owned()) };
        let asked = self.asks.first().map(|&(_, signal)| signal);
        let failed = self.suspect.is_some() || self.cannot_start;
        let own = asked.is_none() || failed || self.saved.is_some();
        let right = asked == Some(signal) || signal == TERM && own;
        let rank = &mut self.ranks[rank as usize];
        check(rank.life == Life::Alive, "C2: signal to a rank that is not alive")?;
        if self.notice {
            return check(signal == USR1, "another notice");
        }
        check(self.due.is_some(), "told to end without a cause")?;
        check(right, "told to end by another signal")?;
        rank.told.get_or_insert(now);
        rank.term |= signal == TERM;
        Ok(())
    }

    /// C6, before the first attempt and between two.
    fn check_nothing_is_left(&self, attempt: u32) -> Result<(), String> {
        let check = |ok: bool, rule: &str| if ok { Ok(()) } else { Err(rule.to_owned()) };
        check(attempt == self.attempts, "attempts are not counted up")?;
        let gone = |rank: &Rank| matches!(rank.life, Life::Reaped(_) | Life::None);
        check(self.ranks.iter().all(gone), "C6: a rank of the last attempt is left")?;
        check(attempt == 0 || self.leftovers == Some(0), "C6: leftovers of the last attempt")?;
        check(self.asks.is_empty(), "a restart though the user asked to end")?;
        check(!self.cannot_start, "a restart of what cannot start")?;
        check(self.closed, "the last attempt was not closed")
    }

    /// What must hold when a step is over.
    pub fn sees_rest(&mut self, now: Duration, record: &AttemptRecord) -> Result<(), String> {
        let alive = || self.ranks.iter().filter(|rank| rank.life == Life::Alive);
        if self.due.is_some() && !self.closed {
            if alive().next().is_none() {
                self.gone.get_or_insert(now);
            }
            self.check_what_is_left(now)?;
            if alive().any(|rank| rank.told.is_none()) {
                return Err("a rank was not told that the end is due".to_owned());
            }
            if self.preempts && alive().next().is_some() && !self.watched {
                return Err("C13: nobody watches what is saved".to_owned());
            }
            let killing = alive().any(|rank| rank.killed);
            let saved = self.saved.as_ref().is_some_and(|(at, _)| *at == now);
            if saved && !killing && alive().any(|rank| !rank.term) {
                return Err("C13: all is saved and a rank was not told to end".to_owned());
            }
            if self.end_of_grace() < Some(now) && alive().any(|rank| !rank.killed) {
                return Err("C4: a rank has longer than its grace".to_owned());
            }
        }
        self.protocol.sees_rest(now, record)
    }

    /// C13: what ranks left is killed soon after the grace that follows the last of them.
    fn check_what_is_left(&self, now: Duration) -> Result<(), String> {
        let limit = self.gone.map(|gone| gone + self.policy.grace + Duration::from_millis(40));
        if limit.is_none_or(|limit| now <= limit) {
            return Ok(());
        }
        let spared = |rank: &&Rank| {
            let ended = matches!(rank.life, Life::Ended(exit) if exit.is_success());
            ended && rank.group_told.is_some() && rank.group_killed.is_none()
        };
        if let Some(rank) = self.ranks.iter().find(spared) {
            return Err(format!("C13: a group has longer than the grace: {rank:?}"));
        }
        if self.leftovers_told.is_some() && !self.leftovers_killed {
            return Err("C13: leftovers have longer than the grace".to_owned());
        }
        Ok(())
    }

    fn sees_end_group(&mut self, now: Duration, rank: u32, signal: i32) -> Result<(), String> {
        let may = self.may_kill(self.ranks[rank as usize].group_told, now);
        let rank = &mut self.ranks[rank as usize];
        let Life::Ended(exit) = rank.life else {
            return Err("C3: the group of a rank that is not an unreaped leader".to_owned());
        };
        if signal == KILL {
            if exit.is_success() && !rank.killed {
                let told = rank.group_told.is_some();
                if !told || !may {
                    return Err("C3: the group of a clean rank killed within its grace".to_owned());
                }
            }
            rank.group_killed.get_or_insert(now);
        } else {
            if !exit.is_success() {
                return Err("C3: the group of a failed rank got less than KILL".to_owned());
            }
            rank.group_told.get_or_insert(now);
        }
        Ok(())
    }

    fn all_clean(&self) -> bool {
        self.ranks.iter().all(|rank| match rank.life {
            Life::Ended(exit) | Life::Reaped(exit) => exit.is_success(),
            Life::Alive => false,
            Life::None => true,
        })
    }

    /// C5: from the moment the end is due, everything is over in bounded time.
    fn check_time(&self, now: Duration) -> Result<(), String> {
        let Some(due) = self.due.filter(|_| !self.closed) else { return Ok(()) };
        // Ranks, then what they left: each a grace, a wait after KILL, and some counting.
        let saving = self.policy.preemption.as_ref().map(|p| p.grace).unwrap_or_default();
        let grace = self.policy.grace.max(saving);
        let bound = 2 * (grace + self.policy.reap_limit) + Duration::from_millis(200);
        if now > due + bound {
            return Err(format!("C5: due at {due:?}, still busy at {now:?}"));
        }
        Ok(())
    }

    /// How the attempt ended, from what was seen.
    fn ended(&self) -> Result<Ended, String> {
        let alive = |(_, rank): &(u32, &Rank)| rank.life == Life::Alive;
        let stuck = (0u32..).zip(&self.ranks).filter(alive);
        let ranks: Vec<u32> = stuck.map(|(number, _)| number).collect();
        let leftovers = self.leftovers.unwrap_or(0);
        if leftovers > 0 || !ranks.is_empty() {
            let killed = ranks.iter().all(|&rank| self.ranks[rank as usize].killed);
            if !killed || leftovers > 0 && !self.leftovers_killed {
                return Err("given up without KILL".to_owned());
            }
            return Ok(Ended::Stuck { ranks, leftovers });
        }
        if self.cannot_start {
            return Ok(Ended::CannotStart);
        }
        if let Some((rank, exit)) = self.suspect {
            return Ok(Ended::Failed { rank, exit });
        }
        let well = |rank: &Rank| {
            rank.told.is_none() && matches!(rank.life, Life::Reaped(exit) if exit.is_success())
        };
        if self.ranks.iter().all(well) {
            return Ok(Ended::Well);
        }
        Ok(Ended::Asked)
    }
}
