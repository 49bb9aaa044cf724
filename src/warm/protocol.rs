//! What nvlaunch and its template say to each other: packets of fields that end in NUL. Pure.
//!
//! A value that goes to the program of a process (arguments, variables, paths) holds no NUL, so a
//! packet needs no escapes. A list is its length and its fields.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// Writes a packet, field by field.
#[derive(Debug, Default)]
pub struct Packet(Vec<u8>);

impl Packet {
    /// Adds a field.
    #[must_use]
    pub fn one(mut self, field: impl AsRef<OsStr>) -> Self {
        if !self.0.is_empty() {
            self.0.push(0);
        }
        self.0.extend(field.as_ref().as_bytes());
        self
    }

    /// Adds a list.
    #[must_use]
    pub fn many<T: AsRef<OsStr>>(self, fields: impl IntoIterator<Item = T>) -> Self {
        let fields: Vec<T> = fields.into_iter().collect();
        let packet = self.one(fields.len().to_string());
        fields.into_iter().fold(packet, Self::one)
    }

    /// The bytes of the packet.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the template, or a process that it forked, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The modules are imported, and nothing speaks against forking ranks.
    Ready {
        /// How long that took.
        took: Duration,
        /// Version of Python.
        python: String,
    },
    /// Ranks cannot be warm.
    Refused {
        /// Why, in one line.
        why: String,
    },
    /// The process of a rank was forked.
    Forked {
        /// Local rank.
        rank: u32,
        /// Its process id.
        pid: i32,
    },
    /// It is nvlaunch's child, has all that a rank has, and waits to be told to go.
    Here {
        /// Local rank.
        rank: u32,
    },
    /// It could not become a rank.
    Failed {
        /// Local rank.
        rank: u32,
        /// Why, in one line.
        why: String,
    },
    /// It leaves the template's program; what comes next is the script.
    Script {
        /// Local rank.
        rank: u32,
        /// Since it was forked.
        took: Duration,
    },
}

impl Message {
    /// Reads a packet; `None` where it is none of these.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(packet);
        let mut fields = text.splitn(3, '\0');
        let (kind, first, rest) = (fields.next()?, fields.next()?, fields.next());
        let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let rank = || first.parse().ok();
        Some(match kind {
            "ready" => Self::Ready {
                took: Duration::from_micros(first.parse().ok()?),
                python: line(rest?),
            },
            "refused" => Self::Refused { why: line(first) },
            "forked" => {
                Self::Forked { rank: rank()?, pid: rest?.parse().ok().filter(|pid| *pid > 1)? }
            }
            "here" => Self::Here { rank: rank()? },
            "failed" => Self::Failed { rank: rank()?, why: line(rest?) },
            "script" => {
                Self::Script { rank: rank()?, took: Duration::from_nanos(rest?.parse().ok()?) }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_holds_empty_fields_and_lists() {
        let packet = Packet::default().one("setup").many(["a", "", "b c"]).many([] as [&str; 0]);
        assert_eq!(packet.bytes(), b"setup\x003\0a\0\0b c\x000");
    }

    #[test]
    fn messages_are_read_and_anything_else_is_none() {
        let (rank, pid) = (3, 77);
        for (packet, message) in [
            (&b"forked\x003\x0077"[..], Some(Message::Forked { rank, pid })),
            (b"here\x003", Some(Message::Here { rank })),
            (b"failed\x003\0a\nb", Some(Message::Failed { rank, why: "a b".to_owned() })),
            (b"refused\0no", Some(Message::Refused { why: "no".to_owned() })),
            (
                b"script\x003\x001500",
                Some(Message::Script { rank, took: Duration::from_nanos(1500) }),
            ),
            (
                b"ready\x0020\x003.8.1",
                Some(Message::Ready { took: Duration::from_micros(20), python: "3.8.1".into() }),
            ),
            (b"forked\x003\x000", None),
            (b"forked\x003\x00-1", None),
            (b"forked\x003", None),
            (b"here", None),
            (b"here\x00-1", None),
            (b"", None),
            (b"\0\0\0", None),
        ] {
            assert_eq!(Message::read(packet), message, "{packet:?}");
        }
    }
}
