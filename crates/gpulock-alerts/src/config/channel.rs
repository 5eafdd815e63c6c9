//! A channel in the configuration: its kind with the settings that are the kind's own, and those
//! that all channels have.

use std::sync::Arc;
use std::time::Duration;

use gpulock::config::ConfigError;
use gpulock::core::alert::Urgency;
use serde::{Deserialize, Deserializer};

use super::{At, Language};
use crate::channel::Channel;
use crate::channels::{self, Around};
use crate::http::Poster;
use crate::plan::{ChannelPlan, Rate};
use crate::span::Span;

/// The kinds of channels, in one table. Each row reads
/// `Name key: MESSAGES in SECONDS, TIMEOUT s, ALERTS in a message[, feed];` with the defaults of
/// the kind. `key` is that of the configuration and the name of the module.
macro_rules! kinds {
    ($( $(#[doc = $about:literal])+ $name:ident $key:ident:
        $messages:literal in $seconds:literal, $timeout:literal s, $alerts:literal alerts
        $(, $feed:ident)?; )+) => {
        /// A kind of channel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $( $(#[doc = $about])+ $name, )+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$name, )+];

            /// As the configuration has it: `slack`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => stringify!($key), )+ }
            }

            const fn defaults(self) -> Defaults {
                match self { $(
                    Self::$name => Defaults {
                        messages: $messages,
                        seconds: $seconds,
                        timeout: $timeout,
                        alerts: $alerts,
                        is_feed: is_feed!($($feed)?),
                    },
                )+ }
            }
        }

        /// A channel as it is written.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct ChannelSection {
            $(
                #[serde(default, deserialize_with = "given")]
                $key: Option<channels::$key::Settings>,
            )+
            min_level: Option<Urgency>,
            send_resolved: Option<bool>,
            rate_limit: Option<RateSection>,
            monthly_budget: Option<u32>,
            timeout: Option<Span>,
            max_alerts: Option<u32>,
            #[serde(default)]
            allow_private: bool,
            pub(crate) language: Option<Language>,
            #[serde(default)]
            pub(crate) template: TemplateSection,
        }

        impl ChannelSection {
            /// The kinds whose settings are given.
            fn given(&self) -> Vec<Kind> {
                let given = [$( self.$key.as_ref().map(|_| Kind::$name), )+];
                given.into_iter().flatten().collect()
            }

            /// Opens the channel as that kind.
            fn open_as(&self, kind: Kind, around: &Around) -> Result<Arc<dyn Channel>, String> {
                Ok(match kind { $(
                    Kind::$name => match &self.$key {
                        Some(settings) => Arc::new(settings.open(around)?),
                        None => return Err(format!("lacks the key `{}`", kind.as_str())),
                    },
                )+ })
            }
        }
    };
}

macro_rules! is_feed {
    () => {
        false
    };
    (feed) => {
        true
    };
}

// However fast a bucket of so many messages is emptied, it stays within the service's own limits:
// DingTalk and WeCom take 20 in any minute, Feishu 5 in a second and 100 in a minute, Slack about
// one in a second.
kinds! {
    /// Incoming webhooks of Slack.
    Slack slack: 1 in 1, 5 s, 20 alerts;
    /// Robots of DingTalk.
    DingTalk dingtalk: 4 in 15, 5 s, 20 alerts;
    /// Robots of WeCom.
    WeCom wecom: 4 in 15, 5 s, 20 alerts;
    /// Robots of Feishu and Lark.
    Feishu feishu: 3 in 2, 5 s, 20 alerts;
    /// E-mail by SMTP.
    Email email: 30 in 60, 30 s, 50 alerts;
    /// PagerDuty's events: one for each alert.
    PagerDuty pagerduty: 60 in 60, 30 s, 200 alerts;
    /// An address of anybody's that takes JSON.
    Webhook webhook: 60 in 60, 5 s, 100 alerts;
    /// Prometheus' Alertmanager.
    Alertmanager alertmanager: 120 in 60, 10 s, 10000 alerts, feed;
    /// A program on this machine.
    Command command: 60 in 60, 60 s, 100 alerts;
    /// A file of JSON lines.
    File file: 600 in 60, 5 s, 100 alerts;
    /// The log of gpulock itself.
    Log log: 600 in 60, 5 s, 20 alerts;
}

/// What counts for a kind where nothing is said.
struct Defaults {
    messages: u32,
    seconds: u64,
    timeout: u64,
    alerts: usize,
    is_feed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateSection {
    messages: u32,
    per: Span,
}

/// Texts of the user's own: the template itself, or `@FILE`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TemplateSection {
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
}

/// A kind is given where its key is, also without any settings: `log:`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

impl ChannelSection {
    /// The one kind that it has.
    pub(crate) fn kind(&self, at: &At<'_>) -> Result<Kind, ConfigError> {
        match self.given()[..] {
            [kind] => Ok(kind),
            [] => {
                let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
                let hint = format!("add one of {}", kinds.join(", "));
                Err(at.wrong("does not say what kind of channel it is", hint))
            }
            [first, second, ..] => {
                let (first, second) = (first.as_str(), second.as_str());
                let reason = format!("is a second kind beside `{first}`");
                let hint = format!("describe `{second}` as a channel with a name of its own");
                Err(at.key(second).wrong(reason, hint))
            }
        }
    }

    /// What the channel is told, and how much of it.
    pub(crate) fn plan(&self, at: &At<'_>) -> Result<ChannelPlan, ConfigError> {
        let defaults = self.kind(at)?.defaults();
        let rate = match &self.rate_limit {
            Some(rate) => Rate { messages: rate.messages, per: rate.per.0 },
            None => {
                Rate { messages: defaults.messages, per: Duration::from_secs(defaults.seconds) }
            }
        };
        let rate_at = at.key("rate_limit");
        rate_at.key("per").positive(rate.per)?;
        if rate.messages == 0 {
            let hint = "write at least 1; to send nothing, remove the channel from the routes";
            return Err(rate_at.key("messages").wrong("would let nothing through", hint));
        }
        let timeout = self.timeout.map_or(Duration::from_secs(defaults.timeout), |span| span.0);
        at.key("timeout").positive(timeout)?;
        let max_alerts = self.max_alerts.map_or(defaults.alerts, |most| most as usize);
        if max_alerts == 0 {
            let hint = "write at least 1; all others are counted as `and N more`";
            return Err(at.key("max_alerts").wrong("would leave messages empty", hint));
        }
        Ok(ChannelPlan {
            min_urgency: self.min_level.unwrap_or(Urgency::Info),
            send_resolved: self.send_resolved.unwrap_or(true),
            rate,
            monthly_budget: self.monthly_budget,
            max_alerts,
            timeout,
            is_feed: defaults.is_feed,
        })
    }

    /// Opens the channel.
    pub(crate) fn open(
        &self,
        name: &str,
        plan: &ChannelPlan,
        at: &At<'_>,
    ) -> Result<Arc<dyn Channel>, ConfigError> {
        let kind = self.kind(at)?;
        let poster = Poster::new(plan.timeout, self.allow_private);
        let opened = poster
            .map_err(|failure| failure.detail)
            .and_then(|poster| self.open_as(kind, &Around { name: name.to_owned(), poster }));
        opened.map_err(|error| {
            let at = at.key(kind.as_str());
            let hint = format!(
                "docs/guides/alerts/{}.md shows how it is written; whoever runs this must be \
                 allowed to read the files that it names",
                kind.as_str()
            );
            let (reason, hint) = error.split_once("; ").unwrap_or((&error, &hint));
            at.wrong(format!("cannot be used: {reason}"), hint)
        })
    }
}
