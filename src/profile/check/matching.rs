//! `match`: where a profile is chosen by itself.

use super::Check;
use crate::host::vendors;
use crate::profile::document::Match;
use crate::profile::node::{Node, Value};
use crate::profile::problem::Problem;
use crate::settings::values::nearest;

impl Check<'_> {
    pub(super) fn matching(&mut self, node: &Node) {
        let mut found = Match::default();
        let entries = self.map(node, "`match`");
        let is_empty = node.is_null() || matches!(&node.value, Value::Map(map) if map.is_empty());
        if is_empty {
            let problem = Problem::new(node.span, "`match` has no condition");
            self.say(problem.hint("leave it out: the profile is then chosen by its name"));
        }
        for (key, value) in entries {
            match key.text.as_str() {
                "hostname" => found.hostname = self.patterns(value, "match.hostname"),
                "vendor" => found.vendor = self.vendors(value),
                "slurm-cluster" => {
                    found.slurm_cluster = self.patterns(value, "match.slurm-cluster");
                }
                "slurm-partition" => {
                    found.slurm_partition = self.patterns(value, "match.slurm-partition");
                }
                "env" => {
                    for (name, pattern) in self.map(value, "match.env") {
                        if !self.is_name(name) {
                            continue;
                        }
                        if let Some(pattern) = self.pattern(pattern, "match.env") {
                            found.env.insert(name.text.clone(), pattern);
                        }
                    }
                }
                _ => self.unknown(key, "match"),
            }
        }
        self.document.matching = Some(self.placed(node, found));
    }

    /// One pattern, or a list of them.
    fn patterns(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.value {
            Value::List(entries) if entries.is_empty() => {
                let problem = Problem::new(node.span, format!("{what} names nothing"));
                self.say(problem.hint("leave it out, or name something"));
                Vec::new()
            }
            Value::List(entries) => {
                entries.iter().filter_map(|entry| self.pattern(entry, what)).collect()
            }
            _ => self.pattern(node, what).into_iter().collect(),
        }
    }

    fn pattern(&mut self, node: &Node, what: &str) -> Option<String> {
        let pattern = self.scalar(node, what)?;
        // A variable that is set to nothing can be asked for; a host without a name cannot.
        if pattern.trim().is_empty() && what != "match.env" {
            let problem = Problem::new(node.span, format!("{what}: the pattern is empty"));
            self.say(problem.hint("`*` is anything"));
            return None;
        }
        // Shells read more than `*` and `?`; here it would match nothing, silently.
        let sign = pattern.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '^'));
        let Some(sign) = sign.filter(|_| what != "match.env") else { return Some(pattern) };
        let problem = format!("{what}: `{sign}` has no meaning in a pattern");
        let hint = "a pattern has `*` and `?`; several patterns are a list: [a*, b*]";
        self.say(Problem::new(node.span, problem).hint(hint));
        None
    }

    fn vendors(&mut self, node: &Node) -> Vec<String> {
        let patterns = self.patterns(node, "match.vendor");
        let entries = match &node.value {
            Value::List(entries) => entries.iter().collect(),
            _ => vec![node],
        };
        for entry in entries {
            let Value::Scalar { text, .. } = &entry.value else { continue };
            let is_judged = patterns.contains(text) && !text.contains(['*', '?']);
            let name = text.to_ascii_lowercase();
            if !is_judged || vendors::names().any(|known| known == name) {
                continue;
            }
            let makes = |vendor: &&vendors::Vendor| {
                vendor.title.to_ascii_lowercase().split(' ').any(|word| word == name)
            };
            let near = match vendors::ALL.iter().find(makes) {
                Some(vendor) => Some(vendor.name),
                None => nearest(&name, vendors::names()),
            };
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", vendors::names().collect::<Vec<_>>().join(", ")),
            };
            let problem = format!("match.vendor: no vendor is called `{text}`");
            self.say(Problem::new(entry.span, problem).hint(hint));
        }
        patterns
    }
}

#[cfg(test)]
mod tests {
    use crate::profile::check::suggest;
    use crate::profile::{check, node};

    #[test]
    fn every_condition_of_the_list_is_read() {
        for name in suggest::CONDITIONS {
            let text = format!("version: 1\nmatch:\n  {name}: {{A: b}}\n");
            let root = node::parse(&text).expect("it is YAML");
            let (_, problems) = check::check(&root, &text, &"a.yaml".into());
            assert!(!problems.iter().any(|problem| problem.what.contains("unknown")), "{name}");
        }
    }
}
