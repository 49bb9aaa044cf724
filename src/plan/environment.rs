//! The environment of the ranks: torchrun's contract and nvlaunch's own names.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{OmpChoice, Plan, PlanError};
use crate::env_vars;
use crate::host::Facts;
use crate::preflight::Judgement;
use crate::settings::spec::LaunchSpec;

/// What happens to one variable of the caller's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvChange {
    /// It gets this value.
    Set(OsString),
    /// It is taken away.
    Remove,
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
}

/// What is the same for all ranks and all attempts. Removals come first.
pub(super) fn common(
    spec: &LaunchSpec,
    facts: &Facts,
    decided: &Common<'_>,
    omp: &OmpChoice,
) -> Vec<(OsString, EnvChange)> {
    let Common { run_id, master_addr, count, agent_store } = *decided;
    let removed = caller_env_to_remove().iter().map(|name| (name.into(), EnvChange::Remove));
    let mut env: Vec<(OsString, EnvChange)> = removed.collect();
    let mut set = |name: &str, value: OsString| env.push((name.into(), EnvChange::Set(value)));

    let nccl = facts.caller.nccl_async_error_handling.clone();
    set(env_vars::WORLD_SIZE, count.to_string().into());
    set(env_vars::LOCAL_WORLD_SIZE, count.to_string().into());
    set(env_vars::GROUP_RANK, "0".into());
    set(env_vars::GROUP_WORLD_SIZE, "1".into());
    set(env_vars::ROLE_WORLD_SIZE, count.to_string().into());
    set(env_vars::ROLE_NAME, spec.role.clone().into());
    set(env_vars::MASTER_ADDR, master_addr.into());
    set(env_vars::MAX_RESTARTS, spec.max_restarts.to_string().into());
    set(env_vars::TORCH_RUN_ID, run_id.into());
    // Python's spelling, as torchrun writes it.
    set(env_vars::USE_AGENT_STORE, if agent_store { "True" } else { "False" }.into());
    set(env_vars::SIGNALS_TO_HANDLE, spec.signals_to_handle.clone().into());
    set(env_vars::NCCL_ASYNC_ERROR_HANDLING, nccl.unwrap_or_else(|| "1".into()));
    set(env_vars::RUN_ID, facts.fresh_run_id.clone().into());
    set(env_vars::VERSION, env!("CARGO_PKG_VERSION").into());
    if let Some(threads) = omp.value {
        set(env_vars::OMP_NUM_THREADS, threads.to_string().into());
    }
    env
}

/// What preflight chose (P4), and the backend.
pub(super) fn add_choices(
    spec: &LaunchSpec,
    judgement: Option<&Judgement>,
    env: &mut Vec<(OsString, EnvChange)>,
) {
    let chosen = judgement.map(|judgement| &judgement.backend.name);
    if let Some(backend) = spec.preflight.backend.as_ref().or(chosen) {
        env.push((env_vars::BACKEND.into(), EnvChange::Set(backend.into())));
    }
    let of_rank = [env_vars::CUDA_VISIBLE_DEVICES, env_vars::HIP_VISIBLE_DEVICES];
    let ours = judgement.map_or(&[][..], |judgement| &judgement.variables);
    for variable in ours.iter().filter(|variable| !variable.is_users) {
        let name = OsString::from(&variable.name);
        let is_of_rank = spec.virtual_local_rank && of_rank.contains(&&*variable.name);
        if is_of_rank || env.iter().any(|(known, _)| *known == name) {
            continue;
        }
        match &variable.value {
            Some(value) => env.push((name, EnvChange::Set(value.into()))),
            // Removals come first.
            None => env.insert(0, (name, EnvChange::Remove)),
        }
    }
}

/// What is the rank's own.
pub(super) fn of_rank(
    spec: &LaunchSpec,
    facts: &Facts,
    local_rank: u32,
) -> Result<Vec<(OsString, OsString)>, PlanError> {
    let number = OsString::from(local_rank.to_string());
    let seen = if spec.virtual_local_rank { "0".into() } else { number.clone() };
    let mut env = vec![
        (env_vars::RANK.into(), number.clone()),
        (env_vars::LOCAL_RANK.into(), seen),
        (env_vars::ROLE_RANK.into(), number.clone()),
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
        if hip.is_some() {
            env.push((env_vars::HIP_VISIBLE_DEVICES.into(), device.clone()));
        }
        env.push((env_vars::CUDA_VISIBLE_DEVICES.into(), device));
    }
    Ok(env)
}

impl Plan {
    /// Every variable to set for a rank, over the caller's environment less
    /// [`caller_env_to_remove`]. No name stands twice; unknown ranks have only the common ones.
    pub fn rank_env(&self, local_rank: u32, attempt: &AttemptEnv) -> Vec<(OsString, OsString)> {
        let common = self.common_env.iter().filter_map(|(name, change)| match change {
            EnvChange::Set(value) => Some((name.clone(), value.clone())),
            EnvChange::Remove => None,
        });
        let of_rank = self.ranks.iter().find(|rank| rank.local_rank == local_rank);
        let mut env: Vec<(OsString, OsString)> = common.collect();
        env.extend(of_rank.iter().flat_map(|rank| rank.env.iter().cloned()));
        let number = attempt.attempt.to_string();
        env.push((env_vars::MASTER_PORT.into(), attempt.master_port.to_string().into()));
        env.push((env_vars::RESTART_COUNT.into(), number.clone().into()));
        env.push((env_vars::ATTEMPT.into(), number.into()));
        if let Some(file) = &attempt.error_file {
            env.push((env_vars::ERROR_FILE.into(), file.into()));
        }
        if let Some(folder) = &attempt.run_dir {
            env.push((env_vars::RUN_DIR.into(), folder.into()));
        }
        env
    }
}
