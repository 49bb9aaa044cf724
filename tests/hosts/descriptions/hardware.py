"""Hosts whose GPUs are sick, or where NVML says so."""

from . import nvml
from .machine import Machine, host

VERSION = "580.95.05"


def box(name, story, count=2, model="NVIDIA H100 80GB HBM3", version=VERSION, flavour="open"):
    m = Machine(name, story).ubuntu("22.04", host="node03").driver(version, flavour)
    m.gpus(count, model).libraries(version).module(version)
    return m.venv().wants(count)


def v100(name, story):
    """The machine of the field report: 4 V100 without persistence mode."""
    m = (
        Machine(name, story)
        .ubuntu("22.04", host="hpc")
        .driver("460.32.03", "proprietary", persistenced=False)
    )
    m.gpus(4, "Tesla V100-PCIE-16GB").libraries("460.32.03").module("460.32.03")
    return m.venv(torch="2.1.2+cu118", cuda="11.8", python="3.10").wants(4)


@host
def hang():
    m = v100("nvml-hangs-v100", "after hours without persistence mode nvidia-smi hangs")
    m.expect("refused").finds("NVL042", "error", says=["nvmlInit"])
    return nvml.hangs(m)


@host
def gpus_lost():
    m = v100("gpus-on-bus-not-in-nvml", "lspci shows four GPUs, NVML none: No devices were found")
    m.expect("refused").finds("NVL040", "error", says=["4", "0"])
    return nvml.works(m, 0, "Tesla V100-PCIE-16GB")


@host
def gpus_lost_to_any_job():
    m = v100("gpus-on-bus-none-in-nvml", "the same, asked without a number of ranks")
    m.wants().expect("refused").finds("NVL040", "error", says=["0 of 4"])
    return nvml.works(m, 0, "Tesla V100-PCIE-16GB")


@host
def hang_at_one():
    m = v100("nvml-hangs-at-one-gpu", "one rank, and the driver does not come back from a GPU")
    m.wants(1).expect("refused").finds("NVL042", "error", says=["nvmlDeviceGetHandleByIndex"])
    nvml.works(m, 4, "Tesla V100-PCIE-16GB")
    m.nvml_script["hang"] = ["nvmlDeviceGetHandleByIndex_v2(1)"]
    return m


@host
def persistence():
    m = v100("persistence-off-v100", "persistence mode is off, each first use waits for seconds")
    m.expect("degraded").finds("NVL049", "warning", says=["nvidia-smi -pm 1"])
    nvml.works(m, 4, "Tesla V100-PCIE-16GB", persistence=False)
    m.nvml_script["slow"] = {"nvmlDeviceGetHandleByIndex_v2(0)": 1100}
    return m


@host
def persistence_fast():
    m = v100(
        "persistence-off-but-held-open", "persistence mode is off; something keeps the GPUs up"
    )
    m.expect("ok").finds("NVL049", "note", says=["nvidia-smi -pm 1"])
    return nvml.works(m, 4, "Tesla V100-PCIE-16GB", persistence=False)


@host
def too_few():
    m = box("more-ranks-than-gpus", "eight ranks on two GPUs")
    m.wants(8).expect("degraded").finds("NVL057", "warning", says=["8 ranks", "2 GPUs"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")


@host
def too_few_for_nccl():
    m = box("more-ranks-than-visible-gpus", "two ranks with nccl, and one GPU that they may see")
    m.variables(CUDA_VISIBLE_DEVICES="1").wants(2, backend="nccl").expect("refused")
    m.finds("NVL057", "error", says=["CUDA_VISIBLE_DEVICES", "--nproc gpu"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")


@host
def off_bus():
    m = box("gpu-off-the-bus", "one GPU fell off the bus (Xid 79)")
    address = "0000:28:00.0"
    m.pci(address, 0x10DE, 0x2330, 0x030200, "nvidia", off_bus=True)
    m.xid(address, 79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
    m.expect("refused").finds("NVL041", "error", says=[address, "79"])
    return nvml.works(
        m,
        2,
        "NVIDIA H100 80GB HBM3",
        per_gpu={1: {"errors": {"nvmlDeviceGetHandleByIndex_v2": 15}}},
    )


@host
def recovery():
    m = box("gpu-needs-reset", "the driver itself asks for a reset of one GPU")
    m.expect("refused").finds("NVL043", "error", says=["reset"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3", per_gpu={1: {"recovery_action": 1}})


@host
def xid():
    m = box("fatal-xid-since-boot", "an uncontained memory error in the kernel's log (Xid 95)")
    m.xid("0000:28:00.0", 48, "pid=4711, name=python3, DBE (double bit error) on GPU")
    m.expect("degraded").finds("NVL044", "warning", says=["48", "0000:28:00"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")


@host
def xid_of_a_program():
    m = box(
        "xid-13-of-a-program", "an error of somebody's kernel, long ago: nothing of the machine"
    )
    m.xid("0000:28:00.0", 13, "pid=4711, name=python3, Graphics SM Warp Exception")
    m.expect("ok")
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")


@host
def remap_failed():
    m = box("row-remap-failed", "a row of memory could not be remapped")
    m.expect("refused").finds("NVL045", "error", says=["remap"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3", per_gpu={1: {"remap_failed": True}})


@host
def remap_pending():
    m = box("row-remap-pending", "a row of memory waits for a reset to be remapped")
    m.expect("degraded").finds("NVL045", "warning", says=["remap"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3", per_gpu={1: {"remap_pending": True}})


@host
def ecc():
    m = box("ecc-uncorrected", "uncorrectable memory errors since the driver was loaded")
    m.expect("degraded").finds("NVL046", "warning", says=["3"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3", per_gpu={1: {"ecc_uncorrected": 3}})


@host
def throttle():
    m = box("thermal-throttle", "one GPU slows down for heat")
    m.wants(2, depth="full").expect("degraded").finds("NVL047", "warning", says=["91"])
    change = {1: {"throttle_reasons": 0x48, "temperature": 91}}
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3", per_gpu=change)


@host
def narrow():
    m = box("pcie-link-narrow", "one GPU got 4 lanes of 16")
    m.pci("0000:28:00.0", 0x10DE, 0x2330, 0x030200, "nvidia", width=(4, 16))
    m.expect("degraded").finds("NVL048", "warning", says=["0000:28:00.0", "4", "16"])
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")


@host
def fabric_missing():
    m = box("fabric-manager-missing", "NVSwitch without its fabric manager", model="NVIDIA H200")
    m.nvswitches(2).expect("refused").finds("NVL050", "error", says=["nvidia-fabricmanager"])
    return nvml.works(m, 2, "NVIDIA H200")


@host
def fabric_other():
    m = box(
        "fabric-manager-other-version",
        "the fabric manager is of another version",
        model="NVIDIA H200",
    )
    m.nvswitches(2).fabric_manager("580.82.07").expect("refused")
    m.finds("NVL051", "error", says=["580.82.07", VERSION])
    return nvml.works(m, 2, "NVIDIA H200")


@host
def busy():
    m = box("exclusive-mode-busy", "exclusive mode, and another process holds a GPU")
    m.wants(2, depth="full").expect("refused").finds("NVL052", "error", says=["4711"])
    change = {0: {"processes": [4711], "memory_used": 42 << 30}}
    return nvml.works(
        m, 2, "NVIDIA H100 80GB HBM3", per_gpu=change, compute_mode="exclusive_process"
    )


@host
def mig():
    m = box("mig-enabled", "MIG is on", model="NVIDIA A100-SXM4-80GB")
    m.expect("degraded").finds("NVL053", "warning", says=["MIG"])
    return nvml.works(m, 2, "NVIDIA A100-SXM4-80GB", mig=True)


@host
def vfio():
    m = box("vfio-bound", "one GPU is set aside for a virtual machine", model="NVIDIA RTX A6000")
    m.wants(3).pci("0000:6a:00.0", 0x10DE, 0x2230, 0x030000, "vfio-pci").loaded("vfio_pci", 1)
    m.expect("degraded").finds("NVL024", "warning", says=["0000:6a:00.0"])
    return nvml.works(m, 2, "NVIDIA RTX A6000")


@host
def vfio_beside():
    m = box("vfio-beside-enough", "a virtual machine has one GPU, and the job asks for the others")
    m.pci("0000:6a:00.0", 0x10DE, 0x2330, 0x030200, "vfio-pci").expect("ok")
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")


@host
def crash():
    m = box("nvml-crashes", "the process that asks NVML dies of a signal")
    m.expect("refused").finds("NVL054", "error")
    return nvml.crashes(m)


@host
def nvml_fails():
    m = box("nvml-unknown-error", "NVML ends with Unknown Error, and nothing says why")
    m.expect("refused").finds("NVL055", "error", says=["999"])
    return m.nvml({"init": 999})


@host
def cuda_fails():
    m = box("cuda-init-fails", "NVML works, and cuInit fails: MPS is broken")
    m.wants(2, depth="full").expect("refused").finds("NVL056", "error", says=["805"])
    cuda = {
        "init": {"code": 805, "text": "CUDA_ERROR_MPS_CONNECTION_FAILED"},
        "driver_version": 13000,
    }
    m.patch({"nvidia": {"cuda": {"state": "answered", "detail": cuda}}})
    return nvml.works(m, 2, "NVIDIA H100 80GB HBM3")
