//! Values that are each fine and do not go together.

use std::time::Duration;

use super::Config;
use super::finding::{Finding, Severity};
use super::origin::Origin;
use super::settings::GpuLock;

const WARNING: &str = "gpu_lock_monitor.timeout_levels.warning";
const SOFT: &str = "gpu_lock_monitor.timeout_levels.soft_timeout";
const HARD: &str = "gpu_lock_monitor.timeout_levels.hard_timeout";
const INTERVAL: &str = "gpu_lock_monitor.heartbeat.interval";
const TIMEOUT: &str = "gpu_lock_monitor.heartbeat.timeout";
const LOCK_TIMEOUT: &str = "gpu_lock.lock_timeout";
const MAX_WAIT: &str = "gpu_lock.max_wait_time";
const POLL: &str = "gpu_lock.poll_interval";
const MAX_POLL: &str = "gpu_lock.max_poll_interval";
const EVENTS: &str = "gpu_lock.use_event_driven";
const FALLBACK: &str = "gpu_lock.fallback_timeout";
const CLAIM: &str = "gpu_lock.claim_time";
const GRACE: &str = "gpu_lock.stop_grace";
const LISTEN: &str = "server.listen";
const TOKENS: &str = "server.tokens";
const LEGACY_KEYS: &str = "compat.legacy_keys";
const STORE: &str = "store";

/// Two keys that do not go together.
struct Clash {
    severity: Severity,
    /// The two keys; the message reads `first (value, origin) relation second (value,
    /// origin), so outcome`.
    first: &'static str,
    relation: &'static str,
    second: &'static str,
    outcome: &'static str,
    hint: &'static str,
}

impl Config {
    /// Values that do not go together, in the order of the checks. Where nobody wrote
    /// either of the two, nothing is found: the defaults are meant as they are.
    pub fn contradictions(&self) -> Vec<Finding> {
        let entries = self.entries();
        let entry = |path: &str| entries.iter().find(|entry| entry.path == path);
        let finding = |clash: Clash| {
            let (first, second) = (entry(clash.first)?, entry(clash.second)?);
            let mut written = [first, second].into_iter().filter(|it| it.origin != Origin::Default);
            let place = written.next()?.origin.clone();
            let message = format!(
                "`{}` ({}, {}) {} `{}` ({}, {}), so {}",
                first.path,
                first.value,
                first.origin,
                clash.relation,
                second.path,
                second.value,
                second.origin,
                clash.outcome,
            );
            let hint = clash.hint.to_owned();
            Some(Finding { severity: clash.severity, message, place, hint })
        };
        let clashes = [
            self.level_clashes(),
            self.waiting_clashes(),
            self.server_clashes(),
            self.compat_clashes(),
        ];
        clashes.into_iter().flatten().flatten().filter_map(finding).collect()
    }

    /// Clashes among deadlines and heartbeats.
    fn level_clashes(&self) -> Vec<Option<Clash>> {
        let levels = &self.gpu_lock_monitor.timeout_levels;
        let heartbeat = &self.gpu_lock_monitor.heartbeat;
        let lock = &self.gpu_lock;
        vec![
            (levels.warning >= levels.soft_timeout).then_some(Clash {
                severity: Severity::Error,
                first: WARNING,
                relation: "is not below",
                second: SOFT,
                outcome: "holders are asked to stop before anybody is warned",
                hint: "make the warning the lower of the two",
            }),
            (levels.soft_timeout >= levels.hard_timeout).then_some(Clash {
                severity: Severity::Error,
                first: SOFT,
                relation: "is not below",
                second: HARD,
                outcome: "a GPU is taken back before its holder was asked to stop",
                hint: "make the soft timeout the lower of the two",
            }),
            (heartbeat.interval >= heartbeat.timeout / 2).then_some(Clash {
                severity: Severity::Error,
                first: INTERVAL,
                relation: "is not below half of",
                second: TIMEOUT,
                outcome: "a single late heartbeat ends a lease",
                hint: "make the interval a third of the timeout or less",
            }),
            (heartbeat.timeout >= levels.hard_timeout).then_some(Clash {
                severity: Severity::Warning,
                first: TIMEOUT,
                relation: "is not below",
                second: HARD,
                outcome: "a dead holder on another host blocks its GPU up to the hard timeout",
                hint: "lower the heartbeat timeout",
            }),
            (lock.lock_timeout < levels.hard_timeout).then_some(Clash {
                severity: Severity::Warning,
                first: LOCK_TIMEOUT,
                relation: "is below",
                second: HARD,
                outcome: "a lease without heartbeats ends before the hard timeout",
                hint: "raise lock_timeout to the hard timeout, unless all holders send heartbeats",
            }),
            (lock.stop_grace >= heartbeat.timeout.saturating_sub(heartbeat.interval)).then_some(
                Clash {
                    severity: Severity::Warning,
                    first: GRACE,
                    relation: "does not fit between two heartbeats and",
                    second: TIMEOUT,
                    outcome: "a command that lost touch with the store gets less time to stop",
                    hint: "lower stop_grace, or raise the heartbeat timeout",
                },
            ),
        ]
    }

    /// Clashes in the way a request waits.
    fn waiting_clashes(&self) -> Vec<Option<Clash>> {
        let lock = &self.gpu_lock;
        let usual_hold = self.gpu_lock_monitor.timeout_levels.warning;
        vec![
            (lock.max_wait_time < usual_hold).then_some(Clash {
                severity: Severity::Warning,
                first: MAX_WAIT,
                relation: "is below",
                second: WARNING,
                outcome: "a request may give up behind a task that takes no longer than usual",
                hint: "raise max_wait_time, or lower the warning if tasks are shorter",
            }),
            (lock.poll_interval > lock.max_poll_interval).then_some(Clash {
                severity: Severity::Error,
                first: POLL,
                relation: "is above",
                second: MAX_POLL,
                outcome: "the first pause is longer than the longest",
                hint: "lower poll_interval, or raise max_poll_interval",
            }),
            lock.fallback_timeout.filter(|_| !lock.use_event_driven).map(|_| Clash {
                severity: Severity::Warning,
                first: FALLBACK,
                relation: "does not count beside",
                second: EVENTS,
                outcome: "max_poll_interval alone limits the pauses",
                hint: "remove fallback_timeout, or set use_event_driven to true",
            }),
            lock.fallback_timeout.filter(|cap| *cap < lock.poll_interval).map(|_| Clash {
                severity: Severity::Warning,
                first: FALLBACK,
                relation: "is below",
                second: POLL,
                outcome: "poll_interval is never reached",
                hint: "raise fallback_timeout, or lower poll_interval",
            }),
            (lock.claim_time < lock.longest_pause()).then_some(Clash {
                severity: match lock.use_event_driven {
                    true => Severity::Warning,
                    false => Severity::Error,
                },
                first: CLAIM,
                relation: "is below the longest pause of a waiter,",
                second: if lock.exponential_backoff { MAX_POLL } else { POLL },
                outcome: "a waiter that was not woken loses its grant before it looks",
                hint: "raise claim_time, or shorten the pauses",
            }),
        ]
    }

    fn server_clashes(&self) -> Vec<Option<Clash>> {
        let open = !self.server.listen.ip().is_loopback() && self.server.tokens.is_empty();
        vec![open.then_some(Clash {
            severity: Severity::Warning,
            first: LISTEN,
            relation: "is open to other hosts without",
            second: TOKENS,
            outcome: "`gpulock serve` refuses to start",
            hint: "add a token such as operate:@/etc/gpulock/token, or listen on 127.0.0.1",
        })]
    }

    fn compat_clashes(&self) -> Vec<Option<Clash>> {
        let is_redis = |url: &str| url.starts_with("redis");
        let on_redis = self.store.as_ref().is_some_and(|store| is_redis(store.reveal()));
        vec![(self.compat.legacy_keys && !on_redis).then_some(Clash {
            severity: Severity::Error,
            first: LEGACY_KEYS,
            relation: "needs the Redis database of the older workers as",
            second: STORE,
            outcome: "their lock keys cannot be respected",
            hint: "name that database as `store`, or set legacy_keys to false",
        })]
    }
}

impl GpuLock {
    /// The longest pause between two looks of a waiter.
    pub fn longest_pause(&self) -> Duration {
        let pause = match self.exponential_backoff {
            true => self.max_poll_interval.max(self.poll_interval),
            false => self.poll_interval,
        };
        let cap = self.fallback_timeout.filter(|_| self.use_event_driven);
        cap.map_or(pause, |cap| cap.min(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scene::Scene;

    /// Files, and the one finding that each gives: severity and the ends of both keys.
    const CLASHES: &[(&str, &str)] = &[
        (
            "gpu_lock_monitor: {timeout_levels: {warning: 3600}, heartbeat: {}}\ngpu_lock: {max_wait_time: 3600}",
            "error warning soft_timeout",
        ),
        (
            "gpu_lock_monitor: {timeout_levels: {soft_timeout: 7200}}",
            "error soft_timeout hard_timeout",
        ),
        ("gpu_lock_monitor: {heartbeat: {interval: 15}}", "error interval timeout"),
        ("gpu_lock_monitor: {heartbeat: {timeout: 7200}}", "warning timeout hard_timeout"),
        ("gpu_lock: {lock_timeout: 7199}", "warning lock_timeout hard_timeout"),
        ("gpu_lock: {stop_grace: 20}", "warning stop_grace timeout"),
        ("gpu_lock: {max_wait_time: 1799}", "warning max_wait_time warning"),
        (
            "gpu_lock: {poll_interval: 10.5, claim_time: 11}",
            "error poll_interval max_poll_interval",
        ),
        (
            "gpu_lock: {use_event_driven: false, fallback_timeout: 5}",
            "warning fallback_timeout use_event_driven",
        ),
        ("gpu_lock: {fallback_timeout: 1}", "warning fallback_timeout poll_interval"),
        ("gpu_lock: {claim_time: 9}", "warning claim_time max_poll_interval"),
        ("gpu_lock: {claim_time: 9, use_event_driven: no}", "error claim_time max_poll_interval"),
        ("server: {listen: '0.0.0.0:8788'}", "warning listen tokens"),
        ("compat: {legacy_keys: true}\nstore: 'sqlite:///a.db'", "error legacy_keys store"),
        ("compat: {legacy_keys: true}", "error legacy_keys store"),
    ];

    #[test]
    fn contradictions_name_both_places_and_a_way_out() {
        let listed = |file: &str| {
            let findings = Scene::with(file).config().contradictions();
            assert!(findings.iter().all(|it| it.place != Origin::Default && !it.hint.is_empty()));
            let brief = |it: &Finding| {
                let keys: Vec<_> = it.message.split('`').skip(1).step_by(2).take(2).collect();
                let last = |key: &str| key.rsplit('.').next().unwrap().to_owned();
                format!("{} {} {}", it.severity, last(keys[0]), last(keys[1]))
            };
            findings.iter().map(brief).collect::<Vec<_>>()
        };
        for (file, finding) in CLASHES {
            assert_eq!(listed(file), [*finding], "{file}");
        }
        assert!(listed("compat: {legacy_keys: true}\nstore: 'redis://h/2'").is_empty());
        assert!(
            listed("gpu_lock: {lock_timeout: 2h, claim_time: 4, fallback_timeout: 4}").is_empty()
        );

        let scene = Scene::with(
            "gpu_lock_monitor:\n  timeout_levels:\n    warning: 1h\n    soft_timeout: 1h",
        );
        let finding = &scene.config().contradictions()[0];
        let folder = scene.folder.path().display();
        assert_eq!(
            finding.message,
            format!(
                "`gpu_lock_monitor.timeout_levels.warning` (1h, {folder}/config.yml:3) is not below \
             `gpu_lock_monitor.timeout_levels.soft_timeout` (1h, {folder}/config.yml:4), so \
             holders are asked to stop before anybody is warned"
            )
        );
    }
}
