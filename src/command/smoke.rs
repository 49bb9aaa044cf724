//! `nvlaunch smoke`: a launch of the program that nvlaunch carries, and what follows from it.
//!
//! - R1: it is a launch like any other: settings, preflight, plan and supervision are those of
//!   [`super::run`]. What a profile says of restarts, checkpoints, warm ranks and output is left out.
//!   The backend is that of a job with these settings.
//! - R2: all of it is over when `--timeout` is, but for preflight's own deadlines.
//! - R3: stdout has the result and nothing else; why it did not pass stands on stderr.

mod watch;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::watch::{Seen, Watch};
use super::run::{self, Launched, Ran};
use super::{out_file, output};
use crate::cli::{PLACEHOLDER, SmokeArgs};
use crate::env_vars;
use crate::error::{BoxError, Explain, render};
use crate::exit_code;
use crate::host::vendors::{self, Vendor};
use crate::host::{Facts, devices};
use crate::plan::Plan;
use crate::preflight::BackendChoice;
use crate::preflight::finding::Severity;
use crate::report::{Preflight, Report};
use crate::settings::env::Env;
use crate::settings::error::Problem;
use crate::settings::spec::{
    CompatChoice, LaunchSpec, LogDir, LogSpec, ProcCount, StdinChoice, StreamMap, Streams,
};
use crate::settings::{Origin, SettingsError, values};
use crate::smoke::document::{self, About};
use crate::smoke::judge::{self, Evidence, How, Judgement, Rank, Status, Verdict};
use crate::smoke::{self, Order, junit, table, track};
use crate::supervise::event::Outcome;

/// `--timeout` where it is not given.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What is left of the time when it is looked who hangs, at most.
const LAST: Duration = Duration::from_secs(2);
/// How long ranks that hang have to end before they are killed, at most.
const GRACE: Duration = Duration::from_secs(1);
/// How much longer than nvlaunch `PyTorch` waits: nvlaunch is to say who is missing.
const PATIENCE: Duration = Duration::from_secs(300);
/// The most of a rank's file that is read.
const MOST_BYTES: u64 = 1 << 20;
/// Ranks where there are no accelerators.
const RANKS: u32 = 2;

/// What cannot be done, beyond what a launch may refuse.
#[derive(Debug, thiserror::Error)]
enum SmokeError {
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write the program of the ranks")]
    Program { source: std::io::Error },
    #[error("cannot watch the time")]
    Watch { source: std::io::Error },
}

impl Explain for SmokeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Write { .. } => Some("--junit names a file in a folder that exists".to_owned()),
            Self::Program { .. } => Some("is there room in the folder for temporary files?".into()),
            Self::Watch { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. } | Self::Program { .. } => exit_code::CANNOT_CREATE,
            Self::Watch { .. } => exit_code::OS,
        }
    }
}

/// `nvlaunch smoke`; the exit code.
pub(super) fn smoke(args: &SmokeArgs, env: &Env) -> Result<u8, BoxError> {
    let began = Instant::now();
    if args.print_program {
        return Ok(output::print(smoke::PROGRAM));
    }
    let timeout = parsed(args.timeout.as_deref(), "--timeout", values::duration)?;
    let timeout = timeout.unwrap_or(TIMEOUT);
    let sizes = parsed(args.sizes.as_deref(), "--sizes", sizes)?;
    let sizes = sizes.unwrap_or_else(|| smoke::SIZES.to_vec());
    let env = &of_test(env);
    let spec = for_test(run::resolve(&args.launch(), env)?, timeout, env);
    let junit = args.junit_file();
    if let Some(path) = &junit {
        out_file::check(path).map_err(|source| SmokeError::Write { path: path.clone(), source })?;
    }
    let mut test = Test::new(&spec, timeout, began, sizes);
    let (judgement, code) = test.run(env);
    test.about.seconds = began.elapsed().as_secs_f64();
    test.about.exit_code = code;
    let judgement = document::without_secrets(judgement);
    let printed = show(args.json, &judgement, &test.about, &test.said);
    if let Some(path) = &junit {
        let xml = junit::render(&judgement, &test.about);
        if let Err(source) = out_file::write(path, xml.as_bytes()) {
            let error = SmokeError::Write { path: path.clone(), source };
            output::eprint(&render(&error));
            return Ok(if code == exit_code::OK { error.exit_code() } else { code });
        }
    }
    Ok(if code == exit_code::OK { printed } else { code })
}

/// Prints the result; `said` was said on stderr before.
fn show(json: bool, judgement: &Judgement, about: &About, said: &Said) -> u8 {
    let stdout = std::io::stdout();
    let colour = !matches!(anstream::AutoStream::choice(&stdout), anstream::ColorChoice::Never);
    let bars = stdout.is_terminal() && colour;
    let printed = if json {
        output::print(&document::render(judgement, about))
    } else {
        output::print(&table::render(judgement, about, table::Manner { bars }))
    };
    match said {
        Said::Nothing => {
            output::eprint(&table::cause(judgement, about, std::io::stderr().is_terminal()));
        }
        Said::Preflight => {}
        Said::Error(text) => output::eprint(text),
    }
    printed
}

/// What stands, or is to stand, on stderr.
enum Said {
    /// Nothing yet.
    Nothing,
    /// Preflight has said why.
    Preflight,
    /// This error, as every command says it.
    Error(String),
}

/// A value of an option that a launch has not.
fn parsed<T>(
    typed: Option<&OsStr>,
    option: &'static str,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Option<T>, SettingsError> {
    let origin = || Origin::Option(option);
    let Some(typed) = typed else { return Ok(None) };
    let text = typed.to_str().ok_or_else(|| SettingsError::NotText { origin: origin() })?;
    read(text).map(Some).map_err(|problem| SettingsError::Value { origin: origin(), problem })
}

fn sizes(text: &str) -> Result<Vec<u64>, Problem> {
    smoke::sizes(text).map_err(|entry| {
        Problem::new(format!("`{entry}` is no size"), "give 4 bytes to 16g, as in 4,64k,4m")
    })
}

/// The environment without what it says of a job's program, and of the nodes of a job: a test has its
/// own program, and one node. In the pods of a training operator all of this is set.
fn of_test(env: &Env) -> Env {
    let is_of_job = |name: &str| {
        let option = name.strip_prefix("NVLAUNCH_").or_else(|| name.strip_prefix("PET_"));
        let is_left_out = option.is_some_and(|option| {
            matches!(option, "NO_PYTHON" | "RUN_PATH" | "MODULE" | "NNODES" | "NODE_RANK")
                || option.starts_with("RDZV_")
        });
        // Below PET_ they are those of a job of several nodes.
        is_left_out || matches!(name, "PET_MASTER_ADDR" | "PET_MASTER_PORT")
    };
    let kept = env.0.iter().filter(|(name, _)| !name.to_str().is_some_and(is_of_job));
    Env(kept.cloned().collect())
}

/// The launch of a test: what a training job needs is left out (R1).
fn for_test(mut spec: LaunchSpec, timeout: Duration, env: &Env) -> LaunchSpec {
    let is_asked = |path| {
        spec.settings.iter().any(|s| s.key == path && !matches!(s.origin, Origin::Default(_)))
    };
    if !is_asked(crate::profile::keys::NPROC.path) {
        let ranks_env = spec.env_of_ranks(env);
        let found = devices::probe(Path::new("/"), &ranks_env, devices::Looked::Counted);
        let is_some = found.auto_count(false) > 0;
        spec.nproc = if is_some { ProcCount::Auto } else { ProcCount::Count(RANKS) };
    }
    spec.max_restarts = 0;
    spec.warm = None;
    spec.checkpoint = None;
    spec.expect_step = None;
    spec.preemption.requeue = false;
    // The backend is the one that `compat` chooses; nobody needs to hear what would help a script.
    spec.has_compat_layer = false;
    if spec.compat == CompatChoice::Auto {
        spec.compat = CompatChoice::Off;
    }
    spec.dry_run = false;
    spec.json_report = None;
    spec.stdin = StdinChoice::None;
    spec.keep_daemons = false;
    // The end of the test says the same, with the steps of the ranks.
    spec.init_report_after = None;
    spec.shutdown_timeout = GRACE.min(timeout / 4);
    let none = || StreamMap::All(Streams::default());
    spec.logs = LogSpec {
        dir: match spec.logs.dir {
            LogDir::Kept(dir) => LogDir::Kept(dir),
            LogDir::Temporary | LogDir::Off => LogDir::Temporary,
        },
        redirects: none(),
        tee: none(),
        prefix: None,
        // The last lines of each rank are kept all the same.
        ranks_filter: Some(Vec::new()),
        fold: false,
        stdout_filters: Vec::new(),
        stderr_filters: Vec::new(),
    };
    spec
}

/// One test.
struct Test<'a> {
    spec: &'a LaunchSpec,
    timeout: Duration,
    began: Instant,
    sizes: Vec<u64>,
    about: About,
    said: Said,
}

impl<'a> Test<'a> {
    fn new(spec: &'a LaunchSpec, timeout: Duration, began: Instant, sizes: Vec<u64>) -> Self {
        let about = About {
            host: run::host_name(),
            began: jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            ..About::default()
        };
        Self { spec, timeout, began, sizes, about, said: Said::Nothing }
    }

    fn run(&mut self, env: &Env) -> (Judgement, u8) {
        let watch = RefCell::new(None);
        let address = RefCell::new(None);
        let about = RefCell::new(&mut self.about);
        let (began, timeout, sizes) = (self.began, self.timeout, &self.sizes);
        let prepare = |plan: &mut Plan, facts: &Facts, run_dir: Option<&Path>| {
            let dir = run_dir.expect("a test has a run folder");
            let (backend, device) = target(self.spec, plan.backend.as_ref(), facts.devices.auto());
            let mut about = about.borrow_mut();
            about.ranks = plan.world_size;
            about.backend = Some(backend.clone());
            about.device = Some(device.name.clone());
            let order = Order {
                folder: &dir.to_string_lossy(),
                backend: &backend,
                device: &device.name,
                modules: &device.modules,
                sizes,
                patience: (timeout + PATIENCE).as_secs(),
            };
            // No training follows.
            plan.notes.retain(|note| !note.starts_with(env_vars::OMP_NUM_THREADS));
            give(plan, dir, &order).map_err(|source| SmokeError::Program { source })?;
            *address.borrow_mut() = of_address(self.spec, plan);
            let last = LAST.min(timeout / 4);
            let until = (began + timeout).checked_sub(last).unwrap_or(began);
            let started =
                Watch::start(dir, plan, until).map_err(|source| SmokeError::Watch { source })?;
            *watch.borrow_mut() = Some(started);
            Ok(())
        };
        let launched = run::launch(self.spec, env, prepare);
        let seen = watch.into_inner().and_then(Watch::end);
        let address = address.into_inner();
        match launched {
            Ok(Launched::Ran(ran)) => self.judge(*ran, seen, address),
            Ok(Launched::Refused(preflight)) => self.refused(preflight),
            Err(error) => {
                let text = render(&*error);
                let (what, hints) = what_and_hints(&text);
                self.said = Said::Error(text);
                let judgement = judge::not_started(Verdict::Failed, "launch", &what, hints);
                (judgement, error.exit_code())
            }
        }
    }

    fn refused(&mut self, preflight: Preflight) -> (Judgement, u8) {
        let cause = preflight.findings.iter().find(|found| found.severity == Severity::Error);
        let what = cause.map_or_else(
            || "preflight refuses the machine".to_owned(),
            |found| format!("preflight: {}: {}", found.code, found.summary),
        );
        let hints = cause.map(|found| format!("`nvlaunch explain {}` says more", found.code));
        let hints = hints.into_iter().collect();
        self.about.preflight = Some(preflight);
        self.said = Said::Preflight;
        let judgement = judge::not_started(Verdict::Refused, "preflight", &what, hints);
        (judgement, exit_code::UNAVAILABLE)
    }

    fn judge(&mut self, ran: Ran, seen: Option<Seen>, address: Option<String>) -> (Judgement, u8) {
        let Ran { ended, report, folder, .. } = ran;
        let dir = folder.path().expect("a test has a run folder");
        let late = seen.as_ref().map(|seen| seen.at.saturating_duration_since(self.began));
        let mut looks = seen.map(|seen| seen.looks).unwrap_or_default();
        let ranks = (0u32..).zip(&ended.core.attempt().ranks).map(|(rank, record)| {
            let tail = ended.output.tails.get(rank as usize);
            let lines = tail.map(|tail| {
                if tail.stderr.is_empty() { &tail.stdout } else { &tail.stderr }.as_slice()
            });
            let lines = lines.unwrap_or_default().iter();
            Rank {
                rank,
                pid: record.pid,
                exit: record.ended.map(|(exit, _)| exit).filter(|_| record.told.is_none()),
                track: track::read(&read_file(&dir.join(format!("rank-{rank}.jsonl")))),
                look: looks.get_mut(rank as usize).and_then(Option::take),
                last_lines: lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect(),
            }
        });
        let evidence = Evidence {
            ranks: ranks.collect(),
            account: ended.missing.clone(),
            address,
            hints: hints(&report),
        };
        let how = how(&ended.outcome, &report, late);
        self.about.preflight.clone_from(&report.preflight);
        let keeps = matches!(self.spec.logs.dir, LogDir::Kept(_));
        self.about.run_dir = keeps.then(|| dir.display().to_string());
        let mut judgement = judge::judge(&how, &evidence);
        if report.preflight.is_none()
            && let Some(check) = judgement.checks.iter_mut().find(|c| c.name == "preflight")
        {
            check.status = Status::Skipped;
            check.message = Some("--preflight off".to_owned());
        }
        let code = match (judgement.verdict, &ended.outcome) {
            (Verdict::Passed, _) => exit_code::OK,
            (Verdict::Interrupted, _)
            | (_, Outcome::CannotStart { .. } | Outcome::Stuck { .. }) => report.exit_code,
            _ => exit_code::DIFFERS,
        };
        (judgement, code)
    }
}

/// How it ended; `limit` is when it was looked who hangs, where time was up.
fn how(outcome: &Outcome, report: &Report, limit: Option<Duration>) -> How {
    match (outcome, limit, &report.failure) {
        (Outcome::Completed, ..) => How::Completed,
        (Outcome::Stopped { .. } | Outcome::Stuck { .. }, Some(limit), _) => {
            How::Limit { seconds: limit.as_secs_f64() }
        }
        (Outcome::Stopped { signal } | Outcome::Preempted { signal, .. }, ..) => {
            How::Asked(*signal)
        }
        (Outcome::Failed { .. }, _, Some(failure)) => {
            How::Failed { rank: failure.rank, words: failure.words.clone() }
        }
        (Outcome::CannotStart { rank, reason, .. }, ..) => {
            How::Other(format!("rank {rank} cannot start `{}`: {reason}", report.program))
        }
        _ => {
            let text = crate::report::text::render(report, false);
            let first = text.lines().next().unwrap_or("the ranks did not end");
            How::Other(first.trim_start_matches("nvlaunch: ").to_owned())
        }
    }
}

/// What the report of the launch would advise. Where no rank failed it has no reason to mention
/// what preflight found; whoever looks for the cause has.
fn hints(report: &Report) -> Vec<String> {
    let mut hints = report.hints.clone();
    let found = report.preflight.iter().flat_map(|preflight| &preflight.findings);
    let worst = found.filter(|found| found.severity > Severity::Note);
    let worst = worst.rev().max_by_key(|found| found.severity);
    if let Some(found) = worst.filter(|_| report.failure.is_none()) {
        let (code, summary) = (&found.code, &found.summary);
        hints.push(format!(
            "before the test preflight found {code}: {summary}; `nvlaunch explain {code}` says more"
        ));
    }
    hints
}

/// A rendered error without nvlaunch's name, and its hints apart.
fn what_and_hints(text: &str) -> (String, Vec<String>) {
    let (what, hint) = text.split_once("\nhint: ").unwrap_or((text, ""));
    let what = what.trim().trim_start_matches("nvlaunch: ").to_owned();
    let hints = Some(hint.trim()).filter(|hint| !hint.is_empty());
    (what, hints.map(str::to_owned).into_iter().collect())
}

/// What is wrong with the address where the ranks meet, as far as nvlaunch knows.
fn of_address(spec: &LaunchSpec, plan: &Plan) -> Option<String> {
    let named = spec.master_addr.as_ref()?;
    let is_foreign =
        plan.store.is_none() && crate::host::addresses::of_this_machine(named).is_empty();
    is_foreign.then(|| {
        format!(
            "MASTER_ADDR `{named}` is no address of this machine, and no name that leads to one"
        )
    })
}

/// Where the tensors of a test live.
#[derive(Debug, PartialEq, Eq)]
struct Device {
    /// A `torch.device`.
    name: String,
    /// Modules that teach `PyTorch` about it.
    modules: Vec<String>,
}

/// The backend to test, which is that of a job here, and the devices it is for.
fn target(
    spec: &LaunchSpec,
    chosen: Option<&BackendChoice>,
    found: Option<&'static Vendor>,
) -> (String, Device) {
    let asked = spec.preflight.backend.as_deref();
    let chosen = chosen.map(|chosen| chosen.name.as_str());
    // Without preflight nobody has chosen one. compat cpu keeps tensors from all devices but CUDA's.
    let is_used =
        |vendor: &&Vendor| spec.compat != CompatChoice::Cpu || vendor.torch_device == "cuda";
    let usual = || found.filter(is_used).map_or("gloo", |vendor| vendor.backend);
    let backend = asked.or(chosen).unwrap_or_else(usual);
    (backend.to_owned(), device(backend, found))
}

/// The devices that a backend is for: those of the vendor that was found, where it is that
/// vendor's. Two vendors' backends may have one name.
fn device(backend: &str, found: Option<&'static Vendor>) -> Device {
    let cpu = Device { name: "cpu".to_owned(), modules: Vec::new() };
    // As in `cpu:gloo,cuda:nccl`.
    let parts = backend.split(',').map(|part| part.split_once(':').unwrap_or(("", part)));
    for (device, backend) in parts.filter(|(device, _)| *device != "cpu") {
        let is_it = |vendor: &&Vendor| {
            vendor.backend.eq_ignore_ascii_case(backend)
                && (device.is_empty() || device == vendor.torch_device)
        };
        let known = found.filter(is_it).or_else(|| vendors::ALL.iter().find(is_it));
        if let Some(vendor) = known {
            let modules = vendor.torch_packages.iter().map(|package| module(package)).collect();
            return Device { name: vendor.torch_device.to_owned(), modules };
        }
        if !device.is_empty() {
            return Device { name: device.to_owned(), modules: Vec::new() };
        }
    }
    cpu
}

/// What a distribution is imported as.
fn module(package: &str) -> String {
    match package {
        "habana-torch-plugin" => "habana_frameworks.torch".to_owned(),
        package => package.replace('-', "_"),
    }
}

/// Writes the program into the run folder and makes the ranks run it.
fn give(plan: &mut Plan, dir: &Path, order: &Order<'_>) -> std::io::Result<()> {
    let script = dir.join(smoke::SCRIPT);
    std::fs::write(&script, smoke::PROGRAM)?;
    let order = serde_json::to_string(order)?;
    for rank in &mut plan.ranks {
        debug_assert!(rank.args.iter().any(|word| word == PLACEHOLDER), "{:?}", rank.args);
        rank.args = vec!["-u".into(), script.clone().into(), order.clone().into()];
    }
    Ok(())
}

/// A rank's file; empty where there is none.
fn read_file(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read so far counts.
        let _ = file.take(MOST_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_devices_of_a_backend() {
        let npu = vendors::find("npu");
        let table = [
            ("gloo", None, "cpu", ""),
            ("gloo", npu, "cpu", ""),
            ("mpi", None, "cpu", ""),
            ("nccl", None, "cuda", ""),
            ("NCCL", vendors::find("rocm"), "cuda", ""),
            ("eccl", None, "gcu", "torch_gcu"),
            ("hccl", npu, "npu", "torch_npu"),
            ("hccl", vendors::find("hpu"), "hpu", "habana_frameworks.torch"),
            ("cpu:gloo,cuda:nccl", None, "cuda", ""),
            ("cpu:gloo,xla:xla", None, "xla", ""),
        ];
        for (backend, found, name, module) in table {
            let device = device(backend, found);
            assert_eq!((device.name.as_str(), device.modules.join(",").as_str()), (name, module));
        }
    }

    /// The launch of a test that was started with that option and those variables.
    fn spec(backend: Option<&str>, env: &[(&str, &str)]) -> LaunchSpec {
        let args = SmokeArgs { backend: backend.map(Into::into), ..SmokeArgs::default() };
        let env = of_test(&env.iter().copied().collect());
        let files = crate::profile::layer::Files::embedded().expect("the file is right");
        let spec = crate::settings::resolve(&args.launch(), &env, &files).expect("it is right");
        for_test(spec, TIMEOUT, &env)
    }

    #[test]
    fn the_backend_of_a_test_is_that_of_a_job() {
        let gcu = vendors::find("gcu");
        let cuda = vendors::find("cuda");
        // What was asked for, what compat is, what preflight chose, and what is found.
        for (asked, compat, chosen, found, expected) in [
            (Some("mpi"), "auto", Some("mpi"), None, ("mpi", "cpu")),
            (Some("gloo"), "auto", Some("gloo"), cuda, ("gloo", "cpu")),
            (Some("gloo"), "auto", None, cuda, ("gloo", "cpu")),
            (None, "auto", Some("nccl"), None, ("nccl", "cuda")),
            // Its plugin is not here.
            (None, "auto", Some("gloo"), gcu, ("gloo", "cpu")),
            (None, "gcu", Some("cpu:gloo,gcu:eccl"), gcu, ("cpu:gloo,gcu:eccl", "gcu")),
            (None, "auto", None, None, ("gloo", "cpu")),
            (None, "auto", None, gcu, ("eccl", "gcu")),
            (None, "cpu", None, gcu, ("gloo", "cpu")),
            (None, "cpu", None, cuda, ("nccl", "cuda")),
        ] {
            let chosen = chosen.map(|name: &str| BackendChoice {
                name: name.to_owned(),
                reason: String::new(),
                evidence: Vec::new(),
            });
            let spec = spec(asked, &[("NVLAUNCH_COMPAT", compat)]);
            let (backend, device) = target(&spec, chosen.as_ref(), found);
            assert_eq!((backend.as_str(), device.name.as_str()), expected);
        }
    }

    /// The backend is the one that `compat` chooses, and the program of the test needs no help.
    #[test]
    fn compat_chooses_the_backend_and_puts_nothing_into_the_ranks() {
        for (asked, compat) in [("auto", CompatChoice::Off), ("gcu", CompatChoice::Gcu)] {
            let spec = spec(None, &[("NVLAUNCH_COMPAT", asked)]);
            assert_eq!(spec.compat, compat, "{asked}");
            let layer = crate::compat::decide(&spec, &BTreeMap::new(), None);
            assert_eq!(layer, crate::compat::Compat::Off, "{asked}");
        }
    }

    #[test]
    fn an_error_and_its_hint_are_told_apart() {
        let (what, hints) = what_and_hints("nvlaunch: no port: in use\nhint: take another\n");
        assert_eq!((what.as_str(), hints.len()), ("no port: in use", 1));
        assert_eq!(hints[0], "take another");
        assert_eq!(what_and_hints("nvlaunch: x\n"), ("x".to_owned(), Vec::new()));
    }
}
