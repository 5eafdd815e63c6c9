//! Alerts: what happens in the pools goes into the book of alerts, and from there to those who are
//! to be told. The daemon that acts does it; whoever takes over goes on where it stopped.

mod findings;
mod heard;
mod hearing;
mod store_watch;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use gpulock::config::Config;
use gpulock::store::memory::MemoryStore;
use gpulock::store::{Store, StoreError};
use gpulock_alerts::{Alerting, Book, Desk, Dispatch, Round};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::exit::Failure;
use hearing::Hearing;
use store_watch::{Past, StoreWatch};
pub(crate) use switch::keep_switch;

/// The longest time between two looks at the book: others may have changed it.
const LOOK: Duration = Duration::from_secs(1);

/// At the end, messages on their way have this long.
const LAST: Duration = Duration::from_secs(3);

/// Everything about alerts that the daemon's parts share.
#[derive(Debug)]
pub(crate) struct Alerts {
    /// The book that all daemons on the store share.
    desk: Arc<Desk>,
    /// This daemon's own book, about the store itself: what is wrong with that cannot be written
    /// down there.
    own: Arc<Desk>,
    alerting: watch::Sender<Arc<Alerting>>,
    /// Somebody has changed the book through this daemon.
    changed: Notify,
    /// Who delivers.
    by: String,
}

impl Alerts {
    /// Of this store, told as the configuration says.
    ///
    /// # Errors
    /// If the configuration's section on alerts makes no sense.
    pub(crate) fn new(store: Arc<dyn Store>, config: &Config, host: &str) -> Result<Self, Failure> {
        Ok(Self {
            desk: Arc::new(Desk::new(store)),
            own: Arc::new(Desk::new(Arc::new(MemoryStore::new()))),
            alerting: watch::Sender::new(Arc::new(Alerting::load(config)?.unwrap_or_default())),
            changed: Notify::new(),
            by: format!("{host}/{}", std::process::id()),
        })
    }

    /// The book that all daemons on the store share.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// This daemon's own book, about the store itself.
    pub(crate) fn own(&self) -> &Desk {
        &self.own
    }

    /// Who is told, and how, as the configuration in force says.
    pub(crate) fn alerting(&self) -> Arc<Alerting> {
        Arc::clone(&self.alerting.borrow())
    }

    /// Tells as another configuration says from now on.
    ///
    /// # Errors
    /// If its section on alerts makes no sense; then nothing changes.
    pub(crate) fn replace(&self, config: &Config) -> Result<(), Failure> {
        self.alerting.send_replace(Arc::new(Alerting::load(config)?.unwrap_or_default()));
        Ok(())
    }

    /// Somebody has changed the book through this daemon: it is looked at now.
    pub(crate) fn note_change(&self) {
        self.changed.notify_one();
    }
}

/// Looks after the book and delivers what is due, until `shutdown`. It has a task of its own: a
/// storm of alerts must not keep the monitor waiting.
pub(crate) async fn run(daemon: &Arc<Daemon>, shutdown: &CancellationToken) {
    let working = work(Arc::clone(daemon), shutdown.clone());
    if let Err(error) = tokio::spawn(working).await {
        tracing::error!("nobody is told of alerts any more: {error}");
    }
}

async fn work(daemon: Arc<Daemon>, shutdown: CancellationToken) {
    let mut clerk = Clerk::new(Arc::clone(&daemon));
    let (mut news, mut leads) = (daemon.journal.ends(), daemon.leadership.watch());
    let mut alerting = daemon.alerts.alerting.subscribe();
    while !shutdown.is_cancelled() {
        let pause = clerk.work().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = daemon.alerts.changed.notified() => {}
            Ok(()) = news.changed() => {}
            Ok(()) = leads.changed() => {}
            Ok(()) = alerting.changed() => {}
            Some(_) = clerk.deliveries.join_next() => {}
            () = shutdown.cancelled() => {}
        }
    }
    let finish = async { while clerk.deliveries.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST, finish).await.is_err() {
        tracing::warn!("messages that are still on their way will be sent again");
    }
}

/// Does the work on both books.
struct Clerk {
    daemon: Arc<Daemon>,
    shared: Dispatch,
    own: Dispatch,
    hearing: Hearing,
    store_watch: StoreWatch,
    /// Still to be written into the shared book.
    past: Option<Past>,
    deliveries: JoinSet<()>,
}

impl Clerk {
    fn new(daemon: Arc<Daemon>) -> Self {
        let Alerts { desk, own, by, .. } = &daemon.alerts;
        Self {
            shared: Dispatch::new(Arc::clone(desk), by.clone()),
            own: Dispatch::new(Arc::clone(own), by.clone()),
            daemon,
            hearing: Hearing::default(),
            store_watch: StoreWatch::default(),
            past: None,
            deliveries: JoinSet::new(),
        }
    }

    /// One round over both books. How long until the next.
    async fn work(&mut self) -> Duration {
        let alerting = self.daemon.alerts.alerting();
        let leads = self.daemon.leadership.leads();
        let worked = match leads {
            true => self.serve_shared(&alerting).await,
            false => {
                self.hearing = Hearing::default();
                self.daemon.alerts.desk.read().await.map(|_| LOOK)
            }
        };
        let told = self.store_watch.note(worked.as_ref().err(), leads, &alerting);
        self.past = told.past.or(self.past.take());
        if worked.is_ok() {
            self.write_down_the_past().await;
        }
        let own = self.own.round(&alerting, |book, _| book.hear(told.signals.clone())).await;
        let own = own.map(|round| self.send(&self.own.clone(), &alerting, round));
        worked.unwrap_or(LOOK).min(own.unwrap_or(LOOK)).min(LOOK)
    }

    /// Writes into the shared book that its store was away, now that it is back.
    async fn write_down_the_past(&mut self) {
        let Some(past) = &self.past else { return };
        let remember =
            |book: &mut Book, now| book.remember(past.signal.clone(), now, past.began.elapsed());
        match self.daemon.alerts.desk.step(remember).await {
            Ok(()) => self.past = None,
            Err(error) => {
                tracing::warn!("that the store was away cannot be written down yet: {error}");
            }
        }
    }

    /// Takes what has happened into the shared book, and sends what is due.
    async fn serve_shared(&mut self, alerting: &Arc<Alerting>) -> Result<Duration, StoreError> {
        let (book, _) = self.daemon.alerts.desk.read().await?;
        let heard = self.hearing.read(&self.daemon, &book, &alerting.rules).await?;
        let mut outdated = Vec::new();
        let round = self.shared.round(alerting, |book, _| outdated = heard.tell(book)).await?;
        let is_behind = heard.is_partial() || !outdated.is_empty();
        self.hearing.note(heard, &outdated);
        let pause = self.send(&self.shared.clone(), alerting, round);
        Ok(if is_behind { Duration::ZERO } else { pause })
    }

    /// Sends what a round has taken out, each on its own. How long until there is more to do.
    fn send(&mut self, dispatch: &Dispatch, alerting: &Arc<Alerting>, round: Round) -> Duration {
        let Round { parcels, next, taken_at } = round;
        let took_none = parcels.is_empty();
        for parcel in parcels {
            let (dispatch, alerting) = (dispatch.clone(), Arc::clone(alerting));
            self.deliveries
                .spawn(async move { dispatch.deliver(&alerting, parcel, taken_at).await });
        }
        match next {
            // What is due and could not be had waits for a message on its way. When that has
            // arrived is heard of, also if it is another daemon's, at the next look.
            Some(next) if took_none && next.is_zero() => LOOK,
            Some(next) => next.max(SHORTEST),
            None => LOOK,
        }
    }
}

/// No pause is shorter, whatever the book says.
const SHORTEST: Duration = Duration::from_millis(20);
