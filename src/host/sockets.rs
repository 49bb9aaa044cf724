//! Whose process is at the other end of a connection on this machine.
//!
//! The kernel lists sockets with their inode (`/proc/net/tcp`, `/proc/net/tcp6`; `proc_pid_net(5)`),
//! and a process' descriptors as links to `socket:[inode]`. Both are snapshots.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The most lines of a list that are read: a busy head node has hundreds of thousands of sockets.
const MAX_LINES: usize = 200_000;

/// The inodes of the sockets that are bound to these local addresses.
pub fn inodes(root: &Path, locals: &[SocketAddr]) -> HashMap<SocketAddr, u64> {
    let mut found = HashMap::new();
    for list in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = std::fs::read_to_string(root.join(list)).unwrap_or_default();
        for line in text.lines().skip(1).take(MAX_LINES) {
            let Some((local, inode)) = parse_line(line) else { continue };
            if inode != 0 && locals.contains(&local) {
                found.insert(local, inode);
            }
        }
    }
    found
}

/// Whether this process has the socket with this inode open.
pub fn holds(root: &Path, pid: i32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(files) = std::fs::read_dir(root.join(format!("proc/{pid}/fd"))) else { return false };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*wanted))
}

/// The local address and the inode of one line.
fn parse_line(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let inode = fields.nth(7)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::new(parse_address(address)?, port), inode))
}

/// Each 32 bits are a number in the machine's own byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes()))),
        32 => {
            let mut bytes = [0; 16];
            for part in 0..4 {
                bytes[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8)?.to_ne_bytes());
            }
            let address = Ipv6Addr::from(bytes);
            // A client of both families connects to an IPv4 address through a mapped one.
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has one kind less.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("listens");
            let local = client.local_addr().expect("connected");
            let inode = inodes(Path::new("/"), &[local])[&local];
            let me = i32::try_from(std::process::id()).expect("a pid");
            assert!(holds(Path::new("/"), me, inode));
            assert!(!holds(Path::new("/"), me, inode.wrapping_add(1 << 40)));
            assert!(!holds(Path::new("/"), 1 << 30, inode), "no such process");
        }
    }

    #[test]
    fn lines_of_both_lists() {
        let v4 = "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     \
                  0        0 12345 1 0000000000000000 100 0 0 10 0";
        let local = "127.0.0.1:3306".parse().expect("an address");
        if cfg!(target_endian = "little") {
            assert_eq!(parse_line(v4), Some((local, 12345)));
        }
        for bad in ["", "a b c", "0: 0100007F 0 0 0 0 0 0 0 1", "0: 01:zz 0 0 0 0 0 0 0 1"] {
            assert_eq!(parse_line(bad), None, "{bad}");
        }
    }
}
