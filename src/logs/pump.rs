//! The thread that reads the ranks' pipes, writes files, and feeds the console.
//!
//! - U1: it blocks on nothing but its own poll and the log files' disk; never on the console.
//! - U2: what ranks wrote before a command was given is handled before that command.
//! - U3: it starts no process, and wakes up only for output, commands and what they leave behind:
//!   with nothing pending it sleeps without a time limit.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::file::LogFile;
use super::losses::{FileError, Losses};
use super::overload::Verdict;
use super::routes::Std;
use super::screen::{Prefix, Screen};
use super::stream::{Filter, Stream, Surroundings, read};
use super::tail::Tail;
use super::wake::Wake;
use super::{AttemptOutput, RankTail};

/// One read takes at most this much.
const BUFFER: usize = 256 * 1024;
/// At the end of an attempt, at most this much more is read of a pipe that stays open.
const LAST_READ: usize = 2 * 1024 * 1024;
/// After that long without anything to do, memory of the last burst is given back.
const TRIM_AFTER: Duration = Duration::from_secs(1);
/// More than a node has streams, or a command could overtake output that was there before (U2).
const EVENTS: usize = 1024;
const WAKE: u64 = u64::MAX;

/// What the main thread asks for.
pub enum Command {
    /// An attempt's streams, by id, and its filter files.
    Open(Vec<Stream>, Box<[Option<Filter>; 2]>),
    /// All ranks are gone: read to the end, until then at most.
    Close(Instant, Sender<AttemptOutput>),
    /// nvlaunch's own lines.
    Say(Vec<u8>),
    /// The last lines so far of these local ranks.
    Tails(Vec<u32>, Sender<Vec<RankTail>>),
    /// A line for `events.jsonl`.
    Record(Vec<u8>),
    /// Flush everything, until then at most.
    Finish(Instant, Sender<Losses>),
    /// End now, nobody waits.
    Quit,
}

/// What the thread works on.
pub struct Pump {
    pub(super) epoll: Epoll,
    pub(super) wake: Arc<Wake>,
    pub(super) commands: Receiver<Command>,
    /// Bytes of `Record` commands that wait.
    pub(super) recording: Arc<AtomicUsize>,
    /// One where both console streams are the same file, else two.
    pub(super) screens: Vec<Screen>,
    /// Index into `screens`, by [`Std::index`].
    pub(super) screen_of: [usize; 2],
    pub(super) prefixes: Vec<Prefix>,
    pub(super) events: Option<File>,
    pub(super) streams: Vec<Stream>,
    pub(super) filters: [Option<Filter>; 2],
    pub(super) losses: Losses,
    pub(super) buffer: Vec<u8>,
    pub(super) closing: Option<(Instant, Sender<AttemptOutput>)>,
    pub(super) trim_at: Option<Instant>,
    pub(super) failures: Vec<String>,
}

/// An epoll instance that watches `wake`.
pub fn watch(wake: &Wake) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
    Ok(epoll)
}

impl Pump {
    /// Works until it is told to finish, or nobody can tell it anything any more.
    pub fn run(mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            self.screens.iter_mut().for_each(Screen::submit);
            let timeout = self.timeout(Instant::now());
            let ready = self.epoll.wait(&mut events, timeout).unwrap_or(0);
            let now = Instant::now();
            let mut woken = false;
            for event in &events[..ready] {
                match event.data() {
                    WAKE => woken = true,
                    id => self.service(usize::try_from(id).unwrap_or(usize::MAX), now),
                }
            }
            self.tick(now);
            if woken {
                self.wake.clear();
                if self.obey(now).is_break() {
                    return;
                }
            }
            self.look_for_room(now);
            self.end_attempt(now);
            self.say_failures(now);
            self.trim(now, ready > 0);
        }
    }

    fn timeout(&self, now: Instant) -> EpollTimeout {
        let streams = self.streams.iter().filter_map(Stream::deadline);
        let screens = self.screens.iter().filter_map(Screen::deadline);
        let held = self.streams.iter().any(|s| s.parked).then(|| now + super::overload::WINDOW);
        let closing = self.closing.as_ref().map(|(deadline, _)| *deadline);
        let all = streams.chain(screens).chain(held).chain(closing).chain(self.trim_at);
        let Some(next) = all.min() else { return EpollTimeout::NONE };
        let wait = next.saturating_duration_since(now);
        // Whole milliseconds, rounded up, or it would wake too early and look again.
        let wait =
            Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(0));
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    /// Reads one buffer of a stream that has something.
    fn service(&mut self, id: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(pipe) = &stream.pipe else { return };
        let screen = &mut self.screens[self.screen_of[stream.std.index()]];
        let shown = stream.show != super::stream::Show::Nothing;
        if shown && matches!(screen.judge(now, true), Verdict::Hold(_)) {
            // Parked without events a hangup would still be reported again and again.
            let _ = self.epoll.delete(pipe);
            stream.parked = true;
            return;
        }
        self.read_once(id, now);
    }

    /// Gives the number of bytes, 0 at the end of the stream or where there is nothing now.
    fn read_once(&mut self, id: usize, now: Instant) -> usize {
        let stream = &mut self.streams[id];
        let Some(pipe) = &stream.pipe else { return 0 };
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        let mut cx = Surroundings {
            now,
            screen: &mut self.screens[self.screen_of[stream.std.index()]],
            prefixes: &self.prefixes,
            filter: self.filters[stream.std.index()].as_mut().filter(|_| stream.filtered),
            failures: &mut self.failures,
        };
        match read(pipe, &mut self.buffer) {
            Ok(Some(n)) if n > 0 => {
                stream.take(&self.buffer[..n], &mut cx);
                n
            }
            Ok(None) => 0,
            Ok(Some(_)) | Err(_) => {
                let _ = self.epoll.delete(pipe);
                stream.pipe = None;
                stream.finish(&mut cx);
                0
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        for stream in &mut self.streams {
            if stream.deadline().is_some_and(|due| due <= now) {
                let screen = &mut self.screens[self.screen_of[stream.std.index()]];
                let (prefixes, failures) = (&self.prefixes, &mut self.failures);
                stream.tick(&mut Surroundings { now, screen, prefixes, filter: None, failures });
            }
        }
        for screen in &mut self.screens {
            screen.tick(now, &self.prefixes);
        }
    }

    fn obey(&mut self, now: Instant) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(streams, filters)) => self.open(now, streams, *filters),
                Ok(Command::Close(deadline, reply)) => self.closing = Some((deadline, reply)),
                Ok(Command::Say(text)) => {
                    self.catch_up(now);
                    self.say(now, &text);
                }
                Ok(Command::Tails(ranks, reply)) => {
                    self.catch_up(now);
                    let _ = reply.send(self.tails(&ranks));
                }
                Ok(Command::Record(line)) => self.record(&line),
                Ok(Command::Finish(deadline, reply)) => {
                    let _ = reply.send(self.finish(now, deadline));
                    return Break(());
                }
                Err(TryRecvError::Empty) => return Continue(()),
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => {
                    self.finish(now, now);
                    return Break(());
                }
            }
        }
    }

    /// Reads what came since the last look: a command may have come later still (U2).
    fn catch_up(&mut self, now: Instant) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..ready] {
            if event.data() != WAKE {
                self.service(usize::try_from(event.data()).unwrap_or(usize::MAX), now);
            }
        }
    }

    fn open(&mut self, now: Instant, streams: Vec<Stream>, filters: [Option<Filter>; 2]) {
        // Only after a wait that was given up can the last attempt still be here.
        let left = self.drain(now);
        if let Some((_, reply)) = self.closing.take() {
            let _ = reply.send(left);
        }
        self.filters = filters;
        self.streams = streams;
        for (id, stream) in self.streams.iter_mut().enumerate() {
            if let Some(pipe) = &stream.pipe {
                // Out of kernel memory: nothing would ever be read, so the rank gets a closed
                // pipe instead of one that fills up and holds it.
                if self.epoll.add(pipe, EpollEvent::new(EpollFlags::EPOLLIN, id as u64)).is_err() {
                    stream.pipe = None;
                }
            }
        }
    }

    fn tails(&self, ranks: &[u32]) -> Vec<RankTail> {
        let lines = |rank: u32, std| {
            let stream = self.streams.iter().find(|s| s.index == rank && s.std == std);
            stream.map(|stream| stream.tail.clone().lines()).unwrap_or_default()
        };
        let both =
            |&rank| RankTail { stdout: lines(rank, Std::Out), stderr: lines(rank, Std::Err) };
        ranks.iter().map(both).collect()
    }

    fn say(&mut self, now: Instant, text: &[u8]) {
        // Lines that wait to be joined were there before (U2).
        for screen in &mut self.screens {
            screen.flush_fold(now, &self.prefixes);
        }
        self.screens[self.screen_of[Std::Err.index()]].say(now, text);
    }

    fn record(&mut self, line: &[u8]) {
        self.recording.fetch_sub(line.len(), Ordering::Relaxed);
        let Some(file) = &mut self.events else { return };
        let mut whole = line.to_vec();
        if !whole.ends_with(b"\n") {
            whole.push(b'\n');
        }
        if file.write_all(&whole).is_err() {
            self.losses.events += 1;
        }
    }

    /// Notices of screens that have room again, and streams that wait for that.
    fn look_for_room(&mut self, now: Instant) {
        let mut notices = Vec::new();
        let mut free = Vec::with_capacity(2);
        for screen in &mut self.screens {
            let verdict = if screen.is_waiting() { screen.judge(now, true) } else { Verdict::Take };
            free.push(!matches!(verdict, Verdict::Hold(_)));
            notices.extend(screen.take_notice());
        }
        for notice in notices {
            self.say(now, notice.as_bytes());
        }
        for (id, stream) in self.streams.iter_mut().enumerate() {
            if !stream.parked || !free[self.screen_of[stream.std.index()]] {
                continue;
            }
            stream.parked = false;
            if let Some(pipe) = &stream.pipe {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, id as u64);
                let _ = self.epoll.add(pipe, event);
            }
        }
    }

    /// Ends the attempt when all pipes are at their end, or when time is up.
    fn end_attempt(&mut self, now: Instant) {
        let Some((deadline, _)) = &self.closing else { return };
        if self.streams.iter().any(|s| s.pipe.is_some()) && now < *deadline {
            return;
        }
        let Some((_, reply)) = self.closing.take() else { return };
        let output = self.drain(now);
        self.screens.iter_mut().for_each(Screen::submit);
        let _ = reply.send(output);
    }

    /// Reads what is left without waiting, drops our ends, and takes the tails.
    fn drain(&mut self, now: Instant) -> AttemptOutput {
        let mut output = AttemptOutput::default();
        for id in 0..self.streams.len() {
            let mut left = LAST_READ;
            while self.streams[id].pipe.is_some() && left > 0 {
                // The rest must reach the files and the tails; the console takes what it can.
                let screen = self.screen_of[self.streams[id].std.index()];
                self.screens[screen].judge(now, false);
                match self.read_once(id, now) {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            let stream = &mut self.streams[id];
            if let Some(pipe) = stream.pipe.take() {
                // A child between fork and exec may hold a copy: then closing does not end this.
                let _ = self.epoll.delete(&pipe);
                output.leaked.push(stream.index);
                stream.finish(&mut Surroundings {
                    now,
                    screen: &mut self.screens[self.screen_of[stream.std.index()]],
                    prefixes: &self.prefixes,
                    filter: self.filters[stream.std.index()].as_mut().filter(|_| stream.filtered),
                    failures: &mut self.failures,
                });
            }
        }
        output.leaked.sort_unstable();
        output.leaked.dedup();
        for screen in &mut self.screens {
            screen.flush_fold(now, &self.prefixes);
        }
        output.tails.resize_with(self.prefixes.len(), RankTail::default);
        for stream in std::mem::take(&mut self.streams) {
            if let Some(file) = &stream.file {
                count(&mut self.losses, file);
            }
            let tail = &mut output.tails[stream.index as usize];
            let lines = Tail::lines(stream.tail);
            match stream.std {
                Std::Out => tail.stdout = lines,
                Std::Err => tail.stderr = lines,
            }
        }
        for filter in std::mem::take(&mut self.filters).iter().flatten() {
            count(&mut self.losses, filter.file());
        }
        output
    }

    fn finish(&mut self, now: Instant, deadline: Instant) -> Losses {
        if let Some((_, reply)) = self.closing.take() {
            let output = self.drain(now);
            let _ = reply.send(output);
        } else {
            self.drain(now);
        }
        self.say_failures(now);
        let Losses { stdout, stderr, .. } = &mut self.losses;
        for screen in &mut self.screens {
            screen.close(deadline, [&mut *stdout, &mut *stderr]);
        }
        std::mem::take(&mut self.losses)
    }

    fn say_failures(&mut self, now: Instant) {
        for text in std::mem::take(&mut self.failures) {
            self.say(now, text.as_bytes());
        }
    }

    fn trim(&mut self, now: Instant, active: bool) {
        if active {
            self.trim_at = Some(now + TRIM_AFTER);
        } else if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.buffer = Vec::new();
            self.screens.iter_mut().for_each(Screen::trim);
        }
    }
}

fn count(losses: &mut Losses, file: &LogFile) {
    losses.files.bytes += file.lost();
    if let (None, Some(reason)) = (&losses.files.first, file.first_error()) {
        let (path, reason) = (file.path().to_owned(), reason.to_owned());
        losses.files.first = Some(FileError { path, reason });
    }
}
