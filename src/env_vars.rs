//! Every environment variable that nvlaunch reads or sets, in one list.

/// Set for each rank: identifies the run, and marks every descendant of its ranks.
pub const RUN_ID: &str = "NVLAUNCH_RUN_ID";
/// Set for each rank: the number of this attempt, 0 for the first.
pub const ATTEMPT: &str = "NVLAUNCH_ATTEMPT";
/// Set for each rank: the run folder (absent with `--log-dir /dev/null`).
pub const RUN_DIR: &str = "NVLAUNCH_RUN_DIR";
/// Set for each rank: the version of nvlaunch that started it.
pub const VERSION: &str = "NVLAUNCH_VERSION";
/// Read: the level of the developers' log on stderr (`error` … `trace`); off by default.
pub const LOG: &str = "NVLAUNCH_LOG";
