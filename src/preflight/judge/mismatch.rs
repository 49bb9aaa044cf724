//! The driver's module in the kernel against its libraries: one cause, many symptoms.
//!
//! - M1: a mismatch is one finding. What NVML, CUDA and NCCL make of it is its evidence, or a note
//!   that points to it.
//! - M2: NVML wants equality, letter by letter. libcuda does not: it accepts an older module of a
//!   branch in its list, on some kinds of GPU. A newer libcuda from a cuda-compat folder beside an
//!   NVML that fits is a supported way to run, and no finding.
//! - M3: an answer outweighs a reading: where NVML was asked and works, there is no mismatch; where
//!   it says 18, there is one, whatever the files are called.

use std::cmp::Ordering;

use super::context::{Build, Cx, compare};
use super::draft::Draft;
use super::{cures, history, libraries, remedy};
use crate::host::facts::nvidia::{Library, Nvidia};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};
use crate::preflight::version::{Version, upstream};

/// NVML's "driver/library version mismatch".
const NVML_MISMATCH: i32 = 18;
/// CUDA's `SYSTEM_DRIVER_MISMATCH`.
const CUDA_MISMATCH: i32 = 803;
/// CUDA's `COMPAT_NOT_SUPPORTED_ON_DEVICE`.
const CUDA_UNSUPPORTED: i32 = 804;

/// What libcuda makes of the module in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CudaVerdict {
    /// It works, or nothing speaks against it.
    Works,
    /// 803: the module is newer than the library.
    ModuleNewer,
    /// 803: the module's branch is not in the library's list.
    BranchUnknown,
    /// 803: forward compatibility is switched off by a variable.
    SwitchedOff,
    /// 804: this kind of GPU may not.
    GpuNotAllowed,
    /// There is no libcuda, or its version is not known.
    Unknown,
}

/// What was found of mismatches, and whether there is one.
pub fn judge(cx: &Cx<'_>, out: &mut Vec<Finding>) -> Option<Code> {
    let nvidia = cx.nvidia()?;
    let (kernel_text, kernel) = cx.kernel_module()?;
    if cx.nvml_works() {
        return judge_cuda_alone(cx, nvidia, kernel_text, &kernel, out);
    }
    let usable = |library: &Option<Library>| {
        library.clone().filter(|l| l.problem.is_none() && l.version.is_some())
    };
    let nvml = usable(&nvidia.libraries.nvml);
    let cuda = usable(&nvidia.libraries.cuda);
    let version = |library: &Option<Library>| library.as_ref().and_then(|l| l.version.clone());
    let said = cx.nvml().map(|answer| answer.init.code);
    let by_answer = || {
        // NVML's own version carries CUDA's major in front: 13.580.178.04.
        let text = cx.nvml()?.nvml_version.clone()?;
        let (first, rest) = text.split_once('.')?;
        Some(if first.parse::<u32>().is_ok_and(|n| n < 100) { rest.to_owned() } else { text })
    };
    let nvml_version = if said == Some(NVML_MISMATCH) {
        by_answer().or_else(|| version(&nvml))
    } else {
        version(&nvml)
    };
    let nvml_order = nvml_version.as_deref().and_then(|v| compare(v, kernel_text));
    let cuda_order = version(&cuda).as_deref().and_then(|v| compare(v, kernel_text));
    let nvml_text = nvml_version.as_deref();

    let code = match (nvml_order, said) {
        (Some(Ordering::Less), _) => code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE,
        (Some(Ordering::Greater), _) => code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE,
        (_, Some(NVML_MISMATCH)) if cuda_order == Some(Ordering::Less) => {
            code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE
        }
        (_, Some(NVML_MISMATCH)) => code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE,
        (Some(Ordering::Equal) | None, _) => {
            return judge_cuda_alone(cx, nvidia, kernel_text, &kernel, out);
        }
    };
    let verdict = cuda_verdict(cx, nvidia, cuda.as_ref(), &kernel);
    let severity = severity(cx, verdict);
    let is_older = code == code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE;
    let relation = if is_older { "older" } else { "newer" };
    let what = match nvml_text.filter(|_| nvml_order.is_some_and(Ordering::is_ne)) {
        Some(libraries) => format!("the driver's libraries ({libraries}) are {relation} than"),
        None => "NVML finds the driver's libraries to be of another version than".to_owned(),
    };
    let effect = effect(cx, verdict);
    let summary = format!("{what} the module in the kernel ({kernel_text}){effect}");
    let mut draft = Draft::new(code.clone(), summary).severity(severity);
    draft = loaded_evidence(draft, nvidia);
    draft = library_evidence(draft, nvidia.libraries.nvml.as_ref());
    draft = library_evidence(draft, nvidia.libraries.cuda.as_ref());
    if let Some(answer) = cx.nvml() {
        draft = draft.evidence("nvmlInit", format!("{} ({})", answer.init.code, answer.init.text));
    }
    draft = cuda_evidence(draft, cx, verdict);
    draft = nccl_evidence(draft, cx);
    let fixes = history::disk(cx, nvidia, nvml_text);
    for library in cures::beside(nvidia, kernel_text) {
        draft = draft.evidence(&library.path, "is of the module's version, and is not taken");
    }
    if let history::Disk::Fits(path) = &fixes {
        draft = draft.evidence(path, "the module on disk is of the libraries' version");
    }
    draft = cures::remedies(draft, cx, nvidia, verdict, &fixes, [nvml_text, Some(kernel_text)]);
    out.push(draft.done());
    consequences(cx, nvidia, &code, verdict, cuda.as_ref(), out);
    // Libraries that a variable leads to were not brought by an upgrade, nor would a reboot help.
    if !cures::is_by_path(nvidia) {
        history::related(cx, nvidia, &code, &fixes, kernel_text, nvml_text, out);
    }
    Some(code)
}

/// How bad a mismatch is for this job.
fn severity(cx: &Cx<'_>, verdict: CudaVerdict) -> Severity {
    if !matches!(verdict, CudaVerdict::Works | CudaVerdict::Unknown) {
        return cx.for_gpu(Severity::Error);
    }
    let Some((_, nccl)) = cx.nccl() else { return cx.for_nccl(Severity::Error) };
    let without_peers = cx.is_on("NCCL_P2P_DISABLE") || cx.var_set("NCCL_P2P_LEVEL") == Some("LOC");
    let usual = match nccl {
        v if v.is_at_least(&[2, 18, 3]) => Severity::Error,
        v if v.is_at_least(&[2, 12, 7]) && without_peers => Severity::Warning,
        v if v.is_at_least(&[2, 12, 7]) => Severity::Error,
        v if v.is_at_least(&[2, 8, 3]) => Severity::Warning,
        _ => Severity::Error,
    };
    cx.for_nccl(usual)
}

/// What it means, as the end of the summary.
fn effect(cx: &Cx<'_>, verdict: CudaVerdict) -> &'static str {
    match (verdict, cx.build()) {
        (_, Build::Cpu) => "; this PyTorch uses no GPU and is not touched",
        _ if cx.hides_nvidia() => "; the GPUs are hidden from this job, which is not touched",
        _ if cx.wants_only_cpu_backend() => "; gloo is not touched",
        (CudaVerdict::Works, _) => ": CUDA works, NVML and NCCL do not",
        (CudaVerdict::Unknown, _) => ": NVML and NCCL do not work",
        _ => ": neither CUDA nor NCCL works",
    }
}

/// What libcuda makes of the module; what it answered outweighs what its file lets expect (M3).
pub fn cuda_verdict(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    cuda: Option<&Library>,
    kernel: &Version,
) -> CudaVerdict {
    let expected = expected_verdict(cx, nvidia, cuda, kernel);
    match cx.cuda_code() {
        Some(0) => CudaVerdict::Works,
        Some(CUDA_UNSUPPORTED) => CudaVerdict::GpuNotAllowed,
        Some(CUDA_MISMATCH) => match expected {
            CudaVerdict::Works | CudaVerdict::Unknown => CudaVerdict::BranchUnknown,
            other => other,
        },
        _ => expected,
    }
}

fn expected_verdict(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    cuda: Option<&Library>,
    kernel: &Version,
) -> CudaVerdict {
    let Some(cuda) = cuda else { return CudaVerdict::Unknown };
    let Some(library) = cuda.version.as_deref().and_then(Version::parse) else {
        return CudaVerdict::Unknown;
    };
    match kernel.compare(&library) {
        Ordering::Equal => CudaVerdict::Works,
        // Only major and minor count here: 580.95.05 works with 580.95.02.
        Ordering::Greater
            if (kernel.major(), kernel.minor()) != (library.major(), library.minor()) =>
        {
            CudaVerdict::ModuleNewer
        }
        _ if cx.is_on("__CUDA_DISABLE_FORWARD_COMPATIBILITY") => CudaVerdict::SwitchedOff,
        _ if !branches(cuda, &library).contains(&kernel.major()) => CudaVerdict::BranchUnknown,
        _ if excluded_gpu(nvidia).is_some() => CudaVerdict::GpuNotAllowed,
        _ => CudaVerdict::Works,
    }
}

/// The branches of kernel modules that a libcuda works with: its note, else what is known of those
/// releases that carry none, else its own.
fn branches(cuda: &Library, library: &Version) -> Vec<u32> {
    if !cuda.compatible_branches.is_empty() {
        return cuda.compatible_branches.clone();
    }
    match library.major() {
        535 => vec![450, 470, 515, 525, 535],
        550 => vec![470, 525, 535, 550],
        major => vec![major],
    }
}

/// A GPU for which NVIDIA allows no newer libcuda, by its model or its brand.
fn excluded_gpu(nvidia: &Nvidia) -> Option<String> {
    let is_excluded = |model: &str| {
        let model = model.to_ascii_uppercase();
        ["GEFORCE", "TITAN", " NVS", "GRID"].iter().any(|kind| model.contains(kind))
    };
    let by_model =
        nvidia.gpus.iter().filter_map(|gpu| gpu.model.as_deref()).find(|m| is_excluded(m));
    by_model.map(ToOwned::to_owned)
}

/// libcuda alone is off: NVML fits, or was not found. The code is that of what keeps CUDA from
/// working.
fn judge_cuda_alone(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    kernel_text: &str,
    kernel: &Version,
    out: &mut Vec<Finding>,
) -> Option<Code> {
    let cuda = nvidia.libraries.cuda.as_ref().filter(|l| l.problem.is_none())?;
    let version = cuda.version.as_deref()?;
    if compare(version, kernel_text).is_none_or(Ordering::is_eq) {
        return None;
    }
    let begin = |code, summary: String| {
        let draft = Draft::new(code, summary);
        let draft = loaded_evidence(draft, nvidia);
        library_evidence(library_evidence(draft, Some(cuda)), nvidia.libraries.nvml.as_ref())
    };
    let verdict = cuda_verdict(cx, nvidia, Some(cuda), kernel);
    let error = cx.for_gpu(Severity::Error);
    let finding = match verdict {
        CudaVerdict::Works | CudaVerdict::Unknown if is_compat(cuda) || cx.is_container() => {
            return None;
        }
        CudaVerdict::Works | CudaVerdict::Unknown => {
            let nvml = nvidia.libraries.nvml.as_ref().and_then(|l| l.version.as_deref());
            if nvml.is_none_or(|nvml| nvml == version) {
                return None;
            }
            begin(
                code::NVML_CUDA_LIB_SKEW,
                format!("libcuda is {version}, libnvidia-ml and the module are {kernel_text}"),
            )
            .severity(cx.for_gpu(Severity::Warning))
            .root_remedy(
                "install both from one source, in one version",
                owner_of_libcuda(cx, version)
                    .map(|package| remedy::reinstall(cx, &package))
                    .unwrap_or_default(),
            )
        }
        CudaVerdict::ModuleNewer => begin(
            code::DRIVER_LIB_MISMATCH_OLDER_USERSPACE,
            format!(
                "libcuda ({version}) is older than the module in the kernel ({kernel_text}): CUDA \
                 does not work"
            ),
        )
        .severity(error),
        CudaVerdict::BranchUnknown | CudaVerdict::SwitchedOff => begin(
            code::CUDA_FWD_COMPAT_BRANCH,
            format!(
                "libcuda {version} does not work with the driver's branch {}: CUDA does not work",
                kernel.major()
            ),
        )
        .severity(error),
        CudaVerdict::GpuNotAllowed => begin(
            code::CUDA_FWD_COMPAT_UNSUPPORTED_GPU,
            format!(
                "libcuda {version} is newer than the driver {kernel_text}, which this GPU does not \
                 allow: CUDA does not work"
            ),
        )
        .evidence_if(excluded_gpu(nvidia).map(|m| ("/proc/driver/nvidia/gpus".to_owned(), m)))
        .severity(error),
    };
    let finding = match verdict {
        CudaVerdict::Works | CudaVerdict::Unknown => finding,
        verdict => {
            let finding = cures::drop_folder(cuda_evidence(finding, cx, verdict), cuda);
            finding.root_remedy(format!("or bring the kernel's driver to {version}"), Vec::new())
        }
    };
    let finding = finding.done();
    let code = finding.code.clone();
    out.push(finding);
    (code != code::NVML_CUDA_LIB_SKEW).then_some(code)
}

/// Whether a libcuda is from a cuda-compat package.
pub fn is_compat(library: &Library) -> bool {
    library.path.split('/').any(|part| part == "compat" || part.starts_with("cuda-compat"))
}

fn loaded_evidence(draft: Draft, nvidia: &Nvidia) -> Draft {
    let Some(loaded) = &nvidia.loaded else { return draft };
    draft.evidence(&loaded.source, format!("the kernel runs {}", loaded.version))
}

fn library_evidence(draft: Draft, library: Option<&Library>) -> Draft {
    let Some(library) = library else { return draft };
    let version = library.version.as_deref().unwrap_or("of unknown version");
    draft.evidence(&library.path, format!("{} is {version}, by {}", library.name, library.found_by))
}

fn cuda_evidence(draft: Draft, cx: &Cx<'_>, verdict: CudaVerdict) -> Draft {
    if let Some(code) = cx.cuda_code() {
        return draft.evidence("cuInit", code.to_string());
    }
    let value = match verdict {
        CudaVerdict::Works => "expected to work: libcuda accepts this older module",
        CudaVerdict::ModuleNewer => {
            "expected to fail with 803: no libcuda works with a newer module"
        }
        CudaVerdict::BranchUnknown => {
            "expected to fail with 803: the module's branch is not in libcuda's list"
        }
        CudaVerdict::SwitchedOff => {
            "expected to fail with 803: __CUDA_DISABLE_FORWARD_COMPATIBILITY is set"
        }
        CudaVerdict::GpuNotAllowed => {
            "expected to fail with 804: GeForce and TITAN boards allow no newer libcuda"
        }
        CudaVerdict::Unknown => return draft,
    };
    draft.evidence("cuInit", value)
}

fn nccl_evidence(draft: Draft, cx: &Cx<'_>) -> Draft {
    let Some((text, version)) = cx.nccl() else { return draft };
    let source = cx.facts.python.nccl.as_ref().map_or("NCCL", |nccl| nccl.path.as_str());
    let value = if version.is_at_least(&[2, 18, 3]) {
        "cannot start without NVML; no variable changes that"
    } else if version.is_at_least(&[2, 12, 7]) {
        "fails as soon as two GPUs of a node want peer access, unless NCCL_P2P_DISABLE=1"
    } else if version.is_at_least(&[2, 8, 3]) {
        "goes on without NVML, and without NVLink"
    } else {
        "cannot start without NVML"
    };
    draft.evidence(source, format!("NCCL {text} {value}"))
}

/// The package that owns libcuda, by the list of packages, else as the distribution calls it.
fn owner_of_libcuda(cx: &Cx<'_>, version: &str) -> Option<String> {
    let mut owners = cx.facts.packages.installed.iter().filter(|package| {
        upstream(&package.version) == version
            && (package.name.starts_with("libcuda") || package.name.contains("compute"))
    });
    let owner = owners.next().map(|package| package.name.clone());
    owner.or_else(|| libraries::package(cx, libraries::LIBCUDA))
}

/// What follows, where it is more than the cause itself tells (M1).
fn consequences(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    cause: &Code,
    verdict: CudaVerdict,
    cuda: Option<&Library>,
    out: &mut Vec<Finding>,
) {
    let (code, summary) = match verdict {
        CudaVerdict::GpuNotAllowed => (
            code::CUDA_FWD_COMPAT_UNSUPPORTED_GPU,
            "so CUDA fails with 804: this kind of GPU allows no newer libcuda",
        ),
        CudaVerdict::BranchUnknown | CudaVerdict::SwitchedOff => (
            code::CUDA_FWD_COMPAT_BRANCH,
            "so CUDA fails with 803: this libcuda does not accept the driver's branch",
        ),
        _ => return,
    };
    let draft = library_evidence(Draft::new(code, summary), cuda);
    let draft = draft.evidence_if(
        excluded_gpu(nvidia)
            .filter(|_| verdict == CudaVerdict::GpuNotAllowed)
            .map(|model| ("/proc/driver/nvidia/gpus".to_owned(), model)),
    );
    out.push(cuda_evidence(draft, cx, verdict).follows(Some(cause)).done());
}
