//! Alerting rules for Prometheus.
//!
//! Every alert keeps the labels `job` and `instance`. Two daemons on one store both report its
//! pools, but two daemons of one job may as well have a store each, with a pool of the same name:
//! adding up or merging over instances would be wrong there.

use std::fmt::Write;

/// Where an alert is explained: the manual, below its name in lower case.
const RUNBOOK: &str = "docs/guides/operations.md";

const ABOUT: &str = "\
# Made by `gpulock generate prometheus-rules`. The job of the daemons is called `gpulock`, as in
# prometheus.yml beside this file. What each alert means and what to do is in
# docs/guides/operations.md.
";

/// One alert.
struct Rule {
    name: &'static str,
    /// A sentence about what is wrong; the same for every pool.
    summary: &'static str,
    /// What is wrong here, with the figure.
    description: &'static str,
    /// One line each.
    expression: &'static [&'static str],
    /// How long it must hold without a break; empty for at once.
    lasting: &'static str,
    severity: Severity,
    level: Level,
}

/// How Prometheus is used to name it.
#[derive(Clone, Copy)]
enum Severity {
    Critical,
    Warning,
}

/// How gpulock names it.
#[derive(Clone, Copy)]
enum Level {
    P0,
    P1,
    P2,
}

const RULES: &[Rule] = &[
    Rule {
        name: "GPULockHighWaitTime",
        summary: "Requests wait long for a GPU.",
        description: "In pool {{ $labels.pool }} of {{ $labels.instance }} requests wait for \
                      {{ $value | humanizeDuration }}.",
        expression: &[
            "histogram_quantile(0.95, sum by (job, instance, pool, le) \
             (rate(gpu_lock_wait_time_seconds_bucket[5m]))) > 60",
            "or max by (job, instance, pool) (gpu_lock_longest_wait_seconds) > 60",
        ],
        lasting: "5m",
        severity: Severity::Warning,
        level: Level::P2,
    },
    Rule {
        name: "GPULockHighTimeoutRate",
        summary: "More than 5 % of the requests give up waiting.",
        description: GAVE_UP,
        expression: &[TIMEOUTS, "/", REQUESTS, "> 0.05"],
        lasting: "5m",
        severity: Severity::Warning,
        level: Level::P2,
    },
    Rule {
        name: "GPULockHighTimeoutRate",
        summary: "More than 10 % of the requests give up waiting.",
        description: GAVE_UP,
        expression: &[TIMEOUTS, "/", REQUESTS, "> 0.10"],
        lasting: "5m",
        severity: Severity::Critical,
        level: Level::P1,
    },
    Rule {
        name: "GPULockLowSuccessRate",
        summary: "Less than 90 % of the requests get a GPU.",
        description: "In pool {{ $labels.pool }} of {{ $labels.instance }} only \
                      {{ $value | humanizePercentage }} of the requests of the last 15 minutes \
                      got their GPUs.",
        expression: &[GRANTS, "/", REQUESTS, "< 0.90"],
        lasting: "5m",
        severity: Severity::Critical,
        level: Level::P1,
    },
    Rule {
        name: "GPULockDeadlockDetected",
        summary: "A GPU is kept by a holder that is dead or past its hard timeout.",
        description: "GPU {{ $labels.gpu }} of pool {{ $labels.pool }} of {{ $labels.instance }} \
                      is kept by a dead or overdue holder while others wait.",
        expression: &["max by (job, instance, pool, gpu) (gpu_lock_deadlock) == 1"],
        lasting: "1m",
        severity: Severity::Critical,
        level: Level::P0,
    },
    Rule {
        name: "GPULockMonitorDown",
        summary: "Nobody watches over the leases.",
        description: "{{ with $labels.instance }}The monitor of {{ . }} does no rounds, or it \
                      cannot be scraped.{{ else }}Prometheus has no job named gpulock.{{ end }}",
        expression: &[
            "max by (job, instance) (timestamp(gpu_lock_monitor_last_check_timestamp_seconds) \
             - gpu_lock_monitor_last_check_timestamp_seconds)",
            "> 3 * max by (job, instance) \
             (gpu_lock_config{key=\"gpu_lock_monitor.monitor_interval\"})",
            "or max by (job, instance) (up{job=\"gpulock\"}) == 0",
            "or absent(up{job=\"gpulock\"})",
        ],
        lasting: "1m",
        severity: Severity::Critical,
        level: Level::P0,
    },
    Rule {
        name: "GPULockHeartbeatFailureRateHigh",
        summary: "More than 5 % of the heartbeats fail.",
        description: "In pool {{ $labels.pool }} of {{ $labels.instance }} \
                      {{ $value | humanizePercentage }} of the leases of the last 15 minutes \
                      ended for want of a heartbeat, or of the tasks are silent.",
        expression: &[
            "sum by (job, instance, pool) \
             (increase(gpu_lock_recoveries_total{level=\"heartbeat\"}[15m]))",
            "/ sum by (job, instance, pool) (increase(gpu_lock_leases_ended_total[15m])) > 0.05",
            "or sum by (job, instance, pool) (gpu_lock_heartbeats{state=\"dead\"})",
            "/ sum by (job, instance, pool) (gpu_lock_heartbeats{state=~\"active|dead\"}) > 0.05",
        ],
        lasting: "5m",
        severity: Severity::Warning,
        level: Level::P1,
    },
    Rule {
        name: "GPULockEmergencyRelease",
        summary: "A lease had to be released on a second way.",
        description: EMERGENCIES,
        expression: &[EMERGENCY_RELEASES, "> 0"],
        lasting: "",
        severity: Severity::Warning,
        level: Level::P1,
    },
    Rule {
        name: "GPULockEmergencyRelease",
        summary: "More than 10 leases an hour have to be released on a second way.",
        description: EMERGENCIES,
        expression: &[EMERGENCY_RELEASES, "> 10"],
        lasting: "",
        severity: Severity::Critical,
        level: Level::P0,
    },
    Rule {
        name: "GPULockOwnershipViolations",
        summary: "Many commands name a lease that is not the current one.",
        description: "In pool {{ $labels.pool }} of {{ $labels.instance }} {{ $value }} commands \
                      of the last hour named a lease that was not the current one.",
        expression: &[
            "round(sum by (job, instance, pool) \
             (increase(gpu_lock_exceptions_total{kind=\"ownership_violations\"}[1h])))",
            "> 100",
        ],
        lasting: "",
        severity: Severity::Warning,
        level: Level::P2,
    },
    Rule {
        name: "GPULockStoreDown",
        summary: "The store does not answer.",
        description: "{{ $labels.instance }} cannot read its store: nothing can be lent, and \
                      leases end when their heartbeats cannot be written.",
        expression: &["max by (job, instance) (gpu_lock_store_up) == 0"],
        lasting: "1m",
        severity: Severity::Critical,
        level: Level::P0,
    },
    Rule {
        name: "GPULockNotificationsFailing",
        summary: "Messages about alerts do not get through.",
        description: "On channel {{ $labels.channel }} of {{ $labels.instance }} more than half of \
                      the tries of the last 15 minutes failed, or messages of the last hour were \
                      given up.",
        expression: &[
            "sum by (job, instance, channel) \
             (increase(gpulock_notifications_failed_total[15m]))",
            "/ sum by (job, instance, channel) \
             (increase(gpulock_notification_requests_total[15m])) > 0.5",
            "or sum by (job, instance, channel) \
             (increase(gpulock_notifications_given_up_total[1h])) > 0",
        ],
        lasting: "5m",
        severity: Severity::Warning,
        level: Level::P2,
    },
];

const REQUESTS: &str = "sum by (job, instance, pool) (increase(gpu_lock_acquisitions_total[15m]))";
const GRANTS: &str = "sum by (job, instance, pool) \
                      (increase(gpu_lock_acquisitions_total{result=\"granted\"}[15m]))";
const TIMEOUTS: &str = "sum by (job, instance, pool) (increase(gpu_lock_timeout_total[15m]))";
const GAVE_UP: &str = "In pool {{ $labels.pool }} of {{ $labels.instance }} \
                       {{ $value | humanizePercentage }} of the requests of the last 15 minutes \
                       gave up waiting.";
/// `increase` reckons with what it did not see and gives fractions: 10 look like 10.04.
const EMERGENCY_RELEASES: &str = "round(sum by (job, instance, pool) \
     (increase(gpu_lock_exceptions_total{kind=\"emergency_releases\"}[1h])))";
const EMERGENCIES: &str = "In pool {{ $labels.pool }} of {{ $labels.instance }} {{ $value }} \
                           leases of the last hour could not be released in the normal way.";

/// The whole file, in YAML.
pub(super) fn file() -> String {
    let mut text = format!("{ABOUT}groups:\n  - name: gpulock\n    rules:\n");
    for rule in RULES {
        rule.write(&mut text);
    }
    text
}

impl Rule {
    fn write(&self, text: &mut String) {
        let Self { name, summary, description, .. } = self;
        let anchor = name.to_lowercase();
        line(text, 6, &format!("- alert: {name}"));
        line(text, 8, "expr: |-");
        for part in self.expression {
            line(text, 10, part);
        }
        if !self.lasting.is_empty() {
            line(text, 8, &format!("for: {}", self.lasting));
        }
        line(text, 8, "labels:");
        line(text, 10, &format!("severity: {}", self.severity.name()));
        line(text, 10, &format!("level: {}", self.level.name()));
        line(text, 8, "annotations:");
        line(text, 10, &format!("summary: {}", quoted(summary)));
        line(text, 10, &format!("description: {}", quoted(description)));
        line(text, 10, &format!("runbook_url: {}", quoted(&format!("{RUNBOOK}#{anchor}"))));
    }
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
        }
    }
}

fn line(text: &mut String, indent: usize, content: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{:indent$}{content}", "");
}

/// In YAML nothing but the quote itself has a meaning between single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The expressions, each in one line.
    pub(crate) fn expressions() -> Vec<String> {
        RULES.iter().map(|rule| rule.expression.join(" ")).collect()
    }

    /// Where the rules say that they are explained.
    pub(crate) fn names() -> Vec<&'static str> {
        RULES.iter().map(|rule| rule.name).collect()
    }

    #[test]
    fn annotations_keep_to_the_custom() {
        for rule in RULES {
            assert!(rule.summary.ends_with('.') && !rule.summary.contains("{{"), "{}", rule.name);
            assert!(rule.description.contains("$labels.instance }}"), "{}", rule.name);
            assert!(rule.description.ends_with(['.', '}']), "{}", rule.name);
        }
    }

    #[test]
    fn names_and_levels_are_those_that_were_promised() {
        let told = RULES.iter().map(|rule| (rule.name, rule.severity.name(), rule.level.name()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("GPULockHighWaitTime", "warning", "P2"),
                ("GPULockHighTimeoutRate", "warning", "P2"),
                ("GPULockHighTimeoutRate", "critical", "P1"),
                ("GPULockLowSuccessRate", "critical", "P1"),
                ("GPULockDeadlockDetected", "critical", "P0"),
                ("GPULockMonitorDown", "critical", "P0"),
                ("GPULockHeartbeatFailureRateHigh", "warning", "P1"),
                ("GPULockEmergencyRelease", "warning", "P1"),
                ("GPULockEmergencyRelease", "critical", "P0"),
                ("GPULockOwnershipViolations", "warning", "P2"),
                ("GPULockStoreDown", "critical", "P0"),
                ("GPULockNotificationsFailing", "warning", "P2"),
            ]
        );
    }
}
