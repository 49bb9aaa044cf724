//! What one connection did, and the barriers it came to.

use std::collections::BTreeSet;

use super::keys::Form;

/// What a client, or a rank, has done.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub(super) connected: bool,
    /// The number it joined the default group as.
    pub(super) number: Option<u32>,
    /// Which default group that was.
    pub(super) generation: u32,
    /// The size of the group it joined, where it told.
    pub(super) size: Option<u32>,
    /// One more than the highest address it has got.
    pub(super) got: u32,
    /// One more than the highest number it has asked for.
    pub(super) asked: u32,
    /// It has asked for the NCCL id of the default group, or set it.
    pub(super) nccl: bool,
    /// It did what only follows `init_process_group`.
    pub(super) is_past_init: bool,
}

/// A barrier made of a counter and a key.
#[derive(Debug)]
pub(super) struct Barrier {
    pub(super) key: Box<[u8]>,
    pub(super) is_init: bool,
    pub(super) arrived: u32,
    pub(super) ranks: BTreeSet<u32>,
}

impl Trace {
    pub(super) fn join(&mut self, number: u32, size: Option<u32>, generation: u32) {
        *self = Self {
            connected: true,
            number: Some(number),
            generation,
            size,
            nccl: self.nccl && generation == self.generation,
            ..Self::default()
        };
    }

    /// It asks for a key, or gets it.
    pub(super) fn ask(&mut self, form: Form<'_>, is_get: bool) {
        self.notice(form);
        if let Form::Address { number, is_wrapper: false } = form {
            let next = number.saturating_add(1);
            self.asked = self.asked.max(next);
            if is_get {
                self.got = self.got.max(next);
            }
        }
    }

    /// What a key tells, whatever is done with it.
    pub(super) fn notice(&mut self, form: Form<'_>) {
        self.nccl |= form == Form::NcclId;
        let is_later = !form.is_init() && form != Form::Clients;
        // The look at the dump signal is made by NCCL's group, which is there then.
        self.is_past_init |= form == Form::DumpSignal || (is_later && self.number.is_some());
    }

    /// How large the group must be, by the numbers it asked for; nothing before it asked.
    pub(super) fn asked(&self) -> Option<u32> {
        (self.asked > 0).then_some(self.asked)
    }

    pub(super) fn has_joined(&self, world_size: u32) -> bool {
        let Some(own) = self.number else { return self.is_past_init || self.nccl };
        let size = self.size.unwrap_or(world_size);
        // Up to torch 2.4 a rank does not ask for its own address.
        let last = if own.saturating_add(1) == size { size - 1 } else { size };
        self.is_past_init || self.nccl || self.got >= last
    }

    /// Adds what a later connection of the same rank did.
    pub(super) fn take_over(&mut self, later: &Self) {
        if later.generation > self.generation {
            *self = later.clone();
            return;
        }
        let nccl = self.nccl || later.nccl;
        if later.number.is_some() && later.generation == self.generation {
            *self = Self { is_past_init: later.is_past_init, ..later.clone() };
        } else if later.number.is_none() {
            self.is_past_init |= later.is_past_init;
        }
        self.connected |= later.connected;
        self.nccl = nccl;
    }
}

impl Barrier {
    /// Whether this is the key that the last one sets.
    pub(super) fn is_done_by(&self, key: &[u8]) -> bool {
        let members = || self.key.strip_suffix(b"num_members");
        key.strip_prefix(&*self.key) == Some(b":last_worker")
            || members().is_some_and(|name| key.strip_prefix(name) == Some(b"last_member"))
    }
}
