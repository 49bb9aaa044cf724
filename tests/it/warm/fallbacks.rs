//! Where ranks cannot be warm, one line says why, and the job runs with cold ranks.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{End, Job, venv};

const SCRIPT: &str = "import os; print('ran', os.environ['RANK'])";

#[track_caller]
fn cold(end: &End, why: &str) {
    let lines: Vec<_> = end.stderr.lines().filter(|line| line.contains("start cold")).collect();
    assert_eq!(lines.len(), 1, "{}", end.stderr);
    assert!(lines[0].contains(why), "{} has no `{why}`", lines[0]);
    assert_eq!(end.stdout.matches("ran ").count(), 2, "{}", end.stdout);
}

#[test]
fn modules_that_cannot_be_imported_once_for_all() {
    for (module, why) in [
        ("raise ValueError('a\\nb')", "`import m` ends with ValueError: a b"),
        ("import sys; sys.exit(3)", "`import m` ends with SystemExit: 3"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            "1 thread(s) survived the import: Thread-1",
        ),
        ("import subprocess; subprocess.Popen(['sleep', '60'])", "a process survived the import"),
        ("import os\nos.environ.get('LOCAL_RANK')", "m reads LOCAL_RANK while it is imported"),
        ("import os\n'RANK' in os.environ", "m reads RANK while it is imported"),
        ("import os\nos.getenv('MASTER_PORT', '1')", "m reads MASTER_PORT while it is imported"),
        ("import os; os._exit(9)", "the template is gone: it ended with exit status: 9"),
        ("import os; os.kill(os.getpid(), 11)", "the template is gone: it ended with signal: 11"),
        ("import time; time.sleep(60)", "the imports took too long"),
    ] {
        let limit = if why.contains("too long") { "300ms" } else { "1m" };
        let options = ["--warm=m", "--nproc", "2", "--warm-timeout", limit];
        let job = Job::new().file("m.py", module).args(options).script(SCRIPT);
        cold(&job.run().expect_code(0), why);
    }
}

#[test]
fn variables_may_be_read_where_they_are_the_same_for_all() {
    let module =
        "import os\nprint('size', os.environ['WORLD_SIZE'], os.environ['OMP_NUM_THREADS'])";
    let job = Job::new().file("m.py", module).args(["--warm=m", "--nproc", "2"]).script(SCRIPT);
    let end = job.run().expect_code(0);
    assert!(!end.stderr.contains("cold"), "{}", end.stderr);
    assert!(end.stderr.contains("nvlaunch: template: size 2 1\n"), "{}", end.stderr);
}

#[test]
fn interpreters_that_are_started_in_another_way() {
    let python = venv("python").display().to_string();
    for (wrapper, why) in [
        (format!("exec {python} -I \"$@\""), "leaves PYTHONPATH out"),
        (format!("exec {python} -E \"$@\""), "leaves PYTHONPATH out"),
        (format!("exec {python} -S \"$@\""), "leaves PYTHONPATH out"),
        (format!("PYTHONPATH= exec {python} \"$@\""), "leaves PYTHONPATH out"),
    ] {
        let job = Job::new().file("wrapper", &format!("#!/bin/sh\n{wrapper}\n"));
        let path = job.dir.path().join("wrapper");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let job = job.args(["--warm=json", "--nproc", "2", "--python", "./wrapper"]).script(SCRIPT);
        cold(&job.run().expect_code(0), why);
    }
}

#[test]
fn a_wrapper_that_changes_nothing_is_no_reason() {
    let python = venv("python").display().to_string();
    // It runs Python before, as wrappers do.
    let wrapper = format!(
        "#!/bin/sh\n{python} -c 'pass' </dev/null\n{python} other.py\nexec {python} \"$@\"\n"
    );
    let job = Job::new().file("wrapper", &wrapper).file("other.py", "pass");
    let path = job.dir.path().join("wrapper");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let job = job.args(["--warm=json", "--nproc", "2", "--python", "./wrapper"]).script(SCRIPT);
    let end = job.run().expect_code(0);
    assert!(!end.stderr.contains("start cold"), "{}", end.stderr);
    assert_eq!(end.stdout.matches("ran ").count(), 2, "{}", end.stdout);
}

#[test]
fn what_is_known_before_anything_starts() {
    let python = venv("python").display().to_string();
    let job = Job::new().file("s.py", SCRIPT).args(["--warm", "--nproc", "2", "--no-python"]);
    cold(&job.args([&python, "s.py"]).run().expect_code(0), "--no-python");
    let options = ["--warm", "--warm-at", "restart", "--nproc", "2"];
    let end = Job::new().args(options).script(SCRIPT).run().expect_code(0);
    cold(&end, "there are no restarts");
}

#[test]
fn a_template_that_cannot_be_made_for_restarts_fails_nothing() {
    let script = "import os, sys; print('ran '); sys.exit(os.environ['NVLAUNCH_ATTEMPT'] == '0')";
    let options = ["--warm=nothing_of_that_name", "--warm-at", "restart", "--max-restarts", "1"];
    let end = Job::new().args(options).script(script).run().expect_code(0);
    cold(&end, "No module named 'nothing_of_that_name'");
}
