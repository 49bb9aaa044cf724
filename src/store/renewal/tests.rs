//! Ranks that make their default group anew, in every order of their steps.

use proptest::prelude::*;

use super::*;
use crate::store::limits::Limits;
use crate::store::state::State;
use crate::store::wire::reply::Output;

/// The address of a rank in its n-th group, as gloo writes it.
fn address(rank: u32, nth: u32, size: u32) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(136u64.to_le_bytes());
    let mut place = vec![0; 136];
    place[0..4].copy_from_slice(&rank.to_le_bytes());
    place[4..8].copy_from_slice(&nth.to_le_bytes());
    bytes.extend(place);
    bytes.extend(vec![0; 8 * size as usize]);
    assert_eq!(group_size(&bytes), Some(size));
    bytes
}

fn whose(address: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_le_bytes(address[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// A store with the rule in front of it.
struct Store {
    renewal: Renewal,
    state: State,
    last: u64,
    woken: Vec<ClientId>,
}

impl Store {
    fn new(world_size: u32) -> Self {
        let state = State::new(&Limits::new(8 << 30, 1024));
        Self { renewal: Renewal::new(world_size), state, last: 0, woken: Vec::new() }
    }

    fn connect(&mut self) -> ClientId {
        self.last += 1;
        ClientId(self.last)
    }

    fn ask(&mut self, client: ClientId, mut request: Request) -> Vec<u8> {
        for prefix in self.renewal.request(client, &mut request) {
            self.state.forget_keys(&prefix);
        }
        let mut reply = Output::new(usize::MAX);
        self.state.step(client, request, &mut reply, &mut self.woken).expect("it is accepted");
        reply.drain()
    }

    fn set(&mut self, client: ClientId, key: &str, value: &[u8]) {
        self.ask(client, Request::Set { key: key.as_bytes().into(), value: value.into() });
    }

    /// Nothing where the key is not there.
    fn get(&mut self, client: ClientId, key: &str) -> Option<Vec<u8>> {
        let keys = vec![key.as_bytes().into()];
        if self.ask(client, Request::Check { keys }) != [0] {
            return None;
        }
        let value = self.ask(client, Request::Get { key: key.as_bytes().into() });
        Some(value[8..].to_vec())
    }

    fn gone(&mut self, client: ClientId) {
        self.renewal.gone(client);
        self.state.client_gone(client, &mut self.woken);
    }

    /// A rank publishes its address and gets what is there of the others'.
    fn join(&mut self, rank: u32, nth: u32, size: u32) -> ClientId {
        let client = self.connect();
        self.set(client, &name(rank), &address(rank, nth, size));
        self.read(client, size);
        client
    }

    fn read(&mut self, client: ClientId, size: u32) -> Vec<u32> {
        let all = (0..size).map_while(|n| self.get(client, &name(n)));
        all.map(|value| whose(&value).1).collect()
    }
}

fn name(rank: u32) -> String {
    format!("//worker/attempt_0/default_pg/0//cpu//0/{rank}")
}

fn group(nth: u32, rank: u32) -> String {
    format!("//worker/attempt_0/default_pg/{nth}//1//cpu//0/{rank}")
}

/// Where a rank is on its way through its groups.
#[derive(Clone, Copy)]
struct Walker {
    nth: u32,
    next: u32,
    client: Option<ClientId>,
    before: Option<ClientId>,
}

proptest! {
    /// Whoever is first and however late the others are: each rank finds the others of its own
    /// n-th group, and nobody waits for ever.
    #[test]
    fn each_group_finds_itself(
        size in 1u32..5,
        times in 1u32..6,
        asks_own in any::<bool>(),
        closes_late in any::<bool>(),
        order in prop::collection::vec(0usize..60, 0..600),
    ) {
        let mut store = Store::new(size);
        let start = Walker { nth: 0, next: 0, client: None, before: None };
        let mut walkers = vec![start; size as usize];
        let mut turns = order.into_iter().map(|turn| turn % size as usize);
        let mut idle = 0;
        let mut fair = (0..size as usize).cycle();
        while walkers.iter().any(|walker| walker.nth < times) {
            let turn = turns.next().unwrap_or_else(|| fair.next().expect("endless"));
            let (rank, walker) = (u32::try_from(turn).unwrap(), &mut walkers[turn]);
            idle += 1;
            prop_assert!(idle < 1000, "they wait for ever");
            if walker.nth == times {
                continue;
            }
            let Some(client) = walker.client else {
                let client = store.connect();
                store.set(client, &name(rank), &address(rank, walker.nth, size));
                walker.client = Some(client);
                idle = 0;
                continue;
            };
            if walker.next == rank && !asks_own {
                walker.next += 1;
            }
            if walker.next < size {
                let Some(value) = store.get(client, &name(walker.next)) else { continue };
                prop_assert_eq!(whose(&value), (walker.next, walker.nth));
                walker.next += 1;
            } else {
                let gone = if closes_late { walker.before } else { Some(client) };
                if let Some(gone) = gone {
                    store.gone(gone);
                }
                *walker = Walker {
                    nth: walker.nth + 1,
                    next: 0,
                    client: None,
                    before: closes_late.then_some(client),
                };
            }
            idle = 0;
        }
        // The first group's, and those of the few that may still be read.
        prop_assert!(store.state.len() <= 4 * size as usize, "{}", store.state.len());
        prop_assert!(store.renewal.generations.len() <= 4);
        prop_assert!(store.renewal.members.len() <= size as usize);
    }
}

#[test]
fn one_that_repeats_what_failed_stays() {
    let mut store = Store::new(2);
    let first = store.join(0, 0, 2);
    store.gone(first);
    // Nobody came in time; it tries again, and now the other one comes for the first time.
    let again = store.join(0, 1, 2);
    let other = store.connect();
    store.set(other, &name(1), &address(1, 0, 2));
    assert_eq!(store.read(other, 2), [1, 0]);
    assert_eq!(store.read(again, 2), [1, 0]);
    assert_eq!(store.renewal.newest(), 0);
}

#[test]
fn what_others_still_read_stays() {
    let mut store = Store::new(3);
    let slow = store.join(2, 0, 3);
    let one = store.join(1, 0, 3);
    let zero = store.join(0, 0, 3);
    assert_eq!((store.read(one, 3).len(), store.read(zero, 3).len()), (3, 3));
    let early = store.join(1, 1, 3);
    assert_eq!(store.renewal.newest(), 1);
    assert_eq!(store.read(slow, 3), [0, 0, 0], "rank 1 was faster, and it has not read yet");
    assert!(store.read(early, 3).is_empty(), "the others have not begun anew");
}

#[test]
fn one_client_may_make_all_groups() {
    let mut store = Store::new(2);
    let clients = [store.connect(), store.connect()];
    for nth in 0..4 {
        for rank in 0..2 {
            store.set(clients[rank as usize], &name(rank), &address(rank, nth, 2));
        }
        for client in clients {
            assert_eq!(store.read(client, 2), [nth, nth]);
        }
    }
}

#[test]
fn subgroups_and_barriers_begin_anew_and_users_keys_do_not() {
    let mut store = Store::new(2);
    let old = [store.join(0, 0, 2), store.join(1, 0, 2)];
    assert_eq!(store.read(old[0], 2).len(), 2);
    let barrier = "/default_pg/store_based_barrier_key:0";
    for key in [
        &group(0, 0),
        barrier,
        "/default_pg/0//users",
        "/users",
        "/default_pg/0//users/num_members",
    ] {
        store.set(old[0], key, b"old");
    }
    let new = store.join(0, 1, 2);
    for key in [&group(0, 0), barrier] {
        assert_eq!(store.get(new, key), None, "{key}");
        store.set(new, key, b"new");
        assert_eq!(store.get(old[1], key).as_deref(), Some(&b"old"[..]), "{key}");
    }
    for key in ["/default_pg/0//users", "/users", "/default_pg/0//users/num_members"] {
        assert_eq!(store.get(new, key).as_deref(), Some(&b"old"[..]), "{key}");
    }
    let stranger = store.connect();
    assert_eq!(store.get(stranger, &group(0, 0)).as_deref(), Some(&b"old"[..]));
}

/// It may still set up subgroups in a group that all others have left.
#[test]
fn a_group_is_kept_as_long_as_somebody_is_in_it() {
    let mut store = Store::new(2);
    let mut slow = ClientId(0);
    for nth in 0..3 {
        let clients = [store.join(0, nth, 2), store.join(1, nth, 2)];
        assert_eq!(store.read(clients[0], 2).len(), 2);
        if nth == 1 {
            slow = clients[1];
            store.set(slow, &group(0, 1), b"here");
        } else {
            store.gone(clients[1]);
        }
        store.gone(clients[0]);
    }
    let last = store.join(0, 3, 2);
    assert_eq!(store.get(slow, &group(0, 1)).as_deref(), Some(&b"here"[..]));
    store.gone(slow);
    store.join(1, 3, 2);
    assert_eq!(store.read(last, 2).len(), 2);
    let before = store.state.len();
    store.join(0, 4, 2);
    assert!(store.state.len() < before, "the group that nobody is in is forgotten");
}

#[test]
fn a_second_interface_is_no_second_group() {
    let mut store = Store::new(2);
    let on = |interface: u32, rank: u32| format!("/default_pg/0//cpu//{interface}/{rank}");
    for nth in 0..3 {
        let clients = [store.connect(), store.connect()];
        for interface in 0..2 {
            for rank in 0..2 {
                let client = clients[rank as usize];
                store.set(client, &on(interface, rank), &address(rank, nth, 2));
            }
            for client in clients {
                for rank in 0..2 {
                    let value = store.get(client, &on(interface, rank)).expect("it was set");
                    assert_eq!(whose(&value), (rank, nth));
                }
            }
        }
        assert_eq!(store.renewal.newest(), nth);
    }
}

/// An elastic job: three ranks, then the last two of them under other numbers, then three again.
#[test]
fn groups_may_shrink_and_grow() {
    let mut store = Store::new(3);
    for (nth, size) in (0..).zip([3, 2, 3, 2]) {
        let clients: Vec<_> = (0..size).map(|rank| store.join(rank, nth, size)).collect();
        for client in clients {
            assert_eq!(store.read(client, size), vec![nth; size as usize]);
        }
    }
}

#[test]
fn a_rank_that_is_wrong_about_the_size_meets_the_others_names() {
    let mut store = Store::new(3);
    let right = store.join(0, 0, 3);
    let wrong = store.join(1, 0, 2);
    assert_eq!(store.renewal.newest(), 0);
    assert_eq!(store.read(wrong, 2), [0, 0]);
    assert_eq!(store.read(right, 3), [0, 0]);
}

#[test]
fn addresses_without_a_size_begin_nothing() {
    let mut store = Store::new(2);
    for _ in 0..3 {
        let clients = [store.connect(), store.connect()];
        for (rank, client) in (0..).zip(clients) {
            store.set(client, &name(rank), b"lazy");
            store.set(client, "/default_pg/0//cuda//0", b"an id of NCCL");
        }
        assert!(store.get(clients[0], &name(1)).is_some());
    }
    assert!(store.renewal.generations.is_empty() && store.state.len() == 3);
}

#[test]
fn memory_stays_bounded_whatever_is_published() {
    let mut store = Store::new(4);
    for nth in 0..200u32 {
        let client = store.connect();
        let size = nth % 6 + 1;
        let key = format!("/default_pg/0//cpu//{}/{}", nth % 50, nth % 5);
        store.set(client, &key, &address(nth % 5, nth, size));
        store.read(client, size);
    }
    assert!(store.renewal.generations.len() <= MAX_GENERATIONS);
    let meshes = store.renewal.generations.iter().map(|generation| generation.meshes.len());
    assert!(meshes.max() <= Some(MAX_MESHES));
}
