//! The mailboxes of clients: each is one of the store's own, and an answer that does not end.
//!
//! A wake-up from one client to another goes from call to mailbox without the store between.
//! One from elsewhere comes through the store's mailbox.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};
use gpulock::core::{Changes, Channel, Wake, Why};
use gpulock::store::http::wire::Line;
use gpulock::store::{Award, Letter, Mailbox, Store, StoreError, Versions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// A client that has not taken so many lines has to begin anew.
const UNREAD: usize = 1_024;

/// How many mailboxes there are, and how they are kept open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At the same time.
    pub(crate) mailboxes: usize,
    /// At least so often comes a line.
    pub(crate) keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mailboxes: 1_000, keep_alive: Duration::from_secs(5) }
    }
}

/// Why a mailbox was not opened.
#[derive(Debug)]
pub(crate) enum NotOpen {
    /// The server is about to stop.
    Stopping,
    /// There are as many as there may be.
    AllTaken,
    /// The store's own answer.
    Store(StoreError),
}

impl From<StoreError> for NotOpen {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The mailboxes that are open. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Mailboxes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    keep_alive: Duration,
    places: Arc<Semaphore>,
    open: Mutex<HashMap<Channel, Open>>,
}

#[derive(Debug)]
struct Open {
    lines: mpsc::Sender<Line>,
    stop: CancellationToken,
    delivery: JoinHandle<()>,
}

/// Wake-ups for mailboxes of this daemon.
pub(crate) type Own = Vec<(Wake, mpsc::Sender<Line>)>;

impl Mailboxes {
    /// None so far. All end at `shutdown`.
    pub(crate) fn new(store: Arc<dyn Store>, shutdown: CancellationToken) -> Self {
        Self::within(store, shutdown, Limits::default())
    }

    /// The same with other limits.
    pub(crate) fn within(
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
        limits: Limits,
    ) -> Self {
        let Limits { mailboxes, keep_alive } = limits;
        let places = Arc::new(Semaphore::new(mailboxes));
        let shared = Shared { store, shutdown, keep_alive, places, open: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Opens a mailbox, at the address that it had before if it had one.
    pub(crate) async fn open(
        &self,
        before: Option<Channel>,
    ) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, NotOpen> {
        let shared = &self.shared;
        let ended = before.as_ref().and_then(|channel| shared.end(channel));
        if let Some(delivery) = ended {
            // The address is free when the earlier mailbox is dropped, however it ended.
            let _ = delivery.await;
        }
        if shared.shutdown.is_cancelled() {
            return Err(NotOpen::Stopping);
        }
        let place = Arc::clone(&shared.places).try_acquire_owned();
        let place = place.map_err(|_| NotOpen::AllTaken)?;
        let mailbox = match &before {
            Some(channel) => shared.store.reopen_mailbox(channel).await?,
            None => shared.store.open_mailbox().await?,
        };
        let (lines, unread) = mpsc::channel(UNREAD);
        let keep_alive_millis = u64::try_from(shared.keep_alive.as_millis()).unwrap_or(u64::MAX);
        let first = Line::Open { channel: mailbox.channel(), keep_alive_millis };
        // It is the first of many that there is room for.
        let _ = lines.try_send(first);
        Shared::begin(shared, mailbox, lines, place);
        Ok(ReceiverStream::new(unread).map(|line| Ok(written(&line))))
    }

    /// Takes the wake-ups that are for mailboxes of this daemon.
    pub(crate) fn take_own(&self, wake: &mut Vec<Wake>) -> Own {
        let open = self.shared.lock();
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for wake in wake.drain(..) {
            match open.get(&wake.channel) {
                Some(mailbox) => own.push((wake, mailbox.lines.clone())),
                None => others.push(wake),
            }
        }
        *wake = others;
        own
    }

    /// Delivers them, after the changes that they tell of were written: whoever was granted
    /// something gets it with the letter. `None`: nobody knows whether they were.
    pub(crate) fn deliver(&self, own: Own, written: Option<(&Changes, Versions)>) {
        for (wake, lines) in own {
            let award = written.and_then(|(changes, versions)| award(&wake, changes, versions));
            let Wake { channel, lease_id, why } = wake;
            let line = award.unwrap_or(Line::Wake { lease_id, why: why.into() });
            if lines.try_send(line).is_err() {
                // It cannot keep up, or is about to end anyway.
                self.shared.end(&channel);
            }
        }
    }
}

fn award(wake: &Wake, changes: &Changes, versions: Versions) -> Option<Line> {
    let lease = changes.leases.get(&wake.lease_id)?.clone()?;
    let ledger = changes.ledger.clone()?;
    let is_certain = wake.why == Why::Granted && changes.reads.leases;
    let award = Award { lease, ledger, version: versions.leases };
    is_certain.then(|| Letter::Awarded(Box::new(award)).into())
}

impl Shared {
    fn begin(
        shared: &Arc<Self>,
        mailbox: Box<dyn Mailbox>,
        lines: mpsc::Sender<Line>,
        place: OwnedSemaphorePermit,
    ) {
        let (channel, stop) = (mailbox.channel(), shared.shutdown.child_token());
        let begin = Instant::now() + shared.keep_alive;
        let ticks = interval_at(begin, shared.keep_alive);
        let mut open = shared.lock();
        let delivery = tokio::spawn({
            let (shared, channel) = (Arc::clone(shared), channel.clone());
            let (stop, lines) = (stop.clone(), lines.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = lines.closed() => {}
                    () = deliver_all(mailbox, &lines, ticks) => {}
                }
                shared.forget(&channel, &lines);
                drop(place);
            }
        });
        open.insert(channel, Open { lines, stop, delivery });
    }

    /// Ends a mailbox, which it has when what is answered has ended.
    fn end(&self, channel: &Channel) -> Option<JoinHandle<()>> {
        let Open { stop, delivery, .. } = self.lock().remove(channel)?;
        stop.cancel();
        Some(delivery)
    }

    /// Strikes a mailbox off, unless another one has its address by now.
    fn forget(&self, channel: &Channel, lines: &mpsc::Sender<Line>) {
        let mut open = self.lock();
        if open.get(channel).is_some_and(|mailbox| mailbox.lines.same_channel(lines)) {
            open.remove(channel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands on every letter, until the mailbox breaks or the client cannot keep up.
async fn deliver_all(
    mut mailbox: Box<dyn Mailbox>,
    lines: &mpsc::Sender<Line>,
    mut ticks: Interval,
) {
    while let Some(letter) = next(&mut *mailbox, lines, &mut ticks).await {
        if lines.try_send(letter.into()).is_err() {
            return;
        }
    }
}

/// The next letter; until it comes, lines without meaning.
async fn next(
    mailbox: &mut dyn Mailbox,
    lines: &mpsc::Sender<Line>,
    ticks: &mut Interval,
) -> Option<Letter> {
    let mut letter = pin!(mailbox.next());
    loop {
        tokio::select! {
            letter = &mut letter => return letter.ok(),
            _ = ticks.tick() => lines.try_send(Line::Alive).ok()?,
        }
    }
}

fn written(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line)
        .unwrap_or_else(|error| unreachable!("lines are plain data: {error}"));
    text.push(b'\n');
    text.into()
}
