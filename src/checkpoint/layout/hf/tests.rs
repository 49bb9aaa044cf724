use std::fs;

use super::super::samples::{Item, age, cut, safetensors, said, said_of, text, torch};
use super::*;

const NAMES: &[&str] =
    &["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"];

/// What two ranks leave at a step.
fn save(folder: &Path, step: u64) {
    let checkpoint = folder.join(format!("checkpoint-{step}"));
    text(&checkpoint.join("config.json"), "{}");
    safetensors(&checkpoint.join("model.safetensors"));
    for name in NAMES {
        torch(&checkpoint.join(name), &Item::Dict(vec![]));
    }
    let state =
        format!(r#"{{"log_history": [{{"loss": 1.5}}], "global_step": {step}, "best": null}}"#);
    text(&checkpoint.join(STATE), state);
}

fn job(world: u32) -> Cx {
    Cx { world_size: Some(world), ..Cx::default() }
}

#[test]
fn what_is_wrong_is_said() {
    type Damage = fn(&Path);
    let cases: &[(Damage, &str)] = &[
        (|_| (), "whole"),
        (
            |at| text(&at.join(INCOMPLETE), "…"),
            "checkpoint-is-incomplete.txt is there: the save did not end",
        ),
        (|at| fs::remove_file(at.join(STATE)).unwrap(), "trainer_state.json is missing"),
        (|at| text(&at.join(STATE), ""), "trainer_state.json is empty"),
        (|at| cut(&at.join(STATE)), "trainer_state.json was cut off"),
        (
            |at| text(&at.join(STATE), r#"{"global_step": 10}"#),
            "trainer_state.json is of step 10, and the folder's name says 20",
        ),
        (
            |at| {
                let history = r#"[{"loss": NaN}, {"grad_norm": -Infinity}]"#;
                let state = format!(r#"{{"log_history": {history}, "global_step": 20}}"#);
                text(&at.join(STATE), state);
                text(&at.join("config.json"), r#"{"scale": Infinity}"#);
                age(&at.join("config.json"), 1);
            },
            "whole",
        ),
        (
            |at| text(&at.join(STATE), r#"{"log_history": [{"loss": NaN}], "global_step": 2"#),
            "trainer_state.json was cut off",
        ),
        (|at| cut(&at.join("config.json")), "config.json was cut off"),
        (
            |at| fs::remove_file(at.join("model.safetensors")).unwrap(),
            "model.safetensors is missing, and so is any other form of weights",
        ),
        (|at| fs::remove_file(at.join("scheduler.pt")).unwrap(), "scheduler.pt is missing"),
        (
            |at| fs::remove_file(at.join("optimizer.pt")).unwrap(),
            "export: weights only: no optimizer.pt",
        ),
        (
            |at| fs::remove_file(at.join("rng_state_1.pth")).unwrap(),
            "rng_state_1.pth is missing: the job has 2 ranks",
        ),
        (|at| text(&at.join("optimizer.pt"), ""), "optimizer.pt is empty"),
        (
            |at| text(&at.join("rng_state_1.pth"), [0; 50]),
            "rng_state_1.pth holds nothing but zeros",
        ),
        (
            |at| age(&at.join("optimizer.pt"), 20),
            "optimizer.pt is newer than trainer_state.json, which is written last: a save over an \
             older one did not end (if it was copied and is right, `touch` trainer_state.json)",
        ),
        (|at| age(&at.join("rng_state_1.pth"), 20), "whole"),
        (
            |at| {
                fs::rename(
                    at.join("model.safetensors"),
                    at.join("model-00001-of-00002.safetensors"),
                )
                .unwrap();
            },
            "model.safetensors.index.json is missing, and the weights are in shards",
        ),
        (
            |at| {
                fs::rename(
                    at.join("model.safetensors"),
                    at.join("model-00001-of-00002.safetensors"),
                )
                .unwrap();
                let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
                text(&at.join("model.safetensors.index.json"), index);
                age(&at.join("model.safetensors.index.json"), 1);
            },
            "model-00002-of-00002.safetensors is missing",
        ),
        (
            |at| {
                fs::rename(at.join("model.safetensors"), at.join("adapter_model.safetensors"))
                    .unwrap();
            },
            "whole",
        ),
    ];
    for (damage, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 20);
        let at = folder.path().join("checkpoint-20");
        for entry in fs::read_dir(&at).unwrap() {
            age(&entry.unwrap().path(), 1);
        }
        age(&at.join(STATE), 10);
        damage(&at);
        // It may have been written anew.
        if at.join(STATE).exists() {
            age(&at.join(STATE), 10);
        }
        let said = said(Layout::Hf, folder.path(), &job(2));
        assert_eq!(said, [format!("checkpoint-20 @20 {expected}")]);
    }
}

/// Arguments that keep how many ranks there are, as they are pickled.
fn arguments(at: &Path, ranks: u32) {
    let state = Item::Object(Box::new(Item::Dict(vec![("num_processes", Item::Number(ranks))])));
    let kept = Item::Dict(vec![("distributed_state", state)]);
    torch(&at.join(ARGUMENTS), &Item::Object(Box::new(kept)));
    // Long before the other files.
    let file = fs::File::open(at.join(ARGUMENTS)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
}

#[test]
fn ranks_that_are_missing_are_told_from_a_smaller_job() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 10);
    let said_by = |world: u32| said(Layout::Hf, folder.path(), &job(world)).remove(0);
    assert_eq!(said_by(2), "checkpoint-10 @10 whole");
    assert_eq!(said_by(1), "checkpoint-10 @10 whole", "it was saved by more");
    let missing =
        "checkpoint-10 @10 rng_state_2.pth is missing, and others are: the job has 4 ranks";
    assert_eq!(said_by(4), missing, "nobody knows when the job began");
    let begun = |seconds: i64| {
        let now = std::time::SystemTime::now();
        let time = std::time::Duration::from_secs(seconds.unsigned_abs());
        let since = if seconds > 0 { now + time } else { now - time };
        let cx = Cx { since: Some(since), ..job(4) };
        said(Layout::Hf, folder.path(), &cx).remove(0)
    };
    assert_eq!(begun(3600), "checkpoint-10 @10 whole", "an earlier job was smaller");
    assert_eq!(begun(-3600), missing, "this job did not end it");
    save(folder.path(), 20);
    assert!(begun(-3600).contains("the job has 4 ranks"), "nor the one before");
    arguments(&folder.path().join("checkpoint-20"), 2);
    assert_eq!(begun(-3600), "checkpoint-20 @20 whole", "it says who saved it");
    arguments(&folder.path().join("checkpoint-20"), 3);
    let three = "checkpoint-20 @20 rng_state_2.pth is missing: it was saved by 3 ranks";
    assert_eq!((begun(3600), said_by(2)), (three.to_owned(), three.to_owned()));
    arguments(&folder.path().join("checkpoint-20"), 1);
    assert_eq!(said_by(2), "checkpoint-20 @20 rng_state.pth is missing");
}

#[test]
fn a_rank_beyond_all_numbers_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 10);
    save(folder.path(), 20);
    for step in [10, 20] {
        let at = folder.path().join(format!("checkpoint-{step}/rng_state_{}.pth", u64::MAX));
        torch(&at, &Item::Dict(vec![]));
    }
    let said = said(Layout::Hf, folder.path(), &job(4)).remove(0);
    assert!(said.contains("rng_state_2.pth is missing, and others are"), "{said}");
}

#[test]
fn random_states_fit_each_other_where_nobody_knows_the_ranks() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), 10);
    let at = folder.path().join("checkpoint-10");
    assert_eq!(said_of(Layout::Hf, folder.path()), ["checkpoint-10 @10 whole"]);
    fs::remove_file(at.join("rng_state_1.pth")).unwrap();
    let alone = "checkpoint-10 @10 rng_state_1.pth is missing: the job has 2 ranks";
    assert_eq!(said_of(Layout::Hf, folder.path()), [alone]);
    fs::rename(at.join("rng_state_0.pth"), at.join("rng_state_1.pth")).unwrap();
    assert!(said_of(Layout::Hf, folder.path())[0].contains("rng_state_0.pth is missing"));
    fs::rename(at.join("rng_state_1.pth"), at.join("rng_state.pth")).unwrap();
    assert_eq!(said_of(Layout::Hf, folder.path()), ["checkpoint-10 @10 whole"]);
    fs::remove_file(at.join("rng_state.pth")).unwrap();
    assert_eq!(said_of(Layout::Hf, folder.path()), ["checkpoint-10 @10 rng_state.pth is missing"]);
}

#[test]
fn the_highest_number_is_first_and_other_names_are_none() {
    let folder = tempfile::tempdir().unwrap();
    for step in [5, 100, 20] {
        save(folder.path(), step);
    }
    fs::create_dir(folder.path().join("checkpoint-best")).unwrap();
    fs::create_dir(folder.path().join("checkpoint-200.broken")).unwrap();
    let said = said(Layout::Hf, folder.path(), &job(2));
    assert_eq!(
        said,
        ["checkpoint-100 @100 whole", "checkpoint-20 @20 whole", "checkpoint-5 @5 whole"]
    );
    let own = folder.path().join("checkpoint-20");
    assert_eq!(said_of(Layout::Hf, &own), [" @20 whole"], "one that is named itself");
}
