//! A TCP port that is free and stays free until rank 0 takes it.
//!
//! torch's store binds its port with `SO_REUSEADDR` (both of its servers do). On Linux two
//! sockets may share a port when both set that option and none of them listens, while the kernel
//! gives a port that any socket holds to nobody who asks for "any port". So nvlaunch binds a
//! socket, does not listen on it, and keeps it for the attempt: rank 0 can take the port, and no
//! other program gets it by chance in the seconds that `import torch` needs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, getsockname,
    setsockopt, socket, sockopt,
};

/// A port held for the ranks of one attempt.
#[derive(Debug)]
pub struct HeldPort {
    _socket: OwnedFd,
    port: u16,
}

impl HeldPort {
    /// Holds this port, or any free one for 0.
    ///
    /// # Errors
    /// `EADDRINUSE` where somebody listens on it.
    pub fn hold(port: u16) -> io::Result<Self> {
        match Self::hold_v6(port) {
            // No IPv6 on this machine.
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => Self::hold_v4(port),
            other => other,
        }
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All IPv6 and IPv4 addresses, as torch's store binds.
    fn hold_v6(port: u16) -> io::Result<Self> {
        let socket = open(AddressFamily::Inet6)?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        let any = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
        let port = bound::<SockaddrIn6>(&socket, &any)?.port();
        Ok(Self { _socket: socket, port })
    }

    fn hold_v4(port: u16) -> io::Result<Self> {
        let socket = open(AddressFamily::Inet)?;
        let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
        let port = bound::<SockaddrIn>(&socket, &any)?.port();
        Ok(Self { _socket: socket, port })
    }
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    Ok(socket)
}

fn bound<A: SockaddrLike>(socket: &OwnedFd, any: &A) -> io::Result<A> {
    bind(socket.as_raw_fd(), any)?;
    Ok(getsockname(socket.as_raw_fd())?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_held_port_can_be_listened_on_by_who_reuses_addresses() {
        let held = HeldPort::hold(0).unwrap();
        // The standard library sets SO_REUSEADDR, as torch's store does.
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, held.port())).expect("rank 0 can take it");
    }

    #[test]
    fn a_held_port_is_given_to_nobody_else() {
        let held: Vec<_> = (0..200).map(|_| HeldPort::hold(0).unwrap()).collect();
        let ports: HashSet<_> = held.iter().map(HeldPort::port).collect();
        assert_eq!(ports.len(), held.len());
        for _ in 0..200 {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            assert!(!ports.contains(&other.local_addr().unwrap().port()));
        }
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = HeldPort::hold(port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
