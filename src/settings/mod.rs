//! What the user wants: layers of options, joined into one [`spec::LaunchSpec`].
//!
//! Pure: the command line, a snapshot of the environment and the embedded defaults go in; a
//! [`spec::LaunchSpec`] or the reason why there is none comes out.
//!
//! - V1: the command line wins over `PET_*` variables, these over other variables, these over
//!   `launch-profiles/default.yaml`.
//! - V2: an empty variable is unset.
//! - V3: a value that cannot be right is an error that names where it came from, never a guess.
//! - V4: an option that is accepted and does nothing leaves one note, unless what it asks for is
//!   what happens anyway.

pub mod defaults;
pub mod env;
mod error;
mod layers;
mod preflight;
mod rendezvous;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod values;

use std::path::PathBuf;

pub use error::SettingsError;
pub use layers::Origin;
pub use preflight::{PreflightRequest, resolve as resolve_preflight};

use crate::cli::RunArgs;
use crate::env_vars;
use defaults::Defaults;
use env::Env;
use layers::Layers;
use spec::{LaunchSpec, LogDir, LogSpec, Target, WarmSpec};

/// Joins the layers. `args` is what [`crate::cli::parse`] gave.
pub fn resolve(args: &RunArgs, env: &Env) -> Result<LaunchSpec, SettingsError> {
    let defaults = Defaults::embedded()?;
    let layers = Layers::new(env);
    let mut notes = Vec::new();
    notes_on_ignored(args, &layers, &mut notes)?;
    let addresses = rendezvous::resolve(args, &layers, &defaults, &mut notes)?;

    let geometry = &defaults.geometry;
    let shutdown = &defaults.shutdown;
    let (signals_to_handle, extra_end_signals) = layers
        .text(args.signals_to_handle.as_ref(), "--signals-to-handle")?
        .unwrap_or_else(|| layers.default("signals-to-handle", &shutdown.signals_to_handle))
        .parse(|list| values::signals(list).map(|extra| (list.to_owned(), extra)))?;

    Ok(LaunchSpec {
        target: target(args, &layers)?,
        args: args.args.clone(),
        python: layers.own(args.python.as_ref()).map(PathBuf::from),
        nproc: layers
            .text(args.nproc_per_node.as_ref(), "--nproc-per-node")?
            .unwrap_or_else(|| layers.default("nproc-per-node", &geometry.nproc_per_node))
            .parse(values::nproc)?,
        role: layers
            .text(args.role.as_ref(), "--role")?
            .map_or_else(|| geometry.role.clone(), |given| given.value.to_owned()),
        run_id: addresses.run_id,
        max_restarts: layers
            .text(args.max_restarts.as_ref(), "--max-restarts")?
            .unwrap_or_else(|| layers.default("max-restarts", &defaults.restart.max_restarts))
            .parse(values::max_restarts)?,
        shutdown_timeout: layers
            .text(args.shutdown_timeout.as_ref(), "--shutdown-timeout")?
            .map_or_else(|| layers.variable(env_vars::SHUTDOWN_TIMEOUT), |v| Ok(Some(v)))?
            .unwrap_or_else(|| layers.default("timeout", &shutdown.timeout))
            .parse(values::duration)?,
        signal_scope: layers
            .own_text(args.signal_scope.as_ref(), "--signal-scope")?
            .unwrap_or_else(|| layers.default("signal-scope", &shutdown.signal_scope))
            .parse(values::signal_scope)?,
        extra_end_signals,
        signals_to_handle,
        keep_daemons: args.keep_daemons || shutdown.keep_daemons,
        stdin: layers
            .own_text(args.stdin.as_ref(), "--stdin")?
            .unwrap_or_else(|| layers.default("stdin", &defaults.input.stdin))
            .parse(values::stdin)?,
        master_addr: Some(addresses.master_addr),
        master_port: Some(addresses.master_port),
        rendezvous_host: addresses.rendezvous_host,
        store: layers
            .own_text(args.store.as_ref(), "--store")?
            .unwrap_or_else(|| layers.default("host", &defaults.store.host))
            .parse(values::store)?,
        init_report_after: layers
            .own_text(args.init_report_after.as_ref(), "--init-report-after")?
            .unwrap_or_else(|| {
                layers.default("init-report-after", &defaults.store.init_report_after)
            })
            .parse(values::duration)
            .map(|after| Some(after).filter(|after| !after.is_zero()))?,
        virtual_local_rank: layers.flag(args.virtual_local_rank, "--virtual-local-rank")?
            || geometry.virtual_local_rank,
        numa_binding: layers
            .own_text(args.numa_binding.as_ref(), "--numa-binding")?
            .map(|given| given.parse(values::numa_binding))
            .transpose()?,
        preflight: preflight::of_launch(args, &layers, &defaults.preflight, env)?,
        warm: warm(args, &layers, &defaults)?,
        logs: logs(args, &layers, &defaults)?,
        json_report: layers.own(args.json_report.as_ref()).map(PathBuf::from),
        notes,
    })
}

fn target(args: &RunArgs, layers: &Layers<'_>) -> Result<Target, SettingsError> {
    let script = args.script.clone().unwrap_or_default();
    if script.is_empty() {
        return Err(SettingsError::EmptyScript);
    }
    let module = layers.flag(args.module, "--module")?;
    let no_python = layers.flag(args.no_python, "--no-python")?;
    // As with torchrun, `--run-path` comes before both.
    if layers.flag(args.run_path, "--run-path")? {
        return Ok(Target::Script(script.into()));
    }
    match (module, no_python) {
        (true, true) => Err(SettingsError::ModuleWithoutPython),
        (true, false) => Ok(Target::Module(script)),
        (false, true) => Ok(Target::Program(script.into())),
        (false, false) if script == "-" => Err(SettingsError::ScriptFromStdin),
        (false, false) => Ok(Target::Script(script.into())),
    }
}

/// Warm start is off unless `--warm` is given; its other options say how it is done.
fn warm(
    args: &RunArgs,
    layers: &Layers<'_>,
    defaults: &Defaults,
) -> Result<Option<WarmSpec>, SettingsError> {
    let defaults = &defaults.warm;
    let modules = layers.own_text(args.warm.as_ref(), "--warm")?.map(|given| {
        // Without `=MODULES` the value is empty.
        if given.value.is_empty() { layers.default("modules", &defaults.modules) } else { given }
    });
    let at = layers
        .own_text(args.warm_at.as_ref(), "--warm-at")?
        .unwrap_or_else(|| layers.default("at", &defaults.at))
        .parse(values::warm_at)?;
    let deadline = layers
        .own_text(args.warm_timeout.as_ref(), "--warm-timeout")?
        .unwrap_or_else(|| layers.default("timeout", &defaults.timeout))
        .parse(values::duration)?;
    let modules = modules.map(|given| given.parse(values::modules)).transpose()?;
    Ok(modules.map(|modules| WarmSpec { modules, at, deadline }))
}

fn logs(
    args: &RunArgs,
    layers: &Layers<'_>,
    defaults: &Defaults,
) -> Result<LogSpec, SettingsError> {
    let dir = match layers.raw(args.log_dir.as_ref(), "--log-dir") {
        None => LogDir::Temporary,
        Some(dir) if dir == "/dev/null" => LogDir::Off,
        Some(dir) => LogDir::Kept(PathBuf::from(dir)),
    };
    // An empty template is a wish (no prefix), unlike an empty variable.
    let prefix = layers
        .text(args.log_line_prefix_template.as_ref(), "--log-line-prefix-template")?
        .map_or_else(|| layers.variable(env_vars::PREFIX_TEMPLATE), |v| Ok(Some(v)))?
        .map(|given| given.value.to_owned());
    Ok(LogSpec {
        dir,
        redirects: layers
            .text(args.redirects.as_ref(), "--redirects")?
            .unwrap_or_else(|| layers.default("redirects", &defaults.logs.redirects))
            .parse(values::streams)?,
        tee: layers
            .text(args.tee.as_ref(), "--tee")?
            .unwrap_or_else(|| layers.default("tee", &defaults.logs.tee))
            .parse(values::streams)?,
        prefix,
        ranks_filter: layers
            .text(args.local_ranks_filter.as_ref(), "--local-ranks-filter")?
            .filter(|given| !given.value.is_empty())
            .map(|given| given.parse(values::ranks))
            .transpose()?,
        fold: !args.no_fold && defaults.logs.fold,
        stdout_filters: layers
            .text(args.duplicate_stdout_filters.as_ref(), "--duplicate-stdout-filters")?
            .map_or_else(Vec::new, |given| values::needles(given.value)),
        stderr_filters: layers
            .text(args.duplicate_stderr_filters.as_ref(), "--duplicate-stderr-filters")?
            .map_or_else(Vec::new, |given| values::needles(given.value)),
    })
}

/// Options that mean nothing here; a value that torchrun refuses is refused here too.
fn notes_on_ignored(
    args: &RunArgs,
    layers: &Layers<'_>,
    notes: &mut Vec<String>,
) -> Result<(), SettingsError> {
    let mut note = |origin: Origin, why: &str| {
        notes.push(format!("{origin} has no effect: {why}"));
    };
    if let Some(given) = layers.text(args.rdzv_conf.as_ref(), "--rdzv-conf")?
        && !given.value.is_empty()
    {
        note(given.origin, "with one node nothing is negotiated");
    }
    if let Some(given) = layers.text(args.monitor_interval.as_ref(), "--monitor-interval")? {
        given.parse(values::seconds)?;
        note(given.origin, "the end of a rank is seen at once, without polling");
    }
    if let Some(given) = layers.text(args.start_method.as_ref(), "--start-method")?
        && given.parse(values::start_method)? != "spawn"
    {
        note(given.origin, "ranks are always programs of their own");
    }
    if let Some(given) = layers.text(args.event_log_handler.as_ref(), "--event-log-handler")?
        && given.value != "null"
    {
        note(given.origin, "handlers are Python code; events are in the run folder");
    }
    if layers.own(args.logs_specs.as_ref()).is_some() {
        note(Origin::Option("--logs-specs"), "it names Python code, which is not loaded");
    }
    if let Some(origin) = layers.flag_origin(args.run_path, "--run-path")? {
        note(origin, "the script runs as any other script");
    }
    Ok(())
}
