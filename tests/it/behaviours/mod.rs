//! The behaviours that a replacement of torchrun is measured by, numbered as in the list it was
//! built after; those of several nodes are absent.

pub mod ends;
pub mod output;
pub mod restart;
pub mod start;

use std::collections::BTreeMap;

use crate::harness::{End, Job};

/// Prints the whole environment of each rank as one line of JSON.
const ENV: &str = "import json, os\nprint(json.dumps(dict(os.environ)))\n";

/// The environment of each rank, by rank, as [`ENV`] printed it.
fn environments(end: &End) -> BTreeMap<u32, BTreeMap<String, String>> {
    let lines = end.stdout.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
    lines
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .map(|env: BTreeMap<String, String>| (env["RANK"].parse().expect("a number"), env))
        .collect()
}

/// A number of ranks that run a shell script.
fn shell(ranks: u32, text: &str) -> Job {
    let job = Job::new().file("ranks.sh", text);
    job.arg(format!("--nproc={ranks}")).program(["sh", "ranks.sh"])
}

/// The files of a job's folder that each hold a number, such as a process id.
fn number(end: &std::path::Path, name: &str) -> f64 {
    let text = std::fs::read_to_string(end.join(name)).expect("a rank wrote it");
    text.trim().parse().expect("a number")
}
