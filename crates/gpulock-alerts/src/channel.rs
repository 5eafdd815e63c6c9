//! A way to reach somebody, and what became of a message.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::notification::Notification;
use crate::text::{Markup, Text};

/// A way to reach somebody.
#[async_trait]
pub trait Channel: fmt::Debug + Send + Sync {
    /// What kind it is, as in the configuration: `slack`, `email`.
    fn kind(&self) -> &'static str;

    /// In which dialect it wants its text.
    fn markup(&self) -> Markup;

    /// Delivers a message, once. Whoever calls bounds the time and tries again.
    ///
    /// # Errors
    /// If the other side has not said, in its own way, that it has the message.
    async fn send(&self, message: &Message<'_>) -> Result<(), Failure>;
}

/// What is to be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// The facts.
    pub notification: &'m Notification,
    /// The same for people, in the dialect of the channel.
    pub text: &'m Text,
}

/// A message was not delivered, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// What kind of trouble.
    pub reason: Reason,
    /// One sentence for people, without secrets: what the other side said.
    pub detail: String,
    /// The other side wants nothing before that.
    pub retry_after: Option<Duration>,
}

/// Why a message was not delivered. The names are values of a label of the metrics; the first three
/// are Alertmanager's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The message or the channel's settings are wrong: HTTP 4xx, or a code in the answer.
    ClientError,
    /// The other side is in trouble: HTTP 5xx, SMTP 4xx.
    ServerError,
    /// There was no answer in time.
    ContextDeadlineExceeded,
    /// The secret is wrong: HTTP 401 and 403, SMTP 535, a signature that does not match.
    AuthError,
    /// Too many messages.
    RateLimited,
    /// The other side cannot be reached: no name, no connection, no TLS.
    Unreachable,
    /// The address is one that must not be asked, see [`crate::http`].
    Forbidden,
    /// The other side is gone for good: HTTP 410.
    Gone,
    /// Something of this machine: a file that cannot be written, a command that fails.
    Local,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ClientError,
        Self::ServerError,
        Self::ContextDeadlineExceeded,
        Self::AuthError,
        Self::RateLimited,
        Self::Unreachable,
        Self::Forbidden,
        Self::Gone,
        Self::Local,
    ];

    /// As the metrics have it: `clientError`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientError => "clientError",
            Self::ServerError => "serverError",
            Self::ContextDeadlineExceeded => "contextDeadlineExceeded",
            Self::AuthError => "authError",
            Self::RateLimited => "rateLimited",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::Local => "local",
        }
    }

    /// Whether sending the same message again can help without anybody doing something.
    pub const fn may_pass(self) -> bool {
        matches!(
            self,
            Self::ServerError
                | Self::ContextDeadlineExceeded
                | Self::RateLimited
                | Self::Unreachable
                | Self::Local
        )
    }
}

impl Failure {
    /// Trouble of this kind.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }

    /// The other side wants nothing before that.
    #[must_use]
    pub fn after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }
}
