//! The driver's libraries: those that the ranks would load, and every other one around.
//!
//! - B1: a library's version is the one in the name of its file; where that has none, the only
//!   version that stands in its read-only data. Nothing is loaded.
//! - B2: what the linker would take is found by [`ldso`]; the other files are only listed.
//! - B3: the forward-compatibility note of libcuda is data of the library, not a rule of ours.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::version;
use crate::host::elf::{self, Elf};
use crate::host::facts::nvidia::{Libraries, Library, LibraryProblem};
use crate::host::facts::{Note, Sourced};
use crate::host::files::{self, Opened};
use crate::host::ldso::{self, Candidate, Fault, Search};
use crate::settings::env::Env;

/// What NCCL, `PyTorch` and pynvml open.
pub const NVML: &str = "libnvidia-ml.so.1";
/// What the CUDA runtime opens.
pub const CUDA: &str = "libcuda.so.1";
/// Where WSL puts the driver of the host.
pub const WSL_FOLDER: &str = "/usr/lib/wsl/lib";

/// Names of the driver's libraries; those of the container toolkit and of the EGL platforms have
/// versions of their own.
const PREFIXES: &[&str] = &[
    "libcuda.so",
    "libcudadebugger.so",
    "libnvidia-",
    "libnvcuvid.so",
    "libnvoptix.so",
    "libEGL_nvidia.so",
    "libGLX_nvidia.so",
];
const NO_PREFIXES: &[&str] = &["libnvidia-container", "libnvidia-egl-"];

/// Folders with driver libraries that the linker does not search by itself.
const OTHER_FOLDERS: &[&str] =
    &[WSL_FOLDER, "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/run/opengl-driver/lib"];

/// Files in [`Libraries::others`] at most.
const MAX_OTHERS: usize = 400;
/// The largest stub of the toolkit; the libraries themselves have more than a megabyte.
const MAX_STUB: u64 = 256 << 10;
/// Bytes of the note of libcuda; real ones have a hundred.
const MAX_NOTE: usize = 64 << 10;

/// Whether a file name is that of a library of the driver.
pub fn is_driver_library(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !NO_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && name.contains(".so")
}

/// Where the linker looks for the driver's libraries.
pub fn search(root: &Path, env: &Env, notes: &mut Vec<Note>) -> Search {
    Search::read(root, env, is_driver_library, notes)
}

/// Reads the two that the ranks load, the others, and the cache's stale lines. `loaded` is the
/// version of the module in the kernel.
pub fn read(
    root: &Path,
    search: &Search,
    loaded: Option<&str>,
    notes: &mut Vec<Note>,
) -> Libraries {
    let nvml = search.find(root, NVML).map(|candidate| describe(root, NVML, candidate));
    let cuda = search.find(root, CUDA).map(|candidate| describe(root, CUDA, candidate));
    let folders = folders(root, search, notes);
    let mut others = Vec::new();
    for folder in &folders {
        others.extend(files_of(root, folder, notes));
        if others.len() > MAX_OTHERS {
            let what = format!("there are more than {MAX_OTHERS} files of the driver");
            notes.push(files::note(folder, &what));
            others.truncate(MAX_OTHERS);
            break;
        }
    }
    let stale_cache = stale_lines(root, search, loaded, &others);
    let is_taken = |other: &Library| {
        [&nvml, &cuda].into_iter().flatten().any(|taken| taken.path == other.path)
    };
    others.retain(|other| !is_taken(other));
    Libraries { nvml, cuda, others, stale_cache, matching: Vec::new() }
}

/// The folders that may hold libraries of the driver, after all links, each once.
fn folders(root: &Path, search: &Search, notes: &mut Vec<Note>) -> Vec<PathBuf> {
    let mut named = search.all_folders();
    named.extend(OTHER_FOLDERS.iter().map(PathBuf::from));
    for name in files::names(root, "/usr/local", notes) {
        if name.starts_with("cuda") {
            named.push(format!("/usr/local/{name}/compat").into());
        }
    }
    let mut folders = Vec::new();
    for folder in named {
        if let Ok(folder) = files::resolve(root, &folder)
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    folders
}

/// What the linker takes for `name`.
fn describe(root: &Path, name: &str, candidate: Candidate) -> Library {
    let Candidate { path, by, file } = candidate;
    let mut library = Library {
        name: name.to_owned(),
        path: path.display().to_string(),
        found_by: by.name().to_owned(),
        ..Library::default()
    };
    match file {
        Ok(opened) => {
            describe_opened(&mut library, &path, &opened);
            library.changed_at = changed_at(root, &opened.metadata);
        }
        Err(fault) => {
            library.problem = Some(problem(&fault));
            library.leads_to = leads_to(root, &path).map(|to| to.display().to_string());
        }
    }
    library
}

/// The file behind a link, or the file that a link names though it is not there.
fn leads_to(root: &Path, path: &Path) -> Option<PathBuf> {
    let to = files::resolve(root, path).ok().or_else(|| {
        let folder = files::resolve(root, path.parent()?).ok()?;
        let link = files::on_host(root, &folder).join(path.file_name()?);
        Some(folder.join(link.read_link().ok()?))
    })?;
    (to != path).then_some(to)
}

/// When the file was last changed on this machine; the times of a copy below another root tell
/// nothing.
fn changed_at(root: &Path, metadata: &Metadata) -> Option<i64> {
    (root == Path::new("/")).then(|| metadata.ctime())
}

fn describe_opened(library: &mut Library, asked: &Path, opened: &Opened) {
    library.path = opened.path.display().to_string();
    library.bytes = opened.metadata.len();
    library.version = file_name(&opened.path)
        .and_then(version::of_file_name)
        .map(str::to_owned)
        .or_else(|| elf::driver_version(&elf::rodata(&opened.file).ok()?));
    let is_in_stubs = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("stubs"));
    // WSL's libcuda is a small one that hands everything on to the host's.
    let is_small = library.version.is_none()
        && library.bytes <= MAX_STUB
        && !opened.path.starts_with(WSL_FOLDER);
    if is_small || is_in_stubs(asked) || is_in_stubs(&opened.path) {
        library.problem = Some(LibraryProblem::Stub);
    }
    if library.name.starts_with("libcuda.so")
        && let Some(note) = compatibility(opened)
    {
        library.compatible_branches = note.driver;
        library.cuda_version = note.cuda_version;
    }
}

fn problem(fault: &Fault) -> LibraryProblem {
    match fault {
        Fault::Dangling => LibraryProblem::Dangling,
        Fault::Unreadable(_) => LibraryProblem::Unreadable,
        Fault::Empty => LibraryProblem::Empty,
        Fault::OtherMachine | Fault::Broken(_) => LibraryProblem::Broken,
    }
}

/// What libcuda 580 and later say of the kernel modules they work with.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Compatibility {
    #[serde(rename = "CUDA version")]
    cuda_version: Option<String>,
    driver: Vec<u32>,
}

fn compatibility(opened: &Opened) -> Option<Compatibility> {
    let notes = Elf::read(&opened.file).ok()?.notes("NVIDIA Corporation").ok()?;
    notes.iter().find_map(|(_, text)| parse_compatibility(text))
}

/// Reads the JSON of the note `.note.cuda.fwd_compatibility`, which may end in a zero byte.
pub(super) fn parse_compatibility(text: &[u8]) -> Option<Compatibility> {
    let text = &text[..text.len().min(MAX_NOTE)];
    let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    let note: Compatibility = serde_json::from_slice(text).ok()?;
    (!note.driver.is_empty()).then_some(note)
}

/// The driver's files in a folder: those with its version in their name, and of the other names
/// those that do not work.
fn files_of(root: &Path, folder: &Path, notes: &mut Vec<Note>) -> Vec<Library> {
    let mut found = Vec::new();
    for name in files::names(root, folder, notes) {
        if !is_driver_library(&name) || found.len() > MAX_OTHERS {
            continue;
        }
        let path = folder.join(&name);
        let Ok(metadata) = files::link_metadata(root, &path) else { continue };
        let mut library = Library {
            version: version::of_file_name(&name).map(str::to_owned),
            path: path.display().to_string(),
            name,
            bytes: metadata.len(),
            changed_at: changed_at(root, &metadata),
            ..Library::default()
        };
        if metadata.is_symlink() {
            library.bytes = 0;
            match files::metadata(root, &path) {
                Err(error) if files::is_absence(&error) => {
                    library.problem = Some(LibraryProblem::Dangling);
                }
                // The file that it leads to speaks for itself.
                _ => continue,
            }
        } else if !metadata.is_file() {
            continue;
        } else if metadata.len() == 0 {
            library.problem = Some(LibraryProblem::Empty);
        } else if library.version.is_none() {
            continue;
        }
        found.push(library);
    }
    found
}

/// The cache's lines whose file is missing or empty, or of another version than its folder holds:
/// then `ldconfig` did not run since the files were exchanged.
fn stale_lines(
    root: &Path,
    search: &Search,
    loaded: Option<&str>,
    files: &[Library],
) -> Vec<Sourced<String>> {
    let is_stale = |entry: &&ldso::CacheEntry| {
        let Ok(path) = files::resolve(root, &entry.path) else { return true };
        let Ok(metadata) = files::metadata(root, &path) else { return true };
        if metadata.len() == 0 {
            return true;
        }
        let Some((name, used)) = file_name(&path).and_then(|name| name.split_once(".so.")) else {
            return false;
        };
        if !version::is_version(used.as_bytes()) || loaded == Some(used) {
            return false;
        }
        let newer = |held: &str| match loaded {
            Some(loaded) => held == loaded,
            None => version::numbers(held) > version::numbers(used),
        };
        files.iter().any(|file| {
            let (folder, held) = (Path::new(&file.path).parent(), file.version.as_deref());
            folder == path.parent()
                && file.problem.is_none()
                && file.name.split_once(".so.").is_some_and(|(other, _)| other == name)
                && held.is_some_and(newer)
        })
    };
    let lines = search.cache.iter().filter(|entry| entry.is_64_bit).filter(is_stale);
    lines.map(|entry| Sourced::new(entry.name.clone(), entry.path.clone())).collect()
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
