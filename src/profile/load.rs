//! Reads every file that a launch follows, and chooses the profile.
//!
//! - L1: lowest first: the defaults, the system's `config.yaml`, the user's, the profile with what
//!   it extends. The profile is that of `--profile`, else of `NVLAUNCH_PROFILE`, else the only one
//!   whose `match` fits this host; the word `none` is none.
//! - L2: a profile that was asked for and cannot be used is an error; one that was only looked at is
//!   a note. A choice that nobody asked for is a note as well, and two of them are an error.
//! - L3: without files this costs some failed look-ups of folders, and the machine is asked only
//!   what some `match` wants to know.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::builtin::{self, BuiltIn};
use super::chain::{self, ChainError, Link};
use super::document::{Document, Match};
use super::error::ProfileError;
use super::layer::{Files, Placed, Used};
use super::matching::{self, HostIdentity};
use super::node::{self, Value};
use super::places::{self, At, Found, Places, Unknown};
use super::problem::Problem;
use super::{render, source};
use crate::env_vars;
use crate::error::Explain;
use crate::exit_code;
use crate::host::{survey, system};
use crate::settings::env::Env;
use crate::settings::{Origin, SettingsError};

/// The caller and the machine.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// What is taken for `/`.
    pub root: &'a Path,
    /// The working directory; empty is that of this process.
    pub cwd: &'a Path,
    /// The caller's environment.
    pub env: &'a Env,
    /// Whether a profile may be chosen by `match`: the launch is one on this machine.
    pub is_matched: bool,
}

/// Why there is no profile, or none that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] ProfileError),
    /// No profile has that name.
    #[error("{asker}: no profile is called `{name}`")]
    Unknown {
        /// Who named it: `--profile`, or a line of a profile.
        asker: String,
        /// As written.
        name: String,
        /// What is there.
        unknown: Unknown,
    },
    /// The defaults, which are below every profile.
    #[error("{asker}: `default` is no profile to choose")]
    Defaults {
        /// Who named it.
        asker: String,
    },
    /// Several profiles are meant for this host.
    #[error("{} profiles match this host: {}", matches.len(), Shown(matches))]
    Ambiguous {
        /// Each with the place of its `match`, and why.
        matches: Vec<(Origin, String)>,
    },
    /// What it extends has no end.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The defaults of the program itself.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

struct Shown<'a>(&'a [(Origin, String)]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (origin, why)) in self.0.iter().enumerate() {
            let and = if at == 0 { "" } else { " and " };
            write!(f, "{and}{origin} ({why})")?;
        }
        Ok(())
    }
}

impl Explain for ChoiceError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File(error) => return error.hint(),
            Self::Settings(error) => return error.hint(),
            Self::Unknown { unknown: Unknown { nearest, places }, .. } => match nearest {
                Some(near) => format!("did you mean `{near}`? it was looked for in {places}"),
                None => format!(
                    "it was looked for in {places}; a file is named by its path, as in \
                     ./cluster.yaml"
                ),
            },
            Self::Defaults { .. } => {
                "it is below every profile; `nvlaunch profile show default` prints it".to_owned()
            }
            Self::Ambiguous { .. } => {
                "choose one with --profile NAME, or none with --profile none".to_owned()
            }
            Self::Chain(_) => "take one of the lines `extends` out".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::File(error) => error.exit_code(),
            Self::Settings(error) => error.exit_code(),
            Self::Unknown { .. } | Self::Defaults { .. } => exit_code::NO_INPUT,
            Self::Ambiguous { .. } | Self::Chain(_) => exit_code::CONFIG,
        }
    }
}

/// Reads every file of a launch (L1). `asked` is what `--profile` was given.
pub fn load(asked: Option<&OsStr>, around: Around<'_>) -> Result<Files, ChoiceError> {
    let places = Places::new(around.root, around.cwd, around.env);
    let mut files = below(&places)?;
    let asked = asked
        .map(|word| (word, "--profile"))
        .or_else(|| Some((around.env.get_nonempty(env_vars::PROFILE)?, env_vars::PROFILE)));
    let (link, why) = match asked {
        Some((word, _)) if word == places::NONE => return Ok(files),
        Some((word, by)) => (named(word, by, &places, around.cwd)?, by.to_owned()),
        None if !around.is_matched => return Ok(files),
        None => match by_match(&places, around, &mut files.notes)? {
            Some(chosen) => chosen,
            None => return Ok(files),
        },
    };
    let chain = whole(link, &places)?;
    join(&mut files, &chain, why);
    Ok(files)
}

/// The defaults and the configuration files, without a profile.
pub fn below(places: &Places) -> Result<Files, ChoiceError> {
    let mut files = Files::embedded()?;
    for path in places.configs() {
        if path.symlink_metadata().is_err() {
            continue;
        }
        let (document, source_text) = source::load(path)?;
        files.notes.extend(document.notes);
        let problems = only_of_profiles(&source_text);
        if !problems.is_empty() {
            return Err(ProfileError::Problems { source_text, problems }.into());
        }
        files.values = files.values.below(document.values);
    }
    Ok(files)
}

/// What stands in a `config.yaml` and only a profile can say. Pure.
pub fn only_of_profiles(source: &source::Source) -> Vec<Problem> {
    let root = node::parse(&source.text).ok();
    let Some(Value::Map(entries)) = root.map(|root| root.value) else { return Vec::new() };
    let keys = entries.into_iter().map(|(key, _)| key);
    let keys = keys.filter(|key| matches!(key.text.as_str(), "extends" | "match"));
    let problem = |key: node::Key| {
        let what = format!("`{}` has no meaning in a configuration file", key.text);
        let hint = "write it into a profile, in the folder launch-profiles beside that file";
        Problem::new(key.span, what).hint(hint)
    };
    keys.map(problem).collect()
}

/// Why no launch starts, where that is for a `config.yaml`.
pub fn bad_config(places: &Places) -> Option<String> {
    let said = match below(places).err()? {
        ChoiceError::File(error) => first_of(&error),
        error => error.to_string(),
    };
    Some(format!("{said}; no launch starts with it"))
}

/// Lays a chain over what is below it.
pub fn join(files: &mut Files, chain: &[Link], why: String) {
    let Some((profile, extends)) = chain.split_first() else { return };
    files.notes.extend(chain.iter().flat_map(|link| link.document.notes.iter().cloned()));
    files.values = std::mem::take(&mut files.values).below(chain::join(chain));
    files.profile = Some(Used {
        name: profile.name.clone(),
        file: match &profile.at {
            At::BuiltIn(_) => profile.at.to_string(),
            At::File(_) => profile.file.to_string(),
        },
        why,
        extends: extends.iter().map(|link| link.name.clone()).collect(),
    });
}

/// The profile that a word names: a name, or a path as seen from `folder`.
pub fn named(
    word: &OsStr,
    asker: &str,
    places: &Places,
    folder: &Path,
) -> Result<Link, ChoiceError> {
    let name = word.to_string_lossy();
    if places::is_path(&name) {
        let name = Path::new(word).file_stem().unwrap_or_default().to_string_lossy();
        // `a/./b` is shown as `a/b`.
        let path = folder.join(word).components().collect();
        return Ok(read(&name, At::File(path))?);
    }
    if name == builtin::DEFAULT {
        return Err(ChoiceError::Defaults { asker: asker.to_owned() });
    }
    let at = places.find(&name).map_err(|unknown| {
        let name = name.clone().into_owned();
        ChoiceError::Unknown { asker: asker.to_owned(), name, unknown }
    })?;
    Ok(read(&name, at)?)
}

/// A profile with everything that it extends, the nearest first. A path is seen from the folder of
/// the file that says it.
pub fn whole(profile: Link, places: &Places) -> Result<Vec<Link>, ChoiceError> {
    chain::follow(profile, |extends: &Placed<String>, from: &Link| {
        let folder = match &from.at {
            At::File(path) => path.parent().unwrap_or(Path::new("")),
            At::BuiltIn(_) => Path::new(""),
        };
        named(OsStr::new(&extends.value), &extends.origin.to_string(), places, folder)
    })
}

/// A profile, and whether it is meant for this host.
#[derive(Debug)]
pub struct Candidate {
    /// Where it is.
    pub found: Found,
    /// What it says.
    pub read: Result<Link, ProfileError>,
    /// Why it is meant for this host, where it is, and the place of its `match`.
    pub fits: Option<(Origin, String)>,
}

/// Reads profiles, and asks the machine what their `match` wants to know (L3). A hidden one, and
/// one in the program, fits nothing.
pub fn candidates(found: Vec<Found>, around: Around<'_>) -> Vec<Candidate> {
    let read = |found: Found| {
        let read = read(&found.name, found.at.clone());
        Candidate { found, read, fits: None }
    };
    let mut all: Vec<Candidate> = found.into_iter().map(read).collect();
    let wanted = |candidate: &Candidate| -> Option<Placed<Match>> {
        let is_chosen =
            candidate.found.hidden_by.is_none() && matches!(candidate.found.at, At::File(_));
        candidate.read.as_ref().ok().filter(|_| is_chosen)?.document.matching.clone()
    };
    let matches: Vec<Option<Placed<Match>>> = all.iter().map(wanted).collect();
    if matches.iter().all(Option::is_none) {
        return all;
    }
    let asks_for_vendors = matches.iter().flatten().any(|wanted| !wanted.value.vendor.is_empty());
    let host = HostIdentity {
        hostname: system::hostname(around.root),
        vendors: if asks_for_vendors { survey::vendors_here(around.root) } else { Vec::new() },
        env: around.env.clone(),
    };
    for (candidate, wanted) in all.iter_mut().zip(matches) {
        candidate.fits = wanted
            .and_then(|Placed { value, origin }| Some((origin, matching::why(&value, &host)?)));
    }
    all
}

/// The only profile that is meant for this host, and why; said in a note.
fn by_match(
    places: &Places,
    around: Around<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<(Link, String)>, ChoiceError> {
    let (found, unlisted) = places.files();
    notes.extend(unlisted);
    let visible = found.into_iter().filter(|found| found.hidden_by.is_none()).collect();
    let mut fitting = Vec::new();
    for Candidate { read, fits, .. } in candidates(visible, around) {
        match (read, fits) {
            (Err(error), _) => notes.push(left_out(&error)),
            (Ok(link), Some((origin, why))) => fitting.push((link, origin, why)),
            (Ok(_), None) => {}
        }
    }
    if fitting.len() > 1 {
        let matches = fitting.into_iter().map(|(_, origin, why)| (origin, why)).collect();
        return Err(ChoiceError::Ambiguous { matches });
    }
    let Some((link, origin, why)) = fitting.pop() else { return Ok(None) };
    notes.push(format!("profile {} ({origin}): {why}", link.name));
    Ok(Some((link, why)))
}

/// What is said of a profile that could not be looked at.
fn left_out(error: &ProfileError) -> String {
    format!("{}; this profile was left out", first_of(error))
}

/// What is wrong with a file, in one line.
fn first_of(error: &ProfileError) -> String {
    match error {
        ProfileError::Problems { source_text, problems } => {
            let first = problems.first().map(|problem| render::line(source_text, problem));
            first.unwrap_or_default()
        }
        error => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// Reads a profile.
fn read(name: &str, at: At) -> Result<Link, ProfileError> {
    let name = name.to_owned();
    let (document, source, id): (Document, source::Source, PathBuf) = match &at {
        At::File(path) => {
            let (document, source) = source::load(path)?;
            (document, source, path.canonicalize().unwrap_or_else(|_| path.clone()))
        }
        At::BuiltIn(profile) => {
            let source = BuiltIn::source(profile);
            (source::parse(&source)?, source, PathBuf::from(profile.name))
        }
    };
    Ok(Link { name, at, file: source.name, text: source.text, document, id })
}
