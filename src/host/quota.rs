//! How much CPU time the control groups around this process leave it.
//!
//! A quota is time, not CPUs: a process that has four threads on a quota of two is stopped half of
//! the time. So it is what counts where it is less than the CPUs of the affinity mask, which says
//! nothing of it.
//!
//! - Q1: every group from the process' own up to the root may set one, and the least counts.
//! - Q2: version 1 (`cpu.cfs_quota_us`) where its `cpu` controller is mounted, else version 2
//!   (`cpu.max`).
//! - Q3: a container without a namespace of groups is told the machine's path, and sees only its
//!   own group: where a path is not there, that group is the mount's root.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{files, sysfs};

const GROUPS: &str = "/proc/self/cgroup";
const MOUNT: &str = "/sys/fs/cgroup";

/// Groups around one another that are looked at.
const MAX_DEPTH: usize = 64;

/// A limit on CPU time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Thousandths of a CPU.
    pub milli: u64,
    /// The file that says so.
    pub source: String,
}

impl Quota {
    /// Whole CPUs, at least 1.
    pub fn whole(&self) -> u32 {
        u32::try_from(self.milli / 1000).unwrap_or(u32::MAX).max(1)
    }

    /// In CPUs, as `3.5`.
    pub fn text(&self) -> String {
        let (whole, part) = (self.milli / 1000, self.milli % 1000);
        let text = format!("{whole}.{part:03}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The least quota of the groups around this process; `None` where there is none.
pub fn read(root: &Path) -> Option<Quota> {
    let groups = sysfs::text(root, GROUPS)?;
    let (mount, path, read): (String, &str, Reader) = match version_1(&groups) {
        Some((controllers, path)) => {
            let joined = format!("{MOUNT}/{controllers}");
            // Mounted together with others, or alone under the same name.
            let alone = || format!("{MOUNT}/cpu");
            let mount = if files::exists(root, &joined) { joined } else { alone() };
            (mount, path, quota_1)
        }
        None => (MOUNT.to_owned(), version_2(&groups)?, quota_2),
    };
    let folders = folders(root, &mount, path);
    folders.iter().filter_map(|folder| read(root, folder)).min_by_key(|quota| quota.milli)
}

type Reader = fn(&Path, &str) -> Option<Quota>;

/// The names of the controllers, and the path, of the hierarchy with the `cpu` controller.
fn version_1(groups: &str) -> Option<(&str, &str)> {
    groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "cpu").then_some((controllers, path))
    })
}

fn version_2(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The folder of a group and those around it, the innermost first.
fn folders(root: &Path, mount: &str, path: &str) -> Vec<String> {
    // `..` leads out of the namespace of groups, where nothing can be seen.
    let is_outside = path.split('/').any(|part| part == "..");
    let path = path.trim_matches('/');
    let is_seen = !path.is_empty() && !is_outside && files::exists(root, format!("{mount}/{path}"));
    let mut rest = if is_seen { path } else { "" };
    let mut folders = Vec::new();
    while !rest.is_empty() && folders.len() < MAX_DEPTH {
        folders.push(format!("{mount}/{rest}"));
        rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    folders.push(mount.to_owned());
    folders
}

fn quota_1(root: &Path, folder: &str) -> Option<Quota> {
    let source = format!("{folder}/cpu.cfs_quota_us");
    // -1 is none.
    let quota = sysfs::number::<i64>(root, &source)?;
    let period = sysfs::number::<u64>(root, &format!("{folder}/cpu.cfs_period_us"))?;
    quota_of(u64::try_from(quota).ok()?, period, source)
}

fn quota_2(root: &Path, folder: &str) -> Option<Quota> {
    let source = format!("{folder}/cpu.max");
    let text = sysfs::text(root, &source)?;
    let (quota, period) = text.split_once(' ').unwrap_or((&text, "100000"));
    // `max` is none.
    quota_of(quota.parse().ok()?, period.trim().parse().ok()?, source)
}

fn quota_of(quota: u64, period: u64, source: String) -> Option<Quota> {
    Some(Quota { milli: quota.checked_mul(1000)?.checked_div(period)?, source })
}
