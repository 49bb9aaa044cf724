//! The rank store, with `PyTorch`'s own clients.

use std::time::Duration;

use crate::answers;
use crate::harness::{Job, Running};

const TABLE: &str = include_str!("scripts/store_table.py");
/// Importing torch in several ranks on a busy machine.
const BOUND: Duration = Duration::from_secs(180);

#[test]
fn every_operation_answers_as_torchs_own_servers_do() {
    let end = Job::new().script(TABLE).run_within(BOUND).expect_code(0);
    let agreed = answers::agreed(&end.stdout);
    assert!(agreed.cases >= 30, "only {} cases", agreed.cases);
    println!("store: {agreed}");
}

/// A client by hand: `VALIDATE`, then it counts itself, and sees whether it is alone in its store.
const ALONE: &str = "
import os, socket, struct
key = b'/launch'
with socket.create_connection((os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']))) as s:
    s.sendall(struct.pack('<BIBQ', 0, 0x3C85F7CE, 4, len(key)) + key + struct.pack('<q', 1))
    count, = struct.unpack('<q', s.recv(8, socket.MSG_WAITALL))
    assert count == 1, f'{count} launches share this store'
";

#[test]
fn fifty_times_four_launches_at_once_never_collide() {
    for _ in 0..50 {
        let start = |_| {
            let job = Job::new().args(["--no-python", "python", "-IS", "alone.py"]);
            job.file("alone.py", ALONE).start()
        };
        let four: Vec<Running> = (0..4).map(start).collect();
        for running in four {
            running.end_within(Duration::from_secs(60)).expect_code(0);
        }
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_before_any_rank_starts() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let job = Job::new().args(["--master-port", &port]).script("print('started')");
    let end = job.run().expect_code(71);
    assert_eq!(end.stdout, "");
    assert!(end.stderr.starts_with(&format!("nvlaunch: cannot use port {port}")), "{}", end.stderr);
    assert!(end.stderr.contains("hint: "), "{}", end.stderr);
}

/// The addresses that something listens on at this port, as `/proc/net/tcp` and `tcp6` have them.
fn listens_on(port: u16) -> Vec<String> {
    let lists = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let mut found = Vec::new();
    for line in lists.iter().flatten().flat_map(|list| list.lines().skip(1)) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let (Some(local), Some(&"0A")) = (fields.get(1), fields.get(3))
            && let Some(address) = local.strip_suffix(&format!(":{port:04X}"))
        {
            found.push(address.to_owned());
        }
    }
    found
}

#[test]
fn the_store_listens_on_the_loopback_alone() {
    let script = "import os, sys\nprint(os.environ['MASTER_PORT'], flush=True)\nsys.stdin.read()";
    let job = Job::new().stdin(std::process::Stdio::piped()).script(script);
    let mut running = job.start();
    let port = running.stdout_line("").trim().parse().expect("a port");
    assert_eq!(listens_on(port), ["0100007F"]);
    running.close_stdin();
    running.end_within(BOUND).expect_code(0);
}

/// Rank 0 is gone while the others sit in the store; they still get what they wait for.
const RANK_0_LEAVES: &str = "
import datetime, os
import torch.distributed as dist
rank = int(os.environ['RANK'])
store = dist.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), None, False)
if rank == 0:
    store.set('left', 'by rank 0')
    store.wait(['in/1', 'in/2'], datetime.timedelta(seconds=60))
    os._exit(0)
store.set(f'in/{rank}', '')
pid = int(store.get('pid')) if rank == 2 else None
if rank == 1:
    store.set('pid', '0')
    store.wait(['from 2'], datetime.timedelta(seconds=60))
else:
    store.set('from 2', 'here')
print('has', store.get('left').decode())
";

#[test]
fn the_store_outlives_rank_0() {
    let job = Job::new().args(["--nproc", "3"]).script(RANK_0_LEAVES);
    let end = job.run_within(BOUND).expect_code(0);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 1] has by rank 0", "[rank 2] has by rank 0"]);
}

/// Rank 0 is killed while the others sit in the store; they are ended, and all begin anew.
const RANK_0_IS_KILLED: &str = "
import datetime, os, signal
import torch.distributed as dist
rank, attempt = int(os.environ['RANK']), int(os.environ['TORCHELASTIC_RESTART_COUNT'])
store = dist.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), None, False)
if attempt == 0:
    if rank == 0:
        store.set('left', 'by rank 0')
        store.wait(['in/1', 'in/2'], datetime.timedelta(seconds=60))
        os.kill(os.getpid(), signal.SIGKILL)
    store.set(f'in/{rank}', '')
    store.wait(['never'], datetime.timedelta(seconds=600))
print('empty', not store.check(['left']) and not store.check([f'in/{rank}']))
";

#[test]
fn the_waiters_are_ended_when_rank_0_is_killed_and_the_next_store_is_empty() {
    let job = Job::new().args(["--nproc", "3", "--max-restarts", "1"]).script(RANK_0_IS_KILLED);
    let began = std::time::Instant::now();
    let end = job.run_within(BOUND).expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(60), "the waiters were waited for");
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 0] empty True", "[rank 1] empty True", "[rank 2] empty True"]);
    assert!(end.stderr.contains("attempt 0: rank 0 failed first: SIGKILL"), "{}", end.stderr);
}

const AGAIN: &str = include_str!("scripts/again.py");

/// With the store of another launcher the second group may read where the first one was.
#[test]
fn a_default_group_can_be_made_anew_in_one_process() {
    for (world, times, barrier) in [("2", "20", "0"), ("3", "10", "0"), ("2", "5", "1")] {
        let job = Job::new().args(["--nproc", world]).env("TIMES", times);
        let job = job.env("TORCH_DIST_INIT_BARRIER", barrier).script(AGAIN);
        let end = job.run_within(BOUND).expect_code(0);
        let made = end.stdout.lines().filter(|line| line.ends_with(&format!("made {times}")));
        assert_eq!(made.count().to_string(), world, "{}", end.stdout);
    }
}

/// What real jobs do with the store beyond the default group.
const REAL: &str = include_str!("scripts/real.py");

#[test]
fn ddp_groups_barriers_objects_and_checkpoints_work() {
    for world in [2, 4, 8] {
        let job = Job::new().args(["--nproc", &world.to_string()]).script(REAL);
        let end = job.run_within(BOUND).expect_code(0);
        let sums = end.stdout.lines().filter(|line| line.ends_with(&format!("sum {world}")));
        assert_eq!(sums.count(), world, "{}", end.stdout);
    }
}

const RPC: &str = include_str!("scripts/rpc.py");

#[test]
fn rpc_initialises() {
    let job = Job::new().args(["--nproc", "2"]).script(RPC);
    let end = job.run_within(BOUND).expect_code(0);
    assert_eq!(end.stdout, "[rank 0] sum 2\n", "{}", end.stderr);
}

/// A named port is the same in each attempt, and the second one finds nothing of the first.
#[test]
fn a_named_port_serves_every_attempt_with_an_empty_store() {
    let script = "
import os, sys
import torch.distributed as dist
attempt = os.environ['TORCHELASTIC_RESTART_COUNT']
store = dist.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), None, False)
print('attempt', attempt, os.environ['MASTER_PORT'], store.check(['old']), flush=True)
store.set('old', 'x')
if attempt == '0':
    os._exit(3)
";
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = free.local_addr().expect("bound").port().to_string();
    drop(free);
    let job = Job::new().args(["--master-port", &port, "--max-restarts", "1"]).script(script);
    let end = job.run_within(BOUND).expect_code(0);
    let lines: Vec<&str> = end.stdout.lines().collect();
    let expected = [format!("attempt 0 {port} False"), format!("attempt 1 {port} False")];
    assert_eq!(lines, expected);
}

#[test]
fn torchs_own_way_is_a_word_away() {
    let script = "
import os, torch, torch.distributed as dist
dist.init_process_group('gloo')
one = torch.ones(1)
dist.all_reduce(one)
print(os.environ['TORCHELASTIC_USE_AGENT_STORE'], int(one), flush=True)
dist.barrier()
# The interpreter's end can abort in PyTorch (\"terminate called\"), whoever launched it.
os._exit(0)
";
    let job = Job::new().args(["--nproc", "2", "--store", "rank0"]).script(script);
    let end = job.run_within(BOUND).expect_code(0);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 0] False 2", "[rank 1] False 2"]);
}
