//! What dnf, yum, zypper and pacman did, and what dnf does without being asked.
//!
//! The database of rpm is binary and locked by whoever writes it; the logs tell what changed.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Automatic, MAX_SETTINGS, changes, command_line, is_driver, short};
use crate::host::facts::{Note, PackageChange, Sourced};
use crate::host::files;

/// Changes of driver packages that dnf made, oldest first, with the command of each where
/// `dnf.log` has it.
pub fn dnf(root: &Path, notes: &mut Vec<Note>) -> Vec<PackageChange> {
    let mut found = changes(root, "/var/log", "dnf.rpm.log", notes, dnf_lines);
    if found.is_empty() {
        return found;
    }
    let log = files::noted(files::read_tail(root, "/var/log/dnf.log", super::MAX_LOG), notes);
    let commands = dnf_commands(&log.unwrap_or_default());
    for change in &mut found {
        let before = commands.partition_point(|(at, _)| *at <= change.at);
        change.command = before.checked_sub(1).map(|index| commands[index].1.clone());
    }
    found
}

/// Changes that yum made; its log has no years.
pub fn yum(root: &Path, notes: &mut Vec<Note>) -> Vec<PackageChange> {
    changes(root, "/var/log", "yum.log", notes, yum_lines)
}

/// Changes that zypper made.
pub fn zypper(root: &Path, notes: &mut Vec<Note>) -> Vec<PackageChange> {
    changes(root, "/var/log/zypp", "history", notes, zypper_lines)
}

/// Changes that pacman made.
pub fn pacman(root: &Path, notes: &mut Vec<Note>) -> Vec<PackageChange> {
    changes(root, "/var/log", "pacman.log", notes, pacman_lines)
}

fn change(at: String, action: &str, package: &str, source: &str) -> PackageChange {
    PackageChange {
        at,
        action: action.to_owned(),
        package: package.to_owned(),
        source: source.to_owned(),
        ..PackageChange::default()
    }
}

/// `nvidia-driver-3:580.95.05-1.el9.x86_64` is a name, an epoch, a version, a release and an
/// architecture.
fn nevra(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let (text, arch) = text.rsplit_once('.')?;
    if !matches!(arch, "x86_64" | "aarch64" | "noarch" | "i686" | "ppc64le" | "s390x") {
        return None;
    }
    let release = text.rfind('-')?;
    let version = text[..release].rfind('-')?;
    Some((&text[..version], &text[version + 1..]))
}

/// `2025-10-03T06:50:54+0000` as `2025-10-03 06:50:54`; `None` where it is no time.
fn time(stamp: &str) -> Option<String> {
    let stamp = stamp.get(..19)?;
    let (day, time) = (stamp.get(..10)?, stamp.get(11..)?);
    let is_time = day.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        && time.bytes().all(|b| b.is_ascii_digit() || b == b':');
    is_time.then(|| format!("{day} {time}"))
}

/// `<time> SUBDEBUG Upgrade: <new>`, and `SUBDEBUG Upgraded: <old>` when the old one is gone.
pub fn dnf_lines(text: &str, source: &str) -> Vec<PackageChange> {
    let mut changes: Vec<PackageChange> = Vec::new();
    // Which change waits to hear what it replaced.
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        let Some(at) = time(line) else { continue };
        let Some((before, package)) = line.split_once(": ") else { continue };
        let Some((name, version)) = nevra(package).filter(|(name, _)| is_driver(name)) else {
            continue;
        };
        let version = Some(version.to_owned());
        let word = before.split_whitespace().next_back().unwrap_or_default();
        match word {
            "Installed" => {
                changes.push(PackageChange { to: version, ..change(at, "install", name, source) });
            }
            "Upgrade" | "Downgrade" => {
                waiting.insert(name, changes.len());
                let action = word.to_lowercase();
                changes.push(PackageChange { to: version, ..change(at, &action, name, source) });
            }
            "Erase" => {
                changes.push(PackageChange { from: version, ..change(at, "remove", name, source) });
            }
            "Upgraded" | "Downgraded" => {
                if let Some(index) = waiting.remove(name) {
                    changes[index].from = version;
                }
            }
            _ => {}
        }
    }
    changes
}

/// The commands in `dnf.log` and when they were run: `<time> DDEBUG Command: dnf upgrade -y`.
fn dnf_commands(log: &str) -> Vec<(String, String)> {
    let commands = log.lines().filter_map(|line| {
        let (_, command) = line.split_once(" DDEBUG Command: ")?;
        Some((time(line)?, command_line(command.trim())))
    });
    let mut commands: Vec<_> = commands.collect();
    commands.sort();
    commands
}

/// `Oct 03 06:50:54 Updated: nvidia-driver-3:580.95.05-1.el7.x86_64`; of what was erased only the
/// name stands there. An epoch may stand before the name.
pub fn yum_lines(text: &str, source: &str) -> Vec<PackageChange> {
    let mut changes = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(month), Some(day), Some(time), Some(word), Some(package)) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let action = match word {
            "Installed:" => "install",
            "Updated:" => "upgrade",
            "Erased:" => "remove",
            _ => continue,
        };
        let package = match package.split_once(':') {
            Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => package,
        };
        let (name, to) = match nevra(package) {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (package, None),
        };
        if is_driver(name) {
            let at = format!("{month} {day} {time}");
            changes.push(PackageChange { to, ..change(at, action, name, source) });
        }
    }
    changes
}

/// `2025-10-03 06:50:54|install|<name>|<version>|<arch>|<who>|<repository>|<checksum>|`; an
/// upgrade is an install of what was there. `…|command|root@host|'zypper' 'up'|` comes before.
pub fn zypper_lines(text: &str, source: &str) -> Vec<PackageChange> {
    let mut changes: Vec<PackageChange> = Vec::new();
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    let mut command: Option<&str> = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [at, action, name, version, ..] = fields[..] else { continue };
        if action == "command" {
            command = Some(version);
            continue;
        }
        if !is_driver(name) {
            continue;
        }
        let command = command.map(|command| command_line(&command.replace('\'', "")));
        let change = |action: &str| PackageChange {
            command: command.clone(),
            ..change(short(at), action, name, source)
        };
        match action {
            "install" => {
                let from = known.insert(name, version).map(str::to_owned);
                let action = if from.is_some() { "upgrade" } else { "install" };
                changes.push(PackageChange {
                    from,
                    to: Some(version.to_owned()),
                    ..change(action)
                });
            }
            "remove" => {
                known.remove(name);
                changes.push(PackageChange { from: Some(version.to_owned()), ..change("remove") });
            }
            _ => {}
        }
    }
    changes
}

/// `[2025-10-03T06:50:54+0000] [ALPM] upgraded nvidia (580.82.09-1 -> 580.95.05-1)`, after
/// `[PACMAN] Running 'pacman -Syu'`.
pub fn pacman_lines(text: &str, source: &str) -> Vec<PackageChange> {
    let mut changes = Vec::new();
    let mut command: Option<&str> = None;
    for line in text.lines() {
        let Some((stamp, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] "))
        else {
            continue;
        };
        if let Some(run) = rest.strip_prefix("[PACMAN] Running ") {
            command = Some(run.trim_matches('\''));
            continue;
        }
        let Some(words) = rest.strip_prefix("[ALPM] ") else { continue };
        let mut words = words.splitn(3, ' ');
        let (Some(action), Some(name)) = (words.next(), words.next()) else { continue };
        let action = match action {
            "installed" | "reinstalled" => "install",
            "upgraded" => "upgrade",
            "downgraded" => "downgrade",
            "removed" => "remove",
            _ => continue,
        };
        if !is_driver(name) {
            continue;
        }
        let versions = words.next().unwrap_or_default();
        let versions = versions.trim_start_matches('(').trim_end_matches(')');
        let (from, to) = match versions.split_once(" -> ") {
            Some((from, to)) => (Some(from), Some(to)),
            None if action == "remove" => (Some(versions), None),
            None => (None, Some(versions)),
        };
        let own = |version: Option<&str>| version.filter(|v| !v.is_empty()).map(str::to_owned);
        changes.push(PackageChange {
            from: own(from),
            to: own(to),
            command: command.map(command_line),
            ..change(time(stamp).unwrap_or_else(|| short(stamp)), action, name, source)
        });
    }
    changes
}

/// Whether dnf upgrades by itself (dnf-automatic, whose timer has to be on), and what it leaves
/// alone: `exclude` of its settings, and the list of the plugin versionlock.
pub fn automatic(root: &Path, notes: &mut Vec<Note>) -> Automatic {
    const FILE: &str = "/etc/dnf/automatic.conf";
    let armed = files::text(root, FILE, MAX_SETTINGS, notes).map(|text| {
        let timers = "/etc/systemd/system/timers.target.wants";
        let timer = |name: &str| {
            let link = format!("{timers}/{name}.timer");
            files::link_metadata(root, link).is_ok()
        };
        let applies = value(&text, "apply_updates").is_some_and(|value| is_yes(&value));
        let runs = timer("dnf-automatic") || timer("dnf5-automatic");
        let is_armed = timer("dnf-automatic-install") || (applies && runs);
        Sourced::new(is_armed, FILE)
    });
    let mut spared = Vec::new();
    for file in ["/etc/dnf/dnf.conf", "/etc/yum.conf"] {
        let text = files::text(root, file, MAX_SETTINGS, notes).unwrap_or_default();
        for key in ["exclude", "excludepkgs"] {
            let list = value(&text, key).unwrap_or_default();
            let names = list.split([' ', ',']).filter(|name| !name.is_empty());
            spared.extend(names.map(str::to_owned));
        }
    }
    let locks = "/etc/dnf/plugins/versionlock.list";
    let locks = files::text(root, locks, MAX_SETTINGS, notes).unwrap_or_default();
    let locks = locks.lines().map(str::trim);
    let locks = locks.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    spared.extend(locks.map(str::to_owned));
    (armed, spared)
}

/// The last value of `key = value` lines.
fn value(text: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    let found = lines.rfind(|(name, _)| name.trim() == key)?;
    Some(found.1.trim().to_owned())
}

fn is_yes(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on")
}
