//! The manual, for man(1).
//!
//! One page holds every subcommand: a package installs one file, and a reader searches one page.
//! Who wants a page of one subcommand, as `man nvlaunch-preflight`, gets it with the same words.

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use super::pages::{self, Block, Page};
use super::{comment, flowing};
use crate::env_vars;
use crate::exit_code;

/// What a reader types, and what it is for.
const EXAMPLES: &[(&str, &str)] = &[
    ("nvlaunch --nproc 8 train.py --lr 3e-4", "Starts eight ranks of a script on this machine."),
    (
        "nvlaunch --nproc gpu --max-restarts 3 -m package.train",
        "Starts a module with one rank for each GPU, and starts all of them again after a failure, \
         three times at most.",
    ),
    (
        "nvlaunch --nproc 4 --log-dir logs --tee 3 train.py",
        "Keeps what the ranks print in files, and shows it as well.",
    ),
    ("nvlaunch preflight --full", "Says whether this machine can train, and why not."),
    ("nvlaunch smoke --junit smoke.xml", "Proves that ranks can talk to each other here."),
    ("nvlaunch --profile h100 train.py", "Starts a script with what a launch profile says."),
    ("nvlaunch explain NVL001", "Says what a finding means and what helps."),
];

/// The files that are read and written.
const FILES: &[(&str, &str)] = &[
    ("./launch-profiles/NAME.yaml", "A launch profile of this project."),
    (
        "~/.config/nvlaunch/launch-profiles/NAME.yaml",
        "A launch profile of this user; below $XDG_CONFIG_HOME where that is set.",
    ),
    ("/etc/nvlaunch/launch-profiles/NAME.yaml", "A launch profile for everybody here."),
    (
        "~/.config/nvlaunch/config.yaml, /etc/nvlaunch/config.yaml",
        "What holds below every launch profile, in the same form.",
    ),
    (
        "/tmp/nvlaunch_ID_XXXXXX/",
        "The run folder: logs, events and the report. It is removed after a run that ends well; \
         with --log-dir it is made there, and stays.",
    ),
];

const EXIT: &str = "A job that ran ends with 0, or with the code of the rank that failed first: \
    128 + n where signal n ended it. Where nvlaunch itself was asked to end by signal n, it is \
    128 + n as well. The other codes are nvlaunch's own:";

const ENVIRONMENT: &str = "NVLAUNCH_<OPTION> is read for every option of a launch, as \
    NVLAUNCH_LOG_DIR for --log-dir, and below that PET_<OPTION> for every option of torchrun. An \
    empty variable is unset.";

/// The manual of everything, or of one subcommand.
pub fn render(command: Option<&str>) -> String {
    let pages = pages::all();
    let is_of = |page: &&Page| page.words.first().map(String::as_str) == command;
    let mut pages: Vec<&Page> = match command {
        None => pages.iter().collect(),
        Some(_) => pages.iter().filter(is_of).collect(),
    };
    if pages.is_empty() {
        return String::new();
    }
    let first = pages.remove(0);
    let mut text = head(first);
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    blocks(&mut roff, first, false);
    push(&mut text, &mut roff);
    if !first.options.is_empty() {
        roff.control("SH", ["OPTIONS"]);
        push(&mut text, &mut roff);
        text.push_str(&options(first, first.options.len() > 1));
    }
    if !pages.is_empty() {
        roff.control("SH", ["COMMANDS"]);
        push(&mut text, &mut roff);
    }
    for page in pages {
        roff.control("SS", [page.name().as_str()]);
        synopsis(&mut roff, page);
        blocks(&mut roff, page, true);
        push(&mut text, &mut roff);
        text.push_str(&options(page, false));
    }
    exits(&mut roff);
    if command.is_none() {
        variables(&mut roff);
        named(&mut roff, "FILES", FILES);
        examples(&mut roff);
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("nvlaunch"), roman("(1)")]);
    }
    push(&mut text, &mut roff);
    text
}

/// Takes what was laid out so far.
fn push(text: &mut String, roff: &mut Roff) {
    text.push_str(&std::mem::take(roff).to_roff());
}

fn head(first: &Page) -> String {
    let name = first.name().replace(' ', "-");
    let version = concat!("nvlaunch ", env!("CARGO_PKG_VERSION"));
    // No date: the same program makes the same page, whenever it is built.
    let title = format!(".TH {} 1 \"\" \"{version}\" \"User Commands\"\n", name.to_uppercase());
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    let about = match first.words.as_slice() {
        [] => "starts, watches and ends distributed PyTorch jobs".to_owned(),
        _ => first.about.clone(),
    };
    roff.text([roman(format!("{name} - {about}"))]);
    roff.control("SH", ["SYNOPSIS"]);
    synopsis(&mut roff, first);
    title + &roff.to_roff()
}

fn synopsis(roff: &mut Roff, page: &Page) {
    roff.control("nf", []);
    for line in &page.usage {
        match line.strip_prefix("nvlaunch") {
            Some(rest) => roff.text([bold("nvlaunch"), roman(rest)]),
            None => roff.text([roman(line.as_str())]),
        };
    }
    roff.control("fi", []);
}

fn blocks(roff: &mut Roff, page: &Page, follows_text: bool) {
    for (at, block) in page.blocks.iter().enumerate() {
        // A heading begins a paragraph by itself.
        if at > 0 || follows_text {
            roff.control("PP", []);
        }
        match block {
            Block::Prose(prose) => {
                roff.text([roman(prose.as_str())]);
            }
            Block::Verbatim(title, lines) => {
                roff.text([roman(format!("{title}:"))]);
                roff.control("RS", ["4"]);
                roff.control("nf", []);
                for line in lines {
                    roff.text([roman(line.as_str())]);
                }
                roff.control("fi", []);
                roff.control("RE", []);
            }
        }
    }
}

/// The options as clap's own generator lays them out, with headings of our depth or none.
fn options(page: &Page, has_headings: bool) -> String {
    let bare = page.command.clone().mut_args(|arg| {
        // The words that completion offers are not all that is taken.
        let takes_value = arg.get_action().takes_values();
        let arg = if takes_value { arg.hide_possible_values(true) } else { arg };
        let aliases = arg.get_visible_aliases().unwrap_or_default().join(", --");
        let help = arg.get_help().map(|help| flowing(&help.to_string())).unwrap_or_default();
        let help = if aliases.is_empty() { help } else { format!("{help} (also --{aliases})") };
        let heading = arg.get_help_heading().unwrap_or("Other").to_owned();
        let arg = if arg.is_positional() { arg.hide(true) } else { arg };
        arg.help(help).help_heading(heading)
    });
    let mut bytes = Vec::new();
    if Man::new(options_alone(&bare, page)).render_options_section(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8(bytes).unwrap_or_default();
    let mut headings = page.options.iter().map(|(heading, _)| heading);
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with(".SH ") {
            if let Some(heading) = headings.next().filter(|_| has_headings) {
                lines.push(format!(".SS \"{heading}\""));
            }
        } else if !line.starts_with(".ie ") && !line.starts_with(".el ") {
            lines.push(line.to_owned());
        }
    }
    // An apostrophe that needs no definition at the top of the page.
    lines.into_iter().map(|line| line.replace("\\*(Aq", "\\(aq") + "\n").collect()
}

/// clap's generator builds the command again, which may stand once only.
fn options_alone(command: &Command, page: &Page) -> Command {
    let name = command.get_name().to_owned();
    let of_page: Vec<_> = page.options.iter().flat_map(|(_, options)| options).collect();
    let is_shown = |arg: &&Arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        long.is_some_and(|long| {
            of_page.iter().any(|option| option.spelled.split([' ', ',']).any(|word| word == long))
        })
    };
    let shown = command.get_arguments().filter(is_shown).cloned();
    let arguments = shown.map(|arg| match arg.get_action() {
        // These need the whole command.
        ArgAction::Help | ArgAction::Version => arg.action(ArgAction::SetTrue),
        _ => arg,
    });
    Command::new(name)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(arguments.collect::<Vec<_>>())
}

fn exits(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(EXIT)]);
    for exit in exit_code::ALL {
        roff.control("TP", []);
        roff.text([bold(exit.code.to_string())]);
        roff.text([roman(plain(&comment(exit.text)))]);
    }
}

fn variables(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(ENVIRONMENT)]);
    for (title, is_wanted) in [
        ("Read by nvlaunch", [env_vars::Use::Read, env_vars::Use::ReadAndSet]),
        ("Set for each rank", [env_vars::Use::Set, env_vars::Use::ReadAndSet]),
    ] {
        roff.control("SS", [title]);
        for variable in env_vars::ALL.iter().filter(|variable| is_wanted.contains(&variable.used)) {
            roff.control("TP", []);
            roff.text([bold(variable.name)]);
            roff.text([roman(plain(&comment(variable.text)))]);
        }
    }
}

fn named(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (name, text) in entries {
        roff.control("TP", []);
        roff.text([italic(*name)]);
        roff.text([roman(*text)]);
    }
}

fn examples(roff: &mut Roff) {
    roff.control("SH", ["EXAMPLES"]);
    for (line, text) in EXAMPLES {
        roff.control("TP", []);
        roff.text([bold(*line)]);
        roff.text([roman(*text)]);
    }
}

/// Without the marks of code, which a terminal has no other letters for.
fn plain(text: &str) -> String {
    text.replace('`', "")
}
