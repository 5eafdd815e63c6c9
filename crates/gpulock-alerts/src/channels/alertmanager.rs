//! Alertmanager, by its API version 2
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).
//!
//! Alertmanager forgets an alert when its `endsAt` has passed, so its clients send what fires again
//! and again (<https://prometheus.io/docs/alerting/latest/clients/>). As Prometheus does, each time
//! gives the alert four intervals more: it outlives three that are lost, and ends by itself some
//! minutes after a daemon that never came back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use gpulock::core::Time;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Around;
use super::credentials::{BasicAuth, Credentials};
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::{Answer, Poster, failure_of};
use crate::notification::{NotifiedAlert, Status, timestamp};
use crate::secret::Secret;
use crate::span::Span;
use crate::text::Markup;

/// So many intervals an alert lives without being sent again.
const INTERVALS: u32 = 4;

/// Its part of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Every Alertmanager of a cluster, such as `http://gpu1.example:9093`: all of them are told, as
    /// they want it.
    pub urls: Vec<String>,
    /// After which what fires is sent again.
    #[serde(default = "a_minute")]
    pub resend: Span,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// Sent as `Authorization: Basic …`.
    pub basic_auth: Option<BasicAuth>,
    /// A file with authorities that are trusted besides those of the system.
    pub ca: Option<PathBuf>,
}

/// Tells all Alertmanagers of a cluster.
#[derive(Debug)]
pub struct Alertmanager {
    name: String,
    settings: Settings,
    /// Of the route that takes alerts.
    urls: Vec<Url>,
    poster: Poster,
}

/// An alert as Alertmanager wants it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: BTreeMap<String, &'a str>,
    annotations: BTreeMap<String, &'a str>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

fn a_minute() -> Span {
    Span::seconds(60)
}

impl Settings {
    /// Makes a channel of them.
    ///
    /// # Errors
    /// One sentence, if something is wrong that can be seen without asking anybody.
    pub fn open(&self, around: &Around) -> Result<Alertmanager, String> {
        let said = |failure: Failure| failure.detail;
        let poster = match &self.ca {
            Some(ca) => around.poster.trusting(ca).map_err(said)?,
            None => around.poster.clone(),
        };
        if self.urls.is_empty() {
            return Err("`urls` names no Alertmanager; write `urls: [http://HOST:9093]`".to_owned());
        }
        if self.resend.0.is_zero() {
            return Err("`resend` is 0; alerts would end at once: write 1m".to_owned());
        }
        let urls: Result<Vec<_>, _> = self.urls.iter().map(|url| route(url)).collect();
        let urls = urls?;
        for url in &urls {
            poster.permits(url).map_err(said)?;
        }
        self.credentials().check(false)?;
        Ok(Alertmanager { name: around.name.clone(), settings: self.clone(), urls, poster })
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials { token: self.token.as_ref(), basic: self.basic_auth.as_ref() }
    }
}

#[async_trait]
impl Channel for Alertmanager {
    fn kind(&self) -> &'static str {
        "alertmanager"
    }

    fn markup(&self) -> Markup {
        Markup::Plain
    }

    /// Succeeds if one of them took it: they tell each other what they have sent, but each hears of
    /// alerts only from us.
    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let added = self.settings.credentials().add_to(&mut headers);
        added.map_err(|error| Failure::new(Reason::Local, error))?;
        let failures = self.post_to_all(&headers, &self.body(message)).await;
        if failures.len() < self.urls.len() {
            for failure in failures {
                tracing::warn!(channel = %self.name, "one Alertmanager of several: {failure}");
            }
            return Ok(());
        }
        all_of(failures).map_or(Ok(()), Err)
    }
}

impl Alertmanager {
    /// How often what fires has to be sent again.
    pub fn resend(&self) -> Duration {
        self.settings.resend.0
    }

    fn body(&self, message: &Message<'_>) -> Vec<u8> {
        let lives_until = now() + self.settings.resend.0 * INTERVALS;
        let alerts = message.notification.alerts.iter();
        let alerts: Vec<_> = alerts.map(|alert| Posted::new(alert, lives_until)).collect();
        serde_json::to_vec(&alerts)
            .unwrap_or_else(|error| unreachable!("alerts are plain data: {error}"))
    }

    /// What became of it where it failed.
    async fn post_to_all(&self, headers: &HeaderMap, body: &[u8]) -> Vec<Failure> {
        let mut posts = JoinSet::new();
        for url in self.urls.clone() {
            let (poster, headers, body) = (self.poster.clone(), headers.clone(), body.to_vec());
            posts.spawn(async move {
                let answer = poster.post(&url, headers, body).await?;
                judge(&answer).map_err(|failure| named(&url, failure))
            });
        }
        let mut failures = Vec::new();
        while let Some(ended) = posts.join_next().await {
            let ended =
                ended.unwrap_or_else(|error| Err(Failure::new(Reason::Local, error.to_string())));
            failures.extend(ended.err());
        }
        failures
    }
}

impl<'a> Posted<'a> {
    fn new(alert: &'a NotifiedAlert, lives_until: Time) -> Self {
        let ends_at = match alert.status {
            Status::Firing => lives_until,
            Status::Resolved => alert.ends_at.unwrap_or_else(now),
        };
        let annotations = alert.annotations.iter().map(|(name, value)| (&**name, &**value));
        Self {
            labels: fitting(alert.labels.iter()),
            annotations: fitting(annotations),
            starts_at: timestamp(alert.starts_at),
            // One that ends before it begins is refused, and all others with it.
            ends_at: timestamp(ends_at.max(alert.starts_at)),
            generator_url: &alert.generator_url,
        }
    }
}

/// Names as Prometheus has them; one wrong name would make Alertmanager refuse the alert.
fn fitting<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, &'a str> {
    let pairs = pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty());
    pairs.map(|(name, value)| (fit(name), value)).collect()
}

fn fit(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut name = name.replace(|c: char| !fits(c), "_");
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// Alertmanager may stand below a path, see its `--web.route-prefix`.
fn route(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("`urls`: {why}; write http://HOST:9093");
    let mut url: Url = text.parse().map_err(|error| wrong(&format!("{error}")))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("an address of Alertmanager has no query"));
    }
    match url.path_segments_mut() {
        Ok(mut parts) => parts.pop_if_empty().extend(["api", "v2", "alerts"]),
        Err(()) => return Err(wrong("that is no address of a server")),
    };
    Ok(url)
}

fn judge(answer: &Answer) -> Result<(), Failure> {
    match (answer.status, failure_of(answer)) {
        (200, _) => Ok(()),
        (_, Some(failure)) => Err(failure),
        (status, None) => {
            let detail = format!("it answers HTTP {status}, which Alertmanager never does");
            Err(Failure::new(Reason::ClientError, detail))
        }
    }
}

fn named(url: &Url, failure: Failure) -> Failure {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    Failure { detail: format!("{host}:{port}: {}", failure.detail), ..failure }
}

/// All in one, of a kind that may pass if one of them may.
fn all_of(failures: Vec<Failure>) -> Option<Failure> {
    let details: Vec<_> = failures.iter().map(|failure| failure.detail.as_str()).collect();
    let detail = details.join("; ");
    let mut failures = failures;
    failures.sort_by_key(|failure| (!failure.reason.may_pass(), failure.retry_after));
    failures.into_iter().next().map(|first| Failure { detail, ..first })
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_stands_behind_a_prefix() {
        for (given, route) in [
            ("http://a.example:9093", "http://a.example:9093/api/v2/alerts"),
            ("http://a.example:9093/", "http://a.example:9093/api/v2/alerts"),
            ("https://a.example/am/", "https://a.example/am/api/v2/alerts"),
        ] {
            assert_eq!(super::route(given).unwrap().as_str(), route);
        }
        for wrong in ["a.example", "mailto:a@b", "http://a.example/?x=1", ""] {
            assert!(super::route(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_become_such_as_prometheus_knows() {
        assert_eq!(fit("lease-id.x"), "lease_id_x");
        assert_eq!(fit("9lives"), "_9lives");
        assert_eq!(fit("gpu"), "gpu");
    }

    #[test]
    fn a_failure_that_may_pass_stands_for_all() {
        let lasting = Failure::new(Reason::ClientError, "a: no");
        let passing = Failure::new(Reason::ServerError, "b: later");
        let both = all_of(vec![lasting, passing]).unwrap();
        assert_eq!((both.reason, &*both.detail), (Reason::ServerError, "a: no; b: later"));
    }
}
