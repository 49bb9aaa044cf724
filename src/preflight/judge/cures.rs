//! What cures a mismatch, and what helps until then.

use std::cmp::Ordering;
use std::path::Path;

use super::context::{Cx, compare};
use super::draft::Draft;
use super::mismatch::{CudaVerdict, is_compat};
use super::{history, remedy};
use crate::host::facts::nvidia::{Library, Nvidia};

/// The folder of `LD_LIBRARY_PATH` that a library was found in is the thing to take away.
pub fn drop_folder(draft: Draft, library: &Library) -> Draft {
    let folder = library.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    if library.found_by.contains("LD_LIBRARY_PATH") {
        draft.remedy(
            format!(
                "take {folder} out of LD_LIBRARY_PATH, so that the driver's own library is found"
            ),
            &[],
        )
    } else if is_compat(library) {
        draft.root_remedy(
            format!("remove the cuda-compat package that owns {folder}, then run ldconfig"),
            vec!["ldconfig".to_owned()],
        )
    } else {
        draft
    }
}

/// Whether `LD_LIBRARY_PATH` leads to the libraries.
pub fn is_by_path(nvidia: &Nvidia) -> bool {
    let library = nvidia.libraries.nvml.as_ref().or(nvidia.libraries.cuda.as_ref());
    library.is_some_and(|l| l.found_by.contains("LD_LIBRARY_PATH"))
}

/// What helps, most helpful first. `versions` are the libraries' and the module's.
pub fn remedies(
    draft: Draft,
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    verdict: CudaVerdict,
    fixes: &history::Disk,
    versions: [Option<&str>; 2],
) -> Draft {
    let library = nvidia.libraries.nvml.as_ref().or(nvidia.libraries.cuda.as_ref());
    let by_path = is_by_path(nvidia);
    let mut draft = draft;
    if by_path && let Some(library) = library {
        draft = drop_folder(draft, library);
    }
    if versions[1].is_some_and(|kernel| !beside(nvidia, kernel).is_empty()) {
        draft = draft.root_remedy(
            "let the linker find the libraries of the module's version, which are there",
            vec!["ldconfig".to_owned()],
        );
    }
    let unprivileged = |draft: Draft| match versions[1] {
        Some(kernel) => matching(draft, cx, nvidia, kernel),
        None => draft,
    };
    if cx.is_container() {
        return unprivileged(container_remedies(draft, cx, nvidia));
    }
    if by_path {
        return unprivileged(draft);
    }
    draft = match fixes {
        history::Disk::Other(..) | history::Disk::None => draft.root_remedy(
            "first build the module of the libraries' version for this kernel; then reboot",
            remedy::and_then(remedy::build_module(cx, nvidia, versions[0]), "reboot"),
        ),
        history::Disk::Open(_, gpu) => draft.root_remedy(
            format!("first install the module that is not open, which {gpu} needs; then reboot"),
            remedy::and_then(remedy::closed_module(cx), "reboot"),
        ),
        history::Disk::OtherKernel(kernel) => draft.root_remedy(
            format!("reboot into {kernel}, for which the module was built"),
            vec!["reboot".to_owned()],
        ),
        history::Disk::Fits(_) | history::Disk::Unknown => {
            let reboot = match (fixes, versions[0]) {
                (history::Disk::Fits(_), Some(version)) => {
                    format!("reboot: it loads {version}, the module on disk")
                }
                _ => "reboot; whether the module on disk fits is not known".to_owned(),
            };
            let users = remedy::users(nvidia);
            let when = match users {
                Some(0) => "reload the module without a reboot: nothing uses it now".to_owned(),
                Some(n) => {
                    format!(
                        "reload the module without a reboot, once its {n} users are gone (a display \
                         server can be one)"
                    )
                }
                None => "reload the module without a reboot, once nothing uses it".to_owned(),
            };
            draft
                .root_remedy(reboot, vec!["reboot".to_owned()])
                .root_remedy(when, remedy::reload(cx, nvidia))
        }
    };
    let is_older = matches!(
        (versions[0], versions[1]),
        (Some(library), Some(kernel)) if compare(library, kernel) == Some(Ordering::Less)
    );
    if is_older {
        draft = draft.root_remedy(
            "or install the libraries of the version that the kernel runs",
            Vec::new(),
        );
    }
    draft = unprivileged(draft);
    let until = match verdict {
        CudaVerdict::Works => "until then, train without NCCL: on one GPU, or with gloo",
        _ => "until then, only the CPU can train, with gloo",
    };
    draft = draft.remedy(until, &["nvlaunch --backend gloo …"]);
    let known: Vec<&str> = versions.into_iter().flatten().collect();
    match remedy::hold(cx, &known) {
        Some(commands) => {
            draft.root_remedy("afterwards, hold every package of the driver", commands)
        }
        None => draft,
    }
}

fn container_remedies(draft: Draft, cx: &Cx<'_>, nvidia: &Nvidia) -> Draft {
    let mounted = cx.facts.system.container.as_ref().map_or(&[][..], |c| &c.mounted_libraries);
    let libraries = [&nvidia.libraries.nvml, &nvidia.libraries.cuda];
    let is_mounted = libraries.into_iter().flatten().any(|library| mounted.contains(&library.path));
    if is_mounted {
        let what = "make the container again: the host's driver changed after it was started";
        return draft.remedy(what, &[]);
    }
    draft
        .remedy("make the container again, if the host's driver was changed while it ran", &[])
        .remedy(
            "else take the driver's libraries out of the image; the container toolkit mounts the \
             host's",
            &[],
        )
}

/// Libraries of the module's version in a folder that the linker searches, or their cache entry is
/// old: the linker takes the wrong one, and a mismatch is cured without touching the driver.
pub fn beside<'a>(nvidia: &'a Nvidia, kernel: &str) -> Vec<&'a Library> {
    let folder = |library: &Library| library.path.rsplit_once('/').map(|(f, _)| f.to_owned());
    let used = nvidia.libraries.nvml.as_ref().and_then(folder);
    let fits = |library: &&Library| {
        library.problem.is_none()
            && library.version.as_deref() == Some(kernel)
            && library.name.starts_with("libnvidia-ml.so")
            && (folder(library) == used || !nvidia.libraries.stale_cache.is_empty())
    };
    nvidia.libraries.others.iter().filter(fits).collect()
}

/// The way without root: libraries of the module's own version, first on the ranks' library path.
fn matching(draft: Draft, cx: &Cx<'_>, nvidia: &Nvidia, kernel: &str) -> Draft {
    let folder_of = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    // A folder that leads to the wrong library now would lead to it again.
    let used = nvidia.libraries.nvml.as_ref().and_then(|library| folder_of(&library.path));
    let is_library = |file: &&String| file.ends_with(&format!(".so.{kernel}"));
    let (libraries, packages): (Vec<_>, Vec<_>) =
        nvidia.libraries.matching.iter().partition(is_library);
    let mut folders = libraries.iter().filter_map(|file| folder_of(file));
    if let Some(folder) = folders.find(|folder| Some(folder) != used.as_ref()) {
        return draft.remedy(
            format!(
                "without root: put {folder}, with libraries of {kernel}, first on LD_LIBRARY_PATH"
            ),
            &[&first_on_path(&folder)],
        );
    }
    let Some(package) = packages.first() else { return draft };
    let what = format!(
        "without root: unpack {package}, and put its folder of libraries first on LD_LIBRARY_PATH"
    );
    if Path::new(package).extension().is_none_or(|end| end != "deb") {
        return draft.remedy(what, &[]);
    }
    let target = format!("$HOME/.cache/nvlaunch/driver/{kernel}");
    let unpack = format!("dpkg-deb -x {package} {target}");
    // Debian has a folder of its own for each driver.
    if cx.facts.system.distribution.as_deref() != Some("ubuntu") {
        return draft.remedy(what, &[&unpack]);
    }
    let folder = format!("{target}/usr/lib/{}-linux-gnu", cx.facts.system.arch);
    draft.remedy(what, &[&unpack, &first_on_path(&folder)])
}

fn first_on_path(folder: &str) -> String {
    format!("export LD_LIBRARY_PATH={folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}")
}
