//! Follows the journals of all pools, so that whoever waits for news hears of it soon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gpulock::core::PoolName;
use gpulock::store::{Cursor, Entry, Store, StoreError, Wanted};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::leadership::monitor_pool;

/// Between two looks at the journals.
const LOOK: Duration = Duration::from_millis(250);

/// How many entries are read at once.
const BATCH: usize = 500;

/// Where the journals end, as it changes.
#[derive(Debug)]
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    ends: watch::Sender<BTreeMap<PoolName, Cursor>>,
}

impl Journal {
    /// Of the pools of a store.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, ends: watch::Sender::default() }
    }

    /// Where each journal ends.
    pub(crate) fn ends(&self) -> watch::Receiver<BTreeMap<PoolName, Cursor>> {
        self.ends.subscribe()
    }

    /// The last place in the journal of a pool.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn end(&self, pool: &PoolName) -> Result<Cursor, StoreError> {
        let latest = self.store.history(pool, &Wanted { limit: 1, task: None }).await?;
        Ok(latest.first().map_or(Cursor::START, |entry| entry.cursor))
    }

    /// Gives all new entries to `hear`, until `shutdown`. Trouble with the store is left to
    /// those who have more to say about it.
    pub(crate) async fn follow(
        &self,
        shutdown: &CancellationToken,
        mut hear: impl FnMut(&PoolName, &Entry),
    ) {
        let mut ends = BTreeMap::new();
        let mut is_start = true;
        while !shutdown.is_cancelled() {
            self.meet_pools(&mut ends, std::mem::take(&mut is_start)).await;
            for (pool, end) in &mut ends {
                while let Ok(followed) = self.store.follow(pool, *end, BATCH).await {
                    if let Some(last) = followed.entries.last() {
                        *end = last.cursor;
                        followed.entries.iter().for_each(|entry| hear(pool, entry));
                        continue;
                    }
                    // The store has lost what it had written, and now writes smaller places.
                    if !followed.is_gapless {
                        *end = self.end(pool).await.unwrap_or(*end);
                    }
                    break;
                }
            }
            self.ends.send_if_modified(|known| {
                let is_news = *known != ends;
                if is_news {
                    known.clone_from(&ends);
                }
                is_news
            });
            shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }

    /// Adds new pools: at the start from where their journals end, later from where they begin.
    async fn meet_pools(&self, ends: &mut BTreeMap<PoolName, Cursor>, is_start: bool) {
        for pool in self.store.pools().await.unwrap_or_default() {
            if pool != monitor_pool() && !ends.contains_key(&pool) {
                let end = match is_start {
                    true => self.end(&pool).await,
                    false => Ok(Cursor::START),
                };
                ends.extend(end.map(|end| (pool, end)));
            }
        }
    }
}
