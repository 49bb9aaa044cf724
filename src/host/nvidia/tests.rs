use std::time::{Duration, Instant};

use super::libraries::{CUDA, NVML};
use super::*;
use crate::host::elf::tests::{elf_file, note};
use crate::host::facts::PciKind;
use crate::host::facts::nvidia::{DkmsState, Flavour, Library, LibraryProblem};
use crate::host::ldso::tests::{Format, X86_64, cache_file};
use crate::host::tests::Root;

mod fuzz;

const LIB: &str = "usr/lib/x86_64-linux-gnu";
const NOTE: &str =
    r#"{"format":1,"CUDA version":"13.0","driver":[535,550,565,570,575,580],"device":[1,2,13]}"#;

/// A library of the driver, with links as the packages make them.
fn driver_library(root: &Root, folder: &str, name: &str, version: &str) {
    let text = note("NVIDIA Corporation", 0, format!("{NOTE}\0").as_bytes());
    let notes = if name == "libcuda.so" { text } else { note("GNU", 3, b"id") };
    let file = elf_file(&[(".note.cuda.fwd_compatibility", &notes), (".rodata", b"x\0")]);
    root.file(&format!("{folder}/{name}.{version}"), file);
    root.link(&format!("{folder}/{name}.1"), &format!("{name}.{version}"));
}

/// A machine with an A6000, the module `loaded`, and libraries of `installed`.
fn machine(loaded: &str, installed: &str) -> Root {
    let root = Root::new(&[
        ("dev/nvidia0", ""),
        ("dev/nvidiactl", ""),
        ("proc/driver/nvidia/gpus/0000:3b:00.0/information", "Model: NVIDIA RTX A6000\n"),
        ("sys/module/nvidia/refcnt", "3\n"),
    ]);
    let line = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {loaded}  Wed\n");
    root.file("proc/driver/nvidia/version", line);
    for name in ["libcuda.so", "libnvidia-ml.so", "libnvidia-ptxjitcompiler.so"] {
        driver_library(&root, LIB, name, installed);
    }
    root
}

fn cx() -> Context<'static> {
    Context { kernel: "6.8.0", depth: Depth::Launch, pci: &[], is_container: false }
}

fn read_with(root: &Root, env: &Env, cx: &Context<'_>) -> (Nvidia, Vec<Note>) {
    let mut notes = Vec::new();
    let nvidia = read(root.path(), env, cx, &mut notes).expect("NVIDIA's driver is here");
    (nvidia, notes)
}

fn read_quietly(root: &Root, env: &Env, cx: &Context<'_>) -> Nvidia {
    let (nvidia, notes) = read_with(root, env, cx);
    assert_eq!(notes, []);
    nvidia
}

fn library_path(path: &str) -> Env {
    [("LD_LIBRARY_PATH", path)].into_iter().collect()
}

#[test]
fn nothing_is_said_where_nothing_is_seen() {
    let other = [PciDevice { vendor: 0x1002, ..PciDevice::default() }];
    let own = [PciDevice { vendor: VENDOR, ..PciDevice::default() }];
    let switch = [PciDevice { vendor: VENDOR, kind: PciKind::NvSwitch, ..PciDevice::default() }];
    for (files, pci, expected) in [
        (&[][..], &other, false),
        (&[("dev/nvidia-fs0", ""), ("usr/lib/libcuda.so.1", "")][..], &other, false),
        (&[("dev/dxg", "")][..], &other, false),
        (&[][..], &own, true),
        (&[][..], &switch, true),
        (&[("dev/nvidiactl", "")][..], &other, true),
        (&[("proc/driver/nvidia/version", "")][..], &other, true),
        (&[("sys/module/nvidia/refcnt", "0")][..], &other, true),
    ] {
        let root = Root::new(files);
        let cx = Context { pci, ..cx() };
        let seen = read(root.path(), &Env::default(), &cx, &mut Vec::new());
        assert_eq!(seen.is_some(), expected, "{files:?}");
    }
}

#[test]
fn a_machine_in_order_is_read_without_its_disk() {
    let root = machine("580.82.09", "580.82.09");
    let nvidia = read_quietly(&root, &Env::default(), &cx());
    assert_eq!(nvidia.loaded.as_ref().map(|loaded| loaded.version.as_str()), Some("580.82.09"));
    assert!(!nvidia.looked_on_disk && nvidia.dkms.is_empty() && !nvidia.is_wsl);
    assert_eq!(nvidia.references, Some(3));
    assert_eq!(nvidia.gpus[0].model.as_deref(), Some("NVIDIA RTX A6000"));
    let cuda = nvidia.libraries.cuda.expect("found");
    assert_eq!(cuda.path, format!("/{LIB}/libcuda.so.580.82.09"));
    assert_eq!((cuda.name.as_str(), cuda.found_by.as_str()), (CUDA, "default folder"));
    assert_eq!(cuda.compatible_branches, [535, 550, 565, 570, 575, 580]);
    assert_eq!(cuda.cuda_version.as_deref(), Some("13.0"));
    assert!(cuda.problem.is_none());
    assert_eq!(cuda.changed_at, None, "the times of a copy tell nothing");
    let others: Vec<&str> =
        nvidia.libraries.others.iter().map(|other| other.name.as_str()).collect();
    assert_eq!(others, ["libnvidia-ptxjitcompiler.so.580.82.09"]);
    let full = Context { depth: Depth::Full, ..cx() };
    assert!(read_quietly(&root, &Env::default(), &full).looked_on_disk);
}

#[test]
fn libraries_of_another_version_make_the_rest_matter() {
    let root = machine("580.82.09", "580.95.05");
    driver_library(&root, "usr/local/cuda-13.0/compat", "libcuda.so", "580.95.05");
    driver_library(
        &root,
        "home/u/.cache/nvlaunch/driver/580.82.09",
        "libnvidia-ml.so",
        "580.82.09",
    );
    driver_library(&root, "usr/lib64/nvidia", "libnvidia-ml.so", "580.82.09");
    root.file("usr/lib/nvidia-x/libnvidia-ml.so.580.82.09", "");
    let deb = "var/cache/apt/archives/libnvidia-compute-580_580.82.09-0ubuntu1_amd64.deb";
    root.file(deb, "");
    root.file("lib/modules/6.8.0/modules.dep", "updates/dkms/nvidia.ko:\n");
    let info = b"version=580.95.05\0license=NVIDIA\0vermagic=6.8.0 SMP\0";
    root.file("lib/modules/6.8.0/updates/dkms/nvidia.ko", elf_file(&[(".modinfo", info)]));
    root.file("var/lib/dkms/nvidia/580.95.05/6.8.0/x86_64/module/nvidia.ko", "");
    let env: Env = [("HOME", "/home/u")].into_iter().collect();
    let nvidia = read_quietly(&root, &env, &cx());
    assert!(nvidia.looked_on_disk);
    assert_eq!(nvidia.on_disk[0].version.as_deref(), Some("580.95.05"));
    assert_eq!(nvidia.on_disk[0].flavour, Flavour::Proprietary);
    assert_eq!(nvidia.dkms[0].state, DkmsState::Built);
    let expected = [
        "/usr/lib64/nvidia/libnvidia-ml.so.580.82.09",
        "/home/u/.cache/nvlaunch/driver/580.82.09/libnvidia-ml.so.580.82.09",
        &format!("/{deb}"),
    ];
    assert_eq!(nvidia.libraries.matching, expected);
    let others = &nvidia.libraries.others;
    assert!(others.iter().any(|other| other.path.starts_with("/usr/local/cuda-13.0/compat/")));
    // A container has no module files of its own.
    let container = Context { is_container: true, kernel: "6.9.0", ..cx() };
    assert!(!read_quietly(&root, &env, &container).looked_on_disk);
}

/// What the ranks get for `libnvidia-ml.so.1`: path, how, version, problem.
fn nvml_of(root: &Root, path: &str) -> (String, String, Option<String>, Option<LibraryProblem>) {
    let nvml = read_quietly(root, &library_path(path), &cx()).libraries.nvml;
    let Library { path, found_by, version, problem, .. } = nvml.expect("found");
    (path, found_by, version, problem)
}

#[test]
fn every_problem_of_a_library_is_told() {
    let root = machine("580.82.09", "580.82.09");
    root.file("empty/libnvidia-ml.so.1", "");
    root.file("text/libnvidia-ml.so.1", "no library");
    let whole = elf_file(&[(".rodata", b"a\x00535.261.03\0b\0")]);
    root.file("cut/libnvidia-ml.so.1", &whole[..whole.len() / 2]);
    root.file("plain/libnvidia-ml.so.1", &whole);
    root.file("two/libnvidia-ml.so.1", elf_file(&[(".rodata", b"535.1\x00550.1\0")]));
    root.file("cuda/lib64/stubs/libnvidia-ml.so.1", &whole);
    root.file("small/libnvidia-ml.so.1", elf_file(&[(".rodata", b"x\0")]));
    let version = Some("535.261.03".to_owned());
    for (folder, version, problem) in [
        ("/empty", None, Some(LibraryProblem::Empty)),
        ("/text", None, Some(LibraryProblem::Broken)),
        ("/cut", None, Some(LibraryProblem::Broken)),
        ("/plain", version.clone(), None),
        ("/two", None, Some(LibraryProblem::Stub)),
        ("/cuda/lib64/stubs", version, Some(LibraryProblem::Stub)),
        ("/small", None, Some(LibraryProblem::Stub)),
    ] {
        let expected = (format!("{folder}/{NVML}"), "LD_LIBRARY_PATH".to_owned(), version, problem);
        assert_eq!(nvml_of(&root, folder), expected);
    }
    let installed = format!("/{LIB}/libnvidia-ml.so.580.82.09");
    root.link("gone/libnvidia-ml.so.1", "/nowhere");
    assert_eq!(nvml_of(&root, "/gone").0, installed);
    let bare = Root::new(&[("dev/nvidiactl", "")]);
    bare.link("usr/lib64/libnvidia-ml.so.1", "libnvidia-ml.so.550.1");
    let expected = Some(LibraryProblem::Dangling);
    assert_eq!(nvml_of(&bare, "").3, expected);
    bare.link("usr/lib64/libcuda.so.1", "libcuda.so.1");
    let (nvidia, _) = read_with(&bare, &Env::default(), &cx());
    let cuda = nvidia.libraries.cuda.expect("a link");
    assert_eq!(cuda.problem, Some(LibraryProblem::Unreadable));
}

#[test]
fn other_files_of_the_driver_are_listed_once() {
    let root = machine("580.82.09", "580.82.09");
    root.link("lib", "usr/lib");
    for (file, text) in [
        ("libnvidia-glcore.so.550.1", "x"),
        ("libnvidia-opencl.so.1", ""),
        ("libnvidia-container.so.1.17.0", "x"),
        ("libnvidia-egl-wayland.so.1.1.13", "x"),
        ("libcudart.so.12.8", "x"),
        ("libnvidia-nvvm70.so.4", "x"),
    ] {
        root.file(&format!("{LIB}/{file}"), text);
    }
    root.link(&format!("{LIB}/libnvidia-cfg.so.1"), "libnvidia-cfg.so.550.1");
    root.link(&format!("{LIB}/libnvidia-glcore.so.1"), "libnvidia-glcore.so.550.1");
    root.file(&format!("{LIB}/libnvidia-folder.so.550.1/x"), "");
    let nvidia = read_quietly(&root, &library_path(&format!("/{LIB}:/lib")), &cx());
    let others: Vec<_> =
        nvidia.libraries.others.iter().map(|o| (o.name.as_str(), o.problem)).collect();
    let expected = [
        ("libnvidia-cfg.so.1", Some(LibraryProblem::Dangling)),
        ("libnvidia-glcore.so.550.1", None),
        ("libnvidia-opencl.so.1", Some(LibraryProblem::Empty)),
        ("libnvidia-ptxjitcompiler.so.580.82.09", None),
    ];
    assert_eq!(others, expected);
}

#[test]
fn stale_lines_of_the_cache_are_told() {
    let root = machine("580.82.09", "580.82.09");
    let path = |name: &str| format!("/{LIB}/{name}");
    // The link still leads to the files of before.
    driver_library(&root, LIB, "libcudadebugger.so", "550.1");
    root.file(&format!("{LIB}/libcudadebugger.so.580.82.09"), "x");
    root.file("opt/libnvidia-cfg.so.1", "");
    let lines = [
        ("libcuda.so.1", path("libcuda.so.1")),
        ("libnvidia-opencl.so.1", path("libnvidia-opencl.so.1")),
        ("libcudadebugger.so.1", path("libcudadebugger.so.1")),
        ("libnvidia-cfg.so.1", "/opt/libnvidia-cfg.so.1".to_owned()),
        ("libc.so.6", "/gone".to_owned()),
    ];
    let lines = lines.each_ref().map(|(name, path)| (X86_64, 0, *name, path.as_str()));
    root.file("etc/ld.so.cache", cache_file(Format::New, &lines));
    let nvidia = read_quietly(&root, &Env::default(), &cx());
    let stale: Vec<&str> =
        nvidia.libraries.stale_cache.iter().map(|line| line.value.as_str()).collect();
    assert_eq!(stale, ["libnvidia-opencl.so.1", "libcudadebugger.so.1", "libnvidia-cfg.so.1"]);
    assert_eq!(nvidia.libraries.cuda.expect("found").found_by, "ld.so.cache");
}

#[test]
fn wsl_is_not_called_broken() {
    let root = Root::new(&[("dev/dxg", "")]);
    let folder = "usr/lib/wsl/lib";
    root.file(&format!("{folder}/libcuda.so.1"), elf_file(&[(".rodata", b"x\0")]));
    let nvml = elf_file(&[(".rodata", b"\x00580.97\0")]);
    root.file(&format!("{folder}/libnvidia-ml.so.1"), nvml);
    let cached = ["libcuda.so.1", "libnvidia-ml.so.1"].map(|name| format!("/{folder}/{name}"));
    let lines = [
        (X86_64, 0, "libcuda.so.1", cached[0].as_str()),
        (X86_64, 0, "libnvidia-ml.so.1", cached[1].as_str()),
    ];
    root.file("etc/ld.so.cache", cache_file(Format::New, &lines));
    let nvidia = read_quietly(&root, &Env::default(), &cx());
    assert!(nvidia.is_wsl && nvidia.loaded.is_none() && !nvidia.looked_on_disk);
    let nvml = nvidia.libraries.nvml.expect("found");
    assert_eq!((nvml.version.as_deref(), nvml.problem), (Some("580.97"), None));
    assert_eq!(nvidia.libraries.cuda.expect("found").problem, None);
}

type Make = fn(&Root, &str);

/// Every file that is read, in the place of each of them once a fifo, a loop, nothing, a gigabyte,
/// a folder, or bytes: no panic, no wait.
#[test]
fn hostile_files_are_notes_at_most() {
    let paths = [
        "proc/driver/nvidia/version",
        "proc/driver/nvidia/gpus",
        "proc/driver/nvidia/gpus/0000:3b:00.0/information",
        "proc/driver/nvidia/params",
        "proc/modules",
        "proc/stat",
        "sys/module",
        "sys/module/nvidia/refcnt",
        "sys/module/nvidia/holders",
        "etc/ld.so.cache",
        "usr/lib",
        "usr/lib64/libcuda.so.1",
        "usr/lib64/libnvidia-ml.so.1",
        "usr/lib64/libnvidia-glcore.so.550.1",
        "usr/local",
        "lib/modules/6.8.0",
        "lib/modules/6.8.0/modules.dep",
        "lib/modules/6.8.0/extra/nvidia.ko",
        "var/lib/dkms",
        "var/lib/dkms/nvidia/1/build/make.log",
        "var/cache/apt/archives",
        "var/log/kern.log",
        "run/nvidia-persistenced/socket",
        "usr/bin/nvidia-modprobe",
        "usr/bin/nv-fabricmanager",
        "dev",
    ];
    let switch = [PciDevice { vendor: VENDOR, kind: PciKind::NvSwitch, ..PciDevice::default() }];
    let cx = Context { depth: Depth::Full, pci: &switch, ..cx() };
    let make: [(&str, Make); 6] = [
        ("a fifo", |root, path| {
            let fifo = root.file(path, "");
            std::fs::remove_file(&fifo).expect("our file");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        }),
        ("a loop", |root, path| {
            let name = path.rsplit('/').next().expect("a name");
            root.link(path, name);
        }),
        ("nothing", |root, path| drop(root.file(path, ""))),
        ("a gigabyte", |root, path| {
            let file = std::fs::File::create(root.file(path, "")).expect("our file");
            file.set_len(1 << 30).expect("a sparse file");
        }),
        ("a folder", |root, path| drop(root.file(&format!("{path}/{path}"), ""))),
        ("bytes", |root, path| drop(root.file(path, (0..=255).collect::<Vec<u8>>()))),
    ];
    for (kind, make) in make {
        for path in paths {
            let root = Root::new(&[]);
            make(&root, path);
            let start = Instant::now();
            let _ = read_with(&root, &library_path("/usr/lib64"), &cx);
            assert!(start.elapsed() < Duration::from_secs(5), "{kind} at {path}");
        }
        // All at once, but for those that are folders of others.
        let root = Root::new(&[]);
        let is_leaf =
            |path: &&&str| !paths.iter().any(|other| other.starts_with(&format!("{path}/")));
        paths.iter().filter(is_leaf).for_each(|path| make(&root, path));
        let _ = read_with(&root, &library_path("/usr/lib64"), &cx);
    }
}
