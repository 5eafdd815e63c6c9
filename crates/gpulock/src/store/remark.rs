//! What a look at a store finds.

/// One thing that was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What was looked at, in one word or two.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do about it, or what to know; `None` if there is nothing.
    pub hint: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and could surprise.
    Warning,
    /// Leases are not safe, or nothing works.
    Bad,
}

impl Remark {
    /// As it should be.
    pub fn good(subject: &'static str, message: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Good, message: message.into(), hint: None }
    }

    /// It works, and could surprise.
    pub fn warning(subject: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::good(subject, message) }
    }

    /// Leases are not safe, or nothing works.
    pub fn bad(subject: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::good(subject, message) }
    }

    /// With this advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
