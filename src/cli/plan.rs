//! The command line of `nvlaunch plan`: that of a launch, and how the plan is shown.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as _, Command};

use super::options::{RunArgs, house_style};

/// The options of `nvlaunch plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct PlanArgs {
    /// The launch; without a script all the rest is decided.
    #[command(flatten)]
    pub run: RunArgs,
    /// How it is shown.
    #[command(flatten)]
    pub shown: PlanOutput,
}

/// What `nvlaunch plan` has besides the options of a launch.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct PlanOutput {
    /// Print the plan as JSON; --diff reads it
    #[arg(long, help_heading = PLAN)]
    pub json: bool,
    /// Say what differs from the plan in this file, which --json wrote
    #[arg(long, value_name = "FILE", help_heading = PLAN, value_hint = clap::ValueHint::FilePath)]
    pub diff: Option<OsString>,
}

const PLAN: &str = "The plan";

/// All options, as clap knows them.
pub(super) fn command() -> Command {
    house_style(PlanArgs::augment_args(Command::new("plan")))
}

/// The options that a launch has not.
pub(super) fn own() -> Command {
    house_style(PlanOutput::augment_args(Command::new("plan"))).disable_help_flag(true)
}

impl PlanOutput {
    /// The file of `--diff`.
    pub fn other(&self) -> Option<PathBuf> {
        self.diff.as_ref().map(PathBuf::from)
    }
}
