//! Random signals, words of people, failures and deaths of daemons, and what holds whatever comes.

use std::collections::{BTreeMap, BTreeSet};

use gpulock::core::Time;
use gpulock::core::alert::{Change, Fingerprint, Signal, Urgency};
use gpulock_alerts::Status;
use gpulock_alerts::book::{Acknowledgement, Book};
use gpulock_alerts::plan::{Inhibition, Plan, Rate};
use proptest::prelude::*;

use super::office::*;

#[derive(Clone, Debug)]
enum Order {
    Signal {
        task: u8,
        change: Change,
        urgency: Urgency,
    },
    Acknowledge {
        task: u8,
    },
    Silence {
        task: u8,
        seconds: u64,
    },
    EndSilence,
    MuteTime {
        is_on: bool,
    },
    Fail {
        channel: usize,
        may_pass: bool,
    },
    Heal {
        channel: usize,
    },
    /// A daemon takes what is due and is never heard of again.
    Die,
    Resend,
    /// The book is written and read.
    Restart,
    Pass {
        seconds: u64,
    },
}

const CHANNELS: [&str; 4] = ["slack", "pager", "mail", "am"];

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let task = || 0..4_u8;
    let channel = || 0..CHANNELS.len();
    let change = prop_oneof![
        3 => Just(Change::Present),
        2 => Just(Change::Happened { lasts: true }),
        2 => Just(Change::Happened { lasts: false }),
        5 => Just(Change::Over),
    ];
    let urgency =
        prop_oneof![3 => Just(Urgency::P1), 1 => Just(Urgency::P2), 1 => Just(Urgency::P0)];
    let passing = prop_oneof![5 => 1..20_u64, 5 => 20..400_u64, 2 => 400..20_000_u64];
    let order = prop_oneof![
        12 => (task(), change, urgency)
            .prop_map(|(task, change, urgency)| Order::Signal { task, change, urgency }),
        2 => task().prop_map(|task| Order::Acknowledge { task }),
        1 => (task(), 1..2_000_u64).prop_map(|(task, seconds)| Order::Silence { task, seconds }),
        1 => Just(Order::EndSilence),
        1 => any::<bool>().prop_map(|is_on| Order::MuteTime { is_on }),
        2 => (channel(), prop::bool::weighted(0.8))
            .prop_map(|(channel, may_pass)| Order::Fail { channel, may_pass }),
        2 => channel().prop_map(|channel| Order::Heal { channel }),
        2 => Just(Order::Die),
        1 => Just(Order::Resend),
        1 => Just(Order::Restart),
        10 => passing.prop_map(|seconds| Order::Pass { seconds }),
    ];
    prop::collection::vec(order, 1..60)
}

/// A channel for all, one further up for what is urgent, one on a second route, and a feed.
fn everything() -> Plan {
    let mut plan = plan(&CHANNELS);
    plan.channels.get_mut("am").expect("a feed").is_feed = true;
    let pager = plan.channels.get_mut("pager").expect("a channel");
    pager.min_urgency = Urgency::P1;
    let mail = plan.channels.get_mut("mail").expect("a channel");
    (mail.send_resolved, mail.rate) = (false, Rate { messages: 2, per: secs(120) });
    plan.route.channels = names(&["slack", "am"]);
    plan.route.escalation = vec![step(5, "pager"), step(15, "mail")];
    let mut all = route(&plan.route, &["task=~\".*\""], "slack");
    (all.channels, all.continues) = (names(&["slack", "am"]), true);
    let mut other = route(&plan.route, &["severity=P0"], "mail");
    (other.group_by, other.group_wait) = (names(&["task"]), secs(3));
    other.mute_times = names(&["nights"]);
    plan.route.routes = vec![all, other];
    plan.inhibitions = vec![Inhibition {
        source: vec!["severity=P0".parse().expect("a matcher")],
        target: vec!["task=\"task 3\"".parse().expect("a matcher")],
        equal: names(&["pool"]),
    }];
    plan
}

/// Watches an office and knows what must not be.
struct Watcher {
    office: Office,
    /// Messages that are being sent, and until when nobody else may have them.
    live: BTreeMap<String, Time>,
    /// What channels may have been told that it fires, since when.
    told: BTreeMap<(String, Fingerprint), Vec<Time>>,
    /// Parcels that were taken and of which nothing was heard again.
    lost: BTreeMap<String, u64>,
    /// Heights of what was acknowledged.
    heights: BTreeMap<(String, u64), usize>,
    heard: u64,
    silences: u64,
}

impl Watcher {
    fn new() -> Self {
        Self {
            office: Office { is_checked: true, ..Office::new(everything()) },
            live: BTreeMap::new(),
            told: BTreeMap::new(),
            lost: BTreeMap::new(),
            heights: BTreeMap::new(),
            heard: 0,
            silences: 0,
        }
    }

    fn play(&mut self, order: &Order) {
        let office = &mut self.office;
        let name = |task: u8| format!("task {task}");
        match *order {
            Order::Signal { task, change, urgency } => {
                let signal = Signal { urgency, ..signal(LOST, &name(task), change) };
                self.heard += u64::from(change != Change::Over);
                office.book.hear([Signal { at: office.now, ..signal }]);
                self.until(self.office.now);
            }
            Order::Acknowledge { task } => {
                let id = present(&name(task)).labels.fingerprint().to_string();
                let (by, at, note) = ("anna".to_owned(), office.now, String::new());
                // There may be no such alert.
                let _ = office.book.acknowledge(&id, Acknowledgement { by, at, note });
            }
            Order::Silence { task, seconds } => {
                self.silences += 1;
                let from = office.now.since(START).as_secs();
                let matcher = format!("task=\"{}\"", name(task));
                office.silence(&self.silences.to_string(), &matcher, from, from + seconds);
            }
            Order::EndSilence => {
                let _ = office.book.end_silence(office.now, &self.silences.to_string());
            }
            Order::MuteTime { is_on: true } => drop(office.muted.insert("nights".to_owned())),
            Order::MuteTime { is_on: false } => office.muted.clear(),
            Order::Fail { channel, may_pass } => {
                let failure = if may_pass { trouble() } else { wrong() };
                office.failing.insert(CHANNELS[channel].to_owned(), failure);
            }
            Order::Heal { channel } => drop(office.failing.remove(CHANNELS[channel])),
            Order::Die => self.die(),
            Order::Resend => drop(office.book.resend(office.now, None)),
            Order::Restart => {
                let json = serde_json::to_string(&office.book).expect("JSON");
                let read: Book = serde_json::from_str(&json).expect("a book");
                assert_eq!(read, office.book);
            }
            Order::Pass { seconds } => self.until(self.office.now + secs(seconds)),
        }
    }

    /// A daemon comes when something is due, step by step.
    fn until(&mut self, end: Time) {
        loop {
            self.work();
            let due = self.office.book.next_due(&self.office.plan);
            let next = due.filter(|due| *due <= end).unwrap_or(end);
            let is_last = next >= end && self.office.now >= end;
            if is_last && due.is_none_or(|due| due > end) {
                return;
            }
            self.office.now = self.office.now.max(next);
        }
    }

    fn work(&mut self) {
        for _ in 0..100 {
            self.office.book.tick(self.office.now, &self.office.plan, &self.office.muted);
            let taken = self.take(DAEMON);
            let is_idle = taken.is_empty();
            for (id, channel) in taken {
                let outcome = self.office.failing.get(&channel).map_or(Ok(()), Err);
                self.office.book.settle(self.office.now, &id, outcome, secs(0));
                self.live.remove(&id);
            }
            self.look();
            let due = self.office.book.next_due(&self.office.plan);
            if is_idle && due.is_none_or(|due| due > self.office.now) {
                return;
            }
        }
        panic!("something is always due");
    }

    fn die(&mut self) {
        self.office.book.tick(self.office.now, &self.office.plan, &self.office.muted);
        for (_, channel) in self.take("a daemon that dies") {
            *self.lost.entry(channel).or_default() += 1;
        }
    }

    fn take(&mut self, by: &str) -> Vec<(String, String)> {
        let now = self.office.now;
        let parcels = self.office.book.take(now, &self.office.plan, by);
        let due = self.office.book.next_due(&self.office.plan);
        assert!(due.is_none_or(|due| due >= now), "{due:?} is before {now}");
        let channels: BTreeSet<_> = parcels.iter().map(|parcel| &parcel.channel).collect();
        assert_eq!(channels.len(), parcels.len(), "one at a time for each channel");
        for parcel in &parcels {
            let (id, channel) = (&parcel.notification.id, &parcel.channel);
            let others = self.live.iter().filter(|(other, until)| *other == id && **until > now);
            assert_eq!(others.count(), 0, "{id} is being sent");
            self.live.insert(id.clone(), now + secs(20));
            for alert in &parcel.notification.alerts {
                let told = self.told.entry((channel.clone(), alert.fingerprint.clone()));
                match alert.status {
                    Status::Firing => told.or_default().push(now),
                    Status::Resolved => assert!(
                        !told.or_default().is_empty(),
                        "{channel} is told the end of what it never heard of: {alert:?}"
                    ),
                }
                assert!(channel != "mail" || alert.status == Status::Firing);
            }
        }
        let handed = parcels.into_iter().map(|parcel| (parcel.notification.id, parcel.channel));
        handed.collect()
    }

    /// What holds at every moment.
    fn look(&mut self) {
        for view in self.office.book.view(self.office.now, &self.office.plan) {
            let Some(word) = view.acknowledged.as_ref() else { continue };
            let key = (view.id.clone(), (word.at * 1e6) as u64);
            let height = self.heights.entry(key).or_insert(view.climbed);
            assert!(view.climbed <= *height, "it climbs although somebody has it in hand");
        }
        let sums = self.office.book.sums();
        for (channel, sums) in &sums.channels {
            let settled = sums.sent + sums.failed.values().sum::<u64>();
            let lost = self.lost.get(channel).copied().unwrap_or_default();
            assert_eq!(sums.requests, settled + lost, "{channel}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn whatever_comes_the_book_keeps_its_promises(orders in orders()) {
        let mut watcher = Watcher::new();
        for order in &orders {
            watcher.play(order);
        }
        watcher.office.failing.clear();
        watcher.office.muted.clear();
        // Everything comes to an end, and everybody hears of it.
        for task in 0..4 {
            watcher.play(&Order::Signal { task, change: Change::Over, urgency: Urgency::P1 });
        }
        watcher.until(watcher.office.now + secs(8 * 3_600));
        prop_assert_eq!(watcher.office.waiting(), 0);
        prop_assert!(watcher.office.book.alerts().all(|(_, alert)| alert.is_over()));
        prop_assert_eq!(watcher.office.book.next_due(&watcher.office.plan), None);
    }

    /// Without anything that keeps it quiet, all that has happened is told within bounded time,
    /// whatever fails for a while.
    #[test]
    fn all_that_has_happened_is_told(orders in orders()) {
        let mut watcher = Watcher::new();
        watcher.office.plan.inhibitions.clear();
        let mut happened = Vec::new();
        for order in &orders {
            if matches!(order, Order::Silence { .. } | Order::MuteTime { .. }) {
                continue;
            }
            watcher.play(order);
            if let Order::Signal { task, change: Change::Happened { .. }, .. } = order {
                let id = present(&format!("task {task}")).labels.fingerprint();
                let (_, alert) = watcher.office.book.alerts().find(|one| *one.0 == id).expect("it");
                happened.push((id, alert.began_at));
            }
        }
        watcher.office.failing.clear();
        watcher.until(watcher.office.now + secs(3_600));
        for (id, began_at) in happened {
            let told = watcher.told.get(&("slack".to_owned(), id.clone()));
            let is_told = told.is_some_and(|told| told.iter().any(|at| *at >= began_at));
            prop_assert!(is_told, "{} that began at {} was never told", id, began_at);
        }
    }

    /// Who works only when something is due says the same as who works all the time.
    #[test]
    fn nothing_that_is_due_is_missed(orders in orders()) {
        let mut office = Office::new(everything());
        let mut watcher = Watcher::new();
        for order in &orders {
            if let Order::Pass { seconds } = order {
                office.book = watcher.office.book.clone();
                office.now = watcher.office.now;
                office.muted = watcher.office.muted.clone();
                let span = office.now.since(START) + secs((*seconds).min(1_000));
                office.until(span);
            }
            watcher.play(order);
        }
    }

    #[test]
    fn every_signal_is_counted_once(orders in orders()) {
        let mut watcher = Watcher::new();
        // That a channel has given up is an alert too.
        let fails = |order: &Order| matches!(order, Order::Fail { .. });
        orders.iter().filter(|order| !fails(order)).for_each(|order| watcher.play(order));
        let sums = watcher.office.book.sums();
        prop_assert_eq!(sums.alerts + sums.deduplicated, watcher.heard);
    }
}
