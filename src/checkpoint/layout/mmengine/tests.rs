use super::super::samples::{Item, age, cut, said, said_of, text, torch};
use super::*;

fn save(path: &Path, iter: u32) {
    let meta = Item::Dict(vec![("epoch", Item::Number(1)), ("iter", Item::Number(iter))]);
    let state = vec![("meta", meta), ("optimizer", Item::Dict(vec![]))];
    torch(path, &Item::Dict(state));
}

#[test]
fn epochs_are_ordered_and_their_iterations_are_steps() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for epoch in [2, 9, 10] {
        save(&at(&format!("epoch_{epoch}.pth")), epoch * 100);
    }
    for name in ["best_acc_epoch_3.pth", "epoch_10-1a2b3c4d.pth", "iter_7.pth.tmp"] {
        save(&at(name), 1);
    }
    cut(&at("epoch_10.pth"));
    let said = said_of(Layout::Mmengine, folder.path());
    assert!(said[0].starts_with("epoch_10.pth epoch_10.pth "), "{}", said[0]);
    assert_eq!(said[1..], ["epoch_9.pth @900 whole", "epoch_2.pth @200 whole"]);
}

#[test]
fn two_kinds_of_names_go_by_age() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    save(&at("iter_5000.pth"), 5000);
    save(&at("epoch_3.pth"), 6000);
    age(&at("iter_5000.pth"), 1);
    age(&at("epoch_3.pth"), 2);
    assert_eq!(
        said_of(Layout::Mmengine, folder.path()),
        ["epoch_3.pth @6000 whole", "iter_5000.pth @5000 whole"]
    );
}

#[test]
fn files_without_an_optimizer_are_weights() {
    let folder = tempfile::tempdir().unwrap();
    for (at, version) in [(5, "mmengine_version"), (6, "mmcv_version")] {
        let meta = Item::Dict(vec![(version, Item::Number(1)), ("iter", Item::Number(at))]);
        let weights = Item::Dict(vec![("meta", meta), ("state_dict", Item::Nothing)]);
        torch(&folder.path().join(format!("iter_{at}.pth")), &weights);
    }
    let expected = ["iter_6.pth @6", "iter_5.pth @5"]
        .map(|name| format!("{name} export: weights only: no optimizer in it"));
    assert_eq!(said_of(Layout::Mmengine, folder.path()), expected);
}

/// The names are usual, and so is what the tutorials of `PyTorch` save under them.
#[test]
fn files_of_other_scripts_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let state = ["epoch", "model_state_dict", "optimizer_state_dict", "loss"];
    let state = state.map(|key| (key, Item::Number(3)));
    torch(&folder.path().join("epoch_3.pth"), &Item::Dict(state.to_vec()));
    assert_eq!(said_of(Layout::Mmengine, folder.path()), ["epoch_3.pth whole"]);
}

#[test]
fn sharded_folders_need_every_rank() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("epoch_1.pth");
    torch(&at.join("rank0.pth"), &Item::Dict(vec![]));
    let cx = Cx { world_size: Some(2), ..Cx::default() };
    let missing = "epoch_1.pth rank1.pth is missing: the job has 2 ranks";
    assert_eq!(said(Layout::Mmengine, folder.path(), &cx), [missing]);
    torch(&at.join("rank1.pth"), &Item::Dict(vec![]));
    assert_eq!(said(Layout::Mmengine, folder.path(), &cx), ["epoch_1.pth whole"]);
}

#[test]
fn the_pointer_is_told_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = |folder: &Path| {
        let mut io = Io::until(None);
        let entries = io.list(folder).unwrap();
        Mmengine.pointer(folder, &entries, &mut io)
    };
    assert_eq!(pointer(folder.path()), None);
    text(&folder.path().join(POINTER), "/moved/epoch_3.pth");
    let names = pointer(folder.path()).unwrap().names;
    assert_eq!(names.as_deref(), Some("/moved/epoch_3.pth"));
    text(&folder.path().join(POINTER), "");
    assert_eq!(pointer(folder.path()).unwrap().names, None);
}
