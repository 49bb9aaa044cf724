//! What is wrong in a file, and where. Pure.

/// A part of a text, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

impl Span {
    /// The line it begins in, from 1.
    pub fn line(self, text: &str) -> u32 {
        self.place(text).0
    }

    /// The column it begins in, in characters, from 1.
    pub fn column(self, text: &str) -> u32 {
        self.place(text).1
    }

    /// The line and the column it begins in, both from 1; the column counts characters.
    pub fn place(self, text: &str) -> (u32, u32) {
        place(text, self.start)
    }

    /// The line and the column behind its last character; both from 1.
    pub fn end_place(self, text: &str) -> (u32, u32) {
        place(text, self.end.max(self.start))
    }
}

fn place(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let lines = memchr::memchr_iter(b'\n', before.as_bytes()).count();
    let line = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    (number(lines), number(line.chars().count()))
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file cannot be used.
    #[default]
    Error,
    /// A launch goes on and says it; `nvlaunch profile lint` refuses the file.
    Warning,
}

impl Level {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong. The order is that of places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What.
    pub what: String,
    /// The next step.
    pub hint: Option<String>,
    /// How bad it is.
    pub level: Level,
    /// Another place that matters, and what stands there.
    pub also: Option<(Span, &'static str)>,
}

impl Problem {
    /// A problem without a next step.
    pub fn new(span: Span, what: impl Into<String>) -> Self {
        Self { span, what: what.into(), hint: None, level: Level::Error, also: None }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, less bad.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { level: Level::Warning, ..self }
    }

    /// The same with another place.
    #[must_use]
    pub fn also(self, span: Span, what: &'static str) -> Self {
        Self { also: Some((span, what)), ..self }
    }
}
