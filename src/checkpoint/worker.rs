//! The thread that looks at checkpoints, so that the supervisor never waits for a file system.
//!
//! - K1: it starts no process and touches nothing of the loop. Tasks go in by one channel, answers
//!   come by another; an event descriptor says that one is there.
//! - K2: nobody waits for it. Where the file system does not answer the thread is left behind and
//!   another one takes its place; what it says later is heard by nobody.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Instant, SystemTime};

use super::choose::{self, Choose, Chosen, Look, Point};
use super::watch::{Progress, Watch};
use crate::logs::wake::Wake;
use crate::thread;

/// Something to look at.
#[derive(Debug, Clone)]
pub enum Task {
    /// What does the next attempt resume from?
    Choose(Choose),
    /// What is the newest whole one?
    Newest(Look),
    /// Say when a new one is there.
    Watch(Watch),
    /// End the watch with one look more, now that nobody writes.
    Last,
    /// Look at nothing.
    Rest,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Task::Choose`]; an error is why the attempt may not start, a clause.
    Chosen(Result<Chosen, String>),
    /// To [`Task::Newest`]; an error is why it is not known.
    Newest(Result<Option<Point>, String>),
    /// To [`Task::Watch`].
    Saved(Point),
    /// To [`Task::Last`]: what is new, if anything.
    Last(Option<Point>),
}

/// The other end of the thread.
#[derive(Debug)]
pub struct Worker {
    tasks: Sender<(u64, Task)>,
    answers: Receiver<(u64, Answer)>,
    bell: Arc<Wake>,
    last: u64,
}

impl Worker {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::with(work)
    }

    fn with(
        work: impl FnOnce(&Receiver<(u64, Task)>, &Answers) + Send + 'static,
    ) -> io::Result<Self> {
        let (tasks, to_do) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let bell = Arc::new(Wake::new()?);
        let theirs = Answers { sender: answer, bell: Arc::clone(&bell) };
        let checkpoints = std::thread::Builder::new().name("checkpoints".to_owned());
        thread::spawn(checkpoints, move || work(&to_do, &theirs))?;
        Ok(Self { tasks, answers, bell, last: 0 })
    }

    /// Readable when an answer is there.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Gives it something to do; a watch ends where another task comes. Answers to earlier tasks
    /// are not heard any more.
    pub fn ask(&mut self, task: Task) {
        self.last += 1;
        // A thread that is gone does not answer, and the deadline comes.
        let _ = self.tasks.send((self.last, task));
    }

    /// The answer to the last task, if it is there.
    pub fn answer(&mut self) -> Option<Answer> {
        self.bell.clear();
        let last = self.last;
        self.answers.try_iter().filter(|(task, _)| *task == last).map(|(_, answer)| answer).last()
    }
}

struct Answers {
    sender: Sender<(u64, Answer)>,
    bell: Arc<Wake>,
}

impl Answers {
    fn give(&self, task: u64, answer: Answer) {
        if self.sender.send((task, answer)).is_ok() {
            self.bell.signal();
        }
    }
}

fn work(tasks: &Receiver<(u64, Task)>, answers: &Answers) {
    let mut next = tasks.recv().ok();
    while let Some((number, task)) = next {
        next = match task {
            Task::Choose(wanted) => {
                answers.give(number, Answer::Chosen(choose::choose(&wanted, std::thread::sleep)));
                tasks.recv().ok()
            }
            Task::Newest(look) => {
                answers.give(number, Answer::Newest(look.newest()));
                tasks.recv().ok()
            }
            Task::Last => {
                answers.give(number, Answer::Last(None));
                tasks.recv().ok()
            }
            Task::Rest => tasks.recv().ok(),
            Task::Watch(watch) => look_out(number, &watch, tasks, answers),
        };
    }
}

/// Looks until something is new; the next task.
fn look_out(
    number: u64,
    watch: &Watch,
    tasks: &Receiver<(u64, Task)>,
    answers: &Answers,
) -> Option<(u64, Task)> {
    let mut progress = Progress::default();
    loop {
        let began = Instant::now();
        // What is not known now is perhaps known at the next look.
        if let Ok(newest) = watch.look.newest()
            && let Some(point) = progress.take(newest, watch.asked_at, SystemTime::now())
        {
            answers.give(number, Answer::Saved(point));
            return tasks.recv().ok();
        }
        match tasks.recv_timeout(progress.pause(began.elapsed())) {
            Ok((number, Task::Last)) => {
                let newest = watch.look.newest().ok().flatten();
                let new = progress.new_one(newest, watch.asked_at, SystemTime::now());
                answers.give(number, Answer::Last(new));
                return tasks.recv().ok();
            }
            Ok(task) => return Some(task),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::checkpoint::layout::Cx;
    use crate::checkpoint::scan::Request;

    fn rings(worker: &Worker, limit: Duration) -> bool {
        let mut fds = [PollFd::new(worker.bell(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).expect("a short time");
        poll(&mut fds, limit).expect("a poll") > 0
    }

    #[test]
    fn an_empty_folder_has_no_checkpoint_and_a_missing_one_neither() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            let request = Request { folder: path, layout: None, cx: Cx::default(), all: false };
            let look = Look { request, deadline: Duration::from_secs(20) };
            let mut worker = Worker::start().unwrap();
            worker.ask(Task::Newest(look.clone()));
            assert!(rings(&worker, Duration::from_secs(20)));
            assert_eq!(worker.answer(), Some(Answer::Newest(Ok(None))));
            assert!(!rings(&worker, Duration::ZERO), "the bell is silent again");
            let wanted = Choose { look, others_write: true, quarantine: true, by_tracker: true };
            worker.ask(Task::Choose(wanted));
            assert!(rings(&worker, Duration::from_secs(20)));
            assert_eq!(worker.answer(), Some(Answer::Chosen(Ok(Chosen::default()))));
        }
    }

    #[test]
    fn an_answer_to_an_earlier_task_is_heard_by_nobody() {
        let mut worker = Worker::with(|tasks, answers| {
            for (number, _) in tasks {
                answers.give(number, Answer::Newest(Err(number.to_string())));
            }
        })
        .unwrap();
        worker.ask(Task::Rest);
        assert!(rings(&worker, Duration::from_secs(20)));
        worker.ask(Task::Rest);
        let end = Instant::now() + Duration::from_secs(20);
        let answer = loop {
            assert!(Instant::now() < end, "no answer");
            if let Some(answer) = worker.answer() {
                break answer;
            }
            rings(&worker, Duration::from_secs(1));
        };
        assert_eq!(answer, Answer::Newest(Err("2".to_owned())));
    }

    #[test]
    fn a_thread_that_is_stuck_holds_nobody() {
        let (release, held) = mpsc::channel::<()>();
        let mut worker = Worker::with(move |tasks, _| {
            let _ = tasks.recv();
            let _ = held.recv();
        })
        .unwrap();
        worker.ask(Task::Rest);
        worker.ask(Task::Rest);
        assert!(!rings(&worker, Duration::from_millis(20)));
        assert_eq!(worker.answer(), None);
        drop(worker);
        drop(release);
    }
}
