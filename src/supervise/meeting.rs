//! Where the ranks meet: the store of each attempt, and how far they have come to it.
//!
//! - W1: the port is bound before a rank hears of it. nvlaunch's own store is handed to nobody;
//!   where rank 0 serves the store its port is held for it (see [`super::port`]).
//! - W2: each attempt has a store of its own, on a port of its own unless one was named.
//! - W3: the loop is woken when the ranks begin to gather, and by nothing else here; a job that never
//!   does so costs nothing.
//! - W4: whose a client is follows from process ids and sockets, never from a guess; where they do
//!   not tell, the rank is unknown.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::event::Now;
use super::init_watch::{Due, InitWatch};
use super::port::HeldPort;
use crate::host::activity::{self, Activity, Doing};
use crate::host::{process, sockets};
use crate::store::progress::keys::{Form, form};
use crate::store::progress::{PendingView, Progress, standing::Standing};
use crate::store::renewal::Renewal;
use crate::store::server::Client;
use crate::store::wire::{Key, Request};
use crate::store::{
    ClientId, Limits, Observer, Pending, Refusals, State, StoreConfig, StoreServer,
};

/// How many parents up a process is followed to its rank.
const MAX_PARENTS: usize = 32;

/// The meeting point of a run.
#[derive(Debug)]
pub struct Meeting {
    host: Host,
    watch: InitWatch,
    bell: Arc<EventFd>,
    /// The process of each local rank, while it runs.
    pids: Vec<Option<i32>>,
    samples: Vec<Option<Activity>>,
    sampled_at: Option<Now>,
}

#[derive(Debug)]
enum Host {
    Nvlaunch(Box<StoreServer<Watched>>),
    Rank0 { named: Option<u16>, held: Option<HeldPort> },
}

/// How far the ranks have come, and a bell that rings when they begin to gather anywhere.
#[derive(Debug)]
struct Watched {
    progress: Progress,
    renewal: Renewal,
    has_init_begun: bool,
    has_nccl_begun: bool,
    bell: Arc<EventFd>,
}

impl Watched {
    fn listen(&mut self, request: &Request) {
        let (Request::Set { key, .. } | Request::Add { key, .. }) = request else {
            // Whoever waits for NCCL's id comes before rank 0 that sets it, or after: both ask.
            let Request::Wait { keys } = request else { return };
            if let [key, ..] = &keys[..] {
                self.hear(key);
            }
            return;
        };
        self.hear(key);
    }

    fn hear(&mut self, key: &[u8]) {
        if self.has_init_begun && self.has_nccl_begun {
            return;
        }
        let begun = match form(key) {
            Form::NcclId => &mut self.has_nccl_begun,
            form if form.is_init() => &mut self.has_init_begun,
            _ => return,
        };
        if !std::mem::replace(begun, true) {
            // It rings at most twice for a default group.
            let _ = self.bell.write(1);
        }
    }
}

impl Observer for Watched {
    fn connected(&mut self, client: ClientId, peer: SocketAddr) {
        self.progress.connected(client, peer);
    }

    fn request(&mut self, client: ClientId, request: &mut Request) -> Vec<Key> {
        let before = self.renewal.newest();
        let over = self.renewal.request(client, request);
        if self.renewal.newest() != before {
            self.has_init_begun = false;
            self.has_nccl_begun = false;
        }
        self.listen(request);
        self.progress.request(client, request);
        over
    }

    fn gone(&mut self, client: ClientId) {
        self.renewal.gone(client);
        self.progress.gone(client);
    }
}

impl Meeting {
    /// Binds a port: the named one, else a free one. nvlaunch serves the store at `addresses`;
    /// without them rank 0 does.
    ///
    /// # Errors
    /// `EADDRINUSE` where somebody listens at the named port.
    pub fn prepare(
        addresses: Option<Vec<IpAddr>>,
        named: Option<u16>,
        report_after: Option<Duration>,
        limits: Limits,
    ) -> io::Result<Self> {
        let host = if let Some(addresses) = addresses {
            let config = StoreConfig { addresses, port: named, limits };
            Host::Nvlaunch(Box::new(StoreServer::start(config)?))
        } else {
            Host::Rank0 { named, held: named.map(HeldPort::hold).transpose()? }
        };
        let report_after = report_after.filter(|_| matches!(host, Host::Nvlaunch(_)));
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            host,
            bell: Arc::new(EventFd::from_flags(flags)?),
            watch: InitWatch::new(report_after),
            pids: Vec::new(),
            samples: Vec::new(),
            sampled_at: None,
        })
    }

    /// An empty store for an attempt of that many ranks; its port.
    pub fn begin_attempt(&mut self, ranks: usize) -> io::Result<u16> {
        self.watch.end();
        self.pids = vec![None; ranks];
        self.samples.clear();
        self.sampled_at = None;
        match &mut self.host {
            Host::Nvlaunch(server) => {
                let world = u32::try_from(ranks).expect("at most MAX_RANKS");
                let watched = Watched {
                    progress: Progress::new(world),
                    renewal: Renewal::new(world),
                    has_init_begun: false,
                    has_nccl_begun: false,
                    bell: Arc::clone(&self.bell),
                };
                server.begin_attempt(world, watched)
            }
            Host::Rank0 { named, held } => {
                if held.is_none() || named.is_none() {
                    // The old one first, so that a port that was asked for is free to be held
                    // again.
                    *held = None;
                    *held = Some(HeldPort::hold(named.unwrap_or(0))?);
                }
                Ok(held.as_ref().expect("held just now").port())
            }
        }
    }

    /// A rank's process is there.
    pub fn started(&mut self, rank: u32, pid: i32) {
        self.pids[rank as usize] = Some(pid);
        if let Host::Nvlaunch(server) = &self.host {
            server.look_mut(|attempt| attempt.observer_mut().progress.rank_process(rank, pid));
        }
    }

    /// A rank's process has ended.
    pub fn ended(&mut self, rank: u32) {
        self.pids[rank as usize] = None;
    }

    /// Every process of the attempt has ended: whoever still comes finds a closed door.
    pub fn end_attempt(&mut self) {
        self.watch.end();
        if let Host::Nvlaunch(server) = &mut self.host {
            server.end_attempt();
        }
    }

    /// Readable when the ranks have begun to gather; then [`Meeting::gathering_begins`].
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The bell rang: the first rank waits from now on.
    pub fn gathering_begins(&mut self, now: Now) {
        if self.bell.read().is_ok() {
            self.watch.begin(now);
            self.samples.clear();
            self.sampled_at = None;
        }
    }

    /// Whether ranks gather, as far as somebody wants to know: else nobody can be missing.
    pub fn is_watched(&self) -> bool {
        self.watch.next_wake().is_some()
    }

    /// When [`Meeting::due`] has something.
    pub fn next_wake(&self) -> Option<Now> {
        self.watch.next_wake()
    }

    /// What is due now. A sample is taken here.
    pub fn due(&mut self, now: Now) -> Option<Due> {
        let due = self.watch.due(now)?;
        if due == Due::Sample {
            let root = Path::new("/");
            self.samples = self.pids.iter().map(|pid| activity::sample(root, (*pid)?)).collect();
            self.sampled_at = Some(now);
        }
        Some(due)
    }

    /// How long the ranks have been gathering.
    pub fn elapsed(&self, now: Now) -> Duration {
        self.watch.elapsed(now)
    }

    /// Nobody is missing any more in this attempt.
    pub fn all_are_there(&mut self) {
        self.watch.end();
    }

    /// What a rank's process does, since the sample where there is one.
    pub fn doing(&self, rank: u32, now: Now) -> Option<(i32, Doing)> {
        let pid = (*self.pids.get(rank as usize)?)?;
        let after = activity::sample(Path::new("/"), pid);
        let before = self.samples.get(rank as usize).and_then(Option::as_ref);
        let elapsed = now.saturating_sub(self.sampled_at.unwrap_or(now));
        Some((pid, activity::describe(before, after.as_ref(), elapsed)))
    }

    /// How far the ranks have come; `None` where nvlaunch does not serve the store.
    pub fn standing(&self) -> Option<Standing> {
        let Host::Nvlaunch(server) = &self.host else { return None };
        let unsure = server.look(|attempt| {
            let progress = &attempt.observer().progress;
            (progress.unknown_pids(), progress.unidentified())
        })?;
        // Outside the lock: this reads /proc.
        let known = self.identify(&unsure.0, &unsure.1);
        server.look_mut(|attempt| {
            for (client, rank) in known {
                attempt.observer_mut().progress.identify(client, rank);
            }
            let pending = attempt.clients().filter_map(|client| view(&client, attempt.state()));
            attempt.observer().progress.report(pending)
        })
    }

    /// Who was refused by the store.
    pub fn refusals(&self) -> Option<Refusals> {
        match &self.host {
            Host::Nvlaunch(server) => Some(server.refusals()),
            Host::Rank0 { .. } => None,
        }
    }

    /// The ranks of clients: by the process that they said they are, where that is below a rank;
    /// else by the process that has the other end of the connection.
    fn identify(
        &self,
        pids: &[(ClientId, u32)],
        peers: &[(ClientId, SocketAddr)],
    ) -> Vec<(ClientId, u32)> {
        let mut known: Vec<(ClientId, u32)> = Vec::new();
        for &(client, pid) in pids {
            if let Some(rank) = i32::try_from(pid).ok().and_then(|pid| self.rank_above(pid)) {
                known.push((client, rank));
            }
        }
        let rest: Vec<_> =
            peers.iter().filter(|(client, _)| !known.iter().any(|(k, _)| k == client)).collect();
        if rest.is_empty() {
            return known;
        }
        let root = Path::new("/");
        let addresses: Vec<_> = rest.iter().map(|(_, peer)| *peer).collect();
        let inodes = sockets::inodes(root, &addresses);
        for (client, peer) in rest {
            let Some(&inode) = inodes.get(peer) else { continue };
            let has = |pid: &i32| {
                let family = process::with_descendants(vec![*pid]);
                family.iter().any(|process| sockets::holds(root, process.pid, inode))
            };
            let rank = self.pids.iter().position(|pid| pid.as_ref().is_some_and(has));
            known.extend(rank.and_then(|rank| Some((*client, u32::try_from(rank).ok()?))));
        }
        known
    }

    /// The rank that this process is, or descends from.
    fn rank_above(&self, pid: i32) -> Option<u32> {
        let mut pid = pid;
        for _ in 0..MAX_PARENTS {
            if let Some(rank) = self.pids.iter().position(|rank| *rank == Some(pid)) {
                return u32::try_from(rank).ok();
            }
            pid = process::look(pid)?.parent;
            if pid <= 1 {
                return None;
            }
        }
        None
    }
}

fn view<'a>(client: &Client<'a>, state: &'a State) -> Option<(ClientId, PendingView<'a>)> {
    let view = match client.pending? {
        Pending::Keys(missing) => PendingView::Keys(missing.iter().collect()),
        Pending::Barrier { key, world_size } => {
            let text = state.get(key).and_then(|value| std::str::from_utf8(value).ok());
            let arrived = text.and_then(|text| text.parse().ok()).unwrap_or(0);
            PendingView::Barrier { key, world_size, arrived }
        }
    };
    Some((client.id, view))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gloo address in a group of two.
    fn address() -> Box<[u8]> {
        let mut bytes = vec![0; 8];
        bytes.extend(136u64.to_le_bytes());
        bytes.extend([0; 136 + 2 * 8]);
        bytes.into()
    }

    #[test]
    fn the_bell_rings_for_each_default_group() {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_flags(flags).expect("a descriptor"));
        let mut watched = Watched {
            progress: Progress::new(2),
            renewal: Renewal::new(2),
            has_init_begun: false,
            has_nccl_begun: false,
            bell: Arc::clone(&bell),
        };
        let key = |number: u32| format!("/default_pg/0//cpu//0/{number}").into_bytes().into();
        let peer = "127.0.0.1:5".parse().expect("an address");
        for group in 0..3u64 {
            for rank in 0..2u32 {
                let client = ClientId(2 * group + u64::from(rank));
                watched.connected(client, peer);
                watched.request(client, &mut Request::Set { key: key(rank), value: address() });
                assert_eq!(bell.read().is_ok(), rank == 0, "the second one is no beginning");
            }
            for rank in 0..2u32 {
                let client = ClientId(2 * group + u64::from(rank));
                for other in 0..2 {
                    watched.request(client, &mut Request::Get { key: key(other) });
                }
                assert!(bell.read().is_err());
            }
        }
    }
}
