//! Load for a server of `PyTorch`'s `TCPStore` protocol: one thread, any number of clients, each
//! with one request on its way at a time, as torch's own client has.
//!
//! - `store-load SERVER OP CLIENTS COUNT`: `set`, `get`, `add` or `wait` (for a key that is there), in
//!   all COUNT times. A `set` has no answer, so each is followed by a `get` in the same packet.
//! - `store-gather SERVER CLIENTS`: from the first connection until all have counted themselves and
//!   were released.
//! - `store-fill SERVER KEYS`: keys of 24 bytes with values of 16.
//!
//! Prints the nanoseconds that it took.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

const HELLO: [u8; 5] = [0, 0xCE, 0xF7, 0x85, 0x3C];
const SET: u8 = 1;
const GET: u8 = 3;
const ADD: u8 = 4;
const WAIT: u8 = 6;
const PING: u8 = 13;

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![SET];
    bytes(&mut out, key);
    bytes(&mut out, value);
    out
}

fn keyed(op: u8, key: &[u8]) -> Vec<u8> {
    let mut out = vec![op];
    if op == WAIT {
        out.extend(1u64.to_le_bytes());
    }
    bytes(&mut out, key);
    if op == ADD {
        out.extend(1i64.to_le_bytes());
    }
    out
}

/// A client that has said hello as torch 2.5 and later do.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.write_all(&HELLO)?;
    let mut ping = vec![PING];
    ping.extend(7u32.to_le_bytes());
    stream.write_all(&ping)?;
    let mut nonce = [0; 4];
    stream.read_exact(&mut nonce)?;
    Ok(stream)
}

fn value_of(stream: &mut TcpStream, key: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&keyed(GET, key))?;
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let mut value = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap_or(0)];
    stream.read_exact(&mut value)?;
    Ok(value)
}

fn elapsed(began: Instant) -> u128 {
    began.elapsed().as_nanos()
}

/// The mean load of an operation.
pub fn load(server: SocketAddr, op: &str, clients: usize, count: usize) -> io::Result<u128> {
    let key = |client: usize| format!("/bench/{client}").into_bytes();
    let (request, reply): (Box<dyn Fn(usize) -> Vec<u8>>, usize) = match op {
        "set" => (
            Box::new(move |c| [set(&key(c), &[7; 64]), keyed(GET, &key(c))].concat()),
            8 + 64,
        ),
        "get" => (Box::new(move |c| keyed(GET, &key(c))), 8 + 64),
        "add" => (Box::new(move |_| keyed(ADD, b"/bench/count")), 8),
        "wait" => (Box::new(move |c| keyed(WAIT, &key(c))), 1),
        _ => return Err(io::Error::other("set, get, add or wait")),
    };
    let mut all = Vec::with_capacity(clients);
    for client in 0..clients {
        let mut stream = connect(server)?;
        stream.write_all(&set(format!("/bench/{client}").as_bytes(), &[7; 64]))?;
        // Only an answer tells that it is there.
        value_of(&mut stream, format!("/bench/{client}").as_bytes())?;
        stream.set_nonblocking(true)?;
        all.push((stream, request(client), 0usize));
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, (stream, ..)) in all.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&poll, stream, data, epoll::EventFlags::IN)?;
    }
    let began = Instant::now();
    let mut sent = 0;
    for (stream, request, _) in all.iter_mut().take(count) {
        send(stream, request)?;
        sent += 1;
    }
    let (mut done, mut buffer) = (0, [0; 4096]);
    let mut events = Vec::with_capacity(256);
    while done < count {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let (stream, request, got) = &mut all[index];
            match stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a client")),
                Ok(n) => *got += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if *got >= reply {
                *got = 0;
                done += 1;
                if sent < count {
                    sent += 1;
                    send(stream, request)?;
                }
            }
        }
    }
    Ok(elapsed(began))
}

/// A small request always fits into the socket's buffer.
fn send(stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    stream.write_all(request)
}

/// All connect, count themselves, and are released by the last.
pub fn gather(server: SocketAddr, clients: usize) -> io::Result<u128> {
    let began = Instant::now();
    let mut all = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut stream = connect(server)?;
        stream.write_all(&keyed(ADD, b"/gather/count"))?;
        all.push(stream);
    }
    let mut last = None;
    for (index, stream) in all.iter_mut().enumerate() {
        let mut count = [0; 8];
        stream.read_exact(&mut count)?;
        if i64::from_le_bytes(count) == i64::try_from(clients).unwrap_or(0) {
            last = Some(index);
        }
        stream.write_all(&keyed(WAIT, b"/gather/done"))?;
    }
    let last = last.ok_or_else(|| io::Error::other("a count was lost"))?;
    let mut another = connect(server)?;
    another.write_all(&set(b"/gather/done", b"1"))?;
    for stream in &mut all {
        let mut released = [9];
        stream.read_exact(&mut released)?;
        if released != [0] {
            return Err(io::Error::other("a wait was not answered as it should be"));
        }
    }
    let took = elapsed(began);
    drop(all.swap_remove(last));
    Ok(took)
}

/// Fills the server.
pub fn fill(server: SocketAddr, keys: usize) -> io::Result<u128> {
    let mut stream = connect(server)?;
    let began = Instant::now();
    let mut block = Vec::new();
    for number in 0..keys {
        block.extend(set(format!("/key/{number:019}").as_bytes(), b"sixteen bytes ok"));
        if block.len() > 64 * 1024 || number + 1 == keys {
            stream.write_all(&block)?;
            block.clear();
        }
    }
    let last = value_of(&mut stream, format!("/key/{:019}", keys - 1).as_bytes())?;
    if last != b"sixteen bytes ok" {
        return Err(io::Error::other("the last key is not there"));
    }
    Ok(elapsed(began))
}
