//! The rank store: a server for the protocol of `PyTorch`'s `TCPStore`, at `MASTER_PORT`.
//!
//! nvlaunch hosts the store itself, so that two launches never meet on a port, a restart never reads
//! a dead attempt's keys, the job outlives rank 0, and it can be said which rank never arrived.
//!
//! - `wire`: bytes to requests, sans-IO, for every generation of the protocol.
//! - `limits`: what is accepted, and who was refused.
//! - `state`: keys, waiters, queues, barriers of one attempt; pure.
//! - `renewal`: a default process group that is made anew; pure.
//! - `progress`: how far each rank has come, from what its clients ask; pure.
//! - `server`: the sockets: one thread, one epoll, which never starts a process.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod limits;
pub mod progress;
pub mod renewal;
pub mod server;
pub mod state;
pub mod wire;

use std::net::SocketAddr;

pub use self::limits::{Limits, Refusals, Refused};
pub use self::server::{Attempt, StoreConfig, StoreServer};
pub use self::state::{ClientId, Pending, State};
use self::wire::{Key, Request};

/// Sees what the clients of one attempt do. Called with the attempt's lock held: keep it short.
pub trait Observer: Send {
    /// A client connected.
    fn connected(&mut self, client: ClientId, peer: SocketAddr);
    /// A client asks something; the store has not acted on it yet, and will act on what is left in
    /// `request`. Before that it drops the keys that begin with one of the prefixes that come back.
    fn request(&mut self, client: ClientId, request: &mut Request) -> Vec<Key>;
    /// A client's connection ended. Not called for those that the end of the attempt closes.
    fn gone(&mut self, client: ClientId);
}

/// An observer that does not look.
impl Observer for () {
    fn connected(&mut self, _client: ClientId, _peer: SocketAddr) {}
    fn request(&mut self, _client: ClientId, _request: &mut Request) -> Vec<Key> {
        Vec::new()
    }
    fn gone(&mut self, _client: ClientId) {}
}
