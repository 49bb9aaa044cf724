//! Reading files below a root that may hold anything: nothing here blocks, leaves the root, or
//! reads more than it was allowed to.
//!
//! Paths that go in and come out are the machine's own (`/proc/driver/nvidia/version`), whatever
//! folder the root is.
//!
//! - R1: a symlink is followed below the root: an absolute target starts at the root, `..` ends
//!   there. More than 40 links are a loop, as for the kernel.
//! - R2: only regular files are opened, and never in a way that waits: a fifo, a socket or a device
//!   is an error, not a wait.
//! - R3: every read and every listing has a bound; what lies past it is left out.
//! - R4: what is not there is `None`; what is there and cannot be read is a [`Note`].

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::facts::Note;

/// Links in one path that are followed, as many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// Parts of one path that are followed, those of its links too.
const MAX_PARTS: u32 = 2_000;

/// Entries of a folder that [`list`] reads at most.
pub const MAX_ENTRIES: usize = 100_000;

/// A regular file that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The file, readable, at its start.
    pub file: File,
    /// What the kernel says of it.
    pub metadata: Metadata,
    /// Where it is on the machine, after all links.
    pub path: PathBuf,
}

/// The file or folder that `path` names on the machine after all links; every part of it exists.
pub fn resolve(root: &Path, path: impl AsRef<Path>) -> io::Result<PathBuf> {
    walk(root, path.as_ref()).map(|(path, _)| path)
}

/// What the kernel says of the file or folder that `path` names after all links.
pub fn metadata(root: &Path, path: impl AsRef<Path>) -> io::Result<Metadata> {
    walk(root, path.as_ref()).map(|(_, metadata)| metadata)
}

/// What the kernel says of `path` itself, which may be a link; its folder is resolved.
pub fn link_metadata(root: &Path, path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return metadata(root, path);
    };
    on_host(root, &resolve(root, parent)?.join(name)).symlink_metadata()
}

/// Whether `path` names something, after all links.
pub fn exists(root: &Path, path: impl AsRef<Path>) -> bool {
    metadata(root, path).is_ok()
}

/// Whether an error says that a thing is not there, rather than that it cannot be read.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Where a path of the machine, after all links, lies for this process.
pub fn on_host(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Opens a regular file (R1, R2). Anything else is an error of kind `InvalidInput`.
pub fn open(root: &Path, path: impl AsRef<Path>) -> io::Result<Opened> {
    let path = resolve(root, path)?;
    let file = open_here(&on_host(root, &path))?;
    let metadata = file.metadata()?;
    Ok(Opened { file, metadata, path })
}

/// Opens a regular file where this process sees it, links and all (R2).
pub fn open_here(path: &Path) -> io::Result<File> {
    refuse_others(&path.metadata()?)?;
    // The file may be another one by now: no wait for whoever writes to a fifo.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    refuse_others(&file.metadata()?)?;
    Ok(file)
}

fn refuse_others(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let kind = if metadata.is_dir() { "a folder" } else { "not a regular file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, kind))
}

/// The first `max` bytes of a file; `None` where it is not there.
pub fn read_bytes(root: &Path, path: impl AsRef<Path>, max: u64) -> Result<Option<Vec<u8>>, Note> {
    let path = path.as_ref();
    let read = || {
        let mut bytes = Vec::new();
        open(root, path)?.file.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    found(path, read())
}

/// The first `max` bytes of a file as text, with a replacement character for what is no UTF-8;
/// `None` where the file is not there.
pub fn read_text(root: &Path, path: impl AsRef<Path>, max: u64) -> Result<Option<String>, Note> {
    Ok(read_bytes(root, path, max)?.map(into_text))
}

/// As [`read_text`], with what went wrong put among the notes.
pub fn text(
    root: &Path,
    path: impl AsRef<Path>,
    max: u64,
    notes: &mut Vec<Note>,
) -> Option<String> {
    noted(read_text(root, path, max), notes)
}

/// The last `max` bytes of a file as text, from the first whole line on; `None` where the file is
/// not there.
pub fn read_tail(root: &Path, path: impl AsRef<Path>, max: u64) -> Result<Option<String>, Note> {
    let path = path.as_ref();
    let read = || {
        let Opened { mut file, metadata, .. } = open(root, path)?;
        let mut bytes = Vec::new();
        let start = metadata.len().saturating_sub(max);
        file.seek(SeekFrom::Start(start))?;
        file.take(max).read_to_end(&mut bytes)?;
        if start > 0 {
            let line = memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |end| end + 1);
            bytes.drain(..line);
        }
        Ok(into_text(bytes))
    };
    found(path, read())
}

/// What a folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The names in it that are UTF-8, sorted.
    pub names: Vec<String>,
    /// Whether it holds more than was read.
    pub is_cut: bool,
}

/// The names in a folder, of at most `max` entries (whichever the kernel gives first); `None` where
/// the folder is not there.
pub fn list(root: &Path, folder: impl AsRef<Path>, max: usize) -> Result<Option<Listing>, Note> {
    let folder = folder.as_ref();
    let read = || {
        let path = resolve(root, folder)?;
        let mut listing = Listing::default();
        for (count, entry) in std::fs::read_dir(on_host(root, &path))?.enumerate() {
            if count == max {
                listing.is_cut = true;
                break;
            }
            // A name that is no UTF-8 is none of those that anybody looks for.
            if let Ok(name) = entry?.file_name().into_string() {
                listing.names.push(name);
            }
        }
        listing.names.sort_unstable();
        Ok(listing)
    };
    found(folder, read())
}

/// The names in a folder, of at most [`MAX_ENTRIES`] entries, with what went wrong put among the
/// notes; empty where the folder is not there.
pub fn names(root: &Path, folder: impl AsRef<Path>, notes: &mut Vec<Note>) -> Vec<String> {
    let folder = folder.as_ref();
    let listing = noted(list(root, folder, MAX_ENTRIES), notes).unwrap_or_default();
    if listing.is_cut {
        notes.push(note(folder, &format!("holds more than {MAX_ENTRIES} entries")));
    }
    listing.names
}

/// A [`Note`] on a path of the machine.
pub fn note(path: &Path, what: &(impl ToString + ?Sized)) -> Note {
    Note { source: path.display().to_string(), what: what.to_string() }
}

/// Puts what went wrong among the notes.
pub fn noted<T>(read: Result<Option<T>, Note>, notes: &mut Vec<Note>) -> Option<T> {
    read.unwrap_or_else(|note| {
        notes.push(note);
        None
    })
}

/// Tells what is not there from what cannot be read (R4).
fn found<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, Note> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(note(path, &error)),
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Follows `path` part by part below `root` (R1).
fn walk(root: &Path, path: &Path) -> io::Result<(PathBuf, Metadata)> {
    let mut at = PathBuf::from("/");
    let mut metadata = root.metadata()?;
    // The parts still to be followed, the next one last.
    let mut parts: Vec<OsString> = Vec::new();
    push(&mut parts, path);
    let mut links = 0;
    let mut followed = 0;
    while let Some(part) = parts.pop() {
        followed += 1;
        if followed > MAX_PARTS {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if !metadata.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if part == ".." {
            at.pop();
            metadata = on_host(root, &at).metadata()?;
            continue;
        }
        let next = at.join(&part);
        let host = on_host(root, &next);
        metadata = host.symlink_metadata()?;
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = host.read_link()?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        push(&mut parts, &target);
        metadata = on_host(root, &at).metadata()?;
    }
    Ok((at, metadata))
}

/// Puts the parts of `path` on the stack, its first part last.
fn push(parts: &mut Vec<OsString>, path: &Path) {
    let named = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.extend(named);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::Root;

    fn at(root: &Root, path: &str) -> String {
        match resolve(root.path(), path) {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn links_are_followed_below_the_root() {
        let root = Root::new(&[("usr/lib/libcuda.so.1.2", "x"), ("etc/passwd", "mine")]);
        for (link, target) in [
            ("lib", "usr/lib"),
            ("usr/lib/libcuda.so.1", "libcuda.so.1.2"),
            ("usr/lib/absolute", "/lib/libcuda.so.1"),
            ("usr/lib/out", "../../../../../../../../etc/passwd"),
            ("usr/lib/up", ".."),
            ("usr/lib/top", "/"),
            ("a", "b"),
            ("b", "/a"),
            ("self", "self/x"),
            ("gone", "/nowhere/at/all"),
        ] {
            root.link(link, target);
        }
        for (path, expected) in [
            ("/lib/libcuda.so.1", "/usr/lib/libcuda.so.1.2"),
            ("/lib/absolute", "/usr/lib/libcuda.so.1.2"),
            ("/lib/out", "/etc/passwd"),
            ("/../../etc/./passwd", "/etc/passwd"),
            ("/lib/up/lib/../lib/libcuda.so.1", "/usr/lib/libcuda.so.1.2"),
            ("/lib/top", "/"),
            ("/a", "Too many levels of symbolic links (os error 40)"),
            ("/self", "Too many levels of symbolic links (os error 40)"),
            ("/gone", "No such file or directory (os error 2)"),
            ("/etc/passwd/x", "Not a directory (os error 20)"),
            ("/etc/passwd/..", "Not a directory (os error 20)"),
        ] {
            assert_eq!(at(&root, path), expected, "{path}");
        }
        assert!(metadata(root.path(), "/lib/up").expect("a folder").is_dir());
        assert!(link_metadata(root.path(), "/gone").expect("a link").is_symlink());
        assert!(link_metadata(root.path(), "/lib/libcuda.so.1").expect("a link").is_symlink());
        assert_eq!(read_text(root.path(), "/lib/out", 9), Ok(Some("mine".to_owned())));
    }

    #[test]
    fn a_path_without_end_is_an_error() {
        let root = Root::new(&[]);
        let long = format!("/{}", "x/../".repeat(MAX_PARTS as usize));
        std::fs::create_dir(root.path().join("x")).expect("a folder");
        assert_eq!(at(&root, &long), "File name too long (os error 36)");
        assert_eq!(at(&root, &"x/../".repeat(900)), "/");
    }

    #[test]
    fn nothing_but_a_regular_file_is_read_and_nothing_waits() {
        let root = Root::new(&[("folder/file", "text")]);
        let fifo = root.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let _socket =
            std::os::unix::net::UnixListener::bind(root.path().join("socket")).expect("a socket");
        root.link("to-fifo", "/fifo");
        for (path, expected) in [
            ("/fifo", "not a regular file"),
            ("/to-fifo", "not a regular file"),
            ("/socket", "not a regular file"),
            ("/folder", "a folder"),
        ] {
            let error = read_text(root.path(), path, 9).expect_err(path);
            assert_eq!(error, Note { source: path.to_owned(), what: expected.to_owned() });
            assert!(read_tail(root.path(), path, 9).is_err(), "{path}");
        }
        assert_eq!(read_text(root.path(), "/missing", 9), Ok(None));
        assert_eq!(read_text(root.path(), "/folder/file/below", 9), Ok(None));
        assert!(list(root.path(), "/fifo", 9).expect("no folder").is_none());
    }

    #[test]
    fn reads_are_bounded() {
        let root = Root::new(&[("file", "one\ntwo\nthree\n")]);
        let sparse = File::create(root.path().join("sparse")).expect("a file");
        sparse.set_len(1 << 30).expect("a sparse file");
        let text = |path, max| read_text(root.path(), path, max).expect("readable");
        let tail = |path, max| read_tail(root.path(), path, max).expect("readable");
        assert_eq!(text("/file", 5).as_deref(), Some("one\nt"));
        assert_eq!(text("/sparse", 3).as_deref(), Some("\0\0\0"));
        assert_eq!(tail("/file", 9).as_deref(), Some("three\n"));
        assert_eq!(tail("/file", 14).as_deref(), Some("one\ntwo\nthree\n"));
        assert_eq!(tail("/file", 3).as_deref(), Some(""));
        assert_eq!(tail("/sparse", 9).as_deref(), Some(""));
        let listing = list(root.path(), "/", 1).expect("readable").expect("there");
        assert!(listing.is_cut && listing.names.len() == 1);
        let listing = list(root.path(), "/", 2).expect("readable").expect("there");
        assert_eq!(listing, Listing { names: vec!["file".into(), "sparse".into()], is_cut: false });
        let mut notes = Vec::new();
        assert_eq!(names(root.path(), "/file", &mut notes), [""; 0]);
        assert_eq!(notes, []);
    }

    #[test]
    fn bytes_that_are_no_text_are_read() {
        let root = Root::new(&[]);
        std::fs::write(root.path().join("binary"), b"a\xff\n").expect("a file");
        assert_eq!(read_text(root.path(), "/binary", 9), Ok(Some("a\u{fffd}\n".to_owned())));
    }
}
