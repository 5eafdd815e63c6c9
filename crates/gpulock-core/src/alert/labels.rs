//! What tells one alert from another.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names and values by which alerts are told apart, grouped and sent on. `alertname` is the rule;
/// `severity` is how urgent it is; `pool`, `gpu`, `task` and others say what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

/// Names an alert for as long as its labels are the same. How urgent it is does not count: an alert
/// that becomes more urgent is still the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Labels {
    /// The label that names the rule.
    pub const RULE: &'static str = "alertname";
    /// The label that says how urgent it is.
    pub const SEVERITY: &'static str = "severity";

    /// The value of a label; empty if there is none, as Alertmanager has it.
    pub fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Sets a label, or removes it if `value` is empty.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match value.into() {
            value if value.is_empty() => self.0.remove(name),
            value => self.0.insert(name.to_owned(), value),
        };
    }

    /// With one more label.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those that all of these have with the same value.
    pub fn common<'l>(all: impl IntoIterator<Item = &'l Self>) -> Self {
        let mut all = all.into_iter();
        let mut common = all.next().cloned().unwrap_or_default();
        for labels in all {
            common.0.retain(|name, value| labels.value(name) == value);
        }
        common
    }

    /// Those with these names.
    #[must_use]
    pub fn only<N: AsRef<str>>(&self, names: &[N]) -> Self {
        let is_named = |name: &str| names.iter().any(|one| one.as_ref() == name);
        self.iter().filter(|(name, _)| is_named(name)).collect()
    }

    /// FNV-1a over names and values with a byte between that UTF-8 never has, as Prometheus
    /// computes it.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |bytes: &[u8]| {
            for byte in bytes.iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, value) in self.iter().filter(|(name, _)| *name != Self::SEVERITY) {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        Fingerprint(format!("{hash:016x}"))
    }
}

impl<'l> FromIterator<(&'l str, &'l str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'l str, &'l str)>>(labels: I) -> Self {
        labels.into_iter().fold(Self::default(), |all, (name, value)| all.with(name, value))
    }
}

impl fmt::Display for Labels {
    /// `alertname="GPU_LOCK_ZOMBIE" pool="default"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.iter().enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{name}={value:?}")?;
        }
        Ok(())
    }
}

impl Fingerprint {
    /// Sixteen hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Fingerprint {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
