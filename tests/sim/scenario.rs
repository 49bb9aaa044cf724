//! One random run, decided in advance.

use std::time::Duration;

use nvlaunch::diagnose::class::{Class, Remedy};
use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::event::{Policy, PreemptionPolicy, RestartPolicy};

pub const KILL: i32 = 9;
pub const TERM: i32 = 15;
pub const INT: i32 = 2;
/// A notice, which ends nothing.
pub const USR1: i32 = 10;
pub const USR2: i32 = 12;

/// Numbers from a seed (splitmix64).
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    fn times(&mut self, most: u64) -> Vec<Duration> {
        let count = self.below(most);
        let mut times: Vec<_> = (0..count).map(|_| self.millis(4000)).collect();
        times.sort_unstable();
        times
    }
}

/// How a process takes TERM and KILL.
#[derive(Debug, Clone, Copy)]
pub enum Ears {
    /// Ends this long after TERM.
    Listens(Duration),
    /// Ignores everything but KILL.
    Deaf,
    /// Ends on nothing.
    Wedged,
}

impl Ears {
    fn random(rng: &mut Rng) -> Self {
        match rng.below(12) {
            0..=2 => Self::Deaf,
            3 if rng.one_in(3) => Self::Wedged,
            _ => Self::Listens(rng.millis(900)),
        }
    }
}

/// What a rank will do in one attempt.
#[derive(Debug, Clone)]
pub struct Life {
    /// Ends by itself after this long, like this; `None`: runs until told.
    pub ends: Option<(Duration, Exit)>,
    pub ears: Ears,
    /// Whether it saves and goes on where a signal other than TERM asks for that.
    pub only_term: bool,
    /// How it ends when it listens.
    pub told_exit: Exit,
    /// What stays of its session when it ends.
    pub group: Vec<Ears>,
    /// What left its session.
    pub daemons: Vec<Ears>,
}

impl Life {
    fn random(rng: &mut Rng, horizon: u64, (health, endless): (u64, u64)) -> Self {
        let exit = |rng: &mut Rng| match rng.below(4) {
            0 | 1 => Exit::Code(0),
            2 => Exit::Code(1 + i32::try_from(rng.below(9)).unwrap()),
            _ => Exit::Signal(11),
        };
        let ends = (!rng.one_in(endless)).then(|| {
            let healthy = rng.below(5) > health;
            let exit = if healthy { Exit::Code(0) } else { exit(rng) };
            (rng.millis(horizon), exit)
        });
        let some = |rng: &mut Rng| -> Vec<Ears> {
            let count = if rng.one_in(4) { 1 + rng.below(2) } else { 0 };
            (0..count).map(|_| Ears::random(rng)).collect()
        };
        let told_exit = if rng.one_in(2) { Exit::Signal(TERM) } else { exit(rng) };
        let (ears, only_term) = (Ears::random(rng), rng.one_in(2));
        Self { ends, ears, only_term, told_exit, group: some(rng), daemons: some(rng) }
    }
}

/// A checkpoint that will be written.
#[derive(Debug, Clone, Copy)]
pub struct Save {
    /// After the start of the attempt.
    pub after: Duration,
    /// How many steps further than the last one.
    pub steps: u64,
    pub whole: bool,
}

/// What will be said about one attempt, and when.
#[derive(Debug, Clone)]
pub struct Answers {
    /// `None` is never.
    pub prepare_after: Option<Duration>,
    pub refuses: bool,
    pub assess_after: Option<Duration>,
    pub class: Class,
    pub remedy: Remedy,
    pub fingerprint: Option<&'static str>,
    pub verify_after: Option<Duration>,
    pub unfinished: bool,
}

impl Answers {
    fn random(rng: &mut Rng, limit: u64, kinds: &[(Class, Remedy)]) -> Self {
        let after = |rng: &mut Rng| match rng.below(24) {
            0 => None,
            1 | 2 => Some(Duration::from_millis(limit + 1 + rng.below(1500))),
            3..=9 => Some(Duration::ZERO),
            _ => Some(rng.millis(limit)),
        };
        let (class, remedy) = rng.of(kinds);
        Self {
            prepare_after: after(rng),
            refuses: rng.one_in(20),
            assess_after: after(rng),
            class,
            remedy,
            fingerprint: rng.of(&[None, Some("a"), Some("a"), Some("b")]),
            verify_after: after(rng),
            unfinished: rng.one_in(2),
        }
    }
}

/// One run, decided in advance. What is said of attempts is used again from the front where there
/// are more of them.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub policy: Policy,
    /// By attempt, then rank.
    pub lives: Vec<Vec<Life>>,
    /// When nvlaunch is asked to end, and by which signal.
    pub asks: Vec<(Duration, i32)>,
    /// Ticks nobody ordered.
    pub spurious: Vec<Duration>,
    /// Notices passed on.
    pub notices: Vec<Duration>,
    /// Answers to nothing.
    pub junk: Vec<Duration>,
    /// When somebody removes the newest checkpoint.
    pub purges: Vec<Duration>,
    /// This rank cannot be started (`false`) or executed (`true`), in this attempt.
    pub broken_start: Option<(usize, u32, bool)>,
    /// How long the ranks of each attempt are deferred; `None` is not at all.
    pub deferred: Vec<Option<Duration>>,
    /// By attempt.
    pub saves: Vec<Vec<Save>>,
    /// How long after they were told the ranks have a checkpoint written.
    pub saves_when_told: Option<Duration>,
    /// By attempt.
    pub answers: Vec<Answers>,
    /// Whether anybody can know how far the job is.
    pub measures: bool,
    /// There is something to resume from before the first attempt.
    pub at_first: Option<u64>,
}

impl Scenario {
    pub fn random(rng: &mut Rng) -> Self {
        let ranks = 1 + u32::try_from(rng.below(4)).unwrap();
        let max_restarts = u32::try_from(rng.below(4)).unwrap();
        let plain = rng.one_in(3);
        let limit = 50 + rng.below(400);
        let policy = Policy {
            ranks,
            max_restarts,
            grace: Duration::from_millis(100 + rng.below(900)),
            hurried_grace: Duration::from_millis(50),
            reap_limit: Duration::from_millis(300),
            restart: if plain { RestartPolicy::default() } else { restart_policy(rng, limit) },
            preemption: (!rng.one_in(3)).then(|| PreemptionPolicy {
                signals: rng.of(&[&[TERM][..], &[USR2], &[TERM, USR2]]).to_vec(),
                grace: rng.millis(3000),
                ends_at: rng.one_in(3).then(|| rng.millis(5000)),
            }),
        };
        let attempts = max_restarts as usize + 3;
        let (horizon, health) = (1 + rng.below(3000), rng.of(&[(1, 5), (1, 40), (4, 40)]));
        let life = |rng: &mut Rng| (0..ranks).map(|_| Life::random(rng, horizon, health)).collect();
        let asks = if rng.one_in(3) { rng.times(6) } else { Vec::new() };
        let all = Class::ALL.map(|class| (class, class.remedy()));
        let kinds = match rng.below(4) {
            0 => vec![(Class::LostPeer, Remedy::Retry)],
            1 => vec![
                (Class::Oom, Remedy::RetryElsewhere),
                (Class::Device, Remedy::RetryElsewhere),
                (Class::Timeout, Remedy::Retry),
            ],
            2 => vec![(Class::Unknown, Remedy::SameAgain), (Class::Timeout, Remedy::Retry)],
            _ => all.to_vec(),
        };
        let saves = |rng: &mut Rng| -> Vec<Save> {
            let count = rng.below(4);
            let save = |rng: &mut Rng| Save {
                after: rng.millis(horizon),
                steps: 1 + rng.below(100),
                whole: !rng.one_in(4),
            };
            (0..count).map(|_| save(rng)).collect()
        };
        let mut scenario = Self {
            lives: (0..attempts).map(|_| life(rng)).collect(),
            asks: asks.into_iter().map(|at| (at, rng.of(&[INT, TERM, USR2]))).collect(),
            spurious: rng.times(5),
            notices: rng.times(3),
            junk: rng.times(6),
            purges: if rng.one_in(4) { rng.times(4) } else { Vec::new() },
            broken_start: rng.one_in(12).then(|| {
                let attempt = usize::try_from(rng.below(u64::from(max_restarts) + 1)).unwrap();
                (attempt, u32::try_from(rng.below(u64::from(ranks))).unwrap(), rng.one_in(2))
            }),
            deferred: (0..attempts).map(|_| rng.one_in(3).then(|| rng.millis(2000))).collect(),
            saves: (0..attempts).map(|_| saves(rng)).collect(),
            saves_when_told: rng.one_in(2).then(|| rng.millis(600)),
            answers: (0..attempts).map(|_| Answers::random(rng, limit, &kinds)).collect(),
            measures: !rng.one_in(4),
            at_first: rng.one_in(3).then(|| rng.below(500)),
            policy,
        };
        if rng.one_in(4) {
            scenario.is_asked_together(rng, limit);
        }
        scenario
    }

    /// A scheduler asks nvlaunch and the ranks, and nvlaunch hears of it last.
    fn is_asked_together(&mut self, rng: &mut Rng, limit: u64) {
        let Some(policy) = &self.policy.preemption else { return };
        let ends: Vec<_> = self.lives[0].iter().filter_map(|life| life.ends).collect();
        let last = ends.iter().map(|(after, _)| *after).max();
        let first = ends.iter().filter(|(_, exit)| !exit.is_success()).map(|(after, _)| *after);
        let Some(after) = first.min().or(last) else { return };
        let at = after + self.deferred[0].unwrap_or_default() + rng.millis(limit);
        self.asks = vec![(at, rng.of(&policy.signals))];
    }
}

fn restart_policy(rng: &mut Rng, limit: u64) -> RestartPolicy {
    let backoff = if rng.one_in(4) { 0 } else { 20 + rng.below(400) };
    RestartPolicy {
        prepares: !rng.one_in(3),
        assesses: !rng.one_in(4),
        verifies: !rng.one_in(3),
        by_progress: !rng.one_in(3),
        unfinished_fails: rng.one_in(2),
        backoff: Duration::from_millis(backoff),
        most_backoff: Duration::from_millis(backoff * (1 + rng.below(5))),
        answer_limit: Duration::from_millis(limit),
        seed: rng.below(u64::MAX),
    }
}
