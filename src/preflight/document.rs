//! What `nvlaunch preflight --json` prints, and what `--facts` and `--facts-out` hold.
//!
//! One JSON object, in this form:
//!
//! ```json
//! {
//!   "schema": 1,
//!   "nvlaunch": "0.1.0",
//!   "verdict": "ok | degraded | refused",
//!   "vendor": "cuda",
//!   "backend": "nccl",
//!   "backend_reason": "…",
//!   "backend_evidence": [{"source": "…", "value": "…"}],
//!   "variables": [{"name", "value" (null: taken away), "is_users", "reason", "evidence"}],
//!   "findings": [{"code", "name", "severity": "note | warning | error", "summary",
//!                 "evidence": [{"source", "value"}],
//!                 "remedies": [{"what", "commands": ["…"], "needs_root"}],
//!                 "mitigation": {"what", "variables": [["NAME", "value"]], "cures"} or null,
//!                 "consequence_of": "NVL001" or null}],
//!   "facts": { … }
//! }
//! ```
//!
//! - J1: within one schema fields are added, never renamed or removed; codes and the words of
//!   `verdict` and `severity` keep their meaning.
//! - J2: facts leave the machine without what is nobody's business ([`without_secrets`]).
//! - J3: facts of a newer schema are refused, never half understood.

use serde::Serialize;
use serde_json::Value;

use super::finding::{Evidence, Finding};
use super::{Judgement, VariableChoice, Verdict};
use crate::diagnose::secrets;
use crate::host::facts::{self, HostFacts};

/// Version of the document.
pub const SCHEMA: u32 = 1;

/// The document, in the order in which it is written.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The version of nvlaunch that judged.
    pub nvlaunch: &'a str,
    /// Whether a launch would start.
    pub verdict: Verdict,
    /// The vendor of the devices, or `cpu`.
    pub vendor: &'a str,
    /// The backend for `torch.distributed`.
    pub backend: &'a str,
    /// Why this one.
    pub backend_reason: &'a str,
    /// What that rests on.
    pub backend_evidence: &'a [Evidence],
    /// What the ranks' environment gets.
    pub variables: &'a [VariableChoice],
    /// What was found, causes first.
    pub findings: &'a [Finding],
    /// What it was found in.
    pub facts: &'a HostFacts,
}

/// The document as text, with a line end.
pub fn render(judgement: &Judgement, facts: &HostFacts) -> String {
    lines(&Document {
        schema: SCHEMA,
        nvlaunch: env!("CARGO_PKG_VERSION"),
        verdict: judgement.verdict,
        vendor: &judgement.vendor,
        backend: &judgement.backend.name,
        backend_reason: &judgement.backend.reason,
        backend_evidence: &judgement.backend.evidence,
        variables: &judgement.variables,
        findings: &judgement.findings,
        facts,
    })
}

/// The facts as text, with a line end.
pub fn render_facts(facts: &HostFacts) -> String {
    lines(facts)
}

fn lines(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain values with text keys");
    text.push('\n');
    text
}

/// The facts, less passwords and tokens in commands and variables.
pub fn without_secrets(mut facts: HostFacts) -> HostFacts {
    let hide = |text: &str| secrets::redact(&text.split(' ').collect::<Vec<_>>());
    let confs = facts.nccl_conf.iter_mut().map(|conf| &mut conf.variables);
    for variables in confs.chain([&mut facts.variables]) {
        for (name, value) in variables {
            // A variable that is a secret by its name is one as a word of a command line too.
            let word = format!("{name}={value}");
            if let Some((_, hidden)) = hide(&word).split_once('=') {
                value.clone_from(&hidden.to_owned());
            }
        }
    }
    for change in &mut facts.packages.history {
        change.command = change.command.as_deref().map(hide);
    }
    facts
}

/// Why a text is no facts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// Not JSON, or of another form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// JSON without a schema.
    #[error("there is no `schema` in it")]
    NoSchema,
    /// Written by a newer nvlaunch.
    #[error("its schema is {found}, and this nvlaunch knows {}", facts::SCHEMA)]
    Newer {
        /// Its schema.
        found: u64,
        /// The version that wrote it, where it says so.
        writer: Option<String>,
    },
}

/// Reads facts; a whole document is taken for the facts in it.
pub fn read_facts(text: &[u8]) -> Result<HostFacts, FactsError> {
    let mut value: Value = serde_json::from_slice(text)?;
    if let Some(facts) = value.get_mut("facts").filter(|facts| facts.is_object()) {
        value = facts.take();
    }
    let found = value.get("schema").and_then(Value::as_u64).filter(|schema| *schema > 0);
    let found = found.ok_or(FactsError::NoSchema)?;
    if found > u64::from(facts::SCHEMA) {
        let writer = value.get("nvlaunch").and_then(Value::as_str).map(str::to_owned);
        return Err(FactsError::Newer { found, writer });
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::facts::{ConfFile, PackageChange};
    use crate::preflight::BackendChoice;
    use crate::preflight::finding::{Code, Mitigation, Remedy, Severity};

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn facts() -> HostFacts {
        HostFacts { schema: 1, hostname: "node1".to_owned(), ..HostFacts::default() }
    }

    /// The contract: a change here is a change for every program that reads it.
    #[test]
    fn the_form_of_the_document() {
        let evidence = vec![Evidence { source: "/proc/x".to_owned(), value: "1".to_owned() }];
        let judgement = Judgement {
            verdict: Verdict::Refused,
            vendor: "cuda".to_owned(),
            backend: BackendChoice {
                name: "nccl".to_owned(),
                reason: "a reason".to_owned(),
                evidence: evidence.clone(),
            },
            findings: vec![Finding {
                code: Code::new("NVL001"),
                name: "A_NAME".to_owned(),
                severity: Severity::Error,
                summary: "a summary".to_owned(),
                evidence: evidence.clone(),
                remedies: vec![Remedy {
                    what: "reboot".to_owned(),
                    commands: vec!["reboot".to_owned()],
                    needs_root: true,
                }],
                mitigation: Some(Mitigation {
                    what: "a variable is set".to_owned(),
                    variables: vec![("NAME".to_owned(), "1".to_owned())],
                    cures: false,
                }),
                consequence_of: None,
            }],
            variables: vec![VariableChoice {
                name: "NAME".to_owned(),
                value: None,
                is_users: false,
                reason: "a reason".to_owned(),
                evidence,
            }],
            compat: None,
            python: crate::compat::Python::default(),
        };
        let text = render(&judgement, &facts());
        let (contract, facts) = text.split_once("  \"facts\": {").expect("facts come last");
        assert!(facts.ends_with("  }\n}\n"), "{facts}");
        insta::assert_snapshot!(contract.replace(env!("CARGO_PKG_VERSION"), "[version]"));
        // What was printed can be judged again.
        assert_eq!(read_facts(text.as_bytes()).unwrap(), self::facts());
    }

    #[test]
    fn facts_come_back_as_they_went() {
        assert_eq!(read_facts(render_facts(&facts()).as_bytes()).unwrap(), facts());
        // F3
        let with_more = r#"{"schema": 1, "hostname": "node1", "of_tomorrow": [1], "python": {}}"#;
        assert_eq!(read_facts(with_more.as_bytes()).unwrap(), facts());
    }

    #[test]
    fn what_is_no_facts_is_said() {
        let said = |text: &str| read_facts(text.as_bytes()).expect_err(text).to_string();
        for text in ["{}", "[]", "3", "null", r#"{"schema": 0}"#, r#"{"schema": "1"}"#] {
            assert_eq!(said(text), "there is no `schema` in it", "{text}");
        }
        assert_eq!(said(r#"{"schema": 2}"#), "its schema is 2, and this nvlaunch knows 1");
        let newer = r#"{"facts": {"schema": 9, "nvlaunch": "7.0.0"}}"#;
        match read_facts(newer.as_bytes()) {
            Err(FactsError::Newer { found: 9, writer }) => assert_eq!(writer.unwrap(), "7.0.0"),
            other => panic!("{other:?}"),
        }
        for text in ["", "{\"schema\": 1", "\u{0}", r#"{"schema": 1, "pci": 3}"#] {
            assert!(matches!(read_facts(text.as_bytes()), Err(FactsError::Json(_))), "{text}");
        }
        assert!(read_facts(b"\xff\xfe").is_err());
        // The parser has a bound of its own.
        assert!(read_facts("[".repeat(100_000).as_bytes()).is_err());
    }

    /// J2
    #[test]
    fn secrets_stay_on_the_machine() {
        let mut facts = facts();
        facts.variables = variables(&[
            ("NCCL_DEBUG", "INFO"),
            ("LD_LIBRARY_PATH", "/a b:/c=d"),
            ("SOME_API_KEY", "abc"),
            ("http_proxy", "http://me:abc@proxy:80"),
        ]);
        facts.nccl_conf = vec![ConfFile {
            variables: variables(&[("X_TOKEN", "abc"), ("NCCL_IB_HCA", "mlx5")]),
            ..ConfFile::default()
        }];
        let command = Some("installer --password abc nvidia-driver-580".to_owned());
        facts.packages.history = vec![PackageChange { command, ..PackageChange::default() }];
        let kept = without_secrets(facts);
        assert!(!render_facts(&kept).contains("abc"), "{}", render_facts(&kept));
        assert_eq!(kept.variables["NCCL_DEBUG"], "INFO");
        assert_eq!(kept.variables["LD_LIBRARY_PATH"], "/a b:/c=d");
        assert_eq!(kept.variables["http_proxy"], "http://me:***@proxy:80");
        assert_eq!(kept.nccl_conf[0].variables["NCCL_IB_HCA"], "mlx5");
        let command = kept.packages.history[0].command.as_deref();
        assert_eq!(command, Some("installer --password *** nvidia-driver-580"));
    }
}
