"""Machines that can train: not one finding may come of them."""

from . import nvml
from .machine import AMD, Machine, host


@host
def h200():
    """Bare metal, eight H200 behind NVSwitch."""
    m = Machine("healthy-h200-nvswitch", "bare metal, 8 H200, NVSwitch and its fabric manager")
    m.ubuntu("24.04", kernel="6.8.0-85-generic", host="node017").driver("580.95.05")
    m.gpus(8, "NVIDIA H200").nvswitches().fabric_manager("580.95.05").libraries("580.95.05")
    m.module("580.95.05").dkms("580.95.05").other_kernel("6.8.0-79-generic")
    m.driver_packages("580.95.05", "-0ubuntu0.24.04.1", held=True).automatic_upgrades().apt_noise()
    m.infiniband(8).memlock("unlimited", "unlimited")
    m.venv().wants(8, nnodes=4).expect("ok")
    return nvml.works(m, 8, "NVIDIA H200")


@host
def container_compat():
    """A container brings a newer libcuda for forward compatibility, as NVIDIA intends."""
    m = Machine(
        "healthy-container-cuda-compat", "docker, driver 550 outside, cuda-compat 580 inside"
    )
    libs = "/usr/lib/x86_64-linux-gnu"
    mounted = [f"{libs}/lib{stem}.so.550.163.01" for stem in ("cuda", "nvidia-ml")]
    m.ubuntu("22.04", host="7f3a9c").driver("550.163.01", "proprietary", persistenced=False)
    m.container(
        mounted=mounted,
        NVIDIA_VISIBLE_DEVICES="all",
        NVIDIA_DRIVER_CAPABILITIES="compute,utility",
        LD_LIBRARY_PATH="/usr/local/cuda/compat:/usr/local/cuda/lib64",
    )
    m.gpus(4, "NVIDIA A100-SXM4-80GB").libraries("550.163.01")
    m.library("cuda", "580.95.05", "/usr/local/cuda/compat", cached=False)
    m.library("nvidia-ptxjitcompiler", "580.95.05", "/usr/local/cuda/compat", cached=False)
    m.venv(torch="2.9.1+cu130", cuda="13.0").wants(4).expect("ok")
    return nvml.works(m, 4, "NVIDIA A100-SXM4-80GB")


@host
def workstation():
    m = Machine("healthy-workstation-a6000", "a workstation with 3 RTX A6000, all of one version")
    m.ubuntu("22.04").driver("580.95.05").gpus(3, "NVIDIA RTX A6000").libraries("580.95.05")
    m.module("580.95.05").dkms("580.95.05").driver_packages("580.95.05")
    m.automatic_upgrades(False)
    m.upgrade(
        "2025-09-10 10:02:11",
        "580.82.09-0ubuntu0.22.04.1",
        "580.95.05-0ubuntu0.22.04.1",
        "apt upgrade",
        by="mallory",
    )
    m.venv().wants(3).expect("ok")
    return nvml.works(m, 3, "NVIDIA RTX A6000")


@host
def rhel():
    m = Machine("healthy-rhel-h100", "Red Hat with the driver of NVIDIA's repository, 4 H100")
    m.rhel().driver("570.172.08").gpus(4, "NVIDIA H100 80GB HBM3").libraries("570.172.08")
    m.module("570.172.08", "extra.xz")
    m.secure_boot()
    m.numa()
    m.venv(python="3.11").wants(4).expect("ok")
    return nvml.works(m, 4, "NVIDIA H100 80GB HBM3")


@host
def kubernetes():
    m = Machine("healthy-kubernetes-gke", "a pod that gets the driver under /usr/local/nvidia")
    m.ubuntu("22.04", host="trainer-0").driver("535.261.03", "proprietary", persistenced=False)
    m.container(
        "kubernetes",
        NVIDIA_VISIBLE_DEVICES="all",
        LD_LIBRARY_PATH="/usr/local/nvidia/lib64",
    )
    m.gpus(8, "NVIDIA A100-SXM4-80GB", nodes=False)
    for minor in (2, 5):
        m.file(f"dev/nvidia{minor}")
    m.libraries("535.261.03", "/usr/local/nvidia/lib64", cached=False)
    return m.venv(torch="2.5.1+cu121", cuda="12.1", python="3.10").wants(2).expect("ok")


@host
def gcu():
    m = Machine("healthy-gcu-t20", "8 Enflame T20 with torch_gcu")
    m.ubuntu("22.04", host="t20-01").t20(8)
    m.system_python("3.8", "1.10.0", None, torch_gcu="1.10.0+2.5.136")
    return m.wants(8).expect("ok", "gcu", "eccl")


@host
def rocm():
    m = Machine("healthy-rocm-mi300x", "8 MI300X with PyTorch for ROCm")
    m.ubuntu("22.04", host="mi300").file("dev/kfd").loaded("amdgpu", 3, version="6.12.12")
    for index in range(8):
        m.pci(f"0000:{0x11 + 16 * index:02x}:00.0", AMD, 0x74A1, 0x120000, "amdgpu")
        m.file(f"dev/dri/renderD{128 + index}").lines(
            f"sys/class/drm/renderD{128 + index}/device/vendor", "0x1002"
        )
        m.lines(
            f"sys/class/kfd/kfd/topology/nodes/{index + 1}/properties",
            "cpu_cores_count 0",
            "simd_count 1216",
            "vendor_id 4098",
            f"location_id {(0x11 + 16 * index) << 8}",
            "domain 0",
        )
    m.lines("sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 96", "simd_count 0")
    m.venv(torch="2.8.0+rocm6.4", cuda=None, hip="6.4.43482-0f2d60242", nccl=None)
    return m.wants(8).expect("ok", "rocm", "nccl")


@host
def cpu():
    m = Machine("healthy-cpu-with-cuda-torch", "no accelerator, PyTorch as pip installs it")
    m.ubuntu("24.04", host="laptop").automatic_upgrades().apt_noise()
    m.pci("0000:00:02.0", 0x8086, 0x9A49, 0x030000, "i915")
    m.file("dev/dri/card0").file("dev/dri/renderD128")
    m.link("sys/class/drm/renderD128/device", "../../../devices/pci0000:00/0000:00:02.0")
    return m.venv(python="3.12").wants(2).expect("ok", "cpu", "gloo")


@host
def ci():
    m = Machine("healthy-ci-container", "a container of continuous integration, with nothing in it")
    m.ubuntu("24.04", host="runner").container()
    m.venv(torch="2.8.0+cpu", cuda=None, nccl=None, python="3.12")
    return m.wants(2).expect("ok", "cpu", "gloo")


@host
def wsl2():
    m = Machine("healthy-wsl2", "Windows Subsystem for Linux: the driver is Windows' own")
    m.ubuntu("24.04", kernel="6.6.87.2-microsoft-standard-WSL2", host="DESKTOP-1")
    m.pci("5582:00:00.0", 0x1414, 0x008E, 0x030200, "dxgkrnl", width=None)
    m.file("dev/dxg")
    folder = "/usr/lib/wsl/lib"
    for stem in ("cuda", "nvidia-ml"):
        m.library(stem, "580.97", folder, cached=False, links=False)
        content = m.files.pop(f"usr/lib/wsl/lib/lib{stem}.so.580.97")
        m.file(f"{folder}/lib{stem}.so.1", content)
        m.cache.append((f"lib{stem}.so.1", f"{folder}/lib{stem}.so.1", "x86_64"))
    m.lines("etc/ld.so.conf.d/ld.wsl.conf", folder)
    return m.venv(python="3.12").wants(1).expect("ok")


@host
def cuda_image():
    m = Machine(
        "healthy-cuda-image-without-gpu", "an image for CUDA, started where there is no GPU"
    )
    m.ubuntu("22.04", host="9d1f").container(NVIDIA_VISIBLE_DEVICES="all", CUDA_VERSION="12.8.0")
    m.library("cuda", "570.172.08", "/usr/local/cuda-12.8/compat", cached=False)
    return m.venv(python="3.10").wants(4).expect("ok", "cpu", "gloo")


@host
def laptop():
    m = Machine("healthy-laptop-two-graphics", "a GeForce beside the processor's own graphics")
    m.ubuntu("24.04", host="laptop").driver("580.95.05").automatic_upgrades()
    m.pci("0000:00:02.0", 0x8086, 0x9A49, 0x030000, "i915")
    m.file("dev/dri/renderD128")
    m.link("sys/class/drm/renderD128/device", "../../../devices/pci0000:00/0000:00:02.0")
    m.gpus(1, "NVIDIA GeForce RTX 4090", start=1).libraries("580.95.05").module("580.95.05")
    m.venv(python="3.12").wants(1).expect("ok")
    return nvml.works(m, 1, "NVIDIA GeForce RTX 4090")
