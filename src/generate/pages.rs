//! Every subcommand with what its help says and its options.
//!
//! The words are those of `--help`; the options are clap's definitions. Nothing is laid out here.

use clap::{Arg, ArgAction, Command};

use crate::cli;

/// What is known of one subcommand.
#[derive(Debug)]
pub struct Page {
    /// The words that call it, without the program's name: `profile lint`; none is the launch.
    pub words: Vec<String>,
    /// What it is for, as one clause.
    pub about: String,
    /// Its command lines.
    pub usage: Vec<String>,
    /// What its help says besides.
    pub blocks: Vec<Block>,
    /// Its options by their headings, in the order of the help.
    pub options: Vec<(String, Vec<Opt>)>,
    /// Its definition.
    pub command: Command,
}

/// A part of a help text.
#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    /// A paragraph, as one line.
    Prose(String),
    /// A heading and lines that stay as they are.
    Verbatim(String, Vec<String>),
}

/// An option.
#[derive(Debug, PartialEq, Eq)]
pub struct Opt {
    /// Its spellings with the value: `-r, --redirects STD`.
    pub spelled: String,
    /// What it does.
    pub text: String,
}

/// All of them, the launch first; a subcommand comes before its own subcommands.
pub fn all() -> Vec<Page> {
    let mut program = cli::program();
    program.build();
    let mut pages = Vec::new();
    walk(&program, &mut Vec::new(), None, &mut pages);
    pages
}

fn walk(command: &Command, words: &mut Vec<String>, above: Option<&str>, pages: &mut Vec<Page>) {
    let spoken: Vec<&str> = words.iter().map(String::as_str).collect();
    let help = cli::help_text(&spoken).unwrap_or_default();
    // What has no help of its own stands in that of the command above it.
    if above != Some(&help) {
        pages.push(page(command, words.clone(), &help));
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        words.push(below.get_name().to_owned());
        walk(below, words, Some(&help), pages);
        words.pop();
    }
}

fn page(command: &Command, words: Vec<String>, help: &str) -> Page {
    let options = options(command, help);
    let is_of_options = |title: &str| options.iter().any(|(heading, _)| heading == title);
    let mut usage = Vec::new();
    let mut blocks = Vec::new();
    for paragraph in help.split("\n\n") {
        let lines: Vec<&str> = paragraph.lines().collect();
        match lines.split_first() {
            Some((title, rest))
                if title.ends_with(':') && rest.iter().all(|line| line.starts_with("  ")) =>
            {
                let title = title.trim_end_matches(':');
                let rest = rest.iter().map(|line| line[2..].to_owned()).collect();
                if title == "Usage" {
                    usage = rest;
                } else if !is_of_options(title) {
                    blocks.push(Block::Verbatim(title.to_owned(), rest));
                }
            }
            Some(_) => blocks.push(Block::Prose(super::flowing(paragraph))),
            None => {}
        }
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    Page { words, about, usage, blocks, options, command: command.clone() }
}

/// The options that the help shows: a command that takes a launch's options too only says so.
fn options(command: &Command, help: &str) -> Vec<(String, Vec<Opt>)> {
    let mut by_heading: Vec<(String, Vec<Opt>)> = Vec::new();
    let is_shown = |arg: &Arg| {
        let is_general = matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
        let is_said = |long: &str| is_general || help.contains(&format!("--{long}"));
        !arg.is_hide_set() && arg.get_long().is_some_and(is_said)
    };
    for arg in command.get_arguments().filter(|arg| is_shown(arg)) {
        let heading = arg.get_help_heading().unwrap_or("Other");
        let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let option = Opt { spelled: spelled(arg), text: super::flowing(&text) };
        match by_heading.iter_mut().find(|(known, _)| known == heading) {
            Some((_, options)) => options.push(option),
            None => by_heading.push((heading.to_owned(), vec![option])),
        }
    }
    by_heading
}

fn spelled(arg: &Arg) -> String {
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let longs = arg.get_long().into_iter().chain(aliases).map(|name| format!("--{name}"));
    let names = short.into_iter().chain(longs).collect::<Vec<_>>().join(", ");
    let takes_value = arg.get_action().takes_values();
    let values = arg.get_value_names().filter(|_| takes_value).unwrap_or_default();
    values.iter().fold(names, |names, value| format!("{names} {value}"))
}

impl Page {
    /// How it is called: `nvlaunch profile lint`.
    pub fn name(&self) -> String {
        std::iter::once("nvlaunch")
            .chain(self.words.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }
}
