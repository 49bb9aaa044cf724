//! What stands in an ELF file: sections, notes, and texts in its read-only data.
//!
//! Files are read piece by piece, never as a whole, and every piece has a bound: a library of
//! hundreds of megabytes costs its headers and the one section that is asked for. Only 64-bit
//! little-endian files are read, the only ones there are drivers for.
//!
//! - E1: a file whose headers point past its end is cut off; nothing in it is believed.
//! - E2: what stands in a section is found by the section's name alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use memchr::memmem;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64, SHT_NOBITS, SectionHeader64};
use object::endian::LittleEndian;
use object::pod::{self, Pod};
use object::read::elf::{FileHeader as _, NoteIterator, ProgramHeader as _, SectionHeader as _};

use super::files;

type Header = FileHeader64<LittleEndian>;

/// Sections or segments that a file may have.
const MAX_HEADERS: usize = 4_096;
/// Bytes of the table of section names.
const MAX_NAMES: u64 = 1 << 20;
/// Bytes of a segment of notes.
const MAX_NOTES: u64 = 1 << 20;
/// Bytes of read-only data that are searched.
const MAX_RODATA: u64 = 64 << 20;

/// Why an ELF file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It is something else.
    #[error("not an ELF file")]
    NotElf,
    /// It is for another kind of machine.
    #[error("not a 64-bit little-endian ELF file")]
    OtherClass,
    /// Its headers point past its end.
    #[error("the file is cut off")]
    Cut,
    /// It has more of something than any real file.
    #[error("the headers of the file make no sense")]
    Senseless,
    /// It cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
}

impl From<ElfError> for io::Error {
    fn from(error: ElfError) -> Self {
        match error {
            ElfError::Read(error) => error,
            error => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Something with bytes at offsets.
pub trait Bytes {
    /// How many bytes it has.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buffer` with those from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Bytes for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Bytes for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy)]
struct Range {
    offset: u64,
    size: u64,
    align: u64,
}

/// An ELF file whose headers were read.
#[derive(Debug)]
pub struct Elf<'a, B: Bytes + ?Sized> {
    bytes: &'a B,
    size: u64,
    machine: u16,
    sections: Vec<(Vec<u8>, Range)>,
    notes: Vec<Range>,
}

impl<'a, B: Bytes + ?Sized> Elf<'a, B> {
    /// Reads the headers.
    pub fn read(bytes: &'a B) -> Result<Self, ElfError> {
        let size = bytes.size()?;
        if size == 0 {
            return Err(ElfError::Empty);
        }
        let mut elf = Self { bytes, size, machine: 0, sections: Vec::new(), notes: Vec::new() };
        let start = elf.piece(Range { offset: 0, size: size.min(64), align: 1 })?;
        if !start.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        // Class 2 is 64 bits, data 1 is little-endian.
        if start.get(4..6).is_some_and(|ident| ident != [2, 1]) {
            return Err(ElfError::OtherClass);
        }
        let header = &elf.table::<Header>(0, 1)?[0];
        let le = LittleEndian;
        elf.machine = header.e_machine(le);
        elf.read_segments(header)?;
        elf.read_sections(header)?;
        Ok(elf)
    }

    /// The number of its machine: 62 is `x86_64`, 183 is aarch64.
    pub fn machine(&self) -> u16 {
        self.machine
    }

    /// The first `max` bytes of a section; `None` where there is no such section.
    pub fn section(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, ElfError> {
        let found = self.sections.iter().find(|(found, _)| found == name.as_bytes());
        let Some((_, range)) = found else { return Ok(None) };
        self.piece(Range { size: range.size.min(max), ..*range }).map(Some)
    }

    /// The content of every note of `owner`, with its type.
    pub fn notes(&self, owner: &str) -> Result<Vec<(u32, Vec<u8>)>, ElfError> {
        let le = LittleEndian;
        let mut notes = Vec::new();
        for range in &self.notes {
            let words = self.words(Range { size: range.size.min(MAX_NOTES), ..*range })?;
            let size = usize::try_from(range.size.min(MAX_NOTES)).expect("at most a megabyte");
            let data = &pod::bytes_of_slice(&words)[..size];
            let Ok(found) = NoteIterator::<Header>::new(le, range.align, data) else { continue };
            for note in found {
                // What follows a note that makes no sense is lost, what came before is not.
                let Ok(note) = note else { break };
                if note.name() == owner.as_bytes() {
                    notes.push((note.n_type(le), note.desc().to_vec()));
                }
            }
        }
        Ok(notes)
    }

    fn read_segments(&mut self, header: &Header) -> Result<(), ElfError> {
        let le = LittleEndian;
        let count = usize::from(header.e_phnum(le));
        if count > MAX_HEADERS {
            return Err(ElfError::Senseless);
        }
        for segment in self.table::<ProgramHeader64<LittleEndian>>(header.e_phoff(le), count)? {
            let kind = segment.p_type(le);
            if !matches!(kind, PT_LOAD | PT_NOTE) {
                continue;
            }
            let (offset, size) = segment.file_range(le);
            let range = Range { offset, size, align: segment.p_align(le) };
            if offset.checked_add(size).is_none_or(|end| end > self.size) {
                return Err(ElfError::Cut);
            }
            if kind == PT_NOTE {
                self.notes.push(range);
            }
        }
        Ok(())
    }

    fn read_sections(&mut self, header: &Header) -> Result<(), ElfError> {
        let le = LittleEndian;
        let count = usize::from(header.e_shnum(le));
        if count > MAX_HEADERS {
            return Err(ElfError::Senseless);
        }
        let table = self.table::<SectionHeader64<LittleEndian>>(header.e_shoff(le), count)?;
        let range_of = |section: &SectionHeader64<LittleEndian>| {
            let (offset, size) = (section.sh_offset(le), section.sh_size(le));
            Range { offset, size, align: section.sh_addralign(le) }
        };
        let Some(names) = table.get(usize::from(header.e_shstrndx(le))).map(range_of) else {
            return Ok(());
        };
        let names = self.piece(Range { size: names.size.min(MAX_NAMES), ..names })?;
        for section in table.iter().filter(|section| section.sh_type(le) != SHT_NOBITS) {
            let start = usize::try_from(section.sh_name(le)).unwrap_or(usize::MAX);
            let Some(name) = names.get(start..) else { continue };
            let name = &name[..memchr::memchr(0, name).unwrap_or(0)];
            self.sections.push((name.to_vec(), range_of(section)));
        }
        Ok(())
    }

    /// Some structures of one kind, which have to be in the file (E1).
    fn table<T: Pod + Clone>(&self, offset: u64, count: usize) -> Result<Vec<T>, ElfError> {
        let size = (size_of::<T>() * count) as u64;
        let words = self.words(Range { offset, size, align: 8 })?;
        let (table, _) = pod::slice_from_bytes(pod::bytes_of_slice(&words), count)
            .map_err(|()| ElfError::Cut)?;
        Ok(table.to_vec())
    }

    /// A piece of the file, aligned as the structures in it want it.
    fn words(&self, range: Range) -> Result<Vec<u64>, ElfError> {
        let size = self.check(range)?;
        let mut words = vec![0_u64; size.div_ceil(8)];
        self.bytes.read_at(&mut pod::bytes_of_slice_mut(&mut words)[..size], range.offset)?;
        Ok(words)
    }

    fn piece(&self, range: Range) -> Result<Vec<u8>, ElfError> {
        let mut bytes = vec![0; self.check(range)?];
        self.bytes.read_at(&mut bytes, range.offset)?;
        Ok(bytes)
    }

    /// The size of a range that lies within the file (E1), so that nothing larger than the file is
    /// ever asked for.
    fn check(&self, range: Range) -> Result<usize, ElfError> {
        let end = range.offset.checked_add(range.size).filter(|end| *end <= self.size);
        end.and_then(|_| usize::try_from(range.size).ok()).ok_or(ElfError::Cut)
    }
}

/// The `key=value` texts of a kernel module's `.modinfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo(pub Vec<(String, String)>);

impl ModInfo {
    /// Reads the texts of the section; what is no `key=value` is left out.
    pub fn parse(section: &[u8]) -> Self {
        let texts = section.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let pair = |text: &str| {
            let (key, value) = text.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        Self(texts.filter_map(|text| pair(&text)).collect())
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }
}

/// What stands in the read-only data of a `libnccl.so.2`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NcclScan {
    /// Every `NCCL_…` name, sorted: the variables that this NCCL knows are among them.
    pub names: Vec<String>,
    /// `2.27.3`
    pub version: Option<String>,
}

/// Reads the `NCCL_…` names of the library at `path` (as this process sees it) and its version.
/// Of a file of hundreds of megabytes only the headers and `.rodata` are read.
pub fn nccl_names(path: &Path) -> io::Result<NcclScan> {
    let file = files::open_here(path)?;
    let Some(rodata) = Elf::read(&file)?.section(".rodata", MAX_RODATA)? else {
        return Ok(NcclScan::default());
    };
    Ok(NcclScan { names: names_with_prefix(&rodata, b"NCCL_"), version: nccl_version(&rodata) })
}

/// The names (upper-case letters, digits and `_`) in `data` that start with `prefix` and go on for
/// at least three bytes, sorted.
pub fn names_with_prefix(data: &[u8], prefix: &[u8]) -> Vec<String> {
    let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    let mut names = BTreeSet::new();
    for start in memmem::find_iter(data, prefix) {
        let rest = &data[start + prefix.len()..];
        // A name is never longer than a line; what is, is data.
        let length = rest.iter().take(128).take_while(|byte| is_name(byte)).count();
        if (3..128).contains(&length) {
            names.insert(&data[start..start + prefix.len() + length]);
        }
    }
    names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// The version in `NCCL version 2.27.3+cuda12.9`, which NCCL prints.
fn nccl_version(rodata: &[u8]) -> Option<String> {
    const PREFIX: &[u8] = b"NCCL version ";
    memmem::find_iter(rodata, PREFIX).find_map(|start| {
        let rest = rodata[start + PREFIX.len()..].iter().take(32);
        let is_version = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let version: String = rest.take_while(is_version).map(|byte| char::from(*byte)).collect();
        (version.split('.').filter(|part| !part.is_empty()).count() == 3).then_some(version)
    })
}

/// The only text in the read-only data that is a driver's version and nothing else, as
/// `580.95.05`; `None` where there is none, or there are several.
pub fn driver_version(rodata: &[u8]) -> Option<String> {
    let mut versions =
        rodata.split(|byte| *byte == 0).filter(|text| super::nvidia::version::is_version(text));
    let first = versions.next()?;
    versions.all(|other| other == first).then(|| String::from_utf8_lossy(first).into_owned())
}

/// The bytes of a file's `.rodata`.
pub fn rodata(file: &File) -> Result<Vec<u8>, ElfError> {
    Ok(Elf::read(file)?.section(".rodata", MAX_RODATA)?.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests;
