//! `DeepSpeed`'s checkpoints inside those of other frameworks: a tag's folder, and `latest`.

use std::path::Path;

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
    deepspeed_latest(parts, folder, cx, io)?;
    Ok(true)
}

/// Judges the tag that `latest` names: a framework that asks for no tag resumes from that one, and
/// from nothing where `latest` is gone (`load_checkpoint` of `DeepSpeed`'s `runtime/engine.py`).
pub fn deepspeed_latest(
    parts: &mut Parts,
    folder: &Path,
    cx: &Cx,
    io: &mut Io,
) -> Result<(), IoError> {
    match text::tracker(&folder.join("latest"), io) {
        Some(tag) if parts.has_folder(&tag) => deepspeed_tag(parts, folder, &tag, cx, io)?,
        Some(tag) => parts.flaw("latest", format!("names `{tag}`, which is not there")),
        None if parts.has_file("latest") => parts.flaw("latest", "is empty or torn"),
        None => parts.flaw("latest", "is missing"),
    }
    Ok(())
}

/// Judges the folder of one tag.
pub fn deepspeed_tag(
    parts: &mut Parts,
    folder: &Path,
    tag: &str,
    cx: &Cx,
    io: &mut Io,
) -> Result<(), IoError> {
    match super::deepspeed::judge_folder(&folder.join(tag), cx, io) {
        Ok(judged) => parts.add(Some(tag), judged),
        Err(error) if error.is_flaw() => parts.flaw(tag, error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(())
}
