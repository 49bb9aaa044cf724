use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::*;
use crate::store::state::{ClientId, Pending};
use crate::store::wire::encode::encode;
use crate::store::wire::parser::Generation;
use crate::store::wire::{Key, Request};

const BOUND: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits::new(8 << 30, 20_000)
}

/// Counts what it is told.
#[derive(Debug, Default)]
struct Counts {
    connected: Vec<ClientId>,
    requests: usize,
    gone: Vec<ClientId>,
}

impl Observer for Counts {
    fn connected(&mut self, client: ClientId, peer: SocketAddr) {
        assert!(peer.ip().is_loopback());
        self.connected.push(client);
    }

    fn request(&mut self, _client: ClientId, _request: &mut Request) -> Vec<Key> {
        self.requests += 1;
        Vec::new()
    }

    fn gone(&mut self, client: ClientId) {
        self.gone.push(client);
    }
}

type Server = StoreServer<Counts>;

fn configured(port: Option<u16>, limits: Limits) -> Server {
    let config = StoreConfig { addresses: vec![Ipv4Addr::LOCALHOST.into()], port, limits };
    let mut server = Server::start(config).expect("a port");
    server.begin_attempt(2, Counts::default()).expect("the port of before");
    server
}

fn server() -> Server {
    configured(None, limits())
}

/// A client as torch's: one request at a time.
struct Peer(TcpStream);

fn key(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn set(name: &str, value: &[u8]) -> Request {
    Request::Set { key: key(name), value: value.into() }
}

fn get(name: &str) -> Request {
    Request::Get { key: key(name) }
}

fn wait(name: &str) -> Request {
    Request::Wait { keys: vec![key(name)] }
}

fn bytes(requests: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        assert!(encode(Generation::Current, request, &mut bytes));
    }
    bytes
}

impl Peer {
    fn raw(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the store listens");
        stream.set_read_timeout(Some(BOUND)).expect("a timeout");
        stream.set_write_timeout(Some(BOUND)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket option");
        Self(stream)
    }

    fn new(port: u16) -> Self {
        let mut peer = Self::raw(port);
        peer.send(&[Request::Validate]);
        peer
    }

    fn send(&mut self, requests: &[Request]) {
        self.0.write_all(&bytes(requests)).expect("the store reads");
    }

    fn read(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).expect("the store answers");
        bytes
    }

    fn number(&mut self) -> i64 {
        i64::from_le_bytes(self.read(8).try_into().expect("eight bytes"))
    }

    fn value(&mut self, name: &str) -> Vec<u8> {
        self.send(&[get(name)]);
        let len = self.number();
        self.read(usize::try_from(len).expect("a length"))
    }

    fn add(&mut self, name: &str, amount: i64) -> i64 {
        self.send(&[Request::Add { key: key(name), amount }]);
        self.number()
    }

    /// Whether the store closed the connection; what it sent before does not matter.
    fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// Looks again until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !so() {
        assert!(Instant::now() < end, "waited {BOUND:?} until {what}");
        thread::yield_now();
    }
}

fn clients(server: &Server) -> usize {
    server.look(|attempt| attempt.clients().count()).expect("an attempt")
}

fn waiting(server: &Server) -> usize {
    server.look(|attempt| attempt.state().waiting()).expect("an attempt")
}

fn refused(server: &Server, kind: &str) -> u64 {
    server.refusals().counts.get(kind).copied().unwrap_or(0)
}

#[test]
fn clients_share_a_store() {
    let server = server();
    let (mut a, mut b) = (Peer::new(server.port()), Peer::new(server.port()));
    assert_eq!(a.add("init/", 1), 1);
    assert_eq!(b.add("init/", 1), 2);
    a.send(&[wait("/k")]);
    until("one waits", || waiting(&server) == 1);
    let peer = a.0.local_addr().expect("an address");
    server.look(|attempt| {
        let client = attempt.clients().find(|client| client.peer == peer).expect("it is there");
        let Some(Pending::Keys(keys)) = client.pending else { panic!("{client:?}") };
        assert!(keys.iter().eq([&b"/k"[..]]));
        assert_eq!(attempt.world_size(), 2);
    });
    b.send(&[set("/k", b"value")]);
    assert_eq!(a.read(1), [0]);
    assert_eq!(a.value("/k"), b"value");
    // Two of VALIDATE, of ADD, one of each other.
    assert_eq!(server.look(|attempt| attempt.observer().requests), Some(7));
    drop(b);
    until("one has gone", || clients(&server) == 1);
    server.look(|attempt| {
        assert_eq!(attempt.observer().connected.len(), 2);
        assert_eq!(attempt.observer().gone, attempt.observer().connected[1..]);
    });
    assert_eq!(server.refusals(), Refusals::default());
}

#[test]
fn large_values_pass_in_both_directions() {
    let server = server();
    let mut a = Peer::new(server.port());
    let value: Vec<u8> = (0..8u32 << 20).map(|i| i.to_le_bytes()[1]).collect();
    // In the pieces of torch's client.
    for piece in bytes(&[set("/k", &value)]).chunks(1440) {
        a.0.write_all(piece).expect("the store reads");
    }
    assert!(a.value("/k") == value);
    let mut others: Vec<Peer> = (0..8).map(|_| Peer::new(server.port())).collect();
    for peer in &mut others {
        peer.send(&[get("/k")]);
    }
    for peer in &mut others {
        assert_eq!(peer.number(), 8 << 20);
        assert!(peer.read(8 << 20) == value);
    }
}

#[test]
fn four_thousand_clients_wait_and_are_all_woken() {
    // Both ends of each connection are this process's.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if hard < 2048 {
        let _ = writeln!(io::stderr(), "skipped: only {hard} descriptors may be open");
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let server = server();
    // 4,096, or as many as the descriptors suffice for: two each, and some for the other tests.
    let n = usize::try_from((hard - 1024) / 2).map_or(4096, |n| n.min(4096));
    let all = i64::try_from(n).expect("a few thousand");
    let mut peers: Vec<Peer> = (0..n).map(|_| Peer::new(server.port())).collect();
    for (i, peer) in (1..).zip(&mut peers) {
        assert_eq!(peer.add("init/", 1), i);
    }
    for peer in &mut peers {
        peer.send(&[wait("/go")]);
    }
    until("all wait", || waiting(&server) == n);
    let mut last = Peer::new(server.port());
    last.send(&[set("/go", b"")]);
    for peer in &mut peers {
        assert_eq!(peer.read(1), [0]);
    }
    for peer in &mut peers {
        peer.send(&[Request::Barrier { key: key("/b"), world_size: all + 1 }]);
    }
    until("all wait again", || waiting(&server) == n);
    last.send(&[Request::Barrier { key: key("/b"), world_size: all + 1 }]);
    for peer in peers.iter_mut().chain([&mut last]) {
        assert_eq!(peer.read(1), [0]);
    }
    // Each goes its own way.
    for (i, peer) in peers.into_iter().enumerate() {
        if i % 3 == 0 {
            reset(&peer);
        } else if i % 3 == 1 {
            peer.0.shutdown(Shutdown::Write).expect("a connection");
        }
    }
    until("one is left", || clients(&server) == 1);
    assert_eq!(last.add("init/", 0), all);
    assert_eq!(server.refusals().total(), 0);
}

/// Its end will be an RST.
fn reset(peer: &Peer) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&peer.0, nix::sys::socket::sockopt::Linger, &linger)
        .expect("a socket option");
}

#[test]
fn a_client_that_goes_while_it_waits_is_forgotten() {
    let server = server();
    let mut stays = Peer::new(server.port());
    for rst in [true, false] {
        let mut goes = Peer::new(server.port());
        goes.send(&[wait("/k")]);
        until("it waits", || waiting(&server) == 1);
        if rst {
            reset(&goes);
        }
        drop(goes);
        until("it is forgotten", || waiting(&server) == 0 && clients(&server) == 1);
    }
    stays.send(&[set("/k", b"v")]);
    assert_eq!(stays.value("/k"), b"v");
}

#[test]
fn nonsense_closes_one_connection_only() {
    let server = server();
    let mut good = Peer::new(server.port());
    assert_eq!(good.add("/n", 1), 1);
    for (sent, kind) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "not_a_client"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00", "not_a_client"),
        (b"\0\xce\xf7\x85\x3c\x63", "unknown_operation"),
        (b"\0\xce\xf7\x85\x3c\x03\xff\xff\xff\xff\xff\xff\xff\xff", "key_too_long"),
        (b"\0\xce\xf7\x85\x3c\x06\xff\xff\xff\xff\xff\xff\xff\xff", "too_many_keys"),
        (b"\0\xce\xf7\x85\x3c\x04\x01\0\0\0\0\0\0\0w\x01\0\0\0\0\0\0\0", "not_a_number"),
    ] {
        good.send(&[set("w", b"word")]);
        assert_eq!(good.value("w"), b"word");
        let before = refused(&server, kind);
        let mut bad = Peer::raw(server.port());
        bad.0.write_all(sent).expect("the store reads");
        assert!(bad.is_closed(), "{kind}");
        assert_eq!(refused(&server, kind), before + 1, "{kind}");
    }
    assert_eq!(good.add("/n", 1), 2);
    let examples = server.refusals().examples;
    assert_eq!(examples.len(), 6);
    assert_eq!(examples[0].reason, "not a store client: it began with `GET /`");
    // A scanner, and one that says nothing.
    for _ in 0..50 {
        drop(Peer::raw(server.port()));
    }
    let _silent = Peer::raw(server.port());
    until("the scanner is gone", || clients(&server) == 2);
    assert_eq!(good.add("/n", 1), 3);
    assert_eq!(server.refusals().total(), 6);
}

#[test]
fn half_a_message_waits_for_its_other_half() {
    let server = server();
    let mut slow = Peer::raw(server.port());
    let message = bytes(&[Request::Validate, set("/k", b"value"), wait("/k")]);
    for &byte in &message[..message.len() - 1] {
        slow.0.write_all(&[byte]).expect("the store reads");
    }
    let mut other = Peer::new(server.port());
    until("the value is there", || other.value("/k") == b"value");
    slow.0.write_all(&message[message.len() - 1..]).expect("the store reads");
    assert_eq!(slow.read(1), [0]);
    // One that never sends the other half takes nothing with it.
    let mut goes = Peer::new(server.port());
    goes.0.write_all(&bytes(&[set("/l", &[1; 100])])[..50]).expect("the store reads");
    drop(goes);
    until("it is gone", || clients(&server) == 2);
    assert_eq!(other.value("/l"), b"");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_others_are_served() {
    let server = server();
    let mut lazy = Peer::new(server.port());
    let mut other = Peer::new(server.port());
    lazy.send(&[set("/k", &vec![5; 300_000])]);
    // 600 MB of replies, which nobody reads.
    let ask = bytes(&vec![get("/k"); 2000]);
    lazy.0.write_all(&ask).expect("the kernel takes these few bytes");
    for i in 1..=100 {
        assert_eq!(other.add("/n", 1), i);
    }
    let transit = server.shared.lock().transit();
    assert!(transit < 4 << 20, "{transit} bytes are on their way");
    // And when it reads, it gets all of them.
    for _ in 0..2000 {
        assert_eq!(lazy.number(), 300_000);
        assert!(lazy.read(300_000).iter().all(|&byte| byte == 5));
    }
    assert_eq!(server.refusals().total(), 0);
}

#[test]
fn too_large_a_reply_closes_the_client() {
    let server = configured(None, Limits { backlog: 1 << 20, ..limits() });
    let mut peer = Peer::new(server.port());
    peer.send(&[set("/k", &vec![5; 300_000])]);
    peer.send(&[Request::MultiGet { keys: vec![key("/k"); 100] }]);
    assert!(peer.is_closed());
    assert_eq!(refused(&server, "reads_too_little"), 1);
    assert_eq!(Peer::new(server.port()).value("/k").len(), 300_000);
}

#[test]
fn much_on_its_way_closes_the_client_with_the_most() {
    let server = configured(None, Limits { transit: 4 << 20, ..limits() });
    let mut small = Peer::new(server.port());
    assert_eq!(small.add("/n", 1), 1);
    small.0.write_all(&bytes(&[set("/half", &[1; 1000])])[..500]).expect("the store reads");
    let mut large = Peer::new(server.port());
    // Fails when the store has closed it, at the latest.
    let _ = large.0.write_all(&bytes(&[set("/k", &vec![5; 8 << 20])])[..6 << 20]);
    assert!(large.is_closed());
    assert_eq!(refused(&server, "transit_full"), 1);
    small.0.write_all(&bytes(&[set("/half", &[1; 1000])])[500..]).expect("the store reads");
    assert_eq!(small.value("/half"), [1; 1000]);
    assert!(server.shared.lock().transit() < 1000);
}

#[test]
fn a_busy_client_does_not_starve_others() {
    let server = server();
    let busy = Peer::new(server.port());
    let mut flood = busy.0.try_clone().expect("a descriptor");
    let flooding = thread::spawn(move || {
        // Each byte is a request. Ends when the connection does.
        let requests = vec![7; 65_536];
        while flood.write_all(&requests).is_ok() {}
    });
    let mut drain = busy.0.try_clone().expect("a descriptor");
    let draining = thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while drain.read(&mut bytes).is_ok_and(|n| n > 0) {}
    });
    let mut other = Peer::new(server.port());
    let begin = Instant::now();
    for i in 1..=200 {
        assert_eq!(other.add("/n", 1), i);
        assert_eq!(clients(&server), 2);
    }
    assert!(begin.elapsed() < BOUND);
    busy.0.shutdown(Shutdown::Both).expect("a connection");
    flooding.join().expect("no panic");
    draining.join().expect("no panic");
    drop(busy);
    until("it is gone", || clients(&server) == 1);
}

#[test]
fn an_attempt_knows_nothing_of_the_one_before() {
    let mut server = server();
    let first = server.port();
    let mut old = Peer::new(first);
    old.send(&[set("/k", b"old")]);
    assert_eq!(old.value("/k"), b"old");
    let second = server.begin_attempt(3, Counts::default()).expect("a free port");
    assert_ne!(first, second);
    assert_eq!(server.port(), second);
    assert!(old.is_closed());
    let late = TcpStream::connect((Ipv4Addr::LOCALHOST, first));
    assert_eq!(late.expect_err("nobody is there").kind(), io::ErrorKind::ConnectionRefused);
    let mut new = Peer::new(second);
    assert_eq!(new.value("/k"), b"");
    server.look(|attempt| {
        assert_eq!((attempt.clients().count(), attempt.world_size()), (1, 3));
        assert_eq!(attempt.observer().connected.len(), 1);
    });
    server.end_attempt();
    assert!(new.is_closed());
    assert_eq!(server.look(|_| ()), None);
    assert!(Peer::raw(second).is_closed());
    until("it is counted", || refused(&server, "no_attempt") == 1);
}

#[test]
fn a_named_port_stays_and_its_queue_is_emptied() {
    let free = Listeners::bind(&[Ipv4Addr::LOCALHOST.into()], None).expect("a free port").port();
    let mut server = configured(Some(free), limits());
    assert_eq!(server.port(), free);
    let mut old = Peer::new(free);
    old.send(&[set("/k", b"old")]);
    assert_eq!(old.value("/k"), b"old");
    // Those that connect while the thread cannot accept wait in the queue.
    let mut queued: Vec<Peer> = {
        let engine = server.shared.lock();
        let queued = (0..20).map(|_| Peer::new(free)).collect();
        engine.empty_queues();
        queued
    };
    assert!(queued.iter_mut().all(Peer::is_closed));
    assert_eq!(clients(&server), 1);
    assert_eq!(server.begin_attempt(2, Counts::default()).expect("the same port"), free);
    assert!(old.is_closed());
    assert_eq!(Peer::new(free).value("/k"), b"");
    // The old connections linger in the kernel; the port can be had again all the same.
    drop(server);
    let server = configured(Some(free), limits());
    assert_eq!(server.port(), free);
}

#[test]
fn a_port_that_somebody_listens_at_is_refused() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = Some(taken.local_addr().expect("an address").port());
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv4Addr::UNSPECIFIED.into()] {
        let config = StoreConfig { addresses: vec![address], port, limits: limits() };
        let error = Server::start(config).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
    let config = StoreConfig { addresses: vec![], port, limits: limits() };
    assert_eq!(Server::start(config).expect_err("no address").kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn all_addresses_share_one_port() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        let _ = writeln!(io::stderr(), "skipped: this machine has no IPv6");
        return;
    }
    let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let config = StoreConfig { addresses, port: None, limits: limits() };
    let mut server = Server::start(config).expect("a port");
    for _ in 0..3 {
        let port = server.begin_attempt(1, Counts::default()).expect("a port");
        let mut four = Peer::new(port);
        four.send(&[set("/k", b"v")]);
        assert_eq!(four.value("/k"), b"v");
        let mut six = Peer(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("it listens"));
        six.send(&[Request::Validate]);
        assert_eq!(six.value("/k"), b"v");
    }
}

#[test]
fn when_there_are_too_many_the_silent_ones_go_first() {
    let server = configured(None, Limits { clients: 4, ..limits() });
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::new(server.port())).collect();
    for peer in &mut peers {
        peer.add("/n", 1);
    }
    let mut silent = Peer::raw(server.port());
    until("it is there", || clients(&server) == 4);
    let mut late = Peer::new(server.port());
    assert_eq!(late.add("/n", 1), 4);
    assert!(silent.is_closed());
    let mut one_more = Peer::raw(server.port());
    assert!(one_more.is_closed());
    assert_eq!(refused(&server, "too_many_clients"), 2);
    for peer in &mut peers {
        peer.add("/n", 1);
    }
    drop(late);
    until("there is room", || clients(&server) == 3);
    assert_eq!(Peer::new(server.port()).add("/n", 1), 8);
}

#[test]
fn old_clients_are_served() {
    let server = server();
    let mut old = Peer::raw(server.port());
    let mut message = Vec::new();
    let add = Request::Add { key: key("init/"), amount: 1 };
    for request in [set("/k", b"v"), add, get("/k")] {
        assert!(encode(Generation::Old, &request, &mut message));
    }
    old.0.write_all(&message).expect("the store reads");
    assert_eq!(old.number(), 1);
    assert_eq!(old.read(9), b"\x01\0\0\0\0\0\0\0v");
}

#[test]
fn the_end_of_the_server_closes_everything() {
    let server = server();
    let port = server.port();
    let mut peer = Peer::new(port);
    assert_eq!(peer.add("/n", 1), 1);
    let begin = Instant::now();
    drop(server);
    assert!(begin.elapsed() < END);
    assert!(peer.is_closed());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

/// A pause after `EMFILE` is not a spin, and whoever waited is served after it.
#[test]
fn a_pause_in_accepting_ends() {
    let server = server();
    server.shared.lock().pause_accepting();
    server.shared.wake.write(1).expect("the thread is woken");
    assert_eq!(Peer::new(server.port()).add("/n", 1), 1);
    assert_eq!(server.refusals().accept_pauses, 1);
}
