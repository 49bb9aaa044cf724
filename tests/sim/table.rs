//! Single stories, step by step.

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{Action, Event, Outcome};

use crate::scenario::{INT, KILL, TERM};
use crate::steps::{
    NOTHING_LEFT, asked, failed, killed_group, millis, policy, running, secs, spawned, well,
};

#[test]
fn one_crash_ends_the_other_ranks_and_restarts() {
    let mut core = running(3, 1);
    let mut first = killed_group(1).to_vec();
    first.extend([0, 2].map(|rank| Action::Signal { rank, signal: TERM }));
    assert_eq!(core.step(secs(5), &failed(1, 3)), first);
    assert_eq!(core.next_wake(), Some(secs(35)));
    assert_eq!(core.step(secs(6), &failed(0, 143)), killed_group(0));
    assert_eq!(core.step(secs(34), &Event::Tick), []);
    assert_eq!(core.step(secs(35), &Event::Tick), [Action::Kill { rank: 2 }]);
    let mut last = killed_group(2).to_vec();
    last.push(Action::Survey);
    let exit = Exit::Signal(KILL);
    assert_eq!(core.step(secs(35), &Event::Exited { rank: 2, exit }), last);
    let restart = [Action::CloseAttempt, Action::SpawnAll { attempt: 1 }];
    assert_eq!(core.step(secs(35), &NOTHING_LEFT), restart);
    assert_eq!(core.past()[0].suspect, Some(1));
}

#[test]
fn the_last_failure_is_the_outcome() {
    let mut core = running(1, 0);
    let _ = core.step(secs(1), &failed(0, 7));
    let outcome = Outcome::Failed { rank: 0, exit: Exit::Code(7) };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(1), &NOTHING_LEFT), end);
}

#[test]
fn a_clean_rank_leaves_its_group_the_grace() {
    let mut core = running(2, 0);
    assert_eq!(core.step(secs(1), &well(0)), [Action::SurveyGroup { rank: 0 }]);
    let left = Event::Group { rank: 0, left: 1 };
    assert_eq!(core.step(secs(1), &left), [Action::EndGroup { rank: 0, signal: TERM }]);
    assert_eq!(core.step(secs(30), &left), []);
    assert_eq!(core.step(secs(31), &left), [Action::EndGroup { rank: 0, signal: KILL }]);
    let gone = Event::Group { rank: 0, left: 0 };
    assert_eq!(core.step(secs(31), &gone), [Action::Reap { rank: 0 }]);
    // The other rank was not disturbed.
    assert!(core.attempt().ranks[1].told.is_none());
}

#[test]
fn what_a_clean_rank_leaves_in_a_drain_has_no_longer_than_the_ranks() {
    let mut core = running(3, 0);
    let _ = core.step(secs(5), &failed(0, 1));
    assert_eq!(core.step(secs(10), &well(1)), [Action::SurveyGroup { rank: 1 }]);
    let left = |rank| Event::Group { rank, left: 1 };
    assert_eq!(core.step(secs(10), &left(1)), [Action::EndGroup { rank: 1, signal: TERM }]);
    assert_eq!(core.step(secs(34), &left(1)), []);
    assert_eq!(core.step(secs(35), &left(1)), [Action::EndGroup { rank: 1, signal: KILL }]);
    // Once the ranks are being killed, hardly any time is left.
    assert!(core.step(secs(35), &Event::Tick).contains(&Action::Kill { rank: 2 }));
    let _ = core.step(secs(36), &well(2));
    assert_eq!(core.step(secs(36), &left(2)), [Action::EndGroup { rank: 2, signal: TERM }]);
    let soon = secs(36) + millis(20);
    assert_eq!(core.step(soon, &left(2)), [Action::EndGroup { rank: 2, signal: KILL }]);
}

#[test]
fn a_group_that_does_not_end_is_given_up_after_the_wait() {
    let mut core = running(2, 0);
    let left = Event::Group { rank: 0, left: 1 };
    let _ = core.step(secs(0), &well(0));
    let _ = core.step(secs(0), &left);
    let _ = core.step(secs(30), &left);
    assert_eq!(core.step(secs(59), &left), []);
    assert_eq!(core.step(secs(60), &left), [Action::Reap { rank: 0 }]);
}

#[test]
fn attempts_are_counted_up_and_kept() {
    let mut core = running(1, 2);
    for number in 0..3 {
        let _ = core.step(secs(1), &failed(0, 1));
        let end = core.step(secs(1), &NOTHING_LEFT);
        let numbers: Vec<u32> = core.past().iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, (0..=number.min(1)).collect::<Vec<_>>());
        if number < 2 {
            assert_eq!(end[1], Action::SpawnAll { attempt: number + 1 });
            assert_eq!(core.attempt().number, number + 1);
            spawned(&mut core, secs(1), 1);
        }
    }
}

#[test]
fn leftovers_of_a_clean_end_get_term_grace_kill() {
    let mut core = running(1, 0);
    let _ = core.step(secs(1), &well(0));
    let gone = Event::Group { rank: 0, left: 0 };
    assert_eq!(core.step(secs(1), &gone), [Action::Reap { rank: 0 }, Action::Survey]);
    let left = Event::Leftovers { left: 2 };
    assert_eq!(core.step(secs(1), &left), [Action::EndLeftovers { signal: TERM }]);
    assert_eq!(core.step(secs(2), &left), []);
    let kill = [Action::EndLeftovers { signal: KILL }, Action::Survey];
    assert_eq!(core.step(secs(31), &left), kill);
    let outcome = Outcome::Completed;
    assert_eq!(
        core.step(secs(31), &NOTHING_LEFT),
        [Action::CloseAttempt, Action::Finish { outcome }]
    );
}

#[test]
fn a_second_request_shortens_the_grace_and_a_third_ends_it() {
    let mut core = running(1, 3);
    assert_eq!(core.step(secs(10), &asked(INT)), [Action::Signal { rank: 0, signal: INT }]);
    assert_eq!(core.next_wake(), Some(secs(40)));
    assert_eq!(core.step(secs(11), &asked(INT)), []);
    assert_eq!(core.next_wake(), Some(secs(16)));
    assert_eq!(core.step(secs(12), &asked(INT)), [Action::Kill { rank: 0 }]);
    let _ = core.step(secs(12), &Event::Exited { rank: 0, exit: Exit::Signal(KILL) });
    let outcome = Outcome::Stopped { signal: INT };
    assert_eq!(
        core.step(secs(12), &NOTHING_LEFT),
        [Action::CloseAttempt, Action::Finish { outcome }]
    );
}

#[test]
fn a_second_request_never_lengthens_the_grace() {
    let mut core = running(1, 0);
    let _ = core.step(secs(0), &asked(TERM));
    let _ = core.step(secs(29), &asked(TERM));
    assert_eq!(core.next_wake(), Some(secs(30)));
}

#[test]
fn a_request_during_a_failures_drain_is_passed_on_and_cancels_the_restart() {
    let mut core = running(2, 3);
    let _ = core.step(secs(1), &failed(0, 1));
    assert_eq!(core.step(secs(2), &asked(INT)), [Action::Signal { rank: 1, signal: INT }]);
    assert_eq!(core.next_wake(), Some(secs(31)), "the grace is the same whoever began the end");
    let _ = core.step(secs(3), &failed(1, 143));
    let outcome = Outcome::Failed { rank: 0, exit: Exit::Code(1) };
    assert_eq!(
        core.step(secs(3), &NOTHING_LEFT),
        [Action::CloseAttempt, Action::Finish { outcome }]
    );
}

#[test]
fn a_wedged_rank_ends_the_run_as_stuck() {
    let mut core = running(2, 5);
    let _ = core.step(secs(0), &failed(0, 1));
    assert_eq!(core.step(secs(30), &Event::Tick), [Action::Kill { rank: 1 }]);
    assert_eq!(core.step(secs(59), &Event::Tick), []);
    assert_eq!(core.step(secs(60), &Event::Tick), [Action::Survey]);
    let outcome = Outcome::Stuck { ranks: vec![1], leftovers: 0 };
    assert_eq!(
        core.step(secs(60), &NOTHING_LEFT),
        [Action::CloseAttempt, Action::Finish { outcome }]
    );
}

#[test]
fn a_program_that_cannot_be_executed_is_not_tried_again() {
    let mut core = running(2, 5);
    let broken = Event::ExecFailed { rank: 0, reason: "no such file".to_owned() };
    assert_eq!(core.step(secs(0), &broken), []);
    let _ = core.step(secs(0), &failed(0, 126));
    let _ = core.step(secs(0), &failed(1, 126));
    let reason = "no such file".to_owned();
    let outcome = Outcome::CannotStart { rank: 0, reason, exec: true };
    assert_eq!(
        core.step(secs(0), &NOTHING_LEFT),
        [Action::CloseAttempt, Action::Finish { outcome }]
    );
}

#[test]
fn a_notice_is_passed_on_and_starts_no_timer() {
    let mut core = running(2, 0);
    let notice = Event::Passed { signal: 10 };
    let to = |rank| Action::Signal { rank, signal: 10 };
    assert_eq!(core.step(secs(1), &notice), [to(0), to(1)]);
    assert_eq!(core.next_wake(), None);
}

#[test]
fn an_early_end_with_0_changes_nothing_for_the_others() {
    let mut core = running(2, 0);
    let _ = core.step(secs(1), &well(0));
    assert_eq!(core.step(secs(1), &Event::Group { rank: 0, left: 0 }), [Action::Reap { rank: 0 }]);
    assert_eq!(core.next_wake(), None);
    assert!(core.attempt().ranks[1].told.is_none());
}

#[test]
fn a_graceful_end_after_a_request_is_still_a_stop() {
    let mut core = running(1, 0);
    let _ = core.step(secs(1), &asked(TERM));
    let _ = core.step(secs(2), &well(0));
    let _ = core.step(secs(2), &Event::Group { rank: 0, left: 0 });
    let end = core.step(secs(2), &NOTHING_LEFT);
    assert_eq!(end[1], Action::Finish { outcome: Outcome::Stopped { signal: TERM } });
}

#[test]
fn a_request_after_the_last_rank_ended_well_does_not_undo_the_success() {
    let mut core = running(1, 0);
    let _ = core.step(secs(1), &well(0));
    let _ = core.step(secs(1), &Event::Group { rank: 0, left: 0 });
    let _ = core.step(secs(1), &Event::Leftovers { left: 1 });
    let _ = core.step(secs(2), &asked(TERM));
    let end = core.step(secs(3), &NOTHING_LEFT);
    assert_eq!(end[1], Action::Finish { outcome: Outcome::Completed });
}

#[test]
fn leftovers_are_counted_again_when_something_ends_and_every_20_ms() {
    let mut core = running(1, 0);
    let _ = core.step(secs(1), &well(0));
    let _ = core.step(secs(1), &Event::Group { rank: 0, left: 0 });
    let _ = core.step(secs(1), &Event::Leftovers { left: 1 });
    assert_eq!(core.next_wake(), Some(secs(1) + millis(20)));
    assert_eq!(core.step(secs(1) + millis(1), &Event::ChildGone), [Action::Survey]);
    assert_eq!(core.step(secs(1) + millis(21), &Event::Tick), [Action::Survey]);
}

#[test]
fn leftovers_that_do_not_end_are_stuck_and_no_restart_is_tried() {
    let mut core = running(1, 5);
    let _ = core.step(secs(0), &failed(0, 1));
    let left = Event::Leftovers { left: 1 };
    let kill = [Action::EndLeftovers { signal: KILL }, Action::Survey];
    assert_eq!(core.step(secs(0), &left), kill);
    assert_eq!(core.step(secs(1), &left), [Action::EndLeftovers { signal: KILL }]);
    let end = core.step(secs(30), &left);
    let outcome = Outcome::Stuck { ranks: vec![], leftovers: 1 };
    assert_eq!(end, [Action::CloseAttempt, Action::Finish { outcome }]);
}

#[test]
fn suspend_and_resume_are_done_at_once_and_change_no_plan() {
    let mut core = running(1, 0);
    let _ = core.step(secs(1), &asked(TERM));
    assert_eq!(core.step(secs(2), &Event::Suspend), [Action::Suspend]);
    assert_eq!(core.step(secs(2), &Event::Resume), [Action::Resume]);
    assert_eq!(core.next_wake(), Some(secs(31)));
}

#[test]
fn ranks_that_are_deferred_come_all_at_once_and_run_as_others_do() {
    let mut core = Supervisor::new(policy(2, 0));
    let _ = core.step(secs(0), &Event::Start);
    assert_eq!(core.step(secs(0), &Event::Deferred), []);
    assert_eq!((core.next_wake(), core.step(secs(9), &Event::Tick)), (None, vec![]));
    spawned(&mut core, secs(10), 2);
    assert_eq!(core.attempt().ranks[1].started_at, Some(secs(10)));
    let told = Action::Signal { rank: 0, signal: TERM };
    assert_eq!(core.step(secs(11), &failed(1, 1)).last(), Some(&told), "nothing to cancel");
}

#[test]
fn a_stop_cancels_ranks_that_are_deferred_and_none_comes_later() {
    let mut core = Supervisor::new(policy(2, 3));
    let _ = core.step(secs(0), &Event::Start);
    let _ = core.step(secs(0), &Event::Deferred);
    assert_eq!(core.step(secs(1), &asked(INT)), [Action::CancelSpawns, Action::Survey]);
    assert_eq!(core.step(secs(1), &Event::Spawned { rank: 0, pid: 7 }), []);
    assert_eq!(core.attempt().ranks[0].pid, None, "too late to be a rank");
    let outcome = Outcome::Stopped { signal: INT };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(1), &NOTHING_LEFT), end);
}

#[test]
fn deferred_ranks_that_cannot_start_end_the_job() {
    let mut core = Supervisor::new(policy(2, 3));
    let _ = core.step(secs(0), &Event::Start);
    let _ = core.step(secs(0), &Event::Deferred);
    let reason = "no".to_owned();
    let failed = Event::SpawnFailed { rank: 0, reason: reason.clone() };
    assert_eq!(core.step(secs(1), &failed), [Action::Survey]);
    let outcome = Outcome::CannotStart { rank: 0, reason, exec: false };
    let end = [Action::CloseAttempt, Action::Finish { outcome }];
    assert_eq!(core.step(secs(1), &NOTHING_LEFT), end);
}
