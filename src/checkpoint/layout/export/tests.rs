use super::super::samples::{cut, safetensors, said_of, text};
use super::*;

#[test]
fn weights_are_told_and_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    safetensors(&at("adapter.safetensors"));
    for shard in 1..=2 {
        safetensors(&at(&format!("model-0000{shard}-of-00002.safetensors")));
    }
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors",
                   "b": "model-00002-of-00002.safetensors"}}"#;
    text(&at("model.safetensors.index.json"), index);
    let mut said = said_of(Layout::Export, folder.path());
    said.sort();
    let whole = "export: weights only: safetensors";
    assert_eq!(
        said,
        [format!("adapter.safetensors {whole}"), format!("model.safetensors.index.json {whole}")]
    );
    cut(&at("model-00002-of-00002.safetensors"));
    let said = said_of(Layout::Export, folder.path());
    let is_told = |said: &String| {
        said.starts_with("model.safetensors.index.json model-00002-of-00002.safetensors is ")
    };
    assert!(said.iter().any(is_told), "{said:?}");
    std::fs::remove_file(at("model.safetensors.index.json")).unwrap();
    let said = said_of(Layout::Export, folder.path());
    let missing = "model.safetensors.index.json model.safetensors.index.json is missing, and the \
                   weights are in shards";
    assert!(said.iter().any(|said| said == missing), "{said:?}");
}
