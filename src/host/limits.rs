//! Limits of this process: its CPUs and its open files, from `/proc/self`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{HostError, read};

/// The CPUs in this process' affinity mask; the number that `sched_getaffinity` gives, without
/// that call's bound of 1024 CPUs.
pub fn allowed_cpus(root: &Path) -> Result<BTreeSet<u32>, HostError> {
    let path = root.join("proc/self/status");
    let text = read(path.clone())?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.unwrap_or_default().trim();
    cpu_list(list).ok_or_else(|| HostError::Unclear { path, text: list.to_owned() })
}

/// The hard limit on open files; `None` is no limit or not known.
pub fn nofile_hard(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/self/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Bytes of memory of the machine; `None` is not known.
pub fn memory(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads the kernel's lists of numbers, `0-2,4,6-7`; an empty list is one.
pub fn cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        match range.split_once('-') {
            Some((first, last)) => numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?),
            None => {
                numbers.insert(range.parse().ok()?);
            }
        }
    }
    Some(numbers)
}
