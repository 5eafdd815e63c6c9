//! The numbers of the configuration in force.

use gpulock::config::Config;
use jiff::fmt::friendly::SpanParser;

/// Every setting of the older sections that is a number, with its key; spans are in seconds.
pub(crate) fn numeric_settings(config: &Config) -> Vec<(String, f64)> {
    let entries = config.entries().into_iter();
    // Elsewhere are names that may look like numbers, such as that of the pool.
    let ours = entries.filter(|entry| entry.path.starts_with("gpu_lock"));
    ours.filter_map(|entry| Some((entry.path, number(&entry.value)?))).collect()
}

fn number(text: &str) -> Option<f64> {
    let span = || SpanParser::new().parse_unsigned_duration(text).ok();
    text.parse().ok().or_else(|| Some(span()?.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_seconds_and_what_is_no_number_is_left_out() {
        let mut config = Config::default();
        config.pool = "7".to_owned();
        config.gpu_lock.max_wait_time = std::time::Duration::from_millis(5_400_500);
        config.gpu_lock.stop_grace = std::time::Duration::ZERO;
        let settings = numeric_settings(&config);
        let value = |key: &str| settings.iter().find(|(it, _)| it == key).map(|(_, value)| *value);
        assert_eq!(value("gpu_lock.max_wait_time"), Some(5400.5));
        assert_eq!(value("gpu_lock.stop_grace"), Some(0.0));
        assert_eq!(value("gpu_lock_monitor.timeout_levels.hard_timeout"), Some(7200.0));
        assert_eq!(value("gpu_lock_monitor.cleanup.max_retry"), Some(3.0));
        assert_eq!(value("gpu_lock_monitor.health_thresholds.min_success_rate"), Some(0.8));
        for other in ["pool", "gpu_lock.exponential_backoff", "gpu_lock.on_store_error"] {
            assert_eq!(value(other), None, "{other}");
        }
    }
}
