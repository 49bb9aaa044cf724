//! What the user wants of checkpoints, restarts and preemption.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::layers::{Effective, Given, Layers, Origin};
use super::spec::{CheckpointSpec, PreemptionSpec, RestartSpec};
use super::{SettingsError, values};
use crate::checkpoint::style;
use crate::cli::RunArgs;
use crate::profile::keys;
use crate::profile::layer::Layer;

/// Where the job saves; `None` where it does not say so.
pub(super) fn folder(
    args: &RunArgs,
    layers: &Layers<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<CheckpointSpec>, SettingsError> {
    let dir = layers.raw(args.checkpoint_dir.as_ref(), &keys::CHECKPOINT_DIR);
    let is_given = |given: &Given<'_>| given.value != "none";
    let dir = dir.map(|(dir, _)| dir).filter(|dir| !dir.is_empty() && *dir != "none");
    let layout = layers
        .value(args.checkpoint_layout.as_ref(), &keys::CHECKPOINT_LAYOUT)?
        .parse(values::layout)?;
    let pattern = layers.get(args.checkpoint_pattern.as_ref(), &keys::CHECKPOINT_PATTERN)?;
    let pattern = pattern
        .filter(is_given)
        .map(|given| given.parse(values::checkpoint_pattern))
        .transpose()?;
    let style = layers.get(args.resume_style.as_ref(), &keys::RESUME_STYLE)?.filter(is_given);
    let words = style.as_ref().map(|given| given.parse(values::resume_style)).transpose()?;
    let own = layers.get(args.resume_arg.as_ref(), &keys::RESUME_ARG)?.filter(is_given);
    let own_words = own.as_ref().map(|given| given.parse(values::resume_arg)).transpose()?;
    let quarantine = layers.flag(args.quarantine, &keys::QUARANTINE)?;
    let deadline = layers.value(None, &keys::CHECKPOINT_DEADLINE)?.parse(values::duration)?;
    let Some(dir) = dir.map(PathBuf::from) else {
        for Given { origin, .. } in own.iter().chain(&style) {
            notes.push(format!("{origin} has no effect: there is no checkpoint folder"));
        }
        return Ok(None);
    };
    if let (Some(own), Some(style)) = (&own, &style) {
        notes.push(format!("{} has no effect: {} comes before it", style.origin, own.origin));
    }
    let resume_args = own_words.or_else(|| words.map(style::words)).unwrap_or_default();
    Ok(Some(CheckpointSpec { dir, layout, pattern, resume_args, quarantine, deadline }))
}

/// The step that the job reaches before its success is believed.
pub(super) fn expect_step(
    args: &RunArgs,
    layers: &Layers<'_>,
) -> Result<Option<u64>, SettingsError> {
    let given = layers.get(args.expect_step.as_ref(), &keys::EXPECT_STEP)?;
    given.map(|given| given.parse(values::step)).transpose()
}

/// What decides about restarts.
pub(super) fn restart(
    args: &RunArgs,
    layers: &Layers<'_>,
    files: &Layer,
) -> Result<RestartSpec, SettingsError> {
    let backoff = layers.get(args.restart_backoff.as_ref(), &keys::BACKOFF)?;
    let codes = layers.get(None, &keys::FINAL_CODES)?;
    Ok(RestartSpec {
        backoff: backoff.map(|given| given.parse(values::backoff)).transpose()?,
        final_codes: codes
            .map(|given| given.parse(values::exit_codes))
            .transpose()?
            .unwrap_or_default(),
        remedies: files.remedies.iter().map(|(class, placed)| (*class, placed.value)).collect(),
        unfinished: layers
            .value(args.on_suspicious_success.as_ref(), &keys::ON_SUSPICIOUS_SUCCESS)?
            .parse(values::on_unfinished)?,
    })
}

/// A scheduler that takes the machine away.
pub(super) fn preemption(
    args: &RunArgs,
    layers: &Layers<'_>,
) -> Result<PreemptionSpec, SettingsError> {
    let grace = layers.get(args.preemption_grace.as_ref(), &keys::PREEMPTION_GRACE)?;
    Ok(PreemptionSpec {
        signals: layers
            .value(args.stop_signal.as_ref(), &keys::STOP_SIGNAL)?
            .parse(values::stop_signals)?,
        grace: grace.map(|given| given.parse(values::duration)).transpose()?,
        requeue: layers.flag(args.requeue, &keys::REQUEUE)?,
    })
}

/// Says what was asked for and does nothing: without a folder nobody can know what was saved, and a
/// request to end is an ordinary one.
pub(super) fn without_folder(
    preemption: &PreemptionSpec,
    layers: &Layers<'_>,
    notes: &mut Vec<String>,
) {
    for Effective { key, origin, .. } in layers.asked() {
        let is_asked_for = match key {
            // A profile may be for jobs with and without a folder.
            _ if matches!(origin, Origin::Default(_) | Origin::File { .. }) => false,
            _ if key == keys::STOP_SIGNAL.path => true,
            _ if key == keys::PREEMPTION_GRACE.path => preemption.grace.is_some(),
            _ if key == keys::REQUEUE.path => preemption.requeue,
            _ => false,
        };
        if is_asked_for {
            notes.push(format!("{origin} has no effect: there is no checkpoint folder"));
        }
    }
}

/// Adds the signals of a preemption to those that end the job; the usual four always do.
pub(super) fn listen_for(preemption: &PreemptionSpec, end_signals: &mut Vec<i32>) {
    let usual = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
    let is_usual = |signal: &i32| usual.iter().any(|usual| *usual as i32 == *signal);
    end_signals.extend(preemption.signals.iter().filter(|signal| !is_usual(signal)));
    end_signals.sort_unstable();
    end_signals.dedup();
}
