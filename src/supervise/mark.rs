//! The mark by which every process of a run is known, whatever it does to hide.
//!
//! A descendant may leave its group and session, change its parent by daemonising, clear its
//! environment or write over it (`setproctitle` does). What it keeps through fork and exec, and
//! what any user may set and read, are its resource limits. The limit on file locks means nothing
//! to the kernel since Linux 2.4.25 (getrlimit(2)), so its soft value carries a number that no
//! other run has. `/proc/PID/limits` shows it to everybody.
//!
//! nvlaunch itself does not need the mark: as a child subreaper it is an ancestor of whatever is
//! left (prctl(2)). The keeper does, once nvlaunch is gone. A process that resets its limits (a
//! login through PAM) is still known by the run id in its environment.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::env_vars;
use crate::host::process;

/// Identifies one run among all of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMark {
    /// The soft limit on file locks of each process of the run; `None` where it cannot be set.
    pub limit: Option<u64>,
    /// The value of `NVLAUNCH_RUN_ID` of each process of the run.
    pub run_id: String,
}

impl RunMark {
    /// The mark of the run with this id; the number is made from the time, to the nanosecond, and
    /// this process' id.
    pub fn new(run_id: String) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pid = u64::from(std::process::id());
        // 22 bits hold every process id (PID_MAX_LIMIT), 40 bits of nanoseconds repeat after 18
        // minutes; the sum stays below 2^62, far from "unlimited".
        let nanos = u64::try_from(since.as_nanos() & 0xff_ffff_ffff).unwrap_or_default();
        let number = (nanos << 22) | (pid & 0x3f_ffff);
        let limit = match getrlimit(Resource::RLIMIT_LOCKS) {
            Ok((_, hard)) if hard >= number => Some(number),
            _ => None,
        };
        Self { limit, run_id }
    }

    /// Whether a process carries it.
    pub fn is_on(&self, pid: i32) -> bool {
        let by_limit = self.limit.is_some() && process::lock_limit(pid) == self.limit;
        by_limit
            || process::environment_variable(pid, env_vars::RUN_ID)
                .is_some_and(|value| value.to_str() == Some(&self.run_id))
    }
}

/// Marks this process and all it will start.
pub fn put_on_self(limit: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_LOCKS)?;
    setrlimit(Resource::RLIMIT_LOCKS, limit, hard)
}
