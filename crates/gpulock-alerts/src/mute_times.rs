//! Windows of time in which nobody is told: nights, weekends, the days of maintenance.

use std::collections::{BTreeMap, BTreeSet};

use gpulock::config::Objection;
use gpulock::core::Time;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use serde::Deserialize;

/// The windows of time by their names.
#[derive(Clone, Debug, Default)]
pub struct MuteTimes(BTreeMap<String, Vec<Window>>);

impl MuteTimes {
    pub(crate) fn new(windows: BTreeMap<String, Vec<Window>>) -> Self {
        Self(windows)
    }

    /// Those that are open now.
    pub fn active(&self, now: Time) -> BTreeSet<String> {
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let Ok(now) = Timestamp::from_microsecond(micros) else {
            return BTreeSet::new();
        };
        let is_open = |windows: &[Window]| windows.iter().any(|window| window.holds(now));
        self.0
            .iter()
            .filter(|(_, windows)| is_open(windows))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// A window of time: all that is said must hold, and what is not said always does. A range of
/// times over midnight belongs to the day on which it begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Window {
    times: Vec<Range>,
    weekdays: Vec<Days>,
    days_of_month: Vec<DayOfMonth>,
    months: Vec<Month>,
    timezone: Zone,
}

impl Window {
    fn holds(&self, now: Timestamp) -> bool {
        let local = now.to_zoned(self.timezone.0.clone()).datetime();
        if self.times.is_empty() {
            return self.has_day(local.date());
        }
        self.times.iter().any(|range| self.holds_in(range, local))
    }

    fn holds_in(&self, range: &Range, local: DateTime) -> bool {
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let has_begun = minute >= range.from && self.has_day(local.date());
        if range.from < range.to {
            return has_begun && minute < range.to;
        }
        let yesterday = || local.date().yesterday().is_ok_and(|day| self.has_day(day));
        has_begun || (minute < range.to && yesterday())
    }

    fn has_day(&self, day: Date) -> bool {
        let has_weekday = self.weekdays.iter().any(|days| days.0.contains(&day.weekday()));
        let has_month = self.months.iter().any(|month| month.0 == day.month());
        let from_end = day.day() - day.days_in_month() - 1;
        let is_day = |wanted: &DayOfMonth| wanted.0 == day.day() || wanted.0 == from_end;
        (self.weekdays.is_empty() || has_weekday)
            && (self.months.is_empty() || has_month)
            && (self.days_of_month.is_empty() || self.days_of_month.iter().any(is_day))
    }
}

/// Minutes of the day; before `to`, which may be the next day's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Range {
    from: u16,
    to: u16,
}

impl TryFrom<String> for Range {
    type Error = Objection;

    fn try_from(text: String) -> Result<Self, Objection> {
        let ends = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match ends {
            Some((from, to)) if from != to && from < DAY => Ok(Self { from, to }),
            _ => Err(Objection::new(
                "is no range of times",
                "write two times of the day such as 22:00-07:00, or 00:00-24:00 for all of it",
            )),
        }
    }
}

const DAY: u16 = 24 * 60;

/// The minute of the day of `HH:MM`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| match text.as_bytes() {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
        }
        _ => None,
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day <= DAY).then_some(of_day)
}

/// One day of the week, or several in a row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Days(Vec<Weekday>);

impl TryFrom<String> for Days {
    type Error = Objection;

    fn try_from(text: String) -> Result<Self, Objection> {
        let text = text.to_ascii_lowercase();
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let ends = weekday(first).and_then(|first| Some((first, weekday(last)?)));
        let (first, last) = ends.ok_or_else(|| {
            let hint = "write mon, tue, wed, thu, fri, sat or sun, or a range such as mon-fri";
            Objection::new("is no day of the week", hint)
        })?;
        let week = std::iter::successors(Some(first), |day| Some(day.next()));
        Ok(Self(week.take(usize::from(first.until(last).unsigned_abs()) + 1).collect()))
    }
}

fn weekday(text: &str) -> Option<Weekday> {
    let days = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let text = text.trim();
    days.into_iter().find(|(name, _)| *name == text || name[..3] == *text).map(|(_, day)| day)
}

/// The first is 1, the last is -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i8")]
struct DayOfMonth(i8);

impl TryFrom<i8> for DayOfMonth {
    type Error = Objection;

    fn try_from(day: i8) -> Result<Self, Objection> {
        match day {
            1..=31 | -31..=-1 => Ok(Self(day)),
            _ => Err(Objection::new(
                "is no day of a month",
                "write 1 to 31, or -1 for the last, -2 for the one before it",
            )),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i8")]
struct Month(i8);

impl TryFrom<i8> for Month {
    type Error = Objection;

    fn try_from(month: i8) -> Result<Self, Objection> {
        match month {
            1..=12 => Ok(Self(month)),
            _ => Err(Objection::new("is no month", "write 1 for January to 12 for December")),
        }
    }
}

/// Whose clock is meant; by itself that of this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::system())
    }
}

impl TryFrom<String> for Zone {
    type Error = Objection;

    fn try_from(text: String) -> Result<Self, Objection> {
        TimeZone::get(text.trim()).map(Self).map_err(|_| {
            let hint = "write a name such as Europe/Berlin, Asia/Shanghai or UTC; this machine \
                        knows those of its package tzdata";
            Objection::new("is no time zone that this machine knows", hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(json: serde_json::Value) -> Result<MuteTimes, serde_json::Error> {
        let windows: Vec<Window> = serde_json::from_value(json)?;
        Ok(MuteTimes::new([("it".to_owned(), windows)].into_iter().collect()))
    }

    fn is_open(times: &MuteTimes, moment: &str) -> bool {
        let moment: Timestamp = moment.parse().unwrap();
        let micros = u64::try_from(moment.as_microsecond()).unwrap();
        times.active(Time::from_micros(micros)).contains("it")
    }

    #[track_caller]
    fn check(window: serde_json::Value, moments: &[(&str, bool)]) {
        let times = windows(serde_json::json!([window])).unwrap();
        for (moment, open) in moments {
            assert_eq!(is_open(&times, moment), *open, "{moment}");
        }
    }

    #[test]
    fn a_night_goes_over_midnight_and_belongs_to_the_day_on_which_it_begins() {
        check(
            serde_json::json!({"times": ["22:00-07:00"], "weekdays": ["mon"], "timezone": "UTC"}),
            &[
                ("2026-11-22T23:00:00Z", false), // Sunday
                ("2026-11-23T06:59:59Z", false), // Monday, but Sunday's night
                ("2026-11-23T21:59:59Z", false),
                ("2026-11-23T22:00:00Z", true),
                ("2026-11-24T00:00:00Z", true),
                ("2026-11-24T06:59:59Z", true),
                ("2026-11-24T07:00:00Z", false),
                ("2026-11-24T22:00:00Z", false),
            ],
        );
    }

    #[test]
    fn days_are_chosen_by_weekday_day_and_month() {
        check(
            serde_json::json!({"weekdays": ["sat-sun", "Wednesday"], "timezone": "UTC"}),
            &[
                ("2026-11-20T23:59:59Z", false),
                ("2026-11-21T00:00:00Z", true),
                ("2026-11-22T23:59:59Z", true),
                ("2026-11-23T00:00:00Z", false),
                ("2026-11-25T12:00:00Z", true),
            ],
        );
        check(
            serde_json::json!({"weekdays": ["fri-mon"], "timezone": "UTC"}),
            &[("2026-11-23T12:00:00Z", true), ("2026-11-24T12:00:00Z", false)],
        );
        check(
            serde_json::json!({"days_of_month": [1, -1], "months": [2, 3], "timezone": "UTC"}),
            &[
                ("2028-02-28T12:00:00Z", false),
                ("2028-02-29T12:00:00Z", true),
                ("2028-03-01T12:00:00Z", true),
                ("2028-03-31T12:00:00Z", true),
                ("2028-04-01T12:00:00Z", false),
            ],
        );
        check(serde_json::json!({}), &[("2026-11-21T00:00:00Z", true)]);
    }

    #[test]
    fn times_are_those_of_the_clock_on_the_wall_also_when_it_is_changed() {
        let night = serde_json::json!({"times": ["02:00-03:00"], "timezone": "Europe/Berlin"});
        check(
            night,
            &[
                // Winter time: 02:00 is 01:00Z.
                ("2026-11-21T00:59:59Z", false),
                ("2026-11-21T01:00:00Z", true),
                ("2026-11-21T02:00:00Z", false),
                // 2026-03-29: 02:00 to 03:00 does not exist.
                ("2026-03-29T00:59:59Z", false),
                ("2026-03-29T01:00:00Z", false),
                // 2026-10-25: it comes twice.
                ("2026-10-24T23:59:59Z", false),
                ("2026-10-25T00:00:00Z", true),
                ("2026-10-25T01:59:59Z", true),
                ("2026-10-25T02:00:00Z", false),
            ],
        );
        let night = serde_json::json!({"times": ["22:00-07:00"], "timezone": "Europe/Berlin"});
        check(
            night,
            &[
                ("2026-03-28T20:59:59Z", false),
                ("2026-03-28T21:00:00Z", true),
                ("2026-03-29T04:59:59Z", true),
                ("2026-03-29T05:00:00Z", false),
                ("2026-03-29T19:59:59Z", false),
                ("2026-03-29T20:00:00Z", true),
            ],
        );
    }

    #[test]
    fn a_whole_day_and_several_ranges_can_be_written() {
        check(
            serde_json::json!({"times": ["00:00-24:00"], "weekdays": ["sun"], "timezone": "UTC"}),
            &[
                ("2026-11-22T00:00:00Z", true),
                ("2026-11-22T23:59:59Z", true),
                ("2026-11-23T00:00:00Z", false),
            ],
        );
        check(
            serde_json::json!({"times": ["08:00-09:00", " 12:00 - 13:30 "], "timezone": "UTC"}),
            &[
                ("2026-11-22T08:59:59Z", true),
                ("2026-11-22T09:00:00Z", false),
                ("2026-11-22T13:29:59Z", true),
                ("2026-11-22T13:30:00Z", false),
            ],
        );
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for (window, what) in [
            (serde_json::json!({"times": ["22-07"]}), "range of times"),
            (serde_json::json!({"times": ["8:00-09:00"]}), "range of times"),
            (serde_json::json!({"times": ["08:00-08:00"]}), "range of times"),
            (serde_json::json!({"times": ["08:60-09:00"]}), "range of times"),
            (serde_json::json!({"times": ["08:00-24:01"]}), "range of times"),
            (serde_json::json!({"times": ["24:00-08:00"]}), "range of times"),
            (serde_json::json!({"times": ["é8:00-09:00"]}), "range of times"),
            (serde_json::json!({"weekdays": ["mo"]}), "day of the week"),
            (serde_json::json!({"weekdays": ["mon-"]}), "day of the week"),
            (serde_json::json!({"days_of_month": [0]}), "day of a month"),
            (serde_json::json!({"days_of_month": [32]}), "day of a month"),
            (serde_json::json!({"months": [13]}), "month"),
            (serde_json::json!({"timezone": "Berlin/Europe"}), "time zone"),
            (serde_json::json!({"timezone": "../../etc/passwd"}), "time zone"),
        ] {
            let error = windows(serde_json::json!([window])).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("hint: write"), "{error}");
        }
    }
}
