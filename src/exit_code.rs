//! Every exit code of nvlaunch, in one place.
//!
//! A job that ran ends with 0, or with the code of the rank that failed first (128 + n where
//! signal n ended it), or with 128 + n where nvlaunch itself was asked to end by signal n. Reasons
//! of nvlaunch's own use the numbers of `sysexits.h`, which scripts seldom return.

/// Every rank ended with 0. `nvlaunch preflight`: a launch would start, also where something is lost.
pub const OK: u8 = 0;
/// `nvlaunch replay`: the recorded decisions are not the ones this program takes.
/// `nvlaunch plan --diff`: the plan is not the one of the file.
pub const DIFFERS: u8 = 1;
/// The command line (or a `PET_*` variable) cannot be understood.
pub const USAGE: u8 = 2;
/// A file that was named cannot be used: the script is missing, a folder, not readable; facts or a
/// plan that are none; a profile that nobody has.
pub const NO_INPUT: u8 = 66;
/// Something the launch needs is not here: the interpreter, a GPU that `--nproc gpu` asks for.
/// Preflight refuses the machine: no rank was started; the same from `nvlaunch preflight` and
/// `nvlaunch plan`.
pub const UNAVAILABLE: u8 = 69;
/// An error in nvlaunch itself.
pub const INTERNAL: u8 = 70;
/// The system refused: a limit on files or processes, no `/proc`.
pub const OS: u8 = 71;
/// A file or folder cannot be made: log folder, run folder, report, facts, profile.
pub const CANNOT_CREATE: u8 = 73;
/// A process could not be ended (uninterruptible sleep); it is named in the report.
pub const STUCK: u8 = 75;
/// A profile or a configuration file says something that is wrong, or is no text; each mistake was
/// named with its place.
pub const CONFIG: u8 = 78;
/// A program was found and could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;

/// 128 + `signal`, the shell's convention for an end by a signal.
pub fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
