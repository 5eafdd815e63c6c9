//! Who held the lock when, as the workers of a crew tell it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::crew::{Crew, Report};

/// Whoever asked that much later was certainly second. In nanoseconds.
const CERTAINLY_LATER: u64 = 10_000_000;

/// Everything that was reported of one crew. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    ended: Vec<Turn>,
    /// Since when each worker waits, or holds.
    asking: HashMap<u64, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    worker: u64,
    asked: u64,
    held: u64,
    released: u64,
}

impl Turns {
    /// Listens until so many turns have ended, in all, or until that moment.
    pub(crate) fn listen(&mut self, crew: &Crew, turns: usize, until: Instant) {
        while self.ended.len() < turns {
            let Some(report) = crew.report(until) else { return };
            self.note(&report);
        }
    }

    /// Listens until so many workers have asked.
    pub(crate) fn listen_until_all_ask(&mut self, crew: &Crew, workers: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        let mut seen = HashSet::new();
        while seen.len() < workers {
            let report = crew.report(until).unwrap_or_else(|| panic!("some never asked"));
            seen.insert(report.numbers[0]);
            self.note(&report);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.ended.len()
    }

    /// How many of them ended after that moment.
    pub(crate) fn count_since(&self, moment: u64) -> usize {
        self.ended.iter().filter(|turn| turn.released >= moment).count()
    }

    /// From the begin of each release to the moment at which the next holder's call
    /// returned, if that was another worker, for turns that began `from` then on.
    pub(crate) fn hand_overs(&self, from: u64) -> Vec<Duration> {
        let mut turns = self.ended.clone();
        turns.sort_unstable_by_key(|turn| turn.held);
        turns
            .windows(2)
            .filter(|two| two[0].held >= from && two[0].worker != two[1].worker)
            .map(|two| Duration::from_nanos(two[1].held.saturating_sub(two[0].released)))
            .collect()
    }

    /// How many of those who got the lock went before somebody who had asked earlier.
    pub(crate) fn overtakers(&self) -> usize {
        let still_waiting = self.asking.values().map(|asked| (*asked, u64::MAX));
        let mut waits: Vec<(u64, u64)> =
            self.ended.iter().map(|turn| (turn.asked, turn.held)).chain(still_waiting).collect();
        waits.sort_unstable();
        let overtook = |turn: &&Turn| {
            let earlier = waits.partition_point(|(asked, _)| asked + CERTAINLY_LATER < turn.asked);
            waits[..earlier].iter().any(|(_, held)| *held > turn.held)
        };
        self.ended.iter().filter(overtook).count()
    }

    /// How many turns the unluckiest and the luckiest of these workers had.
    pub(crate) fn least_and_most(&self, workers: u64) -> (usize, usize) {
        let of_worker = |worker| self.ended.iter().filter(|turn| turn.worker == worker).count();
        let counts: Vec<usize> = (0..workers).map(of_worker).collect();
        (*counts.iter().min().unwrap(), *counts.iter().max().unwrap())
    }

    fn note(&mut self, report: &Report) {
        match (&*report.word, &*report.numbers) {
            ("asks", [worker, asked]) => {
                self.asking.insert(*worker, *asked);
            }
            ("turn", [worker, held, released]) => {
                let asked = self.asking.remove(worker).unwrap();
                let (worker, held, released) = (*worker, *held, *released);
                self.ended.push(Turn { worker, asked, held, released });
            }
            other => panic!("no worker says {other:?}"),
        }
    }
}
