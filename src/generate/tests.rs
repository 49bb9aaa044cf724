use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::cli::{self, SHELLS};
use crate::layout::WIDTH;
use crate::profile::keys;
use crate::{env_vars, exit_code};

/// Gives a program a text on stdin: whether it ended well, and what it said on stderr. `None` where
/// the program is not installed.
fn told(program: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // Who reads no further has seen enough; the exit code tells.
    let _ = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn completion(shell: &str) -> String {
    let line = ["nvlaunch", "generate", "completions", shell].map(Into::into).to_vec();
    match cli::parse(line, &crate::settings::env::Env::default()) {
        Ok(cli::Invocation::Print(script)) => script,
        other => panic!("{shell}: {other:?}"),
    }
}

/// Every subcommand and every long option of the program.
fn words_of_the_program() -> Vec<String> {
    fn walk(command: &clap::Command, words: &mut Vec<String>) {
        let longs = command.get_arguments().filter(|arg| !arg.is_hide_set());
        words.extend(longs.filter_map(|arg| arg.get_long()).map(str::to_owned));
        for below in command.get_subcommands() {
            words.push(below.get_name().to_owned());
            walk(below, words);
        }
    }
    let mut program = cli::program();
    program.build();
    let mut words = Vec::new();
    walk(&program, &mut words);
    words
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    assert_committed("REFERENCE.md", &reference::render());
}

#[test]
fn completions_know_every_subcommand_and_option() {
    let words = words_of_the_program();
    assert!(words.len() > 60, "{words:?}");
    for shell in SHELLS {
        let script = completion(shell);
        for word in &words {
            assert!(script.contains(word.as_str()), "{shell} does not know {word}");
        }
    }
}

#[test]
fn the_shells_can_read_their_completions() {
    // bash is there wherever these tests run.
    let (is_well, said) = told(&["bash", "-n"], &completion("bash")).expect("bash is installed");
    assert!(is_well && said.is_empty(), "{said}");
    for shell in ["zsh", "fish"] {
        if let Some((is_well, said)) = told(&[shell, "-n"], &completion(shell)) {
            assert!(is_well && said.is_empty(), "{shell}: {said}");
        }
    }
}

/// The words of `generate` say what there is, in the definitions as in the help.
#[test]
fn every_subcommand_has_a_page_and_a_help() {
    let pages = pages::all();
    for name in cli::SUBCOMMANDS.iter().filter(|name| !matches!(**name, "run" | "help")) {
        let page = pages.iter().find(|page| page.words == [*name]).expect(name);
        assert!(
            !page.about.is_empty() && !page.usage.is_empty() && !page.blocks.is_empty(),
            "{name}"
        );
        let alone = man::render(Some(name));
        assert!(alone.starts_with(&format!(".TH NVLAUNCH-{} 1 ", name.to_uppercase())), "{alone}");
    }
    let launch = cli::help_text(&[]).expect("the program has a help");
    for page in &pages {
        let words: Vec<_> = page.words.iter().map(String::as_str).collect();
        let help = cli::help_text(&words).expect("every page comes from a help");
        let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(wide.is_empty(), "{}: {wide:?}", page.name());
        // The definitions that completions follow are those of the help, its own or the launch's.
        let longs = page.command.get_arguments().filter(|arg| !arg.is_hide_set());
        for long in longs.filter_map(clap::Arg::get_long) {
            let is_general = matches!(long, "help" | "version");
            let is_said = |help: &str| help.contains(&format!("--{long}"));
            assert!(is_general || is_said(&help) || is_said(&launch), "{}: {long}", page.name());
        }
    }
}

#[test]
fn the_manual_is_read_without_a_warning() {
    let pages = [None].into_iter().chain(cli::SUBCOMMANDS.iter().map(|name| Some(*name)));
    let readers: [&[&str]; 2] = [
        &["groff", "-man", "-Tutf8", "-ww", "-z"],
        // A date would differ from build to build.
        &["mandoc", "-Tutf8", "-Werror"],
    ];
    for page in pages.map(man::render).filter(|page| !page.is_empty()) {
        for reader in readers {
            if let Some((is_well, said)) = told(reader, &page) {
                assert!(is_well && said.is_empty(), "{}: {said}", reader[0]);
            }
        }
        for line in page.lines() {
            assert!(!line.starts_with('\''), "a request by mistake: {line}");
        }
    }
}

#[test]
fn the_manual_holds_what_a_reader_looks_for() {
    let page = man::render(None).replace("\\-", "-");
    let sections = page.lines().filter_map(|line| line.strip_prefix(".SH "));
    insta::assert_snapshot!(sections.collect::<Vec<_>>().join("\n"), @r#"
    NAME
    SYNOPSIS
    DESCRIPTION
    OPTIONS
    COMMANDS
    "EXIT STATUS"
    ENVIRONMENT
    FILES
    EXAMPLES
    "#);
    for word in words_of_the_program().iter().filter(|word| *word != "run") {
        assert!(page.contains(word.as_str()), "{word}");
    }
    for exit in exit_code::ALL {
        assert!(page.contains(&format!("\\fB{}\\fR", exit.code)), "{}", exit.code);
    }
    let from = page.find(".SH COMMANDS").expect("there are commands");
    let to = from + page[from..].find(".SS \"nvlaunch explain\"").expect("explain is one");
    let preflight = page[from..to].lines().take(20).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(preflight);
    insta::assert_snapshot!(
        "manual_of_explain",
        man::render(Some("explain")).lines().take(26).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn the_reference_names_everything() {
    let page = reference::render();
    let cells: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let has = |name: &str| cells.iter().any(|cell| cell.starts_with(&format!("{name}`")));
    for key in keys::ALL {
        assert!(has(key.path), "{}", key.path);
    }
    for path in keys::MAPS.iter().chain(keys::HEADER) {
        assert!(has(path), "{path}");
    }
    for variable in env_vars::ALL {
        assert!(has(variable.name), "{}", variable.name);
    }
    for entry in crate::preflight::catalogue::ALL {
        assert!(has(&entry.code.0), "{}", entry.code);
    }
    // A table whose rows have other cells than its head is shown as text.
    let mut columns = 0;
    for line in page.lines() {
        let bars = line.matches('|').count() - line.matches("\\|").count();
        match line.starts_with('|') {
            true if columns == 0 => columns = bars,
            true => assert_eq!(bars, columns, "{line}"),
            false => columns = 0,
        }
    }
    let rows = |start: &str| {
        let rows = page.lines().filter(|line| line.starts_with(start));
        rows.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(rows("| `shutdown.timeout"), @r"| `shutdown.timeout` | a time with its unit: 30s, 5m, 1h | `30s` | `--shutdown-timeout` | `NVLAUNCH_SHUTDOWN_TIMEOUT` `PET_SHUTDOWN_TIMEOUT` `TORCH_ELASTIC_SHUTDOWN_TIMEOUT` | from the first request to end until the ranks are killed. |");
    insta::assert_snapshot!(rows("| `--max-restarts"), @r"| `--max-restarts N` | Restarts of the whole job after a failure [default: 0] |");
    insta::assert_snapshot!(rows("| `NVL001"), @r"| `NVL001` | `DRIVER_LIB_MISMATCH_NEWER_USERSPACE` | error | the driver's libraries are newer than the module in the kernel |");
    insta::assert_snapshot!(rows("| `6"), @r"
    | `65` | Every rank ended with 0 and the job was not done, where `--on-suspicious-success fail` says so. |
    | `66` | A file that was named cannot be used: the script is missing, a folder, not readable; facts or a plan that are none; a profile that nobody has; a folder to inspect. |
    | `69` | Something the launch needs is not here: the interpreter, a GPU that `--nproc gpu` asks for. Preflight refuses the machine: no rank was started; the same from `nvlaunch preflight` and `nvlaunch plan`. The checkpoint folder, or what is newest there, could not be looked at; the same from `nvlaunch checkpoint inspect`. |
    ");
}
