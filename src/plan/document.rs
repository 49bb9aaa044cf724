//! What `nvlaunch plan --json` prints and `--diff` reads: everything that was decided.
//!
//! One JSON object; the fields of [`PlanDocument`] in their order say what it holds.
//!
//! - J1: within one schema fields are added, never renamed or removed.
//! - J2: two plans of the same launch are the same, byte for byte: what is only known at the start
//!   (a fresh port, a made-up id) is said in words, and nothing that passes by stands in it (times,
//!   process ids, free memory).
//! - J3: no secret stands in it (`diagnose::secrets`); of a value that is kept back it has eight
//!   bits, so that a change is seen.
//! - J4: a document of a newer schema is refused, never half understood.

use std::ffi::OsStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::variable::{EnvChange, Layer, Variable};
use super::{Plan, RankDevice, caller_env_to_remove, environment};
use crate::checkpoint::Layout;
use crate::compat::{self, Compat};
use crate::diagnose::secrets::{fingerprint, redact_words, scrub, shown};
use crate::env_vars;
use crate::host::Facts;
use crate::preflight::finding::{Code, Evidence, Finding, Severity};
use crate::preflight::{Judgement, Verdict};
use crate::profile::keys;
use crate::profile::layer::Used;
use crate::settings::Origin;
use crate::settings::spec::{CheckpointSpec, LaunchSpec, LogDir};

/// Version of the document.
pub const SCHEMA: u32 = 1;

/// A launch, decided and not begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The version of nvlaunch that decided.
    pub nvlaunch: String,
    /// Whether a launch would start its ranks.
    pub starts: bool,
    /// The launch profile, where one is used.
    pub profile: Option<Used>,
    /// What preflight found; `null` where it does not look.
    pub preflight: Option<SeenBefore>,
    /// The backend; `null` where neither preflight nor the user chose one.
    pub backend: Option<PlannedBackend>,
    /// Where the ranks meet.
    pub rendezvous: Meeting,
    /// The id of the run; `null` is one that is made up at the start.
    pub run_id: Option<String>,
    /// Ranks of the whole job.
    pub world_size: u32,
    /// The local rank that reads the standard input.
    pub stdin_rank: Option<u32>,
    /// Where the job saves; `null` where it does not say so.
    #[serde(default)]
    pub checkpoint: Option<PlannedCheckpoint>,
    /// The ranks of this node, by local rank.
    pub ranks: Vec<PlannedRank>,
    /// Variables that are the same for every rank, the strongest layer first, by name.
    pub variables: Vec<PlannedVariable>,
    /// Variables of which each rank has its own value, by name.
    pub rank_variables: Vec<ByRank>,
    /// Every key with what holds of it, by key.
    pub settings: Vec<Setting>,
    /// What the user may not expect.
    pub notes: Vec<String>,
    /// What becomes of scripts that insist on CUDA; left out where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compat: Option<PlannedCompat>,
}

/// What becomes of scripts that insist on CUDA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCompat {
    /// Whether they are helped; else it is an offer.
    pub on: bool,
    /// What helps, for `--compat`: `cpu` or `gcu`.
    pub name: String,
    /// Where that was said, or why it is offered.
    pub why: String,
    /// How it gets into the ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<compat::Way>,
    /// Why in that way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_reason: Option<String>,
    /// The backend in the place of one that cannot work; `null` is found out in the ranks.
    pub backend: Option<String>,
    /// What is changed in the ranks, and why.
    pub changes: Vec<compat::Change>,
}

/// What preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBefore {
    /// What it comes to.
    pub verdict: Verdict,
    /// Whether a refusal is passed over (`--force`).
    pub force: bool,
    /// The vendor of the devices, or `cpu`.
    pub vendor: String,
    /// What was found, causes first.
    pub findings: Vec<Seen>,
}

/// A finding, in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// As `NVL001`.
    pub code: Code,
    /// Its name.
    pub name: String,
    /// How bad it is, here.
    pub severity: Severity,
    /// One line, with this machine's values.
    pub summary: String,
    /// The finding that this one follows from.
    pub consequence_of: Option<Code>,
}

/// The backend of `torch.distributed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBackend {
    /// `nccl`, `gloo`, …
    pub name: String,
    /// Why this one, as one clause.
    pub reason: String,
    /// Who said so: `preflight`, `--backend`, `site.yaml:3`.
    pub origin: String,
    /// What the reason rests on.
    pub evidence: Vec<Evidence>,
}

/// Where the ranks meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meeting {
    /// `MASTER_ADDR`
    pub address: String,
    /// `MASTER_PORT`; `null` is a free one, fresh for each attempt.
    pub port: Option<u16>,
    /// Who serves the store: `nvlaunch` or `rank0`.
    pub store: String,
}

/// Where the job saves. What is there is looked at when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCheckpoint {
    /// The folder.
    pub dir: String,
    /// How checkpoints are laid out, or `auto`.
    pub layout: String,
    /// The name of files, with `{step}` in it.
    pub pattern: Option<String>,
    /// Words that end each rank's arguments where there is something to resume from, with `{path}`,
    /// `{step}`, `{name}` and `{dir}` in them.
    pub resume_args: Vec<String>,
    /// Whether newer checkpoints that are not whole are renamed aside.
    pub quarantine: bool,
}

/// One rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRank {
    /// Its number in the job.
    pub rank: u32,
    /// Its number on this node.
    pub local_rank: u32,
    /// The device that its script takes with `device = LOCAL_RANK`; `null` is none, or not known.
    pub device: Option<RankDevice>,
    /// The NUMA node of that device.
    pub numa_node: Option<u32>,
    /// Why it has no device or no node.
    pub unplaced: Option<String>,
    /// The CPUs it is kept on, as `0-7,64-71`; `null` is all that nvlaunch may use.
    pub cpus: Option<String>,
    /// The CPUs it can count on.
    pub cpu_count: u32,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where words of it are kept back: eight bits of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
}

/// What happens to a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It gets the value.
    Set,
    /// It keeps the caller's.
    Keep,
    /// The ranks do not get it.
    Remove,
}

/// A variable of every rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVariable {
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: Action,
    /// Its value, `***` where it is kept back; `null` where it is taken away or not known yet.
    pub value: Option<String>,
    /// What it will be, where that is only known at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_start: Option<String>,
    /// Where the value or a part of it is kept back: eight bits of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
    /// Who decided.
    pub layer: Layer,
    /// Where that was said.
    pub origin: String,
    /// Why.
    pub reason: String,
}

/// A variable of which each rank has its own value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByRank {
    /// Its name.
    pub name: String,
    /// By local rank; `null` where a rank has none.
    pub values: Vec<Option<String>>,
    /// Who decided.
    pub layer: Layer,
    /// Where that was said.
    pub origin: String,
    /// Why.
    pub reason: String,
}

/// A key, and what holds of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As `geometry.nproc`.
    pub key: String,
    /// As it was written.
    pub value: String,
    /// Where: `--nproc-per-node`, `NVLAUNCH_NPROC_PER_NODE`, `site.yaml:4`, `default.yaml`.
    pub origin: String,
    /// Whether it is the default.
    pub is_default: bool,
}

/// What a document is made of.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    /// What the user wants.
    pub spec: &'a LaunchSpec,
    /// What is true here.
    pub facts: &'a Facts,
    /// What preflight found, where it looked.
    pub judgement: Option<&'a Judgement>,
    /// What will be done.
    pub plan: &'a Plan,
}

/// Puts together what was decided.
pub fn document(decided: Decided<'_>) -> PlanDocument {
    let Decided { spec, facts, judgement, plan } = decided;
    let is_refused = judgement.is_some_and(|judgement| judgement.verdict == Verdict::Refused);
    PlanDocument {
        schema: SCHEMA,
        nvlaunch: env!("CARGO_PKG_VERSION").to_owned(),
        starts: !is_refused || spec.preflight.force,
        profile: spec.profile.clone(),
        preflight: judgement.map(|judgement| SeenBefore {
            verdict: judgement.verdict,
            force: spec.preflight.force,
            vendor: judgement.vendor.clone(),
            findings: judgement.findings.iter().map(seen).collect(),
        }),
        backend: backend(spec, plan),
        rendezvous: Meeting {
            address: plan.master_addr.clone(),
            port: plan.master_port,
            store: if plan.store.is_some() { "nvlaunch" } else { "rank0" }.to_owned(),
        },
        run_id: spec.run_id.as_deref().map(scrub),
        world_size: plan.world_size,
        stdin_rank: plan.stdin_rank,
        checkpoint: spec.checkpoint.as_ref().map(checkpoint),
        ranks: plan.ranks.iter().map(rank).collect(),
        variables: variables(spec, facts, plan),
        rank_variables: by_rank(plan),
        settings: settings(spec),
        notes: plan.notes.iter().map(|note| scrub(note)).collect(),
        compat: compat_of(spec, plan),
    }
}

fn compat_of(spec: &LaunchSpec, plan: &Plan) -> Option<PlannedCompat> {
    match &plan.compat {
        Compat::Off => None,
        Compat::Offered(offer) => Some(PlannedCompat {
            on: false,
            name: offer.name.to_owned(),
            why: scrub(&offer.why),
            way: None,
            way_reason: None,
            backend: None,
            changes: Vec::new(),
        }),
        Compat::On(layer) => Some(PlannedCompat {
            on: true,
            name: layer.mode.name().to_owned(),
            why: environment::of_setting(spec, &keys::COMPAT).unwrap_or_default(),
            way: Some(layer.way),
            way_reason: Some(scrub(&layer.way_reason)),
            backend: layer.backend.clone(),
            changes: layer.changes.clone(),
        }),
    }
}

fn seen(finding: &Finding) -> Seen {
    Seen {
        code: finding.code.clone(),
        name: finding.name.clone(),
        severity: finding.severity,
        summary: scrub(&finding.summary),
        consequence_of: finding.consequence_of.clone(),
    }
}

fn backend(spec: &LaunchSpec, plan: &Plan) -> Option<PlannedBackend> {
    if let Some(asked) = &spec.preflight.backend {
        let origin = environment::of_setting(spec, &keys::BACKEND);
        return Some(PlannedBackend {
            name: asked.clone(),
            reason: "it was asked for".to_owned(),
            origin: origin.unwrap_or_else(|| "--backend".to_owned()),
            evidence: Vec::new(),
        });
    }
    let chosen = plan.backend.as_ref()?;
    let evidence = chosen.evidence.iter().map(|evidence| Evidence {
        source: evidence.source.clone(),
        value: scrub(&evidence.value),
    });
    Some(PlannedBackend {
        name: chosen.name.clone(),
        reason: chosen.reason.clone(),
        origin: "preflight".to_owned(),
        evidence: evidence.collect(),
    })
}

fn checkpoint(spec: &CheckpointSpec) -> PlannedCheckpoint {
    PlannedCheckpoint {
        dir: scrub(&spec.dir.to_string_lossy()),
        layout: spec.layout.map_or("auto", Layout::name).to_owned(),
        pattern: spec.pattern.clone(),
        resume_args: redact_words(&spec.resume_args),
        quarantine: spec.quarantine,
    }
}

fn rank(rank: &super::RankPlan) -> PlannedRank {
    let text = |word: &OsStr| word.to_string_lossy().into_owned();
    let program = text(rank.program.as_os_str());
    let words: Vec<String> =
        std::iter::once(program).chain(rank.args.iter().map(|arg| text(arg))).collect();
    let command = redact_words(&words);
    let hidden = (command != words).then(|| fingerprint("command", &words.join("\0")));
    PlannedRank {
        rank: rank.rank,
        local_rank: rank.local_rank,
        device: rank.device.clone(),
        numa_node: rank.numa_node,
        unplaced: rank.unplaced.clone(),
        cpus: rank.cpus.as_deref().map(cpu_list),
        cpu_count: rank.cpu_count,
        command,
        hidden,
    }
}

/// `0-3,8`, of ascending numbers.
pub fn cpu_list(cpus: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let text =
        runs.iter().map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        );
    text.collect::<Vec<_>>().join(",")
}

fn variables(spec: &LaunchSpec, facts: &Facts, plan: &Plan) -> Vec<PlannedVariable> {
    let fresh = at_start(spec, plan);
    let is_decided = |name: &OsStr| {
        fresh.iter().any(|fresh| name == fresh.name.as_str())
            || plan.common_env.iter().any(|other| other.name == name && !other.is_removed())
            || plan.ranks.first().is_some_and(|rank| rank.env.iter().any(|own| own.name == name))
    };
    let is_worth_a_line = |variable: &&Variable| {
        let name = variable.name.to_string_lossy();
        let is_left_over = variable.layer != Layer::Contract
            || facts.caller.variables.contains_key(&*name)
                && caller_env_to_remove().contains(&&*name);
        !variable.is_removed() || is_left_over && !is_decided(&variable.name)
    };
    let mut list: Vec<PlannedVariable> =
        plan.common_env.iter().filter(is_worth_a_line).map(planned).collect();
    // Why there is none is asked as often as why there is one.
    if plan.omp.value.is_none() && !list.iter().any(|v| v.name == env_vars::OMP_NUM_THREADS) {
        let (name, origin) = (env_vars::OMP_NUM_THREADS, environment::DEFAULT.to_owned());
        let unset = Variable::removed(name, Layer::Default, origin, &plan.omp.reason);
        list.push(planned(&unset));
    }
    for fresh in fresh {
        match list.iter_mut().find(|known| known.name == fresh.name) {
            Some(known) => (known.value, known.at_start) = (None, fresh.at_start),
            None => list.push(fresh),
        }
    }
    list.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
    list
}

fn planned(variable: &Variable) -> PlannedVariable {
    let name = variable.name.to_string_lossy().into_owned();
    let (action, value) = match &variable.change {
        EnvChange::Set(value) => (Action::Set, Some(value)),
        EnvChange::Keep(value) => (Action::Keep, Some(value)),
        EnvChange::Remove => (Action::Remove, None),
    };
    let raw = value.map(|value| value.to_string_lossy().into_owned());
    let value = raw.as_ref().map(|raw| shown(&name, raw));
    let hidden = raw.filter(|raw| value.as_ref() != Some(raw)).map(|raw| fingerprint(&name, &raw));
    PlannedVariable {
        name,
        action,
        value,
        at_start: None,
        hidden,
        layer: variable.layer,
        origin: variable.origin.clone(),
        reason: scrub(&variable.reason),
    }
}

/// The variables whose values nobody knows before the start.
fn at_start(spec: &LaunchSpec, plan: &Plan) -> Vec<PlannedVariable> {
    let fresh = |name: &str, what: &str, origin: &str, reason: &str| PlannedVariable {
        name: name.to_owned(),
        action: Action::Set,
        value: None,
        at_start: Some(what.to_owned()),
        hidden: None,
        layer: Layer::Contract,
        origin: origin.to_owned(),
        reason: reason.to_owned(),
    };
    let (contract, own) = (environment::CONTRACT, environment::NVLAUNCH);
    let counted = "0, and one more for each restart";
    let mut list = vec![
        fresh(env_vars::RUN_ID, "made up at the start", own, "no other run has this id"),
        fresh(env_vars::RESTART_COUNT, counted, contract, "number of the attempt"),
        fresh(env_vars::ATTEMPT, counted, own, "number of the attempt"),
    ];
    if spec.run_id.is_none() {
        list.push(fresh(env_vars::TORCH_RUN_ID, "made up at the start", contract, "id of the run"));
    }
    list.push(match plan.master_port {
        None => fresh(
            env_vars::MASTER_PORT,
            "a free port, another one for each attempt",
            contract,
            "where the ranks meet",
        ),
        Some(port) => {
            let origin = environment::of_setting(spec, &keys::MASTER_PORT);
            let origin = origin.unwrap_or_else(|| contract.to_owned());
            let fresh = fresh(env_vars::MASTER_PORT, "", &origin, "where the ranks meet");
            PlannedVariable { value: Some(port.to_string()), at_start: None, ..fresh }
        }
    });
    if let Compat::On(layer) = &plan.compat
        && let Some(known) = plan.common_env.iter().find(|own| own.name == env_vars::PYTHONPATH)
    {
        let yours = layer.python_path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let yours = yours.map_or(String::new(), |path| format!(", then {}", scrub(&path)));
        let what = format!("a folder of the run{yours}");
        list.push(fresh(env_vars::PYTHONPATH, &what, &known.origin, &known.reason));
    }
    if spec.logs.dir != LogDir::Off {
        let what = "a file of each rank in the run folder";
        let reason = "where @record of PyTorch writes its error";
        list.push(fresh(env_vars::ERROR_FILE, what, contract, reason));
        let what = match &spec.logs.dir {
            LogDir::Kept(dir) => format!("a new folder in {}", scrub(&dir.to_string_lossy())),
            _ => "a new temporary folder".to_owned(),
        };
        list.push(fresh(env_vars::RUN_DIR, &what, own, "the run folder"));
        let what = "a file in the run folder";
        let reason = "where rank 0 may write the step it has reached";
        list.push(fresh(env_vars::PROGRESS_FILE, what, own, reason));
    }
    if let Some(checkpoint) = &spec.checkpoint {
        let origin = environment::of_setting(spec, &keys::CHECKPOINT_DIR);
        let origin = origin.unwrap_or_else(|| own.to_owned());
        let dir = scrub(&checkpoint.dir.to_string_lossy());
        let what = format!("the newest whole checkpoint in {dir}");
        list.push(fresh(env_vars::RESUME_FROM, &what, &origin, "where to resume"));
        list.push(fresh(env_vars::RESUME_STEP, "its step", &origin, "where to resume"));
    }
    list
}

fn by_rank(plan: &Plan) -> Vec<ByRank> {
    let mut list: Vec<ByRank> = Vec::new();
    for (index, rank) in plan.ranks.iter().enumerate() {
        for variable in &rank.env {
            let name = variable.name.to_string_lossy().into_owned();
            let at = list.iter().position(|known| known.name == name).unwrap_or_else(|| {
                list.push(ByRank {
                    name: name.clone(),
                    values: vec![None; plan.ranks.len()],
                    layer: variable.layer,
                    origin: variable.origin.clone(),
                    reason: scrub(&variable.reason),
                });
                list.len() - 1
            });
            let value = variable.pair().map(|(_, value)| value.to_string_lossy().into_owned());
            list[at].values[index] = value.map(|value| shown(&name, &value));
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

fn settings(spec: &LaunchSpec) -> Vec<Setting> {
    let mut list: Vec<Setting> = spec
        .settings
        .iter()
        .map(|setting| {
            let is_default = matches!(setting.origin, Origin::Default(_));
            Setting {
                key: setting.key.to_owned(),
                value: shown(setting.key, &setting.value),
                origin: if is_default {
                    environment::DEFAULT.to_owned()
                } else {
                    setting.origin.to_string()
                },
                is_default,
            }
        })
        .collect();
    list.sort_by(|a, b| a.key.cmp(&b.key));
    list.dedup_by(|a, b| a.key == b.key);
    list
}

impl PlanDocument {
    /// The document as text, with a line end.
    pub fn render(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain values with text keys");
        text.push('\n');
        text
    }
}

/// Why a text is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Not JSON, or of another form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// JSON without a schema.
    #[error("there is no `schema` in it")]
    NoSchema,
    /// Written by a newer nvlaunch.
    #[error("its schema is {found}, and this nvlaunch knows {SCHEMA}")]
    Newer {
        /// Its schema.
        found: u64,
        /// The version that wrote it, where it says so.
        writer: Option<String>,
    },
}

/// Reads a plan that `nvlaunch plan --json` printed (J4).
pub fn read(text: &[u8]) -> Result<PlanDocument, DocumentError> {
    let value: Value = serde_json::from_slice(text)?;
    let found = value.get("schema").and_then(Value::as_u64).filter(|schema| *schema > 0);
    let found = found.ok_or(DocumentError::NoSchema)?;
    if found > u64::from(SCHEMA) {
        let writer = value.get("nvlaunch").and_then(Value::as_str).map(str::to_owned);
        return Err(DocumentError::Newer { found, writer });
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests;
