//! What a server says about itself (`INFO`).
//! See <https://redis.io/docs/latest/commands/info/>.

use std::str::FromStr;

/// The answer to `INFO`.
#[derive(Debug)]
pub(super) struct Info(String);

impl Info {
    pub(super) fn new(told: String) -> Self {
        Self(told)
    }

    /// The text of a field; `None` if this server does not have it.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':'))
    }

    /// The number in a field.
    pub(super) fn number<T: FromStr>(&self, field: &str) -> Option<T> {
        self.text(field)?.parse().ok()
    }

    /// Whether a field is 1.
    pub(super) fn is_on(&self, field: &str) -> bool {
        self.text(field) == Some("1")
    }

    /// Whether it follows, or has followed, another master: what that one wrote last it may
    /// never have got. While there is no former master the field is forty zeros.
    pub(super) fn was_promoted(&self) -> bool {
        self.text("master_replid2").is_some_and(|id| id.bytes().any(|digit| digit != b'0'))
    }
}
