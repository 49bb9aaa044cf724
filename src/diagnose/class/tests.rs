use std::fmt::Write as _;

use super::*;

/// The last words of real programs, with the paths renamed; see `said/README.md`.
macro_rules! said {
    ($name:literal) => {
        include_str!(concat!("said/", $name, ".txt"))
    };
}

fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

const NOTHING: Evidence<'static> = Evidence {
    exit: Exit::Code(1),
    error: None,
    stdout: &[],
    stderr: &[],
    oom: None,
    missing: false,
    steps_done: None,
    final_codes: &[],
};

fn of(exit: Exit, stderr: &str) -> Classified {
    classify(&Evidence { exit, stderr: &lines(stderr), ..NOTHING })
}

#[test]
fn real_last_words_are_understood() {
    use Class::*;
    let one = Exit::Code(1);
    let train = Some("/job/");
    let table: &[(&str, Exit, Class, Option<&str>, &str)] = &[
        (said!("syntax"), one, Syntax, train, "SyntaxError: invalid syntax"),
        (said!("enc2"), one, Syntax, None, "SyntaxError: Non-UTF-8 code"),
        (said!("indent"), one, Syntax, train, "IndentationError: expected an indented block"),
        // What a script reads is no script.
        (said!("literal"), one, Unknown, Some("SyntaxError at <"), "SyntaxError: '{' was never"),
        (said!("mod"), one, Import, Some("/job/mod.py:2 main"), "ModuleNotFoundError: No module"),
        (said!("nomodule"), one, Import, None, "/venv/bin/python: No module named no_such_module"),
        (said!("cannot"), one, Import, train, "ImportError: cannot import name 'Tensr'"),
        (said!("lazy"), one, Import, Some("RuntimeError at /job/lazy.py:5 load"), "ModuleNotF"),
        (said!("spawn"), one, Import, Some("/job/spawn.py:3 f"), "ModuleNotFoundError: No m"),
        (said!("ignored"), one, Import, Some("/job/ignored.py:7 main"), "ModuleNotFoundError"),
        (said!("missing"), one, MissingFile, Some("/job/missing.py:2 load"), "FileNotFoundError: "),
        (said!("missing-3.6"), one, MissingFile, train.map(|_| "missing.py:2 load"), "FileNot"),
        (said!("colours"), one, MissingFile, Some("/job/missing.py:2 load"), "FileNotFoundError: "),
        (
            said!("workermissing"),
            one,
            MissingFile,
            Some("/job/workermissing.py:6 __getitem__"),
            "FileNotFoundError: [Errno 2] No such file or directory: '/data/none'",
        ),
        (said!("nofile"), Exit::Code(2), MissingFile, None, "/venv/bin/python: can't open file"),
        (said!("perm"), one, Permission, Some("/job/perm.py:2"), "PermissionError: [Errno 13]"),
        (said!("args"), Exit::Code(2), Arguments, None, "args.py: error: unrecognized arguments"),
        // Only the exit code of argparse makes a usage an end.
        (said!("args"), one, Unknown, None, "exit code 1"),
        (said!("assertion"), one, Unknown, Some("/job/assertion.py:2 main"), "AssertionError: wor"),
        (said!("key"), one, Unknown, Some("KeyError at /job/key.py:3 step"), "KeyError: 3"),
        (said!("cause"), one, Unknown, Some("RuntimeError at /job/cause.py:6"), "RuntimeError: s"),
        (said!("during"), one, Unknown, Some("KeyError at /job/during.py:6"), "KeyError: 'second'"),
        (said!("group"), one, Unknown, Some("ExceptionGroup at /job/group.py:2 f"), "ExceptionGr"),
        (said!("group-colours"), one, Unknown, Some("ExceptionGroup at /job/"), "ExceptionGroup"),
        (said!("multi"), one, Unknown, Some("RuntimeError at /job/multi.py:3"), "RuntimeError: a"),
        (said!("stale"), one, Unknown, None, "OSError: [Errno 116] Stale file handle"),
        (said!("mem"), one, Unknown, Some("MemoryError at /job/mem.py:1"), "MemoryError"),
        // Nobody knows who sent the KILL; a thread's end is not that of the program.
        (said!("worker"), one, Unknown, None, "RuntimeError: DataLoader worker"),
        (said!("thread"), one, Unknown, None, "exit code 1"),
        (said!("sysexit"), one, Unknown, None, "exit code 1"),
        (said!("kbi"), Exit::Code(130), Unknown, None, "KeyboardInterrupt"),
        (said!("segv"), Exit::Signal(11), Unknown, Some("at /job/segv.py:3"), "SIGSEGV (invalid"),
        (said!("gloo-lost"), one, LostPeer, Some("/job/peer.py:8 train"), "RuntimeError: [/build/"),
        (said!("store-lost"), one, LostPeer, train, "DistNetworkError: Failed to recv"),
        // What fails in the cleaning up is a consequence.
        (said!("cleanup"), one, LostPeer, Some("/job/cleanup.py:11"), "RuntimeError: [/build/"),
        (said!("gloo-timeout"), one, Timeout, train, "RuntimeError: [/build/pytorch/third_party"),
        (said!("monitored"), one, Timeout, train, "RuntimeError: [Rank 0]: Rank 1 failed to pass"),
        (said!("store-timeout"), one, Timeout, train, "DistStoreError: Timed out after 3 seconds"),
        (said!("store-connect"), one, Timeout, train, "DistNetworkError: The client socket has"),
        (
            said!("nccl-timeout"),
            Exit::Signal(6),
            Timeout,
            None,
            "[Rank 0] Watchdog caught collective",
        ),
        (said!("nccl-remote"), one, LostPeer, train, "DistBackendError: NCCL error in:"),
        (said!("ecc"), one, Device, train, "AcceleratorError: CUDA error: uncorrectable ECC"),
        (said!("no-device"), one, Device, train, "RuntimeError: No CUDA GPUs are available"),
        // Another machine has no more memory.
        (said!("cuda-oom"), one, Unknown, Some("torch.OutOfMemoryError at /job/"), "OutOfMemoryE"),
    ];
    for (text, exit, class, fingerprint, why) in table {
        let found = of(*exit, text);
        assert_eq!(found.class, *class, "{found:?} of {text}");
        assert!(found.why.starts_with(why), "{found:?} of {text}");
        match (fingerprint, &found.fingerprint) {
            (None, None) => {}
            (Some(part), Some(whole)) if whole.contains(part) => {}
            _ => panic!("{fingerprint:?} expected of {found:?} of {text}"),
        }
        // The beginning is cut off, and the stream is the other one.
        if let Some((_, rest)) = text.split_once('\n')
            && !matches!(class, Arguments)
            && text.starts_with("Traceback")
        {
            assert_eq!(of(*exit, rest).class, *class, "cut: {text}");
        }
        if text.contains("Traceback (most") {
            let stdout = lines(text);
            let swapped = classify(&Evidence { exit: *exit, stdout: &stdout, ..NOTHING });
            assert_eq!(swapped.class, *class, "on stdout: {text}");
        }
    }
}

#[test]
fn ends_without_words() {
    let logged = Oom::Logged { line: "Out of memory: Killed process 4242 (python3)".to_owned() };
    let counted = Oom::Counted { kills: 1 };
    let import = lines(said!("mod"));
    let word = |exit| Evidence { exit, ..NOTHING };
    let table = [
        (word(Exit::Code(0)), Class::Unfinished, "the job was not done"),
        (word(Exit::Code(3)), Class::Unknown, "exit code 3"),
        (word(Exit::Signal(11)), Class::Unknown, "SIGSEGV (invalid memory access)"),
        (word(Exit::Signal(9)), Class::Unknown, "SIGKILL"),
        (word(Exit::Signal(15)), Class::Preempted, "SIGTERM from outside"),
        (word(Exit::Signal(10)), Class::Preempted, "SIGUSR1 from outside"),
        // A shell around the program.
        (word(Exit::Code(143)), Class::Preempted, "exit code 143 from outside"),
        (
            Evidence { final_codes: &[2, 64], ..word(Exit::Code(64)) },
            Class::FinalCode,
            "exit code 64",
        ),
        (
            Evidence { oom: Some(&logged), ..word(Exit::Signal(9)) },
            Class::Oom,
            "Out of memory: Killed process 4242 (python3)",
        ),
        (
            Evidence { oom: Some(&counted), stderr: &lines(said!("worker")), ..NOTHING },
            Class::Oom,
            "the kernel killed a process for want of memory",
        ),
        (Evidence { missing: true, ..NOTHING }, Class::Timeout, "other ranks never came"),
        // The one that failed has said why.
        (
            Evidence { missing: true, stderr: &import, ..NOTHING },
            Class::Import,
            "ModuleNotFoundError: No module named 'flash_atn'",
        ),
        // What was printed before a KILL did not end it.
        (Evidence { stderr: &import, ..word(Exit::Signal(9)) }, Class::Unknown, "SIGKILL"),
        // Nor does a library's abort follow from it for certain.
        (
            Evidence { stderr: &import, ..word(Exit::Signal(6)) },
            Class::Unknown,
            "ModuleNotFoundError: No module named 'flash_atn'",
        ),
    ];
    for (evidence, class, why) in table {
        let found = classify(&evidence);
        assert_eq!((found.class, &*found.why), (class, why), "{evidence:?}");
    }
}

#[test]
fn an_assertion_is_final_only_before_the_first_step() {
    let stderr = lines(said!("assertion"));
    for (steps_done, class, perhaps) in [
        (Some(false), Class::Assertion, None),
        (Some(true), Class::Unknown, None),
        (None, Class::Unknown, Some(Class::Assertion)),
    ] {
        let found = classify(&Evidence { stderr: &stderr, steps_done, ..NOTHING });
        assert_eq!((found.class, found.perhaps), (class, perhaps), "{steps_done:?}");
        assert!(found.fingerprint.is_some());
    }
    assert_eq!(of(Exit::Code(1), said!("key")).perhaps, None);
}

#[test]
fn the_error_file_comes_first() {
    let error = ScriptError {
        message: "ModuleNotFoundError: No module named 'flash_atn'".to_owned(),
        traceback: Some(said!("record").to_owned()),
    };
    let stderr = lines(said!("key"));
    let with = Evidence { error: Some(&error), stderr: &stderr, ..NOTHING };
    let found = classify(&with);
    assert_eq!(found.class, Class::Import);
    assert_eq!(found.fingerprint.unwrap(), "ModuleNotFoundError at /job/record.py:4 main");
    // A message alone has a class, and no place.
    let bare = ScriptError { traceback: None, ..error };
    let found = classify(&Evidence { error: Some(&bare), stderr: &[], ..NOTHING });
    assert_eq!((found.class, found.fingerprint), (Class::Import, None));
    // Any other text is none; then the last lines speak.
    let other = ScriptError { message: "it broke".to_owned(), traceback: None };
    let found = classify(&Evidence { error: Some(&other), stderr: &stderr, ..NOTHING });
    assert_eq!(found.why, "KeyError: 3");
}

#[test]
fn what_was_printed_and_passed_over_is_not_the_end() {
    let mut text = said!("mod").to_owned();
    for step in 0..LINES_AFTER {
        writeln!(text, "step {step}").unwrap();
    }
    assert_eq!(of(Exit::Code(1), &text).class, Class::Import);
    text.push_str("giving up\n");
    assert_eq!(of(Exit::Code(1), &text).class, Class::Unknown);
    // What libraries say at their end does not count.
    let mut text = said!("mod").to_owned();
    for _ in 0..3 * LINES_AFTER {
        text.push_str(
            "wandb: Run history\n[rank0]:[W1121 15:25:30.5 x.cpp:1] Warning: not destroyed\n",
        );
    }
    assert_eq!(of(Exit::Code(1), &text).class, Class::Import);
}

#[test]
fn what_a_script_survived_is_heard_after_all_other_words() {
    let logged = |kind: &str| {
        format!(
            "ERROR:root:it goes on\nTraceback (most recent call last):\n  File \"t.py\", line 1, \
             in f\n{kind}\n"
        )
    };
    let key = logged("KeyError: 'x'");
    let steps = |count: usize| "step\n".repeat(count);
    let watchdog = "[rank0]:[E1121 15:25:46.141929445 ProcessGroupNCCL.cpp:683] [Rank 0] Watchdog \
                    caught collective operation timeout: WorkNCCL(SeqNum=3)\n";
    let import = logged("ModuleNotFoundError: No module named 'apex'");
    let lost = logged("torch.distributed.DistNetworkError: it is gone");
    let device = logged("RuntimeError: No CUDA GPUs are available");
    let abort = Exit::Signal(6);
    let usage = "usage: t.py [-h]\nt.py: error: unrecognized arguments: --lrr\n";
    let table = [
        (abort, key.clone() + &steps(60) + watchdog, Class::Timeout, "[Rank 0] Watchdog caught"),
        (abort, key.clone() + watchdog, Class::Timeout, "[Rank 0] Watchdog caught"),
        (Exit::Code(1), key.clone() + &steps(60) + watchdog, Class::Timeout, "[Rank 0] Watchdog"),
        // Nothing else is known of these; they are neither final nor the same as others.
        (Exit::Code(3), import.clone(), Class::Unknown, "ModuleNotFoundError: No module named"),
        (Exit::Code(3), device, Class::Unknown, "RuntimeError: No CUDA GPUs are available"),
        (Exit::Code(3), key.clone(), Class::Unknown, "KeyError: 'x'"),
        (Exit::Code(1), key.clone() + &steps(60), Class::Unknown, "KeyError: 'x'"),
        (abort, key.clone(), Class::Unknown, "KeyError: 'x'"),
        (Exit::Code(3), lost, Class::LostPeer, "DistNetworkError: it is gone"),
        (Exit::Code(2), import.clone() + usage, Class::Arguments, "t.py: error: unrecognized"),
        (
            Exit::Code(1),
            logged("SyntaxError: invalid syntax") + &steps(LINES_AFTER + 1),
            Class::Unknown,
            "SyntaxError: invalid syntax",
        ),
    ];
    for (exit, text, class, why) in table {
        let found = of(exit, &text);
        assert_eq!((found.class, found.fingerprint.as_deref()), (class, None), "{exit:?}: {text}");
        assert!(found.why.starts_with(why), "{exit:?}: {found:?} of {text}");
    }
    // The same words at the end of a script that ended by itself.
    assert_eq!(of(Exit::Code(1), &import).class, Class::Import);
    assert!(of(Exit::Code(1), &key).fingerprint.is_some());
    // The place of a crash is worth more than an exception before it.
    let found = of(Exit::Signal(11), &(key.clone() + said!("segv")));
    assert!(found.fingerprint.is_some_and(|print| print.contains("/job/segv.py:3")));
    // Others waited, and this one went on.
    let waited = Evidence { exit: abort, stderr: &lines(&key), missing: true, ..NOTHING };
    assert_eq!(classify(&waited).class, Class::Timeout);
    // What is in the error file ended the script, whatever its exit code.
    let error = ScriptError { message: "KeyError: 3".into(), traceback: Some(said!("key").into()) };
    let found = classify(&Evidence { exit: Exit::Code(3), error: Some(&error), ..NOTHING });
    assert!(found.fingerprint.is_some());
}

#[test]
fn a_line_speaks_of_a_device_only_where_it_says_that_one_is_broken() {
    let key = said!("key");
    // TensorFlow says it at its import on every machine without a GPU.
    let none = "2024-05-05 10:00:00.123456: E external/local_xla/xla/stream_executor/cuda/\
                cuda_driver.cc:266] failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable \
                device is detected\n";
    let passing = "Traceback (most recent call last):\nConnectionResetError: [Errno 104] x\n";
    for harmless in [
        none,
        "RuntimeError: No CUDA GPUs are available; the benchmark is left out\n",
        "CUDA error: all CUDA-capable device(s) is/are busy or unavailable, trying the next\n",
        "CUDA_ERROR_NOT_READY: system not yet initialized\n",
    ] {
        for rest in [key, passing, ""] {
            for exit in [Exit::Code(1), Exit::Code(3), Exit::Signal(6)] {
                let found = of(exit, &(harmless.to_owned() + rest));
                assert_eq!(found.class, Class::Unknown, "{exit:?}: {found:?} of {harmless}");
            }
        }
    }
    for broken in [
        "CUDA error: uncorrectable ECC error encountered",
        "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
        "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.",
        "ZE_RESULT_ERROR_DEVICE_LOST",
    ] {
        for rest in [key, passing, ""] {
            let found = of(Exit::Code(1), &format!("{none}{broken}\n{rest}"));
            assert_eq!((found.class, &*found.why), (Class::Device, broken), "{rest}");
        }
    }
}

#[test]
fn only_an_exception_of_its_own_speaks_against_another_rank() {
    let own = |text: &str| own_exception(&Evidence { stderr: &lines(text), ..NOTHING });
    let found = own(said!("mod")).expect("a module is missing");
    assert_eq!(found, of(Exit::Code(1), said!("mod")));
    let found = own(said!("key")).expect("a key is missing");
    assert!(found.class == Class::Unknown && found.fingerprint.is_some());
    // How it is ended by then does not count.
    let text = lines(said!("key"));
    for exit in [Exit::Signal(15), Exit::Signal(9), Exit::Code(0), Exit::Code(2)] {
        let evidence = Evidence { exit, stderr: &text, final_codes: &[2], ..NOTHING };
        assert_eq!(own_exception(&evidence).as_ref(), Some(&found), "{exit}");
    }
    let error = ScriptError { message: "KeyError: 3".into(), traceback: Some(said!("key").into()) };
    let written = own_exception(&Evidence { error: Some(&error), ..NOTHING });
    assert_eq!(written, Some(found));
    let dist = "Traceback (most recent call last):\n  File \"t.py\", line 1, in f\n\
                torch.distributed.DistBackendError: something new\n";
    let survived = said!("key").to_owned() + &"step\n".repeat(LINES_AFTER + 1);
    for (what, text) in [
        ("nothing", ""),
        ("no exception", "step 1\nConnection reset by peer\n"),
        ("a lost peer", said!("gloo-lost")),
        ("a lost store", said!("store-lost")),
        ("a timeout", said!("gloo-timeout")),
        ("a consequence", said!("cleanup")),
        ("of a collective", dist),
        ("from outside", said!("stale")),
        ("interrupted", said!("kbi")),
        ("survived", &survived),
    ] {
        assert_eq!(own(text), None, "{what}");
    }
}

#[test]
fn files_that_come_and_go_are_not_missing_for_ever() {
    let thrown = |message: &str| {
        let text =
            format!("Traceback (most recent call last):\n  File \"t.py\", line 1, in f\n{message}");
        of(Exit::Code(1), &text)
    };
    for (message, class) in [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/data/a'", Class::MissingFile),
        ("NotADirectoryError: [Errno 20] Not a directory: '/data/a/b'", Class::MissingFile),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/dev/shm/a'", Class::Unknown),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/tmp/a'", Class::Unknown),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'a' -> 'b'", Class::Unknown),
        // A socket that is gone has no name.
        ("FileNotFoundError: [Errno 2] No such file or directory", Class::Unknown),
        ("FileNotFoundError: Couldn't find a dataset", Class::Unknown),
        ("PermissionError: [Errno 13] Permission denied: '/data/a'", Class::Permission),
        ("OSError: [Errno 28] No space left on device", Class::Unknown),
    ] {
        let found = thrown(message);
        assert_eq!(found.class, class, "{message}");
        assert!(found.fingerprint.is_some(), "{message}");
    }
    for passing in [
        "OSError: [Errno 5] Input/output error: '/nfs/a'",
        "OSError: [Errno 98] Address already in use",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool: Connection refused",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 1.",
    ] {
        let found = thrown(passing);
        assert_eq!((found.class, found.fingerprint), (Class::Unknown, None), "{passing}");
    }
}

#[test]
fn a_group_is_what_all_of_its_members_are() {
    let group = said!("group");
    let same = group
        .replace("ValueError: a", "FileNotFoundError: [Errno 2] No such file or directory: 'a'");
    assert_eq!(of(Exit::Code(1), &same).class, Class::MissingFile);
    let lost = group.replace("ValueError: a", "RuntimeError: Connection closed by peer [::1]:1");
    assert_eq!(of(Exit::Code(1), &lost).class, Class::LostPeer);
}

#[test]
fn fingerprints_hold_no_numbers_of_messages() {
    let at = |key: u32| {
        of(Exit::Code(1), &said!("key").replace("KeyError: 3", &format!("KeyError: {key}")))
    };
    assert_eq!(at(3).fingerprint, at(4711).fingerprint);
    let moved = of(Exit::Code(1), &said!("key").replace("line 3, in step", "line 9, in step"));
    assert_ne!(moved.fingerprint, at(3).fingerprint);
}

#[test]
fn why_is_one_line_without_secrets() {
    let text = "Traceback (most recent call last):\n  File \"t.py\", line 1, in f\n\
                ValueError: \x1b[31mhttps://me:hunter2@host/x\x07 is wrong\nmore\n";
    let found = of(Exit::Code(1), text);
    assert!(found.why.starts_with("ValueError: https://") && !found.why.contains("hunter2"));
    assert!(!found.why.contains(['\x1b', '\x07', '\n']), "{:?}", found.why);
    let long = format!("Traceback (most recent call last):\nValueError: {}", "x".repeat(5000));
    assert_eq!(of(Exit::Code(1), &long).why.chars().count(), WHY_WIDTH);
}

#[test]
fn what_worked_before_progress_may_work_again() {
    for class in Class::ALL {
        use Class::{Assertion, Import, MissingFile, Permission};
        let eased = matches!(class, Import | MissingFile | Permission | Assertion);
        let expected = if eased { Remedy::SameAgain } else { class.remedy() };
        assert_eq!(class.remedy_after_progress(), expected, "{class:?}");
    }
}

#[test]
fn classes_have_names_of_their_own() {
    for (at, class) in Class::ALL.iter().enumerate() {
        assert_eq!(Class::from_name(class.name()), Some(*class));
        assert!(Class::ALL[..at].iter().all(|other| other.name() != class.name()));
        let written = serde_json::to_value(class).unwrap();
        assert_eq!(written, class.name(), "serde and the profile say the same");
    }
    for remedy in Remedy::ALL {
        assert_eq!(Remedy::from_name(remedy.name()), Some(remedy));
        assert_eq!(serde_json::to_value(remedy).unwrap(), remedy.name());
    }
}

proptest::proptest! {
    /// Whatever stands there, an answer comes, of one line.
    #[test]
    fn no_output_is_too_strange(
        lines in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 0..30),
        code in 1..256_i32,
    ) {
        let found = classify(&Evidence { exit: Exit::Code(code), stderr: &lines, ..NOTHING });
        proptest::prop_assert!(!found.why.contains('\n'));
    }

    /// Lines of tracebacks in any order.
    #[test]
    fn no_order_is_too_strange(picked in proptest::collection::vec(0..14_usize, 0..40)) {
        const PARTS: [&str; 14] = [
            "Traceback (most recent call last):", "  File \"a.py\", line 1, in f", "    code", "",
            "ValueError: x", "  + Exception Group Traceback (most recent call last):", "  | x",
            "  +-+---------------- 1 ----------------", "    | ValueError: a", "    +----",
            "The above exception was the direct cause of the following exception:",
            "[rank0]: Traceback (most recent call last):", "╰───╯", "ModuleNotFoundError: x",
        ];
        let text: Vec<&str> = picked.iter().map(|at| PARTS[*at]).collect();
        let found = of(Exit::Code(1), &text.join("\n"));
        proptest::prop_assert!(!found.why.contains('\n'));
    }
}
