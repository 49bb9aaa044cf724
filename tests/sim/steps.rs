//! Words that the stories are told in.

use std::time::Duration;

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{Action, Event, Policy, RestartPolicy};

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
