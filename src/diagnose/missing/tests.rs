use std::time::Duration;

use super::*;

const SIGKILL: i32 = 9;

/// A job where these ranks are missing and all others wait for them.
fn without(world_size: u32, missing: &[u32]) -> Standing {
    let is_missing = |rank: &u32| missing.contains(rank);
    let state = |rank| if is_missing(&rank) { State::NotConnected } else { State::Joining };
    let (missing, waiting) = (0..world_size).partition(is_missing);
    Standing {
        ranks: (0..world_size).map(state).collect(),
        gathering: Some(Gathering { place: Place::Init, waiting, missing }),
        ..Standing::default()
    }
}

fn doing(rank: u32, doing: Doing, last_lines: &[&str]) -> RankFacts {
    RankFacts {
        rank,
        pid: Some(4711 + i32::try_from(rank).unwrap()),
        doing: Some(doing),
        ended: None,
        last_lines: last_lines.iter().map(|&line| line.to_owned()).collect(),
    }
}

fn ended(rank: u32, exit: Exit, last_lines: &[&str]) -> RankFacts {
    RankFacts { pid: None, doing: None, ended: Some(exit), ..doing(rank, Doing::Gone, last_lines) }
}

fn asleep(place: &str) -> Doing {
    Doing::Asleep { r#in: Some(place.to_owned()) }
}

/// What is said after a minute.
fn said(standing: &Standing, facts: &[RankFacts]) -> String {
    let account = Account::of(standing, facts, Duration::from_secs(60));
    let account = account.expect("there is something to say");
    assert!(account.lines.len() <= MAX_LINES, "{:#?}", account.lines);
    account.said()
}

#[test]
fn nothing_is_said_where_nobody_waits() {
    let standing = |state| Standing { ranks: vec![state; 4], ..Standing::default() };
    for state in [State::NotConnected, State::Connected, State::Joined, State::Unknown] {
        let facts = [doing(1, Doing::Stopped, &["x"])];
        assert_eq!(Account::of(&standing(state), &facts, Duration::from_secs(60)), None);
    }
}

#[test]
fn a_rank_that_sleeps_before_init() {
    let standing = without(8, &[3]);
    let lines = ["loading the data", "\x1b[1mreading\x1b[0m part-0007", "", "waiting for the lock"];
    insta::assert_snapshot!(said(&standing, &[doing(3, asleep("wait4"), &lines)]), @"
    nvlaunch: rank 3 has not reached init_process_group after 60 s; ranks 0-2,4-7 wait for it
      rank 3 (pid 4714) sleeps in wait4
      last lines of rank 3:
        loading the data
        reading part-0007
        waiting for the lock
    ");
}

#[test]
fn a_rank_that_ended_early() {
    let standing = without(4, &[2]);
    let facts = [ended(2, Exit::Code(0), &["nothing to do on this rank"])];
    insta::assert_snapshot!(said(&standing, &facts), @"
    nvlaunch: rank 2 has not reached init_process_group after 60 s; ranks 0,1,3 wait for it
      rank 2 ended with code 0 before it
      last line of rank 2:
        nothing to do on this rank
    ");
    let facts = [ended(2, Exit::Signal(SIGKILL), &[])];
    insta::assert_snapshot!(said(&standing, &facts), @"
    nvlaunch: rank 2 has not reached init_process_group after 60 s; ranks 0,1,3 wait for it
      rank 2 was ended by SIGKILL before it
    ");
}

#[test]
fn a_stopped_rank() {
    let facts = [doing(0, Doing::Stopped, &[])];
    insta::assert_snapshot!(said(&without(2, &[0]), &facts), @"
    nvlaunch: rank 0 has not reached init_process_group after 60 s; rank 1 waits for it
      rank 0 (pid 4711) is stopped: kill -CONT 4711
    ");
}

#[test]
fn a_rank_stuck_in_an_import() {
    let mut standing = without(4, &[1]);
    standing.ranks[1] = State::Connected;
    let facts = [doing(1, Doing::Busy { percent: 98 }, &["import flash_attn"])];
    insta::assert_snapshot!(said(&standing, &facts), @"
    nvlaunch: rank 1 has not joined the others in init_process_group after 60 s; ranks 0,2,3 wait for it
      rank 1 (pid 4712) is busy (98 % of a CPU): importing or computing; connected to the store
      last line of rank 1:
        import flash_attn
    ");
}

#[test]
fn what_else_a_rank_may_do() {
    let disk = Doing::DiskWait { r#in: Some("nfs_wait_on_request".to_owned()) };
    let facts = [doing(0, disk, &[]), doing(1, Doing::Traced, &[]), doing(2, Doing::Zombie, &[])];
    insta::assert_snapshot!(said(&without(4, &[0, 1, 2]), &facts), @"
    nvlaunch: ranks 0-2 have not reached init_process_group after 60 s; rank 3 waits for them
      rank 2 (pid 4713) has ended
      rank 1 (pid 4712) is held by a debugger
      rank 0 (pid 4711) waits for a device or a file system, in nfs_wait_on_request
    ");
    // Nothing is known of the process.
    insta::assert_snapshot!(said(&without(4, &[2]), &[]), @"
    nvlaunch: rank 2 has not reached init_process_group after 60 s; ranks 0,1,3 wait for it
    ");
}

#[test]
fn a_wrong_world_size() {
    let mut standing = without(4, &[]);
    standing.gathering = Some(Gathering { place: Place::Init, waiting: vec![1], missing: vec![] });
    standing.signs = vec![Sign::GroupSize { rank: 1, size: 5, is_exact: true }];
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: rank 1 joins a group of 5 ranks, this job has 4: its WORLD_SIZE was changed
    ");
    standing.gathering = None;
    standing.signs = vec![
        Sign::GroupSize { rank: 1, size: 2, is_exact: true },
        Sign::GroupSize { rank: 2, size: 2, is_exact: true },
    ];
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: ranks 1,2 join a group of 2 ranks, this job has 4: their WORLD_SIZE was changed
    ");
    standing.signs = vec![Sign::GroupSize { rank: 0, size: 6, is_exact: false }];
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: rank 0 joins a group of at least 6 ranks, this job has 4: its WORLD_SIZE was changed
    ");
}

#[test]
fn a_wrong_rank() {
    let mut standing = without(3, &[]);
    standing.signs = vec![Sign::OtherNumber { rank: 2, number: 1 }];
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: rank 2 joins as rank 1: its RANK was changed
    ");
    standing.signs = vec![Sign::SameNumber { number: 1, pids: vec![12, 34] }];
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: several processes (pids 12, 34) join as rank 1: the RANK of one was changed
    ");
}

#[test]
fn several_missing_of_64() {
    let standing = without(64, &[3, 9, 10, 11, 40, 63]);
    let facts = [
        doing(3, Doing::Busy { percent: 97 }, &[]),
        doing(9, Doing::Busy { percent: 99 }, &["compiling kernels"]),
        doing(10, asleep("futex"), &["not shown"]),
        doing(11, Doing::Stopped, &[]),
        doing(40, Doing::Stopped, &[]),
        ended(63, Exit::Code(0), &[]),
    ];
    insta::assert_snapshot!(said(&standing, &facts), @"
    nvlaunch: ranks 3,9-11,40,63 have not reached init_process_group after 60 s; ranks 0-2,4-8,12-39,41-62 wait for them
      rank 63 ended with code 0 before it
      ranks 11,40 are stopped: kill -CONT 4722 4751
      ranks 3,9 are busy: importing or computing
      rank 10 does something else
      last line of rank 9:
        compiling kernels
    ");
}

#[test]
fn it_is_not_known_who_is_missing() {
    let mut standing = without(4, &[]);
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: ranks 0-3 wait in init_process_group after 60 s; for which rank is not known
    ");
    standing.gathering = Some(Gathering { place: Place::Init, waiting: vec![], missing: vec![] });
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: others wait in init_process_group after 60 s; for which rank is not known
    ");
}

#[test]
fn nccl_is_not_said_to_wait() {
    let mut standing = without(4, &[3]);
    standing.ranks[3] = State::Connected;
    let gathering = standing.gathering.as_mut().unwrap();
    gathering.place = Place::Nccl;
    insta::assert_snapshot!(said(&standing, &[doing(3, asleep("poll"), &[])]), @"
    nvlaunch: rank 3 has not reached the set-up of NCCL after 60 s; ranks 0-2 have
      rank 3 (pid 4714) sleeps in poll; connected to the store
    ");
}

#[test]
fn other_waits() {
    let wait = |what, ranks: &[u32], missing: &[u32]| Wait {
        what,
        ranks: ranks.to_vec(),
        missing: missing.to_vec(),
    };
    let barrier = |more| What::Barrier { name: "xyz".to_owned(), more };
    let group = || What::Group { name: "1".to_owned() };
    let key = |others| What::Key { key: "done".to_owned(), others };
    let standing = Standing {
        ranks: vec![State::Joined; 4],
        waits: vec![
            wait(barrier(Some(2)), &[0, 2], &[]),
            wait(barrier(Some(1)), &[0, 1, 2], &[3]),
            wait(barrier(None), &[1], &[]),
            wait(group(), &[0, 2], &[1, 3]),
            wait(What::Rpc, &[1], &[]),
            wait(key(0), &[1], &[]),
            wait(key(3), &[], &[]),
        ],
        ..Standing::default()
    };
    insta::assert_snapshot!(said(&standing, &[]), @"
    nvlaunch: ranks 0,2 wait in the barrier `xyz` for 2 more
      ranks 0-2 wait in the barrier `xyz` for rank 3
      rank 1 waits in the barrier `xyz`
      ranks 0,2 wait in the set-up of process group `1` for ranks 1,3
      rank 1 waits in init_rpc or its shutdown
      rank 1 waits for the key `done`
      a process waits for the key `done` and 3 more
    ");
}

#[test]
fn twelve_lines_are_enough_for_everything_at_once() {
    let mut standing = without(64, &[1, 2, 3, 4, 5, 6, 7]);
    standing.signs = (0..9).map(|n| Sign::OtherNumber { rank: n, number: n + 1 }).collect();
    let what = |n: u32| What::Key { key: n.to_string(), others: 0 };
    let wait = |n| Wait { what: what(n), ranks: vec![n], missing: vec![] };
    standing.waits = (0..30).map(wait).collect();
    let lines = ["one", "two", "three", "four"];
    let facts: Vec<RankFacts> =
        (1..8).map(|n| doing(n, asleep(&format!("call{n}")), &lines)).collect();
    insta::assert_snapshot!(said(&standing, &facts), @"
    nvlaunch: ranks 1-7 have not reached init_process_group after 60 s; ranks 0,8-63 wait for them
      rank 0 joins as rank 1: its RANK was changed
      rank 1 joins as rank 2: its RANK was changed
      and 7 more such signs
      rank 1 (pid 4712) sleeps in call1
      rank 2 (pid 4713) sleeps in call2
      rank 3 (pid 4714) sleeps in call3
      ranks 4-7 do other things
      last lines of rank 1:
        two
        three
        four
    ");
}

#[test]
fn the_report_has_the_missing_ranks_one_by_one() {
    let standing = without(4, &[1, 2]);
    let facts = [doing(1, Doing::Busy { percent: 5 }, &[]), ended(2, Exit::Code(3), &[])];
    let account = Account::of(&standing, &facts, Duration::from_secs(60)).unwrap();
    let missing = |rank, pid, words: &str| MissingRank {
        rank,
        pid,
        has_connected: false,
        words: Some(words.to_owned()),
    };
    let expected = [
        missing(1, Some(4712), "is busy (5 % of a CPU): importing or computing"),
        missing(2, None, "ended with code 3 before it"),
    ];
    assert_eq!(account.missing, expected);
    let json = serde_json::to_value(&account).unwrap();
    assert_eq!(json["gathering"]["missing"], serde_json::json!([1, 2]));
}
