//! Messages on their way: one at a time for each channel, again on failure, until they are
//! delivered or given up.

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::Labels;
use serde::{Deserialize, Serialize};

use super::{Book, Unknown, micros};
use crate::channel::{Failure, Reason};
use crate::notification::{Notification, NotifiedAlert, Status};
use crate::plan::{ChannelPlan, Plan};

/// The pause before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// A message that could not be delivered for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(24 * 3600);
/// A daemon that has taken a message has this long for it, besides what the channel may take. If it
/// has said nothing by then, it is taken to be dead.
const GRACE: Duration = Duration::from_secs(10);
/// So many alerts stay in a message when the book is too large for its store.
const FEWEST_ALERTS: usize = 3;
/// So many messages that were given up are kept.
const MOST_DEAD: usize = 100;
/// So many messages wait; on top of that the oldest are given up.
const MOST_WAITING: usize = 200;

/// Messages on their way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Outbox {
    letters: BTreeMap<String, Letter>,
    /// How many were ever posted.
    posted: u64,
}

/// A message on its way to a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// To which channel.
    pub channel: String,
    /// Why it is sent.
    pub reason: String,
    /// When it was posted.
    pub posted_at: Time,
    /// How often it was tried.
    pub tries: u32,
    /// What went wrong last, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// It was given up.
    #[serde(default)]
    pub is_dead: bool,
    group_key: String,
    group_labels: Labels,
    alerts: Vec<NotifiedAlert>,
    left_out: usize,
    count: u64,
    /// It is not sent before.
    not_before: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken: Option<Taken>,
}

/// What went wrong with a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// What kind of trouble, see [`Reason::as_str`].
    pub reason: String,
    /// What the other side said.
    pub detail: String,
    /// When.
    pub at: Time,
}

/// Somebody is sending it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) by: String,
    pub(super) until: Time,
}

/// A message to be delivered now.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// To which channel.
    pub channel: String,
    /// What to deliver.
    pub notification: Notification,
    /// When it was taken, on the store's clock.
    pub taken_at: Time,
}

/// A message to be posted.
pub(super) struct Post<'p> {
    pub(super) now: Time,
    pub(super) channel: &'p str,
    pub(super) group_key: &'p str,
    pub(super) group_labels: &'p Labels,
    pub(super) reason: &'p str,
    pub(super) alerts: Vec<NotifiedAlert>,
    pub(super) left_out: usize,
    pub(super) count: u64,
}

impl Outbox {
    /// Posts a message. One about the same group that still waits is not sent any more: this one
    /// says what is so now.
    pub(super) fn post(&mut self, post: Post<'_>) {
        let mut not_before = post.now;
        self.letters.retain(|_, letter| {
            let is_older = letter.channel == post.channel
                && letter.group_key == post.group_key
                && letter.taken.is_none()
                && !letter.is_dead;
            if is_older {
                not_before = not_before.max(letter.not_before);
            }
            !is_older
        });
        self.posted += 1;
        let id = format!("{:x}-{}", post.now.as_micros(), self.posted);
        let letter = Letter {
            channel: post.channel.to_owned(),
            reason: post.reason.to_owned(),
            posted_at: post.now,
            tries: 0,
            trouble: None,
            is_dead: false,
            group_key: post.group_key.to_owned(),
            group_labels: post.group_labels.clone(),
            alerts: post.alerts,
            left_out: post.left_out,
            count: post.count,
            not_before,
            taken: None,
        };
        self.letters.insert(id, letter);
    }

    /// Those that wait for a channel, the oldest first. None while one is being sent.
    fn next_for(&self, channel: &str, now: Time) -> Option<(&String, &Letter)> {
        let of_channel = self.letters.iter().filter(|(_, letter)| letter.channel == channel);
        let mut waiting: Vec<_> = of_channel.filter(|(_, letter)| !letter.is_dead).collect();
        if waiting.iter().any(|(_, letter)| letter.is_taken(now)) {
            return None;
        }
        waiting.sort_by_key(|(_, letter)| (letter.not_before, letter.posted_at));
        waiting.into_iter().next()
    }

    /// Forgets what was given up, and names fewer alerts in each message.
    pub(super) fn shed(&mut self) {
        self.letters.retain(|_, letter| !letter.is_dead);
        for letter in self.letters.values_mut() {
            letter.left_out += letter.alerts.len().saturating_sub(FEWEST_ALERTS);
            letter.alerts.truncate(FEWEST_ALERTS);
        }
    }

    fn bury_the_oldest(&mut self) {
        for (is_dead, most) in [(false, MOST_WAITING), (true, MOST_DEAD)] {
            let such = self
                .letters
                .iter()
                .filter(|(_, letter)| letter.is_dead == is_dead && letter.taken.is_none());
            let mut ids: Vec<_> = such.map(|(id, letter)| (letter.posted_at, id.clone())).collect();
            ids.sort_unstable();
            let too_many = ids.len().saturating_sub(most);
            for (_, id) in ids.into_iter().take(too_many) {
                match self.letters.get_mut(&id) {
                    Some(letter) if !is_dead => letter.is_dead = true,
                    _ => drop(self.letters.remove(&id)),
                }
            }
        }
    }
}

impl Letter {
    fn is_taken(&self, now: Time) -> bool {
        self.taken.as_ref().is_some_and(|taken| now < taken.until)
    }

    fn notification(&self, id: &str) -> Notification {
        let is_firing = self.alerts.iter().any(|alert| alert.status == Status::Firing);
        Notification {
            id: id.to_owned(),
            version: "4",
            group_key: self.group_key.clone(),
            truncated_alerts: self.left_out,
            status: if is_firing { Status::Firing } else { Status::Resolved },
            receiver: self.channel.clone(),
            group_labels: self.group_labels.clone(),
            common_labels: Labels::common(self.alerts.iter().map(|alert| &alert.labels)),
            common_annotations: BTreeMap::new(),
            external_url: String::new(),
            reason: self.reason.clone(),
            alerts: self.alerts.clone(),
            count: self.count,
        }
    }

    /// The rules of its alerts, each once.
    pub fn rules(&self) -> Vec<&str> {
        let mut rules: Vec<_> = self.alerts.iter().map(NotifiedAlert::rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// How many alerts it tells of.
    pub fn alert_count(&self) -> usize {
        self.alerts.len() + self.left_out
    }
}

impl Book {
    /// What is to be delivered now, at most one message for each channel. It is kept for `by`
    /// until that says what became of it, or has been silent for too long.
    pub fn take(&mut self, now: Time, plan: &Plan, by: &str) -> Vec<Parcel> {
        self.bury_unknown(now, plan);
        self.outbox.bury_the_oldest();
        let mut parcels = Vec::new();
        for (name, channel) in &plan.channels {
            if channel.is_feed {
                parcels.extend(self.take_feed(now, plan, name, by));
                continue;
            }
            let Some(moment) = self.quotas.entry(name.clone()).or_default().next(now, channel)
            else {
                self.refuse_over_budget(now, name);
                continue;
            };
            let next = self.outbox.next_for(name, now);
            let Some((id, _)) = next.filter(|(_, letter)| letter.not_before.max(moment) <= now)
            else {
                continue;
            };
            let id = id.clone();
            if let Some(letter) = self.outbox.letters.get_mut(&id) {
                letter.taken = Some(taken(now, channel, by));
                let notification = letter.notification(&id);
                self.count_try(now, name, channel);
                parcels.push(Parcel { channel: name.clone(), notification, taken_at: now });
            }
        }
        parcels
    }

    /// A try to send something begins.
    pub(super) fn count_try(&mut self, now: Time, name: &str, channel: &ChannelPlan) {
        self.quotas.entry(name.to_owned()).or_default().take(now, channel);
        self.sums.channel(name).requests += 1;
    }

    /// What became of a message that was taken.
    pub fn settle(&mut self, now: Time, id: &str, outcome: Result<(), &Failure>, took: Duration) {
        let micros = micros(took);
        let Some(letter) = self.outbox.letters.get_mut(id) else {
            return self.settle_feed(now, id, outcome, micros);
        };
        let name = letter.channel.clone();
        let sums = self.sums.channel(&name);
        sums.latency.count(micros);
        let Err(failure) = outcome else {
            sums.sent += 1;
            self.outbox.letters.remove(id);
            return;
        };
        sums.count_failure(failure);
        letter.taken = None;
        letter.tries += 1;
        let trouble = Trouble::new(failure, now);
        letter.trouble = Some(trouble.clone());
        if failure.reason.may_pass() && now < letter.posted_at + GIVE_UP {
            letter.not_before =
                now + pause(letter.tries, id).max(failure.retry_after.unwrap_or_default());
        } else {
            letter.is_dead = true;
            sums.given_up += 1;
            self.note_undelivered(now, &name, &trouble);
        }
        if let Some(pause) = failure.retry_after {
            self.quotas.entry(name).or_default().block(now, pause);
        }
    }

    /// Sends a message again that was given up, or all of them if `id` is `None`. How many.
    ///
    /// # Errors
    /// If there is no such message.
    pub fn resend(&mut self, now: Time, id: Option<&str>) -> Result<usize, Unknown> {
        let mut count = 0;
        for (known, letter) in &mut self.outbox.letters {
            if letter.is_dead && id.is_none_or(|id| id == known) {
                (letter.is_dead, letter.tries) = (false, 0);
                (letter.posted_at, letter.not_before) = (now, now);
                count += 1;
            }
        }
        match id {
            Some(id) if count == 0 => Err(Unknown::Letter(id.to_owned())),
            _ => Ok(count),
        }
    }

    /// Messages that are on their way or were given up, with their ids.
    pub fn letters(&self) -> impl Iterator<Item = (&str, &Letter)> {
        self.outbox.letters.iter().map(|(id, letter)| (id.as_str(), letter))
    }

    /// When messages can be sent.
    pub(super) fn letters_due(&self, plan: &Plan) -> impl Iterator<Item = Time> {
        plan.channels.iter().filter_map(|(name, channel)| {
            let of_channel = self.outbox.letters.values().filter(|letter| letter.channel == *name);
            let waiting = of_channel.filter(|letter| !letter.is_dead);
            let due = waiting.map(|letter| match &letter.taken {
                Some(taken) => taken.until,
                None => letter.not_before,
            });
            let first = due.min()?;
            let quota = self.quotas.get(name).cloned().unwrap_or_default();
            Some(first.max(quota.next(first, channel)?))
        })
    }

    /// Gives up messages for channels that are no longer there.
    fn bury_unknown(&mut self, now: Time, plan: &Plan) {
        for letter in self.outbox.letters.values_mut() {
            if !letter.is_dead && !plan.channels.contains_key(&letter.channel) {
                let detail = "the channel is no longer in the configuration";
                letter.bury(now, &Failure::new(Reason::ClientError, detail));
            }
        }
    }

    /// Gives up what a channel cannot have any more this month, and says so.
    fn refuse_over_budget(&mut self, now: Time, channel: &str) {
        let over = Failure::new(Reason::RateLimited, "its messages of this month are used up");
        let mut count = 0;
        for letter in self.outbox.letters.values_mut() {
            if letter.channel == channel && !letter.is_dead && !letter.is_taken(now) {
                letter.bury(now, &over);
                count += 1;
            }
        }
        if count > 0 {
            self.sums.channel(channel).given_up += count;
            self.sums.count_suppressed("budget");
            self.note_undelivered(now, channel, &Trouble::new(&over, now));
        }
    }
}

impl Letter {
    fn bury(&mut self, now: Time, why: &Failure) {
        self.is_dead = true;
        self.taken = None;
        self.trouble = Some(Trouble::new(why, now));
    }
}

impl Trouble {
    pub(super) fn new(failure: &Failure, at: Time) -> Self {
        Self { reason: failure.reason.as_str().to_owned(), detail: failure.detail.clone(), at }
    }
}

impl super::ChannelSums {
    pub(super) fn count_failure(&mut self, failure: &Failure) {
        *self.failed.entry(failure.reason.as_str().to_owned()).or_default() += 1;
    }
}

/// Somebody sends something from now on.
pub(super) fn taken(now: Time, channel: &ChannelPlan, by: &str) -> Taken {
    Taken { by: by.to_owned(), until: now + channel.timeout + GRACE }
}

/// Before the next try: exponential, and up to a quarter more, so that many do not come at once.
pub(super) fn pause(tries: u32, id: &str) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(16)));
    let pause = doubled.min(LONGEST_PAUSE);
    let spread = id.bytes().fold(tries, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    pause + pause * (spread % 256) / 1024
}
