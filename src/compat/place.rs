//! Puts the layer where the ranks find it, and takes it away after the job.
//!
//! - L1: everything is in one folder, which comes first in `PYTHONPATH`. What the ranks would have
//!   there without it comes after it.
//! - L2: the folder is part of the run folder; without one it is a temporary folder. Whoever holds
//!   [`Placed`] keeps it; it is removed with all that Python left in it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::decide::{Compat, Layer, Way};
use crate::env_vars;
use crate::error::Explain;
use crate::exit_code;
use crate::plan::{EnvChange, Plan, Variable};
use crate::warm::Warmth;

/// The layer itself.
pub const MODULE: &str = include_str!("nvlaunch_compat.py");
/// Its way into old releases.
pub const SITECUSTOMIZE: &str = include_str!("sitecustomize.py");

/// Why the layer could not be put there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A file or folder cannot be made.
    #[error("cannot make `{}` for the compatibility layer", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A path that cannot stand in a list of paths.
    #[error("the folder `{}` cannot stand in PYTHONPATH", path.display())]
    Colon {
        /// Which.
        path: PathBuf,
    },
}

impl Explain for PlaceError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Make { .. } => "choose another folder with --log-dir or TMPDIR".to_owned(),
            Self::Colon { .. } => {
                "a colon separates the folders there: choose another with --log-dir or TMPDIR"
                    .to_owned()
            }
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::CANNOT_CREATE
    }
}

/// The layer's folder, while there is one.
#[derive(Debug)]
pub struct Placed(PathBuf);

impl Drop for Placed {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Puts the layer into the run folder, or where there is none into a temporary one, and its place
/// into the plan. `None` where the plan wants none.
pub fn place(plan: &mut Plan, run_dir: Option<&Path>) -> Result<Option<Placed>, PlaceError> {
    let Compat::On(layer) = &plan.compat else { return Ok(None) };
    let parent = run_dir.map_or_else(std::env::temp_dir, Path::to_owned);
    if parent.as_os_str().as_bytes().contains(&b':') {
        return Err(PlaceError::Colon { path: parent });
    }
    let prefix = if run_dir.is_some() { "compat_" } else { "nvlaunch_compat_" };
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(&parent);
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| PlaceError::Make { path, source }
    };
    let folder =
        std::path::absolute(made.map_err(error(&parent))?.keep()).map_err(error(&parent))?;
    let placed = Placed(folder);
    let folder = placed.0.as_path();
    write(layer, folder).map_err(error(folder))?;
    let value = joined(folder, layer.python_path.as_deref());
    set(&mut plan.common_env, &value);
    if let Warmth::Warm(warm) = &mut plan.warmth {
        warm.env.retain(|(name, _)| name != env_vars::PYTHONPATH);
        warm.env.push((env_vars::PYTHONPATH.into(), value));
    }
    Ok(Some(placed))
}

/// The folder, then what was there, byte for byte.
fn joined(folder: &Path, others: Option<&OsStr>) -> OsString {
    let mut value = folder.as_os_str().to_owned();
    if let Some(others) = others {
        value.push(":");
        value.push(others);
    }
    value
}

fn set(env: &mut [Variable], value: &OsStr) {
    let found = env.iter_mut().filter(|variable| variable.name == env_vars::PYTHONPATH);
    for variable in found {
        variable.change = EnvChange::Set(value.to_owned());
    }
}

fn write(layer: &Layer, folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("nvlaunch_compat.py"), MODULE)?;
    std::fs::write(folder.join("plan.json"), orders(layer))?;
    match layer.way {
        Way::Sitecustomize => std::fs::write(folder.join("sitecustomize.py"), SITECUSTOMIZE),
        Way::EntryPoint => {
            let version = env!("CARGO_PKG_VERSION");
            let info = folder.join(format!("nvlaunch_compat-{version}.dist-info"));
            std::fs::create_dir(&info)?;
            let metadata =
                format!("Metadata-Version: 2.1\nName: nvlaunch-compat\nVersion: {version}\n");
            std::fs::write(info.join("METADATA"), metadata)?;
            let entry = "[torch.backends]\nnvlaunch_compat = nvlaunch_compat:init\n";
            std::fs::write(info.join("entry_points.txt"), entry)
        }
    }
}

/// What the layer is told: `plan.json`.
fn orders(layer: &Layer) -> String {
    let pieces: Vec<_> = layer.changes.iter().map(|change| [&change.piece, &change.what]).collect();
    let name = layer.mode.name();
    json!({
        "title": format!("compat {name}"),
        "mode": name,
        "backend": layer.backend,
        "is_asked": layer.is_backend_asked,
        "pieces": pieces,
        "is_warned": !layer.warnings.is_empty(),
    })
    .to_string()
}
