//! The effective configuration as Python values.

use gpulock::config::Config;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Every key with its value: spans in seconds, switches and counts as they are, everything else
/// as text, with secrets masked.
pub(crate) fn all<'py>(py: Python<'py>, config: &Config) -> PyResult<Bound<'py, PyDict>> {
    let values = PyDict::new(py);
    for entry in config.entries() {
        values.set_item(entry.path, entry.value)?;
    }
    let lock = &config.gpu_lock;
    let monitor = &config.gpu_lock_monitor;
    let levels = &monitor.timeout_levels;
    let health = &monitor.health_thresholds;
    let spans = [
        ("gpu_lock.poll_interval", lock.poll_interval),
        ("gpu_lock.max_wait_time", lock.max_wait_time),
        ("gpu_lock.lock_timeout", lock.lock_timeout),
        ("gpu_lock.max_poll_interval", lock.max_poll_interval),
        ("gpu_lock.store_patience", lock.store_patience),
        ("gpu_lock.stop_grace", lock.stop_grace),
        ("gpu_lock.claim_time", lock.claim_time),
        ("gpu_lock_monitor.monitor_interval", monitor.monitor_interval),
        ("gpu_lock_monitor.timeout_levels.warning", levels.warning),
        ("gpu_lock_monitor.timeout_levels.soft_timeout", levels.soft_timeout),
        ("gpu_lock_monitor.timeout_levels.hard_timeout", levels.hard_timeout),
        ("gpu_lock_monitor.heartbeat.interval", monitor.heartbeat.interval),
        ("gpu_lock_monitor.heartbeat.timeout", monitor.heartbeat.timeout),
        ("gpu_lock_monitor.cleanup.retry_delay", monitor.cleanup.retry_delay),
        ("gpu_lock_monitor.health_thresholds.max_lock_age", health.max_lock_age),
    ];
    for (key, span) in spans {
        values.set_item(key, span.as_secs_f64())?;
    }
    let fallback = lock.fallback_timeout.map(|span| span.as_secs_f64());
    values.set_item("gpu_lock.fallback_timeout", fallback)?;
    let switches = [
        ("gpu_lock.exponential_backoff", lock.exponential_backoff),
        ("gpu_lock.use_event_driven", lock.use_event_driven),
        ("gpu_lock_monitor.enabled", monitor.enabled),
        ("gpu_lock_monitor.auto_recovery", monitor.auto_recovery),
        ("compat.legacy_keys", config.compat.legacy_keys),
    ];
    for (key, switch) in switches {
        values.set_item(key, switch)?;
    }
    let counts = [
        ("gpu_lock_monitor.cleanup.max_retry", monitor.cleanup.max_retry),
        ("gpu_lock_monitor.health_thresholds.recent_window_size", health.recent_window_size),
    ];
    for (key, count) in counts {
        values.set_item(key, count)?;
    }
    let rates = [
        ("gpu_lock_monitor.health_thresholds.min_success_rate", health.min_success_rate),
        ("gpu_lock_monitor.health_thresholds.max_timeout_rate", health.max_timeout_rate),
    ];
    for (key, rate) in rates {
        values.set_item(key, rate)?;
    }
    let log = config.critical_failure_log.display().to_string();
    values.set_item("critical_failure_log", log)?;
    Ok(values)
}
