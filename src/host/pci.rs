//! Accelerators and `NVSwitch`es on the PCI bus, from sysfs.
//!
//! Which device is one is said by [`vendors::ALL`]; of every other device only the vendor is read.
//! Nothing here asks a driver: sysfs answers for a device that has none, or that hangs.

use std::path::Path;

use super::facts::{Note, PciDevice, PciKind};
use super::{files, sysfs, vendors};

const FOLDER: &str = "/sys/bus/pci/devices";

/// Functions on the bus that are looked at; the largest machines have some thousands.
const MAX_FUNCTIONS: usize = 8192;

/// Every accelerator and `NVSwitch`, by address.
pub fn scan(root: &Path, notes: &mut Vec<Note>) -> Vec<PciDevice> {
    let listing = files::noted(files::list(root, FOLDER, MAX_FUNCTIONS), notes).unwrap_or_default();
    if listing.is_cut {
        let what = format!("only {MAX_FUNCTIONS} devices were looked at");
        notes.push(files::note(Path::new(FOLDER), &what));
    }
    listing.names.iter().filter_map(|name| device(root, name)).collect()
}

fn device(root: &Path, name: &str) -> Option<PciDevice> {
    let path = |attribute: &str| format!("{FOLDER}/{name}/{attribute}");
    let word = |attribute: &str| sysfs::hex(root, &path(attribute));
    let id = |attribute: &str| u16::try_from(word(attribute)?).ok();
    let vendor = id("vendor")?;
    if !vendors::ALL.iter().any(|row| row.pci.vendor == vendor) {
        return None;
    }
    let address = name.to_ascii_lowercase();
    let (device, class) = (id("device")?, word("class")?);
    let kind = if vendors::of_pci(vendor, device, class, &address).is_some() {
        PciKind::Accelerator
    } else if vendor == vendors::NVIDIA && class >> 8 == u32::from(vendors::NVSWITCH_CLASS) {
        PciKind::NvSwitch
    } else {
        return None;
    };
    let lanes = |attribute: &str| sysfs::number::<u32>(root, &path(attribute));
    let width = lanes("current_link_width").zip(lanes("max_link_width"));
    Some(PciDevice {
        vendor,
        device,
        class,
        kind,
        driver: sysfs::link_name(root, &path("driver")),
        // A device that is gone answers every read with ones; what sysfs says of its vendor was
        // read when the machine started.
        is_off_bus: sysfs::bytes(root, &path("config"), 4).as_deref() == Some(&[0xff; 4]),
        // A bridge of a virtual machine says 0 or 255 lanes, which is no width.
        link_width: width.filter(|(_, most)| (1..=32).contains(most)),
        // The kernel says -1 where it does not know.
        numa_node: sysfs::number(root, &path("numa_node")),
        is_virtual_function: sysfs::link_name(root, &path("physfn")).is_some(),
        address,
    })
}
