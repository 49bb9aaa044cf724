//! Reads the file of a profile, whatever stands under its name.
//!
//! - S1: nothing here waits: only a regular file is opened, and at most [`MAX_BYTES`] are read.
//! - S2: what comes out is text with `\n` line ends and without a byte order mark, so that lines and
//!   columns are those of an editor.

use std::fs::FileType;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::error::ProfileError;
use super::problem::{Level, Problem, Span};
use super::{check, node, render};
use crate::host::files;
use crate::settings::values::nearest;

/// The most bytes of a profile; the longest that is shipped has less than 8 KiB.
pub const MAX_BYTES: usize = 256 << 10;

/// The most names of a folder that are looked through for "did you mean".
const MAX_NAMES: usize = 1_000;

/// The text of a profile and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, as it is shown: `launch-profiles/a.yaml`.
    pub name: Arc<str>,
    /// What it holds (S2).
    pub text: String,
}

/// Reads and checks the file of a profile. Everything that is wrong with it is one error; what may
/// be wrong stands in [`Document::notes`].
pub fn load(path: &Path) -> Result<(Document, Source), ProfileError> {
    let source = read(path)?;
    let document = parse(&source)?;
    Ok((document, source))
}

/// Checks a text that is there already, as those of the built-in profiles are. Pure.
pub fn parse(source: &Source) -> Result<Document, ProfileError> {
    let (mut document, problems) = judge(source);
    if problems.iter().any(|problem| problem.level == Level::Error) {
        return Err(ProfileError::Problems { source_text: source.clone(), problems });
    }
    document.notes = problems.iter().map(|problem| render::line(source, problem)).collect();
    Ok(document)
}

/// What a text says, as far as it can be understood, and everything that is or may be wrong with
/// it. Pure.
pub fn judge(source: &Source) -> (Document, Vec<Problem>) {
    match node::parse(&source.text) {
        Ok(root) => check::check(&root, &source.text, &source.name),
        Err(problem) => (Document::default(), vec![problem]),
    }
}

/// Reads the text of a file.
pub fn read(path: &Path) -> Result<Source, ProfileError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if let Some(what) = other_than_file(metadata.file_type()) {
        return Err(ProfileError::NotAFile { path: path.to_owned(), what });
    }
    let mut bytes = Vec::new();
    files::open_here(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, error))?;
    let text = text(path, bytes)?;
    Ok(Source { name: render::shown(path).into(), text })
}

fn unreadable(path: &Path, source: io::Error) -> ProfileError {
    let path = path.to_owned();
    if !files::is_absence(&source) {
        return ProfileError::Unreadable { path, source };
    }
    let hint = absence(&path);
    ProfileError::Missing { path, hint }
}

/// Why a file is not there, or what may have been meant.
fn absence(path: &Path) -> Option<String> {
    if let Ok(target) = std::fs::read_link(path) {
        return Some(format!("it is a link to `{}`, which is not there", render::shown(&target)));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Some(format!("there is no folder `{}`", render::shown(folder)));
    };
    let names =
        entries.take(MAX_NAMES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    // The folder's own order is that of its history.
    names.sort_unstable();
    let near = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    let near = match path.parent() {
        Some(folder) => folder.join(near),
        None => PathBuf::from(near),
    };
    Some(format!("did you mean `{}`?", render::shown(&near)))
}

fn other_than_file(kind: FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a folder"),
        _ if kind.is_fifo() => Some("a pipe"),
        _ if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

/// The text of a file's bytes (S2). Pure.
pub(super) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, ProfileError> {
    if bytes.len() > MAX_BYTES {
        return Err(ProfileError::TooLarge { path: path.to_owned() });
    }
    if let Some(encoding) = foreign(&bytes) {
        return Err(ProfileError::Encoding { path: path.to_owned(), encoding });
    }
    let bad = |before: &[u8], what: String| {
        let before = String::from_utf8_lossy(before);
        let text = before.strip_prefix('\u{feff}').unwrap_or(&before);
        let text = with_line_feeds(text.to_owned());
        let at = Span { start: text.len(), end: text.len() };
        let (line, column) = (at.line(&text), at.column(&text));
        ProfileError::Byte { path: path.to_owned(), line, column, what }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        bad(&bytes[..at], format!("the byte 0x{:02x} is no UTF-8", bytes[at]))
    })?;
    if let Some(at) = text.find('\0') {
        return Err(bad(&text.as_bytes()[..at], "a NUL byte, which no text has".to_owned()));
    }
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Ok(with_line_feeds(text))
}

fn with_line_feeds(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// The encoding that the first bytes tell of, where it is not UTF-8.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        // Without a mark every other byte of English text is zero.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, 0, _, ..] | [_, 0, _, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}
