//! The loop's part in warm starts: what comes of a turn of [`WarmStart`] is done here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Runtime;
use crate::supervise::event::Event;
use crate::supervise::family::Which;
use crate::supervise::warm_start::{Context, Turn, WarmStart};

impl Runtime<'_> {
    /// Something may have come from the template or from what it forked.
    pub(super) fn warm_turn(&mut self) {
        let turn = self.look_at_warm();
        let mut events = VecDeque::new();
        self.take_turn(turn, &mut events);
        self.feed_all(events);
        self.go();
    }

    pub(super) fn look_at_warm(&mut self) -> Turn {
        let before = self.warm.pid();
        let turn = self.with_warm(WarmStart::turn);
        for line in self.warm.take_said() {
            self.say(Some(line));
        }
        let pid = self.warm.pid();
        if pid != before {
            self.family.set_template(pid);
            if let (Some(pid), Some(keeper)) = (pid, &mut self.keeper) {
                keeper.know(pid);
            }
        }
        turn
    }

    fn with_warm<T>(&mut self, f: impl FnOnce(&mut WarmStart, &Context<'_>) -> T) -> T {
        let order = self.ranks.order_for_template();
        let cx = Context {
            now: self.clock.now(),
            epoll: &self.epoll,
            plan: self.job.plan,
            order: &order,
            run_dir: self.job.run_dir.as_deref(),
        };
        f(&mut self.warm, &cx)
    }

    pub(super) fn take_turn(&mut self, turn: Turn, events: &mut VecDeque<Event>) {
        match turn {
            Turn::Wait => {}
            Turn::Cold(waiting, why) => {
                self.say(Some(format!("nvlaunch: note: ranks start cold: {why}\n")));
                self.spawn_cold(waiting, events);
            }
            Turn::Complete(waiting, pids) => {
                for (rank, pid) in (0u32..).zip(pids) {
                    self.ranks.adopt(rank, pid);
                    self.watch_rank(rank, pid);
                    events.push_back(Event::Spawned { rank, pid });
                }
                // Our copies of the ranks' streams close here.
                drop(waiting);
            }
        }
    }

    /// The core knows the ranks; their scripts may run.
    fn go(&mut self) {
        let attempt = self.core.attempt().number;
        self.warm.go(attempt, self.job.plan.ranks.len());
    }

    /// Ends the template, and what the modules it imported may have started.
    pub(super) fn end_template(&mut self) {
        self.with_warm(WarmStart::read_times);
        if self.warm.pid().is_none() {
            return;
        }
        self.with_warm(WarmStart::dismiss);
        self.family.set_template(None);
        let end = Instant::now() + Duration::from_secs(1);
        while self.family.count(Which::All) > 0 && Instant::now() < end {
            self.family.end(Which::All, Signal::KILL);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
