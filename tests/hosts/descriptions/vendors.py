"""Hosts with accelerators of other makers, and PyTorch that was built for another one."""

from . import nvml
from .machine import ASCEND, MTHREADS, Machine, host


def t20(name, story, count=2):
    return Machine(name, story).ubuntu("22.04", host="t20-01").t20(count).wants(count)


@host
def mmengine_gcu():
    story = "8 T20, PyTorch for CUDA, and MMEngine that asks for CUDA"
    m = t20("gcu-t20-mmengine-cuda-torch", story, 8)
    m.system_python("3.8", "2.1.2+cu118", "11.8", mmengine="0.10.5")
    m.expect("degraded", "gcu", "gloo")
    m.finds("NVL063", "warning", says=["torch-gcu", "2.1.2+cu118", "Enflame GCU: 8"])
    return m.finds("NVL090", "warning", says=["0.10.5", "set_device", "Enflame GCU"])


@host
def mmengine_torch_gcu():
    m = t20(
        "gcu-t20-mmengine-torch-gcu", "T20 with torch_gcu; MMEngine calls torch.cuda all the same"
    )
    m.system_python("3.8", "1.10.0", None, torch_gcu="1.10.0+2.5.136", mmengine="0.10.5")
    m.expect("degraded", "gcu", "eccl")
    return m.finds("NVL090", "warning", says=["0.10.5", "set_device"])


@host
def gcu_not_loaded():
    m = Machine("gcu-driver-not-loaded", "T20 on the bus, no driver")
    m.ubuntu("22.04").t20(2, loaded=False)
    m.system_python("3.8", "1.10.0", None, torch_gcu="1.10.0+2.5.136").wants(2)
    return m.expect("refused", "gcu", "gloo").finds("NVL081", "error", says=["enflame"])


@host
def gcu_gloo():
    m = t20("gcu-with-gloo", "gloo does not know tensors on a GCU")
    m.system_python("3.8", "1.10.0", None, torch_gcu="1.10.0+2.5.136").wants(2, backend="gloo")
    return m.expect("degraded", "gcu", "gloo").finds("NVL082", "warning", says=["eccl"])


@host
def gcu_nccl():
    m = t20("gcu-with-nccl", "nccl was asked for where there is no CUDA")
    m.system_python("3.8", "1.10.0", None, torch_gcu="1.10.0+2.5.136").wants(2, backend="nccl")
    return m.expect("refused", "gcu", "nccl").finds("NVL083", "error", says=["eccl"])


@host
def ascend():
    m = Machine("ascend-without-torch-npu", "Ascend 910B, PyTorch without torch_npu")
    m.ubuntu("22.04", host="atlas").file("dev/davinci_manager").file("dev/devmm_svm")
    for index in range(2):
        m.pci(f"0000:{0xC1 + index:02x}:00.0", ASCEND, 0xD802, 0x120000, "devdrv_device_driver")
        m.file(f"dev/davinci{index}")
    m.venv(torch="2.5.1+cpu", cuda=None, nccl=None).wants(2)
    return m.expect("degraded", "npu", "gloo").finds("NVL062", "warning", says=["torch-npu"])


def musa(nnodes, name, story):
    m = Machine(name, story).ubuntu("22.04", host="mt01").loaded("mtgpu", 1, version="2.7.0")
    for index in range(2):
        m.pci(f"0000:{0x11 + index:02x}:00.0", MTHREADS, 0x0327, 0x030200, "mtgpu")
        m.file(f"dev/mtgpu.{index}")
    m.venv(
        torch="2.5.0", cuda=None, nccl=None, python="3.10", torch_musa="2.0.1", mmengine="0.10.5"
    )
    return m.wants(2, nnodes=nnodes)


@host
def musa_two_nodes():
    m = musa(2, "mmengine-musa-two-nodes", "MMEngine uses the global rank as the index of a device")
    return m.expect("degraded", "musa", "mccl").finds("NVL091", "warning", says=["0.10.5"])


@host
def musa_one_node():
    m = musa(
        1, "mmengine-musa-one-node", "on one node global and local rank are the same: all well"
    )
    return m.expect("ok", "musa", "mccl")


@host
def mmengine_modulo():
    m = Machine("mmengine-0.7.0-on-cpu", "MMEngine divides by the number of GPUs, which is 0")
    m.ubuntu("22.04", host="cpu01").venv(python="3.10", mmengine="0.7.0").wants(2)
    return m.expect("degraded", "cpu", "gloo").finds("NVL092", "warning", says=["0.7.0"])


@host
def mmengine_cpu():
    m = Machine("mmengine-0.10.7-on-cpu", "MMEngine calls torch.cuda.set_device without any GPU")
    m.ubuntu("22.04", host="cpu01").venv(python="3.10", mmengine="0.10.7").wants(2)
    return m.expect("degraded", "cpu", "gloo").finds("NVL090", "warning", says=["0.10.7"])


@host
def nccl_on_cpu():
    m = Machine("nccl-on-cpu", "--backend nccl on a machine without GPUs")
    m.ubuntu("24.04", host="cpu01").venv(python="3.12").wants(2, backend="nccl")
    return m.expect("refused", "cpu", "nccl").finds("NVL063", "error", says=["nccl", "gloo"])


@host
def two_vendors():
    m = Machine(
        "two-vendors", "two NVIDIA GPUs beside two T20, and PyTorch for CUDA: CUDA is taken"
    )
    m.ubuntu("22.04").driver("580.95.05").gpus(2, "NVIDIA RTX A6000").libraries("580.95.05")
    m.module("580.95.05").t20(2, start=0xA1).venv().wants(2).expect("ok")
    m.finds("NVL084", "note", says=["Enflame GCU"])
    return nvml.works(m, 2, "NVIDIA RTX A6000")


@host
def gcu_visible():
    m = t20("gcu-with-cuda-visible-devices", "the variable that chooses is NVIDIA's")
    m.system_python("3.8", "1.10.0", None, torch_gcu="1.10.0+2.5.136")
    m.variables(CUDA_VISIBLE_DEVICES="0,1").expect("ok", "gcu", "eccl")
    return m.finds("NVL080", "note", says=["TOPS_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"])


@host
def two_vendors_unclear():
    m = Machine("two-vendors-unclear", "two NVIDIA GPUs beside two T20, and packages for both")
    m.ubuntu("22.04").driver("580.95.05").gpus(2, "NVIDIA RTX A6000").libraries("580.95.05")
    m.module("580.95.05").t20(2, start=0xA1).wants(2)
    m.venv(torch="2.5.1+cu121", cuda="12.1", python="3.10", torch_gcu="2.5.1+3.2.109")
    m.expect("refused", "cuda", "nccl").finds("NVL084", "error", says=["--backend"])
    return nvml.works(m, 2, "NVIDIA RTX A6000")


@host
def eccl_without_torch_gcu():
    m = t20("eccl-without-torch-gcu", "--backend eccl, and no package that brings it")
    m.system_python("3.8", "1.10.0+cpu", None).wants(2, backend="eccl")
    return m.expect("refused", "gcu", "eccl").finds("NVL085", "error", says=["torch-gcu"])


@host
def ascend_not_loaded():
    m = Machine("ascend-without-device-nodes", "Ascend on the bus, and no node of them")
    m.ubuntu("22.04", host="atlas")
    for index in range(2):
        m.pci(f"0000:{0xC1 + index:02x}:00.0", ASCEND, 0xD802, 0x120000)
    m.venv(torch="2.5.1", cuda=None, nccl=None, torch_npu="2.5.1").wants(2)
    return m.expect("refused", "npu", "hccl").finds("NVL086", "error", says=["davinci"])
