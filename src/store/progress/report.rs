//! From what was seen to where the ranks stand.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{self, Form, form, shown};
use super::standing::{Gathering, Init, Place, Sign, Standing, State, Wait, What};
use super::trace::{Barrier, Trace};
use super::{Client, ClientId, MAX_KEYS, PendingView, Progress};

impl Progress {
    /// How far the ranks are now. `pending` has each client that waits and what for.
    pub fn report<'a>(
        &self,
        pending: impl Iterator<Item = (ClientId, PendingView<'a>)>,
    ) -> Standing {
        let traces = self.traces();
        let waiting = self.sort_out(pending);
        let mut waits: Vec<Wait> = Vec::new();
        for (rank, what, missing) in &waiting.others {
            match waits.iter_mut().find(|wait| wait.what == *what) {
                Some(wait) => wait.ranks.extend(rank),
                None => waits.push(Wait {
                    what: what.clone(),
                    ranks: rank.iter().copied().collect(),
                    missing: missing.clone(),
                }),
            }
        }
        for wait in &mut waits {
            wait.ranks.sort_unstable();
            wait.ranks.dedup();
            wait.missing.retain(|rank| !wait.ranks.contains(rank));
            // Who does not wait in a barrier is missing there only where all who came are known.
            if let What::Barrier { more: Some(more), .. } = wait.what
                && wait.missing.len() as u64 != more
            {
                wait.missing.clear();
            }
        }
        let mut ranks: Vec<State> = (0..self.world_size)
            .map(|rank| self.state(rank, &traces[rank as usize], &waiting, &waits))
            .collect();
        let gathering =
            self.init_gathering(&traces, &waiting).or_else(|| self.nccl(&traces, &waiting));
        // One with all addresses may yet have to come to what follows them.
        for gathering in gathering.iter().filter(|gathering| gathering.place == Place::Init) {
            for &rank in &gathering.missing {
                if let Some(state @ State::Joined) = ranks.get_mut(rank as usize) {
                    *state = State::Joining;
                }
            }
        }
        let signs = self.signs(&traces, !waiting.init.is_empty());
        Standing { ranks, init: self.init(&traces, &waiting), gathering, waits, signs }
    }

    /// What each rank has done: its open connections, where they tell, else its closed ones.
    fn traces(&self) -> Vec<Trace> {
        let mut traces = self.past.clone();
        for client in self.clients.values() {
            if let Some(trace) = client.owner.and_then(|owner| traces.get_mut(owner.rank as usize))
            {
                trace.take_over(&client.trace);
            }
        }
        for trace in traces.iter_mut().filter(|trace| trace.generation < self.generation) {
            *trace = Trace { connected: true, ..Trace::default() };
        }
        traces
    }

    /// Sorts the waiting clients by what they wait for.
    fn sort_out<'a>(&self, pending: impl Iterator<Item = (ClientId, PendingView<'a>)>) -> Waiting {
        let mut waiting = Waiting::default();
        for (id, view) in pending {
            let Some(client) = self.clients.get(&id) else { continue };
            let rank = client.owner.map(|owner| owner.rank);
            let keys = match view {
                PendingView::Keys(keys) => keys,
                PendingView::Barrier { key, world_size, arrived } => {
                    let more = u64::try_from(world_size.saturating_sub(arrived)).ok();
                    let what = What::Barrier { name: shown(without_prefixes(key)), more };
                    let is_all = world_size == i64::from(self.world_size);
                    waiting.others.push((rank, what, if is_all { self.all() } else { Vec::new() }));
                    continue;
                }
            };
            let Some(&first) = keys.first() else { continue };
            let others = keys.len() - 1;
            match form(first) {
                form if form.is_init() => {
                    waiting.init.push(rank);
                    let keys = keys.iter().take(MAX_KEYS).map(|key| keys::form(key));
                    waiting.numbers.extend(keys.filter_map(Form::number));
                }
                Form::NcclId => waiting.nccl.push(rank),
                form => {
                    let (what, missing) = self.describe(first, form, others);
                    waiting.others.push((rank, what, missing));
                }
            }
        }
        waiting
    }

    fn all(&self) -> Vec<u32> {
        (0..self.world_size).collect()
    }

    fn describe(&self, key: &[u8], form: Form<'_>, others: usize) -> (What, Vec<u32>) {
        match form {
            Form::Group(name) => (What::Group { name: shown(name) }, Vec::new()),
            Form::BarrierDone { name, is_worldwide: true } => {
                let barrier = self.barriers.iter().find(|barrier| barrier.is_done_by(key));
                let missing = barrier.map_or_else(Vec::new, |barrier| self.absent(barrier));
                (What::Group { name: shown(name) }, missing)
            }
            Form::BarrierDone { name, .. } | Form::Barrier { name, .. } => {
                (What::Barrier { name: shown(name), more: None }, Vec::new())
            }
            Form::Rpc => (What::Rpc, Vec::new()),
            Form::Other(key) => (What::Key { key: shown(key), others }, Vec::new()),
            _ => (What::Key { key: shown(without_prefixes(key)), others }, Vec::new()),
        }
    }

    /// Who has not come to a barrier of all ranks; nobody where not all that came are known.
    fn absent(&self, barrier: &Barrier) -> Vec<u32> {
        if barrier.ranks.len() != barrier.arrived as usize {
            return Vec::new();
        }
        (0..self.world_size).filter(|rank| !barrier.ranks.contains(rank)).collect()
    }

    fn state(&self, rank: u32, trace: &Trace, waiting: &Waiting, waits: &[Wait]) -> State {
        if waiting.init.contains(&Some(rank)) {
            return State::Joining;
        }
        if let Some(wait) = waits.iter().position(|wait| wait.ranks.contains(&rank)) {
            return State::Waiting(wait);
        }
        let is_stranger = |client: &Client| client.owner.is_none() && client.has_spoken;
        match trace {
            _ if trace.has_joined(self.world_size) => State::Joined,
            Trace { number: Some(_), .. } => State::Joining,
            Trace { connected: true, .. } => State::Connected,
            _ if self.stranger_gone || self.clients.values().any(is_stranger) => State::Unknown,
            _ => State::NotConnected,
        }
    }

    fn init(&self, traces: &[Trace], waiting: &Waiting) -> Init {
        let has_joined = |trace: &Trace| trace.has_joined(self.world_size);
        let has_begun = |trace: &Trace| has_joined(trace) || trace.number.is_some();
        if waiting.init.is_empty() && !traces.is_empty() && traces.iter().all(has_joined) {
            Init::Complete
        } else if !waiting.init.is_empty() || traces.iter().any(has_begun) {
            Init::UnderWay
        } else {
            Init::NotSeen
        }
    }

    /// Where a client waits for another's part in the default group: who waits, who is missing.
    fn init_gathering(&self, traces: &[Trace], waiting: &Waiting) -> Option<Gathering> {
        let barrier = self.barriers.iter().find(|barrier| barrier.is_init);
        let missing = match barrier {
            _ if waiting.init.is_empty() => return None,
            // Whoever waits in the barrier has all addresses.
            Some(barrier) if waiting.numbers.is_empty() => self.absent(barrier),
            _ => {
                let told = traces.iter().filter_map(|trace| trace.size).max();
                let size = told.unwrap_or(self.world_size).min(self.world_size);
                let has_come = |rank: u32| traces[rank as usize].number;
                (0..size)
                    .filter(|&rank| !self.joined[rank as usize] || waiting.numbers.contains(&rank))
                    // One that joined under another number is there; the sign says so.
                    .filter(|&rank| has_come(rank).is_none_or(|number| number == rank))
                    .collect()
            }
        };
        Some(Gathering { place: Place::Init, waiting: known(&waiting.init), missing })
    }

    /// Where some ranks have begun to set NCCL up for the default group and others have not. Those
    /// that have the id wait within NCCL, which the store does not see.
    fn nccl(&self, traces: &[Trace], waiting: &Waiting) -> Option<Gathering> {
        let is_stranger = |client: &Client| client.owner.is_none() && client.trace.nccl;
        let is_sure = !self.stranger_gone && !self.clients.values().any(is_stranger);
        let (came, missing): (Vec<u32>, Vec<u32>) = if is_sure {
            self.all().iter().partition(|&&rank| traces[rank as usize].nccl)
        } else {
            (known(&waiting.nccl), Vec::new())
        };
        let is_under_way = !came.is_empty() && !missing.is_empty();
        if !is_under_way && waiting.nccl.is_empty() {
            return None;
        }
        Some(Gathering { place: Place::Nccl, waiting: came, missing })
    }

    fn signs(&self, traces: &[Trace], is_waited: bool) -> Vec<Sign> {
        let mut signs = Vec::new();
        let world = self.world_size;
        let open = self.of_this_generation().filter_map(|client| client.trace.size);
        let sizes: BTreeSet<u32> = open.collect();
        for (rank, trace) in (0..world).zip(traces) {
            let asked = trace.asked().filter(|&asked| asked > world);
            match (trace.size.filter(|&size| size != world), asked) {
                // A group that all its members agree on, and that nobody is missing from, is as
                // its ranks want it.
                (Some(size), _) if is_waited || sizes.len() > 1 => {
                    signs.push(Sign::GroupSize { rank, size, is_exact: true });
                }
                (None, Some(size)) if is_waited => {
                    signs.push(Sign::GroupSize { rank, size, is_exact: false });
                }
                _ => {}
            }
            if let Some(number) = trace.number.filter(|&number| number != rank)
                && is_waited
            {
                signs.push(Sign::OtherNumber { rank, number });
            }
        }
        if is_waited {
            self.same_numbers(&mut signs);
        }
        signs
    }

    fn of_this_generation(&self) -> impl Iterator<Item = &Client> {
        self.clients.values().filter(|client| client.trace.generation == self.generation)
    }

    /// Open clients of several processes with one number; one process may have several clients.
    fn same_numbers(&self, signs: &mut Vec<Sign>) {
        let mut pids: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for client in self.of_this_generation() {
            if let (Some(number), Some(pid)) = (client.trace.number, client.pid) {
                pids.entry(number).or_default().insert(pid);
            }
        }
        for (number, pids) in pids {
            let said =
                |sign: &Sign| matches!(sign, Sign::OtherNumber { number: n, .. } if *n == number);
            if pids.len() > 1 && !signs.iter().any(said) {
                signs.push(Sign::SameNumber { number, pids: pids.into_iter().take(4).collect() });
            }
        }
    }
}

/// The waiting clients, each with its rank where that is known.
#[derive(Debug, Default)]
struct Waiting {
    init: Vec<Option<u32>>,
    /// The numbers whose addresses are waited for.
    numbers: BTreeSet<u32>,
    nccl: Vec<Option<u32>>,
    others: Vec<(Option<u32>, What, Vec<u32>)>,
}

fn known(ranks: &[Option<u32>]) -> Vec<u32> {
    let ranks: BTreeSet<u32> = ranks.iter().flatten().copied().collect();
    ranks.into_iter().collect()
}

/// A key as the user named it.
fn without_prefixes(key: &[u8]) -> &[u8] {
    match form(key) {
        Form::Other(key) => key,
        _ => key.strip_prefix(b"/").unwrap_or(key),
    }
}
