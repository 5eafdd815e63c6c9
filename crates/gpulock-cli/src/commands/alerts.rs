//! `gpulock alerts`: what fires, who has it in hand, who is told. The book is in the store, so all
//! of this works without a daemon; only a daemon finds what is new and sends messages.

mod list;
mod route;
mod silence;
mod trial;
mod undelivered;
mod word;

use std::sync::Arc;

use gpulock::core::alert::Fingerprint;
use gpulock::process;
use gpulock::store::{Store, StoreError};
use gpulock_alerts::book::{Alert, Book, Unknown};
use gpulock_alerts::{Alerting, Desk};

use crate::args::Alerts;
use crate::daemon::monitor_pool;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

pub(crate) use silence::new_id;

/// Where it is described how to be told.
const PAGE: &str = "docs/guides/alerts.md";

/// So many digits of an id are shown.
const SHORT: usize = 8;

/// So many alerts are proposed.
const MOST_PROPOSED: usize = 3;

/// Looks into the book of alerts, or writes something into it.
pub(crate) async fn alerts(what: &Alerts, session: &Session) -> Result<Code, Failure> {
    match what {
        Alerts::List(what) if what.undelivered => undelivered::list(what, session).await,
        Alerts::List(what) => list::list(what, session).await,
        Alerts::Ack(what) => word::acknowledge(what, session).await,
        Alerts::Silence(what) => silence::silence(what, session).await,
        Alerts::Silences { json } => silence::list(*json, session).await,
        Alerts::Unsilence { id } => silence::end(id, session).await,
        Alerts::Resend(what) => undelivered::resend(what, session).await,
        Alerts::Test(what) => trial::trial(what, session).await,
        Alerts::Route(what) => route::route(what, session).await,
    }
}

/// Who would be told, as the configuration of this command says. No channel is opened: whoever only
/// looks need not be allowed to read the secrets of channels.
fn plan_of(session: &Session) -> Result<Alerting, Failure> {
    Ok(Alerting::without_channels(session.config())?.unwrap_or_default())
}

/// The book of the session's store.
fn open(session: &Session) -> Result<(Arc<dyn Store>, Desk), Failure> {
    let store = session.connect()?;
    Ok((Arc::clone(&store), Desk::new(store)))
}

/// Whether a daemon acts on this store now.
async fn is_watched(store: &Arc<dyn Store>) -> Result<bool, StoreError> {
    let pool = monitor_pool();
    if !store.pools().await?.contains(&pool) {
        return Ok(false);
    }
    let view = store.read(&pool, None).await?;
    let lives = |lease: &gpulock::core::Lease| {
        !lease.is_over() && lease.deadline().is_some_and(|deadline| view.now < deadline)
    };
    Ok(view.pool.leases.iter().any(lives))
}

async fn warn_if_nobody_watches(store: &Arc<dyn Store>) -> Result<(), Failure> {
    if !is_watched(store).await? {
        output::warning(
            "no daemon acts on this store: nothing new is found, and no message is sent\n\
             hint: `gpulock serve` starts one",
        );
    }
    Ok(())
}

/// USER@HOST, unless somebody says otherwise.
fn speaker(by: Option<&String>) -> String {
    by.cloned().unwrap_or_else(|| {
        let owner = process::this_owner("gpulock");
        format!("{}@{}", owner.user, owner.host)
    })
}

/// The beginning of an id, as it is shown and taken.
fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// Other people's words in one line, and not too long.
fn line(text: &str) -> String {
    const LONGEST: usize = 200;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// What somebody said means nothing.
fn misnamed(unknown: &Unknown, book: &Book) -> Failure {
    let (code, hint) = match unknown {
        Unknown::Alert(id) => (Code::Lost, proposal(id, book)),
        Unknown::Ambiguous(id) => {
            let begins = |(known, _): &(&Fingerprint, &Alert)| known.as_str().starts_with(id);
            let meant = book.alerts().filter(begins).map(|(known, alert)| (known.as_str(), alert));
            (Code::Usage, format!("write more of it: {}", named(meant, usize::MAX, false)))
        }
        Unknown::Over(_) => {
            (Code::Lost, "`gpulock alerts list --all` shows when it ended".to_owned())
        }
        Unknown::Silence(_) => (Code::Lost, "`gpulock alerts silences` lists them".to_owned()),
        Unknown::Letter(_) => {
            (Code::Lost, "`gpulock alerts list --undelivered` lists them".to_owned())
        }
    };
    Failure::new(code, unknown).hint(hint)
}

/// Which alerts may have been meant: those of that rule, or with ids that begin the same.
fn proposal(id: &str, book: &Book) -> String {
    let alike = |known: &str| known.chars().zip(id.chars()).take_while(|(a, b)| a == b).count();
    let firing = book.alerts().filter(|(_, alert)| !alert.is_over());
    let mut firing: Vec<_> = firing.map(|(known, alert)| (known.as_str(), alert)).collect();
    firing.sort_by_key(|(known, alert)| {
        (!alert.name().eq_ignore_ascii_case(id), std::cmp::Reverse(alike(known)))
    });
    match firing.is_empty() {
        true => "no alert fires; `gpulock alerts list --all` shows those that are over".to_owned(),
        false => format!("these fire: {}", named(firing.into_iter(), MOST_PROPOSED, true)),
    }
}

fn named<'b>(
    alerts: impl Iterator<Item = (&'b str, &'b Alert)>,
    most: usize,
    is_short: bool,
) -> String {
    let shown = |id: &'b str| if is_short { short(id) } else { id };
    let names: Vec<_> =
        alerts.take(most).map(|(id, alert)| format!("{} {}", shown(id), alert.name())).collect();
    names.join(", ")
}
