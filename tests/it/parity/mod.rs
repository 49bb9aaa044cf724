//! One table of small launches, each run under torchrun and under nvlaunch, and compared.
//!
//! Compared are, as texts under the name of what they are: how the launch ended, which ranks ran in
//! which attempts, each rank's environment (every name), arguments, folder, interpreter and
//! standard input, the lines on the console in any order, the files of the log folder, the error
//! file for the caller, and what is left in the temporary folder.
//!
//! A difference must stand in [`differences::DIFFERENCES`], and each of these must be seen.

mod differences;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Job, small_env};
use differences::DIFFERENCES;
use table::{Row, rows};

/// For the whole of torchrun's side, some minutes of work on a slow machine.
const WHOLE: Duration = Duration::from_secs(900);
/// For one launch.
const ONE: Duration = Duration::from_secs(180);

/// What was seen of one launch: the value of each thing that is compared.
type Seen = BTreeMap<String, String>;

/// One thing that is not the same.
struct Different {
    row: &'static str,
    what: String,
    torchrun: String,
    nvlaunch: String,
}

#[test]
fn nvlaunch_does_what_torchrun_does_less_the_documented_differences() {
    let rows = rows();
    assert!(rows.len() >= 40, "{} rows", rows.len());
    let torchrun = Torchruns::start(&rows);
    let nvlaunch: Vec<Seen> = rows.iter().map(under_nvlaunch).collect();
    let torchrun = torchrun.end(&rows);

    let mut found = Vec::new();
    for ((row, torchrun), nvlaunch) in rows.iter().zip(&torchrun).zip(&nvlaunch) {
        found.extend(compare(row.name, torchrun, nvlaunch));
    }
    let mut wrong: Vec<String> = found
        .iter()
        .filter(|one| !DIFFERENCES.iter().any(|known| known.is(one)))
        .map(|one| {
            let Different { row, what, torchrun, nvlaunch } = one;
            format!("{row}: {what}\n  torchrun  {torchrun:?}\n  nvlaunch  {nvlaunch:?}")
        })
        .collect();
    for known in DIFFERENCES.iter().filter(|known| known.is_here()) {
        let rows: BTreeSet<&str> =
            found.iter().filter(|one| known.is(one)).map(|one| one.row).collect();
        let missing = known.rows.iter().filter(|row| !rows.contains(*row));
        wrong.extend(missing.map(|row| format!("{row}: no longer different: {known:?}")));
        if rows.is_empty() {
            wrong.push(format!("no longer different in any row: {known:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} things are wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// What a template imports here.
const WARM: &str = "json";

#[test]
fn warm_ranks_do_what_cold_ranks_do() {
    let mut found = Vec::new();
    let mut played = 0;
    for row in rows().iter().filter(|row| !row.args.contains(&"--no-python")) {
        played += 1;
        let warm = crate::harness::warm(WARM, || under_nvlaunch(row));
        found.extend(compare(row.name, &under_nvlaunch(row), &warm));
    }
    let found: Vec<String> = found
        .iter()
        // Each run's own.
        .filter(|one| !["env NVLAUNCH_RUN_DIR", "env NVLAUNCH_PROGRESS_FILE"].contains(&&*one.what))
        .map(|one| {
            // The fields have the names of the other comparison.
            let Different { row, what, torchrun: cold, nvlaunch: warm } = one;
            format!("{row}: {what}\n  cold  {cold:?}\n  warm  {warm:?}")
        })
        .collect();
    println!("parity, warm: {played} rows");
    assert!(found.is_empty(), "{} things are wrong\n{}", found.len(), found.join("\n"));
}

/// The program itself sees what the entry point sees in a fork of a process that imported torch.
#[test]
fn the_forks_of_torchrun_do_what_torchrun_does() {
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.name == "restarts").collect();
    let forks = Torchruns::start(&rows);
    let job = prepare(Job::torchrun(), &rows[0]);
    let end = job.run_within(ONE);
    let streams = [&end.stdout, &end.stderr].map(Clone::clone);
    let program = look(end.dir.path(), &rows[0], end.code.expect("it exits"), &streams);
    let fork = forks.end(&rows).remove(0);
    let differences: Vec<String> =
        compare("restarts", &program, &fork).iter().map(|one| one.what.clone()).collect();
    assert_eq!(differences, Vec::<String>::new());
    assert!(program.contains_key("rank 1.1 env RANK"), "{program:?}");
}

fn compare(row: &'static str, torchrun: &Seen, nvlaunch: &Seen) -> Vec<Different> {
    let names: BTreeSet<&String> = torchrun.keys().chain(nvlaunch.keys()).collect();
    // A rank that one of them did not run is in "ranks".
    let ran = |rank: &str, seen: &Seen| seen.contains_key(&format!("rank {rank} argv"));
    // "rank 0.1 env RANK" is about each rank: those that differ, and how many do not.
    let mut of_ranks: BTreeMap<&str, (Vec<Different>, usize)> = BTreeMap::new();
    let mut different = Vec::new();
    for name in names {
        let value = |seen: &Seen| seen.get(name).cloned().unwrap_or_else(|| "-".to_owned());
        let (torchrun_has, nvlaunch_has) = (value(torchrun), value(nvlaunch));
        let is_same = torchrun.get(name) == nvlaunch.get(name);
        let of_rank = name.strip_prefix("rank ").and_then(|rest| rest.split_once(' '));
        let what = of_rank.map_or(name.as_str(), |(_, what)| what);
        let one = || Different {
            row,
            what: what.to_owned(),
            torchrun: torchrun_has.clone(),
            nvlaunch: nvlaunch_has.clone(),
        };
        match of_rank {
            Some((rank, _)) if !ran(rank, torchrun) || !ran(rank, nvlaunch) => {}
            Some(_) => {
                let (differ, same) = of_ranks.entry(what).or_default();
                if is_same { *same += 1 } else { differ.push(one()) }
            }
            None if is_same => {}
            None => different.push(one()),
        }
    }
    for (what, (mut differ, same)) in of_ranks {
        if same > 0 {
            for one in &mut differ {
                one.what = format!("{what} of some ranks");
            }
        }
        different.extend(differ);
    }
    different
}

fn prepare(job: Job, row: &Row) -> Job {
    let dir = job.dir.path().to_owned();
    write_files(&dir, row);
    let stdin = std::fs::File::open(dir.join("stdin")).expect("it was written");
    let vars = row.env.iter().map(|(name, value)| (*name, row.fill(value, &dir)));
    let job = job.env("SEEN", dir.join("seen")).env("SEEN_OPEN", inherited());
    vars.fold(job, |job, (name, value)| job.env(name, value))
        .args(row.args.iter().map(|arg| row.fill(arg, &dir)))
        .stdin(Stdio::from(stdin))
}

fn write_files(dir: &Path, row: &Row) {
    std::fs::create_dir(dir.join("seen")).expect("a new folder");
    let helper = ("seen.py", include_str!("../scripts/seen.py"));
    for (name, text) in row.files.iter().copied().chain([helper, ("stdin", row.stdin)]) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        std::fs::write(&path, row.fill(text, dir)).expect("a file");
        if text.starts_with("#!") {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("it is ours");
        }
    }
}

fn under_nvlaunch(row: &Row) -> Seen {
    let end = prepare(Job::new(), row).run_within(ONE);
    let streams = [&end.stdout, &end.stderr].map(Clone::clone);
    let code = end.code.unwrap_or_else(|| -end.signal.expect("it ended somehow"));
    look(end.dir.path(), row, code, &streams)
}

/// All rows under torchrun, two at a time, by forks of one process.
struct Torchruns {
    dirs: Vec<tempfile::TempDir>,
    driver: crate::harness::Running,
}

impl Torchruns {
    fn start(rows: &[Row]) -> Self {
        let dirs: Vec<_> =
            rows.iter().map(|_| tempfile::tempdir().expect("a folder for the test")).collect();
        let job = |(row, dir): (&Row, &tempfile::TempDir)| {
            let dir = dir.path();
            std::fs::create_dir(dir.join("tmp")).expect("a new folder");
            write_files(dir, row);
            let mut env: BTreeMap<String, String> = small_env(dir)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into_string().expect("text")))
                .collect();
            env.insert("SEEN".to_owned(), dir.join("seen").display().to_string());
            env.insert("SEEN_OPEN".to_owned(), inherited());
            env.extend(row.env.iter().map(|(name, v)| ((*name).to_owned(), row.fill(v, dir))));
            let args: Vec<String> = row.args.iter().map(|arg| row.fill(arg, dir)).collect();
            json!({"dir": dir, "args": args, "env": env, "bound": ONE.as_secs()})
        };
        let jobs: Vec<Value> = rows.iter().zip(&dirs).map(job).collect();
        let text = Value::from(jobs).to_string();
        let driver = Job::python().file("jobs.json", &text);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/scripts/torchruns.py");
        Self { dirs, driver: driver.args([script, "jobs.json", "2"]).start() }
    }

    fn end(self, rows: &[Row]) -> Vec<Seen> {
        self.driver.end_within(WHOLE).expect_code(0);
        let read = |dir: &tempfile::TempDir, name: &str| lossy(&dir.path().join(name));
        let one = |(dir, row): (&tempfile::TempDir, &Row)| {
            let streams = ["stdout", "stderr"].map(|name| read(dir, name));
            look(dir.path(), row, read(dir, "code").parse().expect("a number"), &streams)
        };
        self.dirs.iter().zip(rows).map(one).collect()
    }
}

/// Everything to compare of one launch.
fn look(dir: &Path, row: &Row, code: i32, streams: &[String; 2]) -> Seen {
    let mut seen = Seen::new();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.join("seen")).expect("the folder of the test") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a rank wrote it");
        let facts: Value = serde_json::from_str(&text).expect("a rank wrote it whole");
        let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        of_rank(&mut seen, &name, &facts, dir, row);
        names.push(name);
    }
    names.sort();
    let end = match code {
        0 => "well",
        2 if names.is_empty() => "usage",
        _ => "failed",
    };
    seen.insert("end".to_owned(), end.to_owned());
    seen.insert("exit code".to_owned(), code.to_string());
    seen.insert("ranks".to_owned(), names.join(" "));
    console(&mut seen, streams, dir);
    files(&mut seen, &dir.join("logs"), dir);
    if let Ok(text) = std::fs::read_to_string(dir.join("caller-error.json")) {
        seen.insert("error file for the caller".to_owned(), error_file(&text, dir));
    }
    let left = std::fs::read_dir(dir.join("tmp")).expect("the folder of the test");
    let left: BTreeSet<String> = left
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .map(|name| name.split('_').next().expect("a first part").to_owned())
        .collect();
    let left: Vec<String> = left.into_iter().collect();
    seen.insert("temporary folder".to_owned(), left.join(" "));
    seen
}

fn of_rank(seen: &mut Seen, rank: &str, facts: &Value, dir: &Path, row: &Row) {
    for (name, value) in facts.as_object().expect("seen.py wrote it") {
        let mut put = |what: &str, value: &Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text = text.replace(&dir.display().to_string(), "<dir>");
            seen.insert(format!("rank {rank} {what}"), text);
        };
        match value.as_object() {
            Some(env) => {
                for (name, value) in env {
                    put(&format!("env {name}"), &of_env(name, value, row));
                }
            }
            None => put(name, value),
        }
    }
}

/// What is another one in every launch becomes its kind.
fn of_env(name: &str, value: &Value, row: &Row) -> Value {
    let text = value.as_str().expect("a variable is a text");
    let is_id = text.len() >= 8 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    match name {
        "MASTER_PORT" if text == row.port.to_string() => "<given port>".into(),
        "MASTER_PORT" if text.parse::<u16>().is_ok_and(|port| port > 0) => "<port>".into(),
        "MASTER_ADDR" if text != "127.0.0.1" => "<name of this host>".into(),
        "TORCHELASTIC_RUN_ID" | "NVLAUNCH_RUN_ID" if is_id => "<id>".into(),
        "TORCHELASTIC_ERROR_FILE" => {
            text.find("attempt_").map_or(value.clone(), |at| text[at..].into())
        }
        _ => value.clone(),
    }
}

/// The ranks' own lines, `O:…` and `E:…`, without what stands before them, and these prefixes.
fn console(seen: &mut Seen, streams: &[String; 2], dir: &Path) {
    for ((name, mark), text) in [("stdout", "O:"), ("stderr", "E:")].into_iter().zip(streams) {
        let mut lines = Vec::new();
        let mut prefixes = BTreeSet::new();
        // Indented lines are the last lines, shown again.
        for line in text.lines().filter(|line| !line.starts_with(' ')) {
            let Some(at) = line.find(mark) else { continue };
            lines.push(line[at..].replace(&dir.display().to_string(), "<dir>"));
            let digit = |c: char| if c.is_ascii_digit() { 'N' } else { c };
            prefixes.insert(line[..at].chars().map(digit).collect::<String>());
        }
        lines.sort();
        seen.insert(name.to_owned(), lines.join("\n"));
        if !lines.is_empty() {
            let prefixes: Vec<String> = prefixes.into_iter().collect();
            seen.insert(format!("prefix on {name}"), prefixes.join(" and "));
        }
    }
}

/// Names and contents below a folder of logs, without the name of the run's own folder.
fn files(seen: &mut Seen, logs: &Path, dir: &Path) {
    let Ok(runs) = std::fs::read_dir(logs) else { return };
    for run in runs {
        let run = run.expect("an entry").path();
        let mut folders = vec![run.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.strip_prefix(&run).expect("it is below").display().to_string();
                let text = || lossy(&path);
                let value = match path.file_name().and_then(|name| name.to_str()) {
                    _ if path.is_dir() => "<folder>".to_owned(),
                    Some("events.jsonl") => "<events>".to_owned(),
                    Some("error.json") => error_file(&text(), dir),
                    _ => text(),
                };
                seen.insert(format!("file {name}"), value);
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).expect("it can be read")).into_owned()
}

/// An error file without what is another one each time.
fn error_file(text: &str, dir: &Path) -> String {
    let mut value: Value = serde_json::from_str(text).expect("an error file is JSON");
    for pointer in ["/timestamp", "/message/extraInfo/timestamp"] {
        if let Some(time) = value.pointer_mut(pointer) {
            let is_time = time.as_str().is_some_and(|time| time.parse::<u64>().is_ok());
            *time = if is_time { "<time>".into() } else { time.take() };
        }
    }
    value.to_string().replace(&dir.display().to_string(), "<dir>")
}

/// The open files that this process hands on to those it starts, 0 to 2 aside, as JSON.
fn inherited() -> String {
    let fds = std::fs::read_dir("/proc/self/fd").expect("there is a /proc");
    let names = fds.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let stays = |name: &String| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")).ok();
        let flags = info
            .iter()
            .flat_map(|text| text.lines())
            .find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        flags.is_some_and(|flags| flags & nix::libc::O_CLOEXEC == 0)
    };
    let numbers = names.filter(stays).filter_map(|name| name.parse::<u32>().ok());
    format!("{:?}", numbers.filter(|number| *number > 2).collect::<Vec<_>>())
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("it is bound").port()
}
