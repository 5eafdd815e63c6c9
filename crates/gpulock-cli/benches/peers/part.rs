//! What a crew of workers has to do, and how it is told so.

use std::time::Duration;

/// One task for all workers of a crew.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What to do, see [`worker`](crate::worker).
    pub(crate) play: &'static str,
    /// The lock that all of them want.
    pub(crate) key: &'static str,
    /// How long a lease lives without renewal.
    pub(crate) ttl: Duration,
    /// How long each holder keeps the lock.
    pub(crate) hold: Duration,
    /// How many requests, locks or rounds each worker has.
    pub(crate) each: usize,
}

impl Part {
    /// With leases that outlive the measurement, held for no time.
    pub(crate) fn new(play: &'static str) -> Self {
        let (ttl, hold) = (Duration::from_secs(60), Duration::ZERO);
        Self { play, key: KEY, ttl, hold, each: 1 }
    }

    pub(crate) fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn hold(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    pub(crate) fn each(self, each: usize) -> Self {
        Self { each, ..self }
    }

    pub(crate) fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    /// As arguments: PLAY KEY TTL_MS HOLD_US EACH.
    pub(crate) fn words(&self) -> [String; 5] {
        let (ttl, hold) = (self.ttl.as_millis().to_string(), self.hold.as_micros().to_string());
        [self.play.to_owned(), self.key.to_owned(), ttl, hold, self.each.to_string()]
    }
}

/// The lock, unless a row needs several.
pub(crate) const KEY: &str = "bench";
