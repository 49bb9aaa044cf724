//! Whose accelerators the ranks will use.
//!
//! - P1: a vendor is here when its devices are, the user's variables do not hide them all, and the
//!   GPUs are not set aside for virtual machines.
//! - P2: AMD's and Intel's graphics come with many processors. They count where `PyTorch` is built
//!   for them, or where the device is of a class that no processor's graphics has.
//! - P3: of several vendors `--backend` decides, then a variable that chooses devices of one of
//!   them, then `PyTorch`'s build, and that is told; where even that is open, it is an error, no guess.

use super::judge::context::{Build, Cx};
use crate::host::facts::VendorFacts;
use crate::host::vendors::{self, Vendor};

/// What settled the choice among several vendors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// There was nothing to choose.
    Alone,
    /// `--backend`, or a variable.
    User,
    /// `PyTorch`'s build and plugins.
    Torch,
    /// Nothing did; the first one stands in.
    No,
}

/// The vendor, and how it was chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    /// `None` is the CPU.
    pub vendor: Option<&'static Vendor>,
    /// Every vendor that is here.
    pub present: Vec<&'static Vendor>,
    /// What decided.
    pub settled: Settled,
}

impl Choice {
    /// The name in the vendor table, or `cpu`.
    pub fn name(&self) -> &'static str {
        self.vendor.map_or("cpu", |vendor| vendor.name)
    }

    /// Whether it is that vendor.
    pub fn is(&self, name: &str) -> bool {
        self.name() == name
    }
}

/// What is known of a vendor here.
pub fn facts_of<'a>(cx: &Cx<'a>, vendor: &Vendor) -> Option<&'a VendorFacts> {
    cx.facts.vendors.iter().find(|facts| facts.name == vendor.name)
}

/// Whether the packages that teach `PyTorch` about it are there; `true` where none is needed.
pub fn has_plugin(cx: &Cx<'_>, vendor: &Vendor) -> bool {
    let packages = &cx.facts.python.packages;
    let spelled =
        |name: &str| packages.contains_key(name) || packages.contains_key(&name.replace('-', "_"));
    vendor.torch_packages.is_empty() || vendor.torch_packages.iter().any(|name| spelled(name))
}

/// Whether the `PyTorch` that is here can use it.
pub fn torch_fits(cx: &Cx<'_>, vendor: &Vendor) -> bool {
    let build = cx.build();
    match vendor.name {
        _ if build == Build::Unknown => true,
        _ if !vendor.torch_packages.is_empty() => has_plugin(cx, vendor),
        "rocm" | "dcu" => build == Build::Rocm,
        "xpu" => build == Build::Xpu,
        // Builds for CUDA's look-alikes say that they are CUDA's.
        _ => build == Build::Cuda,
    }
}

/// Whether the user's variables hide all of a vendor's devices.
fn is_hidden(cx: &Cx<'_>, vendor: &Vendor) -> bool {
    let hides = |value: &str| matches!(value.trim(), "" | "-1" | "NoDevFiles");
    let of_facts = facts_of(cx, vendor).and_then(|facts| facts.visible.as_ref());
    vendor.visible.iter().any(|rule| cx.var(rule.name).is_some_and(hides))
        || of_facts.is_some_and(|visible| hides(&visible.value))
}

/// Whether a vendor's accelerators are here (P1, P2).
fn is_here(cx: &Cx<'_>, vendor: &'static Vendor) -> bool {
    if is_hidden(cx, vendor) {
        return false;
    }
    let facts = facts_of(cx, vendor);
    let on_bus = cx.facts.pci.iter().filter(|device| {
        device.kind == crate::host::facts::PciKind::Accelerator
            && device.vendor == vendor.pci.vendor
    });
    let mut on_bus = on_bus.peekable();
    let is_seen =
        on_bus.peek().is_some() || facts.is_some_and(|f| f.pci > 0 || !f.nodes.is_empty());
    match vendor.name {
        "cuda" => cx.has_nvidia() && !super::judge::is_all_vfio(cx),
        "rocm" | "xpu" => {
            const DISPLAY: u32 = 0x0300;
            let asked = cx.backends().contains(&vendor.backend) && vendor.name == "xpu";
            let fits = cx.build() != Build::Unknown && torch_fits(cx, vendor);
            is_seen
                && (asked
                    || fits
                    || on_bus.any(|device| device.class >> 8 != DISPLAY && device.class >> 8 != 0))
        }
        _ => is_seen,
    }
}

/// Chooses (P3).
pub fn choose(cx: &Cx<'_>) -> Choice {
    let present: Vec<_> = vendors::ALL.iter().filter(|vendor| is_here(cx, vendor)).collect();
    let one = |list: &[&'static Vendor]| if list.len() == 1 { Some(list[0]) } else { None };
    let of = |vendor, settled| Choice { vendor, present: present.clone(), settled };
    if present.len() < 2 {
        return of(present.first().copied(), Settled::Alone);
    }
    let backends = cx.backends();
    let named: Vec<_> = present.iter().copied().filter(|v| backends.contains(&v.backend)).collect();
    let fitting = |list: &[&'static Vendor]| -> Vec<_> {
        list.iter().copied().filter(|vendor| torch_fits(cx, vendor)).collect()
    };
    if let Some(vendor) = one(&named).or_else(|| one(&fitting(&named))) {
        return of(Some(vendor), Settled::User);
    }
    if cx.wants_only_cpu_backend() {
        // Whatever the ranks do with the devices, the process group does not touch them.
        return of(fitting(&present).first().or(present.first()).copied(), Settled::User);
    }
    let has_variable =
        |vendor: &Vendor| vendor.visible.iter().any(|rule| cx.var_set(rule.name).is_some());
    let chosen: Vec<_> = present.iter().copied().filter(|vendor| has_variable(vendor)).collect();
    if let Some(vendor) = one(&chosen) {
        return of(Some(vendor), Settled::User);
    }
    match one(&fitting(&present)) {
        Some(vendor) => of(Some(vendor), Settled::Torch),
        None => of(present.first().copied(), Settled::No),
    }
}
