//! What `/metrics` says about alerts, from the book in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gpulock::core::Time;
use gpulock_alerts::Alerting;
use gpulock_alerts::book::{AlertView, Book, ChannelSums};

use crate::daemon::Daemon;
use crate::daemon::metrics::{AlertFigures, ChannelFigures, Histogram, LOCK_BOUNDS};

impl Daemon {
    /// `None` if the store does not answer.
    pub(super) async fn alert_figures(&self) -> Option<AlertFigures> {
        let (book, now) = self.alerts.desk().read().await.ok()?;
        Some(figures(&book, now, &self.alerts.alerting()))
    }
}

fn figures(book: &Book, now: Time, alerting: &Alerting) -> AlertFigures {
    let mut firing = BTreeMap::new();
    for view in book.view(now, &alerting.plan).iter().filter(|view| view.ended_at.is_none()) {
        *firing.entry((view.level.as_str(), state(view))).or_default() += 1;
    }
    let sums = book.sums();
    let kinds: BTreeMap<_, _> =
        alerting.channels().map(|(name, channel)| (name, channel.kind())).collect();
    let names: BTreeSet<_> =
        kinds.keys().copied().chain(sums.channels.keys().map(String::as_str)).collect();
    let waiting = |name: &str| {
        let of_channel = book.letters().filter(|(_, letter)| letter.channel == name);
        of_channel.filter(|(_, letter)| !letter.is_dead).count() as u64
    };
    let nothing = ChannelSums::default();
    let channels = names.into_iter().map(|name| {
        let sums = sums.channels.get(name).unwrap_or(&nothing);
        ChannelFigures {
            name: name.to_owned(),
            integration: kinds.get(name).copied().unwrap_or("removed"),
            sent: sums.sent,
            requests: sums.requests,
            failed: sums.failed.clone(),
            given_up: sums.given_up,
            waiting: waiting(name),
            latency: Histogram {
                bounds: LOCK_BOUNDS,
                counts: sums.latency.counts(),
                sum_seconds: Duration::from_micros(sums.latency_micros).as_secs_f64(),
            },
        }
    });
    AlertFigures {
        firing,
        begun: sums.alerts,
        repeated: sums.deduplicated,
        suppressed: sums.suppressed.clone(),
        channels: channels.collect(),
    }
}

fn state(view: &AlertView) -> &'static str {
    match (&view.acknowledged, view.muted_by) {
        (Some(_), _) => "acknowledged",
        (None, Some("silence")) => "silenced",
        (None, Some(_)) => "inhibited",
        (None, None) => "firing",
    }
}

#[cfg(test)]
mod tests {
    use gpulock::core::alert::{Change, Labels, Signal, Urgency};
    use gpulock_alerts::Alerting;
    use gpulock_alerts::book::{Acknowledgement, Silence};

    use super::*;

    fn signal(task: &str, urgency: Urgency) -> Signal {
        Signal {
            labels: [(Labels::RULE, "GPU_LOCK_ZOMBIE"), ("pool", "lab"), ("task", task)]
                .into_iter()
                .collect(),
            urgency,
            facts: BTreeMap::new(),
            at: Time::from_micros(1_000_000),
            change: Change::Present,
        }
    }

    #[test]
    fn alerts_are_counted_by_level_and_state() {
        let (mut book, now) = (Book::default(), Time::from_micros(2_000_000));
        let tasks = ["a", "b", "b", "c", "d"];
        book.hear(tasks.map(|task| signal(task, Urgency::P2)));
        book.hear([signal("e", Urgency::P0)]);
        let id = signal("c", Urgency::P2).labels.fingerprint();
        let word = Acknowledgement { by: "alice".to_owned(), at: now, note: String::new() };
        book.acknowledge(id.as_str(), word).unwrap();
        let silence = Silence {
            matchers: vec!["task=d".parse().unwrap()],
            starts_at: now,
            ends_at: now + Duration::from_secs(60),
            created_by: "alice".to_owned(),
            comment: String::new(),
        };
        book.silence("1".to_owned(), silence);
        let figures = figures(&book, now, &Alerting::default());
        let expected = [
            (("P0", "firing"), 1),
            (("P2", "acknowledged"), 1),
            (("P2", "firing"), 2),
            (("P2", "silenced"), 1),
        ];
        assert_eq!(figures.firing, expected.into_iter().collect());
        assert_eq!((figures.begun, figures.repeated), (5, 1));
    }
}
