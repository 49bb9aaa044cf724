//! Finds the exception that ended a Python program in its last lines.
//!
//! Knows the forms of `CPython` 3.6 to 3.14: chains, exception groups (PEP 654), colours (3.13), the
//! report of `faulthandler`, and what `PyTorch` makes of them: `[rank0]:` before each line, and the
//! traceback of a worker within the message of its parent. The beginning may be cut off.

use std::borrow::Cow;

/// One exception.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Thrown {
    /// Its type as it is printed, `torch.distributed.DistStoreError`.
    pub kind: String,
    /// Its message, all lines of it.
    pub message: String,
    /// The innermost frame of the user's code, the innermost at all where none is.
    pub frame: Option<Frame>,
    /// The file of the innermost frame.
    pub innermost: Option<String>,
    /// Whether it was explicitly raised from the one before it.
    pub is_from: bool,
}

/// Where something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    file: String,
    line: String,
    function: String,
}

/// An exception with those that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chain {
    /// Oldest first; the last one ended the program. Never empty.
    pub thrown: Vec<Thrown>,
    /// What the last one consists of, where it is a group.
    pub leaves: Vec<Thrown>,
    /// Lines that follow the last exception's own, without empty ones, warnings of libraries and
    /// exceptions that were ignored.
    pub lines_after: usize,
}

impl Chain {
    /// From a message alone, as `ValueError: boom`.
    pub(super) fn of_message(message: &str) -> Option<Self> {
        let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
        let (kind, text) = exception(first).filter(|(kind, _)| looks_like_one(kind))?;
        let message = format!("{text}\n{rest}").trim_end().to_owned();
        let thrown = Thrown { kind: kind.to_owned(), message, ..Thrown::default() };
        Some(Self { thrown: vec![thrown], ..Self::default() })
    }

    /// The one that ended the program.
    pub(super) fn last(&self) -> &Thrown {
        self.thrown.last().expect("a chain is never empty")
    }
}

impl Thrown {
    /// The type without its module.
    pub(super) fn name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }

    /// The first line that says something, `KeyError: 3`.
    pub(super) fn words(&self) -> String {
        match self.message.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{}: {line}", self.name()),
            None => self.name().to_owned(),
        }
    }

    /// The same for exceptions of one type from one place.
    pub(super) fn fingerprint(&self) -> Option<String> {
        Some(format!("{} at {}", self.kind, self.frame.as_ref()?))
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.function.is_empty() { Ok(()) } else { write!(f, " {}", self.function) }
    }
}

const FROM: &str = "The above exception was the direct cause of the following exception:";
const DURING: &str = "During handling of the above exception, another exception occurred:";
const HEADER: &str = "Traceback (most recent call last):";
/// Stands for a line between the exceptions of a group.
const LEAF: &str = "\u{0}";

/// What stands above the traceback of something that did not end the program.
const ASIDE: &[&str] = &[
    "Exception ignored in",
    "Exception ignored while",
    "Exception in thread ",
    "Error in atexit.",
    "Error in sys.excepthook:",
    "--- Logging error ---",
    "Process ",
];

/// The lines without colours, prefixes and the margins of groups.
pub(super) fn clean<'a>(lines: impl Iterator<Item = Cow<'a, str>>) -> Vec<String> {
    let mut is_group = false;
    let clean = lines.map(|line| {
        let line = anstream::adapter::strip_str(&line).to_string();
        let line = without_rank(line.trim_end());
        let inner = line.trim_start();
        is_group = inner == "+ Exception Group Traceback (most recent call last):"
            || (is_group && inner.starts_with(['|', '+']));
        match inner.strip_prefix('|') {
            _ if !is_group => line.to_owned(),
            Some(rest) => rest.strip_prefix(' ').unwrap_or(rest).to_owned(),
            None if inner.ends_with(HEADER) => HEADER.to_owned(),
            None => LEAF.to_owned(),
        }
    });
    clean.collect()
}

/// `[rank0]: ` that `PyTorch` puts before each line of a traceback.
fn without_rank(line: &str) -> &str {
    let rest = line.strip_prefix("[rank").and_then(|rest| rest.split_once("]:"));
    match rest {
        Some((rank, rest)) if rank.bytes().all(|byte| byte.is_ascii_digit()) => {
            rest.strip_prefix(' ').unwrap_or(rest)
        }
        _ => line,
    }
}

/// The exception that ended the program, with its chain.
pub(super) fn last(lines: &[String]) -> Option<Chain> {
    let mut chain: Option<Chain> = None;
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        if let Some(block) = block(lines, at) {
            let marks = lines[..at].iter().rev().find(|line| !line.is_empty());
            if !marks.is_some_and(|line| is_mark(line)) {
                let chained = link_above(&lines[..at]);
                let linked = chain.take().filter(|_| chained.is_some());
                let mut thrown = linked.map(|chain| chain.thrown).unwrap_or_default();
                let is_from = chained == Some(FROM);
                thrown.push(Thrown { is_from, ..block.thrown });
                chain = Some(Chain { thrown, leaves: block.leaves, lines_after: 0 });
            }
            at = block.end;
            continue;
        }
        if let Some(chain) = &mut chain
            && !line.is_empty()
            && !is_noise(line)
        {
            chain.lines_after += 1;
        }
        at += 1;
    }
    chain
}

/// What `faulthandler` names as the innermost place, the user's where it can be told.
pub(super) fn crash(lines: &[String]) -> Option<String> {
    let starts = |line: &String| line.ends_with("(most recent call first):");
    let from = lines.iter().position(starts)? + 1;
    let frames = lines[from..].iter().map_while(|line| frame(line));
    let frames: Vec<Frame> = frames.collect();
    let users = frames.iter().find(|frame| is_users(&frame.file));
    users.or(frames.first()).map(Frame::to_string)
}

struct Block {
    thrown: Thrown,
    leaves: Vec<Thrown>,
    end: usize,
}

/// The traceback that begins here, with its exception: at its head line; at its first frame where
/// it has none, because the beginning is cut off or the script itself could not be read.
fn block(lines: &[String], at: usize) -> Option<Block> {
    let has_head = lines[at].ends_with(HEADER);
    let is_box = lines[at].starts_with('╰');
    if !has_head && frame(&lines[at]).is_none() && !is_box {
        return None;
    }
    let first = at + usize::from(has_head || is_box);
    let is_inner = |line: &&String| line.starts_with([' ', '\t']) || line.starts_with("> File ");
    let inner = lines[first..].iter().take_while(is_inner).count();
    let ends = first + inner;
    let (kind, text) = exception(lines.get(ends)?)?;
    if !has_head && !looks_like_one(kind) {
        return None;
    }
    let frames: Vec<Frame> =
        lines[first..ends].iter().filter_map(|line| frame(line.trim_start_matches('>'))).collect();
    let users = frames.iter().rev().find(|frame| is_users(&frame.file));
    let mut thrown = Thrown {
        kind: kind.to_owned(),
        message: text.to_owned(),
        frame: users.or(frames.last()).cloned(),
        innermost: frames.last().map(|frame| frame.file.clone()),
        is_from: false,
    };
    let mut end = ends + 1;
    // The message goes on until something else begins; never over the whole rest.
    for line in lines[end..].iter().take(12) {
        let is_next = line.ends_with(HEADER) || line == FROM || line == DURING || line == LEAF;
        if is_next || is_mark(line) || is_noise(line) {
            break;
        }
        thrown.message.push('\n');
        thrown.message.push_str(line);
    }
    // These lines are looked at again: whatever they are, they follow.
    let mut leaves = Vec::new();
    if kind.ends_with("Group")
        && let Some(to_leaf) = lines[end..].iter().take(12).position(|line| line == LEAF)
    {
        end += to_leaf;
    }
    while lines.get(end).is_some_and(|line| line == LEAF) {
        end += 1;
        let Some(line) = lines.get(end) else { break };
        if let Some(block) = block(lines, end) {
            leaves.push(block.thrown);
            leaves.extend(block.leaves);
            end = block.end;
        } else if let Some((kind, text)) = exception(line).filter(|(kind, _)| looks_like_one(kind))
        {
            let (kind, message) = (kind.to_owned(), text.to_owned());
            leaves.push(Thrown { kind, message, ..Thrown::default() });
            end += 1;
        }
        let is_end = |line: &&String| *line == LEAF || line.ends_with(HEADER);
        let rest = lines[end..].iter().take_while(|line| !is_end(line)).count();
        if lines.get(end + rest).is_some_and(|line| line == LEAF) {
            end += rest;
        }
    }
    leaves.retain(|leaf| !leaf.kind.ends_with("Group"));
    Some(Block { thrown, leaves, end })
}

/// `  File "train.py", line 3, in step`; `faulthandler` has no second comma.
fn frame(line: &str) -> Option<Frame> {
    let line = line.strip_prefix([' ', '\t'])?.trim_start();
    let (file, rest) = line.strip_prefix("File \"")?.split_once("\", line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at(digits);
    let function = rest.trim_start_matches(',').trim_start().strip_prefix("in ").unwrap_or("");
    let [file, line, function] = [file, number, function].map(str::to_owned);
    Some(Frame { file, line, function })
}

/// Whether a file is the user's own, and no library or text.
fn is_users(file: &str) -> bool {
    let library = ["/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python"];
    !file.starts_with('<') && !library.iter().any(|part| file.contains(part))
}

/// `KeyError: 3`, or the type alone.
fn exception(line: &str) -> Option<(&str, &str)> {
    let (kind, text) = match line.split_once(':') {
        Some((kind, text)) if text.is_empty() || text.starts_with(' ') => (kind, text.trim()),
        Some(_) => return None,
        None => (line, ""),
    };
    // `RayTaskError(ValueError)`
    let name = kind.split('(').next().unwrap_or(kind);
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let is_path = |word: &str| word.split('.').all(|part| is_word(part) || part == "<locals>");
    is_path(name).then_some((name, text))
}

/// Whether a word is an exception's also where no head line says that it is.
fn looks_like_one(kind: &str) -> bool {
    let name = kind.rsplit('.').next().unwrap_or(kind);
    let ends = ["Error", "Exception", "Interrupt", "Exit", "Group", "Timeout", "Expired"];
    name.starts_with(char::is_uppercase) && ends.iter().any(|end| name.ends_with(end))
}

fn is_mark(line: &str) -> bool {
    match line.strip_prefix("Process ") {
        // `Process Process-1:`, `Process SpawnProcess-1:`
        Some(name) => name.ends_with(':') && !name.contains(' '),
        None => ASIDE.iter().any(|mark| *mark != "Process " && line.starts_with(mark)),
    }
}

/// What libraries write at their end.
fn is_noise(line: &str) -> bool {
    let is_log = |level: &str| {
        line.strip_prefix(level).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    line.starts_with("wandb:") || is_log("[W") || is_log("[I") || is_log("[E")
}

/// Which of the two words of a chain stands above these lines' end.
fn link_above(lines: &[String]) -> Option<&'static str> {
    let above = lines.iter().rev().find(|line| !line.is_empty())?;
    [FROM, DURING].into_iter().find(|link| above == link)
}
