//! What will be done: program, environment, addresses, placement of each rank.
//!
//! [`decide`] is a pure function of what the user wants and what is true of the machine. Its
//! product leaves the executor no choice.
//!
//! - P1: every name of torchrun's contract is set for each rank, whatever the caller's environment
//!   says; names of an outer run that are not set here are removed.
//! - P2: nvlaunch serves the store (`TORCHELASTIC_USE_AGENT_STORE=True`) at the address the ranks
//!   are given and nowhere else, on a fresh port for each attempt unless one was named. Where that
//!   address is not this machine's, or `--store rank0` asks for it, rank 0 serves it (`False`).
//! - P3: what cannot work is refused before anything is started.
//! - P4: a variable is decided by the first of: torchrun's contract, the caller's own environment,
//!   the profile, preflight, the defaults.
//! - P5: every variable carries why it is as it is, and where that was said.

pub mod diff;
pub mod document;
mod environment;
mod error;
mod numa;
mod omp;
mod placement;
mod substitute;
#[cfg(test)]
mod tests;
pub mod text;
mod variable;

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

pub use environment::{AttemptEnv, PROGRESS_NAME, Resume, caller_env_to_remove};
pub use error::PlanError;
pub use omp::OmpChoice;
pub use placement::RankDevice;
pub use variable::{EnvChange, Layer, Variable};

use crate::compat::{self, Compat};
use crate::host::devices::Devices;
use crate::host::target::{ProgramFact, ScriptFact};
use crate::host::{Facts, WorkingDir};
use crate::preflight::{BackendChoice, Judgement, VariableChoice};
use crate::settings::spec::{LaunchSpec, MAX_RANKS, ProcCount, StdinChoice, StoreHost, Target};
use crate::warm::{self, Warmth};

/// Files that nvlaunch has open besides those of the ranks.
pub const OWN_FILES: u64 = 16;
/// Files that one rank needs: a pidfd, and a pipe and a log file for each of two streams.
pub const FILES_PER_RANK: u64 = 5;

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// `TORCHELASTIC_RUN_ID`.
    pub run_id: String,
    /// `NVLAUNCH_RUN_ID`: unlike the name the user may give a run, no other launch has it.
    pub launch_id: String,
    /// The ranks of this node, by local rank.
    pub ranks: Vec<RankPlan>,
    /// Ranks of the whole job.
    pub world_size: u32,
    /// `MASTER_ADDR`.
    pub master_addr: String,
    /// `MASTER_PORT`; `None` is a fresh one for each attempt.
    pub master_port: Option<u16>,
    /// Where nvlaunch serves the store; `None` leaves that to rank 0.
    pub store: Option<Vec<IpAddr>>,
    /// What is decided of every rank's environment; removals first.
    pub common_env: Vec<Variable>,
    /// One line each for the user: what was decided that they may not expect.
    pub notes: Vec<String>,
    /// The local rank that inherits the standard input; the others read `/dev/null`.
    pub stdin_rank: Option<u32>,
    /// `OMP_NUM_THREADS` of the ranks.
    pub omp: OmpChoice,
    /// The backend that preflight chose, and why; `None` where it did not look.
    pub backend: Option<BackendChoice>,
    /// What preflight chose for variables, and why; those that are the user's own are not touched.
    pub variables: Vec<VariableChoice>,
    /// Whether ranks are forked from an interpreter that has imported their modules, or why not.
    pub warmth: Warmth,
    /// What becomes of scripts that insist on CUDA.
    pub compat: Compat,
}

/// What one rank is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankPlan {
    /// Its number on this node. Not always its `LOCAL_RANK`: see `--virtual-local-rank`.
    pub local_rank: u32,
    /// Its number in the job.
    pub rank: u32,
    /// The program to execute.
    pub program: PathBuf,
    /// The program's arguments, without its own name.
    pub args: Vec<OsString>,
    /// Variables that are its own.
    pub env: Vec<Variable>,
    /// The device that its script takes with `device = LOCAL_RANK`; `None` is none, or not known.
    pub device: Option<RankDevice>,
    /// The NUMA node of that device; `None` is not known.
    pub numa_node: Option<u32>,
    /// Why it has no device or no node, in one clause.
    pub unplaced: Option<String>,
    /// The CPUs it may run on; `None` is those of nvlaunch. Never empty.
    pub cpus: Option<Vec<u32>>,
    /// The CPUs it can count on, 1 or more: its share of those that it may run on and of the
    /// control group's quota.
    pub cpu_count: u32,
}

/// Says why nothing can be done, as far as that needs no look at the devices: what was typed wrong
/// is said before a driver is asked.
pub fn check(spec: &LaunchSpec, facts: &Facts) -> Result<(), PlanError> {
    if !facts.has_proc {
        return Err(PlanError::NoProc);
    }
    if facts.working_dir == WorkingDir::Deleted {
        return Err(PlanError::WorkingDirDeleted);
    }
    check_script(spec, &facts.script)?;
    program(&facts.program)?;
    check_rendezvous_host(spec, facts)
}

/// Decides what will be done, or why nothing can be. `judgement` is preflight's, where it looked.
pub fn decide(
    spec: &LaunchSpec,
    facts: &Facts,
    judgement: Option<&Judgement>,
) -> Result<Plan, PlanError> {
    check(spec, facts)?;
    let program = program(&facts.program)?;
    let count = count(spec, facts)?;
    check_files(count, facts)?;
    let stdin_rank = match spec.stdin {
        StdinChoice::Auto => (count == 1).then_some(0),
        StdinChoice::None => None,
        StdinChoice::Rank(rank) if rank < count => Some(rank),
        StdinChoice::Rank(rank) => return Err(PlanError::StdinRank { rank, count }),
    };

    let mut notes = spec.notes.clone();
    let run_id = spec.run_id.clone().unwrap_or_else(|| facts.fresh_run_id.clone());
    let master_addr = spec.master_addr.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
    let store = store(spec, facts, &master_addr, &mut notes);
    let placements = placement::decide(spec, facts, judgement, count)?;
    let omp = omp::choose(spec, facts, &placements);
    notes.extend(omp.note(spec, count));
    let ranks: Vec<RankPlan> = (0..count)
        .zip(placements)
        .map(|(local_rank, placement)| {
            Ok(RankPlan {
                local_rank,
                rank: local_rank,
                program: program.clone(),
                args: arguments(spec, local_rank),
                env: environment::of_rank(spec, facts, local_rank)?,
                device: placement.device,
                numa_node: placement.numa_node,
                unplaced: placement.unplaced,
                cpus: placement.cpus.map(|cpus| cpus.into_iter().collect()),
                cpu_count: placement.cpu_count,
            })
        })
        .collect::<Result<Vec<_>, PlanError>>()?;
    let common = environment::Common {
        run_id: &run_id,
        master_addr: &master_addr,
        count,
        agent_store: store.is_some(),
        own: ranks.first().map_or(&[], |rank| &rank.env),
    };
    let mut common_env = environment::common(spec, facts, judgement, &common, &omp);
    let compat = compat::decide(spec, &facts.caller.variables, judgement);
    if let Compat::On(layer) = &compat {
        environment::make_way(spec, layer, &mut common_env);
        notes.extend(layer.warnings.iter().cloned());
    }
    let hash_seed = facts.caller.python_hash_seed.as_deref();
    let warmth = warm::decide(spec, hash_seed, &common_env, &ranks);
    notes.extend(warmth.note());
    Ok(Plan {
        run_id,
        launch_id: facts.fresh_run_id.clone(),
        ranks,
        world_size: count,
        master_addr,
        master_port: spec.master_port.filter(|port| *port != 0),
        store,
        common_env,
        notes,
        stdin_rank,
        omp,
        backend: judgement.map(|judgement| judgement.backend.clone()),
        variables: judgement.map(|judgement| judgement.variables.clone()).unwrap_or_default(),
        warmth,
        compat,
    })
}

/// Where nvlaunch serves the store. What works with rank 0 as the host must not fail because
/// nvlaunch cannot be it: then rank 0 is.
fn store(
    spec: &LaunchSpec,
    facts: &Facts,
    master_addr: &str,
    notes: &mut Vec<String>,
) -> Option<Vec<IpAddr>> {
    if spec.store == StoreHost::Rank0 {
        return None;
    }
    if facts.store_addresses.is_empty() {
        notes.push(format!(
            "`{master_addr}` is no address of this machine: rank 0 serves the store"
        ));
        return None;
    }
    Some(facts.store_addresses.clone())
}

/// How many ranks a launch has; never 0, never more than [`MAX_RANKS`].
pub fn count(spec: &LaunchSpec, facts: &Facts) -> Result<u32, PlanError> {
    // With a virtual local rank each rank has a device of its own.
    let devices = placement::devices_of_ranks(spec, facts, None);
    count_of(&spec.nproc, spec.virtual_local_rank, facts.cpus.len(), &devices)
}

/// The same for a machine of so many CPUs and these devices.
pub fn count_of(
    nproc: &ProcCount,
    separate: bool,
    cpus: usize,
    devices: &Devices,
) -> Result<u32, PlanError> {
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX).max(1);
    let count = match nproc {
        ProcCount::Count(count) => *count,
        ProcCount::Cpu => cpus,
        ProcCount::Auto => match devices.auto_count(separate) {
            0 => cpus,
            count => count,
        },
        ProcCount::Gpu => match devices.gpu_count(separate) {
            0 => {
                let hidden = !devices.nvidia.is_empty() || !devices.amd.is_empty();
                return Err(PlanError::NoGpu { hidden });
            }
            count => count,
        },
        ProcCount::Device(name) => match devices.count(name) {
            Some(count) if count > 0 => count,
            _ => return Err(PlanError::NoDevice { name: name.clone() }),
        },
    };
    if (1..=MAX_RANKS).contains(&count) { Ok(count) } else { Err(PlanError::Count { count }) }
}

fn check_script(spec: &LaunchSpec, fact: &ScriptFact) -> Result<(), PlanError> {
    let Target::Script(script) = &spec.target else { return Ok(()) };
    let script = script.clone();
    match fact {
        ScriptFact::Usable => Ok(()),
        ScriptFact::Missing { nearest } => Err(PlanError::ScriptMissing {
            // The habit of typing the interpreter first.
            then: spec
                .args
                .iter()
                .find(|_| script.to_str().is_some_and(|name| name.starts_with("python")))
                .cloned(),
            nearest: nearest.clone(),
            script,
        }),
        ScriptFact::Folder => Err(PlanError::ScriptFolder { script }),
        ScriptFact::NotReadable => Err(PlanError::ScriptNotReadable { script }),
        ScriptFact::Broken { why } => Err(PlanError::ScriptBroken { script, why: why.clone() }),
    }
}

/// The program that each rank executes.
pub fn program(fact: &ProgramFact) -> Result<PathBuf, PlanError> {
    match fact {
        ProgramFact::Found(path) => Ok(path.clone()),
        ProgramFact::Unknown => Err(PlanError::ProgramUnknown),
        ProgramFact::Missing { asked, by, in_working_dir } => Err(PlanError::ProgramMissing {
            asked: asked.clone(),
            by: *by,
            in_working_dir: *in_working_dir,
        }),
        ProgramFact::NotExecutable { path, is_folder } => {
            Err(PlanError::NotExecutable { path: path.clone(), is_folder: *is_folder })
        }
    }
}

fn check_rendezvous_host(spec: &LaunchSpec, facts: &Facts) -> Result<(), PlanError> {
    let Some(host) = &spec.rendezvous_host else { return Ok(()) };
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address.is_unspecified());
    // The host name is known with or without its domain.
    let is_name = |name: &String| {
        name == host
            || host.parse::<std::net::IpAddr>().is_err()
                && (!name.contains('.') || !host.contains('.'))
                && short(name) == short(host)
    };
    if is_loopback || facts.local_names.iter().any(is_name) {
        Ok(())
    } else {
        Err(PlanError::OtherHost { host: host.clone() })
    }
}

fn check_files(count: u32, facts: &Facts) -> Result<(), PlanError> {
    let needed = OWN_FILES + FILES_PER_RANK * u64::from(count);
    match facts.nofile_hard {
        Some(limit) if limit < needed => Err(PlanError::OpenFiles { count, needed, limit }),
        _ => Ok(()),
    }
}

/// Everything after the program's name.
fn arguments(spec: &LaunchSpec, local_rank: u32) -> Vec<OsString> {
    let mut args: Vec<OsString> = match &spec.target {
        // `-u`: what a rank prints is seen when it is printed, not when a buffer is full.
        Target::Script(script) => vec!["-u".into(), as_path(script.as_os_str())],
        Target::Module(module) => vec!["-u".into(), "-m".into(), module.clone()],
        Target::Program(_) => Vec::new(),
    };
    args.extend(spec.args.iter().map(|arg| substitute::local_rank(arg, local_rank)));
    args
}

/// The script, so that Python does not take one that starts with a hyphen for an option.
fn as_path(script: &OsStr) -> OsString {
    if script.as_bytes().starts_with(b"-") {
        let mut path = OsString::from("./");
        path.push(script);
        path
    } else {
        script.to_owned()
    }
}
