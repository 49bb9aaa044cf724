//! What has to come before the first attempt, between two, and after the last.

use std::time::Duration;

use nvlaunch::diagnose::class::{Class, Remedy};
use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::AttemptRecord;
use nvlaunch::supervise::event::{
    Assessment, Decision, Event, Outcome, Policy, PreemptionPolicy, ResumePoint,
};

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Ended {
    Stuck { ranks: Vec<u32>, leftovers: u32 },
    CannotStart,
    Failed { rank: u32, exit: Exit },
    Well,
    Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Prepare,
    Assess,
    Verify,
}

/// Where the run stands.
#[derive(Debug, Clone)]
enum Stage {
    Idle,
    /// Ranks may be there.
    Attempt,
    /// This has to be said in the same step.
    OwesStart,
    OwesSpawn,
    OwesAssess,
    OwesVerify,
    OwesEnd(Outcome),
    /// A rank could not be started; the words are the core's.
    OwesCannotStart,
    /// An answer, until then.
    Awaits(Question, Duration),
    /// The next attempt is due between these.
    Waits(Duration, Duration),
    Over,
}

/// A failure that was decided about.
#[derive(Debug, Clone)]
struct Failure {
    seen: Assessment,
    /// What its attempt began with.
    began_with: Option<u64>,
}

impl Failure {
    fn progress(&self) -> Option<u64> {
        self.seen.progress.filter(|_| self.seen.measures_progress)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Final,
    /// How many restarts there were since the last progress, this one included, and what is said.
    Restart {
        since: u32,
        used: u32,
    },
}

/// Follows one run from attempt to attempt.
#[derive(Debug, Clone)]
pub struct Protocol {
    policy: Policy,
    stage: Stage,
    /// Attempts that were started.
    started: u32,
    resume: Option<ResumePoint>,
    failure: Option<Outcome>,
    history: Vec<Failure>,
    verdict: Option<Verdict>,
    decided_at: Duration,
    first_ask: Option<i32>,
    asks: u32,
    marks: Vec<&'static str>,
}

impl Protocol {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            stage: Stage::Idle,
            started: 0,
            resume: None,
            failure: None,
            history: Vec::new(),
            verdict: None,
            decided_at: Duration::ZERO,
            first_ask: None,
            asks: 0,
            marks: Vec::new(),
        }
    }

    pub fn marks(&self) -> Vec<(&'static str, bool)> {
        let mut marks = self.marks.clone();
        marks.sort_unstable();
        marks.dedup();
        marks.into_iter().map(|mark| (mark, true)).collect()
    }

    pub fn sees_event(&mut self, now: Duration, event: &Event) {
        match (&self.stage, event) {
            (Stage::Idle, Event::Start) => self.stage = Stage::OwesStart,
            (_, Event::Asked { signal, .. }) => {
                self.first_ask.get_or_insert(*signal);
                self.asks += 1;
                self.asked();
            }
            (Stage::Awaits(Question::Prepare, _), Event::Prepared { resume }) => {
                if resume.is_some() {
                    self.marks.push("resumed");
                }
                self.resume.clone_from(resume);
                self.stage = Stage::OwesSpawn;
            }
            (Stage::Awaits(Question::Prepare, _), Event::Refused { why }) => {
                self.refused(why.clone());
            }
            (Stage::Awaits(Question::Assess, _), Event::Assessed { attempt, assessment })
                if attempt + 1 == self.started =>
            {
                self.judge(now, assessment.clone());
            }
            (_, Event::Assessed { assessment, .. }) if assessment.why == "E" => {
                self.marks.push("answered too late");
            }
            (Stage::Awaits(Question::Verify, _), Event::Verified { unfinished }) => {
                self.verified(now, unfinished.clone());
            }
            (Stage::Awaits(question, until), Event::Tick) if now >= *until => {
                self.marks.push("never answered");
                match question {
                    Question::Prepare => self.refused("too late".to_owned()),
                    Question::Assess => self.judge(now, self.nothing_known()),
                    Question::Verify => self.stage = Stage::OwesEnd(Outcome::Completed),
                }
            }
            _ => {}
        }
    }

    fn asked(&mut self) {
        let outcome = match &self.stage {
            Stage::Awaits(Question::Prepare, _) | Stage::Waits(..) => self.stopped(None),
            Stage::Awaits(Question::Assess, _) => {
                self.preempted(None).or(self.failure.clone()).expect("it failed")
            }
            // The look goes on: the ranks may have been asked before nvlaunch was.
            Stage::Awaits(Question::Verify, _) if self.asks == 1 && self.is_preempted() => {
                self.marks.push("preempted while a success was looked at");
                return;
            }
            Stage::Awaits(Question::Verify, _) => Outcome::Completed,
            _ => return,
        };
        self.marks.push("asked between attempts");
        self.stage = Stage::OwesEnd(outcome);
    }

    fn is_preempted(&self) -> bool {
        let policy = self.policy.preemption.as_ref();
        let takes_away = |policy: &PreemptionPolicy, signal| policy.signals.contains(&signal);
        policy.zip(self.first_ask).is_some_and(|(policy, signal)| takes_away(policy, signal))
    }

    /// C14
    fn preempted(&self, saved: Option<ResumePoint>) -> Option<Outcome> {
        let signal = self.first_ask.filter(|_| self.is_preempted())?;
        Some(Outcome::Preempted { signal, saved })
    }

    fn stopped(&self, saved: Option<ResumePoint>) -> Outcome {
        let signal = self.first_ask.expect("somebody asked");
        self.preempted(saved).unwrap_or(Outcome::Stopped { signal })
    }

    fn refused(&mut self, why: String) {
        if self.failure.is_some() {
            self.marks.push("refused after a failure");
            self.verdict = Some(Verdict::Final);
        }
        let outcome = self.failure.clone().unwrap_or(Outcome::Refused { why });
        self.stage = Stage::OwesEnd(outcome);
    }

    pub fn closed(&mut self, ended: Ended, saved: Option<ResumePoint>) {
        let asked = self.first_ask.is_some();
        self.stage = match ended {
            Ended::Stuck { ranks, leftovers } => {
                Stage::OwesEnd(Outcome::Stuck { ranks, leftovers })
            }
            Ended::CannotStart => Stage::OwesCannotStart,
            Ended::Failed { rank, exit } => {
                self.failure = Some(Outcome::Failed { rank, exit });
                if let Some(preempted) = self.preempted(saved) {
                    self.marks.push("preempted beside a failure");
                    Stage::OwesEnd(preempted)
                } else if asked {
                    Stage::OwesEnd(Outcome::Failed { rank, exit })
                } else {
                    Stage::OwesAssess
                }
            }
            Ended::Well if self.policy.restart.verifies => Stage::OwesVerify,
            Ended::Well => Stage::OwesEnd(Outcome::Completed),
            Ended::Asked => Stage::OwesEnd(self.stopped(saved)),
        };
    }

    fn verified(&mut self, _now: Duration, unfinished: Option<String>) {
        self.stage = match unfinished {
            Some(_) if self.is_preempted() => {
                self.marks.push("preempted before it was done");
                Stage::OwesEnd(self.stopped(None))
            }
            Some(why) if self.policy.restart.unfinished_fails && self.first_ask.is_some() => {
                Stage::OwesEnd(Outcome::Unfinished { why })
            }
            Some(why) if self.policy.restart.unfinished_fails => {
                self.failure = Some(Outcome::Unfinished { why });
                Stage::OwesAssess
            }
            _ => Stage::OwesEnd(Outcome::Completed),
        };
    }

    fn nothing_known(&self) -> Assessment {
        let unfinished = matches!(self.failure, Some(Outcome::Unfinished { .. }));
        Assessment {
            class: if unfinished { Class::Unfinished } else { Class::Unknown },
            remedy: Remedy::Retry,
            fingerprint: None,
            why: String::new(),
            progress: None,
            measures_progress: false,
            ended_early: false,
        }
    }

    fn judge(&mut self, now: Duration, seen: Assessment) {
        let began_with = self.resume.as_ref().map(|point| point.number);
        self.history.push(Failure { seen, began_with });
        let verdict = verdict(&self.policy, &self.history);
        self.verdict = Some(verdict);
        self.decided_at = now;
        let Verdict::Restart { since, .. } = verdict else {
            if self.started <= self.policy.max_restarts {
                self.marks.push("final though restarts were left");
            }
            self.stage = Stage::OwesEnd(self.failure.clone().expect("it failed"));
            return;
        };
        if since == 1 && self.history.len() > 1 {
            self.marks.push("restarted after progress");
        }
        let restart = &self.policy.restart;
        let wait = (1..since).fold(restart.backoff, |wait, _| wait * 2).min(restart.most_backoff);
        self.stage = if wait.is_zero() {
            Stage::OwesStart
        } else {
            self.marks.push("restarted after a wait");
            // Jitter is whole microseconds, rounded down.
            Stage::Waits(now + wait * 4 / 5, now + wait * 6 / 5)
        };
    }

    /// The next attempt may start, or be prepared.
    fn may_start(&self, now: Duration) -> Result<(), String> {
        match self.stage {
            Stage::OwesStart => Ok(()),
            Stage::Waits(from, to) if (from..=to).contains(&now) => Ok(()),
            Stage::Waits(from, to) => Err(format!("C10: not between {from:?} and {to:?}")),
            _ => Err(format!("C10: an attempt where the run stands at {:?}", self.stage)),
        }
    }

    pub fn sees_prepare(&mut self, now: Duration) -> Result<(), String> {
        self.may_start(now)?;
        if !self.policy.restart.prepares {
            return Err("prepared, and nobody wants that".to_owned());
        }
        self.stage = self.awaits(Question::Prepare, now);
        Ok(())
    }

    pub fn sees_spawn(&mut self, now: Duration) -> Result<(), String> {
        if self.policy.restart.prepares {
            if !matches!(self.stage, Stage::OwesSpawn) {
                return Err(format!("C9: started at {:?}", self.stage));
            }
        } else {
            self.may_start(now)?;
            self.resume = None;
        }
        self.stage = Stage::Attempt;
        self.started += 1;
        self.failure = None;
        self.verdict = None;
        Ok(())
    }

    pub fn sees_assess(&mut self, now: Duration) -> Result<(), String> {
        if !matches!(self.stage, Stage::OwesAssess) || !self.policy.restart.assesses {
            return Err(format!("assessed at {:?}", self.stage));
        }
        self.stage = self.awaits(Question::Assess, now);
        Ok(())
    }

    pub fn sees_verify(&mut self, now: Duration) -> Result<(), String> {
        if !matches!(self.stage, Stage::OwesVerify) {
            return Err(format!("verified at {:?}", self.stage));
        }
        self.stage = self.awaits(Question::Verify, now);
        Ok(())
    }

    fn awaits(&self, question: Question, now: Duration) -> Stage {
        Stage::Awaits(question, now + self.policy.restart.answer_limit)
    }

    pub fn sees_finish(&mut self, outcome: &Outcome) -> Result<(), String> {
        let right = match (&self.stage, outcome) {
            (Stage::OwesCannotStart, Outcome::CannotStart { .. }) => true,
            // The words for an answer that never came are the core's.
            (Stage::OwesEnd(Outcome::Refused { why }), Outcome::Refused { .. })
                if why == "too late" =>
            {
                true
            }
            (Stage::OwesEnd(end), outcome) => end == outcome,
            _ => false,
        };
        if !right {
            return Err(format!("{outcome:?} where the run stands at {:?}", self.stage));
        }
        self.stage = Stage::Over;
        Ok(())
    }

    /// A failure that nobody assesses is decided about by what comes next.
    pub fn before_action(&mut self, now: Duration) {
        if matches!(self.stage, Stage::OwesAssess) && !self.policy.restart.assesses {
            self.judge(now, self.nothing_known());
        }
    }

    /// Nothing is owed when a step is over, and no wait is longer than it may be.
    pub fn sees_rest(&mut self, now: Duration, record: &AttemptRecord) -> Result<(), String> {
        self.before_action(now);
        match self.stage {
            Stage::Idle | Stage::Attempt | Stage::Over => {}
            Stage::Awaits(_, until) | Stage::Waits(_, until) if now <= until => {}
            _ => return Err(format!("at {now:?} the run still stands at {:?}", self.stage)),
        }
        if self.started == record.number + 1 && record.resume != self.resume {
            return Err(format!("C9: {:?} instead of {:?}", record.resume, self.resume));
        }
        let decided = record.decision.as_ref().map(|(_, decision)| decision);
        match (self.verdict, decided) {
            (None, None) => Ok(()),
            (Some(Verdict::Final), Some(Decision::Final { why })) if !why.is_empty() => Ok(()),
            (
                Some(Verdict::Restart { used, .. }),
                Some(Decision::Restart { used: said, why, .. }),
            ) if *said == used && why.contains(&format!("restart {used} of ")) => Ok(()),
            (verdict, decided) => Err(format!("{decided:?} where {verdict:?} follows")),
        }
    }
}

/// What follows from the last of these failures, each but the last of which led to a restart; from
/// the whole row, and not from what was counted on the way.
fn verdict(policy: &Policy, history: &[Failure]) -> Verdict {
    let (now, before) = history.split_last().expect("a failure");
    let furthest = |until: usize| {
        let all = history[..until].iter().map(Failure::progress);
        all.chain([history[0].began_with]).max().flatten()
    };
    let last_progress =
        (0..history.len()).rev().find(|&index| history[index].progress() > furthest(index));
    let since = u32::try_from(before.len() - last_progress.unwrap_or(0)).unwrap();
    let spent =
        if policy.restart.by_progress { since } else { u32::try_from(before.len()).unwrap() };
    let measured = now.seen.measures_progress;
    let helps = match now.seen.remedy {
        Remedy::Never => false,
        Remedy::Retry => true,
        Remedy::SameAgain => !before.last().is_some_and(|last| {
            let early = |of: &Assessment| of.ended_early && !of.measures_progress;
            now.seen.fingerprint.is_some()
                && last.seen.fingerprint == now.seen.fingerprint
                && if measured {
                    last.progress() == now.progress()
                } else {
                    early(&last.seen) && early(&now.seen)
                }
        }),
        Remedy::RetryElsewhere => {
            let kind = |failure: &&Failure| {
                failure.seen.remedy == Remedy::RetryElsewhere
                    && failure.seen.class == now.seen.class
            };
            let last = before.iter().rev().find(kind);
            measured
                && now.progress() > now.began_with
                && before.last().is_none_or(|last| now.progress() > last.progress())
                && last.is_none_or(|last| now.progress() > last.progress())
        }
    };
    if helps && spent < policy.max_restarts {
        Verdict::Restart { since: since + 1, used: spent + 1 }
    } else {
        Verdict::Final
    }
}
