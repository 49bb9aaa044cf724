//! The interpreter, the program and the script: which file it is, and whether it can be used.
//!
//! - T1: the interpreter is the one that was named; else `$PYTHON_EXEC`; else that of the active
//!   virtual environment; else the one beside nvlaunch, where nvlaunch was installed into an
//!   environment; else `python3` or `python` on PATH.
//! - T2: a name without a slash is looked up on PATH, never in the working directory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::env_vars;
use crate::settings::env::Env;
use crate::settings::spec::{LaunchSpec, Target};

/// The program that each rank executes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProgramFact {
    /// Nobody looked.
    #[default]
    Unknown,
    /// It can be executed.
    Found(PathBuf),
    /// It is not there.
    Missing {
        /// What was looked for.
        asked: PathBuf,
        /// Who asked for it.
        by: AskedBy,
        /// Whether the working directory has a file of that name, which PATH does not lead to.
        in_working_dir: bool,
    },
    /// It is there, and cannot be executed.
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Whether it is a folder.
        is_folder: bool,
    },
}

/// Who named a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// `--python`
    Option,
    /// `$PYTHON_EXEC`
    PythonExec,
    /// Nobody: Python was looked for.
    Search,
    /// `--no-python`
    NoPython,
}

/// The script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ScriptFact {
    /// Not a script, or one that can be read.
    #[default]
    Usable,
    /// There is no such file.
    Missing {
        /// The most similar name in its folder.
        nearest: Option<PathBuf>,
    },
    /// A folder without `__main__.py`.
    Folder,
    /// It may not be read.
    NotReadable,
    /// The path leads nowhere for another reason.
    Broken {
        /// The system's words.
        why: String,
    },
}

/// Finds the program that each rank executes.
pub fn program(root: &Path, env: &Env, spec: &LaunchSpec) -> ProgramFact {
    match &spec.target {
        Target::Program(program) => look_up(program.as_os_str(), env, AskedBy::NoPython),
        Target::Script(_) | Target::Module(_) => interpreter(root, env, spec.python.as_deref()),
    }
}

/// Finds the interpreter (T1); `python` is the one that was named.
pub fn interpreter(root: &Path, env: &Env, python: Option<&Path>) -> ProgramFact {
    if let Some(python) = python {
        return look_up(python.as_os_str(), env, AskedBy::Option);
    }
    if let Some(python) = env.get_nonempty(env_vars::PYTHON_EXEC) {
        return look_up(python, env, AskedBy::PythonExec);
    }
    let active =
        env.get_nonempty(env_vars::VIRTUAL_ENV).map(|dir| Path::new(dir).join("bin/python"));
    let beside = std::fs::read_link(root.join("proc/self/exe")).ok().and_then(|me| beside(&me));
    // An environment that was deleted while it is active is passed over.
    if let Some(python) = active.into_iter().chain(beside).find(|python| python.exists()) {
        return judge(python, AskedBy::Search);
    }
    let on_path = ["python3", "python"].into_iter().find_map(|name| on_path(name.as_ref(), env));
    on_path.map_or_else(
        || ProgramFact::Missing {
            asked: "python3".into(),
            by: AskedBy::Search,
            in_working_dir: false,
        },
        ProgramFact::Found,
    )
}

/// `python` beside nvlaunch, when the two are in one environment.
fn beside(nvlaunch: &Path) -> Option<PathBuf> {
    let bin = nvlaunch.parent()?;
    let environment = bin.parent()?;
    let is_one = |mark: &str| environment.join(mark).exists();
    (is_one("pyvenv.cfg") || is_one("conda-meta")).then(|| bin.join("python"))
}

fn look_up(name: &OsStr, env: &Env, by: AskedBy) -> ProgramFact {
    if name.as_bytes().contains(&b'/') {
        return judge(PathBuf::from(name), by);
    }
    if let Some(path) = on_path(name, env) {
        return ProgramFact::Found(path);
    }
    // A file on PATH that may not be executed says more than that nothing was found.
    let file =
        std::env::split_paths(path_of(env)).map(|dir| dir.join(name)).find(|file| file.is_file());
    match file {
        Some(path) => ProgramFact::NotExecutable { path, is_folder: false },
        None => ProgramFact::Missing {
            asked: name.into(),
            by,
            in_working_dir: Path::new(name).is_file(),
        },
    }
}

fn on_path(name: &OsStr, env: &Env) -> Option<PathBuf> {
    // Folders on PATH may be relative, to the working directory.
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    which::which_in(name, Some(path_of(env)), here).ok()
}

/// PATH; where it is unset, what `execvp` takes.
fn path_of(env: &Env) -> &OsStr {
    env.get(env_vars::PATH).unwrap_or_else(|| OsStr::new("/bin:/usr/bin"))
}

fn judge(path: PathBuf, by: AskedBy) -> ProgramFact {
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            ProgramFact::NotExecutable { path, is_folder: false }
        }
        Err(_) => ProgramFact::Missing { asked: path, by, in_working_dir: false },
        Ok(metadata) if metadata.is_dir() => ProgramFact::NotExecutable { path, is_folder: true },
        Ok(_) if access(&path, AccessFlags::X_OK).is_err() => {
            ProgramFact::NotExecutable { path, is_folder: false }
        }
        Ok(_) => ProgramFact::Found(path),
    }
}

/// Looks at the script. It is not opened: a pipe would be emptied or waited for.
pub fn script(target: &Target) -> ScriptFact {
    let Target::Script(path) = target else { return ScriptFact::Usable };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            // Python runs such a folder.
            let has_main = |name| path.join(name).is_file();
            if has_main("__main__.py") || has_main("__main__.pyc") {
                ScriptFact::Usable
            } else {
                ScriptFact::Folder
            }
        }
        Ok(_) if access(path, AccessFlags::R_OK).is_err() => ScriptFact::NotReadable,
        Ok(_) => ScriptFact::Usable,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ScriptFact::Missing { nearest: nearest(path) }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => ScriptFact::NotReadable,
        Err(error) => ScriptFact::Broken { why: error.to_string() },
    }
}

/// The name in the script's folder that is most like its own.
fn nearest(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // A folder of data can have millions of files; a hint is not worth reading them all.
    let entries = std::fs::read_dir(folder).ok()?.flatten().take(4096);
    let names: Vec<OsString> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.file_name())
        .collect();
    let texts: Vec<_> = names.iter().filter_map(|name| name.to_str()).collect();
    let near = crate::settings::values::nearest(&name, texts.into_iter())?;
    Some(path.with_file_name(near))
}
