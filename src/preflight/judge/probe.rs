//! What the driver answered when it was asked, and that it did not answer.
//!
//! An answer that another finding explains is not told a second time.

use super::context::Cx;
use super::draft::Draft;
use crate::host::facts::nvidia::{Death, Hang, Nvidia, Probe, ResultCode};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};

/// NVML's `GPU_IS_LOST`.
pub const GPU_LOST: i32 = 15;
/// NVML's `RESET_REQUIRED`.
pub const RESET_REQUIRED: i32 = 16;
/// NVML's and CUDA's "unknown error".
pub const UNKNOWN: i32 = 999;

/// NVML and CUDA as they answered; `cause` is what already explains a failure.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, cause: Option<&Code>, out: &mut Vec<Finding>) {
    match &nvidia.nvml {
        // Not NVML alone but the driver behind it hangs, and CUDA asks the same driver: one rank
        // hangs as well as several.
        Probe::Hung(hang) => out.push(hung(cx, "NVML", hang, cx.for_gpu(Severity::Error), cause)),
        Probe::Died(death) => {
            out.push(died(cx, "NVML", death, cx.for_nccl(Severity::Error), cause));
        }
        Probe::Answered(nvml) if nvml.init.code != 0 && cause.is_none() => {
            out.push(nvml_failed(cx, nvidia, &nvml.init, nvml.library.as_deref()));
        }
        _ => {}
    }
    match &nvidia.cuda {
        Probe::Hung(hang) => out.push(hung(cx, "CUDA", hang, cx.for_gpu(Severity::Error), cause)),
        Probe::Died(death) => out.push(died(cx, "CUDA", death, cx.for_gpu(Severity::Error), cause)),
        Probe::Answered(cuda) if cuda.init.code != 0 && cause.is_none() => {
            out.extend(cuda_failed(cx, &cuda.init, out));
        }
        _ => {}
    }
}

fn hung(cx: &Cx<'_>, who: &str, hang: &Hang, severity: Severity, cause: Option<&Code>) -> Finding {
    // The deadline, not the moment at which its end was noticed.
    let seconds = (hang.after_ms / 1000).max(1);
    let mut draft = Draft::new(
        code::GPU_PROBE_HANG,
        format!("{who} did not come back from {} within {seconds} s", hang.stage),
    )
    .severity(severity)
    .evidence(&hang.stage, format!("no answer within {} ms", hang.after_ms));
    if let Some(state) = hang.process_state {
        let kill = if hang.survived_kill { ", and it was still there after SIGKILL" } else { "" };
        draft = draft.evidence("/proc/PID/stat", format!("the process is in state {state}{kill}"));
    }
    if let Some(function) = &hang.waits_in {
        draft = draft.evidence("/proc/PID/wchan", format!("it waits in {function}"));
    }
    let last = cx.nvidia().and_then(|n| n.xids.events.last());
    draft = draft.evidence_if(last.map(|xid| (xid.source.clone(), xid.line.clone())));
    draft =
        draft.root_remedy("read the kernel log", vec!["dmesg | grep -i -e nvrm -e xid".to_owned()]);
    draft = draft.root_remedy(
        "switch persistence mode on, if this was the first call since boot and only slow",
        vec!["nvidia-smi -pm 1".to_owned()],
    );
    draft.root_remedy("else reboot", vec!["reboot".to_owned()]).follows(cause).done()
}

fn died(
    cx: &Cx<'_>,
    who: &str,
    death: &Death,
    severity: Severity,
    cause: Option<&Code>,
) -> Finding {
    let mut draft = Draft::new(
        code::PROBE_DIED,
        format!("{who} ended the process that asked it, in {}: {}", death.stage, death.exit),
    )
    .severity(severity)
    .evidence(&death.stage, &death.exit);
    let libraries = cx.nvidia().map(|n| &n.libraries);
    for library in libraries.into_iter().flat_map(|l| [&l.nvml, &l.cuda]).flatten() {
        let version = library.version.as_deref().unwrap_or("of unknown version");
        draft = draft.evidence(&library.path, format!("{} is {version}", library.name));
    }
    if let Some(preload) = cx.var_set("LD_PRELOAD") {
        draft = draft.evidence("LD_PRELOAD", preload);
    }
    draft
        .remedy("see whether nvidia-smi ends in the same way", &["nvidia-smi"])
        .root_remedy("if so, reinstall the driver of one source", Vec::new())
        .follows(cause)
        .done()
}

fn nvml_failed(cx: &Cx<'_>, nvidia: &Nvidia, init: &ResultCode, library: Option<&str>) -> Finding {
    let draft = Draft::new(
        code::NVML_FAILED,
        format!("NVML does not start: {} ({})", init.text, init.code),
    )
    .severity(cx.for_nccl(Severity::Error))
    .evidence("nvmlInit", format!("{} ({})", init.code, init.text))
    .evidence_if(library.map(|path| (path.to_owned(), "is the library that was asked".to_owned())));
    let draft = match &nvidia.loaded {
        Some(loaded) => {
            draft.evidence(&loaded.source, format!("the kernel runs {}", loaded.version))
        }
        None => draft.evidence("/proc/driver/nvidia/version", "is not there"),
    };
    draft
        .root_remedy("read the kernel log", vec!["dmesg | grep -i nvrm".to_owned()])
        .root_remedy("reload the driver, or reboot", Vec::new())
        .done()
}

/// `cuInit`'s failures that no finding tells yet.
fn cuda_failed(cx: &Cx<'_>, init: &ResultCode, out: &[Finding]) -> Option<Finding> {
    let told = |codes: &[Code]| out.iter().any(|finding| codes.contains(&finding.code));
    let why = match init.code {
        100 if cx.hides_nvidia() => return None,
        100 => "no device is visible to it",
        802 if told(&[code::FABRIC_MANAGER_NOT_READY, code::FABRIC_MANAGER_VERSION]) => {
            return None;
        }
        803 | 804
            if told(&[
                code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE,
                code::CUDA_FWD_COMPAT_BRANCH,
                code::CUDA_FWD_COMPAT_UNSUPPORTED_GPU,
            ]) =>
        {
            return None;
        }
        803 => "libcuda does not work with this module",
        804 => "this GPU allows no newer libcuda",
        805 => "the MPS server refuses",
        46 => "another process has the GPU for itself",
        999 => "often the control group, or /dev/nvidia-uvm",
        _ => "the driver refuses",
    };
    let visible = cx.var("CUDA_VISIBLE_DEVICES");
    let draft =
        Draft::new(code::CUDA_INIT_FAILED, format!("CUDA does not start ({}): {why}", init.code))
            .severity(cx.for_gpu(Severity::Error))
            .evidence("cuInit", format!("{} ({})", init.code, init.text))
            .evidence_if(visible.map(|v| ("CUDA_VISIBLE_DEVICES".to_owned(), format!("is `{v}`"))));
    let draft = match init.code {
        805 => draft.remedy(
            "see the MPS server's state",
            &["echo get_server_list | nvidia-cuda-mps-control"],
        ),
        46 => draft
            .remedy("see who has it", &["nvidia-smi --query-compute-apps=pid,name --format=csv"]),
        100 => draft.remedy("see which devices there are", &["nvidia-smi -L"]),
        _ => draft.root_remedy("read the kernel log", vec!["dmesg | grep -i nvrm".to_owned()]),
    };
    Some(draft.done())
}
