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

/// A text as one line.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text of a comment in the source, as one line, without the marks that it needs only there.
fn comment(text: &str) -> String {
    flowing(text).replace("`PyTorch`", "PyTorch").replace("`ROCm`", "ROCm")
}

/// Compares a generated text with the file that is committed.
///
/// With `NVLAUNCH_UPDATE` set it writes the file instead.
#[cfg(test)]
pub(crate) fn assert_committed(path: &str, generated: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("NVLAUNCH_UPDATE").is_some() {
        std::fs::write(&file, generated).expect("the file can be written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let differ = committed.lines().zip(generated.lines()).position(|(old, new)| old != new);
    let line = differ.map_or(committed.lines().count().min(generated.lines().count()), |at| at) + 1;
    assert!(
        committed == generated,
        "{path} is stale from line {line} on: write it anew with `make reference`, or with \
         `NVLAUNCH_UPDATE=1 cargo test --lib committed`"
    );
}
