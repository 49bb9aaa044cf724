//! Warm start: ranks that are forked from one interpreter cannot be told from ranks that are
//! started, and are watched and ended as these are.
//!
//! The template imports small modules instead of torch: what is tested is the same.

mod again;
mod ends;
mod fallbacks;
mod same;
mod seen;
mod table;

use crate::harness::Job;

/// Two warm ranks that have a module of the test's own, `slow`, which counts its imports.
fn warm_job() -> Job {
    Job::new().args(["--warm=slow", "--json-report", "report.json"]).file("slow.py", SLOW)
}

/// Each import adds a line to a file in the working directory.
const SLOW: &str = "\
import os
with open('imports', 'a') as file:
    file.write('%d\\n' % os.getpid())
";

/// How often `slow` was imported.
fn imports(end: &crate::harness::End) -> usize {
    std::fs::read_to_string(end.path("imports")).unwrap_or_default().lines().count()
}
