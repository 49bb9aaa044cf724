//! Shared memory, limits and memory.

use std::path::Path;

use super::facts::Resources;
use super::sysfs;

/// What a rank gets. The size of `/dev/shm` is asked of the kernel, so only where the root is `/`.
pub fn read(root: &Path) -> Resources {
    let limits = sysfs::text(root, "/proc/self/limits").unwrap_or_default();
    let memory = sysfs::text(root, "/proc/meminfo").unwrap_or_default();
    let (memlock_soft, memlock_hard) = limit(&limits, "Max locked memory");
    Resources {
        shm_bytes: (root == Path::new("/")).then(shm_bytes).flatten(),
        memlock_soft,
        memlock_hard,
        memory_bytes: kilobytes(&memory, "MemTotal:"),
    }
}

fn shm_bytes() -> Option<u64> {
    let shm = nix::sys::statvfs::statvfs("/dev/shm").ok()?;
    Some(shm.blocks().saturating_mul(shm.fragment_size()))
}

/// Soft and hard of a line of `/proc/self/limits`; `unlimited` is none.
fn limit(text: &str, name: &str) -> (Option<u64>, Option<u64>) {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut words = line.split_whitespace().map(|word| word.parse().ok());
    (words.next().flatten(), words.next().flatten())
}

/// A line of `/proc/meminfo` in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max locked memory         65536                unlimited            bytes\n";
        assert_eq!(limit(limits, "Max locked memory"), (Some(65536), None));
        assert_eq!(limit("", "Max locked memory"), (None, None));
        assert_eq!(kilobytes("MemTotal:       24684092 kB\n", "MemTotal:"), Some(25_276_510_208));
        assert_eq!(kilobytes("MemTotal:  18446744073709551615 kB\n", "MemTotal:"), None);
    }
}
