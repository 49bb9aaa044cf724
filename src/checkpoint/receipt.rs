//! `resume-<attempt>.json` in the run folder: what an attempt resumed from and what was passed over.

use std::path::Path;

use serde::Serialize;

use super::Layout;
use super::choose::Chosen;

/// Version of the file.
pub const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Serialize)]
struct Receipt<'a> {
    version: u32,
    attempt: u32,
    folder: &'a Path,
    /// `null` where the attempt begins at the beginning.
    layout: Option<Layout>,
    path: Option<&'a Path>,
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
    path: &'a Path,
    why: &'a str,
    renamed_to: Option<&'a Path>,
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
        folder,
        layout: point.map(|point| point.layout),
        path: point.map(|point| &*point.path),
        number: point.map(|point| point.number),
        step: point.and_then(|point| point.step),
        files: point.map(|point| point.files),
        bytes: point.map(|point| point.bytes),
        arguments: arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        passed_over: chosen
            .passed
            .iter()
            .map(|passed| PassedOver {
                path: &passed.path,
                why: &passed.why,
                renamed_to: passed.renamed_to.as_deref(),
            })
            .collect(),
    };
    // A path that is no UTF-8 is no JSON.
    let mut text = serde_json::to_string_pretty(&receipt).unwrap_or_default();
    text.push('\n');
    text
}
