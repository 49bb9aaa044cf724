//! What `nvlaunch plan` says to people: a [`PlanDocument`] in 80 columns. Pure.
//!
//! - T1: what is asked first stands first; the longest part, torchrun's contract, stands last.
//! - T2: a command line and the value of a variable are never cut: they are there to be copied.
//! - T3: the same document gives the same text.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{
    Action, ByRank, PlanDocument, PlannedCheckpoint, PlannedCompat, PlannedRank, PlannedVariable,
};
use super::environment::{CONTRACT, DEFAULT, KEPT};
use super::variable::Layer;
use crate::compat::Way;
use crate::layout::{WIDTH, hang, plain};
use crate::preflight::Verdict;
use crate::preflight::finding::Severity;
use crate::report::text::counted;

/// The column of the values in the table at the top.
const VALUES: usize = 14;
/// The column where the reason of a variable stands, if its value leaves room.
const REASONS: usize = 40;

/// The whole plan.
pub fn render(plan: &PlanDocument) -> String {
    let mut text = String::new();
    push(&mut text, hang("plan: ", "  ", &headline(plan)));
    text.push('\n');
    for (name, value) in table(plan) {
        push(&mut text, hang(&format!("  {name:<12}"), &" ".repeat(VALUES), &plain(&value)));
    }
    section(&mut text, "findings", findings(plan));
    section(&mut text, "ranks", ranks(plan));
    section(
        &mut text,
        "what is changed in the ranks for scripts that insist on CUDA",
        changes(plan),
    );
    section(&mut text, "settings that are not the defaults", settings(plan));
    let notes = plan.notes.iter().flat_map(|note| hang("  ", "    ", &plain(note)));
    section(&mut text, "notes", notes.collect());
    for (layer, heading) in [
        (Layer::Caller, "variables of your environment that matter to the ranks, kept"),
        (Layer::Profile, "variables that the profile sets"),
        (Layer::Preflight, "variables that preflight sets"),
        (Layer::Default, "variables that are set where nobody says anything"),
        (Layer::Contract, "variables of torchrun's contract, and nvlaunch's own"),
    ] {
        section(&mut text, heading, variables(plan, layer));
    }
    text
}

fn push(text: &mut String, lines: Vec<String>) {
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn section(text: &mut String, heading: &str, lines: Vec<String>) {
    if !lines.is_empty() {
        text.push('\n');
        text.push_str(heading);
        text.push('\n');
        push(text, lines);
    }
}

fn headline(plan: &PlanDocument) -> String {
    let ranks = counted(plan.ranks.len() as u64, "rank", "ranks");
    let verdict = plan.preflight.as_ref().map(|seen| seen.verdict);
    match (plan.starts, verdict) {
        (false, _) => format!("{ranks}, and preflight would refuse to start them"),
        (true, Some(Verdict::Refused)) => {
            format!("{ranks}, started in spite of preflight because of --force")
        }
        (true, _) => format!("{ranks}, which a launch would start"),
    }
}

fn table(plan: &PlanDocument) -> Vec<(&'static str, String)> {
    let profile = plan.profile.as_ref().map_or_else(
        || "none".to_owned(),
        |profile| {
            let extends = if profile.extends.is_empty() {
                String::new()
            } else {
                format!("; it extends {}", profile.extends.join(", "))
            };
            format!("{} ({}), because of {}{extends}", profile.name, profile.file, profile.why)
        },
    );
    let mut rows = vec![("profile", profile), ("preflight", preflight(plan))];
    match &plan.backend {
        Some(backend) => {
            let origin = match &*backend.origin {
                "preflight" => String::new(),
                origin => format!(" ({origin})"),
            };
            rows.push(("backend", format!("{}: {}{origin}", backend.name, backend.reason)));
            let evidence = backend.evidence.iter();
            rows.extend(evidence.map(|seen| ("", format!("{}: {}", seen.source, seen.value))));
        }
        None => rows.push(("backend", "none is chosen: preflight is off".to_owned())),
    }
    if let Some(compat) = &plan.compat {
        rows.push(("compat", compat_row(compat)));
    }
    let meeting = &plan.rendezvous;
    let port = match meeting.port {
        Some(port) => format!("port {port}"),
        None => "a free port, another one for each attempt".to_owned(),
    };
    let store = if meeting.store == "nvlaunch" { "nvlaunch" } else { "rank 0" };
    rows.push(("address", format!("{}, {port}", meeting.address)));
    rows.push(("store", format!("served by {store}")));
    let run_id = plan.run_id.clone();
    rows.push(("run id", run_id.unwrap_or_else(|| "made up at the start".to_owned())));
    rows.push((
        "stdin",
        match plan.stdin_rank {
            Some(rank) => format!("read by rank {rank}"),
            None => "read by no rank".to_owned(),
        },
    ));
    rows.extend(plan.checkpoint.iter().flat_map(checkpoint));
    rows
}

fn checkpoint(checkpoint: &PlannedCheckpoint) -> Vec<(&'static str, String)> {
    let PlannedCheckpoint { dir, layout, pattern, resume_args, quarantine } = checkpoint;
    let layout = match (&**layout, pattern) {
        (_, Some(pattern)) => format!("files {pattern}"),
        ("auto", None) => "of any layout".to_owned(),
        (layout, None) => format!("of layout {layout}"),
    };
    let quarantine = if *quarantine { "; newer ones that are not are renamed aside" } else { "" };
    let mut rows = vec![("checkpoints", format!("in {dir}, {layout}"))];
    let words: Vec<String> = resume_args.iter().map(|word| shown_word(word)).collect();
    let told = match words.len() {
        0 => "NVLAUNCH_RESUME_FROM says which".to_owned(),
        _ => format!("the arguments end with {}", words.join(" ")),
    };
    rows.push(("", format!("ranks resume from the newest whole one{quarantine}; {told}")));
    rows
}

/// A word as a shell takes it, its places left readable.
fn shown_word(word: &str) -> String {
    let bare: String = word.chars().filter(|c| !"{}".contains(*c)).collect();
    if quoted(&bare) == bare { word.to_owned() } else { quoted(word) }
}

fn compat_row(compat: &PlannedCompat) -> String {
    let name = &compat.name;
    if !compat.on {
        return format!("off; --compat {name} would help: {}", compat.why);
    }
    let way = match compat.way {
        Some(Way::EntryPoint) => "by an entry point of torch.backends",
        Some(Way::Sitecustomize) | None => "by a module sitecustomize",
    };
    let why = compat.way_reason.as_deref().unwrap_or_default();
    format!("{name} ({}), {way}: {why}", compat.why)
}

/// What the compatibility layer changes, and what it does not.
fn changes(plan: &PlanDocument) -> Vec<String> {
    let Some(compat) = plan.compat.as_ref().filter(|compat| compat.on) else { return Vec::new() };
    let lines = compat
        .changes
        .iter()
        .flat_map(|change| hang("  ", "    ", &plain(&format!("{}: {}", change.what, change.why))));
    let end = "only where torch.cuda.is_available() is false; calls of .cuda() and .to(\"cuda\") are \
               not changed";
    lines.chain(hang("  ", "    ", end)).collect()
}

fn preflight(plan: &PlanDocument) -> String {
    let Some(seen) = &plan.preflight else { return "off: nothing is looked at".to_owned() };
    let verdict = match seen.verdict {
        Verdict::Ok => "ok",
        Verdict::Degraded => "degraded",
        Verdict::Refused => "refused",
    };
    let found = match seen.findings.len() as u64 {
        0 => "nothing found".to_owned(),
        count => counted(count, "finding", "findings"),
    };
    format!("{verdict}: {}, {found}", seen.vendor)
}

fn findings(plan: &PlanDocument) -> Vec<String> {
    let findings = plan.preflight.as_ref().map_or(&[][..], |seen| &seen.findings);
    let lines = findings.iter().flat_map(|finding| {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let cause = finding.consequence_of.as_ref();
        let follows = cause.map_or(String::new(), |cause| format!(" (follows from {cause})"));
        let summary = format!("{}{follows}", finding.summary);
        hang(&format!("  {} {severity}: ", finding.code), "    ", &plain(&summary))
    });
    lines.collect()
}

/// A table of places, and what runs there.
fn ranks(plan: &PlanDocument) -> Vec<String> {
    let mut lines = Vec::new();
    let is_placed = |rank: &PlannedRank| {
        rank.device.is_some() || rank.numa_node.is_some() || rank.cpus.is_some()
    };
    if plan.ranks.iter().any(is_placed) {
        let node = |rank: &PlannedRank| rank.numa_node.map(|node| node.to_string());
        let mut rows = vec![["rank", "device", "NUMA", "CPUs"].map(str::to_owned)];
        rows.extend(plan.ranks.iter().map(|rank| {
            let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let cpus = rank.cpus.clone().unwrap_or_else(|| "any".to_owned());
            [rank.rank.to_string(), or_none(device(rank)), or_none(node(rank)), cpus]
        }));
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths = [width(0), width(1), width(2)];
        lines.extend(rows.iter().map(|[rank, device, node, cpus]| {
            let [of_rank, of_device, of_node] = widths;
            format!("  {rank:>of_rank$}  {device:<of_device$}  {node:>of_node$}  {cpus}")
        }));
    } else {
        lines.push(match plan.ranks.len() {
            1 => "  rank 0, on any CPU that nvlaunch may use".to_owned(),
            count => format!("  0 to {}, on any CPU that nvlaunch may use", count - 1),
        });
    }
    // A rank without a device, and one whose device has no known place, are not alike.
    let mut reasons: BTreeMap<(bool, bool), BTreeSet<&String>> = BTreeMap::new();
    for rank in &plan.ranks {
        let what = (rank.device.is_some(), rank.numa_node.is_some());
        reasons.entry(what).or_default().extend(&rank.unplaced);
    }
    for alike in reasons.values() {
        let Some(reason) = alike.first() else { continue };
        let others = match alike.len() - 1 {
            0 => String::new(),
            count => format!(" ({count} more are alike; --json names them)"),
        };
        lines.extend(hang("  not known: ", "    ", &plain(&format!("{reason}{others}"))));
    }
    let first = plan.ranks.first().map(|rank| &rank.command);
    if plan.ranks.iter().all(|rank| Some(&rank.command) == first) {
        let runs = if plan.ranks.len() == 1 { "  it runs" } else { "  each runs" };
        lines.push(runs.to_owned());
        lines.extend(first.iter().flat_map(|command| command_lines(command)));
    } else {
        for rank in &plan.ranks {
            lines.push(format!("  rank {} runs", rank.rank));
            lines.extend(command_lines(&rank.command));
        }
    }
    lines
}

/// `cuda:0 0000:18:00.0`, and its number in the machine where that is another.
pub(super) fn device(rank: &PlannedRank) -> Option<String> {
    let device = rank.device.as_ref()?;
    let mut text = format!("{}:{}", device.vendor, device.index);
    if let Some(id) = device.pci.as_ref().or(device.id.as_ref()) {
        text = format!("{text} {id}");
    }
    if let Some(other) = device.machine_index.filter(|index| *index != device.index) {
        text = format!("{text}, number {other} of the machine");
    }
    Some(text)
}

/// The command as a shell takes it, over as many lines as it needs.
fn command_lines(words: &[String]) -> Vec<String> {
    let mut lines = vec!["    ".to_owned()];
    for (index, word) in words.iter().enumerate() {
        let word = quoted(word);
        let line = lines.last_mut().expect("there is always a line");
        // Room for ` \` stays.
        if index > 0 && line.chars().count() + word.chars().count() + 3 > WIDTH {
            line.push_str(" \\");
            lines.push(format!("      {word}"));
        } else {
            line.push_str(if index > 0 { " " } else { "" });
            line.push_str(&word);
        }
    }
    lines
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-*".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        return format!("$'{}'", word.escape_default());
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn settings(plan: &PlanDocument) -> Vec<String> {
    let given = plan.settings.iter().filter(|setting| !setting.is_default);
    let lines = given.flat_map(|setting| {
        let value = if setting.value.is_empty() { "''" } else { &setting.value };
        entry(&format!("{}: {value}", setting.key), &setting.origin)
    });
    lines.collect()
}

/// What is decided of the variables by one layer, what each rank has for itself first.
fn variables(plan: &PlanDocument, layer: Layer) -> Vec<String> {
    let of_ranks = plan.rank_variables.iter().filter(|variable| variable.layer == layer);
    let of_ranks = of_ranks.flat_map(|variable| {
        entry(&values(variable), &reason(&variable.reason, &variable.origin, layer))
    });
    let common = plan.variables.iter().filter(|variable| variable.layer == layer);
    let common = common.flat_map(|variable| {
        let why = match &variable.at_start {
            Some(words) => format!("{words}: {}", variable.reason),
            None => variable.reason.clone(),
        };
        entry(&assignment(variable), &reason(&why, &variable.origin, layer))
    });
    of_ranks.chain(common).collect()
}

fn assignment(variable: &PlannedVariable) -> String {
    let name = &variable.name;
    match (variable.action, &variable.value, &variable.at_start) {
        (Action::Remove, ..) => format!("{name} is not set"),
        (_, _, Some(_)) => format!("{name} (at the start)"),
        (_, Some(value), None) => format!("{name}={}", plain(value)),
        (_, None, None) => format!("{name} is not known"),
    }
}

/// `RANK=0 to 7`, or one value after the other.
pub(super) fn values(variable: &ByRank) -> String {
    let (name, count) = (&variable.name, variable.values.len());
    if count > 2 && counts_ranks(variable) {
        return format!("{name}=0 to {}", count - 1);
    }
    let all_are_first = variable.values.iter().all(|value| *value == variable.values[0]);
    let values: Vec<&str> =
        variable.values.iter().map(|value| value.as_deref().unwrap_or("(not set)")).collect();
    match (all_are_first, &values[..]) {
        (true, [first, ..]) => format!("{name}={first}"),
        _ => format!("{name}={}, by rank", values.join(", ")),
    }
}

/// Whether its value is the local rank's number.
pub(super) fn counts_ranks(variable: &ByRank) -> bool {
    let mut values = variable.values.iter().enumerate();
    values.all(|(index, value)| *value == Some(index.to_string()))
}

/// The reason, and the origin where the heading does not say it.
fn reason(reason: &str, origin: &str, layer: Layer) -> String {
    match layer {
        Layer::Caller if reason == KEPT => String::new(),
        Layer::Contract if origin != CONTRACT && origin != "nvlaunch" => {
            format!("{reason} ({origin})")
        }
        Layer::Profile => format!("{reason} ({origin})"),
        Layer::Default if origin != DEFAULT => format!("{reason} ({origin})"),
        _ => reason.to_owned(),
    }
}

/// One line where there is room, or what is said of it below it.
fn entry(what: &str, said: &str) -> Vec<String> {
    let start = format!("  {what}");
    if said.is_empty() {
        return vec![start];
    }
    let below = " ".repeat(6);
    if start.chars().count() + 2 > REASONS {
        let mut lines = hang("  ", &below, what);
        // A value keeps its spaces, however wide it is.
        if what.contains('=') {
            lines = vec![start];
        }
        lines.extend(hang(&below, &below, &plain(said)));
        return lines;
    }
    hang(&format!("{start:<REASONS$}"), &" ".repeat(REASONS), &plain(said))
}
