//! How far the ranks have come: plain values, for the diagnosis and the report.

use serde::Serialize;

/// How far all ranks have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// One for each rank.
    pub ranks: Vec<State>,
    /// How far the default group is.
    pub init: Init,
    /// Where the ranks gather and not all have come; `None` where nobody waits for a rank there.
    pub gathering: Option<Gathering>,
    /// What else is waited for, the same wait of several ranks once.
    pub waits: Vec<Wait>,
    /// Signs that a rank was told something wrong.
    pub signs: Vec<Sign>,
}

/// How far the default group is, as far as the store sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// No rank has begun it, or none has left a trace of it.
    #[default]
    NotSeen,
    /// Some ranks have begun it, and not all are through.
    UnderWay,
    /// All ranks are through.
    Complete,
}

/// How far one rank has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No client of the rank has come.
    NotConnected,
    /// Connected to the store; whether it is in `init_process_group` or past it leaves no trace.
    Connected,
    /// In `init_process_group`.
    Joining,
    /// The store has nothing more to give it for the default group. It may still be connecting to
    /// the others, which the store does not see.
    Joined,
    /// Waits for something after that: which of [`Standing::waits`].
    Waiting(usize),
    /// A client came of which is not known whose it is; it may be this rank's.
    Unknown,
}

/// A place that all ranks have to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gathering {
    /// The place.
    pub place: Place,
    /// The ranks that wait there, as far as is known whose the waiting clients are.
    pub waiting: Vec<u32>,
    /// The ranks that have not come. Empty where it is not known which ones.
    pub missing: Vec<u32>,
}

/// Where ranks gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// `init_process_group`
    Init,
    /// The set-up of NCCL for the default group: in `init_process_group` or in the first collective.
    Nccl,
}

/// A wait and who shares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// For what.
    pub what: What,
    /// The ranks that wait; clients that belong to nobody known are not among them.
    pub ranks: Vec<u32>,
    /// The ranks that are waited for, where that can be said.
    pub missing: Vec<u32>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A barrier.
    Barrier {
        /// Its name, as it may be shown.
        name: String,
        /// How many have still to come, where the barrier says so.
        more: Option<u64>,
    },
    /// The set-up of a process group other than the default one.
    Group {
        /// Its name, as it may be shown.
        name: String,
    },
    /// `init_rpc` or its shutdown.
    Rpc,
    /// A key.
    Key {
        /// The first that is not there, as it may be shown.
        key: String,
        /// How many more are not there.
        others: usize,
    },
}

/// A sign that a rank was told something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A rank joins a group of another size than this job's.
    GroupSize {
        /// The rank.
        rank: u32,
        /// The size.
        size: u32,
        /// Whether the size is known; else it is at least this.
        is_exact: bool,
    },
    /// A rank joins under the number of another.
    OtherNumber {
        /// The rank.
        rank: u32,
        /// The number.
        number: u32,
    },
    /// Two processes join under the same number.
    SameNumber {
        /// The number.
        number: u32,
        /// The processes, as they call themselves.
        pids: Vec<u32>,
    },
}

impl Standing {
    /// Whether every rank is in the default group and nobody waits for it.
    pub fn all_have_joined(&self) -> bool {
        let has_joined = |state: &State| matches!(state, State::Joined | State::Waiting(_));
        self.gathering.is_none() && self.ranks.iter().all(has_joined)
    }

    /// Whether others wait for this rank.
    pub fn is_missing(&self, rank: u32) -> bool {
        self.gathering.as_ref().is_some_and(|gathering| gathering.missing.contains(&rank))
    }

    /// The same where the clients that waited may have given up: whoever began
    /// `init_process_group` and did not come through it waited for those who had not begun.
    #[must_use]
    pub fn with_who_gave_up(mut self) -> Self {
        if self.gathering.is_some() {
            return self;
        }
        let those = |is: fn(&State) -> bool| -> Vec<u32> {
            let all = (0..).zip(&self.ranks);
            all.filter(|(_, state)| is(state)).map(|(rank, _)| rank).collect()
        };
        let waiting = those(|state| matches!(state, State::Joining));
        let missing = those(|state| matches!(state, State::NotConnected | State::Connected));
        let is_known = !self.ranks.iter().any(|state| matches!(state, State::Unknown));
        if !waiting.is_empty() && !missing.is_empty() && is_known {
            self.gathering = Some(Gathering { place: Place::Init, waiting, missing });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_up_waited_for_those_that_had_not_begun() {
        let of = |ranks: &[State]| Standing { ranks: ranks.to_vec(), ..Standing::default() };
        let (begun, not, joined) = (State::Joining, State::NotConnected, State::Joined);
        let standing = of(&[begun.clone(), not.clone(), State::Connected]).with_who_gave_up();
        let gathering = standing.gathering.clone().expect("somebody is missing");
        assert_eq!((gathering.waiting, gathering.missing), (vec![0], vec![1, 2]));
        assert!(standing.is_missing(2) && !standing.is_missing(0));
        for nobody in [
            of(&[joined.clone(), not.clone()]),
            of(&[begun.clone(), joined.clone()]),
            of(&[begun, not, State::Unknown]),
        ] {
            assert_eq!(nobody.clone().with_who_gave_up(), nobody);
        }
        assert!(of(&[joined.clone(), joined]).all_have_joined());
    }
}
