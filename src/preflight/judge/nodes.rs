//! Device nodes, and containers that have none or may not use them.

use super::context::{Cx, is_gpu_node};
use super::draft::Draft;
use super::remedy;
use crate::host::facts::nvidia::Nvidia;
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};

const UVM: &str = "/dev/nvidia-uvm";
const CTL: &str = "/dev/nvidiactl";

/// A container without GPUs, or one that lost them.
pub fn container(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) -> Option<Code> {
    let container = cx.facts.system.container.as_ref()?;
    if cx.nvml_works() {
        return None;
    }
    let gpus = cx.nvidia_pci().count();
    let has_nodes = nvidia.nodes.iter().any(|node| is_gpu_node(&node.path));
    let finding = if !has_nodes && gpus > 0 && nvidia.loaded.is_some() {
        without_gpus(cx, gpus, &container.kind, &container.source)
    } else {
        let answer = cx.nvml().filter(|nvml| matches!(nvml.init.code, 999 | 17))?;
        if !has_nodes {
            return None;
        }
        let mut draft = Draft::new(
            code::CONTAINER_CGROUP_LOST,
            "the container has its device nodes and may not open them any more",
        )
        .severity(cx.for_gpu(Severity::Error))
        .evidence(&container.source, format!("a {} container", container.kind))
        .evidence("nvmlInit", format!("{} ({})", answer.init.code, answer.init.text));
        for node in nvidia.nodes.iter().filter(|node| is_gpu_node(&node.path)).take(2) {
            draft = draft.evidence(&node.path, "is there");
        }
        draft
            .remedy("make the container again", &[])
            .root_remedy(
                "against the next time, on the host: container toolkit 1.18 or newer, with CDI",
                vec!["nvidia-ctk --version".to_owned()],
            )
            .done()
    };
    let code = finding.code.clone();
    out.push(finding);
    Some(code)
}

fn without_gpus(cx: &Cx<'_>, gpus: usize, kind: &str, source: &str) -> Finding {
    let visible = cx.var("NVIDIA_VISIBLE_DEVICES");
    let draft = Draft::new(
        code::CONTAINER_NO_GPU_RUNTIME,
        format!("this container was started without GPUs; its host has {gpus}"),
    )
    .severity(cx.for_gpu(Severity::Error))
    .evidence(source, format!("a {kind} container"))
    .evidence("/dev", "no /dev/nvidia0 or the like")
    .evidence(
        "NVIDIA_VISIBLE_DEVICES",
        visible.map_or("is not set".to_owned(), |value| format!("is `{value}`")),
    );
    let what = "start the container with GPUs";
    let draft = remedy::container_with_gpus(cx, draft, what, None);
    draft.remedy("or, if the CPU is meant, say so", &["nvlaunch --backend gloo …"]).done()
}

/// Nodes that are missing, or that this user may not use.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) -> Option<Code> {
    if nvidia.loaded.is_none() || cx.cuda_code() == Some(0) {
        return None;
    }
    let has = |path: &str| nvidia.nodes.iter().any(|node| node.path == path);
    let gpu_nodes = || nvidia.nodes.iter().filter(|node| is_gpu_node(&node.path));
    let forbidden: Vec<_> = nvidia
        .nodes
        .iter()
        .filter(|node| node.is_usable == Some(false))
        .filter(|node| node.path == CTL || node.path == UVM || is_gpu_node(&node.path))
        .collect();
    let before = out.len();
    if !forbidden.is_empty() {
        let all_gpus = gpu_nodes().all(|node| node.is_usable == Some(false));
        let is_all = all_gpus || forbidden.iter().any(|node| !is_gpu_node(&node.path));
        let usual = if is_all { Severity::Error } else { Severity::Warning };
        let mut draft = Draft::new(
            code::DEV_PERMISSION,
            format!("this user may not use {} of the device nodes", forbidden.len()),
        )
        .severity(cx.for_gpu(usual));
        for node in forbidden.iter().take(8) {
            draft = draft.evidence(&node.path, "may not be read and written");
        }
        for (name, value) in &nvidia.params {
            draft = draft.evidence("/proc/driver/nvidia/params", format!("{name}: {value}"));
        }
        let first = &forbidden[0].path;
        out.push(
            draft
                .remedy("see who may", &[&format!("ls -l {first}"), "id"])
                .root_remedy(
                    "join that group, then log in again",
                    vec![format!("usermod -aG $(stat -c %G {first}) $SUDO_USER")],
                )
                .done(),
        );
    }
    // Without nodes at all the first CUDA program makes them, if a setuid helper is there.
    let says_unknown = cx.cuda_code() == Some(999);
    let can_be_made = nvidia.modprobe_helper.is_some() && !cx.is_container();
    let is_started = has(CTL) || gpu_nodes().next().is_some();
    if !has(UVM) && (says_unknown || (is_started && !can_be_made)) {
        let draft = Draft::new(
            code::UVM_NODE_MISSING,
            format!("{UVM} is missing: CUDA does not work, though nvidia-smi may"),
        )
        .severity(cx.for_gpu(Severity::Error))
        .evidence(UVM, "is not there");
        let draft = if nvidia.modules.iter().any(|module| module == "nvidia_uvm") {
            draft.evidence("/sys/module/nvidia_uvm", "is loaded")
        } else {
            draft.evidence("/sys/module/nvidia_uvm", "is not loaded")
        };
        let draft = if cx.is_container() {
            let what = "pass the node into the container (the container toolkit does)";
            remedy::container_with_gpus(cx, draft, what, None)
        } else if nvidia.modprobe_helper.is_some() {
            draft.remedy("make it; the helper is setuid", &["nvidia-modprobe -u -c=0"])
        } else {
            draft.root_remedy(
                "load the module and make the node",
                vec!["modprobe nvidia-uvm".to_owned(), "nvidia-modprobe -u -c=0".to_owned()],
            )
        };
        out.push(draft.done());
    }
    out[before..].first().map(|finding| finding.code.clone())
}
