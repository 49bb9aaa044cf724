//! The text of `--help`, laid out for 80 columns.
//!
//! The words come from the definitions of the options; only the layout is ours, because clap's puts
//! every text at the right of the longest option and leaves it half of the line.

use std::fmt::Write as _;

use clap::Arg;

use crate::layout::{WIDTH, wrap};

/// The column where the texts start.
const TEXT: usize = 30;

const HEAD: &str = "\
nvlaunch starts, watches and ends distributed PyTorch jobs.

Usage:
  nvlaunch [run] [options] script.py [args...]
  nvlaunch [run] [options] -m package.module [args...]
  nvlaunch [run] [options] --no-python program [args...]
  nvlaunch preflight [options]
  nvlaunch explain CODE
  nvlaunch replay FILE

Everything after the script is the script's own. Options may be spelled with
underscores, as in --nproc_per_node; those of torchrun are also read from
PET_* variables, as in PET_NPROC_PER_NODE=8.
";

/// The help of nvlaunch and of `nvlaunch run`.
pub(super) fn run() -> String {
    options(super::command(), HEAD)
}

const PREFLIGHT: &str = "\
Says whether this machine can train, and why not. It starts nothing.

Usage:
  nvlaunch preflight [options]

A launch looks in the same way before it starts ranks, and is refused where an
error is found. The exit code is 0 where a launch would start, 69 where it
would be refused. `nvlaunch explain CODE` says more about a finding.
";

/// The help of `nvlaunch preflight`.
pub(super) fn preflight() -> String {
    options(super::preflight::command(), PREFLIGHT)
}

/// The help of `nvlaunch explain`.
pub(super) fn explain() -> String {
    "\
Says what a finding of preflight means, how it is recognised and what helps.

Usage:
  nvlaunch explain CODE
  nvlaunch explain --list

CODE is the code of a finding, as in NVL001, or its name.
"
    .to_owned()
}

fn options(mut command: clap::Command, head: &str) -> String {
    command.build();
    let mut text = head.to_owned();
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let of_arg = arg.get_help_heading().unwrap_or("Other");
        if heading != Some(of_arg) {
            heading = Some(of_arg);
            let _ = write!(text, "\n{of_arg}:\n");
        }
        option(&mut text, arg);
    }
    text
}

/// The help of `nvlaunch replay`.
pub(super) fn replay() -> String {
    "\
Takes the decisions of a recorded run again and compares them.

Usage:
  nvlaunch replay FILE

FILE is the record of a run, from its run folder. The exit code is 0 where
every decision is the same, 1 where one differs.
"
    .to_owned()
}

fn option(text: &mut String, arg: &Arg) {
    let mut line = String::from("  ");
    if let Some(short) = arg.get_short() {
        let _ = write!(line, "-{short}, ");
    }
    if let Some(long) = arg.get_long() {
        let _ = write!(line, "--{long}");
    }
    for alias in arg.get_visible_aliases().unwrap_or_default() {
        let _ = write!(line, ", --{alias}");
    }
    if arg.get_action().takes_values() {
        for name in arg.get_value_names().unwrap_or_default() {
            // A value that must stand behind `=` brings it with it.
            let gap = if arg.is_require_equals_set() { "" } else { " " };
            let _ = write!(line, "{gap}{name}");
        }
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    for piece in wrap(&help, WIDTH - TEXT) {
        // An option too long for its column stands on a line of its own.
        if line.len() + 2 > TEXT {
            text.push_str(line.trim_end());
            text.push('\n');
            line.clear();
        }
        let _ = writeln!(text, "{line:TEXT$}{piece}");
        line.clear();
    }
}
