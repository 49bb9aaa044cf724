//! The driver's libraries as files: missing, empty, broken, stale, of two origins.
//!
//! Only what the ranks would load is judged. An empty file that nothing leads to is common in
//! images, and harmless; a leftover of an older version is, too.

use std::cmp::Ordering;

use super::context::{Cx, compare};
use super::draft::Draft;
use super::remedy;
use crate::host::facts::Sourced;
use crate::host::facts::nvidia::{Library, LibraryProblem, Nvidia};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};
use crate::preflight::version::upstream;

pub const LIBCUDA: &str = "libcuda.so.1";
const LIBNVML: &str = "libnvidia-ml.so.1";

/// What is wrong with the libraries; the code of what keeps NVML or CUDA from being loaded.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) -> Option<Code> {
    let both = [(LIBCUDA, &nvidia.libraries.cuda), (LIBNVML, &nvidia.libraries.nvml)];
    let before = out.len();
    // The linker's cache is the cause where it names the very library that is not there.
    let mut stale: Vec<_> = nvidia.libraries.stale_cache.iter().collect();
    let is_gone = |library: &Option<Library>| {
        library.as_ref().is_none_or(|l| l.problem == Some(LibraryProblem::Dangling))
    };
    let is_stale =
        |name: &str| nvidia.libraries.stale_cache.iter().any(|entry| entry.value == name);
    let works = cx.nvml_works() && cx.cuda_code() == Some(0);
    let explains = !works && both.iter().any(|(name, library)| is_gone(library) && is_stale(name));
    for (name, library) in both.into_iter().filter(|_| !works) {
        match library {
            _ if is_gone(library) && is_stale(name) => {}
            None if name == LIBNVML && cx.nvml_works() => {}
            None => out.push(missing(cx, nvidia, name)),
            Some(library) if library.problem == Some(LibraryProblem::Stub) => {
                out.push(stub(cx, library));
            }
            Some(library) if library.problem.is_some() => {
                // An empty file that the cache names is told once.
                stale.retain(|entry| entry.value != name);
                out.push(unusable(cx, nvidia, library));
            }
            Some(_) => {}
        }
    }
    let cause = out[before..].first().map(|finding| finding.code.clone());
    if !stale.is_empty() {
        let mut draft = stale_cache(cx, &stale, explains);
        for library in both.into_iter().filter_map(|(_, library)| library.as_ref()) {
            if let Some(to) = library.leads_to.as_ref().filter(|_| library.problem.is_some()) {
                draft = draft.evidence(&library.path, format!("is a link to {to}"));
            }
        }
        out.push(draft.follows(cause.as_ref()).done());
    }
    cause.or_else(|| explains.then_some(code::LDCACHE_STALE))
}

fn severity(cx: &Cx<'_>, name: &str) -> Severity {
    if name == LIBNVML { cx.for_nccl(Severity::Error) } else { cx.for_gpu(Severity::Error) }
}

fn stale_cache(cx: &Cx<'_>, entries: &[&Sourced<String>], explains: bool) -> Draft {
    let mut draft = Draft::new(
        code::LDCACHE_STALE,
        format!(
            "{} driver libraries in the linker's cache are not what lies on disk",
            entries.len()
        ),
    )
    .severity(cx.for_gpu(if explains { Severity::Error } else { Severity::Warning }));
    for entry in entries.iter().take(8) {
        draft = draft.evidence("/etc/ld.so.cache", format!("{}: {}", entry.value, entry.source));
    }
    draft.root_remedy("rebuild the cache", vec!["ldconfig".to_owned()])
}

/// The package with a library, as this distribution calls it.
pub fn package(cx: &Cx<'_>, name: &str) -> Option<String> {
    let branch = cx.kernel_module().map(|(_, version)| version.major());
    let is_ubuntu = cx.facts.system.distribution.as_deref() == Some("ubuntu");
    match cx.facts.packages.manager.as_deref()? {
        "apt" if is_ubuntu => Some(format!("libnvidia-compute-{}", branch?)),
        "apt" if name == LIBCUDA => Some("libcuda1".to_owned()),
        "apt" => Some("libnvidia-ml1".to_owned()),
        "dnf" => Some("nvidia-driver-cuda-libs".to_owned()),
        "pacman" => Some("nvidia-utils".to_owned()),
        _ => None,
    }
}

fn missing(cx: &Cx<'_>, nvidia: &Nvidia, name: &str) -> Finding {
    let is_cuda = name == LIBCUDA;
    let code = if is_cuda { code::LIBCUDA_NOT_FOUND } else { code::NVML_LIB_NOT_FOUND };
    let effect = if is_cuda { "CUDA does not work" } else { "NCCL does not work" };
    let mut draft = Draft::new(code, format!("{name} is not found: {effect}"))
        .severity(severity(cx, name))
        .evidence(
            "ld.so",
            format!("no {name} in LD_LIBRARY_PATH, the cache or the default folders"),
        );
    if let Some(loaded) = &nvidia.loaded {
        draft = draft.evidence(&loaded.source, format!("the kernel runs {}", loaded.version));
    }
    if cx.is_container() {
        let capability = if is_cuda { "compute" } else { "utility" };
        let what =
            format!("start the container with the NVIDIA runtime and the capability {capability}");
        return remedy::container_with_gpus(cx, draft, &what, Some(capability)).done();
    }
    let commands = package(cx, name).map(|package| remedy::install(cx, &package));
    draft
        .root_remedy("install the driver's library package", commands.unwrap_or_default())
        .root_remedy(
            "or, if the file is there, rebuild the linker's cache",
            vec!["ldconfig".to_owned()],
        )
        .done()
}

fn stub(cx: &Cx<'_>, library: &Library) -> Finding {
    let folder = library.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    Draft::new(
        code::LIBCUDA_NOT_FOUND,
        format!("{} is the toolkit's stub: CUDA does not work", library.name),
    )
    .severity(severity(cx, &library.name))
    .evidence(&library.path, format!("a stub to link against, found by {}", library.found_by))
    .remedy(format!("take {folder} out of LD_LIBRARY_PATH"), &[])
    .done()
}

fn unusable(cx: &Cx<'_>, nvidia: &Nvidia, library: &Library) -> Finding {
    let is_empty = library.problem == Some(LibraryProblem::Empty);
    let code = if is_empty { code::LIB_ZERO_BYTE } else { code::DRIVER_LIB_UNUSABLE };
    let what = match library.problem {
        Some(LibraryProblem::Empty) => "has no bytes",
        Some(LibraryProblem::Dangling) => "leads to no file",
        Some(LibraryProblem::Unreadable) => "may not be read",
        _ => "is no library, or cut off",
    };
    let mut draft =
        Draft::new(code, format!("{}, which the ranks would load, {what}", library.path))
            .severity(severity(cx, &library.name))
            .evidence(
                &library.path,
                format!("{}: {what}, found by {}", library.name, library.found_by),
            );
    if let Some(to) = &library.leads_to {
        draft = draft.evidence(&library.path, format!("is a link to {to}"));
    }
    if let Some(loaded) = &nvidia.loaded {
        draft = draft.evidence(&loaded.source, format!("the kernel runs {}", loaded.version));
    }
    let others =
        nvidia.libraries.others.iter().filter(|l| l.problem == Some(LibraryProblem::Empty));
    for other in others.take(4) {
        draft = draft.evidence(&other.path, "has no bytes");
    }
    if cx.is_container() {
        let what = "start the container with the NVIDIA runtime, which mounts the real files";
        remedy::container_with_gpus(cx, draft, what, None)
            .remedy(
                "and take the left-over files out of the image: build it without the NVIDIA \
                 runtime, or delete them and run ldconfig",
                &[],
            )
            .done()
    } else {
        let commands = package(cx, &library.name).map(|package| remedy::reinstall(cx, &package));
        let commands = [commands.unwrap_or_default(), vec!["ldconfig".to_owned()]].concat();
        draft.root_remedy("reinstall the package that owns it", commands).done()
    }
}

/// Driver files of two origins; with a mismatch it belongs to that.
pub fn mixed(cx: &Cx<'_>, nvidia: &Nvidia, mismatch: Option<&Code>, out: &mut Vec<Finding>) {
    let Some((kernel, _)) = cx.kernel_module() else { return };
    let used = nvidia.libraries.nvml.as_ref().and_then(|l| l.version.as_deref()).unwrap_or(kernel);
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    // ldconfig takes the highest version of a folder.
    let newer: Vec<_> = nvidia
        .libraries
        .others
        .iter()
        .filter(|l| {
            l.problem.is_none() && !super::mismatch::is_compat(l) && !l.path.contains("/stubs")
        })
        .filter(|l| l.version.as_deref().and_then(|v| compare(v, used)) == Some(Ordering::Greater))
        .filter(|l| {
            let ours = [&nvidia.libraries.nvml, &nvidia.libraries.cuda];
            ours.into_iter().flatten().any(|our| folder(&our.path) == folder(&l.path))
        })
        .collect();
    // An upgrade by packages would have brought a module of its version; here it is still another's.
    let keeps_module = nvidia.on_disk.iter().any(|m| m.version.as_deref() == Some(kernel));
    let run = &cx.facts.packages.run_installer;
    let packages: Vec<_> = cx
        .facts
        .packages
        .installed
        .iter()
        .filter(|p| {
            p.name.contains("nvidia-driver")
                || p.name.contains("libnvidia-compute")
                || p.name == "libnvidia-ml1"
        })
        .filter(|p| {
            upstream(&p.version) != used || (keeps_module && upstream(&p.version) != kernel)
        })
        .collect();
    let is_two = !run.is_empty() && !packages.is_empty();
    if newer.is_empty() && !is_two {
        return;
    }
    let mut draft = Draft::new(
        code::MIXED_INSTALLS,
        if is_two {
            "driver files of the .run installer and of packages are mixed".to_owned()
        } else {
            format!("{} driver libraries newer than the one in use lie beside it", newer.len())
        },
    )
    .severity(cx.for_gpu(Severity::Warning));
    for library in newer.iter().take(4) {
        let version = library.version.as_deref().unwrap_or_default();
        draft = draft.evidence(&library.path, format!("is {version}, in use is {used}"));
    }
    if is_two {
        draft = draft.evidence("the libraries in use", format!("are {used}, the module {kernel}"));
        for trace in run.iter().take(4) {
            draft = draft.evidence(trace, "left by the .run installer");
        }
        for package in packages.iter().take(4) {
            draft = draft.evidence(&package.name, format!("the package is {}", package.version));
        }
        draft = draft.root_remedy(
            "remove what the .run installer put there, and keep the packages",
            vec!["nvidia-uninstall".to_owned(), "ldconfig".to_owned()],
        );
    } else {
        let files: Vec<_> = newer.iter().map(|l| l.path.as_str()).collect();
        draft = draft.root_remedy(
            "find out which package owns them; remove what belongs to none, then run ldconfig",
            match cx.facts.packages.manager.as_deref() {
                Some("apt") => vec![format!("dpkg -S {}", files.join(" "))],
                Some("dnf" | "zypper") => vec![format!("rpm -qf {}", files.join(" "))],
                Some("pacman") => vec![format!("pacman -Qo {}", files.join(" "))],
                _ => Vec::new(),
            },
        );
    }
    out.push(draft.follows(mismatch).done());
}
