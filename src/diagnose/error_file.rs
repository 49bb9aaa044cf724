//! The error file that a script's `@record` writes, and the copy nvlaunch owes its own caller.
//!
//! Format (torch.distributed.elastic.multiprocessing.errors, torch 1.9 to 2.15): JSON with
//! `message`, either a text with `timestamp` beside it, or an object with `message` and
//! `extraInfo: {py_callstack, timestamp}`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::secrets::scrub;

/// More than this of an error file is not read.
const MAX_BYTES: u64 = 1 << 20;

/// What a script said about its own failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScriptError {
    /// `ValueError: boom`
    pub message: String,
    /// The traceback, where there is one.
    pub traceback: Option<String>,
}

/// Reads an error file; `None` where there is none or it is something else.
pub fn read(path: &Path) -> Option<(ScriptError, Value)> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    Some((parse(&value)?, value))
}

fn parse(value: &Value) -> Option<ScriptError> {
    match value.get("message")? {
        Value::String(message) => Some(ScriptError { message: scrub(message), traceback: None }),
        Value::Object(inner) => {
            let message = scrub(inner.get("message")?.as_str()?);
            let traceback = inner.get("extraInfo").and_then(|info| info.get("py_callstack"));
            let traceback = traceback.and_then(Value::as_str).map(scrub);
            Some(ScriptError { message, traceback })
        }
        _ => None,
    }
}

/// The copy for the file that nvlaunch's own caller named in `TORCHELASTIC_ERROR_FILE`: the same
/// JSON with `message.errorCode`, as torchrun writes it.
pub fn for_caller(mut value: Value, exit_code: i32) -> Value {
    if let Some(Value::Object(message)) = value.get_mut("message") {
        message.insert("errorCode".to_owned(), exit_code.into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        let new = json!({"message": {"message": "ValueError: boom",
            "extraInfo": {"py_callstack": "Traceback…\n", "timestamp": "1795175140"}}});
        let read = parse(&new).unwrap();
        assert_eq!(read.message, "ValueError: boom");
        assert_eq!(read.traceback.as_deref(), Some("Traceback…\n"));
        let old = json!({"message": "it broke", "timestamp": 1});
        assert_eq!(parse(&old).unwrap().message, "it broke");
        for other in [json!({}), json!([1]), json!({"message": 3}), json!({"message": {}})] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    #[test]
    fn the_callers_copy_names_the_exit_code() {
        let value = for_caller(json!({"message": {"message": "m", "extraInfo": {}}}), 3);
        assert_eq!(value["message"]["errorCode"], 3);
        assert_eq!(for_caller(json!({"message": "m"}), 3), json!({"message": "m"}));
    }
}
