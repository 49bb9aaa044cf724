//! What to try, from what happened. A hint stands on evidence or is not given.

use super::Report;
use crate::diagnose::exit::Exit;
use crate::diagnose::oom::Oom;
use crate::supervise::event::Outcome;

/// The hints for a report, most helpful first.
pub fn hints(report: &Report) -> Vec<String> {
    let mut hints = Vec::new();
    let mut say = |text: &str| hints.push(text.to_owned());
    if let Some(failure) = &report.failure {
        let output = || failure.stderr.iter().chain(&failure.stdout);
        let said = |needle: &str| output().any(|line| line.contains(needle));
        match (failure.exit, &failure.oom) {
            (_, Some(Oom::Logged { .. } | Oom::Counted { .. })) => say(
                "the machine (or the job's cgroup) ran out of memory: fewer DataLoader workers, \
                 a smaller batch, or a larger memory limit",
            ),
            (Exit::Signal(nix::libc::SIGKILL), None) => {
                say(
                    "nvlaunch did not send this SIGKILL and the kernel's log, as far as it can be \
                 read, shows no OOM kill: ask the scheduler and the machine's other users",
                );
            }
            (Exit::Signal(nix::libc::SIGBUS), None) => {
                say("a bus error is most often a full /dev/shm (DataLoader workers): look at \
                 `df -h /dev/shm`; in a container give it a larger --shm-size");
            }
            (Exit::Signal(nix::libc::SIGSEGV | nix::libc::SIGABRT), None)
                if !said("Fatal Python error") =>
            {
                say("run it with PYTHONFAULTHANDLER=1 to see the Python line it happened in");
            }
            _ => {}
        }
        if said("ModuleNotFoundError") {
            say("is this the right interpreter? choose one with --python, or activate its \
                 environment first");
        }
        let silent = failure.script_error.is_none() && output().next().is_none();
        let ran = matches!(report.outcome, Outcome::Failed { .. });
        if ran && silent && matches!(failure.exit, Exit::Code(_)) {
            say("the rank printed nothing: look at its log file, if the script writes one");
        }
    }
    match &report.outcome {
        Outcome::CannotStart { exec: true, .. } => {
            say("is the program made for this machine, and does its first line name an \
                 interpreter that exists?");
        }
        Outcome::CannotStart { exec: false, reason, .. } if reason.contains("temporarily") => {
            say("a limit on processes was reached: see `ulimit -u` and the cgroup's pids.max");
        }
        Outcome::Stuck { .. } => say(
            "a process in state D waits inside the kernel, most often for a device driver or a \
             network file system: no signal ends it; see `dmesg`",
        ),
        _ => {}
    }
    hints
}
