//! PagerDuty, by its Events API version 2
//! (<https://developer.pagerduty.com/docs/send-alert-event>).
//!
//! Each alert is an event of its own, known by its fingerprint: so PagerDuty makes one incident of
//! however many messages, and the end of the alert resolves it.

use std::collections::BTreeMap;
use std::mem;

use async_trait::async_trait;
use gpulock::core::alert::Urgency;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;

use super::Around;
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::{Answer, Poster, failure_of};
use crate::notification::{Notification, NotifiedAlert, Status, timestamp};
use crate::secret::Secret;
use crate::text::Markup;

/// Where events go, unless the account is in the EU: then `events.eu.pagerduty.com`
/// (<https://support.pagerduty.com/main/docs/service-regions>).
const URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// The most that PagerDuty takes, in bytes
/// (<https://developer.pagerduty.com/docs/events-api-v2-overview#size-limits>).
const LARGEST_EVENT: usize = 512_000;

/// The longest summary, in characters.
const LONGEST_SUMMARY: usize = 1024;

/// What else is said in one line, in characters: the limit is PagerDuty's for names.
const LONGEST_NAME: usize = 255;

/// The length of a routing key.
const KEY: usize = 32;

/// How many events are on their way at once.
const AT_ONCE: usize = 8;

/// Its part of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The integration key of a service or an orchestration.
    pub routing_key: Secret,
    /// Where to, if not to PagerDuty's servers in the US.
    pub url: Option<String>,
}

/// Triggers and resolves incidents.
#[derive(Debug)]
pub struct PagerDuty {
    routing_key: Secret,
    url: Url,
    poster: Poster,
}

#[derive(Serialize)]
struct Event<'a> {
    routing_key: &'a str,
    event_action: &'static str,
    dedup_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link<'a>>,
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_url: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    summary: String,
    source: String,
    severity: &'static str,
    timestamp: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    component: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    class: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    custom_details: BTreeMap<&'a str, Value>,
}

#[derive(Serialize)]
struct Link<'a> {
    href: &'a str,
    text: &'static str,
}

/// What PagerDuty answers.
#[derive(Default, Deserialize)]
struct Told {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<String>,
}

impl Settings {
    /// Makes a channel of them.
    ///
    /// # Errors
    /// One sentence, if something is wrong that can be seen without asking anybody.
    pub fn open(&self, around: &Around) -> Result<PagerDuty, String> {
        key(&self.routing_key)?;
        let url = self.url.as_deref().unwrap_or(URL);
        let url = url.parse().map_err(|error| format!("`url` is none ({error}); write {URL}"))?;
        around.poster.permits(&url).map_err(|failure| failure.detail)?;
        let poster = around.poster.clone();
        Ok(PagerDuty { routing_key: self.routing_key.clone(), url, poster })
    }
}

#[async_trait]
impl Channel for PagerDuty {
    fn kind(&self) -> &'static str {
        "pagerduty"
    }

    fn markup(&self) -> Markup {
        Markup::Plain
    }

    /// Sends an event for each alert. If one fails, all are sent again; PagerDuty knows those that it
    /// has by their keys.
    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let key = key(&self.routing_key).map_err(|error| Failure::new(Reason::Local, error))?;
        let notification = message.notification;
        let events = notification.alerts.iter();
        let mut bodies = events.map(|alert| Event::new(&key, notification, alert).into_body());
        let (mut posts, mut worst) = (JoinSet::new(), None);
        loop {
            while posts.len() < AT_ONCE
                && !worst.as_ref().is_some_and(is_about_the_service)
                && let Some(body) = bodies.next()
            {
                posts.spawn(post(self.poster.clone(), self.url.clone(), key.clone(), body));
            }
            let Some(ended) = posts.join_next().await else { break };
            let ended =
                ended.unwrap_or_else(|error| Err(Failure::new(Reason::Local, error.to_string())));
            worst = graver(worst, ended.err());
        }
        worst.map_or(Ok(()), Err)
    }
}

impl<'a> Event<'a> {
    fn new(key: &'a str, notification: &'a Notification, alert: &'a NotifiedAlert) -> Self {
        let is_over = alert.status == Status::Resolved;
        let event_action = if is_over { "resolve" } else { "trigger" };
        let address = Some(notification.external_url.as_str());
        Self {
            routing_key: key,
            event_action,
            dedup_key: alert.fingerprint.as_str(),
            payload: (!is_over).then(|| Payload::new(alert)),
            links: if is_over { Vec::new() } else { links(alert) },
            client: "gpulock",
            client_url: address.filter(|address| is_link(address)),
        }
    }

    /// Rather without its details than not at all.
    fn into_body(mut self) -> Vec<u8> {
        let body = self.body();
        if body.len() <= LARGEST_EVENT {
            return body;
        }
        self.links.clear();
        if let Some(payload) = &mut self.payload {
            mem::take(&mut payload.custom_details);
            let note = "too large for PagerDuty; `gpulock alerts list` has them".into();
            payload.custom_details.insert("details", note);
        }
        self.client_url = None;
        self.body()
    }

    fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .unwrap_or_else(|error| unreachable!("events are plain data: {error}"))
    }
}

impl<'a> Payload<'a> {
    fn new(alert: &'a NotifiedAlert) -> Self {
        let label = |name| cut(alert.labels.value(name), LONGEST_NAME);
        let known = |name| match alert.labels.value(name) {
            "" => alert.annotation(name),
            value => value,
        };
        let source = match known("host") {
            "" => "gpulock",
            host => host,
        };
        let summary = match alert.annotation("summary") {
            "" => alert.rule(),
            summary => summary,
        };
        Self {
            summary: cut(summary, LONGEST_SUMMARY),
            source: cut(source, LONGEST_NAME),
            severity: severity(alert.urgency()),
            timestamp: timestamp(alert.starts_at),
            component: label("gpu"),
            group: label("pool"),
            class: cut(alert.rule(), LONGEST_NAME),
            custom_details: details(alert),
        }
    }
}

fn details(alert: &NotifiedAlert) -> BTreeMap<&str, Value> {
    let annotations = alert.annotations.iter().map(|(name, value)| (&**name, &**value));
    // A label counts before an annotation of the same name.
    let all = annotations.chain(alert.labels.iter()).map(|(name, value)| (name, value.into()));
    all.chain([("count", alert.count.into())]).collect()
}

fn links(alert: &NotifiedAlert) -> Vec<Link<'_>> {
    let links = [(alert.annotation("runbook_url"), "Runbook"), (&alert.generator_url, "gpulock")];
    let links = links.into_iter().filter(|(href, _)| is_link(href));
    links.map(|(href, text)| Link { href, text }).collect()
}

fn is_link(address: &str) -> bool {
    address.starts_with("https://") || address.starts_with("http://")
}

const fn severity(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::P0 => "critical",
        Urgency::P1 => "error",
        Urgency::P2 | Urgency::Warning => "warning",
        Urgency::Info => "info",
    }
}

fn key(secret: &Secret) -> Result<String, String> {
    let key = secret.reveal()?;
    match key.len() == KEY && key.chars().all(|c| c.is_ascii_alphanumeric()) {
        true => Ok(key),
        false => Err(format!(
            "`routing_key` is not {KEY} letters and digits; take the integration key of the \
             integration \"Events API V2\""
        )),
    }
}

async fn post(poster: Poster, url: Url, key: String, body: Vec<u8>) -> Result<(), Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = poster.post(&url, headers, body).await?.without(&key);
    match (answer.status, failure_of(&answer)) {
        (202, _) => Ok(()),
        (400, Some(failure)) => Err(invalid(&answer, failure)),
        (_, Some(failure)) => Err(failure),
        (status, None) => {
            let detail = format!("HTTP {status} is not PagerDuty's word for success, which is 202");
            Err(Failure::new(Reason::ClientError, detail))
        }
    }
}

/// The event is wrong, or its key is.
fn invalid(answer: &Answer, failure: Failure) -> Failure {
    let Ok(Told { message, errors }) = answer.json() else { return failure };
    let said = answer.shown(&[message, errors.join(", ")].join(": "));
    let about_key = ["routing_key", "routing key", "invalid key"];
    let is_about_key = about_key.iter().any(|words| said.to_lowercase().contains(words));
    let reason = if is_about_key { Reason::AuthError } else { Reason::ClientError };
    Failure::new(reason, format!("HTTP 400: PagerDuty refuses the event: \"{said}\""))
}

/// Whether the next event would meet the same.
fn is_about_the_service(failure: &Failure) -> bool {
    !matches!(failure.reason, Reason::ClientError)
}

/// What may pass counts most: then the message is tried again.
fn graver(one: Option<Failure>, other: Option<Failure>) -> Option<Failure> {
    let grave = |failure: &Failure| (failure.reason.may_pass(), failure.retry_after);
    [one, other].into_iter().flatten().max_by_key(grave)
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
    }
}
