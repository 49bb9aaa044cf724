//! The environment of the ranks: torchrun's contract and nvlaunch's own names.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::variable::{EnvChange, Layer, Variable};
use super::{OmpChoice, Plan, PlanError};
use crate::compat;
use crate::env_vars;
use crate::host::Facts;
use crate::preflight::Judgement;
use crate::profile::keys;
use crate::settings::Origin;
use crate::settings::spec::LaunchSpec;

/// Origins, as people read them.
pub(super) const CONTRACT: &str = "torchrun's contract";
pub(super) const NVLAUNCH: &str = "nvlaunch";
const PREFLIGHT: &str = "preflight";
const YOURS: &str = "your environment";
pub(super) const DEFAULT: &str = "default.yaml";
const VIRTUAL: &str = "--virtual-local-rank";
/// The reason for what is not touched.
pub(super) const KEPT: &str = "kept as it is";

/// The file in the run folder where a script may write how far it is.
pub const PROGRESS_NAME: &str = "progress";

/// Where an attempt goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The checkpoint, an absolute path.
    pub path: PathBuf,
    /// Its step, where that is known.
    pub step: Option<u64>,
    /// Words for the end of each rank's arguments.
    pub args: Vec<OsString>,
}

/// What is known of an attempt only when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnv {
    /// Its number, 0 for the first.
    pub attempt: u32,
    /// The port that rank 0 binds.
    pub master_port: u16,
    /// Where this rank's `@record` writes its error.
    pub error_file: Option<PathBuf>,
    /// The run folder.
    pub run_dir: Option<PathBuf>,
    /// Where it goes on; `None` is the beginning.
    pub resume: Option<Resume>,
}

/// Names that a run around this one may have left in the caller's environment, and that must not
/// reach the ranks; those of the contract are set again afterwards.
pub fn caller_env_to_remove() -> &'static [&'static str] {
    &[
        env_vars::RANK,
        env_vars::LOCAL_RANK,
        env_vars::WORLD_SIZE,
        env_vars::LOCAL_WORLD_SIZE,
        env_vars::GROUP_RANK,
        env_vars::GROUP_WORLD_SIZE,
        env_vars::ROLE_RANK,
        env_vars::ROLE_WORLD_SIZE,
        env_vars::ROLE_NAME,
        env_vars::MASTER_ADDR,
        env_vars::MASTER_PORT,
        env_vars::RESTART_COUNT,
        env_vars::MAX_RESTARTS,
        env_vars::TORCH_RUN_ID,
        env_vars::USE_AGENT_STORE,
        env_vars::ERROR_FILE,
        env_vars::SIGNALS_TO_HANDLE,
        env_vars::TIMER_FILE,
        env_vars::RUN_ID,
        env_vars::ATTEMPT,
        env_vars::RUN_DIR,
        env_vars::VERSION,
        env_vars::RESUME_FROM,
        env_vars::RESUME_STEP,
        env_vars::PROGRESS_FILE,
        env_vars::BACKEND,
    ]
}

/// What was decided before the environment.
pub(super) struct Common<'a> {
    pub run_id: &'a str,
    pub master_addr: &'a str,
    /// Ranks.
    pub count: u32,
    /// Whether nvlaunch serves the store.
    pub agent_store: bool,
    /// What each rank has for itself comes before what is said of all.
    pub own: &'a [Variable],
}

/// The variables that are decided so far; what comes first stays.
struct Decided<'a> {
    own: &'a [Variable],
    list: Vec<Variable>,
}

impl Decided<'_> {
    fn has(&self, name: &str) -> bool {
        let is_it = |variable: &Variable| variable.name == name;
        self.own.iter().any(is_it)
            || self.list.iter().any(|v| is_it(v) && !(v.layer == Layer::Contract && v.is_removed()))
    }

    fn add(&mut self, variable: Variable) {
        match variable.name.to_str() {
            Some(name) if self.has(name) => {}
            // Removals come first.
            _ if variable.is_removed() => self.list.insert(0, variable),
            _ => self.list.push(variable),
        }
    }
}

/// What is the same for all ranks and all attempts, from the strongest to the weakest: the
/// contract, the caller's own, the profile's, preflight's choices, the defaults. Removals come
/// first.
pub(super) fn common(
    spec: &LaunchSpec,
    facts: &Facts,
    judgement: Option<&Judgement>,
    decided: &Common<'_>,
    omp: &OmpChoice,
) -> Vec<Variable> {
    let removed = caller_env_to_remove().iter().map(|name| {
        let reason = "belongs to a run around this one";
        Variable::removed(name, Layer::Contract, CONTRACT.to_owned(), reason)
    });
    let mut env = Decided { own: decided.own, list: removed.collect() };
    contract(spec, facts, judgement, decided, &mut env);
    callers(spec, facts, &mut env);
    profiles(spec, &mut env);
    // torchrun sets it in every rank, so preflight's reason to do the same is none of its own.
    let reason = "a rank does not wait for ever for one that is gone; as torchrun sets it";
    let name = env_vars::NCCL_ASYNC_ERROR_HANDLING;
    env.add(Variable::set(name, "1", Layer::Default, DEFAULT.to_owned(), reason));
    preflights(spec, judgement, &mut env);
    if let Some(threads) = omp.value {
        let name = env_vars::OMP_NUM_THREADS;
        let origin = of_setting(spec, &keys::OMP_THREADS).unwrap_or_else(|| DEFAULT.to_owned());
        env.add(Variable::set(name, threads.to_string(), Layer::Default, origin, &omp.reason));
    }
    env.list
}

/// torchrun's contract and nvlaunch's own names (P1).
fn contract(
    spec: &LaunchSpec,
    facts: &Facts,
    judgement: Option<&Judgement>,
    decided: &Common<'_>,
    env: &mut Decided<'_>,
) {
    let Common { run_id, master_addr, count, agent_store, .. } = *decided;
    let mut set = |name: &str, value: OsString, origin: String, reason: &str| {
        env.add(Variable::set(name, value, Layer::Contract, origin, reason));
    };
    let fixed = || CONTRACT.to_owned();
    let count = OsString::from(count.to_string());
    set(env_vars::WORLD_SIZE, count.clone(), fixed(), "ranks of the job");
    set(env_vars::LOCAL_WORLD_SIZE, count.clone(), fixed(), "ranks of this node");
    set(env_vars::GROUP_RANK, "0".into(), fixed(), "number of this node");
    set(env_vars::GROUP_WORLD_SIZE, "1".into(), fixed(), "nodes of the job");
    set(env_vars::ROLE_WORLD_SIZE, count, fixed(), "ranks of this role");
    let origin = |key| of_setting(spec, key).unwrap_or_else(fixed);
    let role = origin(&keys::ROLE);
    set(env_vars::ROLE_NAME, spec.role.clone().into(), role, "name of the role");
    let address = origin(&keys::MASTER_ADDR);
    set(env_vars::MASTER_ADDR, master_addr.into(), address, "where the ranks meet");
    let restarts = origin(&keys::MAX_RESTARTS);
    let value = spec.max_restarts.to_string().into();
    set(env_vars::MAX_RESTARTS, value, restarts, "restarts before a failure is final");
    set(env_vars::TORCH_RUN_ID, run_id.into(), origin(&keys::RUN_ID), "id of the run");
    // Python's spelling, as torchrun writes it.
    let (store, who) = if agent_store { ("True", "nvlaunch") } else { ("False", "rank 0") };
    let who = format!("{who} serves the store");
    set(env_vars::USE_AGENT_STORE, store.into(), origin(&keys::STORE), &who);
    let signals = origin(&keys::SIGNALS_TO_HANDLE);
    let value = spec.signals_to_handle.clone().into();
    set(env_vars::SIGNALS_TO_HANDLE, value, signals, "signals that end the job");
    let own = || NVLAUNCH.to_owned();
    set(env_vars::RUN_ID, facts.fresh_run_id.clone().into(), own(), "no other run has this id");
    set(env_vars::VERSION, env!("CARGO_PKG_VERSION").into(), own(), "which nvlaunch started it");
    let chosen = judgement.map(|judgement| &judgement.backend);
    let asked = spec.preflight.backend.as_ref();
    if let Some(backend) = asked.or(chosen.map(|chosen| &chosen.name)) {
        let origin = asked.and_then(|_| of_setting(spec, &keys::BACKEND));
        let origin = origin.unwrap_or_else(|| PREFLIGHT.to_owned());
        set(env_vars::BACKEND, backend.into(), origin, "backend for torch.distributed");
    }
}

/// Where a setting was given, unless it is a default.
pub(super) fn of_setting(spec: &LaunchSpec, key: &keys::Key) -> Option<String> {
    let found = spec.settings.iter().find(|setting| setting.key == key.path)?;
    let is_default = matches!(found.origin, Origin::Default(_));
    (!is_default).then(|| found.origin.to_string())
}

/// What the caller has set and the ranks get as it is.
fn callers(spec: &LaunchSpec, facts: &Facts, env: &mut Decided<'_>) {
    let caller = &facts.caller;
    let named = [
        (env_vars::OMP_NUM_THREADS, &caller.omp_num_threads),
        (env_vars::NCCL_ASYNC_ERROR_HANDLING, &caller.nccl_async_error_handling),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let kept = caller.variables.iter().map(|(name, value)| (&**name, value));
    for (name, value) in kept.chain(named) {
        // What a run around this one has left is no wish of the caller's.
        if caller_env_to_remove().contains(&name) {
            continue;
        }
        let reason = match spec.env.get(name) {
            Some(profile) if profile.value.as_deref().is_some_and(|wanted| value == wanted) => {
                format!("yours is kept; {} says the same", profile.origin)
            }
            Some(profile) => format!("yours is kept; {} says otherwise", profile.origin),
            None => KEPT.to_owned(),
        };
        let change = EnvChange::Keep(value.clone());
        let (origin, layer) = (YOURS.to_owned(), Layer::Caller);
        env.add(Variable { name: name.into(), change, layer, origin, reason });
    }
}

fn profiles(spec: &LaunchSpec, env: &mut Decided<'_>) {
    for (name, variable) in spec.env.iter().filter(|(_, variable)| !variable.is_kept) {
        let change = match &variable.value {
            Some(value) => EnvChange::Set(value.into()),
            None => EnvChange::Remove,
        };
        let reason = variable.why.clone().unwrap_or_else(|| "the profile says so".to_owned());
        let origin = variable.origin.to_string();
        env.add(Variable { name: name.into(), change, layer: Layer::Profile, origin, reason });
    }
}

/// What preflight chose (P4).
fn preflights(spec: &LaunchSpec, judgement: Option<&Judgement>, env: &mut Decided<'_>) {
    let of_rank = [env_vars::CUDA_VISIBLE_DEVICES, env_vars::HIP_VISIBLE_DEVICES];
    let ours = judgement.map_or(&[][..], |judgement| &judgement.variables);
    for variable in ours.iter().filter(|variable| !variable.is_users) {
        let is_known = caller_env_to_remove().contains(&&*variable.name);
        if is_known || spec.virtual_local_rank && of_rank.contains(&&*variable.name) {
            continue;
        }
        let change = match &variable.value {
            Some(value) => EnvChange::Set(value.into()),
            None => EnvChange::Remove,
        };
        let (layer, origin) = (Layer::Preflight, PREFLIGHT.to_owned());
        let reason = variable.reason.clone();
        env.add(Variable { name: (&variable.name).into(), change, layer, origin, reason });
    }
}

/// Makes `PYTHONPATH` nvlaunch's to set: what the ranks would have stays, behind a folder whose name
/// is known at the start.
pub(super) fn make_way(spec: &LaunchSpec, layer: &compat::Layer, env: &mut Vec<Variable>) {
    env.retain(|variable| variable.name != env_vars::PYTHONPATH);
    let name = layer.mode.name();
    let yours = if layer.python_path.is_some() { "; yours is kept behind it" } else { "" };
    let reason = format!("compat {name}: the layer's folder comes first{yours}");
    let origin = of_setting(spec, &keys::COMPAT).unwrap_or_else(|| NVLAUNCH.to_owned());
    let value = layer.python_path.clone().unwrap_or_default();
    env.push(Variable::set(env_vars::PYTHONPATH, value, Layer::Contract, origin, &reason));
}

/// What is the rank's own.
pub(super) fn of_rank(
    spec: &LaunchSpec,
    facts: &Facts,
    local_rank: u32,
) -> Result<Vec<Variable>, PlanError> {
    let number = OsString::from(local_rank.to_string());
    let seen = if spec.virtual_local_rank { "0".into() } else { number.clone() };
    let set = |name: &str, value: OsString, origin: &str, reason: &str| {
        Variable::set(name, value, Layer::Contract, origin.to_owned(), reason)
    };
    let of_node = if spec.virtual_local_rank { VIRTUAL } else { CONTRACT };
    let mut env = vec![
        set(env_vars::RANK, number.clone(), CONTRACT, "number in the job"),
        set(env_vars::LOCAL_RANK, seen, of_node, "number on this node"),
        set(env_vars::ROLE_RANK, number.clone(), CONTRACT, "number in its role"),
    ];
    if spec.virtual_local_rank {
        // On ROCm HIP's variable comes before CUDA's, so the list is taken from it, and both are
        // set to the one device.
        let hip = facts.caller.hip_visible_devices.as_ref().filter(|list| !list.is_empty());
        let list = hip.or(facts.caller.cuda_visible_devices.as_ref());
        let device = match list {
            None => number,
            Some(list) => {
                let text = list.to_string_lossy();
                text.split(',').nth(local_rank as usize).map(|one| one.trim().into()).ok_or_else(
                    || PlanError::NoDeviceForRank {
                        local_rank,
                        variable: if hip.is_some() {
                            env_vars::HIP_VISIBLE_DEVICES
                        } else {
                            env_vars::CUDA_VISIBLE_DEVICES
                        },
                        list: text.clone().into_owned(),
                    },
                )?
            }
        };
        let reason = "each rank sees its own device only";
        if hip.is_some() {
            env.push(set(env_vars::HIP_VISIBLE_DEVICES, device.clone(), VIRTUAL, reason));
        }
        env.push(set(env_vars::CUDA_VISIBLE_DEVICES, device, VIRTUAL, reason));
    }
    Ok(env)
}

impl Plan {
    /// The names that no rank inherits from the caller.
    pub fn removed_env(&self) -> impl Iterator<Item = &OsStr> {
        self.common_env.iter().filter(|variable| variable.is_removed()).map(|v| v.name.as_os_str())
    }

    /// Every variable to set for a rank, those that it inherits not among them, over the caller's environment less
    /// [`Self::removed_env`]. No name stands twice; unknown ranks have only the common ones.
    pub fn rank_env(&self, local_rank: u32, attempt: &AttemptEnv) -> Vec<(OsString, OsString)> {
        let of_rank = self.ranks.iter().find(|rank| rank.local_rank == local_rank);
        let of_rank = of_rank.map_or(&[][..], |rank| &rank.env);
        let mut env: Vec<(OsString, OsString)> =
            self.common_env.iter().chain(of_rank).filter_map(Variable::set_pair).collect();
        let number = attempt.attempt.to_string();
        env.push((env_vars::MASTER_PORT.into(), attempt.master_port.to_string().into()));
        env.push((env_vars::RESTART_COUNT.into(), number.clone().into()));
        env.push((env_vars::ATTEMPT.into(), number.into()));
        if let Some(file) = &attempt.error_file {
            env.push((env_vars::ERROR_FILE.into(), file.into()));
        }
        if let Some(folder) = &attempt.run_dir {
            env.push((env_vars::RUN_DIR.into(), folder.into()));
            env.push((env_vars::PROGRESS_FILE.into(), folder.join(PROGRESS_NAME).into()));
        }
        if let Some(Resume { path, step, .. }) = &attempt.resume {
            env.push((env_vars::RESUME_FROM.into(), path.into()));
            if let Some(step) = step {
                env.push((env_vars::RESUME_STEP.into(), step.to_string().into()));
            }
        }
        env
    }

    /// The arguments of a rank in an attempt: its own, and where to resume.
    pub fn rank_args(&self, local_rank: u32, attempt: &AttemptEnv) -> Vec<OsString> {
        let of_rank = self.ranks.iter().find(|rank| rank.local_rank == local_rank);
        let own = of_rank.into_iter().flat_map(|rank| &rank.args);
        own.chain(attempt.resume.iter().flat_map(|resume| &resume.args)).cloned().collect()
    }
}
