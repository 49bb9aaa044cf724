use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::Value as Json;

use super::*;
use crate::profile::{check, node};

#[test]
fn the_committed_schema_is_the_generated_one() {
    crate::generate::assert_committed("launch-profiles/schema.json", &text());
}

/// Whether a value is right by the schema. It knows the keywords that the schema uses and no other.
fn accepts(schema: &Json, value: &Json) -> bool {
    let keywords = schema.as_object().expect("a schema is a map");
    keywords.iter().all(|(keyword, wanted)| holds(schema, keyword, wanted, value))
}

fn holds(schema: &Json, keyword: &str, wanted: &Json, value: &Json) -> bool {
    let list = |wanted: &Json| wanted.as_array().expect("a list").clone();
    let is_of = |kind: &Json| match kind.as_str().expect("a type has a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        other => panic!("the type `{other}` is not known here"),
    };
    let fits = |pattern: &Json, text: &str| {
        let pattern = pattern.as_str().expect("a pattern is a text");
        Regex::new(pattern).expect("a pattern that can be read").is_match(text)
    };
    match keyword {
        "$schema" | "title" | "description" | "default" => true,
        "type" if wanted.is_array() => list(wanted).iter().any(is_of),
        "type" => is_of(wanted),
        "enum" => list(wanted).iter().any(|one| match (one.as_f64(), value.as_f64()) {
            (Some(one), Some(value)) => (one - value).abs() < f64::EPSILON,
            _ => one == value,
        }),
        "pattern" => value.as_str().is_none_or(|text| fits(wanted, text)),
        "minLength" => {
            let least = usize::try_from(wanted.as_u64().expect("a number")).expect("a length");
            value.as_str().is_none_or(|text| text.chars().count() >= least)
        }
        "minItems" => {
            value.as_array().is_none_or(|list| Some(list.len() as u64) >= wanted.as_u64())
        }
        "minimum" => value.as_f64().is_none_or(|number| Some(number) >= wanted.as_f64()),
        "maximum" => value.as_f64().is_none_or(|number| Some(number) <= wanted.as_f64()),
        "items" => value.as_array().is_none_or(|list| list.iter().all(|one| accepts(wanted, one))),
        "required" => value.as_object().is_none_or(|map| {
            list(wanted).iter().all(|name| map.contains_key(name.as_str().expect("a name")))
        }),
        "properties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(name, of)| wanted.get(name).is_none_or(|schema| accepts(schema, of)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|map| {
            let is_known =
                |name: &str| schema.get("properties").is_some_and(|all| all.get(name).is_some());
            map.iter().filter(|(name, _)| !is_known(name)).all(|(_, of)| match wanted {
                Json::Bool(allowed) => *allowed,
                schema => accepts(schema, of),
            })
        }),
        "minProperties" => value
            .as_object()
            .is_none_or(|map| wanted.as_u64().is_some_and(|least| map.len() as u64 >= least)),
        "propertyNames" => value
            .as_object()
            .is_none_or(|map| map.keys().all(|name| accepts(wanted, &Json::from(name.as_str())))),
        "anyOf" => list(wanted).iter().any(|schema| accepts(schema, value)),
        "oneOf" => list(wanted).iter().filter(|schema| accepts(schema, value)).count() == 1,
        "not" => !accepts(wanted, value),
        other => panic!("the keyword `{other}` is not known here"),
    }
}

fn by_schema(text: &str) -> bool {
    static SCHEMA: LazyLock<Json> = LazyLock::new(schema);
    // As an editor reads it: YAML first, and then no line and no spelling is left.
    match serde_yaml::from_str::<Json>(text) {
        Ok(value) => accepts(&SCHEMA, &value),
        Err(_) => false,
    }
}

fn by_check(text: &str) -> Result<(), String> {
    let root = node::parse(text).map_err(|problem| problem.what)?;
    let file: Arc<str> = "profile.yaml".into();
    let (_, problems) = check::check(&root, text, &file);
    problems.first().map_or(Ok(()), |problem| Err(problem.what.clone()))
}

const GOOD: &str = "\
version: 1
description: 8 GPUs, two storage networks
extends: base
match:
  hostname: [gpu-*, node-??]
  vendor: cuda
  slurm-partition: [train]
  env: {SITE: north}
geometry:
  nproc: gpu
rendezvous:
  master-addr: 10.0.0.1
  init-report-after: 2m
backend: cpu:gloo,cuda:nccl
env:
  NCCL_DEBUG: WARN
  NCCL_IB_TIMEOUT: 22
  NCCL_IB_HCA: {value: mlx5, why: mlx5_bond_0 is the storage network}
  NCCL_P2P_DISABLE: {unset: true, why: the old driver is gone}
preflight:
  severity: {NVL073: error}
restart:
  policy: {import: retry}
shutdown:
  signals-to-handle: [SIGTERM, SIGUSR1]
";

/// Parts of profiles, without the version.
const SAME: &[&str] = &[
    "",
    "geometry:",
    "geometry: {}",
    "env:",
    "preflight: {severity: }",
    "description: 8",
    "extends: h100.yaml",
    "match: {hostname: gpu-*}",
    "match: {hostname: [a, b], slurm-cluster: c, slurm-partition: p, vendor: npu}",
    "match: {env: {SITE: n*, RACK: 7}}",
    "geometry: {nproc: 8}",
    "geometry: {nproc: '8'}",
    "geometry: {nproc: auto}",
    "geometry: {nproc: npu}",
    "geometry: {nnodes: 1}",
    "geometry: {nnodes: '1:1'}",
    "geometry: {virtual-local-rank: true}",
    "geometry: {virtual-local-rank: 'false'}",
    "geometry: {role: 7}",
    "rendezvous: {master-port: 0, master-addr: '[fe80::1%eth0]', store: rank0}",
    "rendezvous: {master-port: 65535, master-addr: rechner-ä.example}",
    "rendezvous: {id: auto}",
    "rendezvous: {init-report-after: 1h 30m}",
    "rendezvous: {init-report-after: 1.5min}",
    "rendezvous: {init-report-after: 0s}",
    "backend: auto",
    "backend: NCCL",
    "env: {A: 1, B: x, C: true, D: ''}",
    "env: {A: {value: 1}}",
    "env: {A: {value: 1, why: because}}",
    "env: {A: {unset: true}}",
    "preflight: {mode: full, deadline: 500ms}",
    "preflight: {mode: off}",
    "preflight: {severity: {NVL001: note, NVL073: error}}",
    "restart: {policy: {}}",
    "restart: {policy: {import: retry, lost-peer: never, oom: same-again}}",
    "restart: {policy: {device: retry-elsewhere}}",
    "binding: {numa: none, omp-threads: keep}",
    "binding: {omp-threads: 12}",
    "program: {python: /opt/python}",
    "restart: {max: 3}",
    "shutdown: {signals-to-handle: SIGTERM}",
    "shutdown: {signals-to-handle: 'SIGTERM,SIGUSR2'}",
    "input: {stdin: 0}",
    "input: {stdin: none}",
    "logs: {redirects: 3, tee: '0:1,12:3', local-ranks: 0}",
    "logs: {redirects: 0:1, local-ranks: all}",
    "logs: {local-ranks: [0, 1]}",
    "logs: {local-ranks: '0,1', fold: false, prefix: ''}",
    "logs: {dir: /dev/null}",
    "report: {json: none}",
    // What is wrong for both.
    "geometri: {}",
    "geometry: {npoc: 1}",
    "geometry: 8",
    "geometry: [nproc]",
    "description: [a]",
    "description:",
    "extends: {name: x}",
    "match:",
    "match: {}",
    "match: gpu",
    "match: {host: a}",
    "match: {hostname: {a: b}}",
    "match: {hostname: [[a]]}",
    "match: {env: SITE}",
    "match: {env: {SITE: [a]}}",
    "geometry: {nproc: 0}",
    "geometry: {nproc: 4097}",
    "geometry: {nproc: -1}",
    "geometry: {nproc: gpus}",
    "geometry: {nproc: [1]}",
    "geometry: {nproc: }",
    "geometry: {nproc: ~}",
    "geometry: {nproc: 1.5}",
    "geometry: {nnodes: 2}",
    "geometry: {nnodes: '1:4'}",
    "geometry: {virtual-local-rank: yes}",
    "geometry: {virtual-local-rank: 1}",
    "rendezvous: {master-port: 65536}",
    "rendezvous: {master-port: auto}",
    "rendezvous: {master-addr: 'a b'}",
    "rendezvous: {master-addr: ''}",
    "rendezvous: {store: rank1}",
    "rendezvous: {init-report-after: 30}",
    "rendezvous: {init-report-after: '30'}",
    "rendezvous: {init-report-after: 30 parsecs}",
    "rendezvous: {init-report-after: -5s}",
    "backend: nccl gloo",
    "backend: []",
    "env: [A]",
    "env: {A: }",
    "env: {A: [1]}",
    "env: {A: {}}",
    "env: {A: {why: because}}",
    "env: {A: {value: 1, unset: true}}",
    "env: {A: {unset: false}}",
    "env: {A: {value: 1, unset: false}}",
    "env: {A: {value: 1, note: x}}",
    "env: {A: {value: [1]}}",
    "env: {RANK: 1}",
    "env: {MASTER_ADDR: host}",
    "env: {'A=B': 1}",
    "preflight: {mode: on}",
    "preflight: {deadline: 5}",
    "preflight: {deadline: 0s}",
    "preflight: {deadline-without-persistence: 0m 0.0s}",
    "checkpoint: {deadline: 0s}",
    "preflight: {severity: {NVL999: error}}",
    "preflight: {severity: {NVL073: fatal}}",
    "preflight: {severity: {NVL073: }}",
    "preflight: {severity: error}",
    "restart: {policy: {imports: retry}}",
    "restart: {policy: {import: always}}",
    "restart: {policy: {import: }}",
    "restart: {policy: retry}",
    "binding: {numa: nodes}",
    "binding: {omp-threads: 0}",
    "binding: {omp-threads: all}",
    "program: {python: ''}",
    "restart: {max: -1}",
    "restart: {max: many}",
    "shutdown: {timeout: 5}",
    "shutdown: {signal-scope: all}",
    "shutdown: {signals-to-handle: [SIGKILL]}",
    "shutdown: {signals-to-handle: SIGFOO}",
    "shutdown: {signals-to-handle: [TERM]}",
    "shutdown: {keep-daemons: maybe}",
    "input: {stdin: first}",
    "input: {stdin: -1}",
    "logs: {redirects: 4}",
    "logs: {tee: '0:4'}",
    "logs: {tee: all}",
    "logs: {local-ranks: []}",
    "shutdown: {signals-to-handle: []}",
    "logs: {local-ranks: [a]}",
    "logs: {local-ranks: [-1]}",
    "logs: {fold: 2}",
];

/// Where the two must differ, and why: the verdict of `check`, and the part.
const DIFFERENT: &[(bool, &str, &str)] = &[
    (false, "geometry: {nproc: '9999'}", "a pattern knows no bounds of a number in quotes"),
    (false, "rendezvous: {init-report-after: 9999d}", "nor that this is longer than a year"),
    (false, "rendezvous: {master-port: 1e3}", "how a number was written is lost"),
    (false, "restart: {max: 2.0}", "the same"),
    (false, "geometry: {virtual-local-rank: True}", "the same of true and false"),
    (false, "version: 1", "a key that stands twice is for the reader of YAML to refuse"),
    (true, "geometry: {nproc: ' 8 '}", "spaces in quotes are passed over, and no virtue"),
];

#[test]
fn the_schema_and_the_checks_agree() {
    for text in [defaults::TEXT, GOOD] {
        assert_eq!(by_check(text), Ok(()));
        assert!(by_schema(text), "{text}");
    }
    let mut refused = 0;
    for part in SAME {
        let text = format!("version: 1\n{part}\n");
        let said = by_check(&text);
        assert_eq!(by_schema(&text), said.is_ok(), "{part}: the checks say {said:?}");
        refused += usize::from(said.is_err());
    }
    assert!(refused > 60 && SAME.len() - refused > 40, "{refused} of {}", SAME.len());
    for text in ["", "description: x\n", "version: 2\n", "version:\n", "version: [1]\n", "- 1\n"] {
        assert!(!by_schema(text) && by_check(text).is_err(), "{text}");
    }
    assert!(by_schema("version: '1'\n") && by_check("version: '1'\n").is_ok());
}

#[test]
fn where_they_differ_is_known() {
    for (is_right, part, why) in DIFFERENT {
        let text = format!("version: 1\n{part}\n");
        assert_eq!(by_check(&text).is_ok(), *is_right, "{part}: {why}");
        assert_eq!(by_schema(&text), !is_right, "{part}: {why}");
    }
}

/// Every key of the table, with words that cannot be right for any, and with its default.
#[test]
fn every_key_is_in_the_schema_as_the_table_has_it() {
    let values = ["{a: b}", "[[1]]", "nonsense-word", "-7", "'%'", "[x y]"];
    for key in keys::ALL {
        let of = |value: &str| match key.parts() {
            (Some(section), name) => format!("version: 1\n{section}: {{{name}: {value}}}\n"),
            (None, name) => format!("version: 1\n{name}: {value}\n"),
        };
        for value in values {
            let text = of(value);
            assert_eq!(by_schema(&text), by_check(&text).is_ok(), "{text}");
        }
        let word = key.form().words.first().copied().unwrap_or_default();
        if !word.is_empty() {
            assert!(by_schema(&of(word)), "{}: {word}", key.path);
        }
    }
}
