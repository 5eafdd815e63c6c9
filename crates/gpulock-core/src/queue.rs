//! The queue: who waits, and who goes first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Channel, LeaseId};
use crate::lease::Term;
use crate::names::TaskName;
use crate::owner::Owner;
use crate::request::Wants;
use crate::time::Time;

/// How many waiters of each lane the rules look at.
///
/// A small request may pass at most this many less one earlier requests of its lane that
/// cannot be met yet; a step costs the same with ten thousand waiters as with ten.
pub const LOOK_AHEAD: usize = 16;

/// Who goes first. Inside a priority, the order is that of arrival.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everybody else.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before normal.
    High,
    /// Before everybody else.
    Urgent,
}

impl Priority {
    /// Its place when priorities are sorted: 0 goes first.
    pub fn rank(self) -> u8 {
        match self {
            Self::Urgent => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Waiter {
    /// The id that its lease will have.
    pub lease_id: LeaseId,
    /// What the work is called.
    pub task: TaskName,
    /// Who waits.
    pub owner: Owner,
    /// For which GPUs.
    pub wants: Wants,
    /// Who goes first.
    pub priority: Priority,
    /// How long the lease will live without a heartbeat.
    pub term: Term,
    /// See [`Request::supervised`](crate::Request::supervised).
    pub supervised: bool,
    /// How long it may go unseen before it drops out.
    pub patience: Duration,
    /// See [`Request::comes_back`](crate::Request::comes_back).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub comes_back: bool,
    /// Where it listens.
    pub channel: Option<Channel>,
    /// When it joined.
    pub arrived_at: Time,
    /// When it last asked. Kept apart from the body by stores, which stamp it while reading.
    #[serde(skip)]
    pub seen_at: Time,
    /// Its number in the order of arrival. The store gives it out when the waiter joins,
    /// so that those who join at the same time do not disturb each other.
    #[serde(skip)]
    pub arrival: u64,
}

impl Waiter {
    /// Sorts a queue: priority first, then arrival.
    pub fn order(&self) -> (u8, u64) {
        (self.priority.rank(), self.arrival)
    }

    /// Whether it has gone unseen for so long that it no longer counts.
    pub fn is_gone(&self, now: Time) -> bool {
        now > self.seen_at + self.patience
    }

    /// How long it has waited.
    pub fn waited(&self, now: Time) -> Duration {
        now.since(self.arrived_at)
    }
}
