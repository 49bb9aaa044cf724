//! The JSON Schema of a profile, for editors. Pure.
//!
//! It follows [`super::keys`], so that a new key is in it by itself. Its draft is 7, the newest that
//! the YAML language server of editors promises to read.
//!
//! - J1: what [`super::check`] accepts as people write it, the schema accepts, and what `check`
//!   refuses, the schema refuses as far as it can be said of single values.
//! - J2: bounds, words and patterns stand once, in [`super::form`].

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::check::VERSION;
use super::form::Form;
use super::keys::{self, Key, Kind};
use super::layer::Layer;
use super::texts;
use crate::diagnose::class::{Class, Remedy};
use crate::plan::caller_env_to_remove;
use crate::preflight::catalogue;
use crate::settings::defaults;

/// The schema as it stands in `launch-profiles/schema.json`.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema.
pub fn schema() -> Value {
    let defaults = defaults::layer().unwrap_or_default();
    let mut properties = Map::new();
    // What is written by hand may be a number as well as a text.
    let version = VERSION.parse::<u32>().expect("the version is a number");
    properties
        .insert("version".to_owned(), with_text("version", json!({"enum": [version, VERSION]})));
    properties.insert("description".to_owned(), with_text("description", scalar()));
    properties.insert("extends".to_owned(), with_text("extends", scalar()));
    properties.insert("match".to_owned(), matching());
    for key in keys::ALL {
        match key.parts() {
            (None, name) => {
                properties.insert(name.to_owned(), of_key(key, &defaults));
            }
            (Some(section), name) => {
                let section = properties
                    .entry(section)
                    .or_insert_with(|| with_text(section, section_of(&Map::new())));
                section["properties"][name] = of_key(key, &defaults);
            }
        }
    }
    properties.insert("env".to_owned(), with_text("env", env()));
    properties["preflight"]["properties"]["severity"] = with_text("preflight.severity", severity());
    properties["restart"]["properties"]["policy"] = with_text("restart.policy", policy());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "nvlaunch launch profile",
        "description": "What a site knows of its machines, for nvlaunch --profile.",
        "type": "object",
        "required": ["version"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn with_text(path: &str, mut schema: Value) -> Value {
    schema["description"] = texts::of(path).into();
    schema
}

/// A section that is there and empty says nothing, and is no mistake.
fn section_of(properties: &Map<String, Value>) -> Value {
    json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
}

/// Any single value; a text that looks like a number is a number for YAML.
fn scalar() -> Value {
    json!({"type": ["string", "number", "boolean"]})
}

fn of_key(key: &Key, defaults: &Layer) -> Value {
    let form = key.form();
    let mut schema = match key.kind {
        Kind::Flag => json!({"type": ["boolean", "string"], "pattern": "^(true|false)$"}),
        Kind::Text => scalar(),
        Kind::Path => json!({"type": ["string", "number", "boolean"], "minLength": 1}),
        // A time has a unit, so that a number is none.
        Kind::Time if form.words.is_empty() => {
            json!({"type": "string", "pattern": pattern(&form)})
        }
        // No digit but zeros is no time at all.
        Kind::Deadline => json!({
            "type": "string", "pattern": pattern(&form), "not": {"pattern": "^[^1-9]*$"},
        }),
        Kind::Time => one(&Form { is_text: true, ..form }),
        Kind::Words(_) | Kind::Number { .. } | Kind::Form(_) => one(&form),
        Kind::List(_) => list(key, form),
    };
    let mut text = texts::of_key(key);
    if let Some(option) = key.option {
        text = format!("{text} The same as {option}.");
    }
    schema["description"] = text.into();
    if let Some(default) = default(key, defaults) {
        schema["default"] = default;
    }
    schema
}

/// One value of a form. Words are alternatives of their own, because editors offer those.
fn one(form: &Form) -> Value {
    let mut alternatives = Vec::new();
    if !form.words.is_empty() {
        alternatives.push(json!({"enum": form.words}));
    }
    let texts = pattern(form);
    alternatives.extend(match (form.numbers, texts) {
        (Some((least, most)), texts) => Some(json!({
            "type": ["integer", "string"],
            "minimum": least,
            "maximum": most,
            "pattern": texts,
        })),
        (None, Some(texts)) if form.is_text => Some(json!({"type": "string", "pattern": texts})),
        (None, Some(texts)) => {
            Some(json!({"type": ["string", "number", "boolean"], "pattern": texts}))
        }
        (None, None) => None,
    });
    any_of(alternatives)
}

fn list(key: &Key, mut form: Form) -> Value {
    // It stands for the whole list.
    form.words.retain(|word| key.unset != Some(word));
    let words = form.words.iter().map(|word| (*word).to_owned());
    let entry = words.chain(bare_pattern(&form)).collect::<Vec<_>>().join("|");
    let mut alternatives = vec![
        json!({"type": "array", "minItems": 1, "items": one(&form)}),
        json!({"type": "string", "pattern": format!("^({entry})(,({entry}))*$")}),
    ];
    if let Some((least, most)) = form.numbers {
        alternatives.push(json!({"type": "integer", "minimum": least, "maximum": most}));
    }
    if let Some(word) = key.unset {
        alternatives.push(json!({"enum": [word]}));
    }
    any_of(alternatives)
}

fn any_of(mut alternatives: Vec<Value>) -> Value {
    match alternatives.len() {
        1 => alternatives.remove(0),
        _ => json!({"anyOf": alternatives}),
    }
}

fn pattern(form: &Form) -> Option<String> {
    bare_pattern(form).map(|pattern| format!("^({pattern})$"))
}

/// Texts besides the words: those of the form, and numbers in quotes.
fn bare_pattern(form: &Form) -> Option<String> {
    let numbers = form.numbers.map(|(least, most)| {
        if most - least < 10 {
            (least..=most).map(|number| number.to_string()).collect::<Vec<_>>().join("|")
        } else {
            "[0-9]+".to_owned()
        }
    });
    let both: Vec<String> = numbers.into_iter().chain(form.pattern.map(str::to_owned)).collect();
    if both.is_empty() { None } else { Some(both.join("|")) }
}

fn default(key: &Key, defaults: &Layer) -> Option<Value> {
    let text = &defaults.texts.get(key.path)?.value;
    let is_list = matches!(key.kind, Kind::List(_)) && key.unset != Some(text);
    // As YAML reads it: `1` is a number, `true` is none.
    Some(match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_number() || value.is_boolean() => value,
        _ if is_list => text.split(',').collect(),
        _ => text.as_str().into(),
    })
}

fn env() -> Value {
    let value = scalar();
    let why = with("Why; the plan shows it.", &value);
    json!({
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[^=]+$", "not": {"enum": caller_env_to_remove()}},
        "additionalProperties": {
            "anyOf": [
                value,
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["value"],
                    "properties": {
                        "value": with("What the variable is set to.", &value),
                        "why": why,
                    },
                },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["unset"],
                    "properties": {
                        "unset": with("The variable is taken away.", &json!({"enum": [true, "true"]})),
                        "why": why,
                    },
                },
            ],
        },
    })
}

fn severity() -> Value {
    let words = json!({"enum": ["note", "warning", "error"]});
    let of = |entry: &catalogue::Entry| (entry.code.0.to_string(), with(entry.summary, &words));
    section_of(&catalogue::ALL.iter().map(of).collect())
}

fn policy() -> Value {
    let words = json!({"enum": Remedy::ALL.map(Remedy::name)});
    let of = |class: Class| {
        let default = format!("{} By default {}.", class.text(), class.remedy().name());
        (class.name().to_owned(), with(&default, &words))
    };
    section_of(&Class::ALL.into_iter().map(of).collect())
}

fn with(text: &str, schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["description"] = text.into();
    schema
}

fn matching() -> Value {
    let patterns = json!({"anyOf": [scalar(), {"type": "array", "items": scalar()}]});
    let mut properties = Map::new();
    for (path, _) in texts::OF_FILE {
        let Some(name) = path.strip_prefix("match.") else { continue };
        let schema = match name {
            "env" => json!({"type": ["object", "null"], "additionalProperties": scalar()}),
            _ => patterns.clone(),
        };
        properties.insert(name.to_owned(), with_text(path, schema));
    }
    let mut schema = section_of(&properties);
    // One without conditions would be chosen nowhere, or everywhere.
    schema["type"] = "object".into();
    schema["minProperties"] = 1.into();
    with_text("match", schema)
}
