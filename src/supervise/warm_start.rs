//! Warm ranks: the template through the life of a job, and the ranks of the attempt that waits for
//! it. Part of the loop; [`crate::warm`] has the rules W1 to W4.
//!
//! - A template that ends in any state takes nothing with it that runs: ranks that were told to go
//!   are nvlaunch's children. The next attempt starts another one, a few times; one that says why
//!   ranks cannot be warm is believed for the whole job.
//! - Forked processes that were not told to go are ended here, by process id, and by the end of
//!   their gate; they are no ranks and no leftovers.
//! - A template is ended as soon as no attempt can follow that would need it.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use rustix::process::Signal;

use super::event::{Now, Policy};
use super::shim::Order;
use crate::host::process::{self, Process};
use crate::plan::Plan;
use crate::warm::candidates::{Candidates, Standing};
use crate::warm::protocol::Message;
use crate::warm::request::{Waiting, describe};
use crate::warm::template::{Received, Socket, Template};
use crate::warm::{WarmPlan, Warmth};

/// Tokens in the loop's epoll set.
pub const CONTROL: u64 = u64::MAX - 3;
/// The template has ended.
pub const ENDED: u64 = u64::MAX - 4;
/// The template printed something.
pub const PRINTED: u64 = u64::MAX - 5;
/// Something came from the processes of an attempt.
pub const CHANNEL: u64 = u64::MAX - 6;

/// How often a template that was killed is replaced.
const MAX_TEMPLATES: u32 = 5;
/// How long forking may take: a fixed part, and one for each rank.
const FORK_LIMIT: Duration = Duration::from_secs(20);
const FORK_LIMIT_PER_RANK: Duration = Duration::from_millis(100);
/// With warm restarts only, the first ranks have their own imports behind them by then.
const PREPARE_AFTER: Duration = Duration::from_secs(10);
/// How long killed processes, that nobody was told of, are waited for.
const GONE_WITHIN: Duration = Duration::from_millis(50);
/// The longest line that is shown of what a template prints.
const LINE: usize = 4096;

/// An attempt whose ranks are to come.
#[derive(Debug)]
struct Pending {
    ranks: Vec<Waiting>,
    forks: Option<Forks>,
}

/// The processes that were asked for.
#[derive(Debug)]
struct Forks {
    channel: Socket,
    gate: File,
    candidates: Candidates,
    limit: Now,
}

impl Forks {
    /// Reads what the processes say, until it decides something or nothing more has come.
    fn read(&mut self) -> Result<Standing, String> {
        let mut standing = Standing::Waiting;
        while standing == Standing::Waiting {
            match self.channel.receive() {
                Received::Message(message) => standing = self.candidates.take(&message),
                Received::Unclear => return Err("a forked process cannot be understood".to_owned()),
                Received::Nothing => break,
                Received::End => return Err("the forked processes ended".to_owned()),
            }
        }
        Ok(standing)
    }
}

/// What comes of a turn.
#[derive(Debug)]
pub enum Turn {
    /// Nothing for now.
    Wait,
    /// Ranks start cold, for this reason.
    Cold(Vec<Waiting>, String),
    /// All ranks are there, with these process ids; they wait for [`WarmStart::go`].
    Complete(Vec<Waiting>, Vec<i32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Importing {
        limit: Now,
    },
    Ready,
    /// It was ended, and is not reaped yet.
    Retired,
}

/// How long each rank took from its fork to its script.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct WarmTimes {
    /// Number of the attempt.
    pub attempt: u32,
    /// Seconds by local rank; `None` where a rank did not come so far.
    pub fork_to_script: Vec<Option<f64>>,
}

/// Warm start for the life of a job.
#[derive(Debug)]
pub struct WarmStart {
    plan: Option<WarmPlan>,
    policy: Policy,
    template: Option<(Template, State)>,
    templates: u32,
    /// When a template is to be started for later attempts.
    prepare_at: Option<Now>,
    pending: Option<Pending>,
    /// Of the attempt whose ranks were told to go.
    channel: Option<Socket>,
    gate: Option<File>,
    times: Vec<WarmTimes>,
    line: Vec<u8>,
    /// What is to be said to the user.
    said: Vec<String>,
}

impl WarmStart {
    /// Nothing is started yet.
    pub fn new(warmth: &Warmth, policy: Policy) -> Self {
        let plan = match warmth {
            Warmth::Warm(plan) => Some(plan.clone()),
            Warmth::Off | Warmth::Cold { .. } => None,
        };
        Self {
            plan,
            policy,
            template: None,
            templates: 0,
            prepare_at: None,
            pending: None,
            channel: None,
            gate: None,
            times: Vec::new(),
            line: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Whether this attempt's ranks shall be warm.
    pub fn is_for(&self, attempt: u32) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_for(attempt))
    }

    /// An attempt starts cold; a later one may need a template.
    pub fn cold_attempt(&mut self, now: Now) {
        if self.plan.is_some() && self.template.is_none() && self.policy.may_restart_after(0) {
            self.prepare_at = Some(now + PREPARE_AFTER);
        }
    }

    /// The template's process, while it is there.
    pub fn pid(&self) -> Option<i32> {
        self.template.as_ref().map(|(template, _)| template.pid())
    }

    /// What is to be said to the user, since the last call.
    pub fn take_said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// How long ranks took, by attempt.
    pub fn into_times(self) -> Vec<WarmTimes> {
        self.times
    }

    /// When [`WarmStart::turn`] is due without anything having come.
    pub fn next_wake(&self) -> Option<Now> {
        let importing = match self.template {
            Some((_, State::Importing { limit })) => Some(limit),
            _ => None,
        };
        let forking = self.pending.as_ref().and_then(|p| p.forks.as_ref()).map(|f| f.limit);
        importing.into_iter().chain(forking).chain(self.prepare_at).min()
    }

    /// These ranks wait for the template.
    pub fn request(&mut self, ranks: Vec<Waiting>) {
        self.prepare_at = None;
        self.pending = Some(Pending { ranks, forks: None });
    }

    /// Looks at everything that may have come, and does what follows.
    pub fn turn(&mut self, cx: &Context<'_>) -> Turn {
        self.show_output(cx);
        if let Err(why) = self.look_at_template(cx) {
            return self.give_up(&why);
        }
        if self.prepare_at.is_some_and(|at| at <= cx.now) {
            self.prepare_at = None;
            if self.template.is_none()
                && let Err(why) = self.start_template(cx)
            {
                return self.give_up(&why);
            }
        }
        self.read_times(cx);
        match self.advance(cx) {
            Ok(turn) => turn,
            Err(why) => self.give_up(&why),
        }
    }

    /// What the template said and how it is; an error is why ranks cannot be warm.
    fn look_at_template(&mut self, cx: &Context<'_>) -> Result<(), String> {
        let Some((template, state)) = &mut self.template else { return Ok(()) };
        // Before its messages are read: one that has ended has said all it had to say.
        let ended = template.ended();
        let mut refusal = None;
        loop {
            match template.socket().receive() {
                Received::Message(Message::Ready { took, python }) => {
                    tracing::debug!(?took, python, "template ready");
                    *state = State::Ready;
                }
                Received::Message(Message::Refused { why }) => refusal = Some(why),
                Received::Message(_) | Received::Unclear => {
                    refusal = Some("the template cannot be understood".to_owned());
                }
                Received::Nothing => break,
                Received::End => {
                    let _ = cx.epoll.delete(template.socket().fd());
                    break;
                }
            }
        }
        let is_retired = *state == State::Retired;
        if let Some(why) = refusal.filter(|_| !is_retired) {
            self.plan = None;
            return Err(why);
        }
        if let State::Importing { limit } = *state
            && limit <= cx.now
        {
            self.plan = None;
            return Err("the imports took too long (--warm-timeout)".to_owned());
        }
        let was_ready = *state == State::Ready;
        if let Some(how) = ended {
            self.show_output(cx);
            self.drop_template(cx);
            if is_retired {
                return Ok(());
            }
            if !was_ready || self.templates >= MAX_TEMPLATES {
                self.plan = None;
            }
            if self.pending.is_some() || self.plan.is_none() {
                return Err(format!("the template is gone: {how}"));
            }
            // Nobody waits for it; the next attempt starts another one.
        }
        Ok(())
    }

    /// Brings the attempt that waits a step on.
    fn advance(&mut self, cx: &Context<'_>) -> Result<Turn, String> {
        let Some(pending) = &mut self.pending else { return Ok(Turn::Wait) };
        let Some(plan) = &self.plan else { return Err("no template".to_owned()) };
        let Some(forks) = &mut pending.forks else {
            match self.template.as_ref().map(|(_, state)| *state) {
                Some(State::Ready) => self.ask(cx)?,
                Some(State::Importing { .. }) => {}
                // One that does not end is a stray like any other.
                Some(State::Retired) | None => {
                    self.drop_template(cx);
                    self.start_template(cx)?;
                }
            }
            return Ok(Turn::Wait);
        };
        let is_gone = |pid| process::look(pid).is_none_or(|process| process.is_zombie());
        let mut standing = forks.read()?;
        let gone = forks.candidates.pids().find(|(_, pid)| is_gone(*pid)).map(|(rank, _)| rank);
        if gone.is_some() && standing == Standing::Waiting {
            // It may have said why between the two looks.
            standing = forks.read()?;
        }
        match standing {
            Standing::Failed(why) => return Err(why),
            Standing::Complete(pids) => {
                // What the template says is checked against the kernel.
                let me = nix::unistd::getpid().as_raw();
                let is_ours = |pid: i32| {
                    process::look(pid).is_some_and(|p| (p.parent, p.session) == (me, pid))
                };
                if let Some(pid) = pids.iter().find(|pid| !is_ours(**pid)) {
                    return Err(format!("process {pid} is no rank"));
                }
                let pending = self.pending.take().expect("it was there a moment ago");
                let forks = pending.forks.expect("they were there a moment ago");
                (self.channel, self.gate) = (Some(forks.channel), Some(forks.gate));
                return Ok(Turn::Complete(pending.ranks, pids));
            }
            Standing::Waiting => {}
        }
        if let Some(rank) = gone {
            return Err(format!("the forked process of rank {rank} ended"));
        }
        if forks.limit <= cx.now {
            return Err("the forks took too long".to_owned());
        }
        while let Some(rank) = forks.candidates.next_request() {
            describe(&forks.channel, cx.plan, plan, rank, &pending.ranks[rank as usize]).map_err(
                |error| match error.kind() {
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                        "the forked processes ended".to_owned()
                    }
                    _ => format!("rank {rank} cannot be described: {error}"),
                },
            )?;
        }
        Ok(Turn::Wait)
    }

    /// Asks the template for the ranks that wait.
    fn ask(&mut self, cx: &Context<'_>) -> Result<(), String> {
        let (Some(pending), Some((template, _))) = (&mut self.pending, &self.template) else {
            return Ok(());
        };
        let count = u32::try_from(pending.ranks.len()).expect("at most MAX_RANKS");
        let ask = || -> std::io::Result<Forks> {
            let (channel, theirs) = Socket::pair()?;
            let (go, gate) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            template.ask(count, &theirs, &go)?;
            cx.epoll.add(channel.fd(), EpollEvent::new(EpollFlags::EPOLLIN, CHANNEL))?;
            let limit = cx.now + FORK_LIMIT + FORK_LIMIT_PER_RANK * count;
            Ok(Forks { channel, gate: gate.into(), candidates: Candidates::new(count), limit })
        };
        let forks = ask().map_err(|error| format!("the template cannot be asked: {error}"))?;
        pending.forks = Some(forks);
        self.advance(cx).map(|_| ())
    }

    fn start_template(&mut self, cx: &Context<'_>) -> Result<(), String> {
        let Some(plan) = &self.plan else { return Ok(()) };
        self.templates += 1;
        let deadline = plan.deadline;
        let start = || -> std::io::Result<Template> {
            let template = Template::start(cx.order, cx.plan, plan, cx.run_dir)?;
            let watch = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
            cx.epoll.add(template.socket().fd(), watch(CONTROL))?;
            cx.epoll.add(template.output(), watch(PRINTED))?;
            if let Some(pidfd) = template.pidfd() {
                cx.epoll.add(pidfd, watch(ENDED))?;
            }
            Ok(template)
        };
        let template =
            start().map_err(|error| format!("the template cannot be started: {error}"))?;
        self.template = Some((template, State::Importing { limit: cx.now + deadline }));
        Ok(())
    }

    /// The ranks that wait start cold; what was forked for them ends.
    fn give_up(&mut self, why: &str) -> Turn {
        if let Some(pending) = self.cancel() {
            return Turn::Cold(pending.ranks, why.to_owned());
        }
        self.said.push(format!("nvlaunch: note: restarts will be cold: {why}\n"));
        Turn::Wait
    }

    /// Nobody waits any more. A template that was at work is ended, and what it forked.
    fn cancel(&mut self) -> Option<Pending> {
        let pending = self.pending.take()?;
        let forks = pending.forks.as_ref();
        let pids = forks.into_iter().flat_map(|forks| forks.candidates.pids());
        let me = nix::unistd::getpid().as_raw();
        let template = self.pid();
        // A process between the template and its ranks is the template's child.
        let parents: Vec<i32> = template.into_iter().flat_map(process::children).collect();
        let is_ours = |p: &Process| p.parent == me || parents.contains(&p.parent);
        let forked: Vec<Process> =
            pids.filter_map(|(_, pid)| process::look(pid)).filter(is_ours).collect();
        self.retire();
        for process in &forked {
            process::signal_if_same(process, Signal::KILL);
        }
        // So that nothing counts them as left over.
        let end = Instant::now() + GONE_WITHIN;
        let is_there = |p: &Process| process::look(p.pid).is_some_and(|p| !p.is_zombie());
        while forked.iter().any(is_there) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(pending)
    }

    /// The ranks that wait are not wanted any more.
    pub fn cancel_spawns(&mut self) {
        self.cancel();
    }

    /// The ranks that are complete may run their scripts; they are nvlaunch's from here on.
    pub fn go(&mut self, attempt: u32, ranks: usize) {
        let Some(mut gate) = self.gate.take() else { return };
        // A rank that ended meanwhile leaves its byte to nobody.
        let _ = gate.write_all(&vec![b'g'; ranks]);
        self.times.push(WarmTimes { attempt, fork_to_script: vec![None; ranks] });
        let is_needed = |later: u32| self.plan.as_ref().is_some_and(|plan| plan.is_for(later));
        if !self.policy.may_restart_after(attempt) || !is_needed(attempt + 1) {
            self.retire();
        }
    }

    /// Ends the template; it is reaped when its end is seen.
    pub fn retire(&mut self) {
        self.prepare_at = None;
        if let Some((template, state)) = &mut self.template {
            template.kill();
            *state = State::Retired;
        }
    }

    /// Ends the template and waits for its end, a second at most.
    pub fn dismiss(&mut self, cx: &Context<'_>) {
        self.retire();
        let end = Instant::now() + Duration::from_secs(1);
        while let Some((template, _)) = &mut self.template {
            if template.ended().is_some() || Instant::now() >= end {
                self.drop_template(cx);
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn drop_template(&mut self, cx: &Context<'_>) {
        if let Some((template, _)) = self.template.take() {
            if !self.line.is_empty() {
                self.line.push(b'\n');
                self.show_lines();
            }
            let _ = cx.epoll.delete(template.socket().fd());
            let _ = cx.epoll.delete(template.output());
            if let Some(pidfd) = template.pidfd() {
                let _ = cx.epoll.delete(pidfd);
            }
        }
    }

    /// What ranks say once their scripts begin.
    pub fn read_times(&mut self, cx: &Context<'_>) {
        let Some(channel) = &self.channel else { return };
        loop {
            match channel.receive() {
                Received::Message(Message::Script { rank, took }) => {
                    let times = self.times.last_mut().map(|times| &mut times.fork_to_script);
                    if let Some(time) = times.and_then(|times| times.get_mut(rank as usize)) {
                        *time = Some(took.as_secs_f64());
                    }
                }
                Received::Message(_) | Received::Unclear => {}
                Received::Nothing => return,
                Received::End => {
                    let _ = cx.epoll.delete(channel.fd());
                    self.channel = None;
                    return;
                }
            }
        }
    }

    /// What modules print while they are imported, line by line.
    fn show_output(&mut self, cx: &Context<'_>) {
        let Some((template, _)) = &mut self.template else { return };
        match template.printed() {
            None => {
                let _ = cx.epoll.delete(template.output());
            }
            Some(bytes) => self.line.extend(bytes),
        }
        self.show_lines();
    }

    fn show_lines(&mut self) {
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[..end.min(LINE)]).into_owned();
            self.said.push(format!("nvlaunch: template: {text}\n"));
        }
    }
}

/// What a turn needs of the loop.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// What the loop waits for.
    pub epoll: &'a Epoll,
    /// What will be done.
    pub plan: &'a Plan,
    /// What a shim is told.
    pub order: &'a Order,
    /// The run folder.
    pub run_dir: Option<&'a std::path::Path>,
}
