//! What is wrong in a file, and where.

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
        let before = text.get(..self.start).unwrap_or(text);
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        u32::try_from(lines + 1).unwrap_or(u32::MAX)
    }

    /// The column it begins in, in characters, from 1.
    pub fn column(self, text: &str) -> u32 {
        let before = text.get(..self.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        u32::try_from(line.chars().count() + 1).unwrap_or(u32::MAX)
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What.
    pub what: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a next step.
    pub fn new(span: Span, what: impl Into<String>) -> Self {
        Self { span, what: what.into(), hint: None }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
