use super::*;
use crate::cli::{self, Invocation};
use crate::preflight::Verdict;
use crate::preflight::finding::Finding;
use crate::preflight::finding::{Code, Evidence, Severity};
use crate::profile::layer::Files;
use crate::settings::{self, env::Env};

/// Variables of the caller.
type Vars = &'static [(&'static str, &'static str)];

fn spec(words: &[&str]) -> LaunchSpec {
    let line = ["nvlaunch"].iter().chain(words).map(OsString::from).collect();
    let env = Env::default();
    match cli::parse(line, &env) {
        Ok(Invocation::Run(args)) => {
            let files = Files::embedded().expect("the file is right");
            settings::resolve(&args, &env, &files).expect("settings")
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

fn judged(vendor: &str, backend: &str, python: Python) -> Judgement {
    let is_cuda = vendor == "cuda";
    Judgement {
        verdict: Verdict::Ok,
        vendor: vendor.to_owned(),
        backend: chosen(backend),
        findings: Vec::new(),
        variables: Vec::new(),
        compat: offered(CompatChoice::Auto, vendor, is_cuda),
        python,
    }
}

fn chosen(backend: &str) -> BackendChoice {
    BackendChoice { name: backend.to_owned(), reason: "a reason".to_owned(), evidence: Vec::new() }
}

fn torch(version: &str) -> Python {
    Python { torch: Some(version.to_owned()), is_cuda_build: true, ..Python::default() }
}

fn layer_of(words: &[&str], caller: &[(&str, &str)], judgement: Option<&Judgement>) -> Layer {
    let caller = caller.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    match decide(&spec(words), &caller, judgement) {
        Compat::On(layer) => layer,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn found(code: Code) -> Finding {
    Finding {
        code,
        name: "A_NAME".to_owned(),
        severity: Severity::Warning,
        summary: "what was found".to_owned(),
        evidence: vec![Evidence { source: "x".to_owned(), value: "y".to_owned() }],
        remedies: Vec::new(),
        mitigation: None,
        consequence_of: None,
    }
}

/// D1
#[test]
fn auto_offers_and_changes_nothing() {
    let decided = |words: &[&str], judgement: &Judgement| {
        decide(&spec(words), &BTreeMap::new(), Some(judgement))
    };
    let mut judgement = judged("gcu", "gloo", torch("2.1.2"));
    assert_eq!(decided(&["t.py"], &judgement), Compat::Off);
    judgement.findings.push(found(code::SHM_TOO_SMALL));
    assert_eq!(decided(&["t.py"], &judgement), Compat::Off);
    judgement.findings.push(found(code::MMENGINE_NO_ACCEL));
    let offer = |name| Compat::Offered(Offer { name, why: "what was found".to_owned() });
    assert_eq!(decided(&["t.py"], &judgement), offer("gcu"));
    assert_eq!(decided(&["--compat", "off", "t.py"], &judgement), Compat::Off);
    let cpu = judged("cpu", "gloo", torch("2.1.2"));
    let cpu = Judgement { findings: vec![found(code::MMENGINE_MODULO_ZERO)], ..cpu };
    assert_eq!(decided(&["t.py"], &cpu), offer("cpu"));
    assert_eq!(decide(&spec(&["t.py"]), &BTreeMap::new(), None), Compat::Off);
    for (choice, vendor, is_cuda, expected) in [
        (CompatChoice::Auto, "cpu", false, Some("cpu")),
        (CompatChoice::Auto, "npu", false, Some("cpu")),
        (CompatChoice::Auto, "gcu", false, Some("gcu")),
        (CompatChoice::Auto, "cuda", true, None),
        (CompatChoice::Off, "cpu", false, None),
        (CompatChoice::Cpu, "cpu", false, None),
    ] {
        assert_eq!(offered(choice, vendor, is_cuda), expected, "{choice:?} {vendor}");
    }
}

/// D3
#[test]
fn the_way_follows_from_the_release_and_from_what_is_started() {
    const AUTOLOAD: &str = "TORCH_DEVICE_BACKEND_AUTOLOAD";
    let table: &[(&[&str], Vars, Option<&str>, Way)] = &[
        (&["t.py"], &[], Some("2.5.0"), Way::EntryPoint),
        (&["t.py"], &[], Some("2.15.0+cu132"), Way::EntryPoint),
        (&["t.py"], &[(AUTOLOAD, "1")], Some("2.15.0"), Way::EntryPoint),
        (&["t.py"], &[(AUTOLOAD, "0")], Some("2.15.0"), Way::Sitecustomize),
        (&["t.py"], &[(AUTOLOAD, "")], Some("2.15.0"), Way::Sitecustomize),
        (&["t.py"], &[], Some("2.4.1+cu121"), Way::Sitecustomize),
        (&["t.py"], &[], Some("1.10.0"), Way::Sitecustomize),
        (&["t.py"], &[], Some("a build"), Way::Sitecustomize),
        (&["t.py"], &[], None, Way::Sitecustomize),
        (&["--no-python", "python3", "t.py"], &[], Some("2.8.0"), Way::EntryPoint),
        (&["--no-python", "bash", "t.sh"], &[], Some("2.8.0"), Way::Sitecustomize),
    ];
    for (words, caller, version, way) in table {
        let judgement = judged("cpu", "gloo", version.map_or_else(Python::default, torch));
        let words = [&["--compat", "cpu"], *words].concat();
        let layer = layer_of(&words, caller, Some(&judgement));
        assert_eq!(layer.way, *way, "{words:?} {caller:?} {version:?}: {}", layer.way_reason);
    }
    assert_eq!(layer_of(&["--compat", "cpu", "t.py"], &[], None).way, Way::Sitecustomize);
}

/// D2
#[test]
fn pieces_that_cannot_matter_are_left_out() {
    let mmengine = |version: &str| Python { mmengine: Some(version.to_owned()), ..torch("2.8.0") };
    let pieces = |words: &[&str], caller: &[(&str, &str)], judgement: Option<&Judgement>| {
        let words = [words, &["t.py"]].concat();
        let changes = layer_of(&words, caller, judgement).changes;
        changes.into_iter().map(|change| change.piece).collect::<Vec<_>>().join(" ")
    };
    let usual = "set_device process_group ddp";
    let cpu = &["--compat", "cpu"][..];
    let gcu = &["--compat", "gcu"][..];
    for (vendor, python, expected) in [
        ("cpu", torch("2.8.0"), usual.to_owned()),
        ("cpu", mmengine("0.7.2"), format!("{usual} mmengine")),
        ("cpu", mmengine("0.7.3"), usual.to_owned()),
        ("cpu", mmengine("0.10.7"), usual.to_owned()),
        ("musa", mmengine("0.10.2"), usual.to_owned()),
        ("musa", mmengine("0.10.3"), format!("{usual} mmengine")),
        ("musa", mmengine("0.10.8"), usual.to_owned()),
    ] {
        assert_eq!(pieces(cpu, &[], Some(&judged(vendor, "gloo", python))), expected);
    }
    assert_eq!(pieces(cpu, &[], None), format!("{usual} mmengine"));
    let judgement = judged("gcu", "eccl", torch("1.10.0"));
    let asked = &[("NVLAUNCH_COMPAT_TRANSFER", "1")][..];
    assert_eq!(pieces(gcu, asked, Some(&judgement)), format!("transfer {usual}"));
    assert_eq!(pieces(cpu, asked, Some(&judgement)), usual);
    assert_eq!(pieces(gcu, &[("NVLAUNCH_COMPAT_TRANSFER", "0")], Some(&judgement)), usual);
}

#[test]
fn what_is_lost_is_said_aloud() {
    let with = |torch_gcu: Option<&str>, mmengine: Option<&str>, version: &str| Python {
        torch_gcu: torch_gcu.map(str::to_owned),
        mmengine: mmengine.map(str::to_owned),
        ..torch(version)
    };
    let plugin = Some("1.10.0+2.5.136");
    let asked: Vars = &[("NVLAUNCH_COMPAT_TRANSFER", "1")];
    let table: &[(&str, Vars, Judgement, Option<&str>)] = &[
        ("gcu", &[], judged("gcu", "gloo", with(None, None, "2.1.2")), Some("GCUS ARE NOT USED")),
        (
            "gcu",
            &[],
            judged("gcu", "gloo", with(plugin, None, "1.10.0")),
            Some("CANNOT EXCHANGE GRADIENTS"),
        ),
        ("gcu", &[], judged("gcu", "eccl", with(plugin, None, "1.10.0")), None),
        (
            "gcu",
            &[],
            judged("gcu", "eccl", with(plugin, Some("0.10.7"), "1.10.0")),
            Some("MMEngine keeps its tensors on the CPU"),
        ),
        (
            "gcu",
            &[],
            judged("gcu", "cpu:gloo,gcu:eccl", with(plugin, Some("0.10.7"), "2.6.0")),
            None,
        ),
        ("gcu", asked, judged("gcu", "eccl", with(plugin, Some("0.10.7"), "1.10.0")), None),
        (
            "gcu",
            asked,
            judged("gcu", "eccl", Python { is_cuda_build: false, ..with(plugin, None, "1.10.0") }),
            Some("needs a PyTorch that is built for CUDA"),
        ),
        ("cpu", asked, judged("cpu", "gloo", torch("2.8.0")), Some("has no effect")),
        ("cpu", &[], judged("cpu", "gloo", torch("2.8.0")), None),
        ("cpu", &[], judged("cuda", "nccl", torch("2.8.0")), Some("changes nothing while")),
    ];
    for (name, caller, judgement, expected) in table {
        let layer = layer_of(&["--compat", name, "t.py"], caller, Some(judgement));
        match expected {
            Some(text) => {
                assert_eq!(layer.warnings.len(), 1, "{:?}", layer.warnings);
                assert!(layer.warnings[0].contains(text), "{:?}", layer.warnings);
            }
            None => assert_eq!(layer.warnings, [""; 0], "{judgement:?}"),
        }
    }
}

#[test]
fn options_that_take_pythonpath_away() {
    let table: &[(&[&str], Option<&str>)] = &[
        (&["python", "t.py"], None),
        (&["python", "-I", "t.py"], Some("-I")),
        (&["/opt/x/bin/python3.8", "-u", "-sE", "t.py"], Some("-E")),
        (&["python", "-uS", "t.py"], Some("-S")),
        (&["python", "-WE", "t.py"], None),
        (&["python", "-m", "m", "-I"], None),
        (&["python", "t.py", "-I"], None),
        (&["bash", "-I", "t.sh"], None),
    ];
    for (words, option) in table {
        let words = [&["--compat", "cpu", "--no-python"], *words].concat();
        let layer = layer_of(&words, &[], None);
        let warnings = layer.warnings.join("\n");
        let expected = option.map(|option| format!("Python's option {option} leaves out"));
        match expected {
            Some(text) => assert!(warnings.contains(&text), "{words:?}: {warnings}"),
            None => assert_eq!(warnings, "", "{words:?}"),
        }
    }
    // An entry point needs no `site`.
    let judgement = judged("cpu", "gloo", torch("2.8.0"));
    let words = ["--compat", "cpu", "--no-python", "python", "-S", "t.py"];
    assert_eq!(layer_of(&words, &[], Some(&judgement)).warnings, [""; 0]);
}

#[test]
fn the_backend_follows_from_whose_tensors_there_are() {
    for (choice, vendor, version, name, expected) in [
        (CompatChoice::Auto, "gcu", "2.1.2", "eccl", "eccl"),
        (CompatChoice::Off, "gcu", "2.1.2", "eccl", "eccl"),
        (CompatChoice::Cpu, "gcu", "2.1.2", "eccl", "gloo"),
        (CompatChoice::Cpu, "cpu", "2.1.2", "gloo", "gloo"),
        (CompatChoice::Cpu, "cuda", "2.1.2", "nccl", "nccl"),
        (CompatChoice::Gcu, "gcu", "1.10.0", "eccl", "eccl"),
        (CompatChoice::Gcu, "gcu", "2.1.2", "eccl", "cpu:gloo,gcu:eccl"),
        (CompatChoice::Gcu, "gcu", "2.1.2", "gloo", "gloo"),
        (CompatChoice::Gcu, "cpu", "2.1.2", "gloo", "gloo"),
    ] {
        let found = backend(choice, vendor, vendor == "cuda", &torch(version), chosen(name));
        assert_eq!(found.name, expected, "{choice:?} {vendor} {version}");
    }
}

#[test]
fn pythonpath_is_that_of_the_ranks() {
    let path =
        |caller: &[(&str, &str)]| layer_of(&["--compat", "cpu", "t.py"], caller, None).python_path;
    assert_eq!(path(&[]), None);
    assert_eq!(path(&[("PYTHONPATH", "")]), None);
    assert_eq!(path(&[("PYTHONPATH", "/a::b")]), Some("/a::b".into()));
}
