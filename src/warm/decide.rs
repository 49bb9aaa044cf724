//! Whether ranks can be warm, as far as that is known before anything is started. Pure.
//!
//! - D1: nothing is refused that works: what depends on the interpreter itself (its version, its
//!   flags, what an import leaves) is looked at by the template, which says why not.
//! - D2: a variable that is read while modules are imported must be the same for all ranks: the
//!   template has one value. Python's names are among them. Names of the launcher's contract are
//!   not: scripts read them; a module that does so while it is imported is found by the template.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use crate::env_vars;
use crate::host::vendors;
use crate::plan::{EnvChange, RankPlan, Variable};
use crate::settings::spec::{LaunchSpec, Target, WarmAt};

/// Whether ranks are forked from a template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Warmth {
    /// Nobody asked for it.
    #[default]
    Off,
    /// They are.
    Warm(WarmPlan),
    /// They are not, though it was asked for.
    Cold {
        /// Why, for people.
        reason: String,
    },
}

/// How ranks are forked from a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmPlan {
    /// Modules that the template imports, in this order.
    pub modules: Vec<String>,
    /// Which attempts get warm ranks.
    pub at: WarmAt,
    /// How long the imports may take.
    pub deadline: Duration,
    /// The template's variables over the caller's environment, as a rank's without its own.
    pub env: Vec<(OsString, OsString)>,
    /// Names of variables that are a rank's own, or an attempt's.
    pub own_names: Vec<OsString>,
    /// What the path of a device that must not be open begins with.
    pub devices: Vec<String>,
}

impl WarmPlan {
    /// Whether this attempt gets warm ranks.
    pub fn is_for(&self, attempt: u32) -> bool {
        match self.at {
            WarmAt::Start => attempt == 0,
            WarmAt::Restart => attempt > 0,
            WarmAt::Both => true,
        }
    }
}

impl Warmth {
    /// One line for the user; `None` where nothing was asked for.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Cold { reason } => Some(format!("ranks start cold: {reason}")),
            Self::Warm(plan) => {
                let when = match plan.at {
                    WarmAt::Start => " at the start",
                    WarmAt::Restart => " at restarts",
                    WarmAt::Both => "",
                };
                let modules = plan.modules.join(", ");
                let is_fixed = plan.env.iter().any(|(name, _)| name == env_vars::PYTHONHASHSEED);
                let seed = if is_fixed { "" } else { "; all ranks share one hash seed" };
                Some(format!("ranks start warm{when}, with {modules} imported once{seed}"))
            }
        }
    }
}

/// Variables of an attempt: nobody knows them when the template starts.
const OF_ATTEMPT: &[&str] =
    &[env_vars::MASTER_PORT, env_vars::RESTART_COUNT, env_vars::ATTEMPT, env_vars::ERROR_FILE];

/// What libraries read while they are loaded begins with one of these.
const READ_AT_IMPORT: &[&str] = &[
    "OMP_",
    "GOMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_",
    "GOTO_",
    "BLIS_",
    "VECLIB_",
    "NUMEXPR_",
    "ATEN_",
    "TORCH_",
    "PYTORCH_",
    "LD_",
    "PYTHON",
    "MALLOC_",
    "GLIBC_",
    "LC_",
    "LANG",
];

/// Names among those that `PyTorch` reads only when a job uses them: its contract with launchers.
const READ_LATE: &[&str] = &["TORCHELASTIC_", "TORCH_NCCL_", "TORCH_ELASTIC_"];

fn is_read_at_import(name: &OsStr) -> bool {
    let is_of =
        |list: &[&str]| list.iter().any(|head| name.as_bytes().starts_with(head.as_bytes()));
    is_of(READ_AT_IMPORT) && !is_of(READ_LATE)
}

/// Decides it. `common` and `ranks` are the plan's; `hash_seed` is the caller's.
pub fn decide(
    spec: &LaunchSpec,
    hash_seed: Option<&OsStr>,
    common: &[Variable],
    ranks: &[RankPlan],
) -> Warmth {
    let Some(warm) = &spec.warm else { return Warmth::Off };
    let cold = |reason: String| Warmth::Cold { reason };
    if matches!(spec.target, Target::Program(_)) {
        return cold("--no-python starts a program that nvlaunch cannot look into".to_owned());
    }
    if warm.at == WarmAt::Restart && spec.max_restarts == 0 {
        return cold("--warm-at restart, and there are no restarts".to_owned());
    }
    let (first, others) = match ranks {
        [] => return cold("there are no ranks".to_owned()),
        [first, others @ ..] => (first, others),
    };
    let pairs = |rank: &RankPlan| -> Vec<(OsString, OsString)> {
        rank.env.iter().filter_map(Variable::pair).collect()
    };
    let of_others: Vec<_> = others.iter().map(pairs).collect();
    let of_first = pairs(first);
    let same = |entry: &(OsString, OsString)| of_others.iter().all(|env| env.contains(entry));
    let mut own_names: Vec<OsString> = OF_ATTEMPT.iter().map(OsString::from).collect();
    let of_all = std::iter::once(&of_first).chain(&of_others).flatten();
    for (name, _) in of_all.filter(|entry| !same(entry)) {
        if !own_names.contains(name) {
            own_names.push(name.clone());
        }
    }
    if let Some(name) = own_names.iter().find(|name| is_read_at_import(name)) {
        let name = name.display();
        return cold(format!("{name} differs from rank to rank and is read at import"));
    }
    let mut env: Vec<(OsString, OsString)> = common
        .iter()
        .filter_map(|variable| match &variable.change {
            EnvChange::Set(value) => Some((variable.name.clone(), value.clone())),
            EnvChange::Keep(_) | EnvChange::Remove => None,
        })
        .collect();
    let is_own = |name: &OsString| own_names.contains(name);
    env.extend(of_first.iter().filter(|(name, _)| !is_own(name)).cloned());
    env.retain(|(name, _)| !is_own(name));
    if let Some(seed) = hash_seed.filter(|seed| !seed.is_empty() && *seed != "random")
        && !env.iter().any(|(name, _)| name == env_vars::PYTHONHASHSEED)
    {
        env.push((env_vars::PYTHONHASHSEED.into(), seed.to_owned()));
    }
    Warmth::Warm(WarmPlan {
        modules: warm.modules.clone(),
        at: warm.at,
        deadline: warm.deadline,
        env,
        own_names,
        devices: vendors::node_prefixes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Invocation};
    use crate::plan::Layer;
    use crate::profile::layer::Files;
    use crate::settings::{self, env::Env};

    fn spec(words: &[&str]) -> LaunchSpec {
        let line = ["nvlaunch"].iter().chain(words).map(OsString::from).collect();
        let env = Env::default();
        match cli::parse(line, &env) {
            Ok(Invocation::Run(args)) => {
                let files = Files::embedded().expect("the file is right");
                settings::resolve(&args, &env, &files).expect("settings")
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn decided(name: &str, value: Option<&str>) -> Variable {
        Variable {
            name: name.into(),
            change: value.map_or(EnvChange::Remove, |value| EnvChange::Set(value.into())),
            layer: Layer::Contract,
            origin: String::new(),
            reason: String::new(),
        }
    }

    fn ranks(env: &[&[(&str, &str)]]) -> Vec<RankPlan> {
        let rank = |(local_rank, env): (u32, &&[(&str, &str)])| RankPlan {
            local_rank,
            rank: local_rank,
            program: "python".into(),
            args: Vec::new(),
            env: env.iter().map(|(name, value)| decided(name, Some(value))).collect(),
            device: None,
            numa_node: None,
            unplaced: None,
            cpus: None,
            cpu_count: 1,
        };
        (0..).zip(env).map(rank).collect()
    }

    #[test]
    fn who_is_warm_and_why_not() {
        let plain: &[&[(&str, &str)]] = &[&[("RANK", "0")], &[("RANK", "1")]];
        let omp: &[&[(&str, &str)]] = &[&[("OMP_NUM_THREADS", "2")], &[("OMP_NUM_THREADS", "4")]];
        let missing: &[&[(&str, &str)]] = &[&[("LD_PRELOAD", "x")], &[]];
        let same: &[&[(&str, &str)]] = &[&[("OMP_NUM_THREADS", "2")], &[("OMP_NUM_THREADS", "2")]];
        for (words, env, expected) in [
            (&["t.py"][..], plain, ""),
            (&["--warm", "t.py"], plain, "warm"),
            (&["--warm", "-m", "t"], plain, "warm"),
            (&["--warm", "t.py"], same, "warm"),
            (&["--warm", "t.py"], omp, "OMP_NUM_THREADS differs"),
            (&["--warm", "t.py"], missing, "LD_PRELOAD differs"),
            (&["--warm", "--no-python", "t"], plain, "--no-python"),
            (&["--warm", "--warm-at", "restart", "t.py"], plain, "no restarts"),
            (&["--warm", "--warm-at", "restart", "--max-restarts", "1", "t.py"], plain, "warm"),
        ] {
            let warmth = decide(&spec(words), None, &[], &ranks(env));
            let is_as_expected = match (&warmth, expected) {
                (Warmth::Off, "") | (Warmth::Warm(_), "warm") => true,
                (Warmth::Cold { reason }, why) => !why.is_empty() && reason.contains(why),
                _ => false,
            };
            assert!(is_as_expected, "{words:?} {env:?}: {warmth:?}");
        }
    }

    #[test]
    fn the_template_has_what_is_the_same_for_all_ranks() {
        let env: &[&[(&str, &str)]] = &[&[("RANK", "0"), ("A", "x")], &[("RANK", "1"), ("A", "x")]];
        let common =
            [decided("WORLD_SIZE", Some("2")), decided("OLD", None), decided("RANK", Some("9"))];
        let seed = Some(OsStr::new("7"));
        let Warmth::Warm(plan) = decide(&spec(&["--warm", "t.py"]), seed, &common, &ranks(env))
        else {
            panic!("ranks are warm");
        };
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let expected = [pair("WORLD_SIZE", "2"), pair("A", "x"), pair("PYTHONHASHSEED", "7")];
        assert_eq!(plan.env, expected);
        assert!(plan.own_names.contains(&"RANK".into()) && !plan.own_names.contains(&"A".into()));
        assert!(plan.own_names.contains(&"MASTER_PORT".into()));
        assert!(plan.devices.contains(&"/dev/nvidia".to_owned()));
        assert!(!Warmth::Warm(plan).note().expect("a note").contains("seed"), "it is fixed");
    }

    #[test]
    fn names_that_are_read_at_import() {
        for (name, expected) in [
            ("OMP_NUM_THREADS", true),
            ("MKL_NUM_THREADS", true),
            ("KMP_AFFINITY", true),
            ("OPENBLAS_NUM_THREADS", true),
            ("TORCH_LOGS", true),
            ("LD_PRELOAD", true),
            ("PYTHONHASHSEED", true),
            ("TORCHELASTIC_ERROR_FILE", false),
            ("TORCHELASTIC_RESTART_COUNT", false),
            ("TORCH_NCCL_ASYNC_ERROR_HANDLING", false),
            ("RANK", false),
            ("CUDA_VISIBLE_DEVICES", false),
            ("NCCL_SOCKET_IFNAME", false),
        ] {
            assert_eq!(is_read_at_import(OsStr::new(name)), expected, "{name}");
        }
    }
}
