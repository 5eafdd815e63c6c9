//! The journal of the pool, read while it grows: the store keeps only its latest part.

use std::time::{Duration, Instant};

use gpulock::core::Event;

use crate::cli::program::{Ended, Running};
use crate::cli::scene::Scene;

/// How much is read at once: many times what happens between two readings.
const LATEST: usize = 4_000;

/// Between two readings.
const READ_AGAIN: Duration = Duration::from_secs(3);

/// What has happened so far, the latest last.
pub(super) struct Journal<'a> {
    scene: &'a Scene,
    pub(super) events: Vec<Event>,
    reading: Option<Running>,
    next: Instant,
}

impl<'a> Journal<'a> {
    pub(super) fn of(scene: &'a Scene) -> Self {
        Self { scene, events: Vec::new(), reading: None, next: Instant::now() + READ_AGAIN }
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
        join(&mut self.events, latest.collect(), LATEST);
    }
}

/// Adds what is new in `latest`, of which there are at most `limit`.
#[track_caller]
fn join(known: &mut Vec<Event>, latest: Vec<Event>, limit: usize) {
    let new = match known.last() {
        Some(last) => latest.iter().rposition(|event| event == last).map(|place| place + 1),
        None => (latest.len() < limit).then_some(0),
    };
    let Some(new) = new else {
        let last = known.last();
        panic!("the journal has lost {last:?}, or was read too seldom: {} events", latest.len());
    };
    known.extend(latest.into_iter().skip(new));
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
            join(&mut known, latest.map(event).collect(), 4);
        }
        assert_eq!(known, (0..6).map(event).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "the journal has lost")]
    fn a_gap_is_no_journal() {
        let mut known = vec![event(1)];
        join(&mut known, vec![event(3)], 4);
    }
}
