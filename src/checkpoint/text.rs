//! What `nvlaunch checkpoint inspect` says to people. Pure; nothing is said by colour alone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};

use super::choose::name;
use super::layout::Pointer;
use super::scan::{Candidate, Scan};
use super::{Layout, Verdict, thousands};
use crate::layout::{WIDTH, hang, plain, size};
use crate::report::text::counted;

/// A folder that was looked through.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The folder, as it was named.
    pub folder: PathBuf,
    /// The layout that was asked for.
    pub asked: Option<Layout>,
    /// What is there.
    pub scan: Scan,
    /// Where nothing is: the layout of which there are some.
    pub other: Option<Layout>,
    /// Whether the folder is itself one of those in the folder above it.
    pub is_one: bool,
    /// What the time was.
    pub now: SystemTime,
}

/// The whole text.
pub fn render(inspected: &Inspected, colour: bool) -> String {
    let Inspected { folder, scan, now, .. } = inspected;
    let mut text = String::new();
    if !scan.candidates.is_empty() {
        let layout = scan.layout.map(|layout| format!(" of {layout}")).unwrap_or_default();
        let head = format!("checkpoints{layout} in {}, newest first", shown(folder));
        push(&mut text, &hang("", "", &head));
        text.push('\n');
        table(&mut text, scan, *now, colour);
        text.push('\n');
    }
    for sentence in words(inspected) {
        push(&mut text, &hang("", "", &sentence));
    }
    text
}

/// What it comes to, one sentence each; what would be used is the last but for what may help.
pub fn words(inspected: &Inspected) -> Vec<String> {
    let Inspected { folder, scan, .. } = inspected;
    let folder = shown(folder);
    let mut words: Vec<String> = scan.pointer.iter().map(|p| of_pointer(scan, p)).collect();
    if let Some(why) = &scan.failed {
        words.push(format!("{folder} {why}; a launch would not start."));
        return words;
    }
    if let Some(why) = scan.undecided() {
        words.push(format!(
            "{}; a launch would not start: what is older might throw work away.",
            plain(&why)
        ));
        return words;
    }
    let newer = scan.newer().len() as u64;
    match scan.chosen() {
        Some(chosen) if newer == 0 => {
            words.push(format!("Ranks would resume from {}: it is the newest.", called(chosen)));
        }
        Some(chosen) => words.push(format!(
            "Ranks would resume from {}: it is the newest that is whole; {} {} not.",
            called(chosen),
            counted(newer, "newer one", "newer ones"),
            if newer == 1 { "is" } else { "are" },
        )),
        None if scan.candidates.is_empty() => words.extend(nothing(inspected, &folder)),
        None => {
            words.push(
                "Nothing here can be resumed from: ranks would start from the beginning.".into(),
            );
        }
    }
    words
}

/// Where no candidate is.
fn nothing(inspected: &Inspected, folder: &str) -> Vec<String> {
    let of = inspected.asked.map(|layout| format!(" of {layout}")).unwrap_or_default();
    let mut words = vec![format!(
        "There are no checkpoints{of} in {folder}: ranks would start from the beginning."
    )];
    if let Some(other) = inspected.other {
        words.push(format!("Without --layout those of {other} are found."));
    }
    if inspected.is_one {
        words.push("It is a checkpoint itself: inspect the folder that it stands in.".to_owned());
    }
    words
}

/// What the layout's own pointer says, beside what is true.
fn of_pointer(scan: &Scan, pointer: &Pointer) -> String {
    let file = plain(&pointer.file);
    let Some(names) = &pointer.names else { return format!("{file} is torn or empty.") };
    let names = plain(names);
    let is = match named(scan, pointer) {
        None => "which is not there".to_owned(),
        Some(at) if scan.chosen == Some(at) => "too".to_owned(),
        Some(at) => match scan.candidates[at].judged.as_ref().map(|judged| &judged.verdict) {
            Some(Verdict::Broken(_)) => "which is not whole".to_owned(),
            Some(Verdict::Export(_)) => "which holds weights alone".to_owned(),
            Some(Verdict::Unknown(_)) => "which could not be judged".to_owned(),
            Some(Verdict::Whole) => "which is whole, and older".to_owned(),
            None => "which is older".to_owned(),
        },
    };
    match is.as_str() {
        "too" => format!("{file} names {names}."),
        is => format!("{file} names {names}, {is}."),
    }
}

/// The place of the candidate that a pointer names: by its name, or by its number.
pub fn named(scan: &Scan, pointer: &Pointer) -> Option<usize> {
    let names = pointer.names.as_deref()?.trim();
    let last = Path::new(names).file_name()?;
    let by_name = |one: &Candidate| one.found.path.file_name() == Some(last);
    let number = last.to_str().and_then(|text| text.parse().ok());
    let by_number = |one: &Candidate| number.is_some() && one.found.number == number;
    let candidates = &scan.candidates;
    candidates.iter().position(by_name).or_else(|| candidates.iter().position(by_number))
}

/// When a candidate was last written.
pub fn modified(candidate: &Candidate) -> Option<SystemTime> {
    candidate.judged.as_ref().and_then(|judged| judged.modified).or(candidate.found.modified)
}

const HEAD: [&str; 5] = ["name", "step", "size", "age", "verdict"];

fn table(text: &mut String, scan: &Scan, now: SystemTime, colour: bool) {
    let rows: Vec<[String; 5]> = scan.candidates.iter().map(|one| row(one, now)).collect();
    let head = HEAD.map(str::to_owned);
    let width = |column: usize| {
        let all = rows.iter().chain([&head]).map(|row| row[column].chars().count());
        all.max().unwrap_or(0)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    // A long name stands on a line of its own.
    let is_wide = 4 + widths.iter().sum::<usize>() + 4 * 2 > WIDTH;
    let columns = |row: &[String; 5]| {
        let [name, step, bytes, age, verdict] = row;
        let rest = format!(
            "{step:>step_width$}  {bytes:>size_width$}  {age:>age_width$}  {verdict}",
            step_width = widths[1],
            size_width = widths[2],
            age_width = widths[3],
        );
        if is_wide {
            (format!("{name}\n      "), rest)
        } else {
            (format!("{name:<0$}  ", widths[0]), rest)
        }
    };
    let (name, rest) = columns(&head);
    let _ = writeln!(text, "    {name}{rest}");
    for (at, (candidate, row)) in scan.candidates.iter().zip(&rows).enumerate() {
        let is_chosen = scan.chosen == Some(at) && scan.undecided().is_none();
        let mark = if is_chosen { "  > " } else { "    " };
        let (name, mut rest) = columns(row);
        let verdict = &row[4];
        if let Some(style) = style(candidate).filter(|_| colour) {
            let from = rest.len() - verdict.len();
            rest.replace_range(from.., &format!("{style}{verdict}{style:#}"));
        }
        let _ = writeln!(text, "{mark}{name}{rest}");
        for reason in reasons(candidate) {
            push(text, &hang("        ", "          ", &reason));
        }
    }
}

fn row(candidate: &Candidate, now: SystemTime) -> [String; 5] {
    let unknown = || "-".to_owned();
    let judged = candidate.judged.as_ref();
    let verdict = match judged.map(|judged| &judged.verdict) {
        Some(Verdict::Whole) => "whole",
        Some(Verdict::Broken(_)) => "broken",
        Some(Verdict::Export(_)) => "export",
        Some(Verdict::Unknown(_)) => "unknown",
        None => "not looked at",
    };
    let age = modified(candidate).and_then(|at| now.duration_since(at).ok());
    [
        plain(&name(&candidate.found.path)),
        candidate.step().map_or_else(unknown, thousands),
        judged.map_or_else(unknown, |judged| size(judged.bytes)),
        age.map_or_else(unknown, |age| old(age.as_secs())),
        verdict.to_owned(),
    ]
}

/// Why a candidate is no resume point, one line for each reason.
fn reasons(candidate: &Candidate) -> Vec<String> {
    match candidate.judged.as_ref().map(|judged| &judged.verdict) {
        Some(Verdict::Broken(flaws)) => flaws.iter().map(|flaw| plain(&flaw.to_string())).collect(),
        Some(Verdict::Export(why) | Verdict::Unknown(why)) => vec![plain(why)],
        Some(Verdict::Whole) | None => Vec::new(),
    }
}

fn style(candidate: &Candidate) -> Option<Style> {
    Some(match candidate.judged.as_ref()?.verdict {
        Verdict::Whole => AnsiColor::Green.on_default(),
        Verdict::Broken(_) => AnsiColor::Red.on_default(),
        Verdict::Export(_) | Verdict::Unknown(_) => AnsiColor::Yellow.on_default(),
    })
}

/// `global_step20 (step 20)`
fn called(candidate: &Candidate) -> String {
    let name = plain(&name(&candidate.found.path));
    match candidate.step() {
        Some(step) => format!("{name} (step {})", thousands(step)),
        None => name,
    }
}

/// `12 s`, `3 min`, `5 h`, `3 days`
fn old(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

fn push(text: &mut String, lines: &[String]) {
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::{Flaw, Found, Judged};

    fn candidate(step: u64, age: u64, verdict: Option<Verdict>) -> Candidate {
        let modified = Some(now() - Duration::from_secs(age));
        Candidate {
            found: Found {
                layout: Layout::Deepspeed,
                path: format!("runs/a/global_step{step}").into(),
                number: Some(step),
                step: Some(step),
                modified,
            },
            judged: verdict.map(|verdict| Judged {
                verdict,
                step: None,
                bytes: 1_310_720,
                files: 4,
                modified,
            }),
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    /// A broken one, the chosen one, one that was not looked at.
    pub(in crate::checkpoint) fn inspected() -> Inspected {
        let flaws = vec![
            Flaw::new("mp_rank_00_model_states.pt", "is empty"),
            Flaw::new("latest", "x".repeat(90)),
        ];
        let names = Some("global_step30".to_owned());
        Inspected {
            folder: "runs/a".into(),
            asked: None,
            scan: Scan {
                layout: Some(Layout::Deepspeed),
                candidates: vec![
                    candidate(30, 180, Some(Verdict::Broken(flaws))),
                    candidate(20, 7300, Some(Verdict::Whole)),
                    candidate(1_000, 300_000, None),
                ],
                pointer: Some(Pointer { file: "latest".to_owned(), names }),
                chosen: Some(1),
                failed: None,
            },
            other: None,
            is_one: false,
            now: now(),
        }
    }

    #[test]
    fn what_is_there_and_what_is_used() {
        let text = render(&inspected(), false).replace(&"x".repeat(90), "is stale");
        insta::assert_snapshot!(text, @"
        checkpoints of deepspeed in runs/a, newest first

            name              step     size     age  verdict
            global_step30       30  1.2 MiB   3 min  broken
                mp_rank_00_model_states.pt is empty
                latest
                  is stale
          > global_step20       20  1.2 MiB     2 h  whole
            global_step1000  1,000        -  3 days  not looked at

        latest names global_step30, which is not whole.
        Ranks would resume from global_step20 (step 20): it is the newest that is whole;
        1 newer one is not.
        ");
        let painted = render(&inspected(), true);
        assert!(painted.contains("\u{1b}[31mbroken\u{1b}[0m"), "{painted:?}");
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), render(&inspected(), false));
    }

    #[test]
    fn long_names_stand_on_lines_of_their_own() {
        let mut inspected = inspected();
        let name = format!("runs/a/epoch=12-{}-step=30.ckpt", "x".repeat(60));
        inspected.scan.candidates[0].found.path = name.into();
        inspected.scan.candidates[1].found.path = "runs/a/\u{1b}[31mred\nx".into();
        let text = render(&inspected, false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"         20  1.2 MiB     2 h  whole"), "{text}");
        assert!(lines.contains(&"  > red x"), "{text}");
    }

    #[test]
    fn what_it_comes_to() {
        let with = |change: &dyn Fn(&mut Inspected)| {
            let mut inspected = inspected();
            change(&mut inspected);
            words(&inspected).join(" ")
        };
        let unknown = |why: &str| Some(Verdict::Unknown(why.to_owned()));
        let table: &[(&dyn Fn(&mut Inspected), &str)] = &[
            (
                &|i| {
                    i.scan.candidates.remove(0);
                    i.scan.chosen = Some(0);
                },
                "latest names global_step30, which is not there. Ranks would resume from \
                 global_step20 (step 20): it is the newest.",
            ),
            (
                &|i| {
                    i.scan.pointer.as_mut().unwrap().names = Some("/old/runs/global_step20".into());
                },
                "latest names /old/runs/global_step20. Ranks would resume from global_step20 (step \
                 20): it is the newest that is whole; 1 newer one is not.",
            ),
            (
                &|i| {
                    i.scan.pointer.as_mut().unwrap().names = None;
                    i.scan.chosen = None;
                },
                "latest is torn or empty. Nothing here can be resumed from: ranks would start from \
                 the beginning.",
            ),
            (
                // Megatron's tracker holds a number.
                &|i| i.scan.pointer.as_mut().unwrap().names = Some("1000\n".into()),
                "latest names 1000, which is older. Ranks would resume from global_step20 (step \
                 20): it is the newest that is whole; 1 newer one is not.",
            ),
            (
                &|i| {
                    i.scan.pointer = None;
                    i.scan.candidates[0] = candidate(30, 1, unknown("cannot be read: denied"));
                    i.scan.chosen = None;
                },
                "runs/a/global_step30 cannot be read: denied; a launch would not start: what is \
                 older might throw work away.",
            ),
            (
                &|i| {
                    i.scan =
                        Scan { failed: Some("cannot be read: denied".into()), ..Scan::default() }
                },
                "runs/a cannot be read: denied; a launch would not start.",
            ),
            (
                &|i| i.scan = Scan::default(),
                "There are no checkpoints in runs/a: ranks would start from the beginning.",
            ),
            (
                &|i| {
                    i.scan = Scan::default();
                    i.asked = Some(Layout::Hf);
                    i.other = Some(Layout::Dcp);
                    i.is_one = true;
                },
                "There are no checkpoints of hf in runs/a: ranks would start from the beginning. \
                 Without --layout those of dcp are found. It is a checkpoint itself: inspect the \
                 folder that it stands in.",
            ),
        ];
        for (change, expected) in table {
            assert_eq!(with(change), *expected);
        }
    }

    #[test]
    fn ages_are_short() {
        for (seconds, words) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(old(seconds), words);
        }
    }
}
