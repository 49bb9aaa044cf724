//! CPUs, last-level caches, sockets and NUMA nodes, from sysfs: some files for each CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::HostError;
use super::limits::{allowed_cpus, cpu_list};

/// Where the CPUs are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The CPUs of each NUMA node, allowed to this process or not.
    pub nodes: BTreeMap<u32, BTreeSet<u32>>,
    /// The CPUs this process may run on.
    pub cpus: BTreeMap<u32, Cpu>,
}

/// Where one CPU is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its socket.
    pub socket: i32,
    /// Its physical core, by the smallest CPU of that core.
    pub core: u32,
    /// Its last-level data cache, by the smallest CPU that shares it; `None` is not known, or
    /// nobody asked.
    pub cache: Option<u32>,
}

/// Reads the topology below `root`; the caches, which are most of the files, only on request.
pub fn read(root: &Path, with_caches: bool) -> Result<Topology, HostError> {
    let mut topology = Topology::default();
    for node in list(root, "sys/devices/system/node/possible")? {
        // A possible node that is not there has no CPUs.
        let path = format!("sys/devices/system/node/node{node}/cpulist");
        if root.join(&path).exists() {
            topology.nodes.insert(node, list(root, &path)?);
        }
    }
    for cpu in allowed_cpus(root)? {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        let siblings = list(root, &format!("{folder}/topology/thread_siblings_list"))?;
        let path = root.join(format!("{folder}/topology/physical_package_id"));
        let text = read_trimmed(&path)?;
        let socket = text.parse().map_err(|_| HostError::Unclear { path, text })?;
        let core = siblings.first().copied().unwrap_or(cpu);
        let cache = if with_caches { cache(root, &folder) } else { None };
        topology.cpus.insert(cpu, Cpu { socket, core, cache });
    }
    Ok(topology)
}

/// The smallest CPU that shares the data cache of the highest level.
fn cache(root: &Path, cpu: &str) -> Option<u32> {
    let folder = root.join(cpu).join("cache");
    let mut best: Option<(u32, u32)> = None;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let text = |name: &str| std::fs::read_to_string(entry.path().join(name)).ok();
        let Some(kind) = text("type") else { continue };
        let (Some(level), Some(shared)) = (text("level"), text("shared_cpu_list")) else {
            continue;
        };
        let Ok(level) = level.trim().parse() else { continue };
        let is_data = matches!(kind.trim(), "Unified" | "Data");
        if is_data && best.is_none_or(|(highest, _)| level > highest) {
            best = Some((level, *cpu_list(shared.trim())?.first()?));
        }
    }
    best.map(|(_, first)| first)
}

fn list(root: &Path, path: &str) -> Result<BTreeSet<u32>, HostError> {
    let path = root.join(path);
    let text = read_trimmed(&path)?;
    cpu_list(&text).ok_or(HostError::Unclear { path, text })
}

fn read_trimmed(path: &Path) -> Result<String, HostError> {
    super::read(path.to_owned()).map(|text| text.trim().to_owned())
}
