//! What `store_table.py` printed: whether nvlaunch's store answered as torch's own servers did.

use std::collections::BTreeMap;
use std::fmt;

#[derive(serde::Deserialize)]
struct Row {
    case: String,
    answers: BTreeMap<String, String>,
}

/// Where the store of nvlaunch answers otherwise than one of torch's own: case, which of theirs,
/// their answers, and why. They need not show: whether a waiter comes first is up to the machine.
const DIFFERENCES: &[(&str, &str, &[&str], &str)] = &[(
    "compare_set_wakes_a_waiter",
    "legacy",
    // The second is the name up to 2.1.
    &["'DistStoreError'", "'RuntimeError'"],
    "the older server of torch does not wake who waits for a key that COMPARE_SET stores",
)];

/// A run in which all answers were as they should be.
pub struct Agreed {
    pub cases: usize,
    differences: usize,
    servers: Vec<String>,
    torch: String,
}

/// Panics with every answer that was another than torch's and is not listed.
#[track_caller]
pub fn agreed(stdout: &str) -> Agreed {
    let rows: Vec<Row> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("case "))
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect();
    let done = stdout.lines().find_map(|line| line.strip_prefix("done ")).expect("the end");
    let (cases, torch) = done.split_once(' ').expect("a count and a version");
    assert_eq!(cases, rows.len().to_string(), "{stdout}");
    let mut wrong = Vec::new();
    let mut differences = 0;
    let mut servers = std::collections::BTreeSet::new();
    for Row { case, answers } in &rows {
        let ours = &answers["nvlaunch"];
        assert!(answers.len() > 1, "{case}: nothing to compare with");
        if ours.starts_with("raises ") {
            wrong.push(format!("{case}: {ours}"));
        }
        servers.extend(answers.keys().filter(|name| *name != "nvlaunch").cloned());
        for (server, theirs) in answers.iter().filter(|(_, theirs)| *theirs != ours) {
            let is_listed = |d: &&(&str, &str, &[&str], &str)| {
                d.0 == case && d.1 == server && d.2.contains(&&**theirs)
            };
            match DIFFERENCES.iter().find(is_listed) {
                Some(_) => differences += 1,
                None => wrong.push(format!("{case}: nvlaunch {ours}, {server} {theirs}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let servers = servers.into_iter().collect();
    Agreed { cases: rows.len(), differences, servers, torch: torch.to_owned() }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, differences, servers, torch } = self;
        let servers = servers.join(" and ");
        write!(f, "{cases} operations as with the {servers} server of {torch}, ")?;
        write!(f, "{differences} known differences")
    }
}
