//! The machine that reads a pickle; see [`super::pickle`] for its rules.

use super::pickle::{Limits, PickleError};
use super::pickle_value::{Arena, Id, Made, NIL, Node, Part};

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: Limits,
    /// How much of [`Limits::objects`] is used (K4).
    used: usize,
    arena: Arena,
    stack: Vec<Id>,
    /// Lengths of `stack` at each mark.
    marks: Vec<usize>,
    memo: Vec<Id>,
    /// `None`, `False`, `True` and the empty tuple are one value each.
    fixed: [Id; 4],
}

type Done<T = ()> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8], limits: Limits) -> Self {
        let empty = Node::Tuple(Part { start: 0, len: 0 });
        let nodes = vec![Node::None, Node::Bool(false), Node::Bool(true), empty];
        Self {
            bytes,
            at: 0,
            limits,
            used: 0,
            arena: Arena { nodes, ..Arena::default() },
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            fixed: [0, 1, 2, 3],
        }
    }

    /// Where reading ended.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn into_arena(self) -> Arena {
        self.arena
    }

    /// Until the end of the pickle; gives the value.
    pub(super) fn run(&mut self) -> Done<Id> {
        loop {
            let code = self.byte()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn damaged<T>(&self) -> Done<T> {
        Err(PickleError::Damaged(self.at.saturating_sub(1)))
    }

    fn step(&mut self, code: u8) -> Done {
        match code {
            // PROTO, FRAME
            0x80 => match self.byte()? {
                0..=5 => Ok(()),
                _ => self.damaged(),
            },
            0x95 => self.long_len().map(drop),
            b'(' => self.mark(),
            b'0' => self.pop_any(),
            b'1' => self.to_mark().map(|from| self.stack.truncate(from)),
            b'2' => {
                let top = *self.stack.last().ok_or(PickleError::Damaged(self.at - 1))?;
                self.push(top)
            }
            b'N' => self.push(self.fixed[0]),
            0x89 => self.push(self.fixed[1]),
            0x88 => self.push(self.fixed[2]),
            b')' => self.push(self.fixed[3]),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memo_step(code),
            b'I' | b'L' | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'F' | b'G' => self.number(code),
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                self.string(code)
            }
            b']'
            | b'l'
            | b'a'
            | b'e'
            | b't'
            | 0x85..=0x87
            | b'}'
            | b'd'
            | b's'
            | b'u'
            | 0x8f
            | 0x90
            | 0x91 => self.container(code),
            b'c' | 0x93 | b'R' | b'b' | b'i' | b'o' | 0x81 | 0x92 | b'P' | b'Q' => {
                self.object(code)
            }
            // NEXT_BUFFER, READONLY_BUFFER, EXT1, EXT2, EXT4
            0x97 | 0x98 | 0x82..=0x84 => Err(PickleError::Outside(self.at - 1)),
            _ => self.damaged(),
        }
    }

    // Bytes of the file.

    fn take(&mut self, len: usize) -> Done<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..len).ok_or(PickleError::Short)?;
        self.at += len;
        Ok(taken)
    }

    fn byte(&mut self) -> Done<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn array<const N: usize>(&mut self) -> Done<[u8; N]> {
        self.take(N).map(|bytes| bytes.try_into().expect("as many as were asked for"))
    }

    /// A length of four bytes; nothing is longer than the file (K2).
    fn len(&mut self) -> Done<usize> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        if len <= self.bytes.len() - self.at { Ok(len) } else { Err(PickleError::Short) }
    }

    fn long_len(&mut self) -> Done<usize> {
        let len = usize::try_from(u64::from_le_bytes(self.array()?));
        let room = self.bytes.len() - self.at;
        len.ok().filter(|&len| len <= room).ok_or(PickleError::Short)
    }

    /// Up to the next line end, without it.
    fn line(&mut self) -> Done<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let len = memchr::memchr(b'\n', rest).ok_or(PickleError::Short)?;
        self.at += len + 1;
        Ok(&rest[..len])
    }

    fn line_text(&mut self) -> Done<&'a str> {
        let line = self.line()?;
        str::from_utf8(line).or_else(|_| self.damaged())
    }

    // Values.

    fn charge(&mut self, amount: usize) -> Done {
        self.used += amount;
        if self.used > self.limits.objects { Err(PickleError::TooLarge) } else { Ok(()) }
    }

    fn small(&self, number: usize) -> Done<u32> {
        u32::try_from(number).ok().filter(|&n| n != NIL).ok_or(PickleError::TooLarge)
    }

    fn node(&mut self, node: Node) -> Done<Id> {
        self.charge(1)?;
        let id = self.small(self.arena.nodes.len())?;
        self.arena.nodes.push(node);
        Ok(id)
    }

    fn push(&mut self, id: Id) -> Done {
        // The stack grows by one for each byte at most, and is no more than all there is.
        if self.stack.len() >= self.limits.objects {
            return Err(PickleError::TooLarge);
        }
        self.stack.push(id);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Done {
        let id = self.node(node)?;
        self.push(id)
    }

    /// Where the values since the last mark begin.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Done<Id> {
        if self.stack.len() <= self.floor() {
            return self.damaged();
        }
        Ok(self.stack.pop().expect("it was counted"))
    }

    fn top(&mut self) -> Done<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    /// `POP` also takes a mark away.
    fn pop_any(&mut self) -> Done {
        if self.stack.len() > self.floor() {
            self.stack.pop();
            Ok(())
        } else if self.marks.pop().is_some() {
            Ok(())
        } else {
            self.damaged()
        }
    }

    fn mark(&mut self) -> Done {
        if self.marks.len() >= self.limits.depth {
            return Err(PickleError::TooLarge);
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn to_mark(&mut self) -> Done<usize> {
        match self.marks.pop() {
            Some(from) => Ok(from),
            None => self.damaged(),
        }
    }

    fn memo_step(&mut self, code: u8) -> Done {
        let index = match code {
            b'p' | b'g' => match self.line_text()?.parse() {
                Ok(index) => index,
                Err(_) => return self.damaged(),
            },
            b'q' | b'h' => usize::from(self.byte()?),
            b'r' | b'j' => u32::from_le_bytes(self.array()?) as usize,
            _ => self.memo.len(),
        };
        if matches!(code, b'g' | b'h' | b'j') {
            return match self.memo.get(index) {
                Some(&id) if id != NIL => self.push(id),
                _ => self.damaged(),
            };
        }
        let top = self.top()?;
        // K2: a pickler counts, so no index is larger than the bytes before it.
        if index > self.at {
            return self.damaged();
        }
        if index >= self.memo.len() {
            self.charge(index + 1 - self.memo.len())?;
            self.memo.resize(index + 1, NIL);
        }
        self.memo[index] = top;
        Ok(())
    }

    fn number(&mut self, code: u8) -> Done {
        let node = match code {
            b'I' => match self.line_text()? {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                text => return self.decimal(text),
            },
            b'L' => {
                let text = self.line_text()?;
                return self.decimal(text.strip_suffix('L').unwrap_or(text));
            }
            b'J' => Node::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Node::Int(i64::from(self.byte()?)),
            b'M' => Node::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'F' => match self.line_text()?.trim().parse() {
                Ok(value) => Node::Float(value),
                Err(_) => return self.damaged(),
            },
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let len = if code == 0x8a { usize::from(self.byte()?) } else { self.len()? };
                let bytes = self.take(len)?;
                self.integer(bytes)?
            }
        };
        self.push_node(node)
    }

    /// Little-endian two's complement of any length.
    fn integer(&mut self, bytes: &[u8]) -> Done<Node> {
        if bytes.len() > 8 {
            return Ok(Node::BigInt(self.keep(bytes)?));
        }
        let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut all = [if is_negative { 0xff } else { 0 }; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(Node::Int(i64::from_le_bytes(all)))
    }

    /// A number in digits; what 128 bits do not hold is not read.
    fn decimal(&mut self, text: &str) -> Done {
        let text = text.trim();
        if let Ok(value) = text.parse::<i64>() {
            return self.push_node(Node::Int(value));
        }
        let Ok(value) = text.parse::<i128>() else {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            return if is_number { Err(PickleError::TooLarge) } else { self.damaged() };
        };
        let part = self.keep(&value.to_le_bytes())?;
        self.push_node(Node::BigInt(part))
    }

    fn keep(&mut self, bytes: &[u8]) -> Done<Part> {
        let part =
            Part { start: self.small(self.arena.text.len())?, len: self.small(bytes.len())? };
        self.arena.text.extend_from_slice(bytes);
        Ok(part)
    }

    fn string(&mut self, code: u8) -> Done {
        let len = match code {
            b'S' | b'V' => {
                let line = self.line()?;
                let text = if code == b'V' { unicode_line(line) } else { quoted_line(line) };
                let Some(text) = text else {
                    return self.damaged();
                };
                let part = self.keep(&text)?;
                return self.push_node(Node::Str(part));
            }
            b'U' | 0x8c | b'C' => usize::from(self.byte()?),
            0x8d | 0x8e | 0x96 => self.long_len()?,
            _ => self.len()?,
        };
        let bytes = self.take(len)?;
        let part = self.keep(bytes)?;
        let is_bytes = matches!(code, b'B' | b'C' | 0x8e | 0x96);
        self.push_node(if is_bytes { Node::Bytes(part) } else { Node::Str(part) })
    }

    fn new_list(&mut self, items: Vec<Id>) -> Done<u32> {
        self.charge(2 + items.len())?;
        let at = self.small(self.arena.lists.len())?;
        self.arena.lists.push(items);
        Ok(at)
    }

    fn new_dict(&mut self) -> Done<u32> {
        self.charge(2)?;
        let at = self.small(self.arena.dicts.len())?;
        self.arena.dicts.push(Vec::new());
        Ok(at)
    }

    fn tuple(&mut self, from: usize) -> Done<Id> {
        if from == self.stack.len() {
            return Ok(self.fixed[3]);
        }
        let (start, len) =
            (self.small(self.arena.slots.len())?, self.small(self.stack.len() - from)?);
        self.charge(len as usize)?;
        self.arena.slots.extend(self.stack.drain(from..));
        self.node(Node::Tuple(Part { start, len }))
    }

    /// The last `count` values that no mark parts from the top.
    fn last(&self, count: usize) -> Done<usize> {
        match self.stack.len().checked_sub(count) {
            Some(from) if from >= self.floor() => Ok(from),
            _ => self.damaged(),
        }
    }

    fn container(&mut self, code: u8) -> Done {
        match code {
            b']' => {
                let list = self.new_list(Vec::new())?;
                self.push_node(Node::List(list))
            }
            b'l' | 0x91 => {
                let from = self.to_mark()?;
                let list = self.stack.split_off(from);
                let list = self.new_list(list)?;
                self.push_node(if code == b'l' { Node::List(list) } else { Node::Set(list) })
            }
            0x8f => {
                let list = self.new_list(Vec::new())?;
                self.push_node(Node::Set(list))
            }
            b'a' => {
                let from = self.last(1)?;
                self.append(from)
            }
            b'e' | 0x90 => {
                let from = self.to_mark()?;
                self.append(from)
            }
            b't' => {
                let from = self.to_mark()?;
                let tuple = self.tuple(from)?;
                self.push(tuple)
            }
            0x85..=0x87 => {
                let from = self.last(usize::from(code - 0x84))?;
                let tuple = self.tuple(from)?;
                self.push(tuple)
            }
            b'}' => {
                let dict = self.new_dict()?;
                self.push_node(Node::Dict(dict))
            }
            b'd' => {
                let from = self.to_mark()?;
                let dict = self.new_dict()?;
                let id = self.node(Node::Dict(dict))?;
                self.stack.insert(from, id);
                self.set_items(from + 1)
            }
            b's' => {
                let from = self.last(2)?;
                self.set_items(from)
            }
            _ => {
                let from = self.to_mark()?;
                self.set_items(from)
            }
        }
    }

    /// The container below `from`, which no mark parts from it.
    fn below(&self, from: usize) -> Done<Id> {
        match from.checked_sub(1) {
            Some(at) if at >= self.floor() => Ok(self.stack[at]),
            _ => self.damaged(),
        }
    }

    /// Puts the values from there on into the list, set or object below them.
    fn append(&mut self, from: usize) -> Done {
        let list = match self.arena.nodes[self.below(from)? as usize] {
            Node::List(list) | Node::Set(list) => list,
            Node::Object(at) => {
                if self.arena.objects[at as usize].list == NIL {
                    self.arena.objects[at as usize].list = self.new_list(Vec::new())?;
                }
                self.arena.objects[at as usize].list
            }
            _ => return self.damaged(),
        };
        self.charge(self.stack.len() - from)?;
        self.arena.lists[list as usize].extend(self.stack.drain(from..));
        Ok(())
    }

    /// Puts the pairs from there on into the dict or object below them.
    fn set_items(&mut self, from: usize) -> Done {
        let dict = match self.arena.nodes[self.below(from)? as usize] {
            Node::Dict(dict) => dict,
            Node::Object(at) => {
                if self.arena.objects[at as usize].dict == NIL {
                    self.arena.objects[at as usize].dict = self.new_dict()?;
                }
                self.arena.objects[at as usize].dict
            }
            _ => return self.damaged(),
        };
        let count = self.stack.len() - from;
        if !count.is_multiple_of(2) {
            return self.damaged();
        }
        self.charge(count)?;
        let pairs = self.stack[from..].chunks_exact(2).map(|pair| (pair[0], pair[1]));
        self.arena.dicts[dict as usize].extend(pairs);
        self.stack.truncate(from);
        Ok(())
    }

    fn make(&mut self, class: Id, args: Id) -> Done {
        self.charge(2)?;
        let at = self.small(self.arena.objects.len())?;
        self.arena.objects.push(Made { class, args, state: NIL, list: NIL, dict: NIL });
        self.push_node(Node::Object(at))
    }

    fn global(&mut self) -> Done<Id> {
        let mut ids = [NIL; 2];
        for id in &mut ids {
            let line = self.line()?;
            let part = self.keep(line)?;
            *id = self.node(Node::Str(part))?;
        }
        self.node(Node::Global(ids[0], ids[1]))
    }

    fn object(&mut self, code: u8) -> Done {
        match code {
            b'c' => {
                let global = self.global()?;
                self.push(global)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                for id in [name, module] {
                    if !matches!(self.arena.nodes[id as usize], Node::Str(_)) {
                        return self.damaged();
                    }
                }
                self.push_node(Node::Global(module, name))
            }
            b'R' | 0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.make(class, args)
            }
            0x92 => {
                let (_named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.make(class, args)
            }
            b'i' => {
                let class = self.global()?;
                let from = self.to_mark()?;
                let args = self.tuple(from)?;
                self.make(class, args)
            }
            b'o' => {
                let from = self.to_mark()?;
                if from >= self.stack.len() {
                    return self.damaged();
                }
                let class = self.stack[from];
                let args = self.tuple(from + 1)?;
                self.stack.truncate(from);
                self.make(class, args)
            }
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                // What is set on a list or a global is nothing that anybody asks for.
                if let Node::Object(at) = self.arena.nodes[top as usize] {
                    self.arena.objects[at as usize].state = state;
                }
                Ok(())
            }
            b'P' => {
                let line = self.line()?;
                let part = self.keep(line)?;
                let id = self.node(Node::Str(part))?;
                self.push_node(Node::Persistent(id))
            }
            _ => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
        }
    }
}

/// `UNICODE`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`; never longer than twice the line.
fn unicode_line(line: &[u8]) -> Option<Vec<u8>> {
    let mut text = String::new();
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                at += 1;
                continue;
            }
        };
        let code = str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
        let code = u32::from_str_radix(code, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        at += 2 + digits;
    }
    Some(text.into_bytes())
}

/// `STRING`: a Python literal in quotes; never longer than the line.
fn quoted_line(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let (&quote, rest) = line.split_first()?;
    let (&end, inner) = rest.split_last()?;
    if end != quote || !matches!(quote, b'\'' | b'"') {
        return None;
    }
    let mut text = Vec::new();
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next()? {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                text.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte @ (b'\\' | b'\'' | b'"') => text.push(byte),
            byte => text.extend([b'\\', byte]),
        }
    }
    Some(text)
}
