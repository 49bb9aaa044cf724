//! What the store's thread does at each turn, and what others do to it between two turns.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::connection::{Connection, Got};
use super::listeners::Listeners;
use super::{Client, WAKE};
use crate::store::Observer;
use crate::store::limits::{Limits, Refusals, Refused};
use crate::store::state::{ClientId, State};
use crate::store::wire::reply::READY;

/// Bytes read from one client at one turn.
pub(super) const BUFFER: usize = 256 * 1024;
/// Requests of one client at one turn.
const REQUESTS: usize = 256;
/// Clients accepted at one turn.
const ACCEPTS: usize = 64;
/// Clients written to at one turn.
const FLUSHES: usize = 64;
/// Clients in a named port's queue that are closed before an attempt; more than any queue holds.
const QUEUED: usize = 1 << 17;

/// The store of one attempt and its clients.
#[derive(Debug)]
pub struct Attempt<O> {
    state: State,
    observer: O,
    peers: BTreeMap<ClientId, SocketAddr>,
    world_size: u32,
}

impl<O> Attempt<O> {
    /// The keys, and who waits.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was seen.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// The same, to be changed.
    pub fn observer_mut(&mut self) -> &mut O {
        &mut self.observer
    }

    /// How many ranks there are, as was said at the beginning.
    pub fn world_size(&self) -> u32 {
        self.world_size
    }

    /// Who is connected, in the order of arrival.
    pub fn clients(&self) -> impl Iterator<Item = Client<'_>> {
        self.peers.iter().map(|(&id, &peer)| Client { id, peer, pending: self.state.pending(id) })
    }
}

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    End,
    /// Wait for the kernel.
    Wait,
    /// Wait for a moment at most, then try to accept again.
    Pause,
    /// There is work that no event announces.
    Work,
}

#[derive(Debug)]
pub(super) struct Engine<O> {
    epoll: Arc<Epoll>,
    limits: Limits,
    listeners: Listeners,
    /// Tokens of the listeners, in their order.
    tokens: Vec<u64>,
    /// Whether an attempt had these listeners.
    used: bool,
    attempt: Option<Attempt<O>>,
    connections: HashMap<ClientId, Connection>,
    /// Tokens and client numbers; never used twice, so that a late event finds nobody.
    last: u64,
    refusals: Refusals,
    /// The sum of the connections' costs.
    transit: usize,
    to_flush: VecDeque<ClientId>,
    to_parse: VecDeque<ClientId>,
    paused: bool,
    stopped: bool,
}

impl<O: Observer> Engine<O> {
    pub(super) fn new(epoll: Arc<Epoll>, limits: Limits, listeners: Listeners) -> io::Result<Self> {
        let mut engine = Self {
            epoll,
            limits,
            listeners,
            tokens: Vec::new(),
            used: false,
            attempt: None,
            connections: HashMap::new(),
            last: WAKE,
            refusals: Refusals::default(),
            transit: 0,
            to_flush: VecDeque::new(),
            to_parse: VecDeque::new(),
            paused: false,
            stopped: false,
        };
        engine.tokens = engine.register()?;
        Ok(engine)
    }

    fn register(&mut self) -> io::Result<Vec<u64>> {
        let mut tokens = Vec::new();
        for socket in self.listeners.sockets() {
            self.last += 1;
            self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, self.last))?;
            tokens.push(self.last);
        }
        Ok(tokens)
    }

    /// Other listeners, before an attempt. The old ones are closed.
    pub(super) fn listen(&mut self, listeners: Listeners) -> io::Result<()> {
        for socket in self.listeners.sockets() {
            let _ = self.epoll.delete(socket);
        }
        self.tokens.clear();
        self.listeners = listeners;
        self.paused = false;
        self.tokens = self.register()?;
        Ok(())
    }

    /// Closes whoever waits to be accepted.
    pub(super) fn empty_queues(&self) {
        for socket in self.listeners.sockets() {
            for _ in 0..QUEUED {
                match socket.accept() {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Whether an attempt had the listeners of now.
    pub(super) fn used(&self) -> bool {
        self.used
    }

    /// Begins an attempt; gives its port.
    pub(super) fn begin(&mut self, world_size: u32, observer: O) -> u16 {
        self.used = true;
        self.attempt = Some(Attempt {
            state: State::new(&self.limits),
            observer,
            peers: BTreeMap::new(),
            world_size,
        });
        self.listeners.port()
    }

    /// Ends the attempt, if there is one.
    pub(super) fn end(&mut self) {
        self.attempt = None;
        for connection in self.connections.values() {
            connection.leave(&self.epoll);
        }
        self.connections = HashMap::new();
        self.to_flush.clear();
        self.to_parse.clear();
        self.transit = 0;
        self.resume_accepting();
    }

    pub(super) fn attempt(&self) -> Option<&Attempt<O>> {
        self.attempt.as_ref()
    }

    pub(super) fn attempt_mut(&mut self) -> Option<&mut Attempt<O>> {
        self.attempt.as_mut()
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    pub(super) fn next(&self) -> Next {
        if self.stopped {
            Next::End
        } else if !self.to_flush.is_empty() || !self.to_parse.is_empty() {
            Next::Work
        } else if self.paused {
            Next::Pause
        } else {
            Next::Wait
        }
    }

    /// An event of the kernel.
    pub(super) fn event(&mut self, token: u64, flags: EpollFlags, buffer: &mut [u8]) {
        if let Some(index) = self.tokens.iter().position(|&t| t == token) {
            self.accept(index);
            return;
        }
        let id = ClientId(token);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            let broken = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            // Otherwise there is something to parse first, and `work` does.
            if connection.rest.is_empty() && !connection.is_full() {
                match connection.read(buffer) {
                    Got::Bytes(count) => self.parse(id, &buffer[..count]),
                    Got::Nothing => {}
                    Got::End => return self.close(id, None),
                }
            } else if broken && connection.is_full() {
                return self.close(id, None);
            }
        }
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.flush(id);
        }
        self.flush_some();
    }

    /// Work that no event announces; false if there was none.
    pub(super) fn work(&mut self) -> bool {
        self.flush_some();
        if let Some(id) = self.to_parse.pop_front()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.to_parse = false;
            let rest = std::mem::take(&mut connection.rest);
            self.parse(id, &rest);
            self.flush_some();
        }
        !self.to_flush.is_empty() || !self.to_parse.is_empty()
    }

    /// Takes the requests in these bytes, as many as may be taken at one turn.
    fn parse(&mut self, id: ClientId, mut bytes: &[u8]) {
        let (Some(connection), Some(attempt)) =
            (self.connections.get_mut(&id), self.attempt.as_mut())
        else {
            return;
        };
        let mut woken = Vec::new();
        let mut others = Vec::new();
        let mut refused = None;
        for _ in 0..REQUESTS {
            if connection.is_full() {
                break;
            }
            let mut request = match connection.parser.next(&mut bytes) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(reason) => {
                    refused = Some(reason);
                    break;
                }
            };
            for prefix in attempt.observer.request(id, &mut request) {
                attempt.state.forget_keys(&prefix);
            }
            let stepped = attempt.state.step(id, request, &mut connection.output, &mut woken);
            for woken in woken.drain(..) {
                if woken == id {
                    connection.output.byte(READY);
                } else {
                    others.push(woken);
                }
            }
            if let Err(reason) = stepped.and_then(|()| connection.output.check()) {
                refused = Some(reason);
                break;
            }
        }
        connection.rest = bytes.to_vec();
        if !connection.rest.is_empty() && !connection.is_full() && !connection.to_parse {
            connection.to_parse = true;
            self.to_parse.push_back(id);
        }
        self.wake(&others);
        if let Some(reason) = refused {
            return self.close(id, Some(reason));
        }
        self.queue_flush(id);
    }

    fn wake(&mut self, woken: &[ClientId]) {
        for &id in woken {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.output.byte(READY);
                self.queue_flush(id);
            }
        }
    }

    fn queue_flush(&mut self, id: ClientId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.to_flush
        {
            connection.to_flush = true;
            self.to_flush.push_back(id);
        }
    }

    fn flush_some(&mut self) {
        for _ in 0..FLUSHES {
            let Some(id) = self.to_flush.pop_front() else { return };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.to_flush = false;
                self.flush(id);
            }
        }
    }

    /// Writes to a client, and sees to what it waits for next.
    fn flush(&mut self, id: ClientId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.write() || !connection.set_interest(&self.epoll, id) {
            return self.close(id, None);
        }
        if !connection.rest.is_empty() && !connection.is_full() && !connection.to_parse {
            connection.to_parse = true;
            self.to_parse.push_back(id);
        }
        let cost = connection.cost_now();
        self.transit = self.transit - connection.cost + cost;
        connection.cost = cost;
        while self.transit > self.limits.transit {
            let Some((&id, _)) = self.connections.iter().max_by_key(|(_, c)| c.cost) else {
                return;
            };
            self.close(id, Some(Refused::TransitFull));
        }
    }

    fn close(&mut self, id: ClientId, refused: Option<Refused>) {
        let Some(connection) = self.connections.remove(&id) else { return };
        connection.leave(&self.epoll);
        self.transit -= connection.cost;
        if let Some(reason) = refused {
            tracing::debug!(peer = %connection.peer(), %reason, "a store client is refused");
            self.refusals.add(connection.peer(), reason);
        }
        drop(connection);
        self.resume_accepting();
        let Some(attempt) = &mut self.attempt else { return };
        let mut woken = Vec::new();
        attempt.state.client_gone(id, &mut woken);
        attempt.peers.remove(&id);
        attempt.observer.gone(id);
        self.wake(&woken);
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            match self.listeners.sockets()[index].accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(e) => match e.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {}
                    Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                        return self.pause_accepting();
                    }
                    _ => return,
                },
            }
        }
    }

    fn admit(&mut self, stream: std::net::TcpStream, peer: SocketAddr) {
        if self.attempt.is_none() {
            return self.refusals.add(peer, Refused::NoAttempt);
        }
        if self.connections.len() >= self.limits.clients {
            // One that never said anything makes room for one that may.
            let silent = self.connections.iter().filter(|(_, c)| !c.parser.proven());
            let Some(id) = silent.map(|(&id, _)| id).min() else {
                return self.refusals.add(peer, Refused::TooManyClients);
            };
            self.close(id, Some(Refused::TooManyClients));
        }
        self.last += 1;
        let id = ClientId(self.last);
        // If it fails, the client sees its connection closed; a client of torch's tries again.
        let Ok(connection) = Connection::new(stream, peer, &self.limits, &self.epoll, id) else {
            return;
        };
        self.connections.insert(id, connection);
        if let Some(attempt) = &mut self.attempt {
            attempt.peers.insert(id, peer);
            attempt.observer.connected(id, peer);
        }
    }

    /// No descriptors are left: clients stay in the kernel's queue for a moment.
    pub(super) fn pause_accepting(&mut self) {
        self.refusals.accept_pauses += 1;
        self.paused = true;
        self.listen_for(EpollFlags::empty());
    }

    pub(super) fn resume_accepting(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.listen_for(EpollFlags::EPOLLIN);
        }
    }

    fn listen_for(&self, flags: EpollFlags) {
        for (socket, &token) in self.listeners.sockets().iter().zip(&self.tokens) {
            let _ = self.epoll.modify(socket, &mut EpollEvent::new(flags, token));
        }
    }
}

impl<O> Engine<O> {
    /// The thread is to end.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }
}

#[cfg(test)]
impl<O> Engine<O> {
    /// Bytes of half-received requests and unread replies.
    pub(super) fn transit(&self) -> usize {
        self.transit
    }
}
