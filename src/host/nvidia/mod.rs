//! What is true of NVIDIA's driver on a machine, read without loading a library or opening a
//! device.
//!
//! - N1: where nothing of NVIDIA's is seen, nothing more is read and there is no answer.
//! - N2: what is costly (module files, DKMS' tree, packages that could be pinned) is read where it
//!   can matter: the module is not loaded, or a library is of another version, or the whole
//!   machine is wanted ([`Depth::Full`]).
//! - N3: nothing here decides what a fact means.

pub mod disk_module;
pub mod dkms;
pub mod kernel;
pub mod kernel_log;
pub mod libraries;
pub mod matching;
pub mod nodes;
#[cfg(test)]
mod tests;
pub mod version;
mod xz;

use std::path::Path;

use super::depth::Depth;
use super::facts::nvidia::{Libraries, Nvidia};
use super::facts::{Note, PciDevice};
use super::files;
use crate::settings::env::Env;

/// The PCI vendor.
const VENDOR: u16 = 0x10de;

/// What else is known of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// `uname -r` of the machine.
    pub kernel: &'a str,
    /// How much to read.
    pub depth: Depth,
    /// The accelerators and switches on its PCI bus.
    pub pci: &'a [PciDevice],
    /// Whether this is a container: the kernel's modules are not its own.
    pub is_container: bool,
}

/// Reads everything that is known of NVIDIA's driver below `root`; `env` is what the ranks get.
/// What could not be read goes to the notes. `None` where nothing of NVIDIA's is there.
pub fn read(root: &Path, env: &Env, cx: &Context<'_>, notes: &mut Vec<Note>) -> Option<Nvidia> {
    let devices = nodes::read(root, notes);
    let is_wsl = devices.iter().any(nodes::is_wsl_node)
        && files::exists(root, Path::new(libraries::WSL_FOLDER).join(libraries::CUDA));
    let is_here = is_wsl
        || nodes::has_any(&devices)
        || cx.pci.iter().any(|device| device.vendor == VENDOR)
        || ["/proc/driver/nvidia", "/sys/module/nvidia"].iter().any(|at| files::exists(root, at));
    if !is_here {
        return None;
    }
    let loaded = kernel::loaded(root, notes);
    let version = loaded.as_ref().map(|loaded| loaded.version.as_str());
    let search = libraries::search(root, env, notes);
    let mut libraries = libraries::read(root, &search, version, notes);
    let differs = version.is_some_and(|version| differ(&libraries, version));
    let wants_all = cx.depth == Depth::Full;
    if let Some(version) = version
        && (differs || wants_all)
    {
        libraries.matching = matching::find(root, env, version, &libraries, notes);
    }
    // A container has no module files unless the host's are mounted: without them, nothing was
    // looked at.
    let has_files = !cx.is_container || files::exists(root, format!("/lib/modules/{}", cx.kernel));
    let on_disk = !is_wsl && has_files && (version.is_none() || differs || wants_all);
    Some(Nvidia {
        modules: kernel::modules(root, notes),
        references: kernel::references(root, notes),
        holders: kernel::holders(root, notes),
        // Whether a module is signed matters where none is loaded.
        on_disk: if on_disk {
            disk_module::read(root, cx.kernel, loaded.is_none(), notes)
        } else {
            Vec::new()
        },
        looked_on_disk: on_disk,
        dkms: if on_disk { dkms::read(root, notes) } else { Vec::new() },
        libraries,
        gpus: kernel::gpus(root, notes),
        nodes: devices,
        fabric: nodes::fabric_manager(root, cx.pci, notes),
        persistence_daemon: nodes::has_persistence_daemon(root),
        xids: kernel_log::read(root),
        modprobe_helper: nodes::modprobe_helper(root),
        params: kernel::params(root, notes),
        is_wsl,
        loaded,
        ..Nvidia::default()
    })
}

/// Whether one of the libraries that the ranks load is of another version than the module, or of none that is
/// known.
fn differ(libraries: &Libraries, loaded: &str) -> bool {
    let libraries = [&libraries.nvml, &libraries.cuda];
    libraries.iter().any(|library| {
        library.as_ref().is_none_or(|library| library.version.as_deref() != Some(loaded))
    })
}
