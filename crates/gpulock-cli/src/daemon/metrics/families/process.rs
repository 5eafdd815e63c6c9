//! This process: monitor, connection to the store, configuration.

use super::{Family, Sample, Unit, Value, family, gauge};
use crate::daemon::metrics::scrape::DaemonFigures;

pub(super) fn families(figures: &DaemonFigures) -> Vec<Family> {
    let mut families = Vec::from(daemon(figures));
    families.push(config(figures));
    families.extend(older_config(figures));
    families
}

fn daemon(daemon: &DaemonFigures) -> [Family; 6] {
    let one = |value| vec![Sample { labels: vec![], value }];
    let check = |result: &str, count| Sample {
        labels: vec![("result", result.to_owned())],
        value: Value::Counter(count),
    };
    let checks =
        vec![check("healthy", daemon.healthy_checks), check("unhealthy", daemon.unhealthy_checks)];
    let last = daemon.last_check.map(|time| one(Value::Gauge(time))).unwrap_or_default();
    let version = vec![("version", daemon.version.to_owned())];
    let leads = "Whether this process is the one that acts; others stand by.";
    let check_help =
        "Unix time of the last round of the monitor, or of the last look at who leads.";
    let roundtrip = Value::Histogram(daemon.store_roundtrip.clone());
    [
        family(
            "gpu_lock_monitor_checks",
            "Rounds of the monitor, by what they found: healthy or unhealthy.",
            None,
            checks,
        ),
        family("gpu_lock_monitor_leader", leads, None, one(gauge(daemon.is_leader))),
        family("gpu_lock_monitor_last_check_timestamp", check_help, Some(Unit::Seconds), last),
        family(
            "gpu_lock_store_up",
            "Whether the store answers.",
            None,
            one(gauge(daemon.store_up)),
        ),
        family(
            "gpu_lock_store_roundtrip",
            "How long the store takes to answer.",
            Some(Unit::Seconds),
            one(roundtrip),
        ),
        family(
            "gpu_lock_build_info",
            "Always 1; the label names the version of the program.",
            None,
            vec![Sample { labels: version, value: gauge(true) }],
        ),
    ]
}

fn config(daemon: &DaemonFigures) -> Family {
    let samples = daemon.settings.iter().map(|(key, value)| Sample {
        labels: vec![("key", key.clone())],
        value: Value::Gauge(*value),
    });
    let help = "Numbers of the configuration in force; spans are in seconds.";
    family("gpu_lock_config", help, None, samples.collect())
}

/// A name for each setting of the section `gpu_lock`, as the older system had them.
fn older_config(daemon: &DaemonFigures) -> Vec<Family> {
    let settings = daemon.settings.iter();
    let of_lock =
        settings.filter_map(|(key, value)| Some((key.strip_prefix("gpu_lock.")?, *value)));
    let families = of_lock.map(|(key, value)| Family {
        name: format!("gpu_lock_config_{key}"),
        help: "The setting gpu_lock of this name in seconds, as the older system had it.",
        unit: None,
        samples: vec![Sample { labels: vec![], value: Value::Gauge(value) }],
    });
    families.collect()
}
