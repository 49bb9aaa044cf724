//! Launch profiles over the whole program: which one is chosen, what holds where several files and
//! variables speak of one thing, and what `nvlaunch profile` says of it.

use std::fs;
use std::path::Path;

use crate::harness::{End, Job, nvlaunch};
use crate::hosts::Host;
use nvlaunch::profile::source;

const USAGE: i32 = 2;
const NO_INPUT: i32 = 66;
const CANNOT_CREATE: i32 = 73;
const CONFIG: i32 = 78;

/// A launch in a folder with files; `etc` below it is the machine's, `.config` the user's.
fn job(files: &[(&str, &str)]) -> Job {
    let job = Job::new();
    let dir = job.dir.path().to_owned();
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, format!("version: 1\n{text}\n")).expect("a file");
    }
    job.env("NVLAUNCH_SYSROOT", dir)
}

/// The same, which starts one rank that prints a variable; preflight would miss all of the machine.
fn rank(files: &[(&str, &str)], options: &[&str], variable: &str) -> Job {
    let print = format!("echo ${variable}");
    job(files).args(["--preflight", "off"]).args(options).args(["--no-python", "sh", "-c", &print])
}

#[track_caller]
fn stderr_has(end: &End, needles: &[&str]) {
    for needle in needles {
        assert!(end.stderr.contains(needle), "`{needle}` is not in\n{}", end.stderr);
    }
}

/// Each row adds a layer above those before it.
#[test]
fn every_layer_stands_above_the_one_below_it() {
    let profile = "extends: base\ngeometry: {role: profile}";
    let layers: [(&str, &str); 4] = [
        ("etc/nvlaunch/config.yaml", "geometry: {role: system}"),
        (".config/nvlaunch/config.yaml", "geometry: {role: user}"),
        ("etc/nvlaunch/launch-profiles/base.yaml", "geometry: {role: base}"),
        ("launch-profiles/p.yaml", profile),
    ];
    let role = |files: &[(&str, &str)], options: &[&str], env: &[(&str, &str)]| {
        let job = rank(files, options, "ROLE_NAME");
        let job = env.iter().fold(job, |job, (name, value)| job.env(name, value));
        job.run().expect_code(0).stdout.trim().to_owned()
    };
    let with = ["--profile", "p"];
    let only_extends = ("launch-profiles/p.yaml", "extends: base");
    assert_eq!(role(&[], &[], &[]), "default");
    assert_eq!(role(&layers[..1], &[], &[]), "system");
    assert_eq!(role(&layers[..2], &[], &[]), "user");
    let extends = [&layers[..3], &[only_extends]].concat();
    assert_eq!(role(&extends, &with, &[]), "base");
    assert_eq!(role(&layers, &with, &[]), "profile");
    let pet = ("PET_ROLE", "pet");
    assert_eq!(role(&layers, &with, &[pet]), "pet");
    let own = ("NVLAUNCH_ROLE", "own");
    assert_eq!(role(&layers, &with, &[pet, own]), "own");
    assert_eq!(role(&layers, &["--profile", "p", "--role", "typed"], &[pet, own]), "typed");
    // Without --profile, and in its place.
    assert_eq!(role(&layers, &[], &[]), "user");
    assert_eq!(role(&layers, &[], &[("NVLAUNCH_PROFILE", "p")]), "profile");
    assert_eq!(role(&layers, &["--profile", "base"], &[("NVLAUNCH_PROFILE", "p")]), "base");
    assert_eq!(role(&layers, &["--profile", "launch-profiles/p.yaml"], &[]), "profile");
}

#[test]
fn a_profile_is_chosen_by_its_host_and_says_so() {
    let files = [
        ("etc/hostname", ""),
        ("proc/sys/kernel/hostname", ""),
        ("launch-profiles/gpu.yaml", "match:\n  hostname: gpu-*\nenv: {WHO: gpu}"),
        ("launch-profiles/other.yaml", "match: {hostname: login-*}\nenv: {WHO: other}"),
        (
            "etc/nvlaunch/launch-profiles/slurm.yaml",
            "match: {slurm-partition: long}\nenv: {WHO: slurm}",
        ),
    ];
    let named = |options: &[&str]| {
        let job = rank(&files, options, "WHO");
        job.file("proc/sys/kernel/hostname", "gpu-17.site.org\n")
    };
    let end = named(&[]).run().expect_code(0);
    assert_eq!(end.stdout, "gpu\n");
    let note =
        "nvlaunch: note: profile gpu (launch-profiles/gpu.yaml:3): hostname is gpu-17.site.org\n";
    stderr_has(&end, &[note]);
    for (options, variable) in [(&["--profile", "none"][..], None), (&[], Some("none"))] {
        let job = variable
            .into_iter()
            .fold(named(options), |job, value| job.env("NVLAUNCH_PROFILE", value));
        let end = job.run().expect_code(0);
        assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("\n", ""));
    }
    // A choice of the user's own needs no note.
    let end = named(&["--profile", "other"]).run().expect_code(0);
    assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("other\n", ""));
    let end = named(&[]).env("SLURM_JOB_PARTITION", "long").run().expect_code(CONFIG);
    stderr_has(
        &end,
        &[
            "2 profiles match this host: launch-profiles/gpu.yaml:3 (hostname is gpu-17.site.org) and ",
            "etc/nvlaunch/launch-profiles/slurm.yaml:2 (Slurm partition is long)",
            "hint: choose one with --profile NAME, or none with --profile none",
        ],
    );
}

#[test]
fn a_profile_is_chosen_by_the_vendor_of_its_devices() {
    let host = Host::named("healthy-gcu-t20");
    let profile = "match: {vendor: gcu}\ngeometry: {role: gcu}";
    let print = "echo $ROLE_NAME";
    let job = job(&[
        ("launch-profiles/t20.yaml", profile),
        ("launch-profiles/h.yaml", "match: {vendor: cuda}"),
    ]);
    let job = job.env("NVLAUNCH_SYSROOT", host.root());
    let end =
        job.args(["--preflight", "off", "--no-python", "sh", "-c", print]).run().expect_code(0);
    assert_eq!(end.stdout, "gcu\n");
    stderr_has(&end, &["profile t20 (launch-profiles/t20.yaml:2): vendor is gcu"]);
}

#[test]
fn what_cannot_be_used_is_an_error_for_who_asked_and_a_note_for_who_looked() {
    let broken = [("launch-profiles/broken.yaml", "geometry: {nprc: 3}")];
    let end = rank(&broken, &[], "ROLE_NAME").run().expect_code(0);
    assert_eq!(end.stdout, "default\n");
    stderr_has(&end, &["note: launch-profiles/broken.yaml:2:", "; this profile was left out"]);
    let end = rank(&broken, &["--profile", "broken"], "ROLE_NAME").run().expect_code(CONFIG);
    stderr_has(&end, &["nprc", "broken.yaml"]);
    for (files, options, code, said) in [
        (
            &broken[..],
            &["--profile", "brokn"][..],
            NO_INPUT,
            &[
                "--profile: no profile is called `brokn`\n",
                "hint: did you mean `broken`? it was looked for in launch-profiles, ",
                "etc/nvlaunch/launch-profiles, and the program itself\n",
            ][..],
        ),
        (&[], &["--profile", "./a.yaml"], NO_INPUT, &["a.yaml"]),
        (&[], &["--profile", "default"], NO_INPUT, &["`default` is no profile to choose"]),
        (&[], &["--profile="], NO_INPUT, &["no profile is called ``"]),
        (&[], &["--profile"], USAGE, &["`--profile` needs a value"]),
        (
            &[
                ("launch-profiles/a.yaml", "extends: ./b.yaml"),
                ("launch-profiles/b.yaml", "extends: a"),
            ],
            &["--profile", "a"],
            CONFIG,
            &[
                "launch-profiles/b.yaml:2: profiles extend each other: launch-profiles/a.yaml -> launch-profiles/b.yaml -> launch-profiles/a.yaml",
            ],
        ),
        (
            &[("launch-profiles/a.yaml", "extends: gone")],
            &["--profile", "a"],
            NO_INPUT,
            &["launch-profiles/a.yaml:2: no profile is called `gone`"],
        ),
        (
            &[(".config/nvlaunch/config.yaml", "extends: a")],
            &[],
            CONFIG,
            &["`extends` has no meaning in a configuration file", "config.yaml:2:1", "extends: a"],
        ),
        (
            &[("etc/nvlaunch/config.yaml", "match: {hostname: a}")],
            &[],
            CONFIG,
            &["`match` has no meaning in a configuration file", "config.yaml:2:1"],
        ),
    ] {
        let end = rank(files, options, "ROLE_NAME").run().expect_code(code);
        stderr_has(&end, said);
        assert_eq!(end.stdout, "");
    }
}

#[test]
fn the_ranks_get_the_variables_of_a_profile_and_keep_the_users_own() {
    let files = [(
        "launch-profiles/p.yaml",
        "env:\n  A: {value: theirs, why: a reason}\n  B: '2'\n  C: {unset: true}",
    )];
    let end = rank(&files, &["--profile", "p"], "A-$B-$C").env("A", "mine").env("C", "kept").run();
    let end = end.expect_code(0);
    assert_eq!(end.stdout, "mine-2-kept\n");
    stderr_has(
        &end,
        &["nvlaunch: note: A: yours is kept; launch-profiles/p.yaml:3 says otherwise"],
    );
    let end = rank(&files, &["--profile", "p"], "A").run().expect_code(0);
    assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("theirs\n", ""));
}

/// What the ranks will see decides, not what nvlaunch sees.
#[test]
fn preflight_judges_the_variables_of_a_profile() {
    let host = Host::named("healthy-gcu-t20");
    let files = [("launch-profiles/p.yaml", "backend: nccl")];
    let job = |options: &[&str]| {
        job(&files).args(["preflight", "--json", "--sysroot"]).arg(host.root()).args(options).run()
    };
    let backend = |end: &End| {
        let document: serde_json::Value = serde_json::from_str(&end.stdout).expect("a document");
        document["backend"].as_str().expect("a name").to_owned()
    };
    assert_eq!(backend(&job(&[])), "eccl");
    assert_eq!(backend(&job(&["--profile", "p"])), "nccl");
    let hidden = [("launch-profiles/p.yaml", "env: {TOPS_VISIBLE_DEVICES: '0,1'}")];
    let end = self::job(&hidden)
        .args(["preflight", "--json", "--profile", "p", "--nproc", "8", "--sysroot"])
        .arg(host.root())
        .run();
    assert!(end.stdout.contains("\"TOPS_VISIBLE_DEVICES\""), "{}", end.stdout);
}

#[test]
fn the_list_says_where_profiles_are_and_which_one_is_used() {
    let files = [
        ("launch-profiles/a.yaml", "description: ours\nmatch: {env: {SITE: n*}}"),
        ("launch-profiles/broken.yaml", "x: 1"),
        (".config/nvlaunch/launch-profiles/a.yaml", "description: mine"),
        ("etc/nvlaunch/launch-profiles/b.yaml", "geometry: {nproc: 2}"),
    ];
    let end = job(&files).args(["profile", "list"]).env("SITE", "north").run().expect_code(0);
    let dir = end.dir.path().display().to_string();
    let text = end.stdout.replace(&dir, "DIR");
    let (files, _) = text
        .split_once("\nbuilt-in\n")
        .unwrap_or_else(|| text.rsplit_once("\n\n").expect("a last line"));
    insta::assert_snapshot!(files, @r"
    launch-profiles
      a                ours
                       fits this host: SITE is n*
      broken           cannot be used: `nvlaunch profile lint` says why

    DIR/.config/nvlaunch/launch-profiles
      a                hidden by launch-profiles/a.yaml

    DIR/etc/nvlaunch/launch-profiles
      b                (no description)
    ");
    let last = |text: &str| text.trim_end().lines().last().unwrap_or_default().to_owned();
    assert_eq!(last(&text), "A launch uses a here, for launch-profiles/a.yaml:3.");
    let end = job(&[]).args(["profile", "list"]).run().expect_code(0);
    assert_eq!(
        last(&end.stdout),
        "A launch uses none of them by itself; --profile NAME chooses one."
    );
    let end = job(&[]).args(["profile", "list"]).env("NVLAUNCH_PROFILE", "x").run().expect_code(0);
    assert_eq!(last(&end.stdout), "NVLAUNCH_PROFILE says that a launch uses x.");
}

#[test]
fn a_profile_is_shown_as_it_is_and_as_it_holds() {
    let files = [
        ("launch-profiles/a.yaml", "extends: base # why\nenv:\n  HF_TOKEN: hf_secret"),
        ("launch-profiles/base.yaml", "geometry: {nproc: 3}"),
        ("etc/nvlaunch/config.yaml", "restart: {max: 2}"),
    ];
    let show = |words: &[&str]| job(&files).args(["profile", "show"]).args(words).run();
    let end = show(&["a"]).expect_code(0);
    let head = "# launch-profiles/a.yaml\n# extends launch-profiles/base.yaml\nversion: 1\nextends: base # why\n";
    assert!(end.stdout.starts_with(head), "{}", end.stdout);
    assert!(!end.stdout.contains("hf_secret"), "{}", end.stdout);
    let end = show(&["a", "--effective"]).expect_code(0);
    assert!(!end.stdout.contains("hf_secret"), "{}", end.stdout);
    let dir = end.dir.path().display().to_string();
    let text = end.stdout.replace(&dir, "DIR");
    for line in [
        "  nproc: 3  # launch-profiles/base.yaml:2",
        "  max: 2  # DIR/etc/nvlaunch/config.yaml:2",
        "  role: default  # default",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    let file = end.path("shown.yaml");
    std::fs::write(&file, &end.stdout).expect("a file");
    source::load(&file).unwrap_or_else(|error| panic!("{error}"));
    let end = show(&["default"]).expect_code(0);
    assert_eq!(end.stdout, nvlaunch::settings::defaults::TEXT);
    show(&["default", "--effective"]).expect_code(0);
    show(&["gone"]).expect_code(NO_INPUT);
}

/// The program on a machine of the corpus, which its user sees as well.
fn on_host(host: &Host, words: &[&str]) -> Job {
    let job = Job::new().args(words).env("NVLAUNCH_SYSROOT", host.root());
    let variables = host.about.env.iter();
    let variables = variables.filter(|(name, _)| !matches!(name.as_str(), "HOME" | "PATH"));
    let job = variables.fold(job, |job, (name, value)| job.env(name, value));
    match &host.about.interpreter {
        Some(interpreter) => job.arg("--python").arg(interpreter),
        None => job,
    }
}

/// What `init` writes for a machine is right, and on a healthy one it can be used as it is.
#[test]
fn every_host_gets_a_profile() {
    let mut healthy = 0;
    for host in Host::all() {
        let end = on_host(&host, &["profile", "init"]).run().expect_code(0);
        let name = &host.name;
        let file = end.path("made.yaml");
        std::fs::write(&file, &end.stdout).expect("a file");
        let (document, _) = source::load(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(document.notes, [""; 0], "{name}");
        let is_narrow = |line: &str| line.chars().count() <= 80;
        assert!(end.stdout.lines().all(is_narrow), "{name}\n{}", end.stdout);
        if !name.starts_with("healthy-") {
            continue;
        }
        healthy += 1;
        assert_eq!(document.values.texts["backend"].value, host.expected.backend, "{name}");
        // The devices are counted on the machine that judges, so they have to be there.
        let again = on_host(&host, &["preflight", "--json"]).arg("--profile").arg(&file).run();
        let document: serde_json::Value = serde_json::from_str(&again.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}", again.stderr));
        assert_eq!(document["backend"], host.expected.backend.as_str(), "{name}");
        assert_eq!(again.code, Some(0), "{name}: {}\n{}", again.stderr, end.stdout);
    }
    assert!(healthy >= 12, "only {healthy} healthy hosts were tried");
}

#[test]
fn the_profiles_of_some_hosts() {
    for name in ["healthy-h200-nvswitch", "healthy-gcu-t20", "debug-variables-left-on"] {
        let host = Host::named(name);
        let job = on_host(&host, &["profile", "init"]);
        let end = job.run().expect_code(0);
        insta::assert_snapshot!(format!("init_{name}"), end.stdout);
    }
}

#[test]
fn init_replaces_nothing_by_itself() {
    let init = |dir: &Path, options: &[&str]| {
        let words = ["profile", "init", "--output", "a.yaml"];
        let run = Job::of(nvlaunch()).args(words).args(options);
        let dir = dir.to_owned();
        run.with(|command| {
            command.current_dir(dir);
        })
        .run()
    };
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.yaml");
    let end = init(dir.path(), &[]).expect_code(0);
    assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("", "nvlaunch: wrote a.yaml\n"));
    source::load(&file).expect("it is a profile");
    std::fs::write(&file, "mine").expect("a file");
    let end = init(dir.path(), &[]).expect_code(CANNOT_CREATE);
    stderr_has(&end, &["`a.yaml` is there already\nhint: --force replaces it"]);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "mine");
    init(dir.path(), &["--force"]).expect_code(0);
    source::load(&file).expect("it is a profile");
    let end = init(&dir.path().join(".."), &["--output", "gone/a.yaml"]).expect_code(CANNOT_CREATE);
    stderr_has(&end, &["cannot write the profile `gone/a.yaml`"]);
}

#[test]
fn what_only_a_profile_can_say_is_found_in_the_configuration_before_a_launch() {
    let text = "version: 1\nextends: cpu-ci\nmatch: {hostname: a}\n";
    let with_config = || {
        let job = Job::new();
        let folder = job.dir.path().join(".config/nvlaunch");
        fs::create_dir_all(&folder).expect("a folder for the configuration");
        fs::write(folder.join("config.yaml"), text).expect("a configuration");
        job
    };
    let lint = with_config().args(["profile", "lint", ".config/nvlaunch/config.yaml"]).run();
    let lint = lint.expect_code(CONFIG);
    for said in ["`extends` has no meaning", "`match` has no meaning", "config.yaml:2:1", "^^^"] {
        assert!(lint.stdout.contains(said), "{said}: {}", lint.stdout);
    }
    let listed = with_config().args(["profile", "list"]).run().expect_code(0);
    stderr_has(&listed, &["`extends` has no meaning", "no launch starts with it"]);
    // Elsewhere the same text is a profile.
    with_config().file("p.yaml", text).args(["profile", "lint", "p.yaml"]).run().expect_code(0);
}
