//! From a tree to a document, and everything that is wrong with it. Pure.
//!
//! - H1: nothing is passed over: a key that is not known, or stands twice, is a problem.
//! - H2: a document comes out whatever is wrong, without the values that are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::document::{Document, Match};
use super::keys::{self, Key as KeySpec, Kind};
use super::layer::{Placed, Variable};
use super::node::{Key, Node, Value};
use super::problem::Problem;
use crate::plan::caller_env_to_remove;
use crate::preflight::catalogue;
use crate::preflight::finding::Severity;
use crate::settings::Origin;
use crate::settings::values::nearest;

/// The version of the format that this program reads.
pub const VERSION: &str = "1";

/// Checks the tree of a file. `file` is what the origins of its values say.
pub fn check(root: &Node, text: &str, file: &Arc<str>) -> (Document, Vec<Problem>) {
    let mut check = Check { text, file, document: Document::default(), problems: Vec::new() };
    check.root(root);
    check.problems.sort();
    (check.document, check.problems)
}

struct Check<'a> {
    text: &'a str,
    file: &'a Arc<str>,
    document: Document,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn say(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn placed<T>(&self, node: &Node, value: T) -> Placed<T> {
        let line = node.span.line(self.text);
        Placed { value, origin: Origin::File { file: Arc::clone(self.file), line } }
    }

    /// The entries of a map, each once.
    fn map<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n Key, &'n Node)> {
        let Value::Map(entries) = &node.value else {
            if !node.is_null() {
                let what = format!("{what} is a map, and {} stands here", node.kind());
                self.say(Problem::new(node.span, what));
            }
            return Vec::new();
        };
        let mut seen = BTreeSet::new();
        let mut once = Vec::new();
        for (key, value) in entries {
            if seen.insert(&key.text) {
                once.push((key, value));
            } else {
                self.say(
                    Problem::new(key.span, format!("`{}` stands twice", key.text))
                        .hint("keep one of the two"),
                );
            }
        }
        once
    }

    fn root(&mut self, root: &Node) {
        let entries = self.map(root, "a profile");
        if let Some((_, version)) = entries.iter().find(|(key, _)| key.text == "version") {
            self.version(version);
        } else {
            let problem = Problem::new(root.span, "the version of the format is missing");
            self.say(problem.hint(format!("begin the file with `version: {VERSION}`")));
        }
        for (key, node) in entries {
            match key.text.as_str() {
                "version" => {}
                "description" => {
                    self.document.description = self.scalar(node, "description");
                }
                "extends" => {
                    let name = self.scalar(node, "extends");
                    self.document.extends = name.map(|name| self.placed(node, name));
                }
                "match" => self.matching(node),
                "env" => self.env(node),
                name if is_section(name) => self.section(name, node),
                name => match keys::ALL.iter().find(|known| known.path == name) {
                    Some(known) => self.value(known, node),
                    None => self.unknown(key, None),
                },
            }
        }
    }

    fn version(&mut self, node: &Node) {
        let Some(version) = self.scalar(node, "version") else { return };
        if version != VERSION {
            let problem = Problem::new(node.span, format!("version `{version}` is not known"));
            self.say(problem.hint(format!("this nvlaunch reads version {VERSION}")));
        }
    }

    fn section(&mut self, section: &str, node: &Node) {
        for (key, value) in self.map(node, &format!("`{section}`")) {
            let path = format!("{section}.{}", key.text);
            if path == "preflight.severity" {
                self.severity(value);
                continue;
            }
            match keys::ALL.iter().find(|known| known.path == path) {
                Some(known) => self.value(known, value),
                None => self.unknown(key, Some(section)),
            }
        }
    }

    fn value(&mut self, key: &'static KeySpec, node: &Node) {
        let text = match (&key.kind, &node.value) {
            (Kind::List(_), Value::List(entries)) => {
                let texts = entries.iter().map(|entry| self.scalar(entry, key.path));
                let Some(texts) = texts.collect::<Option<Vec<_>>>() else { return };
                texts.join(",")
            }
            _ => match self.scalar(node, key.path) {
                Some(text) => text,
                None => return,
            },
        };
        match key.check(&text) {
            Ok(()) => {
                let placed = self.placed(node, text);
                self.document.values.texts.insert(key.path, placed);
            }
            Err(problem) => {
                let what = format!("{}: {}", key.path, problem.what);
                let hint = problem.hint;
                self.say(Problem { hint, ..Problem::new(node.span, what) });
            }
        }
    }

    /// The text of a single value.
    fn scalar(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            _ if node.is_null() => {
                let problem = Problem::new(node.span, format!("{what} has no value"));
                self.say(problem.hint("leave the line out for the default"));
                None
            }
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => {
                let what = format!("{what} is a single value, and {} stands here", node.kind());
                self.say(Problem::new(node.span, what));
                None
            }
        }
    }

    fn env(&mut self, node: &Node) {
        for (key, value) in self.map(node, "`env`") {
            if caller_env_to_remove().contains(&key.text.as_str()) {
                let problem = Problem::new(key.span, format!("nvlaunch sets {} itself", key.text));
                self.say(problem.hint("leave it out"));
                continue;
            }
            let name = &key.text;
            if name.is_empty() || name.contains(['=', '\0']) {
                self.say(Problem::new(key.span, format!("`{name}` is no name of a variable")));
                continue;
            }
            let Some(variable) = self.variable(name, value) else { continue };
            let placed = self.placed(value, variable);
            self.document.values.env.insert(name.clone(), placed);
        }
    }

    fn variable(&mut self, name: &str, node: &Node) -> Option<Variable> {
        if !matches!(node.value, Value::Map(_)) {
            let value = self.scalar(node, name)?;
            return Some(Variable { value: Some(value), why: None });
        }
        let mut variable = Variable::default();
        let mut unset = false;
        for (key, value) in self.map(node, name) {
            match key.text.as_str() {
                "value" => variable.value = self.scalar(value, name),
                "why" => variable.why = self.scalar(value, "why"),
                "unset" => unset = self.scalar(value, "unset").as_deref() == Some("true"),
                other => {
                    let problem = Problem::new(key.span, format!("unknown key `{other}`"));
                    self.say(problem.hint("a variable has value and why, or unset: true"));
                }
            }
        }
        if variable.value.is_some() == unset {
            let problem = Problem::new(node.span, format!("{name} has neither value nor unset"));
            self.say(problem.hint("give it a value, or `unset: true`"));
            return None;
        }
        Some(variable)
    }

    fn severity(&mut self, node: &Node) {
        for (key, value) in self.map(node, "preflight.severity") {
            let Some(finding) = catalogue::find(&key.text) else {
                let known = catalogue::ALL.iter().map(|entry| &*entry.code.0);
                let problem =
                    Problem::new(key.span, format!("no finding is called `{}`", key.text));
                self.say(match nearest(&key.text, known) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint("`nvlaunch explain --list` names them all"),
                });
                continue;
            };
            let Some(text) = self.scalar(value, &key.text) else { continue };
            let severity = match text.as_str() {
                "note" => Severity::Note,
                "warning" => Severity::Warning,
                "error" => Severity::Error,
                _ => {
                    let problem = Problem::new(value.span, format!("`{text}` is no severity"));
                    self.say(problem.hint("there are note, warning and error"));
                    continue;
                }
            };
            let placed = self.placed(value, severity);
            self.document.values.severity.insert(finding.code.clone(), placed);
        }
    }

    fn matching(&mut self, node: &Node) {
        let mut found = Match::default();
        for (key, value) in self.map(node, "`match`") {
            match key.text.as_str() {
                "hostname" => found.hostname = self.patterns(value, "match.hostname"),
                "vendor" => found.vendor = self.patterns(value, "match.vendor"),
                "slurm-cluster" => {
                    found.slurm_cluster = self.patterns(value, "match.slurm-cluster");
                }
                "slurm-partition" => {
                    found.slurm_partition = self.patterns(value, "match.slurm-partition");
                }
                "env" => {
                    for (name, pattern) in self.map(value, "match.env") {
                        if let Some(pattern) = self.scalar(pattern, "match.env") {
                            found.env.insert(name.text.clone(), pattern);
                        }
                    }
                }
                _ => self.unknown(key, Some("match")),
            }
        }
        self.document.matching = Some(self.placed(node, found));
    }

    /// One pattern, or a list of them.
    fn patterns(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.value {
            Value::List(entries) => {
                entries.iter().filter_map(|entry| self.scalar(entry, what)).collect()
            }
            _ => self.scalar(node, what).into_iter().collect(),
        }
    }

    fn unknown(&mut self, key: &Key, section: Option<&str>) {
        let known: Vec<&'static str> = names_in(section);
        let place = section.map_or(String::new(), |section| format!(" in `{section}`"));
        let problem = Problem::new(key.span, format!("unknown key `{}`{place}", key.text));
        let synonym = keys::ALL.iter().find(|known| known.synonyms.contains(&key.text.as_str()));
        let hint = match (nearest(&key.text, known.iter().copied()), synonym) {
            (_, Some(known)) => format!("did you mean `{}`?", known.path),
            (Some(near), None) => format!("did you mean `{near}`?"),
            (None, None) => format!("there are {}", known.join(", ")),
        };
        self.say(problem.hint(hint));
    }
}

/// Whether keys stand below that name.
fn is_section(name: &str) -> bool {
    keys::ALL.iter().any(|key| key.parts().0 == Some(name))
}

/// The names that may stand in a section, or at the top.
fn names_in(section: Option<&str>) -> Vec<&'static str> {
    let of_match = ["hostname", "vendor", "slurm-cluster", "slurm-partition", "env"];
    let mut names: Vec<&'static str> = match section {
        Some("match") => of_match.into(),
        Some(section) => {
            let of_section = keys::ALL.iter().filter(|key| key.parts().0 == Some(section));
            of_section.map(|key| key.parts().1).collect()
        }
        None => {
            let top = keys::ALL.iter().map(|key| key.parts().0.unwrap_or(key.path));
            keys::HEADER.iter().copied().chain(top).chain(["env"]).collect()
        }
    };
    if section == Some("preflight") {
        names.push("severity");
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
}
