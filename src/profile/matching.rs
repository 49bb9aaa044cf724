//! Whether a profile is meant for this host. Pure.
//!
//! - M1: every condition that is given must hold, and of a list one entry. A `match` without a
//!   condition fits nothing.
//! - M2: an empty variable is unset, and no pattern fits what is unset.

use super::document::Match;
use crate::env_vars;
use crate::settings::env::Env;

/// What profiles are matched against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// The machine's name, with or without its domain.
    pub hostname: String,
    /// Vendors whose accelerators are here, by the names of the vendor table.
    pub vendors: Vec<&'static str>,
    /// The caller's environment, which says where in Slurm this is.
    pub env: Env,
}

/// The condition that holds, in words (`hostname is gpu-17`); several are joined. `None` where one
/// does not.
pub fn why(wanted: &Match, host: &HostIdentity) -> Option<String> {
    let mut held = Vec::new();
    if !wanted.hostname.is_empty() {
        let short = host.hostname.split('.').next().unwrap_or_default();
        let names = [host.hostname.as_str(), short];
        held.push(format!("hostname is {}", first(&wanted.hostname, &names)?));
    }
    if !wanted.vendor.is_empty() {
        held.push(format!("vendor is {}", first(&wanted.vendor, &host.vendors)?));
    }
    for (what, variable, patterns) in [
        ("cluster", env_vars::SLURM_CLUSTER_NAME, &wanted.slurm_cluster),
        ("partition", env_vars::SLURM_JOB_PARTITION, &wanted.slurm_partition),
    ] {
        if !patterns.is_empty() {
            let value = variable_of(host, variable)?;
            held.push(format!("Slurm {what} is {}", first(patterns, &[&value])?));
        }
    }
    for (name, pattern) in &wanted.env {
        let value = variable_of(host, name)?;
        if !fits(pattern, &value) {
            return None;
        }
        // The value may be nobody's business; the pattern stands in the profile.
        held.push(format!("{name} is {pattern}"));
    }
    (!held.is_empty()).then(|| held.join(", "))
}

fn variable_of(host: &HostIdentity, name: &str) -> Option<String> {
    host.env.get_nonempty(name).map(|value| value.to_string_lossy().into_owned())
}

/// The first text that one of the patterns fits.
fn first<'a>(patterns: &[String], texts: &[&'a str]) -> Option<&'a str> {
    texts.iter().find(|text| patterns.iter().any(|pattern| fits(pattern, text))).copied()
}

/// Whether a pattern with `*` and `?` fits the whole text, without regard to case. Takes steps in
/// proportion to the product of both lengths at most, whatever the pattern is.
pub fn fits(pattern: &str, text: &str) -> bool {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (pattern, text) = (letters(pattern), letters(text));
    let (mut p, mut t) = (0, 0);
    // The last star, and the first letter behind what it stands for.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, behind)) => {
                    *behind += 1;
                    (p, t) = (*at + 1, *behind);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("gpu-17", "gpu-17", true),
            ("GPU-*", "gpu-17", true),
            ("gpu-*", "GPU-17.site.org", true),
            ("gpu-?", "gpu-17", false),
            ("gpu-??", "gpu-17", true),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
            ("", "a", false),
            ("*7", "gpu-17", true),
            ("*1*7", "gpu-1-17", true),
            ("*8", "gpu-17", false),
            ("g**7", "gpu-17", true),
            ("[ab]", "a", false),
            ("GRÜN-?", "grün-ß", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
        let stars = "*a".repeat(2_000);
        assert!(!fits(&stars, &"a".repeat(1_999)), "no pattern takes long");
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_what_stars_leave_of_it(text in "[a-z.0-9-]{0,12}", from in 0_usize..12, length in 0_usize..12) {
            prop_assert!(fits(&text, &text));
            prop_assert!(fits(&text.to_uppercase(), &text));
            let from = from.min(text.len());
            let to = (from + length).min(text.len());
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(fits(&pattern, &text));
            let longer = text.clone() + "?";
            prop_assert!(!fits(&longer, &text));
        }
    }

    fn host() -> HostIdentity {
        let env = [
            ("SLURM_CLUSTER_NAME", "Alps"),
            ("SLURM_JOB_PARTITION", "gpu_long"),
            ("SITE", "north"),
            ("EMPTY", ""),
        ];
        HostIdentity {
            hostname: "gpu-17.site.org".to_owned(),
            vendors: vec!["gcu", "cuda"],
            env: env.into_iter().collect(),
        }
    }

    #[test]
    fn every_condition_must_hold_and_is_said() {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let env = |name: &str, pattern: &str| {
            [(name.to_owned(), pattern.to_owned())].into_iter().collect()
        };
        let none = Match::default;
        for (wanted, expected) in [
            (none(), None),
            (
                Match { hostname: list(&["gpu-*.site.org"]), ..none() },
                Some("hostname is gpu-17.site.org"),
            ),
            (Match { hostname: list(&["x", "gpu-??"]), ..none() }, Some("hostname is gpu-17")),
            (Match { hostname: list(&["site"]), ..none() }, None),
            (Match { vendor: list(&["npu", "CUDA"]), ..none() }, Some("vendor is cuda")),
            (Match { vendor: list(&["npu"]), ..none() }, None),
            (Match { slurm_cluster: list(&["alps"]), ..none() }, Some("Slurm cluster is Alps")),
            (
                Match { slurm_partition: list(&["gpu*"]), hostname: list(&["*"]), ..none() },
                Some("hostname is gpu-17.site.org, Slurm partition is gpu_long"),
            ),
            (Match { slurm_partition: list(&["gpu*"]), vendor: list(&["npu"]), ..none() }, None),
            (Match { env: env("SITE", "n*"), ..none() }, Some("SITE is n*")),
            (Match { env: env("EMPTY", "*"), ..none() }, None),
            (Match { env: env("UNSET", "*"), ..none() }, None),
        ] {
            assert_eq!(why(&wanted, &host()).as_deref(), expected, "{wanted:?}");
        }
    }
}
