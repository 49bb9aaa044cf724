//! Which `libnccl.so.2` the ranks load.
//!
//! - N1: what is preloaded comes first.
//! - N2: `PyTorch`'s wheels name the folder of their NCCL in `DT_RPATH`, which the dynamic linker
//!   searches before `LD_LIBRARY_PATH`; only a build with `DT_RUNPATH`, or with neither, takes the
//!   one from `LD_LIBRARY_PATH` (ld.so(8)).
//! - N3: without a wheel's NCCL it is the system's, as for a build from source.

use std::path::{Path, PathBuf};

use super::places::Places;
use crate::host::elf::{self, Elf};
use crate::host::facts::{NcclLibrary, Note, Python};
use crate::host::files;
use crate::settings::env::Env;

const NAME: &str = "libnccl.so.2";
/// Entries of a search path that are looked at.
const MAX_ENTRIES: usize = 64;
/// Bytes of the dynamic section: some hundred entries of 16 bytes.
const MAX_DYNAMIC: u64 = 64 << 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Finds it. `is_scanned` says whether its names are read too, which costs some milliseconds.
pub fn find(
    root: &Path,
    env: &Env,
    places: &Places,
    python: &Python,
    torch_site: &Path,
    is_scanned: bool,
    notes: &mut Vec<Note>,
) -> Option<NcclLibrary> {
    let is_file =
        |path: &PathBuf| files::metadata(root, path).is_ok_and(|metadata| metadata.is_file());
    let wheel = wheel(root, places, torch_site).into_iter().find(is_file);
    let preloaded = listed(env, "LD_PRELOAD", &[':', ' ']).into_iter().filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnccl.so"))
    });
    let preloaded = preloaded.into_iter().find(is_file);
    let on_path = || {
        let folders = listed(env, "LD_LIBRARY_PATH", &[':', ';']).into_iter();
        folders.map(|folder| folder.join(NAME)).find(is_file)
    };
    let on_path = on_path().filter(|_| wheel.is_none() || !has_rpath(root, torch_site));
    let system = || {
        let folders = SYSTEM.into_iter().map(|folder| Path::new(folder).join(NAME));
        folders.into_iter().find(is_file)
    };
    let (path, is_override) = match (preloaded.or(on_path), wheel.clone()) {
        (Some(path), Some(wheel)) => {
            let is_other = files::resolve(root, &path).ok() != files::resolve(root, &wheel).ok();
            (path, is_other)
        }
        (Some(path), None) => (path, true),
        (None, Some(wheel)) => (wheel, false),
        (None, None) => (system()?, false),
    };
    let real = files::resolve(root, &path).ok();
    let is_wheels = wheel.as_ref() == Some(&path);
    let named = || version_of_name(real.as_ref()?);
    let mut library = NcclLibrary {
        version: is_wheels.then(|| version_of_wheel(python)).flatten().or_else(named),
        is_override,
        wheel: wheel.filter(|_| is_override).map(|wheel| wheel.display().to_string()),
        path: path.display().to_string(),
        names: Vec::new(),
    };
    if let Some(real) = real.filter(|_| is_scanned) {
        match elf::nccl_names(&files::on_host(root, &real)) {
            Ok(scan) => {
                library.names = scan.names;
                library.version = library.version.or(scan.version);
            }
            Err(error) => notes.push(files::note(&path, &error)),
        }
    }
    Some(library)
}

/// Where the dynamic linker looks without being told.
const SYSTEM: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/nccl/lib",
];

/// Where a wheel of `PyTorch`, or conda, puts it, likely first.
fn wheel(root: &Path, places: &Places, torch_site: &Path) -> Vec<PathBuf> {
    let mut folders = vec![torch_site.join("nvidia/nccl/lib")];
    let listing = files::list(root, torch_site.join("nvidia"), 256).ok().flatten();
    let names = listing.unwrap_or_default().names;
    folders.extend(names.iter().map(|name| torch_site.join("nvidia").join(name).join("lib")));
    folders.push(torch_site.join("torch/lib"));
    let of_conda = places.prefix.iter().filter(|p| files::exists(root, p.join("conda-meta")));
    folders.extend(of_conda.map(|prefix| prefix.join("lib")));
    folders.into_iter().map(|folder| folder.join(NAME)).collect()
}

/// The paths of a variable; what is relative leads somewhere else for each process.
fn listed(env: &Env, name: &str, between: &[char]) -> Vec<PathBuf> {
    let Some(list) = env.get_nonempty(name) else { return Vec::new() };
    let list = list.to_string_lossy();
    let paths = list.split(between).filter(|path| path.starts_with('/'));
    paths.take(MAX_ENTRIES).map(PathBuf::from).collect()
}

/// Whether the library that needs NCCL has a path that comes before `LD_LIBRARY_PATH` (N2).
fn has_rpath(root: &Path, torch_site: &Path) -> bool {
    let dynamic = || {
        let file = files::open(root, torch_site.join("torch/lib/libtorch_cuda.so")).ok()?.file;
        Elf::read(&file).ok()?.section(".dynamic", MAX_DYNAMIC).ok()?
    };
    let dynamic = dynamic().unwrap_or_default();
    let tags = dynamic.chunks_exact(16).map(|entry| {
        let tag = entry.first_chunk::<8>().expect("an entry has 16 bytes");
        u64::from_le_bytes(*tag)
    });
    let tags: Vec<u64> = tags.take_while(|tag| *tag != 0).collect();
    tags.contains(&DT_RPATH) && !tags.contains(&DT_RUNPATH)
}

fn version_of_wheel(python: &Python) -> Option<String> {
    let mut wheels = python.packages.iter().filter(|(name, _)| name.starts_with("nvidia-nccl"));
    wheels.next_back().map(|(_, version)| version.clone())
}

/// `2.21.5` of `libnccl.so.2.21.5`.
fn version_of_name(path: &Path) -> Option<String> {
    let version = path.file_name()?.to_str()?.strip_prefix("libnccl.so.")?;
    let is_whole =
        version.contains('.') && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_whole.then(|| version.to_owned())
}
