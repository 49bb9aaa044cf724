use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt as _;

use super::*;
use crate::error::{Explain as _, render};
use crate::exit_code;
use crate::host::devices::{Devices, Gpu, Looked};
use crate::host::target::AskedBy;
use crate::host::topology::{Cpu, Topology};
use crate::preflight::{BackendChoice, Verdict};
use crate::settings::env::Env;
use crate::settings::spec::NumaBinding;

pub(super) fn spec(words: &[&str]) -> LaunchSpec {
    let line = std::iter::once("nvlaunch").chain(words.iter().copied()).map(OsString::from);
    match crate::cli::parse(line.collect(), &Env::default()) {
        Ok(crate::cli::Invocation::Run(args)) => {
            let files = crate::profile::layer::Files::embedded().expect("the file is right");
            crate::settings::resolve(&args, &Env::default(), &files)
                .expect("the settings are right")
        }
        other => panic!("{words:?} is no run: {other:?}"),
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A machine of four CPUs without accelerators.
fn facts() -> Facts {
    Facts {
        has_proc: true,
        cpus: (0..4).collect(),
        program: ProgramFact::Found("/env/bin/python".into()),
        nofile_hard: Some(1024),
        local_names: vec!["node1".to_owned(), "10.0.0.1".to_owned()],
        store_addresses: vec![LOOPBACK],
        fresh_run_id: "fresh".to_owned(),
        ..Facts::default()
    }
}

fn gpus(count: usize) -> Vec<Gpu> {
    vec![Gpu::default(); count]
}

fn plan(words: &[&str], facts: &Facts) -> Plan {
    decide(&spec(words), facts, None).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn refused(words: &[&str], facts: &Facts) -> PlanError {
    decide(&spec(words), facts, None).expect_err("the launch cannot be")
}

fn attempt() -> AttemptEnv {
    AttemptEnv {
        attempt: 2,
        master_port: 43210,
        error_file: Some("/run/attempt_2/1/error.json".into()),
        run_dir: Some("/run".into()),
        resume: None,
    }
}

fn pairs(variables: &[Variable]) -> Vec<(OsString, OsString)> {
    variables.iter().filter_map(Variable::pair).collect()
}

fn env_text(env: &[(OsString, OsString)]) -> String {
    let mut lines: Vec<_> = env
        .iter()
        .map(|(name, value)| format!("{}={}\n", name.display(), value.display()))
        .collect();
    lines.sort_unstable();
    lines.concat()
}

#[test]
fn the_contract_of_a_rank() {
    let words = ["--nproc", "2", "--max-restarts", "3", "--rdzv-id", "job7", "t.py"];
    let plan = plan(&words, &facts());
    let env = plan.rank_env(1, &attempt());
    let names: BTreeSet<_> = env.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), env.len(), "a name stands twice");
    let text = env_text(&env).replace(env!("CARGO_PKG_VERSION"), "[version]");
    insta::assert_snapshot!(text);
    let without = AttemptEnv { error_file: None, run_dir: None, ..attempt() };
    let env = plan.rank_env(0, &without);
    assert!(
        env.iter().all(|(name, _)| name != "TORCHELASTIC_ERROR_FILE" && name != "NVLAUNCH_RUN_DIR")
    );
}

#[test]
fn every_rank_of_an_attempt_is_told_the_same_checkpoint_and_none_where_there_is_none() {
    let plan = plan(&["--nproc", "2", "t.py", "--lr", "1"], &facts());
    let args = vec!["--resume".into(), "/ckpt/step-7".into()];
    let resume = Resume { path: "/ckpt/step-7".into(), step: Some(7), args };
    let resumed = AttemptEnv { resume: Some(resume.clone()), ..attempt() };
    for rank in 0..2 {
        let env = plan.rank_env(rank, &resumed);
        let of = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        assert_eq!(of("NVLAUNCH_RESUME_FROM").unwrap(), "/ckpt/step-7");
        assert_eq!(of("NVLAUNCH_RESUME_STEP").unwrap(), "7");
        assert_eq!(of("NVLAUNCH_PROGRESS_FILE").unwrap(), "/run/progress");
        let args = plan.rank_args(rank, &resumed);
        assert_eq!(args, ["-u", "t.py", "--lr", "1", "--resume", "/ckpt/step-7"]);
        assert_eq!(plan.rank_args(rank, &attempt()), ["-u", "t.py", "--lr", "1"]);
        let env = plan.rank_env(rank, &attempt());
        assert!(env.iter().all(|(name, _)| !name.to_string_lossy().contains("RESUME_")));
        let nameless = Resume { step: None, ..resume.clone() };
        let env = plan.rank_env(rank, &AttemptEnv { resume: Some(nameless), ..attempt() });
        assert!(env.iter().all(|(name, _)| name != "NVLAUNCH_RESUME_STEP"), "no step is known");
    }
    let removed: Vec<_> = plan.removed_env().collect();
    for name in ["NVLAUNCH_RESUME_FROM", "NVLAUNCH_RESUME_STEP", "NVLAUNCH_PROGRESS_FILE"] {
        assert!(removed.iter().any(|known| *known == name), "{name} of the caller stays");
    }
}

#[test]
fn nothing_of_an_outer_run_is_left() {
    let plan = plan(&["--nproc", "2", "t.py"], &facts());
    let set: BTreeSet<OsString> =
        plan.rank_env(0, &attempt()).into_iter().map(|(name, _)| name).collect();
    let ours = ["OMP_NUM_THREADS", "TORCH_NCCL_ASYNC_ERROR_HANDLING"];
    let removed = caller_env_to_remove();
    for name in &set {
        assert!(ours.iter().chain(removed).any(|known| name == known), "{name:?} is not removed");
    }
    let removals = plan.common_env.iter().filter(|variable| variable.is_removed());
    assert_eq!(removals.count(), removed.len());
}

#[test]
fn omp_num_threads() {
    let of = |plan: &Plan| {
        let env = plan.rank_env(0, &attempt());
        env.into_iter().find(|(name, _)| name == "OMP_NUM_THREADS").map(|(_, value)| value)
    };
    let several = plan(&["--nproc", "2", "t.py"], &facts());
    assert_eq!(of(&several), Some("2".into()));
    assert_eq!(
        several.notes,
        [
            "OMP_NUM_THREADS is 2 for each rank: 2 of 4 CPUs for each of 2 ranks; set it yourself for \
          another number"
        ]
    );
    let one = plan(&["t.py"], &facts());
    assert_eq!((of(&one), one.notes.len()), (None, 0));
    let mut facts = facts();
    facts.caller.omp_num_threads = Some("7".into());
    let set = plan(&["--nproc", "2", "t.py"], &facts);
    assert_eq!((of(&set), set.notes.len()), (None, 0));
}

#[test]
fn the_callers_nccl_choice_is_kept() {
    let of = |facts: &Facts| {
        let env = plan(&["t.py"], facts).rank_env(0, &attempt());
        let found = env.into_iter().find(|(name, _)| name == "TORCH_NCCL_ASYNC_ERROR_HANDLING");
        found.map(|(_, value)| value)
    };
    let mut facts = facts();
    assert_eq!(of(&facts), Some("1".into()));
    facts.caller.nccl_async_error_handling = Some("3".into());
    // It is inherited.
    assert_eq!(of(&facts), None);
    let plan = plan(&["t.py"], &facts);
    let kept = plan.common_env.iter().find(|v| v.name == "TORCH_NCCL_ASYNC_ERROR_HANDLING");
    assert_eq!(kept.map(|kept| &kept.change), Some(&EnvChange::Keep("3".into())));
}

pub(super) fn judged(variables: &[(&str, Option<&str>, bool)]) -> Judgement {
    let choice = |&(name, value, is_users): &(&str, Option<&str>, bool)| VariableChoice {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        is_users,
        reason: "a reason".to_owned(),
        evidence: Vec::new(),
    };
    Judgement {
        verdict: Verdict::Ok,
        vendor: "cuda".to_owned(),
        backend: BackendChoice {
            name: "nccl".to_owned(),
            reason: "a reason".to_owned(),
            evidence: Vec::new(),
        },
        findings: Vec::new(),
        variables: variables.iter().map(choice).collect(),
        compat: None,
        python: crate::compat::Python::default(),
    }
}

/// P4
#[test]
fn what_preflight_chose_reaches_the_ranks_and_nothing_of_the_users_or_of_the_contract() {
    let judgement = judged(&[
        ("TORCH_NCCL_DUMP_ON_TIMEOUT", Some("1"), false),
        ("NCCL_DEBUG", Some("INFO"), true),
        ("PYTORCH_NVML_BASED_CUDA_CHECK", None, false),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", Some("3"), false),
        ("MASTER_ADDR", Some("elsewhere"), false),
        ("RANK", None, false),
    ]);
    let with = |words: &[&str], judgement: Option<&Judgement>| {
        decide(&spec(words), &facts(), judgement).expect("a plan")
    };
    let plan = with(&["--nproc", "2", "t.py"], Some(&judgement));
    let env: Vec<_> = plan.rank_env(1, &attempt());
    let names: BTreeSet<_> = env.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), env.len(), "a name stands twice");
    let of = |name: &str| {
        let found = env.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_str().expect("text"))
    };
    assert_eq!(of("NVLAUNCH_BACKEND"), Some("nccl"));
    assert_eq!(of("TORCH_NCCL_DUMP_ON_TIMEOUT"), Some("1"));
    assert_eq!(of("NCCL_DEBUG"), None);
    assert_eq!(of("TORCH_NCCL_ASYNC_ERROR_HANDLING"), Some("1"));
    assert_eq!(of("MASTER_ADDR"), Some("127.0.0.1"));
    assert_eq!(of("RANK"), Some("1"));
    let change = |name: &str| {
        plan.common_env.iter().find(|known| known.name == name).map(|found| found.change.clone())
    };
    assert_eq!(change("PYTORCH_NVML_BASED_CUDA_CHECK"), Some(EnvChange::Remove));
    let is_set = |variable: &Variable| !variable.is_removed();
    let first_set = plan.common_env.iter().position(is_set).expect("something is set");
    assert!(plan.common_env[first_set..].iter().all(is_set), "a removal comes after a value");
    assert_eq!(plan.variables, judgement.variables);
    assert_eq!(plan.backend, Some(judgement.backend.clone()));

    // What was typed is used as it is, with preflight and without.
    for judgement in [Some(&judgement), None] {
        let typed = with(&["--backend", "gloo", "t.py"], judgement);
        let env = typed.rank_env(0, &attempt());
        assert!(env.contains(&("NVLAUNCH_BACKEND".into(), "gloo".into())));
    }
    // Without preflight nothing is chosen, and nothing of an outer run is left.
    let without = with(&["t.py"], None);
    assert!(without.removed_env().any(|name| name == "NVLAUNCH_BACKEND"));
    assert!(without.rank_env(0, &attempt()).iter().all(|(name, _)| name != "NVLAUNCH_BACKEND"));
}

/// Each rank's one device is its own; a list for all of them must not come after it.
#[test]
fn a_virtual_local_rank_keeps_its_device() {
    let judgement = judged(&[("CUDA_VISIBLE_DEVICES", Some("0,2"), false)]);
    let words = ["--nproc", "2", "--virtual-local-rank", "t.py"];
    let plan = decide(&spec(&words), &facts(), Some(&judgement)).expect("a plan");
    let env = plan.rank_env(1, &attempt());
    let of_rank: Vec<_> = env.iter().filter(|(name, _)| name == "CUDA_VISIBLE_DEVICES").collect();
    assert_eq!(of_rank, [&(OsString::from("CUDA_VISIBLE_DEVICES"), OsString::from("1"))]);
}

#[test]
fn what_each_rank_executes() {
    let args = |words: &[&str]| plan(words, &facts()).ranks.remove(0).args;
    assert_eq!(args(&["t.py", "a"]), ["-u", "t.py", "a"]);
    assert_eq!(args(&["-m", "pkg.mod", "-u"]), ["-u", "-m", "pkg.mod", "-u"]);
    assert_eq!(args(&["--no-python", "prog", "a"]), ["a"]);
    assert_eq!(args(&["--", "-t.py"]), ["-u", "./-t.py"]);
    let plan = plan(&["--nproc", "2", "t.py", "--local-rank=${local_rank}"], &facts());
    assert_eq!(plan.ranks[1].args, ["-u", "t.py", "--local-rank=1"]);
    assert_eq!(plan.ranks[1].program, PathBuf::from("/env/bin/python"));
}

/// The results are those of Python's `Template(arg).safe_substitute(local_rank="7")`.
#[test]
fn substitution_is_that_of_python() {
    let rows: &[(&[u8], &[u8])] = &[
        (b"", b""),
        (b"plain", b"plain"),
        (b"${local_rank}", b"7"),
        (b"a$local_rank-b", b"a7-b"),
        (b"$local_rank2", b"$local_rank2"),
        (b"$local_ranks", b"$local_ranks"),
        (b"$local_rank_", b"$local_rank_"),
        (b"$LOCAL_RANK", b"$LOCAL_RANK"),
        (b"${local_rank", b"${local_rank"),
        (b"${ local_rank}", b"${ local_rank}"),
        (b"$$", b"$"),
        (b"$$$", b"$$"),
        (b"$$$$", b"$$"),
        (b"$${local_rank}", b"${local_rank}"),
        (b"$$${local_rank}", b"$7"),
        (b"${rank}$rank$", b"${rank}$rank$"),
        (b"$1", b"$1"),
        (b"$local_rank\xc3\xa9", b"7\xc3\xa9"),
        (b"\xff${local_rank}\xfe$$\xfd", b"\xff7\xfe$\xfd"),
        (b"${local_rank}${local_rank}", b"77"),
    ];
    for (arg, expected) in rows {
        let filled = substitute::local_rank(OsStr::from_bytes(arg), 7).into_vec();
        assert_eq!(filled, *expected, "{}", arg.escape_ascii());
    }
}

#[test]
fn how_many_ranks() {
    let mut facts = facts();
    assert_eq!(plan(&["--nproc", "cpu", "t.py"], &facts).world_size, 4);
    assert_eq!(plan(&["--nproc", "auto", "t.py"], &facts).world_size, 4);
    let none = refused(&["--nproc", "gpu", "t.py"], &facts);
    assert!(matches!(none, PlanError::NoGpu { hidden: false }));
    assert_eq!(none.exit_code(), exit_code::UNAVAILABLE);
    let none = refused(&["--nproc", "xpu", "t.py"], &facts);
    assert!(matches!(none, PlanError::NoDevice { .. }));
    facts.devices.nvidia = gpus(8);
    assert_eq!(plan(&["--nproc", "gpu", "t.py"], &facts).world_size, 8);
    assert_eq!(plan(&["--nproc", "auto", "t.py"], &facts).world_size, 8);
    facts.devices.variables.insert("CUDA_VISIBLE_DEVICES", String::new());
    let hidden = refused(&["--nproc", "gpu", "t.py"], &facts);
    assert!(matches!(hidden, PlanError::NoGpu { hidden: true }));
    assert_eq!(plan(&["--nproc", "auto", "t.py"], &facts).world_size, 4);
    facts.devices = Devices {
        looked: Looked::Counted,
        others: [("npu", gpus(3))].into(),
        ..Devices::default()
    };
    assert_eq!(plan(&["--nproc", "npu", "t.py"], &facts).world_size, 3);
    assert_eq!(plan(&["--nproc", "auto", "t.py"], &facts).world_size, 3);
    facts.cpus = (0..5000).collect();
    assert!(matches!(
        refused(&["--nproc", "cpu", "t.py"], &facts),
        PlanError::Count { count: 5000 }
    ));
}

#[test]
fn ranks_are_numbered_and_the_port_is_fresh() {
    let plan = plan(&["--nproc", "3", "t.py"], &facts());
    let numbers: Vec<_> = plan.ranks.iter().map(|rank| (rank.local_rank, rank.rank)).collect();
    assert_eq!(numbers, [(0, 0), (1, 1), (2, 2)]);
    assert_eq!((plan.master_port, plan.world_size), (None, 3));
    assert_eq!((plan.master_addr.as_str(), plan.run_id.as_str()), ("127.0.0.1", "fresh"));
    let named = self::plan(&["--master-port", "29500", "t.py"], &facts());
    assert_eq!(named.master_port, Some(29500));
}

#[test]
fn nvlaunch_serves_the_store_unless_it_cannot_or_may_not() {
    let agent_store = |plan: &Plan| {
        let env = plan.rank_env(0, &attempt());
        let set = env.into_iter().find(|(name, _)| name == "TORCHELASTIC_USE_AGENT_STORE");
        set.map(|(_, value)| value.into_string().expect("text"))
    };
    let ours = plan(&["t.py"], &facts());
    assert_eq!(ours.store, Some(vec![LOOPBACK]));
    assert_eq!((agent_store(&ours).as_deref(), ours.notes.len()), (Some("True"), 0));
    let rank0 = plan(&["--store", "rank0", "t.py"], &facts());
    assert_eq!((rank0.store.clone(), rank0.notes.len()), (None, 0));
    assert_eq!(agent_store(&rank0).as_deref(), Some("False"));
    let elsewhere = Facts { store_addresses: Vec::new(), ..facts() };
    let elsewhere = plan(&["--master-addr", "other", "t.py"], &elsewhere);
    assert_eq!(
        (elsewhere.store.clone(), agent_store(&elsewhere).as_deref()),
        (None, Some("False"))
    );
    assert!(elsewhere.notes[0].contains("`other` is no address of this machine"));
}

#[test]
fn who_reads_the_standard_input() {
    let of = |words: &[&str]| plan(words, &facts()).stdin_rank;
    assert_eq!(of(&["t.py"]), Some(0));
    assert_eq!(of(&["--nproc", "2", "t.py"]), None);
    assert_eq!(of(&["--nproc", "2", "--stdin", "1", "t.py"]), Some(1));
    assert_eq!(of(&["--stdin", "none", "t.py"]), None);
    let wrong = refused(&["--nproc", "2", "--stdin", "2", "t.py"], &facts());
    assert!(matches!(wrong, PlanError::StdinRank { rank: 2, count: 2 }));
}

#[test]
fn a_virtual_local_rank_sees_one_device() {
    let of = |facts: &Facts| {
        let plan = plan(&["--nproc", "2", "--virtual-local-rank", "t.py"], facts);
        env_text(&pairs(&plan.ranks[1].env))
    };
    let mut facts = facts();
    let own = "LOCAL_RANK=0\nRANK=1\nROLE_RANK=1\n";
    assert_eq!(of(&facts), format!("CUDA_VISIBLE_DEVICES=1\n{own}"));
    facts.caller.cuda_visible_devices = Some("4, GPU-6".into());
    assert_eq!(of(&facts), format!("CUDA_VISIBLE_DEVICES=GPU-6\n{own}"));
    // An empty list of HIP's is none.
    facts.caller.hip_visible_devices = Some(String::new().into());
    assert_eq!(of(&facts), format!("CUDA_VISIBLE_DEVICES=GPU-6\n{own}"));
    facts.caller.hip_visible_devices = Some("2,3".into());
    assert_eq!(of(&facts), format!("CUDA_VISIBLE_DEVICES=3\nHIP_VISIBLE_DEVICES=3\n{own}"));
    facts.caller.hip_visible_devices = Some("2".into());
    let words = ["--nproc", "2", "--virtual-local-rank", "t.py"];
    let error = refused(&words, &facts);
    assert!(matches!(error, PlanError::NoDeviceForRank { local_rank: 1, .. }));
    let plain = plan(&["--nproc", "2", "t.py"], &facts);
    assert_eq!(env_text(&pairs(&plain.ranks[1].env)), "LOCAL_RANK=1\nRANK=1\nROLE_RANK=1\n");
}

#[test]
fn a_c10d_endpoint_is_this_machine() {
    let words = |host: &'static str| ["--rdzv-backend", "c10d", "--rdzv-endpoint", host, "t.py"];
    let here = [
        "localhost",
        "127.0.0.1:0",
        "127.3.2.1",
        "[::1]:0",
        "node1",
        "NODE1.cluster:0",
        "10.0.0.1",
    ];
    for host in here {
        assert_eq!(plan(&words(host), &facts()).world_size, 1, "{host}");
    }
    for host in ["node2", "node11", "10.0.0.2", "10.1.1.1:29400"] {
        assert!(matches!(refused(&words(host), &facts()), PlanError::OtherHost { .. }), "{host}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_hint() {
    let mut said = Vec::new();
    let mut case = |words: &[&str], change: &dyn Fn(&mut Facts)| {
        let mut facts = facts();
        change(&mut facts);
        let error = refused(words, &facts);
        said.push(format!("{} {}", error.exit_code(), render(&error)));
    };
    case(&["t.py"], &|facts| facts.has_proc = false);
    case(&["t.py"], &|facts| facts.working_dir = WorkingDir::Deleted);
    case(&["t.py"], &|facts| facts.script = ScriptFact::Missing { nearest: None });
    case(&["t.py"], &|facts| {
        facts.script = ScriptFact::Missing { nearest: Some("d/s.py".into()) };
    });
    case(&["python3", "t.py"], &|facts| facts.script = ScriptFact::Missing { nearest: None });
    case(&["t.py"], &|facts| facts.script = ScriptFact::Folder);
    case(&["t.py"], &|facts| facts.script = ScriptFact::NotReadable);
    case(&["t.py"], &|facts| facts.script = ScriptFact::Broken { why: "a loop".to_owned() });
    for by in [AskedBy::Option, AskedBy::PythonExec, AskedBy::Search, AskedBy::NoPython] {
        case(&["t.py"], &|facts| {
            facts.program = ProgramFact::Missing {
                asked: "p".into(),
                by,
                in_working_dir: by == AskedBy::NoPython,
            };
        });
    }
    case(&["t.py"], &|facts| {
        facts.program = ProgramFact::NotExecutable { path: "/x/p".into(), is_folder: false };
    });
    case(&["t.py"], &|facts| {
        facts.program = ProgramFact::NotExecutable { path: "/x".into(), is_folder: true };
    });
    case(&["--nproc", "202", "t.py"], &|_| {});
    case(&["--nproc", "gpu", "t.py"], &|_| {});
    insta::assert_snapshot!(said.concat());
}

#[test]
fn the_limit_on_open_files_is_exact() {
    let mut facts = facts();
    facts.nofile_hard = Some(26);
    assert_eq!(plan(&["--nproc", "2", "t.py"], &facts).world_size, 2);
    facts.nofile_hard = Some(25);
    let error = refused(&["--nproc", "2", "t.py"], &facts);
    assert!(matches!(error, PlanError::OpenFiles { count: 2, needed: 26, limit: 25 }));
    facts.nofile_hard = None;
    assert_eq!(plan(&["--nproc", "4096", "t.py"], &facts).world_size, 4096);
}

/// Two sockets of two NUMA nodes each; a node has four cores of two threads in two caches; a GPU
/// on nodes 0, 0, 0, 1 and 3. CPU `n` and `n + 16` are threads of one core.
fn two_sockets() -> Topology {
    let node_cpus =
        |node: u32| (0..4).flat_map(move |core| [node * 4 + core, node * 4 + core + 16]);
    let cpu = |cpu: u32| {
        let core = cpu % 16;
        let place = Cpu { socket: i32::from(core >= 8), core, cache: Some(core / 2 * 2) };
        (cpu, place)
    };
    Topology {
        nodes: (0..4).map(|node| (node, node_cpus(node).collect())).collect(),
        cpus: (0..32).map(cpu).collect::<BTreeMap<_, _>>(),
    }
}

/// The NUMA nodes of its GPUs.
const NODES: [Option<u32>; 5] = [Some(0), Some(0), Some(0), Some(1), Some(3)];

fn bound(mode: NumaBinding, topology: &Topology, rank: u32) -> Vec<u32> {
    let cpus = numa::cpus(mode, topology, &NODES, rank);
    cpus.unwrap_or_else(|error| panic!("{mode:?} {rank}: {error}")).into_iter().collect()
}

#[test]
fn numa_binding_is_that_of_torchrun() {
    let topology = two_sockets();
    let both = |cores: std::ops::Range<u32>| -> Vec<u32> {
        cores.clone().chain(cores.start + 16..cores.end + 16).collect()
    };
    assert_eq!(bound(NumaBinding::Node, &topology, 1), both(0..4));
    assert_eq!(bound(NumaBinding::Node, &topology, 4), both(12..16));
    assert_eq!(bound(NumaBinding::Socket, &topology, 3), both(0..8));
    assert_eq!(bound(NumaBinding::Socket, &topology, 4), both(8..16));
    // Four cores for three GPUs: the first one gets the fourth.
    assert_eq!(bound(NumaBinding::Exclusive, &topology, 0), both(0..2));
    assert_eq!(bound(NumaBinding::Exclusive, &topology, 1), both(2..3));
    assert_eq!(bound(NumaBinding::Exclusive, &topology, 2), both(3..4));
    assert_eq!(bound(NumaBinding::Exclusive, &topology, 3), both(4..8));
    // Two caches for three GPUs go round.
    assert_eq!(bound(NumaBinding::CoreComplex, &topology, 0), both(0..2));
    assert_eq!(bound(NumaBinding::CoreComplex, &topology, 1), both(2..4));
    assert_eq!(bound(NumaBinding::CoreComplex, &topology, 2), both(0..2));
}

#[test]
fn only_allowed_cpus_are_given_away() {
    let mut topology = two_sockets();
    topology.cpus.retain(|cpu, _| ![0, 16, 1].contains(cpu) && !(4..8).contains(&(cpu % 16)));
    assert_eq!(bound(NumaBinding::Node, &topology, 0), [2, 3, 17, 18, 19]);
    // A node without allowed CPUs is passed over.
    assert_eq!(bound(NumaBinding::Socket, &topology, 0), [2, 3, 17, 18, 19]);
    // The cache with more allowed CPUs comes first.
    assert_eq!(bound(NumaBinding::CoreComplex, &topology, 0), [2, 3, 18, 19]);
    assert_eq!(bound(NumaBinding::CoreComplex, &topology, 1), [17]);
    let none = numa::cpus(NumaBinding::Node, &topology, &NODES, 3);
    assert!(matches!(none, Err(PlanError::NumaNoCpus { node: 1, .. })));
}

#[test]
fn numa_binding_that_cannot_be() {
    let mut topology = two_sockets();
    let refused = |mode, topology: &Topology, rank| {
        numa::cpus(mode, topology, &NODES, rank).expect_err("there are no such CPUs")
    };
    assert!(matches!(
        refused(NumaBinding::Node, &topology, 5),
        PlanError::NumaRank { local_rank: 5, devices: 5 }
    ));
    topology.cpus.retain(|cpu, _| cpu % 16 > 1);
    assert!(matches!(
        refused(NumaBinding::Exclusive, &topology, 0),
        PlanError::NumaCores { node: 0, cores: 2, devices: 3 }
    ));
    topology.cpus.values_mut().for_each(|cpu| cpu.cache = None);
    assert!(matches!(refused(NumaBinding::CoreComplex, &topology, 0), PlanError::NumaNoCache));
    let with = |devices: &[Option<u32>]| {
        numa::cpus(NumaBinding::Node, &topology, devices, 0).expect_err("there are no such CPUs")
    };
    assert!(matches!(with(&[None, Some(0)]), PlanError::NumaUnknown { local_rank: 0 }));
    assert!(matches!(with(&[]), PlanError::NumaWithoutDevice));
}

#[test]
fn a_bound_rank_has_its_cpus_in_the_plan() {
    let near =
        |node| Gpu { pci: Some("0000:01:00.0".to_owned()), numa_node: node, ..Gpu::default() };
    let devices =
        Devices { looked: Looked::Placed, nvidia: NODES.map(near).into(), ..Devices::default() };
    let facts = Facts { topology: Some(two_sockets()), devices, ..facts() };
    let plan = plan(&["--nproc", "2", "--numa-binding", "exclusive", "t.py"], &facts);
    assert_eq!(plan.ranks[1].cpus, Some(vec![2, 18]));
}

#[test]
fn a_slip_in_a_subcommand_is_a_script_that_is_not_there() {
    let hint = |script: &str| {
        let facts = Facts { script: ScriptFact::Missing { nearest: None }, ..facts() };
        refused(&[script], &facts).hint().expect("a hint")
    };
    assert_eq!(hint("preflght"), "did you mean `nvlaunch preflight`?");
    assert_eq!(hint("explian"), "did you mean `nvlaunch explain`?");
    for script in ["preflight.py", "./preflght", "train"] {
        assert_eq!(hint(script), "a module is started with -m");
    }
}
