use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::devices::{Chosen, Gpu, Looked, Visible, probe};
use super::target::{AskedBy, ProgramFact, ScriptFact};
use super::*;
use crate::settings::spec::Target;

/// A root folder with some files in it.
pub struct Root(TempDir);

impl Root {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let root = Self(TempDir::new().expect("a folder can be made"));
        for (path, text) in files {
            root.file(path, text);
        }
        root
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("folders");
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Makes a link; a target that is absolute is so below the root.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("folders");
        symlink(target, path).expect("a link can be made");
    }

    fn program(&self, path: &str) -> PathBuf {
        let path = self.file(path, "#!/bin/sh\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is our file");
        path
    }
}

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().copied().collect()
}

fn information(uuid: &str, minor: u32) -> String {
    format!(
        "Model: \t\t NVIDIA H200\nIRQ:   \t\t 193\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
    )
}

fn nvidia(count: u32) -> Root {
    let root = Root::new(&[("dev/nvidiactl", ""), ("dev/nvidia-uvm", "")]);
    for minor in 0..count {
        root.file(&format!("dev/nvidia{minor}"), "");
        // The kernel's list is not in the order of the numbers.
        let pci = 9 - minor;
        let text = information(&format!("GPU-{minor}a"), minor);
        root.file(&format!("proc/driver/nvidia/gpus/0000:0{pci}:00.0/information"), &text);
    }
    root
}

#[test]
fn nvidia_gpus() {
    let count = |root: &Root| probe(root.path(), &env(&[]), Looked::Counted).gpu_count(false);
    let root = nvidia(4);
    let devices = probe(root.path(), &env(&[]), Looked::Counted);
    let first = Gpu {
        pci: Some("0000:06:00.0".into()),
        uuid: Some("GPU-3a".into()),
        model: Some("NVIDIA H200".into()),
        numa_node: None,
    };
    assert_eq!(devices.nvidia.first(), Some(&first));
    assert_eq!(devices.gpu_count(false), 4);
    // A container that was given two of them.
    fs::remove_file(root.path().join("dev/nvidia0")).expect("it is there");
    fs::remove_file(root.path().join("dev/nvidia3")).expect("it is there");
    assert_eq!(count(&root), 2);
    // Nodes that nobody has made yet.
    fs::remove_file(root.path().join("dev/nvidia1")).expect("it is there");
    fs::remove_file(root.path().join("dev/nvidia2")).expect("it is there");
    assert_eq!(count(&root), 4);
    let nodes_only = Root::new(&[("dev/nvidia0", ""), ("dev/nvidia12", ""), ("dev/nvidiactl", "")]);
    assert_eq!(count(&nodes_only), 2);
    assert_eq!(count(&Root::new(&[("dev/null", "")])), 0);
}

#[test]
fn visible_devices_are_read_as_cuda_does() {
    let gpus: Vec<Gpu> = ["GPU-aa", "GPU-ab", "GPU-b", "GPU-c"]
        .map(|uuid| Gpu { uuid: Some(uuid.to_owned()), ..Gpu::default() })
        .into();
    let indices = |list: Option<&str>| -> Vec<usize> {
        let index = |chosen: &Chosen| match chosen {
            Chosen::Index(index) => *index,
            Chosen::Id(id) => panic!("{id} is no index"),
        };
        Visible::of(list, &gpus).0.iter().map(index).collect()
    };
    let rows: &[(Option<&str>, &[usize])] = &[
        (None, &[0, 1, 2, 3]),
        (Some(""), &[]),
        (Some("0"), &[0]),
        (Some("3, 1"), &[3, 1]),
        (Some("1,-1,2"), &[1]),
        (Some("-1"), &[]),
        (Some("1,,2"), &[1]),
        (Some("0,9,1"), &[0]),
        (Some("1,1"), &[]),
        (Some("1gpu,2x"), &[1, 2]),
        (Some("none"), &[]),
        (Some("NoDevFiles"), &[]),
        (Some("+2"), &[2]),
        (Some("GPU-b"), &[2]),
        (Some("GPU-c,GPU-ab"), &[3, 1]),
        (Some("GPU-c,GPU-a"), &[3]),
        (Some("GPU-c,GPU-x,GPU-b"), &[3]),
        (Some("GPU-c,1"), &[3]),
        (Some("GPU-c,GPU-c"), &[]),
        (Some("1,GPU-c"), &[1]),
    ];
    for (list, expected) in rows {
        assert_eq!(indices(*list), *expected, "{list:?}");
    }
    let mig = Visible::of(Some("MIG-1,MIG-GPU-2/3/4"), &gpus);
    assert_eq!((mig.count(false), mig.count(true)), (1, 2));
    assert_eq!(Visible::of(Some("MIG-1,0"), &gpus).count(true), 1);
    assert_eq!(Visible::of(Some("MIG-1"), &[]).count(true), 0);
    let unused = vec![Gpu::default(); 2];
    assert_eq!(Visible::of(Some("GPU-x,GPU-y"), &unused).count(false), 2);
}

fn amd(env: &Env) -> devices::Devices {
    let node = |simd: u32, location: u32| {
        format!("cpu_cores_count 0\nsimd_count {simd}\nlocation_id {location}\ndomain 0\n")
    };
    let folder = "sys/class/kfd/kfd/topology/nodes";
    let root = Root::new(&[
        ("dev/kfd", ""),
        (&format!("{folder}/0/properties"), &node(0, 0)),
        (&format!("{folder}/1/properties"), &node(304, 0xc500)),
        (&format!("{folder}/2/properties"), &node(304, 0xd908)),
        (&format!("{folder}/10/properties"), &node(304, 0xe500)),
    ]);
    probe(root.path(), env, Looked::Counted)
}

#[test]
fn amd_gpus() {
    let devices = amd(&env(&[]));
    assert_eq!(devices.gpu_count(false), 3);
    let addresses: Vec<_> = devices.amd.iter().map(|gpu| gpu.pci.as_deref()).collect();
    assert_eq!(addresses, [Some("0000:c5:00.0"), Some("0000:d9:01.0"), Some("0000:e5:00.0")]);
    let visible = |pairs: &[(&str, &str)]| {
        amd(&env(pairs)).seen(vendors::find("rocm").expect("a row")).visible
    };
    let index = |indices: &[usize]| Visible(indices.iter().copied().map(Chosen::Index).collect());
    assert_eq!(visible(&[("HIP_VISIBLE_DEVICES", "2,0")]), index(&[2, 0]));
    assert_eq!(visible(&[("CUDA_VISIBLE_DEVICES", "1")]), index(&[1]));
    let both = [("HIP_VISIBLE_DEVICES", "0"), ("CUDA_VISIBLE_DEVICES", "1,2")];
    assert_eq!(visible(&both), index(&[0]));
    assert_eq!(visible(&[("ROCR_VISIBLE_DEVICES", "2,1")]), index(&[2, 1]));
    // HIP counts what ROCR leaves.
    let nested = [("ROCR_VISIBLE_DEVICES", "2,1"), ("HIP_VISIBLE_DEVICES", "1")];
    assert_eq!(visible(&nested), index(&[1]));
    assert_eq!(visible(&[("HIP_VISIBLE_DEVICES", "")]), index(&[]));
}

#[test]
fn other_vendors() {
    let root = Root::new(&[
        ("dev/dri/renderD128", ""),
        ("dev/dri/renderD129", ""),
        ("dev/dri/renderD130", ""),
        ("dev/dri/card0", ""),
        ("sys/devices/0000:00:02.0/vendor", "0x8086\n"),
        ("sys/class/drm/renderD129/device/vendor", "0x8086\n"),
        ("sys/class/drm/renderD130/device/vendor", "0x10de\n"),
        ("dev/davinci0", ""),
        ("dev/davinci1", ""),
        ("dev/davinci_manager", ""),
        ("dev/gcu0", ""),
        ("dev/accel/accel0", ""),
        ("sys/class/accel/accel0/device/vendor", "0x8086\n"),
    ]);
    let own_graphics = root.path().join("sys/class/drm/renderD128");
    fs::create_dir_all(&own_graphics).expect("a folder can be made");
    symlink("../../../devices/0000:00:02.0", own_graphics.join("device")).expect("a link");
    let devices = probe(root.path(), &env(&[]), Looked::Counted);
    let count = |name| devices.count(name);
    assert_eq!((count("xpu"), devices.discrete_xpu), (Some(2), 1));
    assert_eq!((count("npu"), count("gcu"), count("hpu")), (Some(2), Some(1), Some(0)));
    assert_eq!((count("tpu"), devices.gpu_count(false), devices.auto_count(false)), (None, 0, 1));
    // Every row of the table counts, by its own pattern and its own variable.
    let more = Root::new(&[
        ("dev/nvidia0", ""),
        ("dev/nvidia1", ""),
        ("dev/kfd", ""),
        ("sys/class/kfd/kfd/topology/nodes/1/properties", "simd_count 304\n"),
        ("dev/vgcu0", ""),
        ("dev/hl0", ""),
        ("dev/hl_controlD0", ""),
        ("dev/iluvatar0", ""),
        ("dev/iluvatar1", ""),
        ("dev/itrctl", ""),
        ("dev/xpu0", ""),
        ("dev/xpuctrl", ""),
        ("dev/alixpu_ppu0", ""),
        ("dev/alixpu", ""),
        ("dev/dri/renderD128", ""),
        ("sys/class/drm/renderD128/device/vendor", "0x9999\n"),
    ]);
    let devices = probe(more.path(), &env(&[("CUDA_VISIBLE_DEVICES", "1")]), Looked::Counted);
    for (name, count) in [
        ("cuda", 1),
        ("rocm", 0),
        ("gcu", 1),
        ("hpu", 1),
        ("iluvatar", 1),
        ("kunlun", 0),
        ("ppu", 0),
        ("maca", 0),
        ("xpu", 0),
        ("musa", 0),
    ] {
        assert_eq!(devices.count(name), Some(count), "{name}");
    }
    let devices = probe(more.path(), &env(&[("XPU_VISIBLE_DEVICES", "0")]), Looked::Counted);
    for (name, count) in
        [("cuda", 2), ("rocm", 1), ("kunlun", 1), ("ppu", 1), ("maca", 1), ("iluvatar", 2)]
    {
        assert_eq!(devices.count(name), Some(count), "{name}");
    }
    let one = probe(root.path(), &env(&[("ASCEND_RT_VISIBLE_DEVICES", "1")]), Looked::Counted);
    assert_eq!(one.count("npu"), Some(1));
}

#[test]
fn cpus_and_open_files() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max processes             95622                95622                processes \n\
                  Max open files            1024                 1048576              files     \n";
    let status = "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,1030\n";
    let root = Root::new(&[("proc/self/status", status), ("proc/self/limits", limits)]);
    let cpus = limits::allowed_cpus(root.path()).expect("the list is right");
    assert_eq!(cpus, BTreeSet::from([0, 1, 2, 1030]));
    assert_eq!(limits::nofile_hard(root.path()), Some(1_048_576));
    root.file(
        "proc/self/limits",
        "Max open files            1024                 unlimited  files\n",
    );
    assert_eq!(limits::nofile_hard(root.path()), None);
    root.file("proc/self/status", "Cpus_allowed_list:\tall\n");
    let error = limits::allowed_cpus(root.path()).expect_err("the list is wrong");
    assert!(matches!(error, HostError::Unclear { .. }));
    assert_eq!(limits::cpu_list(""), Some(BTreeSet::new()));
    assert_eq!(limits::cpu_list("0-x"), None);
}

#[test]
fn the_topology_is_read_from_sysfs() {
    let root = nvidia(2);
    let put = |path: &str, text: &str| root.file(&format!("sys/{path}"), text);
    put("devices/system/node/possible", "0-2\n");
    put("devices/system/node/node0/cpulist", "0,2\n");
    put("devices/system/node/node1/cpulist", "1,3\n");
    root.file("proc/self/status", "Cpus_allowed_list:\t0-2\n");
    for cpu in 0..4 {
        let folder = format!("devices/system/cpu/cpu{cpu}");
        put(
            &format!("{folder}/topology/thread_siblings_list"),
            &format!("{},{}", cpu % 2, cpu % 2 + 2),
        );
        put(&format!("{folder}/topology/physical_package_id"), &format!("{}\n", cpu % 2));
        let caches = [("index0", "Data", "1", "3"), ("index1", "Instruction", "9", "3")];
        let last = ("index2", "Unified", "3", "0-3\n");
        for (index, kind, level, shared) in caches.into_iter().chain([last]) {
            put(&format!("{folder}/cache/{index}/type"), kind);
            put(&format!("{folder}/cache/{index}/level"), level);
            put(&format!("{folder}/cache/{index}/shared_cpu_list"), shared);
        }
    }
    put("bus/pci/devices/0000:08:00.0/numa_node", "1\n");
    put("bus/pci/devices/0000:09:00.0/numa_node", "-1\n");
    let devices = probe(root.path(), &env(&[]), Looked::Placed);
    let nodes: Vec<_> = devices.nvidia.iter().map(|gpu| gpu.numa_node).collect();
    assert_eq!(nodes, [Some(1), None], "-1 is no node where there are several");
    let topology = topology::read(root.path(), true).expect("sysfs is right");
    assert_eq!(topology.nodes.len(), 2);
    assert_eq!(topology.nodes[&1], BTreeSet::from([1, 3]));
    assert_eq!(topology.cpus.len(), 3);
    assert_eq!(topology.cpus[&2], topology::Cpu { socket: 0, core: 0, cache: Some(0) });
    fs::remove_file(root.path().join("sys/devices/system/node/possible")).expect("it is there");
    assert!(matches!(topology::read(root.path(), true), Err(HostError::Read { .. })));
}

fn spec(target: Target, python: Option<&Path>) -> LaunchSpec {
    let args = crate::cli::RunArgs { script: Some("t.py".into()), ..Default::default() };
    let files = crate::profile::layer::Files::embedded().expect("the file is right");
    let spec = crate::settings::resolve(&args, &env(&[]), &files).expect("the settings are right");
    LaunchSpec { target, python: python.map(Path::to_owned), ..spec }
}

#[test]
fn the_interpreter() {
    let root =
        Root::new(&[("env/pyvenv.cfg", ""), ("conda/conda-meta/history", ""), ("plain", "")]);
    let all: Vec<PathBuf> =
        ["named", "exec", "venv/bin/python", "env/bin/python", "path/python3", "path/python"]
            .map(|path| root.program(path))
            .into();
    root.file("proc/self/exe", "");
    let me = root.path().join("proc/self/exe");
    fs::remove_file(&me).expect("it is there");
    symlink(root.path().join("env/bin/nvlaunch"), &me).expect("a link");
    let text = |path: &str| root.path().join(path).to_string_lossy().into_owned();
    let (exec, venv, path) = (text("exec"), text("venv"), text("path"));
    let pairs = [("PYTHON_EXEC", exec.as_str()), ("VIRTUAL_ENV", &venv), ("PATH", &path)];
    let script = || Target::Script("t.py".into());
    let find = |python: Option<&Path>, pairs: &[(&str, &str)]| {
        target::program(root.path(), &env(pairs), &spec(script(), python))
    };
    let found = |at: usize| ProgramFact::Found(all[at].clone());
    // T1, one after the other taken away.
    assert_eq!(find(Some(&all[0]), &pairs), found(0));
    assert_eq!(find(None, &pairs), found(1));
    assert_eq!(find(None, &pairs[1..]), found(2));
    assert_eq!(find(None, &[("VIRTUAL_ENV", "/deleted"), pairs[2]]), found(3));
    assert_eq!(find(None, &pairs[2..]), found(3));
    fs::remove_file(&all[3]).expect("it is there");
    assert_eq!(find(None, &pairs[2..]), found(4));
    fs::remove_file(&all[4]).expect("it is there");
    assert_eq!(find(None, &pairs[2..]), found(5));
    let missing = |by| matches!(by, ProgramFact::Missing { by: AskedBy::Search, .. });
    assert!(missing(find(None, &[("PATH", "/nowhere")])));
    // nvlaunch in an environment of conda.
    fs::remove_file(&me).expect("it is there");
    symlink(root.path().join("conda/bin/nvlaunch"), &me).expect("a link");
    let conda = root.program("conda/bin/python");
    assert_eq!(find(None, &pairs[2..]), ProgramFact::Found(conda));
    // A name is looked up, a path is not.
    assert_eq!(find(Some(Path::new("python")), &pairs[2..]), found(5));
    let gone = find(Some(Path::new("/no/python")), &pairs);
    assert!(matches!(gone, ProgramFact::Missing { by: AskedBy::Option, .. }));
    let folder = find(Some(root.path()), &pairs);
    assert!(matches!(folder, ProgramFact::NotExecutable { is_folder: true, .. }));
    let plain = find(Some(&root.path().join("plain")), &pairs);
    assert!(matches!(plain, ProgramFact::NotExecutable { is_folder: false, .. }));
    let name_of_plain = find(Some(Path::new("plain")), &[("PATH", &text(""))]);
    assert!(matches!(name_of_plain, ProgramFact::NotExecutable { is_folder: false, .. }));
}

#[test]
fn a_program_without_python() {
    let root = Root::new(&[]);
    let program = root.program("bin/tool");
    let path = root.path().join("bin").to_string_lossy().into_owned();
    let find = |name: &str| {
        let spec = spec(Target::Program(name.into()), None);
        target::program(root.path(), &env(&[("PATH", &path), ("PYTHON_EXEC", "/x")]), &spec)
    };
    assert_eq!(find("tool"), ProgramFact::Found(program.clone()));
    assert_eq!(find(&program.to_string_lossy()), ProgramFact::Found(program));
    // A file of that name in the working directory, which is the package's.
    let here = find("Cargo.toml");
    assert!(matches!(here, ProgramFact::Missing { in_working_dir: true, .. }));
    assert!(matches!(find("nothing"), ProgramFact::Missing { in_working_dir: false, .. }));
}

#[test]
fn the_script() {
    let root =
        Root::new(&[("train.py", ""), ("app/__main__.py", ""), ("data/x", ""), ("a.txt", "")]);
    let look = |path: &str| target::script(&Target::Script(root.path().join(path)));
    assert_eq!(look("train.py"), ScriptFact::Usable);
    assert_eq!(look("app"), ScriptFact::Usable);
    assert_eq!(look("data"), ScriptFact::Folder);
    let near = Some(root.path().join("train.py"));
    assert_eq!(look("trian.py"), ScriptFact::Missing { nearest: near });
    assert_eq!(look("xyz"), ScriptFact::Missing { nearest: None });
    assert_eq!(look("nowhere/train.py"), ScriptFact::Missing { nearest: None });
    assert!(matches!(look("train.py/x"), ScriptFact::Broken { .. }));
    assert!(matches!(look(&"x".repeat(300)), ScriptFact::Broken { .. }));
    assert_eq!(target::script(&Target::Module("no.such".into())), ScriptFact::Usable);
}

#[test]
fn gathering_on_this_machine() {
    let facts = gather(
        Path::new("/"),
        &Env::snapshot(),
        &spec(Target::Script("t".into()), None),
        Depth::Launch,
    )
    .expect("this machine can be read");
    assert!(facts.has_proc && !facts.cpus.is_empty());
    assert!(!facts.fresh_run_id.is_empty() && facts.local_names.is_empty());
    assert_eq!(facts.devices, devices::Devices::default());
    let empty = Root::new(&[]);
    let facts =
        gather(empty.path(), &env(&[]), &spec(Target::Script("t".into()), None), Depth::Launch)
            .expect("an empty machine can be read");
    assert!(!facts.has_proc && facts.cpus.is_empty() && facts.nofile_hard.is_none());
}

#[test]
fn the_quota_of_control_groups() {
    // /proc/self/cgroup, the groups that are there with what they say, thousandths of a CPU
    type Row<'a> = (&'a str, Vec<(String, [(&'a str, String); 2])>, Option<u64>);
    let pod = "kubepods/pod1/box";
    let v1 = "4:memory:/\n3:cpu,cpuacct:/kubepods/pod1/box\n0::/elsewhere\n";
    let v1_files = |quota: &str| {
        [("cpu.cfs_quota_us", quota.to_owned()), ("cpu.cfs_period_us", "100000".to_owned())]
    };
    let v2_files = |max: &str| [("cpu.max", max.to_owned()), ("cpu.stat", String::new())];
    let v2 = format!("0::/{pod}\n");
    let rows: Vec<Row<'_>> = vec![
        ("", vec![], None),
        (&v2, vec![], None),
        (&v2, vec![(pod.into(), v2_files("max 100000"))], None),
        (&v2, vec![(pod.into(), v2_files("350000 100000"))], Some(3500)),
        (&v2, vec![(pod.into(), v2_files("5000 1000"))], Some(5000)),
        // The least of all around it.
        (
            &v2,
            vec![(pod.into(), v2_files("max 1")), ("kubepods".into(), v2_files("7 2"))],
            Some(3500),
        ),
        (&v2, vec![(pod.into(), v2_files("2 1")), (String::new(), v2_files("1 1"))], Some(1000)),
        (&v2, vec![(pod.into(), v2_files("1 1")), (String::new(), v2_files("2 1"))], Some(1000)),
        // The machine's path in a container that sees its own group alone.
        (&v2, vec![(String::new(), v2_files("2 1"))], Some(2000)),
        (
            "0::/../other",
            vec![(String::new(), v2_files("2 1")), ("other".into(), v2_files("1 1"))],
            Some(2000),
        ),
        (&v2, vec![(pod.into(), v2_files("1 0"))], None),
        (&v2, vec![(pod.into(), v2_files("much"))], None),
        (v1, vec![(format!("cpu,cpuacct/{pod}"), v1_files("-1"))], None),
        (v1, vec![(format!("cpu,cpuacct/{pod}"), v1_files("250000"))], Some(2500)),
        (v1, vec![("cpu,cpuacct/kubepods".into(), v1_files("150000"))], None),
        (
            v1,
            vec![
                ("cpu,cpuacct/kubepods/pod1".into(), v1_files("150000")),
                (format!("cpu,cpuacct/{pod}"), v1_files("-1")),
            ],
            Some(1500),
        ),
        (v1, vec![("cpu".into(), v1_files("50000"))], Some(500)),
        // Version 2 has no `cpu` controller there.
        (v1, vec![("elsewhere".into(), v2_files("1 1"))], None),
    ];
    for (groups, there, milli) in rows {
        let root = Root::new(&[("proc/self/cgroup", groups)]);
        for (group, files) in &there {
            for (name, text) in files {
                root.file(&format!("sys/fs/cgroup/{group}/{name}"), text);
            }
        }
        let quota = quota::read(root.path());
        assert_eq!(quota.as_ref().map(|quota| quota.milli), milli, "{groups} {there:?}");
        if let Some(quota) = quota {
            assert!(root.path().join(&quota.source[1..]).exists(), "{}", quota.source);
        }
    }
    let of = |milli| quota::Quota { milli, source: String::new() };
    assert_eq!(
        (of(3500).text(), of(64_000).text(), of(100).text()),
        ("3.5".into(), "64".into(), "0.1".into())
    );
    assert_eq!((of(3999).whole(), of(1).whole()), (3, 1));
}

#[test]
fn physical_cores_from_a_few_files() {
    let folder = "sys/devices/system/cpu";
    let root = Root::new(&[]);
    // Two cores of two threads, then two of one: CPUs 0 and 1, 2 and 3, 4, 5.
    for (cpu, siblings) in ["0-1", "0-1", "2-3", "2-3", "4", "5"].iter().enumerate() {
        root.file(&format!("{folder}/cpu{cpu}/topology/thread_siblings_list"), siblings);
    }
    let count = |cpus: &[u32]| cores::count(root.path(), &cpus.iter().copied().collect());
    for (cpus, expected) in [
        (&[0, 1, 2, 3, 4, 5][..], Some(4)),
        (&[0, 1, 2, 3], Some(2)),
        (&[0, 2, 4], Some(3)),
        (&[1, 2, 3], Some(2)),
        (&[4, 5], Some(2)),
        (&[6], None),
        (&[], None),
    ] {
        assert_eq!(count(cpus), expected, "{cpus:?}");
    }
    root.file(&format!("{folder}/smt/active"), "0\n");
    assert_eq!(count(&[0, 1, 2]), Some(3), "no core has two threads that run");
}

#[test]
fn the_pci_device_of_a_device_number() {
    let root = Root::new(&[("sys/devices/pci0000:30/0000:3D:00.0/gcu/gcu0/dev", "235:0\n")]);
    root.link("sys/dev/char/235:0", "../../devices/pci0000:30/0000:3D:00.0/gcu/gcu0");
    root.link("sys/devices/pci0000:30/0000:3D:00.0/gcu/gcu0/device", "../..");
    assert_eq!(places::of_number(root.path(), 235, 0).as_deref(), Some("0000:3d:00.0"));
    assert_eq!(places::of_number(root.path(), 235, 1), None);
}
