//! Other layouts' folders inside a checkpoint: PyTorch's shards, and `DeepSpeed`'s tags.

use std::path::Path;
use std::time::SystemTime;

use crate::checkpoint::Flaw;
use crate::checkpoint::io::{Io, IoError};
use crate::checkpoint::read::text;

use super::Cx;
use super::parts::{Parts, between};

/// Judges what the Trainer's engine left: the tag that `latest` names, without which the engine
/// loads nothing. Whether there is anything of it.
pub fn deepspeed(parts: &mut Parts, folder: &Path, cx: &Cx, io: &mut Io) -> Result<bool, IoError> {
    let tags = parts.folders(|name| between(name, "global_step", "").is_some());
    if tags.is_empty() && !parts.has_file("latest") {
        return Ok(false);
    }
    match text::tracker(&folder.join("latest"), io) {
        Some(tag) if parts.has_folder(&tag) => deepspeed_tag(parts, folder, &tag, cx, io)?,
        Some(tag) => parts.flaw("latest", format!("names `{tag}`, which is not there")),
        None if parts.has_file("latest") => parts.flaw("latest", "is empty or torn"),
        None => parts.flaw("latest", "is missing"),
    }
    Ok(true)
}

/// What was found in a folder of shards.
#[derive(Debug, Default)]
pub struct Dcp {
    /// What is wrong.
    pub flaws: Vec<Flaw>,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// The newest.
    pub modified: Option<SystemTime>,
}

/// Judges a folder of shards.
pub fn dcp(folder: &Path, io: &mut Io) -> Result<Dcp, IoError> {
    io.stat(&folder.join(".metadata"))?;
    Ok(Dcp::default())
}

/// Judges the folder of one tag.
pub fn deepspeed_tag(
    parts: &mut Parts,
    folder: &Path,
    tag: &str,
    cx: &Cx,
    io: &mut Io,
) -> Result<(), IoError> {
    let _ = cx;
    let judged = dcp(&folder.join(tag), io)?;
    parts.add(Some(tag), judged);
    Ok(())
}
