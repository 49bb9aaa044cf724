//! The result as a `JUnit` file: one test suite, one test case for each check.
//!
//! Form: `junit-10.xsd` of Jenkins' xUnit plugin, which Maven's Surefire and the readers of CI
//! services follow. XML 1.0 has no place for most control characters, escaped or not (section 2.2):
//! they are left out.

use std::fmt::Write as _;

use super::document::About;
use super::judge::{Cause, Check, Judgement, Status, Verdict};

/// Renders it.
pub fn render(judgement: &Judgement, about: &About) -> String {
    let count = |status| judgement.checks.iter().filter(|check| check.status == status).count();
    let not_done = count(Status::Skipped) + count(Status::NotRun);
    let interrupted = judgement.verdict == Verdict::Interrupted;
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuite name=\"nvlaunch smoke\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         skipped=\"{not_done}\" time=\"{:.3}\" timestamp=\"{}\" hostname=\"{}\">",
        judgement.checks.len() + usize::from(interrupted),
        count(Status::Failed),
        usize::from(interrupted),
        about.seconds,
        escaped(&about.began),
        escaped(&about.host),
    );
    properties(judgement, about, &mut text);
    for check in &judgement.checks {
        let cause = judgement.cause.as_ref().filter(|cause| cause.step == check.name);
        case(check, cause, &mut text);
    }
    if interrupted {
        let what = judgement.cause.as_ref().map_or("", |cause| &cause.what);
        let what = escaped(what);
        let _ = writeln!(
            text,
            "  <testcase classname=\"nvlaunch.smoke\" name=\"end\" time=\"0.000\">\n    \
             <error type=\"interrupted\" message=\"{what}\"/>\n  </testcase>"
        );
    }
    text.push_str("</testsuite>\n");
    text
}

fn properties(judgement: &Judgement, about: &About, text: &mut String) {
    let ranks = about.ranks.to_string();
    let version = Some(env!("CARGO_PKG_VERSION"));
    let known = [
        ("nvlaunch", version),
        ("ranks", Some(ranks.as_str()).filter(|_| about.ranks > 0)),
        ("backend", about.backend.as_deref()),
        ("device", about.device.as_deref()),
        ("torch", judgement.torch.as_deref()),
        ("python", judgement.python.as_deref()),
    ];
    text.push_str("  <properties>\n");
    for (name, value) in known {
        if let Some(value) = value {
            let value = escaped(value);
            let _ = writeln!(text, "    <property name=\"{name}\" value=\"{value}\"/>");
        }
    }
    text.push_str("  </properties>\n");
}

fn case(check: &Check, cause: Option<&Cause>, text: &mut String) {
    let _ = write!(
        text,
        "  <testcase classname=\"nvlaunch.smoke\" name=\"{}\" time=\"{:.3}\"",
        escaped(&check.name),
        check.seconds.unwrap_or(0.0),
    );
    let message = escaped(check.message.as_deref().unwrap_or_default());
    let _ = match check.status {
        Status::Passed => writeln!(text, "/>"),
        Status::Failed => {
            let body = cause.map(body).unwrap_or_default();
            let body = escaped(&body);
            writeln!(
                text,
                ">\n    <failure type=\"failed\" message=\"{message}\">{body}</failure>\n  </testcase>"
            )
        }
        Status::Skipped => {
            writeln!(text, ">\n    <skipped message=\"{message}\"/>\n  </testcase>")
        }
        Status::NotRun => {
            writeln!(text, ">\n    <skipped message=\"not run\"/>\n  </testcase>")
        }
    };
}

/// The cause with all that it rests on.
fn body(cause: &Cause) -> String {
    let mut text = format!("{}\n", cause.what);
    for line in super::table::grounds(cause) {
        let _ = writeln!(text, "{line}");
    }
    for hint in &cause.hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// A text between tags or in an attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_tag_or_an_attribute_and_what_xml_has_no_place_for_is_left_out() {
        assert_eq!(escaped("a<b>&\"c\"\n"), "a&lt;b&gt;&amp;&quot;c&quot;\n");
        assert_eq!(escaped("\u{1b}[31mred\u{0}\u{b}\u{fffe} ü"), "[31mred ü");
    }
}
