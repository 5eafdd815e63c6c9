//! The lock keys of older workers, while they are replaced one by one.
//!
//! Older workers take the key `gpu_lock:0` by `SET NX EX` and know nothing of leases. With
//! [`Options::legacy_keys`](crate::Options::legacy_keys) whoever was granted a GPU takes that
//! key too before it begins, and waits for it while heartbeats keep its lease; so only one
//! new worker at a time competes with the older ones. While it holds the key it extends it,
//! and before it gives the lease back it deletes the key and says so on the channel that
//! older workers listen to.
//!
//! The value is `locked_by_TASK#LEASE`: older workers find what they expect at its beginning,
//! and nobody else ever writes the same.

use std::sync::Arc;
use std::time::Duration;

use gpulock_core::{GpuIndex, GpuRef, LeaseId, LeaseRef, LockKey, Progress, TaskName, Term, What};
use tokio::sync::{oneshot, watch};

use crate::client::{Asking, Client};
use crate::clock::{BootTime, sleep_until, wall_time};
use crate::error::{Error, Holder, NotAcquired};
use crate::heartbeat::{Health, Keeper, LeaseState, Loss};
use crate::lease::{Lease, history_of};
use crate::store::{Claim, LockKeys, Releases, StoreError, Taken};
use crate::stored::{StepError, jittered};
use crate::wait::tell_trouble;

/// No key lasts shorter: a few lost packets must not cost it.
const SHORTEST: Duration = Duration::from_secs(3);

/// Whoever waits for a key is not kept longer than this by the connection that listens.
const CONFIRMING: Duration = Duration::from_secs(1);

/// What stands in front of the name of a task.
const LOCKED_BY: &str = "locked_by_";

/// The most that is shown of what somebody else wrote, in characters.
const LONGEST_SHOWN: usize = 100;

/// The keys of one lease. They are freed with it; when they are dropped they run out.
#[derive(Debug, Default)]
pub(crate) struct HeldKeys {
    held: Vec<HeldKey>,
}

impl HeldKeys {
    /// Frees them, as far as the store answers. Those that are left can be tried again, and
    /// run out by themselves.
    pub(crate) async fn free(&mut self) {
        while let Some(key) = self.held.last() {
            match key.free().await {
                Ok(_) => self.held.pop(),
                Err(_) => return,
            };
        }
    }
}

/// One key, and what we set it to.
#[derive(Clone, Debug)]
struct HeldKey {
    keys: Arc<dyn LockKeys>,
    name: String,
    value: String,
    task: TaskName,
    span: Duration,
}

impl HeldKey {
    async fn take(&self, instead_of: Option<&str>) -> Result<Taken, StoreError> {
        let Self { name, value, span, .. } = self;
        self.keys.take(&Claim { key: name, value, span: *span, instead_of }).await
    }

    async fn free(&self) -> Result<bool, StoreError> {
        let news = serde_json::json!({
            "event_type": "lock_released",
            "lock_key": self.name,
            "task_name": self.task.to_string(),
            "release_reason": "normal",
            "timestamp": wall_time().as_micros() as f64 / 1e6,
        });
        self.keys.free(&self.name, &self.value, &news.to_string()).await
    }

    /// Extends it until the lease is lost or let go, and tells the holder when it is lost
    /// with the key. One that is gone is set again: somebody deleted it by mistake.
    async fn extend(self, kept: Kept, taken_at: BootTime) {
        let Kept { keeper, lease, mut state } = kept;
        tokio::select! {
            loss = self.extend_until_lost(taken_at) => keeper.lose(lease, loss),
            _ = state.wait_for(|state| matches!(state.health, Health::Lost(_))) => {}
        }
    }

    async fn extend_until_lost(&self, taken_at: BootTime) -> Loss {
        let believed = self.span.saturating_sub(self.span / 100 + Duration::from_millis(2));
        let (mut runs_until, mut next) = (taken_at + believed, taken_at + self.span / 3);
        loop {
            sleep_until(next).await;
            let sent_at = BootTime::now();
            let answer = tokio::select! {
                answer = self.take(None) => answer,
                () = sleep_until(runs_until) => return Loss::Unreachable,
            };
            match answer {
                Ok(Taken::Ours) => {
                    (runs_until, next) = (sent_at + believed, sent_at + self.span / 3);
                }
                Ok(Taken::Others { .. }) => return Loss::OlderWorker,
                Err(_) => next = BootTime::now() + jittered(self.span / 24),
            }
        }
    }
}

/// The lease that a key belongs to.
struct Kept {
    keeper: Arc<Keeper>,
    lease: LeaseRef,
    state: watch::Receiver<LeaseState>,
}

impl Client {
    /// Takes the older keys of the GPUs of a new lease, in rising order. What it has taken
    /// when it fails is freed with the lease.
    pub(crate) async fn take_older_keys(
        &self,
        lease: &mut Lease,
        asking: &Asking,
        called_off: &mut oneshot::Receiver<()>,
    ) -> Result<(), Error> {
        let Some(keys) = &self.inner.older_keys else { return Ok(()) };
        for gpu in lease.gpu_indices().to_vec() {
            let (name, task) = (self.older_key(gpu), lease.record.task.clone());
            let value = format!("{LOCKED_BY}{task}#{}", lease.id());
            let (keys, span) = (Arc::clone(keys), self.older_span(lease.record.term));
            let key = HeldKey { keys, name, value, task, span };
            lease.keys.held.push(key.clone());
            let seeker = Seeker { client: self, asking, key: &key, gpu, lease };
            let taken_at = tokio::select! {
                taken_at = seeker.seek() => taken_at?,
                () = lease.lost() => return Err(Error::Lost(
                    "it ended while it waited for the lock key of an older worker".to_owned(),
                )),
                _ = &mut *called_off => return Err(Error::CalledOff),
            };
            let keeper = Arc::clone(&self.inner.keeper);
            let kept = Kept { keeper, lease: lease.reference(), state: lease.watch() };
            tokio::spawn(key.extend(kept, taken_at));
        }
        lease.waited = asking.bounds.began.elapsed();
        Ok(())
    }

    /// What older workers call a GPU of this client's pool.
    fn older_key(&self, gpu: GpuIndex) -> String {
        LockKey { pool: self.inner.options.pool.clone(), gpu: GpuRef::Index(gpu) }.to_string()
    }

    /// How long a key lasts: as long as the lease would, and past the end of a process that
    /// is given time to stop.
    fn older_span(&self, term: Term) -> Duration {
        let options = &self.inner.options;
        let beats = match term {
            Term::Heartbeats(timeout) => timeout,
            Term::Fixed(_) => options.heartbeat_timeout,
        };
        beats.max(options.stop_grace * 2).max(SHORTEST)
    }
}

/// Waits for one key.
struct Seeker<'a> {
    client: &'a Client,
    asking: &'a Asking,
    key: &'a HeldKey,
    gpu: GpuIndex,
    lease: &'a Lease,
}

impl Seeker<'_> {
    /// Takes the key as soon as it is free, and says when the store was asked for it.
    async fn seek(&self) -> Result<BootTime, Error> {
        let (mut remainder, mut pause) = (None, self.asking.polling.first);
        let (mut shown, mut releases) = (None, None);
        loop {
            let (value, left) = match self.take(remainder.as_deref()).await? {
                (sent_at, Taken::Ours) => {
                    if shown.is_some() {
                        self.tell(format!("has the lock key {}", self.key.name));
                    }
                    return Ok(sent_at);
                }
                (_, Taken::Others { value, left }) => (value, left),
            };
            if shown.as_ref() != Some(&value) {
                if self.is_remainder(&value).await {
                    remainder = Some(value);
                    continue;
                }
                self.show(&value);
                shown = Some(value.clone());
            }
            let over = self.asking.bounds.until.is_some_and(|until| until.left().is_zero());
            if over || self.asking.request().patience.is_none() {
                return Err(Error::NotAcquired(Box::new(self.not_acquired(&value))));
            }
            if releases.is_none() {
                releases = self.listen().await;
                if releases.is_some() {
                    // It may have come free before anybody listened.
                    continue;
                }
            }
            tokio::select! {
                () = heard(&mut releases) => pause = self.asking.polling.first,
                () = tokio::time::sleep(self.nap(left, pause)) => {
                    if self.asking.polling.doubles {
                        pause = (pause * 2).min(self.asking.polling.longest);
                    }
                }
            }
        }
    }

    /// Tries to take the key, for as long as the request bears with the store.
    async fn take(&self, instead_of: Option<&str>) -> Result<(BootTime, Taken), Error> {
        let tell = tell_trouble(&self.asking.state);
        let patience = self.asking.patience(&tell);
        let attempt = async || {
            let sent_at = BootTime::now();
            let taken = self.key.take(instead_of).await.map_err(StepError::Store)?;
            Ok((sent_at, taken))
        };
        Ok(patience.bear(attempt).await?)
    }

    /// Whether a key was left behind by a lease of this pool that has ended. The rules have
    /// lent its GPU to us since, so nobody uses it any more.
    async fn is_remainder(&self, value: &str) -> bool {
        let Some((task, id)) = lease_named_in(value) else { return false };
        let events = history_of(&self.client.inner.stored, &task).await.unwrap_or_default();
        events.iter().any(|event| {
            matches!(event.what, What::Ended { .. })
                && event.party.as_ref().is_some_and(|party| party.lease_id == id)
        })
    }

    /// Hears of releases, if that can be had soon.
    async fn listen(&self) -> Option<Box<dyn Releases>> {
        if !self.asking.polling.wake_ups {
            return None;
        }
        let listening = self.key.keys.listen(&self.key.name);
        tokio::time::timeout(CONFIRMING, listening).await.ok()?.ok()
    }

    fn nap(&self, left: Option<Duration>, pause: Duration) -> Duration {
        let runs_out = left.map(|left| left + Duration::from_millis(1));
        let own_end = self.asking.bounds.until.map(BootTime::left);
        [runs_out, own_end].into_iter().flatten().fold(jittered(pause), Duration::min)
    }

    /// Tells the waiter and everybody else who is in its way.
    fn show(&self, value: &str) {
        self.asking.state.send_modify(|state| {
            state.ahead = Some(0);
            state.holders = vec![self.holder(value)];
            state.expected = None;
        });
        self.tell(format!("waiting for {}, which sets {}", shown(value), self.key.name));
    }

    fn tell(&self, message: String) {
        let progress = Progress { basis_points: 0, message };
        self.client.inner.keeper.tell_progress(self.lease.reference(), progress);
    }

    fn not_acquired(&self, value: &str) -> NotAcquired {
        NotAcquired {
            wanted: format!("GPU {}", self.gpu),
            waited: self.asking.request().patience.map(|_| self.asking.bounds.began.elapsed()),
            ahead: 0,
            holders: vec![self.holder(value)],
            closed_for: None,
        }
    }

    /// Whoever has set the key. Since when, nobody knows; at least since we have been waiting.
    fn holder(&self, value: &str) -> Holder {
        Holder {
            task: shown(value),
            host: "an older worker".to_owned(),
            pid: None,
            gpus: vec![self.gpu],
            held_for: self.asking.bounds.began.elapsed(),
            draining: false,
        }
    }
}

/// Returns at the next news of a key; never, if nobody listens.
async fn heard(releases: &mut Option<Box<dyn Releases>>) {
    match releases {
        Some(releases) => releases.next().await,
        None => std::future::pending().await,
    }
}

/// The lease that has set a key, if a gpulock has.
fn lease_named_in(value: &str) -> Option<(TaskName, LeaseId)> {
    let (task, id) = value.strip_prefix(LOCKED_BY)?.rsplit_once('#')?;
    Some((task.parse().ok()?, id.parse().ok()?))
}

/// What somebody else wrote, fit for a terminal.
fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(LONGEST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_lease_that_set_it() {
        let id = LeaseId::from_bits(7);
        let (task, named) = lease_named_in(&format!("locked_by_a#b#{id}")).unwrap();
        assert_eq!((task.to_string().as_str(), named), ("a#b", id));
        for other in ["locked_by_asr", "locked", "locked_by_#1", &format!("asr#{id}")] {
            assert_eq!(lease_named_in(other), None, "{other}");
        }
    }

    #[test]
    fn what_somebody_wrote_cannot_spoil_a_terminal() {
        assert_eq!(shown("locked_by_\u{1b}[2Jx\n"), "locked_by_[2Jx");
        assert_eq!(shown(&"x".repeat(1_000)).len(), LONGEST_SHOWN);
    }
}
