//! Files that each rank writes of its random state: how many there must be.
//!
//! The frameworks resume without such a file, with a word in the log, but one that is missing is a save
//! that did not end, unless fewer ranks saved it than the job has now.
//!
//! - G1: where a file says how many ranks saved, so many.
//! - G2: what was saved since this job began was saved by its ranks, all of them.
//! - G3: what is older may be of a job of another size. Files of ranks from 0 on without a gap, and
//!   neighbours that have no more, are all that can be asked for. The first save of an earlier job that
//!   ended before its last ranks had written this file cannot be told from it.
//! - G4: where neither is known, as many as the job has; but that proves nothing.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::Cx;
use super::parts::{Parts, between};

/// By how much the clock of a file system may be behind this machine's.
const CLOCKS: Duration = Duration::from_secs(5);

/// Who saved, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub struct Savers<'a> {
    /// The job that asks.
    pub cx: &'a Cx,
    /// How many a file in the checkpoint says there were (G1).
    pub claimed: Option<u64>,
    /// There were no fewer.
    pub least: u64,
    /// The names in the folders of other checkpoints.
    pub neighbours: &'a [BTreeSet<String>],
}

impl Savers<'_> {
    /// Says which files are missing: `before`, a rank and `after`. To be asked when all other files were
    /// looked at: their age counts.
    pub fn judge(self, parts: &mut Parts, (before, after): (&str, &str)) {
        let there = parts.numbers(before, after);
        let neighbours = self.neighbours.iter().flatten();
        let most = neighbours.filter_map(|name| between(name, before, after)).max();
        let needed = self.needed(&there, most.map(above), parts.modified());
        let missing: Vec<u64> =
            (0..needed.ranks).filter(|rank| !there.contains(rank)).take(2).collect();
        let Some(first) = missing.first() else { return };
        let others = if missing.len() > 1 { ", and others are" } else { "" };
        let ranks = if needed.ranks == 1 { "rank" } else { "ranks" };
        let is_job = self.claimed.is_none() && needed.ranks > count(&there);
        let whose = if is_job { "the job has" } else { "it was saved by" };
        let what = format!("is missing{others}: {whose} {} {ranks}", needed.ranks);
        let file = format!("{before}{first}{after}");
        if needed.is_certain { parts.flaw(file, what) } else { parts.doubt(file, what) }
    }

    fn needed(&self, there: &BTreeSet<u64>, most: Option<u64>, at: Option<SystemTime>) -> Needed {
        let count = count(there);
        let world = self.cx.world_size.map_or(0, u64::from);
        let certain = |ranks: u64| Needed { ranks: ranks.max(self.least), is_certain: true };
        if let Some(claimed) = self.claimed {
            return certain(claimed);
        }
        let has_gap = count != there.len() as u64;
        if count >= world || count < self.least {
            return certain(count.max(world));
        }
        let job_wants = Needed { ranks: world, is_certain: has_gap };
        match self.cx.since.zip(at) {
            Some((since, at)) if at + CLOCKS >= since => certain(world),
            Some(_) if !has_gap && most.is_none_or(|most| most <= count) => certain(count),
            _ => job_wants,
        }
    }
}

/// How many files there must be, and whether a checkpoint with fewer is certainly torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needed {
    ranks: u64,
    is_certain: bool,
}

fn above(rank: u64) -> u64 {
    rank.saturating_add(1)
}

/// The ranks from 0 to the highest.
fn count(there: &BTreeSet<u64>) -> u64 {
    there.last().copied().map_or(0, above)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The job's ranks; when it began; what a file says; ranks that are there; the most of a neighbour.
    type Row = (u32, Option<SystemTime>, Option<u64>, &'static [u64], Option<u64>);

    #[test]
    fn as_many_as_can_be_proven_to_have_saved() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (old, new) = (Some(at(1000)), Some(at(9000)));
        let begun = Some(at(5000));
        let certain = |ranks| Needed { ranks, is_certain: true };
        let doubtful = |ranks| Needed { ranks, is_certain: false };
        let table: &[(Row, Option<SystemTime>, Needed, &str)] = &[
            ((4, begun, None, &[0, 1], None), old, certain(2), "the job has grown"),
            ((4, begun, None, &[0, 1], Some(2)), old, certain(2), "it was small before, too"),
            ((4, begun, None, &[0, 1], Some(4)), old, doubtful(4), "it was larger before"),
            ((4, begun, None, &[0, 1], Some(2)), new, certain(4), "all of this job are torn"),
            ((4, begun, None, &[0, 1], None), Some(at(4998)), certain(4), "clocks differ"),
            ((4, begun, None, &[0, 1], None), None, doubtful(4), "of no age"),
            ((4, begun, None, &[0, 2], None), old, certain(4), "a gap"),
            ((2, begun, None, &[0, 1, 2, 3], None), old, certain(4), "the job has shrunk"),
            ((2, begun, None, &[0, 3], None), old, certain(4), "it has, and there is a gap"),
            ((4, None, None, &[0, 1], Some(2)), old, doubtful(4), "nobody knows the job's begin"),
            ((4, begun, Some(2), &[0, 1], Some(4)), new, certain(2), "a file says two"),
            ((4, begun, Some(3), &[0, 1], Some(2)), old, certain(3), "a file says three"),
            ((4, begun, None, &[], None), old, certain(4), "none at all"),
            ((4, begun, None, &[0, u64::MAX], None), old, certain(u64::MAX), "a name of nonsense"),
        ];
        for ((world, since, claimed, there, most), modified, expected, why) in table {
            let cx = Cx { world_size: Some(*world), since: *since, ..Cx::default() };
            let savers = Savers { cx: &cx, claimed: *claimed, least: 1, neighbours: &[] };
            let there = there.iter().copied().collect();
            assert_eq!(savers.needed(&there, *most, *modified), *expected, "{why}");
        }
    }
}
