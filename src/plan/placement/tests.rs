use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::host::depth::Depth;
use crate::host::quota::Quota;
use crate::host::target::{ProgramFact, ScriptFact};
use crate::host::tests::Root;
use crate::host::topology::{Cpu, Topology};
use crate::host::{self, Facts};
use crate::plan::tests::{judged, spec};
use crate::plan::{self, Plan, PlanError, RankPlan, numa};
use crate::settings::env::Env;
use crate::settings::spec::NumaBinding;

/// What is true below a root, for a launch with these words.
fn facts(root: &Path, env: &[(&str, &str)], words: &[&str], depth: Depth) -> Facts {
    let env: Env = env.iter().copied().collect();
    let facts = host::gather(root, &env, &spec(words), depth).expect("the machine can be read");
    // What a machine of files cannot have.
    Facts {
        program: ProgramFact::Found("/python".into()),
        script: ScriptFact::Usable,
        has_proc: true,
        ..facts
    }
}

fn decide(root: &Root, env: &[(&str, &str)], words: &[&str]) -> Result<Plan, PlanError> {
    plan::decide(&spec(words), &facts(root.path(), env, words, Depth::Full), None)
}

fn plan(root: &Root, env: &[(&str, &str)], words: &[&str]) -> Plan {
    decide(root, env, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// A rank in one line: device, NUMA node, CPUs, what is not known.
fn line(rank: &RankPlan) -> String {
    let mut text = String::new();
    if let Some(device) = &rank.device {
        let _ = write!(text, "{} {}", device.vendor, device.index);
        if let Some(index) = device.machine_index {
            let _ = write!(text, " is {index}");
        }
        for part in device.pci.iter().chain(&device.id) {
            let _ = write!(text, " {part}");
        }
        if !device.narrowed_by.is_empty() {
            let _ = write!(text, " by {}", device.narrowed_by.join("+"));
        }
        text.push_str(", ");
    }
    if let Some(node) = rank.numa_node {
        let _ = write!(text, "node {node}, ");
    }
    if let Some(why) = &rank.unplaced {
        let _ = write!(text, "({why}), ");
    }
    if let Some(cpus) = &rank.cpus {
        let _ = write!(text, "on {}, ", list(cpus));
    }
    let _ = write!(text, "{} CPUs", rank.cpu_count);
    text
}

/// As the kernel writes lists.
fn list(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let range =
        |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// Two sockets of four NUMA nodes each; a node has 16 cores of two threads. CPU `n` and `n + 128`
/// are threads of one core.
fn two_sockets(allowed: &str) -> Root {
    let root = Root::new(&[
        ("proc/self/status", &format!("Cpus_allowed_list:\t{allowed}\n")),
        ("proc/self/cgroup", "0::/\n"),
        ("sys/devices/system/node/possible", "0-7\n"),
        ("sys/devices/system/node/online", "0-7\n"),
        ("sys/devices/system/cpu/smt/active", "1\n"),
    ]);
    for node in 0..8 {
        let first = node * 16;
        let cpus = format!("{}-{},{}-{}\n", first, first + 15, first + 128, first + 143);
        root.file(&format!("sys/devices/system/node/node{node}/cpulist"), cpus);
    }
    for cpu in 0..256 {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        let core = cpu % 128;
        root.file(&format!("{folder}/thread_siblings_list"), format!("{core},{}\n", core + 128));
        root.file(&format!("{folder}/physical_package_id"), format!("{}\n", core / 64));
    }
    root
}

/// A PCI device on a NUMA node.
fn on_bus(root: &Root, address: &str, ids: [&str; 3], node: i32) {
    let folder = format!("sys/bus/pci/devices/{address}");
    for (name, value) in ["vendor", "device", "class"].iter().zip(ids) {
        root.file(&format!("{folder}/{name}"), format!("{value}\n"));
    }
    root.file(&format!("{folder}/numa_node"), format!("{node}\n"));
}

/// Adds an NVIDIA GPU on each of the eight nodes, of one model each.
fn with_nvidia(root: Root, model: impl Fn(u32) -> &'static str) -> Root {
    for at in 0..8_u32 {
        let address = format!("0000:{at}1:00.0");
        let text = format!("Model: {}\nGPU UUID: GPU-{at}\nDevice Minor: {at}\n", model(at));
        root.file(&format!("proc/driver/nvidia/gpus/{address}/information"), text);
        root.file(&format!("dev/nvidia{at}"), "");
        on_bus(&root, &address, ["0x10de", "0x2330", "0x030200"], at.try_into().expect("small"));
    }
    root
}

fn h100() -> Root {
    with_nvidia(two_sockets("0-255"), |_| "H100")
}

/// Adds eight accelerators that are on the bus, and by number in `/dev`.
fn with_numbered(root: Root, node: &str, ids: [&str; 3]) -> Root {
    for at in 0..8 {
        root.file(&format!("dev/{node}{at}"), "");
        on_bus(&root, &format!("0000:3{at}:00.0"), ids, 7 - at);
    }
    root
}

fn gcu() -> Root {
    with_numbered(two_sockets("0-255"), "gcu", ["0x1e36", "0x0021", "0x120000"])
}

fn mi300x() -> Root {
    let root = two_sockets("0-255");
    root.file("dev/kfd", "");
    let folder = "sys/class/kfd/kfd/topology/nodes";
    root.file(&format!("{folder}/0/properties"), "simd_count 0\n");
    for at in 0..8_u32 {
        // Parts of a GPU are functions that the bus does not have.
        let location = (0xc0 + at) << 8 | 1;
        let text = format!("simd_count 304\nlocation_id {location}\ndomain 0\n");
        root.file(&format!("{folder}/{}/properties", at + 1), text);
        let node = (at / 4).try_into().expect("small");
        on_bus(&root, &format!("0000:c{at}:00.0"), ["0x1002", "0x74a1", "0x120000"], node);
    }
    root
}

#[test]
fn where_ranks_are() {
    let root = h100();
    let cuda = |words: &[&str], env: &[(&str, &str)]| plan(&root, env, words);
    let lines = |plan: &Plan| plan.ranks.iter().map(line).collect::<Vec<_>>();

    let all = cuda(&["--nproc", "gpu", "t.py"], &[]);
    assert_eq!(all.ranks.len(), 8);
    assert_eq!(line(&all.ranks[5]), "cuda 5 is 5 0000:51:00.0 GPU-5, node 5, 32 CPUs");
    assert_eq!(all.omp.value, Some(16));
    assert_eq!(all.omp.reason, "16 of 128 cores for each of 8 ranks");
    assert_eq!(
        all.notes,
        ["OMP_NUM_THREADS is 16 for each rank: 16 of 128 cores for each of 8 ranks; set it \
          yourself for another number"]
    );

    let some = cuda(&["--nproc", "auto", "t.py"], &[("CUDA_VISIBLE_DEVICES", "3,1")]);
    assert_eq!(
        lines(&some),
        [
            "cuda 0 is 3 0000:31:00.0 GPU-3 by CUDA_VISIBLE_DEVICES, node 3, 128 CPUs",
            "cuda 1 is 1 0000:11:00.0 GPU-1 by CUDA_VISIBLE_DEVICES, node 1, 128 CPUs",
        ]
    );

    let bound = cuda(
        &["--nproc", "gpu", "--numa-binding", "exclusive", "t.py"],
        &[("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-2")],
    );
    assert_eq!(
        lines(&bound),
        [
            "cuda 0 is 7 0000:71:00.0 GPU-7 by CUDA_VISIBLE_DEVICES, node 7, on 112-127,240-255, \
             32 CPUs",
            "cuda 1 is 2 0000:21:00.0 GPU-2 by CUDA_VISIBLE_DEVICES, node 2, on 32-47,160-175, \
             32 CPUs",
        ]
    );
    assert_eq!(bound.omp.reason, "each of 2 ranks is bound to 16 cores");

    let socket = cuda(&["--nproc", "gpu", "--numa-binding", "socket", "t.py"], &[]);
    assert_eq!(
        line(&socket.ranks[4]),
        "cuda 4 is 4 0000:41:00.0 GPU-4, node 4, on 64-127,192-255, 32 CPUs"
    );
    assert_eq!(
        (socket.omp.value, socket.omp.reason.as_str()),
        (Some(16), "16 of the 64 cores that a rank is bound to with 3 more")
    );
    let shares = cuda(
        &["--nproc", "3", "--numa-binding", "socket", "t.py"],
        &[("CUDA_VISIBLE_DEVICES", "0,1,4")],
    );
    assert_eq!(
        (shares.omp.value, shares.omp.reason.as_str()),
        (Some(32), "the share of the rank with the fewest cores")
    );
    assert_eq!(shares.ranks.iter().map(|rank| rank.cpu_count).collect::<Vec<_>>(), [64, 64, 128]);

    let virtual_rank =
        cuda(&["--nproc", "2", "--virtual-local-rank", "t.py"], &[("CUDA_VISIBLE_DEVICES", "6,5")]);
    assert_eq!(
        line(&virtual_rank.ranks[1]),
        "cuda 1 is 5 0000:51:00.0 GPU-5 by CUDA_VISIBLE_DEVICES, node 5, 128 CPUs"
    );
}

#[test]
fn devices_of_every_vendor() {
    let one = |root: &Root, env: &[(&str, &str)], words: &[&str], rank: usize| {
        line(&plan(root, env, words).ranks[rank])
    };
    let (gcu, mi300x) = (gcu(), mi300x());
    let bind = ["--nproc", "auto", "--numa-binding", "node", "t.py"];
    assert_eq!(
        one(&gcu, &[], &bind, 2),
        "gcu 2 is 2 0000:32:00.0, node 5, on 80-95,208-223, 32 CPUs"
    );
    assert_eq!(
        one(&gcu, &[("TOPS_VISIBLE_DEVICES", "6,7")], &bind, 1),
        "gcu 1 is 7 0000:37:00.0 by TOPS_VISIBLE_DEVICES, node 0, on 0-15,128-143, 32 CPUs"
    );
    // CUDA's variable is none of theirs.
    assert_eq!(plan(&gcu, &[("CUDA_VISIBLE_DEVICES", "0")], &bind).ranks.len(), 8);
    let npu = with_numbered(two_sockets("0-255"), "davinci", ["0x19e5", "0xd802", "0x120000"]);
    npu.file("dev/davinci_manager", "");
    assert_eq!(
        one(&npu, &[("ASCEND_RT_VISIBLE_DEVICES", "4,0")], &["--nproc", "npu", "t.py"], 0),
        "npu 0 is 4 0000:34:00.0 by ASCEND_RT_VISIBLE_DEVICES, node 3, 128 CPUs"
    );
    assert_eq!(
        one(&mi300x, &[], &bind, 7),
        "rocm 7 is 7 0000:c7:00.1, node 1, on 16-31,144-159, 8 CPUs"
    );
    let nested = [("ROCR_VISIBLE_DEVICES", "5,4,1"), ("HIP_VISIBLE_DEVICES", "2,0")];
    assert_eq!(
        one(&mi300x, &nested, &["--nproc", "2", "t.py"], 0),
        "rocm 0 is 1 0000:c1:00.1 by ROCR_VISIBLE_DEVICES+HIP_VISIBLE_DEVICES, node 0, 128 CPUs"
    );
}

#[test]
fn devices_by_the_links_of_their_nodes() {
    let root = two_sockets("0-255");
    let link = |class: &str, name: &str, address: &str, ids: [&str; 3], node: i32| {
        root.file(&format!("dev/{}/{name}", if class == "drm" { "dri" } else { class }), "");
        let folder = format!("sys/devices/pci0000:00/{address}");
        root.file(&format!("{folder}/vendor"), ids[0]);
        root.link(&format!("sys/class/{class}/{name}/device"), &format!("/{folder}"));
        on_bus(&root, address, ids, node);
    };
    let (arc, own) = (["0x8086", "0x56a0", "0x030000"], ["0x8086", "0x46a6", "0x030000"]);
    link("drm", "renderD128", "0000:00:02.0", own, 0);
    link("drm", "renderD129", "0000:05:00.0", arc, 1);
    link("drm", "renderD130", "0000:03:00.0", arc, 2);
    let of = |root: &Root, env: &[(&str, &str)], words: &[&str]| {
        plan(root, env, words).ranks.iter().map(line).collect::<Vec<_>>()
    };
    let xpu = ["--nproc", "xpu", "t.py"];
    assert_eq!(
        of(&root, &[], &xpu),
        [
            "xpu 0 is 0 0000:05:00.0, node 1, 85 CPUs",
            "xpu 1 is 1 0000:03:00.0, node 2, 85 CPUs",
            // The processor's own graphics come last.
            "xpu 2 is 2 0000:00:02.0, node 0, 85 CPUs",
        ]
    );
    let mask = of(&root, &[("ZE_AFFINITY_MASK", "1")], &["--nproc", "auto", "t.py"]);
    assert_eq!(
        mask[0],
        "xpu 0, (ZE_AFFINITY_MASK chooses among the devices in its own terms), 128 CPUs"
    );

    let gaudi = ["0x1da3", "0x1020", "0x120000"];
    let root = two_sockets("0-255");
    for at in 0..2 {
        let address = format!("0000:1{at}:00.0");
        root.file(&format!("dev/accel/accel{at}"), "");
        let folder = format!("sys/devices/pci0000:00/{address}");
        root.file(&format!("{folder}/vendor"), gaudi[0]);
        root.link(&format!("sys/class/accel/accel{at}/device"), &format!("/{folder}"));
        on_bus(&root, &address, gaudi, at);
    }
    let hpu = ["--nproc", "hpu", "t.py"];
    assert_eq!(of(&root, &[], &hpu)[0], "hpu 0 is 0, (its PCI address is not known), 128 CPUs");
    root.file("sys/bus/pci/devices/0000:10:00.0/module_id", "1\n");
    root.file("sys/bus/pci/devices/0000:11:00.0/module_id", "0\n");
    assert_eq!(of(&root, &[], &hpu)[0], "hpu 0 is 0 0000:11:00.0, node 1, 128 CPUs");
}

/// M1
#[test]
fn what_is_not_known_is_said() {
    let why = |root: &Root, env: &[(&str, &str)], words: &[&str], rank: usize| {
        line(&plan(root, env, words).ranks[rank])
    };
    let (h100, none_there) = (h100(), two_sockets("0-255"));
    let two = ["--nproc", "2", "t.py"];
    let four = ["--nproc", "4", "t.py"];
    let none = "(no accelerator is visible), 128 CPUs";
    assert_eq!(why(&none_there, &[], &two, 0), none);
    assert_eq!(why(&h100, &[("CUDA_VISIBLE_DEVICES", "")], &two, 1), none);
    assert_eq!(
        why(&h100, &[("CUDA_VISIBLE_DEVICES", "0,1,2")], &four, 3),
        "(3 NVIDIA GPUs are visible), 64 CPUs"
    );
    assert_eq!(
        why(&h100, &[("CUDA_VISIBLE_DEVICES", "0")], &four, 3),
        "(one NVIDIA GPU is visible), 64 CPUs"
    );
    assert_eq!(
        why(&two_sockets("0-3"), &[], &["--nproc", "cpu", "t.py"], 0),
        "(the ranks are one per CPU), 1 CPUs"
    );
    let mig = [("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")];
    assert_eq!(
        why(&h100, &mig, &two, 0),
        "cuda 0 MIG-a by CUDA_VISIBLE_DEVICES, (which GPU a MIG device is part of is not known), \
         128 CPUs"
    );
    assert_eq!(
        why(&h100, &mig, &two, 1),
        "(CUDA gives a process one MIG device; --virtual-local-rank gives each rank its own), \
         128 CPUs"
    );
    let virtual_rank = ["--nproc", "2", "--virtual-local-rank", "t.py"];
    assert!(why(&h100, &mig, &virtual_rank, 1).starts_with("cuda 1 MIG-b by"));
    let differ = with_nvidia(two_sockets("0-255"), |at| if at == 3 { "T4" } else { "H100" });
    assert_eq!(
        why(&differ, &[], &two, 0),
        "cuda 0, (the GPUs differ, and CUDA takes the fastest first unless CUDA_DEVICE_ORDER is \
         PCI_BUS_ID), 128 CPUs"
    );
    for known in [("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("CUDA_VISIBLE_DEVICES", "GPU-0,GPU-3")] {
        assert!(why(&differ, &[known], &two, 0).contains(" is 0 0000:01:00.0 GPU-0"), "{known:?}");
    }
    let gap = gcu();
    gap.file("dev/gcu8", "");
    assert_eq!(why(&gap, &[], &two, 0), "gcu 0 is 0, (its PCI address is not known), 128 CPUs");
    let lost = h100;
    lost.file("sys/bus/pci/devices/0000:01:00.0/numa_node", "-1\n");
    let unknown = "cuda 0 is 0 0000:01:00.0 GPU-0, (the kernel does not tell the NUMA node of \
                   0000:01:00.0), 128 CPUs";
    assert_eq!(why(&lost, &[], &two, 0), unknown);
    lost.file("sys/devices/system/node/online", "2\n");
    assert!(why(&lost, &[], &two, 0).contains("node 2,"), "the only node is the device's");

    let bind = ["--nproc", "2", "--numa-binding", "node", "t.py"];
    lost.file("sys/devices/system/node/online", "0-7\n");
    let refused = |root: &Root, env: &[(&str, &str)]| {
        decide(root, env, &bind).expect_err("nobody knows the place")
    };
    assert!(matches!(refused(&lost, &[]), PlanError::NumaUnknown { local_rank: 0 }));
    assert!(matches!(refused(&differ, &[]), PlanError::NumaUnknown { local_rank: 0 }));
    assert!(matches!(refused(&lost, &mig), PlanError::NumaUnknown { local_rank: 0 }));
    assert!(matches!(refused(&none_there, &[]), PlanError::NumaWithoutDevice));
    let one = [("CUDA_VISIBLE_DEVICES", "4")];
    assert!(matches!(refused(&lost, &one), PlanError::NumaRank { local_rank: 1, devices: 1 }));
}

/// A machine without NUMA files has a plan; what a launch does not ask for is not looked at.
#[test]
fn a_launch_reads_less_than_a_plan() {
    let root = h100();
    let at_launch = |words: &[&str]| {
        let facts = facts(root.path(), &[], words, Depth::Launch);
        assert!(facts.topology.is_none());
        let plan = plan::decide(&spec(words), &facts, None).expect("a plan");
        (line(&plan.ranks[0]), plan.omp.reason)
    };
    let cores = "16 of 128 cores for each of 8 ranks".to_owned();
    let not_looked = "(nobody looked at the devices), 32 CPUs".to_owned();
    assert_eq!(at_launch(&["--nproc", "8", "t.py"]), (not_looked, cores.clone()));
    let counted = "cuda 0 is 0 0000:01:00.0 GPU-0, (where it is was not looked at), 32 CPUs";
    assert_eq!(at_launch(&["--nproc", "gpu", "t.py"]), (counted.to_owned(), cores));
    fs_err::remove_dir_all(root.path().join("sys/devices/system/node")).expect("it is there");
    let plan = plan(&root, &[], &["--nproc", "gpu", "t.py"]);
    assert_eq!(line(&plan.ranks[1]), "cuda 1 is 1 0000:11:00.0 GPU-1, node 1, 32 CPUs");
    assert_eq!(plan.omp.reason, "16 of 128 cores for each of 8 ranks");
}

#[test]
fn threads_follow_from_the_cores_and_the_quota() {
    // allowed CPUs, quota, ranks, the number, why
    let rows: &[(&str, &str, &str, Option<u32>, &str)] = &[
        ("0-255", "max 100000", "1", None, "one rank alone has all cores"),
        ("0-255", "max 100000", "3", Some(42), "42 of 128 cores for each of 3 ranks"),
        ("0-255", "max 100000", "200", Some(1), "128 cores for 200 ranks"),
        ("0-255", "350000 100000", "1", Some(3), "the control group's quota is 3.5 of 256 CPUs"),
        ("0-255", "350000 100000", "2", Some(1), "1 of the quota of 3.5 CPUs for each of 2 ranks"),
        (
            "0-255",
            "350000 100000",
            "8",
            Some(1),
            "the control group's quota is 3.5 CPUs for 8 ranks",
        ),
        ("0-255", "6400000 100000", "8", Some(8), "8 of the quota of 64 CPUs for each of 8 ranks"),
        // More than there is.
        ("0-3,128-131", "900000 100000", "2", Some(2), "2 of 4 cores for each of 2 ranks"),
        ("0-2", "300000 100000", "1", None, "one rank alone has all cores"),
        ("0-2", "299999 100000", "1", Some(2), "the control group's quota is 2.999 of 3 CPUs"),
        ("0-2", "10000 100000", "1", Some(1), "the control group's quota is 0.1 of 3 CPUs"),
        // A step of Slurm with 12 CPUs: both threads of six cores, or one of each of twelve.
        ("0-5,128-133", "max 100000", "2", Some(3), "3 of 6 cores for each of 2 ranks"),
        ("0-11", "max 100000", "2", Some(6), "6 of 12 cores for each of 2 ranks"),
        ("0", "max 100000", "2", Some(1), "1 core for 2 ranks"),
    ];
    let root = two_sockets("0-255");
    for (allowed, max, ranks, value, reason) in rows {
        root.file("proc/self/status", format!("Cpus_allowed_list:\t{allowed}\n"));
        root.file("sys/fs/cgroup/cpu.max", max);
        for depth in [Depth::Launch, Depth::Full] {
            let words = ["--nproc", ranks, "t.py"];
            let facts = facts(root.path(), &[], &words, depth);
            let plan = plan::decide(&spec(&words), &facts, None).expect("a plan");
            assert_eq!(
                (plan.omp.value, plan.omp.reason.as_str()),
                (*value, *reason),
                "{allowed} {max} {ranks} {depth:?}"
            );
            assert_eq!(plan.notes.len(), usize::from(value.is_some()));
            assert!(plan.ranks.iter().all(|rank| rank.cpu_count >= 1));
        }
    }
    root.file("proc/self/status", "Cpus_allowed_list:\t0-255\n");
    root.file("sys/fs/cgroup/cpu.max", "1600000 100000\n");
    let of_quota = plan(&root, &[], &["--nproc", "4", "t.py"]);
    assert_eq!(of_quota.ranks[3].cpu_count, 4);
    let alone = plan(&root, &[], &["t.py"]);
    assert_eq!(
        alone.notes,
        [
            "OMP_NUM_THREADS is 16: the control group's quota is 16 of 256 CPUs; set it yourself for \
          another number"
        ]
    );
    // A bound rank sees its CPUs alone.
    let bound = ["--nproc", "1", "--numa-binding", "node", "t.py"];
    let near = h100();
    near.file("sys/fs/cgroup/cpu.max", "3200000 100000\n");
    assert_eq!(plan(&near, &[], &bound).omp.value, None);
    near.file("sys/fs/cgroup/cpu.max", "3100000 100000\n");
    assert_eq!(plan(&near, &[], &bound).omp.value, Some(31));
}

#[test]
fn threads_that_the_user_chose_are_left_alone() {
    use crate::settings::spec::{OmpThreads, ProfileVariable};
    let words = ["--nproc", "2", "t.py"];
    let root = h100();
    let of = |env: &[(&str, &str)], change: &dyn Fn(&mut crate::settings::spec::LaunchSpec)| {
        let mut spec = spec(&words);
        change(&mut spec);
        let plan = plan::decide(&spec, &facts(root.path(), env, &words, Depth::Full), None);
        let plan = plan.expect("a plan");
        assert!(plan.notes.is_empty(), "{:?}", plan.notes);
        (plan.omp.value, plan.omp.reason)
    };
    let reason = |reason: &str| (None, reason.to_owned());
    assert_eq!(of(&[("OMP_NUM_THREADS", "")], &|_| {}), reason("the caller has set it"));
    let keep = |spec: &mut crate::settings::spec::LaunchSpec| spec.omp_threads = OmpThreads::Keep;
    assert_eq!(of(&[], &keep), reason("binding.omp-threads is keep"));
    assert_eq!(
        of(&[], &|spec| spec.omp_threads = OmpThreads::Count(5)),
        (Some(5), "binding.omp-threads is 5".to_owned())
    );
    for (value, says) in [(Some("4"), "the profile sets it"), (None, "the profile takes it away")] {
        let variable = ProfileVariable {
            value: value.map(str::to_owned),
            why: None,
            origin: crate::settings::Origin::Default("env"),
            is_kept: false,
        };
        let change = |spec: &mut crate::settings::spec::LaunchSpec| {
            spec.env.insert("OMP_NUM_THREADS".to_owned(), variable.clone());
        };
        assert_eq!(of(&[], &change), reason(says));
    }
}

/// M3
#[test]
fn a_profile_narrows_the_devices_of_the_ranks() {
    let mut spec = spec(&["--nproc", "gpu", "t.py"]);
    let variable = crate::settings::spec::ProfileVariable {
        value: Some("2,6".to_owned()),
        why: None,
        origin: crate::settings::Origin::Default("env"),
        is_kept: false,
    };
    spec.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), variable.clone());
    let root = h100();
    let facts =
        |env: &[(&str, &str)]| facts(root.path(), env, &["--nproc", "gpu", "t.py"], Depth::Full);
    let plan = plan::decide(&spec, &facts(&[]), None).expect("a plan");
    let indices = |plan: &Plan| -> Vec<_> {
        let device = |rank: &RankPlan| rank.device.as_ref().and_then(|device| device.machine_index);
        plan.ranks.iter().map(device).collect()
    };
    assert_eq!(indices(&plan), [Some(2), Some(6)]);
    // The caller comes first.
    let kept = crate::settings::spec::ProfileVariable { is_kept: true, ..variable };
    spec.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), kept);
    let callers = facts(&[("CUDA_VISIBLE_DEVICES", "5")]);
    assert_eq!(indices(&plan::decide(&spec, &callers, None).expect("a plan")), [Some(5)]);
}

/// M3; preflight knows whose devices the ranks use.
#[test]
fn preflights_choice_is_that_of_the_ranks() {
    // Eight GPUs, and two GCUs with them.
    let root = h100();
    for at in 0..2 {
        root.file(&format!("dev/gcu{at}"), "");
        let ids = ["0x1e36", "0x0021", "0x120000"];
        on_bus(&root, &format!("0000:3{at}:00.0"), ids, at);
    }
    let words = ["--nproc", "2", "t.py"];
    let facts = facts(root.path(), &[], &words, Depth::Full);
    let of = |vendor: &str, variables: &[(&str, Option<&str>, bool)]| {
        let mut judgement = judged(variables);
        vendor.clone_into(&mut judgement.vendor);
        line(&plan::decide(&spec(&words), &facts, Some(&judgement)).expect("a plan").ranks[1])
    };
    let second = "cuda 1 is 1 0000:11:00.0 GPU-1, node 1, 128 CPUs";
    assert_eq!(of("cuda", &[]), second);
    assert_eq!(
        of("cuda", &[("CUDA_VISIBLE_DEVICES", Some("0,7"), false)]),
        "cuda 1 is 7 0000:71:00.0 GPU-7 by CUDA_VISIBLE_DEVICES, node 7, 128 CPUs"
    );
    // What is the user's own is in the environment.
    assert_eq!(of("cuda", &[("CUDA_VISIBLE_DEVICES", Some("0,7"), true)]), second);
    assert_eq!(of("gcu", &[]), "gcu 1 is 1 0000:31:00.0, node 1, 128 CPUs");
    assert_eq!(of("cpu", &[]), "(the ranks use no accelerator), 128 CPUs");
}

prop_compose! {
    /// Sockets of nodes of cores of threads, some CPUs allowed, some devices somewhere.
    fn machines()(
        sockets in 1..3_u32, nodes in 1..4_u32, cores in 1..6_u32, threads in 1..3_u32,
    )(
        allowed in prop::collection::vec(prop::bool::weighted(0.8), 72),
        devices in prop::collection::vec(0..sockets * nodes, 1..10),
        sizes in Just((sockets, nodes, cores, threads)),
        quota in prop::option::of(1..200_000_u64),
    ) -> (Topology, Vec<u32>, Option<u64>) {
        let (sockets, nodes, cores, threads) = sizes;
        let mut topology = Topology::default();
        let all = sockets * nodes * cores;
        for core in 0..all {
            let node = core / cores;
            for thread in 0..threads {
                let cpu = core + thread * all;
                topology.nodes.entry(node).or_insert_with(BTreeSet::new).insert(cpu);
                if allowed[usize::try_from(cpu).expect("small")] {
                    let socket = i32::try_from(node / nodes).expect("small");
                    topology.cpus.insert(cpu, Cpu { socket, core, cache: Some(core / 2 * 2) });
                }
            }
        }
        (topology, devices, quota)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// M2
    #[test]
    fn bound_cpus_are_some_and_allowed_and_exclusive_ones_are_of_one_rank(
        (topology, devices, quota) in machines()
    ) {
        let modes = [
            ("node", NumaBinding::Node),
            ("socket", NumaBinding::Socket),
            ("exclusive", NumaBinding::Exclusive),
            ("core-complex", NumaBinding::CoreComplex),
        ];
        let near = |node: &u32| crate::host::devices::Gpu {
            pci: Some("0000:01:00.0".to_owned()),
            numa_node: Some(*node),
            ..Default::default()
        };
        let facts = Facts {
            has_proc: true,
            cpus: topology.cpus.keys().copied().collect(),
            program: ProgramFact::Found("/python".into()),
            devices: crate::host::devices::Devices {
                looked: crate::host::devices::Looked::Placed,
                nvidia: devices.iter().map(near).collect(),
                ..Default::default()
            },
            topology: Some(topology.clone()),
            quota: quota.map(|milli| Quota { milli, source: String::new() }),
            ..Facts::default()
        };
        let places: Vec<Option<u32>> = devices.iter().copied().map(Some).collect();
        for (word, mode) in modes {
            let words = ["--nproc", "gpu", "--numa-binding", word, "t.py"];
            let Ok(plan) = plan::decide(&spec(&words), &facts, None) else {
                // It is refused only where a rank would have no CPU.
                let fails = |rank| numa::cpus(mode, &topology, &places, rank).is_err();
                prop_assert!((0..devices.len()).any(|rank| fails(u32::try_from(rank).expect("small"))));
                continue;
            };
            let threads = plan.omp.value.unwrap_or(1);
            let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
            for rank in &plan.ranks {
                let cpus = rank.cpus.as_ref().expect("it is bound");
                prop_assert!(!cpus.is_empty());
                prop_assert!(cpus.iter().all(|cpu| topology.cpus.contains_key(cpu)));
                let count = u32::try_from(cpus.len()).expect("small");
                prop_assert!(rank.cpu_count >= 1 && rank.cpu_count <= count);
                prop_assert!(threads >= 1 && threads <= count);
                for cpu in cpus {
                    *seen.entry(*cpu).or_default() += 1;
                }
            }
            if mode == NumaBinding::Exclusive {
                prop_assert!(seen.values().all(|ranks| *ranks == 1));
            }
            // Never more threads than CPU time, or than cores where ranks share them, but for one
            // each.
            if threads > 1 {
                let used = seen.keys().map(|cpu| topology.cpus[cpu].core).collect::<BTreeSet<_>>();
                let all = threads as usize * plan.ranks.len();
                prop_assert!(plan.ranks.len() == 1 || all <= used.len(), "{word}: {all} threads");
                let time = quota.unwrap_or(u64::MAX) / 1000;
                prop_assert!(all as u64 <= time.max(1), "{word}: {all} threads");
            }
        }
    }
}

/// Every machine of the corpus has a plan, and the addresses in it are on its bus.
#[test]
fn machines_of_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let mut folders: Vec<PathBuf> = fs_err::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("host.json").exists())
        .collect();
    folders.sort_unstable();
    assert!(folders.len() > 100, "{} machines", folders.len());
    let mut placed: BTreeMap<String, usize> = BTreeMap::new();
    for folder in folders {
        let text = fs_err::read_to_string(folder.join("host.json")).expect("it is there");
        let about: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let env: Vec<(&str, &str)> = about["env"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
            .collect();
        let root = folder.join("root");
        let words = ["--nproc", "8", "t.py"];
        let facts = facts(&root, &env, &words, Depth::Full);
        let plan = plan::decide(&spec(&words), &facts, None).expect("every machine has a plan");
        for rank in &plan.ranks {
            assert!(rank.cpu_count >= 1);
            let is_placed = rank.device.is_some() && rank.numa_node.is_some();
            assert_eq!(rank.unplaced.is_none(), is_placed, "{}", folder.display());
            let Some(device) = &rank.device else { continue };
            if let Some(pci) = &device.pci {
                assert!(root.join("sys/bus/pci/devices").join(pci).symlink_metadata().is_ok());
                *placed.entry(device.vendor.clone()).or_default() += 1;
            }
        }
    }
    for vendor in ["cuda", "gcu", "rocm"] {
        assert!(placed.get(vendor).is_some_and(|count| *count >= 8), "{vendor}: {placed:?}");
    }
}
