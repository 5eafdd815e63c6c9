//! Alerts: which events and figures are worth telling somebody, and how urgent they are.
//!
//! [`RULES`] is the catalogue. [`signals`] reads the events of a pool, [`conditions`] its present
//! state and its figures; both say what has begun, happened or ended. Who is told, when and how is
//! not decided here: that is the crate `gpulock-alerts`.

mod conditions;
mod hourly;
mod labels;
mod rules;
mod signals;
mod urgency;

pub use conditions::{Findings, conditions};
pub use hourly::Hourly;
pub use labels::{Fingerprint, Labels};
pub use rules::{Adjustment, RULES, Rule, Rules, Source, rule};
pub use signals::{Change, Signal, signals};
pub use urgency::{UnknownUrgency, Urgency};
