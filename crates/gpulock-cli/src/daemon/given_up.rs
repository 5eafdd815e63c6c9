//! GPUs that could not be taken back go into the critical failure log of the acting daemon's host.

use gpulock::core::{Event, GpuRef, LockKey, PoolName, What};
use gpulock::critical::{self, CriticalFailure};

use super::Daemon;

impl Daemon {
    /// Writes down that a GPU was given up, if that is what has happened. Nobody waits for the disk.
    pub(super) fn note_given_up(&self, pool: &PoolName, event: &Event) {
        let Some(record) = record(pool, event) else { return };
        let log = self.settings.current().critical_failure_log.clone();
        tokio::task::spawn_blocking(move || match critical::write_down(&log, &record) {
            Ok(file) if file == log => {}
            Ok(file) => tracing::warn!(
                "{} cannot be written, the critical failure is in {}",
                log.display(),
                file.display()
            ),
            Err(error) => tracing::error!("the critical failure cannot be written down: {error}"),
        });
    }
}

fn record(pool: &PoolName, event: &Event) -> Option<CriticalFailure> {
    let What::StillDraining { token, gpus, failures, is_given_up: true } = &event.what else {
        return None;
    };
    let party = event.party.as_ref()?;
    let keys = gpus.iter().map(|gpu| LockKey { pool: pool.clone(), gpu: GpuRef::Index(*gpu) });
    let keys: Vec<_> = keys.map(|key| key.to_string()).collect();
    let pid = party.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    Some(CriticalFailure {
        lock_key: keys.join(","),
        task: party.task.to_string(),
        lease_id: party.lease_id.to_string(),
        token: token.value(),
        error: format!(
            "processes of the ended lease still live on {}{pid}, and the GPU is given up after {failures} tries",
            party.host
        ),
        traceback: String::new(),
    })
}
