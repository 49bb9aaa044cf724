//! More files, and what is said of them, for the tests of layouts.

use std::fs;
use std::path::Path;

pub use super::fixtures::{Item, torch};

use super::Cx;
use crate::checkpoint::io::Io;
use crate::checkpoint::scan::{self, Request};
use crate::checkpoint::{Flaw, Layout, Verdict};

/// Writes weights of safetensors: one tensor of four bytes.
pub fn safetensors(path: &Path) {
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 4]);
    text(path, &bytes);
}

/// Writes a file of text, and the folders above it.
pub fn text(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a folder")).unwrap();
    fs::write(path, text).unwrap();
}

/// Sets how old a file is: seconds after some moment, after which no test runs.
pub fn age(path: &Path, seconds: u64) {
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(2_100_000_000 + seconds);
    let file = fs::File::options().read(true).open(path).unwrap();
    file.set_modified(moment).unwrap();
}

/// Cuts one byte off.
pub fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

/// What a layout's scan says, newest first: the candidate's name, step, and verdict.
pub fn said(layout: Layout, folder: &Path, cx: &Cx) -> Vec<String> {
    let request =
        Request { folder: folder.to_owned(), layout: Some(layout), cx: cx.clone(), all: true };
    let scanned = scan::scan(&request, &mut Io::until(None));
    assert_eq!(scanned.failed, None);
    let said = scanned.candidates.iter().map(|candidate| {
        let judged = candidate.judged.as_ref().expect("all are judged");
        let verdict = match &judged.verdict {
            Verdict::Whole => "whole".to_owned(),
            Verdict::Broken(flaws) => {
                flaws.iter().map(Flaw::to_string).collect::<Vec<_>>().join("; ")
            }
            Verdict::Export(why) => format!("export: {why}"),
            Verdict::Unknown(why) => format!("unknown: {why}"),
        };
        let name = candidate.found.path.strip_prefix(folder).unwrap().display();
        match candidate.step() {
            Some(step) => format!("{name} @{step} {verdict}"),
            None => format!("{name} {verdict}"),
        }
    });
    said.collect()
}

/// The same without knowing how many ranks there are.
pub fn said_of(layout: Layout, folder: &Path) -> Vec<String> {
    said(layout, folder, &Cx::default())
}
