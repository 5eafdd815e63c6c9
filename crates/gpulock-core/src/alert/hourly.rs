//! How much a sum has grown within the last hour.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// How far back is counted.
const HOUR: Duration = Duration::from_secs(3600);

/// What is written down is at least this far apart.
const APART: Duration = Duration::from_secs(60);

/// A sum that only grows, as it was now and then within the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hourly {
    /// When, and how large it was; the oldest first.
    seen: Vec<(Time, u64)>,
}

impl Hourly {
    /// Writes down how large the sum is now, and says by how much it has grown within the last
    /// hour, as far as that is known. The first look tells nothing about what was before it.
    pub fn grown(&mut self, now: Time, sum: u64) -> u64 {
        // The store has lost what it had written: the sum begins anew.
        if self.seen.last().is_some_and(|(_, last)| *last > sum) {
            self.seen.clear();
        }
        // One from before the hour stays, as where the hour began.
        while self.seen.get(1).is_some_and(|(at, _)| now.since(*at) >= HOUR) {
            self.seen.remove(0);
        }
        // While it stands still nothing needs to be written down.
        let is_news = |(at, last): &(Time, u64)| *last != sum && now.since(*at) >= APART;
        if self.seen.last().is_none_or(is_news) {
            self.seen.push((now, sum));
        }
        self.seen.first().map_or(0, |(_, first)| sum - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(minute: u64) -> Time {
        Time::from_micros(minute * 60_000_000)
    }

    #[test]
    fn what_came_within_the_hour_counts_and_nothing_else() {
        let mut hourly = Hourly::default();
        assert_eq!(hourly.grown(minute(0), 50), 0, "nobody knows when those were");
        for at in 1..=60 {
            assert_eq!(hourly.grown(minute(at), 50 + at), at);
        }
        assert_eq!(hourly.grown(minute(61), 110), 59);
        assert_eq!(hourly.grown(minute(119), 110), 1);
        assert_eq!(hourly.grown(minute(200), 110), 0);
        assert_eq!(hourly.grown(minute(201), 130), 20);
    }

    #[test]
    fn a_sum_that_begins_anew_is_no_growth() {
        let mut hourly = Hourly::default();
        hourly.grown(minute(0), 1_000);
        assert_eq!(hourly.grown(minute(1), 3), 0);
        assert_eq!(hourly.grown(minute(2), 5), 2);
    }

    #[test]
    fn many_looks_take_little_room() {
        let mut hourly = Hourly::default();
        for second in 0..100_000 {
            hourly.grown(Time::from_micros(second * 1_000_000), second);
        }
        assert!(hourly.seen.len() <= 62, "{}", hourly.seen.len());
    }
}
