//! Alerts, and who was told of them: in the shape of Alertmanager's own metrics.

use std::collections::BTreeMap;

use gpulock::core::alert::Urgency;
use gpulock_alerts::Reason;

use super::{Family, Sample, Unit, Value, family, gauge};
use crate::daemon::metrics::alerts::{AlertFigures, ChannelFigures, QUIET, STATES};
use crate::daemon::metrics::exposition::Labels;
use crate::daemon::metrics::scrape::Histogram;

pub(super) fn families(figures: &AlertFigures) -> Vec<Family> {
    let mut families = vec![firing(figures), received(figures), suppressed(figures)];
    families.extend(messages(&figures.channels));
    families.push(failed(&figures.channels));
    families.push(latency(&figures.channels));
    families
}

fn firing(figures: &AlertFigures) -> Family {
    let samples = Urgency::ALL.iter().flat_map(|level| {
        STATES.map(|state| {
            let count = figures.firing.get(&(level.as_str(), state)).copied();
            let labels = vec![("level", level.to_string()), ("state", state.to_owned())];
            Sample { labels, value: gauge(count.unwrap_or_default()) }
        })
    });
    let help =
        "Alerts that are not over, by their state: firing, acknowledged, silenced or inhibited.";
    family("gpulock_alerts", help, None, samples.collect())
}

fn received(figures: &AlertFigures) -> Family {
    let sample = |kind: &str, count| Sample {
        labels: vec![("kind", kind.to_owned())],
        value: Value::Counter(count),
    };
    let help = "Signals about alerts: of new ones, and repeated ones that were only counted.";
    let samples = vec![sample("new", figures.begun), sample("repeated", figures.repeated)];
    family("gpulock_alerts_received", help, None, samples)
}

fn suppressed(figures: &AlertFigures) -> Family {
    let samples = QUIET.map(|reason| {
        let count = figures.suppressed.get(reason).copied().unwrap_or_default();
        let labels = vec![("reason", reason.to_owned())];
        Sample { labels, value: Value::Counter(count) }
    });
    let help = "Alerts that nobody was told of in their turn: silence, inhibit, mute_time, budget.";
    family("gpulock_notifications_suppressed", help, None, samples.into())
}

fn messages(channels: &[ChannelFigures]) -> [Family; 4] {
    let each = |labels: fn(&ChannelFigures) -> Labels, value: fn(&ChannelFigures) -> Value| {
        let sample = |channel| Sample { labels: labels(channel), value: value(channel) };
        channels.iter().map(sample).collect::<Vec<_>>()
    };
    let delivered = each(of_channel, |channel| Value::Counter(channel.sent));
    let tries = each(of_channel, |channel| Value::Counter(channel.requests));
    let waiting = each(named, |channel| gauge(channel.waiting));
    let given_up = each(named, |channel| Value::Counter(channel.given_up));
    [
        family(
            "gpulock_notifications",
            "Messages that the other side has confirmed.",
            None,
            delivered,
        ),
        family("gpulock_notification_requests", "Tries to deliver a message.", None, tries),
        family(
            "gpulock_notifications_waiting",
            "Messages that are on their way, or wait for another try.",
            None,
            waiting,
        ),
        family(
            "gpulock_notifications_given_up",
            "Messages that were given up; `gpulock alerts list --undelivered` shows them.",
            None,
            given_up,
        ),
    ]
}

fn failed(channels: &[ChannelFigures]) -> Family {
    let samples = channels.iter().flat_map(|channel| {
        Reason::ALL.map(|reason| {
            let mut labels = of_channel(channel);
            labels.push(("reason", reason.as_str().to_owned()));
            let count = channel.failed.get(reason.as_str()).copied().unwrap_or_default();
            Sample { labels, value: Value::Counter(count) }
        })
    });
    let help = "Tries to deliver a message that failed, by the kind of trouble.";
    family("gpulock_notifications_failed", help, None, samples.collect())
}

fn latency(channels: &[ChannelFigures]) -> Family {
    let mut by_kind: BTreeMap<&str, Histogram> = BTreeMap::new();
    for channel in channels {
        by_kind
            .entry(channel.integration)
            .or_insert_with(|| Histogram::new(channel.latency.bounds))
            .add(&channel.latency);
    }
    let samples = by_kind.into_iter().map(|(kind, latency)| Sample {
        labels: vec![("integration", kind.to_owned())],
        value: Value::Histogram(latency),
    });
    let help = "How long the other side took to answer a try.";
    let unit = Some(Unit::Seconds);
    family("gpulock_notification_latency", help, unit, samples.collect())
}

fn named(channel: &ChannelFigures) -> Labels {
    vec![("channel", channel.name.clone())]
}

fn of_channel(channel: &ChannelFigures) -> Labels {
    vec![("channel", channel.name.clone()), ("integration", channel.integration.to_owned())]
}
