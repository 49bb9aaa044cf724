//! Which damages of a checkpoint are seen: every layout, every file, every damage.
//!
//! A script writes an older and a newer checkpoint of each layout. Names of files and folders are
//! each framework's own, as its source has them; the bytes are torch's (`torch.save`,
//! `torch.distributed.checkpoint.save`). The frameworks themselves are not installed here: what they
//! write is looked at in the tests that have them. The newer one is damaged, and the older one must
//! be chosen.
//!
//! The table is a snapshot. `CHOSEN` stands where a damage is not seen: it says openly what cannot be
//! told without reading every byte.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use nvlaunch::checkpoint::Layout;
use nvlaunch::checkpoint::io::Io;
use nvlaunch::checkpoint::layout::Cx;
use nvlaunch::checkpoint::scan::{Request, scan};
use serde::Deserialize;

use crate::harness::{venv, wait_until};

/// A folder with two checkpoints.
#[derive(Deserialize)]
struct Case {
    name: String,
    layout: String,
    older: String,
    newer: String,
    /// Those of the newer one, in the order in which they are written.
    files: Vec<String>,
    pointer: Option<String>,
    /// What is beside the newer one while it is written.
    marker: Option<String>,
    world: u32,
    pattern: Option<String>,
}

/// What is done to a file.
#[derive(Clone, Copy)]
enum Damage {
    LastByte,
    Half,
    Empty,
    Gone,
    Zeros,
    Tail,
    Page,
    Flip,
}

impl Damage {
    const ALL: [(Self, &'static str); 8] = [
        (Self::LastByte, "-1 byte"),
        (Self::Half, "half"),
        (Self::Empty, "empty"),
        (Self::Gone, "gone"),
        (Self::Zeros, "zeros"),
        (Self::Tail, "0-tail"),
        (Self::Page, "0-page"),
        (Self::Flip, "1 bit"),
    ];

    /// What is left of a file; `None`: nothing.
    fn of(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let size = bytes.len();
        let mut left = bytes.to_vec();
        match self {
            Self::LastByte => left.truncate(size - 1),
            Self::Half => left.truncate(size / 2),
            Self::Empty => left.clear(),
            Self::Gone => return None,
            Self::Zeros => left.fill(0),
            // the last page never reached the disk
            Self::Tail => left[(size - 1) / 4096 * 4096..].fill(0),
            // a page in the middle did not
            Self::Page => {
                let page = size / 2 / 4096 * 4096;
                left[page..size.min(page + 4096)].fill(0);
            }
            Self::Flip => left[size / 2] ^= 1,
        }
        Some(left)
    }
}

/// One case on disk.
struct Ground {
    folder: PathBuf,
    case: Case,
}

impl Ground {
    /// What is chosen, in a word.
    fn chosen(&self) -> &'static str {
        let request = |layout| Request {
            folder: self.folder.clone(),
            layout,
            cx: Cx {
                world_size: Some(self.case.world),
                since: None,
                pattern: self.case.pattern.clone(),
            },
            all: false,
        };
        let layout = Layout::from_name(&self.case.layout).expect("a layout of ours");
        // files by a pattern are not guessed
        let asked = (layout == Layout::Files).then_some(layout);
        let scan = scan(&request(asked), &mut Io::until(None));
        let Some(chosen) = scan.chosen() else {
            return "nothing";
        };
        assert_eq!(chosen.found.layout, layout, "{}: {scan:#?}", self.case.name);
        // a link to one is as good
        let path = fs::canonicalize(&chosen.found.path).unwrap();
        let name = path.strip_prefix(&self.folder).expect("below the folder");
        if name == Path::new(&self.case.newer) {
            "CHOSEN"
        } else {
            assert_eq!(name, Path::new(&self.case.older), "{}: {scan:#?}", self.case.name);
            "refused"
        }
    }

    /// What is chosen with a file damaged; then all is as before.
    fn damaged(&self, file: &str, damage: Damage) -> &'static str {
        let path = self.folder.join(file);
        let bytes = fs::read(&path).unwrap();
        let Some(left) = damage.of(&bytes) else {
            let aside = self.folder.with_extension("aside");
            fs::rename(&path, &aside).unwrap();
            let chosen = self.chosen();
            fs::rename(&aside, &path).unwrap();
            return chosen;
        };
        // what the disk lost changes no time
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        write(&path, &left, modified);
        let chosen = self.chosen();
        write(&path, &bytes, modified);
        chosen
    }

    /// The same step saved again an hour later, until so many files were written; then the job died.
    fn saved_again(&self, again: &Path, count: usize) -> &'static str {
        let restore: Vec<_> = self.case.files[..count]
            .iter()
            .map(|file| {
                let path = self.folder.join(file);
                let before = fs::read(&path).unwrap();
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                let later = modified + Duration::from_secs(3600);
                write(&path, &fs::read(again.join(file)).unwrap(), later);
                (path, before, modified)
            })
            .collect();
        let marker = self.case.marker.as_ref().map(|marker| self.folder.join(marker));
        if let Some(marker) = &marker {
            fs::write(marker, "").unwrap();
        }
        let chosen = self.chosen();
        if let Some(marker) = &marker {
            fs::remove_file(marker).unwrap();
        }
        for (path, before, modified) in restore {
            write(&path, &before, modified);
        }
        chosen
    }

    /// The same step saved again now, as its libraries do it: safetensors makes a new file and renames
    /// it, the others write over the one that is there.
    fn saved_again_by_renaming(&self, again: &Path, count: usize) -> &'static str {
        let aside = self.folder.with_extension("aside");
        fs::create_dir(&aside).unwrap();
        let mut restore = Vec::new();
        for (number, file) in self.case.files[..count].iter().enumerate() {
            let (path, new) = (self.folder.join(file), fs::read(again.join(file)).unwrap());
            if is_renamed(file) {
                let (half, before) = (path.with_extension("half"), aside.join(number.to_string()));
                fs::write(&half, new).unwrap();
                fs::rename(&path, &before).unwrap();
                fs::rename(half, &path).unwrap();
                restore.push((path, None, before));
            } else {
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                let before = fs::read(&path).unwrap();
                fs::write(&path, new).unwrap();
                restore.push((path, Some((before, modified)), PathBuf::new()));
            }
        }
        let chosen = self.chosen();
        for (path, over, before) in restore {
            match over {
                Some((bytes, modified)) => write(&path, &bytes, modified),
                None => fs::rename(before, path).unwrap(),
            }
        }
        fs::remove_dir(&aside).unwrap();
        chosen
    }

    /// What the pointer says is changed, and nothing else.
    fn pointer(&self, file: &str) -> String {
        let path = self.folder.join(file);
        let is_link = path.is_symlink();
        let before = if is_link {
            fs::read_link(&path).unwrap().into_os_string().into_string().unwrap()
        } else {
            fs::read_to_string(&path).unwrap()
        };
        let older = before.replace(&self.case.newer, &self.case.older);
        let older = if older == before { before.replace("20", "10") } else { older };
        let moved = format!("/moved/away/{}", self.case.newer);
        let mut line = String::new();
        for (what, text) in [("torn", ""), ("stale", &older), ("moved", &moved)] {
            fs::remove_file(&path).unwrap();
            if is_link && !text.is_empty() {
                symlink(text, &path).unwrap();
            } else {
                fs::write(&path, text).unwrap();
            }
            write!(line, " {what} {},", newer(self.chosen())).unwrap();
        }
        fs::remove_file(&path).unwrap();
        write!(line, " gone {}", newer(self.chosen())).unwrap();
        if is_link {
            symlink(before, &path).unwrap();
        } else {
            fs::write(&path, before).unwrap();
        }
        line
    }
}

/// In rows about pointers the newer one is whole, and right.
fn newer(chosen: &'static str) -> &'static str {
    if chosen == "CHOSEN" { "newer" } else { chosen }
}

/// Whether the library that writes it makes a new file and renames it.
fn is_renamed(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|end| end == "safetensors")
}

fn write(path: &Path, bytes: &[u8], modified: SystemTime) {
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.file().set_modified(modified).unwrap();
}

#[test]
fn every_damage_of_every_file_of_every_layout() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let made = Command::new(venv("python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts/make_checkpoints.py"))
        .arg(&root)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let cases = fs::read(root.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let mut table = String::new();
    let again = |case: &Case| root.join("again").join(&case.name);
    let grounds: Vec<Ground> =
        cases.into_iter().map(|case| Ground { folder: root.join(&case.name), case }).collect();
    for ground in &grounds {
        table.push_str(&rows(ground, &again(&ground.case)));
    }
    // When a file was made cannot be set: two saves must really lie apart.
    let made = fs::metadata(root.join("cases.json")).unwrap().modified().unwrap();
    wait_until("all files were made a while ago", Duration::from_secs(60), || {
        made.elapsed().is_ok_and(|age| age > Duration::from_secs(12))
    });
    table.push_str("saved again, safetensors by temporary file and rename\n");
    for ground in grounds.iter().filter(|it| it.case.files.iter().any(|file| is_renamed(file))) {
        let saved = |count| ground.saved_again_by_renaming(&again(&ground.case), count);
        let seen: Vec<_> = (1..ground.case.files.len()).map(saved).collect();
        writeln!(table, "  {}: {}", ground.case.name, ended_after(&seen)).unwrap();
    }
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!("matrix", table);
    });
}

/// What is seen of a save that ended after its first file, its second, and so on, but not its last.
fn ended_after(seen: &[&str]) -> String {
    match seen.iter().position(|seen| *seen != "refused") {
        None => "ended after any of its files: refused".to_owned(),
        Some(at) => format!("ended after file {} of {}: {}", at + 1, seen.len() + 1, seen[at]),
    }
}

/// What is seen of one case.
fn rows(ground: &Ground, again: &Path) -> String {
    let case = &ground.case;
    assert_eq!(ground.chosen(), "CHOSEN", "{}: nothing is damaged", case.name);
    let mut rows = format!("{:<44}", case.name);
    for (_, name) in Damage::ALL {
        write!(rows, " {name:<7}").unwrap();
    }
    rows.push('\n');
    for file in &case.files {
        let name = file.strip_prefix(&case.newer).unwrap_or(file).trim_start_matches('/');
        let name = if name.is_empty() { file } else { name };
        write!(rows, "  {:<42}", name.chars().take(42).collect::<String>()).unwrap();
        for (damage, _) in Damage::ALL {
            write!(rows, " {:<7}", ground.damaged(file, damage)).unwrap();
        }
        rows.push('\n');
    }
    let counts = 1..case.files.len();
    let seen: Vec<_> = counts.map(|count| ground.saved_again(again, count)).collect();
    if !seen.is_empty() {
        writeln!(rows, "  saved again, {}", ended_after(&seen)).unwrap();
    }
    if let Some(marker) = &case.marker {
        let path = ground.folder.join(marker);
        fs::write(&path, "").unwrap();
        let chosen = ground.chosen();
        fs::remove_file(&path).unwrap();
        writeln!(rows, "  the marker of a save: {chosen}").unwrap();
    }
    if let Some(pointer) = &case.pointer {
        writeln!(rows, "  {pointer}:{}", ground.pointer(pointer)).unwrap();
    }
    assert_eq!(ground.chosen(), "CHOSEN", "{}: all is as before", case.name);
    let rows: Vec<&str> = rows.lines().map(str::trim_end).collect();
    format!("{}\n\n", rows.join("\n"))
}
