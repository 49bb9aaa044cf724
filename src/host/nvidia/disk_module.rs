//! The driver's module files for a kernel: what `modprobe` would load, whatever is loaded now.
//!
//! - M1: `modules.dep` says which files there are, as it does to `modprobe`; where it is missing
//!   the folders of the known installers are looked into.
//! - M2: a compressed module is unpacked in memory, up to [`MAX_UNPACKED`] bytes, and all of them
//!   within [`MAX_TIME`]; one that is not compressed is read piece by piece. After [`PATIENCE`] what a
//!   module says of itself is enough, and whether it is signed stays unknown.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use memchr::memmem;

use super::xz;
use crate::host::elf::{Bytes, Elf, ElfError, ModInfo};
use crate::host::facts::Note;
use crate::host::facts::nvidia::{DiskModule, Flavour};
use crate::host::files;

/// Bytes of `modules.dep`; real ones have a megabyte.
const MAX_DEP: u64 = 16 << 20;
/// Bytes of a module after unpacking; the open one has 19 megabytes.
pub const MAX_UNPACKED: usize = 200 << 20;
/// Bytes of an `.xz` file, and of what comes out: it is slower than the others.
const MAX_PACKED: u64 = 64 << 20;
const MAX_FROM_XZ: usize = 100 << 20;
/// How long unpacking may take; a hostile file would take longer.
pub const MAX_TIME: Duration = Duration::from_secs(1);
/// How long unpacking goes on when only the signature is still to come.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// Bytes of texts around `vermagic=`; real ones have three thousand.
const MAX_TEXTS: usize = 64 << 10;
/// Bytes of `.modinfo`.
const MAX_MODINFO: u64 = 1 << 20;
/// Module files that are read.
const MAX_MODULES: usize = 8;
/// What ends a signed module (kernel: `include/linux/module_signature.h`).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// Folders below `/lib/modules/<kernel>` where installers put the module.
const FOLDERS: &[&str] =
    &["updates/dkms", "updates", "extra", "weak-updates", "kernel/drivers/video"];

/// The driver's module files for `kernel`. Where `wants_signature`, more time is spent to know
/// whether they are signed, which stands at their end.
pub fn read(
    root: &Path,
    kernel: &str,
    wants_signature: bool,
    notes: &mut Vec<Note>,
) -> Vec<DiskModule> {
    // A name that is a path would lead somewhere else.
    if kernel.is_empty() || kernel.contains('/') || kernel == ".." {
        return Vec::new();
    }
    let folder = format!("/lib/modules/{kernel}");
    let dep = format!("{folder}/modules.dep");
    let mut paths = match files::noted(files::read_bytes(root, &dep, MAX_DEP), notes) {
        Some(dep) => listed(&dep, &folder),
        None => guessed(root, &folder, notes),
    };
    if paths.len() > MAX_MODULES {
        notes.push(files::note(Path::new(&dep), "names more modules of the driver than are read"));
        paths.truncate(MAX_MODULES);
    }
    let until = Instant::now() + MAX_TIME;
    paths.iter().map(|path| describe(root, path, wants_signature, until)).collect()
}

/// The driver's modules that `modules.dep` names, by their paths on the machine.
pub(super) fn listed(dep: &[u8], folder: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let finder = memmem::Finder::new("nvidia");
    let mut rest = dep;
    // Few lines have the word; the others are not looked at, and each line once.
    while let Some(at) = finder.find(rest) {
        let start = memchr::memrchr(b'\n', &rest[..at]).map_or(0, |end| end + 1);
        let end = memchr::memchr(b'\n', &rest[at..]).map_or(rest.len(), |end| at + end);
        let line = &rest[start..end];
        rest = &rest[end..];
        // What stands behind the colon are the modules that a module needs.
        let path = &line[..memchr::memchr(b':', line).unwrap_or(line.len())];
        if path.len() > 4096 {
            continue;
        }
        let Ok(path) = std::str::from_utf8(path) else { continue };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
        let name = path.rsplit('/').next().unwrap_or_default();
        if is_driver_module(name) && !paths.contains(&path) && paths.len() <= MAX_MODULES {
            paths.push(path);
        }
    }
    paths
}

fn guessed(root: &Path, folder: &str, notes: &mut Vec<Note>) -> Vec<String> {
    let mut paths = Vec::new();
    for below in FOLDERS {
        let folder = format!("{folder}/{below}");
        let names = files::names(root, &folder, notes);
        let modules = names.iter().filter(|name| is_driver_module(name));
        paths.extend(modules.map(|name| format!("{folder}/{name}")));
    }
    paths
}

/// Whether a file is the driver's main module: `nvidia.ko`, Debian's `nvidia-current.ko`,
/// `nvidia-tesla-470.ko` and the like, with or without compression.
fn is_driver_module(name: &str) -> bool {
    let Some((stem, end)) = name.split_once(".ko") else { return false };
    let is_kind = |part: &str| {
        matches!(part, "current" | "legacy" | "open" | "server" | "tesla")
            || part.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut parts = stem.split('-');
    matches!(end, "" | ".zst" | ".xz" | ".gz")
        && parts.next() == Some("nvidia")
        && parts.all(is_kind)
}

fn describe(root: &Path, path: &str, wants_signature: bool, until: Instant) -> DiskModule {
    let mut module = DiskModule { path: path.to_owned(), ..DiskModule::default() };
    if let Err(problem) = examine(root, &mut module, wants_signature, until) {
        module.problem = Some(problem);
    }
    module
}

fn examine(
    root: &Path,
    module: &mut DiskModule,
    wants_signature: bool,
    until: Instant,
) -> Result<(), String> {
    let in_words = |error: io::Error| {
        if files::is_absence(&error) { "the file is missing".to_owned() } else { error.to_string() }
    };
    let file = files::open(root, &module.path).map_err(in_words)?.file;
    let time = until.saturating_duration_since(Instant::now());
    let patience = if wants_signature { time } else { PATIENCE.min(time) };
    let unpacked = unpack(&file, Bounded::new(MAX_UNPACKED, patience, time));
    match unpacked.map_err(|error| format!("cannot be unpacked: {error}"))? {
        Unpacked::Whole(bytes) => fill(module, &bytes[..]).map_err(|error| error.to_string()),
        Unpacked::Information(info) => {
            say(module, &info);
            Ok(())
        }
        Unpacked::Never => fill(module, &file).map_err(|error| error.to_string()),
    }
}

/// Reads what a module says of itself, and whether it is signed.
fn fill<B: Bytes + ?Sized>(module: &mut DiskModule, bytes: &B) -> Result<(), ElfError> {
    let elf = Elf::read(bytes)?;
    say(module, &ModInfo::parse(&elf.section(".modinfo", MAX_MODINFO)?.unwrap_or_default()));
    let mut end = [0; SIGNED.len()];
    if let Some(start) = bytes.size()?.checked_sub(SIGNED.len() as u64) {
        bytes.read_at(&mut end, start)?;
        module.is_signed = Some(end == SIGNED);
    }
    Ok(())
}

fn say(module: &mut DiskModule, info: &ModInfo) {
    module.version = info.get("version").map(str::to_owned);
    module.flavour = match info.get("license") {
        Some(licence) if licence.contains("GPL") => Flavour::Open,
        Some("NVIDIA") => Flavour::Proprietary,
        _ => Flavour::Unknown,
    };
    let kernel = info.get("vermagic").and_then(|magic| magic.split_ascii_whitespace().next());
    module.kernel = kernel.map(str::to_owned);
}

/// What there is of a module.
#[derive(Debug)]
pub(super) enum Unpacked {
    /// It is not compressed.
    Never,
    /// All of its bytes.
    Whole(Vec<u8>),
    /// What it says of itself; the rest would have taken too long.
    Information(ModInfo),
}

/// Unpacks a module; how it is compressed, its first bytes say.
pub(super) fn unpack(mut file: &File, mut output: Bounded) -> io::Result<Unpacked> {
    let mut start = [0; 6];
    // A shorter file is none of those.
    if Bytes::read_at(file, &mut start, 0).is_err() {
        return Ok(Unpacked::Never);
    }
    let mut input = BufReader::with_capacity(256 << 10, &mut file);
    let result = match start {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ruzstd::decoding::StreamingDecoder::new(&mut input)
            .map_err(io::Error::other)
            .and_then(|mut decoder| copy(&mut decoder, &mut output)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let mut packed = Vec::new();
            input.take(MAX_PACKED).read_to_end(&mut packed)?;
            let xz::Output { bytes, is_whole } =
                xz::unpack(&packed, output.max.min(MAX_FROM_XZ), output.until)?;
            if is_whole {
                return Ok(Unpacked::Whole(bytes));
            }
            let information = information_in(&bytes).map(Unpacked::Information);
            return information.ok_or_else(|| io::Error::other("it takes too long"));
        }
        [0x1f, 0x8b, ..] => copy(&mut flate2::bufread::GzDecoder::new(&mut input), &mut output),
        _ => return Ok(Unpacked::Never),
    };
    match (result, output.information) {
        (Ok(()), _) => Ok(Unpacked::Whole(output.bytes)),
        (Err(_), Some(information)) => Ok(Unpacked::Information(information)),
        (Err(error), None) => Err(error),
    }
}

/// The `.modinfo` that stands somewhere in `bytes`, with what precedes and follows it: the texts
/// around `vermagic=`, up to what is no text. `None` also where its end is not there yet.
fn information_in(bytes: &[u8]) -> Option<ModInfo> {
    let is_text = |byte: &u8| matches!(byte, 0 | b'\t' | b'\n' | b' '..=b'~');
    memmem::find_iter(bytes, b"\0vermagic=").find_map(|at| {
        let before = bytes[..at].iter().rev().take(MAX_TEXTS).take_while(|byte| is_text(byte));
        let after = bytes[at..].iter().take(MAX_TEXTS).take_while(|byte| is_text(byte)).count();
        let end = at + after;
        let info = ModInfo::parse(&bytes[at - before.count()..end]);
        let is_whole = end < bytes.len();
        let has_all = ["version", "license", "vermagic"].iter().all(|key| info.get(key).is_some());
        (is_whole && has_all).then_some(info)
    })
}

fn copy(from: &mut impl Read, to: &mut Bounded) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

/// Takes bytes until there are too many, or it takes too long (M2).
pub(super) struct Bounded {
    bytes: Vec<u8>,
    max: usize,
    /// From when on it ends as soon as the module said what it is.
    patient_until: Instant,
    until: Instant,
    /// How many of the bytes were searched for that.
    searched: usize,
    information: Option<ModInfo>,
}

impl Bounded {
    pub(super) fn new(max: usize, patience: Duration, time: Duration) -> Self {
        let now = Instant::now();
        let (patient_until, until) = (now + patience, now + time);
        Self { bytes: Vec::new(), max, patient_until, until, searched: 0, information: None }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::Error::other("it is larger than any module"));
        }
        self.bytes.extend_from_slice(bytes);
        let now = Instant::now();
        if now >= self.patient_until {
            // Texts that began in what was searched may end in what was not.
            let from = self.searched.saturating_sub(2 * MAX_TEXTS);
            self.information = information_in(&self.bytes[from..]);
            self.searched = self.bytes.len();
            if self.information.is_some() || now >= self.until {
                return Err(io::Error::other("it takes too long"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;
    use crate::host::elf::tests::elf_file;
    use crate::host::tests::Root;

    const KERNEL: &str = "6.8.0-45-generic";

    fn module(version: &str, licence: &str) -> Vec<u8> {
        let info =
            format!("version={version}\0license={licence}\0vermagic={KERNEL} SMP mod_unload \0");
        elf_file(&[(".text", &[0x90; 9999]), (".modinfo", info.as_bytes())])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn xz(mut bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        lzma_rs::xz_compress(&mut bytes, &mut packed).expect("in memory");
        packed
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read_one(root: &Root) -> DiskModule {
        let mut notes = Vec::new();
        let mut modules = read(root.path(), KERNEL, false, &mut notes);
        assert_eq!((modules.len(), notes.len()), (1, 0));
        modules.remove(0)
    }

    #[test]
    fn the_drivers_module_is_told_from_its_helpers() {
        for name in [
            "nvidia.ko",
            "nvidia.ko.zst",
            "nvidia-current.ko.xz",
            "nvidia-tesla-470.ko",
            "nvidia-legacy-390xx.ko.gz",
            "nvidia-current-open.ko",
        ] {
            assert!(is_driver_module(name), "{name}");
        }
        for name in [
            "nvidia-uvm.ko",
            "nvidia-current-uvm.ko.xz",
            "nvidia-wmi-ec-backlight.ko",
            "nvidiafb.ko",
            "i2c-nvidia-gpu.ko",
            "nvidia-drm.ko.zst",
            "nvidia.ko.bak",
            "nvidia",
            "typec_nvidia.ko",
        ] {
            assert!(!is_driver_module(name), "{name}");
        }
    }

    #[test]
    fn the_list_of_modules_is_read() {
        let dep = "kernel/drivers/video/fbdev/nvidia/nvidiafb.ko.zst: kernel/a.ko\n\
                   updates/dkms/nvidia-uvm.ko.zst: updates/dkms/nvidia.ko.zst\n\
                   updates/dkms/nvidia.ko.zst:\n\
                   kernel/nvidia-580-open/nvidia.ko: kernel/b.ko\n\
                   /lib/modules/6.8.0/extra/nvidia.ko.xz: x\n\
                   updates/dkms/nvidia.ko.zst: again\n\
                   weak-updates/nvidia/nvidia.ko";
        let expected = [
            "/lib/modules/6.8.0/updates/dkms/nvidia.ko.zst",
            "/lib/modules/6.8.0/kernel/nvidia-580-open/nvidia.ko",
            "/lib/modules/6.8.0/extra/nvidia.ko.xz",
            "/lib/modules/6.8.0/weak-updates/nvidia/nvidia.ko",
        ];
        assert_eq!(listed(dep.as_bytes(), "/lib/modules/6.8.0"), expected);
        assert_eq!(listed(b"", "/x"), [""; 0]);
        let garbage: Vec<u8> =
            (0..10_000_000_u32).map(|at| at.wrapping_mul(97).to_le_bytes()[1]).collect();
        assert_eq!(listed(&garbage, "/x"), [""; 0]);
        let endless = "nvidia".repeat(1_000_000);
        let start = Instant::now();
        assert_eq!(listed(endless.as_bytes(), "/x"), [""; 0]);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    fn modules_are_read_whatever_their_compression() {
        let open = module("580.95.05", "Dual MIT/GPL");
        let signed = [&open[..], &[7; 300], SIGNED].concat();
        for (end, bytes, is_signed) in [
            ("", open.clone(), false),
            ("", signed.clone(), true),
            (".zst", zstd(&open), false),
            (".zst", zstd(&signed), true),
            (".xz", xz(&signed), true),
            (".gz", gzip(&signed), true),
            // What it is, its bytes say.
            (".xz", gzip(&open), false),
        ] {
            let name = format!("updates/dkms/nvidia.ko{end}");
            let root = Root::new(&[]);
            root.file(&format!("lib/modules/{KERNEL}/modules.dep"), format!("{name}: x\n"));
            root.file(&format!("lib/modules/{KERNEL}/{name}"), bytes);
            let expected = DiskModule {
                path: format!("/lib/modules/{KERNEL}/{name}"),
                version: Some("580.95.05".to_owned()),
                flavour: Flavour::Open,
                kernel: Some(KERNEL.to_owned()),
                is_signed: Some(is_signed),
                problem: None,
            };
            assert_eq!(read_one(&root), expected, "{name}");
        }
    }

    #[test]
    fn without_a_list_the_known_folders_are_looked_into() {
        let root = Root::new(&[]);
        let path = format!("lib/modules/{KERNEL}/kernel/drivers/video/nvidia.ko");
        root.file(&path, module("550.1", "NVIDIA"));
        let module = read_one(&root);
        assert_eq!(module.flavour, Flavour::Proprietary);
        assert_eq!(module.path, format!("/{path}"));
        for kernel in ["", "..", "../..", "a/b"] {
            assert_eq!(read(root.path(), kernel, false, &mut Vec::new()), []);
        }
    }

    #[test]
    fn a_module_that_cannot_be_read_says_why() {
        let whole = zstd(&module("580.95.05", "NVIDIA"));
        for (bytes, expected) in [
            (None, "the file is missing"),
            (Some(Vec::new()), "the file is empty"),
            (Some(b"text, and no module".to_vec()), "not an ELF file"),
            (Some(whole[..whole.len() / 2].to_vec()), "cannot be unpacked: "),
            (Some(b"\xfd7zXZ\0junk".to_vec()), "cannot be unpacked: "),
            (Some(b"\x1f\x8bjunk".to_vec()), "cannot be unpacked: "),
        ] {
            let root = Root::new(&[]);
            root.file(&format!("lib/modules/{KERNEL}/modules.dep"), "extra/nvidia.ko:\n");
            if let Some(bytes) = bytes {
                root.file(&format!("lib/modules/{KERNEL}/extra/nvidia.ko"), bytes);
            }
            let module = read_one(&root);
            assert_eq!(module.version, None);
            let problem = module.problem.expect(expected);
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn unpacking_has_an_end() {
        let zeros = gzip(&vec![0; 2_000_000]);
        let run = |max, time| {
            let mut output = Bounded::new(max, time, time);
            let result = copy(&mut flate2::bufread::GzDecoder::new(&zeros[..]), &mut output);
            assert!(output.bytes.len() <= max);
            result.err().map(|error| error.to_string())
        };
        let minute = Duration::from_secs(60);
        assert_eq!(run(2_000_000, minute), None);
        let too_large = "it is larger than any module".to_owned();
        assert_eq!(run(1_999_999, minute), Some(too_large));
        assert_eq!(run(2_000_000, Duration::ZERO), Some("it takes too long".to_owned()));
    }

    #[test]
    fn a_module_that_takes_long_still_says_what_it_is() {
        let mut whole = module("580.95.05", "Dual MIT/GPL");
        // Code that cannot be compressed follows.
        whole.extend((0..400_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]));
        let expected = ModInfo::parse(b"version=580.95.05\0license=Dual MIT/GPL");
        for packed in [gzip(&whole), zstd(&whole)] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&packed).and_then(|()| file.rewind()).expect("writable");
            let unpacked = unpack(&file, Bounded::new(MAX_UNPACKED, Duration::ZERO, MAX_TIME * 60));
            let Ok(Unpacked::Information(info)) = unpacked else { panic!("{unpacked:?}") };
            assert_eq!(info.get("version"), expected.get("version"));
            assert_eq!(info.get("license"), expected.get("license"));
        }
        let texts = b"\x01license=NVIDIA\0\0parm=a:b\nc\0vermagic=6.8.0 SMP\0version=550.1\0";
        assert_eq!(information_in(texts), None, "its end is not there");
        let ended = [texts, &b"\xff"[..]].concat();
        let info = information_in(&ended).expect("whole");
        assert_eq!((info.get("version"), info.get("parm")), (Some("550.1"), Some("a:b\nc")));
        assert_eq!(information_in(b"\x01version=1\0vermagic=6\0\xff"), None);
    }

    #[test]
    fn a_list_that_is_no_file_is_a_note() {
        let root = Root::new(&[]);
        root.link(&format!("lib/modules/{KERNEL}/modules.dep"), "modules.dep");
        root.link(&format!("lib/modules/{KERNEL}/extra"), "..");
        let mut notes = Vec::new();
        assert_eq!(read(root.path(), KERNEL, false, &mut notes), []);
        assert_eq!(notes.len(), 1);
    }
}
