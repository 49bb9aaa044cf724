//! Before the first attempt, between two, and after the last: no rank lives here.

use super::record::{AttemptRecord, Life};
use super::{Phase, RankRecord, Supervisor};
use crate::diagnose::class::Class;
use crate::supervise::event::{Action, Assessment, Decision, Event, Now, Outcome, ResumePoint};

impl Supervisor {
    /// An answer about what no rank has a part in; one that nobody waits for changes nothing (C11).
    pub(super) fn answered(&mut self, now: Now, event: &Event, actions: &mut Vec<Action>) {
        match (self.phase, event) {
            (Phase::Preparing { number, .. }, Event::Prepared { resume }) => {
                self.launch(now, number, resume.clone(), actions);
            }
            (Phase::Preparing { .. }, Event::Refused { why }) => {
                self.refused(why.clone(), actions);
            }
            (Phase::Assessing { .. }, Event::Assessed { attempt, assessment })
                if *attempt == self.attempt.number =>
            {
                self.decide(now, assessment.clone(), actions);
            }
            (Phase::Verifying { .. }, Event::Verified { unfinished }) => {
                self.verified(now, unfinished.clone(), actions);
            }
            _ => {}
        }
    }

    /// A deadline between attempts has come.
    pub(super) fn give_up_waiting(&mut self, now: Now, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Preparing { give_up_at, .. } if now >= give_up_at => {
                // From the beginning would be backwards where a checkpoint is there after all.
                let why = "what to resume from was not found out in time".to_owned();
                self.refused(why, actions);
            }
            Phase::Assessing { give_up_at } if now >= give_up_at => {
                let why = "the failure could not be looked into in time".to_owned();
                self.decide(now, self.nothing_known(why), actions);
            }
            Phase::Verifying { give_up_at } if now >= give_up_at => {
                self.finish(Outcome::Completed, actions);
            }
            Phase::Waiting { until } if now >= until => {
                self.prepare(now, self.attempt.number + 1, actions);
            }
            _ => {}
        }
    }

    /// Somebody asked while no rank was there: nothing has to be waited for (C12).
    pub(super) fn asked_between(&mut self, actions: &mut Vec<Action>) {
        let outcome = match self.phase {
            Phase::Preparing { .. } | Phase::Waiting { .. } => self.stopped(),
            Phase::Assessing { .. } => self.preempted().or_else(|| self.failure()),
            // The scheduler may have ended the ranks, and they with 0.
            Phase::Verifying { .. } if self.is_first() && self.preempted().is_some() => None,
            Phase::Verifying { .. } => Some(Outcome::Completed),
            _ => None,
        };
        if let Some(outcome) = outcome {
            self.finish(outcome, actions);
        }
    }

    /// Attempt `number` is to start, as soon as is known what it resumes from (C9).
    pub(super) fn prepare(&mut self, now: Now, number: u32, actions: &mut Vec<Action>) {
        if self.policy.restart.prepares {
            let give_up_at = now + self.policy.restart.answer_limit;
            self.phase = Phase::Preparing { number, give_up_at };
            actions.push(Action::Prepare { attempt: number });
        } else {
            self.launch(now, number, None, actions);
        }
    }

    fn launch(
        &mut self,
        now: Now,
        number: u32,
        resume: Option<ResumePoint>,
        actions: &mut Vec<Action>,
    ) {
        self.budget.starts(number, resume.as_ref().map(|point| point.number));
        let next = AttemptRecord::new(number, now, self.policy.ranks, resume);
        let before = std::mem::replace(&mut self.attempt, next);
        if number > 0 {
            self.past.push(before);
        }
        self.phase = Phase::Running;
        actions.push(Action::SpawnAll { attempt: number });
    }

    /// The next attempt may not start: the failure before it is final, if there was one.
    fn refused(&mut self, why: String, actions: &mut Vec<Action>) {
        if let Some((_, decision)) = &mut self.attempt.decision {
            *decision = Decision::Final { why: why.clone() };
        }
        self.finish(self.failure().unwrap_or(Outcome::Refused { why }), actions);
    }

    /// No process of the attempt is left, `left` excepted (C6).
    pub(super) fn end_attempt(&mut self, now: Now, left: u32, actions: &mut Vec<Action>) {
        actions.push(Action::CloseAttempt);
        let given_up = |(rank, r): (u32, &RankRecord)| (r.life == Life::GivenUp).then_some(rank);
        let stuck: Vec<u32> = (0u32..).zip(&self.attempt.ranks).filter_map(given_up).collect();
        let asked = self.stopped();
        let outcome = if left > 0 || !stuck.is_empty() {
            Outcome::Stuck { ranks: stuck, leftovers: left }
        } else if let Some((rank, reason, exec)) = self.cannot_start.take() {
            Outcome::CannotStart { rank, reason, exec }
        } else if let Some(failure) = self.failure() {
            if asked.is_none() {
                return self.assess(now, actions);
            }
            self.preempted().unwrap_or(failure) // C14
        } else if self.attempt.is_complete() {
            // Where somebody asked, the job was done before, or the ranks were asked first.
            if self.policy.restart.verifies {
                let give_up_at = now + self.policy.restart.answer_limit;
                self.phase = Phase::Verifying { give_up_at };
                actions.push(Action::Verify);
                return;
            }
            Outcome::Completed
        } else {
            asked.unwrap_or(Outcome::Completed)
        };
        self.finish(outcome, actions);
    }

    fn verified(&mut self, now: Now, unfinished: Option<String>, actions: &mut Vec<Action>) {
        let fails = self.policy.restart.unfinished_fails;
        self.attempt.unfinished = unfinished;
        let failure = self.failure();
        let outcome = match failure {
            None => Outcome::Completed,
            Some(failure) => match self.preempted() {
                Some(preempted) => preempted, // C14
                None if !fails => Outcome::Completed,
                None if self.request.is_none() => return self.assess(now, actions),
                None => failure,
            },
        };
        self.finish(outcome, actions);
    }

    /// The attempt failed, and nobody asked for an end.
    fn assess(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.policy.restart.assesses {
            let give_up_at = now + self.policy.restart.answer_limit;
            self.phase = Phase::Assessing { give_up_at };
            actions.push(Action::Assess { rank: self.attempt.suspect });
        } else {
            self.decide(now, self.nothing_known(String::new()), actions);
        }
    }

    fn decide(&mut self, now: Now, assessment: Assessment, actions: &mut Vec<Action>) {
        let number = self.attempt.number;
        let decision = self.budget.decide(&self.policy, number, &assessment);
        let after = match &decision {
            Decision::Restart { after, .. } => Some(*after),
            Decision::Final { .. } => None,
        };
        self.attempt.decision = Some((assessment, decision));
        match after {
            None => {
                let failure = self.failure().expect("what is decided about is a failure");
                self.finish(failure, actions);
            }
            Some(after) if after.is_zero() => self.prepare(now, number + 1, actions),
            Some(after) => self.phase = Phase::Waiting { until: now + after },
        }
    }

    fn nothing_known(&self, why: String) -> Assessment {
        let class = if self.attempt.suspect.is_some() { Class::Unknown } else { Class::Unfinished };
        Assessment {
            class,
            remedy: class.remedy(),
            fingerprint: None,
            why,
            progress: None,
            measures_progress: false,
            ended_early: false,
        }
    }

    /// How the attempt failed, if it did.
    fn failure(&self) -> Option<Outcome> {
        if let Some(rank) = self.attempt.suspect {
            let exit = self.attempt.ranks[rank as usize].ended.expect("a suspect has ended (C1)").0;
            return Some(Outcome::Failed { rank, exit });
        }
        self.attempt.unfinished.clone().map(|why| Outcome::Unfinished { why })
    }

    /// The end that was asked for, if one was.
    fn stopped(&self) -> Option<Outcome> {
        let signal = self.request?.signal;
        Some(if self.is_preemption(signal) {
            Outcome::Preempted { signal, saved: self.saved.clone() }
        } else {
            Outcome::Stopped { signal }
        })
    }

    /// The same, where the machine is taken away.
    fn preempted(&self) -> Option<Outcome> {
        self.stopped().filter(|outcome| matches!(outcome, Outcome::Preempted { .. }))
    }

    /// Whether nobody asked again.
    fn is_first(&self) -> bool {
        self.request.is_some_and(|request| request.times == 1)
    }

    fn finish(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.phase = Phase::Done;
        actions.push(Action::Finish { outcome });
    }
}
