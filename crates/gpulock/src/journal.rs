//! Following what happens in a pool.

use crate::client::Client;
use crate::error::Error;
use crate::store::{Cursor, Entry, Followed, Wanted};

impl Client {
    /// What happened, the latest first, with the place of each in the journal.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn entries(&self, wanted: &Wanted) -> Result<Vec<Entry>, Error> {
        let stored = &self.inner.stored;
        Ok(stored.store.history(&stored.pool, wanted).await?)
    }

    /// The place behind everything that has happened so far.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn journal_end(&self) -> Result<Cursor, Error> {
        let latest = self.entries(&Wanted { limit: 1, task: None }).await?;
        Ok(latest.first().map_or(Cursor::START, |entry| entry.cursor))
    }

    /// The first `limit` entries of the journal after this place, the oldest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn follow(&self, after: Cursor, limit: usize) -> Result<Followed, Error> {
        let stored = &self.inner.stored;
        Ok(stored.store.follow(&stored.pool, after, limit).await?)
    }
}
