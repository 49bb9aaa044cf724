//! What the fuzzers run: `fuzz/` with cargo-fuzz, and the tests below with random bytes.
//!
//! Each entry takes any bytes and panics if a rule is broken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::limits::{Limits, Refused};
use super::state::{ClientId, Pending, State};
use super::wire::Request;
use super::wire::encode::encode;
use super::wire::parser::{Generation, Parser};
use super::wire::reply::Output;

/// Small limits, so that short inputs reach them.
pub const LIMITS: Limits = Limits {
    key: 300,
    value: 5000,
    keys: 300,
    request: 20_000,
    backlog: 100_000,
    memory: 40_000,
    transit: 1 << 20,
    clients: 8,
};

/// All requests in the bytes as they are cut by `cuts`; and why the rest was refused.
fn parse(bytes: &[u8], mut cuts: impl FnMut() -> usize) -> (Vec<Request>, Option<String>) {
    let mut parser = Parser::new(LIMITS);
    let mut requests = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + cuts().max(1));
        let mut input = &bytes[at..end];
        at = end;
        loop {
            match parser.next(&mut input) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(refused) => return (requests, Some(refused.kind().to_owned())),
            }
        }
        assert!(input.is_empty(), "the parser left bytes that it could not use");
        // W2: twice what has arrived (a buffer that doubles) and 16 bytes for each 8 of a key, twice.
        let bound = 8 * end + 8192;
        assert!(parser.allocated() <= bound, "{} bytes for {end}", parser.allocated());
    }
    (requests, None)
}

/// Any bytes, cut anyhow, are the same requests; nothing is allocated beyond what came.
pub fn wire(data: &[u8]) {
    let (cuts, bytes) = data.split_at(data.len().min(8));
    let whole = parse(bytes, || usize::MAX);
    let mut cuts = cuts.iter().cycle();
    let pieces = parse(bytes, || usize::from(*cuts.next().unwrap_or(&1)));
    // Only what is shown of the first bytes depends on the cuts, and that is not compared.
    assert_eq!(whole, pieces);
    assert_eq!(whole, parse(bytes, || 1));
    // What was understood means the same when it is written again.
    let generation = if whole.0.first() == Some(&Request::Validate) {
        Generation::Current
    } else {
        Generation::Old
    };
    let mut again = Vec::new();
    for request in &whole.0 {
        assert!(encode(generation, request, &mut again), "{request:?} of {generation:?}");
    }
    assert!(bytes.starts_with(&again), "other bytes were taken than what was understood");
}

/// Reads values from fuzzed bytes; zeros after their end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn key(&mut self) -> Box<[u8]> {
        let names: [&[u8]; 6] = [b"/a", b"/b", b"/c", b"/d", b"init/", b""];
        Box::from(names[usize::from(self.byte()) % names.len()])
    }

    fn keys(&mut self) -> Vec<Box<[u8]>> {
        (0..self.byte() % 5).map(|_| self.key()).collect()
    }

    fn value(&mut self) -> Box<[u8]> {
        match self.byte() {
            n @ 0..16 => n.to_string().into_bytes().into_boxed_slice(),
            16..24 => Box::from(&b"-9223372036854775808"[..]),
            24..32 => Box::from(&b" 12x"[..]),
            32..40 => Box::default(),
            40..48 => Box::from(&b"word"[..]),
            // Around where a value begins to be shared with replies.
            n @ 48..64 => vec![b'7'; 4088 + usize::from(n % 16)].into_boxed_slice(),
            n => vec![n; usize::from(n) * 16].into_boxed_slice(),
        }
    }

    fn number(&mut self) -> i64 {
        match self.byte() {
            0 => i64::MAX,
            1 => i64::MIN,
            n => i64::from(n % 8) - 2,
        }
    }

    fn request(&mut self) -> Request {
        match self.byte() % 22 {
            0 => Request::Validate,
            1 => Request::Set { key: self.key(), value: self.value() },
            2 => Request::CompareSet {
                key: self.key(),
                expected: self.value(),
                desired: self.value(),
            },
            3 => Request::Get { key: self.key() },
            4 => Request::Add { key: self.key(), amount: self.number() },
            5 => Request::Check { keys: self.keys() },
            6 | 19 | 20 => Request::Wait { keys: self.keys() },
            7 => Request::NumKeys,
            8 => Request::Delete { key: self.key() },
            9 => Request::Append { key: self.key(), value: self.value() },
            10 => Request::MultiGet { keys: self.keys() },
            11 => Request::MultiSet {
                pairs: (0..self.byte() % 4).map(|_| (self.key(), self.value())).collect(),
            },
            12 => Request::CancelWait,
            13 => Request::Ping { nonce: u32::from(self.byte()) },
            14 | 21 => Request::QueuePush { key: self.key(), value: self.value() },
            15 => Request::QueuePop { key: self.key() },
            16 => Request::QueueLen { key: self.key() },
            17 => Request::ListKeys,
            _ => Request::Barrier { key: self.key(), world_size: self.number() },
        }
    }
}

/// The same store, written as simply as can be.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    queues: BTreeMap<Vec<u8>, VecDeque<Vec<u8>>>,
    /// In the order in which they began: client, keys that are missing, size of a barrier.
    waits: Vec<(ClientId, Vec<Vec<u8>>, Option<i64>)>,
    grants: BTreeMap<ClientId, Vec<u8>>,
}

impl Model {
    fn there(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key) || self.queues.get(key).is_some_and(|queue| !queue.is_empty())
    }

    fn wake(&mut self, key: &[u8], all: bool) -> Vec<ClientId> {
        let mut woken = Vec::new();
        for (client, missing, _) in &mut self.waits {
            let before = missing.len();
            missing.retain(|other| other != key);
            if missing.is_empty() && before > 0 {
                woken.push(*client);
                if !all {
                    self.grants.insert(*client, key.to_vec());
                    break;
                }
            }
        }
        self.waits.retain(|(_, missing, _)| !missing.is_empty());
        woken
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Vec<ClientId> {
        self.keys.insert(key.to_vec(), value.to_vec());
        self.wake(key, true)
    }

    /// `None` where the client must be refused.
    fn plus(&self, key: &[u8], amount: i64) -> Option<i64> {
        let Some(value) = self.keys.get(key) else { return Some(amount) };
        let text: String = value.iter().map(|&b| char::from(b)).collect();
        let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
        let end = text
            .char_indices()
            .find(|&(i, c)| !(c.is_ascii_digit() || (i == 0 && (c == '-' || c == '+'))))
            .map_or(text.len(), |(i, _)| i);
        text[..end].parse::<i64>().ok().map(|number| number.wrapping_add(amount))
    }

    fn waits(&self, client: ClientId) -> bool {
        self.waits.iter().any(|(c, ..)| *c == client)
    }

    fn forget(&mut self, client: ClientId) -> Vec<ClientId> {
        self.waits.retain(|(c, ..)| *c != client);
        match self.grants.remove(&client) {
            Some(queue) if self.queues.get(&queue).is_some_and(|queue| !queue.is_empty()) => {
                self.wake(&queue, false)
            }
            _ => Vec::new(),
        }
    }

    /// Reply and woken clients; `None` where the client must be refused.
    fn step(&mut self, client: ClientId, request: &Request) -> Option<(Vec<u8>, Vec<ClientId>)> {
        let mut reply = Vec::new();
        let mut woken = Vec::new();
        let number = |n: usize| (n as u64).to_le_bytes().to_vec();
        let string = |b: &[u8]| [&(b.len() as u64).to_le_bytes(), b].concat();
        let value = |model: &Self, key: &[u8]| string(model.keys.get(key).map_or(&[], |v| v));
        match request {
            Request::Validate => {}
            Request::Ping { nonce } => reply.extend(nonce.to_le_bytes()),
            Request::Set { key, value } => woken = self.set(key, value),
            Request::MultiSet { pairs } => {
                for (key, value) in pairs {
                    woken.extend(self.set(key, value));
                }
            }
            Request::CompareSet { key, expected, desired } => match self.keys.get(&**key) {
                None if !expected.is_empty() => reply = string(expected),
                now => {
                    let wins = now.is_none_or(|now| **now == **expected);
                    woken = if wins { self.set(key, desired) } else { self.wake(key, true) };
                    reply = value(self, key);
                }
            },
            Request::Get { key } => reply = value(self, key),
            Request::MultiGet { keys } => {
                reply = keys.iter().flat_map(|key| value(self, key)).collect();
            }
            Request::Add { key, amount } => {
                let sum = self.plus(key, *amount)?;
                woken = self.set(key, sum.to_string().as_bytes());
                reply = sum.to_le_bytes().to_vec();
            }
            Request::Append { key, value } => {
                let all = [self.keys.get(&**key).map_or(&[][..], |v| v), value].concat();
                // A single value has been limited by the parser already.
                if self.keys.contains_key(&**key) && all.len() > LIMITS.value {
                    return None;
                }
                woken = self.set(key, &all);
            }
            Request::Delete { key } => {
                reply = number(usize::from(self.keys.remove(&**key).is_some()));
            }
            Request::Check { keys } => {
                reply = vec![u8::from(!keys.iter().all(|key| self.there(key)))];
            }
            Request::Wait { keys } => {
                if self.waits(client) {
                    return None;
                }
                let missing: Vec<_> =
                    keys.iter().filter(|key| !self.there(key)).map(|key| key.to_vec()).collect();
                if missing.is_empty() {
                    reply = vec![0];
                } else {
                    self.waits.push((client, missing, None));
                }
            }
            Request::CancelWait => {
                woken = self.forget(client);
                reply = vec![1];
            }
            Request::NumKeys => reply = number(self.keys.len()),
            // The order is not determined: see `same_list`.
            Request::ListKeys => {
                reply = number(self.keys.len());
                reply.extend(self.keys.keys().flat_map(|key| string(key)));
            }
            Request::QueuePush { key, value } => {
                self.queues.entry(key.to_vec()).or_default().push_back(value.to_vec());
                woken = self.wake(key, false);
            }
            Request::QueuePop { key } => {
                if self.grants.get(&client).is_some_and(|granted| **granted == **key) {
                    self.grants.remove(&client);
                }
                let queue = self.queues.entry(key.to_vec()).or_default();
                reply = number(queue.len());
                if let Some(item) = queue.pop_front() {
                    reply.extend(string(&item));
                }
            }
            Request::QueueLen { key } => {
                reply = number(self.queues.get(&**key).map_or(0, VecDeque::len));
            }
            Request::Barrier { key, world_size } => {
                if self.waits(client) {
                    return None;
                }
                let come = self.plus(key, 1)?;
                self.keys.insert(key.to_vec(), come.to_string().into_bytes());
                if come >= *world_size {
                    woken = self.wake(key, true);
                    reply = vec![0];
                } else {
                    self.waits.push((client, vec![key.to_vec()], Some(*world_size)));
                }
            }
        }
        Some((reply, woken))
    }
}

/// The keys in a reply to `LIST_KEYS`.
fn listed(mut reply: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    let mut take = |n: usize| {
        let (now, rest) = reply.split_at(n);
        reply = rest;
        now.to_vec()
    };
    let number = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let count = number(take(8));
    for _ in 0..count {
        let len = number(take(8));
        keys.insert(take(usize::try_from(len).expect("a short key")));
    }
    assert!(reply.is_empty());
    keys
}

/// Any sequence of requests, clients that go, and replies that stay unread, against the model.
pub fn state(data: &[u8]) {
    let mut source = Source(data);
    let mut state = State::new(&LIMITS);
    let mut model = Model::default();
    let mut outputs: BTreeMap<ClientId, Output> = BTreeMap::new();
    let mut woken = Vec::new();
    while !source.0.is_empty() {
        let choice = source.byte();
        let client = ClientId(u64::from(choice % 6));
        if choice >= 240 {
            state.client_gone(client, &mut woken);
            assert_eq!(std::mem::take(&mut woken), model.forget(client));
            outputs.remove(&client);
        } else {
            let output = outputs.entry(client).or_insert_with(|| Output::new(usize::MAX));
            if choice >= 60 {
                output.drain();
            }
            let before = output.copy();
            let request = source.request();
            let list = request == Request::ListKeys;
            let stepped = state.step(client, request.clone(), output, &mut woken);
            let reply = output.copy().split_off(before.len());
            let woken = std::mem::take(&mut woken);
            match stepped {
                Err(Refused::StoreFull) => {
                    // T4; the model has no such limit, so it must not have stepped.
                    assert!(woken.is_empty() && reply.is_empty());
                }
                stepped => match (stepped, model.step(client, &request)) {
                    (Ok(()), Some((_, expected))) if list => {
                        assert_eq!(woken, expected);
                        assert_eq!(listed(&reply), model.keys.keys().cloned().collect());
                    }
                    (Ok(()), Some(expected)) => assert_eq!((reply, woken), expected, "{request:?}"),
                    (Err(_), None) => {
                        assert!(woken.is_empty() && reply.is_empty());
                    }
                    (stepped, expected) => panic!("{request:?}: {stepped:?}, not {expected:?}"),
                },
            }
        }
        assert!(state.memory() <= LIMITS.memory, "{} bytes", state.memory());
        if choice % 4 == 0 {
            let counted = state.recount();
            assert_eq!(state.memory(), counted);
        }
        assert_eq!((state.len(), state.waiting()), (model.keys.len(), model.waits.len()));
        for (client, missing, size) in &model.waits {
            match (state.pending(*client), size) {
                (Some(Pending::Keys(keys)), None) => {
                    assert!(keys.iter().eq(missing.iter().map(|key| &**key)));
                    assert_eq!(keys.len(), missing.len());
                }
                (Some(Pending::Barrier { key, world_size }), Some(size)) => {
                    assert_eq!((key, world_size), (&*missing[0], *size));
                }
                other => panic!("{client:?} waits for {missing:?}, not {other:?}"),
            }
        }
    }
    // All that was accounted for is given back.
    for client in (0..6).map(ClientId) {
        state.client_gone(client, &mut woken);
    }
    outputs.clear();
    let mut output = Output::new(usize::MAX);
    let client = ClientId(99);
    for key in model.keys.keys() {
        let request = Request::Delete { key: key.clone().into_boxed_slice() };
        state.step(client, request, &mut output, &mut woken).expect("a key can be deleted");
    }
    for (key, items) in &model.queues {
        for _ in items {
            let request = Request::QueuePop { key: key.clone().into_boxed_slice() };
            state.step(client, request, &mut output, &mut woken).expect("an item can be taken");
        }
    }
    drop(output);
    assert_eq!((state.recount(), state.len(), state.waiting()), (0, 0, 0));
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_parsed_alike(data in prop::collection::vec(any::<u8>(), 0..400)) {
            wire(&data);
        }

        #[test]
        fn any_requests_do_what_the_model_does(data in prop::collection::vec(any::<u8>(), 0..600)) {
            state(&data);
        }
    }

    /// A small generator: speed matters more here than quality.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, n: u64) -> usize {
            usize::try_from(self.next() % n).expect("small")
        }

        fn bytes(&mut self, n: usize) -> Vec<u8> {
            (0..n).map(|_| self.next().to_le_bytes()[0]).collect()
        }

        /// Requests as a client writes them, then damaged in some places.
        fn stream(&mut self) -> Vec<u8> {
            let generation = if self.below(3) > 0 { Generation::Current } else { Generation::Old };
            let mut stream = self.bytes(8);
            if generation == Generation::Current {
                encode(generation, &Request::Validate, &mut stream);
            }
            let seed = self.bytes(200);
            let mut source = Source(&seed);
            for _ in 0..self.below(12) {
                let request = source.request();
                if request != Request::Validate {
                    encode(generation, &request, &mut stream);
                }
            }
            for _ in 0..self.below(4) {
                let at = self.below(stream.len() as u64);
                stream[at] = self.next().to_le_bytes()[3] % 24;
            }
            stream
        }
    }

    /// Longer than a test should take only where `NVLAUNCH_FUZZ_SECONDS` says so.
    #[test]
    fn random_bytes_for_a_while() {
        let seconds = std::env::var("NVLAUNCH_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
        let seed = if seconds.is_some() { u64::from(std::process::id()) << 20 | 1 } else { 0x5eed };
        let mut random = Random(seed);
        let (mut wires, mut states) = (0u64, 0u64);
        while Instant::now() < end {
            for _ in 0..100 {
                let n = random.below(300);
                wire(&random.bytes(n));
                wire(&random.stream());
                let n = random.below(900);
                state(&random.bytes(n));
                wires += 2;
                states += 1;
            }
        }
        let text =
            format!("seed {seed:#x}: {wires} executions of store_wire, {states} of store_state");
        assert!(states > 0, "{text}");
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
