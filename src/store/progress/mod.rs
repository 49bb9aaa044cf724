//! How far each rank has come on its way through `init_process_group`, from what its clients ask of
//! the store. Pure: no clock, no socket, no `/proc`.
//!
//! It decides who is there, who is waited for, and what looks wrong. It never guesses: where the
//! requests leave two readings, it says [`standing::State::Unknown`], or leaves a list empty. It sends
//! nothing, changes no reply, and keeps no value. What the keys mean stands in [`keys`].
//!
//! - P1: a client belongs to a rank because its PING tells the pid of one of the rank's processes
//!   (torch 2.5 and later), because the caller says so, or, failing both, because it set the address
//!   of that rank number.
//! - P2: which rank *numbers* have joined the default group follows from keys alone, so it holds
//!   also where it is unknown whose a client is.
//! - P3: memory is bounded by the number of ranks, of open connections and of barriers kept
//!   ([`MAX_BARRIERS`]), whatever is sent.
//! - P4: one request costs no more than a look at [`MAX_KEYS`] keys.
//! - P5: nobody is missing where nobody waits.
//! - P6: a default group that is made anew is a gathering of its own: whoever was in the one before
//!   has yet to come.

pub mod keys;
mod report;
pub mod standing;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use self::keys::{Form, form, group_size};
use self::trace::{Barrier, Trace};
use super::ClientId;
use super::wire::Request;

/// How many keys of one request are looked at.
pub const MAX_KEYS: usize = 256;
/// How many barriers are kept at a time; the oldest is forgotten first.
pub const MAX_BARRIERS: usize = 64;
/// How many processes of each rank are kept.
const MAX_PROCESSES: usize = 64;
/// The longest barrier name that is kept, in bytes.
const MAX_NAME: usize = 512;

/// What a client of the store waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingView<'a> {
    /// Keys that do not exist yet, out of those it asked for.
    Keys(Vec<&'a [u8]>),
    /// A barrier of the protocol (op 18).
    Barrier {
        /// Its counter.
        key: &'a [u8],
        /// How many have to come.
        world_size: i64,
        /// How many have come.
        arrived: i64,
    },
}

/// What is known of the ranks of one attempt.
#[derive(Debug)]
pub struct Progress {
    world_size: u32,
    clients: BTreeMap<ClientId, Client>,
    /// The rank that a process belongs to.
    processes: BTreeMap<u32, u32>,
    /// What the closed connections of each rank had done.
    past: Vec<Trace>,
    /// The rank numbers that have joined the default group.
    joined: Vec<bool>,
    /// Which default group that is: 0 is the first of the attempt.
    generation: u32,
    barriers: VecDeque<Barrier>,
    /// Whether a client has gone of which it is not known whose it was.
    stranger_gone: bool,
}

/// One connection.
#[derive(Debug)]
struct Client {
    peer: SocketAddr,
    pid: Option<u32>,
    owner: Option<Owner>,
    has_spoken: bool,
    trace: Trace,
}

/// Whose a client is, and how that is known.
#[derive(Debug, Clone, Copy)]
struct Owner {
    rank: u32,
    /// By its pid or by the caller; else by the address it set.
    is_sure: bool,
}

impl Progress {
    /// Of a job of that many ranks, before the first client.
    pub fn new(world_size: u32) -> Self {
        let ranks = world_size as usize;
        Self {
            world_size,
            clients: BTreeMap::new(),
            processes: BTreeMap::new(),
            past: vec![Trace::default(); ranks],
            joined: vec![false; ranks],
            generation: 0,
            barriers: VecDeque::new(),
            stranger_gone: false,
        }
    }

    /// A client has connected.
    pub fn connected(&mut self, client: ClientId, peer: SocketAddr) {
        let trace = Trace { connected: true, ..Trace::default() };
        let new = Client { peer, pid: None, owner: None, has_spoken: false, trace };
        self.clients.insert(client, new);
    }

    /// A client has gone. What it had done stays with its rank.
    pub fn gone(&mut self, client: ClientId) {
        let Some(client) = self.clients.remove(&client) else { return };
        match client.owner.and_then(|owner| self.past.get_mut(owner.rank as usize)) {
            Some(past) => past.take_over(&client.trace),
            None => self.stranger_gone |= client.has_spoken,
        }
    }

    /// The process `pid` belongs to a rank: it is the rank itself or a descendant of it.
    pub fn rank_process(&mut self, rank: u32, pid: i32) {
        let Ok(pid) = u32::try_from(pid) else { return };
        let most = (self.world_size as usize).saturating_mul(MAX_PROCESSES);
        if rank >= self.world_size || (self.processes.len() >= most) {
            return;
        }
        self.processes.insert(pid, rank);
        for client in self.clients.values_mut().filter(|client| client.pid == Some(pid)) {
            client.owner = Some(Owner { rank, is_sure: true });
        }
    }

    /// A client belongs to a rank, as its connection shows.
    pub fn identify(&mut self, client: ClientId, rank: u32) {
        if let Some(client) = self.clients.get_mut(&client)
            && rank < self.world_size
        {
            client.owner = Some(Owner { rank, is_sure: true });
        }
    }

    /// The clients that are bound to no rank, or merely by the address they set.
    pub fn unidentified(&self) -> Vec<(ClientId, SocketAddr)> {
        self.unsure().map(|(&id, client)| (id, client.peer)).collect()
    }

    /// The pids that unidentified clients gave; the caller knows whose descendants they are.
    pub fn unknown_pids(&self) -> Vec<(ClientId, u32)> {
        self.unsure().filter_map(|(&id, client)| Some((id, client.pid?))).collect()
    }

    fn unsure(&self) -> impl Iterator<Item = (&ClientId, &Client)> {
        self.clients.iter().filter(|(_, client)| !client.owner.is_some_and(|owner| owner.is_sure))
    }

    /// A client asks this; to be called before it is done. Requests of unknown clients are ignored.
    pub fn request(&mut self, id: ClientId, request: &Request) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.has_spoken = true;
        match request {
            Request::Ping { nonce } => {
                client.pid = Some(*nonce);
                if let Some(&rank) = self.processes.get(nonce) {
                    client.owner = Some(Owner { rank, is_sure: true });
                }
            }
            Request::Set { key, value } => self.set(id, key, value),
            Request::MultiSet { pairs } => {
                for (key, value) in pairs.iter().take(MAX_KEYS) {
                    self.set(id, key, value);
                }
            }
            Request::Add { key, amount } => self.add(id, key, *amount),
            Request::Get { key } => client.trace.ask(form(key), true),
            Request::MultiGet { keys } => {
                keys.iter().take(MAX_KEYS).for_each(|key| client.trace.ask(form(key), true));
            }
            Request::Wait { keys } | Request::Check { keys } => {
                keys.iter().take(MAX_KEYS).for_each(|key| client.trace.ask(form(key), false));
            }
            Request::CompareSet { key, .. }
            | Request::Append { key, .. }
            | Request::Delete { key }
            | Request::QueuePush { key, .. }
            | Request::QueuePop { key }
            | Request::QueueLen { key }
            | Request::Barrier { key, .. } => client.trace.notice(form(key)),
            Request::Validate | Request::CancelWait | Request::NumKeys | Request::ListKeys => {}
        }
    }

    fn set(&mut self, id: ClientId, key: &[u8], value: &[u8]) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let form = form(key);
        client.trace.notice(form);
        match form {
            Form::Address { number, is_wrapper: false } => {
                let generation = keys::generation(key);
                client.trace.join(number, group_size(value), generation);
                if generation == self.generation.saturating_add(1) {
                    self.generation = generation;
                    self.joined.fill(false);
                    self.barriers.retain(|barrier| !barrier.is_init);
                }
                if generation != self.generation {
                    return;
                }
                if let Some(joined) = self.joined.get_mut(number as usize) {
                    *joined = true;
                    client.owner = client.owner.or(Some(Owner { rank: number, is_sure: false }));
                }
            }
            Form::InitBarrierDone | Form::BarrierDone { .. } => {
                let at = self.barriers.iter().position(|barrier| barrier.is_done_by(key));
                let done = at.and_then(|at| self.barriers.remove(at));
                if done.is_some_and(|barrier| barrier.is_init) {
                    let there = self.clients.values_mut().map(|client| &mut client.trace);
                    there
                        .filter(|trace| trace.number.is_some())
                        .for_each(|trace| trace.is_past_init = true);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, id: ClientId, key: &[u8], amount: i64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let form = form(key);
        client.trace.notice(form);
        let is_init = form == Form::InitBarrier;
        if !(is_init || matches!(form, Form::Barrier { .. })) || amount != 1 || key.len() > MAX_NAME
        {
            return;
        }
        let rank = client.owner.map(|owner| owner.rank);
        if is_init {
            let number = client.trace.number.or(rank);
            client.trace.number = number;
            if let Some(joined) = number.and_then(|number| self.joined.get_mut(number as usize)) {
                *joined = true;
            }
        }
        let at =
            self.barriers.iter().position(|barrier| *barrier.key == *key).unwrap_or_else(|| {
                if self.barriers.len() >= MAX_BARRIERS {
                    self.barriers.pop_front();
                }
                let ranks = BTreeSet::new();
                self.barriers.push_back(Barrier { key: key.into(), is_init, arrived: 0, ranks });
                self.barriers.len() - 1
            });
        let barrier = &mut self.barriers[at];
        barrier.arrived = barrier.arrived.saturating_add(1);
        barrier.ranks.extend(rank);
    }
}
