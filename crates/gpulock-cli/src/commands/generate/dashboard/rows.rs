//! What the board shows.

use super::panel::{Kind, Panel, Row, Target};

/// Pool of a daemon.
const POOL: &str = "{{pool}} ({{instance}})";
/// GPU of a pool of a daemon.
const GPU: &str = "{{pool}}/{{gpu}} ({{instance}})";
const DAEMON: &str = "{{instance}}";

/// All rows, from the top.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { title: "Overview", panels: overview() },
        Row { title: "GPUs", panels: gpus() },
        Row { title: "Waiting", panels: waiting() },
        Row { title: "Holding", panels: holding() },
        Row { title: "Timeouts and recoveries", panels: timeouts() },
        Row { title: "Exceptions", panels: exceptions() },
        Row { title: "Heartbeats", panels: heartbeats() },
        Row { title: "Alerts and messages", panels: alerts() },
        Row { title: "Store and monitor", panels: daemon() },
    ]
}

fn overview() -> Vec<Panel> {
    vec![
        stat(Kind::Stat, "GPUs held", "GPUs that a lease has now.", "short")
            .asks("sum by (instance, pool) (gpu_lock_held{POOL})", POOL),
        stat(Kind::Stat, "Requests waiting", "Length of the queue now.", "short")
            .asks("sum by (instance, pool) (gpu_lock_queue_length{POOL})", POOL),
        stat(
            Kind::Stat,
            "Success rate",
            "Share of all requests that ended which got their GPUs.",
            "percentunit",
        )
        .asks(
            "sum by (instance, pool) (gpu_lock_acquisitions_total{POOL, result=\"granted\"}) / \
             sum by (instance, pool) (gpu_lock_acquisitions_total{POOL})",
            POOL,
        ),
        stat(
            Kind::Stat,
            "Time-out rate",
            "Share of all requests that ended which gave up waiting.",
            "percentunit",
        )
        .asks(
            "sum by (instance, pool) (gpu_lock_timeout_total{POOL}) / \
             sum by (instance, pool) (gpu_lock_acquisitions_total{POOL})",
            POOL,
        ),
        stat(
            Kind::StatOfFaults,
            "Deadlocks",
            "GPUs whose holder is dead or past its hard timeout while others wait.",
            "short",
        )
        .asks("sum by (instance, pool) (gpu_lock_deadlock{POOL})", POOL),
        stat(Kind::StatOfHealth, "Store answers", "Whether the daemon reads its store.", "short")
            .asks("min by (instance) (gpu_lock_store_up{DAEMON})", DAEMON),
    ]
}

fn gpus() -> Vec<Panel> {
    vec![
        Panel {
            width: 24,
            ..picture(
                Kind::States,
                "State of each GPU",
                "Free, held, stopping (its holder was asked to), or draining (the lease is over, its \
                 processes are not known to be gone).",
                "short",
            )
        }
        .asks(
            "sum by (instance, pool, gpu) (gpu_lock_gpu_state{POOL, state=\"free\"} * 0 or \
             gpu_lock_gpu_state{POOL, state=\"held\"} * 1 or \
             gpu_lock_gpu_state{POOL, state=\"stopping\"} * 2 or \
             gpu_lock_gpu_state{POOL, state=\"draining\"} * 3)",
            GPU,
        ),
        picture(Kind::Lines, "GPUs in use", "Share of the GPUs that a lease has.", "percentunit")
            .asks("avg by (instance, pool) (gpu_lock_held{POOL})", POOL),
        picture(Kind::Lines, "Age of leases", "How long each lease has lasted.", "s").asks(
            "max by (instance, pool, gpu, task) (gpu_lock_lease_age_seconds{POOL})",
            "{{pool}}/{{gpu}} {{task}} ({{instance}})",
        ),
    ]
}

fn waiting() -> Vec<Panel> {
    let longest = "How long the request has waited that waits for the longest.";
    vec![
        picture(Kind::Lines, "Requests waiting", "Length of the queue.", "short")
            .asks("sum by (instance, pool) (gpu_lock_queue_length{POOL})", POOL),
        picture(
            Kind::Lines,
            "Wanted GPUs",
            "Requests that wait for a certain GPU or for any; one that names two counts at both.",
            "short",
        )
        .asks("sum by (instance, pool, gpu) (gpu_lock_queue_wishes{POOL})", GPU),
        picture(Kind::Lines, "Longest wait now", longest, "s")
            .asks("max by (instance, pool) (gpu_lock_longest_wait_seconds{POOL})", POOL),
        picture(Kind::Lines, "Requests by how they ended", "Each second.", "reqps").asks(
            "sum by (instance, pool, result) \
             (rate(gpu_lock_acquisitions_total{POOL}[$__rate_interval]))",
            "{{pool}} {{result}} ({{instance}})",
        ),
        picture(Kind::Lines, "Waiting time", "Of granted requests: median, 95 % and 99 %.", "s")
            .asks(
                "histogram_quantile(0.5, sum by (instance, pool, le) \
                 (rate(gpu_lock_wait_time_seconds_bucket{POOL}[$__rate_interval])))",
                "{{pool}} 50 % ({{instance}})",
            )
            .asks(
                "histogram_quantile(0.95, sum by (instance, pool, le) \
                 (rate(gpu_lock_wait_time_seconds_bucket{POOL}[$__rate_interval])))",
                "{{pool}} 95 % ({{instance}})",
            )
            .asks(
                "histogram_quantile(0.99, sum by (instance, pool, le) \
                 (rate(gpu_lock_wait_time_seconds_bucket{POOL}[$__rate_interval])))",
                "{{pool}} 99 % ({{instance}})",
            ),
        picture(
            Kind::Heatmap,
            "Waiting times",
            "Granted requests by how long they waited. Choose one instance where several daemons \
             share a store: here they are added up.",
            "s",
        )
        .asks(
            "sum by (le) (increase(gpu_lock_wait_time_seconds_bucket{POOL}[$__rate_interval]))",
            "{{le}}",
        ),
        picture(Kind::Lines, "Looks at the queue", "By waiters, each second.", "ops").asks(
            "sum by (instance, pool) (rate(gpu_lock_poll_count_total{POOL}[$__rate_interval]))",
            POOL,
        ),
    ]
}

fn holding() -> Vec<Panel> {
    vec![
        picture(Kind::Lines, "Holding time", "Of leases that ended: median, 95 %.", "s")
            .asks(
                "histogram_quantile(0.5, sum by (instance, pool, le) \
                 (rate(gpu_lock_hold_time_seconds_bucket{POOL}[$__rate_interval])))",
                "{{pool}} 50 % ({{instance}})",
            )
            .asks(
                "histogram_quantile(0.95, sum by (instance, pool, le) \
                 (rate(gpu_lock_hold_time_seconds_bucket{POOL}[$__rate_interval])))",
                "{{pool}} 95 % ({{instance}})",
            ),
        picture(
            Kind::Heatmap,
            "Holding times",
            "Leases that ended by how long they were held. Choose one instance where several \
             daemons share a store: here they are added up.",
            "s",
        )
        .asks(
            "sum by (le) (increase(gpu_lock_hold_time_seconds_bucket{POOL}[$__rate_interval]))",
            "{{le}}",
        ),
        picture(Kind::Lines, "Leases by how they ended", "Each second.", "ops").asks(
            "sum by (instance, pool, how) \
             (rate(gpu_lock_leases_ended_total{POOL}[$__rate_interval]))",
            "{{pool}} {{how}} ({{instance}})",
        ),
    ]
}

fn timeouts() -> Vec<Panel> {
    vec![
        picture(
            Kind::Lines,
            "Requests that give up waiting",
            "Share of the requests that ended; alerts at 5 % and 10 %.",
            "percentunit",
        )
        .asks(
            "sum by (instance, pool) (rate(gpu_lock_timeout_total{POOL}[$__rate_interval])) / \
             sum by (instance, pool) \
             (rate(gpu_lock_acquisitions_total{POOL}[$__rate_interval]))",
            POOL,
        ),
        picture(Kind::Lines, "Levels reached", "Leases that reached a level.", "short").asks(
            "sum by (instance, pool, level) (increase(gpu_lock_overdue_total{POOL}[$__rate_interval]))",
            "{{pool}} {{level}} ({{instance}})",
        ),
        picture(
            Kind::Lines,
            "Recoveries",
            "Leases whose GPUs had to be taken back, and whether they came free.",
            "short",
        )
        .asks(
            "sum by (instance, pool, level, result) \
             (increase(gpu_lock_recoveries_total{POOL}[$__rate_interval]))",
            "{{pool}} {{level}} {{result}} ({{instance}})",
        ),
    ]
}

fn exceptions() -> Vec<Panel> {
    vec![
        picture(
            Kind::Lines,
            "Exceptions",
            "Releases that were not confirmed, went a second way or met an error of the store, and \
             commands that named a lease which was not the current one.",
            "short",
        )
        .asks(
            "sum by (instance, pool, kind) \
             (increase(gpu_lock_exceptions_total{POOL}[$__rate_interval]))",
            "{{pool}} {{kind}} ({{instance}})",
        ),
        picture(Kind::Table, "Exceptions ever", "All that ever happened, by kind.", "short")
            .asks("sum by (instance, pool, kind) (gpu_lock_exceptions_total{POOL})", ""),
    ]
}

fn heartbeats() -> Vec<Panel> {
    vec![
        picture(
            Kind::Lines,
            "Tasks by their heartbeat",
            "Active, dead (none for longer than the timeout) or orphaned (the lease is over).",
            "short",
        )
        .asks(
            "sum by (instance, pool, state) (gpu_lock_heartbeats{POOL})",
            "{{pool}} {{state}} ({{instance}})",
        ),
        picture(
            Kind::Lines,
            "Heartbeat failure rate",
            "Share of the leases that ended for want of a heartbeat, and of the tasks whose \
             heartbeat is dead; alert at 5 %.",
            "percentunit",
        )
        .asks(
            "sum by (instance, pool) \
             (rate(gpu_lock_recoveries_total{POOL, level=\"heartbeat\"}[$__rate_interval])) / \
             sum by (instance, pool) (rate(gpu_lock_leases_ended_total{POOL}[$__rate_interval]))",
            "{{pool}} leases ({{instance}})",
        )
        .asks(
            "sum by (instance, pool) (gpu_lock_heartbeats{POOL, state=\"dead\"}) / \
             sum by (instance, pool) (gpu_lock_heartbeats{POOL, state=~\"active|dead\"})",
            "{{pool}} tasks ({{instance}})",
        ),
        picture(Kind::Lines, "Age of the last heartbeat", "Of each lease.", "s").asks(
            "max by (instance, pool, gpu, task) (gpu_lock_heartbeat_age_seconds{POOL})",
            "{{pool}}/{{gpu}} {{task}} ({{instance}})",
        ),
    ]
}

fn alerts() -> Vec<Panel> {
    const CHANNEL: &str = "{{channel}} ({{instance}})";
    vec![
        picture(Kind::Lines, "Alerts", "That are not over, by level and state.", "short").asks(
            "sum by (instance, level, state) (gpulock_alerts{DAEMON}) > 0",
            "{{level}} {{state}} ({{instance}})",
        ),
        picture(
            Kind::Lines,
            "Signals",
            "Of new alerts, and repeated ones that were only counted, each second.",
            "ops",
        )
        .asks(
            "sum by (instance, kind) (rate(gpulock_alerts_received_total{DAEMON}[$__rate_interval]))",
            "{{kind}} ({{instance}})",
        )
        .asks(
            "sum by (instance, reason) \
             (rate(gpulock_notifications_suppressed_total{DAEMON}[$__rate_interval]))",
            "not told: {{reason}} ({{instance}})",
        ),
        picture(Kind::Lines, "Messages", "Delivered and tried, each second.", "ops")
            .asks(
                "sum by (instance, channel) \
                 (rate(gpulock_notifications_total{DAEMON}[$__rate_interval]))",
                "delivered: {{channel}} ({{instance}})",
            )
            .asks(
                "sum by (instance, channel) \
                 (rate(gpulock_notification_requests_total{DAEMON}[$__rate_interval]))",
                "tried: {{channel}} ({{instance}})",
            ),
        picture(Kind::Lines, "Tries that failed", "By the kind of trouble, each second.", "ops")
            .asks(
                "sum by (instance, channel, reason) \
                 (rate(gpulock_notifications_failed_total{DAEMON}[$__rate_interval])) > 0",
                "{{channel}} {{reason}} ({{instance}})",
            ),
        picture(Kind::Lines, "Messages that wait or were given up", "Of each channel.", "short")
            .asks("sum by (instance, channel) (gpulock_notifications_waiting{DAEMON})", CHANNEL)
            .asks(
                "sum by (instance, channel) (gpulock_notifications_given_up_total{DAEMON})",
                "given up: {{channel}} ({{instance}})",
            ),
        picture(Kind::Lines, "Answers of the other side", "99 % come within.", "s").asks(
            "histogram_quantile(0.99, sum by (instance, integration, le) \
             (rate(gpulock_notification_latency_seconds_bucket{DAEMON}[$__rate_interval])))",
            "{{integration}} ({{instance}})",
        ),
    ]
}

fn daemon() -> Vec<Panel> {
    vec![
        picture(Kind::Lines, "Round trip to the store", "Median and 99 %.", "s")
            .asks(
                "histogram_quantile(0.5, sum by (instance, le) \
                 (rate(gpu_lock_store_roundtrip_seconds_bucket{DAEMON}[$__rate_interval])))",
                "50 % ({{instance}})",
            )
            .asks(
                "histogram_quantile(0.99, sum by (instance, le) \
                 (rate(gpu_lock_store_roundtrip_seconds_bucket{DAEMON}[$__rate_interval])))",
                "99 % ({{instance}})",
            ),
        picture(Kind::Lines, "Rounds of the monitor", "By what they found, each second.", "ops")
            .asks(
                "sum by (instance, result) \
                 (rate(gpu_lock_monitor_checks_total{DAEMON}[$__rate_interval]))",
                "{{result}} ({{instance}})",
            ),
        picture(
            Kind::Lines,
            "Since the last round",
            "Of the monitor or, where another daemon leads, since it was last seen to.",
            "s",
        )
        .asks(
            "max by (instance) (timestamp(gpu_lock_monitor_last_check_timestamp_seconds{DAEMON}) - \
             gpu_lock_monitor_last_check_timestamp_seconds{DAEMON})",
            DAEMON,
        ),
        picture(Kind::Lines, "Who leads", "1 for the daemon that acts, 0 for stand-ins.", "short")
            .asks("max by (instance) (gpu_lock_monitor_leader{DAEMON})", DAEMON),
        picture(Kind::Table, "Configuration", "Numbers in force; spans in seconds.", "short")
            .asks("max by (instance, key) (gpu_lock_config{DAEMON})", ""),
        picture(Kind::Table, "Versions", "Of the daemons.", "short")
            .asks("max by (instance, version) (gpu_lock_build_info{DAEMON})", ""),
    ]
}

fn stat(kind: Kind, title: &'static str, description: &'static str, unit: &'static str) -> Panel {
    Panel { width: 4, ..picture(kind, title, description, unit) }
}

fn picture(
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
) -> Panel {
    Panel { title, description, kind, unit, targets: Vec::new(), width: 12 }
}

impl Panel {
    fn asks(mut self, expression: &'static str, legend: &'static str) -> Self {
        self.targets.push(Target { expression, legend });
        self
    }
}
