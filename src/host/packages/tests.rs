use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::host::facts::Package;
use crate::host::fuzz;

fn root(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().expect("a folder can be made");
    for (path, text) in files {
        put(&root, path, text.as_bytes());
    }
    root
}

fn put(root: &TempDir, path: &str, bytes: &[u8]) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().expect("it is below the root")).expect("folders");
    fs::write(path, bytes).expect("a file can be written");
}

fn gz(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).expect("memory takes all");
    packer.finish().expect("memory takes all")
}

fn told(change: &PackageChange) -> String {
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
    let PackageChange { at, action, package, from, to, .. } = change;
    format!("{at} {action} {package} {} {}", version(from), version(to))
}

fn all(changes: &[PackageChange]) -> Vec<String> {
    changes.iter().map(told).collect()
}

const HISTORY: &str = "
Start-Date: 2025-10-01  09:00:00
Commandline: apt-get install nvidia-driver-580
Requested-By: alice (1000)
Install: nvidia-driver-580:amd64 (580.82.09-0ubuntu1), libnvidia-compute-580:amd64 (580.82.09-0ubuntu1, automatic), curl:amd64 (8.5.0-2)
End-Date: 2025-10-01  09:02:00

Start-Date: 2025-10-03  06:50:54
Commandline: /usr/bin/unattended-upgrade
Upgrade: libc6:amd64 (2.39-0ubuntu8.4, 2.39-0ubuntu8.5), libnvidia-compute-580:amd64 (580.82.09-0ubuntu1, 580.95.05-0ubuntu1)
Remove: nvidia-container-toolkit:amd64 (1.17.8-1)
Purge: libnvidia-gl-570:amd64 (570.1-1)
End-Date: 2025-10-03  06:52:10

Start-Date: 2025-10-04  06:00:00
Downgrade: nvidia-driver-580:amd64 (580.95.05-0ubuntu1, 580.82.09-0ubuntu1)
";

const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.39\n\n\
                  Package: nvidia-driver-580\nStatus: hold ok installed\nArchitecture: amd64\n\
                  Description: x\n Package: nvidia-fake\n .\nVersion: 580.82.09-0ubuntu1\n\n\
                  Package: nvidia-driver-570\nStatus: deinstall ok config-files\nVersion: 570\n\n\
                  Package: libnvidia-compute-580\nStatus: install ok half-configured\n\
                  Version: 580.95.05-0ubuntu1\n\n\
                  Package: nvidia-container-toolkit\nStatus: install ok installed\nVersion: 1\n";

const DNF_LOG: &str = "2025-10-03T06:50:50+0000 INFO --- logging initialized ---\n\
               2025-10-03T06:50:54+0000 SUBDEBUG Upgrade: nvidia-driver-3:580.95.05-1.el9.x86_64\n\
               2025-10-03T06:50:55+0000 SUBDEBUG Upgrade: bash-5.1-1.el9.x86_64\n\
               2025-10-03T06:50:56+0000 SUBDEBUG Installed: kmod-nvidia-open-dkms-3:580.95.05-1.el9.noarch\n\
               2025-10-03T06:50:57+0000 SUBDEBUG Upgraded: nvidia-driver-3:580.82.07-1.el9.x86_64\n\
               2025-10-03T06:50:58+0000 SUBDEBUG Erase: nvidia-settings-3:570.1-1.el9.x86_64\n";

const YUM_LOG: &str = "Oct 03 06:50:54 Updated: 3:nvidia-driver-latest-dkms-535.104.05-1.el7.x86_64\n\
               Oct 03 06:50:55 Installed: bash-4.2-1.x86_64\nOct 04 06:50:55 Erased: nvidia-settings\n";

const ZYPPER_LOG: &str = "# 2025-10-01 x\n\
        2025-10-01 06:00:00|command|root@gpu1|'zypper' 'in' 'nvidia-driver-G06'|\n\
        2025-10-01 06:00:01|install|nvidia-driver-G06-kmp-default|580.82.09-lp156.1|x86_64|root@gpu1|NVIDIA|ab|\n\
        2025-10-03 06:00:00|command|root@gpu1|'zypper' 'up'|\n\
        2025-10-03 06:00:01|install|nvidia-driver-G06-kmp-default|580.95.05-lp156.1|x86_64|root@gpu1|NVIDIA|cd|\n\
        2025-10-03 06:00:02|remove |nvidia-gl-G06|580.82.09-lp156.1|x86_64|root@gpu1|\n";

const PACMAN_LOG: &str = "[2025-10-03T06:50:50+0000] [PACMAN] Running 'pacman -Syu'\n\
        [2025-10-03T06:50:54+0000] [ALPM] upgraded nvidia-utils (580.82.09-1 -> 580.95.05-1)\n\
        [2025-10-03T06:50:55+0000] [ALPM] installed nvidia-open (580.95.05-1)\n\
        [2025-10-03T06:50:56+0000] [ALPM] removed nvidia (580.82.09-1)\n\
        [2025-10-03T06:50:57+0000] [ALPM] upgraded bash (1 -> 2)\n";

const DPKG_LOG: &str = "2025-10-03 06:51:00 startup archives unpack\n\
               2025-10-03 06:51:01 upgrade libnvidia-compute-580:amd64 580.82.09-0ubuntu1 580.95.05-0ubuntu1\n\
               2025-10-03 06:51:01 status half-configured libnvidia-compute-580:amd64 580.82.09-0ubuntu1\n\
               2025-10-03 06:51:02 install nvidia-dkms-580:amd64 <none> 580.95.05-0ubuntu1\n\
               2025-10-03 06:51:03 remove nvidia-dkms-570:amd64 570.1 <none>\n\
               2025-10-03 06:51:03 upgrade libc6:amd64 1 2\n";

const APT_CONF: &str = "// a comment { \"x\"; }\nAPT::Periodic::Update-Package-Lists \"1\";\n\
                APT::Periodic { Unattended-Upgrade \"1\"; };\n/* A \"b\"; */ # C \"d\";\n\
                Unattended-Upgrade::Package-Blacklist {\n  \"nvidia-\"; // why\n  \"libnvidia-\";\n};\n\
                Acquire::http::Proxy \"http://proxy//x\";\n";

#[test]
fn what_apt_did() {
    let changes = apt::stanzas(HISTORY, "log");
    assert_eq!(
        all(&changes),
        [
            "2025-10-01 09:00:00 install nvidia-driver-580 - 580.82.09-0ubuntu1",
            "2025-10-01 09:00:00 install libnvidia-compute-580 - 580.82.09-0ubuntu1",
            "2025-10-03 06:50:54 upgrade libnvidia-compute-580 580.82.09-0ubuntu1 580.95.05-0ubuntu1",
            "2025-10-03 06:50:54 remove libnvidia-gl-570 570.1-1 -",
            "2025-10-04 06:00:00 downgrade nvidia-driver-580 580.95.05-0ubuntu1 580.82.09-0ubuntu1",
        ]
    );
    assert_eq!(changes[0].by.as_deref(), Some("alice"));
    let proxy = "Start-Date: x\nCommandline: apt http://me:pw@proxy/ up\nInstall: libcuda1 (1)\n";
    let command = apt::stanzas(proxy, "log")[0].command.clone();
    assert_eq!(command.as_deref(), Some("apt http://me:***@proxy/ up"));
    assert_eq!(changes[2].command.as_deref(), Some("/usr/bin/unattended-upgrade"));
    assert_eq!((changes[2].by.as_deref(), changes[2].source.as_str()), (None, "log"));
}

#[test]
fn logs_are_read_from_the_newest_on() {
    let stanza = |day: u32, version: u32| {
        format!(
            "\nStart-Date: 2025-09-{day:02}  01:00:00\nCommandline: apt\n\
             Upgrade: libcuda1:amd64 ({version}, {})\nEnd-Date: x\n",
            version + 1
        )
    };
    let root = root(&[
        ("var/lib/dpkg/status", ""),
        ("var/log/apt/history.log", &stanza(3, 3)),
        ("var/log/apt/history.log.10.gz.bak", "x"),
        ("var/log/apt/term.log", &stanza(9, 9)),
    ]);
    put(&root, "var/log/apt/history.log.1.gz", &gz(&stanza(2, 2)));
    put(&root, "var/log/apt/history.log.2.gz", &gz(&stanza(1, 1)));
    // Cut off, and no archive at all.
    let whole = gz(&stanza(1, 0).repeat(100));
    put(&root, "var/log/apt/history.log.3.gz", &whole[..whole.len() - 8]);
    put(&root, "var/log/apt/history.log.4.gz", b"\x1f\x8bjunk");
    let mut notes = Vec::new();
    let packages = read(root.path(), &mut notes);
    let last: Vec<_> = all(&packages.history).split_off(100);
    assert_eq!(
        last,
        [
            "2025-09-01 01:00:00 upgrade libcuda1 1 2",
            "2025-09-02 01:00:00 upgrade libcuda1 2 3",
            "2025-09-03 01:00:00 upgrade libcuda1 3 4",
        ]
    );
    assert_eq!(packages.history[102].source, "/var/log/apt/history.log");
    let sources: Vec<_> = notes.iter().map(|note| note.source.as_str()).collect();
    assert_eq!(sources, ["/var/log/apt/history.log.3.gz", "/var/log/apt/history.log.4.gz"]);
}

#[test]
fn a_log_of_200_megabytes_is_read_from_its_end() {
    let root = root(&[("var/lib/dpkg/status", "")]);
    put(&root, "var/log/apt/history.log", b"");
    let path = root.path().join("var/log/apt/history.log");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("it is there");
    file.set_len(200 << 20).expect("a hole costs nothing");
    drop(file);
    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("it is there");
    file.write_all(HISTORY.as_bytes()).expect("it is ours");
    let start = Instant::now();
    let packages = read(root.path(), &mut Vec::new());
    assert_eq!(packages.history.len(), 5);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // A gzip bomb: 40 MB of nothing in 40 KB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..40 {
        bomb.write_all(&vec![b'\n'; 1 << 20]).expect("memory takes all");
    }
    put(&root, "var/log/apt/history.log.1.gz", &bomb.finish().expect("memory takes all"));
    let packages = read(root.path(), &mut Vec::new());
    assert_eq!(packages.history.len(), 5);
}

#[test]
fn installed_packages() {
    let package = |name: &str, version: &str, is_held| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        is_held,
    };
    assert_eq!(
        dpkg::blocks(STATUS.as_bytes()),
        [
            package("nvidia-driver-580", "580.82.09-0ubuntu1", true),
            package("libnvidia-compute-580", "580.95.05-0ubuntu1", false),
        ]
    );
    // Without end, and without ends of blocks.
    let endless = "Package: nvidia-x\nStatus: install ok installed\nVersion: 1\n".repeat(100_000);
    let start = Instant::now();
    assert!(dpkg::blocks(endless.as_bytes()).len() <= 2000);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn what_dpkg_did() {
    let expected = [
        "2025-10-03 06:51:01 upgrade libnvidia-compute-580 580.82.09-0ubuntu1 580.95.05-0ubuntu1",
        "2025-10-03 06:51:02 install nvidia-dkms-580 - 580.95.05-0ubuntu1",
        "2025-10-03 06:51:03 remove nvidia-dkms-570 570.1 -",
    ];
    assert_eq!(all(&dpkg::lines(DPKG_LOG, "log")), expected);
    // What apt's own log tells already is told once, with who asked.
    let apt = "Start-Date: 2025-10-03  06:51:00\nCommandline: apt upgrade\nUpgrade: libnvidia-compute-580:amd64 (580.82.09-0ubuntu1, 580.95.05-0ubuntu1)\n\n\
               Start-Date: 2025-10-04  06:51:00\nRemove: nvidia-settings:amd64 (1)\n";
    let both = root(&[
        ("var/lib/dpkg/status", ""),
        ("var/log/dpkg.log", DPKG_LOG),
        ("var/log/apt/history.log", apt),
    ]);
    let history = read(both.path(), &mut Vec::new()).history;
    let told: Vec<_> = history.iter().map(|c| (c.package.as_str(), c.command.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("libnvidia-compute-580", Some("apt upgrade")),
            ("nvidia-dkms-580", None),
            ("nvidia-dkms-570", None),
            ("nvidia-settings", None),
        ]
    );
    // It counts alone where apt's tells nothing.
    let root = root(&[("var/lib/dpkg/status", ""), ("var/log/dpkg.log", DPKG_LOG)]);
    assert_eq!(read(root.path(), &mut Vec::new()).history.len(), 3);
}

#[test]
fn what_the_others_did() {
    assert_eq!(
        all(&rpm::dnf_lines(DNF_LOG, "log")),
        [
            "2025-10-03 06:50:54 upgrade nvidia-driver 3:580.82.07-1.el9 3:580.95.05-1.el9",
            "2025-10-03 06:50:56 install kmod-nvidia-open-dkms - 3:580.95.05-1.el9",
            "2025-10-03 06:50:58 remove nvidia-settings 3:570.1-1.el9 -",
        ]
    );
    assert_eq!(
        all(&rpm::yum_lines(YUM_LOG, "log")),
        [
            "Oct 03 06:50:54 upgrade nvidia-driver-latest-dkms - 535.104.05-1.el7",
            "Oct 04 06:50:55 remove nvidia-settings - -",
        ]
    );
    let changes = rpm::zypper_lines(ZYPPER_LOG, "log");
    assert_eq!(
        all(&changes),
        [
            "2025-10-01 06:00:01 install nvidia-driver-G06-kmp-default - 580.82.09-lp156.1",
            "2025-10-03 06:00:01 upgrade nvidia-driver-G06-kmp-default 580.82.09-lp156.1 580.95.05-lp156.1",
            "2025-10-03 06:00:02 remove nvidia-gl-G06 580.82.09-lp156.1 -",
        ]
    );
    assert_eq!(changes[1].command.as_deref(), Some("zypper up"));
    let changes = rpm::pacman_lines(PACMAN_LOG, "log");
    assert_eq!(
        all(&changes),
        [
            "2025-10-03 06:50:54 upgrade nvidia-utils 580.82.09-1 580.95.05-1",
            "2025-10-03 06:50:55 install nvidia-open - 580.95.05-1",
            "2025-10-03 06:50:56 remove nvidia 580.82.09-1 -",
        ]
    );
    assert_eq!(changes[0].command.as_deref(), Some("pacman -Syu"));
    let root = root(&[
        ("etc/dnf/dnf.conf", "[main]\ngpgcheck=1\nexclude=nvidia* cuda-drivers\n"),
        ("etc/dnf/automatic.conf", "[commands]\napply_updates = yes\n"),
        ("etc/systemd/system/timers.target.wants/dnf-automatic.timer", ""),
        ("var/log/dnf.rpm.log", DNF_LOG),
        ("var/log/dnf.log", "2025-10-03T06:50:49+0000 DDEBUG Command: dnf upgrade -y \n"),
    ]);
    let packages = read(root.path(), &mut Vec::new());
    assert_eq!(packages.manager.as_deref(), Some("dnf"));
    assert_eq!(packages.history[0].command.as_deref(), Some("dnf upgrade -y"));
    let armed = Sourced::new(true, "/etc/dnf/automatic.conf");
    assert_eq!(packages.automatic_upgrades, Some(armed));
    assert_eq!(packages.upgrade_blacklist, ["nvidia*", "cuda-drivers"]);
}

#[test]
fn what_apt_does_by_itself() {
    let found = apt::settings(APT_CONF);
    let found: Vec<_> = found.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        found,
        [
            "APT::Periodic::Update-Package-Lists=1",
            "APT::Periodic::Unattended-Upgrade=1",
            "Unattended-Upgrade::Package-Blacklist=nvidia-",
            "Unattended-Upgrade::Package-Blacklist=libnvidia-",
            "Acquire::http::Proxy=http://proxy//x",
        ]
    );
    let conf = |name: &str| format!("etc/apt/apt.conf.d/{name}");
    let root = root(&[
        ("var/lib/dpkg/status", ""),
        ("usr/bin/nvidia-uninstall", ""),
        (&conf("20auto-upgrades"), "APT::Periodic::Unattended-Upgrade \"1\";"),
        (&conf("50unattended-upgrades"), "Unattended-Upgrade::Package-Blacklist { \"nvidia-\"; };"),
        (&conf("60~editor"), "APT::Periodic::Unattended-Upgrade \"0\";"),
    ]);
    let packages = read(root.path(), &mut Vec::new());
    let file = "/etc/apt/apt.conf.d/20auto-upgrades";
    assert_eq!(packages.automatic_upgrades, Some(Sourced::new(true, file)));
    assert_eq!(packages.upgrade_blacklist, ["nvidia-"]);
    assert_eq!(packages.run_installer, ["/usr/bin/nvidia-uninstall"]);
    put(&root, &conf("99local"), b"APT::Periodic::Unattended-Upgrade \"0\";");
    let off = read(root.path(), &mut Vec::new()).automatic_upgrades;
    assert_eq!(off, Some(Sourced::new(false, "/etc/apt/apt.conf.d/99local")));
    put(&root, &conf("99local"), b"APT::Periodic::Enable \"0\";");
    let off = read(root.path(), &mut Vec::new()).automatic_upgrades;
    assert_eq!(off, Some(Sourced::new(false, file)));
    put(&root, &conf("99local"), b"");
    let is_armed = || read(root.path(), &mut Vec::new()).automatic_upgrades.map(|a| a.value);
    assert_eq!(is_armed(), Some(true));
    let timer = root.path().join("etc/systemd/system/apt-daily-upgrade.timer");
    fs::create_dir_all(timer.parent().expect("it is below the root")).expect("folders");
    std::os::unix::fs::symlink("/dev/null", timer).expect("a link");
    assert_eq!(is_armed(), Some(false));
}

#[test]
fn which_packages_are_drivers() {
    for name in [
        "nvidia-driver-580-open",
        "libnvidia-compute-580",
        "libcuda1",
        "cuda-drivers-580",
        "linux-modules-nvidia-580-generic",
        "kmod-nvidia-latest-dkms",
        "nvidia-fabricmanager-580",
        "datacenter-gpu-manager-4-cuda13",
        "amdgpu-dkms",
        "enflame-driver",
    ] {
        assert!(is_driver(name), "{name}");
    }
    for name in [
        "nvidia-container-toolkit",
        "libnvidia-container1",
        "nvidia-cuda-toolkit",
        "nvidia-driver-local-repo-ubuntu2204-580.95.05",
        "linux-image-generic",
        "cuda-toolkit-13-0",
        "",
    ] {
        assert!(!is_driver(name), "{name}");
    }
}

fn parse_all(text: &str) {
    apt::stanzas(text, "x");
    apt::settings(text);
    dpkg::blocks(text.as_bytes());
    dpkg::lines(text, "x");
    rpm::dnf_lines(text, "x");
    rpm::yum_lines(text, "x");
    rpm::zypper_lines(text, "x");
    rpm::pacman_lines(text, "x");
}

/// Pieces of the formats, so that what is made of them gets past the first look.
const PIECES: [&str; 34] = [
    "Start-Date: 2025-10-03  06:50:54\n",
    "Commandline: ",
    "Install: ",
    "Upgrade: ",
    "Remove: ",
    "nvidia-driver-580",
    ":amd64",
    " (",
    ", ",
    ")",
    "), ",
    "automatic",
    "\n",
    "\n\n",
    "580.95.05-1",
    "Package: ",
    "Status: install ok installed\n",
    "Version: ",
    "2025-10-03 06:50:54 ",
    "2025-10-03T06:50:54+0000 SUBDEBUG ",
    "Upgraded: ",
    "Installed: ",
    "-3:580.95.05-1.el9.x86_64",
    "|",
    "|install|",
    "|command|",
    "[2025-10-03T06:50:54+0000] [ALPM] upgraded ",
    " -> ",
    "{",
    "}",
    "\"",
    ";",
    "/*",
    "é",
];

#[test]
fn logs_that_nobody_wrote() {
    fuzz::run_text("apt history", &[HISTORY], |text| {
        apt::stanzas(text, "x");
    });
    fuzz::run("dpkg status", &[STATUS], |bytes| {
        dpkg::blocks(bytes);
    });
    fuzz::run_text("dpkg.log", &[DPKG_LOG], |text| {
        dpkg::lines(text, "x");
    });
    fuzz::run_text("dnf.rpm.log", &[DNF_LOG], |text| {
        rpm::dnf_lines(text, "x");
    });
    fuzz::run_text("other logs", &[YUM_LOG, ZYPPER_LOG, PACMAN_LOG], |text| {
        rpm::yum_lines(text, "x");
        rpm::zypper_lines(text, "x");
        rpm::pacman_lines(text, "x");
    });
    fuzz::run_text("apt.conf", &[APT_CONF], |text| {
        apt::settings(text);
    });
}

proptest! {
    #[test]
    fn no_log_is_too_strange(text in "(?s)[ -~\n\u{e9}]{0,300}") {
        parse_all(&text);
    }

    #[test]
    fn no_mixture_of_formats_is_too_strange(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..60),
    ) {
        parse_all(&pieces.concat());
    }

    #[test]
    fn an_upgrade_that_apt_wrote_is_read_back(
        packages in proptest::collection::vec(("nvidia-[a-z0-9]{1,9}", "[0-9.]{1,9}", "[0-9.]{1,9}"), 1..9),
    ) {
        let list: Vec<_> =
            packages.iter().map(|(name, from, to)| format!("{name}:amd64 ({from}, {to})")).collect();
        let text = format!("\nStart-Date: 2025-01-01  00:00:00\nUpgrade: {}\nEnd-Date: x\n", list.join(", "));
        let read: Vec<_> = apt::stanzas(&text, "x")
            .into_iter()
            .map(|change| (change.package, change.from.expect("old"), change.to.expect("new")))
            .collect();
        let drivers: Vec<_> = packages.into_iter().filter(|(name, ..)| is_driver(name)).collect();
        prop_assert_eq!(read, drivers);
    }
}
