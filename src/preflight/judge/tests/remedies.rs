//! What is said to help, for the very machine, and where it is to be done.

use super::mismatch::field_report;
use super::*;
use crate::host::facts::nvidia::{Hang, Probe};
use crate::host::facts::{ConfFile, HostFacts, Interface};
use crate::preflight::decide::decide;
use crate::preflight::finding::{Finding, Remedy};
use crate::preflight::judge::judge;

const A6000: &str = "NVIDIA RTX A6000";
const LINE: &str = "./train.yaml:3";

/// The way out of a finding that says something.
#[track_caller]
fn remedy<'a>(found: &'a [Finding], code: &str, says: &str) -> &'a Remedy {
    let finding = found.iter().find(|finding| finding.code.0 == code);
    let finding = finding.unwrap_or_else(|| panic!("no {code} in {found:#?}"));
    let remedy = finding.remedies.iter().find(|remedy| remedy.what.contains(says));
    remedy.unwrap_or_else(|| panic!("nothing says `{says}` in {:#?}", finding.remedies))
}

/// Two GPUs, of which NVML answers for so many, in a machine with one interface.
fn two() -> HostFacts {
    let mut facts = gpu_host(2, A6000, NEW);
    let interface = |name: &str, is_loopback| Interface {
        name: name.to_owned(),
        state: "up".to_owned(),
        is_loopback,
        speed: None,
    };
    facts.network.interfaces = vec![interface("lo", true), interface("eth0", false)];
    facts
}

fn by_profile(facts: HostFacts, name: &str, value: &str) -> HostFacts {
    let mut facts = with_var(facts, name, value);
    facts.variables_from.insert(name.to_owned(), LINE.to_owned());
    facts
}

#[test]
fn a_variable_is_taken_away_where_it_was_set() {
    let table = [
        ("NCCL_SOCKET_IFNAME", "ib7", "NVL072", "name one of eth0"),
        ("NCCL_P2P_DISABLE", "1", "NVL071", "unless you are debugging"),
    ];
    for (name, value, code, says) in table {
        let found = judge(&with_var(two(), name, value), &job(2));
        let by_shell = remedy(&found, code, says);
        assert_eq!(by_shell.commands, [format!("unset {name}")]);
        assert!(by_shell.what.starts_with(&format!("remove {name}, ")), "{}", by_shell.what);

        let found = judge(&by_profile(two(), name, value), &job(2));
        let by_file = remedy(&found, code, says);
        assert_eq!(by_file.commands, [""; 0], "{name}");
        assert!(by_file.what.starts_with(&format!("take {name} out of {LINE}, ")), "{by_file:?}");
        let finding = found.iter().find(|finding| finding.code.0 == code).expect("is there");
        let evidence = &finding.evidence[..];
        let is_cited = |e: &crate::preflight::finding::Evidence| {
            e.source == LINE && e.value == format!("{name}={value}")
        };
        assert!(evidence.iter().any(is_cited), "{evidence:?}");
    }
}

#[test]
fn variables_of_several_places_are_taken_out_of_each() {
    let mut facts = by_profile(two(), "NCCL_P2P_DISABLE", "1");
    facts = with_var(facts, "CUDA_LAUNCH_BLOCKING", "1");
    let conf = [("NCCL_SHM_DISABLE".to_owned(), "1".to_owned())].into();
    facts.nccl_conf = vec![ConfFile { path: "/etc/nccl.conf".to_owned(), variables: conf }];
    let found = judge(&facts, &job(2));
    assert_eq!(commands(&found, "NVL071"), "unset CUDA_LAUNCH_BLOCKING");
    assert!(!remedy(&found, "NVL071", "take NCCL_P2P_DISABLE out of ./train.yaml:3").needs_root);
    assert!(remedy(&found, "NVL071", "take NCCL_SHM_DISABLE out of /etc/nccl.conf").needs_root);
}

#[test]
fn what_a_profile_sets_is_not_called_the_callers_own() {
    let name = "TORCH_NCCL_ASYNC_ERROR_HANDLING";
    let of = |facts: &HostFacts| {
        let judged = decide(facts, judge(facts, &job(2)), &job(2));
        let text = crate::preflight::text::whole(
            &judged,
            facts,
            crate::preflight::text::Manner::default(),
        );
        let choice = judged.variables.into_iter().find(|choice| choice.name == name);
        (choice.expect("is there"), text)
    };
    let (own, text) = of(&with_var(two(), name, "3"));
    assert_eq!((&*own.reason, &*own.evidence[0].source), ("yours is kept", name));
    assert!(text.contains("=3 (your own): yours is kept"), "{text}");
    let (profile, text) = of(&by_profile(two(), name, "3"));
    assert_eq!(profile.value.as_deref(), Some("3"));
    assert_eq!(profile.reason, "./train.yaml:3 sets it, which is kept");
    assert_eq!(profile.evidence[0].source, LINE);
    assert!(!text.contains("your own"), "{text}");
}

#[test]
fn libraries_that_would_fit_are_a_way_out_and_nothing_that_was_done() {
    let with = |file: &str| {
        let mut facts = field_report();
        nvidia(&mut facts).libraries.matching = vec![file.to_owned()];
        let found = judge(&facts, &job(3));
        assert_eq!(found[0].mitigation, None);
        found
    };
    let found = with("/opt/old/libnvidia-ml.so.580.82.09");
    let folder = remedy(&found, "NVL001", "put /opt/old, with libraries of 580.82.09, first on");
    assert_eq!(
        folder.commands,
        ["export LD_LIBRARY_PATH=/opt/old${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"]
    );
    assert!(!folder.needs_root);
    // Of what can be done in place of a reboot it comes before going without.
    let at = |says| found[0].remedies.iter().position(|r| r.what.starts_with(says)).expect(says);
    assert!(at("reboot") < at("without root") && at("without root") < at("until then"));

    let package =
        "/var/cache/apt/archives/libnvidia-compute-580_580.82.09-0ubuntu0.22.04.1_amd64.deb";
    let found = with(package);
    let unpack = &remedy(&found, "NVL001", "without root: unpack").commands;
    assert_eq!(
        unpack.join("\n"),
        format!(
            "dpkg-deb -x {package} $HOME/.cache/nvlaunch/driver/580.82.09\n\
             export LD_LIBRARY_PATH=$HOME/.cache/nvlaunch/driver/580.82.09/usr/lib/x86_64-linux-gnu\
             ${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
        )
    );
    // The folder that leads to the wrong library would lead to it again.
    let found = with("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.82.09");
    assert!(
        !format!("{:?}", found[0].remedies).contains("without root"),
        "{:?}",
        found[0].remedies
    );
}

#[test]
fn nothing_is_called_a_build_that_builds_nothing() {
    let mut facts = field_report();
    facts.packages.history.clear();
    nvidia(&mut facts).on_disk.clear();
    let build = |facts: &HostFacts| {
        let found = judge(facts, &job(3));
        assert_eq!(shape(&found), ["NVL001 error", "NVL010 note < NVL001"]);
        let first = remedy(&found, "NVL001", "first build the module").commands.join("\n");
        assert_eq!(first.trim_end_matches("\nreboot"), commands(&found, "NVL010"));
        first
    };
    assert_eq!(build(&facts), "");
    facts.packages.installed.push(package("nvidia-dkms-580", "580.95.05-0ubuntu0.24.04.2"));
    assert_eq!(
        build(&facts),
        "apt-get install linux-headers-6.8.0-85-generic\n\
         dkms autoinstall -k 6.8.0-85-generic\nreboot"
    );
}

#[test]
fn libcuda_is_reinstalled_by_a_name_that_exists() {
    let skew = |distribution: &str, manager: &str| {
        let mut facts = gpu_host(2, A6000, OLD);
        nvidia(&mut facts).libraries.cuda.as_mut().expect("is there").version =
            Some(NEW.to_owned());
        facts.system.distribution = Some(distribution.to_owned());
        facts.packages.manager = Some(manager.to_owned());
        facts
    };
    let said = |facts: &HostFacts| commands(&judge(facts, &job(2)), "NVL005");
    let ubuntu = skew("ubuntu", "apt");
    assert_eq!(said(&ubuntu), "apt-get install --reinstall libnvidia-compute-580");
    assert_eq!(said(&skew("debian", "apt")), "apt-get install --reinstall libcuda1");
    assert_eq!(said(&skew("sles", "zypper")), "");
    let mut listed = ubuntu;
    listed.packages.installed = vec![package("libnvidia-compute-580-server", "580.95.05-1")];
    assert_eq!(said(&listed), "apt-get install --reinstall libnvidia-compute-580-server");
}

/// A machine with something wrong.
type Change = fn(&mut HostFacts);

/// Each kind of container is started with GPUs in its own way.
#[test]
fn a_container_is_told_of_in_the_words_of_what_made_it() {
    let of = |kind: &str, code: &str, change: Change| {
        let mut facts = in_container(gpu_host(2, A6000, NEW));
        kind.clone_into(&mut facts.system.container.as_mut().expect("is there").kind);
        change(&mut facts);
        commands(&judge(&facts, &job(2)), code)
    };
    let no_gpus = |facts: &mut HostFacts| nvidia(facts).nodes.clear();
    let no_cuda = |facts: &mut HostFacts| nvidia(facts).libraries.cuda = None;
    let no_nvml = |facts: &mut HostFacts| nvidia(facts).libraries.nvml = None;
    let no_uvm =
        |facts: &mut HostFacts| nvidia(facts).nodes.retain(|n| n.path != "/dev/nvidia-uvm");
    let small = |facts: &mut HostFacts| facts.resources.shm_bytes = Some(64 << 20);
    let with = |of_pod| ["docker run --gpus", of_pod, "podman run --device", "apptainer exec --nv"];
    let of_shm = ["docker run --shm-size", "/dev/shm", "podman run --shm-size", ""];
    let table: [(&str, Change, [&str; 4]); 5] = [
        ("NVL033", no_gpus, with("nvidia.com/gpu: 1")),
        ("NVL032", no_cuda, with("compute,utility")),
        ("NVL036", no_nvml, with("compute,utility")),
        ("NVL026", no_uvm, with("nvidia.com/gpu: 1")),
        ("NVL073", small, of_shm),
    ];
    for (code, change, says) in table {
        for (kind, says) in ["docker", "kubernetes", "podman", "apptainer"].iter().zip(says) {
            let said = of(kind, code, change);
            assert!(said.contains(says), "{code} {kind}: {said}");
            assert_eq!(said.contains("docker"), *kind == "docker", "{code} {kind}: {said}");
        }
        // Of one that is not known nothing is guessed.
        let said = of("lxc", code, change);
        assert!(!said.contains("docker") && !said.contains("podman"), "{code}: {said}");
    }
}

#[test]
fn a_hang_is_told_with_the_deadline_that_was_set() {
    for (after_ms, seconds) in [(5000, "5 s"), (5004, "5 s"), (15_003, "15 s"), (300, "1 s")] {
        let mut facts = two();
        let stage = "nvmlInit".to_owned();
        nvidia(&mut facts).nvml = Probe::Hung(Hang { stage, after_ms, ..Hang::default() });
        let found = judge(&facts, &job(2));
        let end = format!("within {seconds}");
        assert!(found[0].summary.ends_with(&end), "{after_ms}: {}", found[0].summary);
    }
}
