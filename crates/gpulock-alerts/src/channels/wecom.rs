//! Group robots of WeCom.
//!
//! Source: <https://developer.work.weixin.qq.com/document/path/91770>; codes
//! <https://developer.work.weixin.qq.com/document/path/90313>.

use std::time::Duration;

use async_trait::async_trait;
use gpulock::core::alert::Urgency;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Around;
use super::robot::{
    Address, Mentions, Refusal, Service, Trouble, fitting, post, speaks_of_haste, tame,
    without_tags,
};
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::Poster;
use crate::notification::Notification;
use crate::secret::Secret;
use crate::text::{Markup, cut};

/// The longest Markdown, in bytes of UTF-8.
const LONGEST_MARKDOWN: usize = 4096;
/// The longest plain text, in bytes of UTF-8.
const LONGEST_TEXT: usize = 2048;
/// The longest title, in bytes.
const LONGEST_TITLE: usize = 256;
/// A robot may send 20 messages in a minute.
const THROTTLED: Duration = Duration::from_secs(60);

const SERVICE: Service = Service { name: "WeCom", codes: &["errcode"], words: &["errmsg"], judge };

/// Settings of a group robot of WeCom.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The whole address of the webhook.
    url: Option<Secret>,
    /// Its `key`, instead of `url`.
    key: Option<Secret>,
    /// Telephone numbers of those who are called by name. Messages are then plain text.
    #[serde(default)]
    at_mobiles: Vec<String>,
    /// User ids of those who are called by name.
    #[serde(default)]
    at_user_ids: Vec<String>,
    /// Whether everybody in the chat is called. Messages are then plain text.
    #[serde(default)]
    at_all: bool,
    /// From which urgency on somebody is called; absent: always.
    mention_from: Option<Urgency>,
}

/// A group robot of WeCom. It delivers if the answer has `errcode` 0.
#[derive(Debug)]
pub struct WeCom {
    address: Address,
    mentions: Mentions,
    poster: Poster,
}

impl Settings {
    /// The channel with these settings.
    ///
    /// # Errors
    /// One sentence and how to mend it.
    pub fn open(&self, around: &Around) -> Result<WeCom, String> {
        let address = Address::either(
            ("WeCom", "key"),
            self.url.as_ref(),
            self.key.as_ref(),
            ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send", "key"),
        )?;
        address.read()?;
        let mentions = Mentions {
            mobiles: self.at_mobiles.clone(),
            user_ids: self.at_user_ids.clone(),
            all: self.at_all,
            from: self.mention_from,
        };
        mentions.check()?;
        Ok(WeCom { address, mentions, poster: around.poster.clone() })
    }
}

#[async_trait]
impl Channel for WeCom {
    fn kind(&self) -> &'static str {
        "wecom"
    }

    fn markup(&self) -> Markup {
        if self.is_plain() { Markup::Plain } else { Markup::Markdown }
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let url = self.address.target()?;
        let mut title = tame(&message.text.title);
        cut(&mut title, LONGEST_TITLE);
        let body = if self.is_plain() {
            self.plain(message.notification, &title, &message.text.body)
        } else {
            self.markdown(message.notification, &title, &message.text.body)
        };
        let answer = post(&self.poster, &url, body.to_string().into_bytes()).await?;
        SERVICE.believe(&answer)
    }
}

impl WeCom {
    /// Telephone numbers and everybody can be called only in plain text.
    const fn is_plain(&self) -> bool {
        !self.mentions.mobiles.is_empty() || self.mentions.all
    }

    fn plain(&self, notification: &Notification, title: &str, body: &str) -> Value {
        let body = without_tags(body);
        let content = fitting(&body, LONGEST_TEXT, |body| format!("{title}\n{body}"));
        let mut text = json!({ "content": content });
        if let Some(due) = self.mentions.due(notification) {
            let everybody = due.all.then_some("@all");
            let ids = due.user_ids.iter().map(String::as_str);
            text["mentioned_list"] = ids.chain(everybody).collect();
            text["mentioned_mobile_list"] = due.mobiles.iter().map(String::as_str).collect();
        }
        json!({ "msgtype": "text", "text": text })
    }

    fn markdown(&self, notification: &Notification, title: &str, body: &str) -> Value {
        let due = self.mentions.due(notification).into_iter().flat_map(|due| &due.user_ids);
        let calls: String = due.map(|id| format!("<@{id}>")).collect();
        let calls = if calls.is_empty() { calls } else { format!("\n{calls}") };
        let content = fitting(body, LONGEST_MARKDOWN, |body| format!("**{title}**\n{body}{calls}"));
        json!({ "msgtype": "markdown", "markdown": { "content": content } })
    }
}

fn judge(refusal: &Refusal<'_>) -> Option<Trouble> {
    match refusal.code {
        45_009 | 45_033 => Some((Reason::RateLimited, Some(THROTTLED))),
        // The key is wrong, or the robot has been removed from the group.
        93_000 => Some((Reason::AuthError, None)),
        // The robot is stopped, or not in the group.
        93_004 | 93_008 => Some((Reason::Gone, None)),
        -1 => Some((Reason::ServerError, None)),
        _ => speaks_of_haste(&refusal.words).then_some((Reason::RateLimited, Some(THROTTLED))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_alone_is_sent_to_wecom() {
        let settings: Settings = serde_json::from_str(r#"{"key": "693axxx6-7aoc"}"#).unwrap();
        let wecom = settings.open(&crate::channels::robot::nowhere()).unwrap();
        let url = wecom.address.target().unwrap();
        let address = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693axxx6-7aoc";
        assert_eq!(url.as_str(), address);
    }
}
