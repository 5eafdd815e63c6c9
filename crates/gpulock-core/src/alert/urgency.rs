//! How soon somebody has to look.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How soon somebody has to look; the later ones are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Urgency {
    /// Never, it is good to know.
    Info,
    /// Some day.
    Warning,
    /// Today.
    P2,
    /// Soon: work is held up.
    P1,
    /// Now: work stands still, or nobody knows who uses a GPU.
    P0,
}

impl Urgency {
    /// All of them, the least urgent first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Warning, Self::P2, Self::P1, Self::P0];

    /// As it is written: `P0`, `P1`, `P2`, `warning`, `info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::P2 => "P2",
            Self::P1 => "P1",
            Self::P0 => "P0",
        }
    }
}

/// A word that is none of `P0`, `P1`, `P2`, `warning` and `info`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of P0, P1, P2, warning and info")]
pub struct UnknownUrgency(String);

impl FromStr for Urgency {
    type Err = UnknownUrgency;

    /// Capitals and small letters count alike: the older system wrote `WARNING`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named =
            Self::ALL.into_iter().find(|urgency| urgency.as_str().eq_ignore_ascii_case(text));
        named.ok_or_else(|| UnknownUrgency(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Urgency {
    type Error = UnknownUrgency;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Urgency> for String {
    fn from(urgency: Urgency) -> Self {
        urgency.as_str().to_owned()
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
