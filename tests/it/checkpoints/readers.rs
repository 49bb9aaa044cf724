//! The readers beside `PyTorch` itself: what it writes is whole, however it is asked to write it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use fs_err as fs;
use nvlaunch::checkpoint::io::Io;
use nvlaunch::checkpoint::layout::dcp;
use nvlaunch::checkpoint::read::torch_file;

use crate::harness::venv;

fn checked(path: &Path) -> Result<torch_file::TorchFile, String> {
    let mut io = Io::until(None);
    let checked = torch_file::check(path, &mut io).expect("it can be read");
    // However large a file is (F1).
    assert!(io.operations() < 120 && io.bytes() < 1 << 20, "{}: {io:?}", path.display());
    checked
}

fn flaws(folder: &Path) -> Vec<String> {
    let dcp = dcp::judge_folder(folder, &mut Io::until(None)).expect("it can be read");
    dcp.flaws.iter().map(ToString::to_string).collect()
}

#[test]
fn what_torch_writes_is_read() {
    let top = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts/save_files.py");
    let saved = Command::new(venv("python")).arg(script).arg(top.path()).output();
    let saved = saved.expect("python starts");
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));

    files(top.path());
    large(&top.path().join("large.pt"));
    folders(top.path());
    copies(top.path());
}

fn files(top: &Path) {
    for protocol in 0..6 {
        for (name, is_legacy) in [("zip", false), ("legacy", true)] {
            let path = top.join(format!("{name}-{protocol}.pt"));
            if is_legacy && protocol == 0 {
                // The ids of storages are texts there, which torch cannot read again either.
                assert!(checked(&path).unwrap_err().contains("cannot be told"));
                continue;
            }
            let file = checked(&path).unwrap_or_else(|what| panic!("{} {what}", path.display()));
            assert_eq!(file.is_legacy, is_legacy);
            let state = torch_file::load(&path, &file, &mut Io::until(None)).unwrap().unwrap();
            assert_eq!(state.get("step").and_then(|step| step.as_u64()), Some(7));
            let groups = state.get("optimizer").and_then(|all| all.get("param_groups")).unwrap();
            assert_eq!(
                groups.at(0).and_then(|g| g.get("lr")).and_then(|lr| lr.as_f64()),
                Some(1e-3)
            );
            for len in [file.size - 1, file.size / 2, 100, 0] {
                let cut = fs::OpenOptions::new().write(true).open(&path).unwrap();
                cut.set_len(len).unwrap();
                assert!(checked(&path).is_err(), "{} cut to {len}", path.display());
            }
        }
    }
    checked(&top.join("many.pt")).unwrap();
}

fn large(path: &Path) {
    let file = checked(path).unwrap();
    assert!(file.size > 5 << 30);
    let state = torch_file::load(path, &file, &mut Io::until(None)).unwrap().unwrap();
    assert_eq!(state.get("step").and_then(|step| step.as_u64()), Some(7));
    let cut = fs::OpenOptions::new().write(true).open(path).unwrap();
    cut.set_len(file.size - 1).unwrap();
    assert!(checked(path).is_err());
}

fn folders(top: &Path) {
    for name in ["one", "threads", "each", "unsynced", "twice"] {
        assert_eq!(flaws(&top.join(name)), [""; 0], "{name}");
    }
    // A save into a folder with an older checkpoint was killed: its sizes are those of the old one.
    let over = flaws(&top.join("over"));
    assert_eq!(over.len(), 2, "{over:?}");
    assert!(over.iter().all(|flaw| flaw.contains("did not end")), "{over:?}");
}

/// A copy is as whole as what it was copied from, in whatever order it was made.
fn copies(top: &Path) {
    let whole = top.join("threads");
    if fs::metadata(&whole).unwrap().created().is_err() {
        println!("copies are skipped: this file system does not know when files were made");
        return;
    }
    let names = ["__0_2.distcp", ".metadata", "__0_0.distcp", "__0_1.distcp", "__0_3.distcp"];
    let copy = top.join("copy");
    fs::create_dir(&copy).unwrap();
    for name in names {
        fs::copy(whole.join(name), copy.join(name)).unwrap();
    }
    assert_eq!(flaws(&copy), [""; 0]);
    // As some copying programs leave it: times of their own, the index's first.
    for (number, name) in names.iter().enumerate() {
        let file = fs::OpenOptions::new().write(true).open(copy.join(name)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number as u64 * 100);
        file.set_modified(time).unwrap();
    }
    assert_eq!(flaws(&copy), [""; 0]);
    let copied = Command::new("cp").arg("-a").arg(&whole).arg(top.join("kept")).status();
    assert!(copied.expect("cp starts").success());
    assert_eq!(flaws(&top.join("kept")), [""; 0]);
    let times = |folder: &Path| fs::metadata(folder.join(".metadata")).unwrap().mtime_nsec();
    assert_eq!(times(&top.join("kept")), times(&whole), "cp kept the times");
}
