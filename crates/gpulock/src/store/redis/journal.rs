//! The journal of a pool: a stream, whose ids are the places in it.

use gpulock_core::PoolName;

use super::{JOURNAL_CAP, RedisStore, reply};
use crate::store::{Cursor, Entry, Followed, StoreError, Wanted};

/// How many entries are fetched at once.
const PAGE: usize = 1_000;

impl RedisStore {
    /// The latest first.
    pub(super) async fn entries(
        &self,
        pool: &PoolName,
        wanted: &Wanted,
    ) -> Result<Vec<Entry>, StoreError> {
        // Nobody knows how many there are between two of one task.
        let count = if wanted.task.is_some() { PAGE } else { wanted.limit.min(PAGE) };
        let (mut found, mut before) = (Vec::new(), "+".to_owned());
        while found.len() < wanted.limit {
            let page = self.range("XREVRANGE", pool, [&before, "-"], count).await?;
            let is_last = page.len() < count;
            if let Some(entry) = page.last() {
                before = format!("({}", entry.cursor);
            }
            found.extend(page.into_iter().filter(|entry| wanted.includes(&entry.event)));
            if is_last {
                break;
            }
        }
        found.truncate(wanted.limit);
        Ok(found)
    }

    /// The oldest first. It is asked from the place itself on: as long as that is there,
    /// nothing behind it has been dropped, because what is dropped is always the oldest.
    pub(super) async fn entries_after(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        let count = limit.saturating_add(1).min(usize::MAX >> 1);
        let mut entries = self.range("XRANGE", pool, [&after.to_string(), "+"], count).await?;
        let is_known = entries.first().is_some_and(|entry| entry.cursor == after);
        if is_known {
            entries.remove(0);
        }
        entries.truncate(limit);
        let is_gapless = match after {
            Cursor::START => !self.may_have_been_cut(pool).await?,
            _ => is_known,
        };
        Ok(Followed { entries, is_gapless })
    }

    /// A journal with fewer entries than are always kept is whole.
    async fn may_have_been_cut(&self, pool: &PoolName) -> Result<bool, StoreError> {
        let mut length = redis::cmd("XLEN");
        length.arg(self.keys.journal(pool));
        let answer = self.link.ask(length).await?;
        let length = reply::count(&answer.value).map_err(|wrong| self.misread(wrong))?;
        Ok(length >= JOURNAL_CAP)
    }

    async fn range(
        &self,
        command: &str,
        pool: &PoolName,
        between: [&str; 2],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut range = redis::cmd(command);
        range.arg(self.keys.journal(pool)).arg(&between).arg("COUNT").arg(count);
        let answer = self.link.ask(range).await?;
        reply::entries(answer.value).map_err(|wrong| self.misread(wrong))
    }
}
