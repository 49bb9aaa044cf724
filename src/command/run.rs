//! `nvlaunch [run] …`: from the command line to the exit code.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::folder::RunFolder;
use super::policy;
use super::preflight::{self, Preflight};
use super::profile;
use super::terminal::Terminal;
use super::{out_file, output, requeue};
use crate::checkpoint::choose::Look;
use crate::checkpoint::layout::Cx;
use crate::checkpoint::scan::Request;
use crate::cli::{PlanOutput, RunArgs};
use crate::compat;
use crate::diagnose::error_file::{self, ScriptError};
use crate::diagnose::exit::Exit;
use crate::diagnose::oom::{Oom, OomWatch};
use crate::diagnose::secrets::scrub;
use crate::env_vars;
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::host::{self, depth::Depth, process::Dispositions};
use crate::logs::{ConsoleConfig, LogConfig, Logs, Losses, RankLabel};
use crate::plan::{self, Plan};
use crate::report::{self, Report, text};
use crate::settings;
use crate::settings::env::Env;
use crate::settings::spec::{LaunchSpec, LogSpec};
use crate::store::Limits;
use crate::supervise::event::Outcome;
use crate::supervise::mark::RunMark;
use crate::supervise::meeting::Meeting;
use crate::supervise::runtime::{self, Ended, Job, Recheck};
use crate::supervise::signals::Signals;

/// Where `/proc/meminfo` does not say it.
const ASSUMED_MEMORY: u64 = 8 << 30;
/// Connections of a rank to the store, as far as they have room: one for each of a few process
/// groups and watchdogs, and for processes that it starts.
const CLIENTS_PER_RANK: u64 = 16;
/// How long the console and the files may take at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Why a launch did not begin, beyond what the command line and the machine say.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot use port {port} for the ranks")]
    Port { port: u16, source: std::io::Error },
    #[error("cannot write the report `{}`", path.display())]
    Report { path: PathBuf, source: std::io::Error },
    #[error("cannot set up supervision")]
    System { source: std::io::Error },
}

impl Explain for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Port { source, port } => match source.kind() {
                std::io::ErrorKind::AddrInUse => Some(format!(
                    "something listens on it (`ss -ltnp sport = :{port}` shows what); without \
                     --master-port a free one is taken"
                )),
                _ => Some("without --master-port a free one is taken".to_owned()),
            },
            Self::Report { .. } => {
                Some("--json-report names a file in a folder that exists".into())
            }
            Self::System { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Report { .. } => exit_code::CANNOT_CREATE,
            Self::Port { .. } | Self::System { .. } => exit_code::OS,
        }
    }
}

/// What the user wants of a launch.
pub(super) fn resolve(args: &RunArgs, env: &Env) -> Result<LaunchSpec, BoxError> {
    let files = profile::files(args.profile.as_deref(), args.sysroot.as_ref(), env, true)?;
    Ok(settings::resolve(args, env, &files)?)
}

/// Runs a job; the exit code.
pub(super) fn run(args: &RunArgs, env: &Env) -> Result<u8, BoxError> {
    let spec = resolve(args, env)?;
    if spec.dry_run {
        return super::plan::show(&spec, env, &PlanOutput::default());
    }
    let Launched::Ran(ran) = launch(&spec, env, |_, _, _| Ok(()))? else {
        return Ok(exit_code::UNAVAILABLE);
    };
    let Ran { ended, mut report, folder, repeat } = *ran;
    let text = text::render(&report, repeat);
    if !text.is_empty() {
        output::eprint(&text);
    }
    folder.close(&ended.outcome);
    write_report(&spec, &report);
    if spec.preemption.requeue && matches!(ended.outcome, Outcome::Preempted { .. }) {
        let requeue = requeue::requeue(env);
        output::eprint(&format!("nvlaunch: {}\n", requeue.words));
        report.requeue = Some(requeue);
        write_report(&spec, &report);
    }
    Ok(report.exit_code)
}

/// What became of a launch.
pub(super) enum Launched {
    /// Preflight refused it, which was said.
    Refused(report::Preflight),
    /// It ran to its end, which was not said yet.
    Ran(Box<Ran>),
}

/// A launch that ran to its end.
pub(super) struct Ran {
    /// How.
    pub ended: Ended,
    /// The same for the user.
    pub report: Report,
    /// Its run folder.
    pub folder: RunFolder,
    /// Whether the last lines of a rank stand elsewhere than on this terminal.
    pub repeat: bool,
}

/// Launches what is wanted; `prepare` sees the plan, the machine and the run folder right
/// before the first rank is started, and may change what the ranks run.
pub(super) fn launch(
    spec: &LaunchSpec,
    env: &Env,
    prepare: impl FnOnce(&mut Plan, &host::Facts, Option<&Path>) -> Result<(), BoxError>,
) -> Result<Launched, BoxError> {
    let facts = host::gather(Path::new("/"), env, spec, Depth::Launch)?;
    plan::check(spec, &facts)?;
    let preflight = preflight::before_launch(spec, &facts, env)?;
    let said = preflight.as_ref().and_then(|preflight| preflight.said(spec));
    if let Some(preflight) = preflight.as_ref().filter(|preflight| preflight.refuses(spec)) {
        // Which profile was chosen may be the reason.
        output::eprint(&(notes_text(&spec.notes) + &said.unwrap_or_default()));
        return Ok(Launched::Refused((&preflight.judgement).into()));
    }
    let mut plan = plan::decide(spec, &facts, preflight.as_ref().map(|p| &p.judgement))?;
    if let Some(path) = &spec.json_report {
        let error = |source| RunError::Report { path: path.clone(), source };
        out_file::check(path).map_err(error)?;
    }
    let at_start = Dispositions::of("self").unwrap_or_default();
    let signals = Signals::listen(&spec.extra_end_signals, at_start)
        .map_err(|source| RunError::System { source })?;
    let open_files = raise_open_files(plan.ranks.len());
    let meeting = meeting(spec, &plan)?;
    let folder = RunFolder::make(&spec.logs, &plan.run_id)?;
    let _compat = compat::place(&mut plan, folder.path())?;
    prepare(&mut plan, &facts, folder.path())?;
    let oom = OomWatch::begin(Path::new("/"));
    let console = console(&plan, &spec.logs);
    let mut logs = Logs::start(LogConfig {
        spec: spec.logs.clone(),
        ranks: plan
            .ranks
            .iter()
            .map(|r| RankLabel { local_rank: r.local_rank, rank: r.rank })
            .collect(),
        role: spec.role.clone(),
        hostname: host_name(),
        run_dir: folder.path().map(Path::to_owned),
        console,
    })?;
    if let Some(said) = said {
        logs.say(said.as_bytes());
    }
    logs.say(notes_text(&plan.notes).as_bytes());
    if let RunFolder::Temporary { dir, has_logs: true } = &folder {
        logs.say(format!("nvlaunch: note: log files go to {}\n", dir.path().display()).as_bytes());
    }
    let accepted = preflight.as_ref().filter(|_| policy::rechecks(spec));
    let job = Job {
        spec,
        plan: &plan,
        policy: policy::policy(spec, plan.ranks.len(), &plan.launch_id, env, unix_time()),
        mark: RunMark::new(plan.launch_id.clone()),
        run_dir: folder.path().map(Path::to_owned),
        open_files,
        meeting,
        look: look(spec, &plan),
        oom: &oom,
        recheck: accepted.as_ref().map(|accepted| {
            Recheck(Box::new(|| preflight::speaks_against(accepted, spec, &facts, env)))
        }),
    };
    let terminal = console.direct_terminal.and_then(|_| Terminal::remember());
    let ended =
        runtime::run(job, &mut logs, signals).map_err(|source| RunError::System { source })?;
    let losses = logs.finish(FLUSH_LIMIT);
    if let Some(terminal) = &terminal {
        terminal.restore();
    }
    let run_dir = folder.path().filter(|_| folder.stays(&ended.outcome)).map(Path::to_owned);
    let seen = Seen { spec, plan: &plan, oom: &oom, preflight: preflight.as_ref(), env };
    let report = build_report(&seen, &ended, run_dir, losses);
    // With one rank on a terminal its last lines stand right above.
    let repeat = console.direct_terminal.is_none();
    Ok(Launched::Ran(Box::new(Ran { ended, report, folder, repeat })))
}

/// Writes the report where it is asked for as JSON; says where it cannot be written.
fn write_report(spec: &LaunchSpec, report: &Report) {
    let Some(path) = &spec.json_report else { return };
    let written = serde_json::to_vec_pretty(report).map_err(std::io::Error::from);
    let written = written.and_then(|mut json| {
        json.push(b'\n');
        out_file::write(path, &json)
    });
    if let Err(source) = written {
        let error = RunError::Report { path: path.clone(), source };
        output::eprint(&crate::error::render(&error));
    }
}

/// Where checkpoints are looked for.
fn look(spec: &LaunchSpec, plan: &Plan) -> Option<Look> {
    let wanted = spec.checkpoint.as_ref()?;
    // The ranks may have another working folder when they read it.
    let folder = std::path::absolute(&wanted.dir).unwrap_or_else(|_| wanted.dir.clone());
    let cx = Cx {
        world_size: Some(plan.world_size),
        // No rank was started yet.
        since: Some(SystemTime::now()),
        pattern: wanted.pattern.clone(),
    };
    let request = Request { folder, layout: wanted.layout, cx, all: false };
    Some(Look { request, deadline: wanted.deadline })
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Notes as they are said, a line each.
pub(super) fn notes_text(notes: &[String]) -> String {
    let line = |note: &String| format!("nvlaunch: note: {}\n", scrub(note));
    notes.iter().map(line).collect()
}

/// Binds the port where the ranks meet.
fn meeting(spec: &LaunchSpec, plan: &Plan) -> Result<Meeting, RunError> {
    let memory = host::limits::memory(Path::new("/")).unwrap_or(ASSUMED_MEMORY);
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let own = plan::OWN_FILES + plan::FILES_PER_RANK * plan.ranks.len() as u64;
    let limits = Limits::new(memory, files.saturating_sub(own));
    Meeting::prepare(plan.store.clone(), plan.master_port, spec.init_report_after, limits)
        .map_err(|source| RunError::Port { port: plan.master_port.unwrap_or(0), source })
}

/// What a report is made of besides the run that is over.
struct Seen<'a> {
    spec: &'a LaunchSpec,
    plan: &'a Plan,
    oom: &'a OomWatch,
    preflight: Option<&'a Preflight>,
    env: &'a Env,
}

fn build_report(
    seen: &Seen<'_>,
    ended: &Ended,
    run_dir: Option<PathBuf>,
    losses: Losses,
) -> Report {
    let Seen { spec, plan, oom, preflight, env } = *seen;
    let suspect = ended.core.attempt().suspect.map(|rank| rank as usize);
    let record = suspect.map(|rank| &ended.core.attempt().ranks[rank]);
    let exit = record.and_then(|record| record.ended).map(|(exit, _)| exit);
    let script_error =
        suspect.and_then(|rank| ended.error_files.get(rank)?.as_deref()).and_then(error_file::read);
    if let (Some((_, value)), Some(exit)) = (&script_error, exit) {
        tell_caller(env, value.clone(), exit);
    }
    report::Report::build(
        ended,
        report::Context {
            run: plan.launch_id.clone(),
            host: host_name(),
            ranks: plan.ranks.iter().map(|rank| rank.rank).collect(),
            world_size: plan.world_size,
            program: program_words(plan),
            max_restarts: spec.max_restarts,
            oom: oom_of(ended, suspect, oom),
            script_error: script_error.map(|(error, _): (ScriptError, _)| error),
            run_dir,
            losses: Some(losses).filter(|losses| !losses.is_none()),
            preflight: preflight.map(|preflight| (&preflight.judgement).into()),
        },
    )
}

/// What the kernel says about the suspect.
fn oom_of(ended: &Ended, suspect: Option<usize>, oom: &OomWatch) -> Option<Oom> {
    let record = &ended.core.attempt().ranks[suspect?];
    let stderr = ended.output.tails.get(suspect?).map_or(&[][..], |tail| &tail.stderr);
    oom.of_rank(record.pid, record.ended?.0, stderr)
}

/// What each rank runs, for people: the program and the script, not its arguments (they may hold
/// what is nobody's business).
fn program_words(plan: &Plan) -> String {
    plan.ranks.first().map_or(String::new(), |rank| rank.program.display().to_string())
}

/// The error file that nvlaunch's own caller asked for.
fn tell_caller(env: &Env, value: serde_json::Value, exit: Exit) {
    let Some(path) = env.get_nonempty(env_vars::ERROR_FILE) else { return };
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => -signal,
    };
    let value = error_file::for_caller(value, code);
    if let Err(error) = std::fs::write(path, value.to_string()) {
        let path = Path::new(path).display();
        output::eprint(&format!("nvlaunch: cannot write the error file {path}: {error}\n"));
    }
}

/// What the console can do.
fn console(plan: &Plan, logs: &LogSpec) -> ConsoleConfig {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let colour = |choice| !matches!(choice, anstream::ColorChoice::Never);
    let stdout_is_terminal = stdout.is_terminal();
    let stderr_is_terminal = stderr.is_terminal();
    let same = |a: rustix::fs::Stat, b: rustix::fs::Stat| a.st_rdev == b.st_rdev;
    let same_terminal = stdout_is_terminal
        && stderr_is_terminal
        && matches!((rustix::fs::fstat(&stdout), rustix::fs::fstat(&stderr)),
            (Ok(a), Ok(b)) if same(a, b));
    // One rank alone on a terminal gets it, as if it had been started by hand: `breakpoint()`,
    // line editing and progress bars work.
    let alone = plan.ranks.len() == 1 && plan.stdin_rank == Some(0) && logs.prefix.is_none();
    let direct = alone && stdin.is_terminal() && stdout_is_terminal;
    ConsoleConfig {
        stdout_is_terminal,
        stderr_is_terminal,
        same_terminal,
        colour_stdout: colour(anstream::AutoStream::choice(&stdout)),
        colour_stderr: colour(anstream::AutoStream::choice(&stderr)),
        direct_terminal: direct.then_some(0),
    }
}

pub(super) fn host_name() -> String {
    nix::unistd::gethostname().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// Makes room for the ranks' pipes; the limit that the ranks shall have, where it was changed.
fn raise_open_files(ranks: usize) -> Option<u64> {
    let per_rank = plan::FILES_PER_RANK + CLIENTS_PER_RANK;
    let needed = plan::OWN_FILES + per_rank * ranks as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= needed {
        return None;
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).ok()?;
    Some(soft)
}
