//! The ranks of one attempt between the request to fork them and the word to go (W2). Pure.
//!
//! - K1: all ranks go, or none does: the word is given when every one is there.
//! - K2: so many requests are under way at a time as fit into a socket's buffer; the next one is
//!   due when an earlier rank was forked.

use super::protocol::Message;

/// Requests that are sent before the first rank is forked.
const WINDOW: u32 = 8;

/// What is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    ranks: Vec<Candidate>,
    sent: u32,
    forked: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Candidate {
    pid: Option<i32>,
    is_here: bool,
}

/// Where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Some are to come.
    Waiting,
    /// Every rank is there: its process id, by local rank.
    Complete(Vec<i32>),
    /// It cannot come to that.
    Failed(String),
}

impl Candidates {
    /// So many are to come.
    pub fn new(ranks: u32) -> Self {
        Self { ranks: vec![Candidate::default(); ranks as usize], sent: 0, forked: 0 }
    }

    /// The rank that is to be asked for now, if one is; asked for means sent.
    pub fn next_request(&mut self) -> Option<u32> {
        let rank = self.sent;
        let is_due = (rank as usize) < self.ranks.len() && self.sent - self.forked < WINDOW;
        is_due.then(|| {
            self.sent += 1;
            rank
        })
    }

    /// Takes what was said.
    pub fn take(&mut self, message: &Message) -> Standing {
        let unexpected = || Standing::Failed(format!("the template said {message:?}"));
        match message {
            Message::Failed { rank, why } => {
                return Standing::Failed(format!("rank {rank} could not be forked: {why}"));
            }
            Message::Forked { rank, pid } => match self.ranks.get_mut(*rank as usize) {
                Some(candidate) if candidate.pid.is_none() => {
                    candidate.pid = Some(*pid);
                    self.forked += 1;
                }
                _ => return unexpected(),
            },
            Message::Here { rank } => match self.ranks.get_mut(*rank as usize) {
                Some(candidate) if !candidate.is_here => candidate.is_here = true,
                _ => return unexpected(),
            },
            Message::Ready { .. } | Message::Refused { .. } | Message::Script { .. } => {
                return unexpected();
            }
        }
        let complete = self.ranks.iter().map(|rank| rank.pid.filter(|_| rank.is_here));
        complete.collect::<Option<Vec<i32>>>().map_or(Standing::Waiting, Standing::Complete)
    }

    /// The process ids that are known, with their local ranks.
    pub fn pids(&self) -> impl Iterator<Item = (u32, i32)> {
        (0u32..).zip(&self.ranks).filter_map(|(rank, candidate)| Some((rank, candidate.pid?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forked(rank: u32) -> Message {
        Message::Forked { rank, pid: 100 + i32::try_from(rank).unwrap() }
    }

    #[test]
    fn all_are_there_before_one_goes() {
        let mut ranks = Candidates::new(2);
        assert_eq!(ranks.take(&forked(0)), Standing::Waiting);
        assert_eq!(ranks.take(&Message::Here { rank: 0 }), Standing::Waiting);
        // A rank may be faster than the process that forked it.
        assert_eq!(ranks.take(&Message::Here { rank: 1 }), Standing::Waiting);
        assert_eq!(ranks.pids().collect::<Vec<_>>(), [(0, 100)]);
        assert_eq!(ranks.take(&forked(1)), Standing::Complete(vec![100, 101]));
    }

    #[test]
    fn requests_wait_for_room() {
        let mut ranks = Candidates::new(20);
        let mut asked: Vec<u32> = std::iter::from_fn(|| ranks.next_request()).collect();
        assert_eq!(asked, (0..8).collect::<Vec<_>>());
        ranks.take(&forked(0));
        asked.extend(std::iter::from_fn(|| ranks.next_request()));
        assert_eq!(asked.last(), Some(&8));
        for rank in 1..20 {
            ranks.take(&forked(rank));
            asked.extend(std::iter::from_fn(|| ranks.next_request()));
        }
        assert_eq!(asked, (0..20).collect::<Vec<_>>(), "each once");
    }

    #[test]
    fn what_does_not_fit_ends_it() {
        let why = "x".to_owned();
        for message in [
            Message::Failed { rank: 0, why: why.clone() },
            Message::Forked { rank: 2, pid: 7 },
            Message::Here { rank: 9 },
            Message::Refused { why },
        ] {
            let standing = Candidates::new(2).take(&message);
            assert!(matches!(standing, Standing::Failed(_)), "{message:?}");
        }
        let mut twice = Candidates::new(2);
        twice.take(&forked(0));
        assert!(matches!(twice.take(&forked(0)), Standing::Failed(_)));
    }
}
