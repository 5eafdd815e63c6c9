//! `gpulock alerts ack`: somebody has alerts in hand.

use gpulock::core::Time;
use gpulock_alerts::book::{Acknowledgement, Alert, Book, Unknown};

use crate::args::Ack;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::list::span;
use super::{misnamed, open, short, speaker};

/// Acknowledges all of them, or none if one is not there.
pub(super) async fn acknowledge(what: &Ack, session: &Session) -> Result<Code, Failure> {
    let (_, desk) = open(session)?;
    let by = speaker(what.by.as_ref());
    let note = what.note.clone().unwrap_or_default();
    let word = |now| Acknowledgement { by: by.clone(), at: now, note: note.clone() };
    let done = desk.step(|book, now| all(book, &what.ids, &word(now))).await?;
    let (book, now) = desk.read().await?;
    for (alert, is_new) in done.map_err(|unknown| misnamed(&unknown, &book))? {
        tell(&alert, is_new, now);
    }
    Ok(Code::Ok)
}

/// The alerts, and whether each of them was not acknowledged before.
fn all(
    book: &mut Book,
    ids: &[String],
    word: &Acknowledgement,
) -> Result<Vec<(Alert, bool)>, Unknown> {
    let mut after = book.clone();
    let mut done = Vec::new();
    for id in ids {
        let id = after.acknowledge(&id.to_lowercase(), word.clone())?;
        let alert = after.alerts().find(|(known, _)| **known == id).map(|(_, alert)| alert.clone());
        let was = book.alerts().find(|(known, _)| **known == id);
        let is_new = was.is_some_and(|(_, alert)| alert.acknowledged.is_none());
        done.extend(alert.map(|alert| (alert, is_new)));
    }
    *book = after;
    Ok(done)
}

fn tell(alert: &Alert, is_new: bool, now: Time) {
    let id = alert.labels.fingerprint();
    let what = format!("{} {}", short(id.as_str()), alert.name());
    match &alert.acknowledged {
        Some(first) if !is_new => output::notice(&format!(
            "{what} was acknowledged by {} {} ago, and stays so",
            first.by,
            span(now.since(first.at).as_secs_f64())
        )),
        _ => output::data(&output::visible(&format!("acknowledged {what}"))),
    }
}
