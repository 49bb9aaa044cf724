use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

mod checkpoint;

use super::spec::*;
use super::*;
use crate::cli::{self, Invocation};
use crate::error::{Explain as _, render};

fn spec_of(words: &[&str], env: &[(&str, &str)]) -> Result<LaunchSpec, SettingsError> {
    let line = std::iter::once("nvlaunch").chain(words.iter().copied()).map(OsString::from);
    let env: Env = env.iter().copied().collect();
    match cli::parse(line.collect(), &env) {
        // Where a value was given is compared by tests of its own.
        Ok(Invocation::Run(args)) => resolve(&args, &env, &Files::embedded()?)
            .map(|spec| LaunchSpec { settings: Vec::new(), ..spec }),
        other => panic!("{words:?} is no run: {other:?}"),
    }
}

fn embedded() -> Files {
    Files::embedded().expect("the file is right")
}

fn spec(words: &[&str]) -> LaunchSpec {
    let words = [words, &["t.py"]].concat();
    spec_of(&words, &[]).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn spec_by_env(env: &[(&str, &str)]) -> LaunchSpec {
    spec_of(&["t.py"], env).unwrap_or_else(|error| panic!("{env:?}: {error}"))
}

fn message(words: &[&str], env: &[(&str, &str)]) -> String {
    let words = [words, &["t.py"]].concat();
    let error = spec_of(&words, env).expect_err("the settings are wrong");
    assert_eq!(error.exit_code(), 2, "{words:?} {env:?}");
    render(&error)
}

/// What an option does to a launch.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Does {
    /// It changes the launch.
    Change,
    /// It leaves a note, and nothing else.
    Note,
    /// It asks for what happens anyway.
    Nothing,
}

/// Every option of torchrun 2.15 that takes a value: its `dest`, whether it has a `PET_*`
/// variable, a value, and what that does.
const VALUED: &[(&str, bool, &str, Does)] = &[
    ("nnodes", true, "1:1", Does::Nothing),
    ("nproc_per_node", true, "3", Does::Change),
    ("rdzv_backend", true, "c10d", Does::Nothing),
    ("rdzv_endpoint", true, "10.0.0.1:29400", Does::Change),
    ("rdzv_id", true, "job7", Does::Change),
    ("rdzv_conf", true, "timeout=900", Does::Note),
    ("max_restarts", true, "3", Does::Change),
    ("monitor_interval", true, "0.5", Does::Note),
    ("start_method", true, "fork", Does::Note),
    ("event_log_handler", true, "console", Does::Note),
    ("role", true, "trainer", Does::Change),
    ("log_dir", true, "/tmp/logs", Does::Change),
    ("redirects", true, "3", Does::Change),
    ("tee", true, "0:1,12:3", Does::Change),
    ("log_line_prefix_template", true, "${rank}: ", Does::Change),
    ("local_ranks_filter", true, "0,1", Does::Change),
    ("duplicate_stdout_filters", true, "apple,orange", Does::Change),
    ("duplicate_stderr_filters", true, "apple,,orange", Does::Change),
    ("node_rank", true, "0", Does::Nothing),
    ("master_addr", true, "node1", Does::Change),
    ("master_port", true, "29501", Does::Change),
    ("local_addr", true, "10.0.0.1", Does::Change),
    ("logs_specs", false, "mine", Does::Note),
    ("numa_binding", false, "core-complex", Does::Change),
    ("signals_to_handle", true, "SIGTERM,SIGUSR1", Does::Change),
    ("shutdown_timeout", true, "12", Does::Change),
];

/// Every flag of torchrun 2.15 that says something about a launch.
const FLAGS: &[(&str, Does)] = &[
    ("standalone", Does::Nothing),
    ("module", Does::Change),
    ("no_python", Does::Change),
    ("run_path", Does::Note),
    ("virtual_local_rank", Does::Change),
];

fn check(does: Does, spec: &LaunchSpec, what: &str) {
    let default = self::spec(&[]);
    let unnoted = LaunchSpec { notes: Vec::new(), ..spec.clone() };
    assert_eq!(unnoted != default, does == Does::Change, "{what}");
    assert_eq!(spec.notes.len(), usize::from(does == Does::Note || spec.rendezvous_host.is_some()));
}

#[test]
fn every_option_of_torchrun_works_in_both_spellings_and_by_variable() {
    for &(dest, has_variable, value, does) in VALUED {
        let hyphens = format!("--{}", dest.replace('_', "-"));
        let underscores = format!("--{dest}");
        let typed = spec(&[&hyphens, value]);
        check(does, &typed, dest);
        assert_eq!(spec(&[&underscores, value]), typed, "{dest}");
        assert_eq!(spec(&[&format!("{underscores}={value}")]), typed, "{dest}");
        let variable = format!("PET_{}", dest.to_uppercase());
        let by_env = spec_by_env(&[(&variable, value)]);
        if !has_variable {
            assert_eq!(by_env, spec(&[]), "{dest}");
            continue;
        }
        assert_eq!(
            by_env.notes,
            typed.notes.iter().map(|note| note.replace(&hyphens, &variable)).collect::<Vec<_>>()
        );
        assert_eq!(LaunchSpec { notes: typed.notes.clone(), ..by_env }, typed, "{dest}");
        assert_eq!(spec_by_env(&[(&variable, "")]), spec(&[]), "an empty {variable} is unset");
    }
}

#[test]
fn who_serves_the_store_and_when_the_missing_are_named() {
    let of = |words: &[&str]| {
        let spec = spec(words);
        (spec.store, spec.init_report_after.map(|after| after.as_millis()))
    };
    assert_eq!(of(&[]), (StoreHost::Nvlaunch, Some(30_000)));
    assert_eq!(of(&["--store", "rank0"]).0, StoreHost::Rank0);
    assert_eq!(of(&["--init-report-after", "90"]).1, Some(90_000));
    assert_eq!(of(&["--init-report-after", "500ms"]).1, Some(500));
    assert_eq!(of(&["--init-report-after", "0"]).1, None);
}

#[test]
fn every_flag_of_torchrun_works_in_both_spellings_and_by_variable() {
    for &(dest, does) in FLAGS {
        let typed = spec(&[&format!("--{}", dest.replace('_', "-"))]);
        check(does, &typed, dest);
        assert_eq!(spec(&[&format!("--{dest}")]), typed, "{dest}");
        let variable = format!("PET_{}", dest.to_uppercase());
        for yes in ["1", "2", "-1", "yes", "True", "on"] {
            let by_env = spec_by_env(&[(&variable, yes)]);
            assert_eq!(LaunchSpec { notes: typed.notes.clone(), ..by_env }, typed, "{dest} {yes}");
        }
        for no in ["0", "no", "false", "OFF", ""] {
            assert_eq!(spec_by_env(&[(&variable, no)]), spec(&[]), "{dest} {no}");
        }
        let said = message(&[], &[(&variable, "maybe")]);
        assert!(said.contains(&variable) && said.contains("hint: "), "{said}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let env = [("PET_NPROC_PER_NODE", "4"), ("PET_ROLE", "a"), ("PET_SHUTDOWN_TIMEOUT", "7")];
    let both = spec_of(&["--nproc", "2", "t.py"], &env).expect("the settings are right");
    assert_eq!(both.nproc, ProcCount::Count(2));
    assert_eq!(both.role, "a");
    assert_eq!(both.shutdown_timeout, Duration::from_secs(7));
    // A wrong variable that is not used says nothing.
    let unused = spec_of(&["--nproc", "2", "t.py"], &[("PET_NPROC_PER_NODE", "x")]);
    assert_eq!(unused.expect("the settings are right").nproc, ProcCount::Count(2));
    let said = message(&[], &[("PET_NPROC_PER_NODE", "x")]);
    assert!(said.starts_with("nvlaunch: PET_NPROC_PER_NODE: `x` is no number of ranks"), "{said}");
}

#[test]
fn variables_below_those_of_torchrun() {
    let name = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT";
    assert_eq!(spec_by_env(&[(name, "0")]).shutdown_timeout, Duration::ZERO);
    let both = spec_by_env(&[(name, "5"), ("PET_SHUTDOWN_TIMEOUT", "6")]);
    assert_eq!(both.shutdown_timeout, Duration::from_secs(6));
    assert!(message(&[], &[(name, "soon")]).contains(name));
    let template = "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE";
    assert_eq!(spec_by_env(&[(template, "$rank ")]).logs.prefix, Some("$rank ".to_owned()));
    let words = ["--log-line-prefix-template", "x", "t.py"];
    let both = spec_of(&words, &[(template, "y")]).expect("the settings are right");
    assert_eq!(both.logs.prefix, Some("x".to_owned()));
    let none =
        spec_of(&["--log-line-prefix-template", "", "t.py"], &[]).expect("an empty template");
    assert_eq!(none.logs.prefix, Some(String::new()));
}

#[test]
fn the_defaults_are_those_of_the_file() {
    let spec = spec(&[]);
    assert_eq!(spec.nproc, ProcCount::Count(1));
    assert_eq!(spec.role, "default");
    assert_eq!(spec.run_id, None);
    assert_eq!(spec.max_restarts, 0);
    assert_eq!(spec.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(spec.signal_scope, SignalScope::Rank);
    assert_eq!(spec.signals_to_handle, "SIGTERM,SIGINT,SIGHUP,SIGQUIT");
    assert_eq!(spec.extra_end_signals, Vec::<i32>::new());
    assert_eq!(spec.stdin, StdinChoice::Auto);
    assert_eq!(spec.master_addr.as_deref(), Some("127.0.0.1"));
    assert_eq!(spec.master_port, Some(0));
    assert_eq!(spec.logs.dir, LogDir::Temporary);
    assert_eq!(spec.logs.redirects, StreamMap::All(Streams::default()));
    assert!(spec.logs.fold && !spec.keep_daemons && spec.notes.is_empty());
}

#[test]
fn own_options() {
    let words = ["--python", "py", "--stdin", "1", "--signal-scope", "group", "--keep-daemons"];
    let more = ["--no-fold", "--json-report", "r.json", "--log-dir", "/dev/null"];
    let spec = spec(&[&words[..], &more[..]].concat());
    assert_eq!(spec.python, Some("py".into()));
    assert_eq!(spec.stdin, StdinChoice::Rank(1));
    assert_eq!(spec.signal_scope, SignalScope::Group);
    assert!(spec.keep_daemons && !spec.logs.fold);
    assert_eq!(spec.json_report, Some("r.json".into()));
    assert_eq!(spec.logs.dir, LogDir::Off);
}

#[test]
fn counts_of_ranks() {
    let good = [
        ("1", ProcCount::Count(1)),
        (" 4096 ", ProcCount::Count(4096)),
        ("+2", ProcCount::Count(2)),
        ("auto", ProcCount::Auto),
        ("gpu", ProcCount::Gpu),
        ("cpu", ProcCount::Cpu),
        ("xpu", ProcCount::Device("xpu".to_owned())),
        ("cuda", ProcCount::Device("cuda".to_owned())),
        ("iluvatar", ProcCount::Device("iluvatar".to_owned())),
        ("npu", ProcCount::Device("npu".to_owned())),
    ];
    for (text, count) in good {
        assert_eq!(values::nproc(text), Ok(count), "{text}");
    }
    let huge = "9".repeat(60);
    for text in ["0", "-1", "00", "-0", "4097", "1000000", "", "1.5", "gpus!", "-", huge.as_str()] {
        let problem = values::nproc(text).expect_err(text);
        assert!(problem.hint.is_some(), "{text}");
    }
    let near = values::nproc("atuo").expect_err("it is no count");
    assert_eq!(near.hint.as_deref(), Some("did you mean `auto`?"));
    let said = message(&["--nproc", "-1"], &[]);
    assert!(said.starts_with("nvlaunch: --nproc-per-node: `-1` ranks cannot be started\nhint: "));
}

#[test]
fn times_to_end_in() {
    let good = [("30", 30_000), ("0", 0), ("0.5", 500), ("30s", 30_000), ("5m", 300_000)];
    for (text, millis) in good {
        assert_eq!(values::duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "-1", "nan", "inf", "soon", "5 parsecs", "1e300", "2years"] {
        assert!(values::duration(text).is_err(), "{text}");
    }
}

#[test]
fn streams_by_rank() {
    let both = Streams { stdout: true, stderr: true };
    let out = Streams { stdout: true, stderr: false };
    assert_eq!(values::streams("3"), Ok(StreamMap::All(both)));
    let map = BTreeMap::from([(0, out), (12, both)]);
    assert_eq!(values::streams("0:1,12:3"), Ok(StreamMap::ByRank(map)));
    for text in ["", "4", "-1", "0:1,", "0:4", "x:1", "0:1,2", "all"] {
        assert!(values::streams(text).is_err(), "{text}");
    }
}

#[test]
fn lists() {
    assert_eq!(values::ranks("2,0, 1,2"), Ok(vec![0, 1, 2]));
    assert!(values::ranks("0,x").is_err() && values::ranks("0,").is_err());
    assert_eq!(values::needles("a,b,,c"), ["a", "b,c"]);
    assert_eq!(values::needles("a,,,b"), ["a,", "b"]);
    assert_eq!(values::needles(""), Vec::<String>::new());
    assert_eq!(values::signals("SIGTERM,SIGUSR1, SIGUSR2,SIGUSR1"), Ok(vec![10, 12]));
    assert_eq!(values::signals(""), Ok(Vec::new()));
    for text in ["SIGKILL", "SIGSTOP", "SIGNOPE", "SIGTERM,", "SIGCHLD", "9", "SIGTERM;SIGINT"] {
        assert!(values::signals(text).is_err(), "{text}");
    }
    let near = values::signals("USR1").expect_err("Python spells it SIGUSR1");
    assert_eq!(near.hint.as_deref(), Some("did you mean `SIGUSR1`?"));
}

#[test]
fn addresses() {
    // (options, address, port, host of a c10d endpoint, notes)
    type Row<'a> = (&'a [&'a str], &'a str, u16, Option<&'a str>, usize);
    let rows: &[Row<'_>] = &[
        (&[], "127.0.0.1", 0, None, 0),
        (&["--master-port", "29500"], "127.0.0.1", 29500, None, 0),
        (&["--master-addr", "n1", "--master-port", "1"], "n1", 1, None, 0),
        (&["--master-addr", "[::1]"], "::1", 0, None, 0),
        (&["--local-addr", "n2"], "n2", 0, None, 0),
        (&["--local-addr", "n2", "--master-addr", "n1"], "n1", 0, None, 0),
        (&["--rdzv-endpoint", "n1:7"], "n1", 7, None, 0),
        (&["--rdzv-endpoint", "[::1]:7", "--master-port", "8"], "::1", 7, None, 1),
        (&["--rdzv-backend", "static", "--rdzv-endpoint="], "127.0.0.1", 0, None, 0),
        (
            &["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"],
            "127.0.0.1",
            0,
            Some("localhost"),
            0,
        ),
        (&["--rdzv-backend", "c10d", "--rdzv-endpoint", "n1"], "127.0.0.1", 0, Some("n1"), 0),
        (&["--rdzv-backend", "c10d", "--rdzv-endpoint", "n1:29400"], "127.0.0.1", 0, Some("n1"), 1),
        (&["--rdzv-backend", "c10d", "--master-port", "29500"], "127.0.0.1", 0, None, 1),
        (&["--standalone", "--master-port", "29500"], "127.0.0.1", 0, None, 1),
        (&["--standalone", "--rdzv-endpoint", "n1:7"], "127.0.0.1", 0, None, 0),
    ];
    for (words, addr, port, host, notes) in rows {
        let spec = spec(words);
        assert_eq!(spec.master_addr.as_deref(), Some(*addr), "{words:?}");
        assert_eq!(spec.master_port, Some(*port), "{words:?}");
        assert_eq!(spec.rendezvous_host.as_deref(), *host, "{words:?}");
        assert_eq!(spec.notes.len(), *notes, "{words:?} {:?}", spec.notes);
    }
}

#[test]
fn everyday_options_leave_no_notes() {
    let words = ["--standalone", "--nnodes=1", "--node_rank=0", "--rdzv_id=none", "--start-method"];
    let spec = spec(&[&words[..], &["spawn", "--event-log-handler", "null"]].concat());
    assert_eq!(spec.notes, Vec::<String>::new());
    assert_eq!(spec.run_id, None);
}

#[test]
fn what_cannot_be_is_said() {
    let lines: &[&[&str]] = &[
        &["--nnodes", "2"],
        &["--nnodes", "1:2"],
        &["--nnodes", "0"],
        &["--nnodes", "2:1"],
        &["--node-rank", "1"],
        &["--rdzv-backend", "etcd-v2"],
        &["--rdzv-endpoint", "n1"],
        &["--rdzv-endpoint", "n1:99999"],
        &["--master-port", "-1"],
        &["--master-addr", "a b"],
        &["--max-restarts", "-1"],
        &["--monitor-interval", "often"],
        &["--start-method", "spwan"],
        &["--numa-binding", "nodes"],
        &["--signal-scope", "all"],
        &["--stdin", "-1"],
        &["--signals-to-handle", "SIGKILL"],
        &["-m", "--no-python"],
        &["--local-ranks-filter", "0;1"],
        &["--preflight", "ful"],
        &["--preflight", "never"],
        &["--backend", "a b"],
        &["--backend", ""],
        &["-"],
        &[""],
    ];
    let said = lines
        .iter()
        .map(|words| format!("$ nvlaunch {}\n{}", words.join(" "), message(words, &[])));
    insta::assert_snapshot!(said.collect::<String>());
}

#[test]
fn values_that_are_no_text() {
    let line = vec!["nvlaunch".into(), "--role".into(), OsString::from_vec(vec![0xff]), "t".into()];
    let Ok(Invocation::Run(args)) = cli::parse(line, &Env::default()) else {
        panic!("it is a run");
    };
    let error = resolve(&args, &Env::default(), &embedded()).expect_err("the value is no text");
    assert_eq!(error.to_string(), "--role: the value is not valid UTF-8");
    // Paths need not be text.
    let folder = OsString::from_vec(b"/tmp/\xff".to_vec());
    let args =
        RunArgs { log_dir: Some(folder.clone()), script: Some("t".into()), ..RunArgs::default() };
    let spec = resolve(&args, &Env::default(), &embedded()).expect("the settings are right");
    assert_eq!(spec.logs.dir, LogDir::Kept(folder.into()));
}

#[test]
fn targets() {
    assert_eq!(spec(&[]).target, Target::Script("t.py".into()));
    assert_eq!(spec(&["-m"]).target, Target::Module("t.py".into()));
    assert_eq!(spec(&["--no-python"]).target, Target::Program("t.py".into()));
    // As with torchrun, it comes before both.
    assert_eq!(spec(&["--run-path", "--no-python"]).target, Target::Script("t.py".into()));
}

#[test]
fn preflight_takes_its_defaults_from_the_file() {
    let default = spec(&[]).preflight;
    assert_eq!(
        default,
        PreflightSpec {
            mode: PreflightMode::Auto,
            force: false,
            backend: None,
            root: "/".into(),
            deadline: Duration::from_secs(5),
            deadline_without_persistence: Duration::from_secs(15),
            severity: BTreeMap::new(),
            compat: CompatChoice::Auto,
        }
    );
    let preflight = |words: &[&str]| spec(words).preflight;
    for (word, mode) in [
        ("off", PreflightMode::Off),
        ("auto", PreflightMode::Auto),
        (" full ", PreflightMode::Full),
    ] {
        assert_eq!(preflight(&["--preflight", word]).mode, mode);
    }
    let typed = preflight(&["--force", "--backend", "cpu:gloo,cuda:NCCL", "--sysroot", "/host"]);
    let expected = PreflightSpec {
        force: true,
        backend: Some("cpu:gloo,cuda:nccl".to_owned()),
        root: "/host".into(),
        ..default.clone()
    };
    assert_eq!(typed, expected);
    assert_eq!(
        spec_by_env(&[("NVLAUNCH_SYSROOT", "/other")]).preflight.root,
        PathBuf::from("/other")
    );
    assert_eq!(spec_by_env(&[("NVLAUNCH_SYSROOT", "")]).preflight, default);
    // They are nvlaunch's own: torchrun's variables do not reach them.
    let pet = [("PET_PREFLIGHT", "off"), ("PET_BACKEND", "mpi"), ("PET_FORCE", "1")];
    assert_eq!(spec_by_env(&pet).preflight, default);
}

#[test]
fn preflight_by_itself_is_resolved_as_a_launch_is() {
    let request = |words: &[&str], env: &[(&str, &str)]| {
        let line = ["nvlaunch", "preflight"].iter().chain(words).map(OsString::from);
        let env: Env = env.iter().copied().collect();
        match cli::parse(line.collect(), &env) {
            Ok(Invocation::Preflight(args)) => resolve_preflight(&args, &env, &embedded()),
            other => panic!("{words:?}: {other:?}"),
        }
    };
    let plain = request(&[], &[]).expect("it is right");
    assert_eq!(plain.spec, spec(&[]).preflight);
    assert_eq!((plain.nproc, plain.python), (None, None));
    let words = ["--full", "--nproc", "gpu", "--python", "py", "--backend", "NCCL"];
    let full = request(&words, &[("NVLAUNCH_SYSROOT", "/host")]).expect("it is right");
    assert_eq!(full.spec.mode, PreflightMode::Full);
    assert_eq!((full.nproc, full.python), (Some(ProcCount::Gpu), Some("py".into())));
    assert_eq!((full.spec.backend, full.spec.root), (Some("nccl".to_owned()), "/host".into()));
    assert!(request(&["--nproc", "-3"], &[]).is_err());
    assert!(request(&["--backend", "a b"], &[]).is_err());
}

#[test]
fn warm_start_is_off_unless_asked_for_and_its_value_stands_behind_an_equals_sign() {
    let warm = |words: &[&str]| spec(words).warm;
    let default = WarmSpec {
        modules: vec!["torch".to_owned(), "torch.distributed".to_owned()],
        at: WarmAt::Both,
        deadline: Duration::from_secs(300),
    };
    assert_eq!(warm(&[]), None);
    assert_eq!(warm(&["--warm-at", "start"]), None);
    let taken = spec(&["--warm"]);
    assert_eq!(taken.target, Target::Script("t.py".into()), "not the module");
    assert_eq!(taken.warm, Some(default.clone()));
    assert_eq!(warm(&["--warm="]), Some(default.clone()));
    let modules = vec!["a".to_owned(), "b_1.c".to_owned()];
    assert_eq!(warm(&["--warm=a, b_1.c"]), Some(WarmSpec { modules, ..default.clone() }));
    let words = ["--warm", "--warm-at", "restart", "--warm-timeout", "90s"];
    let restart =
        WarmSpec { at: WarmAt::Restart, deadline: Duration::from_secs(90), ..default.clone() };
    assert_eq!(warm(&words), Some(restart));
    for (words, said) in [
        (["--warm=a/b"], "`a/b` is no module"),
        (["--warm=a,,b"], "`` is no module"),
        (["--warm=1a"], "`1a` is no module"),
        (["--warm-at=never"], "`never` is not known"),
        (["--warm-timeout=x"], "`x` is no time"),
    ] {
        let text = message(&words, &[]);
        assert!(text.contains(said) && text.contains("hint: "), "{text}");
    }
}

#[test]
fn a_flag_is_set_by_its_variable_as_by_the_command_line() {
    let mut seen = 0;
    for arg in cli::command().get_arguments() {
        let Some(long) = arg.get_long().filter(|_| !arg.get_action().takes_values()) else {
            continue;
        };
        if matches!(long, "help" | "version") {
            continue;
        }
        let variable = format!("NVLAUNCH_{}", long.replace('-', "_").to_uppercase());
        let without_notes = |spec: LaunchSpec| LaunchSpec { notes: Vec::new(), ..spec };
        let typed = without_notes(spec(&[&format!("--{long}")]));
        let set = spec_by_env(&[(&variable, "1")]);
        assert!(set.notes.iter().all(|note| !note.contains("is not known")), "{:?}", set.notes);
        assert_eq!(without_notes(set), typed, "{variable}");
        assert_eq!(without_notes(spec_by_env(&[(&variable, "0")])), spec(&[]), "{variable}");
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn a_variable_may_have_the_other_name_of_its_option() {
    for arg in cli::command().get_arguments() {
        for alias in arg.get_visible_aliases().unwrap_or_default() {
            let long = format!("--{}", arg.get_long().unwrap_or_default());
            let pair = (&*long, &*format!("--{alias}"));
            assert!(layers::ALIASES.contains(&pair), "{pair:?}");
        }
    }
    let three = spec(&["--nproc", "3"]);
    assert_eq!(spec_by_env(&[("NVLAUNCH_NPROC", "3")]), three);
    assert_eq!(spec_by_env(&[("NVLAUNCH_NPROC", "2"), ("NVLAUNCH_NPROC_PER_NODE", "3")]), three);
    // torchrun has no such variable.
    assert_eq!(spec_by_env(&[("PET_NPROC", "3")]), spec(&[]));
}
