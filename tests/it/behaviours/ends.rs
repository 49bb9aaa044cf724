//! 12 to 24: how ranks end, and how the job ends because of it or because it is asked to.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{number, shell};
use crate::harness::{Job, Running, SOON, is_alive, nvlaunch, wait_until};

/// Writes the monotonic time to a file when asked to end. `deaf` goes on and says every few
/// milliseconds that it is alive; `polite` ends.
const TOLD: &str = "
import os, signal, sys, time

def write(name, value):
    with open(name + '.part', 'w') as file:
        file.write(str(value))
    os.rename(name + '.part', name)

def told(number, frame):
    write('told', time.monotonic())
    if 'polite' in sys.argv:
        os._exit(0)

rank = os.environ['RANK']
if rank == '0':
    signal.signal(signal.SIGTERM, told)
    write('ready', os.getpid())
    end = time.monotonic() + 30
    while time.monotonic() < end:
        write('alive', time.monotonic())
        time.sleep(0.003)
else:
    while not os.path.exists('ready'):
        time.sleep(0.001)
    if 'fail' in sys.argv:
        write('failed', time.monotonic())
        os._exit(3)
    time.sleep(30)
";

fn told() -> Job {
    Job::new().args(["--nproc", "2", "--shutdown-timeout", "1"]).script(TOLD)
}

#[test]
pub fn b12_the_others_are_told_at_once_and_the_code_is_that_of_the_rank() {
    // The quickest of some: the machine may be busy with other tests.
    let latency = |_| {
        let end = told().args(["fail", "polite"]).run().expect_code(3);
        number(end.dir.path(), "told") - number(end.dir.path(), "failed")
    };
    let quickest = (0..5).map(latency).find(|seconds| (0.0..0.8).contains(seconds));
    assert!(quickest.is_some(), "no rank was told within 0.8 s");
}

#[test]
pub fn b13_the_grace_is_the_same_whoever_began_the_end() {
    let by_rank = told().args(["fail"]).run().expect_code(3);
    let mut running = told().start();
    wait_ready(&mut running);
    running.signal(Signal::SIGTERM);
    let by_signal = running.end_within(SOON).expect_code(143);
    for end in [by_rank, by_signal] {
        let dir = end.dir.path();
        let lived = number(dir, "alive") - number(dir, "told");
        assert!((0.9..3.0).contains(&lived), "{lived} s after TERM");
        assert!(!is_alive(pid(dir, "ready")));
    }
}

fn wait_ready(running: &mut Running) {
    let ready = running.dir.path().join("ready");
    wait_until("the rank is ready", SOON, || ready.exists());
}

#[expect(clippy::cast_possible_truncation, reason = "process ids are small")]
fn pid(dir: &Path, name: &str) -> i32 {
    number(dir, name) as i32
}

#[test]
pub fn b14_a_signal_is_named_and_the_cause_comes_before_its_victims() {
    for (signal, name, code) in [("SEGV", "SIGSEGV", 139), ("KILL", "SIGKILL", 137)] {
        let script = format!("echo $$ >pid.$RANK; [ $RANK = 1 ] && kill -{signal} $$; sleep 30");
        let end = shell(2, &script).run().expect_code(code);
        let report = &end.stderr;
        let cause = format!("nvlaunch: rank 1 failed first: {name}");
        let at = report.find(&cause).unwrap_or_else(|| panic!("no `{cause}` in {report}"));
        let pid = format!("pid {}", pid(end.dir.path(), "pid.1"));
        assert!(report[at..].lines().next().expect("a line").contains(&pid), "{report}");
        let victim = report.find("then rank 0: ").expect("the victim is named");
        assert!(at < victim, "{report}");
    }
}

#[test]
pub fn b15_of_two_failures_the_earlier_is_the_cause() {
    // Rank 0 is deaf to TERM and fails 50 ms after it sees that rank 1 has gone.
    let script = "
if [ $RANK = 1 ]; then until [ -e deaf ]; do sleep 0.01; done; echo $$ >pid; mv pid gone; exit 3; fi
trap '' TERM; >deaf
until [ -e gone ]; do sleep 0.01; done
while grep -qs '^State:.[RSD]' /proc/$(cat gone)/status; do :; done
sleep 0.05; exit 4";
    let end = shell(2, script).run().expect_code(3);
    assert!(end.stderr.contains("rank 1 failed first: exit code 3"), "{}", end.stderr);
    assert!(end.stderr.contains("then rank 0: exit code 4"), "{}", end.stderr);
}

#[test]
pub fn b16_b17_a_recorded_error_is_shown_and_handed_to_the_caller() {
    let script = "
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError('boom')

main()
";
    let job = Job::new().env("TORCHELASTIC_ERROR_FILE", "error.json").script(script);
    let end = job.run_within(Duration::from_secs(60)).expect_code(1);
    assert!(end.stderr.contains("its error file says:\n    Traceback"), "{}", end.stderr);
    assert!(end.stderr.contains("    ValueError: boom\n"), "{}", end.stderr);
    let text = std::fs::read_to_string(end.path("error.json")).expect("the caller's file");
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(value["message"]["message"], "ValueError: boom");
    assert_eq!(value["message"]["errorCode"], 1);
    let stack = value["message"]["extraInfo"]["py_callstack"].as_str().expect("a text");
    assert!(stack.contains("raise ValueError('boom')"), "{stack}");
}

#[test]
pub fn b16_without_an_error_file_the_last_lines_are_shown() {
    let end = Job::new().script("raise ValueError('boom')").run().expect_code(1);
    assert!(end.stderr.contains("its last lines on stderr:\n    Traceback"), "{}", end.stderr);
    assert!(end.stderr.contains("    ValueError: boom\n"), "{}", end.stderr);
}

#[test]
pub fn b18_a_rank_that_ends_well_early_ends_nothing() {
    let script = "[ $RANK = 0 ] && { >gone; exit 0; }
until [ -e gone ]; do sleep 0.01; done; sleep 0.2; echo later; exit $1";
    for (code, word) in [(0, "0"), (5, "5")] {
        let end = shell(2, script).arg(word).run().expect_code(code);
        assert_eq!(end.stdout, "[rank 1] later\n");
    }
}

/// Ranks that count what they are told in a file each, with a child in the background.
const COUNTING: &str = "
import os, signal, subprocess, sys, time
told = []

def count(number, frame):
    told.append(number)
    with open('told.' + os.environ['RANK'], 'w') as file:
        print(*told, file=file)
    if 'polite' in sys.argv:
        time.sleep(0.3)
        os._exit(0)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, count)
child = subprocess.Popen(['sleep', '1000'])
with open('pids.' + os.environ['RANK'], 'w') as file:
    print(os.getpid(), child.pid, file=file)
print('ready', file=[sys.stdout, sys.stderr][int(os.environ['RANK'])], flush=True)
end = time.monotonic() + 60
while time.monotonic() < end and not os.path.exists('enough'):
    time.sleep(0.01)
";

fn counting(args: &[&str]) -> Running {
    let job = Job::new().args(["--nproc", "2"]).script(COUNTING).args(args);
    ready(job.start())
}

fn ready(mut running: Running) -> Running {
    running.stdout_line("ready");
    running.stderr_line("ready");
    running
}

/// The ranks and their children.
fn pids(dir: &Path) -> Vec<i32> {
    let read = |rank| std::fs::read_to_string(dir.join(format!("pids.{rank}"))).expect("a file");
    let text = [0, 1].map(read).concat();
    text.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}

fn all_gone(dir: &Path) {
    let pids = pids(dir);
    assert_eq!(pids.len(), 4);
    wait_until("ranks and children are gone", SOON, || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
pub fn b19_term_reaches_each_rank_once_and_nothing_is_left() {
    let running = counting(&["polite"]);
    running.signal(Signal::SIGTERM);
    let end = running.end_within(SOON).expect_code(143);
    for rank in [0, 1] {
        let told = std::fs::read_to_string(end.path(&format!("told.{rank}"))).expect("a file");
        assert_eq!(told, "15\n");
    }
    let left = pids(end.dir.path()).into_iter().filter(|pid| is_alive(*pid)).count();
    assert_eq!(left, 0);
}

#[test]
pub fn b20_asking_again_hurries_and_asking_three_times_kills() {
    for times in [2, 3] {
        let running = counting(&[]);
        running.signal(Signal::SIGINT);
        let told = running.dir.path().join("told.1");
        for _ in 1..times {
            wait_until("the ranks were told", SOON, || told.exists());
            running.signal(Signal::SIGINT);
            // Signals of one kind that wait to be taken are one.
            std::thread::park_timeout(Duration::from_millis(100));
        }
        // The grace alone would be 30 s; asked twice, it is 5.
        let end = running.end_within(SOON).expect_code(130);
        all_gone(end.dir.path());
    }
}

#[test]
pub fn b21_no_rank_outlives_a_killed_nvlaunch() {
    let running = counting(&[]);
    running.signal(Signal::SIGKILL);
    all_gone(running.dir.path());
    assert_eq!(running.end_within(SOON).signal, Some(9));
}

#[test]
pub fn b22_children_of_a_rank_that_has_died_are_ended_too() {
    let script = "setsid sleep 1000 & echo $! >child.1; sleep 1000 & echo $! >child.2; exit 7";
    let end = shell(1, script).run().expect_code(7);
    for name in ["child.1", "child.2"] {
        assert!(!is_alive(pid(end.dir.path(), name)), "{name}");
    }
}

#[test]
pub fn b23_a_hangup_ends_the_job_unless_nohup_says_otherwise() {
    let running = counting(&["polite"]);
    running.signal(Signal::SIGHUP);
    let end = running.end_within(SOON).expect_code(129);
    all_gone(end.dir.path());

    let job = Job::of("nohup").arg(nvlaunch()).args(["--nproc", "2"]).script(COUNTING);
    let running = ready(job.start());
    running.signal(Signal::SIGHUP);
    // What came in before this one has been taken when it is passed on.
    running.signal(Signal::SIGUSR1);
    let told = running.dir.path().join("told.0");
    wait_until("the ranks go on", SOON, || told.exists());
    std::fs::write(running.dir.path().join("enough"), "").expect("a file");
    running.end_within(SOON).expect_code(0);
}

#[test]
pub fn b24_usr1_is_passed_on_and_ends_nothing() {
    let job = Job::new().args(["--nproc", "2", "--shutdown-timeout", "0"]).script(COUNTING);
    let running = ready(job.start());
    running.signal(Signal::SIGUSR1);
    for name in ["told.0", "told.1"] {
        let told = running.dir.path().join(name);
        let is_told = || std::fs::read_to_string(&told).is_ok_and(|text| text == "10\n");
        wait_until("each rank got it", SOON, is_told);
    }
    std::fs::write(running.dir.path().join("enough"), "").expect("a file");
    running.end_within(SOON).expect_code(0);
}
