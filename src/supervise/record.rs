//! `events.jsonl`: what the core was told and what it decided, line by line, and back.
//!
//! The first line is a [`Header`]. A [`Step`] line holds one event and the actions it led to. Any
//! other line (the keeper's last word) is for people and is passed over. A last line that was torn
//! by a crash is passed over too. The replay needs nothing else: the core is pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::core::Supervisor;
use super::event::{Action, Event, Policy};

/// Version of the format. The first one knows less: a policy without what came later, and fewer
/// events; it reads as it stands.
pub const FORMAT: u32 = 2;

/// The first line of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`]
    pub format: u32,
    /// Version of nvlaunch.
    pub nvlaunch: String,
    /// `NVLAUNCH_RUN_ID`
    pub run: String,
    /// When supervision began, in the local time zone.
    pub began: String,
    /// What the core decides by.
    pub policy: Policy,
}

/// One step of the core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds since supervision began.
    pub t_us: u64,
    /// What happened.
    pub event: Event,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

impl Step {
    /// The step as a line, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a step has no maps and no foreign text");
        line.push(b'\n');
        line
    }
}

/// Why a record cannot be replayed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// The first line is something else.
    #[error("the first line is no header of a recorded run")]
    NoHeader,
    /// It was written by a later version.
    #[error("the record has format {0}, this program reads formats 1 to {FORMAT}")]
    Format(u32),
}

/// One replayed step, beside the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// As recorded.
    pub step: Step,
    /// What this program decides.
    pub decided: Vec<Action>,
}

impl Replayed {
    /// Whether the decisions are the same.
    pub fn agrees(&self) -> bool {
        self.step.actions == self.decided
    }
}

/// Reads a record and takes every decision again.
pub fn replay(text: &str) -> Result<(Header, Vec<Replayed>), RecordError> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let header: Header = serde_json::from_str(first).map_err(|_| RecordError::NoHeader)?;
    if !(1..=FORMAT).contains(&header.format) {
        return Err(RecordError::Format(header.format));
    }
    let mut core = Supervisor::new(header.policy.clone());
    let steps = lines.filter_map(|line| serde_json::from_str::<Step>(line).ok());
    let replayed = steps.map(|step| {
        let decided = core.step(Duration::from_micros(step.t_us), &step.event);
        Replayed { step, decided }
    });
    Ok((header, replayed.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::exit::Exit;

    fn record() -> String {
        let seconds = Duration::from_secs;
        let policy = Policy {
            ranks: 2,
            max_restarts: 0,
            grace: seconds(30),
            hurried_grace: seconds(5),
            reap_limit: seconds(30),
            restart: crate::supervise::event::RestartPolicy::default(),
            preemption: None,
        };
        let mut core = Supervisor::new(policy.clone());
        let header = Header {
            format: FORMAT,
            nvlaunch: "0.1.0".to_owned(),
            run: "r".to_owned(),
            began: "2026-01-01T00:00:00Z".to_owned(),
            policy,
        };
        let mut text = serde_json::to_string(&header).unwrap() + "\n";
        let events = [
            Event::Start,
            Event::Spawned { rank: 0, pid: 10 },
            Event::Spawned { rank: 1, pid: 11 },
            Event::Exited { rank: 1, exit: Exit::Signal(11) },
            Event::Exited { rank: 0, exit: Exit::Code(143) },
            Event::Leftovers { left: 0 },
        ];
        for (t_us, event) in (0u64..).zip(events) {
            let actions = core.step(Duration::from_micros(t_us), &event);
            let step = Step { t_us, event, actions };
            text += std::str::from_utf8(&step.to_line()).unwrap();
        }
        text
    }

    #[test]
    fn a_record_replays_to_the_same_decisions() {
        let (_, steps) = replay(&record()).unwrap();
        assert_eq!(steps.len(), 6);
        assert!(steps.iter().all(Replayed::agrees));
        assert!(matches!(steps[5].decided[..], [Action::CloseAttempt, Action::Finish { .. }]));
    }

    #[test]
    fn another_decision_is_seen() {
        let changed = record().replace(r#""rank":0,"signal":15"#, r#""rank":0,"signal":2"#);
        let (_, steps) = replay(&changed).unwrap();
        assert_eq!(steps.iter().filter(|step| !step.agrees()).count(), 1);
    }

    #[test]
    fn a_torn_end_and_foreign_lines_are_passed_over() {
        let text = record();
        let torn = format!("{}{{\"supervisor_lost\":{{}}}}\n{}", text, &text[..40]);
        assert_eq!(replay(&torn).unwrap().1.len(), 6);
        assert_eq!(replay("").unwrap_err(), RecordError::NoHeader);
        for other in [0, FORMAT + 1] {
            let other_text = text.replacen("\"format\":2", &format!("\"format\":{other}"), 1);
            assert_eq!(replay(&other_text).unwrap_err(), RecordError::Format(other));
        }
    }

    #[test]
    fn a_record_of_the_first_format_replays() {
        let text = record();
        let (header, rest) = text.split_once('\n').unwrap();
        let mut header: serde_json::Value = serde_json::from_str(header).unwrap();
        header["format"] = 1.into();
        let policy = header["policy"].as_object_mut().unwrap();
        assert!(policy.remove("restart").is_some() && policy.remove("preemption").is_some());
        let (header, steps) = replay(&format!("{header}\n{rest}")).unwrap();
        assert_eq!((header.format, steps.len()), (1, 6));
        assert!(steps.iter().all(Replayed::agrees));
    }
}
