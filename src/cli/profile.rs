//! The command line of `nvlaunch profile`: exactly what was typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command};

use super::options::{Words, house_style};
use super::{CliError, Invocation, error, help};
use crate::settings::values::nearest;

/// The words that may follow `profile`, in the order of the help.
pub const SUBCOMMANDS: &[&str] = &["list", "show", "lint", "schema", "init"];

/// What `nvlaunch profile` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileCommand {
    /// Which profiles there are.
    List(ListArgs),
    /// What one of them says.
    Show(ShowArgs),
    /// What is wrong in some files.
    Lint(LintArgs),
    /// The JSON Schema of the format.
    Schema,
    /// A profile for this machine.
    Init(InitArgs),
}

/// The options of `nvlaunch profile list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the texts of the help")]
pub struct ListArgs {
    /// Folder to take for the machine's / [default: $NVLAUNCH_SYSROOT, else /]
    #[arg(long, value_name = "DIR", help_heading = MACHINE, value_hint = clap::ValueHint::DirPath)]
    pub sysroot: Option<OsString>,
}

/// The options of `nvlaunch profile show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the texts of the help")]
pub struct ShowArgs {
    /// The profile: its name or its file; always there after [`super::parse`]
    #[arg(value_name = "NAME|PATH", value_hint = clap::ValueHint::FilePath)]
    pub profile: Option<OsString>,
    /// Every key with what holds of it with this profile, and where that was given
    #[arg(long, help_heading = OUTPUT)]
    pub effective: bool,
    /// Folder to take for the machine's / [default: $NVLAUNCH_SYSROOT, else /]
    #[arg(long, value_name = "DIR", help_heading = MACHINE, value_hint = clap::ValueHint::DirPath)]
    pub sysroot: Option<OsString>,
}

/// The options of `nvlaunch profile lint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct LintArgs {
    /// The files; at least one after [`super::parse`]
    #[arg(value_name = "FILE", num_args = 0.., value_hint = clap::ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// How problems are printed: text or json [default: text]
    #[arg(long, value_name = "FORM", help_heading = OUTPUT, value_parser = Words(FORMATS))]
    pub format: Option<OsString>,
}

/// `nvlaunch profile schema` has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct SchemaArgs {}

/// The options of `nvlaunch profile init`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the texts of the help")]
pub struct InitArgs {
    /// Folder to take for the machine's / [default: $NVLAUNCH_SYSROOT, else /]
    #[arg(long, value_name = "DIR", help_heading = MACHINE, value_hint = clap::ValueHint::DirPath)]
    pub sysroot: Option<OsString>,
    /// Interpreter of the ranks [default: as for a launch]
    #[arg(long, value_name = "PATH", help_heading = MACHINE, value_hint = clap::ValueHint::ExecutablePath)]
    pub python: Option<OsString>,
    /// Write it to this file [default: the standard output]
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT, value_hint = clap::ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, help_heading = OUTPUT)]
    pub force: bool,
}

const MACHINE: &str = "The machine";
const OUTPUT: &str = "Output";
const FORMATS: &[&str] = &["text", "json"];

impl LintArgs {
    /// Whether the problems are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.format.as_ref().is_some_and(|format| format == "json")
    }
}

/// All of them as clap knows them, for completions and reference pages.
pub(super) fn command() -> Command {
    Command::new("profile").about("Launch profiles: what a site knows").subcommands([
        options::<ListArgs>("list").about("Which profiles there are, and which one is used here"),
        options::<ShowArgs>("show").about("What a profile says, and what it extends"),
        options::<LintArgs>("lint").about("Every problem in these files"),
        options::<SchemaArgs>("schema").about("The JSON Schema of a profile, for editors"),
        options::<InitArgs>("init").about("A profile for this machine, with comments"),
    ])
}

/// The options of one of them.
pub(super) fn options<A: Args>(name: &'static str) -> Command {
    house_style(A::augment_args(Command::new(name)))
}

/// Reads the words after `profile`.
pub(super) fn profile(words: &[OsString]) -> Result<Invocation, CliError> {
    let Some((word, rest)) = words.split_first() else { return Err(CliError::ProfileCommand) };
    let command = match word.to_string_lossy().as_ref() {
        "-h" | "--help" | "help" => return Ok(Invocation::Print(help::profile())),
        "list" => read(rest, "profile list", help::profile_list)?.map(ProfileCommand::List),
        "show" => {
            let args: Read<ShowArgs> = read(rest, "profile show", help::profile_show)?;
            if matches!(&args, Read::Args(args) if args.profile.is_none()) {
                return Err(CliError::ProfileName);
            }
            args.map(ProfileCommand::Show)
        }
        "lint" => {
            let args: Read<LintArgs> = read(rest, "profile lint", help::profile_lint)?;
            if let Read::Args(args) = &args {
                checked(args)?;
            }
            args.map(ProfileCommand::Lint)
        }
        "schema" => {
            let args: Read<SchemaArgs> = read(rest, "profile schema", help::profile_schema)?;
            args.map(|_| ProfileCommand::Schema)
        }
        "init" => read(rest, "profile init", help::profile_init)?.map(ProfileCommand::Init),
        word => {
            let known = SUBCOMMANDS.iter().copied();
            let near = nearest(word, known).map(str::to_owned);
            return Err(CliError::UnknownProfileCommand { word: word.to_owned(), nearest: near });
        }
    };
    Ok(match command {
        Read::Args(command) => Invocation::Profile(command),
        Read::Instead(invocation) => invocation,
    })
}

fn checked(args: &LintArgs) -> Result<(), CliError> {
    if args.files.is_empty() {
        return Err(CliError::LintFiles);
    }
    match &args.format {
        Some(format) if !FORMATS.iter().any(|known| format == known) => {
            Err(CliError::UnknownFormat { format: format.to_string_lossy().into_owned() })
        }
        _ => Ok(()),
    }
}

/// What options became: themselves, or the help that was asked for in their place.
enum Read<T> {
    Args(T),
    Instead(Invocation),
}

impl<T> Read<T> {
    fn map<U>(self, of: impl FnOnce(T) -> U) -> Read<U> {
        match self {
            Self::Args(args) => Read::Args(of(args)),
            Self::Instead(invocation) => Read::Instead(invocation),
        }
    }
}

fn read<A: Args>(
    words: &[OsString],
    name: &'static str,
    help: fn() -> String,
) -> Result<Read<A>, CliError> {
    let mut command = options::<A>(name);
    command.build();
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(error) => return error::from_clap(&error, name, help).map(Read::Instead),
    };
    let args = A::from_arg_matches(&matches);
    args.map(Read::Args).map_err(|error| CliError::Other { message: error.to_string() })
}
