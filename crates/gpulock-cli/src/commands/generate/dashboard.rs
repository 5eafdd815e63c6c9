//! A board for Grafana, as classic JSON: what `/metrics` says, in rows from the whole to details.
//!
//! Everything goes through variables: the data source, the job and the instance of the daemon, the
//! pool. Like the rules, it never adds up over instances: two daemons of one store report the same
//! pools.

mod panel;
mod rows;

use serde_json::{Value, json};

use panel::Place;

/// Stays the same, so that a new version replaces the old one and links go on working.
const UID: &str = "gpulock";
/// Grafana's number of this form of JSON; later versions take it and bring it up to date.
const SCHEMA: u32 = 39;

/// The whole file.
pub(super) fn file() -> String {
    format!("{:#}", dashboard())
}

fn dashboard() -> Value {
    json!({
        "uid": UID,
        "title": "gpulock",
        "description": "Who holds the GPUs, who waits, and what went wrong. \
                        Made by `gpulock generate grafana-dashboard`.",
        "tags": ["gpulock", "gpu"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [recoveries()]},
        "templating": {"list": variables()},
        "panels": panels(),
    })
}

fn panels() -> Vec<Value> {
    let mut place = Place::default();
    let mut panels = Vec::new();
    for row in rows::rows() {
        panels.push(panel::heading(row.title, &mut place));
        panels.extend(row.panels.iter().map(|panel| panel.json(&mut place)));
    }
    panels
}

fn variables() -> Value {
    let values = |name: &str, label: &str, query: &str| {
        json!({
            "name": name,
            "label": label,
            "type": "query",
            "datasource": panel::datasource(),
            "definition": query,
            "query": {"query": query, "refId": name},
            "multi": true,
            "includeAll": true,
            "allValue": ".+",
            "current": {"text": ["All"], "value": ["$__all"]},
            // Anew whenever the range of time changes: GPUs and hosts come and go.
            "refresh": 2,
            "sort": 1,
        })
    };
    json!([
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
        },
        values("job", "Job", "label_values(gpu_lock_build_info, job)"),
        values("instance", "Instance", "label_values(gpu_lock_build_info{job=~\"$job\"}, instance)"),
        values(
            "pool",
            "Pool",
            "label_values(gpu_lock_queue_length{job=~\"$job\", instance=~\"$instance\"}, pool)",
        ),
    ])
}

/// A mark on every picture where the monitor took a GPU back.
fn recoveries() -> Value {
    json!({
        "name": "Recoveries",
        "datasource": panel::datasource(),
        "enable": true,
        "iconColor": "red",
        "expr": panel::with_selectors(
            "sum by (instance, pool, level, result) (changes(gpu_lock_recoveries_total{POOL}[1m])) > 0"
        ),
        "step": "1m",
        "titleFormat": "Recovery in pool {{pool}}",
        "tagKeys": "level,result",
    })
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use tests::expressions;
