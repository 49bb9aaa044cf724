//! A default process group that is made anew within one attempt: which one a client belongs to.
//! Pure.
//!
//! The names of the default group's keys are those of the first one again after
//! `destroy_process_group`, so with one store for both a rank may read where another one *was*, and
//! connect to nobody. Here the second default group and each later one, a *generation*, has names of
//! its own: the keys of a client that belongs to generation 1 are put below `default_pg~1/` in place
//! of `default_pg/`. Nothing is taken away that a slower rank still has to read, and there is no
//! moment at which all have to agree.
//!
//! - R1: a client belongs to a generation from the moment when it publishes a rank's gloo address
//!   in the default group; other clients have the names as they are.
//! - R2: a rank begins the next generation if it publishes anew where it had got all addresses it
//!   needed. One that had not is repeating what failed: it stays and replaces its address.
//! - R3: it enters the oldest generation of its size that it has not been through, so each rank's
//!   n-th group meets the others' n-th group, whoever is first.
//! - R4: only keys that `PyTorch` itself makes for groups get other names ([`keys::in_generation`]).
//!   Addresses without the size of the group (`TORCH_GLOO_LAZY_INIT`, other transports) begin
//!   nothing.
//! - R5: a generation is forgotten when all of it had come through and no client of it is left.
//!   The first one is never forgotten: its names are those that others may look at.
//! - R6: memory is bounded by the number of ranks and of open connections.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::ClientId;
use super::progress::MAX_KEYS;
use super::progress::keys::{self, Form, form, group_size};
use super::wire::{Key, Request};

/// Generations that are kept at a time. Ranks are in two of them at most, unless the size changes.
const MAX_GENERATIONS: usize = 8;
/// Meshes of one generation: one for each network interface of gloo's and each device type.
const MAX_MESHES: usize = 16;

/// Which generation each client of an attempt is in.
#[derive(Debug)]
pub struct Renewal {
    world_size: u32,
    members: BTreeMap<ClientId, u32>,
    /// In the order in which they began.
    generations: Vec<Generation>,
    newest: u32,
}

/// A default group.
#[derive(Debug)]
struct Generation {
    number: u32,
    size: u32,
    /// What its keys begin with.
    prefix: Key,
    /// The ranks' places by the key without the rank.
    meshes: BTreeMap<Key, BTreeMap<u32, Place>>,
}

/// What a rank has done in a mesh.
#[derive(Debug)]
struct Place {
    client: ClientId,
    /// One more than the highest address it has got; they are got in order.
    got: u32,
    /// That, once it has all it needs.
    needs: u32,
}

impl Place {
    fn is_through(&self) -> bool {
        self.got >= self.needs
    }
}

impl Generation {
    /// Whether the rank has something to do there.
    fn is_open(&self, mesh: &[u8], number: u32) -> bool {
        let place = self.meshes.get(mesh).and_then(|mesh| mesh.get(&number));
        place.is_none_or(|place| !place.is_through())
    }

    fn is_complete(&self) -> bool {
        let is_through =
            |mesh: &BTreeMap<u32, Place>, n| mesh.get(&n).is_some_and(Place::is_through);
        self.meshes.values().all(|mesh| (0..self.size).all(|n| is_through(mesh, n)))
    }
}

impl Renewal {
    /// Of a job of that many ranks.
    pub fn new(world_size: u32) -> Self {
        Self { world_size, members: BTreeMap::new(), generations: Vec::new(), newest: 0 }
    }

    /// The generation that began last; 0 is the first.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// A client has gone.
    pub fn gone(&mut self, client: ClientId) {
        self.members.remove(&client);
    }

    /// A client asks this; its keys get the names of the client's generation. What begins with one of
    /// the prefixes that come back can be read by nobody any more.
    pub fn request(&mut self, client: ClientId, request: &mut Request) -> Vec<Key> {
        let mut over = Vec::new();
        match request {
            Request::Set { key, value } => self.publish(client, key, value, &mut over),
            Request::MultiSet { pairs } => {
                for (key, value) in pairs.iter().take(MAX_KEYS) {
                    self.publish(client, key, value, &mut over);
                }
            }
            Request::Get { key } => self.got(client, key),
            Request::MultiGet { keys } => {
                keys.iter().take(MAX_KEYS).for_each(|key| self.got(client, key));
            }
            _ => {}
        }
        if let Some(&generation) = self.members.get(&client).filter(|number| **number > 0) {
            for key in keys_of(request) {
                if let Some(name) = keys::in_generation(key, generation) {
                    *key = name;
                }
            }
        }
        over
    }

    fn publish(&mut self, client: ClientId, key: &[u8], address: &[u8], over: &mut Vec<Key>) {
        let Form::Address { number, is_wrapper: false } = form(key) else { return };
        let Some(size) = group_size(address) else { return };
        if size > self.world_size || number >= size {
            return;
        }
        let mesh = mesh(key);
        let now = self.members.get(&client).copied();
        let is_now = |generation: &&mut Generation| Some(generation.number) == now;
        let is_its =
            |generation: &Generation| generation.size == size && generation.is_open(mesh, number);
        let stays = self
            .generations
            .iter_mut()
            .find(is_now)
            .is_some_and(|generation| generation.is_open(mesh, number));
        let entered = if stays {
            now
        } else {
            self.generations.iter().find(|g| is_its(g)).map(|generation| generation.number)
        };
        let Some(entered) = entered.or_else(|| self.begin(key, mesh, number, size, over)) else {
            return;
        };
        self.members.insert(client, entered);
        let Some(generation) = self.generations.iter_mut().find(|g| g.number == entered) else {
            return;
        };
        if generation.meshes.len() < MAX_MESHES || generation.meshes.contains_key(mesh) {
            // Up to torch 2.4 a rank does not ask for its own address.
            let needs = if number + 1 == size { size - 1 } else { size };
            let places = generation.meshes.entry(mesh.into()).or_default();
            places.insert(number, Place { client, got: 0, needs });
        }
    }

    /// The generation of a rank that none is open for: another one, if there was one for it.
    fn begin(
        &mut self,
        key: &[u8],
        mesh: &[u8],
        number: u32,
        size: u32,
        over: &mut Vec<Key>,
    ) -> Option<u32> {
        if let Some(newest) = self.generations.last() {
            // A rank that is wrong about the size meets the others as it would without all this.
            if newest.is_open(mesh, number) && !newest.is_complete() {
                return Some(newest.number);
            }
            self.forget(over);
            if self.generations.len() >= MAX_GENERATIONS {
                return None;
            }
            self.newest = self.newest.checked_add(1)?;
        }
        let prefix = keys::generation_prefix(key, self.newest)?;
        let number = self.newest;
        self.generations.push(Generation { number, size, prefix, meshes: BTreeMap::new() });
        Some(number)
    }

    /// Drops what is over: the newest one is not.
    fn forget(&mut self, over: &mut Vec<Key>) {
        let members = &self.members;
        let newest = self.newest;
        self.generations.retain(|generation| {
            let is_over = generation.number < newest
                && generation.is_complete()
                && !members.values().any(|&number| number == generation.number);
            if is_over && generation.number > 0 {
                over.push(generation.prefix.clone());
            }
            !is_over
        });
    }

    fn got(&mut self, client: ClientId, key: &[u8]) {
        let Some(member) = self.members.get(&client) else { return };
        let Form::Address { number, is_wrapper: false } = form(key) else { return };
        let generation = self.generations.iter_mut().find(|g| g.number == *member);
        let Some(mesh) = generation.and_then(|g| g.meshes.get_mut(mesh(key))) else { return };
        for place in mesh.values_mut().filter(|place| place.client == client) {
            place.got = place.got.max(number.saturating_add(1));
        }
    }
}

/// The key of an address without the rank's number.
fn mesh(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|&b| b == b'/').unwrap_or(key.len());
    &key[..end]
}

fn keys_of(request: &mut Request) -> Vec<&mut Key> {
    match request {
        Request::Set { key, .. }
        | Request::CompareSet { key, .. }
        | Request::Get { key }
        | Request::Add { key, .. }
        | Request::Delete { key }
        | Request::Append { key, .. }
        | Request::QueuePush { key, .. }
        | Request::QueuePop { key }
        | Request::QueueLen { key }
        | Request::Barrier { key, .. } => vec![key],
        Request::Check { keys } | Request::Wait { keys } | Request::MultiGet { keys } => {
            keys.iter_mut().collect()
        }
        Request::MultiSet { pairs } => pairs.iter_mut().map(|(key, _)| key).collect(),
        Request::Validate
        | Request::CancelWait
        | Request::NumKeys
        | Request::Ping { .. }
        | Request::ListKeys => Vec::new(),
    }
}
