//! The threads over real pipes: the console is a pipe or a file of the test's own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::routes::tests::spec;
use super::*;
use crate::settings::spec::{StreamMap, Streams};

/// Every wait of these tests ends by then.
const PATIENCE: Duration = Duration::from_secs(20);
const BOTH: StreamMap = StreamMap::All(Streams { stdout: true, stderr: true });

/// A console whose two streams are read by threads.
struct Bench {
    logs: Logs,
    stdout: Reader,
    stderr: Reader,
    folder: tempfile::TempDir,
}

struct Reader(JoinHandle<Vec<u8>>);

impl Reader {
    fn start(mut pipe: std::io::PipeReader) -> Self {
        Self(thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).expect("a pipe can be read");
            bytes
        }))
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn bytes(self) -> Vec<u8> {
        self.0.join().expect("the reader does not panic")
    }
}

fn config(ranks: u32, spec: LogSpec, run_dir: Option<PathBuf>) -> LogConfig {
    LogConfig {
        spec,
        ranks: (0..ranks).map(|n| RankLabel { local_rank: n, rank: n }).collect(),
        role: "default".to_owned(),
        hostname: "node-a".to_owned(),
        run_dir,
        console: ConsoleConfig::default(),
    }
}

fn bench(ranks: u32, spec: LogSpec, console: ConsoleConfig) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = LogConfig { console, ..config(ranks, spec, Some(folder.path().to_owned())) };
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let (stderr, to_stderr) = std::io::pipe().expect("a pipe");
    let logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("logs start");
    Bench { logs, stdout: Reader::start(stdout), stderr: Reader::start(stderr), folder }
}

impl Bench {
    fn open(&mut self) -> Vec<(File, File)> {
        pipes(self.logs.open_attempt(0).expect("an attempt opens"))
    }

    fn file(&self, path: &str) -> Vec<u8> {
        fs_err::read(self.folder.path().join("attempt_0").join(path)).expect("a log file")
    }

    fn end(mut self) -> (AttemptOutput, Losses, Reader, Reader) {
        let output = self.logs.close_attempt(PATIENCE);
        (output, self.logs.finish(PATIENCE), self.stdout, self.stderr)
    }
}

fn pipes(opened: Vec<RankPipes>) -> Vec<(File, File)> {
    let file = |output| match output {
        RankOutput::Pipe(fd) => File::from(fd),
        RankOutput::Inherit => panic!("this rank has a terminal"),
    };
    opened.into_iter().map(|rank| (file(rank.stdout), file(rank.stderr))).collect()
}

fn tee() -> LogSpec {
    LogSpec { tee: BOTH, ..spec() }
}

fn texts(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect()
}

#[test]
fn lines_reach_the_console_the_files_and_the_tails() {
    let mut bench = bench(2, tee(), ConsoleConfig::default());
    let mut ranks = bench.open();
    ranks[0].0.write_all(b"one\ntwo").expect("a pipe");
    ranks[1].1.write_all(b"bad \xff byte\r\nlast").expect("a pipe");
    drop(ranks);
    let output = bench.logs.close_attempt(PATIENCE);
    bench.logs.say(b"[nvlaunch] done\n");
    assert_eq!(bench.file("0/stdout.log"), b"one\ntwo");
    assert_eq!(bench.file("1/stderr.log"), b"bad \xff byte\r\nlast");
    assert!(bench.logs.finish(PATIENCE).is_none());
    assert_eq!(bench.stdout.text(), "[rank 0] one\n[rank 0] two\n");
    let expected = b"[rank 1] bad \xff byte\n[rank 1] last\n[nvlaunch] done\n";
    assert_eq!(bench.stderr.bytes(), expected);
    assert_eq!(texts(&output.tails[0].stdout), ["one", "two"]);
    assert_eq!(output.tails[1].stderr, [b"bad \xff byte".to_vec(), b"last".to_vec()]);
    assert_eq!(output.leaked, [0u32; 0]);
}

#[test]
fn the_last_lines_can_be_had_while_the_rank_goes_on() {
    let mut bench = bench(2, tee(), ConsoleConfig::default());
    let mut ranks = bench.open();
    ranks[1].0.write_all(b"one\ntwo\n").expect("a pipe");
    let tails = bench.logs.tails(&[1, 0, 7]);
    assert_eq!(texts(&tails[0].stdout), ["one", "two"]);
    assert_eq!((tails.len(), tails[1].stdout.len(), tails[2].stdout.len()), (3, 0, 0));
    ranks[1].0.write_all(b"three\n").expect("a pipe");
    drop(ranks);
    let output = bench.logs.close_attempt(PATIENCE);
    assert_eq!(texts(&output.tails[1].stdout), ["one", "two", "three"], "nothing was taken away");
}

#[test]
fn redirect_is_the_file_only_and_the_error_files_folder_exists() {
    let only = StreamMap::All(Streams { stdout: true, stderr: false });
    let mut bench = bench(2, LogSpec { redirects: only, ..spec() }, ConsoleConfig::default());
    let opened = bench.logs.open_attempt(3).expect("an attempt opens");
    let error_file = opened[1].error_file.clone().expect("there is a run folder");
    assert_eq!(error_file, bench.folder.path().join("attempt_3/1/error.json"));
    fs_err::write(error_file, "{}").expect("its folder exists");
    let mut ranks = pipes(opened);
    ranks[1].0.write_all(b"to the file\n").expect("a pipe");
    ranks[1].1.write_all(b"to the console\n").expect("a pipe");
    drop(ranks);
    let folder = bench.folder.path().join("attempt_3/1");
    let (_, losses, stdout, stderr) = {
        let output = bench.logs.close_attempt(PATIENCE);
        (output, bench.logs.finish(PATIENCE), bench.stdout, bench.stderr)
    };
    assert!(losses.is_none());
    assert_eq!((stdout.text().as_str(), stderr.text().as_str()), ("", "[rank 1] to the console\n"));
    assert_eq!(fs_err::read(folder.join("stdout.log")).expect("a file"), b"to the file\n");
    assert!(!folder.join("stderr.log").exists());
}

#[test]
fn without_a_run_folder_there_are_no_files_and_nothing_is_lost() {
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let both = to_stdout.try_clone().expect("a copy");
    let config = config(2, LogSpec { redirects: BOTH, ..spec() }, None);
    let mut logs = Logs::start_on(config, to_stdout.into(), both.into()).expect("logs start");
    let reader = Reader::start(stdout);
    let opened = logs.open_attempt(0).expect("an attempt opens");
    assert_eq!(opened[0].error_file, None);
    let mut ranks = pipes(opened);
    ranks[0].0.write_all(b"hello\n").expect("a pipe");
    drop(ranks);
    logs.close_attempt(PATIENCE);
    logs.record(b"{}".to_vec());
    assert!(logs.finish(PATIENCE).is_none());
    assert_eq!(reader.text(), "[rank 0] hello\n");
}

#[test]
fn a_rank_that_is_alone_reaches_the_console_byte_for_byte() {
    let mut bench = bench(1, spec(), ConsoleConfig::default());
    let mut ranks = bench.open();
    ranks[0].0.write_all(b"5%\r10%\r\n\xfe no end").expect("a pipe");
    drop(ranks);
    let (output, losses, stdout, _) = bench.end();
    assert!(losses.is_none());
    assert_eq!(stdout.bytes(), b"5%\r10%\r\n\xfe no end");
    assert_eq!(output.tails[0].stdout, [b"10%".to_vec(), b"\xfe no end".to_vec()]);
}

#[test]
fn a_question_of_a_rank_that_is_alone_is_seen_at_once() {
    let prefixed = LogSpec { prefix: Some("> ".to_owned()), ..spec() };
    for (spec, asked, whole) in
        [(spec(), "name? ", "name? thanks\n"), (prefixed, "> name? ", "> name? thanks\n")]
    {
        let terminal = ConsoleConfig { stdout_is_terminal: true, ..ConsoleConfig::default() };
        let (mut stdout, to_stdout) = std::io::pipe().expect("a pipe");
        let to_stderr = File::create("/dev/null").expect("the null device");
        let config = LogConfig { console: terminal, ..config(1, spec, None) };
        let mut logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("start");
        let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
        ranks[0].0.write_all(b"name? ").expect("a pipe");
        let mut seen = vec![0; asked.len()];
        stdout.read_exact(&mut seen).expect("the question comes without a line end");
        assert_eq!(String::from_utf8_lossy(&seen), asked);
        ranks[0].0.write_all(b"thanks\n").expect("a pipe");
        drop(ranks);
        logs.close_attempt(PATIENCE);
        assert!(logs.finish(PATIENCE).is_none());
        let rest = Reader::start(stdout).text();
        assert_eq!(format!("{asked}{rest}"), whole);
    }
}

#[test]
fn what_nvlaunch_says_begins_on_its_own_line_behind_what_was_printed() {
    for (ranks, fold, expected) in
        [(1, false, "half\n[nvlaunch] said\n"), (2, true, "[rank 0] half\n[nvlaunch] said\n")]
    {
        let (terminal, to_terminal) = std::io::pipe().expect("a pipe");
        let both = to_terminal.try_clone().expect("a copy");
        let console = ConsoleConfig {
            stdout_is_terminal: true,
            stderr_is_terminal: true,
            same_terminal: true,
            ..ConsoleConfig::default()
        };
        let spec = LogSpec { fold, ..spec() };
        let config = LogConfig { console, ..config(ranks, spec, None) };
        let mut logs = Logs::start_on(config, to_terminal.into(), both.into()).expect("start");
        let mut opened = pipes(logs.open_attempt(0).expect("an attempt opens"));
        let end: &[u8] = if fold { b"\n" } else { b"" };
        opened[0].0.write_all(&[b"half", end].concat()).expect("a pipe");
        logs.say(b"[nvlaunch] said");
        drop(opened);
        logs.close_attempt(PATIENCE);
        assert!(logs.finish(PATIENCE).is_none());
        assert_eq!(Reader::start(terminal).text(), expected);
    }
}

#[test]
fn filters_collect_matching_lines_with_their_prefix() {
    let spec = LogSpec {
        stdout_filters: vec!["loss".to_owned(), "apple".to_owned()],
        ranks_filter: Some(vec![0, 1]),
        ..tee()
    };
    let mut bench = bench(3, spec, ConsoleConfig::default());
    let mut ranks = bench.open();
    for rank in &mut ranks {
        rank.0.write_all(b"loss=1\nnothing\nan apple").expect("a pipe");
        rank.1.write_all(b"loss on stderr\n").expect("a pipe");
    }
    drop(ranks);
    bench.logs.close_attempt(PATIENCE);
    let text = String::from_utf8(bench.file("filtered_stdout.log")).expect("text");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let expected = ["[rank 0] an apple", "[rank 0] loss=1", "[rank 1] an apple", "[rank 1] loss=1"];
    assert_eq!(lines, expected);
    let attempt = bench.folder.path().join("attempt_0");
    assert!(!attempt.join("filtered_stderr.log").exists());
    assert_eq!(fs_err::read(attempt.join("2/stdout.log")).expect("a file").len(), 23);
    assert!(bench.logs.finish(PATIENCE).is_none());
    assert!(!bench.stdout.text().contains("rank 2"));
}

#[test]
fn a_stuck_reader_does_not_hold_the_ranks_and_the_files_are_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let (stderr, to_stderr) = std::io::pipe().expect("a pipe");
    let config = config(2, tee(), Some(folder.path().to_owned()));
    let mut logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("start");
    let said = Reader::start(stderr);
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    let line = [[b'x'; 99].as_slice(), b"\n"].concat().repeat(1000);
    // 40 MB: far more than the queue and the pipes hold.
    for _ in 0..200 {
        for rank in &mut ranks {
            rank.0.write_all(&line).expect("the pump reads");
        }
    }
    drop(ranks);
    let output = logs.close_attempt(PATIENCE);
    assert_eq!((output.tails[0].stdout.len(), output.leaked.len()), (200, 0));
    for rank in 0..2 {
        let path = folder.path().join(format!("attempt_0/{rank}/stdout.log"));
        assert_eq!(fs_err::metadata(path).expect("a file").len(), 20_000_000);
    }
    let before = Instant::now();
    let losses = logs.finish(Duration::from_millis(100));
    assert!(before.elapsed() < PATIENCE);
    let shown = Reader::start(stdout).text();
    let lines = shown.lines().count() as u64;
    let lost = losses.stdout.slow.lines;
    // Of the one write that was stuck, nothing is known: at most 64 KiB.
    assert!((400_000..400_700).contains(&(lost + lines)), "{lost} {lines}");
    assert!(losses.stderr.total().is_zero());
    assert_eq!(said.text(), "");
}

#[test]
fn what_the_pipes_hold_reaches_the_files_when_time_is_up_and_the_console_is_full() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let null = File::create("/dev/null").expect("the null device");
    let config = config(2, tee(), Some(folder.path().to_owned()));
    let mut logs = Logs::start_on(config, to_stdout.into(), null.into()).expect("start");
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    let lines = [[b'x'; 99].as_slice(), b"\n"].concat().repeat(1000);
    for _ in 0..25 {
        ranks[0].0.write_all(&lines).expect("a pipe");
    }
    ranks[0].0.write_all(b"end").expect("a pipe");
    // The pipe stays open, and nobody reads the console.
    let output = logs.close_attempt(Duration::ZERO);
    assert_eq!(output.leaked, [0, 1]);
    assert_eq!(texts(&output.tails[0].stdout).last().map(String::as_str), Some("end"));
    let path = folder.path().join("attempt_0/0/stdout.log");
    assert_eq!(fs_err::metadata(path).expect("a file").len(), 2_500_003);
    drop(stdout);
    let losses = logs.finish(PATIENCE).stdout;
    assert!(losses.total().lines > 10_000, "{losses:?}");
}

#[test]
fn a_slow_reader_that_recovers_is_told_how_many_lines_it_missed() {
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let (stderr, to_stderr) = std::io::pipe().expect("a pipe");
    let config = config(2, spec(), None);
    let mut logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("start");
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    let line = [[b'x'; 99].as_slice(), b"\n"].concat().repeat(1000);
    for _ in 0..100 {
        ranks[0].0.write_all(&line).expect("the pump reads");
    }
    let shown = Reader::start(stdout);
    let mut notice = String::new();
    BufReader::new(stderr).read_line(&mut notice).expect("a line");
    ranks[0].0.write_all(b"again\n").expect("a pipe");
    drop(ranks);
    logs.close_attempt(PATIENCE);
    let losses = logs.finish(PATIENCE);
    let lost = losses.stdout.slow.lines;
    assert_eq!(notice, format!("[nvlaunch] {lost} lines were not shown: stdout is too slow\n"));
    let shown = shown.text();
    assert_eq!(shown.lines().count() as u64 + lost, 100_001);
    assert!(shown.lines().all(|l| l.len() == 108 || l == "[rank 0] again"));
    assert!(shown.ends_with("[rank 0] again\n"));
}

#[test]
fn a_closed_console_stops_nothing_and_is_counted() {
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    drop(stdout);
    let (stderr, to_stderr) = std::io::pipe().expect("a pipe");
    let config = config(2, spec(), None);
    let mut logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("start");
    let said = Reader::start(stderr);
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    ranks[0].0.write_all(&b"0123456789\n".repeat(100_000)).expect("a pipe");
    ranks[1].1.write_all(b"still here\n").expect("a pipe");
    drop(ranks);
    logs.close_attempt(PATIENCE);
    let losses = logs.finish(PATIENCE);
    assert_eq!(losses.stdout.closed, Amount { lines: 100_000, bytes: 2_000_000 });
    assert_eq!(losses.stdout.total(), losses.stdout.closed);
    assert!(losses.stderr.total().is_zero());
    assert_eq!(said.text(), "[rank 1] still here\n");
}

#[test]
fn a_console_that_cannot_be_written_is_named() {
    let full = || OwnedFd::from(File::options().write(true).open("/dev/full").expect("a device"));
    let mut logs = Logs::start_on(config(2, spec(), None), full(), full()).expect("start");
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    ranks[0].0.write_all(b"one\n").expect("a pipe");
    drop(ranks);
    logs.close_attempt(PATIENCE);
    let losses = logs.finish(PATIENCE);
    assert_eq!(losses.stdout.failed, Amount { lines: 1, bytes: 13 });
    assert_eq!(losses.stdout.error.as_deref(), Some("No space left on device"));
}

#[test]
fn a_full_disk_is_said_once_and_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rank = folder.path().join("attempt_0/0");
    fs_err::create_dir_all(&rank).expect("a folder");
    fs_err::os::unix::fs::symlink("/dev/full", rank.join("stdout.log")).expect("a link");
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let (stderr, to_stderr) = std::io::pipe().expect("a pipe");
    let config = config(2, tee(), Some(folder.path().to_owned()));
    let mut logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("start");
    let (shown, said) = (Reader::start(stdout), Reader::start(stderr));
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    for _ in 0..1000 {
        ranks[0].0.write_all(b"0123456789\n").expect("a pipe");
    }
    drop(ranks);
    logs.close_attempt(PATIENCE);
    let losses = logs.finish(PATIENCE);
    assert_eq!(losses.files.bytes, 11_000);
    let first = losses.files.first.expect("an error");
    assert_eq!(first.path, rank.join("stdout.log"));
    assert_eq!(first.reason, "No space left on device");
    assert_eq!(shown.text(), "[rank 0] 0123456789\n".repeat(1000));
    let path = first.path.display();
    let expected =
        format!("[nvlaunch] cannot write `{path}`: No space left on device; the job goes on\n");
    assert_eq!(said.text(), expected);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs_err::create_dir_all(folder.path().join("attempt_0/1/stderr.log")).expect("a folder");
    let config = config(2, tee(), Some(folder.path().to_owned()));
    let null = || OwnedFd::from(File::create("/dev/null").expect("the null device"));
    let mut logs = Logs::start_on(config, null(), null()).expect("start");
    let error = logs.open_attempt(0).expect_err("a folder is in the way");
    let path = folder.path().join("attempt_0/1/stderr.log");
    assert_eq!(error.to_string(), format!("cannot open the log file `{}`", path.display()));
    assert_eq!(error.exit_code(), exit_code::CANNOT_CREATE);
    assert!(error.hint().is_some_and(|hint| hint.contains("--log-dir")));
}

#[test]
fn a_hundred_megabytes_without_a_line_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("console");
    let to_stdout = File::create(&path).expect("a file");
    let to_stderr = File::create("/dev/null").expect("the null device");
    let config = config(2, spec(), None);
    let mut logs = Logs::start_on(config, to_stdout.into(), to_stderr.into()).expect("start");
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    let chunk = vec![b'x'; 1_000_000];
    for _ in 0..100 {
        ranks[1].0.write_all(&chunk).expect("a pipe");
    }
    drop(ranks);
    let output = logs.close_attempt(PATIENCE);
    assert_eq!(output.tails[1].stdout, [vec![b'x'; 64 * 1024]]);
    assert!(logs.finish(PATIENCE).is_none());
    let pieces = 100_000_000_u64.div_ceil(split::MAX_LINE as u64);
    let expected = 100_000_000 + pieces * 10;
    assert_eq!(fs_err::metadata(&path).expect("a file").len(), expected);
}

#[test]
fn bars_are_not_one_line_for_each_update_but_raw_in_the_file() {
    let mut bench = bench(2, tee(), ConsoleConfig::default());
    let mut ranks = bench.open();
    let bar = (0..=1000).map(|i| format!("\r{i}/1000")).collect::<Vec<_>>().concat();
    ranks[0].1.write_all(bar.as_bytes()).expect("a pipe");
    ranks[0].1.write_all(b"\nafter\n").expect("a pipe");
    ranks[1].1.write_all(bar.as_bytes()).expect("a pipe");
    drop(ranks);
    let output = bench.logs.close_attempt(PATIENCE);
    assert_eq!(bench.file("1/stderr.log"), bar.as_bytes());
    assert_eq!(texts(&output.tails[0].stderr), ["1000/1000", "after"]);
    assert!(bench.logs.finish(PATIENCE).is_none());
    let text = bench.stderr.text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 0] 1000/1000", "[rank 0] after", "[rank 1] 1000/1000"]);
}

#[test]
fn on_a_terminal_a_bar_is_a_live_line() {
    let (mut terminal, to_terminal) = std::io::pipe().expect("a pipe");
    let both = to_terminal.try_clone().expect("a copy");
    let console = ConsoleConfig {
        stdout_is_terminal: true,
        stderr_is_terminal: true,
        same_terminal: true,
        ..ConsoleConfig::default()
    };
    let config = LogConfig { console, ..config(2, spec(), None) };
    let mut logs = Logs::start_on(config, to_terminal.into(), both.into()).expect("start");
    let mut ranks = pipes(logs.open_attempt(0).expect("an attempt opens"));
    ranks[0].1.write_all(b"\r 50%").expect("a pipe");
    let mut drawn = [0; 17];
    terminal.read_exact(&mut drawn).expect("the bar is drawn");
    assert_eq!(String::from_utf8_lossy(&drawn), "\r\u{1b}[K[rank 0]  50%");
    ranks[1].0.write_all(b"hello\n").expect("a pipe");
    let mut around = [0; 36];
    terminal.read_exact(&mut around).expect("the line, and the bar again");
    let expected = "\r\u{1b}[K[rank 1] hello\n\r\u{1b}[K[rank 0]  50%";
    assert_eq!(String::from_utf8_lossy(&around), expected);
    drop(ranks);
    logs.close_attempt(PATIENCE);
    assert!(logs.finish(PATIENCE).is_none());
    assert_eq!(Reader::start(terminal).text(), "\r\u{1b}[K[rank 0]  50%\n");
}

#[test]
fn identical_lines_are_joined_on_a_terminal() {
    let console = ConsoleConfig { stdout_is_terminal: true, ..ConsoleConfig::default() };
    let mut bench = bench(4, LogSpec { fold: true, ..spec() }, console);
    let mut ranks = bench.open();
    for rank in &mut ranks {
        rank.0.write_all(b"same\n").expect("a pipe");
        rank.1.write_all(b"apart\n").expect("a pipe");
    }
    drop(ranks);
    let (_, losses, stdout, stderr) = bench.end();
    assert!(losses.is_none());
    // A busy machine may need more than the moment that lines wait for each other.
    let joined = stdout.text();
    let mut said: Vec<u32> = Vec::new();
    for line in joined.lines() {
        assert!(line.ends_with("] same"), "{line}");
        let inside = line.trim_start_matches("[ranks ").trim_start_matches("[rank ");
        for range in inside.trim_end_matches("] same").split(',') {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            said.extend(from.parse::<u32>().expect("a rank")..=to.parse().expect("a rank"));
        }
    }
    said.sort_unstable();
    assert_eq!(said, [0, 1, 2, 3]);
    assert_eq!(stderr.text().lines().count(), 4);
}

#[test]
fn lines_of_sixty_four_ranks_never_mix() {
    let mut bench = bench(64, spec(), ConsoleConfig::default());
    let ranks = bench.open();
    let writers: Vec<_> = ranks
        .into_iter()
        .enumerate()
        .map(|(rank, (mut stdout, _))| {
            thread::spawn(move || {
                for line in 0..300 {
                    let text = format!("{rank}:{line}:{}\n", "x".repeat(line % 90));
                    // In two parts, so that lines are cut between reads.
                    let (head, tail) = text.as_bytes().split_at(text.len() / 2);
                    stdout.write_all(head).expect("a pipe");
                    stdout.write_all(tail).expect("a pipe");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer does not panic");
    }
    let (_, losses, stdout, _) = bench.end();
    assert!(losses.is_none());
    let mut next = [0_usize; 64];
    for line in stdout.text().lines() {
        let (prefix, text) = line.split_once("] ").expect("a prefix");
        let rank: usize = prefix.trim_start_matches("[rank ").parse().expect("a number");
        let n = next[rank];
        assert_eq!(text, format!("{rank}:{n}:{}", "x".repeat(n % 90)));
        next[rank] += 1;
    }
    assert_eq!(next, [300; 64]);
}

#[test]
fn a_pipe_that_somebody_holds_does_not_hold_the_end() {
    let mut bench = bench(2, spec(), ConsoleConfig::default());
    let mut ranks = bench.open();
    ranks[1].0.write_all(b"not finished").expect("a pipe");
    let (_, held) = (ranks.remove(0), ranks.remove(0));
    let before = Instant::now();
    let output = bench.logs.close_attempt(Duration::from_millis(50));
    assert!(before.elapsed() < PATIENCE);
    assert_eq!(output.leaked, [1]);
    assert_eq!(texts(&output.tails[1].stdout), ["not finished"]);
    // The next attempt works, and the holder of the old pipe is told that nobody reads.
    let mut again = pipes(bench.logs.open_attempt(1).expect("an attempt opens"));
    again[0].0.write_all(b"second\n").expect("a pipe");
    drop(again);
    let mut held = held.0;
    let error = held.write_all(b"x").expect_err("our end is closed");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    let (_, losses, stdout, _) = bench.end();
    assert!(losses.is_none());
    assert_eq!(stdout.text(), "[rank 1] not finished\n[rank 0] second\n");
}

#[test]
fn a_rank_with_the_terminal_itself_has_no_pipe_for_it() {
    let console = ConsoleConfig {
        stdout_is_terminal: true,
        direct_terminal: Some(0),
        ..ConsoleConfig::default()
    };
    let mut bench = bench(1, spec(), console);
    let opened = bench.logs.open_attempt(0).expect("an attempt opens");
    assert!(matches!(opened[0].stdout, RankOutput::Inherit));
    assert!(matches!(opened[0].stderr, RankOutput::Pipe(_)));
    drop(opened);
    let output = bench.logs.close_attempt(PATIENCE);
    assert_eq!(output.tails, [RankTail::default()]);
    assert!(bench.logs.finish(PATIENCE).is_none());

    let mut filed = self::bench(1, tee(), console);
    let opened = filed.logs.open_attempt(0).expect("an attempt opens");
    assert!(matches!(opened[0].stdout, RankOutput::Pipe(_)));
}

#[test]
fn events_are_lines_of_their_file() {
    let mut bench = bench(1, spec(), ConsoleConfig::default());
    bench.logs.record(b"{\"a\":1}".to_vec());
    bench.logs.record(b"{\"b\":2}\n".to_vec());
    let _ = bench.logs.close_attempt(PATIENCE);
    let path = bench.folder.path().join("events.jsonl");
    assert_eq!(fs_err::read(path).expect("a file"), b"{\"a\":1}\n{\"b\":2}\n");
    assert!(bench.logs.finish(PATIENCE).is_none());
}

#[test]
fn dropping_the_logs_ends_the_threads() {
    let (stdout, to_stdout) = std::io::pipe().expect("a pipe");
    let null = File::create("/dev/null").expect("the null device");
    let logs = Logs::start_on(config(1, spec(), None), to_stdout.into(), null.into());
    drop(logs.expect("start"));
    let (sender, receiver) = mpsc::channel();
    let reader = Reader::start(stdout);
    thread::spawn(move || sender.send(reader.text()));
    assert_eq!(receiver.recv_timeout(PATIENCE).as_deref(), Ok(""));
}
