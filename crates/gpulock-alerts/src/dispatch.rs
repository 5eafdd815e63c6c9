//! From the book to the channels: what is due is taken out, delivered, and what became of it is
//! written down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpulock::core::Time;
use gpulock::store::StoreError;

use crate::alerting::Alerting;
use crate::book::{Book, Parcel};
use crate::desk::Desk;

/// How long it is tried to write down what became of a message. After that its time is over in the
/// book too, and it is sent again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// A message that was taken longer ago than this is not sent: somebody else may have taken it.
/// It is less than the time for which a message is kept.
const FRESH: Duration = Duration::from_secs(5);

/// Delivers what a book wants delivered.
#[derive(Clone, Debug)]
pub struct Dispatch {
    desk: Arc<Desk>,
    /// Who delivers.
    by: String,
}

/// What a round gives.
#[derive(Debug)]
pub struct Round {
    /// What is to be delivered now, each by [`Dispatch::deliver`].
    pub parcels: Vec<Parcel>,
    /// How long until there is something to do, if nothing happens before.
    pub next: Option<Duration>,
    /// When they were taken.
    pub taken_at: Instant,
}

impl Dispatch {
    /// Delivers from this desk, as `by`.
    pub fn new(desk: Arc<Desk>, by: impl Into<String>) -> Self {
        Self { desk, by: by.into() }
    }

    /// Takes news into the book, lets time pass there, and takes out what is due, all in one step.
    /// `hear` may be called several times.
    ///
    /// # Errors
    /// If the store does not answer. What was taken out without an answer is taken again later.
    pub async fn round(
        &self,
        alerting: &Alerting,
        mut hear: impl FnMut(&mut Book, Time),
    ) -> Result<Round, StoreError> {
        let taken_at = Instant::now();
        let (parcels, next) = self
            .desk
            .step(|book, now| {
                hear(book, now);
                book.tick(now, &alerting.plan, &alerting.mute_times.active(now));
                let parcels = book.take(now, &alerting.plan, &self.by);
                let next = book.next_due(&alerting.plan).map(|moment| moment.since(now));
                (parcels, next)
            })
            .await?;
        Ok(Round { parcels, next, taken_at })
    }

    /// Delivers a message that was taken then, and writes down what became of it.
    pub async fn deliver(&self, alerting: &Alerting, parcel: Parcel, taken_at: Instant) {
        if taken_at.elapsed() > FRESH {
            return;
        }
        let begun = Instant::now();
        let outcome = alerting.deliver(&parcel.notification, parcel.taken_at).await;
        let took = begun.elapsed();
        if let Err(failure) = &outcome {
            tracing::warn!(
                target: "gpulock::alerts",
                channel = parcel.channel,
                reason = failure.reason.as_str(),
                "a message was not delivered: {failure}"
            );
        }
        let id = &parcel.notification.id;
        let until = Instant::now() + PATIENCE;
        let settle = || {
            self.desk.step(|book, now| {
                // Who was so slow that another has taken it has nothing to say about its failure.
                if outcome.is_ok() || book.is_with(id, &self.by) {
                    book.settle(now, id, outcome.as_ref().copied(), took);
                }
            })
        };
        while let Err(error) = settle().await {
            if Instant::now() >= until {
                tracing::warn!(
                    target: "gpulock::alerts",
                    channel = parcel.channel,
                    "what became of a message cannot be written down, it may be sent again: {error}"
                );
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
