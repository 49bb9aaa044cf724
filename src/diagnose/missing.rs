//! Says which ranks never arrived: from where the ranks stand to a few lines for people.
//!
//! Pure. It decides what is said and in which order, never when: whoever calls it knows how long the
//! ranks have been waiting.
//!
//! - M1: nothing is said where nobody waits and nothing looks wrong.
//! - M2: at most [`MAX_LINES`] lines, whatever the number of ranks.
//! - M3: no value of the store, and a key only as [`crate::store::progress::keys::shown`] gives it.
//! - M4: what is not known is called unknown, or left out.

use std::time::Duration;

use serde::Serialize;

use super::exit::Exit;
use crate::host::activity::Doing;
use crate::logs::fold::ranges;
use crate::report::text::seconds;
use crate::store::progress::standing::{Gathering, Place, Sign, Standing, State, Wait, What};

/// The most lines that are said.
pub const MAX_LINES: usize = 12;
const MAX_SIGNS: usize = 2;
const MAX_DETAILS: usize = 3;
/// How many of a rank's last lines are shown, and how much of each, in characters.
const LAST_LINES: usize = 3;
const LINE_WIDTH: usize = 200;
/// How many processes one command names.
const MAX_PIDS: usize = 8;

/// What is known of a rank's process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RankFacts {
    /// The rank.
    pub rank: u32,
    /// Its process, while it runs.
    pub pid: Option<i32>,
    /// What the process does, where it was looked at.
    pub doing: Option<Doing>,
    /// How it ended, where it has.
    pub ended: Option<Exit>,
    /// What it printed last, oldest first.
    pub last_lines: Vec<String>,
}

/// Who never arrived, for the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// How long the others have been waiting, in seconds.
    pub seconds: f64,
    /// Where they wait for whom.
    pub gathering: Option<Gathering>,
    /// The missing ranks, one by one.
    pub missing: Vec<MissingRank>,
    /// Signs that a rank was told something wrong.
    pub signs: Vec<Sign>,
    /// The same in words, at most [`MAX_LINES`] lines.
    pub lines: Vec<String>,
}

/// A rank that others wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingRank {
    /// The rank.
    pub rank: u32,
    /// Its process, where it runs.
    pub pid: Option<i32>,
    /// Whether it has connected to the store.
    pub has_connected: bool,
    /// What it does: `sleeps in wait4`. `None` where that is not known.
    pub words: Option<String>,
}

impl Account {
    /// What there is to say after the ranks have waited for `elapsed`; `None` where nothing is.
    pub fn of(standing: &Standing, facts: &[RankFacts], elapsed: Duration) -> Option<Self> {
        let missing = standing.gathering.as_ref().map_or(&[][..], |gathering| &gathering.missing);
        let looks: Vec<Look<'_>> =
            missing.iter().map(|&rank| look(rank, standing, facts)).collect();
        let mut lines = Vec::new();
        lines.extend(headline(standing, &looks, elapsed));
        signs(&standing.signs, standing.ranks.len(), &mut lines);
        details(&looks, &mut lines);
        last_lines(&looks, &mut lines);
        waits(&standing.waits, &mut lines);
        if lines.is_empty() {
            return None;
        }
        let missing = looks.iter().map(|look| MissingRank {
            rank: look.rank,
            pid: look.pid,
            has_connected: look.has_connected,
            words: look.words(),
        });
        Some(Self {
            seconds: elapsed.as_secs_f64(),
            gathering: standing.gathering.clone(),
            missing: missing.collect(),
            signs: standing.signs.clone(),
            lines,
        })
    }

    /// The lines as they are said during the run.
    pub fn said(&self) -> String {
        let mut text = String::from("nvlaunch: ");
        text.push_str(&self.lines.join("\n  "));
        text.push('\n');
        text
    }
}

/// One missing rank and what is known of it.
struct Look<'f> {
    rank: u32,
    pid: Option<i32>,
    has_connected: bool,
    facts: Option<&'f RankFacts>,
}

fn look<'f>(rank: u32, standing: &Standing, facts: &'f [RankFacts]) -> Look<'f> {
    let facts = facts.iter().find(|facts| facts.rank == rank);
    let state = standing.ranks.get(rank as usize);
    let has_connected = !matches!(state, None | Some(State::NotConnected | State::Unknown));
    let pid = facts.filter(|facts| facts.ended.is_none()).and_then(|facts| facts.pid);
    Look { rank, pid, has_connected, facts }
}

impl Look<'_> {
    /// What it does, for one rank.
    fn words(&self) -> Option<String> {
        let facts = self.facts?;
        if let Some(exit) = facts.ended {
            return Some(match exit {
                Exit::Code(code) => format!("ended with code {code} before it"),
                Exit::Signal(_) => format!("was ended by {exit} before it"),
            });
        }
        let doing = match facts.doing.as_ref()? {
            Doing::Busy { percent } => {
                format!("is busy ({percent} % of a CPU): importing or computing")
            }
            Doing::Asleep { r#in: Some(place) } => format!("sleeps in {place}"),
            Doing::Asleep { r#in: None } => "sleeps".to_owned(),
            Doing::Stopped => "is stopped".to_owned(),
            Doing::Traced => "is held by a debugger".to_owned(),
            Doing::DiskWait { r#in: Some(place) } => {
                format!("waits for a device or a file system, in {place}")
            }
            Doing::DiskWait { r#in: None } => "waits for a device or a file system".to_owned(),
            Doing::Zombie => "has ended".to_owned(),
            Doing::Gone => "is gone".to_owned(),
        };
        Some(doing)
    }

    /// Which ranks are told of first: the lowest.
    fn urgency(&self) -> u8 {
        match self.facts.map(|facts| (facts.ended, facts.doing.as_ref())) {
            Some((Some(_), _) | (_, Some(Doing::Zombie | Doing::Gone))) => 0,
            Some((_, Some(Doing::Stopped | Doing::Traced))) => 1,
            Some((_, Some(Doing::DiskWait { .. }))) => 2,
            _ => 3,
        }
    }

    /// The same without what differs from rank to rank: ranks of one kind share a line.
    fn kind(&self) -> Option<String> {
        match self.facts.map(|facts| (facts.ended, facts.doing.as_ref())) {
            Some((None, Some(Doing::Busy { .. }))) => {
                Some("is busy: importing or computing".to_owned())
            }
            _ => self.words(),
        }
    }
}

/// `rank 3 has not reached init_process_group after 60 s; ranks 0-2,4-7 wait for it`
fn headline(standing: &Standing, looks: &[Look<'_>], elapsed: Duration) -> Option<String> {
    let gathering = standing.gathering.as_ref()?;
    let Gathering { waiting, missing, .. } = gathering;
    let after = after(elapsed);
    let place = match gathering.place {
        Place::Init => "init_process_group",
        Place::Nccl => "the set-up of NCCL",
    };
    if missing.is_empty() {
        // A rank that waits for one that does not exist: the sign says all there is.
        let who = who_waits(waiting);
        return standing
            .signs
            .is_empty()
            .then(|| format!("{who} in {place} after {after}; for which rank is not known"));
    }
    let has = if missing.len() == 1 { "has" } else { "have" };
    let them = if missing.len() == 1 { "it" } else { "them" };
    let others = match gathering.place {
        Place::Init => format!("{} for {them}", who_waits(waiting)),
        // That they wait is NCCL's affair: a group of fewer ranks looks the same from here.
        Place::Nccl if waiting.len() == 1 => format!("{} has", name(waiting)),
        Place::Nccl => format!("{} have", name(waiting)),
    };
    // The store is connected to within init_process_group, or by the script before it.
    let is_near = gathering.place == Place::Init && looks.iter().all(|look| look.has_connected);
    let reached = if is_near { "joined the others in" } else { "reached" };
    Some(format!("{} {has} not {reached} {place} after {after}; {others}", name(missing)))
}

fn who_waits(ranks: &[u32]) -> String {
    match ranks {
        [] => "others wait".to_owned(),
        [_] => format!("{} waits", name(ranks)),
        _ => format!("{} wait", name(ranks)),
    }
}

/// `rank 3`, `ranks 0-2,5`
fn name(ranks: &[u32]) -> String {
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}", ranges(ranks))
}

/// Two minutes in seconds: it is the length of a time limit, and read as one.
fn after(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        whole @ 1..=120 => format!("{whole} s"),
        _ => seconds(elapsed.as_secs_f64()),
    }
}

fn signs(signs: &[Sign], world_size: usize, lines: &mut Vec<String>) {
    let mut said: Vec<String> = Vec::new();
    let mut sizes: Vec<(u32, bool, Vec<u32>)> = Vec::new();
    for sign in signs {
        match sign {
            Sign::GroupSize { rank, size, is_exact } => {
                match sizes.iter_mut().find(|(s, e, _)| (s, e) == (size, is_exact)) {
                    Some((_, _, ranks)) => ranks.push(*rank),
                    None => sizes.push((*size, *is_exact, vec![*rank])),
                }
            }
            Sign::OtherNumber { rank, number } => {
                said.push(format!("rank {rank} joins as rank {number}: its RANK was changed"));
            }
            Sign::SameNumber { number, pids } => {
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                said.push(format!(
                    "several processes (pids {}) join as rank {number}: the RANK of one was changed",
                    pids.join(", ")
                ));
            }
        }
    }
    let sizes = sizes.into_iter().map(|(size, is_exact, ranks)| {
        let (join, its) = if ranks.len() == 1 { ("joins", "its") } else { ("join", "their") };
        let least = if is_exact { "" } else { "at least " };
        let ranks = name(&ranks);
        format!(
            "{ranks} {join} a group of {least}{size} {}, this job has {world_size}: {its} \
             WORLD_SIZE was changed",
            if size == 1 { "rank" } else { "ranks" }
        )
    });
    let said: Vec<String> = sizes.chain(said).collect();
    push_some(said, MAX_SIGNS, "such signs", lines);
}

/// One line for all missing ranks that do the same.
fn details(looks: &[Look<'_>], lines: &mut Vec<String>) {
    let mut kinds: Vec<(Option<String>, bool, Vec<&Look<'_>>)> = Vec::new();
    for look in looks {
        let kind = look.kind();
        match kinds.iter_mut().find(|(k, c, _)| *k == kind && *c == look.has_connected) {
            Some((.., same)) => same.push(look),
            None => kinds.push((kind, look.has_connected, vec![look])),
        }
    }
    // What has ended or stands still is a cause; what computes or sleeps may yet arrive.
    kinds.sort_by_key(|(.., same)| same[0].urgency());
    kinds.retain(|(kind, ..)| kind.is_some());
    let others = kinds.split_off(kinds.len().min(MAX_DETAILS));
    for (kind, has_connected, same) in kinds {
        let store = if has_connected { "; connected to the store" } else { "" };
        let command = command(&same);
        lines.extend(match same[..] {
            [look] => look.words().map(|words| {
                let pid = look.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
                format!("rank {}{pid} {words}{command}{store}", look.rank)
            }),
            _ => kind.map(|kind| format!("{} {}{command}{store}", of_looks(&same), plural(&kind))),
        });
    }
    let others: Vec<&Look<'_>> = others.into_iter().flat_map(|(.., same)| same).collect();
    match others[..] {
        [] => {}
        [_] => lines.push(format!("{} does something else", of_looks(&others))),
        _ => lines.push(format!("{} do other things", of_looks(&others))),
    }
}

fn of_looks(looks: &[&Look<'_>]) -> String {
    name(&looks.iter().map(|look| look.rank).collect::<Vec<u32>>())
}

/// What lets stopped ranks go on.
fn command(looks: &[&Look<'_>]) -> String {
    let is_stopped = |look: &Look<'_>| {
        look.facts.is_some_and(|f| f.ended.is_none() && f.doing == Some(Doing::Stopped))
    };
    let pids: Vec<String> = looks
        .iter()
        .filter(|look| is_stopped(look))
        .filter_map(|look| Some(look.pid?.to_string()))
        .collect();
    match pids.len() {
        0 => String::new(),
        1..=MAX_PIDS => format!(": kill -CONT {}", pids.join(" ")),
        _ => ": kill -CONT lets each go on".to_owned(),
    }
}

/// `is busy` for one rank, `are busy` for several.
fn plural(words: &str) -> String {
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    let verb = match verb {
        "is" => "are",
        "was" => "were",
        "has" => "have",
        "sleeps" => "sleep",
        "waits" => "wait",
        verb => verb,
    };
    format!("{verb} {rest}").trim_end().to_owned()
}

/// The last lines of the first missing rank that printed something.
fn last_lines(looks: &[Look<'_>], lines: &mut Vec<String>) {
    for look in looks {
        let said = look.facts.map_or(&[][..], |facts| &facts.last_lines[..]);
        let said = said.iter().map(|line| plain(line)).filter(|line| !line.is_empty());
        let said: Vec<String> = said.collect();
        if let Some(from) = said.len().checked_sub(1).map(|_| said.len().saturating_sub(LAST_LINES))
        {
            let one = if said.len() - from == 1 { "line" } else { "lines" };
            lines.push(format!("last {one} of rank {}:", look.rank));
            lines.extend(said[from..].iter().map(|line| format!("  {line}")));
            return;
        }
    }
}

/// A line of a rank without colours and control characters.
fn plain(line: &str) -> String {
    let line = anstream::adapter::strip_str(line).to_string();
    let printable = line.chars().filter(|c| *c == '\t' || !c.is_control());
    printable.take(LINE_WIDTH).collect::<String>().trim_end().to_owned()
}

fn waits(waits: &[Wait], lines: &mut Vec<String>) {
    let said = waits.iter().map(|Wait { what, ranks, missing }| {
        let who = if ranks.is_empty() { "a process waits".to_owned() } else { who_waits(ranks) };
        let whom =
            if missing.is_empty() { String::new() } else { format!(" for {}", name(missing)) };
        match what {
            What::Barrier { name: barrier, more: Some(more) } if missing.is_empty() => {
                format!("{who} in the barrier `{barrier}` for {more} more")
            }
            What::Barrier { name: barrier, .. } => {
                format!("{who} in the barrier `{barrier}`{whom}")
            }
            What::Group { name } => format!("{who} in the set-up of process group `{name}`{whom}"),
            What::Rpc => format!("{who} in init_rpc or its shutdown"),
            What::Key { key, others: 0 } => format!("{who} for the key `{key}`"),
            What::Key { key, others } => format!("{who} for the key `{key}` and {others} more"),
        }
    });
    let room = MAX_LINES.saturating_sub(lines.len());
    push_some(said.collect(), room.saturating_sub(1), "waits", lines);
}

/// At most `most` of these, and how many more there are.
fn push_some(mut said: Vec<String>, most: usize, what: &str, lines: &mut Vec<String>) {
    let more = said.len().saturating_sub(most);
    said.truncate(most);
    lines.append(&mut said);
    if more > 0 && lines.len() < MAX_LINES {
        lines.push(format!("and {more} more {what}"));
    }
}

#[cfg(test)]
mod tests;
