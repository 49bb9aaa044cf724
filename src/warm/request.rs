//! What a forked process is told of the rank that it shall be. Decides nothing.
//!
//! Only what the template does not have already: the rank's own variables, its streams, and its
//! arguments where they are not those of rank 0.

use std::os::fd::{AsRawFd as _, RawFd};

use super::decide::WarmPlan;
use super::protocol::Packet;
use super::template::{Socket, script_args};
use crate::logs::{RankOutput, RankPipes};
use crate::plan::{AttemptEnv, Plan};

/// A rank that waits to be started.
#[derive(Debug)]
pub struct Waiting {
    /// What is known of it only now.
    pub env: AttemptEnv,
    /// Its output.
    pub pipes: RankPipes,
}

/// Sends one rank's description with its streams.
pub fn describe(
    channel: &Socket,
    plan: &Plan,
    warm: &WarmPlan,
    rank: u32,
    waiting: &Waiting,
) -> std::io::Result<()> {
    let planned = &plan.ranks[rank as usize];
    let mut streams = Vec::new();
    let mut fds: Vec<RawFd> = Vec::new();
    if plan.stdin_rank == Some(rank) {
        streams.push("0");
        fds.push(0);
    }
    for (name, output) in [("1", &waiting.pipes.stdout), ("2", &waiting.pipes.stderr)] {
        streams.push(name);
        fds.push(match output {
            RankOutput::Inherit => {
                if name == "1" {
                    1
                } else {
                    2
                }
            }
            RankOutput::Pipe(fd) => fd.as_raw_fd(),
        });
    }
    let cpus = planned.cpus.iter().flatten().map(u32::to_string);
    let env = plan.rank_env(rank, &waiting.env);
    let own = env.into_iter().filter(|entry| !warm.env.contains(entry)).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let packet = Packet::default().one(rank.to_string()).many(streams).many(cpus).many(own);
    let args = plan.rank_args(rank, &waiting.env);
    let args = script_args(&args);
    // The template has the arguments of rank 0, without where to resume.
    let packet = if args == script_args(&plan.ranks[0].args) {
        packet.one("0")
    } else {
        packet.one("1").many(args)
    };
    channel.send(&packet, &fds)
}
