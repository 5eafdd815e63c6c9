//! `gpulock serve` when something goes wrong around it: callers that hang up, daemons that hang,
//! configurations that change.

mod daemon;
mod hang_ups;
mod http;
mod settings;
mod several;

use serde_json::Value;

use super::scene::Scene;

/// Longer than any test.
const FAR: &str = "1h";

/// A command that does not stop when it is asked to, and notes that it was.
const DEAF: &str = "exec 2>/dev/null; trap 'echo asked >> asked' TERM
    echo $$ > worker.pid; while :; do sleep 0.02; done";

/// Sets a key below `gpu_lock_monitor`.
fn set_monitor(scene: &mut Scene, key: &str, value: &str) {
    let key = key.to_uppercase().replace('.', "__");
    scene.set(&format!("GPULOCK_GPU_LOCK_MONITOR__{key}"), value);
}

/// A scene in which leases reach their levels at these ages.
fn with_levels(warning: &str, soft: &str, hard: &str) -> Scene {
    let mut scene = Scene::new();
    set_monitor(&mut scene, "timeout_levels.warning", warning);
    set_monitor(&mut scene, "timeout_levels.soft_timeout", soft);
    set_monitor(&mut scene, "timeout_levels.hard_timeout", hard);
    scene.set_lock("stop_grace", "300ms");
    scene
}

/// What happened to the leases and requests of a task, the latest last: the names of the
/// events, with the level or the end where they have one.
fn story(events: &[Value], task: &str) -> Vec<String> {
    let of_task = events.iter().filter(|event| event["task"] == task);
    of_task.map(chapter).collect()
}

fn chapter(event: &Value) -> String {
    let name = event["event"].as_str().unwrap();
    let how = &event["how"];
    let more = event["level"].as_str().or(how.as_str()).map(str::to_owned);
    let more = more.or_else(|| how["expired"].as_str().map(|cause| format!("expired {cause}")));
    let more = more.or_else(|| how["seized"].is_object().then(|| "seized".to_owned()));
    more.map_or_else(|| name.to_owned(), |more| format!("{name} {more}"))
}
