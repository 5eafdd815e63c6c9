//! What to do when the store cannot be reached.

use std::fmt;

use super::raw::Wrong;

/// What a request does when the store stayed out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreError {
    /// Fail with the error of the store.
    Fail,
    /// Go on trying, up to `max_wait_time`.
    Wait,
    /// Run without a lease: the caller's explicit wish, never a default.
    RunUnlocked,
}

impl OnStoreError {
    pub(super) fn read(text: &str) -> Result<Self, Wrong> {
        let all = [Self::Fail, Self::Wait, Self::RunUnlocked];
        all.into_iter().find(|choice| choice.to_string() == text).ok_or_else(|| {
            Wrong::value(text, "not a choice", "write `fail`, `wait` or `run_unlocked`")
        })
    }
}

impl fmt::Display for OnStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "fail",
            Self::Wait => "wait",
            Self::RunUnlocked => "run_unlocked",
        })
    }
}
