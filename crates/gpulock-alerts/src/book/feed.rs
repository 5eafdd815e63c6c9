//! Channels that want to hear of everything that fires, again and again, as Alertmanager does: it
//! takes an alert for resolved that it has not heard of for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels};
use serde::{Deserialize, Serialize};

use super::group::is_for;
use super::outbox::{LONGEST_BLOCK, Parcel, Taken, Trouble, pause, taken};
use super::routing::ways;
use super::{Alert, Book};
use crate::channel::Failure;
use crate::notification::{Notification, Status};
use crate::plan::Plan;

/// What fires is told again after this long.
pub const RESEND: Duration = Duration::from_secs(60);

/// What is over is told for this long.
const CALLED_OFF: Duration = Duration::from_secs(5 * 60);

/// After so many failures one after the other somebody is told. It is tried further.
const PATIENCE: u32 = 5;

/// What a feed was told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Feed {
    told: BTreeMap<Fingerprint, Status>,
    /// It is told again then, or if something has changed.
    due: Time,
    /// How often that failed one after the other.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<Taken>,
    /// What it is being told.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    telling: BTreeMap<Fingerprint, Status>,
    /// What it is being told is no longer what it is to be told.
    is_behind: bool,
}

impl Book {
    /// Everything that a feed is to be told now, if it is time for that.
    pub(super) fn take_feed(
        &mut self,
        now: Time,
        plan: &Plan,
        name: &str,
        by: &str,
    ) -> Option<Parcel> {
        let channel = plan.channels.get(name)?;
        let quota = self.quotas.entry(name.to_owned()).or_default().next(now, channel);
        // What is over the budget is lost, and tried again in case the budget is raised.
        let quota = quota.unwrap_or(now + RESEND);
        let alerts: Vec<_> = self.fed(now, plan, name).collect();
        let present: BTreeMap<_, _> =
            alerts.iter().map(|(id, alert)| ((*id).clone(), status(alert))).collect();
        let shown: Vec<_> = alerts.iter().map(|(id, alert)| alert.shown(id)).collect();
        let feed = self.feeds.entry(name.to_owned()).or_default();
        let is_busy = feed.taken.as_ref().is_some_and(|taken| now < taken.until);
        // What needs no calling off any more is no news.
        let are_known =
            |told: &BTreeMap<_, _>| present.iter().all(|one| told.get(one.0) == Some(one.1));
        let is_news = feed.failures == 0 && !are_known(&feed.told);
        if is_busy {
            feed.is_behind |= !are_known(&feed.telling);
            return None;
        }
        if present.is_empty() {
            *feed = Feed::default();
            return None;
        }
        if !is_news && now < feed.due {
            return None;
        }
        if quota > now {
            feed.due = quota;
            return None;
        }
        feed.taken = Some(taken(now, channel, by));
        (feed.telling, feed.is_behind) = (present, false);
        self.count_try(now, name, channel);
        let count = shown.iter().map(|alert| alert.count).sum();
        let is_firing = shown.iter().any(|alert| alert.status == Status::Firing);
        let notification = Notification {
            id: id_of(name),
            version: "4",
            group_key: String::new(),
            truncated_alerts: 0,
            status: if is_firing { Status::Firing } else { Status::Resolved },
            receiver: name.to_owned(),
            group_labels: Labels::default(),
            common_labels: Labels::common(shown.iter().map(|alert| &alert.labels)),
            common_annotations: BTreeMap::new(),
            external_url: String::new(),
            reason: "feed".to_owned(),
            alerts: shown,
            count,
        };
        Some(Parcel { channel: name.to_owned(), notification, taken_at: now })
    }

    /// Who is sending to the feed of this message, if anybody.
    pub(super) fn feed_taken(&self, id: &str) -> Option<&Taken> {
        self.feeds.iter().find(|(name, _)| id_of(name) == id)?.1.taken.as_ref()
    }

    pub(super) fn settle_feed(
        &mut self,
        now: Time,
        id: &str,
        outcome: Result<(), &Failure>,
        micros: u64,
    ) {
        let Some((name, feed)) = self.feeds.iter_mut().find(|(name, _)| id_of(name) == id) else {
            return;
        };
        let sums = self.sums.channel(name);
        sums.count_latency(micros);
        feed.taken = None;
        let telling = std::mem::take(&mut feed.telling);
        match outcome {
            Ok(()) => {
                sums.sent += 1;
                feed.told = telling;
                feed.failures = 0;
                feed.due = if feed.is_behind { now } else { now + RESEND };
            }
            Err(failure) => {
                sums.count_failure(failure);
                feed.failures += 1;
                let is_given_up = feed.failures == PATIENCE;
                let pause = pause(feed.failures, id).min(RESEND);
                let wanted = failure.retry_after.unwrap_or_default().min(LONGEST_BLOCK);
                feed.due = now + pause.max(wanted);
                if is_given_up {
                    let name = name.clone();
                    self.note_undelivered(now, &name, &Trouble::new(failure, now));
                }
            }
        }
    }

    /// When feeds are told next.
    pub(super) fn feeds_due(&self, plan: &Plan) -> impl Iterator<Item = Time> {
        let feeds = plan.channels.iter().filter(|(_, channel)| channel.is_feed);
        feeds.filter_map(|(name, _)| {
            let feed = self.feeds.get(name)?;
            let due = feed.taken.as_ref().map_or(feed.due, |taken| taken.until);
            (*feed != Feed::default()).then_some(due)
        })
    }

    /// What a feed is to hear of: what fires, and what was over lately and that it was told.
    fn fed<'b>(
        &'b self,
        now: Time,
        plan: &'b Plan,
        name: &'b str,
    ) -> impl Iterator<Item = (&'b Fingerprint, &'b Alert)> {
        let told = self.feeds.get(name).map(|feed| &feed.told);
        self.alerts.iter().filter(move |(id, alert)| {
            let channel = plan.channels.get(name);
            let is_wanted = channel.is_some_and(|channel| is_for(alert, name, channel));
            let is_routed = || {
                let ways = ways(plan, &alert.full_labels());
                ways.iter().any(|way| way.route.channels.iter().any(|channel| channel == name))
            };
            let is_fresh = match alert.over_at.filter(|_| alert.is_over()) {
                None => true,
                Some(over_at) => {
                    now.since(over_at) < CALLED_OFF
                        && told.is_some_and(|told| told.contains_key(id))
                }
            };
            is_wanted && is_fresh && is_routed()
        })
    }
}

fn id_of(name: &str) -> String {
    format!("feed:{name}")
}

fn status(alert: &Alert) -> Status {
    if alert.is_over() { Status::Resolved } else { Status::Firing }
}
