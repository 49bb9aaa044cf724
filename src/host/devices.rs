//! Which accelerators there are, by device nodes and the kernel's lists alone.
//!
//! [`probe`] reads, [`Devices::count`] and [`Visible::of`] decide. A vendor's library is never
//! asked: it can hang, and starting it costs more than the launch.
//!
//! - D1: a GPU is an NVIDIA or AMD one, as for torchrun, whose `cuda` is either.
//! - D2: variables such as `CUDA_VISIBLE_DEVICES` are read as the vendor's runtime does: the list
//!   ends at the first entry that is no device; one device twice is no device at all.

use std::ffi::OsString;
use std::path::Path;

use crate::env_vars;
use crate::settings::env::Env;

/// How the accelerators of a vendor are found.
#[derive(Debug)]
pub struct Vendor {
    /// What `--nproc` and `PyTorch` call them.
    pub name: &'static str,
    /// The folder of their device nodes, below the root.
    folder: &'static str,
    /// What the name of a node starts with; a number follows.
    prefix: &'static str,
    /// A folder of sysfs where `<node>/device/vendor` has to be that PCI vendor, for nodes that
    /// vendors share.
    pci: Option<(&'static str, &'static str)>,
    /// The variable that chooses among them.
    visible: Option<&'static str>,
}

/// Every vendor whose devices are found by their nodes; NVIDIA and AMD have more to say.
pub const VENDORS: &[Vendor] = &[
    Vendor {
        name: "xpu",
        folder: "dev/dri",
        prefix: "renderD",
        pci: Some(("sys/class/drm", "0x8086")),
        visible: None,
    },
    Vendor {
        name: "hpu",
        folder: "dev/accel",
        prefix: "accel",
        pci: Some(("sys/class/accel", "0x1da3")),
        visible: None,
    },
    Vendor {
        name: "npu",
        folder: "dev",
        prefix: "davinci",
        pci: None,
        visible: Some("ASCEND_RT_VISIBLE_DEVICES"),
    },
    Vendor {
        name: "mlu",
        folder: "dev",
        prefix: "cambricon_dev",
        pci: None,
        visible: Some("MLU_VISIBLE_DEVICES"),
    },
    Vendor {
        name: "musa",
        folder: "dev",
        prefix: "mtgpu.",
        pci: None,
        visible: Some("MUSA_VISIBLE_DEVICES"),
    },
    Vendor {
        name: "gcu",
        folder: "dev",
        prefix: "gcu",
        pci: None,
        visible: Some("TOPS_VISIBLE_DEVICES"),
    },
];

/// A GPU of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Its PCI address in sysfs' form, `0000:dc:00.0`, where known.
    pub pci: Option<String>,
    /// Its id, `GPU-…`, where the kernel tells it.
    pub uuid: Option<String>,
}

/// The accelerators of the machine and the variables that choose among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// NVIDIA's, in the order of their PCI addresses.
    pub nvidia: Vec<Gpu>,
    /// AMD's, in the kernel's order.
    pub amd: Vec<Gpu>,
    /// How many of each other vendor, in the order of [`VENDORS`], after their variable.
    pub others: Vec<u32>,
    /// How many of Intel's are more than the processor's own graphics.
    pub discrete_xpu: u32,
    /// `CUDA_VISIBLE_DEVICES`
    pub cuda_visible: Option<String>,
    /// `HIP_VISIBLE_DEVICES`
    pub hip_visible: Option<String>,
    /// `ROCR_VISIBLE_DEVICES`
    pub rocr_visible: Option<String>,
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
    /// The visible GPUs and the list they are of: NVIDIA's, or AMD's where there is none.
    pub fn gpus(&self) -> (&[Gpu], Visible) {
        let nvidia = Visible::of(self.cuda_visible.as_deref(), &self.nvidia);
        if !nvidia.0.is_empty() || self.amd.is_empty() {
            return (&self.nvidia, nvidia);
        }
        // The ROCR variable is applied first, below HIP; HIP's indices count what that leaves.
        let left: Vec<Gpu> = match Visible::of(self.rocr_visible.as_deref(), &self.amd) {
            Visible(chosen) if self.rocr_visible.is_some() => {
                chosen.iter().map(|_| Gpu::default()).collect()
            }
            _ => self.amd.clone(),
        };
        let hip = self.hip_visible.as_deref().or(self.cuda_visible.as_deref());
        let visible = Visible::of(hip, &left);
        if self.rocr_visible.is_none() {
            return (&self.amd, visible);
        }
        let outer = Visible::of(self.rocr_visible.as_deref(), &self.amd);
        let chosen = visible.0.into_iter().map(|device| match device {
            Chosen::Index(index) => outer.0[index].clone(),
            id @ Chosen::Id(_) => id,
        });
        (&self.amd, Visible(chosen.collect()))
    }

    /// How many GPUs the ranks can have.
    pub fn gpu_count(&self, separate: bool) -> u32 {
        self.gpus().1.count(separate)
    }

    /// How many devices of the vendor called `name`; `None` is an unknown name.
    pub fn count(&self, name: &str) -> Option<u32> {
        let at = VENDORS.iter().position(|vendor| vendor.name == name)?;
        Some(self.others.get(at).copied().unwrap_or(0))
    }

    /// How many accelerators `auto` finds: GPUs, else the first vendor's that has some. The
    /// processor's own graphics is none, though `xpu` counts it.
    pub fn auto_count(&self, separate: bool) -> u32 {
        let of_vendor = |(vendor, count): (&Vendor, &u32)| match vendor.name {
            "xpu" => self.discrete_xpu,
            _ => *count,
        };
        let gpus = std::iter::once(self.gpu_count(separate));
        let others = VENDORS.iter().zip(&self.others).map(of_vendor);
        gpus.chain(others).find(|count| *count > 0).unwrap_or(0)
    }
}

/// Reads the device nodes and the kernel's lists below `root`. What cannot be read is not there.
pub fn probe(root: &Path, env: &Env) -> Devices {
    let text = |name| env.get(name).map(|value| value.to_string_lossy().into_owned());
    Devices {
        nvidia: nvidia(root),
        amd: amd(root),
        others: VENDORS
            .iter()
            .map(|vendor| {
                let all = nodes(root, vendor);
                match vendor.visible.and_then(text) {
                    Some(variable) => {
                        let devices = vec![Gpu::default(); all.len()];
                        Visible::of(Some(&variable), &devices).count(true)
                    }
                    None => u32::try_from(all.len()).unwrap_or(u32::MAX),
                }
            })
            .collect(),
        discrete_xpu: discrete_xpu(root),
        cuda_visible: text(env_vars::CUDA_VISIBLE_DEVICES),
        hip_visible: text(env_vars::HIP_VISIBLE_DEVICES),
        rocr_visible: text(env_vars::ROCR_VISIBLE_DEVICES),
    }
}

/// The driver's list, less the GPUs whose device node is not there (a container that was given
/// some); where there is no node at all they are only not made yet. Without the list, the nodes.
fn nvidia(root: &Path) -> Vec<Gpu> {
    let minors = numbered(&root.join("dev"), "nvidia");
    let folder = root.join("proc/driver/nvidia/gpus");
    let mut gpus = Vec::new();
    for pci in names(&folder) {
        let text = std::fs::read_to_string(folder.join(&pci).join("information"));
        let text = text.unwrap_or_default();
        let field = |name: &str| {
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let minor = field("Device Minor").and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_some_and(|minor| !minors.is_empty() && !minors.contains(&minor)) {
            continue;
        }
        // Until a GPU is first used the driver prints question marks.
        let uuid = field("GPU UUID").filter(|uuid| !uuid.contains('?')).map(str::to_owned);
        gpus.push(Gpu { pci: pci.into_string().ok().map(|pci| pci.to_lowercase()), uuid });
    }
    gpus.sort_by(|a, b| a.pci.cmp(&b.pci));
    if gpus.is_empty() { vec![Gpu::default(); minors.len()] } else { gpus }
}

/// The nodes of the kernel's compute topology that have vector units; the others are CPUs.
fn amd(root: &Path) -> Vec<Gpu> {
    if !root.join("dev/kfd").exists() {
        return Vec::new();
    }
    let folder = root.join("sys/class/kfd/kfd/topology/nodes");
    let mut gpus = Vec::new();
    for node in numbered(&folder, "") {
        // A GPU that this process may not use has no readable properties.
        let Ok(text) = std::fs::read_to_string(folder.join(format!("{node}/properties"))) else {
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
        gpus.push(Gpu { pci, uuid: None });
    }
    gpus
}

fn nodes(root: &Path, vendor: &Vendor) -> Vec<u32> {
    let mut all = numbered(&root.join(vendor.folder), vendor.prefix);
    if let Some((class, id)) = vendor.pci {
        all.retain(|number| {
            let node = format!("{}{number}/device/vendor", vendor.prefix);
            std::fs::read_to_string(root.join(class).join(node)).is_ok_and(|text| text.trim() == id)
        });
    }
    all
}

/// Intel's render nodes whose device does not sit where the processor's own graphics does.
fn discrete_xpu(root: &Path) -> u32 {
    let is_discrete = |number: &u32| {
        let device = root.join(format!("sys/class/drm/renderD{number}/device"));
        let device = device.canonicalize().unwrap_or_default();
        device.file_name().is_none_or(|name| name != "0000:00:02.0")
    };
    let count = nodes(root, &VENDORS[0]).iter().filter(|number| is_discrete(number)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The numbers that follow `prefix` in the names of a folder, ascending.
fn numbered(folder: &Path, prefix: &str) -> Vec<u32> {
    let number = |name: OsString| {
        let digits = name.to_str()?.strip_prefix(prefix)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mut numbers: Vec<u32> = names(folder).filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn names(folder: &Path) -> impl Iterator<Item = OsString> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name())
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
