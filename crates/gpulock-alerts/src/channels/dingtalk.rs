//! Custom robots of DingTalk.
//!
//! Sources: custom robots <https://open.dingtalk.com/document/robots/custom-robot-access>, their
//! signature <https://open.dingtalk.com/document/robots/customize-robot-security-settings>, codes
//! <https://open.dingtalk.com/document/orgapp/custom-bot-send-message-type>. That a body may have
//! 20,000 bytes is told only by code 460101.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpulock::core::alert::Urgency;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use super::Around;
use super::robot::{
    Address, Mentions, Refusal, Service, Trouble, fitting, post, speaks_of_haste, tame,
};
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::Poster;
use crate::secret::Secret;
use crate::text::{Markup, cut};

/// The most that a request may have, in bytes of JSON.
const LARGEST_BODY: usize = 20_000;
/// The longest title, in bytes.
const LONGEST_TITLE: usize = 256;
/// The longest keyword, in characters.
const LONGEST_KEYWORD: usize = 100;
/// Who sends more than 20 messages in a minute is not heard for so long.
const THROTTLED: Duration = Duration::from_secs(600);

const SERVICE: Service =
    Service { name: "DingTalk", codes: &["errcode"], words: &["errmsg"], judge };

/// Settings of a custom robot of DingTalk.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The whole address of the webhook.
    url: Option<Secret>,
    /// Its `access_token`, instead of `url`.
    token: Option<Secret>,
    /// Signs the messages; absent if the robot asks for no signature.
    secret: Option<Secret>,
    /// A word that the robot wants to see in every message.
    keyword: Option<String>,
    /// Telephone numbers of those who are called by name.
    #[serde(default)]
    at_mobiles: Vec<String>,
    /// User ids of those who are called by name.
    #[serde(default)]
    at_user_ids: Vec<String>,
    /// Whether everybody in the chat is called.
    #[serde(default)]
    at_all: bool,
    /// From which urgency on somebody is called; absent: always.
    mention_from: Option<Urgency>,
}

/// A custom robot of DingTalk. It delivers if the answer has `errcode` 0.
#[derive(Debug)]
pub struct DingTalk {
    address: Address,
    secret: Option<Secret>,
    keyword: Option<String>,
    mentions: Mentions,
    poster: Poster,
}

impl Settings {
    /// The channel with these settings.
    ///
    /// # Errors
    /// One sentence and how to mend it.
    pub fn open(&self, around: &Around) -> Result<DingTalk, String> {
        let address = Address::either(
            ("DingTalk", "token"),
            self.url.as_ref(),
            self.token.as_ref(),
            ("https://oapi.dingtalk.com/robot/send", "access_token"),
        )?;
        unsigned(address.read()?)?;
        self.secret.as_ref().map(Secret::reveal).transpose()?;
        let keyword = self.keyword.as_deref().map(str::trim).map(str::to_owned);
        let is_sound = |word: &String| !word.is_empty() && word.chars().count() <= LONGEST_KEYWORD;
        if !keyword.as_ref().is_none_or(is_sound) {
            return Err(format!(
                "`keyword` has 1 to {LONGEST_KEYWORD} characters, as in the robot's settings"
            ));
        }
        let mentions = Mentions {
            mobiles: self.at_mobiles.clone(),
            user_ids: self.at_user_ids.clone(),
            all: self.at_all,
            from: self.mention_from,
        };
        mentions.check()?;
        let poster = around.poster.clone();
        Ok(DingTalk { address, secret: self.secret.clone(), keyword, mentions, poster })
    }
}

#[async_trait]
impl Channel for DingTalk {
    fn kind(&self) -> &'static str {
        "dingtalk"
    }

    fn markup(&self) -> Markup {
        Markup::Markdown
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let url = self.signed().map_err(|trouble| Failure::new(Reason::Local, trouble))?;
        let answer = post(&self.poster, &url, self.body(message)).await?;
        let secret = self.secret.as_ref().map(Secret::reveal).transpose().unwrap_or_default();
        SERVICE.believe(&answer.without(&secret.unwrap_or_default()))
    }
}

impl DingTalk {
    /// The address with the time in milliseconds and the signature.
    fn signed(&self) -> Result<Url, String> {
        let mut url = unsigned(self.address.read()?)?;
        let Some(secret) = &self.secret else {
            return Ok(url);
        };
        let secret = secret.reveal()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let sign = sign(now, &secret)?;
        let now = now.to_string();
        url.query_pairs_mut().extend_pairs([("timestamp", now.as_str()), ("sign", sign.as_str())]);
        Ok(url)
    }

    fn body(&self, message: &Message<'_>) -> Vec<u8> {
        let mut title = tame(&message.text.title);
        cut(&mut title, LONGEST_TITLE);
        let nobody = Mentions::default();
        let due = self.mentions.due(message.notification).unwrap_or(&nobody);
        // Only those are called who also stand in the text.
        let names = due.mobiles.iter().chain(&due.user_ids);
        let calls: String = names.map(|name| format!(" @{name}")).collect();
        let at = json!({
            "atMobiles": due.mobiles, "atUserIds": due.user_ids, "isAtAll": due.all,
        });
        fitting(&message.text.body, LARGEST_BODY, |body| {
            let mut text = format!("#### {title}\n\n{body}");
            if let Some(keyword) = self.keyword.as_ref().filter(|word| !text.contains(*word)) {
                text = format!("{text}\n\n{keyword}");
            }
            if !calls.is_empty() {
                text = format!("{text}\n\n{}", calls.trim_start());
            }
            let markdown = json!({ "title": title, "text": text });
            json!({ "msgtype": "markdown", "markdown": markdown, "at": at }).to_string()
        })
        .into_bytes()
    }
}

/// Refuses an address that has been copied with the signature of some other message.
fn unsigned(url: Url) -> Result<Url, String> {
    let is_signature = |name: &str| matches!(name, "sign" | "timestamp");
    if url.query_pairs().any(|(name, _)| is_signature(&name)) {
        return Err(
            "`url` has a `sign` or a `timestamp` of its own; leave them out and write the \
                    robot's secret as `secret`, gpulock signs each message anew"
                .to_owned(),
        );
    }
    Ok(url)
}

/// In base64, not yet encoded for an address: that happens once, where it is put into one.
fn sign(millis: u128, secret: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|error| format!("the secret cannot sign: {error}"))?;
    mac.update(format!("{millis}\n{secret}").as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

fn judge(refusal: &Refusal<'_>) -> Option<Trouble> {
    match refusal.code {
        130_101 | 410_100 | 660_026 => Some((Reason::RateLimited, Some(THROTTLED))),
        // Signature, keyword or address of the sender; the token.
        310_000 | 300_001 | 300_005 | 400_101 => Some((Reason::AuthError, None)),
        // The group is dissolved, the robot stopped or removed.
        400_013 | 400_102 | 400_106 => Some((Reason::Gone, None)),
        460_101 | 101_002 => Some((Reason::ClientError, None)),
        -1 => Some((Reason::ServerError, None)),
        _ => speaks_of_haste(&refusal.words).then_some((Reason::RateLimited, Some(THROTTLED))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_another_program_computes() {
        // base64.b64encode(hmac.new(secret, b"%d\n%s", "sha256").digest()) in Python
        let sign = sign(1_577_262_236_763, "this is secret").unwrap();
        assert_eq!(sign, "65MT711+GWiSnGh/Qa09NEj9PVTnEudCD+uYHXENMZY=");
    }

    #[test]
    fn a_token_alone_is_sent_to_dingtalk_with_the_signature_encoded_once() {
        let settings = r#"{"token": "abc0123456", "secret": "SECdef0123456"}"#;
        let settings: Settings = serde_json::from_str(settings).unwrap();
        let around = crate::channels::robot::nowhere();
        let url = settings.open(&around).unwrap().signed().unwrap();
        let shown = url.as_str();
        let start = "https://oapi.dingtalk.com/robot/send?access_token=abc0123456&timestamp=";
        assert!(shown.starts_with(start), "{shown}");
        let query: Vec<_> = url.query_pairs().collect();
        let (millis, given) = (query[1].1.parse().unwrap(), &query[2].1);
        assert_eq!(sign(millis, "SECdef0123456").unwrap(), *given);
        assert!(shown.ends_with("%3D"), "{shown}");
    }
}
