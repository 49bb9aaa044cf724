//! The wire protocol of `PyTorch`'s `TCPStore`: bytes in, requests out; sans-IO.
//!
//! There is no version in the protocol, but torch 2.2 renumbered the operations when it put a
//! `VALIDATE` in front of them, so the first bytes tell two generations apart. The numbers, and
//! what they are followed by (integers are little-endian, `str` is a `u64` length and bytes):
//!
//! | request | to 2.0 | 2.1 | from 2.2 | fields | reply |
//! |---|---|---|---|---|---|
//! | `VALIDATE` | | | 0 | `u32` 0x3C85F7CE | |
//! | `SET` | 0 | 0 | 1 | key, value | |
//! | `COMPARE_SET` | 1 | 1 | 2 | key, expected, desired | value |
//! | `GET` | 2 | 2 | 3 | key | value |
//! | `ADD` | 3 | 3 | 4 | key, `i64` | `i64` |
//! | `CHECK` | 4 | 4 | 5 | `u64` n, n keys | `u8` 0 ready, 1 not |
//! | `WAIT` | 5 | 5 | 6 | `u64` n, n keys | `u8` 0, once all exist |
//! | `GETNUMKEYS` | 6 | 6 | 7 | | `i64` |
//! | `WATCH_KEY` | 7 | | | key | not answered here |
//! | `DELETE_KEY` | 8 | 7 | 8 | key | `i64` 0 or 1 |
//! | `APPEND` | | 8 | 9 | key, value | |
//! | `MULTI_GET` | | 9 | 10 | `u64` n, n keys | n values |
//! | `MULTI_SET` | | 10 | 11 | `i64` n, n times key, value | |
//! | `CANCEL_WAIT` | | 11 | 12 | | `u8` 1 |
//! | `PING` (2.5) | | | 13 | `u32` | the same `u32` |
//! | `QUEUE_PUSH` (2.8) | | | 14 | key, value | |
//! | `QUEUE_POP` (2.8) | | | 15 | key | `i64` length before; the item, if any |
//! | `QUEUE_LEN` (2.8) | | | 16 | key | `i64` |
//! | `LIST_KEYS` (2.10) | | | 17 | | `i64` n, n keys |
//! | `BARRIER` (2.12) | | | 18 | key, `i64` | `u8` 0, once that many came |
//!
//! What cannot be told apart: torch 2.0 and older, and 2.1. Their numbers agree up to 6. From 7
//! on this module reads them as 2.1 does. So of an old client (to 2.0) `WATCH_KEY` is taken for
//! `DELETE_KEY`, with the same fields, and `DELETE_KEY` for the beginning of an `APPEND`, which
//! then waits for a value that never comes. Neither is sent by `torch.distributed` itself.
//! Everything else an old client asks is answered, as the clients of 2.0.1 and 2.1.2 show
//! (`tests/heavy`).

#[cfg(any(test, fuzzing))]
pub mod encode;
pub mod parser;
pub mod reply;
#[cfg(test)]
mod tests;

/// A key, as it is sent: with a leading `/`, except `init/`.
pub type Key = Box<[u8]>;
/// A value.
pub type Value = Box<[u8]>;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Op 0 (torch 2.2 and later): the client speaks this protocol. No reply.
    Validate,
    /// Stores a value. No reply.
    Set {
        /// Its key.
        key: Key,
        /// The value.
        value: Value,
    },
    /// Stores `desired` where the value is `expected`; the reply is the value now.
    CompareSet {
        /// The key.
        key: Key,
        /// The value it must have; empty also stands for "none".
        expected: Value,
        /// The value it gets.
        desired: Value,
    },
    /// The reply is the value.
    Get {
        /// The key.
        key: Key,
    },
    /// Adds to a decimal counter; the reply is its new value.
    Add {
        /// The key.
        key: Key,
        /// What is added.
        amount: i64,
    },
    /// Whether all keys exist.
    Check {
        /// The keys.
        keys: Vec<Key>,
    },
    /// Answered when all keys exist.
    Wait {
        /// The keys.
        keys: Vec<Key>,
    },
    /// Ends this client's wait.
    CancelWait,
    /// How many keys there are.
    NumKeys,
    /// Removes a key.
    Delete {
        /// The key.
        key: Key,
    },
    /// Appends to a value. No reply.
    Append {
        /// The key.
        key: Key,
        /// What is appended.
        value: Value,
    },
    /// The reply is every value.
    MultiGet {
        /// The keys.
        keys: Vec<Key>,
    },
    /// Stores several. No reply.
    MultiSet {
        /// Keys and values.
        pairs: Vec<(Key, Value)>,
    },
    /// The reply is the same number: the client's process id (torch 2.5 and later).
    Ping {
        /// `getpid()` of the client.
        nonce: u32,
    },
    /// Appends to a queue. No reply.
    QueuePush {
        /// The queue.
        key: Key,
        /// The item.
        value: Value,
    },
    /// Takes the first of a queue.
    QueuePop {
        /// The queue.
        key: Key,
    },
    /// The length of a queue.
    QueueLen {
        /// The queue.
        key: Key,
    },
    /// Every key.
    ListKeys,
    /// Answered when this many clients (in all) have come (torch 2.12 and later).
    Barrier {
        /// The counter.
        key: Key,
        /// How many must come.
        world_size: i64,
    },
}
