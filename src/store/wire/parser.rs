//! Bytes to requests, however they are cut.
//!
//! - W1: a length is compared with its limit before anything is allocated for it.
//! - W2: never more is allocated than a small multiple of what has arrived.
//! - W3: no byte is looked at twice, so a large value in small pieces costs what it is long.

use super::{Key, Request, Value};
use crate::store::limits::{Limits, Refused};

/// What follows the operation 0 from torch 2.2 on (`validationMagicNumber` in `TCPStore.cpp`).
pub const MAGIC: u32 = 0x3C85_F7CE;

/// Bookkeeping of one key or value besides its bytes.
const ITEM: usize = 32;
/// The least that a value's buffer grows by.
const GROWTH: usize = 4096;

/// Which numbers the operations have; see the table in [`super`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Nothing decisive has come.
    Unknown,
    /// Up to torch 2.1: no `VALIDATE`, numbers one smaller.
    Old,
    /// From torch 2.2 on.
    Current,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Set,
    CompareSet,
    Get,
    Add,
    Check,
    Wait,
    NumKeys,
    Delete,
    Append,
    MultiGet,
    MultiSet,
    CancelWait,
    Ping,
    QueuePush,
    QueuePop,
    QueueLen,
    ListKeys,
    Barrier,
}

/// In the order of their numbers from torch 2.2 on, beginning with 1.
const OPS: [Op; 18] = [
    Op::Set,
    Op::CompareSet,
    Op::Get,
    Op::Add,
    Op::Check,
    Op::Wait,
    Op::NumKeys,
    Op::Delete,
    Op::Append,
    Op::MultiGet,
    Op::MultiSet,
    Op::CancelWait,
    Op::Ping,
    Op::QueuePush,
    Op::QueuePop,
    Op::QueueLen,
    Op::ListKeys,
    Op::Barrier,
];
/// How many of [`OPS`] torch 2.1 has; there they begin with 0.
const OLD_OPS: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    /// `i64`
    Number,
    /// `u32`
    Nonce,
    /// `u64`; the fields after it come that many times.
    Count,
}

impl Op {
    fn fields(self) -> &'static [Field] {
        use Field::{Count, Key, Nonce, Number, Value};
        match self {
            Self::Set | Self::Append | Self::QueuePush => &[Key, Value],
            Self::CompareSet => &[Key, Value, Value],
            Self::Get | Self::Delete | Self::QueuePop | Self::QueueLen => &[Key],
            Self::Add | Self::Barrier => &[Key, Number],
            Self::Check | Self::Wait | Self::MultiGet => &[Count, Key],
            Self::MultiSet => &[Count, Key, Value],
            Self::NumKeys | Self::CancelWait | Self::ListKeys => &[],
            Self::Ping => &[Nonce],
        }
    }
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The number of an operation.
    Op,
    /// After a first byte 0: the magic number, or the length of an old `SET`'s key.
    Head,
    /// An integer: a length, a count, a number.
    Integer,
    /// So many bytes of a key or a value, in all.
    Bytes(usize),
}

/// Reads the requests of one client.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    generation: Generation,
    /// Whether one request was complete.
    proven: bool,
    part: Part,
    op: Op,
    /// Which of the operation's fields is being read.
    field: usize,
    /// How often the fields after a count still come.
    repeats: u64,
    integer: [u8; 8],
    integer_len: usize,
    bytes: Vec<u8>,
    keys: Vec<Key>,
    values: Vec<Value>,
    number: i64,
    /// Bytes of keys and values of this request, as announced.
    size: usize,
}

impl Parser {
    /// For a new client.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            generation: Generation::Unknown,
            proven: false,
            part: Part::Op,
            op: Op::NumKeys,
            field: 0,
            repeats: 0,
            integer: [0; 8],
            integer_len: 0,
            bytes: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            number: 0,
            size: 0,
        }
    }

    /// What the client was seen to speak.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the client has sent a whole request.
    pub fn proven(&self) -> bool {
        self.proven
    }

    /// Memory that the request under way takes, in bytes, about.
    pub fn held(&self) -> usize {
        let items = (self.keys.len() + self.values.len()) * ITEM;
        // `size` has the announced length of the field under way, of which less may be here.
        let announced = match self.part {
            Part::Bytes(len) => len - self.bytes.len(),
            _ => 0,
        };
        items + self.size - announced
    }

    /// The next request, taken from the front of `input`; none when more bytes are needed, and then
    /// all of `input` is taken.
    ///
    /// # Errors
    /// What is no request, or above a limit. The parser is of no use afterwards.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Refused> {
        loop {
            let complete = match self.part {
                Part::Op => {
                    let Some((&number, rest)) = input.split_first() else { return Ok(None) };
                    let whole = *input;
                    *input = rest;
                    self.begin(number, whole)?
                }
                Part::Head => {
                    if !self.fill(4, input) {
                        return Ok(None);
                    }
                    if self.integer[..4] == MAGIC.to_le_bytes() {
                        self.generation = Generation::Current;
                        self.proven = true;
                        self.integer_len = 0;
                        self.part = Part::Op;
                        return Ok(Some(Request::Validate));
                    }
                    // The four bytes are the lower half of the length.
                    self.generation = Generation::Old;
                    self.op = Op::Set;
                    self.part = Part::Integer;
                    false
                }
                Part::Integer => {
                    let width = if self.now() == Field::Nonce { 4 } else { 8 };
                    if !self.fill(width, input) {
                        return Ok(None);
                    }
                    self.integer_len = 0;
                    self.integer().map_err(|refused| self.known(refused))?
                }
                Part::Bytes(len) => {
                    if !self.fill_bytes(len, input) {
                        return Ok(None);
                    }
                    self.field_done()
                }
            };
            if complete {
                self.proven = true;
                return Ok(Some(self.finish()));
            }
        }
    }

    /// Starts a request; true if it has no fields.
    fn begin(&mut self, number: u8, whole: &[u8]) -> Result<bool, Refused> {
        if self.generation == Generation::Unknown {
            if number == 0 {
                self.part = Part::Head;
                return Ok(false);
            }
            if usize::from(number) >= OLD_OPS {
                let mut sent = [0; 5];
                let len = whole.len().min(sent.len());
                sent[..len].copy_from_slice(&whole[..len]);
                return Err(Refused::NotAClient(sent));
            }
            self.generation = Generation::Old;
        }
        let index = usize::from(number);
        self.op = match self.generation {
            Generation::Current => index.checked_sub(1).and_then(|i| OPS.get(i)),
            _ => OPS[..OLD_OPS].get(index),
        }
        .copied()
        .ok_or(Refused::UnknownOperation(number))?;
        self.field = 0;
        self.repeats = 0;
        self.size = 0;
        self.part = Part::Integer;
        Ok(self.op.fields().is_empty())
    }

    fn now(&self) -> Field {
        self.op.fields()[self.field]
    }

    /// Collects an integer's bytes; true when all are there.
    fn fill(&mut self, width: usize, input: &mut &[u8]) -> bool {
        let n = (width - self.integer_len).min(input.len());
        let (now, rest) = input.split_at(n);
        self.integer[self.integer_len..self.integer_len + n].copy_from_slice(now);
        self.integer_len += n;
        *input = rest;
        self.integer_len == width
    }

    /// Collects a key's or value's bytes; true when all are there.
    fn fill_bytes(&mut self, len: usize, input: &mut &[u8]) -> bool {
        let n = (len - self.bytes.len()).min(input.len());
        let (now, rest) = input.split_at(n);
        let needed = self.bytes.len() + n;
        if needed > self.bytes.capacity() {
            // Twice what is here, and never beyond what was announced (W2).
            let wanted = (self.bytes.capacity() * 2).max(needed).max(GROWTH).min(len);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(now);
        *input = rest;
        self.bytes.len() == len
    }

    /// Takes the integer that was read; true if the request is complete.
    fn integer(&mut self) -> Result<bool, Refused> {
        let value = u64::from_le_bytes(self.integer);
        match self.now() {
            Field::Key => {
                self.part =
                    Part::Bytes(within(value, self.limits.key).ok_or(Refused::KeyTooLong(value))?);
            }
            Field::Value => {
                let len = within(value, self.limits.value).ok_or(Refused::ValueTooLong(value))?;
                self.part = Part::Bytes(len);
            }
            Field::Number => {
                self.number = value.cast_signed();
                return Ok(self.field_done());
            }
            Field::Nonce => {
                self.number = (value & u64::from(u32::MAX)).cast_signed();
                return Ok(self.field_done());
            }
            Field::Count => {
                within(value, self.limits.keys).ok_or(Refused::TooManyKeys(value))?;
                self.repeats = value;
                self.field = 1;
                return Ok(value == 0);
            }
        }
        if let Part::Bytes(len) = self.part {
            self.size += len;
            if self.size > self.limits.request {
                return Err(Refused::RequestTooLong(self.limits.request));
            }
        }
        Ok(false)
    }

    /// Puts a complete field away; true if the request is complete.
    fn field_done(&mut self) -> bool {
        match self.now() {
            Field::Key => self.keys.push(std::mem::take(&mut self.bytes).into_boxed_slice()),
            Field::Value => self.values.push(std::mem::take(&mut self.bytes).into_boxed_slice()),
            Field::Number | Field::Nonce | Field::Count => {}
        }
        self.part = Part::Integer;
        self.field += 1;
        if self.field == self.op.fields().len() && self.repeats > 1 {
            self.repeats -= 1;
            self.field = 1;
        }
        self.field == self.op.fields().len()
    }

    /// A length that cannot be, in the very first request, is no request at all.
    fn known(&self, refused: Refused) -> Refused {
        if self.proven || self.generation == Generation::Current {
            return refused;
        }
        let number = OPS.iter().position(|&op| op == self.op).unwrap_or_default();
        let mut sent = [u8::try_from(number).unwrap_or(u8::MAX); 5];
        sent[1..].copy_from_slice(&self.integer[..4]);
        Refused::NotAClient(sent)
    }

    fn finish(&mut self) -> Request {
        self.part = Part::Op;
        self.size = 0;
        let op = self.op;
        if matches!(op, Op::Check | Op::Wait | Op::MultiGet) {
            let keys = std::mem::take(&mut self.keys);
            return match op {
                Op::Check => Request::Check { keys },
                Op::Wait => Request::Wait { keys },
                _ => Request::MultiGet { keys },
            };
        }
        if op == Op::MultiSet {
            let keys = std::mem::take(&mut self.keys);
            let pairs = keys.into_iter().zip(std::mem::take(&mut self.values)).collect();
            return Request::MultiSet { pairs };
        }
        // Popped, so that the vectors keep their memory for the next request.
        let last = self.values.pop().unwrap_or_default();
        let first = self.values.pop().unwrap_or_default();
        let key = self.keys.pop().unwrap_or_default();
        match op {
            Op::Set => Request::Set { key, value: last },
            Op::CompareSet => Request::CompareSet { key, expected: first, desired: last },
            Op::Get => Request::Get { key },
            Op::Add => Request::Add { key, amount: self.number },
            Op::NumKeys => Request::NumKeys,
            Op::Delete => Request::Delete { key },
            Op::Append => Request::Append { key, value: last },
            Op::CancelWait => Request::CancelWait,
            Op::Ping => {
                Request::Ping { nonce: u32::try_from(self.number).expect("four bytes were read") }
            }
            Op::QueuePush => Request::QueuePush { key, value: last },
            Op::QueuePop => Request::QueuePop { key },
            Op::QueueLen => Request::QueueLen { key },
            Op::ListKeys => Request::ListKeys,
            Op::Barrier => Request::Barrier { key, world_size: self.number },
            Op::Check | Op::Wait | Op::MultiGet | Op::MultiSet => {
                unreachable!("requests with a count are built above")
            }
        }
    }
}

fn within(value: u64, limit: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|&value| value <= limit)
}

#[cfg(any(test, fuzzing))]
impl Parser {
    /// Bytes that were really allocated for keys and values (rule W2).
    pub fn allocated(&self) -> usize {
        let items = self.keys.capacity() * size_of::<Key>()
            + self.values.capacity() * size_of::<Value>()
            + self.bytes.capacity();
        let filled = |items: &[Box<[u8]>]| items.iter().map(|item| item.len()).sum::<usize>();
        items + filled(&self.keys) + filled(&self.values)
    }
}
