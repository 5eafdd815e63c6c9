//! What the daemon's own store says of itself.

use serde::{Deserialize, Serialize};

use crate::store::{Remark, Verdict};

/// A [`Remark`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemarkBody {
    /// What was looked at.
    pub subject: String,
    /// How it is.
    #[serde(with = "VerdictBody")]
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// [`Verdict`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict", rename_all = "snake_case")]
enum VerdictBody {
    Good,
    Warning,
    Bad,
}

impl RemarkBody {
    /// As a remark of a client, about something further away.
    pub fn into_remark(self, subject: &'static str) -> Remark {
        let Self { subject: of, verdict, message, hint } = self;
        Remark { subject, verdict, message: format!("{of}: {message}"), hint }
    }
}

impl From<Remark> for RemarkBody {
    fn from(remark: Remark) -> Self {
        let Remark { subject, verdict, message, hint } = remark;
        Self { subject: subject.to_owned(), verdict, message, hint }
    }
}
