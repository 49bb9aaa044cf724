"""Hosts whose driver is wrong: in the kernel, on disk, as libraries, or in a container."""

from . import formats, nvml
from .machine import Machine, host

OLD, NEW = "580.82.09", "580.95.05"
JAMMY = "-0ubuntu0.22.04.1"
NOBLE = "-0ubuntu0.24.04.2"
LIBS = "/usr/lib/x86_64-linux-gnu"


def a6000(name, story, kernel=OLD, libs=NEW, disk=NEW):
    """The workstation of the field report, with 3 RTX A6000."""
    m = Machine(name, story).ubuntu("22.04", boot="2025-09-14 08:00:00")
    m.driver(kernel).gpus(3, "NVIDIA RTX A6000").libraries(libs)
    if disk:
        m.module(disk).dkms(disk)
    return m.driver_packages(libs, JAMMY).venv().wants(3)


def newer(m, kernel=OLD, libs=NEW, says=(), by=(), armed=False, **how):
    """Expect the mismatch as the one cause; `by` is what must be said of the upgrade behind it."""
    m.finds(
        "NVL001",
        how.get("severity", "error"),
        says=[kernel, libs, *says],
        never=["pkill", *how.get("never", ())],
    )
    if by:
        m.finds("NVL008", "note", of="NVL001", says=by, never=how.get("not_by", ()))
    if armed:
        m.finds(
            "NVL009", "note", of="NVL001", says=["20auto-upgrades" if m.status else "automatic"]
        )
    return m


@host
def mismatch_unattended():
    m = a6000(
        "mismatch-a6000-unattended-upgrade",
        "libraries were upgraded overnight under a running kernel module; no reboot since",
    )
    m.apt_noise().upgrade("2025-10-03 06:50:54", OLD + JAMMY, NEW + JAMMY)
    m.automatic_upgrades().reboot_required("nvidia-driver-580", "linux-base")
    m.expect("refused")
    newer(
        m,
        says=["apt-mark hold", "reboot", "libnvidia-compute-580", "2.27.3", "modprobe"],
        by=["unattended-upgrade", "2025-10-03 06:50:54", "libnvidia-compute-580"],
        armed=True,
    )
    return nvml.mismatch(m)


@host
def mismatch_noble():
    m = Machine("mismatch-ubuntu2404", "Ubuntu 24.04, module 580.65.06 under libraries 580.95.05")
    m.ubuntu("24.04", boot="2025-09-20 09:10:00").driver("580.65.06")
    m.gpus(4, "NVIDIA GeForce RTX 3090").libraries(NEW).module(NEW).dkms(NEW)
    m.driver_packages(NEW, NOBLE).automatic_upgrades()
    m.upgrade("2025-10-22 06:23:10", "580.65.06" + NOBLE, NEW + NOBLE)
    m.venv(python="3.12").wants(4).expect("refused")
    newer(m, "580.65.06", by=["unattended-upgrade", "2025-10-22 06:23:10"], armed=True)
    m.finds("NVL003", "note", of="NVL001", says=["GeForce RTX 3090", "804"])
    return nvml.mismatch(m)


@host
def mismatch_by_hand():
    m = a6000("mismatch-apt-upgrade-by-hand", "somebody ran apt upgrade and did not reboot")
    m.upgrade("2025-10-07 14:31:02", OLD + JAMMY, NEW + JAMMY, "apt upgrade -y", by="henry")
    m.automatic_upgrades(False).expect("refused")
    newer(m, by=["apt upgrade", "henry", "2025-10-07 14:31:02"], not_by=["unattended-upgrade"])
    return nvml.mismatch(m)


@host
def mismatch_rotated():
    m = a6000("mismatch-rotated-history", "apt's log was rotated since the upgrade")
    m.apt_noise()
    m.upgrade("2025-09-28 06:41:07", OLD + JAMMY, NEW + JAMMY, rotated=1).expect("refused")
    return newer(m, by=["2025-09-28 06:41:07", "unattended-upgrade", "history.log.1.gz"])


@host
def mismatch_reboot_does_not_help():
    m = a6000(
        "mismatch-reboot-does-not-help",
        "DKMS could not build the new module: the one on disk is the old one too",
        disk=OLD,
    )
    m.upgrade("2025-10-03 06:50:54", OLD + JAMMY, NEW + JAMMY)
    m.dkms(
        NEW,
        state="failed",
        log=[
            "make[1]: Entering directory '/usr/src/linux-headers-6.8.0-79-generic'",
            "/build/nvidia/nv.c:41:10: fatal error: linux/foo.h: No such file",
            "make: *** [Makefile:115: modules] Error 2",
        ],
    )
    m.expect("refused")
    newer(m, by=["2025-10-03 06:50:54"], never=["reboot: it loads the module that is on disk"])
    m.finds("NVL010", "note", of="NVL001", says=[OLD, "fatal error", "nvidia.ko.zst"])
    return nvml.mismatch(m)


@host
def mismatch_no_logs():
    m = a6000(
        "mismatch-pinned-by-cached-package",
        "the old libraries still lie in apt's cache; nothing tells of an upgrade",
    )
    m.file(f"var/cache/apt/archives/libnvidia-compute-580_{OLD}{JAMMY}_amd64.deb", "!<arch>\n")
    unpack = "dpkg-deb -x /var/cache/apt/archives/libnvidia-compute-580"
    newer(m.expect("refused"), says=["without root", unpack], never=["does not cure"])
    return nvml.mismatch(m)


@host
def mismatch_one_gpu():
    m = a6000(
        "mismatch-one-rank", "one rank needs no NCCL, and CUDA itself takes the newer library"
    )
    m.upgrade("2025-10-03 06:50:54", OLD + JAMMY, NEW + JAMMY).wants(1)
    newer(m.expect("degraded"), by=["2025-10-03 06:50:54"], severity="warning")
    return nvml.mismatch(m)


@host
def mismatch_nvml_disable():
    m = a6000(
        "mismatch-with-nccl-nvml-disable", "the cure that is passed around is set, and is none"
    )
    newer(m.variables(NCCL_NVML_DISABLE="1").expect("refused"))
    m.finds("NVL006", "note", of="NVL001", says=["NCCL_NVML_DISABLE", "libnccl.so.2"])
    return nvml.mismatch(m)


@host
def mismatch_rhel():
    m = Machine("mismatch-rhel-dnf", "Red Hat, upgraded by dnf-automatic")
    m.rhel().driver(OLD).gpus(4, "NVIDIA L40S").libraries(NEW).module(NEW, "extra.xz")
    stamp = "2025-10-03T06:21:47+0200"
    packages = ("nvidia-driver-cuda-libs", "nvidia-driver-libs", "kmod-nvidia-open-dkms")
    m.lines(
        "var/log/dnf.rpm.log",
        "2025-09-01T04:00:00+0200 INFO --- logging initialized ---",
        *[f"{stamp} SUBDEBUG Upgrade: {name}-3:{NEW}-1.el9.x86_64" for name in packages],
        *[f"{stamp} SUBDEBUG Upgraded: {name}-3:{OLD}-1.el9.x86_64" for name in packages],
    )
    timer = "etc/systemd/system/timers.target.wants/dnf-automatic.timer"
    m.link(timer, "/usr/lib/systemd/system/dnf-automatic.timer")
    m.lines("etc/dnf/automatic.conf", "[commands]", "upgrade_type = default", "apply_updates = yes")
    m.venv().wants(4).expect("refused")
    newer(m, by=["2025-10-03", "dnf"], not_by=["apt"], never=["apt"], armed=True)
    return nvml.mismatch(m)


@host
def mismatch_gh200():
    m = Machine(
        "mismatch-gh200-aarch64", "a Grace Hopper node, upgraded without a reboot", "aarch64"
    )
    # No log: who changed the libraries stays unknown.
    m.ubuntu("22.04", "6.8.0-1028-nvidia-64k", host="gh01").driver("570.133.20")
    m.gpus(1, "NVIDIA GH200 480GB", start=1, domain=9).libraries("570.172.08")
    m.module("570.172.08", "prebuilt").driver_packages("570.172.08", JAMMY)
    m.venv().wants(2, nnodes=2).expect("refused")
    m.finds("NVL001", "error", says=["570.133.20", "570.172.08"])
    return nvml.mismatch(m)


@host
def libraries_older():
    m = Machine("libraries-older-than-kernel", "an image brings libraries of an older driver")
    m.ubuntu("22.04").driver("570.172.08").container(NVIDIA_VISIBLE_DEVICES="all")
    m.gpus(2, "NVIDIA A100-SXM4-80GB").libraries("550.90.07").venv().wants(2).expect("refused")
    m.finds("NVL002", "error", says=["570.172.08", "550.90.07"])
    return nvml.mismatch(m)


@host
def stale_ld_library_path():
    m = Machine("stale-driver-on-ld-library-path", "LD_LIBRARY_PATH leads to last year's libraries")
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    m.libraries("535.183.01", "/opt/nvidia-535/lib", cached=False)
    m.variables(LD_LIBRARY_PATH="/opt/nvidia-535/lib:/opt/tools/lib").venv().wants(2)
    m.expect("refused").finds(
        "NVL002",
        "error",
        says=[NEW, "535.183.01", "take /opt/nvidia-535/lib out of", "without root"],
        never=["does not cure", "none is applied"],
    )
    return m


@host
def geforce_compat():
    m = Machine("geforce-forward-compat", "cuda-compat on a GeForce, which it does not work with")
    m.ubuntu("22.04").driver("550.163.01").container(
        NVIDIA_VISIBLE_DEVICES="all", LD_LIBRARY_PATH="/usr/local/cuda/compat"
    )
    m.gpus(2, "NVIDIA GeForce RTX 4090").libraries("550.163.01")
    m.library("cuda", NEW, "/usr/local/cuda/compat", cached=False).venv().wants(2)
    m.expect("refused").finds(
        "NVL003", "error", says=["GeForce RTX 4090", "/usr/local/cuda/compat"]
    )
    return nvml.works(m, 2, "NVIDIA GeForce RTX 4090")


@host
def compat_branch():
    m = Machine("compat-branch-not-in-note", "cuda-compat 580 does not know kernel branch 545")
    m.ubuntu("22.04").driver("545.23.08").container(
        NVIDIA_VISIBLE_DEVICES="all", LD_LIBRARY_PATH="/usr/local/cuda/compat"
    )
    m.gpus(2, "NVIDIA A100-SXM4-80GB").libraries("545.23.08")
    m.library("cuda", NEW, "/usr/local/cuda/compat", cached=False).venv().wants(2)
    m.expect("refused").finds("NVL004", "error", says=["545", NEW])
    return nvml.works(m, 2, "NVIDIA A100-SXM4-80GB")


@host
def skew():
    m = Machine("libcuda-libnvidia-ml-skew", "libcuda of one version, libnvidia-ml of another")
    m.ubuntu("22.04").driver("550.144.03").gpus(2, "NVIDIA A100-SXM4-80GB")
    m.library("nvidia-ml", "550.144.03").library("cuda", "550.163.01").module("550.144.03")
    m.venv().wants(2).expect("degraded")
    m.finds("NVL005", "warning", says=["550.144.03", "550.163.01", "libnvidia-compute-550"])
    return nvml.works(m, 2, "NVIDIA A100-SXM4-80GB")


@host
def stubs():
    m = Machine("stubs-on-ld-library-path", "the toolkit's stub of libcuda is found first")
    m.ubuntu("22.04").driver(NEW).gpus(1, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    folder = "usr/local/cuda-12.8/targets/x86_64-linux/lib/stubs"
    m.file(f"{folder}/libcuda.so", formats.library(["libcuda stub", "CUDA_ERROR_STUB_LIBRARY"]))
    m.link(f"{folder}/libcuda.so.1", "libcuda.so")
    m.variables(LD_LIBRARY_PATH=f"/{folder}").venv().wants(1).expect("refused")
    return m.finds("NVL032", "error", says=["stubs"])


@host
def zero_byte():
    m = Machine(
        "container-zero-byte-libcuda",
        "the image was committed under the runtime of another host: libcuda is an empty file",
    )
    m.ubuntu("22.04").driver("460.32.03", "proprietary", persistenced=False)
    m.container(NVIDIA_VISIBLE_DEVICES="all").gpus(4, "Tesla V100-PCIE-16GB")
    m.library("nvidia-ml", "460.32.03").library("cuda", "465.19.01", content=b"", cached=False)
    m.file(f"{LIBS}/libcuda.so.460.32.03", formats.library(["460.32.03"]))
    m.library("nvidia-ptxjitcompiler", "465.19.01", content=b"", cached=False, links=False)
    m.venv(torch="2.1.2+cu118", cuda="11.8", python="3.10").wants(4).expect("refused")
    return m.finds("NVL030", "error", says=["libcuda.so.465.19.01", "460.32.03"])


@host
def stale_cache():
    m = Machine("stale-linker-cache", "the driver was changed, ldconfig was not run")
    m.ubuntu("22.04").driver("460.32.03", "proprietary").gpus(4, "Tesla V100-PCIE-16GB")
    m.libraries("460.32.03", "/opt/nvidia/lib", cached=False).module("460.32.03")
    m.lines("etc/ld.so.conf.d/nvidia.conf", "/opt/nvidia/lib")
    for stem in ("cuda", "nvidia-ml", "nvidia-fatbinaryloader"):
        m.cache.append((f"lib{stem}.so.1", f"/opt/nvidia-465/lib/lib{stem}.so.1", "x86_64"))
    m.venv(torch="2.1.2+cu118", cuda="11.8", python="3.10").wants(4).expect("refused")
    return m.finds("NVL031", "error", says=["ldconfig", "/opt/nvidia-465/lib"])


@host
def stale_cache_harmless():
    m = Machine(
        "stale-linker-cache-of-a-helper",
        "the cache names a library that is gone; those that the ranks need are found",
    )
    m.ubuntu("22.04").driver("460.32.03", "proprietary").gpus(4, "Tesla V100-PCIE-16GB")
    m.libraries("460.32.03").module("460.32.03")
    stem = "nvidia-fatbinaryloader"
    m.cache.append((f"lib{stem}.so.465.19.01", f"{LIBS}/lib{stem}.so.465.19.01", "x86_64"))
    m.venv(torch="2.1.2+cu118", cuda="11.8", python="3.10").wants(4).expect("degraded")
    m.finds("NVL031", "warning", says=["ldconfig", "libnvidia-fatbinaryloader.so.465.19.01"])
    return nvml.works(m, 4, "Tesla V100-PCIE-16GB")


@host
def dangling():
    m = Machine(
        "libcuda-link-to-nothing", "the link libcuda.so.1 still names a version that is gone"
    )
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    m.link(f"{LIBS}/libcuda.so.1", "libcuda.so.575.57.08")
    m.venv().wants(2).expect("refused")
    return m.finds("NVL031", "error", says=["libcuda.so.575.57.08", "ldconfig"])


@host
def truncated():
    m = Machine(
        "libnvidia-ml-cut-off", "the disk was full: libnvidia-ml was cut off while it was written"
    )
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    path = f"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{NEW}"
    m.file(path, m.files[path][:100]).venv().wants(2).expect("refused")
    return m.finds("NVL035", "error", says=[f"libnvidia-ml.so.{NEW}"])


@host
def no_utility():
    m = Machine(
        "container-without-utility-capability",
        "NVIDIA_DRIVER_CAPABILITIES=compute leaves libnvidia-ml outside, and NCCL needs it",
    )
    m.ubuntu("22.04").driver(NEW, persistenced=False).gpus(2, "NVIDIA H100 80GB HBM3")
    m.container(
        mounted=[f"{LIBS}/libcuda.so.{NEW}"],
        NVIDIA_VISIBLE_DEVICES="all",
        NVIDIA_DRIVER_CAPABILITIES="compute",
    )
    m.library("cuda", NEW).venv().wants(2).expect("refused")
    return m.finds("NVL036", "error", says=["NVIDIA_DRIVER_CAPABILITIES", "utility"])


@host
def not_loaded():
    m = Machine("driver-not-loaded", "everything is installed, nobody loaded the module")
    m.ubuntu("22.04").gpus(2, "NVIDIA RTX A6000", driver=None).libraries(NEW).module(NEW).dkms(NEW)
    m.driver_packages(NEW, JAMMY).venv().wants(2).expect("refused")
    return m.finds("NVL020", "error", says=["modprobe"])


@host
def dkms_not_built():
    m = Machine(
        "dkms-not-built-for-kernel", "a new kernel was booted, and DKMS failed to build for it"
    )
    m.ubuntu("22.04", kernel="6.8.0-87-generic").gpus(2, "NVIDIA RTX A6000", driver=None)
    m.libraries(NEW).module(NEW, kernel="6.8.0-79-generic").dkms(NEW, "6.8.0-79-generic")
    m.other_kernel("6.8.0-87-generic").driver_packages(NEW, JAMMY)
    m.dkms(
        NEW,
        state="failed",
        log=[
            "Makefile: Kernel headers for 6.8.0-87-generic are not installed",
            "make: *** [Makefile:10: modules] Error 1",
        ],
    )
    m.venv().wants(2).expect("refused")
    return m.finds(
        "NVL021",
        "error",
        says=["6.8.0-87-generic", "linux-headers-6.8.0-87-generic", "Error 1", "dkms"],
    )


@host
def secure_boot():
    m = Machine("secure-boot-unsigned-module", "Secure Boot refuses a module that nobody signed")
    m.ubuntu("22.04").secure_boot().gpus(2, "NVIDIA RTX A6000", driver=None).libraries(NEW)
    m.module(NEW, signed=False).dkms(NEW).driver_packages(NEW, JAMMY).venv().wants(2)
    return m.expect("refused").finds("NVL022", "error", says=["Secure Boot", "nvidia.ko"])


@host
def nouveau():
    m = Machine("nouveau-bound", "nouveau took the GPUs before NVIDIA's driver")
    m.ubuntu("22.04").loaded("nouveau", 2).gpus(2, "NVIDIA RTX A6000", driver="nouveau")
    m.libraries(NEW).module(NEW).dkms(NEW).driver_packages(NEW, JAMMY).venv().wants(2)
    return m.expect("refused").finds("NVL023", "error", says=["nouveau", "blacklist"])


@host
def mixed():
    m = Machine("mixed-installers", "the .run installer over Ubuntu's packages")
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").module(NEW, "run")
    m.libraries(NEW).libraries("570.172.08", "/usr/lib/x86_64-linux-gnu/nvidia", cached=False)
    m.driver_packages("570.172.08", JAMMY)
    m.file("usr/bin/nvidia-uninstall").lines("var/lib/nvidia/log", NEW)
    m.lines(
        "var/log/nvidia-installer.log",
        "nvidia-installer log file '/var/log/nvidia-installer.log'",
        "creation time: Fri Oct  3 10:11:12 2025",
        f"installer version: {NEW}",
    )
    m.venv().wants(2).expect("degraded").finds("NVL025", "warning", says=[NEW, "570.172.08"])
    return nvml.works(m, 2, "NVIDIA RTX A6000")


@host
def flavour():
    m = Machine(
        "open-module-on-disk-for-v100",
        "the upgrade brought the open module, which does not drive a V100",
    )
    m.ubuntu("22.04").driver("570.133.07", "proprietary").gpus(2, "Tesla V100-PCIE-16GB")
    m.libraries("570.172.08").module("570.172.08", flavour="open").dkms("570.172.08")
    for stem in ("nvidia-driver-570-open", "nvidia-dkms-570-open", "libnvidia-compute-570"):
        m.package(stem, "570.172.08" + JAMMY)
    m.venv().wants(2).expect("refused")
    newer(m, "570.133.07", "570.172.08")
    m.finds(
        "NVL010",
        "note",
        of="NVL001",
        says=["open", "V100", "apt-get install nvidia-driver-570 nvidia-dkms-570"],
    )
    return m


@host
def reboot_pending():
    m = a6000(
        "reboot-pending",
        "all of one version still; the next start takes another module",
        kernel=OLD,
        libs=OLD,
        disk=NEW,
    )
    m.reboot_required("nvidia-dkms-580").wants(3, depth="full").expect("ok")
    m.finds("NVL011", "note", says=[OLD, NEW])
    return nvml.works(m, 3, "NVIDIA RTX A6000")


@host
def armed_but_well():
    m = a6000("automatic-upgrades-armed", "healthy; that is not the night to speak of", kernel=NEW)
    m.automatic_upgrades().expect("ok")
    return nvml.works(m, 3, "NVIDIA RTX A6000")


@host
def container_void():
    m = Machine("container-without-gpu-runtime", "docker run without --gpus on a machine with GPUs")
    m.ubuntu("22.04").container(NVIDIA_VISIBLE_DEVICES="void", CUDA_VERSION="12.8.0")
    m.driver(NEW, nodes=False, persistenced=False).gpus(4, "NVIDIA H100 80GB HBM3", nodes=False)
    m.venv().wants(4).expect("refused")
    return m.finds("NVL033", "error", says=["NVIDIA_VISIBLE_DEVICES", "--gpus"])


@host
def cgroup_lost():
    m = Machine(
        "container-cgroup-lost", "systemctl daemon-reload took the devices from the container"
    )
    m.ubuntu("22.04").driver(NEW, persistenced=False).gpus(2, "NVIDIA H100 80GB HBM3").libraries(
        NEW
    )
    m.container(NVIDIA_VISIBLE_DEVICES="all", mounted=[f"{LIBS}/libnvidia-ml.so.{NEW}"])
    m.venv().wants(2).expect("refused").finds("NVL034", "error", says=["999", "container"])
    return m.nvml({"init": 999})


@host
def uvm_missing():
    m = Machine("uvm-node-missing", "/dev/nvidia-uvm was never made")
    m.ubuntu("22.04").driver(NEW, uvm=False).gpus(2, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    m.venv().wants(2).expect("refused")
    m.finds("NVL026", "error", says=["/dev/nvidia-uvm", "nvidia-modprobe"])
    return nvml.works(m, 2, "NVIDIA RTX A6000")


@host
def permission():
    m = Machine("device-nodes-forbidden", "the user is not in the group of the device nodes")
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    nodes = ["nvidia-uvm", "nvidia-uvm-tools", "nvidia0", "nvidia1", "nvidiactl"]
    nodes = [{"path": f"/dev/{name}", "is_usable": False} for name in nodes]
    m.patch({"nvidia": {"nodes": nodes}}).venv().wants(2).expect("refused")
    return m.finds("NVL027", "error", says=["/dev/nvidia0"])


@host
def toolkit():
    m = Machine("cuda-newer-than-driver", "PyTorch for CUDA 13 on driver 535")
    m.ubuntu("22.04").driver("535.261.03", "proprietary").gpus(2, "NVIDIA A100-SXM4-80GB")
    m.libraries("535.261.03").module("535.261.03")
    m.venv(torch="2.9.1+cu130", cuda="13.0").wants(2).expect("refused")
    m.finds("NVL060", "error", says=["13.0", "535.261.03", "580"])
    return nvml.works(m, 2, "NVIDIA A100-SXM4-80GB")


@host
def minor():
    m = Machine(
        "cuda-minor-newer-than-driver",
        "PyTorch for CUDA 12.9 on a driver for 12.8, with a package that compiles kernels",
    )
    m.ubuntu("22.04").driver("570.172.08").gpus(2, "NVIDIA A100-SXM4-80GB").libraries("570.172.08")
    m.module("570.172.08").venv(torch="2.8.0+cu129", cuda="12.9", flash_attn="2.8.3").wants(2)
    m.expect("ok").finds("NVL061", "note", says=["12.9", "12.8"])
    return nvml.works(m, 2, "NVIDIA A100-SXM4-80GB")


@host
def cpu_torch():
    m = Machine("cpu-torch-on-gpu-host", "pip took the PyTorch without CUDA")
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").libraries(NEW).module(NEW)
    m.venv(torch="2.8.0+cpu", cuda=None).wants(2).expect("degraded", backend="gloo")
    return m.finds("NVL062", "warning", says=["2.8.0+cpu"])


@host
def pod_without_gpus():
    m = Machine("pod-without-gpu-limit", "a pod that asked for no GPU, on a node that has some")
    m.ubuntu("22.04", host="trainer-1").driver(NEW, nodes=False, persistenced=False)
    m.container("kubernetes", CUDA_VERSION="12.8.0").gpus(2, "NVIDIA L40S", nodes=False)
    m.venv().wants(2).expect("refused")
    return m.finds("NVL033", "error", says=["kubernetes", "nvidia.com/gpu"])


@host
def mixed_mismatch():
    m = Machine(
        "mixed-installers-mismatch", "the module of a .run file under Ubuntu's older libraries"
    )
    m.ubuntu("22.04").driver(NEW).gpus(2, "NVIDIA RTX A6000").module(NEW, "run")
    m.libraries("570.172.08").driver_packages("570.172.08", JAMMY)
    m.file("usr/bin/nvidia-uninstall")
    m.venv().wants(2).expect("refused")
    build = "dkms autoinstall -k"
    m.finds("NVL002", "error", says=[NEW, "570.172.08", build])
    m.finds("NVL025", "note", of="NVL002", says=["nvidia-uninstall", "libnvidia-compute-570"])
    m.finds("NVL010", "note", of="NVL002", says=[NEW, build])
    return nvml.mismatch(m)
