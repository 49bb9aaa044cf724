//! On a terminal: Ctrl-C at any moment, Ctrl-Z, and `breakpoint()`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::doubles::{assert_none_left, fake_rank, marker, words};
use crate::harness::{Job, nvlaunch, venv};

const DRIVER: &str = include_str!("pty_driver.py");

/// Runs nvlaunch on a terminal; what it printed and how it ended.
pub fn on_terminal(job: Job, steps: &Value, args: &[&str]) -> Value {
    let (python, driver) = (venv("python"), job.dir.path().join("driver.py"));
    let job = job.file("driver.py", DRIVER).with(|command| {
        let mut typist = std::process::Command::new(python);
        typist.arg(driver).arg(steps.to_string()).arg(nvlaunch()).args(args);
        typist.current_dir(command.get_current_dir().expect("the job has a folder"));
        typist.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        typist.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        *command = typist;
    });
    let end = job.run_within(Duration::from_secs(100)).expect_code(0);
    serde_json::from_str(&end.stdout).expect("JSON")
}

fn double(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

#[test]
fn ctrl_c_at_any_moment_ends_with_130_and_leaves_nothing() {
    const AFTER: u32 = 40;
    let fake = fake_rank();
    let (mut before, mut after) = (0, 0);
    // How long nvlaunch takes until it listens differs; on a busy machine by much.
    while after < AFTER {
        let delay = f64::from(before + after) * 0.0012;
        assert!(delay < 2.0, "nvlaunch never listens");
        let marker = marker();
        let steps = json!([{"after": delay}, {"type": "\u{3}"}]);
        let mut args = vec!["--nproc", "2", "--no-python", double(&fake), &marker, "rank"];
        args.extend(words("daemon daemon [ wait ] wait"));
        let end = on_terminal(Job::new(), &steps, &args);
        // Before nvlaunch listens, Ctrl-C does what it does to every program.
        let is_before = end["signal"] == 2;
        before += u32::from(is_before);
        after += u32::from(!is_before);
        assert!(is_before || end["code"] == 130, "after {delay} s: {end:#}");
        let output = end["output"].as_str().expect("a text");
        assert!(!output.contains("failed first"), "after {delay} s: {output}");
        assert_none_left(&marker);
    }
    println!("Ctrl-C: {before} moments before nvlaunch listened, {after} after");
}

#[test]
fn ctrl_z_stops_the_job_and_it_goes_on() {
    let fake = fake_rank();
    let marker = marker();
    let mut args = vec!["--nproc", "2", "--no-python", double(&fake), &marker, "rank"];
    args.extend(words("pid read wait"));
    let steps = json!([
        {"expect": "pid rank"}, {"expect": "pid rank"}, {"type": "\u{1a}"}, {"stopped": true},
        {"continue": true}, {"after": 0.1}, {"type": "\u{1a}"}, {"stopped": true},
        {"continue": true}, {"type": "\u{3}"},
    ]);
    let end = on_terminal(Job::new(), &steps, &args);
    assert_eq!(end["code"], 130, "{end:#}");
    assert_none_left(&marker);
}

#[test]
fn a_breakpoint_of_one_rank_works() {
    let script = "x = 41\nbreakpoint()\nprint('after', x + 1)\n";
    let steps = json!([
        {"expect": "(Pdb) "}, {"type": "x = 1\n"}, {"expect": "(Pdb) "}, {"type": "c\n"},
        {"expect": "after 2"},
    ]);
    let end = on_terminal(Job::new().file("script.py", script), &steps, &["script.py"]);
    assert_eq!(end["code"], 0, "{end:#}");
}
