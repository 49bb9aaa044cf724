//! The corpus of machines in `tests/hosts/`: each is read, asked, judged, and must give exactly
//! the findings that its `expected.json` names.
//!
//! The trees are made by `tests/hosts/make.py` from descriptions; they are changed there.

mod hostile;
mod program;
mod trees;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nvlaunch::host::depth::Depth;
use nvlaunch::host::facts::HostFacts;
use nvlaunch::host::facts::nvidia::{Nvml, Probe};
use nvlaunch::host::survey::survey;
use nvlaunch::preflight::decide::decide;
use nvlaunch::preflight::finding::{Code, Finding, Severity};
use nvlaunch::preflight::judge::judge;
use nvlaunch::preflight::{Intent, Judgement, Verdict};
use nvlaunch::probe;
use nvlaunch::settings::env::Env;
use serde::Deserialize;
use serde_json::Value;

use crate::harness;

/// A machine of the corpus.
pub struct Host {
    pub name: String,
    pub folder: PathBuf,
    pub about: About,
    pub expected: Expected,
}

/// `host.json`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub story: String,
    pub env: BTreeMap<String, String>,
    pub interpreter: Option<PathBuf>,
    pub intent: Wanted,
    pub depth: String,
    /// Facts that no file below another root can tell, laid over those that were read.
    #[serde(default)]
    pub facts: Option<Value>,
}

/// What is launched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub nproc: Option<u32>,
    pub nnodes: u32,
    pub backend: Option<String>,
}

/// `expected.json`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub verdict: Verdict,
    pub vendor: String,
    pub backend: String,
    pub findings: Vec<ExpectedFinding>,
}

/// A finding that must be there, and no other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFinding {
    pub code: Code,
    pub severity: Severity,
    pub consequence_of: Option<Code>,
    /// Must stand in its summary, evidence, remedies or mitigation.
    #[serde(default)]
    pub says: Vec<String>,
    /// Must not stand there.
    #[serde(default)]
    pub never: Vec<String>,
}

/// Where the corpus is.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

/// A folder for many small files: in memory where there is room for them.
fn scratch() -> tempfile::TempDir {
    const ENOUGH: u64 = 1 << 30;
    let memory = Path::new("/dev/shm");
    let free = |info: nix::sys::statvfs::Statvfs| {
        info.blocks_available().saturating_mul(info.fragment_size())
    };
    let has_room = nix::sys::statvfs::statvfs(memory).is_ok_and(|info| free(info) > ENOUGH);
    let in_memory = has_room.then(|| tempfile::tempdir_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().expect("a folder for the test"))
}

impl Host {
    /// The host of that name.
    pub fn named(name: &str) -> Self {
        let folder = corpus().join(name);
        let json = |file: &str| {
            let path = folder.join(file);
            fs_err::read(&path).unwrap_or_else(|error| panic!("{error}"))
        };
        let about = serde_json::from_slice(&json("host.json"));
        let expected = serde_json::from_slice(&json("expected.json"));
        Self {
            name: name.to_owned(),
            about: about.unwrap_or_else(|error| panic!("{name}/host.json: {error}")),
            expected: expected.unwrap_or_else(|error| panic!("{name}/expected.json: {error}")),
            folder,
        }
    }

    /// Every host, by name.
    pub fn all() -> Vec<Self> {
        let entries = fs_err::read_dir(corpus()).expect("the corpus is there");
        let folders = entries.map(|entry| entry.expect("an entry of the corpus").path());
        let mut names: Vec<String> = folders
            .filter(|folder| folder.join("host.json").exists())
            .map(|folder| folder.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.iter().map(|name| Self::named(name)).collect()
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    pub fn env(&self) -> Env {
        self.about.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub fn depth(&self) -> Depth {
        match self.about.depth.as_str() {
            "launch" => Depth::Launch,
            "full" => Depth::Full,
            other => panic!("{}: unknown depth `{other}`", self.name),
        }
    }

    pub fn intent(&self) -> Intent {
        let Wanted { nproc, nnodes, backend } = &self.about.intent;
        Intent { nproc: *nproc, nnodes: *nnodes, backend: backend.clone(), ..Intent::default() }
    }

    /// The script of the fake NVML, where the host has one.
    pub fn nvml_script(&self) -> Option<PathBuf> {
        Some(self.folder.join("nvml.json")).filter(|path| path.exists())
    }

    /// Everything known of it: what its files tell, what NVML answers, what is laid over.
    pub fn facts(&self) -> HostFacts {
        let interpreter = self.about.interpreter.as_deref();
        let mut facts = survey(&self.root(), &self.env(), self.depth(), interpreter);
        if let (Some(script), Some(nvidia)) = (self.nvml_script(), &mut facts.nvidia) {
            nvidia.nvml = ask_nvml(&self.root(), &self.env(), self.depth(), &script);
        }
        let Some(patch) = &self.about.facts else { return facts };
        let mut value = serde_json::to_value(&facts).expect("facts are plain values");
        lay_over(&mut value, patch);
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// How long a fake NVML may take to answer; one that hangs is given less.
const ANSWER: Duration = Duration::from_secs(20);
const HANG: Duration = Duration::from_secs(1);

/// What a fake NVML says that plays this script.
fn ask_nvml(root: &Path, env: &Env, depth: Depth, script: &Path) -> Probe<Nvml> {
    let text = fs_err::read_to_string(script).expect("the script is there");
    let mut env = env.clone();
    env.0.push(("FAKE_NVML_SCRIPT".into(), script.into()));
    let mut settings = probe::Settings::new(root, &env, depth);
    settings.library = Some(fake_nvml());
    settings.program = PathBuf::from(harness::nvlaunch());
    settings.deadline = if text.contains("\"hang\"") { HANG } else { ANSWER };
    probe::nvml(&settings)
}

/// The library of `examples/fake_nvml.rs`; Cargo builds it with the tests.
fn fake_nvml() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own program");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/it");
    let path = target.join("examples/libfake_nvml.so");
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

/// Puts the members of `patch` in place of those of `value`, at any depth; lists as a whole.
fn lay_over(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(members), Value::Object(patch)) => {
            for (name, patch) in patch {
                lay_over(members.entry(name.clone()).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => value.clone_from(patch),
    }
}

/// What is wrong with a judgement, one line each.
fn differences(expected: &Expected, judged: &Judgement) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differs = |what: &str, expected: &str, found: &str| {
        if expected != found {
            lines.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    differs("verdict", &format!("{:?}", expected.verdict), &format!("{:?}", judged.verdict));
    differs("vendor", &expected.vendor, &judged.vendor);
    differs("backend", &expected.backend, &judged.backend.name);
    for finding in &judged.findings {
        if !expected.findings.iter().any(|expected| expected.code == finding.code) {
            lines.push(format!("not expected: {}", line(finding)));
        }
    }
    for expected in &expected.findings {
        let found = judged.findings.iter().filter(|found| found.code == expected.code);
        let found: Vec<&Finding> = found.collect();
        let [found] = found[..] else {
            lines.push(format!("{} stands there {} times", expected.code, found.len()));
            continue;
        };
        let form = |severity, of: &Option<Code>| format!("{severity:?} of {of:?}");
        let (wanted, is) = (
            form(expected.severity, &expected.consequence_of),
            form(found.severity, &found.consequence_of),
        );
        if wanted != is {
            lines.push(format!("{}: expected {wanted}, found {is}", expected.code));
        }
        let text = serde_json::to_string_pretty(found).expect("a finding is plain values");
        for needle in expected.says.iter().filter(|needle| !text.contains(*needle)) {
            lines.push(format!("{} does not say `{needle}`:\n{text}", expected.code));
        }
        for needle in expected.never.iter().filter(|needle| text.contains(*needle)) {
            lines.push(format!("{} says `{needle}`:\n{text}", expected.code));
        }
    }
    lines
}

/// Machines with more than one thing wrong: what is told twice would be wrong on any other.
const SEVERAL: [&str; 1] = ["gcu-t20-mmengine-cuda-torch"];

/// More than one finding that stands for itself and costs something.
fn several_causes(name: &str, judged: &Judgement) -> Option<String> {
    let causes = judged
        .findings
        .iter()
        .filter(|finding| finding.consequence_of.is_none() && finding.severity != Severity::Note);
    let codes: Vec<String> = causes.map(|finding| finding.code.to_string()).collect();
    (codes.len() > 1 && !SEVERAL.contains(&name)).then(|| format!("several causes: {codes:?}"))
}

fn line(finding: &Finding) -> String {
    let Finding { code, severity, summary, consequence_of, evidence, .. } = finding;
    let of = consequence_of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
    let mut line = format!("{code} {severity:?}{of}: {summary}");
    for evidence in evidence {
        let _ = write!(line, "\n      {}: {}", evidence.source, evidence.value);
    }
    line
}

/// The hosts that `NVLAUNCH_TEST_HOST` names a part of, or all.
fn chosen() -> Vec<Host> {
    let part = std::env::var("NVLAUNCH_TEST_HOST").unwrap_or_default();
    Host::all().into_iter().filter(|host| host.name.contains(&part)).collect()
}

/// Fails with all that is wrong with any host.
fn fail_with(what: &BTreeMap<String, Vec<String>>) {
    let mut text = String::new();
    for (host, lines) in what.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = write!(text, "\n{host}\n  {}\n", lines.join("\n  "));
    }
    assert!(text.is_empty(), "{text}");
}

#[test]
fn every_host_has_its_findings_and_no_others() {
    let mut wrong = BTreeMap::new();
    for host in chosen() {
        let facts = host.facts();
        let intent = host.intent();
        let judged = decide(&facts, judge(&facts, &intent), &intent);
        let mut lines = differences(&host.expected, &judged);
        lines.extend(several_causes(&host.name, &judged));
        for finding in &judged.findings {
            if finding.evidence.is_empty() {
                lines.push(format!("{} rests on nothing", finding.code));
            }
            for (at, evidence) in finding.evidence.iter().enumerate() {
                if finding.evidence[..at].contains(evidence) {
                    lines.push(format!("{} says twice: {evidence:?}", finding.code));
                }
            }
        }
        if !lines.is_empty() {
            lines.insert(0, host.about.story.clone());
        }
        wrong.insert(host.name, lines);
    }
    fail_with(&wrong);
}

#[test]
fn facts_that_were_written_and_read_back_are_judged_the_same() {
    let mut wrong = BTreeMap::new();
    for host in chosen() {
        let facts = host.facts();
        let text = serde_json::to_string(&facts).expect("facts are plain values");
        let again: HostFacts = serde_json::from_str(&text).expect("what was written can be read");
        let mut lines = Vec::new();
        if again != facts {
            lines.push("the facts are others".to_owned());
        }
        let intent = host.intent();
        let verdict = |facts| decide(facts, judge(facts, &intent), &intent);
        if verdict(&facts) != verdict(&again) {
            lines.push("the judgement is another".to_owned());
        }
        wrong.insert(host.name, lines);
    }
    fail_with(&wrong);
}

#[test]
fn the_corpus_is_as_large_as_it_says() {
    let hosts = Host::all();
    let healthy = hosts.iter().filter(|host| host.name.starts_with("healthy-")).count();
    let sick = hosts.iter().filter(|host| !host.expected.findings.is_empty()).count();
    assert!(healthy >= 12 && sick >= 80, "{healthy} healthy, {sick} sick");
    for host in hosts.iter().filter(|host| host.name.starts_with("healthy-")) {
        assert!(host.expected.findings.is_empty(), "{} is not healthy", host.name);
    }
    // Every finding that a single machine can have is met by one of them at least.
    let met: std::collections::BTreeSet<&Code> =
        hosts.iter().flat_map(|host| &host.expected.findings).map(|found| &found.code).collect();
    let missing: Vec<String> = nvlaunch::preflight::catalogue::ALL
        .iter()
        .filter(|entry| !met.contains(&entry.code) && !NOT_IN_THE_CORPUS.contains(&&*entry.code.0))
        .map(|entry| format!("{} {}", entry.code, entry.name))
        .collect();
    assert!(missing.is_empty(), "no host has {}", missing.join(", "));
}

/// Findings that no single machine can have: they compare nodes.
const NOT_IN_THE_CORPUS: [&str; 1] = ["NVL095"];
