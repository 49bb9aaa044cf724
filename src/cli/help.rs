//! The text of `--help`, laid out for 80 columns.
//!
//! The words come from the definitions of the options; only the layout is ours, because clap's puts
//! every text at the right of the longest option and leaves it half of the line.

use std::fmt::Write as _;

use clap::Arg;

use super::profile::{InitArgs, LintArgs, ListArgs, SchemaArgs, ShowArgs};
use crate::layout::{WIDTH, wrap};

/// The column where the texts start.
const TEXT: usize = 30;

const HEAD: &str = "\
nvlaunch starts, watches and ends distributed PyTorch jobs.

Usage:
  nvlaunch [run] [options] script.py [args...]
  nvlaunch [run] [options] -m package.module [args...]
  nvlaunch [run] [options] --no-python program [args...]
  nvlaunch plan [options] [script.py [args...]]
  nvlaunch preflight [options]
  nvlaunch smoke [options]
  nvlaunch profile list|show|lint|schema|init
  nvlaunch checkpoint inspect DIR
  nvlaunch explain CODE
  nvlaunch replay FILE
  nvlaunch generate completions|man|reference

Everything after the script is the script's own. Options may be spelled with
underscores, as in --nproc_per_node; those of torchrun are also read from
PET_* variables, as in PET_NPROC_PER_NODE=8.
";

/// The help of nvlaunch and of `nvlaunch run`.
pub(super) fn run() -> String {
    options(super::command(), HEAD)
}

const PLAN: &str = "\
Says what a launch with the same words would do: ranks, devices, CPUs, command
lines, the address, and every variable with its reason. It starts nothing.

Usage:
  nvlaunch plan [options] [script.py [args...]]
  nvlaunch plan --diff OTHER.json [options] [script.py [args...]]

The options are those of `nvlaunch run`, and two more. Without a script all the
rest is planned. The exit code is 0 where a launch would start, 69 where it
would be refused; with --diff 0 where nothing differs, 1 where something does.
Values of variables and options that look like secrets are shown as ***.
";

/// The help of `nvlaunch plan`.
pub(super) fn plan() -> String {
    options(super::plan::own(), PLAN)
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

const SMOKE: &str = "\
Proves that init_process_group and the collectives work here: starts ranks with
a small program of its own, checks the values that come out, and measures
all_reduce.

Usage:
  nvlaunch smoke [options]

The exit code is 0 where all is right. It is 1 where something is wrong, and
then the rank, the step and who waited are named; 69 where preflight refuses the
machine; 128 + n where signal n ended the test.
";

/// The help of `nvlaunch smoke`.
pub(super) fn smoke() -> String {
    options(super::smoke::command(), SMOKE)
}

const CHECKPOINT: &str = "\
Says what checkpoints there are.

Usage:
  nvlaunch checkpoint inspect DIR
";

/// The help of `nvlaunch checkpoint`.
pub(super) fn checkpoint() -> String {
    format!("{CHECKPOINT}\n`nvlaunch checkpoint inspect --help` lists the options.\n")
}

const INSPECT: &str = "\
Lists the checkpoints in a folder, newest first: step, size, age, and whether
each is whole, or what is missing; and which one ranks would resume from, and
why. Files are looked at, never read whole, never executed, and not changed.

Usage:
  nvlaunch checkpoint inspect [options] DIR

The exit code is 0 where one would be used; 1 where nothing can be resumed from;
66 where the folder is not there or not readable; 69 where it, or a newer
checkpoint, could not be looked at, so that a launch would not start.
";

/// The help of `nvlaunch checkpoint inspect`.
pub(super) fn inspect() -> String {
    options(super::checkpoint::inspect(), INSPECT)
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

/// The help of `nvlaunch generate`.
pub(super) fn generate() -> String {
    "\
Prints what packages, shells and editors need, from the definitions that
--help follows.

Usage:
  nvlaunch generate completions SHELL
  nvlaunch generate man [COMMAND]
  nvlaunch generate reference

completions is a script for bash, zsh, fish, elvish or powershell. man is the
manual nvlaunch(1), every command in it; with COMMAND it is that command's page
alone, as nvlaunch-preflight(1). reference is a page in Markdown: all options,
profile keys, environment variables, exit codes and findings.

Where such files usually are:
  nvlaunch generate completions bash \\
    > ~/.local/share/bash-completion/completions/nvlaunch
  nvlaunch generate man > ~/.local/share/man/man1/nvlaunch.1
"
    .to_owned()
}

const PROFILE: &str = "\
Launch profiles: what a site knows of its machines, in a small YAML file.

Usage:
  nvlaunch profile list [options]
  nvlaunch profile show NAME|PATH [--effective]
  nvlaunch profile lint FILE... [--format text|json]
  nvlaunch profile schema
  nvlaunch profile init [-o FILE]

A launch uses the profile of --profile, else that of NVLAUNCH_PROFILE, else the
one whose `match` fits this host. A name is looked up in ./launch-profiles, in
~/.config/nvlaunch/launch-profiles, in /etc/nvlaunch/launch-profiles, and among
those that are built in. Below the profile stand ~/.config/nvlaunch/config.yaml
and /etc/nvlaunch/config.yaml, above it variables and the command line.

Subcommands:
";

/// The help of `nvlaunch profile`.
pub(super) fn profile() -> String {
    let mut text = PROFILE.to_owned();
    for command in super::profile::command().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "  {:10}{about}", command.get_name());
    }
    text
}

/// The help of `nvlaunch profile list`.
pub(super) fn profile_list() -> String {
    let head = "\
Says which launch profiles there are, where they are, which ones are hidden by
others of their name, and which one a launch would use here, and why.

Usage:
  nvlaunch profile list [options]
";
    options(super::profile::options::<ListArgs>("list"), head)
}

/// The help of `nvlaunch profile show`.
pub(super) fn profile_show() -> String {
    let head = "\
Prints a launch profile as it is, with what it extends.

Usage:
  nvlaunch profile show NAME|PATH [options]

`show default` prints every key with its default and its meaning. Values whose
names look like those of secrets are not shown.
";
    options(super::profile::options::<ShowArgs>("show"), head)
}

/// The help of `nvlaunch profile lint`.
pub(super) fn profile_lint() -> String {
    let head = "\
Prints every problem in launch profiles, each with its place and what helps.

Usage:
  nvlaunch profile lint FILE... [options]

The exit code is 0 where nothing is wrong.
";
    options(super::profile::options::<LintArgs>("lint"), head)
}

/// The help of `nvlaunch profile schema`.
pub(super) fn profile_schema() -> String {
    let head = "\
Prints the JSON Schema of a launch profile, by which editors complete and check.

Usage:
  nvlaunch profile schema
";
    options(super::profile::options::<SchemaArgs>("schema"), head)
}

/// The help of `nvlaunch profile init`.
pub(super) fn profile_init() -> String {
    let head = "\
Writes a launch profile for this machine, from what preflight sees of it. What
it cannot decide stands there as a comment with the choices.

Usage:
  nvlaunch profile init [options]
";
    options(super::profile::options::<InitArgs>("init"), head)
}

fn options(mut command: clap::Command, head: &str) -> String {
    command.build();
    let mut text = head.to_owned();
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional()) {
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
