//! Makes what an attempt needs: folders, log files and pipes, in torchrun's layout.
//!
//! `attempt_<n>/<local_rank>/{stdout.log,stderr.log,error.json}` and
//! `attempt_<n>/filtered_{stdout,stderr}.log`. Nothing that exists is emptied or removed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::file::LogFile;
use super::routes::{Route, Std, route};
use super::stream::{Filter, Show, Stream};
use super::tail::{Tail, limit_for};
use super::{LogConfig, LogsError, RankOutput, RankPipes};

/// What was made.
pub struct Opened {
    /// For the ranks, by local rank.
    pub pipes: Vec<RankPipes>,
    /// For the pump.
    pub streams: Vec<Stream>,
    /// By [`Std::index`].
    pub filters: [Option<Filter>; 2],
}

/// Makes everything, or nothing that would keep a descriptor open; without a folder no files.
pub fn open(config: &LogConfig, folder: Option<&Path>) -> Result<Opened, LogsError> {
    let ranks = config.ranks.len();
    let tail_limit = limit_for(2 * ranks);
    let mut opened =
        Opened { pipes: Vec::with_capacity(ranks), streams: Vec::new(), filters: [None, None] };
    for (index, label) in (0..).zip(&config.ranks) {
        let rank_folder = folder.map(|folder| folder.join(label.local_rank.to_string()));
        if let Some(path) = &rank_folder {
            make_folder(path)?;
        }
        let mut outputs = [RankOutput::Inherit, RankOutput::Inherit];
        for std in Std::BOTH {
            let route = route(&config.spec, label.local_rank, std, rank_folder.is_some());
            let direct = std == Std::Out && has_terminal(config, label.local_rank);
            if direct && route.console && !route.file {
                continue;
            }
            let pipes = |source| LogsError::Pipes { ranks, source };
            let (ours, theirs) = pipe(ranks).map_err(pipes)?;
            outputs[std.index()] = RankOutput::Pipe(theirs);
            let (id, show) = (opened.streams.len(), show(config, label.local_rank, route));
            let mut stream = Stream::new(id, index, std, ours, Tail::new(tail_limit), show);
            stream.filtered = route.filter;
            if let (true, Some(folder)) = (route.file, &rank_folder) {
                stream.file = Some(open_file(folder.join(format!("{}.log", std.name())))?);
            }
            opened.streams.push(stream);
        }
        let [stdout, stderr] = outputs;
        let error_file = rank_folder.map(|folder| folder.join("error.json"));
        opened.pipes.push(RankPipes { stdout, stderr, error_file });
    }
    if let Some(folder) = folder {
        let needles = [&config.spec.stdout_filters, &config.spec.stderr_filters];
        for (std, needles) in Std::BOTH.into_iter().zip(needles) {
            if !needles.is_empty() {
                let path = folder.join(format!("filtered_{}.log", std.name()));
                opened.filters[std.index()] = Some(Filter::new(needles, open_file(path)?));
            }
        }
    }
    Ok(opened)
}

fn has_terminal(config: &LogConfig, local_rank: u32) -> bool {
    config.console.direct_terminal == Some(local_rank)
}

fn show(config: &LogConfig, local_rank: u32, route: Route) -> Show {
    let bare = config.ranks.len() == 1 && config.spec.prefix.as_deref().is_none_or(str::is_empty);
    if !route.console {
        Show::Nothing
    } else if bare || has_terminal(config, local_rank) {
        Show::Raw
    } else {
        Show::Lines
    }
}

fn make_folder(path: &Path) -> Result<(), LogsError> {
    std::fs::create_dir_all(path)
        .map_err(|source| LogsError::Folder { path: path.to_owned(), source })
}

fn open_file(path: PathBuf) -> Result<LogFile, LogsError> {
    LogFile::open(&path).map_err(|source| LogsError::File { path, source })
}

/// A pipe: our end, which does not block, and the rank's.
fn pipe(ranks: usize) -> io::Result<(File, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(ours.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // More room means fewer switches between rank and pump. A user's share of pipe memory may be
    // used up (EPERM); the default size works too.
    let size = match ranks {
        0..=8 => 1024 * 1024,
        9..=32 => 256 * 1024,
        _ => return Ok((File::from(ours), theirs)),
    };
    let _ = fcntl(ours.as_fd(), FcntlArg::F_SETPIPE_SZ(size));
    Ok((File::from(ours), theirs))
}
