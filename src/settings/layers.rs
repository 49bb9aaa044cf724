//! Where a value comes from: the command line, a `PET_*` variable, another variable, the defaults.

use std::ffi::{OsStr, OsString};
use std::fmt;

use super::env::Env;
use super::error::{Problem, SettingsError};
use super::values;

/// Where a value was given, as an error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An option, by its spelling with hyphens.
    Option(&'static str),
    /// An environment variable.
    Variable(String),
    /// A key of the embedded defaults.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name) => f.write_str(name),
            Self::Variable(name) => f.write_str(name),
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

/// The layers below the command line.
pub struct Layers<'a> {
    env: &'a Env,
    /// The `PET_*` variables that are set to something, without `PET_`; mostly none.
    pet: Vec<(&'a str, &'a OsStr)>,
}

impl<'a> Layers<'a> {
    /// Looks the environment through once.
    pub fn new(env: &'a Env) -> Self {
        let pet =
            env.0.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
                Some((name.to_str()?.strip_prefix("PET_")?, value.as_os_str()))
            });
        Self { env, pet: pet.collect() }
    }

    /// The value of an option that torchrun has: typed, else its `PET_*` variable.
    fn find(
        &self,
        typed: Option<&'a OsString>,
        option: &'static str,
    ) -> Option<(&'a OsStr, Origin)> {
        if let Some(value) = typed {
            return Some((value.as_os_str(), Origin::Option(option)));
        }
        let (name, value) = self.pet.iter().find(|(name, _)| is_variable_of(name, option))?;
        Some((value, Origin::Variable(format!("PET_{name}"))))
    }

    /// The bytes of an option that torchrun has; empty is none.
    pub fn raw(&self, typed: Option<&'a OsString>, option: &'static str) -> Option<&'a OsStr> {
        self.find(typed, option).map(|(value, _)| value).filter(|value| !value.is_empty())
    }

    /// The text of an option that torchrun has.
    pub fn text(
        &self,
        typed: Option<&'a OsString>,
        option: &'static str,
    ) -> Result<Option<Given<'a>>, SettingsError> {
        self.find(typed, option).map(|(value, origin)| as_text(value, origin)).transpose()
    }

    /// The bytes of an option without a variable.
    #[expect(clippy::unused_self, reason = "reads as the others do")]
    pub fn own(&self, typed: Option<&'a OsString>) -> Option<&'a OsStr> {
        typed.map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The text of an option without a variable.
    #[expect(clippy::unused_self, reason = "reads as the others do")]
    pub fn own_text(
        &self,
        typed: Option<&'a OsString>,
        option: &'static str,
    ) -> Result<Option<Given<'a>>, SettingsError> {
        typed.map(|value| as_text(value, Origin::Option(option))).transpose()
    }

    /// The text of a variable that is no `PET_*`.
    pub fn variable(&self, name: &str) -> Result<Option<Given<'a>>, SettingsError> {
        let value = self.env.get_nonempty(name);
        value.map(|value| as_text(value, Origin::Variable(name.to_owned()))).transpose()
    }

    /// A value of the embedded defaults.
    #[expect(clippy::unused_self, reason = "reads as the others do")]
    pub fn default(&self, key: &'static str, value: &'a str) -> Given<'a> {
        Given { value, origin: Origin::Default(key) }
    }

    /// A flag that torchrun has.
    pub fn flag(&self, typed: bool, option: &'static str) -> Result<bool, SettingsError> {
        Ok(self.flag_origin(typed, option)?.is_some())
    }

    /// Where a flag that torchrun has was set.
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

/// Whether `PET_<name>` is the variable of `option`: `NPROC_PER_NODE` of `--nproc-per-node`.
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
