//! The committed trees are those that `make.py` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{corpus, scratch};

/// A file or a link.
#[derive(PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Link(PathBuf),
}

/// Everything below the folders of hosts in `folder`, by its path.
fn trees(folder: &Path) -> BTreeMap<PathBuf, Content> {
    let mut all = BTreeMap::new();
    let hosts = fs_err::read_dir(folder).expect("the folder is there");
    let mut left: Vec<PathBuf> = hosts.map(|entry| entry.expect("an entry").path()).collect();
    left.retain(|host| host.join("host.json").exists());
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().expect("it was listed");
        let name = path.strip_prefix(folder).expect("it lies in the folder").to_owned();
        if metadata.is_dir() {
            let entries = fs_err::read_dir(&path).expect("it was listed");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if metadata.is_symlink() {
            all.insert(name, Content::Link(path.read_link().expect("it is a link")));
        } else {
            all.insert(name, Content::File(fs_err::read(&path).expect("it is a file")));
        }
    }
    all
}

#[test]
fn the_trees_are_what_their_descriptions_say() {
    let python = ["python3", "python"].into_iter().find(|name| which::which(name).is_ok());
    let Some(python) = python else {
        println!("skipped: no python3 on PATH to write the corpus anew");
        return;
    };
    let fresh = scratch();
    let output = Command::new(python)
        .arg(corpus().join("make.py"))
        .arg(fresh.path())
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (committed, written) = (trees(&corpus()), trees(fresh.path()));
    assert!(written.len() > 1000, "make.py wrote {} files", written.len());
    let mut differences: Vec<String> = Vec::new();
    for path in committed.keys().chain(written.keys()) {
        let what = match (committed.get(path), written.get(path)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(_), Some(_)) => "differs",
            (Some(_), None) => "is not described",
            _ => "is not committed",
        };
        differences.push(format!("{} {what}", path.display()));
    }
    differences.sort();
    differences.dedup();
    differences.truncate(20);
    assert!(
        differences.is_empty(),
        "run `python3 tests/hosts/make.py`; these differ, among others:\n{}",
        differences.join("\n")
    );
}
