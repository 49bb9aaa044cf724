//! The options of preflight, for a launch and for `nvlaunch preflight`.

use std::path::PathBuf;

use super::defaults::{Defaults, Preflight};
use super::env::Env;
use super::error::SettingsError;
use super::layers::Layers;
use super::spec::{PreflightMode, PreflightSpec, ProcCount};
use super::values;
use crate::cli::{PreflightArgs, RunArgs};
use crate::env_vars;

/// What `nvlaunch preflight` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightRequest {
    /// How the machine is looked at; never `off`.
    pub spec: PreflightSpec,
    /// The ranks of the job that is thought of.
    pub nproc: Option<ProcCount>,
    /// `--python`, where given.
    pub python: Option<PathBuf>,
}

/// Joins the layers for `nvlaunch preflight`.
pub fn resolve(args: &PreflightArgs, env: &Env) -> Result<PreflightRequest, SettingsError> {
    let defaults = Defaults::embedded()?.preflight;
    let layers = Layers::new(env);
    let nproc = layers.own_text(args.nproc_per_node.as_ref(), "--nproc-per-node")?;
    let backend = layers.own_text(args.backend.as_ref(), "--backend")?;
    Ok(PreflightRequest {
        spec: PreflightSpec {
            mode: if args.full { PreflightMode::Full } else { PreflightMode::Auto },
            force: false,
            backend: backend.map(|given| given.parse(values::backend)).transpose()?,
            root: root(&layers, args.sysroot.as_ref(), env),
            ..of_defaults(&layers, &defaults)?
        },
        nproc: nproc.map(|given| given.parse(values::nproc)).transpose()?,
        python: layers.own(args.python.as_ref()).map(PathBuf::from),
    })
}

/// The part of a launch's layers.
pub(super) fn of_launch(
    args: &RunArgs,
    layers: &Layers<'_>,
    defaults: &Preflight,
    env: &Env,
) -> Result<PreflightSpec, SettingsError> {
    let backend = layers.own_text(args.backend.as_ref(), "--backend")?;
    let mode = layers.own_text(args.preflight.as_ref(), "--preflight")?;
    let below = of_defaults(layers, defaults)?;
    Ok(PreflightSpec {
        mode: mode.map_or(Ok(below.mode), |given| given.parse(values::preflight_mode))?,
        force: args.force,
        backend: backend.map(|given| given.parse(values::backend)).transpose()?,
        root: root(layers, args.sysroot.as_ref(), env),
        ..below
    })
}

fn of_defaults(layers: &Layers<'_>, defaults: &Preflight) -> Result<PreflightSpec, SettingsError> {
    Ok(PreflightSpec {
        mode: layers.default("mode", &defaults.mode).parse(values::preflight_mode)?,
        force: false,
        backend: None,
        root: PathBuf::from("/"),
        deadline: layers.default("deadline", &defaults.deadline).parse(values::duration)?,
        deadline_without_persistence: layers
            .default("deadline-without-persistence", &defaults.deadline_without_persistence)
            .parse(values::duration)?,
        severity: defaults.severity.clone(),
    })
}

fn root(layers: &Layers<'_>, typed: Option<&std::ffi::OsString>, env: &Env) -> PathBuf {
    let root = layers.own(typed).or_else(|| env.get_nonempty(env_vars::SYSROOT));
    root.map_or_else(|| PathBuf::from("/"), PathBuf::from)
}
