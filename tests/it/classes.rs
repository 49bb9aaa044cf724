//! What kind of failure it was, from the last words of this machine's Python.

use std::fs;
use std::path::Path;
use std::process::Command;

use nvlaunch::diagnose::class::{Class, Evidence, classify};
use nvlaunch::diagnose::exit::Exit;

use crate::harness::{Job, SOON, venv};

/// A script, the words behind it, the class, and a part of the fingerprint.
const SCRIPTS: &[(&str, &[&str], Class, &str)] = &[
    ("def f(:\n    pass\n", &[], Class::Syntax, "t.py:1"),
    ("def f():\nx = 1\n", &[], Class::Syntax, "t.py:2"),
    ("def main():\n    import no_such_thing\nmain()\n", &[], Class::Import, "t.py:2 main"),
    ("from json import no_such_name\n", &[], Class::Import, "t.py:1"),
    ("open('/data/none')\n", &[], Class::MissingFile, "t.py:1"),
    ("raise PermissionError(13, 'Permission denied', '/ckpt')\n", &[], Class::Permission, "t.py:1"),
    (
        "import argparse\nparser = argparse.ArgumentParser()\nparser.parse_args()\n",
        &["--lrr", "3"],
        Class::Arguments,
        "",
    ),
    ("def step():\n    assert 1 == 2, 'no'\nstep()\n", &[], Class::Assertion, "t.py:2 step"),
    ("def step(i):\n    return {}[i]\nstep(3)\n", &[], Class::Unknown, "KeyError at"),
    (
        "try:\n    import no_such_thing\nexcept ImportError as error:\n    raise RuntimeError('x') \
         from error\n",
        &[],
        Class::Import,
        "RuntimeError at",
    ),
    (
        "try:\n    {}[1]\nexcept KeyError:\n    raise ValueError('x')\n",
        &[],
        Class::Unknown,
        "ValueError at",
    ),
    ("import sys\nsys.exit('it cannot go on')\n", &[], Class::Unknown, ""),
];

#[test]
fn this_python_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("t.py");
    for (text, words, class, part) in SCRIPTS {
        fs::write(&script, text).unwrap();
        // From 3.13 on a traceback has colours where they are asked for.
        for colour in [None, Some(("FORCE_COLOR", "1"))] {
            let found = of_run(Path::new("t.py"), dir.path(), words, colour);
            assert_eq!(found.class, *class, "{text}: {found:?}");
            let fingerprint = found.fingerprint.unwrap_or_default();
            assert!(fingerprint.contains(part), "{text}: {fingerprint}");
            assert_eq!(fingerprint.is_empty(), part.is_empty(), "{text}: {fingerprint}");
        }
    }
    let gone = of_run(Path::new("gone.py"), dir.path(), &[], None);
    assert_eq!(gone.class, Class::MissingFile, "{gone:?}");
    let module = of_run(Path::new("-m"), dir.path(), &["no_such_module"], None);
    assert_eq!(module.class, Class::Import, "{module:?}");
}

fn of_run(
    script: &Path,
    dir: &Path,
    words: &[&str],
    env: Option<(&str, &str)>,
) -> nvlaunch::diagnose::class::Classified {
    let mut command = Command::new(venv("python"));
    command.arg(script).args(words).current_dir(dir).env_remove("NO_COLOR").envs(env);
    let out = command.output().unwrap();
    let lines: Vec<Vec<u8>> = out.stderr.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    classify(&Evidence {
        exit: Exit::Code(out.status.code().expect("it ended by itself")),
        error: None,
        stdout: &[],
        stderr: &lines,
        oom: None,
        missing: false,
        steps_done: Some(false),
        final_codes: &[],
    })
}

/// torchrun starts such a job 21 times.
#[test]
fn a_missing_module_ends_a_job_with_restarts_at_once() {
    let script = "
with open('attempts', 'a') as file:
    file.write('x')
import no_such_thing
";
    let attempts = |end: &crate::harness::End| fs::read_to_string(end.dir.path().join("attempts"));
    let end = Job::new().args(["--max-restarts", "20"]).script(script).run();
    assert_eq!((end.code, attempts(&end).unwrap().len()), (Some(1), 1), "{}", end.stderr);
    assert!(end.stderr.contains("a restart cannot help"), "{}", end.stderr);
    // A profile says otherwise.
    let profile = "version: 1\nrestart: {policy: {import: retry}}\n";
    let job = Job::new().file("p.yaml", profile).args(["--profile", "p.yaml"]);
    let end = job.args(["--max-restarts", "2"]).script(script).run();
    assert_eq!((end.code, attempts(&end).unwrap().len()), (Some(1), 3), "{}", end.stderr);
}

/// torchrun starts such a job nine times.
#[test]
fn an_assertion_before_anything_is_known_ends_a_job_at_its_second_time() {
    let script = "
with open('attempts', 'a') as file:
    file.write('x')
assert False, 'the batch size must divide'
";
    for (remedy, attempts) in [("same-again", 2), ("retry", 4), ("never", 1)] {
        let profile = format!("version: 1\nrestart: {{max: 3, policy: {{assertion: {remedy}}}}}\n");
        let job = Job::new().file("p.yaml", &profile).args(["--profile", "p.yaml"]);
        let end = job.script(script).run();
        let seen = fs::read_to_string(end.dir.path().join("attempts")).unwrap();
        assert_eq!((end.code, seen.len()), (Some(1), attempts), "{remedy}: {}", end.stderr);
    }
    let end = Job::new().args(["--max-restarts", "8"]).script(script).run();
    let seen = fs::read_to_string(end.dir.path().join("attempts")).unwrap();
    assert_eq!((end.code, seen.len()), (Some(1), 2), "{}", end.stderr);
}

/// Rank 1 fails and is slow to end; rank 0 loses it, and ends first.
#[test]
fn the_cause_is_what_another_rank_said_of_its_own_end() {
    const SCRIPT: &str = "
import atexit, os, sys, time
def slow():
    while True:
        time.sleep(0.1)
if os.environ['RANK'] == '1':
    FAILS
deadline = time.monotonic() + 120
while not os.path.exists('go') and time.monotonic() < deadline:
    time.sleep(0.01)
raise RuntimeError('[/x/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:1')
";
    const TOLD: &str = "
    import signal
    signal.signal(signal.SIGTERM, lambda *_: {}['told'])
    print('it waits', file=sys.stderr, flush=True)
    slow()
";
    for (fails, class, said, why) in [
        (
            "atexit.register(slow)\n    import no_such_thing",
            "import",
            "ModuleNotFoundError: No module",
            "rank 1: ModuleNotFoundError: No module named 'no_such_thing': a restart cannot help",
        ),
        // After its own end nothing counts any more: a rank that is told to end may fail of that.
        (TOLD, "lost-peer", "it waits", "1 restart was allowed"),
    ] {
        let restarts = if class == "import" { "9" } else { "1" };
        let options = ["--nproc", "2", "--max-restarts", restarts, "--json-report", "report.json"];
        let script = SCRIPT.replace("FAILS", fails);
        let mut job = Job::new().args(options).script(&script).start();
        // It has been read when it is shown.
        job.stderr_line(said);
        fs::write(job.dir.path().join("go"), "").unwrap();
        let end = job.end_within(SOON).expect_code(1);
        let report = crate::doubles::report(&end);
        assert_eq!(report["failure"]["rank"], 0, "{}", end.stderr);
        assert_eq!(report["decision"]["class"], class, "{report:#}");
        assert_eq!(report["decision"]["why"], why, "{report:#}");
        // The other attempt is the one that both ranks see to its end.
        let past = report["past"].as_array().unwrap();
        assert_eq!(past.len(), usize::from(class != "import"), "{}", end.stderr);
        assert!(past.iter().all(|past| past["decision"]["class"] == class), "{report:#}");
    }
}
