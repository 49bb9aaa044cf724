//! From facts to findings. Pure: no clock, no file, no environment.
//!
//! - J1: a cause hides its consequences: they are its evidence, or notes that point to it.
//! - J2: every finding has evidence, with its source and this machine's value.
//! - J3: the severity follows from the intent: what the job does not use is a note at most.
//! - J4: a healthy machine gives nothing, a machine without accelerators included.
//! - J5: a severity that a profile sets is the last word.
//! - J6: the order is stable: errors first, each finding followed by its consequences.

mod bus;
pub mod context;
mod cures;
pub mod draft;
pub mod environment;
mod fabric;
mod health;
mod history;
mod libraries;
mod mismatch;
mod mmengine;
mod module;
mod network;
mod nodes;
mod probe;
mod python;
mod remedy;
#[cfg(test)]
pub mod tests;
pub mod vendors;
mod xid;

use super::Intent;
use super::catalogue::code;
use super::finding::{Code, Finding, Severity};
use super::vendor::{self, Choice};
use crate::host::facts::HostFacts;
use crate::host::facts::nvidia::Nvidia;
use context::Cx;
pub use module::is_all_vfio;
pub use vendors::across;

/// Judges a machine.
pub fn judge(facts: &HostFacts, intent: &Intent) -> Vec<Finding> {
    let cx = Cx::new(facts, intent);
    let choice = vendor::choose(&cx);
    let mut found = Vec::new();
    let nothing = Nvidia::default();
    let mut cause = None;
    if cx.has_nvidia() {
        module::vfio(&cx, &mut found);
        if !is_all_vfio(&cx) {
            let driver = facts.nvidia.as_ref().unwrap_or(&nothing);
            cause = nvidia(&cx, driver, &mut found);
        }
    }
    vendors::judge(&cx, &choice, cause.as_ref().filter(|_| choice.is("cuda")), &mut found);
    mmengine::judge(&cx, &choice, &mut found);
    let (uses_nccl, uses_gloo) = backends(&cx, &choice);
    let nvml = nvml_cause(&cx, &found);
    environment::judge(&cx, uses_nccl, nvml.as_ref(), &mut found);
    network::judge(&cx, uses_nccl, uses_gloo, choice.vendor.is_some(), &mut found);
    if choice.is("cuda") {
        bus::ranks(&cx, &mut found);
    }
    arrange(found, intent)
}

/// NVIDIA's driver, from the kernel outwards; what already explains a failure silences what follows
/// from it (J1). The code is that of what keeps NVML or CUDA from working.
fn nvidia(cx: &Cx<'_>, driver: &Nvidia, out: &mut Vec<Finding>) -> Option<Code> {
    if let Some(code) = nodes::container(cx, driver, out) {
        return Some(code);
    }
    if let Some(code) = module::judge(cx, driver, out) {
        return Some(code);
    }
    let lost = bus::off_bus(cx, driver, out);
    let mismatch = mismatch::judge(cx, out);
    libraries::mixed(cx, driver, mismatch.as_ref(), out);
    let mut cause = mismatch.clone();
    if cause.is_none() {
        out.extend(history::next_boot(cx, driver));
        cause = libraries::judge(cx, driver, out);
        python::judge(cx, driver, out);
    }
    if cause.is_none() {
        cause = nodes::judge(cx, driver, out);
    }
    let fabric = fabric::judge(cx, driver, mismatch.as_ref(), out);
    let cause = cause.or(fabric).or(lost);
    probe::judge(cx, driver, cause.as_ref(), out);
    health::judge(cx, driver, out);
    cause
}

/// Findings that mean that NVML does not work for the ranks.
const NVML_BROKEN: [Code; 16] = [
    code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE,
    code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE,
    code::DRIVER_NOT_LOADED,
    code::DKMS_MODULE_MISSING_FOR_KERNEL,
    code::SECUREBOOT_UNSIGNED_MODULE,
    code::NOUVEAU_BOUND,
    code::LIB_ZERO_BYTE,
    code::CONTAINER_NO_GPU_RUNTIME,
    code::CONTAINER_CGROUP_LOST,
    code::DRIVER_LIB_UNUSABLE,
    code::NVML_LIB_NOT_FOUND,
    code::GPU_OFF_BUS,
    code::GPU_PROBE_HANG,
    code::GPU_RECOVERY_REQUIRED,
    code::PROBE_DIED,
    code::NVML_FAILED,
];

/// The finding that explains that NVML does not work; `None` where it does, as far as is known.
pub fn nvml_cause(cx: &Cx<'_>, found: &[Finding]) -> Option<Code> {
    let driver = cx.nvidia()?;
    let library = driver.libraries.nvml.as_ref();
    let fits = library.is_some_and(|library| {
        library.problem.is_none()
            && library.version.as_deref() == driver.loaded.as_ref().map(|m| m.version.as_str())
    });
    // NVML can work where libcuda alone does not fit, is empty, or missing.
    let of_libraries =
        [code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE, code::LIB_ZERO_BYTE, code::DRIVER_LIB_UNUSABLE];
    let is_said = cx.nvml().is_some_and(|nvml| nvml.init.code != 0);
    let breaks = |finding: &&Finding| {
        NVML_BROKEN.contains(&finding.code)
            && (is_said || !fits || !of_libraries.contains(&finding.code))
            && (!cx.nvml_works() || of_one_gpu(&finding.code))
    };
    found.iter().find(breaks).map(|finding| finding.code.clone())
}

/// NVML starts and fails for one GPU, which ends NCCL too.
fn of_one_gpu(code: &Code) -> bool {
    [code::GPU_OFF_BUS, code::GPU_RECOVERY_REQUIRED, code::NVML_FAILED].contains(code)
}

/// Whether the process group uses NCCL (NVIDIA's, or one of its likes), and gloo.
fn backends(cx: &Cx<'_>, choice: &Choice) -> (bool, bool) {
    let asked = cx.backends();
    if !asked.is_empty() {
        return (asked.contains(&"nccl"), asked.contains(&"gloo"));
    }
    match choice.vendor.and_then(|vendor| vendors::backend_of(cx, vendor)) {
        Some(backend) => (backend == "nccl", false),
        None => (false, true),
    }
}

/// Sets the profile's severities (J5), and sorts (J6).
pub fn arrange(mut found: Vec<Finding>, intent: &Intent) -> Vec<Finding> {
    for finding in &mut found {
        if let Some(severity) = intent.severity.get(&finding.code) {
            finding.severity = *severity;
        }
    }
    // A consequence of what is not here stands for itself.
    let here: Vec<_> = found.iter().map(|finding| finding.code.clone()).collect();
    for finding in &mut found {
        finding.consequence_of.take_if(|cause| !here.contains(cause) || *cause == finding.code);
    }
    let rank = |severity: Severity| match severity {
        Severity::Error => 0,
        Severity::Warning => 1,
        Severity::Note => 2,
    };
    let (mut causes, mut rest): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|finding| finding.consequence_of.is_none());
    causes.sort_by_key(|finding| rank(finding.severity));
    rest.sort_by_key(|finding| rank(finding.severity));
    let mut sorted = Vec::new();
    for cause in causes {
        let code = cause.code.clone();
        sorted.push(cause);
        take_consequences(&code, &mut rest, &mut sorted);
    }
    // Consequences that point at each other in a circle have no cause to stand behind.
    sorted.extend(rest);
    sorted
}

fn take_consequences(
    of: &super::finding::Code,
    rest: &mut Vec<Finding>,
    sorted: &mut Vec<Finding>,
) {
    while let Some(at) = rest.iter().position(|f| f.consequence_of.as_ref() == Some(of)) {
        let finding = rest.remove(at);
        let code = finding.code.clone();
        sorted.push(finding);
        take_consequences(&code, rest, sorted);
    }
}
