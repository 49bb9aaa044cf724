//! The table, the document and the `JUnit` file.

use super::*;
use crate::layout::WIDTH;
use crate::smoke::document::{self, About};
use crate::smoke::judge::judge;
use crate::smoke::table::{self, Manner};

fn about() -> About {
    About {
        host: "node<1>".to_owned(),
        began: "2026-01-02T03:04:05+00:00".to_owned(),
        ranks: 2,
        backend: Some("gloo".to_owned()),
        device: Some("cpu".to_owned()),
        seconds: 3.25,
        ..About::default()
    }
}

#[test]
fn a_test_that_passed() {
    let judgement = judge(&How::Completed, &evidence(&[&whole(), &whole()]));
    insta::assert_snapshot!(table::render(&judgement, &about(), Manner { bars: true }));
    let plain = table::render(&judgement, &about(), Manner::default());
    assert!(!plain.contains('█') && plain.is_ascii(), "{plain}");
    assert_eq!(table::cause(&judgement, &about(), true), "");
}

#[test]
fn a_test_that_failed() {
    let mut known = evidence(&[&file(2, true), &file(2, true)]);
    known.ranks[0].look = Some(look('S', TORCH));
    known.ranks[1].look = Some(look('S', "File \"/home/u/hook.py\", line 1 in sleepy"));
    let judgement = judge(&LIMIT, &known);
    let text = table::render(&judgement, &about(), Manner::default());
    insta::assert_snapshot!(text + "---\n" + &table::cause(&judgement, &about(), true));
    let xml = junit::render(&judgement, &about());
    insta::assert_snapshot!(xml.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn no_line_is_wider_than_a_terminal_whatever_the_ranks_say() {
    let long = "x".repeat(300);
    let words = "word ".repeat(60);
    let text = with_wrong(&whole(), "barrier", &words).replace("2.15.0", &long);
    let judgement = judge(&How::Completed, &evidence(&[&text, &whole()]));
    let text = table::render(&judgement, &about(), Manner { bars: true });
    let text = text + &table::cause(&judgement, &about(), true);
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}

#[test]
fn the_document_has_a_version_and_every_check() {
    let judgement = judge(&How::Completed, &evidence(&[&whole(), &whole()]));
    let document = document::render(&judgement, &about());
    let value: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(value["version"], 1);
    assert_eq!(value["verdict"], "passed");
    assert_eq!(value["checks"].as_array().expect("checks").len(), STEPS.len() + 2);
    assert_eq!(value["all_reduce"][1]["bytes"], 1 << 20);
    assert!(value["cause"].is_null());
}

#[test]
fn a_size_has_the_largest_unit_that_divides_it() {
    for (bytes, text) in
        [(4, "4 B"), (1000, "1000 B"), (65_536, "64 KiB"), (4 << 20, "4 MiB"), (3 << 30, "3 GiB")]
    {
        assert_eq!(table::size(bytes), text);
    }
}
