//! What the user wants: layers of options, joined into one [`spec::LaunchSpec`].
//!
//! Pure: the command line, a snapshot of the environment and the embedded defaults go in; a
//! [`spec::LaunchSpec`] or the reason why there is none comes out.
//!
//! - V1: the command line wins over `NVLAUNCH_*` variables, these over `PET_*`, these over other
//!   variables, these over the profile and the files below it, the lowest of which is the embedded
//!   `launch-profiles/default.yaml`.
//! - V2: an empty variable is unset.
//! - V3: a value that cannot be right is an error that names where it came from, never a guess.
//! - V4: an option that is accepted and does nothing leaves one note, unless what it asks for is
//!   what happens anyway.

mod checkpoint;
pub mod defaults;
pub mod env;
pub mod error;
mod layers;
mod preflight;
mod rendezvous;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::SettingsError;
pub use layers::{Effective, Origin};
pub use preflight::{PreflightRequest, resolve as resolve_preflight, sysroot};

use crate::cli::RunArgs;
use crate::env_vars;
use crate::profile::keys;
use crate::profile::layer::{Files, Variable};
use env::Env;
use layers::{Given, Layers};
use spec::{LaunchSpec, LogDir, LogSpec, ProfileVariable, Target, WarmSpec};

/// What `--warm` imports where no modules are named.
const WARM_MODULES: &str = "torch,torch.distributed";

/// Joins the layers. `args` is what [`crate::cli::parse`] gave, `files` what the profile and the
/// files below it say.
pub fn resolve(args: &RunArgs, env: &Env, files: &Files) -> Result<LaunchSpec, SettingsError> {
    let layers = Layers::new(env, &files.values);
    let mut notes = files.notes.clone();
    unknown_variables(env, &mut notes);
    notes_on_ignored(args, &layers, &mut notes)?;
    let nproc = layers.value(args.nproc_per_node.as_ref(), &keys::NPROC)?.parse(values::nproc)?;
    let addresses = rendezvous::resolve(args, &layers, env, &mut notes)?;
    let (signals_to_handle, mut extra_end_signals) = layers
        .value(args.signals_to_handle.as_ref(), &keys::SIGNALS_TO_HANDLE)?
        .parse(|list| values::signals(list).map(|extra| (list.to_owned(), extra)))?;
    let preemption = checkpoint::preemption(args, &layers)?;
    let checkpoint = checkpoint::folder(args, &layers, &mut notes)?;
    if checkpoint.is_some() {
        checkpoint::listen_for(&preemption, &mut extra_end_signals);
    } else {
        checkpoint::without_folder(&preemption, &layers, &mut notes);
    }
    Ok(LaunchSpec {
        target: target(args, &layers)?,
        args: args.args.clone(),
        nproc,
        role: layers.value(args.role.as_ref(), &keys::ROLE)?.value.to_owned(),
        run_id: addresses.run_id,
        virtual_local_rank: layers.flag(args.virtual_local_rank, &keys::VIRTUAL_LOCAL_RANK)?,
        master_addr: Some(addresses.master_addr),
        master_port: Some(addresses.master_port),
        rendezvous_host: addresses.rendezvous_host,
        store: layers.value(args.store.as_ref(), &keys::STORE)?.parse(values::store)?,
        init_report_after: layers
            .value(args.init_report_after.as_ref(), &keys::INIT_REPORT_AFTER)?
            .parse(values::duration)
            .map(|after| Some(after).filter(|after| !after.is_zero()))?,
        dry_run: layers.own_flag(args.dry_run, "--dry-run")?,
        compat: layers.value(args.compat.as_ref(), &keys::COMPAT)?.parse(values::compat)?,
        has_compat_layer: true,
        preflight: preflight::of_launch(args, &layers, files, env)?,
        env: variables(files, env, &mut notes),
        numa_binding: layers
            .get(args.numa_binding.as_ref(), &keys::NUMA)?
            .map(|given| given.parse(values::numa_binding))
            .transpose()?,
        omp_threads: layers.value(None, &keys::OMP_THREADS)?.parse(values::omp_threads)?,
        python: path(layers.raw(args.python.as_ref(), &keys::PYTHON)),
        max_restarts: layers
            .value(args.max_restarts.as_ref(), &keys::MAX_RESTARTS)?
            .parse(values::max_restarts)?,
        shutdown_timeout: layers
            .value(args.shutdown_timeout.as_ref(), &keys::SHUTDOWN_TIMEOUT)?
            .parse(values::duration)?,
        signal_scope: layers
            .value(args.signal_scope.as_ref(), &keys::SIGNAL_SCOPE)?
            .parse(values::signal_scope)?,
        extra_end_signals,
        signals_to_handle,
        keep_daemons: layers.flag(args.keep_daemons, &keys::KEEP_DAEMONS)?,
        stdin: layers.value(args.stdin.as_ref(), &keys::STDIN)?.parse(values::stdin)?,
        warm: warm(args, &layers)?,
        checkpoint,
        expect_step: checkpoint::expect_step(args, &layers)?,
        restart: checkpoint::restart(args, &layers, &files.values)?,
        preemption,
        logs: logs(args, &layers)?,
        json_report: path(layers.raw(args.json_report.as_ref(), &keys::JSON_REPORT)),
        profile: files.profile.clone(),
        notes,
        settings: layers.asked(),
    })
}

fn path(found: Option<(&std::ffi::OsStr, Origin)>) -> Option<PathBuf> {
    found.map(|(value, _)| value).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What the profile says of variables. What is set where nvlaunch starts comes before it.
fn variables(
    files: &Files,
    env: &Env,
    notes: &mut Vec<String>,
) -> BTreeMap<String, ProfileVariable> {
    let mut variables = BTreeMap::new();
    for (name, placed) in &files.values.env {
        let origin = placed.origin.clone();
        let wanted = &placed.value;
        let is_kept = env.get(name).is_some_and(|own| {
            let differs = wanted.value.as_deref().is_none_or(|wanted| own != wanted);
            if differs {
                notes.push(format!("{name}: yours is kept; {origin} says otherwise"));
            }
            true
        });
        let Variable { value, why } = wanted.clone();
        variables.insert(name.clone(), ProfileVariable { value, why, origin, is_kept });
    }
    variables
}

/// `NVLAUNCH_*` variables that nobody reads are mistyped ones.
fn unknown_variables(env: &Env, notes: &mut Vec<String>) {
    let names = env.0.iter().filter_map(|(name, _)| name.to_str());
    let ours = names.filter(|name| name.starts_with("NVLAUNCH_") && !env_vars::OWN.contains(name));
    let mut options: Option<Vec<String>> = None;
    for name in ours {
        // The command line is taken apart only where there is such a variable: that takes time.
        let options = options.get_or_insert_with(|| {
            let command = crate::cli::command();
            let longs = command.get_arguments().filter_map(|arg| arg.get_long());
            let aliases = layers::ALIASES.iter().map(|(_, alias)| alias.trim_start_matches('-'));
            longs
                .chain(aliases)
                .map(|long| format!("NVLAUNCH_{}", long.replace('-', "_").to_uppercase()))
                .collect()
        });
        if options.iter().any(|known| known == name) {
            continue;
        }
        let known = options.iter().map(String::as_str);
        let near = values::nearest(name, known);
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        notes.push(format!("the variable {name} is not known{hint}"));
    }
}

fn target(args: &RunArgs, layers: &Layers<'_>) -> Result<Target, SettingsError> {
    let script = args.script.clone().unwrap_or_default();
    if script.is_empty() {
        return Err(SettingsError::EmptyScript);
    }
    let module = layers.is_set(args.module, "--module")?;
    let no_python = layers.is_set(args.no_python, "--no-python")?;
    // As with torchrun, `--run-path` comes before both.
    if layers.is_set(args.run_path, "--run-path")? {
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

/// Warm start is off unless it is asked for.
fn warm(args: &RunArgs, layers: &Layers<'_>) -> Result<Option<WarmSpec>, SettingsError> {
    let modules = layers.get(args.warm.as_ref(), &keys::WARM)?;
    let at = layers.value(args.warm_at.as_ref(), &keys::WARM_AT)?.parse(values::warm_at)?;
    let deadline =
        layers.value(args.warm_timeout.as_ref(), &keys::WARM_TIMEOUT)?.parse(values::duration)?;
    // `--warm=none` undoes what a profile asks for.
    let modules = modules.filter(|given| given.value != "none").map(|given| {
        // Without `=MODULES` the value is empty.
        let value = if given.value.is_empty() { WARM_MODULES } else { given.value };
        Given { value, ..given }
    });
    let modules = modules.map(|given| given.parse(values::modules)).transpose()?;
    Ok(modules.map(|modules| WarmSpec { modules, at, deadline }))
}

fn logs(args: &RunArgs, layers: &Layers<'_>) -> Result<LogSpec, SettingsError> {
    let dir = match path(layers.raw(args.log_dir.as_ref(), &keys::LOG_DIR)) {
        None => LogDir::Temporary,
        Some(dir) if dir == Path::new("/dev/null") => LogDir::Off,
        Some(dir) => LogDir::Kept(dir),
    };
    Ok(LogSpec {
        dir,
        redirects: layers
            .value(args.redirects.as_ref(), &keys::REDIRECTS)?
            .parse(values::streams)?,
        tee: layers.value(args.tee.as_ref(), &keys::TEE)?.parse(values::streams)?,
        // An empty template is a wish (no prefix), unlike an empty variable.
        prefix: layers
            .get(args.log_line_prefix_template.as_ref(), &keys::PREFIX)?
            .map(|given| given.value.to_owned()),
        ranks_filter: layers
            .get(args.local_ranks_filter.as_ref(), &keys::LOCAL_RANKS)?
            .filter(|given| !given.value.is_empty())
            .map(|given| given.parse(values::ranks))
            .transpose()?,
        fold: !layers.own_flag(args.no_fold, "--no-fold")? && layers.flag(false, &keys::FOLD)?,
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
    if layers.own(args.logs_specs.as_ref(), "--logs-specs").is_some() {
        note(Origin::Option("--logs-specs"), "it names Python code, which is not loaded");
    }
    if let Some(origin) = layers.flag_origin(args.run_path, "--run-path")? {
        note(origin, "the script runs as any other script");
    }
    Ok(())
}
