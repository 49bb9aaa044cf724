use std::fs;

use super::super::samples::{Item, age, cut, safetensors, said, said_of, text, torch};
use super::*;

const NAMES: &[&str] =
    &["optimizer.bin", "scheduler.bin", "random_states_1.pkl", OWN, "custom_checkpoint_0.pkl"];

/// What two ranks leave.
fn save(checkpoint: &Path) {
    safetensors(&checkpoint.join("model.safetensors"));
    for (seconds, name) in NAMES.iter().enumerate() {
        torch(&checkpoint.join(name), &Item::Dict(vec![]));
        age(&checkpoint.join(name), seconds as u64);
    }
    age(&checkpoint.join("model.safetensors"), 0);
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
            |at| fs::remove_file(at.join("optimizer.bin")).unwrap(),
            "export: weights only: no optimizer.bin",
        ),
        (
            |at| fs::remove_file(at.join("model.safetensors")).unwrap(),
            "model.safetensors is missing, and so is any other form of weights",
        ),
        (
            |at| fs::remove_file(at.join(OWN)).unwrap(),
            "random_states_0.pkl is missing: it was saved by 2 ranks",
        ),
        (
            |at| fs::remove_file(at.join("random_states_1.pkl")).unwrap(),
            "random_states_1.pkl is missing: the job has 2 ranks",
        ),
        (
            |at| fs::remove_file(at.join("custom_checkpoint_0.pkl")).unwrap(),
            "custom_checkpoint_0.pkl is missing, and checkpoint_1 has it",
        ),
        (|at| text(&at.join("scheduler.bin"), ""), "scheduler.bin is empty"),
        (
            |at| age(&at.join("optimizer.bin"), 20),
            "optimizer.bin is newer than random_states_0.pkl, which is written last: a save over an \
             older one did not end (if it was copied and is right, `touch` random_states_0.pkl)",
        ),
        (
            |at| {
                for name in ["scaler.pt", "dl_state_dict.bin", "dl_state_dict_1.bin"] {
                    torch(&at.join(name), &Item::Dict(vec![]));
                    age(&at.join(name), 20);
                }
            },
            // another rank wrote them later
            "whole",
        ),
    ];
    for (damage, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        for count in 0..3 {
            save(&folder.path().join(format!("checkpoints/checkpoint_{count}")));
        }
        damage(&folder.path().join("checkpoints/checkpoint_2"));
        let said = said(Layout::Accelerate, folder.path(), &job(2));
        let expected = format!("checkpoints/checkpoint_2 {expected}");
        assert_eq!(
            said,
            [&*expected, "checkpoints/checkpoint_1 whole", "checkpoints/checkpoint_0 whole"]
        );
    }
}

#[test]
fn a_cut_file_of_each_kind_is_noticed() {
    for name in NAMES.iter().copied().chain(["model.safetensors"]) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("checkpoint_0");
        save(&at);
        cut(&at.join(name));
        let said = said(Layout::Accelerate, folder.path(), &job(2)).remove(0);
        assert!(said.starts_with(&format!("checkpoint_0 {name} ")), "{said}");
    }
}

#[test]
fn names_of_scripts_are_known_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("step_30")).unwrap();
    assert!(said_of(Layout::Accelerate, folder.path()).is_empty(), "anybody's");
    save(&folder.path().join("step_20"));
    let said = said_of(Layout::Accelerate, folder.path());
    assert!(said[0].starts_with("step_30 @30 model.safetensors is missing"), "{}", said[0]);
    assert_eq!(said[1], "step_20 @20 whole");
    // An epoch is no step: then the newest is first.
    save(&folder.path().join("epoch_1"));
    age(&folder.path().join("step_20"), 1);
    age(&folder.path().join("step_30"), 2);
    age(&folder.path().join("epoch_1"), 3);
    let names: Vec<String> = said_of(Layout::Accelerate, folder.path());
    let names: Vec<&str> = names.iter().filter_map(|said| said.split(' ').next()).collect();
    assert_eq!(names, ["epoch_1", "step_30", "step_20"]);
}

#[test]
fn folders_of_others_with_the_automatic_names_are_left_to_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checkpoint_300")).unwrap();
    assert!(said_of(Layout::Accelerate, folder.path()).is_empty(), "an empty one is anybody's");
    for name in [".metadata", "__0_0.distcp"] {
        text(&folder.path().join("checkpoint_200").join(name), "…");
        // beside the shards somebody may have left weights
        safetensors(&folder.path().join("checkpoint_200/model.safetensors"));
        assert!(said_of(Layout::Accelerate, folder.path()).is_empty(), "{name}");
    }
    save(&folder.path().join("checkpoint_100"));
    let said = said_of(Layout::Accelerate, folder.path());
    assert_eq!(said.last().map(String::as_str), Some("checkpoint_100 whole"));
}

#[test]
fn names_say_what_they_count() {
    for (name, kind) in [
        ("checkpoint_0", Some((Kind::Save, 0))),
        ("checkpoint_12", Some((Kind::Save, 12))),
        ("checkpoint_000012", None),
        ("checkpoint-500", Some((Kind::Step, 500))),
        ("step_7", Some((Kind::Step, 7))),
        ("epoch_7", Some((Kind::Epoch, 7))),
        ("epoch_7.pth", None),
        ("checkpoint_", None),
    ] {
        assert_eq!(kind_of(name), kind, "{name}");
    }
}
