//! One client's socket, with what was read from it and not used, and what is to be written.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, sendmsg, setsockopt, sockopt};

use crate::store::limits::Limits;
use crate::store::state::ClientId;
use crate::store::wire::parser::Parser;
use crate::store::wire::reply::Output;

/// With more unread replies than this, in bytes, a client's requests wait.
const ENOUGH: usize = 1024 * 1024;
/// Bytes written to one client at one turn.
const TURN: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    pub(super) parser: Parser,
    pub(super) output: Output,
    /// Read, but not parsed yet; then nothing more is read.
    pub(super) rest: Vec<u8>,
    interest: EpollFlags,
    /// Whether it stands in the line to be written to.
    pub(super) to_flush: bool,
    /// Whether it stands in the line to be parsed further.
    pub(super) to_parse: bool,
    /// Its part in the bytes that are on their way, when last counted.
    pub(super) cost: usize,
}

/// What a read gave.
pub(super) enum Got {
    Bytes(usize),
    Nothing,
    /// The client closed, or the connection broke.
    End,
}

impl Connection {
    /// Takes a new client in.
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        limits: &Limits,
        epoll: &Epoll,
        id: ClientId,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Neither decides whether the client can be served.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let interest = EpollFlags::EPOLLIN;
        epoll.add(&stream, EpollEvent::new(interest, id.0))?;
        Ok(Self {
            stream,
            peer,
            parser: Parser::new(*limits),
            output: Output::new(limits.backlog),
            rest: Vec::new(),
            interest,
            to_flush: false,
            to_parse: false,
            cost: 0,
        })
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the client is to read before it is served further.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() > ENOUGH
    }

    /// What this client's unfinished business takes, in bytes.
    pub(super) fn cost_now(&self) -> usize {
        self.parser.held() + self.output.own_len() + self.rest.len()
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        match self.stream.read(buffer) {
            Ok(0) => Got::End,
            Ok(count) => Got::Bytes(count),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Got::Nothing
            }
            Err(_) => Got::End,
        }
    }

    /// Writes what the socket takes; false if the connection broke.
    pub(super) fn write(&mut self) -> bool {
        let mut written = 0;
        while !self.output.is_empty() && written < TURN {
            let (slices, count) = self.output.slices();
            let fd = self.stream.as_raw_fd();
            // Not `writev`: a signal for a broken pipe must not depend on how the program was started.
            match sendmsg::<()>(fd, &slices[..count], &[], MsgFlags::MSG_NOSIGNAL, None) {
                Ok(sent) => {
                    self.output.advance(sent);
                    written += sent;
                }
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Tells the kernel what this connection now waits for; false if that is impossible.
    pub(super) fn set_interest(&mut self, epoll: &Epoll, id: ClientId) -> bool {
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, self.rest.is_empty() && !self.is_full());
        wanted.set(EpollFlags::EPOLLOUT, !self.output.is_empty());
        if wanted == self.interest {
            return true;
        }
        self.interest = wanted;
        epoll.modify(&self.stream, &mut EpollEvent::new(wanted, id.0)).is_ok()
    }

    /// Must be called before the drop: a process that is being started may hold a copy of the
    /// descriptor for a moment, and would keep it in the set.
    pub(super) fn leave(&self, epoll: &Epoll) {
        let _ = epoll.delete(&self.stream);
    }
}
