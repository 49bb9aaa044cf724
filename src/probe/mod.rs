//! Asks the libraries of NVIDIA's driver, which may hang for ever, crash, or write where they like.
//!
//! - P1: a vendor's library is touched in a child alone: `nvlaunch __probe nvml`, or the ranks'
//!   interpreter for CUDA. nvlaunch itself never loads one.
//! - P2: the child names each call on a pipe before it makes it, so that a hang or a crash has a
//!   place; its answer is the last line.
//! - P3: one deadline is over all. Then the child is killed, looked at, and left: nvlaunch never
//!   waits for a process that the kernel may not give back.
//! - P4: nothing is asked where the driver is not in the kernel: the libraries would make device
//!   nodes there (as root), or load the module.
//!
//! What an answer means is judged elsewhere.

mod child;
mod codes;
mod cuda;
mod nvml;
mod parent;
mod protocol;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::env_vars;
use crate::host::depth::Depth;
use crate::host::facts::nvidia::{Cuda, Nvml, Probe};
use crate::settings::env::Env;

pub use child::run;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__probe";

/// How long a probe may take where the driver stays initialised between processes.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The same where persistence is off: the first process to open a GPU initialises it, which takes
/// seconds for each.
pub const DEADLINE_COLD: Duration = Duration::from_secs(15);

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `/`; below another root nothing is asked without a library.
    pub root: PathBuf,
    /// The environment that the ranks will get: it decides which library is found.
    pub env: Env,
    /// The file to load in place of `libnvidia-ml.so.1`.
    pub library: Option<PathBuf>,
    /// The file to load in place of `libcuda.so.1`.
    pub cuda_library: Option<PathBuf>,
    /// The ranks' interpreter, which [`cuda`] needs.
    pub interpreter: Option<PathBuf>,
    /// nvlaunch's own program.
    pub program: PathBuf,
    /// How long a probe may take in all.
    pub deadline: Duration,
    /// How much is asked of each GPU.
    pub depth: Depth,
}

impl Settings {
    /// For this root and environment; the library is the one that `NVLAUNCH_NVML_LIB` names there.
    pub fn new(root: &Path, env: &Env, depth: Depth) -> Self {
        Self {
            root: root.to_owned(),
            env: env.clone(),
            library: env.get_nonempty(env_vars::NVML_LIB).map(PathBuf::from),
            cuda_library: None,
            interpreter: None,
            // The program that runs, even where its file was replaced meanwhile.
            program: PathBuf::from("/proc/self/exe"),
            deadline: DEADLINE,
            depth,
        }
    }

    /// A command with the ranks' environment and nothing else.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.env.0.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Why nothing is asked (P4).
    fn reason_not_to_ask(&self, library: Option<&Path>) -> Option<String> {
        if library.is_some() {
            None
        } else if self.root != Path::new("/") {
            Some(format!("{} is not this machine", self.root.display()))
        } else if !Path::new("/proc/driver/nvidia").exists() {
            Some("the driver is not loaded: /proc/driver/nvidia does not exist".to_owned())
        } else {
            None
        }
    }
}

/// Asks NVML. Returns within the deadline and some 100 ms, whatever the driver does.
pub fn nvml(settings: &Settings) -> Probe<Nvml> {
    if let Some(reason) = settings.reason_not_to_ask(settings.library.as_deref()) {
        return Probe::Skipped(reason);
    }
    let library = settings.library.as_deref().unwrap_or(Path::new(nvml::LIBRARY));
    let mut command = settings.command(&settings.program);
    command.args(child::words(settings.depth, settings.library.as_deref()));
    if let Some(preload) = preload(&settings.env, library) {
        command.env(env_vars::LD_PRELOAD, preload);
    }
    parent::ask(command, &format!("dlopen {}", library.display()), settings.deadline)
}

/// Asks CUDA whether it can be initialised, without making a context. As [`nvml`].
pub fn cuda(settings: &Settings) -> Probe<Cuda> {
    if let Some(reason) = settings.reason_not_to_ask(settings.cuda_library.as_deref()) {
        return Probe::Skipped(reason);
    }
    let Some(interpreter) = &settings.interpreter else {
        return Probe::Skipped("no Python interpreter is known, which asks CUDA".to_owned());
    };
    let library = settings.cuda_library.as_deref().unwrap_or(Path::new(cuda::LIBRARY));
    let mut command = settings.command(interpreter);
    command.args(cuda::WORDS).arg(std::process::id().to_string()).arg(library);
    parent::ask(command, cuda::FIRST_STAGE, settings.deadline)
}

/// The value of `LD_PRELOAD` that has the linker load the library before `main`, after what the
/// ranks' environment preloads.
///
/// It is the same search as `dlopen`'s in the ranks. Loaded this way the library stays: where init
/// fails the wrapper unloads its own handle, and the library's destructors could hang then, and
/// `/proc/self/maps` would no longer tell which file it was. `None` where the linker would take the
/// path for several.
fn preload(env: &Env, library: &Path) -> Option<std::ffi::OsString> {
    use std::os::unix::ffi::OsStrExt as _;
    if library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
        return None;
    }
    let mut value = env.get(env_vars::LD_PRELOAD).unwrap_or_default().to_owned();
    if !value.is_empty() {
        value.push(":");
    }
    value.push(library);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_after_what_the_ranks_preload() {
        let (bare, file) = ("libnvidia-ml.so.1", "/lib/x.so");
        for (preloaded, library, expected) in [
            (None, bare, Some(bare)),
            (Some(""), file, Some(file)),
            (Some("/a.so /b.so"), file, Some("/a.so /b.so:/lib/x.so")),
            (None, "/with space/x.so", None),
            (None, "/with:colon/x.so", None),
        ] {
            let env: Env =
                preloaded.map(|value| (env_vars::LD_PRELOAD, value)).into_iter().collect();
            let value = preload(&env, Path::new(library));
            assert_eq!(value.as_deref(), expected.map(std::ffi::OsStr::new), "{library}");
        }
    }

    #[test]
    fn nothing_is_asked_of_another_root_or_without_a_driver() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path(), &Env::default(), Depth::Launch);
        assert!(matches!(nvml(&settings), Probe::Skipped(why) if why.contains("this machine")));
        assert!(matches!(cuda(&settings), Probe::Skipped(why) if why.contains("this machine")));
        settings.root = PathBuf::from("/");
        if !Path::new("/proc/driver/nvidia").exists() {
            assert!(matches!(nvml(&settings), Probe::Skipped(why) if why.contains("not loaded")));
        }
        settings.cuda_library = Some(PathBuf::from("/nowhere/libcuda.so.1"));
        assert!(matches!(cuda(&settings), Probe::Skipped(why) if why.contains("interpreter")));
    }

    #[test]
    fn the_library_of_the_environment_is_taken() {
        let env: Env = [(env_vars::NVML_LIB, "/x.so")].into_iter().collect();
        let settings = Settings::new(Path::new("/"), &env, Depth::Full);
        assert_eq!(settings.library.as_deref(), Some(Path::new("/x.so")));
    }
}
