//! What `/metrics` answers: the figures of one [`Scrape`] as text, in one of two forms.
//!
//! Nothing is kept here between two scrapes. The figures of a pool come from the store, so every
//! daemon on one store answers the same; those of [`DaemonFigures`] are of this process.

mod alerts;
mod exposition;
mod families;
mod format;
#[cfg(test)]
pub(crate) mod promtool;
mod scrape;
mod settings;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use alerts::{AlertFigures, ChannelFigures};
pub(crate) use format::Format;
pub(crate) use scrape::{
    DaemonFigures, Exceptions, GpuFigures, GpuState, HeartbeatFigures, Histogram, LOCK_BOUNDS,
    LeaseFigures, Levels, PoolFigures, QueueFigures, ROUNDTRIP_BOUNDS, Recovered, Recoveries,
    Scrape, Sums,
};
pub(crate) use settings::numeric_settings;

/// The whole answer. What the scrape says nothing about is left out, name and all.
pub(crate) fn render(scrape: &Scrape, format: Format) -> String {
    let text = exposition::open_metrics(families::families(scrape));
    match format {
        Format::OpenMetrics => text,
        Format::Classic => exposition::classic(&text),
    }
}
