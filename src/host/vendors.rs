//! Every vendor of accelerators that nvlaunch knows, in one table: a new vendor is a new row here
//! and nothing else.
//!
//! Counting devices for `--nproc`, the scan of the PCI bus, preflight's facts and the choice of the
//! backend all read this table. It decides nothing and reads nothing itself.
//!
//! - V1: the order is the order in which vendors are looked at; where two are there, the first is
//!   taken.
//! - V2: a PCI vendor id alone says little: the same vendor makes network cards, bridges and sound
//!   functions. Every row says which classes (and where that is not enough, which devices) count.
//!
//! Sources: pci.ids; the device plugins and container toolkits of the vendors; the detectors of
//! gpustack/runtime; the README files of `torch_gcu`, `torch_npu`, `torch_mlu`, `torch_musa`.

use std::ops::RangeInclusive;

/// What is known of one vendor.
#[derive(Debug)]
pub struct Vendor {
    /// What `--nproc` and facts call it; `PyTorch`'s own name of the device where it has one.
    pub name: &'static str,
    /// What people call the devices.
    pub title: &'static str,
    /// Its devices on the PCI bus.
    pub pci: PciRule,
    /// Its device nodes, one per device; more than one pattern where drivers differ.
    pub nodes: &'static [NodeRule],
    /// Nodes that stand for the driver rather than for one device, below the root.
    pub control_nodes: &'static [&'static str],
    /// Its kernel modules, as `/sys/module` names them, the main one first.
    pub modules: &'static [&'static str],
    /// Whether the modules are there only for its accelerators; a module of graphics is no sign.
    pub is_module_a_sign: bool,
    /// The `torch.device` of its tensors.
    pub torch_device: &'static str,
    /// The distributions that teach `PyTorch` about it; empty where a build of `PyTorch` itself does.
    pub torch_packages: &'static [&'static str],
    /// The backend of its collectives, as `init_process_group` takes it.
    pub backend: &'static str,
    /// The variables that choose among its devices, the strongest first.
    pub visible: &'static [VisibleRule],
    /// The variable by which its container runtime chooses.
    pub container: Option<&'static str>,
    /// Its management and collective libraries.
    pub libraries: &'static [&'static str],
    /// Folders of its libraries besides the linker's own, below the root.
    pub library_folders: &'static [&'static str],
    /// What tells people about its devices.
    pub tool: Option<&'static str>,
}

/// Which devices on the PCI bus are a vendor's accelerators.
#[derive(Debug)]
pub struct PciRule {
    /// The vendor id.
    pub vendor: u16,
    /// Device ids; empty is any.
    pub devices: &'static [RangeInclusive<u16>],
    /// Base class and subclass, as 0x0302; empty is any.
    pub classes: &'static [u16],
    /// Where the processor's own graphics sits, which trains nothing.
    pub integrated: Option<&'static str>,
}

impl PciRule {
    /// Whether a device with that vendor, device id and class (as 0x030200) at that address counts.
    pub fn fits(&self, vendor: u16, device: u16, class: u32, address: &str) -> bool {
        self.vendor == vendor
            && (self.devices.is_empty() || self.devices.iter().any(|ids| ids.contains(&device)))
            && (self.classes.is_empty()
                || self.classes.iter().any(|known| u32::from(*known) == class >> 8))
            && self.integrated != Some(address)
    }
}

/// How the device nodes of a vendor are named.
#[derive(Debug)]
pub struct NodeRule {
    /// Their folder, below the root.
    pub folder: &'static str,
    /// What a name starts with; a number follows, and nothing after it.
    pub prefix: &'static str,
    /// For nodes that vendors share: the folder of sysfs where `<node>/device/vendor` has to be
    /// the vendor's PCI id.
    pub class: Option<&'static str>,
}

/// A variable that chooses among devices.
#[derive(Debug)]
pub struct VisibleRule {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a list of indices such as `0,2`, so that devices can be counted by it.
    pub is_list: bool,
}

/// Graphics and compute functions, and nothing else of a vendor that makes more than accelerators.
const COMPUTE: &[u16] = &[VGA, THREE_D, DISPLAY, COPROCESSOR, ACCELERATOR];
const VGA: u16 = 0x0300;
const THREE_D: u16 = 0x0302;
const DISPLAY: u16 = 0x0380;
const COPROCESSOR: u16 = 0x0b40;
const ACCELERATOR: u16 = 0x1200;

const fn nodes(folder: &'static str, prefix: &'static str) -> NodeRule {
    NodeRule { folder, prefix, class: None }
}

const fn shared(folder: &'static str, prefix: &'static str, class: &'static str) -> NodeRule {
    NodeRule { folder, prefix, class: Some(class) }
}

/// Render nodes of a vendor, which all vendors with a DRM driver share.
const RENDER: NodeRule = shared("dev/dri", "renderD", "sys/class/drm");

const fn list(name: &'static str) -> VisibleRule {
    VisibleRule { name, is_list: true }
}

const fn opaque(name: &'static str) -> VisibleRule {
    VisibleRule { name, is_list: false }
}

/// The table (V1).
pub static ALL: &[Vendor] = &[
    Vendor {
        name: "cuda",
        title: "NVIDIA GPU",
        // Sound, USB and serial functions of a card have its vendor too.
        pci: PciRule { vendor: NVIDIA, devices: &[], classes: &[VGA, THREE_D], integrated: None },
        nodes: &[nodes("dev", "nvidia")],
        control_nodes: &["dev/nvidiactl", "dev/nvidia-uvm"],
        modules: &["nvidia"],
        is_module_a_sign: true,
        torch_device: "cuda",
        torch_packages: &[],
        backend: "nccl",
        visible: &[list("CUDA_VISIBLE_DEVICES")],
        container: Some("NVIDIA_VISIBLE_DEVICES"),
        libraries: &["libnvidia-ml.so.1", "libcuda.so.1"],
        library_folders: &["usr/local/nvidia/lib64", "run/opengl-driver/lib"],
        tool: Some("nvidia-smi"),
    },
    Vendor {
        name: "gcu",
        title: "Enflame GCU",
        pci: PciRule { vendor: 0x1e36, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[nodes("dev", "gcu"), nodes("dev", "vgcu")],
        control_nodes: &["dev/gcuctl"],
        modules: &["enflame"],
        is_module_a_sign: true,
        torch_device: "gcu",
        torch_packages: &["torch-gcu"],
        backend: "eccl",
        visible: &[list("TOPS_VISIBLE_DEVICES")],
        container: Some("ENFLAME_VISIBLE_DEVICES"),
        libraries: &["libefml.so", "libeccl.so"],
        library_folders: &["opt/tops/lib", "usr/local/lib"],
        tool: Some("efsmi"),
    },
    Vendor {
        name: "rocm",
        title: "AMD GPU",
        pci: PciRule { vendor: 0x1002, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[RENDER],
        control_nodes: &["dev/kfd"],
        modules: &["amdgpu"],
        is_module_a_sign: false,
        torch_device: "cuda",
        torch_packages: &[],
        backend: "nccl",
        visible: &[
            list("HIP_VISIBLE_DEVICES"),
            list("ROCR_VISIBLE_DEVICES"),
            list("CUDA_VISIBLE_DEVICES"),
        ],
        container: Some("AMD_VISIBLE_DEVICES"),
        libraries: &["libamd_smi.so", "librocm_smi64.so", "librccl.so.1"],
        library_folders: &["opt/rocm/lib"],
        tool: Some("amd-smi"),
    },
    Vendor {
        name: "npu",
        title: "Huawei Ascend NPU",
        // Huawei's network cards, storage, management graphics and engines are not in this range.
        pci: PciRule {
            vendor: 0x19e5,
            devices: &[0xd000..=0xdfff],
            classes: COMPUTE,
            integrated: None,
        },
        nodes: &[nodes("dev", "davinci")],
        control_nodes: &["dev/davinci_manager", "dev/devmm_svm", "dev/hisi_hdc"],
        modules: &["drv_davinci_intf_host", "drv_davinci_intf", "drv_pcie_host"],
        is_module_a_sign: true,
        torch_device: "npu",
        torch_packages: &["torch-npu"],
        backend: "hccl",
        visible: &[list("ASCEND_RT_VISIBLE_DEVICES"), opaque("NPU_VISIBLE_DEVICES")],
        container: Some("ASCEND_VISIBLE_DEVICES"),
        libraries: &["libdcmi.so", "libhccl.so"],
        library_folders: &[
            "usr/local/dcmi",
            "usr/local/Ascend/driver/lib64/driver",
            "usr/local/Ascend/ascend-toolkit/latest/lib64",
        ],
        tool: Some("npu-smi"),
    },
    Vendor {
        name: "xpu",
        title: "Intel GPU",
        // QuickAssist is a coprocessor and the laptop's NPU an accelerator; neither trains.
        pci: PciRule {
            vendor: 0x8086,
            devices: &[],
            classes: &[VGA, THREE_D, DISPLAY],
            integrated: Some("0000:00:02.0"),
        },
        nodes: &[RENDER],
        control_nodes: &[],
        modules: &["xe", "i915"],
        is_module_a_sign: false,
        torch_device: "xpu",
        torch_packages: &[],
        backend: "xccl",
        visible: &[opaque("ZE_AFFINITY_MASK"), opaque("ONEAPI_DEVICE_SELECTOR")],
        container: None,
        libraries: &["libze_intel_gpu.so.1", "libccl.so.1"],
        library_folders: &["opt/intel/oneapi/ccl/latest/lib"],
        tool: Some("xpu-smi"),
    },
    Vendor {
        name: "hpu",
        title: "Intel Gaudi",
        // Below and above are Goya and Greco, which only infer.
        pci: PciRule {
            vendor: 0x1da3,
            devices: &[0x1000..=0x10ff],
            classes: &[],
            integrated: None,
        },
        nodes: &[shared("dev/accel", "accel", "sys/class/accel"), nodes("dev", "hl")],
        control_nodes: &[],
        modules: &["habanalabs"],
        is_module_a_sign: true,
        torch_device: "hpu",
        torch_packages: &["habana-torch-plugin"],
        backend: "hccl",
        // Numbers of modules on the board, which are not the indices of the nodes.
        visible: &[opaque("HABANA_VISIBLE_MODULES")],
        container: Some("HABANA_VISIBLE_DEVICES"),
        libraries: &["libhlml.so", "libhccl.so"],
        library_folders: &["usr/lib/habanalabs"],
        tool: Some("hl-smi"),
    },
    Vendor {
        name: "mlu",
        title: "Cambricon MLU",
        pci: PciRule { vendor: 0xcabc, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[nodes("dev", "cambricon_dev")],
        control_nodes: &["dev/cambricon_ctl"],
        modules: &["cambricon_drv", "cambricon"],
        is_module_a_sign: true,
        torch_device: "mlu",
        torch_packages: &["torch-mlu"],
        backend: "cncl",
        visible: &[list("MLU_VISIBLE_DEVICES")],
        container: Some("CAMBRICON_VISIBLE_DEVICES"),
        libraries: &["libcndev.so", "libcncl.so"],
        library_folders: &["usr/local/neuware/lib64"],
        tool: Some("cnmon"),
    },
    Vendor {
        name: "musa",
        title: "Moore Threads GPU",
        pci: PciRule { vendor: 0x1ed5, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[nodes("dev", "mtgpu.")],
        control_nodes: &[],
        modules: &["mtgpu"],
        is_module_a_sign: true,
        torch_device: "musa",
        torch_packages: &["torch-musa"],
        backend: "mccl",
        visible: &[list("MUSA_VISIBLE_DEVICES")],
        container: Some("MTHREADS_VISIBLE_DEVICES"),
        libraries: &["libmtml.so", "libmccl.so"],
        library_folders: &["usr/local/musa/lib"],
        tool: Some("mthreads-gmi"),
    },
    Vendor {
        name: "maca",
        title: "MetaX GPU",
        pci: PciRule { vendor: 0x9999, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[RENDER],
        control_nodes: &["dev/mxcd", "dev/mxgd"],
        modules: &["metax"],
        is_module_a_sign: true,
        torch_device: "cuda",
        torch_packages: &[],
        backend: "nccl",
        visible: &[list("CUDA_VISIBLE_DEVICES"), list("MACA_VISIBLE_DEVICES")],
        container: None,
        libraries: &["libmxsml.so", "libmccl.so"],
        library_folders: &["opt/maca/lib", "opt/mxdriver/lib"],
        tool: Some("mx-smi"),
    },
    Vendor {
        name: "iluvatar",
        title: "Iluvatar GPU",
        pci: PciRule { vendor: 0x1e3e, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[nodes("dev", "iluvatar")],
        control_nodes: &["dev/itrctl"],
        modules: &["iluvatar"],
        is_module_a_sign: true,
        torch_device: "cuda",
        torch_packages: &[],
        backend: "nccl",
        visible: &[list("CUDA_VISIBLE_DEVICES")],
        container: Some("IX_VISIBLE_DEVICES"),
        libraries: &["libixml.so", "libixccl.so"],
        library_folders: &["usr/local/corex/lib64"],
        tool: Some("ixsmi"),
    },
    Vendor {
        name: "dcu",
        title: "Hygon DCU",
        // Hygon's processors are full of bridges and engines with this vendor.
        pci: PciRule { vendor: 0x1d94, devices: &[], classes: COMPUTE, integrated: None },
        nodes: &[RENDER],
        control_nodes: &["dev/kfd", "dev/mkfd"],
        modules: &["hydcu", "hycu"],
        is_module_a_sign: true,
        torch_device: "cuda",
        torch_packages: &[],
        backend: "nccl",
        visible: &[list("HIP_VISIBLE_DEVICES")],
        container: None,
        libraries: &["librocm_smi64.so", "librccl.so.1"],
        library_folders: &["opt/dtk/lib", "opt/hyhal/lib"],
        tool: Some("hy-smi"),
    },
    Vendor {
        name: "kunlun",
        title: "Kunlunxin XPU",
        // Baidu's cloud storage has the same vendor.
        pci: PciRule {
            vendor: 0x1d22,
            devices: &[0x3600..=0x36ff],
            classes: &[],
            integrated: None,
        },
        nodes: &[nodes("dev", "xpu")],
        control_nodes: &["dev/xpuctrl"],
        modules: &["kunlun"],
        is_module_a_sign: true,
        torch_device: "cuda",
        torch_packages: &["torch-xmlir"],
        backend: "nccl",
        visible: &[list("XPU_VISIBLE_DEVICES"), list("CUDA_VISIBLE_DEVICES")],
        container: None,
        libraries: &["libxpuml.so", "libbkcl.so"],
        library_folders: &["usr/local/xpu/lib64"],
        tool: Some("xpu-smi"),
    },
    Vendor {
        name: "ppu",
        title: "T-Head PPU",
        // Alibaba's network cards and the engines of its processors have the same vendor.
        pci: PciRule {
            vendor: 0x1ded,
            devices: &[0x6000..=0x6fff],
            classes: COMPUTE,
            integrated: None,
        },
        nodes: &[nodes("dev", "alixpu_ppu")],
        control_nodes: &["dev/alixpu", "dev/alixpu_ctl"],
        modules: &["alixpu"],
        is_module_a_sign: true,
        torch_device: "cuda",
        torch_packages: &[],
        backend: "nccl",
        visible: &[list("CUDA_VISIBLE_DEVICES")],
        container: None,
        libraries: &[],
        library_folders: &[],
        tool: None,
    },
];

/// NVIDIA's vendor id.
pub const NVIDIA: u16 = 0x10de;

/// Class of NVIDIA's `NVSwitch` on the bus: base class and subclass.
pub const NVSWITCH_CLASS: u16 = 0x0680;

/// The vendor called `name`.
pub fn find(name: &str) -> Option<&'static Vendor> {
    ALL.iter().find(|vendor| vendor.name == name)
}

/// The names, in the order of the table.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    ALL.iter().map(|vendor| vendor.name)
}

/// What the path of any vendor's device node begins with: nodes of devices and of drivers.
pub fn node_prefixes() -> Vec<String> {
    let of = |vendor: &'static Vendor| {
        let devices = vendor.nodes.iter().map(|node| format!("/{}/{}", node.folder, node.prefix));
        devices.chain(vendor.control_nodes.iter().map(|node| format!("/{node}")))
    };
    let all: std::collections::BTreeSet<String> = ALL.iter().flat_map(of).collect();
    all.into_iter().collect()
}

/// The vendor whose accelerator such a device is.
pub fn of_pci(vendor: u16, device: u16, class: u32, address: &str) -> Option<&'static Vendor> {
    ALL.iter().find(|row| row.pci.fits(vendor, device, class, address))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn which_devices_on_the_bus_are_accelerators() {
        for (vendor, device, class, address, name) in [
            (0x10de, 0x2230, 0x03_0000, "0000:01:00.0", Some("cuda")),
            (0x10de, 0x2335, 0x03_0200, "0000:dc:00.0", Some("cuda")),
            (0x10de, 0x1aef, 0x04_0300, "0000:01:00.1", None),
            (0x10de, 0x1ad6, 0x0c_0330, "0000:01:00.2", None),
            (0x10de, 0x22a3, 0x06_8000, "0000:05:00.0", None),
            (0x1002, 0x74a1, 0x12_0000, "0000:c5:00.0", Some("rocm")),
            (0x1002, 0xab28, 0x04_0300, "0000:c5:00.1", None),
            (0x1e36, 0x0021, 0x12_0000, "0000:3d:00.0", Some("gcu")),
            (0x19e5, 0xd802, 0x12_0000, "0000:c1:00.0", Some("npu")),
            (0x19e5, 0x1711, 0x03_0000, "0000:05:00.0", None),
            (0x19e5, 0xa250, 0x12_0000, "0000:75:00.0", None),
            (0x8086, 0x0bd5, 0x03_8000, "0000:29:00.0", Some("xpu")),
            (0x8086, 0x56a0, 0x03_0000, "0000:03:00.0", Some("xpu")),
            (0x8086, 0x46a6, 0x03_0000, "0000:00:02.0", None),
            (0x8086, 0x4940, 0x0b_4000, "0000:6b:00.0", None),
            (0x8086, 0x7d1d, 0x12_0000, "0000:00:0b.0", None),
            (0x1da3, 0x1020, 0x12_0000, "0000:19:00.0", Some("hpu")),
            (0x1da3, 0x1063, 0x12_0000, "0000:19:00.0", Some("hpu")),
            (0x1da3, 0x0001, 0x12_0000, "0000:19:00.0", None),
            (0xcabc, 0x0370, 0x12_0000, "0000:1a:00.0", Some("mlu")),
            (0x1ed5, 0x0222, 0x03_0000, "0000:1a:00.0", Some("musa")),
            (0x1ed5, 0x02ff, 0x04_0300, "0000:1a:00.1", None),
            (0x9999, 0x4001, 0x03_8000, "0000:0f:00.0", Some("maca")),
            (0x1e3e, 0x0001, 0x12_0000, "0000:13:00.0", Some("iluvatar")),
            (0x1d94, 0x55b7, 0x0b_4000, "0000:33:00.0", Some("dcu")),
            (0x1d94, 0x1450, 0x06_0000, "0000:00:00.0", None),
            (0x1d94, 0x1456, 0x10_8000, "0000:04:00.2", None),
            (0x1d22, 0x3684, 0x12_0000, "0000:36:00.0", Some("kunlun")),
            (0x1d22, 0x1380, 0x01_0000, "0000:36:00.0", None),
            (0x1ded, 0x107f, 0x02_0000, "0000:00:05.0", None),
            (0x1ded, 0x8001, 0x12_0000, "0000:00:05.0", None),
        ] {
            let found = of_pci(vendor, device, class, address).map(|vendor| vendor.name);
            assert_eq!(found, name, "{vendor:04x}:{device:04x} {class:06x}");
        }
    }

    #[test]
    fn the_table_is_whole() {
        let names: BTreeSet<_> = names().collect();
        assert_eq!(names.len(), ALL.len(), "every name stands once");
        let ids: BTreeSet<_> = ALL.iter().map(|vendor| vendor.pci.vendor).collect();
        assert_eq!(ids.len(), ALL.len(), "every PCI vendor stands once");
        for vendor in ALL {
            assert!(find(vendor.name).is_some_and(|found| std::ptr::eq(found, vendor)));
            assert!(!vendor.visible.is_empty() && !vendor.nodes.is_empty(), "{}", vendor.name);
            assert!(!vendor.modules.is_empty() && !vendor.backend.is_empty(), "{}", vendor.name);
            let folders = vendor.nodes.iter().map(|node| node.folder);
            for path in folders.chain(vendor.control_nodes.iter().copied()) {
                assert!(!path.starts_with('/'), "{path} is below the root");
            }
        }
        assert!(find("tpu").is_none());
    }
}
