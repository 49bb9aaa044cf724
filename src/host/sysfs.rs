//! Attributes of `/sys` and `/proc`, and other small texts.
//!
//! Below `/` the kernel resolves their links itself, and what it serves there is never a fifo; that
//! makes the scan of a bus with hundreds of functions ten times cheaper than following every part
//! of every path. Below another root anything may lie, and [`files`] reads it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::files;

/// Bytes that an attribute has at most: a page.
const MAX: u64 = 4096;

/// The trimmed text of an attribute; `None` where it is not there, empty or cannot be read, as
/// drivers answer for what they do not know.
pub fn text(root: &Path, path: &str) -> Option<String> {
    let bytes = bytes(root, path, MAX)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number that an attribute holds, with or without `0x`.
pub fn hex(root: &Path, path: &str) -> Option<u32> {
    let text = text(root, path)?;
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
}

/// The decimal number that an attribute holds.
pub fn number<T: std::str::FromStr>(root: &Path, path: &str) -> Option<T> {
    text(root, path)?.parse().ok()
}

/// The first bytes of an attribute.
pub fn bytes(root: &Path, path: &str, max: u64) -> Option<Vec<u8>> {
    let is_kernels = path.starts_with("/sys/") || path.starts_with("/proc/");
    if root != Path::new("/") || !is_kernels {
        return files::read_bytes(root, path, max).ok().flatten();
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The last part of what a link leads to, as `nvidia` for the link `driver` of a device.
pub fn link_name(root: &Path, path: &str) -> Option<String> {
    let folder = Path::new(path).parent()?;
    let folder = if root == Path::new("/") {
        folder.to_owned()
    } else {
        files::on_host(root, &files::resolve(root, folder).ok()?)
    };
    let target = folder.join(Path::new(path).file_name()?).read_link().ok()?;
    target.file_name()?.to_str().map(str::to_owned)
}

/// The folder that a link leads to, as the machine names it.
pub fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    if root == Path::new("/") {
        return Path::new(path).canonicalize().ok();
    }
    files::resolve(root, path).ok()
}
