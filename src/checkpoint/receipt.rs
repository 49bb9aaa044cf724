//! `resume-<attempt>.json` in the run folder: what an attempt resumed from and what was passed over.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;

use super::Layout;
use super::choose::Chosen;

/// Version of the file.
pub const VERSION: u32 = 1;

/// The file. JSON is UTF-8, and a path may be none: what is not stands there as `U+FFFD`.
#[derive(Debug, Serialize)]
struct Receipt<'a> {
    version: u32,
    attempt: u32,
    folder: Cow<'a, str>,
    /// `null` where the attempt begins at the beginning.
    layout: Option<Layout>,
    path: Option<Cow<'a, str>>,
    number: Option<u64>,
    step: Option<u64>,
    files: Option<u64>,
    bytes: Option<u64>,
    /// Words that were added to each rank's arguments.
    arguments: Vec<String>,
    /// Newer ones, newest first.
    passed_over: Vec<PassedOver<'a>>,
}

#[derive(Debug, Serialize)]
struct PassedOver<'a> {
    path: Cow<'a, str>,
    why: &'a str,
    renamed_to: Option<Cow<'a, str>>,
}

/// The file's name.
pub fn file_name(attempt: u32) -> String {
    format!("resume-{attempt}.json")
}

/// The file's text.
pub fn render(
    attempt: u32,
    folder: &Path,
    chosen: &Chosen,
    arguments: &[std::ffi::OsString],
) -> String {
    let point = chosen.point.as_ref();
    let receipt = Receipt {
        version: VERSION,
        attempt,
        folder: folder.to_string_lossy(),
        layout: point.map(|point| point.layout),
        path: point.map(|point| point.path.to_string_lossy()),
        number: point.map(|point| point.number),
        step: point.and_then(|point| point.step),
        files: point.map(|point| point.files),
        bytes: point.map(|point| point.bytes),
        arguments: arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        passed_over: chosen
            .passed
            .iter()
            .map(|passed| PassedOver {
                path: passed.path.to_string_lossy(),
                why: &passed.why,
                renamed_to: passed.renamed_to.as_deref().map(Path::to_string_lossy),
            })
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&receipt).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::checkpoint::choose::Passed;

    #[test]
    fn a_path_that_is_no_text_is_told_as_far_as_it_is() {
        let folder = Path::new(OsStr::from_bytes(b"/c/nu\xff"));
        let passed = Passed {
            path: folder.join("checkpoint-20"),
            why: "is not whole".to_owned(),
            renamed_to: Some(folder.join("aside")),
            stays: None,
        };
        let chosen = Chosen { point: None, passed: vec![passed] };
        let text = render(3, folder, &chosen, &[folder.as_os_str().to_owned()]);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["attempt"], &read["folder"]), (&3.into(), &"/c/nu\u{fffd}".into()));
        assert_eq!(read["passed_over"][0]["path"], "/c/nu\u{fffd}/checkpoint-20");
        assert_eq!(read["passed_over"][0]["renamed_to"], "/c/nu\u{fffd}/aside");
        assert_eq!(read["arguments"][0], "/c/nu\u{fffd}");
    }
}
