//! `gpulock alerts list`: what fires, the most urgent first.

use std::time::Duration;

use gpulock::brief;
use gpulock::core::Time;
use gpulock_alerts::Alerting;
use gpulock_alerts::book::AlertView;

use crate::args::AlertList;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::{PAGE, line, open, plan_of, short, warn_if_nobody_watches};

const HEADINGS: [&str; 7] = ["LEVEL", "ID", "ALERT", "WHERE", "FOR", "COUNT", "STATE"];

/// Prints the alerts, each with a sentence below it.
pub(super) async fn list(what: &AlertList, session: &Session) -> Result<Code, Failure> {
    // What fires is shown also to those for whom the configuration of channels is not meant.
    let tell = |failure| output::warning(&format!("what is inhibited is not shown: {failure}"));
    let alerting = plan_of(session).map_err(tell).ok();
    let plan = alerting.as_ref().map(|alerting| alerting.plan.clone()).unwrap_or_default();
    let (store, desk) = open(session)?;
    let (book, now) = desk.read().await?;
    let mut views = book.view(now, &plan);
    let of_pool = |view: &AlertView| {
        // What is about no pool is about all of them.
        view.pool.is_empty() || !session.names_pool() || view.pool == session.pool.as_str()
    };
    views.retain(|view| {
        let is_wanted = what.all || view.status != "resolved";
        is_wanted && what.level.is_none_or(|level| view.level >= level) && of_pool(view)
    });
    if what.json {
        output::json(&views);
        return Ok(Code::Ok);
    }
    match views.is_empty() {
        true => output::notice(&nothing(what, session)),
        false => print(&views, now),
    }
    warn_if_nobody_watches(&store).await?;
    alerting.iter().for_each(warn_if_nobody_is_told);
    Ok(Code::Ok)
}

fn print(views: &[AlertView], now: Time) {
    let rows: Vec<_> = views.iter().map(|view| row(view, now)).collect();
    let table = output::table(&HEADINGS, &rows);
    let mut lines = table.lines();
    lines.next().into_iter().for_each(output::data);
    for (row, view) in lines.zip(views) {
        output::data(row);
        output::data(&output::visible(&format!("    {}", line(&view.summary))));
    }
}

fn nothing(what: &AlertList, session: &Session) -> String {
    let kind = if what.all { "no alert is known" } else { "no alert fires" };
    let level = what.level.map(|level| format!(" at level {level} or above"));
    let pool = session.names_pool().then(|| format!(" in pool {}", session.pool));
    format!("{kind}{}{}", level.unwrap_or_default(), pool.unwrap_or_default())
}

fn row(view: &AlertView, now: Time) -> Vec<String> {
    let end = view.ended_at.unwrap_or_else(|| now.as_secs_f64());
    vec![
        view.level.to_string(),
        short(&view.id).to_owned(),
        line(&view.name),
        line(&place(view)),
        span(end - view.began_at),
        view.count.to_string(),
        line(&state(view, now)),
    ]
}

/// What it is about: `lab GPU 0 ocr`.
fn place(view: &AlertView) -> String {
    let parts = [
        view.pool.clone(),
        if view.gpu.is_empty() { String::new() } else { format!("GPU {}", view.gpu) },
        view.task.clone(),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if !parts.is_empty() {
        return parts.join(" ");
    }
    let fact = |name| view.facts.get(name).map(|value| format!("{name} {value}"));
    match view.labels.value("channel") {
        "" => fact("host").unwrap_or_else(|| "-".to_owned()),
        channel => format!("channel {channel}"),
    }
}

fn state(view: &AlertView, now: Time) -> String {
    if let Some(ended) = view.ended_at {
        return format!("resolved {} ago", span(now.as_secs_f64() - ended));
    }
    match (&view.acknowledged, view.muted_by) {
        (Some(word), _) => format!("acknowledged by {}", word.by),
        (None, Some("silence")) => "silenced".to_owned(),
        (None, Some(_)) => "muted by another".to_owned(),
        (None, None) => "firing".to_owned(),
    }
}

/// A number of seconds; what a clock that was set back makes negative is nothing.
pub(super) fn span(seconds: f64) -> String {
    brief(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A span that somebody has chosen: `15m` and not `15m 0s`.
pub(super) fn round(seconds: f64) -> String {
    let text = span(seconds);
    let round = [" 0s", " 0m", " 0h"].iter().find_map(|zero| text.strip_suffix(zero));
    round.unwrap_or(&text).to_owned()
}

fn warn_if_nobody_is_told(alerting: &Alerting) {
    if alerting.plan.channels.is_empty() {
        output::warning(&format!(
            "nobody is told of alerts: the configuration has no channels\n\
             hint: add alerts.channels to config.yml; see {PAGE}"
        ));
    }
}
