//! `nvlaunch preflight`, and the same look before a launch.
//!
//! - R1: what a launch refuses, `nvlaunch preflight` calls refused, and the other way round: both
//!   look and judge through [`look`] and [`judged`].
//! - R2: what is said of the machine goes to stderr in a launch, whose stdout is the ranks' own.
//! - R3: `--preflight off` reads nothing and sets nothing.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{facts_file, output, profile, run};
use crate::cli::PreflightArgs;
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::host::depth::Depth;
use crate::host::facts::nvidia::Probe;
use crate::host::facts::{HostFacts, Network};
use crate::host::target::{self, ProgramFact};
use crate::host::{self, devices, limits, network, survey};
use crate::plan::{self, PlanError};
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::text::{self, Manner};
use crate::preflight::{Intent, Judgement, Verdict, decide, document, judge};
use crate::probe;
use crate::profile::init;
use crate::profile::layer::Files;
use crate::settings;
use crate::settings::env::Env;
use crate::settings::spec::{
    LaunchSpec, PreflightMode, PreflightSpec, ProcCount, ProfileVariable, Target, with_profile,
};
use crate::settings::values;

/// Why the machine cannot be looked at.
#[derive(Debug, thiserror::Error)]
enum PreflightError {
    #[error("--sysroot: `{}` is no folder", root.display())]
    Root { root: PathBuf },
}

impl Explain for PreflightError {
    fn hint(&self) -> Option<String> {
        Some("give the folder that holds the machine's etc, proc, sys and usr".to_owned())
    }

    fn exit_code(&self) -> u8 {
        exit_code::NO_INPUT
    }
}

/// What was seen and what follows.
#[derive(Debug)]
pub(super) struct Preflight {
    /// What is true of the machine.
    pub facts: HostFacts,
    /// What that means for the job.
    pub judgement: Judgement,
    /// How long it took.
    pub took: Duration,
}

/// `nvlaunch preflight`; the exit code.
pub(super) fn preflight(args: &PreflightArgs, env: &Env) -> Result<u8, BoxError> {
    let began = Instant::now();
    // Facts of another machine say nothing of what is chosen on this one.
    let is_matched = args.facts.is_none();
    let files = profile::files(args.profile.as_deref(), args.sysroot.as_ref(), env, is_matched)?;
    let request = settings::resolve_preflight(args, env, &files)?;
    if !request.notes.is_empty() {
        output::eprint(&run::notes_text(&request.notes));
    }
    let env = &*with_profile(env, &request.env);
    let spec = &request.spec;
    let facts_out = args.facts_out_file();
    if let Some(path) = &facts_out {
        facts_file::check(path)?;
    }
    let (facts, nproc) = if let Some(path) = args.facts_file() {
        // Words such as `gpu` would count the devices of this machine.
        let count = match request.nproc {
            Some(ProcCount::Count(count)) => Some(Ok(count)),
            _ => None,
        };
        (facts_file::read(&path)?, count)
    } else {
        check_root(&spec.root)?;
        let interpreter = interpreter(spec, env, request.python.as_deref())?;
        let nproc = request.nproc.as_ref().map(|nproc| count(nproc, &spec.root, env));
        (look(spec, env, &request.env, interpreter.as_deref()), nproc)
    };
    let facts = document::without_secrets(facts);
    let judgement =
        judged(spec, nproc.as_ref().and_then(|count| count.as_ref().ok()).copied(), &facts);
    let stdout = std::io::stdout();
    let colour = !matches!(anstream::AutoStream::choice(&stdout), anstream::ColorChoice::Never);
    let text = if args.json {
        document::render(&judgement, &facts)
    } else {
        let took = began.elapsed();
        text::whole(&judgement, &facts, Manner { colour, took, force: false })
    };
    let printed = output::print(&text);
    if let Some(path) = &facts_out {
        facts_file::write(path, &facts)?;
    }
    match (judgement.verdict, nproc) {
        (Verdict::Refused, _) => Ok(exit_code::UNAVAILABLE),
        // No finding says why the ranks cannot be counted.
        (_, Some(Err(error))) => Err(error.into()),
        _ => Ok(printed),
    }
}

/// What there is to say of the machine without a job, for `nvlaunch profile init`: what other
/// profiles say counts for nothing. Also whether a launch can count its devices.
pub(super) fn of_machine(
    args: &PreflightArgs,
    env: &Env,
) -> Result<(HostFacts, Judgement, bool), BoxError> {
    let request = settings::resolve_preflight(args, env, &Files::embedded()?)?;
    let spec = &request.spec;
    check_root(&spec.root)?;
    let interpreter = interpreter(spec, env, request.python.as_deref())?;
    let mut facts = look(spec, env, &request.env, interpreter.as_deref());
    if facts.network == Network::default() {
        // A machine without devices is not asked for them otherwise.
        facts.network = network::read(&spec.root, &mut facts.notes);
    }
    let facts = document::without_secrets(facts);
    let judgement = judged(spec, None, &facts);
    let word = init::word(&judgement).and_then(|word| values::nproc(word).ok());
    let is_counted = word.is_some_and(|word| count(&word, &spec.root, env).is_ok());
    Ok((facts, judgement, is_counted))
}

/// The look before a launch; `None` with `--preflight off`.
pub(super) fn before_launch(
    spec: &LaunchSpec,
    machine: &host::Facts,
    env: &Env,
) -> Result<Option<Preflight>, BoxError> {
    let wanted = &spec.preflight;
    if wanted.mode == PreflightMode::Off {
        return Ok(None);
    }
    let began = Instant::now();
    check_root(&wanted.root)?;
    let interpreter = match (&spec.target, &machine.program) {
        _ if wanted.root != Path::new("/") => spec.python.as_deref(),
        (Target::Program(program), ProgramFact::Found(path)) => {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            Some(path.as_path()).filter(|_| name.starts_with("python"))
        }
        (_, ProgramFact::Found(path)) => Some(path.as_path()),
        _ => None,
    };
    let facts = look(wanted, &spec.env_of_ranks(env), &spec.env, interpreter);
    let judgement = judged(wanted, plan::count(spec, machine).ok(), &facts);
    Ok(Some(Preflight { facts, judgement, took: began.elapsed() }))
}

/// The look before a later attempt: why the job may not start again on this machine, as a clause,
/// where something is wrong that was not when it began.
pub(super) fn speaks_against(
    accepted: &Preflight,
    spec: &LaunchSpec,
    machine: &host::Facts,
    env: &Env,
) -> Option<String> {
    // What cannot be looked at says nothing against it.
    let now = before_launch(spec, machine, env).ok()??;
    let known: Vec<&Finding> = accepted.judgement.findings.iter().collect();
    let is_new = |finding: &&Finding| {
        finding.severity == Severity::Error
            && !known.iter().any(|k| k.code == finding.code && k.severity == Severity::Error)
    };
    let finding = now.judgement.findings.iter().find(is_new)?;
    Some(format!("preflight finds {} on this machine now: {}", finding.code, finding.summary))
}

impl Preflight {
    /// Whether the launch ends here.
    pub(super) fn refuses(&self, spec: &LaunchSpec) -> bool {
        self.judgement.verdict == Verdict::Refused && !spec.preflight.force
    }

    /// What is said of it before the ranks start. A machine on which nothing is wrong is worth a
    /// line to a person at a terminal, and none in the log of the hundredth job.
    pub(super) fn said(&self, spec: &LaunchSpec) -> Option<String> {
        let stderr = std::io::stderr();
        if self.judgement.verdict == Verdict::Ok && !stderr.is_terminal() {
            return None;
        }
        let colour = !matches!(anstream::AutoStream::choice(&stderr), anstream::ColorChoice::Never);
        let manner = Manner { colour, force: spec.preflight.force, took: self.took };
        Some(text::launch(&self.judgement, &self.facts, manner))
    }
}

/// Reads the machine, and asks its driver where that can be done. `env` is that of the ranks, what
/// the profile says of variables included.
fn look(
    spec: &PreflightSpec,
    env: &Env,
    profile: &BTreeMap<String, ProfileVariable>,
    interpreter: Option<&Path>,
) -> HostFacts {
    let depth = match spec.mode {
        PreflightMode::Full => Depth::Full,
        PreflightMode::Auto | PreflightMode::Off => Depth::Launch,
    };
    let mut facts = survey::survey(&spec.root, env, depth, interpreter);
    let set =
        profile.iter().filter(|(name, own)| !own.is_kept && facts.variables.contains_key(*name));
    facts.variables_from = set.map(|(name, own)| (name.clone(), own.origin.to_string())).collect();
    ask_driver(&mut facts, spec, env, depth, interpreter);
    facts
}

/// Asks the driver, where there is one; [`probe`] knows where it may not be asked.
fn ask_driver(
    facts: &mut HostFacts,
    spec: &PreflightSpec,
    env: &Env,
    depth: Depth,
    interpreter: Option<&Path>,
) {
    let mut settings = probe::Settings::new(&spec.root, env, depth);
    if settings.library.is_some() {
        facts.nvidia.get_or_insert_default();
    }
    let Some(nvidia) = &mut facts.nvidia else { return };
    settings.interpreter = interpreter.map(Path::to_owned);
    settings.deadline =
        if nvidia.persistence_daemon { spec.deadline } else { spec.deadline_without_persistence };
    nvidia.nvml = probe::nvml(&settings);
    nvidia.cuda = match &nvidia.nvml {
        _ if depth == Depth::Launch => Probe::NotAsked,
        // It would hang in the same place, and cost the same time again.
        Probe::Hung(_) => Probe::Skipped("NVML did not answer".to_owned()),
        _ => probe::cuda(&settings),
    };
}

fn judged(spec: &PreflightSpec, nproc: Option<u32>, facts: &HostFacts) -> Judgement {
    let intent = Intent {
        nproc,
        nnodes: 1,
        backend: spec.backend.clone(),
        severity: spec.severity.clone(),
        compat: spec.compat,
    };
    let findings = judge::judge(facts, &intent);
    decide::decide(facts, findings, &intent)
}

fn check_root(root: &Path) -> Result<(), PreflightError> {
    if root.is_dir() { Ok(()) } else { Err(PreflightError::Root { root: root.to_owned() }) }
}

/// The interpreter whose packages are looked at. Below another root it is the one that was named:
/// what this machine's PATH leads to says nothing of it.
fn interpreter(
    spec: &PreflightSpec,
    env: &Env,
    python: Option<&Path>,
) -> Result<Option<PathBuf>, PlanError> {
    if spec.root != Path::new("/") {
        return Ok(python.map(Path::to_owned));
    }
    let found = target::interpreter(Path::new("/"), env, python);
    match plan::program(&found) {
        Ok(path) => Ok(Some(path)),
        Err(error) if python.is_some() => Err(error),
        // Nobody asked for one.
        Err(_) => Ok(None),
    }
}

/// The ranks that `--nproc` would be on this machine.
fn count(nproc: &ProcCount, root: &Path, env: &Env) -> Result<u32, PlanError> {
    let cpus = limits::allowed_cpus(root).map_or(1, |cpus| cpus.len());
    plan::count_of(nproc, false, cpus, &devices::probe(root, env, devices::Looked::Counted))
}
