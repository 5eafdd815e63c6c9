//! A release that the store has not confirmed: it is written to the critical failure log of this
//! host, and told to the store as soon as that hears again.

use std::path::PathBuf;

use gpulock::core::{GpuIndex, GpuRef, Incident, LeaseId, LockKey, TaskName};
use gpulock::critical::{self, CriticalFailure};
use gpulock::{Client, Error, Lease};

use crate::output;
use crate::session::Session;

/// What is written down if the release of a lease is not confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    client: Client,
    log: PathBuf,
    lease_id: LeaseId,
    task: TaskName,
    record: CriticalFailure,
}

impl Unconfirmed {
    /// About this lease.
    pub(super) fn of(lease: &Lease, client: &Client, session: &Session) -> Self {
        let key = |gpu: &GpuIndex| {
            LockKey { pool: session.pool.clone(), gpu: GpuRef::Index(*gpu) }.to_string()
        };
        let keys: Vec<_> = lease.gpu_indices().iter().map(key).collect();
        let record = CriticalFailure {
            lock_key: keys.join(","),
            task: lease.task().to_string(),
            lease_id: lease.id().to_string(),
            token: lease.token().value(),
            error: String::new(),
            traceback: String::new(),
        };
        Self {
            client: client.clone(),
            log: session.config().critical_failure_log.clone(),
            lease_id: lease.id(),
            task: lease.task().clone(),
            record,
        }
    }

    /// Writes down that its release was not confirmed. The store is told in the background, for as
    /// long as this process stays for what is still to be said.
    pub(super) fn tell(mut self, error: &Error) {
        self.record.error = error.to_string();
        match critical::write_down(&self.log, &self.record) {
            Ok(file) if file == self.log => {}
            Ok(file) => output::warning(&format!(
                "{} cannot be written, the critical failure is in {}",
                self.log.display(),
                file.display()
            )),
            Err(trouble) => output::warning(&format!(
                "the critical failure cannot be written down: {trouble}\n\
                 hint: critical_failure_log in the configuration says where that is done"
            )),
        }
        tokio::spawn(async move {
            let Self { client, lease_id, task, record, .. } = self;
            client.report(Incident::CriticalFailure, &record.error, lease_id, task).await;
        });
    }
}
