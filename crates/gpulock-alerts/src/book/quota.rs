//! How many messages a channel may have.

use std::time::Duration;

use gpulock::core::Time;
use serde::{Deserialize, Serialize};

use super::micros;
use crate::plan::{ChannelPlan, Rate};

/// What a channel has had.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Quota {
    /// When the channel would be idle again if its messages came one by one at its rate: the
    /// theoretical arrival time of the generic cell rate algorithm (ITU-T I.371).
    idle_at: Time,
    /// The other side wants nothing before that.
    blocked_until: Time,
    /// The calendar month (UTC) in which was counted, as months since the year 0.
    month: i32,
    /// How many messages it had in that month.
    used: u32,
}

impl Quota {
    /// When the next message may be sent; `None` if this month's are used up.
    pub(super) fn next(&self, now: Time, plan: &ChannelPlan) -> Option<Time> {
        let is_used_up = plan.monthly_budget.is_some_and(|budget| self.used_in(now) >= budget);
        let apart = apart(plan.rate);
        // A bucket that is full lets this many come at once.
        let burst = apart * plan.rate.messages.saturating_sub(1);
        let free = Time::from_micros(self.idle_at.as_micros().saturating_sub(micros(burst)));
        (!is_used_up).then(|| free.max(self.blocked_until))
    }

    /// Counts a message that is being sent.
    pub(super) fn take(&mut self, now: Time, plan: &ChannelPlan) {
        self.idle_at = self.idle_at.max(now) + apart(plan.rate);
        self.used = self.used_in(now) + 1;
        self.month = month(now);
    }

    /// The other side wants nothing for so long.
    pub(super) fn block(&mut self, now: Time, pause: Duration) {
        self.blocked_until = self.blocked_until.max(now + pause);
    }

    fn used_in(&self, now: Time) -> u32 {
        if self.month == month(now) { self.used } else { 0 }
    }
}

fn apart(rate: Rate) -> Duration {
    rate.per / rate.messages.max(1)
}

fn month(now: Time) -> i32 {
    let micros = i64::try_from(now.as_micros()).unwrap_or_default();
    let Ok(moment) = jiff::Timestamp::from_microsecond(micros) else { return 0 };
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC);
    i32::from(date.year()) * 12 + i32::from(date.month())
}
