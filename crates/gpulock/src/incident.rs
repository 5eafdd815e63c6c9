//! What went wrong around a lease, told to the store so that every process can see it.

use std::time::Duration;

use gpulock_core::{Command, Incident, LeaseId, Party, TaskName};

use crate::client::Client;
use crate::store::StoreError;
use crate::stored::{StepError, jittered};

/// The most of an error that is written down, in characters.
const LONGEST_ERROR: usize = 1_000;

impl Client {
    /// Writes down what went wrong around a lease of this process, and counts it. Returns when
    /// the store has heard it, however long that takes; what it answers late is counted twice
    /// if the connection broke in between.
    pub async fn report(&self, incident: Incident, error: &str, lease_id: LeaseId, task: TaskName) {
        let owner = self.inner.owner();
        let pid = owner.process.as_ref().map(|own| own.process.pid);
        let party = Party { lease_id, task, host: owner.host.clone(), pid };
        let error = error.chars().take(LONGEST_ERROR).collect();
        let command = Command::Report { incident, error, party };
        self.inner.unsettled.send_modify(|count| *count += 1);
        let mut pause = Duration::from_millis(20);
        while let Err(error) = self.inner.stored.step(&command, None).await {
            // Whatever else is wrong with the store may be put right.
            if matches!(error, StepError::Store(StoreError::Replaced(_))) {
                break;
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        self.inner.unsettled.send_modify(|count| *count -= 1);
    }
}
