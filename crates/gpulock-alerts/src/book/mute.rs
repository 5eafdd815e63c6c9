//! What keeps alerts quiet: silences of people, and other alerts.

use std::collections::BTreeMap;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels};
use serde::{Deserialize, Serialize};

use super::{Alert, Book, Unknown};
use crate::plan::{Inhibition, Matcher, Plan};

/// Somebody wants to hear nothing of some alerts for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Which alerts: all of these hold for them.
    pub matchers: Vec<Matcher>,
    /// From when on.
    pub starts_at: Time,
    /// Until when.
    pub ends_at: Time,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// Why nobody is told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mute {
    /// Somebody wants to hear nothing of it.
    Silence,
    /// Another alert says as much and more.
    Inhibit,
    /// Nobody is told at this time.
    MuteTime,
}

impl Mute {
    /// As metrics and the API have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Inhibit => "inhibit",
            Self::MuteTime => "mute_time",
        }
    }
}

impl Silence {
    /// Whether it counts now.
    pub fn is_active(&self, now: Time) -> bool {
        self.starts_at <= now && now < self.ends_at
    }

    /// Whether it is about an alert with these labels.
    pub fn covers(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels))
    }
}

impl Book {
    /// Silences, also those to come and those that were over lately.
    pub fn silences(&self) -> impl Iterator<Item = (&str, &Silence)> {
        self.silences.iter().map(|(id, silence)| (id.as_str(), silence))
    }

    /// Adds a silence.
    pub fn silence(&mut self, id: String, silence: Silence) {
        self.silences.insert(id, silence);
    }

    /// Ends a silence now. `id` may be the beginning of its id.
    ///
    /// # Errors
    /// If there is no such silence, or several begin like that.
    pub fn end_silence(&mut self, now: Time, id: &str) -> Result<String, Unknown> {
        let mut found = self.silences.iter_mut().filter(|(known, _)| known.starts_with(id));
        match (found.next(), found.next()) {
            _ if id.is_empty() => Err(Unknown::Silence(id.to_owned())),
            (Some((id, silence)), None) => {
                silence.ends_at = silence.ends_at.min(now);
                silence.starts_at = silence.starts_at.min(now);
                Ok(id.clone())
            }
            _ => Err(Unknown::Silence(id.to_owned())),
        }
    }

    /// What keeps alerts quiet now.
    pub(super) fn quiet<'b>(&'b self, now: Time, plan: &'b Plan) -> Quiet<'b> {
        let silences = self.silences.values().filter(|silence| silence.is_active(now)).collect();
        let firing: Vec<_> = self.firing().map(|(_, alert)| alert.full_labels()).collect();
        let sources = |inhibition: &Inhibition| {
            let mut sources = BTreeMap::<_, bool>::new();
            for labels in firing.iter().filter(|labels| all_match(&inhibition.source, labels)) {
                let is_one_sided = !all_match(&inhibition.target, labels);
                *sources.entry(equal_values(inhibition, labels)).or_default() |= is_one_sided;
            }
            sources
        };
        let inhibitions = plan.inhibitions.iter().map(|one| (one, sources(one))).collect();
        Quiet { silences, inhibitions }
    }

    /// The alerts that are kept quiet now, and what keeps them so.
    pub(super) fn mutes(&self, now: Time, plan: &Plan) -> BTreeMap<Fingerprint, Mute> {
        let quiet = self.quiet(now, plan);
        let mute_of = |alert: &Alert| quiet.mute_of(&alert.full_labels());
        let muted = self.alerts.iter().filter_map(|(id, alert)| Some((id, mute_of(alert)?)));
        muted.map(|(id, mute)| (id.clone(), mute)).collect()
    }

    /// What keeps an alert quiet now, if anything does.
    pub fn mute_of(&self, now: Time, plan: &Plan, id: &Fingerprint) -> Option<Mute> {
        self.quiet(now, plan).mute_of(&self.alerts.get(id)?.full_labels())
    }
}

/// What keeps alerts quiet at some moment.
pub(super) struct Quiet<'b> {
    silences: Vec<&'b Silence>,
    /// With the values of the equal labels of all sources that fire, and whether one of those
    /// sources is no target itself.
    inhibitions: Vec<(&'b Inhibition, BTreeMap<Vec<String>, bool>)>,
}

impl Quiet<'_> {
    /// What keeps an alert with these labels quiet.
    pub(super) fn mute_of(&self, labels: &Labels) -> Option<Mute> {
        if self.silences.iter().any(|silence| silence.covers(labels)) {
            return Some(Mute::Silence);
        }
        let is_inhibited = self.inhibitions.iter().any(|(inhibition, sources)| {
            let source = sources.get(&equal_values(inhibition, labels));
            // Alerts that are on both sides do not keep each other quiet, least of all themselves.
            all_match(&inhibition.target, labels)
                && source
                    .is_some_and(|one_sided| *one_sided || !all_match(&inhibition.source, labels))
        });
        is_inhibited.then_some(Mute::Inhibit)
    }
}

/// Whether one alert that fires keeps another quiet.
pub(super) fn is_inhibited_by(inhibition: &Inhibition, target: &Labels, source: &Labels) -> bool {
    all_match(&inhibition.target, target)
        && !all_match(&inhibition.source, target)
        && all_match(&inhibition.source, source)
        && equal_values(inhibition, target) == equal_values(inhibition, source)
}

fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

fn equal_values(inhibition: &Inhibition, labels: &Labels) -> Vec<String> {
    inhibition.equal.iter().map(|name| labels.value(name).to_owned()).collect()
}
