//! What must hold, kept apart from how the core does it.

use std::time::Duration;

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::event::{Action, Event, Outcome, Policy};

use crate::world::{KILL, TERM};

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
    ranks: Vec<Rank>,
    attempts: u32,
    asks: Vec<Duration>,
    /// First moment of this attempt at which its end was known to be due.
    due: Option<Duration>,
    suspect: Option<(u32, Exit)>,
    cannot_start: bool,
    leftovers: Option<u32>,
    leftovers_told: Option<Duration>,
    leftovers_killed: bool,
    closed: bool,
    /// Ranks that were deferred are still to come.
    deferred: bool,
    outcome: Option<Outcome>,
}

impl Oracle {
    pub fn new(policy: Policy) -> Self {
        let ranks = vec![Rank::default(); policy.ranks as usize];
        Self {
            policy,
            ranks,
            attempts: 0,
            asks: Vec::new(),
            due: None,
            suspect: None,
            cannot_start: false,
            leftovers: None,
            leftovers_told: None,
            leftovers_killed: false,
            closed: true,
            deferred: false,
            outcome: None,
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    pub fn sees_event(&mut self, now: Duration, event: &Event) {
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
            Event::Asked { .. } => {
                self.asks.push(now);
                self.due.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// Whether KILL may be sent to something that was told at `told`.
    fn may_kill(&self, told: Option<Duration>, now: Duration) -> bool {
        let hurried = self.asks.get(1).map(|&second| second + self.policy.hurried_grace);
        self.asks.len() >= 3
            || hurried.is_some_and(|at| now >= at)
            || told.is_some_and(|told| now >= told + self.policy.grace)
            || self.due.is_some_and(|due| now >= due + self.policy.grace)
    }

    pub fn sees_action(&mut self, now: Duration, action: &Action) -> Result<(), String> {
        let check = |ok: bool, rule: &str| if ok { Ok(()) } else { Err(rule.to_owned()) };
        check(self.outcome.is_none(), "C7: something after the end")?;
        self.check_time(now)?;
        match action {
            Action::SpawnAll { attempt } => {
                check(*attempt == self.attempts, "attempts are not counted up")?;
                check(*attempt <= self.policy.max_restarts, "more restarts than allowed")?;
                let gone = |rank: &Rank| matches!(rank.life, Life::Reaped(_) | Life::None);
                check(self.ranks.iter().all(gone), "C6: a rank of the last attempt is left")?;
                let first = *attempt == 0;
                check(first || self.leftovers == Some(0), "C6: leftovers of the last attempt")?;
                check(first || self.suspect.is_some(), "a restart without a failure")?;
                check(self.asks.is_empty(), "a restart though the user asked to end")?;
                check(!self.cannot_start, "a restart of what cannot start")?;
                check(self.closed, "the last attempt was not closed")?;
                self.attempts += 1;
                *self = Self {
                    attempts: self.attempts,
                    asks: self.asks.clone(),
                    closed: false,
                    ..Self::new(self.policy.clone())
                };
            }
            Action::Signal { rank, signal } => {
                let rank = &mut self.ranks[*rank as usize];
                check(rank.life == Life::Alive, "C2: signal to a rank that is not alive")?;
                if *signal != 10 {
                    check(self.due.is_some(), "told to end without a cause")?;
                    rank.told.get_or_insert(now);
                }
            }
            Action::Kill { rank } => {
                let told = self.ranks[*rank as usize].told;
                check(told.is_some(), "C4: killed before it was told")?;
                check(self.may_kill(told, now), "C4: killed within its grace")?;
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
                check(!self.closed || self.attempts == 0, "an attempt closed twice")?;
                self.closed = true;
            }
            Action::Finish { outcome } => {
                check(self.closed, "an attempt was not closed")?;
                self.outcome = Some(outcome.clone());
            }
            Action::CancelSpawns => {
                check(self.deferred, "C8: nothing is deferred that could be cancelled")?;
                check(self.due.is_some(), "C8: cancelled without a cause")?;
                self.deferred = false;
            }
            Action::Survey => check(!self.deferred, "C8: over while ranks are still to come")?,
            Action::Prepare { .. }
            | Action::Assess { .. }
            | Action::Verify
            | Action::WatchSaves => {
                return Err("asked for what the policy does not ask for".to_owned());
            }
            Action::Suspend | Action::Resume => {}
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
        let Some(due) = self.due else { return Ok(()) };
        // Ranks, then what they left: each a grace, a wait after KILL, and some counting.
        let bound = 2 * (self.policy.grace + self.policy.reap_limit) + Duration::from_millis(200);
        if now > due + bound {
            return Err(format!("C5: due at {due:?}, still busy at {now:?}"));
        }
        Ok(())
    }

    /// The outcome that follows from what was seen, computed another way than the core does.
    pub fn judge_outcome(&self) -> Result<(), String> {
        let outcome = self.outcome.as_ref().expect("the run is over");
        let stuck: Vec<u32> = (0u32..)
            .zip(&self.ranks)
            .filter(|(_, rank)| rank.life == Life::Alive)
            .map(|(number, _)| number)
            .collect();
        let left = self.leftovers.unwrap_or(0);
        let all_well = self.ranks.iter().all(|rank| {
            rank.told.is_none() && matches!(rank.life, Life::Reaped(exit) if exit.is_success())
        });
        let right = match outcome {
            Outcome::Stuck { ranks, leftovers } => {
                let killed = stuck.iter().all(|&rank| self.ranks[rank as usize].killed);
                let tried = left == 0 || self.leftovers_killed;
                *ranks == stuck
                    && *leftovers == left
                    && killed
                    && tried
                    && (left > 0 || !stuck.is_empty())
            }
            _ if left > 0 || !stuck.is_empty() => false,
            Outcome::CannotStart { .. } => self.cannot_start,
            _ if self.cannot_start => false,
            Outcome::Failed { rank, exit } => {
                let exhausted = self.attempts == self.policy.max_restarts + 1;
                self.suspect == Some((*rank, *exit)) && (exhausted || !self.asks.is_empty())
            }
            _ if self.suspect.is_some() => false,
            Outcome::Completed => all_well,
            Outcome::Preempted { .. } | Outcome::Unfinished { .. } | Outcome::Refused { .. } => {
                false
            }
            Outcome::Stopped { signal } => *signal == 2 && !self.asks.is_empty() && !all_well,
        };
        if right {
            Ok(())
        } else {
            Err(format!("the outcome {outcome:?} does not follow: {self:?}"))
        }
    }
}
