//! The rules N1 to N3: with an adapter whose verdicts are given, and in real folders.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::checkpoint::read::samples;

/// Judges by what it was told, and remembers whom.
#[derive(Default)]
struct Told {
    verdicts: BTreeMap<u64, Verdict>,
    asked: Mutex<Vec<u64>>,
}

impl Adapter for Told {
    fn layout(&self) -> Layout {
        Layout::Dcp
    }

    fn find(&self, _: &Path, _: &[Entry], _: &Cx, _: &mut Io) -> Result<Vec<Found>, IoError> {
        Ok(self.verdicts.keys().map(|&number| found(Some(number), 0)).collect())
    }

    fn judge(&self, found: &Found, _: &Cx, _: &mut Io) -> Result<Judged, IoError> {
        let number = found.number.unwrap();
        self.asked.lock().unwrap().push(number);
        let verdict = match &self.verdicts[&number] {
            Verdict::Unknown(why) if why == "late" => return Err(IoError::Deadline),
            Verdict::Unknown(why) if why == "gone" => return Err(IoError::Missing),
            verdict => verdict.clone(),
        };
        Ok(Judged { verdict, step: None, bytes: 1, files: 1, modified: Some(UNIX_EPOCH) })
    }
}

fn found(number: Option<u64>, seconds: u64) -> Found {
    let path = PathBuf::from(format!("/c/{}-{seconds}", number.map_or(-1, u64::cast_signed)));
    let modified = Some(UNIX_EPOCH + Duration::from_secs(seconds));
    Found { layout: Layout::Dcp, path, number, step: number, modified }
}

fn request(folder: &Path, all: bool) -> Request {
    Request { folder: folder.to_owned(), layout: None, cx: Cx::default(), all }
}

const WHOLE: Verdict = Verdict::Whole;

fn broken() -> Verdict {
    Verdict::Broken(vec![Flaw::new("a", "is missing")])
}

fn unknown(why: &str) -> Verdict {
    Verdict::Unknown(why.to_owned())
}

#[test]
fn the_newest_whole_one_is_chosen() {
    let export = || Verdict::Export("weights".to_owned());
    // Verdicts from the oldest (1) on; whom is chosen; who is asked; why nothing may be chosen.
    #[rustfmt::skip]
    let cases = [
        (vec![WHOLE, WHOLE], Some(2), vec![2], None),
        (vec![WHOLE, broken()], Some(1), vec![2, 1], None),
        (vec![WHOLE, export(), broken()], Some(1), vec![3, 2, 1], None),
        (vec![broken(), broken()], None, vec![2, 1], None),
        // N3: an older one is not even looked at.
        (vec![WHOLE, unknown("slow")], None, vec![2], Some("slow")),
        (vec![WHOLE, unknown("late")], None, vec![2], Some("could not be looked at in time")),
        (vec![WHOLE, unknown("late"), broken()], None, vec![3, 2], Some("could not be looked at in time")),
        // What is not there any more is a flaw.
        (vec![WHOLE, unknown("gone")], Some(1), vec![2, 1], None),
        // What is older than the chosen one does not matter.
        (vec![unknown("late"), WHOLE], Some(2), vec![2], None),
        (vec![], None, vec![], None),
    ];
    for (verdicts, chosen, asked, undecided) in cases {
        let told = Told { verdicts: (1..).zip(verdicts).collect(), ..Told::default() };
        let request = request(Path::new("/c"), false);
        let mut scan = Scan::default();
        let found = told.find(Path::new("/c"), &[], &Cx::default(), &mut Io::until(None)).unwrap();
        judge_all(&told, found, &request, &mut Io::until(None), &mut scan);
        let case = format!("{:?}", told.verdicts);
        assert_eq!(scan.chosen().and_then(|c| c.found.number), chosen, "{case}");
        assert_eq!(told.asked.into_inner().unwrap(), asked, "{case}");
        match (scan.undecided(), undecided) {
            (Some(why), Some(expected)) => assert!(why.ends_with(expected), "{case}: {why}"),
            (why, expected) => assert_eq!(why.as_deref(), expected, "{case}"),
        }
    }
}

#[test]
fn all_are_judged_where_that_is_asked() {
    let verdicts = (1..).zip([broken(), WHOLE, unknown("late"), WHOLE]).collect();
    let told = Told { verdicts, ..Told::default() };
    let request = request(Path::new("/c"), true);
    let mut scan = Scan::default();
    let found = told.find(Path::new("/c"), &[], &Cx::default(), &mut Io::until(None)).unwrap();
    judge_all(&told, found, &request, &mut Io::until(None), &mut scan);
    assert_eq!(scan.chosen, Some(0));
    assert!(scan.candidates.iter().all(|candidate| candidate.judged.is_some()));
    // N3 holds there too.
    let verdicts = (1..).zip([WHOLE, unknown("late"), broken()]).collect();
    let told = Told { verdicts, ..Told::default() };
    let mut scan = Scan::default();
    let found = told.find(Path::new("/c"), &[], &Cx::default(), &mut Io::until(None)).unwrap();
    judge_all(&told, found, &request, &mut Io::until(None), &mut scan);
    assert_eq!(scan.chosen, None);
    assert!(scan.candidates[2].is_whole() && scan.undecided().is_some());
}

#[test]
fn numbers_go_before_times() {
    let mut told = vec![found(None, 900), found(Some(3), 1), found(Some(20), 0), found(None, 901)];
    told.push(found(Some(3), 2));
    let mut scan = Scan::default();
    // No adapter is asked: nothing is whole before it is judged.
    let request = request(Path::new("/c"), false);
    let adapter =
        Told { verdicts: BTreeMap::from([(20, unknown("late")), (3, WHOLE)]), ..Told::default() };
    judge_all(&adapter, told, &request, &mut Io::until(None), &mut scan);
    let order: Vec<_> = scan.candidates.iter().map(|c| c.found.path.to_str().unwrap()).collect();
    assert_eq!(order, ["/c/20-0", "/c/3-2", "/c/3-1", "/c/-1-901", "/c/-1-900"]);
}

/// Steps of torchtitan's form, the newest last; the sample's index is in each.
fn folders(steps: &[u64]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for step in steps {
        let folder = dir.path().join(format!("step-{step}"));
        fs::create_dir(&folder).unwrap();
        for (name, bytes) in samples::DCP.iter().rev() {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
    dir
}

fn scanned(folder: &Path) -> Scan {
    scan(&request(folder, false), &mut Io::until(None))
}

#[test]
fn a_broken_newer_one_is_passed_over_and_told() {
    let dir = folders(&[9, 10, 100]);
    let scan = scanned(dir.path());
    assert_eq!((scan.layout, scan.chosen), (Some(Layout::Torchtitan), Some(0)));
    assert_eq!(scan.chosen().unwrap().step(), Some(100), "numbers are no texts");
    fs::remove_file(dir.path().join("step-100/.metadata")).unwrap();
    fs::write(dir.path().join("step-10/__0_1.distcp"), b"").unwrap();
    let scan = scanned(dir.path());
    assert_eq!(scan.chosen().unwrap().step(), Some(9));
    let told: Vec<_> = scan
        .newer()
        .iter()
        .map(|candidate| match &candidate.judged.as_ref().unwrap().verdict {
            Verdict::Broken(flaws) => flaws[0].to_string(),
            verdict => panic!("{verdict:?}"),
        })
        .collect();
    assert_eq!(told[0], ".metadata is missing: the save did not end");
    assert!(told[1].starts_with("__0_1.distcp is 0 bytes"), "{told:?}");
    assert_eq!(scan.undecided(), None);
    // What was chosen is judged once more before it is used.
    let found = scan.chosen().unwrap().found.clone();
    let mut io = Io::until(None);
    assert_eq!(judge_again(&found, &Cx::default(), &mut io).verdict, Verdict::Whole);
    fs::remove_dir_all(&found.path).unwrap();
    let again = judge_again(&found, &Cx::default(), &mut io);
    assert!(matches!(again.verdict, Verdict::Broken(_)), "{again:?}");
}

#[test]
fn the_models_weights_alone_are_no_resume_point() {
    let dir = folders(&[1]);
    let export = dir.path().join("step-2");
    fs::create_dir(&export).unwrap();
    fs::write(export.join("model.safetensors"), samples::SAFETENSORS).unwrap();
    let scan = scanned(dir.path());
    assert_eq!(scan.chosen().unwrap().step(), Some(1));
    let newest = scan.candidates[0].judged.as_ref().unwrap();
    assert!(matches!(newest.verdict, Verdict::Export(_)), "{newest:?}");
}

#[test]
fn the_dump_folder_is_looked_into() {
    let dir = folders(&[5]);
    let dump = tempfile::tempdir().unwrap();
    fs::rename(dir.path(), dump.path().join("checkpoint")).unwrap();
    fs::create_dir(dump.path().join("tb")).unwrap();
    let scan = scanned(dump.path());
    assert_eq!(scan.chosen().unwrap().found.path, dump.path().join("checkpoint/step-5"));
}

#[test]
fn folders_without_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let scan = scanned(&dir.path().join("none"));
    assert!(scan.candidates.is_empty() && scan.undecided().is_none(), "{scan:?}");
    let scan = scanned(dir.path());
    assert!(scan.candidates.is_empty() && scan.undecided().is_none(), "{scan:?}");
    // A folder that cannot be looked through in time is not an empty one.
    let late = super::scan(&request(dir.path(), false), &mut Io::until(Some(Instant::now())));
    assert_eq!(late.undecided().as_deref(), Some("could not be looked at in time"));
}
