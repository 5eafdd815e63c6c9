//! Alerts from end to end: things go wrong in real pools, and people are told of them by real
//! daemons, whatever becomes of daemons, stores and those who are told.

mod away;
mod book;
mod critical;
mod deadness;
mod deaths;
mod doubts;
mod mail;
mod receiver;
mod rest;
mod settings;
mod storm;
mod story;
mod switch;
mod words;

use std::fmt::Write as _;

use super::daemon::Daemon;

/// A command whose worker does not stop when it is asked to, and notes its pid in `TASK.pid`.
fn deaf(task: &str) -> String {
    let worker = format!("trap \"\" TERM; echo $$ > {task}.pid; while :; do sleep 0.05; done");
    format!("sh -c '{worker}' & wait")
}

/// A configuration of two GPUs with these channels. Groups wait for `wait`, and those that have
/// been told for a second.
fn config(channels: &[String], wait: &str, more: &str) -> String {
    let mut text = String::from(
        "gpus: [0, 1]
gpu_lock: {stop_grace: 1h}
gpu_lock_monitor:
  monitor_interval: 500ms
  heartbeat: {interval: 1, timeout: 5}
alerts:
  channels:
",
    );
    text.extend(channels.iter().map(String::as_str));
    writeln!(
        text,
        "  route: {{group_wait: {wait}, group_interval: 1s, repeat_interval: 1h{more}}}"
    )
    .unwrap();
    text
}

/// How often the monitor has looked at everything.
fn rounds(daemon: &Daemon) -> u64 {
    let status = daemon.api().get("/api/v1/monitoring/monitor/status").body;
    status["healthy_checks"].as_u64().unwrap() + status["unhealthy_checks"].as_u64().unwrap()
}
