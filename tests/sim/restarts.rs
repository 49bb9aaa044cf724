//! Single stories of what comes before, between and after attempts.

use nvlaunch::diagnose::class::{Class, Remedy};
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{
    Action, Decision, Event, Outcome, Policy, PreemptionPolicy, RestartPolicy,
};

use crate::scenario::{INT, TERM};
use crate::steps::{
    FAILED, NOTHING_LEFT, asked, assessed, careful, ends_well, failed, fails, finish, millis,
    point, policy, retry, running_from, secs, seen, spawned, starts, well,
};

fn refused() -> Event {
    Event::Refused { why: "a device is off the bus".to_owned() }
}

fn verified(unfinished: Option<&str>) -> Event {
    Event::Verified { unfinished: unfinished.map(str::to_owned) }
}

/// With waits of 10 s, 20 s, 25 s.
fn patient(max_restarts: u32) -> Policy {
    let mut policy = careful(1, max_restarts);
    policy.restart.backoff = secs(10);
    policy.restart.most_backoff = secs(25);
    policy
}

fn takes_away(policy: &mut Policy) {
    policy.preemption =
        Some(PreemptionPolicy { signals: vec![TERM], grace: secs(300), ends_at: None });
}

fn why_final(core: &Supervisor) -> &str {
    match core.attempt().decision.as_ref().map(|(_, decision)| decision) {
        Some(Decision::Final { why }) => why,
        other => panic!("{other:?} is not final"),
    }
}

#[test]
fn each_attempt_resumes_from_what_its_own_preparation_found() {
    let mut core = running_from(&careful(1, 3), Some(40));
    fails(&mut core, secs(1));
    assert_eq!(core.step(secs(2), &retry(0)), [Action::Prepare { attempt: 1 }]);
    assert_eq!(core.attempt().number, 0, "the failed attempt is the last until the next starts");
    starts(&mut core, secs(3), 1, Some(30));
    assert_eq!(core.past()[0].resume, Some(point(40)));
    fails(&mut core, secs(4));
    let _ = core.step(secs(5), &retry(1));
    starts(&mut core, secs(6), 2, None);
    assert_eq!(core.past().len(), 2);
}

#[test]
fn a_first_attempt_that_is_refused_is_the_end() {
    let mut core = Supervisor::new(careful(1, 3));
    let _ = core.step(secs(0), &Event::Start);
    let why = "a device is off the bus".to_owned();
    assert_eq!(core.step(secs(1), &refused()), finish(Outcome::Refused { why }));
}

#[test]
fn a_later_attempt_that_is_refused_leaves_the_failure_before_it() {
    let mut core = running_from(&careful(1, 3), None);
    fails(&mut core, secs(1));
    let _ = core.step(secs(1), &retry(0));
    assert_eq!(core.step(secs(2), &refused()), finish(FAILED));
    assert_eq!(why_final(&core), "a device is off the bus");
    assert!(core.past().is_empty());
}

#[test]
fn nothing_starts_where_what_to_resume_from_is_not_found_out() {
    let mut core = Supervisor::new(careful(1, 3));
    let _ = core.step(secs(0), &Event::Start);
    assert_eq!(core.next_wake(), Some(secs(60)));
    assert_eq!(core.step(secs(59), &Event::Tick), []);
    let end = core.step(secs(60), &Event::Tick);
    assert!(matches!(end[..], [Action::Finish { outcome: Outcome::Refused { .. } }]), "{end:?}");

    let mut core = running_from(&careful(1, 3), None);
    fails(&mut core, secs(1));
    let _ = core.step(secs(1), &retry(0));
    assert_eq!(core.step(secs(61), &Event::Tick), finish(FAILED));
    assert_eq!(why_final(&core), "what to resume from was not found out in time");
}

#[test]
fn a_failure_that_no_restart_mends_is_final() {
    let mut core = running_from(&careful(1, 3), None);
    fails(&mut core, secs(1));
    let why = "ModuleNotFoundError: No module named 'x'".to_owned();
    let seen = nvlaunch::supervise::event::Assessment { why, ..seen(Remedy::Never, None) };
    assert_eq!(core.step(secs(1), &assessed(0, seen.clone())), finish(FAILED));
    let words = "ModuleNotFoundError: No module named 'x': a restart cannot help";
    assert_eq!(why_final(&core), words);
    assert_eq!(core.attempt().decision.as_ref().unwrap().0, seen);
}

#[test]
fn a_failure_that_nobody_can_look_into_in_time_is_restarted() {
    let mut core = running_from(&careful(1, 1), None);
    fails(&mut core, secs(1));
    assert_eq!(core.next_wake(), Some(secs(61)));
    assert_eq!(core.step(secs(60), &Event::Tick), []);
    assert_eq!(core.step(secs(61), &Event::Tick), [Action::Prepare { attempt: 1 }]);
    let (known, _) = core.attempt().decision.clone().unwrap();
    assert_eq!((known.class, known.fingerprint), (Class::Unknown, None));
    // Its answer comes when the next attempt has failed too, and says nothing about that.
    starts(&mut core, secs(62), 1, None);
    fails(&mut core, secs(63));
    assert_eq!(core.step(secs(64), &retry(0)), []);
    assert_eq!(core.step(secs(65), &retry(1)), finish(FAILED));
    assert_eq!(why_final(&core), "1 restart without progress");
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut core = running_from(&patient(3), Some(5));
    let late = [
        Event::Prepared { resume: None },
        refused(),
        retry(0),
        verified(Some("too few steps")),
        Event::Saved { point: point(9) },
    ];
    let ignored = |core: &mut Supervisor| {
        let before = format!("{core:?}");
        for event in &late {
            assert_eq!(core.step(secs(2), event), [], "{event:?}");
        }
        assert_eq!(format!("{core:?}"), before);
    };
    ignored(&mut core);
    fails(&mut core, secs(1));
    let _ = core.step(secs(1), &retry(0));
    ignored(&mut core);
    // A rank that could not be started was one of an attempt that is over.
    let reason = "no".to_owned();
    for event in [
        Event::SpawnFailed { rank: 0, reason: reason.clone() },
        Event::ExecFailed { rank: 0, reason },
    ] {
        assert_eq!(core.step(secs(2), &event), []);
    }
    assert_eq!(core.step(secs(20), &Event::Tick), [Action::Prepare { attempt: 1 }]);
    starts(&mut core, secs(20), 1, None);
    fails(&mut core, secs(21));
}

#[test]
fn the_next_attempt_comes_when_the_wait_is_over_and_not_before() {
    let mut core = running_from(&patient(3), None);
    fails(&mut core, secs(100));
    assert_eq!(core.step(secs(100), &retry(0)), []);
    let Some((_, Decision::Restart { after, used: 1, why })) = core.attempt().decision.clone()
    else {
        panic!("no restart: {:?}", core.attempt().decision);
    };
    assert_eq!(why, "restart 1 of 3");
    assert!(after >= secs(8) && after <= secs(12), "{after:?}");
    let due = secs(100) + after;
    assert_eq!(core.next_wake(), Some(due));
    assert_eq!(core.step(due.saturating_sub(millis(1)), &Event::Tick), []);
    assert_eq!(core.step(due, &Event::Tick), [Action::Prepare { attempt: 1 }]);
}

#[test]
fn without_preparation_the_ranks_start_when_the_wait_is_over() {
    let restart =
        RestartPolicy { backoff: secs(1), most_backoff: secs(1), ..RestartPolicy::default() };
    let mut core = Supervisor::new(Policy { restart, ..policy(1, 1) });
    assert_eq!(core.step(secs(0), &Event::Start), [Action::SpawnAll { attempt: 0 }]);
    spawned(&mut core, secs(0), 1);
    let _ = core.step(secs(1), &failed(0, 1));
    assert_eq!(core.step(secs(1), &NOTHING_LEFT), [Action::CloseAttempt]);
    let due = core.next_wake().unwrap();
    assert_eq!(core.step(due, &Event::Tick), [Action::SpawnAll { attempt: 1 }]);
    spawned(&mut core, due, 1);
    let _ = core.step(due, &failed(0, 1));
    let end = core.step(due, &NOTHING_LEFT);
    assert_eq!(end, [Action::CloseAttempt, Action::Finish { outcome: FAILED }]);
    assert_eq!(why_final(&core), "1 restart was allowed");
}

#[test]
fn a_request_before_the_first_attempt_ends_the_run_at_once() {
    let mut policy = careful(1, 3);
    let prepares = |policy: &Policy| {
        let mut core = Supervisor::new(policy.clone());
        let _ = core.step(secs(0), &Event::Start);
        core
    };
    let stopped = finish(Outcome::Stopped { signal: TERM });
    assert_eq!(prepares(&policy).step(secs(1), &asked(TERM)), stopped);
    takes_away(&mut policy);
    let preempted = finish(Outcome::Preempted { signal: TERM, saved: None });
    assert_eq!(prepares(&policy).step(secs(1), &asked(TERM)), preempted);
}

#[test]
fn a_request_after_a_restart_was_decided_is_a_stop() {
    for (signal, outcome) in [
        (INT, Outcome::Stopped { signal: INT }),
        (TERM, Outcome::Preempted { signal: TERM, saved: None }),
    ] {
        let mut policy = patient(3);
        takes_away(&mut policy);
        let mut core = running_from(&policy, None);
        fails(&mut core, secs(1));
        let _ = core.step(secs(1), &retry(0));
        let mut prepares = core.clone();
        assert_eq!(core.step(secs(2), &asked(signal)), finish(outcome.clone()), "while it waits");
        let _ = prepares.step(secs(20), &Event::Tick);
        assert_eq!(prepares.step(secs(21), &asked(signal)), finish(outcome), "while it prepares");
    }
}

#[test]
fn a_request_before_a_restart_was_decided_leaves_the_failure_and_a_preemption_is_one() {
    let mut policy = careful(1, 3);
    takes_away(&mut policy);
    let mut core = running_from(&policy, None);
    fails(&mut core, secs(1));
    assert_eq!(core.clone().step(secs(2), &asked(INT)), finish(FAILED));
    let preempted = Outcome::Preempted { signal: TERM, saved: None };
    assert_eq!(core.step(secs(2), &asked(TERM)), finish(preempted));
    assert_eq!(core.attempt().suspect, Some(0), "the report names it");
}

#[test]
fn a_success_that_is_none_is_a_failure_also_where_somebody_asked_for_an_end_after_it() {
    let mut policy = careful(1, 3);
    policy.restart.unfinished_fails = true;
    let mut core = running_from(&policy, None);
    let _ = core.step(secs(1), &well(0));
    let _ = core.step(secs(1), &Event::Group { rank: 0, left: 0 });
    let _ = core.step(secs(1), &asked(INT));
    assert_eq!(core.step(secs(1), &NOTHING_LEFT), [Action::CloseAttempt, Action::Verify]);
    let outcome = Outcome::Unfinished { why: "step 3 of 10".to_owned() };
    assert_eq!(core.step(secs(2), &verified(Some("step 3 of 10"))), finish(outcome));
}

#[test]
fn a_failure_is_not_looked_into_where_somebody_asked_for_an_end() {
    let mut core = running_from(&careful(1, 3), None);
    let _ = core.step(secs(1), &failed(0, 1));
    let _ = core.step(secs(1), &asked(INT));
    let end = core.step(secs(1), &NOTHING_LEFT);
    assert_eq!(end, [Action::CloseAttempt, Action::Finish { outcome: FAILED }]);
}

#[test]
fn a_success_is_looked_into_and_believed_where_nothing_speaks_against_it() {
    let verifies = [Action::CloseAttempt, Action::Verify];
    for answer in [verified(None), verified(Some("step 3 of 10")), asked(TERM)] {
        let mut core = running_from(&careful(1, 3), None);
        assert_eq!(ends_well(&mut core, secs(1)), verifies);
        assert_eq!(core.next_wake(), Some(secs(61)));
        assert_eq!(core.step(secs(2), &answer), finish(Outcome::Completed), "{answer:?}");
        let doubt = core.attempt().unfinished.as_deref();
        assert_eq!(doubt, (answer == verified(Some("step 3 of 10"))).then_some("step 3 of 10"));
    }
    let mut core = running_from(&careful(1, 3), None);
    let _ = ends_well(&mut core, secs(1));
    assert_eq!(core.step(secs(61), &Event::Tick), finish(Outcome::Completed), "no answer");
}

#[test]
fn a_success_is_not_looked_into_where_somebody_asked_for_an_end() {
    let mut core = running_from(&careful(1, 3), None);
    let _ = core.step(secs(1), &asked(INT));
    let outcome = Outcome::Stopped { signal: INT };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(ends_well(&mut core, secs(1)), end);
}

#[test]
fn a_success_that_is_none_is_a_failure_where_the_policy_says_so() {
    let mut policy = careful(1, 1);
    policy.restart.unfinished_fails = true;
    let unfinished = || verified(Some("step 3 of 10"));
    let outcome = Outcome::Unfinished { why: "step 3 of 10".to_owned() };
    let mut core = running_from(&policy, None);
    let _ = ends_well(&mut core, secs(1));
    assert_eq!(core.step(secs(2), &unfinished()), [Action::Assess { rank: None }]);
    assert_eq!(core.clone().step(secs(2), &asked(INT)), finish(outcome.clone()));
    let _ = core.step(secs(3), &retry(0));
    starts(&mut core, secs(3), 1, None);
    let _ = ends_well(&mut core, secs(4));
    let _ = core.step(secs(4), &unfinished());
    assert_eq!(core.step(secs(4), &retry(1)), finish(outcome.clone()));
    assert_eq!(core.past()[0].unfinished.as_deref(), Some("step 3 of 10"));

    // What nobody assesses is known by its kind.
    policy.restart.assesses = false;
    let mut core = running_from(&policy, None);
    let _ = ends_well(&mut core, secs(1));
    assert_eq!(core.step(secs(2), &unfinished()), [Action::Prepare { attempt: 1 }]);
    assert_eq!(core.attempt().decision.as_ref().unwrap().0.class, Class::Unfinished);
    assert_eq!(core.step(secs(3), &refused()), finish(outcome));
}

#[test]
fn suspend_and_resume_are_done_while_nobody_runs() {
    let mut core = running_from(&patient(3), None);
    fails(&mut core, secs(1));
    let _ = core.step(secs(1), &retry(0));
    let due = core.next_wake();
    assert_eq!(core.step(secs(2), &Event::Suspend), [Action::Suspend]);
    assert_eq!(core.step(secs(2), &Event::Resume), [Action::Resume]);
    assert_eq!(core.next_wake(), due);
}
