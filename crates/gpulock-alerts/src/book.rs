//! The book of alerts: what fires, who has been told, and what is still to be sent.
//!
//! It is a state machine without clock and I/O. Signals, looks at pools, words of people and the
//! outcome of deliveries go in; [`Book::take`] gives what is to be delivered. Whoever drives it
//! keeps it in a store and changes it by compare-and-swap, so several daemons and commands share
//! one book and no step is lost or made twice.
//!
//! ```text
//! signals ──▶ alerts ──▶ groups ──▶ letters ──▶ channels
//!             once and    wait,      one at a time,
//!             counted     repeat,    again on failure
//!                         climb
//! ```
//!
//! Grouping, repeating, inhibition and silences mean what they mean in Alertmanager
//! (<https://prometheus.io/docs/alerting/latest/configuration/>). Escalation and acknowledging are
//! not known there.

mod alert;
mod explain;
mod feed;
mod group;
mod mute;
mod outbox;
mod quota;
mod routing;
mod sums;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gpulock::core::alert::{
    Change, Fingerprint, Hourly, Labels, Rule, Signal, Source, Urgency, rule,
};
use gpulock::core::{Counters, LeaseId, PoolName, Time};
use gpulock::store::Cursor;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use feed::Feed;
use group::{Group, Hush};
use outbox::Outbox;
use quota::Quota;

pub use alert::{Acknowledgement, Alert};
pub use explain::{Explanation, MuteTimeView, MuteView, ReachView, RouteView, StepView};
pub use feed::RESEND;
pub use mute::{Mute, Silence};
pub use outbox::{Letter, Parcel, Trouble};
pub use sums::{ChannelSums, Sums};
pub use view::{AcknowledgedView, AlertView, LetterView, SilenceView};

/// So many alerts are told apart; those of one rule and pool that come on top count as one.
pub const MOST_ALERTS: usize = 1_000;

/// What alerts are called that come on top under names that are in no catalogue.
const TOO_MANY: &str = "gpulock_too_many_alerts";

/// So many alerts that are over are remembered.
const MOST_OVER: usize = 300;

/// For so long.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// So long a fact is when the book is too large for its store.
const SHORTEST_FACT: usize = 100;

/// So many facts an alert has then.
const FEWEST_FACTS: usize = 8;

/// What fires, who has been told, and what is still to be sent. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    alerts: BTreeMap<Fingerprint, Alert>,
    groups: BTreeMap<String, Group>,
    silences: BTreeMap<String, Silence>,
    outbox: Outbox,
    feeds: BTreeMap<String, Feed>,
    quotas: BTreeMap<String, Quota>,
    /// How far the journals of the pools have been read.
    heard: BTreeMap<PoolName, Cursor>,
    hourly: BTreeMap<PoolName, Rates>,
    sums: Sums,
}

/// Sums of a pool, as they were within the last hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Rates {
    emergency_releases: Hourly,
    ownership_violations: Hourly,
}

/// Why somebody's word about an alert, a silence or a message means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// There is no such alert.
    #[error("no alert has the id {0}")]
    Alert(String),
    /// Several alerts begin like that.
    #[error("several alerts have ids that begin with {0}")]
    Ambiguous(String),
    /// It is over.
    #[error("alert {0} is over")]
    Over(String),
    /// There is no such silence.
    #[error("no silence has the id {0}")]
    Silence(String),
    /// There is no such message, or it is still on its way.
    #[error("no undelivered message has the id {0}")]
    Letter(String),
}

impl Book {
    /// How far the journal of a pool has been read; `None` if it never was.
    pub fn heard(&self, pool: &PoolName) -> Option<Cursor> {
        self.heard.get(pool).copied()
    }

    /// The journal of a pool has been read up to here.
    pub fn note_heard(&mut self, pool: &PoolName, end: Cursor) {
        self.heard.insert(pool.clone(), end);
    }

    /// Whether the journal of any pool was ever read.
    pub fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// Whether a signal changes anything: an alert that does not fire cannot end.
    pub fn concerns(&self, signal: &Signal) -> bool {
        let known = self.alerts.get(&signal.labels.fingerprint());
        signal.change != Change::Over || known.is_some_and(|alert| alert.over_at.is_none())
    }

    /// Writes down an alert that was told elsewhere and is over now.
    pub fn remember(&mut self, signal: Signal, now: Time, lasted: Duration) {
        let id = signal.labels.fingerprint();
        let began_at = Time::from_micros(now.as_micros().saturating_sub(micros(lasted)));
        let mut alert = Alert::begin(Signal { at: began_at, ..signal });
        alert.was_told = true;
        alert.end(now);
        self.sums.alerts += 1;
        self.alerts.insert(id, alert);
    }

    /// Takes signals in: an alert that fires already is only counted.
    pub fn hear(&mut self, signals: impl IntoIterator<Item = Signal>) {
        for signal in signals {
            let id = signal.labels.fingerprint();
            if let Some(alert) = self.alerts.get_mut(&id) {
                let is_over = signal.change == Change::Over;
                let is_repeated = alert.hear(signal);
                self.sums.deduplicated += u64::from(is_repeated);
                self.sums.alerts += u64::from(!is_repeated && !is_over);
            } else if signal.change == Change::Over {
                // Nobody has heard of it.
            } else if self.firing().count() >= MOST_ALERTS {
                self.fold(signal);
            } else {
                self.sums.alerts += 1;
                self.alerts.insert(id, Alert::begin(signal));
            }
        }
    }

    /// Counts an alert for which there is no room with the others of its rule and pool. Programs
    /// raise alerts under any number of names, so these may have to count as one.
    fn fold(&mut self, mut signal: Signal) {
        signal.labels = signal.labels.only(&[Labels::RULE, "pool"]);
        let is_known = self.alerts.contains_key(&signal.labels.fingerprint());
        if !is_known && rule(signal.labels.value(Labels::RULE)).is_none() {
            signal.labels.set(Labels::RULE, TOO_MANY);
        }
        signal.facts.clear();
        signal.change = Change::Happened { lasts: false };
        let signal = signal.fact("message", "there are too many of these to tell them apart");
        match self.alerts.get_mut(&signal.labels.fingerprint()) {
            Some(alert) => {
                alert.hear(signal);
                self.sums.deduplicated += 1;
            }
            None => {
                self.sums.alerts += 1;
                self.alerts.insert(signal.labels.fingerprint(), Alert::begin(signal));
            }
        }
    }

    /// What a look at a pool has found. Of the rules that such looks decide, what is not `present`
    /// is over; alerts about leases that are not in `leases` any more are over too, in case the
    /// journal has lost their end.
    pub fn look_at(
        &mut self,
        now: Time,
        pool: &PoolName,
        present: Vec<Signal>,
        leases: &BTreeSet<LeaseId>,
    ) {
        let found: BTreeSet<_> = present.iter().map(|signal| signal.labels.fingerprint()).collect();
        let leases: BTreeSet<_> = leases.iter().map(LeaseId::to_string).collect();
        let of_pool = |alert: &Alert| alert.labels.value("pool") == pool.as_str();
        for (id, alert) in self.alerts.iter_mut().filter(|(_, alert)| of_pool(alert)) {
            let source = rule(alert.name()).map(|rule| rule.source);
            let is_over = match source {
                Some(Source::Rounds) => !found.contains(id),
                // The look may be older than what the journal told last.
                Some(Source::Events) => {
                    alert.lasts
                        && alert.last_at + Duration::from_secs(60) < now
                        && alert.facts.get("lease_id").is_some_and(|id| !leases.contains(id))
                }
                _ => false,
            };
            if is_over {
                alert.end(now);
            }
        }
        for signal in present {
            match self.alerts.get_mut(&signal.labels.fingerprint()) {
                Some(alert) if alert.over_at.is_none() => alert.refresh(signal),
                _ => self.hear([signal]),
            }
        }
    }

    /// How many emergency releases and ownership violations a pool had within the last hour.
    pub fn within_the_hour(&mut self, now: Time, pool: &PoolName, sums: &Counters) -> (u64, u64) {
        let rates = self.hourly.entry(pool.clone()).or_default();
        (
            rates.emergency_releases.grown(now, sums.emergency_releases),
            rates.ownership_violations.grown(now, sums.ownership_violations),
        )
    }

    /// Forgets what was known of pools that are no longer there. What fired in them is over.
    pub fn keep_pools(&mut self, pools: &[PoolName]) {
        for alert in self.alerts.values_mut().filter(|alert| alert.lasts) {
            let pool = alert.labels.value("pool");
            if !pool.is_empty() && pools.iter().all(|kept| kept.as_str() != pool) {
                alert.end(alert.last_at);
            }
        }
        self.heard.retain(|pool, _| pools.contains(pool));
        self.hourly.retain(|pool, _| pools.contains(pool));
    }

    /// Lets time pass: what is due is put into the outbox. `muted` names the windows of time in
    /// which nobody is to be told now.
    pub fn tick(&mut self, now: Time, plan: &Plan, muted: &BTreeSet<String>) {
        for alert in self.alerts.values_mut() {
            alert.end_if_quiet(now, plan.resolve_timeout);
        }
        self.sort_into_groups(now, plan);
        let hush = Hush { mutes: self.mutes(now, plan), windows: muted };
        self.tell_groups(now, plan, &hush);
        self.climb(now, plan, &hush);
        self.forget(now, plan);
    }

    /// Somebody has the alert in hand: it neither climbs nor is repeated. `id` may be the beginning
    /// of its fingerprint.
    ///
    /// # Errors
    /// If there is no such alert, or it is over.
    pub fn acknowledge(&mut self, id: &str, word: Acknowledgement) -> Result<Fingerprint, Unknown> {
        let id = self.find(id)?;
        let alert = self.alerts.get_mut(&id).ok_or_else(|| Unknown::Alert(id.to_string()))?;
        if alert.is_over() {
            return Err(Unknown::Over(id.to_string()));
        }
        alert.acknowledged.get_or_insert(word);
        Ok(id)
    }

    /// The alert whose fingerprint begins like that.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, id: &str) -> Result<Fingerprint, Unknown> {
        let mut found = self.alerts.keys().filter(|known| known.as_str().starts_with(id));
        match (found.next(), found.next()) {
            (Some(only), None) if !id.is_empty() => Ok(only.clone()),
            (Some(_), Some(_)) if !id.is_empty() => Err(Unknown::Ambiguous(id.to_owned())),
            _ => Err(Unknown::Alert(id.to_owned())),
        }
    }

    /// All alerts that are remembered.
    pub fn alerts(&self) -> impl Iterator<Item = (&Fingerprint, &Alert)> {
        self.alerts.iter()
    }

    /// What was counted since the store began.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The next moment at which something is to be done, if nothing happens before.
    pub fn next_due(&self, plan: &Plan) -> Option<Time> {
        let quiet = self.alerts.values().filter_map(|alert| alert.quiet_at(plan.resolve_timeout));
        let groups = self.groups.values().map(|group| group.due);
        let climbs = self.climbs(plan);
        let letters = self.letters_due(plan);
        let feeds = self.feeds_due(plan);
        let unsorted = self.unsorted();
        quiet.chain(groups).chain(climbs).chain(letters).chain(feeds).chain(unsorted).min()
    }

    /// Makes the book smaller when it is too large for its store: what is over is forgotten, and
    /// messages name fewer alerts. What fires, and that somebody is to be told, stays.
    pub fn shed(&mut self) {
        let in_groups = self.in_groups();
        self.alerts.retain(|id, alert| !alert.is_over() || in_groups.contains(id));
        self.alerts.values_mut().for_each(|alert| shorten(&mut alert.facts));
        self.outbox.shed();
    }

    fn in_groups(&self) -> BTreeSet<Fingerprint> {
        self.groups.values().flat_map(|group| group.members.keys()).cloned().collect()
    }

    /// When those were heard of that time has not passed for yet: they are due at once.
    fn unsorted(&self) -> impl Iterator<Item = Time> {
        let in_groups = self.in_groups();
        let new = self.alerts.iter().filter(|(_, alert)| !alert.is_over() && !alert.was_told);
        new.filter(move |(id, _)| !in_groups.contains(*id)).map(|(_, alert)| alert.last_at)
    }

    fn firing(&self) -> impl Iterator<Item = (&Fingerprint, &Alert)> {
        self.alerts.iter().filter(|(_, alert)| !alert.is_over())
    }

    /// Forgets what is over and has been told.
    fn forget(&mut self, now: Time, plan: &Plan) {
        self.silences.retain(|_, silence| silence.ends_at + REMEMBERED > now);
        self.feeds.retain(|name, _| plan.channels.get(name).is_some_and(|channel| channel.is_feed));
        self.quotas.retain(|name, _| plan.channels.contains_key(name));
        let in_groups = self.in_groups();
        let over =
            self.alerts.iter().filter(|(id, alert)| alert.is_over() && !in_groups.contains(id));
        let mut over: Vec<_> = over.map(|(id, alert)| (alert.over_at, id.clone())).collect();
        over.sort_unstable();
        let too_many = over.len().saturating_sub(MOST_OVER);
        for (at, (over_at, id)) in over.into_iter().enumerate() {
            if at < too_many || over_at.is_some_and(|over_at| over_at + REMEMBERED <= now) {
                self.alerts.remove(&id);
            }
        }
    }

    /// A channel has given up on a message: that is an alert too, told on the other channels.
    fn note_undelivered(&mut self, now: Time, channel: &str, why: &Trouble) {
        let labels =
            Labels::default().with(Labels::RULE, Rule::UNDELIVERED).with("channel", channel);
        let urgency = rule(Rule::UNDELIVERED).map_or(Urgency::P2, |rule| rule.urgency);
        let change = Change::Happened { lasts: false };
        let signal = Signal { labels, urgency, facts: BTreeMap::new(), at: now, change };
        self.hear([signal.fact("reason", why.reason.as_str()).fact("error", why.detail.as_str())]);
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Says less about an alert.
fn shorten(facts: &mut BTreeMap<String, String>) {
    let mut kept = 0..FEWEST_FACTS;
    facts.retain(|name, _| name.len() <= SHORTEST_FACT && kept.next().is_some());
    for text in facts.values_mut() {
        let end = (0..=SHORTEST_FACT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
    }
}
