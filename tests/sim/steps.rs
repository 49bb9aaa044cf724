//! Words that the stories are told in.

use std::time::Duration;

use nvlaunch::diagnose::class::{Class, Remedy};
use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{
    Action, Assessment, Event, Outcome, Policy, RestartPolicy, ResumePoint,
};

use crate::scenario::KILL;

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn policy(ranks: u32, max_restarts: u32) -> Policy {
    Policy {
        ranks,
        max_restarts,
        grace: secs(30),
        hurried_grace: secs(5),
        reap_limit: secs(30),
        restart: RestartPolicy::default(),
        preemption: None,
    }
}

/// A core whose ranks run.
pub fn running(ranks: u32, max_restarts: u32) -> Supervisor {
    let mut core = Supervisor::new(policy(ranks, max_restarts));
    let actions = core.step(secs(0), &Event::Start);
    assert_eq!(actions, [Action::SpawnAll { attempt: 0 }]);
    spawned(&mut core, secs(0), ranks);
    core
}

pub fn spawned(core: &mut Supervisor, now: Duration, ranks: u32) {
    for (rank, pid) in (0..ranks).zip(100..) {
        assert_eq!(core.step(now, &Event::Spawned { rank, pid }), []);
    }
}

pub fn failed(rank: u32, code: i32) -> Event {
    Event::Exited { rank, exit: Exit::Code(code) }
}

pub fn well(rank: u32) -> Event {
    Event::Exited { rank, exit: Exit::Code(0) }
}

pub fn killed_group(rank: u32) -> [Action; 2] {
    [Action::EndGroup { rank, signal: KILL }, Action::Reap { rank }]
}

pub fn asked(signal: i32) -> Event {
    Event::Asked { signal, from: None }
}

pub const NOTHING_LEFT: Event = Event::Leftovers { left: 0 };

/// A policy that asks about everything, waits nowhere, and counts since the last progress.
pub fn careful(ranks: u32, max_restarts: u32) -> Policy {
    let restart = RestartPolicy {
        prepares: true,
        assesses: true,
        verifies: true,
        by_progress: true,
        answer_limit: secs(60),
        ..RestartPolicy::default()
    };
    Policy { restart, ..policy(ranks, max_restarts) }
}

/// A core whose ranks run from what was prepared.
pub fn running_from(policy: &Policy, resume: Option<u64>) -> Supervisor {
    let mut core = Supervisor::new(policy.clone());
    assert_eq!(core.step(secs(0), &Event::Start), [Action::Prepare { attempt: 0 }]);
    starts(&mut core, secs(0), 0, resume);
    core
}

/// The answer to `Prepare` comes, and the ranks start.
pub fn starts(core: &mut Supervisor, now: Duration, attempt: u32, resume: Option<u64>) {
    let prepared = Event::Prepared { resume: resume.map(point) };
    assert_eq!(core.step(now, &prepared), [Action::SpawnAll { attempt }]);
    assert_eq!(core.attempt().resume, resume.map(point));
    let ranks = u32::try_from(core.attempt().ranks.len()).unwrap();
    spawned(core, now, ranks);
}

/// The only rank fails, and what follows is what the failure is asked about.
pub fn fails(core: &mut Supervisor, now: Duration) {
    let _ = core.step(now, &failed(0, 1));
    let asked = [Action::CloseAttempt, Action::Assess { rank: Some(0) }];
    assert_eq!(core.step(now, &NOTHING_LEFT), asked);
}

/// The only rank ends well, and so does what it left.
pub fn ends_well(core: &mut Supervisor, now: Duration) -> Vec<Action> {
    let _ = core.step(now, &well(0));
    let _ = core.step(now, &Event::Group { rank: 0, left: 0 });
    core.step(now, &NOTHING_LEFT)
}

/// A failure of this kind, with the job this far.
pub fn seen(remedy: Remedy, progress: Option<u64>) -> Assessment {
    Assessment {
        class: Class::Unknown,
        remedy,
        fingerprint: None,
        why: "ValueError in train.py:12".to_owned(),
        progress,
        measures_progress: true,
        ended_early: false,
    }
}

pub fn assessed(attempt: u32, assessment: Assessment) -> Event {
    Event::Assessed { attempt, assessment }
}

pub fn retry(attempt: u32) -> Event {
    assessed(attempt, seen(Remedy::Retry, None))
}

pub fn point(number: u64) -> ResumePoint {
    crate::saves::point(number)
}

pub fn finish(outcome: Outcome) -> [Action; 1] {
    [Action::Finish { outcome }]
}

/// How the run of these stories fails.
pub const FAILED: Outcome = Outcome::Failed { rank: 0, exit: Exit::Code(1) };
