//! What the monitor sees in its rounds, and what that means for alerts.

use std::collections::BTreeSet;
use std::sync::Arc;

use gpulock::core::alert::{Findings, conditions};
use gpulock::core::health::Outcomes;
use gpulock::core::{Cause, Ending, Event, What};
use gpulock::store::StoreError;

use crate::daemon::monitor::levels;
use crate::daemon::picture::Picture;
use crate::daemon::{Daemon, monitor_pool};

/// So many recent leases must have ended before the share of those that went silent says anything.
const FEWEST_LEASES: usize = 5;

/// One pool, seen in a round.
struct Seen {
    picture: Arc<Picture>,
    recent: Outcomes,
    heartbeat_failure_rate: Option<f64>,
}

impl Daemon {
    /// Takes what is wrong with the pools now into the book of alerts, and what no longer is. A
    /// pool that cannot be looked at keeps nobody from hearing of the others.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub(crate) async fn look_for_alerts(&self) -> Result<(), StoreError> {
        let mut all = Vec::new();
        // Of a pool that were missing here everything would be forgotten.
        let pools = self.pools().await?;
        for pool in &pools {
            let Ok(picture) = self.pictures.of(pool).await else { continue };
            all.push(Seen {
                recent: self.recent_outcomes(&picture).await,
                heartbeat_failure_rate: silenced(self.recent_events(&picture).await),
                picture,
            });
        }
        let alerting = self.alerts.alerting();
        let levels = levels(&self.settings.current().gpu_lock_monitor);
        let known: Vec<_> = pools.iter().cloned().chain([monitor_pool()]).collect();
        self.alerts
            .desk()
            .step(|book, _| {
                for Seen { picture, recent, heartbeat_failure_rate } in &all {
                    let (pool, now) = (&picture.view.pool, picture.view.now);
                    let sums = &pool.ledger.counters;
                    let (emergency_releases, ownership_violations) =
                        book.within_the_hour(now, &picture.pool, sums);
                    let findings = Findings {
                        name: &picture.pool,
                        pool,
                        waiters: &picture.waiters,
                        now,
                        recent: *recent,
                        levels,
                        heartbeat_failure_rate: *heartbeat_failure_rate,
                        emergency_releases,
                        ownership_violations,
                    };
                    let present = conditions(&findings, &alerting.rules);
                    let leases: BTreeSet<_> =
                        pool.leases.iter().map(|lease| lease.lease_id).collect();
                    book.look_at(now, &picture.pool, present, &leases);
                }
                book.keep_pools(&known);
            })
            .await
    }
}

/// The share of the latest leases that ended because nothing was heard of their holders.
fn silenced(recent: &[Event]) -> Option<f64> {
    let (mut ended, mut silent) = (0_usize, 0_usize);
    for event in recent {
        if let What::Ended { how, .. } = &event.what {
            ended += 1;
            let is_silent = matches!(how, Ending::Expired(Cause::Deadline | Cause::HolderDied));
            silent += usize::from(is_silent);
        }
    }
    (ended >= FEWEST_LEASES).then(|| silent as f64 / ended as f64)
}
