//! Asking servers of others, whose addresses come from a configuration.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::channel::{Failure, Reason};

/// The most of an answer that is read, in bytes.
pub const LONGEST_ANSWER: usize = 64 * 1024;

/// Asks servers of others. It follows no redirects, reads no more than [`LONGEST_ANSWER`], and
/// bounds the time.
#[derive(Clone, Debug)]
pub struct Poster {
    client: Client,
}

/// What a server answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text, as far as it was read.
    pub body: String,
}

impl Poster {
    /// One that gives each exchange this long.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(timeout: Duration, _allow_private: bool) -> Result<Self, Failure> {
        let client = Client::builder().timeout(timeout).redirect(Policy::none()).no_proxy().build();
        let client = client.map_err(|error| Failure::new(Reason::Local, error.to_string()))?;
        Ok(Self { client })
    }

    /// Posts a body, with its type and further headers.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let sent = self.client.post(url.clone()).headers(headers).body(body).send().await;
        let answer = sent.map_err(|error| failed(&error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.map_err(|error| failed(&error))?;
        Ok(Answer { status, headers, body })
    }
}

fn failed(error: &reqwest::Error) -> Failure {
    let reason =
        if error.is_timeout() { Reason::ContextDeadlineExceeded } else { Reason::Unreachable };
    Failure::new(reason, error.to_string())
}
