use super::*;
use crate::host::facts::nvidia::{Dkms, DkmsState, Probe};
use crate::host::facts::{HostFacts, Sourced};
use crate::preflight::Intent;
use crate::preflight::judge::judge;

const A6000: &str = "NVIDIA RTX A6000";

/// Three RTX A6000, the module of before an upgrade, the libraries of after it.
pub(super) fn field_report() -> HostFacts {
    let mut facts = with_libraries(gpu_host(3, A6000, OLD), NEW);
    nvidia(&mut facts).on_disk = vec![on_disk(NEW)];
    facts.packages.installed = vec![
        package("libnvidia-compute-580", "580.95.05-0ubuntu0.24.04.2"),
        package("nvidia-driver-580-open", "580.95.05-0ubuntu0.24.04.2"),
        package("nvidia-container-toolkit", "1.17.8-1"),
    ];
    facts.packages.history = vec![
        upgrade("libc6", "2.39-1", "2.39-2", "/usr/bin/unattended-upgrade"),
        upgrade(
            "libnvidia-compute-580",
            "580.82.09-0ubuntu0.24.04.1",
            "580.95.05-0ubuntu0.24.04.2",
            "/usr/bin/unattended-upgrade",
        ),
    ];
    facts
}

#[test]
fn one_cause_with_who_made_it() {
    let facts = field_report();
    assert_eq!(judged(&facts, &Intent::default()), ["NVL001 error", "NVL008 note < NVL001"]);
    let found = judge(&facts, &job(3));
    assert!(found[0].summary.contains(NEW) && found[0].summary.contains(OLD), "{found:?}");
    assert!(found[0].summary.contains("CUDA works"), "{}", found[0].summary);
    let commands = commands(&found, "NVL001");
    assert!(commands.contains("rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia\n"), "{commands}");
    assert!(commands.contains("apt-mark hold libnvidia-compute-580 nvidia-driver-580-open"));
    assert!(!commands.contains("container-toolkit") && !commands.contains("pkill"), "{commands}");
    assert!(found[1].summary.contains("unattended-upgrade"), "{}", found[1].summary);
    let tells = |text: &str| found[0].evidence.iter().any(|e| e.value.contains(text));
    assert!(tells("NCCL 2.27.3 cannot start without NVML"), "{:?}", found[0].evidence);
}

#[test]
fn how_bad_a_mismatch_is() {
    let mut cpu_torch = field_report();
    cpu_torch.python.torch = Some(torch("2.8.0+cpu", None));
    let old_nccl = |nccl: &str| {
        let mut facts = field_report();
        facts.python.packages.insert("nvidia-nccl-cu12".to_owned(), nccl.to_owned());
        facts
    };
    let table = vec![
        ("several ranks", field_report(), job(3), "error"),
        ("one rank", field_report(), job(1), "warning"),
        ("one rank on each of two nodes", field_report(), Intent { nnodes: 2, ..job(1) }, "error"),
        ("unknown", field_report(), Intent::default(), "error"),
        ("nccl", field_report(), job_with(3, "nccl"), "error"),
        ("nccl for cuda", field_report(), job_with(3, "cpu:gloo,cuda:nccl"), "error"),
        ("gloo", field_report(), job_with(3, "gloo"), "note"),
        ("hidden", with_var(field_report(), "CUDA_VISIBLE_DEVICES", ""), job(3), "note"),
        ("hidden by -1", with_var(field_report(), "CUDA_VISIBLE_DEVICES", "-1"), job(3), "note"),
        ("one visible", with_var(field_report(), "CUDA_VISIBLE_DEVICES", "0"), job(3), "error"),
        ("torch for the CPU", cpu_torch, job(3), "note"),
        ("NCCL before 2.12", old_nccl("2.10.3"), job(3), "warning"),
        ("NCCL 2.14", old_nccl("2.14.3"), job(3), "error"),
        (
            "NCCL 2.14 alone",
            with_var(old_nccl("2.14.3"), "NCCL_P2P_DISABLE", "1"),
            job(3),
            "warning",
        ),
        ("NCCL 2.27 alone", with_var(field_report(), "NCCL_P2P_DISABLE", "1"), job(3), "error"),
    ];
    for (name, facts, intent, severity) in table {
        let shape = judged(&facts, &intent);
        assert!(shape.contains(&format!("NVL001 {severity}")), "{name}: {shape:?}");
    }
}

#[test]
fn which_direction_and_what_cuda_makes_of_it() {
    let geforce = with_libraries(gpu_host(2, "NVIDIA GeForce RTX 4090", OLD), NEW);
    let branch = with_libraries(gpu_host(2, A6000, "545.23.08"), NEW);
    let off = with_var(
        with_libraries(gpu_host(2, A6000, OLD), NEW),
        "__CUDA_DISABLE_FORWARD_COMPATIBILITY",
        "1",
    );
    let older = with_libraries(gpu_host(2, A6000, NEW), OLD);
    // The list of 535 is not in its file.
    let mut no_note = with_libraries(gpu_host(2, "NVIDIA A100", "525.60.13"), "535.261.03");
    nvidia(&mut no_note).libraries.cuda.as_mut().expect("is there").compatible_branches.clear();
    let table: Vec<(&str, HostFacts, &[&str])> = vec![
        ("GeForce", geforce, &["NVL001 error", "NVL003 note < NVL001", "NVL010 note < NVL001"]),
        ("branch", branch, &["NVL001 error", "NVL004 note < NVL001", "NVL010 note < NVL001"]),
        ("off", off, &["NVL001 error", "NVL004 note < NVL001", "NVL010 note < NVL001"]),
        ("older", older, &["NVL002 error", "NVL010 note < NVL002"]),
        ("known branch", no_note, &["NVL001 error", "NVL010 note < NVL001"]),
    ];
    for (name, facts, shape) in table {
        let mut facts = facts;
        facts.python.torch = Some(torch("2.1.2+cu121", Some("12.1")));
        assert_eq!(judged(&facts, &job(2)), shape, "{name}");
    }
    // Where CUDA is gone one rank cannot work either.
    let geforce = with_libraries(gpu_host(1, "NVIDIA GeForce RTX 4090", OLD), NEW);
    assert_eq!(judged(&geforce, &job(1))[0], "NVL001 error");
}

#[test]
fn an_answer_outweighs_a_reading() {
    let mut works = field_report();
    nvml_answer(&mut works);
    // What the next boot loads is another matter.
    assert_eq!(judged(&works, &job(3)), ["NVL011 note"]);

    let mut refuses = gpu_host(2, A6000, OLD);
    let answer = nvml_answer(&mut refuses);
    answer.init = result(18);
    answer.nvml_version = Some(format!("13.{NEW}"));
    answer.devices.clear();
    let found = judge(&refuses, &job(2));
    assert_eq!(shape(&found)[0], "NVL001 error");
    assert!(found[0].summary.contains(NEW), "{}", found[0].summary);

    let mut unknown = gpu_host(2, A6000, OLD);
    nvml_answer(&mut unknown).init = result(18);
    let found = judge(&unknown, &job(2));
    assert_eq!(shape(&found)[0], "NVL001 error");
    assert!(found[0].summary.starts_with("NVML finds"), "{}", found[0].summary);
}

#[test]
fn compat_libraries_beside_a_fitting_nvml() {
    let compat = |model: &str, kernel: &str| {
        let mut facts = gpu_host(2, model, kernel);
        let cuda = nvidia(&mut facts).libraries.cuda.as_mut().expect("is there");
        NEW.clone_into(cuda.version.as_mut().expect("is there"));
        cuda.path = format!("/usr/local/cuda/compat/libcuda.so.{NEW}");
        cuda.found_by = "LD_LIBRARY_PATH".to_owned();
        facts
    };
    assert_eq!(judged(&in_container(compat("NVIDIA H100", "535.161.08")), &job(2)), [""; 0]);
    assert_eq!(judged(&compat("NVIDIA H100", "535.161.08"), &job(2)), [""; 0]);
    assert_eq!(judged(&compat("NVIDIA GeForce RTX 3090", "535.161.08"), &job(2)), ["NVL003 error"]);
    assert_eq!(judged(&compat("NVIDIA H100", "545.23.08"), &job(2)), ["NVL004 error"]);
    // A compat folder of earlier days, older than the driver.
    let stale = compat("NVIDIA H100", "590.44.01");
    let found = judge(&stale, &job(2));
    assert_eq!(shape(&found), ["NVL002 error"]);
    let remedies = format!("{:?}", found[0].remedies);
    assert!(remedies.contains("take /usr/local/cuda/compat out of LD_LIBRARY_PATH"), "{remedies}");
    assert!(!remedies.contains("reboot"), "{remedies}");

    let mut skew = gpu_host(2, A6000, OLD);
    nvidia(&mut skew).libraries.cuda.as_mut().expect("is there").version = Some(NEW.to_owned());
    assert_eq!(judged(&skew, &job(2)), ["NVL005 warning"]);
}

#[test]
fn whether_a_reboot_helps() {
    let dkms = |kernel: &str, state| Dkms {
        name: "nvidia".to_owned(),
        version: NEW.to_owned(),
        kernel: Some(kernel.to_owned()),
        state,
        log: vec!["error: implicit declaration of function".to_owned()],
        source: format!("/var/lib/dkms/nvidia/{NEW}"),
    };
    let mut failed = field_report();
    failed.packages.history.clear();
    nvidia(&mut failed).on_disk = vec![on_disk(OLD)];
    nvidia(&mut failed).dkms = vec![dkms("6.8.0-85-generic", DkmsState::Failed)];
    let found = judge(&failed, &job(3));
    assert_eq!(shape(&found), ["NVL001 error", "NVL010 note < NVL001"]);
    assert!(format!("{:?}", found[1].evidence).contains("implicit declaration"));
    let first = &found[0].remedies[0].commands;
    assert_eq!(
        first.join("\n"),
        "apt-get install linux-headers-6.8.0-85-generic\n\
         dkms remove nvidia/580.95.05 -k 6.8.0-85-generic\n\
         dkms install nvidia/580.95.05 -k 6.8.0-85-generic\nreboot"
    );
    assert!(!commands(&found, "NVL001").contains("rmmod"));

    let mut none = failed.clone();
    nvidia(&mut none).on_disk.clear();
    nvidia(&mut none).dkms.clear();
    assert_eq!(judged(&none, &job(3)), ["NVL001 error", "NVL010 note < NVL001"]);

    let mut other_kernel = none.clone();
    other_kernel.system.other_kernels = vec!["6.8.0-90-generic".to_owned()];
    nvidia(&mut other_kernel).dkms = vec![dkms("6.8.0-90-generic", DkmsState::Installed)];
    let found = judge(&other_kernel, &job(3));
    assert_eq!(shape(&found), ["NVL001 error"]);
    assert!(found[0].remedies[0].what.contains("6.8.0-90-generic"));

    let mut unreadable = none;
    nvidia(&mut unreadable).on_disk = vec![on_disk("?")];
    nvidia(&mut unreadable).on_disk[0].version = None;
    assert_eq!(judged(&unreadable, &job(3)), ["NVL001 error"]);
}

#[test]
fn upgrades_that_nobody_asked_for() {
    let mut armed = field_report();
    armed.packages.automatic_upgrades =
        Some(Sourced::new(true, "/etc/apt/apt.conf.d/20auto-upgrades"));
    let shape = ["NVL001 error", "NVL008 note < NVL001", "NVL009 note < NVL001"];
    assert_eq!(judged(&armed, &job(3)), shape);
    // Somebody asked.
    let mut by_hand = armed.clone();
    by_hand.packages.history[1].command = Some("apt upgrade".to_owned());
    assert_eq!(judged(&by_hand, &job(3)), shape[..2]);
    let mut excluded = armed.clone();
    excluded.packages.upgrade_blacklist = vec!["nvidia-".to_owned()];
    assert_eq!(judged(&excluded, &job(3)), shape[..2]);
    let mut held = armed.clone();
    for package in &mut held.packages.installed {
        package.is_held = true;
    }
    assert_eq!(judged(&held, &job(3)), shape[..2]);
    // A machine in good order says nothing of it.
    let mut healthy = gpu_host(3, A6000, NEW);
    healthy.packages = armed.packages;
    assert_eq!(judged(&healthy, &job(3)), [""; 0]);
    // Without a log the file's own date tells it.
    let mut by_date = field_report();
    by_date.packages.history.clear();
    by_date.system.boot_time = Some(1_000_000);
    nvidia(&mut by_date).libraries.nvml.as_mut().expect("is there").changed_at = Some(1_300_000);
    let found = judge(&by_date, &job(3));
    assert!(found[1].code.0 == "NVL008" && format!("{:?}", found[1].evidence).contains("3 days"));
}

#[test]
fn commands_fit_the_distribution() {
    for (manager, hold) in [
        ("dnf", "dnf versionlock add libnvidia-compute-580 nvidia-driver-580-open"),
        ("zypper", "zypper addlock libnvidia-compute-580 nvidia-driver-580-open"),
        ("pacman", "IgnorePkg = libnvidia-compute-580 nvidia-driver-580-open"),
    ] {
        let mut facts = field_report();
        facts.packages.manager = Some(manager.to_owned());
        let commands = commands(&judge(&facts, &job(3)), "NVL001");
        assert!(commands.contains(hold) && !commands.contains("apt"), "{commands}");
    }
    let mut busy = field_report();
    let driver = nvidia(&mut busy);
    driver.references = Some(9);
    driver.persistence_daemon = true;
    driver.modules.push("gdrdrv".to_owned());
    driver.holders.push("gdrdrv".to_owned());
    driver.holders.push("strange".to_owned());
    let found = judge(&busy, &job(3));
    let reload = &found[0].remedies[1];
    assert!(reload.what.contains("once its 5 users are gone"), "{}", reload.what);
    assert_eq!(
        reload.commands.join("\n"),
        "systemctl stop nvidia-persistenced\nfuser -v /dev/nvidia*\n\
         rmmod strange gdrdrv nvidia_uvm nvidia_drm nvidia_modeset nvidia\n\
         modprobe -a nvidia nvidia_modeset nvidia_drm nvidia_uvm\n\
         systemctl start nvidia-persistenced"
    );
}

#[test]
fn in_a_container_the_host_is_named() {
    let found = judge(&in_container(field_report()), &job(3));
    let commands = commands(&found, "NVL001");
    assert!(!commands.contains("rmmod") && !commands.contains("reboot"), "{commands}");
    assert!(format!("{:?}", found[0].remedies).contains("container again"));
}

#[test]
fn the_next_boot_is_told_only_where_it_changes_the_driver() {
    let mut pending = gpu_host(2, A6000, OLD);
    nvidia(&mut pending).on_disk = vec![on_disk(NEW)];
    assert_eq!(judged(&pending, &job(2)), ["NVL011 note"]);
    let mut asked = gpu_host(2, A6000, OLD);
    let packages = vec!["linux-image-6.8.0-90-generic".to_owned()];
    asked.system.reboot_required = Some(Sourced::new(packages, "/run/reboot-required.pkgs"));
    assert_eq!(judged(&asked, &job(2)), [""; 0]);
    let list = &mut asked.system.reboot_required.as_mut().expect("is there").value;
    list.push("nvidia-kernel-common-580".to_owned());
    assert_eq!(judged(&asked, &job(2)), ["NVL011 note"]);
}

#[test]
fn a_probe_that_was_skipped_changes_nothing() {
    let mut facts = field_report();
    nvidia(&mut facts).nvml = Probe::Skipped("the versions differ".to_owned());
    assert_eq!(judged(&facts, &job(3))[0], "NVL001 error");
}

#[test]
fn the_right_library_may_lie_beside_the_wrong_one() {
    let mut facts = with_libraries(gpu_host(2, A6000, NEW), OLD);
    let right = crate::host::facts::nvidia::Library {
        name: format!("libnvidia-ml.so.{NEW}"),
        ..library("libnvidia-ml.so.1", NEW)
    };
    nvidia(&mut facts).libraries.others = vec![right];
    let found = judge(&facts, &job(2));
    assert_eq!(shape(&found)[0], "NVL002 error");
    assert_eq!(found[0].remedies[0].commands, ["ldconfig"]);
}

#[test]
fn the_log_names_packages_where_their_list_cannot_be_read() {
    let mut facts = field_report();
    facts.packages.manager = Some("dnf".to_owned());
    facts.packages.installed.clear();
    let commands = commands(&judge(&facts, &job(3)), "NVL001");
    assert!(commands.contains("dnf versionlock add libnvidia-compute-580"), "{commands}");
}
