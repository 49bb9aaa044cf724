//! The text before each line on the console.
//!
//! - X1: a template is filled in as Python's `string.Template.safe_substitute` does it, which is
//!   what torchrun uses: `$name`, `${name}`, `$$` is a dollar sign, everything else stays.
//! - X2: without a template it is `[rank N] `, and nothing where there is one rank. A template
//!   that was given is used as it is, the empty one too.
//! - X3: on a terminal with colours, each rank has its own; the colour ends with the prefix.

use anstyle::{AnsiColor, Style};

/// What a template can name.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `${role_name}`
    pub role_name: &'a str,
    /// `${local_rank}`
    pub local_rank: u32,
    /// `${rank}`
    pub rank: u32,
    /// `${hostname}`
    pub hostname: &'a str,
}

impl Names<'_> {
    fn value(&self, name: &str) -> Option<String> {
        match name {
            "role_name" => Some(self.role_name.to_owned()),
            "local_rank" => Some(self.local_rank.to_string()),
            "rank" => Some(self.rank.to_string()),
            "hostname" => Some(self.hostname.to_owned()),
            _ => None,
        }
    }
}

/// One rank's prefix (X1, X2), without colour.
pub fn prefix(template: Option<&str>, names: &Names<'_>, ranks: usize) -> String {
    match template {
        Some(template) => substitute(template, names),
        None if ranks == 1 => String::new(),
        None => format!("[rank {}] ", names.rank),
    }
}

/// Python's `Template(template).safe_substitute(names)`.
fn substitute(template: &str, names: &Names<'_>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (braced, name) = match after.strip_prefix('{') {
            Some(inner) => (true, identifier(inner)),
            None => (false, identifier(after)),
        };
        let whole = name.len() + if braced { 2 } else { 0 };
        let closed = !braced || after[1 + name.len()..].starts_with('}');
        if let Some(escaped) = after.strip_prefix('$') {
            text.push('$');
            rest = escaped;
        } else if name.is_empty() || !closed {
            text.push('$');
            rest = after;
        } else {
            match names.value(name) {
                Some(value) => text.push_str(&value),
                None => text.push_str(&rest[at..=at + whole]),
            }
            rest = &after[whole..];
        }
    }
    text.push_str(rest);
    text
}

/// The identifier `text` begins with (`[_a-zA-Z][_a-zA-Z0-9]*`), or nothing.
fn identifier(text: &str) -> &str {
    let starts = text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let end = text.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(text.len());
    if starts { &text[..end] } else { "" }
}

const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
];

/// `prefix` in the colour of that rank (X3). Blanks at the end are left outside.
pub fn coloured(prefix: &str, rank: u32) -> String {
    let colour = COLOURS[rank as usize % COLOURS.len()];
    let style = Style::new().fg_color(Some(colour.into()));
    let text = prefix.trim_end_matches(' ');
    if text.is_empty() {
        return prefix.to_owned();
    }
    format!("{style}{text}{style:#}{}", &prefix[text.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> =
        Names { role_name: "trainer", local_rank: 3, rank: 11, hostname: "node-b" };

    /// The right column is what Python 3.11 gives.
    #[test]
    fn templates_are_filled_in_as_python_does() {
        let table = [
            ("", ""),
            ("[${role_name}${local_rank}]:", "[trainer3]:"),
            ("$hostname:$rank: ", "node-b:11: "),
            ("$$rank ${rank}", "$rank 11"),
            ("$ranks ${rank}s", "$ranks 11s"),
            ("$ {rank} ${rank", "$ {rank} ${rank"),
            ("${unknown} $1 $", "${unknown} $1 $"),
            ("${rank }${}$-", "${rank }${}$-"),
            ("$RANK", "$RANK"),
            ("$$$rank", "$11"),
            ("é$rank→", "é11→"),
            ("$é${rank}", "$é11"),
        ];
        for (template, expected) in table {
            assert_eq!(substitute(template, &NAMES), expected, "{template}");
        }
    }

    #[test]
    fn the_default_names_the_rank_unless_it_is_alone() {
        assert_eq!(prefix(None, &NAMES, 8), "[rank 11] ");
        assert_eq!(prefix(None, &NAMES, 1), "");
        assert_eq!(prefix(Some(""), &NAMES, 8), "");
        assert_eq!(prefix(Some("$rank|"), &NAMES, 1), "11|");
    }

    #[test]
    fn colour_ends_before_the_blank() {
        assert_eq!(coloured("[rank 1] ", 1), "\u{1b}[32m[rank 1]\u{1b}[0m ");
        assert_eq!(coloured("  ", 1), "  ");
        assert_ne!(coloured("x", 0), coloured("x", 1));
    }
}
