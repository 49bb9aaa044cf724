//! 1 to 8: what the ranks are given, and that real `PyTorch` takes it. 26 to 28 and 30: what can be
//! started, how many times, and how fast.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{ENV, environments};
use crate::harness::{Job, nvlaunch, venv, wait_until};
use crate::machine::threads_of;

#[test]
pub fn b01_each_rank_gets_the_arguments_and_its_number() {
    let script = "import os, sys; print(sys.argv, *map(os.environ.get, ('RANK', 'LOCAL_RANK', \
                  'WORLD_SIZE', 'LOCAL_WORLD_SIZE')))";
    let job = Job::new().args(["--nproc-per-node", "2"]).script(script).args(["--x", "1"]);
    let end = job.run().expect_code(0);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "[rank 0] ['script.py', '--x', '1'] 0 0 2 2",
            "[rank 1] ['script.py', '--x', '1'] 1 1 2 2"
        ]
    );
}

#[test]
pub fn b02_every_name_of_the_contract_is_set() {
    let end = Job::new().args(["--nproc", "2", "--max-restarts", "3"]).script(ENV).run();
    let end = end.expect_code(0);
    let of_ranks = environments(&end);
    assert_eq!(of_ranks.len(), 2);
    for (rank, env) in of_ranks {
        let rank = rank.to_string();
        let threads = threads_of(2).map_or(String::new(), |threads| threads.to_string());
        for (name, value) in [
            ("RANK", rank.as_str()),
            ("LOCAL_RANK", &rank),
            ("ROLE_RANK", &rank),
            ("WORLD_SIZE", "2"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("ROLE_WORLD_SIZE", "2"),
            ("GROUP_RANK", "0"),
            ("GROUP_WORLD_SIZE", "1"),
            ("ROLE_NAME", "default"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("TORCHELASTIC_RESTART_COUNT", "0"),
            ("TORCHELASTIC_MAX_RESTARTS", "3"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT"),
            ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
            ("OMP_NUM_THREADS", &threads),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(env["MASTER_PORT"].parse::<u16>().is_ok_and(|port| port > 0));
        assert!(!env["TORCHELASTIC_RUN_ID"].is_empty());
        assert!(env["TORCHELASTIC_ERROR_FILE"].ends_with(&format!("attempt_0/{rank}/error.json")));
    }
}

#[test]
pub fn b03_stale_names_of_the_caller_do_not_reach_the_ranks() {
    let names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"];
    let more = ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_TIMER_FILE", "NVLAUNCH_RUN_DIR"];
    let names = || names.into_iter().chain(more);
    let job = names().fold(Job::new(), |job, name| job.env(name, "stale"));
    let end = job.script(ENV).run().expect_code(0);
    let env = &environments(&end)[&0];
    let stale: Vec<&str> =
        names().filter(|name| env.get(*name).is_some_and(|value| value == "stale")).collect();
    assert_eq!(stale, Vec::<&str>::new());
}

#[test]
pub fn b04_threads_are_limited_only_where_several_ranks_would_fight_and_it_is_said_once() {
    let own = |ranks: u32| threads_of(ranks).map(|threads| threads.to_string());
    let given = |threads: &str| Some(threads.to_owned());
    // ranks, the caller's value, that of the ranks, whether it is said
    for (ranks, given, expected, said) in [
        (2, None, own(2), true),
        (8, None, own(8), true),
        (2, given("6"), given("6"), false),
        // One rank alone is limited by a quota, which OpenMP does not see.
        (1, None, own(1), own(1).is_some()),
        (1, given("6"), given("6"), false),
    ] {
        let job = Job::new().args(["--nproc", &ranks.to_string()]);
        let job = given.into_iter().fold(job, |job, value| job.env("OMP_NUM_THREADS", value));
        let end = job.script(ENV).run().expect_code(0);
        for env in environments(&end).values() {
            assert_eq!(env.get("OMP_NUM_THREADS"), expected.as_ref(), "{ranks} ranks");
        }
        let count = end.stderr.matches("OMP_NUM_THREADS").count();
        assert_eq!(count, usize::from(said), "{}", end.stderr);
    }
}

#[test]
pub fn b05_error_handling_of_nccl_is_the_callers_or_on() {
    for (given, expected) in [(None, "1"), (Some("0"), "0"), (Some("3"), "3")] {
        let name = "TORCH_NCCL_ASYNC_ERROR_HANDLING";
        let job = given.into_iter().fold(Job::new(), |job, value| job.env(name, value));
        let end = job.script(ENV).run().expect_code(0);
        assert_eq!(environments(&end)[&0][name], expected);
    }
}

/// One job for both: importing torch is what takes the time.
#[test]
pub fn b06_b07_pytorch_initialises_without_arguments_and_knows_it_was_launched() {
    // Not both in one process: rank 0 serves the store, and a second group would race with the end
    // of the first one's.
    for backend in ["'gloo'", ""] {
        let script = "
import os, torch, torch.distributed as dist
dist.init_process_group(BACKEND)
one = torch.ones(1)
dist.all_reduce(one)
print(dist.is_torchelastic_launched(), dist.get_rank(), dist.get_world_size(), int(one), flush=True)
dist.barrier()
dist.destroy_process_group()
os._exit(0)
";
        let job = Job::new().args(["--nproc", "2"]).script(&script.replace("BACKEND", backend));
        let end = job.run_within(Duration::from_secs(90)).expect_code(0);
        let mut lines: Vec<&str> = end.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["[rank 0] True 0 2 2", "[rank 1] True 1 2 2"], "{backend}");
    }
}

/// With `--store rank0`, rank 0 does what `PyTorch`'s store does: it binds all addresses with `SO_REUSEADDR`. It goes on
/// only when the other launch's rank 0 listens as well.
const LISTEN: &str = "
import os, socket, sys, time
mine, other = sys.argv[1:]
listener = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if listener.family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind(('', int(os.environ['MASTER_PORT'])))
listener.listen()
open(mine, 'w').close()
end = time.monotonic() + 15
while not os.path.exists(other):
    if time.monotonic() > end:
        sys.exit('the other launch does not listen')
    time.sleep(0.001)
";

#[test]
pub fn b08_two_launches_at_once_never_take_the_same_port_where_rank_0_listens() {
    let dir = tempfile::tempdir().expect("a folder");
    for round in 0..100 {
        let place = |name: &str| dir.path().join(format!("{round}-{name}"));
        let start = |mine: &str, other: &str| {
            let job = Job::new().args(["--store", "rank0"]);
            let job = job.args(["--no-python", "python", "-IS", "listen.py"]);
            job.file("listen.py", LISTEN).arg(place(mine)).arg(place(other)).start()
        };
        let both = [start("a", "b"), start("b", "a")];
        for running in both {
            running.end_within(Duration::from_secs(20)).expect_code(0);
        }
    }
}

#[test]
pub fn b08_two_launches_at_once_of_real_pytorch_do_not_meet() {
    let script = "
import os, torch, torch.distributed as dist
dist.init_process_group('gloo')
one = torch.ones(1)
dist.all_reduce(one)
dist.barrier()
print('port', os.environ['MASTER_PORT'], int(one), flush=True)
os._exit(0)
";
    let start = || Job::new().args(["--nproc", "2"]).script(script).start();
    let ports: Vec<String> = [start(), start()]
        .map(|running| {
            let end = running.end_within(Duration::from_secs(120)).expect_code(0);
            let line = end.stdout.lines().next().expect("a rank printed").to_owned();
            assert!(line.ends_with(" 2"), "{line}");
            line.split(' ').nth(3).expect("the port").to_owned()
        })
        .into();
    assert_ne!(ports[0], ports[1]);
}

#[test]
pub fn b26_modules_programs_and_interpreters() {
    let package = |job: Job| {
        std::fs::create_dir(job.dir.path().join("pkg")).expect("a folder");
        job.file("pkg/__init__.py", "")
            .file("pkg/mod.py", "import sys\nprint(__name__, *sys.argv[1:])")
    };
    let end = package(Job::new()).args(["-m", "pkg.mod", "-x"]).run().expect_code(0);
    assert_eq!(end.stdout, "__main__ -x\n");

    let end = super::shell(1, "echo \"$@\"").arg("a  b").run().expect_code(0);
    assert_eq!(end.stdout, "a  b\n");

    let wrapper =
        format!("#!/bin/sh\necho with \"$1\"\nexec {} \"$@\"\n", venv("python").display());
    let job = Job::new().file("py.sh", &wrapper).env("PYTHON_EXEC", "./py.sh");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(job.dir.path().join("py.sh"), mode).expect("it is ours");
    let end = job.script("print('ran')").run().expect_code(0);
    assert_eq!(end.stdout, "with -u\nran\n");

    let job = Job::new().args(["--nproc", "2"]).script("import sys\nprint(*sys.argv[1:])");
    let end = job.args(["--out=${local_rank}", "$$x"]).run().expect_code(0);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 0] --out=0 $x", "[rank 1] --out=1 $x"]);
}

/// `python -u`: what a rank printed is there although it was killed right afterwards.
#[test]
pub fn b26_python_does_not_buffer() {
    let script = "import os\nprint('seen')\nos.kill(os.getpid(), 9)";
    let end = Job::new().args(["--nproc", "1"]).script(script).run().expect_code(137);
    assert_eq!(end.stdout, "seen\n");
}

#[test]
pub fn b27_ranks_by_number_and_by_what_is_there() {
    let count = |job: Job| {
        let end = job.args(["--no-python", "echo", "here"]).run().expect_code(0);
        end.stdout.lines().count()
    };
    let cpus = std::thread::available_parallelism().expect("there is one").get();
    let hidden = || Job::new().env("CUDA_VISIBLE_DEVICES", "").env("HIP_VISIBLE_DEVICES", "");
    assert_eq!(count(Job::new().args(["--nproc", "3"])), 3);
    assert_eq!(count(Job::new().args(["--nproc", "cpu"])), cpus);
    assert_eq!(count(hidden().args(["--nproc-per-node", "auto"])), cpus);

    let end = hidden().args(["--nproc", "gpu"]).script("").run().expect_code(69);
    let lines: Vec<&str> = end.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("nvlaunch: ") && lines[0].contains("GPU"), "{lines:?}");
    assert!(lines[1].starts_with("hint: "), "{lines:?}");
}

#[test]
pub fn b28_options_as_torchrun_spells_them() {
    let runs = |job: Job, ranks: usize| {
        let end = job.args(["--no-python", "echo", "here"]).run().expect_code(0);
        assert_eq!(end.stdout.lines().count(), ranks, "{}", end.stdout);
    };
    runs(Job::new().env("PET_NPROC_PER_NODE", "2"), 2);
    runs(Job::new().env("PET_NPROC_PER_NODE", "2").args(["--nproc_per_node", "3"]), 3);
    runs(Job::new().env("PET_STANDALONE", "1").args(["--standalone", "--nnodes=1"]), 1);
    let c10d = ["--rdzv-backend=c10d", "--rdzv_endpoint", "localhost:29400", "--rdzv-id=7"];
    runs(Job::new().args(c10d).args(["--rdzv-conf", "join_timeout=60"]), 1);

    for (args, says) in [
        (["--nnodes", "2"], "--nnodes"),
        (["--rdzv-backend", "etcd"], "--rdzv-backend"),
        (["--rdzv-endpoint", "far.example"], "--rdzv-endpoint"),
        (["--node-rank", "1"], "--node-rank"),
    ] {
        let end = Job::new().args(args).script("").run().expect_code(2);
        let first = end.stderr.lines().next().expect("it says why");
        assert!(first.starts_with(&format!("nvlaunch: {says}")), "{}", end.stderr);
        assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
    }
}

#[test]
pub fn b30_it_costs_little_and_leaves_nothing() {
    // The quickest of several: the machine may be busy with other tests.
    let quickest = |make: &dyn Fn() -> Command| {
        let once = || {
            let began = Instant::now();
            assert!(make().output().expect("it starts").status.success());
            began.elapsed()
        };
        (0..15).map(|_| once()).min().expect("there were some")
    };
    let bare = quickest(&|| Command::new("true"));
    let launch = quickest(&|| {
        let mut command = Command::new(nvlaunch());
        command.args(["--nproc", "2", "--no-python", "true"]);
        command
    });
    // Far below what the start of an interpreter with PyTorch costs; `bench` has the milliseconds.
    assert!(launch < bare + Duration::from_millis(500), "{launch:?}, bare {bare:?}");

    let end = Job::new().args(["--nproc", "2", "--no-python", "true"]).run().expect_code(0);
    assert!(end.left_in_tmp().is_empty());
    let job = Job::new().args(["--nproc", "2", "--log-dir", "logs", "-r", "3", "--no-python"]);
    let end = job.arg("true").run().expect_code(0);
    assert!(end.left_in_tmp().is_empty());
    wait_until("the logs", Duration::ZERO, || end.path("logs").is_dir());
}
