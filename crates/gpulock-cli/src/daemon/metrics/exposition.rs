//! Metric families as text: OpenMetrics by the official encoder, and the classic form made from
//! that.

use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::scrape::Histogram;

/// All samples of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the unit, and without `_total`.
    pub(super) name: String,
    /// What it means, in a sentence.
    pub(super) help: &'static str,
    /// What it is measured in; `None` for numbers without a unit.
    pub(super) unit: Option<Unit>,
    /// At least one; what they are is what the family is.
    pub(super) samples: Vec<Sample>,
}

/// One value and what it belongs to.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Labels,
    pub(super) value: Value,
}

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A number, by how it may change.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(f64),
    /// Many, by their size.
    Histogram(Histogram),
}

/// The form that ends with `# EOF`. Families without samples are left out.
pub(super) fn open_metrics(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = text::encode(&mut text, &registry);
    text
}

/// The form of version 0.0.4: it knows neither units nor an end, and calls a counter by the name
/// of its samples.
pub(super) fn classic(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = types.filter_map(|it| it.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            counters.contains(name).then(|| format!("{mark}{name}_total {rest}"))
        });
        text.push_str(described.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in &self.0 {
            let Some(first) = family.samples.first() else {
                continue;
            };
            let kind = first.value.kind();
            let (name, unit) = (&family.name, family.unit.as_ref());
            let mut metric = encoder.encode_descriptor(name, family.help, unit, kind)?;
            for sample in &family.samples {
                // A family with an empty set of labels would be written with empty braces.
                match sample.labels.is_empty() {
                    true => sample.value.encode(&mut metric)?,
                    false => sample.value.encode(&mut metric.encode_family(&sample.labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl Value {
    const fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder) -> fmt::Result {
        match self {
            Self::Counter(count) => encoder.encode_counter::<NoLabelSet, u64, f64>(count, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Histogram(histogram) => {
                let buckets = histogram.buckets();
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(histogram.sum_seconds, count, &buckets, None)
            }
        }
    }
}
