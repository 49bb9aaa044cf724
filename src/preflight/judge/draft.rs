//! Writes findings: name and usual severity come from the catalogue.

use crate::preflight::catalogue;
use crate::preflight::finding::{Code, Evidence, Finding, Mitigation, Remedy, Severity};

/// A finding that is being written.
#[must_use]
#[derive(Debug)]
pub struct Draft(Finding);

impl Draft {
    /// Begins one, with the catalogue's severity.
    pub fn new(code: Code, summary: impl Into<String>) -> Self {
        let entry = catalogue::find(&code.0).expect("codes come from the catalogue's constants");
        Self(Finding {
            name: entry.name.to_owned(),
            severity: entry.severity,
            summary: summary.into(),
            evidence: Vec::new(),
            remedies: Vec::new(),
            mitigation: None,
            consequence_of: None,
            code,
        })
    }

    /// Another severity than the usual.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.0.severity = severity;
        self
    }

    /// Another line than the one it was begun with.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.0.summary = summary.into();
        self
    }

    /// What it rests on.
    pub fn evidence(mut self, source: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.evidence.push(Evidence { source: source.into(), value: value.into() });
        self
    }

    /// The same, where it is known.
    pub fn evidence_if(self, evidence: Option<(String, String)>) -> Self {
        match evidence {
            Some((source, value)) => self.evidence(source, value),
            None => self,
        }
    }

    /// A way out that any user can go.
    pub fn remedy(self, what: impl Into<String>, commands: &[&str]) -> Self {
        self.remedy_of(what, commands.iter().map(|c| (*c).to_owned()).collect(), false)
    }

    /// A way out that needs root.
    pub fn root_remedy(self, what: impl Into<String>, commands: Vec<String>) -> Self {
        self.remedy_of(what, commands, true)
    }

    fn remedy_of(mut self, what: impl Into<String>, commands: Vec<String>, root: bool) -> Self {
        self.0.remedies.push(Remedy { what: what.into(), commands, needs_root: root });
        self
    }

    /// What nvlaunch does about it.
    pub fn mitigation(mut self, mitigation: Option<Mitigation>) -> Self {
        self.0.mitigation = mitigation;
        self
    }

    /// It follows from, or belongs to, another: it is a note then.
    pub fn follows(mut self, cause: Option<&Code>) -> Self {
        if let Some(cause) = cause {
            self.0.consequence_of = Some(cause.clone());
            self.0.severity = Severity::Note;
        }
        self
    }

    /// The finding.
    pub fn done(self) -> Finding {
        debug_assert!(!self.0.evidence.is_empty(), "{} has no evidence", self.0.code);
        self.0
    }
}
