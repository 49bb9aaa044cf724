//! Who waits for which keys.
//!
//! Thousands of ranks may each wait for the keys of all others, so a key is held once, however many
//! wait for it.

use std::collections::HashMap;
use std::sync::Arc;

use super::ClientId;
use crate::store::wire::Key;

/// What a wait takes for each of its keys.
const ENTRY: usize = 64;
/// What a key that is waited for takes besides its bytes.
const LINE: usize = 144;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending<'a> {
    /// These keys of its `WAIT` have not come.
    Keys(Missing<'a>),
    /// More clients at a barrier.
    Barrier {
        /// The counter.
        key: &'a [u8],
        /// How many must come.
        world_size: i64,
    },
}

/// The keys that have not come, in the order in which they were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing<'a> {
    keys: &'a [Option<Arc<[u8]>>],
    left: usize,
}

impl<'a> Missing<'a> {
    /// How many; a key that was named twice is counted twice.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Never: a wait without a missing key is over.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.keys.iter().flatten().map(|key| &**key)
    }
}

/// One place in the line for one key.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    /// Rises along the line.
    turn: u64,
    client: ClientId,
    /// Which of the client's keys.
    index: usize,
}

#[derive(Debug)]
struct Wait {
    turn: u64,
    /// None where the key has come.
    keys: Vec<Option<Arc<[u8]>>>,
    left: usize,
    world_size: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Waits {
    lines: HashMap<Arc<[u8]>, Vec<Waiter>>,
    clients: HashMap<ClientId, Wait>,
    /// Clients that were woken by an item of a queue and did not take one yet.
    grants: HashMap<ClientId, Key>,
    turn: u64,
    memory: usize,
}

impl Waits {
    /// Bytes, about.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// What waiting for these would take, at most.
    pub(super) fn cost(&self, keys: &[Key]) -> usize {
        let lines = keys.iter().filter(|key| !self.lines.contains_key(&***key));
        lines.map(|key| LINE + key.len()).sum::<usize>() + keys.len() * ENTRY
    }

    pub(super) fn pending(&self, client: ClientId) -> Option<Pending<'_>> {
        let wait = self.clients.get(&client)?;
        Some(match wait.world_size {
            Some(world_size) => {
                let key = wait.keys[0].as_deref().expect("a barrier waits for its one key");
                Pending::Barrier { key, world_size }
            }
            None => Pending::Keys(Missing { keys: &wait.keys, left: wait.left }),
        })
    }

    /// The client must not be waiting, and there must be a key.
    pub(super) fn add(&mut self, client: ClientId, keys: Vec<Key>, world_size: Option<i64>) {
        self.turn += 1;
        let turn = self.turn;
        let left = keys.len();
        self.memory += left * ENTRY;
        let keys = keys.into_iter().enumerate().map(|(index, key)| {
            let waiter = Waiter { turn, client, index };
            if let Some((key, _)) = self.lines.get_key_value(&*key) {
                let key = Arc::clone(key);
                self.lines.entry(Arc::clone(&key)).or_default().push(waiter);
                return Some(key);
            }
            let key: Arc<[u8]> = key.into();
            self.memory += LINE + key.len();
            self.lines.insert(Arc::clone(&key), vec![waiter]);
            Some(key)
        });
        let keys = keys.collect();
        self.clients.insert(client, Wait { turn, keys, left, world_size });
    }

    /// Nobody waits for this key any more.
    fn forget_line(&mut self, key: &[u8]) -> Vec<Waiter> {
        let Some(line) = self.lines.remove(key) else { return Vec::new() };
        self.memory -= LINE + key.len();
        line
    }

    /// A key came.
    pub(super) fn wake_all(&mut self, key: &[u8], woken: &mut Vec<ClientId>) {
        if self.lines.is_empty() {
            return;
        }
        for waiter in self.forget_line(key) {
            self.came(waiter, woken);
        }
    }

    /// An item came to a queue: the first for whom it was the last thing missing is woken.
    pub(super) fn wake_one(&mut self, queue: &Key, woken: &mut Vec<ClientId>) {
        let Some(line) = self.lines.get_mut(queue.as_ref()) else { return };
        let mut line = std::mem::take(line);
        let mut passed = 0;
        for &waiter in &line {
            passed += 1;
            if self.came(waiter, woken) {
                self.grants.insert(waiter.client, queue.clone());
                break;
            }
        }
        line.drain(..passed);
        if line.is_empty() {
            self.forget_line(queue);
        } else if let Some(place) = self.lines.get_mut(queue.as_ref()) {
            *place = line;
        }
    }

    /// True if the wait is over.
    fn came(&mut self, waiter: Waiter, woken: &mut Vec<ClientId>) -> bool {
        let wait =
            self.clients.get_mut(&waiter.client).expect("a wait leaves the lines when it ends");
        wait.keys[waiter.index] = None;
        wait.left -= 1;
        if wait.left > 0 {
            return false;
        }
        self.memory -= wait.keys.len() * ENTRY;
        self.clients.remove(&waiter.client);
        woken.push(waiter.client);
        true
    }

    /// Ends a client's wait without an answer.
    pub(super) fn cancel(&mut self, client: ClientId) {
        let Some(wait) = self.clients.remove(&client) else { return };
        self.memory -= wait.keys.len() * ENTRY;
        for (index, key) in wait.keys.iter().enumerate() {
            let Some(key) = key else { continue };
            let line = self.lines.get_mut(key).expect("who waits for a key stands in its line");
            let place = line
                .binary_search_by_key(&(wait.turn, index), |waiter| (waiter.turn, waiter.index))
                .expect("who waits for a key stands in its line");
            line.remove(place);
            if line.is_empty() {
                self.forget_line(key);
            }
        }
    }

    /// The client takes an item from this queue.
    pub(super) fn use_grant(&mut self, client: ClientId, queue: &Key) {
        if self.grants.get(&client).is_some_and(|granted| granted == queue) {
            self.grants.remove(&client);
        }
    }

    /// The queue whose item the client was woken for and did not take.
    pub(super) fn take_grant(&mut self, client: ClientId) -> Option<Key> {
        self.grants.remove(&client)
    }
}

#[cfg(any(test, fuzzing))]
impl Waits {
    /// What [`Waits::memory`] must be. Who waits stands in the lines, and nobody else.
    pub(super) fn recount(&self) -> usize {
        let waited: usize =
            self.clients.values().map(|wait| wait.keys.iter().flatten().count()).sum();
        let lines: usize = self.lines.values().map(Vec::len).sum();
        assert_eq!(waited, lines);
        assert!(self.lines.values().all(|line| !line.is_empty()));
        let entries: usize = self.clients.values().map(|wait| wait.keys.len() * ENTRY).sum();
        entries + self.lines.keys().map(|key| LINE + key.len()).sum::<usize>()
    }
}
