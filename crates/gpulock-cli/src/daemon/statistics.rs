//! Figures over what happened in a pool. They come from its running sums and its journal alone,
//! so every daemon gives the same, before and after a restart.

use gpulock::config::Monitor as MonitorConfig;
use gpulock::core::health::{Outcomes, Thresholds};
use gpulock::core::{Counters, Event};
use gpulock::store::Wanted;
use serde::Serialize;
use utoipa::ToSchema;

use super::Daemon;
use super::monitor::levels;
use super::picture::Picture;

/// How requests and leases of a pool have ended so far. Spans are in seconds, rates 0 to 1.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// Requests that are over.
    pub(crate) total_attempts: u64,
    /// Those that got their GPUs.
    pub(crate) successful_acquisitions: u64,
    /// Those that gave up because their time was over.
    pub(crate) timeouts: u64,
    /// The share that got their GPUs; 1 if there were no requests.
    pub(crate) success_rate: f64,
    /// The share that gave up because their time was over.
    pub(crate) timeout_rate: f64,
    /// The share of the latest requests that got their GPUs.
    pub(crate) recent_success_rate: f64,
    /// How long a request that got its GPUs had waited.
    pub(crate) average_wait_time: f64,
    /// How long a lease was held.
    pub(crate) average_execution_time: f64,
    /// How long all ended leases were held together.
    pub(crate) total_execution_time: f64,
    /// Leases that ended.
    pub(crate) execution_count: u64,
    /// How many wait now.
    pub(crate) active_waiters: u64,
    /// How often requests that are over have looked again because nobody woke them.
    pub(crate) poll_count: u64,
    /// What went wrong around releases.
    pub(crate) exceptions: Exceptions,
}

/// What went wrong around releases, counted.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Exceptions {
    /// Releases that were not confirmed at the first attempt.
    pub(crate) normal_release_failures: u64,
    /// Releases on a second way, after the first had failed.
    pub(crate) emergency_releases: u64,
    /// Commands that named a lease which was not the current one.
    pub(crate) ownership_violations: u64,
    /// Releases that the store answered with an error.
    pub(crate) release_script_errors: u64,
}

impl Statistics {
    /// Of one pool.
    pub(crate) fn new(picture: &Picture, recent: Outcomes) -> Self {
        let counters = &picture.view.pool.ledger.counters;
        let all = Outcomes::of_all(counters);
        let ended = counters.released + counters.expired + counters.seized;
        let mean = |micros: u64, count: u64| seconds(micros) / count.max(1) as f64;
        Self {
            total_attempts: all.total(),
            successful_acquisitions: all.granted,
            timeouts: all.timed_out,
            success_rate: all.success_rate(),
            timeout_rate: all.timeout_rate(),
            recent_success_rate: recent.success_rate(),
            average_wait_time: mean(counters.waited_micros, counters.granted),
            average_execution_time: mean(counters.held_micros, ended),
            total_execution_time: seconds(counters.held_micros),
            execution_count: ended,
            active_waiters: picture.view.pool.queue_len,
            poll_count: counters.polls,
            exceptions: Exceptions::from(counters),
        }
    }
}

impl From<&Counters> for Exceptions {
    fn from(counters: &Counters) -> Self {
        Self {
            normal_release_failures: counters.normal_release_failures,
            emergency_releases: counters.emergency_releases,
            ownership_violations: counters.ownership_violations,
            release_script_errors: counters.release_script_errors,
        }
    }
}

impl Daemon {
    /// The latest events of a pool, the latest first; none if the store does not tell.
    pub(crate) async fn recent_events<'a>(&self, picture: &'a Picture) -> &'a [Event] {
        let window = self.settings.current().gpu_lock_monitor.health_thresholds.recent_window_size;
        // A request leaves up to five events behind, and a lease as many.
        let limit = 10 * window.min(1_000) as usize;
        let read = async || {
            let history = self.store.history(&picture.pool, &Wanted { limit, task: None }).await;
            history.unwrap_or_default().into_iter().map(|entry| entry.event).collect()
        };
        picture.recent.get_or_init(read).await
    }

    /// How the latest requests of a pool have ended.
    pub(crate) async fn recent_outcomes(&self, picture: &Picture) -> Outcomes {
        let window = self.settings.current().gpu_lock_monitor.health_thresholds.recent_window_size;
        Outcomes::of_latest(self.recent_events(picture).await, window.into())
    }
}

/// From which figures on a pool counts as unhealthy.
pub(crate) fn thresholds(config: &MonitorConfig) -> Thresholds {
    let health = &config.health_thresholds;
    Thresholds {
        min_success_rate: health.min_success_rate,
        max_timeout_rate: health.max_timeout_rate,
        max_lock_age: health.max_lock_age,
        levels: levels(config),
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
