//! Decides where each stream of each rank goes.
//!
//! - R1: `-r` (redirect) is a file only, `-t` (tee) is a file and the console, neither is the
//!   console only. A stream with both is teed, as torchrun does.
//! - R2: `--local-ranks-filter` keeps the other ranks off the console; files do not care.
//! - R3: where there is no run folder, there are no files, and `-r` means the console: output is
//!   never thrown away because of an option that asks to keep it.
//! - R4: filter files get lines of teed streams whose rank the console shows, with the console's
//!   prefix, as torchrun 2.15 does (`E/multiprocessing/api.py`, `TailLog` with a filter).

use crate::settings::spec::LogSpec;

/// One of a rank's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Std {
    /// File descriptor 1.
    Out,
    /// File descriptor 2.
    Err,
}

impl Std {
    /// Both, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Out, Self::Err];

    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }

    /// 0 or 1, for tables of two.
    pub fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::Err => 1,
        }
    }
}

/// Where one stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// To `attempt_<n>/<local_rank>/<stream>.log`.
    pub file: bool,
    /// To the console.
    pub console: bool,
    /// Matching lines to `attempt_<n>/filtered_<stream>.log`.
    pub filter: bool,
}

/// Decides for one stream; `files` says whether there is a run folder.
pub fn route(spec: &LogSpec, local_rank: u32, std: Std, files: bool) -> Route {
    let (redirect, tee) = (spec.redirects.of(local_rank), spec.tee.of(local_rank));
    let (redirect, tee, needles) = match std {
        Std::Out => (redirect.stdout, tee.stdout, &spec.stdout_filters),
        Std::Err => (redirect.stderr, tee.stderr, &spec.stderr_filters),
    };
    let shown = spec.ranks_filter.as_ref().is_none_or(|ranks| ranks.contains(&local_rank));
    Route {
        file: files && (redirect || tee),
        console: shown && (tee || !(redirect && files)),
        filter: files && tee && shown && !needles.is_empty(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::settings::spec::{LogDir, StreamMap, Streams};

    pub fn spec() -> LogSpec {
        let none = || StreamMap::All(Streams::default());
        LogSpec {
            dir: LogDir::Temporary,
            redirects: none(),
            tee: none(),
            prefix: None,
            ranks_filter: None,
            fold: false,
            stdout_filters: Vec::new(),
            stderr_filters: Vec::new(),
        }
    }

    fn out(on: bool) -> StreamMap {
        StreamMap::All(Streams { stdout: on, stderr: false })
    }

    #[test]
    fn table() {
        // redirect, tee, shown, run folder → file, console, filter
        let table = [
            ((false, false, true, true), (false, true, false)),
            ((true, false, true, true), (true, false, false)),
            ((false, true, true, true), (true, true, true)),
            ((true, true, true, true), (true, true, true)),
            ((false, false, false, true), (false, false, false)),
            ((true, false, false, true), (true, false, false)),
            ((false, true, false, true), (true, false, false)),
            ((true, false, true, false), (false, true, false)),
            ((false, true, true, false), (false, true, false)),
            ((false, true, false, false), (false, false, false)),
        ];
        for ((redirect, tee, shown, files), (file, console, filter)) in table {
            let spec = LogSpec {
                redirects: out(redirect),
                tee: out(tee),
                ranks_filter: Some(if shown { vec![3] } else { vec![1, 2] }),
                stdout_filters: vec!["loss".to_owned()],
                ..spec()
            };
            assert_eq!(
                route(&spec, 3, Std::Out, files),
                Route { file, console, filter },
                "{redirect} {tee} {shown} {files}"
            );
        }
    }

    #[test]
    fn the_streams_and_ranks_do_not_mix() {
        let map = [(1, Streams { stdout: false, stderr: true })].into_iter().collect();
        let spec = LogSpec { tee: StreamMap::ByRank(map), ..spec() };
        let files: Vec<bool> = [(0, Std::Err), (1, Std::Out), (1, Std::Err)]
            .map(|(rank, std)| route(&spec, rank, std, true).file)
            .to_vec();
        assert_eq!(files, [false, false, true]);
    }
}
