use super::*;

#[test]
fn names_of_shards_are_told_from_others() {
    for (name, index) in [
        ("model-00001-of-00002.safetensors", Some("model.safetensors.index.json")),
        ("pytorch_model-00001-of-00002.bin", Some("pytorch_model.bin.index.json")),
        ("model.safetensors", None),
        ("model-of-00002.safetensors", None),
        ("one-of-us.bin", None),
    ] {
        assert_eq!(is_shard_name(name), index.is_some(), "{name}");
        if let Some(index) = index {
            assert_eq!(index_of(name), index);
        }
    }
    assert_eq!(between("rng_state_12.pth", "rng_state_", ".pth"), Some(12));
    assert_eq!(between("rng_state_.pth", "rng_state_", ".pth"), None);
    assert_eq!(between("ab", "ab", "b"), None, "they may not overlap");
    assert_eq!(number("+1"), None);
}

#[test]
fn files_with_flaws_are_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut io = Io::until(None);
    for name in ["a.pt", "b.safetensors", "c.json"] {
        std::fs::write(folder.path().join(name), "half").unwrap();
    }
    let mut parts = Parts::open(folder.path(), &mut io).unwrap();
    for name in ["a.pt", "b.safetensors", "gone.pt"] {
        parts.tensors(name, &mut io).unwrap();
    }
    parts.json_if_there("c.json", &mut io).unwrap();
    let judged = parts.finish(None, None);
    assert!(matches!(&judged.verdict, Verdict::Broken(flaws) if flaws.len() == 4));
    assert_eq!((judged.files, judged.bytes), (3, 12));
    let written = std::fs::metadata(folder.path().join("b.safetensors")).unwrap().modified();
    assert!(judged.modified >= Some(written.unwrap()));
}
