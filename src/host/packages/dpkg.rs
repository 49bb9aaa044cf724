//! What dpkg has installed, and its own log, for what apt's does not say.

use std::path::Path;

use memchr::memmem;

use super::{MAX_STATUS, changes, is_driver};
use crate::host::facts::{Note, Package, PackageChange};
use crate::host::files;

const STATUS: &str = "/var/lib/dpkg/status";

/// Bytes of one package's block, and blocks of drivers, that are looked at.
const MAX_BLOCK: usize = 16 << 10;
const MAX_BLOCKS: usize = 2000;

/// The driver packages that are installed, or were left half-way.
pub fn installed(root: &Path, notes: &mut Vec<Note>) -> Vec<Package> {
    let bytes = files::noted(files::read_bytes(root, STATUS, MAX_STATUS), notes);
    blocks(&bytes.unwrap_or_default())
}

/// The driver packages of `status`. It has megabytes of descriptions, so only the blocks that start
/// with such a name are looked at.
pub fn blocks(status: &[u8]) -> Vec<Package> {
    const START: &[u8] = b"Package: ";
    let mut packages = Vec::new();
    let mut looked_at = 0;
    for at in memmem::find_iter(status, START) {
        if at > 0 && status[at - 1] != b'\n' {
            continue;
        }
        let block = &status[at..];
        let name = line(&block[START.len()..]);
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if !is_driver(name.trim()) {
            continue;
        }
        let block = &block[..block.len().min(MAX_BLOCK)];
        let end = memmem::find(block, b"\n\n").unwrap_or(block.len());
        packages.extend(package(&String::from_utf8_lossy(&block[..end])));
        looked_at += 1;
        if looked_at == MAX_BLOCKS {
            break;
        }
    }
    packages
}

fn line(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())]
}

/// One block; `None` where the package is not there, as after a removal that left its settings.
fn package(block: &str) -> Option<Package> {
    let field = |name: &str| {
        block.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    // `hold ok installed`: what is wanted, whether it is in order, what is.
    let mut status = field("Status")?.split_whitespace();
    let (wanted, _, state) = (status.next()?, status.next()?, status.next()?);
    if matches!(state, "not-installed" | "config-files") {
        return None;
    }
    Some(Package {
        name: field("Package")?.to_owned(),
        version: field("Version")?.to_owned(),
        is_held: wanted == "hold",
    })
}

/// Changes of driver packages in dpkg's own log, oldest first.
pub fn log(root: &Path, notes: &mut Vec<Note>) -> Vec<PackageChange> {
    changes(root, "/var/log", "dpkg.log", notes, lines)
}

/// `2025-10-03 06:50:54 upgrade pkg:arch old new`; `<none>` is no version.
pub fn lines(text: &str, source: &str) -> Vec<PackageChange> {
    let mut changes = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(day), Some(time), Some(action), Some(package)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let action = match action {
            "install" | "upgrade" | "remove" => action,
            "purge" => "remove",
            _ => continue,
        };
        let package = package.split(':').next().unwrap_or(package);
        if !is_driver(package) {
            continue;
        }
        let mut version = || words.next().filter(|word| *word != "<none>").map(str::to_owned);
        let (from, to) = (version(), version());
        changes.push(PackageChange {
            at: format!("{day} {time}"),
            action: action.to_owned(),
            package: package.to_owned(),
            from,
            to,
            source: source.to_owned(),
            ..PackageChange::default()
        });
    }
    changes
}
