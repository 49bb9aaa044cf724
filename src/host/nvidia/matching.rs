//! Libraries of the loaded module's own version, wherever they may lie: what could be put in front
//! of the ranks' library path where the installed ones do not fit.
//!
//! Only places that anybody may read, and that are likely, are looked at; nothing is unpacked, no
//! file system is walked.

use std::path::{Path, PathBuf};

use crate::env_vars;
use crate::host::facts::Note;
use crate::host::facts::nvidia::Libraries;
use crate::host::files;
use crate::host::ldso;
use crate::settings::env::Env;

/// Folders of packages that were downloaded, by package manager.
const PACKAGE_CACHES: &[&str] = &["/var/cache/apt/archives", "/var/cache/pacman/pkg"];
/// Folders with one folder of packages per repository.
const REPOSITORY_CACHES: &[&str] = &["/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5"];
/// Repositories that are looked at.
const MAX_REPOSITORIES: usize = 64;
/// What the packages with NVML, or with all of the driver's libraries, are called.
const PACKAGES: &[&str] = &[
    "libnvidia-compute-",
    "libnvidia-ml",
    "libcuda1",
    "nvidia-driver-",
    "nvidia-utils",
    "nvidia-libs",
];

/// Files of `version` that could be used: libraries that are whole, and packages.
pub fn find(
    root: &Path,
    env: &Env,
    version: &str,
    libraries: &Libraries,
    notes: &mut Vec<Note>,
) -> Vec<String> {
    let name = format!("libnvidia-ml.so.{version}");
    let listed = libraries.others.iter().filter(|file| file.name == name).map(|file| &file.path);
    let mut files: Vec<PathBuf> = listed.map(PathBuf::from).collect();
    for folder in more_folders(root, env, version, notes) {
        if let Ok(path) = files::resolve(root, folder.join(&name))
            && !files.contains(&path)
        {
            files.push(path);
        }
    }
    files.retain(|file| matches!(ldso::examine(root, file), Some(Ok(_))));
    files.extend(packages(root, version, notes));
    files.iter().map(|file| file.display().to_string()).collect()
}

/// Folders beside those that the linker searches.
fn more_folders(root: &Path, env: &Env, version: &str, notes: &mut Vec<Note>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let parents =
        ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    for parent in parents.map(Path::new) {
        for name in files::names(root, parent, notes) {
            if name.starts_with("nvidia") {
                folders.push(parent.join(&name));
                folders.push(parent.join(&name).join("current"));
            }
        }
    }
    folders.push("/run/booted-system/sw/lib".into());
    let cache = env.get_nonempty(env_vars::XDG_CACHE_HOME).map(PathBuf::from);
    let home = || env.get_nonempty(env_vars::HOME).map(|home| Path::new(home).join(".cache"));
    if let Some(cache) = cache.or_else(home).filter(|cache| cache.is_absolute()) {
        folders.push(cache.join("nvlaunch/driver").join(version));
    }
    folders
}

/// Packages of the version in the package managers' caches, by their names alone.
fn packages(root: &Path, version: &str, notes: &mut Vec<Note>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = PACKAGE_CACHES.iter().map(PathBuf::from).collect();
    for cache in REPOSITORY_CACHES.iter().map(Path::new) {
        let names = files::noted(files::list(root, cache, MAX_REPOSITORIES), notes);
        let names = names.unwrap_or_default().names;
        folders.extend(names.iter().map(|name| cache.join(name).join("packages")));
    }
    let mut packages = Vec::new();
    for folder in folders {
        let names = files::names(root, &folder, notes);
        let fitting = names.iter().filter(|name| is_package_of(name, version));
        packages.extend(fitting.map(|name| folder.join(name)));
    }
    packages
}

/// Whether a file is a package of the driver's libraries in exactly this version, as
/// `libnvidia-compute-580_580.82.09-0ubuntu1_amd64.deb`.
fn is_package_of(name: &str, version: &str) -> bool {
    let is_package = [".deb", ".rpm", ".zst", ".xz"].iter().any(|end| name.ends_with(end));
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == '.');
    is_package
        && PACKAGES.iter().any(|package| name.starts_with(package))
        && name.match_indices(version).any(|(at, _)| {
            let (before, after) = (&name[..at], &name[at + version.len()..]);
            !is_part(before.chars().next_back()) && !is_part(after.chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_by_their_names() {
        for (name, expected) in [
            ("libnvidia-compute-580_580.82.09-0ubuntu0.22.04.1_amd64.deb", true),
            ("libnvidia-compute-580-server_580.82.09-0ubuntu1_amd64.deb", true),
            ("libnvidia-ml1_580.82.09-1_amd64.deb", true),
            ("libcuda1_1%3a580.82.09-1_amd64.deb", true),
            ("nvidia-driver-cuda-libs-580.82.09-1.el9.x86_64.rpm", true),
            ("nvidia-utils-580.82.09-2-x86_64.pkg.tar.zst", true),
            ("libnvidia-compute-580_580.82.091-0ubuntu1_amd64.deb", false),
            ("libnvidia-compute-580_1580.82.09-0ubuntu1_amd64.deb", false),
            ("libnvidia-compute-580_580.95.05-0ubuntu1_amd64.deb", false),
            ("libnvidia-compute-580_580.82.09-0ubuntu1_amd64.deb.part", false),
            ("nvidia-settings_580.82.09-1_amd64.deb", false),
        ] {
            assert_eq!(is_package_of(name, "580.82.09"), expected, "{name}");
        }
    }
}
