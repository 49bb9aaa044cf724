//! The console's own thread: takes batches of whole lines from a bounded queue and writes them.
//!
//! This is the only place that may block on a slow or stuck reader. Nobody waits for it, except
//! [`Console::close`], with a limit. One console serves standard output and standard error where
//! both are the same file, so that their batches cannot mix; else there are two.
//!
//! - C1: a batch is written whole before the next one begins.
//! - C2: after an error a stream is closed for good; what comes later is counted.
//! - C3: with nothing to write the thread sleeps without a time limit.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::file::plain_reason;
use super::losses::{Amount, ConsoleLoss};
use super::overload::LOW;
use super::routes::Std;
use super::wake::Wake;
use crate::thread;

/// One call writes at most this much, so that progress can be seen.
const SLICE: usize = 64 * 1024;
/// Emptied buffers that are kept for the next batches.
const SPARE_BUFFERS: usize = 4;
const STACK: usize = 64 * 1024;

/// Whole lines for one stream.
#[derive(Debug)]
pub struct Batch {
    /// Which stream.
    pub std: Std,
    /// The lines.
    pub bytes: Vec<u8>,
    /// How many.
    pub lines: u64,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    spare: Vec<Vec<u8>>,
    /// Lines and bytes of the batch that is being written.
    in_flight: Option<(Std, u64, usize)>,
    losses: [ConsoleLoss; 2],
    closed: [bool; 2],
    sleeping: bool,
    ending: bool,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Bytes that are queued or being written.
    queued: AtomicUsize,
    written: AtomicU64,
    /// The other side wants to be woken when there is room.
    wanted: AtomicBool,
    abandoned: AtomicBool,
    wake: Arc<Wake>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Counters and a queue of bytes are usable whatever happened to a holder.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue's end that never blocks.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
}

impl Console {
    /// Starts the thread. `wake` is signalled when there is room again after
    /// [`Console::want_room`].
    pub fn start(targets: [Option<File>; 2], wake: Arc<Wake>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            queued: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            wake,
        });
        let thread_shared = Arc::clone(&shared);
        let console = Builder::new().name("console".to_owned()).stack_size(STACK);
        // On a terminal with `stty tostop` a background job's output would stop all of nvlaunch (S8);
        // the kernel lets a thread that blocks the signal write (tty_check_change).
        thread::spawn(console, move || run(&thread_shared, &targets))?;
        Ok(Self { shared })
    }

    /// Queues a batch; gives an empty buffer for the next one.
    pub fn push(&self, batch: Batch) -> Vec<u8> {
        self.shared.queued.fetch_add(batch.bytes.len(), Ordering::SeqCst);
        let mut queue = self.shared.lock();
        queue.batches.push_back(batch);
        let spare = queue.spare.pop().unwrap_or_default();
        let sleeping = queue.sleeping;
        drop(queue);
        if sleeping {
            self.shared.changed.notify_all();
        }
        spare
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::SeqCst)
    }

    /// Bytes ever written, or counted as lost by this thread.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Asks for a signal once the queue is down to [`LOW`].
    pub fn want_room(&self) {
        self.shared.wanted.store(true, Ordering::SeqCst);
    }

    /// Gives back the memory that only a burst needs.
    pub fn trim(&self) {
        let mut queue = self.shared.lock();
        queue.spare = Vec::new();
        if queue.batches.is_empty() {
            queue.batches.shrink_to_fit();
        }
    }

    /// Waits until all is written, at most until `deadline`; gives what was lost. Bytes that are
    /// still waiting then count as lost.
    pub fn close(&self, deadline: Instant) -> [ConsoleLoss; 2] {
        let mut queue = self.shared.lock();
        queue.ending = true;
        self.shared.changed.notify_all();
        while !queue.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut losses = queue.losses.clone();
        if !queue.ended {
            self.shared.abandoned.store(true, Ordering::SeqCst);
            let waiting: usize = queue.batches.iter().map(|b| b.bytes.len()).sum();
            if let Some((std, lines, whole)) = queue.in_flight {
                let bytes = self.queued().saturating_sub(waiting);
                // How many lines the rest of this one batch has is estimated from its bytes.
                let lines = (lines * bytes as u64).div_ceil(whole.max(1) as u64);
                losses[std.index()].slow.add(lines, bytes);
            }
            for batch in queue.batches.drain(..) {
                losses[batch.std.index()].slow.add(batch.lines, batch.bytes.len());
            }
        }
        losses
    }
}

fn run(shared: &Shared, targets: &[Option<File>; 2]) {
    let mut queue = shared.lock();
    loop {
        let Some(mut batch) = queue.batches.pop_front() else {
            if queue.ending {
                queue.ended = true;
                shared.changed.notify_all();
                return;
            }
            queue.sleeping = true;
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.sleeping = false;
            continue;
        };
        let target =
            targets[batch.std.index()].as_ref().filter(|_| !queue.closed[batch.std.index()]);
        queue.in_flight = Some((batch.std, batch.lines, batch.bytes.len()));
        drop(queue);
        let result = write_batch(shared, target, &batch);
        queue = shared.lock();
        queue.in_flight = None;
        if let Err((written, error)) = result {
            lose(&mut queue, &batch, written, error.as_ref());
        }
        if queue.spare.len() < SPARE_BUFFERS {
            batch.bytes.clear();
            queue.spare.push(batch.bytes);
        }
        if shared.abandoned.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Writes a batch; on an error, gives the bytes that were written, and no error where the stream
/// had been closed before.
fn write_batch(
    shared: &Shared,
    target: Option<&File>,
    batch: &Batch,
) -> Result<(), (usize, Option<io::Error>)> {
    let mut written = 0;
    let mut result = Ok(());
    if target.is_none() {
        result = Err((0, None));
        progress(shared, batch.bytes.len());
    }
    while let (Some(mut file), Ok(())) = (target, &result) {
        let rest = &batch.bytes[written..];
        if rest.is_empty() || shared.abandoned.load(Ordering::SeqCst) {
            break;
        }
        match file.write(&rest[..rest.len().min(SLICE)]) {
            Ok(n) if n > 0 => {
                written += n;
                progress(shared, n);
            }
            Ok(_) => result = Err((written, Some(io::ErrorKind::WriteZero.into()))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program made our terminal or pipe non-blocking: wait for room ourselves.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(error) => {
                progress(shared, rest.len());
                result = Err((written, Some(error)));
            }
        }
    }
    result
}

fn progress(shared: &Shared, bytes: usize) {
    shared.written.fetch_add(bytes as u64, Ordering::SeqCst);
    let left = shared.queued.fetch_sub(bytes, Ordering::SeqCst) - bytes;
    if left <= LOW && shared.wanted.swap(false, Ordering::SeqCst) {
        shared.wake.signal();
    }
}

/// C2
fn lose(queue: &mut Queue, batch: &Batch, written: usize, error: Option<&io::Error>) {
    let index = batch.std.index();
    queue.closed[index] = true;
    let rest = &batch.bytes[written..];
    let lines =
        if written == 0 { batch.lines } else { memchr::memchr_iter(b'\n', rest).count() as u64 };
    let loss = &mut queue.losses[index];
    if let Some(error) = error.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        loss.error = Some(plain_reason(error));
    }
    let amount: &mut Amount =
        if loss.error.is_some() { &mut loss.failed } else { &mut loss.closed };
    amount.add(lines, rest.len());
}
