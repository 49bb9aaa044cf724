//! Starts nvlaunch (or torchrun) on a script and waits for what it does, never longer than said.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

thread_local! {
    /// What the templates of this thread's launches import.
    static WARM: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Does this with warm ranks: each [`Job::new`] has `--warm` with these modules, and a launch whose
/// ranks start cold all the same is a failure.
pub fn warm<T>(modules: &'static str, test: impl FnOnce() -> T) -> T {
    struct Cold;
    impl Drop for Cold {
        fn drop(&mut self) {
            WARM.set(None);
        }
    }
    WARM.set(Some(modules));
    let _cold = Cold;
    test()
}

/// Whether the launches of this thread have warm ranks.
pub fn is_warm() -> bool {
    WARM.get().is_some()
}

/// A bound for things that take milliseconds: generous, for a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// The program under test.
pub fn nvlaunch() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_nvlaunch"))
}

/// A program of the project's Python environment; its absence is an error, not a skip.
pub fn venv(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin").join(program);
    assert!(path.exists(), "{} is missing: run `make venv` first", path.display());
    path
}

/// The environment of every launch, whatever that of the tests is.
pub fn small_env(dir: &Path) -> [(&'static str, OsString); 4] {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", venv("").display());
    [
        ("PATH", path.into()),
        ("HOME", dir.into()),
        ("TMPDIR", dir.join("tmp").into()),
        ("LANG", "C.UTF-8".into()),
    ]
}

/// A warm rank becomes another program, with the signals that a cold one has: Python ignores two.
const BECOME: &str = "\
import os, signal, sys
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
";

/// A launch to be started.
pub struct Job {
    pub dir: tempfile::TempDir,
    command: Command,
    may_be_cold: bool,
}

impl Job {
    /// nvlaunch in an empty folder, with a small, known environment.
    pub fn new() -> Self {
        let job = Self::of(nvlaunch());
        match WARM.get() {
            Some(modules) => Self { may_be_cold: false, ..job }.arg(format!("--warm={modules}")),
            None => job,
        }
    }

    /// Where its ranks may start cold although [`warm`] ones are asked for.
    pub fn may_be_cold(self) -> Self {
        Self { may_be_cold: true, ..self }
    }

    /// Ranks that are this program: cold ones execute it themselves, warm ones after their fork.
    pub fn program<S: AsRef<OsStr>>(self, words: impl IntoIterator<Item = S>) -> Self {
        let job = if is_warm() {
            self.file("become.py", BECOME).arg("become.py")
        } else {
            self.arg("--no-python")
        };
        job.args(words)
    }

    /// torchrun in an empty folder, with the same environment.
    pub fn torchrun() -> Self {
        Self::of(venv("torchrun"))
    }

    /// The project's Python in an empty folder, with the same environment.
    pub fn python() -> Self {
        Self::of(venv("python"))
    }

    /// A program, by its path or found on `PATH`, in the same way.
    pub fn of(program: impl AsRef<OsStr>) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(dir.path().join("tmp")).expect("a folder for temporary files");
        let mut command = Command::new(program);
        command
            .current_dir(dir.path())
            .env_clear()
            .envs(small_env(dir.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { dir, command, may_be_cold: true }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Writes a Python script into the job's folder and names it on the command line.
    pub fn script(self, text: &str) -> Self {
        self.file("script.py", text).arg("script.py")
    }

    /// Writes a file into the job's folder.
    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.dir.path().join(name), text).expect("a file in the test's folder");
        self
    }

    /// Changes what the builder has no word for.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("the program starts");
        let stdout = child.stdout.take().map(lines);
        let stderr = child.stderr.take().map(lines);
        let (seen, may_be_cold) = ([Vec::new(), Vec::new()], self.may_be_cold);
        Running { child, stdout, stderr, seen, dir: self.dir, may_be_cold }
    }

    /// Runs it to its end, which must come within `bound`.
    pub fn run_within(self, bound: Duration) -> End {
        self.start().end_within(bound)
    }

    /// Runs it to its end.
    pub fn run(self) -> End {
        self.run_within(SOON)
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(len) if len > 0 && send.send(line).is_ok() => {}
                _ => return,
            }
        }
    });
    receive
}

/// A started launch. Killed with everything it started when dropped.
pub struct Running {
    child: Child,
    stdout: Option<Receiver<Vec<u8>>>,
    stderr: Option<Receiver<Vec<u8>>>,
    seen: [Vec<u8>; 2],
    pub dir: tempfile::TempDir,
    may_be_cold: bool,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the program is there");
    }

    /// Ends its standard input, where that is a pipe.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Waits for a line of stdout that contains `needle`; returns it.
    pub fn stdout_line(&mut self, needle: &str) -> String {
        let stream = self.stdout.as_ref().expect("stdout is a pipe");
        wait_line(stream, &mut self.seen[0], needle, SOON)
    }

    /// Waits for a line of stderr that contains `needle`; returns it.
    pub fn stderr_line(&mut self, needle: &str) -> String {
        self.stderr_line_within(needle, SOON)
    }

    /// The same where it may take longer, as importing torch does in several ranks.
    pub fn stderr_line_within(&mut self, needle: &str, bound: Duration) -> String {
        let stream = self.stderr.as_ref().expect("stderr is a pipe");
        wait_line(stream, &mut self.seen[1], needle, bound)
    }

    /// Waits for the end of the program and of its output.
    pub fn end_within(mut self, bound: Duration) -> End {
        let end = Instant::now() + bound;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                self.drain(Instant::now() + Duration::from_secs(1));
                let [out, err] = &self.seen;
                panic!(
                    "no end within {bound:?}\n--- stdout\n{}\n--- stderr\n{}",
                    String::from_utf8_lossy(out),
                    String::from_utf8_lossy(err)
                );
            }
            pause();
        };
        self.drain(end.max(Instant::now() + Duration::from_secs(2)));
        let [stdout, stderr] = std::mem::take(&mut self.seen);
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a folder"));
        let text = String::from_utf8_lossy(&stderr).into_owned();
        let is_cold =
            ["ranks start cold", "restarts will be cold"].iter().any(|s| text.contains(s));
        assert!(self.may_be_cold || !is_cold, "the ranks are not warm: {text}");
        End {
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: text,
            raw_stdout: stdout,
            raw_stderr: stderr,
            dir,
        }
    }

    fn drain(&mut self, until: Instant) {
        for (stream, seen) in [&self.stdout, &self.stderr].into_iter().zip(&mut self.seen) {
            let Some(stream) = stream else { continue };
            while let Ok(line) =
                stream.recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                seen.extend(line);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_line(
    stream: &Receiver<Vec<u8>>,
    seen: &mut Vec<u8>,
    needle: &str,
    bound: Duration,
) -> String {
    let end = Instant::now() + bound;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(line) = stream.recv_timeout(left) else {
            panic!("no line with `{needle}` in {bound:?}; seen: {}", String::from_utf8_lossy(seen));
        };
        seen.extend(&line);
        let text = String::from_utf8_lossy(&line).into_owned();
        if text.contains(needle) {
            return text;
        }
    }
}

/// How a launch ended.
pub struct End {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub raw_stdout: Vec<u8>,
    pub raw_stderr: Vec<u8>,
    pub dir: tempfile::TempDir,
}

impl End {
    /// The exit code, with everything printed when it is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "exit code {:?}, signal {:?}, expected {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of what is left in the temporary folder.
    pub fn left_in_tmp(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.path("tmp")).expect("the folder is there");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }
}

/// Waits until `check` holds, at most `bound`.
#[track_caller]
pub fn wait_until(what: &str, bound: Duration, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + bound;
    while !check() {
        assert!(Instant::now() < end, "{what}: not within {bound:?}");
        pause();
    }
}

/// A moment between two looks at a condition.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(2));
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    nvlaunch::host::process::look(pid).is_some_and(|process| !process.is_zombie())
}
