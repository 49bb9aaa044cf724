//! What a key of the store means: which of `PyTorch`'s own keys it is.
//!
//! The client puts `/` before each key but `init/`; `PrefixStore` joins its prefixes with one more
//! `/`. The forms, measured with torch 2.4.1 and 2.15.0 (gloo, by a server that logs) or
//! read in the source and never run (NCCL):
//!
//! | key, without the first `/` | who | source |
//! |---|---|---|
//! | `init/` (raw) | ADD 1 by each client with a world size | `TCPStore.cpp` |
//! | `/worker/attempt_N/…` before all below | torch ≤ 2.5 with `TORCHELASTIC_USE_AGENT_STORE` | `rendezvous.py` |
//! | `default_pg/G//DEV//I/R` | SET by rank R of the default group: its gloo address; then WAIT, WAIT, GET of 0, 1, 2, … in order (≤ 2.4: without its own; batches by WAIT, `MULTI_GET` where gloo's second store interface is on; on demand where `TORCH_GLOO_LAZY_INIT` is set) | gloo `transport/tcp/context.cc`, `ProcessGroupGloo.cpp` |
//! | `default_pg/G//DEV//pg_wrapper:G/I/R` | the same for the helper group of `TORCH_DISTRIBUTED_DEBUG=DETAIL` | `distributed_c10d.py` |
//! | `default_pg/store_based_barrier_key:G` | ADD 1, ADD 0, then WAIT `…:last_worker`, which the last one SETs; only with `TORCH_DIST_INIT_BARRIER=1` | `distributed_c10d.py` |
//! | `default_pg/G//DEV//0`, `…//UniqueNCCLID:I`, `…//nccl_storekey_…` | the NCCL id of the default group: SET by rank 0 (by the roots, above 128 ranks), WAIT and GET by the others; in the first collective, or in `init_process_group` with a device id. The last form is that of 2.15, whose NCCL backend binds a device in any case | `ProcessGroupNCCL.cpp`, `nccl2/NCCLBootstrap.cpp` |
//! | `exception_dump` | CHECK, each second, by a rank whose default NCCL group exists (where dumps are on, the default of later 2.x) | `ProcessGroupNCCL.cpp` |
//! | `default_pg/G//NAME//DEV//…` | the same for `new_group`; R counts within the group | `distributed_c10d.py` |
//! | `default_pg/G//store_based_barrier_key:NAME` | `new_group` with the init barrier, all ranks | `distributed_c10d.py` |
//! | `default_pg/G//NAME//store_based_barrier_key:NAME` | the same, members only | `distributed_c10d.py` |
//! | `KEY/num_members`, `KEY/last_member` | `Store.barrier` through a prefix: ADD 1, then WAIT, which the last one SETs | `Store.cpp`, measured 2.15 |
//! | `rpc_prefix_N/…` | `init_rpc` and its shutdown | `rpc/__init__.py`, measured |
//!
//! `G` is `0`, also for a default group that is made anew; the keys of the first one are still there
//! then, which is why [`super::super::renewal`] puts those of the second below `default_pg~1/`, and so
//! on. By its source, NCCL before 2.15 leaves no key in `init_process_group` without a device id.
//! `monitored_barrier` and gloo's collectives use no key.

use crate::diagnose::secrets;
use crate::store::wire::Key;

/// The most characters of a user's key that are shown.
const SHOWN: usize = 60;

/// The meaning of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form<'k> {
    /// The count of clients.
    Clients,
    /// The gloo address of a rank of the default group.
    Address {
        /// The rank number that stands in the key.
        number: u32,
        /// Whether it is that of the helper group for debugging.
        is_wrapper: bool,
    },
    /// The count of ranks in the barrier at the end of `init_process_group`.
    InitBarrier,
    /// What the last one in that barrier sets.
    InitBarrierDone,
    /// The NCCL id of the default group.
    NcclId,
    /// What NCCL groups look at each second.
    DumpSignal,
    /// The set-up of another process group, by name.
    Group(&'k [u8]),
    /// The count of ranks in a barrier of the user, or of another group's set-up.
    Barrier {
        /// Its name.
        name: &'k [u8],
        /// Whether each rank of the job has to come.
        is_worldwide: bool,
    },
    /// What the last one in such a barrier sets.
    BarrierDone {
        /// Its name.
        name: &'k [u8],
        /// Whether each rank of the job has to come.
        is_worldwide: bool,
    },
    /// `init_rpc`.
    Rpc,
    /// Anything else: a user's key, without the prefixes of `PyTorch`.
    Other(&'k [u8]),
}

impl Form<'_> {
    /// Whether it belongs to the set-up of the default group.
    pub fn is_init(self) -> bool {
        matches!(self, Self::Address { .. } | Self::InitBarrier | Self::InitBarrierDone)
    }

    /// The rank number whose address it is.
    pub fn number(self) -> Option<u32> {
        match self {
            Self::Address { number, .. } => Some(number),
            _ => None,
        }
    }
}

/// What the key means.
pub fn form(key: &[u8]) -> Form<'_> {
    if key == b"init/" {
        return Form::Clients;
    }
    let key = without_attempt(key.strip_prefix(b"/").unwrap_or(key));
    if key == b"exception_dump" {
        return Form::DumpSignal;
    }
    if key.starts_with(b"rpc_prefix_") {
        return Form::Rpc;
    }
    let Some((_, rest)) = default_group(key) else { return users(key) };
    if let Some(name) = rest.strip_prefix(BARRIER) {
        return if name.ends_with(LAST) { Form::InitBarrierDone } else { Form::InitBarrier };
    }
    let Some((_, rest)) = split(rest) else { return users(rest) };
    if let Some(name) = rest.strip_prefix(BARRIER) {
        return group_barrier(name, true);
    }
    let Some((first, below)) = split(rest) else { return users(rest) };
    if let Some(name) = below.strip_prefix(BARRIER) {
        return group_barrier(name, false);
    }
    if let Some((device, tail)) = split(below) {
        return match backend(device, tail) {
            Some(_) => Form::Group(first),
            None => users(rest),
        };
    }
    backend(first, below).unwrap_or_else(|| users(rest))
}

/// What the keys of the default group begin with.
const DEFAULT: &[u8] = b"default_pg";
/// Between that and the number of a default group that is not the first.
const MARK: u8 = b'~';

/// Takes the default group's prefix off: its generation, and the rest.
fn default_group(key: &[u8]) -> Option<(u32, &[u8])> {
    let rest = key.strip_prefix(DEFAULT)?;
    let at = rest.iter().position(|&b| b == b'/')?;
    let generation = match &rest[..at] {
        [] => 0,
        [MARK, digits @ ..] => number(digits)?,
        _ => return None,
    };
    Some((generation, &rest[at + 1..]))
}

/// The generation of a default group that a key belongs to; 0 is the first, and all other keys.
pub fn generation(key: &[u8]) -> u32 {
    let key = without_attempt(key.strip_prefix(b"/").unwrap_or(key));
    default_group(key).map_or(0, |(generation, _)| generation)
}

/// What the keys of that generation begin with, where this is a key of the default group.
pub fn generation_prefix(key: &[u8], generation: u32) -> Option<Key> {
    let inner = without_attempt(key.strip_prefix(b"/").unwrap_or(key));
    default_group(inner)?;
    let mut prefix = key[..key.len() - inner.len()].to_vec();
    prefix.extend(DEFAULT);
    if generation > 0 {
        prefix.push(MARK);
        prefix.extend(generation.to_string().as_bytes());
    }
    prefix.push(b'/');
    Some(prefix.into())
}

/// The name in that generation of a key that `PyTorch` makes for a process group; `None` for all
/// others, such as a user's below the default group's prefix.
pub fn in_generation(key: &[u8], generation: u32) -> Option<Key> {
    let is_of_a_group = match form(key) {
        Form::Address { .. }
        | Form::InitBarrier
        | Form::InitBarrierDone
        | Form::NcclId
        | Form::Group(_) => true,
        Form::Barrier { .. } | Form::BarrierDone { .. } => {
            key.windows(BARRIER.len()).any(|part| part == BARRIER)
        }
        Form::Clients | Form::DumpSignal | Form::Rpc | Form::Other(_) => false,
    };
    let inner = without_attempt(key.strip_prefix(b"/").unwrap_or(key));
    let (_, rest) = default_group(inner).filter(|_| is_of_a_group)?;
    let mut name = generation_prefix(key, generation)?.into_vec();
    name.extend(rest);
    Some(name.into())
}

const BARRIER: &[u8] = b"store_based_barrier_key:";
const LAST: &[u8] = b":last_worker";

fn group_barrier(name: &[u8], is_worldwide: bool) -> Form<'_> {
    match name.strip_suffix(LAST) {
        Some(name) => Form::BarrierDone { name, is_worldwide },
        None => Form::Barrier { name, is_worldwide },
    }
}

/// The keys of one backend of a group: below its device.
fn backend<'k>(device: &[u8], tail: &'k [u8]) -> Option<Form<'k>> {
    if device.is_empty() || !device.iter().all(u8::is_ascii_lowercase) {
        return None;
    }
    let (above, last) = match tail.iter().rposition(|&b| b == b'/') {
        Some(at) => (&tail[..at], &tail[at + 1..]),
        None => (&[][..], tail),
    };
    if last.starts_with(b"nccl_storekey_") || last.strip_prefix(b"UniqueNCCLID:").is_some() {
        return Some(Form::NcclId);
    }
    if above.is_empty() {
        return (tail == b"0").then_some(Form::NcclId);
    }
    let (wrapper, context) = match above.iter().rposition(|&b| b == b'/') {
        Some(at) => (&above[..at], &above[at + 1..]),
        None => (&[][..], above),
    };
    let is_wrapper = wrapper.starts_with(b"pg_wrapper:");
    if number(context).is_none() || !(wrapper.is_empty() || is_wrapper) {
        return None;
    }
    Some(Form::Address { number: number(last)?, is_wrapper })
}

/// A key that is none of `PyTorch`'s own.
fn users(key: &[u8]) -> Form<'_> {
    if let Some(name) = key.strip_suffix(b"/num_members") {
        Form::Barrier { name, is_worldwide: false }
    } else if let Some(name) = key.strip_suffix(b"/last_member") {
        Form::BarrierDone { name, is_worldwide: false }
    } else {
        Form::Other(key)
    }
}

/// At the first `//`.
fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = key.windows(2).position(|pair| pair == b"//")?;
    Some((&key[..at], &key[at + 2..]))
}

fn without_attempt(key: &[u8]) -> &[u8] {
    let rest = key.strip_prefix(b"/worker/attempt_").and_then(|rest| {
        let at = rest.iter().position(|&b| b == b'/')?;
        number(&rest[..at]).map(|_| &rest[at + 1..])
    });
    rest.unwrap_or(key)
}

/// A decimal number, without a sign.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// How many ranks the sender of this gloo address thinks its group has: the address carries one
/// sequence number of eight bytes for each (gloo `transport/tcp/context.cc`, `Rank::bytes`: length
/// and text of the host name, length and bytes of the address, the numbers). Up to torch 2.1 it is
/// one whole address for each other rank (measured with 2.0.1 and 2.1.2). `None` for a lazy group,
/// which sends none, and for any other transport.
pub fn group_size(address: &[u8]) -> Option<u32> {
    /// `sockaddr_storage` and a sequence number.
    const ADDRESS: usize = 136;
    /// `AF_INET` and `AF_INET6`, as a socket address begins.
    const FAMILIES: [[u8; 2]; 2] = [[2, 0], [10, 0]];
    let others = address.chunks_exact(ADDRESS);
    let is_old = others.remainder().is_empty()
        && others.clone().all(|other| FAMILIES.iter().any(|family| other.starts_with(family)));
    // A host name of two or ten bytes looks alike, with a zero where here the port is.
    if is_old && address.get(2..4).is_some_and(|port| port != [0, 0]) {
        return u32::try_from(others.len() + 1).ok();
    }
    let length = |at: usize| {
        let bytes = address.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let host = length(0).filter(|&host| host <= 255)?;
    let at = 8 + host;
    let rest = address.len().checked_sub(at + 8 + ADDRESS)?;
    if length(at)? != ADDRESS || rest == 0 || rest % 8 != 0 {
        return None;
    }
    u32::try_from(rest / 8).ok()
}

/// A key as people may see it: escaped, at most 60 characters, without what looks like a secret.
pub fn shown(key: &[u8]) -> String {
    // A key may be 8 KiB long; no more of it is looked at than can be shown.
    let key = String::from_utf8_lossy(&key[..key.len().min(4 * SHOWN)]);
    let key: String = secrets::redact(&[key]).escape_debug().collect();
    match key.char_indices().nth(SHOWN) {
        None => key,
        Some(_) => key.chars().take(SHOWN - 1).chain(['…']).collect(),
    }
}
