//! Reads everything that preflight judges a machine by.
//!
//! - Y1: it never fails: what cannot be read is missing, or a note.
//! - Y2: it is lazy: a machine without accelerators costs the scan of its bus and the metadata of
//!   `PyTorch`. Logs, package lists, modules on disk and libraries are read where a vendor's sign
//!   makes them matter, or at [`Depth::Full`].
//! - Y3: nothing is loaded, executed or asked; no device is opened.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::depth::Depth;
use super::facts::nvidia::Nvidia;
use super::facts::{HostFacts, PciDevice, PciKind, SCHEMA, Sourced, VendorFacts};
use super::vendors::{self, Vendor};
use super::{
    container, devices, files, network, nvidia, packages, pci, python, resources, sysfs, system,
    variables,
};
use crate::env_vars;
use crate::settings::env::Env;

/// Reads the machine below `root` for ranks that get `env` and are run by `interpreter`. Without an
/// interpreter, the one that a shell with that environment would start is taken.
pub fn survey(root: &Path, env: &Env, depth: Depth, interpreter: Option<&Path>) -> HostFacts {
    let mut notes = Vec::new();
    let mut facts = HostFacts {
        schema: SCHEMA,
        nvlaunch: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: system::hostname(root),
        system: system::basics(root),
        pci: pci::scan(root, &mut notes),
        resources: resources::read(root),
        variables: variables::read(env),
        nccl_conf: variables::nccl_conf(root, env, &mut notes),
        ..HostFacts::default()
    };
    let listed = devices::Nodes::list(root);
    facts.vendors = vendors::ALL
        .iter()
        .filter_map(|vendor| of_vendor(root, env, vendor, &facts.pci, &listed))
        .collect();
    facts.system.container = container::read(root, env, &mut notes);
    let cx = nvidia::Context {
        kernel: &facts.system.kernel,
        depth,
        pci: &facts.pci,
        is_container: facts.system.container.is_some(),
    };
    facts.nvidia = nvidia::read(root, env, &cx, &mut notes);
    if let Some(nvidia) = &facts.nvidia {
        with_driver(&mut facts.vendors, nvidia);
        facts.packages.run_installer = packages::run_installer(root);
    }
    let is_full = depth == Depth::Full;
    let has_vendor = !facts.vendors.is_empty() || facts.nvidia.is_some();
    if is_full || has_vendor {
        system::details(root, &mut facts.system, &mut notes);
        facts.packages.manager = packages::manager(root).map(str::to_owned);
    }
    if is_full || asks_for_packages(&facts) {
        facts.packages = packages::read(root, &mut notes);
    }
    let names =
        || facts.variables.keys().chain(facts.nccl_conf.iter().flat_map(|f| f.variables.keys()));
    if is_full || has_vendor || names().any(|name| name.ends_with("_IFNAME")) {
        facts.network = network::read(root, &mut notes);
    }
    // Whether NCCL knows a name matters where one is set, or where NCCL will run.
    let is_scanned = is_full
        || names().any(|name| name.starts_with("NCCL_"))
        || facts.vendors.iter().any(|vendor| vendor.name == "cuda" && is_here(vendor));
    facts.python = python::read(root, env, interpreter, is_scanned, &mut notes);
    facts.notes = notes;
    facts
}

/// Adds what NVIDIA's driver tells to what is known of its devices: the module, where only the
/// driver's own folder shows it, and the one node by which Windows lends its GPUs.
fn with_driver(vendors: &mut Vec<VendorFacts>, nvidia: &Nvidia) {
    const NAME: &str = "cuda";
    if nvidia.is_wsl && !vendors.iter().any(|vendor| vendor.name == NAME) {
        let nodes = nvidia.nodes.iter().map(|node| node.path.clone()).collect();
        vendors.insert(0, VendorFacts { name: NAME.to_owned(), nodes, ..VendorFacts::default() });
    }
    let vendor = vendors.iter_mut().find(|vendor| vendor.name == NAME);
    if let (Some(vendor), Some(loaded)) = (vendor, &nvidia.loaded) {
        let module = || Sourced::new(loaded.version.clone(), loaded.source.clone());
        vendor.module.get_or_insert_with(module);
    }
}

/// Whether the state of a driver asks where it came from: one that is not loaded though its device
/// is here, libraries of another version than the kernel's module or broken ones, a restart that
/// waits for a driver, or a second installer.
fn asks_for_packages(facts: &HostFacts) -> bool {
    let is_driverless =
        |vendor: &VendorFacts| vendor.pci > 0 && vendor.module.is_none() && vendor.nodes.is_empty();
    let waits =
        facts.system.reboot_required.as_ref().is_some_and(|required| {
            required.value.iter().any(|package| packages::is_driver(package))
        });
    let is_torn = |nvidia: &Nvidia| {
        // Windows has the driver; its libraries have versions of their own.
        let Some(loaded) = &nvidia.loaded else { return !nvidia.is_wsl };
        [&nvidia.libraries.nvml, &nvidia.libraries.cuda].into_iter().any(|library| {
            library.as_ref().is_none_or(|library| {
                library.problem.is_some()
                    || library.version.as_ref().is_some_and(|version| *version != loaded.version)
            })
        })
    };
    waits
        || !facts.packages.run_installer.is_empty()
        || facts.vendors.iter().any(is_driverless)
        || facts.nvidia.as_ref().is_some_and(is_torn)
}

/// Whether it has a device, on the bus or as a node.
fn is_here(vendor: &VendorFacts) -> bool {
    vendor.pci > 0 || !vendor.nodes.is_empty()
}

/// What is here of a vendor; `None` where nothing is. Libraries alone are no sign: images bring
/// those of vendors that are not here.
fn of_vendor(
    root: &Path,
    env: &Env,
    vendor: &'static Vendor,
    pci: &[PciDevice],
    listed: &devices::Nodes<'_>,
) -> Option<VendorFacts> {
    let mut facts = devices_of(vendor, pci, listed);
    let module = vendor.modules.iter().find(|name| system::is_loaded(root, name));
    let is_sign = vendor.is_module_a_sign && module.is_some();
    if !is_here(&facts) && !is_sign {
        return None;
    }
    facts.module = module.map(|name| {
        let version = format!("/sys/module/{name}/version");
        // A module without a version of its own is as new as the kernel.
        match sysfs::text(root, &version) {
            Some(text) => Sourced::new(text, version),
            None => Sourced::new(String::new(), format!("/sys/module/{name}")),
        }
    });
    facts.libraries = libraries(root, env, vendor);
    facts.visible = vendor.visible.iter().find_map(|variable| {
        let value = env.get(variable.name)?.to_string_lossy().into_owned();
        Some(Sourced::new(value, variable.name))
    });
    Some(facts)
}

/// What is on the bus and among the device nodes of a vendor.
fn devices_of(vendor: &Vendor, pci: &[PciDevice], listed: &devices::Nodes<'_>) -> VendorFacts {
    let is_ours = |device: &&PciDevice| {
        // A function of a function is a share of a device that is counted already.
        device.kind == PciKind::Accelerator
            && !device.is_virtual_function
            && vendor.pci.fits(device.vendor, device.device, device.class, &device.address)
    };
    VendorFacts {
        name: vendor.name.to_owned(),
        pci: u32::try_from(pci.iter().filter(is_ours).count()).unwrap_or(u32::MAX),
        nodes: listed
            .of(vendor)
            .into_iter()
            .filter(|node| !listed.is_integrated(vendor, node))
            .collect(),
        ..VendorFacts::default()
    }
}

/// The vendors that have a device here, on the bus or as a node, by the names of the vendor table.
pub fn vendors_here(root: &Path) -> Vec<&'static str> {
    let pci = pci::scan(root, &mut Vec::new());
    let listed = devices::Nodes::list(root);
    let has_device = |vendor: &&Vendor| is_here(&devices_of(vendor, &pci, &listed));
    vendors::ALL.iter().filter(has_device).map(|vendor| vendor.name).collect()
}

/// Folders that the dynamic linker, or a vendor's installer, puts libraries into.
const LIBRARY_FOLDERS: [&str; 5] = [
    "usr/lib",
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/local/lib",
];

/// Where the libraries of a vendor are: of each the first that is found.
fn libraries(root: &Path, env: &Env, vendor: &Vendor) -> Vec<String> {
    let named = env.get_nonempty(env_vars::LD_LIBRARY_PATH).unwrap_or_default().to_string_lossy();
    let named = named.split([':', ';']).filter(|folder| folder.starts_with('/')).take(64);
    let own = vendor.library_folders.iter().chain(&LIBRARY_FOLDERS);
    let folders: Vec<String> =
        named.map(str::to_owned).chain(own.map(|folder| format!("/{folder}"))).collect();
    let find = |name: &&str| {
        let mut paths =
            folders.iter().map(|folder| format!("{}/{name}", folder.trim_end_matches('/')));
        paths.find(|path| files::exists(root, path))
    };
    vendor.libraries.iter().filter_map(find).collect()
}
