//! One cause, and the right one.

use super::*;
use crate::diagnose::exit::Exit;
use crate::diagnose::missing::{Account, MissingRank};
use crate::smoke::document::without_secrets;
use crate::smoke::judge::{Cause, Judgement, Status, Verdict, judge, not_started};

fn cause(how: &How, evidence: &Evidence) -> Cause {
    let judgement = judge(how, evidence);
    assert_eq!(judgement.verdict, Verdict::Failed);
    let cause = judgement.cause.expect("a failure has a cause");
    let failed = judgement.checks.iter().find(|check| check.status == Status::Failed);
    assert!(failed.is_some(), "a check fails with it: {cause:?}");
    cause
}

fn status<'a>(judgement: &'a Judgement, name: &str) -> (Status, Option<&'a str>) {
    let check = judgement.checks.iter().find(|check| check.name == name).expect("the check");
    (check.status, check.message.as_deref())
}

#[test]
fn all_is_well() {
    let judgement = judge(&How::Completed, &evidence(&[&whole(), &whole()]));
    assert_eq!((judgement.verdict, &judgement.cause), (Verdict::Passed, &None));
    assert!(judgement.checks.iter().all(|check| check.status == Status::Passed));
    assert_eq!(judgement.checks.len(), STEPS.len() + 2);
    assert_eq!(judgement.times.import, Some(0.001));
    assert_eq!(judgement.times.first_collective, Some(0.004));
    assert_eq!(judgement.torch.as_deref(), Some("2.15.0"));
}

/// As nccl-tests count: with two ranks the bus carries what the tensor holds.
#[test]
fn the_bus_carries_twice_what_all_but_one_send() {
    let of = |ranks: usize| {
        let texts: Vec<String> = (0..ranks).map(|_| whole()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        judge(&How::Completed, &evidence(&texts)).bandwidth[1].bus
    };
    assert_eq!(of(1), None);
    for (ranks, factor) in [(2, 1.0), (4, 1.5), (8, 1.75)] {
        let bus = of(ranks).expect("several ranks");
        assert!((bus - 1_048_576_000.0 * factor).abs() < 1.0, "{ranks}: {bus}");
    }
}

#[test]
fn the_slowest_rank_counts() {
    let slow = whole().replace("0.001", "0.004");
    let judgement = judge(&How::Completed, &evidence(&[&whole(), &slow]));
    assert!((judgement.bandwidth[0].seconds - 0.004).abs() < 1e-9);
    assert_eq!(judgement.times.import, Some(0.004));
    let one_less = judge(&How::Completed, &evidence(&[&whole(), &file(STEPS.len(), false)]));
    assert!(one_less.bandwidth.is_empty(), "a size that one rank did not measure is none");
}

#[test]
fn a_wrong_value_is_named_with_its_rank_and_the_first_step() {
    let text = with_wrong(&whole(), "all_reduce sum float32", "index 3 is 5.0 and should be 6");
    let text = with_wrong(&text, "ring", "x");
    let judgement = judge(&How::Completed, &evidence(&[&whole(), &text]));
    let cause = judgement.cause.as_ref().expect("a cause");
    assert_eq!(cause.what, "`all_reduce sum float32` gives wrong values on rank 1");
    assert_eq!(cause.lines[0], "rank 1: index 3 is 5.0 and should be 6");
    assert_eq!(cause.lines[1], "wrong as well: `ring`");
    assert_eq!(status(&judgement, "ring"), (Status::Failed, Some("rank 1: x")));
    assert_eq!(status(&judgement, "broadcast").0, Status::Passed);
}

#[test]
fn what_a_backend_does_not_have_is_no_failure() {
    let why = "not supported by gloo";
    let skip = |text: &str| -> String {
        let lines = text.lines().map(|line| match line {
            line if line.contains("\"end\"") && line.contains("reduce_scatter") => {
                format!("{{\"event\":\"skip\",\"step\":\"reduce_scatter\",\"why\":\"{why}\"}}\n")
            }
            line => format!("{line}\n"),
        });
        lines.collect()
    };
    let judgement = judge(&How::Completed, &evidence(&[&skip(&whole()), &skip(&whole())]));
    assert_eq!(judgement.verdict, Verdict::Passed);
    assert_eq!(status(&judgement, "reduce_scatter"), (Status::Skipped, Some(why)));
}

#[test]
fn a_rank_that_leaves_with_0_before_the_end_is_a_failure() {
    let early = cause(&How::Completed, &evidence(&[&whole(), &file(2, true)]));
    let what = "rank 1 ended with exit code 0 in `init`, before the test was over";
    assert_eq!((early.what.as_str(), early.ranks), (what, vec![1]));
    let mut late = evidence(&[&file(2, true), &file(2, true)]);
    late.ranks[1].exit = Some(Exit::Code(0));
    let late = cause(&LIMIT, &late);
    assert_eq!(late.what, "rank 1 ended with exit code 0 in `init`");
    assert_eq!((late.lines[0].as_str(), late.waiting), ("rank 0 waits in `init`", vec![0]));
}

#[test]
fn a_rank_that_fails_is_named_with_its_step_and_its_words() {
    let killed = How::Failed { rank: 1, words: "SIGKILL".to_owned() };
    let mut known = evidence(&[&file(7, true), &file(7, true)]);
    known.ranks[1].exit = Some(Exit::Signal(9));
    let killed = cause(&killed, &known);
    assert_eq!(killed.what, "rank 1 (pid 101) was ended by SIGKILL in `all_reduce max float32`");
    assert_eq!(killed.lines, ["rank 0 was in `all_reduce max float32`"]);
    let words =
        "{\"event\":\"error\",\"step\":\"init\",\"error\":\"RuntimeError: a\\nb\\u001b[0m\"}\n";
    let known = evidence(&[&(file(2, true) + words), &file(2, true)]);
    let said = cause(&How::Failed { rank: 0, words: "exit code 1".to_owned() }, &known);
    assert_eq!(said.what, "rank 0 failed in `init`: RuntimeError: a");
    assert_eq!(said.lines[..2], ["b", "rank 1 was in `init`"]);
    // One of whom nothing is known.
    let gone = cause(&How::Failed { rank: 9, words: "SIGSEGV".to_owned() }, &known);
    assert_eq!(gone.what, "rank 9 was ended by SIGSEGV before its program began");
    assert_eq!(gone.step, IMPORT);
}

/// Q4: each sign counts only where the ones before it say nothing.
#[test]
fn who_hangs_follows_from_the_steps_the_store_the_state_and_the_stacks() {
    let behind = evidence(&[&file(2, true), &file(0, true), &file(2, true)]);
    let found = cause(&LIMIT, &behind);
    assert_eq!(found.what, "rank 1 hangs in `import` after 58.0 s");
    assert_eq!(found.lines, ["ranks 0,2 wait in `init`"]);
    assert_eq!((found.ranks, found.waiting), (vec![1], vec![0, 2]));

    let mut same = evidence(&[&file(2, true), &file(2, true)]);
    assert_eq!(cause(&LIMIT, &same).what, "both ranks hang in `init` after 58.0 s");

    for rank in &mut same.ranks {
        rank.look = Some(look('S', TORCH));
    }
    let all = cause(&LIMIT, &same);
    assert_eq!(all.ranks, [0, 1]);
    assert_eq!(all.stacks.len(), 1, "the same stack is shown once: {all:?}");

    same.ranks[0].look = Some(look('S', "File \"/home/u/hook.py\", line 1 in sleepy"));
    let odd = cause(&LIMIT, &same);
    assert_eq!(odd.ranks, [0]);
    assert_eq!(odd.stacks[0].frames, ["/home/u/hook.py, line 1 in sleepy"]);

    let missing = MissingRank { rank: 1, pid: Some(101), has_connected: false, words: None };
    same.account = Some(Account {
        seconds: 1.0,
        gathering: None,
        missing: vec![missing],
        signs: Vec::new(),
        lines: vec!["rank 1 has not reached init_process_group".to_owned()],
    });
    let unseen = cause(&LIMIT, &same);
    assert_eq!(unseen.ranks, [1]);
    assert!(unseen.lines.contains(&"rank 1 has not reached init_process_group".to_owned()));

    same.ranks[0].look = Some(look('T', ""));
    let stopped = cause(&LIMIT, &same);
    assert_eq!(stopped.what, "rank 0 is stopped (state T, pid 100) in `init`");
    assert_eq!(stopped.hints, ["`kill -CONT 100` lets it go on"]);

    same.ranks[0].look =
        Some(Look { state: 'D', waits_in: Some("nvidia_ioctl".to_owned()), stack: Vec::new() });
    let what = "rank 0 waits for a device or a file system (state D in nvidia_ioctl) in `init`";
    assert_eq!(cause(&LIMIT, &same).what, what);
}

/// A collective of a device comes back at once, and the values are waited for in the program: that
/// tells such a rank from no other.
#[test]
fn a_rank_that_waits_for_its_values_is_not_blamed_for_it() {
    let mut same = evidence(&[&file(5, true), &file(5, true)]);
    let own = "File \"/tmp/run/smoke.py\", line 129 in compare";
    same.ranks[0].look = Some(look('S', own));
    same.ranks[1].look = Some(look('S', TORCH));
    let both = cause(&LIMIT, &same);
    assert_eq!(both.ranks, [0, 1]);
    let shown: Vec<_> = both.stacks.iter().map(|stack| stack.frames[0].as_str()).collect();
    let torch = "torch/distributed/distributed_c10d.py, line 9 in wait";
    assert_eq!(shown, ["smoke.py, line 129 in compare", torch]);

    same.ranks[1].look = Some(look('S', "File \"/home/u/hook.py\", line 1 in sleepy"));
    assert_eq!(cause(&LIMIT, &same).ranks, [1]);
}

#[test]
fn a_wrong_address_comes_before_the_hang_that_it_makes() {
    let mut known = evidence(&[&file(2, true), &file(2, true)]);
    known.address = Some("MASTER_ADDR `x` is no address of this machine".to_owned());
    let found = cause(&LIMIT, &known);
    assert!(found.what.starts_with("MASTER_ADDR `x` is no address of this machine; both ranks"));
    assert!(found.hints.is_empty(), "a longer wait helps nobody: {:?}", found.hints);
    known.ranks = evidence(&[&file(5, true), &file(5, true)]).ranks;
    assert!(cause(&LIMIT, &known).what.starts_with("both ranks hang"), "they met all the same");
}

#[test]
fn wrong_values_before_a_hang_are_said_too() {
    let text = with_wrong(&file(5, true), "barrier", "late");
    let found = cause(&LIMIT, &evidence(&[&text, &text]));
    assert_eq!(found.lines, ["before that `barrier` gives wrong values on ranks 0,1"]);
}

#[test]
fn somebody_who_ends_the_test_is_no_failure() {
    let judgement = judge(&How::Asked(2), &evidence(&[&file(4, true), &file(4, true)]));
    assert_eq!(judgement.verdict, Verdict::Interrupted);
    assert!(judgement.checks.iter().all(|check| check.status != Status::Failed));
    assert_eq!(judgement.cause.expect("who").what, "ended by SIGINT");
}

#[test]
fn what_did_not_start_fails_where_it_stopped() {
    let port = not_started(Verdict::Failed, "launch", "cannot use port 1", vec!["x".to_owned()]);
    assert_eq!(status(&port, "preflight").0, Status::Passed);
    assert_eq!(status(&port, "launch"), (Status::Failed, Some("cannot use port 1")));
    assert_eq!(status(&port, "init").0, Status::NotRun);
    let refused = not_started(Verdict::Refused, "preflight", "NVL001", Vec::new());
    assert_eq!(status(&refused, "preflight").0, Status::Failed);
    assert_eq!(status(&refused, "launch").0, Status::NotRun);
}

#[test]
fn an_error_of_a_rank_shows_no_secret() {
    let error =
        "{\"event\":\"error\",\"step\":\"import\",\"error\":\"OSError: token=hunter2abc\"}\n";
    let known = evidence(&[&(file(0, true) + error)]);
    let judgement = judge(&How::Failed { rank: 0, words: "exit code 1".to_owned() }, &known);
    let shown = format!("{:?}", without_secrets(judgement));
    assert!(!shown.contains("hunter2abc") && shown.contains("OSError"), "{shown}");
}
