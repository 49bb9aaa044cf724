//! The only readers of the machine; all work below a root path, so that tests hand in a folder.
//!
//! [`gather`] reads what a launch needs to know, and no more; it judges nothing: what a missing
//! interpreter or a low limit means is decided by [`crate::plan::decide`]. No vendor's library is
//! loaded, no device is opened, no device node is made.

pub mod activity;
pub mod addresses;
pub mod container;
pub mod cores;
pub mod depth;
pub mod devices;
pub mod elf;
pub mod facts;
pub mod files;
#[cfg(test)]
pub(crate) mod fuzz;
pub mod ldso;
pub mod limits;
pub mod network;
pub mod nvidia;
pub mod packages;
pub mod pci;
pub mod places;
pub mod process;
pub mod python;
pub mod quota;
pub mod resources;
pub mod sockets;
pub mod survey;
pub mod sysfs;
pub mod system;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub mod topology;
pub mod variables;
pub mod vendors;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::env_vars;
use crate::error::Explain;
use crate::exit_code;
use crate::settings::env::Env;
use crate::settings::spec::{LaunchSpec, NumaBinding, OmpThreads, ProcCount, StoreHost};

use depth::Depth;
use devices::Looked;

/// What is true of this machine, as far as the launch depends on it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Whether `/proc` is there.
    pub has_proc: bool,
    /// The CPUs this process may run on.
    pub cpus: BTreeSet<u32>,
    /// Accelerators, when the number of ranks or their placement follows from them.
    pub devices: devices::Devices,
    /// CPUs, caches and NUMA nodes, when the ranks are bound to them or everything is read.
    pub topology: Option<topology::Topology>,
    /// The physical cores of `cpus`, when the number of threads may follow from them; `None` is not
    /// known.
    pub cores: Option<u32>,
    /// The CPU time that the control groups leave, when the number of threads may follow from it;
    /// `None` is no limit.
    pub quota: Option<quota::Quota>,
    /// The program that each rank executes: the interpreter, or the program itself.
    pub program: target::ProgramFact,
    /// The script, where one is run.
    pub script: target::ScriptFact,
    /// The working directory.
    pub working_dir: WorkingDir,
    /// The hard limit on open files; `None` is no limit or not known.
    pub nofile_hard: Option<u64>,
    /// Names and addresses of this machine, where the launch names one.
    pub local_names: Vec<String>,
    /// The addresses of this machine that `MASTER_ADDR` names, where nvlaunch shall serve the
    /// store; empty where it names none.
    pub store_addresses: Vec<IpAddr>,
    /// An id for the run that no other run has.
    pub fresh_run_id: String,
    /// What the caller's environment says.
    pub caller: Caller,
}

/// The variables of the caller that decide something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// `OMP_NUM_THREADS`
    pub omp_num_threads: Option<OsString>,
    /// `PYTHONHASHSEED`
    pub python_hash_seed: Option<OsString>,
    /// `TORCH_NCCL_ASYNC_ERROR_HANDLING`
    pub nccl_async_error_handling: Option<OsString>,
    /// `CUDA_VISIBLE_DEVICES`, by the caller or by the profile.
    pub cuda_visible_devices: Option<OsString>,
    /// `HIP_VISIBLE_DEVICES`, by the caller or by the profile.
    pub hip_visible_devices: Option<OsString>,
    /// What else matters to the ranks, or is spoken of by the profile or by torchrun's contract, by
    /// name. Secrets are among them.
    pub variables: BTreeMap<String, OsString>,
}

/// The state of the working directory, which the ranks inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WorkingDir {
    /// It is there.
    #[default]
    Present,
    /// It was deleted.
    Deleted,
}

/// Why the machine cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file of the kernel cannot be read.
    #[error("cannot read what the kernel says in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the kernel says something unknown.
    #[error("cannot understand what the kernel says in {}: `{text}`", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

impl Explain for HostError {
    fn hint(&self) -> Option<String> {
        None
    }

    fn exit_code(&self) -> u8 {
        exit_code::OS
    }
}

/// Reads what `spec` needs to know; with [`Depth::Full`] the place of everything too. `root` is
/// `/`; tests hand in another folder.
pub fn gather(root: &Path, env: &Env, spec: &LaunchSpec, depth: Depth) -> Result<Facts, HostError> {
    let is_counted = matches!(spec.nproc, ProcCount::Auto | ProcCount::Gpu | ProcCount::Device(_));
    let devices = if spec.numa_binding.is_some() || depth == Depth::Full {
        devices::probe(root, env, Looked::Placed)
    } else if is_counted {
        devices::probe(root, env, Looked::Counted)
    } else {
        devices::Devices::default()
    };
    let has_proc = root.join("proc/self/status").exists();
    let with_caches = spec.numa_binding == Some(NumaBinding::CoreComplex);
    let topology = match (spec.numa_binding, depth) {
        (Some(_), _) => Some(topology::read(root, with_caches)?),
        // What nobody binds to may be unknown.
        (None, Depth::Full) => topology::read(root, with_caches).ok(),
        (None, Depth::Launch) => None,
    };
    let cpus = if has_proc { limits::allowed_cpus(root)? } else { BTreeSet::new() };
    let needs_threads = depth == Depth::Full || chooses_threads(env, spec);
    let is_one = spec.nproc == ProcCount::Count(1);
    let var = |name| env.get(name).map(OsString::from);
    // The profile may say which devices the ranks see.
    let ranks_env = spec.env_of_ranks(env);
    let visible = |name| ranks_env.get(name).map(OsString::from);
    Ok(Facts {
        has_proc,
        // One rank alone has all cores, whatever their number.
        cores: if needs_threads && !(is_one && depth == Depth::Launch) {
            cores::count(root, &cpus)
        } else {
            None
        },
        quota: if needs_threads { quota::read(root) } else { None },
        cpus,
        devices,
        topology,
        program: target::program(root, env, spec),
        script: target::script(&spec.target),
        working_dir: working_dir(),
        nofile_hard: limits::nofile_hard(root),
        local_names: spec.rendezvous_host.as_ref().map(|_| local_names(root)).unwrap_or_default(),
        store_addresses: match (spec.store, &spec.master_addr) {
            (StoreHost::Nvlaunch, Some(host)) => addresses::of_this_machine(host),
            _ => Vec::new(),
        },
        fresh_run_id: fresh_run_id(root),
        caller: Caller {
            omp_num_threads: var(env_vars::OMP_NUM_THREADS),
            python_hash_seed: var(env_vars::PYTHONHASHSEED),
            nccl_async_error_handling: var(env_vars::NCCL_ASYNC_ERROR_HANDLING),
            cuda_visible_devices: visible(env_vars::CUDA_VISIBLE_DEVICES),
            hip_visible_devices: visible(env_vars::HIP_VISIBLE_DEVICES),
            variables: variables::of_caller(env, |name| spec.env.contains_key(name)),
        },
    })
}

/// Whether the number of a rank's threads is nvlaunch's to choose.
fn chooses_threads(env: &Env, spec: &LaunchSpec) -> bool {
    let name = env_vars::OMP_NUM_THREADS;
    spec.omp_threads == OmpThreads::Auto && env.get(name).is_none() && !spec.env.contains_key(name)
}

/// The text of a file of the kernel.
fn read(path: PathBuf) -> Result<String, HostError> {
    std::fs::read_to_string(&path).map_err(|source| HostError::Read { path, source })
}

fn working_dir() -> WorkingDir {
    match std::env::current_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => WorkingDir::Deleted,
        // A folder whose parents cannot be read has no name, and works all the same.
        _ => WorkingDir::Present,
    }
}

/// The host name, and the addresses of its interfaces.
fn local_names(root: &Path) -> Vec<String> {
    let name = std::fs::read_to_string(root.join("proc/sys/kernel/hostname")).unwrap_or_default();
    let mut names = vec![name.trim().to_owned()];
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    for address in interfaces.filter_map(|interface| interface.address) {
        if let Some(v4) = address.as_sockaddr_in() {
            names.push(v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            names.push(v6.ip().to_string());
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The kernel's random uuid; without it, process id and time are as unique on one machine.
fn fresh_run_id(root: &Path) -> String {
    match std::fs::read_to_string(root.join("proc/sys/kernel/random/uuid")) {
        Ok(uuid) if !uuid.trim().is_empty() => uuid.trim().to_owned(),
        _ => {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let nanos = since.map(|since| since.as_nanos()).unwrap_or_default();
            format!("{}-{nanos}", std::process::id())
        }
    }
}
