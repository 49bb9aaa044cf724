//! Which file the dynamic linker of the ranks takes for a library that is opened by its bare name,
//! as NCCL, `PyTorch` and pynvml open `libnvidia-ml.so.1`.
//!
//! Nothing is loaded: `LD_LIBRARY_PATH`, `/etc/ld.so.cache` and the default folders are read as
//! glibc reads them (elf/dl-load.c, elf/dl-cache.c, sysdeps/generic/dl-cache.h).
//!
//! - L1: the order is `LD_LIBRARY_PATH`, the cache, the default folders; the first file wins.
//! - L2: a file that is missing, unreadable or for another kind of machine is passed over; one that
//!   is empty or no ELF file ends the search, and loading it fails.
//! - L3: a relative folder in `LD_LIBRARY_PATH` means another place to every process; it is left
//!   out, with a note. An empty entry is the working directory, where the root is this machine's.
//!
//! What is left out: `DT_RPATH` of the program, `LD_PRELOAD`, and folders for processor
//! capabilities (`glibc-hwcaps`) outside the cache: a driver has no libraries there.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::elf::{Elf, ElfError};
use super::facts::Note;
use super::files::{self, Opened};
use crate::env_vars;
use crate::settings::env::Env;

/// The linker's cache.
pub const CACHE: &str = "/etc/ld.so.cache";
/// Bytes of the cache that are read; real ones have less than a megabyte.
const MAX_CACHE: u64 = 16 << 20;
/// Entries of `LD_LIBRARY_PATH` that are looked at.
const MAX_FOLDERS: usize = 256;

/// Where glibc looks after its cache, by distribution; what is not there is passed over. The last
/// is where `NixOS` puts the driver for programs that were built to look there.
const DEFAULT_FOLDERS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/run/opengl-driver/lib",
];

/// How the linker comes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// `LD_LIBRARY_PATH`
    Variable,
    /// `/etc/ld.so.cache`
    Cache,
    /// A folder that it always searches.
    Default,
}

impl FoundBy {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Variable => "LD_LIBRARY_PATH",
            Self::Cache => "ld.so.cache",
            Self::Default => "default folder",
        }
    }
}

/// A line of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The library's name, `libcuda.so.1`.
    pub name: String,
    /// Its file.
    pub path: String,
    /// Whether it is for 64-bit programs of glibc.
    pub is_64_bit: bool,
    /// Whether it is for some processors only.
    pub is_special: bool,
}

/// The places that are searched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The folders of `LD_LIBRARY_PATH`.
    pub folders: Vec<PathBuf>,
    /// The lines of the cache for the libraries that were asked for.
    pub cache: Vec<CacheEntry>,
}

/// A candidate that the linker takes, or would have taken.
#[derive(Debug)]
pub struct Candidate {
    /// The path that the linker opens.
    pub path: PathBuf,
    /// How it comes to it.
    pub by: FoundBy,
    /// The file, or why it is none that works.
    pub file: Result<Opened, Fault>,
}

/// Why a file does not work as a library.
#[derive(Debug)]
pub enum Fault {
    /// A link to nothing.
    Dangling,
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is for another kind of machine.
    OtherMachine,
    /// It has no bytes.
    Empty,
    /// It is no ELF file, or is cut off.
    Broken(ElfError),
}

impl Fault {
    /// Whether the linker goes on with its search (L2).
    fn is_passed_over(&self) -> bool {
        matches!(self, Self::Dangling | Self::Unreadable(_) | Self::OtherMachine)
    }
}

impl Search {
    /// Reads the places for the libraries whose names `is_wanted` accepts.
    pub fn read(
        root: &Path,
        env: &Env,
        is_wanted: impl Fn(&str) -> bool,
        notes: &mut Vec<Note>,
    ) -> Self {
        let is_this_machine = root == Path::new("/");
        let working_dir = is_this_machine.then(std::env::current_dir).and_then(Result::ok);
        let variable = env.get_nonempty(env_vars::LD_LIBRARY_PATH).unwrap_or_default();
        let folders = library_path(variable, working_dir.as_deref(), notes);
        let bytes = files::noted(files::read_bytes(root, CACHE, MAX_CACHE), notes);
        let cache = bytes.map_or_else(Vec::new, |bytes| {
            parse_cache(&bytes, is_wanted).unwrap_or_else(|what| {
                notes.push(files::note(Path::new(CACHE), what));
                Vec::new()
            })
        });
        Self { folders, cache }
    }

    /// The file that the linker takes for `name`. Where none works, the first that is there and
    /// does not.
    pub fn find(&self, root: &Path, name: &str) -> Option<Candidate> {
        let in_folder = |by| move |folder: &Path| (folder.join(name), by);
        let cached = |is_special| {
            let fits = move |entry: &&CacheEntry| {
                entry.name == name && entry.is_64_bit && entry.is_special == is_special
            };
            self.cache.iter().find(fits).map(|entry| (PathBuf::from(&entry.path), FoundBy::Cache))
        };
        let variable = self.folders.iter().map(PathBuf::as_path).map(in_folder(FoundBy::Variable));
        let defaults = DEFAULT_FOLDERS.iter().map(Path::new).map(in_folder(FoundBy::Default));
        let cached = cached(false).or_else(|| cached(true));
        let mut faulty = None;
        for (path, by) in variable.chain(cached).chain(defaults) {
            let Some(file) = examine(root, &path) else { continue };
            let passed_over = file.as_ref().is_err_and(Fault::is_passed_over);
            let candidate = Candidate { path, by, file };
            if !passed_over {
                return Some(candidate);
            }
            // A 32-bit library beside the right one is no fault of anybody.
            if !matches!(candidate.file, Err(Fault::OtherMachine)) {
                faulty.get_or_insert(candidate);
            }
        }
        faulty
    }

    /// Every folder that is searched, those of the cache's lines among them, in the linker's order.
    pub fn all_folders(&self) -> Vec<PathBuf> {
        let cached = self.cache.iter().filter(|entry| entry.is_64_bit);
        let cached = cached.filter_map(|entry| Path::new(&entry.path).parent().map(Path::to_owned));
        let mut folders = self.folders.clone();
        for folder in cached.chain(DEFAULT_FOLDERS.iter().map(PathBuf::from)) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        folders
    }
}

/// Opens `path` as a library; `None` where there is nothing of that name.
pub fn examine(root: &Path, path: &Path) -> Option<Result<Opened, Fault>> {
    let opened = match files::open(root, path) {
        Ok(opened) => opened,
        Err(error) if files::is_absence(&error) => {
            let link = files::link_metadata(root, path).ok()?;
            return link.is_symlink().then_some(Err(Fault::Dangling));
        }
        Err(error) => return Some(Err(Fault::Unreadable(error))),
    };
    Some(match Elf::read(&opened.file) {
        Ok(_) => Ok(opened),
        Err(ElfError::Empty) => Err(Fault::Empty),
        Err(ElfError::OtherClass) => Err(Fault::OtherMachine),
        Err(ElfError::Read(error)) => Err(Fault::Unreadable(error)),
        Err(error) => Err(Fault::Broken(error)),
    })
}

/// The folders in the text of `LD_LIBRARY_PATH` (L3).
fn library_path(text: &OsStr, working_dir: Option<&Path>, notes: &mut Vec<Note>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if text.is_empty() {
        return folders;
    }
    let mut note = |what: String| notes.push(files::note(Path::new("LD_LIBRARY_PATH"), &what));
    for (count, entry) in text.as_bytes().split(|byte| matches!(byte, b':' | b';')).enumerate() {
        if count == MAX_FOLDERS {
            note(format!("has more than {MAX_FOLDERS} entries; the others were not looked at"));
            break;
        }
        let folder = Path::new(OsStr::from_bytes(entry));
        if entry.is_empty() {
            folders.extend(working_dir.map(Path::to_owned));
        } else if entry.contains(&b'$') || !folder.is_absolute() {
            note(format!("`{}` depends on the process and was not looked at", folder.display()));
        } else {
            folders.push(folder.to_owned());
        }
    }
    folders.dedup();
    folders
}

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_ENTRY: usize = 12;
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;

/// The lines of a cache whose names `is_wanted` accepts, in the file's order: of the format of
/// glibc 2.2 and later, of the same after the older one's lines, or of the older one alone.
pub fn parse_cache(
    bytes: &[u8],
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<CacheEntry>, &'static str> {
    const CUT: &str = "the file is cut off";
    let mut entries = Vec::new();
    let mut take = |flags: u32, special: bool, strings: &[u8], name: u32, path: u32| {
        let (Some(name), Some(path)) = (text_at(strings, name), text_at(strings, path)) else {
            return;
        };
        if is_wanted(name) {
            entries.push(CacheEntry {
                name: name.to_owned(),
                path: path.to_owned(),
                is_64_bit: is_64_bit(flags),
                is_special: special,
            });
        }
    };
    let mut new = bytes;
    if bytes.starts_with(OLD_MAGIC) {
        let count = u32_at(bytes, OLD_MAGIC.len()).ok_or(CUT)? as usize;
        let start = OLD_MAGIC.len() + 4;
        let end = count.checked_mul(OLD_ENTRY).and_then(|size| size.checked_add(start));
        let end = end.filter(|end| *end <= bytes.len()).ok_or(CUT)?;
        new = bytes.get(end.next_multiple_of(8)..).unwrap_or_default();
        if !new.starts_with(NEW_MAGIC) {
            for entry in bytes[start..end].chunks_exact(OLD_ENTRY) {
                let [flags, name, path] = [0, 4, 8].map(|at| u32_at(entry, at).unwrap_or(0));
                take(flags, false, &bytes[end..], name, path);
            }
            return Ok(entries);
        }
    }
    if !new.starts_with(NEW_MAGIC) {
        return Err("not a cache of the dynamic linker");
    }
    let count = u32_at(new, NEW_MAGIC.len()).ok_or(CUT)? as usize;
    let end = count.checked_mul(NEW_ENTRY).and_then(|size| size.checked_add(NEW_HEADER));
    let table = end.and_then(|end| new.get(NEW_HEADER..end)).ok_or(CUT)?;
    for entry in table.chunks_exact(NEW_ENTRY) {
        let [flags, name, path] = [0, 4, 8].map(|at| u32_at(entry, at).unwrap_or(0));
        take(flags, entry[16..] != [0; 8], new, name, path);
    }
    Ok(entries)
}

/// Whether the flags of a line say a 64-bit library of glibc: the low byte is its kind, the next
/// one the machine. 3 is `x86_64`, 5 is `POWER`, 10 is aarch64; 0 is 32 bits, 8 is x32.
fn is_64_bit(flags: u32) -> bool {
    flags & 0xff == 3 && matches!(flags >> 8 & 0xff, 3 | 5 | 10)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().expect("four bytes")))
}

/// The text at an offset, up to its zero byte; a path has at most 4096 bytes.
fn text_at(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let rest = &rest[..rest.len().min(4097)];
    std::str::from_utf8(&rest[..memchr::memchr(0, rest)?]).ok()
}

#[cfg(test)]
pub(crate) mod tests;
