//! Simulation of the supervisor's core: random lives in virtual time, an oracle after each action.

mod oracle;
mod table;
mod world;

use world::{Rng, Scenario};

/// How many random runs one test run makes.
const RUNS: u64 = 20_000;

#[test]
fn every_random_run_keeps_the_invariants() {
    let mut outcomes = std::collections::BTreeMap::<&str, u64>::new();
    for seed in 0..RUNS {
        let scenario = Scenario::random(&mut Rng::new(seed));
        let outcome = match world::play(&scenario) {
            Ok(outcome) => outcome,
            Err(broken) => panic!("seed {seed}: {broken}\n{scenario:#?}"),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    // A simulation that never reaches an end of some kind proves nothing about it.
    for kind in ["completed", "failed", "stopped", "cannot start", "stuck"] {
        let count = outcomes.get(kind).copied().unwrap_or_default();
        assert!(count >= RUNS / 200, "only {count} runs ended as {kind}: {outcomes:?}");
    }
}
