use super::super::samples::{Item, age, cut, said, said_of, torch};
use super::*;

#[test]
fn usual_names_are_known() {
    let some = |counts, number| Some((counts, Some(number)));
    for (name, said) in [
        ("step_100.pt", some(Counts::Steps, 100)),
        ("step-00000020.pt", some(Counts::Steps, 20)),
        ("global_step7.pt", some(Counts::Steps, 7)),
        ("model_iter_7.pth", some(Counts::Steps, 7)),
        ("ckpt-epoch3.pth", some(Counts::Epochs, 3)),
        ("epoch=12.ckpt", some(Counts::Epochs, 12)),
        ("model_0004999.pth", some(Counts::Something, 4999)),
        ("checkpoint.12.pth.tar", some(Counts::Something, 12)),
        ("200.pt", some(Counts::Something, 200)),
        ("ckpt.pt", Some((Counts::Nothing, None))),
        ("checkpoint.pth.tar", Some((Counts::Nothing, None))),
        ("model_best.pth.tar", None),
        ("optimizer.pt", None),
        ("rng_state_0.pth", None),
        ("checkpoint_rank0.pt", None),
        ("pytorch_model-00001-of-00002.bin", None),
        ("step_100.pt.tmp", None),
        ("step_100.npz", None),
        ("lr_1e-3.pt", None),
        ("größe_é7.pt", None),
        ("step_99999999999999999999.pt", None),
    ] {
        assert_eq!(by_habit(name), said, "{name}");
    }
}

#[test]
fn a_pattern_takes_exactly_what_it_fits() {
    for (name, pattern, said) in [
        ("step_7.pt", "step_{step}.pt", Some((Counts::Steps, Some(7)))),
        ("step_x.pt", "step_{step}.pt", None),
        ("step_7.pt.tmp", "step_{step}.pt", None),
        ("last.pt", "last.pt", Some((Counts::Nothing, None))),
        ("a.pt", "last.pt", None),
        ("s.t", "s{step}s.t", None),
    ] {
        assert_eq!(by_pattern(name, pattern), said, "{name} {pattern}");
    }
}

#[test]
fn the_newest_whole_one_is_found_with_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let state = |step| Item::Dict(vec![("epoch", Item::Number(1)), ("step", Item::Number(step))]);
    torch(&at("epoch_2.pt"), &state(200));
    torch(&at("epoch_10.pt"), &state(1000));
    cut(&at("epoch_10.pt"));
    let said_now = said_of(Layout::Files, folder.path());
    assert!(said_now[0].starts_with("epoch_10.pt epoch_10.pt "), "{}", said_now[0]);
    assert_eq!(said_now[1], "epoch_2.pt @200 whole");
    // Another kind of name: age decides.
    torch(&at("step_7.pt"), &state(7));
    age(&at("step_7.pt"), 9);
    age(&at("epoch_2.pt"), 5);
    age(&at("epoch_10.pt"), 1);
    assert_eq!(said_of(Layout::Files, folder.path())[0], "step_7.pt @7 whole");
    let cx = Cx { pattern: Some("epoch_{step}.pt".to_owned()), ..Cx::default() };
    assert_eq!(said(Layout::Files, folder.path(), &cx).len(), 2);
}
