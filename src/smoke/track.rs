//! What one rank wrote about itself: its file, line by line, to values.
//!
//! A rank may end in the middle of a line: what cannot be read is left out, and never an error.

use serde::{Deserialize, Serialize};

/// How far a rank has come, by its own words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    /// Its process, once its program began.
    pub pid: Option<i32>,
    /// The steps that are over, in their order.
    pub steps: Vec<Step>,
    /// The step that has begun and is not over.
    pub current: Option<String>,
    /// What went wrong in [`Track::current`], where the rank could still say it.
    pub error: Option<String>,
    /// Whether everything is over.
    pub is_done: bool,
    /// Times of `all_reduce`, by size.
    pub timings: Vec<Timing>,
    /// The version of `PyTorch`.
    pub torch: Option<String>,
    /// The version of Python.
    pub python: Option<String>,
}

/// A step that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name, one of [`super::STEPS`].
    pub name: String,
    /// How long it took, in seconds; 0 where it was skipped.
    pub seconds: f64,
    /// What came of it.
    pub result: Outcome,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All values are right.
    Right,
    /// The first one that is not, in words.
    Wrong(String),
    /// It cannot be done here, and why.
    Skipped(String),
}

/// The time of one `all_reduce`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// Bytes of the tensor.
    pub bytes: u64,
    /// The mean of several, in seconds.
    pub seconds: f64,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Start { pid: i32 },
    About { torch: String, python: String },
    Begin { step: String },
    End { step: String, seconds: f64, wrong: Option<String> },
    Skip { step: String, why: String },
    Error { error: String },
    Timing { bytes: u64, seconds: f64 },
    Done,
}

/// Reads a rank's file.
pub fn read(text: &str) -> Track {
    let mut track = Track::default();
    for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match line {
            Line::Start { pid } => track.pid = Some(pid),
            Line::About { torch, python } => {
                (track.torch, track.python) = (Some(torch), Some(python));
            }
            Line::Begin { step } => track.current = Some(step),
            Line::End { step, seconds, wrong } => {
                let result = wrong.map_or(Outcome::Right, Outcome::Wrong);
                track.end(Step { name: step, seconds, result });
            }
            Line::Skip { step, why } => {
                track.end(Step { name: step, seconds: 0.0, result: Outcome::Skipped(why) });
            }
            Line::Error { error } => track.error = Some(error),
            Line::Timing { bytes, seconds } => track.timings.push(Timing { bytes, seconds }),
            Line::Done => track.is_done = true,
        }
    }
    track
}

impl Track {
    fn end(&mut self, step: Step) {
        self.current = None;
        self.steps.push(step);
    }

    /// How many steps are behind it; the last of all is the end.
    pub fn progress(&self) -> usize {
        self.steps.len() + usize::from(self.current.is_some()) + usize::from(self.is_done)
    }

    /// Where it is, as the end of a sentence.
    pub fn place(&self) -> String {
        match (&self.current, self.steps.last()) {
            _ if self.is_done => "after the last step".to_owned(),
            (Some(step), _) => format!("in `{step}`"),
            (None, Some(step)) => format!("after `{}`", step.name),
            (None, None) if self.pid.is_some() => "before `import`".to_owned(),
            (None, None) => "before its program began".to_owned(),
        }
    }
}
