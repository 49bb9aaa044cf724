//! What torchrun's rendezvous options mean for a job on one node.
//!
//! - Z1: `--standalone` comes before every other rendezvous option, except the run id.
//! - Z2: with `static`, an endpoint is address and port of rank 0, and comes before `--master-addr`
//!   and `--master-port`.
//! - Z3: with `c10d`, as in torchrun, `--master-addr` and `--master-port` do nothing: two jobs that
//!   both say port 29500 get a free port each. The endpoint must be this machine.

use super::SettingsError;
use super::env::Env;
use super::error::Problem;
use super::layers::{Given, Layers, Origin};
use super::values;
use crate::cli::RunArgs;
use crate::env_vars;
use crate::profile::keys;

/// What the options come to.
pub(super) struct Addresses {
    pub run_id: Option<String>,
    pub master_addr: String,
    /// 0 is a free one.
    pub master_port: u16,
    pub rendezvous_host: Option<String>,
}

pub(super) fn resolve(
    args: &RunArgs,
    layers: &Layers<'_>,
    env: &Env,
    notes: &mut Vec<String>,
) -> Result<Addresses, SettingsError> {
    one_node(args, layers)?;
    let run_id = layers
        .get(args.rdzv_id.as_ref(), &keys::RUN_ID)?
        .map(|given| given.value)
        .filter(|id| !id.is_empty() && *id != "none")
        .map(str::to_owned)
        .or_else(|| scheduler_job(env));
    let addr = layers.value(args.master_addr.as_ref(), &keys::MASTER_ADDR)?;
    let port = layers.value(args.master_port.as_ref(), &keys::MASTER_PORT)?;
    // What a file says is the default of its site, and is never said to be set aside.
    let is_asked = |given: &Given<'_>| {
        !given.value.is_empty() && !matches!(given.origin, Origin::Default(_) | Origin::File { .. })
    };
    let master_addr = Some(addr.clone()).filter(is_asked);
    let master_port = Some(port.clone()).filter(is_asked);
    let endpoint = layers
        .text(args.rdzv_endpoint.as_ref(), "--rdzv-endpoint")?
        .filter(|given| !given.value.trim().is_empty());
    let standalone = layers.is_set(args.standalone, "--standalone")?;
    let backend = layers.text(args.rdzv_backend.as_ref(), "--rdzv-backend")?;
    let is_static = match &backend {
        _ if standalone => false,
        None => true,
        Some(given) => given.parse(is_static)?,
    };

    // Values that are set aside are read too: nonsense is an error wherever it stands.
    let below = (layers.files_value(&keys::MASTER_ADDR)?, layers.files_value(&keys::MASTER_PORT)?);
    let addr = match addr.value {
        "" => below.0.parse(values::host)?,
        _ => addr.parse(values::host)?,
    };
    let port = match port.value {
        "" => below.1.parse(values::port)?,
        _ => port.parse(values::port)?,
    };
    let mut addresses = Addresses {
        run_id,
        master_addr: match layers.text(args.local_addr.as_ref(), "--local-addr")? {
            Some(given) if !given.value.is_empty() => given.parse(values::host)?,
            _ => below.0.parse(values::host)?,
        },
        master_port: below.1.parse(values::port)?,
        rendezvous_host: None,
    };
    let set_aside = |why: &str, notes: &mut Vec<String>| {
        for given in [&master_addr, &master_port].into_iter().flatten() {
            notes.push(format!("{} has no effect: {why}", given.origin));
        }
    };
    match &endpoint {
        _ if standalone => set_aside("with --standalone there is a free port", notes),
        Some(given) if is_static => {
            let (host, port) = given.parse(values::endpoint)?;
            addresses.master_port = port.ok_or_else(|| SettingsError::Value {
                origin: given.origin.clone(),
                problem: Problem::new(
                    format!("there is no port in `{}`", given.value),
                    format!("write {}:29500, or leave it out for a free port", given.value),
                ),
            })?;
            addresses.master_addr = host;
            set_aside("--rdzv-endpoint names address and port", notes);
        }
        Some(given) => {
            let (host, port) = given.parse(values::endpoint)?;
            if port.is_some_and(|port| port != 0) {
                notes.push(format!(
                    "the port of {} is not used: with one node nobody listens there",
                    given.origin
                ));
            }
            addresses.rendezvous_host = Some(host);
            set_aside("with the c10d backend there is a free port", notes);
        }
        None if is_static => {
            if master_addr.is_some() {
                addresses.master_addr = addr;
            }
            if master_port.is_some() {
                addresses.master_port = port;
            }
        }
        None => set_aside("with the c10d backend there is a free port", notes),
    }
    Ok(addresses)
}

fn one_node(args: &RunArgs, layers: &Layers<'_>) -> Result<(), SettingsError> {
    if let Some(given) = layers.get(args.nnodes.as_ref(), &keys::NNODES)? {
        let (_, most) = given.parse(values::nodes)?;
        if most > 1 {
            let asked = given.value.to_owned();
            return Err(SettingsError::SeveralNodes { origin: given.origin, asked });
        }
    }
    if let Some(given) = layers.text(args.node_rank.as_ref(), "--node-rank")? {
        let asked = given.parse(values::node_rank)?;
        if asked != 0 {
            return Err(SettingsError::NodeRank { origin: given.origin, asked });
        }
    }
    Ok(())
}

fn is_static(backend: &str) -> Result<bool, Problem> {
    match backend.trim() {
        "static" => Ok(true),
        "c10d" => Ok(false),
        _ => Err(Problem::new(
            format!("the rendezvous backend `{backend}` is not supported"),
            "with one node none is needed: leave it out, or give static or c10d",
        )),
    }
}

/// The id of the Slurm job, for the id of the run.
fn scheduler_job(env: &Env) -> Option<String> {
    env.get_nonempty(env_vars::SLURM_JOB_ID)?.to_str().map(str::to_owned)
}
