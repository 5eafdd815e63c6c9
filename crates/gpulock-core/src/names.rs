//! Names that people choose, checked at the border so that nothing behind it has to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gpu::GpuRef;

/// Why a name was turned down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name has no characters.
    #[error("a {0} name needs at least one character")]
    Empty(&'static str),
    /// The name is longer than allowed.
    #[error("a {what} name has at most {limit} bytes, this one has {actual}")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
        /// The length in bytes.
        actual: usize,
    },
    /// The name has a character that would spoil logs, keys or terminals.
    #[error("a {what} name cannot contain {character:?}")]
    Character {
        /// What was to be named.
        what: &'static str,
        /// The first such character.
        character: char,
    },
    /// The text does not have the form of a lock key.
    #[error("a lock key looks like gpu_lock:0 or gpu_lock:POOL/0")]
    LockKey,
}

/// The name of a pool: 1 to 64 of `A-Z a-z 0-9 . _ -`, because it becomes part of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

/// What a task is called, for people. It is a label and never an identity: 1 to 256 bytes
/// of printable text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskName(String);

impl Default for PoolName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for PoolName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        checked("pool", text, 64, allowed).map(Self)
    }
}

impl FromStr for TaskName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        checked("task", text, 256, is_printable).map(Self)
    }
}

fn checked(
    what: &'static str,
    text: &str,
    limit: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<String, InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty(what));
    }
    if text.len() > limit {
        return Err(InvalidName::TooLong { what, limit, actual: text.len() });
    }
    match text.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(InvalidName::Character { what, character }),
        None => Ok(text.to_owned()),
    }
}

/// Neither a control character nor one that turns the direction of writing (which can make
/// a log line read differently from what it says).
fn is_printable(c: char) -> bool {
    let turns_direction = matches!(c,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_line = matches!(c, '\u{2028}' | '\u{2029}');
    !c.is_control() && !turns_direction && !breaks_line
}

macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text_name!(PoolName);
text_name!(TaskName);

/// Names one GPU of one pool, as the older API does: `gpu_lock:0` is GPU 0 of the default
/// pool, `gpu_lock:lab/1` is GPU 1 of the pool `lab`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockKey {
    /// The pool.
    pub pool: PoolName,
    /// The GPU.
    pub gpu: GpuRef,
}

impl FromStr for LockKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = text.strip_prefix("gpu_lock:").ok_or(InvalidName::LockKey)?;
        let (pool, gpu) = match place.split_once('/') {
            Some((pool, gpu)) => (pool.parse()?, gpu),
            None => (PoolName::default(), place),
        };
        let gpu = gpu.parse().map_err(|_| InvalidName::LockKey)?;
        Ok(Self { pool, gpu })
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pool == PoolName::default() {
            write!(f, "gpu_lock:{}", self.gpu)
        } else {
            write!(f, "gpu_lock:{}/{}", self.pool, self.gpu)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_spoil_a_log_are_refused() {
        for bad in ["a\nb", "\u{1b}]0;x", "a\u{202e}b", "a\0", "\u{9b}1m"] {
            assert!(
                matches!(bad.parse::<TaskName>(), Err(InvalidName::Character { .. })),
                "{bad:?}"
            );
        }
        assert_eq!("".parse::<TaskName>(), Err(InvalidName::Empty("task")));
        let long = "x".repeat(10 << 20);
        assert!(matches!(long.parse::<TaskName>(), Err(InvalidName::TooLong { limit: 256, .. })));
        assert!("speech → text, part 2".parse::<TaskName>().is_ok());
    }

    #[test]
    fn a_pool_name_fits_into_a_key() {
        assert!("lab-1.a_b".parse::<PoolName>().is_ok());
        for bad in ["a b", "a/b", "{a}", "ä"] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lock_keys_name_a_gpu_and_perhaps_a_pool() {
        for text in ["gpu_lock:0", "gpu_lock:lab/1", "gpu_lock:GPU-8f3a"] {
            assert_eq!(text.parse::<LockKey>().unwrap().to_string(), text);
        }
        let default = "gpu_lock:default/0".parse::<LockKey>().unwrap();
        assert_eq!(default.to_string(), "gpu_lock:0");
        for bad in ["0", "gpu_lock:", "gpu_lock:x", "gpu_lock:a b/0", "lock:0"] {
            assert!(bad.parse::<LockKey>().is_err(), "{bad:?}");
        }
    }
}
