//! The table: a line for each figure, a column for each lock.

use std::time::Duration;

use crate::peer::Peer;

/// Nothing to be measured: the lock has no such thing.
pub(crate) const NOTHING: &str = "-";

pub(crate) fn head() {
    let titles = Peer::ALL.map(Peer::title).join(" | ");
    println!("| figure | {titles} |\n|---|{}", "---|".repeat(Peer::ALL.len()));
}

pub(crate) fn row(figure: &str, cell: impl FnMut(Peer) -> String) {
    println!("| {figure} | {} |", Peer::ALL.map(cell).join(" | "));
}

/// A line of which only gpulock has a figure.
pub(crate) fn row_of_gpulock(figure: &str, cell: &str) {
    row(figure, |peer| if peer == Peer::Gpulock { cell } else { NOTHING }.to_owned());
}

/// One result for each lock, one after the other.
pub(crate) fn each<T>(mut measure: impl FnMut(Peer) -> T) -> Vec<(Peer, T)> {
    Peer::ALL.into_iter().map(|peer| (peer, measure(peer))).collect()
}

/// One result for each lock, all at the same time: for what mostly waits.
pub(crate) fn each_at_once<T: Send>(measure: impl Fn(Peer) -> T + Sync) -> Vec<(Peer, T)> {
    std::thread::scope(|scope| {
        let measure = &measure;
        let started = Peer::ALL.map(|peer| (peer, scope.spawn(move || measure(peer))));
        started.into_iter().map(|(peer, thread)| (peer, thread.join().unwrap())).collect()
    })
}

/// The result of this lock.
pub(crate) fn of<T>(results: &[(Peer, T)], peer: Peer) -> &T {
    &results.iter().find(|(other, _)| *other == peer).unwrap().1
}

pub(crate) fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

/// `median / p99`.
pub(crate) fn median_and_p99(mut spans: Vec<Duration>) -> String {
    if spans.is_empty() {
        return "none".to_owned();
    }
    spans.sort_unstable();
    let (median, p99) = (spans[spans.len() / 2], spans[spans.len() * 99 / 100]);
    format!("{} / {}", shown(median), shown(p99))
}

pub(crate) fn shown(span: Duration) -> String {
    match span.as_micros() {
        micros if micros < 1_000 => format!("{micros} µs"),
        micros if micros < 1_000_000 => format!("{:.2} ms", span.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", span.as_secs_f64()),
    }
}
