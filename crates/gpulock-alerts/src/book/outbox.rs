//! Messages on their way: one at a time for each channel, again on failure, until they are
//! delivered or given up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels, Rule};
use serde::{Deserialize, Serialize};

use super::{Book, Unknown, micros, shorten};
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
/// Whoever wants nothing for longer than this is asked again all the same.
pub(super) const LONGEST_BLOCK: Duration = Duration::from_secs(3600);
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
    #[serde(default)]
    left_out: usize,
    count: u64,
    /// What fires and was not told before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    news: BTreeSet<Fingerprint>,
    /// Its place among all that were ever posted.
    #[serde(default)]
    number: u64,
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
    /// Those that fire first, the most urgent first.
    pub(super) alerts: Vec<NotifiedAlert>,
    /// Those among them that fire, and that the channel has not been told before.
    pub(super) news: BTreeSet<Fingerprint>,
    /// So many stand in the message; the others are counted.
    pub(super) max_alerts: usize,
}

impl Outbox {
    /// Posts a message. Those about the same group that still wait are not sent any more, since
    /// this one says what is so now, with what only they say. If they were to tell as news what is
    /// over by now, that is told first.
    pub(super) fn post(&mut self, mut post: Post<'_>) {
        let older = self.withdraw(post.channel, post.group_key);
        self.posted += 1;
        let id = format!("{:x}-{}", post.now.as_micros(), self.posted);
        for (_, letter) in older.iter().rev() {
            let told: BTreeSet<_> =
                post.alerts.iter().map(|told| told.fingerprint.clone()).collect();
            let only_there = letter.alerts.iter().filter(|alert| {
                let is_news = alert.status == Status::Resolved || letter.has_news_of(alert);
                is_news && !told.contains(&alert.fingerprint)
            });
            post.alerts.extend(only_there.cloned());
            post.news.extend(letter.news.iter().cloned());
        }
        let over = post.alerts.iter().filter(|alert| alert.status == Status::Resolved);
        let over: BTreeSet<_> = over.map(|alert| alert.fingerprint.clone()).collect();
        post.news.retain(|id| !over.contains(id));
        let mut letter = Letter::new(&post, self.posted);
        if let Some((_, oldest)) = older.first() {
            letter.succeed(oldest);
        }
        if let Some((id, first)) = Letter::first_of(older, &over, post.max_alerts) {
            (letter.posted_at, letter.tries, letter.trouble) = (post.now, 0, None);
            self.letters.insert(id, first);
        }
        if !letter.alerts.is_empty() {
            self.letters.insert(id, letter);
        }
    }

    /// Takes back what waits for a channel and is about a group, the oldest first.
    fn withdraw(&mut self, channel: &str, group_key: &str) -> Vec<(String, Letter)> {
        let is_older = |(_, letter): &(String, Letter)| {
            letter.channel == channel
                && letter.group_key == group_key
                && letter.taken.is_none()
                && !letter.is_dead
        };
        let (mut older, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.letters).into_iter().partition(is_older);
        self.letters = others.into_iter().collect();
        older.sort_by_key(|(_, letter)| letter.number);
        older
    }

    /// The next one for a channel, unless one is being sent. What is about one group is sent in
    /// the order in which it was posted.
    fn next_for(&self, channel: &str, now: Time) -> Option<(&String, &Letter)> {
        if self.waiting_for(channel).any(|(_, letter)| letter.is_taken(now)) {
            return None;
        }
        self.firsts_for(channel).min_by_key(|(_, letter)| (letter.not_before, letter.number))
    }

    fn waiting_for(&self, channel: &str) -> impl Iterator<Item = (&String, &Letter)> {
        self.letters.iter().filter(move |(_, letter)| letter.channel == channel && !letter.is_dead)
    }

    /// The first ones of each group.
    fn firsts_for(&self, channel: &str) -> impl Iterator<Item = (&String, &Letter)> {
        let mut firsts = BTreeMap::new();
        for (id, letter) in self.waiting_for(channel) {
            let first = firsts.entry(&letter.group_key).or_insert((id, letter));
            if letter.number < first.1.number {
                *first = (id, letter);
            }
        }
        firsts.into_values()
    }

    /// Forgets what was given up, and names fewer alerts in each message.
    pub(super) fn shed(&mut self) {
        self.letters.retain(|_, letter| !letter.is_dead);
        for letter in self.letters.values_mut() {
            letter.name_fewer(FEWEST_ALERTS);
            letter.alerts.iter_mut().for_each(|alert| shorten(&mut alert.annotations));
        }
    }

    /// Of those that are given up, or of those that wait, the oldest that are too many.
    fn too_many(&self, are_dead: bool, most: usize) -> Vec<String> {
        let such = |letter: &Letter| letter.is_dead == are_dead && letter.taken.is_none();
        let such = self.letters.iter().filter(|(_, letter)| such(letter));
        let mut ids: Vec<_> =
            such.map(|(id, letter)| (letter.posted_at, letter.number, id)).collect();
        ids.sort_unstable();
        let too_many = ids.len().saturating_sub(most);
        ids.into_iter().take(too_many).map(|(_, _, id)| id.clone()).collect()
    }
}

impl Letter {
    fn new(post: &Post<'_>, number: u64) -> Self {
        let mut letter = Self {
            channel: post.channel.to_owned(),
            reason: post.reason.to_owned(),
            posted_at: post.now,
            tries: 0,
            trouble: None,
            is_dead: false,
            group_key: post.group_key.to_owned(),
            group_labels: post.group_labels.clone(),
            alerts: post.alerts.clone(),
            left_out: 0,
            count: post.alerts.iter().map(|alert| alert.count).sum(),
            news: post.news.clone(),
            number,
            not_before: post.now,
            taken: None,
        };
        letter.alerts.sort_by_key(|alert| {
            (alert.status == Status::Resolved, Reverse(alert.urgency()), alert.starts_at)
        });
        letter.name_fewer(post.max_alerts);
        letter
    }

    /// It goes in the place of another one that still waits.
    fn succeed(&mut self, other: &Self) {
        self.not_before = self.not_before.max(other.not_before);
        (self.posted_at, self.tries) = (other.posted_at, other.tries);
        self.trouble.clone_from(&other.trouble);
    }

    /// The first of several about one group, with all that was news in any of them and is over.
    fn first_of(
        letters: Vec<(String, Self)>,
        over: &BTreeSet<Fingerprint>,
        max_alerts: usize,
    ) -> Option<(String, Self)> {
        let mut letters = letters.into_iter().filter(|(_, one)| !one.news.is_disjoint(over));
        let (id, mut first) = letters.next()?;
        for (_, letter) in letters {
            let is_news = |alert: &NotifiedAlert| {
                let id = &alert.fingerprint;
                letter.has_news_of(alert) && over.contains(id) && !first.news.contains(id)
            };
            let more: Vec<_> =
                letter.alerts.iter().filter(|alert| is_news(alert)).cloned().collect();
            first.count += more.iter().map(|alert| alert.count).sum::<u64>();
            first.news.extend(more.iter().map(|alert| alert.fingerprint.clone()));
            first.alerts.extend(more);
            first.not_before = first.not_before.max(letter.not_before);
        }
        first.name_fewer(max_alerts);
        Some((id, first))
    }

    fn has_news_of(&self, alert: &NotifiedAlert) -> bool {
        self.news.contains(&alert.fingerprint)
    }

    fn name_fewer(&mut self, most: usize) {
        self.left_out += self.alerts.len().saturating_sub(most);
        self.alerts.truncate(most);
    }

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
        self.give_up_unknown(now, plan);
        self.give_up_oldest(now);
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

    /// Whether a message or a feed is being sent by `by`, as far as the book knows.
    pub fn is_with(&self, id: &str, by: &str) -> bool {
        let letter = self.outbox.letters.get(id).map(|letter| letter.taken.as_ref());
        let taken = letter.unwrap_or_else(|| self.feed_taken(id));
        taken.is_some_and(|taken| taken.by == by)
    }

    /// What became of a message that was taken.
    pub fn settle(&mut self, now: Time, id: &str, outcome: Result<(), &Failure>, took: Duration) {
        let micros = micros(took);
        let Some(letter) = self.outbox.letters.get_mut(id) else {
            return self.settle_feed(now, id, outcome, micros);
        };
        let name = letter.channel.clone();
        let sums = self.sums.channel(&name);
        sums.count_latency(micros);
        let Err(failure) = outcome else {
            sums.sent += 1;
            self.outbox.letters.remove(id);
            return;
        };
        sums.count_failure(failure);
        letter.taken = None;
        letter.tries += 1;
        letter.trouble = Some(Trouble::new(failure, now));
        let wanted = failure.retry_after.map(|pause| pause.min(LONGEST_BLOCK));
        if failure.reason.may_pass() && now < letter.posted_at + GIVE_UP {
            letter.not_before = now + pause(letter.tries, id).max(wanted.unwrap_or_default());
        } else {
            self.give_up(now, id, failure);
        }
        if let Some(pause) = wanted {
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
            let taken =
                self.outbox.waiting_for(name).filter_map(|(_, letter)| letter.taken.as_ref());
            let is_being_sent = taken.map(|taken| taken.until).max();
            let firsts = || self.outbox.firsts_for(name).map(|(_, letter)| letter.not_before);
            let first = is_being_sent.or_else(|| firsts().min())?;
            let quota = self.quotas.get(name).cloned().unwrap_or_default();
            // What is over the budget is given up.
            Some(quota.next(first, channel).map_or(first, |moment| first.max(moment)))
        })
    }

    /// Gives up messages for channels that are no longer there.
    fn give_up_unknown(&mut self, now: Time, plan: &Plan) {
        let gone =
            Failure::new(Reason::ClientError, "the channel is no longer in the configuration");
        for letter in self.outbox.letters.values_mut() {
            if !letter.is_dead && !plan.channels.contains_key(&letter.channel) {
                letter.bury(now, &gone);
                self.sums.channel(&letter.channel).given_up += 1;
            }
        }
    }

    /// Gives up the oldest messages if too many wait, and forgets some that were given up.
    fn give_up_oldest(&mut self, now: Time) {
        let too_many = Failure::new(Reason::RateLimited, "too many newer messages wait");
        for id in self.outbox.too_many(false, MOST_WAITING) {
            self.give_up(now, &id, &too_many);
        }
        for id in self.outbox.too_many(true, MOST_DEAD) {
            self.outbox.letters.remove(&id);
        }
    }

    /// Gives up what a channel cannot have any more this month, and says so.
    fn refuse_over_budget(&mut self, now: Time, channel: &str) {
        let over = Failure::new(Reason::RateLimited, "its messages of this month are used up");
        let waiting = self.outbox.waiting_for(channel).filter(|(_, letter)| !letter.is_taken(now));
        let waiting: Vec<_> =
            waiting.map(|(id, letter)| (id.clone(), letter.alert_count())).collect();
        for (id, alerts) in waiting {
            self.sums.count_suppressed("budget", alerts);
            self.give_up(now, &id, &over);
        }
    }

    /// Gives up a message, and says so on other channels, unless that is what it was to say.
    fn give_up(&mut self, now: Time, id: &str, why: &Failure) {
        let Some(letter) = self.outbox.letters.get_mut(id) else { return };
        letter.bury(now, why);
        let name = letter.channel.clone();
        let is_about_a_channel = letter.rules() == [Rule::UNDELIVERED];
        self.sums.channel(&name).given_up += 1;
        if !is_about_a_channel {
            self.note_undelivered(now, &name, &Trouble::new(why, now));
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
