//! What the webhooks of chat services share: how they are asked, and when they are believed.

mod address;
mod fitting;
mod mentions;

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

pub(super) use self::address::Address;
pub(super) use self::fitting::fitting;
pub(super) use self::mentions::Mentions;
use crate::channel::{Failure, Reason};
use crate::http::{Answer, Poster, failure_of};

/// In how many seconds the limit of Feishu is over.
pub(super) const RESET: &str = "x-ogw-ratelimit-reset";
/// No pause that a server demands is taken for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// A chat service that answers with a code in the body, whatever the status of HTTP.
#[derive(Debug)]
pub(super) struct Service {
    /// Its name, for people.
    pub(super) name: &'static str,
    /// The members of its answers that hold a code; 0 is success. All that are there count.
    pub(super) codes: &'static [&'static str],
    /// The members of its answers that say in words what a code means, in the same order.
    pub(super) words: &'static [&'static str],
    /// What is known of a refusal; `None` leaves it to the status of HTTP.
    pub(super) judge: fn(&Refusal<'_>) -> Option<Trouble>,
}

/// An answer whose code is not 0.
#[derive(Debug)]
pub(super) struct Refusal<'r> {
    /// The code.
    pub(super) code: i64,
    /// What the service says of it, in small letters.
    pub(super) words: String,
    /// The answer that holds it.
    pub(super) answer: &'r Answer,
}

/// What kind of trouble, and how long to leave the other side alone.
pub(super) type Trouble = (Reason, Option<Duration>);

impl Service {
    /// Whether the service has the message: only if HTTP and its own code say so.
    pub(super) fn believe(&self, answer: &Answer) -> Result<(), Failure> {
        let said = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        let Some((code, words)) = self.code(&said) else {
            return Err(self.without_code(answer, &said));
        };
        let status = answer.status;
        if is_success(status) && code == 0 {
            return Ok(());
        }
        let refusal = Refusal { code, words: words.to_lowercase(), answer };
        let known = if code == 0 { None } else { (self.judge)(&refusal) };
        let (reason, pause) = known.unwrap_or_else(|| by_status(answer));
        let also = if is_success(status) { String::new() } else { format!(" (HTTP {status})") };
        let detail = format!("{} answered {code}{also}: {}", self.name, quoted(answer, words));
        Err(Failure::new(reason, detail).after(pause))
    }

    /// The first code that is not 0, or 0; with the words that belong to it.
    fn code<'v>(&self, said: &'v Value) -> Option<(i64, &'v str)> {
        let mut all = self.codes.iter().zip(self.words).filter_map(|(code, words)| {
            let words = said.get(words).and_then(Value::as_str).unwrap_or("without a word");
            Some((number(said.get(code)?)?, words))
        });
        let first = all.next()?;
        Some(if first.0 == 0 { all.find(|(code, _)| *code != 0).unwrap_or(first) } else { first })
    }

    /// Something else has answered, or the service in a way that nobody knows.
    fn without_code(&self, answer: &Answer, said: &Value) -> Failure {
        // The gateway before DingTalk turns away who asks too often, with a body of its own.
        let (reason, pause) = if said.get("punish").is_some() {
            let wait = said.get("wait").and_then(Value::as_f64);
            (Reason::RateLimited, wait.and_then(bounded))
        } else if is_success(answer.status) {
            (Reason::ServerError, None)
        } else {
            by_status(answer)
        };
        let detail = format!(
            "{} answered HTTP {} without a code: {}",
            self.name,
            answer.status,
            quoted(answer, &answer.body)
        );
        Failure::new(reason, detail).after(pause)
    }
}

/// Posts a body of JSON. Half an answer is none, whatever it begins with.
pub(super) async fn post(poster: &Poster, url: &Url, body: Vec<u8>) -> Result<Answer, Failure> {
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    let answer = poster.post(url, headers, body).await?;
    match answer.cut {
        Some(cut) => Err(cut),
        None => Ok(answer),
    }
}

/// A part of an answer as it can be shown.
pub(super) fn quoted(answer: &Answer, part: &str) -> String {
    match answer.shown(part) {
        shown if shown.is_empty() => "nothing".to_owned(),
        shown => shown,
    }
}

/// Whether HTTP says that all is well.
pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// What the status says, where nothing else does.
pub(super) fn by_status(answer: &Answer) -> Trouble {
    let reason = failure_of(answer).map_or(Reason::ClientError, |failure| failure.reason);
    (reason, pause(answer))
}

/// `Retry-After`; or what Feishu says instead.
pub(super) fn pause(answer: &Answer) -> Option<Duration> {
    seconds_in(&answer.headers, RESET).or_else(|| answer.retry_after())
}

/// A header that holds a number of seconds.
pub(super) fn seconds_in(headers: &HeaderMap, name: &str) -> Option<Duration> {
    bounded(headers.get(name)?.to_str().ok()?.trim().parse().ok()?)
}

fn bounded(seconds: f64) -> Option<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE))
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Whether a service says in words that it is asked too often.
pub(super) fn speaks_of_haste(words: &str) -> bool {
    ["too fast", "too many", "too frequent", "frequency", "rate limit", "限流", "太快", "频繁"]
        .iter()
        .any(|sign| words.contains(sign))
}

/// A title that is plain text, for a place where markup counts: links, HTML and mentions come apart.
pub(super) fn tame(title: &str) -> String {
    let title: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    without_tags(&title).replace("](", "] (")
}

/// Plain text for a place where `<…>` is a mention: it comes apart.
pub(super) fn without_tags(text: &str) -> String {
    text.replace('<', "＜").replace('>', "＞")
}

/// What a channel needs to open in a test that sends nothing.
#[cfg(test)]
pub(super) fn nowhere() -> super::Around {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let poster = Poster::new(Duration::from_secs(1), false).unwrap();
    super::Around { name: "test".to_owned(), poster }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let name = reqwest::header::HeaderName::from_static(name);
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_pause_in_seconds_is_read_and_never_overflows() {
        let asked = |value| seconds_in(&headers(RESET, value), RESET);
        assert_eq!(asked("30"), Some(Duration::from_secs(30)));
        assert_eq!(asked(" 0.5 "), Some(Duration::from_millis(500)));
        assert_eq!(asked("1e300"), Some(LONGEST_PAUSE));
        assert_eq!(asked("99999999"), Some(LONGEST_PAUSE));
        assert_eq!(asked("-3"), None);
        assert_eq!(asked("NaN"), None);
        assert_eq!(asked("soon"), None);
        assert_eq!(seconds_in(&HeaderMap::new(), RESET), None);
    }

    #[test]
    fn a_title_cannot_link_mention_or_become_html() {
        let tamed = tame("x [here](http://evil.example) <@all> <font color=\"info\">\nok");
        assert!(!tamed.contains("](") && !tamed.contains(['<', '>', '\n']), "{tamed}");
        assert_eq!(tame("[P1] GPU_LOCK_ZOMBIE (ocr)"), "[P1] GPU_LOCK_ZOMBIE (ocr)");
    }
}
