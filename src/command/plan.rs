//! `nvlaunch plan …` and `--dry-run`: what a launch would do, and nothing of it done.
//!
//! - R1: settings, facts, preflight and plan are made as for a launch, by the same functions, and
//!   what ends a launch ends this with the same words and the same exit code.
//! - R2: no port is bound, no folder made, no process started but the one in which preflight asks
//!   the driver.

use std::ffi::OsString;
use std::path::Path;

use super::preflight;
use super::{output, run};
use crate::cli::{PlanArgs, PlanOutput};
use crate::error::BoxError;
use crate::exit_code;
use crate::host::target::ScriptFact;
use crate::host::{self};
use crate::plan::document::{self, Decided, PlanDocument};
use crate::plan::{self, text};
use crate::settings::env::Env;
use crate::settings::spec::LaunchSpec;

/// What stands in the place of a script that was not named.
const NO_SCRIPT: &str = "SCRIPT";

/// `nvlaunch plan`; the exit code.
pub(super) fn plan(args: &PlanArgs, env: &Env) -> Result<u8, BoxError> {
    let mut run = args.run.clone();
    let has_script = run.script.is_some();
    run.script.get_or_insert_with(|| OsString::from(NO_SCRIPT));
    let spec = run::resolve(&run, env)?;
    show_of(&spec, env, &args.shown, has_script)
}

/// The plan of a launch that was asked not to start; the exit code.
pub(super) fn show(spec: &LaunchSpec, env: &Env, shown: &PlanOutput) -> Result<u8, BoxError> {
    show_of(spec, env, shown, true)
}

fn show_of(
    spec: &LaunchSpec,
    env: &Env,
    shown: &PlanOutput,
    has_script: bool,
) -> Result<u8, BoxError> {
    let mut facts = host::gather(Path::new("/"), env, spec)?;
    if !has_script {
        facts.script = ScriptFact::Usable;
    }
    plan::check(spec, &facts)?;
    let preflight = preflight::before_launch(spec, &facts, env)?;
    let is_refused = preflight.as_ref().is_some_and(|preflight| preflight.refuses(spec));
    let judgement = preflight.as_ref().map(|preflight| &preflight.judgement);
    let plan = match plan::decide(spec, &facts, judgement) {
        Ok(plan) => plan,
        // A launch says this and no more.
        Err(_) if is_refused => {
            let said = preflight.as_ref().and_then(|preflight| preflight.said(spec));
            output::eprint(&said.unwrap_or_default());
            return Ok(exit_code::UNAVAILABLE);
        }
        Err(error) => return Err(error.into()),
    };
    let document = document::document(Decided { spec, facts: &facts, judgement, plan: &plan });
    Ok(print(&document, shown))
}

fn print(document: &PlanDocument, shown: &PlanOutput) -> u8 {
    let text = if shown.json { document.render() } else { text::render(document) };
    match output::print(&text) {
        exit_code::OK if !document.starts => exit_code::UNAVAILABLE,
        printed => printed,
    }
}
