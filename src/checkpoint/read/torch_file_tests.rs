//! Real files, whole and damaged, and larger ones that are built here.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;
use crate::checkpoint::read::samples;

fn checked(bytes: &[u8]) -> Result<TorchFile, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pt");
    std::fs::write(&path, bytes).unwrap();
    check(&path, &mut Io::until(None)).unwrap()
}

fn loaded(bytes: &[u8]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pt");
    std::fs::write(&path, bytes).unwrap();
    let mut io = Io::until(None);
    let file = check(&path, &mut io).unwrap().unwrap();
    load(&path, &file, &mut io).unwrap().unwrap()
}

const ALL: [&[u8]; 3] = [samples::ZIP, samples::LEGACY[0], samples::LEGACY[1]];

#[test]
fn what_torch_wrote_is_whole_and_says_what_is_in_it() {
    for bytes in ALL {
        let file = checked(bytes).unwrap();
        assert_eq!((file.size, file.is_legacy), (bytes.len() as u64, file.data.is_none()));
        let value = loaded(bytes);
        assert_eq!(value.get("step").and_then(|step| step.as_u64()), Some(7));
        assert!(value.get("w").unwrap().args().unwrap().at(0).unwrap().persistent().is_some());
    }
}

#[test]
fn every_cut_is_seen() {
    for bytes in ALL {
        for len in 0..bytes.len() {
            assert!(checked(&bytes[..len]).is_err(), "{} of {} bytes", len, bytes.len());
        }
        assert!(checked(&[bytes, b"\0"].concat()).is_err(), "a byte too many");
        let zeros = vec![0; bytes.len()];
        assert!(checked(&zeros).unwrap_err().contains("zeros"));
        // What a crash of the machine leaves: the size, and zeros from somewhere on.
        for from in (0..bytes.len()).step_by(16) {
            let mut torn = bytes.to_vec();
            torn[from..].fill(0);
            // The old form ends with values, which may be zeros.
            let ends_with_values = bytes[..2] != *b"PK" && from + 40 > bytes.len();
            assert!(
                torn == bytes || ends_with_values || checked(&torn).is_err(),
                "zeros from {from}"
            );
        }
    }
    assert_eq!(checked(b"").unwrap_err(), "is empty");
    let half = &samples::ZIP[..samples::ZIP.len() / 2];
    assert_eq!(checked(half).unwrap_err(), "has no end record: it was cut off");
    assert_eq!(checked(&[7; 4000]).unwrap_err(), "was not written by torch.save");
    let legacy = samples::LEGACY[0];
    assert_eq!(
        checked(&legacy[..legacy.len() - 1]).unwrap_err(),
        format!("is {} bytes, its tensors need {}", legacy.len() - 1, legacy.len())
    );
}

/// As `torch.serialization.set_crc32_options(False)` makes `torch.save` write it: zeros for checksums.
#[test]
fn files_without_checksums_are_read_all_the_same() {
    let without = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for at in 0..bytes.len() - 4 {
            match &bytes[at..at + 4] {
                b"PK\x07\x08" => bytes[at + 4..at + 8].fill(0),
                b"PK\x01\x02" => bytes[at + 16..at + 20].fill(0),
                _ => {}
            }
        }
        bytes
    };
    let bytes = without(samples::ZIP);
    assert_ne!(bytes, samples::ZIP);
    let place = checked(&bytes).unwrap().data.unwrap();
    assert_eq!(loaded(&bytes).get("step").and_then(|step| step.as_u64()), Some(7));
    for len in 0..bytes.len() {
        assert!(checked(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let (start, end) = (usize::try_from(place.start).unwrap(), usize::try_from(place.end).unwrap());
    for from in (start..end).chain([start + 1, end - 2]) {
        let mut torn = bytes.clone();
        torn[from..end].fill(0);
        assert!(checked(&torn).is_err(), "data.pkl is zeros from {from}");
    }
    // a pickle that ends before its part does
    let mut early = bytes.clone();
    early[start + 2..start + 4].copy_from_slice(b"N.");
    assert!(checked(&early).unwrap_err().contains("goes on after its end"));
    // one checksum that is there is enough to ask for all
    let data = samples::ZIP.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    let mut mixed = bytes;
    mixed[data + 16] = 1;
    assert!(checked(&mixed).is_err());
}

/// Every byte that is not padding or a tensor's value counts.
#[test]
fn a_changed_byte_of_what_describes_the_file_is_seen() {
    let whole = checked(samples::ZIP).unwrap();
    let data = whole.data.unwrap();
    for at in data.start..data.end {
        let mut bytes = samples::ZIP.to_vec();
        bytes[usize::try_from(at).unwrap()] ^= 0x40;
        assert!(checked(&bytes).unwrap_err().contains("checksum"), "byte {at} of data.pkl");
    }
    let parts = [&b"PK\x01\x02"[..], b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x07\x08"];
    for part in parts {
        let places = memchr::memmem::find_iter(samples::ZIP, part);
        for place in places {
            let mut bytes = samples::ZIP.to_vec();
            bytes[place] = 0;
            assert!(checked(&bytes).is_err(), "{} at {place}", part.escape_ascii());
        }
    }
}

/// A file as `torch.save` writes it, of one storage of so many bytes, which stay a hole.
fn sparse(path: &Path, stored: u64) -> u64 {
    let data = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nByteStorage\nU\x010U\x03cpu\x8a\x08",
        &stored.to_le_bytes()[..],
        b"tQK\0))tR.",
    ]
    .concat();
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    let file = File::create(path).unwrap();
    let (mut at, mut directory) = (0_u64, Vec::new());
    let parts = [("a/data.pkl", data.len() as u64, crc.sum()), ("a/data/0", stored, 7)];
    for (name, len, crc) in parts {
        let is_large = len >= u64::from(u32::MAX);
        let short = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let wide = [len.to_le_bytes(), len.to_le_bytes(), at.to_le_bytes()].concat();
        let (flags, name_len) = (0x0808_u16.to_le_bytes(), u16::try_from(name.len()).unwrap());
        let local =
            [b"PK\x03\x04\0\0", &flags[..], &[0; 18], &name_len.to_le_bytes(), &[0, 0]].concat();
        file.write_all_at(&local, at).unwrap();
        file.write_all_at(name.as_bytes(), at + 30).unwrap();
        let start = at + 30 + name.len() as u64;
        if name.ends_with("pkl") {
            file.write_all_at(&data, start).unwrap();
        }
        let sizes = if is_large { wide[..16].to_vec() } else { [short, short].concat() };
        let behind = [b"PK\x07\x08", &crc.to_le_bytes()[..], &sizes].concat();
        file.write_all_at(&behind, start + len).unwrap();
        let extra = if is_large { [&[1, 0, 24, 0][..], &wide].concat() } else { Vec::new() };
        let header = if is_large { u32::MAX } else { u32::try_from(at).unwrap() };
        directory.extend(
            [
                b"PK\x01\x02\0\0\0\0",
                &flags[..],
                &[0; 6],
                &crc.to_le_bytes(),
                &short,
                &short,
                &name_len.to_le_bytes(),
                &u16::try_from(extra.len()).unwrap().to_le_bytes(),
                &[0; 10],
                &header.to_le_bytes(),
                name.as_bytes(),
                &extra,
            ]
            .concat(),
        );
        at = start + len + behind.len() as u64;
    }
    let len = directory.len() as u64;
    let end = at + len;
    directory.extend([b"PK\x06\x06", &44_u64.to_le_bytes()[..], &[0; 12]].concat());
    for number in [2, 2, len, at] {
        directory.extend(number.to_le_bytes());
    }
    directory.extend([b"PK\x06\x07\0\0\0\0", &end.to_le_bytes()[..], &[1, 0, 0, 0]].concat());
    directory.extend([&b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff"[..], &[0xff; 8], &[0, 0]].concat());
    file.write_all_at(&directory, at).unwrap();
    at + directory.len() as u64
}

/// Two terabytes are looked at in a few places.
#[test]
fn large_files_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.pt");
    for stored in [1 << 16, u64::from(u32::MAX), 5 << 30, 2 << 40] {
        let size = sparse(&path, stored);
        let mut io = Io::until(None);
        let file = check(&path, &mut io).unwrap().unwrap_or_else(|what| panic!("{stored}: {what}"));
        assert_eq!(file.size, size);
        assert!(io.operations() < 20 && io.bytes() < 200_000, "{io:?}");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(size - 1).unwrap();
        assert!(check(&path, &mut io).unwrap().is_err());
        // Zeros up to the size that it had.
        file.set_len(size).unwrap();
        file.set_len(size / 2).unwrap();
        file.set_len(size).unwrap();
        assert_eq!(
            check(&path, &mut io).unwrap().unwrap_err(),
            "has no end record: it was cut off"
        );
    }
    // A storage that is smaller than data.pkl says.
    let size = sparse(&path, 1000);
    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, size);
    let at = memchr::memmem::find(&bytes, &1000_u64.to_le_bytes()).unwrap();
    bytes[at] ^= 1;
    let crc = {
        let file = checked(samples::ZIP).unwrap();
        assert!(file.data.is_some());
        let end = memchr::memmem::find(&bytes, b"PK\x07\x08").unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[40..end]);
        (end, crc.sum().to_le_bytes())
    };
    bytes[crc.0 + 4..crc.0 + 8].copy_from_slice(&crc.1);
    let central = memchr::memmem::find(&bytes, b"PK\x01\x02").unwrap();
    bytes[central + 16..central + 20].copy_from_slice(&crc.1);
    assert_eq!(
        checked(&bytes).unwrap_err(),
        "is damaged: data/0 is 1,000 bytes in it, its data.pkl needs 1,001"
    );
}

#[test]
fn a_number_is_read_from_a_small_file() {
    let (_, shard) = samples::DCP[1];
    // Each item is a whole file of torch.save.
    let starts: Vec<usize> =
        memchr::memmem::find_iter(shard, b"PK\x05\x06").map(|at| at + 22).collect();
    let mut from = 0;
    let mut numbers = Vec::new();
    for end in starts {
        numbers.extend(number_in(&shard[from..end]));
        from = end;
    }
    assert_eq!(numbers, [7], "the step, and not the tensors");
}
