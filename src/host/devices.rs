//! Which accelerators there are, by device nodes and the kernel's lists alone.
//!
//! [`probe`] reads, [`Devices::seen`] and [`Visible::of`] decide. A vendor's library is never
//! asked: it can hang, and starting it costs more than the launch.
//!
//! - D1: a GPU is an NVIDIA or AMD one, as for torchrun, whose `cuda` is either.
//! - D2: every other vendor is a row of [`vendors::ALL`], counted by its nodes.
//! - D3: variables such as `CUDA_VISIBLE_DEVICES` are read as the vendor's runtime does: the list
//!   ends at the first entry that is no device; one device twice is no device at all.
//! - D4: the order of a list is the order of the vendor's runtime, as far as the kernel tells it;
//!   what rests on which source stands at [`probe`] and in [`places`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::vendors::{self, NodeRule, Vendor};
use super::{files, places, sysfs};
use crate::env_vars;
use crate::settings::env::Env;

/// A device of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Its PCI address in sysfs' form, `0000:dc:00.0`, where known.
    pub pci: Option<String>,
    /// Its id, `GPU-…`, where the kernel tells it.
    pub uuid: Option<String>,
    /// Its model, where the kernel tells it.
    pub model: Option<String>,
    /// Its NUMA node, where somebody looked and the kernel tells it.
    pub numa_node: Option<u32>,
}

/// How much was read of the devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Looked {
    /// Nobody looked.
    #[default]
    No,
    /// Which there are.
    Counted,
    /// Where they are, too: PCI addresses and NUMA nodes.
    Placed,
}

/// The accelerators of the machine and the variables that choose among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// How much was read.
    pub looked: Looked,
    /// NVIDIA's, in the order of their PCI addresses.
    pub nvidia: Vec<Gpu>,
    /// AMD's, in the kernel's order.
    pub amd: Vec<Gpu>,
    /// Those of each other vendor that has some, by its name, in the order of its runtime.
    pub others: BTreeMap<&'static str, Vec<Gpu>>,
    /// How many of Intel's are more than the processor's own graphics.
    pub discrete_xpu: u32,
    /// The visible-devices variables of every vendor that are set, and `CUDA_DEVICE_ORDER`.
    pub variables: BTreeMap<&'static str, String>,
}

/// What the variables leave of a vendor's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// All of them.
    pub all: &'a [Gpu],
    /// Those that are visible.
    pub visible: Visible,
    /// The variables that narrowed the choice, the one that is applied first first.
    pub by: Vec<&'static str>,
    /// A variable that chooses in the vendor's own terms, which are not read: which of the devices
    /// are visible is not known.
    pub unread: Option<&'static str>,
}

/// A device that a variable leaves visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The device at this index of the machine's list.
    Index(usize),
    /// An id that the kernel's lists do not tell (MIG, or UUIDs of a GPU never used since boot).
    Id(String),
}

/// The devices that are visible, in the order of the ranks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Visible(pub Vec<Chosen>);

impl Visible {
    /// What `variable` leaves of `gpus`; without a variable all.
    pub fn of(variable: Option<&str>, gpus: &[Gpu]) -> Self {
        let Some(list) = variable else {
            return Self((0..gpus.len()).map(Chosen::Index).collect());
        };
        if gpus.is_empty() {
            return Self::default();
        }
        let prefix = ["GPU-", "MIG-"].into_iter().find(|prefix| list.trim().starts_with(prefix));
        let mut chosen: Vec<Chosen> = Vec::new();
        for entry in list.split(',').map(str::trim) {
            let device = match prefix {
                Some(prefix) if !entry.starts_with(prefix) => None,
                Some("GPU-") => by_uuid(entry, gpus),
                Some(_) => Some(Chosen::Id(entry.to_owned())),
                None => {
                    leading_number(entry).filter(|index| *index < gpus.len()).map(Chosen::Index)
                }
            };
            let Some(device) = device else { break };
            if chosen.contains(&device) {
                return Self::default();
            }
            chosen.push(device);
        }
        Self(chosen)
    }

    /// How many ranks can have one each. CUDA gives a process one MIG device at most, so without a
    /// device of its own for each rank (`separate`) several of them are one.
    pub fn count(&self, separate: bool) -> u32 {
        let is_mig = |device: &Chosen| matches!(device, Chosen::Id(id) if id.starts_with("MIG-"));
        let count = self.0.len();
        let count = if separate || !self.0.iter().any(is_mig) { count } else { count.min(1) };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

impl Devices {
    /// The visible devices of a vendor.
    pub fn seen(&self, vendor: &Vendor) -> Seen<'_> {
        if vendor.name == "rocm" {
            return self.seen_amd();
        }
        let all = self.all(vendor);
        let mut set = vendor.visible.iter().filter(|rule| self.variables.contains_key(rule.name));
        match set.clone().find(|rule| rule.is_list) {
            Some(rule) => Seen {
                all,
                visible: Visible::of(self.variable(rule.name), all),
                by: vec![rule.name],
                unread: None,
            },
            None => Seen {
                all,
                visible: Visible::of(None, all),
                by: Vec::new(),
                unread: set
                    .find(|rule| !self.variables[rule.name].is_empty())
                    .map(|rule| rule.name),
            },
        }
    }

    fn all(&self, vendor: &Vendor) -> &[Gpu] {
        match vendor.name {
            "cuda" => &self.nvidia,
            "rocm" => &self.amd,
            name => self.others.get(name).map_or(&[], Vec::as_slice),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn seen_amd(&self) -> Seen<'_> {
        let hip = [env_vars::HIP_VISIBLE_DEVICES, env_vars::CUDA_VISIBLE_DEVICES];
        let hip = hip.into_iter().find(|name| self.variables.contains_key(name));
        let Some(rocr) = self.variable(env_vars::ROCR_VISIBLE_DEVICES) else {
            let visible = Visible::of(hip.and_then(|name| self.variable(name)), &self.amd);
            return Seen { all: &self.amd, visible, by: hip.into_iter().collect(), unread: None };
        };
        // The ROCR variable is applied first, below HIP; HIP's indices count what that leaves.
        let outer = Visible::of(Some(rocr), &self.amd);
        let left = vec![Gpu::default(); outer.0.len()];
        let inner = Visible::of(hip.and_then(|name| self.variable(name)), &left);
        let chosen = inner.0.into_iter().map(|device| match device {
            Chosen::Index(index) => outer.0[index].clone(),
            id @ Chosen::Id(_) => id,
        });
        let visible = Visible(chosen.collect());
        let by = std::iter::once(env_vars::ROCR_VISIBLE_DEVICES).chain(hip).collect();
        Seen { all: &self.amd, visible, by, unread: None }
    }

    /// The vendor whose devices a GPU is: NVIDIA, or AMD where there is nothing of NVIDIA's to see.
    fn gpu_vendor(&self) -> &'static Vendor {
        let row = |name| vendors::find(name).expect("the table has NVIDIA and AMD");
        let cuda = row("cuda");
        if self.amd.is_empty() || !self.seen(cuda).visible.0.is_empty() {
            cuda
        } else {
            row("rocm")
        }
    }

    /// How many GPUs the ranks can have.
    pub fn gpu_count(&self, separate: bool) -> u32 {
        self.seen(self.gpu_vendor()).visible.count(separate)
    }

    /// The vendor of the GPUs, where one is visible.
    pub fn gpu(&self) -> Option<&'static Vendor> {
        let vendor = self.gpu_vendor();
        (!self.seen(vendor).visible.0.is_empty()).then_some(vendor)
    }

    /// How many devices of the vendor called `name`; `None` is an unknown name.
    pub fn count(&self, name: &str) -> Option<u32> {
        Some(self.seen(vendors::find(name)?).visible.count(true))
    }

    /// The vendor whose devices `auto` finds: that of the GPUs, else the first that has some. The
    /// processor's own graphics is none, though `xpu` counts it.
    pub fn auto(&self) -> Option<&'static Vendor> {
        let is_there = |vendor: &&Vendor| match vendor.name {
            "xpu" => self.discrete_xpu > 0,
            // What is not a GPU to see by now is none.
            "cuda" | "rocm" => false,
            _ => !self.seen(vendor).visible.0.is_empty(),
        };
        self.gpu().or_else(|| vendors::ALL.iter().find(is_there))
    }

    /// How many accelerators `auto` finds.
    pub fn auto_count(&self, separate: bool) -> u32 {
        match self.auto() {
            Some(vendor) if vendor.name == "xpu" => self.discrete_xpu,
            Some(vendor) if matches!(vendor.name, "cuda" | "rocm") => self.gpu_count(separate),
            Some(vendor) => self.seen(vendor).visible.count(true),
            None => 0,
        }
    }
}

/// Reads the device nodes and the kernel's lists below `root`; with `depth` [`Looked::Placed`] the
/// PCI bus too. What cannot be read is not there.
///
/// The order is that of the runtime:
/// - NVIDIA: PCI addresses, which is `CUDA_DEVICE_ORDER=PCI_BUS_ID`. Without that variable CUDA
///   puts faster GPUs first, which is the same where all are of one model.
/// - AMD: the nodes of the kernel's compute topology, which `ROCm` goes through in this order.
/// - Intel: render nodes, the processor's own graphics last, as Level Zero has them.
/// - Gaudi: the numbers of the modules on the board, which are `LOCAL_RANK`s to Habana's runtime.
/// - All others: the numbers of the device nodes. That these are the runtime's numbers is what
///   the vendors' container toolkits rely on, too.
pub fn probe(root: &Path, env: &Env, depth: Looked) -> Devices {
    let text = |name| env.get(name).map(|value| value.to_string_lossy().into_owned());
    let nodes = Nodes::list(root);
    let mut devices = Devices {
        looked: depth,
        nvidia: nvidia(root),
        amd: amd(root),
        others: vendors::ALL
            .iter()
            .filter(|vendor| !matches!(vendor.name, "cuda" | "rocm"))
            .map(|vendor| (vendor, nodes.of(vendor)))
            .filter(|(_, nodes)| !nodes.is_empty())
            .map(|(vendor, nodes)| (vendor.name, vec![Gpu::default(); nodes.len()]))
            .collect(),
        discrete_xpu: discrete_xpu(&nodes),
        variables: variable_names().filter_map(|name| Some((name, text(name)?))).collect(),
    };
    if depth == Looked::Placed {
        places::fill_in(root, &nodes, &mut devices);
    }
    devices
}

/// The variables that choose among devices, of every vendor.
pub fn variable_names() -> impl Iterator<Item = &'static str> {
    let visible = vendors::ALL.iter().flat_map(|vendor| vendor.visible).map(|rule| rule.name);
    visible.chain([env_vars::CUDA_DEVICE_ORDER])
}

/// The driver's list, less the GPUs whose device node is not there (a container that was given
/// some); where there is no node at all they are only not made yet. Without the list, the nodes.
fn nvidia(root: &Path) -> Vec<Gpu> {
    let minors = numbered(&names(root, "/dev"), "nvidia");
    let mut gpus = Vec::new();
    for pci in names(root, "/proc/driver/nvidia/gpus") {
        let file = format!("/proc/driver/nvidia/gpus/{pci}/information");
        let text = sysfs::text(root, &file).unwrap_or_default();
        let field = |name: &str| {
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let minor = field("Device Minor").and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_some_and(|minor| !minors.is_empty() && !minors.contains(&minor)) {
            continue;
        }
        // Until a GPU is first used the driver prints question marks.
        let uuid = field("GPU UUID").filter(|uuid| !uuid.contains('?')).map(str::to_owned);
        let model = field("Model").map(str::to_owned);
        gpus.push(Gpu { pci: Some(pci.to_lowercase()), uuid, model, numa_node: None });
    }
    gpus.sort_by(|a, b| a.pci.cmp(&b.pci));
    if gpus.is_empty() { vec![Gpu::default(); minors.len()] } else { gpus }
}

/// The nodes of the kernel's compute topology that have vector units; the others are CPUs.
fn amd(root: &Path) -> Vec<Gpu> {
    if !files::exists(root, "/dev/kfd") {
        return Vec::new();
    }
    let folder = "/sys/class/kfd/kfd/topology/nodes";
    let mut gpus = Vec::new();
    for node in numbered(&names(root, folder), "") {
        // A GPU that this process may not use has no readable properties.
        let Some(text) = sysfs::text(root, &format!("{folder}/{node}/properties")) else {
            continue;
        };
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        if field("simd_count").unwrap_or(0_u64) == 0 {
            continue;
        }
        let pci = field("location_id").map(|location| {
            let domain = field("domain").unwrap_or(0);
            format!(
                "{domain:04x}:{:02x}:{:02x}.{:x}",
                location >> 8 & 0xff,
                location >> 3 & 0x1f,
                location & 7
            )
        });
        gpus.push(Gpu { pci, ..Gpu::default() });
    }
    gpus
}

/// The names in the folders of device nodes.
#[derive(Debug)]
pub struct Nodes<'a> {
    root: &'a Path,
    folders: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Nodes<'a> {
    /// Lists every folder of the vendor table once.
    pub fn list(root: &'a Path) -> Self {
        let folders: BTreeSet<&'static str> =
            vendors::ALL.iter().flat_map(|vendor| vendor.nodes).map(|rule| rule.folder).collect();
        let listed = |folder| (folder, names(root, &format!("/{folder}")));
        Self { root, folders: folders.into_iter().map(listed).collect() }
    }

    /// The device nodes of a vendor, one for each device: those of the first of its patterns that
    /// fits any.
    pub fn of(&self, vendor: &Vendor) -> Vec<String> {
        let mut found = vendor.nodes.iter().map(|rule| self.by_rule(vendor, rule));
        found.find(|nodes| !nodes.is_empty()).unwrap_or_default()
    }

    fn by_rule(&self, vendor: &Vendor, rule: &NodeRule) -> Vec<String> {
        let mut all = self
            .folders
            .get(rule.folder)
            .map(|names| numbered(names, rule.prefix))
            .unwrap_or_default();
        if let Some(class) = rule.class {
            let is_ours = |number: &u32| {
                let file = format!("/{class}/{}{number}/device/vendor", rule.prefix);
                sysfs::hex(self.root, &file) == Some(u32::from(vendor.pci.vendor))
            };
            all.retain(is_ours);
        }
        let path = |number| format!("/{}/{}{number}", rule.folder, rule.prefix);
        all.into_iter().map(path).collect()
    }

    /// Whether a node is that of the processor's own graphics, which trains nothing.
    pub fn is_integrated(&self, vendor: &Vendor, node: &str) -> bool {
        let Some(address) = vendor.pci.integrated else { return false };
        let name = node.rsplit('/').next().unwrap_or(node);
        vendor.nodes.iter().filter_map(|rule| rule.class).any(|class| {
            let device = sysfs::resolve(self.root, &format!("/{class}/{name}/device"));
            device.is_some_and(|device| device.file_name().is_some_and(|name| name == address))
        })
    }
}

/// Intel's render nodes whose device does not sit where the processor's own graphics does.
fn discrete_xpu(nodes: &Nodes<'_>) -> u32 {
    let Some(intel) = vendors::find("xpu") else { return 0 };
    let all = nodes.of(intel);
    let count = all.iter().filter(|node| !nodes.is_integrated(intel, node)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The numbers that follow `prefix` in some names, ascending.
fn numbered(names: &[String], prefix: &str) -> Vec<u32> {
    let number = |name: &String| {
        let digits = name.strip_prefix(prefix)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// The names in a folder; what cannot be read is not there.
fn names(root: &Path, folder: &str) -> Vec<String> {
    files::list(root, folder, files::MAX_ENTRIES).ok().flatten().unwrap_or_default().names
}

/// The GPU whose id starts so, when it is exactly one. Where no id is known the caller's word is
/// taken.
fn by_uuid(entry: &str, gpus: &[Gpu]) -> Option<Chosen> {
    if gpus.iter().any(|gpu| gpu.uuid.is_none()) {
        return Some(Chosen::Id(entry.to_owned()));
    }
    let fits = |gpu: &Gpu| gpu.uuid.as_deref().is_some_and(|uuid| uuid.starts_with(entry));
    let mut fitting = gpus.iter().enumerate().filter(|(_, gpu)| fits(gpu));
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => Some(Chosen::Index(index)),
        _ => None,
    }
}

/// The number a text starts with, as C's `strtoul` reads it: CUDA takes `1gpu` for 1.
fn leading_number(text: &str) -> Option<usize> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
