//! Signs of life of tasks, with or without a GPU.

use gpulock_core::{TaskBeat, TaskName, TaskRecord};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Tells of a task, and answers with what is remembered of it from now on.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn beat(&self, beat: &TaskBeat) -> Result<TaskRecord, Error> {
        let stored = &self.inner.stored;
        let put = async || Ok(stored.store.put_task(&stored.pool, beat).await?);
        Ok(self.inner.patience(&|_| {}).bear(put).await?)
    }

    /// What is remembered of the tasks of the pool, the latest sign of life first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn tasks(&self) -> Result<Vec<TaskRecord>, Error> {
        let stored = &self.inner.stored;
        Ok(stored.store.tasks(&stored.pool).await?)
    }

    /// Forgets a task. `false` if nothing was remembered of it.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn forget_task(&self, task_id: &TaskName) -> Result<bool, Error> {
        let stored = &self.inner.stored;
        let remove = async || Ok(stored.store.remove_task(&stored.pool, task_id).await?);
        Ok(self.inner.patience(&|_| {}).bear(remove).await?)
    }
}
