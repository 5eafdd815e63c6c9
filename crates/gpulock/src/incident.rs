//! What went wrong around a lease, told to the store so that every process can see it.

use std::time::Duration;

use gpulock_core::{Command, Incident, LeaseId, Party, Raised, TaskName};

use crate::client::Client;
use crate::store::StoreError;
use crate::stored::{StepError, jittered};

/// The most of an error that is written down, in characters.
const LONGEST_ERROR: usize = 1_000;

/// How many facts a raised alert may carry.
const MOST_FACTS: usize = 20;

impl Client {
    /// Writes down what went wrong around a lease of this process, and counts it. Returns when
    /// the store has heard it, however long that takes; what it answers late is counted twice
    /// if the connection broke in between.
    pub async fn report(&self, incident: Incident, error: &str, lease_id: LeaseId, task: TaskName) {
        let owner = self.inner.owner();
        let pid = owner.process.as_ref().map(|own| own.process.pid);
        let party = Party { lease_id, task, host: owner.host.clone(), pid };
        let error = error.chars().take(LONGEST_ERROR).collect();
        self.tell(Command::Report { incident, error, party }).await;
    }

    /// Raises an alert in a program's own words: `gpulock serve` tells those who are to hear of
    /// it. Returns when the store has heard it, however long that takes.
    pub async fn raise(&self, mut alert: Raised, lease: Option<(LeaseId, TaskName)>) {
        let cut = |text: &str| text.chars().take(LONGEST_ERROR).collect::<String>();
        alert.message = cut(&alert.message);
        alert.facts = alert
            .facts
            .iter()
            .take(MOST_FACTS)
            .map(|(name, value)| (cut(name), cut(value)))
            .collect();
        let owner = self.inner.owner();
        let pid = owner.process.as_ref().map(|own| own.process.pid);
        let host = owner.host.clone();
        let party = lease.map(|(lease_id, task)| Party { lease_id, task, host, pid });
        self.tell(Command::Raise { alert, party }).await;
    }

    /// Sends a command until the store has heard it.
    async fn tell(&self, command: Command) {
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
