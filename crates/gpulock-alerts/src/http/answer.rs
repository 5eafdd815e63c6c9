//! What a server answered, and what that means.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::Request;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::de::DeserializeOwned;

use crate::channel::{Failure, Reason};

/// So much of an answer is quoted, in characters.
const LONGEST_QUOTE: usize = 300;

/// Nobody is left alone for longer, whatever they ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Shorter values give nothing away; hiding them would garble what is quoted.
const SHORTEST_SECRET: usize = 6;

/// Parts of a path below this, but for the last, are words such as `webhook`, not secrets.
const SHORTEST_PART: usize = 8;

/// What a server answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text, as far as it was read.
    pub body: String,
    /// Why the body ends before its end: the connection broke, or time was up.
    pub cut: Option<Failure>,
    pub(super) hidden: Hidden,
}

/// What must not be quoted, because we have sent it.
#[derive(Clone, Default)]
pub(super) struct Hidden(Vec<String>);

impl Answer {
    /// The body, read as JSON.
    ///
    /// # Errors
    /// If it is none; a server that answers so is in trouble, or is none of the kind that is meant.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|error| {
            if let Some(cut) = &self.cut {
                return cut.clone();
            }
            let status = self.status;
            let why = match error.classify() {
                serde_json::error::Category::Data => "is not of the form that is documented",
                _ => "is no JSON",
            };
            let detail = format!("the answer (HTTP {status}) {why}{}", self.quoted());
            Failure::new(Reason::ServerError, detail)
        })
    }

    /// Forgets a secret that we have sent, so that it is never quoted. What stood in the URL, or in
    /// headers that are marked as sensitive, is forgotten already.
    #[must_use]
    pub fn without(mut self, secret: &str) -> Self {
        self.hidden.add(secret, 1);
        self
    }

    /// The body as it can be shown: one line, cut, without control characters and secrets.
    pub fn said(&self) -> String {
        self.shown(&self.body)
    }

    /// A part of the body as it can be shown.
    pub fn shown(&self, part: &str) -> String {
        plain(&self.hidden.out_of(part), LONGEST_QUOTE)
    }

    /// When the other side wants to hear from us again, if it says so: seconds or a date
    /// (<https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>).
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let pause = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => until(text)?,
        };
        Some(pause.min(LONGEST_PAUSE))
    }

    /// `: "…"`, or nothing if nothing was said.
    fn quoted(&self) -> String {
        match self.said() {
            said if said.is_empty() => said,
            said => format!(": \"{said}\""),
        }
    }
}

/// What a status code says about a message; `None` for every 2xx. Channels whose service tells the
/// truth in its body look there too.
pub fn failure_of(answer: &Answer) -> Option<Failure> {
    let status = answer.status;
    let (reason, why) = match status {
        200..=299 => return None,
        300..=399 => {
            let why = "it sends us elsewhere, and redirects are not followed; write the final \
                       URL into the configuration";
            return Some(Failure::new(Reason::ClientError, format!("HTTP {status}: {why}")));
        }
        401 => (Reason::AuthError, "the secret is wrong or missing"),
        403 => (Reason::AuthError, "it is not allowed with this secret"),
        408 => (Reason::ServerError, "it took too long for the other side"),
        410 => (Reason::Gone, "it is gone for good; remove the channel or give it a new URL"),
        429 => (Reason::RateLimited, "too many messages"),
        400..=499 => (Reason::ClientError, "the other side refuses the message"),
        _ => (Reason::ServerError, "the other side is in trouble"),
    };
    let detail = format!("HTTP {status}: {why}{}", answer.quoted());
    Some(Failure::new(reason, detail).after(answer.retry_after()))
}

/// What of a request must not be quoted if a server repeats it.
pub(super) fn secrets(request: &Request) -> Hidden {
    let mut hidden = Hidden::default();
    let url = request.url();
    let query = url.query().unwrap_or_default();
    let encoded = query.split('&').filter_map(|pair| pair.split_once('='));
    hidden.add(url.as_str(), SHORTEST_SECRET);
    hidden.add(url.path(), SHORTEST_SECRET);
    hidden.add(query, SHORTEST_SECRET);
    encoded.for_each(|(_, value)| hidden.add(value, SHORTEST_SECRET));
    url.query_pairs().for_each(|(_, value)| hidden.add(&value, SHORTEST_SECRET));
    for part in url.path_segments().into_iter().flatten() {
        hidden.add(part, SHORTEST_PART);
    }
    hidden.add(url.path().rsplit('/').next().unwrap_or_default(), SHORTEST_SECRET);
    for value in request.headers().values().filter(|value| value.is_sensitive()) {
        let value = value.to_str().unwrap_or_default();
        hidden.add(value, 1);
        // `Bearer TOKEN`, `Basic BASE64`.
        let Some((scheme, credentials)) = value.split_once(' ') else { continue };
        hidden.add(credentials, 1);
        if scheme == "Basic" {
            hidden.add(&password(credentials).unwrap_or_default(), 1);
        }
    }
    hidden
}

/// Out of the base64 of `USER:PASSWORD`.
fn password(credentials: &str) -> Option<String> {
    let both = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    both.split_once(':').map(|(_, password)| password.to_owned())
}

/// One line without control characters, of at most so many characters.
pub(super) fn plain(text: &str, longest: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = words.chars().filter(|c| !c.is_control() && !turns(*c));
    let mut plain: String = shown.by_ref().take(longest).collect();
    if shown.next().is_some() {
        plain.push('…');
    }
    plain
}

/// Whether a character turns the direction of what is written behind it.
const fn turns(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn until(date: &str) -> Option<Duration> {
    let then = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(date).ok()?;
    // What has passed already is no pause.
    Some(Duration::try_from(then.duration_since(Timestamp::now())).unwrap_or_default())
}

impl Hidden {
    fn add(&mut self, secret: &str, shortest: usize) {
        if secret.len() >= shortest && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
            // One that contains another is replaced first.
            self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    fn out_of(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use super::*;

    fn answer(url: &str, body: &str) -> Answer {
        let request = Request::new(Method::POST, url.parse().unwrap());
        let hidden = secrets(&request);
        Answer { status: 200, headers: HeaderMap::new(), body: body.to_owned(), cut: None, hidden }
    }

    #[test]
    fn no_secret_of_an_address_is_quoted_in_any_form() {
        let url =
            "https://chat.example/services/T0/B0/Xy%2Bz0123?key=a%2Bb%3Dcdefgh&sign=q%2Br%2Fs%3Dt0";
        let path = "/services/T0/B0/Xy%2Bz0123";
        for said in [url, path, "a+b=cdefgh", "a%2Bb%3Dcdefgh", "q+r/s=t0", "Xy%2Bz0123", "SECret"]
        {
            let answer = answer(url, &format!("no {said}!")).without("SECret");
            assert_eq!(answer.said(), "no ***!", "{said}");
        }
    }

    #[test]
    fn quotations_are_one_short_line() {
        let said = |body: &str| answer("https://chat.example/hook", body).said();
        assert_eq!(said(" a\r\nb\u{1b}[31m "), "a b[31m");
        assert_eq!(said("\n"), "");
        assert_eq!(said(&"限".repeat(5000)).chars().count(), LONGEST_QUOTE + 1);
    }
}
