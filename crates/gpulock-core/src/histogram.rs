//! How long things took, counted in steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts of spans by length, see [`Histogram::BOUNDS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    /// One for each step that was ever reached.
    counts: Vec<u64>,
}

impl Histogram {
    /// The longest span of each step but the last, in seconds. The last has no bound.
    pub const BOUNDS: [f64; 16] = [
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        7200.0,
    ];

    /// How many spans fell into each step: one more than there are bounds.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = self.counts.clone();
        counts.resize(Self::BOUNDS.len() + 1, 0);
        counts
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Counts a span of so many microseconds.
    pub fn count(&mut self, micros: u64) {
        let seconds = Duration::from_micros(micros).as_secs_f64();
        let step = Self::BOUNDS.partition_point(|bound| *bound < seconds);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_falls_into_the_first_step_that_is_long_enough() {
        let mut spans = Histogram::default();
        for micros in [0, 50_000, 50_001, 7_200_000_000, 7_200_000_001] {
            spans.count(micros);
        }
        let counts = spans.counts();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert_eq!(counts.iter().sum::<u64>(), 5);
    }
}
