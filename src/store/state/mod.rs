//! Keys, waiters, queues and barriers of one attempt; pure.
//!
//! It answers as torch's libuv server does (`TCPStoreLibUvBackend.cpp`), with four differences that
//! no client of torch's relies on:
//!
//! - a failed `COMPARE_SET` on a missing key wakes nobody: the key is still missing (torch's older
//!   server does the same);
//! - a second wait of a client that waits is refused: one answer could not be told from the other;
//! - where a client was woken by a queue's item and goes or cancels before it took the item, the
//!   next waiter is woken;
//! - a queue that has items counts as there also in a wait for several keys.
//!
//! Invariants:
//!
//! - T1: a wait is answered exactly once, or not at all if it is cancelled or its client goes.
//! - T2: a key that came is no longer waited for, even if it is deleted before the others come.
//! - T3: a barrier's counter is an ordinary value. Whoever sets or adds to it releases its waiters;
//!   a client that goes stays counted.
//! - T4: every stored byte is accounted for; a request that does not fit changes nothing.

mod value;
mod waits;

use std::collections::{HashMap, VecDeque};
use std::sync::Weak;

use self::value::{Stored, leading_number};
use self::waits::Waits;
use super::limits::{Limits, Refused};
use super::wire::reply::{NOT_READY, Output, READY};
use super::wire::{Key, Request, Value};

pub use self::waits::{Missing, Pending};

/// A connection. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// What a key or an item takes besides its bytes: its place in a table that is half full, and the
/// allocator's share.
const OVERHEAD: usize = 96;

/// Overwritten values that are looked through at one time.
const FADING: usize = 64;

/// The keys of one attempt, and who waits for what.
#[derive(Debug)]
pub struct State {
    keys: HashMap<Key, Stored>,
    queues: HashMap<Key, VecDeque<Value>>,
    waits: Waits,
    /// Bytes in `keys` and `queues`, with [`OVERHEAD`].
    stored: usize,
    /// Values that were overwritten or deleted while a client was still reading them.
    fading: Vec<(Weak<Vec<u8>>, usize)>,
    fading_bytes: usize,
    memory: usize,
    value: usize,
}

impl State {
    /// An empty store.
    pub fn new(limits: &Limits) -> Self {
        Self {
            keys: HashMap::new(),
            queues: HashMap::new(),
            waits: Waits::default(),
            stored: 0,
            fading: Vec::new(),
            fading_bytes: 0,
            memory: limits.memory,
            value: limits.value,
        }
    }

    /// How many keys there are; queues are not counted.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.keys.get(key).map(Stored::bytes)
    }

    /// Bytes of keys, values, queues and waits, with their overhead.
    pub fn memory(&self) -> usize {
        self.stored + self.fading_bytes + self.waits.memory()
    }

    /// What a client waits for.
    pub fn pending(&self, client: ClientId) -> Option<Pending<'_>> {
        self.waits.pending(client)
    }

    /// How many clients wait.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// Takes a request. The reply goes into `reply`. The clients in `woken` are to be sent
    /// [`READY`], each for as often as it is there, after the reply.
    ///
    /// # Errors
    /// The client is to be closed. Nothing was changed, except that a part of the reply may be there.
    pub fn step(
        &mut self,
        client: ClientId,
        request: Request,
        reply: &mut Output,
        woken: &mut Vec<ClientId>,
    ) -> Result<(), Refused> {
        match request {
            Request::Validate => {}
            Request::Ping { nonce } => reply.bytes(&nonce.to_le_bytes()),
            Request::Set { key, value } => self.set(key, Stored::new(value), woken)?,
            Request::MultiSet { pairs } => {
                // All or nothing; as if every key were new.
                self.fits(pairs.iter().map(|(k, v)| k.len() + v.len() + OVERHEAD).sum())?;
                for (key, value) in pairs {
                    self.waits.wake_all(&key, woken);
                    self.put(key, Stored::new(value));
                }
            }
            Request::CompareSet { key, expected, desired } => {
                self.compare_set(key, &expected, desired, reply, woken)?;
            }
            Request::Get { key } => self.read(&key, reply),
            Request::MultiGet { keys } => {
                for key in &keys {
                    self.read(key, reply);
                    reply.check()?;
                }
            }
            Request::Add { key, amount } => {
                let sum = self.add(key, amount, woken)?;
                reply.number(sum);
            }
            Request::Append { key, value } => self.append(key, value, woken)?,
            Request::Delete { key } => {
                let was_there = self.delete(&key);
                reply.number(i64::from(was_there));
            }
            Request::Check { keys } => {
                reply.byte(if keys.iter().all(|key| self.is_there(key)) {
                    READY
                } else {
                    NOT_READY
                });
            }
            Request::Wait { keys } => self.wait(client, keys, reply)?,
            Request::CancelWait => {
                // Always answered: the client expects it even if its wait ended meanwhile.
                self.forget(client, woken);
                reply.byte(NOT_READY);
            }
            Request::NumKeys => reply.number(count(self.keys.len())),
            Request::ListKeys => {
                reply.number(count(self.keys.len()));
                for key in self.keys.keys() {
                    reply.string(key);
                    reply.check()?;
                }
            }
            Request::QueuePush { key, value } => self.push(key, value, woken)?,
            Request::QueuePop { key } => self.pop(client, &key, reply),
            Request::QueueLen { key } => {
                reply.number(count(self.queues.get(&key).map_or(0, VecDeque::len)));
            }
            Request::Barrier { key, world_size } => {
                self.barrier(client, key, world_size, reply, woken)?;
            }
        }
        Ok(())
    }

    /// Drops the keys that begin so. Whoever waits for one goes on waiting.
    pub fn forget_keys(&mut self, prefix: &[u8]) {
        let all: Vec<Key> =
            self.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        for key in all {
            self.delete(&key);
        }
    }

    /// Whether the key was there.
    fn delete(&mut self, key: &[u8]) -> bool {
        let gone = self.keys.remove_entry(key);
        if let Some((key, value)) = &gone {
            self.stored -= key.len() + value.bytes().len() + OVERHEAD;
            self.fade(value);
        }
        gone.is_some()
    }

    /// Drops what a client waits for. The clients in `woken` are to be sent [`READY`].
    pub fn client_gone(&mut self, client: ClientId, woken: &mut Vec<ClientId>) {
        self.forget(client, woken);
    }

    fn forget(&mut self, client: ClientId, woken: &mut Vec<ClientId>) {
        self.waits.cancel(client);
        if let Some(queue) = self.waits.take_grant(client)
            && self.queues.contains_key(&queue)
        {
            self.waits.wake_one(&queue, woken);
        }
    }

    fn is_there(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key) || self.queues.contains_key(key)
    }

    fn read(&self, key: &[u8], reply: &mut Output) {
        match self.keys.get(key) {
            Some(Stored::Small(bytes)) => reply.string(bytes),
            Some(Stored::Large(bytes)) => reply.shared_string(bytes),
            None => reply.string(&[]),
        }
    }

    fn set(&mut self, key: Key, value: Stored, woken: &mut Vec<ClientId>) -> Result<(), Refused> {
        self.fits(self.growth(&key, value.bytes().len()))?;
        self.waits.wake_all(&key, woken);
        self.put(key, value);
        Ok(())
    }

    /// What the memory grows by when a key gets a value of this length.
    fn growth(&self, key: &[u8], len: usize) -> usize {
        match self.keys.get(key) {
            None => key.len() + len + OVERHEAD,
            // The old value stays until it is sent.
            Some(old) if old.shared_elsewhere().is_some() => len,
            Some(old) => len.saturating_sub(old.bytes().len()),
        }
    }

    /// Stores what fits, and wakes nobody.
    fn put(&mut self, key: Key, value: Stored) {
        let len = value.bytes().len();
        let new = key.len() + len + OVERHEAD;
        match self.keys.insert(key, value) {
            None => self.stored += new,
            Some(old) => {
                self.stored = self.stored - old.bytes().len() + len;
                self.fade(&old);
            }
        }
    }

    fn compare_set(
        &mut self,
        key: Key,
        expected: &[u8],
        desired: Value,
        reply: &mut Output,
        woken: &mut Vec<ClientId>,
    ) -> Result<(), Refused> {
        let now = self.keys.get(&key).map(Stored::bytes);
        match now {
            None if !expected.is_empty() => {
                // torch answers so; the caller cannot tell that the key is missing.
                reply.string(expected);
                Ok(())
            }
            Some(now) if now != expected => {
                self.read(&key, reply);
                self.waits.wake_all(&key, woken);
                Ok(())
            }
            None | Some(_) => {
                let value = Stored::new(desired);
                let answer = value.clone();
                self.set(key, value, woken)?;
                match &answer {
                    Stored::Small(bytes) => reply.string(bytes),
                    Stored::Large(bytes) => reply.shared_string(bytes),
                }
                Ok(())
            }
        }
    }

    fn add(&mut self, key: Key, amount: i64, woken: &mut Vec<ClientId>) -> Result<i64, Refused> {
        let sum = self.sum(&key, amount)?;
        self.set(key, Stored::new(sum.to_string().into_bytes().into_boxed_slice()), woken)?;
        Ok(sum)
    }

    /// As `std::stoll` reads the value; the sum wraps.
    fn sum(&self, key: &[u8], amount: i64) -> Result<i64, Refused> {
        match self.keys.get(key) {
            None => Ok(amount),
            Some(value) => {
                let number = leading_number(value.bytes()).ok_or(Refused::NotANumber)?;
                Ok(number.wrapping_add(amount))
            }
        }
    }

    fn append(&mut self, key: Key, value: Value, woken: &mut Vec<ClientId>) -> Result<(), Refused> {
        let Some(place) = self.keys.get(&key) else {
            return self.set(key, Stored::new(value), woken);
        };
        let before = place.bytes().len();
        let after = before + value.len();
        if after > self.value {
            return Err(Refused::ValueTooLong(after as u64));
        }
        self.fits(if place.shared_elsewhere().is_some() { after } else { value.len() })?;
        let place = self.keys.get_mut(&key).expect("the key was there a moment ago");
        // Where a client still reads the old value, it is copied; the old one fades.
        let faded = place.append(value);
        self.stored += after - before;
        self.note_faded(faded);
        self.waits.wake_all(&key, woken);
        Ok(())
    }

    fn push(&mut self, key: Key, value: Value, woken: &mut Vec<ClientId>) -> Result<(), Refused> {
        let new = if self.queues.contains_key(&key) { 0 } else { key.len() + 2 * OVERHEAD };
        let added = new + value.len() + OVERHEAD;
        self.fits(added)?;
        self.stored += added;
        self.waits.wake_one(&key, woken);
        self.queues.entry(key).or_default().push_back(value);
        Ok(())
    }

    fn pop(&mut self, client: ClientId, key: &Key, reply: &mut Output) {
        self.waits.use_grant(client, key);
        let Some(queue) = self.queues.get_mut(key) else {
            return reply.number(0);
        };
        reply.number(count(queue.len()));
        let value = queue.pop_front().expect("an empty queue is removed");
        self.stored -= value.len() + OVERHEAD;
        if queue.is_empty() {
            self.queues.remove(key);
            self.stored -= key.len() + 2 * OVERHEAD;
        }
        match Stored::new(value) {
            Stored::Small(bytes) => reply.string(&bytes),
            Stored::Large(bytes) => reply.shared_string(&bytes),
        }
    }

    fn wait(
        &mut self,
        client: ClientId,
        mut keys: Vec<Key>,
        reply: &mut Output,
    ) -> Result<(), Refused> {
        if self.waits.pending(client).is_some() {
            return Err(Refused::WaitsTwice);
        }
        keys.retain(|key| !self.is_there(key));
        if keys.is_empty() {
            reply.byte(READY);
            return Ok(());
        }
        self.fits(self.waits.cost(&keys))?;
        self.waits.add(client, keys, None);
        Ok(())
    }

    fn barrier(
        &mut self,
        client: ClientId,
        key: Key,
        world_size: i64,
        reply: &mut Output,
        woken: &mut Vec<ClientId>,
    ) -> Result<(), Refused> {
        if self.waits.pending(client).is_some() {
            return Err(Refused::WaitsTwice);
        }
        let come = self.sum(&key, 1)?;
        let value = Stored::new(come.to_string().into_bytes().into_boxed_slice());
        if come >= world_size {
            self.set(key, value, woken)?;
            reply.byte(READY);
            return Ok(());
        }
        // The counter is there now, but as in torch nobody is woken before all came.
        let waited = vec![key.clone()];
        self.fits(self.waits.cost(&waited) + self.growth(&key, value.bytes().len()))?;
        self.put(key, value);
        self.waits.add(client, waited, Some(world_size));
        Ok(())
    }

    /// Whether so many bytes more may be stored.
    fn fits(&mut self, more: usize) -> Result<(), Refused> {
        if self.memory() + more > self.memory {
            self.clear_faded();
            if self.memory() + more > self.memory {
                return Err(Refused::StoreFull);
            }
        }
        Ok(())
    }

    /// Keeps account of a value that is gone from the table but may still be being read.
    fn fade(&mut self, old: &Stored) {
        self.note_faded(old.shared_elsewhere());
    }

    fn note_faded(&mut self, faded: Option<(Weak<Vec<u8>>, usize)>) {
        if let Some((weak, len)) = faded {
            if self.fading.len() >= FADING && self.fading.len().is_power_of_two() {
                self.clear_faded();
            }
            self.fading_bytes += len;
            self.fading.push((weak, len));
        }
    }

    fn clear_faded(&mut self) {
        self.fading.retain(|(weak, _)| weak.strong_count() > 0);
        self.fading_bytes = self.fading.iter().map(|(_, len)| len).sum();
    }
}

#[cfg(any(test, fuzzing))]
impl State {
    /// What [`State::memory`] must be, added up anew.
    pub fn recount(&mut self) -> usize {
        self.clear_faded();
        let keys = self.keys.iter().map(|(k, v)| k.len() + v.bytes().len() + OVERHEAD);
        let queues = self.queues.iter().map(|(key, items)| {
            let items = items.iter().map(|item| item.len() + OVERHEAD).sum::<usize>();
            key.len() + 2 * OVERHEAD + items
        });
        keys.sum::<usize>() + queues.sum::<usize>() + self.fading_bytes + self.waits.recount()
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
