//! 25: what the ranks print, on the console and in files.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::shell;
use crate::harness::{End, Job};

/// A file of the only run below `logs`.
fn log(end: &End, name: &str) -> PathBuf {
    let mut runs = std::fs::read_dir(end.path("logs")).expect("the log folder");
    let run = runs.next().expect("a run").expect("an entry").path();
    assert!(runs.next().is_none(), "one run has one folder");
    run.join(name)
}

fn read(end: &End, name: &str) -> String {
    std::fs::read_to_string(log(end, name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `line 0`, `line 1` and so on, with the same end.
fn numbered(count: u32, end: &str) -> String {
    (0..count).fold(String::new(), |mut text, line| {
        writeln!(text, "line {line}{end}").expect("a text takes all");
        text
    })
}

/// Each rank prints many lines in two pieces each, so that a launcher that passes pieces on would
/// mix them.
const PIECES: &str = "
import os
for line in range(200):
    os.write(1, b'line %d ' % line)
    os.write(1, b'of rank %s\\n' % os.environb[b'RANK'])
";

#[test]
pub fn b25_lines_of_several_ranks_are_whole_and_named() {
    for (args, prefix) in [
        (vec![], "[rank R] "),
        (vec!["--log-line-prefix-template=[${role_name}${local_rank}]:"], "[defaultR]:"),
    ] {
        let job = Job::new().args(["--nproc=2", "-t", "3", "--log-dir", "logs"]).args(args);
        let end = job.script(PIECES).run().expect_code(0);
        let mut lines: Vec<&str> = end.stdout.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<String> = (0..400)
            .map(|n| (n / 2, ["0", "1"][n % 2]))
            .map(|(line, rank)| format!("{}line {line} of rank {rank}", prefix.replace('R', rank)))
            .collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        for rank in [0, 1] {
            let file = read(&end, &format!("attempt_0/{rank}/stdout.log"));
            assert_eq!(file, numbered(200, &format!(" of rank {rank}")));
        }
    }
}

#[test]
pub fn b25_a_progress_bar_stays_one_line() {
    let bar =
        "import os\nfor n in range(50):\n    os.write(2, b'\\r%d/50' % n)\nos.write(2, b'\\n')";
    let job = Job::new().args(["--nproc=2", "-t", "3", "--log-dir", "logs"]).script(bar);
    let end = job.run().expect_code(0);
    for rank in [0, 1] {
        let prefix = format!("[rank {rank}] ");
        let lines: Vec<&str> =
            end.stderr.split('\n').filter(|line| line.starts_with(&prefix)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("49/50"), "{lines:?}");
        // The file has every byte.
        assert!(read(&end, &format!("attempt_0/{rank}/stderr.log")).starts_with("\r0/50\r1/50\r"));
    }
}

#[test]
pub fn b25_files_are_complete_after_a_crash() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; kill -9 $$";
    let job = shell(1, script).env("PET_REDIRECTS", "3").env("PET_LOG_DIR", "logs");
    let end = job.run().expect_code(137);
    assert!(read(&end, "attempt_0/0/stdout.log") == numbered(3000, ""));
    assert!(!end.stdout.contains("line"), "redirected lines are in the file only");
    assert_eq!(read(&end, "attempt_0/0/stderr.log"), "");
}

#[test]
pub fn b25_a_map_reaches_ranks_of_two_digits() {
    let job = shell(12, "echo out $RANK; echo err $RANK >&2");
    let job = job.env("PET_REDIRECTS", "11:1,10:3").env("PET_LOG_DIR", "logs");
    let end = job.run().expect_code(0);
    assert_eq!(read(&end, "attempt_0/11/stdout.log"), "out 11\n");
    assert_eq!(read(&end, "attempt_0/10/stderr.log"), "err 10\n");
    assert!(!log(&end, "attempt_0/9/stdout.log").exists());
    assert!(end.stderr.contains("[rank 11] err 11\n") && !end.stdout.contains("out 11"));
}

#[test]
pub fn b25_an_unfinished_last_line_is_shown_and_the_file_has_its_bytes() {
    let end = shell(2, "printf 'rank %s' $RANK").env("PET_TEE", "3").env("PET_LOG_DIR", "logs");
    let end = end.run().expect_code(0);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 0] rank 0", "[rank 1] rank 1"]);
    assert_eq!(read(&end, "attempt_0/1/stdout.log"), "rank 1");
}

#[test]
pub fn b25_bytes_of_a_rank_alone_reach_the_console_as_they_are() {
    let bytes = "import os\nos.write(1, b'\\xff\\0\\r\\x1b[1m')\nos.write(2, b'\\n\\n\\xfe')";
    let end = Job::new().script(bytes).run().expect_code(0);
    assert_eq!(end.raw_stdout, b"\xff\0\r\x1b[1m");
    assert_eq!(end.raw_stderr, b"\n\n\xfe");
}
