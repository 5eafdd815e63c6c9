//! Reads the journals of all pools, and understands what that means for alerts.

use std::collections::BTreeMap;

use gpulock::core::alert::{Change, Labels, Rule, Rules, Signal, Urgency, signals};
use gpulock::core::{Ending, Event, PoolName, What};
use gpulock::store::{Cursor, StoreError};
use gpulock_alerts::Book;

use crate::daemon::{Daemon, monitor_pool};

/// How many entries of a pool are read at once.
const BATCH: usize = 500;

/// How far the book may lag behind with entries that mean nothing for alerts. Journals keep many
/// more, so whoever takes over misses nothing.
const LAG: usize = 1_000;

/// How far the journals have been read by this daemon.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    ends: BTreeMap<PoolName, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    end: Cursor,
    /// How many entries the book lags behind.
    lag: usize,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Heard {
    pools: Vec<HeardPool>,
}

#[derive(Debug)]
struct HeardPool {
    pool: PoolName,
    end: Cursor,
    signals: Vec<Signal>,
    /// How many entries the book lags behind, if it does not take this in.
    lag: usize,
    is_new: bool,
    is_partial: bool,
}

impl Hearing {
    /// Reads on from where this daemon was, or from where the book is.
    pub(super) async fn read(
        &self,
        daemon: &Daemon,
        book: &Book,
        rules: &Rules,
    ) -> Result<Heard, StoreError> {
        let mut pools = Vec::new();
        for pool in daemon.store.pools().await? {
            let known = match self.ends.get(&pool) {
                Some(place) => Some(*place),
                None => book.heard(&pool).map(|end| Place { end, lag: 0 }),
            };
            let heard = match known {
                Some(place) => read_on(daemon, pool, place, rules).await?,
                // At the very first look nobody wants to hear of the past; later, a pool that is
                // not known has begun since.
                None => {
                    let is_first_look = !book.has_heard();
                    let end = match is_first_look {
                        true => daemon.journal.end(&pool).await?,
                        false => Cursor::START,
                    };
                    let signals = Vec::new();
                    let is_partial = !is_first_look;
                    HeardPool { pool, end, signals, lag: 0, is_new: true, is_partial }
                }
            };
            pools.push(heard);
        }
        Ok(Heard { pools })
    }

    /// It is in the book, as far as it belongs there.
    pub(super) fn note(&mut self, heard: Heard) {
        for one in heard.pools {
            let lag = if one.is_written() { 0 } else { one.lag };
            self.ends.insert(one.pool, Place { end: one.end, lag });
        }
    }
}

async fn read_on(
    daemon: &Daemon,
    pool: PoolName,
    place: Place,
    rules: &Rules,
) -> Result<HeardPool, StoreError> {
    let followed = daemon.store.follow(&pool, place.end, BATCH).await?;
    let mut end = followed.entries.last().map_or(place.end, |entry| entry.cursor);
    // The store has lost what it had written, and now writes smaller places.
    if followed.entries.is_empty() && !followed.is_gapless {
        end = daemon.journal.end(&pool).await?;
    }
    let events = followed.entries.iter().map(|entry| &entry.event);
    let signals = match pool == monitor_pool() {
        true => events.filter_map(|event| monitor_lost(event, rules)).collect(),
        false => events.flat_map(|event| signals(&pool, event, rules)).collect(),
    };
    let lag = place.lag + followed.entries.len();
    let is_partial = followed.entries.len() == BATCH;
    Ok(HeardPool { pool, end, signals, lag, is_new: false, is_partial })
}

impl Heard {
    /// Takes it into the book. While nothing of it means anything for alerts, the book is left
    /// as it is for a while.
    pub(super) fn tell(&self, book: &mut Book) {
        for one in &self.pools {
            let concerns = one.signals.iter().any(|signal| book.concerns(signal));
            if concerns {
                book.hear(one.signals.iter().cloned());
            }
            if concerns || one.is_written() {
                book.note_heard(&one.pool, one.end);
            }
        }
    }

    /// There is more to read.
    pub(super) fn is_partial(&self) -> bool {
        self.pools.iter().any(|pool| pool.is_partial)
    }
}

impl HeardPool {
    /// Whether the book notes the place in any case.
    fn is_written(&self) -> bool {
        self.is_new || self.lag >= LAG
    }
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
