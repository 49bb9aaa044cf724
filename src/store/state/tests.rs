use super::*;

fn limits() -> Limits {
    Limits::new(8 << 30, 1024)
}

fn key(text: &str) -> Key {
    text.as_bytes().into()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn number(n: i64) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

/// A store and what its clients were sent.
struct Scene {
    state: State,
    sent: HashMap<u64, Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        Self { state: State::new(&limits()), sent: HashMap::new() }
    }

    fn ask(&mut self, client: u64, request: Request) -> Result<(), Refused> {
        let mut reply = Output::new(usize::MAX);
        let mut woken = Vec::new();
        let result = self.state.step(ClientId(client), request, &mut reply, &mut woken);
        self.sent.entry(client).or_default().extend(reply.drain());
        self.wake(woken);
        result
    }

    fn wake(&mut self, woken: Vec<ClientId>) {
        for client in woken {
            self.sent.entry(client.0).or_default().push(READY);
        }
    }

    /// Asks and gives everything that this client was sent.
    fn reply(&mut self, client: u64, request: Request) -> Vec<u8> {
        self.ask(client, request).expect("a request that is answered");
        self.sent(client)
    }

    fn sent(&mut self, client: u64) -> Vec<u8> {
        self.sent.remove(&client).unwrap_or_default()
    }

    fn gone(&mut self, client: u64) {
        let mut woken = Vec::new();
        self.state.client_gone(ClientId(client), &mut woken);
        self.wake(woken);
    }

    fn set(&mut self, name: &str, value: &str) {
        self.ask(9, Request::Set { key: key(name), value: key(value) }).expect("room");
        assert_eq!(self.sent(9), b"");
    }

    fn get(&mut self, name: &str) -> Vec<u8> {
        self.reply(9, Request::Get { key: key(name) })
    }

    fn wait(&mut self, client: u64, names: &[&str]) -> Vec<u8> {
        self.reply(client, Request::Wait { keys: names.iter().map(|name| key(name)).collect() })
    }

    fn push(&mut self, name: &str, value: &str) {
        self.ask(9, Request::QueuePush { key: key(name), value: key(value) }).expect("room");
    }

    fn pop(&mut self, client: u64, name: &str) -> Vec<u8> {
        self.reply(client, Request::QueuePop { key: key(name) })
    }

    fn barrier(&mut self, client: u64, name: &str, world_size: i64) -> Vec<u8> {
        self.reply(client, Request::Barrier { key: key(name), world_size })
    }
}

/// Each answer was compared with those of the two servers of torch 2.15.
#[test]
fn values_are_stored_and_read() {
    let mut scene = Scene::new();
    assert_eq!(scene.get("/k"), string(""), "a missing key is empty");
    scene.set("/k", "v");
    assert_eq!(scene.get("/k"), string("v"));
    scene.set("/k", "longer");
    assert_eq!(scene.get("/k"), string("longer"));
    let keys = vec![key("/k"), key("/no"), key("/k")];
    let expected = [string("longer"), string(""), string("longer")].concat();
    assert_eq!(scene.reply(1, Request::MultiGet { keys: keys.clone() }), expected);
    assert_eq!(scene.reply(1, Request::Check { keys }), [1]);
    assert_eq!(scene.reply(1, Request::Check { keys: vec![key("/k")] }), [0]);
    assert_eq!(scene.reply(1, Request::Check { keys: vec![] }), [0]);
    assert_eq!(scene.reply(1, Request::Delete { key: key("/k") }), number(1));
    assert_eq!(scene.reply(1, Request::Delete { key: key("/k") }), number(0));
    let pairs = vec![(key("/a"), key("1")), (key("/b"), key("2"))];
    assert_eq!(scene.reply(1, Request::MultiSet { pairs }), b"");
    assert_eq!(scene.reply(1, Request::NumKeys), number(2));
    let keys = scene.reply(1, Request::ListKeys);
    let either = [
        [number(2), string("/a"), string("/b")].concat(),
        [number(2), string("/b"), string("/a")].concat(),
    ];
    assert!(either.contains(&keys), "{keys:?}");
    for value in ["a", "b"] {
        let request = Request::Append { key: key("/new"), value: key(value) };
        assert_eq!(scene.reply(1, request), b"");
    }
    assert_eq!(scene.get("/new"), string("ab"));
    assert_eq!(scene.reply(1, Request::Ping { nonce: 0x0403_0201 }), [1, 2, 3, 4]);
    assert_eq!(scene.reply(1, Request::Validate), b"");
}

#[test]
fn large_values_are_the_same_as_small_ones() {
    let mut scene = Scene::new();
    let large = "x".repeat(100_000);
    scene.set("/k", &large);
    assert_eq!(scene.get("/k"), string(&large));
    scene.ask(1, Request::Append { key: key("/k"), value: key("y") }).expect("room");
    assert_eq!(scene.get("/k"), string(&format!("{large}y")));
    let request = Request::CompareSet { key: key("/k"), expected: key("no"), desired: key("") };
    assert_eq!(scene.reply(1, request), string(&format!("{large}y")));
}

#[test]
fn compare_and_set() {
    let mut scene = Scene::new();
    let mut ask = |expected: &str, desired: &str| {
        let request =
            Request::CompareSet { key: key("/k"), expected: key(expected), desired: key(desired) };
        scene.reply(1, request)
    };
    assert_eq!(ask("other", "v"), string("other"), "a missing key: what was expected, unchanged");
    assert_eq!(ask("", "v1"), string("v1"), "nothing was expected, nothing is there");
    assert_eq!(ask("", "v2"), string("v1"));
    assert_eq!(ask("v1", "v2"), string("v2"));
    assert_eq!(scene.get("/k"), string("v2"));
}

#[test]
fn counters_are_text() {
    let mut scene = Scene::new();
    let mut add = |amount| scene.reply(1, Request::Add { key: key("init/"), amount });
    assert_eq!(add(2), number(2));
    assert_eq!(add(-5), number(-3));
    assert_eq!(scene.get("init/"), string("-3"));
    scene.set("/text", " 12abc");
    assert_eq!(scene.reply(1, Request::Add { key: key("/text"), amount: 1 }), number(13));
    scene.set("/most", "9223372036854775807");
    assert_eq!(scene.reply(1, Request::Add { key: key("/most"), amount: 1 }), number(i64::MIN));
    scene.set("/word", "abc");
    for request in [
        Request::Add { key: key("/word"), amount: 1 },
        Request::Barrier { key: key("/word"), world_size: 1 },
    ] {
        assert_eq!(scene.ask(1, request), Err(Refused::NotANumber));
    }
    assert_eq!(scene.get("/word"), string("abc"));
}

#[test]
fn every_way_of_writing_wakes_who_waits() {
    let value = || key("1");
    for request in [
        Request::Set { key: key("/k"), value: value() },
        Request::CompareSet { key: key("/k"), expected: key(""), desired: value() },
        Request::Add { key: key("/k"), amount: 1 },
        Request::Append { key: key("/k"), value: value() },
        Request::MultiSet { pairs: vec![(key("/x"), value()), (key("/k"), value())] },
        Request::QueuePush { key: key("/k"), value: value() },
        Request::Barrier { key: key("/k"), world_size: 1 },
    ] {
        let mut scene = Scene::new();
        assert_eq!(scene.wait(1, &["/k"]), b"");
        scene.ask(2, request.clone()).expect("room");
        assert_eq!(scene.sent(1), [0], "{request:?}");
        assert_eq!(scene.wait(1, &["/k"]), [0], "and it need not wait afterwards");
        assert_eq!(scene.state.waiting(), 0);
    }
}

#[test]
fn what_does_not_write_wakes_nobody() {
    for request in [
        // torch's libuv server wakes here; then the waiter finds no key.
        Request::CompareSet { key: key("/k"), expected: key("other"), desired: key("v") },
        Request::Delete { key: key("/k") },
        Request::Get { key: key("/k") },
        Request::QueuePop { key: key("/k") },
        Request::QueueLen { key: key("/k") },
        Request::Barrier { key: key("/k"), world_size: 2 },
    ] {
        let mut scene = Scene::new();
        assert_eq!(scene.wait(1, &["/k"]), b"");
        scene.ask(2, request.clone()).expect("room");
        assert_eq!(scene.sent(1), b"", "{request:?}");
    }
}

#[test]
fn a_wait_for_several_ends_with_the_last() {
    let mut scene = Scene::new();
    scene.set("/there", "1");
    assert_eq!(scene.wait(1, &["/a", "/there", "/b", "/a"]), b"");
    let pending = |scene: &Scene| match scene.state.pending(ClientId(1)) {
        Some(Pending::Keys(keys)) => keys.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(pending(&scene), [b"/a", b"/b", b"/a"]);
    scene.set("/a", "1");
    assert_eq!(pending(&scene), [b"/b"]);
    // It came, and that counts, although it goes again (T2).
    scene.ask(2, Request::Delete { key: key("/a") }).expect("answered");
    scene.set("/a", "2");
    assert_eq!(scene.sent(1), b"");
    scene.set("/b", "1");
    assert_eq!(scene.sent(1), [0]);
    assert_eq!(scene.state.pending(ClientId(1)), None);
    scene.set("/b", "2");
    assert_eq!(scene.sent(1), b"", "answered once");
    assert_eq!(scene.wait(1, &[]), [0]);
}

#[test]
fn a_cancel_is_always_answered() {
    let mut scene = Scene::new();
    assert_eq!(scene.reply(1, Request::CancelWait), [1], "torch's client expects it in a race");
    assert_eq!(scene.wait(1, &["/k", "/l"]), b"");
    assert_eq!(scene.reply(1, Request::CancelWait), [1]);
    scene.set("/k", "");
    scene.set("/l", "");
    assert_eq!(scene.sent(1), b"");
    assert_eq!(scene.state.memory(), scene.state.recount());
}

#[test]
fn who_waits_may_ask_but_not_wait_again() {
    let mut scene = Scene::new();
    assert_eq!(scene.wait(1, &["/k"]), b"");
    assert_eq!(scene.reply(1, Request::NumKeys), number(0));
    for request in [
        Request::Wait { keys: vec![key("/l")] },
        Request::Wait { keys: vec![] },
        Request::Barrier { key: key("/b"), world_size: 1 },
    ] {
        assert_eq!(scene.ask(1, request), Err(Refused::WaitsTwice));
    }
    // It may even end its own wait.
    assert_eq!(
        scene.reply(1, Request::Add { key: key("/k"), amount: 7 }),
        [&number(7)[..], &[0]].concat()
    );
}

#[test]
fn a_client_that_goes_waits_for_nothing() {
    let mut scene = Scene::new();
    for client in 1..=3 {
        assert_eq!(scene.wait(client, &["/k", "/l"]), b"");
    }
    scene.gone(2);
    scene.gone(2);
    scene.set("/l", "");
    scene.set("/k", "");
    assert_eq!((scene.sent(1), scene.sent(2), scene.sent(3)), (vec![0], vec![], vec![0]));
}

#[test]
fn queues_give_each_item_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.pop(1, "/q"), number(0));
    assert_eq!(scene.reply(1, Request::QueueLen { key: key("/q") }), number(0));
    scene.push("/q", "a");
    scene.push("/q", "b");
    assert_eq!(scene.reply(1, Request::QueueLen { key: key("/q") }), number(2));
    assert_eq!(scene.reply(1, Request::Check { keys: vec![key("/q")] }), [0]);
    assert_eq!(scene.wait(1, &["/q"]), [0]);
    // A queue is no key.
    assert_eq!(scene.reply(1, Request::NumKeys), number(0));
    assert_eq!(scene.reply(1, Request::ListKeys), number(0));
    assert_eq!(scene.reply(1, Request::Delete { key: key("/q") }), number(0));
    assert_eq!(scene.get("/q"), string(""));
    assert_eq!(scene.pop(1, "/q"), [number(2), string("a")].concat());
    assert_eq!(scene.pop(2, "/q"), [number(1), string("b")].concat());
    assert_eq!(scene.pop(1, "/q"), number(0));
    assert_eq!(scene.reply(1, Request::Check { keys: vec![key("/q")] }), [1]);
    assert_eq!(scene.state.memory(), 0);
}

#[test]
fn a_push_wakes_the_first_who_waits() {
    let mut scene = Scene::new();
    assert_eq!(scene.wait(1, &["/q"]), b"");
    assert_eq!(scene.wait(2, &["/other", "/q"]), b"");
    assert_eq!(scene.wait(3, &["/q"]), b"");
    scene.push("/q", "a");
    assert_eq!((scene.sent(1), scene.sent(2), scene.sent(3)), (vec![0], vec![], vec![]));
    // The second still misses something, so this one is for the third.
    scene.push("/q", "b");
    assert_eq!((scene.sent(1), scene.sent(2), scene.sent(3)), (vec![], vec![], vec![0]));
    scene.set("/other", "");
    assert_eq!(scene.sent(2), [0]);
}

#[test]
fn an_item_that_was_not_taken_wakes_the_next() {
    for cancels in [true, false] {
        let mut scene = Scene::new();
        assert_eq!(scene.wait(1, &["/q"]), b"");
        assert_eq!(scene.wait(2, &["/q"]), b"");
        scene.push("/q", "a");
        assert_eq!((scene.sent(1), scene.sent(2)), (vec![0], vec![]));
        if cancels {
            assert_eq!(scene.reply(1, Request::CancelWait), [1]);
        } else {
            scene.gone(1);
        }
        assert_eq!(scene.sent(2), [0]);
        assert_eq!(scene.pop(2, "/q"), [number(1), string("a")].concat());
        // It took its item: there is nothing to hand on.
        assert_eq!(scene.wait(3, &["/q"]), b"");
        assert_eq!(scene.wait(4, &["/q"]), b"");
        scene.push("/q", "b");
        assert_eq!((scene.sent(3), scene.sent(4)), (vec![0], vec![]));
        scene.gone(2);
        assert_eq!(scene.sent(4), b"");
    }
}

#[test]
fn a_barrier_opens_when_all_came() {
    let mut scene = Scene::new();
    assert_eq!(scene.barrier(1, "/b", 3), b"");
    assert_eq!(scene.barrier(2, "/b", 3), b"");
    let pending = scene.state.pending(ClientId(2));
    assert_eq!(pending, Some(Pending::Barrier { key: b"/b", world_size: 3 }));
    assert_eq!(scene.barrier(3, "/b", 3), [0]);
    assert_eq!((scene.sent(1), scene.sent(2)), (vec![0], vec![0]));
    assert_eq!(scene.get("/b"), string("3"));
    assert_eq!(scene.barrier(1, "/b", 3), [0], "it stays open");
    for open in [1, 0, -3] {
        assert_eq!(scene.barrier(4, &format!("/b{open}"), open), [0]);
    }
}

#[test]
fn a_barrier_counts_who_left() {
    let mut scene = Scene::new();
    assert_eq!(scene.barrier(1, "/b", 3), b"");
    assert_eq!(scene.reply(1, Request::CancelWait), [1]);
    assert_eq!(scene.barrier(2, "/b", 3), b"");
    scene.gone(2);
    assert_eq!(scene.get("/b"), string("2"));
    assert_eq!(scene.barrier(3, "/b", 3), [0]);
    assert_eq!((scene.sent(1), scene.sent(2)), (vec![], vec![]));
}

/// As in torch: the counter is a key like others.
#[test]
fn whoever_writes_a_barriers_counter_opens_it() {
    for request in [
        Request::Set { key: key("/b"), value: key("1") },
        Request::Add { key: key("/b"), amount: 1 },
        Request::Barrier { key: key("/b"), world_size: 1 },
    ] {
        let mut scene = Scene::new();
        assert_eq!(scene.barrier(1, "/b", 9), b"");
        scene.ask(2, request).expect("room");
        assert_eq!(scene.sent(1), [0]);
    }
}

#[test]
fn a_full_store_refuses_and_stays_as_it_was() {
    let limits = Limits { memory: 1900, ..limits() };
    let mut scene = Scene { state: State::new(&limits), sent: HashMap::new() };
    scene.set("/k", &"v".repeat(1000));
    let big = || key(&"w".repeat(1900));
    for request in [
        Request::Set { key: key("/k"), value: big() },
        Request::Set { key: key("/l"), value: big() },
        Request::Append { key: key("/k"), value: big() },
        Request::CompareSet { key: key("/m"), expected: key(""), desired: big() },
        Request::MultiSet { pairs: vec![(key("/m"), key("")), (key("/n"), big())] },
        Request::QueuePush { key: key("/q"), value: big() },
        Request::Wait { keys: vec![big()] },
        Request::Barrier { key: big(), world_size: 2 },
    ] {
        assert_eq!(scene.ask(1, request), Err(Refused::StoreFull));
        assert_eq!((scene.state.len(), scene.state.waiting()), (1, 0));
        assert_eq!(scene.sent(1), b"");
    }
    assert_eq!(scene.get("/k"), string(&"v".repeat(1000)));
    scene.set("/k", "short");
    scene.ask(1, Request::Set { key: key("/l"), value: key(&"w".repeat(1500)) }).expect("room");
}

#[test]
fn a_value_cannot_be_appended_beyond_its_limit() {
    let limits = Limits { value: 10, ..limits() };
    let mut scene = Scene { state: State::new(&limits), sent: HashMap::new() };
    scene.set("/k", "12345678");
    let append = || Request::Append { key: key("/k"), value: key("ab") };
    assert_eq!(scene.ask(1, append()), Ok(()));
    assert_eq!(scene.ask(1, append()), Err(Refused::ValueTooLong(12)));
}

/// A value that is being sent and was overwritten still takes memory.
#[test]
fn what_is_still_being_sent_is_accounted_for() {
    let limits = Limits { memory: 25_000, ..limits() };
    let mut state = State::new(&limits);
    let mut woken = Vec::new();
    let mut reader = Output::new(usize::MAX);
    let mut other = Output::new(usize::MAX);
    let mut set = |state: &mut State| {
        let value = vec![1; 10_000].into_boxed_slice();
        state.step(ClientId(1), Request::Set { key: key("/k"), value }, &mut other, &mut woken)
    };
    set(&mut state).expect("room");
    let mut woken = Vec::new();
    let get = Request::Get { key: key("/k") };
    state.step(ClientId(2), get, &mut reader, &mut woken).expect("a value");
    set(&mut state).expect("room for two");
    let get = Request::Get { key: key("/k") };
    state.step(ClientId(2), get, &mut reader, &mut woken).expect("a value");
    assert_eq!(set(&mut state), Err(Refused::StoreFull));
    reader.drain();
    set(&mut state).expect("the old ones are sent");
    let counted = state.recount();
    assert_eq!((state.memory(), counted), (counted, 10_098));
}

#[test]
fn a_reply_that_grows_too_large_is_cut_short() {
    let mut state = State::new(&limits());
    let mut woken = Vec::new();
    let mut output = Output::new(50_000);
    let value = vec![1; 4000].into_boxed_slice();
    let set = Request::Set { key: key("/k"), value };
    state.step(ClientId(1), set, &mut output, &mut woken).expect("room");
    let get = Request::MultiGet { keys: vec![key("/k"); 100_000] };
    let refused = state.step(ClientId(1), get, &mut output, &mut woken);
    assert_eq!(refused, Err(Refused::ReadsTooLittle(50_000)));
    assert!(output.len() < 60_000);
}
