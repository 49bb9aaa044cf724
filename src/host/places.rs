//! Where devices are: their PCI addresses and NUMA nodes, from sysfs.
//!
//! This reads a bus of hundreds of functions, so a launch asks only where ranks are bound, and
//! `nvlaunch plan` always.
//!
//! - L1: a device node's own link in sysfs says which PCI device it is: `/sys/class/…/device` of
//!   nodes that vendors share, `/sys/dev/char/<major>:<minor>/device` of the others.
//! - L2: where no node of a vendor has such a link (drivers make virtual devices), the vendor's
//!   accelerators on the bus, by address, are taken for the nodes by number. That is an assumption,
//!   which drivers that number what they find keep; it is made only where there are as many of the
//!   one as of the other.
//! - L3: nothing else is guessed. A NUMA node of -1 is the only one of a machine with one, and not
//!   known on a machine with several.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::devices::{Devices, Gpu, Nodes};
use super::limits::cpu_list;
use super::vendors::{self, Vendor};
use super::{files, pci, sysfs};

/// Fills in the PCI addresses of all vendors' devices that have none yet, and all NUMA nodes.
pub fn fill_in(root: &Path, nodes: &Nodes<'_>, devices: &mut Devices) {
    for (name, all) in &mut devices.others {
        let vendor = vendors::find(name).expect("the names are the table's");
        for (gpu, pci) in all.iter_mut().zip(addresses(root, nodes, vendor)) {
            gpu.pci = pci;
        }
    }
    let only = only_node(root);
    let all = devices.nvidia.iter_mut().chain(&mut devices.amd);
    for gpu in all.chain(devices.others.values_mut().flatten()) {
        gpu.numa_node = numa_node(root, gpu, only);
    }
}

/// The PCI addresses of a vendor's devices, in the order of its runtime.
fn addresses(root: &Path, nodes: &Nodes<'_>, vendor: &Vendor) -> Vec<Option<String>> {
    let mut names = nodes.of(vendor);
    names.sort_by_key(|node| nodes.is_integrated(vendor, node));
    let linked: Vec<_> = names.iter().map(|node| linked(root, vendor, node)).collect();
    let found = if linked.iter().any(Option::is_some) {
        linked
    } else {
        let bus = on_bus(root, vendor);
        if bus.len() == names.len() {
            bus.into_iter().map(Some).collect()
        } else {
            vec![None; names.len()]
        }
    };
    if vendor.name == "hpu" && found.len() > 1 { by_module(root, found) } else { found }
}

/// What L1 says of a device node.
fn linked(root: &Path, vendor: &Vendor, node: &str) -> Option<String> {
    let name = node.rsplit('/').next()?;
    let mut classes = vendor.nodes.iter().filter_map(|rule| rule.class);
    let by_class = classes
        .find_map(|class| sysfs::resolve(root, &format!("/{class}/{name}/device")))
        .and_then(|path| address_in(&path));
    by_class.or_else(|| {
        let metadata = files::metadata(root, node).ok()?;
        if !metadata.file_type().is_char_device() {
            return None;
        }
        let (major, minor) =
            (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
        of_number(root, major, minor)
    })
}

/// The PCI device that a character device belongs to.
pub fn of_number(root: &Path, major: u64, minor: u64) -> Option<String> {
    address_in(&sysfs::resolve(root, &format!("/sys/dev/char/{major}:{minor}/device"))?)
}

/// The PCI address nearest to the end of a path below `/sys/devices`: between a device and its PCI
/// function others may lie, such as those of the auxiliary bus.
fn address_in(path: &Path) -> Option<String> {
    let names = path.components().rev().filter_map(|part| part.as_os_str().to_str());
    let is_hex = |text: &str, length: usize| {
        text.len() >= length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_address = |name: &&str| {
        let mut parts = name.split([':', '.']);
        [4, 2, 2, 1].into_iter().all(|length| parts.next().is_some_and(|part| is_hex(part, length)))
            && parts.next().is_none()
    };
    names.into_iter().find(is_address).map(str::to_ascii_lowercase)
}

/// The vendor's accelerators on the bus, by address.
fn on_bus(root: &Path, vendor: &Vendor) -> Vec<String> {
    // What cannot be read is not there: preflight is what notes it.
    let devices = pci::scan(root, &mut Vec::new()).into_iter();
    devices
        .filter(|device| {
            vendor.pci.fits(device.vendor, device.device, device.class, &device.address)
        })
        .map(|device| device.address)
        .collect()
}

/// Gaudis by the numbers of their modules (Linux 6.8 and later), which are no other order's; where
/// the driver does not tell them, which is which is not known.
fn by_module(root: &Path, addresses: Vec<Option<String>>) -> Vec<Option<String>> {
    let module = |address: &Option<String>| -> Option<u32> {
        let address = address.as_deref()?;
        sysfs::number(root, &format!("/sys/bus/pci/devices/{address}/module_id"))
    };
    let count = addresses.len();
    let mut numbered: Vec<_> =
        addresses.into_iter().filter_map(|address| Some((module(&address)?, address))).collect();
    numbered.sort_unstable();
    if numbered.len() == count {
        numbered.into_iter().map(|(_, address)| address).collect()
    } else {
        vec![None; count]
    }
}

/// The NUMA node of a device.
fn numa_node(root: &Path, gpu: &Gpu, only: Option<u32>) -> Option<u32> {
    let pci = gpu.pci.as_deref()?;
    let node = |address: &str| {
        sysfs::number::<i64>(root, &format!("/sys/bus/pci/devices/{address}/numa_node"))
    };
    // NUMA nodes belong to the whole device, which the first function stands for: AMD numbers the
    // parts of a partitioned GPU as functions that the bus does not have.
    let first = || node(&format!("{}.0", pci.rsplit_once('.')?.0));
    match node(pci).or_else(first)? {
        -1 => only,
        number => u32::try_from(number).ok(),
    }
}

/// The NUMA node of a machine that has one.
fn only_node(root: &Path) -> Option<u32> {
    let folder = PathBuf::from("/sys/devices/system/node");
    let list = |name: &str| sysfs::text(root, folder.join(name).to_str()?);
    let nodes = cpu_list(&list("online").or_else(|| list("possible"))?)?;
    nodes.first().copied().filter(|_| nodes.len() == 1)
}
