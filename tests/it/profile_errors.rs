//! Profiles that cannot be used: what is said, with which exit code, and how soon.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{End, Job, SOON};

/// Bad profiles, each as the file `bad.yaml`.
const TEXTS: &[(&str, &str)] = &[
    ("empty file", ""),
    ("comments only", "# nothing\n"),
    ("a list", "- version: 1\n"),
    ("a single value", "version\n"),
    ("no version", "geometry:\n  nproc: 2\n"),
    ("version without a value", "version:\n"),
    ("another version", "version: 2\ngeometri: {}\n"),
    ("version not first", "backend: gloo\nversion: 1\n"),
    ("unknown keys", "version: 1\ngeometry:\n  nprc: 2\n  rolle: x\nlogs:\n  tea: 3\n"),
    ("unknown section", "version: 1\ngeometri:\n  nproc: two\n"),
    ("section of another name", "version: 1\nranks:\n  nproc: 2\n"),
    ("key in another section", "version: 1\nlogs:\n  nproc: 2\n"),
    ("key at the top", "version: 1\nnproc: 2\n"),
    ("key with a dot", "version: 1\ngeometry.nproc: 2\n"),
    ("torchrun's names", "version: 1\ngeometry:\n  nproc_per_node: 2\nmax_restarts: 3\n"),
    ("underscores", "version: 1\nshutdown:\n  signal_scope: rank\n"),
    ("variable at the top", "version: 1\nNCCL_DEBUG: INFO\n"),
    ("nothing like it", "version: 1\nrestart:\n  zzz: 1\n"),
    ("key twice", "version: 1\ngeometry:\n  nproc: 2\n\n  # again\n  nproc: 4\n"),
    ("section twice", "version: 1\nlogs: {fold: true}\nlogs: {fold: false}\n"),
    ("twice on one line", "version: 1\nlogs: {fold: true, fold: false}\n"),
    ("map for a value", "version: 1\ngeometry:\n  nproc: {count: 2}\n"),
    ("list for a value", "version: 1\ngeometry:\n  nproc: [2]\n"),
    ("value for a section", "version: 1\ngeometry: 8\n"),
    ("list for a section", "version: 1\ngeometry: [nproc]\n"),
    ("no value", "version: 1\ngeometry:\n  nproc:\nbackend: ~\n"),
    ("time without a unit", "version: 1\nshutdown:\n  timeout: 30\n"),
    ("bad time", "version: 1\nshutdown:\n  timeout: 30 parsecs\n"),
    ("time of ten years", "version: 1\npreflight: {deadline: 10y}\n"),
    ("port out of range", "version: 1\nrendezvous:\n  master-port: 70000\n"),
    ("too many ranks", "version: 1\ngeometry:\n  nproc: 1000000\n"),
    ("no ranks", "version: 1\ngeometry:\n  nproc: 0\n"),
    ("several nodes", "version: 1\ngeometry:\n  nnodes: 1:4\n"),
    ("yes for true", "version: 1\nlogs:\n  fold: yes\n"),
    ("word that is not known", "version: 1\nbinding:\n  numa: nod\n"),
    ("entry of a list", "version: 1\nshutdown:\n  signals-to-handle: [SIGUSR1, SIGUSR3]\n"),
    (
        "findings that there are not",
        "version: 1\npreflight:\n  severity:\n    NVL999: error\n    nvl073: error\n    \
         GPU_PROB_HANG: note\n    NVL042: eror\n",
    ),
    ("variable without a value", "version: 1\nenv:\n  NCCL_DEBUG:\n"),
    ("why without a value", "version: 1\nenv:\n  NCCL_DEBUG: {why: I like it}\n"),
    ("unset: yes", "version: 1\nenv:\n  NCCL_DEBUG: {unset: yes}\n"),
    ("a value and unset", "version: 1\nenv:\n  NCCL_DEBUG: {value: INFO, unset: true}\n"),
    ("key of a variable", "version: 1\nenv:\n  NCCL_DEBUG: {vale: INFO}\n"),
    ("list for a variable", "version: 1\nenv:\n  NCCL_IB_HCA: [mlx5_0, mlx5_1]\n"),
    ("variables of nvlaunch", "version: 1\nenv:\n  MASTER_ADDR: a\n  RANK: 0\n  PET_NNODES: 1\n"),
    ("names of no variable", "version: 1\nenv:\n  NCCL-DEBUG: a\n  '': b\n  1A: c\n"),
    ("NUL in a variable", "version: 1\nenv:\n  A: \"a\\0b\"\n"),
    ("a secret", "version: 1\nenv:\n  HF_TOKEN: sesame-open\n"),
    (
        "secrets on lines with mistakes",
        "version: 1\nenv:\n  HF_TOKEN: {valeu: sesame-open}\n  WANDB_API_KEY:\n    valeu: sesame\n  \
         MY_SECRET: |\n    sesame\n   x\n",
    ),
    ("secrets where no map is", "version: 1\nHF_TOKEN: sesame\npassword: [sesame\n"),
    ("password in an address", "version: 1\nrendezvous:\n  master-addr: http://me:sesame@host/\n"),
    ("match without conditions", "version: 1\nmatch: {}\n"),
    ("vendors that there are not", "version: 1\nmatch:\n  vendor: [nvidia, cuda, grapefruit]\n"),
    ("bad patterns", "version: 1\nmatch:\n  hostname: ['gpu[0-9]', '']\n  slurm-cluster: []\n"),
    ("unknown condition", "version: 1\nmatch:\n  host: a*\n"),
    ("extends nothing", "version: 1\nextends: ''\n"),
    ("extends itself", "version: 1\nextends: bad.yaml\n"),
    ("extends several", "version: 1\nextends: [a, b]\n"),
    ("extends what is not there", "version: 1\nextends: ./bat.yaml\n"),
    ("merge key", "version: 1\nenv: &env {A: b}\nlogs:\n  <<: *env\n"),
    ("tab", "version: 1\ngeometry:\n\tnproc: 2\n"),
    ("tag", "version: 1\ngeometry:\n  nproc: !!int 2\n"),
    ("key of several words", "version: 1\n? [a, b]\n: c\n"),
    ("two documents", "version: 1\n---\nversion: 1\n"),
    ("quote not closed", "version: 1\ngeometry:\n  role: \"trainer\n"),
    ("bracket not closed", "version: 1\nlogs: {fold: true\nbackend: gloo\n"),
    ("indentation", "version: 1\ngeometry:\n    nproc: 2\n  role: x\n"),
    ("colon in a value", "version: 1\ndescription: note: two nodes\n"),
    ("alias of nothing", "version: 1\nbackend: *backend\n"),
    ("alias of what it stands in", "version: 1\nlogs: &logs {dir: *logs}\n"),
    ("several bytes a letter", "version: 1\ngeometry: {rôle: \"é\", größe: 日本}\n"),
    ("control characters", "version: 1\n\"a\\e[31m\\u202e\": \u{7f}\u{1b}[31m\n"),
    ("CRLF", "version: 1\r\ngeometry:\r\n  nprc: 2\r\n"),
    ("byte order mark", "\u{feff}version: 2\n"),
    ("CR alone", "version: 1\rgeometry:\r  nprc: 2\r"),
];

/// The text without what differs between runs.
fn section(name: &str, end: &End) -> String {
    let dir = end.dir.path().display().to_string();
    let mut text = String::new();
    let code = end.code.map_or_else(|| format!("{:?}", end.signal), |code| code.to_string());
    let _ = writeln!(text, "## {name}: exit code {code}");
    for (stream, said) in [("stdout", &end.stdout), ("stderr", &end.stderr)] {
        assert!(!said.contains("panicked") && !said.contains("internal error"), "{name}: {said}");
        assert!(!said.contains("sesame"), "{name} shows a secret: {said}");
        assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{name}: {said:?}");
        if !said.is_empty() {
            let _ = writeln!(text, "-- {stream}\n{}", said.replace(&dir, "DIR").trim_end());
        }
    }
    text + "\n"
}

fn lint(job: Job) -> (End, Duration) {
    let began = Instant::now();
    let end = job.args(["profile", "lint", "bad.yaml"]).run_within(SOON);
    (end, began.elapsed())
}

#[test]
fn every_mistake_in_a_profile_is_shown_at_its_place() {
    let mut table = String::new();
    for (name, text) in TEXTS {
        let (end, _) = lint(Job::new().file("bad.yaml", text));
        assert_eq!(end.code, Some(78), "{name}: {}{}", end.stdout, end.stderr);
        assert_eq!(end.stderr, "", "{name}");
        table.push_str(&section(name, &end));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn files_that_are_no_profile_are_refused_at_once() {
    let in_folder = |make: &dyn Fn(&std::path::Path)| {
        let job = Job::new();
        make(job.dir.path());
        job
    };
    let bytes = |bytes: &[u8]| in_folder(&|dir| fs::write(dir.join("bad.yaml"), bytes).unwrap());
    let text = |text: &str| bytes(text.as_bytes());
    let bomb = |c: char| {
        let before = char::from(c as u8 - 1);
        format!("{c}: &{c} [{}]", vec![format!("*{before}"); 9].join(", "))
    };
    let aliases = ('b'..='z').map(bomb).collect::<Vec<_>>().join("\n");
    let long = format!("version: 1\na: &a {}\nb: [{}]\n", "x".repeat(90_000), "*a, ".repeat(9_000));
    let many: Vec<String> = (0..4_000).map(|n| format!("key{n}: {n}")).collect();
    let cases: Vec<(&str, Job)> = vec![
        ("missing", Job::new()),
        ("missing, with one like it", Job::new().file("bat.yaml", "version: 1\n")),
        ("folder", in_folder(&|dir| fs::create_dir(dir.join("bad.yaml")).unwrap())),
        ("pipe", in_folder(&|dir| mkfifo(&dir.join("bad.yaml"), Mode::S_IRWXU).unwrap())),
        ("device", in_folder(&|dir| symlink("/dev/zero", dir.join("bad.yaml")).unwrap())),
        ("link to nothing", in_folder(&|dir| symlink("gone", dir.join("bad.yaml")).unwrap())),
        ("link to itself", in_folder(&|dir| symlink("bad.yaml", dir.join("bad.yaml")).unwrap())),
        ("300 kB", text(&format!("version: 1\n{}", "# padding\n".repeat(30_000)))),
        ("not UTF-8", bytes(b"version: 1\ngeometry:\n  role: \xc3\xa9\xe9\n")),
        ("UTF-16", bytes(b"\xff\xfev\0e\0r\0")),
        ("UTF-16 without a mark", bytes(b"v\0e\0r\0s\0")),
        ("UTF-32", bytes(b"\xff\xfe\0\0v\0\0\0")),
        ("NUL", bytes(b"version: 1\n# \0\n")),
        ("alias bomb", text(&format!("version: 1\na: &a [x, x, x, x, x, x, x, x]\n{aliases}"))),
        ("aliases of a long text", text(&long)),
        ("100,000 brackets", text(&"[".repeat(100_000))),
        ("100,000 lists", text(&"- ".repeat(100_000))),
        ("maps in maps", text(&"{a: ".repeat(50_000))),
        ("a long line", text(&format!("version: 1\nx{}: 1\n", "y".repeat(200_000)))),
        (
            "a mistake at its end",
            text(&format!("version: 1\nenv: {{A: {}, B}}", "y".repeat(2_000))),
        ),
    ];
    let mut table = String::new();
    let mut slowest = (Duration::ZERO, "");
    for (name, job) in cases {
        let (end, took) = lint(job);
        assert!(matches!(end.code, Some(66 | 78)), "{name}: {}{}", end.stdout, end.stderr);
        slowest = slowest.max((took, name));
        table.push_str(&section(name, &end));
    }
    println!("slowest: {slowest:?}");
    insta::assert_snapshot!(table);
    let (end, _) = lint(text(&format!("version: 1\n{}", many.join("\n"))));
    assert!(end.stdout.ends_with("and 3950 more\n\n4000 errors in 1 file\n"), "{}", end.stdout);
}

#[test]
fn a_launch_says_what_is_wrong_with_its_profile_and_starts_nothing() {
    let script = "print('started', flush=True)";
    let mut table = String::new();
    for (name, text, code) in [
        ("mistakes", Some("version: 1\ngeometry:\n  nprc: 2\nenv: {HF_TOKEN: sesame}\n"), 78),
        ("not there", None, 66),
        ("a warning", Some("version: 1\nenv: {HF_TOKEN: sesame}\n"), 0),
    ] {
        let mut job = Job::new().args(["--preflight", "off", "--profile", "./bad.yaml"]);
        if let Some(text) = text {
            job = job.file("bad.yaml", text);
        }
        let end = job.script(script).run().expect_code(code);
        assert_eq!(end.stdout, if code == 0 { "started\n" } else { "" }, "{name}");
        table.push_str(&section(name, &end));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn lint_looks_through_all_files_and_what_they_extend() {
    let files = || {
        Job::new()
            .file("good.yaml", "version: 1\nextends: base.yaml\n")
            .file("base.yaml", "version: 1\n")
            .file("wrong.yaml", "version: 1\nextends: good.yaml\nbackend: [a]\n")
            .file("onto.yaml", "version: 1\nextends: wrong.yaml\n")
            .file("nowhere.yaml", "version: 1\nextends: none-such\n")
            .file("a.yaml", "version: 1\nextends: b.yaml\n")
            .file("b.yaml", "version: 1\nextends: a.yaml\n")
            .args(["profile", "lint"])
    };
    let good = files().args(["good.yaml", "base.yaml"]).run().expect_code(0);
    assert_eq!(good.stdout, "nothing is wrong in 2 files\n");
    let json = files().args(["good.yaml", "--format", "json"]).run().expect_code(0);
    assert_eq!(json.stdout, "[]\n");
    let missing = files().args(["good.yaml", "gone.yaml"]).run().expect_code(66);
    let all = ["good.yaml", "gone.yaml", "wrong.yaml", "onto.yaml", "nowhere.yaml", "a.yaml"];
    let text = files().args(all).run().expect_code(78);
    let json = files().args(all).args(["--format", "json"]).run().expect_code(78);
    let entries: Vec<serde_json::Value> = serde_json::from_str(&json.stdout).expect("a list");
    let lines: Vec<_> = entries.iter().map(|entry| entry["line"].as_u64()).collect();
    assert_eq!(lines, [None, Some(3), Some(2), Some(2), Some(2)]);
    let mut table = section("one is missing", &missing);
    table.push_str(&section("all", &text));
    table.push_str(&section("all, as JSON", &json));
    insta::assert_snapshot!(table);
}
