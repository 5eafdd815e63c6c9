//! Groups of alerts that are told together, when they are told, and how they climb.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels, Urgency};
use serde::{Deserialize, Serialize};

use super::mute::Mute;
use super::outbox::Post;
use super::routing::{Way, routes, ways};
use super::{Alert, Book};
use crate::plan::{ChannelPlan, Plan, Route};

/// Alerts that are told together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Names the route within the plan.
    #[serde(default)]
    route: String,
    pub(super) labels: Labels,
    /// When it is looked at next.
    pub(super) due: Time,
    #[serde(default)]
    pub(super) members: BTreeMap<Fingerprint, Member>,
    /// What each channel was told last.
    #[serde(default)]
    told: BTreeMap<String, Told>,
}

/// An alert in a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    /// When it was first told here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_told: Option<Time>,
    /// How many steps it has climbed.
    #[serde(default)]
    pub(super) climbed: usize,
    /// Its time to be told has come here, even if it was muted then.
    #[serde(default)]
    has_come_up: bool,
}

/// What a channel was told last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    /// That these fire: how urgent they were, and when they had begun.
    #[serde(default)]
    firing: BTreeMap<Fingerprint, (Urgency, Time)>,
    at: Time,
}

/// Who hears of a group on a route: the channel, and how far an alert must have climbed for it.
type Audience<'p> = BTreeMap<&'p str, usize>;

/// What nobody is told of at some moment.
pub(super) struct Hush<'h> {
    /// Alerts that are muted one by one.
    pub(super) mutes: BTreeMap<Fingerprint, Mute>,
    /// Windows of time in which nobody is told.
    pub(super) windows: &'h BTreeSet<String>,
}

/// A route at some moment.
struct Scene<'s> {
    now: Time,
    plan: &'s Plan,
    route: &'s Route,
    key: &'s str,
}

impl Book {
    /// Puts every alert into the groups where it belongs; new groups wait for more.
    pub(super) fn sort_into_groups(&mut self, now: Time, plan: &Plan) {
        let mut belongs: BTreeMap<String, BTreeSet<&Fingerprint>> = BTreeMap::new();
        for (id, alert) in &self.alerts {
            let ways = ways(plan, &alert.full_labels());
            for way in ways.into_iter().filter(|way| has_audience(way.route)) {
                let Way { route, path, group_key, group_labels } = way;
                belongs.entry(group_key.clone()).or_default().insert(id);
                if alert.is_over() {
                    continue;
                }
                let group = self.groups.entry(group_key).or_insert_with(|| Group {
                    route: path,
                    labels: group_labels,
                    // An alert that has been waiting elsewhere waits no longer.
                    due: now.max(in_step(alert.began_at + route.group_wait)),
                    members: BTreeMap::new(),
                    told: BTreeMap::new(),
                });
                let member = group.members.entry(id.clone()).or_default();
                if member.first_told.is_some_and(|told| told < alert.began_at) {
                    // It was over, and has begun anew.
                    *member = Member::default();
                }
            }
        }
        let routes = routes(plan);
        self.groups.retain(|_, group| routes.contains_key(&group.route));
        for (key, group) in &mut self.groups {
            let Group { members, told, .. } = group;
            // What was told here is also called off here, even if it goes another way by now.
            let was_told =
                |id: &Fingerprint| told.values().any(|told| told.firing.contains_key(id));
            let belongs = belongs.get(key);
            members.retain(|id, _| {
                let fires = self.alerts.get(id).is_some_and(|alert| !alert.is_over());
                let belongs = belongs.is_some_and(|belongs| belongs.contains(id));
                was_told(id) || fires && belongs
            });
        }
    }

    /// Looks at the groups that are due, and puts into the outbox what is news.
    pub(super) fn tell_groups(&mut self, now: Time, plan: &Plan, hush: &Hush<'_>) {
        let routes = routes(plan);
        let due = self.groups.iter().filter(|(_, group)| group.due <= now);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(mut group) = self.groups.remove(&key) else { continue };
            let Some(route) = routes.get(&group.route) else { continue };
            let scene = Scene { now, plan, route, key: &key };
            let visible = self.visible(route, &group, hush);
            for mute in group.members.keys().filter_map(|id| hush.mute_of(id, route)) {
                self.sums.count_suppressed(mute.as_str(), 1);
            }
            for (channel, step) in audience(route) {
                self.tell(&scene, &mut group, &visible, (channel, step, None));
            }
            group.come_up(now, &visible, |id| self.alerts.get(id).is_none_or(Alert::is_over));
            group.due = now + route.group_interval.max(SHORTEST_INTERVAL);
            if !group.members.is_empty() {
                self.groups.insert(key, group);
            }
        }
        let members = self.groups.values().flat_map(|group| &group.members);
        let to_come: BTreeSet<_> =
            members.filter(|(_, member)| !member.has_come_up).map(|(id, _)| id).collect();
        for (id, alert) in &mut self.alerts {
            alert.was_told |= !to_come.contains(id);
        }
    }

    /// Tells those further up of what nobody has acknowledged.
    pub(super) fn climb(&mut self, now: Time, plan: &Plan, hush: &Hush<'_>) {
        let routes = routes(plan);
        let due = self.groups.iter().filter(|(_, group)| {
            routes
                .get(&group.route)
                .is_some_and(|route| self.climbs_of(group, route).any(|moment| moment <= now))
        });
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(mut group) = self.groups.remove(&key) else { continue };
            if let Some(route) = routes.get(&group.route) {
                let scene = Scene { now, plan, route, key: &key };
                let visible = self.visible(route, &group, hush);
                let reached = self.raise(&mut group, &scene, &visible);
                let steps = reached.iter().filter_map(|step| route.escalation.get(step - 1));
                let called: BTreeSet<_> =
                    steps.flat_map(|step| &step.channels).map(String::as_str).collect();
                // Who stands on several steps is called again on each.
                for (channel, step) in audience(route) {
                    if called.contains(channel) {
                        let who = (channel, step, Some("escalation"));
                        self.tell(&scene, &mut group, &visible, who);
                    }
                }
            }
            self.groups.insert(key, group);
        }
    }

    /// When alerts climb next.
    pub(super) fn climbs(&self, plan: &Plan) -> impl Iterator<Item = Time> {
        let routes = routes(plan);
        self.groups.values().filter_map(move |group| {
            let route = routes.get(&group.route)?;
            self.climbs_of(group, route).min()
        })
    }

    fn climbs_of<'b>(
        &'b self,
        group: &'b Group,
        route: &'b Route,
    ) -> impl Iterator<Item = Time> + 'b {
        group.members.iter().filter_map(|(id, member)| {
            self.alerts.get(id).filter(|alert| alert.can_climb())?;
            let step = route.escalation.get(member.climbed)?;
            Some(member.first_told? + step.after)
        })
    }

    /// Lets alerts climb whose time has come; the steps that were reached.
    fn raise(
        &self,
        group: &mut Group,
        scene: &Scene<'_>,
        visible: &[Fingerprint],
    ) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        for (id, member) in &mut group.members {
            let can_climb = self.alerts.get(id).is_some_and(Alert::can_climb);
            let Some(first_told) = member.first_told.filter(|_| can_climb) else { continue };
            while scene
                .route
                .escalation
                .get(member.climbed)
                .is_some_and(|step| first_told + step.after <= scene.now)
            {
                member.climbed += 1;
                // One that is muted climbs as well, and nobody hears of it.
                if visible.contains(id) {
                    reached.insert(member.climbed);
                }
            }
        }
        reached
    }

    /// The members that are not muted.
    fn visible(&self, route: &Route, group: &Group, hush: &Hush<'_>) -> Vec<Fingerprint> {
        let is_visible =
            |id: &&Fingerprint| self.alerts.contains_key(*id) && hush.mute_of(id, route).is_none();
        group.members.keys().filter(is_visible).cloned().collect()
    }

    /// Puts a message for a channel into the outbox, if there is news for it.
    fn tell(
        &mut self,
        scene: &Scene<'_>,
        group: &mut Group,
        visible: &[Fingerprint],
        (channel, step, why): (&str, usize, Option<&str>),
    ) {
        let Some(plan) = scene.plan.channels.get(channel).filter(|plan| !plan.is_feed) else {
            return;
        };
        let told = group.told.get(channel);
        let was_told = |id: &Fingerprint| told.is_some_and(|told| told.firing.contains_key(id));
        // What it never heard of need not be called off; what it heard of is, in any case.
        let concerns = |id: &Fingerprint, alert: &Alert| {
            let has_climbed = group.members.get(id).is_some_and(|member| member.climbed >= step);
            was_told(id) || has_climbed && !alert.is_over() && is_for(alert, channel, plan)
        };
        let mut alerts: Vec<_> = visible
            .iter()
            .filter_map(|id| Some((id, self.alerts.get(id)?)))
            .filter(|(id, alert)| concerns(id, alert))
            .collect();
        let nobody_has_it = alerts.iter().any(|(_, alert)| alert.can_climb());
        let called = why.filter(|_| nobody_has_it);
        let reason = called.or_else(|| news(told, &alerts, plan.send_resolved)).or_else(|| {
            let is_long_ago = told?.at + scene.route.repeat_interval <= scene.now;
            (nobody_has_it && is_long_ago).then_some("repeat")
        });
        let Some(reason) = reason else { return };
        let mut firing: BTreeMap<_, _> = told.map(|told| told.firing.clone()).unwrap_or_default();
        // What is muted by now is not forgotten.
        firing.retain(|id, _| group.members.contains_key(id) && !visible.contains(id));
        let fires = || alerts.iter().filter(|(_, alert)| !alert.is_over());
        firing.extend(fires().map(|(id, alert)| ((*id).clone(), (alert.urgency, alert.began_at))));
        let is_news = |id: &Fingerprint, alert: &Alert| told.is_none_or(|t| t.is_news(id, alert));
        let news = fires().filter(|(id, alert)| is_news(id, alert)).map(|(id, _)| (*id).clone());
        let news = news.collect();
        alerts.retain(|(_, alert)| plan.send_resolved || !alert.is_over());
        self.outbox.post(Post {
            now: scene.now,
            channel,
            group_key: scene.key,
            group_labels: &group.labels,
            reason,
            alerts: alerts.iter().map(|(id, alert)| alert.shown(id)).collect(),
            news,
            max_alerts: plan.max_alerts,
        });
        group.told.insert(channel.to_owned(), Told { firing, at: scene.now });
    }
}

impl Group {
    /// The time to tell its members has come: those that are over are done with.
    fn come_up(
        &mut self,
        now: Time,
        visible: &[Fingerprint],
        is_over: impl Fn(&Fingerprint) -> bool,
    ) {
        self.members.retain(|id, _| !is_over(id));
        for member in self.members.values_mut() {
            member.has_come_up = true;
        }
        for id in visible {
            if let Some(member) = self.members.get_mut(id) {
                member.first_told.get_or_insert(now);
            }
        }
        for told in self.told.values_mut() {
            told.firing.retain(|id, _| self.members.contains_key(id));
        }
    }
}

impl Hush<'_> {
    fn mute_of(&self, id: &Fingerprint, route: &Route) -> Option<Mute> {
        let is_mute_time = route.mute_times.iter().any(|name| self.windows.contains(name));
        self.mutes.get(id).copied().or(is_mute_time.then_some(Mute::MuteTime))
    }
}

/// Many groups that began in one storm are told in a few steps.
fn in_step(due: Time) -> Time {
    Time::from_micros(due.as_micros().div_ceil(STEP) * STEP)
}

/// In microseconds.
const STEP: u64 = 250_000;

/// A group is not looked at more often than this, whatever the plan says.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

impl Alert {
    /// Whether it gets louder as long as nobody acknowledges it.
    fn can_climb(&self) -> bool {
        self.over_at.is_none() && self.acknowledged.is_none()
    }
}

impl Told {
    /// Whether it is news that this alert fires: it was not told, has become more urgent, or has
    /// happened anew.
    fn is_news(&self, id: &Fingerprint, alert: &Alert) -> bool {
        self.firing.get(id).is_none_or(|(urgency, began_at)| {
            alert.urgency > *urgency || alert.must_be_told && alert.began_at > *began_at
        })
    }
}

/// What is new for a channel that was told this, if anything. Only what it was told that it fires
/// is among `alerts` when it is over.
fn news(
    told: Option<&Told>,
    alerts: &[(&Fingerprint, &Alert)],
    send_resolved: bool,
) -> Option<&'static str> {
    let fires = || alerts.iter().filter(|(_, alert)| !alert.is_over());
    let is_firing = fires().next().is_some();
    let Some(told) = told else { return is_firing.then_some("first") };
    if fires().any(|(id, alert)| told.is_news(id, alert)) {
        return Some("new_alerts");
    }
    let is_over = alerts.iter().any(|(_, alert)| alert.is_over());
    match (send_resolved && is_over, is_firing) {
        (true, false) => Some("all_resolved"),
        (true, true) => Some("new_resolved"),
        (false, _) => None,
    }
}

/// Whether a channel hears of such an alert. One about the channel itself goes to the others.
pub(super) fn is_for(alert: &Alert, channel: &str, plan: &ChannelPlan) -> bool {
    alert.urgency >= plan.min_urgency && alert.labels.value("channel") != channel
}

fn has_audience(route: &Route) -> bool {
    !route.channels.is_empty() || route.escalation.iter().any(|step| !step.channels.is_empty())
}

fn audience(route: &Route) -> Audience<'_> {
    let mut audience = Audience::new();
    for channel in &route.channels {
        audience.insert(channel, 0);
    }
    for (place, step) in route.escalation.iter().enumerate() {
        for channel in &step.channels {
            audience.entry(channel).or_insert(place + 1);
        }
    }
    audience
}
