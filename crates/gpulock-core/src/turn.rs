//! One turn of the rules: the handlers behind [`Pool::step`].

use crate::command::{CancelReason, Evidence, Incident, Raised, Renewal, SeizeMode, Subject};
use crate::event::{Event, Party, What, micros};
use crate::gpu::Inventory;
use crate::ids::{LeaseId, LeaseRef};
use crate::lease::{Cause, Ending, Lease, Phase, StopRequest};
use crate::owner::{ProcessGroup, Sight};
use crate::pool::{Pool, Settings};
use crate::queue::Waiter;
use crate::refusal::Refusal;
use crate::request::{Request, Wants};
use crate::step::{Changes, Parts, Renewed, Reply, Step, Wake, Why};
use crate::time::Time;

pub(crate) struct Turn<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) now: Time,
    pub(crate) changes: Changes,
    pub(crate) wake: Vec<Wake>,
    pub(crate) again: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) ledger_changed: bool,
    /// A GPU was lent or a waiter left, so somebody else may now be first in line.
    pub(crate) line_moved: bool,
    /// Nothing is handed out in this turn.
    pub(crate) is_blind: bool,
    /// How often the asker of this turn has looked again, see [`Request::polls`].
    polls: u32,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(pool: &'a mut Pool, now: Time) -> Self {
        let reads = Parts { leases: true, queue: false };
        Self {
            pool,
            now,
            changes: Changes { reads, ..Changes::default() },
            wake: Vec::new(),
            again: false,
            events: Vec::new(),
            ledger_changed: false,
            line_moved: false,
            is_blind: false,
            polls: 0,
        }
    }

    /// Hands on what came free, and closes the turn.
    pub(crate) fn finish(mut self, reply: Reply) -> Step {
        if !self.is_blind {
            self.hand_out(None);
        }
        if self.line_moved {
            self.post_watch();
        }
        if self.ledger_changed {
            self.changes.ledger = Some(self.pool.ledger.clone());
        }
        Step {
            reply,
            events: self.events,
            changes: self.changes,
            wake: self.wake,
            again: self.again,
            next_deadline: self.pool.next_deadline(self.now),
        }
    }

    // --- commands ---------------------------------------------------------------------

    /// Whether the request makes sense at all in this pool.
    pub(crate) fn admit(&self, request: &Request) -> Result<Wants, Refusal> {
        let inventory = self.pool.ledger.inventory.as_ref().ok_or(Refusal::NoInventory)?;
        let wants = request.wish.resolve(inventory)?;
        let around = self.pool.leases.iter().filter(|lease| {
            request.inside.contains(&lease.lease_id) && lease.lease_id != request.lease_id
        });
        // A card that has left the pool is not one that the request could wait for.
        let mut own: Vec<_> = around
            .flat_map(|lease| lease.gpus.iter().map(|gpu| (lease.lease_id, *gpu)))
            .filter(|(_, gpu)| inventory.gpus.iter().any(|card| card.index == *gpu))
            .collect();
        own.sort_unstable_by_key(|(_, gpu)| *gpu);
        let waits_for = match &wants {
            Wants::These(gpus) => own.iter().find(|(_, gpu)| gpus.contains(gpu)),
            Wants::Any(count) if inventory.gpus.len() < own.len() + *count as usize => own.first(),
            Wants::Any(_) => None,
        };
        match waits_for {
            Some(&(lease_id, gpu)) => Err(Refusal::SelfWait { lease_id, gpu }),
            None => Ok(wants),
        }
    }

    pub(crate) fn acquire(&mut self, request: Request, wants: Wants) -> Reply {
        self.forgive_silent_drains(request.owner.sight());
        self.polls = request.polls;
        let lease_id = request.lease_id;
        if let Some(index) = self.pool.leases.iter().position(|l| l.lease_id == lease_id) {
            if !self.pool.leases[index].owner.answers_to(request.owner.run) {
                return Reply::Duplicate;
            }
            return self.pick_up_as(index, request);
        }
        if let Some(waiter) = self.pool.waiter(lease_id) {
            if !waiter.owner.answers_to(request.owner.run) {
                return Reply::Duplicate;
            }
            return match self.ask_again(&request) {
                Some(reply) => reply,
                // It had wanted a GPU that the pool has no more, and now asks for another. The
                // old place is taken away with this step; a new one it gets when it asks again.
                None => match self.join(Request { patience: None, ..request }, wants) {
                    Reply::Busy => Reply::Waiting,
                    granted => granted,
                },
            };
        }
        self.join(request, wants)
    }

    /// Asks on behalf of a waiter; `None` if it is no longer one.
    fn ask_again(&mut self, request: &Request) -> Option<Reply> {
        let (lease_id, now) = (request.lease_id, self.now);
        if let Some(waiter) = self.pool.asker.as_mut().filter(|w| w.lease_id == lease_id) {
            waiter.seen_at = now;
            return Some(Reply::Waiting);
        }
        let place = self.pool.window.iter().position(|w| w.lease_id == lease_id)?;
        let waiter = &mut self.pool.window[place];
        waiter.seen_at = now;
        // If it is granted now, it is to whoever has come.
        let owner = std::mem::replace(&mut waiter.owner, request.owner.clone());
        let channel = std::mem::replace(&mut waiter.channel, request.channel.clone());
        self.hand_out(Some(lease_id));
        if let Some(lease) = self.pool.lease(lease_id) {
            return Some(Reply::Granted(lease.clone()));
        }
        let waiter = self.pool.window.iter_mut().find(|w| w.lease_id == lease_id)?;
        (waiter.owner, waiter.channel) = (owner, channel);
        Some(Reply::Waiting)
    }

    fn join(&mut self, request: Request, wants: Wants) -> Reply {
        let (lease_id, joins) = (request.lease_id, request.patience.is_some());
        let newcomer = Waiter::new(request, wants, self.now);
        if !self.pool.window_has_room(&newcomer) {
            return if joins { self.enqueue(newcomer) } else { Reply::Busy };
        }
        self.pool.window.push(newcomer);
        self.pool.window.sort_by_key(Waiter::order);
        self.pool.queue_len += 1;
        self.hand_out(Some(lease_id));
        if let Some(lease) = self.pool.lease(lease_id) {
            return Reply::Granted(lease.clone());
        }
        let place = self.pool.window.iter().position(|w| w.lease_id == lease_id);
        let newcomer = place.map(|place| self.pool.window.remove(place));
        self.pool.queue_len -= 1;
        match newcomer {
            Some(newcomer) if joins => self.enqueue(newcomer),
            _ => Reply::Busy,
        }
    }

    pub(crate) fn stand_in_line(&mut self, request: Request, wants: Wants) -> Reply {
        self.is_blind = true;
        // What is due or free now is seen to when the request asks.
        self.again = true;
        let lease_id = request.lease_id;
        if self.pool.lease(lease_id).is_none() && self.pool.waiter(lease_id).is_none() {
            self.changes.reads = Parts::default();
            self.changes.unless_leased = Some(lease_id);
            self.enqueue(Waiter::new(request, wants, self.now));
        }
        Reply::Waiting
    }

    pub(crate) fn claim(&mut self, lease: LeaseRef, group: ProcessGroup) -> Reply {
        let Some(index) = self.current(lease) else { return Reply::Lost };
        let claimed = &mut self.pool.leases[index];
        if claimed.is_over() {
            return Reply::Lost;
        }
        if claimed.group != Some(group) {
            claimed.group = Some(group);
            let runs_until = claimed.deadline();
            self.put_lease(index);
            self.only_before(runs_until);
        }
        self.pick_up(index)
    }

    pub(crate) fn renew(&mut self, renewals: Vec<Renewal>) -> Reply {
        Reply::Renewed(renewals.into_iter().map(|renewal| self.renew_one(renewal)).collect())
    }

    fn renew_one(&mut self, renewal: Renewal) -> Renewed {
        let lease = renewal.lease;
        let Some(index) = self.current(lease) else { return Renewed { lease, held: None } };
        let now = self.now;
        let runs_until = self.pool.leases[index].deadline();
        let holder = &mut self.pool.leases[index];
        let held = match &mut holder.phase {
            Phase::Held { renewed_at, deadline } => {
                *renewed_at = now;
                *deadline = holder.term.renewed(*deadline, now);
                Some((*deadline, None))
            }
            Phase::Stopping { renewed_at, deadline, request } => {
                *renewed_at = now;
                *deadline = holder.term.renewed(*deadline, now);
                Some((*deadline, Some(request.clone())))
            }
            // Only picking it up makes a grant a lease that can be renewed.
            Phase::Granted { claim_by } => return Renewed { lease, held: Some((*claim_by, None)) },
            Phase::Draining { .. } => return Renewed { lease, held: None },
        };
        if renewal.progress.is_some() {
            holder.progress = renewal.progress;
        }
        self.put_lease(index);
        self.only_before(runs_until);
        Renewed { lease, held }
    }

    pub(crate) fn release(&mut self, lease: LeaseRef) -> Reply {
        let Some(index) = self.current(lease) else { return Reply::Lost };
        if self.pool.leases[index].is_over() {
            // The owner's own word that it no longer uses the GPUs.
            self.free_drained(index);
            return Reply::Lost;
        }
        self.end(index, Ending::Released, false);
        Reply::Done
    }

    pub(crate) fn retire(&mut self, lease: LeaseRef) -> Reply {
        let Some(index) = self.current(lease) else { return Reply::Lost };
        if self.pool.leases[index].is_over() {
            return Reply::Lost;
        }
        self.end(index, Ending::Released, true);
        Reply::Done
    }

    pub(crate) fn report(&mut self, incident: Incident, error: String, party: Party) -> Reply {
        self.note(What::Incident { incident, error }, Some(party));
        Reply::Done
    }

    pub(crate) fn raise(&mut self, alert: Raised, party: Option<Party>) -> Reply {
        self.note(What::Raised { alert }, party);
        Reply::Done
    }

    pub(crate) fn cancel(
        &mut self,
        lease_id: LeaseId,
        run: Option<u64>,
        reason: CancelReason,
        polls: u32,
    ) -> Reply {
        let lease_owner = self.pool.lease(lease_id).map(|lease| &lease.owner);
        let owner = lease_owner.or(self.pool.waiter(lease_id).map(|waiter| &waiter.owner));
        if owner.is_some_and(|owner| !owner.answers_to(run)) {
            return Reply::Duplicate;
        }
        let granted = self.pool.leases.iter().position(|l| l.lease_id == lease_id);
        if let Some(index) = granted {
            // The grant and the decision to give up crossed: nobody used it.
            if matches!(self.pool.leases[index].phase, Phase::Granted { .. }) {
                self.end(index, Ending::Released, false);
            }
        } else if let Some(waiter) = self.dequeue(lease_id) {
            let waited_micros = micros(waiter.waited(self.now));
            self.polls = polls;
            self.count_polls();
            self.note(What::Cancelled { reason, waited_micros }, Some(Party::from(&waiter)));
        }
        Reply::Done
    }

    pub(crate) fn ask_to_stop(&mut self, lease: LeaseRef, reason: String) -> Reply {
        let Some(index) = self.current(lease) else { return Reply::Lost };
        let holder = &mut self.pool.leases[index];
        match holder.phase {
            Phase::Held { renewed_at, deadline } => {
                let request = StopRequest { at: self.now, reason: reason.clone() };
                holder.phase = Phase::Stopping { renewed_at, deadline, request };
                let (party, token) = (Party::from(&*holder), holder.token);
                let listens = holder.channel.clone();
                self.put_lease(index);
                self.note(What::StopRequested { token, reason }, Some(party));
                self.wake(listens, lease.lease_id, Why::Stop);
                Reply::Done
            }
            Phase::Stopping { .. } => Reply::Done,
            // Nobody works under it yet, so it can simply be taken back.
            Phase::Granted { .. } => {
                self.end(index, Ending::Expired(Cause::NotClaimed), false);
                Reply::Done
            }
            Phase::Draining { .. } => Reply::Lost,
        }
    }

    pub(crate) fn seize(&mut self, lease: LeaseRef, how: Ending, mode: SeizeMode) -> Reply {
        let Some(index) = self.current(lease) else { return Reply::Lost };
        let drain = mode == SeizeMode::Drain;
        match self.pool.leases[index].is_over() {
            true if drain => {}
            true => self.free_drained(index),
            false => self.end(index, how, drain),
        }
        Reply::Done
    }

    pub(crate) fn observe(&mut self, seen: &Evidence) -> Reply {
        match seen.subject {
            Subject::Waiter(lease_id) => {
                if !seen.holder_alive
                    && let Some(waiter) = self.dequeue(lease_id)
                {
                    self.note_dropped(&waiter);
                }
                Reply::Done
            }
            Subject::Lease(lease) => self.observe_lease(lease, seen),
        }
    }

    fn observe_lease(&mut self, lease: LeaseRef, seen: &Evidence) -> Reply {
        // Evidence about a lease that has gone meanwhile is late, not a violation.
        let found = self.pool.leases.iter().position(|l| l.reference() == lease);
        let Some(index) = found else { return Reply::Lost };
        let now = self.now;
        let holder = &mut self.pool.leases[index];
        if holder.group != seen.group {
            // It was looked at before the lease was claimed: that says nothing of its group.
            return Reply::Lost;
        }
        // A lease with a group uses its GPUs in the group alone: `gpulock run` itself may
        // be stopped, or slow to notice, without touching them.
        let in_use = if holder.group.is_some() { seen.group_alive } else { seen.holder_alive };
        match &mut holder.phase {
            Phase::Draining { .. } if !in_use => self.free_drained(index),
            Phase::Draining { seen_alive_at, .. } => {
                *seen_alive_at = now;
                self.put_lease(index);
            }
            _ if seen.holder_alive => {}
            _ => self.end(index, Ending::Expired(Cause::HolderDied), in_use),
        }
        Reply::Done
    }

    pub(crate) fn tick(&mut self, sight: Option<&Sight>) -> Reply {
        self.forgive_silent_drains(sight);
        Reply::Done
    }

    pub(crate) fn resume(&mut self, incarnation: String, closed_until: Time) -> Reply {
        let ledger = &mut self.pool.ledger;
        if ledger.incarnation.as_ref() != Some(&incarnation) {
            let closed_until = Some(closed_until).filter(|until| self.now < *until);
            let is_first = ledger.incarnation.replace(incarnation).is_none();
            ledger.closed_until = ledger.closed_until.max(closed_until);
            match is_first && closed_until.is_none() {
                // A pool that is new in a store that has long been there.
                true => self.ledger_changed = true,
                false => self.note(What::Resumed { closed_until }, None),
            }
        }
        Reply::Done
    }

    pub(crate) fn configure(&mut self, inventory: Inventory, settings: Settings) -> Reply {
        let ledger = &mut self.pool.ledger;
        if ledger.inventory.as_ref() != Some(&inventory) || ledger.settings != settings {
            ledger.inventory = Some(inventory.clone());
            ledger.settings = settings;
            self.note(What::Configured { inventory }, None);
        }
        Reply::Done
    }

    /// The request of this turn is over: what it has looked is counted once.
    pub(crate) fn count_polls(&mut self) {
        self.pool.ledger.counters.polls += u64::from(self.polls);
        self.ledger_changed |= self.polls > 0;
    }

    // --- what happens by itself -------------------------------------------------------

    pub(crate) fn expire_due(&mut self) {
        let due = |lease: &Lease, now| lease.deadline().is_some_and(|deadline| deadline <= now);
        while let Some(index) = self.pool.leases.iter().position(|l| due(l, self.now)) {
            self.changes.not_before =
                self.changes.not_before.max(self.pool.leases[index].deadline());
            let cause = match self.pool.leases[index].phase {
                Phase::Granted { .. } => Cause::NotClaimed,
                _ => Cause::Deadline,
            };
            self.end(index, Ending::Expired(cause), true);
        }
    }

    /// Frees what has drained for long without a word from anybody who could look, on
    /// behalf of a caller that cannot.
    fn forgive_silent_drains(&mut self, sight: Option<&Sight>) {
        let patience = self.pool.ledger.settings.witness_patience;
        let silent = |lease: &Lease, now: Time| match lease.phase {
            Phase::Draining { seen_alive_at, .. } => {
                lease.owner.sight() != sight && now >= seen_alive_at + patience
            }
            _ => false,
        };
        while let Some(index) = self.pool.leases.iter().position(|l| silent(l, self.now)) {
            if let Phase::Draining { seen_alive_at, .. } = self.pool.leases[index].phase {
                self.changes.not_before =
                    self.changes.not_before.max(Some(seen_alive_at + patience));
            }
            self.free_drained(index);
        }
    }
}
