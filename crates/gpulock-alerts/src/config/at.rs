//! A place in the section, for errors.

use std::time::Duration;

use gpulock::config::{ConfigError, Objection, Unexamined};

/// A place in the section: the keys that lead there.
#[derive(Clone)]
pub(crate) struct At<'s> {
    section: &'s Unexamined,
    keys: Vec<String>,
}

impl<'s> At<'s> {
    pub(crate) fn top(section: &'s Unexamined) -> Self {
        Self { section, keys: Vec::new() }
    }

    /// The value of a key.
    pub(crate) fn key(&self, name: &str) -> Self {
        let mut keys = self.keys.clone();
        keys.push(name.to_owned());
        Self { keys, ..*self }
    }

    /// An item of a list.
    pub(crate) fn item(&self, number: usize) -> Self {
        self.key(&number.to_string())
    }

    /// What is wrong there, as a sentence that begins with the key, and what would be right.
    pub(crate) fn wrong(&self, reason: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        self.section.wrong(&self.keys, Objection::new(reason, hint))
    }

    /// Refuses a length of time that is none.
    pub(crate) fn positive(&self, span: Duration) -> Result<(), ConfigError> {
        if span.is_zero() {
            return Err(self.wrong("is no length of time", "write at least 1s"));
        }
        Ok(())
    }
}
