//! Vendors, `PyTorch`'s build, and the backend that was asked for: what cannot work together.

use super::context::{Build, Cx};
use super::draft::Draft;
use crate::host::vendors::{self, Vendor};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};
use crate::preflight::vendor::{Choice, Settled, facts_of, has_plugin, torch_fits};
use crate::preflight::version::Version;

/// Backends that belong to no vendor.
const NEUTRAL: [&str; 4] = ["gloo", "mpi", "ucc", "fake"];

fn torch_evidence(cx: &Cx<'_>, draft: Draft) -> Draft {
    let Some(torch) = &cx.facts.python.torch else { return draft };
    let build = match cx.build() {
        Build::Cuda => format!("built for CUDA {}", torch.cuda.as_deref().unwrap_or_default()),
        Build::Rocm => "built for ROCm".to_owned(),
        Build::Xpu => "built for Intel's GPUs".to_owned(),
        _ => "built for the CPU".to_owned(),
    };
    draft.evidence(&torch.source, format!("{} {build}", torch.version))
}

fn device_evidence(cx: &Cx<'_>, vendor: &Vendor, draft: Draft) -> Draft {
    let on_bus = |device: &&crate::host::facts::PciDevice| {
        device.vendor == vendor.pci.vendor
            && device.kind == crate::host::facts::PciKind::Accelerator
    };
    let count = cx.facts.pci.iter().filter(on_bus).count();
    let nodes = facts_of(cx, vendor).map_or(&[][..], |facts| &facts.nodes);
    let draft = if count > 0 {
        draft.evidence("/sys/bus/pci/devices", format!("{}: {count}", vendor.title))
    } else {
        draft
    };
    match (nodes.first(), count) {
        (Some(first), _) => draft.evidence(first, format!("{} device nodes", nodes.len())),
        (None, 0) => {
            draft.evidence("/dev", format!("{}: seen by its module or nodes", vendor.title))
        }
        (None, _) => draft,
    }
}

/// The backend that `PyTorch` has for a vendor here; `None` where it has none.
pub fn backend_of(cx: &Cx<'_>, vendor: &Vendor) -> Option<&'static str> {
    if !torch_fits(cx, vendor) {
        return None;
    }
    match vendor.name {
        "gcu" => has_library(cx, vendor, "libeccl").then_some("eccl"),
        "xpu" => {
            // Before 2.8 the collectives came with a package of their own, under another name.
            let packages = &cx.facts.python.packages;
            let bound =
                ["oneccl-bind-pt", "oneccl_bind_pt"].iter().any(|n| packages.contains_key(*n));
            let is_old = cx.torch().is_some_and(|torch| !torch.is_at_least(&[2, 8]));
            Some(if bound && is_old { "ccl" } else { "xccl" })
        }
        "npu" | "hpu" => Some("hccl"),
        name => vendors::find(name).map(|vendor| vendor.backend),
    }
}

/// Whether a library of that name was found.
pub fn has_library(cx: &Cx<'_>, vendor: &Vendor, name: &str) -> bool {
    facts_of(cx, vendor).is_some_and(|facts| facts.libraries.iter().any(|path| path.contains(name)))
}

/// Everything about vendors; `nvidia` is what already explains that NVIDIA's GPUs do not work.
pub fn judge(cx: &Cx<'_>, choice: &Choice, nvidia: Option<&Code>, out: &mut Vec<Finding>) {
    several(cx, choice, out);
    let refused = explicit(cx, choice, out);
    let Some(vendor) = choice.vendor else { return };
    let dead = not_loaded(cx, vendor, out);
    if !refused && !dead && nvidia.is_none() {
        wrong_torch(cx, vendor, out);
        gloo_with_devices(cx, vendor, out);
    }
    wrong_variable(cx, vendor, out);
}

fn several(cx: &Cx<'_>, choice: &Choice, out: &mut Vec<Finding>) {
    let severity = match choice.settled {
        Settled::Alone | Settled::User => return,
        Settled::Torch => Severity::Note,
        // Without PyTorch nobody can say that anything is wrong yet.
        Settled::No if cx.build() == Build::Unknown => Severity::Warning,
        Settled::No => Severity::Error,
    };
    let names: Vec<_> = choice.present.iter().map(|vendor| vendor.title).collect();
    let names = names.join(" and ");
    let summary = match (choice.settled, choice.vendor) {
        (Settled::Torch, Some(vendor)) => {
            format!("{names} are here; PyTorch's build can use {} only", vendor.title)
        }
        _ => format!("{names} are here, and nothing says which is meant"),
    };
    let mut draft = Draft::new(code::SEVERAL_VENDORS, summary).severity(severity);
    for vendor in &choice.present {
        draft = device_evidence(cx, vendor, draft);
    }
    draft = torch_evidence(cx, draft);
    for vendor in &choice.present {
        draft = draft.remedy(
            format!("for {}", vendor.title),
            &[&format!("nvlaunch --backend {} …", vendor.backend)],
        );
    }
    out.push(draft.done());
}

/// An explicit backend that cannot work; whether there is one.
fn explicit(cx: &Cx<'_>, choice: &Choice, out: &mut Vec<Finding>) -> bool {
    let before = out.len();
    for name in cx.backends() {
        let owners: Vec<_> = vendors::ALL
            .iter()
            .filter(|v| v.backend == name || (name == "ccl" && v.name == "xpu"))
            .collect();
        if NEUTRAL.contains(&name) || owners.is_empty() {
            continue;
        }
        let here: Vec<_> = owners
            .iter()
            .copied()
            .filter(|v| choice.present.iter().any(|p| p.name == v.name))
            .collect();
        if here.is_empty() {
            out.push(no_device_for(cx, choice, name, &owners));
        } else if !here.iter().any(|vendor| torch_fits(cx, vendor)) {
            out.push(not_in_torch(cx, here[0], name));
        }
    }
    out.len() > before
}

fn no_device_for(cx: &Cx<'_>, choice: &Choice, name: &str, owners: &[&'static Vendor]) -> Finding {
    let given = cx.intent.backend.clone().unwrap_or_default();
    let draft = match choice.vendor {
        None if name == "nccl" && cx.build() == Build::Cuda => {
            let why = if cx.has_nvidia() {
                "every NVIDIA GPU is hidden"
            } else {
                "no NVIDIA GPU is here"
            };
            Draft::new(code::CUDA_TORCH_ON_NO_NVIDIA_HOST, format!("nccl was asked for, and {why}"))
        }
        None => {
            let titles: Vec<_> = owners.iter().map(|vendor| vendor.title).collect();
            Draft::new(
                code::BACKEND_VENDOR_MISMATCH,
                format!(
                    "{name} was asked for, and none of its devices is here ({})",
                    titles.join(", ")
                ),
            )
        }
        Some(vendor) => Draft::new(
            code::BACKEND_VENDOR_MISMATCH,
            format!(
                "{name} was asked for, and the accelerators here are of another kind: {}",
                vendor.title
            ),
        ),
    };
    let mut draft = draft.severity(Severity::Error).evidence("--backend", given);
    if let Some(visible) = cx.var("CUDA_VISIBLE_DEVICES").filter(|_| cx.hides_nvidia()) {
        draft = draft.evidence("CUDA_VISIBLE_DEVICES", format!("is `{visible}`"));
    }
    draft = torch_evidence(cx, draft);
    match choice.vendor {
        Some(vendor) => {
            let usable = backend_of(cx, vendor).unwrap_or("gloo");
            device_evidence(cx, vendor, draft).remedy(
                "leave the choice to nvlaunch, or ask for",
                &[&format!("nvlaunch --backend {usable} …")],
            )
        }
        None => draft.remedy("without accelerators", &["nvlaunch --backend gloo …"]),
    }
    .done()
}

fn not_in_torch(cx: &Cx<'_>, vendor: &Vendor, name: &str) -> Finding {
    let draft = Draft::new(
        code::BACKEND_NOT_IN_TORCH,
        format!("{name} was asked for, and this PyTorch does not have it"),
    )
    .evidence("--backend", cx.intent.backend.clone().unwrap_or_default());
    install_torch(cx, vendor, torch_evidence(cx, draft)).done()
}

fn install_torch(cx: &Cx<'_>, vendor: &Vendor, draft: Draft) -> Draft {
    match vendor.torch_packages.first() {
        Some(package) => draft.remedy(
            format!("install the vendor's plugin {package}, of the release that fits this PyTorch"),
            &[],
        ),
        None => match vendor.name {
            "cuda" => draft.remedy(
                "install PyTorch's build for CUDA",
                &[&format!(
                    "pip install torch --index-url https://download.pytorch.org/whl/{}",
                    cuda_index(cx)
                )],
            ),
            "rocm" => {
                draft.remedy("install PyTorch's build for ROCm; its index names the releases", &[])
            }
            "xpu" => draft.remedy(
                "install PyTorch's build for Intel's GPUs",
                &["pip install torch --index-url https://download.pytorch.org/whl/xpu"],
            ),
            _ => draft.remedy(
                format!("install the PyTorch that comes with the driver of {}", vendor.title),
                &[],
            ),
        },
    }
}

/// The package index of `PyTorch` that this driver can run.
fn cuda_index(cx: &Cx<'_>) -> &'static str {
    match cx.kernel_module() {
        Some((_, version)) if version.is_at_least(&[580]) => "cu130",
        Some((_, version)) if !version.is_at_least(&[525, 60, 13]) => "cu118",
        _ => "cu128",
    }
}

/// Accelerators of another vendor on the bus, and no nodes: the driver is missing.
fn not_loaded(cx: &Cx<'_>, vendor: &'static Vendor, out: &mut Vec<Finding>) -> bool {
    let Some(facts) = facts_of(cx, vendor) else { return false };
    if matches!(vendor.name, "cuda" | "rocm" | "xpu") || facts.pci == 0 || !facts.nodes.is_empty() {
        return false;
    }
    let is_gcu = vendor.name == "gcu";
    if is_gcu && facts.module.is_some() && !cx.is_container() {
        return false;
    }
    let asked = cx.backends().contains(&vendor.backend);
    // On a machine whose PyTorch knows nothing of them, they are not missed.
    if !is_gcu && !asked && !has_plugin(cx, vendor) {
        return false;
    }
    let code = if is_gcu { code::GCU_DRIVER_NOT_LOADED } else { code::VENDOR_DRIVER_NOT_LOADED };
    let severity = if cx.wants_only_cpu_backend() { Severity::Note } else { Severity::Error };
    let module = vendor.modules.first().copied().unwrap_or_default();
    let mut draft = Draft::new(
        code,
        format!("{}: {} on the bus, and no device nodes", vendor.title, facts.pci),
    )
    .severity(severity)
    .evidence("/sys/bus/pci/devices", format!("{}: {}", vendor.title, facts.pci));
    draft = match &facts.module {
        Some(module) => draft.evidence(&module.source, format!("the module is {}", module.value)),
        None => draft.evidence(format!("/sys/module/{module}"), "is not there"),
    };
    let draft = if cx.is_container() {
        draft.remedy(
            "start the container with the vendor's runtime, which passes the devices in",
            &[],
        )
    } else {
        draft.root_remedy(
            "load the vendor's module; install its driver for this kernel if that fails",
            vec![format!("modprobe {module}")],
        )
    };
    out.push(draft.done());
    true
}

/// A `PyTorch` that cannot use the accelerators that are here.
fn wrong_torch(cx: &Cx<'_>, vendor: &'static Vendor, out: &mut Vec<Finding>) {
    if torch_fits(cx, vendor) || cx.wants_only_cpu_backend() {
        return;
    }
    let (code, what) = match cx.build() {
        Build::Cpu => (code::TORCH_CPU_BUILD_ON_GPU_HOST, "is built for the CPU"),
        Build::Cuda => (code::CUDA_TORCH_ON_NO_NVIDIA_HOST, "is built for CUDA"),
        Build::Rocm => (code::TORCH_CPU_BUILD_ON_GPU_HOST, "is built for ROCm"),
        _ => (code::TORCH_CPU_BUILD_ON_GPU_HOST, "is built for other devices"),
    };
    let draft = Draft::new(
        code,
        format!("PyTorch {what} and cannot use the accelerators here: {}", vendor.title),
    )
    .severity(Severity::Warning);
    let draft = torch_evidence(cx, device_evidence(cx, vendor, draft));
    let draft = install_torch(cx, vendor, draft);
    out.push(
        draft.remedy("or, if the CPU is meant, say so", &["nvlaunch --backend gloo …"]).done(),
    );
}

/// gloo, asked for or left over, beside devices whose tensors it does not carry.
fn gloo_with_devices(cx: &Cx<'_>, vendor: &'static Vendor, out: &mut Vec<Finding>) {
    if vendor.torch_device == "cuda" || !torch_fits(cx, vendor) {
        return;
    }
    let own = backend_of(cx, vendor);
    let asked = cx.wants_only_cpu_backend();
    if !asked && (own.is_some() || !cx.backends().is_empty()) {
        return;
    }
    let device = vendor.torch_device;
    let draft = Draft::new(
        code::GLOO_WITH_DEVICE_TENSORS,
        format!("gloo carries tensors of the CPU only, none on {device}"),
    )
    .severity(Severity::Warning);
    let draft = device_evidence(cx, vendor, draft);
    let draft = match own {
        Some(backend) => {
            draft.evidence("--backend", cx.intent.backend.clone().unwrap_or_default()).remedy(
                format!("use {backend}, or both, each for its tensors"),
                &[&format!("nvlaunch --backend cpu:gloo,{device}:{backend} …")],
            )
        }
        None => draft.evidence("libeccl.so", "is not found: eccl is not installed").remedy(
            format!("install the vendor's collective library, for {}", vendor.backend),
            &[],
        ),
    };
    out.push(draft.done());
}

/// Another vendor's variable on a machine with Enflame's accelerators.
fn wrong_variable(cx: &Cx<'_>, vendor: &Vendor, out: &mut Vec<Finding>) {
    if vendor.name != "gcu" || cx.var("TOPS_VISIBLE_DEVICES").is_some() {
        return;
    }
    let wrong = ["CUDA_VISIBLE_DEVICES", "GCU_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"];
    let Some((name, value)) = wrong.iter().find_map(|name| Some((*name, cx.var_set(name)?))) else {
        return;
    };
    if name == "NVIDIA_VISIBLE_DEVICES" {
        return;
    }
    out.push(
        Draft::new(code::GCU_HOST, format!("{name} chooses no GCU; TOPS_VISIBLE_DEVICES does"))
            .evidence(name, format!("is `{value}`"))
            .remedy(
                "set the variable that is read",
                &[&format!("export TOPS_VISIBLE_DEVICES={value}")],
            )
            .done(),
    );
}

/// Drivers that differ between the nodes of a job; for results that were gathered from them.
pub fn across(nodes: &[&crate::host::facts::HostFacts]) -> Option<Finding> {
    let version = |facts: &crate::host::facts::HostFacts| {
        facts.nvidia.as_ref().and_then(|n| n.loaded.as_ref()).map(|loaded| loaded.version.clone())
    };
    let versions: Vec<_> =
        nodes.iter().filter_map(|facts| Some((&facts.hostname, version(facts)?))).collect();
    let mut different: Vec<_> = versions.iter().map(|(_, version)| version.clone()).collect();
    different.sort_by(|a, b| match (Version::parse(a), Version::parse(b)) {
        (Some(a), Some(b)) => a.compare(&b),
        _ => a.cmp(b),
    });
    different.dedup();
    let newest = different.last().filter(|_| different.len() > 1)?;
    let mut draft = Draft::new(
        code::HETEROGENEOUS_DRIVERS,
        format!("the nodes run {} driver versions: {}", different.len(), different.join(", ")),
    );
    for (host, version) in &versions {
        draft = draft.evidence(host.as_str(), format!("the kernel runs {version}"));
    }
    Some(
        draft
            .root_remedy(
                format!("bring all of them to one version, {newest} for instance"),
                Vec::new(),
            )
            .done(),
    )
}
