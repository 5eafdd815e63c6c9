//! The catalogue of rules.

use std::collections::BTreeMap;

use super::urgency::Urgency;

/// Something that somebody is told about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Its name, the value of the label `alertname`. Some come from the older system.
    pub name: &'static str,
    /// How urgent it is, unless the configuration says otherwise.
    pub urgency: Urgency,
    /// Where it comes from.
    pub source: Source,
    /// The figure from which on it fires, if it has one, unless the configuration says otherwise.
    pub threshold: Option<f64>,
    /// What the figure counts.
    pub unit: &'static str,
    /// What has happened, in one sentence.
    pub summary: &'static str,
    /// What that means and what to do.
    pub description: &'static str,
}

/// Where an alert comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Events of the journal: see [`super::signals`].
    Events,
    /// The present state of a pool and its figures, which the monitor looks at in its rounds: see
    /// [`super::conditions`].
    Rounds,
    /// A daemon, about itself and its surroundings.
    Daemon,
}

/// Names of rules, for code that refers to one.
impl Rule {
    pub(super) const LONG_HELD: &'static str = "GPU_LOCK_LONG_HELD";
    pub(super) const SOFT_TIMEOUT: &'static str = "GPU_LOCK_SOFT_TIMEOUT";
    pub(super) const HARD_TIMEOUT: &'static str = "GPU_LOCK_HARD_TIMEOUT";
    pub(super) const HOLDER_LOST: &'static str = "GPU_LOCK_HOLDER_LOST";
    pub(super) const ZOMBIE: &'static str = "GPU_LOCK_ZOMBIE";
    pub(super) const NOT_RECOVERED: &'static str = "GPU_LOCK_NOT_RECOVERED";
    pub(super) const EMERGENCY_RELEASE: &'static str = "gpu_lock_emergency_release";
    pub(super) const CRITICAL_FAILURE: &'static str = "gpu_lock_critical_failure";
    pub(super) const EMERGENCY_RELEASES: &'static str = "GPU_LOCK_EMERGENCY_RELEASES_HIGH";
    pub(super) const VIOLATIONS: &'static str = "GPU_LOCK_OWNERSHIP_VIOLATIONS_HIGH";
    pub(super) const TIMEOUT_RATE: &'static str = "GPU_LOCK_TIMEOUT_RATE_HIGH";
    pub(super) const SUCCESS_RATE: &'static str = "GPU_LOCK_SUCCESS_RATE_LOW";
    pub(super) const WAIT_TIME: &'static str = "GPU_LOCK_WAIT_TIME_HIGH";
    pub(super) const HEARTBEATS: &'static str = "HEARTBEAT_FAILURE_RATE_HIGH";
    pub(super) const DEADLOCK: &'static str = "GPU_LOCK_DEADLOCK_DETECTED";
    pub(super) const CLOSED: &'static str = "GPU_LOCK_POOL_CLOSED";
    /// The monitor that acted was lost, and another has taken over.
    pub const MONITOR_DOWN: &'static str = "MONITOR_SERVICE_DOWN";
    /// The store does not answer.
    pub const STORE_UNREACHABLE: &'static str = "GPU_LOCK_STORE_UNREACHABLE";
    /// A channel has given up on a message.
    pub const UNDELIVERED: &'static str = "GPU_LOCK_ALERT_UNDELIVERED";
}

/// All rules.
pub static RULES: [Rule; 19] = [
    Rule {
        name: Rule::LONG_HELD,
        urgency: Urgency::Warning,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A GPU is held for longer than usual.",
        description: "The lease is older than gpu_lock_monitor.timeout_levels.warning. If the task needs that long, raise the level; otherwise look at what it is doing.",
    },
    Rule {
        name: Rule::SOFT_TIMEOUT,
        urgency: Urgency::P2,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A GPU is held past the soft timeout; its holder is asked to stop.",
        description: "The holder is asked to give the GPU back. If it does not, the GPU is taken back at the hard timeout.",
    },
    Rule {
        name: Rule::HARD_TIMEOUT,
        urgency: Urgency::P1,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A GPU was held past the hard timeout.",
        description: "With gpu_lock_monitor.auto_recovery the lease is taken away and its processes are stopped. Otherwise it is up to you: `gpulock release` ends it. Find out why the task hung.",
    },
    Rule {
        name: Rule::HOLDER_LOST,
        urgency: Urgency::P2,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A task died or went silent while it held a GPU.",
        description: "Its process ended without giving the GPU back, or its heartbeats stopped. The GPU goes to the next in line as soon as no process of the task is left. Look at the task's own log: out of memory and kills by the system are the usual causes.",
    },
    Rule {
        name: Rule::ZOMBIE,
        urgency: Urgency::Warning,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A lease has ended, but its processes still live.",
        description: "The GPU is not lent again before they are gone. They are looked at again after gpu_lock_monitor.cleanup.retry_delay; `gpulock status` names the process.",
    },
    Rule {
        name: Rule::NOT_RECOVERED,
        urgency: Urgency::P0,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A GPU could not be taken back.",
        description: "The processes of an ended lease live on after all tries. End them by hand (`kill -9` the process that `gpulock status` names; a process in state D waits for the driver, and only a reset or a reboot helps). If they are known to be harmless, `gpulock release --ignore-processes` frees the GPU.",
    },
    Rule {
        name: Rule::EMERGENCY_RELEASE,
        urgency: Urgency::P1,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A GPU was given back on a second way, after the first had failed.",
        description: "The release was not confirmed at the first attempt, and was repeated with the same lease id and token on a new connection. Nothing is wrong with the lock; look at the connection to the store.",
    },
    Rule {
        name: Rule::EMERGENCY_RELEASES,
        urgency: Urgency::P0,
        source: Source::Rounds,
        threshold: Some(10.0),
        unit: "an hour",
        summary: "GPUs are given back on the second way again and again.",
        description: "The store is often out of reach when tasks end. `gpulock doctor` looks at the store and says what is wrong.",
    },
    Rule {
        name: Rule::VIOLATIONS,
        urgency: Urgency::P2,
        source: Source::Rounds,
        threshold: Some(100.0),
        unit: "an hour",
        summary: "Many commands name leases that are not the current ones.",
        description: "They were all refused. Tasks go on after they have lost their leases, or a program keeps old lease ids. `gpulock history` shows which leases ended before their tasks.",
    },
    Rule {
        name: Rule::CRITICAL_FAILURE,
        urgency: Urgency::P0,
        source: Source::Events,
        threshold: None,
        unit: "",
        summary: "A GPU could not be given back and is left to the deadline of its lease.",
        description: "Nobody waits longer than until that deadline. The critical failure log of the host has the error. Look at the store, and whether the task's process is gone.",
    },
    Rule {
        name: Rule::TIMEOUT_RATE,
        urgency: Urgency::P1,
        source: Source::Rounds,
        threshold: Some(0.1),
        unit: "of the latest requests",
        summary: "Many requests give up waiting for a GPU.",
        description: "There is more work than GPUs, tasks hold them for too long, or max_wait_time is too short. `gpulock status` shows who holds and who waits.",
    },
    Rule {
        name: Rule::SUCCESS_RATE,
        urgency: Urgency::P1,
        source: Source::Rounds,
        threshold: Some(0.9),
        unit: "of the latest requests",
        summary: "Too few requests get a GPU.",
        description: "Requests give up, are cancelled, or their processes die while they wait. `gpulock history` shows how each one ended.",
    },
    Rule {
        name: Rule::WAIT_TIME,
        urgency: Urgency::Warning,
        source: Source::Rounds,
        threshold: Some(900.0),
        unit: "seconds",
        summary: "A request has been waiting for a GPU for long.",
        description: "There is more work than GPUs, or somebody holds one for too long. `gpulock status` shows who holds and who waits.",
    },
    Rule {
        name: Rule::HEARTBEATS,
        urgency: Urgency::P2,
        source: Source::Rounds,
        threshold: Some(0.05),
        unit: "of all leases and tasks",
        summary: "Many tasks go silent.",
        description: "Their heartbeats stop before they are done. Workers are killed, hosts are overloaded, or the connection to the store is bad.",
    },
    Rule {
        name: Rule::DEADLOCK,
        urgency: Urgency::P1,
        source: Source::Rounds,
        threshold: None,
        unit: "",
        summary: "A GPU that others wait for is kept by a dead or far overdue holder.",
        description: "The monitor takes it back if gpu_lock_monitor.auto_recovery is on and its processes can be ended. `gpulock status` names the process.",
    },
    Rule {
        name: Rule::CLOSED,
        urgency: Urgency::Warning,
        source: Source::Rounds,
        threshold: None,
        unit: "",
        summary: "A pool lends nothing, because its store may have forgotten leases.",
        description: "The store came back without its latest writes. The pool opens by itself as soon as no forgotten lease can still run. Look at persistence and replication of the store.",
    },
    Rule {
        name: Rule::MONITOR_DOWN,
        urgency: Urgency::P1,
        source: Source::Daemon,
        threshold: None,
        unit: "",
        summary: "The monitor that acted was lost, and another has taken over.",
        description: "Its process died, hung, or lost the store. Leases are watched again. Look at the log of gpulock serve on that host.",
    },
    Rule {
        name: Rule::STORE_UNREACHABLE,
        urgency: Urgency::P0,
        source: Source::Daemon,
        threshold: Some(30.0),
        unit: "seconds",
        summary: "The store does not answer.",
        description: "Nobody gets a GPU, and leases run out because heartbeats do not arrive. `gpulock doctor` looks at the store and says what is wrong.",
    },
    Rule {
        name: Rule::UNDELIVERED,
        urgency: Urgency::P2,
        source: Source::Daemon,
        threshold: None,
        unit: "",
        summary: "A channel has given up on a message.",
        description: "`gpulock alerts list --undelivered` shows the message and the error; `gpulock alerts test` tries the channel; `gpulock alerts resend` sends it again.",
    },
];

/// The rule of this name; `None` for alerts that programs raise in their own words.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// What a configuration says about a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Adjustment {
    /// Nobody is told.
    pub is_off: bool,
    /// How urgent it is, if not as in the catalogue.
    pub urgency: Option<Urgency>,
    /// From which figure on it fires, if not as in the catalogue.
    pub threshold: Option<f64>,
}

/// The catalogue, as a configuration adjusts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules(BTreeMap<String, Adjustment>);

impl Rules {
    /// The catalogue with these adjustments, by name.
    pub fn adjusted(adjustments: BTreeMap<String, Adjustment>) -> Self {
        Self(adjustments)
    }

    /// Whether anybody is told.
    pub fn is_on(&self, name: &str) -> bool {
        !self.0.get(name).is_some_and(|adjustment| adjustment.is_off)
    }

    /// How urgent a rule is; `otherwise` for names that are not in the catalogue.
    pub fn urgency(&self, name: &str, otherwise: Urgency) -> Urgency {
        let adjusted = self.0.get(name).and_then(|adjustment| adjustment.urgency);
        adjusted.or(rule(name).map(|rule| rule.urgency)).unwrap_or(otherwise)
    }

    /// From which figure on a rule fires.
    pub fn threshold(&self, name: &str) -> f64 {
        let adjusted = self.0.get(name).and_then(|adjustment| adjustment.threshold);
        adjusted.or(rule(name).and_then(|rule| rule.threshold)).unwrap_or(f64::INFINITY)
    }
}
