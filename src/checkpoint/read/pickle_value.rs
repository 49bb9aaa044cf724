//! The values of a pickle: an arena, and handles into it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The number of a value in its arena.
pub(super) type Id = u32;

/// Where nothing is.
pub(super) const NIL: Id = u32::MAX;

/// A part of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub start: u32,
    pub len: u32,
}

impl Part {
    fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

/// One value; 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian two's complement, in `text`.
    BigInt(Part),
    Float(f64),
    /// In `text`.
    Bytes(Part),
    /// In `text`.
    Str(Part),
    /// In `lists`.
    List(u32),
    /// In `slots`.
    Tuple(Part),
    /// In `dicts`.
    Dict(u32),
    /// In `lists`.
    Set(u32),
    /// Module and name.
    Global(Id, Id),
    /// In `objects`.
    Object(u32),
    Persistent(Id),
}

/// What a call would have made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub class: Id,
    pub args: Id,
    /// What `__setstate__` would have got.
    pub state: Id,
    /// In `lists`: appended to it.
    pub list: u32,
    /// In `dicts`: set in it.
    pub dict: u32,
}

/// All values of one pickle.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub nodes: Vec<Node>,
    pub text: Vec<u8>,
    pub slots: Vec<Id>,
    pub lists: Vec<Vec<Id>>,
    pub dicts: Vec<Vec<(Id, Id)>>,
    pub objects: Vec<Made>,
}

/// A value of a pickle; a copy of it is the same value and costs nothing.
#[derive(Clone)]
pub struct Value {
    arena: Arc<Arena>,
    id: Id,
}

/// What a value is. Strings are as they are in the pickle, the others are handles again.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// A number of up to 64 bits.
    Int(i64),
    /// A larger one: little-endian two's complement.
    BigInt(&'a [u8]),
    /// A float.
    Float(f64),
    /// `bytes` or `bytearray`.
    Bytes(&'a [u8]),
    /// Text; UTF-8 as a rule, which Python lets surrogates break.
    Str(&'a [u8]),
    /// A list.
    List,
    /// A tuple.
    Tuple,
    /// A dict.
    Dict,
    /// A set or frozen set.
    Set,
    /// A name that Python would import.
    Global {
        /// The module.
        module: Cow<'a, str>,
        /// The name in it.
        name: Cow<'a, str>,
    },
    /// What Python would have made by a call.
    Object,
    /// What is kept elsewhere, such as a tensor's storage: its id.
    Persistent(Value),
}

impl Value {
    pub(super) fn new(arena: Arc<Arena>, id: Id) -> Self {
        Self { arena, id }
    }

    fn with(&self, id: Id) -> Self {
        Self { arena: Arc::clone(&self.arena), id }
    }

    fn node(&self) -> Node {
        self.arena.nodes[self.id as usize]
    }

    fn text(&self, part: Part) -> &[u8] {
        &self.arena.text[part.range()]
    }

    fn name(&self, id: Id) -> Cow<'_, str> {
        match self.arena.nodes[id as usize] {
            Node::Str(part) => String::from_utf8_lossy(self.text(part)),
            _ => Cow::Borrowed("?"),
        }
    }

    fn made(&self) -> Option<Made> {
        match self.node() {
            Node::Object(at) => Some(self.arena.objects[at as usize]),
            _ => None,
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind<'_> {
        match self.node() {
            Node::None => Kind::None,
            Node::Bool(value) => Kind::Bool(value),
            Node::Int(value) => Kind::Int(value),
            Node::BigInt(part) => Kind::BigInt(self.text(part)),
            Node::Float(value) => Kind::Float(value),
            Node::Bytes(part) => Kind::Bytes(self.text(part)),
            Node::Str(part) => Kind::Str(self.text(part)),
            Node::List(_) => Kind::List,
            Node::Tuple(_) => Kind::Tuple,
            Node::Dict(_) => Kind::Dict,
            Node::Set(_) => Kind::Set,
            Node::Global(module, name) => {
                Kind::Global { module: self.name(module), name: self.name(name) }
            }
            Node::Object(_) => Kind::Object,
            Node::Persistent(id) => Kind::Persistent(self.with(id)),
        }
    }

    /// Whether two handles are of one value.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.arena, &other.arena) && self.id == other.id
    }

    /// Whether it is `None`.
    pub fn is_none(&self) -> bool {
        self.node() == Node::None
    }

    /// A number, or a boolean as Python counts it.
    pub fn as_i64(&self) -> Option<i64> {
        match self.node() {
            Node::Int(value) => Some(value),
            Node::Bool(value) => Some(i64::from(value)),
            _ => None,
        }
    }

    /// A number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        u64::try_from(self.as_i64()?).ok()
    }

    /// A float or a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self.node() {
            Node::Float(value) => Some(value),
            #[expect(clippy::cast_precision_loss, reason = "as Python's float() does")]
            Node::Int(value) => Some(value as f64),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.node() {
            Node::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Text, where it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self.node() {
            Node::Str(part) => str::from_utf8(self.text(part)).ok(),
            _ => None,
        }
    }

    /// Text of so many bytes at most, where it is UTF-8: what many values share is not read anew for
    /// each of them, however long it is.
    pub fn as_short_str(&self, most: usize) -> Option<&str> {
        match self.node() {
            Node::Str(part) if self.text(part).len() <= most => self.as_str(),
            _ => None,
        }
    }

    /// `bytes` or `bytearray`.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self.node() {
            Node::Bytes(part) => Some(self.text(part)),
            _ => None,
        }
    }

    /// The module and the name of a global.
    pub fn as_global(&self) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        match self.node() {
            Node::Global(module, name) => Some((self.name(module), self.name(name))),
            _ => None,
        }
    }

    /// The id of what is kept elsewhere.
    pub fn persistent(&self) -> Option<Self> {
        match self.node() {
            Node::Persistent(id) => Some(self.with(id)),
            _ => None,
        }
    }

    /// What an object was made of: a global as a rule.
    pub fn class(&self) -> Option<Self> {
        Some(self.with(self.made()?.class))
    }

    /// The arguments an object was made with: a tuple as a rule.
    pub fn args(&self) -> Option<Self> {
        Some(self.with(self.made()?.args))
    }

    /// What an object's `__setstate__` got.
    pub fn state(&self) -> Option<Self> {
        let state = self.made()?.state;
        (state != NIL).then(|| self.with(state))
    }

    fn members(&self) -> &[Id] {
        let lists = &self.arena.lists;
        match self.node() {
            Node::List(at) | Node::Set(at) => &lists[at as usize],
            Node::Tuple(part) => &self.arena.slots[part.range()],
            Node::Object(at) => match self.arena.objects[at as usize].list {
                NIL => &[],
                list => &lists[list as usize],
            },
            _ => &[],
        }
    }

    /// How many members a list, tuple, set or an object that is a list has; entries of a dict.
    pub fn len(&self) -> usize {
        match self.node() {
            Node::Dict(_) => self.pairs().len(),
            _ => self.members().len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of a list, tuple, set, or an object that is a list; none of anything else.
    pub fn iter(&self) -> impl Iterator<Item = Self> + '_ {
        self.members().iter().map(|&id| self.with(id))
    }

    /// A member by its place, as in [`Self::iter`].
    pub fn at(&self, place: usize) -> Option<Self> {
        self.members().get(place).map(|&id| self.with(id))
    }

    fn pairs(&self) -> &[(Id, Id)] {
        let dicts = &self.arena.dicts;
        match self.node() {
            Node::Dict(at) => &dicts[at as usize],
            Node::Object(at) => match self.arena.objects[at as usize].dict {
                NIL => &[],
                dict => &dicts[dict as usize],
            },
            _ => &[],
        }
    }

    /// The entries of a dict, or of an object that is one (`OrderedDict`), as they were written: a
    /// key that is set twice is there twice. None of anything else.
    pub fn items(&self) -> impl Iterator<Item = (Self, Self)> + '_ {
        self.pairs().iter().map(|&(key, value)| (self.with(key), self.with(value)))
    }

    /// An entry of a dict, or an attribute of an object: from what was set in it, its state (a dict,
    /// or a tuple of dicts), or a dict that it was made of.
    pub fn get(&self, key: &str) -> Option<Self> {
        if let Some(id) = self.find(self.id, key) {
            return Some(self.with(id));
        }
        let made = self.made()?;
        let inner = [made.state, made.args].into_iter().filter(|&id| id != NIL);
        inner
            .flat_map(|id| {
                let members = match self.arena.nodes[id as usize] {
                    Node::Tuple(part) => &self.arena.slots[part.range()],
                    _ => &[],
                };
                std::iter::once(id).chain(members.iter().copied())
            })
            .find_map(|id| self.find(id, key))
            .map(|id| self.with(id))
    }

    /// The last value of the key in this very dict.
    fn find(&self, dict: Id, key: &str) -> Option<Id> {
        let dict = self.with(dict);
        let found = dict.pairs().iter().rev().find(|(id, _)| {
            matches!(self.arena.nodes[*id as usize], Node::Str(part) if self.text(part) == key.as_bytes())
        });
        found.map(|&(_, value)| value)
    }

    /// Every persistent id of the pickle, in the order of the file, each as often as it is there.
    pub fn all_persistent(&self) -> impl Iterator<Item = Self> + '_ {
        self.arena.nodes.iter().filter_map(|node| match node {
            Node::Persistent(id) => Some(self.with(*id)),
            _ => None,
        })
    }

    /// Bytes that the whole pickle's values take.
    pub fn memory(&self) -> usize {
        let arena = &self.arena;
        let lists: usize = arena.lists.iter().map(|list| 4 * list.capacity()).sum();
        let dicts: usize = arena.dicts.iter().map(|dict| 8 * dict.capacity()).sum();
        size_of::<Node>() * arena.nodes.capacity()
            + arena.text.capacity()
            + 4 * arena.slots.capacity()
            + size_of::<Vec<Id>>() * (arena.lists.capacity() + arena.dicts.capacity())
            + size_of::<Made>() * arena.objects.capacity()
            + lists
            + dicts
    }
}

/// Without what it holds: values may hold themselves.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Node::Str(part) => write!(f, "{:?}", String::from_utf8_lossy(self.text(part))),
            Node::Bytes(part) => write!(f, "b\"{}\"", self.text(part).escape_ascii()),
            Node::Global(module, name) => write!(f, "{}.{}", self.name(module), self.name(name)),
            Node::List(_) | Node::Tuple(_) | Node::Dict(_) | Node::Set(_) => {
                write!(f, "{:?}({})", self.kind(), self.len())
            }
            Node::Persistent(_) => f.write_str("Persistent"),
            _ => write!(f, "{:?}", self.kind()),
        }
    }
}
