//! A machine in virtual time: ranks that end, listen, are deaf or wedged, and leave things behind.

use std::collections::BTreeSet;
use std::time::Duration;

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{Action, Event, Outcome, Policy, RestartPolicy};

use crate::oracle::Oracle;

pub const KILL: i32 = 9;
pub const TERM: i32 = 15;

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
    /// How it ends when it listens.
    pub told_exit: Exit,
    /// What stays of its session when it ends.
    pub group: Vec<Ears>,
    /// What left its session.
    pub daemons: Vec<Ears>,
}

impl Life {
    fn random(rng: &mut Rng, horizon: u64) -> Self {
        let exit = |rng: &mut Rng| match rng.below(4) {
            0 | 1 => Exit::Code(0),
            2 => Exit::Code(1 + i32::try_from(rng.below(9)).unwrap()),
            _ => Exit::Signal(11),
        };
        let ends = (!rng.one_in(5)).then(|| {
            let healthy = rng.below(5) > 1;
            let exit = if healthy { Exit::Code(0) } else { exit(rng) };
            (rng.millis(horizon), exit)
        });
        let some = |rng: &mut Rng| -> Vec<Ears> {
            let count = if rng.one_in(4) { 1 + rng.below(2) } else { 0 };
            (0..count).map(|_| Ears::random(rng)).collect()
        };
        let told_exit = if rng.one_in(2) { Exit::Signal(TERM) } else { exit(rng) };
        Self { ends, ears: Ears::random(rng), told_exit, group: some(rng), daemons: some(rng) }
    }
}

/// One run, decided in advance.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub policy: Policy,
    /// By attempt, then rank.
    pub lives: Vec<Vec<Life>>,
    /// When nvlaunch is asked to end.
    pub asks: Vec<Duration>,
    /// Ticks nobody ordered.
    pub spurious: Vec<Duration>,
    /// Notices passed on.
    pub notices: Vec<Duration>,
    /// This rank cannot be started (`false`) or executed (`true`), in this attempt.
    pub broken_start: Option<(usize, u32, bool)>,
    /// How long the ranks of each attempt are deferred; `None` is not at all.
    pub deferred: Vec<Option<Duration>>,
}

impl Scenario {
    pub fn random(rng: &mut Rng) -> Self {
        let ranks = 1 + u32::try_from(rng.below(4)).unwrap();
        let max_restarts = u32::try_from(rng.below(4)).unwrap();
        let policy = Policy {
            ranks,
            max_restarts,
            grace: Duration::from_millis(100 + rng.below(900)),
            hurried_grace: Duration::from_millis(50),
            reap_limit: Duration::from_millis(300),
            restart: RestartPolicy::default(),
            preemption: None,
        };
        let horizon = 1 + rng.below(3000);
        let attempt = |rng: &mut Rng| (0..ranks).map(|_| Life::random(rng, horizon)).collect();
        let lives = (0..=max_restarts).map(|_| attempt(rng)).collect();
        let times = |rng: &mut Rng, most: u64| -> Vec<Duration> {
            let count = rng.below(most);
            let mut times: Vec<_> = (0..count).map(|_| rng.millis(4000)).collect();
            times.sort_unstable();
            times
        };
        let asks = if rng.one_in(2) { times(rng, 6) } else { Vec::new() };
        let broken_start = rng.one_in(12).then(|| {
            let attempt = usize::try_from(rng.below(u64::from(max_restarts) + 1)).unwrap();
            (attempt, u32::try_from(rng.below(u64::from(ranks))).unwrap(), rng.one_in(2))
        });
        let deferred =
            (0..=max_restarts).map(|_| rng.one_in(3).then(|| rng.millis(2000))).collect();
        let (spurious, notices) = (times(rng, 5), times(rng, 3));
        Self { policy, lives, asks, spurious, notices, broken_start, deferred }
    }
}

/// A process that is no rank.
#[derive(Debug, Clone)]
struct Stray {
    ears: Ears,
    session: Option<u32>,
    ends_at: Option<Duration>,
}

/// The process of a rank.
#[derive(Debug, Clone, Default)]
struct Process {
    alive: bool,
    ends: Option<(Duration, Exit)>,
}

#[derive(Debug)]
struct World<'a> {
    scenario: &'a Scenario,
    attempt: usize,
    ranks: Vec<Process>,
    strays: Vec<Stray>,
    next_pid: i32,
    /// When the ranks of this attempt come.
    coming: Option<Duration>,
}

/// Things that happen in the world by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    RankEnds(u32),
    RanksCome,
    StrayEnds(usize),
    Asked,
    Notice,
    Spurious,
}

/// Plays one run to its end; the kind of the outcome, or which invariant broke.
pub fn play(scenario: &Scenario) -> Result<&'static str, String> {
    let mut core = Supervisor::new(scenario.policy.clone());
    let mut oracle = Oracle::new(scenario.policy.clone());
    let mut world = World {
        scenario,
        attempt: 0,
        ranks: vec![Process::default(); scenario.policy.ranks as usize],
        strays: Vec::new(),
        next_pid: 100,
        coming: None,
    };
    let mut outside: BTreeSet<(Duration, Happening)> = BTreeSet::new();
    outside.extend(scenario.asks.iter().map(|&at| (at, Happening::Asked)));
    outside.extend(scenario.spurious.iter().map(|&at| (at, Happening::Spurious)));
    outside.extend(scenario.notices.iter().map(|&at| (at, Happening::Notice)));

    let mut now = Duration::ZERO;
    feed(&mut core, &mut oracle, &mut world, now, Event::Start)?;
    for _ in 0..10_000 {
        if let Some(outcome) = oracle.outcome() {
            late_events(&mut core, now, scenario.policy.ranks)?;
            oracle.judge_outcome()?;
            return Ok(kind(outcome));
        }
        let outer = outside.first().copied();
        let inner = world.next();
        let wake = core.next_wake();
        let next = [outer.map(|(at, _)| at), inner.map(|(at, _)| at), wake];
        let Some(at) = next.into_iter().flatten().min() else {
            if world.ranks.iter().any(|rank| rank.alive) {
                // Healthy ranks that never end: somebody stops the job at last.
                outside.insert((now + Duration::from_secs(5), Happening::Asked));
                continue;
            }
            return Err("the core waits for nothing and is not done".to_owned());
        };
        now = now.max(at);
        if let Some((at, happening)) = outer
            && at <= now
        {
            outside.remove(&(at, happening));
            feed(&mut core, &mut oracle, &mut world, now, outside_event(happening))?;
        } else if let Some((at, happening)) = inner
            && at <= now
        {
            for event in world.happen(happening, now) {
                feed(&mut core, &mut oracle, &mut world, now, event)?;
            }
        } else {
            feed(&mut core, &mut oracle, &mut world, now, Event::Tick)?;
        }
    }
    Err(format!("the run has no end: {core:?} {world:?}"))
}

fn outside_event(happening: Happening) -> Event {
    match happening {
        Happening::Asked => Event::Asked { signal: 2, from: None },
        Happening::Notice => Event::Passed { signal: 10 },
        _ => Event::Tick,
    }
}

/// C7: nothing wakes a core that is done.
fn late_events(core: &mut Supervisor, now: Duration, ranks: u32) -> Result<(), String> {
    for rank in 0..ranks {
        for event in [
            Event::Tick,
            Event::ChildGone,
            Event::Asked { signal: 15, from: None },
            Event::Exited { rank, exit: Exit::Code(1) },
            Event::Leftovers { left: 1 },
        ] {
            let actions = core.step(now + Duration::from_secs(100), &event);
            if !actions.is_empty() {
                return Err(format!("{event:?} after the end led to {actions:?}"));
            }
        }
    }
    match core.next_wake() {
        None => Ok(()),
        Some(at) => Err(format!("a finished core wants to wake at {at:?}")),
    }
}

pub fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed { .. } => "failed",
        Outcome::Stopped { .. } => "stopped",
        Outcome::CannotStart { .. } => "cannot start",
        Outcome::Stuck { .. } => "stuck",
        Outcome::Preempted { .. } => "preempted",
        Outcome::Unfinished { .. } => "unfinished",
        Outcome::Refused { .. } => "refused",
    }
}

fn feed(
    core: &mut Supervisor,
    oracle: &mut Oracle,
    world: &mut World<'_>,
    now: Duration,
    event: Event,
) -> Result<(), String> {
    let mut queue = std::collections::VecDeque::from([event]);
    while let Some(event) = queue.pop_front() {
        oracle.sees_event(now, &event);
        let actions = core.step(now, &event);
        for action in actions {
            oracle
                .sees_action(now, &action)
                .map_err(|broken| format!("at {now:?}: {event:?} led to {action:?}: {broken}"))?;
            world.act(&action, now, &mut queue);
        }
    }
    Ok(())
}

impl World<'_> {
    fn next(&self) -> Option<(Duration, Happening)> {
        let ranks = (0u32..)
            .zip(&self.ranks)
            .filter(|(_, rank)| rank.alive)
            .filter_map(|(number, rank)| Some((rank.ends?.0, Happening::RankEnds(number))));
        let strays = self
            .strays
            .iter()
            .enumerate()
            .filter_map(|(index, stray)| Some((stray.ends_at?, Happening::StrayEnds(index))));
        let coming = self.coming.map(|at| (at, Happening::RanksCome));
        ranks.chain(strays).chain(coming).min()
    }

    fn happen(&mut self, happening: Happening, now: Duration) -> Vec<Event> {
        vec![match happening {
            Happening::RanksCome => {
                self.coming = None;
                let mut events = std::collections::VecDeque::new();
                self.start_ranks(now, &mut events);
                return events.into();
            }
            Happening::RankEnds(rank) => {
                let process = &mut self.ranks[rank as usize];
                process.alive = false;
                let exit = process.ends.expect("it ends").1;
                let life = &self.scenario.lives[self.attempt][rank as usize];
                let stray = |ears: &Ears, session| Stray { ears: *ears, session, ends_at: None };
                self.strays.extend(life.group.iter().map(|ears| stray(ears, Some(rank))));
                self.strays.extend(life.daemons.iter().map(|ears| stray(ears, None)));
                Event::Exited { rank, exit }
            }
            Happening::StrayEnds(index) => {
                self.strays.remove(index);
                Event::ChildGone
            }
            _ => Event::Tick,
        }]
    }

    fn act(
        &mut self,
        action: &Action,
        now: Duration,
        answers: &mut std::collections::VecDeque<Event>,
    ) {
        match action {
            Action::SpawnAll { attempt } => self.spawn(*attempt as usize, now, answers),
            Action::Signal { rank, signal } if *signal != 10 => {
                let life = &self.scenario.lives[self.attempt][*rank as usize];
                if let Ears::Listens(after) = life.ears {
                    self.end_rank(*rank, now + after, life.told_exit);
                }
            }
            Action::Kill { rank } => {
                let life = &self.scenario.lives[self.attempt][*rank as usize];
                if !matches!(life.ears, Ears::Wedged) {
                    self.end_rank(*rank, now, Exit::Signal(KILL));
                }
            }
            Action::EndGroup { rank, signal } => {
                self.signal_strays(|stray| stray.session == Some(*rank), *signal, now);
            }
            Action::EndLeftovers { signal } => self.signal_strays(|_| true, *signal, now),
            Action::SurveyGroup { rank } => {
                let left = self.strays.iter().filter(|s| s.session == Some(*rank)).count();
                answers.push_back(Event::Group { rank: *rank, left: u32::try_from(left).unwrap() });
            }
            Action::CancelSpawns => self.coming = None,
            Action::Survey => {
                let left = u32::try_from(self.strays.len()).unwrap();
                answers.push_back(Event::Leftovers { left });
            }
            _ => {}
        }
    }

    fn spawn(
        &mut self,
        attempt: usize,
        now: Duration,
        answers: &mut std::collections::VecDeque<Event>,
    ) {
        self.attempt = attempt;
        self.ranks.fill(Process::default());
        if let Some(after) = self.scenario.deferred[attempt] {
            self.coming = Some(now + after);
            answers.push_back(Event::Deferred);
        } else {
            self.start_ranks(now, answers);
        }
    }

    fn start_ranks(&mut self, now: Duration, answers: &mut std::collections::VecDeque<Event>) {
        let attempt = self.attempt;
        for rank in 0..self.scenario.policy.ranks {
            let broken = self.scenario.broken_start.filter(|b| (b.0, b.1) == (attempt, rank));
            if let Some((_, _, false)) = broken {
                answers.push_back(Event::SpawnFailed { rank, reason: "no".to_owned() });
                return;
            }
            self.next_pid += 1;
            answers.push_back(Event::Spawned { rank, pid: self.next_pid });
            let life = &self.scenario.lives[attempt][rank as usize];
            let mut ends = life.ends.map(|(after, exit)| (now + after, exit));
            if broken.is_some() {
                answers.push_back(Event::ExecFailed { rank, reason: "no".to_owned() });
                ends = Some((now, Exit::Code(126)));
            }
            self.ranks[rank as usize] = Process { alive: true, ends };
        }
    }

    fn end_rank(&mut self, rank: u32, at: Duration, exit: Exit) {
        let process = &mut self.ranks[rank as usize];
        if process.ends.is_none_or(|(planned, _)| at < planned) {
            process.ends = Some((at, exit));
        }
    }

    fn signal_strays(&mut self, which: impl Fn(&Stray) -> bool, signal: i32, now: Duration) {
        for stray in self.strays.iter_mut().filter(|stray| which(stray)) {
            let end = match (stray.ears, signal) {
                (Ears::Wedged, _) | (Ears::Deaf, TERM) => continue,
                (Ears::Listens(after), TERM) => now + after,
                _ => now + Duration::from_millis(1),
            };
            stray.ends_at = Some(stray.ends_at.map_or(end, |planned| planned.min(end)));
        }
    }
}
