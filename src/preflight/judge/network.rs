//! Interfaces that variables name, shared memory, locked memory.

use super::context::Cx;
use super::draft::Draft;
use super::environment::{self, variables};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Finding, Severity};

/// Below this, data loader workers and NCCL run out: 1 GiB.
const SMALL_SHM: u64 = 1 << 30;
/// Below this, registering buffers with InfiniBand fails sooner or later: 1 GiB.
const LOW_MEMLOCK: u64 = 1 << 30;

/// The list of interfaces in `NCCL_SOCKET_IFNAME`.
#[derive(Debug, PartialEq, Eq)]
struct NcclList<'a> {
    excludes: bool,
    is_exact: bool,
    names: Vec<&'a str>,
}

impl<'a> NcclList<'a> {
    /// `^` excludes, `=` wants whole names, a port may follow a name.
    fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let (excludes, text) = match text.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (is_exact, text) = match text.strip_prefix('=') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let names = text.split(',').map(|name| name.split(':').next().unwrap_or_default());
        Self { excludes, is_exact, names: names.filter(|name| !name.is_empty()).collect() }
    }

    fn takes(&self, interface: &str) -> bool {
        let is_named = self.names.iter().any(|name| {
            if self.is_exact { interface == *name } else { interface.starts_with(name) }
        });
        is_named != self.excludes
    }
}

/// Everything here; `uses_nccl` and `uses_gloo` are the backends of the process group.
pub fn judge(
    cx: &Cx<'_>,
    uses_nccl: bool,
    uses_gloo: bool,
    has_vendor: bool,
    out: &mut Vec<Finding>,
) {
    interfaces(cx, uses_nccl, uses_gloo, out);
    if has_vendor {
        shared_memory(cx, out);
    }
    if uses_nccl {
        locked_memory(cx, out);
    }
}

fn interfaces(cx: &Cx<'_>, uses_nccl: bool, uses_gloo: bool, out: &mut Vec<Finding>) {
    let here: Vec<&str> = cx.facts.network.interfaces.iter().map(|i| i.name.as_str()).collect();
    if here.is_empty() {
        return;
    }
    let all = variables(cx);
    let several = !cx.is_single();
    let usual = |is_used: bool| match (is_used, several) {
        (true, true) => Severity::Error,
        (true, false) => Severity::Warning,
        (false, _) => Severity::Note,
    };
    let mut add = |name: &str, value: &str, source: &str, why: String, severity| {
        let draft = Draft::new(code::SOCKET_IFNAME_NO_MATCH, why).severity(severity);
        let draft = environment::cite(draft, name, value, source);
        let draft = draft.evidence("/sys/class/net", here.join(", "));
        let candidates: Vec<_> = here.iter().filter(|name| **name != "lo").copied().collect();
        let then = format!(", or name one of {}", candidates.join(", "));
        out.push(environment::take_away(draft, &[name], source, &then).done());
    };
    if let Some((value, source)) =
        all.get("NCCL_SOCKET_IFNAME").filter(|(value, _)| !value.trim().is_empty())
    {
        let list = NcclList::parse(value);
        if uses_nccl && !here.iter().any(|interface| list.takes(interface)) {
            let why = format!("no interface here fits NCCL_SOCKET_IFNAME=`{value}`");
            add("NCCL_SOCKET_IFNAME", value, source, why, usual(true));
        }
    }
    for (name, is_used) in [("GLOO_SOCKET_IFNAME", uses_gloo), ("TP_SOCKET_IFNAME", false)] {
        let Some((value, source)) = all.get(name).filter(|(value, _)| !value.trim().is_empty())
        else {
            continue;
        };
        let missing: Vec<_> = value
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty() && !here.contains(part))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let syntax = missing.iter().any(|part| part.starts_with(['^', '=']));
        let hint = if syntax { "; it takes whole names only, no ^ or =" } else { "" };
        let why =
            format!("no interface here is called {}, as {name} says{hint}", missing.join(", "));
        add(name, value, source, why, usual(is_used));
    }
}

fn shared_memory(cx: &Cx<'_>, out: &mut Vec<Finding>) {
    let resources = &cx.facts.resources;
    let Some(bytes) = resources.shm_bytes.filter(|bytes| *bytes < SMALL_SHM) else { return };
    // The kernel's own choice is half of the memory; only less than that was decided by somebody.
    if resources.memory_bytes.is_some_and(|memory| bytes >= memory / 2) {
        return;
    }
    let draft = Draft::new(code::SHM_TOO_SMALL, format!("/dev/shm has {} MiB in all", bytes >> 20))
        .evidence("/dev/shm", format!("{bytes} bytes"));
    let kind = cx.facts.system.container.as_ref().map(|container| container.kind.as_str());
    out.push(
        match kind {
            Some("kubernetes") => draft.remedy(
                "mount memory there, in the pod",
                &["volumes: [{name: shm, emptyDir: {medium: Memory}}], mountPath: /dev/shm"],
            ),
            Some("podman") => {
                draft.remedy("start the container with more", &["podman run --shm-size=16g …"])
            }
            Some("docker") => draft.remedy(
                "start the container with more",
                &["docker run --shm-size=16g …", "docker run --ipc=host …"],
            ),
            // How others are given more is not known here.
            Some(_) => draft.remedy("start the container with more", &[]),
            None => draft.root_remedy(
                "make it larger",
                vec!["mount -o remount,size=50% /dev/shm".to_owned()],
            ),
        }
        .done(),
    );
}

fn locked_memory(cx: &Cx<'_>, out: &mut Vec<Finding>) {
    let ports = &cx.facts.network.infiniband;
    let active: Vec<_> =
        ports.iter().filter(|port| port.state.eq_ignore_ascii_case("active")).collect();
    let Some(soft) = cx.facts.resources.memlock_soft.filter(|soft| *soft < LOW_MEMLOCK) else {
        return;
    };
    // Within one node NCCL does not use it.
    if active.is_empty() || cx.intent.nnodes < 2 {
        return;
    }
    let hard = cx.facts.resources.memlock_hard;
    let mut draft = Draft::new(
        code::MEMLOCK_LOW_WITH_IB,
        format!("{} KiB may be locked, and InfiniBand needs its buffers locked", soft >> 10),
    )
    .severity(cx.for_gpu(Severity::Warning))
    .evidence("RLIMIT_MEMLOCK", format!("{soft} bytes"));
    for port in active.iter().take(4) {
        draft = draft.evidence(
            format!("/sys/class/infiniband/{}/ports/{}", port.device, port.port),
            format!("{} {} {}", port.state, port.link_layer, port.rate),
        );
    }
    let draft = if hard.is_none_or(|hard| hard > soft) {
        draft.remedy("raise it in the shell that starts the job", &["ulimit -l $(ulimit -H -l)"])
    } else {
        draft
    };
    out.push(
        draft
            .root_remedy(
                "raise it for all",
                vec![
                    "echo '* - memlock unlimited' > /etc/security/limits.d/memlock.conf".to_owned(),
                ],
            )
            .done(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nccl_reads_its_list_of_interfaces() {
        let table = [
            ("eth0", "eth0", true),
            ("eth", "eth12", true),
            ("=eth", "eth0", false),
            ("=eth0,ib0", "ib0", true),
            ("^docker0,lo", "eth0", true),
            ("^eth", "eth0", false),
            ("^=eth", "eth0", true),
            ("eth0:1234", "eth0", true),
            ("ib", "eth0", false),
        ];
        for (list, interface, takes) in table {
            assert_eq!(NcclList::parse(list).takes(interface), takes, "{list} {interface}");
        }
    }
}
