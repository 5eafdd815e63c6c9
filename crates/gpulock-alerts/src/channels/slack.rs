//! Incoming webhooks of Slack.
//!
//! Sources: webhooks and their errors
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>, blocks
//! <https://docs.slack.dev/reference/block-kit/blocks/section-block>, escaping
//! <https://docs.slack.dev/messaging/formatting-message-text>, limits
//! <https://docs.slack.dev/apis/web-api/rate-limits>.
//!
//! Whoever renders the text for [`Markup::Slack`] escapes `&`, `<` and `>` in what comes from
//! outside; the body is sent as it is. The title is plain text, and escaped here.

use std::time::Duration;

use async_trait::async_trait;
use gpulock::core::alert::Urgency;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Around;
use super::robot::{Address, Trouble, by_status, is_success, pause, post, quoted};
use crate::channel::{Channel, Failure, Message, Reason};
use crate::http::{Answer, Poster};
use crate::notification::{Notification, NotifiedAlert};
use crate::secret::Secret;
use crate::text::Markup;

/// The longest head, in characters.
const LONGEST_HEAD: usize = 150;
/// The longest section, in characters.
const LONGEST_SECTION: usize = 3000;
/// So many sections at most. Slack takes 50 blocks, but refuses messages whose blocks have some
/// 12,000 characters in all (`msg_blocks_too_long`).
const MOST_SECTIONS: usize = 3;
/// How long to keep quiet if Slack does not say.
const THROTTLED: Duration = Duration::from_secs(30);

/// Settings of an incoming webhook of Slack.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The whole address of the webhook.
    url: Secret,
}

/// An incoming webhook of Slack. It delivers if the answer is `ok`.
#[derive(Debug)]
pub struct Slack {
    address: Address,
    poster: Poster,
}

impl Settings {
    /// The channel with these settings.
    ///
    /// # Errors
    /// One sentence and how to mend it.
    pub fn open(&self, around: &Around) -> Result<Slack, String> {
        let address = Address::Whole(self.url.clone());
        address.read()?;
        Ok(Slack { address, poster: around.poster.clone() })
    }
}

#[async_trait]
impl Channel for Slack {
    fn kind(&self) -> &'static str {
        "slack"
    }

    fn markup(&self) -> Markup {
        Markup::Slack
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let url = self.address.target()?;
        let body = body(message).to_string().into_bytes();
        let answer = post(&self.poster, &url, body).await?;
        believe(&answer)
    }
}

/// `text` is what a notification on a telephone shows; the rest is what the channel shows.
fn body(message: &Message<'_>) -> Value {
    let title: String =
        message.text.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let title = match title.trim() {
        "" => "gpulock",
        title => title,
    };
    let head = first(title, LONGEST_HEAD).0;
    let head = json!({ "type": "plain_text", "text": head, "emoji": false });
    let mut body = json!({
        "text": escaped(first(title, LONGEST_SECTION / 2).0),
        "blocks": [{ "type": "header", "text": head }],
    });
    let section = |text| {
        let text = json!({ "type": "mrkdwn", "text": text, "verbatim": true });
        json!({ "type": "section", "text": text })
    };
    let sections: Vec<Value> = sections(&message.text.body).into_iter().map(section).collect();
    if !sections.is_empty() {
        let colour = colour(message.notification);
        body["attachments"] = json!([{ "color": colour, "blocks": sections }]);
    }
    body
}

/// The text in parts that are short enough, and none of them empty.
fn sections(text: &str) -> Vec<String> {
    const ELLIPSIS: char = '…';
    let mut left = text.trim();
    let mut sections = Vec::new();
    while !left.is_empty() && sections.len() < MOST_SECTIONS {
        let (section, rest) = first(left, LONGEST_SECTION - 1);
        sections.push(section.trim_end().to_owned());
        left = rest.trim_start();
    }
    if let Some(last) = sections.last_mut().filter(|_| !left.is_empty()) {
        last.push(ELLIPSIS);
    }
    sections
}

/// As much of the text as has at most so many characters, and the rest. It ends at a line or a blank
/// if there is one in its second half, and never inside of `&lt;` or `<https://…|link>` unless such
/// a one fills everything.
fn first(text: &str, most: usize) -> (&str, &str) {
    // Slack may count a character beyond the first 65,536 as two.
    let mut units = 0;
    let end = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > most
    });
    let Some((end, _)) = end else {
        return (text, "");
    };
    let head = &text[..end];
    let borders = ['\n', ' '].into_iter().filter_map(|border| head.rfind(border));
    let mut borders = borders.filter(|at| *at > end / 2 && is_border(head, *at));
    let whole = head.char_indices().rev().map(|(at, _)| at);
    let mut whole = [end].into_iter().chain(whole).filter(|at| *at > 0 && is_border(head, *at));
    text.split_at(borders.next().or_else(|| whole.next()).unwrap_or(end))
}

/// Whether no `<…>` and no `&…;` is open there.
fn is_border(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let open = before.rfind('<').is_some_and(|open| !before[open..].contains('>'));
    !open && !before.rfind('&').is_some_and(|entity| is_cut_entity(&before[entity..]))
}

/// Whether `&…` at the end of a text lacks its semicolon.
fn is_cut_entity(tail: &str) -> bool {
    tail.len() < "&amp;".len() && !tail.contains(';')
}

/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The colour beside the message.
fn colour(notification: &Notification) -> &'static str {
    match notification.firing().map(NotifiedAlert::urgency).max() {
        None => "#2eb886",
        Some(Urgency::P0) => "#8b0000",
        Some(Urgency::P1) => "#e01e5a",
        Some(Urgency::P2) => "#e8912d",
        Some(Urgency::Warning) => "#ecb22e",
        Some(Urgency::Info) => "#36c5f0",
    }
}

fn believe(answer: &Answer) -> Result<(), Failure> {
    let (status, said) = (answer.status, answer.body.trim());
    if is_success(status) && said == "ok" {
        return Ok(());
    }
    let (reason, pause) = judge(answer, said);
    let detail = format!("Slack answered HTTP {status}: {}", quoted(answer, said));
    Err(Failure::new(reason, detail).after(pause))
}

fn judge(answer: &Answer, said: &str) -> Trouble {
    let reason = match said {
        _ if answer.status == 429 => Reason::RateLimited,
        "rate_limited" | "ratelimited" => Reason::RateLimited,
        "channel_is_archived" | "channel_not_found" | "no_active_hooks" => Reason::Gone,
        // The address is not, or no longer, that of a webhook that may post here.
        "no_service"
        | "no_service_id"
        | "no_team"
        | "invalid_token"
        | "team_disabled"
        | "action_prohibited"
        | "posting_to_general_channel_denied" => Reason::AuthError,
        // Something between here and Slack has answered.
        _ if is_success(answer.status) => Reason::ServerError,
        _ => return by_status(answer),
    };
    let limited = reason == Reason::RateLimited;
    (reason, pause(answer).or(limited.then_some(THROTTLED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_becomes_sections_that_slack_takes() {
        for unit in
            ["a", "限", "🔥", "a line of words\n", "&lt;", "<https://h.example/x|two words>"]
        {
            let text = unit.repeat(12_000);
            let sections = sections(&text);
            assert_eq!(sections.len(), MOST_SECTIONS, "{unit}");
            for section in &sections {
                let units = section.encode_utf16().count();
                assert!((1..=LONGEST_SECTION).contains(&units), "{unit}: {units}");
                assert_eq!(section.matches('<').count(), section.matches('>').count(), "{unit}");
                assert_eq!(section.matches('&').count(), section.matches(';').count(), "{unit}");
            }
            assert!(sections[2].ends_with('…'));
            let told: String = sections.concat().chars().filter(|c| !c.is_whitespace()).collect();
            let whole: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            assert!(whole.starts_with(told.trim_end_matches('…')), "{unit}");
        }
    }

    #[test]
    fn a_short_text_is_one_section_and_an_empty_one_none() {
        assert_eq!(sections("short\n"), ["short"]);
        assert!(sections(" \n").is_empty());
        let link = format!("<https://h.example/{}|x>", "y".repeat(4000));
        assert!(sections(&link).iter().all(|section| section.len() <= LONGEST_SECTION));
    }
}
