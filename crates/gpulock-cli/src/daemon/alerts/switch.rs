//! The dead man's switch: an address that is asked again and again while the monitor works, so that
//! somebody else notices when nobody is left here to say so.

use std::time::Duration;

use gpulock::core::Time;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;

/// Between two looks at whether there is a switch.
const LOOK: Duration = Duration::from_secs(5);

/// The monitor works if its last round is no longer ago than so many intervals.
const ROUNDS: u32 = 3;

/// Asks the address, until `shutdown`.
pub(crate) async fn keep_switch(daemon: &Daemon, shutdown: &CancellationToken) {
    let mut alerting = daemon.alerts.alerting.subscribe();
    while !shutdown.is_cancelled() {
        let pause = match &daemon.alerts.alerting().dead_mans_switch {
            Some(switch) if daemon.leadership.leads() && daemon.monitor_works().await => {
                if let Err(error) = switch.ask().await {
                    tracing::warn!("the dead man's switch was not reached: {error}");
                }
                switch.interval
            }
            _ => LOOK,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // There may be another one, or another interval.
            Ok(()) = alerting.changed() => {}
            () = shutdown.cancelled() => {}
        }
    }
}

impl Daemon {
    /// Whether rounds are made: what they write down is new, by the store's clock.
    async fn monitor_works(&self) -> bool {
        let longest = self.settings.current().gpu_lock_monitor.monitor_interval * ROUNDS;
        let Ok((_, now)) = self.alerts.desk().read().await else { return false };
        let last = self.monitor.notes().last_check.unwrap_or_default();
        now.since(Time::from_micros((last * 1e6) as u64)) < longest
    }
}
