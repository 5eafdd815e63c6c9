//! Texts that are kept under a name beside the pools. Several programs change one by comparing
//! its version and writing it anew; no store knows what stands in it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use gpulock_core::{InvalidName, Time};

use super::StoreError;

/// The longest text that is kept, in bytes.
pub const DOCUMENT_CAP: usize = 4 << 20;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

/// The name of a document: 1 to 64 of `a-z 0-9 -`, because it becomes part of keys and paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName(Cow<'static, str>);

/// A text with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Empty if it was never written.
    pub text: String,
    /// 0 if it was never written.
    pub version: u64,
    /// The store's time at which this was so.
    pub now: Time,
}

/// What has become of a text since a version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentNews {
    /// It still has this version.
    Unchanged {
        /// The store's time at which this was so.
        now: Time,
    },
    /// It has another one: this is the present text.
    Changed(Document),
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentSwap {
    /// It is written.
    Written {
        /// The version that it has now.
        version: u64,
        /// The store's time at which it was written.
        now: Time,
    },
    /// The document has another version than was expected: this is the present one.
    Conflict(Document),
}

impl DocumentName {
    /// A name that is known when the program is built: `const` finds a wrong one then.
    ///
    /// ```
    /// use gpulock::store::DocumentName;
    ///
    /// const NOTES: DocumentName = DocumentName::fixed("notes");
    /// assert_eq!(NOTES.as_str(), "notes");
    /// ```
    ///
    /// # Panics
    /// If the name is not allowed.
    pub const fn fixed(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= LONGEST_NAME, "a name has 1 to 64 bytes");
        let mut at = 0;
        while at < bytes.len() {
            assert!(is_allowed(bytes[at]), "a name is made of a-z, 0-9 and -");
            at += 1;
        }
        Self(Cow::Borrowed(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let what = "document";
        if text.is_empty() {
            return Err(InvalidName::Empty(what));
        }
        if text.len() > LONGEST_NAME {
            return Err(InvalidName::TooLong { what, limit: LONGEST_NAME, actual: text.len() });
        }
        match text.chars().find(|c| !u8::try_from(*c).is_ok_and(is_allowed)) {
            Some(character) => Err(InvalidName::Character { what, character }),
            None => Ok(Self(Cow::Owned(text.to_owned()))),
        }
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Document {
    /// What is there before the first write.
    pub fn never_written(now: Time) -> Self {
        Self { text: String::new(), version: 0, now }
    }
}

/// Refuses a text that is too long to be kept.
pub(super) fn require_fits(name: &DocumentName, text: &str) -> Result<(), StoreError> {
    match text.len() {
        ..=DOCUMENT_CAP => Ok(()),
        actual => Err(StoreError::TooLarge { name: name.to_string(), limit: DOCUMENT_CAP, actual }),
    }
}

/// The version of a text that is written now: a time, so that the document never had it, not
/// even in what the store has lost.
pub(super) fn next_version(last: u64, now: Time) -> u64 {
    now.as_micros().max(last + 1)
}

const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_into_keys_and_paths() {
        let longest = "a".repeat(LONGEST_NAME);
        for good in ["alerts", "a-1", "0", "-", &longest] {
            let name: DocumentName = good.parse().unwrap();
            assert_eq!((name.as_str(), name.to_string().as_str()), (good, good));
        }
        for bad in ["A", "a b", "a/b", "a.b", "a_b", "{a}", "ä", "a\n", "a\0", "..", "\u{131}"] {
            let refused = bad.parse::<DocumentName>();
            assert!(matches!(refused, Err(InvalidName::Character { .. })), "{bad:?}");
        }
        assert_eq!("".parse::<DocumentName>(), Err(InvalidName::Empty("document")));
        let long = "a".repeat(LONGEST_NAME + 1);
        let too_long = InvalidName::TooLong { what: "document", limit: 64, actual: 65 };
        assert_eq!(long.parse::<DocumentName>(), Err(too_long));
    }

    #[test]
    fn a_fixed_name_is_the_same_as_one_that_was_read() {
        const NAME: DocumentName = DocumentName::fixed("alerts-1");
        assert_eq!("alerts-1".parse(), Ok(NAME));
        for bad in ["", "A", "a b"] {
            assert!(std::panic::catch_unwind(|| DocumentName::fixed(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_version_is_a_time_or_follows_the_last() {
        let now = Time::from_micros(1_000);
        assert_eq!(next_version(0, now), 1_000);
        assert_eq!(next_version(999, now), 1_000);
        assert_eq!(next_version(1_000, now), 1_001);
        assert_eq!(next_version(5_000, now), 5_001);
    }

    #[test]
    fn a_text_that_is_too_long_is_refused_with_its_name_and_the_limit() {
        let name = DocumentName::fixed("alerts");
        assert!(require_fits(&name, &"x".repeat(DOCUMENT_CAP)).is_ok());
        let refused = require_fits(&name, &"x".repeat(DOCUMENT_CAP + 1)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the document `alerts` is too large: it has 4194305 bytes, a store keeps 4194304"
        );
        assert!(!refused.is_transient() && refused.hint().is_some());
    }
}
