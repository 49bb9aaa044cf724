//! `nvlaunch profile …`: which profiles there are, and what is in them; and the files that a launch
//! follows.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

use super::{output, profile_init, profile_lint, profile_schema, run};
use crate::cli::{ListArgs, ProfileCommand, ShowArgs};
use crate::error::BoxError;
use crate::profile::layer::Files;
use crate::profile::load::{self, Around, ChoiceError};
use crate::profile::places::Places;
use crate::profile::{builtin, effective, listing, mask};
use crate::settings;
use crate::settings::env::Env;
use crate::{env_vars, exit_code, layout};

/// What the files say that a launch follows. `asked` and `sysroot` are what `--profile` and
/// `--sysroot` were given; `is_matched` says whether a profile may be chosen by this host.
pub(super) fn files(
    asked: Option<&OsStr>,
    sysroot: Option<&OsString>,
    env: &Env,
    is_matched: bool,
) -> Result<Files, ChoiceError> {
    let root = settings::sysroot(sysroot, env);
    load::load(asked, Around { root: &root, cwd: Path::new(""), env, is_matched })
}

/// Does what was asked for; the exit code.
pub(super) fn profile(command: &ProfileCommand, env: &Env) -> Result<u8, BoxError> {
    match command {
        ProfileCommand::List(args) => Ok(list(args, env)),
        ProfileCommand::Show(args) => show(args, env),
        ProfileCommand::Lint(args) => Ok(profile_lint::lint(args, env)),
        ProfileCommand::Schema => Ok(profile_schema::schema()),
        ProfileCommand::Init(args) => profile_init::init(args, env),
    }
}

fn list(args: &ListArgs, env: &Env) -> u8 {
    let root = settings::sysroot(args.sysroot.as_ref(), env);
    let around = Around { root: &root, cwd: Path::new(""), env, is_matched: true };
    let places = Places::new(&root, around.cwd, env);
    let (found, mut notes) = places.all();
    notes.extend(load::bad_config(&places));
    let candidates = load::candidates(found, around);
    let variable = env.get_nonempty(env_vars::PROFILE).map(OsStr::to_string_lossy);
    let printed = output::print(&listing::render(&candidates, variable.as_deref()));
    say(&notes);
    printed
}

fn show(args: &ShowArgs, env: &Env) -> Result<u8, BoxError> {
    let root = settings::sysroot(args.sysroot.as_ref(), env);
    let places = Places::new(&root, Path::new(""), env);
    let asked = args.profile.as_deref().unwrap_or_default();
    if asked == builtin::DEFAULT && !args.effective {
        return Ok(output::print(builtin::DEFAULTS.text));
    }
    let mut files = if args.effective { load::below(&places)? } else { Files::default() };
    let mut description = None;
    let mut chain = Vec::new();
    if asked != builtin::DEFAULT {
        let link = load::named(asked, "profile show", &places, Path::new(""))?;
        description.clone_from(&link.document.description);
        chain = load::whole(link, &places)?;
    }
    load::join(&mut files, &chain, String::new());
    say(&files.notes);
    if args.effective {
        return Ok(output::print(&effective::render(&files, description.as_deref())));
    }
    let Some(profile) = chain.first() else { return Ok(exit_code::OK) };
    let mut text = String::new();
    for (link, word) in chain.iter().zip(std::iter::once("").chain(std::iter::repeat("extends "))) {
        let _ = writeln!(text, "# {word}{}", layout::plain(&link.file));
    }
    text.push_str(&mask::without_secrets(&profile.text));
    Ok(output::print(&text))
}

fn say(notes: &[String]) {
    if !notes.is_empty() {
        output::eprint(&run::notes_text(notes));
    }
}
