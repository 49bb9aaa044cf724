//! What packages, shells and editors need, from the definitions that `--help` follows. Pure.
//!
//! - [`pages`]: every subcommand with what its help says and its options.
//! - [`man`]: the manual, for man(1).
//! - [`reference`]: everything that can be set, as Markdown; committed as `REFERENCE.md`.
//!
//! - D1: nothing is written here that is defined elsewhere; a new option, key, variable, exit code
//!   or finding is on the pages by itself.

pub mod man;
pub mod pages;
pub mod reference;
#[cfg(test)]
mod tests;

/// The text of a comment, as one line.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The end of a help text's first line of a variable or exit code, as a sentence of its own.
fn sentence(text: &str) -> String {
    let text = flowing(text);
    if text.ends_with('.') { text } else { format!("{text}.") }
}
