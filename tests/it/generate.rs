//! What packages and editors are given, from the real program.

use std::path::Path;

use crate::harness::Job;

fn printed(words: &[&str]) -> String {
    let end = Job::new().args(words).run().expect_code(0);
    assert_eq!(end.stderr, "", "{words:?}");
    end.stdout
}

/// The committed files are what the program prints, byte for byte.
#[test]
fn the_committed_files_are_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        ("REFERENCE.md", ["generate", "reference"]),
        ("launch-profiles/schema.json", ["profile", "schema"]),
    ];
    for (file, words) in files {
        let committed = fs_err::read_to_string(root.join(file)).expect("the file is committed");
        assert!(
            printed(&words) == committed,
            "{file} is stale: write it anew with `make reference`"
        );
    }
}

#[test]
fn the_manual_and_completions_are_printed() {
    let manual = printed(&["generate", "man"]);
    assert!(manual.starts_with(".TH NVLAUNCH 1 "), "{manual}");
    assert!(printed(&["generate", "man", "explain"]).starts_with(".TH NVLAUNCH-EXPLAIN 1 "));
    let script = printed(&["generate", "completions", "bash"]);
    assert_eq!(script, printed(&["--print-completion", "bash"]));
}
