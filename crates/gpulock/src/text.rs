//! Spans of time for people.

use std::time::Duration;

/// `0.4s`, `12s`, `3m 20s`, `1h 5m`, `2d 3h`: the two largest units.
pub fn brief(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{:.1}s", span.as_secs_f64()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        let shown = [
            (0.04, "0.0s"),
            (3.26, "3.3s"),
            (45.9, "45s"),
            (200.0, "3m 20s"),
            (3_900.0, "1h 5m"),
            (180_000.0, "2d 2h"),
        ];
        for (seconds, text) in shown {
            assert_eq!(brief(Duration::from_secs_f64(seconds)), text);
        }
    }
}
