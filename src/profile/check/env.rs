//! `env`: variables for the ranks.

use super::Check;
use crate::diagnose::secrets::is_secret;
use crate::env_vars;
use crate::plan::caller_env_to_remove;
use crate::profile::keys;
use crate::profile::layer::Variable;
use crate::profile::node::{Key, Node, Value};
use crate::profile::problem::Problem;
use crate::settings::values::nearest;

/// Variables of the contract that follow from a key.
const FOLLOW: &[(&str, &keys::Key)] = &[
    (env_vars::WORLD_SIZE, &keys::NPROC),
    (env_vars::LOCAL_WORLD_SIZE, &keys::NPROC),
    (env_vars::ROLE_NAME, &keys::ROLE),
    (env_vars::MASTER_ADDR, &keys::MASTER_ADDR),
    (env_vars::MASTER_PORT, &keys::MASTER_PORT),
    (env_vars::MAX_RESTARTS, &keys::MAX_RESTARTS),
    (env_vars::TORCH_RUN_ID, &keys::RUN_ID),
    (env_vars::RUN_ID, &keys::RUN_ID),
    (env_vars::RUN_DIR, &keys::LOG_DIR),
    (env_vars::SIGNALS_TO_HANDLE, &keys::SIGNALS_TO_HANDLE),
    (env_vars::USE_AGENT_STORE, &keys::STORE),
    (env_vars::BACKEND, &keys::BACKEND),
];

impl Check<'_> {
    pub(super) fn env(&mut self, node: &Node) {
        for (key, value) in self.map(node, "`env`") {
            let name = &key.text;
            if caller_env_to_remove().contains(&name.as_str()) {
                let problem = Problem::new(key.span, format!("nvlaunch sets {name} itself"));
                let follows = FOLLOW.iter().find(|(variable, _)| variable == name);
                self.say(problem.hint(match follows {
                    Some((_, of)) => format!("it follows from `{}`", of.path),
                    None => "leave it out".to_owned(),
                }));
                continue;
            }
            // The ranks would have it, and nvlaunch would not (F1).
            if name.starts_with("PET_") || name.starts_with("NVLAUNCH_") {
                let what = format!("nvlaunch reads {name} where it starts, not from a profile");
                let option = name.split_once('_').map_or("", |(_, option)| option);
                let option = format!("--{}", option.to_lowercase().replace('_', "-"));
                let known = keys::ALL.iter().find(|key| key.option == Some(&*option));
                let problem = Problem::new(key.span, what);
                self.say(problem.hint(match known {
                    Some(known) => format!("the same is said by `{}`", known.path),
                    None => "leave it out".to_owned(),
                }));
                continue;
            }
            if !self.is_name(key) {
                continue;
            }
            let Some(variable) = self.variable(key, value) else { continue };
            self.warn_of_secret(key, &variable);
            let placed = self.placed(value, variable);
            self.document.values.env.insert(name.clone(), placed);
        }
    }

    /// Whether a variable can have that name.
    pub(super) fn is_name(&mut self, key: &Key) -> bool {
        let name = &key.text;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        let is_name = name.chars().all(fits) && !name.is_empty();
        if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
            let problem = Problem::new(key.span, format!("`{name}` is no name of a variable"));
            self.say(problem.hint("a name has letters, digits and `_`, and begins with no digit"));
            return false;
        }
        true
    }

    fn variable(&mut self, name: &Key, node: &Node) -> Option<Variable> {
        if node.is_null() {
            let problem = Problem::new(name.span, format!("{} has no value", name.text));
            self.say(problem.hint("write `\"\"` for an empty text, or `{unset: true}`"));
            return None;
        }
        if !matches!(node.value, Value::Map(_)) {
            let value = self.scalar(node, &name.text)?;
            return Some(Variable { value: Some(value), why: None });
        }
        let mut variable = Variable::default();
        let (mut has_value, mut has_unset, mut is_wrong) = (false, false, false);
        for (key, value) in self.map(node, &name.text) {
            match key.text.as_str() {
                "value" => {
                    has_value = true;
                    variable.value = self.scalar(value, &format!("the value of {}", name.text));
                    is_wrong |= variable.value.is_none();
                }
                "why" => {
                    variable.why = self.scalar(value, &format!("the reason of {}", name.text));
                    is_wrong |= variable.why.is_none();
                }
                "unset" => {
                    has_unset = true;
                    is_wrong |= !self.is_true(value);
                }
                other => {
                    is_wrong = true;
                    let known = ["value", "why", "unset"];
                    let problem = Problem::new(key.span, format!("unknown key `{other}`"));
                    self.say(problem.hint(match nearest(other, known.into_iter()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "a variable has value and why, or unset: true".to_owned(),
                    }));
                }
            }
        }
        let said = match (has_value, has_unset) {
            (true, true) => "both a value and `unset`",
            // A key that is mistyped may have been the value.
            (false, false) if is_wrong => return None,
            (false, false) if variable.why.is_some() => "a reason and no value",
            (false, false) => "neither value nor `unset`",
            _ if is_wrong => return None,
            _ => return Some(variable),
        };
        let problem = Problem::new(name.span, format!("{} has {said}", name.text));
        self.say(problem.hint("give it a value, or `unset: true`"));
        None
    }

    fn is_true(&mut self, node: &Node) -> bool {
        let Some(text) = self.scalar(node, "unset") else { return false };
        if text != "true" {
            let problem = Problem::new(node.span, format!("unset is `true`, not `{text}`"));
            self.say(problem.hint("write `unset: true`, or leave the variable out"));
        }
        text == "true"
    }

    /// H4. A file that holds the secret may be named.
    fn warn_of_secret(&mut self, name: &Key, variable: &Variable) {
        let value = variable.value.as_deref().unwrap_or_default();
        let is_path = value.starts_with(['/', '~', '.']);
        if !is_secret(&name.text) || value.is_empty() || is_path {
            return;
        }
        let what = format!("{} looks like a secret, and many can read a profile", name.text);
        let hint = "set it where nvlaunch starts: what is set there reaches the ranks";
        self.say(Problem::new(name.span, what).hint(hint).warning());
    }
}
