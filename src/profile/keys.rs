//! Everything that a profile can say, in one table.
//!
//! A key that is added here is read, checked, described in the JSON schema and on the reference
//! page, and takes part in the layers of options. Its default and its text stand in
//! `launch-profiles/default.yaml`.
//!
//! - K1: every key has a default in that file, in the order of this table.
//! - K2: an option reads the variable `NVLAUNCH_<OPTION>`, and where torchrun has it `PET_<OPTION>`.

use super::form::{self, Form};
use crate::env_vars;
use crate::settings::error::Problem;
use crate::settings::values;

/// One key with a single value.
#[derive(Debug)]
pub struct Key {
    /// Section and name, `geometry.nproc`; a top-level key has no dot.
    pub path: &'static str,
    /// The option that says the same, `--nproc-per-node`.
    pub option: Option<&'static str>,
    /// Whether torchrun has that option.
    pub torchrun: bool,
    /// Another variable that says the same, below torchrun's.
    pub variable: Option<&'static str>,
    /// The word of a file that stands for "not given".
    pub unset: Option<&'static str>,
    /// What its value is.
    pub kind: Kind,
    /// Names that people may look for, for "did you mean".
    pub synonyms: &'static [&'static str],
}

/// What the value of a key is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A time with a unit, `30s`.
    Time,
    /// The same, more than none: whoever has no time at all never answers in time.
    Deadline,
    /// Any text.
    Text,
    /// The path of a file or folder.
    Path,
    /// A whole number.
    Number {
        /// The least.
        least: u32,
        /// The greatest.
        most: u32,
        /// Words that may stand in its place.
        words: &'static [&'static str],
    },
    /// A list, or its entries in one text with commas between them.
    List(Check),
    /// A text of some form.
    Form(Check),
}

/// A text of some form.
#[derive(Clone, Copy)]
pub struct Check {
    /// Reads it as the command line does.
    pub read: fn(&str) -> Result<(), Problem>,
    /// What it looks like; of a list, one entry.
    pub form: fn() -> Form,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Check")
    }
}

const BASE: Key = Key {
    path: "",
    option: None,
    torchrun: false,
    variable: None,
    unset: None,
    kind: Kind::Text,
    synonyms: &[],
};

const fn option(path: &'static str, option: &'static str, kind: Kind) -> Key {
    Key { path, option: Some(option), kind, ..BASE }
}

const fn torchrun(path: &'static str, option: &'static str, kind: Kind) -> Key {
    Key { path, option: Some(option), torchrun: true, kind, ..BASE }
}

const fn form(read: fn(&str) -> Result<(), Problem>, form: fn() -> Form) -> Kind {
    Kind::Form(Check { read, form })
}

const fn list(read: fn(&str) -> Result<(), Problem>, form: fn() -> Form) -> Kind {
    Kind::List(Check { read, form })
}

/// `geometry.nproc`
pub static NPROC: Key = Key {
    synonyms: &["nproc-per-node", "nproc_per_node", "gpus", "num-processes"],
    ..torchrun(
        "geometry.nproc",
        "--nproc-per-node",
        form(|text| values::nproc(text).map(drop), form::nproc),
    )
};
/// `geometry.nnodes`
pub static NNODES: Key = Key {
    synonyms: &["nodes", "num-nodes"],
    ..torchrun(
        "geometry.nnodes",
        "--nnodes",
        form(|text| values::one_node(text).map(drop), form::one_node),
    )
};
/// `geometry.role`
pub static ROLE: Key = torchrun("geometry.role", "--role", Kind::Text);
/// `geometry.virtual-local-rank`
pub static VIRTUAL_LOCAL_RANK: Key =
    torchrun("geometry.virtual-local-rank", "--virtual-local-rank", Kind::Flag);
/// `rendezvous.id`
pub static RUN_ID: Key = Key {
    unset: Some("auto"),
    synonyms: &["rdzv-id", "run-id", "job-id"],
    ..torchrun("rendezvous.id", "--rdzv-id", Kind::Text)
};
/// `rendezvous.master-addr`
pub static MASTER_ADDR: Key = torchrun(
    "rendezvous.master-addr",
    "--master-addr",
    form(|text| values::host(text).map(drop), form::host),
);
/// `rendezvous.master-port`
pub static MASTER_PORT: Key = Key {
    synonyms: &["port"],
    ..torchrun(
        "rendezvous.master-port",
        "--master-port",
        Kind::Number { least: 0, most: 65_535, words: &[] },
    )
};
/// `rendezvous.store`
pub static STORE: Key = option("rendezvous.store", "--store", Kind::Words(&["nvlaunch", "rank0"]));
/// `rendezvous.init-report-after`
pub static INIT_REPORT_AFTER: Key =
    option("rendezvous.init-report-after", "--init-report-after", Kind::Time);
/// `backend`
pub static BACKEND: Key = Key {
    unset: Some("auto"),
    ..option("backend", "--backend", form(|text| values::backend(text).map(drop), form::backend))
};
/// `compat`
pub static COMPAT: Key = Key {
    synonyms: &["compatibility"],
    ..option("compat", "--compat", Kind::Words(&["auto", "off", "cpu", "gcu"]))
};
/// `preflight.mode`
pub static PREFLIGHT: Key =
    option("preflight.mode", "--preflight", Kind::Words(&["auto", "full", "off"]));
/// `preflight.deadline`
pub static DEADLINE: Key = Key { path: "preflight.deadline", kind: Kind::Deadline, ..BASE };
/// `preflight.deadline-without-persistence`
pub static DEADLINE_WITHOUT_PERSISTENCE: Key =
    Key { path: "preflight.deadline-without-persistence", kind: Kind::Deadline, ..BASE };
/// `binding.numa`
pub static NUMA: Key = Key {
    unset: Some("none"),
    ..option(
        "binding.numa",
        "--numa-binding",
        Kind::Words(&["none", "node", "socket", "exclusive", "core-complex"]),
    )
};
/// `binding.omp-threads`
pub static OMP_THREADS: Key = Key {
    path: "binding.omp-threads",
    kind: Kind::Number { least: 1, most: 4096, words: &["auto", "keep"] },
    synonyms: &["omp-num-threads", "threads", "OMP_NUM_THREADS"],
    ..BASE
};
/// `program.python`
pub static PYTHON: Key =
    Key { unset: Some("auto"), ..option("program.python", "--python", Kind::Path) };
/// `warm.modules`
pub static WARM: Key = Key {
    unset: Some("none"),
    ..option("warm.modules", "--warm", list(|text| values::modules(text).map(drop), form::module))
};
/// `warm.at`
pub static WARM_AT: Key =
    option("warm.at", "--warm-at", Kind::Words(&["start", "restart", "both"]));
/// `warm.timeout`
pub static WARM_TIMEOUT: Key = option("warm.timeout", "--warm-timeout", Kind::Time);
/// `checkpoint.dir`
pub static CHECKPOINT_DIR: Key = Key {
    unset: Some("none"),
    synonyms: &["checkpoint-dir", "folder", "path", "ckpt-dir", "save-dir"],
    ..option("checkpoint.dir", "--checkpoint-dir", Kind::Path)
};
/// `checkpoint.layout`
pub static CHECKPOINT_LAYOUT: Key = Key {
    synonyms: &["format", "framework"],
    ..option("checkpoint.layout", "--checkpoint-layout", Kind::Words(values::LAYOUTS))
};
/// `checkpoint.pattern`
pub static CHECKPOINT_PATTERN: Key = Key {
    unset: Some("none"),
    ..option(
        "checkpoint.pattern",
        "--checkpoint-pattern",
        form(|text| values::checkpoint_pattern(text).map(drop), form::checkpoint_pattern),
    )
};
/// `checkpoint.resume-style`
pub static RESUME_STYLE: Key = Key {
    unset: Some("none"),
    ..option("checkpoint.resume-style", "--resume-style", Kind::Words(values::RESUME_STYLES))
};
/// `checkpoint.resume-arg`
pub static RESUME_ARG: Key = Key {
    unset: Some("none"),
    synonyms: &["resume-args"],
    ..option(
        "checkpoint.resume-arg",
        "--resume-arg",
        form(|text| values::resume_arg(text).map(drop), form::resume_arg),
    )
};
/// `checkpoint.expect-step`
pub static EXPECT_STEP: Key = Key {
    unset: Some("none"),
    synonyms: &["max-steps", "final-step"],
    ..option(
        "checkpoint.expect-step",
        "--expect-step",
        Kind::Number { least: 1, most: u32::MAX, words: &[] },
    )
};
/// `checkpoint.quarantine`
pub static QUARANTINE: Key = option("checkpoint.quarantine", "--quarantine", Kind::Flag);
/// `checkpoint.deadline`
pub static CHECKPOINT_DEADLINE: Key =
    Key { path: "checkpoint.deadline", kind: Kind::Deadline, ..BASE };
/// `restart.max`
pub static MAX_RESTARTS: Key = Key {
    synonyms: &["max-restarts", "retries"],
    ..torchrun(
        "restart.max",
        "--max-restarts",
        Kind::Number { least: 0, most: u32::MAX, words: &[] },
    )
};
/// `restart.backoff`
pub static BACKOFF: Key = Key {
    unset: Some("auto"),
    synonyms: &["delay", "wait"],
    ..option(
        "restart.backoff",
        "--restart-backoff",
        form(|text| values::backoff(text).map(drop), form::backoff),
    )
};
/// `restart.final-codes`
pub static FINAL_CODES: Key = Key {
    path: "restart.final-codes",
    unset: Some("none"),
    kind: list(|text| values::exit_codes(text).map(drop), form::exit_code),
    ..BASE
};
/// `restart.on-suspicious-success`
pub static ON_SUSPICIOUS_SUCCESS: Key = option(
    "restart.on-suspicious-success",
    "--on-suspicious-success",
    Kind::Words(&["warn", "fail"]),
);
/// `preemption.signals`
pub static STOP_SIGNAL: Key = Key {
    synonyms: &["stop-signal", "signal"],
    ..option(
        "preemption.signals",
        "--stop-signal",
        list(|text| values::stop_signals(text).map(drop), form::signal),
    )
};
/// `preemption.grace`
pub static PREEMPTION_GRACE: Key = Key {
    unset: Some("auto"),
    synonyms: &["timeout"],
    ..option("preemption.grace", "--preemption-grace", Kind::Time)
};
/// `preemption.requeue`
pub static REQUEUE: Key = option("preemption.requeue", "--requeue", Kind::Flag);
/// `shutdown.timeout`
pub static SHUTDOWN_TIMEOUT: Key = Key {
    variable: Some(env_vars::SHUTDOWN_TIMEOUT),
    synonyms: &["shutdown-timeout", "grace"],
    ..torchrun("shutdown.timeout", "--shutdown-timeout", Kind::Time)
};
/// `shutdown.signal-scope`
pub static SIGNAL_SCOPE: Key =
    option("shutdown.signal-scope", "--signal-scope", Kind::Words(&["rank", "group"]));
/// `shutdown.signals-to-handle`
pub static SIGNALS_TO_HANDLE: Key = torchrun(
    "shutdown.signals-to-handle",
    "--signals-to-handle",
    list(|text| values::signals(text).map(drop), form::signal),
);
/// `shutdown.keep-daemons`
pub static KEEP_DAEMONS: Key = option("shutdown.keep-daemons", "--keep-daemons", Kind::Flag);
/// `input.stdin`
pub static STDIN: Key =
    option("input.stdin", "--stdin", form(|text| values::stdin(text).map(drop), form::stdin));
/// `logs.dir`
pub static LOG_DIR: Key = Key {
    unset: Some("auto"),
    synonyms: &["log-dir", "folder", "directory"],
    ..torchrun("logs.dir", "--log-dir", Kind::Path)
};
/// `logs.redirects`
pub static REDIRECTS: Key = torchrun(
    "logs.redirects",
    "--redirects",
    form(|text| values::streams(text).map(drop), form::streams),
);
/// `logs.tee`
pub static TEE: Key =
    torchrun("logs.tee", "--tee", form(|text| values::streams(text).map(drop), form::streams));
/// `logs.prefix`
pub static PREFIX: Key = Key {
    variable: Some(env_vars::PREFIX_TEMPLATE),
    unset: Some("auto"),
    synonyms: &["log-line-prefix-template"],
    ..torchrun("logs.prefix", "--log-line-prefix-template", Kind::Text)
};
/// `logs.local-ranks`
pub static LOCAL_RANKS: Key = Key {
    unset: Some("all"),
    synonyms: &["local-ranks-filter"],
    ..torchrun(
        "logs.local-ranks",
        "--local-ranks-filter",
        list(|text| values::ranks(text).map(drop), form::rank),
    )
};
/// `logs.fold`
pub static FOLD: Key = Key { path: "logs.fold", kind: Kind::Flag, ..BASE };
/// `report.json`
pub static JSON_REPORT: Key = Key {
    unset: Some("none"),
    synonyms: &["json-report"],
    ..option("report.json", "--json-report", Kind::Path)
};

/// All of them, in the order of `default.yaml`.
pub static ALL: &[&Key] = &[
    &NPROC,
    &NNODES,
    &ROLE,
    &VIRTUAL_LOCAL_RANK,
    &RUN_ID,
    &MASTER_ADDR,
    &MASTER_PORT,
    &STORE,
    &INIT_REPORT_AFTER,
    &BACKEND,
    &COMPAT,
    &PREFLIGHT,
    &DEADLINE,
    &DEADLINE_WITHOUT_PERSISTENCE,
    &NUMA,
    &OMP_THREADS,
    &PYTHON,
    &WARM,
    &WARM_AT,
    &WARM_TIMEOUT,
    &CHECKPOINT_DIR,
    &CHECKPOINT_LAYOUT,
    &CHECKPOINT_PATTERN,
    &RESUME_STYLE,
    &RESUME_ARG,
    &EXPECT_STEP,
    &QUARANTINE,
    &CHECKPOINT_DEADLINE,
    &MAX_RESTARTS,
    &BACKOFF,
    &FINAL_CODES,
    &ON_SUSPICIOUS_SUCCESS,
    &STOP_SIGNAL,
    &PREEMPTION_GRACE,
    &REQUEUE,
    &SHUTDOWN_TIMEOUT,
    &SIGNAL_SCOPE,
    &SIGNALS_TO_HANDLE,
    &KEEP_DAEMONS,
    &STDIN,
    &LOG_DIR,
    &REDIRECTS,
    &TEE,
    &PREFIX,
    &LOCAL_RANKS,
    &FOLD,
    &JSON_REPORT,
];

/// Keys whose value is a map of its own, and what an entry is.
pub static MAPS: &[&str] = &["env", "preflight.severity", "restart.policy"];

/// Keys that say something of the file, not of a launch.
pub static HEADER: &[&str] = &["version", "description", "extends", "match"];

impl Key {
    /// The section and the name in it; a top-level key has no section.
    pub fn parts(&self) -> (Option<&'static str>, &'static str) {
        match self.path.split_once('.') {
            Some((section, name)) => (Some(section), name),
            None => (None, self.path),
        }
    }

    /// Reads a value as it stands in a file.
    pub fn check(&self, text: &str) -> Result<(), Problem> {
        if self.unset == Some(text) {
            return Ok(());
        }
        match self.kind {
            Kind::Flag => match text {
                "true" | "false" => Ok(()),
                _ => Err(Problem::new(
                    format!("`{text}` is neither true nor false"),
                    "write true or false",
                )),
            },
            Kind::Words(words) => values::one_of(text, words),
            Kind::Time => values::time_with_unit(text).map(drop),
            Kind::Deadline => values::deadline(text).map(drop),
            Kind::Path if text.is_empty() => {
                Err(Problem::new("the path is empty", "leave the line out for the default"))
            }
            Kind::Text | Kind::Path => Ok(()),
            Kind::Number { least, most, words } => values::number(text, least, most, words),
            Kind::List(check) | Kind::Form(check) => (check.read)(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_once_and_accepts_its_word_for_nothing() {
        for (at, key) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.path != key.path), "{}", key.path);
            if let Some(word) = key.unset {
                assert_eq!(key.check(word), Ok(()), "{}", key.path);
            }
        }
    }
}
