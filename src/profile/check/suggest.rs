//! What may have been meant by a key that is not known. Pure.

use std::collections::BTreeSet;

use crate::profile::keys::{self, Key};
use crate::settings::values::nearest;

/// The conditions of `match`.
pub(super) const CONDITIONS: &[&str] =
    &["hostname", "vendor", "slurm-cluster", "slurm-partition", "env"];

/// Whether keys stand below that name.
pub(super) fn is_section(name: &str) -> bool {
    keys::ALL.iter().any(|key| key.parts().0 == Some(name))
}

/// The next step for a key that is not known in a section, or at the top.
pub(super) fn hint(typed: &str, section: Option<&str>) -> String {
    let name = normal(typed);
    let here = names_in(section);
    if let Some(known) = here.iter().find(|known| **known == name) {
        return format!("did you mean `{known}`?");
    }
    // `geometry.nproc: 4`
    if let Some((section, known)) = name.split_once('.')
        && keys::ALL.iter().any(|key| key.path == name)
    {
        return format!("write `{known}` below `{section}`");
    }
    if let Some(key) = keys::ALL.iter().find(|key| is_called(key, typed, &name)) {
        return elsewhere(key, &name, section);
    }
    if let Some(near) = nearest(&name, here.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if section != Some("env") && is_like_a_variable(typed) {
        return format!("`{typed}` belongs in `env`");
    }
    if section.is_some() && names_in(None).contains(&&*name) {
        return format!("`{name}` is no part of a section: it begins its line");
    }
    let all = keys::ALL.iter().map(|key| key.parts().1);
    let near = nearest(&name, all).filter(|_| section != Some("match"));
    match near.and_then(|near| keys::ALL.iter().find(|key| key.parts().1 == near)) {
        Some(key) => elsewhere(key, &name, section),
        None => format!("there are {}", here.join(", ")),
    }
}

/// The section that a key at the top with these keys below it may have meant to be.
pub(super) fn section<'a>(
    typed: &str,
    below: &(impl Iterator<Item = &'a str> + Clone),
) -> Option<&'static str> {
    let known = sections();
    let name = normal(typed);
    nearest(&name, known.iter().copied()).or_else(|| {
        let holds = |section: &str| {
            let names = names_in(Some(section));
            below.clone().filter(|key| names.contains(&&*normal(key))).count()
        };
        let counted = known.iter().map(|section| (holds(section), *section));
        counted.filter(|(count, _)| *count > 0).max_by_key(|(count, _)| *count).map(|(_, s)| s)
    })
}

/// `--nproc_per_node` as `nproc-per-node`.
fn normal(typed: &str) -> String {
    typed.trim_start_matches('-').replace('_', "-").to_lowercase()
}

/// Whether a key, or the option that says the same, has that name in another place.
fn is_called(key: &Key, typed: &str, name: &str) -> bool {
    let is_option = key.option.is_some_and(|option| option.trim_start_matches('-') == name);
    is_option
        || key.parts().1 == name
        || key.synonyms.iter().any(|synonym| *synonym == typed || *synonym == name)
}

/// For a key that may have been meant and stands in another section, or has another name.
fn elsewhere(key: &Key, name: &str, section: Option<&str>) -> String {
    match key.parts() {
        (of, known) if of == section => format!("did you mean `{known}`?"),
        (Some(of), known) if known == name => format!("`{known}` belongs in `{of}`"),
        (Some(of), known) => format!("did you mean `{known}` in `{of}`?"),
        (None, known) => format!("`{known}` is no part of a section: it begins its line"),
    }
}

/// `NCCL_DEBUG`
fn is_like_a_variable(typed: &str) -> bool {
    typed.contains('_')
        && typed.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn sections() -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    let of_keys = keys::ALL.iter().filter_map(|key| key.parts().0);
    of_keys.chain(["env"]).filter(|section| seen.insert(*section)).collect()
}

/// The names that may stand in a section, or at the top.
pub(super) fn names_in(section: Option<&str>) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = match section {
        Some("match") => CONDITIONS.into(),
        Some(section) => {
            let of_section = keys::ALL.iter().filter(|key| key.parts().0 == Some(section));
            of_section.map(|key| key.parts().1).collect()
        }
        None => {
            let top = keys::ALL.iter().map(|key| key.parts().0.unwrap_or(key.path));
            keys::HEADER.iter().copied().chain(top).chain(["env"]).collect()
        }
    };
    let maps = keys::MAPS.iter().filter_map(|map| map.split_once('.'));
    names.extend(maps.filter(|(of, _)| section == Some(*of)).map(|(_, name)| name));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_meant() {
        for (typed, within, expected) in [
            ("nprc", Some("geometry"), "did you mean `nproc`?"),
            ("nproc_per_node", Some("geometry"), "did you mean `nproc`?"),
            ("--nproc-per-node", None, "did you mean `nproc` in `geometry`?"),
            ("nproc", None, "`nproc` belongs in `geometry`"),
            ("nproc", Some("logs"), "`nproc` belongs in `geometry`"),
            ("geometry.nproc", None, "write `nproc` below `geometry`"),
            ("max_restarts", Some("restart"), "did you mean `max`?"),
            ("Timeout", Some("shutdown"), "did you mean `timeout`?"),
            ("geometri", None, "did you mean `geometry`?"),
            ("NCCL_DEBUG", None, "`NCCL_DEBUG` belongs in `env`"),
            ("OMP_NUM_THREADS", None, "did you mean `omp-threads` in `binding`?"),
            ("backend", Some("geometry"), "`backend` is no part of a section: it begins its line"),
            ("extends", Some("geometry"), "`extends` is no part of a section: it begins its line"),
            ("zzz", Some("input"), "there are stdin"),
        ] {
            assert_eq!(hint(typed, within), expected, "{typed} in {within:?}");
        }
        let sections = [
            ("geometri", &["x"][..], Some("geometry")),
            ("ranks", &["nproc", "role"], Some("geometry")),
            ("zzz", &["zzz"], None),
        ];
        for (typed, below, expected) in sections {
            assert_eq!(section(typed, &below.iter().copied()), expected, "{typed}");
        }
    }
}
