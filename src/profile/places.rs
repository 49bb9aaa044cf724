//! Where launch profiles are, and the files below them.
//!
//! A profile is looked up in `./launch-profiles`, in the user's configuration folder, in the
//! system's, and among those in the program; a name hides the same name in later places.
//!
//! - P1: the system's folder is that of the machine that is looked at: it follows the root that
//!   preflight was given, as the host's name and its devices do, so that a machine below another
//!   root is judged by its own files. The user's folder and the working directory are the caller's.
//! - P2: nothing is read but names. What cannot be listed leaves a note.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::builtin::{self, BuiltIn};
use crate::env_vars;
use crate::host::files;
use crate::settings::env::Env;
use crate::settings::values::nearest;

/// The folder of profiles, in each place.
const FOLDER: &str = "launch-profiles";
/// The word that stands for no profile at all.
pub const NONE: &str = "none";
/// What the files of profiles end in; the first wins where one name has both.
const ENDS: [&str; 2] = [".yaml", ".yml"];
/// Names of a folder that are looked at.
const MAX_NAMES: usize = 1_000;

/// Where profiles are looked up, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `./launch-profiles`
    Project,
    /// The user's configuration folder.
    User,
    /// The system's.
    System,
    /// The program itself.
    BuiltIn,
}

/// A profile's text: in a file, or in the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// In this file.
    File(PathBuf),
    /// In the program.
    BuiltIn(&'static BuiltIn),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::BuiltIn(_) => f.write_str("built-in"),
        }
    }
}

/// A profile that was found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// In which place.
    pub place: Place,
    /// Its text.
    pub at: At,
    /// What hides it: the same name before it.
    pub hidden_by: Option<At>,
}

/// No profile has that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The nearest name there is.
    pub nearest: Option<String>,
    /// The places that were looked in, in words.
    pub places: String,
}

/// The places of one caller on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    folders: Vec<(Place, PathBuf)>,
    configs: Vec<PathBuf>,
}

impl Places {
    /// Those below `root`, for a caller with `env` in the folder `cwd`, which is empty for the
    /// working directory: then its files are named as from there.
    pub fn new(root: &Path, cwd: &Path, env: &Env) -> Self {
        let system = root.join("etc/nvlaunch");
        let user = user_folder(env);
        let mut folders = vec![(Place::Project, cwd.join(FOLDER))];
        folders.extend(user.iter().map(|folder| (Place::User, folder.join(FOLDER))));
        folders.push((Place::System, system.join(FOLDER)));
        let configs = [Some(system), user].into_iter().flatten();
        Self { folders, configs: configs.map(|folder| folder.join("config.yaml")).collect() }
    }

    /// The configuration files that may be there, the system's first.
    pub fn configs(&self) -> &[PathBuf] {
        &self.configs
    }

    /// Every profile by place and name, hidden ones too, with a note for each folder that cannot
    /// be listed.
    pub fn all(&self) -> (Vec<Found>, Vec<String>) {
        let (mut all, notes) = self.files();
        for profile in builtin::ALL {
            let name = profile.name.to_owned();
            add(
                &mut all,
                Found { name, place: Place::BuiltIn, at: At::BuiltIn(profile), hidden_by: None },
            );
        }
        (all, notes)
    }

    /// The same without those in the program.
    pub fn files(&self) -> (Vec<Found>, Vec<String>) {
        let (mut all, mut notes) = (Vec::new(), Vec::new());
        for (place, folder) in &self.folders {
            let names = names(folder).unwrap_or_else(|error| {
                if !files::is_absence(&error) {
                    notes
                        .push(format!("cannot look for profiles in {}: {error}", folder.display()));
                }
                Vec::new()
            });
            for (name, file) in names {
                let at = At::File(folder.join(file));
                add(&mut all, Found { name, place: *place, at, hidden_by: None });
            }
        }
        (all, notes)
    }

    /// The profile of that name.
    pub fn find(&self, name: &str) -> Result<At, Unknown> {
        let fits = !is_reserved(name) && !name.is_empty() && !is_path(name);
        for (_, folder) in self.folders.iter().filter(|_| fits) {
            for end in ENDS {
                let file = folder.join(format!("{name}{end}"));
                // A folder or a pipe of that name is found too, and refused where it is read.
                if file.symlink_metadata().is_ok() {
                    return Ok(At::File(file));
                }
            }
        }
        if let Some(profile) = BuiltIn::find(name) {
            return Ok(At::BuiltIn(profile));
        }
        let (all, _) = self.all();
        let nearest = nearest(name, all.iter().map(|found| &*found.name)).map(str::to_owned);
        Err(Unknown { nearest, places: self.to_string() })
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, folder) in &self.folders {
            write!(f, "{}, ", folder.display())?;
        }
        f.write_str("and the program itself")
    }
}

/// Whether a word names a file, and not a profile to be looked up.
pub fn is_path(word: &str) -> bool {
    word.contains('/') || ENDS.iter().any(|end| word.ends_with(end))
}

/// Names that stand for something else than a file of that name.
fn is_reserved(name: &str) -> bool {
    matches!(name, NONE | builtin::DEFAULT)
}

fn add(all: &mut Vec<Found>, found: Found) {
    let hidden_by = all
        .iter()
        .find(|before| before.name == found.name && before.hidden_by.is_none())
        .map(|before| before.at.clone());
    all.push(Found { hidden_by, ..found });
}

/// The profiles of a folder, by name: the name and the file's. Backup files and those of editors do
/// not end as profiles do, or begin with a dot or a hash.
fn names(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let entries = std::fs::read_dir(folder)?.take(MAX_NAMES);
    let mut names: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let file = entry.ok()?.file_name().into_string().ok()?;
            let name = ENDS.iter().find_map(|end| file.strip_suffix(end))?;
            let is_profile =
                !name.is_empty() && !name.starts_with(['.', '#']) && !is_reserved(name);
            is_profile.then(|| (name.to_owned(), file.clone()))
        })
        .collect();
    // `a.yaml` before `a.yml`.
    names.sort();
    Ok(names)
}

/// Where the user's configuration is. A relative `XDG_CONFIG_HOME` counts for nothing (XDG Base
/// Directory Specification 0.8).
fn user_folder(env: &Env) -> Option<PathBuf> {
    let absolute = |name| env.get_nonempty(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute(env_vars::XDG_CONFIG_HOME)
        .or_else(|| absolute(env_vars::HOME).map(|home| home.join(".config")))?;
    Some(base.join("nvlaunch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with files, and its places for a user `/home` who works in `/work`.
    fn places(files: &[&str]) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "version: 1\n").expect("a file");
        }
        let env = [("HOME", root.path().join("home"))].into_iter().collect();
        let places = Places::new(root.path(), &root.path().join("job"), &env);
        (root, places)
    }

    #[test]
    fn a_name_is_taken_from_the_first_place_that_has_it() {
        let files = [
            "job/launch-profiles/a.yml",
            "home/.config/nvlaunch/launch-profiles/a.yaml",
            "home/.config/nvlaunch/launch-profiles/b.yaml",
            "home/.config/nvlaunch/launch-profiles/b.yml",
            "etc/nvlaunch/launch-profiles/b.yaml",
            "etc/nvlaunch/launch-profiles/c.yaml",
        ];
        let (root, places) = places(&files);
        for (name, file) in [("a", files[0]), ("b", files[2]), ("c", files[5])] {
            assert_eq!(places.find(name), Ok(At::File(root.path().join(file))), "{name}");
        }
        let (all, notes) = places.files();
        let shown: Vec<_> = all
            .iter()
            .map(|found| (&*found.name, found.place, found.hidden_by.is_some()))
            .collect();
        let expected = [
            ("a", Place::Project, false),
            ("a", Place::User, true),
            ("b", Place::User, false),
            ("b", Place::User, true),
            ("b", Place::System, true),
            ("c", Place::System, false),
        ];
        assert_eq!(shown, expected);
        assert_eq!(all[4].hidden_by, Some(At::File(root.path().join(files[2]))));
        assert_eq!(notes, [""; 0]);
    }

    #[test]
    fn other_files_are_no_profiles() {
        let folder = "job/launch-profiles";
        let others = [
            "schema.json",
            "default.yaml",
            "none.yaml",
            ".a.yaml",
            ".#a.yaml",
            "#a.yaml#",
            "#a.yaml",
            "a.yaml~",
            "a.yaml.bak",
            "a.yaml.swp",
            ".yaml",
            "README.md",
        ];
        let files = others.map(|name| format!("{folder}/{name}"));
        let (root, places) = places(&files.each_ref().map(String::as_str));
        assert_eq!(places.files(), (Vec::new(), Vec::new()));
        for name in ["default", "none", "", "schema", "../launch-profiles/default", ".a"] {
            let found = places.find(name);
            // A name with a dot before it is found by who asks for it, and listed for nobody.
            assert_eq!(found.is_ok(), name == ".a", "{name}");
        }
        let unknown = places.find("c").expect_err("there is none");
        let places = format!(
            "{0}/job/launch-profiles, {0}/home/.config/nvlaunch/launch-profiles, \
             {0}/etc/nvlaunch/launch-profiles, and the program itself",
            root.path().display()
        );
        assert_eq!(unknown, Unknown { nearest: None, places });
    }

    #[test]
    fn the_nearest_name_is_said() {
        let (_root, places) = places(&["etc/nvlaunch/launch-profiles/workstation.yaml"]);
        let unknown = places.find("workstaton").expect_err("there is none");
        assert_eq!(unknown.nearest.as_deref(), Some("workstation"));
    }

    #[test]
    fn what_cannot_be_listed_is_noted() {
        let (root, places) = places(&["etc/nvlaunch/launch-profiles/a.yaml"]);
        let own = root.path().join("job/launch-profiles");
        std::fs::create_dir_all(root.path().join("job")).expect("a folder");
        std::os::unix::fs::symlink(&own, &own).expect("a link to itself");
        let (all, notes) = places.files();
        assert_eq!(all.len(), 1);
        assert!(notes.len() == 1 && notes[0].contains("job/launch-profiles"), "{notes:?}");
    }

    #[test]
    fn where_the_users_files_are() {
        let root = Path::new("/r");
        for (env, expected) in [
            (&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")][..], Some("/x/nvlaunch/config.yaml")),
            (&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")], Some("/h/.config/nvlaunch/config.yaml")),
            (&[("HOME", "/h"), ("XDG_CONFIG_HOME", "")], Some("/h/.config/nvlaunch/config.yaml")),
            (&[("HOME", "")], None),
            (&[], None),
        ] {
            let places = Places::new(root, Path::new(""), &env.iter().copied().collect());
            let system = Path::new("/r/etc/nvlaunch/config.yaml");
            let expected: Vec<_> =
                [Some(system), expected.map(Path::new)].into_iter().flatten().collect();
            assert_eq!(places.configs(), expected, "{env:?}");
            assert!(places.to_string().starts_with("launch-profiles, "));
        }
    }

    #[test]
    fn what_names_a_file() {
        for (word, expected) in
            [("a", false), ("a.yaml", true), ("a.yml", true), ("./a", true), ("a.json", false)]
        {
            assert_eq!(is_path(word), expected, "{word}");
        }
    }
}
