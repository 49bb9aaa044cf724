//! `DeepSpeed`: `<tag>/` with the model's files and one part of the optimizer for each rank.
//!
//! Whole means: the model files say how many ranks wrote (`dp_world_size`, `mp_world_size`, and the
//! optimizer's own `partition_count`); all their files are there and pass ([`pieces`]). Where the
//! model files cannot say it, the size of the job does, or what other tags of the same folder have.
//!
//! `latest` is only a hint: rank 0 writes it in place, before the barrier at which the other ranks
//! say that they are done. `<tag>_universal/` is converted by hand and loaded only on request: it is
//! no resume point.
//!
//! Source: `DeepSpeed`'s `runtime/engine.py` (`save_checkpoint`, `_save_checkpoint`,
//! `_save_moe_checkpoint`, `_save_zero_checkpoint`, `load_checkpoint`),
//! `checkpoint/ds_to_universal.py`.

mod claims;
mod pieces;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use self::claims::Claims;
use self::pieces::{Piece, World};
use super::dcp::{self, Dcp};
use super::tally::{Tally, is_torch};
use super::{Adapter, Cx, Pointer};
use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::{text, torch_file};
use crate::checkpoint::{Found, Judged, Layout, Verdict};

/// The framework's own pointer.
const LATEST: &str = "latest";

/// As many folders as are opened to see whose they are, where no pointer says it.
const LOOKS: usize = 8;

/// As many model files as are asked what step they are of.
const MAX_ASKED: usize = 16;

/// As many other tags as are looked at for what this one lacks.
const MAX_NEIGHBOURS: usize = 3;

/// The adapter.
pub struct Deepspeed;

impl Adapter for Deepspeed {
    fn layout(&self) -> Layout {
        Layout::Deepspeed
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let mut found = Vec::new();
        for (name, step) in tags(folder, entries, io)? {
            let path = folder.join(name);
            let modified = io.stat(&path).ok().and_then(|stat| stat.modified);
            let number = step.or_else(|| last_number(name));
            found.push(Found { layout: Layout::Deepspeed, path, number, step, modified });
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let tag = Tag::read(&found.path, cx, io)?;
        let export = tag.export();
        let mut judged = tag.tally.judged(tag.claims.steps);
        if let (Verdict::Whole, Some(why)) = (&judged.verdict, export) {
            judged.verdict = Verdict::Export(why.to_owned());
        }
        Ok(judged)
    }

    fn pointer(&self, folder: &Path, entries: &[Entry], io: &mut Io) -> Option<Pointer> {
        let is_there = entries.iter().any(|entry| entry.name == LATEST);
        is_there.then(|| Pointer {
            file: LATEST.to_owned(),
            names: text::tracker(&folder.join(LATEST), io),
        })
    }
}

/// Judges the folder of a tag that is part of another layout's checkpoint.
pub fn judge_folder(folder: &Path, cx: &Cx, io: &mut Io) -> Result<Dcp, IoError> {
    Ok(Tag::read(folder, cx, io)?.tally.into_folder())
}

/// The folders that are tags, by their names or, where somebody else named them, by what they hold;
/// with their steps.
fn tags<'a>(
    folder: &Path,
    entries: &'a [Entry],
    io: &mut Io,
) -> Result<Vec<(&'a str, Option<u64>)>, IoError> {
    let is_file = |name: &str| Path::new(name).extension().is_some_and(|end| end.len() > 2);
    let mut folders: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.is_folder)
        .filter_map(Entry::text)
        // MMEngine's and Lightning's checkpoints may be folders of DeepSpeed
        .filter(|name| !(is_file(name) && (name.ends_with("pth") || name.ends_with("ckpt"))))
        .collect();
    folders.sort_by_key(|name| std::cmp::Reverse(last_number(name)));
    let mut is_deepspeed = entries.iter().any(|entry| entry.name == LATEST);
    let mut tags = Vec::new();
    let mut closed = Vec::new();
    for (at, name) in folders.into_iter().enumerate() {
        if let Some(rest) = name.strip_prefix("global_step") {
            tags.push((name, digits(rest)));
        } else if is_deepspeed || at < LOOKS {
            match holds_pieces(&folder.join(name), io)? {
                Some(true) => {
                    is_deepspeed = true;
                    tags.push((name, None));
                }
                Some(false) => {}
                None => closed.push(name),
            }
        }
    }
    if !closed.is_empty() {
        let named = text::tracker(&folder.join(LATEST), io);
        closed.retain(|name| named.as_deref() == Some(*name) || is_like_one_of(name, &tags));
        tags.extend(closed.into_iter().map(|name| (name, None)));
    }
    Ok(tags)
}

/// What cannot be looked into may be anybody's (`lost+found`). It is a tag where it is called like one,
/// and then nothing older is chosen behind it.
fn is_like_one_of(name: &str, tags: &[(&str, Option<u64>)]) -> bool {
    last_number(name).is_some() && tags.iter().any(|(tag, _)| stem(tag) == stem(name))
}

/// Whether a folder has files of `DeepSpeed`'s; `None` where it cannot be looked into.
fn holds_pieces(folder: &Path, io: &mut Io) -> Result<Option<bool>, IoError> {
    match io.list(folder) {
        Ok(entries) => Ok(Some(entries.iter().filter_map(Entry::text).any(is_model_or_part))),
        Err(IoError::Deadline) => Err(IoError::Deadline),
        Err(error) if error.is_flaw() => Ok(Some(false)),
        Err(_) => Ok(None),
    }
}

fn is_model_or_part(name: &str) -> bool {
    Piece::of(name).is_some_and(|piece| piece.is_model() || matches!(piece, Piece::Optim { .. }))
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// The number that ends a tag of the user's own.
fn last_number(name: &str) -> Option<u64> {
    digits(&name[stem(name).len()..])
}

/// What stands before it.
fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// A file that passed.
struct Written<'a> {
    name: &'a str,
    piece: Piece,
    size: u64,
    modified: SystemTime,
}

/// One tag, looked at.
#[derive(Debug, Default)]
struct Tag {
    tally: Tally,
    pieces: BTreeSet<Piece>,
    claims: Claims,
    is_universal: bool,
    /// What names of parts begin with: `bf16_`, or nothing.
    prefix: &'static str,
}

impl Tag {
    fn read(folder: &Path, cx: &Cx, io: &mut Io) -> Result<Self, IoError> {
        let mut tag = Self::default();
        let entries = io.list(folder)?;
        tag.is_universal = entries.iter().any(|entry| entry.is_folder && entry.name == "zero");
        let mut names: Vec<&str> = entries
            .iter()
            .filter(|entry| !entry.is_folder)
            .filter_map(Entry::text)
            .filter(|name| is_torch(name))
            .collect();
        // the model's files first, which say most
        names.sort_by_key(|name| (!Piece::of(name).is_some_and(|piece| piece.is_model()), *name));
        tag.pieces.extend(names.iter().filter_map(|name| Piece::of(name)));
        let prefixes = ["bf16_", "fp16_"];
        let used = |prefix: &&str| names.iter().any(|name| name.starts_with(*prefix));
        tag.prefix = prefixes.into_iter().find(used).unwrap_or("");
        let mut asked = 0;
        let mut is_part_asked = false;
        let mut written = Vec::new();
        for name in names {
            let Some(file) = tag.tally.torch(folder, name, io)? else { continue };
            let Some(piece) = Piece::of(name) else { continue };
            let is_model = piece.is_model() && asked < MAX_ASKED;
            let is_part = matches!(piece, Piece::Optim { .. }) && !is_part_asked;
            if let Some(modified) = file.modified {
                written.push(Written { name, piece, size: file.size, modified });
            }
            if !is_model && !is_part {
                continue;
            }
            let Some(value) = torch_file::load(&folder.join(name), &file, io)? else { continue };
            if is_part {
                is_part_asked = true;
                tag.claims.partitions = claims::partitions(&value);
            } else {
                asked += 1;
                tag.ask(name, Claims::of(&value));
            }
        }
        tag.complete(folder, cx, io)?;
        if tag.tally.flaws.is_empty() {
            tag.one_save(folder, &written, io)?;
        }
        Ok(tag)
    }

    /// The parts of the optimizer are of the same save as the model files: each rank writes its
    /// model file, if it writes one, and then its part; and all begin together.
    fn one_save(&mut self, folder: &Path, written: &[Written], io: &mut Io) -> Result<(), IoError> {
        let models = || written.iter().filter(|file| file.piece.is_model());
        for part in written.iter().filter(|file| matches!(file.piece, Piece::Optim { .. })) {
            let (dp, mp) = part.piece.place();
            let own = models().find(|model| model.piece.place() == (dp, mp));
            let newest = models()
                .filter(|model| model.piece.place().1 == mp)
                .max_by_key(|model| model.modified)
                .map(|model| (model, dcp::copying(model.size)));
            for (model, late) in own.map(|model| (model, Duration::ZERO)).into_iter().chain(newest)
            {
                if part.modified + late >= model.modified {
                    continue;
                }
                let part_stat = io.stat(&folder.join(part.name))?;
                let model_stat = io.stat(&folder.join(model.name))?;
                if dcp::is_rewritten(&model_stat, &part_stat) {
                    let because = format!("is older than {}: a save did not end", model.name);
                    self.tally.flaw(part.name, because);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes over what a model file says; all must be of one step.
    fn ask(&mut self, name: &str, claims: Claims) {
        match (self.claims.steps, claims.steps) {
            (Some(first), Some(other)) if first != other => {
                self.tally.flaw(name, format!("is of step {other}, others are of step {first}"));
            }
            (None, _) => self.claims = claims,
            _ => {}
        }
    }

    /// Looks for what is missing.
    fn complete(&mut self, folder: &Path, cx: &Cx, io: &mut Io) -> Result<(), IoError> {
        if !self.pieces.iter().any(Piece::is_model) {
            self.tally.flaw("mp_rank_00_model_states.pt", "is missing");
            return Ok(());
        }
        let told = self.claims.partitions.or(self.claims.dp);
        let dp = told.or_else(|| Some(cx.world_size? / self.claims.mp.unwrap_or(1).max(1)));
        let world = World {
            dp,
            mp: self.claims.mp,
            is_partitioned: self.claims.is_partitioned && !self.is_universal,
            experts: self.claims.experts.clone(),
        };
        let because = match (told, dp) {
            (Some(dp), _) => format!(": {dp} ranks wrote their parts"),
            (None, Some(dp)) => format!(": the job has {dp} ranks"),
            (None, None) => String::new(),
        };
        for piece in pieces::missing(&self.pieces, &world) {
            let because = if matches!(piece, Piece::Optim { .. } | Piece::ZeroModel { .. }) {
                &because
            } else {
                ""
            };
            self.tally.flaw(self.name(&piece), format!("is missing{because}"));
        }
        let has_layers = self.pieces.iter().any(|piece| matches!(piece, Piece::Layer { .. }));
        if self.tally.flaws.is_empty() && (has_layers || dp.is_none()) {
            self.compare(folder, dp.is_none(), io)?;
        }
        Ok(())
    }

    /// What a piece is called here.
    fn name(&self, piece: &Piece) -> String {
        let prefix = if matches!(piece, Piece::Optim { .. }) { self.prefix } else { "" };
        format!("{prefix}{piece}")
    }

    /// What other tags have and this one lacks: layers, which nothing counts, and parts where
    /// nothing is known of the world.
    fn compare(&mut self, folder: &Path, parts: bool, io: &mut Io) -> Result<(), IoError> {
        for neighbour in neighbours(folder, io)? {
            let Ok(entries) = io.list(&neighbour) else { continue };
            let theirs = entries.iter().filter_map(Entry::text).filter_map(Piece::of);
            let theirs = theirs.filter(|piece| parts || matches!(piece, Piece::Layer { .. }));
            let lacking: Vec<Piece> =
                theirs.filter(|piece| !self.pieces.contains(piece)).take(2).collect();
            let name = neighbour.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for piece in lacking {
                self.tally.flaw(self.name(&piece), format!("is missing: {name} has it"));
            }
            if !self.tally.flaws.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Why it is no resume point, where it is whole.
    fn export(&self) -> Option<&'static str> {
        if self.is_universal {
            return Some("is a universal checkpoint, which is loaded only on request");
        }
        let has_parts = self
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Optim { .. } | Piece::ExpertOptim { .. }));
        (!has_parts && self.claims.has_optimizer == Some(false))
            .then_some("holds weights without an optimizer")
    }
}

/// Other tags beside this one, by name, the nearest in number first.
fn neighbours(folder: &Path, io: &mut Io) -> Result<Vec<PathBuf>, IoError> {
    let (Some(parent), Some(own)) = (folder.parent(), folder.file_name()) else {
        return Ok(Vec::new());
    };
    let own = last_number(&own.to_string_lossy());
    let mut others: Vec<(u64, PathBuf)> = Vec::new();
    for entry in io.list(parent)?.into_iter().filter(|entry| entry.is_folder) {
        let path = parent.join(&entry.name);
        if let Some((own, number)) = own.zip(entry.text().and_then(last_number))
            && path != folder
        {
            others.push((own.abs_diff(number), path));
        }
    }
    others.sort();
    Ok(others.into_iter().take(MAX_NEIGHBOURS).map(|(_, path)| path).collect())
}
