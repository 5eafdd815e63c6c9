//! The figures of one moment, in plain fields: what they count and in which unit.

use super::alerts::AlertFigures;

/// Upper bounds of waiting and holding, in seconds.
pub(crate) const LOCK_BOUNDS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    7200.0,
];

/// Upper bounds of a round trip to the store, in seconds.
pub(crate) const ROUNDTRIP_BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Everything that one answer is made of.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    /// The pools of the store; none while the store cannot be read.
    pub(crate) pools: Vec<PoolFigures>,
    /// Alerts; `None` while the store cannot be read.
    pub(crate) alerts: Option<AlertFigures>,
    /// This process.
    pub(crate) daemon: DaemonFigures,
}

/// One pool, as the store has it.
#[derive(Clone, Debug)]
pub(crate) struct PoolFigures {
    /// Its name.
    pub(crate) name: String,
    /// What ever happened.
    pub(crate) sums: Sums,
    /// How often leases reached a level.
    pub(crate) levels: Levels,
    /// How often GPUs had to be taken back.
    pub(crate) recoveries: Recoveries,
    /// What went wrong around leases.
    pub(crate) exceptions: Exceptions,
    /// How long granted requests waited.
    pub(crate) wait: Histogram,
    /// How long leases were held that are over.
    pub(crate) hold: Histogram,
    /// Who waits now.
    pub(crate) queue: QueueFigures,
    /// The cards.
    pub(crate) gpus: Vec<GpuFigures>,
    /// The heartbeats of tasks.
    pub(crate) heartbeats: HeartbeatFigures,
}

/// Sums over everything that ever happened in a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// Requests that got their GPUs.
    pub(crate) granted: u64,
    /// Requests that gave up because their time was over.
    pub(crate) timed_out: u64,
    /// Requests that were told to give up.
    pub(crate) cancelled: u64,
    /// Requests that were put out of the queue.
    pub(crate) dropped: u64,
    /// Leases given back by their owners.
    pub(crate) released: u64,
    /// Leases that ran out, for any reason.
    pub(crate) expired: u64,
    /// Of those: the holder died.
    pub(crate) died: u64,
    /// Leases taken away.
    pub(crate) seized: u64,
    /// Looks at the queue by waiters.
    pub(crate) polls: u64,
}

/// How often leases reached each level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    /// Warning.
    pub(crate) warning: u64,
    /// Soft timeout.
    pub(crate) soft_timeout: u64,
    /// Hard timeout.
    pub(crate) hard_timeout: u64,
}

/// Leases whose GPUs had to be taken back, by what made that necessary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recoveries {
    /// The heartbeats ended, or the holder died.
    pub(crate) heartbeat: Recovered,
    /// The soft timeout.
    pub(crate) soft_timeout: Recovered,
    /// The hard timeout.
    pub(crate) hard_timeout: Recovered,
}

/// How often that worked, and how often not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered {
    /// The GPUs came free.
    pub(crate) success: u64,
    /// They did not, and were given up.
    pub(crate) failure: u64,
}

/// What went wrong around leases.
#[derive(Clone, Debug, Default)]
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

/// Who waits now.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueFigures {
    /// How many requests.
    pub(crate) length: u64,
    /// How long the one has waited that waits for the longest, in seconds; `None` if nobody
    /// waits, or if it is not known.
    pub(crate) longest_wait: Option<f64>,
    /// How many requests name a GPU (by its index) or take `any`. One that names two counts at
    /// both.
    pub(crate) wishes: Vec<(String, u64)>,
}

/// One card.
#[derive(Clone, Debug)]
pub(crate) struct GpuFigures {
    /// Its number in the pool.
    pub(crate) index: u32,
    /// Whether it is lent.
    pub(crate) state: GpuState,
    /// The lease that has it, or whose processes still may; `None` if it is free.
    pub(crate) lease: Option<LeaseFigures>,
    /// Whether its holder is dead or past the hard timeout while others wait.
    pub(crate) deadlock: bool,
}

/// Whether a card is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpuState {
    /// To anybody who asks.
    Free,
    /// It is.
    Held,
    /// It is, and the holder was asked to stop.
    Stopping,
    /// No more, but the processes of the lease are not known to be gone.
    Draining,
}

impl GpuState {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Free, Self::Held, Self::Stopping, Self::Draining];

    /// As users see it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held => "held",
            Self::Stopping => "stopping",
            Self::Draining => "draining",
        }
    }
}

/// One lease.
#[derive(Clone, Debug)]
pub(crate) struct LeaseFigures {
    /// What the work is called.
    pub(crate) task: String,
    /// How long it has lasted, in seconds.
    pub(crate) age: f64,
    /// How long ago its last heartbeat was, in seconds; `None` if it lives without.
    pub(crate) heartbeat_age: Option<f64>,
}

/// How many tasks send heartbeats.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeartbeatFigures {
    /// In time.
    pub(crate) active: u64,
    /// No more, for longer than `heartbeat.timeout`.
    pub(crate) dead: u64,
    /// Under a lease that is not the current one.
    pub(crate) orphaned: u64,
}

/// This process.
#[derive(Clone, Debug)]
pub(crate) struct DaemonFigures {
    /// Rounds of the monitor that found nothing wrong.
    pub(crate) healthy_checks: u64,
    /// Rounds of the monitor that found something wrong.
    pub(crate) unhealthy_checks: u64,
    /// Whether it is the one that acts.
    pub(crate) is_leader: bool,
    /// When it last finished a round or, standing by, last saw that another one leads: Unix
    /// time in seconds. `None` if it does not watch.
    pub(crate) last_check: Option<f64>,
    /// Whether the store answered this very scrape.
    pub(crate) store_up: bool,
    /// How long the store took to answer.
    pub(crate) store_roundtrip: Histogram,
    /// The version of the program.
    pub(crate) version: &'static str,
    /// Numbers of the configuration in force, by key; spans are in seconds.
    pub(crate) settings: Vec<(String, f64)>,
}

/// How often something took how long, over everything that ever happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    /// Upper bounds in seconds, growing.
    pub(crate) bounds: &'static [f64],
    /// What lies between a bound and the one before it, and in the end what lies above all of
    /// them. What is missing at the end counts as none.
    pub(crate) counts: Vec<u64>,
    /// All of it together, in seconds.
    pub(crate) sum_seconds: f64,
}

impl Histogram {
    /// Nothing happened yet.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum_seconds: 0.0 }
    }

    /// Counts one more.
    pub(crate) fn observe(&mut self, seconds: f64) {
        self.counts.resize(self.bounds.len() + 1, 0);
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[place] += 1;
        self.sum_seconds += seconds;
    }

    /// Counts what another one of the same bounds has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.resize(self.bounds.len() + 1, 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum_seconds += other.sum_seconds;
    }

    /// Every bound with what lies between it and the one before; the last bound is infinite.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().copied().chain(std::iter::repeat(0));
        bounds.zip(counts).collect()
    }
}
