//! From a tree to a document, and everything that is wrong with it. Pure.
//!
//! - H1: nothing is passed over: a key that is not known, or stands twice, is a problem.
//! - H2: a document comes out whatever is wrong, without the values that are.
//! - H3: no value of a secret gets into a message.
//! - H4: the value of a variable whose name is a secret's is a warning. A profile is copied and
//!   committed, so it does not belong there; but a name alone proves nothing, and a launch is not
//!   refused for a guess. `nvlaunch profile lint` refuses it.

mod env;
mod matching;
mod suggest;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::document::Document;
use super::keys::{self, Key as KeySpec, Kind};
use super::layer::Placed;
use super::node::{Key, Node, Value};
use super::problem::Problem;
use crate::diagnose::class::{Class, Remedy};
use crate::preflight::finding::Severity;
use crate::preflight::{catalogue, explain};
use crate::settings::Origin;
use crate::settings::values::{nearest, one_of};

/// The version of the format that this program reads.
pub const VERSION: &str = "1";

/// What a finding can be.
const SEVERITIES: &[&str] = &["note", "warning", "error"];

/// What can follow from a class of failures.
const POLICIES: &[&str] = &["never", "same-again", "retry", "retry-elsewhere"];

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
                let problem = format!("{what} is a map, and {} stands here", node.kind());
                self.say(
                    Problem::new(node.span, problem).hint("write `key: value` lines below it"),
                );
            }
            return Vec::new();
        };
        let mut seen = BTreeMap::new();
        let mut once = Vec::new();
        for (key, value) in entries {
            if key.text == "<<" {
                let problem = Problem::new(key.span, "maps are not merged with `<<`");
                self.say(problem.hint("`extends: NAME` builds on another profile"));
            } else if let Some(first) = seen.get(&key.text) {
                let problem = Problem::new(key.span, format!("`{}` stands twice", key.text));
                self.say(problem.also(*first, "first here").hint("keep one of the two"));
            } else {
                seen.insert(&key.text, key.span);
                once.push((key, value));
            }
        }
        once
    }

    fn root(&mut self, root: &Node) {
        let entries = self.map(root, "a profile");
        if entries.is_empty() && !(root.is_null() || matches!(root.value, Value::Map(_))) {
            return;
        }
        match entries.iter().position(|(key, _)| key.text == "version") {
            None => {
                let problem = Problem::new(root.span, "the version of the format is missing");
                self.say(problem.hint(format!("begin the file with `version: {VERSION}`")));
            }
            Some(at) => {
                let (key, version) = entries[at];
                // What another version means by its keys is not known.
                if !self.version(version) {
                    return;
                }
                if at > 0 {
                    let problem = Problem::new(key.span, "`version` is not the first key");
                    self.say(problem.hint(format!("begin the file with `version: {VERSION}`")));
                }
            }
        }
        for (key, node) in entries {
            match key.text.as_str() {
                "version" => {}
                "description" => {
                    self.document.description = self.scalar(node, "description");
                }
                "extends" => self.extends(node),
                "match" => self.matching(node),
                "env" => self.env(node),
                name if suggest::is_section(name) => self.section(name, node),
                // A path with a dot is no key: `geometry.nproc` is written as two lines.
                name => match keys::ALL.iter().find(|key| key.parts() == (None, name)) {
                    Some(known) => self.value(known, node),
                    None => self.unknown_at_top(key, node),
                },
            }
        }
    }

    /// Whether it is the version that this program reads.
    fn version(&mut self, node: &Node) -> bool {
        let hint = format!("this nvlaunch reads version {VERSION}");
        if node.is_null() {
            self.say(Problem::new(node.span, "version has no value").hint(hint));
            return false;
        }
        let Some(version) = self.scalar(node, "version") else { return false };
        if version != VERSION {
            let problem = Problem::new(node.span, format!("version `{version}` is not known"));
            self.say(problem.hint(hint));
        }
        version == VERSION
    }

    fn section(&mut self, section: &str, node: &Node) {
        for (key, value) in self.map(node, &format!("`{section}`")) {
            let path = format!("{section}.{}", key.text);
            match path.as_str() {
                "preflight.severity" => {
                    self.severity(value);
                    continue;
                }
                "restart.policy" => {
                    self.policy(value);
                    continue;
                }
                _ => {}
            }
            match keys::ALL.iter().find(|known| known.path == path) {
                Some(known) => self.value(known, value),
                None => self.unknown(key, section),
            }
        }
    }

    fn value(&mut self, key: &'static KeySpec, node: &Node) {
        let text = match (&key.kind, &node.value) {
            (Kind::List(_), Value::List(entries)) if entries.is_empty() => {
                let problem = Problem::new(node.span, format!("{} is an empty list", key.path));
                self.say(problem.hint("leave the line out for the default"));
                return;
            }
            (Kind::List(_), Value::List(entries)) => {
                let texts = entries.iter().map(|entry| self.checked(key, entry));
                // Every entry is looked at.
                let texts: Vec<Option<String>> = texts.collect();
                let Some(texts) = texts.into_iter().collect::<Option<Vec<_>>>() else { return };
                texts.join(",")
            }
            _ => match self.checked(key, node) {
                Some(text) => text,
                None => return,
            },
        };
        let placed = self.placed(node, text);
        self.document.values.texts.insert(key.path, placed);
    }

    /// The text of a single value that is right.
    fn checked(&mut self, key: &'static KeySpec, node: &Node) -> Option<String> {
        let text = self.scalar(node, key.path)?;
        match key.check(&text) {
            Ok(()) => Some(text),
            Err(problem) => {
                let what = format!("{}: {}", key.path, problem.what);
                let hint = problem.hint;
                self.say(Problem { hint, ..Problem::new(node.span, what) });
                None
            }
        }
    }

    /// The text of a single value.
    fn scalar(&mut self, node: &Node, what: &str) -> Option<String> {
        let problem = match &node.value {
            _ if node.is_null() => {
                let problem = Problem::new(node.span, format!("{what} has no value"));
                problem.hint("leave the line out for the default")
            }
            // No option, path or variable can hold one.
            Value::Scalar { text, .. } if text.contains('\0') => {
                Problem::new(node.span, format!("{what} holds a NUL character"))
            }
            Value::Scalar { text, .. } => return Some(text.clone()),
            _ => {
                let what = format!("{what} is a single value, and {} stands here", node.kind());
                Problem::new(node.span, what)
            }
        };
        self.say(problem);
        None
    }

    fn severity(&mut self, node: &Node) {
        for (key, value) in self.map(node, "preflight.severity") {
            let Some(finding) = catalogue::find(&key.text) else {
                let what = format!("no finding is called `{}`", key.text);
                // One number is as like a wrong one as any other.
                let is_number = key.text.bytes().any(|byte| byte.is_ascii_digit());
                let near = explain::suggest(&key.text).filter(|_| !is_number);
                let hint = match explain::resolve(&key.text).or(near) {
                    Some(near) => format!("did you mean `{}` ({})?", near.code, near.name),
                    None => "`nvlaunch explain --list` lists the codes".to_owned(),
                };
                self.say(Problem::new(key.span, what).hint(hint));
                continue;
            };
            let Some(text) = self.scalar(value, &key.text) else { continue };
            let severity = match text.as_str() {
                "note" => Severity::Note,
                "warning" => Severity::Warning,
                "error" => Severity::Error,
                _ => {
                    let problem = Problem::new(value.span, format!("`{text}` is no severity"));
                    let hint = one_of(&text, SEVERITIES).err().and_then(|problem| problem.hint);
                    self.say(Problem { hint, ..problem });
                    continue;
                }
            };
            let placed = self.placed(value, severity);
            self.document.values.severity.insert(finding.code.clone(), placed);
        }
    }

    fn policy(&mut self, node: &Node) {
        for (key, value) in self.map(node, "restart.policy") {
            let Some(class) = Class::from_name(&key.text) else {
                let names = || Class::ALL.into_iter().map(Class::name);
                let typed = key.text.to_lowercase().replace('_', "-");
                let hint = match nearest(&typed, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
                };
                let what = format!("no class of failures is called `{}`", key.text);
                self.say(Problem::new(key.span, what).hint(hint));
                continue;
            };
            let Some(text) = self.scalar(value, &key.text) else { continue };
            let Some(remedy) = Remedy::from_name(&text) else {
                let problem = Problem::new(value.span, format!("`{text}` is no policy"));
                let hint = one_of(&text, POLICIES).err().and_then(|problem| problem.hint);
                self.say(Problem { hint, ..problem });
                continue;
            };
            let placed = self.placed(value, remedy);
            self.document.values.remedies.insert(class, placed);
        }
    }

    fn extends(&mut self, node: &Node) {
        let Some(name) = self.scalar(node, "extends") else { return };
        let is_itself = Path::new(&**self.file).file_name().is_some_and(|own| {
            let named = name.strip_prefix("./").unwrap_or(&name);
            !named.is_empty() && own == named
        });
        if name.trim().is_empty() {
            let problem = Problem::new(node.span, "extends names nothing");
            self.say(problem.hint("give the name or the file of a profile"));
        } else if is_itself {
            let problem = Problem::new(node.span, "the profile extends itself");
            self.say(problem.hint("leave `extends` out, or name another profile"));
        } else {
            self.document.extends = Some(self.placed(node, name));
        }
    }

    fn unknown(&mut self, key: &Key, section: &str) {
        let what = format!("unknown key `{}` in `{section}`", key.text);
        self.say(Problem::new(key.span, what).hint(suggest::hint(&key.text, Some(section))));
    }

    fn unknown_at_top(&mut self, key: &Key, node: &Node) {
        let problem = Problem::new(key.span, format!("unknown key `{}`", key.text));
        let meant = match &node.value {
            Value::Map(entries) => {
                let names = entries.iter().map(|(key, _)| key.text.as_str());
                suggest::section(&key.text, &names)
            }
            _ => None,
        };
        let Some(section) = meant else {
            return self.say(problem.hint(suggest::hint(&key.text, None)));
        };
        self.say(problem.hint(format!("did you mean `{section}`?")));
        // What stands below it is looked at all the same (H1).
        match section {
            "env" => self.env(node),
            section => self.section(section, node),
        }
    }
}
