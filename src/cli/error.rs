//! What can be wrong with a command line, in our words instead of clap's.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Invocation;
use crate::error::Explain;
use crate::exit_code;

/// Why the command line cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// There is no script among the words.
    #[error("no script to run\nusage: nvlaunch [run] [options] script.py [args...]")]
    NoScript,
    /// An option before the script that does not exist.
    #[error("unexpected option `{option}`")]
    UnknownOption {
        /// As typed.
        option: String,
        /// The nearest one that exists.
        nearest: Option<String>,
        /// Whose options were looked through: `run`, `preflight`, …
        command: &'static str,
    },
    /// An option at the end of the options, or before another option, that needs a value.
    #[error("`{option}` needs a value")]
    MissingValue {
        /// Its spelling with hyphens.
        option: String,
    },
    /// `--flag=value`.
    #[error("`{option}` takes no value, and was given `{value}`")]
    UnexpectedValue {
        /// Its spelling with hyphens.
        option: String,
        /// As typed.
        value: String,
    },
    /// A word too many, as after `replay FILE`.
    #[error("unexpected word `{word}`")]
    UnexpectedWord {
        /// As typed.
        word: String,
        /// The subcommand.
        command: &'static str,
    },
    /// `replay` alone.
    #[error("no file to replay\nusage: nvlaunch replay FILE")]
    ReplayFile,
    /// `explain` alone.
    #[error("no finding to explain\nusage: nvlaunch explain CODE")]
    ExplainCode,
    /// `profile` alone.
    #[error("nothing to do with profiles\nusage: nvlaunch profile list|show|lint|schema|init")]
    ProfileCommand,
    /// `profile WORD` for a word that is none of its subcommands.
    #[error("there is no `nvlaunch profile {word}`")]
    UnknownProfileCommand {
        /// As typed.
        word: String,
        /// The nearest one that exists.
        nearest: Option<String>,
    },
    /// `profile show` alone.
    #[error("no profile to show\nusage: nvlaunch profile show NAME|PATH")]
    ProfileName,
    /// `profile lint` alone.
    #[error("no file to check\nusage: nvlaunch profile lint FILE...")]
    LintFiles,
    /// `--format` of something else than text and JSON.
    #[error("--format: `{format}` is not known")]
    UnknownFormat {
        /// As typed.
        format: String,
    },
    /// An option of `preflight` that asks for this machine, with facts of another.
    #[error("{option} and --facts exclude each other")]
    WithFacts {
        /// Its spelling with hyphens.
        option: &'static str,
    },
    /// `checkpoint` alone.
    #[error("nothing to do with checkpoints\nusage: nvlaunch checkpoint inspect DIR")]
    CheckpointCommand,
    /// `checkpoint WORD` for a word that is none of its subcommands.
    #[error("there is no `nvlaunch checkpoint {word}`")]
    UnknownCheckpointCommand {
        /// As typed.
        word: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// `checkpoint inspect` alone.
    #[error("no folder to inspect\nusage: nvlaunch checkpoint inspect DIR")]
    InspectFolder,
    /// `help WORD` for a word that is no subcommand.
    #[error("there is no help on `{word}`")]
    UnknownTopic {
        /// As typed.
        word: String,
    },
    /// `--print-completion` for a shell there is no script for.
    #[error("no completion script for the shell `{shell}`")]
    UnknownShell {
        /// As typed.
        shell: String,
    },
    /// `generate` alone.
    #[error("nothing to generate\nusage: nvlaunch generate completions|man|reference")]
    GenerateWhat,
    /// `generate completions` alone.
    #[error("no shell to complete for\nusage: nvlaunch generate completions SHELL")]
    GenerateShell,
    /// `generate WORD` for something that cannot be generated.
    #[error("`{word}` cannot be generated")]
    UnknownGenerated {
        /// As typed.
        word: String,
        /// The nearest word that can.
        nearest: Option<&'static str>,
    },
    /// `generate man WORD` for a word that is no subcommand.
    #[error("there is no manual page of `{word}`")]
    NoPage {
        /// As typed.
        word: String,
        /// The nearest one that has a page.
        nearest: Option<&'static str>,
    },
    /// Anything else that clap finds.
    #[error("{message}")]
    Other {
        /// clap's first line, without its label.
        message: String,
    },
}

impl Explain for CliError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownOption { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            Self::UnknownOption { command: "run" | "plan", .. } => {
                "options of the script stand after it; `nvlaunch --help` lists those before it"
                    .to_owned()
            }
            Self::MissingValue { option } => {
                format!("a value that starts with a hyphen is written `{option}=VALUE`")
            }
            Self::UnexpectedValue { option, .. } => format!("write `{option}` alone"),
            Self::UnexpectedWord { command: "preflight", .. } => {
                "preflight starts nothing; a script of that name is run by `nvlaunch run preflight`"
                    .to_owned()
            }
            Self::UnexpectedWord { command: "smoke", .. } => {
                "smoke starts a program of its own; a script of that name is run by `nvlaunch run smoke`"
                    .to_owned()
            }
            Self::UnexpectedWord { command: "explain", .. } => {
                "usage: nvlaunch explain CODE, or nvlaunch explain --list".to_owned()
            }
            Self::UnexpectedWord { command, .. }
                if command.starts_with("profile") || command.starts_with("checkpoint") =>
            {
                format!("`nvlaunch {command} --help` says more")
            }
            Self::UnexpectedWord { command: "generate", .. } | Self::GenerateWhat => {
                "`nvlaunch generate --help` says more".to_owned()
            }
            Self::UnexpectedWord { .. } => "usage: nvlaunch replay FILE".to_owned(),
            Self::UnknownProfileCommand { nearest: Some(near), .. } => {
                format!("did you mean `nvlaunch profile {near}`?")
            }
            Self::UnknownProfileCommand { nearest: None, .. } | Self::ProfileCommand => {
                "`nvlaunch profile --help` says more".to_owned()
            }
            Self::UnknownCheckpointCommand { nearest: Some(near), .. } => {
                format!("did you mean `nvlaunch checkpoint {near}`?")
            }
            Self::UnknownCheckpointCommand { nearest: None, .. } | Self::CheckpointCommand => {
                "`nvlaunch checkpoint --help` says more".to_owned()
            }
            Self::InspectFolder => "`nvlaunch checkpoint inspect --help` says more".to_owned(),
            Self::ProfileName => "`nvlaunch profile list` says which there are".to_owned(),
            Self::LintFiles => "`nvlaunch profile lint --help` says more".to_owned(),
            Self::UnknownFormat { .. } => "there are text and json".to_owned(),
            Self::UnknownTopic { word } => {
                let topics = super::SUBCOMMANDS.iter().copied().filter(|word| *word != "help");
                if let Some(near) = crate::settings::values::nearest(word, topics.clone()) {
                    return Some(format!("did you mean `nvlaunch help {near}`?"));
                }
                let topics: Vec<_> = topics.map(|word| format!("`{word}`")).collect();
                let (last, others) = topics.split_last().expect("there are subcommands");
                format!("there is help on {} and {last}", others.join(", "))
            }
            Self::ExplainCode => "`nvlaunch explain --list` lists the codes".to_owned(),
            Self::WithFacts { .. } => {
                "with --facts nothing of this machine is read: leave one of them out".to_owned()
            }
            Self::UnknownShell { shell } => {
                match crate::settings::values::nearest(shell, super::SHELLS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", super::SHELLS.join(", ")),
                }
            }
            Self::GenerateShell => format!("there are {}", super::SHELLS.join(", ")),
            Self::UnknownGenerated { nearest: Some(near), .. } => {
                format!("did you mean `nvlaunch generate {near}`?")
            }
            Self::NoPage { nearest: Some(near), .. } => {
                format!("did you mean `nvlaunch generate man {near}`?")
            }
            Self::NoPage { .. } => "`nvlaunch generate man` has every command in it".to_owned(),
            Self::UnknownGenerated { .. } => "there are completions, man and reference".to_owned(),
            Self::UnknownOption { command, .. } => {
                format!("`nvlaunch {command} --help` says more")
            }
            Self::ReplayFile => "`nvlaunch replay --help` says more".to_owned(),
            Self::NoScript | Self::Other { .. } => "`nvlaunch --help` lists the options".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::USAGE
    }
}

/// What clap's refusal of a subcommand's options means; `help` is the text for `--help`.
pub(super) fn from_clap(
    error: &clap::Error,
    command: &'static str,
    help: fn() -> String,
) -> Result<Invocation, CliError> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    // clap names an option together with its value: `--nproc-per-node <N>`.
    let option = || {
        let text = context(ContextKind::InvalidArg).unwrap_or_default();
        text.split([' ', '=']).next().unwrap_or_default().to_owned()
    };
    Err(match error.kind() {
        ErrorKind::DisplayHelp => return Ok(Invocation::Print(help())),
        ErrorKind::DisplayVersion => {
            return Ok(Invocation::Print(
                concat!("nvlaunch ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
            ));
        }
        ErrorKind::UnknownArgument => match option() {
            word if !word.starts_with('-') => CliError::UnexpectedWord { word, command },
            option => {
                // The other spelling of a name is read too (C4), and is not the one that is shown.
                let nearest = context(ContextKind::SuggestedArg).map(|near| near.replace('_', "-"));
                CliError::UnknownOption { option, nearest, command }
            }
        },
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            CliError::MissingValue { option: option() }
        }
        ErrorKind::TooManyValues => CliError::UnexpectedValue {
            option: option(),
            value: context(ContextKind::InvalidValue).unwrap_or_default(),
        },
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            CliError::Other { message: line.trim_start_matches("error: ").to_owned() }
        }
    })
}
