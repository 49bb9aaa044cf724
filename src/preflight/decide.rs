//! From facts and findings to backend, variables and verdict. Pure.
//!
//! - D1: an explicit backend is used or refused, never replaced.
//! - D2: every choice carries its reason and the evidence it rests on.
//! - D3: a variable that the user set is kept. The few that are set change nothing that a script
//!   could see, and none is called a cure that is none.
//! - D4: a launch is refused by an error that nothing cures.

use super::finding::{Evidence, Finding, Severity};
use super::judge::context::{Build, Cx};
use super::judge::environment::{NVML_DISABLE, nccl_reads};
use super::judge::vendors::backend_of;
use super::vendor::{self, Choice, Settled, facts_of, has_plugin, torch_fits};
use super::{BackendChoice, Intent, Judgement, VariableChoice, Verdict};
use crate::compat;
use crate::env_vars;
use crate::host::facts::HostFacts;
use crate::host::vendors::Vendor;

/// The name that `PyTorch` before 2.2 reads.
const OLD_ASYNC: &str = "NCCL_ASYNC_ERROR_HANDLING";

/// Decides.
pub fn decide(facts: &HostFacts, findings: Vec<Finding>, intent: &Intent) -> Judgement {
    let cx = Cx::new(facts, intent);
    let choice = vendor::choose(&cx);
    let chosen = backend(&cx, &choice);
    let is_cuda = choice.vendor.is_some_and(|vendor| vendor.torch_device == "cuda");
    let python = python(&cx);
    let backend = match cx.backends()[..] {
        [] => compat::backend(intent.compat, choice.name(), is_cuda, &python, chosen),
        // D1
        _ => chosen,
    };
    let variables = variables(&cx, &choice, &backend, &findings);
    Judgement {
        compat: compat::offered(intent.compat, choice.name(), is_cuda),
        python,
        verdict: verdict(&findings),
        vendor: choice.name().to_owned(),
        backend,
        findings,
        variables,
    }
}

/// Whether a launch may start (D4).
pub fn verdict(findings: &[Finding]) -> Verdict {
    let is_cured = |finding: &Finding| finding.mitigation.as_ref().is_some_and(|m| m.cures);
    let worst = findings.iter().map(|finding| match finding.severity {
        Severity::Error if is_cured(finding) => Verdict::Degraded,
        Severity::Error => Verdict::Refused,
        Severity::Warning => Verdict::Degraded,
        Severity::Note => Verdict::Ok,
    });
    worst.max().unwrap_or(Verdict::Ok)
}

/// What decides about scripts that insist on CUDA.
fn python(cx: &Cx<'_>) -> compat::Python {
    let python = &cx.facts.python;
    let of = |names: &[&str]| names.iter().find_map(|name| python.packages.get(*name)).cloned();
    compat::Python {
        torch: python.torch.as_ref().map(|torch| torch.version.clone()),
        is_cuda_build: cx.build() == Build::Cuda,
        mmengine: of(&["mmengine", "mmengine-lite"]),
        torch_gcu: of(&["torch-gcu", "torch_gcu"]),
    }
}

fn cite(source: impl Into<String>, value: impl Into<String>) -> Evidence {
    Evidence { source: source.into(), value: value.into() }
}

/// What there is to say of the devices and of `PyTorch`.
fn evidence(cx: &Cx<'_>, vendor: Option<&Vendor>) -> Vec<Evidence> {
    let mut list = Vec::new();
    if let Some(vendor) = vendor {
        let facts = facts_of(cx, vendor);
        let pci = facts.map_or(0, |facts| facts.pci);
        let nodes = facts.map_or(0, |facts| facts.nodes.len());
        list.push(cite(
            "/sys/bus/pci/devices",
            format!("{}: {pci} on the bus, {nodes} device nodes", vendor.title),
        ));
        for package in vendor.torch_packages {
            if let Some(version) = cx.facts.python.packages.get(*package) {
                list.push(cite(*package, format!("{version} is installed")));
            }
        }
    } else {
        list.push(cite("/sys/bus/pci/devices", "no accelerator that the ranks can use"));
    }
    if let Some(torch) = &cx.facts.python.torch {
        let build = match (&torch.cuda, &torch.hip, &torch.xpu) {
            (_, Some(hip), _) => format!("for ROCm {hip}"),
            (Some(cuda), ..) => format!("for CUDA {cuda}"),
            (.., Some(_)) => "for Intel's GPUs".to_owned(),
            _ => "for the CPU".to_owned(),
        };
        list.push(cite(&torch.source, format!("{} {build}", torch.version)));
    }
    list
}

/// The backend, and why (D1).
fn backend(cx: &Cx<'_>, choice: &Choice) -> BackendChoice {
    let make = |name: &str, reason: String, evidence: Vec<Evidence>| BackendChoice {
        name: name.to_owned(),
        reason,
        evidence,
    };
    if let Some(asked) = cx.intent.backend.as_deref().map(str::trim).filter(|b| !b.is_empty()) {
        return make(asked, "you asked for it".to_owned(), vec![cite("--backend", asked)]);
    }
    let list = evidence(cx, choice.vendor);
    let Some(vendor) = choice.vendor else {
        let why = if cx.has_nvidia() && cx.hides_nvidia() {
            "CUDA_VISIBLE_DEVICES hides every GPU"
        } else if super::judge::is_all_vfio(cx) {
            "the GPUs are set aside for virtual machines"
        } else {
            "there is no accelerator"
        };
        return make("gloo", why.to_owned(), list);
    };
    let title = vendor.title;
    match backend_of(cx, vendor) {
        Some(name) => {
            let reason = match choice.settled {
                Settled::User => format!("{title}, which a variable of yours chooses"),
                Settled::Torch => format!("{title}, the only one here that PyTorch is built for"),
                Settled::No => format!("{title} is taken until you say which is meant"),
                Settled::Alone if name == "nccl" && cx.build() == Build::Rocm => {
                    format!("{title} is here; RCCL answers to NCCL's name")
                }
                Settled::Alone if cx.build() == Build::Unknown => {
                    format!("{title} is here; PyTorch was not found")
                }
                Settled::Alone => format!("{title} is here, and this PyTorch is made for it"),
            };
            make(name, reason, list)
        }
        None if !torch_fits(cx, vendor) && !has_plugin(cx, vendor) => {
            make("gloo", format!("{title} is here, and its PyTorch plugin is not"), list)
        }
        None if !torch_fits(cx, vendor) => {
            make("gloo", format!("{title} is here, and this PyTorch cannot use it"), list)
        }
        None => make("gloo", format!("{title} is here, and its collective library is not"), list),
    }
}

/// The variables that the ranks get (D3).
fn variables(
    cx: &Cx<'_>,
    choice: &Choice,
    backend: &BackendChoice,
    findings: &[Finding],
) -> Vec<VariableChoice> {
    let mut list = Vec::new();
    let torch = cx.facts.python.torch.as_ref();
    let release = torch.map_or_else(
        || cite("torch", "was not found"),
        |torch| cite(&torch.source, format!("PyTorch is {}", torch.version)),
    );
    let mut set = |name: &str, value: &str, reason: String, evidence: Vec<Evidence>| {
        list.push(match cx.var(name) {
            Some(own) => VariableChoice {
                name: name.to_owned(),
                value: Some(own.to_owned()),
                is_users: true,
                reason: match cx.var_from(name) {
                    Some(place) => format!("{place} sets it, which is kept"),
                    None => "yours is kept".to_owned(),
                },
                evidence: vec![match cx.var_from(name) {
                    Some(place) => cite(place, format!("{name}={own}")),
                    None => cite(name, format!("is `{own}`")),
                }],
            },
            None => VariableChoice {
                name: name.to_owned(),
                value: Some(value.to_owned()),
                is_users: false,
                reason,
                evidence,
            },
        });
    };
    let reason = "as torchrun sets it: a rank does not wait for ever for one that is gone";
    set(env_vars::NCCL_ASYNC_ERROR_HANDLING, "1", reason.to_owned(), vec![release.clone()]);
    // Where the release is unknown, a newer PyTorch says that the old name is old, in ranks that use
    // NCCL; that costs a line, and an older one without it costs a job that hangs. Whoever set the
    // new name has spoken for both.
    let reads_old = match cx.torch() {
        Some(torch) => !torch.is_at_least(&[2, 2]),
        None => cx.var(env_vars::NCCL_ASYNC_ERROR_HANDLING).is_none(),
    };
    if reads_old {
        let reason = "the same under the name that PyTorch before 2.2 reads";
        set(OLD_ASYNC, "1", reason.to_owned(), vec![release]);
    }
    let cause = super::judge::nvml_cause(cx, findings);
    let broken = findings.iter().find(|finding| Some(&finding.code) == cause.as_ref());
    let uses_nccl = choice.is("cuda") && backend.name.split([',', ':']).any(|name| name == "nccl");
    if let Some(broken) = broken.filter(|_| uses_nccl) {
        let nccl = cx.facts.python.nccl.as_ref();
        let (reads, source) = match nccl_reads(cx, NVML_DISABLE) {
            Some(true) => ("this NCCL reads it", nccl.map(|nccl| nccl.path.clone())),
            Some(false) => (
                "the NCCL that the ranks load does not read it, so it cures nothing",
                nccl.map(|nccl| nccl.path.clone()),
            ),
            None => {
                ("no public NCCL up to 2.32.3 reads it, so it cures nothing that is known", None)
            }
        };
        let mut evidence: Vec<_> = broken.evidence.first().cloned().into_iter().collect();
        evidence.push(cite(source.unwrap_or_else(|| "NCCL".to_owned()), reads));
        set(
            NVML_DISABLE,
            "1",
            format!("NVML does not work here ({}); {reads}", broken.code),
            evidence,
        );
    }
    list
}

#[cfg(test)]
mod tests;
