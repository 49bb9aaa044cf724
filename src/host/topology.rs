//! CPUs, last-level caches, sockets and NUMA nodes, from sysfs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::HostError;
use super::devices::{Chosen, Devices};
use super::limits::{allowed_cpus, cpu_list};

/// Where the CPUs and the visible GPUs are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The CPUs of each NUMA node, allowed to this process or not.
    pub nodes: BTreeMap<u32, BTreeSet<u32>>,
    /// The CPUs this process may run on.
    pub cpus: BTreeMap<u32, Cpu>,
    /// The NUMA node of each visible GPU, in the order of the ranks; `None` is not known.
    pub gpus: Vec<Option<u32>>,
}

/// Where one CPU is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its socket.
    pub socket: i32,
    /// Its physical core, by the smallest CPU of that core.
    pub core: u32,
    /// Its last-level data cache, by the smallest CPU that shares it; `None` is not known.
    pub cache: Option<u32>,
}

/// Reads the topology below `root`.
pub fn read(root: &Path, devices: &Devices) -> Result<Topology, HostError> {
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
        let cache = cache(root, &folder);
        topology.cpus.insert(cpu, Cpu { socket, core, cache });
    }
    let (gpus, visible) = devices.gpus();
    topology.gpus = visible
        .0
        .iter()
        .map(|device| match device {
            Chosen::Index(index) => gpus[*index].pci.as_deref().and_then(|pci| node_of(root, pci)),
            Chosen::Id(_) => None,
        })
        .collect();
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

/// The NUMA node of a PCI device. The kernel says -1 where there is only one.
fn node_of(root: &Path, pci: &str) -> Option<u32> {
    // NUMA nodes belong to the whole device, which the first function stands for.
    let (device, _) = pci.rsplit_once('.')?;
    let path = root.join(format!("sys/bus/pci/devices/{device}.0/numa_node"));
    let node: i64 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    u32::try_from(node.max(0)).ok()
}

fn list(root: &Path, path: &str) -> Result<BTreeSet<u32>, HostError> {
    let path = root.join(path);
    let text = read_trimmed(&path)?;
    cpu_list(&text).ok_or(HostError::Unclear { path, text })
}

fn read_trimmed(path: &Path) -> Result<String, HostError> {
    super::read(path.to_owned()).map(|text| text.trim().to_owned())
}
