use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use serde_yaml::Value as Yaml;

use super::keys;
use super::layer::{Files, Layer, Placed, Variable};
use super::node::{self, Node, Value};
use crate::cli::{self, Invocation};
use crate::diagnose::class::{Class, Remedy};
use crate::preflight::catalogue;
use crate::preflight::finding::Severity;
use crate::settings::env::Env;
use crate::settings::{self, Origin};

/// Texts that YAML has to treat in every way it knows: plain, quoted, in several lines.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9 _./:#*&!|>'\"{}\\[\\],?%@`~=-]{0,12}",
        "[a-zéß日🦀]{1,6}",
        Just("no".to_owned()),
        Just("null".to_owned()),
        Just("1e3".to_owned()),
        "[a-z]{1,5}\n[a-z ]{0,5}\n?",
        "[ -~\t\n]{0,20}",
    ]
}

fn documents() -> impl Strategy<Value = Yaml> {
    let leaf = prop_oneof![
        4 => texts().prop_map(Yaml::from),
        1 => any::<i32>().prop_map(Yaml::from),
        1 => any::<bool>().prop_map(Yaml::from),
        1 => Just(Yaml::Null),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5).prop_map(Yaml::Sequence);
        let map = prop::collection::btree_map(texts(), inner, 0..5).prop_map(|map| {
            Yaml::Mapping(map.into_iter().map(|(key, value)| (Yaml::from(key), value)).collect())
        });
        prop_oneof![list, map]
    })
}

/// The same document without places. A plain value is what YAML says it is.
fn without_places(node: &Node) -> Yaml {
    match &node.value {
        Value::Scalar { text, plain: false } => Yaml::from(text.clone()),
        Value::Scalar { text, .. } if text.is_empty() => Yaml::Null,
        Value::Scalar { text, .. } => {
            serde_yaml::from_str(text).unwrap_or_else(|_| Yaml::from(text.clone()))
        }
        Value::List(list) => Yaml::Sequence(list.iter().map(without_places).collect()),
        Value::Map(map) => {
            let entry = |(key, value): &(node::Key, Node)| {
                (Yaml::from(key.text.clone()), without_places(value))
            };
            Yaml::Mapping(map.iter().map(entry).collect())
        }
    }
}

/// `|2`: how far a text is indented counts from its key, which is not cut out with it.
fn is_indented(text: &str) -> bool {
    text.starts_with(['|', '>']) && text[1..].starts_with(|c: char| c.is_ascii_digit())
}

/// What a span cuts out of the text is that value again, and a key that key.
fn spans_hold(node: &Node, text: &str) {
    let cut = |span: super::problem::Span| text.get(span.start..span.end).expect("it is inside");
    match &node.value {
        Value::Scalar { text: value, .. } => {
            let own = cut(node.span);
            if is_indented(own) {
                return;
            }
            let again = node::parse(own).expect("it is YAML");
            match again.value {
                Value::Scalar { text, .. } => assert_eq!(&text, value, "{:?}", cut(node.span)),
                Value::Map(map) if map.is_empty() && value.is_empty() => {}
                other => panic!("{other:?}, not {value:?}"),
            }
        }
        Value::List(list) => list.iter().for_each(|entry| spans_hold(entry, text)),
        Value::Map(map) => {
            for (key, value) in map {
                let own = cut(key.span);
                let again = node::parse(own).map(|node| node.value);
                let is_same = matches!(&again, Ok(Value::Scalar { text, .. }) if *text == key.text);
                assert!(is_same || is_indented(own) || key.text.is_empty(), "{own:?}: {again:?}");
                spans_hold(value, text);
            }
        }
    }
}

fn placed<T>(value: T, line: u32) -> Placed<T> {
    Placed { value, origin: Origin::File { file: "a.yaml".into(), line } }
}

fn layers() -> impl Strategy<Value = Layer> {
    let texts = prop::collection::btree_map(0..keys::ALL.len(), ("[a-c]", 1..9_u32), 0..6);
    let env = prop::collection::btree_map("[A-D]", ("[a-c]", 1..9_u32), 0..4);
    let severity = prop::collection::btree_map(0..catalogue::ALL.len().min(4), 1..9_u32, 0..4);
    let remedies = prop::collection::btree_map(0..Class::ALL.len(), 1..9_u32, 0..4);
    (texts, env, severity, remedies).prop_map(|(texts, env, severity, remedies)| Layer {
        texts: texts
            .into_iter()
            .map(|(at, (text, line))| (keys::ALL[at].path, placed(text, line)))
            .collect(),
        env: env
            .into_iter()
            .map(|(name, (value, line))| {
                (name, placed(Variable { value: Some(value), why: None }, line))
            })
            .collect(),
        severity: severity
            .into_iter()
            .map(|(at, line)| (catalogue::ALL[at].code.clone(), placed(Severity::Note, line)))
            .collect(),
        remedies: remedies
            .into_iter()
            .map(|(at, line)| (Class::ALL[at], placed(Remedy::Retry, line)))
            .collect(),
    })
}

proptest! {
    #[test]
    fn a_tree_with_places_is_what_serde_yaml_reads(document in documents(), flow in any::<bool>()) {
        // JSON is YAML in flow style.
        let text = if flow {
            serde_json::to_string(&document).expect("it is JSON")
        } else {
            serde_yaml::to_string(&document).expect("it is YAML")
        };
        let read: Yaml = serde_yaml::from_str(&text).expect("it is YAML");
        let tree = node::parse(&text).unwrap_or_else(|problem| panic!("{problem:?} in {text:?}"));
        prop_assert_eq!(without_places(&tree), read, "{:?}", text);
        spans_hold(&tree, &text);
    }

    #[test]
    fn joining_layers_is_associative(a in layers(), b in layers(), c in layers()) {
        let left = a.clone().below(b.clone()).below(c.clone());
        let right = a.clone().below(b.below(c));
        prop_assert_eq!(left, right);
        prop_assert_eq!(&a.clone().below(Layer::default()), &a);
        prop_assert_eq!(&Layer::default().below(a.clone()), &a);
    }
}

/// What resolving makes of inputs that are the same in every run, as one text.
fn resolved() -> String {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let words: &[&str] =
        &["--nproc=2", "--nproc=gpu", "--tee=3", "--backend=gloo", "--store=rank0"];
    let variables: &[(&str, &str)] = &[
        ("NVLAUNCH_NPROC_PER_NODE", "3"),
        ("PET_MAX_RESTARTS", "2"),
        ("SLURM_JOB_ID", "17"),
        ("NVLAUNCH_LOG_DIR", "logs"),
        ("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "5"),
        ("NVLAUNCH_NPROK", "1"),
    ];
    let inputs = (
        layers(),
        prop::sample::subsequence(words.to_vec(), 0..=words.len()),
        prop::sample::subsequence(variables.to_vec(), 0..=variables.len()),
    );
    let mut text = String::new();
    for _ in 0..200 {
        let tree = inputs.new_tree(&mut runner).expect("there is one");
        let (layer, words, variables) = proptest::strategy::ValueTree::current(&tree);
        let env: Env = variables.into_iter().collect();
        let line = ["nvlaunch"].into_iter().chain(words).chain(["t.py"]).map(OsString::from);
        let Ok(Invocation::Run(args)) = cli::parse(line.collect(), &env) else {
            text.push_str("no run\n");
            continue;
        };
        let mut files = Files::embedded().expect("the file is right");
        files.values = files.values.below(layer);
        // An id is made up by chance where nobody gives one.
        let id: Arc<str> = "a.yaml".into();
        let origin = Origin::File { file: id, line: 1 };
        let given = Placed { value: "job".to_owned(), origin };
        files.values.texts.extend(BTreeMap::from([("rendezvous.id", given)]));
        let once = format!("{:?}", settings::resolve(&args, &env, &files));
        assert_eq!(once, format!("{:?}", settings::resolve(&args, &env, &files)));
        text.push_str(&once);
        text.push('\n');
    }
    text
}

/// Resolving reads what it is given and nothing else: two processes with other environments, other
/// working directories, get the same.
#[test]
fn resolving_never_depends_on_the_real_environment() {
    const OUT: &str = "PROFILE_TEST_OUT";
    if let Some(path) = std::env::var_os(OUT) {
        return std::fs::write(path, resolved()).expect("the file can be written");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let environments: [&[(&str, &str)]; 2] = [
        &[],
        &[
            ("NVLAUNCH_NPROC_PER_NODE", "7"),
            ("NVLAUNCH_RUN_ID", "inside"),
            ("NVLAUNCH_PROFILE", "nowhere"),
            ("PET_NNODES", "4"),
            ("SLURM_JOB_ID", "99"),
            ("OMP_NUM_THREADS", "3"),
            ("HOME", "/nowhere"),
            ("RANK", "5"),
        ],
    ];
    let run = |(at, environment): (usize, &&[(&str, &str)])| {
        let out = folder.path().join(at.to_string());
        let name = "profile::tests::resolving_never_depends_on_the_real_environment";
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["--exact", name]).env_clear().envs(environment.iter().copied());
        let done = command.env(OUT, &out).current_dir(folder.path()).output().expect("it starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        std::fs::read_to_string(out).expect("it was written")
    };
    let texts: Vec<String> = environments.iter().enumerate().map(run).collect();
    assert!(texts[0].len() > 10_000 && texts[0].contains("nproc: Count(2)"), "{}", texts[0].len());
    assert!(texts[0] == texts[1], "the environment changed what was resolved");
}
