//! The plain way: ranks start, print, end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::harness::Job;

const ENV: &str = "
import os, sys
print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], sys.argv[1:])
";

#[test]
fn ranks_start_with_their_arguments_and_nothing_is_left() {
    let end = Job::new().args(["--nproc", "2"]).script(ENV).args(["--nproc", "7"]).run();
    let end = end.expect_code(0);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["[rank 0] rank 0 of 2 ['--nproc', '7']", "[rank 1] rank 1 of 2 ['--nproc', '7']"]
    );
    assert!(end.left_in_tmp().is_empty());
}

/// A link like `/dev/stdout`: what it leads to is written by others too, and neither replaced nor
/// emptied.
#[test]
fn a_report_goes_behind_the_output_where_it_is_sent_to_stdout() {
    let job = Job::new().args(["--json-report", "stdout", "--no-python", "echo", "hi"]);
    let file = std::fs::File::create(job.dir.path().join("out")).expect("a file");
    std::os::unix::fs::symlink("/proc/self/fd/1", job.dir.path().join("stdout")).expect("a link");
    let job = job.with(|command| {
        command.stdout(file);
    });
    let end = job.run().expect_code(0);
    let out = std::fs::read_to_string(end.path("out")).expect("it is there");
    assert!(out.starts_with("hi\n{\n") && out.ends_with("}\n"), "{out}");
    assert!(end.path("stdout").is_symlink());
}

#[test]
fn a_report_replaces_the_file_that_a_link_leads_to() {
    let job = Job::new().args(["--json-report", "link", "--no-python", "true"]);
    let job = job.file("file", "old");
    std::os::unix::fs::symlink("file", job.dir.path().join("link")).expect("a link");
    let end = job.run().expect_code(0);
    assert!(end.path("link").is_symlink());
    let text = std::fs::read_to_string(end.path("file")).expect("it is there");
    assert!(text.starts_with('{') && text.ends_with("}\n"), "{text}");
}

#[test]
fn what_is_no_utf_8_reaches_the_ranks_byte_for_byte() {
    let name = OsStr::from_bytes(b"NAME\xff");
    let value = OsStr::from_bytes(b"\xfe \n=\xfd");
    // Not through a shell: some drop what is no name to them.
    let env = Job::new().env(name, value).args(["--no-python", "env", "-0"]).run().expect_code(0);
    let has = |bytes: &[u8]| env.raw_stdout.windows(bytes.len()).any(|part| part == bytes);
    assert!(has(b"NAME\xff=\xfe \n=\xfd\0"), "{}", env.stdout);
    let argument = OsStr::from_bytes(b"arg\xff");
    let said = Job::new().args(["--no-python", "printf", "%s"]).arg(argument).run().expect_code(0);
    assert_eq!(said.raw_stdout, b"arg\xff");
}
