//! The loop's part in checkpoints: what an attempt resumes from, how far a job has come, and what
//! appears after ranks were asked to save.
//!
//! - L1: the loop never waits for the folder. What does not answer by its deadline is given up, and
//!   the thread that asked is left behind ([`crate::checkpoint::worker`]).
//! - L2: each question of the core gets exactly one answer, but for the machine where a request to end
//!   came during the look at it: that ends the run.
//! - L3: without a checkpoint folder every answer is there at once, and no thread is started.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{CHECKPOINTS, Runtime};
use crate::checkpoint::choose::{Choose, Chosen, Look, Point};
use crate::checkpoint::io::Io;
use crate::checkpoint::verify::{self, Seen};
use crate::checkpoint::watch::Watch;
use crate::checkpoint::worker::{Answer, Task, Worker};
use crate::checkpoint::{receipt, style};
use crate::diagnose::class::{self, Class, Classified, Evidence};
use crate::diagnose::error_file::{self, ScriptError};
use crate::plan::{PROGRESS_NAME, Resume};
use crate::supervise::announce;
use crate::supervise::event::{Assessment, Event, Now};
use crate::supervise::signals::Incoming;

/// What an answer may take longer than the look itself: it ends by itself at its deadline where the
/// file system answers at all.
const LATE: Duration = Duration::from_secs(1);
/// How long the last look may take, when all ranks are gone and only the report waits for it.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// What ends within this time of its start, and says nothing of its steps, has not come far: torch is
/// imported, the model is made.
const EARLY: Duration = Duration::from_secs(60);
/// The longest text of a step that a script reports.
const MAX_PROGRESS: usize = 64;

/// What an answer is for.
#[derive(Debug)]
enum Asked {
    Prepare,
    Assess {
        attempt: u32,
        classified: Classified,
    },
    Verify,
    /// Saves are watched for; no answer is due.
    Watch,
}

/// What the loop knows of checkpoints.
#[derive(Debug)]
pub(super) struct Checkpoints {
    look: Option<Look>,
    worker: Option<Worker>,
    asked: Option<(Asked, Option<Now>)>,
    /// What the attempt resumes from.
    chosen: Chosen,
    /// The highest step that the script ever reported.
    reported: Option<u64>,
    /// The same of this attempt.
    reported_now: Option<u64>,
    /// Whether this attempt reported one.
    reports: bool,
    /// What appeared after ranks were asked to save.
    saved: Option<Point>,
    /// Whether the watch ends with one look more.
    last_look: bool,
}

impl Checkpoints {
    /// Nothing is looked at yet.
    pub(super) fn new(look: Option<Look>) -> Self {
        Self {
            look,
            worker: None,
            asked: None,
            chosen: Chosen::default(),
            reported: None,
            reported_now: None,
            reports: false,
            saved: None,
            last_look: false,
        }
    }

    /// When an answer is given up.
    pub(super) fn next_wake(&self) -> Option<Now> {
        self.asked.as_ref()?.1
    }

    fn deadline_words(&self) -> String {
        let look = self.look.as_ref().map(|look| {
            let folder = look.request.folder.display();
            let deadline = humantime::format_duration(look.deadline);
            format!("the checkpoint folder {folder} did not answer within {deadline}")
        });
        look.unwrap_or_default()
    }
}

impl Runtime<'_> {
    /// [`crate::supervise::event::Action::Prepare`]
    pub(super) fn prepare(&mut self, attempt: u32, answers: &mut VecDeque<Event>) {
        self.checkpoints.chosen = Chosen::default();
        if attempt > 0 && self.job.recheck.is_some() {
            let why = self.look_at_machine();
            // Nobody was listened to meanwhile, which can take many seconds.
            self.backlog.extend(self.signals.take());
            let is_end = |came: &Incoming| matches!(came, Incoming::Event(Event::Asked { .. }));
            if self.backlog.iter().any(is_end) {
                return; // The loop comes to it before anything is started (C12).
            }
            if let Some(why) = why {
                answers.push_back(Event::Refused { why });
                return;
            }
        }
        let Some(look) = self.checkpoints.look.clone() else {
            answers.push_back(Event::Prepared { resume: None });
            return;
        };
        let spec = self.job.spec.checkpoint.as_ref();
        let task = Task::Choose(Choose {
            look,
            others_write: attempt == 0,
            quarantine: spec.is_some_and(|spec| spec.quarantine),
            by_tracker: spec.is_some_and(|spec| style::is_megatron(&spec.resume_args)),
        });
        self.ask_worker(task, Asked::Prepare, answers);
    }

    /// What speaks against another attempt on this machine.
    fn look_at_machine(&mut self) -> Option<String> {
        let recheck = self.job.recheck.as_ref()?;
        let before = self.family.children();
        let why = recheck.0();
        // A probe that hangs in the driver is left behind; it is no rank's.
        let new = self.family.children().into_iter().filter(|child| !before.contains(child));
        self.family.excuse(new.collect::<Vec<_>>());
        why
    }

    /// [`crate::supervise::event::Action::Assess`]
    pub(super) fn assess(&mut self, rank: Option<u32>, answers: &mut VecDeque<Event>) {
        self.read_reported();
        let (attempt, classified) = (self.core.attempt().number, self.classify(rank));
        match self.checkpoints.look.clone() {
            None => {
                let event = self.assessed(attempt, classified, None);
                answers.push_back(event);
            }
            Some(look) => {
                let asked = Asked::Assess { attempt, classified };
                self.ask_worker(Task::Newest(look), asked, answers);
            }
        }
    }

    fn classify(&self, rank: Option<u32>) -> Classified {
        let attempt = self.core.attempt();
        let ended = rank.and_then(|rank| attempt.ranks.get(rank as usize)?.ended);
        let (Some(rank), Some((exit, _))) = (rank, ended) else {
            let why = attempt.unfinished.clone().unwrap_or_default();
            return Classified::new(Class::Unfinished, &why, None);
        };
        let rank = rank as usize;
        let tail = self.output.tails.get(rank);
        let stderr = tail.map_or(&[][..], |tail| &tail.stderr);
        let error = self.error_of(rank);
        let oom = self.job.oom.of_rank(attempt.ranks[rank].pid, exit, stderr);
        let has_reported = self.checkpoints.reported.is_some();
        let evidence = Evidence {
            exit,
            error: error.as_ref(),
            stdout: tail.map_or(&[][..], |tail| &tail.stdout),
            stderr,
            oom: oom.as_ref(),
            missing: self.missing.is_some(),
            steps_done: has_reported.then_some(self.checkpoints.reports),
            final_codes: &self.job.spec.restart.final_codes,
        };
        let found = class::classify(&evidence);
        if matches!(found.class, Class::LostPeer | Class::Timeout) {
            return self.cause_elsewhere(&evidence).unwrap_or(found);
        }
        found
    }

    /// What another rank had said of its own end, with the name of that rank: first of one of which
    /// the kind is known.
    fn cause_elsewhere(&self, evidence: &Evidence<'_>) -> Option<Classified> {
        let mut first = None;
        for (rank, (tail, error)) in &self.others {
            let (stdout, stderr) = (&tail.stdout[..], &tail.stderr[..]);
            let error = error.as_ref();
            let evidence = Evidence { error, stdout, stderr, oom: None, ..*evidence };
            let Some(own) = class::own_exception(&evidence) else { continue };
            let named = format!("rank {}: {}", self.job.plan.ranks[*rank as usize].rank, own.why);
            let (is_known, perhaps) = (own.class != Class::Unknown, own.perhaps);
            let own = Classified { perhaps, ..Classified::new(own.class, &named, own.fingerprint) };
            if is_known {
                return Some(own);
            }
            first.get_or_insert(own);
        }
        first
    }

    fn error_of(&self, rank: usize) -> Option<ScriptError> {
        let file = self.error_files.get(rank)?.as_deref()?;
        error_file::read(file).map(|(error, _)| error)
    }

    /// The first rank failed: what the others said of themselves before they are told to end. What
    /// they say afterwards may follow from that.
    pub(super) fn keep_what_others_said(&mut self, failed: u32) {
        let attempt = self.core.attempt();
        if !self.job.policy.restart.assesses || attempt.suspect.is_some() || !self.asked.is_empty()
        {
            return;
        }
        let others: Vec<u32> = (0..self.job.policy.ranks).filter(|&rank| rank != failed).collect();
        if !others.is_empty() {
            let errors = others.iter().map(|&rank| self.error_of(rank as usize));
            let said: Vec<_> = self.logs.tails(&others).into_iter().zip(errors).collect();
            self.others = others.into_iter().zip(said).collect();
        }
    }

    fn assessed(
        &self,
        attempt: u32,
        classified: Classified,
        newest: Option<Result<Option<Point>, String>>,
    ) -> Event {
        let Classified { class, why, fingerprint, perhaps } = classified;
        let remedies = &self.job.spec.restart.remedies;
        let reported = self.checkpoints.reported;
        let is_known = matches!(newest, Some(Ok(_))) || reported.is_some();
        let ended_early = newest.is_none() && reported.is_none() && self.ended_early();
        let number = newest.and_then(Result::ok).flatten().map(|point| point.number);
        let began_with = self.checkpoints.chosen.point.as_ref().map(|point| point.number);
        // Not by the steps that an earlier attempt reported.
        let came_further = number.max(reported.filter(|_| self.checkpoints.reports)) > began_with;
        let plain = if came_further { class.remedy_after_progress() } else { class.remedy() };
        let perhaps = perhaps.filter(|_| !came_further);
        let wanted =
            perhaps.and_then(|class| remedies.get(&class)).or_else(|| remedies.get(&class));
        let assessment = Assessment {
            class,
            remedy: wanted.copied().unwrap_or(plain),
            fingerprint,
            why,
            progress: number.max(reported),
            measures_progress: is_known,
            ended_early,
        };
        Event::Assessed { attempt, assessment }
    }

    /// Whether the rank that failed first did so within [`EARLY`].
    fn ended_early(&self) -> bool {
        let attempt = self.core.attempt();
        let suspect = attempt.suspect.and_then(|rank| attempt.ranks.get(rank as usize));
        let times = suspect.and_then(|rank| Some((rank.started_at?, rank.ended?.1)));
        times.is_some_and(|(started, ended)| ended.saturating_sub(started) <= EARLY)
    }

    /// [`crate::supervise::event::Action::Verify`]
    pub(super) fn verify(&mut self, answers: &mut VecDeque<Event>) {
        self.read_reported();
        match self.checkpoints.look.clone() {
            None => {
                let event = self.verified(None);
                answers.push_back(event);
            }
            Some(look) => self.ask_worker(Task::Newest(look), Asked::Verify, answers),
        }
    }

    fn verified(&self, newest: Option<Result<Option<Point>, String>>) -> Event {
        let has_folder = newest.is_some();
        let now = match newest {
            Some(Ok(point)) => point,
            Some(Err(why)) => {
                let line =
                    format!("nvlaunch: note: whether the job was done is not known: {why}\n");
                self.say(Some(line));
                return Event::Verified { unfinished: None };
            }
            None => None,
        };
        let seen = Seen {
            expected: self.job.spec.expect_step,
            has_folder,
            resumed: self.checkpoints.chosen.point.as_ref(),
            now: now.as_ref(),
            reported: self.checkpoints.reported_now,
        };
        Event::Verified { unfinished: verify::unfinished(&seen) }
    }

    /// [`crate::supervise::event::Action::WatchSaves`]
    pub(super) fn watch_saves(&mut self) {
        let Some(look) = self.checkpoints.look.clone() else { return };
        let task = Task::Watch(Watch { look, asked_at: SystemTime::now() });
        // A failure to start it says itself; then the grace ends the wait.
        self.ask_worker(task, Asked::Watch, &mut VecDeque::new());
    }

    /// The attempt is closed: nothing is watched for any more.
    pub(super) fn end_watch(&mut self) {
        let is_watch = matches!(self.checkpoints.asked, Some((Asked::Watch, _)));
        if let Some(worker) = self.checkpoints.worker.as_mut().filter(|_| is_watch) {
            self.checkpoints.asked = None;
            let is_found = self.checkpoints.saved.is_some();
            worker.ask(if is_found { Task::Rest } else { Task::Last });
            self.checkpoints.last_look = !is_found;
        }
    }

    /// What was saved since the ranks were asked to, for the report. Waits a little: the ranks may
    /// have ended between two looks.
    pub(super) fn last_saved(&mut self) -> Option<Point> {
        let end = Instant::now() + LAST_LOOK;
        while self.checkpoints.last_look {
            let worker = self.checkpoints.worker.as_mut()?;
            if let Some(Answer::Last(point)) = worker.answer() {
                self.checkpoints.saved = point;
                self.checkpoints.last_look = false;
                break;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut fds = [PollFd::new(worker.bell(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout);
        }
        self.checkpoints.saved.clone()
    }

    fn ask_worker(&mut self, task: Task, asked: Asked, answers: &mut VecDeque<Event>) {
        if let Err(error) = self.start_worker() {
            let why = format!("checkpoints cannot be looked at: {error}");
            self.unanswered(asked, &why, answers);
            return;
        }
        let worker = self.checkpoints.worker.as_mut().expect("it was started");
        worker.ask(task);
        let look = self.checkpoints.look.as_ref();
        let limit = look.filter(|_| !matches!(asked, Asked::Watch));
        let limit = limit.map(|look| self.clock.now() + look.deadline + LATE);
        self.checkpoints.asked = Some((asked, limit));
    }

    fn start_worker(&mut self) -> std::io::Result<()> {
        if self.checkpoints.worker.is_none() {
            let worker = Worker::start()?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, CHECKPOINTS);
            self.epoll.add(worker.bell(), event)?;
            self.checkpoints.worker = Some(worker);
        }
        Ok(())
    }

    /// Something may have come from the thread, or its time is over.
    pub(super) fn checkpoint_turn(&mut self) {
        let mut events = VecDeque::new();
        let answer = self.checkpoints.worker.as_mut().and_then(Worker::answer);
        match answer {
            Some(Answer::Last(point)) => {
                self.checkpoints.last_look = false;
                self.checkpoints.saved = point;
            }
            Some(answer) => self.take_answer(answer, &mut events),
            None if self.checkpoints.next_wake().is_some_and(|at| at <= self.clock.now()) => {
                self.leave_worker();
                let why = self.checkpoints.deadline_words();
                if let Some((asked, _)) = self.checkpoints.asked.take() {
                    self.unanswered(asked, &why, &mut events);
                }
            }
            None => {}
        }
        self.feed_all(events);
    }

    /// The thread is stuck; the next task gets another one.
    fn leave_worker(&mut self) {
        if let Some(worker) = self.checkpoints.worker.take() {
            let _ = self.epoll.delete(worker.bell());
        }
    }

    /// The answer to a question that the thread did not answer (L2).
    fn unanswered(&mut self, asked: Asked, why: &str, answers: &mut VecDeque<Event>) {
        let event = match asked {
            Asked::Prepare => Event::Refused { why: why.to_owned() },
            Asked::Assess { attempt, classified } => {
                let line = format!("nvlaunch: note: how far the job came is not known: {why}\n");
                self.say(Some(line));
                self.assessed(attempt, classified, Some(Err(why.to_owned())))
            }
            Asked::Verify => self.verified(Some(Err(why.to_owned()))),
            Asked::Watch => {
                self.say(Some(format!("nvlaunch: note: saves are not watched for: {why}\n")));
                return;
            }
        };
        answers.push_back(event);
    }

    fn take_answer(&mut self, answer: Answer, events: &mut VecDeque<Event>) {
        match (self.checkpoints.asked.take().map(|(asked, _)| asked), answer) {
            (Some(Asked::Prepare), Answer::Chosen(Ok(chosen))) => {
                let folder = self.checkpoints.look.as_ref().map(|look| &*look.request.folder);
                for line in announce::chosen(&chosen, folder.unwrap_or(Path::new(""))) {
                    self.say(Some(line));
                }
                let resume = chosen.point.as_ref().map(Point::to_resume);
                self.checkpoints.chosen = chosen;
                events.push_back(Event::Prepared { resume });
            }
            (Some(Asked::Prepare), Answer::Chosen(Err(why))) => {
                events.push_back(Event::Refused { why });
            }
            (Some(Asked::Assess { attempt, classified }), Answer::Newest(newest)) => {
                events.push_back(self.assessed(attempt, classified, Some(newest)));
            }
            (Some(Asked::Verify), Answer::Newest(newest)) => {
                events.push_back(self.verified(Some(newest)));
            }
            (Some(Asked::Watch), Answer::Saved(point)) => {
                self.say(Some(announce::saved(&point)));
                events.push_back(Event::Saved { point: point.to_resume() });
                self.checkpoints.saved = Some(point);
                self.checkpoints.asked = Some((Asked::Watch, None));
            }
            // Of a task that was given up.
            (asked, _) => self.checkpoints.asked = asked.map(|asked| (asked, None)),
        }
    }

    /// Where the attempt that is about to start goes on; writes the receipt.
    pub(super) fn resume(&self, attempt: u32) -> Option<Resume> {
        let spec = self.job.spec.checkpoint.as_ref()?;
        let chosen = &self.checkpoints.chosen;
        let resume = chosen.point.as_ref().map(|point| {
            let args = style::fill(&spec.resume_args, &point.path, point.step);
            if args.is_none() {
                let name = point.name();
                self.say(Some(format!(
                    "nvlaunch: note: the step of {name} is not known: no argument says where to \
                     resume\n"
                )));
            }
            let args: Vec<OsString> = args.unwrap_or_default();
            Resume { path: point.path.clone(), step: point.step, args }
        });
        if let (Some(run_dir), Some(look)) = (&self.job.run_dir, &self.checkpoints.look) {
            let args = resume.as_ref().map_or(&[][..], |resume| &resume.args);
            let text = receipt::render(attempt, &look.request.folder, chosen, args);
            // A full disk does not keep a job from starting (S8).
            let _ = std::fs::write(run_dir.join(receipt::file_name(attempt)), text);
        }
        resume
    }

    /// Nothing is reported by, or said in, the attempt that is about to start, and nothing of it was
    /// killed.
    pub(super) fn forget_reported(&mut self) {
        self.checkpoints.reports = false;
        self.job.oom.begin_attempt();
        self.others.clear();
        self.checkpoints.reported_now = None;
        if let Some(run_dir) = &self.job.run_dir {
            let _ = std::fs::remove_file(run_dir.join(PROGRESS_NAME));
        }
    }

    /// The step that the script has written down, where it has.
    fn read_reported(&mut self) {
        let Some(run_dir) = &self.job.run_dir else { return };
        let bytes = Io::until(None).read(&run_dir.join(PROGRESS_NAME), MAX_PROGRESS);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(step) = text.and_then(|text| text.trim().parse().ok()) {
            self.checkpoints.reports = true;
            self.checkpoints.reported = self.checkpoints.reported.max(Some(step));
            self.checkpoints.reported_now = self.checkpoints.reported_now.max(Some(step));
        }
    }
}
