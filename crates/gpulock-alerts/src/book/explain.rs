//! What would become of an alert, without telling anybody.

use std::collections::BTreeSet;
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Labels, Urgency};
use serde::Serialize;

use super::mute::is_inhibited_by;
use super::routing::{Way, ways};
use super::{Book, Mute};
use crate::plan::{ChannelPlan, Plan, Route};

/// What would become of an alert with some labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Its labels.
    pub labels: Labels,
    /// Its id.
    pub id: String,
    /// The routes that it goes, each with the group that it joins there.
    pub routes: Vec<RouteView>,
    /// What keeps it quiet now; nobody is told if there is anything.
    pub muted_by: Vec<MuteView>,
}

/// A route that an alert goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteView {
    /// The matchers on the way from the top, and the place of each route among its siblings.
    pub path: String,
    /// Names the group.
    pub group_key: String,
    /// The labels that make the group.
    pub group_labels: Labels,
    /// How long a new group waits for more alerts.
    pub group_wait_seconds: f64,
    /// How long news of the group wait after its last message.
    pub group_interval_seconds: f64,
    /// After which time it is told again.
    pub repeat_interval_seconds: f64,
    /// Windows of time in which nobody is told, and whether they are open now.
    pub mute_times: Vec<MuteTimeView>,
    /// Who is told at once.
    pub channels: Vec<ReachView>,
    /// Who is told while nobody acknowledges.
    pub escalation: Vec<StepView>,
}

/// A window of time in which nobody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MuteTimeView {
    /// Its name.
    pub name: String,
    /// Whether it is open now.
    pub is_active: bool,
}

/// Who is told when nobody has acknowledged for so long.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    /// After the first message.
    pub after_seconds: f64,
    /// Who.
    pub channels: Vec<ReachView>,
}

/// Whether a channel is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReachView {
    /// The channel.
    pub channel: String,
    /// Whether it is.
    pub is_told: bool,
    /// Why not, if it is not.
    pub why_not: Option<String>,
}

/// What keeps an alert quiet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MuteView {
    /// `silence` or `inhibit`.
    pub by: &'static str,
    /// The id of the silence, or of the alert that says as much and more.
    pub id: String,
    /// The matchers and the comment of the silence, or the rule of that alert.
    pub what: String,
}

impl Book {
    /// What would become of an alert with these labels now. `muted` names the windows of time in
    /// which nobody is to be told now.
    pub fn explain(
        &self,
        now: Time,
        plan: &Plan,
        muted: &BTreeSet<String>,
        labels: &Labels,
    ) -> Explanation {
        let ways = ways(plan, labels);
        let routes = ways.iter().map(|way| route_view(plan, way, muted, labels));
        Explanation {
            id: labels.fingerprint().to_string(),
            routes: routes.collect(),
            muted_by: self.mutes_of(now, plan, labels),
            labels: labels.clone(),
        }
    }

    /// Everything that keeps an alert with these labels quiet now.
    fn mutes_of(&self, now: Time, plan: &Plan, labels: &Labels) -> Vec<MuteView> {
        let silences =
            self.silences().filter(|(_, silence)| silence.is_active(now) && silence.covers(labels));
        let silences = silences.map(|(id, silence)| {
            let matchers: Vec<_> = silence.matchers.iter().map(ToString::to_string).collect();
            let mut what = matchers.join(" ");
            if !silence.comment.is_empty() {
                what = format!("{what} ({}: {})", silence.created_by, silence.comment);
            }
            MuteView { by: Mute::Silence.as_str(), id: id.to_owned(), what }
        });
        let inhibits = self.firing().filter(|(_, source)| {
            let source = source.full_labels();
            plan.inhibitions.iter().any(|one| is_inhibited_by(one, labels, &source))
        });
        let inhibits = inhibits.map(|(id, source)| MuteView {
            by: Mute::Inhibit.as_str(),
            id: id.to_string(),
            what: source.name().to_owned(),
        });
        silences.chain(inhibits).collect()
    }
}

fn route_view(plan: &Plan, way: &Way<'_>, muted: &BTreeSet<String>, labels: &Labels) -> RouteView {
    let route: &Route = way.route;
    let reach = |names: &[String]| -> Vec<ReachView> {
        names.iter().map(|name| reach(name, plan.channels.get(name), labels)).collect()
    };
    let end = format!(":{{{}}}", way.group_labels);
    RouteView {
        path: way.group_key.strip_suffix(&end).unwrap_or(&way.group_key).to_owned(),
        group_key: way.group_key.clone(),
        group_labels: way.group_labels.clone(),
        group_wait_seconds: route.group_wait.as_secs_f64(),
        group_interval_seconds: route.group_interval.as_secs_f64(),
        repeat_interval_seconds: route.repeat_interval.as_secs_f64(),
        mute_times: route
            .mute_times
            .iter()
            .map(|name| MuteTimeView { name: name.clone(), is_active: muted.contains(name) })
            .collect(),
        channels: reach(&route.channels),
        escalation: route
            .escalation
            .iter()
            .map(|step| StepView {
                after_seconds: Duration::as_secs_f64(&step.after),
                channels: reach(&step.channels),
            })
            .collect(),
    }
}

fn reach(name: &str, channel: Option<&ChannelPlan>, labels: &Labels) -> ReachView {
    let urgency: Urgency = labels.value(Labels::SEVERITY).parse().unwrap_or(Urgency::Warning);
    let why_not = match channel {
        None => Some("there is no such channel".to_owned()),
        Some(channel) if urgency < channel.min_urgency => {
            Some(format!("its min_level is {}", channel.min_urgency))
        }
        Some(_) if labels.value("channel") == name => {
            Some("what is about a channel is told to the others".to_owned())
        }
        Some(_) => None,
    };
    ReachView { channel: name.to_owned(), is_told: why_not.is_none(), why_not }
}
