//! Launch profiles: a site's knowledge in a small, checked YAML file.
//!
//! - [`node`]: YAML with the place of every key and value; `syntax` says what is no YAML.
//! - [`keys`]: the one table of everything that a profile can say; the reader, the JSON schema, the
//!   reference page and the layers of options all follow it.
//! - [`form`], [`texts`]: what the values look like and what the keys are for, in words; [`schema`]:
//!   the same for editors, as JSON Schema.
//! - [`check`]: from the tree to a [`document::Document`] and every problem in it.
//! - [`layer`]: what a file says, and how layers are joined.
//! - [`places`]: where profiles are, those in the program ([`builtin`]) last; [`chain`]: what they
//!   extend; [`matching`]: which one is meant for this host; [`load`]: all of it at once.
//! - [`listing`], [`effective`], [`init`]: what `nvlaunch profile list`, `show --effective` and
//!   `init` print.
//! - [`source`]: reading a file, and everything at once: [`source::load`].
//! - [`problem`]: what is wrong and where; [`render`]: how it is shown: file, line, column, the line
//!   itself, a caret, a hint.
//!
//! - F1: a key that is not known is an error, never ignored; no key is accepted that does nothing.
//! - F2: all problems of a file are said at once, each with its place.
//! - F3: a value keeps the file and line it came from, through every layer.

pub mod builtin;
pub mod chain;
pub mod check;
pub mod document;
pub mod effective;
pub mod error;
pub mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod init;
pub mod keys;
pub mod layer;
pub mod listing;
pub mod load;
pub mod mask;
pub mod matching;
pub mod node;
pub mod places;
pub mod problem;
pub mod render;
pub mod schema;
pub mod source;
mod syntax;
#[cfg(test)]
mod tests;
pub mod texts;
