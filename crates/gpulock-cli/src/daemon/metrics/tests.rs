//! What a scrape looks like, and that Prometheus, the manual and the older names agree with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use gpulock::config::Config;

use super::promtool::{self, repository};
use super::*;

const PAGE: &str = "docs/guides/metrics.md";
const UPDATE: &str = "GPULOCK_UPDATE_REFERENCE";
const BEGIN: &str = "<!-- Made from the program; after a change of it: \
                     GPULOCK_UPDATE_REFERENCE=1 scripts/test reference -->\n";
const END: &str = "<!-- end -->";

/// A scrape in which everything is there that can be.
pub(crate) fn full() -> Scrape {
    let gpu = |index, state, lease| GpuFigures { index, state, lease, deadlock: index == 1 };
    let lease = |task: &str, heartbeat_age| {
        Some(LeaseFigures { task: task.to_owned(), age: 45.25, heartbeat_age })
    };
    let lab = PoolFigures {
        gpus: vec![
            gpu(0, GpuState::Held, lease("ocr", Some(12.5))),
            gpu(1, GpuState::Stopping, lease("say \"hi\"\\\nto all", None)),
            gpu(2, GpuState::Draining, lease("ocr", Some(0.5))),
            gpu(3, GpuState::Free, None),
        ],
        queue: QueueFigures {
            length: 3,
            longest_wait: Some(61.5),
            wishes: vec![("0".to_owned(), 1), ("any".to_owned(), 2)],
        },
        ..pool("lab")
    };
    Scrape { pools: vec![pool("default"), lab], alerts: Some(alerts()), daemon: daemon() }
}

/// What a daemon says that has just started and cannot read its store.
fn empty() -> Scrape {
    let settings = Vec::new();
    let store_roundtrip = Histogram::new(ROUNDTRIP_BOUNDS);
    let daemon =
        DaemonFigures { last_check: None, store_up: false, store_roundtrip, settings, ..daemon() };
    Scrape { pools: Vec::new(), alerts: None, daemon }
}

fn pool(name: &str) -> PoolFigures {
    let mut wait = Histogram::new(LOCK_BOUNDS);
    [0.01, 0.05, 0.06, 90.0, 10_000.0].into_iter().for_each(|seconds| wait.observe(seconds));
    PoolFigures {
        name: name.to_owned(),
        sums: Sums {
            granted: 10,
            timed_out: 2,
            cancelled: 3,
            dropped: 4,
            released: 5,
            expired: 6,
            died: 2,
            seized: 7,
            polls: 8,
        },
        levels: Levels { warning: 3, soft_timeout: 2, hard_timeout: 1 },
        recoveries: Recoveries {
            heartbeat: Recovered { success: 7, failure: 0 },
            soft_timeout: Recovered { success: 1, failure: 0 },
            hard_timeout: Recovered { success: 2, failure: 3 },
        },
        exceptions: Exceptions {
            normal_release_failures: 4,
            emergency_releases: 3,
            ownership_violations: 2,
            release_script_errors: 1,
        },
        wait,
        hold: Histogram::new(LOCK_BOUNDS),
        queue: QueueFigures::default(),
        gpus: Vec::new(),
        heartbeats: HeartbeatFigures { active: 5, dead: 1, orphaned: 2 },
    }
}

fn alerts() -> AlertFigures {
    let channel = |name: &str, integration, latencies: &[f64]| {
        let mut latency = Histogram::new(LOCK_BOUNDS);
        latencies.iter().for_each(|seconds| latency.observe(*seconds));
        ChannelFigures {
            name: name.to_owned(),
            integration,
            sent: 12,
            requests: 17,
            failed: BTreeMap::from([("rateLimited".to_owned(), 3), ("authError".to_owned(), 2)]),
            given_up: 1,
            waiting: 4,
            latency,
        }
    };
    AlertFigures {
        firing: BTreeMap::from([(("P1", "firing"), 2), (("warning", "silenced"), 1)]),
        begun: 30,
        repeated: 10_000,
        suppressed: BTreeMap::from([("inhibit".to_owned(), 5)]),
        channels: vec![
            channel("ops", "slack", &[0.2, 0.3]),
            channel("lab", "slack", &[6.0]),
            channel("phone", "pagerduty", &[]),
        ],
    }
}

fn daemon() -> DaemonFigures {
    let mut store_roundtrip = Histogram::new(ROUNDTRIP_BOUNDS);
    store_roundtrip.observe(0.0003);
    DaemonFigures {
        healthy_checks: 100,
        unhealthy_checks: 1,
        is_leader: true,
        last_check: Some(1_795_000_000.25),
        store_up: true,
        store_roundtrip,
        version: env!("CARGO_PKG_VERSION"),
        settings: numeric_settings(&Config::default()),
    }
}

/// The names of the samples in a text, without labels.
pub(crate) fn sample_names(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[track_caller]
fn says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|it| it == *line), "{line} is not in:\n{text}");
    }
}

#[test]
fn figures_stand_under_the_names_that_were_promised() {
    let text = render(&full(), Format::Classic);
    says(
        &text,
        &[
            "# TYPE gpu_lock_acquisitions_total counter",
            "gpu_lock_acquisitions_total{pool=\"lab\",result=\"granted\"} 10",
            "gpu_lock_acquisitions_total{pool=\"lab\",result=\"timeout\"} 2",
            "gpu_lock_timeout_total{pool=\"default\"} 2",
            "gpu_lock_poll_count_total{pool=\"default\"} 8",
            "gpu_lock_leases_ended_total{pool=\"lab\",how=\"expired\"} 4",
            "gpu_lock_leases_ended_total{pool=\"lab\",how=\"died\"} 2",
            "gpu_lock_queue_length{pool=\"lab\"} 3.0",
            "gpu_lock_longest_wait_seconds{pool=\"lab\"} 61.5",
            "gpu_lock_longest_wait_seconds{pool=\"default\"} 0.0",
            "gpu_lock_queue_wishes{pool=\"lab\",gpu=\"any\"} 2.0",
            "gpu_lock_held{pool=\"lab\",gpu=\"1\"} 1.0",
            "gpu_lock_held{pool=\"lab\",gpu=\"2\"} 0.0",
            "gpu_lock_gpu_state{pool=\"lab\",gpu=\"2\",state=\"draining\"} 1.0",
            "gpu_lock_gpu_state{pool=\"lab\",gpu=\"2\",state=\"held\"} 0.0",
            "gpu_lock_lease_age_seconds{pool=\"lab\",gpu=\"0\",task=\"ocr\"} 45.25",
            "gpu_lock_heartbeat_age_seconds{pool=\"lab\",gpu=\"0\",task=\"ocr\"} 12.5",
            "gpu_lock_deadlock{pool=\"lab\",gpu=\"1\"} 1.0",
            "gpu_lock_monitor_checks_total{result=\"unhealthy\"} 1",
            "gpu_lock_recoveries_total{pool=\"lab\",level=\"hard_timeout\",result=\"failure\"} 3",
            "gpu_lock_recoveries_total{pool=\"lab\",level=\"heartbeat\",result=\"success\"} 7",
            "gpu_lock_exceptions_total{pool=\"lab\",kind=\"ownership_violations\"} 2",
            "gpu_lock_heartbeats{pool=\"lab\",state=\"dead\"} 1.0",
            "gpu_lock_monitor_last_check_timestamp_seconds 1795000000.25",
            "gpu_lock_store_up 1.0",
            "gpu_lock_config{key=\"gpu_lock.poll_interval\"} 2.0",
            "gpu_lock_config{key=\"gpu_lock_monitor.heartbeat.timeout\"} 30.0",
            "gpu_lock_config_poll_interval 2.0",
            "gpu_lock_config_max_wait_time 1800.0",
        ],
    );
    let ages = text.lines().filter(|line| line.starts_with("gpu_lock_heartbeat_age_seconds{"));
    assert_eq!(ages.count(), 2, "a lease without heartbeats has no age of one:\n{text}");
}

#[test]
fn alerts_and_messages_have_names_as_alertmanager_has_them() {
    says(
        &render(&full(), Format::Classic),
        &[
            "gpulock_alerts{level=\"P1\",state=\"firing\"} 2.0",
            "gpulock_alerts{level=\"warning\",state=\"silenced\"} 1.0",
            "gpulock_alerts{level=\"P0\",state=\"acknowledged\"} 0.0",
            "gpulock_alerts_received_total{kind=\"new\"} 30",
            "gpulock_alerts_received_total{kind=\"repeated\"} 10000",
            "gpulock_notifications_total{channel=\"ops\",integration=\"slack\"} 12",
            "gpulock_notification_requests_total{channel=\"ops\",integration=\"slack\"} 17",
            "gpulock_notifications_failed_total{channel=\"phone\",integration=\"pagerduty\",reason=\"rateLimited\"} 3",
            "gpulock_notifications_failed_total{channel=\"phone\",integration=\"pagerduty\",reason=\"gone\"} 0",
            "gpulock_notifications_suppressed_total{reason=\"inhibit\"} 5",
            "gpulock_notifications_suppressed_total{reason=\"silence\"} 0",
            "gpulock_notifications_waiting{channel=\"lab\"} 4.0",
            "gpulock_notifications_given_up_total{channel=\"lab\"} 1",
            "gpulock_notification_latency_seconds_count{integration=\"slack\"} 3",
            "gpulock_notification_latency_seconds_sum{integration=\"slack\"} 6.5",
            "gpulock_notification_latency_seconds_bucket{le=\"0.25\",integration=\"slack\"} 1",
            "gpulock_notification_latency_seconds_count{integration=\"pagerduty\"} 0",
        ],
    );
}

#[test]
fn buckets_hold_what_is_at_most_as_large_as_their_bound() {
    let text = render(&full(), Format::Classic);
    says(
        &text,
        &[
            "gpu_lock_wait_time_seconds_bucket{le=\"0.05\",pool=\"lab\"} 2",
            "gpu_lock_wait_time_seconds_bucket{le=\"0.1\",pool=\"lab\"} 3",
            "gpu_lock_wait_time_seconds_bucket{le=\"60.0\",pool=\"lab\"} 3",
            "gpu_lock_wait_time_seconds_bucket{le=\"120.0\",pool=\"lab\"} 4",
            "gpu_lock_wait_time_seconds_bucket{le=\"7200.0\",pool=\"lab\"} 4",
            "gpu_lock_wait_time_seconds_bucket{le=\"+Inf\",pool=\"lab\"} 5",
            "gpu_lock_wait_time_seconds_count{pool=\"lab\"} 5",
            "gpu_lock_wait_time_seconds_sum{pool=\"lab\"} 10090.12",
            "gpu_lock_store_roundtrip_seconds_bucket{le=\"0.0005\"} 1",
        ],
    );
    // As a record of an earlier version may have it.
    let short = Histogram { bounds: LOCK_BOUNDS, counts: vec![1], sum_seconds: 0.01 };
    assert_eq!(short.buckets().len(), LOCK_BOUNDS.len() + 1);
}

#[test]
fn promtool_accepts_the_classic_form() {
    for scrape in [full(), empty()] {
        promtool::accepts(&["check", "metrics"], &render(&scrape, Format::Classic));
    }
}

#[test]
fn the_classic_form_knows_no_units_and_no_end_and_names_counters_by_their_samples() {
    let text = render(&full(), Format::Classic);
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
    let described = described(&text);
    for name in sample_names(&text) {
        let of_histogram = ["_bucket", "_sum", "_count"].map(|part| name.strip_suffix(part));
        let family = [Some(name.as_str())].into_iter().chain(of_histogram).flatten();
        assert!(family.clone().any(|name| described.contains_key(name)), "{name} in {text}");
    }
    let samples = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&text), samples(&render(&full(), Format::OpenMetrics)));
}

#[test]
fn open_metrics_has_units_an_end_and_no_suffix_on_types() {
    for scrape in [full(), empty()] {
        let text = render(&scrape, Format::OpenMetrics);
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let mut families = BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(!name.ends_with("_total") && kind != "info", "{line}");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("# UNIT ")) {
            let (name, unit) = line.split_once(' ').unwrap();
            assert!(name.ends_with(unit) && families.contains(name), "{line}");
        }
        // All samples of a family stand together, below its own type.
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(described) => family = described.split(' ').next().unwrap(),
                None if line.starts_with('#') => {}
                None => assert!(line.starts_with(family) && !family.is_empty(), "{line}"),
            }
        }
    }
}

#[test]
fn a_daemon_that_cannot_read_its_store_says_so_and_nothing_of_pools() {
    let text = render(&empty(), Format::Classic);
    says(
        &text,
        &["gpu_lock_store_up 0.0", "gpu_lock_monitor_checks_total{result=\"healthy\"} 100"],
    );
    assert!(!text.contains("pool="), "{text}");
    assert!(!text.contains("gpu_lock_monitor_last_check_timestamp_seconds"), "{text}");
    assert!(!text.contains("gpu_lock_acquisitions"), "{text}");
    assert!(!text.contains("gpulock_"), "{text}");
}

#[test]
fn signs_that_would_end_a_label_are_escaped() {
    for format in [Format::Classic, Format::OpenMetrics] {
        let label = "task=\"say \\\"hi\\\"\\\\\\nto all\"}";
        assert!(render(&full(), format).contains(label), "{}", render(&full(), format));
    }
}

#[test]
fn a_hundred_tasks_keep_their_names() {
    let gpu = |index: u32| GpuFigures {
        index,
        state: GpuState::Held,
        lease: Some(LeaseFigures {
            task: format!("task {:03}", 149 - index),
            age: 1.0,
            heartbeat_age: Some(1.0),
        }),
        deadlock: false,
    };
    let pools = [0..75, 75..150].map(|gpus| PoolFigures {
        gpus: gpus.clone().map(gpu).collect(),
        ..pool(&format!("from-{}", gpus.start))
    });
    let text =
        render(&Scrape { pools: pools.into(), alerts: None, daemon: daemon() }, Format::Classic);
    let ages = text.lines().filter(|line| line.starts_with("gpu_lock_lease_age_seconds{"));
    let (mut tasks, mut others) = (BTreeSet::new(), 0);
    for line in ages {
        match line.split("task=\"").nth(1).unwrap().split('"').next().unwrap() {
            "other" => others += 1,
            task => _ = tasks.insert(task.to_owned()),
        }
    }
    assert_eq!((tasks.len(), others), (100, 50));
    assert!(tasks.contains("task 000") && tasks.contains("task 099"), "{tasks:?}");
    assert!(text.contains("{pool=\"from-0\",gpu=\"0\",task=\"other\"}"), "{text}");
}

#[test]
fn the_page_about_metrics_has_the_table_of_the_reference() {
    let path = repository().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the mark before the table");
    let (_, tail) = rest.split_once(END).expect("the mark after the table");
    let current = format!("{head}{BEGIN}\n{}\n{END}{tail}", table());
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&path, &current).unwrap();
        return;
    }
    assert!(
        page == current,
        "{PAGE} is not current\n{current}\nhint: {UPDATE}=1 scripts/test reference"
    );
}

/// Every metric with its type, labels and meaning, in Markdown.
fn table() -> String {
    let text = render(&full(), Format::Classic);
    let labels = labels(&text);
    let rows = described(&text).into_iter().map(|(name, (kind, help))| {
        let labels: Vec<_> = labels[name].iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        format!("| `{name}` | {kind} | {labels} | {help} |\n")
    });
    let head = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

/// Type and meaning of each family.
fn described(text: &str) -> BTreeMap<&str, (&str, &str)> {
    let of = |mark: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(' '));
        lines.collect::<BTreeMap<_, _>>()
    };
    let (kinds, helps) = (of("# TYPE "), of("# HELP "));
    assert_eq!(kinds.len(), helps.len());
    kinds.into_iter().map(|(name, kind)| (name, (kind, helps[name]))).collect()
}

/// The labels of each family in the order of the samples, without that of buckets.
fn labels(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all = BTreeMap::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            family = described.split(' ').next().unwrap();
        }
        if line.starts_with('#') {
            continue;
        }
        let names = line.split("=\"").map(|part| part.rsplit(['{', ',']).next().unwrap());
        let count = line.matches("=\"").count();
        let names: Vec<_> = names.take(count).filter(|name| *name != "le").collect();
        let known = all.entry(family).or_insert_with(|| names.clone());
        assert_eq!(*known, names, "labels of {family} differ");
    }
    all
}
