//! What differs between two plans, in words. A pure function of two documents.
//!
//! - F1: what is said is what would make the ranks run otherwise, or what they would be told: a
//!   reason in other words is no difference, nor is another line of the same file, nor a note.
//! - F2: a secret that was changed is said to be changed; no value stands in the document.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::document::{
    Action, ByRank, PlanDocument, PlannedCompat, PlannedRank, PlannedVariable, SCHEMA, Seen,
    Setting,
};
use super::text::{self, counts_ranks, quoted};
use crate::compat::Way;
use crate::layout::{hang, plain};
use crate::preflight::Verdict;
use crate::preflight::finding::Severity;
use crate::report::text::counted;

/// What is compared, in the order in which it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Whether a launch starts.
    Start,
    /// The launch profile.
    Profile,
    /// A finding of preflight, or its verdict.
    Finding,
    /// The backend.
    Backend,
    /// What is changed in the ranks for scripts that insist on CUDA.
    Compat,
    /// Where the ranks meet, and what they are called.
    Meeting,
    /// How many ranks, what they run and where.
    Rank,
    /// A variable.
    Variable,
    /// A key.
    Setting,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs.
    pub part: Part,
    /// Its name: that of the variable, the key, the finding.
    pub name: String,
    /// How it was; `null` where it was not there.
    pub before: Option<String>,
    /// How it is; `null` where it is gone.
    pub now: Option<String>,
    /// The difference in words.
    pub words: String,
}

/// What `--diff` prints with `--json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: u32,
    same: bool,
    differences: &'a [Difference],
}

/// Everything in which `now` is not `before`.
pub fn differences(before: &PlanDocument, now: &PlanDocument) -> Vec<Difference> {
    let mut list = List::default();
    let starts =
        |plan: &PlanDocument| Some(if plan.starts { "started" } else { "refused" }.to_owned());
    list.compare(Part::Start, "launch", starts(before), starts(now));
    let profile = |plan: &PlanDocument| {
        let used = plan.profile.as_ref()?;
        Some(format!("{} ({})", used.name, used.file))
    };
    list.compare(Part::Profile, "profile", profile(before), profile(now));
    preflight(&mut list, before, now);
    let backend = |plan: &PlanDocument| {
        let backend = plan.backend.as_ref()?;
        Some(format!("{}, {} ({})", backend.name, backend.reason, backend.origin))
    };
    let name = |plan: &PlanDocument| plan.backend.as_ref().map(|backend| backend.name.clone());
    if name(before) != name(now) {
        list.compare(Part::Backend, "backend", backend(before), backend(now));
    }
    compat(&mut list, before, now);
    meeting(&mut list, before, now);
    ranks(&mut list, before, now);
    variables(&mut list, before, now);
    settings(&mut list, &before.settings, &now.settings);
    list.0
}

#[derive(Default)]
struct List(Vec<Difference>);

impl List {
    fn compare(&mut self, part: Part, name: &str, before: Option<String>, now: Option<String>) {
        let words = match (&before, &now) {
            _ if before == now => return,
            (Some(before), Some(now)) => format!("was {before}, is {now}"),
            (None, Some(now)) => format!("is new: {now}"),
            (Some(before), None) => format!("is gone: {before}"),
            (None, None) => return,
        };
        self.add(part, name, before, now, words);
    }

    fn add(
        &mut self,
        part: Part,
        name: &str,
        before: Option<String>,
        now: Option<String>,
        words: String,
    ) {
        self.0.push(Difference { part, name: name.to_owned(), before, now, words });
    }
}

fn preflight(list: &mut List, before: &PlanDocument, now: &PlanDocument) {
    let verdict = |plan: &PlanDocument| {
        let verdict = plan.preflight.as_ref().map(|seen| match seen.verdict {
            Verdict::Ok => "ok",
            Verdict::Degraded => "degraded",
            Verdict::Refused => "refused",
        });
        Some(verdict.unwrap_or("off").to_owned())
    };
    list.compare(Part::Finding, "preflight", verdict(before), verdict(now));
    let findings = |plan: &PlanDocument| -> Vec<Seen> {
        plan.preflight.as_ref().map(|seen| seen.findings.clone()).unwrap_or_default()
    };
    let (were, are) = (findings(before), findings(now));
    let codes: BTreeSet<_> = were.iter().chain(&are).map(|seen| seen.code.clone()).collect();
    for code in codes {
        let of = |findings: &[Seen]| {
            let seen = findings.iter().find(|seen| seen.code == code)?;
            let severity = match seen.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            Some(format!("{severity}: {}", seen.summary))
        };
        list.compare(Part::Finding, &code.0, of(&were), of(&are));
    }
}

/// An offer changes nothing in the ranks.
fn compat(list: &mut List, before: &PlanDocument, now: &PlanDocument) {
    let on = |plan: &PlanDocument| plan.compat.clone().filter(|compat| compat.on);
    let (before, now) = (on(before), on(now));
    let name = |compat: &Option<PlannedCompat>| {
        Some(compat.as_ref().map_or("off".to_owned(), |compat| compat.name.clone()))
    };
    list.compare(Part::Compat, "compat", name(&before), name(&now));
    let way = |compat: &Option<PlannedCompat>| {
        Some(match compat.as_ref()?.way? {
            Way::EntryPoint => "an entry point".to_owned(),
            Way::Sitecustomize => "sitecustomize".to_owned(),
        })
    };
    let (Some(was), Some(is)) = (&before, &now) else { return };
    list.compare(Part::Compat, "way of compat", way(&before), way(&now));
    let pieces: BTreeSet<_> = was.changes.iter().chain(&is.changes).map(|c| &c.piece).collect();
    for piece in pieces {
        let of = |compat: &PlannedCompat| {
            let change = compat.changes.iter().find(|change| change.piece == *piece)?;
            Some(change.what.clone())
        };
        list.compare(Part::Compat, &format!("{piece} of compat"), of(was), of(is));
    }
}

fn meeting(list: &mut List, before: &PlanDocument, now: &PlanDocument) {
    let address = |plan: &PlanDocument| {
        let port = plan.rendezvous.port.map_or("a free port".to_owned(), |port| port.to_string());
        Some(format!("{}, {port}", plan.rendezvous.address))
    };
    list.compare(Part::Meeting, "address", address(before), address(now));
    let store = |plan: &PlanDocument| Some(format!("served by {}", plan.rendezvous.store));
    list.compare(Part::Meeting, "store", store(before), store(now));
    let id = |plan: &PlanDocument| {
        Some(plan.run_id.clone().unwrap_or_else(|| "made up at the start".to_owned()))
    };
    list.compare(Part::Meeting, "run id", id(before), id(now));
    let stdin = |plan: &PlanDocument| {
        let rank = plan.stdin_rank;
        Some(rank.map_or("read by no rank".to_owned(), |rank| format!("read by rank {rank}")))
    };
    list.compare(Part::Meeting, "stdin", stdin(before), stdin(now));
}

/// A part of a rank, in words.
type Get = fn(&PlannedRank) -> Option<String>;

fn ranks(list: &mut List, before: &PlanDocument, now: &PlanDocument) {
    let count = |plan: &PlanDocument| Some(counted(plan.ranks.len() as u64, "rank", "ranks"));
    list.compare(Part::Rank, "ranks", count(before), count(now));
    let parts: [(&str, Get); 4] = [
        ("command", |rank| {
            Some(rank.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
        }),
        ("device", text::device),
        ("NUMA node", |rank| rank.numa_node.map(|node| node.to_string())),
        ("CPUs", |rank| Some(rank.cpus.clone().unwrap_or_else(|| "any".to_owned()))),
    ];
    for (name, get) in parts {
        let pairs = before.ranks.iter().zip(&now.ranks);
        let changes = pairs.map(|(before, now)| {
            let (was, is) = (get(before), get(now));
            let is_secret = was == is && name == "command" && before.hidden != now.hidden;
            (now.rank, was, is, is_secret)
        });
        let changes: Vec<_> =
            changes.filter(|(_, was, is, is_secret)| was != is || *is_secret).collect();
        // What changed alike in neighbours is said once.
        for run in changes.chunk_by(|a, b| a.0 + 1 == b.0 && (&a.1, &a.2) == (&b.1, &b.2)) {
            let (first, was, is, is_secret) = &run[0];
            let end = run[run.len() - 1].0;
            let who = match run.len() {
                count if count == now.ranks.len() && count > 1 => "every rank".to_owned(),
                1 => format!("rank {first}"),
                _ => format!("ranks {first} to {end}"),
            };
            let name = format!("{name} of {who}");
            if *is_secret {
                let words = "has changed in a word that is kept back".to_owned();
                list.add(Part::Rank, &name, was.clone(), is.clone(), words);
            } else {
                list.compare(Part::Rank, &name, was.clone(), is.clone());
            }
        }
    }
}

fn variables(list: &mut List, before: &PlanDocument, now: &PlanDocument) {
    let names = |plan: &PlanDocument| -> Vec<String> {
        let of_ranks = plan.rank_variables.iter().map(|variable| variable.name.clone());
        plan.variables.iter().map(|variable| variable.name.clone()).chain(of_ranks).collect()
    };
    let names: BTreeSet<String> = names(before).into_iter().chain(names(now)).collect();
    for name in names {
        let (was, is) = (Found::of(before, &name), Found::of(now, &name));
        let (before, now) = (was.words(), is.words());
        // What counts the ranks differs where their number does, which is said already.
        if let (Found::ByRank(was), Found::ByRank(is)) = (&was, &is)
            && counts_ranks(was)
            && counts_ranks(is)
        {
            continue;
        }
        if was.value() == is.value() && was.file() == is.file() && was.value().is_some() {
            if was.hidden() != is.hidden() {
                let words = format!("is a secret, and has changed ({})", is.origin());
                list.add(Part::Variable, &name, before, now, words);
            }
            continue;
        }
        list.compare(Part::Variable, &name, before, now);
    }
}

/// A variable of a plan, of all ranks or of each.
enum Found<'a> {
    Common(&'a PlannedVariable),
    ByRank(&'a ByRank),
    Nowhere,
}

impl<'a> Found<'a> {
    fn of(plan: &'a PlanDocument, name: &str) -> Self {
        let by_rank = plan.rank_variables.iter().find(|variable| variable.name == name);
        let common = plan.variables.iter().find(|variable| variable.name == name);
        match (by_rank, common) {
            (Some(found), _) => Self::ByRank(found),
            (None, Some(found)) => Self::Common(found),
            (None, None) => Self::Nowhere,
        }
    }

    fn value(&self) -> Option<String> {
        match self {
            Self::Common(found) => Some(match (found.action, &found.value, &found.at_start) {
                (Action::Remove, ..) => "not set".to_owned(),
                (_, _, Some(words)) => words.clone(),
                (_, Some(value), _) if value.is_empty() => "empty".to_owned(),
                (_, value, _) => value.clone().unwrap_or_default(),
            }),
            Self::ByRank(found) => {
                let values = text::values(found);
                Some(values.split_once('=').map_or(values.clone(), |(_, value)| value.to_owned()))
            }
            Self::Nowhere => None,
        }
    }

    fn origin(&self) -> &str {
        match self {
            Self::Common(found) => &found.origin,
            Self::ByRank(found) => &found.origin,
            Self::Nowhere => "",
        }
    }

    fn file(&self) -> &str {
        without_line(self.origin())
    }

    fn hidden(&self) -> Option<&String> {
        match self {
            Self::Common(found) => found.hidden.as_ref(),
            _ => None,
        }
    }

    fn words(&self) -> Option<String> {
        Some(format!("{} ({})", self.value()?, self.origin()))
    }
}

/// `site.yaml` of `site.yaml:12`: a line more above it changes nothing.
fn without_line(origin: &str) -> &str {
    match origin.rsplit_once(':') {
        Some((file, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => file,
        _ => origin,
    }
}

fn settings(list: &mut List, before: &[Setting], now: &[Setting]) {
    let keys: BTreeSet<&str> = before.iter().chain(now).map(|setting| &*setting.key).collect();
    for key in keys {
        let of = |settings: &[Setting]| settings.iter().find(|s| s.key == key).cloned();
        let (was, is) = (of(before), of(now));
        let compared = |setting: &Option<Setting>| {
            let setting = setting.as_ref()?;
            Some((setting.value.clone(), without_line(&setting.origin).to_owned()))
        };
        if compared(&was) == compared(&is) {
            continue;
        }
        let words = |setting: &Option<Setting>| {
            let Setting { value, origin, .. } = setting.as_ref()?;
            Some(format!("{} ({origin})", if value.is_empty() { "empty" } else { value }))
        };
        list.compare(Part::Setting, key, words(&was), words(&is));
    }
}

/// What people are told; `other` is the name of the file.
pub fn text(differences: &[Difference], other: &str) -> String {
    if differences.is_empty() {
        return format!("the plan is that of {other}\n");
    }
    let count = counted(differences.len() as u64, "difference", "differences");
    let mut text = format!("{count} from {other}\n");
    let mut last = None;
    for difference in differences {
        if last != Some(difference.part) {
            last = Some(difference.part);
            let _ = writeln!(text, "\n{}", heading(difference.part));
        }
        let first = format!("  {}: ", difference.name);
        for line in hang(&first, "      ", &plain(&difference.words)) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn heading(part: Part) -> &'static str {
    match part {
        Part::Start => "whether it starts",
        Part::Profile => "the profile",
        Part::Finding => "what preflight finds",
        Part::Compat => "what is changed for scripts that insist on CUDA",
        Part::Backend => "the backend",
        Part::Meeting => "where the ranks meet",
        Part::Rank => "the ranks",
        Part::Variable => "variables",
        Part::Setting => "settings",
    }
}

/// The same as JSON, with a line end.
pub fn json(differences: &[Difference]) -> String {
    let document = Document { schema: SCHEMA, same: differences.is_empty(), differences };
    let mut text = serde_json::to_string_pretty(&document).expect("plain values");
    text.push('\n');
    text
}
