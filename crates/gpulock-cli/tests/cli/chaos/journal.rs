//! The journal of the pool, read while it grows: the store keeps only its latest part.

use std::time::{Duration, Instant};

use gpulock::core::Event;

use crate::cli::program::{Ended, Running};
use crate::cli::scene::Scene;

/// How much is read at once: many times what happens between two readings.
const LATEST: usize = 2_000;

/// Between two readings.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What has happened so far, the latest last.
pub(super) struct Journal<'a> {
    scene: &'a Scene,
    pub(super) events: Vec<Event>,
    /// Events are missing.
    pub(super) has_gaps: bool,
    reading: Option<Running>,
    next: Instant,
}

impl<'a> Journal<'a> {
    pub(super) fn of(scene: &'a Scene) -> Self {
        let (events, next) = (Vec::new(), Instant::now() + READ_AGAIN);
        Self { scene, events, has_gaps: false, reading: None, next }
    }

    /// Reads on if it is time for that. Does not wait for the store.
    pub(super) fn step(&mut self) {
        if let Some(done) = self.reading.take_if(|reading| reading.has_ended()) {
            let ended = done.ended();
            // A store that does not answer is asked again the next time.
            if ended.code() == 0 {
                self.join(&ended);
            }
        }
        if self.next <= Instant::now() && self.reading.is_none() {
            self.next = Instant::now() + READ_AGAIN;
            self.reading = Some(self.read());
        }
    }

    /// Reads to the end.
    pub(super) fn finish(&mut self) {
        let ended = self.read().ended().expect(0);
        self.join(&ended);
    }

    fn read(&self) -> Running {
        self.scene.start(&["history", "--json", "--limit", &LATEST.to_string()])
    }

    fn join(&mut self, ended: &Ended) {
        let latest = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        self.has_gaps |= !join(&mut self.events, latest.collect(), LATEST);
    }
}

/// Adds what is new in `latest`, of which there are at most `limit`. `false` if something is
/// missing between the two.
fn join(known: &mut Vec<Event>, latest: Vec<Event>, limit: usize) -> bool {
    let new = match known.last() {
        Some(last) => latest.iter().rposition(|event| event == last).map(|place| place + 1),
        None => (latest.len() < limit).then_some(0),
    };
    known.extend(latest.into_iter().skip(new.unwrap_or(0)));
    new.is_some()
}

#[cfg(test)]
mod tests {
    use gpulock::core::{Time, What};

    use super::*;

    fn event(at: u64) -> Event {
        let what = What::Resumed { closed_until: None };
        Event { at: Time::from_micros(at), what, party: None }
    }

    #[test]
    fn what_is_new_is_added_once() {
        let mut known = Vec::new();
        for latest in [0..3, 0..3, 1..5, 4..6] {
            assert!(join(&mut known, latest.map(event).collect(), 4));
        }
        assert_eq!(known, (0..6).map(event).collect::<Vec<_>>());
    }

    #[test]
    fn a_gap_is_found() {
        assert!(!join(&mut vec![event(1)], vec![event(3)], 4));
        assert!(!join(&mut vec![event(1)], vec![], 4));
        assert!(!join(&mut vec![], vec![event(3), event(4)], 2));
    }
}
