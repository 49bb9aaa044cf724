//! Who decides a variable, what is said of it, and what two plans differ in.

use std::ffi::OsString;
use std::sync::Arc;

use super::*;
use crate::host::target::ProgramFact;
use crate::plan::{diff, text};
use crate::preflight::{BackendChoice, VariableChoice};
use crate::profile::layer::Files;
use crate::settings::env::Env;
use crate::settings::spec::ProfileVariable;

const LINES: [&str; 5] = ["NCCL_DEBUG", "NCCL_IB_HCA", "OMP_NUM_THREADS", "HF_TOKEN", "RANK"];

/// A profile that speaks of variables: name, value, reason; its lines follow [`LINES`].
fn profile(spec: &mut LaunchSpec, said: &[(&str, Option<&str>, Option<&str>)], own: &Env) {
    let file: Arc<str> = "site.yaml".into();
    for (name, value, why) in said {
        let at = LINES.iter().position(|known| known == name).unwrap_or(LINES.len());
        let line = u32::try_from(at + 1).expect("few lines");
        let variable = ProfileVariable {
            value: value.map(str::to_owned),
            why: why.map(str::to_owned),
            origin: Origin::File { file: file.clone(), line },
            is_kept: own.get(name).is_some(),
        };
        spec.env.insert((*name).to_owned(), variable);
    }
}

struct Case<'a> {
    words: &'a [&'a str],
    caller: &'a [(&'a str, &'a str)],
    profile: &'a [(&'a str, Option<&'a str>, Option<&'a str>)],
    preflight: &'a [(&'a str, Option<&'a str>)],
}

const NOTHING: Case<'_> = Case { words: &["t.py"], caller: &[], profile: &[], preflight: &[] };

impl Case<'_> {
    fn plan(&self) -> (Plan, PlanDocument) {
        let own: Env = self.caller.iter().copied().collect();
        let line = std::iter::once("nvlaunch").chain(self.words.iter().copied());
        let line = line.map(OsString::from).collect();
        let Ok(crate::cli::Invocation::Run(args)) = crate::cli::parse(line, &own) else {
            panic!("{:?} is no run", self.words)
        };
        let files = Files::embedded().expect("the file is right");
        let mut spec = crate::settings::resolve(&args, &own, &files).expect("settings");
        profile(&mut spec, self.profile, &own);
        let facts = Facts {
            has_proc: true,
            cpus: (0..4).collect(),
            program: ProgramFact::Found("/env/bin/python".into()),
            store_addresses: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            fresh_run_id: "fresh".to_owned(),
            caller: crate::host::Caller {
                omp_num_threads: own.get("OMP_NUM_THREADS").map(OsStr::to_owned),
                variables: crate::host::variables::of_caller(&own, |name| {
                    spec.env.contains_key(name)
                }),
                ..crate::host::Caller::default()
            },
            ..Facts::default()
        };
        let choice = |(name, value): &(&str, Option<&str>)| VariableChoice {
            name: (*name).to_owned(),
            value: value.map(str::to_owned),
            is_users: false,
            reason: "preflight's reason".to_owned(),
            evidence: Vec::new(),
        };
        let judgement = Judgement {
            verdict: Verdict::Ok,
            vendor: "cpu".to_owned(),
            backend: BackendChoice {
                name: "gloo".to_owned(),
                reason: "there is no accelerator".to_owned(),
                evidence: Vec::new(),
            },
            findings: Vec::new(),
            variables: self.preflight.iter().map(choice).collect(),
            compat: None,
            python: crate::compat::Python::default(),
        };
        let judgement = Some(&judgement);
        let plan = crate::plan::decide(&spec, &facts, judgement).expect("a plan");
        let document = document(Decided { spec: &spec, facts: &facts, judgement, plan: &plan });
        (plan, document)
    }

    /// `action value (origin): reason`, and whether the runtime does the same.
    fn of(&self, name: &str) -> String {
        let (plan, document) = self.plan();
        let attempt = crate::plan::AttemptEnv {
            attempt: 0,
            master_port: 1,
            error_file: None,
            run_dir: None,
            resume: None,
        };
        let given = plan.rank_env(0, &attempt);
        let given = given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let is_removed = plan.removed_env().any(|removed| removed == name);
        let Some(found) = document.variables.iter().find(|known| known.name == name) else {
            return format!("nothing; the rank gets {given:?}");
        };
        match found.action {
            Action::Set => assert!(given.is_some(), "{name} is not set"),
            Action::Keep => assert!(given.is_none() && !is_removed, "{name} is not inherited"),
            Action::Remove => assert!(given.is_none(), "{name} is set"),
        }
        let value = found.value.clone().unwrap_or_default();
        format!("{:?} {value} ({}): {}", found.action, found.origin, found.reason)
    }
}

#[test]
fn who_decides_a_variable() {
    let (caller, profile): (&[_], &[_]) =
        (&[("NCCL_DEBUG", "INFO")], &[("NCCL_DEBUG", Some("WARN"), Some("logs are full"))]);
    let preflight: &[_] = &[("NCCL_DEBUG", Some("VERSION"))];
    let all = Case { caller, profile, preflight, ..NOTHING };
    let kept = "Keep INFO (your environment): yours is kept; site.yaml:1 says otherwise";
    assert_eq!(all.of("NCCL_DEBUG"), kept);
    let two = Case { profile, preflight, ..NOTHING };
    assert_eq!(two.of("NCCL_DEBUG"), "Set WARN (site.yaml:1): logs are full");
    let one = Case { preflight, ..NOTHING };
    assert_eq!(one.of("NCCL_DEBUG"), "Set VERSION (preflight): preflight's reason");
    assert_eq!(NOTHING.of("NCCL_DEBUG"), "nothing; the rank gets None");
    let alone = Case { caller, ..NOTHING };
    assert_eq!(alone.of("NCCL_DEBUG"), "Keep INFO (your environment): kept as it is");
    let same = Case { caller, profile: &[("NCCL_DEBUG", Some("INFO"), None)], ..NOTHING };
    assert!(same.of("NCCL_DEBUG").ends_with("yours is kept; site.yaml:1 says the same"));
    // No reason given is said too.
    let bare = Case { profile: &[("NCCL_IB_HCA", Some("mlx5"), None)], ..NOTHING };
    assert_eq!(bare.of("NCCL_IB_HCA"), "Set mlx5 (site.yaml:2): the profile says so");
}

#[test]
fn a_profile_takes_away_what_comes_below_it_and_nothing_of_the_callers() {
    let profile: &[_] = &[
        ("NCCL_DEBUG", None, Some("nobody reads it")),
        ("OMP_NUM_THREADS", None, None),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", None, None),
    ];
    let words: &[_] = &["--nproc", "2", "t.py"];
    let preflight: &[_] = &[("NCCL_DEBUG", Some("WARN"))];
    let case = Case { words, profile, preflight, ..NOTHING };
    assert_eq!(case.of("NCCL_DEBUG"), "Remove  (site.yaml:1): nobody reads it");
    assert_eq!(case.of("OMP_NUM_THREADS"), "Remove  (site.yaml:3): the profile says so");
    assert!(case.of("TORCH_NCCL_ASYNC_ERROR_HANDLING").starts_with("Remove  (site.yaml:6)"));
    let case = Case { caller: &[("NCCL_DEBUG", "INFO")], ..case };
    assert!(case.of("NCCL_DEBUG").starts_with("Keep INFO (your environment)"));
}

#[test]
fn the_contract_comes_before_everything() {
    let profile: &[_] = &[("RANK", Some("9"), None)];
    let caller: &[_] = &[("RANK", "7"), ("WORLD_SIZE", "9"), ("TORCHELASTIC_TIMER_FILE", "/x")];
    let case = Case { caller, profile, preflight: &[("WORLD_SIZE", Some("9"))], ..NOTHING };
    assert_eq!(case.of("WORLD_SIZE"), "Set 1 (torchrun's contract): ranks of the job");
    let (_, document) = case.plan();
    let rank = document.rank_variables.iter().find(|known| known.name == "RANK");
    assert_eq!(rank.expect("it is there").values, [Some("0".to_owned())]);
    assert!(document.variables.iter().all(|known| known.name != "RANK"), "RANK stands twice");
    // What an outer run has left is named only where it is there.
    let gone = case.of("TORCHELASTIC_TIMER_FILE");
    assert_eq!(gone, "Remove  (torchrun's contract): belongs to a run around this one");
    assert!(NOTHING.of("TORCHELASTIC_TIMER_FILE").starts_with("nothing"));
    // Options say where they are from.
    let words: &[_] = &["--role", "x", "--max-restarts", "2", "--backend", "gloo", "t.py"];
    let case = Case { words, ..NOTHING };
    assert_eq!(case.of("ROLE_NAME"), "Set x (--role): name of the role");
    assert!(case.of("TORCHELASTIC_MAX_RESTARTS").starts_with("Set 2 (--max-restarts)"));
    assert!(case.of("NVLAUNCH_BACKEND").starts_with("Set gloo (--backend)"));
    assert!(NOTHING.of("NVLAUNCH_BACKEND").starts_with("Set gloo (preflight)"));
}

#[test]
fn a_document_is_read_back_as_it_was() {
    let profile: &[_] = &[("HF_TOKEN", Some("Zq7Xw"), Some("see https://me:Zq7Xw@wiki"))];
    let words: &[_] = &["--nproc", "3", "t.py", "--password", "Zq7Xw"];
    let (_, document) = Case { words, profile, ..NOTHING }.plan();
    let json = document.render();
    assert_eq!(read(json.as_bytes()).expect("it is one"), document);
    let text = text::render(&document);
    for said in [&json, &text] {
        assert!(!said.contains("Zq7Xw"), "{said}");
        assert!(said.contains("site.yaml:4"), "{said}");
    }
    assert!(text.contains("  HF_TOKEN=***"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // Fields of a later version are passed over.
    let later = json.replacen("\"schema\": 1,", "\"schema\": 1, \"more\": [1],", 1);
    assert_eq!(read(later.as_bytes()).expect("it is one"), document);
    let newer = json.replacen("\"schema\": 1,", "\"schema\": 2,", 1);
    assert!(matches!(read(newer.as_bytes()), Err(DocumentError::Newer { found: 2, .. })));
    assert!(matches!(read(b"{\"schema\": 0}"), Err(DocumentError::NoSchema)));
}

/// Makes another plan of a plan.
type Change<'a> = &'a dyn Fn(&mut PlanDocument);

#[test]
fn what_is_a_difference() {
    let words: &[_] = &["--nproc", "4", "t.py", "--token", "a"];
    let profile: &[_] = &[("HF_TOKEN", Some("abc"), None), ("NCCL_DEBUG", Some("WARN"), None)];
    let (_, before) = Case { words, profile, ..NOTHING }.plan();
    let changed = |change: &dyn Fn(&mut PlanDocument)| {
        let mut now = before.clone();
        change(&mut now);
        let said = diff::differences(&before, &now);
        said.into_iter().map(|one| format!("{}: {}", one.name, one.words)).collect::<Vec<_>>()
    };
    let variable = |plan: &mut PlanDocument, name: &str, change: &dyn Fn(&mut PlannedVariable)| {
        let found = plan.variables.iter_mut().find(|known| known.name == name);
        change(found.expect("it is there"));
    };
    assert!(changed(&|_| {}).is_empty());
    let other_words = changed(&|plan| {
        variable(plan, "NCCL_DEBUG", &|found| found.reason = "another".to_owned());
        variable(plan, "NCCL_DEBUG", &|found| found.origin = "site.yaml:99".to_owned());
        plan.notes.push("a note".to_owned());
    });
    assert!(other_words.is_empty(), "{other_words:?}");
    let table: [(Change<'_>, &str); 9] = [
        (
            &|plan| variable(plan, "NCCL_DEBUG", &|v| v.value = Some("INFO".to_owned())),
            "NCCL_DEBUG: was WARN (site.yaml:1), is INFO (site.yaml:1)",
        ),
        (
            &|plan| variable(plan, "NCCL_DEBUG", &|v| v.origin = "other.yaml:1".to_owned()),
            "NCCL_DEBUG: was WARN (site.yaml:1), is WARN (other.yaml:1)",
        ),
        (
            &|plan| plan.variables.retain(|known| known.name != "NCCL_DEBUG"),
            "NCCL_DEBUG: is gone: WARN (site.yaml:1)",
        ),
        (
            &|plan| variable(plan, "HF_TOKEN", &|v| v.hidden = Some("xx".to_owned())),
            "HF_TOKEN: is a secret, and has changed (site.yaml:4)",
        ),
        (
            &|plan| plan.ranks.iter_mut().skip(1).for_each(|rank| rank.cpus = Some("0-3".into())),
            "CPUs of ranks 1 to 3: was any, is 0-3",
        ),
        (
            &|plan| plan.ranks[2].hidden = Some("xx".to_owned()),
            "command of rank 2: has changed in a word that is kept back",
        ),
        (&|plan| plan.starts = false, "launch: was started, is refused"),
        (
            &|plan| plan.rendezvous.port = Some(29500),
            "address: was 127.0.0.1, a free port, is 127.0.0.1, 29500",
        ),
        (&|plan| plan.stdin_rank = Some(0), "stdin: was read by no rank, is read by rank 0"),
    ];
    for (change, said) in table {
        assert_eq!(changed(change), [said]);
    }
}

#[test]
fn lists_of_cpus() {
    for (cpus, list) in
        [(&[][..], ""), (&[3], "3"), (&[0, 1, 2, 8], "0-2,8"), (&[0, 2, 3, 64], "0,2-3,64")]
    {
        assert_eq!(cpu_list(cpus), list);
    }
}
