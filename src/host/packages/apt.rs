//! What apt did (`/var/log/apt/history.log`) and what it does without being asked.

use std::path::Path;

use super::{
    Automatic, MAX_CHANGES, MAX_FILES, MAX_SETTINGS, changes, command_line, is_driver, short,
};
use crate::host::facts::{Note, PackageChange, Sourced};
use crate::host::{files, sysfs};

const CONF: &str = "/etc/apt/apt.conf.d";
const TIMER: &str = "/etc/systemd/system/apt-daily-upgrade.timer";

/// Changes of driver packages that apt made, oldest first.
pub fn history(root: &Path, notes: &mut Vec<Note>) -> Vec<PackageChange> {
    changes(root, "/var/log/apt", "history.log", notes, stanzas)
}

/// The changes of driver packages in `history.log`, which is made of stanzas of `Key: value` lines.
pub fn stanzas(text: &str, source: &str) -> Vec<PackageChange> {
    let mut changes = Vec::new();
    for stanza in text.split("\n\n").filter(|stanza| stanza.contains("Start-Date:")) {
        let field = |name: &str| {
            let mut lines = stanza.lines().filter_map(|line| line.strip_prefix(name));
            lines.find_map(|rest| Some(rest.strip_prefix(':')?.trim()))
        };
        // Two spaces stand between day and time.
        let at = field("Start-Date").unwrap_or_default();
        let at = at.split_whitespace().collect::<Vec<_>>().join(" ");
        let at = short(&at);
        let command = field("Commandline").map(command_line);
        // `alice (1000)`
        let by = field("Requested-By").and_then(|who| who.split_whitespace().next()).map(short);
        let kinds = [
            ("Install", "install"),
            ("Reinstall", "install"),
            ("Upgrade", "upgrade"),
            ("Downgrade", "downgrade"),
            ("Remove", "remove"),
            ("Purge", "remove"),
        ];
        for (name, action) in kinds {
            let list = field(name).into_iter().flat_map(packages);
            for (package, versions) in list.take(MAX_CHANGES) {
                let (from, to) = match (action, versions) {
                    ("install", [to, _]) => (None, to),
                    ("remove", [from, _]) => (from, None),
                    (_, [from, to]) => (from, to),
                };
                changes.push(PackageChange {
                    at: at.clone(),
                    action: action.to_owned(),
                    package: package.to_owned(),
                    from: from.map(str::to_owned),
                    to: to.map(str::to_owned),
                    command: command.clone(),
                    by: by.clone(),
                    source: source.to_owned(),
                });
            }
        }
    }
    changes
}

/// `pkg:arch (old, new), pkg:arch (new, automatic)`: the driver packages among them.
fn packages(list: &str) -> impl Iterator<Item = (&str, [Option<&str>; 2])> {
    list.split("), ").filter_map(|entry| {
        let (name, inner) = entry.split_once(" (")?;
        let name = name.split(':').next()?.trim();
        if !is_driver(name) {
            return None;
        }
        let inner = inner.strip_suffix(')').unwrap_or(inner);
        let mut versions =
            inner.split(", ").map(str::trim).filter(|v| !v.is_empty() && *v != "automatic");
        Some((name, [versions.next(), versions.next()]))
    })
}

/// Whether apt upgrades by itself, and what it leaves alone. Later files win, as for apt.
pub fn automatic(root: &Path, notes: &mut Vec<Note>) -> Automatic {
    let mut armed = None;
    let mut is_off = false;
    let mut spared = Vec::new();
    let listing = files::noted(files::list(root, CONF, 4096), notes).unwrap_or_default();
    for name in listing.names.iter().take(MAX_FILES) {
        // What a package manager or an editor left beside them is not read by apt either.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            continue;
        }
        let path = format!("{CONF}/{name}");
        let Some(text) = files::text(root, &path, MAX_SETTINGS, notes) else { continue };
        for (key, value) in settings(&text) {
            match key.to_ascii_lowercase().as_str() {
                "apt::periodic::unattended-upgrade" => {
                    armed = Some(Sourced::new(value != "0", path.clone()));
                }
                // The switch for all that apt does by itself.
                "apt::periodic::enable" => is_off = value == "0",
                "unattended-upgrade::package-blacklist" => spared.push(value),
                _ => {}
            }
        }
    }
    // A timer that an administrator masked never fires.
    let is_masked = sysfs::link_name(root, TIMER).as_deref() == Some("null");
    if let Some(armed) = &mut armed {
        armed.value &= !is_off && !is_masked;
    }
    (armed, spared)
}

/// Settings of one file that are kept, and bytes of a name.
const MAX_VALUES: usize = 4096;
const MAX_NAME: usize = 256;

/// The values of apt's settings: `A::B "x";` and lists `A::B { "x"; "y"; };` (apt.conf(5)), by the
/// full name of the key. Only what stands in quotes is a value.
pub fn settings(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // Names of the blocks that are open, and the words since the last `;`, `{` or `}`.
    let mut open: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next().filter(|_| found.len() < MAX_VALUES) {
        let is_comment = rest.starts_with("//") || (c == '#' && !rest.starts_with("#clear"));
        if is_comment {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        if let Some(inside) = rest.strip_prefix("/*") {
            rest = inside.split_once("*/").map_or("", |(_, after)| after);
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => {
                let (value, after) = rest.split_once('"').unwrap_or((rest, ""));
                let names = open.iter().map(String::as_str).chain([word.trim()]);
                let key = names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join("::");
                found.push((key.trim_end_matches(':').to_owned(), value.to_owned()));
                rest = after;
            }
            '{' => {
                open.push(std::mem::take(&mut word).trim().to_owned());
                // A file of braces is no file of settings.
                if open.len() > 16 {
                    return found;
                }
            }
            '}' => {
                open.pop();
                word.clear();
            }
            ';' => word.clear(),
            c if word.len() < MAX_NAME => word.push(c),
            _ => {}
        }
    }
    found
}
