"""A machine in words: what is called here becomes files below its root, as they really are."""

import datetime
import json

from . import formats

# name: (PCI device id, class)
GPUS = {
    "NVIDIA RTX A6000": (0x2230, 0x030000),
    "NVIDIA GeForce RTX 4090": (0x2684, 0x030000),
    "NVIDIA GeForce RTX 3090": (0x2204, 0x030000),
    "Tesla V100-PCIE-16GB": (0x1DB4, 0x030200),
    "Tesla T4": (0x1EB8, 0x030200),
    "NVIDIA A100-SXM4-80GB": (0x20B2, 0x030200),
    "NVIDIA H100 80GB HBM3": (0x2330, 0x030200),
    "NVIDIA H200": (0x2335, 0x030200),
    "NVIDIA GH200 480GB": (0x2342, 0x030200),
    "NVIDIA L40S": (0x26B9, 0x030200),
}
NVIDIA, AMD, ENFLAME, ASCEND, MTHREADS = 0x10DE, 0x1002, 0x1E36, 0x19E5, 0x1ED5

# Kernel branches that a libcuda of this branch works with, as its own note says.
COMPATIBLE = {
    570: ("12.8", [535, 545, 550, 555, 560, 565, 570]),
    580: ("13.0", [535, 550, 565, 570, 575, 580]),
    595: ("13.2", [535, 570, 580, 590, 595]),
}

# Some of the names in libnccl's read-only data.
NCCL_NAMES = [
    "ALGO", "BUFFSIZE", "CHECKS_DISABLE", "COLLNET_ENABLE", "COMM_BLOCKING", "CONF_FILE",
    "CROSS_NIC", "CUMEM_ENABLE", "CUMEM_HOST_ENABLE", "DEBUG", "DEBUG_FILE", "DEBUG_SUBSYS",
    "GRAPH_DUMP_FILE", "HOSTID", "IB_AR_THRESHOLD", "IB_DISABLE", "IB_GID_INDEX", "IB_HCA",
    "IB_PCI_RELAXED_ORDERING", "IB_QPS_PER_CONNECTION", "IB_RETRY_CNT", "IB_SL", "IB_TC",
    "IB_TIMEOUT", "IGNORE_CPU_AFFINITY", "IGNORE_DISABLED_P2P", "LAUNCH_MODE", "LOCAL_REGISTER",
    "MAX_CTAS", "MAX_NCHANNELS", "MIN_CTAS", "MIN_NCHANNELS", "MNNVL_ENABLE", "NET",
    "NET_GDR_LEVEL", "NET_GDR_READ", "NET_PLUGIN", "NET_SHARED_BUFFERS", "NSOCKS_PERTHREAD",
    "NTHREADS", "NVLS_ENABLE", "OOB_NET_ENABLE", "P2P_DISABLE", "P2P_LEVEL", "PROTO",
    "PXN_DISABLE", "RAS_ENABLE", "SET_THREAD_NAME", "SHM_DISABLE", "SOCKET_FAMILY",
    "SOCKET_IFNAME", "SOCKET_NTHREADS", "TOPO_DUMP_FILE", "TOPO_FILE", "TUNER_PLUGIN",
    "WORK_FIFO_BYTES",
]  # fmt: skip

# A Python list of the drivers that torch's wheels bring: torch version to NCCL.
WHEEL_NCCL = {"2.1.2": "2.18.1", "2.5.1": "2.21.5", "2.8.0": "2.27.3", "2.9.1": "2.27.5"}


HOSTS = []


def host(make):
    """Add what a function makes to the corpus."""
    HOSTS.append(make)
    return make


class Machine:
    """One machine of the corpus."""

    def __init__(self, name, story, arch="x86_64"):
        self.name, self.story, self.arch = name, story, arch
        self.files, self.cache, self.dep, self.modules, self.status = {}, [], [], [], []
        self.history, self.dpkg_log, self.kernel_log = [], [], []
        self.distribution, self.kernel, self.driver_version = None, "", None
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"}
        self.interpreter, self.intent, self.depth = None, {"nnodes": 1}, "launch"
        self.nvml_script, self.patch_of_facts, self.addresses = None, None, []
        self.expected = {"verdict": "ok", "vendor": "cpu", "backend": "gloo", "findings": []}

    # -- files ---------------------------------------------------------------------------------

    def file(self, path, content=""):
        self.files[path.lstrip("/")] = content.encode() if isinstance(content, str) else content
        return self

    def lines(self, path, *lines):
        return self.file(path, "".join(line + "\n" for line in lines))

    def link(self, path, target):
        self.files[path.lstrip("/")] = ("link", target)
        return self

    # -- what is asked of it, and what must be said ----------------------------------------------

    def wants(self, nproc=None, nnodes=1, backend=None, depth="launch"):
        self.intent = {"nproc": nproc, "nnodes": nnodes, "backend": backend}
        self.depth = depth
        return self

    def variables(self, **env):
        self.env.update(env)
        return self

    def nvml(self, script):
        """Script what the fake NVML answers (its form: the header of examples/fake_nvml.rs)."""
        self.nvml_script = script
        return self

    def patch(self, facts):
        """Lay facts over those that are read: what no file below another root can tell."""
        self.patch_of_facts = facts
        return self

    def expect(self, verdict, vendor="cuda", backend="nccl"):
        self.expected.update(verdict=verdict, vendor=vendor, backend=backend)
        return self

    def finds(self, code, severity, of=None, says=(), never=()):
        """Expect a finding; `says` must stand in its summary, evidence or remedies, `never` not."""
        finding = {"code": code, "severity": severity, "consequence_of": of}
        if says:
            finding["says"] = list(says)
        if never:
            finding["never"] = list(never)
        self.expected["findings"].append(finding)
        return self

    # -- the system ----------------------------------------------------------------------------

    def system(self, identity, kernel, boot, host):
        """Make what every Linux has."""
        self.kernel = kernel
        seconds = int(
            datetime.datetime.fromisoformat(boot).replace(tzinfo=datetime.timezone.utc).timestamp()
        )
        self.lines("etc/os-release", *[f'{key}="{value}"' for key, value in identity])
        self.lines("proc/sys/kernel/hostname", host)
        self.lines("proc/sys/kernel/osrelease", kernel)
        self.lines("proc/sys/kernel/arch", self.arch)
        self.lines(
            "proc/version",
            f"Linux version {kernel} (buildd@lcy02) (gcc 13.3.0, GNU ld 2.42) #1 SMP",
        )
        self.lines("proc/stat", "cpu  3 0 4 99 0 0 0 0 0 0", f"btime {seconds}", "processes 4242")
        self.lines("proc/self/status", "Name:\tnvlaunch", "Cpus_allowed_list:\t0-63")
        self.link("lib", "usr/lib")
        self.link("var/run", "/run")
        self.interface("lo", "unknown")
        self.interface("eno1", "up", 10000)
        return self

    def ubuntu(self, version="22.04", kernel=None, boot="2025-09-14 08:00:00", host="gpu01"):
        kernel = kernel or {"22.04": "6.8.0-79-generic", "24.04": "6.14.0-29-generic"}[version]
        self.distribution = "ubuntu"
        identity = [
            ("PRETTY_NAME", f"Ubuntu {version} LTS"),
            ("NAME", "Ubuntu"),
            ("VERSION_ID", version),
            ("ID", "ubuntu"),
            ("ID_LIKE", "debian"),
        ]
        self.system(identity, kernel, boot, host)
        self.file("usr/bin/apt-get")
        return self

    def rhel(
        self, version="9.4", kernel="5.14.0-427.13.1.el9_4.x86_64", boot="2025-09-14 08:00:00"
    ):
        self.distribution = "rhel"
        identity = [
            ("NAME", "Red Hat Enterprise Linux"),
            ("VERSION_ID", version),
            ("ID", "rhel"),
            ("ID_LIKE", "fedora"),
        ]
        self.system(identity, kernel, boot, "gpu01.example.com")
        self.file("usr/bin/dnf")
        return self

    def interface(self, name, state, speed=None):
        base = f"sys/class/net/{name}"
        self.lines(f"{base}/operstate", state)
        self.lines(f"{base}/type", "772" if name == "lo" else "1")
        if speed:
            self.lines(f"{base}/speed", str(speed))
        return self

    def infiniband(self, count=1, state="4: ACTIVE"):
        for index in range(count):
            base = f"sys/class/infiniband/mlx5_{index}/ports/1"
            self.lines(f"{base}/state", state)
            self.lines(f"{base}/phys_state", "5: LinkUp")
            self.lines(f"{base}/link_layer", "InfiniBand")
            self.lines(f"{base}/rate", "400 Gb/sec (4X NDR)")
        return self

    def memlock(self, soft, hard):
        return self.lines(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     ",
            "Max open files            1048576              1048576              files     ",
            f"Max locked memory         {soft!s:<20} {hard!s:<20} bytes     ",
        )

    def secure_boot(self, is_on=True):
        guid = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
        self.file(
            f"sys/firmware/efi/efivars/SecureBoot-{guid}", formats.efi_variable(bytes([is_on]))
        )
        if is_on:
            self.lines("sys/kernel/security/lockdown", "none [integrity] confidentiality")
        return self

    def container(self, runtime="docker", mounted=(), **env):
        """Make it a container; `mounted` are the files that the runtime bound into it."""
        if runtime == "docker":
            self.file(".dockerenv")
        if runtime == "kubernetes":
            self.env["KUBERNETES_SERVICE_HOST"] = "10.96.0.1"
            self.lines("proc/1/cgroup", "0::/kubepods.slice/kubepods-pod5e1.slice/cri-7f")
        else:
            self.lines("proc/1/cgroup", "0::/")
        rows = ["812 540 0:61 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/l/A"]
        rows.append("813 812 0:64 / /proc rw,nosuid - proc proc rw")
        for index, path in enumerate(mounted):
            rows.append(
                f"{830 + index} 812 259:2 {path} {path} ro,nosuid,nodev - ext4 /dev/root rw"
            )
        self.lines("proc/self/mountinfo", *rows)
        self.variables(**env)
        return self

    # -- devices -------------------------------------------------------------------------------

    def pci(self, address, vendor, device, of_class, driver=None, off_bus=False, width=None):
        bus = address.rsplit(":", 1)[0]
        folder = f"pci{bus}/{address}"
        self.link(f"sys/bus/pci/devices/{address}", f"../../../devices/{folder}")
        base = f"sys/devices/{folder}"
        self.lines(f"{base}/vendor", f"0x{vendor:04x}")
        self.lines(f"{base}/device", f"0x{device:04x}")
        self.lines(f"{base}/class", f"0x{of_class:06x}")
        self.file(f"{base}/config", formats.pci_config(vendor, device, of_class, off_bus))
        if width:
            self.lines(f"{base}/current_link_width", str(width[0]))
            self.lines(f"{base}/max_link_width", str(width[1]))
        if driver:
            self.link(f"{base}/driver", f"../../../../bus/pci/drivers/{driver}")
            self.file(f"sys/bus/pci/drivers/{driver}/unbind")
        return self

    def numa(self):
        """Two NUMA nodes of four CPUs without hyper-threads; half of the devices at each."""
        self.lines("proc/self/status", "Name:\tnvlaunch", "Cpus_allowed_list:\t0-7")
        self.lines("sys/devices/system/node/possible", "0-1")
        self.lines("sys/devices/system/cpu/smt/active", "0")
        for node, cpus in enumerate([range(4), range(4, 8)]):
            self.lines(f"sys/devices/system/node/node{node}/cpulist", f"{cpus[0]}-{cpus[-1]}")
            for cpu in cpus:
                topology = f"sys/devices/system/cpu/cpu{cpu}/topology"
                self.lines(f"{topology}/thread_siblings_list", str(cpu))
                self.lines(f"{topology}/physical_package_id", str(node))
        for index, address in enumerate(self.addresses):
            node = index * 2 // len(self.addresses)
            bus = address.rsplit(":", 1)[0]
            self.lines(f"sys/devices/pci{bus}/{address}/numa_node", str(node))
        return self

    def gpus(self, count, model, start=0x17, driver="nvidia", domain=0, listed=True, nodes=True):
        """Put NVIDIA GPUs on the bus, and in the lists of the driver where it is loaded."""
        device, of_class = GPUS[model]
        for index in range(count):
            address = f"{domain:04x}:{start + 0x11 * index:02x}:00.0"
            self.addresses.append(address)
            self.pci(address, NVIDIA, device, of_class, driver)
            if self.driver_version and listed:
                self.proc_gpu(address, model, index)
            if self.driver_version and nodes:
                self.file(f"dev/nvidia{index}")
        return self

    def proc_gpu(self, address, model, minor, uuid=None):
        uuid = uuid or f"GPU-5f1a2b3c-0000-4000-8000-{minor:012x}"
        return self.lines(
            f"proc/driver/nvidia/gpus/{address}/information",
            f"Model: \t\t {model}",
            f"IRQ:   \t\t {100 + minor}",
            f"GPU UUID: \t {uuid}",
            "Video BIOS: \t 94.02.5c.00.02",
            "Bus Type: \t PCIe",
            "DMA Size: \t 47 bits",
            "DMA Mask: \t 0x7fffffffffff",
            f"Bus Location: \t {address}",
            f"Device Minor: \t {minor}",
            "GPU Excluded:\t No",
        )

    def nvswitches(self, count=4, device=0x22A3):
        for index in range(count):
            self.pci(f"0000:{5 + index:02x}:00.0", NVIDIA, device, 0x068000, "nvidia-nvswitch")
            self.file(f"dev/nvidia-nvswitch{index}")
        return self.file("dev/nvidia-nvswitchctl")

    def process(self, pid, name, state="S"):
        name = name[:15]  # as the kernel cuts it
        self.lines(f"proc/{pid}/comm", name)
        return self.lines(
            f"proc/{pid}/stat", f"{pid} ({name}) {state} 1 {pid} {pid} 0 -1 4194560 0 0 0"
        )

    def fabric_manager(self, version, runs=True):
        if runs:
            self.process(2211, "nv-fabricmanager")
            self.lines("run/nvidia-fabricmanager/nv-fabricmanager.pid", "2211")
        branch = version.split(".")[0]
        self.package(f"nvidia-fabricmanager-{branch}", f"{version}-1")
        return self.file("usr/bin/nv-fabricmanager", formats.library([version], self.arch))

    def t20(self, count, start=0x31, loaded=True):
        """Put Enflame T20, with driver and libraries where it is loaded."""
        for index in range(count):
            driver = "enflame" if loaded else None
            self.pci(f"0000:{start + 2 * index:02x}:00.0", ENFLAME, 0x0022, 0x120000, driver)
            if loaded:
                self.file(f"dev/gcu{index}")
        if loaded:
            self.file("dev/gcuctl").loaded("enflame", count, version="1.0.20230110")
            self.file("usr/lib/libefml.so", formats.library(["libefml"]))
            self.file("usr/lib/libeccl.so", formats.library(["libeccl"]))
        return self

    # -- the driver in the kernel ----------------------------------------------------------------

    def loaded(self, name, uses=0, by=(), version=None):
        used_by = "".join(f"{user}," for user in by) or "-"
        self.modules.append(f"{name} 16384 {uses} {used_by} Live 0x0000000000000000 (OE)")
        base = f"sys/module/{name}"
        self.lines(f"{base}/initstate", "live")
        if uses:
            self.lines(f"{base}/refcnt", str(uses))
        for user in by if name == "nvidia" else ():
            self.link(f"{base}/holders/{user}", f"../../{user}")
        if version:
            self.lines(f"{base}/version", version)
        return self

    def driver(self, version, flavour="open", uvm=True, nodes=True, persistenced=True):
        """Load the driver: modules, its files in /proc, its control nodes."""
        self.driver_version = version
        users = ["nvidia_uvm", "nvidia_modeset"] if uvm else ["nvidia_modeset"]
        self.loaded("nvidia", 4, users, version)
        if uvm:
            self.loaded("nvidia_uvm")
        self.loaded("nvidia_modeset", 0, ["nvidia_drm"]).loaded("nvidia_drm")
        if flavour == "open":
            text = (
                f"NVRM version: NVIDIA UNIX Open Kernel Module for {self.arch}  {version}  "
                "Release Build  (dvs-builder@U22-I3-B17-1)  Thu Aug  7 16:25:43 UTC 2025"
            )
        else:
            text = (
                f"NVRM version: NVIDIA UNIX {self.arch} Kernel Module  {version}  "
                "Wed Aug  6 23:10:21 UTC 2025"
            )
        gcc = "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)"
        self.lines("proc/driver/nvidia/version", text, gcc)
        self.lines(
            "proc/driver/nvidia/params",
            "ResmanDebugLevel: 4294967295",
            "ModifyDeviceFiles: 1",
            "DeviceFileUID: 0",
            "DeviceFileGID: 0",
            "DeviceFileMode: 438",
            'RegistryDwords: ""',
        )
        if nodes:
            self.file("dev/nvidiactl")
            if uvm:
                self.file("dev/nvidia-uvm")
        if persistenced:
            self.file("run/nvidia-persistenced/socket")
        self.file("usr/bin/nvidia-modprobe", formats.library([version], self.arch))
        return self

    def xid(self, address, code, text, at="Nov  3 07:12:45", since_boot="98765.432101"):
        self.kernel_log.append(
            f"{at} gpu01 kernel: [{since_boot}] NVRM: Xid (PCI:{address[:-2]}): {code}, {text}"
        )
        return self

    # -- the driver on disk ------------------------------------------------------------------------

    def module(self, version, form="dkms.zst", kernel=None, signed=True, flavour="open", arch=None):
        """Put nvidia.ko for a kernel: `dkms.zst`, `dkms`, `prebuilt`, `extra.xz`, `run`."""
        kernel, arch = kernel or self.kernel, arch or self.arch
        place = {
            "dkms": "updates/dkms/nvidia.ko",
            "dkms.zst": "updates/dkms/nvidia.ko.zst",
            "prebuilt": f"kernel/nvidia-{version.split('.')[0]}/nvidia.ko",
            "extra.xz": "extra/nvidia.ko.xz",
            "run": "kernel/drivers/video/nvidia.ko",
        }[form]
        data = ko(version, kernel, flavour, signed, arch)
        data = {"zst": formats.zst, "xz": formats.xz}.get(place.rsplit(".", 1)[1], bytes)(data)
        self.file(f"usr/lib/modules/{kernel}/{place}", data)
        self.dep.append((kernel, f"{place}:"))
        return self

    def other_kernel(self, kernel):
        self.dep.append((kernel, "kernel/drivers/acpi/video.ko.zst:"))
        return self

    def dkms(self, version, kernel=None, state="installed", log=(), flavour="open"):
        """Put DKMS' tree: `added`, `failed` (with its make.log), `built`, `installed`."""
        kernel = kernel or self.kernel
        base = f"var/lib/dkms/nvidia/{version}"
        self.link(f"{base}/source", f"/usr/src/nvidia-{version}")
        self.lines(
            f"usr/src/nvidia-{version}/dkms.conf",
            'PACKAGE_NAME="nvidia"',
            f'PACKAGE_VERSION="{version}"',
            'AUTOINSTALL="yes"',
        )
        if state == "failed":
            self.lines(
                f"{base}/build/make.log",
                f"DKMS make.log for nvidia-{version} for kernel {kernel} ({self.arch})",
                "Fri Oct  3 06:52:10 CEST 2025",
                *log,
            )
        elif state in ("built", "installed"):
            data = formats.zst(ko(version, kernel, flavour, True, self.arch))
            self.file(f"{base}/{kernel}/{self.arch}/module/nvidia.ko.zst", data)
            self.lines(f"{base}/{kernel}/{self.arch}/log/make.log", "# command: make modules")
        if state == "installed":
            self.link(
                f"var/lib/dkms/nvidia/kernel-{kernel}-{self.arch}",
                f"{version}/{kernel}/{self.arch}",
            )
        return self

    def folder(self):
        """Name the folder of the distribution's libraries."""
        if self.distribution == "rhel":
            return "/usr/lib64"
        return f"/usr/lib/{self.arch}-linux-gnu"

    def library(self, stem, version, folder=None, cached=True, content=None, arch=None, links=True):
        """Put one library of the driver with its links: `cuda`, `nvidia-ml`, …"""
        folder, arch = folder or self.folder(), arch or self.arch
        name = f"lib{stem}.so"
        if content is None:
            note = None
            major = int(version.split(".")[0])
            if stem == "cuda" and major in COMPATIBLE:
                cuda, branches = COMPATIBLE[major]
                devices = [1, 2, 7, 8, 9, 10, 11, 12, 13, 14]
                note = {"format": 1, "CUDA version": cuda, "driver": branches, "device": devices}
            content = formats.library(
                [f"lib{stem}", version], "x86_64" if arch == "i386" else arch, note
            )
        self.file(f"{folder}/{name}.{version}", content)
        if links:
            self.link(f"{folder}/{name}.1", f"{name}.{version}")
        if cached:
            self.cache.append((f"{name}.1", f"{folder}/{name}.1", arch))
        return self

    def libraries(self, version, folder=None, cached=True):
        """Put the driver's libraries of one version."""
        for stem in ("cuda", "nvidia-ml", "nvidia-ptxjitcompiler"):
            self.library(stem, version, folder, cached)
        return self

    # -- packages ----------------------------------------------------------------------------------

    def package(self, name, version, held=False):
        if self.distribution == "rhel":
            return self
        status = "hold ok installed" if held else "install ok installed"
        self.status.append((name, version, status))
        return self

    def driver_packages(self, version, suffix="-0ubuntu0.22.04.1", held=False):
        branch = version.split(".")[0]
        for stem in ("nvidia-driver", "nvidia-dkms", "nvidia-kernel-common", "libnvidia-compute"):
            self.package(f"{stem}-{branch}", version + suffix, held)
        return self

    def upgrade(self, at, old, new, command="/usr/bin/unattended-upgrade", by=None, rotated=None):
        """Tell of an upgrade of the driver in apt's and dpkg's logs."""
        day, time = at.split(" ")
        branch = new.split(".")[0]
        names = ["libnvidia-compute", "nvidia-kernel-common", "nvidia-dkms", "nvidia-driver"]
        changes = ", ".join(f"{name}-{branch}:amd64 ({old}, {new})" for name in names)
        text = ["", f"Start-Date: {day}  {time}", f"Commandline: {command}"]
        if by:
            text.append(f"Requested-By: {by} (1000)")
        text += [f"Upgrade: {changes}", f"End-Date: {day}  {time[:-2]}59"]
        log = "\n".join(text) + "\n"
        if rotated:
            self.file(f"var/log/apt/history.log.{rotated}.gz", formats.gz(log.encode()))
            return self
        self.history.append(log)
        for name in names:
            self.dpkg_log.append(f"{at} upgrade {name}-{branch}:amd64 {old} {new}")
            self.dpkg_log.append(f"{at} status installed {name}-{branch}:amd64 {new}")
        return self

    def apt_noise(self):
        """Tell of changes that have nothing to do with any driver."""
        self.history.append(
            "\nStart-Date: 2025-09-02  06:11:02\nCommandline: /usr/bin/unattended-upgrade\n"
            "Upgrade: libcurl4:amd64 (7.81.0-1ubuntu1.20, 7.81.0-1ubuntu1.21)\n"
            "End-Date: 2025-09-02  06:11:05\n"
        )
        self.dpkg_log.append(
            "2025-09-02 06:11:04 upgrade libcurl4:amd64 7.81.0-1ubuntu1.20 7.81.0-1ubuntu1.21"
        )
        return self

    def automatic_upgrades(self, is_on=True):
        return self.lines(
            "etc/apt/apt.conf.d/20auto-upgrades",
            'APT::Periodic::Update-Package-Lists "1";',
            f'APT::Periodic::Unattended-Upgrade "{int(is_on)}";',
        )

    def reboot_required(self, *packages):
        self.lines("run/reboot-required", "*** System restart required ***")
        return self.lines("run/reboot-required.pkgs", *packages)

    # -- Python ------------------------------------------------------------------------------------

    def venv(
        self, torch="2.8.0+cu128", cuda="12.8", hip=None, nccl="wheel", python="3.11", **others
    ):
        """Put a virtual environment with torch; `others` are packages with their versions."""
        folder = "home/u/venv"
        self.interpreter = f"/{folder}/bin/python3"
        self.link(f"{folder}/bin/python3", f"python{python}")
        self.link(f"{folder}/bin/python{python}", f"/usr/bin/python{python}")
        self.file(f"usr/bin/python{python}", formats.library([python], self.arch))
        self.lines(
            f"{folder}/pyvenv.cfg",
            "home = /usr/bin",
            "include-system-site-packages = false",
            f"version = {python}.9",
        )
        self.site(f"{folder}/lib/python{python}/site-packages", torch, cuda, hip, nccl, others)
        return self

    def system_python(self, python="3.8", torch="1.10.0", cuda="10.2", **others):
        """Put packages for the system's own interpreter, where pip as root puts them."""
        self.interpreter = "/usr/bin/python3"
        self.link("usr/bin/python3", f"python{python}")
        self.file(f"usr/bin/python{python}", formats.library([python], self.arch))
        self.lines(f"usr/lib/python{python}/os.py", '"""OS routines."""')
        folder = f"usr/local/lib/python{python}/dist-packages"
        return self.site(folder, torch, cuda, None, None, others)

    def site(self, folder, torch, cuda, hip, nccl, others):
        packages = {name.replace("_", "-"): version for name, version in others.items()}
        if torch:
            packages["torch"] = torch
            is_new = int(torch.split(".")[0]) >= 2
            kind = ": Optional[str]" if is_new else ""
            self.lines(
                f"{folder}/torch/version.py",
                *(["from typing import Optional", ""] if is_new else []),
                "__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']",
                f"__version__ = {torch!r}",
                "debug = False",
                f"cuda{kind} = {cuda!r}",
                "git_version = '0123456789abcdef0123456789abcdef01234567'",
                f"hip{kind} = {hip!r}",
            )
        if nccl == "wheel":
            nccl = WHEEL_NCCL.get((torch or "").split("+")[0], "2.27.3") if cuda else None
        if nccl:
            packages[f"nvidia-nccl-cu{cuda.split('.')[0]}"] = nccl
            self.nccl(f"/{folder}/nvidia/nccl/lib", nccl)
        for name, version in packages.items():
            info = f"{folder}/{name.replace('-', '_')}-{version}.dist-info"
            self.lines(
                f"{info}/METADATA", "Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"
            )
        return self

    def nccl(self, folder, version, names=NCCL_NAMES):
        strings = [f"NCCL version {version}+cuda12.8", *[f"NCCL_{name}" for name in names]]
        return self.file(f"{folder}/libnccl.so.2", formats.library(strings, self.arch))

    # -- the end -----------------------------------------------------------------------------------

    def finish(self):
        """Write what was gathered over the description, and give back every file of the host."""
        if self.modules:
            self.lines("proc/modules", *self.modules)
        if self.cache:
            common = [("libc.so.6", f"{self.folder()}/libc.so.6", self.arch)]
            self.file("etc/ld.so.cache", formats.linker_cache(self.cache + common))
            self.file(f"{self.folder()}/libc.so.6", formats.library(["GNU C Library"], self.arch))
        for kernel in {kernel for kernel, _ in self.dep}:
            rows = ["kernel/drivers/acpi/video.ko.zst:"]
            rows += [row for of, row in self.dep if of == kernel and row not in rows]
            self.lines(f"usr/lib/modules/{kernel}/modules.dep", *rows)
        if self.status:
            text = "".join(
                f"Package: {name}\nStatus: {status}\nPriority: optional\nSection: libs\n"
                f"Architecture: amd64\nVersion: {version}\nDescription: part of {name}\n\n"
                for name, version, status in [
                    ("bash", "5.1-6", "install ok installed"),
                    *self.status,
                ]
            )
            self.file("var/lib/dpkg/status", text)
        if self.history:
            self.file("var/log/apt/history.log", "".join(self.history))
        if self.dpkg_log:
            self.lines("var/log/dpkg.log", *self.dpkg_log)
        if self.kernel_log:
            self.lines("var/log/kern.log", *self.kernel_log)
        host = {
            "story": self.story,
            "env": self.env,
            "interpreter": self.interpreter,
            "intent": self.intent,
            "depth": self.depth,
        }
        if self.patch_of_facts:
            host["facts"] = self.patch_of_facts
        out = {f"root/{path}": content for path, content in self.files.items()}
        out["host.json"] = pretty(host)
        out["expected.json"] = pretty(self.expected)
        if self.nvml_script is not None:
            out["nvml.json"] = pretty(self.nvml_script)
        return out


def ko(version, kernel, flavour, signed, arch):
    """Make the content of nvidia.ko."""
    licence = "Dual MIT/GPL" if flavour == "open" else "NVIDIA"
    fields = [
        ("firmware", f"nvidia/{version}/gsp_ga10x.bin"),
        ("version", version),
        ("supported", "external"),
        ("license", licence),
        ("srcversion", "5AE5DF4A1D3C6B2E1F0A9B8"),
        ("depends", ""),
        ("name", "nvidia"),
        ("vermagic", f"{kernel} SMP preempt mod_unload modversions "),
    ]
    return formats.kernel_module(fields, arch, signed)


def pretty(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
