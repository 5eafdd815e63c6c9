//! Alerts and messages as commands and the API show them.

use std::collections::BTreeMap;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels, Urgency, rule};
use serde::Serialize;

use super::{Acknowledgement, Alert, Book, Letter, Silence};
use crate::plan::Plan;

/// An alert as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertView {
    /// Names it: its fingerprint.
    pub id: String,
    /// The rule.
    pub name: String,
    /// How urgent it is: `P0`, `P1`, `P2`, `warning` or `info`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub level: Urgency,
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// In which pool; empty if in none.
    pub pool: String,
    /// About which GPUs, if any.
    pub gpu: String,
    /// About which task, if any.
    pub task: String,
    /// What tells it from others, without `severity`.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    pub labels: Labels,
    /// What has happened.
    pub summary: String,
    /// What that means and what to do; empty for alerts that programs raise.
    pub description: &'static str,
    /// What else is known.
    pub facts: BTreeMap<String, String>,
    /// When it began, in seconds since the Unix epoch.
    pub began_at: f64,
    /// When it was last heard of.
    pub last_at: f64,
    /// When it ended, if it has.
    pub ended_at: Option<f64>,
    /// How often it has happened since it began.
    pub count: u64,
    /// Who has it in hand, if anybody.
    pub acknowledged: Option<AcknowledgedView>,
    /// Why nobody is told, if so: `silence` or `inhibit`.
    pub muted_by: Option<&'static str>,
    /// How many steps it has climbed.
    pub climbed: usize,
}

/// Who has an alert in hand.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AcknowledgedView {
    /// Who.
    pub by: String,
    /// When, in seconds since the Unix epoch.
    pub at: f64,
    /// What they have to say about it.
    pub note: String,
}

/// A message as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LetterView {
    /// Names it.
    pub id: String,
    /// To which channel.
    pub channel: String,
    /// Why it is sent.
    pub reason: String,
    /// About which rules.
    pub rules: Vec<String>,
    /// How many alerts it tells of.
    pub alerts: usize,
    /// When it was posted, in seconds since the Unix epoch.
    pub posted_at: f64,
    /// How often it was tried.
    pub tries: u32,
    /// `waiting` or `given_up`.
    pub status: &'static str,
    /// What went wrong last, if anything: the kind.
    pub failure: Option<String>,
    /// What the other side said.
    pub error: Option<String>,
}

/// A silence as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SilenceView {
    /// Names it.
    pub id: String,
    /// Which alerts: all of these hold for them.
    pub matchers: Vec<String>,
    /// `pending`, `active` or `expired`.
    pub status: &'static str,
    /// From when on, in seconds since the Unix epoch.
    pub starts_at: f64,
    /// Until when.
    pub ends_at: f64,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

impl SilenceView {
    /// The silence as it is seen at this moment.
    pub fn new(now: Time, id: &str, silence: &Silence) -> Self {
        let status = match silence.is_active(now) {
            true => "active",
            false if now < silence.starts_at => "pending",
            false => "expired",
        };
        Self {
            id: id.to_owned(),
            matchers: silence.matchers.iter().map(ToString::to_string).collect(),
            status,
            starts_at: silence.starts_at.as_secs_f64(),
            ends_at: silence.ends_at.as_secs_f64(),
            created_by: silence.created_by.clone(),
            comment: silence.comment.clone(),
        }
    }
}

impl AlertView {
    fn new(id: &Fingerprint, alert: &Alert) -> Self {
        let known = rule(alert.name());
        let message = alert.facts.get("message").cloned();
        let label = |name| alert.labels.value(name).to_owned();
        Self {
            id: id.to_string(),
            name: alert.name().to_owned(),
            level: alert.urgency,
            status: if alert.is_over() { "resolved" } else { "firing" },
            pool: label("pool"),
            gpu: label("gpu"),
            task: label("task"),
            labels: alert.labels.clone(),
            summary: known.map(|rule| rule.summary.to_owned()).or(message).unwrap_or_default(),
            description: known.map_or("", |rule| rule.description),
            facts: alert.facts.clone(),
            began_at: alert.began_at.as_secs_f64(),
            last_at: alert.last_at.as_secs_f64(),
            ended_at: alert.over_at.map(Time::as_secs_f64),
            count: alert.count,
            acknowledged: alert.acknowledged.as_ref().map(AcknowledgedView::from),
            muted_by: None,
            climbed: 0,
        }
    }
}

impl From<&Acknowledgement> for AcknowledgedView {
    fn from(word: &Acknowledgement) -> Self {
        Self { by: word.by.clone(), at: word.at.as_secs_f64(), note: word.note.clone() }
    }
}

impl LetterView {
    fn new(id: &str, letter: &Letter) -> Self {
        Self {
            id: id.to_owned(),
            channel: letter.channel.clone(),
            reason: letter.reason.clone(),
            rules: letter.rules().into_iter().map(str::to_owned).collect(),
            alerts: letter.alert_count(),
            posted_at: letter.posted_at.as_secs_f64(),
            tries: letter.tries,
            status: if letter.is_dead { "given_up" } else { "waiting" },
            failure: letter.trouble.as_ref().map(|trouble| trouble.reason.clone()),
            error: letter.trouble.as_ref().map(|trouble| trouble.detail.clone()),
        }
    }
}

impl Book {
    /// The alerts, those that fire first, the most urgent first. `plan` says what mutes what.
    pub fn view(&self, now: Time, plan: &Plan) -> Vec<AlertView> {
        let quiet = self.quiet(now, plan);
        let mut views: Vec<_> = self
            .alerts
            .iter()
            .map(|(id, alert)| AlertView {
                muted_by: quiet.mute_of(&alert.full_labels()).map(super::Mute::as_str),
                climbed: self.climbed(id),
                ..AlertView::new(id, alert)
            })
            .collect();
        views.sort_by(|one, other| {
            let fires = |view: &AlertView| view.status != "resolved";
            (fires(other), other.level)
                .cmp(&(fires(one), one.level))
                .then(other.began_at.total_cmp(&one.began_at))
        });
        views
    }

    /// Silences, also those to come and those that were over lately, the latest to end first.
    pub fn silence_views(&self, now: Time) -> Vec<SilenceView> {
        let silences = self.silences();
        let mut views: Vec<_> =
            silences.map(|(id, silence)| SilenceView::new(now, id, silence)).collect();
        views.sort_by(|one, other| other.ends_at.total_cmp(&one.ends_at));
        views
    }

    /// The messages on their way and those that were given up, the oldest first.
    pub fn letter_views(&self) -> Vec<LetterView> {
        let mut views: Vec<_> =
            self.letters().map(|(id, letter)| LetterView::new(id, letter)).collect();
        views.sort_by(|one, other| one.posted_at.total_cmp(&other.posted_at));
        views
    }

    fn climbed(&self, id: &Fingerprint) -> usize {
        let members = self.groups.values().filter_map(|group| group.members.get(id));
        members.map(|member| member.climbed).max().unwrap_or_default()
    }
}
