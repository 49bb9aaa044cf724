//! What to try, from what happened. A hint stands on evidence or is not given.

use super::{Found, Report};
use crate::diagnose::exit::Exit;
use crate::diagnose::oom::Oom;
use crate::layout::plain;
use crate::preflight::finding::Severity;
use crate::preflight::{catalogue, output};
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
    for hint in of_preflight(report) {
        say(&hint);
    }
    if let Some(hint) = of_compat(report) {
        say(&hint);
    }
    match &report.outcome {
        Outcome::CannotStart { exec: true, .. } => {
            say("is the program made for this machine, and does its first line name an \
                 interpreter that exists?");
        }
        Outcome::CannotStart { exec: false, reason, .. } if reason.contains("temporarily") => {
            say("a limit on processes was reached: see `ulimit -u` and the cgroup's pids.max");
        }
        Outcome::Preempted { .. } if report.saved.is_some() => {
            say("the same command again goes on from there");
        }
        Outcome::Preempted { .. } => say(
            "no whole checkpoint appeared after the signal: a script that saves on it loses less, \
             and --preemption-grace gives it more time",
        ),
        Outcome::Completed if report.suspicious.is_some() => {
            say("--on-suspicious-success fail makes it a failure");
        }
        Outcome::Refused { why } if why.contains("checkpoint") => {
            say("`nvlaunch checkpoint inspect DIR` shows what is there");
        }
        Outcome::Stuck { .. } => say(
            "a process in state D waits inside the kernel, most often for a device driver or a \
             network file system: no signal ends it; see `dmesg`",
        ),
        _ => {}
    }
    hints
}

/// What the last words of a rank are that insisted on CUDA where there is none.
const INSISTED: &[&str] = &[
    "Found no NVIDIA driver",
    "Torch not compiled with CUDA enabled",
    "only supported with GPUs, no GPUs found",
    "requires at least one CUDA device",
    "device_ids and output_device arguments only work with",
];

/// What makes a script start that insists on CUDA.
fn of_compat(report: &Report) -> Option<String> {
    let name = report.preflight.as_ref()?.compat?;
    let failure = report.failure.as_ref()?;
    let lines: Vec<&String> = failure.stderr.iter().chain(&failure.stdout).collect();
    let insists = lines.iter().any(|line| INSISTED.iter().any(|text| line.contains(text)));
    let divides = lines.iter().any(|line| line.contains("modulo by zero"))
        && lines.iter().any(|line| line.contains("mmengine"));
    (insists || divides).then(|| {
        format!(
            "the script insists on CUDA, which is not here: --compat {name} starts it as it is \
             (`nvlaunch plan --compat {name} …` says what that changes)"
        )
    })
}

/// What preflight saw before the job, and what the rank's last words remind of.
fn of_preflight(report: &Report) -> Vec<String> {
    let Some(failure) = &report.failure else { return Vec::new() };
    let lines = failure.stderr.iter().chain(&failure.stdout).map(String::as_str);
    let has_cuda = report.preflight.as_ref().map(|preflight| preflight.is_for_cuda);
    let reminds = output::from_output(lines, has_cuda);
    let found = report.preflight.iter().flat_map(|preflight| &preflight.findings);
    let worth = found.filter(|found| found.severity > Severity::Note);
    // What the last words point to first, then the worst; among equals causes first.
    let rank = |found: &&Found| (reminds.as_ref() == Some(&found.code), found.severity);
    let mut hints = Vec::new();
    let seen = worth.rev().max_by_key(rank);
    if let Some(code) = &reminds
        && let Some(entry) = catalogue::find(&code.0)
        && seen.is_none_or(|found| found.code != *code)
    {
        hints.push(format!(
            "the rank's last words are those of {code}: {}; `nvlaunch explain {code}` says more",
            entry.summary
        ));
    }
    if let Some(Found { code, summary, .. }) = seen {
        hints.push(format!(
            "before the job preflight found {code}: {}; `nvlaunch explain {code}` says more",
            plain(summary)
        ));
    }
    hints
}
