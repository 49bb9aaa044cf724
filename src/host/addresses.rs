//! Which of this machine's addresses a host name means.

use std::net::{IpAddr, ToSocketAddrs as _};

/// The addresses that `host` names and this machine has, each once, in the resolver's order; none
/// where the name is not known or is another machine's.
///
/// A number is not looked up; a name is, as the ranks will do.
pub fn of_this_machine(host: &str) -> Vec<IpAddr> {
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let named = number.map_or_else(|_| look_up(host), |address| vec![address]);
    let own = if named.iter().all(is_any_loopback) { Vec::new() } else { own_addresses() };
    let mut kept = Vec::new();
    for address in named {
        let is_own = is_any_loopback(&address) || own.contains(&address);
        if is_own && !kept.contains(&address) {
            kept.push(address);
        }
    }
    // The kernel may have no IPv6, while the resolver knows `::1`.
    if kept.len() > 1 {
        kept.retain(|address| std::net::TcpListener::bind((*address, 0)).is_ok());
    }
    kept
}

fn look_up(name: &str) -> Vec<IpAddr> {
    let found = (name, 0).to_socket_addrs().into_iter().flatten();
    found.map(|address| address.ip()).collect()
}

/// Linux takes every address of 127.0.0.0/8 for its own; Debian gives a host's name 127.0.1.1.
fn is_any_loopback(address: &IpAddr) -> bool {
    address.is_loopback()
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    interfaces.filter_map(|interface| ip(interface.address?)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_given() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(of_this_machine("127.0.0.1"), [loopback]);
        assert!(of_this_machine("localhost").contains(&loopback));
        // TEST-NET-1 (RFC 5737) is nobody's.
        for other in ["192.0.2.1", "2001:db8::1", "no-such-host.invalid"] {
            assert_eq!(of_this_machine(other), Vec::<IpAddr>::new(), "{other}");
        }
    }

    #[test]
    fn an_interfaces_address_is_this_machines() {
        for address in own_addresses().into_iter().filter(IpAddr::is_ipv4) {
            assert_eq!(of_this_machine(&address.to_string()), [address]);
        }
    }
}
