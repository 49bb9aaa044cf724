//! How many threads `OpenMP` starts in a rank, where the user does not say it.
//!
//! `OpenMP` takes every CPU of the affinity mask, in each rank. Several ranks would fight for them;
//! torchrun gives each one thread. Here each gets its share.
//!
//! - O1: what the caller or the profile says comes first, and nothing is set.
//! - O2: a share is one of physical cores: two threads of one core are little faster than one where
//!   both calculate. Where the kernel does not tell the cores, CPUs are counted.
//! - O3: a quota of CPU time counts where it is less. It is time, so threads of a core do not
//!   divide it.
//! - O4: all ranks get the same number, the least of their shares: the slowest rank is the job's
//!   speed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::placement::Placement;
use crate::env_vars;
use crate::host::Facts;
use crate::settings::spec::{LaunchSpec, OmpThreads};

/// `OMP_NUM_THREADS` of the ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OmpChoice {
    /// What it is set to; `None` leaves it as it is.
    pub value: Option<u32>,
    /// Why, in one clause.
    pub reason: String,
}

impl OmpChoice {
    /// What the user is told where nvlaunch chose the number.
    pub(super) fn note(&self, spec: &LaunchSpec, count: u32) -> Option<String> {
        let value = self.value.filter(|_| spec.omp_threads == OmpThreads::Auto)?;
        let each = if count == 1 { "" } else { " for each rank" };
        let reason = &self.reason;
        Some(format!(
            "OMP_NUM_THREADS is {value}{each}: {reason}; set it yourself for another number"
        ))
    }
}

/// Chooses the number for ranks that are placed so.
pub(super) fn choose(spec: &LaunchSpec, facts: &Facts, places: &[Placement]) -> OmpChoice {
    let unset = |reason: &str| OmpChoice { value: None, reason: reason.to_owned() };
    if facts.caller.omp_num_threads.is_some() {
        return unset("the caller has set it");
    }
    if let Some(variable) = spec.env.get(env_vars::OMP_NUM_THREADS) {
        let does = if variable.value.is_some() { "sets it" } else { "takes it away" };
        return unset(&format!("the profile {does}"));
    }
    match spec.omp_threads {
        OmpThreads::Keep => unset("binding.omp-threads is keep"),
        OmpThreads::Count(count) => {
            OmpChoice { value: Some(count), reason: format!("binding.omp-threads is {count}") }
        }
        OmpThreads::Auto if places.len() == 1 => alone(facts, &places[0]),
        OmpThreads::Auto => shared(facts, places),
    }
}

/// One rank has all CPUs it sees, which is what `OpenMP` takes; it does not see a quota.
fn alone(facts: &Facts, place: &Placement) -> OmpChoice {
    let cpus = number(place.cpus.as_ref().unwrap_or(&facts.cpus).len());
    match &facts.quota {
        Some(quota) if quota.whole() < cpus => OmpChoice {
            value: Some(quota.whole()),
            reason: format!("the control group's quota is {} of {cpus} CPUs", quota.text()),
        },
        _ => OmpChoice { value: None, reason: "one rank alone has all cores".to_owned() },
    }
}

/// The least share of several ranks.
fn shared(facts: &Facts, places: &[Placement]) -> OmpChoice {
    let ranks = number(places.len());
    let of_ranks: Vec<(u32, u32)> =
        places.iter().map(|place| (cores(facts, place), place.sharers.max(1))).collect();
    let least = of_ranks.iter().min_by_key(|(cores, sharers)| cores / sharers);
    let (cores, sharers) = *least.unwrap_or(&(1, 1));
    let share = cores / sharers;
    if let Some(quota) = facts.quota.as_ref().filter(|quota| quota.whole() / ranks < share) {
        let (value, text) = (quota.whole() / ranks, quota.text());
        let reason = match value {
            0 => format!("the control group's quota is {text} CPUs for {ranks} ranks"),
            _ => format!("{value} of the quota of {text} CPUs for each of {ranks} ranks"),
        };
        return OmpChoice { value: Some(value.max(1)), reason };
    }
    let is_bound = places.iter().any(|place| place.cpus.is_some());
    let unit = unit(facts);
    let reason = if of_ranks.iter().any(|other| *other != (cores, sharers)) {
        format!("the share of the rank with the fewest {unit}")
    } else if is_bound && sharers == 1 {
        format!("each of {ranks} ranks is bound to {}", counted(cores, unit))
    } else if share == 0 {
        format!("{} for {sharers} ranks", counted(cores, unit))
    } else if is_bound {
        format!("{share} of the {cores} {unit} that a rank is bound to with {} more", sharers - 1)
    } else {
        format!("{share} of {cores} {unit} for each of {ranks} ranks")
    };
    OmpChoice { value: Some(share.max(1)), reason }
}

/// The physical cores of a rank's CPUs, or its CPUs where the cores are not known.
fn cores(facts: &Facts, place: &Placement) -> u32 {
    let cpus = place.cpus.as_ref().unwrap_or(&facts.cpus);
    let known = facts.topology.as_ref().map(|topology| {
        let core = |cpu| topology.cpus.get(cpu).map(|cpu| cpu.core);
        number(cpus.iter().filter_map(core).collect::<BTreeSet<u32>>().len())
    });
    known.filter(|count| *count > 0).or(facts.cores).unwrap_or_else(|| number(cpus.len()))
}

/// What [`cores`] counts.
fn unit(facts: &Facts) -> &'static str {
    if facts.topology.is_some() || facts.cores.is_some() { "cores" } else { "CPUs" }
}

fn counted(count: u32, unit: &str) -> String {
    match count {
        1 => format!("1 {}", unit.trim_end_matches('s')),
        _ => format!("{count} {unit}"),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
