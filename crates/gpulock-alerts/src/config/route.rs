//! Routes in the configuration: each has what it does not say from the one around it.

use std::collections::BTreeSet;
use std::time::Duration;

use gpulock::config::ConfigError;
use serde::Deserialize;

use super::{At, check_known};
use crate::plan::{Matcher, Route, Step};
use crate::span::Span;

/// A route as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteSection {
    matchers: Vec<Matcher>,
    channels: Option<Vec<String>>,
    group_by: Option<Vec<String>>,
    group_wait: Option<Span>,
    group_interval: Option<Span>,
    repeat_interval: Option<Span>,
    mute_times: Option<Vec<String>>,
    escalation: Option<Vec<StepSection>>,
    #[serde(rename = "continue")]
    continues: bool,
    routes: Vec<Self>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepSection {
    after: Span,
    channels: Vec<String>,
}

/// What routes can name.
pub(super) struct Known {
    pub(super) channels: BTreeSet<String>,
    /// Those that hear of everything that fires, again and again.
    pub(super) feeds: BTreeSet<String>,
    pub(super) mute_times: BTreeSet<String>,
}

impl RouteSection {
    /// The route in which the way of every alert begins. If it names no channels, all are told that
    /// are not kept for its escalation.
    pub(super) fn top(&self, known: &Known, at: &At<'_>) -> Result<Route, ConfigError> {
        if !self.matchers.is_empty() {
            let hint = "move them into an entry of `routes`; every alert begins its way here";
            return Err(at.key("matchers").wrong("cannot stand in the outermost route", hint));
        }
        if self.continues {
            let hint = "remove it; it counts among the entries of one list of `routes`";
            return Err(at.key("continue").wrong("means nothing in the outermost route", hint));
        }
        let steps = self.escalation.as_deref().unwrap_or_default();
        let is_kept = |name: &&String| steps.iter().any(|step| step.channels.contains(*name));
        let channels = known.channels.iter().filter(|name| !is_kept(name)).cloned().collect();
        let around = Route { channels, ..Route::default() };
        self.route(&around, known, at)
    }

    fn route(&self, around: &Route, known: &Known, at: &At<'_>) -> Result<Route, ConfigError> {
        self.check_names(known, at)?;
        let span = |given: Option<Span>, around| given.map_or(around, |span| span.0);
        let group_interval = span(self.group_interval, around.group_interval);
        at.key("group_interval").positive(group_interval)?;
        let repeat_interval = span(self.repeat_interval, around.repeat_interval);
        at.key("repeat_interval").positive(repeat_interval)?;
        let mut route = Route {
            matchers: self.matchers.clone(),
            channels: self.channels.clone().unwrap_or_else(|| around.channels.clone()),
            group_by: self.group_by.clone().unwrap_or_else(|| around.group_by.clone()),
            group_wait: span(self.group_wait, around.group_wait),
            group_interval,
            repeat_interval: rounded_up(repeat_interval, group_interval),
            mute_times: self.mute_times.clone().unwrap_or_else(|| around.mute_times.clone()),
            escalation: match &self.escalation {
                Some(steps) => escalation(steps, known, &at.key("escalation"))?,
                None => around.escalation.clone(),
            },
            continues: self.continues,
            routes: Vec::new(),
        };
        let each = at.key("routes");
        let inner = self.routes.iter().enumerate();
        let inner = inner.map(|(item, section)| section.route(&route, known, &each.item(item)));
        route.routes = inner.collect::<Result<_, _>>()?;
        Ok(route)
    }

    fn check_names(&self, known: &Known, at: &At<'_>) -> Result<(), ConfigError> {
        check_channels(self.channels.as_deref().unwrap_or_default(), known, &at.key("channels"))?;
        let each = at.key("mute_times");
        for (item, name) in self.mute_times.iter().flatten().enumerate() {
            let known = known.mute_times.iter().map(String::as_str);
            check_known(name, known, &each.item(item), "mute time")?;
        }
        let labels = self.group_by.as_deref().unwrap_or_default();
        match labels {
            [all] if all == Route::ALL_LABELS => Ok(()),
            _ => check_labels(labels, &at.key("group_by")),
        }
    }
}

fn escalation(steps: &[StepSection], known: &Known, at: &At<'_>) -> Result<Vec<Step>, ConfigError> {
    let mut before = Duration::ZERO;
    let mut escalation = Vec::new();
    for (item, step) in steps.iter().enumerate() {
        let at = at.item(item);
        let after = step.after.0;
        if after <= before {
            let hint = "write the steps in their order, each later than the one before it";
            return Err(at.key("after").wrong("is not later than what comes before it", hint));
        }
        before = after;
        if step.channels.is_empty() {
            let hint = "name who is told then, or remove the step";
            return Err(at.key("channels").wrong("is empty", hint));
        }
        check_channels(&step.channels, known, &at.key("channels"))?;
        let mut names = step.channels.iter().enumerate();
        if let Some((item, _)) = names.find(|(_, name)| known.feeds.contains(*name)) {
            let hint = "name it in `channels` of the route; it decides itself who is told later";
            return Err(at
                .key("channels")
                .item(item)
                .wrong("is an Alertmanager, which hears of everything from the beginning", hint));
        }
        escalation.push(Step { after, channels: step.channels.clone() });
    }
    Ok(escalation)
}

fn check_channels(names: &[String], known: &Known, at: &At<'_>) -> Result<(), ConfigError> {
    for (item, name) in names.iter().enumerate() {
        let at = at.item(item);
        check_known(name, known.channels.iter().map(String::as_str), &at, "channel")?;
        if names[..item].contains(name) {
            return Err(at.wrong("stands there twice", "keep one of the two"));
        }
    }
    Ok(())
}

/// Refuses what cannot be the name of a label.
pub(super) fn check_labels(names: &[String], at: &At<'_>) -> Result<(), ConfigError> {
    for (item, name) in names.iter().enumerate() {
        let at = at.item(item);
        if name == Route::ALL_LABELS {
            let hint = "write it alone, or only the names of labels";
            return Err(at.wrong("means all labels and cannot stand beside others", hint));
        }
        let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_number = name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || is_number || !name.chars().all(is_fit) {
            let hint = "write a name such as alertname, severity, pool, gpu, task";
            return Err(at.wrong("is not the name of a label", hint));
        }
        if names[..item].contains(name) {
            return Err(at.wrong("stands there twice", "keep one of the two"));
        }
    }
    Ok(())
}

/// The smallest multiple of `step` that is at least `span`.
fn rounded_up(span: Duration, step: Duration) -> Duration {
    let steps = span.as_nanos().div_ceil(step.as_nanos().max(1)).max(1);
    step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}
