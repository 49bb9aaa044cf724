//! The loop's part in starting: the ranks of an attempt, and the keeper.

use std::collections::VecDeque;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{KEEPER, MAX_KEEPERS, Runtime};
use crate::logs::{LogsError, RankPipes};
use crate::plan::AttemptEnv;
use crate::supervise::announce;
use crate::supervise::event::Event;
use crate::supervise::keeper::Keeper;
use crate::warm::request::Waiting;

impl Runtime<'_> {
    pub(super) fn spawn_all(&mut self, attempt: u32, answers: &mut VecDeque<Event>) {
        let count = self.job.plan.ranks.len();
        self.ranks.begin_attempt(count);
        self.family.begin_attempt();
        self.error_files.clear();
        let failed = |rank, reason: String| Event::SpawnFailed { rank, reason };
        self.missing = None;
        let master_port = match self.job.meeting.begin_attempt(count) {
            Ok(port) => port,
            Err(error) => {
                let port = self.job.plan.master_port.unwrap_or(0);
                answers.push_back(failed(0, format!("cannot take port {port}: {error}")));
                return;
            }
        };
        let pipes = match self.open_logs(attempt) {
            Ok(pipes) => pipes,
            Err(error) => {
                answers.push_back(failed(0, error_chain(&error)));
                return;
            }
        };
        self.forget_reported();
        let resume = self.resume(attempt);
        let waiting = pipes.into_iter().map(|pipes| {
            let error_file = pipes.error_file.clone();
            self.error_files.push(error_file.clone());
            let run_dir = self.job.run_dir.clone();
            Waiting {
                env: AttemptEnv {
                    attempt,
                    master_port,
                    error_file,
                    run_dir,
                    resume: resume.clone(),
                },
                pipes,
            }
        });
        let waiting: Vec<Waiting> = waiting.collect();
        if self.warm.is_for(attempt) {
            self.warm.request(waiting);
            answers.push_back(Event::Deferred);
            let turn = self.look_at_warm();
            self.take_turn(turn, answers);
        } else {
            self.warm.cold_attempt(self.clock.now());
            self.spawn_cold(waiting, answers);
        }
    }

    /// A disk that is full by now ends no job (S8); one that is so at the start is said before
    /// anything was done.
    fn open_logs(&mut self, attempt: u32) -> Result<Vec<RankPipes>, LogsError> {
        let opened = self.logs.open_attempt(attempt);
        if attempt > 0
            && let Err(error @ (LogsError::Folder { .. } | LogsError::File { .. })) = &opened
        {
            self.say(Some(announce::no_log_files(attempt, &error_chain(error))));
            return self.logs.open_attempt_without_files();
        }
        opened
    }

    pub(super) fn spawn_cold(&mut self, waiting: Vec<Waiting>, answers: &mut VecDeque<Event>) {
        for (rank, waiting) in (0u32..).zip(waiting) {
            match self.ranks.start(self.job.plan, rank, &waiting.env, waiting.pipes) {
                Ok(pid) => {
                    self.watch_rank(rank, pid);
                    answers.push_back(Event::Spawned { rank, pid });
                }
                Err(error) => {
                    answers.push_back(Event::SpawnFailed { rank, reason: error.to_string() });
                    return;
                }
            }
        }
    }

    /// A rank's process is there.
    pub(super) fn watch_rank(&mut self, rank: u32, pid: i32) {
        self.family.add_rank(rank, pid);
        self.job.meeting.started(rank, pid);
        if let Some(keeper) = &mut self.keeper {
            keeper.know(pid);
        }
        if let Some(pidfd) = self.ranks.pidfd(rank) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(rank));
            // Without it the exit is seen through SIGCHLD, as before Linux 5.3.
            let _ = self.epoll.add(pidfd, event);
        }
    }

    pub(super) fn start_keeper(&mut self) {
        let keep = self.job.spec.keep_daemons;
        let Ok(mut keeper) = Keeper::start(&self.job.mark, keep, self.job.run_dir.as_deref())
        else {
            self.logs.say(
                b"nvlaunch: the keeper could not be started: if nvlaunch is killed with SIGKILL, \
                  processes that the ranks started may stay\n",
            );
            return;
        };
        for rank in self.ranks.unreaped() {
            keeper.know(self.ranks.pid(rank).expect("an unreaped rank has a pid"));
        }
        if let Some(template) = self.warm.pid() {
            keeper.know(template);
        }
        self.keepers += 1;
        self.family.set_keeper(Some(keeper.pid()));
        if let Some(pidfd) = keeper.pidfd() {
            let _ = self.epoll.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, KEEPER));
        }
        self.keeper = Some(keeper);
    }

    pub(super) fn replace_keeper(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        if !keeper.is_gone() {
            return;
        }
        if let Some(pidfd) = keeper.pidfd() {
            let _ = self.epoll.delete(pidfd);
        }
        self.keeper = None;
        self.family.set_keeper(None);
        if self.keepers < MAX_KEEPERS {
            self.start_keeper();
        }
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
