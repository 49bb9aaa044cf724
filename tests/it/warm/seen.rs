//! A table of scripts that print what a script can see of its process, each run cold and warm.
//!
//! Compared are each line that a rank printed, by its name (`NAME: VALUE`), the order of these
//! lines, what it wrote to stderr, and how the launch ended. A line that begins with `~` holds what
//! each process has for itself; of these it is compared whether the ranks of a launch have the same.
//! Every difference must stand in [`DIFFERENCES`], and each of these must be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::table::{ROWS, Row};
use crate::harness::{End, Job};

/// For one launch on a busy machine.
const ONE: Duration = Duration::from_secs(90);
/// Launches that run at the same time.
const TOGETHER: usize = 2;

/// What was seen of one launch: the value of each thing that is compared.
type Seen = BTreeMap<String, String>;

/// One way in which a warm rank is not as a cold one.
#[derive(Debug)]
struct Difference {
    /// The rows where it is allowed and must be seen.
    rows: &'static [&'static str],
    /// The name of the line; `*` at its end is any text.
    line: &'static str,
    /// Why it is so, and why that does no harm.
    why: &'static str,
}

impl Difference {
    fn is(&self, row: &str, line: &str) -> bool {
        let fits = match self.line.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => self.line == line,
        };
        fits && self.rows.contains(&row)
    }
}

const fn differs(
    rows: &'static [&'static str],
    line: &'static str,
    why: &'static str,
) -> Difference {
    Difference { rows, line, why }
}

/// All of them.
const DIFFERENCES: &[Difference] = &[
    differs(
        &["modules", "the environment's own site"],
        "module *",
        "modules that were imported once are there: the purpose",
    ),
    differs(
        &["hashes", "seeds"],
        "all ranks: hash*",
        "the seed of hashes cannot change in a running interpreter; nvlaunch says so at the start",
    ),
    differs(
        &["collector"],
        "frozen",
        "what was imported once is left out of collections, so that ranks go on sharing it",
    ),
    differs(
        &["process"],
        "tty, flags of fork without exec",
        "the kernel marks a process that has executed no program since it was forked",
    ),
];

#[test]
fn a_script_cannot_tell_whether_its_rank_is_warm() {
    assert!(ROWS.len() >= 40, "{} rows", ROWS.len());
    let only = std::env::var("NVLAUNCH_TEST_ROW").ok();
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| only.as_ref().is_none_or(|part| row.name.contains(part)))
        .collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (cold, warm) = (launch(row, false), launch(row, true));
            let lines = compare(&cold, &warm);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found
                .extend(lines.into_iter().map(|line| (row.name, line, cold.clone(), warm.clone())));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let is_known = |row: &str, line: &str| DIFFERENCES.iter().any(|known| known.is(row, line));
    let mut wrong: Vec<String> = found
        .iter()
        .filter(|(row, line, ..)| !is_known(row, line))
        .map(|(row, line, cold, warm)| {
            let of = |seen: &Seen| seen.get(line).cloned().unwrap_or_else(|| "-".to_owned());
            format!("{row}: {line}\n  cold  {:?}\n  warm  {:?}", of(cold), of(warm))
        })
        .collect();
    for known in DIFFERENCES {
        let is_seen = |row: &str| found.iter().any(|(r, line, ..)| *r == row && known.is(r, line));
        let missing = known.rows.iter().filter(|row| !is_seen(row));
        let missing = missing.filter(|row| rows.iter().any(|ran| ran.name == **row));
        wrong.extend(missing.map(|row| format!("{row}: no longer different: {known:?}")));
    }
    println!(
        "warm: {} rows, {} lines differ, {} reasons",
        rows.len(),
        found.len(),
        DIFFERENCES.iter().map(|known| known.why).collect::<BTreeSet<_>>().len()
    );
    assert!(wrong.is_empty(), "{} things are wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// The names of what is not the same.
fn compare(cold: &Seen, warm: &Seen) -> Vec<String> {
    let names: BTreeSet<&String> = cold.keys().chain(warm.keys()).collect();
    let differs = |name: &&&String| cold.get(**name) != warm.get(**name);
    let mut lines: BTreeSet<String> = BTreeSet::new();
    for name in names.iter().filter(differs) {
        if let Some(rank) = name.strip_suffix(ORDER) {
            // Of the lines that both have.
            let [cold_order, warm_order] = [(cold, warm), (warm, cold)].map(|(one, other)| {
                let lines = one.get(*name).map(String::as_str).unwrap_or_default().lines();
                let both = |line: &&str| other.contains_key(&format!("{rank}{line}"));
                lines.filter(both).collect::<Vec<_>>()
            });
            if cold_order == warm_order {
                continue;
            }
        }
        lines.insert((**name).clone());
    }
    lines.into_iter().collect()
}

/// The name under which the order of a rank's lines is kept.
const ORDER: &str = "the order of lines";

fn launch(row: &Row, is_warm: bool) -> Seen {
    let mut job = Job::new();
    let dir = job.dir.path().to_owned();
    std::fs::create_dir(dir.join("sub")).expect("a folder");
    for (name, bytes) in row.files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        match bytes.strip_prefix(b"-> ") {
            Some(to) => {
                let to = std::str::from_utf8(to).expect("a path");
                std::os::unix::fs::symlink(to, path).expect("a link");
            }
            None => std::fs::write(path, bytes).expect("a file"),
        }
    }
    let stdin = std::fs::File::open(dir.join("stdin"));
    if is_warm {
        job = job.arg(format!("--warm={}", row.modules));
    }
    job = job.args(["--rdzv-id", "job7", "--nproc", if row.is_alone { "1" } else { "2" }]);
    if row.has_logs {
        job = job.args(["-r", "3", "--log-dir", "logs"]);
    }
    for (name, value) in row.env {
        job = job.env(name, value.replace("<dir>", &dir.display().to_string()));
    }
    job = job.args(row.args.iter().map(|arg| arg.replace("<dir>", &dir.display().to_string())));
    let end = job.stdin(stdin.map_or_else(|_| Stdio::null(), Stdio::from)).run_within(ONE);
    let said = format!("{}: {}", row.name, end.stderr);
    if is_warm {
        assert!(end.stderr.contains("note: ranks start warm"), "{said}");
        assert!(!end.stderr.contains("start cold"), "{said}");
    }
    look(row, &end)
}

/// Everything to compare of one launch.
fn look(row: &Row, end: &End) -> Seen {
    let dir = end.dir.path();
    let ranks = if row.is_alone { 1 } else { 2 };
    let mut run_folder = String::from("<no run folder>");
    let outputs: Vec<[Vec<u8>; 2]> = if row.has_logs {
        let run = std::fs::read_dir(dir.join("logs")).expect("logs").next().expect("a run");
        let run = run.expect("an entry");
        run_folder = run.file_name().into_string().expect("a name");
        let attempt = run.path().join("attempt_0");
        let read = |rank: usize, name: &str| {
            std::fs::read(attempt.join(rank.to_string()).join(name)).expect("a log of the rank")
        };
        (0..ranks).map(|rank| ["stdout.log", "stderr.log"].map(|name| read(rank, name))).collect()
    } else {
        vec![[end.raw_stdout.clone(), without_ours(&end.stderr).into_bytes()]]
    };
    let mut seen = Seen::new();
    let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (rank, [stdout, stderr]) in outputs.iter().enumerate() {
        let plain = |bytes: &[u8]| {
            plain(&String::from_utf8_lossy(bytes), dir).replace(&run_folder, "<run>")
        };
        let stdout = plain(stdout);
        let mut order = String::new();
        for line in stdout.lines() {
            let (name, value) = line.split_once(": ").unwrap_or(("other", line));
            if let Some(name) = name.strip_prefix('~') {
                own.entry(name.to_owned()).or_default().push(value.to_owned());
                continue;
            }
            let is_of_run = name.ends_with("MASTER_PORT") || name.ends_with("NVLAUNCH_RUN_ID");
            let value = if is_of_run && !value.is_empty() { "<of the run>" } else { value };
            let all = seen.entry(format!("rank {rank}: {name}")).or_default();
            *all += value;
            all.push('\n');
            order += name;
            order.push('\n');
        }
        seen.insert(format!("rank {rank}: {ORDER}"), order);
        seen.insert(format!("rank {rank}: stderr"), plain(stderr));
    }
    for (name, values) in own {
        let first = &values[0];
        let is_same = values.len() > 1 && values.iter().all(|value| value == first);
        let text = if is_same { "the same in all ranks" } else { "each rank's own" };
        seen.insert(format!("all ranks: {name}"), text.to_owned());
    }
    // What is the same in both ranks is said once.
    let of_all: Vec<(String, String)> = seen
        .iter()
        .filter_map(|(name, value)| {
            let rest = name.strip_prefix("rank 0: ")?;
            let is_same = ranks > 1 && seen.get(&format!("rank 1: {rest}")) == Some(value);
            (is_same || ranks == 1).then(|| (rest.to_owned(), value.clone()))
        })
        .collect();
    for (name, value) in of_all {
        for rank in 0..ranks {
            seen.remove(&format!("rank {rank}: {name}"));
        }
        seen.insert(name, value);
    }
    seen.insert("exit code".to_owned(), format!("{:?} {:?}", end.code, end.signal));
    seen
}

/// What a rank wrote to the console's stderr: without nvlaunch's notes before, and report after.
fn without_ours(stderr: &str) -> String {
    let lines = stderr.split_inclusive('\n').skip_while(|line| line.starts_with("nvlaunch: note"));
    lines.take_while(|line| !line.starts_with("nvlaunch: ")).collect()
}

/// A text without what is another one in each launch: the folder, addresses, process ids.
fn plain(text: &str, dir: &Path) -> String {
    let text = text.replace(&dir.display().to_string(), "<dir>");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("0x") {
        let digits = rest[at + 2..].bytes().take_while(u8::is_ascii_hexdigit).count();
        out += &rest[..at];
        // Addresses have many digits; flags have few.
        if digits >= 10 {
            out += "<address>";
        } else {
            out += &rest[at..at + 2 + digits];
        }
        rest = &rest[at + 2 + digits..];
    }
    out + rest
}
