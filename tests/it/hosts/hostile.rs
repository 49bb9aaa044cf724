//! Roots that hold anything at all: reading and judging them ends soon, and never panics.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nvlaunch::host::depth::Depth;
use nvlaunch::host::survey::survey;
use nvlaunch::preflight::Intent;
use nvlaunch::preflight::decide::decide;
use nvlaunch::preflight::judge::judge;

use super::{Host, scratch};
use crate::doubles::alone;

/// A second is what is promised; the tests' machine may be busy.
const BOUND: Duration = Duration::from_secs(10);

/// The machines that are made hostile: between them, every file that is ever read.
const BASES: [&str; 4] = [
    "mismatch-reboot-does-not-help",
    "healthy-h200-nvswitch",
    "mismatch-rhel-dnf",
    "gcu-t20-mmengine-cuda-torch",
];

/// A copy of a host's root that may be spoiled.
struct Copy {
    host: Host,
    dir: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let host = Host::named(name);
        let dir = scratch();
        copy(&host.root(), dir.path());
        Self { host, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let parent = path.parent().expect("it lies in a folder");
        fs_err::create_dir_all(parent).expect("a folder in the copy");
        path
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs_err::write(self.path(name), content).expect("a file in the copy");
    }

    /// Every regular file of it.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut left = vec![self.dir.path().to_owned()];
        while let Some(path) = left.pop() {
            let metadata = path.symlink_metadata().expect("it was listed");
            if metadata.is_dir() {
                let entries = fs_err::read_dir(&path).expect("it was listed");
                left.extend(entries.map(|entry| entry.expect("an entry").path()));
            } else if metadata.is_file() {
                files.push(path);
            }
        }
        assert!(files.len() > 20, "{} files", files.len());
        files
    }

    /// Reads and judges it, at both depths, each within the bound.
    #[track_caller]
    fn survives(&self, what: &str) {
        let _alone = alone();
        for depth in [Depth::Launch, Depth::Full] {
            let root = self.dir.path().to_owned();
            let (env, interpreter) = (self.host.env(), self.host.about.interpreter.clone());
            let (send, receive) = mpsc::channel();
            let start = Instant::now();
            std::thread::spawn(move || {
                let facts = survey(&root, &env, depth, interpreter.as_deref());
                let intent = Intent { nproc: Some(2), nnodes: 2, ..Intent::default() };
                let judged = decide(&facts, judge(&facts, &intent), &intent);
                // What is written must stay small enough to be sent and kept.
                let size = serde_json::to_string(&facts).map(|text| text.len());
                let _ = send.send((judged.findings.len(), size));
            });
            let name = &self.host.name;
            let (_, size) = match receive.recv_timeout(BOUND) {
                Ok(answer) => answer,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("{name}, {what}, {depth:?}: not within {BOUND:?}")
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    panic!("{name}, {what}, {depth:?}: it panicked")
                }
            };
            let size = size.expect("facts are plain values");
            assert!(size < 4 << 20, "{name}, {what}, {depth:?}: {size} bytes of facts");
            println!("{name}, {what}, {depth:?}: {:?}, {size} bytes of facts", start.elapsed());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs_err::read_dir(from).expect("a folder of the corpus") {
        let entry = entry.expect("an entry of the corpus");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("the kind of an entry");
        if kind.is_dir() {
            fs_err::create_dir(&to).expect("a folder in the copy");
            copy(&from, &to);
        } else if kind.is_symlink() {
            symlink(from.read_link().expect("a link"), &to).expect("a link in the copy");
        } else {
            fs_err::copy(&from, &to).expect("a file in the copy");
        }
    }
}

/// Spoils every regular file of every base in one way.
fn spoil(what: &str, mut change: impl FnMut(&Path)) {
    for base in BASES {
        let copy = Copy::of(base);
        copy.files().iter().for_each(|path| change(path));
        copy.survives(what);
    }
}

/// Bytes that look like nothing, the same every time.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn files_of_noise() {
    let mut seed = 7;
    spoil("noise", |path| {
        seed += 1;
        fs_err::write(path, noise(3000, seed)).expect("a file");
    });
}

#[test]
fn files_with_a_right_start_and_noise_after_it() {
    spoil("noise after the start", |path| {
        let mut bytes = fs_err::read(path).expect("a file");
        let keep = bytes.len().min(72);
        bytes.truncate(keep);
        bytes.extend(noise(3000, 11));
        fs_err::write(path, bytes).expect("a file");
    });
}

#[test]
fn files_of_ones() {
    spoil("ones behind the magic", |path| {
        let mut bytes = fs_err::read(path).expect("a file");
        bytes.iter_mut().skip(20).for_each(|byte| *byte = 0xff);
        fs_err::write(path, bytes).expect("a file");
    });
}

#[test]
fn truncated_and_empty_files() {
    spoil("cut in half", |path| {
        let bytes = fs_err::read(path).expect("a file");
        fs_err::write(path, &bytes[..bytes.len() / 2]).expect("a file");
    });
    spoil("empty", |path| fs_err::write(path, "").expect("a file"));
}

#[test]
fn enormous_files() {
    // They are sparse: the content, and then zeros without an end.
    spoil("enormous", |path| {
        let file = File::options().write(true).open(path).expect("a file");
        file.set_len(1 << 40).expect("a file system with sparse files");
    });
}

#[test]
fn one_endless_line() {
    spoil("one endless line", |path| {
        let mut bytes = fs_err::read(path).expect("a file");
        bytes.retain(|byte| *byte != b'\n');
        bytes.resize(256 << 10, b'9');
        fs_err::write(path, bytes).expect("a file");
    });
}

#[test]
fn fifos_folders_and_loops_in_place_of_files() {
    spoil("fifos", |path| {
        fs_err::remove_file(path).expect("a file");
        nix::unistd::mkfifo(path, Mode::S_IRWXU).expect("a fifo");
    });
    spoil("folders", |path| {
        fs_err::remove_file(path).expect("a file");
        fs_err::create_dir(path).expect("a folder");
    });
    spoil("links to themselves", |path| {
        fs_err::remove_file(path).expect("a file");
        symlink(path.file_name().expect("a name"), path).expect("a link");
    });
    spoil("links to the folder above", |path| {
        fs_err::remove_file(path).expect("a file");
        symlink("..", path).expect("a link");
    });
    spoil("links to devices that never end", |path| {
        fs_err::remove_file(path).expect("a file");
        symlink("/dev/zero", path).expect("a link");
    });
}

#[test]
fn unreadable_files() {
    if nix::unistd::geteuid().is_root() {
        println!("skipped: root may read every file");
        return;
    }
    let forbid = |path: &Path| {
        let nobody = std::fs::Permissions::from_mode(0o000);
        fs_err::set_permissions(path, nobody).expect("our own file");
    };
    spoil("unreadable", forbid);
}

#[test]
fn folders_that_are_loops() {
    for base in BASES {
        let copy = Copy::of(base);
        for folder in ["sys/bus/pci/devices", "sys/module", "proc/driver/nvidia/gpus", "dev"] {
            let path = copy.path(folder).join("0000:99:00.0");
            let _ = symlink(".", &path);
            let _ = symlink("..", copy.path(folder).join("0000:9a:00.0"));
            let _ = symlink("nvidia77", copy.path(folder).join("nvidia77"));
        }
        for folder in ["usr/lib/modules", "var/lib/dkms/nvidia", "usr/lib/x86_64-linux-gnu"] {
            let _ = symlink("..", copy.path(folder).join("loop"));
            let _ = symlink("loop", copy.path(folder).join("580.1.2"));
        }
        copy.survives("folders that are loops");
    }
}

#[test]
fn links_that_lead_out_of_the_root() {
    // What they lead to says that a driver is loaded; below the root there is none.
    let outside = tempfile::tempdir().expect("a folder outside");
    fs_err::create_dir_all(outside.path().join("driver/nvidia")).expect("a folder");
    fs_err::write(
        outside.path().join("driver/nvidia/version"),
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  111.22.33  Wed Aug 6\n",
    )
    .expect("a file");
    let copy = Copy::of("driver-not-loaded");
    let up = "../".repeat(40);
    let target = format!("{up}{}/driver", outside.path().display());
    symlink(&target, copy.path("proc/driver")).expect("a link");
    copy.survives("a link out of the root");
    let facts = survey(copy.dir.path(), &copy.host.env(), Depth::Full, None);
    let text = serde_json::to_string(&facts).expect("facts are plain values");
    assert!(!text.contains("111.22.33"), "it was read through a link out of the root");
}

#[test]
fn crowded_folders() {
    let copy = Copy::of("mismatch-reboot-does-not-help");
    for index in 0..2000 {
        copy.write(&format!("dev/nvidia{}", 10 + index), "");
        copy.write(&format!("usr/lib/x86_64-linux-gnu/libnvidia-x.so.1.{index}"), "\x7fELF");
        copy.write(&format!("var/lib/dkms/nvidia/580.1.{index}/build/make.log"), "error\n");
        copy.write(&format!("usr/lib/modules/6.8.0-{index}/modules.dep"), "");
    }
    for index in 0..500 {
        let address = format!("{index:04x}:01:00.0");
        copy.write(&format!("sys/bus/pci/devices/{address}/vendor"), "0x10de\n");
        copy.write(&format!("sys/bus/pci/devices/{address}/device"), "0x2230\n");
        copy.write(&format!("sys/bus/pci/devices/{address}/class"), "0x030000\n");
    }
    copy.survives("crowded folders");
}

#[test]
fn a_history_of_200_megabytes() {
    let copy = Copy::of("mismatch-a6000-unattended-upgrade");
    let log = copy.path("var/log/apt/history.log");
    let entry = fs_err::read(&log).expect("the log of the corpus");
    let mut file = File::create(&log).expect("a log");
    let block = entry.repeat((4 << 20) / entry.len());
    for _ in 0..50 {
        file.write_all(&block).expect("a part of the log");
    }
    drop(file);
    let dpkg = File::options().write(true).open(copy.path("var/log/dpkg.log")).expect("a log");
    dpkg.set_len(200 << 20).expect("a file system with sparse files");
    copy.survives("logs of 200 MB");
}

#[test]
fn a_list_of_modules_that_goes_in_circles() {
    let copy = Copy::of("driver-not-loaded");
    let kernel = "usr/lib/modules/6.8.0-79-generic";
    let mut text = "updates/a.ko: updates/b.ko\nupdates/b.ko: updates/a.ko\n".repeat(20_000);
    text.push_str("updates/nvidia.ko: updates/nvidia.ko\n../../../../nvidia.ko:\n/nvidia.ko:\n:\n");
    copy.write(&format!("{kernel}/modules.dep"), text.repeat(5));
    symlink("nvidia.ko", copy.path(&format!("{kernel}/updates/nvidia.ko"))).expect("a link");
    copy.survives("a modules.dep in circles");
}

#[test]
fn archives_that_grow_without_end() {
    let copy = Copy::of("mismatch-reboot-does-not-help");
    // A zstd frame of blocks that repeat one byte: 4 bytes become 128 KiB, 8000 times.
    let mut zst = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for _ in 0..8000 {
        let header: u32 = (128 << 10) << 3 | 1 << 1;
        zst.extend(&header.to_le_bytes()[..3]);
        zst.push(b'x');
    }
    copy.write("usr/lib/modules/6.8.0-79-generic/updates/dkms/nvidia.ko.zst", zst);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b'\n'; 1 << 20];
    for _ in 0..300 {
        gz.write_all(&zeros).expect("memory");
    }
    let gz = gz.finish().expect("memory");
    for number in 1..=12 {
        copy.write(&format!("var/log/apt/history.log.{number}.gz"), &gz);
    }
    copy.survives("archives that grow without end");
}
