//! Tags of small files: what is whole, and what is said of the others.

use std::fs;

use super::*;
use crate::checkpoint::layout::fixtures::{Item, numbers, torch};

/// What a model file of this step and this world says; with an optimizer of its own, or parts.
fn model(step: u32, dp: u32, mp: u32, has_parts: bool) -> Item {
    let shapes = if has_parts { numbers(&[4]) } else { Item::Nothing };
    let optimizer = if has_parts { Item::Nothing } else { Item::Dict(Vec::new()) };
    Item::Dict(vec![
        ("global_steps", Item::Number(step)),
        ("dp_world_size", Item::Number(dp)),
        ("mp_world_size", Item::Number(mp)),
        ("param_shapes", shapes),
        ("optimizer", optimizer),
    ])
}

fn part(partitions: Item) -> Item {
    let state = Item::Dict(vec![("partition_count", partitions)]);
    Item::Dict(vec![("optimizer_state_dict", state)])
}

/// What `global_step7` with these files is.
fn verdict(files: &[(&str, Item)], world_size: Option<u32>) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    for (name, item) in files {
        torch(&dir.path().join(name), item);
    }
    judged(&dir.path().join("global_step7"), world_size).verdict
}

fn judged(path: &Path, world_size: Option<u32>) -> Judged {
    let found = Found {
        layout: Layout::Deepspeed,
        path: path.to_owned(),
        number: None,
        step: None,
        modified: None,
    };
    let cx = Cx { world_size, ..Cx::default() };
    Deepspeed.judge(&found, &cx, &mut Io::until(None)).unwrap()
}

fn flaws(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Broken(flaws) => flaws.iter().map(ToString::to_string).collect(),
        _ => panic!("{verdict:?}"),
    }
}

const MODEL: &str = "global_step7/mp_rank_00_model_states.pt";
const PARTS: [&str; 2] = [
    "global_step7/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "global_step7/zero_pp_rank_1_mp_rank_00_optim_states.pt",
];

#[test]
fn the_files_say_how_many_ranks_wrote() {
    let [first, second] = PARTS.map(|name| (name, part(Item::Number(2))));
    let whole = [(MODEL, model(7, 2, 1, true)), first.clone(), second];
    // the job that resumes may have another size
    for world_size in [None, Some(2), Some(8)] {
        assert_eq!(verdict(&whole, world_size), Verdict::Whole, "{world_size:?}");
    }
    let lacking = flaws(&verdict(&[whole[0].clone(), first], Some(1)));
    let expected =
        "zero_pp_rank_1_mp_rank_00_optim_states.pt is missing: 2 ranks wrote their parts";
    assert_eq!(lacking, [expected]);
    let lacking = flaws(&verdict(&[(MODEL, model(7, 1, 1, true))], None));
    assert_eq!(lacking.len(), 1, "no part at all: {lacking:?}");
    let bf16 = "global_step7/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt";
    let files = [whole[0].clone(), (bf16, part(Item::Number(2)))];
    assert_eq!(flaws(&verdict(&files, None)), [format!("bf16_{expected}")]);
    let lacking = flaws(&verdict(&[(MODEL, model(7, 1, 2, false))], None));
    assert_eq!(lacking, ["mp_rank_01_model_states.pt is missing"]);
    let lacking = flaws(&verdict(&[(PARTS[0], part(Item::Number(1)))], None));
    assert_eq!(lacking, ["mp_rank_00_model_states.pt is missing"]);
}

#[test]
fn the_optimizer_knows_best_in_how_many_parts_it_is() {
    // parameters are partitioned in groups that are smaller than the world
    let two = PARTS.map(|name| (name, part(Item::Number(2))));
    let files = [(MODEL, model(7, 4, 1, true)), two[0].clone(), two[1].clone()];
    assert_eq!(verdict(&files, None), Verdict::Whole);
    let groups = PARTS.map(|name| (name, part(numbers(&[1, 3]))));
    let files = [(MODEL, model(7, 2, 1, true)), groups[0].clone(), groups[1].clone()];
    assert_eq!(flaws(&verdict(&files, None)).len(), 1, "the third of a group");
}

#[test]
fn without_a_word_of_the_world_the_job_counts_and_then_the_neighbours() {
    let silent = || Item::Dict(Vec::new());
    let files = [(MODEL, silent()), (PARTS[0], silent())];
    let lacking = flaws(&verdict(&files, Some(2)));
    let expected = "zero_pp_rank_1_mp_rank_00_optim_states.pt is missing: the job has 2 ranks";
    assert_eq!(lacking, [expected]);
    assert_eq!(verdict(&files, Some(1)), Verdict::Whole);
    assert_eq!(verdict(&files, None), Verdict::Whole, "nothing is known");
    let mut beside = files.to_vec();
    beside.push(("global_step6/zero_pp_rank_1_mp_rank_00_optim_states.pt", silent()));
    let lacking = flaws(&verdict(&beside, None));
    let expected = "zero_pp_rank_1_mp_rank_00_optim_states.pt is missing: global_step6 has it";
    assert_eq!(lacking, [expected]);
}

#[test]
fn a_layer_that_the_neighbours_have_is_missing() {
    let layer = |name| (name, Item::Dict(Vec::new()));
    let mut files = vec![
        (MODEL, model(7, 1, 1, false)),
        layer("global_step7/layer_00-model_states.pt"),
        layer("global_step6/layer_00-model_states.pt"),
    ];
    assert_eq!(verdict(&files, None), Verdict::Whole);
    files.push(layer("global_step6/layer_01-model_states.pt"));
    let lacking = flaws(&verdict(&files, None));
    assert_eq!(lacking, ["layer_01-model_states.pt is missing: global_step6 has it"]);
}

#[test]
fn model_files_of_two_steps_are_no_save() {
    let files = |other| {
        [
            ("global_step7/zero_pp_rank_0_mp_rank_00_model_states.pt", model(7, 2, 1, true)),
            ("global_step7/zero_pp_rank_1_mp_rank_00_model_states.pt", other),
            (PARTS[0], part(Item::Number(2))),
            (PARTS[1], part(Item::Number(2))),
        ]
    };
    assert_eq!(verdict(&files(model(7, 2, 1, true)), None), Verdict::Whole);
    let lacking = flaws(&verdict(&files(model(6, 2, 1, true)), None));
    let expected = "zero_pp_rank_1_mp_rank_00_model_states.pt is of step 6, others are of step 7";
    assert_eq!(lacking, [expected]);
}

#[test]
fn weights_alone_and_converted_tags_are_exports() {
    let mut weights = model(7, 1, 1, false);
    if let Item::Dict(items) = &mut weights {
        items.retain(|(key, _)| *key != "optimizer");
        items.push(("optimizer", Item::Nothing));
    }
    assert!(matches!(verdict(&[(MODEL, weights)], None), Verdict::Export(_)));
    assert_eq!(verdict(&[(MODEL, model(7, 1, 1, false))], None), Verdict::Whole);
    let universal = [(MODEL, model(7, 2, 1, true)), ("global_step7/zero/w/fp32.pt", Item::Nothing)];
    assert!(matches!(verdict(&universal, None), Verdict::Export(_)));
}

#[test]
fn the_step_of_a_tag_without_one_is_in_its_files() {
    let dir = tempfile::tempdir().unwrap();
    torch(&dir.path().join("last/mp_rank_00_model_states.pt"), &model(7, 1, 1, false));
    let judged = judged(&dir.path().join("last"), None);
    assert_eq!((judged.verdict, judged.step, judged.files), (Verdict::Whole, Some(7), 1));
}

#[test]
fn every_file_of_torch_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    torch(&dir.path().join(MODEL), &model(7, 1, 1, false));
    fs::write(dir.path().join("global_step7/client.pt"), "torn").unwrap();
    let judged = judged(&dir.path().join("global_step7"), None);
    assert_eq!(flaws(&judged.verdict).len(), 1, "{judged:?}");
}

fn made(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    dir
}

#[test]
fn tags_are_known_by_their_names_or_their_files() {
    let dir = made(&[
        "global_step10/other",
        "global_step20_universal/other",
        "epoch7/mp_rank_00_model_states.pt",
        "best/zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "logs7/events",
        "layers/layer_00-model_00-model_states.pt",
    ]);
    let mut io = Io::until(None);
    let entries = io.list(dir.path()).unwrap();
    let found = Deepspeed.find(dir.path(), &entries, &Cx::default(), &mut io).unwrap();
    let mut found: Vec<_> = found
        .iter()
        .map(|found| (found.path.file_name().unwrap().to_str().unwrap(), found.number, found.step))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("best", None, None),
            ("epoch7", Some(7), None),
            ("global_step10", Some(10), Some(10)),
            ("global_step20_universal", None, None),
        ]
    );
}

#[test]
fn the_nearest_tags_are_the_neighbours() {
    let tags = ["s1/x", "s2/x", "s3/x", "s9/x", "s10/x", "best/x"];
    let dir = made(&tags);
    let near = neighbours(&dir.path().join("s10"), &mut Io::until(None)).unwrap();
    let near: Vec<_> = near.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(near, ["s9", "s3", "s2"]);
    let near = neighbours(&dir.path().join("best"), &mut Io::until(None)).unwrap();
    assert_eq!(near, Vec::<PathBuf>::new());
}

#[test]
fn a_pointer_is_what_stands_in_it() {
    let dir = made(&["global_step10/x"]);
    let named = |text: Option<&str>| {
        let file = dir.path().join("latest");
        match text {
            Some(text) => fs::write(file, text).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let mut io = Io::until(None);
        let entries = io.list(dir.path()).unwrap();
        Deepspeed.pointer(dir.path(), &entries, &mut io)
    };
    let pointer = named(Some("global_step10"));
    assert_eq!(pointer.unwrap().names.as_deref(), Some("global_step10"));
    assert_eq!(named(Some("")).unwrap().names, None);
    assert_eq!(named(None), None);
}

#[test]
fn a_part_that_is_left_from_an_earlier_save_is_seen_and_a_copy_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let all = [MODEL, PARTS[0], PARTS[1]].map(|name| dir.path().join(name));
    torch(&all[0], &model(7, 2, 1, true));
    all[1..].iter().for_each(|path| torch(path, &part(Item::Number(2))));
    let made = fs::metadata(&all[2]).unwrap().modified().unwrap();
    let change = |path: &Path, time: SystemTime| {
        fs::File::open(path).unwrap().set_modified(time).unwrap();
        judged(&dir.path().join("global_step7"), None).verdict
    };
    // written over an hour later, and none of the others was
    let later = made + Duration::from_secs(3600);
    let expected = "zero_pp_rank_0_mp_rank_00_optim_states.pt is older than \
                    mp_rank_00_model_states.pt: a save did not end";
    assert_eq!(flaws(&change(&all[0], later)), [expected]);
    assert_eq!(flaws(&change(&all[1], later)).len(), 1, "the other part");
    assert_eq!(change(&all[2], later), Verdict::Whole);
    // ranks that do not wait for each other end some seconds apart
    let earlier = later.checked_sub(Duration::from_secs(5)).unwrap();
    assert_eq!(change(&all[2], earlier), Verdict::Whole);
    assert_eq!(flaws(&change(&all[1], earlier)).len(), 1, "one rank writes in order");
    // copied here later than it was written, in another order
    let before = made.checked_sub(Duration::from_secs(3600)).unwrap();
    change(&all[0], made);
    change(&all[2], before);
    assert_eq!(change(&all[1], before), Verdict::Whole);
}

#[test]
fn a_tag_that_cannot_be_looked_into_is_known_by_its_name() {
    let tags = [("ckpt-100", None), ("best", None)];
    for (name, expected) in [
        ("ckpt-200", true),
        ("lost+found", false),
        ("logs-2", false),
        ("200", false),
        ("ckpt-", false),
        ("best", false),
    ] {
        assert_eq!(is_like_one_of(name, &tags), expected, "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let found = || {
        let mut io = Io::until(None);
        let entries = io.list(dir.path()).unwrap();
        let found = Deepspeed.find(dir.path(), &entries, &Cx::default(), &mut io).unwrap();
        let name = |found: &Found| found.path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = found.iter().map(name).collect();
        names.sort();
        names
    };
    torch(&dir.path().join("ckpt-100/mp_rank_00_model_states.pt"), &model(1, 1, 1, false));
    for name in ["ckpt-200", "ckpt-300", "lost+found"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    assert_eq!(found(), ["ckpt-100"], "an empty folder is none");
    // Root may look into everything; a folder of too many files is closed to it, too.
    let full = dir.path().join("ckpt-300");
    for number in 0..=crate::checkpoint::io::MAX_ENTRIES {
        std::os::unix::fs::symlink("x", full.join(number.to_string())).unwrap();
    }
    assert_eq!(found(), ["ckpt-100", "ckpt-300"]);
}
