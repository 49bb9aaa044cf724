use std::io::Write as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::host::facts::{Note, Packages};
use crate::host::tests::Root;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn env(pairs: Pairs<'_>) -> Env {
    pairs.iter().copied().collect()
}

fn at_launch(root: &Root, pairs: Pairs<'_>) -> HostFacts {
    survey(root.path(), &env(pairs), Depth::Launch, None)
}

/// A device on the bus, as sysfs shows it: a folder elsewhere and a link to it.
fn device(root: &Root, address: &str, pairs: Pairs<'_>) {
    attributes(root, address, pairs);
    root.link(
        &format!("sys/bus/pci/devices/{address}"),
        &format!("../../../devices/pci0000:00/{address}"),
    );
}

fn attributes(root: &Root, address: &str, pairs: Pairs<'_>) {
    for (name, text) in pairs {
        root.file(&format!("sys/devices/pci0000:00/{address}/{name}"), format!("{text}\n"));
    }
}

fn driver(root: &Root, address: &str, name: &str) {
    root.link(
        &format!("sys/devices/pci0000:00/{address}/driver"),
        &format!("../../../bus/pci/drivers/{name}"),
    );
}

fn gcu() -> Root {
    let root = Root::new(&[
        ("etc/os-release", "ID=Ubuntu\nID_LIKE=debian\nVERSION_ID=\"20.04\"\n"),
        ("proc/sys/kernel/osrelease", "5.4.0-150-generic\n"),
        ("proc/sys/kernel/hostname", "t20\n"),
        ("proc/stat", "cpu 1\nbtime 1758400000\n"),
        ("proc/modules", "enflame 1000 8 - Live 0x0\next4 1 0 - Live 0x0\n"),
        ("sys/module/enflame/version", "1.0.20230110\n"),
        ("sys/module/enflame/initstate", "live\n"),
        ("lib/modules/5.4.0-150-generic/modules.dep", ""),
        ("lib/modules/5.4.0-162-generic/modules.dep", ""),
        ("usr/lib/libeccl.so", "x"),
        ("usr/lib/libefml.so", "x"),
        ("dev/gcuctl", ""),
        ("dev/gcu0vid0", ""),
        (
            "var/lib/dpkg/status",
            "Package: enflame-driver\nStatus: install ok installed\nVersion: 1\n",
        ),
        ("sys/class/net/eth0/type", "1\n"),
        ("sys/class/net/eth0/operstate", "up\n"),
        ("sys/class/net/eth0/speed", "100000\n"),
        ("sys/class/net/lo/type", "772\n"),
        ("sys/class/net/bonding_masters", "bond0\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/phys_state", "5: LinkUp\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/rate", "400 Gb/sec (4X NDR)\n"),
        ("sys/class/infiniband/mlx5_0/ports/1/link_layer", "InfiniBand\n"),
    ]);
    for index in 0..8 {
        root.file(&format!("dev/gcu{index}"), "");
        let address = format!("0000:{index}d:00.0");
        device(
            &root,
            &address,
            &[("vendor", "0x1e36"), ("device", "0x0021"), ("class", "0x120000")],
        );
        driver(&root, &address, "enflame");
    }
    root
}

#[test]
fn eight_gcus() {
    let root = gcu();
    let facts = at_launch(&root, &[("TOPS_VISIBLE_DEVICES", "0,1"), ("HOME", "/root")]);
    assert_eq!(facts.notes, []);
    assert_eq!((facts.hostname.as_str(), facts.schema), ("t20", SCHEMA));
    let system = &facts.system;
    assert_eq!(
        (system.kernel.as_str(), system.distribution.as_deref()),
        ("5.4.0-150-generic", Some("ubuntu"))
    );
    assert_eq!((system.boot_time, &system.container), (Some(1_758_400_000), &None));
    assert_eq!(system.modules, ["enflame"]);
    assert_eq!(system.other_kernels, ["5.4.0-162-generic"]);
    let [vendor] = &facts.vendors[..] else { panic!("one vendor: {:?}", facts.vendors) };
    assert_eq!((vendor.name.as_str(), vendor.pci, vendor.nodes.len()), ("gcu", 8, 8));
    assert_eq!(vendor.nodes[7], "/dev/gcu7");
    let module = Sourced::new("1.0.20230110".to_owned(), "/sys/module/enflame/version");
    assert_eq!(vendor.module, Some(module));
    assert_eq!(vendor.libraries, ["/usr/lib/libefml.so", "/usr/lib/libeccl.so"]);
    assert_eq!(vendor.visible, Some(Sourced::new("0,1".to_owned(), "TOPS_VISIBLE_DEVICES")));
    assert_eq!(facts.pci[0].driver.as_deref(), Some("enflame"));
    assert_eq!(facts.nvidia, None);
    let names: Vec<_> =
        facts.network.interfaces.iter().map(|i| (i.name.as_str(), i.speed)).collect();
    assert_eq!(names, [("eth0", Some(100_000)), ("lo", None)]);
    let port = &facts.network.infiniband[0];
    assert_eq!(
        (port.state.as_str(), port.physical_state.as_str(), port.port),
        ("ACTIVE", "LinkUp", 1)
    );
    // Its driver works, so nobody asks where it came from; once it is gone, somebody does.
    let only_the_manager = Packages { manager: Some("apt".to_owned()), ..Packages::default() };
    assert_eq!(facts.packages, only_the_manager);
    for folder in ["sys/module", "dev"] {
        std::fs::remove_dir_all(root.path().join(folder)).expect("it is there");
    }
    let facts = at_launch(&root, &[]);
    assert_eq!(facts.vendors[0].module, None);
    assert_eq!(facts.packages.installed.len(), 1);
}

#[test]
fn what_is_on_the_bus() {
    let root = Root::new(&[]);
    let gpu = [("vendor", "0x10de"), ("device", "0x2335"), ("class", "0x030200")];
    for address in ["0000:1b:00.0", "0000:2c:00.0", "0000:2c:00.4"] {
        device(&root, address, &gpu);
        driver(&root, address, "nvidia");
    }
    let more = [("current_link_width", "8"), ("max_link_width", "16"), ("numa_node", "1")];
    attributes(&root, "0000:1b:00.0", &more);
    root.file("sys/devices/pci0000:00/0000:1b:00.0/config", [0xde, 0x10, 0x35, 0x23, 0]);
    root.file("sys/devices/pci0000:00/0000:2c:00.0/config", [0xff; 64]);
    attributes(
        &root,
        "0000:2c:00.0",
        &[("numa_node", "-1"), ("max_link_width", "255"), ("current_link_width", "63")],
    );
    root.link("sys/devices/pci0000:00/0000:2c:00.4/physfn", "../0000:2c:00.0");
    device(
        &root,
        "0000:05:00.0",
        &[("vendor", "0x10de"), ("device", "0x22a3"), ("class", "0x068000")],
    );
    device(
        &root,
        "0000:1b:00.1",
        &[("vendor", "0x10de"), ("device", "0x1aef"), ("class", "0x040300")],
    );
    device(
        &root,
        "0000:00:02.0",
        &[("vendor", "0x8086"), ("device", "0x46a6"), ("class", "0x030000")],
    );
    device(&root, "0000:00:1f.0", &[("vendor", "0x8086"), ("device", "0x7a04")]);
    device(&root, "0000:00:1f.1", &[("vendor", "junk")]);
    root.file("sys/devices/pci0000:00/0000:00:02.0/drm", "");
    root.file("dev/dri/renderD128", "");
    root.link("sys/class/drm/renderD128/device", "../../../devices/pci0000:00/0000:00:02.0");
    let facts = at_launch(&root, &[]);
    let found: Vec<_> = facts.pci.iter().map(|d| (d.address.as_str(), d.kind)).collect();
    assert_eq!(
        found,
        [
            ("0000:05:00.0", PciKind::NvSwitch),
            ("0000:1b:00.0", PciKind::Accelerator),
            ("0000:2c:00.0", PciKind::Accelerator),
            ("0000:2c:00.4", PciKind::Accelerator),
        ]
    );
    let [switch, good, gone, share] = &facts.pci[..] else { panic!("four") };
    assert_eq!((switch.driver.as_deref(), switch.class), (None, 0x06_8000));
    assert_eq!((good.link_width, good.numa_node, good.is_off_bus), (Some((8, 16)), Some(1), false));
    assert_eq!((gone.link_width, gone.numa_node, gone.is_off_bus), (None, None, true));
    assert!(share.is_virtual_function && !gone.is_virtual_function);
    assert_eq!(facts.nvidia.map(|nvidia| nvidia.loaded), Some(None), "its devices are here");
    // The share is none of its own, and the processor's graphics trains nothing.
    let vendors: Vec<_> = facts.vendors.iter().map(|v| (v.name.as_str(), v.pci)).collect();
    assert_eq!(vendors, [("cuda", 2)]);
}

#[test]
fn a_container_and_its_machine() {
    let mounts = "1 0 0:1 / / rw - overlay overlay rw\n\
                  2 1 8:1 /x /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15 ro - ext4 /dev/sda1 rw\n";
    let root = Root::new(&[("proc/self/mountinfo", mounts)]);
    let kind = |root: &Root, pairs: Pairs<'_>| {
        at_launch(root, pairs).system.container.map(|c| (c.kind, c.source))
    };
    let is = |kind: &str, source: &str| Some((kind.to_owned(), source.to_owned()));
    let found = at_launch(&root, &[]).system.container.expect("an overlay");
    assert_eq!(found.mounted_libraries, ["/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"]);
    assert_eq!(kind(&root, &[]), is("container", "/proc/self/mountinfo"));
    root.file("proc/self/cgroup", "0::/system.slice/docker-ab.scope\n");
    assert_eq!(kind(&root, &[]), is("docker", "/proc/self/cgroup"));
    root.file("run/systemd/container", "lxc\n");
    assert_eq!(kind(&root, &[]), is("lxc", "/run/systemd/container"));
    root.file(".dockerenv", "");
    assert_eq!(kind(&root, &[]), is("docker", "/.dockerenv"));
    root.file("run/.containerenv", "engine=\"podman-4.3.1\"\n");
    assert_eq!(kind(&root, &[]), is("podman", "/run/.containerenv"));
    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(kind(&root, &pod), is("kubernetes", "KUBERNETES_SERVICE_HOST"));
    assert_eq!(kind(&Root::new(&[]), &[]), None);
}

#[test]
fn what_stands_between_a_driver_and_the_kernel() {
    let root = gcu();
    let variable = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    root.file(variable, [6, 0, 0, 0, 1]);
    root.file("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    root.file("sys/module/nouveau/initstate", "live\n");
    root.file("sys/module/vfio_pci/initstate", "going\n");
    root.file("run/reboot-required", "*** System restart required ***\n");
    root.file("run/reboot-required.pkgs", "linux-image-5.4.0-162-generic\nlibc6\nlibc6\n");
    let system = at_launch(&root, &[]).system;
    assert_eq!(system.secure_boot, Some(Sourced::new(true, format!("/{variable}"))));
    assert_eq!(system.lockdown.map(|l| l.value).as_deref(), Some("integrity"));
    assert_eq!(system.modules, ["enflame", "nouveau"]);
    let required = system.reboot_required.expect("it is required");
    assert_eq!(required.value, ["libc6", "linux-image-5.4.0-162-generic"]);
}

#[test]
fn architectures() {
    let arch = |files: Pairs<'_>| at_launch(&Root::new(files), &[]).system.arch;
    assert_eq!(arch(&[("proc/sys/kernel/arch", "aarch64\n")]), "aarch64");
    assert_eq!(arch(&[("proc/sys/kernel/osrelease", "5.14.0-503.el9.aarch64\n")]), "aarch64");
    assert_eq!(arch(&[("lib/ld-linux-aarch64.so.1", "")]), "aarch64");
    assert_eq!(arch(&[]), "x86_64");
    let version = "Linux version 4.4.0 (gcc) #1 SMP\n";
    let facts = at_launch(&Root::new(&[("proc/version", version)]), &[]);
    assert_eq!(facts.system.kernel, "4.4.0");
}

#[test]
fn a_machine_without_accelerators_is_left_alone() {
    let status = "Package: nvidia-driver\nStatus: install ok installed\nVersion: 1\n";
    let root = Root::new(&[
        ("var/lib/dpkg/status", status),
        ("proc/stat", "btime 1\n"),
        ("sys/class/net/lo/type", "772\n"),
    ]);
    let facts = at_launch(&root, &[("LD_LIBRARY_PATH", "/x")]);
    assert_eq!((facts.vendors.len(), facts.nvidia), (0, None));
    assert_eq!((facts.packages.installed.len(), facts.system.boot_time), (0, None));
    assert_eq!(facts.network.interfaces, []);
    let named = at_launch(&root, &[("GLOO_SOCKET_IFNAME", "eth7")]);
    assert_eq!(named.network.interfaces.len(), 1);
    let facts = survey(root.path(), &env(&[]), Depth::Full, None);
    assert_eq!((facts.packages.installed.len(), facts.system.boot_time), (1, Some(1)));
}

/// Surveys in a thread, so that a read that waits is a failure and no hang.
fn bounded(root: Root, pairs: Pairs<'_>) -> HostFacts {
    let env = env(pairs);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let facts = survey(root.path(), &env, Depth::Full, None);
        sender.send((root, facts)).ok();
    });
    let (_root, facts) = receiver.recv_timeout(Duration::from_secs(20)).expect("it ends");
    facts
}

/// What a survey reads, one file of each kind.
const READ: [&str; 44] = [
    ".dockerenv",
    "dev",
    "etc/apt/apt.conf.d/20auto-upgrades",
    "etc/hostname",
    "etc/nccl.conf",
    "etc/os-release",
    "lib/modules",
    "proc/driver/nvidia/version",
    "proc/meminfo",
    "proc/modules",
    "proc/self/cgroup",
    "proc/self/limits",
    "proc/self/mountinfo",
    "proc/stat",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/hostname",
    "proc/sys/kernel/osrelease",
    "proc/version",
    "run/reboot-required",
    "run/reboot-required.pkgs",
    "run/systemd/container",
    "sys/bus/pci/devices/0000:01:00.0/class",
    "sys/bus/pci/devices/0000:01:00.0/config",
    "sys/bus/pci/devices/0000:01:00.0/device",
    "sys/bus/pci/devices/0000:01:00.0/driver",
    "sys/bus/pci/devices/0000:01:00.0/vendor",
    "sys/class/infiniband/mlx5_0/ports/1/state",
    "sys/class/net/eth0/operstate",
    "sys/class/net/eth0/type",
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
    "sys/kernel/security/lockdown",
    "sys/module/nvidia/version",
    "usr/bin/python3",
    "usr/lib/python3/dist-packages/torch/version.py",
    "home/u/.nccl.conf",
    "venv/bin/python",
    "venv/lib/python3.11/site-packages/torch/version.py",
    "venv/lib/python3.11/site-packages/x.pth",
    "venv/pyvenv.cfg",
    "var/lib/dpkg/status",
    "var/log/apt/history.log",
    "var/log/apt/history.log.1.gz",
    "var/log/dpkg.log",
    "usr/lib/libeccl.so",
];

/// Makes something at a path.
type Make<'a> = &'a dyn Fn(&Root, &str);

#[test]
fn a_machine_of_anything_but_files() {
    let pairs = [("VIRTUAL_ENV", "/venv"), ("HOME", "/home/u"), ("LD_LIBRARY_PATH", "/usr/lib")];
    let fifo = |root: &Root, path: &str| {
        mkfifo(&root.path().join(path), Mode::S_IRWXU).expect("a fifo");
    };
    let folder = |root: &Root, path: &str| {
        std::fs::create_dir_all(root.path().join(path).join("x")).expect("a folder");
    };
    let cycle = |root: &Root, path: &str| {
        let name = path.rsplit('/').next().expect("a name");
        root.link(path, name);
    };
    let outside = |root: &Root, path: &str| root.link(path, "/../../../../../../../../etc/passwd");
    let dangling = |root: &Root, path: &str| root.link(path, "/nowhere/at/all");
    let socket = |root: &Root, path: &str| {
        let at = root.path().join(path);
        // A path of a socket is 108 bytes at most; what does not fit is left out.
        std::os::unix::net::UnixListener::bind(at).ok();
    };
    let junk = |root: &Root, path: &str| {
        let bytes: Vec<u8> =
            (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        root.file(path, bytes);
    };
    let sparse = |root: &Root, path: &str| {
        let path = root.file(path, "");
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("it is there");
        file.set_len(200 << 20).expect("a hole costs nothing");
    };
    let forbidden = |root: &Root, path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = root.file(path, "1");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).expect("it is ours");
    };
    let lines = |root: &Root, path: &str| {
        root.file(path, "= : Package: nvidia\nVersion 1 (2, 3)\n".repeat(20_000));
    };
    let kinds: [(&str, Make<'_>); 10] = [
        ("fifo", &fifo),
        ("folder", &folder),
        ("cycle", &cycle),
        ("outside", &outside),
        ("dangling", &dangling),
        ("socket", &socket),
        ("junk", &junk),
        ("sparse", &sparse),
        ("forbidden", &forbidden),
        ("lines", &lines),
    ];
    for (name, make) in kinds {
        let root = Root::new(&[]);
        for path in READ {
            let parent = root.path().join(path).parent().expect("below the root").to_owned();
            std::fs::create_dir_all(parent).expect("folders");
            make(&root, path);
        }
        let start = Instant::now();
        let facts = bounded(root, &pairs);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{name} took {took:?}");
        let text = serde_json::to_string(&facts).expect("facts are plain values");
        assert!(text.len() < 4 << 20, "{name} made {} bytes", text.len());
        // Nothing of this machine came in.
        assert!(!text.contains("root:x:"), "{name}");
        let is_noted = facts.notes.iter().any(|note| note.source == "/etc/nccl.conf");
        let is_no_file = matches!(name, "fifo" | "folder" | "cycle" | "socket");
        assert!(is_noted || !is_no_file, "{name}: {:?}", facts.notes);
        say(&format!("{name}: {took:?}, {} notes", facts.notes.len()));
    }
}

#[test]
fn facts_are_read_back_as_they_were() {
    let facts = survey(gcu().path(), &env(&[("NCCL_DEBUG", "INFO")]), Depth::Full, None);
    let text = serde_json::to_string(&facts).expect("facts are plain values");
    let back: HostFacts = serde_json::from_str(&text).expect("they are facts");
    assert_eq!(back, facts);
    assert!(facts.notes.iter().all(|Note { source, .. }| source.starts_with('/')));
}

fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("stderr is there");
}
