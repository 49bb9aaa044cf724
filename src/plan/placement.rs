//! Rank → device → NUMA node → CPUs.
//!
//! The device of a rank is the one that its script takes when it says `device = LOCAL_RANK`: the
//! visible one at that place. Its NUMA node follows from its place on the bus, its CPUs from the
//! node where ranks are bound, and what it can count on from all that share them.
//!
//! - M1: nothing is guessed: what is not known is `None`, with the reason in words.
//! - M2: the CPUs of a bound rank are never none, and never one that nvlaunch itself may not use.
//! - M3: the variables are those that the ranks get: the caller's, the profile's, preflight's.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{PlanError, numa};
use crate::env_vars;
use crate::host::Facts;
use crate::host::devices::{self, Chosen, Devices, Gpu, Looked, Seen, Visible};
use crate::host::vendors::{self, Vendor};
use crate::preflight::Judgement;
use crate::settings::spec::{LaunchSpec, ProcCount};

/// The device that a rank's script takes with `device = LOCAL_RANK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankDevice {
    /// Its vendor's name in the vendor table.
    pub vendor: String,
    /// Its number among the visible ones. With `--virtual-local-rank` it is the only one that the
    /// rank sees, and 0 to it.
    pub index: u32,
    /// Its number among all that the machine has of its vendor; `None` is not known.
    pub machine_index: Option<u32>,
    /// Its PCI address, where known.
    pub pci: Option<String>,
    /// Its id, `GPU-…` or `MIG-…`, where known.
    pub id: Option<String>,
    /// The variables that narrowed the choice; empty where all are visible.
    pub narrowed_by: Vec<String>,
}

/// Where a rank is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub device: Option<RankDevice>,
    pub numa_node: Option<u32>,
    /// Why there is no device or no node, in one clause.
    pub unplaced: Option<String>,
    /// `None` is all of nvlaunch's.
    pub cpus: Option<BTreeSet<u32>>,
    /// CPUs that it can count on, at least 1.
    pub cpu_count: u32,
    /// Ranks on the same CPUs, itself too.
    pub sharers: u32,
}

/// The devices with the variables that the ranks get (M3).
pub(super) fn devices_of_ranks(
    spec: &LaunchSpec,
    facts: &Facts,
    judgement: Option<&Judgement>,
) -> Devices {
    let mut devices = facts.devices.clone();
    for name in devices::variable_names() {
        let profile = spec.env.get(name).filter(|variable| !variable.is_kept);
        let chosen = judgement.and_then(|judgement| {
            judgement.variables.iter().find(|variable| variable.name == name && !variable.is_users)
        });
        let value = match (profile, chosen) {
            (_, Some(chosen)) => &chosen.value,
            (Some(profile), None) => &profile.value,
            (None, None) => continue,
        };
        match value {
            Some(value) => devices.variables.insert(name, value.clone()),
            None => devices.variables.remove(name),
        };
    }
    devices
}

/// Places each rank.
pub(super) fn decide(
    spec: &LaunchSpec,
    facts: &Facts,
    judgement: Option<&Judgement>,
    count: u32,
) -> Result<Vec<Placement>, PlanError> {
    let devices = devices_of_ranks(spec, facts, judgement);
    let seats = Seats::of(spec, &devices, judgement.map(|judgement| judgement.vendor.as_str()));
    let nodes = seats.nodes();
    let cpus = |local_rank| match (spec.numa_binding, &facts.topology) {
        (Some(mode), Some(topology)) => numa::cpus(mode, topology, &nodes, local_rank).map(Some),
        _ => Ok(None),
    };
    let bound: Vec<Option<BTreeSet<u32>>> = (0..count).map(cpus).collect::<Result<_, _>>()?;
    let place = |(local_rank, own): (u32, &Option<BTreeSet<u32>>)| {
        let device = seats.device(spec, local_rank);
        let node = device.as_ref().map_err(Clone::clone).and_then(|_| seats.node(local_rank));
        let sharers = own.as_ref().map_or(count, |own| sharers(own, &bound));
        let cpus = own.as_ref().unwrap_or(&facts.cpus).len();
        let share = u32::try_from(cpus).unwrap_or(u32::MAX) / sharers;
        // The quota is for all ranks together, bound or not.
        let quota = facts.quota.as_ref().map_or(u32::MAX, |quota| quota.whole() / count);
        Placement {
            numa_node: node.as_ref().ok().copied(),
            unplaced: node.err(),
            device: device.ok(),
            cpus: own.clone(),
            cpu_count: share.min(quota).max(1),
            sharers,
        }
    };
    Ok((0..count).zip(&bound).map(place).collect())
}

/// How many ranks have some of these CPUs.
fn sharers(own: &BTreeSet<u32>, bound: &[Option<BTreeSet<u32>>]) -> u32 {
    let has_some =
        |other: &&Option<BTreeSet<u32>>| other.as_ref().is_none_or(|cpus| !cpus.is_disjoint(own));
    u32::try_from(bound.iter().filter(has_some).count()).unwrap_or(u32::MAX)
}

/// The devices that the ranks take, in their order.
struct Seats<'a> {
    /// Whose they are; else why there are none.
    vendor: Result<&'static Vendor, String>,
    /// What is visible; of nothing where there is no vendor.
    seen: Seen<'a>,
    looked: Looked,
    /// Whether an index of the vendor's runtime is not one of the machine's list, and why.
    unordered: Option<String>,
}

impl<'a> Seats<'a> {
    fn of(spec: &LaunchSpec, devices: &'a Devices, judged: Option<&str>) -> Self {
        let vendor = vendor(spec, devices, judged);
        let nothing = Seen { all: &[], visible: Visible::default(), by: Vec::new(), unread: None };
        let seen = vendor.as_ref().map_or(nothing, |vendor| devices.seen(vendor));
        let unordered = match seen.unread {
            Some(name) => Some(format!("{name} chooses among the devices in its own terms")),
            None if vendor.as_ref().is_ok_and(|vendor| vendor.name == "cuda") => {
                fastest_first(devices)
            }
            None => None,
        };
        Self { vendor, seen, looked: devices.looked, unordered }
    }

    /// The device of a rank, or why it has none.
    fn device(&self, spec: &LaunchSpec, local_rank: u32) -> Result<RankDevice, String> {
        let vendor = self.vendor.clone()?;
        let visible = &self.seen.visible;
        let Some(chosen) = visible.0.get(local_rank as usize) else {
            return Err(match visible.0.len() {
                0 => self.nothing(vendor),
                1 => format!("one {} is visible", vendor.title),
                count => format!("{count} {}s are visible", vendor.title),
            });
        };
        if local_rank >= visible.count(spec.virtual_local_rank) {
            return Err(
                "CUDA gives a process one MIG device; --virtual-local-rank gives each rank \
                        its own"
                    .to_owned(),
            );
        }
        let gpu = self.gpu(chosen).ok();
        Ok(RankDevice {
            vendor: vendor.name.to_owned(),
            index: local_rank,
            machine_index: gpu.and_then(|(at, _)| u32::try_from(at).ok()),
            pci: gpu.and_then(|(_, gpu)| gpu.pci.clone()),
            id: match chosen {
                Chosen::Id(id) => Some(id.clone()),
                Chosen::Index(_) => gpu.and_then(|(_, gpu)| gpu.uuid.clone()),
            },
            narrowed_by: self.seen.by.iter().map(ToString::to_string).collect(),
        })
    }

    fn nothing(&self, vendor: &Vendor) -> String {
        match self.seen.by.first() {
            Some(name) if !self.seen.all.is_empty() => {
                format!("{name} hides every {}", vendor.title)
            }
            _ => format!("there is no {}", vendor.title),
        }
    }

    /// The device of the machine's list, or why it is not known which one it is.
    fn gpu(&self, chosen: &Chosen) -> Result<(usize, &'a Gpu), String> {
        match (chosen, &self.unordered) {
            (Chosen::Id(id), _) if id.starts_with("MIG-") => {
                Err("which GPU a MIG device is part of is not known".to_owned())
            }
            (Chosen::Id(id), _) => Err(format!("which device `{id}` is is not known")),
            (Chosen::Index(_), Some(why)) => Err(why.clone()),
            (Chosen::Index(at), None) => Ok((*at, &self.seen.all[*at])),
        }
    }

    /// The NUMA node of a rank's device, or why it is not known.
    fn node(&self, local_rank: u32) -> Result<u32, String> {
        let missing = || "there is no device".to_owned();
        let chosen = self.seen.visible.0.get(local_rank as usize).ok_or_else(missing)?;
        let (_, gpu) = self.gpu(chosen)?;
        let Some(pci) = &gpu.pci else {
            return Err(if self.looked < Looked::Placed {
                "where it is was not looked at".to_owned()
            } else {
                "its PCI address is not known".to_owned()
            });
        };
        gpu.numa_node.ok_or_else(|| {
            if self.looked < Looked::Placed {
                "where it is was not looked at".to_owned()
            } else {
                format!("the kernel does not tell the NUMA node of {pci}")
            }
        })
    }

    /// The NUMA nodes of the visible devices.
    fn nodes(&self) -> Vec<Option<u32>> {
        let count = u32::try_from(self.seen.visible.0.len()).unwrap_or(u32::MAX);
        (0..count).map(|at| self.node(at).ok()).collect()
    }
}

/// Whose devices the ranks take, or why nobody's.
fn vendor(
    spec: &LaunchSpec,
    devices: &Devices,
    judged: Option<&str>,
) -> Result<&'static Vendor, String> {
    if devices.looked == Looked::No {
        return Err("nobody looked at the devices".to_owned());
    }
    let asked = match &spec.nproc {
        ProcCount::Device(name) => vendors::find(name),
        ProcCount::Gpu => devices.gpu(),
        // Ranks that are bound to CPUs near a device have one, whatever their number came from.
        _ if spec.numa_binding.is_some() => devices.auto(),
        ProcCount::Cpu => return Err("the ranks are one per CPU".to_owned()),
        // Preflight knows whose devices the ranks' PyTorch can use.
        ProcCount::Auto | ProcCount::Count(_) => match judged {
            Some("cpu") => return Err("the ranks use no accelerator".to_owned()),
            Some(name) => vendors::find(name),
            None => devices.auto(),
        },
    };
    asked.ok_or_else(|| "no accelerator is visible".to_owned())
}

/// Why the numbers of CUDA are not those of the PCI bus, where they may be others.
fn fastest_first(devices: &Devices) -> Option<String> {
    let text = |name| devices.variables.get(name).map_or("", |value| value.trim());
    let is_by_id = text(env_vars::CUDA_VISIBLE_DEVICES).starts_with("GPU-");
    let is_by_bus = text(env_vars::CUDA_DEVICE_ORDER) == "PCI_BUS_ID";
    let is_alike = devices.nvidia.windows(2).all(|two| two[0].model == two[1].model);
    (!is_by_id && !is_by_bus && !is_alike).then(|| {
        "the GPUs differ, and CUDA takes the fastest first unless CUDA_DEVICE_ORDER is PCI_BUS_ID"
            .to_owned()
    })
}
