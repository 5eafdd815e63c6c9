//! `gpulock alerts route`: who would be told of an alert, and when.

use gpulock::core::alert::{Labels, Urgency};
use gpulock_alerts::Alerting;
use gpulock_alerts::book::{Explanation, ReachView, RouteView};

use crate::args::{AlertRoute, Label};
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::list::round;
use super::{PAGE, open, plan_of};

/// Explains, and sends nothing.
pub(super) async fn route(what: &AlertRoute, session: &Session) -> Result<Code, Failure> {
    let alerting = plan_of(session)?;
    let labels = labels_of(&what.labels, &alerting, session)?;
    let (_, desk) = open(session)?;
    let (book, now) = desk.read().await?;
    let muted = alerting.mute_times.active(now);
    let explained = book.explain(now, &alerting.plan, &muted, &labels);
    match what.json {
        true => output::json(&explained),
        false => output::data(&output::visible(&told(&explained))),
    }
    Ok(Code::Ok)
}

/// What was said, with the level of the rule and the pool of `--pool`.
fn labels_of(said: &[Label], alerting: &Alerting, session: &Session) -> Result<Labels, Failure> {
    let mut labels = Labels::default();
    for Label { name, value } in said {
        if !labels.value(name).is_empty() {
            return Err(Failure::new(Code::Usage, format!("the label {name} is there twice"))
                .hint("an alert has one value for each label"));
        }
        labels.set(name, value.as_str());
    }
    if labels.value(Labels::SEVERITY).is_empty() {
        let level = alerting.rules.urgency(labels.value(Labels::RULE), Urgency::Warning);
        labels.set(Labels::SEVERITY, level.as_str());
    }
    if labels.value("pool").is_empty() && session.names_pool() {
        labels.set("pool", session.pool.as_str());
    }
    Ok(labels)
}

/// The whole answer, for people.
fn told(explained: &Explanation) -> String {
    let mut lines = vec![row("labels", &explained.labels.to_string())];
    for route in &explained.routes {
        tell_route(route, &mut lines);
    }
    for mute in &explained.muted_by {
        let by = if mute.by == "silence" { "silence" } else { "alert" };
        lines.push(row("muted by", &format!("{by} {}: {}", mute.id, mute.what)));
    }
    let is_told = |route: &RouteView| {
        let steps = route.escalation.iter().flat_map(|step| &step.channels);
        let is_open = route.mute_times.iter().any(|window| window.is_active);
        !is_open && route.channels.iter().chain(steps).any(|channel| channel.is_told)
    };
    if !explained.muted_by.is_empty() {
        lines.push("nobody is told while it is muted".to_owned());
    } else if !explained.routes.iter().any(is_told) {
        lines.push(format!("nobody is told; {PAGE} says how to describe channels and routes"));
    }
    lines.join("\n")
}

fn tell_route(route: &RouteView, lines: &mut Vec<String>) {
    lines.push(row("route", if route.path == "{}" { "{} (the top)" } else { &route.path }));
    lines.push(row("  group", &format!("{{{}}}", route.group_labels)));
    lines.push(row(
        "  rhythm",
        &format!(
            "first message after {}, news {} later, again every {}",
            round(route.group_wait_seconds),
            round(route.group_interval_seconds),
            round(route.repeat_interval_seconds)
        ),
    ));
    let channels = route.channels.iter().map(|channel| ("  at once".to_owned(), channel));
    let steps = route.escalation.iter().flat_map(|step| {
        let after = format!("  after {}", round(step.after_seconds));
        step.channels.iter().map(move |channel| (after.clone(), channel))
    });
    lines.extend(channels.chain(steps).map(|(when, channel)| row(&when, &reached(channel))));
    for window in &route.mute_times {
        let state = if window.is_active { "open now: nobody is told" } else { "not now" };
        lines.push(row("  mute time", &format!("{} ({state})", window.name)));
    }
}

fn reached(channel: &ReachView) -> String {
    match &channel.why_not {
        None => channel.channel.clone(),
        Some(why) => format!("{}: not told, {why}", channel.channel),
    }
}

fn row(name: &str, value: &str) -> String {
    format!("{name:<16}{value}").trim_end().to_owned()
}
