//! Tells systemd how the daemon is doing, where systemd has started it. See `sd_notify(3)`.

use std::time::Duration;

use sd_notify::NotifyState;

/// The watchdog of the service manager. It is fed only where the monitor makes progress.
#[derive(Debug)]
pub(crate) struct Watchdog {
    interval: Option<Duration>,
}

impl Watchdog {
    /// As the service manager wants it.
    pub(crate) fn of_process() -> Self {
        let mut micros = 0;
        let is_wanted = sd_notify::watchdog_enabled(false, &mut micros);
        Self { interval: is_wanted.then(|| Duration::from_micros(micros) / 3) }
    }

    /// The longest time between two meals.
    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::MAX)
    }

    /// The monitor has made progress.
    pub(crate) fn feed(&self) {
        if self.interval.is_some() {
            tell(NotifyState::Watchdog);
        }
    }
}

/// The daemon answers.
pub(crate) fn tell_ready() {
    tell(NotifyState::Ready);
}

/// The daemon ends.
pub(crate) fn tell_stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
