//! The CPUs of a rank by its device, with the results of torchrun's `--numa-binding`.
//!
//! The device of a rank is the visible one of its local rank, of whatever vendor. Only CPUs that
//! this process may use are given away.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanError;
use crate::host::topology::{Cpu, Topology};
use crate::settings::spec::NumaBinding;

/// The CPUs of `local_rank`, where the visible devices are on these NUMA nodes; never empty.
pub(super) fn cpus(
    mode: NumaBinding,
    topology: &Topology,
    devices: &[Option<u32>],
    local_rank: u32,
) -> Result<BTreeSet<u32>, PlanError> {
    if devices.is_empty() {
        return Err(PlanError::NumaWithoutDevice);
    }
    let node = devices
        .get(local_rank as usize)
        .ok_or(PlanError::NumaRank {
            local_rank,
            devices: u32::try_from(devices.len()).unwrap_or(u32::MAX),
        })?
        .ok_or(PlanError::NumaUnknown { local_rank })?;
    let cpus = match mode {
        NumaBinding::Node => of_node(topology, node),
        NumaBinding::Socket => of_socket(topology, node),
        NumaBinding::Exclusive => exclusive(topology, node, place(devices, node, local_rank))?,
        NumaBinding::CoreComplex => {
            core_complex(topology, node, place(devices, node, local_rank).0)?
        }
    };
    if cpus.is_empty() { Err(PlanError::NumaNoCpus { local_rank, node }) } else { Ok(cpus) }
}

/// The allowed CPUs of a node.
fn of_node(topology: &Topology, node: u32) -> BTreeSet<u32> {
    let all = topology.nodes.get(&node).into_iter().flatten();
    all.filter(|cpu| topology.cpus.contains_key(cpu)).copied().collect()
}

/// The allowed CPUs of all nodes of the socket that the node belongs to.
fn of_socket(topology: &Topology, node: u32) -> BTreeSet<u32> {
    let socket = |node| {
        let first = of_node(topology, node).first().copied()?;
        topology.cpus.get(&first).map(|cpu| cpu.socket)
    };
    let Some(wanted) = socket(node) else { return BTreeSet::new() };
    let nodes = topology.nodes.keys().filter(|node| socket(**node) == Some(wanted));
    nodes.flat_map(|node| of_node(topology, *node)).collect()
}

/// The position of the rank's device among those of its node, and how many those are.
fn place(devices: &[Option<u32>], node: u32, local_rank: u32) -> (usize, usize) {
    let on_node = |devices: &[Option<u32>]| devices.iter().filter(|of| **of == Some(node)).count();
    (on_node(&devices[..local_rank as usize]), on_node(devices))
}

/// The allowed CPUs of a node by what they share, in the order of that.
fn groups(
    topology: &Topology,
    node: u32,
    shared: impl Fn(&Cpu) -> Option<u32>,
) -> Option<BTreeMap<u32, BTreeSet<u32>>> {
    let mut groups: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for cpu in of_node(topology, node) {
        groups.entry(shared(&topology.cpus[&cpu])?).or_default().insert(cpu);
    }
    Some(groups)
}

/// An equal share of the node's physical cores; the first devices get one more where it does not
/// divide.
fn exclusive(
    topology: &Topology,
    node: u32,
    (at, devices): (usize, usize),
) -> Result<BTreeSet<u32>, PlanError> {
    let cores = groups(topology, node, |cpu| Some(cpu.core)).unwrap_or_default();
    let (share, extra) = (cores.len() / devices, cores.len() % devices);
    if share == 0 {
        return Err(PlanError::NumaCores { node, cores: cores.len(), devices });
    }
    let start = at * share + at.min(extra);
    let length = share + usize::from(at < extra);
    Ok(cores.into_values().skip(start).take(length).flatten().collect())
}

/// One group of CPUs that share a last-level cache, the largest groups first; with more devices than
/// groups they go round.
fn core_complex(topology: &Topology, node: u32, at: usize) -> Result<BTreeSet<u32>, PlanError> {
    let caches = groups(topology, node, |cpu| cpu.cache).ok_or(PlanError::NumaNoCache)?;
    let mut caches: Vec<(u32, BTreeSet<u32>)> = caches.into_iter().collect();
    caches.sort_by_key(|(first, cpus)| (usize::MAX - cpus.len(), *first));
    let count = caches.len().max(1);
    Ok(caches.into_iter().nth(at % count).map(|(_, cpus)| cpus).unwrap_or_default())
}
