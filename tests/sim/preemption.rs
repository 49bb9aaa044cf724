//! Single stories of a machine that is taken away.

use std::time::Duration;

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{Action, Event, Outcome, PreemptionPolicy, ResumePoint};

use crate::scenario::{INT, KILL, TERM, USR2};
use crate::steps::{
    NOTHING_LEFT, asked, failed, finish, killed_group, millis, point, policy, secs, spawned, well,
};

/// Ranks run that have 300 s to save, or until then.
fn running(ranks: u32, signals: &[i32], ends_at: Option<Duration>) -> Supervisor {
    let mut policy = policy(ranks, 3);
    policy.restart.verifies = true;
    policy.preemption =
        Some(PreemptionPolicy { signals: signals.to_vec(), grace: secs(300), ends_at });
    let mut core = Supervisor::new(policy);
    assert_eq!(core.step(secs(0), &Event::Start), [Action::SpawnAll { attempt: 0 }]);
    spawned(&mut core, secs(0), ranks);
    core
}

fn told(rank: u32, signal: i32) -> Action {
    Action::Signal { rank, signal }
}

fn saved(number: u64) -> Event {
    Event::Saved { point: point(number) }
}

fn killed(rank: u32) -> Event {
    Event::Exited { rank, exit: Exit::Signal(KILL) }
}

fn preempted(signal: i32, saved: Option<ResumePoint>) -> [Action; 2] {
    let outcome = Outcome::Preempted { signal, saved };
    [Action::CloseAttempt, Action::Finish { outcome }]
}

#[test]
fn the_ranks_have_the_time_to_save() {
    let mut core = running(2, &[TERM], None);
    let watch = [Action::WatchSaves, told(0, TERM), told(1, TERM)];
    assert_eq!(core.step(secs(10), &asked(TERM)), watch);
    assert_eq!(core.next_wake(), Some(secs(310)));
    assert_eq!(core.step(secs(309), &Event::Tick), []);
    // A rank that ends badly now was told to end.
    assert_eq!(core.step(secs(309), &failed(0, 143)), killed_group(0));
    assert_eq!(core.step(secs(310), &Event::Tick), [Action::Kill { rank: 1 }]);
    let _ = core.step(secs(310), &killed(1));
    assert_eq!(core.step(secs(310), &NOTHING_LEFT), preempted(TERM, None));
}

#[test]
fn other_signals_leave_the_ordinary_grace() {
    let mut core = running(1, &[TERM], None);
    assert_eq!(core.step(secs(10), &asked(INT)), [told(0, INT)]);
    assert_eq!(core.next_wake(), Some(secs(40)));
    assert_eq!(core.step(secs(10), &saved(7)), [], "nobody watches");
    // The signal of a preemption is a second request like any other.
    assert_eq!(core.step(secs(11), &asked(TERM)), []);
    assert_eq!(core.next_wake(), Some(secs(16)));
    assert_eq!(core.step(secs(16), &Event::Tick), [Action::Kill { rank: 0 }]);
    let _ = core.step(secs(16), &killed(0));
    let outcome = Outcome::Stopped { signal: INT };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(16), &NOTHING_LEFT), end);
}

#[test]
fn the_time_ends_where_the_schedulers_ends() {
    for (ends_at, wake) in [(secs(100), secs(100)), (secs(1000), secs(310))] {
        let mut core = running(1, &[TERM], Some(ends_at));
        assert_eq!(core.step(secs(10), &asked(TERM)), [Action::WatchSaves, told(0, TERM)]);
        assert_eq!(core.next_wake(), Some(wake));
    }
}

#[test]
fn an_end_that_is_near_or_has_passed_leaves_what_another_request_would_leave() {
    let near = [(secs(10) + millis(1), secs(40)), (secs(39), secs(40)), (secs(41), secs(41))];
    let passed = [(secs(10), secs(310)), (secs(5), secs(310))];
    for (ends_at, wake) in near.into_iter().chain(passed) {
        let mut core = running(1, &[TERM], Some(ends_at));
        assert_eq!(core.step(secs(10), &asked(TERM)), [Action::WatchSaves, told(0, TERM)]);
        assert_eq!(core.next_wake(), Some(wake), "announced for {ends_at:?}");
        assert_eq!(core.step(wake, &Event::Tick), [Action::Kill { rank: 0 }]);
    }
    // The grace that the user named is the most where it is less.
    let mut policy = policy(1, 0);
    let (signals, ends_at) = (vec![TERM], Some(secs(12)));
    policy.preemption = Some(PreemptionPolicy { signals, grace: secs(7), ends_at });
    assert_eq!(policy.time_to_save(secs(10)), Some(secs(7)));
}

#[test]
fn the_time_is_never_shorter_than_after_a_second_request() {
    let mut policy = policy(1, 0);
    let signals = vec![TERM];
    policy.preemption = Some(PreemptionPolicy { signals, grace: secs(1), ends_at: None });
    let mut core = Supervisor::new(policy);
    let _ = core.step(secs(0), &Event::Start);
    spawned(&mut core, secs(0), 1);
    let _ = core.step(secs(10), &asked(TERM));
    assert_eq!(core.next_wake(), Some(secs(15)));
}

#[test]
fn what_is_left_after_a_save_ends_soon() {
    let mut core = running(2, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    assert_eq!(core.step(secs(55), &saved(40)), []);
    assert_eq!(core.next_wake(), Some(secs(60)));
    let _ = core.step(secs(56), &failed(0, 143));
    assert_eq!(core.step(secs(57), &saved(41)), []);
    assert_eq!(core.step(secs(57), &saved(39)), []);
    assert_eq!(core.next_wake(), Some(secs(60)), "the first save is what counts");
    assert_eq!(core.step(secs(60), &Event::Tick), [Action::Kill { rank: 1 }]);
    let _ = core.step(secs(60), &killed(1));
    assert_eq!(core.step(secs(60), &NOTHING_LEFT), preempted(TERM, Some(point(41))));
}

#[test]
fn a_save_never_lengthens_the_time() {
    let mut core = running(1, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    let _ = core.step(secs(308), &saved(40));
    assert_eq!(core.next_wake(), Some(secs(310)));
}

#[test]
fn ranks_that_were_told_by_another_signal_are_told_by_term_after_the_save() {
    let mut core = running(2, &[USR2], None);
    let watch = [Action::WatchSaves, told(0, USR2), told(1, USR2)];
    assert_eq!(core.step(secs(10), &asked(USR2)), watch);
    assert_eq!(core.step(secs(20), &saved(40)), [told(0, TERM), told(1, TERM)]);
    assert_eq!(core.attempt().ranks[0].told, Some((USR2, secs(10))));
    assert_eq!(core.next_wake(), Some(secs(25)));
    assert_eq!(core.step(secs(21), &saved(41)), [], "once is enough");
}

#[test]
fn a_save_that_is_seen_after_the_ranks_ended_is_told_too() {
    let mut core = running(1, &[USR2], None);
    let _ = core.step(secs(10), &asked(USR2));
    assert!(core.step(secs(11), &failed(0, 1)).contains(&Action::Survey));
    assert_eq!(core.step(secs(11), &saved(40)), []);
    assert_eq!(core.step(secs(11), &NOTHING_LEFT), preempted(USR2, Some(point(40))));
}

#[test]
fn a_save_while_ranks_are_killed_tells_nobody_anything() {
    let mut core = running(1, &[USR2], None);
    let _ = core.step(secs(10), &asked(USR2));
    let _ = core.step(secs(310), &Event::Tick);
    assert_eq!(core.step(secs(311), &saved(40)), []);
    assert_eq!(core.next_wake(), Some(secs(340)));
}

#[test]
fn a_second_request_shortens_the_time_and_a_third_ends_it() {
    let mut core = running(1, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    assert_eq!(core.step(secs(20), &asked(TERM)), []);
    assert_eq!(core.next_wake(), Some(secs(25)));
    assert_eq!(core.step(secs(21), &asked(INT)), [Action::Kill { rank: 0 }]);
}

#[test]
fn what_clean_ranks_leave_has_the_time_of_the_ranks() {
    let mut core = running(2, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    let _ = core.step(secs(20), &well(0));
    let left = Event::Group { rank: 0, left: 1 };
    assert_eq!(core.step(secs(20), &left), [Action::EndGroup { rank: 0, signal: TERM }]);
    assert_eq!(core.step(secs(60), &left), []);
    let _ = core.step(secs(70), &saved(40));
    assert_eq!(core.step(secs(74), &left), []);
    assert_eq!(core.step(secs(75), &left), [Action::EndGroup { rank: 0, signal: KILL }]);
}

#[test]
fn what_the_last_rank_leaves_has_the_ordinary_grace() {
    let mut core = running(2, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    let _ = core.step(secs(20), &well(0));
    let left = |rank| Event::Group { rank, left: 1 };
    let _ = core.step(secs(20), &left(0));
    assert_eq!(core.step(secs(60), &left(0)), [], "the other rank may be saving");
    // The last rank ends: nobody saves any more, and what is left has 30 s.
    let _ = core.step(secs(100), &well(1));
    assert_eq!(core.step(secs(100), &left(1)), [Action::EndGroup { rank: 1, signal: TERM }]);
    assert_eq!(core.step(secs(129), &left(1)), []);
    for rank in [0, 1] {
        let kill = [Action::EndGroup { rank, signal: KILL }];
        assert_eq!(core.step(secs(130), &left(rank)), kill);
    }
}

#[test]
fn what_left_the_sessions_of_the_ranks_has_the_ordinary_grace_too() {
    let mut core = running(1, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    let _ = core.step(secs(20), &well(0));
    let gone = Event::Group { rank: 0, left: 0 };
    assert_eq!(core.step(secs(25), &gone), [Action::Reap { rank: 0 }, Action::Survey]);
    let left = Event::Leftovers { left: 1 };
    assert_eq!(core.step(secs(25), &left), [Action::EndLeftovers { signal: TERM }]);
    assert_eq!(core.step(secs(49), &left), []);
    let kill = [Action::EndLeftovers { signal: KILL }, Action::Survey];
    assert_eq!(core.step(secs(50), &left), kill);
    let _ = core.step(secs(50), &NOTHING_LEFT);
    assert_eq!(core.next_wake(), None, "it is over");
}

#[test]
fn a_failure_before_any_other_request_stays_one() {
    let mut core = running(2, &[TERM], None);
    let _ = core.step(secs(1), &failed(0, 1));
    assert_eq!(core.step(secs(2), &asked(INT)), [told(1, INT)]);
    assert_eq!(core.next_wake(), Some(secs(31)), "the grace is the failure's");
    let _ = core.step(secs(3), &failed(1, 143));
    let outcome = Outcome::Failed { rank: 0, exit: Exit::Code(1) };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(3), &NOTHING_LEFT), end);
}

#[test]
fn a_preemption_just_after_a_failure_is_one_and_the_others_have_the_time_to_save() {
    let mut core = running(3, &[TERM], None);
    let _ = core.step(secs(1), &failed(0, 3));
    let watch = [Action::WatchSaves, told(1, TERM), told(2, TERM)];
    assert_eq!(core.step(secs(2), &asked(TERM)), watch);
    assert_eq!(core.next_wake(), Some(secs(302)));
    let _ = core.step(secs(100), &well(1));
    let _ = core.step(secs(100), &Event::Group { rank: 1, left: 0 });
    assert_eq!(core.step(secs(200), &saved(40)), []);
    assert_eq!(core.step(secs(205), &Event::Tick), [Action::Kill { rank: 2 }]);
    let _ = core.step(secs(205), &killed(2));
    assert_eq!(core.step(secs(205), &NOTHING_LEFT), preempted(TERM, Some(point(40))));
    assert_eq!(core.attempt().suspect, Some(0), "the report names it");
}

#[test]
fn a_preemption_takes_nothing_of_the_time_that_a_failure_left() {
    // 30 s after the failure, and 10 s after the preemption.
    let mut policy = policy(2, 3);
    let signals = vec![TERM];
    policy.preemption = Some(PreemptionPolicy { signals, grace: secs(10), ends_at: None });
    let mut core = Supervisor::new(policy);
    let _ = core.step(secs(0), &Event::Start);
    spawned(&mut core, secs(0), 2);
    let _ = core.step(secs(1), &failed(0, 3));
    let _ = core.step(secs(2), &asked(TERM));
    assert_eq!(core.next_wake(), Some(secs(31)));
    assert_eq!(core.step(secs(3), &asked(TERM)), []);
    assert_eq!(core.next_wake(), Some(secs(8)), "a second request is one");
}

#[test]
fn a_preemption_while_ranks_that_failed_are_killed_comes_too_late_to_save_and_is_one() {
    let mut core = running(2, &[TERM], None);
    let _ = core.step(secs(1), &failed(0, 3));
    assert_eq!(core.step(secs(31), &Event::Tick), [Action::Kill { rank: 1 }]);
    assert_eq!(core.step(secs(31), &asked(TERM)), []);
    let _ = core.step(secs(31), &killed(1));
    assert_eq!(core.step(secs(31), &NOTHING_LEFT), preempted(TERM, None));
}

#[test]
fn ranks_of_a_job_that_cannot_start_have_nothing_to_save() {
    let mut core = running(2, &[TERM], None);
    let reason = "no such file".to_owned();
    let _ = core.step(secs(1), &Event::ExecFailed { rank: 0, reason: reason.clone() });
    let _ = core.step(secs(1), &failed(0, 126));
    assert_eq!(core.step(secs(2), &asked(TERM)), [told(1, TERM)]);
    assert_eq!(core.next_wake(), Some(secs(31)));
    let _ = core.step(secs(3), &failed(1, 143));
    let outcome = Outcome::CannotStart { rank: 0, reason, exec: true };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(3), &NOTHING_LEFT), end);
}

#[test]
fn a_job_that_was_done_before_is_done() {
    let mut core = running(1, &[TERM], None);
    let _ = core.step(secs(1), &well(0));
    // Its group is still being counted: no rank is there that could save.
    assert_eq!(core.step(secs(1), &asked(TERM)), [Action::SurveyGroup { rank: 0 }]);
    let _ = core.step(secs(2), &Event::Group { rank: 0, left: 0 });
    let verify = [Action::CloseAttempt, Action::Verify];
    assert_eq!(core.step(secs(2), &NOTHING_LEFT), verify);
    let done = Event::Verified { unfinished: None };
    assert_eq!(core.step(secs(3), &done), finish(Outcome::Completed));
}

/// The scheduler may ask the ranks first, and they may end with 0 because of that.
#[test]
fn a_job_that_was_not_done_before_is_preempted() {
    for fails in [false, true] {
        for sweeps in [false, true] {
            let mut policy = policy(1, 3);
            (policy.restart.verifies, policy.restart.unfinished_fails) = (true, fails);
            policy.restart.answer_limit = secs(60);
            let signals = vec![TERM];
            policy.preemption = Some(PreemptionPolicy { signals, grace: secs(300), ends_at: None });
            let mut core = Supervisor::new(policy);
            let _ = core.step(secs(0), &Event::Start);
            spawned(&mut core, secs(0), 1);
            let _ = core.step(secs(1), &well(0));
            let _ = core.step(secs(1), &Event::Group { rank: 0, left: 0 });
            if sweeps {
                assert_eq!(core.step(secs(1), &asked(TERM)), []);
            }
            let verify = [Action::CloseAttempt, Action::Verify];
            assert_eq!(core.step(secs(1), &NOTHING_LEFT), verify);
            if !sweeps {
                assert_eq!(core.step(secs(1), &asked(TERM)), [], "the look goes on");
            }
            let again = core.clone().step(secs(2), &asked(TERM));
            assert_eq!(again, finish(Outcome::Completed), "asked again");
            let late = core.clone().step(secs(61), &Event::Tick);
            assert_eq!(late, finish(Outcome::Completed), "no answer");
            let none = Event::Verified { unfinished: Some("nothing was saved".to_owned()) };
            let preempted = Outcome::Preempted { signal: TERM, saved: None };
            assert_eq!(core.step(secs(2), &none), finish(preempted), "{fails} {sweeps}");
            assert!(core.attempt().unfinished.is_some());
        }
    }
}

#[test]
fn ranks_that_are_deferred_have_nothing_to_save() {
    let mut core = Supervisor::new({
        let mut policy = policy(1, 0);
        let signals = vec![TERM];
        policy.preemption = Some(PreemptionPolicy { signals, grace: secs(9), ends_at: None });
        policy
    });
    let _ = core.step(secs(0), &Event::Start);
    let _ = core.step(secs(0), &Event::Deferred);
    let cancels = [Action::CancelSpawns, Action::Survey];
    assert_eq!(core.step(secs(1), &asked(TERM)), cancels);
    assert_eq!(core.step(secs(1) + millis(1), &NOTHING_LEFT), preempted(TERM, None));
}

#[test]
fn a_rank_that_is_stuck_is_worse_than_a_preemption() {
    let mut core = running(1, &[TERM], None);
    let _ = core.step(secs(10), &asked(TERM));
    let _ = core.step(secs(310), &Event::Tick);
    let _ = core.step(secs(340), &Event::Tick);
    let outcome = Outcome::Stuck { ranks: vec![0], leftovers: 0 };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(340), &NOTHING_LEFT), end);
}
