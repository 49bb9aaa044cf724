//! A folder that `PyTorch` wrote, whole and damaged in every way that can be told.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::*;
use crate::checkpoint::read::samples;

/// The sample, written in the order in which a save writes it.
fn saved() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("step_7");
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in samples::DCP.iter().rev() {
        fs::write(folder.join(name), bytes).unwrap();
    }
    (dir, folder)
}

fn flaws(folder: &Path) -> Vec<String> {
    let dcp = judge_folder(folder, &mut Io::until(None)).unwrap();
    dcp.flaws.iter().map(ToString::to_string).collect()
}

#[test]
fn what_torch_saved_is_whole() {
    let (_dir, folder) = saved();
    let (dcp, contents) = judge_contents(&folder, None, &mut Io::until(None)).unwrap();
    let bytes: usize = samples::DCP.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((dcp.flaws, dcp.files, dcp.bytes), (Vec::new(), 3, bytes as u64));
    assert_eq!(contents.step, Some(9), "train_state.step goes before step");
    assert_eq!(contents.roots, ["model", "step", "train_state"]);
}

#[test]
fn every_damage_is_told() {
    for (name, bytes) in samples::DCP {
        let (_dir, folder) = saved();
        let path = folder.join(name);
        let times = File::open(&path).unwrap().metadata().unwrap();
        let damaged: [Option<&[u8]>; 6] = [
            None,
            Some(b""),
            Some(&bytes[..bytes.len() - 1]),
            Some(&bytes[..bytes.len() / 2]),
            Some(&vec![0; bytes.len()]),
            Some(&[bytes, b"\0"].concat()),
        ];
        for damage in damaged {
            match damage {
                None => fs::remove_file(&path).unwrap(),
                Some(damage) => fs::write(&path, damage).unwrap(),
            }
            if let Ok(file) = File::options().write(true).open(&path) {
                // The bytes are told from, not the times.
                file.set_modified(times.modified().unwrap()).unwrap();
            }
            let flaws = flaws(&folder);
            let size = damage.map(<[u8]>::len);
            assert!(flaws.iter().any(|flaw| flaw.starts_with(name)), "{name} {size:?}: {flaws:?}");
        }
        fs::remove_file(&path).unwrap_or_default();
        fs::create_dir(&path).unwrap();
        assert_eq!(flaws(&folder), [format!("{name} is no file")]);
    }
}

/// What a crash of the machine leaves of files that were not synced: the size, and zeros.
#[test]
fn zeros_are_no_items() {
    let (_dir, folder) = saved();
    let shard = File::options().write(true).open(folder.join("__0_1.distcp")).unwrap();
    let len = shard.metadata().unwrap().len();
    let modified = shard.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&shard, &[0; 30], len - 30).unwrap();
    shard.set_modified(modified).unwrap();
    let flaw = "is damaged: no item begins or ends where one should";
    assert_eq!(flaws(&folder), [format!("__0_1.distcp {flaw}")]);
    // Nothing says that items of torch.save were there; but these are none of anything.
    for name in ["__0_0.distcp", "__0_1.distcp"] {
        let shard = File::options().write(true).open(folder.join(name)).unwrap();
        let len = shard.metadata().unwrap().len();
        shard.set_len(0).unwrap();
        shard.set_len(len).unwrap();
        shard.set_modified(modified).unwrap();
    }
    assert_eq!(flaws(&folder), [format!("__0_0.distcp {flaw}"), format!("__0_1.distcp {flaw}")]);
}

#[test]
fn flaws_say_what_is_needed() {
    let (_dir, folder) = saved();
    let shard = folder.join("__0_0.distcp");
    let len = fs::metadata(&shard).unwrap().len();
    File::options().write(true).open(&shard).unwrap().set_len(len - 100).unwrap();
    let expected = format!(
        "__0_0.distcp is {} bytes, .metadata needs {}",
        thousands(len - 100),
        thousands(len)
    );
    assert_eq!(flaws(&folder)[0], expected);
    fs::remove_file(&shard).unwrap();
    assert_eq!(flaws(&folder), ["__0_0.distcp is missing"]);
    fs::remove_file(folder.join(".metadata")).unwrap();
    assert_eq!(flaws(&folder), [".metadata is missing: the save did not end"]);
    let (_dir, folder) = saved();
    fs::write(folder.join(".metadata.tmp"), b"").unwrap();
    assert_eq!(flaws(&folder), [".metadata.tmp is there: a save into this folder did not end"]);
}

#[test]
fn links_and_fifos_are_no_shards() {
    let (_dir, folder) = saved();
    let shard = folder.join("__0_0.distcp");
    fs::remove_file(&shard).unwrap();
    std::os::unix::fs::symlink("__0_0.distcp", &shard).unwrap();
    assert_eq!(flaws(&folder), ["__0_0.distcp is a link that leads nowhere"]);
    fs::remove_file(&shard).unwrap();
    nix::unistd::mkfifo(&shard, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(flaws(&folder), ["__0_0.distcp is no file"]);
    fs::remove_file(&shard).unwrap();
    fs::write(folder.join("elsewhere"), samples::DCP[1].1).unwrap();
    std::os::unix::fs::symlink("elsewhere", &shard).unwrap();
    let flaws = flaws(&folder);
    assert!(flaws.is_empty() || flaws[0].contains("newer"), "{flaws:?}");
}

/// D4, and the ways in which a right checkpoint gets newer shards.
#[test]
fn a_shard_is_written_over_or_copied() {
    let at = |ms: u64| Some(UNIX_EPOCH + Duration::from_millis(1_000_000 + ms));
    let stat = |created, modified, size| Stat { size, is_folder: false, modified, created };
    let index = stat(at(5), at(100), 10);
    for (created, modified, size, expected, why) in [
        (at(0), at(90), 1, false, "saved: the index is written last"),
        (at(0), at(102), 1, false, "clocks differ a little"),
        (at(0), at(105), 1, true, "the next save has begun to write over it"),
        (at(100), at(130), 1, false, "copied right behind the index"),
        (at(200), at(9000), 1, false, "copied a while after the index"),
        (at(200), at(3_600_200), 100 << 30, false, "a large copy takes its time"),
        (at(200), at(3_600_200), 1, true, "copied, and an hour later written over"),
        (at(9000), at(130), 1, false, "its times were set"),
        (None, at(130), 1, true, "the file system does not know"),
        (None, at(90), 1, false, "nothing speaks against it"),
        (at(0), None, 1, false, "nothing is known"),
    ] {
        assert_eq!(is_rewritten(&stat(created, modified, size), &index), expected, "{why}");
    }
}

#[test]
fn a_save_over_an_older_one_that_did_not_end_is_told() {
    let (_dir, folder) = saved();
    let index = fs::metadata(folder.join(".metadata")).unwrap();
    // The same bytes over the same file, as the next save writes them, a second later.
    let shard = File::options().write(true).open(folder.join("__0_1.distcp")).unwrap();
    shard.set_modified(index.modified().unwrap() + Duration::from_millis(1)).unwrap();
    assert_eq!(flaws(&folder), [""; 0]);
    shard.set_modified(index.modified().unwrap() + Duration::from_secs(1)).unwrap();
    let is_told = flaws(&folder).iter().any(|flaw| flaw.contains("did not end"));
    // The sample is written so fast that its shards may be as old as its index.
    let made = shard.metadata().unwrap().created();
    let is_older = made.map_or(true, |made| made < index.modified().unwrap());
    assert_eq!(is_told, is_older);
}

#[test]
fn ranks_may_have_indexes_of_their_own() {
    let (_dir, folder) = saved();
    fs::rename(folder.join(".metadata"), folder.join("__0.metadata")).unwrap();
    assert_eq!(flaws(&folder), [""; 0]);
    fs::write(folder.join("__1_0.distcp"), b"").unwrap();
    assert_eq!(flaws(&folder), ["__1.metadata is missing: the save did not end"]);
    fs::copy(folder.join("__0.metadata"), folder.join("__2.metadata")).unwrap();
    assert!(flaws(&folder).contains(&"__1.metadata is missing: the save did not end".to_owned()));
}

/// Each rank loads by its own index: a rank without one raises, at every restart.
#[test]
fn all_ranks_of_the_job_have_an_index() {
    let (_dir, folder) = saved();
    let told = |world| {
        let (dcp, _) = judge_contents(&folder, world, &mut Io::until(None)).unwrap();
        dcp.flaws.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(Some(4)), [""; 0], "one index is for all");
    fs::rename(folder.join(".metadata"), folder.join("__0.metadata")).unwrap();
    assert_eq!(told(None), [""; 0]);
    assert_eq!(told(Some(1)), [""; 0]);
    assert_eq!(told(Some(4)), ["__1.metadata is missing: the job has 4 ranks"]);
    for rank in 1..4 {
        let index = folder.join(format!("__{rank}.metadata"));
        fs::copy(folder.join("__0.metadata"), index).unwrap();
    }
    assert_eq!(told(Some(4)), [""; 0]);
    assert_eq!(told(Some(2)), [""; 0], "fewer ranks may load it");
    let found = DcpAdapter.judge(
        &Found {
            layout: Layout::Dcp,
            path: folder.clone(),
            number: None,
            step: None,
            modified: None,
        },
        &Cx { world_size: Some(5), ..Cx::default() },
        &mut Io::until(None),
    );
    assert!(matches!(found.unwrap().verdict, Verdict::Broken(_)));
}

#[test]
fn candidates_are_the_folder_or_those_in_it() {
    let (dir, folder) = saved();
    let find = |folder: &Path| {
        let mut io = Io::until(None);
        let entries = io.list(folder).unwrap();
        DcpAdapter.find(folder, &entries, &Cx::default(), &mut io).unwrap()
    };
    let found = find(&folder);
    assert_eq!((found.len(), &found[0].path, found[0].number), (1, &folder, None));
    for name in ["step_9", "epoch_3", "logs", "step_11"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("step_9/__0_0.distcp"), b"").unwrap();
    fs::copy(folder.join(".metadata"), dir.path().join("epoch_3/.metadata")).unwrap();
    let mut found: Vec<_> =
        find(dir.path()).into_iter().map(|found| (found.number.unwrap(), found.step)).collect();
    found.sort_unstable();
    assert_eq!(found, [(3, None), (7, Some(7)), (9, Some(9))]);
}

/// As a large job has them: ten thousand shards, of which none is read whole.
#[test]
fn many_shards_are_bounded_work() {
    let dir = tempfile::tempdir().unwrap();
    let count = 10_000;
    let mut pickle = b"\x80\x04cm\nMetadata\n)\x81}\x8c\x0cstorage_data}(".to_vec();
    for rank in 0..count {
        let name = format!("__{rank}_0.distcp");
        let path = dir.path().join(&name);
        let file = File::create(path).unwrap();
        // Two gigabytes, of which only the ends are there.
        std::os::unix::fs::FileExt::write_all_at(&file, b"PK\x03\x04", 0).unwrap();
        let end = [b"PK\x05\x06", &[0; 18][..]].concat();
        std::os::unix::fs::FileExt::write_all_at(&file, &end, (2 << 30) - 22).unwrap();
        let len = u8::try_from(name.len()).unwrap();
        pickle.extend(b"J");
        pickle.extend(i32::to_le_bytes(rank));
        pickle.extend(b"cm\n_StorageInfo\n)\x81}(\x8c\x0drelative_path\x8c");
        pickle.push(len);
        pickle.extend(name.as_bytes());
        pickle.extend(b"\x8c\x06offsetK\0\x8c\x06length\x8a\x05\0\0\0\x80\0ub");
    }
    pickle.extend(b"usb.");
    fs::write(dir.path().join(".metadata"), pickle).unwrap();
    let mut io = Io::until(None);
    let dcp = judge_folder(dir.path(), &mut io).unwrap();
    assert_eq!((dcp.flaws, dcp.files), (Vec::new(), 10_001));
    assert!(io.operations() < 20_000, "{io:?}");
    assert!(io.bytes() < 4 << 20, "{io:?}");
    // Time is over: nothing is said of the checkpoint.
    let mut io = Io::until(Some(std::time::Instant::now()));
    assert!(matches!(judge_folder(dir.path(), &mut io), Err(IoError::Deadline)));
}
