//! The guides for operators name everything that an operator meets.

use super::reference::read;

/// The rules of Prometheus, and what the server itself tells, by name.
const ALERTS: [&str; 20] = [
    "GPULockHighWaitTime",
    "GPULockHighTimeoutRate",
    "GPULockLowSuccessRate",
    "GPULockDeadlockDetected",
    "GPULockMonitorDown",
    "GPULockHeartbeatFailureRateHigh",
    "GPULockEmergencyRelease",
    "GPULockOwnershipViolations",
    "GPULockStoreDown",
    "GPULockNotificationsFailing",
    "GPU_LOCK_TIMEOUT_RATE_HIGH",
    "GPU_LOCK_SUCCESS_RATE_LOW",
    "GPU_LOCK_DEADLOCK_DETECTED",
    "MONITOR_SERVICE_DOWN",
    "HEARTBEAT_FAILURE_RATE_HIGH",
    "gpu_lock_emergency_release",
    "gpu_lock_critical_failure",
    "GPU_LOCK_ZOMBIE",
    "GPU_LOCK_LONG_HELD",
    "GPU_LOCK_POOL_CLOSED",
];

/// The paths of the API, up to what is different in each call.
const PATHS: [&str; 36] = [
    "/api/v1/monitoring/gpu-lock/health",
    "/api/v1/monitoring/gpu-lock/status?lock_key=gpu_lock:0",
    "/api/v1/monitoring/heartbeat/all",
    "/api/v1/monitoring/heartbeat/task/report-17 --request PUT",
    "/api/v1/monitoring/heartbeat/task/report-17 --request DELETE",
    "/api/v1/monitoring/heartbeat/task/report-17/start --request POST",
    "/api/v1/monitoring/heartbeat/cleanup --request POST",
    "/api/v1/monitoring/statistics",
    "/api/v1/monitoring/monitor/status",
    "/api/v1/monitoring/monitor/health",
    "/api/v1/monitoring/monitor/start --request POST",
    "/api/v1/monitoring/monitor/stop --request POST",
    "/api/v1/monitoring/timeout/status",
    "/api/v1/monitoring/timeout/config",
    "/api/v1/monitoring/timeout/check --request POST",
    "/api/v1/monitoring/release-lock --request POST",
    "/api/v1/monitoring/lock/release --request POST",
    "/api/v1/pools",
    "/api/v1/leases --request POST",
    "/api/v1/leases/$LEASE/renew\" --request POST",
    "/api/v1/leases/$LEASE\" --request DELETE",
    "/api/v1/queue",
    "/api/v1/history",
    "/api/v1/events",
    "/api/v1/alerts",
    "/api/v1/alerts/$ALERT/ack\" --request POST",
    "/api/v1/alerts/undelivered",
    "/api/v1/alerts/undelivered/$MESSAGE/resend\" --request POST",
    "/api/v1/silences",
    "/api/v1/silences --request POST",
    "/api/v1/silences/$SILENCE\" --request DELETE",
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
];

#[test]
fn every_alert_has_a_chapter_that_says_what_it_means_and_what_to_do() {
    let page = read("docs/guides/operations.md");
    for alert in ALERTS {
        let chapter = page.split("\n### ").find(|text| text.lines().next() == Some(alert));
        let chapter = chapter.unwrap_or_else(|| panic!("{alert} has no chapter"));
        let refers = chapter.contains("](#gpulock");
        let explains = ["**What it means.**", "**What to do.**"].map(|mark| chapter.contains(mark));
        assert!(refers || explains == [true, true], "{alert}: {chapter}");
    }
}

#[test]
fn every_path_of_the_api_has_a_call() {
    let page = read("docs/guides/api.md");
    let blocks = page.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let calls: String = blocks.flat_map(|block| [block, "\n"]).collect();
    for path in PATHS {
        assert!(calls.contains(path), "{path} has no call");
    }
}
