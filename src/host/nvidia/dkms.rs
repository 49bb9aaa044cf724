//! What DKMS knows of the driver's source, from its tree alone.
//!
//! - D1: `<version>/source` says that the source was added, `<version>/<kernel>/<arch>/module` that
//!   it was built, the link `kernel-<kernel>-<arch>` beside the versions that it was installed.
//! - D2: `<version>/build` is removed when a build succeeds; a log in it is of one that did not.

use std::path::Path;

use crate::host::facts::Note;
use crate::host::facts::nvidia::{Dkms, DkmsState};
use crate::host::files;

const TREE: &str = "/var/lib/dkms";
/// Entries of a folder of the tree.
const MAX_ENTRIES: usize = 256;
/// States that are told.
const MAX_STATES: usize = 100;
/// Bytes of the log that are read, from its end.
const MAX_LOG: u64 = 64 << 10;
/// Lines of the log that are told.
const LOG_LINES: usize = 10;
/// Characters of such a line.
const LINE_CHARS: usize = 300;

/// The states of every driver source, by name, version and kernel.
pub fn read(root: &Path, notes: &mut Vec<Note>) -> Vec<Dkms> {
    let mut states = Vec::new();
    for name in list(root, TREE, notes).iter().filter(|name| name.starts_with("nvidia")) {
        let folder = format!("{TREE}/{name}");
        let entries = list(root, &folder, notes);
        let installed = installed(root, &folder, &entries);
        // A link is the mark of an installation, not a version.
        for version in entries.iter().filter(|entry| !entry.starts_with("kernel-")) {
            states.extend(of_version(root, name, version, &installed, notes));
            if states.len() >= MAX_STATES {
                states.truncate(MAX_STATES);
                return states;
            }
        }
    }
    states
}

/// What the links `kernel-<kernel>-<arch>` lead to: `<version>/<kernel>/<arch>`.
fn installed(root: &Path, folder: &str, entries: &[String]) -> Vec<String> {
    let links = entries.iter().filter(|entry| entry.starts_with("kernel-"));
    let target = |link: &String| {
        let path = files::resolve(root, format!("{folder}/{link}")).ok()?;
        let below = path.strip_prefix(files::resolve(root, folder).ok()?).ok()?;
        Some(below.to_str()?.to_owned())
    };
    links.filter_map(target).collect()
}

fn of_version(
    root: &Path,
    name: &str,
    version: &str,
    installed: &[String],
    notes: &mut Vec<Note>,
) -> Vec<Dkms> {
    let folder = format!("{TREE}/{name}/{version}");
    let entries = list(root, &folder, notes);
    let state = |kernel: Option<String>, state, source| Dkms {
        name: name.to_owned(),
        version: version.to_owned(),
        kernel,
        state,
        log: Vec::new(),
        source,
    };
    let mut states = Vec::new();
    let kernels = entries.iter().filter(|entry| !matches!(entry.as_str(), "source" | "build"));
    for kernel in kernels {
        for arch in list(root, &format!("{folder}/{kernel}"), notes) {
            let built = format!("{folder}/{kernel}/{arch}");
            if !files::metadata(root, format!("{built}/module")).is_ok_and(|module| module.is_dir())
            {
                continue;
            }
            let is_installed = installed.contains(&format!("{version}/{kernel}/{arch}"));
            let how_far = if is_installed { DkmsState::Installed } else { DkmsState::Built };
            states.push(state(Some(kernel.clone()), how_far, built));
        }
    }
    let log = format!("{folder}/build/make.log");
    if let Some((kernel, lines)) = failure(root, &log, notes) {
        // What is built by now did not fail in the end.
        if !states.iter().any(|state| state.kernel == kernel) {
            states.push(Dkms { log: lines, ..state(kernel, DkmsState::Failed, log) });
        }
    }
    if states.is_empty() && entries.iter().any(|entry| entry == "source") {
        states.push(state(None, DkmsState::Added, folder));
    }
    states
}

/// The kernel and the last lines of a log of a build that failed.
fn failure(
    root: &Path,
    path: &str,
    notes: &mut Vec<Note>,
) -> Option<(Option<String>, Vec<String>)> {
    let head = files::text(root, path, MAX_LOG, notes)?;
    let tail = files::noted(files::read_tail(root, path, MAX_LOG), notes)?;
    let lines: Vec<&str> =
        tail.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    Some((kernel_of_log(&head), last.iter().map(|line| shortened(line)).collect()))
}

/// The kernel in `DKMS make.log for nvidia-580.95.05 for kernel 6.8.0-45-generic (x86_64)`.
pub(super) fn kernel_of_log(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let (_, after) = line.split_once("make.log for ")?;
    let (_, kernel) = after.split_once(" for kernel ")?;
    Some(kernel.split_ascii_whitespace().next()?.to_owned())
}

pub(super) fn shortened(line: &str) -> String {
    line.chars().take(LINE_CHARS).collect()
}

fn list(root: &Path, folder: &str, notes: &mut Vec<Note>) -> Vec<String> {
    files::noted(files::list(root, folder, MAX_ENTRIES), notes).unwrap_or_default().names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::Root;

    fn states(root: &Root) -> Vec<(String, Option<String>, DkmsState)> {
        let mut notes = Vec::new();
        let states = read(root.path(), &mut notes);
        assert_eq!(notes, []);
        states.into_iter().map(|state| (state.version, state.kernel, state.state)).collect()
    }

    #[test]
    fn every_state_of_the_tree_is_told() {
        let log = "DKMS make.log for nvidia-580.95.05 for kernel 6.8.0-60-generic (x86_64)\n\
                   Thu Oct  2 06:51:40 UTC 2025\nmake: error one\n\nBad return status\n";
        let root = Root::new(&[
            ("usr/src/nvidia-580.95.05/dkms.conf", ""),
            ("var/lib/dkms/dkms_dbversion", "2.0.0\n"),
            ("var/lib/dkms/nvidia/580.95.05/6.8.0-45-generic/x86_64/module/nvidia.ko.zst", ""),
            ("var/lib/dkms/nvidia/580.95.05/6.8.0-50-generic/x86_64/module/nvidia.ko.zst", ""),
            ("var/lib/dkms/nvidia/580.95.05/6.8.0-70-generic/x86_64/log/make.log", ""),
            ("var/lib/dkms/nvidia/580.95.05/build/make.log", log),
            ("var/lib/dkms/vboxguest/1/6.8.0/x86_64/module/x.ko", ""),
        ]);
        root.link("var/lib/dkms/nvidia/580.95.05/source", "/usr/src/nvidia-580.95.05");
        root.link("var/lib/dkms/nvidia-current/550.1/source", "/usr/src/nvidia-550.1");
        let link = "var/lib/dkms/nvidia/kernel-6.8.0-45-generic-x86_64";
        root.link(link, "580.95.05/6.8.0-45-generic/x86_64");
        let state = |version: &str, kernel: Option<&str>, state| {
            (version.to_owned(), kernel.map(str::to_owned), state)
        };
        let expected = [
            state("580.95.05", Some("6.8.0-45-generic"), DkmsState::Installed),
            state("580.95.05", Some("6.8.0-50-generic"), DkmsState::Built),
            state("580.95.05", Some("6.8.0-60-generic"), DkmsState::Failed),
            state("550.1", None, DkmsState::Added),
        ];
        assert_eq!(states(&root), expected);
        let failed = &read(root.path(), &mut Vec::new())[2];
        assert_eq!(failed.log.last().map(String::as_str), Some("Bad return status"));
        assert_eq!(failed.log.len(), 4);
        assert_eq!(failed.source, "/var/lib/dkms/nvidia/580.95.05/build/make.log");
        // What was built after all did not fail.
        root.file("var/lib/dkms/nvidia/580.95.05/6.8.0-60-generic/x86_64/module/nvidia.ko", "");
        let last = state("580.95.05", Some("6.8.0-60-generic"), DkmsState::Built);
        assert_eq!(states(&root)[2], last);
        assert_eq!(states(&root).len(), 4);
    }

    #[test]
    fn the_kernel_of_a_log_is_read_from_old_and_new_forms() {
        for (line, expected) in [
            ("DKMS make.log for nvidia-580.1 for kernel 6.8.0-45-generic (x86_64)", true),
            (
                "DKMS (dkms-3.0.11) make.log for nvidia/580.1 for kernel 6.8.0-45-generic (x86_64)",
                true,
            ),
            ("make: Entering directory '/usr/src'", false),
            ("DKMS make.log for nvidia-580.1 for kernel ", false),
        ] {
            let kernel = expected.then(|| "6.8.0-45-generic".to_owned());
            assert_eq!(kernel_of_log(line), kernel, "{line}");
        }
    }

    #[test]
    fn a_large_tree_is_cut() {
        let root = Root::new(&[]);
        for kernel in 0..150 {
            root.file(&format!("var/lib/dkms/nvidia/1/{kernel}/x86_64/module/nvidia.ko"), "");
        }
        assert_eq!(states(&root).len(), MAX_STATES);
        assert_eq!(shortened(&"x".repeat(9999)).len(), LINE_CHARS);
    }
}
