//! Whether a folder's files came into it together, as a copy. Pure.
//!
//! Some writers do not write over the file that is there: safetensors writes a new one and renames
//! it. Of that file alone the time when it was made tells nothing: a copy makes new files, too. But a
//! copy makes *all* of them, one after the other, and a save over an older checkpoint that did not end
//! leaves files of two times: between them there was a while in which nothing was written.
//!
//! It errs where a copy pauses for longer than [`COPY_PAUSE`], and refuses what was copied; saves that
//! follow each other more quickly than that are not told apart.

use std::time::SystemTime;

use crate::checkpoint::io::Stat;

use super::dcp::{COPY_PAUSE, SKEW, copying};

/// Whether `file`, which is newer than `marker`, came into the folder in the same go as that. `all` are
/// the folder's files.
pub fn came_together(file: &Stat, marker: &Stat, all: &[Stat]) -> bool {
    let (Some(written), Some(end)) = (file.modified, marker.modified) else { return true };
    let (Some(made), Some(marker_made)) = (file.created, marker.created) else { return true };
    // It is as old as the marker; or its times were set by what copied it, and tell nothing.
    if written <= end + SKEW || written < made {
        return true;
    }
    // A callback may write a file just behind the marker.
    let last = marker_made.max(end);
    let (from, to) = if made > last { (last, made) } else { (made, marker_made) };
    is_busy(from, to, all)
}

/// Whether files were written between two moments without a pause that a copy does not make.
fn is_busy(from: SystemTime, to: SystemTime, all: &[Stat]) -> bool {
    let mut writes: Vec<(SystemTime, SystemTime)> = all.iter().filter_map(write).collect();
    writes.sort_unstable();
    let mut at = from;
    for (start, end) in writes.into_iter().take_while(|(start, _)| *start < to) {
        if start > at + COPY_PAUSE {
            return false;
        }
        at = at.max(end);
    }
    to <= at + COPY_PAUSE
}

/// When a file was written, where that was done at once; what was written over later has only the
/// moment when it was made.
fn write(stat: &Stat) -> Option<(SystemTime, SystemTime)> {
    let made = stat.created?;
    let end = stat.modified.filter(|written| {
        written.duration_since(made).is_ok_and(|took| took <= copying(stat.size))
    });
    Some((made, end.unwrap_or(made)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stat(created: u64, modified: u64, size: u64) -> Stat {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        Stat { size, is_folder: false, modified: at(modified), created: at(created) }
    }

    #[test]
    fn a_copy_makes_all_files_and_a_torn_save_some() {
        let large = 1 << 30;
        // The file; the marker; the other files.
        let table = [
            (stat(5000, 5000, 9), stat(1000, 1000, 9), vec![], false, "saved again, renamed"),
            (stat(5000, 5000, 9), stat(100, 1000, 9), vec![], false, "saved for the third time"),
            (
                stat(1011, 1011, 9),
                stat(1000, 1000, 9),
                vec![],
                false,
                "saved again eleven seconds later",
            ),
            (stat(1009, 1009, 9), stat(1000, 1000, 9), vec![], true, "a callback, or a quick copy"),
            (
                stat(5000, 5001, 9),
                stat(100, 4999, 9),
                vec![],
                true,
                "a callback after a second save",
            ),
            (
                stat(1100, 1100, 9),
                stat(1000, 1000, 9),
                vec![stat(1000, 1095, large)],
                true,
                "a large file was copied between",
            ),
            (
                stat(1100, 1100, 9),
                stat(1000, 1000, 9),
                vec![stat(1000, 1095, 9)],
                false,
                "a small file was written over between, and does not make it a copy",
            ),
            (
                stat(1016, 1016, 9),
                stat(1000, 1000, 9),
                vec![stat(1008, 1008, 9)],
                true,
                "small files were copied slowly",
            ),
            (
                stat(5000, 5100, large),
                stat(1000, 1000, 9),
                vec![stat(990, 999, 9), stat(5100, 5101, 9)],
                false,
                "other files of both saves",
            ),
            (stat(5000, 2000, 9), stat(4000, 1000, 9), vec![], true, "copied with its times"),
            (stat(5000, 5000, 9), stat(4000, 1000, 9), vec![], false, "a save over such a copy"),
            (stat(5000, 5000, 9), stat(5005, 1000, 9), vec![], true, "one of two has its times"),
            (stat(900, 1000, 9), stat(5005, 1000, 9), vec![], true, "it is as old"),
        ];
        for (file, marker, others, expected, why) in table {
            let all: Vec<Stat> = [file, marker].into_iter().chain(others).collect();
            assert_eq!(came_together(&file, &marker, &all), expected, "{why}");
        }
    }
}
