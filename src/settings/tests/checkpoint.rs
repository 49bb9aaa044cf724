//! Checkpoints, restarts and preemption: where values come from, and what is wrong with them.

use super::*;
use crate::checkpoint::Layout;
use crate::diagnose::class::{Class, Remedy};
use crate::profile::source::{self, Source};

fn with_profile(text: &str, words: &[&str]) -> LaunchSpec {
    let name = "p.yaml".into();
    let source = Source { name, text: format!("version: 1\n{text}") };
    let document = source::parse(&source).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut files = embedded();
    files.values = files.values.below(document.values);
    let line = ["nvlaunch"].iter().chain(words).chain(&["t.py"]).map(OsString::from);
    match cli::parse(line.collect(), &Env::default()) {
        Ok(Invocation::Run(args)) => resolve(&args, &Env::default(), &files)
            .unwrap_or_else(|error| panic!("{words:?}: {error}")),
        other => panic!("{words:?} is no run: {other:?}"),
    }
}

fn folder(words: &[&str]) -> CheckpointSpec {
    spec(&[&["--checkpoint-dir", "/ckpt"], words].concat()).checkpoint.expect("there is a folder")
}

fn message_of(words: &[&str]) -> String {
    let line = ["nvlaunch"].iter().chain(words).chain(&["t.py"]).map(OsString::from);
    render(&cli::parse(line.collect(), &Env::default()).expect_err("the words are wrong"))
}

/// The option, a value that changes the launch, and the key.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("--checkpoint-dir", "/ckpt", "checkpoint.dir"),
    ("--checkpoint-layout", "deepspeed", "checkpoint.layout"),
    ("--checkpoint-pattern", "step_{step}.pt", "checkpoint.pattern"),
    ("--resume-style", "hf", "checkpoint.resume-style"),
    ("--resume-arg", "--resume {path}", "checkpoint.resume-arg"),
    ("--expect-step", "1000", "checkpoint.expect-step"),
    ("--restart-backoff", "2s..3m", "restart.backoff"),
    ("--on-suspicious-success", "fail", "restart.on-suspicious-success"),
    ("--stop-signal", "SIGTERM,SIGUSR1", "preemption.signals"),
    ("--preemption-grace", "90s", "preemption.grace"),
];

#[test]
fn every_value_knows_where_it_was_given() {
    for (option, value, key) in OPTIONS {
        let variable = format!("NVLAUNCH_{}", option[2..].replace('-', "_").to_uppercase());
        let origin = |words: &[&str], env: &[(&str, &str)]| {
            let line = ["nvlaunch"].iter().chain(words).chain(&["t.py"]).map(OsString::from);
            let env: Env = env.iter().copied().collect();
            let Ok(Invocation::Run(args)) = cli::parse(line.collect(), &env) else {
                panic!("{words:?} is no run");
            };
            let spec = resolve(&args, &env, &embedded()).expect("it is right");
            let setting = spec.settings.into_iter().find(|setting| setting.key == *key);
            let setting = setting.unwrap_or_else(|| panic!("{key} was not looked at"));
            (setting.value, setting.origin)
        };
        let typed = (value.to_string(), Origin::Option(option));
        assert_eq!(origin(&[option, value], &[(&*variable, "x")]), typed);
        let by_variable = origin(&[], &[(&*variable, value)]);
        assert_eq!(by_variable, (value.to_string(), Origin::Variable(variable.clone())));
        assert_eq!(origin(&[], &[]).1, Origin::Default(key), "{key}");
        // torchrun has none of them.
        let pet = variable.replace("NVLAUNCH", "PET");
        assert_eq!(origin(&[], &[(&*pet, value)]).1, Origin::Default(key), "{key}");
    }
    for (flag, is_set) in [
        (
            "--quarantine",
            (|spec: &LaunchSpec| spec.checkpoint.as_ref().unwrap().quarantine) as fn(&_) -> _,
        ),
        ("--requeue", |spec: &LaunchSpec| spec.preemption.requeue),
    ] {
        assert!(is_set(&spec(&["--checkpoint-dir", "c", flag])), "{flag}");
        assert!(!is_set(&spec(&["--checkpoint-dir", "c"])), "{flag}");
    }
}

#[test]
fn without_a_word_nothing_is_looked_for() {
    let plain = spec(&[]);
    assert_eq!(plain.checkpoint, None);
    assert_eq!(plain.expect_step, None);
    assert_eq!(
        plain.restart,
        RestartSpec {
            backoff: None,
            final_codes: Vec::new(),
            remedies: BTreeMap::new(),
            unfinished: OnUnfinished::Warn,
        }
    );
    assert_eq!(plain.preemption, PreemptionSpec { signals: vec![15], grace: None, requeue: false });
    // An empty path is none.
    assert_eq!(spec(&["--checkpoint-dir", ""]).checkpoint, None);
    assert_eq!(spec(&["--checkpoint-dir", "none"]).checkpoint, None);
    // Its own words apart, the folder has what the file says.
    let folder = folder(&[]);
    let expected = CheckpointSpec {
        dir: "/ckpt".into(),
        layout: None,
        pattern: None,
        resume_args: Vec::new(),
        quarantine: false,
        deadline: Duration::from_secs(60),
    };
    assert_eq!(folder, expected);
}

#[test]
fn what_is_typed_is_understood() {
    assert_eq!(
        folder(&["--checkpoint-layout", "megatron-legacy"]).layout,
        Some(Layout::MegatronLegacy)
    );
    assert_eq!(folder(&["--checkpoint-layout", "auto"]).layout, None);
    let pattern = folder(&["--checkpoint-pattern", "step_{step}.pt"]).pattern;
    assert_eq!(pattern.as_deref(), Some("step_{step}.pt"));
    assert_eq!(
        folder(&["--resume-style", "hf"]).resume_args,
        ["--resume_from_checkpoint", "{path}"]
    );
    let own = folder(&["--resume-arg", "--resume '{path}' --at={step}"]).resume_args;
    assert_eq!(own, ["--resume", "{path}", "--at={step}"]);
    // A word that looks like an option of ours is none here, and the next one is.
    let own = folder(&["--resume-arg", "--resume={path}", "--quarantine"]);
    assert_eq!((own.resume_args, own.quarantine), (vec!["--resume={path}".to_owned()], true));
    let text = message_of(&["--resume-arg", "--quarantine"]);
    assert!(text.contains("`--resume-arg` needs a value"), "{text}");
    let restart = |words: &[&str]| spec(words).restart;
    let times = |first, most| {
        let [first, most] = [first, most].map(Duration::from_secs);
        Some(Backoff { first, most })
    };
    assert_eq!(restart(&["--restart-backoff", "1s..5m"]).backoff, times(1, 300));
    assert_eq!(restart(&["--restart-backoff", "10s"]).backoff, times(10, 10));
    assert_eq!(restart(&["--restart-backoff", "0s"]).backoff, times(0, 0));
    assert_eq!(restart(&["--on-suspicious-success", "fail"]).unfinished, OnUnfinished::Fail);
    assert_eq!(spec(&["--expect-step", "10000"]).expect_step, Some(10_000));
    let grace = |word| spec(&["--preemption-grace", word]).preemption.grace;
    assert_eq!(grace("90s"), Some(Duration::from_secs(90)));
}

#[test]
fn signals_of_a_preemption_end_the_job_only_where_it_saves() {
    let signals = |words: &[&str]| {
        let spec = spec(&[&["--stop-signal", "SIGUSR1,SIGTERM"], words].concat());
        let mut of_preemption = spec.preemption.signals;
        of_preemption.sort_unstable();
        (of_preemption, spec.extra_end_signals)
    };
    assert_eq!(signals(&[]), (vec![10, 15], vec![]));
    // USR1 is no longer passed on as a notice; TERM ends a job anyway.
    assert_eq!(signals(&["--checkpoint-dir", "/ckpt"]), (vec![10, 15], vec![10]));
    let both = signals(&["--checkpoint-dir", "/ckpt", "--signals-to-handle", "SIGUSR1,SIGUSR2"]);
    assert_eq!(both.1, [10, 12]);
}

#[test]
fn a_profile_says_what_follows_from_a_class() {
    let text = "restart:\n  policy: {import: retry, lost-peer: never}\n  final-codes: [2, 64]\n";
    let spec = with_profile(text, &[]);
    let expected = [(Class::Import, Remedy::Retry), (Class::LostPeer, Remedy::Never)];
    assert_eq!(spec.restart.remedies, BTreeMap::from(expected));
    assert_eq!(spec.restart.final_codes, [2, 64]);
    let text = "checkpoint: {dir: runs/a, layout: hf, deadline: 5s, quarantine: true}\n\
                preemption: {signals: [SIGUSR1], requeue: true, grace: 2m}\n";
    let spec = with_profile(text, &["--checkpoint-dir", "runs/b"]);
    let folder = spec.checkpoint.expect("there is a folder");
    assert_eq!((folder.dir, folder.layout), ("runs/b".into(), Some(Layout::Hf)));
    assert_eq!((folder.deadline, folder.quarantine), (Duration::from_secs(5), true));
    let grace = Some(Duration::from_secs(120));
    assert_eq!(spec.preemption, PreemptionSpec { signals: vec![10], grace, requeue: true });
}

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    for (option, value, said, hint) in [
        ("--checkpoint-layout", "deepsped", "`deepsped` is not known", "did you mean `deepspeed`?"),
        ("--checkpoint-layout", "torch", "`torch` is not known", "torchtitan"),
        ("--checkpoint-pattern", "x.pt", "`x.pt` has no {step} in it", "as in step_{step}.pt"),
        ("--checkpoint-pattern", "{step}-{step}", "has {step} in it twice", "step_{step}.pt"),
        ("--checkpoint-pattern", "a/{step}.pt", "names a folder", "the name of a file"),
        ("--resume-style", "huggingface", "`huggingface` is not known", "hf"),
        (
            "--resume-arg",
            "{pth}",
            "`{pth}` is not known",
            "{path}, {quoted} (for Hydra), {step}, {name} and {dir}",
        ),
        ("--resume-arg", "--a '{path}", "has a quote that does not end", "--resume {path}"),
        ("--expect-step", "0", "`0` is no step", "a number from 1"),
        ("--expect-step", "1e4", "`1e4` is no step", "a number from 1"),
        ("--restart-backoff", "5m..1s", "begins with more than it ends with", "1s..5m"),
        ("--restart-backoff", "5", "`5`", "write 1s..5m"),
        ("--restart-backoff", "1s..", "``", "write 1s..5m"),
        ("--on-suspicious-success", "ignore", "`ignore` is not known", "warn, fail"),
        ("--stop-signal", "SIGKILL", "SIGKILL", "hint: "),
        ("--stop-signal", "SIGUSR3", "`SIGUSR3`", "SIGUSR"),
        ("--preemption-grace", "soon", "`soon` is no time", "hint: "),
    ] {
        let text = message(&["--checkpoint-dir", "c", option, value], &[]);
        let (what, next) = text.split_once("hint: ").unwrap_or_else(|| panic!("no hint: {text}"));
        assert!(what.contains(said), "{option} {value}: {text}");
        assert!(what.contains(option), "{option} {value}: {text}");
        assert!(next.contains(hint) || hint == "hint: ", "{option} {value}: {text}");
        // The same where there is no folder.
        assert_eq!(message(&[option, value], &[]), text);
    }
}

#[test]
fn what_needs_a_folder_is_said_without_one() {
    let notes = |words: &[&str]| spec(words).notes;
    let none = "has no effect: there is no checkpoint folder";
    assert_eq!(notes(&["--resume-arg", "--a {path}"]), [format!("--resume-arg {none}")]);
    assert_eq!(notes(&["--resume-style", "hf"]), [format!("--resume-style {none}")]);
    for words in [&["--stop-signal", "SIGUSR1"][..], &["--preemption-grace", "90s"], &["--requeue"]]
    {
        assert_eq!(notes(words), [format!("{} {none}", words[0])]);
        assert_eq!(notes(&[words, &["--checkpoint-dir", "c"]].concat()), [""; 0]);
    }
    let said = with_profile("preemption: {grace: 2m, requeue: true}\n", &[]).notes;
    assert!(!said.iter().any(|note| note.contains(none)), "{said:?}");
    let dir = ["--checkpoint-dir", "c"];
    let both = [&dir[..], &["--resume-style", "hf", "--resume-arg", "{path}"]].concat();
    assert_eq!(notes(&both), ["--resume-style has no effect: --resume-arg comes before it"]);
    assert_eq!(notes(&dir), [""; 0]);
}
