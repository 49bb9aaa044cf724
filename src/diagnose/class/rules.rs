//! What exceptions and texts mean: the tables. Pure.
//!
//! Texts are in the spelling of the programs that print them; where each comes from stands beside
//! it. A rule that stands higher is heard first.

use super::Class;
use super::traceback::{Chain, Thrown};

/// What an exception is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Is {
    /// Of this class, by these words.
    Class(Class, String),
    /// Something that comes from outside and may pass; two of them are never the same.
    Passing,
    /// Anything else.
    Unknown,
}

/// One row: an exception of one of these types (of any, where none is named), in whose message one
/// of these texts stands (any, where none is named).
struct Rule {
    kinds: &'static [&'static str],
    texts: &'static [&'static str],
    is: What,
}

#[derive(Clone, Copy)]
enum What {
    Is(Class),
    Passing,
    Unknown,
}

const fn rule(kinds: &'static [&'static str], texts: &'static [&'static str], is: What) -> Rule {
    Rule { kinds, texts, is }
}

const ANY: &[&str] = &[];

/// The types in which `PyTorch` reports what happens between ranks (`torch/csrc/Exceptions.h`); a
/// plain `RuntimeError` comes from gloo, and from `PyTorch` before 2.0.
const BETWEEN_RANKS: &[&str] =
    &["DistBackendError", "DistNetworkError", "DistStoreError", "DistError", "RuntimeError"];

/// A device is broken or lost, wherever that is said (the texts of `cudaGetErrorString` and
/// `hipGetErrorString`, the kernel module's `NVRM`, Level Zero).
const BROKEN_DEVICE: &[&str] = &[
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "fallen off the bus",
    "GPU is lost",
    "NVRM: Xid",
    "hardware stack error",
    "hipErrorECCNotCorrectable",
    "UR_RESULT_ERROR_DEVICE_LOST",
    "ZE_RESULT_ERROR_DEVICE_LOST",
];

/// No device is there, or somebody holds it (the texts of `cudaGetErrorString` and of `PyTorch`'s
/// `torch/cuda/__init__.py`). Only of the exception that ends a script: libraries say it, and go on
/// without, on any machine that has none.
const NO_DEVICE: &[&str] = &[
    "no CUDA-capable device is detected",
    "No CUDA GPUs are available",
    "No HIP GPUs are available",
    "CUDA-capable device(s) is/are busy or unavailable",
    "system not yet initialized",
];

/// A collective or the store did not answer in time (gloo's `unbound_buffer.cc`, c10d's
/// `TCPStore.cpp`, `socket.cpp`, `ProcessGroupNCCL.cpp`, `ProcessGroupGloo.cpp`).
const TIMEOUT: &[&str] = &[
    "Watchdog caught collective operation timeout",
    "failed to pass monitoredBarrier",
    "Timed out waiting",
    "Timed out after",
    "timed out after",
    "wait timeout after",
    "Socket Timeout",
    "Timeout waiting for key",
    "Connect timeout",
    "Some NCCL operations have failed or timed out",
];

/// Another rank or the connection to it was lost (gloo's `pair.cc`, c10d's `socket.h`, NCCL's
/// `ncclGetErrorString` and `socket.cc`).
const LOST_PEER: &[&str] = &[
    "Connection closed by peer",
    "Connection closed by remote peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "remote process exited or there was a network error",
    "a remote process exiting prematurely",
    "ailed to recv, got 0 bytes",
    "NCCL communicator was aborted on rank",
    "NCCL communicator encountered error set by ProcessGroupNCCL",
    "Gloo connectFullMesh failed",
    "No route to host",
    "Network is unreachable",
];

/// Exceptions, by type and message.
static RULES: &[Rule] = &[
    rule(ANY, BROKEN_DEVICE, What::Is(Class::Device)),
    rule(ANY, NO_DEVICE, What::Is(Class::Device)),
    // The server of a batch scheduler or a data set, not a rank.
    rule(
        &[
            "ConnectError",
            "ConnectTimeout",
            "HTTPError",
            "HfHubHTTPError",
            "LocalEntryNotFoundError",
            "MaxRetryError",
            "ProxyError",
            "ReadTimeout",
            "SSLError",
            "URLError",
            "gaierror",
        ],
        ANY,
        What::Passing,
    ),
    rule(&["OSError"], &["We couldn't connect to"], What::Passing),
    // A kill from outside, without a word of the kernel.
    rule(&["RuntimeError"], &["is killed by signal: Killed"], What::Passing),
    // Its number and its place are those of the program that asks; the port is free later.
    rule(ANY, &["Address already in use", "address already in use"], What::Passing),
    // Slow storage, or a worker that hangs in the same place again.
    rule(&["RuntimeError"], &["DataLoader timed out"], What::Unknown),
    rule(BETWEEN_RANKS, TIMEOUT, What::Is(Class::Timeout)),
    // PyTorch before 2.1 raises it from the store.
    rule(&["TimeoutError"], &["client socket has timed out"], What::Is(Class::Timeout)),
    rule(BETWEEN_RANKS, LOST_PEER, What::Is(Class::LostPeer)),
    rule(&["DistNetworkError"], ANY, What::Is(Class::LostPeer)),
    // The file system is away: ESTALE, EIO, ENOTCONN, ETIMEDOUT, EREMOTEIO, EHOSTDOWN.
    rule(
        ANY,
        &[
            "Stale file handle",
            "Input/output error",
            "Transport endpoint is not connected",
            "[Errno 110] Connection timed out",
            "Remote I/O error",
            "Host is down",
        ],
        What::Passing,
    ),
    // A helper process of the same job, or a service.
    rule(
        &[
            "BrokenPipeError",
            "ConnectionAbortedError",
            "ConnectionError",
            "ConnectionRefusedError",
            "ConnectionResetError",
        ],
        ANY,
        What::Passing,
    ),
    // What happened is said by another process.
    rule(
        &[
            "CalledProcessError",
            "ChildFailedError",
            "KeyboardInterrupt",
            "ProcessExitedException",
            "ProcessRaisedException",
            "SystemExit",
        ],
        ANY,
        What::Passing,
    ),
    rule(&["IndentationError", "SyntaxError", "TabError"], ANY, What::Is(Class::Syntax)),
    rule(&["ImportError", "ModuleNotFoundError"], ANY, What::Is(Class::Import)),
    // A file is renamed or linked: another rank was faster, or its temporary name is gone.
    rule(&["FileNotFoundError"], &[" -> "], What::Unknown),
    rule(
        &["FileNotFoundError", "NotADirectoryError"],
        &["[Errno 2] No such file or directory: ", "[Errno 20] Not a directory: "],
        What::Is(Class::MissingFile),
    ),
    rule(&["PermissionError"], ANY, What::Is(Class::Permission)),
    rule(&["AssertionError"], ANY, What::Is(Class::Assertion)),
    // transformers' `hf_argparser.py`.
    rule(
        &["ValueError"],
        &["Some specified arguments are not used by the HfArgumentParser"],
        What::Is(Class::Arguments),
    ),
];

/// Folders whose files come and go: sockets, shared memory, locks.
const PASSING_PLACES: &[&str] = &["'/dev/shm/", "'/proc/", "'/run/", "'/tmp/", "'/var/tmp/"];

/// What a chain of exceptions is (H3).
pub(super) fn of_chain(chain: &Chain) -> Is {
    let ends = std::iter::once(chain.last());
    let all = chain.thrown.iter().chain(&chain.leaves);
    let comes_from_outside =
        |is: &Is| matches!(is, Is::Class(Class::Device | Class::Timeout | Class::LostPeer, _));
    if let Some(is) = all.map(of).find(comes_from_outside) {
        return is;
    }
    // A group is what all of its members are.
    let mut leaves = chain.leaves.iter().map(of);
    if let Some(first) = leaves.next() {
        let is_same = |is: &Is| match (is, &first) {
            (Is::Class(class, _), Is::Class(other, _)) => class == other,
            _ => *is == first,
        };
        return if leaves.all(|is| is_same(&is)) { first } else { Is::Unknown };
    }
    let mut is = ends.map(of).next().unwrap_or(Is::Unknown);
    // `RuntimeError: Failed to import … because of the following error`
    for (at, thrown) in chain.thrown.iter().enumerate().rev() {
        if is != Is::Unknown || !thrown.is_from || at == 0 {
            break;
        }
        is = of(&chain.thrown[at - 1]);
    }
    is
}

/// Whether an exception of the chain is one by which `PyTorch` reports what happens between ranks,
/// whatever its words.
pub(super) fn is_between_ranks(chain: &Chain) -> bool {
    let is =
        |thrown: &Thrown| thrown.name() != "RuntimeError" && BETWEEN_RANKS.contains(&thrown.name());
    chain.thrown.iter().chain(&chain.leaves).any(is)
}

fn of(thrown: &Thrown) -> Is {
    let name = thrown.name();
    let fits = |rule: &&Rule| {
        (rule.kinds.is_empty() || rule.kinds.contains(&name))
            && (rule.texts.is_empty()
                || rule.texts.iter().any(|text| thrown.message.contains(text)))
    };
    let Some(rule) = RULES.iter().find(fits) else { return Is::Unknown };
    match rule.is {
        // A text that the program reads: wrong, but not the program.
        What::Is(Class::Syntax)
            if thrown.innermost.as_ref().is_some_and(|f| f.starts_with('<')) =>
        {
            Is::Unknown
        }
        What::Is(Class::MissingFile)
            if PASSING_PLACES.iter().any(|place| thrown.message.contains(place)) =>
        {
            Is::Unknown
        }
        What::Is(class) => Is::Class(class, thrown.words()),
        What::Passing => Is::Passing,
        What::Unknown => Is::Unknown,
    }
}

/// A line that says that a device is broken.
pub(super) fn device(stderr: &[String], stdout: &[String]) -> Option<String> {
    line_with(stderr, stdout, BROKEN_DEVICE)
}

/// What lines say where no exception ended the program: it was aborted by a library.
pub(super) fn of_lines(stderr: &[String], stdout: &[String]) -> Option<(Class, String)> {
    let classes =
        [(Class::Device, BROKEN_DEVICE), (Class::Timeout, TIMEOUT), (Class::LostPeer, LOST_PEER)];
    classes.into_iter().find_map(|(class, texts)| Some((class, line_with(stderr, stdout, texts)?)))
}

/// The first line with one of these texts: what follows it, follows from it. Warnings say what was
/// tried again.
fn line_with(stderr: &[String], stdout: &[String], texts: &[&str]) -> Option<String> {
    let has =
        |line: &&String| !line.starts_with("[W") && texts.iter().any(|text| line.contains(text));
    let line = stderr.iter().chain(stdout).find(has)?;
    // `[E1121 15:25:46.141929445 socket.cpp:1028] `
    let is_log = line.starts_with("[E");
    let rest = line.split_once(".cpp:").and_then(|(_, rest)| rest.split_once("] "));
    Some(rest.filter(|_| is_log).map_or(line.trim(), |(_, rest)| rest.trim()).to_owned())
}

/// Ends of a program before its own work: lines of the interpreter and of libraries that read
/// arguments. `code` is how it ended; `None` in a row is any.
static OF_PROGRAM: &[(Option<i32>, &str, Class)] = &[
    // CPython's `Modules/main.c`, `Lib/runpy.py` and `Parser/`.
    (Some(2), ": can't open file '* [Errno 13]", Class::Permission),
    (Some(2), ": can't open file '", Class::MissingFile),
    (Some(1), ": can't find '__main__' module in ", Class::MissingFile),
    (Some(1), "python*: No module named ", Class::Import),
    (Some(1), "python*: Error while finding module specification for ", Class::Import),
    (Some(1), "^SyntaxError: ", Class::Syntax),
    (Some(1), "^IndentationError: ", Class::Syntax),
    // argparse, jsonargparse, simple-parsing: `train.py: error: …` after `usage: …`.
    (Some(2), "^usage: ", Class::Arguments),
    // click, Typer, fire.
    (Some(2), "^Usage: ", Class::Arguments),
    (Some(2), "^ERROR: Could not consume arg: ", Class::Arguments),
    // tyro.
    (Some(2), "Unrecognized options", Class::Arguments),
    (Some(2), "Parsing error", Class::Arguments),
    // absl.
    (Some(1), "^FATAL Flags parsing error:", Class::Arguments),
];

/// What a program's own last lines say of an end before its work.
pub(super) fn of_program(code: i32, lines: &[String]) -> Option<(Class, String)> {
    OF_PROGRAM.iter().find_map(|(wanted, text, class)| {
        if wanted.is_some_and(|wanted| wanted != code) {
            return None;
        }
        // What was said long before the end has not ended it; a usage is long.
        let times = if *class == Class::Arguments { 2 } else { 1 };
        let lines = &lines[lines.len().saturating_sub(super::LINES_AFTER * times)..];
        let at = lines.iter().rposition(|line| stands_in(line, text))?;
        let line = &lines[at];
        if *class != Class::Arguments {
            return Some((*class, line.clone()));
        }
        // The usage is long; what is wrong stands below it.
        let is_error = |line: &&String| line.to_lowercase().contains("error: ");
        let said = lines[at..].iter().rev().find(is_error).unwrap_or(line);
        Some((*class, said.clone()))
    })
}

/// `^` holds the beginning of the line, `*` stands for anything.
fn stands_in(line: &str, text: &str) -> bool {
    if let Some(start) = text.strip_prefix('^') {
        return line.starts_with(start);
    }
    let mut rest = line;
    text.split('*').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}
