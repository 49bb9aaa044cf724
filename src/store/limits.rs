//! What the store accepts: sizes, counts, memory; and who was refused, and why.
//!
//! - L1: a refusal closes the one connection that caused it, and is counted.
//! - L2: no length that a client names is believed before it was compared with a limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

/// How many refusals are kept with their peer's address.
const EXAMPLES: usize = 8;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: u64 = 1024 * 1024 * 1024;

/// What the store accepts. None is smaller than in torch's libuv server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key. torch: 8 KiB (`MAX_STRING_LEN` in `TCPStoreLibUvBackend.cpp`).
    pub key: usize,
    /// Bytes of a value, also of one that was appended to. torch's libuv server: 8 MiB for each
    /// message (`MAX_PAYLOAD_LEN`); its older server had no limit, so this is more.
    pub value: usize,
    /// Keys in one request. torch: 131,072 (`MAX_KEY_COUNT`).
    pub keys: usize,
    /// Bytes of one request in all; torch has no such limit.
    pub request: usize,
    /// Bytes that one client has not read yet. Above it, it is closed.
    pub backlog: usize,
    /// Bytes of keys, values, queues and waits, with their overhead.
    pub memory: usize,
    /// Bytes of half-received requests and unread replies, of all clients. Above it, the client
    /// with the most is closed.
    pub transit: usize,
    /// Clients at one time.
    pub clients: usize,
}

impl Limits {
    /// The limits for a machine with this much memory and a process with this many descriptors.
    ///
    /// The store may have an eighth of the memory, 8 GiB at most, and what passes through it a
    /// quarter of that. A quarter of the descriptors, at most 1,024, is left to the rest of nvlaunch.
    pub fn new(machine_memory: u64, descriptors: u64) -> Self {
        let memory = (machine_memory / 8).clamp(GIB / 4, 8 * GIB);
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let clients = descriptors - (descriptors / 4).min(1024);
        Self {
            key: 8 * KIB,
            value: 64 * MIB,
            keys: 128 * KIB,
            request: (256 * MIB).min(memory / 4),
            backlog: (256 * MIB).min(memory / 4),
            memory,
            transit: memory / 4,
            clients: usize::try_from(clients.clamp(16, 1 << 20)).unwrap_or(1 << 20),
        }
    }
}

/// Why a client was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its first bytes are none that a store client sends.
    #[error("not a store client: it began with `{}`", .0.escape_ascii())]
    NotAClient([u8; 5]),
    /// An operation that this protocol does not have.
    #[error("unknown operation {0}")]
    UnknownOperation(u8),
    /// See [`Limits::key`].
    #[error("a key of {0} bytes is too long")]
    KeyTooLong(u64),
    /// See [`Limits::value`].
    #[error("a value of {0} bytes is too long")]
    ValueTooLong(u64),
    /// See [`Limits::keys`].
    #[error("a request with {0} keys has too many")]
    TooManyKeys(u64),
    /// See [`Limits::request`].
    #[error("a request of more than {0} bytes is too long")]
    RequestTooLong(usize),
    /// See [`Limits::backlog`].
    #[error("more than {0} bytes of replies were not read")]
    ReadsTooLittle(usize),
    /// Adding to what is not a number. torch closes the connection too.
    #[error("the value to be added to is not a number")]
    NotANumber,
    /// A second wait while one is pending: nothing would say which of them is answered.
    #[error("it asked to wait while it was waiting")]
    WaitsTwice,
    /// See [`Limits::memory`].
    #[error("the store is full")]
    StoreFull,
    /// See [`Limits::transit`].
    #[error("too much data is on its way, and most of it is this client's")]
    TransitFull,
    /// See [`Limits::clients`].
    #[error("there are too many clients")]
    TooManyClients,
    /// It came while no attempt runs.
    #[error("no attempt is running")]
    NoAttempt,
}

impl Refused {
    /// A name for counting, the same for all values.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NotAClient(_) => "not_a_client",
            Self::UnknownOperation(_) => "unknown_operation",
            Self::KeyTooLong(_) => "key_too_long",
            Self::ValueTooLong(_) => "value_too_long",
            Self::TooManyKeys(_) => "too_many_keys",
            Self::RequestTooLong(_) => "request_too_long",
            Self::ReadsTooLittle(_) => "reads_too_little",
            Self::NotANumber => "not_a_number",
            Self::WaitsTwice => "waits_twice",
            Self::StoreFull => "store_full",
            Self::TransitFull => "transit_full",
            Self::TooManyClients => "too_many_clients",
            Self::NoAttempt => "no_attempt",
        }
    }
}

/// Who was refused since the server started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// How often, by [`Refused::kind`].
    pub counts: BTreeMap<&'static str, u64>,
    /// The first few.
    pub examples: Vec<RefusedPeer>,
    /// How often no descriptor was left for a new client, which then waited.
    pub accept_pauses: u64,
}

/// One that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedPeer {
    /// Its address.
    pub peer: SocketAddr,
    /// Why, in words.
    pub reason: String,
}

impl Refusals {
    /// Counts one.
    pub fn add(&mut self, peer: SocketAddr, refused: Refused) {
        *self.counts.entry(refused.kind()).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(RefusedPeer { peer, reason: refused.to_string() });
        }
    }

    /// Whether somebody was refused besides late clients, which an end of an attempt brings.
    pub fn is_worth_a_line(&self) -> bool {
        let late = Refused::NoAttempt.kind();
        self.accept_pauses > 0 || self.counts.keys().any(|kind| *kind != late)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_machine() {
        let big = Limits::new(2 << 40, 1 << 20);
        assert_eq!(big.memory, 8 << 30);
        assert_eq!(big.clients, (1 << 20) - 1024);
        let small = Limits::new(8 << 30, 1024);
        assert_eq!((small.memory, small.clients), (1 << 30, 768));
        assert_eq!(Limits::new(0, 0).clients, 16);
        assert_eq!(Limits::new(u64::MAX, u64::MAX).clients, 1 << 20);
        for limits in [big, small] {
            assert!(limits.key >= 8 << 10 && limits.value >= 8 << 20 && limits.keys >= 131_072);
        }
    }

    #[test]
    fn only_the_first_examples_are_kept() {
        let mut refusals = Refusals::default();
        let peer = "127.0.0.1:9".parse().unwrap();
        for op in 0..20 {
            refusals.add(peer, Refused::UnknownOperation(op));
        }
        refusals.add(peer, Refused::NotAClient(*b"GET /"));
        assert_eq!(refusals.counts["unknown_operation"], 20);
        assert_eq!(refusals.total(), 21);
        assert_eq!(refusals.examples.len(), EXAMPLES);
        let json = serde_json::to_string(&refusals.examples[0]).unwrap();
        assert_eq!(json, r#"{"peer":"127.0.0.1:9","reason":"unknown operation 0"}"#);
    }
}
