use std::fs;
use std::os::unix::fs::symlink;

use super::super::samples::{Item, age, cut, said_of, text, torch};
use super::*;

fn save(path: &Path, step: u32, seconds: u64) {
    let state = vec![
        ("pytorch-lightning_version", Item::Nothing),
        ("global_step", Item::Number(step)),
        ("callbacks", Item::Dict(vec![])),
        ("optimizer_states", Item::List(vec![])),
    ];
    torch(path, &Item::Dict(state));
    age(path, seconds);
}

#[test]
fn steps_are_in_names_or_in_the_files() {
    for (name, step) in [
        ("epoch=3-step=20.ckpt", Some(20)),
        ("epoch=3-step=20-v1.ckpt", Some(20)),
        ("step=7-val_loss=0.25.ckpt", Some(7)),
        ("last.ckpt", None),
        ("epoch=3.ckpt", None),
    ] {
        assert_eq!(step_of(name), step, "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    save(&at("epoch=0-step=5.ckpt"), 5, 1);
    save(&at("epoch=1-step=10.ckpt"), 10, 2);
    save(&at("last.ckpt"), 12, 3);
    save(&at("hpc_ckpt_1.ckpt"), 7, 4);
    let said = said_of(Layout::Lightning, folder.path());
    assert_eq!(
        said,
        [
            "last.ckpt @12 whole",
            "epoch=1-step=10.ckpt @10 whole",
            "hpc_ckpt_1.ckpt @7 whole",
            "epoch=0-step=5.ckpt @5 whole"
        ]
    );
}

#[test]
fn a_broken_last_one_stands_before_what_is_older() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    save(&at("epoch=1-step=10.ckpt"), 10, 2);
    save(&at("last.ckpt"), 12, 3);
    cut(&at("last.ckpt"));
    age(&at("last.ckpt"), 3);
    let said = said_of(Layout::Lightning, folder.path());
    assert!(said[0].starts_with("last.ckpt last.ckpt "), "{}", said[0]);
    assert_eq!(said[1], "epoch=1-step=10.ckpt @10 whole");
}

#[test]
fn links_lead_somewhere_or_are_broken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("epoch=1-step=10.ckpt", at("last.ckpt")).unwrap();
    let dangling = "last.ckpt last.ckpt leads to epoch=1-step=10.ckpt, which is missing";
    assert_eq!(said_of(Layout::Lightning, folder.path()), [dangling]);
    save(&at("epoch=1-step=10.ckpt"), 10, 2);
    let said = said_of(Layout::Lightning, folder.path());
    assert_eq!(said, ["last.ckpt @10 whole", "epoch=1-step=10.ckpt @10 whole"]);
}

#[test]
fn weights_are_no_resume_point_and_fabrics_files_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let weights =
        vec![("pytorch-lightning_version", Item::Nothing), ("global_step", Item::Number(9))];
    torch(&folder.path().join("step=9.ckpt"), &Item::Dict(weights));
    torch(&folder.path().join("step=8.ckpt"), &Item::Dict(vec![("step", Item::Number(8))]));
    assert_eq!(
        said_of(Layout::Lightning, folder.path()),
        ["step=9.ckpt @9 export: weights only: no optimizer_states in it", "step=8.ckpt @8 whole"]
    );
}

/// A kill between the last part and `latest`: Lightning asks for no tag, and raises.
#[test]
fn deepspeeds_folders_need_latest() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("step=5.ckpt").join(name);
    let state = Item::Dict(vec![
        ("dp_world_size", Item::Number(1)),
        ("mp_world_size", Item::Number(1)),
        ("global_steps", Item::Number(5)),
    ]);
    torch(&at("checkpoint/mp_rank_00_model_states.pt"), &state);
    torch(&at("checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt"), &Item::Dict(vec![]));
    let said = || said_of(Layout::Lightning, folder.path());
    assert_eq!(said(), ["step=5.ckpt @5 latest is missing"]);
    text(&at("latest"), "");
    assert_eq!(said(), ["step=5.ckpt @5 latest is empty or torn"]);
    text(&at("latest"), "checkpoint");
    assert_eq!(said(), ["step=5.ckpt @5 whole"]);
    fs::remove_file(at("checkpoint/mp_rank_00_model_states.pt")).unwrap();
    assert!(said()[0].contains("checkpoint/mp_rank_00_model_states.pt is missing"), "{:?}", said());
}

#[test]
fn folders_of_versions_are_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    for (version, step) in [(0, 5), (2, 15), (10, 20)] {
        let name = format!("lightning_logs/version_{version}/checkpoints/step={step}.ckpt");
        save(&folder.path().join(name), step, 1);
    }
    fs::create_dir_all(folder.path().join("lightning_logs/version_11")).unwrap();
    let said = said_of(Layout::Lightning, folder.path());
    assert_eq!(said.len(), 3);
    assert_eq!(said[0], "lightning_logs/version_10/checkpoints/step=20.ckpt @20 whole");
}
