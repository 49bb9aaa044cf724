//! Files as `torch.save` writes them, without tensors, for the tests of layouts.

use std::fs;
use std::path::Path;

/// What may be in a pickle here.
#[derive(Debug, Clone)]
pub enum Item {
    Nothing,
    Number(u32),
    Truth(bool),
    List(Vec<Item>),
    Dict(Vec<(&'static str, Item)>),
    /// An object with this state.
    Object(Box<Item>),
}

/// A list of numbers.
pub fn numbers(numbers: &[u32]) -> Item {
    Item::List(numbers.iter().copied().map(Item::Number).collect())
}

/// Writes an archive that holds this, and the folders above it.
pub fn torch(path: &Path, item: &Item) {
    let mut pickle = vec![0x80, 2];
    put(item, &mut pickle);
    pickle.push(b'.');
    let bytes = archive(&[("data.pkl", &pickle), ("byteorder", b"little"), ("version", b"3\n")]);
    fs::create_dir_all(path.parent().expect("a folder")).unwrap();
    fs::write(path, bytes).unwrap();
}

fn put(item: &Item, to: &mut Vec<u8>) {
    match item {
        Item::Nothing => to.push(b'N'),
        Item::Number(number) => {
            to.push(b'J');
            to.extend(number.to_le_bytes());
        }
        Item::Truth(truth) => to.push(if *truth { 0x88 } else { 0x89 }),
        Item::List(items) => {
            to.extend(b"](");
            for item in items {
                put(item, to);
            }
            to.push(b'e');
        }
        Item::Object(state) => {
            to.extend(b"cmodule\nClass\n)\x81");
            put(state, to);
            to.push(b'b');
        }
        Item::Dict(items) => {
            to.extend(b"}(");
            for (key, item) in items {
                to.push(b'X');
                to.extend(u32::try_from(key.len()).unwrap().to_le_bytes());
                to.extend(key.as_bytes());
                put(item, to);
            }
            to.push(b'u');
        }
    }
}

/// A zip archive with nothing packed.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let name = format!("archive/{name}");
        let (size, len) = (u32::try_from(data.len()).unwrap(), u16::try_from(name.len()).unwrap());
        let offset = u32::try_from(bytes.len()).unwrap();
        let mut shared = vec![0; 12];
        shared.extend(crc(data).to_le_bytes());
        shared.extend(size.to_le_bytes());
        shared.extend(size.to_le_bytes());
        shared.extend(len.to_le_bytes());
        shared.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&shared[2..]);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02");
        directory.extend(&shared);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size) = (bytes.len(), directory.len());
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend(u32::try_from(size).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(start).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}
