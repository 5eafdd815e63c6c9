//! Which metrics there are, with their labels and meanings.
//!
//! Labels are bounded: pools and GPUs are few, and of the tasks the first hundred by name keep
//! theirs. What can be counted is there with 0 from the start, since a counter that appears with 1
//! has not grown in the eyes of Prometheus.

mod alerts;
mod gpus;
mod moment;
mod process;
mod sums;

use prometheus_client::registry::Unit;

use super::exposition::{Family, Labels, Sample, Value};
use super::scrape::{PoolFigures, Scrape};

/// All families of one scrape; some may be empty.
pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let pools = &scrape.pools;
    let mut families = sums::families(pools);
    families.extend(moment::families(pools));
    families.extend(gpus::families(pools));
    families.extend(scrape.alerts.iter().flat_map(alerts::families));
    families.extend(process::families(&scrape.daemon));
    families
}

fn family(name: &str, help: &'static str, unit: Option<Unit>, samples: Vec<Sample>) -> Family {
    Family { name: name.to_owned(), help, unit, samples }
}

/// One sample for each pool that has a value.
fn each_pool(
    name: &str,
    help: &'static str,
    pools: &[PoolFigures],
    value: impl Fn(&PoolFigures) -> Option<Value>,
) -> Family {
    let samples = pools.iter().filter_map(|pool| {
        let labels = of_pool(pool);
        Some(Sample { labels, value: value(pool)? })
    });
    family(name, help, None, samples.collect())
}

/// Counters of each pool that differ in one label.
fn counted(
    name: &str,
    help: &'static str,
    label: &'static str,
    pools: &[PoolFigures],
    counts: impl Fn(&PoolFigures) -> Vec<(&'static str, u64)>,
) -> Family {
    let samples = pools.iter().flat_map(|pool| {
        counts(pool).into_iter().map(|(value, count)| {
            let mut labels = of_pool(pool);
            labels.push((label, value.to_owned()));
            Sample { labels, value: Value::Counter(count) }
        })
    });
    family(name, help, None, samples.collect())
}

fn of_pool(pool: &PoolFigures) -> Labels {
    vec![("pool", pool.name.clone())]
}

/// Counts far below 2^53, and yes or no as 1 or 0.
fn gauge(value: impl Into<Exact>) -> Value {
    Value::Gauge(value.into().0)
}

struct Exact(f64);

impl From<bool> for Exact {
    fn from(value: bool) -> Self {
        Self(f64::from(u8::from(value)))
    }
}

impl From<u64> for Exact {
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}
