//! The options of preflight, for a launch and for `nvlaunch preflight`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::env::Env;
use super::error::SettingsError;
use super::layers::{Layers, Origin};
use super::spec::{PreflightMode, PreflightSpec, ProcCount, ProfileVariable};
use super::values;
use crate::cli::{PreflightArgs, RunArgs};
use crate::env_vars;
use crate::profile::keys;
use crate::profile::layer::Files;

/// What `nvlaunch preflight` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightRequest {
    /// How the machine is looked at; never `off`.
    pub spec: PreflightSpec,
    /// The ranks of the job that is thought of.
    pub nproc: Option<ProcCount>,
    /// `--python`, where given.
    pub python: Option<PathBuf>,
    /// What the profile says of variables, by name.
    pub env: BTreeMap<String, ProfileVariable>,
    /// One line each for the user.
    pub notes: Vec<String>,
}

/// Joins the layers for `nvlaunch preflight`.
pub fn resolve(
    args: &PreflightArgs,
    env: &Env,
    files: &Files,
) -> Result<PreflightRequest, SettingsError> {
    let layers = Layers::new(env, &files.values);
    // Only what was asked for: the default of a launch says nothing of the machine.
    let nproc = layers.get(args.nproc_per_node.as_ref(), &keys::NPROC)?;
    let nproc = nproc.filter(|given| !matches!(given.origin, Origin::Default(_)));
    let mut notes = files.notes.clone();
    let variables = super::variables(files, env, &mut notes);
    let mode = if args.full { PreflightMode::Full } else { PreflightMode::Auto };
    Ok(PreflightRequest {
        spec: PreflightSpec {
            mode,
            force: false,
            root: sysroot(args.sysroot.as_ref(), env),
            ..of_files(args.backend.as_ref(), None, &layers, files)?
        },
        nproc: nproc.map(|given| given.parse(values::nproc)).transpose()?,
        python: super::path(layers.raw(args.python.as_ref(), &keys::PYTHON)),
        env: variables,
        notes,
    })
}

/// The part of a launch's layers.
pub(super) fn of_launch(
    args: &RunArgs,
    layers: &Layers<'_>,
    files: &Files,
    env: &Env,
) -> Result<PreflightSpec, SettingsError> {
    Ok(PreflightSpec {
        mode: layers
            .value(args.preflight.as_ref(), &keys::PREFLIGHT)?
            .parse(values::preflight_mode)?,
        force: layers.own_flag(args.force, "--force")?,
        root: sysroot(args.sysroot.as_ref(), env),
        ..of_files(args.backend.as_ref(), args.compat.as_ref(), layers, files)?
    })
}

fn of_files<'a>(
    backend: Option<&'a OsString>,
    compat: Option<&'a OsString>,
    layers: &Layers<'a>,
    files: &Files,
) -> Result<PreflightSpec, SettingsError> {
    let severity = files.values.severity.iter();
    Ok(PreflightSpec {
        mode: PreflightMode::Auto,
        force: false,
        backend: layers
            .get(backend, &keys::BACKEND)?
            .map(|given| given.parse(values::backend))
            .transpose()?,
        root: PathBuf::from("/"),
        deadline: layers.value(None, &keys::DEADLINE)?.parse(values::duration)?,
        deadline_without_persistence: layers
            .value(None, &keys::DEADLINE_WITHOUT_PERSISTENCE)?
            .parse(values::duration)?,
        severity: severity.map(|(code, placed)| (code.clone(), placed.value)).collect(),
        compat: layers.value(compat, &keys::COMPAT)?.parse(values::compat)?,
    })
}

/// What is taken for `/` where the machine is looked at: `--sysroot`, else `NVLAUNCH_SYSROOT`.
pub fn sysroot(typed: Option<&OsString>, env: &Env) -> PathBuf {
    let typed = typed.map(OsString::as_os_str).filter(|root| !root.is_empty());
    let root = typed.or_else(|| env.get_nonempty(env_vars::SYSROOT));
    root.map_or_else(|| PathBuf::from("/"), PathBuf::from)
}
