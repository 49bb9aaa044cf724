//! Requests to bytes, as the clients of the generations write them. For tests.

use super::parser::{Generation, MAGIC};
use super::{Key, Request};

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn strings(out: &mut Vec<u8>, keys: &[Key]) {
    out.extend((keys.len() as u64).to_le_bytes());
    for key in keys {
        string(out, key);
    }
}

/// Appends what a client sends. A request that the generation does not have is not written; false.
pub fn encode(generation: Generation, request: &Request, out: &mut Vec<u8>) -> bool {
    let number: u8 = match request {
        Request::Validate => 0,
        Request::Set { .. } => 1,
        Request::CompareSet { .. } => 2,
        Request::Get { .. } => 3,
        Request::Add { .. } => 4,
        Request::Check { .. } => 5,
        Request::Wait { .. } => 6,
        Request::NumKeys => 7,
        Request::Delete { .. } => 8,
        Request::Append { .. } => 9,
        Request::MultiGet { .. } => 10,
        Request::MultiSet { .. } => 11,
        Request::CancelWait => 12,
        Request::Ping { .. } => 13,
        Request::QueuePush { .. } => 14,
        Request::QueuePop { .. } => 15,
        Request::QueueLen { .. } => 16,
        Request::ListKeys => 17,
        Request::Barrier { .. } => 18,
    };
    if generation == Generation::Current {
        out.push(number);
    } else if (1..=12).contains(&number) {
        out.push(number - 1);
    } else {
        return false;
    }
    match request {
        Request::Validate => out.extend(MAGIC.to_le_bytes()),
        Request::Ping { nonce } => out.extend(nonce.to_le_bytes()),
        Request::NumKeys | Request::CancelWait | Request::ListKeys => {}
        Request::Get { key }
        | Request::Delete { key }
        | Request::QueuePop { key }
        | Request::QueueLen { key } => string(out, key),
        Request::Set { key, value }
        | Request::Append { key, value }
        | Request::QueuePush { key, value } => {
            string(out, key);
            string(out, value);
        }
        Request::CompareSet { key, expected, desired } => {
            string(out, key);
            string(out, expected);
            string(out, desired);
        }
        Request::Add { key, amount: number } | Request::Barrier { key, world_size: number } => {
            string(out, key);
            out.extend(number.to_le_bytes());
        }
        Request::Check { keys } | Request::Wait { keys } | Request::MultiGet { keys } => {
            strings(out, keys);
        }
        Request::MultiSet { pairs } => {
            out.extend((pairs.len() as u64).to_le_bytes());
            for (key, value) in pairs {
                string(out, key);
                string(out, value);
            }
        }
    }
    true
}
