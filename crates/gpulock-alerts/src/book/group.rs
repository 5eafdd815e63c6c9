//! Groups of alerts that are told together, when they are told, and how they climb.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels};
use serde::{Deserialize, Serialize};

use super::mute::{Mute, Quiet};
use super::outbox::Post;
use super::routing::{Way, ways};
use super::{Alert, Book};
use crate::plan::{ChannelPlan, Plan, Route};

/// Alerts that are told together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) labels: Labels,
    /// When it is looked at next.
    pub(super) due: Time,
    pub(super) members: BTreeMap<Fingerprint, Member>,
    /// What each channel was told last.
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
}

/// What a channel was told last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    firing: BTreeSet<Fingerprint>,
    resolved: BTreeSet<Fingerprint>,
    at: Time,
}

/// Who hears of a group on a route: the channel, and how far an alert must have climbed for it.
type Audience<'p> = BTreeMap<&'p str, usize>;

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
        for (id, alert) in &mut self.alerts {
            let ways = ways(plan, &alert.full_labels());
            let is_heard = ways.iter().any(|way| has_audience(way.route));
            alert.was_told |= !is_heard;
            for way in ways.into_iter().filter(|way| has_audience(way.route)) {
                let Way { route, group_key, group_labels } = way;
                let is_known =
                    self.groups.get(&group_key).is_some_and(|group| group.members.contains_key(id));
                if alert.is_over() && !is_known {
                    continue;
                }
                let group = self.groups.entry(group_key.clone()).or_insert_with(|| Group {
                    labels: group_labels,
                    // An alert that has been waiting elsewhere waits no longer.
                    due: now.max(alert.began_at + route.group_wait),
                    members: BTreeMap::new(),
                    told: BTreeMap::new(),
                });
                group.members.entry(id.clone()).or_default();
                belongs.entry(group_key).or_default().insert(id);
            }
        }
        self.groups.retain(|key, group| {
            let Some(belongs) = belongs.get(key) else { return false };
            group.members.retain(|id, _| belongs.contains(id));
            true
        });
    }

    /// Looks at the groups that are due, and puts into the outbox what is news.
    pub(super) fn tell_groups(&mut self, now: Time, plan: &Plan, muted: &BTreeSet<String>) {
        let due = self.groups.iter().filter(|(_, group)| group.due <= now);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(mut group) = self.groups.remove(&key) else { continue };
            let route = self.route_of(plan, &key, &group);
            let Some(route) = route else { continue };
            let scene = Scene { now, plan, route, key: &key };
            let visible = self.visible(&scene, &group, muted, true);
            for (channel, step) in audience(route) {
                self.tell(&scene, &mut group, &visible, (channel, step, None));
            }
            for id in &visible {
                let is_firing = self.alerts.get(id).is_some_and(|alert| !alert.is_over());
                if let Some(member) = group.members.get_mut(id).filter(|_| is_firing) {
                    member.first_told.get_or_insert(now);
                }
            }
            let over = |id: &Fingerprint| self.alerts.get(id).is_none_or(Alert::is_over);
            group.members.retain(|id, _| !over(id));
            for id in group.members.keys() {
                if let Some(alert) = self.alerts.get_mut(id) {
                    alert.was_told = true;
                }
            }
            group.due = now + route.group_interval.max(SHORTEST_INTERVAL);
            if !group.members.is_empty() {
                self.groups.insert(key, group);
            }
        }
    }

    /// Tells those further up of what nobody has acknowledged.
    pub(super) fn climb(&mut self, now: Time, plan: &Plan, muted: &BTreeSet<String>) {
        let due = self.groups.iter().filter(|(key, group)| {
            self.route_of(plan, key, group)
                .is_some_and(|route| self.climbs_of(group, route).any(|moment| moment <= now))
        });
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(mut group) = self.groups.remove(&key) else { continue };
            if let Some(route) = self.route_of(plan, &key, &group) {
                let scene = Scene { now, plan, route, key: &key };
                let visible = self.visible(&scene, &group, muted, false);
                let reached = self.raise(&mut group, &scene, &visible);
                for (channel, step) in audience(route).into_iter().filter(|(_, step)| *step > 0) {
                    if reached.contains(&step) {
                        self.tell(
                            &scene,
                            &mut group,
                            &visible,
                            (channel, step, Some("escalation")),
                        );
                    }
                }
            }
            self.groups.insert(key, group);
        }
    }

    /// When alerts climb next.
    pub(super) fn climbs<'b>(&'b self, plan: &'b Plan) -> impl Iterator<Item = Time> + 'b {
        self.groups.iter().flat_map(move |(key, group)| {
            let route = self.route_of(plan, key, group);
            route.into_iter().flat_map(move |route| self.climbs_of(group, route))
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
    fn visible(
        &mut self,
        scene: &Scene<'_>,
        group: &Group,
        muted: &BTreeSet<String>,
        counts: bool,
    ) -> Vec<Fingerprint> {
        let quiet: Quiet<'_> = self.quiet(scene.now, scene.plan);
        let is_mute_time = scene.route.mute_times.iter().any(|name| muted.contains(name));
        let (mut visible, mut mutes) = (Vec::new(), Vec::new());
        for id in group.members.keys() {
            let Some(alert) = self.alerts.get(id) else { continue };
            let mute = quiet.mute_of(&alert.full_labels());
            match mute.or(is_mute_time.then_some(Mute::MuteTime)) {
                None => visible.push(id.clone()),
                Some(mute) => mutes.push(mute),
            }
        }
        for mute in mutes.into_iter().filter(|_| counts) {
            self.sums.count_suppressed(mute.as_str());
        }
        visible
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
        let concerns = |id: &&Fingerprint| {
            let climbed = group.members.get(*id).is_some_and(|member| member.climbed >= step);
            let alert = self.alerts.get(*id);
            climbed && alert.is_some_and(|alert| is_for(alert, channel, plan))
        };
        let told = group.told.get(channel);
        // What it never heard of need not be called off.
        let was_told = |id: &Fingerprint| told.is_some_and(|told| told.firing.contains(id));
        let mut alerts: Vec<_> = visible
            .iter()
            .filter(concerns)
            .filter_map(|id| Some((id, self.alerts.get(id)?)))
            .filter(|(id, alert)| !alert.is_over() || was_told(id))
            .collect();
        let ids = |over: bool| {
            let such = alerts.iter().filter(|(_, alert)| alert.is_over() == over);
            such.map(|(id, _)| (*id).clone()).collect::<BTreeSet<_>>()
        };
        let (firing, resolved) = (ids(false), ids(true));
        let repeats = scene.route.repeat_interval;
        let nobody_has_it = alerts.iter().any(|(_, alert)| alert.can_climb());
        let reason = match told {
            None => (!firing.is_empty()).then_some("first"),
            Some(told) => told.news(&firing, &resolved, plan.send_resolved).or_else(|| {
                let is_long_ago = told.at + repeats <= scene.now;
                (nobody_has_it && is_long_ago).then_some("repeat")
            }),
        };
        let Some(reason) = reason else { return };
        if !plan.send_resolved {
            alerts.retain(|(_, alert)| !alert.is_over());
        }
        alerts.sort_by_key(|(_, alert)| {
            (alert.is_over(), std::cmp::Reverse(alert.urgency), alert.began_at)
        });
        let count = alerts.iter().map(|(_, alert)| alert.count).sum();
        let left_out = alerts.len().saturating_sub(plan.max_alerts);
        let alerts: Vec<_> =
            alerts.iter().take(plan.max_alerts).map(|(id, alert)| alert.shown(id)).collect();
        if !alerts.is_empty() {
            self.outbox.post(Post {
                now: scene.now,
                channel,
                group_key: scene.key,
                group_labels: &group.labels,
                reason: why.unwrap_or(reason),
                alerts,
                left_out,
                count,
            });
        }
        group.told.insert(channel.to_owned(), Told { firing, resolved, at: scene.now });
    }

    /// The route that made a group, if the plan still has it.
    fn route_of<'p>(&self, plan: &'p Plan, key: &str, group: &Group) -> Option<&'p Route> {
        let member = group.members.keys().find_map(|id| self.alerts.get(id))?;
        let ways = ways(plan, &member.full_labels());
        ways.into_iter().find(|way| way.group_key == key).map(|way| way.route)
    }
}

/// A group is not looked at more often than this, whatever the plan says.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

impl Alert {
    /// Whether it gets louder as long as nobody acknowledges it.
    fn can_climb(&self) -> bool {
        self.over_at.is_none() && self.acknowledged.is_none()
    }
}

impl Told {
    /// What is new for a channel that was told this, if anything.
    fn news(
        &self,
        firing: &BTreeSet<Fingerprint>,
        resolved: &BTreeSet<Fingerprint>,
        send_resolved: bool,
    ) -> Option<&'static str> {
        if !firing.is_subset(&self.firing) {
            return Some("new_alerts");
        }
        // Only what it was told that it fires is news when it is over.
        let is_news = resolved.iter().any(|id| self.firing.contains(id));
        match (send_resolved && is_news, firing.is_empty()) {
            (true, true) => Some("all_resolved"),
            (true, false) => Some("new_resolved"),
            (false, _) => None,
        }
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
