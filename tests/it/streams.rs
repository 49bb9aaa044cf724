//! Standard streams that are closed, left, or read by nobody never stop the job (S8).

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::doubles::{assert_none_left, called_by, launch, marker};
use crate::harness::{SOON, is_alive, wait_until};

#[test]
pub fn closed_streams_do_not_matter() {
    for close in
        ["exec \"$@\" >&-", "exec \"$@\" 2>&-", "exec \"$@\" <&-", "exec \"$@\" <&- >&- 2>&-"]
    {
        for code in [0, 5] {
            let marker = marker();
            let script = format!("say hello err there rank 1 [ exit {code} ] exit 0");
            let options = ["--nproc", "2", "--json-report", "report.json"];
            let job = launch(&marker, &options, &script);
            let end = called_by(job, &["sh", "-c", close, "sh"]).run().expect_code(code);
            assert!(!end.stderr.contains("panicked"), "{close}: {}", end.stderr);
            let report = crate::doubles::report(&end);
            assert_eq!(report["exit_code"], code, "{close}");
            assert_none_left(&marker);
        }
    }
}

#[test]
pub fn a_reader_that_has_left_does_not_end_the_job() {
    let marker = marker();
    let caller = ["bash", "-c", "\"$@\" | head -1; echo \"codes ${PIPESTATUS[*]}\"", "sh"];
    let job = launch(&marker, &[], "print 20000 exit 7");
    let end = called_by(job, &caller).run().expect_code(0);
    assert!(end.stdout.contains("codes 7 0"), "{}", end.stdout);
    assert!(end.stderr.contains("not shown on stdout: it was closed"), "{}", end.stderr);
    assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
}

#[test]
pub fn a_reader_that_does_not_read_does_not_end_or_hold_the_job() {
    let marker = marker();
    let (read, write) = std::io::pipe().expect("a pipe");
    let options = ["--nproc", "2", "--json-report", "report.json"];
    let job = launch(&marker, &options, "print 200000 exit 0");
    let job = job
        .with(|command| {
            command.stdout(Stdio::from(write));
        })
        .start();
    let nvlaunch = job.pid();
    let began = Instant::now();
    wait_until("the end", Duration::from_secs(60), || !is_alive(nvlaunch));
    println!("a console that nobody reads: ended after {:?}", began.elapsed());
    drop(read);
    let end = job.end_within(SOON).expect_code(0);
    assert!(end.stderr.contains("not shown on stdout"), "{}", end.stderr);
    // The folder of a run that ended well is gone, and is not named.
    assert!(!end.stderr.contains("run folder") && end.left_in_tmp().is_empty(), "{}", end.stderr);
    assert_none_left(&marker);
}
