//! Webhooks of anybody, with the body that Alertmanager sends.
//!
//! Signed, if a secret is given, as Standard Webhooks has it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::Around;
use super::credentials::{BasicAuth, Credentials};
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::{Poster, failure_of, secret_url};
use crate::notification::Status;
use crate::secret::Secret;
use crate::text::Markup;

/// The shortest key of a signature, in bytes, as Standard Webhooks has it.
const SHORTEST_KEY: usize = 24;

/// Headers that say how a message is carried. They are not the user's.
const RESERVED: [&str; 5] = ["connection", "content-length", "host", "te", "transfer-encoding"];

/// Its part of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to.
    pub url: Secret,
    /// What the body looks like.
    #[serde(default)]
    pub form: Form,
    /// The key of the signature: base64 of 24 bytes or more, with or without `whsec_` before it.
    pub secret: Option<Secret>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// Sent as `Authorization: Basic …`.
    pub basic_auth: Option<BasicAuth>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A file with authorities that are trusted besides those of the system.
    pub ca: Option<PathBuf>,
}

/// What the body of a webhook looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As Alertmanager sends it, version 4.
    #[default]
    Alertmanager,
    /// Title and text for people, and little else: for gateways to SMS and chat.
    Simple,
}

/// Posts to a URL of the user's choice.
#[derive(Debug)]
pub struct Webhook {
    settings: Settings,
    poster: Poster,
}

/// The body of [`Form::Simple`].
#[derive(Serialize)]
struct Simple<'m> {
    title: &'m str,
    text: &'m str,
    status: Status,
    severity: &'static str,
    group_key: &'m str,
    reason: &'m str,
    count: u64,
}

impl Settings {
    /// Makes a channel of them.
    ///
    /// # Errors
    /// One sentence, if something is wrong that can be seen without asking anybody.
    pub fn open(&self, around: &Around) -> Result<Webhook, String> {
        let said = |failure: Failure| failure.detail;
        let poster = match &self.ca {
            Some(ca) => around.poster.trusting(ca).map_err(said)?,
            None => around.poster.clone(),
        };
        poster.permits(&secret_url(&self.url).map_err(said)?).map_err(said)?;
        let named = self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
        self.credentials().check(named)?;
        if let Some(name) = self.headers.keys().find(|name| is_reserved(name)) {
            return Err(format!("the header {name:?} cannot be set here; remove it"));
        }
        self.own_headers()?;
        self.key()?;
        Ok(Webhook { settings: self.clone(), poster })
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials { token: self.token.as_ref(), basic: self.basic_auth.as_ref() }
    }

    fn own_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = || format!("the header {name:?} has a name or a value that HTTP forbids");
            let key = HeaderName::try_from(name).map_err(|_| wrong())?;
            let mut value = HeaderValue::try_from(value.reveal()?).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }

    fn key(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(secret) = &self.secret else { return Ok(None) };
        let text = secret.reveal()?;
        let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(&text));
        match key {
            Ok(key) if key.len() >= SHORTEST_KEY => Ok(Some(key)),
            _ => Err(format!(
                "`secret` is not base64 of {SHORTEST_KEY} bytes or more; \
                 `echo whsec_$(openssl rand -base64 32)` makes one"
            )),
        }
    }
}

#[async_trait]
impl Channel for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn markup(&self) -> Markup {
        Markup::Plain
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let url = secret_url(&self.settings.url)?;
        let body = self.body(message);
        let headers = self.headers(&message.notification.id, &body);
        let headers = headers.map_err(|error| Failure::new(Reason::Local, error))?;
        let answer = self.poster.post(&url, headers, body).await?;
        failure_of(&answer).map_or(Ok(()), Err)
    }
}

impl Webhook {
    fn body(&self, message: &Message<'_>) -> Vec<u8> {
        let Message { notification, text } = message;
        let body = match self.settings.form {
            Form::Alertmanager => serde_json::to_vec(notification),
            Form::Simple => serde_json::to_vec(&Simple {
                title: &text.title,
                text: &text.body,
                status: notification.status,
                severity: notification.urgency().as_str(),
                group_key: &notification.group_key,
                reason: &notification.reason,
                count: notification.count,
            }),
        };
        body.unwrap_or_else(|error| unreachable!("messages are plain data: {error}"))
    }

    fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, String> {
        let mut headers = self.settings.own_headers()?;
        if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.settings.credentials().add_to(&mut headers)?;
        if let Some(key) = self.settings.key()? {
            let seconds =
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signature = signature(&key, id, seconds, body);
            let value = |text: &str| {
                HeaderValue::try_from(text).map_err(|_| "the message's id is no header".to_owned())
            };
            headers.insert("webhook-id", value(id)?);
            headers.insert("webhook-timestamp", seconds.into());
            headers.insert("webhook-signature", value(&signature)?);
        }
        Ok(headers)
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// `v1,` and the signature of `ID.SECONDS.BODY`.
fn signature(key: &[u8], id: &str, seconds: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("a key may have any length"));
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the reference libraries
    /// (<https://github.com/standard-webhooks/standard-webhooks/tree/main/libraries>).
    #[test]
    fn a_signature_is_that_of_the_reference() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
