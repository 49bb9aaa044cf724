use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use proptest::prelude::*;

use super::split::{Known, Split, split};
use super::*;
use crate::error::{Explain as _, render};
use crate::profile::keys::{self, Kind};

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn parse_words(line: &[OsString]) -> Result<Invocation, CliError> {
    let argv = std::iter::once(OsString::from("nvlaunch")).chain(line.iter().cloned()).collect();
    parse(argv, &Env::default())
}

fn parse_line(line: &str) -> Result<Invocation, CliError> {
    parse_words(&words(line))
}

fn run_args(line: &str) -> RunArgs {
    match parse_line(line) {
        Ok(Invocation::Run(args)) => *args,
        other => panic!("`{line}` is no run: {other:?}"),
    }
}

fn message(line: &str) -> String {
    let error = parse_line(line).expect_err("the command line is wrong");
    assert_eq!(error.exit_code(), 2, "{line}");
    render(&error)
}

fn printed(line: &str) -> String {
    match parse_line(line) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("`{line}` prints nothing: {other:?}"),
    }
}

/// Command lines with a `|` where the script begins; a line without one has none.
#[test]
fn the_script_begins_where_the_options_end() {
    let lines = [
        "| t.py",
        "| t.py --nproc 2",
        "| t.py -- x",
        "| t.py -h",
        "| t.py --help --nonsense",
        "| - a",
        "--nproc 2 | t.py",
        "--nproc=2 | t.py --nproc 3",
        "--nproc-per-node 2 | t.py",
        "--nproc_per_node 2 | t.py",
        "--nproc_per_node=2 | t.py",
        "--nproc -1 | t.py",
        "--nproc -.5 | t.py",
        "--nproc - | t.py",
        "--nproc= | t.py",
        "--standalone | t.py",
        "--standalone --nnodes 1 --nproc-per-node gpu | t.py --a b",
        "-r3 | t.py",
        "-r 3 | t.py",
        "-r=3 | t.py",
        "-r 0:1,1:2 -t3 | t.py",
        "-r -1 | t.py",
        "-m | pkg.mod -m",
        "-mr3 | pkg.mod",
        "-mr 3 | pkg.mod",
        "-mt3 -r 3 | pkg.mod --x",
        "--module | pkg.mod",
        "--no-python | prog --no-python",
        "--no_python --nproc 2 | prog -r 3",
        "--run-path | /abs/s.py",
        "--rdzv-endpoint host:29400 --rdzv_backend c10d | t.py",
        "--log-line-prefix-template ${rank} | t.py",
        "--duplicate-stdout-filters a,,b | t.py",
        "--python /x/python --stdin none | t.py",
        "--no-fold --keep-daemons | t.py",
        "--json-report r.json | t.py r.json",
        "--signals-to-handle SIGTERM,SIGUSR1 | t.py",
        "--shutdown-timeout 5m | t.py",
        "--preflight off --sysroot /host | t.py --force",
        "--force --backend=gloo | t.py",
        "--print-completion bash | t.py",
        "-h | t.py",
        "-V | t.py",
        "--help",
        "--nproc 2",
        "",
    ];
    let mut command = command();
    command.build();
    let known = Known::of(&command);
    for line in lines {
        let expected = words(line);
        let options = expected.iter().position(|word| word == "|").unwrap_or(expected.len());
        let script = (options < expected.len()).then_some(options);
        let argv: Vec<_> = expected.iter().filter(|word| *word != "|").cloned().collect();
        assert_eq!(split(&argv, &known), Split { options, script }, "{line}");
    }
    // `--` itself belongs to nobody.
    let dashes = [("-- t.py", 0, Some(1)), ("-m -- -x -- y", 1, Some(2)), ("-m --", 1, None)];
    for (line, options, script) in dashes {
        assert_eq!(split(&words(line), &known), Split { options, script }, "{line}");
    }
    // What clap has to refuse ends the options, and no script is looked for.
    for line in ["--bogus", "--nproc", "-r", "-x", "-mx", "-mr", "--bogus=1", "-1", "--nproc_"] {
        let argv = words(&format!("{line} --tee 3 t.py"));
        assert_eq!(split(&argv, &known), Split { options: 1, script: None }, "{line}");
    }
}

#[test]
fn words_become_options() {
    let args = run_args("--nproc 2 -mr3 --tee=0:1 --standalone pkg.mod -r 1");
    assert_eq!(args.nproc_per_node, Some("2".into()));
    assert!(args.module && args.standalone && !args.no_python);
    assert_eq!(args.redirects, Some("3".into()));
    assert_eq!(args.tee, Some("0:1".into()));
    assert_eq!(args.script, Some("pkg.mod".into()));
    assert_eq!(args.args, ["-r", "1"]);
}

#[test]
fn the_last_of_several_wins() {
    assert_eq!(run_args("--nproc 2 --nproc_per_node 3 t.py").nproc_per_node, Some("3".into()));
    assert!(run_args("--standalone --standalone t.py").standalone);
}

#[test]
fn only_the_first_word_is_a_subcommand() {
    assert_eq!(run_args("run plan").script, Some("plan".into()));
    assert_eq!(run_args("run run x").script, Some("run".into()));
    assert_eq!(run_args("run preflight").script, Some("preflight".into()));
    assert_eq!(run_args("./explain x").script, Some("./explain".into()));
    assert_eq!(run_args("--nproc 2 preflight").script, Some("preflight".into()));
    assert_eq!(run_args("--nproc 2 run t.py").script, Some("run".into()));
    assert_eq!(run_args("./run t.py").script, Some("./run".into()));
    assert_eq!(run_args("-- replay f").script, Some("replay".into()));
    let replay = parse_line("replay run/events");
    assert!(matches!(&replay, Ok(Invocation::Replay { file }) if file.ends_with("events")));
}

#[test]
fn every_option_has_both_spellings() {
    let mut command = command();
    command.build();
    let known = Known::of(&command);
    let mut spelled = 0;
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long().filter(|long| long.contains('-')) else { continue };
        for name in [long.to_owned(), long.replace('-', "_")] {
            let argv = words(&format!("--{name}=1 t.py"));
            assert_eq!(split(&argv, &known).script, Some(1), "--{name}");
            spelled += 1;
        }
    }
    assert!(spelled > 50, "only {spelled} spellings were tried");
}

#[test]
fn a_wrong_option_is_said_with_the_nearest_one() {
    let near = [
        ("--nporc 2 t.py", "--nproc"),
        ("--nproc_per_nod 2 t.py", "--nproc-per-node"),
        ("--nproc-per-nod=2 t.py", "--nproc-per-node"),
        ("--redirect 3 t.py", "--redirects"),
        ("--standalon t.py", "--standalone"),
        ("--max-restart 3 t.py", "--max-restarts"),
        ("--prefligt off t.py", "--preflight"),
        ("--backnd nccl t.py", "--backend"),
        ("preflight --jsn", "--json"),
        ("preflight --fact-out f", "--facts-out"),
        ("preflight --nproc_per_nod=2", "--nproc-per-node"),
        ("explain --lst", "--list"),
        ("profile list --sysrot /x", "--sysroot"),
        ("profile show --efective h", "--effective"),
        ("profile init --outptu f", "--output"),
    ];
    for (line, nearest) in near {
        let typed = line.split([' ', '=']).find(|word| word.starts_with('-')).unwrap_or_default();
        let expected =
            format!("nvlaunch: unexpected option `{typed}`\nhint: did you mean `{nearest}`?\n");
        assert_eq!(message(line), expected);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let lines = ["", "--nproc", "--log-dir --tee 3 t.py", "--standalone=1 t.py", "-x t.py"];
    let more =
        ["-mx t", "replay", "replay a b", "replay --x", "help foo", "--print-completion tcsh"];
    let of_preflight = [
        "preflight train.py",
        "preflight --json=1",
        "preflight --facts",
        "preflight --facts f --sysroot /x",
        "preflight --facts f --full",
        "explain",
        "explain NVL001 NVL002",
        "explain --list NVL001",
        "explain --x",
        "help preflght",
        "profile",
        "profile lst",
        "profile nonsense",
        "profile list x",
        "profile show",
        "profile show a b",
        "profile lint",
        "profile lint --format xml f",
        "profile schema x",
        "profile schema --x",
        "profile init -o",
        "help profile shw",
    ];
    let of_generate = [
        "generate",
        "generate completion bash",
        "generate completions",
        "generate completions bsh",
        "generate completions tcsh",
        "generate completions bash zsh",
        "generate manual page",
        "generate man preflght",
        "generate man nothing",
        "generate man explain replay",
        "generate reference x",
        "generate --hepl",
        "generate --list",
        "generate pdf",
        "help genrate",
    ];
    let said = lines
        .iter()
        .chain(&more)
        .chain(&of_preflight)
        .chain(&of_generate)
        .map(|line| format!("$ nvlaunch {line}\n{}", message(line)));
    let said = said.collect::<Vec<_>>().concat();
    insta::assert_snapshot!(said);
}

#[test]
fn help_is_80_columns_wide_at_most() {
    let help = printed("--help");
    let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, Vec::<&str>::new());
    for same in ["-h", "help", "help run", "run --help", "--nproc 2 -h", "-h t.py"] {
        assert_eq!(printed(same), help, "{same}");
    }
    insta::assert_snapshot!(help);
}

#[test]
fn the_help_of_preflight() {
    let preflight = printed("preflight --help");
    for same in ["preflight -h", "help preflight", "preflight --json -h"] {
        assert_eq!(printed(same), preflight, "{same}");
    }
    let explain = printed("explain --help");
    for same in ["explain -h", "help explain"] {
        assert_eq!(printed(same), explain, "{same}");
    }
    let both = preflight + "\n" + &explain;
    assert!(both.lines().all(|line| line.chars().count() <= 80), "{both}");
    insta::assert_snapshot!(both);
}

#[test]
fn the_help_of_generate() {
    let help = printed("generate --help");
    for same in ["generate -h", "help generate", "generate man --help", "generate completions -h"] {
        assert_eq!(printed(same), help, "{same}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    insta::assert_snapshot!(help);
    let generated = |line: &str| match parse_line(line) {
        Ok(Invocation::Generate(what)) => what,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(generated("generate man"), Generated::Man(None));
    assert_eq!(generated("generate man preflight"), Generated::Man(Some("preflight")));
    assert_eq!(generated("generate reference"), Generated::Reference);
    assert_eq!(printed("generate completions fish"), printed("--print-completion fish"));
}

#[test]
fn words_become_what_preflight_and_explain_are_asked_for() {
    let line = "preflight --profile p --nproc 8 --backend nccl --python py --full --sysroot /host --json \
                --facts_out f.json";
    let Ok(Invocation::Preflight(args)) = parse_line(line) else { panic!("{line}") };
    let expected = PreflightArgs {
        profile: Some("p".into()),
        nproc_per_node: Some("8".into()),
        backend: Some("nccl".into()),
        python: Some("py".into()),
        full: true,
        sysroot: Some("/host".into()),
        facts: None,
        json: true,
        facts_out: Some("f.json".into()),
    };
    assert_eq!(*args, expected);
    let explained = |line: &str| match parse_line(line) {
        Ok(Invocation::Explain(what)) => what,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(explained("explain --list"), Explained::List);
    assert_eq!(explained("explain nvl001"), Explained::Code("nvl001".to_owned()));
}

#[test]
fn the_help_of_profile() {
    let mut all = vec![printed("profile --help")];
    for same in ["profile -h", "profile help", "help profile"] {
        assert_eq!(printed(same), all[0], "{same}");
    }
    for word in profile::SUBCOMMANDS {
        let help = printed(&format!("profile {word} --help"));
        assert_eq!(printed(&format!("help profile {word}")), help);
        assert!(all[0].contains(&format!("\n  {word} ")), "{word}");
        all.push(help);
    }
    let all = all.join("\n");
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
    insta::assert_snapshot!(all);
}

#[test]
fn words_become_what_profile_is_asked_for() {
    let sysroot = || Some("/host".into());
    for (line, expected) in [
        ("list", ProfileCommand::List(ListArgs::default())),
        ("list --sysroot=/host", ProfileCommand::List(ListArgs { sysroot: sysroot() })),
        (
            "show --effective a/b.yaml",
            ProfileCommand::Show(ShowArgs {
                profile: Some("a/b.yaml".into()),
                effective: true,
                sysroot: None,
            }),
        ),
        (
            "lint a b --format json -- -c",
            ProfileCommand::Lint(LintArgs {
                files: vec!["a".into(), "b".into(), "-c".into()],
                format: Some("json".into()),
            }),
        ),
        ("schema", ProfileCommand::Schema),
        (
            "init -o f --force --sysroot /host",
            ProfileCommand::Init(InitArgs {
                python: None,
                output: Some("f".into()),
                force: true,
                sysroot: sysroot(),
            }),
        ),
    ] {
        match parse_line(&format!("profile {line}")) {
            Ok(Invocation::Profile(command)) => assert_eq!(command, expected, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!(run_args("run profile list").script, Some("profile".into()));
}

/// The texts name the defaults, and the defaults are those of the file.
#[test]
fn the_help_says_the_defaults_of_the_file() {
    let help = command().render_long_help().to_string().replace('\n', " ");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let defaults = crate::settings::defaults::layer().expect("the file is right");
    let said = keys::ALL.iter().filter_map(|key| {
        let option = key.option.filter(|_| key.unset.is_none() && !matches!(key.kind, Kind::Flag));
        Some((option?, &defaults.texts[key.path].value))
    });
    for (option, default) in said {
        let at = help.find(&format!("{option} ")).expect("the option is in the help");
        let from = &help[at..];
        let of_option = &from[..from.find(']').map_or(from.len(), |end| end + 1)];
        // A time is typed without its unit, as for torchrun.
        let of_option = of_option.replace("[default: 30]", "[default: 30s]");
        assert!(of_option.ends_with(&format!("[default: {default}]")), "{of_option}");
    }
}

#[test]
fn version_and_completion_are_printed() {
    let version = concat!("nvlaunch ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(printed("--version"), version);
    assert_eq!(printed("--nproc 2 -V t.py"), version);
    for shell in SHELLS {
        let script = printed(&format!("--print-completion {shell}"));
        for word in ["nproc-per-node", "facts-out", "explain", "schema"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

fn any_word() -> impl Strategy<Value = OsString> {
    prop_oneof![
        proptest::collection::vec(1_u8..=255, 0..12).prop_map(OsString::from_vec),
        prop_oneof![
            Just("--nproc"),
            Just("--"),
            Just("-h"),
            Just("--version"),
            Just("-r3"),
            Just("run"),
            Just("--bogus"),
            Just("$"),
        ]
        .prop_map(OsString::from),
    ]
}

proptest! {
    /// C1
    #[test]
    fn the_scripts_arguments_come_back_byte_for_byte(
        args in proptest::collection::vec(any_word(), 0..8),
        options in prop_oneof![Just(""), Just("--nproc 2"), Just("-mr3 --tee 3"), Just("run"), Just("--")],
    ) {
        let mut line = words(options);
        line.push(OsString::from_vec(b"s\xff.py".to_vec()));
        line.extend(args.iter().cloned());
        let Ok(Invocation::Run(run)) = parse_words(&line) else {
            panic!("{line:?} is no run");
        };
        prop_assert_eq!(run.script.as_deref().map(std::os::unix::ffi::OsStrExt::as_bytes), Some(&b"s\xff.py"[..]));
        prop_assert_eq!(run.args, args);
    }

    #[test]
    fn no_words_make_a_panic(line in proptest::collection::vec(any_word(), 0..8)) {
        let first = line.first().cloned();
        match parse_words(&line) {
            Ok(Invocation::Run(run)) => prop_assert!(run.script.is_some()),
            Ok(_) => prop_assert!(first.is_some()),
            Err(error) => prop_assert_eq!(error.exit_code(), 2),
        }
    }
}

#[test]
fn what_may_have_been_meant_is_spelt_as_the_help_spells_it() {
    for typed in ["--max_restart", "--max_restrts", "--log_dirr"] {
        let said = message(&format!("{typed} 3 t.py"));
        let (_, near) = said.split_once("did you mean `").expect("a suggestion");
        assert!(near.starts_with("--") && !near.contains('_'), "{said}");
    }
}
