//! What every subject of the judgement asks: does the job need NVIDIA's GPUs, and NCCL?

use std::cmp::Ordering;

use crate::host::facts::nvidia::{Nvidia, Nvml, Probe};
use crate::host::facts::{HostFacts, PciDevice, PciKind};
use crate::host::vendors;
use crate::preflight::Intent;
use crate::preflight::finding::Severity;
use crate::preflight::version::Version;

/// For which accelerator a `PyTorch` was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// CUDA
    Cuda,
    /// `ROCm`
    Rocm,
    /// Intel's GPUs
    Xpu,
    /// None of them
    Cpu,
    /// `PyTorch` was not found.
    Unknown,
}

/// The facts, the intent, and what follows at once from both.
#[derive(Debug, Clone, Copy)]
pub struct Cx<'a> {
    /// What is true here.
    pub facts: &'a HostFacts,
    /// What the launch wants.
    pub intent: &'a Intent,
}

impl<'a> Cx<'a> {
    /// Joins the two.
    pub fn new(facts: &'a HostFacts, intent: &'a Intent) -> Self {
        Self { facts, intent }
    }

    /// A variable of the ranks, with its value; empty ones included.
    pub fn var(&self, name: &str) -> Option<&'a str> {
        self.facts.variables.get(name).map(String::as_str)
    }

    /// A variable that is set to something.
    pub fn var_set(&self, name: &str) -> Option<&'a str> {
        self.var(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The profile's file and line that set a variable of the ranks; `None` where it is from the
    /// environment.
    pub fn var_from(&self, name: &str) -> Option<&'a str> {
        self.facts.variables_from.get(name).map(String::as_str)
    }

    /// Whether a variable is switched on: set, and neither 0, no, off nor false.
    pub fn is_on(&self, name: &str) -> bool {
        self.var_set(name).is_some_and(is_on)
    }

    /// NVIDIA's driver; an empty one where nothing of it was seen.
    pub fn nvidia(&self) -> Option<&'a Nvidia> {
        self.facts.nvidia.as_ref()
    }

    /// What NVML answered.
    pub fn nvml(&self) -> Option<&'a Nvml> {
        match &self.nvidia()?.nvml {
            Probe::Answered(nvml) => Some(nvml),
            _ => None,
        }
    }

    /// Whether NVML was asked and works.
    pub fn nvml_works(&self) -> bool {
        self.nvml().is_some_and(|nvml| nvml.init.code == 0)
    }

    /// The result of `cuInit`, where it was asked.
    pub fn cuda_code(&self) -> Option<i32> {
        match &self.nvidia()?.cuda {
            Probe::Answered(cuda) => Some(cuda.init.code),
            _ => None,
        }
    }

    /// NVIDIA's GPUs on the bus.
    pub fn nvidia_pci(&self) -> impl Iterator<Item = &'a PciDevice> + use<'a> {
        let is_gpu = |d: &&PciDevice| d.vendor == vendors::NVIDIA && d.kind == PciKind::Accelerator;
        self.facts.pci.iter().filter(is_gpu)
    }

    /// Whether an `NVSwitch` is on the bus.
    pub fn has_nvswitch(&self) -> bool {
        self.facts.pci.iter().any(|device| device.kind == PciKind::NvSwitch)
    }

    /// Whether this machine has something of NVIDIA's to train on, whatever its state.
    pub fn has_nvidia(&self) -> bool {
        self.nvidia_pci().next().is_some()
            || self.nvidia().is_some_and(|n| {
                n.loaded.is_some() || n.is_wsl || n.nodes.iter().any(|node| is_gpu_node(&node.path))
            })
            // Linux under Windows: the GPU is on no bus and has no node of its own.
            || self.nvidia().is_some_and(|n| n.is_wsl && n.libraries.cuda.is_some())
    }

    /// Whether this is a container.
    pub fn is_container(&self) -> bool {
        self.facts.system.container.is_some()
    }

    /// `PyTorch`'s build.
    pub fn build(&self) -> Build {
        match &self.facts.python.torch {
            None => Build::Unknown,
            Some(torch) if torch.hip.is_some() => Build::Rocm,
            Some(torch) if torch.cuda.is_some() => Build::Cuda,
            Some(torch) if torch.xpu.is_some() => Build::Xpu,
            Some(_) => Build::Cpu,
        }
    }

    /// `PyTorch`'s version.
    pub fn torch(&self) -> Option<Version> {
        Version::parse(&self.facts.python.torch.as_ref()?.version)
    }

    /// Whether `CUDA_VISIBLE_DEVICES` hides every GPU.
    pub fn hides_nvidia(&self) -> bool {
        let visible = self.var("CUDA_VISIBLE_DEVICES");
        visible.is_some_and(|list| matches!(list.trim(), "" | "-1" | "NoDevFiles"))
    }

    /// The names in `--backend`: `cpu:gloo,cuda:nccl` are two. Empty where it was not given.
    pub fn backends(&self) -> Vec<&'a str> {
        let Some(text) = self.intent.backend.as_deref() else { return Vec::new() };
        text.split(',')
            .map(|part| part.rsplit_once(':').map_or(part, |(_, name)| name).trim())
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// Whether `--backend` asks for nothing but gloo (or mpi), which need no GPU.
    pub fn wants_only_cpu_backend(&self) -> bool {
        let backends = self.backends();
        !backends.is_empty() && backends.iter().all(|name| matches!(*name, "gloo" | "mpi"))
    }

    /// Whether only one rank is started in all.
    pub fn is_single(&self) -> bool {
        self.intent.nproc == Some(1) && self.intent.nnodes <= 1
    }

    /// Whether the ranks may use NVIDIA's GPUs at all.
    pub fn may_use_nvidia(&self) -> bool {
        self.has_nvidia()
            && !self.hides_nvidia()
            && matches!(self.build(), Build::Cuda | Build::Unknown)
    }

    /// How bad something is that keeps the ranks from the GPUs.
    pub fn for_gpu(&self, usual: Severity) -> Severity {
        if !self.may_use_nvidia() || self.wants_only_cpu_backend() { Severity::Note } else { usual }
    }

    /// How bad something is that keeps NCCL from working while CUDA works.
    pub fn for_nccl(&self, usual: Severity) -> Severity {
        match self.for_gpu(usual) {
            Severity::Error if self.is_single() => Severity::Warning,
            other => other,
        }
    }

    /// The version of the module in the kernel.
    pub fn kernel_module(&self) -> Option<(&'a str, Version)> {
        let loaded = self.nvidia()?.loaded.as_ref()?;
        Some((loaded.version.as_str(), Version::parse(&loaded.version)?))
    }

    /// NCCL's version: of the file, of the wheel, else what `PyTorch`'s release brings.
    pub fn nccl(&self) -> Option<(String, Version)> {
        let python = &self.facts.python;
        let of_file = python.nccl.as_ref().and_then(|nccl| nccl.version.clone());
        let of_wheel = || {
            let mut wheels = python.packages.iter();
            wheels.find(|(name, _)| name.starts_with("nvidia-nccl")).map(|(_, v)| v.clone())
        };
        let text = of_file.or_else(of_wheel).or_else(|| of_torch(&self.torch()?))?;
        Some((text.clone(), Version::parse(&text)?))
    }
}

/// Whether a value switches something on.
pub fn is_on(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "off" | "false" | "n")
}

/// `/dev/nvidia0` and the like.
pub fn is_gpu_node(path: &str) -> bool {
    let number = path.strip_prefix("/dev/nvidia");
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The NCCL that a release of `PyTorch` is pinned to (metadata of its wheels).
fn of_torch(torch: &Version) -> Option<String> {
    const PINS: &[(&[u32], &str)] = &[
        (&[2, 15], "2.30.7"),
        (&[2, 13], "2.29.7"),
        (&[2, 11], "2.28.9"),
        (&[2, 9], "2.27.5"),
        (&[2, 8], "2.27.3"),
        (&[2, 7], "2.26.2"),
        (&[2, 5], "2.21.5"),
        (&[2, 3], "2.20.5"),
        (&[2, 2], "2.19.3"),
        (&[2, 1], "2.18.1"),
        (&[2, 0], "2.14.3"),
    ];
    PINS.iter().find(|(since, _)| torch.is_at_least(since)).map(|(_, nccl)| (*nccl).to_owned())
}

/// Compares two texts as versions; `None` where one is none.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    Some(Version::parse(a)?.compare(&Version::parse(b)?))
}
