//! Custom bots of Feishu and Lark.
//!
//! Sources: <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot> and, for Lark,
//! <https://open.larksuite.com/document/client-docs/bot-v3/use-custom-bots-in-a-group>; limits
//! <https://open.feishu.cn/document/server-docs/api-call-guide/frequency-control>; cards
//! <https://open.feishu.cn/document/common-capabilities/message-card/message-cards-content/card-header>.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpulock::core::alert::Urgency;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use super::Around;
use super::robot::{
    Address, Mentions, RESET, Refusal, Service, Trouble, fitting, pause, post, seconds_in,
    speaks_of_haste, tame, without_tags,
};
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::Poster;
use crate::notification::{Notification, NotifiedAlert};
use crate::secret::Secret;
use crate::text::{Markup, cut};

/// The most that a request may have, 20 KB, in bytes of JSON.
const LARGEST_BODY: usize = 20_000;
/// The longest title, in bytes.
const LONGEST_TITLE: usize = 256;
/// The longest keyword, in characters.
const LONGEST_KEYWORD: usize = 100;
/// How long a bot that is throttled keeps quiet if Feishu does not say.
const THROTTLED: Duration = Duration::from_secs(60);

/// `StatusCode` is what older answers have.
const SERVICE: Service = Service {
    name: "Feishu",
    codes: &["code", "StatusCode"],
    words: &["msg", "StatusMessage"],
    judge,
};

/// Settings of a custom bot of Feishu or Lark.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The whole address of the webhook; that of Lark begins with `https://open.larksuite.com`.
    url: Secret,
    /// Signs the messages; absent if the bot asks for no signature.
    secret: Option<Secret>,
    /// A word that the bot wants to see in every message.
    keyword: Option<String>,
    /// What a message looks like.
    #[serde(default)]
    format: Format,
    /// Open ids (`ou_…`) of those who are called by name.
    #[serde(default)]
    at_user_ids: Vec<String>,
    /// Whether everybody in the chat is called.
    #[serde(default)]
    at_all: bool,
    /// From which urgency on somebody is called; absent: always.
    mention_from: Option<Urgency>,
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A card whose head has a colour.
    #[default]
    Card,
    /// Plain text.
    Text,
}

/// A custom bot of Feishu or Lark. It delivers if the answer has `code` 0.
#[derive(Debug)]
pub struct Feishu {
    address: Address,
    secret: Option<Secret>,
    keyword: Option<String>,
    format: Format,
    mentions: Mentions,
    poster: Poster,
}

impl Settings {
    /// The channel with these settings.
    ///
    /// # Errors
    /// One sentence and how to mend it.
    pub fn open(&self, around: &Around) -> Result<Feishu, String> {
        let address = Address::Whole(self.url.clone());
        address.read()?;
        self.secret.as_ref().map(Secret::reveal).transpose()?;
        let keyword = self.keyword.as_deref().map(str::trim).map(str::to_owned);
        let is_sound = |word: &String| !word.is_empty() && word.chars().count() <= LONGEST_KEYWORD;
        if !keyword.as_ref().is_none_or(is_sound) {
            return Err(format!(
                "`keyword` has 1 to {LONGEST_KEYWORD} characters, as in the bot's settings"
            ));
        }
        let mentions = Mentions {
            mobiles: Vec::new(),
            user_ids: self.at_user_ids.clone(),
            all: self.at_all,
            from: self.mention_from,
        };
        mentions.check()?;
        let (secret, poster) = (self.secret.clone(), around.poster.clone());
        Ok(Feishu { address, secret, keyword, format: self.format, mentions, poster })
    }
}

#[async_trait]
impl Channel for Feishu {
    fn kind(&self) -> &'static str {
        "feishu"
    }

    fn markup(&self) -> Markup {
        match self.format {
            Format::Card => Markup::Markdown,
            Format::Text => Markup::Plain,
        }
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let url = self.address.target()?;
        let local = |trouble| Failure::new(Reason::Local, trouble);
        let secret = self.secret.as_ref().map(Secret::reveal).transpose().map_err(local)?;
        let mut signature = None;
        if let Some(secret) = &secret {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            signature = Some((now, sign(now, secret).map_err(local)?));
        }
        let body = self.body(message, signature.as_ref());
        let answer = post(&self.poster, &url, body).await?;
        SERVICE.believe(&answer.without(&secret.unwrap_or_default()))
    }
}

impl Feishu {
    fn body(&self, message: &Message<'_>, signature: Option<&(u64, String)>) -> Vec<u8> {
        let mut title = tame(&message.text.title);
        cut(&mut title, LONGEST_TITLE);
        let calls = self.calls(message.notification);
        let plain = matches!(self.format, Format::Text).then(|| without_tags(&message.text.body));
        let body = plain.as_deref().unwrap_or(&message.text.body);
        fitting(body, LARGEST_BODY, |body| {
            let mut text = body.to_owned();
            let lacks = |word: &&String| !text.contains(*word) && !title.contains(*word);
            if let Some(keyword) = self.keyword.as_ref().filter(lacks) {
                text = format!("{text}\n{keyword}");
            }
            if !calls.is_empty() {
                text = format!("{text}\n{calls}");
            }
            let mut whole = match self.format {
                Format::Card => card(&title, &text, colour(message.notification)),
                Format::Text => {
                    let text = format!("{title}\n{text}");
                    json!({ "msg_type": "text", "content": { "text": text } })
                }
            };
            if let Some((seconds, sign)) = signature {
                whole["timestamp"] = seconds.to_string().into();
                whole["sign"] = sign.as_str().into();
            }
            whole.to_string()
        })
        .into_bytes()
    }

    fn calls(&self, notification: &Notification) -> String {
        let Some(due) = self.mentions.due(notification) else {
            return String::new();
        };
        let everybody = due.all.then_some("all");
        let ids = due.user_ids.iter().map(String::as_str).chain(everybody);
        let call = |id| match self.format {
            Format::Card => format!("<at id={id}></at>"),
            Format::Text => format!("<at user_id=\"{id}\"></at>"),
        };
        ids.map(call).collect()
    }
}

fn card(title: &str, text: &str, colour: &str) -> Value {
    let title = json!({ "tag": "plain_text", "content": title });
    json!({
        "msg_type": "interactive",
        "card": {
            "config": { "wide_screen_mode": true },
            "header": { "template": colour, "title": title },
            "elements": [{ "tag": "markdown", "content": text }],
        },
    })
}

/// The colour of the head of a card.
fn colour(notification: &Notification) -> &'static str {
    match notification.firing().map(NotifiedAlert::urgency).max() {
        None => "green",
        Some(Urgency::P0) => "carmine",
        Some(Urgency::P1) => "red",
        Some(Urgency::P2) => "orange",
        Some(Urgency::Warning) => "yellow",
        Some(Urgency::Info) => "blue",
    }
}

/// Time and secret are the key, and the message is empty: the other way round than DingTalk's.
fn sign(seconds: u64, secret: &str) -> Result<String, String> {
    let mac = Hmac::<Sha256>::new_from_slice(format!("{seconds}\n{secret}").as_bytes())
        .map_err(|error| format!("the secret cannot sign: {error}"))?;
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

fn judge(refusal: &Refusal<'_>) -> Option<Trouble> {
    let reset = seconds_in(&refusal.answer.headers, RESET);
    let wait = pause(refusal.answer).unwrap_or(THROTTLED);
    let throttled = Some((Reason::RateLimited, Some(wait)));
    match refusal.code {
        11_232 | 230_020 | 99_991_400 => throttled,
        // The token of the address, the signature, the address of the sender, the keyword.
        19_001 | 19_021 | 19_022 | 19_024 => Some((Reason::AuthError, None)),
        // 9499 is a body that Feishu cannot read, but also `too many request`.
        _ if speaks_of_haste(&refusal.words) => throttled,
        _ if refusal.answer.status == 429 => throttled,
        _ if refusal.answer.status == 400 && reset.is_some() => throttled,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_official_example() {
        // GenSign("demo", 100) of the official page
        assert_eq!(sign(100, "demo").unwrap(), "jquNHnVOwmDRfw+vqTIrY5dooJAgi5EcRtLsQE4wfXg=");
    }
}
