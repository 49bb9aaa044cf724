//! What follows from the machine that the tests run on.

use std::collections::BTreeSet;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// `OMP_NUM_THREADS` of so many ranks where nobody sets it, by other means than nvlaunch's: an equal
/// share of the physical cores, or of the quota where that is less; one rank alone has all it sees.
pub fn threads_of(ranks: u32) -> Option<u32> {
    let mask = sched_getaffinity(Pid::from_raw(0)).expect("every process has a mask");
    let cpus: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| mask.is_set(*cpu).unwrap_or(false)).collect();
    let siblings = |cpu: usize| {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(file).unwrap_or_else(|_| cpu.to_string())
    };
    let cores = cpus.iter().map(|cpu| siblings(*cpu)).collect::<BTreeSet<_>>().len();
    // The mask and the quota of the control groups.
    let usable = std::thread::available_parallelism().expect("it is known").get();
    let number = |count: usize| u32::try_from(count).expect("a machine has few CPUs");
    match ranks {
        1 if usable == cpus.len() => None,
        1 => Some(number(usable)),
        _ => Some((number(cores.min(usable)) / ranks).max(1)),
    }
}
