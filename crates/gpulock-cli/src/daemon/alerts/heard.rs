//! What was read of the journals, and how it gets into the book.

use gpulock::core::PoolName;
use gpulock::core::alert::Signal;
use gpulock::store::Cursor;
use gpulock_alerts::Book;

/// How far the book may lag behind with entries that mean nothing for alerts. Journals keep many
/// more, so whoever takes over misses nothing.
const LAG: usize = 1_000;

/// What was read.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) pools: Vec<HeardPool>,
}

/// What was read of the journal of one pool.
#[derive(Debug)]
pub(super) struct HeardPool {
    pub(super) pool: PoolName,
    pub(super) begin: Begin,
    /// Up to where.
    pub(super) end: Cursor,
    pub(super) signals: Vec<Signal>,
    /// How many entries the book lags behind, if it does not take this in.
    pub(super) lag: usize,
    /// There may be more to read.
    pub(super) is_partial: bool,
}

/// From where on a journal was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// It was never read before.
    New,
    /// From this place on.
    After(Cursor),
    /// The store has lost what it had written, and now writes smaller places.
    Anew,
}

impl Heard {
    /// Takes it into the book. While nothing of it means anything for alerts, the book is left
    /// as it is for a while. The pools come back that the book knows more of: somebody else has
    /// read on, or this daemon did and has not heard that the book was written. They are to be
    /// read again from there.
    #[must_use]
    pub(super) fn tell(&self, book: &mut Book) -> Vec<PoolName> {
        let mut outdated = Vec::new();
        for one in &self.pools {
            if !one.follows(book) {
                outdated.push(one.pool.clone());
                continue;
            }
            let concerns = one.signals.iter().any(|signal| book.concerns(signal));
            if concerns {
                book.hear(one.signals.iter().cloned());
            }
            if concerns || one.is_written() {
                book.note_heard(&one.pool, one.end);
            }
        }
        outdated
    }

    /// There is more to read.
    pub(super) fn is_partial(&self) -> bool {
        self.pools.iter().any(|pool| pool.is_partial)
    }
}

impl HeardPool {
    /// Whether it says nothing that the book knows already.
    fn follows(&self, book: &Book) -> bool {
        let known = book.heard(&self.pool);
        match self.begin {
            Begin::New => known.is_none(),
            Begin::After(begin) => known.is_none_or(|known| known <= begin),
            Begin::Anew => true,
        }
    }

    /// Whether the book notes the place in any case.
    pub(super) fn is_written(&self) -> bool {
        !matches!(self.begin, Begin::After(_)) || self.lag >= LAG
    }
}
