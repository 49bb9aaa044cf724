//! The plain way: ranks start, print, end.

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
