//! Every way in which nvlaunch is not torchrun 2.15, on purpose.

use super::Different;
use crate::machine::threads_of;

/// One deliberate difference.
#[derive(Debug)]
pub struct Difference {
    /// What is compared.
    pub what: &'static str,
    /// The rows where it is allowed and must be seen; none for any row, at least one.
    pub rows: &'static [&'static str],
    /// Its value under torchrun; `*` is any text, `-` is none.
    pub torchrun: &'static str,
    /// Its value under nvlaunch.
    pub nvlaunch: &'static str,
    /// The machines where it is to be seen; on others it must not be.
    pub on: Machines,
    /// Why it is wanted.
    #[expect(dead_code, reason = "for readers of the list, and of the failed test")]
    pub why: &'static str,
}

/// Some machines.
#[derive(Debug, Clone, Copy)]
pub enum Machines {
    All,
    /// Those with more than one core for each of two ranks.
    WithCores,
    /// Those with a quota of fewer CPUs than there are.
    WithQuota,
}

impl Difference {
    /// Whether it is to be seen on this machine.
    pub fn is_here(&self) -> bool {
        match self.on {
            Machines::All => true,
            Machines::WithCores => threads_of(2) != Some(1),
            Machines::WithQuota => threads_of(1).is_some(),
        }
    }

    pub fn is(&self, one: &Different) -> bool {
        self.is_here()
            && fits(self.what, &one.what)
            && (self.rows.is_empty() || self.rows.contains(&one.row))
            && fits(self.torchrun, &one.torchrun)
            && fits(self.nvlaunch, &one.nvlaunch)
    }
}

/// Whether `text` is `pattern`, with one `*` at most.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

const fn any(
    what: &'static str,
    torchrun: &'static str,
    nvlaunch: &'static str,
    why: &'static str,
) -> Difference {
    Difference { what, rows: &[], torchrun, nvlaunch, on: Machines::All, why }
}

const fn of(
    rows: &'static [&'static str],
    what: &'static str,
    torchrun: &'static str,
    nvlaunch: &'static str,
    why: &'static str,
) -> Difference {
    Difference { what, rows, torchrun, nvlaunch, on: Machines::All, why }
}

/// Why an exit code is another one.
const CODES: &str = "the code of the rank that failed first, 128 + n for signal n, or a reason of \
                     nvlaunch's own from sysexits.h tells more than 1";
/// Why a command line that torchrun begins to run is refused.
const USAGE: &str = "what cannot be right is an error of usage, in one line and before anything \
                     is started, not a traceback";
/// Why `--run-path` is as any other way.
const RUN_PATH: &str = "the script runs as any other script, not in a fork server's child";
/// Why lines on the console begin with the rank.
const PREFIX: &str = "whole lines with the number of their rank, always where there are several";

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    // The environment.
    any(
        "env MASTER_ADDR",
        "<name of this host>",
        "127.0.0.1",
        "no name has to be looked up, and nothing goes over a network",
    ),
    of(
        &["an id alone", "standalone with an id"],
        "env TORCHELASTIC_RUN_ID",
        "<id>",
        "job7",
        "torchrun sets an id aside without a word that the user has given",
    ),
    of(
        &["static with a port"],
        "env TORCHELASTIC_RUN_ID",
        "none",
        "<id>",
        "two runs do not share an id",
    ),
    of(
        &["no files"],
        "env TORCHELASTIC_ERROR_FILE",
        "",
        "-",
        "PyTorch takes an empty one for none; scripts that open what is set do not",
    ),
    Difference {
        on: Machines::WithCores,
        ..any(
            "env OMP_NUM_THREADS",
            "1",
            "*",
            "a rank has its share of the cores; with one thread each most of them are idle",
        )
    },
    Difference {
        on: Machines::WithQuota,
        ..any("env OMP_NUM_THREADS", "-", "*", "OpenMP does not see the quota of a container")
    },
    of(
        &["interpreter"],
        "env NCCL_ASYNC_ERROR_HANDLING",
        "-",
        "1",
        "a PyTorch that is not found may be older than 2.2, which reads this name alone",
    ),
    any("env NVLAUNCH_ATTEMPT", "-", "*", "nvlaunch's own names"),
    any("env NVLAUNCH_BACKEND", "-", "gloo", "nvlaunch's own names"),
    any("env NVLAUNCH_PROGRESS_FILE", "-", "<dir>/*", "nvlaunch's own names"),
    any("env NVLAUNCH_RUN_DIR", "-", "<dir>/*", "nvlaunch's own names"),
    any("env NVLAUNCH_RUN_ID", "-", "<id>", "nvlaunch's own names"),
    any("env NVLAUNCH_VERSION", "-", "*", "nvlaunch's own names"),
    // The ranks.
    of(
        &[],
        "stdin",
        "<dir>/stdin",
        "/dev/null",
        "several readers of one input get pieces of it by chance",
    ),
    of(&["run path"], "leads its session", "false", "true", RUN_PATH),
    of(&["run path"], "open files", "*", "[0,1,2]", RUN_PATH),
    of(&["run path"], "options", "*", "[\"-u\",\"run.py\",\"x\"]", RUN_PATH),
    // How it ends.
    of(&["one fails"], "exit code", "1", "3", CODES),
    of(&["one is killed"], "exit code", "1", "137", CODES),
    of(&["exit code 2"], "exit code", "1", "2", CODES),
    of(&["restarts used up"], "exit code", "1", "9", CODES),
    of(&["plain error file"], "exit code", "1", "7", CODES),
    of(&["asked to end by a rank"], "exit code", "1", "130", CODES),
    of(&["missing script", "missing program"], "exit code", "1", "66", CODES),
    of(&["no GPU"], "exit code", "1", "69", CODES),
    of(BAD_VALUES, "exit code", "1", "2", USAGE),
    of(BAD_VALUES, "end", "failed", "usage", USAGE),
    of(&["flag that is no number"], "*", "*", "*", "a flag may also be true, yes or on"),
    of(
        &["an argument like half an option"],
        "*",
        "*",
        "*",
        "argparse takes even a word after the script for an ambiguous option of torchrun",
    ),
    // What is printed.
    any("prefix on stdout", "", "[rank N] ", PREFIX),
    any("prefix on stderr", "", "[rank N] ", PREFIX),
    of(
        &["tee", "tee and redirect by rank", "filters"],
        "prefix on stderr",
        "[defaultN]:",
        "[rank N] ",
        PREFIX,
    ),
    of(&["tee", "filters"], "prefix on stdout", "[defaultN]:", "[rank N] ", PREFIX),
    of(
        &["last line without an end"],
        "prefix on stdout",
        "[defaultN]:",
        "",
        "one rank alone needs no name",
    ),
    // Files.
    of(
        &["filters"],
        "file attempt_0/filtered_stdout.log",
        "[default0]:O:0 keep, this\n[default0]:O:0 end\n",
        "[rank 0] O:0 keep, this\n[rank 0] O:0 end\n",
        "lines in these files begin as on the console",
    ),
    of(
        &["filters"],
        "file attempt_0/filtered_stderr.log",
        "[default0]:E:0 drop\n",
        "[rank 0] E:0 drop\n",
        "lines in these files begin as on the console",
    ),
    any("file events.jsonl", "-", "<events>", "the record of the run, for `nvlaunch replay`"),
    any(
        "temporary folder",
        "torchelastic",
        "",
        "nothing is left after a run that ends well, unless files were asked for",
    ),
    of(
        &["one fails", "one is killed", "exit code 2", "restarts used up"],
        "temporary folder",
        "torchelastic",
        "nvlaunch",
        "the run folder of a failed run stays, under nvlaunch's name",
    ),
    of(
        &["redirect without a folder", "template", "template by variable"],
        "temporary folder",
        "torchelastic",
        "nvlaunch",
        "files that were asked for stay, under nvlaunch's name",
    ),
];

/// Values that nothing can be done with.
const BAD_VALUES: &[&str] = &[
    "less than no restart",
    "module without python",
    "no node",
    "no rank",
    "no such number",
    "streams that are none",
];
