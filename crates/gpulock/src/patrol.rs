//! Rounds of a monitor over one pool.

use std::time::Duration;

use gpulock_core::{Command, Reply, Watch};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Lets time pass in the pool and looks after what is held for long, all in one step. How
    /// long until the next moment at which that has to be done again, if there will be one.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn patrol(&self, watch: Watch) -> Result<Option<Duration>, Error> {
        let sight = self.inner.owner().sight().cloned();
        let command = Command::Patrol { watch, sight };
        let patience = self.inner.patience(&|_| {});
        let outcome = self.inner.stored.step_patiently(&command, None, &patience).await?;
        let next = match outcome.reply {
            Reply::Patrolled(next) => next,
            other => unreachable!("a patrol is answered with {other:?}"),
        };
        Ok(next.map(|moment| moment.since(outcome.now)))
    }
}
