//! The monitor: in rounds it lets time pass in every pool, looks after what is held for long,
//! and finds processes of this host that are gone. What that means stands in the rules
//! ([`Watch`]); here it is only carried out.
//!
//! A round comes at least every `monitor_interval`, and at each moment for which the rules
//! have announced that something becomes due. Every daemon looks at the processes of its own
//! host; the rest is done by the one that acts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gpulock::Error;
use gpulock::config::{Config, Monitor as MonitorConfig};
use gpulock::core::{Levels, PoolName, Time, Watch, What};
use gpulock::store::Entry;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::notes::Notes;
use super::watchdog::Watchdog;

/// Between two rounds while processes are waited for, or the store does not answer.
const SOON: Duration = Duration::from_secs(1);

/// When the monitor makes its next round, and what it knows from the last.
#[derive(Debug)]
pub(crate) struct Monitor {
    next_round: Mutex<Instant>,
    /// When the last round began; `None` before the first.
    last_round: Mutex<Option<Instant>>,
    /// The next round has been moved.
    moved: Notify,
    /// What the daemons had told each other by the last round.
    notes: Mutex<Notes>,
}

impl Default for Monitor {
    /// The first round is due at once.
    fn default() -> Self {
        Self {
            next_round: Mutex::new(Instant::now()),
            last_round: Mutex::default(),
            moved: Notify::new(),
            notes: Mutex::default(),
        }
    }
}

impl Monitor {
    /// What the daemons had told each other by the last round.
    pub(crate) fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The monitor was stopped, or is let run again: that shows at once, and counts with a
    /// round that is due now.
    pub(crate) fn note_switch(&self, stopped: Option<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).stopped = stopped;
        self.come_by(Instant::now());
    }

    /// Moves the next round forward to `moment`, if it would be later.
    pub(crate) fn come_by(&self, moment: Instant) {
        let mut next = self.next_round.lock().unwrap_or_else(PoisonError::into_inner);
        if moment < *next {
            *next = moment;
            self.moved.notify_one();
        }
    }

    /// Makes sure that a lease which has just been granted is looked at in time: only the rules
    /// know when it is due. While many are granted, a round now and then finds all of them.
    pub(crate) fn hear(&self, entry: &Entry) {
        if matches!(entry.event.what, What::Granted { .. }) {
            let last = *self.last_round.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            self.come_by(last.map_or(now, |last| now.max(last + SOON)));
        }
    }

    fn next_round(&self) -> Instant {
        *self.next_round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round: from now on it counts what moves the next one.
    fn begin_round(&self, longest_pause: Duration) {
        *self.last_round.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let mut next = self.next_round.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Instant::now() + longest_pause;
    }
}

/// Makes rounds until `shutdown`, and says through `wanted` whether this daemon stands for
/// election.
pub(crate) async fn run(
    daemon: &Arc<Daemon>,
    wanted: watch::Sender<bool>,
    shutdown: &CancellationToken,
) {
    let watchdog = Watchdog::of_process();
    let (mut leads, mut settings) = (daemon.leadership.watch(), daemon.settings.watch());
    while !shutdown.is_cancelled() {
        let next = daemon.monitor.next_round();
        let is_due = tokio::select! {
            () = tokio::time::sleep_until(next.into()) => true,
            () = tokio::time::sleep(watchdog.interval()) => false,
            () = daemon.monitor.moved.notified() => false,
            Ok(()) = leads.changed() => true,
            Ok(()) = settings.changed() => true,
            () = shutdown.cancelled() => false,
        };
        if is_due {
            round(daemon, &wanted).await;
        }
        watchdog.feed();
    }
}

async fn round(daemon: &Daemon, wanted: &watch::Sender<bool>) {
    let config = daemon.settings.current();
    let monitor = &config.gpu_lock_monitor;
    daemon.monitor.begin_round(monitor.monitor_interval);
    let mut trouble = Vec::new();
    match Notes::read(daemon.leadership.client()).await {
        Ok(notes) => {
            let wants = monitor.enabled && notes.stopped.is_none();
            wanted.send_if_modified(|wanted| std::mem::replace(wanted, wants) != wants);
            *daemon.monitor.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
        }
        Err(error) => trouble.push(error.to_string()),
    }
    let pools = match daemon.pools().await {
        Ok(pools) => pools,
        Err(error) => {
            trouble.push(error.to_string());
            Vec::new()
        }
    };
    for pool in &pools {
        trouble.extend(daemon.look_at_processes(pool).await.err().map(|error| error.to_string()));
        if daemon.leadership.leads() {
            match daemon.patrol(pool, &config).await {
                Ok(next) => next.into_iter().for_each(|pause| {
                    daemon.monitor.come_by(Instant::now() + pause.max(Duration::from_millis(1)));
                }),
                Err(error) => trouble.push(error.to_string()),
            }
        }
    }
    if !trouble.is_empty() {
        daemon.monitor.come_by(Instant::now() + SOON);
    }
    if daemon.leadership.leads() {
        take_notes(daemon, &pools, trouble).await;
    } else if let Some(error) = trouble.first() {
        tracing::warn!("a round of this monitor failed: {error}");
    }
}

impl Daemon {
    /// One round over one pool, by whoever asks for it. How long until something is due.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub(crate) async fn patrol(
        &self,
        pool: &PoolName,
        config: &Config,
    ) -> Result<Option<Duration>, Error> {
        let next = self.client(pool)?.patrol(self.watch_of(&config.gpu_lock_monitor)).await?;
        self.pictures.forget(pool);
        Ok(next)
    }

    /// Finds holders and waiters of this host that are gone. While a lease of a pool drains,
    /// the next look is soon.
    async fn look_at_processes(&self, pool: &PoolName) -> Result<(), Error> {
        let picture = self.pictures.of(pool).await?;
        if picture.view.pool.leases.is_empty() && picture.waiters.is_empty() {
            return Ok(());
        }
        if self.client(pool)?.sweep().await? > 0 {
            self.pictures.forget(pool);
        }
        let picture = self.pictures.of(pool).await?;
        if picture.view.pool.leases.iter().any(gpulock::core::Lease::is_over) {
            self.monitor.come_by(Instant::now() + SOON);
        }
        Ok(())
    }

    fn watch_of(&self, config: &MonitorConfig) -> Watch {
        Watch {
            levels: levels(config),
            recovers: config.auto_recovery,
            retries: config.cleanup.max_retry,
            retry_delay: config.cleanup.retry_delay,
            by: format!("monitor@{}", self.host),
        }
    }
}

/// The ages of a lease at which something is done.
pub(crate) fn levels(config: &MonitorConfig) -> Levels {
    let levels = &config.timeout_levels;
    Levels { warning: levels.warning, soft: levels.soft_timeout, hard: levels.hard_timeout }
}

/// Writes down what a round has found.
async fn take_notes(daemon: &Daemon, pools: &[PoolName], mut trouble: Vec<String>) {
    let (mut recovered, mut now) = (0, None);
    for pool in pools {
        if let Ok(picture) = daemon.pictures.of(pool).await {
            recovered += picture.view.pool.ledger.counters.recovered.total();
            now = now.max(Some(picture.view.now));
            let found = daemon.issues(&picture).await;
            trouble.extend(found.iter().map(|issue| format!("pool {pool}: {issue}")));
        }
    }
    let mut checks = daemon.monitor.notes().checks;
    if recovered > checks.recovered {
        checks.last_recovery_time = now.map(Time::as_secs_f64);
    }
    checks.recovered = recovered;
    match trouble.into_iter().next() {
        None => checks.healthy += 1,
        Some(first) => {
            checks.unhealthy += 1;
            if checks.last_error.as_ref() != Some(&first) {
                tracing::warn!("{first}");
            }
            checks.last_error = Some(first);
        }
    }
    if let Err(error) = daemon.look_for_alerts().await {
        tracing::warn!("what is wrong cannot be written down: {error}");
    }
    let written = Notes::write_checks(daemon.leadership.client(), &checks).await;
    let written = written.map_err(|error| {
        tracing::warn!("what the monitor found cannot be written down: {error}");
    });
    let mut notes = daemon.monitor.notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.checks = checks;
    notes.last_check = written.ok().or(notes.last_check);
    notes.acting_host = Some(daemon.host.clone());
}
