//! The store's sockets: one thread, one epoll, which never starts a process.
//!
//! - V1: no client can stop another. Work for one client is bounded at each turn; a client that
//!   does not read its replies is not read from; one that sends nonsense is closed, alone.
//! - V2: an attempt never meets the connections or the keys of the one before.
//! - V3: who looks at an attempt waits for one turn of one client at most.
//! - V4: without a file descriptor for a new client, it waits in the kernel's queue; the server
//!   neither spins nor ends.

mod connection;
mod engine;
mod listeners;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, yield_now};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use self::engine::Attempt;
use self::engine::{BUFFER, Engine, Next};
use self::listeners::Listeners;
use super::Observer;
use super::limits::{Limits, Refusals};
use crate::thread;

/// The thread's name, as `ps -L` shows it.
const THREAD: &str = "nvl-store";
/// Events taken from the kernel at one time.
const EVENTS: usize = 256;
/// How long a pause lasts after the descriptors ran out.
const PAUSE_MS: u16 = 200;
/// How long the end of the thread is waited for.
const END: Duration = Duration::from_secs(5);
/// How often the thread steps back for somebody who wants to look.
const STEPS_BACK: u32 = 10_000;
/// The token of the event that only wakes the thread.
const WAKE: u64 = 0;

/// Where and how a store is served.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The addresses to listen at, all with one port. An unspecified address stands for all of its
    /// family.
    pub addresses: Vec<IpAddr>,
    /// The port; `None` takes a free one, another one for each attempt.
    pub port: Option<u16>,
    /// What is accepted.
    pub limits: Limits,
}

/// A store and the thread that serves it.
#[derive(Debug)]
pub struct StoreServer<O: Observer> {
    shared: Arc<Shared<O>>,
    config: StoreConfig,
    port: u16,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
}

#[derive(Debug)]
struct Shared<O> {
    epoll: Arc<Epoll>,
    wake: EventFd,
    engine: Mutex<Engine<O>>,
    /// How many wait for the lock besides the thread.
    others: AtomicUsize,
}

impl<O> Shared<O> {
    /// For the thread: lets those go first who want to look (V3).
    fn turn(&self) -> MutexGuard<'_, Engine<O>> {
        for _ in 0..STEPS_BACK {
            if self.others.load(Ordering::Relaxed) == 0 {
                break;
            }
            yield_now();
        }
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For everybody else.
    fn lock(&self) -> MutexGuard<'_, Engine<O>> {
        self.others.fetch_add(1, Ordering::Relaxed);
        let guard = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        self.others.fetch_sub(1, Ordering::Relaxed);
        guard
    }
}

impl<O: Observer + 'static> StoreServer<O> {
    /// Binds at once, so that errors are told before anything starts, and starts the thread.
    ///
    /// # Errors
    /// `EADDRINUSE` where somebody listens at the port; whatever else the kernel says.
    pub fn start(config: StoreConfig) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let listeners = Listeners::bind(&config.addresses, config.port)?;
        let port = listeners.port();
        let engine = Engine::new(Arc::clone(&epoll), config.limits, listeners)?;
        let shared = Arc::new(Shared {
            epoll,
            wake,
            engine: Mutex::new(engine),
            others: AtomicUsize::new(0),
        });
        let (end, ended) = channel();
        let served = Arc::clone(&shared);
        let thread =
            thread::spawn(Builder::new().name(THREAD.to_owned()), move || serve(&served, end))?;
        Ok(Self { shared, config, port, thread: Some(thread), ended })
    }

    /// The port of the attempt that runs, or else of the next.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A fresh store: every connection of the attempt before is closed, its keys are gone.
    ///
    /// Without a named port the listeners move to another free one, so that late clients of the old
    /// attempt find nobody; the first attempt has the port bound by [`StoreServer::start`]. With a
    /// named port the listeners stay, and whoever is in their queues is closed first.
    ///
    /// # Errors
    /// No free port could be bound. Then the old attempt is over, and there is no new one.
    pub fn begin_attempt(&mut self, world_size: u32, observer: O) -> io::Result<u16> {
        let mut engine = self.shared.lock();
        engine.end();
        if self.config.port.is_some() {
            engine.empty_queues();
        } else if engine.used() {
            engine.listen(Listeners::bind(&self.config.addresses, None)?)?;
        }
        self.port = engine.begin(world_size, observer);
        Ok(self.port)
    }

    /// Closes all connections and drops the keys; new ones are refused until the next attempt.
    pub fn end_attempt(&mut self) {
        self.shared.lock().end();
    }

    /// Looks at the attempt as it is now, under its lock: be brief. `None` while no attempt runs.
    pub fn look<R>(&self, f: impl FnOnce(&Attempt<O>) -> R) -> Option<R> {
        self.shared.lock().attempt().map(f)
    }

    /// The same with the observer to be changed, for what it has to forget or to be told.
    pub fn look_mut<R>(&self, f: impl FnOnce(&mut Attempt<O>) -> R) -> Option<R> {
        self.shared.lock().attempt_mut().map(f)
    }

    /// Who was refused since the start.
    pub fn refusals(&self) -> Refusals {
        self.shared.lock().refusals().clone()
    }
}

impl<O: Observer> Drop for StoreServer<O> {
    fn drop(&mut self) {
        self.shared.lock().stop();
        // It can only fail if the counter is full, and then the thread wakes anyway.
        let _ = self.shared.wake.write(1);
        if self.ended.recv_timeout(END) != Err(RecvTimeoutError::Timeout)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// The thread. `_end` tells by its drop that the thread is over, also after a panic.
fn serve<O: Observer>(shared: &Shared<O>, _end: Sender<()>) {
    let mut buffer = vec![0; BUFFER];
    let mut events = [EpollEvent::empty(); EVENTS];
    loop {
        let timeout = match shared.turn().next() {
            Next::End => return,
            Next::Wait => EpollTimeout::NONE,
            Next::Pause => EpollTimeout::from(PAUSE_MS),
            Next::Work => EpollTimeout::ZERO,
        };
        match shared.epoll.wait(&mut events, timeout) {
            Ok(0) => shared.turn().resume_accepting(),
            Ok(count) => {
                for event in &events[..count] {
                    if event.data() == WAKE {
                        let _ = shared.wake.read();
                    } else {
                        shared.turn().event(event.data(), event.events(), &mut buffer);
                    }
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "the store's epoll failed");
                return;
            }
        }
        for _ in 0..EVENTS {
            if !shared.turn().work() {
                break;
            }
        }
    }
}

/// A client of an attempt, as [`Attempt::clients`] tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its number.
    pub id: super::ClientId,
    /// Its address.
    pub peer: SocketAddr,
    /// What it waits for.
    pub pending: Option<super::Pending<'a>>,
}
