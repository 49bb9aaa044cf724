//! The template's program as a module that the interpreter finds: a zip archive with one file.
//!
//! Python imports from archives in `PYTHONPATH` without help. One that is in memory (memfd) needs
//! no path in the file system that somebody would have to clean up. Stored, not compressed: then
//! the import needs no `zlib`. Format: PKWARE's APPNOTE.TXT, 4.3.7, 4.3.12, 4.3.16.

use flate2::Crc;

/// The program, as it is.
pub const TEMPLATE: &str = include_str!("template.py");

/// An archive of the program under the name by which Python looks for it.
pub fn archive() -> Vec<u8> {
    zip("sitecustomize.py", TEMPLATE.as_bytes())
}

/// Version 1.0 of the format is enough for a stored file.
const VERSION: u16 = 10;
/// 1980-01-01, the first day the format knows.
const DATE: u16 = 0x21;

fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(content);
    let size = u32::try_from(content.len()).expect("the program is small");
    let name_len = u16::try_from(name.len()).expect("the name is short");
    // What the local header and the directory share: version, flags, method, time, date, CRC,
    // both sizes, length of the name, length of the extra field.
    let mut shared = Vec::new();
    for half in [VERSION, 0, 0, 0, DATE] {
        shared.extend(half.to_le_bytes());
    }
    for word in [crc.sum(), size, size] {
        shared.extend(word.to_le_bytes());
    }
    shared.extend(name_len.to_le_bytes());
    shared.extend([0, 0]);

    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend(&shared);
    zip.extend(name.as_bytes());
    zip.extend(content);
    let directory = u32::try_from(zip.len()).expect("the program is small");
    zip.extend(b"PK\x01\x02");
    zip.extend(VERSION.to_le_bytes());
    zip.extend(&shared);
    // No comment, first disk, no attributes, the file's header at the start.
    zip.extend([0; 14]);
    zip.extend(name.as_bytes());
    let directory_size = u32::try_from(zip.len()).expect("the program is small") - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(directory_size.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_shape_that_the_format_asks_for() {
        let zip = zip("a.py", b"x = 1\n");
        assert_eq!(zip.len(), 30 + 4 + 6 + 46 + 4 + 22);
        assert_eq!(&zip[30..40], b"a.pyx = 1\n");
        // CRC-32 of the content, as `zlib.crc32` gives it.
        assert_eq!(u32::from_le_bytes([zip[14], zip[15], zip[16], zip[17]]), 0x8bf6_893b);
        let end = zip.len() - 22;
        assert_eq!(&zip[end..end + 4], b"PK\x05\x06");
        assert_eq!(zip[end + 16..end + 20], 40u32.to_le_bytes());
        assert_eq!(zip[end + 12..end + 16], 50u32.to_le_bytes());
    }
}
