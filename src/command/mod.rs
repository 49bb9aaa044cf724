//! One module for each subcommand; the hidden ones (`__rank`, `__keeper`, `__probe`) stand
//! in [`crate::supervise`] and [`crate::probe`].

mod checkpoint;
mod explain;
mod facts_file;
mod folder;
mod generate;
mod in_file;
mod out_file;
mod output;
mod plan;
mod policy;
mod preflight;
mod profile;
mod profile_init;
mod profile_lint;
mod profile_schema;
mod replay;
mod requeue;
mod run;
mod smoke;
mod terminal;

use std::ffi::OsString;

pub use output::eprint;

use crate::cli::{self, Invocation};
use crate::error::{BoxError, render};
use crate::probe;
use crate::settings::env::Env;
use crate::supervise::{keeper, shim};

/// Runs the program with these words (the program's own name first); the exit code.
pub fn main(argv: Vec<OsString>) -> u8 {
    // The shim's way is as short as it can be: it stands between the command and every rank.
    match argv.get(1).and_then(|word| word.to_str()) {
        Some(shim::SUBCOMMAND) => return shim::run(argv.into_iter().skip(2)),
        Some(keeper::SUBCOMMAND) => return keeper::run(argv.into_iter().skip(2)),
        Some(probe::SUBCOMMAND) => return probe::run(argv.into_iter().skip(2)),
        _ => {}
    }
    let env = Env::snapshot();
    output::start_developers_log(&env);
    let result =
        cli::parse(argv, &env).map_err(BoxError::from).and_then(|invocation| match invocation {
            Invocation::Run(options) => run::run(&options, &env),
            Invocation::Plan(options) => plan::plan(&options, &env),
            Invocation::Preflight(options) => preflight::preflight(&options, &env),
            Invocation::Smoke(options) => smoke::smoke(&options, &env),
            Invocation::Profile(command) => profile::profile(&command, &env),
            Invocation::Inspect(options) => checkpoint::inspect(&options),
            Invocation::Explain(what) => explain::explain(&what),
            Invocation::Generate(what) => Ok(generate::generate(&what)),
            Invocation::Replay { file } => replay::replay(&file),
            Invocation::Print(text) => Ok(output::print(&text)),
        });
    result.unwrap_or_else(|error| {
        output::eprint(&render(&*error));
        error.exit_code()
    })
}
