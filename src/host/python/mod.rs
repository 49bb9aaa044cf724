//! The Python environment of the ranks: which `PyTorch`, which NCCL, what else is installed.
//!
//! Python is not started: importing `PyTorch` takes seconds, and what is asked here stands in
//! files.

mod metadata;
mod nccl;
mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::facts::{Note, Python, Torch};
use super::files;
use crate::settings::env::Env;
use places::Places;

/// Entries of a folder of packages that are looked at.
const MAX_PACKAGES: usize = 20_000;
/// Bytes of a `version.py`, or of a `.pth`.
const MAX_TEXT: u64 = 64 << 10;
/// Files `*.pth` of one folder that are read.
const MAX_PTH: usize = 64;

/// What is known of it. `is_scanned` says whether the names in NCCL are read too.
pub fn read(
    root: &Path,
    env: &Env,
    interpreter: Option<&Path>,
    is_scanned: bool,
    notes: &mut Vec<Note>,
) -> Python {
    let places = places::find(root, env, interpreter, notes);
    let mut python = Python {
        interpreter: places.interpreter.as_ref().map(|path| path.display().to_string()),
        version: places.version.clone(),
        site_packages: places.sites.iter().map(|path| path.display().to_string()).collect(),
        ..Python::default()
    };
    let listings: Vec<Vec<String>> =
        places.sites.iter().map(|site| listing(root, site, notes)).collect();
    for names in &listings {
        packages(names, &mut python.packages);
    }
    let Some((site, torch)) = torch(root, &places, &listings, notes) else { return python };
    if torch.cuda.is_some() {
        python.torch = Some(torch);
        python.nccl = nccl::find(root, env, &places, &python, &site, is_scanned, notes);
    } else {
        python.torch = Some(torch);
    }
    python
}

fn listing(root: &Path, site: &Path, notes: &mut Vec<Note>) -> Vec<String> {
    let listing = files::noted(files::list(root, site, MAX_PACKAGES), notes).unwrap_or_default();
    if listing.is_cut {
        let what = format!("only {MAX_PACKAGES} entries were looked at");
        notes.push(files::note(site, &what));
    }
    listing.names
}

/// Adds what a folder of packages holds; what an earlier one holds wins.
fn packages(names: &[String], packages: &mut BTreeMap<String, String>) {
    let mut here = BTreeMap::new();
    for name in names {
        if let Some((name, version)) = metadata::distribution(name)
            && metadata::is_interesting(&name)
        {
            here.insert(name, version);
        }
    }
    for (name, version) in here {
        packages.entry(name).or_insert(version);
    }
}

/// `PyTorch` and the folder that it is in. A build from source is in none of them, and a `.pth`
/// leads to it.
fn torch(
    root: &Path,
    places: &Places,
    listings: &[Vec<String>],
    notes: &mut Vec<Note>,
) -> Option<(PathBuf, Torch)> {
    let has_torch =
        |(_, names): &(&PathBuf, &Vec<String>)| names.binary_search(&"torch".into()).is_ok();
    let sites = || places.sites.iter().zip(listings);
    let mut here = sites().filter(has_torch).filter_map(|(site, _)| torch_in(root, site, notes));
    if let Some(found) = here.next() {
        return Some(found);
    }
    drop(here);
    let linked = sites().flat_map(|(site, names)| links(root, site, names));
    linked.take(MAX_PTH).find_map(|folder| torch_in(root, &folder, &mut Vec::new()))
}

fn torch_in(root: &Path, site: &Path, notes: &mut Vec<Note>) -> Option<(PathBuf, Torch)> {
    let file = site.join("torch/version.py");
    let text = files::text(root, &file, MAX_TEXT, notes)?;
    let torch = metadata::torch_version(&text, &file.display().to_string());
    if torch.is_none() {
        notes.push(files::note(&file, "tells no version"));
    }
    Some((site.to_owned(), torch?))
}

/// The folders that the `.pth` files of a folder add: their lines that are paths (the module
/// `site`).
fn links(root: &Path, site: &Path, names: &[String]) -> Vec<PathBuf> {
    let files = names.iter().filter(|name| name.strip_suffix(".pth").is_some()).take(MAX_PTH);
    let mut folders = Vec::new();
    for file in files {
        let text = files::read_text(root, site.join(file), MAX_TEXT).ok().flatten();
        let text = text.unwrap_or_default();
        let is_path = |line: &&str| {
            !line.is_empty() && !line.starts_with(['#', '\0']) && !line.starts_with("import")
        };
        folders.extend(
            text.lines().map(str::trim).filter(is_path).take(MAX_PTH).map(|line| site.join(line)),
        );
    }
    folders
}
