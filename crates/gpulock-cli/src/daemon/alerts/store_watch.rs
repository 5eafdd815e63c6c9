//! Whether the store answers. While it does not, nobody can be elected to tell: the daemon that
//! acted last does, and one that has never reached the store.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpulock::core::Time;
use gpulock::core::alert::{Change, Labels, Rule, Signal, Urgency};
use gpulock::store::StoreError;
use gpulock_alerts::Alerting;

/// What is known of the store.
#[derive(Debug, Default)]
pub(super) struct StoreWatch {
    /// Whether this daemon acted when the store answered last, or since.
    led: bool,
    was_reached: bool,
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    is_told: bool,
    error: String,
}

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// For the daemon's own book.
    pub(super) signals: Vec<Signal>,
    /// For the book in the store, now that it is back.
    pub(super) past: Option<Past>,
}

/// Something that was told, and is over.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) signal: Signal,
    pub(super) began: Instant,
}

impl StoreWatch {
    /// The store has answered, or has not.
    pub(super) fn note(
        &mut self,
        trouble: Option<&StoreError>,
        leads: bool,
        alerting: &Alerting,
    ) -> Told {
        let Some(error) = trouble else {
            (self.led, self.was_reached) = (leads, true);
            return self
                .away
                .take()
                .filter(|away| away.is_told)
                .map_or_else(Told::default, came_back);
        };
        // It may have begun to act just before.
        self.led |= leads;
        let away = self.away.get_or_insert_with(|| Away {
            since: Instant::now(),
            is_told: false,
            error: String::new(),
        });
        away.error = error.to_string();
        let threshold = alerting.rules.threshold(Rule::STORE_UNREACHABLE).clamp(0.0, 1e9);
        let tells =
            (self.led || !self.was_reached) && alerting.rules.is_on(Rule::STORE_UNREACHABLE);
        if !tells || away.is_told || away.since.elapsed() < Duration::from_secs_f64(threshold) {
            return Told::default();
        }
        away.is_told = true;
        let urgency = alerting.rules.urgency(Rule::STORE_UNREACHABLE, Urgency::P0);
        let signals = vec![signal(&away.error, urgency, Change::Present)];
        Told { signals, past: None }
    }
}

fn came_back(away: Away) -> Told {
    let signal = |change| signal(&away.error, Urgency::P0, change);
    let past = Past { signal: signal(Change::Present), began: away.since };
    Told { signals: vec![signal(Change::Over)], past: Some(past) }
}

fn signal(error: &str, urgency: Urgency, change: Change) -> Signal {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let signal = Signal {
        labels: Labels::default()
            .with(Labels::RULE, Rule::STORE_UNREACHABLE)
            .with("host", gpulock::process::host()),
        urgency,
        facts: BTreeMap::new(),
        at: Time::from_micros(u64::try_from(now.as_micros()).unwrap_or_default()),
        change,
    };
    signal.fact("error", error)
}
