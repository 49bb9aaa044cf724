//! What the ranks print: whole lines, files, the console, the last lines for the report.
//!
//! Everything between the ranks' pipes and the files and the terminal is here; starting and
//! ending ranks is not. Two kinds of threads work for it: one pump (`pump.rs`) that reads, splits
//! and writes files, and one writer for each console file (`console.rs`). The caller's thread only
//! sends commands and never waits longer than it says.
//!
//! - L1: lines are written whole, never interleaved; the order of one rank's stream is kept.
//! - L2: a log file gets a rank's raw bytes, whatever the console does.
//! - L3: a slow, stuck or closed console and a full disk never stop the job; what is lost is
//!   counted ([`Losses`]) and said.
//! - L4: every descriptor is close-on-exec, and no thread here starts a process.

mod attempt;
mod console;
mod file;
pub mod fold;
pub mod losses;
mod overload;
mod prefix;
mod progress;
mod pump;
mod routes;
mod screen;
mod split;
mod stream;
mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod wake;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::error::Explain;
use crate::exit_code;
use crate::settings::spec::LogSpec;
use crate::thread;

pub use losses::{Amount, ConsoleLoss, FileError, FileLoss, Losses};

use console::Console;
use pump::{Command, Pump};
use routes::Std;
use screen::{Prefix, Screen, Traits};
use wake::Wake;

/// The numbers of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankLabel {
    /// On this node, from 0; the place in [`LogConfig::ranks`].
    pub local_rank: u32,
    /// In the job.
    pub rank: u32,
}

/// What is known about the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsoleConfig {
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// Both are the same terminal.
    pub same_terminal: bool,
    /// Colours are wanted on standard output.
    pub colour_stdout: bool,
    /// Colours are wanted on standard error.
    pub colour_stderr: bool,
    /// The local rank that gets the terminal itself as its standard output.
    pub direct_terminal: Option<u32>,
}

/// What [`Logs`] needs to know.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// What the user wants.
    pub spec: LogSpec,
    /// Every rank of this node, by local rank.
    pub ranks: Vec<RankLabel>,
    /// `ROLE_NAME`, for prefixes.
    pub role: String,
    /// This machine's name, for prefixes.
    pub hostname: String,
    /// The run folder, which exists; `None` is no files at all.
    pub run_dir: Option<PathBuf>,
    /// The console.
    pub console: ConsoleConfig,
}

/// What a rank gets as one of its output streams.
#[derive(Debug)]
pub enum RankOutput {
    /// nvlaunch's own.
    Inherit,
    /// This pipe end.
    Pipe(OwnedFd),
}

/// What one rank of an attempt gets.
#[derive(Debug)]
pub struct RankPipes {
    /// Its standard output.
    pub stdout: RankOutput,
    /// Its standard error.
    pub stderr: RankOutput,
    /// For `TORCHELASTIC_ERROR_FILE`; its folder exists, the file does not.
    pub error_file: Option<PathBuf>,
}

/// The last lines of one rank, at most 200 of each stream, without line ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RankTail {
    /// Of its standard output; empty where it had the terminal itself.
    pub stdout: Vec<Vec<u8>>,
    /// Of its standard error.
    pub stderr: Vec<Vec<u8>>,
}

/// What an attempt left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptOutput {
    /// By local rank.
    pub tails: Vec<RankTail>,
    /// Local ranks one of whose pipes somebody still held when time was up.
    pub leaked: Vec<u32>,
}

/// Why output cannot be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// A log folder.
    #[error("cannot make the log folder `{}`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A log file.
    #[error("cannot open the log file `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The pipes between the ranks and nvlaunch.
    #[error("cannot make the pipes for {ranks} ranks")]
    Pipes {
        /// For how many.
        ranks: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// A thread, or what it needs.
    #[error("cannot start the threads for the ranks' output")]
    Threads {
        /// The system's reason.
        source: io::Error,
    },
}

impl Explain for LogsError {
    fn hint(&self) -> Option<String> {
        let (Self::Folder { source, .. }
        | Self::File { source, .. }
        | Self::Pipes { source, .. }
        | Self::Threads { source }) = self;
        if matches!(source.raw_os_error(), Some(libc_errno::EMFILE | libc_errno::ENFILE)) {
            return Some(
                "too many open files: raise the limit (`ulimit -n`), each rank needs up to four"
                    .to_owned(),
            );
        }
        match self {
            Self::Folder { .. } | Self::File { .. } => Some(
                "choose another folder with --log-dir, or none with --log-dir /dev/null".to_owned(),
            ),
            Self::Pipes { .. } | Self::Threads { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Folder { .. } | Self::File { .. } => exit_code::CANNOT_CREATE,
            Self::Pipes { .. } | Self::Threads { .. } => exit_code::OS,
        }
    }
}

/// Error numbers that change the hint.
mod libc_errno {
    pub const EMFILE: i32 = nix::errno::Errno::EMFILE as i32;
    pub const ENFILE: i32 = nix::errno::Errno::ENFILE as i32;
}

/// Events that wait to be written may take at most this many bytes.
const RECORD_LIMIT: usize = 16 * 1024 * 1024;
/// How much longer than its limit a command may take before the pump counts as stuck.
const SLACK: Duration = Duration::from_millis(500);
const PUMP_STACK: usize = 128 * 1024;

/// The ranks' output, for the life of a run.
#[derive(Debug)]
pub struct Logs {
    config: LogConfig,
    commands: Sender<Command>,
    wake: Arc<Wake>,
    recording: Arc<AtomicUsize>,
    events_lost: AtomicU64,
    attempt_open: bool,
}

impl Logs {
    /// Starts the threads; the console is this process' standard output and standard error.
    pub fn start(config: LogConfig) -> Result<Self, LogsError> {
        let threads = |source| LogsError::Threads { source };
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(threads)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(threads)?;
        Self::start_on(config, stdout, stderr)
    }

    /// Like [`Logs::start`], with another console.
    pub fn start_on(
        config: LogConfig,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Self, LogsError> {
        let threads = |source| LogsError::Threads { source };
        reserve_descriptors(config.ranks.len());
        let wake = Arc::new(Wake::new().map_err(threads)?);
        let epoll = pump::watch(&wake).map_err(threads)?;
        let (screens, screen_of) =
            screens(&config, File::from(stdout), File::from(stderr), &wake).map_err(threads)?;
        let events = match &config.run_dir {
            Some(folder) => Some(open_events(folder.join("events.jsonl"))?),
            None => None,
        };
        let (sender, receiver) = channel();
        let recording = Arc::new(AtomicUsize::new(0));
        let pump = Pump {
            epoll,
            wake: Arc::clone(&wake),
            commands: receiver,
            recording: Arc::clone(&recording),
            screens,
            screen_of,
            prefixes: prefixes(&config),
            events,
            streams: Vec::new(),
            filters: [None, None],
            losses: Losses::default(),
            buffer: Vec::new(),
            closing: None,
            trim_at: None,
            failures: Vec::new(),
        };
        let logs = Builder::new().name("logs".to_owned()).stack_size(PUMP_STACK);
        thread::spawn(logs, move || pump.run()).map_err(threads)?;
        let events_lost = AtomicU64::new(0);
        Ok(Self { config, commands: sender, wake, recording, events_lost, attempt_open: false })
    }

    /// Makes the folders, files and pipes of an attempt; the result is by local rank.
    ///
    /// The caller gives each pipe end to its rank and drops it. An attempt that is still open is
    /// closed without waiting.
    pub fn open_attempt(&mut self, attempt: u32) -> Result<Vec<RankPipes>, LogsError> {
        let folder = self.config.run_dir.as_ref();
        let folder = folder.map(|dir| dir.join(format!("attempt_{attempt}")));
        self.open_in(folder.as_deref())
    }

    /// The same without folders and files: all output goes to the console.
    pub fn open_attempt_without_files(&mut self) -> Result<Vec<RankPipes>, LogsError> {
        self.open_in(None)
    }

    fn open_in(&mut self, folder: Option<&Path>) -> Result<Vec<RankPipes>, LogsError> {
        if self.attempt_open {
            self.close_attempt(Duration::ZERO);
        }
        let opened = attempt::open(&self.config, folder)?;
        self.attempt_open = true;
        self.send(Command::Open(opened.streams, Box::new(opened.filters)));
        Ok(opened.pipes)
    }

    /// All ranks are gone: reads what their pipes still hold, for at most `limit` where somebody
    /// else holds them open, then drops our ends.
    pub fn close_attempt(&mut self, limit: Duration) -> AttemptOutput {
        self.attempt_open = false;
        let (reply, answer) = mpsc::channel();
        self.send(Command::Close(Instant::now() + limit, reply));
        // No answer: the disk of a log file does not answer, or the thread has died.
        answer.recv_timeout(limit + SLACK).unwrap_or_else(|_| AttemptOutput {
            tails: vec![RankTail::default(); self.config.ranks.len()],
            leaked: Vec::new(),
        })
    }

    /// The last lines so far of these local ranks, while the attempt runs; empty where the threads
    /// do not answer at once.
    pub fn tails(&self, local_ranks: &[u32]) -> Vec<RankTail> {
        let (reply, answer) = mpsc::channel();
        self.send(Command::Tails(local_ranks.to_vec(), reply));
        answer.recv_timeout(SLACK).unwrap_or_else(|_| vec![RankTail::default(); local_ranks.len()])
    }

    /// nvlaunch's own whole lines, on standard error, in order with the ranks' lines.
    pub fn say(&self, text: &[u8]) {
        if !text.is_empty() {
            self.send(Command::Say(text.to_vec()));
        }
    }

    /// Appends one line to `events.jsonl` in the run folder.
    pub fn record(&self, json_line: Vec<u8>) {
        if self.config.run_dir.is_none() {
            return;
        }
        if self.recording.load(Ordering::Relaxed) > RECORD_LIMIT {
            self.events_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.recording.fetch_add(json_line.len(), Ordering::Relaxed);
        self.send(Command::Record(json_line));
    }

    /// Writes out all that is left, for at most `limit`, and ends the threads.
    pub fn finish(self, limit: Duration) -> Losses {
        let (reply, answer) = mpsc::channel();
        self.send(Command::Finish(Instant::now() + limit, reply));
        let mut losses = answer
            .recv_timeout(limit + SLACK)
            .unwrap_or_else(|_| Losses { incomplete: true, ..Losses::default() });
        losses.events += self.events_lost.load(Ordering::Relaxed);
        losses
    }

    fn send(&self, command: Command) {
        // An error means that the thread is gone; each answer has its own bounded wait.
        let _ = self.commands.send(command);
        self.wake.signal();
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // After `finish` nobody listens any more; else the threads would wait for ever.
        self.send(Command::Quit);
    }
}

/// Makes the kernel's table of this process' descriptors as large as the ranks will need.
///
/// Once there is a second thread, each time the table grows (at 64, 256, 512, … descriptors) the
/// kernel waits for an RCU grace period: about 7 ms each on a Linux 6 machine with two cores.
fn reserve_descriptors(ranks: usize) {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sys::resource::{Resource, getrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let most = i32::try_from(limit).unwrap_or(i32::MAX).saturating_sub(1);
    // Two pipes with two ends each, two files, a pidfd, and what a start needs for a moment.
    let wanted = i32::try_from(64 + 8 * ranks).unwrap_or(i32::MAX).min(most);
    if let Ok(fd) = fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(wanted)) {
        let _ = nix::unistd::close(fd);
    }
}

fn open_events(path: PathBuf) -> Result<File, LogsError> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    opened.map_err(|source| LogsError::File { path, source })
}

/// One screen where both streams are the same file, else one for each.
fn screens(
    config: &LogConfig,
    stdout: File,
    stderr: File,
    wake: &Arc<Wake>,
) -> io::Result<(Vec<Screen>, [usize; 2])> {
    let console = config.console;
    let terminal = [console.stdout_is_terminal, console.stderr_is_terminal];
    let traits = Traits { terminal };
    // With a template of the user's own, "[ranks 0-7]" would not be what they asked for.
    let folds = config.spec.fold && config.spec.prefix.is_none() && config.ranks.len() > 1;
    let shown = config.ranks.iter().filter(|label| {
        config.spec.ranks_filter.as_ref().is_none_or(|ranks| ranks.contains(&label.local_rank))
    });
    let fold = folds.then(|| shown.count());
    let start = |files: [Option<File>; 2]| -> io::Result<Screen> {
        let mut terminals = [None, None];
        for std in Std::BOTH {
            if terminal[std.index()] {
                terminals[std.index()] =
                    files[std.index()].as_ref().map(File::try_clone).transpose()?;
            }
        }
        let console = Console::start(files, Arc::clone(wake))?;
        Ok(Screen::new(console, traits, terminals, fold))
    };
    if console.same_terminal || is_same_file(&stdout, &stderr)? {
        return Ok((vec![start([Some(stdout), Some(stderr)])?], [0, 0]));
    }
    Ok((vec![start([Some(stdout), None])?, start([None, Some(stderr)])?], [0, 1]))
}

fn is_same_file(one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn prefixes(config: &LogConfig) -> Vec<Prefix> {
    let console = config.console;
    config
        .ranks
        .iter()
        .map(|label| {
            let names = prefix::Names {
                role_name: &config.role,
                local_rank: label.local_rank,
                rank: label.rank,
                hostname: &config.hostname,
            };
            let plain = prefix::prefix(config.spec.prefix.as_deref(), &names, config.ranks.len());
            let shown = [console.colour_stdout, console.colour_stderr].map(|colour| {
                if colour { prefix::coloured(&plain, label.rank) } else { plain.clone() }
            });
            let shown = shown.map(String::into_bytes);
            Prefix { plain: plain.into_bytes(), shown, rank: label.rank }
        })
        .collect()
}
