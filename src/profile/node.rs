//! YAML as a tree that knows the place of every key and value.
//!
//! - N1: one document, no tags; scalars keep their text as it is written (`no` is the text `no`).
//! - N2: what a small file can grow to is bounded: depth, and the number and length of values after
//!   aliases are written out. What would pass a bound is not made.
//! - N3: a mistake in the YAML ends the reading: what follows it would be guessed.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::problem::{Problem, Span};
use super::syntax;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 32;
/// The most values of a file, aliases written out.
const MAX_NODES: usize = 10_000;

/// The most bytes of all values that aliases stand for.
const MAX_ALIASED: usize = 256 << 10;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// All of a single value; the first character of a list or map.
    pub span: Span,
}

/// A value of YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A single value, as written.
    Scalar {
        /// Its text, quotes taken away.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
    },
    /// `[a, b]`, or lines that begin with a hyphen.
    List(Vec<Node>),
    /// `key: value`, in the file's order; a key may stand twice.
    Map(Vec<(Key, Node)>),
}

/// The key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Node {
    /// Whether there is nothing: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is called in messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads one document; an empty file is an empty map.
pub fn parse(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        text,
        bytes: Bytes::of(text),
        anchors: BTreeMap::new(),
        open: Vec::new(),
        nodes: 0,
        aliased: 0,
    };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if root.is_some() => {
                return Err(Problem::new(span, "a second document begins here").hint(
                    "a profile is one document: remove the line `---` before it, or what follows",
                ));
            }
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { value: Value::Map(Vec::new()), span: Span::default() }))
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    text: &'a str,
    bytes: Bytes,
    anchors: BTreeMap<usize, Node>,
    /// Where the lists and maps begin that the reader is in.
    open: Vec<Span>,
    nodes: usize,
    aliased: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok((event, span))) => {
                let span = Span {
                    start: self.bytes.at(span.start.index()),
                    end: self.bytes.at(span.end.index()),
                };
                Ok((event, span))
            }
            Some(Err(error)) => {
                let at = self.bytes.at(error.marker().index());
                Err(syntax::problem(self.text, at, error.info(), &self.open))
            }
        }
    }

    /// The parser's span of a text below `|` or `>` begins with the text.
    fn with_header(&self, span: Span) -> Span {
        let before = self.text[..span.start].trim_end();
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        let is_header = |at: &usize| {
            let rest = before[at + 1..]
                .trim_start_matches(['-', '+', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
            rest.is_empty() || rest.trim_start().starts_with('#')
        };
        let signs = before[line..].match_indices(['|', '>']).map(|(at, _)| line + at);
        Span { start: signs.into_iter().find(is_header).unwrap_or(span.start), ..span }
    }

    fn count(&mut self, values: usize, span: Span) -> Result<(), Problem> {
        self.nodes += values;
        if self.nodes > MAX_NODES {
            return Err(too_much(span, &format!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let Some(node) = self.anchors.remove(&id) else {
                    return Err(Problem::new(span, "an alias of what it stands in")
                        .hint("write out what it stands for"));
                };
                let (values, bytes) = size(&node);
                self.count(values, span)?;
                self.aliased += bytes;
                if self.aliased > MAX_ALIASED {
                    let kib = MAX_ALIASED >> 10;
                    return Err(too_much(span, &format!("more than {kib} KiB of values")));
                }
                self.anchors.insert(id, node.clone());
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.is_some(), span)?;
                let plain = style == ScalarStyle::Plain;
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let span = if is_block { self.with_header(span) } else { span };
                (Node { value: Value::Scalar { text: text.into_owned(), plain }, span }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.is_some(), span)?;
                let mut list = Vec::new();
                self.open.push(span);
                loop {
                    let (event, at) = self.next()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    list.push(self.node(event, at, depth + 1)?);
                }
                self.open.pop();
                (Node { value: Value::List(list), span }, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.is_some(), span)?;
                let mut map = Vec::new();
                self.open.push(span);
                loop {
                    let (event, at) = self.next()?;
                    if event == Event::MappingEnd {
                        break;
                    }
                    let key = self.node(event, at, depth + 1)?;
                    let Value::Scalar { text, .. } = key.value else {
                        let what = format!("{} stands where a key belongs", key.kind());
                        let hint = "a key is a single word, as in `nproc: 4`";
                        return Err(Problem::new(key.span, what).hint(hint));
                    };
                    let (event, at) = self.next()?;
                    let value = self.node(event, at, depth + 1)?;
                    map.push((Key { text, span: key.span }, value));
                }
                self.open.pop();
                (Node { value: Value::Map(map), span }, anchor)
            }
            _ => return Err(Problem::new(span, "the document ends here too early")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

fn no_tag(has_tag: bool, span: Span) -> Result<(), Problem> {
    if has_tag {
        return Err(Problem::new(span, "a tag has no meaning in a profile")
            .hint("leave out the word that begins with `!`"));
    }
    Ok(())
}

/// What lies deeper than [`MAX_DEPTH`].
pub(super) fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("nested more than {MAX_DEPTH} deep"))
        .hint("no key of a profile lies deeper than 3")
}

fn too_much(span: Span, what: &str) -> Problem {
    Problem::new(span, format!("{what}, and no profile has so many"))
        .hint("aliases count as often as they stand")
}

/// How many values a node holds, itself included, and how many bytes they have.
fn size(node: &Node) -> (usize, usize) {
    let add = |sum: (usize, usize), more: (usize, usize)| (sum.0 + more.0, sum.1 + more.1);
    match &node.value {
        Value::Scalar { text, .. } => (1, text.len()),
        Value::List(list) => list.iter().map(size).fold((1, 0), add),
        Value::Map(map) => {
            let of_entry = |(key, value): &(Key, Node)| add((1, key.text.len()), size(value));
            map.iter().map(of_entry).fold((1, 0), add)
        }
    }
}

/// Byte positions of characters; nothing is kept where they are the same.
struct Bytes {
    of_chars: Vec<usize>,
    length: usize,
}

impl Bytes {
    fn of(text: &str) -> Self {
        let of_chars = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).collect()
        };
        Self { of_chars, length: text.len() }
    }

    fn at(&self, index: usize) -> usize {
        if self.of_chars.is_empty() {
            index.min(self.length)
        } else {
            self.of_chars.get(index).copied().unwrap_or(self.length)
        }
    }
}
