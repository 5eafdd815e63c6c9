//! What the daemons on one store tell each other: records beside the pool of daemons, which
//! outlive each of them.

use gpulock::core::{Progress, TaskBeat, TaskName, TaskRecord, TaskStatus};
use gpulock::{Client, Error};
use serde::{Deserialize, Serialize};

/// What the rounds of the monitor found, whichever daemon made them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checks {
    /// Rounds in which nothing was wrong.
    pub(crate) healthy: u64,
    /// Rounds in which something was.
    pub(crate) unhealthy: u64,
    /// What was wrong last.
    pub(crate) last_error: Option<String>,
    /// When a GPU last came free without the help of its holder: seconds since the Unix epoch
    /// on the store's clock.
    pub(crate) last_recovery_time: Option<f64>,
    /// How many GPUs had been recovered by the last round.
    pub(crate) recovered: u64,
}

/// What is kept for all daemons.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// What the rounds found.
    pub(crate) checks: Checks,
    /// When the last round was, in seconds since the Unix epoch on the store's clock.
    pub(crate) last_check: Option<f64>,
    /// On which host the daemon runs that made it.
    pub(crate) acting_host: Option<String>,
    /// Who has stopped the monitor and why; `None` while it shall run.
    pub(crate) stopped: Option<String>,
}

const CHECKS: &str = "monitor-checks";
const SWITCH: &str = "monitor-switch";

impl Notes {
    /// Reads what is there. `client` is one of the pool of daemons.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub(crate) async fn read(client: &Client) -> Result<Self, Error> {
        let mut notes = Self::default();
        for record in client.tasks().await? {
            let TaskRecord { task_id, status, progress, updated_at, host, .. } = record;
            let text = progress.map(|progress| progress.message).unwrap_or_default();
            match task_id.to_string().as_str() {
                CHECKS => {
                    notes.checks = serde_json::from_str(&text).unwrap_or_default();
                    notes.last_check = Some(updated_at.as_secs_f64());
                    notes.acting_host = Some(host);
                }
                SWITCH => notes.stopped = (status != TaskStatus::Running).then_some(text),
                _ => {}
            }
        }
        Ok(notes)
    }

    /// Writes what the rounds found. When that was, in seconds since the Unix epoch on the store's
    /// clock.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub(crate) async fn write_checks(client: &Client, checks: &Checks) -> Result<f64, Error> {
        let text = serde_json::to_string(checks).unwrap_or_default();
        write(client, CHECKS, TaskStatus::Running, text).await
    }

    /// Lets the monitor run, or stops it because of `why`.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub(crate) async fn switch(client: &Client, stopped: Option<String>) -> Result<(), Error> {
        let status = match stopped {
            None => TaskStatus::Running,
            Some(_) => TaskStatus::Completed,
        };
        write(client, SWITCH, status, stopped.unwrap_or_default()).await.map(drop)
    }
}

async fn write(
    client: &Client,
    name: &str,
    status: TaskStatus,
    message: String,
) -> Result<f64, Error> {
    let task_id: TaskName = name.parse()?;
    let progress = Some(Progress { basis_points: 0, message });
    let (host, pid) = (gpulock::process::host(), Some(std::process::id()));
    let beat = TaskBeat { task_id, status, progress, lease: None, host, pid, begins: false };
    Ok(client.beat(&beat).await?.updated_at.as_secs_f64())
}
