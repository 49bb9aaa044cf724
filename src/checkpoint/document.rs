//! What `nvlaunch checkpoint inspect --json` prints: a contract for programs. Pure.
//!
//! ```text
//! {"version": 1, "folder", "layout": "dcp" | … | null,
//!  "candidates": [{"path", "layout", "step", "number", "bytes", "files", "modified",
//!                  "age_seconds", "chosen": true | false,
//!                  "verdict": "whole" | "broken" | "export" | "unknown" | null, "because"}],
//!  "pointer": {"file", "names", "candidate": place in candidates | null} | null,
//!  "chosen": place in candidates | null, "undecided": why nothing may be chosen | null,
//!  "words": what it comes to, in sentences}
//! ```
//!
//! - `candidates` are newest first. `step` is the step of training where it is known, `number` what
//!   orders them. `bytes`, `files` and `because` are `null` where a candidate was not looked at; so
//!   is `verdict`. `modified` is in seconds since 1970.
//! - `because` is a list of `{"file", "what"}` of a broken one, a text of an export or an unknown
//!   one.
//! - D1: new keys may come; the version rises where a key goes away or changes its meaning.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::Layout;
use super::scan::Candidate;
use super::text::{self, Inspected};

/// Version of the document.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    folder: String,
    layout: Option<Layout>,
    candidates: Vec<Value>,
    pointer: Option<Value>,
    chosen: Option<usize>,
    undecided: Option<String>,
    words: &'a [String],
}

/// The document, with a line end.
pub fn render(inspected: &Inspected) -> String {
    let Inspected { folder, scan, now, .. } = inspected;
    let candidate = |(at, candidate)| of_candidate(candidate, scan.chosen == Some(at), *now);
    let pointer = scan.pointer.as_ref().map(|pointer| {
        let candidate = text::named(scan, pointer);
        json!({"file": pointer.file, "names": pointer.names, "candidate": candidate})
    });
    let document = Document {
        version: VERSION,
        folder: shown(folder),
        layout: scan.layout,
        candidates: scan.candidates.iter().enumerate().map(candidate).collect(),
        pointer,
        chosen: scan.chosen.filter(|_| scan.undecided().is_none()),
        undecided: scan.undecided(),
        words: &text::words(inspected),
    };
    let text = serde_json::to_string_pretty(&document);
    text.expect("texts and numbers are JSON") + "\n"
}

fn of_candidate(candidate: &Candidate, is_chosen: bool, now: SystemTime) -> Value {
    let Candidate { found, judged } = candidate;
    let modified = text::modified(candidate);
    let since = |at: SystemTime, from| at.duration_since(from).ok().map(|time| time.as_secs_f64());
    let mut value = json!({
        "path": shown(&found.path),
        "layout": found.layout,
        "step": candidate.step(),
        "number": found.number,
        "bytes": judged.as_ref().map(|judged| judged.bytes),
        "files": judged.as_ref().map(|judged| judged.files),
        "modified": modified.and_then(|at| since(at, SystemTime::UNIX_EPOCH)),
        "age_seconds": modified.and_then(|at| since(now, at)),
        "chosen": is_chosen,
        "verdict": null,
        "because": null,
    });
    if let Some(judged) = judged
        && let Ok(Value::Object(verdict)) = serde_json::to_value(&judged.verdict)
        && let Value::Object(value) = &mut value
    {
        value.extend(verdict);
    }
    value
}

/// A path as text; what is no UTF-8 in it is replaced.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::inspected;
    use super::*;

    #[test]
    fn programs_find_everything() {
        let value: Value = serde_json::from_str(&render(&inspected())).expect("it is JSON");
        assert_eq!(value["version"], VERSION);
        assert_eq!((&value["layout"], &value["chosen"]), (&json!("deepspeed"), &json!(1)));
        assert_eq!(value["undecided"], Value::Null);
        assert_eq!(
            value["pointer"],
            json!({"file": "latest", "names": "global_step30", "candidate": 0})
        );
        assert_eq!(
            value["candidates"][0],
            json!({
                "path": "runs/a/global_step30", "layout": "deepspeed", "step": 30, "number": 30,
                "bytes": 1_310_720, "files": 4, "modified": 999_820.0, "age_seconds": 180.0,
                "chosen": false, "verdict": "broken",
                "because": [{"file": "mp_rank_00_model_states.pt", "what": "is empty"},
                    {"file": "latest", "what": "x".repeat(90)}],
            })
        );
        let whole = &value["candidates"][1];
        assert_eq!((&whole["verdict"], &whole["because"]), (&json!("whole"), &Value::Null));
        assert_eq!(whole["chosen"], json!(true));
        let unseen = &value["candidates"][2];
        assert_eq!((&unseen["verdict"], &unseen["bytes"]), (&Value::Null, &Value::Null));
        assert!(value["words"].as_array().is_some_and(|words| words.len() == 2), "{value}");
    }
}
