//! Whether this is a container, and what its runtime mounted into it.

use std::path::Path;

use super::facts::{Container, Note};
use super::{files, sysfs};
use crate::env_vars;
use crate::settings::env::Env;

const SYSTEMD: &str = "/run/systemd/container";
const CGROUP: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// Bytes of the kernel's table of mounts that are read; a busy node has thousands of lines.
const MAX_MOUNTS: u64 = 4 << 20;

/// What names of driver libraries start with.
const DRIVER_LIBRARIES: [&str; 6] =
    ["libnvidia-", "libcuda.so", "libcudadebugger.so", "libnvcuvid.so", "libefml.so", "libdcmi.so"];

/// What kind of container this is; `None` where nothing says that it is one.
pub fn read(root: &Path, env: &Env, notes: &mut Vec<Note>) -> Option<Container> {
    let (kind, source) = recognise(root, env)?;
    let mounts = files::text(root, MOUNTS, MAX_MOUNTS, notes).unwrap_or_default();
    Some(Container { kind, source, mounted_libraries: mounted_libraries(&mounts) })
}

/// The most telling sign first: a pod is made of containers, not the other way round.
fn recognise(root: &Path, env: &Env) -> Option<(String, String)> {
    let by = |kind: &str, source: &str| Some((kind.to_owned(), source.to_owned()));
    if env.get_nonempty(env_vars::KUBERNETES_SERVICE_HOST).is_some() {
        return by("kubernetes", "KUBERNETES_SERVICE_HOST");
    }
    for name in [env_vars::APPTAINER_CONTAINER, env_vars::SINGULARITY_CONTAINER] {
        if env.get_nonempty(name).is_some() {
            return by("apptainer", name);
        }
    }
    if files::exists(root, "/run/.containerenv") {
        return by("podman", "/run/.containerenv");
    }
    if files::exists(root, "/.dockerenv") {
        return by("docker", "/.dockerenv");
    }
    if let Some(kind) = sysfs::text(root, SYSTEMD) {
        return by(kind.lines().next().unwrap_or_default().trim(), SYSTEMD);
    }
    let groups = sysfs::text(root, CGROUP).unwrap_or_default();
    if let Some(kind) = kind_of_cgroup(&groups) {
        return by(kind, CGROUP);
    }
    // With a cgroup namespace of its own a container sees only `/`; its root is still a layer.
    let mounts = sysfs::bytes(root, MOUNTS, 64 << 10).unwrap_or_default();
    let is_layered = String::from_utf8_lossy(&mounts)
        .lines()
        .filter_map(Mount::parse)
        .any(|mount| mount.point == "/" && matches!(mount.kind, "overlay" | "aufs"));
    is_layered.then(|| ("container".to_owned(), MOUNTS.to_owned()))
}

/// What made the control group.
fn kind_of_cgroup(groups: &str) -> Option<&'static str> {
    [
        ("kubepods", "kubernetes"),
        ("libpod", "podman"),
        ("docker", "docker"),
        ("/lxc", "lxc"),
        ("containerd", "containerd"),
    ]
    .into_iter()
    // A group that belongs to the runtime's own service is no container.
    .find(|(mark, _)| groups.lines().any(|line| line.contains(mark) && !line.ends_with(".service")))
    .map(|(_, kind)| kind)
}

/// A line of `mountinfo`.
struct Mount<'a> {
    /// Where it is mounted, with the kernel's escapes undone.
    point: String,
    /// The kind of file system.
    kind: &'a str,
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw` (proc(5)).
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let point = unescape(before.split(' ').nth(4)?);
        Some(Self { point, kind: after.split(' ').next()? })
    }
}

/// The kernel writes a space, a tab, a line end and a backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| digits.iter().all(|d| matches!(d, b'0'..=b'7')));
        match digits {
            Some(digits) if byte == b'\\' => {
                let value =
                    digits.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                bytes.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount points that are a driver's library, one each.
fn mounted_libraries(mounts: &str) -> Vec<String> {
    let is_library = |point: &String| {
        let name = point.rsplit('/').next().unwrap_or_default();
        DRIVER_LIBRARIES.iter().any(|start| name.starts_with(start)) && name.contains(".so")
    };
    let mut points: Vec<String> = mounts
        .lines()
        .filter_map(Mount::parse)
        .map(|mount| mount.point)
        .filter(is_library)
        .take(1000)
        .collect();
    points.sort_unstable();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fuzz;

    #[test]
    fn libraries_that_a_runtime_mounted() {
        let mounts = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
700 650 0:9 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a:/b
701 700 259:1 /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15 /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15 ro,nosuid,nodev,relatime master:1 - ext4 /dev/nvme0n1p1 rw
702 700 259:1 /x /usr/lib/my\\040libs/libnvidia-ml.so.550.54.15 ro - ext4 /dev/nvme0n1p1 rw
703 700 259:1 /usr/bin/nvidia-smi /usr/bin/nvidia-smi ro - ext4 /dev/nvme0n1p1 rw
704 700 259:1 /usr/bin/nvidia-smi";
        assert_eq!(
            mounted_libraries(mounts),
            [
                "/usr/lib/my libs/libnvidia-ml.so.550.54.15",
                "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15",
            ]
        );
    }

    #[test]
    fn what_made_the_control_group() {
        for (text, kind) in [
            ("0::/\n", None),
            ("0::/user.slice/user-1000.slice/session-2.scope\n", None),
            ("0::/system.slice/docker.service\n", None),
            ("12:cpu:/docker/3f2a\n", Some("docker")),
            ("0::/system.slice/docker-3f2a.scope\n", Some("docker")),
            ("11:memory:/kubepods/burstable/pod1/abc\n", Some("kubernetes")),
            ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope", Some("kubernetes")),
            ("0::/machine.slice/libpod-abc.scope", Some("podman")),
            ("4:cpu:/lxc/box\n", Some("lxc")),
        ] {
            assert_eq!(kind_of_cgroup(text), kind, "{text}");
        }
    }

    #[test]
    fn tables_that_no_kernel_wrote() {
        let mounts = "701 700 259:1 /a /usr/lib/libcuda.so.1 ro,x master:1 - ext4 /dev/sda rw\n\
                      36 35 98:0 /mnt1 /mnt\\0402 rw - overlay overlay rw\n";
        fuzz::run_text("mountinfo", &[mounts], |text| {
            mounted_libraries(text);
        });
        let groups = "12:cpu:/docker/3f2a\n0::/kubepods.slice/a.scope\n0::/docker.service\n";
        fuzz::run_text("cgroup", &[groups], |text| {
            kind_of_cgroup(text);
        });
    }

    proptest! {
        #[test]
        fn no_table_of_mounts_is_too_strange(text in "(?s)[ -~\n\\\\/]{0,300}") {
            mounted_libraries(&text);
        }

        #[test]
        fn escapes_are_undone(text in "[a-z \\\\\t\n]{0,40}") {
            let escape = |byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}"),
                byte => char::from(byte).to_string(),
            };
            let escaped: String = text.bytes().map(escape).collect();
            prop_assert_eq!(unescape(&escaped), text);
        }
    }
}
