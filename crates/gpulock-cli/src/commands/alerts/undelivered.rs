//! `gpulock alerts list --undelivered` and `gpulock alerts resend`.

use gpulock::core::Time;
use gpulock_alerts::book::LetterView;

use crate::args::{AlertList, Resend};
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::list::span;
use super::{line, misnamed, open, warn_if_nobody_watches};

const HEADINGS: [&str; 8] = ["ID", "CHANNEL", "WHY", "ALERTS", "RULES", "POSTED", "TRIES", "STATE"];

/// Prints the messages that had trouble, each with what went wrong last.
pub(super) async fn list(what: &AlertList, session: &Session) -> Result<Code, Failure> {
    let (store, desk) = open(session)?;
    let (book, now) = desk.read().await?;
    let mut views = book.letter_views();
    views.retain(|view| view.failure.is_some() || view.status == "given_up");
    if what.json {
        output::json(&views);
        return Ok(Code::Ok);
    }
    if views.is_empty() {
        output::notice("every message was delivered, or is on its way for the first time");
        return Ok(Code::Ok);
    }
    let rows: Vec<_> = views.iter().map(|view| row(view, now)).collect();
    let table = output::table(&HEADINGS, &rows);
    let mut lines = table.lines();
    lines.next().into_iter().for_each(output::data);
    for (row, view) in lines.zip(&views) {
        output::data(row);
        output::data(&output::visible(&format!("    {}", trouble(view))));
    }
    warn_if_nobody_watches(&store).await?;
    Ok(Code::Ok)
}

/// Sends what was given up again.
pub(super) async fn resend(what: &Resend, session: &Session) -> Result<Code, Failure> {
    let (store, desk) = open(session)?;
    let sent = desk.step(|book, now| book.resend(now, what.id.as_deref())).await?;
    let (book, _) = desk.read().await?;
    match sent.map_err(|unknown| misnamed(&unknown, &book))? {
        0 => output::notice("no message was given up"),
        1 => output::data("1 message is sent again"),
        count => output::data(&format!("{count} messages are sent again")),
    }
    warn_if_nobody_watches(&store).await?;
    Ok(Code::Ok)
}

fn row(view: &LetterView, now: Time) -> Vec<String> {
    vec![
        view.id.clone(),
        view.channel.clone(),
        view.reason.clone(),
        view.alerts.to_string(),
        line(&view.rules.join(",")),
        format!("{} ago", span(now.as_secs_f64() - view.posted_at)),
        view.tries.to_string(),
        view.status.replace('_', " "),
    ]
}

fn trouble(view: &LetterView) -> String {
    let failure = view.failure.as_deref().unwrap_or("unknown");
    format!("{failure}: {}", line(view.error.as_deref().unwrap_or("nothing was said")))
}
