//! Python stacks as `faulthandler` writes them.
//!
//! Format: `Python/traceback.c` of `CPython`, `_Py_DumpTracebackThreads`: a head for each thread, the
//! newest thread first and the main thread last, then its frames, the innermost first.

/// The most frames that are shown.
const MOST_FRAMES: usize = 12;
/// How a frame of the test's own program looks.
const OWN: &str = "/smoke.py\"";

/// The frames of the main thread, the innermost first, as `File "x.py", line 3 in main`.
pub fn main_thread(text: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_head = (line.starts_with("Thread ") || line.starts_with("Current thread "))
            && line.contains("(most recent call first)");
        let line = line.trim();
        if is_head {
            frames.clear();
        } else if line.starts_with("File ") || line.starts_with("...") {
            frames.push(line.to_owned());
        }
    }
    frames
}

/// Whether the dump has been written to its end, as far as can be seen.
pub fn is_whole(text: &str) -> bool {
    text.ends_with('\n') && main_thread(text).last().is_some_and(|f| f.ends_with("in <module>"))
}

/// Whether the rank may wait for its peers: its innermost frame is in one of `PyTorch`'s own files
/// or, as after a collective of a device, in the test's program, which waits for the values.
pub fn may_wait(frames: &[String]) -> bool {
    frames.first().is_some_and(|frame| frame.contains("/torch/") || frame.contains(OWN))
}

/// As much as is shown: the innermost frames, down to the first of the test's own program, with
/// short paths.
pub fn shown(frames: &[String]) -> Vec<String> {
    let own = frames.iter().position(|frame| frame.contains(OWN));
    let frames = &frames[..own.map_or(frames.len(), |own| own + 1)];
    let mut shown: Vec<String> =
        frames.iter().take(MOST_FRAMES).map(|frame| short(frame)).collect();
    if frames.len() > MOST_FRAMES {
        shown.push(format!("… {} more", frames.len() - MOST_FRAMES));
    }
    shown
}

/// `torch/distributed/rendezvous.py, line 215 in _create_c10d_store`
fn short(frame: &str) -> String {
    let Some((path, rest)) = frame.strip_prefix("File \"").and_then(|f| f.split_once('"')) else {
        return frame.to_owned();
    };
    let package = ["/site-packages/", "/dist-packages/"];
    let package = package.iter().find_map(|folder| Some(path.rsplit_once(folder)?.1));
    let is_own = frame.contains(OWN);
    let name = package.unwrap_or(if is_own { super::SCRIPT } else { path });
    format!("{name}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
Thread 0x00007f1 (most recent call first):
  File \"/venv/lib/torch/_inductor/worker.py\", line 8 in loop

Current thread 0x00007f2 (most recent call first):
  File \"/site/sitecustomize.py\", line 5 in sleepy
  File \"/run/smoke.py\", line 120 in init
  File \"/run/smoke.py\", line 300 in <module>
";

    #[test]
    fn the_main_thread_is_the_last_one() {
        let frames = main_thread(DUMP);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0], "File \"/site/sitecustomize.py\", line 5 in sleepy");
        assert!(is_whole(DUMP) && !may_wait(&frames));
        assert!(may_wait(&frames[1..]), "in the program");
        assert!(may_wait(&main_thread(&DUMP.replace("/site/", "/x/torch/distributed/"))));
    }

    #[test]
    fn half_a_dump_is_not_whole() {
        for cut in [0, 40, DUMP.len() - 30, DUMP.len() - 1] {
            assert!(!is_whole(&DUMP[..cut]), "{cut}");
        }
    }

    #[test]
    fn what_is_shown_ends_in_the_program() {
        let shown = shown(&main_thread(&DUMP.replace("/site/", "/v/lib/site-packages/torch/")));
        assert_eq!(
            shown,
            ["torch/sitecustomize.py, line 5 in sleepy", "smoke.py, line 120 in init"]
        );
    }

    #[test]
    fn a_deep_stack_is_cut() {
        let frames: Vec<String> = (0..40).map(|n| format!("File \"x\", line {n} in f")).collect();
        let shown = shown(&frames);
        assert_eq!(shown.len(), MOST_FRAMES + 1);
        assert_eq!(shown[MOST_FRAMES], "… 28 more");
    }
}
