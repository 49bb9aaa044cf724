//! How many physical cores the CPUs of this process are, from two or three files.
//!
//! The whole topology is a file for each CPU; a launch needs a number. Two threads of a core that
//! are both allowed are one core; where only one of them is (Slurm's `--hint=nomultithread`), the
//! CPU is a core.

use std::collections::BTreeSet;
use std::path::Path;

use super::limits::cpu_list;
use super::sysfs;

/// CPUs that are asked one by one, at most, where not all cores are alike.
const MAX_ASKED: usize = 64;

/// The physical cores of `allowed`; `None` is not known.
pub fn count(root: &Path, allowed: &BTreeSet<u32>) -> Option<u32> {
    let all = u32::try_from(allowed.len()).ok()?;
    if sysfs::number(root, "/sys/devices/system/cpu/smt/active") == Some(0_u32) {
        return Some(all);
    }
    // The allowed threads of the core that a CPU is one of.
    let threads = |cpu: u32| -> Option<BTreeSet<u32>> {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = cpu_list(&sysfs::text(root, &file)?)?;
        let mut threads: BTreeSet<u32> = siblings.intersection(allowed).copied().collect();
        threads.insert(cpu);
        Some(threads)
    };
    let (first, last) = (threads(*allowed.first()?)?.len(), threads(*allowed.last()?)?.len());
    if first != last && allowed.len() <= MAX_ASKED {
        // Cores of one and of two threads side by side, or a mask that takes only some threads.
        let cores: BTreeSet<u32> =
            allowed.iter().map(|cpu| threads(*cpu)?.first().copied()).collect::<Option<_>>()?;
        return u32::try_from(cores.len()).ok();
    }
    Some(all.div_ceil(u32::try_from(first.max(last)).ok()?))
}
