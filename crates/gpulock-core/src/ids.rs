//! Identities: leases, fencing tokens, and where a client listens.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Time;

/// The identity of one lease, from the moment it is asked for: 128 random bits chosen by
/// the client, so that asking again after a lost reply is safe.
///
/// It is written as 32 hexadecimal digits; hyphens (as in a UUID) are accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u128);

impl LeaseId {
    /// A lease id of these 128 bits, which the caller took from a good random source.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = NotALeaseId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|c| *c != '-').take(33).collect();
        let well_formed = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !well_formed {
            return Err(NotALeaseId);
        }
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| NotALeaseId)
    }
}

/// The text is not a lease id.
#[derive(Debug, thiserror::Error)]
#[error("a lease id has 32 hexadecimal digits")]
pub struct NotALeaseId;

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A fencing token: grows with every grant of a pool and never goes back.
///
/// It is the store's clock at the grant in microseconds, or one more than the last token,
/// whichever is larger. So a pool whose store lost its data, in whole or only the last
/// writes, still hands out larger tokens than before, and the value fits the integers of
/// JSON (2^53) until the year 2255.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Token(u64);

impl Token {
    /// The token with this value, as read from an environment variable or a request.
    pub const fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// The token of a grant at `now` that follows one with this token.
    pub fn next(self, now: Time) -> Self {
        Self((self.0 + 1).max(now.as_micros()))
    }

    /// The value, below 2^53.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one lease beyond doubt. Every command that changes a lease carries both halves
/// and changes nothing if they do not fit the current lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The lease.
    pub lease_id: LeaseId,
    /// Its fencing token.
    pub token: Token,
}

/// Where a client process listens for wake-ups; what it means is the store's affair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Channel(pub String);
