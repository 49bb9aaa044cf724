//! Sockets that listen, all at one port.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// How often another free port is tried when it is taken at one of the addresses.
const TRIES: u32 = 64;

#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<TcpListener>,
    port: u16,
}

impl Listeners {
    /// Listens at all of the addresses.
    pub(super) fn bind(addresses: &[IpAddr], port: Option<u16>) -> io::Result<Self> {
        let addresses = distinct(addresses);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to listen at"));
        }
        if let Some(port) = port.filter(|&port| port != 0) {
            return Self::bind_at(&addresses, port);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::bind_at(&addresses, 0) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && tries < TRIES => {}
                other => return other,
            }
        }
    }

    fn bind_at(addresses: &[IpAddr], named: u16) -> io::Result<Self> {
        let mut port = named;
        let mut sockets = Vec::with_capacity(addresses.len());
        for &address in addresses {
            let socket = listen_at(SocketAddr::new(address, port), named != 0)?;
            port = socket.local_addr()?.port();
            sockets.push(socket);
        }
        Ok(Self { sockets, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn sockets(&self) -> &[TcpListener] {
        &self.sockets
    }
}

fn listen_at(address: SocketAddr, reuse: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    // For a named port whose old connections linger. A free port needs it not, and with it the
    // kernel would give out ports that others hold.
    if reuse {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    // As many as the kernel allows (somaxconn).
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}

/// Without repetitions, and without what an unspecified address covers.
fn distinct(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for &address in addresses {
        let covered = |other: &IpAddr| {
            *other == address || (other.is_unspecified() && other.is_ipv4() == address.is_ipv4())
        };
        if !addresses.iter().any(|other| *other != address && covered(other))
            && !all.contains(&address)
        {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_covered_are_left_out() {
        let ips = |list: &[&str]| -> Vec<IpAddr> {
            list.iter().map(|address| address.parse().expect("an address")).collect()
        };
        for (given, kept) in [
            (&["127.0.0.1", "::1", "127.0.0.1"][..], &["127.0.0.1", "::1"][..]),
            (&["127.0.0.1", "0.0.0.0", "::1"], &["0.0.0.0", "::1"]),
            (&["::", "::1", "10.0.0.1"], &["::", "10.0.0.1"]),
            (&["0.0.0.0", "0.0.0.0"], &["0.0.0.0"]),
            (&[], &[]),
        ] {
            assert_eq!(distinct(&ips(given)), ips(kept), "{given:?}");
        }
    }
}
