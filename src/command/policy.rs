//! From what the user wants to what the supervisor's core decides by. Pure.
//!
//! - Y1: without a checkpoint folder a launch is what torchrun's is, but for failures that no restart
//!   can mend, or that come again at once: no wait, restarts counted from the start, one grace for
//!   every request to end.
//! - Y2: an end that the scheduler announced and that has passed is none, at the start as later
//!   ([`Policy::time_to_save`]): a time limit may have been extended.

use std::time::Duration;

use crate::env_vars;
use crate::settings::env::Env;
use crate::settings::spec::{Backoff, LaunchSpec, OnUnfinished, PreflightMode};
use crate::supervise::event::{Policy, PreemptionPolicy, RestartPolicy};

/// What a second request to end leaves of the grace.
const HURRIED_GRACE: Duration = Duration::from_secs(5);
/// After KILL, until a process counts as stuck; as long as torch 2.13 and later wait.
const REAP_LIMIT: Duration = Duration::from_secs(30);
/// The wait before a restart, with a checkpoint folder.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(300) };
/// How long ranks have to save where nobody says more.
const PREEMPTION_GRACE: Duration = Duration::from_secs(300);
/// What nvlaunch keeps for itself of the time until the scheduler ends everything.
const MARGIN: Duration = Duration::from_secs(10);
/// How much longer than the look for checkpoints an answer may take in all.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// How long an answer may take that needs no look at checkpoints: preflight has deadlines of its own.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Whether preflight looks again before each attempt but the first.
pub(super) fn rechecks(spec: &LaunchSpec) -> bool {
    let looks = spec.preflight.mode != PreflightMode::Off && !spec.preflight.force;
    looks && spec.max_restarts > 0
}

/// What the core decides by. `launch_id` makes the waits of one launch other than those of another;
/// `unix_time` is the time since 1970.
pub(super) fn policy(
    spec: &LaunchSpec,
    ranks: usize,
    launch_id: &str,
    env: &Env,
    unix_time: Duration,
) -> Policy {
    let has_folder = spec.checkpoint.is_some();
    let none = Backoff { first: Duration::ZERO, most: Duration::ZERO };
    let backoff = spec.restart.backoff.unwrap_or(if has_folder { BACKOFF } else { none });
    let deadline = spec.checkpoint.as_ref().map(|checkpoint| checkpoint.deadline);
    Policy {
        ranks: u32::try_from(ranks).expect("at most MAX_RANKS"),
        max_restarts: spec.max_restarts,
        grace: spec.shutdown_timeout,
        hurried_grace: HURRIED_GRACE,
        reap_limit: REAP_LIMIT,
        restart: RestartPolicy {
            prepares: has_folder || rechecks(spec),
            assesses: spec.max_restarts > 0,
            verifies: has_folder || spec.expect_step.is_some(),
            by_progress: has_folder,
            unfinished_fails: spec.restart.unfinished == OnUnfinished::Fail,
            backoff: backoff.first,
            most_backoff: backoff.most,
            answer_limit: deadline.map_or(ANSWER_LIMIT, |deadline| deadline + ANSWER_MARGIN),
            seed: seed(launch_id),
        },
        preemption: has_folder.then(|| PreemptionPolicy {
            signals: spec.preemption.signals.clone(),
            grace: spec.preemption.grace.unwrap_or(PREEMPTION_GRACE),
            ends_at: ends_at(env, unix_time),
        }),
    }
}

/// When the scheduler ends everything, on the supervisor's clock (Y2).
fn ends_at(env: &Env, unix_time: Duration) -> Option<Duration> {
    let end = env.get_nonempty(env_vars::SLURM_JOB_END_TIME)?.to_str()?.trim().parse().ok()?;
    let left = Duration::from_secs(end).checked_sub(unix_time)?;
    Some(left.saturating_sub(MARGIN))
}

/// FNV-1a: the same on every machine, so that a record replays.
fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{self, Invocation};
    use crate::profile::layer::Files;
    use crate::settings;

    fn of(words: &[&str], env: &[(&str, &str)]) -> Policy {
        let env = Env(env.iter().map(|(name, value)| (name.into(), value.into())).collect());
        let line: Vec<OsString> =
            ["nvlaunch"].iter().chain(words).chain(&["t.py"]).map(OsString::from).collect();
        let Ok(Invocation::Run(args)) = cli::parse(line, &env) else { panic!("{words:?}") };
        let files = Files::embedded().expect("the file is right");
        let spec = settings::resolve(&args, &env, &files).expect("settings");
        policy(&spec, 2, "launch", &env, Duration::from_secs(1000))
    }

    const END: &str = "SLURM_JOB_END_TIME";

    #[test]
    fn without_a_folder_it_is_torchruns() {
        for words in [&[][..], &["--max-restarts", "3"], &["--stop-signal", "SIGUSR1"]] {
            let policy = of(words, &[(END, "2000")]);
            let restart = &policy.restart;
            assert_eq!(policy.preemption, None, "{words:?}");
            assert!(!restart.by_progress && !restart.verifies, "{words:?}");
            assert_eq!((restart.backoff, restart.most_backoff), Default::default());
            let restarts = policy.max_restarts > 0;
            assert_eq!((restart.assesses, restart.prepares), (restarts, restarts), "{words:?}");
        }
        let off = of(&["--max-restarts", "3", "--preflight", "off"], &[]);
        assert!(!off.restart.prepares, "preflight does not look");
        assert!(of(&["--expect-step", "7"], &[]).restart.verifies);
        let second = Duration::from_secs(1);
        assert_eq!(of(&["--restart-backoff", "1s..2s"], &[]).restart.backoff, second);
    }

    #[test]
    fn with_a_folder_restarts_are_counted_by_progress_and_ranks_have_time_to_save() {
        let policy = of(&["--checkpoint-dir", "c"], &[]);
        let restart = &policy.restart;
        assert!(restart.prepares && restart.verifies && restart.by_progress && !restart.assesses);
        assert_eq!(restart.backoff, BACKOFF.first);
        assert_eq!(restart.answer_limit, Duration::from_secs(65));
        let preemption = policy.preemption.expect("there is a folder");
        assert_eq!(preemption.grace, PREEMPTION_GRACE);
        assert_eq!((&preemption.signals[..], preemption.ends_at), (&[15][..], None));
        let other = seed("launch") != seed("launch2");
        assert!(other && restart.seed == seed("launch"));
    }

    #[test]
    fn the_scheduler_ends_the_time_to_save() {
        for (end, left) in [
            ("2000", Some(990)),
            ("1005", Some(0)),
            ("1000", Some(0)),
            ("999", None),
            ("", None),
            ("soon", None),
            ("-1", None),
        ] {
            let policy = of(&["--checkpoint-dir", "c"], &[(END, end)]);
            let ends_at = policy.preemption.expect("there is a folder").ends_at;
            assert_eq!(ends_at, left.map(Duration::from_secs), "{end:?}");
        }
        let words = ["--checkpoint-dir", "c", "--preemption-grace", "45s"];
        let preemption = of(&words, &[]).preemption.expect("there is a folder");
        assert_eq!(preemption.grace, Duration::from_secs(45));
    }
}
