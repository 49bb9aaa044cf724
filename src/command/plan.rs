//! `nvlaunch plan …` and `--dry-run`: what a launch would do, and nothing of it done.
//!
//! - R1: settings, facts, preflight and plan are made as for a launch, by the same functions, and
//!   what ends a launch ends this with the same words and the same exit code.
//! - R2: no port is bound, no folder made, no process started but the one in which preflight asks
//!   the driver.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::in_file::{self, InFileError};
use super::{output, preflight, run};
use crate::cli::{PlanArgs, PlanOutput};
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::host::depth::Depth;
use crate::host::target::{ProgramFact, ScriptFact};
use crate::host::{self, Facts};
use crate::plan::document::{self, Decided, DocumentError, PlanDocument};
use crate::plan::{self, diff, text};
use crate::settings::env::Env;
use crate::settings::spec::{LaunchSpec, PreflightMode, Target};

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
    let other = shown.other().map(|path| read(&path)).transpose()?;
    let facts = facts(spec, env, has_script)?;
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
    Ok(match &other {
        Some(other) => print_differences(other, &document, shown),
        None => print(&document, shown),
    })
}

/// What is true of the machine: this one, or the one whose files `--sysroot` names.
fn facts(spec: &LaunchSpec, env: &Env, has_script: bool) -> Result<Facts, BoxError> {
    let is_looked_at = spec.preflight.mode != PreflightMode::Off;
    let root = if is_looked_at { &spec.preflight.root } else { Path::new("/") };
    let mut facts = host::gather(root, env, spec, Depth::Full)?;
    if root != Path::new("/") {
        facts.has_proc = true;
        // What this machine's PATH leads to says nothing of that one.
        let program = match (&spec.target, &spec.python) {
            (Target::Program(program), _) => program.clone(),
            (_, Some(python)) => python.clone(),
            (_, None) => PathBuf::from("python3"),
        };
        facts.program = ProgramFact::Found(program);
    }
    if !has_script {
        facts.script = ScriptFact::Usable;
    }
    Ok(facts)
}

fn print(document: &PlanDocument, shown: &PlanOutput) -> u8 {
    let text = if shown.json { document.render() } else { text::render(document) };
    match output::print(&text) {
        exit_code::OK if !document.starts => exit_code::UNAVAILABLE,
        printed => printed,
    }
}

fn print_differences(before: &PlanDocument, now: &PlanDocument, shown: &PlanOutput) -> u8 {
    let differences = diff::differences(before, now);
    let name = shown.other().unwrap_or_default().display().to_string();
    let text = if shown.json { diff::json(&differences) } else { diff::text(&differences, &name) };
    match output::print(&text) {
        exit_code::OK if !differences.is_empty() => exit_code::DIFFERS,
        printed => printed,
    }
}

/// The most bytes of a plan; that of 4096 ranks has about 2 MB.
const LIMIT: u64 = 64 << 20;

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
enum OtherError {
    #[error("cannot read the plan `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the plan `{}` is no regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("the plan `{}` is larger than {} MiB", path.display(), LIMIT >> 20)]
    TooLarge { path: PathBuf },
    #[error("`{}` holds no plan", path.display())]
    Document { path: PathBuf, source: DocumentError },
}

impl Explain for OtherError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Document { source: DocumentError::Newer { writer, .. }, .. } => {
                let writer = writer.as_ref().map_or("a newer one".to_owned(), Clone::clone);
                format!("nvlaunch {writer} wrote it: compare with that version or a newer one")
            }
            _ => "plans are written by `nvlaunch plan --json … > FILE`".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::NO_INPUT
    }
}

fn read(path: &Path) -> Result<PlanDocument, OtherError> {
    let path = path.to_owned();
    match in_file::read(&path, LIMIT) {
        Ok(bytes) => document::read(&bytes).map_err(|source| OtherError::Document { path, source }),
        Err(InFileError::Read(source)) => Err(OtherError::Read { path, source }),
        Err(InFileError::NotAFile) => Err(OtherError::NotAFile { path }),
        Err(InFileError::TooLarge) => Err(OtherError::TooLarge { path }),
    }
}
