//! `nvlaunch smoke` with real `PyTorch`: what it proves, and the cause it names where it cannot.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{End, Job, Running, SOON, is_alive, nvlaunch, small_env, venv, wait_until};

/// A busy machine imports `PyTorch` in eight processes at once.
const BOUND: Duration = Duration::from_secs(180);
/// A limit that a rank that hangs comes to, and one that does not never does.
const LIMIT: &str = "40s";
const NO_LIMIT: &str = "170s";

/// What stands in each rank before its program: rank 1 goes wrong as BREAK says.
const BROKEN: &str = "
import importlib, os, signal, time
real = importlib.import_module

def sleepy(*words, **named):
    time.sleep(1000)

def before(function, what):
    def broken(*words, **named):
        what()
        return function(*words, **named)
    return broken

def wrong(function):
    def broken(tensor, *words, **named):
        function(tensor, *words, **named)
        tensor[-1] += 1
    return broken

def import_module(name, *rest):
    module = real(name, *rest)
    if name == 'torch.distributed' and os.environ.get('RANK') == '1':
        kind = os.environ['BREAK']
        signal_self = lambda number: lambda: os.kill(os.getpid(), number)
        if kind == 'sleep':
            module.init_process_group = sleepy
        elif kind == 'kill':
            module.all_gather = before(module.all_gather, signal_self(signal.SIGKILL))
        elif kind == 'stop':
            module.all_gather = before(module.all_gather, signal_self(signal.SIGSTOP))
        elif kind == 'wrong':
            module.all_reduce = wrong(module.all_reduce)
        elif kind == 'fail':
            module.broadcast = before(module.broadcast, lambda: 1 / 0)
    return module

importlib.import_module = import_module
";

fn smoke(words: &[&str]) -> Job {
    Job::new().arg("smoke").args(words)
}

/// A test whose rank 1 goes wrong in this way, with a JSON document.
fn broken(kind: &str, timeout: &str) -> Job {
    let job = smoke(&["--timeout", timeout, "--sizes", "4,64k", "--json"]);
    let path = job.dir.path().to_owned();
    job.file("sitecustomize.py", BROKEN).env("PYTHONPATH", path).env("BREAK", kind)
}

fn document(end: &End) -> Value {
    serde_json::from_str(&end.stdout).unwrap_or_else(|error| panic!("{error}: {}", end.stdout))
}

fn status<'a>(document: &'a Value, name: &str) -> &'a str {
    let checks = document["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no {name}"))["status"].as_str().expect("a word")
}

fn what(document: &Value) -> &str {
    document["cause"]["what"].as_str().unwrap_or_else(|| panic!("no cause: {document}"))
}

#[track_caller]
fn narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// The rules of junit-10.xsd (Jenkins' xUnit plugin) that a file of one suite can break; there is
/// no validator for schemas among the project's packages.
const CHECK_JUNIT: &str = r"
import re, sys, xml.etree.ElementTree as tree
ATTRIBUTES = {
    'testsuite': {'name', 'tests', 'failures', 'errors', 'group', 'time', 'skipped', 'timestamp',
                  'hostname', 'id', 'package', 'file', 'log', 'url'},
    'properties': set(), 'property': {'name', 'value'},
    'testcase': {'name', 'time', 'classname', 'group'},
    'failure': {'type', 'message'}, 'error': {'type', 'message'}, 'skipped': {'type', 'message'},
}
REQUIRED = {'testsuite': {'name', 'tests', 'failures', 'errors'}, 'property': {'name', 'value'},
            'testcase': {'name'}}
BELOW = {'testsuite': {'properties', 'testcase'}, 'properties': {'property'},
         'testcase': {'failure', 'error', 'skipped'}}
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == 'testsuite', root.tag
def check(element):
    given = set(element.attrib)
    assert given <= ATTRIBUTES[element.tag], (element.tag, given)
    assert REQUIRED.get(element.tag, set()) <= given, (element.tag, given)
    if 'time' in given:
        assert re.fullmatch(r'[0-9]+\.[0-9]+', element.get('time')), element.get('time')
    if element.tag in ('testsuite', 'properties'):
        assert not (element.text or '').strip(), element.text
    for child in element:
        assert child.tag in BELOW.get(element.tag, set()), (element.tag, child.tag)
        check(child)
check(root)
cases = root.findall('testcase')
count = lambda tag: sum(1 for case in cases if case.find(tag) is not None)
for attribute, counted in [('tests', len(cases)), ('failures', count('failure')),
                           ('errors', count('error')), ('skipped', count('skipped'))]:
    assert int(root.get(attribute)) == counted, (attribute, root.get(attribute), counted)
failed = [case.get('name') for case in cases if case.find('failure') is not None]
print(len(cases), *failed)
";

/// What a `JUnit` file says: how many cases, and which failed.
fn junit(path: &Path) -> String {
    let mut python = std::process::Command::new(venv("python"));
    let end = python.args(["-c", CHECK_JUNIT]).arg(path).output().expect("Python runs");
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    String::from_utf8_lossy(&end.stdout).trim().to_owned()
}

#[test]
fn two_ranks_prove_it_as_json_and_junit_and_leave_nothing() {
    let job = smoke(&["--json", "--junit", "smoke.xml", "--timeout", NO_LIMIT]);
    let end = job.run_within(BOUND).expect_code(0);
    let document = document(&end);
    assert_eq!(document["version"], 1);
    assert_eq!(document["verdict"], "passed");
    assert_eq!((&document["ranks"], &document["backend"]), (&2.into(), &"gloo".into()));
    assert!(document["cause"].is_null());
    for check in document["checks"].as_array().expect("checks") {
        assert!(check["status"] == "passed" || check["status"] == "skipped", "{check}");
    }
    for step in ["barrier", "all_reduce sum bfloat16", "broadcast", "ring", "bandwidth"] {
        assert_eq!(status(&document, step), "passed", "{step}");
    }
    let sizes = document["all_reduce"].as_array().expect("sizes");
    let sizes: Vec<u64> = sizes.iter().map(|row| row["bytes"].as_u64().expect("a size")).collect();
    assert_eq!(sizes, [4, 64 << 10, 4 << 20, 64 << 20]);
    assert!(document["all_reduce"][3]["bus"].as_f64().expect("a rate") > 1e6);
    for time in ["import", "init", "first_collective"] {
        assert!(document["times"][time].as_f64().expect("a time") > 0.0, "{time}");
    }
    assert_eq!(junit(&end.path("smoke.xml")), "18");
    assert!(end.left_in_tmp().is_empty(), "{:?}", end.left_in_tmp());
}

#[test]
fn four_ranks_are_shown_as_a_table_without_bars_in_a_pipe() {
    let job = smoke(&["--nproc", "4", "--sizes", "4,1m", "--timeout", NO_LIMIT]);
    let end = job.run_within(BOUND).expect_code(0);
    narrow(&end.stdout);
    assert!(end.stdout.starts_with("smoke test: 4 ranks, gloo on cpu, PyTorch "), "{}", end.stdout);
    assert!(end.stdout.contains("\n  1 MiB ") && !end.stdout.contains('█'), "{}", end.stdout);
    assert!(end.stdout.contains("smoke test passed: "), "{}", end.stdout);
}

/// The reader leaves after the first line, as `head` does.
#[test]
fn eight_ranks_into_a_pipe_that_is_closed() {
    let line = "\"$0\" smoke --nproc 8 --sizes 4 --timeout 170s | head -1; exit ${PIPESTATUS[0]}";
    let job = Job::of("bash").args(["-c", line]).arg(nvlaunch());
    let end = job.run_within(BOUND).expect_code(0);
    assert!(end.stdout.starts_with("smoke test: 8 ranks, gloo"), "{}", end.stdout);
    assert_eq!(end.stdout.lines().count(), 1);
}

#[test]
fn a_rank_that_is_killed_or_fails_and_a_wrong_value_are_named() {
    let [killed, failed, wrong] = ["kill", "fail", "wrong"].map(|kind| {
        let end = broken(kind, NO_LIMIT).start().end_within(BOUND).expect_code(1);
        (document(&end), end)
    });
    let (document, end) = &killed;
    let said = what(document);
    assert!(said.starts_with("rank 1 (pid ") && said.ends_with("by SIGKILL in `all_gather`"));
    assert_eq!(status(document, "all_gather"), "failed");
    assert_eq!(status(document, "broadcast"), "passed");
    assert!(end.stderr.contains("nvlaunch: smoke test failed: rank 1 "), "{}", end.stderr);
    let what_failed = "rank 1 failed in `broadcast`: ZeroDivisionError: division by zero";
    assert_eq!(what(&failed.0), what_failed);
    let (document, _) = &wrong;
    assert_eq!(what(document), "`all_reduce sum float32` gives wrong values on rank 1");
    assert_eq!(document["cause"]["lines"][0], "rank 1: index 999 is 19.0 and should be 18");
    assert_eq!(status(document, "all_reduce max int64"), "failed");
    assert_eq!(status(document, "all_gather"), "passed");
}

/// Together: each of them waits for its limit.
#[test]
fn a_rank_that_hangs_or_is_stopped_and_a_wrong_address_are_named_when_time_is_up() {
    let address = ["--master-addr", "10.255.255.1", "--timeout", LIMIT, "--json"];
    let running: Vec<Running> = vec![
        broken("sleep", LIMIT).start(),
        broken("stop", LIMIT).arg("--junit").arg("smoke.xml").start(),
        smoke(&address).start(),
    ];
    let ends: Vec<End> =
        running.into_iter().map(|job| job.end_within(BOUND).expect_code(1)).collect();
    let documents: Vec<Value> = ends.iter().map(document).collect();

    let sleeps = &documents[0]["cause"];
    let said = what(&documents[0]);
    assert!(said.starts_with("rank 1 hangs in `init` after "), "{said}");
    assert_eq!((&sleeps["ranks"], &sleeps["waiting"]), (&vec![1].into(), &vec![0].into()));
    let frame = sleeps["stacks"][0]["frames"][0].as_str().expect("a frame");
    assert!(frame.ends_with("in sleepy") && frame.contains("sitecustomize.py"), "{frame}");
    let lines = sleeps["lines"].to_string();
    assert!(lines.contains("rank 1 has not reached init_process_group"), "{lines}");

    let said = what(&documents[1]);
    assert!(said.starts_with("rank 1 is stopped (state T, pid "), "{said}");
    assert!(said.ends_with("in `all_gather`"), "{said}");
    assert!(ends[1].stderr.contains("`kill -CONT "), "{}", ends[1].stderr);
    assert_eq!(junit(&ends[1].path("smoke.xml")), "18 all_gather");

    let said = what(&documents[2]);
    let expected = "MASTER_ADDR `10.255.255.1` is no address of this machine";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains("both ranks hang in `init`"), "{said}");

    for (document, end) in documents.iter().zip(&ends) {
        let seconds = document["seconds"].as_f64().expect("a time");
        assert!(seconds < 50.0, "all is over when --timeout is: {seconds}");
        assert!(end.left_in_tmp().is_empty(), "{:?}", end.left_in_tmp());
    }
}

#[test]
fn a_port_that_is_in_use_is_the_cause_before_a_rank_is_started() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let job = smoke(&["--master-port", &port, "--json", "--junit", "smoke.xml"]);
    let end = job.run().expect_code(71);
    let document = document(&end);
    assert!(what(&document).starts_with(&format!("cannot use port {port}")), "{document}");
    assert_eq!(status(&document, "launch"), "failed");
    assert_eq!(junit(&end.path("smoke.xml")), "18 launch");
    assert_eq!(end.stderr.matches("cannot use port").count(), 1, "{}", end.stderr);
}

#[test]
fn an_interface_that_does_not_exist_is_preflights_to_refuse_and_gloos_where_nobody_looks() {
    let job = smoke(&["--json", "--junit", "smoke.xml"]).env("GLOO_SOCKET_IFNAME", "nope0");
    let end = job.run().expect_code(69);
    let refused = document(&end);
    assert_eq!(refused["verdict"], "refused");
    assert!(what(&refused).starts_with("preflight: NVL072: no interface here is called nope0"));
    assert_eq!(status(&refused, "launch"), "not_run");
    assert_eq!(junit(&end.path("smoke.xml")), "18 preflight");
    assert!(end.stderr.contains("preflight refuses the launch: NVL072"), "{}", end.stderr);
    assert!(!end.stderr.contains("smoke test"), "one cause is named: {}", end.stderr);

    let unseen = smoke(&["--json", "--preflight", "off", "--timeout", NO_LIMIT]);
    let end = unseen.env("GLOO_SOCKET_IFNAME", "nope0").run_within(BOUND).expect_code(1);
    let unseen = document(&end);
    assert!(what(&unseen).contains(" failed in `init`: "), "{unseen}");
    assert!(unseen["cause"].to_string().contains("nope0"), "{unseen}");
    assert!(unseen["cause"]["hints"].to_string().contains("NVL072"), "{unseen}");
    assert_eq!(status(&unseen, "preflight"), "skipped");
}

/// The root of a machine that is none of this one's.
fn host(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).join("root")
}

/// A backend that this `PyTorch` has not: no other one is tested in its place.
#[test]
fn a_backend_that_cannot_work_here_fails() {
    let one = ["--nproc", "1", "--sizes", "4", "--json", "--timeout", NO_LIMIT];
    let asked = smoke(&one).args(["--backend", "mpi"]);
    let chosen = smoke(&one).arg("--sysroot").arg(host("healthy-h200-nvswitch"));
    for (job, backend, device, step) in
        [(asked, "mpi", "cpu", "init"), (chosen, "nccl", "cuda", "device")]
    {
        let end = job.run_within(BOUND).expect_code(1);
        let document = document(&end);
        assert_eq!((&document["backend"], &document["device"]), (&backend.into(), &device.into()));
        let failed = format!("rank 0 failed in `{step}`: ");
        assert!(what(&document).starts_with(&failed), "{document}");
    }
}

/// The devices of the machine have eccl, and a job with these settings has gloo.
#[test]
fn the_backend_is_that_of_a_job_with_the_same_compat() {
    let job = smoke(&["--nproc", "1", "--sizes", "4", "--json", "--timeout", NO_LIMIT]);
    let job = job.arg("--sysroot").arg(host("healthy-gcu-t20")).env("NVLAUNCH_COMPAT", "cpu");
    let end = job.run_within(BOUND).expect_code(0);
    let document = document(&end);
    assert_eq!((&document["backend"], &document["device"]), (&"gloo".into(), &"cpu".into()));
    assert!(!end.stderr.contains("compat"), "{}", end.stderr);
}

/// The file of rank 0, once it is there.
fn file_of_rank_0(tmp: &Path) -> Option<PathBuf> {
    let runs = std::fs::read_dir(tmp).ok()?.flatten();
    runs.map(|run| run.path().join("rank-0.jsonl")).find(|path| path.exists())
}

#[test]
fn ctrl_c_ends_it_at_any_moment_and_leaves_nothing() {
    let big = "64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m,64m";
    for moment in ["\"begin\", \"step\": \"import\"", "\"begin\", \"step\": \"bandwidth\""] {
        let job = smoke(&["--timeout", NO_LIMIT, "--sizes", big, "--json"]);
        let running = job.start();
        let tmp = running.dir.path().join("tmp");
        let mut text = String::new();
        wait_until(moment, BOUND, || {
            let file = file_of_rank_0(&tmp);
            text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
            text.contains(moment)
        });
        let first: Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        let pid = i32::try_from(first["pid"].as_i64().expect("a pid")).expect("a pid");
        assert!(is_alive(pid));
        running.signal(Signal::SIGINT);
        let end = running.end_within(SOON).expect_code(130);
        let document = document(&end);
        assert_eq!(document["verdict"], "interrupted");
        assert_eq!(what(&document), "ended by SIGINT");
        assert!(!is_alive(pid), "the rank is gone");
        assert!(end.left_in_tmp().is_empty(), "{:?}", end.left_in_tmp());
    }
}

#[test]
fn what_was_typed_wrong_is_said_and_nothing_is_started() {
    for (words, code, said) in [
        (&["--tiemout", "5s"][..], 2, "did you mean `--timeout`?"),
        (&["--timeout", "soon"], 2, "--timeout: `soon` is no time"),
        (&["--sizes", "4,huge"], 2, "--sizes: `huge` is no size"),
        (&["--nnodes", "2"], 2, "several nodes"),
        (&["train.py"], 2, "unexpected word `train.py`"),
        (&["--junit", "no/such/folder/x.xml"], 73, "cannot write `no/such/folder/x.xml`"),
        (&["--profile", "nobody"], 66, "nobody"),
        (&["--python", "/no/python"], 69, "/no/python"),
    ] {
        let end = smoke(words).run();
        assert_eq!(end.code, Some(code), "{words:?}: {}", end.stderr);
        assert!(end.stderr.contains(said), "{words:?}: {}", end.stderr);
        assert!(end.left_in_tmp().is_empty(), "{words:?}");
    }
}

/// As in the pods of a training operator. That the interpreter is missing is what is found last.
#[test]
fn what_the_environment_says_of_a_job_and_its_nodes_is_no_part_of_the_test() {
    let operator = [
        ("PET_NNODES", "2"),
        ("PET_NODE_RANK", "1"),
        ("PET_RDZV_BACKEND", "c10d"),
        ("PET_RDZV_ENDPOINT", "job-master-0:23456"),
    ];
    let trainer = [("PET_NNODES", "2"), ("PET_MASTER_ADDR", "job-0"), ("PET_MASTER_PORT", "29400")];
    let program = [("PET_NO_PYTHON", "1"), ("NVLAUNCH_MODULE", "1")];
    for variables in [
        &operator[..],
        &trainer,
        &program,
        &[("NVLAUNCH_NO_PYTHON", "1")],
        &[("PET_RUN_PATH", "1")],
        &[("NVLAUNCH_NNODES", "2"), ("NVLAUNCH_NODE_RANK", "1")],
    ] {
        let mut job = smoke(&["--python", "/no/python"]);
        for (name, value) in variables {
            job = job.env(name, *value);
        }
        let end = job.run().expect_code(69);
        assert!(end.stderr.contains("/no/python"), "{variables:?}: {}", end.stderr);
    }
}

/// What a job asks of its ranks is no part of the test.
#[test]
fn a_profile_says_how_ranks_are_started_and_not_that_they_are_restarted() {
    let profile = "\
version: 1
geometry:
  nproc: 1
restart:
  max: 5
";
    let job = smoke(&["--profile", "./own.yaml", "--json", "--sizes", "4", "--timeout", NO_LIMIT]);
    let end = job.file("own.yaml", profile).run_within(BOUND).expect_code(0);
    let document = document(&end);
    assert_eq!(document["ranks"], 1);
    assert_eq!(status(&document, "ring"), "skipped");
    assert!(document["all_reduce"][0]["bus"].is_null());
}

#[test]
fn its_program_is_a_script_for_any_launcher() {
    let program = smoke(&["--print-program"]).run().expect_code(0).stdout;
    assert_eq!(program, nvlaunch::smoke::PROGRAM);
    let job = Job::new().args(["--nproc", "2"]).script(&program);
    let end = job.run_within(BOUND).expect_code(0);
    assert_eq!(end.stdout.matches("\"event\": \"done\"").count(), 2, "{}", end.stdout);
}

/// What a backend does not have is skipped; a driver that is broken says nearly the same.
#[test]
fn only_a_backends_own_words_say_that_it_does_not_have_something() {
    let script = "
import smoke
for error in [
    RuntimeError('Backend gloo does not support alltoall_base'),
    RuntimeError('ProcessGroupGloo does not support reduce_scatter'),
    RuntimeError('Invalid scalar type'),
    TypeError('Input tensor data type is not supported for XCCL process group: BFloat16'),
    NotImplementedError('all_to_all'),
    smoke.Unsupported('not implemented'),
    RuntimeError('CUDA error: operation not supported'),
    OSError(95, 'Operation not supported'),
    RuntimeError('Error 803: system has unsupported display driver / cuda driver combination'),
    RuntimeError('Error 802: system not yet initialized; fabric manager is not available'),
    RuntimeError('CUDA error: feature is not implemented'),
]:
    print(int(smoke.is_unsupported(error, str(error))), end='')
";
    let end = Job::python().file("smoke.py", nvlaunch::smoke::PROGRAM).script(script).run();
    assert_eq!(end.expect_code(0).stdout, "11111100000");
}

const WORKFLOW: &str = include_str!("../../examples/ci/github-actions.yml");

#[test]
fn the_workflow_is_yaml_and_its_command_is_one_that_nvlaunch_takes() {
    let workflow: serde_yaml::Value = serde_yaml::from_str(WORKFLOW).expect("YAML");
    let steps = workflow["jobs"]["smoke"]["steps"].as_sequence().expect("steps");
    for step in steps {
        let kinds = ["uses", "run"].iter().filter(|kind| !step[**kind].is_null()).count();
        assert_eq!(kinds, 1, "a step runs something or uses something: {step:?}");
    }
    let runs = steps.iter().filter_map(|step| step["run"].as_str());
    let line = runs.into_iter().find(|run| run.starts_with("nvlaunch ")).expect("the command");
    let words = line.split(' ').map(Into::into).collect();
    let parsed = nvlaunch::cli::parse(words, &nvlaunch::settings::env::Env::default());
    assert!(matches!(parsed, Ok(nvlaunch::cli::Invocation::Smoke(_))), "{parsed:?}");
}

/// A workflow runs in somebody else's repository, and `pip install .` installs that one.
#[test]
fn the_workflows_install_nvlaunch_from_a_checkout_of_its_own() {
    for text in [WORKFLOW, include_str!("../../examples/ci/smoke.yml")] {
        let workflow: serde_yaml::Value = serde_yaml::from_str(text).expect("YAML");
        let jobs = workflow["jobs"].as_mapping().expect("jobs");
        let steps = jobs.values().next().expect("a job")["steps"].as_sequence().expect("steps");
        let own = steps.iter().position(|step| !step["with"]["repository"].is_null());
        let own = own.expect("a checkout of nvlaunch's repository");
        let folder = steps[own]["with"]["path"].as_str().expect("a folder of its own");
        let install = format!("pip install ./{folder}");
        let installed = steps.iter().position(|step| step["run"].as_str() == Some(&install));
        assert!(installed.is_some_and(|installed| installed > own), "{text}");
        assert!(!text.contains("pip install .\n"), "{text}");
    }
}

const PROLOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/slurm/prolog.sh");

/// Slurm's prolog, with stand-ins for what it calls.
#[test]
fn the_prolog_drains_a_node_that_fails_and_no_other() {
    let in_init = "smoke test failed: rank 1 hangs in `init`";
    let in_import = "smoke test failed: all 8 ranks hang in `import` after 58.0 s";
    for (code, said, imports, drains) in [
        (0, "", 0, false),
        (1, in_init, 0, true),
        (69, "preflight refuses the launch: rank 1 hangs in `init`", 0, true),
        (124, in_init, 0, true),
        (2, in_init, 0, false),
        (130, in_init, 0, false),
        // A slow file system, and an interpreter that has no PyTorch.
        (1, in_import, 0, false),
        (1, "smoke test failed: rank 3 hangs before its program began", 0, false),
        (1, in_init, 1, false),
    ] {
        // As Slurm starts it: PATH is not handed on.
        let start = "export -n PATH; source \"$0\"";
        let job = Job::of("bash").args(["-c", start, PROLOG]);
        let dir = job.dir.path().to_owned();
        let tool = |name: &str, body: &str| {
            let path = dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a stand-in");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("it can be executed");
        };
        tool("nvlaunch", &format!("echo \"$@\" > tested; echo '{said}' >&2; exit {code}"));
        tool("python3", &format!("exit {imports}"));
        tool("scontrol", "printf '%s\\n' \"$@\" > drained");
        let path = small_env(&dir)[0].1.clone();
        let path = format!("{}:{}", dir.display(), path.to_string_lossy());
        let job = job.env("PATH", path).env("SLURMD_NODENAME", "node7").env("SLURM_JOB_ID", "42");
        let end = job.run();
        let tested = std::fs::read_to_string(end.path("tested")).unwrap_or_default();
        assert_eq!(
            tested.starts_with("smoke --python /"),
            imports == 0,
            "{tested}: {}",
            end.stderr
        );
        // Slurm drains a node whose prolog fails, and requeues the job; the reason is ours.
        assert_eq!(end.code, Some(i32::from(drains)), "{code}: {}", end.stderr);
        let drained = std::fs::read_to_string(end.path("drained")).unwrap_or_default();
        assert_eq!(drained.contains("nodename=node7"), drains, "{code}: {drained}");
        assert_eq!(drained.contains("rank 1 hangs in `init`"), drains, "{code}: {drained}");
    }
}
