//! A pool's journal as it is read: entries, and places between them.

use std::fmt;
use std::str::FromStr;

use gpulock_core::{Event, TaskName};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One entry of a pool's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub cursor: Cursor,
    /// What happened.
    pub event: Event,
}

/// A place in a pool's journal: later entries have larger ones. It means something only to
/// the store and the pool that it came from.
///
/// It is written as `MAJOR-MINOR`, also in JSON: the numbers need not fit those of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Counts first.
    pub major: u64,
    /// Counts among those with the same `major`.
    pub minor: u64,
}

/// A piece of a pool's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The oldest first.
    pub entries: Vec<Entry>,
    /// Nothing is missing between the place and the first entry. `false`: what stood there
    /// has been dropped meanwhile, or the store does not know the place. Whoever followed
    /// then looks at the present state and goes on from the last entry.
    pub is_gapless: bool,
}

/// Which entries are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// At most so many.
    pub limit: usize,
    /// Of this task only.
    pub task: Option<TaskName>,
}

impl Cursor {
    /// Before everything.
    pub const START: Self = Self { major: 0, minor: 0 };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('-').ok_or(NotACursor)?;
        // The numbers of Rust may begin with a sign.
        let number = |digits: &str| match digits.bytes().all(|digit| digit.is_ascii_digit()) {
            true => digits.parse().map_err(|_| NotACursor),
            false => Err(NotACursor),
        };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// The text is not a place in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place in the journal is written as two numbers with a hyphen between them")]
pub struct NotACursor;

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Wanted {
    /// Whether an event is one of these, leaving the limit aside.
    pub fn includes(&self, event: &Event) -> bool {
        match &self.task {
            Some(task) => event.party.as_ref().is_some_and(|party| party.task == *task),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_and_read() {
        let last = Cursor { major: u64::MAX, minor: u64::MAX };
        for cursor in [Cursor::START, Cursor { major: 1_706_458_500_000, minor: 3 }, last] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
            let text = serde_json::to_string(&cursor).unwrap();
            assert_eq!(text, format!("\"{cursor}\""));
            assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
        }
    }

    #[test]
    fn other_text_is_no_place() {
        let too_large = "18446744073709551616-0";
        for text in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1-+2", "a-b", " 1-2", too_large] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text:?}");
        }
    }

    #[test]
    fn places_sort_by_major_then_minor() {
        let at = |major, minor| Cursor { major, minor };
        assert!(Cursor::START < at(0, 1) && at(0, u64::MAX) < at(1, 0) && at(9, 0) < at(10, 0));
    }
}
