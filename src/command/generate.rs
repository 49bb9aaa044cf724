//! `nvlaunch generate`: prints what packages, shells and editors need.

use super::output;
use crate::cli::Generated;
use crate::generate::{man, reference};

/// Prints it; the exit code.
pub(super) fn generate(what: &Generated) -> u8 {
    let text = match what {
        Generated::Man(command) => man::render(*command),
        Generated::Reference => reference::render(),
    };
    output::print(&text)
}
