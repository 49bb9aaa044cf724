//! The result of the smoke test as JSON.

use serde::Serialize;

use super::judge::{Bandwidth, Cause, Check, Judgement, Times, Verdict};
use crate::diagnose::secrets::scrub;
use crate::report::Preflight;

/// Version of the JSON form: a field may be added within a version, none is taken away.
pub const VERSION: u32 = 1;

/// What the test was.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct About {
    /// Name of the machine.
    pub host: String,
    /// When it began, as in RFC 3339.
    pub began: String,
    /// Ranks; 0 where none was planned.
    pub ranks: u32,
    /// Their backend.
    pub backend: Option<String>,
    /// The `torch.device` of their tensors.
    pub device: Option<String>,
    /// From the command to the verdict, in seconds.
    pub seconds: f64,
    /// nvlaunch's exit code.
    pub exit_code: u8,
    /// Where files are, if any are kept.
    pub run_dir: Option<String>,
    /// What preflight saw before; `None` where it did not look.
    pub preflight: Option<Preflight>,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    nvlaunch: &'static str,
    verdict: Verdict,
    #[serde(flatten)]
    about: &'a About,
    torch: Option<&'a str>,
    python: Option<&'a str>,
    times: Times,
    checks: &'a [Check],
    all_reduce: &'a [Bandwidth],
    cause: Option<&'a Cause>,
}

/// Renders it, with a line end.
pub fn render(judgement: &Judgement, about: &About) -> String {
    let document = Document {
        version: VERSION,
        nvlaunch: env!("CARGO_PKG_VERSION"),
        verdict: judgement.verdict,
        about,
        torch: judgement.torch.as_deref(),
        python: judgement.python.as_deref(),
        times: judgement.times,
        checks: &judgement.checks,
        all_reduce: &judgement.bandwidth,
        cause: judgement.cause.as_ref(),
    };
    let text = serde_json::to_string_pretty(&document).expect("plain values become JSON");
    text + "\n"
}

/// Without what looks like a secret: an error's text is the ranks' own.
#[must_use]
pub fn without_secrets(mut judgement: Judgement) -> Judgement {
    let all = |texts: &mut Vec<String>| {
        for text in texts {
            *text = scrub(text);
        }
    };
    if let Some(cause) = &mut judgement.cause {
        cause.what = scrub(&cause.what);
        all(&mut cause.lines);
        all(&mut cause.hints);
    }
    for check in &mut judgement.checks {
        check.message = check.message.as_deref().map(scrub);
    }
    judgement
}
