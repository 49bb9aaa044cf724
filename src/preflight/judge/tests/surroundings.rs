//! One thing wrong at a time around the driver: Python, variables, network, other vendors.

#![expect(clippy::too_many_lines, reason = "tables")]

use super::cases::*;
use super::*;
use crate::host::facts::{ConfFile, HostFacts, NcclLibrary};
use crate::preflight::Intent;

pub(super) fn pythons() -> Vec<Case> {
    let cuda = |text: &str, kernel: &str| {
        let mut facts = gpu_host(2, A6000, kernel);
        facts.python.torch = Some(torch("2.11.0", Some(text)));
        facts
    };
    let cpu = || {
        let mut facts = gpu_host(2, A6000, NEW);
        facts.python.torch = Some(torch("2.8.0+cpu", None));
        facts
    };
    let compiling = |mut facts: HostFacts| {
        facts.python.packages.insert("deepspeed".to_owned(), "0.17".to_owned());
        facts
    };
    let overridden = two(|f| {
        f.python.nccl =
            Some(NcclLibrary { is_override: true, wheel: Some("/venv/x".to_owned()), ..nccl(&[]) });
    });
    let mmengine = |mut facts: HostFacts, version: &str| {
        facts.python.packages.insert("mmengine".to_owned(), version.to_owned());
        facts
    };
    let nodes = |nnodes| Intent { nnodes, ..job(2) };
    vec![
        case("CUDA 13 on 570", cuda("13.0", "570.86.15"), job(2), &["NVL060 error"]),
        case("CUDA 12.8 on 535", cuda("12.8", "535.161.08"), job(2), &[]),
        case("CUDA 12.8 on 470", cuda("12.8", "470.256.02"), job(2), &["NVL060 error"]),
        case("kernels of its own", compiling(cuda("12.8", "535.161.08")), job(2), &["NVL061 note"]),
        case("torch for the CPU", cpu(), job(2), &["NVL062 warning"]),
        case("torch for the CPU, gloo", cpu(), job_with(2, "gloo"), &[]),
        case("torch for the CPU, nccl", cpu(), job_with(2, "nccl"), &["NVL085 error"]),
        case("another NCCL", overridden, job(2), &["NVL064 warning"]),
        case("mmengine on CUDA", mmengine(two(|_| {}), "0.10.7"), job(2), &[]),
        case("mmengine on the CPU", mmengine(cpu_host(), "0.10.7"), job(2), &["NVL090 warning"]),
        case(
            "mmengine on GCU",
            mmengine(vendor_host("gcu", 8), "0.10.4"),
            job(8),
            &["NVL090 warning"],
        ),
        case("old mmengine on the CPU", mmengine(cpu_host(), "0.7.0"), job(2), &["NVL092 warning"]),
        case("mmengine on NPU", mmengine(vendor_host("npu", 8), "0.10.7"), job(8), &[]),
        case("mmengine on MUSA", mmengine(vendor_host("musa", 8), "0.10.5"), nodes(1), &[]),
        case(
            "mmengine on MUSA, two nodes",
            mmengine(vendor_host("musa", 8), "0.10.5"),
            nodes(2),
            &["NVL091 warning"],
        ),
    ]
}

pub(super) fn environments() -> Vec<Case> {
    let names = ["NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_P2P_DISABLE"];
    let known = || two(|f| f.python.nccl = Some(nccl(&names)));
    let old = |version: &str| two(|f| f.python.torch = Some(torch(version, Some("12.1"))));
    let shm = |facts: &mut HostFacts| facts.resources.shm_bytes = Some(64 << 20);
    let locked = |mut facts: HostFacts| {
        facts.resources.memlock_soft = Some(64 << 10);
        facts
    };
    let two_nodes = || Intent { nnodes: 2, ..job(2) };
    let mut conf = known();
    conf.nccl_conf = vec![ConfFile {
        path: "/etc/nccl.conf".to_owned(),
        variables: [("NCCL_IB_HCAS".to_owned(), "mlx5".to_owned())].into(),
    }];
    let nvml_disable = |facts| with_var(facts, "NCCL_NVML_DISABLE", "1");
    vec![
        case("NVML_DISABLE", nvml_disable(known()), job(2), &["NVL006 note"]),
        case("NVML_DISABLE, not scanned", nvml_disable(two(|_| {})), job(2), &["NVL006 note"]),
        case(
            "NVML_DISABLE with a mismatch",
            nvml_disable({
                let mut facts = super::mismatch::field_report();
                facts.packages.history.clear();
                facts
            }),
            job(2),
            &["NVL001 error", "NVL006 note < NVL001"],
        ),
        case(
            "a fork that reads it",
            nvml_disable(two(|f| f.python.nccl = Some(nccl(&["NCCL_NVML_DISABLE"])))),
            job(2),
            &[],
        ),
        case("a slip", with_var(known(), "NCCL_IB_HCAA", "mlx5"), job(2), &["NVL007 warning"]),
        case("a slip in a file", conf, job(2), &["NVL007 warning"]),
        case("a plugin's", with_var(known(), "NCCL_OFI_PROTOCOL", "x"), job(2), &[]),
        case("a slip, gloo", with_var(known(), "NCCL_IB_HCAA", "x"), job_with(2, "gloo"), &[]),
        case(
            "an old name",
            with_var(two(|_| {}), "NCCL_ASYNC_ERROR_HANDLING", "1"),
            job(2),
            &["NVL070 note"],
        ),
        case(
            "a dead name",
            with_var(two(|_| {}), "ENABLE_NCCL_HEALTH_CHECK", "1"),
            job(2),
            &["NVL070 warning"],
        ),
        case(
            "a later name",
            with_var(old("2.1.2"), "TORCH_NCCL_BLOCKING_WAIT", "1"),
            job(2),
            &["NVL070 warning"],
        ),
        case("a name of its time", with_var(old("2.1.2"), "NCCL_BLOCKING_WAIT", "1"), job(2), &[]),
        case(
            "left on",
            with_var(two(|_| {}), "CUDA_LAUNCH_BLOCKING", "1"),
            job(2),
            &["NVL071 warning"],
        ),
        case("switched off", with_var(two(|_| {}), "CUDA_LAUNCH_BLOCKING", "0"), job(2), &[]),
        case("nothing to lose", with_var(two(|_| {}), "NCCL_IB_DISABLE", "1"), job(2), &[]),
        case(
            "something to lose",
            with_var(infiniband(two(|_| {})), "NCCL_IB_DISABLE", "1"),
            job(2),
            &["NVL071 warning"],
        ),
        case("on a CPU host", with_var(cpu_host(), "NCCL_P2P_DISABLE", "1"), job(2), &[]),
        case(
            "no such interface",
            with_var(networked(two(|_| {})), "NCCL_SOCKET_IFNAME", "ib"),
            job(2),
            &["NVL072 error"],
        ),
        case(
            "one rank",
            with_var(networked(two(|_| {})), "NCCL_SOCKET_IFNAME", "ib"),
            job(1),
            &["NVL072 warning"],
        ),
        case(
            "excluding",
            with_var(networked(two(|_| {})), "NCCL_SOCKET_IFNAME", "^docker0,lo"),
            job(2),
            &[],
        ),
        case(
            "gloo's, unused",
            with_var(networked(two(|_| {})), "GLOO_SOCKET_IFNAME", "ib0"),
            job(2),
            &["NVL072 note"],
        ),
        case(
            "gloo's",
            with_var(networked(cpu_host()), "GLOO_SOCKET_IFNAME", "^lo"),
            job(2),
            &["NVL072 error"],
        ),
        case(
            "gloo's, right",
            with_var(networked(cpu_host()), "GLOO_SOCKET_IFNAME", "eth0"),
            job(2),
            &[],
        ),
        case("shared memory", in_container(two(shm)), job(2), &["NVL073 warning"]),
        case(
            "half of a small memory",
            two(|f| {
                shm(f);
                f.resources.memory_bytes = Some(128 << 20);
            }),
            job(2),
            &[],
        ),
        case("locked memory", locked(infiniband(two(|_| {}))), two_nodes(), &["NVL074 warning"]),
        case("locked memory, one node", locked(infiniband(two(|_| {}))), job(2), &[]),
        case(
            "blocking and asynchronous",
            with_var(
                with_var(two(|_| {}), "TORCH_NCCL_BLOCKING_WAIT", "1"),
                "TORCH_NCCL_ASYNC_ERROR_HANDLING",
                "1",
            ),
            job(2),
            &["NVL075 warning"],
        ),
        case(
            "no error handling",
            with_var(two(|_| {}), "TORCH_NCCL_ASYNC_ERROR_HANDLING", "0"),
            job(2),
            &["NVL075 note"],
        ),
    ]
}

pub(super) fn vendors() -> Vec<Case> {
    let plain = |mut facts: HostFacts| {
        facts.python.packages.clear();
        facts
    };
    let dead = |mut facts: HostFacts| {
        facts.vendors[0].nodes.clear();
        facts.vendors[0].module = None;
        facts
    };
    let both = |plugin: bool| {
        let mut facts = gpu_host(2, A6000, NEW);
        let other = vendor_host("gcu", 2);
        facts.pci.extend(other.pci);
        facts.vendors.extend(other.vendors);
        if plugin {
            facts.python.packages.extend(other.python.packages);
        }
        facts
    };
    let no_eccl = {
        let mut facts = vendor_host("gcu", 8);
        facts.vendors[0].libraries.clear();
        facts
    };
    let gcu = || vendor_host("gcu", 8);
    vec![
        case(
            "GCU with CUDA's variable",
            with_var(gcu(), "CUDA_VISIBLE_DEVICES", "0,1"),
            job(2),
            &["NVL080 note"],
        ),
        case("GCU without driver", dead(gcu()), job(8), &["NVL081 error"]),
        case("NPU without driver", dead(vendor_host("npu", 8)), job(8), &["NVL086 error"]),
        case(
            "NPU that nobody misses",
            plain(dead(vendor_host("npu", 8))),
            job_with(2, "gloo"),
            &[],
        ),
        case("GCU with gloo", gcu(), job_with(8, "gloo"), &["NVL082 warning"]),
        case("GCU without eccl", no_eccl, job(8), &["NVL082 warning"]),
        case("GCU without plugin", plain(gcu()), job(8), &["NVL063 warning"]),
        case("GCU with nccl", gcu(), job_with(8, "nccl"), &["NVL083 error"]),
        case("NVIDIA with hccl", two(|_| {}), job_with(2, "hccl"), &["NVL083 error"]),
        case("no GPU, nccl", cpu_host(), job_with(2, "nccl"), &["NVL063 error"]),
        case("no GPU, hccl", cpu_host(), job_with(2, "hccl"), &["NVL083 error"]),
        case("no GPU, its own backend", cpu_host(), job_with(2, "my_backend"), &[]),
        case(
            "GPUs hidden, nccl",
            with_var(two(|_| {}), "CUDA_VISIBLE_DEVICES", ""),
            job_with(2, "nccl"),
            &["NVL063 error"],
        ),
        case("two vendors", both(true), job(2), &["NVL084 error"]),
        case("two vendors, one torch", both(false), job(2), &["NVL084 note"]),
        case("two vendors, said", both(true), job_with(2, "eccl"), &[]),
        case(
            "two vendors, one hidden",
            with_var(both(true), "CUDA_VISIBLE_DEVICES", ""),
            job(2),
            &[],
        ),
        case(
            "two vendors, one chosen",
            with_var(both(true), "TOPS_VISIBLE_DEVICES", "0,1"),
            job(2),
            &[],
        ),
    ]
}
