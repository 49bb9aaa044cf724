//! Whether a job whose ranks all ended with 0 was done. Pure.
//!
//! A rank may end with 0 long before the end: Megatron-LM does so where its tracker file is torn. That
//! comes after a crash as well as at the start, so only what the last attempt did counts.

use super::choose::Point;
use super::thousands;

/// What is known of a job that ended well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// The step it was to reach.
    pub expected: Option<u64>,
    /// Whether there is a folder where it saves.
    pub has_folder: bool,
    /// The checkpoint that its last attempt resumed from.
    pub resumed: Option<&'a Point>,
    /// The same now.
    pub now: Option<&'a Point>,
    /// The highest step that the script reported in that attempt.
    pub reported: Option<u64>,
}

/// Why it was not done, in a clause; `None` where nothing speaks against it.
pub fn unfinished(seen: &Seen<'_>) -> Option<String> {
    if let Some(expected) = seen.expected {
        let saved = seen.now.and_then(|now| now.step);
        let reached = saved.max(seen.reported);
        if reached.is_some_and(|reached| reached >= expected) {
            return None;
        }
        let expected = thousands(expected);
        let far = match (seen.reported, seen.now) {
            (Some(step), _) if reached == Some(step) => {
                format!("the last one reported is {}", thousands(step))
            }
            (_, Some(now)) => match now.step {
                Some(step) => format!("the newest whole checkpoint is of step {}", thousands(step)),
                None => format!("the step of the newest checkpoint, {}, is not known", now.name()),
            },
            _ if seen.has_folder => "there is no whole checkpoint".to_owned(),
            _ => "nothing says how far the job came".to_owned(),
        };
        return Some(format!("step {expected} was not reached: {far}"));
    }
    if !seen.has_folder {
        return None;
    }
    match (seen.resumed, seen.now) {
        (_, Some(now)) if now.is_newer_than(seen.resumed) => None,
        (Some(before), _) => {
            Some(format!("nothing newer was saved than {}, which was there before", before.name()))
        }
        (None, _) => Some("no whole checkpoint was saved".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::checkpoint::Layout;

    fn point(number: u64, seconds: u64) -> Point {
        Point {
            layout: Layout::Torchtitan,
            path: format!("/c/step-{number}").into(),
            number,
            step: Some(number),
            files: 1,
            bytes: 1,
            modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn what_speaks_against_a_success() {
        let (old, new, same) = (point(10, 1), point(20, 2), point(10, 5));
        let nameless = Point { step: None, ..new.clone() };
        let folder = Seen { has_folder: true, ..Seen::default() };
        let table: &[(Seen<'_>, Option<&str>)] = &[
            (Seen::default(), None),
            (folder, Some("no whole checkpoint was saved")),
            (Seen { now: Some(&new), ..folder }, None),
            (Seen { resumed: Some(&old), now: Some(&new), ..folder }, None),
            (Seen { resumed: Some(&old), now: Some(&same), ..folder }, None),
            (
                Seen { resumed: Some(&old), now: Some(&old), ..folder },
                Some("nothing newer was saved than step-10, which was there before"),
            ),
            (
                Seen { resumed: Some(&new), now: Some(&old), ..folder },
                Some("nothing newer was saved than step-20, which was there before"),
            ),
            (
                Seen { expected: Some(5000), ..Seen::default() },
                Some("step 5,000 was not reached: nothing says how far the job came"),
            ),
            (
                Seen { expected: Some(30), now: Some(&new), ..folder },
                Some("step 30 was not reached: the newest whole checkpoint is of step 20"),
            ),
            (
                Seen { expected: Some(30), now: Some(&nameless), ..folder },
                Some(
                    "step 30 was not reached: the step of the newest checkpoint, step-20, is not \
                     known",
                ),
            ),
            (
                Seen { expected: Some(30), now: Some(&new), reported: Some(29), ..folder },
                Some("step 30 was not reached: the last one reported is 29"),
            ),
            (Seen { expected: Some(20), resumed: Some(&new), now: Some(&new), ..folder }, None),
            (Seen { expected: Some(30), reported: Some(30), ..Seen::default() }, None),
        ];
        for (seen, expected) in table {
            assert_eq!(unfinished(seen).as_deref(), *expected, "{seen:?}");
        }
    }
}
