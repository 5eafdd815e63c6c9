//! An office that works as a daemon does: it ticks when something is due, takes what is to be
//! sent, and says what became of it. Time passes only as a test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Change, Labels, Signal, Urgency};
use gpulock_alerts::book::{Acknowledgement, Book, Parcel, Silence};
use gpulock_alerts::plan::{ChannelPlan, Matcher, Plan, Rate, Route, Step};
use gpulock_alerts::{Failure, Reason, Status};

/// The moment at which every story begins: 2026-01-01, 00:00 UTC.
pub(super) const START: Time = Time::from_micros(1_767_225_600_000_000);

/// The name under which the office takes messages.
pub(super) const DAEMON: &str = "daemon 1";

#[derive(Clone)]
pub(super) struct Office {
    pub(super) book: Book,
    pub(super) plan: Plan,
    pub(super) now: Time,
    /// The windows of time in which nobody is told now.
    pub(super) muted: BTreeSet<String>,
    /// What was handed to channels, when.
    pub(super) sent: Vec<(Duration, Parcel)>,
    /// Whether it is checked that nothing is to be done in between. That costs time in storms.
    pub(super) is_checked: bool,
    /// Channels that fail, and how.
    pub(super) failing: BTreeMap<String, Failure>,
}

impl Office {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            book: Book::default(),
            plan,
            now: START,
            muted: BTreeSet::new(),
            sent: Vec::new(),
            is_checked: true,
            failing: BTreeMap::new(),
        }
    }

    pub(super) fn hear(&mut self, signal: Signal) {
        self.book.hear([Signal { at: self.now, ..signal }]);
        self.work();
    }

    /// Ticks, takes, sends and settles, again if that has led to something that is due at once.
    pub(super) fn work(&mut self) {
        for _ in 0..2_000 {
            self.book.tick(self.now, &self.plan, &self.muted);
            let parcels = self.book.take(self.now, &self.plan, DAEMON);
            let is_idle = parcels.is_empty();
            let due = self.book.next_due(&self.plan);
            assert!(due.is_none_or(|due| due >= self.now), "{due:?} is before {}", self.now);
            for parcel in parcels {
                let failure = self.failing.get(&parcel.channel);
                let outcome = failure.map_or(Ok(()), Err);
                let took = Duration::from_millis(20);
                self.book.settle(self.now, &parcel.notification.id, outcome, took);
                self.sent.push((self.now.since(START), parcel));
            }
            if is_idle && due.is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("at {} something is always due: {:?}", self.now, self.book.next_due(&self.plan));
    }

    /// Lets time pass until so long after the start. Works only when the book says that something
    /// is due, and finds that nothing was to be done in between.
    pub(super) fn until(&mut self, span: Duration) {
        let end = START + span;
        self.work();
        loop {
            let next = self.book.next_due(&self.plan).filter(|due| *due <= end);
            let next = next.unwrap_or(end);
            if self.is_checked {
                self.assert_idle_until(next);
            }
            self.now = next;
            self.work();
            if next == end {
                return;
            }
        }
    }

    fn assert_idle_until(&self, next: Time) {
        let between = (next.as_micros() - self.now.as_micros()) / 2;
        for moment in [self.now.as_micros() + between, next.as_micros() - 1] {
            let moment = Time::from_micros(moment.max(self.now.as_micros()));
            let mut book = self.book.clone();
            book.tick(moment, &self.plan, &self.muted);
            let parcels = book.take(moment, &self.plan, "somebody else");
            assert_eq!(parcels, [], "was due at {moment}, and the next look is at {next}");
            let ids = |book: &Book| book.letters().map(|(id, _)| id.to_owned()).collect::<Vec<_>>();
            assert_eq!(ids(&book), ids(&self.book), "posted at {moment}, not at {next}");
        }
    }

    /// What was sent since the last time that was asked: when, to whom, why, and about what, in
    /// the order of the names.
    pub(super) fn told(&mut self) -> Vec<String> {
        let told = self.sent.drain(..).map(|(at, parcel)| {
            let alerts = parcel.notification.alerts.iter().map(|alert| {
                let sign = if alert.status == Status::Firing { '+' } else { '-' };
                let task = alert.labels.value("task");
                format!("{sign}{}", if task.is_empty() { alert.rule() } else { task })
            });
            let mut alerts: Vec<_> = alerts.collect();
            alerts.sort();
            let reason = &parcel.notification.reason;
            format!("{} {} {reason} {}", at.as_secs(), parcel.channel, alerts.join(" "))
        });
        told.collect()
    }

    pub(super) fn acknowledge(&mut self, signal: &Signal) {
        let id = signal.labels.fingerprint().to_string();
        let (by, at, note) = ("anna".to_owned(), self.now, String::new());
        self.book.acknowledge(&id, Acknowledgement { by, at, note }).expect("an alert");
        self.work();
    }

    pub(super) fn silence(&mut self, id: &str, matcher: &str, from: u64, to: u64) {
        let silence = Silence {
            matchers: vec![matcher.parse().expect("a matcher")],
            starts_at: START + secs(from),
            ends_at: START + secs(to),
            created_by: "anna".to_owned(),
            comment: String::new(),
        };
        self.book.silence(id.to_owned(), silence);
    }

    /// Messages that were given up.
    pub(super) fn dead(&self) -> usize {
        self.book.letters().filter(|(_, letter)| letter.is_dead).count()
    }

    pub(super) fn waiting(&self) -> usize {
        self.book.letters().filter(|(_, letter)| !letter.is_dead).count()
    }
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A channel that wants everything at once.
pub(super) fn channel() -> ChannelPlan {
    ChannelPlan {
        min_urgency: Urgency::Info,
        send_resolved: true,
        rate: Rate { messages: 1_000, per: secs(1) },
        monthly_budget: None,
        max_alerts: 20,
        timeout: secs(10),
        is_feed: false,
    }
}

/// A plan with these channels, and a route that tells the first of them, 30 s after an alert.
pub(super) fn plan(channels: &[&str]) -> Plan {
    Plan {
        channels: channels.iter().map(|name| ((*name).to_owned(), channel())).collect(),
        route: Route { channels: names(&channels[..1]), ..Route::default() },
        ..Plan::default()
    }
}

pub(super) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A route with these matchers to this channel, with the rhythm of its parent.
pub(super) fn route(parent: &Route, matchers: &[&str], channel: &str) -> Route {
    Route {
        matchers: matchers.iter().map(|text| text.parse::<Matcher>().expect("a matcher")).collect(),
        channels: names(&[channel]),
        routes: Vec::new(),
        ..parent.clone()
    }
}

pub(super) fn step(minutes: u64, channel: &str) -> Step {
    Step { after: secs(60 * minutes), channels: names(&[channel]) }
}

/// A rule that the catalogue has, so that looks leave it alone.
pub(super) const LOST: &str = "GPU_LOCK_HOLDER_LOST";

/// A signal about a task.
pub(super) fn signal(rule: &str, task: &str, change: Change) -> Signal {
    Signal {
        labels: Labels::default()
            .with(Labels::RULE, rule)
            .with("pool", "default")
            .with("task", task),
        urgency: Urgency::P1,
        facts: BTreeMap::from([("host".to_owned(), "gpu1".to_owned())]),
        at: START,
        change,
    }
}

/// It is so until it is over.
pub(super) fn present(task: &str) -> Signal {
    signal(LOST, task, Change::Present)
}

/// It has happened, and goes on until it is over.
pub(super) fn happened(task: &str) -> Signal {
    signal(LOST, task, Change::Happened { lasts: true })
}

/// It has happened, and is over by itself.
pub(super) fn once(task: &str) -> Signal {
    signal(LOST, task, Change::Happened { lasts: false })
}

pub(super) fn over(task: &str) -> Signal {
    signal(LOST, task, Change::Over)
}

pub(super) fn trouble() -> Failure {
    Failure::new(Reason::ServerError, "503 Service Unavailable")
}

pub(super) fn wrong() -> Failure {
    Failure::new(Reason::AuthError, "401 Unauthorized")
}
