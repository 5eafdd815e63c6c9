//! Heartbeats of all leases of a client, in one call, from one task.
//!
//! A holder measures its own deadline on [`BootTime`], from before the heartbeat was sent:
//! it stops believing in its lease before the store does. It is told in time:
//! [`Health::Held`], then [`Health::Danger`] when a renewal is overdue, then
//! [`Health::Lost`].

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpulock_core::{Command, LeaseId, LeaseRef, Progress, Renewal, Reply, StopRequest, Term};
use tokio::sync::{Notify, watch};

use crate::clock::{BootTime, sleep_until};
use crate::stored::{StepError, Stored};

/// How a lease is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is ours.
    Held,
    /// It is ours, but a renewal is overdue: start nothing new.
    Danger,
    /// It is not ours, or cannot be known to be.
    Lost(Loss),
}

/// Why a lease is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The store says so: it expired or was taken away.
    Refused,
    /// The deadline passed before the store could be reached again.
    Unreachable,
    /// The store's file was removed or replaced.
    Replaced,
    /// An older worker has set its lock key, see
    /// [`Options::legacy_keys`](crate::Options::legacy_keys).
    OlderWorker,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "it expired or was taken away",
            Self::Unreachable => "the store could not be reached before its deadline",
            Self::Replaced => "the store's file was removed or replaced",
            Self::OlderWorker => "an older worker has set its lock key",
        })
    }
}

/// The state of a lease as its holder sees it.
#[derive(Clone, Debug)]
pub struct LeaseState {
    /// How it is doing.
    pub health: Health,
    /// When the holder must have stopped, on its own clock.
    pub deadline: BootTime,
    /// Somebody asked the holder to stop.
    pub stop: Option<StopRequest>,
}

/// One lease that is kept alive.
#[derive(Debug)]
struct Kept {
    span: Duration,
    interval: Duration,
    /// False for a lease that is not extended by heartbeats.
    renews: bool,
    next_renewal: BootTime,
    danger_at: BootTime,
    progress: Option<Progress>,
    state: watch::Sender<LeaseState>,
}

/// Keeps the leases of one client alive.
#[derive(Debug)]
pub(crate) struct Keeper {
    stored: Stored,
    kept: Mutex<HashMap<LeaseRef, Kept>>,
    /// Something changed that the keeper's task should look at.
    changed: Notify,
    /// Until when the keeper's task sleeps; `None` while it is at work, or keeps nothing.
    asleep_until: Mutex<Option<BootTime>>,
}

/// What the keeper needs to know of a new lease.
pub(crate) struct NewLease {
    pub(crate) lease: LeaseRef,
    pub(crate) term: Term,
    pub(crate) interval: Duration,
    /// From here its term runs.
    pub(crate) runs_from: BootTime,
}

impl Keeper {
    pub(crate) fn new(stored: Stored) -> Arc<Self> {
        let (kept, changed, asleep_until) = Default::default();
        Arc::new(Self { stored, kept, changed, asleep_until })
    }

    /// Begins to keep a lease alive.
    pub(crate) fn keep(&self, new: NewLease) -> watch::Receiver<LeaseState> {
        let span = new.term.span();
        let deadline = local_deadline(new.runs_from, span);
        let (state, receiver) =
            watch::channel(LeaseState { health: Health::Held, deadline, stop: None });
        let mut kept = Kept {
            span,
            interval: new.interval,
            renews: matches!(new.term, Term::Heartbeats(_)),
            next_renewal: new.runs_from,
            danger_at: danger_at(new.runs_from, span),
            progress: None,
            state,
        };
        kept.next_renewal = kept.after(new.runs_from);
        let first_moment = kept.next_moment();
        self.lock().insert(new.lease, kept);
        self.wake_unless_awake_by(Some(first_moment));
        receiver
    }

    /// The store extended a lease for another reason than a heartbeat sent from here.
    pub(crate) fn extended(&self, lease: LeaseRef, sent_at: BootTime) {
        self.note(lease, sent_at, Some(None));
        self.changed.notify_one();
    }

    /// Stops the heartbeats of a lease; what follows is its release.
    pub(crate) fn let_go(&self, lease: LeaseRef) {
        self.lock().remove(&lease);
        self.wake_unless_awake_by(None);
    }

    /// Sends this progress with the next heartbeat, which is now.
    pub(crate) fn tell_progress(&self, lease: LeaseRef, progress: Progress) {
        if let Some(kept) = self.lock().get_mut(&lease) {
            kept.progress = Some(progress);
        }
        self.renew_soon(lease.lease_id);
    }

    /// Makes the next heartbeat of a lease due now.
    pub(crate) fn renew_soon(&self, lease_id: LeaseId) {
        for (_, kept) in self.lock().iter_mut().filter(|(lease, _)| lease.lease_id == lease_id) {
            kept.next_renewal = BootTime::now();
        }
        self.changed.notify_one();
    }

    /// Makes the next heartbeat of every lease due now.
    pub(crate) fn renew_all_soon(&self) {
        self.lock().values_mut().for_each(|kept| kept.next_renewal = BootTime::now());
        self.changed.notify_one();
    }

    /// The task that sends heartbeats, until the client is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let Some(next) = self.next_moment() else {
                self.changed.notified().await;
                continue;
            };
            self.set_asleep(Some(next));
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.changed.notified() => {}
            }
            self.set_asleep(None);
            self.mark_overdue();
            self.renew_due().await;
        }
    }

    fn next_moment(&self) -> Option<BootTime> {
        let kept = self.lock();
        kept.values().filter(|one| one.is_believed()).map(Kept::next_moment).min()
    }

    /// Wakes the keeper's task if it would sleep past `moment`, and in any case if it is not
    /// asleep: it may be in the middle of a call. `None`: sleeping on is fine.
    fn wake_unless_awake_by(&self, moment: Option<BootTime>) {
        let asleep_until = *self.asleep_until.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = asleep_until.is_some_and(|until| moment.is_none_or(|moment| until <= moment));
        if !in_time {
            self.changed.notify_one();
        }
    }

    fn set_asleep(&self, until: Option<BootTime>) {
        *self.asleep_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn next_mark(&self) -> BootTime {
        let kept = self.lock();
        let marks = kept.values().filter(|one| one.is_believed()).map(Kept::next_mark);
        marks.min().unwrap_or_else(BootTime::now)
    }

    fn mark_overdue(&self) {
        let now = BootTime::now();
        for kept in self.lock().values() {
            kept.state.send_if_modified(|state| {
                let health = match state.health {
                    Health::Held | Health::Danger if state.deadline <= now => {
                        Health::Lost(Loss::Unreachable)
                    }
                    Health::Held if kept.renews && kept.danger_at <= now => Health::Danger,
                    unchanged => unchanged,
                };
                std::mem::replace(&mut state.health, health) != health
            });
        }
    }

    /// Renews all leases in one call as soon as one of them is due.
    async fn renew_due(&self) {
        let sent_at = BootTime::now();
        let renewals = self.begin_renewals(sent_at);
        if renewals.is_empty() {
            return;
        }
        let command = Command::Renew(renewals.clone());
        let mut call = pin!(self.stored.step(&command, None));
        let answer = loop {
            let first_deadline = self.earliest_deadline();
            tokio::select! {
                answer = &mut call => break Some(answer),
                // The answer is late: say so in time, and at the deadline ask again.
                () = tokio::time::sleep(self.next_mark().left()) => self.mark_overdue(),
                // A lease that is new meanwhile may have the next mark. One that is being
                // released is not named again.
                () = self.changed.notified() => {
                    if renewals.iter().any(|renewal| !self.keeps(renewal.lease)) {
                        break None;
                    }
                }
            }
            if first_deadline.left().is_zero() {
                break None;
            }
        };
        match answer {
            Some(Ok(outcome)) => {
                if let Reply::Renewed(renewed) = outcome.reply {
                    for one in renewed {
                        self.note(one.lease, sent_at, one.held.map(|(_, stop)| stop));
                    }
                }
            }
            Some(Err(StepError::Store(crate::store::StoreError::Replaced(_)))) => {
                for renewal in &renewals {
                    self.lose(renewal.lease, Loss::Replaced);
                }
            }
            _ => {
                for renewal in renewals {
                    self.retry_soon(renewal);
                }
            }
        }
    }

    fn begin_renewals(&self, now: BootTime) -> Vec<Renewal> {
        let mut kept = self.lock();
        if !kept.values().any(|one| one.is_believed() && one.next_renewal <= now) {
            return Vec::new();
        }
        kept.iter_mut()
            .filter(|(_, one)| one.is_believed() && (one.renews || one.next_renewal <= now))
            .map(|(lease, one)| {
                one.next_renewal = one.after(now);
                Renewal { lease: *lease, progress: one.progress.take() }
            })
            .collect()
    }

    fn keeps(&self, lease: LeaseRef) -> bool {
        self.lock().contains_key(&lease)
    }

    fn earliest_deadline(&self) -> BootTime {
        let kept = self.lock();
        let believed = kept.values().filter(|one| one.is_believed());
        let deadlines = believed.map(|one| one.state.borrow().deadline);
        deadlines.min().unwrap_or_else(BootTime::now)
    }

    /// Writes down the store's answer to one heartbeat; `None` means that it is lost.
    fn note(&self, lease: LeaseRef, sent_at: BootTime, held: Option<Option<StopRequest>>) {
        let Some(stop) = held else { return self.lose(lease, Loss::Refused) };
        if let Some(kept) = self.lock().get_mut(&lease) {
            kept.danger_at = danger_at(sent_at, kept.span);
            kept.state.send_if_modified(|state| {
                if matches!(state.health, Health::Lost(_)) {
                    // The holder has been told. Whatever the store says, that is final.
                    return false;
                }
                if kept.renews {
                    state.deadline = local_deadline(sent_at, kept.span);
                    state.health = Health::Held;
                }
                state.stop = stop;
                true
            });
        }
    }

    /// Tells the holder that a lease is lost. What it was told before stays.
    pub(crate) fn lose(&self, lease: LeaseRef, loss: Loss) {
        if let Some(kept) = self.lock().get_mut(&lease) {
            kept.state.send_if_modified(|state| {
                let is_news = !matches!(state.health, Health::Lost(_));
                if is_news {
                    state.health = Health::Lost(loss);
                }
                is_news
            });
        }
    }

    fn retry_soon(&self, renewal: Renewal) {
        if let Some(kept) = self.lock().get_mut(&renewal.lease) {
            let pause = (kept.interval / 8)
                .clamp(Duration::from_millis(10), Duration::from_secs(1))
                .mul_f64(0.5 + fastrand::f64() / 2.0);
            kept.next_renewal = BootTime::now() + pause;
            kept.progress = kept.progress.take().or(renewal.progress);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseRef, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether its holder still believes in it.
    fn is_believed(&self) -> bool {
        !matches!(self.state.borrow().health, Health::Lost(_))
    }

    /// When it needs to be looked at.
    fn next_moment(&self) -> BootTime {
        self.next_renewal.min(self.next_mark())
    }

    /// When its health changes unless it is renewed before.
    fn next_mark(&self) -> BootTime {
        let state = self.state.borrow();
        match state.health {
            Health::Held if self.renews => self.danger_at.min(state.deadline),
            _ => state.deadline,
        }
    }

    /// The next heartbeat after one at `now`: a little early, so that many clients that
    /// started together do not stay together.
    fn after(&self, now: BootTime) -> BootTime {
        match self.renews {
            true => now + self.interval.mul_f64(0.9 + fastrand::f64() / 10.0),
            false => now + Duration::MAX,
        }
    }
}

/// When a holder must have stopped: a margin for drift between the clocks (one percent and
/// two milliseconds, as Redlock has it) before the store's deadline.
/// See <https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>.
fn local_deadline(sent_at: BootTime, span: Duration) -> BootTime {
    sent_at + span.saturating_sub(span / 100 + Duration::from_millis(2))
}

/// When a renewal is overdue: two thirds of the span have passed without one.
fn danger_at(sent_at: BootTime, span: Duration) -> BootTime {
    sent_at + span * 2 / 3
}
