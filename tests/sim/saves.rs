//! The checkpoints of a simulated job, and who answers for them.

use std::time::Duration;

use nvlaunch::supervise::event::{Action, Assessment, Event, ResumePoint};

use crate::scenario::{Answers, Scenario};

/// From this attempt on nothing more is saved, so that every run has an end.
const LAST_THAT_SAVES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Prepare,
    Assess,
    Verify,
}

/// A checkpoint folder.
#[derive(Debug)]
pub struct Folder<'a> {
    scenario: &'a Scenario,
    /// Numbers of those that are whole and still there.
    whole: Vec<u64>,
    /// The step that the running attempt is at.
    step: u64,
    attempt: usize,
    watched: bool,
    /// What was asked last and is not answered.
    open: Option<(Question, usize)>,
    /// Answers that are under way.
    coming: Vec<(Duration, Question, usize)>,
    /// When the ranks write one because they were told to end.
    last_save: Option<Duration>,
    saves: Vec<(Duration, u64, bool)>,
}

impl<'a> Folder<'a> {
    pub fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            whole: scenario.at_first.into_iter().collect(),
            step: 0,
            attempt: 0,
            watched: false,
            open: None,
            coming: Vec::new(),
            last_save: None,
            saves: Vec::new(),
        }
    }

    pub fn newest(&self) -> Option<u64> {
        self.whole.iter().copied().max()
    }

    fn answers(&self, attempt: usize) -> &'a Answers {
        &self.scenario.answers[attempt % self.scenario.answers.len()]
    }

    pub fn starts(&mut self, now: Duration, attempt: usize, resume: Option<u64>) {
        self.attempt = attempt;
        self.step = resume.unwrap_or(0);
        self.watched = false;
        self.last_save = None;
        let saves = &self.scenario.saves[attempt % self.scenario.saves.len()];
        self.saves = saves.iter().map(|s| (now + s.after, s.steps, s.whole)).collect();
        if attempt >= LAST_THAT_SAVES {
            self.saves.clear();
        }
    }

    /// The ranks were told to end.
    pub fn told(&mut self, now: Duration) {
        let first = self.last_save.is_none() && self.attempt < LAST_THAT_SAVES;
        if let Some(after) = self.scenario.saves_when_told.filter(|_| first) {
            self.last_save = Some(now + after);
            self.saves.push((now + after, 1, true));
        }
    }

    pub fn purge(&mut self) {
        let newest = self.newest();
        self.whole.retain(|&number| Some(number) != newest);
    }

    /// When something happens here next.
    pub fn next(&self) -> Option<Duration> {
        let saves = self.saves.iter().map(|save| save.0);
        saves.chain(self.coming.iter().map(|answer| answer.0)).min()
    }

    /// What is due; saves only where a rank lives that writes them.
    pub fn happen(&mut self, now: Duration, alive: bool) -> Vec<Event> {
        let mut events = Vec::new();
        let (due, later) = self.saves.iter().partition(|save| save.0 <= now);
        self.saves = later;
        let due: Vec<(Duration, u64, bool)> = due;
        for (_, steps, whole) in due.into_iter().filter(|_| alive) {
            self.step += steps;
            if whole {
                self.whole.retain(|&number| number != self.step);
                self.whole.push(self.step);
                events.extend(self.watched.then(|| Event::Saved { point: point(self.step) }));
            }
        }
        let (due, later) = self.coming.iter().partition(|answer| answer.0 <= now);
        self.coming = later;
        let due: Vec<(Duration, Question, usize)> = due;
        for (_, question, attempt) in due {
            events.push(self.answer(question, attempt));
        }
        events
    }

    fn answer(&mut self, question: Question, attempt: usize) -> Event {
        if self.open == Some((question, attempt)) {
            self.open = None;
        }
        let answers = self.answers(attempt);
        match question {
            Question::Prepare if answers.refuses => Event::Refused { why: "full".to_owned() },
            Question::Prepare => Event::Prepared { resume: self.newest().map(point) },
            Question::Assess => Event::Assessed {
                attempt: u32::try_from(attempt).unwrap(),
                assessment: Assessment {
                    class: answers.class,
                    remedy: answers.remedy,
                    fingerprint: answers.fingerprint.map(str::to_owned),
                    why: "E".to_owned(),
                    progress: self.newest().filter(|_| self.scenario.measures),
                    measures_progress: self.scenario.measures,
                    ended_early: attempt % 4 < 2,
                },
            },
            Question::Verify => Event::Verified {
                unfinished: answers.unfinished.then(|| "too few steps".to_owned()),
            },
        }
    }

    pub fn act(&mut self, action: &Action, now: Duration) {
        let (question, attempt, after) = match action {
            Action::Prepare { attempt } => {
                let attempt = *attempt as usize;
                (Question::Prepare, attempt, self.answers(attempt).prepare_after)
            }
            Action::Assess { .. } => {
                (Question::Assess, self.attempt, self.answers(self.attempt).assess_after)
            }
            Action::Verify => {
                (Question::Verify, self.attempt, self.answers(self.attempt).verify_after)
            }
            Action::WatchSaves => {
                self.watched = true;
                return;
            }
            Action::CloseAttempt => {
                self.watched = false;
                return;
            }
            _ => return,
        };
        self.open = Some((question, attempt));
        self.coming.extend(after.map(|after| (now + after, question, attempt)));
    }

    /// An answer to nothing that was asked.
    pub fn junk(&self, now: Duration) -> Event {
        let why = || "junk".to_owned();
        let open = self.open.map(|(question, _)| question);
        match now.as_millis() % 5 {
            0 if open != Some(Question::Prepare) => {
                Event::Prepared { resume: Some(point(1_000_000)) }
            }
            1 if open != Some(Question::Prepare) => Event::Refused { why: why() },
            2 if open != Some(Question::Verify) => Event::Verified { unfinished: Some(why()) },
            3 if !self.watched => Event::Saved { point: point(1_000_000) },
            _ => {
                let mut other = self.attempt + 1;
                if open != Some(Question::Assess) {
                    other = self.attempt;
                }
                Event::Assessed {
                    attempt: u32::try_from(other).unwrap(),
                    assessment: Assessment {
                        class: nvlaunch::diagnose::class::Class::Syntax,
                        remedy: nvlaunch::diagnose::class::Remedy::Never,
                        fingerprint: None,
                        why: why(),
                        progress: Some(1_000_000),
                        measures_progress: true,
                        ended_early: false,
                    },
                }
            }
        }
    }
}

pub fn point(number: u64) -> ResumePoint {
    ResumePoint { path: format!("/ckpt/step_{number}"), number, step: Some(number) }
}
