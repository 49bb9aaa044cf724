//! What a script can see of its process is the same in a warm and in a cold rank.

use crate::harness::{End, Job};

/// Importing torch on a busy machine.
const TORCH: std::time::Duration = std::time::Duration::from_secs(120);

/// A launch with and without `--warm=json`; `options` before the script.
fn both(options: &[&str], files: &[(&str, &str)], words: &[&str], code: i32) -> [End; 2] {
    [None, Some("--warm=json")].map(|warm| {
        let mut job = Job::new().args(warm).args(options);
        for (name, text) in files {
            job = job.file(name, text);
        }
        let end = job.args(words).run().expect_code(code);
        assert!(!end.stderr.contains("start cold"), "{}", end.stderr);
        end
    })
}

/// What it printed, without what differs from one process to the next.
fn told(end: &End, text: &str) -> String {
    let dir = end.dir.path().display().to_string();
    let lines = text.lines().filter(|line| !line.starts_with("nvlaunch: note:"));
    let mut lines: Vec<String> = lines.map(|line| line.replace(&dir, "DIR")).collect();
    // Ranks write when they like.
    lines.sort();
    lines.join("\n")
}

/// Facts about its process, one a line.
const FACTS: &str = r#"
import json, os, sys, signal, traceback, resource, gc, atexit, threading, inspect, warnings

def fact(name, value):
    print(name, repr(value).replace(os.getcwd(), "DIR"))

main = sys.modules["__main__"]
fact("main", sorted(name for name in vars(main) if name.startswith("__")))
fact("file", __file__)
fact("spec", __spec__ and (__spec__.name, __spec__.origin, __spec__.cached))
fact("cached", getattr(main, "__cached__", "absent"))
fact("loader", type(__loader__).__name__)
fact("builtins", __builtins__.__name__)
fact("doc", __doc__)
fact("argv", sys.argv)
fact("orig_argv", sys.orig_argv)
fact("path", sys.path)
fact("flags", sys.flags)
fact("executable", sys.executable)
fact("stack", [frame.function for frame in inspect.stack()])
fact("sitecustomize", "sitecustomize" in sys.modules)
fact("path hooks", [str(p) for p in sys.path_importer_cache if "/fd/" in str(p)])
fact("frame", str(sys._getframe().f_back).split("file")[-1])
fact("streams", [(s.name, s.mode, s.encoding, s.errors, s.isatty(), s.line_buffering,
                  s.write_through, s.closed, s.seekable()) for s in (sys.stdin, sys.stdout, sys.stderr)])
fact("raw", [type(s.buffer).__name__ for s in (sys.stdin, sys.stdout, sys.stderr)])
fact("std", (sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__))
fact("stdin", sys.stdin.read())
fact("fds", sorted(int(fd) for fd in os.listdir("/proc/self/fd")))
fact("cwd", os.getcwd())
fact("signals", [str(signal.getsignal(n)) for n in sorted(signal.valid_signals()) if n not in (9, 19)])
fact("mask", signal.pthread_sigmask(signal.SIG_BLOCK, []))
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
for key in ("Name", "SigIgn", "SigCgt", "SigBlk", "SigPnd", "ShdPnd", "Cpus_allowed", "Threads", "Umask",
            "NoNewPrivs", "Seccomp", "CoreDumping"):
    fact(key, status.get(key))
fact("session", os.getsid(0) == os.getpid() == os.getpgid(0))
fact("parent", open("/proc/%d/comm" % os.getppid()).read())
limits = [(n, resource.getrlimit(getattr(resource, n))) for n in sorted(dir(resource))
          if n.startswith("RLIMIT_") and n != "RLIMIT_LOCKS"]
fact("limits", limits)
fact("nice", os.nice(0))
fact("affinity", os.sched_getaffinity(0))
fact("scheduler", os.sched_getscheduler(0))
fact("cmdline", open("/proc/self/cmdline", "rb").read())
skip = ("NVLAUNCH_RUN_ID", "NVLAUNCH_RUN_DIR", "TORCHELASTIC_RUN_ID", "MASTER_PORT",
        "TORCHELASTIC_ERROR_FILE")
import re
def clean(value):
    return re.sub("/tmp/[^/]*|DIR/tmp/[^/]*", "TMP", value.replace(os.getcwd(), "DIR"))
env = [(k, clean(v)) for k, v in os.environ.items()]
fact("environ", [(k, v if k not in skip else "set") for k, v in env])
kernel = [e.split("=", 1) for e in open("/proc/self/environ").read().split("\0")[:-1]]
fact("kernel's environ", [e[0] for e in kernel])
fact("kernel's values", all(os.environ[k] == v for k, v in kernel))
import ctypes
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
fact("getenv", all(libc.getenv(k.encode()) == v.encode() for k, v in os.environ.items()))
fact("PYTHONPATH", libc.getenv(b"PYTHONPATH"))
c_environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
names, at = [], 0
while c_environ[at]:
    names.append(c_environ[at].split(b"=")[0])
    at += 1
fact("C environ", names)
import subprocess
seen = subprocess.run(["env"], capture_output=True, text=True).stdout.splitlines()
fact("child's environ", [line.split("=")[0] for line in seen])
fact("gc", (gc.isenabled(), gc.get_threshold(), gc.get_debug()))
fact("threads", [(t.name, t.daemon, t.native_id == os.getpid()) for t in threading.enumerate()])
fact("main thread", threading.current_thread() is threading.main_thread())
fact("hooks", (sys.excepthook is sys.__excepthook__, sys.unraisablehook is sys.__unraisablehook__,
               sys.displayhook is sys.__displayhook__, sys.gettrace(), sys.getprofile()))
fact("last", hasattr(sys, "last_value"))
fact("exception", sys.exc_info())
fact("context", getattr(sys.exc_info()[1], "__context__", None))
fact("recursion", sys.getrecursionlimit())
fact("modules", "torch" in sys.modules)
fact("warnings", len(warnings.filters))
import multiprocessing, random
fact("process", (multiprocessing.current_process().name, multiprocessing.get_start_method()))
fact("authkey", len(multiprocessing.current_process().authkey))
fact("timers", signal.getitimer(signal.ITIMER_REAL))
with open("/proc/self/stat") as stat:
    fields = stat.read().rsplit(") ", 1)[1].split()
fact("tty", fields[4])
fact("exit signal", fields[35])
"#;

#[test]
fn a_script_sees_the_same_process() {
    for options in [&["--nproc", "2"][..], &["--nproc", "1"], &["--nproc", "2", "-m"]] {
        let script = if options.contains(&"-m") { "facts" } else { "facts.py" };
        let words = [script, "a b", "${local_rank}", ""];
        let [cold, warm] = both(options, &[("facts.py", FACTS)], &words, 0);
        let [cold, warm] = [cold, warm].map(|end| told(&end, &end.stdout));
        let differs =
            |(cold, warm): (&str, &str)| (cold != warm).then(|| format!("{cold}\n{warm}"));
        let differences: Vec<_> = cold.lines().zip(warm.lines()).filter_map(differs).collect();
        assert!(differences.is_empty(), "{options:?}\n{}", differences.join("\n"));
        assert_eq!(cold.lines().count(), warm.lines().count(), "{options:?}");
        assert!(cold.lines().count() > 60, "{cold}");
    }
}

#[test]
fn variables_that_python_reads_do_the_same() {
    for variable in [
        "LANG=C",
        "LC_ALL=POSIX",
        "PYTHONSAFEPATH=1",
        "PYTHONDEVMODE=1",
        "PYTHONIOENCODING=latin-1",
        "PYTHONHASHSEED=5",
        "PYTHONWARNINGS=error",
        "PYTHONFAULTHANDLER=1",
        "PYTHONOPTIMIZE=1",
        "PYTHONPATH=lib::/nowhere",
    ] {
        let (name, value) = variable.split_once('=').expect("a variable");
        let run = |warm: Option<&str>| {
            let job = Job::new().env(name, value).args(warm).script(FACTS);
            let end = job.run().expect_code(0);
            assert!(!end.stderr.contains("start cold"), "{}", end.stderr);
            told(&end, &end.stdout)
        };
        let (cold, warm) = (run(None), run(Some("--warm=json")));
        let differs =
            |(cold, warm): (&str, &str)| (cold != warm).then(|| format!("{cold}\n{warm}"));
        let differences: Vec<_> = cold.lines().zip(warm.lines()).filter_map(differs).collect();
        assert!(differences.is_empty(), "{variable}\n{}", differences.join("\n"));
    }
}

#[test]
fn ways_to_end_are_the_same() {
    for (script, code) in [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('a reason')", 1),
        ("import sys; sys.exit()", 0),
        ("def f():\n    1 / 0\nf()", 1),
        ("try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('x') from e", 1),
        ("import os; os._exit(7)", 7),
        ("import os; os.abort()", 134),
        ("import os; os.kill(os.getpid(), 11)", 139),
        ("import atexit, sys; atexit.register(print, 'last'); sys.exit(4)", 4),
        ("import atexit; atexit.register(lambda: 1 / 0)", 0),
        ("class C:\n    def __del__(self): 1 / 0\nC()", 0),
        (
            "import threading, time\nt = threading.Thread(target=lambda: (time.sleep(.1), print('t')))\nt.start()",
            0,
        ),
        ("import os, signal; signal.raise_signal(signal.SIGINT)", 130),
        ("if True:\nx = 1", 1),
        ("raise KeyboardInterrupt", 130),
        ("class E(BaseException): pass\nraise E", 1),
        ("import sys; sys.stdout.write('no newline')", 0),
        ("import sys; sys.excepthook = lambda *a: print('mine', a[0]); 1 / 0", 1),
        ("import warnings; warnings.warn('careful')", 0),
        ("import logging; logging.warning('logged')", 0),
        ("import traceback; traceback.print_stack()", 0),
        ("import faulthandler, sys; faulthandler.dump_traceback()", 0),
    ] {
        let [cold, warm] = both(&[], &[("t.py", script)], &["t.py"], code);
        for (cold, warm, stream) in
            [(&cold, &warm, "stdout"), (&cold, &warm, "stderr")].map(|(c, w, stream)| {
                let of = |end: &End| match stream {
                    "stdout" => told(end, &end.stdout),
                    _ => told(end, &end.stderr),
                };
                (of(c), of(w), stream)
            })
        {
            let [cold, warm] = [cold, warm].map(|text| without_numbers(&text));
            assert_eq!(cold, warm, "{stream} of {script}");
        }
    }
}

/// Times, process and thread ids differ; so does the line on warm times in a report.
fn without_numbers(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("warm start:"));
    let lines = lines.map(|line| {
        let line = line.split("/nvlaunch_").next().unwrap_or_default();
        let word = |word: &str| {
            if word.starts_with("0x") || word.parse::<f64>().is_ok() {
                return "N".to_owned();
            }
            word.to_owned()
        };
        let words: Vec<String> = line
            .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';'))
            .map(word)
            .filter(|word| !matches!(word.as_str(), "s" | "ms"))
            .collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

const MULTIPROCESSING: &str = r#"
import multiprocessing, os, pickle, sys

class Point:
    def __init__(self, x):
        self.x = x

def work(point):
    return type(point).__module__, point.x + int(os.environ["RANK"]), sys.argv[1:]

if __name__ == "__main__":
    again = pickle.loads(pickle.dumps(Point(3)))
    print("pickled", type(again) is Point, type(again).__module__)
    for method in ("spawn", "forkserver", "fork"):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            print(method, pool.apply(work, (Point(1),)))
    print("mp_main", "__mp_main__" in sys.modules)
"#;

#[test]
fn pickles_and_worker_processes_know_the_script() {
    for options in [&["--nproc", "2"][..], &["--nproc", "2", "-m"]] {
        let script = if options.contains(&"-m") { "workers" } else { "workers.py" };
        let files = [("workers.py", MULTIPROCESSING)];
        let [cold, warm] = both(options, &files, &[script, "word"], 0);
        assert_eq!(told(&cold, &cold.stdout), told(&warm, &warm.stdout));
        assert_eq!(warm.stdout.matches("__mp_main__").count(), 4, "{}", warm.stdout);
        assert_eq!(warm.stdout.matches("pickled True __main__").count(), 2, "{}", warm.stdout);
    }
}

#[test]
fn generators_are_not_shared() {
    let script = "
import random, os, uuid, tempfile, multiprocessing.process as process
print('random', random.random())
print('uuid', uuid.uuid4())
print('name', next(tempfile._get_candidate_names()))
print('key', bytes(process.current_process().authkey).hex())
import numpy, torch
print('numpy', numpy.random.rand())
print('torch', torch.rand(1, dtype=torch.double).item(), torch.initial_seed())
";
    let modules = "--warm=random,uuid,tempfile,multiprocessing,numpy,torch";
    let end = Job::new().args([modules, "--nproc", "3"]).script(script);
    let end = end.run_within(TORCH).expect_code(0);
    assert!(!end.stderr.contains("start cold"), "{}", end.stderr);
    for kind in ["random", "uuid", "name", "key", "numpy", "torch"] {
        let of_kind = end.stdout.lines().filter_map(|line| line.split_once(kind)).map(|(_, v)| v);
        let values: std::collections::BTreeSet<&str> = of_kind.collect();
        assert_eq!(values.len(), 3, "{kind}: {}", end.stdout);
    }
}

#[test]
fn the_environments_own_sitecustomize_comes_first_and_stays() {
    for (site, printed) in [
        ("import sys; sys.of_site = 'here'", "here True"),
        ("raise RuntimeError('broken')", "none False"),
    ] {
        let script = "import os, sys; print(getattr(sys, 'of_site', 'none'), \
                      'sitecustomize' in sys.modules, os.environ['PYTHONPATH'], sys.path[1])";
        let run = |warm: Option<&str>| {
            let job = Job::new().args(warm).file("sitecustomize.py", site);
            let path = job.dir.path().to_owned();
            // Not the script's folder, which comes before.
            std::fs::create_dir(path.join("lib")).expect("a folder");
            std::fs::rename(path.join("sitecustomize.py"), path.join("lib/sitecustomize.py"))
                .expect("a file");
            let end = job.env("PYTHONPATH", path.join("lib")).script(script).run().expect_code(0);
            (told(&end, &end.stdout), told(&end, &end.stderr))
        };
        let (cold, warm) = (run(None), run(Some("--warm=json")));
        assert_eq!(cold, warm);
        assert!(warm.0.starts_with(printed), "{warm:?}");
    }
}

#[test]
fn the_only_rank_reads_what_nvlaunch_reads() {
    let script = "import sys; print([line for line in sys.stdin])";
    for warm in [None, Some("--warm=json")] {
        let job = Job::new().args(warm).file("input", "one\ntwo\n").script(script);
        let input = std::fs::File::open(job.dir.path().join("input")).expect("a file");
        let end = job.stdin(input.into()).run().expect_code(0);
        assert_eq!(end.stdout, "['one\\n', 'two\\n']\n");
    }
}
