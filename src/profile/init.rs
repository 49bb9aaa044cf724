//! The text of `nvlaunch profile init`: a profile for one machine. Pure.
//!
//! - I1: the text is a profile in which nothing is wrong, and that can be used as it is on the
//!   machine it was made for.
//! - I2: what follows from the machine alone is set. What only its people know (which network leads
//!   to the other nodes, whether the profile shall be chosen by itself) stands there as a comment.

use std::fmt::Write as _;

use super::check::VERSION;
use super::effective::quoted;
use crate::host::facts::nvidia::{Nvml, Probe};
use crate::host::facts::{HostFacts, InfinibandPort, Interface};
use crate::host::vendors;
use crate::layout::{hang, plain};
use crate::preflight::Judgement;
use crate::preflight::finding::Severity;
use crate::report::text::counted;

/// What the names of interfaces begin with that lead to containers and virtual machines only.
const INNER: &[&str] = &[
    "docker",
    "veth",
    "br-",
    "virbr",
    "cni",
    "flannel",
    "cali",
    "cilium",
    "lxc",
    "lxd",
    "tap",
    "tun",
    "kube",
    "podman",
    "dummy",
    "vnet",
    "nodelocaldns",
];
/// The time for a driver that starts its devices anew: on eight large GPUs 15 s are not always
/// enough.
const PATIENT: &str = "30s";

/// What is known of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// What preflight sees of it.
    pub facts: &'a HostFacts,
    /// What follows from that.
    pub judgement: &'a Judgement,
    /// Whether a launch finds devices where it counts those of [`word`]; on Windows' subsystem it
    /// finds none.
    pub is_counted: bool,
}

/// A profile for the machine.
pub fn render(machine: Machine<'_>) -> String {
    let Machine { facts, judgement, .. } = machine;
    let mut text = String::new();
    let host = plain(&facts.hostname);
    let (devices, count) = devices(facts, judgement);
    let on = if host.is_empty() { String::new() } else { format!(" on {host}") };
    comment(
        &mut text,
        "",
        "A launch profile, written by `nvlaunch profile init` from what preflight sees. Every key and its default: `nvlaunch profile show default`.",
    );
    let _ = writeln!(text, "version: {VERSION}");
    let _ = writeln!(text, "description: {}", quoted(&format!("{devices}{on}")));
    matching(&mut text, &host);
    geometry(&mut text, &machine, &devices, count);
    backend(&mut text, judgement);
    variables(&mut text, facts);
    preflight(&mut text, facts, judgement);
    binding(&mut text, facts);
    text
}

fn comment(text: &mut String, indent: &str, what: &str) {
    let start = format!("{indent}# ");
    for line in hang(&start, &start, &plain(what)) {
        let _ = writeln!(text, "{line}");
    }
}

/// What the ranks will use, in words, and how many.
fn devices(facts: &HostFacts, judgement: &Judgement) -> (String, u32) {
    let Some(vendor) = vendors::find(&judgement.vendor) else {
        return ("CPU training".to_owned(), 0);
    };
    let here = facts.vendors.iter().find(|here| here.name == vendor.name);
    let count = here.map_or(0, |here| {
        let nodes = u32::try_from(here.nodes.len()).unwrap_or(u32::MAX);
        if nodes > 0 { nodes } else { here.pci }
    });
    let name = nvml(facts).and_then(|nvml| nvml.devices.first()?.name.as_deref());
    let title = name.filter(|_| vendor.name == "cuda").unwrap_or(vendor.title);
    (format!("{count} x {}", plain(title)), count)
}

fn nvml(facts: &HostFacts) -> Option<&Nvml> {
    match &facts.nvidia.as_ref()?.nvml {
        Probe::Answered(nvml) => Some(nvml),
        _ => None,
    }
}

fn matching(text: &mut String, host: &str) {
    text.push('\n');
    if host.is_empty() {
        return;
    }
    comment(
        text,
        "",
        "Without the hashes the profile is chosen by itself on this host; * and ? stand for any letters. It has to lie where `nvlaunch profile list` looks.",
    );
    let _ = writeln!(text, "# match:\n#   hostname: {}", quoted(host));
}

/// What `--nproc` is for one rank on each device of the vendor that was chosen; `None` on a machine
/// without devices.
pub fn word(judgement: &Judgement) -> Option<&str> {
    match judgement.vendor.as_str() {
        "cuda" | "rocm" => Some("gpu"),
        vendor => vendors::find(vendor).map(|vendor| vendor.name),
    }
}

fn geometry(text: &mut String, machine: &Machine<'_>, devices: &str, count: u32) {
    text.push_str("\ngeometry:\n");
    let word = match (word(machine.judgement), count) {
        (None, _) | (_, 0) => {
            let what = "There are no devices to count; cpu is one rank for each core.";
            comment(text, "  ", what);
            "1".to_owned()
        }
        (Some(word), _) if machine.is_counted => {
            comment(text, "  ", &format!("One rank for each device: {devices}; or a number."));
            word.to_owned()
        }
        (Some(_), count) => {
            comment(text, "  ", &format!("One rank for each device: {devices}."));
            count.to_string()
        }
    };
    let _ = writeln!(text, "  nproc: {word}");
}

fn backend(text: &mut String, judgement: &Judgement) {
    text.push('\n');
    let backend = &judgement.backend;
    let mut reason = backend.reason.chars();
    let first = reason.next().into_iter().flat_map(char::to_uppercase);
    let reason: String = first.chain(reason).collect();
    comment(text, "", &format!("{reason}; auto chooses again for each launch."));
    let _ = writeln!(text, "backend: {}", quoted(&backend.name));
}

/// Only comments: which network leads to the other nodes is not to be seen from here.
fn variables(text: &mut String, facts: &HostFacts) {
    let interfaces: Vec<&Interface> =
        facts.network.interfaces.iter().filter(|interface| may_lead_out(interface)).collect();
    let ports: Vec<&InfinibandPort> =
        facts.network.infiniband.iter().filter(|port| port.state == "ACTIVE").collect();
    let is_chosen = interfaces.len() > 1;
    if !is_chosen && ports.len() < 2 {
        return;
    }
    text.push('\n');
    let mut lines = String::from("# env:\n");
    if let Some(fastest) = interfaces.iter().max_by_key(|i| i.speed).filter(|_| is_chosen) {
        let shown: Vec<String> = interfaces.iter().map(|interface| shown(interface)).collect();
        comment(
            text,
            "",
            &format!(
                "Several networks could lead to other nodes: {}. Gloo and NCCL choose one by themselves; where that is the wrong one, name it.",
                shown.join(", ")
            ),
        );
        for name in ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"] {
            let _ = writeln!(lines, "#   {name}: {}", quoted(&fastest.name));
        }
    }
    if ports.len() > 1 {
        let what = format!(
            "InfiniBand devices that are up: {}. Where some of them are for storage, name those for \
             NCCL.",
            shown_ports(&ports)
        );
        comment(text, "", &what);
        let mut names: Vec<&str> = ports.iter().map(|port| &*port.device).collect();
        names.dedup();
        let list = quoted(&format!("={}", names.join(",")));
        lines.push_str("#   NCCL_IB_HCA:\n");
        let _ = writeln!(lines, "#     value: {list}\n#     why: the others are for storage");
    }
    text.push_str(&lines);
}

/// Devices of one kind and speed together.
fn shown_ports(ports: &[&InfinibandPort]) -> String {
    let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
    for port in ports {
        let kind = format!("{}, {}", port.link_layer, port.rate);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, names)) => names.push(&port.device),
            None => kinds.push((kind, vec![&port.device])),
        }
    }
    let shown = kinds.iter().map(|(kind, names)| format!("{} ({kind})", names.join(", ")));
    shown.collect::<Vec<_>>().join("; ")
}

fn may_lead_out(interface: &Interface) -> bool {
    !interface.is_loopback
        && interface.state != "down"
        && !INNER.iter().any(|start| interface.name.starts_with(start))
}

fn shown(interface: &Interface) -> String {
    match interface.speed {
        Some(speed) => format!("{} ({speed} Mb/s)", interface.name),
        None => interface.name.clone(),
    }
}

fn preflight(text: &mut String, facts: &HostFacts, judgement: &Judgement) {
    text.push_str("\npreflight:\n  mode: auto\n");
    let is_off = nvml(facts)
        .is_some_and(|nvml| nvml.devices.iter().any(|device| device.persistence == Some(false)));
    if is_off {
        comment(
            text,
            "  ",
            "Persistence mode is off: the first to ask waits for the devices to start.",
        );
        let _ = writeln!(text, "  deadline-without-persistence: {PATIENT}");
    }
    if judgement.findings.is_empty() {
        return;
    }
    let findings = counted(judgement.findings.len() as u64, "thing", "things");
    comment(
        text,
        "  ",
        &format!(
            "Preflight finds {findings} here; how bad each one is may be said otherwise: note, warning or error."
        ),
    );
    text.push_str("  # severity:\n");
    let mut seen = std::collections::BTreeSet::new();
    for finding in judgement.findings.iter().filter(|finding| seen.insert(&finding.code)) {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let what = format!("  #   {}: {severity}  # ", finding.code);
        for line in hang(&what, "  #     # ", &plain(&finding.summary)) {
            let _ = writeln!(text, "{line}");
        }
    }
}

fn binding(text: &mut String, facts: &HostFacts) {
    let nodes: std::collections::BTreeSet<u32> =
        facts.pci.iter().filter_map(|device| device.numa_node).collect();
    if nodes.len() < 2 {
        return;
    }
    text.push('\n');
    comment(
        text,
        "",
        &format!(
            "The devices belong to {} NUMA nodes: each rank can be kept on CPUs near its own.",
            nodes.len()
        ),
    );
    text.push_str("# binding:\n#   numa: node\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::{Intent, decide, judge};
    use crate::profile::source::{self, Source};

    fn of(facts: &HostFacts) -> String {
        let intent = Intent { nnodes: 1, ..Intent::default() };
        let judgement = decide::decide(facts, judge::judge(facts, &intent), &intent);
        render(Machine { facts, judgement: &judgement, is_counted: true })
    }

    fn read(text: &str) -> super::super::document::Document {
        let source = Source { name: "init.yaml".into(), text: text.to_owned() };
        source::parse(&source).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn a_machine_about_which_nothing_is_known_gets_a_profile() {
        let text = of(&HostFacts::default());
        let document = read(&text);
        let value = |key: &str| document.values.texts[key].value.clone();
        assert_eq!((value("geometry.nproc"), value("backend")), ("1".into(), "gloo".into()));
        assert!(!text.contains("env:") && !text.contains("match:"), "{text}");
    }

    /// Every comment that can be switched on is right as well.
    #[test]
    fn what_stands_there_as_a_comment_can_be_used() {
        let interface = |name: &str, state: &str, speed| Interface {
            name: name.to_owned(),
            state: state.to_owned(),
            speed,
            is_loopback: name == "lo",
        };
        let mut facts = HostFacts { hostname: "gpu: 17".to_owned(), ..HostFacts::default() };
        facts.network.interfaces = vec![
            interface("docker0", "up", None),
            interface("eno1", "up", Some(1_000)),
            interface("eno2", "down", None),
            interface("ens7", "up", Some(100_000)),
            interface("lo", "unknown", None),
        ];
        let port = |device: &str, state: &str| InfinibandPort {
            device: device.to_owned(),
            state: state.to_owned(),
            ..InfinibandPort::default()
        };
        facts.network.infiniband =
            vec![port("mlx5_0", "ACTIVE"), port("mlx5_1", "DOWN"), port("mlx5_2", "ACTIVE")];
        let text = of(&facts);
        read(&text);
        let is_key = |line: &&str| {
            let key = line.split_once(": ").map(|(key, _)| key).or(line.strip_suffix(':'));
            key.is_some_and(|key| !key.contains(' '))
        };
        let uncommented = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(inner) if is_key(&inner.trim_start()) => inner,
            _ => line,
        });
        let document = read(&uncommented.collect::<Vec<_>>().join("\n"));
        let value = |name: &str| document.values.env[name].value.value.clone().unwrap_or_default();
        assert_eq!(value("GLOO_SOCKET_IFNAME"), "ens7");
        assert_eq!(value("NCCL_IB_HCA"), "=mlx5_0,mlx5_2");
        assert_eq!(document.matching.expect("it is there").value.hostname, ["gpu: 17"]);
        assert!(text.contains("eno1 (1000 Mb/s)") && !text.contains("docker0"), "{text}");
    }
}
