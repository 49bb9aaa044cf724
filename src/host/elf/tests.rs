#![expect(clippy::print_stdout, reason = "what was measured, and why something was skipped")]

use std::os::unix::fs::FileExt as _;

use super::*;
use crate::host::tests::Root;

/// A 64-bit ELF file with one loaded segment over all of it, these sections, and a segment of
/// notes over `.note…` sections.
pub fn elf_file(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0_u8];
    let mut body: Vec<u8> = Vec::new();
    let mut headers: Vec<[u64; 5]> = vec![[0; 5]];
    let note_count = sections.iter().filter(|(name, _)| name.starts_with(".note")).count();
    let body_start = 64 + 56 * (1 + note_count);
    let pad = |body: &mut Vec<u8>| body.resize(body.len().next_multiple_of(8), 0);
    for (name, data) in sections.iter().copied().chain([(".shstrtab", &b""[..])]) {
        let name_at = names.len() as u64;
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let kind = match name {
            ".shstrtab" => 3,
            ".bss" => 8,
            _ if name.starts_with(".note") => 7,
            _ => 1,
        };
        let data = if name == ".shstrtab" { names.clone() } else { data.to_vec() };
        headers.push([name_at, kind, (body_start + body.len()) as u64, data.len() as u64, 4]);
        body.extend_from_slice(&data);
        pad(&mut body);
    }
    let table_at = body_start + body.len();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let u16s = |file: &mut Vec<u8>, values: &[u16]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let u32s = |file: &mut Vec<u8>, values: &[u32]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let u64s = |file: &mut Vec<u8>, values: &[u64]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    u16s(&mut file, &[3, 62]);
    u32s(&mut file, &[1]);
    u64s(&mut file, &[0, 64, table_at as u64]);
    u32s(&mut file, &[0]);
    let count = u16::try_from(headers.len()).expect("few sections");
    let segments = u16::try_from(1 + note_count).expect("few sections");
    u16s(&mut file, &[64, 56, segments, 64, count, count - 1]);
    u32s(&mut file, &[PT_LOAD, 5]);
    u64s(&mut file, &[0, 0, 0, table_at as u64, table_at as u64, 4096]);
    for [_, _, offset, size, align] in headers.iter().filter(|header| header[1] == 7) {
        u32s(&mut file, &[PT_NOTE, 4]);
        u64s(&mut file, &[*offset, 0, 0, *size, *size, *align]);
    }
    file.extend_from_slice(&body);
    for [name, kind, offset, size, align] in headers {
        let small = |value| u32::try_from(value).expect("small");
        u32s(&mut file, &[small(name), small(kind)]);
        u64s(&mut file, &[0, 0, offset, size]);
        u32s(&mut file, &[0, 0]);
        u64s(&mut file, &[align, 0]);
    }
    file
}

/// A note, as it stands in a segment.
pub fn note(owner: &str, kind: u32, text: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for number in [owner.len() + 1, text.len(), kind as usize] {
        note.extend_from_slice(&u32::try_from(number).expect("small").to_le_bytes());
    }
    note.extend_from_slice(owner.as_bytes());
    note.push(0);
    note.resize(note.len().next_multiple_of(4), 0);
    note.extend_from_slice(text);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

#[test]
fn sections_and_notes_are_found() {
    let notes = [note("GNU", 3, b"id"), note("NVIDIA Corporation", 7, b"{}")].concat();
    let file = elf_file(&[(".text", b"code"), (".note.x", &notes), (".rodata", b"abc\0")]);
    let elf = Elf::read(&file[..]).expect("an ELF file");
    assert_eq!(elf.machine(), 62);
    assert_eq!(elf.section(".rodata", 99).expect("there").as_deref(), Some(&b"abc\0"[..]));
    assert_eq!(elf.section(".rodata", 2).expect("there").as_deref(), Some(&b"ab"[..]));
    assert_eq!(elf.section(".rod", 2).expect("readable"), None);
    assert_eq!(elf.notes("NVIDIA Corporation").expect("notes"), [(7, b"{}".to_vec())]);
    assert_eq!(elf.notes("NVIDIA").expect("notes"), []);
}

#[test]
fn what_is_no_whole_elf_file_is_an_error() {
    let whole = elf_file(&[(".rodata", b"abc\0")]);
    let mut other = whole.clone();
    other[4] = 1;
    let end = whole.len() - 1;
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (b"!<arch>\n", "not an ELF file"),
        (&whole[..20], "the file is cut off"),
        (&whole[..64], "the file is cut off"),
        (&whole[..end], "the file is cut off"),
        (&other, "not a 64-bit little-endian ELF file"),
        (b"/* GNU ld script */ GROUP ( libcuda.so.1 )", "not an ELF file"),
    ] {
        assert_eq!(Elf::read(bytes).expect_err("broken").to_string(), expected);
    }
    // The headers are all there, and a segment is not: p_filesz of the first one.
    let mut longer = whole.clone();
    longer[64 + 32..64 + 40].copy_from_slice(&(whole.len() as u64 + 1).to_le_bytes());
    assert!(matches!(Elf::read(&longer[..]), Err(ElfError::Cut)));
}

#[test]
fn every_shortened_file_is_an_error_and_no_changed_byte_is_a_panic() {
    let notes = note("NVIDIA Corporation", 7, b"{}");
    let whole = elf_file(&[(".note.x", &notes), (".rodata", b"580.1\0"), (".modinfo", b"a=b\0")]);
    for length in 0..whole.len() {
        assert!(Elf::read(&whole[..length]).is_err(), "{length} bytes");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(elf) = Elf::read(&changed[..]) {
                let _ = elf.notes("NVIDIA Corporation");
                let _ = elf.section(".rodata", 99);
            }
        }
    }
}

#[test]
fn headers_that_ask_for_a_lot_are_refused() {
    let mut file = elf_file(&[(".rodata", b"abc\0")]);
    file[60..62].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(matches!(Elf::read(&file[..]), Err(ElfError::Senseless)));
    let sparse = tempfile::tempfile().expect("a file");
    sparse.write_all_at(&elf_file(&[]), 0).expect("writable");
    sparse.set_len(1 << 30).expect("a sparse file");
    let elf = Elf::read(&sparse).expect("an ELF file");
    assert_eq!(elf.section(".rodata", 99).expect("readable"), None);
    sparse.write_all_at(b"\0\0\0\0", 0).expect("writable");
    assert!(matches!(Elf::read(&sparse), Err(ElfError::NotElf)));
}

#[test]
fn modinfo_is_read() {
    let section =
        b"version=580.95.05\0\0\0license=Dual MIT/GPL\0vermagic=6.8.0 SMP\0junk\0parm=a=b";
    let info = ModInfo::parse(section);
    assert_eq!(info.get("version"), Some("580.95.05"));
    assert_eq!(info.get("license"), Some("Dual MIT/GPL"));
    assert_eq!(info.get("parm"), Some("a=b"));
    assert_eq!(info.get("junk"), None);
}

#[test]
fn names_and_version_of_nccl_are_found() {
    let mut rodata = b"NCCL_DEBUG\0NCCL_\0NCCL_AB\0set NCCL_IB_HCA, or NCCL_DEBUG=%s\0".to_vec();
    rodata.extend_from_slice(b"Prints the NCCL version info\0NCCL version 2.27.3+cuda12.9\0");
    rodata.extend_from_slice(&[b"NCCL_".to_vec(), b"A".repeat(500)].concat());
    let root = Root::new(&[]);
    let path = root.file("libnccl.so.2", elf_file(&[(".rodata", &rodata)]));
    let scan = nccl_names(&path).expect("an ELF file");
    assert_eq!(scan.names, ["NCCL_DEBUG", "NCCL_IB_HCA"]);
    assert_eq!(scan.version.as_deref(), Some("2.27.3"));
    let empty = root.file("empty.so", "");
    assert_eq!(nccl_names(&empty).expect_err("empty").to_string(), "the file is empty");
    assert!(nccl_names(root.path()).is_err());
    assert!(nccl_names(&root.path().join("missing")).is_err());
}

#[test]
fn the_version_in_a_library_is_the_only_text_of_its_form() {
    let one: &[u8] = b"x\x00535.261.03\0NVIDIA 535.261.03 build\x00802.1x\0";
    assert_eq!(driver_version(one).as_deref(), Some("535.261.03"));
    assert_eq!(driver_version(b"a\x00535.261.03\x00535.261.03\0").as_deref(), Some("535.261.03"));
    assert_eq!(driver_version(b"a\x00535.261.03\x00550.1\0"), None);
    assert_eq!(driver_version(b""), None);
}

#[test]
fn the_real_nccl_names_its_variables() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let pythons = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let path = pythons
        .map(|python| python.path().join("site-packages/nvidia/nccl/lib/libnccl.so.2"))
        .find(|path| path.exists());
    let Some(path) = path else {
        println!("skipped: no NCCL is installed in .venv");
        return;
    };
    let start = std::time::Instant::now();
    let scan = nccl_names(&path).expect("NCCL's own library");
    println!("{} names in {:?}, version {:?}", scan.names.len(), start.elapsed(), scan.version);
    let knows = |name: &str| scan.names.iter().any(|known| known == name);
    assert!(knows("NCCL_DEBUG") && knows("NCCL_SOCKET_IFNAME") && knows("NCCL_P2P_DISABLE"));
    assert!(!knows("NCCL_NVML_DISABLE"), "no version reads it");
    assert!((150..1000).contains(&scan.names.len()));
    assert!(scan.version.is_some_and(|version| version.starts_with("2.")));
}
