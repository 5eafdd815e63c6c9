//! The section `alerts` of a configuration, ready for use.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use gpulock::config::{Config, ConfigError};
use gpulock::core::Time;
use gpulock::core::alert::{Rules, rule};

use crate::channel::{Channel, Failure, Message, Reason};
use crate::config::{AlertsSection, At, ChannelSection, Language, examine};
use crate::mute_times::MuteTimes;
use crate::notification::{Notification, NotifiedAlert};
use crate::plan::{Inhibition, Plan};
use crate::switch::DeadMansSwitch;
use crate::template::{Part, Template, catalogued};
use crate::text::Text;

/// The section `alerts` of a configuration, ready for use.
#[derive(Debug, Default)]
pub struct Alerting {
    /// Who is told, and when.
    pub plan: Plan,
    /// The rules as the configuration adjusts them.
    pub rules: Rules,
    /// Windows of time in which nobody is told.
    pub mute_times: MuteTimes,
    /// Asked again and again while all is well.
    pub dead_mans_switch: Option<DeadMansSwitch>,
    /// Where gpulock's own pages are, without a slash at the end; empty if nobody has said.
    pub external_url: String,
    /// Where the rules are explained, without an anchor.
    runbook: String,
    channels: BTreeMap<String, Opened>,
}

/// A channel, and how it tells things.
#[derive(Debug)]
struct Opened {
    channel: Arc<dyn Channel>,
    language: Language,
    template: Template,
}

impl Alerting {
    /// Reads the section, opens its channels and tries its templates; nobody is told anything.
    /// `None` if there is no such section.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and line.
    pub fn load(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(section) = &config.alerts else {
            return Ok(None);
        };
        let (section, at) = examine(section)?;
        let mut alerting = Self::read(&section, &at)?;
        for (name, channel) in &section.channels {
            let Some(plan) = alerting.plan.channels.get(name) else { continue };
            let at = at.key("channels").key(name);
            let language = channel.language.unwrap_or(section.language);
            let opened = channel.open(name, plan, &at)?;
            let template = template(channel, language, &*opened, &at)?;
            alerting.channels.insert(name.clone(), Opened { channel: opened, language, template });
        }
        Ok(Some(alerting))
    }

    /// Reads the section and opens no channel: for those who only look, and need not be allowed to
    /// read the secrets of channels.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and line.
    pub fn without_channels(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(section) = &config.alerts else {
            return Ok(None);
        };
        let (section, at) = examine(section)?;
        Self::read(&section, &at).map(Some)
    }

    fn read(section: &AlertsSection, at: &At<'_>) -> Result<Self, ConfigError> {
        let mut plan = section.plan(at)?;
        plan.inhibitions.extend(Inhibition::built_in());
        Ok(Self {
            plan,
            rules: section.rules(at)?,
            mute_times: MuteTimes::new(section.mute_times.clone()),
            dead_mans_switch: section.dead_mans_switch(at)?,
            external_url: section.external_url(at)?,
            runbook: section.runbook_url(at)?,
            channels: BTreeMap::new(),
        })
    }

    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<&Arc<dyn Channel>> {
        self.channels.get(name).map(|opened| &opened.channel)
    }

    /// All channels by their names.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &Arc<dyn Channel>)> {
        self.channels.iter().map(|(name, opened)| (name.as_str(), &opened.channel))
    }

    /// Adds to a notification what its channel is to know besides: what the catalogue says about
    /// the rules, in the channel's language, and where gpulock's own pages are.
    pub fn complete(&self, notification: &mut Notification) {
        let language =
            self.channels.get(&notification.receiver).map_or(Language::En, |it| it.language);
        notification.external_url.clone_from(&self.external_url);
        for alert in &mut notification.alerts {
            explain(alert, language);
            if rule(alert.rule()).is_some() {
                let page = format!("{}#{}", self.runbook, alert.rule().to_lowercase());
                alert.annotations.entry("runbook_url".to_owned()).or_insert(page);
            }
            if !self.external_url.is_empty() {
                alert.generator_url = format!("{}/api/v1/alerts", self.external_url);
            }
        }
        notification.common_annotations = common_annotations(&notification.alerts);
    }

    /// Delivers a notification through its channel, within the time that the channel has. `now` is
    /// the store's time.
    ///
    /// # Errors
    /// If the other side has not said, in its own way, that it has the message.
    pub async fn deliver(&self, notification: &Notification, now: Time) -> Result<(), Failure> {
        let name = &notification.receiver;
        let (Some(opened), Some(plan)) = (self.channels.get(name), self.plan.channels.get(name))
        else {
            let detail = format!("there is no channel `{name}`");
            return Err(Failure::new(Reason::ClientError, detail));
        };
        let mut notification = notification.clone();
        self.complete(&mut notification);
        let text = opened.template.text(&notification, now);
        let message = Message { notification: &notification, text: &text };
        match tokio::time::timeout(plan.timeout, opened.channel.send(&message)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let detail = format!("there was no answer within {:?}", plan.timeout);
                Err(Failure::new(Reason::ContextDeadlineExceeded, detail))
            }
        }
    }

    /// What people read of a notification on its channel. `now` is the store's time.
    pub fn text(&self, notification: &Notification, now: Time) -> Text {
        match self.channels.get(&notification.receiver) {
            Some(opened) => opened.template.text(notification, now),
            None => Text::default(),
        }
    }
}

/// The channel's template, with the texts of the user's own that it has.
fn template(
    section: &ChannelSection,
    language: Language,
    channel: &dyn Channel,
    at: &At<'_>,
) -> Result<Template, ConfigError> {
    let mut template = Template::built_in(language, channel.markup());
    let at = at.key("template");
    let texts = [(Part::Title, &section.template.title), (Part::Body, &section.template.body)];
    for (part, text) in texts {
        let Some(text) = text else { continue };
        let at = at.key(&part.to_string());
        let source = match text.strip_prefix('@') {
            None => text.clone(),
            Some(file) => fs::read_to_string(file.trim()).map_err(|error| {
                at.wrong(format!("cannot be read from its file: {error}"), "name a readable file")
            })?,
        };
        template =
            template.with(part, source).map_err(|wrong| at.wrong(wrong.reason, wrong.hint))?;
    }
    Ok(template)
}

/// Adds what the catalogue says about the rule of an alert.
fn explain(alert: &mut NotifiedAlert, language: Language) {
    let message = alert.annotations.get("message").cloned();
    let known = catalogued(alert.rule(), language);
    let summary = known.map(|(summary, _)| summary.to_owned()).or(message);
    let description = known.map(|(_, description)| description.to_owned());
    for (name, text) in [("summary", summary), ("description", description)] {
        if let Some(text) = text {
            alert.annotations.entry(name.to_owned()).or_insert(text);
        }
    }
}

/// Those that all alerts have with the same text.
fn common_annotations(alerts: &[NotifiedAlert]) -> BTreeMap<String, String> {
    let Some((first, others)) = alerts.split_first() else {
        return BTreeMap::new();
    };
    let mut common = first.annotations.clone();
    common.retain(|name, text| {
        others.iter().all(|alert| alert.annotations.get(name).is_some_and(|other| other == text))
    });
    common
}

#[cfg(test)]
mod tests;
