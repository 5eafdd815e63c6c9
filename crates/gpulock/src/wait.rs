//! Waiting for a grant.
//!
//! A waiter sleeps until the first of: its wake-up, the death of a process in its way, the
//! deadline of a lease in its way, its next poll, the end of its own patience. Whatever
//! woke it, it then simply asks again: the wake-up is only a hint, the answer is the
//! store's.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gpulock_core::{Command, Evidence, Lease, Phase, Pool, Reply, Request, Term, Time, Wants};
use tokio::sync::{oneshot, watch};

use crate::clock::BootTime;
use crate::error::{Error, Holder, NotAcquired};
use crate::estimate::expected_wait;
use crate::post::Post;
use crate::store::{Award, StoreError};
use crate::stored::{Outcome, Patience, StepError, Stored, jittered};
use crate::witness::{Findings, Witness};

/// How a waiter looks again when nobody wakes it.
#[derive(Clone, Debug)]
pub struct Polling {
    /// Until the first poll.
    pub first: Duration,
    /// The longest time between two polls, plus up to a quarter.
    pub longest: Duration,
    /// Double the time after each poll.
    pub doubles: bool,
    /// Listen for wake-ups; without them a waiter only polls.
    pub wake_ups: bool,
}

impl Default for Polling {
    /// The defaults of `config.yml`: 2 s, doubled up to 10 s, with wake-ups.
    fn default() -> Self {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(10));
        Self { first, longest, doubles: true, wake_ups: true }
    }
}

/// What a waiter knows about its wait.
#[derive(Clone, Debug, Default)]
pub struct WaitState {
    /// How many are before it; `None` until it is in the queue.
    pub ahead: Option<u64>,
    /// Who holds the GPUs that it wants.
    pub holders: Vec<Holder>,
    /// How long it will probably take, see [`expected_wait`](crate::expected_wait).
    pub expected: Option<Duration>,
    /// How long nothing is lent, because the store came back and may have forgotten leases.
    pub closed_for: Option<Duration>,
    /// Why the store does not answer, while it does not.
    pub store_trouble: Option<String>,
}

/// The bounds of one wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) began: BootTime,
    /// `None`: for ever.
    pub(crate) until: Option<BootTime>,
    /// How long to bear with a store that does not answer.
    pub(crate) store_patience: Duration,
}

pub(crate) struct Wait<'a> {
    pub(crate) stored: &'a Stored,
    pub(crate) post: &'a Post,
    pub(crate) polling: &'a Polling,
    pub(crate) request: &'a Request,
    /// Asks for that request, again and again.
    pub(crate) command: &'a Command,
    pub(crate) bounds: Bounds,
    pub(crate) witness: Witness,
    /// When another run of the same task was last seen alive.
    pub(crate) other_run: Option<Time>,
    /// How often it has looked again because nobody woke it.
    pub(crate) polls: &'a AtomicU32,
    pub(crate) state: &'a watch::Sender<WaitState>,
}

/// Receivers of a state that nobody has asked for: the one that others are made from.
const UNWATCHED: usize = 1;

/// A grant in hand.
pub(crate) struct Grant {
    pub(crate) lease: Lease,
    pub(crate) pool: Arc<Pool>,
    /// From here its term runs.
    pub(crate) runs_from: BootTime,
}

impl Wait<'_> {
    /// Asks, and waits until the request is granted. `called_off` ends the wait when its
    /// other end is dropped. What a failed request leaves in the store is to be
    /// [withdrawn](crate::withdrawal).
    pub(crate) async fn run(
        mut self,
        called_off: &mut oneshot::Receiver<()>,
    ) -> Result<Grant, Error> {
        let granted = self.ask_until_granted(called_off).await;
        self.post.forget(self.request.lease_id);
        granted
    }

    async fn ask_until_granted(
        &mut self,
        called_off: &mut oneshot::Receiver<()>,
    ) -> Result<Grant, Error> {
        // Listening begins before asking: a grant in between is not missed.
        let bell = self.post.bell(self.request.lease_id);
        let mut pause = self.polling.first;
        loop {
            let outcome = tokio::select! {
                outcome = self.ask_with(bell.take_award()) => outcome?,
                _ = &mut *called_off => return Err(Error::CalledOff),
            };
            if let Reply::Granted(lease) = outcome.reply {
                let runs_from = runs_from(&lease, outcome.now, outcome.sent_at);
                return Ok(Grant { lease, pool: outcome.pool, runs_from });
            }
            if outcome.reply == Reply::Lost {
                return Err(Error::Lost(
                    "its grant was taken back before it was picked up".to_owned(),
                ));
            }
            if outcome.reply == Reply::Duplicate {
                tokio::select! {
                    settled = self.yield_to_other_run(&outcome, pause) => settled?,
                    _ = &mut *called_off => return Err(Error::CalledOff),
                }
                continue;
            }
            let findings = self.witness.examine(&outcome.pool, outcome.now, self.request.lease_id);
            let decisive = findings.is_decisive(&outcome.pool);
            self.report(&findings.evidence).await?;
            if decisive {
                continue;
            }
            self.show(&outcome).await;
            let over = self.bounds.until.is_some_and(|until| until.left().is_zero());
            if over || outcome.reply == Reply::Busy {
                return Err(Error::NotAcquired(Box::new(self.not_acquired(&outcome))));
            }
            let nap = self.nap(&outcome, &findings, pause);
            // A large pool is not kept for as long as the wait lasts.
            drop(outcome);
            tokio::select! {
                () = bell.rung() => pause = self.polling.first,
                () = self.witness.somebody_died() => {}
                () = tokio::time::sleep(nap) => {
                    self.polls.fetch_add(1, Ordering::Relaxed);
                    if findings.look_again.is_none() && self.polling.doubles {
                        pause = (pause * 2).min(self.polling.longest);
                    }
                }
                _ = &mut *called_off => return Err(Error::CalledOff),
            }
        }
    }

    /// Asks, in one call if the answer to expect came with a letter.
    async fn ask_with(&self, award: Option<Box<Award>>) -> Result<Outcome, Error> {
        let command = match self.command {
            Command::Acquire(request) => Cow::Owned(Command::Acquire(Request {
                polls: self.polls.load(Ordering::Relaxed),
                ..request.clone()
            })),
            other => Cow::Borrowed(other),
        };
        if let Some(award) = award
            && let Some(outcome) = self.stored.pick_up(&command, *award).await
        {
            return Ok(outcome);
        }
        self.carry_out(&command).await
    }

    async fn carry_out(&self, command: &Command) -> Result<Outcome, Error> {
        let tell = tell_trouble(self.state);
        let patience =
            Patience { until: BootTime::now() + self.bounds.store_patience, tell: &tell };
        let asking = Some(self.request.lease_id);
        Ok(self.stored.step_patiently(command, asking, &patience).await?)
    }

    pub(crate) async fn report(&self, evidence: &[Evidence]) -> Result<(), Error> {
        for seen in evidence {
            self.carry_out(&Command::Observe(seen.clone())).await?;
        }
        Ok(())
    }

    /// How long to sleep if nothing happens.
    fn nap(&self, outcome: &Outcome, findings: &Findings, pause: Duration) -> Duration {
        let is_first = outcome.ahead.unwrap_or(outcome.pool.queue_len.saturating_sub(1)) == 0;
        let deadline = outcome.next_deadline.map(|deadline| {
            // The first in line is there on time, the others do not all come with it.
            let late = if is_first {
                Duration::ZERO
            } else {
                Duration::from_secs(1).mul_f64(fastrand::f64())
            };
            deadline.since(outcome.now) + Duration::from_millis(1) + late
        });
        let own_end = self.bounds.until.map(BootTime::left);
        let others = [deadline, self.silence(outcome), findings.look_again, own_end];
        others.into_iter().flatten().fold(jittered(pause), Duration::min)
    }

    /// Until GPUs drain no longer for want of a witness: those of leases whose processes
    /// this waiter cannot see.
    fn silence(&self, outcome: &Outcome) -> Option<Duration> {
        let sight = self.request.owner.sight();
        let patience = outcome.pool.ledger.settings.witness_patience;
        let unseen = outcome.pool.leases.iter().filter(|lease| lease.owner.sight() != sight);
        let ends = unseen.filter_map(|lease| match lease.phase {
            Phase::Draining { seen_alive_at, .. } => Some(seen_alive_at + patience),
            _ => None,
        });
        let first = ends.min()?;
        Some(first.since(outcome.now) + Duration::from_millis(1))
    }

    async fn show(&self, outcome: &Outcome) {
        let mut ahead = outcome.ahead;
        let is_watched = self.state.receiver_count() > UNWATCHED;
        if is_watched && ahead.is_none() && outcome.reply == Reply::Waiting {
            // It has only just joined: where, the store knows. If it does not say, the next
            // answer will.
            let asking = Some(self.request.lease_id);
            let view = self.stored.store.read(&self.stored.pool, asking).await;
            ahead = view.ok().and_then(|view| view.ahead);
        }
        self.state.send_modify(|state| {
            state.ahead = ahead;
            state.holders = holders(&outcome.pool, outcome.now);
            state.expected = expected_wait(&outcome.pool, outcome.now, ahead.unwrap_or_default());
            state.closed_for = outcome.pool.closed_for(outcome.now);
        });
    }

    pub(crate) fn not_acquired(&self, outcome: &Outcome) -> NotAcquired {
        let inventory = outcome.pool.ledger.inventory.as_ref();
        let wants = inventory.and_then(|inventory| self.request.wish.resolve(inventory).ok());
        NotAcquired {
            wanted: wants.unwrap_or(Wants::Any(1)).to_string(),
            waited: self.request.patience.map(|_| self.bounds.began.elapsed()),
            ahead: self.state.borrow().ahead.unwrap_or(outcome.pool.queue_len),
            holders: holders(&outcome.pool, outcome.now),
            closed_for: outcome.pool.closed_for(outcome.now),
        }
    }
}

/// Shows the waiter why the store does not answer, while it does not.
pub(crate) fn tell_trouble(
    state: &watch::Sender<WaitState>,
) -> impl Fn(Option<&StoreError>) + Send + Sync {
    |trouble| {
        let trouble = trouble.map(ToString::to_string);
        state.send_modify(|state| state.store_trouble = trouble);
    }
}

/// From when on the term of a lease runs, on this host's clock. The answer that tells of a
/// lease may come long after the grant: after a lost wake-up, or when an earlier answer was
/// lost.
pub(crate) fn runs_from(lease: &Lease, now: Time, sent_at: BootTime) -> BootTime {
    let began = match lease.term {
        Term::Heartbeats(_) => lease.renewed_at(),
        Term::Fixed(_) => lease.acquired_at,
    };
    sent_at - now.since(began)
}

/// Who holds the GPUs of a pool, the longest first.
pub(crate) fn holders(pool: &Pool, now: Time) -> Vec<Holder> {
    let mut leases: Vec<&Lease> = pool.leases.iter().collect();
    leases.sort_by_key(|lease| lease.acquired_at);
    leases.into_iter().map(|lease| holder(lease, now)).collect()
}

/// The holder of a lease.
pub(crate) fn holder(lease: &Lease, now: Time) -> Holder {
    Holder {
        task: lease.task.to_string(),
        host: lease.owner.host.clone(),
        pid: lease.owner.process.as_ref().map(|own| own.process.pid),
        gpus: lease.gpus.clone(),
        held_for: now.since(lease.acquired_at),
        draining: lease.is_over(),
    }
}

impl From<StepError> for Error {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Store(error) => Self::Store(error),
            StepError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
