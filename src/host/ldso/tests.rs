use super::*;
use crate::host::elf::tests::elf_file;
use crate::host::tests::Root;

pub const X86_64: u32 = 0x0303;
const I386: u32 = 0x0003;

/// Which of glibc's formats a cache has.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    Old,
    Combined,
    New,
}

/// A cache as `ldconfig` writes it: flags, capabilities, name and path of every line.
pub fn cache_file(format: Format, lines: &[(u32, u64, &str, &str)]) -> Vec<u8> {
    let mut strings: Vec<u8> = Vec::new();
    let mut places = Vec::new();
    for (_, _, name, path) in lines {
        let mut put = |text: &str| {
            let at = strings.len();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            u32::try_from(at).expect("small")
        };
        places.push((put(name), put(path)));
    }
    let count = u32::try_from(lines.len()).expect("few lines");
    let mut file = Vec::new();
    let put = |file: &mut Vec<u8>, numbers: &[u32]| {
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    };
    if format != Format::New {
        file.extend_from_slice(b"ld.so-1.7.0\0");
        put(&mut file, &[count]);
        for ((flags, ..), (name, path)) in lines.iter().zip(&places) {
            put(&mut file, &[*flags, *name, *path]);
        }
        if format == Format::Old {
            return [file, strings].concat();
        }
        file.resize(file.len().next_multiple_of(8), 0);
    }
    file.extend_from_slice(b"glibc-ld.so.cache1.1");
    put(&mut file, &[count, u32::try_from(strings.len()).expect("small"), 2, 0, 0, 0, 0]);
    let base = u32::try_from(48 + 24 * lines.len()).expect("small");
    for ((flags, hwcap, ..), (name, path)) in lines.iter().zip(&places) {
        put(&mut file, &[*flags, base + name, base + path, 0]);
        file.extend_from_slice(&hwcap.to_le_bytes());
    }
    [file, strings].concat()
}

fn entry(name: &str, path: &str, is_64_bit: bool, is_special: bool) -> CacheEntry {
    CacheEntry { name: name.into(), path: path.into(), is_64_bit, is_special }
}

#[test]
fn every_format_of_the_cache_is_read() {
    let lines = [
        (I386, 0, "libcuda.so.1", "/usr/lib32/libcuda.so.1"),
        (X86_64, 1 << 62, "libcuda.so.1", "/usr/lib64/glibc-hwcaps/x86-64-v3/libcuda.so.1"),
        (X86_64, 0, "libcuda.so.1", "/usr/lib64/libcuda.so.1"),
        (0x0a03, 0, "libcuda.so.1", "/usr/lib/aarch64-linux-gnu/libcuda.so.1"),
        (0x0803, 0, "libcuda.so.1", "/usr/libx32/libcuda.so.1"),
        (X86_64, 0, "libc.so.6", "/lib64/libc.so.6"),
    ];
    let special = |is_special| {
        vec![
            entry("libcuda.so.1", "/usr/lib32/libcuda.so.1", false, false),
            entry("libcuda.so.1", lines[1].3, true, is_special),
            entry("libcuda.so.1", "/usr/lib64/libcuda.so.1", true, false),
            entry("libcuda.so.1", "/usr/lib/aarch64-linux-gnu/libcuda.so.1", true, false),
            entry("libcuda.so.1", "/usr/libx32/libcuda.so.1", false, false),
        ]
    };
    let is_wanted = |name: &str| name.starts_with("libcuda");
    for (format, is_special) in
        [(Format::New, true), (Format::Combined, true), (Format::Old, false)]
    {
        let file = cache_file(format, &lines);
        assert_eq!(parse_cache(&file, is_wanted), Ok(special(is_special)));
    }
    // After an odd number of old lines the new header is moved to a multiple of eight.
    let file = cache_file(Format::Combined, &lines[1..]);
    assert_eq!(parse_cache(&file, is_wanted), Ok(special(true)[1..].to_vec()));
    let cut = "the file is cut off";
    let none = "not a cache of the dynamic linker";
    let file = cache_file(Format::New, &lines);
    for (bytes, expected) in
        [(&b""[..], none), (b"glibc-ld.so.cache1.0", none), (&file[..60], cut), (&file[..22], cut)]
    {
        assert_eq!(parse_cache(bytes, is_wanted), Err(expected));
    }
    // Lines whose texts are cut off are left out, the others are not.
    assert_eq!(parse_cache(&file[..file.len() - 60], is_wanted).map(|lines| lines.len()), Ok(4));
    let mut many = file.clone();
    many[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(parse_cache(&many, is_wanted), Err(cut));
}

#[test]
fn this_machines_own_cache_is_understood() {
    let Ok(bytes) = std::fs::read(CACHE) else { return };
    let entries = parse_cache(&bytes, |name| name == "libc.so.6").expect("glibc's own file");
    assert!(entries.iter().any(|entry| entry.is_64_bit && Path::new(&entry.path).exists()));
}

#[test]
fn library_path_is_split_as_the_linker_does() {
    for (text, working_dir, expected, noted) in [
        ("", Some("/w"), &[][..], 0),
        ("/a:/b;/a", Some("/w"), &["/a", "/b", "/a"][..], 0),
        ("/a:", Some("/w"), &["/a", "/w"][..], 0),
        (":/a", None, &["/a"][..], 0),
        ("lib:/a:$ORIGIN/x:/opt/$LIB", Some("/w"), &["/a"][..], 3),
    ] {
        let mut notes = Vec::new();
        let folders = library_path(OsStr::new(text), working_dir.map(Path::new), &mut notes);
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!((folders, notes.len()), (expected, noted), "{text}");
    }
    let mut notes = Vec::new();
    let long: String = (0..100_000).fold(String::new(), |text, at| text + &format!("/{at}:"));
    assert_eq!(library_path(OsStr::new(&long), None, &mut notes).len(), MAX_FOLDERS);
    assert_eq!(notes.len(), 1);
}

/// Where the linker of a root finds `libcuda.so.1`: the path it opens, how, and what is wrong.
fn found(root: &Root, library_path: &str) -> Option<(String, FoundBy, Option<&'static str>)> {
    let env: Env = [("LD_LIBRARY_PATH", library_path)].into_iter().collect();
    let mut notes = Vec::new();
    let search = Search::read(root.path(), &env, |name| name.starts_with("libcuda"), &mut notes);
    assert_eq!(notes, []);
    let candidate = search.find(root.path(), "libcuda.so.1")?;
    let fault = candidate.file.err().map(|fault| match fault {
        Fault::Dangling => "dangling",
        Fault::Unreadable(_) => "unreadable",
        Fault::OtherMachine => "other machine",
        Fault::Empty => "empty",
        Fault::Broken(_) => "broken",
    });
    Some((candidate.path.display().to_string(), candidate.by, fault))
}

#[test]
fn the_first_file_that_the_linker_takes_wins() {
    let good = elf_file(&[]);
    let mut other = good.clone();
    other[4] = 1;
    let root = Root::new(&[("empty/libcuda.so.1", ""), ("text/libcuda.so.1", "GROUP(x)")]);
    root.file("32/libcuda.so.1", &other);
    root.file("a/libcuda.so.1", &good);
    root.link("dangling/libcuda.so.1", "/gone");
    root.file("folder/libcuda.so.1/x", "");
    assert_eq!(found(&root, ""), None);
    let by = FoundBy::Variable;
    for (path, expected) in [
        ("/missing:/a", ("/a/libcuda.so.1", by, None)),
        ("/dangling:/32:/a", ("/a/libcuda.so.1", by, None)),
        ("/empty:/a", ("/empty/libcuda.so.1", by, Some("empty"))),
        ("/text:/a", ("/text/libcuda.so.1", by, Some("broken"))),
        ("/32:/dangling", ("/dangling/libcuda.so.1", by, Some("dangling"))),
        ("/folder", ("/folder/libcuda.so.1", by, Some("unreadable"))),
    ] {
        let (at, by, fault) = expected;
        assert_eq!(found(&root, path), Some((at.to_owned(), by, fault)), "{path}");
    }
    assert_eq!(found(&root, "/32"), None);

    root.file("usr/lib64/libcuda.so.1", &good);
    let default = ("/usr/lib64/libcuda.so.1".to_owned(), FoundBy::Default, None);
    assert_eq!(found(&root, "/32"), Some(default.clone()));
    let cached = |path| cache_file(Format::New, &[(X86_64, 0, "libcuda.so.1", path)]);
    root.file("etc/ld.so.cache", cached("/a/libcuda.so.1"));
    let from_cache = ("/a/libcuda.so.1".to_owned(), FoundBy::Cache, None);
    assert_eq!(found(&root, ""), Some(from_cache));
    // A stale line: the linker goes on to the default folders.
    root.file("etc/ld.so.cache", cached("/gone/libcuda.so.1"));
    assert_eq!(found(&root, ""), Some(default));
}

#[test]
fn a_cache_that_is_none_is_a_note() {
    let root = Root::new(&[("etc/ld.so.cache", "junk")]);
    let mut notes = Vec::new();
    let search = Search::read(root.path(), &Env::default(), |_| true, &mut notes);
    assert_eq!(search, Search::default());
    assert_eq!(notes[0].what, "not a cache of the dynamic linker");
}
