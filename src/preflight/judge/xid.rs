//! GPU errors in the kernel log since boot.

use super::context::Cx;
use super::draft::Draft;
use crate::host::facts::nvidia::{Nvidia, NvmlDevice, Xid};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Finding, Severity};

/// Xid 79: the GPU has fallen off the bus.
pub const XID_OFF_BUS: u32 = 79;

/// Whether an address of the log (`pci:0000:dc:00`) is a device's.
pub fn is_same(address: &str, device: &NvmlDevice) -> bool {
    device.address.as_deref().is_some_and(|full| is_at(address, full))
}

/// Whether an address of the log is that of sysfs.
pub fn is_at(address: &str, full: &str) -> bool {
    let short = address.trim_start_matches("pci:").split('.').next().unwrap_or_default();
    !short.is_empty() && full.contains(short)
}

/// What an Xid means, where it calls for an action.
fn meaning(code: u32) -> Option<(&'static str, bool)> {
    Some(match code {
        48 => ("a memory error that could not be corrected", false),
        56 | 57 => ("an error of the display engine or of memory training", false),
        58 => ("an error of the memory's clock", false),
        62 => ("the GPU's own controller halted", true),
        63 => ("a memory row was set aside for remapping", false),
        64 => ("a memory row could not be remapped", true),
        65 => ("the video engine failed", false),
        68 => ("the video decoder failed", false),
        69 => ("the graphics engine failed", false),
        73 => ("the video encoder failed", false),
        74 => ("an NVLink error", false),
        80 | 81 => ("data were corrupted on their way to the GPU", false),
        92 => ("many corrected memory errors", false),
        95 => ("memory errors that could not be contained", true),
        119 | 120 => ("the GPU's system processor does not answer", true),
        _ => return None,
    })
}

/// Errors in the kernel log since boot. `resets` are GPUs of which the driver itself asks a reset.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, resets: &[String], out: &mut Vec<Finding>) {
    let serious: Vec<(&Xid, &str, bool)> = nvidia
        .xids
        .events
        .iter()
        .filter_map(|xid| meaning(xid.code).map(|(text, stays)| (xid, text, stays)))
        .collect();
    let Some((last, meaning, _)) = serious.last() else { return };
    // A GPU that says that it needs no recovery has been reset since.
    let is_fine = |xid: &Xid| {
        let devices = cx.nvml().map_or(&[][..], |nvml| &nvml.devices);
        devices.iter().any(|d| is_same(&xid.address, d) && d.recovery_action == Some(0))
    };
    let is_error = serious.iter().any(|(xid, _, stays)| *stays && !is_fine(xid));
    let severity =
        if is_error { cx.for_nccl(Severity::Error) } else { cx.for_gpu(Severity::Warning) };
    let mut draft = Draft::new(
        code::RECENT_FATAL_XID,
        format!("{} had Xid {}: {meaning}", last.address, last.code),
    )
    .severity(severity);
    for (xid, _, _) in serious.iter().rev().take(5) {
        draft = draft.evidence(&xid.source, &xid.line);
    }
    let is_told = !resets.is_empty()
        && serious.iter().all(|(xid, _, _)| {
            let short =
                xid.address.trim_start_matches("pci:").split('.').next().unwrap_or_default();
            resets.iter().any(|address| address.contains(short))
        });
    let cause = is_told.then_some(code::GPU_RECOVERY_REQUIRED);
    out.push(
        draft
            .root_remedy(
                "reset the GPU or reboot, if that was not done since",
                vec!["nvidia-smi --gpu-reset".to_owned()],
            )
            .root_remedy(
                "if it comes back, run the vendor's diagnostics",
                vec!["dcgmi diag -r 3".to_owned()],
            )
            .follows(cause.as_ref())
            .done(),
    );
}
