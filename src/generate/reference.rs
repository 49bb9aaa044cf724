//! Everything that can be set, as Markdown: options, keys, variables, exit codes, findings.

use std::fmt::Write as _;

use super::comment;
use super::pages::{self, Block, Page};
use crate::diagnose::class::Class;
use crate::env_vars::{self, Use};
use crate::exit_code;
use crate::host::vendors;
use crate::preflight::catalogue;
use crate::preflight::explain::word;
use crate::profile::keys::{self, Key};
use crate::profile::texts;
use crate::settings::defaults;

const HEAD: &str = "\
# Reference of nvlaunch

<!-- This page is generated: `make reference` writes it anew. -->

Everything that can be set, from the definitions that the program itself follows:
[commands and options](#commands-and-options), [profile keys](#profile-keys),
[environment variables](#environment-variables), [exit codes](#exit-codes),
[classes of failures](#classes-of-failures) and [findings of preflight](#findings-of-preflight).
`nvlaunch generate reference` prints this page.
";

const KEYS: &str = "
## Profile keys

What a launch profile can say, section by section. A value is looked for, the strongest first, on the
command line, in `NVLAUNCH_*` variables, in the `PET_*` variables of torchrun and the scheduler's, in
the profile and what it extends, in the user's and the system's `config.yaml`, and in the defaults
below. A variable that is empty is not set. `launch-profiles/schema.json` says the same to editors;
`nvlaunch profile schema` prints it.
";

const VARIABLES: &str = "
## Environment variables

Besides these, `NVLAUNCH_<OPTION>` is read for every option of a launch, as `NVLAUNCH_LOG_DIR` for
`--log-dir`, and below that `PET_<OPTION>` for every option of torchrun, as `PET_NPROC_PER_NODE` for
`--nproc-per-node`. An empty one is unset.
";

const CODES: &str = "
## Exit codes

A job that ran ends with 0, or with the code of the rank that failed first: 128 + n where signal n
ended it. Where nvlaunch itself was asked to end by signal n, it is 128 + n as well. The other codes
are nvlaunch's own; they are those of `sysexits.h`, which scripts seldom return.
";

const FINDINGS: &str = "
## Findings of preflight

How bad a finding usually is; `preflight.severity` says otherwise. `nvlaunch explain CODE` says what
it means, how it is recognised and what helps.
";

const CLASSES: &str = "
## Classes of failures

What nvlaunch takes a failure for, by the exit status, the error file and the last lines of the rank
that failed first, and by what the kernel says; where that rank lost another, or waited for it in vain,
by the exception that had ended that other one. And what follows: `never` ends the job, `same-again`
restarts it, but not after the same failure at the same step twice, `retry` restarts it, and
`retry-elsewhere`, for another machine, only after progress. After an attempt that came further than
what it began with, `import`, `missing-file`, `permission` and `assertion` are `same-again`: what
worked may work again. That holds with and without a
checkpoint folder. Where no steps are known, the same failure twice is the end only within a minute of
the start; of an assertion then nobody knows whether it was before the first step: it is `unknown`, and
a policy for `assertion` holds for it all the same. `restart.policy` in a
profile says otherwise, as in `policy: {import: retry}`.
";

/// The whole page.
pub fn render() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Commands and options\n");
    for page in pages::all() {
        command(&mut text, &page);
    }
    profile_keys(&mut text);
    variables(&mut text);
    text.push_str(CODES);
    table(&mut text, &["code", "meaning"]);
    for exit in exit_code::ALL {
        row(&mut text, &[code(&exit.code.to_string()), marked(&comment(exit.text))]);
    }
    text.push_str(CLASSES);
    table(&mut text, &["class", "policy", "what"]);
    for class in Class::ALL {
        row(&mut text, &[code(class.name()), code(class.remedy().name()), marked(class.text())]);
    }
    text.push_str(FINDINGS);
    table(&mut text, &["code", "name", "severity", "what"]);
    for entry in catalogue::ALL {
        let severity = word(entry.severity).to_owned();
        row(&mut text, &[code(&entry.code.0), code(entry.name), severity, marked(entry.summary)]);
    }
    text
}

fn command(text: &mut String, page: &Page) {
    let _ = write!(text, "\n### {}\n", page.name());
    if !page.usage.is_empty() {
        let _ = write!(text, "\n```console\n{}\n```\n", page.usage.join("\n"));
    }
    for block in &page.blocks {
        let _ = match block {
            Block::Prose(prose) => write!(text, "\n{}\n", marked(prose)),
            Block::Verbatim(title, lines) => {
                write!(text, "\n{title}:\n\n```text\n{}\n```\n", lines.join("\n"))
            }
        };
    }
    for (heading, options) in &page.options {
        let heading = format!("{} ", heading.to_lowercase());
        let heading = if heading == "other " { "option".to_owned() } else { heading };
        table(text, &[heading.trim_end(), "what it does"]);
        for option in options {
            row(text, &[code(&option.spelled), marked(&option.text)]);
        }
    }
}

fn profile_keys(text: &mut String) {
    text.push_str(KEYS);
    text.push_str("\n### The file itself\n");
    table(text, &["key", "what it is for"]);
    for (path, what) in texts::OF_FILE {
        row(text, &[code(path), marked(what)]);
    }
    let defaults = defaults::layer().unwrap_or_default();
    let mut section = None;
    for key in keys::ALL {
        let own = key.parts().0.unwrap_or(key.path);
        if section != Some(own) {
            section = Some(own);
            let _ = write!(text, "\n### {own}\n");
            if key.parts().0.is_some() {
                let _ = write!(text, "\n{}\n", marked(&texts::of(own)));
            }
            table(text, &["key", "value", "default", "option", "variables", "what it is for"]);
        }
        let default = defaults.texts.get(key.path).map(|placed| placed.value.as_str());
        profile_key(text, key, default.unwrap_or_default());
    }
    text.push_str("\n### Maps\n");
    table(text, &["key", "what it holds"]);
    for path in keys::MAPS {
        row(text, &[code(path), marked(&texts::of(path))]);
    }
}

fn profile_key(text: &mut String, key: &Key, default: &str) {
    let variables = texts::variables(key);
    let variables = variables.iter().map(|name| code(name)).collect::<Vec<_>>().join(" ");
    row(
        text,
        &[
            code(key.path),
            marked(&key.form().says),
            code(default),
            key.option.map(code).unwrap_or_default(),
            variables,
            marked(&texts::of_key(key)),
        ],
    );
}

fn variables(text: &mut String) {
    text.push_str(VARIABLES);
    text.push_str("\n### Read\n");
    table(text, &["variable", "what it says"]);
    for variable in env_vars::ALL {
        if matches!(variable.used, Use::Read | Use::ReadAndSet) {
            row(text, &[code(variable.name), marked(&comment(variable.text))]);
        }
    }
    let mut seen: Vec<&str> = env_vars::ALL.iter().map(|variable| variable.name).collect();
    for vendor in vendors::ALL {
        for variable in vendor.visible {
            if !seen.contains(&variable.name) {
                seen.push(variable.name);
                let what = format!("Which devices of {} are visible.", vendor.title);
                row(text, &[code(variable.name), marked(&what)]);
            }
        }
    }
    text.push_str("\n### Set for each rank\n");
    table(text, &["variable", "what it says"]);
    for variable in env_vars::ALL {
        let what = comment(variable.text);
        match variable.used {
            Use::Read => {}
            Use::Set | Use::ReadAndSet => row(text, &[code(variable.name), marked(&what)]),
            Use::Removed => row(text, &[code(variable.name), marked(&format!("Removed. {what}"))]),
        }
    }
}

fn table(text: &mut String, columns: &[&str]) {
    let _ = write!(text, "\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// A word as it is typed. A bar would end the cell of a table, in code too.
fn code(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!("`{}`", word.replace('|', "\\|")) }
}

/// A text whose marks mean nothing outside `code`.
fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut is_code = false;
    for letter in text.chars() {
        match letter {
            '`' => is_code = !is_code,
            '|' => marked.push('\\'),
            '*' | '<' if !is_code => marked.push('\\'),
            _ => {}
        }
        marked.push(letter);
    }
    marked
}
