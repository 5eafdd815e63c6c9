//! The section `alerts` of `config.yml`: what may stand in it, and the plan that it makes. Whatever
//! refers to something that is not there is refused, with its key and line.

mod at;
mod channel;
mod route;
mod rules;

use std::collections::BTreeMap;

use gpulock::config::{ConfigError, Unexamined, nearest};
use gpulock::core::alert::Rules;
use reqwest::Url;
use serde::Deserialize;

use crate::plan::{Inhibition, Matcher, Plan};
use crate::secret::Secret;
use crate::span::Span;
use crate::switch::DeadMansSwitch;

pub(crate) use at::At;
pub(crate) use channel::ChannelSection;
pub use channel::Kind;

use crate::mute_times::Window;
use route::RouteSection;
use rules::RuleSection;

/// The language of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlertsSection {
    pub(crate) language: Language,
    external_url: Option<String>,
    runbook_url: Option<String>,
    rules: BTreeMap<String, RuleSection>,
    pub(crate) channels: BTreeMap<String, ChannelSection>,
    route: RouteSection,
    inhibit: Vec<InhibitionSection>,
    pub(crate) mute_times: BTreeMap<String, Vec<Window>>,
    dead_mans_switch: Option<SwitchSection>,
    resolve_timeout: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InhibitionSection {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    #[serde(default)]
    equal: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchSection {
    url: Secret,
    interval: Option<Span>,
    timeout: Option<Span>,
    #[serde(default)]
    allow_private: bool,
}

/// Where the rules are explained in our own documentation; the anchor is the rule's name in small
/// letters.
const RUNBOOK: &str = "docs/reference/alerts.md";

impl AlertsSection {
    /// Everything that is not a channel: where alerts go, and when.
    pub(crate) fn plan(&self, at: &At<'_>) -> Result<Plan, ConfigError> {
        let mut channels = BTreeMap::new();
        let each = at.key("channels");
        for (name, channel) in &self.channels {
            let at = each.key(name);
            check_name(name, &at, "channel")?;
            channels.insert(name.clone(), channel.plan(&at)?);
        }
        for name in self.mute_times.keys() {
            check_name(name, &at.key("mute_times").key(name), "mute time")?;
        }
        let known = route::Known {
            channels: self.channels.keys().cloned().collect(),
            feeds: channels
                .iter()
                .filter(|(_, channel)| channel.is_feed)
                .map(|(name, _)| name.clone())
                .collect(),
            mute_times: self.mute_times.keys().cloned().collect(),
        };
        let route = self.route.top(&known, &at.key("route"))?;
        let each = at.key("inhibit");
        let inhibitions = self.inhibit.iter().enumerate();
        let inhibitions = inhibitions.map(|(item, section)| section.inhibition(&each.item(item)));
        let resolve_timeout = self.resolve_timeout.map_or(Plan::RESOLVE_TIMEOUT, |span| span.0);
        at.key("resolve_timeout").positive(resolve_timeout)?;
        Ok(Plan {
            channels,
            route,
            inhibitions: inhibitions.collect::<Result<_, _>>()?,
            resolve_timeout,
        })
    }

    /// What is set about rules.
    pub(crate) fn rules(&self, at: &At<'_>) -> Result<Rules, ConfigError> {
        rules::adjusted(&self.rules, &at.key("rules"))
    }

    /// Where gpulock's own pages are, without a slash at the end; empty if nobody says.
    pub(crate) fn external_url(&self, at: &At<'_>) -> Result<String, ConfigError> {
        let url = page(self.external_url.as_deref(), &at.key("external_url"))?;
        Ok(url.unwrap_or_default())
    }

    /// Where the rules are explained: in our own documentation, unless somebody says otherwise.
    pub(crate) fn runbook_url(&self, at: &At<'_>) -> Result<String, ConfigError> {
        let url = page(self.runbook_url.as_deref(), &at.key("runbook_url"))?;
        Ok(url.unwrap_or_else(|| RUNBOOK.to_owned()))
    }

    /// The dead man's switch, if there is one.
    pub(crate) fn dead_mans_switch(
        &self,
        at: &At<'_>,
    ) -> Result<Option<DeadMansSwitch>, ConfigError> {
        self.dead_mans_switch.as_ref().map(|it| it.read(&at.key("dead_mans_switch"))).transpose()
    }
}

/// The address of a page, without a slash at the end.
fn page(text: Option<&str>, at: &At<'_>) -> Result<Option<String>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    match Url::parse(text.trim()) {
        Ok(url) if is_web(&url) && url.username().is_empty() && url.password().is_none() => {
            Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
        }
        _ => Err(at.wrong(
            "is not the address of a page",
            "write it as in a browser, such as https://gpu1.example.org:8788",
        )),
    }
}

impl InhibitionSection {
    fn inhibition(&self, at: &At<'_>) -> Result<Inhibition, ConfigError> {
        for (key, matchers) in [("source", &self.source), ("target", &self.target)] {
            if matchers.is_empty() {
                let hint = "write what it is about, such as 'severity=\"P0\"'";
                return Err(at.key(key).wrong("is empty and would mean every alert", hint));
            }
        }
        let Self { source, target, equal } = self;
        route::check_labels(equal, &at.key("equal"))?;
        Ok(Inhibition { source: source.clone(), target: target.clone(), equal: equal.clone() })
    }
}

impl SwitchSection {
    fn read(&self, at: &At<'_>) -> Result<DeadMansSwitch, ConfigError> {
        let url_at = at.key("url");
        let url = self.url.reveal().map_err(|error| {
            url_at.wrong(format!("cannot be used: {error}"), "mend the file, or name another")
        })?;
        if !Url::parse(&url).is_ok_and(|url| is_web(&url)) {
            let hint = "write https://… or @FILE, a file that holds nothing but such an address";
            return Err(url_at.wrong("is not an address of the web", hint));
        }
        let span = |span: Option<Span>, key: &str, default: u64| {
            let span = span.unwrap_or(Span::seconds(default)).0;
            at.key(key).positive(span).map(|()| span)
        };
        Ok(DeadMansSwitch {
            url: self.url.clone(),
            interval: span(self.interval, "interval", 60)?,
            timeout: span(self.timeout, "timeout", 5)?,
            allow_private: self.allow_private,
        })
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// Names of channels and the like become parts of paths, labels of metrics and words of commands.
fn check_name(name: &str, at: &At<'_>, what: &str) -> Result<(), ConfigError> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(is_fit) {
        return Ok(());
    }
    let hint = "use at most 64 of the letters a-z and A-Z, digits, `-`, `_` and `.`";
    Err(at.wrong(format!("is not a name for a {what}"), hint))
}

/// Refuses a name that nothing has.
fn check_known<'k>(
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    at: &At<'_>,
    what: &str,
) -> Result<(), ConfigError> {
    if known.clone().any(|one| one == name) {
        return Ok(());
    }
    let hint = match nearest(name, known) {
        Some(nearest) => format!("write `{nearest}` if that is meant, or remove it"),
        None => format!("there is no {what} at all: describe one, or remove it"),
    };
    Err(at.wrong(format!("names a {what} that does not exist"), hint))
}

/// The section, and its top.
pub(crate) fn examine(section: &Unexamined) -> Result<(AlertsSection, At<'_>), ConfigError> {
    Ok((section.examine()?, At::top(section)))
}
