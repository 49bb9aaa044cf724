//! Every exit code of nvlaunch, in one place.
//!
//! A job that ran ends with 0, or with the code of the rank that failed first (128 + n where
//! signal n ended it), or with 128 + n where nvlaunch itself was asked to end by signal n. Reasons
//! of nvlaunch's own use the numbers of `sysexits.h`, which scripts seldom return.
//!
//! The comments are the texts of the reference page and of the manual.

/// One exit code.
#[derive(Debug)]
pub struct ExitCode {
    /// The number.
    pub code: u8,
    /// What it says; the lines of a comment, with the spaces they begin with.
    pub text: &'static str,
}

macro_rules! exit_codes {
    ($($(#[doc = $text:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $text])+ pub const $name: u8 = $code;)+

        /// All of them, ascending.
        pub static ALL: &[ExitCode] = &[$(
            ExitCode { code: $code, text: concat!($($text, "\n"),+) },
        )+];
    };
}

exit_codes! {
    /// Every rank ended with 0. `nvlaunch preflight`: a launch would start, also where something is
    /// lost.
    OK = 0;
    /// `nvlaunch replay`: the recorded decisions are not the ones this program takes.
    /// `nvlaunch plan --diff`: the plan is not the one of the file.
    /// `nvlaunch smoke`: a value is wrong, a rank failed, or time was up.
    /// `nvlaunch checkpoint inspect`: nothing there can be resumed from.
    DIFFERS = 1;
    /// The command line (or a `PET_*` variable) cannot be understood.
    USAGE = 2;
    /// Every rank ended with 0 and the job was not done, where `--on-suspicious-success fail` says so.
    UNFINISHED = 65;
    /// A file that was named cannot be used: the script is missing, a folder, not readable; facts or
    /// a plan that are none; a profile that nobody has; a folder to inspect.
    NO_INPUT = 66;
    /// Something the launch needs is not here: the interpreter, a GPU that `--nproc gpu` asks for.
    /// Preflight refuses the machine: no rank was started; the same from `nvlaunch preflight`
    /// and `nvlaunch plan`. The checkpoint folder, or what is newest there, could not be looked at;
    /// the same from `nvlaunch checkpoint inspect`.
    UNAVAILABLE = 69;
    /// An error in nvlaunch itself.
    INTERNAL = 70;
    /// The system refused: a limit on files or processes, no `/proc`.
    OS = 71;
    /// A file or folder cannot be made: log folder, run folder, report, facts, profile.
    CANNOT_CREATE = 73;
    /// A process could not be ended (uninterruptible sleep); it is named in the report.
    STUCK = 74;
    /// The machine was taken away by the scheduler's signal, where there is a checkpoint folder: the
    /// job is to be started again and goes on from its checkpoint.
    PREEMPTED = 75;
    /// A profile or a configuration file says something that is wrong, or is no text; each mistake
    /// was named with its place.
    CONFIG = 78;
    /// A program was found and could not be executed.
    NOT_EXECUTABLE = 126;
}

/// 128 + `signal`, the shell's convention for an end by a signal.
pub fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_ascend_and_none_looks_like_a_signal() {
        assert!(ALL.windows(2).all(|two| two[0].code < two[1].code));
        assert!(ALL.iter().all(|code| code.code < 128));
    }
}
