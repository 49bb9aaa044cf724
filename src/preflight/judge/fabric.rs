//! The fabric manager, without which GPUs behind an `NVSwitch` do not start.

use super::context::Cx;
use super::draft::Draft;
use crate::host::facts::nvidia::Nvidia;
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};
use crate::preflight::version::upstream;

/// CUDA's `SYSTEM_NOT_READY`.
const NOT_READY: i32 = 802;

/// Whether it runs, and is of the driver's version. `mismatch` is what explains another version.
pub fn judge(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    mismatch: Option<&Code>,
    out: &mut Vec<Finding>,
) -> Option<Code> {
    let answer = cx.cuda_code();
    let (kernel, _) = cx.kernel_module()?;
    if answer == Some(0) || !(cx.has_nvswitch() || answer == Some(NOT_READY)) {
        return None;
    }
    let mut cause = mismatch.cloned();
    let version = nvidia.fabric.version.as_ref().filter(|v| upstream(&v.value) != kernel);
    if let Some(version) = version.filter(|_| cx.has_nvswitch() && !cx.is_container()) {
        let package = fabric_package(cx, kernel);
        let finding = Draft::new(
            code::FABRIC_MANAGER_VERSION,
            format!("the fabric manager is {}, the driver {kernel}", upstream(&version.value)),
        )
        .severity(cx.for_gpu(Severity::Error))
        .evidence(&version.source, format!("the fabric manager is {}", version.value))
        .evidence(
            nvidia.loaded.as_ref().map_or("", |loaded| loaded.source.as_str()),
            format!("the kernel runs {kernel}"),
        )
        .root_remedy("install the driver's version of it, and start it again", package)
        .follows(mismatch)
        .done();
        cause = cause.or(Some(finding.code.clone()));
        out.push(finding);
    }
    // A container does not see the host's processes.
    let is_missing = nvidia.fabric.pid.is_none() && cx.has_nvswitch() && !cx.is_container();
    if is_missing || answer == Some(NOT_READY) {
        let switches =
            cx.facts.pci.iter().filter(|d| d.kind == crate::host::facts::PciKind::NvSwitch);
        let mut draft = Draft::new(
            code::FABRIC_MANAGER_NOT_READY,
            if is_missing {
                "the fabric manager does not run, and the GPUs are behind NVSwitches"
            } else {
                "CUDA answers that the GPUs' fabric is not set up"
            },
        )
        .severity(cx.for_gpu(Severity::Error));
        if is_missing {
            draft = draft.evidence("/proc", "no process nv-fabricmanager");
            draft =
                draft.evidence("/sys/bus/pci/devices", format!("{} NVSwitches", switches.count()));
        }
        if answer == Some(NOT_READY) {
            draft = draft.evidence("cuInit", "802 (system not yet initialized)");
        }
        let finding = draft
            .root_remedy(
                if cx.is_container() {
                    "on the host: start it"
                } else {
                    "start it, now and at boot"
                },
                vec![
                    "systemctl enable --now nvidia-fabricmanager".to_owned(),
                    "journalctl -u nvidia-fabricmanager -b".to_owned(),
                ],
            )
            .follows(cause.as_ref())
            .done();
        cause = cause.or(Some(finding.code.clone()));
        out.push(finding);
    }
    cause.filter(|_| mismatch.is_none())
}

fn fabric_package(cx: &Cx<'_>, kernel: &str) -> Vec<String> {
    let branch = kernel.split('.').next().unwrap_or_default();
    let installed = cx.facts.packages.installed.iter();
    let name = installed
        .filter(|package| package.name.contains("fabric"))
        .map(|package| package.name.clone())
        .next()
        .unwrap_or_else(|| format!("nvidia-fabricmanager-{branch}"));
    let install = match cx.facts.packages.manager.as_deref() {
        Some("apt") => format!("apt-get install '{name}={kernel}*'"),
        Some("dnf") => format!("dnf install '{name}-{kernel}*'"),
        Some("zypper") => format!("zypper install '{name}={kernel}'"),
        _ => return vec!["systemctl restart nvidia-fabricmanager".to_owned()],
    };
    vec![install, "systemctl restart nvidia-fabricmanager".to_owned()]
}
