//! The clocks of this host.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpulock_core::Time;
use rustix::time::{ClockId, clock_gettime};

/// A moment on a clock that never jumps and counts the time that the machine is suspended
/// (`CLOCK_BOOTTIME`). A holder measures its own deadline with it: `std::time::Instant`
/// stands still during a suspend, and would believe a lease that has long run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// This moment.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        Self(Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32))
    }

    /// Since the machine was started.
    pub fn since_boot(self) -> Duration {
        self.0
    }

    /// How long until this moment; zero if it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// How long since this moment; zero if it is yet to come.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl std::ops::Sub<Duration> for BootTime {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// Sleeps until a [`BootTime`]. Timers of the runtime stand still while the machine is
/// suspended, so it looks at the clock every second.
pub(crate) async fn sleep_until(moment: BootTime) {
    while !moment.left().is_zero() {
        tokio::time::sleep(moment.left().min(Duration::from_secs(1))).await;
    }
}

/// The host's wall clock.
pub(crate) fn wall_time() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
