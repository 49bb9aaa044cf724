//! Real sequences of requests, recorded by a server that logs (`captures/`: torch and gloo as named,
//! values left out but for their length), and sequences written from the source (NCCL).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::standing::{Gathering, Init, Place, Sign, Standing, State, Wait, What};
use super::*;

const GLOO: &str = include_str!("captures/gloo-2.15.txt");
const GLOO_2_4: &str = include_str!("captures/gloo-2.4.txt");

/// The store as far as waits need it, and the progress it feeds.
struct Replay {
    progress: Progress,
    values: BTreeMap<Vec<u8>, i64>,
    pending: BTreeMap<ClientId, Asked>,
}

enum Asked {
    Keys(Vec<Vec<u8>>),
    Barrier(Vec<u8>, i64),
}

impl Replay {
    fn new(world_size: u32) -> Self {
        let progress = Progress::new(world_size);
        Self { progress, values: BTreeMap::new(), pending: BTreeMap::new() }
    }

    /// Plays the lines that `filter` lets through.
    fn play(mut self, capture: &str, filter: impl Fn(u64, &str) -> bool) -> Self {
        for line in capture.lines() {
            let mut words = line.split(' ');
            let who = words.next().unwrap().parse().unwrap();
            if filter(who, line) {
                self.step(who, words.next().unwrap(), &words.collect::<Vec<_>>());
            }
        }
        self
    }

    /// One recorded step; a client that waits makes none.
    fn step(&mut self, who: u64, what: &str, words: &[&str]) {
        let who = ClientId(who);
        if self.is_blocked(who) {
            return;
        }
        let keys = |words: &[&str]| words.iter().map(|key| key.as_bytes().into()).collect();
        let key = || words[0].as_bytes().into();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let request = match what {
            "RANK" => {
                let rank = u32::try_from(who.0).unwrap();
                return self.progress.rank_process(rank, words[0].parse().unwrap());
            }
            "CONNECT" => return self.progress.connected(who, "127.0.0.1:5".parse().unwrap()),
            "GONE" => {
                self.pending.remove(&who);
                return self.progress.gone(who);
            }
            "PING" => Request::Ping { nonce: words[0].parse().unwrap() },
            "SET" => Request::Set { key: key(), value: address(number(1)) },
            "CAS" => Request::CompareSet { key: key(), expected: [].into(), desired: [].into() },
            "GET" => Request::Get { key: key() },
            "ADD" => Request::Add { key: key(), amount: number(1) },
            "WAIT" => Request::Wait { keys: keys(words) },
            "CHECK" => Request::Check { keys: keys(words) },
            "BARRIER" => Request::Barrier { key: key(), world_size: number(1) },
            "CANCEL" => Request::CancelWait,
            "LIST" => Request::ListKeys,
            "NUMKEYS" => Request::NumKeys,
            other => panic!("{other}"),
        };
        self.progress.request(who, &request);
        self.pending.remove(&who);
        match request {
            Request::Set { key, .. } | Request::CompareSet { key, .. } => {
                self.values.insert(key.into(), 0);
            }
            Request::Add { key, amount } => *self.values.entry(key.into()).or_default() += amount,
            Request::Wait { keys } => {
                let keys = keys.into_iter().map(Into::into).collect();
                self.pending.insert(who, Asked::Keys(keys));
            }
            Request::Barrier { key, world_size } => {
                *self.values.entry(key.to_vec()).or_default() += 1;
                self.pending.insert(who, Asked::Barrier(key.into(), world_size));
            }
            _ => {}
        }
    }

    fn is_blocked(&self, who: ClientId) -> bool {
        match self.pending.get(&who) {
            Some(Asked::Keys(keys)) => keys.iter().any(|key| !self.values.contains_key(key)),
            Some(Asked::Barrier(key, world_size)) => self.values[key] < *world_size,
            None => false,
        }
    }

    fn report(&self) -> Standing {
        let views = self.pending.iter().filter_map(|(&client, asked)| match asked {
            Asked::Keys(keys) => {
                let is_missing = |key: &&[u8]| !self.values.contains_key(*key);
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).filter(is_missing).collect();
                (!keys.is_empty()).then_some((client, PendingView::Keys(keys)))
            }
            Asked::Barrier(key, world_size) => {
                let arrived = self.values[key];
                let view = PendingView::Barrier { key, world_size: *world_size, arrived };
                (arrived < *world_size).then_some((client, view))
            }
        });
        self.progress.report(views)
    }
}

/// As long as gloo's; where no group is made, the length says nothing.
fn address(length: i64) -> Box<[u8]> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    if length >= 154 {
        bytes[..8].copy_from_slice(&2u64.to_le_bytes());
        bytes[10..18].copy_from_slice(&136u64.to_le_bytes());
    }
    bytes.into()
}

fn all(_: u64, _: &str) -> bool {
    true
}

fn gathering(place: Place, waiting: &[u32], missing: &[u32]) -> Gathering {
    Gathering { place, waiting: waiting.to_vec(), missing: missing.to_vec() }
}

fn init(waiting: &[u32], missing: &[u32]) -> Gathering {
    gathering(Place::Init, waiting, missing)
}

/// Leaves out what follows `init_process_group`.
fn is_init(line: &str) -> bool {
    !(line.contains("MARK") || line.ends_with("GONE") || line.contains("CANCEL"))
}

#[test]
fn each_recorded_run_ends_with_all_ranks_joined_and_nothing_to_say() {
    for (name, capture, ranks) in [
        ("gloo 2.15", GLOO, 3),
        ("gloo 2.4", GLOO_2_4, 3),
        ("init barrier", include_str!("captures/init-barrier-2.15.txt"), 2),
        ("init barrier 2.4", include_str!("captures/init-barrier-2.4.txt"), 2),
        ("debug", include_str!("captures/debug-detail-2.15.txt"), 2),
        ("lazy", include_str!("captures/lazy-2.15.txt"), 2),
        ("made anew", include_str!("captures/group-made-anew-2.15.txt"), 2),
    ] {
        for ends in [false, true] {
            let replay =
                Replay::new(ranks).play(capture, |_, line| ends || !line.ends_with("GONE"));
            let joined = vec![State::Joined; ranks as usize];
            let nothing = Standing { ranks: joined, init: Init::Complete, ..Standing::default() };
            assert_eq!(replay.report(), nothing, "{name}");
        }
    }
}

#[test]
fn no_moment_of_a_good_run_has_a_sign_or_names_a_rank_that_has_joined() {
    for capture in [GLOO, GLOO_2_4, include_str!("captures/debug-detail-2.15.txt")] {
        let ranks = if capture.contains("/2 178") { 3 } else { 2 };
        for end in 0..capture.lines().count() {
            let part: Vec<&str> = capture.lines().take(end).collect();
            let standing = Replay::new(ranks).play(&part.join("\n"), all).report();
            assert_eq!(standing.signs, [], "after {end} lines");
            for rank in standing.gathering.into_iter().flat_map(|g| g.missing) {
                let state = &standing.ranks[rank as usize];
                assert!(!matches!(state, State::Joined), "rank {rank} after {end} lines");
            }
        }
    }
}

#[test]
fn a_rank_that_never_connects_is_missing() {
    for capture in [GLOO, GLOO_2_4] {
        let replay = Replay::new(3).play(capture, |who, line| who != 3 || line.contains("RANK"));
        let standing = replay.report();
        assert_eq!(standing.gathering, Some(init(&[0, 1], &[2])));
        assert_eq!(standing.ranks, [State::Joining, State::Joining, State::NotConnected]);
        assert_eq!(standing.init, Init::UnderWay);
        assert_eq!((standing.signs, standing.waits), (vec![], vec![]));
    }
}

/// The first default group of all three is over; the second one is another gathering.
#[test]
fn who_was_in_the_first_group_is_missing_in_the_second() {
    for (capture, prefix) in [(GLOO, "/"), (GLOO_2_4, "//worker/attempt_0/")] {
        let mut replay = Replay::new(3).play(capture, all);
        let join = |replay: &mut Replay, who: u64, number: u32| {
            replay.step(who, "CONNECT", &[]);
            let key = |number: u32| format!("{prefix}default_pg~1/0//cpu//0/{number}");
            replay.step(who, "SET", &[&key(number), "178"]);
            for other in 0..3 {
                replay.step(who, "WAIT", &[&key(other)]);
                replay.step(who, "GET", &[&key(other)]);
            }
        };
        join(&mut replay, 21, 0);
        let standing = replay.report();
        assert_eq!(standing.gathering, Some(init(&[0], &[1, 2])));
        assert_eq!(standing.ranks, [State::Joining, State::Connected, State::Connected]);
        assert_eq!((standing.init, standing.signs), (Init::UnderWay, vec![]));
        join(&mut replay, 22, 2);
        assert_eq!(replay.report().gathering, Some(init(&[0, 2], &[1])));
        join(&mut replay, 23, 1);
        // Those that waited go on reading.
        join(&mut replay, 24, 0);
        join(&mut replay, 25, 2);
        for (who, number) in [(21, 0), (22, 2)] {
            replay.pending.remove(&ClientId(who));
            replay.step(who, "GET", &[&format!("{prefix}default_pg~1/0//cpu//0/{number}")]);
        }
        let standing = replay.report();
        assert!(standing.all_have_joined(), "{standing:?}");
        assert_eq!(standing.init, Init::Complete);
        // The first group's client goes late.
        for who in 1..10 {
            replay.step(who, "GONE", &[]);
        }
        assert!(replay.report().all_have_joined());
    }
}

#[test]
fn keys_of_a_later_group_mean_the_same() {
    for key in [
        "/default_pg/0//cpu//0/3",
        "//worker/attempt_2/default_pg/0//cpu//pg_wrapper:0/0/1",
        "/default_pg/store_based_barrier_key:0",
        "/default_pg/0//cuda//0",
        "/default_pg/1//7//cpu//0/2",
        "/default_pg/0//store_based_barrier_key:7:last_worker",
    ] {
        let later = keys::in_generation(key.as_bytes(), 12).expect("it is torch's own");
        assert_eq!(*later, *key.replace("default_pg", "default_pg~12").as_bytes());
        assert_eq!(form(&later), form(key.as_bytes()));
        assert_eq!((keys::generation(key.as_bytes()), keys::generation(&later)), (0, 12));
        assert_eq!(keys::in_generation(&later, 0).as_deref(), Some(key.as_bytes()));
    }
    for key in ["init/", "/users", "/default_pg/0//users", "/rpc_prefix_0/x", "/exception_dump"] {
        assert_eq!(keys::in_generation(key.as_bytes(), 1), None, "{key}");
    }
    for key in ["/default_pg~/0//cpu//0/3", "/default_pg~x/0//cpu//0/3", "/default_pg1/0//cpu//0/3"]
    {
        assert!(matches!(form(key.as_bytes()), Form::Other(_)), "{key}");
    }
}

#[test]
fn a_rank_that_only_connected_is_missing_and_unknown_without_its_pid() {
    let until_address = |who, line: &str| who != 3 || line.contains("init/") || !line.contains('/');
    for (capture, state) in [(GLOO, State::Connected), (GLOO_2_4, State::Unknown)] {
        let mut replay =
            Replay::new(3).play(capture, |who, line| until_address(who, line) && is_init(line));
        let standing = replay.report();
        assert_eq!(standing.gathering, Some(init(&[0, 1], &[2])));
        assert_eq!(standing.ranks[2], state);
        let clients: Vec<ClientId> =
            replay.progress.unidentified().into_iter().map(|(id, _)| id).collect();
        if state == State::Unknown {
            assert_eq!(clients, [1, 2, 3].map(ClientId), "an address alone is not sure");
            replay.progress.identify(ClientId(3), 2);
            assert_eq!(replay.report().ranks[2], State::Connected);
        } else {
            assert!(clients.is_empty(), "each gave the pid of its rank");
        }
    }
}

#[test]
fn a_pid_may_become_known_after_the_ping() {
    let mut replay = Replay::new(3).play(GLOO, |who, line| who == 1 && line.contains("PING"));
    replay.step(1, "CONNECT", &[]);
    replay.step(1, "PING", &["77"]);
    assert_eq!(replay.report().ranks, vec![State::Unknown; 3]);
    assert_eq!(replay.progress.unknown_pids(), [(ClientId(1), 77)]);
    replay.progress.rank_process(2, 77);
    assert!(replay.progress.unknown_pids().is_empty());
    let states = [State::NotConnected, State::NotConnected, State::Connected];
    assert_eq!(replay.report().ranks, states);
}

#[test]
fn a_connection_that_says_nothing_makes_nobody_unknown() {
    let mut progress = Progress::new(2);
    progress.connected(ClientId(1), "127.0.0.1:5".parse().unwrap());
    progress.gone(ClientId(1));
    assert_eq!(progress.report([].into_iter()).ranks, vec![State::NotConnected; 2]);
    progress.connected(ClientId(2), "127.0.0.1:5".parse().unwrap());
    progress.request(ClientId(2), &Request::Validate);
    progress.gone(ClientId(2));
    assert_eq!(progress.report([].into_iter()).ranks, vec![State::Unknown; 2]);
}

#[test]
fn a_larger_world_size_is_seen_by_who_is_waited_for() {
    let capture = include_str!("captures/world-size-bigger-2.15.txt");
    let until = |_, line: &str| is_init(line);
    let standing = Replay::new(3).play(capture, until).report();
    assert_eq!(standing.gathering, Some(init(&[1], &[])), "nobody of this job is missing");
    assert_eq!(standing.signs, [Sign::GroupSize { rank: 1, size: 5, is_exact: true }]);
    // Without the size in the address, the number it waits for says as much as can be known.
    let short = capture.replace(" 194", " 154").replace(" 178", " 154");
    let standing = Replay::new(3).play(&short, until).report();
    assert_eq!(standing.signs, [Sign::GroupSize { rank: 1, size: 4, is_exact: false }]);
}

#[test]
fn a_smaller_world_size_is_seen_though_nobody_waits_at_the_store() {
    let capture = include_str!("captures/world-size-smaller-2.15.txt");
    let standing = Replay::new(3).play(capture, |_, line| !line.ends_with("GONE")).report();
    assert_eq!(standing.gathering, None);
    assert_eq!(standing.signs, [Sign::GroupSize { rank: 1, size: 2, is_exact: true }]);
}

#[test]
fn a_part_of_the_job_may_make_a_group_of_its_own() {
    let capture = include_str!("captures/lazy-2.15.txt").replace(" 154", " 170");
    let standing = Replay::new(4).play(&capture, |_, line| !line.ends_with("GONE")).report();
    assert_eq!((standing.gathering, standing.signs), (None, vec![]));
    // While it gathers, who is not of it is not missing.
    let capture = include_str!("captures/init-barrier-2.15.txt");
    let standing = Replay::new(4).play(capture, |who, _| who < 2).report();
    assert_eq!(standing.gathering, Some(init(&[0], &[1])));
}

#[test]
fn a_rank_that_joins_as_another_is_named_and_nobody_is_missing() {
    let capture = include_str!("captures/rank-twice-2.15.txt");
    let until = |_, line: &str| is_init(line);
    let standing = Replay::new(3).play(capture, until).report();
    assert_eq!(standing.gathering, Some(init(&[0, 1, 2], &[])));
    assert_eq!(standing.signs, [Sign::OtherNumber { rank: 2, number: 1 }]);
    let nobody = |_, line: &str| is_init(line) && !line.contains("RANK");
    let standing = Replay::new(3).play(capture, nobody).report();
    assert_eq!(standing.signs, [Sign::SameNumber { number: 1, pids: vec![28342, 28344] }]);
}

#[test]
fn the_barrier_after_init_names_who_is_missing() {
    let capture = include_str!("captures/init-barrier-2.15.txt");
    // Rank 0 (client 1) has all addresses and does not come to the barrier.
    let gone = |who, line: &str| is_init(line) && !(who == 1 && line.contains("barrier_key"));
    let standing = Replay::new(2).play(capture, gone).report();
    assert_eq!(standing.gathering, Some(init(&[1], &[0])));
    assert_eq!(standing.ranks[1], State::Joining);
    // Where those who came cannot be told apart, nobody is named.
    let mut replay = Replay::new(3);
    for (who, word) in [(1, "CONNECT"), (2, "CONNECT")] {
        replay.step(who, word, &[]);
        replay.step(who, "ADD", &["/default_pg/store_based_barrier_key:0", "1"]);
        replay.step(who, "WAIT", &["/default_pg/store_based_barrier_key:0:last_worker"]);
    }
    assert_eq!(replay.report().gathering, Some(init(&[], &[])));
    assert_eq!(replay.report().ranks, vec![State::Unknown; 3]);
}

#[test]
fn who_has_been_in_the_barrier_after_init_is_through() {
    let mut replay = Replay::new(2);
    for who in 0..2 {
        replay.step(who, "RANK", &[&format!("1{who}")]);
        replay.step(who, "CONNECT", &[]);
        replay.step(who, "PING", &[&format!("1{who}")]);
        replay.step(who, "ADD", &["/default_pg/store_based_barrier_key:0", "1"]);
    }
    assert_eq!(replay.report().ranks, vec![State::Joining; 2]);
    replay.step(1, "SET", &["/default_pg/store_based_barrier_key:0:last_worker", "1"]);
    assert_eq!(replay.report().ranks, vec![State::Joined; 2]);
}

#[test]
fn a_rank_with_all_addresses_has_joined_and_does_not_need_its_own() {
    let only_init =
        |_, line: &str| is_init(line) && !line.contains("//1//") && !line.contains("key");
    let part: Vec<&str> = GLOO_2_4.lines().take_while(|line| !line.contains("MARK")).collect();
    let standing = Replay::new(3).play(&part.join("\n"), only_init).report();
    assert_eq!(standing.ranks, vec![State::Joined; 3]);
}

#[test]
fn a_lazy_rank_has_joined_once_it_does_something_else() {
    let capture = include_str!("captures/lazy-2.15.txt");
    let alone = |who, line: &str| who < 2 && line.contains("SET") || !line.contains('/');
    let until = |text: &str| {
        let part: Vec<&str> = capture.lines().take_while(|line| !line.contains(text)).collect();
        Replay::new(2).play(&part.join("\n"), alone).report()
    };
    assert_eq!(until("MARK1").ranks[1], State::Joining);
    assert_eq!(until("WAIT").ranks[1], State::Joined);
}

#[test]
fn a_wait_of_the_debugging_group_names_who_has_not_come_there() {
    let capture = include_str!("captures/debug-detail-2.15.txt");
    let gone = |who, line: &str| is_init(line) && !(who == 2 && line.contains("pg_wrapper"));
    let replay = Replay::new(2).play(capture, gone);
    assert_eq!(replay.report().gathering, Some(init(&[1], &[0])));
}

#[test]
fn batches_of_addresses_count_as_one_by_one() {
    let mut replay = Replay::new(3);
    replay.step(1, "RANK", &["11"]);
    replay.step(1, "CONNECT", &[]);
    replay.step(1, "PING", &["11"]);
    replay.step(1, "SET", &["/default_pg/0//cpu//0/1", "178"]);
    let keys = ["/default_pg/0//cpu//0/0", "/default_pg/0//cpu//0/1", "/default_pg/0//cpu//0/2"];
    replay.step(1, "WAIT", &keys);
    assert_eq!(replay.report().gathering, Some(init(&[1], &[0, 2])));
}

/// NCCL, from `ProcessGroupNCCL.cpp` and `nccl2/NCCLBootstrap.cpp`.
fn begun_nccl(id: &str) -> Replay {
    let mut replay = Replay::new(4);
    for who in 0..3 {
        replay.step(who, "RANK", &[&format!("1{who}")]);
        replay.step(who, "CONNECT", &[]);
        replay.step(who, "PING", &[&format!("1{who}")]);
        replay.step(who, "ADD", &["init/", "1"]);
    }
    assert_eq!(replay.report().ranks[..3], vec![State::Connected; 3], "init leaves no key");
    assert_eq!(replay.report().gathering, None, "nobody waits");
    assert_eq!(replay.report().init, Init::NotSeen);
    replay.step(1, "WAIT", &[id]);
    replay.step(2, "WAIT", &[id]);
    replay
}

#[test]
fn nccl_ranks_wait_for_the_id_and_then_for_each_other() {
    for id in [
        "/default_pg/0//cuda//0",
        "//worker/attempt_3/default_pg/0//cuda//0",
        "/default_pg/0//cuda//UniqueNCCLID:0",
        "/default_pg/0//cuda//nccl_storekey_0_0",
    ] {
        let mut replay = begun_nccl(id);
        let nccl =
            |waiting: &[u32], missing: &[u32]| Some(gathering(Place::Nccl, waiting, missing));
        assert_eq!(replay.report().gathering, nccl(&[1, 2], &[0, 3]), "{id}");
        replay.step(0, "SET", &[id, "128"]);
        replay.step(1, "GET", &[id]);
        replay.step(2, "GET", &[id]);
        assert_eq!(replay.report().gathering, nccl(&[0, 1, 2], &[3]), "{id}");
        assert_eq!(replay.report().ranks[3], State::NotConnected);
        replay.step(3, "CONNECT", &[]);
        replay.step(3, "GET", &[id]);
        assert_eq!(replay.report().gathering, None, "it may be rank 3's");
        replay.progress.identify(ClientId(3), 3);
        assert_eq!(replay.report().gathering, None, "all came");
        assert_eq!(replay.report().ranks, vec![State::Joined; 4]);
    }
}

#[test]
fn who_looks_at_the_dump_signal_has_an_nccl_group() {
    let mut replay = begun_nccl("/default_pg/0//cuda//0");
    replay.step(0, "CHECK", &["/exception_dump"]);
    assert_eq!(replay.report().ranks[0], State::Joined);
}

#[test]
fn named_barriers_groups_rpc_and_keys_are_waits_of_their_own() {
    let wait = |what, ranks: &[u32], missing: &[u32]| Wait {
        what,
        ranks: ranks.to_vec(),
        missing: missing.to_vec(),
    };
    let named = |more| What::Barrier { name: "named".to_owned(), more };
    let until = |_, line: &str| !line.contains("last_member 1") && !line.ends_with("GONE");
    let standing = Replay::new(3).play(GLOO, until).report();
    assert_eq!(standing.waits, [wait(named(None), &[0, 1, 2], &[])]);
    assert_eq!(standing.ranks, vec![State::Waiting(0); 3]);
    assert_eq!(standing.gathering, None);

    let own = include_str!("captures/own-store-2.15.txt");
    let alone = |who, line: &str| (who < 2 && !line.contains("BARRIER")) || line.contains("RANK");
    let standing = Replay::new(2).play(own, alone).report();
    assert_eq!(standing.waits[0].what, What::Key { key: "user1".to_owned(), others: 0 });
    let barrier = |who, line: &str| {
        (who == 1 && !line.contains("WAIT") && !line.contains("GONE")) || line.contains("RANK")
    };
    let part: Vec<&str> = own.lines().take_while(|line| !line.contains("WAIT")).collect();
    let standing = Replay::new(2).play(&part.join("\n"), barrier).report();
    assert_eq!(standing.waits, [wait(named(Some(1)), &[0], &[1])]);

    // One that is not known waits there too: then those who do not wait are not all missing.
    let mut replay = Replay::new(3);
    for who in 1..3 {
        replay.step(who, "CONNECT", &[]);
        replay.step(who, "BARRIER", &["/named", "3"]);
    }
    replay.progress.identify(ClientId(1), 1);
    assert_eq!(replay.report().waits, [wait(named(Some(1)), &[1], &[])]);

    // Group 1 waits for its own rank 0: which rank of the job that is, no key says.
    let group = |who, line: &str| who != 1 || (!line.contains("//1//") && !line.contains("GONE"));
    let part: Vec<&str> = GLOO.lines().take_while(|line| !line.contains("barriered")).collect();
    let standing = Replay::new(3).play(&part[..60].join("\n"), group).report();
    assert_eq!(standing.waits[0], wait(What::Group { name: "1".to_owned() }, &[1], &[]));

    let rpc = include_str!("captures/rpc-2.15.txt");
    let standing = Replay::new(2).play(rpc, |who, line| who == 1 || line.contains("RANK")).report();
    assert_eq!(standing.waits, [wait(What::Rpc, &[1], &[])]);
}

#[test]
fn a_new_group_behind_the_init_barrier_names_who_is_missing() {
    let mut replay = Replay::new(3);
    for who in 0..3 {
        replay.step(who, "RANK", &[&format!("1{who}")]);
        replay.step(who, "CONNECT", &[]);
        replay.step(who, "PING", &[&format!("1{who}")]);
    }
    for who in [0, 2] {
        replay.step(who, "ADD", &["/default_pg/0//store_based_barrier_key:1", "1"]);
        replay.step(who, "ADD", &["/default_pg/0//store_based_barrier_key:1", "0"]);
        replay.step(who, "WAIT", &["/default_pg/0//store_based_barrier_key:1:last_worker"]);
    }
    let waits = replay.report().waits;
    assert_eq!((waits[0].ranks.clone(), waits[0].missing.clone()), (vec![0, 2], vec![1]));
}

#[test]
fn users_keys_are_shown_escaped_cut_and_without_secrets() {
    assert_eq!(keys::shown(b"epoch"), "epoch");
    assert_eq!(keys::shown(b"a\x1b[31m\n\xff"), "a\\u{1b}[31m\\n\u{fffd}");
    assert_eq!(keys::shown(b"api_token=abc"), "api_token=***");
    for length in [60, 61, 8192] {
        assert_eq!(keys::shown(&vec![b'x'; length]).chars().count(), 60);
    }
}

#[test]
fn a_group_size_is_read_only_from_what_is_exactly_a_gloo_address() {
    assert_eq!(group_size(&address(178)), Some(3));
    assert_eq!(group_size(&address(154)), None, "a lazy group sends no numbers");
    assert_eq!(group_size(&address(155)), None);
    assert_eq!(group_size(&[255; 400]), None);
    assert_eq!(group_size(&[0; 400]), None);
    // Up to torch 2.1: whole addresses, one for each other rank.
    let mut old = [0; 272];
    old[..4].copy_from_slice(b"\x02\0\x9d\x9b");
    assert_eq!(group_size(&old), None, "half of it is none");
    old[136..140].copy_from_slice(b"\x0a\0\x9d\x9c");
    assert_eq!(group_size(&old), Some(3));
    assert_eq!(group_size(&old[..136]), Some(2));
    assert_eq!(group_size(&old[..137]), None);
}

fn some_key() -> impl Strategy<Value = Box<[u8]>> {
    let known = [
        "init/",
        "/exception_dump",
        "/default_pg/0//cpu//0/",
        "/default_pg/0//cpu//0/1",
        "/default_pg/0//cpu//0/4294967295",
        "/default_pg~1/0//cpu//0/1",
        "/default_pg~4294967295/0//cpu//0/1",
        "/default_pg/0//cpu//pg_wrapper:0/0/1",
        "/default_pg/0//cuda//0",
        "/default_pg/store_based_barrier_key:0",
        "/default_pg/store_based_barrier_key:0:last_worker",
        "/default_pg/0//store_based_barrier_key:1",
        "/default_pg/0//store_based_barrier_key:1:last_worker",
        "//worker/attempt_0/default_pg/0//cpu//0/2",
        "/b/num_members",
        "/b/last_member",
        "/rpc_prefix_0/0/1",
    ];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(|key| key.as_bytes().into()),
        "/?(default_pg|worker|[a-z0-9/:_]{0,12}|//|[0-9]{1,12}){0,6}"
            .prop_map(|key| key.into_bytes().into()),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Into::into),
        "[a-z]{3}/num_members".prop_map(|key| key.into_bytes().into()),
    ]
}

fn some_request() -> impl Strategy<Value = Request> {
    let keys = || prop::collection::vec(some_key(), 0..4);
    let value =
        || prop::sample::select(vec![0, 1, 154, 170, 178, 8 * 5000 + 154]).prop_map(address);
    prop_oneof![
        (some_key(), value()).prop_map(|(key, value)| Request::Set { key, value }),
        (some_key(), prop_oneof![Just(1), any::<i64>()])
            .prop_map(|(key, amount)| Request::Add { key, amount }),
        some_key().prop_map(|key| Request::Get { key }),
        some_key().prop_map(|key| Request::Delete { key }),
        keys().prop_map(|keys| Request::Wait { keys }),
        keys().prop_map(|keys| Request::MultiGet { keys }),
        (some_key(), any::<i64>())
            .prop_map(|(key, world_size)| Request::Barrier { key, world_size }),
        prop_oneof![0u32..6, any::<u32>()].prop_map(|nonce| Request::Ping { nonce }),
        (keys(), value()).prop_map(|(keys, value)| Request::MultiSet {
            pairs: keys.into_iter().map(|key| (key, value.clone())).collect(),
        }),
        Just(Request::CancelWait),
    ]
}

proptest! {
    #[test]
    fn no_sequence_panics_or_names_a_rank_that_does_not_exist(
        world_size in 0u32..5,
        steps in prop::collection::vec((0u64..8, 0u8..12, some_request()), 0..120),
        waits in prop::collection::vec((0u64..8, prop::collection::vec(some_key(), 0..3)), 0..8),
        barrier in (some_key(), any::<i64>(), any::<i64>()),
    ) {
        let mut progress = Progress::new(world_size);
        let mut open = BTreeSet::new();
        for (client, what, request) in &steps {
            match what {
                0 => { progress.gone(ClientId(*client)); open.remove(client); }
                1 | 2 => { progress.connected(ClientId(*client), "[::1]:5".parse().unwrap()); open.insert(*client); }
                3 => progress.rank_process(u32::from(*what), i32::try_from(*client).unwrap()),
                4 => progress.identify(ClientId(*client), 1),
                _ => progress.request(ClientId(*client), request),
            }
        }
        let views = waits.iter().map(|(client, keys)| {
            (ClientId(*client), PendingView::Keys(keys.iter().map(|key| &**key).collect()))
        });
        let (key, size, arrived) = &barrier;
        let view = PendingView::Barrier { key, world_size: *size, arrived: *arrived };
        let standing = progress.report(views.chain([(ClientId(1), view)]));
        prop_assert_eq!(standing.ranks.len(), world_size as usize);
        let named = standing.waits.iter().flat_map(|wait| wait.ranks.iter().chain(&wait.missing));
        let gathered = standing.gathering.iter().flat_map(|g| g.waiting.iter().chain(&g.missing));
        for rank in named.chain(gathered) {
            prop_assert!(*rank < world_size);
        }
        prop_assert!(progress.clients.len() <= open.len());
        prop_assert!(progress.barriers.len() <= MAX_BARRIERS);
        prop_assert!(progress.processes.len() <= MAX_PROCESSES * world_size as usize);
        let kept = progress.barriers.iter();
        prop_assert!(kept.clone().all(|b| b.key.len() <= MAX_NAME && b.ranks.len() <= world_size as usize));
    }
}

#[test]
fn many_keys_leave_nothing_behind() {
    let mut progress = Progress::new(2);
    progress.connected(ClientId(1), "[::1]:5".parse().unwrap());
    for n in 0..100_000 {
        let key = match n % 3 {
            0 => format!("/key{n}/num_members"),
            1 => format!("/default_pg/0//cpu//0/{n}"),
            _ => format!("/default_pg/{n}//store_based_barrier_key:{n}"),
        };
        let key: Box<[u8]> = key.into_bytes().into();
        progress.request(ClientId(1), &Request::Add { key: key.clone(), amount: 1 });
        progress.request(ClientId(1), &Request::Set { key, value: [].into() });
    }
    let kept = (progress.clients.len(), progress.barriers.len(), progress.joined.len());
    assert_eq!(kept, (1, MAX_BARRIERS, 2));
}
