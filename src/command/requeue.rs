//! `--requeue`: puts the Slurm job back into its queue after a preemption.
//!
//! - U1: the report is written before: Slurm may end everything as soon as it is asked.
//! - U2: the wait for `scontrol` is bounded; what it says is said.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::diagnose::secrets::scrub;
use crate::env_vars;
use crate::report::Requeue;
use crate::settings::env::Env;

/// How long `scontrol` may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks where the kernel has no pidfds.
const TICK: Duration = Duration::from_millis(10);
/// The most that is read of what it says.
const MAX_SAID: u64 = 1024;

/// Asks Slurm; what came of it.
pub(super) fn requeue(env: &Env) -> Requeue {
    match ask(env) {
        Ok(job) => Requeue { done: true, words: format!("Slurm job {job} is in its queue again") },
        Err(why) => Requeue { done: false, words: format!("the job is not requeued: {why}") },
    }
}

fn ask(env: &Env) -> Result<String, String> {
    let job = env.get_nonempty(env_vars::SLURM_JOB_ID).and_then(|job| job.to_str());
    let job = job.ok_or_else(|| format!("{} is not set", env_vars::SLURM_JOB_ID))?;
    if !job.bytes().all(|byte| byte.is_ascii_digit() || b"_+".contains(&byte)) {
        return Err(format!("{}={job} is no job", env_vars::SLURM_JOB_ID));
    }
    let cannot = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "scontrol is not on PATH".to_owned(),
        _ => format!("scontrol cannot be started: {error}"),
    };
    let memory = memfd_create("scontrol", MemfdFlags::CLOEXEC).map_err(|e| cannot(e.into()))?;
    let mut said = File::from(memory);
    let mut child = Command::new("scontrol")
        .args(["requeue", job])
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(cannot)?)
        .stderr(said.try_clone().map_err(cannot)?)
        .spawn()
        .map_err(cannot)?;
    let status = wait(&mut child, LIMIT);
    let mut text = Vec::new();
    // What cannot be read was not said.
    let _ = said.rewind().and_then(|()| said.take(MAX_SAID).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let text = scrub(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim());
    match status {
        Some(status) if status.success() => Ok(job.to_owned()),
        Some(_) if !text.is_empty() => Err(format!("scontrol says: {text}")),
        Some(status) => Err(format!("scontrol ended with {status}")),
        None => {
            Err(format!("scontrol did not answer within {}", humantime::format_duration(LIMIT)))
        }
    }
}

/// Waits for the end of a child, until the limit; kills it then and leaves it.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => {}
            Err(_) => return None,
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = child.kill();
            return None;
        }
        match &pidfd {
            Some(pidfd) => {
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout);
            }
            None => std::thread::sleep(TICK.min(left)),
        }
    }
}
