//! What nvlaunch says while a job runs: one line for each thing it does that was not asked for in
//! so many words. Pure: the loop says them.

use std::path::Path;
use std::time::Duration;

use super::core::AttemptRecord;
use super::event::{Action, Decision, Now, Policy};
use crate::checkpoint::choose::{self, Chosen, Point};
use crate::checkpoint::thousands;
use crate::diagnose::exit::signal_name;
use crate::logs::fold::ranges;
use crate::report::text::seconds;

/// How many checkpoints that were passed over are named one by one.
const SHOWN: usize = 3;

/// nvlaunch was asked to end for the `times`th time; nothing new is said from the fourth on.
pub fn asked(times: usize, signal: i32, policy: &Policy, now: Now) -> Option<String> {
    let words = |duration: Duration| humantime::format_duration(duration).to_string();
    let preemption = policy.preemption.as_ref().filter(|p| p.signals.contains(&signal));
    let time = preemption.and_then(|_| policy.time_to_save(now));
    if let (1, Some(left)) = (times, time) {
        // Of a time that runs only the seconds are of interest.
        let left = Duration::from_secs(left.as_secs().max(1));
        return Some(format!(
            "nvlaunch: {}: passed on to the ranks; they have {} to save (again: {}, a third time: \
             none)\n",
            signal_name(signal),
            words(left),
            words(policy.hurried_grace.min(left)),
        ));
    }
    let hurried = match &policy.preemption {
        Some(_) => policy.hurried_grace,
        None => policy.hurried_grace.min(policy.grace),
    };
    let what = match times {
        1 => format!(
            "passed on to the ranks; they have {} (again: {}, a third time: none)",
            words(policy.grace),
            words(hurried)
        ),
        2 => format!("again: at most {} from now", words(hurried)),
        3 => "a third time: killing what is left".to_owned(),
        _ => return None,
    };
    Some(format!("nvlaunch: {}: {what}\n", signal_name(signal)))
}

/// The ranks that these actions kill, if any.
pub fn killed(actions: &[Action]) -> Option<String> {
    let killed = |action: &Action| match action {
        Action::Kill { rank } => Some(*rank),
        _ => None,
    };
    let ranks: Vec<u32> = actions.iter().filter_map(killed).collect();
    let name = match ranks[..] {
        [] => return None,
        [_] => "rank",
        _ => "ranks",
    };
    Some(format!("nvlaunch: killing what did not end in time: {name} {}\n", ranges(&ranks)))
}

/// nvlaunch was asked to end while no rank runs.
pub fn asked_between(signal: i32) -> String {
    format!("nvlaunch: {}: no rank runs; ending\n", signal_name(signal))
}

/// A further attempt writes no log files, for this reason.
pub fn no_log_files(attempt: u32, why: &str) -> String {
    format!(
        "nvlaunch: attempt {attempt} (from 0) has no log files: {why}; its output is shown here\n"
    )
}

/// Another attempt follows the one that ended as `past` says; a failure that is final is the
/// report's.
pub fn restart(past: &AttemptRecord) -> Option<String> {
    let (assessment, Decision::Restart { after, why, .. }) = past.decision.as_ref()? else {
        return None;
    };
    let ended = past.suspect.and_then(|rank| past.ranks.get(rank as usize)?.ended.zip(Some(rank)));
    let (what, exit) = match ended {
        Some(((exit, at), rank)) => {
            let lived = seconds(at.saturating_sub(past.began).as_secs_f64());
            (format!("rank {rank} failed first: {exit} (after {lived})"), exit.to_string())
        }
        None => ("every rank ended with 0, and the job was not done".to_owned(), String::new()),
    };
    let seen = match &*assessment.why {
        "" => String::new(),
        why if why == exit => String::new(),
        why => format!(": {why}"),
    };
    let wait = if after.is_zero() {
        String::new()
    } else {
        format!(", in {}", seconds(after.as_secs_f64()))
    };
    Some(format!("nvlaunch: {what}{seen}; {why}{wait}\n"))
}

/// What an attempt resumes from, and what was passed over, a line each.
pub fn chosen(chosen: &Chosen, folder: &Path) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for passed in chosen.passed.iter().take(SHOWN) {
        let name = choose::name(&passed.path);
        let what = match (&passed.renamed_to, &passed.stays) {
            (Some(to), _) => format!(" (renamed to {})", choose::name(to)),
            (None, Some(why)) => format!(" (not renamed: {why})"),
            (None, None) => String::new(),
        };
        lines.push(format!("nvlaunch: note: checkpoint {name} {}{what}\n", passed.why));
    }
    if let Some(more) = chosen.passed.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.push(format!("nvlaunch: note: {more} more like that\n"));
    }
    let folder = folder.display();
    match &chosen.point {
        Some(point) => {
            let step =
                point.step.map_or(String::new(), |step| format!(" (step {})", thousands(step)));
            lines.push(format!("nvlaunch: resuming from {}{step}\n", point.path.display()));
        }
        None if chosen.passed.is_empty() => {}
        None => lines.push(format!(
            "nvlaunch: note: no checkpoint in {folder} is whole: starting from the beginning\n"
        )),
    }
    lines
}

/// A new whole checkpoint appeared after the ranks were asked to save.
pub fn saved(point: &Point) -> String {
    format!("nvlaunch: checkpoint {} is whole: ending the ranks\n", point.name())
}

/// A notice was not delivered, because it would have ended the rank.
pub fn kept_back(rank: u32, signal: i32) -> String {
    let name = signal_name(signal);
    format!("nvlaunch: rank {rank} has no handler for {name} and was not sent it\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(grace: u64) -> Policy {
        Policy {
            ranks: 1,
            max_restarts: 0,
            grace: Duration::from_secs(grace),
            hurried_grace: Duration::from_secs(5),
            reap_limit: Duration::from_secs(30),
            restart: crate::supervise::event::RestartPolicy::default(),
            preemption: None,
        }
    }

    #[test]
    fn a_preemption_says_the_time_that_the_ranks_really_have() {
        for (ends_at, words) in [
            (None, "5m"),
            (Some(100), "1m 30s"),
            (Some(11), "30s"),
            (Some(10), "5m"),
            (Some(2), "5m"),
        ] {
            let preemption = crate::supervise::event::PreemptionPolicy {
                signals: vec![nix::libc::SIGTERM],
                grace: Duration::from_secs(300),
                ends_at: ends_at.map(Duration::from_secs),
            };
            let policy = Policy { preemption: Some(preemption), ..policy(30) };
            let line = asked(1, nix::libc::SIGTERM, &policy, Duration::from_secs(10)).unwrap();
            assert!(line.contains(&format!("they have {words} to save")), "{ends_at:?}: {line}");
        }
    }

    #[test]
    fn each_request_to_end_says_what_is_left() {
        let line = |times, grace| asked(times, nix::libc::SIGINT, &policy(grace), Now::ZERO);
        assert!(line(1, 30).unwrap().contains("SIGINT: passed on to the ranks; they have 30s"));
        assert!(line(1, 2).unwrap().contains("again: 2s"), "never longer than the grace");
        assert!(line(2, 2).unwrap().contains("at most 2s"));
        assert!(line(3, 30).unwrap().contains("killing"));
        assert_eq!(line(4, 30), None);
    }

    #[test]
    fn killed_ranks_are_named_in_one_line() {
        let kill = |rank| Action::Kill { rank };
        assert_eq!(killed(&[Action::Survey]), None);
        assert!(killed(&[kill(3)]).unwrap().ends_with("in time: rank 3\n"));
        let some = [kill(0), kill(1), Action::Survey, kill(2)];
        assert!(killed(&some).unwrap().ends_with("in time: ranks 0-2\n"));
    }
}
