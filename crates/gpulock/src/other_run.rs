//! Another run of the same task: a task queue has delivered it more than once.
//!
//! While the first run lives, this one is a duplicate and fails. If the first one is dead,
//! this is its successor and gets the GPU after it. Which of the two it is, the kernel says
//! where the process can be seen; anywhere else a sign of life does that comes after the
//! first look: a heartbeat of a holder, a question of a waiter. Until then it waits.

use std::time::Duration;

use gpulock_core::{LeaseId, Owner, Pool, Subject, Time};

use crate::clock::BootTime;
use crate::error::{Duplicate, Error, Holder};
use crate::process;
use crate::stored::{Outcome, jittered};
use crate::wait::{Wait, holder};
use crate::witness::gone;

/// What is known of another run.
struct OtherRun<'a> {
    owner: &'a Owner,
    /// The last sign of life that it has given by itself.
    seen_at: Time,
    /// It waits; otherwise it holds, or its processes are not gone yet.
    waits: bool,
    is_over: bool,
}

impl<'a> OtherRun<'a> {
    fn find(pool: &'a Pool, id: LeaseId) -> Option<Self> {
        if let Some(lease) = pool.lease(id) {
            let (owner, seen_at, is_over) = (&lease.owner, lease.renewed_at(), lease.is_over());
            return Some(Self { owner, seen_at, waits: false, is_over });
        }
        let waiter = pool.waiter(id)?;
        Some(Self { owner: &waiter.owner, seen_at: waiter.seen_at, waits: true, is_over: false })
    }

    /// Whether it lives, as far as that can be told by now.
    fn is_alive(&self, seen_before: Option<Time>) -> bool {
        let kernel_says = process::look(self.owner, None).is_some_and(|seen| seen.holder_alive);
        !self.is_over && (kernel_says || seen_before.is_some_and(|before| self.seen_at > before))
    }
}

impl Wait<'_> {
    /// Waits until it makes sense to ask again because the other run is gone.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when it is known to be alive, [`Error::NotAcquired`] when that
    /// could not be told in time.
    pub(crate) async fn yield_to_other_run(
        &mut self,
        outcome: &Outcome,
        pause: Duration,
    ) -> Result<(), Error> {
        let (pool, id) = (&*outcome.pool, self.request.lease_id);
        let findings = self.witness.examine_other_run(pool, outcome.now, id);
        self.report(&findings.evidence).await?;
        let Some(other) = OtherRun::find(pool, id) else { return Ok(()) };
        if findings.is_decisive(pool) {
            return Ok(());
        }
        if other.is_alive(self.other_run) {
            return Err(duplicate(outcome, id));
        }
        // Only what comes after this look is a sign of life.
        let seen_at = *self.other_run.get_or_insert(other.seen_at);
        if self.bounds.until.is_some_and(|until| until.left().is_zero()) {
            return Err(Error::NotAcquired(Box::new(self.not_acquired(outcome))));
        }
        let nap = findings.look_again.unwrap_or_else(|| jittered(pause));
        tokio::select! {
            () = self.witness.somebody_died() => {}
            () = tokio::time::sleep(self.at_most_until_the_end(nap)) => {}
        }
        if other.waits {
            self.follow_other_waiter(outcome, seen_at, pause).await?;
        }
        Ok(())
    }

    /// Follows another run in the queue without asking: to ask is a sign of life of the waiter
    /// itself, whoever asks.
    async fn follow_other_waiter(
        &self,
        outcome: &Outcome,
        seen_at: Time,
        pause: Duration,
    ) -> Result<(), Error> {
        let id = self.request.lease_id;
        loop {
            let all = self.stored.store.waiters(&self.stored.pool, usize::MAX >> 1).await?;
            match all.into_iter().find(|waiter| waiter.lease_id == id) {
                None => return Ok(()),
                Some(waiter) if waiter.seen_at > seen_at => return Err(duplicate(outcome, id)),
                Some(waiter) if waiter.is_gone(outcome.now + outcome.sent_at.elapsed()) => {
                    // Nobody puts it out before its turn, and to ask would revive it.
                    return self.report(&[gone(Subject::Waiter(id), None)]).await;
                }
                Some(_) => tokio::time::sleep(self.at_most_until_the_end(jittered(pause))).await,
            }
            if self.bounds.until.is_some_and(|until| until.left().is_zero()) {
                return Err(Error::NotAcquired(Box::new(self.not_acquired(outcome))));
            }
        }
    }

    fn at_most_until_the_end(&self, nap: Duration) -> Duration {
        self.bounds.until.map(BootTime::left).map_or(nap, |left| left.min(nap))
    }
}

fn duplicate(outcome: &Outcome, id: LeaseId) -> Error {
    let pool = &outcome.pool;
    let waits = pool.lease(id).is_none();
    let other = match (pool.lease(id), pool.waiter(id)) {
        (Some(lease), _) => holder(lease, outcome.now),
        (None, Some(waiter)) => Holder {
            task: waiter.task.to_string(),
            host: waiter.owner.host.clone(),
            pid: waiter.owner.process.as_ref().map(|own| own.process.pid),
            gpus: Vec::new(),
            held_for: waiter.waited(outcome.now),
            draining: false,
        },
        (None, None) => unreachable!("a duplicate is one of somebody"),
    };
    Error::Duplicate(Box::new(Duplicate { other, waits }))
}
