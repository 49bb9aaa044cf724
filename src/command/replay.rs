//! `nvlaunch replay FILE`: the decisions of a recorded run, taken again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::output;
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::supervise::record::{self, RecordError, Replayed};

/// Why a record cannot be replayed.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("cannot read the recorded events `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot replay `{}`", path.display())]
    Record { path: PathBuf, source: RecordError },
}

impl Explain for ReplayError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { path, .. } if path.is_dir() => {
                format!("the file is {}", path.join("events.jsonl").display())
            }
            _ => "the record of a run is `events.jsonl` in its run folder".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::NO_INPUT
    }
}

/// Prints every step; the exit code says whether all decisions are the recorded ones.
pub(super) fn replay(file: &Path) -> Result<u8, BoxError> {
    let path = file.to_owned();
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(source) => return Err(ReplayError::Read { path, source }.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let (header, steps) =
        record::replay(&text).map_err(|source| ReplayError::Record { path, source })?;
    let mut out = format!("run {} of {}, nvlaunch {}\n", header.run, header.began, header.nvlaunch);
    for step in &steps {
        describe(step, &mut out);
    }
    let differ = steps.iter().filter(|step| !step.agrees()).count();
    let _ = match differ {
        0 => writeln!(out, "{} steps, every decision as recorded", steps.len()),
        n => writeln!(out, "{} steps, {n} decided otherwise than recorded", steps.len()),
    };
    let printed = output::print(&out);
    Ok(if differ == 0 { printed } else { exit_code::DIFFERS })
}

fn describe(replayed: &Replayed, out: &mut String) {
    let step = &replayed.step;
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    let seconds = std::time::Duration::from_micros(step.t_us).as_secs_f64();
    let _ = writeln!(out, "{seconds:>12.6}  {}", json(serde_json::to_string(&step.event)));
    for action in &replayed.decided {
        let _ = writeln!(out, "              -> {}", json(serde_json::to_string(action)));
    }
    if !replayed.agrees() {
        for action in &step.actions {
            let action = json(serde_json::to_string(action));
            let _ = writeln!(out, "     recorded -> {action}");
        }
    }
}
