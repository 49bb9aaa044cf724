//! The ranks' variables: unknown, renamed, harmful, contradicting.
//!
//! - E1: a variable has one finding at most.
//! - E2: what a variable of NCCL is called is asked of the very libnccl that is loaded; without its
//!   list of names nothing is called unknown.

use std::collections::BTreeMap;

use super::context::{Cx, is_on};
use super::draft::Draft;
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};

/// The variable that no NCCL reads.
pub const NVML_DISABLE: &str = "NCCL_NVML_DISABLE";

/// Names that begin with `NCCL_` and are not NCCL's: build systems', plugins', the test suite's.
const FOREIGN: [&str; 16] = [
    "NCCL_HOME",
    "NCCL_ROOT",
    "NCCL_LIB",
    "NCCL_INCLUDE",
    "NCCL_VERSION",
    "NCCL_PREFIX",
    "NCCL_DIR",
    "NCCL_PATH",
    "NCCL_OFI_",
    "NCCL_NET_OFI",
    "NCCL_FASTRAK_",
    "NCCL_GPUVIZ",
    "NCCL_GCP_",
    "NCCL_UCX_",
    "NCCL_TESTS_",
    "NCCL_SHARP_",
];

/// A variable that `PyTorch` renamed: old, new, and the release since which the new one is read.
struct Renamed {
    old: &'static str,
    new: &'static str,
    since: &'static [u32],
    /// Whether the old name is read on beside the new one.
    is_alias: bool,
}

/// The names by release (strings of the wheels of 2.1.2 to 2.15.0).
const RENAMED: [Renamed; 5] = [
    Renamed {
        old: "NCCL_ASYNC_ERROR_HANDLING",
        new: "TORCH_NCCL_ASYNC_ERROR_HANDLING",
        since: &[2, 2],
        is_alias: true,
    },
    Renamed {
        old: "NCCL_BLOCKING_WAIT",
        new: "TORCH_NCCL_BLOCKING_WAIT",
        since: &[2, 2],
        is_alias: true,
    },
    Renamed {
        old: "NCCL_DESYNC_DEBUG",
        new: "TORCH_NCCL_DESYNC_DEBUG",
        since: &[2, 2],
        is_alias: true,
    },
    Renamed {
        old: "NCCL_ENABLE_TIMING",
        new: "TORCH_NCCL_ENABLE_TIMING",
        since: &[2, 2],
        is_alias: true,
    },
    Renamed { old: "ENABLE_NCCL_HEALTH_CHECK", new: "", since: &[2, 3], is_alias: false },
];

/// Names that an older `PyTorch` does not read, the release they come with, and its name before.
const LATER: [(&str, &[u32], &str); 7] = [
    ("TORCH_NCCL_ASYNC_ERROR_HANDLING", &[2, 2], "NCCL_ASYNC_ERROR_HANDLING"),
    ("TORCH_NCCL_BLOCKING_WAIT", &[2, 2], "NCCL_BLOCKING_WAIT"),
    ("TORCH_NCCL_DESYNC_DEBUG", &[2, 2], "NCCL_DESYNC_DEBUG"),
    ("TORCH_FR_BUFFER_SIZE", &[2, 8], "TORCH_NCCL_TRACE_BUFFER_SIZE"),
    ("TORCH_FR_DUMP_TEMP_FILE", &[2, 8], "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"),
    ("TORCH_FR_CPP_STACK", &[2, 8], "TORCH_NCCL_TRACE_CPP_STACK"),
    ("PYTORCH_ALLOC_CONF", &[2, 11], "PYTORCH_CUDA_ALLOC_CONF"),
];

/// What a harmful variable does.
struct Harm {
    name: &'static str,
    /// The value that harms; `None` is any that switches it on.
    value: Option<&'static str>,
    what: &'static str,
    /// Whether it only matters on NVIDIA's GPUs.
    only_nvidia: bool,
}

const fn harm(name: &'static str, what: &'static str) -> Harm {
    Harm { name, value: None, what, only_nvidia: true }
}

/// Variables that should not be left on (DCGM's software test, gpud, NCCL's documentation).
const HARMFUL: [Harm; 16] = [
    harm("NSIGHT_CUDA_DEBUGGER", "attaches a debugger"),
    harm("CUDA_INJECTION32_PATH", "loads foreign code into each rank"),
    harm("CUDA_INJECTION64_PATH", "loads foreign code into each rank"),
    harm("CUDA_AUTO_BOOST", "changes the clocks"),
    harm("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "writes a core dump of the GPU at an error"),
    harm("CUDA_COREDUMP_FILE", "names a core dump of the GPU"),
    harm("CUDA_DEVICE_WAITS_ON_EXCEPTION", "stops the GPU at an error and waits for a debugger"),
    harm("CUDA_PROFILE", "profiles"),
    harm("COMPUTE_PROFILE", "profiles"),
    harm("OPENCL_PROFILE", "profiles"),
    harm("CUDA_LAUNCH_BLOCKING", "makes every kernel launch wait for its end"),
    harm("NCCL_P2P_DISABLE", "keeps NCCL from NVLink and direct copies between GPUs"),
    harm("NCCL_SHM_DISABLE", "keeps NCCL from shared memory"),
    harm("NCCL_IB_DISABLE", "keeps NCCL from InfiniBand"),
    Harm { value: Some("TRACE"), ..harm("NCCL_DEBUG", "writes a line for every call") },
    Harm {
        value: Some("DETAIL"),
        only_nvidia: false,
        ..harm("TORCH_DISTRIBUTED_DEBUG", "compares every collective between all ranks first")
    },
];

/// The source of a variable that the shell has, which `unset` takes away; all others are files.
pub const SHELL: &str = "environment";

/// The ranks' variables, and below them what NCCL's files say; with the source of each: [`SHELL`], a
/// line of a profile, or a file of NCCL's.
pub fn variables<'a>(cx: &Cx<'a>) -> BTreeMap<&'a str, (&'a str, &'a str)> {
    let mut all = BTreeMap::new();
    for (name, value) in &cx.facts.variables {
        all.insert(name.as_str(), (value.as_str(), cx.var_from(name).unwrap_or(SHELL)));
    }
    for file in &cx.facts.nccl_conf {
        for (name, value) in &file.variables {
            all.entry(name.as_str()).or_insert((value.as_str(), file.path.as_str()));
        }
    }
    all
}

/// A variable as evidence, with where it was set.
pub fn cite(draft: Draft, name: &str, value: &str, source: &str) -> Draft {
    match source {
        SHELL => draft.evidence(name, format!("is `{value}`")),
        file => draft.evidence(file, format!("{name}={value}")),
    }
}

/// How variables of one source are taken away; `then` is the rest of the sentence.
pub fn take_away(draft: Draft, names: &[&str], source: &str, then: &str) -> Draft {
    let list = names.join(", ");
    match source {
        SHELL => {
            draft.remedy(format!("remove {list}{then}"), &[&format!("unset {}", names.join(" "))])
        }
        file if file.starts_with("/etc/") => {
            draft.root_remedy(format!("take {list} out of {file}{then}"), Vec::new())
        }
        file => draft.remedy(format!("take {list} out of {file}{then}"), &[]),
    }
}

/// Everything about variables. `nvml` is what explains that NVML does not work.
pub fn judge(cx: &Cx<'_>, uses_nccl: bool, nvml: Option<&Code>, out: &mut Vec<Finding>) {
    let all = variables(cx);
    let evidence = |draft: Draft, name: &str| match all.get(name) {
        Some((value, source)) => cite(draft, name, value, source),
        None => draft,
    };
    if uses_nccl {
        nvml_disable(cx, &all, nvml, &evidence, out);
        unknown(cx, &all, &evidence, out);
    }
    renamed(cx, &all, &evidence, out);
    harmful(cx, &all, uses_nccl, &evidence, out);
    conflicts(cx, &all, nvml, &evidence, out);
}

type Variables<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;
type Cite<'a> = dyn Fn(Draft, &str) -> Draft + 'a;

/// Whether the NCCL that is loaded reads a name; `None` is not known.
pub fn nccl_reads(cx: &Cx<'_>, name: &str) -> Option<bool> {
    let nccl = cx.facts.python.nccl.as_ref().filter(|nccl| !nccl.names.is_empty())?;
    Some(nccl.names.iter().any(|known| known == name))
}

fn nvml_disable(
    cx: &Cx<'_>,
    all: &Variables<'_>,
    nvml: Option<&Code>,
    cite: &Cite<'_>,
    out: &mut Vec<Finding>,
) {
    let is_set = all.get(NVML_DISABLE).is_some_and(|(value, _)| is_on(value));
    if !is_set || nccl_reads(cx, NVML_DISABLE) == Some(true) {
        return;
    }
    let draft = cite(
        Draft::new(
            code::NCCL_NVML_DISABLE_NOT_READ,
            "NCCL_NVML_DISABLE is set; no NCCL here reads it, and it cures nothing",
        ),
        NVML_DISABLE,
    );
    let draft = match cx.facts.python.nccl.as_ref().filter(|nccl| !nccl.names.is_empty()) {
        Some(nccl) => draft.evidence(
            &nccl.path,
            format!("the name is not among its {} variables", nccl.names.len()),
        ),
        None => draft.evidence("NCCL", "no release up to 2.32.3 contains the name"),
    };
    let draft = draft.remedy("remove it, or leave it: nothing changes", &[]);
    out.push(draft.follows(nvml).done());
}

fn unknown(cx: &Cx<'_>, all: &Variables<'_>, cite: &Cite<'_>, out: &mut Vec<Finding>) {
    let Some(nccl) = cx.facts.python.nccl.as_ref().filter(|nccl| !nccl.names.is_empty()) else {
        return;
    };
    let is_ours = |name: &str| {
        name == NVML_DISABLE
            || RENAMED.iter().any(|renamed| renamed.old == name)
            || FOREIGN.iter().any(|prefix| name.starts_with(prefix))
    };
    let strangers: Vec<_> = all
        .keys()
        .copied()
        .filter(|name| name.starts_with("NCCL_") && !is_ours(name))
        .filter(|name| !nccl.names.iter().any(|known| known == name))
        .collect();
    if strangers.is_empty() {
        return;
    }
    let mut draft = Draft::new(
        code::UNKNOWN_NCCL_ENV,
        format!("this NCCL does not know {}", strangers.join(", ")),
    )
    .severity(cx.for_gpu(Severity::Warning));
    for name in &strangers {
        draft = cite(draft, name);
    }
    draft = draft.evidence(&nccl.path, format!("knows {} variables, not these", nccl.names.len()));
    for name in &strangers {
        draft = match nearest(name, nccl.names.iter().map(String::as_str)) {
            Some(near) => draft.remedy(format!("in place of {name}: did you mean {near}?"), &[]),
            None => draft.remedy(format!("remove {name}"), &[]),
        };
    }
    out.push(draft.done());
}

/// The known name that is most like `name`, if one is like it.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What all names begin with would make all of them alike.
    let tail = |name: &str| name.strip_prefix("NCCL_").unwrap_or(name).to_owned();
    let like = |known: &str| strsim::damerau_levenshtein(&tail(name), &tail(known));
    let (distance, near) = known.map(|known| (like(known), known)).min()?;
    (distance * 3 <= tail(name).len().max(3)).then_some(near)
}

fn renamed(cx: &Cx<'_>, all: &Variables<'_>, cite: &Cite<'_>, out: &mut Vec<Finding>) {
    let Some(torch) = cx.torch() else { return };
    let text = cx.facts.python.torch.as_ref().map_or("", |torch| torch.version.as_str());
    let mut draft: Option<Draft> = None;
    let mut severity = Severity::Note;
    let mut names = Vec::new();
    let begin = |draft: &mut Option<Draft>| {
        draft.take().unwrap_or_else(|| Draft::new(code::DEPRECATED_TORCH_NCCL_ENV, ""))
    };
    for rename in &RENAMED {
        let has_new = all.contains_key(rename.new);
        if !all.contains_key(rename.old) || has_new || !torch.is_at_least(rename.since) {
            continue;
        }
        let what = if rename.new.is_empty() {
            format!("{} does nothing any more: remove it", rename.old)
        } else {
            format!("{} is called {} now", rename.old, rename.new)
        };
        if !rename.is_alias {
            severity = severity.max(Severity::Warning);
        }
        draft = Some(cite(begin(&mut draft), rename.old).remedy(what, &[]));
        names.push(rename.old);
    }
    for (name, since, before) in LATER {
        if !all.contains_key(name) || all.contains_key(before) || torch.is_at_least(since) {
            continue;
        }
        let release = since.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        severity = severity.max(Severity::Warning);
        let what = format!("before PyTorch {release} {name} is called {before}");
        draft = Some(cite(begin(&mut draft), name).remedy(what, &[]));
        names.push(name);
    }
    let Some(draft) = draft else { return };
    let source = cx.facts.python.torch.as_ref().map_or("", |torch| torch.source.as_str());
    let summary = format!("PyTorch {text} has other names for {}", names.join(", "));
    let draft = draft.evidence(source, format!("PyTorch is {text}")).summary(summary);
    out.push(draft.severity(severity).done());
}

fn harmful(
    cx: &Cx<'_>,
    all: &Variables<'_>,
    uses_nccl: bool,
    cite: &Cite<'_>,
    out: &mut Vec<Finding>,
) {
    let is_bad = |harm: &&Harm| {
        let Some((value, _)) = all.get(harm.name) else { return false };
        let harms = match harm.value {
            Some(bad) => value.trim().eq_ignore_ascii_case(bad),
            None => is_on(value),
        };
        let is_felt = match harm.name {
            _ if !harm.only_nvidia => true,
            _ if !uses_nccl => false,
            // Switching off what is not there loses nothing.
            "NCCL_IB_DISABLE" => !cx.facts.network.infiniband.is_empty(),
            "NCCL_P2P_DISABLE" | "NCCL_SHM_DISABLE" => !cx.is_single(),
            _ => true,
        };
        harms && is_felt
    };
    let found: Vec<_> = HARMFUL.iter().filter(is_bad).collect();
    if found.is_empty() {
        return;
    }
    let names: Vec<_> = found.iter().map(|harm| harm.name).collect();
    let mut draft =
        Draft::new(code::DEBUG_ENV_LEFT_ON, format!("left on, and costly: {}", names.join(", ")));
    for harm in &found {
        draft = cite(draft, harm.name).remedy(format!("{} {}", harm.name, harm.what), &[]);
    }
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        places.entry(all.get(name).map_or(SHELL, |(_, source)| source)).or_default().push(name);
    }
    for (source, names) in places {
        draft = take_away(draft, &names, source, ", unless you are debugging");
    }
    out.push(draft.done());
}

fn conflicts(
    cx: &Cx<'_>,
    all: &Variables<'_>,
    nvml: Option<&Code>,
    cite: &Cite<'_>,
    out: &mut Vec<Finding>,
) {
    let on = |name: &str| all.get(name).is_some_and(|(value, _)| is_on(value));
    let off = |name: &str| all.get(name).is_some_and(|(value, _)| value.trim() == "0");
    let async_handling = "TORCH_NCCL_ASYNC_ERROR_HANDLING";
    let blocking =
        ["TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT"].into_iter().find(|name| on(name));
    let mut add = |summary: &str, names: &[&str], remedy: &str, severity, cause: Option<&Code>| {
        let mut draft = Draft::new(code::VARIABLE_CONFLICT, summary).severity(severity);
        for name in names {
            draft = cite(draft, name);
        }
        out.push(draft.remedy(remedy, &[]).follows(cause).done());
    };
    if let Some(blocking) = blocking.filter(|_| on(async_handling)) {
        add(
            "blocking waits and asynchronous error handling exclude each other; blocking wins",
            &[blocking, async_handling],
            "remove one of them",
            Severity::Warning,
            None,
        );
    } else if off(async_handling) && blocking.is_none() {
        add(
            "a rank that waits for a dead one hangs for ever: asynchronous error handling is off",
            &[async_handling],
            "remove it; nvlaunch sets 1",
            Severity::Note,
            None,
        );
    }
    if all.contains_key("PYTORCH_CUDA_ALLOC_CONF")
        && all.contains_key("PYTORCH_ALLOC_CONF")
        && cx.torch().is_none_or(|torch| torch.is_at_least(&[2, 11]))
        && all.get("PYTORCH_CUDA_ALLOC_CONF").map(|v| v.0)
            != all.get("PYTORCH_ALLOC_CONF").map(|v| v.0)
    {
        add(
            "two names for the allocator's settings say different things",
            &["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"],
            "keep PYTORCH_ALLOC_CONF",
            Severity::Warning,
            None,
        );
    }
    if nvml.is_some() && on("PYTORCH_NVML_BASED_CUDA_CHECK") {
        add(
            "PyTorch is told to ask NVML for its devices, and NVML does not work",
            &["PYTORCH_NVML_BASED_CUDA_CHECK"],
            "remove it until NVML works",
            Severity::Warning,
            nvml,
        );
    }
    if nvml.is_some() && off(NVML_DISABLE) {
        add(
            "nvlaunch would set NCCL_NVML_DISABLE=1 here; what you set is kept",
            &[NVML_DISABLE],
            "nothing has to be done: no NCCL reads it",
            Severity::Note,
            nvml,
        );
    }
}
