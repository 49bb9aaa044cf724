//! Simulation of the supervisor's core: random lives in virtual time, an oracle after each action.

mod budget;
mod oracle;
mod preemption;
mod restarts;
mod saves;
mod scenario;
mod steps;
mod table;
mod world;

use scenario::{Rng, Scenario};

/// How many random runs one test run makes.
const RUNS: u64 = 20_000;

#[test]
fn every_random_run_keeps_the_invariants() {
    let mut outcomes = std::collections::BTreeMap::<&str, u64>::new();
    let mut most_attempts = 0;
    for seed in 0..RUNS {
        let scenario = Scenario::random(&mut Rng::new(seed));
        let played = match world::play(&scenario) {
            Ok(played) => played,
            Err(broken) => panic!("seed {seed}: {broken}\n{scenario:#?}"),
        };
        *outcomes.entry(played.kind).or_default() += 1;
        most_attempts = most_attempts.max(played.attempts);
        for (name, happened) in played.marks {
            *outcomes.entry(name).or_default() += u64::from(happened);
        }
    }
    // A simulation that never reaches an end of some kind proves nothing about it.
    for kind in [
        "completed",
        "failed",
        "stopped",
        "cannot start",
        "stuck",
        "preempted",
        "unfinished",
        "refused",
        "saved after the request",
        "restarted after a wait",
        "restarted after progress",
        "resumed",
        "answered too late",
        "never answered",
        "refused after a failure",
        "final though restarts were left",
        "asked between attempts",
        "preempted beside a failure",
        "preempted before it was done",
    ] {
        let count = outcomes.get(kind).copied().unwrap_or_default();
        assert!(count >= RUNS / 200, "only {count} runs saw `{kind}`: {outcomes:?}");
    }
    assert!(most_attempts > 8, "progress refilled no budget: {most_attempts} attempts at most");
}
