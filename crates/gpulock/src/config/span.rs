//! Lengths of time as people write them: seconds, or `90s`, `30m`, `1h30m`.

use std::time::Duration;

use jiff::fmt::friendly::{Spacing, SpanParser, SpanPrinter};

use super::raw::Wrong;

/// Longer ones are a slip, and would overflow clocks later on.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Shorter pauses are a busy loop.
const SHORTEST_POSITIVE: Duration = Duration::from_millis(1);

const HINT: &str = "write seconds (90 or 1.5) or a length such as 90s, 30m, 1h30m";

/// Reads a length of time that is at least a millisecond, as the configuration does.
///
/// # Errors
///
/// How to write one.
pub fn span(text: &str) -> Result<Duration, String> {
    read_positive(text).map_err(|wrong| wrong.hint)
}

/// Reads a length of time; zero is one.
pub(super) fn read(text: &str) -> Result<Duration, Wrong> {
    let span = match text.parse::<f64>() {
        Ok(seconds) if seconds < 0.0 => return Err(Wrong::value(text, "negative", HINT)),
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => SpanParser::new().parse_unsigned_duration(text).ok(),
    };
    let span = span.ok_or_else(|| Wrong::value(text, "not a length of time", HINT))?;
    if span > LONGEST {
        return Err(Wrong::value(text, "longer than ten years", HINT));
    }
    Ok(span)
}

/// Reads a length of time that must be at least a millisecond.
pub(super) fn read_positive(text: &str) -> Result<Duration, Wrong> {
    let span = read(text)?;
    if span < SHORTEST_POSITIVE {
        return Err(Wrong::value(text, "too short", "write at least 0.001 seconds"));
    }
    Ok(span)
}

/// `1h30m`; what it shows can be read back.
pub(super) fn show(span: &Duration) -> String {
    SpanPrinter::new().spacing(Spacing::None).unsigned_duration_to_string(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_friendly_lengths_are_read_and_shown() {
        for (text, millis, shown) in [
            ("2", 2_000, "2s"),
            ("1800", 1_800_000, "30m"),
            ("0.5", 500, "500ms"),
            ("1e3", 1_000_000, "16m40s"),
            ("90s", 90_000, "1m30s"),
            ("30m", 1_800_000, "30m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1h 30m", 5_400_000, "1h30m"),
            ("250ms", 250, "250ms"),
            ("0", 0, "0s"),
        ] {
            let span = read(text).unwrap();
            assert_eq!(span, Duration::from_millis(millis), "{text}");
            assert_eq!(show(&span), shown);
            assert_eq!(read(shown).unwrap(), span);
        }
    }

    #[test]
    fn senseless_lengths_are_refused() {
        for text in
            ["-1", "-5s", "5s ago", "nan", ".nan", "inf", "1e300", "11y", "1mo", "fast", "1x"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        for text in ["0", "0s", "-0.0", "0.0001", "1us"] {
            assert!(read_positive(text).is_err(), "{text}");
        }
        assert!(read_positive("0.001").is_ok());
    }
}
