//! What serde finds wrong with a value, before its place is known and after.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::error::ConfigError;
use super::unexamined::Objection;

/// The hint where a type says only what is wrong.
const NO_HINT: &str = "write it as the guide to this section shows";

/// What serde finds wrong with a value.
#[derive(Debug)]
pub(super) enum Fault {
    /// The value that is being read is wrong.
    Wrong(Objection),
    /// It is wrong in the words of its type, which may quote it.
    Said(Objection),
    /// A key does not exist.
    UnknownKey { known: &'static [&'static str] },
    /// As it reaches the user.
    Placed(Box<ConfigError>),
}

impl Fault {
    pub(super) fn wrong(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Wrong(Objection::new(reason, hint))
    }

    /// `expecting` texts say what, and after a colon how it is written.
    fn expected(expected: &dyn Expected) -> Self {
        let text = expected.to_string();
        match text.split_once(": ") {
            Some((what, how)) => Self::wrong(format!("is not {what}"), format!("write {how}")),
            None => Self::wrong(format!("is not {text}"), format!("write {text}")),
        }
    }
}

impl de::Error for Fault {
    /// `REASON`, `REASON; HINT`, or an [`Objection`].
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        if let Some((reason, hint)) = message.split_once("\nhint: ") {
            // Whoever makes one of those knows what a secret is.
            return Self::wrong(reason, hint);
        }
        let (reason, hint) = message.split_once("; ").unwrap_or((&message, NO_HINT));
        Self::Said(Objection::new(format!("cannot be used: {reason}"), hint))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        Self::wrong("is not a choice", format!("write one of {}", known.join(", ")))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { known }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::wrong(format!("lacks the key `{key}`"), format!("add `{key}: …` to it"))
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::wrong(format!("has the key `{key}` under two names"), "keep one of the two")
    }
}

/// `message` without the value, nor any start of it that is long enough to be known by.
pub(super) fn masked(message: &str, value: &str) -> String {
    const SHORTEST: usize = 4;
    let value = value.trim();
    let quoted = format!("`{value}`");
    if message.contains(&quoted) {
        return message.replace(&quoted, "it");
    }
    let starts = (SHORTEST..=value.len()).rev().filter(|end| value.is_char_boundary(*end));
    match starts.map(|end| &value[..end]).find(|start| message.contains(start)) {
        Some(start) => message.replace(start, "…"),
        None => message.to_owned(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(objection) | Self::Said(objection) => write!(f, "{objection}"),
            Self::UnknownKey { .. } => f.write_str("unknown key"),
            Self::Placed(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_value_stays_in_a_message() {
        for (message, value, masked_message) in [
            ("`s3cret` is none of a, b", "s3cret", "it is none of a, b"),
            ("`a` is none of a, b", "a", "it is none of a, b"),
            ("got \"s3cret-th…\"", "s3cret-that-is-long", "got \"……\""),
            ("is no number", "5", "is no number"),
            ("holds ééé", "éééé", "holds …"),
        ] {
            assert_eq!(masked(message, value), masked_message);
        }
    }
}
