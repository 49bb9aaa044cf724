//! The text of `nvlaunch profile list`. Pure.

use std::fmt::Write as _;

use super::load::Candidate;
use super::places::{At, NONE, Place};
use crate::diagnose::secrets::scrub;
use crate::env_vars;
use crate::layout::{WIDTH, cut, hang, plain};

/// How wide the column of names becomes at most.
const MAX_NAME: usize = 24;

/// Every profile by its place, then which one a launch uses here. `variable` is what
/// `NVLAUNCH_PROFILE` says.
pub fn render(candidates: &[Candidate], variable: Option<&str>) -> String {
    let width = candidates.iter().map(|one| one.found.name.chars().count()).max().unwrap_or(0);
    let width = width.min(MAX_NAME);
    let mut text = String::new();
    let mut place: Option<(Place, String)> = None;
    for candidate in candidates {
        let of_candidate = (candidate.found.place, folder(&candidate.found.at));
        if place.as_ref() != Some(&of_candidate) {
            let gap = if place.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{}", of_candidate.1);
            place = Some(of_candidate);
        }
        let name = &candidate.found.name;
        let first = format!("  {name:width$}  ");
        let rest = " ".repeat(width + 4);
        for line in hang(&first, &rest, &about(candidate)) {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if let Some((_, why)) = &candidate.fits {
            let _ = writeln!(
                text,
                "{rest}{}",
                cut(&format!("fits this host: {}", plain(&scrub(why))), WIDTH)
            );
        }
    }
    if candidates.is_empty() {
        text.push_str("There are no profiles.\n");
    }
    for line in hang("", "", &scrub(&choice(candidates, variable))) {
        let _ = write!(text, "\n{line}");
    }
    text.push('\n');
    text
}

fn folder(at: &At) -> String {
    match at {
        At::File(path) => path.parent().map_or_else(String::new, |p| p.display().to_string()),
        At::BuiltIn(_) => at.to_string(),
    }
}

fn about(candidate: &Candidate) -> String {
    if let Some(by) = &candidate.found.hidden_by {
        return format!("hidden by {by}");
    }
    match &candidate.read {
        Ok(link) => {
            plain(&scrub(link.document.description.as_deref().unwrap_or("(no description)")))
        }
        Err(_) => "cannot be used: `nvlaunch profile lint` says why".to_owned(),
    }
}

fn choice(candidates: &[Candidate], variable: Option<&str>) -> String {
    if let Some(word) = variable {
        let variable = env_vars::PROFILE;
        return match word {
            NONE => format!("{variable} says that a launch uses no profile."),
            name => format!("{variable} says that a launch uses {name}."),
        };
    }
    let fitting: Vec<_> =
        candidates.iter().filter_map(|one| Some((&one.found.name, one.fits.as_ref()?))).collect();
    match &fitting[..] {
        [] => "A launch uses none of them by itself; --profile NAME chooses one.".to_owned(),
        [(name, (origin, _))] => format!("A launch uses {name} here, for {origin}."),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            format!(
                "Several fit this host ({}), so that a launch needs --profile NAME.",
                names.join(", ")
            )
        }
    }
}
