mod causes;
mod shown;

use std::fmt::Write as _;

use super::judge::{Evidence, How, Look, Rank};
use super::*;

/// What a rank writes that came through `done` steps and, where there is one, is in the next.
fn file(done: usize, is_in_next: bool) -> String {
    let mut text = String::from("{\"event\":\"start\",\"pid\":7,\"at\":0}\n");
    for (number, step) in STEPS.iter().enumerate().take(done) {
        let _ = writeln!(text, "{{\"event\":\"begin\",\"step\":\"{step}\",\"at\":1}}");
        if step == &IMPORT {
            text.push_str("{\"event\":\"about\",\"torch\":\"2.15.0\",\"python\":\"3.11.7\"}\n");
        }
        let end = format!("\"step\":\"{step}\",\"seconds\":0.{:03},\"wrong\":null", number + 1);
        let _ = writeln!(text, "{{\"event\":\"end\",{end},\"at\":2}}");
    }
    if let Some(step) = STEPS.get(done).filter(|_| is_in_next) {
        let _ = writeln!(text, "{{\"event\":\"begin\",\"step\":\"{step}\",\"at\":3}}");
    }
    text
}

/// The file of a rank that came to the end.
fn whole() -> String {
    let times = [4u64, 1 << 20].map(|bytes| {
        format!("{{\"event\":\"timing\",\"bytes\":{bytes},\"seconds\":0.001,\"at\":4}}\n")
    });
    file(STEPS.len(), false) + &times.concat() + "{\"event\":\"done\",\"at\":5}\n"
}

/// Where `step` is right, it is wrong.
fn with_wrong(text: &str, step: &str, words: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.contains("\"end\"") && line.contains(&format!("\"{step}\"")) {
            line.replace("null", &format!("\"{words}\""))
        } else {
            line.to_owned()
        }
    });
    lines.map(|line| line + "\n").collect()
}

fn rank(number: u32, text: &str) -> Rank {
    let pid = Some(100 + i32::try_from(number).expect("a small number"));
    Rank { rank: number, pid, track: track::read(text), ..Rank::default() }
}

fn evidence(ranks: &[&str]) -> Evidence {
    let ranks = (0..).zip(ranks).map(|(number, text)| rank(number, text));
    Evidence { ranks: ranks.collect(), ..Evidence::default() }
}

/// In that state, with that innermost frame.
fn look(state: char, frame: &str) -> Look {
    let stack = Some(frame).filter(|frame| !frame.is_empty()).map(str::to_owned);
    Look { state, waits_in: None, stack: stack.into_iter().collect() }
}

const TORCH: &str =
    "File \"/v/site-packages/torch/distributed/distributed_c10d.py\", line 9 in wait";
const LIMIT: How = How::Limit { seconds: 58.0 };

#[test]
fn the_steps_are_those_of_the_program_in_its_order() {
    let mut from = 0;
    for step in STEPS.iter().filter(|step| !step.starts_with("all_reduce")) {
        let needle = format!("\"{step}\", ");
        let at = PROGRAM[from..].find(&needle);
        from += at.unwrap_or_else(|| panic!("{step} is not there, or comes earlier"));
    }
    assert!(PROGRAM.contains("for operation in \"sum\", \"max\":"));
    assert!(PROGRAM.contains("for name in \"float32\", \"bfloat16\", \"int64\":"));
}

#[test]
fn sizes_are_bytes_or_have_a_unit() {
    assert_eq!(sizes("4,64k, 4M,1g"), Ok(vec![4, 65_536, 4 << 20, 1 << 30]));
    assert_eq!(sizes("8KiB"), Ok(vec![8192]));
    for (bad, entry) in [
        ("", ""),
        ("4,,8", ""),
        ("4x", "4x"),
        ("3", "3"),
        ("-4", "-4"),
        ("99999g", "99999g"),
        ("1.5k", "1.5k"),
        ("18446744073709551615k", "18446744073709551615k"),
    ] {
        assert_eq!(sizes(bad), Err(entry.to_owned()), "{bad}");
    }
}

#[test]
fn half_a_line_is_left_out_and_the_rest_counts() {
    let text = file(2, true);
    for cut in 0..text.len() {
        let track = track::read(&text[..cut]);
        assert!(track.steps.len() <= 2 && !track.is_done);
    }
    let track = track::read(&text);
    assert_eq!((track.pid, track.steps.len(), track.current.as_deref()), (Some(7), 2, Some(INIT)));
    assert_eq!(track::read("\u{0}garbage\n[1]\n{\"event\":\"new\"}\n"), track::Track::default());
}

#[test]
fn a_rank_says_where_it_is() {
    for (text, place) in [
        (String::new(), "before its program began"),
        (file(0, false), "before `import`"),
        (file(0, true), "in `import`"),
        (file(3, false), "after `init`"),
        (whole(), "after the last step"),
    ] {
        assert_eq!(track::read(&text).place(), place);
    }
}
