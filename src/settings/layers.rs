//! Where a value comes from: the command line, a variable, a file, the defaults.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;

use super::env::Env;
use super::error::{Problem, SettingsError};
use super::values;
use crate::env_vars;
use crate::profile::keys::Key;
use crate::profile::layer::Layer;

/// Where a value was given, as an error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An option, by its spelling with hyphens.
    Option(&'static str),
    /// An environment variable.
    Variable(String),
    /// A file and a line of it.
    File {
        /// The file, as it is shown.
        file: Arc<str>,
        /// From 1.
        line: u32,
    },
    /// A key of the embedded defaults.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name) => f.write_str(name),
            Self::Variable(name) => f.write_str(name),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Default(key) => write!(f, "default of {key}"),
        }
    }
}

/// A text and where it was given.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    /// As typed.
    pub value: &'a str,
    /// Where.
    pub origin: Origin,
}

impl<'a> Given<'a> {
    /// Reads the value; a problem is joined with its origin.
    pub fn parse<T>(
        &self,
        parse: impl FnOnce(&'a str) -> Result<T, Problem>,
    ) -> Result<T, SettingsError> {
        parse(self.value)
            .map_err(|problem| SettingsError::Value { origin: self.origin.clone(), problem })
    }
}

/// A key, what holds of it, and where that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Its path, `geometry.nproc`.
    pub key: &'static str,
    /// The value, as it was written.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// What nvlaunch's own variables begin with.
const OWN: &str = "NVLAUNCH_";

/// The other names of options, which a variable may have too.
pub(super) const ALIASES: &[(&str, &str)] = &[("--nproc-per-node", "--nproc")];

/// The layers below the command line.
pub struct Layers<'a> {
    env: &'a Env,
    /// The `NVLAUNCH_*` variables that are set to something, without `NVLAUNCH_`; mostly none.
    own: Vec<(&'a str, &'a OsStr)>,
    /// The same of `PET_*`.
    pet: Vec<(&'a str, &'a OsStr)>,
    files: &'a Layer,
    /// What was asked for, in that order.
    asked: RefCell<Vec<Effective>>,
}

impl<'a> Layers<'a> {
    /// Looks the environment through once. `files` has a value for every key.
    pub fn new(env: &'a Env, files: &'a Layer) -> Self {
        // Inside a run this is what the run chose, not what the user asked for.
        let is_inside = env.get_nonempty(env_vars::RUN_ID).is_some();
        let with = |prefix: &'static str| {
            let set = env.0.iter().filter(|(_, value)| !value.is_empty());
            set.filter_map(move |(name, value)| {
                let is_read = !(is_inside && name == env_vars::BACKEND);
                Some((name.to_str().filter(|_| is_read)?.strip_prefix(prefix)?, value.as_os_str()))
            })
            .collect()
        };
        Self { env, own: with(OWN), pet: with("PET_"), files, asked: RefCell::default() }
    }

    /// What was asked for so far: every key with what holds of it.
    pub fn asked(&self) -> Vec<Effective> {
        self.asked.borrow().clone()
    }

    /// What holds of a key, as bytes; `None` where nothing was given.
    pub fn raw(
        &self,
        typed: Option<&'a OsString>,
        key: &'static Key,
    ) -> Option<(&'a OsStr, Origin)> {
        let option = key.option.unwrap_or_default();
        let above = self.above(typed, option, key.torchrun).or_else(|| {
            let name = key.variable?;
            Some((self.env.get_nonempty(name)?, Origin::Variable(name.to_owned())))
        });
        let found = above.or_else(|| {
            let placed = self.files.texts.get(key.path)?;
            Some((OsStr::new(&placed.value), placed.origin.clone()))
        });
        if let Some((value, origin)) = &found {
            self.asked.borrow_mut().push(Effective {
                key: key.path,
                value: value.to_string_lossy().into_owned(),
                origin: origin.clone(),
            });
        }
        let is_of_file =
            |origin: &Origin| matches!(origin, Origin::File { .. } | Origin::Default(_));
        found.filter(|(value, origin)| {
            !(is_of_file(origin) && key.unset.is_some_and(|word| *value == OsStr::new(word)))
        })
    }

    /// What holds of a key, as text; `None` where nothing was given.
    pub fn get(
        &self,
        typed: Option<&'a OsString>,
        key: &'static Key,
    ) -> Result<Option<Given<'a>>, SettingsError> {
        self.raw(typed, key).map(|(value, origin)| as_text(value, origin)).transpose()
    }

    /// What holds of a key that always has a value.
    pub fn value(
        &self,
        typed: Option<&'a OsString>,
        key: &'static Key,
    ) -> Result<Given<'a>, SettingsError> {
        self.get(typed, key)?.ok_or_else(|| SettingsError::Defaults(format!("no {}", key.path)))
    }

    /// What the files alone say of a key.
    pub fn files_value(&self, key: &'static Key) -> Result<Given<'a>, SettingsError> {
        let placed = self.files.texts.get(key.path);
        let placed = placed.ok_or_else(|| SettingsError::Defaults(format!("no {}", key.path)))?;
        Ok(Given { value: &placed.value, origin: placed.origin.clone() })
    }

    /// Whether a flag is set, and where.
    pub fn flag(&self, typed: bool, key: &'static Key) -> Result<bool, SettingsError> {
        if typed {
            let origin = Origin::Option(key.option.unwrap_or_default());
            let value = "true".to_owned();
            self.asked.borrow_mut().push(Effective { key: key.path, value, origin });
            return Ok(true);
        }
        self.value(None, key)?.parse(values::flag)
    }

    /// The command line, `NVLAUNCH_*`, and where torchrun has the option `PET_*`.
    fn above(
        &self,
        typed: Option<&'a OsString>,
        option: &'static str,
        torchrun: bool,
    ) -> Option<(&'a OsStr, Origin)> {
        if let Some(value) = typed {
            return Some((value.as_os_str(), Origin::Option(option)));
        }
        let of = |variables: &[(&'a str, &'a OsStr)], prefix: &str| {
            let of_name = |option| variables.iter().find(|(name, _)| is_variable_of(name, option));
            let (name, value) = of_name(option).or_else(|| {
                let (_, alias) = ALIASES.iter().find(|(known, _)| *known == option)?;
                of_name(alias).filter(|_| prefix == OWN)
            })?;
            Some((*value, Origin::Variable(format!("{prefix}{name}"))))
        };
        of(&self.own, OWN).or_else(|| of(&self.pet, "PET_").filter(|_| torchrun))
    }

    /// The text of an option that no file can give; torchrun has it.
    pub fn text(
        &self,
        typed: Option<&'a OsString>,
        option: &'static str,
    ) -> Result<Option<Given<'a>>, SettingsError> {
        self.above(typed, option, true).map(|(value, origin)| as_text(value, origin)).transpose()
    }

    /// The bytes of an option that no file can give and torchrun has not.
    pub fn own(&self, typed: Option<&'a OsString>, option: &'static str) -> Option<&'a OsStr> {
        let found = self.above(typed, option, false).map(|(value, _)| value);
        found.filter(|value| !value.is_empty())
    }

    /// Whether a flag that no file can give and torchrun has not is set.
    pub fn own_flag(&self, typed: bool, option: &'static str) -> Result<bool, SettingsError> {
        match self.above(None, option, false) {
            Some((value, origin)) if !typed => as_text(value, origin)?.parse(values::flag),
            _ => Ok(typed),
        }
    }

    /// Whether a flag that no file can give is set; torchrun has it.
    pub fn is_set(&self, typed: bool, option: &'static str) -> Result<bool, SettingsError> {
        Ok(self.flag_origin(typed, option)?.is_some())
    }

    /// Where a flag that no file can give was set.
    pub fn flag_origin(
        &self,
        typed: bool,
        option: &'static str,
    ) -> Result<Option<Origin>, SettingsError> {
        if typed {
            return Ok(Some(Origin::Option(option)));
        }
        let Some(given) = self.text(None, option)? else { return Ok(None) };
        Ok(given.parse(values::flag)?.then_some(given.origin))
    }
}

/// Whether a variable is that of `option`: `NPROC_PER_NODE` of `--nproc-per-node`.
fn is_variable_of(name: &str, option: &str) -> bool {
    let option = option.trim_start_matches('-');
    name.len() == option.len()
        && name.bytes().zip(option.bytes()).all(|(of_name, of_option)| match of_option {
            b'-' => of_name == b'_',
            letter => of_name == letter.to_ascii_uppercase(),
        })
}

fn as_text(value: &OsStr, origin: Origin) -> Result<Given<'_>, SettingsError> {
    match value.to_str() {
        Some(value) => Ok(Given { value, origin }),
        None => Err(SettingsError::NotText { origin }),
    }
}
