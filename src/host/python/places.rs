//! Where the interpreter of the ranks would look for packages, told by files alone: what
//! `sys.path` is, without the quarter of a second that asking Python takes.
//!
//! - P1: a virtual environment is known by `pyvenv.cfg` beside or above the interpreter as it was
//!   named; its link to the real one is not followed for that.
//! - P2: the order is Python's: `PYTHONPATH`, the environment, the user's folder, the base.
//! - P3: a shim of pyenv is a script that chooses; it is chosen here as pyenv does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::metadata::{VenvConfig, major_minor, venv_config};
use crate::env_vars;
use crate::host::facts::Note;
use crate::host::files;
use crate::settings::env::Env;

/// Entries of a search path that are looked at.
const MAX_ENTRIES: usize = 64;
/// Bytes of a small text file.
const MAX_TEXT: u64 = 64 << 10;

/// The interpreter, and where it looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The interpreter, on the machine.
    pub interpreter: Option<PathBuf>,
    /// `3.11`
    pub version: Option<String>,
    /// The folder that its `lib` is in: the environment's, or the installation's.
    pub prefix: Option<PathBuf>,
    /// The folders of packages that exist, first wins.
    pub sites: Vec<PathBuf>,
}

/// Finds the folders of packages of `interpreter`, or where none is named, of the one that a shell
/// with `env` would start.
pub fn find(root: &Path, env: &Env, interpreter: Option<&Path>, notes: &mut Vec<Note>) -> Places {
    let cx = Context { root, env, working_dir: working_dir(root, env) };
    let named = interpreter.map(|path| cx.absolute(path)).or_else(|| cx.default_interpreter());
    let mut sites = cx.listed(env_vars::PYTHONPATH);
    let Some(named) = named else {
        return Places { sites: cx.existing(sites), ..Places::default() };
    };
    let interpreter = cx.behind_shim(named, notes);
    let config = cx.venv(&interpreter);
    let real = files::resolve(root, &interpreter).ok();
    let base_bin = config.as_ref().and_then(|(_, config)| config.home.clone()).map(PathBuf::from);
    let base_bin = base_bin.or_else(|| Some(real.as_ref()?.parent()?.to_owned()));
    let home = env
        .get_nonempty("PYTHONHOME")
        .and_then(|home| home.as_bytes().split(|b| *b == b':').next());
    let base = home
        .map(|home| PathBuf::from(OsStr::from_bytes(home)))
        .or_else(|| Some(base_bin?.parent()?.to_owned()));
    let named_version = || major_minor(real.as_ref()?.file_name()?.to_str()?);
    let prefix = config.as_ref().map(|(prefix, _)| prefix.clone()).or_else(|| base.clone());
    let version = config
        .as_ref()
        .and_then(|(_, config)| config.version.clone())
        .or_else(named_version)
        .or_else(|| cx.listed_version(prefix.as_deref()?));
    if let Some(version) = &version {
        if let Some((environment, _)) = &config {
            sites.extend(site_folders(environment, version));
        }
        if config.as_ref().is_none_or(|(_, config)| config.includes_system) {
            sites.extend(cx.user_site(version));
            sites.extend(base.iter().flat_map(|base| base_folders(base, version)));
        }
    }
    Places { interpreter: Some(interpreter), version, prefix, sites: cx.existing(sites) }
}

/// What relative paths are relative to; below another root only the environment tells it.
fn working_dir(root: &Path, env: &Env) -> PathBuf {
    let here = (root == Path::new("/")).then(|| std::env::current_dir().ok()).flatten();
    here.or_else(|| env.get_nonempty(env_vars::PWD).map(PathBuf::from))
        .unwrap_or_else(|| "/".into())
}

fn site_folders(prefix: &Path, version: &str) -> Vec<PathBuf> {
    ["lib", "lib64"].map(|lib| prefix.join(format!("{lib}/python{version}/site-packages"))).into()
}

/// The folders of an installation; distributions split theirs in two.
fn base_folders(prefix: &Path, version: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if prefix == Path::new("/usr") {
        let local = Path::new("/usr/local");
        folders.push(local.join(format!("lib/python{version}/dist-packages")));
        folders.extend(site_folders(local, version));
        folders.push("/usr/lib/python3/dist-packages".into());
        folders.push(format!("/usr/lib/python{version}/dist-packages").into());
    }
    folders.extend(site_folders(prefix, version));
    // Debian's own interpreter under another name than its prefix (`/bin/python3`).
    if prefix == Path::new("/") {
        folders.extend(base_folders(Path::new("/usr"), version));
    }
    folders
}

struct Context<'a> {
    root: &'a Path,
    env: &'a Env,
    working_dir: PathBuf,
}

impl Context<'_> {
    fn absolute(&self, path: &Path) -> PathBuf {
        let path = self.working_dir.join(path);
        // `.` and doubled slashes would be part of every path that is shown.
        path.components().collect()
    }

    fn is_file(&self, path: &Path) -> bool {
        files::metadata(self.root, path).is_ok_and(|metadata| metadata.is_file())
    }

    fn text(&self, path: &Path) -> Option<String> {
        files::read_text(self.root, path, MAX_TEXT).ok().flatten()
    }

    /// The active environment's interpreter, or the first one on PATH.
    fn default_interpreter(&self) -> Option<PathBuf> {
        let active =
            [env_vars::VIRTUAL_ENV, env_vars::CONDA_PREFIX].into_iter().filter_map(|name| {
                Some(PathBuf::from(self.env.get_nonempty(name)?).join("bin/python"))
            });
        let folders = self.listed(env_vars::PATH);
        let usual = ["/usr/local/bin", "/usr/bin"].map(PathBuf::from);
        let on_path = folders
            .into_iter()
            .chain(usual)
            .flat_map(|folder| ["python3", "python"].map(|name| folder.join(name)));
        active.chain(on_path).find(|path| self.is_file(path))
    }

    /// The folders of a variable with `:` between them.
    fn listed(&self, name: &str) -> Vec<PathBuf> {
        let Some(list) = self.env.get_nonempty(name) else { return Vec::new() };
        std::env::split_paths(list)
            .filter(|path| !path.as_os_str().is_empty())
            .take(MAX_ENTRIES)
            .map(|path| self.absolute(&path))
            .collect()
    }

    /// Those that are folders, each once, whatever name leads to it.
    fn existing(&self, folders: Vec<PathBuf>) -> Vec<PathBuf> {
        let mut seen = Vec::new();
        let mut is_new = |folder: &PathBuf| {
            let Ok(real) = files::resolve(self.root, folder) else { return false };
            let is_new = !seen.contains(&real);
            seen.push(real);
            is_new
        };
        let is_folder = |folder: &PathBuf| {
            files::metadata(self.root, folder).is_ok_and(|metadata| metadata.is_dir())
        };
        folders.into_iter().filter(|folder| is_folder(folder) && is_new(folder)).collect()
    }

    /// The environment of an interpreter (P1), and what it says.
    fn venv(&self, interpreter: &Path) -> Option<(PathBuf, VenvConfig)> {
        let folders = interpreter.ancestors().skip(1).take(2);
        let mut texts = folders
            .filter_map(|folder| Some((folder.to_owned(), self.text(&folder.join("pyvenv.cfg"))?)));
        let (folder, text) = texts.next()?;
        let is_bin = interpreter.parent() == Some(&folder);
        // Beside the interpreter, the environment is still what its folder stands in.
        let prefix = if is_bin { folder.parent()?.to_owned() } else { folder };
        Some((prefix, venv_config(&text)))
    }

    fn user_site(&self, version: &str) -> Option<PathBuf> {
        if self.env.get_nonempty(env_vars::PYTHONNOUSERSITE).is_some() {
            return None;
        }
        let base = match self.env.get_nonempty(env_vars::PYTHONUSERBASE) {
            Some(base) => self.absolute(Path::new(base)),
            None => Path::new(self.env.get_nonempty(env_vars::HOME)?).join(".local"),
        };
        Some(base.join(format!("lib/python{version}/site-packages")))
    }

    /// The newest version that a prefix has a library folder of.
    fn listed_version(&self, prefix: &Path) -> Option<String> {
        let listing = files::list(self.root, prefix.join("lib"), 4096).ok().flatten()?;
        let versions = listing.names.iter().filter(|name| name.starts_with("python3."));
        versions.filter_map(|name| major_minor(name)).max_by_key(|version| {
            version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok())
        })
    }

    /// The interpreter that a shim of pyenv starts (P3); any other is its own.
    fn behind_shim(&self, interpreter: PathBuf, notes: &mut Vec<Note>) -> PathBuf {
        let is_shim =
            |path: &Path| path.parent().and_then(Path::file_name) == Some("shims".as_ref());
        let real = files::resolve(self.root, &interpreter).ok();
        let shim = std::iter::once(interpreter.clone()).chain(real).find(|path| is_shim(path));
        let Some(shim) = shim else { return interpreter };
        let (Some(pyenv), Some(name)) = (shim.parent().and_then(Path::parent), shim.file_name())
        else {
            return interpreter;
        };
        for version in self.pyenv_versions(pyenv) {
            let found = self.pyenv_interpreter(pyenv, &version, name);
            if let Some(found) = found {
                return found;
            }
        }
        notes.push(files::note(&interpreter, "cannot tell which interpreter this shim starts"));
        interpreter
    }

    /// The versions that pyenv was told to use, the first that is installed counts: by its
    /// variable, by `.python-version` here or above, or for the user.
    fn pyenv_versions(&self, pyenv: &Path) -> Vec<String> {
        let words = |text: String| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            lines
                .flat_map(|line| line.split([':', ' ', '\t']))
                .map(str::trim)
                .filter(|word| !word.is_empty() && !word.contains('/') && !word.starts_with('.'))
                .take(MAX_ENTRIES)
                .map(str::to_owned)
                .collect()
        };
        if let Some(versions) = self.env.get_nonempty(env_vars::PYENV_VERSION) {
            return words(versions.to_string_lossy().into_owned());
        }
        let local = self.working_dir.ancestors().map(|folder| folder.join(".python-version"));
        let files = local.chain([pyenv.join("version")]);
        let versions = files.filter_map(|file| self.text(&file)).map(words);
        versions
            .into_iter()
            .find(|versions| !versions.is_empty())
            .unwrap_or_else(|| vec!["system".into()])
    }

    fn pyenv_interpreter(&self, pyenv: &Path, version: &str, name: &OsStr) -> Option<PathBuf> {
        if version == "system" {
            // What is on PATH besides the shims.
            let folders = self.listed(env_vars::PATH).into_iter();
            let usual = [PathBuf::from("/usr/bin")];
            let others = folders.chain(usual).filter(|folder| !folder.ends_with("shims"));
            return others.map(|folder| folder.join(name)).find(|path| self.is_file(path));
        }
        let versions = pyenv.join("versions");
        let of = |version: &str| {
            let bin = versions.join(version).join("bin");
            [bin.join(name), bin.join("python")].into_iter().find(|path| self.is_file(path))
        };
        // `3.11` is the newest release of it that is installed.
        let newest = || {
            let listing = files::list(self.root, &versions, 4096).ok().flatten()?;
            let start = format!("{version}.");
            let patch = |name: &str| name.strip_prefix(&start)?.parse::<u32>().ok();
            let newest =
                listing.names.iter().filter_map(|name| Some((patch(name)?, name))).max()?;
            of(newest.1)
        };
        of(version).or_else(newest)
    }
}
