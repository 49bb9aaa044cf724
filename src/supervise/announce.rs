//! What nvlaunch says while a job runs: one line for each thing it does that was not asked for in
//! so many words. Pure: the loop says them.

use std::time::Duration;

use super::core::AttemptRecord;
use super::event::{Action, Policy};
use crate::diagnose::exit::signal_name;
use crate::logs::fold::ranges;
use crate::report::text::seconds;

/// nvlaunch was asked to end for the `times`th time; nothing new is said from the fourth on.
pub fn asked(times: usize, signal: i32, policy: &Policy) -> Option<String> {
    let words = |duration: Duration| humantime::format_duration(duration).to_string();
    let hurried = policy.hurried_grace.min(policy.grace);
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

/// Attempt `number` follows the one that ended as `past` says.
pub fn restart(past: &AttemptRecord, number: u32, max_restarts: u32) -> Option<String> {
    let rank = past.suspect?;
    let (exit, at) = past.ranks.get(rank as usize)?.ended?;
    let after = seconds(at.saturating_sub(past.began).as_secs_f64());
    Some(format!(
        "nvlaunch: rank {rank} failed first: {exit} (after {after}); restart {number} of \
         {max_restarts}\n"
    ))
}

/// A notice was not delivered, because it would have ended the rank.
pub fn kept_back(rank: u32, signal: i32) -> String {
    let name = signal_name(signal);
    format!("nvlaunch: rank {rank} has no handler for {name} and was not sent it\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_to_end_says_what_is_left() {
        let policy = |grace| Policy {
            ranks: 1,
            max_restarts: 0,
            grace: Duration::from_secs(grace),
            hurried_grace: Duration::from_secs(5),
            reap_limit: Duration::from_secs(30),
            restart: crate::supervise::event::RestartPolicy::default(),
            preemption: None,
        };
        let line = |times, grace| asked(times, nix::libc::SIGINT, &policy(grace));
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
