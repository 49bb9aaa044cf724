//! Network interfaces and InfiniBand ports, from sysfs.

use std::path::Path;

use super::facts::{InfinibandPort, Interface, Network, Note};
use super::{files, sysfs};

const INTERFACES: &str = "/sys/class/net";
const INFINIBAND: &str = "/sys/class/infiniband";
/// Entries that are looked at; a node full of pods has some hundred.
const MAX: usize = 1024;
/// `ARPHRD_LOOPBACK`
const LOOPBACK: u32 = 772;

/// Every interface and every InfiniBand port.
pub fn read(root: &Path, notes: &mut Vec<Note>) -> Network {
    let mut list = |folder: &str| {
        files::noted(files::list(root, folder, MAX), notes).unwrap_or_default().names
    };
    let interfaces = list(INTERFACES).iter().filter_map(|name| interface(root, name)).collect();
    let mut infiniband = Vec::new();
    for device in list(INFINIBAND) {
        for port in list(&format!("{INFINIBAND}/{device}/ports")) {
            infiniband.extend(port_of(root, &device, &port));
        }
    }
    Network { interfaces, infiniband }
}

fn interface(root: &Path, name: &str) -> Option<Interface> {
    let path = |attribute: &str| format!("{INTERFACES}/{name}/{attribute}");
    // `bonding_masters` is a file among the interfaces.
    let kind: u32 = sysfs::number(root, &path("type"))?;
    let state = sysfs::text(root, &path("operstate")).unwrap_or_else(|| "unknown".to_owned());
    let is_loopback = kind == LOOPBACK;
    // Asking the driver of an interface that is down is an error, of a virtual one -1.
    let speed = match state.as_str() {
        "up" if !is_loopback => sysfs::number(root, &path("speed")),
        _ => None,
    };
    Some(Interface { name: name.to_owned(), state, is_loopback, speed })
}

fn port_of(root: &Path, device: &str, port: &str) -> Option<InfinibandPort> {
    let text = |attribute: &str| {
        sysfs::text(root, &format!("{INFINIBAND}/{device}/ports/{port}/{attribute}"))
            .unwrap_or_default()
    };
    // `4: ACTIVE`
    let word = |attribute: &str| {
        let text = text(attribute);
        text.split_once(':').map_or(text.as_str(), |(_, word)| word).trim().to_owned()
    };
    Some(InfinibandPort {
        device: device.to_owned(),
        port: port.parse().ok()?,
        state: word("state"),
        physical_state: word("phys_state"),
        link_layer: text("link_layer"),
        rate: text("rate"),
    })
}
