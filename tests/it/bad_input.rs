//! What cannot be started: a clear message, a documented exit code, nothing left behind.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::doubles::{assert_none_left, called_by, doubles, fake_rank, launch, marker};
use crate::harness::{End, Job, nvlaunch, venv};

const OK: &str = "print('fine')";

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Replaces what differs between machines and runs.
fn filtered(end: &End) -> String {
    let mut text = end.stderr.clone();
    // The number and its reason are this machine's.
    let is_ours = |line: &&str| !line.starts_with("nvlaunch: note: OMP_NUM_THREADS is ");
    text = text.split_inclusive('\n').filter(is_ours).collect();
    let fake = fake_rank();
    let dir = end.dir.path().display().to_string();
    for (what, word) in [
        (fake.to_str().expect("UTF-8"), "FAKE"),
        (venv("").to_str().expect("UTF-8"), "VENV/"),
        (&dir, "DIR"),
    ] {
        text = text.replace(what, word);
    }
    let mut lines = String::new();
    for line in text.lines() {
        let line = mask_numbers_after(line, &["port ", "= :", "pid ", "after ", "nvlaunch_"]);
        let _ = writeln!(lines, "{line}");
    }
    lines
}

/// `port 4242` becomes `port N`.
fn mask_numbers_after(line: &str, words: &[&str]) -> String {
    let mut line = line.to_owned();
    for word in words {
        if let Some(at) = line.find(word) {
            let from = at + word.len();
            let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
            let len = line[from..].find(is_end).unwrap_or(line.len() - from);
            if len > 0 && line[from..].starts_with(|c: char| c.is_ascii_hexdigit()) {
                line.replace_range(from..from + len, "N");
            }
        }
    }
    line
}

fn section(table: &mut String, name: &str, end: &End) {
    assert!(!end.stderr.contains("panicked"), "{name}: {}", end.stderr);
    assert!(!end.stderr.contains("internal error"), "{name}: {}", end.stderr);
    let code = end.code.map_or_else(|| format!("{:?}", end.signal), |code| code.to_string());
    let _ = writeln!(table, "## {name}: exit code {code}\n{}", filtered(end));
}

fn executable(job: Job, name: &str, text: &str) -> Job {
    let job = job.file(name, text);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(job.dir.path().join(name), mode).expect("its mode can be set");
    job
}

#[test]
fn what_cannot_be_started_is_said_clearly() {
    let taken = TcpListener::bind(("0.0.0.0", 0)).expect("a port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let new = Job::new;
    let cases: Vec<(&str, Job)> = vec![
        ("nothing", new()),
        ("script missing", new().file("train.py", OK).arg("trian.py")),
        ("script is a folder", new().arg("tmp")),
        ("script below a file", new().file("a.py", OK).arg("a.py/b.py")),
        ("no interpreter of that name", new().args(["--python", "/nowhere/python"]).script(OK)),
        ("interpreter not executable", new().file("py", OK).args(["--python", "./py"]).script(OK)),
        ("interpreter is a folder", new().args(["--python", "tmp"]).script(OK)),
        ("no python on PATH", new().env("PATH", "/nowhere").script(OK)),
        ("PATH empty", new().env("PATH", "").script(OK)),
        ("no program", new().args(["--no-python", "no-such-program"])),
        ("program is a folder", new().args(["--no-python", "./tmp"])),
        ("0 ranks", new().args(["--nproc", "0"]).script(OK)),
        ("-1 ranks", new().args(["--nproc", "-1"]).script(OK)),
        ("a million ranks", new().args(["--nproc", "1000000"]).script(OK)),
        ("log folder below a file", new().args(["--log-dir", "script.py/logs"]).script(OK)),
        ("log folder is a file", new().args(["--log-dir", "script.py"]).script(OK)),
        ("log folder cannot be made", new().args(["--log-dir", "/proc/none"]).script(OK)),
        ("TMPDIR missing", new().env("TMPDIR", "/nowhere").script(OK)),
        ("report folder missing", new().args(["--json-report", "none/report.json"]).script(OK)),
        ("report is a folder", new().args(["--json-report", "tmp"]).script(OK)),
        ("port in use", new().args(["--master-port", &port]).script(OK)),
        ("port 70000", new().args(["--master-port", "70000"]).script(OK)),
        (
            "exec format error",
            executable(new(), "prog", "\0\0no program").args(["--no-python", "./prog"]),
        ),
        (
            "bad first line",
            executable(new(), "prog", "#!/nowhere/sh\n").args(["--no-python", "./prog"]),
        ),
        (
            "folder is gone",
            called_by(
                new().arg("script.py"),
                &["sh", "-c", "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"", "sh"],
            ),
        ),
        (
            "64 ranks, 64 open files",
            called_by(
                new().args(["--nproc", "64"]).script(OK),
                &["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"],
            ),
        ),
    ];
    let mut table = String::new();
    for (name, job) in cases {
        let end = job.run();
        assert_eq!(end.stdout, "", "{name}");
        let code = end.code.expect("an exit code");
        assert_ne!(code, 0, "{name}");
        let left = end.left_in_tmp();
        assert!(left.is_empty(), "{name} left {left:?}");
        section(&mut table, name, &end);
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_script_that_may_not_be_read_is_refused() {
    let job = Job::new().script(OK);
    let script = job.dir.path().join("script.py");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o000)).expect("its mode");
    if is_root() {
        return println!("skipped: root may read everything");
    }
    let end = job.run().expect_code(66);
    assert!(end.stderr.contains("may not be read"), "{}", end.stderr);
}

#[test]
fn a_command_line_that_is_too_long_is_refused() {
    let marker = marker();
    // As much as just fits for nvlaunch (a quarter of the stack, 100 kB a word at most), so that
    // it does not fit together with what the ranks' environment has more.
    let limit = "ulimit -s 8192; x=$(printf %0100000d 0); y=$(printf %0${SIZE}d 0); \
                 exec \"$@\" $x $x $x $x $x $x $x $x $x $x $x $x $x $x $x $x $x $x $x $x $y";
    let sizes = (0..40).map(|step| 97_000 - 200 * step);
    let mut ends = sizes.map(|size| {
        let job = launch(&marker, &["--nproc", "2"], "wait");
        called_by(job, &["env", &format!("SIZE={size}"), "sh", "-c", limit, "sh"]).run()
    });
    let end = ends.find(|end| !end.stderr.starts_with("sh: ")).expect("it fits at last");
    let text = &end.stderr;
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(end.code, Some(71), "{text}");
    assert!(text.to_lowercase().contains("argument list too long"), "{text}");
    assert_none_left(&marker);
}

#[test]
fn ranks_keep_the_callers_limit_on_open_files() {
    for (limits, ranks) in [("ulimit -n 64", "2"), ("ulimit -S -n 64", "40")] {
        let marker = marker();
        let job = launch(&marker, &["--nproc", ranks], "limit exit 0");
        let caller = format!("{limits} && exec \"$@\"");
        let end = called_by(job, &["sh", "-c", &caller, "sh"]).run().expect_code(0);
        let ranks: usize = ranks.parse().expect("a number");
        assert_eq!(end.stdout.matches("limit 64\n").count(), ranks, "{}", end.stdout);
    }
}

#[test]
fn a_limit_on_processes_is_said() {
    if !is_root() {
        return println!("skipped: only root can become a user without processes");
    }
    let marker = marker();
    let job = doubles(Job::new(), &marker, &["--nproc", "64", "--log-dir", "/dev/null"], "wait");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(job.dir.path(), open).expect("its mode");
    let limit = "test -x \"$1\" || exit 99; ulimit -u 20 && exec \"$@\"";
    let user = ["--reuid", "54321", "--regid", "54321", "--clear-groups"];
    let caller = [&["setpriv"], &user[..], &["bash", "-c", limit, "sh"]].concat();
    let end = called_by(job, &caller).run();
    if end.code == Some(99) {
        return println!("skipped: {} is not for other users", nvlaunch().display());
    }
    let end = end.expect_code(71);
    assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
    assert!(end.stderr.contains("cannot start"), "{}", end.stderr);
    assert!(end.stderr.contains("hint: a limit on processes"), "{}", end.stderr);
    assert_none_left(&marker);
}

#[test]
fn a_machine_without_proc_is_refused() {
    if !is_root() {
        return println!("skipped: only root can hide /proc");
    }
    let hide = "mount -t tmpfs none /proc && exec \"$@\"";
    let job = Job::new().script(OK);
    let end = called_by(job, &["unshare", "-m", "sh", "-c", hide, "sh"]).run();
    if end.stderr.contains("unshare") || end.stderr.contains("mount") && end.code == Some(1) {
        return println!("skipped: {}", end.stderr);
    }
    let end = end.expect_code(71);
    assert!(end.stderr.contains("there is no /proc"), "{}", end.stderr);
    assert!(end.stderr.contains("hint: "), "{}", end.stderr);
}

#[test]
fn a_full_disk_does_not_end_the_job_and_the_loss_is_said() {
    if !is_root() {
        return println!("skipped: only root can mount a small file system");
    }
    let small = "mount -t tmpfs -o size=64k none tmp && exec \"$@\"";
    let options = ["--log-dir", "tmp", "--tee", "3", "--json-report", "report.json"];
    let job = launch(&marker(), &options, "print 5000 exit 0");
    let end = called_by(job, &["unshare", "-m", "sh", "-c", small, "sh"]).run().expect_code(0);
    assert_eq!(end.stdout.lines().count(), 5000);
    assert!(end.stderr.contains("bytes are missing in log files"), "{}", end.stderr);
    assert!(end.stderr.contains("No space left"), "{}", end.stderr);
}

#[test]
fn a_disk_that_is_full_by_now_ends_no_job() {
    if !is_root() {
        return println!("skipped: only root can mount a small file system");
    }
    // Room for the files of the first attempt: the root, the run folder, its record, two folders and
    // two files.
    let small = "mount -t tmpfs -o nr_inodes=8 none tmp && exec \"$@\"";
    let options = ["--log-dir", "tmp", "-r", "3", "--max-restarts", "1"];
    let job = launch(&marker(), &options, "attempt 1 [ say again exit 0 ] say before exit 3");
    let end = called_by(job, &["unshare", "-m", "sh", "-c", small, "sh"]).run().expect_code(0);
    assert!(end.stderr.contains("has no log files: cannot make the log folder"), "{}", end.stderr);
    assert!(end.stderr.contains("No space left"), "{}", end.stderr);
    // What would have gone to a file is shown.
    assert!(end.stdout.contains("again") && !end.stdout.contains("before"), "{}", end.stdout);
}
