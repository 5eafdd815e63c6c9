//! The few primitives through which alone a turn changes the pool. Each records its change
//! and its event, so that the two can never part.

use crate::event::{Event, Party, What, micros};
use crate::gpu::GpuIndex;
use crate::ids::{Channel, LeaseId, LeaseRef, Token};
use crate::lease::{Ending, Lease, Phase, Term};
use crate::owner::Sight;
use crate::pool::Pool;
use crate::queue::{LOOK_AHEAD, Waiter};
use crate::request::{Request, Wants};
use crate::step::{Reply, Wake, Why};
use crate::time::Time;
use crate::turn::Turn;

impl Turn<'_> {
    /// The lease that `named` means. Naming one that is not current is a violation.
    pub(crate) fn current(&mut self, named: LeaseRef) -> Option<usize> {
        let found = self.pool.leases.iter().position(|lease| lease.reference() == named);
        if found.is_none() {
            self.pool.ledger.counters.ownership_violations += 1;
            self.ledger_changed = true;
        }
        found
    }

    /// Whoever has come for a grant is its owner from now on: the one that asked for it may
    /// have left meanwhile.
    pub(crate) fn pick_up_as(&mut self, index: usize, asker: Request) -> Reply {
        let lease = &mut self.pool.leases[index];
        if matches!(lease.phase, Phase::Granted { .. }) && !lease.supervised {
            (lease.owner, lease.channel) = (asker.owner, asker.channel);
        }
        self.pick_up(index)
    }

    /// The owner has its grant in hand.
    pub(crate) fn pick_up(&mut self, index: usize) -> Reply {
        let now = self.now;
        let lease = &mut self.pool.leases[index];
        if lease.is_over() {
            return Reply::Lost;
        }
        let ready = !lease.supervised || lease.group.is_some();
        if ready && matches!(lease.phase, Phase::Granted { .. }) {
            let claim_by = lease.deadline();
            lease.phase = Phase::held(lease.acquired_at, lease.term, now);
            let (party, token) = (Party::from(&*lease), lease.token);
            self.put_lease(index);
            self.only_before(claim_by);
            self.count_polls();
            self.note(What::Claimed { token }, Some(party));
        }
        Reply::Granted(self.pool.leases[index].clone())
    }

    /// Lends `gpus` to a waiter of the window; `asker` is the one that hears it at once.
    pub(crate) fn lend(&mut self, place: usize, gpus: Vec<GpuIndex>, asker: Option<LeaseId>) {
        let waiter = self.pool.window.remove(place);
        self.forget_waiter(&waiter);
        let token = self.pool.ledger.last_token.next(self.now);
        self.pool.ledger.last_token = token;
        let hears_it_now = asker == Some(waiter.lease_id);
        let phase = if hears_it_now && !waiter.supervised {
            Phase::held(self.now, waiter.term, self.now)
        } else {
            Phase::Granted { claim_by: self.claim_by(&waiter) }
        };
        if hears_it_now {
            self.count_polls();
        } else {
            self.wake(waiter.channel.clone(), waiter.lease_id, Why::Granted);
        }
        let waited_micros = micros(waiter.waited(self.now));
        let what = What::Granted { gpus: gpus.clone(), token, waited_micros };
        self.note(what, Some(Party::from(&waiter)));
        self.pool.leases.push(Lease::new(waiter, token, gpus, self.now, phase));
        self.put_lease(self.pool.leases.len() - 1);
    }

    /// Until when a grant is kept for a waiter that does not hear of it at once.
    fn claim_by(&self, waiter: &Waiter) -> Time {
        let mut claim_by = self.now + self.pool.ledger.settings.claim_time;
        if waiter.comes_back {
            claim_by = claim_by.max(waiter.seen_at + waiter.patience);
        }
        match waiter.term {
            Term::Heartbeats(_) => claim_by,
            // It runs from the grant: after that there is nothing left to pick up.
            Term::Fixed(span) => claim_by.min(self.now + span),
        }
    }

    /// Ends a lease. If `drain`, and if anybody could ever tell whether its processes are
    /// gone, its GPUs drain; otherwise they are free.
    pub(crate) fn end(&mut self, index: usize, how: Ending, drain: bool) {
        let now = self.now;
        let lease = &mut self.pool.leases[index];
        let never_used = matches!(lease.phase, Phase::Granted { .. }) && lease.group.is_none();
        let draining = drain && !never_used && lease.owner.process.is_some();
        let party = Party::from(&*lease);
        let what = What::Ended {
            token: lease.token,
            gpus: lease.gpus.clone(),
            how: how.clone(),
            held_micros: micros(now.since(lease.acquired_at)),
            draining,
        };
        let told = matches!(how, Ending::Seized { .. }).then(|| lease.channel.clone()).flatten();
        let lease_id = lease.lease_id;
        if draining {
            lease.phase = Phase::Draining { ended_at: now, how, seen_alive_at: now, failures: 0 };
            self.put_lease(index);
        } else {
            let lease = self.remove_lease(index);
            self.pool.ledger.counters.count_recovery(&lease, &how, false);
        }
        self.note(what, Some(party));
        self.wake(told, lease_id, Why::Stop);
    }

    /// Frees the GPUs of a lease that is over.
    pub(crate) fn free_drained(&mut self, index: usize) {
        let lease = self.remove_lease(index);
        if let Phase::Draining { how, .. } = &lease.phase {
            self.pool.ledger.counters.count_recovery(&lease, how, false);
            self.ledger_changed = true;
        }
        let what = What::Drained { token: lease.token, gpus: lease.gpus.clone() };
        self.note(what, Some(Party::from(&lease)));
    }

    pub(crate) fn enqueue(&mut self, mut waiter: Waiter) -> Reply {
        if waiter.comes_back {
            (waiter.owner, waiter.channel) = (waiter.owner.away(), None);
        }
        let (wants, priority) = (waiter.wants.clone(), waiter.priority);
        self.note(What::Queued { wants, priority }, Some(Party::from(&waiter)));
        self.changes.waiters.insert(waiter.lease_id, Some(waiter.clone()));
        self.pool.queue_len += 1;
        if self.pool.window_has_room(&waiter) {
            self.pool.window.push(waiter);
            self.pool.window.sort_by_key(Waiter::order);
        }
        Reply::Waiting
    }

    /// Takes a waiter out of the queue if it is there and in sight.
    pub(crate) fn dequeue(&mut self, lease_id: LeaseId) -> Option<Waiter> {
        self.changes.reads.queue = true;
        let place = self.pool.window.iter().position(|w| w.lease_id == lease_id);
        let waiter = match place {
            Some(place) => Some(self.pool.window.remove(place)),
            None => self.pool.asker.take_if(|w| w.lease_id == lease_id),
        }?;
        self.forget_waiter(&waiter);
        Some(waiter)
    }

    /// Puts a waiter of the window out of the queue.
    pub(crate) fn drop_waiter(&mut self, place: usize) {
        let waiter = self.pool.window.remove(place);
        self.forget_waiter(&waiter);
        self.note_dropped(&waiter);
    }

    pub(crate) fn note_dropped(&mut self, waiter: &Waiter) {
        let waited_micros = micros(waiter.waited(self.now));
        self.note(What::Dropped { waited_micros }, Some(Party::from(waiter)));
    }

    pub(crate) fn forget_waiter(&mut self, waiter: &Waiter) {
        self.pool.queue_len -= 1;
        self.line_moved = true;
        if waiter.is_queued() {
            self.changes.waiters.insert(waiter.lease_id, None);
        }
    }

    /// What this turn decides is right only before `deadline`.
    pub(crate) fn only_before(&mut self, deadline: Option<Time>) {
        let bounds = [self.changes.not_after, deadline];
        self.changes.not_after = bounds.into_iter().flatten().min();
    }

    pub(crate) fn put_lease(&mut self, index: usize) {
        let lease = &self.pool.leases[index];
        self.changes.leases.insert(lease.lease_id, Some(lease.clone()));
    }

    pub(crate) fn remove_lease(&mut self, index: usize) -> Lease {
        let lease = self.pool.leases.remove(index);
        self.changes.leases.insert(lease.lease_id, None);
        lease
    }

    pub(crate) fn note(&mut self, what: What, party: Option<Party>) {
        self.pool.ledger.counters.count(&what);
        // Every event but these moves a sum or another field of the ledger.
        self.ledger_changed |=
            !matches!(what, What::Queued { .. } | What::Claimed { .. } | What::Drained { .. });
        self.events.push(Event { at: self.now, what, party });
    }

    pub(crate) fn wake(&mut self, channel: Option<Channel>, lease_id: LeaseId, why: Why) {
        self.wake.extend(channel.map(|channel| Wake { channel, lease_id, why }));
    }

    /// Tells the first waiter of every sight that it shall watch the holders. One process
    /// per host and namespace watches, so a death wakes one waiter and not all of them.
    pub(crate) fn post_watch(&mut self) {
        let mut sights: Vec<&Sight> = Vec::new();
        let mut first = Vec::new();
        for waiter in self.pool.window.iter().filter(|w| w.is_queued()) {
            if let Some(sight) = waiter.owner.sight()
                && !sights.contains(&sight)
            {
                sights.push(sight);
                first.push((waiter.channel.clone(), waiter.lease_id));
            }
        }
        for (channel, lease_id) in first {
            self.wake(channel, lease_id, Why::Watch);
        }
    }
}

impl Pool {
    /// Whether the window shows all that stand before `waiter` in its lane.
    pub(crate) fn window_has_room(&self, waiter: &Waiter) -> bool {
        let lane = waiter.wants.lane();
        let ahead = self.window.iter().filter(|other| {
            other.order() <= waiter.order()
                && other.lease_id != waiter.lease_id
                && other.wants.lane() == lane
        });
        ahead.count() < LOOK_AHEAD
    }
}

impl Waiter {
    /// The place in the order of arrival of a request that has none yet: the last.
    const NOT_QUEUED: u64 = u64::MAX;

    pub(crate) fn new(request: Request, wants: Wants, now: Time) -> Self {
        Self {
            lease_id: request.lease_id,
            task: request.task,
            owner: request.owner,
            wants,
            priority: request.priority,
            term: request.term,
            supervised: request.supervised,
            patience: request.patience.unwrap_or_default(),
            comes_back: request.comes_back,
            channel: request.channel,
            arrived_at: now,
            seen_at: now,
            arrival: Self::NOT_QUEUED,
        }
    }

    fn is_queued(&self) -> bool {
        self.arrival != Self::NOT_QUEUED
    }
}

impl Lease {
    fn new(waiter: Waiter, token: Token, gpus: Vec<GpuIndex>, now: Time, phase: Phase) -> Self {
        Self {
            lease_id: waiter.lease_id,
            token,
            task: waiter.task,
            owner: waiter.owner,
            group: None,
            gpus,
            priority: waiter.priority,
            term: waiter.term,
            supervised: waiter.supervised,
            acquired_at: now,
            phase,
            progress: None,
            channel: waiter.channel,
            overdue: None,
        }
    }
}

impl Phase {
    fn held(acquired_at: Time, term: Term, now: Time) -> Self {
        let start = match term {
            Term::Heartbeats(_) => now,
            Term::Fixed(_) => acquired_at,
        };
        Self::Held { renewed_at: now, deadline: start + term.span() }
    }
}

impl Term {
    /// The deadline after a heartbeat at `now`.
    pub(crate) fn renewed(self, deadline: Time, now: Time) -> Time {
        match self {
            Self::Heartbeats(span) => now + span,
            Self::Fixed(_) => deadline,
        }
    }
}
