//! Whether a restart follows, by rows of failures.

use std::time::Duration;

use nvlaunch::diagnose::class::{Class, Remedy};
use nvlaunch::supervise::event::{Assessment, Decision, Policy};
use nvlaunch::supervise::restart::Budget;

use crate::steps::{careful, policy, secs, seen};

/// What is said about each failure of a row, the attempts of which began with these.
fn said(policy: &Policy, row: &[(Option<u64>, Assessment)]) -> Vec<String> {
    let mut budget = Budget::default();
    let decide = |(attempt, (with, seen)): (u32, &(Option<u64>, Assessment))| {
        budget.starts(attempt, *with);
        match budget.decide(policy, attempt, seen) {
            Decision::Restart { why, .. } => why,
            Decision::Final { why } => format!("final: {why}"),
        }
    };
    (0u32..).zip(row).map(decide).collect()
}

fn same(print: &str, progress: Option<u64>) -> Assessment {
    Assessment { fingerprint: Some(print.to_owned()), ..seen(Remedy::SameAgain, progress) }
}

fn oom(progress: Option<u64>) -> Assessment {
    let (class, why) = (Class::Oom, "killed by the OOM killer".to_owned());
    Assessment { class, why, ..seen(Remedy::RetryElsewhere, progress) }
}

fn unmeasured(seen: Assessment) -> Assessment {
    Assessment { measures_progress: false, ..seen }
}

#[test]
fn progress_refills_the_budget() {
    let retry = |progress| seen(Remedy::Retry, progress);
    let row = [
        (None, retry(None)),
        (None, retry(None)),
        (None, retry(Some(1_200))),
        (Some(1_200), retry(Some(1_200))),
        (Some(1_000), retry(Some(1_100))),
        (Some(1_100), retry(Some(1_200))),
    ];
    let words = [
        "restart 1 of 3",
        "restart 2 of 3",
        "restart 1 of 3 since step 1,200",
        "restart 2 of 3 since step 1,200",
        "restart 3 of 3 since step 1,200",
        "final: 3 restarts without progress",
    ];
    assert_eq!(said(&careful(1, 3), &row), words);
}

#[test]
fn what_the_first_attempt_began_with_is_no_progress() {
    let retry = |progress| seen(Remedy::Retry, progress);
    let row = [(Some(40), retry(Some(40))), (Some(40), retry(Some(40)))];
    let words = ["restart 1 of 1 since step 40", "final: 1 restart without progress"];
    assert_eq!(said(&careful(1, 1), &row), words);
    // A step that nobody can know is none.
    let row = [(None, unmeasured(retry(Some(40)))), (None, unmeasured(retry(Some(50))))];
    let words = ["restart 1 of 1", "final: 1 restart without progress"];
    assert_eq!(said(&careful(1, 1), &row), words);
}

#[test]
fn without_progress_in_the_policy_restarts_are_counted_from_the_start() {
    let retry = |progress| (None, seen(Remedy::Retry, Some(progress)));
    let row = [retry(1), retry(2_000_000), retry(3_000_000)];
    let words = ["restart 1 of 2", "restart 2 of 2", "final: 2 restarts were allowed"];
    assert_eq!(said(&policy(1, 2), &row), words);
}

#[test]
fn none_is_none() {
    for policy in [careful(1, 0), policy(1, 0)] {
        let row = [(None, seen(Remedy::Retry, Some(40)))];
        assert_eq!(said(&policy, &row), ["final: no restarts are allowed"]);
        assert!(!policy.may_restart_after(0));
    }
    assert!(policy(1, 1).may_restart_after(0) && !policy(1, 1).may_restart_after(1));
    assert!(careful(1, 1).may_restart_after(7));
}

#[test]
fn the_same_failure_at_the_same_step_twice_is_final() {
    let row = [(None, same("a", Some(40))), (Some(40), same("a", Some(40)))];
    let words = "final: the same failure at the same step twice (ValueError in train.py:12 at step \
                 40)";
    assert_eq!(said(&careful(1, 9), &row)[1], words);
    let row = [(None, same("a", None)), (None, same("a", None))];
    let words = "final: the same failure twice (ValueError in train.py:12 before any progress)";
    assert_eq!(said(&careful(1, 9), &row)[1], words);
    let nameless = Assessment { why: String::new(), ..same("a", Some(40)) };
    let row = [(None, same("a", Some(40))), (None, nameless)];
    let words = "final: the same failure at the same step twice (at step 40)";
    assert_eq!(said(&careful(1, 9), &row)[1], words);
}

#[test]
fn the_same_failure_soon_after_the_start_twice_is_final_where_no_step_is_known() {
    let early = |print| Assessment { ended_early: true, ..unmeasured(same(print, None)) };
    let late = |print| unmeasured(same(print, None));
    let said = |row: &[Assessment]| {
        let row: Vec<_> = row.iter().map(|seen| (None, seen.clone())).collect();
        said(&policy(1, 9), &row).pop().expect("a decision")
    };
    let words = "final: the same failure twice (ValueError in train.py:12 soon after the start)";
    assert_eq!(said(&[early("a"), early("a")]), words);
    assert_eq!(said(&[late("a"), early("a"), early("a")]), words);
    let named = |seen| Assessment { fingerprint: None, ..seen };
    let step = Assessment { measures_progress: true, progress: Some(1), ..early("a") };
    for (what, row) in [
        ("once", vec![early("a")]),
        ("another place", vec![early("a"), early("b")]),
        ("unknown", vec![named(early("a")), named(early("a"))]),
        ("late now", vec![early("a"), late("a")]),
        ("late before", vec![late("a"), early("a")]),
        ("a step before", vec![step.clone(), early("a")]),
        ("a step now", vec![early("a"), step]),
        ("another in between", vec![early("a"), early("b"), early("a")]),
        ("a retry", vec![early("a"), Assessment { remedy: Remedy::Retry, ..early("a") }]),
    ] {
        assert!(said(&row).starts_with("restart "), "{what}");
    }
}

#[test]
fn failures_that_differ_are_not_the_same() {
    for (what, first, second) in [
        ("another place", same("a", Some(40)), same("b", Some(40))),
        ("another step", same("a", Some(40)), same("a", Some(41))),
        ("unknown before", seen(Remedy::SameAgain, Some(40)), same("a", Some(40))),
        ("unknown now", same("a", Some(40)), seen(Remedy::SameAgain, Some(40))),
        ("both unknown", seen(Remedy::SameAgain, None), seen(Remedy::SameAgain, None)),
        ("no step known", unmeasured(same("a", None)), unmeasured(same("a", None))),
        ("a retry", same("a", Some(40)), {
            Assessment { remedy: Remedy::Retry, ..same("a", Some(40)) }
        }),
    ] {
        let said = said(&careful(1, 9), &[(None, first), (None, second)]);
        assert!(said[1].starts_with("restart "), "{what}: {said:?}");
    }
    // Only the failure right before counts.
    let row = [same("a", Some(40)), same("b", Some(40)), same("a", Some(40))];
    let said = said(&careful(1, 9), &row.map(|seen| (None, seen)));
    assert_eq!(said[2], "restart 3 of 9 since step 40");
}

#[test]
fn a_machine_that_fails_at_once_burns_no_restarts() {
    let vain = "final: killed by the OOM killer: no progress before it; a restart helps on another \
                machine, if at all";
    let lost = |progress| (None, seen(Remedy::Retry, progress));
    for (what, row) in [
        ("at the very start", vec![(None, oom(None))]),
        ("from a checkpoint", vec![(Some(40), oom(Some(40)))]),
        ("as far as the last time", vec![(None, oom(Some(40))), (None, oom(Some(40)))]),
        ("less far", vec![(None, oom(Some(40))), (None, oom(Some(30)))]),
        ("a restart in between", vec![lost(Some(500)), (Some(500), oom(Some(500)))]),
        ("from the start again", vec![lost(Some(500)), (None, oom(Some(500)))]),
        ("and others", vec![(None, oom(Some(40))), lost(None), (None, oom(Some(39)))]),
    ] {
        assert_eq!(said(&careful(1, 9), &row).last().unwrap(), vain, "{what}");
    }
    let words = "final: killed by the OOM killer: a restart helps on another machine, if at all";
    assert_eq!(said(&careful(1, 9), &[(None, unmeasured(oom(Some(40))))]), [words]);
}

#[test]
fn a_machine_that_fails_after_progress_is_tried_again() {
    let device = Assessment { class: Class::Device, ..oom(Some(40)) };
    for (what, row) in [
        ("the first time", vec![(None, oom(Some(40)))]),
        ("and the next", vec![(None, oom(Some(40))), (Some(40), oom(Some(80)))]),
        (
            "another kind",
            vec![
                (None, oom(Some(50))),
                (Some(10), unmeasured(seen(Remedy::Retry, None))),
                (Some(10), device),
            ],
        ),
    ] {
        let said = said(&careful(1, 9), &row);
        assert!(said.last().unwrap().starts_with("restart "), "{what}: {said:?}");
    }
}

fn wait_of(policy: &Policy, attempt: u32, budget: &mut Budget, progress: u64) -> Duration {
    budget.starts(attempt, None);
    match budget.decide(policy, attempt, &seen(Remedy::Retry, Some(progress))) {
        Decision::Restart { after, .. } => after,
        Decision::Final { why } => panic!("{why}"),
    }
}

#[test]
fn waits_double_up_to_their_limit_and_begin_anew_after_progress() {
    let mut policy = careful(1, 1000);
    policy.restart.backoff = secs(10);
    policy.restart.most_backoff = secs(100);
    let mut budget = Budget::default();
    let progress = [1, 1, 1, 1, 1, 1, 2, 2];
    let plain = [10, 20, 40, 80, 100, 100, 10, 20];
    for (attempt, (progress, plain)) in (0u32..).zip(progress.into_iter().zip(plain)) {
        let wait = wait_of(&policy, attempt, &mut budget, progress);
        let (least, most) = (secs(plain) * 4 / 5, secs(plain) * 6 / 5);
        assert!(wait >= least && wait <= most, "attempt {attempt}: {wait:?} is not near {plain} s");
    }
    // Far beyond where doubling would overflow.
    for attempt in 8..200 {
        assert!(wait_of(&policy, attempt, &mut budget, 2) <= secs(120));
    }
    policy.restart.backoff = Duration::ZERO;
    assert_eq!(wait_of(&policy, 200, &mut budget, 2), Duration::ZERO);
}

#[test]
fn waits_differ_by_up_to_a_fifth_and_follow_from_the_seed() {
    let mut policy = careful(1, 1000);
    policy.restart.backoff = secs(100);
    policy.restart.most_backoff = secs(100);
    let row = |seed| -> Vec<Duration> {
        let mut policy = policy.clone();
        policy.restart.seed = seed;
        let mut budget = Budget::default();
        (0..500).map(|attempt| wait_of(&policy, attempt, &mut budget, 1)).collect()
    };
    let (first, again, other) = (row(1), row(1), row(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_ne!(first[0], other[0]);
    let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
    assert!(*least >= secs(80) && *least < secs(82), "{least:?}");
    assert!(*most <= secs(120) && *most > secs(118), "{most:?}");
    let mean = first.iter().sum::<Duration>() / 500;
    assert!(mean > secs(98) && mean < secs(102), "{mean:?}");
}
