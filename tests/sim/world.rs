//! A machine in virtual time: ranks that end, listen, are deaf or wedged, and leave things behind.

use std::collections::BTreeSet;
use std::time::Duration;

use nvlaunch::diagnose::exit::Exit;
use nvlaunch::supervise::core::Supervisor;
use nvlaunch::supervise::event::{Action, Event, Outcome};

use crate::oracle::Oracle;
use crate::saves::Folder;
use crate::scenario::{Ears, INT, KILL, Life, Scenario, TERM, USR1};

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
    folder: Folder<'a>,
}

/// Things that happen in the world by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    RankEnds(u32),
    RanksCome,
    StrayEnds(usize),
    Folder,
    Asked(i32),
    Notice,
    Purge,
    Junk,
    Spurious,
}

/// A run that was played to its end.
#[derive(Debug)]
pub struct Played {
    /// The kind of its outcome.
    pub kind: &'static str,
    pub attempts: u32,
    /// What happened in it.
    pub marks: Vec<(&'static str, bool)>,
}

/// Plays one run to its end, or says which invariant broke.
pub fn play(scenario: &Scenario) -> Result<Played, String> {
    let mut core = Supervisor::new(scenario.policy.clone());
    let mut oracle = Oracle::new(scenario.policy.clone());
    let mut world = World {
        scenario,
        attempt: 0,
        ranks: vec![Process::default(); scenario.policy.ranks as usize],
        strays: Vec::new(),
        next_pid: 100,
        coming: None,
        folder: Folder::new(scenario),
    };
    let mut outside: BTreeSet<(Duration, Happening)> = BTreeSet::new();
    outside.extend(scenario.asks.iter().map(|&(at, signal)| (at, Happening::Asked(signal))));
    outside.extend(scenario.spurious.iter().map(|&at| (at, Happening::Spurious)));
    outside.extend(scenario.notices.iter().map(|&at| (at, Happening::Notice)));
    outside.extend(scenario.purges.iter().map(|&at| (at, Happening::Purge)));
    outside.extend(scenario.junk.iter().map(|&at| (at, Happening::Junk)));

    let mut now = Duration::ZERO;
    feed(&mut core, &mut oracle, &mut world, now, Event::Start)?;
    for _ in 0..10_000 {
        if let Some(outcome) = oracle.outcome() {
            late_events(&mut core, now, scenario.policy.ranks)?;
            let (attempts, marks) = (oracle.attempts(), oracle.marks());
            return Ok(Played { kind: kind(outcome), attempts, marks });
        }
        let outer = outside.first().copied();
        let inner = world.next();
        let wake = core.next_wake();
        let next = [outer.map(|(at, _)| at), inner.map(|(at, _)| at), wake];
        let Some(at) = next.into_iter().flatten().min() else {
            if world.ranks.iter().any(|rank| rank.alive) {
                // Healthy ranks that never end: somebody stops the job at last.
                outside.insert((now + Duration::from_secs(5), Happening::Asked(INT)));
                continue;
            }
            return Err("the core waits for nothing and is not done".to_owned());
        };
        now = now.max(at);
        if let Some((at, happening)) = outer
            && at <= now
        {
            outside.remove(&(at, happening));
            let event = match happening {
                Happening::Asked(signal) => Event::Asked { signal, from: None },
                Happening::Notice => Event::Passed { signal: USR1 },
                Happening::Junk => world.folder.junk(now),
                Happening::Purge => {
                    world.folder.purge();
                    continue;
                }
                _ => Event::Tick,
            };
            feed(&mut core, &mut oracle, &mut world, now, event)?;
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
    Err(format!("the run has no end: {:?} {world:?}", core.attempt()))
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
        let spawns = actions.iter().any(|action| matches!(action, Action::SpawnAll { .. }));
        if spawns {
            let resume = core.attempt().resume.as_ref().map(|point| point.number);
            if world.scenario.policy.restart.prepares && resume != world.folder.newest() {
                let newest = world.folder.newest();
                return Err(format!("C9: resumes from {resume:?}, the newest is {newest:?}"));
            }
            world.folder.starts(now, core.attempt().number as usize, resume);
        }
        for action in actions {
            oracle
                .sees_action(now, &action)
                .map_err(|broken| format!("at {now:?}: {event:?} led to {action:?}: {broken}"))?;
            world.act(&action, now, &mut queue);
        }
        oracle
            .sees_rest(now, core.attempt())
            .map_err(|broken| format!("at {now:?}, after {event:?}: {broken}"))?;
    }
    Ok(())
}

impl<'a> World<'a> {
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
        let folder = self.folder.next().map(|at| (at, Happening::Folder));
        ranks.chain(strays).chain(coming).chain(folder).min()
    }

    fn happen(&mut self, happening: Happening, now: Duration) -> Vec<Event> {
        vec![match happening {
            Happening::RanksCome => {
                self.coming = None;
                let mut events = std::collections::VecDeque::new();
                self.start_ranks(now, &mut events);
                return events.into();
            }
            Happening::Folder => {
                let alive = self.ranks.iter().any(|rank| rank.alive);
                return self.folder.happen(now, alive);
            }
            Happening::RankEnds(rank) => {
                let process = &mut self.ranks[rank as usize];
                process.alive = false;
                let exit = process.ends.expect("it ends").1;
                let life = self.life(rank);
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
            Action::Signal { rank, signal } if *signal != USR1 => {
                self.folder.told(now);
                let life = self.life(*rank);
                if let Ears::Listens(after) = life.ears
                    && (!life.only_term || *signal == TERM)
                {
                    self.end_rank(*rank, now + after, life.told_exit);
                }
            }
            Action::Kill { rank } => {
                let life = self.life(*rank);
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
        self.folder.act(action, now);
    }

    /// What this rank does in the attempt that runs.
    fn life(&self, rank: u32) -> &'a Life {
        let lives = &self.scenario.lives;
        &lives[self.attempt % lives.len()][rank as usize]
    }

    fn spawn(
        &mut self,
        attempt: usize,
        now: Duration,
        answers: &mut std::collections::VecDeque<Event>,
    ) {
        self.attempt = attempt;
        self.ranks.fill(Process::default());
        if let Some(after) = self.scenario.deferred[attempt % self.scenario.deferred.len()] {
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
            let life = self.life(rank);
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
