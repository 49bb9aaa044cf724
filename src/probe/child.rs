//! The child: `nvlaunch __probe nvml [--depth launch|full] [--library FILE] [--parent PID]`.
//!
//! It leads a session of its own, dies with nvlaunch, and leaves no core file. Its standard output
//! is the pipe to nvlaunch; the library gets stderr in its place, which nvlaunch keeps the end of.
//! After the answer it kills itself: destructors and `nvmlShutdown` may hang.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::unistd;
use serde::Serialize;

use super::protocol::{self, Message};
use super::{SUBCOMMAND, nvml};
use crate::exit_code;
use crate::host::depth::Depth;

/// The words of the child's command line.
pub fn words(depth: Depth, library: Option<&Path>) -> Vec<OsString> {
    let depth = match depth {
        Depth::Launch => "launch",
        Depth::Full => "full",
    };
    let parent = std::process::id().to_string();
    let mut words: Vec<OsString> =
        [SUBCOMMAND, "nvml", "--parent", &parent, "--depth", depth].map(OsString::from).into();
    if let Some(library) = library {
        words.extend(["--library".into(), library.into()]);
    }
    words
}

/// What the child was told on its command line.
#[derive(Debug, PartialEq, Eq)]
struct Task {
    depth: Depth,
    library: Option<PathBuf>,
    parent: Option<i32>,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Task> {
    let mut task = Task { depth: Depth::Launch, library: None, parent: None };
    if args.next()? != "nvml" {
        return None;
    }
    while let Some(name) = args.next() {
        let value = args.next()?;
        match (name.to_str()?, value.to_str()) {
            ("--depth", Some("launch")) => task.depth = Depth::Launch,
            ("--depth", Some("full")) => task.depth = Depth::Full,
            ("--library", _) => task.library = Some(PathBuf::from(value)),
            ("--parent", Some(pid)) => task.parent = Some(pid.parse().ok()?),
            _ => return None,
        }
    }
    Some(task)
}

/// Runs the child; `args` are the words after [`SUBCOMMAND`].
pub fn run(args: impl Iterator<Item = OsString>) -> u8 {
    let Some(task) = parse(args) else { return exit_code::USAGE };
    let Ok(mut pipe) = prepare(task.parent) else { return exit_code::OS };
    let answer = nvml::ask(task.library.as_deref(), task.depth, &mut |stage: &str| {
        say(&mut pipe, &Message::<()>::Stage(stage.to_owned()));
    });
    say(&mut pipe, &Message::Answer(answer));
    end()
}

/// Makes this process ready; the pipe to nvlaunch.
fn prepare(parent: Option<i32>) -> io::Result<Pipe> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the line above took effect.
    if parent.is_some_and(|parent| unistd::getppid().as_raw() != parent) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // A process that leads a group, as one started by hand from a shell, cannot.
    let _ = unistd::setsid();
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    let mut pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    unistd::dup2_stdout(io::stderr())?;
    // What a library wrote while it was loaded may lack its line's end.
    pipe.write_all(b"\n")?;
    Ok(pipe)
}

type Pipe = File;

/// Says it to nvlaunch; nobody who is left needs an answer.
fn say<T: Serialize>(pipe: &mut Pipe, message: &Message<T>) {
    if pipe.write_all(&protocol::line(message)).is_err() {
        end();
    }
}

/// Ends without running anybody's code.
fn end() -> ! {
    loop {
        // Cannot fail: the signal can be neither blocked nor ignored.
        let _ = raise(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Option<Task> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn its_words_come_back() {
        for (depth, library) in
            [(Depth::Launch, None), (Depth::Full, Some(Path::new("/lib with space/x.so")))]
        {
            let task = parse(words(depth, library).into_iter().skip(1)).unwrap();
            let parent = i32::try_from(std::process::id()).ok();
            assert_eq!(task, Task { depth, library: library.map(Path::to_owned), parent });
        }
    }

    #[test]
    fn by_hand_the_kind_is_enough() {
        assert_eq!(parsed(&["nvml"]).unwrap().depth, Depth::Launch);
        for words in [
            &[][..],
            &["cuda"],
            &["nvml", "--depth"],
            &["nvml", "--depth", "deep"],
            &["nvml", "--parent", "x"],
            &["nvml", "--what", "x"],
        ] {
            assert_eq!(parsed(words), None, "{words:?}");
        }
    }
}
