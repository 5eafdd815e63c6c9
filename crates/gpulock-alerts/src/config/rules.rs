//! What the configuration sets about rules.

use std::collections::BTreeMap;
use std::fmt;

use gpulock::config::ConfigError;
use gpulock::core::alert::{Adjustment, RULES, Rule, Rules, Urgency, rule};
use serde::{Deserialize, Deserializer, de};

use super::{At, check_known};

/// The catalogue as these sections adjust it.
pub(super) fn adjusted(
    sections: &BTreeMap<String, RuleSection>,
    at: &At<'_>,
) -> Result<Rules, ConfigError> {
    let mut adjustments = BTreeMap::new();
    for (name, section) in sections {
        let at = at.key(name);
        check_known(name, RULES.iter().map(|rule| rule.name), &at, "rule")?;
        let RuleSection { enabled, level, threshold } = *section;
        let threshold = threshold.map(|Threshold(figure)| figure);
        if let (Some(rule), Some(figure)) = (rule(name), threshold) {
            Measure::of(rule).check(figure, &at.key("threshold"))?;
        }
        let adjustment = Adjustment { is_off: !enabled, urgency: level, threshold };
        adjustments.insert(name.clone(), adjustment);
    }
    Ok(Rules::adjusted(adjustments))
}

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleSection {
    enabled: bool,
    level: Option<Urgency>,
    threshold: Option<Threshold>,
}

impl Default for RuleSection {
    fn default() -> Self {
        Self { enabled: true, level: None, threshold: None }
    }
}

/// What the threshold of a rule measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// The rule tells of something that happens, and has none.
    None,
    /// A share from 0 to 1.
    Share,
    /// How often in an hour.
    PerHour,
    /// Seconds.
    Time,
}

impl Measure {
    fn of(rule: &Rule) -> Self {
        match (rule.threshold, rule.unit) {
            (None, _) => Self::None,
            (Some(_), "an hour") => Self::PerHour,
            (Some(_), "seconds") => Self::Time,
            (Some(_), _) => Self::Share,
        }
    }

    fn check(self, threshold: f64, at: &At<'_>) -> Result<(), ConfigError> {
        let (is_fit, reason, hint) = match self {
            Self::None => (
                false,
                "means nothing: the rule tells of something that happens, not of a figure",
                "remove it; `level` and `enabled` can be set",
            ),
            Self::Share => (
                (0.0..=1.0).contains(&threshold),
                "is not a share",
                "write a number from 0 to 1, such as 0.1 for 10 %",
            ),
            Self::PerHour => (
                threshold >= 1.0 && threshold.fract() == 0.0,
                "is not a number of times in an hour",
                "write a whole number, 1 or larger",
            ),
            Self::Time => {
                (threshold > 0.0, "is no length of time", "write seconds, or such as 15m")
            }
        };
        if is_fit { Ok(()) } else { Err(at.wrong(reason, hint)) }
    }
}

/// A number, or a length of time in seconds.
#[derive(Clone, Copy, Debug)]
struct Threshold(f64);

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a threshold: a number, or a length of time such as 15m")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Threshold, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Threshold, E> {
        Ok(Threshold(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Threshold, E> {
        let span = gpulock::config::span(text.trim());
        let span = span.map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Ok(Threshold(span.as_secs_f64()))
    }
}
