//! `nvlaunch checkpoint inspect DIR`: what is there, and what would be used.
//!
//! Looking is done by a thread of its own: where the file system does not answer it is left behind,
//! and the program ends without it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use super::output;
use crate::checkpoint::io::Io;
use crate::checkpoint::layout::Cx;
use crate::checkpoint::scan::{self, Request};
use crate::checkpoint::text::Inspected;
use crate::checkpoint::{document, text};
use crate::cli::InspectArgs;
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::report::text::seconds;
use crate::settings::error::Problem;
use crate::settings::{Origin, SettingsError, values};
use crate::thread;

/// Where `--timeout` says nothing.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The thread's own deadline comes first; it has this long to say so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a folder cannot be inspected.
#[derive(Debug, thiserror::Error)]
enum InspectError {
    #[error("there is no folder `{}`", .0.display())]
    Missing(PathBuf),
    #[error("`{}` is no folder", .0.display())]
    NoFolder(PathBuf),
    #[error("the folder `{}` cannot be read: {source}", folder.display())]
    Unreadable { folder: PathBuf, source: io::Error },
    #[error("the folder `{}` did not answer within {}", folder.display(), seconds(.after.as_secs_f64()))]
    Silent { folder: PathBuf, after: Duration },
    #[error("no thread can be started to look at the folder: {0}")]
    NoThread(io::Error),
}

impl Explain for InspectError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(folder) => {
                let above = folder.ancestors().skip(1).find(|above| above.is_dir())?;
                let above = above.to_str().filter(|above| !above.is_empty() && *above != "/")?;
                Some(format!("the folder `{above}` is there"))
            }
            Self::NoFolder(_) => Some("give the folder in which checkpoints stand".to_owned()),
            Self::Silent { .. } => Some(
                "is its file system mounted and its server up? --timeout gives it longer"
                    .to_owned(),
            ),
            Self::Unreadable { .. } | Self::NoThread(_) => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Missing(_) | Self::NoFolder(_) | Self::Unreadable { .. } => exit_code::NO_INPUT,
            Self::Silent { .. } => exit_code::UNAVAILABLE,
            Self::NoThread(_) => exit_code::OS,
        }
    }
}

/// Prints what is there; the exit code.
pub(super) fn inspect(args: &InspectArgs) -> Result<u8, BoxError> {
    let (request, timeout) = wanted(args)?;
    let folder = request.folder.clone();
    let deadline = Instant::now().checked_add(timeout);
    let inspected = within(timeout.saturating_add(PATIENCE), move || look(&request, deadline))
        .map_err(InspectError::NoThread)?
        .ok_or(InspectError::Silent { folder, after: timeout })??;
    let stdout = io::stdout();
    let colour = !matches!(anstream::AutoStream::choice(&stdout), anstream::ColorChoice::Never);
    let printed = output::print(&if args.json {
        document::render(&inspected)
    } else {
        text::render(&inspected, colour)
    });
    Ok(match printed {
        exit_code::OK if inspected.scan.undecided().is_some() => exit_code::UNAVAILABLE,
        exit_code::OK if inspected.scan.chosen.is_none() => exit_code::DIFFERS,
        printed => printed,
    })
}

/// What the options ask for, and how long it may take.
fn wanted(args: &InspectArgs) -> Result<(Request, Duration), SettingsError> {
    let layout = parsed(args.layout.as_deref(), "--layout", values::layout)?.flatten();
    let pattern = parsed(args.pattern.as_deref(), "--pattern", values::checkpoint_pattern)?;
    let world_size = parsed(args.world_size.as_deref(), "--world-size", ranks)?;
    let timeout = parsed(args.timeout.as_deref(), "--timeout", values::duration)?;
    let folder = args.dir.as_ref().map(PathBuf::from).unwrap_or_default();
    let cx = Cx { world_size, since: None, pattern };
    Ok((Request { folder, layout, cx, all: true }, timeout.unwrap_or(TIMEOUT)))
}

fn ranks(text: &str) -> Result<u32, Problem> {
    match text.trim().parse() {
        Ok(ranks) if ranks > 0 => Ok(ranks),
        _ => Err(Problem::new(format!("`{text}` is no number of ranks"), "give a number from 1")),
    }
}

fn parsed<T>(
    typed: Option<&std::ffi::OsStr>,
    option: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Problem>,
) -> Result<Option<T>, SettingsError> {
    let origin = || Origin::Option(option);
    let Some(typed) = typed else { return Ok(None) };
    let text = typed.to_str().ok_or_else(|| SettingsError::NotText { origin: origin() })?;
    parse(text).map(Some).map_err(|problem| SettingsError::Value { origin: origin(), problem })
}

/// What `work` gives, or `None` where it takes longer; then it is left behind.
fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (done, is_done) = mpsc::channel();
    let checkpoints = std::thread::Builder::new().name("checkpoints".to_owned());
    thread::spawn(checkpoints, move || {
        // Nobody is left to be told.
        let _ = done.send(work());
    })?;
    Ok(is_done.recv_timeout(time).ok())
}

fn look(request: &Request, deadline: Option<Instant>) -> Result<Inspected, InspectError> {
    let folder = &request.folder;
    match fs::read_dir(folder) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(InspectError::Missing(folder.clone()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(InspectError::NoFolder(folder.clone()));
        }
        Err(source) => return Err(InspectError::Unreadable { folder: folder.clone(), source }),
    }
    let mut io = Io::until(deadline);
    let scan = scan::scan(request, &mut io);
    let is_empty = scan.candidates.is_empty() && scan.failed.is_none();
    let first =
        |request: &Request, io: &mut Io| scan::scan(&Request { all: false, ..request.clone() }, io);
    let other = match request.layout {
        Some(_) if is_empty => first(&Request { layout: None, ..request.clone() }, &mut io).layout,
        _ => None,
    };
    let is_one = is_empty
        && is_one_of(folder, |above| {
            first(&Request { folder: above, layout: None, ..request.clone() }, &mut io)
        });
    let asked = request.layout;
    let (folder, now) = (folder.clone(), SystemTime::now());
    Ok(Inspected { folder, asked, scan, other, is_one, now })
}

/// Whether a folder is a candidate of the one above it.
fn is_one_of(folder: &Path, scan: impl FnOnce(PathBuf) -> scan::Scan) -> bool {
    let Ok(whole) = folder.canonicalize() else { return false };
    let Some(above) = whole.parent() else { return false };
    let scan = scan(above.to_owned());
    scan.candidates.iter().any(|candidate| candidate.found.path == whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_is_left_behind() {
        let (end, never) = mpsc::channel::<()>();
        // As a file system that does not answer.
        let stuck = within(Duration::from_millis(20), move || never.recv().is_ok());
        assert_eq!(stuck.expect("a thread starts"), None);
        drop(end);
        let answers = within(Duration::from_secs(60), || 7).expect("a thread starts");
        assert_eq!(answers, Some(7));
        let error = InspectError::Silent { folder: "/ckpt".into(), after: Duration::from_secs(60) };
        assert_eq!(error.exit_code(), exit_code::UNAVAILABLE);
        let text = crate::error::render(&error);
        assert!(
            text.starts_with("nvlaunch: the folder `/ckpt` did not answer within 1 min"),
            "{text}"
        );
    }
}
