//! GPU errors (Xids) in the kernel's log.
//!
//! - G1: this machine's log is read from the kernel's own buffer, where it may be read; else, and
//!   below another root, from the first log file that may be. The journal is a binary file of
//!   systemd's and is not read.
//! - G2: only what was logged since the machine was started counts, as far as the lines tell it:
//!   by the kernel's first line, by a time in ISO form, by the kernel's own seconds.
//! - G3: the last [`MAX_LOG`] bytes are read; the newest [`MAX_EVENTS`] events are told.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::makedev;

use crate::host::facts::Note;
use crate::host::facts::nvidia::{Xid, Xids};
use crate::host::files;

const KMSG: &str = "/dev/kmsg";
/// Log files that hold the kernel's lines, the best first.
const LOGS: &[&str] =
    &["/var/log/kern.log", "/var/log/messages", "/var/log/syslog", "/var/log/dmesg"];
/// Bytes of a log that are read, from its end.
pub const MAX_LOG: u64 = 4 << 20;
/// Events that are told.
pub const MAX_EVENTS: usize = 200;
/// How long the kernel's buffer is read; one of the largest takes a tenth of this.
const MAX_TIME: Duration = Duration::from_millis(200);
/// Characters of a line that are kept.
const LINE_CHARS: usize = 400;

/// When the machine was started, as far as known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Boot {
    /// Seconds since the epoch.
    pub(super) at: Option<i64>,
    /// Seconds since then.
    pub(super) uptime: Option<f64>,
}

/// Reads the errors since the machine was started.
pub fn read(root: &Path) -> Xids {
    let mut refusals = Vec::new();
    if root == Path::new("/") {
        match kernel_buffer(Path::new(KMSG)) {
            Ok(text) => return Xids { unreadable: None, events: events(&text, KMSG) },
            Err(error) => refusals.push(refusal(KMSG, &error.to_string())),
        }
    }
    let boot = boot(root);
    for log in LOGS {
        match files::read_tail(root, log, MAX_LOG) {
            Ok(Some(text)) => {
                let mut events = events(since_boot(&text), log);
                events.retain(|event| !is_before(&event.line, boot));
                return Xids { unreadable: None, events };
            }
            Ok(None) => {}
            Err(Note { source, what }) => refusals.push(refusal(&source, &what)),
        }
    }
    if refusals.is_empty() {
        refusals.push("there is no log of the kernel".to_owned());
    }
    Xids { unreadable: Some(refusals.join("; ")), events: Vec::new() }
}

fn refusal(source: &str, what: &str) -> String {
    format!("{source}: {what}")
}

/// The lines in the kernel's buffer; it holds nothing from before the machine was started.
fn kernel_buffer(path: &Path) -> io::Result<String> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    // In containers the name often leads to something else.
    let metadata = path.metadata()?;
    if !metadata.file_type().is_char_device() || metadata.rdev() != makedev(1, 11) {
        return Err(io::Error::other("not the kernel's log"));
    }
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let until = Instant::now() + MAX_TIME;
    let mut text = String::new();
    let mut record = [0; 8192];
    while Instant::now() < until {
        let count = match file.read(&mut record) {
            Ok(0) => break,
            Ok(count) => count,
            // Records that were overwritten before they were read.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        // `level,number,microseconds,flags;line`, then lines of properties that start with a space.
        let record = String::from_utf8_lossy(&record[..count]);
        let line = record.lines().next().unwrap_or_default();
        let line = line.split_once(';').map_or(line, |(_, line)| line);
        if line.contains(MARK) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

const MARK: &str = "NVRM: Xid (";

/// The newest events in a log, oldest first.
pub(super) fn events(text: &str, source: &str) -> Vec<Xid> {
    let mut events = Vec::new();
    for line in text.lines().rev().filter(|line| line.contains(MARK)) {
        if let Some((address, code)) = parse_xid(line) {
            let line = line.chars().filter(|c| !c.is_control()).take(LINE_CHARS).collect();
            events.push(Xid { address, code, line, source: source.to_owned() });
        }
        if events.len() == MAX_EVENTS {
            break;
        }
    }
    events.reverse();
    events
}

/// Address and number in `NVRM: Xid (PCI:0000:3b:00): 79, pid=…`. A MIG instance has more words
/// in the brackets, an old driver no `PCI:`.
fn parse_xid(line: &str) -> Option<(String, u32)> {
    let (_, rest) = line.split_once(MARK)?;
    let (device, rest) = rest.split_once(')')?;
    let address = device.split_ascii_whitespace().next()?;
    let address = address.strip_prefix("PCI:").unwrap_or(address).trim_end_matches(':');
    let is_address = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    if address.is_empty() || address.len() > 32 || !address.chars().all(is_address) {
        return None;
    }
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (code, rest) = rest.split_at(end);
    let is_ended = rest.is_empty() || rest.starts_with([',', ' ']);
    if is_ended { Some((address.to_lowercase(), code.parse().ok()?)) } else { None }
}

/// What follows the kernel's first line; all of it where the log does not go back that far.
pub(super) fn since_boot(text: &str) -> &str {
    let is_first = |at: &usize| {
        let start = text[..*at].rfind('\n').map_or(0, |end| end + 1);
        let before = text[start..*at].trim_end();
        before.ends_with("kernel:") || before.ends_with(']')
    };
    let mut starts = text.rmatch_indices("Linux version ").map(|(at, _)| at);
    starts.find(is_first).map_or(text, |at| &text[at..])
}

/// Whether a line says that it was logged before the machine was started.
pub(super) fn is_before(line: &str, boot: Boot) -> bool {
    let time = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    if let (Some(time), Some(at)) = (time.map(jiff::Timestamp::as_second), boot.at) {
        return time < at;
    }
    // The seconds may be rounded; a minute is nothing between two starts.
    matches!((kernel_seconds(line), boot.uptime), (Some(at), Some(up)) if at > up + 60.0)
}

/// The seconds in `kernel: [12345.678901] NVRM: …`.
fn kernel_seconds(line: &str) -> Option<f64> {
    let (before, _) = line.split_once(MARK)?;
    let (_, seconds) = before.trim_end().strip_suffix(']')?.rsplit_once('[')?;
    seconds.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

fn boot(root: &Path) -> Boot {
    let text = |path| files::read_text(root, path, 1 << 20).ok().flatten().unwrap_or_default();
    let at = text("/proc/stat")
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let uptime =
        text("/proc/uptime").split_ascii_whitespace().next().and_then(|up| up.parse().ok());
    Boot { at, uptime }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::Root;

    #[test]
    fn xids_are_read_from_every_form() {
        for (line, expected) in [
            (
                "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off",
                Some(("0000:3b:00", 79)),
            ),
            (
                "[12.3] NVRM: Xid (PCI:0000:DC:00): 31, pid=1234, name=python",
                Some(("0000:dc:00", 31)),
            ),
            ("NVRM: Xid (0000:3b:00): 13, Graphics SM Warp Exception", Some(("0000:3b:00", 13))),
            ("NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 94, pid=7", Some(("0000:3b:00", 94))),
            ("NVRM: Xid (PCI:0000:3b:00): 119", Some(("0000:3b:00", 119))),
            ("NVRM: Xid (PCI:0000:3b:00): 119x, z", None),
            ("NVRM: Xid (PCI:0000:3b:00): , z", None),
            ("NVRM: Xid (PCI:0000:3b:00) 79, z", None),
            ("NVRM: Xid (): 79, z", None),
            ("NVRM: Xid (PCI:../../x): 79, z", None),
            ("NVRM: Xid (PCI:0000:3b:00): 99999999999, z", None),
            ("NVRM: Xid (PCI:0000:3b:00", None),
            ("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal", None),
            ("NVRM: GPU at PCI:0000:3b:00: GPU-1", None),
        ] {
            let expected = expected.map(|(address, code)| (address.to_owned(), code));
            assert_eq!(parse_xid(line), expected, "{line}");
        }
    }

    fn codes(root: &Root) -> Vec<u32> {
        let xids = read(root.path());
        assert_eq!(xids.unreadable, None);
        xids.events.iter().map(|event| event.code).collect()
    }

    const STAT: &str = "cpu 1 2 3\nintr 5\nbtime 1761120000\n";

    #[test]
    fn what_was_logged_before_the_start_does_not_count() {
        let xid =
            |before: &str, code: u32| format!("{before} NVRM: Xid (PCI:0000:3b:00): {code}, x\n");
        let first = |before: &str| format!("{before} Linux version 6.8.0-45-generic (buildd@x)\n");
        let classic = "Oct 22 08:01:02 gpu01 kernel: [    0.000000]";
        let old = "2025-10-21T08:01:02.123456+00:00 gpu01 kernel:";
        let new = "2025-10-22T09:01:02.123456+00:00 gpu01 kernel:";
        let uptime = "100.00 200.00\n";
        for (log, expected) in [
            (
                [
                    xid("Oct 22 08:00:00 gpu01 kernel: [99.5]", 31),
                    first(classic),
                    xid("kernel: [9.5]", 79),
                ]
                .concat(),
                &[79][..],
            ),
            ([first(old), xid(old, 31), xid(new, 79)].concat(), &[79]),
            (
                [xid("kernel: [54321.000000]", 31), xid("kernel: [   12.345678]", 79)].concat(),
                &[79],
            ),
            ([xid("Oct 22 08:01:02 gpu01 kernel:", 43), xid("", 79)].concat(), &[43, 79]),
            (
                [xid("x", 43), "user: Linux version 3\n".to_owned(), xid("x", 79)].concat(),
                &[43, 79],
            ),
            (String::new(), &[]),
        ] {
            let root = Root::new(&[("proc/stat", STAT), ("proc/uptime", uptime)]);
            root.file("var/log/kern.log", &log);
            assert_eq!(codes(&root), expected, "{log}");
        }
    }

    #[test]
    fn the_newest_events_are_told() {
        let line = |code: usize| {
            format!("kernel: NVRM: Xid (PCI:0000:3b:00): {code}, \u{7}{}\n", "x".repeat(999))
        };
        let log: String = (0..6000).map(line).collect();
        let root = Root::new(&[("var/log/messages", &log)]);
        let xids = read(root.path());
        assert_eq!(xids.events.len(), MAX_EVENTS);
        assert_eq!(xids.events.last().map(|event| event.code), Some(5999));
        assert_eq!(xids.events[0].code, 5800);
        assert_eq!(xids.events[0].source, "/var/log/messages");
        assert_eq!(xids.events[0].line.chars().count(), LINE_CHARS);
        assert!(!xids.events[0].line.contains('\u{7}'));
    }

    #[test]
    fn a_log_that_cannot_be_read_is_told() {
        let root = Root::new(&[]);
        let none = read(root.path());
        assert_eq!(none.unreadable.as_deref(), Some("there is no log of the kernel"));
        root.file("var/log/kern.log/folder", "");
        root.file("var/log/syslog/folder", "");
        let xids = read(root.path());
        let expected = "/var/log/kern.log: a folder; /var/log/syslog: a folder";
        assert_eq!(xids.unreadable.as_deref(), Some(expected));
        root.file("var/log/dmesg", "[1.5] NVRM: Xid (PCI:0000:3b:00): 79, x");
        assert_eq!(codes(&root), [79]);
    }

    #[test]
    fn this_machines_buffer_is_read_or_refused_at_once() {
        let start = Instant::now();
        let _ = kernel_buffer(Path::new(KMSG));
        assert!(start.elapsed() < Duration::from_secs(2));
        let refused = kernel_buffer(Path::new("/dev/null")).expect_err("not the log");
        assert_eq!(refused.to_string(), "not the kernel's log");
    }
}
