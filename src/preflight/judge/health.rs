//! The GPUs themselves: lost, failing, slowed down, in use.
//!
//! NCCL asks NVML about every GPU of the machine, so one that fails counts whether or not the job
//! uses it. What only slows down, or is busy, counts where the job can use it.

use super::bus;
use super::context::Cx;
use super::draft::Draft;
use super::probe::{GPU_LOST, RESET_REQUIRED, UNKNOWN};
use super::xid::{self, XID_OFF_BUS, is_same};
use crate::host::facts::PciDevice;
use crate::host::facts::nvidia::{Nvidia, NvmlDevice, Xid};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};

fn label(device: &NvmlDevice) -> String {
    match &device.address {
        Some(address) => format!("GPU {} ({address})", device.index),
        None => format!("GPU {}", device.index),
    }
}

fn labels(devices: &[&NvmlDevice]) -> String {
    let indices: Vec<_> = devices.iter().map(|device| device.index.to_string()).collect();
    let word = if devices.len() == 1 { "GPU" } else { "GPUs" };
    format!("{word} {}", indices.join(", "))
}

/// A finding on those devices, with one piece of evidence for each.
fn on(
    code: Code,
    devices: &[&NvmlDevice],
    says: &str,
    source: &str,
    value: impl Fn(&NvmlDevice) -> String,
) -> Draft {
    let mut draft = Draft::new(code, format!("{}: {says}", labels(devices)));
    for device in devices.iter().take(16) {
        draft = draft.evidence(source, format!("{}: {}", label(device), value(device)));
    }
    draft
}

/// The devices that the job can see, by index; all where the variable does not tell indices.
fn visible<'a>(cx: &Cx<'_>, devices: &'a [NvmlDevice]) -> Vec<&'a NvmlDevice> {
    let list = cx.var_set("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let indices: Option<Vec<u32>> = list.split(',').map(|part| part.trim().parse().ok()).collect();
    let uuid = |device: &NvmlDevice| {
        device.uuid.as_deref().is_some_and(|uuid| list.split(',').any(|part| part.trim() == uuid))
    };
    let is_visible = |device: &&NvmlDevice| match &indices {
        Some(indices) => indices.contains(&device.index),
        None if list.contains("GPU-") => uuid(device),
        None => true,
    };
    devices.iter().filter(is_visible).collect()
}

/// Everything that the devices tell, and the bus and the log of them.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) {
    bus::count(cx, nvidia, out);
    let devices =
        cx.nvml().filter(|nvml| nvml.init.code == 0).map_or(&[][..], |nvml| &nvml.devices);
    let all: Vec<&NvmlDevice> = devices.iter().collect();
    let ours = visible(cx, devices);
    let resets = recovery(cx, &all, out);
    failing(cx, nvidia, &all, out);
    rows(cx, &all, out);
    memory_errors(cx, &all, out);
    throttle(cx, &ours, out);
    persistence(cx, nvidia, &ours, out);
    busy(cx, &ours, out);
    mig(cx, &ours, out);
    xid::judge(cx, nvidia, &resets, out);
    bus::width(cx, out);
}

/// Those of the devices, and nothing where there are none.
fn those<'a>(
    devices: &[&'a NvmlDevice],
    test: impl Fn(&NvmlDevice) -> bool,
) -> Option<Vec<&'a NvmlDevice>> {
    let list: Vec<_> = devices.iter().copied().filter(|device| test(device)).collect();
    (!list.is_empty()).then_some(list)
}

/// GPUs that NVML cannot tell of, for no reason that has a finding of its own.
fn failing(cx: &Cx<'_>, nvidia: &Nvidia, all: &[&NvmlDevice], out: &mut Vec<Finding>) {
    let is_told = |device: &NvmlDevice, code: i32| {
        let is_off =
            |gpu: &PciDevice| gpu.is_off_bus && Some(&gpu.address) == device.address.as_ref();
        let is_xid = |event: &Xid| event.code == XID_OFF_BUS && is_same(&event.address, device);
        matches!(code, GPU_LOST | RESET_REQUIRED)
            || cx.nvidia_pci().any(is_off)
            || (code == UNKNOWN && nvidia.xids.events.iter().any(is_xid))
    };
    let fails = |device: &NvmlDevice| {
        device.error.as_ref().is_some_and(|(_, result)| !is_told(device, result.code))
    };
    let Some(list) = those(all, fails) else { return };
    let value = |device: &NvmlDevice| {
        let (call, result) = device.error.clone().unwrap_or_default();
        format!("{call}: {} ({})", result.text, result.code)
    };
    out.push(
        on(code::NVML_FAILED, &list, "NVML answers with an error", "NVML", value)
            .severity(cx.for_nccl(Severity::Error))
            .root_remedy("read the kernel log", vec!["dmesg | grep -i nvrm".to_owned()])
            .done(),
    );
}

fn memory_errors(cx: &Cx<'_>, all: &[&NvmlDevice], out: &mut Vec<Finding>) {
    let Some(list) = those(all, |d| d.ecc_uncorrected.is_some_and(|count| count > 0)) else {
        return;
    };
    let value =
        |d: &NvmlDevice| format!("{} since the driver was loaded", d.ecc_uncorrected.unwrap_or(0));
    let says = "memory errors that could not be corrected";
    out.push(
        on(code::ECC_UNCORRECTED, &list, says, "NVML ECC errors", value)
            .severity(cx.for_gpu(Severity::Warning))
            .root_remedy(
                "reset it when it is free, and see whether they come back",
                reset_commands(&list),
            )
            .done(),
    );
}

fn mig(cx: &Cx<'_>, ours: &[&NvmlDevice], out: &mut Vec<Finding>) {
    let is_named = cx.var_set("CUDA_VISIBLE_DEVICES").is_some_and(|list| list.contains("MIG-"));
    let Some(list) = those(ours, |d| d.mig == Some(true) && !is_named) else { return };
    let off: Vec<_> = list.iter().map(|d| format!("nvidia-smi -i {} -mig 0", d.index)).collect();
    let says = "divided by MIG; a rank sees one instance at most";
    out.push(
        on(code::MIG_ENABLED, &list, says, "NVML MIG mode", |_| "on".to_owned())
            .severity(cx.for_gpu(Severity::Warning))
            .remedy("give each rank its instance", &["nvidia-smi -L", "CUDA_VISIBLE_DEVICES=MIG-…"])
            .root_remedy("or switch MIG off, when nothing uses the GPU", off)
            .done(),
    );
}

fn reset_commands(devices: &[&NvmlDevice]) -> Vec<String> {
    devices.iter().map(|device| format!("nvidia-smi --gpu-reset -i {}", device.index)).collect()
}

/// GPUs that have to be recovered; their addresses.
fn recovery(cx: &Cx<'_>, all: &[&NvmlDevice], out: &mut Vec<Finding>) -> Vec<String> {
    let is_due = |device: &NvmlDevice| {
        device.recovery_action.is_some_and(|action| action != 0)
            || device.error.as_ref().is_some_and(|(_, result)| result.code == RESET_REQUIRED)
    };
    let Some(list) = those(all, is_due) else { return Vec::new() };
    let action = |device: &NvmlDevice| match device.recovery_action {
        Some(1) => "reset",
        Some(2) => "reboot",
        Some(3) => "drain its peers",
        Some(4) => "drain its peers, then reset",
        _ => "reset required",
    };
    let value = |device: &NvmlDevice| action(device).to_owned();
    let says = "to be recovered before it can be used";
    let draft = on(code::GPU_RECOVERY_REQUIRED, &list, says, "NVML recovery action", value)
        .severity(cx.for_nccl(Severity::Error));
    let draft = if list.iter().any(|device| device.recovery_action == Some(2)) {
        draft.root_remedy("reboot", vec!["reboot".to_owned()])
    } else {
        // Behind switches a single one cannot be reset.
        let all_at_once = cx.has_nvswitch().then(|| vec!["nvidia-smi --gpu-reset".to_owned()]);
        let commands = all_at_once.unwrap_or_else(|| reset_commands(&list));
        draft.root_remedy("end what uses it, then reset it", commands)
    };
    out.push(draft.done());
    list.iter().filter_map(|device| device.address.clone()).collect()
}

fn rows(cx: &Cx<'_>, all: &[&NvmlDevice], out: &mut Vec<Finding>) {
    const SOURCE: &str = "NVML remapped rows";
    let has_failed = |d: &NvmlDevice| d.remap_failed == Some(true);
    if let Some(list) = those(all, has_failed) {
        let value = |_: &NvmlDevice| "a remapping failed".to_owned();
        out.push(
            on(code::ROW_REMAP, &list, "the spare memory rows are used up", SOURCE, value)
                .severity(cx.for_nccl(Severity::Error))
                .remedy("replace the board", &[])
                .done(),
        );
    }
    if let Some(list) = those(all, |d| d.remap_pending == Some(true) && !has_failed(d)) {
        // The driver asks for the reset itself then: one cause, told once.
        let is_told = list.iter().all(|d| d.recovery_action.is_some_and(|action| action != 0));
        let cause = is_told.then_some(code::GPU_RECOVERY_REQUIRED);
        let value = |_: &NvmlDevice| "a remapping is pending".to_owned();
        out.push(
            on(code::ROW_REMAP, &list, "memory rows wait for a reset", SOURCE, value)
                .severity(cx.for_gpu(Severity::Warning))
                .root_remedy("reset it when it is free", reset_commands(&list))
                .follows(cause.as_ref())
                .done(),
        );
    }
}

fn throttle(cx: &Cx<'_>, ours: &[&NvmlDevice], out: &mut Vec<Finding>) {
    const REASONS: [(u64, &str); 4] = [
        (0x8, "hardware slowdown"),
        (0x20, "thermal slowdown by software"),
        (0x40, "thermal slowdown by hardware"),
        (0x80, "power brake"),
    ];
    let reasons = |device: &NvmlDevice| {
        let mask = device.throttle_reasons.unwrap_or(0);
        let named = REASONS.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name);
        named.collect::<Vec<_>>().join(", ")
    };
    let slow: Vec<_> = ours.iter().copied().filter(|d| !reasons(d).is_empty()).collect();
    if slow.is_empty() {
        return;
    }
    let value = |device: &NvmlDevice| match device.temperature {
        Some(degrees) => format!("{} at {degrees} degrees", reasons(device)),
        None => reasons(device),
    };
    out.push(
        on(
            code::THERMAL_OR_POWER_THROTTLE,
            &slow,
            "slowed down, and with it every rank",
            "NVML throttle reasons",
            value,
        )
        .severity(cx.for_gpu(Severity::Warning))
        .remedy("look at cooling and power", &["nvidia-smi -q -d TEMPERATURE,POWER,PERFORMANCE"])
        .done(),
    );
}

fn persistence(cx: &Cx<'_>, nvidia: &Nvidia, ours: &[&NvmlDevice], out: &mut Vec<Finding>) {
    let off: Vec<_> = ours.iter().copied().filter(|d| d.persistence == Some(false)).collect();
    if off.is_empty() {
        return;
    }
    // Somebody else holds it open now, a display for instance: nothing is lost while that lasts.
    let is_fast = off.iter().all(|d| d.open_ms.is_some_and(|ms| ms < 1000));
    let severity = cx.for_gpu(if is_fast { Severity::Note } else { Severity::Warning });
    let value = |device: &NvmlDevice| match device.open_ms {
        Some(ms) => format!("off; it took {ms} ms to open"),
        None => "off".to_owned(),
    };
    let draft = on(
        code::PERSISTENCE_OFF,
        &off,
        "set up anew for every program, for persistence mode is off",
        "NVML persistence mode",
        value,
    )
    .severity(severity);
    let draft = if nvidia.persistence_daemon {
        draft
            .evidence(
                "/run/nvidia-persistenced/socket",
                "the daemon runs, without persistence mode",
            )
            .root_remedy(
                "take --no-persistence-mode out of the daemon's unit",
                vec![
                    "systemctl edit --full nvidia-persistenced".to_owned(),
                    "systemctl restart nvidia-persistenced".to_owned(),
                ],
            )
    } else {
        draft.root_remedy(
            "start the daemon, now and at boot",
            vec!["systemctl enable --now nvidia-persistenced".to_owned()],
        )
    };
    out.push(
        draft.root_remedy("or until the next boot", vec!["nvidia-smi -pm 1".to_owned()]).done(),
    );
}

fn busy(cx: &Cx<'_>, ours: &[&NvmlDevice], out: &mut Vec<Finding>) {
    let mode = |device: &NvmlDevice, name: &str| device.compute_mode.as_deref() == Some(name);
    let is_shut = |device: &NvmlDevice| {
        mode(device, "prohibited")
            || (mode(device, "exclusive_process") && !device.processes.is_empty())
    };
    let used: Vec<_> =
        ours.iter().copied().filter(|d| is_shut(d) || !d.processes.is_empty()).collect();
    if used.is_empty() {
        return;
    }
    let is_error = used.iter().any(|device| is_shut(device));
    let says = if is_error { "no rank is let in" } else { "in use by other processes" };
    let value = |device: &NvmlDevice| {
        let mode = device.compute_mode.as_deref().unwrap_or("default");
        let pids: Vec<_> = device.processes.iter().take(8).map(ToString::to_string).collect();
        let memory = match (device.memory_used, device.memory_total) {
            (Some(used), Some(total)) => format!(", {} of {} MiB used", used >> 20, total >> 20),
            _ => String::new(),
        };
        let pids = if pids.is_empty() { "none".to_owned() } else { pids.join(", ") };
        format!("compute mode {mode}, processes: {pids}{memory}")
    };
    let list: Vec<_> =
        used.iter().flat_map(|d| &d.processes).take(16).map(ToString::to_string).collect();
    let mut draft = on(code::GPU_BUSY, &used, says, "NVML processes", value)
        .severity(cx.for_gpu(if is_error { Severity::Error } else { Severity::Warning }));
    if !list.is_empty() {
        let look = format!("ps -o pid,user,etime,cmd -p {}", list.join(","));
        draft = draft.remedy("see whose they are; wait, or choose other GPUs", &[&look]);
    }
    if used.iter().any(|device| device.compute_mode.as_deref().is_some_and(|m| m != "default")) {
        draft = draft.root_remedy(
            "let several processes in again",
            vec!["nvidia-smi -c DEFAULT".to_owned()],
        );
    }
    out.push(draft.done());
}
