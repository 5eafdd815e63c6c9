//! Reads the journals of all pools, and understands what that means for alerts.

use std::collections::{BTreeMap, BTreeSet};

use gpulock::core::alert::{Change, Labels, Rule, Rules, Signal, Urgency, signals};
use gpulock::core::{Ending, Event, PoolName, What};
use gpulock::store::{Cursor, StoreError};
use gpulock_alerts::Book;

use super::heard::{Begin, Heard, HeardPool};
use crate::daemon::{Daemon, monitor_pool};

/// How many entries of a pool are read at once.
const BATCH: usize = 500;

/// How far the journals have been read by this daemon.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    ends: BTreeMap<PoolName, Place>,
    /// Pools whose journals cannot be read.
    unreadable: BTreeSet<PoolName>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    end: Cursor,
    /// How many entries the book lags behind.
    lag: usize,
}

impl Hearing {
    /// Reads on from where this daemon was, or from where the book is. A pool that cannot be read
    /// keeps nobody from hearing of the others.
    pub(super) async fn read(
        &mut self,
        daemon: &Daemon,
        book: &Book,
        rules: &Rules,
    ) -> Result<Heard, StoreError> {
        let mut pools = Vec::new();
        for pool in daemon.store.pools().await? {
            let heard = match self.known(&pool, book) {
                Some(place) => read_on(daemon, &pool, place, rules).await,
                None => meet(daemon, &pool, book).await,
            };
            match heard {
                Ok(heard) => {
                    self.unreadable.remove(&pool);
                    pools.push(heard);
                }
                Err(error @ (StoreError::Unreadable { .. } | StoreError::Newer { .. })) => {
                    if self.unreadable.insert(pool.clone()) {
                        tracing::warn!(%pool, "nobody is told of what happens there: {error}");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Heard { pools })
    }

    fn known(&self, pool: &PoolName, book: &Book) -> Option<Place> {
        let own = self.ends.get(pool).copied();
        own.or_else(|| book.heard(pool).map(|end| Place { end, lag: 0 }))
    }

    /// It is in the book, as far as it belongs there, but for these pools.
    pub(super) fn note(&mut self, heard: Heard, outdated: &[PoolName]) {
        for one in heard.pools {
            let lag = if one.is_written() { 0 } else { one.lag };
            self.ends.insert(one.pool, Place { end: one.end, lag });
        }
        self.ends.retain(|pool, _| !outdated.contains(pool));
    }
}

/// At the very first look nobody wants to hear of the past; later, a pool that is not known has
/// begun since.
async fn meet(daemon: &Daemon, pool: &PoolName, book: &Book) -> Result<HeardPool, StoreError> {
    let is_first_look = !book.has_heard();
    let end = match is_first_look {
        true => daemon.journal.end(pool).await?,
        false => Cursor::START,
    };
    Ok(HeardPool {
        pool: pool.clone(),
        begin: Begin::New,
        end,
        signals: Vec::new(),
        lag: 0,
        is_partial: !is_first_look,
    })
}

async fn read_on(
    daemon: &Daemon,
    pool: &PoolName,
    place: Place,
    rules: &Rules,
) -> Result<HeardPool, StoreError> {
    let followed = daemon.store.follow(pool, place.end, BATCH).await?;
    let count = followed.entries.len();
    let (begin, end) = match followed.entries.last() {
        Some(last) => (Begin::After(place.end), last.cursor),
        None if followed.is_gapless => (Begin::After(place.end), place.end),
        None => (Begin::Anew, daemon.journal.end(pool).await?),
    };
    if count > 0 && !followed.is_gapless && place.end != Cursor::START {
        tracing::warn!(%pool, "the journal has dropped entries that nobody was told of");
    }
    let events = followed.entries.iter().map(|entry| &entry.event);
    let signals = match *pool == monitor_pool() {
        true => events.filter_map(|event| monitor_lost(event, rules)).collect(),
        false => events.flat_map(|event| signals(pool, event, rules)).collect(),
    };
    let (lag, is_partial) = (place.lag + count, count == BATCH);
    Ok(HeardPool { pool: pool.clone(), begin, end, signals, lag, is_partial })
}

/// What an event in the pool of the daemons means: the place of the one that acts was not given
/// back, so it was lost.
fn monitor_lost(event: &Event, rules: &Rules) -> Option<Signal> {
    let What::Ended { how: Ending::Expired(_) | Ending::Seized { .. }, .. } = &event.what else {
        return None;
    };
    let party = event.party.as_ref()?;
    let signal = Signal {
        labels: Labels::default().with(Labels::RULE, Rule::MONITOR_DOWN).with("host", &*party.host),
        urgency: rules.urgency(Rule::MONITOR_DOWN, Urgency::P1),
        facts: BTreeMap::new(),
        at: event.at,
        change: Change::Happened { lasts: false },
    };
    let pid = party.pid.map(|pid| pid.to_string()).unwrap_or_default();
    rules.is_on(Rule::MONITOR_DOWN).then(|| signal.fact("pid", pid))
}
