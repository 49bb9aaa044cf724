//! GPUs on the PCI bus: lost, not listed, narrow links.

use super::context::Cx;
use super::draft::Draft;
use super::probe::{GPU_LOST, UNKNOWN};
use super::xid::{XID_OFF_BUS, is_at};
use crate::host::facts::nvidia::{Nvidia, Nvml, NvmlDevice, Xid};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};

/// GPUs that left the bus.
pub fn off_bus(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) -> Option<Code> {
    let mut evidence = Vec::new();
    let mut addresses = Vec::new();
    for gpu in cx.nvidia_pci().filter(|gpu| gpu.is_off_bus) {
        let file = format!("/sys/bus/pci/devices/{}/config", gpu.address);
        evidence.push((file, "reads as all ones".to_owned()));
        evidence.extend(xid_of(nvidia, &gpu.address).map(said));
        addresses.push(gpu.address.clone());
    }
    for device in cx.nvml().map_or(&[][..], |nvml| &nvml.devices) {
        let Some((call, result)) = &device.error else { continue };
        let address = address(cx, device);
        let xid = address.as_deref().and_then(|address| xid_of(nvidia, address));
        if result.code == GPU_LOST || (result.code == UNKNOWN && xid.is_some()) {
            evidence.push((
                call.clone(),
                format!("GPU {}: {} ({})", device.index, result.text, result.code),
            ));
            let address = address.unwrap_or_else(|| format!("GPU {}", device.index));
            if !addresses.contains(&address) {
                evidence.extend(xid.map(said));
                addresses.push(address);
            }
        }
    }
    // Without NVML's answer the log is the only witness.
    if addresses.is_empty() && cx.nvml().is_none() {
        for xid in nvidia.xids.events.iter().filter(|xid| xid.code == XID_OFF_BUS) {
            evidence.push(said(xid));
            addresses.push(xid.address.clone());
        }
        addresses.dedup();
    }
    if addresses.is_empty() {
        return None;
    }
    let mut draft =
        Draft::new(code::GPU_OFF_BUS, format!("{} left the PCI bus", addresses.join(", ")))
            .severity(cx.for_nccl(Severity::Error));
    for (source, value) in evidence {
        draft = draft.evidence(source, value);
    }
    out.push(
        draft
            .root_remedy(
                "switch the machine off and on; a warm reboot is often not enough",
                vec!["poweroff".to_owned()],
            )
            .remedy(
                "if it happens again: check power, cables and cooling, then return the board",
                &[],
            )
            .done(),
    );
    Some(code::GPU_OFF_BUS)
}

/// Xid 79 of the device at that address.
fn xid_of<'a>(nvidia: &'a Nvidia, address: &str) -> Option<&'a Xid> {
    let mut events = nvidia.xids.events.iter();
    events.find(|xid| xid.code == XID_OFF_BUS && is_at(&xid.address, address))
}

fn said(xid: &Xid) -> (String, String) {
    (xid.source.clone(), xid.line.clone())
}

/// The address of a device. One that NVML cannot open has none of its own: it is then the one on
/// the bus that no other device has, where there is just one.
fn address(cx: &Cx<'_>, device: &NvmlDevice) -> Option<String> {
    if device.address.is_some() {
        return device.address.clone();
    }
    let known = || cx.nvml().into_iter().flat_map(|nvml| &nvml.devices);
    let is_free = |address: &String| known().all(|other| other.address.as_ref() != Some(address));
    let mut free = cx.nvidia_pci().map(|gpu| gpu.address.clone()).filter(is_free);
    free.next().filter(|_| free.next().is_none())
}

/// The bus against the driver's list and NVML's; in a container they differ by design.
pub fn count(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) {
    if cx.is_container() || nvidia.loaded.is_none() {
        return;
    }
    let on_bus: Vec<_> = cx
        .nvidia_pci()
        .filter(|gpu| gpu.driver.as_deref() == Some("nvidia") && !gpu.is_off_bus)
        .collect();
    let (listed, source) = match cx.nvml().filter(|nvml| nvml.init.code == 0) {
        Some(nvml) => (nvml.device_count.unwrap_or(0) as usize, "nvmlDeviceGetCount"),
        // The driver's list is empty until the first GPU is opened.
        None if nvidia.gpus.is_empty() => return,
        None => (nvidia.gpus.len(), "/proc/driver/nvidia/gpus"),
    };
    if listed >= on_bus.len() {
        return;
    }
    // Without a count it is one rank for each device, of which there is none to count.
    let is_error = cx.intent.nproc.map_or(listed == 0, |nproc| nproc as usize > listed);
    let mut draft = Draft::new(
        code::GPU_COUNT_MISMATCH,
        format!("{listed} of {} GPUs on the bus are listed by the driver", on_bus.len()),
    )
    .severity(cx.for_gpu(if is_error { Severity::Error } else { Severity::Warning }))
    .evidence(source, format!("{listed} GPUs"))
    .evidence("/sys/bus/pci/devices", format!("{} GPUs bound to nvidia", on_bus.len()));
    for gpu in
        on_bus.iter().filter(|gpu| nvidia.gpus.iter().all(|g| g.address != gpu.address)).take(8)
    {
        draft = draft.evidence(
            format!("/sys/bus/pci/devices/{}", gpu.address),
            "is not in the driver's list",
        );
    }
    out.push(
        draft
            .root_remedy(
                "the kernel log says why one was not set up",
                vec!["dmesg | grep -i nvrm".to_owned()],
            )
            .remedy("start fewer ranks meanwhile", &[])
            .done(),
    );
}

/// More ranks than GPUs that they can have, where nothing that was found says why.
pub fn ranks(cx: &Cx<'_>, out: &mut Vec<Finding>) {
    const EXPLAINED: [Code; 3] = [code::GPU_COUNT_MISMATCH, code::VFIO_BOUND, code::GPU_OFF_BUS];
    let is_explained =
        |found: &Finding| found.severity == Severity::Error || EXPLAINED.contains(&found.code);
    if !cx.may_use_nvidia() || cx.wants_only_cpu_backend() || out.iter().any(is_explained) {
        return;
    }
    let (Some(nproc), Some((gpus, source))) = (cx.intent.nproc, available(cx)) else { return };
    if nproc as usize <= gpus {
        return;
    }
    let wants_nccl = cx.backends().contains(&"nccl");
    let mut draft = Draft::new(
        code::MORE_RANKS_THAN_GPUS,
        format!("{nproc} ranks, and {gpus} GPUs for them: NCCL gives no two ranks the same"),
    )
    .severity(if wants_nccl { Severity::Error } else { Severity::Warning })
    .evidence("--nproc", nproc.to_string())
    .evidence(source, format!("{gpus} GPUs"));
    if let Some(list) = cx.var_set("CUDA_VISIBLE_DEVICES") {
        draft = draft.evidence("CUDA_VISIBLE_DEVICES", list);
    }
    out.push(
        draft
            .remedy("start one rank for each GPU", &["nvlaunch --nproc gpu …"])
            .remedy("or, if the ranks do not use NCCL, say so", &["nvlaunch --backend gloo …"])
            .done(),
    );
}

/// How many GPUs the ranks can have, and who says so; `None` where it is not known, or where GPUs
/// are divided.
fn available(cx: &Cx<'_>) -> Option<(usize, &'static str)> {
    let nvidia = cx.nvidia()?;
    let list = cx.var_set("CUDA_VISIBLE_DEVICES");
    let is_divided = |nvml: &Nvml| nvml.devices.iter().any(|device| device.mig == Some(true));
    if list.is_some_and(|list| list.contains("MIG-")) || cx.nvml().is_some_and(is_divided) {
        return None;
    }
    let (all, source) = match cx.nvml().filter(|nvml| nvml.init.code == 0) {
        Some(nvml) => (nvml.device_count? as usize, "nvmlDeviceGetCount"),
        // A container may have fewer than the driver lists.
        None if cx.is_container() || nvidia.gpus.is_empty() => return None,
        None => (nvidia.gpus.len(), "/proc/driver/nvidia/gpus"),
    };
    let named = list.map_or(all, |list| list.split(',').count());
    Some((all.min(named), source))
}

/// Links with fewer lanes than they could have.
pub fn width(cx: &Cx<'_>, out: &mut Vec<Finding>) {
    let narrow: Vec<_> = cx
        .nvidia_pci()
        .filter(|gpu| gpu.driver.as_deref() == Some("nvidia") && !gpu.is_off_bus)
        .filter_map(|gpu| gpu.link_width.map(|width| (gpu, width)))
        .filter(|(_, (now, most))| (1..=32).contains(now) && (1..=32).contains(most) && now < most)
        .collect();
    let Some((gpu, (now, most))) = narrow.first() else { return };
    let mut draft = Draft::new(
        code::PCIE_LINK_DEGRADED,
        format!(
            "{} GPUs have a narrow PCI link: {} has {now} of {most} lanes",
            narrow.len(),
            gpu.address
        ),
    )
    .severity(cx.for_gpu(Severity::Warning));
    for (gpu, (now, most)) in narrow.iter().take(16) {
        let file = format!("/sys/bus/pci/devices/{}/current_link_width", gpu.address);
        draft = draft.evidence(file, format!("{now} of {most}"));
    }
    out.push(draft.remedy("reseat the board or its riser; look at the slot's lanes", &[]).done());
}
