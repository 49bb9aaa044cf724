"""Hosts that are well, where the ranks' environment is not."""

from . import formats, nvml
from .machine import NCCL_NAMES, Machine, host

VERSION = "580.95.05"


def box(name, story, count=2, torch="2.8.0+cu128", cuda="12.8", **env):
    m = Machine(name, story).ubuntu("22.04", host="node07").driver(VERSION)
    m.gpus(count, "NVIDIA RTX A6000").libraries(VERSION).module(VERSION)
    m.venv(torch=torch, cuda=cuda).wants(count).variables(**env)
    return nvml.works(m, count, "NVIDIA RTX A6000")


@host
def typo():
    m = box("nccl-variable-typo", "a typing error in a variable of NCCL", NCCL_IB_TIMEOUTS="22")
    return m.expect("degraded").finds(
        "NVL007", "warning", says=["NCCL_IB_TIMEOUTS", "NCCL_IB_TIMEOUT"]
    )


@host
def nvml_disable():
    m = box(
        "nccl-nvml-disable-alone",
        "a variable that no NCCL reads, on a healthy machine",
        NCCL_NVML_DISABLE="1",
    )
    return m.expect("ok").finds("NVL006", "note", says=["NCCL_NVML_DISABLE"])


@host
def deprecated():
    m = box(
        "deprecated-nccl-names",
        "names that PyTorch gave up with 2.2",
        NCCL_ASYNC_ERROR_HANDLING="1",
        NCCL_BLOCKING_WAIT="0",
    )
    m.expect("ok")
    return m.finds("NVL070", "note", says=["TORCH_NCCL_ASYNC_ERROR_HANDLING"])


@host
def debug_left_on():
    m = box(
        "debug-variables-left-on",
        "what was set to find an error is still set",
        CUDA_LAUNCH_BLOCKING="1",
        NCCL_P2P_DISABLE="1",
    )
    m.expect("degraded")
    return m.finds("NVL071", "warning", says=["CUDA_LAUNCH_BLOCKING", "NCCL_P2P_DISABLE"])


@host
def debug_in_file():
    m = box("nccl-conf-left-behind", "an old /etc/nccl.conf sets what nobody remembers")
    m.lines("etc/nccl.conf", "# for the test in May", "NCCL_SHM_DISABLE=1", "NCCL_DEBUG=WARN")
    return m.expect("degraded").finds(
        "NVL071", "warning", says=["take NCCL_SHM_DISABLE out of /etc/nccl.conf"], never=["unset"]
    )


@host
def no_interface():
    m = box(
        "socket-ifname-without-match",
        "NCCL_SOCKET_IFNAME of another machine",
        NCCL_SOCKET_IFNAME="ib0,bond",
    )
    m.wants(2, nnodes=2).expect("refused")
    return m.finds("NVL072", "error", says=["NCCL_SOCKET_IFNAME", "ib0", "eno1"])


@host
def interfaces_that_match():
    m = box(
        "socket-ifname-that-matches",
        "prefixes and exclusions that leave an interface: all well",
        NCCL_SOCKET_IFNAME="^docker0,lo",
        GLOO_SOCKET_IFNAME="eno1",
    )
    return m.wants(2, nnodes=2).expect("ok")


@host
def small_shm():
    m = box("small-shared-memory", "a container with docker's 64 MiB of /dev/shm")
    m.container(NVIDIA_VISIBLE_DEVICES="all").patch({"resources": {"shm_bytes": 64 << 20}})
    return m.expect("degraded").finds("NVL073", "warning", says=["64", "--shm-size"])


@host
def memlock():
    m = box("memlock-low-with-infiniband", "InfiniBand, and 64 KiB of memory may be locked")
    m.infiniband(2).memlock(65536, 65536).wants(2, nnodes=2).expect("degraded")
    return m.finds("NVL074", "warning", says=["memlock", "mlx5_0"])


@host
def override():
    m = box(
        "nccl-overridden",
        "LD_LIBRARY_PATH puts an old NCCL before that of the wheel",
        LD_LIBRARY_PATH="/opt/nccl/lib",
    )
    m.nccl("/opt/nccl/lib", "2.18.3", NCCL_NAMES[:40])
    m.expect("degraded")
    return m.finds("NVL064", "warning", says=["/opt/nccl/lib", "2.18.3", "2.27.3"])


@host
def no_override():
    m = box(
        "nccl-on-ld-library-path-not-taken",
        "an old NCCL on LD_LIBRARY_PATH; the wheel names its own in DT_RPATH, which wins",
        LD_LIBRARY_PATH="/opt/nccl/lib",
    )
    m.nccl("/opt/nccl/lib", "2.18.3", NCCL_NAMES[:40])
    folder = "home/u/venv/lib/python3.11/site-packages/torch/lib"
    m.file(f"{folder}/libtorch_cuda.so", formats.library(["libtorch_cuda"], has_rpath=True))
    return m.expect("ok")


@host
def conflict():
    m = box(
        "variables-that-contradict",
        "blocking wait and asynchronous error handling at once",
        TORCH_NCCL_BLOCKING_WAIT="1",
        TORCH_NCCL_ASYNC_ERROR_HANDLING="1",
    )
    m.expect("degraded")
    return m.finds("NVL075", "warning", says=["TORCH_NCCL_BLOCKING_WAIT"])
